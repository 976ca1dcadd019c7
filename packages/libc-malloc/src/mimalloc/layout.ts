/**
 * mimalloc: free lists sharded by page.
 *
 * - A **segment** is 4 MiB at a multiple of 4 MiB, mapped. It belongs to a thread and is cut into pages of one kind, whose
 *   descriptions stand at its start. A block's address, rounded down, gives its segment, and from there its page.
 * - A **page** (not the system's) serves blocks of one size: small ones are 64 KiB for blocks up to 16 KiB, medium ones
 *   512 KiB for blocks up to 128 KiB, a large one is the whole segment for blocks up to 2 MiB. A larger block gets a
 *   segment, as long as it needs, of its own.
 * - A **heap** is what a thread has: for each size class the queue of its pages, and for each small size the page that
 *   serves it at once.
 *
 * Each page has three lists of free blocks. `free` is what malloc takes from; `local_free` gets what its own thread
 * frees; `xthread_free` what others free. When `free` is empty the other two become it: so the slow path comes by
 * regularly, and neither malloc nor free ever looks for anything.
 *
 * ```
 *   segment ->     +0  magic, kind          +8  thread: the heap that it belongs to, 0 while it is abandoned
 *                 +16  next, previous       in the heap's queue of segments with pages to spare
 *                 +32  all_next, all_prev   all segments
 *                 +48  capacity, used, abandoned (pages, 32 bits each), page_shift
 *                 +64  length               +72  abandoned_next
 *                +128  page descriptions of 128 bytes, up to 64:
 *                        +0  free  +8  local_free  +16  xthread_free, with what to do with the next one in bits 0-1
 *                       +24  block_size  +32  capacity, reserved, used (blocks, 32 bits each), flags
 *                       +48  next, prev: the queue  +64  area: the first block  +72  heap
 *                       +80  retire_expire (32 bits)  +88  the keys of its lists (2 × 32 bits)
 *               +8320  blocks of page 0; page n > 0 begins at n << page_shift
 * ```
 *
 * `used + |free| + |local_free| === capacity`, where `used` still counts what is in `xthread_free`. Blocks beyond
 * `capacity`, up to `reserved`, were never handed out and are in no list.
 *
 * After D. Leijen, B. Zorn, L. de Moura: Mimalloc: free list sharding in action, 2019.
 */

export const SEGMENT_SIZE = 4 * 1024 * 1024;
export const SEGMENT_MAGIC = 0x6d696d61;

/** Kinds of segments, by their pages. */
export const SMALL = 0;
export const MEDIUM = 1;
export const LARGE = 2;
export const HUGE = 3;

/** Bits of a page's size, by kind. */
export const PAGE_SHIFTS = [16, 19, 22, 22] as const;
/** The largest block of each kind's pages but the last's. */
export const SMALL_BLOCK_MAX = 16 * 1024;
export const MEDIUM_BLOCK_MAX = 128 * 1024;
export const LARGE_BLOCK_MAX = 2 * 1024 * 1024;

/** Offsets in a segment. */
export const SEG_MAGIC = 0;
export const SEG_KIND = 4;
export const SEG_THREAD = 8;
export const SEG_NEXT = 16;
export const SEG_PREV = 24;
export const SEG_ALL_NEXT = 32;
export const SEG_ALL_PREV = 40;
export const SEG_CAPACITY = 48;
export const SEG_USED = 52;
export const SEG_ABANDONED = 56;
export const SEG_PAGE_SHIFT = 60;
export const SEG_LENGTH = 64;
export const SEG_ABANDONED_NEXT = 72;
export const SEG_PAGES = 128;
export const SIZEOF_PAGE = 128;
export const SIZEOF_SEGMENT = SEG_PAGES + 64 * SIZEOF_PAGE;

/** Offsets in a page's description. */
export const PG_FREE = 0;
export const PG_LOCAL_FREE = 8;
export const PG_XTHREAD_FREE = 16;
export const PG_BLOCK_SIZE = 24;
export const PG_CAPACITY = 32;
export const PG_RESERVED = 36;
export const PG_USED = 40;
export const PG_FLAGS = 44;
export const PG_NEXT = 48;
export const PG_PREV = 56;
export const PG_AREA = 64;
export const PG_HEAP = 72;
export const PG_RETIRE_EXPIRE = 80;
export const PG_KEY_LOW = 88;
export const PG_KEY_HIGH = 92;

/** In a page's flags. */
export const IN_USE = 1;
export const IN_FULL = 2;
/** Some block was handed out from within, for its alignment. */
export const HAS_ALIGNED = 4;
/** Its memory, but for the links of free blocks, is zero yet. */
export const IS_ZERO = 8;
/** It was used before. */
export const WAS_USED = 16;

/** Bits 0-1 of `xthread_free`. A full page wants the next block that another thread frees to be told to its heap. */
export const USE_DELAYED_FREE = 1;
export const DELAYED_MASK = 3;

/** Requests up to this many bytes find their page by size. */
export const SMALL_SIZE_MAX = 1024;
/** Queues: 1 … 68 by size class, one for huge pages, one for full ones. */
export const BIN_HUGE = 73;
export const BIN_FULL = 74;
export const NR_BINS = 75;

/** Offsets in a heap. */
export const HEAP_DIRECT = 0;
export const HEAP_QUEUES = 1040;
export const HEAP_DELAYED_FREE = 2240;
/** Segments with pages to spare: of small, then of medium pages. */
export const HEAP_SEGMENTS = 2248;
export const HEAP_NEXT = 2264;
export const SIZEOF_HEAP = 2304;

/** Offsets in the control structure, which begins the program's heap; the main thread's heap follows it. */
export const SEGMENTS = 0;
export const OBTAINED = 8;
export const NR_HUGE = 16;
export const HUGE_BYTES = 24;
export const ABANDONED = 32;
export const HEAPS = 40;
export const SECURE = 48;
export const RANDOM = 52;
/** The description of a page that has nothing, for sizes that have no page yet. */
export const EMPTY_PAGE = 128;
export const SIZEOF_CONTROL = 256;

/**
 * The queue of a size in words of 8 bytes: each size class is at most 1/8 larger than the one before, from 10 words on.
 * Blocks are multiples of 16 bytes.
 */
export function binOf(words: number): number {
  if (words <= 8) return words <= 2 ? 2 : (words + 1) & ~1;
  const below = words - 1;
  const log2 = 31 - Math.clz32(below);
  return (log2 << 2) + ((below >>> (log2 - 2)) & 3) - 3;
}

/** The block size in words of a queue of sizes. */
export function binWords(bin: number): number {
  if (bin <= 8) return bin;
  return (5 + ((bin + 3) & 3)) << (((bin + 3) >>> 2) - 2);
}

/** The kind of page for a block size in bytes. */
export function kindOf(blockSize: number): number {
  if (blockSize <= SMALL_BLOCK_MAX) return SMALL;
  if (blockSize <= MEDIUM_BLOCK_MAX) return MEDIUM;
  return blockSize <= LARGE_BLOCK_MAX ? LARGE : HUGE;
}
