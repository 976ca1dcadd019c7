/**
 * Moving pages between the per-CPU lists and the zone.
 */
import type { Pfn } from '@pagelab/hw';
import type { TraceRing } from '@pagelab/lib';
import { ALLOC_CMA, ALLOC_KSWAPD, ALLOC_NOFRAGMENT, WMARK_HIGH } from './alloc-flags.ts';
import type { RunningCpu } from './page-allocator.ts';
import { NR_PCP_LISTS, pcpIndex, pcpOrder } from './pcp.ts';
import type { PerCpuPages } from './pcp.ts';
import type { Zone } from './zone.ts';

/** Refilling heeds these: reserves are not for stocking up. */
const BULK_FLAGS = ALLOC_CMA | ALLOC_NOFRAGMENT | ALLOC_KSWAPD;

/** What is to be known of the machine's pageblocks. */
interface Pageblocks {
  readonly blockTypes: Uint8Array;
  readonly pageblockOrder: number;
}

/** The per-CPU lists' traffic with their zones. */
export class PcpMoves {
  private readonly smp: RunningCpu;
  private readonly blockTypes: Uint8Array;
  private readonly pageblockOrder: number;
  private readonly trace: TraceRing;
  private readonly traceDrain: number;

  constructor(smp: RunningCpu, { blockTypes, pageblockOrder }: Pageblocks, trace: TraceRing) {
    this.smp = smp;
    this.blockTypes = blockTypes;
    this.pageblockOrder = pageblockOrder;
    this.trace = trace;
    this.traceDrain = trace.define('mm_page_pcpu_drain', ['pfn', 'order', 'migratetype']);
  }

  /** Takes a block from the running CPU's list, which is refilled where it is empty; −1 where the zone has none. @linux mm/page_alloc.c:__rmqueue_pcplist */
  take(zone: Zone, order: number, migratetype: number, allocFlags: number): Pfn {
    const pcp = zone.pcp[this.smp.processorId];
    const list = pcp.lists[pcpIndex(migratetype, order)];
    pcp.freeCount >>= 1;
    if (list.count === 0) {
      zone.addHits(pcp);
      rmqueueBulk(zone, pcp, order, migratetype, allocFlags);
      if (list.count === 0) return -1;
    }
    pcp.count -= 1 << order;
    return list.pop();
  }

  /** Gives pages back where the running CPU has more than it should, after one more was put on list `index`. */
  commit(zone: Zone, index: number, order: number): void {
    const pcp = zone.pcp[this.smp.processorId];
    const toFree = pcp.pagesToFree(order, zone.belowHigh, zone.reclaimActive);
    if (toFree === 0) return;
    this.give(zone, pcp, toFree, index);
    if (zone.belowHigh && zone.watermarkOk(0, zone.wmarkPages(WMARK_HIGH), 0, 0, zone.nrFree)) zone.belowHigh = false;
  }

  /** Gives all pages of a CPU back. @linux mm/page_alloc.c:drain_pages_zone */
  drain(zone: Zone, cpu: number): void {
    this.give(zone, zone.pcp[cpu], Infinity, 0);
    zone.pcp[cpu].startSmall();
  }

  /**
   * What each CPU does to its lists every second or so: since 6.7 they shrink again, and those of far memory that have been idle
   * give a batch back.
   *
   * @param isFar whether a zone is on another node than a CPU
   * @linux mm/vmstat.c:refresh_cpu_vm_stats
   */
  refresh(zones: readonly Zone[], decays: boolean, isFar: (zone: Zone, cpu: number) => boolean): void {
    for (const zone of zones) {
      for (let cpu = 0; cpu < zone.pcp.length; cpu++) {
        const pcp = zone.pcp[cpu];
        if (decays) this.give(zone, pcp, pcp.decayHigh(), 0);
        if (pcp.count > 0 && isFar(zone, cpu) && pcp.isIdle()) this.give(zone, pcp, Math.min(pcp.count, pcp.batch), 0);
      }
    }
  }

  /** The oldest pages of each list, list by list from `first`. @linux mm/page_alloc.c:free_pcppages_bulk */
  private give(zone: Zone, pcp: PerCpuPages, pages: number, first: number): void {
    const trace = this.trace;
    let left = Math.min(pages, pcp.count);
    let index = first;
    while (left > 0) {
      while (pcp.lists[index].count === 0) index = index + 1 === NR_PCP_LISTS ? 0 : index + 1;
      const list = pcp.lists[index];
      const order = pcpOrder(index, this.pageblockOrder);
      while (left > 0 && list.count > 0) {
        const pfn = list.shift();
        const type = this.blockTypes[pfn >>> this.pageblockOrder];
        left -= 1 << order;
        pcp.count -= 1 << order;
        zone.give(pfn, order, type);
        if (trace.enabled) trace.emit(this.traceDrain, pfn, order, type);
      }
    }
  }
}

/**
 * Takes a batch of blocks from the zone, in the order it gives them.
 *
 * @linux mm/page_alloc.c:rmqueue_bulk
 */
function rmqueueBulk(zone: Zone, pcp: PerCpuPages, order: number, migratetype: number, allocFlags: number): void {
  const list = pcp.lists[pcpIndex(migratetype, order)];
  const batch = pcp.refillBatch(order, zone.belowHigh);
  for (let i = 0; i < batch; i++) {
    const pfn = zone.take(order, migratetype, allocFlags & BULK_FLAGS);
    if (pfn < 0) return;
    list.append(pfn);
    pcp.count += 1 << order;
  }
}
