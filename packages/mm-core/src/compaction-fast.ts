/**
 * Short searches of the free lists, which spare compaction's scanners long ways: for a pageblock near the bottom that is partly
 * free already, and for free pages near the top. A page allocator without lists has none; then the scanners walk.
 *
 * What was looked at goes to the other end of its list, so that the next search sees something else.
 *
 * @linux mm/compaction.c
 */
import type { Pfn } from '@pagelab/hw';
import { COMPACT_CLUSTER_MAX, hasPageblock, setPageblockSkip } from './compaction-control.ts';
import type { CompactControl } from './compaction-control.ts';
import { isolateFreePage, isolateFreepagesBlock } from './compaction-isolate.ts';
import { MIGRATE_MOVABLE } from './migratetype.ts';
import { MIGRATE_ASYNC } from './migration-ops.ts';
import { PAGE_ALLOC_COSTLY_ORDER } from './page.ts';
import type { PageAlloc } from './page-alloc.ts';
import { VM_EVENT } from './vmstat.ts';

/** Blocks looked at, the fewer the more searches have failed. @linux mm/compaction.c:freelist_scan_limit */
function freelistScanLimit(cc: CompactControl): number {
  return (COMPACT_CLUSTER_MAX >>> Math.min(31, cc.fastSearchFail)) + 1;
}

/**
 * Where the migration scanner goes on: at the start of a pageblock in the lower part of what is left to scan that has a large
 * free block, or where it was.
 *
 * @linux mm/compaction.c:fast_find_migrateblock
 */
export function fastFindMigrateblock(pages: PageAlloc, cc: CompactControl): Pfn {
  const { zone } = cc;
  const { pageblockPages } = zone;
  const { freeLists } = zone.allocator;
  const at = cc.migratePfn;
  if (freeLists === undefined || cc.ignoreSkipHint || cc.finishPageblock) return at;
  // In the midst of a pageblock: a scan goes on that moved a cluster.
  if (at !== zone.startPfn && at % pageblockPages !== 0) return at;
  if (cc.order <= PAGE_ALLOC_COSTLY_ORDER || (cc.direct && cc.migratetype !== MIGRATE_MOVABLE)) return at;
  let distance = (cc.freePfn - at) >> 1;
  if (at !== zone.startPfn) distance >>= 2;
  const high = (at + distance) & -pageblockPages;
  const limit = freelistScanLimit(cc);
  let scanned = 0;
  let found = -1;
  for (let order = cc.order - 1; order >= PAGE_ALLOC_COSTLY_ORDER && found < 0 && scanned < limit; order--) {
    let last = -1;
    freeLists.search(order, MIGRATE_MOVABLE, (pfn) => {
      last = pfn;
      if (scanned++ >= limit) return true;
      if (!isBelieved(cc, pfn, order) || pfn >= high || pages.compaction.skip[pfn >>> zone.pageblockOrder] !== 0) {
        last = -1;
        return false;
      }
      found = pfn;
      return true;
    });
    if (last >= 0) freeLists.makeLast(order, MIGRATE_MOVABLE, last);
  }
  cc.migrateScanned += scanned;
  if (found >= 0) {
    if (cc.fastStartPfn !== Infinity) cc.fastStartPfn = cc.fastStartPfn === 0 ? found : Math.min(cc.fastStartPfn, found);
    cc.fastSearchFail = 0;
    return Math.max(found & -pageblockPages, zone.startPfn);
  }
  cc.fastSearchFail++;
  // Once: on from the lowest pageblock that a search has found.
  if (cc.fastStartPfn !== 0 && cc.fastStartPfn !== Infinity) {
    cc.migratePfn = cc.fastStartPfn;
    cc.fastStartPfn = Infinity;
  }
  return cc.migratePfn;
}

/**
 * Takes a free block from the upper part of what is left to scan, and what is free around it.
 *
 * @linux mm/compaction.c:fast_isolate_freepages
 */
export function fastIsolateFreepages(pages: PageAlloc, cc: CompactControl): void {
  const { zone } = cc;
  const { compact, pageblockPages } = zone;
  const { freeLists } = zone.allocator;
  if (freeLists === undefined || cc.order <= 0) return;
  let limit = Math.max(1, freelistScanLimit(cc) >> 1);
  const isStart = cc.freePfn >= compact.initFreePfn;
  if (isStart) limit = pageblockPages >> 1;
  const distance = cc.freePfn - cc.migratePfn;
  const low = (cc.freePfn - (distance >> 2)) & -pageblockPages;
  const least = (cc.freePfn - (distance >> 1)) & -pageblockPages;
  let scanned = 0;
  let highest = 0;
  let page = -1;
  cc.searchOrder = Math.min(cc.order - 1, cc.searchOrder);
  for (let order = cc.searchOrder; page < 0 && order >= 0; order = nextSearchOrder(cc, order)) {
    if (zone.nrFreeBlocks(order) === 0) continue;
    let orderScanned = 0;
    let best = 0;
    let at = -1;
    freeLists.searchFromEnd(order, MIGRATE_MOVABLE, (pfn) => {
      orderScanned++;
      scanned++;
      at = pfn;
      if (isBelieved(cc, pfn, order)) {
        if (pfn >= highest) highest = Math.max(pfn & -pageblockPages, zone.startPfn);
        if (pfn >= low) {
          cc.fastSearchFail = 0;
          cc.searchOrder = order;
          page = pfn;
          return true;
        }
        if (pfn >= least && pfn > best) {
          best = pfn;
          limit >>= 1;
        }
      }
      if (orderScanned >= limit) return true;
      at = -1;
      return false;
    });
    if (page < 0 && best > 0) page = at = best;
    if (at >= 0) freeLists.makeFirst(order, MIGRATE_MOVABLE, at);
    if (page >= 0) {
      if (isolateFreePage(pages, zone, page, order)) {
        scanned += (1 << order) - 1;
        cc.nrFreePages += 1 << order;
        cc.freePages[order].push(page);
        pages.events[VM_EVENT.COMPACTISOLATED] += 1 << order;
      } else {
        // Too little is free: no use in looking further.
        page = -1;
        order = cc.searchOrder + 1;
      }
    }
    if (cc.nrFreePages >= cc.nrMigratePages) break;
    if (orderScanned >= limit) limit = Math.max(1, limit >> 1);
  }
  if (page < 0) {
    cc.fastSearchFail++;
    if (isStart) {
      if (highest >= least) page = cc.freePfn = highest;
      else if (cc.direct) page = cc.freePfn = least;
    }
  }
  if (highest > 0 && highest >= compact.cachedFreePfn) compact.cachedFreePfn = highest - pageblockPages;
  cc.freeScanned += scanned;
  if (page >= 0) fastIsolateAround(pages, cc, page);
}

/** The orders below the one wanted by turns. @returns −1 once round @linux mm/compaction.c:next_search_order */
function nextSearchOrder(cc: CompactControl, order: number): number {
  const next = order === 0 ? cc.order - 1 : order - 1;
  if (next !== cc.searchOrder) return next;
  cc.searchOrder = cc.searchOrder === 0 ? cc.order - 1 : cc.searchOrder - 1;
  return -1;
}

/** Takes what is free in the pageblock of a frame. @linux mm/compaction.c:fast_isolate_around */
function fastIsolateAround(pages: PageAlloc, cc: CompactControl, pfn: Pfn): void {
  const { zone } = cc;
  if (cc.nrFreePages >= cc.nrMigratePages || (cc.direct && cc.mode === MIGRATE_ASYNC)) return;
  const block = pfn & -zone.pageblockPages;
  const start = Math.max(block, zone.startPfn);
  const end = Math.min(block + zone.pageblockPages, zone.endPfn);
  if (!hasPageblock(pages, zone, start, end)) return;
  if (isolateFreepagesBlock(pages, cc, start, end, 1) === end) setPageblockSkip(pages, start);
}

/** Whether a block is free that a page allocator says is. */
function isBelieved({ zone }: CompactControl, pfn: Pfn, order: number): boolean {
  return pfn >= zone.startPfn && pfn + (1 << order) <= zone.endPfn && zone.freeOrderAt(pfn) >= order;
}
