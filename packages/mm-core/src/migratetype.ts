/**
 * Migrate types: pages that can be moved, reclaimed, or neither are kept apart by pageblocks, so that those that stay do
 * not scatter over all of memory.
 */

/** Stays where it is: most kernel memory. @linux include/linux/mmzone.h:migratetype */
export const MIGRATE_UNMOVABLE = 0;
/** Can be moved elsewhere: user memory and the page cache. */
export const MIGRATE_MOVABLE = 1;
/** Cannot be moved, but freed on request: caches of inodes and dentries. */
export const MIGRATE_RECLAIMABLE = 2;
/** Types that have per-CPU lists: those below this one. */
export const MIGRATE_PCPTYPES = 3;
/** Kept for urgent allocations of more than a page. */
export const MIGRATE_HIGHATOMIC = 3;
/** Part of a contiguous region, lent to movable pages. */
export const MIGRATE_CMA = 4;
/** Nothing is allocated from it: it is being emptied. */
export const MIGRATE_ISOLATE = 5;
export const MIGRATE_TYPES = 6;

/** Names as `/proc/pagetypeinfo` prints them. @linux mm/page_alloc.c:migratetype_names */
export const MIGRATETYPE_NAMES: readonly string[] = ['Unmovable', 'Movable', 'Reclaimable', 'HighAtomic', 'CMA', 'Isolate'];

/** Blocks of these types may merge with one another. @linux include/linux/mmzone.h:migratetype_is_mergeable */
export function isMergeable(migratetype: number): boolean {
  return migratetype < MIGRATE_PCPTYPES;
}
