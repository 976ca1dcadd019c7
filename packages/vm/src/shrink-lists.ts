/**
 * The classic reclaim policy: two lists for each kind of memory. New pages enter the inactive list and leave it at its
 * other end, either to be taken or, if they were used meanwhile, to the active list; the active list is shortened to keep
 * the inactive one long enough.
 *
 * @linux mm/vmscan.c:shrink_lruvec, get_scan_count, shrink_active_list, shrink_inactive_list
 */
import type { Pfn } from '@pagelab/hw';
import {
  LRU_ACTIVE_ANON,
  LRU_ACTIVE_FILE,
  LRU_INACTIVE_ANON,
  LRU_INACTIVE_FILE,
  NODE_STAT,
  PG_ACTIVE,
  PG_LRU,
  PG_SWAPBACKED,
  PG_WORKINGSET,
  VM_EVENT,
  WMARK_HIGH,
  folioNrPages,
} from '@pagelab/mm-core';
import { endSwapWrites } from './page-io.ts';
import type { ReclaimPolicy } from './reclaim.ts';
import { DEACTIVATE_ANON, DEACTIVATE_FILE, DEF_PRIORITY, SWAP_CLUSTER_MAX } from './scan-control.ts';
import type { ScanControl } from './scan-control.ts';
import { shrinkFolioList } from './shrink-folio-list.ts';
import type { ReclaimStat } from './shrink-folio-list.ts';
import { folioAddLru, folioEvictable, lruAddDrain } from './swap.ts';
import type { Vm } from './vm.ts';
import { VM_EXEC } from './vma.ts';
import { canReclaimAnon } from './vmscan.ts';
import { wakeFlushers } from './wake-flushers.ts';
import { lruNoteCost } from './workingset.ts';
import type { ReclaimNode } from './workingset.ts';

const { WORKINGSET_ACTIVATE_ANON, WORKINGSET_ACTIVATE_FILE, NR_ISOLATED_ANON } = NODE_STAT;
const EVICTABLE = [LRU_INACTIVE_ANON, LRU_ACTIVE_ANON, LRU_INACTIVE_FILE, LRU_ACTIVE_FILE] as const;

/** @linux include/linux/swap.h:MAX_SWAPPINESS */
const MAX_SWAPPINESS = 200;

/** Active and inactive lists. */
export const classicReclaim: ReclaimPolicy = Object.freeze({
  name: 'classic',
  shrinkLruvec,
  /** @linux mm/vmscan.c:kswapd_age_node */
  ageNode(vm: Vm, node: ReclaimNode, sc: ScanControl): void {
    if (canReclaimAnon(vm) && inactiveIsLow(vm, node, LRU_INACTIVE_ANON)) shrinkActiveList(vm, node, sc, LRU_ACTIVE_ANON, SWAP_CLUSTER_MAX);
  },
});

/** @linux mm/vmscan.c:shrink_lruvec */
function shrinkLruvec(vm: Vm, node: ReclaimNode, sc: ScanControl): void {
  prepareScanControl(vm, node, sc);
  const left = getScanCount(vm, node, sc);
  const targets = [...left];
  const proportional = !sc.isKswapd && sc.priority === DEF_PRIORITY;
  let reclaimed = 0;
  while (left[LRU_INACTIVE_ANON] > 0 || left[LRU_ACTIVE_FILE] > 0 || left[LRU_INACTIVE_FILE] > 0) {
    for (const lru of EVICTABLE) {
      if (left[lru] === 0) continue;
      const nrToScan = Math.min(left[lru], SWAP_CLUSTER_MAX);
      left[lru] -= nrToScan;
      reclaimed += shrinkList(vm, node, sc, lru, nrToScan);
    }
    if (reclaimed < sc.nrToReclaim || proportional) continue;
    // There is enough: of the kind that was to give more, less is looked at, in proportion.
    const file = left[LRU_INACTIVE_FILE] + left[LRU_ACTIVE_FILE];
    const anon = left[LRU_INACTIVE_ANON] + left[LRU_ACTIVE_ANON];
    if (file === 0 || anon === 0) break;
    const stop = file > anon ? LRU_INACTIVE_ANON : LRU_INACTIVE_FILE;
    const target = targets[stop] + targets[stop + 1] + 1;
    const percentage = Math.floor((Math.min(anon, file) * 100) / target);
    left[stop] = 0;
    left[stop + 1] = 0;
    const go = stop === LRU_INACTIVE_FILE ? LRU_INACTIVE_ANON : LRU_INACTIVE_FILE;
    for (const lru of [go, go + 1]) {
      const scanned = targets[lru] - left[lru];
      left[lru] = Math.floor((targets[lru] * (100 - percentage)) / 100);
      left[lru] -= Math.min(left[lru], scanned);
    }
  }
  sc.nrReclaimed += reclaimed;
  if (canReclaimAnon(vm) && inactiveIsLow(vm, node, LRU_INACTIVE_ANON)) shrinkActiveList(vm, node, sc, LRU_ACTIVE_ANON, SWAP_CLUSTER_MAX);
}

/** @linux mm/vmscan.c:prepare_scan_control */
function prepareScanControl(vm: Vm, node: ReclaimNode, sc: ScanControl): void {
  const { lru, nodes } = vm.pages;
  const { vmStat, zones } = nodes[node.nid];
  if (sc.forceDeactivate) {
    sc.mayDeactivate = DEACTIVATE_ANON | DEACTIVATE_FILE;
  } else {
    sc.mayDeactivate = 0;
    if (vmStat[WORKINGSET_ACTIVATE_ANON] !== node.refaults[0] || inactiveIsLow(vm, node, LRU_INACTIVE_ANON)) sc.mayDeactivate |= DEACTIVATE_ANON;
    if (vmStat[WORKINGSET_ACTIVATE_FILE] !== node.refaults[1] || inactiveIsLow(vm, node, LRU_INACTIVE_FILE)) sc.mayDeactivate |= DEACTIVATE_FILE;
  }
  node.refaults[0] = vmStat[WORKINGSET_ACTIVATE_ANON];
  node.refaults[1] = vmStat[WORKINGSET_ACTIVATE_FILE];
  const inactiveFile = lru.size(node.nid, LRU_INACTIVE_FILE);
  sc.cacheTrimMode = Math.floor(inactiveFile / 2 ** sc.priority) > 0 && (sc.mayDeactivate & DEACTIVATE_FILE) === 0;
  let free = 0;
  let high = 0;
  for (const zone of zones) {
    if (zone.managed === 0) continue;
    free += zone.nrFree;
    high += zone.wmarkPages(WMARK_HIGH);
  }
  const file = inactiveFile + lru.size(node.nid, LRU_ACTIVE_FILE);
  const anon = lru.size(node.nid, LRU_INACTIVE_ANON);
  sc.fileIsTiny = file + free <= high && (sc.mayDeactivate & DEACTIVATE_ANON) === 0 && Math.floor(anon / 2 ** sc.priority) > 0;
}

/**
 * Pages to look at of each list. What has cost more lately is looked at less, and anonymous memory as `swappiness` says.
 *
 * @linux mm/vmscan.c:get_scan_count
 */
function getScanCount(vm: Vm, node: ReclaimNode, sc: ScanControl): number[] {
  const { lru, nodes } = vm.pages;
  const swappiness = sc.swappiness >= 0 ? sc.swappiness : vm.sysctl.swappiness;
  let [anonShare, fileShare] = [1, 1];
  let equal = false;
  if (!sc.maySwap || !canReclaimAnon(vm)) anonShare = 0;
  else if (sc.priority === 0 && swappiness > 0) equal = true;
  else if (sc.fileIsTiny) fileShare = 0;
  else if (sc.cacheTrimMode) anonShare = 0;
  else {
    const total = sc.anonCost + sc.fileCost;
    const anonCost = total + sc.anonCost;
    const fileCost = total + sc.fileCost;
    anonShare = Math.floor((swappiness * (anonCost + fileCost + 1)) / (anonCost + 1));
    fileShare = Math.floor(((MAX_SWAPPINESS - swappiness) * (anonCost + fileCost + 1)) / (fileCost + 1));
  }
  const denominator = anonShare === 0 || fileShare === 0 || equal ? 1 : anonShare + fileShare;
  const { zones } = nodes[node.nid];
  return EVICTABLE.map((list) => {
    let size = 0;
    for (const zone of zones) if (zone.index <= sc.reclaimIdx) size += lru.zoneSize(zone, list);
    const scan = Math.floor(size / 2 ** sc.priority);
    if (equal) return scan;
    const share = list < LRU_INACTIVE_FILE ? anonShare : fileShare;
    if (share === 0) return 0;
    return denominator === 1 ? scan : Math.ceil((scan * share) / denominator);
  });
}

/** Whether an inactive list is too short to tell what is used: the larger memory, the shorter it may be. @linux mm/vmscan.c:inactive_is_low */
function inactiveIsLow(vm: Vm, node: ReclaimNode, inactiveLru: number): boolean {
  const inactive = vm.pages.lru.size(node.nid, inactiveLru);
  const active = vm.pages.lru.size(node.nid, inactiveLru + 1);
  const gigabytes = Math.floor((inactive + active) / 2 ** 18);
  const ratio = gigabytes > 0 ? Math.floor(Math.sqrt(10 * gigabytes)) : 1;
  return inactive * ratio < active;
}

/** @linux mm/vmscan.c:shrink_list */
function shrinkList(vm: Vm, node: ReclaimNode, sc: ScanControl, lru: number, nrToScan: number): number {
  if (lru !== LRU_ACTIVE_ANON && lru !== LRU_ACTIVE_FILE) return shrinkInactiveList(vm, node, sc, lru, nrToScan);
  if ((sc.mayDeactivate & (lru === LRU_ACTIVE_ANON ? DEACTIVATE_ANON : DEACTIVATE_FILE)) !== 0) shrinkActiveList(vm, node, sc, lru, nrToScan);
  else sc.skippedDeactivate = true;
  return 0;
}

/**
 * Takes up to `nrToScan` pages off the end of a list.
 *
 * @param list gets the frames
 * @returns pages looked at
 * @linux mm/vmscan.c:isolate_lru_folios
 */
function isolateFolios(vm: Vm, node: ReclaimNode, sc: ScanControl, lru: number, nrToScan: number, list: Pfn[]): number {
  const { flags, lists, mapcount, refcount } = vm.frames;
  const head = vm.pages.lru.head(node.nid, lru);
  const skipped: Pfn[] = [];
  let scanned = 0;
  while (scanned < nrToScan) {
    const pfn = lists.last(head);
    if (pfn === 0) break;
    if (vm.pages.zoneOf(pfn)!.index > sc.reclaimIdx) {
      lists.remove(pfn);
      skipped.push(pfn);
      if (skipped.length > nrToScan * 4) break;
      continue;
    }
    scanned += folioNrPages(vm.frames, pfn);
    if (!sc.mayUnmap && mapcount[pfn] > 0) {
      lists.moveTo(head, pfn);
      continue;
    }
    vm.pages.lru.del(pfn);
    flags[pfn] &= ~PG_LRU;
    refcount[pfn]++;
    list.push(pfn);
  }
  for (const pfn of skipped) lists.pushFront(head, pfn);
  return scanned;
}

/** Puts pages back where their flags tell now, and drops the references. @linux mm/vmscan.c:move_folios_to_lru */
function putbackFolios(vm: Vm, list: readonly Pfn[]): void {
  const { flags } = vm.frames;
  for (const pfn of list) {
    if (!folioEvictable(flags[pfn])) {
      folioAddLru(vm, pfn);
    } else {
      flags[pfn] |= PG_LRU;
      vm.pages.lru.add(pfn);
    }
    vm.pages.putPage(pfn);
  }
}

/** @linux mm/vmscan.c:shrink_inactive_list */
function shrinkInactiveList(vm: Vm, node: ReclaimNode, sc: ScanControl, lru: number, nrToScan: number): number {
  const { events, nodes } = vm.pages;
  const { vmStat } = nodes[node.nid];
  const file = lru === LRU_INACTIVE_FILE ? 1 : 0;
  lruAddDrain(vm);
  const list: Pfn[] = [];
  const scanned = isolateFolios(vm, node, sc, lru, nrToScan, list);
  const taken = list.length;
  vmStat[NR_ISOLATED_ANON + file] += taken;
  events[VM_EVENT.PGSCAN_KSWAPD + sc.reclaimer] += scanned;
  events[VM_EVENT.PGSCAN_ANON + file] += scanned;
  sc.nrScanned += scanned;
  if (taken === 0) return 0;
  const stat: ReclaimStat = { nrUnqueuedDirty: 0, nrPageout: 0, nrActivate: 0 };
  const pending: Pfn[] = [];
  const reclaimed = shrinkFolioList(vm, list, sc, stat, pending, true);
  vmStat[NR_ISOLATED_ANON + file] -= taken;
  putbackFolios(vm, list);
  events[VM_EVENT.PGSTEAL_KSWAPD + sc.reclaimer] += reclaimed;
  events[VM_EVENT.PGSTEAL_ANON + file] += reclaimed;
  lruNoteCost(vm, node.nid, file === 1, stat.nrPageout, scanned - reclaimed);
  endSwapWrites(vm, pending);
  if (stat.nrUnqueuedDirty > 0 && stat.nrUnqueuedDirty === taken) wakeFlushers(vm, list);
  return reclaimed;
}

/** @linux mm/vmscan.c:shrink_active_list */
function shrinkActiveList(vm: Vm, node: ReclaimNode, sc: ScanControl, lru: number, nrToScan: number): void {
  const { events } = vm.pages;
  const { flags } = vm.frames;
  const { rmap } = vm.reclaim;
  lruAddDrain(vm);
  const list: Pfn[] = [];
  const scanned = isolateFolios(vm, node, sc, lru, nrToScan, list);
  events[VM_EVENT.PGREFILL] += scanned;
  let rotated = 0;
  let deactivated = 0;
  for (const pfn of list) {
    if (!folioEvictable(flags[pfn])) continue;
    const nrPages = folioNrPages(vm.frames, pfn);
    if (rmap.referenced(pfn) > 0 && (rmap.vmFlags & VM_EXEC) !== 0 && (flags[pfn] & PG_SWAPBACKED) === 0) {
      // Code that is in use stays.
      rotated += nrPages;
      continue;
    }
    flags[pfn] = (flags[pfn] & ~PG_ACTIVE) | PG_WORKINGSET;
    deactivated += nrPages;
  }
  vm.smp.flushBatch();
  putbackFolios(vm, list);
  events[VM_EVENT.PGDEACTIVATE] += deactivated;
  if (rotated > 0) lruNoteCost(vm, node.nid, lru === LRU_ACTIVE_FILE, 0, rotated);
}
