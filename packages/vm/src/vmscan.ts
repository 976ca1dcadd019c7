/**
 * Getting memory back: by kswapd when a zone falls below its low watermark, and by the allocation itself where that is
 * not enough.
 *
 * kswapd is no task here: it runs at once in the allocation that wakes it, where that may sleep, and otherwise at the next
 * one that may, or at the next return to user mode.
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
  PF_MEMALLOC,
  PG_DIRTY,
  VM_EVENT,
  WMARK_HIGH,
  WMARK_MIN,
  WMARK_PROMO,
  ZONE_STAT,
  __GFP_DIRECT_RECLAIM,
  __GFP_FS,
  resetIsolationSuitableNode,
} from '@pagelab/mm-core';
import type { PageAllocHooks, Zone } from '@pagelab/mm-core';
import { NUMA_BALANCING_MEMORY_TIERING } from './numa-balancing.ts';
import { endSwapWrites } from './page-io.ts';
import { DEF_PRIORITY, RECLAIMER_DIRECT, RECLAIMER_KSWAPD, RECLAIMER_PROACTIVE, SWAP_CLUSTER_MAX, ScanControl } from './scan-control.ts';
import { newReclaimStat, shrinkFolioList } from './shrink-folio-list.ts';
import { isolateLru, putbackLru } from './swap.ts';
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

/** Whether anonymous pages have somewhere to go. @linux mm/vmscan.c:can_reclaim_anon_pages */
export function canReclaimAnon(vm: Vm, nid: number): boolean {
  return vm.swap.nrFree > 0 || vm.tiers.nextDemotionNode(nid) >= 0;
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
function shrinkNode(vm: Vm, node: ReclaimNode, sc: ScanControl): void {
  const lruvec = vm.pages.lru.lruvecs[node.nid];
  sc.anonCost = lruvec.anonCost;
  sc.fileCost = lruvec.fileCost;
  vm.reclaim.policy.shrink(lruvec, sc);
  const before = vm.pages.events[VM_EVENT.PGFREE];
  vm.slab.shrinkers.shrinkSlab(sc.gfp, node.nid, sc.priority);
  // What caches gave back counts as reclaimed.
  sc.nrReclaimed += vm.pages.events[VM_EVENT.PGFREE] - before;
}

// ---- kswapd

/** Asks for the node's kswapd, and runs it where that is possible now. @linux mm/vmscan.c:wakeup_kswapd */
export function wakeKswapd(vm: Vm, zone: Zone, order: number, gfp: number): void {
  const node = vm.reclaim.nodes[zone.nid];
  node.kswapdHighestZone = Math.max(node.kswapdHighestZone, zone.index);
  node.kswapdOrder = Math.max(node.kswapdOrder, order);
  // A node where nothing can be had is left alone, unless a boost is all that it is for.
  if (node.kswapdFailures >= MAX_RECLAIM_RETRIES) {
    if (zone.watermarkBoost > 0) zone.setWatermarkBoost(0);
    wakeKcompactd(vm, node, order, zone.index, gfp);
    return;
  }
  if (isBalanced(vm, node, node.kswapdOrder, node.kswapdHighestZone) && !isBoosted(vm, node)) {
    wakeKcompactd(vm, node, order, zone.index, gfp);
    return;
  }
  node.kswapdPending = true;
  vm.reclaim.kswapdPending = true;
  const { pages } = vm;
  if ((gfp & __GFP_DIRECT_RECLAIM) === 0 || (pages.currentFlags & PF_MEMALLOC) !== 0 || pages.atomicDepth > 0) return;
  runKswapds(vm);
}

/** There may be enough memory that is only scattered: who cannot compact it now has kcompactd do so. */
function wakeKcompactd(vm: Vm, node: ReclaimNode, order: number, highest: number, gfp: number): void {
  if ((gfp & __GFP_DIRECT_RECLAIM) === 0) vm.pages.kcompactd[node.nid].wake(order, highest);
}

/** Runs the kswapds that were woken. @linux mm/vmscan.c:kswapd */
export function runKswapds(vm: Vm): void {
  if (vm.reclaim.active) return;
  vm.reclaim.kswapdPending = false;
  for (const node of vm.reclaim.nodes) {
    if (!node.kswapdPending) continue;
    const { kswapdOrder: order, kswapdHighestZone: highest } = node;
    node.kswapdPending = false;
    node.kswapdOrder = 0;
    node.kswapdHighestZone = 0;
    runReclaim(vm, () => {
      balanceNode(vm, node, order, highest);
    });
  }
}

/** Whether one of the zones up to the highest has as much free as its high watermark asks, or its promo watermark. @linux mm/vmscan.c:pgdat_balanced */
function isBalanced(vm: Vm, node: ReclaimNode, order: number, highest: number): boolean {
  // What shall come up from slower memory needs room.
  const mark = (vm.numa.mode & NUMA_BALANCING_MEMORY_TIERING) !== 0 ? WMARK_PROMO : WMARK_HIGH;
  let some = false;
  for (const zone of vm.pages.nodes[node.nid].zones) {
    if (zone.index > highest || zone.managed === 0) continue;
    some = true;
    if (zone.watermarkOk(order, zone.watermark[mark], highest, 0, zone.nrFree)) return true;
  }
  return !some;
}

function isBoosted(vm: Vm, node: ReclaimNode): boolean {
  return vm.pages.nodes[node.nid].zones.some((zone) => zone.watermarkBoost > 0);
}

/** @linux mm/vmscan.c:balance_pgdat */
function balanceNode(vm: Vm, node: ReclaimNode, order: number, highest: number): void {
  const { events, nodes } = vm.pages;
  const zones = nodes[node.nid].zones.filter((zone) => zone.managed > 0 && zone.index <= highest);
  events[VM_EVENT.PAGEOUTRUN]++;
  const boosts = zones.map((zone) => zone.watermarkBoost);
  let boost = boosts.reduce((sum, pages) => sum + pages, 0);
  const boosted = boost;
  const sc = new ScanControl(0, GFP_KERNEL, order, highest, RECLAIMER_KSWAPD);
  for (const zone of zones) zone.reclaimActive = true;
  restart: for (;;) {
    sc.priority = DEF_PRIORITY;
    while (sc.priority >= 1) {
      const balanced = isBalanced(vm, node, sc.order, highest);
      if (!balanced && boost > 0) {
        boost = 0;
        continue restart;
      }
      if (boost === 0 && balanced) break restart;
      let raise = !(boost > 0 && sc.priority === DEF_PRIORITY - 2);
      sc.mayWritepage = boost === 0;
      sc.maySwap = boost === 0;
      vm.reclaim.policy.age(vm.pages.lru.lruvecs[node.nid], sc);
      if (sc.priority < DEF_PRIORITY - 2) sc.mayWritepage = true;
      sc.nrScanned = 0;
      const before = sc.nrReclaimed;
      sc.nrToReclaim = zones.reduce((sum, zone) => sum + Math.max(zone.wmarkPages(WMARK_HIGH), SWAP_CLUSTER_MAX), 0);
      shrinkNode(vm, node, sc);
      if (sc.order > 0 && sc.nrReclaimed >= 2 << sc.order) sc.order = 0;
      if (sc.nrScanned >= sc.nrToReclaim) raise = false;
      const reclaimed = sc.nrReclaimed - before;
      boost -= Math.min(boost, reclaimed);
      if (boosted > 0 && boost > 0 && reclaimed === 0) break restart;
      if (raise || reclaimed === 0) sc.priority--;
    }
    break;
  }
  if (sc.nrReclaimed === 0 && !isBalanced(vm, node, 0, highest)) node.kswapdFailures++;
  else node.kswapdFailures = 0;
  for (const [i, zone] of zones.entries()) {
    zone.reclaimActive = false;
    if (boosts[i] > 0) zone.setWatermarkBoost(zone.watermarkBoost - Math.min(zone.watermarkBoost, boosts[i]));
  }
  if (!isBalanced(vm, node, 0, highest)) return;
  events[VM_EVENT.KSWAPD_LOW_WMARK_HIT_QUICKLY]++;
  // It goes to sleep: scattered memory is kcompactd's now, which looks everywhere anew if an allocation found nothing.
  resetIsolationSuitableNode(vm.pages, nodes[node.nid]);
  vm.pages.kcompactd[node.nid].wake(order, highest);
}

// ---- direct reclaim

/**
 * Reclaims for an allocation that found no page.
 *
 * @param highest index of the highest zone that the allocation can use
 * @returns pages freed
 * @linux mm/vmscan.c:try_to_free_pages
 */
export function tryToFreePages(vm: Vm, gfp: number, order: number, nrToReclaim: number, highest: number): number {
  if (throttle(vm, gfp, highest)) return 1;
  const sc = new ScanControl(nrToReclaim, gfp, order, highest, RECLAIMER_DIRECT);
  return runReclaim(vm, () => doTryToFreePages(vm, sc));
}

/** @linux mm/vmscan.c:do_try_to_free_pages */
function doTryToFreePages(vm: Vm, sc: ScanControl): number {
  for (;;) {
    for (sc.priority = DEF_PRIORITY; sc.priority >= 0; sc.priority--) {
      sc.nrScanned = 0;
      for (const node of vm.reclaim.nodes) if (vm.pages.nodes[node.nid].present > 0) shrinkNode(vm, node, sc);
      if (sc.nrReclaimed >= sc.nrToReclaim) break;
    }
    if (sc.nrReclaimed > 0) {
      for (const node of vm.reclaim.nodes) node.kswapdFailures = 0;
      return sc.nrReclaimed;
    }
    if (!sc.skippedDeactivate) return 0;
    // The active lists were spared: not this time.
    sc.forceDeactivate = true;
    sc.skippedDeactivate = false;
  }
}

/**
 * Where the reserves run low, an allocation waits for kswapd: it runs here. Costs the same as kswapd's run.
 *
 * @returns whether that has helped: the allocation may be tried again
 * @linux mm/vmscan.c:throttle_direct_reclaim
 */
function throttle(vm: Vm, gfp: number, highest: number): boolean {
  if (allowDirectReclaim(vm, highest)) return false;
  const node = vm.reclaim.nodes[0];
  if (node.kswapdFailures >= MAX_RECLAIM_RETRIES || (gfp & __GFP_FS) === 0) return false;
  vm.pages.events[VM_EVENT.PGSCAN_DIRECT_THROTTLE]++;
  node.kswapdPending = true;
  node.kswapdHighestZone = Math.max(node.kswapdHighestZone, highest);
  const before = vm.pages.nrFreePages();
  vm.reclaim.active = false;
  runKswapds(vm);
  return vm.pages.nrFreePages() > before;
}

/** Whether at least half of the reserves is there. @linux mm/vmscan.c:allow_direct_reclaim */
function allowDirectReclaim(vm: Vm, highest: number): boolean {
  let reserve = 0;
  let free = 0;
  for (const zone of vm.pages.nodes[0].zones) {
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
  hooks.directReclaim = (gfp, order, nrToReclaim) => tryToFreePages(vm, gfp, order, nrToReclaim, vm.pages.gfpZoneIndex(gfp));
  vm.reclaim.outOfMemory = (gfp) => {
    hooks.outOfMemory?.(gfp, 0);
  };
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
  const written = [...pending];
  endSwapWrites(vm, pending);
  // What was written can go now: the device was not waited for before.
  const goes = new Set(written.filter((pfn) => (vm.frames.flags[pfn] & PG_DIRTY) === 0));
  const clean = list.filter((pfn) => goes.has(pfn));
  const rest = list.filter((pfn) => !goes.has(pfn));
  freed += runReclaim(vm, () => shrinkFolioList(vm, clean, sc, stat, pending, false));
  for (const pfn of [...rest, ...clean]) putbackLru(vm, pfn);
  endSwapWrites(vm, pending);
  return freed;
}
