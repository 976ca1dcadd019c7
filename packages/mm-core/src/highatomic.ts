/**
 * Pageblocks kept for urgent allocations of more than a page: about 1 % of a zone, taken as such allocations succeed, and
 * given up when nothing else is left.
 */
import type { Pfn } from '@pagelab/hw';
import type { AllocContext } from './freelist.ts';
import { MIGRATE_HIGHATOMIC, MIGRATE_PCPTYPES, isMergeable } from './migratetype.ts';
import { NR_PAGE_ORDERS } from './page.ts';
import type { PageAlloc } from './page-alloc.ts';
import type { Zone } from './zone.ts';

/**
 * Keeps the pageblock of a block just allocated.
 *
 * @linux mm/page_alloc.c:reserve_highatomic_pageblock
 */
export function reserveHighatomicPageblock(pages: PageAlloc, zone: Zone, pfn: Pfn, order: number): void {
  const { pageblockOrder, pageblockPages } = zone;
  const percent = Math.floor(zone.managed / 100);
  if (percent < pageblockPages) return;
  if (zone.nrReservedHighatomic >= Math.ceil(percent / pageblockPages) * pageblockPages) return;
  const start = pfn & -pageblockPages;
  const type = pages.pageblockType(start);
  if (!isMergeable(type)) return;
  if (start < zone.startPfn || start + pageblockPages > zone.endPfn) return;
  const wholeOrder = Math.max(order, pageblockOrder);
  zone.nrReservedHighatomic += 1 << wholeOrder;
  zone.setBlockType(start, MIGRATE_HIGHATOMIC, wholeOrder);
}

/**
 * Gives one pageblock of the reserve up, to the type the allocation is of.
 *
 * @param force also where it is the last of its zone
 * @returns whether pages came free by it
 * @linux mm/page_alloc.c:unreserve_highatomic_pageblock
 */
export function unreserveHighatomicPageblock(pages: PageAlloc, context: AllocContext, force: boolean): boolean {
  const { pageblockOrder, pageblockPages } = pages;
  for (const zone of context.zonelist) {
    if (zone.nrReservedHighatomic === 0 || (!force && zone.nrReservedHighatomic <= pageblockPages)) continue;
    for (let order = 0; order < NR_PAGE_ORDERS; order++) {
      if (zone.allocator.nrFreeBlocks(order, MIGRATE_HIGHATOMIC) === 0) continue;
      const block = firstOfType(pages, zone, order);
      if (block < 0) continue;
      const to = context.migratetype < MIGRATE_PCPTYPES ? context.migratetype : 0;
      const wholeOrder = Math.max(order, pageblockOrder);
      zone.nrReservedHighatomic = Math.max(0, zone.nrReservedHighatomic - (1 << wholeOrder));
      const moved = zone.setBlockType(block & -pageblockPages, to, wholeOrder);
      if (moved > 0) return true;
    }
  }
  return false;
}

/** A free block of the reserve of this order, or −1. What the page allocator says of it is checked. */
function firstOfType(pages: PageAlloc, zone: Zone, order: number): Pfn {
  let found = -1;
  zone.allocator.forEachFree((pfn, blockOrder) => {
    if (found >= 0 || blockOrder !== order || pages.pageblockType(pfn) !== MIGRATE_HIGHATOMIC) return;
    if (pfn >= zone.startPfn && pfn + (1 << order) <= zone.endPfn) found = pfn;
  });
  return found;
}
