/**
 * The free scanner of compaction: it looks from the top of a zone for free pages to move others to.
 *
 * @linux mm/compaction.c
 */
import { Errno } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { COMPACT_CLUSTER_MAX, hasPageblock, isMovableBlock, isUpperHalf, isolationSuitable, updatePageblockSkip } from './compaction-control.ts';
import type { CompactControl } from './compaction-control.ts';
import { fastIsolateFreepages } from './compaction-fast.ts';
import { isolateFreepagesBlock } from './compaction-isolate.ts';
import { __GFP_MOVABLE } from './gfp.ts';
import { MIGRATE_ASYNC } from './migration-ops.ts';
import { NR_PAGE_ORDERS } from './page.ts';
import type { PageAlloc } from './page-alloc.ts';
import { prepNewPage } from './prep-page.ts';

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
  fastIsolateFreepages(pages, cc);
  if (cc.nrFreePages > 0) return;
  const { zone } = cc;
  const { pageblockPages } = zone;
  let start = cc.freePfn;
  let block = start & -pageblockPages;
  let end = Math.min(block + pageblockPages, zone.endPfn);
  const low = (cc.migratePfn & -pageblockPages) + pageblockPages;
  let stride = cc.mode === MIGRATE_ASYNC ? COMPACT_CLUSTER_MAX : 1;
  for (; block >= low; end = block, block -= pageblockPages, start = block) {
    if (!hasPageblock(pages, zone, block, end)) continue;
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
  if (free >= (cc.order > 0 ? cc.order : pages.pageblockOrder) && !isUpperHalf(pages, cc.zone, block)) return false;
  return cc.ignoreBlockSuitable || isMovableBlock(pages.pageblockType(block));
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
