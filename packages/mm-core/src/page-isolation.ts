/**
 * Isolating a range: nothing of it is allocated any more, so that it can be emptied.
 *
 * @linux mm/page_isolation.c
 */
import { Errno } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { MIGRATE_CMA, MIGRATE_ISOLATE } from './migratetype.ts';
import { OWNER_FREE, frameOwner } from './owner.ts';
import type { MemoryState } from './memory-state.ts';
import { PG_LRU, PG_LRU_WAITS, blockOrder, compoundHead } from './page.ts';
import { ZONE_MOVABLE } from './zone-types.ts';
import type { Zone } from './zone.ts';

/** For whom a range is isolated. @linux include/linux/page-isolation.h:pb_isolate_mode */
export const PB_ISOLATE_MODE_MEM_OFFLINE = 0;
/** For who owns the CMA region that the range lies in. */
export const PB_ISOLATE_MODE_CMA_ALLOC = 1;
export const PB_ISOLATE_MODE_OTHER = 2;

/** What the pageblocks that are isolated were before, by their number. */
export type IsolatedBlocks = Map<number, number>;

/**
 * The first frame of `[start, end)`, which lies in one pageblock, that could not be moved out of the way; −1 where all could.
 *
 * @linux mm/page_isolation.c:has_unmovable_pages
 */
export function hasUnmovablePages(state: MemoryState, zone: Zone, start: Pfn, end: Pfn, mode: number): Pfn {
  const { frames } = state;
  if (state.pageblockType(start) === MIGRATE_CMA) return mode === PB_ISOLATE_MODE_CMA_ALLOC ? -1 : start;
  for (let pfn = start; pfn < end; pfn++) {
    const free = zone.freeOrderAt(pfn);
    if (free >= 0) {
      pfn += (1 << free) - 1;
      continue;
    }
    const head = compoundHead(frames, pfn);
    if (frames.refcount[head] === 0) {
      // On a per-CPU list, or never the page allocator's.
      if (frameOwner(frames, pfn) !== OWNER_FREE) return pfn;
      continue;
    }
    if (zone.kind === ZONE_MOVABLE) continue;
    if ((frames.flags[head] & (PG_LRU | PG_LRU_WAITS)) === 0) return pfn;
    pfn = head + (1 << blockOrder(frames, head)) - 1;
  }
  return -1;
}

/**
 * Isolates the pageblocks that `[start, end)` touches. Their free pages stay free, but nobody gets them.
 *
 * @param mode `PB_ISOLATE_MODE_…`
 * @returns 0; −EBUSY, with nothing isolated, where something in the range cannot be moved, or part of it is isolated already
 * @linux mm/page_isolation.c:start_isolate_page_range
 */
export function startIsolatePageRange(state: MemoryState, start: Pfn, end: Pfn, mode: number): number {
  const { pageblockOrder, pageblockPages } = state;
  const from = start & -pageblockPages;
  for (let block = from; block < end; block += pageblockPages) {
    const zone = state.zoneOf(Math.max(block, start));
    const unmovable =
      zone === undefined ||
      block < zone.startPfn ||
      block + pageblockPages > zone.endPfn ||
      state.pageblockType(block) === MIGRATE_ISOLATE ||
      hasUnmovablePages(state, zone, Math.max(block, start), Math.min(block + pageblockPages, end), mode) >= 0;
    if (unmovable) {
      undoIsolatePageRange(state, from, block);
      return -Errno.EBUSY;
    }
    state.isolatedBlocks.set(block >>> pageblockOrder, state.pageblockType(block));
    zone.setBlockType(block, MIGRATE_ISOLATE);
  }
  return 0;
}

/**
 * Gives the pageblocks that `[start, end)` touches and that are isolated the types back that they had.
 *
 * @linux mm/page_isolation.c:undo_isolate_page_range
 */
export function undoIsolatePageRange(state: MemoryState, start: Pfn, end: Pfn): void {
  const { pageblockOrder, pageblockPages } = state;
  for (let block = start & -pageblockPages; block < end; block += pageblockPages) {
    const number = block >>> pageblockOrder;
    const type = state.isolatedBlocks.get(number);
    if (type === undefined) continue;
    const zone = state.zoneOf(block);
    bugOn(zone === undefined || state.blockTypes[number] !== MIGRATE_ISOLATE, 'isolation: a pageblock that is not isolated');
    state.isolatedBlocks.delete(number);
    if (zone!.setBlockType(block, type) === pageblockPages && zone!.takeAt(block, pageblockOrder)) {
      // Freed anew it merges with its neighbour.
      zone!.give(block, pageblockOrder, type);
    }
  }
}

/** Whether nothing of `[start, end)` is in use any more. @linux mm/page_isolation.c:test_pages_isolated */
export function testPagesIsolated(zone: Zone, start: Pfn, end: Pfn): boolean {
  for (let pfn = start; pfn < end; ) {
    const order = zone.freeOrderAt(pfn);
    if (order < 0) return false;
    pfn += 1 << order;
  }
  return true;
}
