/**
 * TLSF, two-level segregated fit: every operation takes constant time, whatever the heap holds.
 *
 * A block is known by the address of its bytes, `p`. It owns what lies up to the next block's tag:
 *
 * ```
 *      p - 4   tag: distance to the next block (a multiple of 16) | PREV_FREE | FREE
 *      p       next in its list      \
 *      p + 8   previous in its list   | only while it is free, else the user's
 *      p + size - 8   size, again    /
 *      p + size - 4   the next block's tag
 * ```
 *
 * Lists hold sizes of a range each. The first level is the power of two, the second cuts that into 32: a bitmap each
 * tells which lists hold something, so that a list whose every block is large enough is found by two bit searches.
 *
 * ```
 *   size  32 … 511      list (0, size / 16)
 *         512 … 1023    list (1, 0 … 31), 16 bytes apart
 *         1024 … 2047   list (2, 0 … 31), 32 bytes apart, and so on
 * ```
 *
 * After M. Masmano, I. Ripoll, A. Crespo, J. Real: TLSF: a new dynamic memory allocator for real-time systems, 2004.
 */

/** From a block to its tag. */
export const TAG = -4;
export const NEXT = 0;
export const PREV = 8;
/** From the end of a free block to its size. */
export const FOOTER = -8;

export const FREE = 1;
export const PREV_FREE = 2;
/** The bits of a tag that are not size. */
export const FLAGS = 15;

export const MIN_BLOCK = 32;
/** Sizes fit 32 bits with room to round up. */
export const MAX_BLOCK = 2 ** 30;

export const SL_COUNT = 32;
export const FL_COUNT = 23;
const SMALL = 512;

/** The list of a size, as one number: 32 * first level + second level. */
export function listOf(size: number): number {
  if (size < SMALL) return size >>> 4;
  const log2 = 31 - Math.clz32(size);
  return ((log2 - 8) << 5) + ((size >>> (log2 - 5)) & 31);
}

/** The least size whose list holds nothing smaller than `size`. */
export function roundUpToList(size: number): number {
  if (size < SMALL) return size;
  const step = 1 << (26 - Math.clz32(size));
  return (size + step - 1) & -step;
}

/** Offsets in the control structure, which begins the heap. */
export const POOLS = 0;
export const BRK_POOL = 8;
export const OBTAINED = 16;
export const FREE_BYTES = 24;
export const FL_BITMAP = 32;
export const SL_BITMAPS = 36;
export const HEADS = 128;
export const SIZEOF_CONTROL = HEADS + FL_COUNT * SL_COUNT * 8;

/** A pool: memory in one piece. Its first block follows 32 bytes behind its start, a tag of size 0 ends it. */
export const POOL_NEXT = 0;
export const POOL_BYTES = 8;
export const SIZEOF_POOL = 32;
