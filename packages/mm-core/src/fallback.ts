/**
 * Where to look for a block when a migrate type has run out.
 */
import { MIGRATE_MOVABLE, MIGRATE_PCPTYPES, MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE } from './migratetype.ts';

/**
 * For each type the others, in order: two each.
 *
 * @linux mm/page_alloc.c:fallbacks
 */
export const FALLBACKS = Int8Array.of(
  MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE,
  MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE,
  MIGRATE_UNMOVABLE, MIGRATE_MOVABLE,
);

const FALLBACK_LISTS = [0, 1, 2].map((type) => [FALLBACKS[type * 2], FALLBACKS[type * 2 + 1]]);
const NONE: readonly number[] = [];

/**
 * Whether blocks of this order are large enough to take a pageblock of another type over.
 *
 * @linux mm/page_alloc.c:should_try_claim_block
 */
export function shouldTryClaim(order: number, migratetype: number, pageblockOrder: number): boolean {
  if (order >= pageblockOrder >> 1) return true;
  // What does not move would spoil a movable block for good; movable pages in other blocks do no lasting harm.
  return migratetype === MIGRATE_RECLAIMABLE || migratetype === MIGRATE_UNMOVABLE;
}

/** The types whose pageblocks an allocation may claim, in order. @linux mm/page_alloc.c:find_suitable_fallback */
export function fallbackTypes(order: number, migratetype: number, pageblockOrder: number): readonly number[] {
  return migratetype < MIGRATE_PCPTYPES && shouldTryClaim(order, migratetype, pageblockOrder) ? FALLBACK_LISTS[migratetype] : NONE;
}
