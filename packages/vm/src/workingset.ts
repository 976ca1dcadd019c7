/**
 * Telling a page that comes back too early from one that is new: when a page is reclaimed, a *shadow* stays in its place
 * that tells how many pages had been reclaimed or activated on its node by then. If it is read again before as many
 * more have been as the other lists hold, it belongs to what is in use, and starts out active.
 *
 * A shadow is a positive int32. The second form is that of a page that went for the limit of a memory cgroup: its age is that
 * of the group, in larger steps. Machines of more than 32 nodes, and groups beyond the first 256, have the first form alone.
 *
 * ```
 *  30                  8 7       2  1       0
 * +---------------------+---------+----+-----+
 * | age, in 2^order     |  node   | ws |  1  |      ws: the page had belonged to the working set
 * +---------------------+---------+----+-----+
 *  30         16 15    8 7 6     2  1       0
 * +-------------+-------+-+-------+----+-----+
 * |     age     | slot  |1| node  | ws |  1  |      slot: of the group, see `MemCgroups.slots`
 * +-------------+-------+-+-------+----+-----+
 * ```
 *
 * @linux mm/workingset.c
 */
import type { Pfn } from '@pagelab/hw';
import {
  LRU_ACTIVE_ANON,
  LRU_ACTIVE_FILE,
  LRU_INACTIVE_ANON,
  LRU_INACTIVE_FILE,
  NODE_STAT,
  PG_ACTIVE,
  PG_SWAPBACKED,
  PG_WORKINGSET,
  folioNrPages,
} from '@pagelab/mm-core';
import type { Lruvec } from '@pagelab/mm-core';
import { memcgState } from './memcg.ts';
import { memcgSwapPages } from './memcg-swap.ts';
import type { Vm } from './vm.ts';

const AGE_BITS = 23;
const AGE_MASK = (1 << AGE_BITS) - 1;
const SWAP_CLUSTER_MAX = 32;
/** What tells the second form, and how many bits its age has. */
const GROUP_NODE = 32;
const GROUP_AGE_BITS = 15;

/** Age is counted in steps of 2^order pages where memory is large. @linux mm/workingset.c:workingset_init */
export function workingsetBucketOrder(totalramPages: number): number {
  return Math.max(0, Math.ceil(Math.log2(totalramPages)) - AGE_BITS);
}

/** Notes that `nrPages` were reclaimed or activated. @linux mm/workingset.c:workingset_age_nonresident */
function workingsetAgeNonresident(lruvec: Lruvec, nrPages: number): void {
  for (let each: Lruvec | null = lruvec; each !== null; each = each.parent) each.nonresidentAge += nrPages;
}

/** What stays in the place of a page. @param token 23 bits that are the policy's own @linux mm/workingset.c:pack_shadow */
export function packShadow(lruvec: Lruvec, token: number, workingset: boolean): number {
  return ((token & AGE_MASK) << 8) | (lruvec.nid << 2) | (workingset ? 2 : 0) | 1;
}

/** The lists that the page was on. @linux mm/workingset.c:unpack_shadow */
export function shadowLruvec(vm: Vm, shadow: number): Lruvec {
  const { lruvecs } = vm.pages.lru;
  const node = (shadow >>> 2) & 63;
  return lruvecs.length > GROUP_NODE ? lruvecs[node] : lruvecs[node % GROUP_NODE];
}

/** Steps that the age of a group is told in, in pages. */
function groupStep(vm: Vm): number {
  return 2 ** (vm.reclaim.bucketOrder + Math.max(0, Math.ceil(Math.log2(vm.pages.totalramPages)) - vm.reclaim.bucketOrder - GROUP_AGE_BITS));
}

export function shadowToken(shadow: number): number {
  return shadow >>> 8;
}

/** Whether the page had belonged to the working set. */
export function shadowWorkingset(shadow: number): boolean {
  return (shadow & 2) !== 0;
}

/** A page is reclaimed. @returns its shadow @linux mm/workingset.c:workingset_eviction */
export function workingsetEviction(vm: Vm, pfn: Pfn): number {
  const nid = vm.pages.nodeOf(pfn);
  const { target } = vm.reclaim;
  const lruvec = target === null ? vm.pages.lru.lruvecs[nid] : target.lruvecs[nid];
  const workingset = (vm.frames.flags[pfn] & PG_WORKINGSET) !== 0;
  const before = lruvec.nonresidentAge;
  workingsetAgeNonresident(lruvec, folioNrPages(vm.frames, pfn));
  if (target === null || target.slot < 0 || vm.pages.nodes.length > GROUP_NODE) {
    return packShadow(vm.pages.lru.lruvecs[nid], Math.floor(before / 2 ** vm.reclaim.bucketOrder) % 2 ** AGE_BITS, workingset);
  }
  const age = Math.floor(before / groupStep(vm)) % 2 ** GROUP_AGE_BITS;
  return (age << 16) | (target.slot << 8) | ((nid | GROUP_NODE) << 2) | (workingset ? 2 : 0) | 1;
}

/** Whether the page of a shadow comes back while the pages in its stead are still there. @linux mm/workingset.c:workingset_test_recent */
export function workingsetTestRecent(vm: Vm, shadow: number, file: boolean): boolean {
  const { nid, nonresidentAge } = shadowLruvec(vm, shadow);
  if (vm.memcgs !== null && ((shadow >>> 2) & GROUP_NODE) !== 0 && vm.pages.nodes.length <= GROUP_NODE) {
    const memcg = vm.memcgs.slots[(shadow >>> 8) & 255];
    if (memcg === undefined) return false;
    const step = groupStep(vm);
    const distance = ageDistance(memcg.lruvecs[nid].nonresidentAge / step, shadow >>> 16, GROUP_AGE_BITS) * step;
    return distance <= workingsetSize((lru) => memcgState(memcg, lru, nid), memcgSwapPages(vm, memcg) > 0, file);
  }
  const step = 2 ** vm.reclaim.bucketOrder;
  const distance = ageDistance(nonresidentAge / step, shadowToken(shadow), AGE_BITS) * step;
  return distance <= workingsetSize((lru) => vm.pages.lru.size(nid, lru), vm.swap.nrFree > 0, file);
}

/** How many steps ago an age of so many bits was. */
function ageDistance(now: number, then: number, bits: number): number {
  return ((Math.floor(now) % 2 ** bits) - then + 2 ** bits) % 2 ** bits;
}

/** Pages that compete with one that comes back. */
function workingsetSize(sizeOf: (lru: number) => number, hasSwap: boolean, file: boolean): number {
  let size = sizeOf(LRU_ACTIVE_FILE);
  if (!file) size += sizeOf(LRU_INACTIVE_FILE);
  if (!hasSwap) return size;
  size += sizeOf(LRU_ACTIVE_ANON);
  return file ? size + sizeOf(LRU_INACTIVE_ANON) : size;
}

/** A page is read that was reclaimed before. @linux mm/workingset.c:workingset_refault */
export function workingsetRefault(vm: Vm, pfn: Pfn, shadow: number): void {
  const { flags } = vm.frames;
  const file = (flags[pfn] & PG_SWAPBACKED) === 0;
  const step = file ? 1 : 0;
  const { pages } = vm;
  pages.modNodeState(pfn, NODE_STAT.WORKINGSET_REFAULT_ANON + step, 1);
  if (!workingsetTestRecent(vm, shadow, file)) return;
  flags[pfn] |= PG_ACTIVE;
  const lruvec = pages.lru.lruvecOf(pfn);
  workingsetAgeNonresident(lruvec, 1);
  lruvec.activations[step]++;
  pages.modNodeState(pfn, NODE_STAT.WORKINGSET_ACTIVATE_ANON + step, 1);
  if (!shadowWorkingset(shadow)) return;
  flags[pfn] |= PG_WORKINGSET;
  lruNoteCost(lruvec, file, 1, 0);
  pages.modNodeState(pfn, NODE_STAT.WORKINGSET_RESTORE_ANON + step, 1);
}

/** A page becomes active: those below it are that much older. @linux mm/workingset.c:workingset_activation */
export function workingsetActivation(vm: Vm, pfn: Pfn): void {
  workingsetAgeNonresident(vm.pages.lru.lruvecOf(pfn), folioNrPages(vm.frames, pfn));
}

/**
 * Notes what reclaiming one kind has cost: input and output, and pages looked at in vain. The other kind is preferred for
 * a while.
 *
 * @linux mm/swap.c:lru_note_cost_unlock_irq
 */
export function lruNoteCost(lruvec: Lruvec, file: boolean, nrIo: number, nrRotated: number): void {
  const cost = nrIo * SWAP_CLUSTER_MAX + nrRotated;
  if (cost === 0) return;
  for (let each: Lruvec | null = lruvec; each !== null; each = each.parent) {
    if (file) each.fileCost += cost;
    else each.anonCost += cost;
    const pages = each.size(LRU_INACTIVE_ANON) + each.size(LRU_ACTIVE_ANON) + each.size(LRU_INACTIVE_FILE) + each.size(LRU_ACTIVE_FILE);
    if (each.fileCost + each.anonCost <= pages / 4) continue;
    each.fileCost = Math.floor(each.fileCost / 2);
    each.anonCost = Math.floor(each.anonCost / 2);
  }
}
