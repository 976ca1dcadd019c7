/**
 * How pages of user space get onto the LRU lists, and from one to another.
 *
 * Moves wait in batches, a few for each CPU, and are made together; new pages wait to be put on at all. As in Linux, what
 * waits does not show: a page is counted once its batch is drained, and a move has not happened before that. What Linux
 * keeps in an array with a reference to each page is a ring here, without: a page that is freed leaves its batch.
 *
 * For whoever moves pages to other frames: {@link isolateLru} takes a page off its list, with a reference, until
 * {@link putbackLru}. Meanwhile its flags may change. A page that still waits to be put on cannot be isolated: see
 * {@link lruAddDrainAll}.
 *
 * @linux mm/swap.c
 */
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import {
  LRU_ACTIVE_ANON,
  LRU_ACTIVE_FILE,
  NR_LRU_LISTS,
  PF_MEMALLOC,
  PG_ACTIVE,
  PG_ANON,
  PG_DIRTY,
  PG_HEAD,
  PG_LOCKED,
  PG_LRU,
  PG_LRU_WAITS,
  PG_MLOCKED,
  PG_RECLAIM,
  PG_REFERENCED,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_TAIL,
  PG_UNEVICTABLE,
  PG_WORKINGSET,
  PG_WRITEBACK,
  VM_EVENT,
  folioNrPages,
} from '@pagelab/mm-core';
import type { Lruvec } from '@pagelab/mm-core';
import { countFolioEvents } from './memcg-events.ts';
import type { Vm } from './vm.ts';

/** Pages that a batch holds before it is drained. @linux include/linux/pagevec.h:PAGEVEC_SIZE */
export const PAGEVEC_SIZE = 31;

/** Batches of a CPU. @linux mm/swap.c:cpu_fbatches */
const LRU_ADD = 0;
const LRU_DEACTIVATE_FILE = 1;
const LRU_DEACTIVATE = 2;
const LRU_LAZYFREE = 3;
const LRU_ACTIVATE = 4;
const LRU_MOVE_TAIL = 5;
const NR_BATCHES = 6;

/** The batches of all CPUs. */
export class LruBatches {
  /** Row of the first batch's head, by CPU. */
  readonly heads: readonly number[];
  /** Pages that were added since the last drain, by CPU and batch. Some may have left. */
  readonly counts: Int32Array;

  constructor(vm: Vm) {
    this.heads = vm.smp.cpus.map(() => vm.frames.allocListHeads(NR_BATCHES));
    this.counts = new Int32Array(vm.smp.cpus.length * NR_BATCHES);
  }
}

// ---- onto the lists

/**
 * Puts a new page, or one that is not on a list, onto the list its flags tell, by way of a batch.
 *
 * @linux mm/swap.c:folio_add_lru
 */
export function folioAddLru(vm: Vm, pfn: Pfn): void {
  const { flags, lists } = vm.frames;
  const cpu = vm.smp.processorId;
  flags[pfn] |= vm.reclaim.inFault && (vm.pages.currentFlags & PF_MEMALLOC) === 0 ? PG_LRU_WAITS | PG_ACTIVE : PG_LRU_WAITS;
  lists.pushBack(vm.lruBatches.heads[cpu] + LRU_ADD, pfn);
  const { counts } = vm.lruBatches;
  if (++counts[cpu * NR_BATCHES + LRU_ADD] >= PAGEVEC_SIZE || (flags[pfn] & PG_HEAD) !== 0) drainBatch(vm, cpu, LRU_ADD);
}

/** Whether reclaim may take a page. @linux mm/internal.h:folio_evictable */
export function folioEvictable(flags: number): boolean {
  return (flags & PG_MLOCKED) === 0;
}

/** @linux mm/swap.c:lru_add */
function lruAdd(vm: Vm, pfn: Pfn): void {
  const { flags } = vm.frames;
  const before = flags[pfn];
  const wasUnevictable = (before & PG_UNEVICTABLE) !== 0;
  let after = (before & ~PG_LRU_WAITS) | PG_LRU;
  if (folioEvictable(before)) {
    if (wasUnevictable) vm.pages.countEvent(VM_EVENT.UNEVICTABLE_PGRESCUED, folioNrPages(vm.frames, pfn));
    after &= ~PG_UNEVICTABLE;
  } else {
    if (!wasUnevictable) vm.pages.countEvent(VM_EVENT.UNEVICTABLE_PGCULLED, folioNrPages(vm.frames, pfn));
    after = (after & ~PG_ACTIVE) | PG_UNEVICTABLE;
  }
  flags[pfn] = after;
  vm.pages.lru.add(pfn);
}

// ---- use

/** Notes a use of a page other than through page tables, as the reclaim policy sees it. @linux mm/swap.c:folio_mark_accessed */
export function folioMarkAccessed(vm: Vm, pfn: Pfn): void {
  vm.reclaim.policy.markAccessed(pfn);
}

/** Moves a page to the front of the active list. @linux mm/swap.c:folio_activate */
export function folioActivate(vm: Vm, pfn: Pfn): void {
  if ((vm.frames.flags[pfn] & (PG_LRU | PG_ACTIVE | PG_UNEVICTABLE)) === PG_LRU) addMove(vm, LRU_ACTIVATE, pfn);
}

/** Moves a page to the front of the inactive list. @linux mm/swap.c:folio_deactivate */
export function folioDeactivate(vm: Vm, pfn: Pfn): void {
  if ((vm.frames.flags[pfn] & (PG_LRU | PG_UNEVICTABLE)) === PG_LRU) addMove(vm, LRU_DEACTIVATE, pfn);
}

/** A page of a file could not be dropped on request: it shall go soon. @linux mm/swap.c:deactivate_file_folio */
export function deactivateFileFolio(vm: Vm, pfn: Pfn): void {
  if ((vm.frames.flags[pfn] & (PG_LRU | PG_UNEVICTABLE)) === PG_LRU) addMove(vm, LRU_DEACTIVATE_FILE, pfn);
}

/** Makes an anonymous page one that can be dropped without being written anywhere. @linux mm/swap.c:folio_mark_lazyfree */
export function folioMarkLazyfree(vm: Vm, pfn: Pfn): void {
  const wanted = PG_LRU | PG_ANON | PG_SWAPBACKED;
  if ((vm.frames.flags[pfn] & (wanted | PG_UNEVICTABLE | PG_SWAPCACHE)) === wanted) addMove(vm, LRU_LAZYFREE, pfn);
}

/** A page that waited to be written is clean: it goes next. @linux mm/swap.c:folio_rotate_reclaimable */
export function folioRotateReclaimable(vm: Vm, pfn: Pfn): void {
  const { flags } = vm.frames;
  if ((flags[pfn] & (PG_LRU | PG_DIRTY | PG_LOCKED | PG_UNEVICTABLE)) === PG_LRU) addMove(vm, LRU_MOVE_TAIL, pfn);
}

/** Makes a page, wherever it waits, one to be moved later: it leaves its list now, and keeps its count. */
function addMove(vm: Vm, batch: number, pfn: Pfn): void {
  const { lists, flags } = vm.frames;
  const cpu = vm.smp.processorId;
  lists.moveToBack(vm.lruBatches.heads[cpu] + batch, pfn);
  const { counts } = vm.lruBatches;
  if (++counts[cpu * NR_BATCHES + batch] >= PAGEVEC_SIZE || (flags[pfn] & PG_HEAD) !== 0) drainBatch(vm, cpu, batch);
}

/** Gives a page with PG_LRU, which is in no ring, other flags, and puts it where they tell. */
function relist(vm: Vm, pfn: Pfn, clear: number, set: number): void {
  const { lru } = vm.pages;
  const { flags } = vm.frames;
  lru.leave(pfn);
  flags[pfn] = (flags[pfn] & ~clear) | set;
  lru.add(pfn);
}

function isOnActive(list: number): boolean {
  return list === LRU_ACTIVE_ANON || list === LRU_ACTIVE_FILE;
}

/** @linux mm/swap.c:lru_activate, lru_deactivate, lru_deactivate_file, lru_lazyfree, lru_move_tail */
function makeMove(vm: Vm, batch: number, pfn: Pfn): void {
  const { events, lru } = vm.pages;
  const { flags, frames } = { flags: vm.frames.flags[pfn], frames: vm.frames };
  const nrPages = folioNrPages(frames, pfn);
  switch (batch) {
    case LRU_ACTIVATE:
      if ((flags & (PG_ACTIVE | PG_UNEVICTABLE)) !== 0) break;
      relist(vm, pfn, 0, PG_ACTIVE);
      countFolioEvents(vm, pfn, VM_EVENT.PGACTIVATE, nrPages);
      return;
    case LRU_DEACTIVATE:
      if ((flags & PG_UNEVICTABLE) !== 0) break;
      if (lru.placement?.coldGoLast === true) {
        lru.leave(pfn);
        frames.flags[pfn] &= ~PG_REFERENCED;
        lru.addTail(pfn);
        countFolioEvents(vm, pfn, VM_EVENT.PGDEACTIVATE, nrPages);
        return;
      }
      if (!isOnActive(lru.countedOn(pfn))) break;
      // Lists of a policy's own know by this what is used.
      relist(vm, pfn, lru.placement === null ? PG_ACTIVE | PG_REFERENCED : PG_ACTIVE | PG_REFERENCED | PG_WORKINGSET, 0);
      countFolioEvents(vm, pfn, VM_EVENT.PGDEACTIVATE, nrPages);
      return;
    case LRU_DEACTIVATE_FILE:
      if ((flags & PG_UNEVICTABLE) !== 0 || frames.mapcount[pfn] > 0) break;
      if ((flags & (PG_WRITEBACK | PG_DIRTY)) !== 0) {
        relist(vm, pfn, PG_ACTIVE | PG_REFERENCED, PG_RECLAIM);
      } else {
        lru.leave(pfn);
        frames.flags[pfn] &= ~(PG_ACTIVE | PG_REFERENCED);
        lru.addTail(pfn);
        events[VM_EVENT.PGROTATED] += nrPages;
      }
      if ((flags & PG_ACTIVE) !== 0) countFolioEvents(vm, pfn, VM_EVENT.PGDEACTIVATE, nrPages);
      return;
    case LRU_LAZYFREE:
      if ((flags & (PG_ANON | PG_SWAPBACKED | PG_SWAPCACHE | PG_UNEVICTABLE)) !== (PG_ANON | PG_SWAPBACKED)) break;
      relist(vm, pfn, PG_ACTIVE | PG_REFERENCED | PG_SWAPBACKED, 0);
      countFolioEvents(vm, pfn, VM_EVENT.PGLAZYFREE, nrPages);
      return;
    default:
      if ((flags & PG_UNEVICTABLE) !== 0) break;
      lru.leave(pfn);
      frames.flags[pfn] &= ~PG_ACTIVE;
      lru.addTail(pfn);
      events[VM_EVENT.PGROTATED] += nrPages;
      return;
  }
  lru.link(pfn);
}

// ---- draining

function drainBatch(vm: Vm, cpu: number, batch: number): void {
  const { lists } = vm.frames;
  const { heads, counts } = vm.lruBatches;
  const head = heads[cpu] + batch;
  counts[cpu * NR_BATCHES + batch] = 0;
  for (;;) {
    const pfn = lists.popFront(head);
    if (pfn === 0) return;
    if (batch === LRU_ADD) lruAdd(vm, pfn);
    else makeMove(vm, batch, pfn);
  }
}

/** Makes the moves that wait on a CPU. @linux mm/swap.c:lru_add_drain_cpu */
export function lruAddDrainCpu(vm: Vm, cpu: number): void {
  const { counts } = vm.lruBatches;
  for (let batch = 0; batch < NR_BATCHES; batch++) {
    if (counts[cpu * NR_BATCHES + batch] > 0) drainBatch(vm, cpu, batch);
  }
}

/** Makes the moves that wait on the running CPU. @linux mm/swap.c:lru_add_drain */
export function lruAddDrain(vm: Vm): void {
  lruAddDrainCpu(vm, vm.smp.processorId);
}

/** Makes the moves that wait on any CPU: then every page of user space is on a list. @linux mm/swap.c:lru_add_drain_all */
export function lruAddDrainAll(vm: Vm): void {
  for (let cpu = 0; cpu < vm.lruBatches.heads.length; cpu++) lruAddDrainCpu(vm, cpu);
}

// ---- off the lists

/**
 * Takes a page off its list, with a reference for the caller. Nobody else finds it there until {@link putbackLru}.
 *
 * @param pfn a page, or the head of a compound one
 * @returns false where it is on none, or still waits to be put on one
 * @linux mm/vmscan.c:folio_isolate_lru
 */
export function isolateLru(vm: Vm, pfn: Pfn): boolean {
  const { flags, refcount } = vm.frames;
  if ((flags[pfn] & PG_LRU) === 0) return false;
  bugOn((flags[pfn] & PG_TAIL) !== 0 || refcount[pfn] === 0, 'lru: a page that is none is on a list');
  vm.pages.lru.del(pfn);
  flags[pfn] &= ~PG_LRU;
  refcount[pfn]++;
  return true;
}

/** Puts a page that was isolated onto the list its flags tell now, and drops the reference. @linux mm/vmscan.c:folio_putback_lru */
export function putbackLru(vm: Vm, pfn: Pfn): void {
  folioAddLru(vm, pfn);
  vm.pages.putPage(pfn);
}

/** A page was locked in memory: reclaim does not look at it any more. @linux mm/mlock.c:__mlock_folio */
export function lruMlock(vm: Vm, pfn: Pfn): void {
  const { flags } = vm.frames;
  if ((flags[pfn] & (PG_LRU | PG_UNEVICTABLE | PG_TAIL)) !== PG_LRU) return;
  vm.pages.lru.del(pfn);
  flags[pfn] = (flags[pfn] & ~PG_ACTIVE) | PG_UNEVICTABLE;
  vm.pages.lru.add(pfn);
  vm.pages.countEvent(VM_EVENT.UNEVICTABLE_PGCULLED, folioNrPages(vm.frames, pfn));
}

/** A page is not locked any more. @linux mm/mlock.c:__munlock_folio */
export function lruMunlock(vm: Vm, pfn: Pfn): void {
  const { flags } = vm.frames;
  if ((flags[pfn] & (PG_LRU | PG_UNEVICTABLE | PG_TAIL)) !== (PG_LRU | PG_UNEVICTABLE)) return;
  vm.pages.lru.del(pfn);
  flags[pfn] &= ~PG_UNEVICTABLE;
  vm.pages.lru.add(pfn);
  vm.pages.countEvent(VM_EVENT.UNEVICTABLE_PGRESCUED, folioNrPages(vm.frames, pfn));
}

// ---- splitting

/**
 * A compound page on a list is now single pages: they follow its head.
 *
 * @param wasLru what of the head's flags the others get: those that say on which list it is
 * @linux mm/huge_memory.c:lru_add_split_folio
 */
export function lruAddSplit(vm: Vm, head: Pfn, nrPages: number, wasLru: number): void {
  const { flags, lists } = vm.frames;
  if ((wasLru & PG_LRU) === 0) {
    for (let pfn = head + 1; pfn < head + nrPages; pfn++) folioAddLru(vm, pfn);
    return;
  }
  let before = head;
  for (let pfn = head + 1; pfn < head + nrPages; pfn++) {
    flags[pfn] |= wasLru;
    vm.pages.lru.split(head, pfn);
    lists.pushFront(before, pfn);
    before = pfn;
  }
}

// ---- validation

/**
 * Checks lists and batches, and recomputes the lists' counters.
 *
 *     NR_INACTIVE_ANON … NR_UNEVICTABLE === pages with PG_LRU whose flags tell that list
 *     each of them is on that list, or in one batch
 *
 * @throws KernelBug at the first that does not hold
 */
export function validateLru(vm: Vm): void {
  const { lru, nodes } = vm.pages;
  const { flags, lists } = vm.frames;
  const found = new Map([...lru.all()].map((lruvec) => [lruvec, new Array<number>(NR_LRU_LISTS).fill(0)]));
  const count = (lruvec: Lruvec, pfn: Pfn): void => {
    found.get(lruvec)![lru.countedOn(pfn)] += folioNrPages(vm.frames, pfn);
  };
  lru.validate(count);
  for (const lruvec of found.keys()) vm.reclaim.policy.validate?.(lruvec);
  for (const [cpu, first] of vm.lruBatches.heads.entries()) {
    for (let batch = 0; batch < NR_BATCHES; batch++) {
      const length = lists.validate(first + batch);
      bugOn(length > vm.lruBatches.counts[cpu * NR_BATCHES + batch], `lru: batch ${batch} of CPU ${cpu} holds more than it counts`);
      const state = batch === LRU_ADD ? PG_LRU_WAITS : PG_LRU;
      for (const pfn of lists.iterate(first + batch)) {
        bugOn((flags[pfn] & (PG_LRU | PG_LRU_WAITS)) !== state, `lru: frame ${pfn} is in batch ${batch}, and its flags do not say so`);
        if (batch !== LRU_ADD) count(lru.lruvecOf(pfn), pfn);
      }
    }
  }
  for (const node of nodes) {
    for (let list = 0; list < NR_LRU_LISTS; list++) {
      const counted = lru.size(node.nid, list);
      let there = 0;
      for (const [lruvec, lengths] of found) {
        if (lruvec.nid !== node.nid) continue;
        there += lengths[list];
        bugOn(lruvec.size(list) !== lengths[list], `lru: list ${list} of node ${node.nid} counts ${lruvec.size(list)} pages, and holds ${lengths[list]}`);
      }
      bugOn(counted !== there, `lru: list ${list} of node ${node.nid} counts ${counted} pages, and holds ${there}`);
      const inZones = node.zones.reduce((sum, zone) => sum + lru.zoneSize(zone, list), 0);
      bugOn(inZones !== counted, `lru: list ${list} of node ${node.nid} counts ${counted} pages, its zones ${inZones}`);
    }
  }
}
