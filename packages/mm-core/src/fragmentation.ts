/**
 * How scattered free memory is.
 */
import { MAX_PAGE_ORDER, NR_PAGE_ORDERS } from './page.ts';
import type { Zone } from './zone.ts';

interface ContigPageInfo {
  readonly freePages: number;
  readonly freeBlocks: number;
  /** Blocks of the wanted order that the free blocks hold. */
  readonly suitable: number;
}

/** @linux mm/vmstat.c:fill_contig_page_info */
function contigPageInfo(zone: Zone, wanted: number): ContigPageInfo {
  let freePages = 0;
  let freeBlocks = 0;
  let suitable = 0;
  for (let order = 0; order < NR_PAGE_ORDERS; order++) {
    const blocks = zone.nrFreeBlocks(order);
    freeBlocks += blocks;
    freePages += blocks * 2 ** order;
    if (order >= wanted) suitable += blocks * 2 ** (order - wanted);
  }
  return { freePages, freeBlocks, suitable };
}

/**
 * Why a block of `order` cannot be had, in thousandths: towards 0 for want of memory, towards 1000 because what is free is
 * scattered; −1000 where it can be had.
 *
 * @linux mm/vmstat.c:__fragmentation_index
 */
export function extfragIndex(zone: Zone, order: number): number {
  if (order > MAX_PAGE_ORDER) return 0;
  const { freePages, freeBlocks, suitable } = contigPageInfo(zone, order);
  if (freeBlocks === 0) return 0;
  if (suitable > 0) return -1000;
  return 1000 - Math.floor((1000 + Math.floor((freePages * 1000) / 2 ** order)) / freeBlocks);
}

/**
 * How much of the free memory lies in blocks smaller than `order`, in percent.
 *
 * @linux mm/vmstat.c:extfrag_for_order
 */
export function extfragForOrder(zone: Zone, order: number): number {
  const { freePages, suitable } = contigPageInfo(zone, order);
  return freePages === 0 ? 0 : Math.floor(((freePages - suitable * 2 ** order) * 100) / freePages);
}

/**
 * How much of the free memory is of no use for blocks of `order`, in thousandths.
 *
 * @linux mm/vmstat.c:unusable_free_index
 */
export function unusableIndex(zone: Zone, order: number): number {
  const { freePages, suitable } = contigPageInfo(zone, order);
  if (freePages === 0) return 1000;
  return Math.floor(((freePages - suitable * 2 ** order) * 1000) / freePages);
}
