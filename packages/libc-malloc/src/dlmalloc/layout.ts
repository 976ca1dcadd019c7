/**
 * dlmalloc 2.8: best fit with boundary tags. glibc's malloc grew out of an older dlmalloc; this one has no unsorted and no
 * fast bins, joins neighbours at once, and finds the best fit of large chunks in tries.
 *
 * ```
 *   chunk ->  +0  size of the chunk before, while that is free
 *             +8  size of this chunk | CINUSE (this one is in use) | PINUSE (the one before is); neither: it is mapped
 *   block -> +16  fd: next in its bin             \
 *            +24  bk: previous in its bin          | while it is free
 *            +32  child[0], child[1], parent,      | in a tree
 *            +56  index of the tree (32 bits)     /
 * ```
 *
 * - **Small bins**, for chunks below 256 bytes: a circular list for each size.
 * - **Trees**, for others: 32 bitwise tries, two for each power of two; chunks of one size hang in a ring on their node.
 * - **The designated victim** (dv) is what was left of the chunk that was last split for a small request: it serves small
 *   requests that no bin fits, so that these lie side by side.
 * - **Top** borders the end of the segment that came last.
 *
 * Memory comes in segments: by `sbrk` and, where that fails, mapped. When top moves to another segment, the record of the
 * old one goes to its end. Requests from 256 KiB on are mapped on their own.
 *
 * After D. Lea: A memory allocator, 1996 and 2000, and the documented behaviour of version 2.8.6.
 */

export const PREV_FOOT = 0;
export const HEAD = 8;
export const FD = 16;
export const BK = 24;
export const CHILD = 32;
export const PARENT = 48;
export const INDEX = 56;
/** From a chunk to its block. */
export const MEM = 16;

export const PINUSE = 1;
export const CINUSE = 2;
export const INUSE = 3;
export const FLAGS = 7;
/** The head of what stands where no chunk follows. */
export const FENCEPOST = 8 + INUSE;

export const CHUNK_OVERHEAD = 8;
export const MIN_CHUNK = 32;
export const MIN_LARGE = 256;
export const MAX_SMALL_REQUEST = MIN_LARGE - 1 - 15 - CHUNK_OVERHEAD;

/** Behind a mapped chunk: two fence posts. */
export const MMAP_FOOT_PAD = 32;
/** Bytes of a segment's record, as a chunk. */
export const SEGMENT_CHUNK = 48;
/** What top keeps at its end, so that a record and fence posts find room. */
export const TOP_FOOT = SEGMENT_CHUNK + MIN_CHUNK;

/** The state: offsets in a page that is mapped for it. */
export const SMALLMAP = 0;
export const TREEMAP = 4;
export const DV_SIZE = 8;
export const TOP_SIZE = 16;
export const LEAST_ADDR = 24;
export const DV = 32;
export const TOP = 40;
export const TRIM_CHECK = 48;
export const FOOTPRINT = 56;
export const MAPPED_BYTES = 64;
export const NR_MAPPED = 72;
export const MMAP_THRESHOLD = 80;
export const TRIM_THRESHOLD = 88;
/** The record of the segment that has top. */
export const SEGMENT = 96;
/** Bins: fd and bk of each at SMALLBINS + 16 * index + 16, so that a bin can be used as a chunk. */
export const SMALLBINS = 128;
export const TREEBINS = SMALLBINS + 16 * 33;
export const SIZEOF_STATE = TREEBINS + 8 * 32;

/** A segment's record. */
export const SEG_BASE = 0;
export const SEG_SIZE = 8;
export const SEG_NEXT = 16;
export const SEG_FLAGS = 24;
/** In its flags: it is mapped, and may be unmapped once nothing in it is in use. */
export const SEG_MAPPED = 1;

export const DEFAULT_GRANULARITY = 65_536;
export const DEFAULT_MMAP_THRESHOLD = 262_144;
export const DEFAULT_TRIM_THRESHOLD = 2 * 1024 * 1024;

/** The tree of a chunk size of 256 bytes or more. */
export function treeIndex(size: number): number {
  if (size >= 2 ** 24) return 31;
  const log2 = 31 - Math.clz32(size >>> 8);
  return (log2 << 1) + ((size >>> (log2 + 7)) & 1);
}

/** The bit of a size that decides where it goes below the root of a tree; the next lower one decides the next step. */
export function firstBit(index: number): number {
  return index === 31 ? 46 : (index >>> 1) + 6;
}

/** Bit `bit` of a size; 0 below the lowest. */
export function bitOf(size: number, bit: number): number {
  if (bit < 0) return 0;
  return bit < 32 ? (size >>> bit) & 1 : Math.floor(size / 2 ** bit) & 1;
}
