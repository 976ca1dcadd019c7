/**
 * The arena, `struct malloc_state`: where free chunks are kept. It lies in simulated memory; an `Arena` here only holds
 * the addresses of its fields, so that handing one on costs nothing and no state is outside the machine.
 *
 * ```
 *    +0  mutex            +4  flags             +8  have_fastchunks
 *   +16  fastbinsY[10]          single-linked, last in first out
 *   +96  top                    the chunk that borders the end of the heap
 *  +104  last_remainder         what was left of the chunk that a small request last split
 *  +112  bins[254]              heads of the circular lists of bins 1 … 127, fd and bk each
 * +2144  binmap[4]              bit i: bin i may hold something
 * +2160  next, next_free, attached_threads
 * +2184  system_mem, max_system_mem
 * ```
 *
 * A bin's head is used as if it were a chunk whose fd and bk are the two words in `bins`: its address is 16 below them.
 *
 * @linux glibc malloc/malloc.c:struct malloc_state
 */
import type { UserMemory, VirtAddr } from '@pagelab/abi';
import type { NON_MAIN_ARENA } from './chunk.ts';
import { BK, FD, NBINS } from './chunk.ts';

/** Bytes of an arena. */
export const SIZEOF_MALLOC_STATE = 2200;

/** In `flags`: the heap has a gap, from elsewhere or from a mapping in place of `brk`. */
export const NONCONTIGUOUS_BIT = 2;

/** Heaps of thread arenas lie at multiples of this and are no larger: twice the largest dynamic mmap threshold. */
export const HEAP_MAX_SIZE = 64 * 1024 * 1024;

/** Addresses of an arena's fields. */
export class Arena {
  readonly address: VirtAddr;
  readonly flags: VirtAddr;
  readonly haveFastchunks: VirtAddr;
  readonly fastbins: VirtAddr;
  readonly top: VirtAddr;
  readonly lastRemainder: VirtAddr;
  /** The head of bin 1, the unsorted bin. */
  readonly unsorted: VirtAddr;
  /** Where the head of bin 0 would be: bin i is 16 * i further. */
  readonly bins: VirtAddr;
  readonly binmap: VirtAddr;
  /** The next arena in the circular list of all. */
  readonly next: VirtAddr;
  /** The next arena in the list of those that no thread uses. */
  readonly nextFree: VirtAddr;
  readonly attachedThreads: VirtAddr;
  readonly systemMem: VirtAddr;
  readonly maxSystemMem: VirtAddr;
  /** What goes into the size of each of its chunks: 0 in the main arena, else NON_MAIN_ARENA. */
  readonly chunkFlag: number;

  constructor(address: VirtAddr, chunkFlag: 0 | typeof NON_MAIN_ARENA) {
    this.address = address;
    this.flags = address + 4;
    this.haveFastchunks = address + 8;
    this.fastbins = address + 16;
    this.top = address + 96;
    this.lastRemainder = address + 104;
    this.bins = address + 80;
    this.unsorted = address + 96;
    this.binmap = address + 2144;
    this.next = address + 2160;
    this.nextFree = address + 2168;
    this.attachedThreads = address + 2176;
    this.systemMem = address + 2184;
    this.maxSystemMem = address + 2192;
    this.chunkFlag = chunkFlag;
  }
}

/**
 * Makes zeroed memory an empty arena. Its top is the unsorted bin's head: as a chunk that has size 0, so that the first
 * request goes to the system.
 *
 * @linux glibc malloc/malloc.c:malloc_init_state
 */
export function initArena(mem: UserMemory, av: Arena): void {
  for (let index = 1; index < NBINS; index++) {
    const bin = av.bins + 16 * index;
    mem.storeAddress(bin + FD, bin);
    mem.storeAddress(bin + BK, bin);
  }
  mem.storeAddress(av.top, av.unsorted);
  mem.storeAddress(av.next, av.address);
  mem.storeAddress(av.attachedThreads, 1);
  if (av.chunkFlag !== 0) mem.store32(av.flags, NONCONTIGUOUS_BIT);
}

/** Whether the heap has no gap so far, as far as the arena knows. */
export function isContiguous(mem: UserMemory, av: Arena): boolean {
  return (mem.load32(av.flags) & NONCONTIGUOUS_BIT) === 0;
}
