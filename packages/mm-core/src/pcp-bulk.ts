/**
 * Moving pages between the per-CPU lists and the zone.
 */
import type { TraceRing } from '@pagelab/lib';
import { ALLOC_CMA, ALLOC_KSWAPD, ALLOC_NOFRAGMENT } from './alloc-flags.ts';
import { PAGEBLOCK_ORDER } from './page.ts';
import { NR_PCP_LISTS, pcpIndex, pcpOrder } from './pcp.ts';
import type { PerCpuPages } from './pcp.ts';
import type { Zone } from './zone.ts';

/** Refilling heeds these: reserves are not for stocking up. */
const BULK_FLAGS = ALLOC_CMA | ALLOC_NOFRAGMENT | ALLOC_KSWAPD;

/**
 * Takes a batch of blocks from the zone, in the order it gives them.
 *
 * @linux mm/page_alloc.c:rmqueue_bulk
 */
export function rmqueueBulk(zone: Zone, pcp: PerCpuPages, order: number, migratetype: number, allocFlags: number): void {
  const list = pcp.lists[pcpIndex(migratetype, order)];
  const batch = pcp.refillBatch(order, zone.belowHigh);
  for (let i = 0; i < batch; i++) {
    const pfn = zone.take(order, migratetype, allocFlags & BULK_FLAGS);
    if (pfn < 0) return;
    list.append(pfn);
    pcp.count += 1 << order;
  }
}

/**
 * Gives pages back to the zone: the oldest of each list, list by list from `first`.
 *
 * @param drained id of the tracepoint mm_page_pcpu_drain
 * @linux mm/page_alloc.c:free_pcppages_bulk
 */
export function freePcppagesBulk(
  zone: Zone,
  pcp: PerCpuPages,
  pages: number,
  first: number,
  blockTypes: Uint8Array,
  trace: TraceRing,
  drained: number,
): void {
  let left = Math.min(pages, pcp.count);
  let index = first;
  while (left > 0) {
    while (pcp.lists[index].count === 0) index = index + 1 === NR_PCP_LISTS ? 0 : index + 1;
    const list = pcp.lists[index];
    const order = pcpOrder(index);
    while (left > 0 && list.count > 0) {
      const pfn = list.shift();
      const type = blockTypes[pfn >>> PAGEBLOCK_ORDER];
      left -= 1 << order;
      pcp.count -= 1 << order;
      zone.give(pfn, order, type);
      if (trace.enabled) trace.emit(drained, pfn, order, type);
    }
  }
}
