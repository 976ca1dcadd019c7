/**
 * Requests to `/proc/PID/pagemap`.
 *
 * @linux include/uapi/linux/fs.h
 */

/** { u64 size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted, category_mask, category_anyof_mask, return_mask } */
export const PAGEMAP_SCAN = 0xc060_6610;
/** Bytes of that structure, and of a region that it finds: { u64 start, end, categories } */
export const PM_SCAN_ARG_BYTES = 96;
export const PAGE_REGION_BYTES = 24;

/** What a page is: of memory whose stores can be noted; stored to since it was write-protected; of a file; there; elsewhere. */
export const PAGE_IS_WPALLOWED = 1 << 0;
export const PAGE_IS_WRITTEN = 1 << 1;
export const PAGE_IS_FILE = 1 << 2;
export const PAGE_IS_PRESENT = 1 << 3;
export const PAGE_IS_SWAPPED = 1 << 4;
/** The page of zeros; part of a huge page; soft dirty; a guard page. */
export const PAGE_IS_PFNZERO = 1 << 5;
export const PAGE_IS_HUGE = 1 << 6;
export const PAGE_IS_SOFT_DIRTY = 1 << 7;
export const PAGE_IS_GUARD = 1 << 8;

/** The pages that are found are write-protected; memory whose stores cannot be noted is an error. */
export const PM_SCAN_WP_MATCHING = 1 << 0;
export const PM_SCAN_CHECK_WPASYNC = 1 << 1;
