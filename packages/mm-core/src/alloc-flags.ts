/**
 * Flags of the page allocator itself: how far down an attempt may go. The two low bits choose the watermark.
 *
 * @linux mm/internal.h:ALLOC_WMARK_MIN
 */
export const WMARK_MIN = 0;
export const WMARK_LOW = 1;
export const WMARK_HIGH = 2;
export const WMARK_PROMO = 3;
/** Down to nothing. */
export const ALLOC_NO_WATERMARKS = 0x4;
export const ALLOC_WMARK_MASK = 0x3;
/** For a victim of the OOM killer. */
export const ALLOC_OOM = 0x8;
/** Cannot sleep. */
export const ALLOC_NON_BLOCK = 0x10;
/** `__GFP_HIGH`; the value is the same. */
export const ALLOC_MIN_RESERVE = 0x20;
/** Obeys the cpuset. */
export const ALLOC_CPUSET = 0x40;
/** May use pages of a CMA region. */
export const ALLOC_CMA = 0x80;
/** Rather another zone of this node than a pageblock of another type. */
export const ALLOC_NOFRAGMENT = 0x100;
/** May use the pageblocks kept for urgent allocations of more than a page. */
export const ALLOC_HIGHATOMIC = 0x200;
/** Wakes kswapd. `__GFP_KSWAPD_RECLAIM`; the value is the same. */
export const ALLOC_KSWAPD = 0x800;
/** Those that go below the min watermark. */
export const ALLOC_RESERVES = ALLOC_NON_BLOCK | ALLOC_MIN_RESERVE | ALLOC_HIGHATOMIC | ALLOC_OOM;
