/**
 * The migration scanner of compaction: it looks from the bottom of a zone for pages that can be moved.
 *
 * @linux mm/compaction.c
 */
import type { Pfn } from '@pagelab/hw';
import {
  COMPACT_ALL,
  COMPACT_CLUSTER_MAX,
  hasPageblock,
  isMovableBlock,
  isSkippedForGood,
  isUpperHalf,
  isolationSuitable,
  setPageblockSkip,
  testAndSetSkip,
  updateCachedMigrate,
} from './compaction-control.ts';
import type { CompactControl } from './compaction-control.ts';
import { fastFindMigrateblock } from './compaction-fast.ts';
import { __GFP_FS } from './gfp.ts';
import { MIGRATE_MOVABLE } from './migratetype.ts';
import { MIGRATE_ASYNC, MIGRATE_SYNC } from './migration-ops.ts';
import type { MigrationOps } from './migration-ops.ts';
import { PG_ANON, PG_HEAD, PG_LRU, PG_SWAPCACHE, PG_TAIL, PG_UNEVICTABLE, PG_WRITEBACK, blockOrder } from './page.ts';
import type { PageAlloc } from './page-alloc.ts';
import { VM_EVENT } from './vmstat.ts';

/**
 * Isolates pages of the next pageblock that has any: up to a cluster of them.
 *
 * @returns whether some were isolated
 * @linux mm/compaction.c:isolate_migratepages
 */
export function isolateMigratepages(pages: PageAlloc, migration: MigrationOps, cc: CompactControl): boolean {
  const { zone } = cc;
  const { pageblockPages } = zone;
  let low = fastFindMigrateblock(pages, cc);
  // That has looked at the pageblock's hint.
  let isFound = low !== cc.migratePfn && cc.fastSearchFail === 0;
  let blockStart = Math.max(low & -pageblockPages, zone.startPfn);
  let blockEnd = (low & -pageblockPages) + pageblockPages;
  while (blockEnd <= cc.freePfn) {
    if (hasPageblock(pages, zone, blockStart, blockEnd)) {
      const isFirst = low % pageblockPages === 0 || low === zone.startPfn;
      if (!isFirst || isFound || isolationSuitable(pages, cc, low)) {
        if (suitableMigrationSource(pages, cc, blockStart)) {
          isolateMigratepagesBlock(pages, migration, cc, low, blockEnd);
          break;
        }
        updateCachedMigrate(cc, blockEnd);
      }
    }
    isFound = false;
    cc.migratePfn = low = blockStart = blockEnd;
    blockEnd += pageblockPages;
  }
  return cc.nrMigratePages > 0;
}

/** An allocation that waits for nothing only looks where pages of its own kind are. @linux mm/compaction.c:suitable_migration_source */
function suitableMigrationSource(pages: PageAlloc, cc: CompactControl, block: Pfn): boolean {
  if (isSkippedForGood(pages, block)) return false;
  if (cc.mode !== MIGRATE_ASYNC || !cc.direct) return true;
  const type = pages.pageblockType(block);
  return cc.migratetype === MIGRATE_MOVABLE ? isMovableBlock(type) : type === cc.migratetype;
}

/** @linux mm/compaction.c:isolate_migratepages_block */
function isolateMigratepagesBlock(pages: PageAlloc, migration: MigrationOps, cc: CompactControl, low: Pfn, end: Pfn): void {
  const { zone, order } = cc;
  const { frames } = pages;
  const { countsSkipped } = pages.compaction;
  // One page that stays spoils the block that is wanted: the others need not be moved then.
  const skipOnFailure = cc.direct && cc.mode === MIGRATE_ASYNC;
  let nextSkip = skipOnFailure ? blockEnd(low, order) : end;
  // The hint is seen to once, by who comes to the pageblock's start.
  let seesToSkip = low % zone.pageblockPages === 0 || low === zone.startPfn;
  const notesSkip = seesToSkip;
  let isolated = 0;
  let pfn = low;
  cc.migratePfn = low;
  for (; pfn < end; pfn++) {
    if (skipOnFailure && pfn >= nextSkip) {
      if (isolated > 0) break;
      nextSkip = blockEnd(pfn, order);
    }
    cc.migrateScanned++;
    const free = zone.freeOrderAt(pfn);
    if (free >= 0) {
      const rest = (1 << free) - 1;
      if (countsSkipped || isUpperHalf(pages, zone, pfn)) cc.migrateScanned += rest;
      pfn += rest;
      continue;
    }
    const size = 1 << blockOrder(frames, pfn);
    if (mayIsolate(pages, cc, pfn) && migration.isolate(pfn, true)) {
      cc.migratePages.push(pfn);
      if (seesToSkip) {
        seesToSkip = false;
        if (testAndSetSkip(pages, cc, low) && !cc.finishPageblock) {
          // Somebody else is at it.
          migration.putback([cc.migratePages.pop()!]);
          pfn = end;
          break;
        }
      }
      cc.nrMigratePages += size;
      cc.migrateScanned += size - 1;
      isolated += size;
      pfn += size - 1;
      if (cc.nrMigratePages < COMPACT_CLUSTER_MAX || cc.finishPageblock) continue;
      pfn++;
      break;
    }
    if (size > 1 && (frames.flags[pfn] & PG_HEAD) !== 0) {
      if (countsSkipped) cc.migrateScanned += size - 1;
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
    if (notesSkip && seesToSkip) setPageblockSkip(pages, low);
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
    if (!pages.compaction.movesLarge || (cc.order !== COMPACT_ALL && order >= cc.order) || order >= pages.pageblockOrder) return false;
  }
  if ((pageFlags & PG_LRU) === 0) return false;
  const hasMapping = (pageFlags & PG_SWAPCACHE) !== 0 || ((pageFlags & PG_ANON) === 0 && mapping[pfn] !== 0);
  if (!hasMapping && (pageFlags & PG_HEAD) === 0 && refcount[pfn] > mapcount[pfn]) return false;
  // Files may need locks that whoever asks holds.
  if (hasMapping && (cc.gfp & __GFP_FS) === 0) return false;
  if ((pageFlags & PG_UNEVICTABLE) !== 0 && !pages.compaction.unevictableAllowed) return false;
  return cc.mode === MIGRATE_SYNC || (pageFlags & PG_WRITEBACK) === 0;
}

/** One past the block of `order` that holds a frame. */
function blockEnd(pfn: Pfn, order: number): Pfn {
  return (pfn & -(1 << order)) + (1 << order);
}
