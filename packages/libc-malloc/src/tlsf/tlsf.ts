import type { UserMemory, VirtAddr } from '@pagelab/abi';
import { mallinfoOf } from '../malloc.ts';
import type { Mallinfo2, Malloc, MallocOs } from '../malloc.ts';
import { mallocAbort } from '../malloc-abort.ts';
import { ABSURD_REQUEST, alignDown, alignUp, tryMmap, trySbrk } from '../system-memory.ts';
import {
  BRK_POOL,
  FL_BITMAP,
  FLAGS,
  FOOTER,
  FREE,
  FREE_BYTES,
  HEADS,
  MAX_BLOCK,
  MIN_BLOCK,
  NEXT,
  OBTAINED,
  POOL_BYTES,
  POOL_NEXT,
  POOLS,
  PREV,
  PREV_FREE,
  SIZEOF_CONTROL,
  SIZEOF_POOL,
  SL_BITMAPS,
  TAG,
  listOf,
  roundUpToList,
} from './layout.ts';
import { validateTlsf } from './validate.ts';

/** What TLSF may be told. */
export interface TlsfOptions {
  /** Bytes asked of the system at a time, or more where a block needs it. Default 128 KiB. */
  readonly step?: number;
  /** The data of the allocator that this address space has already ({@link Tlsf.dataSegment}), as in a forked child. */
  readonly attach?: VirtAddr;
}

/**
 * TLSF: good fit in constant time, neighbours joined at once, 4 bytes of overhead a block. The heap grows by `sbrk`, and
 * where that fails by pools that are mapped; blocks are up to 1 GiB. All threads share it.
 *
 * What it notices of a smashed heap: a pointer that is not aligned, a block freed twice, a tag of an impossible size or
 * at odds with the next block's, a free block's links or size overwritten. `layout.ts` draws the blocks.
 */
export class Tlsf implements Malloc {
  readonly #os: MallocOs;
  readonly #mem: UserMemory;
  readonly #control: VirtAddr;
  readonly #step: number;

  /** Errors: ENOMEM where there is no memory for the first step. */
  constructor(os: MallocOs, { step = 128 * 1024, attach }: TlsfOptions = {}) {
    this.#os = os;
    this.#mem = os.mem;
    this.#step = alignUp(Math.max(step, 2 * os.getpagesize()), os.getpagesize());
    if (attach !== undefined) {
      this.#control = attach;
      return;
    }
    const brk = os.sbrk(0);
    const control = alignUp(brk, 16);
    const end = alignUp(control + SIZEOF_CONTROL + this.#step, os.getpagesize());
    os.sbrk(end - brk);
    this.#control = control;
    this.#mem.storeAddress(control + BRK_POOL, control + SIZEOF_CONTROL);
    this.#mem.storeAddress(control + OBTAINED, end - control);
    this.#addPool(control + SIZEOF_CONTROL, end);
  }

  /** Where the allocator's own data lie; a forked child takes the heap up with it as option `attach`. */
  get dataSegment(): VirtAddr {
    return this.#control;
  }

  malloc(size: number): VirtAddr {
    const need = blockSize(size);
    if (need < 0) return 0;
    const p = this.#take(need);
    if (p !== 0) this.#shorten(p, need);
    return p;
  }

  calloc(n: number, size: number): VirtAddr {
    const p = this.malloc(n * size);
    if (p !== 0) this.#mem.fill(p, n * size, 0);
    return p;
  }

  free(ptr: VirtAddr): void {
    if (ptr === 0) return;
    this.#release(ptr, this.#usedSize(ptr, 'free'));
  }

  realloc(ptr: VirtAddr, size: number): VirtAddr {
    if (ptr === 0) return this.malloc(size);
    if (size === 0) {
      this.free(ptr);
      return 0;
    }
    const oldSize = this.#usedSize(ptr, 'realloc');
    const need = blockSize(size);
    if (need < 0) return 0;
    const mem = this.#mem;
    if (need > oldSize) {
      const next = ptr + oldSize;
      const nextTag = mem.load32(next + TAG);
      const joined = oldSize + nextTag - (nextTag & FLAGS);
      if ((nextTag & FREE) === 0 || joined < need) {
        const moved = this.malloc(size);
        if (moved === 0) return 0;
        mem.copy(moved, ptr, oldSize + TAG);
        this.#release(ptr, oldSize);
        return moved;
      }
      this.#unlink(next, nextTag - (nextTag & FLAGS));
      mem.store32(ptr + TAG, joined + (mem.load32(ptr + TAG) & FLAGS));
      this.#setPrevFree(ptr + joined, false);
    }
    this.#shorten(ptr, need);
    return ptr;
  }

  memalign(alignment: number, size: number): VirtAddr {
    if (alignment <= 16) return this.malloc(size);
    if (!(alignment <= MAX_BLOCK)) return 0;
    let power = 32;
    while (power < alignment) power *= 2;
    const need = blockSize(size);
    if (need < 0) return 0;
    const p = this.#take(need + power + MIN_BLOCK);
    if (p === 0) return 0;
    let aligned = p;
    if (p % power !== 0) {
      // What comes before becomes a free block of its own.
      aligned = Math.ceil((p + MIN_BLOCK) / power) * power;
      const mem = this.#mem;
      const tag = mem.load32(p + TAG);
      const lead = aligned - p;
      mem.store32(aligned + TAG, tag - (tag & FLAGS) - lead);
      mem.store32(p + TAG, lead + (tag & FLAGS));
      this.#release(p, lead);
    }
    this.#shorten(aligned, need);
    return aligned;
  }

  mallocUsableSize(ptr: VirtAddr): number {
    if (ptr === 0) return 0;
    const tag = this.#mem.load32(ptr + TAG);
    return tag - (tag & FLAGS) + TAG;
  }

  mallocTrim(pad: number): number {
    return this.#trimBrk(pad) | this.#unmapPools();
  }

  mallopt(): number {
    return 0;
  }

  mallinfo2(): Mallinfo2 {
    const mem = this.#mem;
    const control = this.#control;
    const arena = mem.loadAddress(control + OBTAINED);
    const fordblks = mem.loadAddress(control + FREE_BYTES);
    let ordblks = 0;
    for (let head = control + HEADS; head < control + SIZEOF_CONTROL; head += 8) {
      for (let p = mem.loadAddress(head); p !== 0; p = mem.loadAddress(p + NEXT)) ordblks++;
    }
    const pool = mem.loadAddress(control + BRK_POOL);
    const end = pool + mem.loadAddress(pool + POOL_BYTES);
    const keepcost = (mem.load32(end + TAG) & PREV_FREE) === 0 ? 0 : mem.load32(end + FOOTER);
    return mallinfoOf({ arena, ordblks, fordblks, keepcost });
  }

  validate(): void {
    validateTlsf(this.#mem, this.#control);
  }

  /** The size of a block that its user hands in. */
  #usedSize(p: VirtAddr, call: string): number {
    const mem = this.#mem;
    if ((p & 15) !== 0) mallocAbort(`tlsf: ${call}(): invalid pointer`);
    const tag = mem.load32(p + TAG);
    const size = tag - (tag & FLAGS);
    if ((tag & FREE) !== 0) mallocAbort(`tlsf: ${call}(): block is free already`);
    if ((tag & FLAGS & ~PREV_FREE) !== 0 || size < MIN_BLOCK || size > MAX_BLOCK) mallocAbort(`tlsf: ${call}(): invalid size`);
    const nextTag = mem.load32(p + size + TAG);
    if ((nextTag & PREV_FREE) !== 0 || (nextTag & 12) !== 0) mallocAbort(`tlsf: ${call}(): size at odds with the next block`);
    return size;
  }

  /** A used block of at least `need` bytes from the first list whose every block is large enough; 0 where none is left. */
  #take(need: number): VirtAddr {
    if (need > MAX_BLOCK) return 0;
    const rounded = roundUpToList(need);
    let p = this.#find(rounded);
    if (p === 0) {
      if (!this.#grow(rounded)) return 0;
      p = this.#find(rounded);
      if (p === 0) return 0;
    }
    const mem = this.#mem;
    const tag = mem.load32(p + TAG);
    const size = tag - (tag & FLAGS);
    if ((tag & FREE) === 0 || size < need) mallocAbort('tlsf: malloc(): corrupted free block');
    this.#unlink(p, size);
    mem.store32(p + TAG, tag - FREE);
    this.#setPrevFree(p + size, false);
    return p;
  }

  #find(size: number): VirtAddr {
    const mem = this.#mem;
    const control = this.#control;
    const list = listOf(size);
    let first = list >>> 5;
    let second = mem.load32(control + SL_BITMAPS + 4 * first) & (-1 << (list & 31));
    if (second === 0) {
      const larger = mem.load32(control + FL_BITMAP) & (-2 << first);
      if (larger === 0) return 0;
      first = lowestBit(larger);
      second = mem.load32(control + SL_BITMAPS + 4 * first);
    }
    return mem.loadAddress(control + HEADS + 8 * (32 * first + lowestBit(second)));
  }

  /** Takes a free block out of its list. */
  #unlink(p: VirtAddr, size: number): void {
    const mem = this.#mem;
    const control = this.#control;
    const next = mem.loadAddress(p + NEXT);
    const prev = mem.loadAddress(p + PREV);
    const list = listOf(size);
    const head = control + HEADS + 8 * list;
    if (mem.load32(p + size + FOOTER) !== size) mallocAbort('tlsf: corrupted size of a free block');
    const back = prev === 0 ? mem.loadAddress(head) : mem.loadAddress(prev + NEXT);
    if (back !== p || (next !== 0 && mem.loadAddress(next + PREV) !== p)) mallocAbort('tlsf: corrupted free list');
    if (next !== 0) mem.storeAddress(next + PREV, prev);
    if (prev !== 0) {
      mem.storeAddress(prev + NEXT, next);
    } else {
      mem.storeAddress(head, next);
      if (next === 0) this.#unmark(list);
    }
    mem.storeAddress(control + FREE_BYTES, mem.loadAddress(control + FREE_BYTES) - size);
  }

  /** The list holds nothing any more. */
  #unmark(list: number): void {
    const mem = this.#mem;
    const word = this.#control + SL_BITMAPS + 4 * (list >>> 5);
    const second = mem.load32(word) & ~(1 << (list & 31));
    mem.store32(word, second);
    const bitmap = this.#control + FL_BITMAP;
    if (second === 0) mem.store32(bitmap, mem.load32(bitmap) & ~(1 << (list >>> 5)));
  }

  /** Puts a block, marked free already, first into its list. */
  #link(p: VirtAddr, size: number): void {
    const mem = this.#mem;
    const control = this.#control;
    const list = listOf(size);
    const head = control + HEADS + 8 * list;
    const first = mem.loadAddress(head);
    mem.storeAddress(p + NEXT, first);
    mem.storeAddress(p + PREV, 0);
    mem.store32(p + size + FOOTER, size);
    if (first !== 0) mem.storeAddress(first + PREV, p);
    mem.storeAddress(head, p);
    const word = control + SL_BITMAPS + 4 * (list >>> 5);
    mem.store32(word, mem.load32(word) | (1 << (list & 31)));
    mem.store32(control + FL_BITMAP, mem.load32(control + FL_BITMAP) | (1 << (list >>> 5)));
    mem.storeAddress(control + FREE_BYTES, mem.loadAddress(control + FREE_BYTES) + size);
  }

  #setPrevFree(p: VirtAddr, free: boolean): void {
    const mem = this.#mem;
    const tag = mem.load32(p + TAG);
    mem.store32(p + TAG, free ? tag | PREV_FREE : tag & ~PREV_FREE);
  }

  /** Frees the used block `p`, joined with its free neighbours. */
  #release(block: VirtAddr, blockBytes: number): void {
    const mem = this.#mem;
    let p = block;
    let size = blockBytes;
    const nextTag = mem.load32(p + size + TAG);
    if ((nextTag & FREE) !== 0) {
      const nextSize = nextTag - (nextTag & FLAGS);
      this.#unlink(p + size, nextSize);
      size += nextSize;
    }
    if ((mem.load32(p + TAG) & PREV_FREE) !== 0) {
      const prevSize = mem.load32(p + FOOTER);
      const prevTag = mem.load32(p - prevSize + TAG);
      if (prevTag - (prevTag & FLAGS) !== prevSize || (prevTag & FREE) === 0) mallocAbort('tlsf: corrupted size of a free block');
      p -= prevSize;
      this.#unlink(p, prevSize);
      size += prevSize;
    }
    // Two free blocks are never neighbours: the one before is in use.
    mem.store32(p + TAG, size + FREE);
    this.#link(p, size);
    this.#setPrevFree(p + size, true);
  }

  /** Gives back what a used block has beyond `need` bytes, where that makes a block. */
  #shorten(p: VirtAddr, need: number): void {
    const mem = this.#mem;
    const tag = mem.load32(p + TAG);
    const rest = tag - (tag & FLAGS) - need;
    if (rest < MIN_BLOCK) return;
    mem.store32(p + TAG, need + (tag & FLAGS));
    mem.store32(p + need + TAG, rest);
    this.#release(p + need, rest);
  }

  /** Gets memory for a block of `size` bytes: at the end of the pool that ends at the break, or in a pool of its own. */
  #grow(size: number): boolean {
    const mem = this.#mem;
    const control = this.#control;
    const length = Math.ceil((size + SIZEOF_POOL + 16) / this.#step) * this.#step;
    const start = trySbrk(this.#os, length);
    const brkPool = mem.loadAddress(control + BRK_POOL);
    const end = brkPool + mem.loadAddress(brkPool + POOL_BYTES);
    if (start !== 0 && start === end) {
      // The tag that ended the pool becomes that of the block that came.
      mem.storeAddress(brkPool + POOL_BYTES, end + length - brkPool);
      mem.store32(end + TAG, length + (mem.load32(end + TAG) & PREV_FREE));
      mem.store32(end + length + TAG, 0);
      this.#release(end, length);
    } else {
      const pool = start === 0 ? tryMmap(this.#os, length) : alignUp(start, 16);
      if (pool === 0) return false;
      const poolEnd = alignDown(start === 0 ? pool + length : start + length, 16);
      if (start !== 0) mem.storeAddress(control + BRK_POOL, pool);
      this.#addPool(pool, poolEnd);
    }
    mem.storeAddress(control + OBTAINED, mem.loadAddress(control + OBTAINED) + length);
    return true;
  }

  /** Makes memory a pool of one free block. */
  #addPool(pool: VirtAddr, end: VirtAddr): void {
    const mem = this.#mem;
    mem.storeAddress(pool + POOL_NEXT, mem.loadAddress(this.#control + POOLS));
    mem.storeAddress(pool + POOL_BYTES, end - pool);
    mem.storeAddress(this.#control + POOLS, pool);
    const p = pool + SIZEOF_POOL;
    mem.store32(p + TAG, end - p);
    mem.store32(end + TAG, 0);
    this.#release(p, end - p);
  }

  #trimBrk(pad: number): number {
    const mem = this.#mem;
    const control = this.#control;
    const pool = mem.loadAddress(control + BRK_POOL);
    const end = pool + mem.loadAddress(pool + POOL_BYTES);
    if ((mem.load32(end + TAG) & PREV_FREE) === 0 || this.#os.sbrk(0) !== end) return 0;
    const size = mem.load32(end + FOOTER);
    const released = alignDown(Math.max(size - MIN_BLOCK - pad, 0), this.#os.getpagesize());
    if (released === 0 || trySbrk(this.#os, -released) === 0) return 0;
    // The end, with the block's size, is gone already: what is needed of it is known.
    const p = end - size;
    mem.store32(p + TAG, size - released + FREE);
    mem.store32(end - released + FOOTER, size - released);
    this.#relist(p, size, size - released);
    mem.store32(end - released + TAG, PREV_FREE);
    mem.storeAddress(pool + POOL_BYTES, end - released - pool);
    mem.storeAddress(control + OBTAINED, mem.loadAddress(control + OBTAINED) - released);
    return 1;
  }

  /** Moves a free block that became smaller to the list of its new size. */
  #relist(p: VirtAddr, oldSize: number, newSize: number): void {
    const mem = this.#mem;
    const next = mem.loadAddress(p + NEXT);
    const prev = mem.loadAddress(p + PREV);
    if (next !== 0) mem.storeAddress(next + PREV, prev);
    if (prev !== 0) {
      mem.storeAddress(prev + NEXT, next);
    } else {
      mem.storeAddress(this.#control + HEADS + 8 * listOf(oldSize), next);
      if (next === 0) this.#unmark(listOf(oldSize));
    }
    mem.storeAddress(this.#control + FREE_BYTES, mem.loadAddress(this.#control + FREE_BYTES) - oldSize);
    this.#link(p, newSize);
  }

  /** Unmaps the mapped pools in which nothing is in use. */
  #unmapPools(): number {
    const mem = this.#mem;
    const control = this.#control;
    let result = 0;
    let link = control + POOLS;
    for (let pool = mem.loadAddress(link); pool !== 0; pool = mem.loadAddress(link)) {
      const bytes = mem.loadAddress(pool + POOL_BYTES);
      const p = pool + SIZEOF_POOL;
      const whole = mem.load32(p + TAG) === bytes - SIZEOF_POOL + FREE;
      // A pool of `sbrk` does not end or does not begin with a page, or is the last.
      if (!whole || pool === mem.loadAddress(control + BRK_POOL) || !this.#isMapped(pool, bytes)) {
        link = pool + POOL_NEXT;
        continue;
      }
      this.#unlink(p, bytes - SIZEOF_POOL);
      mem.storeAddress(link, mem.loadAddress(pool + POOL_NEXT));
      mem.storeAddress(control + OBTAINED, mem.loadAddress(control + OBTAINED) - bytes);
      this.#os.munmap(pool, bytes);
      result = 1;
    }
    return result;
  }

  #isMapped(pool: VirtAddr, bytes: number): boolean {
    return pool > this.#os.sbrk(0) && (pool % this.#os.getpagesize()) + (bytes % this.#os.getpagesize()) === 0;
  }
}

/** Bytes from a block for `request` bytes to the next, or -1 for more than a block can have. */
function blockSize(request: number): number {
  if (!(request >= 0 && request < ABSURD_REQUEST)) return -1;
  const size = alignUp(Math.ceil(request) - TAG, 16);
  return size > MAX_BLOCK ? -1 : Math.max(size, MIN_BLOCK);
}

function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}
