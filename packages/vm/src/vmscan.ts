/**
 * Getting memory back for an allocation that needs it, and what that shares with kswapd (`kswapd.ts`).
 *
 * @linux mm/vmscan.c
 */
import type { Pfn } from '@pagelab/hw';
import {
  GFP_KERNEL,
  LRU_ACTIVE_ANON,
  LRU_ACTIVE_FILE,
  LRU_INACTIVE_ANON,
  LRU_INACTIVE_FILE,
  PAGE_ALLOC_COSTLY_ORDER,
  PF_MEMALLOC,
  PG_DIRTY,
  VM_EVENT,
  WMARK_MIN,
  ZONE_STAT,
  __GFP_FS,
} from '@pagelab/mm-core';
import type { Lruvec, NodeMask, PageAllocHooks, Zone } from '@pagelab/mm-core';
import { runKswapds, wakeKswapd } from './kswapd.ts';
import type { MemCgroup } from './memcg.ts';
import { memcgSwapPages } from './memcg-swap.ts';
import { relaxScan, shrinkNodeMemcgs } from './memcg-reclaim.ts';
import { nodeReclaim } from './node-reclaim.ts';
import { shadowShrinker } from './page-cache-nodes.ts';
import { endSwapWrites } from './page-io.ts';
import { nodeCompactionReady, shouldContinueReclaim } from './reclaim-compaction.ts';
import { DEF_PRIORITY, RECLAIMER_DIRECT, RECLAIMER_PROACTIVE, ScanControl } from './scan-control.ts';
import { newReclaimStat, shrinkFolioList } from './shrink-folio-list.ts';
import { isolateLru, putbackLru } from './swap.ts';
import { waitForSomeWriteback } from './folio-writeback.ts';
import { WRITEBACK_THROTTLE_NS } from './wake-flushers.ts';
import type { Vm } from './vm.ts';
import type { ReclaimNode } from './reclaim.ts';

/** Runs of kswapd without a page after which a node is given up. @linux mm/internal.h:MAX_RECLAIM_RETRIES */
export const MAX_RECLAIM_RETRIES = 16;

/** Pages of a zone that reclaim could free. @linux mm/vmscan.c:zone_reclaimable_pages */
export function zoneReclaimablePages(vm: Vm, zone: Zone): number {
  const { lru } = vm.pages;
  let pages = lru.zoneSize(zone, LRU_INACTIVE_FILE) + lru.zoneSize(zone, LRU_ACTIVE_FILE);
  if (canReclaimAnon(vm, zone.nid)) pages += lru.zoneSize(zone, LRU_INACTIVE_ANON) + lru.zoneSize(zone, LRU_ACTIVE_ANON);
  return pages;
}

/** Whether anonymous pages of a node, of a group or of all, have somewhere to go. @linux mm/vmscan.c:can_reclaim_anon_pages */
export function canReclaimAnon(vm: Vm, nid: number, memcg: MemCgroup | null = null): boolean {
  const slots = memcg === null ? vm.swap.nrFree : memcgSwapPages(vm, memcg);
  return slots > 0 || vm.tiers.nextDemotionNode(nid) >= 0;
}

/** Runs reclaim, whose own allocations may use all reserves and do not reclaim. */
export function runReclaim<T>(vm: Vm, run: () => T): T {
  const { pages } = vm;
  const saved = pages.currentFlags;
  pages.currentFlags |= PF_MEMALLOC;
  vm.reclaim.active = true;
  try {
    return run();
  } finally {
    vm.reclaim.active = false;
    pages.currentFlags = saved;
  }
}

/** Takes pages of one node, and objects of its caches. @linux mm/vmscan.c:shrink_node */
export function shrinkNode(vm: Vm, node: ReclaimNode, sc: ScanControl): void {
  const lruvec = (sc.target ?? vm.memcgs?.root)?.lruvecs[node.nid] ?? vm.pages.lru.lruvecs[node.nid];
  sc.anonCost = lruvec.anonCost;
  sc.fileCost = lruvec.fileCost;
  let before: number;
  do {
    before = sc.nrReclaimed;
    shrinkListsAndCaches(vm, node, lruvec, sc);
  } while (shouldContinueReclaim(vm, node, sc, sc.nrReclaimed - before));
}

/** @linux mm/vmscan.c:shrink_node_memcgs */
function shrinkListsAndCaches(vm: Vm, node: ReclaimNode, lruvec: Lruvec, sc: ScanControl): void {
  if (vm.memcgs === null) {
    vm.reclaim.policy.shrink(lruvec, sc);
    shrinkSlab(vm, node.nid, null, sc);
  } else {
    shrinkNodeMemcgs(vm, node.nid, sc, (memcg) => {
      vm.reclaim.policy.shrink(memcg.lruvecs[node.nid], sc);
      shrinkSlab(vm, node.nid, memcg.parent === null ? null : memcg, sc);
    });
  }
}

/** Takes objects of caches: those of a group, or (`null`) the root's and the machine's. What that gave back counts as reclaimed. @linux mm/shrinker.c:shrink_slab */
function shrinkSlab(vm: Vm, nid: number, memcg: MemCgroup | null, sc: ScanControl): void {
  const before = vm.pages.events[VM_EVENT.PGFREE];
  vm.slab.shrinkers.shrinkSlab(sc.gfp, nid, sc.priority, memcg);
  sc.nrReclaimed += vm.pages.events[VM_EVENT.PGFREE] - before;
}

// ---- direct reclaim

/**
 * Reclaims for an allocation that found no page.
 *
 * @param highest index of the highest zone that the allocation can use
 * @param nodes that it can use; `null` for all
 * @returns pages freed
 * @linux mm/vmscan.c:try_to_free_pages
 */
export function tryToFreePages(vm: Vm, gfp: number, order: number, nrToReclaim: number, highest: number, nodes: NodeMask | null = null): number {
  if (throttle(vm, gfp, highest, nodes?.nodes[0] ?? 0)) return 1;
  const sc = new ScanControl(nrToReclaim, gfp, order, highest, RECLAIMER_DIRECT);
  sc.nodes = nodes;
  return runReclaim(vm, () => doTryToFreePages(vm, sc));
}

/** @linux mm/vmscan.c:do_try_to_free_pages */
function doTryToFreePages(vm: Vm, sc: ScanControl): number {
  do {
    for (sc.priority = DEF_PRIORITY; sc.priority >= 0; sc.priority--) {
      sc.nrScanned = 0;
      shrinkNodes(vm, sc);
      if (sc.nrReclaimed >= sc.nrToReclaim || sc.compactionReady) break;
    }
    if (sc.nrReclaimed === 0 && sc.compactionReady) return 1;
    // What is on its way to the device can go when it has arrived. @linux mm/vmscan.c:reclaim_throttle
  } while (sc.nrReclaimed === 0 && (waitForSomeWriteback(vm, WRITEBACK_THROTTLE_NS) || relaxScan(sc, vm.memcgs !== null)));
  if (sc.nrReclaimed > 0 && sc.target === null) for (const node of vm.reclaim.nodes) node.kswapdFailures = 0;
  return sc.nrReclaimed;
}

/** Looks at each node that the allocation can use, but where it is compaction's turn. @linux mm/vmscan.c:shrink_zones */
function shrinkNodes(vm: Vm, sc: ScanControl): void {
  const isForCompaction = sc.target === null && sc.order > PAGE_ALLOC_COSTLY_ORDER;
  for (const node of vm.reclaim.nodes) {
    if (vm.pages.nodes[node.nid].present === 0 || sc.nodes?.has(node.nid) === false) continue;
    if (!isForCompaction || !nodeCompactionReady(vm, node, sc)) shrinkNode(vm, node, sc);
  }
}

/** Reclaims of a group and those below it. @returns pages freed */
export function reclaimGroup(vm: Vm, sc: ScanControl): number {
  const before = vm.reclaim.target;
  vm.reclaim.target = sc.target!.parent === null ? null : sc.target;
  const reclaimed = runReclaim(vm, () => doTryToFreePages(vm, sc));
  vm.reclaim.target = before;
  return reclaimed;
}

/**
 * Where the reserves run low, an allocation waits for kswapd: it runs here. Costs the same as kswapd's run.
 *
 * @returns whether that has helped: the allocation may be tried again
 * @linux mm/vmscan.c:throttle_direct_reclaim
 */
function throttle(vm: Vm, gfp: number, highest: number, nid: number): boolean {
  if (allowDirectReclaim(vm, highest, nid)) return false;
  const node = vm.reclaim.nodes[nid];
  if (node.kswapdFailures >= MAX_RECLAIM_RETRIES || (gfp & __GFP_FS) === 0) return false;
  vm.pages.events[VM_EVENT.PGSCAN_DIRECT_THROTTLE]++;
  node.kswapdPending = true;
  node.kswapdHighestZone = Math.max(node.kswapdHighestZone, highest);
  const before = vm.pages.nrFreePages();
  vm.reclaim.active = false;
  runKswapds(vm, true);
  return vm.pages.nrFreePages() > before;
}

/** Whether at least half of the reserves is there. @linux mm/vmscan.c:allow_direct_reclaim */
function allowDirectReclaim(vm: Vm, highest: number, nid: number): boolean {
  let reserve = 0;
  let free = 0;
  for (const zone of vm.pages.nodes[nid].zones) {
    if (zone.managed === 0 || zone.index > highest || zoneReclaimablePages(vm, zone) === 0) continue;
    reserve += zone.wmarkPages(WMARK_MIN);
    free += zone.state(ZONE_STAT.NR_FREE_PAGES);
  }
  return reserve === 0 || free > reserve / 2;
}

/** Lets the page allocator ask for memory here. */
export function installReclaim(vm: Vm, hooks: PageAllocHooks): void {
  hooks.wakeKswapd = (zone, order, gfp) => {
    wakeKswapd(vm, zone, order, gfp);
  };
  hooks.directReclaim = (gfp, order, nrToReclaim, nodes) => tryToFreePages(vm, gfp, order, nrToReclaim, vm.pages.gfpZoneIndex(gfp), nodes);
  vm.reclaim.outOfMemory = (gfp) => {
    hooks.outOfMemory?.(gfp, 0, null);
  };
  hooks.nodeReclaim = (zone, gfp, order, localNid) => nodeReclaim(vm, zone, gfp, order, localNid);
  vm.slab.shrinkers.register(shadowShrinker(vm));
  hooks.zoneReclaimablePages = (zone) => zoneReclaimablePages(vm, zone);
}

// ---- on request

/**
 * Takes given pages away, as far as possible, however recently they were used: for MADV_PAGEOUT.
 *
 * @param pfns pages on LRU lists
 * @returns pages freed
 * @linux mm/vmscan.c:reclaim_pages
 */
export function reclaimPages(vm: Vm, pfns: readonly Pfn[]): number {
  const list = pfns.filter((pfn) => isolateLru(vm, pfn));
  const sc = new ScanControl(list.length, GFP_KERNEL, 0, 4, RECLAIMER_PROACTIVE);
  sc.noDemotion = true;
  const stat = newReclaimStat();
  const pending: Pfn[] = [];
  let freed = runReclaim(vm, () => shrinkFolioList(vm, list, sc, stat, pending, false));
  // What was written can go now: the device was not waited for before. It is in the order of the list.
  const clean: Pfn[] = [];
  const rest: Pfn[] = [];
  let nrWritten = 0;
  for (const pfn of list) {
    const isWritten = pending[nrWritten] === pfn;
    if (isWritten) nrWritten++;
    (isWritten && (vm.frames.flags[pfn] & PG_DIRTY) === 0 ? clean : rest).push(pfn);
  }
  endSwapWrites(vm, pending);
  freed += runReclaim(vm, () => shrinkFolioList(vm, clean, sc, stat, pending, false));
  for (const pfn of [...rest, ...clean]) putbackLru(vm, pfn);
  endSwapWrites(vm, pending);
  return freed;
}
