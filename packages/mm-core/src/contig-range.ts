/**
 * Allocating given frames: a range is isolated, what is in it moves elsewhere, and then all of it is taken.
 *
 * @linux mm/page_alloc.c:alloc_contig_range_noprof
 */
import { Errno } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_TRANSHUGE, __GFP_COMP, __GFP_RETRY_MAYFAIL, gfpZone } from './gfp.ts';
import { MIGRATE_SYNC, MR_CONTIG_RANGE } from './migration-ops.ts';
import type { MigrationOps } from './migration-ops.ts';
import { PB_ISOLATE_MODE_CMA_ALLOC, PB_ISOLATE_MODE_OTHER, startIsolatePageRange, testPagesIsolated, undoIsolatePageRange } from './page-isolation.ts';
import { MAX_PAGE_ORDER, PG_LRU, blockOrder, compoundHead } from './page.ts';
import { OWNER_FREE, frameOwner } from './owner.ts';
import type { PageAlloc } from './page-alloc.ts';
import { prepNewPage } from './prep-page.ts';
import type { Zone } from './zone.ts';

/** The range lies in a CMA region, and its owner asks. @linux include/linux/gfp.h:ACR_FLAGS_CMA */
export const ACR_FLAGS_CMA = 1;

/** Pages moved at once. @linux mm/internal.h:COMPACT_CLUSTER_MAX */
const CLUSTER_PAGES = 32;
/** Attempts to move what is in the way. */
const MIGRATE_TRIES = 5;

/**
 * Allocates the frames `[start, end)`, whatever is in them now: single frames with a reference each, or with `__GFP_COMP` one
 * compound page.
 *
 * @param flags 0 or {@link ACR_FLAGS_CMA}
 * @param gfp only `__GFP_COMP` says something of the range; the rest, what may be done to empty it
 * @returns 0; −EBUSY where something in the range cannot be moved; −ENOMEM where it cannot for want of memory; −EINVAL
 *   for a range in which zones meet, or that is no block where it should be one
 * @linux mm/page_alloc.c:alloc_contig_range_noprof
 */
export function allocContigRange(pages: PageAlloc, start: Pfn, end: Pfn, flags: number, gfp: number): number {
  const zone = pages.zoneOf(start);
  if (zone === undefined || !(start < end) || end > zone.endPfn) return -Errno.EINVAL;
  const order = Math.log2(end - start);
  const compound = (gfp & __GFP_COMP) !== 0;
  if (compound && !(Number.isInteger(order) && order <= MAX_PAGE_ORDER && start % (end - start) === 0)) return -Errno.EINVAL;
  const mode = (flags & ACR_FLAGS_CMA) !== 0 ? PB_ISOLATE_MODE_CMA_ALLOC : PB_ISOLATE_MODE_OTHER;
  // Pages that wait for a list look as if they could not be moved.
  pages.hooks.migration?.drain();
  let error = startIsolatePageRange(pages, start, end, mode);
  if (error !== 0) return error;
  pages.drainAllPages(zone);
  error = migrateRange(pages, zone, start, end);
  if (error === 0 && !testPagesIsolated(zone, start, end)) error = -Errno.EBUSY;
  if (error === 0) takeRange(pages, zone, start, end, compound);
  undoIsolatePageRange(pages, start, end);
  return error;
}

/**
 * Takes one free frame out of the block it is in, with a reference.
 *
 * @returns whether it was free
 * @linux mm/page_alloc.c:take_page_off_buddy
 */
export function takePageOffBuddy(pages: PageAlloc, pfn: Pfn): boolean {
  const zone = pages.zoneOf(pfn);
  if (zone === undefined) return false;
  pages.drainAllPages(zone);
  if (!zone.takeAt(pfn, 0)) return false;
  prepNewPage(pages.frames, pfn, 0, false);
  pages.noteOwner(pfn, 0, GFP_KERNEL);
  return true;
}

/**
 * Finds `nrPages` frames in one piece that can be emptied, and allocates them as {@link allocContigRange} does.
 *
 * @param nid node to prefer
 * @returns the first frame; −ENOMEM
 * @linux mm/page_alloc.c:alloc_contig_pages_noprof
 */
export function allocContigPages(pages: PageAlloc, nrPages: number, gfp: number, nid: number): Pfn {
  const { zones, zonelists } = pages.nodes[nid];
  const kinds = zones.map(({ kind }) => kind);
  for (const zone of zonelists[kinds.indexOf(gfpZone(gfp, kinds))] ?? []) {
    const size = 2 ** Math.ceil(Math.log2(nrPages));
    for (let pfn = Math.ceil(zone.startPfn / size) * size; pfn + nrPages <= zone.endPfn; pfn += size) {
      if (!isRangeValid(pages, zone, pfn, nrPages)) continue;
      if (allocContigRange(pages, pfn, pfn + nrPages, 0, gfp) === 0) return pfn;
    }
  }
  return -Errno.ENOMEM;
}

/** Frees what {@link allocContigRange} or {@link allocContigPages} gave. @linux mm/page_alloc.c:free_contig_range_noprof */
export function freeContigRange(pages: PageAlloc, pfn: Pfn, nrPages: number): void {
  if (nrPages > 1 && blockOrder(pages.frames, pfn) > 0) {
    pages.putPage(pfn);
    return;
  }
  for (let frame = pfn; frame < pfn + nrPages; frame++) pages.freePage(frame);
}

/** Whether all frames of a range are of the zone and were ever the page allocator's. @linux mm/page_alloc.c:pfn_range_valid_contig */
function isRangeValid(pages: PageAlloc, zone: Zone, start: Pfn, nrPages: number): boolean {
  const { frames } = pages;
  for (let pfn = start; pfn < start + nrPages; pfn++) {
    const free = zone.freeOrderAt(pfn);
    if (free >= 0) {
      pfn += (1 << free) - 1;
      continue;
    }
    if (frames.refcount[compoundHead(frames, pfn)] === 0 && frameOwner(frames, pfn) !== OWNER_FREE) return false;
  }
  return true;
}

/** Moves what is in the range elsewhere. @returns 0, −EBUSY, −ENOMEM @linux mm/page_alloc.c:__alloc_contig_migrate_range */
function migrateRange(pages: PageAlloc, zone: Zone, start: Pfn, end: Pfn): number {
  const { migration } = pages.hooks;
  if (migration === undefined) return testPagesIsolated(zone, start, end) ? 0 : -Errno.EBUSY;
  const { nid } = zone;
  const getNewPage = (_: Pfn, order: number): Pfn =>
    pages.allocPagesNode(nid, (order > 0 ? GFP_TRANSHUGE : GFP_HIGHUSER_MOVABLE) | __GFP_RETRY_MAYFAIL, order);
  const list: Pfn[] = [];
  let pfn = start;
  let tries = 0;
  for (;;) {
    if (list.length === 0) {
      if (pfn >= end) return 0;
      pfn = isolateRange(pages, zone, migration, pfn, end, list);
      tries = 0;
      if (list.length === 0) continue;
    } else if (++tries === MIGRATE_TRIES) {
      migration.putback(list);
      return -Errno.EBUSY;
    }
    if (migration.migrate(list, getNewPage, MIGRATE_SYNC, MR_CONTIG_RANGE) === -Errno.ENOMEM) {
      migration.putback(list);
      return -Errno.ENOMEM;
    }
  }
}

/** Takes pages that can be moved off their lists, up to a cluster. @returns where to go on @linux mm/compaction.c:isolate_migratepages_range */
function isolateRange(pages: PageAlloc, zone: Zone, migration: MigrationOps, start: Pfn, end: Pfn, list: Pfn[]): Pfn {
  const { frames } = pages;
  let pfn = start;
  let isolated = 0;
  while (pfn < end && isolated < CLUSTER_PAGES) {
    const free = zone.freeOrderAt(pfn);
    if (free >= 0) {
      pfn += 1 << free;
      continue;
    }
    const head = compoundHead(frames, pfn);
    if (frames.refcount[head] === 0 || (frames.flags[head] & PG_LRU) === 0) {
      pfn++;
      continue;
    }
    const size = 1 << blockOrder(frames, head);
    if (migration.isolate(head)) {
      list.push(head);
      isolated += size;
    }
    pfn = head + size;
  }
  return pfn;
}

/** @linux mm/compaction.c:isolate_freepages_range, mm/page_alloc.c:split_free_frozen_pages */
function takeRange(pages: PageAlloc, zone: Zone, start: Pfn, end: Pfn, compound: boolean): void {
  for (let pfn = start; pfn < end; ) {
    let order = zone.freeOrderAt(pfn);
    while (pfn + (1 << order) > end) order--;
    zone.takeAt(pfn, order);
    pfn += 1 << order;
  }
  const order = compound ? Math.log2(end - start) : 0;
  for (let pfn = start; pfn < end; pfn += 1 << order) {
    prepNewPage(pages.frames, pfn, order, compound);
    pages.noteOwner(pfn, order, GFP_KERNEL);
  }
}
