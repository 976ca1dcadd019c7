/**
 * Aging: a new youngest generation, and the end of an oldest one.
 *
 * @linux mm/vmscan.c:try_to_inc_max_seq, try_to_inc_min_seq
 */
import { LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, folioNrPages } from '@pagelab/mm-core';
import type { Lruvec } from '@pagelab/mm-core';
import { ANON_AND_FILE, LRU_GEN_ANON, LRU_GEN_FILE, MAX_NR_GENS, MIN_NR_GENS, genOf, genOfLruvec } from './lru-gen.ts';
import type { LruGen, LruGenLists } from './lru-gen.ts';
import { MAX_NR_TIERS } from './lru-gen-tiers.ts';
import { walkAddressSpaces } from './lru-gen-walk.ts';
import type { LruGenCaps } from './lru-gen-walk.ts';
import { MAX_SWAPPINESS, SWAPPINESS_ANON_ONLY } from './scan-control.ts';
import type { Vm } from './vm.ts';

/** What of the policy aging and eviction work with. */
export interface LruGenContext {
  readonly vm: Vm;
  readonly lists: LruGenLists;
  readonly caps: LruGenCaps;
}

/** The oldest generation that has pages to take: where nothing is swapped, those of files count alone. @linux mm/vmscan.c:evictable_min_seq */
export function evictableMinSeq({ minSeq }: LruGen, swappiness: number): number {
  return Math.min(minSeq[swappiness === 0 ? LRU_GEN_FILE : LRU_GEN_ANON], minSeq[swappiness <= MAX_SWAPPINESS ? LRU_GEN_FILE : LRU_GEN_ANON]);
}

/** Whether pages of a kind are taken. @linux mm/vmscan.c:for_each_evictable_type */
export function isEvictable(type: number, swappiness: number): boolean {
  return type === LRU_GEN_ANON ? swappiness > 0 : swappiness <= MAX_SWAPPINESS;
}

/**
 * Makes a new youngest generation: page tables are walked for pages in use, which join the youngest there is, and that one
 * begins to age.
 *
 * @param seq the youngest generation as the caller knows it
 * @param force every page table is walked, not only those that are worth it
 * @returns false where somebody was faster
 * @linux mm/vmscan.c:try_to_inc_max_seq
 */
export function tryToIncMaxSeq(context: LruGenContext, lruvec: Lruvec, seq: number, swappiness: number, force: boolean): boolean {
  if (seq < genOfLruvec(lruvec).maxSeq) return false;
  if (context.caps.walksMmu) walkAddressSpaces(context, lruvec, swappiness, force);
  incMaxSeq(context, lruvec, swappiness);
  return true;
}

/** @linux mm/vmscan.c:inc_max_seq */
function incMaxSeq(context: LruGenContext, lruvec: Lruvec, swappiness: number): void {
  const { vm } = context;
  const lrugen = genOfLruvec(lruvec);
  for (let type = 0; type < ANON_AND_FILE; type++) {
    if (lrugen.nrGens(type) === MAX_NR_GENS) incMinSeq(context, lruvec, type, swappiness);
  }
  // The last but one is not active any more; the list that becomes the youngest may hold what belonged to the oldest.
  const prev = genOf(lrugen.maxSeq - 1);
  const next = genOf(lrugen.maxSeq + 1);
  for (let type = 0; type < ANON_AND_FILE; type++) {
    const inactive = type === LRU_GEN_FILE ? LRU_INACTIVE_FILE : LRU_INACTIVE_ANON;
    for (const zone of vm.pages.nodes[lruvec.nid].zones) {
      const delta = lrugen.nrPages[lrugen.at(prev, type, zone.index)] - lrugen.nrPages[lrugen.at(next, type, zone.index)];
      if (delta === 0) continue;
      vm.pages.lru.countZone(lruvec, zone, inactive, delta);
      vm.pages.lru.countZone(lruvec, zone, inactive + 1, -delta);
    }
  }
  lrugen.birth[next] = vm.clock.now;
  lrugen.maxSeq++;
}

/**
 * Ends the oldest generation of a kind that has as many as there can be: what is left joins the next one, in front of which it goes.
 *
 * @linux mm/vmscan.c:inc_min_seq
 */
function incMinSeq({ vm, lists }: LruGenContext, lruvec: Lruvec, type: number, swappiness: number): void {
  const lrugen = genOfLruvec(lruvec);
  const { frames } = vm;
  const evictable = type === LRU_GEN_ANON ? swappiness > 0 : swappiness !== SWAPPINESS_ANON_ONLY;
  if (evictable) {
    const oldGen = genOf(lrugen.minSeq[type]);
    for (let zone = 0; zone < lrugen.nrZones; zone++) {
      const head = lrugen.heads + lrugen.at(oldGen, type, zone);
      for (let pfn = frames.lists.last(head); pfn !== 0; pfn = frames.lists.last(head)) {
        const tier = lists.tier(pfn);
        const isCounted = !lists.beforeRework && !lists.isSaturated(pfn);
        const gen = lists.incGen(lruvec, pfn, type, false);
        frames.lists.moveToBack(lists.row(lruvec, pfn, gen), pfn);
        if (isCounted) lrugen.tiers.protected[type * MAX_NR_TIERS + tier] += folioNrPages(frames, pfn);
      }
    }
  }
  lrugen.tiers.carryOver(type);
  lrugen.minSeq[type]++;
}

/**
 * Ends the oldest generations that have become empty.
 *
 * @returns whether there was one
 * @linux mm/vmscan.c:try_to_inc_min_seq
 */
export function tryToIncMinSeq({ vm, lists: pages }: LruGenContext, lruvec: Lruvec, swappiness: number): boolean {
  const lrugen = genOfLruvec(lruvec);
  const { lists } = vm.frames;
  const min: [number, number] = [...lrugen.minSeq];
  let isEmpty = false;
  for (let type = 0; type < ANON_AND_FILE; type++) {
    if (!isEvictable(type, swappiness)) continue;
    while (min[type] + MIN_NR_GENS <= lrugen.maxSeq) {
      let has = false;
      for (let zone = 0; zone < lrugen.nrZones && !has; zone++) has = !lists.isEmpty(lrugen.heads + lrugen.at(genOf(min[type]), type, zone));
      if (has) break;
      min[type]++;
      isEmpty = true;
    }
  }
  // Anonymous memory is never younger than files.
  if (pages.beforeRework) {
    if (swappiness > 0) {
      min[LRU_GEN_ANON] = Math.min(...min);
      min[LRU_GEN_FILE] = Math.max(min[LRU_GEN_ANON], lrugen.minSeq[LRU_GEN_FILE]);
    }
    return endGenerations(lrugen, min);
  }
  // One kind does not run so far ahead of the other that pages of both could not be compared.
  if (swappiness > 0 && swappiness <= MAX_SWAPPINESS) {
    const seq = lrugen.maxSeq - MIN_NR_GENS;
    if (min[LRU_GEN_ANON] > seq && min[LRU_GEN_FILE] < seq) min[LRU_GEN_ANON] = seq;
    else if (min[LRU_GEN_FILE] > seq && min[LRU_GEN_ANON] < seq) min[LRU_GEN_FILE] = seq;
  }
  return isEmpty && endGenerations(lrugen, min);
}

/** Lets the oldest generations be others. @returns whether they are */
function endGenerations(lrugen: LruGen, min: readonly number[]): boolean {
  let changed = false;
  for (let type = 0; type < ANON_AND_FILE; type++) {
    if (min[type] <= lrugen.minSeq[type]) continue;
    lrugen.tiers.carryOver(type);
    lrugen.minSeq[type] = min[type];
    changed = true;
  }
  return changed;
}

