/**
 * Taking free blocks out of a zone for compaction: pages that move go there.
 *
 * @linux mm/compaction.c
 */
import type { Pfn } from '@pagelab/hw';
import { ALLOC_CMA, WMARK_MIN } from './alloc-flags.ts';
import { isUpperHalf } from './compaction-control.ts';
import type { CompactControl } from './compaction-control.ts';
import { MIGRATE_MOVABLE, isMergeable } from './migratetype.ts';
import { PG_HEAD, blockOrder } from './page.ts';
import type { PageAlloc } from './page-alloc.ts';
import { VM_EVENT } from './vmstat.ts';
import type { Zone } from './zone.ts';

/**
 * Takes free blocks out of `[start, end)`, until there are as many pages as are to be moved.
 *
 * @param stride how many frames further it looks after one that is not free
 * @returns where to go on; `end` where all was scanned
 * @linux mm/compaction.c:isolate_freepages_block
 */
export function isolateFreepagesBlock(pages: PageAlloc, cc: CompactControl, start: Pfn, end: Pfn, stride: number): Pfn {
  const { zone } = cc;
  const { frames } = pages;
  let pfn = start;
  let isolated = 0;
  for (; pfn < end; pfn += stride) {
    cc.freeScanned++;
    const order = zone.freeOrderAt(pfn);
    if (order < 0 || isUpperHalf(pages, zone, pfn)) {
      if (order >= 0) {
        // Each frame is looked at, and none begins a block.
        const looks = Math.ceil((end - pfn) / stride);
        cc.freeScanned += looks - 1;
        pfn += (looks - 1) * stride;
        continue;
      }
      const size = (frames.flags[pfn] & PG_HEAD) === 0 ? 1 : 1 << blockOrder(frames, pfn);
      if (pfn + size <= end) {
        if (pages.compaction.countsSkipped) cc.freeScanned += size - 1;
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
export function isolateFreePage(pages: PageAlloc, zone: Zone, pfn: Pfn, order: number): boolean {
  if (!zone.watermarkOk(0, zone.wmarkPages(WMARK_MIN) + (1 << order), 0, ALLOC_CMA, zone.nrFree)) return false;
  if (!zone.takeAt(pfn, order)) return false;
  const { pageblockPages, pageblockOrder } = zone;
  // At least half a pageblock: it is going to hold what can be moved.
  const block = pfn & -pageblockPages;
  const whole = block >= zone.startPfn && block + pageblockPages <= zone.endPfn;
  const type = pages.pageblockType(pfn);
  if (order >= pageblockOrder - 1 && whole && isMergeable(type) && type !== MIGRATE_MOVABLE) zone.setBlockType(block, MIGRATE_MOVABLE);
  return true;
}
