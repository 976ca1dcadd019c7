/**
 * Which node a page belongs to, and the counters of slab memory there.
 */
import type { Pfn } from '@pagelab/hw';
import { NODE_STAT } from '@pagelab/mm-core';
import type { PageAlloc } from '@pagelab/mm-core';
import { SLAB_RECLAIM_ACCOUNT } from './flags.ts';

/** Adds `nrPages` (negative: takes off) to the node of `pfn`. @linux mm/slub.c:account_slab */
export function accountSlabPages(pages: PageAlloc, pfn: Pfn, flags: number, nrPages: number): void {
  const reclaimable = (flags & SLAB_RECLAIM_ACCOUNT) !== 0;
  pages.modNodeState(pfn, reclaimable ? NODE_STAT.NR_SLAB_RECLAIMABLE : NODE_STAT.NR_SLAB_UNRECLAIMABLE, nrPages);
}

/** Number of the node that page `pfn`, which is in use, is on. @linux include/linux/mm.h:page_to_nid */
export function nodeOfPage(pages: PageAlloc, pfn: Pfn): number {
  return pages.nodes.length === 1 ? 0 : (pages.zoneOf(pfn)?.nid ?? 0);
}
