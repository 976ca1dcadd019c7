/**
 * Demotion: what reclaim would take away goes to slower memory instead.
 *
 * @linux mm/vmscan.c:demote_folio_list
 */
import type { Pfn } from '@pagelab/hw';
import {
  GFP_HIGHUSER_MOVABLE,
  GFP_NOWAIT,
  MIGRATE_ASYNC,
  MR_DEMOTION,
  NODE_STAT,
  PG_ANON,
  PG_SWAPBACKED,
  VM_EVENT,
  __GFP_DIRECT_RECLAIM,
  __GFP_KSWAPD_RECLAIM,
  __GFP_NOMEMALLOC,
  __GFP_NOWARN,
  __GFP_THISNODE,
  folioNrPages,
} from '@pagelab/mm-core';
import { migratePages } from './migrate.ts';
import type { ScanControl } from './scan-control.ts';
import type { Vm } from './vm.ts';

const DEMOTE_GFP =
  (GFP_HIGHUSER_MOVABLE & ~(__GFP_DIRECT_RECLAIM | __GFP_KSWAPD_RECLAIM)) | __GFP_NOWARN | __GFP_NOMEMALLOC | GFP_NOWAIT;

/** The node that reclaim demotes pages of node `nid` to; −1 where it does not. @linux mm/vmscan.c:can_demote */
export function demotionTarget(vm: Vm, nid: number, sc: ScanControl): number {
  return sc.noDemotion ? -1 : vm.tiers.nextDemotionNode(nid);
}

/**
 * Moves pages that were isolated to a slower node. Those that are moved leave the list.
 *
 * @returns pages moved: so many came free on the node
 */
export function demoteFolios(vm: Vm, list: Pfn[], sc: ScanControl, from: number, to: number): number {
  const { pages } = vm;
  countIsolated(vm, list, 1);
  const before = pages.events[VM_EVENT.PGMIGRATE_SUCCESS];
  migratePages(vm, list, (_, order) => {
    const there = pages.allocPagesNode(to, DEMOTE_GFP | __GFP_THISNODE, order);
    return there >= 0 ? there : pages.allocPagesNode(to, DEMOTE_GFP, order, vm.tiers.slowerThan(from));
  }, MIGRATE_ASYNC, MR_DEMOTION);
  countIsolated(vm, list, -1);
  const demoted = pages.events[VM_EVENT.PGMIGRATE_SUCCESS] - before;
  pages.nodes[from].vmStat[NODE_STAT.PGDEMOTE_KSWAPD + sc.reclaimer] += demoted;
  return demoted;
}

/** Moving takes pages that were moved out of the count of isolated ones, which reclaim does itself. */
function countIsolated(vm: Vm, list: readonly Pfn[], sign: number): void {
  for (const pfn of list) {
    const item = (vm.frames.flags[pfn] & (PG_ANON | PG_SWAPBACKED)) !== 0 ? NODE_STAT.NR_ISOLATED_ANON : NODE_STAT.NR_ISOLATED_FILE;
    vm.pages.modNodeState(pfn, item, sign * folioNrPages(vm.frames, pfn));
  }
}
