/**
 * The two scanners of compaction: one looks from the bottom of a zone for pages that can be moved, the other from its top for
 * free ones to move them to.
 *
 * @linux mm/compaction.c
 */
import { Errno } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { ALLOC_CMA, WMARK_MIN } from './alloc-flags.ts';
import { __GFP_FS, __GFP_MOVABLE } from './gfp.ts';
import { MIGRATE_CMA, MIGRATE_MOVABLE, isMergeable } from './migratetype.ts';
import { MIGRATE_ASYNC, MIGRATE_SYNC } from './migration-ops.ts';
import type { MigrationOps } from './migration-ops.ts';
import {
  NR_PAGE_ORDERS,
  PG_ANON,
  PG_DIRTY,
  PG_HEAD,
  PG_LRU,
  PG_TAIL,
  PG_UNEVICTABLE,
  PG_WRITEBACK,
  blockOrder,
} from './page.ts';
import type { PageAlloc } from './page-alloc.ts';
import { prepNewPage } from './prep-page.ts';
import { VM_EVENT } from './vmstat.ts';
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

function isolationSuitable(pages: PageAlloc, cc: CompactControl, pfn: Pfn): boolean {
  return cc.ignoreSkipHint || pages.compaction.skip[pfn >>> pages.pageblockOrder] === 0;
}

function isMovableBlock(type: number): boolean {
  return type === MIGRATE_MOVABLE || type === MIGRATE_CMA;
}

// ---- pages to move

/**
 * Isolates pages of the next pageblock that has any: up to a cluster of them.
 *
 * @returns whether some were isolated
 * @linux mm/compaction.c:isolate_migratepages
 */
export function isolateMigratepages(pages: PageAlloc, migration: MigrationOps, cc: CompactControl): boolean {
  const { zone } = cc;
  const { pageblockPages } = zone;
  let low = cc.migratePfn;
  let blockEnd = (low & -pageblockPages) + pageblockPages;
  for (; blockEnd <= cc.freePfn; cc.migratePfn = low = blockEnd, blockEnd += pageblockPages) {
    if ((low % pageblockPages === 0 || low === zone.startPfn) && !isolationSuitable(pages, cc, low)) continue;
    // An allocation that waits for nothing only looks where pages of its own kind are.
    if (!suitableMigrationSource(pages, cc, low)) {
      updateCachedMigrate(cc, blockEnd);
      continue;
    }
    isolateMigratepagesBlock(pages, migration, cc, low, blockEnd);
    break;
  }
  return cc.nrMigratePages > 0;
}

/** @linux mm/compaction.c:suitable_migration_source */
function suitableMigrationSource(pages: PageAlloc, cc: CompactControl, pfn: Pfn): boolean {
  if (cc.mode !== MIGRATE_ASYNC || !cc.direct) return true;
  const type = pages.pageblockType(pfn);
  return cc.migratetype === MIGRATE_MOVABLE ? isMovableBlock(type) : type === cc.migratetype;
}

/** @linux mm/compaction.c:isolate_migratepages_block */
function isolateMigratepagesBlock(pages: PageAlloc, migration: MigrationOps, cc: CompactControl, low: Pfn, end: Pfn): void {
  const { zone, order } = cc;
  const { frames } = pages;
  // One page that stays spoils the block that is wanted: the others need not be moved then.
  const skipOnFailure = cc.direct && cc.mode === MIGRATE_ASYNC;
  let nextSkip = skipOnFailure ? blockEnd(low, order) : end;
  let isolated = 0;
  let pfn = low;
  for (; pfn < end; pfn++) {
    if (skipOnFailure && pfn >= nextSkip) {
      if (isolated > 0) break;
      nextSkip = blockEnd(pfn, order);
    }
    cc.migrateScanned++;
    const free = zone.freeOrderAt(pfn);
    if (free >= 0) {
      cc.migrateScanned += (1 << free) - 1;
      pfn += (1 << free) - 1;
      continue;
    }
    const size = 1 << blockOrder(frames, pfn);
    if (mayIsolate(pages, cc, pfn) && migration.isolate(pfn)) {
      cc.migratePages.push(pfn);
      cc.nrMigratePages += size;
      cc.migrateScanned += size - 1;
      isolated += size;
      pfn += size - 1;
      if (cc.nrMigratePages < COMPACT_CLUSTER_MAX || cc.finishPageblock) continue;
      pfn++;
      break;
    }
    if (size > 1 && (frames.flags[pfn] & PG_HEAD) !== 0) {
      cc.migrateScanned += size - 1;
      pfn += size - 1;
    }
    if (!skipOnFailure) continue;
    if (isolated > 0) {
      migration.putback(cc.migratePages);
      cc.nrMigratePages = 0;
      isolated = 0;
    }
    if (pfn < nextSkip) {
      pfn = nextSkip - 1;
      nextSkip += 1 << order;
    }
  }
  if (pfn > end) pfn = end;
  // Scanned to its end: there is no point in looking here again soon.
  if (pfn === end && (isolated === 0 || cc.finishPageblock)) {
    if (!cc.ignoreSkipHint) pages.compaction.skip[low >>> pages.pageblockOrder] = 1;
    updateCachedMigrate(cc, pfn);
  }
  if (isolated > 0) pages.events[VM_EVENT.COMPACTISOLATED] += isolated;
  cc.migratePfn = pfn;
}

/** Whether a frame in use is a page that could be moved. */
function mayIsolate(pages: PageAlloc, cc: CompactControl, pfn: Pfn): boolean {
  const { flags, mapping, mapcount, refcount } = pages.frames;
  const pageFlags = flags[pfn];
  if ((pageFlags & PG_TAIL) !== 0 || refcount[pfn] === 0) return false;
  if ((pageFlags & PG_HEAD) !== 0) {
    const order = blockOrder(pages.frames, pfn);
    // What is as large as what is wanted does not help, and nothing larger than a pageblock is made.
    if ((cc.order !== COMPACT_ALL && order >= cc.order) || order >= pages.pageblockOrder) return false;
  }
  if ((pageFlags & PG_LRU) === 0) return false;
  const isAnon = (pageFlags & PG_ANON) !== 0 || mapping[pfn] === 0;
  if (isAnon && (pageFlags & PG_HEAD) === 0 && refcount[pfn] > mapcount[pfn]) return false;
  // Files may need locks that whoever asks holds.
  if (!isAnon && (cc.gfp & __GFP_FS) === 0) return false;
  if ((pageFlags & PG_UNEVICTABLE) !== 0 && !pages.compaction.unevictableAllowed) return false;
  return cc.mode === MIGRATE_SYNC || (pageFlags & PG_WRITEBACK) === 0 || (pageFlags & PG_DIRTY) === 0;
}

/** @linux mm/compaction.c:update_cached_migrate */
function updateCachedMigrate(cc: CompactControl, at: Pfn): void {
  const { cachedMigratePfn } = cc.zone.compact;
  const { pageblockPages } = cc.zone;
  const pfn = Math.ceil(at / pageblockPages) * pageblockPages;
  if (pfn > cachedMigratePfn[0]) cachedMigratePfn[0] = pfn;
  if (cc.mode !== MIGRATE_ASYNC && pfn > cachedMigratePfn[1]) cachedMigratePfn[1] = pfn;
}

/** One past the block of `order` that holds a frame. */
function blockEnd(pfn: Pfn, order: number): Pfn {
  return (pfn & -(1 << order)) + (1 << order);
}

// ---- frames to move them to

/**
 * A frame for a page that moves, from the free blocks isolated so far, or from those that the scanner finds next.
 *
 * @returns −ENOMEM where there is none
 * @linux mm/compaction.c:compaction_alloc
 */
export function compactionAlloc(pages: PageAlloc, cc: CompactControl, order: number): Pfn {
  let from = firstOrder(cc, order);
  if (from === NR_PAGE_ORDERS) {
    isolateFreepages(pages, cc);
    from = firstOrder(cc, order);
    if (from === NR_PAGE_ORDERS) return -Errno.ENOMEM;
  }
  const pfn = cc.freePages[from].shift()!;
  for (let half = from - 1; half >= order; half--) cc.freePages[half].unshift(pfn + (1 << half));
  cc.nrFreePages -= 1 << order;
  cc.nrMigratePages -= 1 << order;
  prepNewPage(pages.frames, pfn, order, order > 0);
  pages.noteOwner(pfn, order, __GFP_MOVABLE);
  return pfn;
}

function firstOrder(cc: CompactControl, order: number): number {
  let from = order;
  while (from < NR_PAGE_ORDERS && cc.freePages[from].length === 0) from++;
  return from;
}

/** @linux mm/compaction.c:isolate_freepages */
function isolateFreepages(pages: PageAlloc, cc: CompactControl): void {
  const { zone } = cc;
  const { pageblockPages } = zone;
  let start = cc.freePfn;
  let block = start & -pageblockPages;
  let end = Math.min(block + pageblockPages, zone.endPfn);
  const low = (cc.migratePfn & -pageblockPages) + pageblockPages;
  let stride = cc.mode === MIGRATE_ASYNC ? COMPACT_CLUSTER_MAX : 1;
  for (; block >= low; end = block, block -= pageblockPages, start = block) {
    if (!suitableMigrationTarget(pages, cc, block) || !isolationSuitable(pages, cc, block)) continue;
    const before = cc.nrFreePages;
    start = isolateFreepagesBlock(pages, cc, start, end, stride);
    if (start === end) updatePageblockSkip(pages, cc, block);
    if (cc.nrFreePages >= cc.nrMigratePages) {
      if (start >= end) start = block - pageblockPages;
      break;
    }
    if (start < end) break;
    stride = cc.nrFreePages > before ? 1 : Math.min(COMPACT_CLUSTER_MAX, stride << 1);
  }
  cc.freePfn = start;
}

/** @linux mm/compaction.c:suitable_migration_target */
function suitableMigrationTarget(pages: PageAlloc, cc: CompactControl, block: Pfn): boolean {
  // A block as large as what is wanted would only be broken up.
  const free = cc.zone.freeOrderAt(block);
  if (free >= 0 && free >= (cc.order > 0 ? cc.order : pages.pageblockOrder)) return false;
  return cc.ignoreBlockSuitable || isMovableBlock(pages.pageblockType(block));
}

/** Takes free blocks out of `[start, end)`. @returns where to go on; `start` of the next where all was scanned @linux mm/compaction.c:isolate_freepages_block */
function isolateFreepagesBlock(pages: PageAlloc, cc: CompactControl, start: Pfn, end: Pfn, stride: number): Pfn {
  const { zone } = cc;
  const { frames } = pages;
  let pfn = start;
  let isolated = 0;
  for (; pfn < end; pfn += stride) {
    cc.freeScanned++;
    const order = zone.freeOrderAt(pfn);
    if (order < 0) {
      const size = (frames.flags[pfn] & PG_HEAD) === 0 ? 1 : 1 << blockOrder(frames, pfn);
      if (pfn + size <= end) {
        cc.freeScanned += size - 1;
        pfn += size - 1;
      }
      continue;
    }
    if (!isolateFreePage(pages, zone, pfn, order)) break;
    const size = 1 << order;
    cc.freeScanned += size - 1;
    cc.nrFreePages += size;
    cc.freePages[order].push(pfn);
    isolated += size;
    if (cc.nrMigratePages <= cc.nrFreePages) {
      pfn += size;
      break;
    }
    pfn += size - stride;
  }
  if (isolated > 0) pages.events[VM_EVENT.COMPACTISOLATED] += isolated;
  return Math.min(pfn, end);
}

/** Takes a free block where that leaves enough. @linux mm/page_alloc.c:__isolate_free_page */
function isolateFreePage(pages: PageAlloc, zone: Zone, pfn: Pfn, order: number): boolean {
  if (!zone.watermarkOk(0, zone.wmarkPages(WMARK_MIN) + (1 << order), 0, ALLOC_CMA, zone.nrFree)) return false;
  if (!zone.takeAt(pfn, order)) return false;
  const { pageblockPages } = zone;
  // At least half a pageblock: it is going to hold what can be moved.
  const block = pfn & -pageblockPages;
  const whole = block >= zone.startPfn && block + pageblockPages <= zone.endPfn;
  const type = pages.pageblockType(pfn);
  if (order >= pages.pageblockOrder - 1 && whole && isMergeable(type) && type !== MIGRATE_MOVABLE) zone.setBlockType(block, MIGRATE_MOVABLE);
  return true;
}

/** @linux mm/compaction.c:update_pageblock_skip */
function updatePageblockSkip(pages: PageAlloc, cc: CompactControl, block: Pfn): void {
  if (cc.ignoreSkipHint) return;
  pages.compaction.skip[block >>> pages.pageblockOrder] = 1;
  const { compact, pageblockPages } = cc.zone;
  if (block - pageblockPages < compact.cachedFreePfn) compact.cachedFreePfn = block - pageblockPages;
}

/**
 * Gives the free blocks back that were isolated and not needed.
 *
 * @returns the highest of them, 0 where there was none
 * @linux mm/compaction.c:release_free_list
 */
export function releaseFreeList(pages: PageAlloc, cc: CompactControl): Pfn {
  let highest = 0;
  cc.freePages.forEach((list, order) => {
    for (const pfn of list) {
      highest = Math.max(highest, pfn);
      prepNewPage(pages.frames, pfn, order, false);
      pages.freePages(pfn, order);
      cc.nrFreePages -= 1 << order;
    }
    list.length = 0;
  });
  bugOn(cc.nrFreePages !== 0, 'compaction: free pages miscounted');
  return highest;
}
