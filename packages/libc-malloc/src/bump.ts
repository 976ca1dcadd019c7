import type { VirtAddr } from '@pagelab/abi';
import { SyscallError } from '@pagelab/abi';
import { mallinfoOf } from './malloc.ts';
import type { Mallinfo2, Malloc, MallocOs } from './malloc.ts';

/** What a bump allocator may be told. */
export interface BumpOptions {
  /** Bytes asked of `sbrk` at a time, or more where a block needs it. Default 1 MiB. */
  readonly step?: number;
}

/** Before each block: its size in bytes. */
const HEADER = 16;
/** No address space has room for more; sums of smaller sizes stay exact. */
const ABSURD_REQUEST = 2 ** 52;

/**
 * The simplest allocator there is: blocks one after the other, each with its size before it. Memory comes from `sbrk` in
 * big steps. `free` gives back the last block only, all others stay for good; `realloc` grows the last block in place
 * and copies any other.
 *
 * All but the step lies in simulated memory, in the first 48 bytes of the heap:
 *
 * ```
 *    +0  next: where the next block's header will be
 *    +8  end: the end of the memory that `sbrk` gave
 *   +16  last: the block that came last, 0 where that is free again
 *   +24  used: bytes of the blocks in use
 *   +32  obtained: bytes that `sbrk` gave
 * ```
 */
export class Bump implements Malloc {
  readonly #os: MallocOs;
  readonly #step: number;
  readonly #state: VirtAddr;

  /** Errors: ENOMEM where there is no memory for the first step. */
  constructor(os: MallocOs, options: BumpOptions = {}) {
    this.#os = os;
    this.#step = options.step ?? 1024 * 1024;
    const start = os.sbrk(0);
    const state = roundUp(start);
    os.sbrk(state - start + this.#step);
    this.#state = state;
    const { mem } = os;
    mem.storeAddress(state + NEXT, state + SIZEOF_STATE);
    mem.storeAddress(state + END, state + this.#step);
    mem.storeAddress(state + OBTAINED, this.#step);
  }

  malloc(size: number): VirtAddr {
    return this.#take(size, 16);
  }

  calloc(n: number, size: number): VirtAddr {
    const block = this.#take(n * size, 16);
    // A freed last block, or what a shrunk one left, may have been written to.
    if (block !== 0) this.#os.mem.fill(block, n * size, 0);
    return block;
  }

  realloc(ptr: VirtAddr, size: number): VirtAddr {
    if (ptr === 0) return this.malloc(size);
    if (size === 0) {
      this.free(ptr);
      return 0;
    }
    if (!(size > 0 && size < ABSURD_REQUEST)) return 0;
    const { mem } = this.#os;
    const state = this.#state;
    const oldSize = mem.loadAddress(ptr - HEADER);
    const newSize = roundUp(size);
    const inPlace = ptr === mem.loadAddress(state + LAST) && this.#reserve(ptr + newSize);
    // To reserve may have opened a gap, behind which nothing can grow into it.
    if (inPlace && ptr === mem.loadAddress(state + LAST)) {
      mem.storeAddress(state + NEXT, ptr + newSize);
    } else if (newSize > oldSize) {
      const block = this.#take(size, 16);
      if (block === 0) return 0;
      mem.copy(block, ptr, oldSize);
      this.free(ptr);
      return block;
    }
    mem.storeAddress(ptr - HEADER, newSize);
    mem.storeAddress(state + USED, mem.loadAddress(state + USED) + newSize - oldSize);
    return ptr;
  }

  free(ptr: VirtAddr): void {
    if (ptr === 0) return;
    const { mem } = this.#os;
    const state = this.#state;
    mem.storeAddress(state + USED, mem.loadAddress(state + USED) - mem.loadAddress(ptr - HEADER));
    if (ptr !== mem.loadAddress(state + LAST)) return;
    mem.storeAddress(state + NEXT, ptr - HEADER);
    mem.storeAddress(state + LAST, 0);
  }

  memalign(alignment: number, size: number): VirtAddr {
    if (!(alignment <= 2 ** 46)) return 0;
    let power = 16;
    while (power < alignment) power *= 2;
    return this.#take(size, power);
  }

  mallocUsableSize(ptr: VirtAddr): number {
    return ptr === 0 ? 0 : this.#os.mem.loadAddress(ptr - HEADER);
  }

  /** Gives the memory behind the last block back, in whole pages. */
  mallocTrim(pad: number): number {
    const os = this.#os;
    const { mem } = os;
    const state = this.#state;
    const pageSize = os.getpagesize();
    const end = mem.loadAddress(state + END);
    const keep = mem.loadAddress(state + NEXT) + pad;
    const newEnd = Math.ceil(keep / pageSize) * pageSize;
    if (newEnd >= end || os.sbrk(0) !== end) return 0;
    os.sbrk(newEnd - end);
    mem.storeAddress(state + END, newEnd);
    mem.storeAddress(state + OBTAINED, mem.loadAddress(state + OBTAINED) + newEnd - end);
    return 1;
  }

  mallopt(): number {
    return 0;
  }

  mallinfo2(): Mallinfo2 {
    const { mem } = this.#os;
    const state = this.#state;
    const arena = mem.loadAddress(state + OBTAINED);
    const uordblks = mem.loadAddress(state + USED);
    const keepcost = mem.loadAddress(state + END) - mem.loadAddress(state + NEXT);
    return mallinfoOf({ arena, ordblks: 1, fordblks: arena - uordblks, keepcost });
  }

  validate(): void {
    const { mem } = this.#os;
    const state = this.#state;
    const next = mem.loadAddress(state + NEXT);
    const last = mem.loadAddress(state + LAST);
    if (next > mem.loadAddress(state + END)) throw new Error('bump heap: blocks reach beyond the memory');
    if (last !== 0 && last + mem.loadAddress(last - HEADER) !== next) {
      throw new Error('bump heap: the last block does not end where the next begins');
    }
  }

  #take(size: number, alignment: number): VirtAddr {
    if (!(size >= 0 && size < ABSURD_REQUEST)) return 0;
    const { mem } = this.#os;
    const state = this.#state;
    const rounded = size <= 16 ? 16 : roundUp(size);
    for (;;) {
      const next = mem.loadAddress(state + NEXT);
      const block = Math.ceil((next + HEADER) / alignment) * alignment;
      if (!this.#reserve(block + rounded)) return 0;
      // Someone else may have moved the break: then the blocks go on behind the gap.
      if (mem.loadAddress(state + NEXT) !== next) continue;
      mem.storeAddress(block - HEADER, rounded);
      mem.storeAddress(state + NEXT, block + rounded);
      mem.storeAddress(state + LAST, block);
      mem.storeAddress(state + USED, mem.loadAddress(state + USED) + rounded);
      return block;
    }
  }

  /** Sees to it that memory reaches up to `limit`; false where the system refuses. */
  #reserve(limit: VirtAddr): boolean {
    const os = this.#os;
    const { mem } = os;
    const state = this.#state;
    const end = mem.loadAddress(state + END);
    if (limit <= end) return true;
    const step = Math.ceil((limit - end) / this.#step) * this.#step;
    let start: VirtAddr;
    try {
      start = os.sbrk(step);
    } catch (error) {
      if (error instanceof SyscallError) return false;
      throw error;
    }
    mem.storeAddress(state + OBTAINED, mem.loadAddress(state + OBTAINED) + step);
    mem.storeAddress(state + END, start + step);
    if (start === end) return true;
    mem.storeAddress(state + NEXT, roundUp(start));
    mem.storeAddress(state + LAST, 0);
    return true;
  }
}

const NEXT = 0;
const END = 8;
const LAST = 16;
const USED = 24;
const OBTAINED = 32;
const SIZEOF_STATE = 48;

function roundUp(value: number): number {
  return Math.ceil(value / 16) * 16;
}
