/**
 * What reclaim does with pages it has taken off their list: look whether they are in use, unmap them, have them written,
 * and take them away.
 *
 * @linux mm/vmscan.c:shrink_folio_list
 */
import type { Pfn } from '@pagelab/hw';
import {
  NODE_STAT,
  PG_ACTIVE,
  PG_ANON,
  PG_DIRTY,
  PG_HEAD,
  PG_MLOCKED,
  PG_RECLAIM,
  PG_REFERENCED,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_WRITEBACK,
  VM_EVENT,
  __GFP_FS,
  __GFP_IO,
  folioNrPages,
} from '@pagelab/mm-core';
import { demoteFolios, demotionTarget } from './demote.ts';
import { dissolveFolio, folioStart } from './folio.ts';
import { hugeReferences, splitHugePage } from './huge-memory.ts';
import { countFolioEvents } from './memcg-events.ts';
import { folioSwapFull } from './memcg-swap.ts';
import { folioOrder, removeFromPageCache } from './page-cache.ts';
import { storeShadow } from './page-cache-nodes.ts';
import { swapWriteout } from './page-io.ts';
import type { PendingWrites } from './page-io.ts';
import { FOLIOREF_ACTIVATE, FOLIOREF_KEEP, FOLIOREF_RECLAIM, FOLIOREF_RECLAIM_CLEAN } from './reclaim.ts';
import type { ScanControl } from './scan-control.ts';
import { isLargeShmem, splitShmemFolio } from './shmem-folio.ts';
import { shmemUnacctBlock } from './shmem-super.ts';
import { shmemWriteout } from './shmem-swap.ts';
import { addToSwap, folioMapped, removeFromSwapCache } from './swap-state.ts';
import { folioAddLru, folioEvictable } from './swap.ts';
import { folioFreeSwap } from './swapfile.ts';
import type { Vm } from './vm.ts';

/** What became of a list of pages. @linux include/linux/vmstat.h:reclaim_stat */
export interface ReclaimStat {
  /** Dirty pages of files that nobody writes yet; pages whose writing began. */
  nrUnqueuedDirty: number;
  nrPageout: number;
  nrActivate: number;
}

/** Nothing yet. */
export function newReclaimStat(): ReclaimStat {
  return { nrUnqueuedDirty: 0, nrPageout: 0, nrActivate: 0 };
}

const ACTIVATE = FOLIOREF_ACTIVATE;
const KEEP = FOLIOREF_KEEP;

/**
 * Takes away what it can of pages that were isolated. The others stay in the list, isolated, and marked active where they
 * are in use.
 *
 * @param list frames; on return the first `list.length` are those that stay
 * @param pending gets the pages whose writing began
 * @param useReferences false: pages go, however recently they were used
 * @returns pages freed
 */
export function shrinkFolioList(
  vm: Vm,
  list: Pfn[],
  sc: ScanControl,
  stat: ReclaimStat,
  pending: PendingWrites,
  useReferences: boolean,
): number {
  if (list.length === 0) return 0;
  const nid = vm.pages.nodeOf(list[0]);
  const target = demotionTarget(vm, nid, sc);
  if (target < 0) return shrinkFolios(vm, list, sc, stat, pending, useReferences, null);
  const demoted: Pfn[] = [];
  let nrReclaimed = shrinkFolios(vm, list, sc, stat, pending, useReferences, demoted);
  nrReclaimed += demoteFolios(vm, demoted, sc, nid, target);
  if (demoted.length === 0) return nrReclaimed;
  // There is no room for them: they go as they would without.
  nrReclaimed += shrinkFolios(vm, demoted, sc, stat, pending, useReferences, null);
  list.push(...demoted);
  return nrReclaimed;
}

/** @param demoted gets those that nobody uses, to be demoted; `null` where they go at once */
function shrinkFolios(
  vm: Vm,
  list: Pfn[],
  sc: ScanControl,
  stat: ReclaimStat,
  pending: PendingWrites,
  useReferences: boolean,
  demoted: Pfn[] | null,
): number {
  const { flags } = vm.frames;
  const freed: Pfn[] = [];
  let kept = 0;
  let nrReclaimed = 0;
  for (const pfn of list) {
    const nrPages = folioNrPages(vm.frames, pfn);
    const verdict = shrinkFolio(vm, pfn, sc, stat, pending, useReferences, demoted !== null);
    if (verdict === FREED) {
      nrReclaimed += nrPages;
      freed.push(pfn);
      continue;
    }
    if (verdict === GONE) continue;
    if (verdict === DEMOTE) {
      demoted!.push(pfn);
      continue;
    }
    if (verdict === ACTIVATE && (flags[pfn] & PG_MLOCKED) === 0) {
      if ((flags[pfn] & PG_SWAPCACHE) !== 0 && folioSwapFull(vm, pfn)) folioFreeSwap(vm, pfn);
      flags[pfn] |= PG_ACTIVE;
      stat.nrActivate += nrPages;
      countFolioEvents(vm, pfn, VM_EVENT.PGACTIVATE, nrPages);
    }
    list[kept++] = pfn;
  }
  list.length = kept;
  // No CPU may use a frame's old translation once the frame is free.
  vm.smp.flushBatch();
  for (const pfn of freed) {
    flags[pfn] &= ~(PG_ACTIVE | PG_REFERENCED);
    vm.pages.putPage(pfn);
  }
  return nrReclaimed;
}

const FREED = 4;
/** It was split: its parts are on the lists. */
const GONE = 5;
/** Slower memory will do for it. */
const DEMOTE = 6;

function shrinkFolio(
  vm: Vm,
  pfn: Pfn,
  sc: ScanControl,
  stat: ReclaimStat,
  pending: PendingWrites,
  useReferences: boolean,
  demotes: boolean,
): number {
  const { flags } = vm.frames;
  const { rmap } = vm.reclaim;
  if (!folioEvictable(flags[pfn])) return ACTIVATE;
  const huge = (flags[pfn] & PG_HEAD) !== 0;
  const mapped = folioMapped(vm, pfn);
  if (!sc.mayUnmap && mapped) return KEEP;
  const isFile = (flags[pfn] & (PG_SWAPBACKED | PG_ANON)) === 0;
  if (isFile && (flags[pfn] & PG_DIRTY) !== 0) stat.nrUnqueuedDirty++;
  if ((flags[pfn] & PG_WRITEBACK) !== 0) {
    flags[pfn] |= PG_RECLAIM;
    return ACTIVATE;
  }
  const references = useReferences ? vm.reclaim.policy.checkReferences(pfn) : FOLIOREF_RECLAIM;
  if (references === ACTIVATE || references === KEEP) return references;
  if (demotes) return DEMOTE;
  if (isLargeShmem(vm, pfn)) splitShmemFolio(vm, pfn);
  if ((flags[pfn] & (PG_ANON | PG_SWAPBACKED | PG_SWAPCACHE)) === (PG_ANON | PG_SWAPBACKED)) {
    if ((sc.gfp & __GFP_IO) === 0) return KEEP;
    if (isPinned(vm, pfn)) return KEEP;
    // What is mapped in part goes by its parts: some need no writing.
    const isPartial = huge && vm.deferredSplit.isPartial(pfn) === true;
    if (isPartial || !addToSwap(vm, pfn)) {
      if (!huge) return ACTIVATE;
      if (!isPartial) countFolioEvents(vm, pfn, VM_EVENT.THP_SWPOUT_FALLBACK, 1);
      splitIsolated(vm, pfn);
      return GONE;
    }
  }
  if (mapped && !(huge ? rmap.unmapHuge(pfn) : rmap.unmap(pfn))) return ACTIVATE;
  if ((flags[pfn] & PG_DIRTY) !== 0) {
    const verdict = pageout(vm, pfn, sc, stat, pending, references);
    if (verdict !== FREED) return verdict;
  }
  return removeMapping(vm, pfn) ? FREED : KEEP;
}

/** Whether somebody but page tables, cache and reclaim refers to the page. */
function isPinned(vm: Vm, pfn: Pfn): boolean {
  const { flags, mapcount, refcount } = vm.frames;
  if ((flags[pfn] & PG_HEAD) !== 0) return refcount[pfn] > hugeReferences(vm, pfn) + 1;
  const cached = (flags[pfn] & PG_SWAPCACHE) !== 0 ? 1 : 0;
  return refcount[pfn] > mapcount[pfn] + cached + 1;
}

/** A huge page goes by its parts: they are on the lists from here on. */
function splitIsolated(vm: Vm, head: Pfn): void {
  folioAddLru(vm, head);
  vm.frames.refcount[head]--;
  splitHugePage(vm, head);
}

/**
 * Has a dirty page written.
 *
 * @returns FREED where it is clean now and can go; KEEP; ACTIVATE
 * @linux mm/vmscan.c:pageout
 */
function pageout(vm: Vm, pfn: Pfn, sc: ScanControl, stat: ReclaimStat, pending: PendingWrites, references: number): number {
  const { flags, mapping } = vm.frames;
  if ((flags[pfn] & PG_SWAPBACKED) === 0) {
    // Pages of files are for the flusher: single ones would be written in no order.
    if ((flags[pfn] & PG_ANON) !== 0) return ACTIVATE;
    vm.pages.modNodeState(pfn, NODE_STAT.NR_VMSCAN_IMMEDIATE, 1);
    return ACTIVATE;
  }
  if (references === FOLIOREF_RECLAIM_CLEAN || !mayEnterFs(vm, pfn, sc.gfp) || !sc.mayWritepage) return KEEP;
  if (isPinned(vm, pfn) && (flags[pfn] & PG_SWAPCACHE) !== 0) return KEEP;
  flags[pfn] |= PG_RECLAIM;
  const file = (flags[pfn] & PG_SWAPCACHE) === 0 ? vm.mappings.get(mapping[pfn]) : undefined;
  let written: 'begun' | 'none' | 'activate' = 'activate';
  if ((flags[pfn] & PG_SWAPCACHE) !== 0) written = swapWriteout(vm, pfn, pending);
  else if (file !== undefined && vm.frames.refcount[pfn] === 2 && vm.totalSwapPages > 0) written = shmemWriteout(vm, file, pfn, pending);
  if (written === 'activate') {
    flags[pfn] &= ~PG_RECLAIM;
    return ACTIVATE;
  }
  if (written === 'begun') {
    vm.pages.modNodeState(pfn, NODE_STAT.NR_VMSCAN_WRITE, 1);
    stat.nrPageout += folioNrPages(vm.frames, pfn);
  }
  if ((flags[pfn] & PG_WRITEBACK) !== 0) return KEEP;
  flags[pfn] &= ~PG_RECLAIM;
  return (flags[pfn] & PG_DIRTY) !== 0 ? KEEP : FREED;
}

/** @linux mm/vmscan.c:may_enter_fs */
function mayEnterFs(vm: Vm, pfn: Pfn, gfp: number): boolean {
  return (gfp & __GFP_FS) !== 0 || ((vm.frames.flags[pfn] & PG_SWAPCACHE) !== 0 && (gfp & __GFP_IO) !== 0);
}

/**
 * Takes a clean page that nobody maps out of its cache, where a shadow stays. One reference is left: reclaim's.
 *
 * @returns false where somebody else refers to it
 * @linux mm/vmscan.c:__remove_mapping
 */
function removeMapping(vm: Vm, pfn: Pfn): boolean {
  const { flags, index, mapping, refcount } = vm.frames;
  if ((flags[pfn] & PG_DIRTY) !== 0 || folioMapped(vm, pfn)) return false;
  if ((flags[pfn] & (PG_ANON | PG_SWAPBACKED)) === PG_ANON) {
    if (refcount[pfn] !== 1) return false;
    countFolioEvents(vm, pfn, VM_EVENT.PGLAZYFREED, 1);
    return true;
  }
  if ((flags[pfn] & PG_SWAPCACHE) !== 0) {
    const nrPages = folioNrPages(vm.frames, pfn);
    if (refcount[pfn] !== 1 + nrPages) return false;
    removeFromSwapCache(vm, pfn, vm.reclaim.policy.eviction(pfn));
    refcount[pfn] -= nrPages;
    return true;
  }
  const file = vm.mappings.get(mapping[pfn]);
  // A page whose file is gone, or that only now lost its last user.
  if (file === undefined) return refcount[pfn] === 1;
  if (refcount[pfn] !== 2) return false;
  const pgoff = index[pfn];
  if ((flags[pfn] & PG_SWAPBACKED) !== 0) {
    // Shared memory that was only ever read: it is zero again when it is wanted.
    removeFromPageCache(vm, file, pgoff);
    shmemUnacctBlock(vm, file.inode);
    return true;
  }
  const order = folioOrder(vm, pfn);
  if (order > 0) dissolveFolio(vm, file, folioStart(pgoff, order), order);
  const shadow = vm.reclaim.policy.eviction(pfn);
  if (shadow > 0) storeShadow(file, pgoff, shadow);
  removeFromPageCache(vm, file, pgoff);
  return true;
}
