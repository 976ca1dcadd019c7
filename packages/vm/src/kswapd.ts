/**
 * kswapd: a node's thread that gets memory back while others go on, from when a zone falls below its low watermark until it
 * is above its high one.
 *
 * It is no task here. It runs at once in the allocation that wakes it, where that may sleep, and otherwise at the next one that
 * may, or at the next return to user mode. Pages that it has to write do not go before the device is done: then it waits,
 * and programs go on meanwhile, down to the min watermark, from where on they have to reclaim for themselves.
 *
 * @linux mm/vmscan.c:kswapd
 */
import { GFP_KERNEL, PF_MEMALLOC, VM_EVENT, WMARK_HIGH, WMARK_PROMO, ZONE_STAT, __GFP_DIRECT_RECLAIM, resetIsolationSuitableNode } from '@pagelab/mm-core';
import type { Zone } from '@pagelab/mm-core';
import { NUMA_BALANCING_MEMORY_TIERING } from './numa-balancing.ts';
import type { ReclaimNode } from './reclaim.ts';
import { DEF_PRIORITY, RECLAIMER_KSWAPD, SWAP_CLUSTER_MAX, ScanControl } from './scan-control.ts';
import type { Vm } from './vm.ts';
import { MAX_RECLAIM_RETRIES, runReclaim, shrinkNode } from './vmscan.ts';

/**
 * How long kswapd waits for pages that it has begun to write, in nanoseconds: what a solid-state disk takes. A program makes
 * some 150 page faults meanwhile.
 */
const WRITE_WAIT_NS = 100_000;

/** A run of kswapd over a node that is under way: it may wait in between. */
export class KswapdRun {
  readonly sc: ScanControl;
  readonly order: number;
  readonly highest: number;
  readonly zones: readonly Zone[];
  /** What of each zone's boost this run is to make up for; of all, at first and still. */
  readonly boosts: readonly number[];
  readonly boosted: number;
  boost: number;

  constructor(zones: readonly Zone[], order: number, highest: number) {
    this.sc = new ScanControl(0, GFP_KERNEL, order, highest, RECLAIMER_KSWAPD);
    this.order = order;
    this.highest = highest;
    this.zones = zones.filter((zone) => zone.managed > 0 && zone.index <= highest);
    this.boosts = this.zones.map((zone) => zone.watermarkBoost);
    this.boosted = this.boosts.reduce((sum, pages) => sum + pages, 0);
    this.boost = this.boosted;
  }
}

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
  runKswapds(vm, false);
}

/** There may be enough memory that is only scattered: who cannot compact it now has kcompactd do so. */
function wakeKcompactd(vm: Vm, node: ReclaimNode, order: number, highest: number, gfp: number): void {
  if ((gfp & __GFP_DIRECT_RECLAIM) === 0) vm.pages.kcompactd[node.nid].wake(order, highest);
}

/**
 * Runs the kswapds that were woken, until they wait or are done.
 *
 * @param waits the caller waits for the devices that they wait for
 * @linux mm/vmscan.c:kswapd
 */
export function runKswapds(vm: Vm, waits: boolean): void {
  const { reclaim } = vm;
  if (reclaim.active) return;
  reclaim.kswapdPending = false;
  for (const node of reclaim.nodes) {
    if (waits) node.kswapdDueNs = 0;
    if (!node.kswapdPending && node.kswapdRun === null) continue;
    if (vm.clock.now < node.kswapdDueNs) {
      reclaim.kswapdPending = true;
      continue;
    }
    let run = node.kswapdRun;
    if (run === null) {
      run = new KswapdRun(vm.pages.nodes[node.nid].zones, node.kswapdOrder, node.kswapdHighestZone);
      node.kswapdPending = false;
      node.kswapdOrder = 0;
      node.kswapdHighestZone = 0;
      vm.pages.events[VM_EVENT.PAGEOUTRUN]++;
      for (const zone of run.zones) zone.reclaimActive = true;
    }
    const current = run;
    if (runReclaim(vm, () => balanceNode(vm, node, current, waits))) {
      node.kswapdRun = null;
      finishRun(vm, node, current);
    } else {
      node.kswapdRun = current;
      node.kswapdDueNs = vm.clock.now + WRITE_WAIT_NS;
      reclaim.kswapdPending = true;
      reclaim.kswapdWaits?.(WRITE_WAIT_NS);
    }
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
    // With defrag_mode only whole pageblocks count, until kcompactd takes over.
    const free = order > 0 && vm.pages.sysctl.defragMode ? zone.state(ZONE_STAT.NR_FREE_PAGES_BLOCKS) : zone.nrFree;
    if (zone.watermarkOk(order, zone.watermark[mark], highest, 0, free)) return true;
  }
  return !some;
}

function isBoosted(vm: Vm, node: ReclaimNode): boolean {
  return vm.pages.nodes[node.nid].zones.some((zone) => zone.watermarkBoost > 0);
}

/**
 * Takes pages of a node, more with each round, until it is balanced.
 *
 * @param waits does not stop to wait
 * @returns whether it is done; otherwise it waits for a device
 * @linux mm/vmscan.c:balance_pgdat
 */
function balanceNode(vm: Vm, node: ReclaimNode, run: KswapdRun, waits: boolean): boolean {
  const { sc, highest, zones } = run;
  for (;;) {
    if (sc.priority < 1) return true;
    const balanced = isBalanced(vm, node, sc.order, highest);
    if (!balanced && run.boost > 0) {
      run.boost = 0;
      sc.priority = DEF_PRIORITY;
      continue;
    }
    if (run.boost === 0 && balanced) return true;
    let raise = !(run.boost > 0 && sc.priority === DEF_PRIORITY - 2);
    sc.mayWritepage = run.boost === 0;
    sc.maySwap = run.boost === 0;
    ageNode(vm, node.nid, sc);
    if (sc.priority < DEF_PRIORITY - 2) sc.mayWritepage = true;
    sc.nrScanned = 0;
    const before = sc.nrReclaimed;
    const written = sc.nrWritten;
    sc.nrToReclaim = zones.reduce((sum, zone) => sum + Math.max(zone.wmarkPages(WMARK_HIGH), SWAP_CLUSTER_MAX), 0);
    shrinkNode(vm, node, sc);
    if (sc.order > 0 && sc.nrReclaimed >= 2 << sc.order) sc.order = 0;
    if (sc.nrScanned >= sc.nrToReclaim) raise = false;
    const reclaimed = sc.nrReclaimed - before;
    run.boost -= Math.min(run.boost, reclaimed);
    if (run.boosted > 0 && run.boost > 0 && reclaimed === 0) return true;
    const { isCutShort } = sc;
    sc.isCutShort = false;
    if (!isCutShort && (raise || reclaimed === 0)) sc.priority--;
    if (!waits && sc.nrWritten - written > reclaimed) return false;
  }
}

/** kswapd goes to sleep, or gives up. */
function finishRun(vm: Vm, node: ReclaimNode, { sc, order, highest, zones, boosts }: KswapdRun): void {
  const isEnough = isBalanced(vm, node, 0, highest);
  if (sc.nrReclaimed === 0 && !isEnough) node.kswapdFailures++;
  else node.kswapdFailures = 0;
  for (const [i, zone] of zones.entries()) {
    zone.reclaimActive = false;
    if (boosts[i] > 0) zone.setWatermarkBoost(zone.watermarkBoost - Math.min(zone.watermarkBoost, boosts[i]));
  }
  if (!isEnough) return;
  vm.pages.events[VM_EVENT.KSWAPD_LOW_WMARK_HIT_QUICKLY]++;
  // It goes to sleep: scattered memory is kcompactd's now, which looks everywhere anew if an allocation found nothing.
  resetIsolationSuitableNode(vm.pages, vm.pages.nodes[node.nid]);
  vm.pages.kcompactd[node.nid].wake(order, highest);
}

/** Lets the policy bring the lists of a node, those of all groups, into balance. @linux mm/vmscan.c:kswapd_age_node */
function ageNode(vm: Vm, nid: number, sc: ScanControl): void {
  const { lru } = vm.pages;
  if (vm.memcgs === null) vm.reclaim.policy.age(lru.lruvecs[nid], sc);
  else for (const lruvec of lru.all()) if (lruvec.nid === nid) vm.reclaim.policy.age(lruvec, sc);
}
