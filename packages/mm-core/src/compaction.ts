/**
 * Compaction: pages that can be moved go to the upper end of a zone, so that large blocks come free at the lower.
 *
 * @linux mm/compaction.c
 */
import { Errno } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { ALLOC_CMA, ALLOC_WMARK_MASK, WMARK_HIGH, WMARK_LOW, WMARK_MIN } from './alloc-flags.ts';
import { COMPACT_ALL, compactScannersMet, noFreePages, placeScanners, resetIsolationSuitable } from './compaction-control.ts';
import type { CompactControl } from './compaction-control.ts';
import { compactionAlloc, releaseFreeList } from './compaction-free.ts';
import { isolateMigratepages } from './compaction-scan.ts';
import { fallbackTypes } from './fallback.ts';
import { extfragForOrder, extfragIndex } from './fragmentation.ts';
import type { AllocContext } from './freelist.ts';
import { GFP_KERNEL, __GFP_IO } from './gfp.ts';
import { MIGRATE_CMA, MIGRATE_MOVABLE } from './migratetype.ts';
import { MIGRATE_ASYNC, MIGRATE_SYNC, MIGRATE_SYNC_LIGHT, MR_COMPACTION } from './migration-ops.ts';
import type { MigrationOps } from './migration-ops.ts';
import type { MemoryNode } from './node.ts';
import { NR_PAGE_ORDERS, PAGE_ALLOC_COSTLY_ORDER } from './page.ts';
import type { PageAlloc } from './page-alloc.ts';
import { VM_EVENT, ZONE_STAT } from './vmstat.ts';
import type { PageCapture, Zone } from './zone.ts';

const { COMPACTMIGRATE_SCANNED, COMPACTFREE_SCANNED, KCOMPACTD_MIGRATE_SCANNED, KCOMPACTD_FREE_SCANNED } = VM_EVENT;

// What an attempt came to, the better the higher. @linux include/linux/compaction.h:compact_result
/** The zone lacks memory, and is not scattered. */
export const COMPACT_NOT_SUITABLE_ZONE = 0;
/** There are too few free pages to move anything to. */
export const COMPACT_SKIPPED = 1;
/** It failed lately. */
export const COMPACT_DEFERRED = 2;
export const COMPACT_CONTINUE = 4;
/** The whole zone was scanned. */
export const COMPACT_COMPLETE = 5;
/** Part of it was. */
export const COMPACT_PARTIAL_SKIPPED = 6;
export const COMPACT_CONTENDED = 7;
/** A block should be there now. */
export const COMPACT_SUCCESS = 8;

// How hard an allocation tries, the harder the lower. @linux include/linux/compaction.h:compact_priority
export const COMPACT_PRIO_SYNC_FULL = 0;
export const COMPACT_PRIO_SYNC_LIGHT = 1;
export const COMPACT_PRIO_ASYNC = 2;
export const MIN_COMPACT_PRIORITY = COMPACT_PRIO_SYNC_FULL;
export const MIN_COMPACT_COSTLY_PRIORITY = COMPACT_PRIO_SYNC_LIGHT;
export const DEF_COMPACT_PRIORITY = COMPACT_PRIO_SYNC_LIGHT;
export const INIT_COMPACT_PRIORITY = COMPACT_PRIO_ASYNC;

/** Free pages that compaction needs beyond the watermark. @linux include/linux/compaction.h:compact_gap */
export function compactGap(order: number): number {
  return 2 << order;
}

/** What compaction keeps for the machine. */
export class CompactionState {
  /** By pageblock: 1 where a scan found nothing to do. @linux include/linux/pageblock-flags.h:PB_migrate_skip */
  readonly skip: Uint8Array;
  /** `compact_unevictable_allowed`: whether locked pages are moved. */
  unevictableAllowed = true;
  /** `extfrag_threshold`, in thousandths: below it, failures count as want of memory. */
  extfragThreshold = 500;
  /** `compaction_proactiveness`, 0 to 100: how eagerly kcompactd works unasked. */
  proactiveness = 20;

  /** Whether frames count as scanned that are passed over as parts of a block: since 6.4. */
  readonly countsSkipped: boolean;
  /** Whether compound pages are moved: since 6.9. */
  readonly movesLarge: boolean;

  /**
   * @param nrBlocks pageblocks of the machine
   * @param isRecent whether as a kernel from 6.9 on does
   */
  constructor(nrBlocks: number, isRecent: boolean) {
    this.skip = new Uint8Array(nrBlocks);
    this.countsSkipped = isRecent;
    this.movesLarge = isRecent;
  }
}

// ---- whether it makes sense

/**
 * Whether a zone that has no block of `order` has enough free pages to make one.
 *
 * @param watermark pages that are to remain
 * @param free free pages to reckon with
 * @linux mm/compaction.c:__compaction_suitable
 */
export function compactionHasRoom(zone: Zone, order: number, watermark: number, highestIndex: number, free: number): boolean {
  let mark = watermark + compactGap(order);
  if (order > PAGE_ALLOC_COSTLY_ORDER) mark += zone.wmarkPages(WMARK_LOW) - zone.wmarkPages(WMARK_MIN);
  return zone.watermarkOk(0, mark, highestIndex, ALLOC_CMA, free);
}

/** The same, and whether it is scattered at all. @linux mm/compaction.c:compaction_suitable */
export function compactionSuitable(pages: PageAlloc, zone: Zone, order: number, watermark: number, highestIndex: number): boolean {
  if (!compactionHasRoom(zone, order, watermark, highestIndex, zone.nrFree)) return false;
  if (order <= PAGE_ALLOC_COSTLY_ORDER) return true;
  const index = extfragIndex(zone, order);
  return !(index >= 0 && index <= pages.compaction.extfragThreshold);
}

/** Whether a zone has a block, could get one, or neither. @param free free pages to reckon with @linux mm/compaction.c:compaction_suit_allocation_order */
export function compactionSuitAllocationOrder(
  pages: PageAlloc,
  zone: Zone,
  order: number,
  highestIndex: number,
  allocFlags: number,
  isAsync: boolean,
  free: number = zone.nrFree,
): number {
  const watermark = zone.wmarkPages(allocFlags & ALLOC_WMARK_MASK);
  if (zone.watermarkOk(order, watermark, highestIndex, allocFlags, free)) return COMPACT_SUCCESS;
  // What may not lie in CMA regions gains nothing by blocks that come free there.
  if (order > PAGE_ALLOC_COSTLY_ORDER && isAsync && (allocFlags & ALLOC_CMA) === 0) {
    if (!zone.watermarkOk(0, watermark + compactGap(order), highestIndex, 0, zone.nrFree)) return COMPACT_SKIPPED;
  }
  return compactionSuitable(pages, zone, order, watermark, highestIndex) ? COMPACT_CONTINUE : COMPACT_SKIPPED;
}

/**
 * Whether compaction could help in some zone, if all that can be reclaimed were free.
 *
 * @linux mm/compaction.c:compaction_zonelist_suitable
 */
export function compactionZonelistSuitable(pages: PageAlloc, context: AllocContext): boolean {
  const { order, highestIndex, zonelist } = context;
  return zonelist.some((zone) => {
    const reclaimable = Math.floor((pages.hooks.zoneReclaimablePages?.(zone) ?? 0) / order);
    return compactionHasRoom(zone, order, zone.wmarkPages(WMARK_MIN), highestIndex, reclaimable + zone.nrFree);
  });
}

// ---- a run over a zone

/** What a run is asked for. */
interface CompactRequest {
  readonly zone: Zone;
  readonly order: number;
  readonly mode: number;
  readonly gfp?: number;
  readonly migratetype?: number;
  readonly allocFlags?: number;
  readonly highestIndex?: number;
  readonly direct?: boolean;
  readonly proactive?: boolean;
  readonly wholeZone?: boolean;
  readonly ignoreSkipHint?: boolean;
  readonly ignoreBlockSuitable?: boolean;
  /** On kcompactd's own account. */
  readonly byKcompactd?: boolean;
  /** Filled where a block of the order comes free while pages move: then that is what was wanted. */
  readonly capture?: PageCapture | undefined;
}

/**
 * Compacts a zone until a block of the order wanted is there, or the scanners meet.
 *
 * @returns `COMPACT_…`
 * @linux mm/compaction.c:compact_zone
 */
export function compactZone(pages: PageAlloc, request: CompactRequest): number {
  const { migration } = pages.hooks;
  const { zone } = request;
  const { compact } = zone;
  if (migration === undefined) return COMPACT_SKIPPED;
  const { capture, byKcompactd = false, ...asked } = request;
  const cc: CompactControl = {
    gfp: GFP_KERNEL,
    migratetype: 0,
    allocFlags: 0,
    highestIndex: 0,
    direct: false,
    proactive: false,
    ignoreSkipHint: false,
    ignoreBlockSuitable: false,
    ...asked,
    wholeZone: request.wholeZone ?? false,
    finishPageblock: false,
    migratePfn: 0,
    freePfn: 0,
    migratePages: [],
    nrMigratePages: 0,
    freePages: noFreePages(),
    nrFreePages: 0,
    migrateScanned: 0,
    freeScanned: 0,
    fastSearchFail: 0,
    searchOrder: request.order,
    fastStartPfn: 0,
  };
  if (cc.order !== COMPACT_ALL) {
    const free = byKcompactd && pages.sysctl.defragMode ? zone.state(ZONE_STAT.NR_FREE_PAGES_BLOCKS) : zone.nrFree;
    const suits = compactionSuitAllocationOrder(pages, zone, cc.order, cc.highestIndex, cc.allocFlags, cc.mode === MIGRATE_ASYNC, free);
    if (suits !== COMPACT_CONTINUE) return suits;
    if (compact.restarting(cc.order)) resetIsolationSuitable(pages, zone);
  }
  placeScanners(cc);
  // The two positions part where the first page is found that could be moved.
  const run = { updateCached: cc.mode === MIGRATE_ASYNC && compact.cachedMigratePfn[0] === compact.cachedMigratePfn[1], lastMigrated: 0 };
  migration.drain();
  zone.capture = capture ?? null;
  let result: number;
  for (;;) {
    result = compactFinished(pages, cc);
    if (result !== COMPACT_CONTINUE) break;
    // Whoever comes back to a pageblock that was not emptied takes all of it now, and then leaves it alone.
    cc.finishPageblock = run.lastMigrated !== 0 && blockOf(zone, run.lastMigrated) === blockOf(zone, cc.migratePfn);
    if (!moveNext(pages, migration, cc, run)) {
      result = COMPACT_CONTENDED;
      break;
    }
    if (capture !== undefined && capture.pfn >= 0) {
      result = COMPACT_SUCCESS;
      break;
    }
    // What came free waits on the CPU's lists: it has to merge before it is seen.
    if (cc.order > 0 && run.lastMigrated !== 0 && run.lastMigrated < (cc.migratePfn & -(1 << cc.order))) {
      pages.drainLocalPages(zone);
      run.lastMigrated = 0;
    }
  }
  if (cc.nrFreePages > 0) {
    const highest = blockOf(zone, releaseFreeList(pages, cc));
    if (highest > compact.cachedFreePfn) compact.cachedFreePfn = highest;
  }
  zone.capture = null;
  pages.events[COMPACTMIGRATE_SCANNED] += cc.migrateScanned;
  pages.events[COMPACTFREE_SCANNED] += cc.freeScanned;
  if (cc.proactive || (!cc.direct && cc.order !== COMPACT_ALL)) {
    // kcompactd's.
    pages.events[KCOMPACTD_MIGRATE_SCANNED] += cc.migrateScanned;
    pages.events[KCOMPACTD_FREE_SCANNED] += cc.freeScanned;
  }
  return capture !== undefined && capture.pfn >= 0 ? COMPACT_SUCCESS : result;
}

/** What a run remembers from step to step. */
interface CompactRun {
  /** Both cached positions move together still. */
  updateCached: boolean;
  /** The pageblock that pages were last moved out of, 0 where the lists were drained since. */
  lastMigrated: number;
}

/** Isolates the next pages and moves them. @returns false where there are no frames for them */
function moveNext(pages: PageAlloc, migration: MigrationOps, cc: CompactControl, run: CompactRun): boolean {
  const { zone } = cc;
  const { compact, startPfn } = zone;
  if (!isolateMigratepages(pages, migration, cc)) {
    if (run.updateCached) compact.cachedMigratePfn[1] = compact.cachedMigratePfn[0];
    return true;
  }
  run.updateCached = false;
  run.lastMigrated = Math.max(startPfn, blockOf(zone, cc.migratePfn - 1));
  const error = migration.migrate(cc.migratePages, (_, order) => compactionAlloc(pages, cc, order), cc.mode, MR_COMPACTION);
  cc.nrMigratePages = 0;
  if (error === 0) return true;
  migration.putback(cc.migratePages);
  if (error === -Errno.ENOMEM && !compactScannersMet(cc)) return false;
  const isDone = cc.migratePfn % cc.zone.pageblockPages === 0 || cc.finishPageblock;
  if (isDone || cc.ignoreSkipHint || cc.mode === MIGRATE_SYNC) return true;
  cc.finishPageblock = true;
  // Pages that stay keep a huge page from coming free: draining the lists would not help it.
  if (cc.order === cc.zone.pageblockOrder) run.lastMigrated = 0;
  return moveNext(pages, migration, cc, run);
}

/** @linux mm/compaction.c:__compact_finished */
function compactFinished(pages: PageAlloc, cc: CompactControl): number {
  const { zone } = cc;
  if (compactScannersMet(cc)) {
    zone.compact.resetCachedPositions(zone);
    if (cc.direct) zone.compact.blockskipFlush = true;
    return cc.wholeZone ? COMPACT_COMPLETE : COMPACT_PARTIAL_SKIPPED;
  }
  if (cc.proactive) {
    return extfragForOrder(zone, zone.pageblockOrder) > fragmentationScoreWmark(pages, true) ? COMPACT_CONTINUE : COMPACT_SUCCESS;
  }
  if (cc.order === COMPACT_ALL || cc.migratePfn % cc.zone.pageblockPages !== 0) return COMPACT_CONTINUE;
  if (pages.sysctl.defragMode && !cc.direct) {
    // kcompactd makes whole pageblocks: those can be had for any type without mixing.
    const enough = zone.watermarkOk(cc.order, zone.wmarkPages(WMARK_HIGH), cc.highestIndex, cc.allocFlags, zone.state(ZONE_STAT.NR_FREE_PAGES_BLOCKS));
    return enough ? COMPACT_SUCCESS : COMPACT_CONTINUE;
  }
  for (let order = cc.order; order < NR_PAGE_ORDERS; order++) {
    if (zone.allocator.nrFreeBlocks(order, cc.migratetype) > 0) return COMPACT_SUCCESS;
    if (cc.migratetype === MIGRATE_MOVABLE && zone.allocator.nrFreeBlocks(order, MIGRATE_CMA) > 0) return COMPACT_SUCCESS;
    if (fallbackTypes(order, cc.migratetype, zone.pageblockOrder).some((type) => zone.allocator.nrFreeBlocks(order, type) > 0)) return COMPACT_SUCCESS;
  }
  return COMPACT_CONTINUE;
}

function blockOf({ pageblockPages }: Zone, pfn: number): number {
  return pfn & -pageblockPages;
}

// ---- who asks

/**
 * Compacts for an allocation, zone by zone, until one has a block.
 *
 * @param priority `COMPACT_PRIO_…`
 * @param captured gets the block where one came free meanwhile: it is taken from its zone, and not made ready
 * @returns `COMPACT_…`, the best of all zones
 * @linux mm/compaction.c:try_to_compact_pages
 */
export function tryToCompactPages(pages: PageAlloc, context: AllocContext, allocFlags: number, priority: number, captured?: { pfn: Pfn }): number {
  const { gfp, order, migratetype, highestIndex, zonelist } = context;
  if ((gfp & __GFP_IO) === 0 || pages.hooks.migration === undefined) return COMPACT_SKIPPED;
  let best = COMPACT_SKIPPED;
  const full = priority === MIN_COMPACT_PRIORITY;
  for (const zone of zonelist) {
    if (!full && zone.compact.deferred(order)) {
      best = Math.max(best, COMPACT_DEFERRED);
      continue;
    }
    const capture = captured === undefined ? undefined : { order, migratetype, pfn: -1 };
    const status = compactZone(pages, {
      zone,
      order,
      capture,
      gfp,
      migratetype,
      allocFlags,
      highestIndex,
      mode: priority === COMPACT_PRIO_ASYNC ? MIGRATE_ASYNC : MIGRATE_SYNC_LIGHT,
      direct: true,
      wholeZone: full,
      ignoreSkipHint: full,
      ignoreBlockSuitable: full,
    });
    if (captured !== undefined && capture !== undefined) captured.pfn = capture.pfn;
    best = Math.max(best, status);
    if (status === COMPACT_SUCCESS) {
      zone.compact.deferReset(order, false);
      break;
    }
    if (priority !== COMPACT_PRIO_ASYNC && (status === COMPACT_COMPLETE || status === COMPACT_PARTIAL_SKIPPED)) zone.compact.defer(order);
  }
  return best;
}

/**
 * Compacts all zones of a node, from end to end.
 *
 * @param proactive whether only as far as `compaction_proactiveness` wants it
 * @linux mm/compaction.c:compact_node
 */
export function compactNode(pages: PageAlloc, node: MemoryNode, proactive = false): void {
  for (const zone of node.zones) {
    if (zone.present === 0) continue;
    const mode = proactive ? MIGRATE_SYNC_LIGHT : MIGRATE_SYNC;
    compactZone(pages, { zone, order: COMPACT_ALL, mode, proactive, wholeZone: true, ignoreSkipHint: true });
  }
}

/** Compacts the whole machine: what writing to `/proc/sys/vm/compact_memory` does. @linux mm/compaction.c:compact_nodes */
export function compactNodes(pages: PageAlloc): void {
  pages.hooks.migration?.drain();
  for (const node of pages.nodes) compactNode(pages, node);
}

/** From where on, and down to where, a node is compacted unasked, in percent. @linux mm/compaction.c:fragmentation_score_wmark */
export function fragmentationScoreWmark({ compaction }: PageAlloc, low: boolean): number {
  const mark = Math.max(100 - compaction.proactiveness, 5);
  return low ? mark : Math.min(mark + 10, 100);
}
