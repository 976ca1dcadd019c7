/**
 * Reclaim for a block of several pages: single pages are taken until compaction can put them together, and no more.
 *
 * @linux mm/vmscan.c
 */
import {
  LRU_INACTIVE_ANON,
  LRU_INACTIVE_FILE,
  PAGE_ALLOC_COSTLY_ORDER,
  WMARK_HIGH,
  WMARK_MIN,
  __GFP_IO,
  compactGap,
  compactionSuitable,
} from '@pagelab/mm-core';
import type { Zone } from '@pagelab/mm-core';
import type { ReclaimNode } from './reclaim.ts';
import { DEF_PRIORITY } from './scan-control.ts';
import type { ScanControl } from './scan-control.ts';
import type { Vm } from './vm.ts';
import { canReclaimAnon } from './vmscan.ts';

/** Whether pages are taken for compaction's sake: at once for a large block, and for a small one when there is trouble. @linux mm/vmscan.c:in_reclaim_compaction */
function inReclaimCompaction(sc: ScanControl): boolean {
  if ((sc.gfp & __GFP_IO) === 0 || sc.order === 0) return false;
  return sc.order > PAGE_ALLOC_COSTLY_ORDER || sc.priority < DEF_PRIORITY - 2;
}

/**
 * Whether a node gets another look at the same priority: the last one brought something, compaction still lacks pages, and
 * there are enough that may go.
 *
 * @param reclaimed pages that the last look has brought
 * @linux mm/vmscan.c:should_continue_reclaim
 */
export function shouldContinueReclaim(vm: Vm, { nid }: ReclaimNode, sc: ScanControl, reclaimed: number): boolean {
  if (!inReclaimCompaction(sc) || reclaimed === 0 || (sc.target === null && vm.reclaim.policy.countsForCompaction === true)) return false;
  for (const zone of vm.pages.nodes[nid].zones) {
    if (zone.managed > 0 && zone.index <= sc.reclaimIdx && hasOrCanMakeBlock(vm, zone, sc, WMARK_MIN)) return false;
  }
  const { lru } = vm.pages;
  let inactive = lru.size(nid, LRU_INACTIVE_FILE);
  if (canReclaimAnon(vm, nid, sc.target)) inactive += lru.size(nid, LRU_INACTIVE_ANON);
  return inactive > compactGap(sc.order);
}

/**
 * Whether there are enough free pages for compaction in all zones of a node that an allocation can use: it is left alone.
 * `sc.compactionReady` says whether there are in any.
 *
 * @linux mm/vmscan.c:compaction_ready
 */
export function nodeCompactionReady(vm: Vm, { nid }: ReclaimNode, sc: ScanControl): boolean {
  if ((sc.gfp & __GFP_IO) === 0) return false;
  let all = true;
  for (const zone of vm.pages.nodes[nid].zones) {
    if (zone.managed === 0 || zone.index > sc.reclaimIdx) continue;
    if (hasOrCanMakeBlock(vm, zone, sc, WMARK_HIGH)) sc.compactionReady = true;
    else all = false;
  }
  return all;
}

/** @param mark what is to remain when compaction begins */
function hasOrCanMakeBlock({ pages }: Vm, zone: Zone, { order, reclaimIdx }: ScanControl, mark: number): boolean {
  if (zone.watermarkOk(order, zone.wmarkPages(WMARK_MIN), reclaimIdx, 0, zone.nrFree)) return true;
  return compactionSuitable(pages, zone, order, zone.wmarkPages(mark), reclaimIdx);
}
