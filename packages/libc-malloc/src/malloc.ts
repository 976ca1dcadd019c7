import type { Os, VirtAddr } from '@pagelab/abi';

/**
 * All that an allocator may see of the machine: its memory and the calls that get more of it. The type is the fence:
 * what is not named here cannot be reached.
 */
export type MallocOs = Pick<
  Os,
  'mem' | 'sbrk' | 'mmap' | 'munmap' | 'mremap' | 'mprotect' | 'madvise' | 'getpagesize'
>;

/** What `mallinfo2` tells: bytes, except for the three counts. */
export interface Mallinfo2 {
  /** Bytes obtained by `sbrk` (or otherwise, but for single blocks' own mappings). */
  readonly arena: number;
  /** Count of free chunks that are not in fast bins; the top counts as one. */
  readonly ordblks: number;
  /** Count of chunks in fast bins. */
  readonly smblks: number;
  /** Count of blocks with a mapping of their own. */
  readonly hblks: number;
  /** Bytes of those mappings. */
  readonly hblkhd: number;
  /** Always 0. */
  readonly usmblks: number;
  /** Bytes in fast-bin chunks. */
  readonly fsmblks: number;
  /** Bytes of `arena` in use; chunks in a thread's cache count as used. */
  readonly uordblks: number;
  /** Bytes of `arena` that are free. */
  readonly fordblks: number;
  /** Bytes that a trim of the top could give back at most. */
  readonly keepcost: number;
}

/**
 * A user-space allocator: C's functions with C's contract. Sizes are bytes, an address is a number, NULL is 0. No call
 * throws for want of memory: it returns 0, as C does with ENOMEM. A smashed heap or a wild pointer that the allocator
 * notices throws {@link MallocAbort}; one that it does not notice ends in a fault or in silence, as in C.
 */
export interface Malloc {
  /** Returns a block of at least `size` bytes, aligned to 16, its content undefined; 0 where there is no memory. */
  malloc(size: number): VirtAddr;
  /** Returns a zeroed block for `n` elements of `size` bytes; 0 where there is no memory or the product overflows. */
  calloc(n: number, size: number): VirtAddr;
  /**
   * Changes the size of a block, keeping the content up to the smaller size, and returns where it is now; 0 where there
   * is no memory, and then the block stays as it was. `realloc(0, n)` is `malloc(n)`; `realloc(p, 0)` frees and returns 0.
   */
  realloc(ptr: VirtAddr, size: number): VirtAddr;
  /** Gives a block back; `free(0)` does nothing. */
  free(ptr: VirtAddr): void;
  /** As `malloc`, with the address a multiple of `alignment` (rounded up to a power of two). */
  memalign(alignment: number, size: number): VirtAddr;
  /** Bytes that may be used at `ptr`: at least what was asked for; 0 for NULL. */
  mallocUsableSize(ptr: VirtAddr): number;
  /** Gives free memory back to the system but for `pad` bytes at the top; 1 where some was, else 0. */
  mallocTrim(pad: number): number;
  /** Sets a parameter (`M_MMAP_THRESHOLD`, …); 1 where it was, 0 where it is unknown or out of range. */
  mallopt(param: number, value: number): number;
  /** Counts, recomputed from the heap: the cost grows with the number of free chunks. */
  mallinfo2(): Mallinfo2;
  /** Recomputes the allocator's invariants from its memory; throws an Error that names the first one broken. */
  validate(): void;
  /**
   * This allocator as another thread of the address space calls it, which has just begun: with caches, an arena, a heap
   * of its own, as far as the design has such. A block may be freed by any thread. An allocator without this method is
   * the same to all threads.
   *
   * @param os the thread's own handle; by default that of the allocator
   */
  thread?(os?: MallocOs): Malloc;
  /** Gives up what the design keeps for the calling thread, as the C library does when one ends. It calls no more. */
  threadExit?(): void;
}

/** What an allocator counts at least; the rest of {@link Mallinfo2} is 0 or follows. */
export type MallinfoCounts = Pick<Mallinfo2, 'arena' | 'fordblks' | 'ordblks'> &
  Partial<Pick<Mallinfo2, 'hblks' | 'hblkhd' | 'keepcost'>>;

/** `mallinfo2` of an allocator that has no fast bins. */
export function mallinfoOf({ arena, fordblks, ordblks, hblks = 0, hblkhd = 0, keepcost = 0 }: MallinfoCounts): Mallinfo2 {
  const uordblks = arena - fordblks;
  return { arena, ordblks, smblks: 0, hblks, hblkhd, usmblks: 0, fsmblks: 0, uordblks, fordblks, keepcost };
}

/** Makes an allocator for the address space behind `os`. Throws what `os` throws where there is no memory to start. */
export type MallocFactory<Options = never> = (os: MallocOs, options?: Options) => Malloc;

/** `mallopt`'s parameters, with glibc's values. */
export const M_MXFAST = 1;
export const M_TRIM_THRESHOLD = -1;
export const M_TOP_PAD = -2;
export const M_MMAP_THRESHOLD = -3;
export const M_MMAP_MAX = -4;
export const M_CHECK_ACTION = -5;
export const M_PERTURB = -6;
export const M_ARENA_TEST = -7;
export const M_ARENA_MAX = -8;
