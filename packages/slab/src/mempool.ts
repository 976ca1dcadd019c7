/**
 * A reserve of elements for when the allocator behind it has none: what must make progress to free memory allocates from one.
 *
 *     0 ≤ currNr ≤ minNr, and the first currNr words of the array are the reserved elements
 *
 * @linux mm/mempool.c
 */
import { Errno } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import {
  GFP_KERNEL,
  __GFP_DIRECT_RECLAIM,
  __GFP_IO,
  __GFP_NOMEMALLOC,
  __GFP_NORETRY,
  __GFP_NOWARN,
} from '@pagelab/mm-core';
import type { PageAlloc } from '@pagelab/mm-core';
import { bugOn } from '@pagelab/lib';
import type { DirectMap } from './direct-map.ts';
import type { KmemCache } from './kmem-cache.ts';
import type { Slab } from './slab.ts';

/** Bytes of a `mempool_t`, and to its `elements`, by the bytes of a pointer. */
const MEMPOOL_BYTES = { 4: 52, 8: 88 } as const;
const ELEMENTS_OFFSET = { 4: 12, 8: 16 } as const;

/** Where a pool's elements come from. @linux include/linux/mempool.h:mempool_alloc_t */
export interface MempoolSource {
  /** @returns the address of an element, or 0 */
  alloc(gfp: number): VirtAddr;
  free(element: VirtAddr): void;
}

/** Elements of a cache. @linux mm/mempool.c:mempool_alloc_slab */
export function mempoolSlab(cache: KmemCache): MempoolSource {
  return { alloc: (gfp) => cache.alloc(gfp), free: (element) => cache.free(element) };
}

/** Elements of `kmalloc`. @linux mm/mempool.c:mempool_kmalloc */
export function mempoolKmalloc(slab: Slab, bytes: number): MempoolSource {
  return { alloc: (gfp) => slab.kmalloc(bytes, gfp), free: (element) => slab.kfree(element) };
}

/** Elements of 2^`order` pages, by their address in the direct map. @linux mm/mempool.c:mempool_alloc_pages */
export function mempoolPages(pages: PageAlloc, order: number): MempoolSource {
  return { alloc: (gfp) => pages.getFreePages(gfp, order), free: (element) => pages.freePagesAt(element, order) };
}

/** What a pool stands on. */
export interface MempoolHost {
  readonly slab: Slab;
  /**
   * Called where a caller that may sleep finds the reserve empty: lets others run that may give an element back. Returns whether
   * it is worth another look.
   */
  readonly wait?: () => boolean;
}

/** A pool. @linux include/linux/mempool.h:mempool_t */
export class Mempool {
  /** The `mempool_t`. */
  readonly object: VirtAddr;
  /** Elements that are reserved while all is well, and those there are. */
  minNr: number;
  currNr = 0;
  /** Allocations that the reserve served, and those that had to wait. */
  readonly stats = { fromReserve: 0, waits: 0 };

  readonly #host: MempoolHost;
  readonly #source: MempoolSource;
  readonly #memory: DirectMap;
  /** Where the pointers to the reserved elements lie. */
  #elements: VirtAddr;
  #destroyed = false;

  private constructor(host: MempoolHost, minNr: number, source: MempoolSource, object: VirtAddr, elements: VirtAddr) {
    this.#host = host;
    this.minNr = minNr;
    this.#source = source;
    this.object = object;
    this.#elements = elements;
    this.#memory = host.slab.memory;
    this.#memory.setPointer(object + ELEMENTS_OFFSET[this.#memory.wordBytes], elements);
  }

  /**
   * Makes a pool and fills its reserve.
   *
   * @param minNr elements, 1 or more
   * @returns the pool, or −ENOMEM with nothing left behind
   * @linux mm/mempool.c:mempool_create
   */
  static create(host: MempoolHost, minNr: number, source: MempoolSource, gfp = GFP_KERNEL): Mempool | number {
    if (!(Number.isInteger(minNr) && minNr >= 1)) throw new RangeError(`mempool: reserves 1 element or more, not ${minNr}`);
    const { slab } = host;
    const object = slab.kzalloc(MEMPOOL_BYTES[slab.memory.wordBytes], gfp);
    if (object === 0) return -Errno.ENOMEM;
    const elements = slab.kmallocArray(minNr, slab.memory.wordBytes, gfp);
    if (elements === 0) {
      slab.kfree(object);
      return -Errno.ENOMEM;
    }
    const pool = new Mempool(host, minNr, source, object, elements);
    while (pool.currNr < minNr) {
      const element = source.alloc(gfp);
      if (element === 0) {
        pool.destroy();
        return -Errno.ENOMEM;
      }
      pool.#add(element);
    }
    return pool;
  }

  /**
   * Takes an element: of the source, without much effort; else of the reserve; else of the source with all that `gfp` allows.
   *
   * @returns its address; 0 where there is none and the caller may not sleep, or waiting is in vain
   * @linux mm/mempool.c:mempool_alloc
   */
  alloc(gfp: number): VirtAddr {
    const full = gfp | __GFP_NOMEMALLOC | __GFP_NORETRY | __GFP_NOWARN;
    let tried = full & ~(__GFP_DIRECT_RECLAIM | __GFP_IO);
    for (;;) {
      const element = this.#source.alloc(tried);
      if (element !== 0) return element;
      if (this.currNr > 0) {
        this.stats.fromReserve += 1;
        return this.#remove();
      }
      if (tried !== full) {
        tried = full;
        continue;
      }
      if ((gfp & __GFP_DIRECT_RECLAIM) === 0) return 0;
      this.stats.waits += 1;
      if (this.#host.wait?.() !== true) return 0;
    }
  }

  /** Gives an element back: to the reserve while that is not full. 0 is nothing. @linux mm/mempool.c:mempool_free */
  free(element: VirtAddr): void {
    if (element === 0) return;
    if (this.currNr < this.minNr) this.#add(element);
    else this.#source.free(element);
  }

  /**
   * Changes how many elements are reserved. Where there are too few to be had, the reserve fills as elements come back.
   *
   * @returns 0, or −ENOMEM with nothing changed
   * @linux mm/mempool.c:mempool_resize
   */
  resize(minNr: number): number {
    if (!(Number.isInteger(minNr) && minNr >= 1)) throw new RangeError(`mempool: reserves 1 element or more, not ${minNr}`);
    if (minNr <= this.minNr) {
      while (this.currNr > minNr) this.#source.free(this.#remove());
      this.minNr = minNr;
      return 0;
    }
    const { slab } = this.#host;
    const elements = slab.kmallocArray(minNr, this.#memory.wordBytes, GFP_KERNEL);
    if (elements === 0) return -Errno.ENOMEM;
    this.#memory.copy(elements, this.#elements, this.currNr * this.#memory.wordBytes);
    slab.kfree(this.#elements);
    this.#elements = elements;
    this.#memory.setPointer(this.object + ELEMENTS_OFFSET[this.#memory.wordBytes], elements);
    this.minNr = minNr;
    while (this.currNr < minNr) {
      const element = this.#source.alloc(GFP_KERNEL);
      if (element === 0) break;
      this.#add(element);
    }
    return 0;
  }

  /** Frees the reserve and the pool. Elements that are out are their holders'. @linux mm/mempool.c:mempool_destroy */
  destroy(): void {
    bugOn(this.#destroyed, 'mempool: destroyed twice');
    this.#destroyed = true;
    while (this.currNr > 0) this.#source.free(this.#remove());
    this.#host.slab.kfree(this.#elements);
    this.#host.slab.kfree(this.object);
  }

  /** The reserved elements. */
  reserved(): VirtAddr[] {
    return Array.from({ length: this.currNr }, (_, i) => this.#memory.pointer(this.#elements + i * this.#memory.wordBytes));
  }

  /** @throws KernelBug where the reserve is not what it should be */
  validate(): void {
    bugOn(this.currNr < 0 || this.currNr > this.minNr, `mempool: ${this.currNr} of ${this.minNr} elements`);
    const elements = this.reserved();
    bugOn(new Set(elements).size !== elements.length || elements.includes(0), 'mempool: an element is reserved twice, or none');
  }

  #add(element: VirtAddr): void {
    this.#memory.setPointer(this.#elements + this.currNr * this.#memory.wordBytes, element);
    this.currNr += 1;
  }

  #remove(): VirtAddr {
    this.currNr -= 1;
    const at = this.#elements + this.currNr * this.#memory.wordBytes;
    const element = this.#memory.pointer(at);
    // What is left behind would look like a reference to it.
    this.#memory.setPointer(at, 0);
    return element;
  }
}
