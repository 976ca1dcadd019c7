/**
 * The chunk: a block and the two words before it.
 *
 * ```
 *          chunk -> +---------------------------------------------+
 *                   | size of the chunk before, while that is free |  +0   (else the last word of its block)
 *                   | size of this chunk             | N | M | P   |  +8   M: has a mapping of its own
 *            mem -> +---------------------------------------------+        N: belongs to a thread arena
 *                   | fd: next in the bin            \             |  +16  P: the chunk before is in use
 *                   | bk: previous in the bin         | only while |  +24
 *                   | fd_nextsize: next smaller size  | free, else |  +32
 *                   | bk_nextsize: next larger size  /  the block  |  +40
 *                   | ...                                          |
 *     next chunk -> +---------------------------------------------+
 *                   | size of this chunk, while it is free         |
 * ```
 *
 * A block in use owns the next chunk's first word too, so that a request costs 8 bytes more and is rounded up to 16.
 *
 * Sizes and addresses are doubles below 2^53. `x & mask` and `x | 0` take such a double modulo 2^32, which is exact for
 * the low bits; nothing here shifts one.
 *
 * The files beside this one take the constants out of the module into their own (`const { SIZE } = chunk`): V8 reads an
 * imported constant anew at each use, and compiles one of the file's own in.
 */

export const SIZE_SZ = 8;
export const CHUNK_HDR_SZ = 16;
export const MALLOC_ALIGNMENT = 16;
export const MALLOC_ALIGN_MASK = 15;
/** The smallest chunk: header and two links. */
export const MINSIZE = 32;
/** Bytes of `struct malloc_chunk`: the header and all four links. */
export const SIZEOF_CHUNK = 48;

export const PREV_INUSE = 1;
export const IS_MMAPPED = 2;
export const NON_MAIN_ARENA = 4;
export const SIZE_BITS = 7;

/** Offsets from the chunk. */
export const SIZE = 8;
export const FD = 16;
export const BK = 24;
export const FD_NEXTSIZE = 32;
export const BK_NEXTSIZE = 40;
/** From the chunk to its block. */
export const MEM = 16;

/** The largest request that is tried at all; more is out of memory at once. */
export const PTRDIFF_MAX = 2 ** 63 - 1;

/** Requests beyond what any address space holds are all alike; as this one they stay exact in a double. */
const ABSURD_REQUEST = 2 ** 52;

/**
 * Chunk bytes for a request, or -1 where C's `size_t` or `ptrdiff_t` could not hold it.
 *
 * @linux glibc malloc/malloc.c:checked_request2size
 */
export function checkedRequest2size(request: number): number {
  if (request <= 24 && request >= 0) return MINSIZE;
  if (request <= ABSURD_REQUEST && request > 0) {
    const padded = Math.floor(request) + SIZE_SZ + MALLOC_ALIGN_MASK;
    return padded - (padded & MALLOC_ALIGN_MASK);
  }
  // A negative number is a size_t with its top bit set.
  return request > 0 && request < PTRDIFF_MAX ? ABSURD_REQUEST : -1;
}

/** `value` rounded up to a multiple of `unit`, a power of two up to 2^31. */
export function alignUp(value: number, unit: number): number {
  return value + (-value & (unit - 1));
}

/** `value` rounded down to a multiple of `unit`, a power of two up to 2^31. */
export function alignDown(value: number, unit: number): number {
  return value - (value & (unit - 1));
}

/** Number of small bins, each of one size, 16 bytes apart. */
export const NSMALLBINS = 64;
/** Chunks from here on are large. */
export const MIN_LARGE_SIZE = 1024;
/** Bin 1 is the unsorted bin, 2 … 63 are small, 64 … 126 large. */
export const NBINS = 128;
export const NFASTBINS = 10;
/** Words of 32 bins in the map of bins that may hold something. */
export const BINMAPSIZE = 4;

/**
 * The large bin of a chunk size: 32 bins 64 bytes apart, then 16 of 512, 8 of 4 KiB, 4 of 32 KiB, 2 of 256 KiB, and one
 * for the rest. The ranges overlap where a wider spacing begins, so the first that fits counts.
 *
 * @linux glibc malloc/malloc.c:largebin_index_64
 */
export function largebinIndex(size: number): number {
  if (size >= 0x20_0000) return 126;
  if (size >>> 6 <= 48) return 48 + (size >>> 6);
  if (size >>> 9 <= 20) return 91 + (size >>> 9);
  if (size >>> 12 <= 10) return 110 + (size >>> 12);
  if (size >>> 15 <= 4) return 119 + (size >>> 15);
  return size >>> 18 <= 2 ? 124 + (size >>> 18) : 126;
}

/** The bin of a chunk size, small or large. */
export function binIndex(size: number): number {
  return size < MIN_LARGE_SIZE ? size >>> 4 : largebinIndex(size);
}

/** The fast bin of a chunk size, whose flags and upper half do not count; fast bins are 16 bytes apart from 32 on. */
export function fastbinIndex(size: number): number {
  return (size >>> 4) - 2;
}
