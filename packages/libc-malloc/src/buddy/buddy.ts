import type { UserMemory, VirtAddr } from '@pagelab/abi';
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, SyscallError } from '@pagelab/abi';
import { mallinfoOf } from '../malloc.ts';
import type { Mallinfo2, Malloc, MallocOs } from '../malloc.ts';
import { mallocAbort } from '../malloc-abort.ts';
import { ABSURD_REQUEST, alignUp, mmapAligned } from '../system-memory.ts';
import {
  FIRST_BLOCK,
  FREE,
  FREE_BYTES,
  HEADS,
  LARGE,
  LARGE_BYTES,
  LARGE_LENGTH,
  MAGIC,
  MAP,
  MAX_ORDER,
  MIN_ORDER,
  NEXT,
  NR_LARGE,
  OBTAINED,
  PREV,
  REGION,
  REGION_FREE,
  REGION_NEXT,
  REGION_PREV,
  REGION_SIZE,
  REGIONS,
  USED,
  orderOf,
  regionOf,
} from './layout.ts';
import { validateBuddy } from './validate.ts';

/** What the buddy system may be told. */
export interface BuddyOptions {
  /** The data of the allocator that this address space has already ({@link Buddy.dataSegment}), as in a forked child. */
  readonly attach?: VirtAddr;
}

/**
 * A binary buddy system; `layout.ts` tells how it works. A request takes as many steps as there are orders, at most 15.
 * Blocks above 512 KiB get mappings of their own. All threads share the heap.
 *
 * What it notices of a smashed heap: as sizes are kept apart from blocks, every free of what is no block in use (a wild
 * pointer into a region, the inside of a block, a block freed twice), and a free block's links overwritten.
 */
export class Buddy implements Malloc {
  readonly #os: MallocOs;
  readonly #mem: UserMemory;
  readonly #control: VirtAddr;

  /** Errors: ENOMEM where there is no memory for the lists' heads. */
  constructor(os: MallocOs, { attach }: BuddyOptions = {}) {
    this.#os = os;
    this.#mem = os.mem;
    this.#control = attach ?? os.mmap(0, os.getpagesize(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  }

  /** Where the allocator's own data lie; a forked child takes the heap up with it as option `attach`. */
  get dataSegment(): VirtAddr {
    return this.#control;
  }

  malloc(size: number): VirtAddr {
    return this.memalign(1, size);
  }

  calloc(n: number, size: number): VirtAddr {
    const bytes = n * size;
    const ptr = this.malloc(bytes);
    // What is mapped for one block is zero.
    if (ptr !== 0 && bytes <= 2 ** MAX_ORDER) this.#mem.fill(ptr, bytes, 0);
    return ptr;
  }

  free(ptr: VirtAddr): void {
    if (ptr === 0) return;
    const region = regionOf(ptr);
    if (this.#mem.load32(region + MAGIC) === LARGE) this.#unmapLarge(region, ptr);
    else this.#release(region, ptr - region, this.#usedOrder(region, ptr, 'free'));
  }

  realloc(ptr: VirtAddr, size: number): VirtAddr {
    if (ptr === 0) return this.malloc(size);
    if (size === 0) {
      this.free(ptr);
      return 0;
    }
    if (!(size > 0 && size < ABSURD_REQUEST)) return 0;
    const region = regionOf(ptr);
    const large = this.#mem.load32(region + MAGIC) === LARGE;
    const inPlace = large ? this.#resizeLarge(region, ptr, size) : this.#resize(region, ptr, size);
    if (inPlace) return ptr;
    const moved = this.malloc(size);
    if (moved === 0) return 0;
    this.#mem.copy(moved, ptr, Math.min(size, this.mallocUsableSize(ptr)));
    this.free(ptr);
    return moved;
  }

  memalign(alignment: number, size: number): VirtAddr {
    if (!(size >= 0 && size < ABSURD_REQUEST && alignment <= ABSURD_REQUEST)) return 0;
    let power = 1;
    while (power < alignment) power *= 2;
    // A block is aligned to its size.
    const order = orderOf(Math.max(Math.ceil(size), power));
    return order <= MAX_ORDER ? this.#take(order) : this.#mapLarge(Math.ceil(size), power);
  }

  mallocUsableSize(ptr: VirtAddr): number {
    if (ptr === 0) return 0;
    const mem = this.#mem;
    const region = regionOf(ptr);
    if (mem.load32(region + MAGIC) === LARGE) return region + mem.loadAddress(region + LARGE_LENGTH) - ptr;
    return 2 ** this.#usedOrder(region, ptr, 'malloc_usable_size');
  }

  /** Unmaps the regions in which nothing is in use. */
  mallocTrim(): number {
    const mem = this.#mem;
    let result = 0;
    let region = mem.loadAddress(this.#control + REGIONS);
    while (region !== 0) {
      const next = mem.loadAddress(region + REGION_NEXT);
      if (mem.loadAddress(region + REGION_FREE) === REGION_SIZE - FIRST_BLOCK) {
        this.#dropRegion(region);
        result = 1;
      }
      region = next;
    }
    return result;
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
    for (let order = MIN_ORDER; order <= MAX_ORDER; order++) {
      for (let p = mem.loadAddress(control + HEADS + 8 * order); p !== 0; p = mem.loadAddress(p + NEXT)) ordblks++;
    }
    const hblks = mem.loadAddress(control + NR_LARGE);
    return mallinfoOf({ arena, ordblks, fordblks, hblks, hblkhd: mem.loadAddress(control + LARGE_BYTES) });
  }

  validate(): void {
    validateBuddy(this.#mem, this.#control);
  }

  /** The order of a block that its user hands in. */
  #usedOrder(region: VirtAddr, ptr: VirtAddr, call: string): number {
    const mem = this.#mem;
    const offset = ptr - region;
    if (mem.load32(region + MAGIC) !== REGION || offset < FIRST_BLOCK || (offset & 31) !== 0) {
      mallocAbort(`buddy: ${call}(): invalid pointer`);
    }
    const byte = mem.load8(region + MAP + (offset >>> MIN_ORDER));
    if ((byte & FREE) !== 0) mallocAbort(`buddy: ${call}(): block is free already`);
    if ((byte & USED) === 0) mallocAbort(`buddy: ${call}(): not the start of a block`);
    return byte & 31;
  }

  #setMap(region: VirtAddr, offset: number, byte: number): void {
    this.#mem.store8(region + MAP + (offset >>> MIN_ORDER), byte);
  }

  /** A used block of an order: the first free one of it, or half of a larger one. */
  #take(order: number): VirtAddr {
    const mem = this.#mem;
    const heads = this.#control + HEADS;
    let from = order;
    while (from <= MAX_ORDER && mem.loadAddress(heads + 8 * from) === 0) from++;
    if (from > MAX_ORDER) {
      if (!this.#addRegion()) return 0;
      from = MAX_ORDER;
    }
    const ptr = mem.loadAddress(heads + 8 * from);
    const region = regionOf(ptr);
    const offset = ptr - region;
    if (mem.load8(region + MAP + (offset >>> MIN_ORDER)) !== FREE + from) mallocAbort('buddy: corrupted free list');
    this.#unlink(region, offset, from);
    this.#splitTo(region, offset, from, order);
    return ptr;
  }

  /** Makes a block, in no list, a used one of `order`, freeing the upper halves that it gets too large by. */
  #splitTo(region: VirtAddr, offset: number, from: number, order: number): void {
    for (let half = from - 1; half >= order; half--) this.#link(region, offset + 2 ** half, half);
    this.#setMap(region, offset, USED + order);
  }

  /** Frees a block: joined with its buddy while that is free. */
  #release(region: VirtAddr, blockOffset: number, blockOrder: number): void {
    const mem = this.#mem;
    let offset = blockOffset;
    let order = blockOrder;
    for (; order < MAX_ORDER; order++) {
      const buddy = offset ^ (1 << order);
      if (mem.load8(region + MAP + (buddy >>> MIN_ORDER)) !== FREE + order) break;
      this.#unlink(region, buddy, order);
      this.#setMap(region, Math.max(offset, buddy), 0);
      offset = Math.min(offset, buddy);
    }
    this.#link(region, offset, order);
  }

  #link(region: VirtAddr, offset: number, order: number): void {
    const mem = this.#mem;
    const p = region + offset;
    const head = this.#control + HEADS + 8 * order;
    const first = mem.loadAddress(head);
    mem.storeAddress(p + NEXT, first);
    mem.storeAddress(p + PREV, 0);
    if (first !== 0) mem.storeAddress(first + PREV, p);
    mem.storeAddress(head, p);
    this.#setMap(region, offset, FREE + order);
    this.#countFree(region, 2 ** order);
  }

  #unlink(region: VirtAddr, offset: number, order: number): void {
    const mem = this.#mem;
    const p = region + offset;
    const head = this.#control + HEADS + 8 * order;
    const next = mem.loadAddress(p + NEXT);
    const prev = mem.loadAddress(p + PREV);
    const back = prev === 0 ? mem.loadAddress(head) : mem.loadAddress(prev + NEXT);
    if (back !== p || (next !== 0 && mem.loadAddress(next + PREV) !== p)) mallocAbort('buddy: corrupted free list');
    mem.storeAddress(prev === 0 ? head : prev + NEXT, next);
    if (next !== 0) mem.storeAddress(next + PREV, prev);
    this.#countFree(region, -(2 ** order));
  }

  #countFree(region: VirtAddr, bytes: number): void {
    this.#add(region + REGION_FREE, bytes);
    this.#add(this.#control + FREE_BYTES, bytes);
  }

  #add(at: VirtAddr, value: number): void {
    this.#mem.storeAddress(at, this.#mem.loadAddress(at) + value);
  }

  /** Grows or shrinks a block where it stands; false where it cannot. */
  #resize(region: VirtAddr, ptr: VirtAddr, size: number): boolean {
    const mem = this.#mem;
    const from = this.#usedOrder(region, ptr, 'realloc');
    const order = orderOf(Math.ceil(size));
    const offset = ptr - region;
    if (order > MAX_ORDER || (offset & (2 ** order - 1)) !== 0) return false;
    if (order < from) {
      for (let half = from - 1; half >= order; half--) this.#release(region, offset + 2 ** half, half);
    } else {
      // The block is the lower buddy all the way up: it grows where every upper one is free.
      for (let half = from; half < order; half++) {
        if (mem.load8(region + MAP + ((offset + 2 ** half) >>> MIN_ORDER)) !== FREE + half) return false;
      }
      for (let half = from; half < order; half++) {
        this.#unlink(region, offset + 2 ** half, half);
        this.#setMap(region, offset + 2 ** half, 0);
      }
    }
    this.#setMap(region, offset, USED + order);
    return true;
  }

  #addRegion(): boolean {
    const mem = this.#mem;
    const region = mmapAligned(this.#os, REGION_SIZE, REGION_SIZE);
    if (region === 0) return false;
    mem.store32(region + MAGIC, REGION);
    const first = mem.loadAddress(this.#control + REGIONS);
    mem.storeAddress(region + REGION_NEXT, first);
    if (first !== 0) mem.storeAddress(first + REGION_PREV, region);
    mem.storeAddress(this.#control + REGIONS, region);
    this.#add(this.#control + OBTAINED, REGION_SIZE);
    for (let offset = FIRST_BLOCK; offset < REGION_SIZE; ) {
      const order = 31 - Math.clz32(offset & -offset);
      this.#link(region, offset, order);
      offset += 2 ** order;
    }
    return true;
  }

  #dropRegion(region: VirtAddr): void {
    const mem = this.#mem;
    for (let offset = FIRST_BLOCK; offset < REGION_SIZE; ) {
      const order = 31 - Math.clz32(offset & -offset);
      this.#unlink(region, offset, order);
      offset += 2 ** order;
    }
    const next = mem.loadAddress(region + REGION_NEXT);
    const prev = mem.loadAddress(region + REGION_PREV);
    mem.storeAddress(prev === 0 ? this.#control + REGIONS : prev + REGION_NEXT, next);
    if (next !== 0) mem.storeAddress(next + REGION_PREV, prev);
    this.#add(this.#control + OBTAINED, -REGION_SIZE);
    this.#os.munmap(region, REGION_SIZE);
  }

  /** A block with a mapping of its own: the header a page or, for an alignment, as far as needed before it. */
  #mapLarge(size: number, alignment: number): VirtAddr {
    const mem = this.#mem;
    const before = Math.max(alignment, this.#os.getpagesize());
    const length = alignUp(before + size, this.#os.getpagesize());
    const mapping = mmapAligned(this.#os, length, Math.max(alignment, REGION_SIZE));
    if (mapping === 0) return 0;
    const ptr = mapping + before;
    const region = regionOf(ptr);
    if (region > mapping) this.#os.munmap(mapping, region - mapping);
    mem.store32(region + MAGIC, LARGE);
    mem.storeAddress(region + LARGE_LENGTH, mapping + length - region);
    this.#add(this.#control + NR_LARGE, 1);
    this.#add(this.#control + LARGE_BYTES, mapping + length - region);
    return ptr;
  }

  #unmapLarge(region: VirtAddr, ptr: VirtAddr): void {
    const length = this.#mem.loadAddress(region + LARGE_LENGTH);
    if (((ptr | length) & (this.#os.getpagesize() - 1)) !== 0 || length <= ptr - region) {
      mallocAbort('buddy: free(): invalid pointer');
    }
    this.#add(this.#control + NR_LARGE, -1);
    this.#add(this.#control + LARGE_BYTES, -length);
    this.#os.munmap(region, length);
  }

  /** Resizes a mapping where it stands; a block that fits a region moves there. */
  #resizeLarge(region: VirtAddr, ptr: VirtAddr, size: number): boolean {
    if (size <= 2 ** MAX_ORDER) return false;
    const mem = this.#mem;
    const length = mem.loadAddress(region + LARGE_LENGTH);
    const newLength = alignUp(ptr - region + Math.ceil(size), this.#os.getpagesize());
    if (newLength !== length) {
      try {
        this.#os.mremap(region, length, newLength, 0);
      } catch (error) {
        if (error instanceof SyscallError) return false;
        throw error;
      }
      mem.storeAddress(region + LARGE_LENGTH, newLength);
      this.#add(this.#control + LARGE_BYTES, newLength - length);
    }
    return true;
  }
}
