/**
 * A binary buddy system: blocks are powers of two from 32 bytes on, each aligned to its size. A block is split into two
 * buddies as often as a request allows; two free buddies are joined, and so on upwards. A block's buddy is found by
 * flipping one bit of its offset.
 *
 * Memory comes in regions of 1 MiB at multiples of 1 MiB, mapped. All that is known of a region's blocks stands in front
 * of them, so that blocks need no header and fill a power of two with nothing left over:
 *
 * ```
 *   region ->  +0  magic       REGION, or LARGE for a block that is too large for a region and has a mapping of its own
 *              +8  next        \  all regions
 *             +16  previous    /
 *             +24  free bytes of the region
 *             +32  length of the mapping (of a large one)
 *             +64  map: a byte for each 32 bytes: 0 inside a block, else FREE or USED and the order of the block that
 *                  begins there
 *          +32832  blocks, to the end of the region
 * ```
 *
 * A free block holds the links of its order's list in its first 16 bytes.
 *
 * After K. C. Knowlton: A fast storage allocator, 1965, and D. Knuth: The Art of Computer Programming, volume 1, 2.5.
 */

export const REGION_SIZE = 1024 * 1024;

export const MIN_ORDER = 5;
/** Half a region: its first half has the map in it. */
export const MAX_ORDER = 19;

export const MAGIC = 0;
export const REGION_NEXT = 8;
export const REGION_PREV = 16;
export const REGION_FREE = 24;
export const LARGE_LENGTH = 32;
export const MAP = 64;
/** Where a region's first block begins. */
export const FIRST_BLOCK = MAP + (REGION_SIZE >>> MIN_ORDER);

export const REGION = 0x62756464;
export const LARGE = 0x6c617267;

/** In the map. */
export const FREE = 0x40;
export const USED = 0x80;

/** Of a free block. */
export const NEXT = 0;
export const PREV = 8;

/** Offsets in the control page. */
export const REGIONS = 0;
export const OBTAINED = 8;
export const FREE_BYTES = 16;
export const NR_LARGE = 24;
export const LARGE_BYTES = 32;
export const HEADS = 64;

/** The order of a block for `size` bytes; above {@link MAX_ORDER} where it is too large for a region. */
export function orderOf(size: number): number {
  if (size <= 2 ** MIN_ORDER) return MIN_ORDER;
  return size > 2 ** MAX_ORDER ? MAX_ORDER + 1 : 32 - Math.clz32(size - 1);
}

/** The region of the block at `ptr`: a block never begins one. */
export function regionOf(ptr: number): number {
  const before = ptr - 1;
  return before - (before % REGION_SIZE);
}
