/**
 * A run of compaction over one zone: what is asked for, where its two scanners are, and what it may pass over.
 *
 * A pageblock gets a *skip hint* when a scanner has begun to take pages out of it, or found none: other runs need not look there
 * soon. {@link resetIsolationSuitable} forgets them when an allocation's run has been all over the zone.
 */
import type { Pfn } from '@pagelab/hw';
import { lastPageblock } from './compaction-state.ts';
import { MIGRATE_CMA, MIGRATE_MOVABLE } from './migratetype.ts';
import { MIGRATE_ASYNC } from './migration-ops.ts';
import { MAX_PAGE_ORDER, NR_PAGE_ORDERS, PAGE_ALLOC_COSTLY_ORDER, PG_HEAD, PG_LRU, PG_TAIL, blockOrder, compoundHead } from './page.ts';
import type { PageAlloc } from './page-alloc.ts';
import type { Zone } from './zone.ts';

/** Pages moved at once. @linux mm/internal.h:COMPACT_CLUSTER_MAX */
export const COMPACT_CLUSTER_MAX = 32;
/** The order of who compacts all there is. @linux mm/internal.h:is_via_compact_memory */
export const COMPACT_ALL = -1;

/** A run of compaction over one zone. @linux mm/internal.h:compact_control */
export interface CompactControl {
  readonly zone: Zone;
  /** The order wanted, or {@link COMPACT_ALL}. */
  readonly order: number;
  readonly gfp: number;
  /** `MIGRATE_…` type of the allocation. */
  readonly migratetype: number;
  readonly allocFlags: number;
  readonly highestIndex: number;
  /** `MIGRATE_ASYNC` … `MIGRATE_SYNC`. */
  readonly mode: number;
  /** An allocation waits. */
  readonly direct: boolean;
  readonly proactive: boolean;
  /** Looks at pageblocks where the last scan found nothing, too. */
  readonly ignoreSkipHint: boolean;
  /** Takes free pages from pageblocks of any type. */
  readonly ignoreBlockSuitable: boolean;
  /** From one end of the zone to the other. */
  wholeZone: boolean;
  /** The pageblock under the migration scanner is emptied to its end. */
  finishPageblock: boolean;
  migratePfn: Pfn;
  freePfn: Pfn;
  /** Isolated: pages to move, and how many small ones they are; free blocks by order, and how many pages they are. */
  readonly migratePages: Pfn[];
  nrMigratePages: number;
  readonly freePages: readonly Pfn[][];
  nrFreePages: number;
  migrateScanned: number;
  freeScanned: number;
  /** Searches of the free lists that failed in a row: the next ones are shorter. */
  fastSearchFail: number;
  /** The order whose free list is searched first. */
  searchOrder: number;
  /** The lowest frame that a search for pages to move has found; 0 for none yet, `Infinity` once the scanner went on from it. */
  fastStartPfn: Pfn;
}

/** Free blocks by order: none. */
export function noFreePages(): Pfn[][] {
  return Array.from({ length: NR_PAGE_ORDERS }, () => []);
}

/** Whether the scanners have met. @linux mm/compaction.c:compact_scanners_met */
export function compactScannersMet(cc: CompactControl): boolean {
  const { pageblockPages } = cc.zone;
  return (cc.freePfn & -pageblockPages) <= (cc.migratePfn & -pageblockPages);
}

/** Whether movable allocations use pageblocks of a type. @linux include/linux/mmzone.h:is_migrate_movable */
export function isMovableBlock(type: number): boolean {
  return type === MIGRATE_MOVABLE || type === MIGRATE_CMA;
}

/**
 * Whether a pageblock, or the part of one at `[start, end)`, can be scanned: both ends are the zone's, and there is memory in it.
 *
 * @linux mm/page_alloc.c:__pageblock_pfn_to_page
 */
export function hasPageblock({ layout }: PageAlloc, zone: Zone, start: Pfn, end: Pfn): boolean {
  if (start < zone.startPfn || end > zone.endPfn) return false;
  return layout.memblock.memory.some((range) => range.start < end && range.end > start);
}

/**
 * Whether the free pageblock at `block` is the upper half of one free block: as the buddy system has it, no block begins there.
 *
 * @linux mm/internal.h:PageBuddy
 */
export function isUpperHalf(pages: PageAlloc, zone: Zone, block: Pfn): boolean {
  const { pageblockOrder, pageblockPages } = zone;
  if (pageblockOrder === MAX_PAGE_ORDER || (block & pageblockPages) === 0) return false;
  const lower = block - pageblockPages;
  if (pages.pageblockType(lower) !== pages.pageblockType(block)) return false;
  return zone.freeOrderAt(block) === pageblockOrder && zone.freeOrderAt(lower) === pageblockOrder;
}

// ---- skip hints

/** Whether a pageblock is worth a look. @linux mm/compaction.c:isolation_suitable */
export function isolationSuitable({ compaction, pageblockOrder }: PageAlloc, cc: CompactControl, pfn: Pfn): boolean {
  return cc.ignoreSkipHint || compaction.skip[pfn >>> pageblockOrder] === 0;
}

/** @linux mm/compaction.c:set_pageblock_skip */
export function setPageblockSkip({ compaction, pageblockOrder }: PageAlloc, pfn: Pfn): void {
  compaction.skip[pfn >>> pageblockOrder] = 1;
}

/** Notes that pages are taken out of a pageblock. @returns whether that was noted already @linux mm/compaction.c:test_and_set_skip */
export function testAndSetSkip(pages: PageAlloc, cc: CompactControl, pfn: Pfn): boolean {
  if (cc.ignoreSkipHint) return false;
  const skip = pages.compaction.skip[pfn >>> pages.pageblockOrder] !== 0;
  setPageblockSkip(pages, pfn);
  return skip;
}

/** The migration scanner is through with all before `pfn`, and the pageblock there. @linux mm/compaction.c:update_cached_migrate */
export function updateCachedMigrate(cc: CompactControl, pfn: Pfn): void {
  const { compact, pageblockPages } = cc.zone;
  const next = (pfn & -pageblockPages) + pageblockPages;
  if (next > compact.cachedMigratePfn[0]) compact.cachedMigratePfn[0] = next;
  if (cc.mode !== MIGRATE_ASYNC && next > compact.cachedMigratePfn[1]) compact.cachedMigratePfn[1] = next;
}

/** The free scanner is through with a pageblock. @linux mm/compaction.c:update_pageblock_skip */
export function updatePageblockSkip(pages: PageAlloc, cc: CompactControl, block: Pfn): void {
  const { compact, pageblockPages } = cc.zone;
  setPageblockSkip(pages, block);
  if (block - pageblockPages < compact.cachedFreePfn) compact.cachedFreePfn = block - pageblockPages;
}

/**
 * Forgets the skip hints of pageblocks that hold something to move, or something free, and lets the scanners begin with the
 * outermost of them; where an allocation's run has been all over the zone.
 *
 * @linux mm/compaction.c:__reset_isolation_suitable
 */
export function resetIsolationSuitable(pages: PageAlloc, zone: Zone): void {
  const { compact, pageblockPages } = zone;
  if (!compact.blockskipFlush) return;
  compact.blockskipFlush = false;
  let migratePfn = zone.startPfn;
  let freePfn = zone.endPfn - 1;
  let resetMigrate = -1;
  let resetFree = -1;
  for (; migratePfn < freePfn; migratePfn += pageblockPages, freePfn -= pageblockPages) {
    if (resetIsolationPfn(pages, zone, migratePfn, true, resetMigrate >= 0) && resetMigrate < 0) {
      resetMigrate = migratePfn;
      compact.initMigratePfn = migratePfn;
      compact.cachedMigratePfn.fill(migratePfn);
    }
    if (resetIsolationPfn(pages, zone, freePfn, resetFree >= 0, true) && resetFree < 0) {
      resetFree = freePfn;
      compact.initFreePfn = freePfn;
      compact.cachedFreePfn = freePfn;
    }
  }
  if (resetMigrate >= 0 && resetFree > resetMigrate) return;
  // Nothing to do: the scanners have met before they set out.
  compact.cachedMigratePfn.fill(migratePfn);
  compact.cachedFreePfn = freePfn;
}

/** Forgets the hint of one pageblock. @returns whether a scanner could begin there @linux mm/compaction.c:__reset_isolation_pfn */
function resetIsolationPfn(pages: PageAlloc, zone: Zone, pfn: Pfn, checkSource: boolean, checkTarget: boolean): boolean {
  const { pageblockPages } = zone;
  const start = Math.max(pfn & -pageblockPages, zone.startPfn);
  const end = Math.min((pfn & -pageblockPages) + pageblockPages, zone.endPfn);
  if (!hasPageblock(pages, zone, start, end) || isSkippedForGood(pages, pfn)) return false;
  const { compaction, frames, pageblockOrder } = pages;
  if (checkSource && checkTarget && compaction.skip[pfn >>> pageblockOrder] === 0) return true;
  if (!checkSource && checkTarget && pages.pageblockType(pfn) !== MIGRATE_MOVABLE) return false;
  // A sample does.
  for (let at = start; at < end; at += 1 << PAGE_ALLOC_COSTLY_ORDER) {
    if ((checkSource && (frames.flags[at] & PG_LRU) !== 0) || (checkTarget && zone.freeOrderAt(at) >= 0)) {
      compaction.skip[pfn >>> pageblockOrder] = 0;
      return true;
    }
  }
  return false;
}

/** Whether a compound page takes the whole pageblock: it holds nothing free, and moving it would gain nothing. @linux mm/compaction.c:pageblock_skip_persistent */
export function isSkippedForGood({ frames, pageblockOrder }: PageAlloc, pfn: Pfn): boolean {
  if ((frames.flags[pfn] & (PG_HEAD | PG_TAIL)) === 0) return false;
  const head = compoundHead(frames, pfn);
  return (frames.flags[head] & PG_HEAD) !== 0 && blockOrder(frames, head) >= pageblockOrder;
}

/** Places both scanners at the ends of the zone, or where the last run ended. */
export function placeScanners(cc: CompactControl): void {
  const { zone } = cc;
  const { compact } = zone;
  const last = lastPageblock(zone);
  if (cc.wholeZone) {
    cc.migratePfn = zone.startPfn;
    cc.freePfn = last;
    return;
  }
  const isInside = (pfn: number): boolean => pfn >= zone.startPfn && pfn < zone.endPfn;
  const sync = cc.mode === MIGRATE_ASYNC ? 0 : 1;
  if (!isInside(compact.cachedFreePfn)) compact.cachedFreePfn = last;
  if (!isInside(compact.cachedMigratePfn[sync])) compact.cachedMigratePfn.fill(zone.startPfn);
  cc.freePfn = compact.cachedFreePfn;
  cc.migratePfn = compact.cachedMigratePfn[sync];
  if (cc.migratePfn <= compact.initMigratePfn) cc.wholeZone = true;
}
