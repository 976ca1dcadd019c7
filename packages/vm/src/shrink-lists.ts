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
  PG_ACTIVE,
  PG_LRU,
  PG_LRU_WAITS,
  PG_MLOCKED,
  PG_REFERENCED,
  PG_SWAPBACKED,
  PG_UNEVICTABLE,
  PG_WORKINGSET,
  VM_EVENT,
  WMARK_HIGH,
  folioNrPages,
} from '@pagelab/mm-core';
import type { Lruvec } from '@pagelab/mm-core';
import { evictFolios, isolateFolios, putbackFolios } from './isolate-folios.ts';
import { FOLIOREF_ACTIVATE, FOLIOREF_KEEP, FOLIOREF_RECLAIM, FOLIOREF_RECLAIM_CLEAN } from './reclaim.ts';
import type { ReclaimPolicy, ReclaimPolicyFactory } from './reclaim.ts';
import { countReclaimEvents } from './memcg-events.ts';
import { unprotectedSize } from './memcg-reclaim.ts';
import { DEACTIVATE_ANON, DEACTIVATE_FILE, DEF_PRIORITY, MAX_SWAPPINESS, SWAP_CLUSTER_MAX } from './scan-control.ts';
import type { ScanControl } from './scan-control.ts';
import { newReclaimStat } from './shrink-folio-list.ts';
import { folioActivate, folioEvictable, lruAddDrain } from './swap.ts';
import type { Vm } from './vm.ts';
import { VM_EXEC, VM_LOCKED } from './vma.ts';
import { canReclaimAnon } from './vmscan.ts';
import { lruNoteCost, workingsetActivation, workingsetEviction, workingsetRefault } from './workingset.ts';

const EVICTABLE = [LRU_INACTIVE_ANON, LRU_ACTIVE_ANON, LRU_INACTIVE_FILE, LRU_ACTIVE_FILE] as const;

/** Active and inactive lists. */
class ClassicReclaim implements ReclaimPolicy {
  readonly name = 'classic';
  readonly placement = null;
  readonly activatesFaulted = false;
  readonly #vm: Vm;

  constructor(vm: Vm) {
    this.#vm = vm;
  }

  initLruvec(): void {}

  markAccessed(pfn: Pfn): void {
    folioMarkUsed(this.#vm, pfn);
  }

  age(lruvec: Lruvec, sc: ScanControl): void {
    ageActiveAnon(this.#vm, lruvec, sc);
  }

  shrink(lruvec: Lruvec, sc: ScanControl): void {
    shrinkLruvec(this.#vm, lruvec, sc);
  }

  checkReferences(pfn: Pfn): number {
    return folioCheckReferences(this.#vm, pfn);
  }

  eviction(pfn: Pfn): number {
    return workingsetEviction(this.#vm, pfn);
  }

  refault(pfn: Pfn, shadow: number): void {
    workingsetRefault(this.#vm, pfn, shadow);
  }
}

/** The classic policy: what Linux has without `CONFIG_LRU_GEN`, or where that is switched off. */
export const classicReclaim: ReclaimPolicyFactory = Object.freeze({ name: 'classic', create: (vm: Vm) => new ClassicReclaim(vm) });

/**
 * The first use of a page makes it referenced, the second active.
 *
 * @linux mm/swap.c:folio_mark_accessed
 */
function folioMarkUsed(vm: Vm, pfn: Pfn): void {
  const { flags } = vm.frames;
  const before = flags[pfn];
  if ((before & PG_REFERENCED) === 0) {
    flags[pfn] = before | PG_REFERENCED;
    return;
  }
  if ((before & (PG_ACTIVE | PG_UNEVICTABLE | PG_MLOCKED)) !== 0) return;
  if ((before & PG_LRU) !== 0) folioActivate(vm, pfn);
  else if ((before & PG_LRU_WAITS) !== 0) flags[pfn] |= PG_ACTIVE;
  flags[pfn] &= ~PG_REFERENCED;
  workingsetActivation(vm, pfn);
}

/** Used once it gets another round; twice, or by many, it stays. @linux mm/vmscan.c:folio_check_references */
function folioCheckReferences(vm: Vm, pfn: Pfn): number {
  const { flags } = vm.frames;
  const { rmap } = vm.reclaim;
  const entries = rmap.referenced(pfn);
  if ((rmap.vmFlags & VM_LOCKED) !== 0) return FOLIOREF_ACTIVATE;
  const before = flags[pfn];
  const wasReferenced = (before & PG_REFERENCED) !== 0;
  const isFile = (before & PG_SWAPBACKED) === 0;
  flags[pfn] = before & ~PG_REFERENCED;
  if (entries > 0) {
    flags[pfn] |= PG_REFERENCED;
    if (wasReferenced || entries > 1) return FOLIOREF_ACTIVATE;
    if ((rmap.vmFlags & VM_EXEC) !== 0 && isFile) return FOLIOREF_ACTIVATE;
    return FOLIOREF_KEEP;
  }
  return wasReferenced && isFile ? FOLIOREF_RECLAIM_CLEAN : FOLIOREF_RECLAIM;
}

/** @linux mm/vmscan.c:kswapd_age_node */
function ageActiveAnon(vm: Vm, lruvec: Lruvec, sc: ScanControl): void {
  if (canReclaimAnon(vm, lruvec.nid, sc.memcg) && inactiveIsLow(lruvec, LRU_INACTIVE_ANON)) shrinkActiveList(vm, lruvec, sc, LRU_ACTIVE_ANON, SWAP_CLUSTER_MAX);
}

/** @linux mm/vmscan.c:shrink_lruvec */
function shrinkLruvec(vm: Vm, lruvec: Lruvec, sc: ScanControl): void {
  prepareScanControl(vm, lruvec, sc);
  const left = getScanCount(vm, lruvec, sc);
  const targets = [...left];
  const proportional = sc.target === null && !sc.isKswapd && sc.priority === DEF_PRIORITY;
  let reclaimed = 0;
  while (left[LRU_INACTIVE_ANON] > 0 || left[LRU_ACTIVE_FILE] > 0 || left[LRU_INACTIVE_FILE] > 0) {
    for (const lru of EVICTABLE) {
      if (left[lru] === 0) continue;
      const nrToScan = Math.min(left[lru], SWAP_CLUSTER_MAX);
      left[lru] -= nrToScan;
      reclaimed += shrinkList(vm, lruvec, sc, lru, nrToScan);
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
  ageActiveAnon(vm, lruvec, sc);
}

/** @linux mm/vmscan.c:prepare_scan_control */
function prepareScanControl(vm: Vm, lruvec: Lruvec, sc: ScanControl): void {
  const { activations, seenActivations } = lruvec;
  if (sc.forceDeactivate) {
    sc.mayDeactivate = DEACTIVATE_ANON | DEACTIVATE_FILE;
  } else {
    sc.mayDeactivate = 0;
    if (activations[0] !== seenActivations[0] || inactiveIsLow(lruvec, LRU_INACTIVE_ANON)) sc.mayDeactivate |= DEACTIVATE_ANON;
    if (activations[1] !== seenActivations[1] || inactiveIsLow(lruvec, LRU_INACTIVE_FILE)) sc.mayDeactivate |= DEACTIVATE_FILE;
  }
  [seenActivations[0], seenActivations[1]] = activations;
  const inactiveFile = lruvec.size(LRU_INACTIVE_FILE);
  sc.cacheTrimMode = Math.floor(inactiveFile / 2 ** sc.priority) > 0 && (sc.mayDeactivate & DEACTIVATE_FILE) === 0;
  let free = 0;
  let high = 0;
  for (const zone of vm.pages.nodes[lruvec.nid].zones) {
    if (zone.managed === 0) continue;
    free += zone.nrFree;
    high += zone.wmarkPages(WMARK_HIGH);
  }
  const file = inactiveFile + lruvec.size(LRU_ACTIVE_FILE);
  const anon = lruvec.size(LRU_INACTIVE_ANON);
  sc.fileIsTiny = sc.target === null && file + free <= high && (sc.mayDeactivate & DEACTIVATE_ANON) === 0 && Math.floor(anon / 2 ** sc.priority) > 0;
}

/**
 * Pages to look at of each list. What has cost more lately is looked at less, and anonymous memory as `swappiness` says.
 *
 * @linux mm/vmscan.c:get_scan_count
 */
function getScanCount(vm: Vm, lruvec: Lruvec, sc: ScanControl): number[] {
  const swappiness = sc.swappiness >= 0 ? sc.swappiness : vm.sysctl.swappiness;
  let [anonShare, fileShare] = [1, 1];
  let equal = false;
  if (!sc.maySwap || !canReclaimAnon(vm, lruvec.nid, sc.memcg)) anonShare = 0;
  else if (swappiness > MAX_SWAPPINESS) fileShare = 0;
  else if (sc.target !== null && swappiness === 0) anonShare = 0;
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
  return EVICTABLE.map((list) => {
    const size = unprotectedSize(sc, lruvec.sizeUpTo(list, sc.reclaimIdx));
    let scan = Math.floor(size / 2 ** sc.priority);
    // What a removed group has left goes first.
    if (scan === 0 && sc.memcg?.online === false) scan = Math.min(size, SWAP_CLUSTER_MAX);
    if (equal) return scan;
    const share = list < LRU_INACTIVE_FILE ? anonShare : fileShare;
    if (share === 0) return 0;
    return denominator === 1 ? scan : Math.ceil((scan * share) / denominator);
  });
}

/** Whether an inactive list is too short to tell what is used: the larger memory, the shorter it may be. @linux mm/vmscan.c:inactive_is_low */
function inactiveIsLow(lruvec: Lruvec, inactiveLru: number): boolean {
  const inactive = lruvec.size(inactiveLru);
  const active = lruvec.size(inactiveLru + 1);
  const gigabytes = Math.floor((inactive + active) / 2 ** 18);
  const ratio = gigabytes > 0 ? Math.floor(Math.sqrt(10 * gigabytes)) : 1;
  return inactive * ratio < active;
}

/** @linux mm/vmscan.c:shrink_list */
function shrinkList(vm: Vm, lruvec: Lruvec, sc: ScanControl, lru: number, nrToScan: number): number {
  if (lru !== LRU_ACTIVE_ANON && lru !== LRU_ACTIVE_FILE) return shrinkInactiveList(vm, lruvec, sc, lru, nrToScan);
  if ((sc.mayDeactivate & (lru === LRU_ACTIVE_ANON ? DEACTIVATE_ANON : DEACTIVATE_FILE)) !== 0) shrinkActiveList(vm, lruvec, sc, lru, nrToScan);
  else sc.skippedDeactivate = true;
  return 0;
}

/** @linux mm/vmscan.c:shrink_inactive_list */
function shrinkInactiveList(vm: Vm, lruvec: Lruvec, sc: ScanControl, lru: number, nrToScan: number): number {
  const file = lru === LRU_INACTIVE_FILE ? 1 : 0;
  lruAddDrain(vm);
  const list: Pfn[] = [];
  const scanned = isolateFolios(vm, sc, lruvec.heads + lru, nrToScan, list);
  const taken = list.length;
  const stat = newReclaimStat();
  const reclaimed = evictFolios(vm, lruvec, sc, list, file, scanned, stat);
  if (taken > 0) lruNoteCost(lruvec, file === 1, stat.nrPageout, scanned - reclaimed);
  return reclaimed;
}

/** @linux mm/vmscan.c:shrink_active_list */
function shrinkActiveList(vm: Vm, lruvec: Lruvec, sc: ScanControl, lru: number, nrToScan: number): void {
  const { events } = vm.pages;
  const { flags } = vm.frames;
  const { rmap } = vm.reclaim;
  lruAddDrain(vm);
  const list: Pfn[] = [];
  const scanned = isolateFolios(vm, sc, lruvec.heads + lru, nrToScan, list);
  countReclaimEvents(vm, sc, VM_EVENT.PGREFILL, scanned);
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
  if (sc.memcg !== null) sc.memcg.vmEvents[VM_EVENT.PGDEACTIVATE] += deactivated;
  if (rotated > 0) lruNoteCost(lruvec, lru === LRU_ACTIVE_FILE, 0, rotated);
}
