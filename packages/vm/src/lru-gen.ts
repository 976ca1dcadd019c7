/**
 * Generations: the pages of a node by how long ago they were last seen in use. The youngest generation has the number
 * `maxSeq`, the oldest `minSeq`, for each kind of memory; a generation is a list for each zone. Aging makes a new youngest
 * one; eviction takes from the oldest, and drops it when it is empty.
 *
 *     minSeq[type] <= maxSeq, and maxSeq - minSeq[type] + 1 is 2 … 4
 *     nrPages[gen][type][zone] === pages that have entered and whose generation, kind and zone are these
 *     NR_ACTIVE_… of the node   === pages of the generations maxSeq and maxSeq − 1; NR_INACTIVE_… those of the others
 *
 * A page keeps, beside its flags, eight bits of its own:
 *
 * ```
 *   7     5 4    3 2          0
 *  +-------+------+------------+
 *  |   0   | refs | generation |    generation: 1 + its number modulo 4, 0 while it has not entered
 *  +-------+------+------------+    refs: uses through files, beyond the one that PG_referenced tells of
 * ```
 *
 * A page that page tables show to be in use gets another generation where it lies: its list is the wrong one until eviction
 * comes by and moves it. Only PG_active is never set on a page that has entered; it tells, when a page leaves, that it was
 * in one of the two youngest generations.
 *
 * @linux include/linux/mmzone.h:lru_gen_folio, include/linux/mm_inline.h
 */
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import {
  LRU_INACTIVE_ANON,
  LRU_INACTIVE_FILE,
  LazyColumns,
  NR_LRU_LISTS,
  PG_ACTIVE,
  PG_DIRTY,
  PG_RECLAIM,
  PG_REFERENCED,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_WORKINGSET,
  PG_WRITEBACK,
  folioNrPages,
} from '@pagelab/mm-core';
import type { LruPlacement, Lruvec } from '@pagelab/mm-core';
import { BloomFilters } from './lru-gen-bloom.ts';
import { LRU_REFS_WIDTH, TierStats, tierBefore, tierOf } from './lru-gen-tiers.ts';
import type { Vm } from './vm.ts';

/** Generations that each kind of memory has at least and at most. @linux include/linux/mmzone.h:MIN_NR_GENS, MAX_NR_GENS */
export const MIN_NR_GENS = 2;
export const MAX_NR_GENS = 4;
/** Kinds of memory. @linux include/linux/mmzone.h:ANON_AND_FILE */
export const LRU_GEN_ANON = 0;
export const LRU_GEN_FILE = 1;
export const ANON_AND_FILE = 2;

const GEN_MASK = 7;
const REFS_SHIFT = 3;
const REFS_MASK = 3 << REFS_SHIFT;

/** The list of a sequence number. @linux include/linux/mm_inline.h:lru_gen_from_seq */
export function genOf(seq: number): number {
  return seq % MAX_NR_GENS;
}

/** The generations of an lruvec. @linux include/linux/mmzone.h:lru_gen_folio */
export class LruGen {
  maxSeq = MIN_NR_GENS + 1;
  readonly minSeq: [anon: number, file: number] = [0, 0];
  /** When each generation began, by list, in nanoseconds of the clock. */
  readonly birth: Float64Array;
  /** Row of the head of the first list; that of a generation, kind and zone is {@link at} further. */
  readonly heads: number;
  /** Pages, in the same order. */
  readonly nrPages: Float64Array;
  readonly nrZones: number;
  readonly tiers = new TierStats();
  /** Third-level entries whose tables are worth a look. */
  readonly filters = new BloomFilters();

  constructor(heads: number, nrZones: number, now: number) {
    this.heads = heads;
    this.nrZones = nrZones;
    this.nrPages = new Float64Array(MAX_NR_GENS * ANON_AND_FILE * nrZones);
    this.birth = new Float64Array(MAX_NR_GENS).fill(now);
  }

  at(gen: number, type: number, zone: number): number {
    return (gen * ANON_AND_FILE + type) * this.nrZones + zone;
  }

  /** Generations that a kind of memory has. @linux include/linux/mm_inline.h:get_nr_gens */
  nrGens(type: number): number {
    return this.maxSeq - this.minSeq[type] + 1;
  }

  /** Whether a list is one of the two that count as active. @linux include/linux/mm_inline.h:lru_gen_is_active */
  isActive(gen: number): boolean {
    return gen === genOf(this.maxSeq) || gen === genOf(this.maxSeq - 1);
  }

  /** Pages of a generation and kind. */
  size(seq: number, type: number): number {
    let pages = 0;
    for (let zone = 0; zone < this.nrZones; zone++) pages += this.nrPages[this.at(genOf(seq), type, zone)];
    return pages;
  }
}

/** The generations of an lruvec that this policy was installed on. */
export function genOfLruvec(lruvec: Lruvec): LruGen {
  return lruvec.policyState as LruGen;
}

/** Places pages on the lists of generations, and knows each page's. */
export class LruGenLists implements LruPlacement {
  readonly #vm: Vm;
  /** By pfn: see the head of this file. */
  readonly #bits: Uint8Array;
  /**
   * Uses and tiers are as they were before 6.14: a page that is found in use goes to the youngest generation at once, one that is
   * refused, too; PG_workingset counts as a use; and what comes back was taken too early if its generation is still the oldest.
   */
  readonly beforeRework: boolean;

  constructor(vm: Vm, beforeRework: boolean) {
    this.#vm = vm;
    this.beforeRework = beforeRework;
    const { nrFrames } = vm.frames;
    this.#bits = new LazyColumns(nrFrames, 1).uint8(nrFrames);
  }

  // ---- a page's own bits

  /** The generation's list, −1 while it has not entered. @linux include/linux/mm_inline.h:folio_lru_gen */
  folioGen(pfn: Pfn): number {
    return (this.#bits[pfn] & GEN_MASK) - 1;
  }

  /**
   * Uses so far, as PG_referenced and the bits beside it tell: 0 … 4. Before 6.14 those beyond the first, as PG_workingset and
   * the bits tell.
   *
   * @linux include/linux/mm_inline.h:folio_lru_refs
   */
  folioRefs(pfn: Pfn): number {
    if (this.beforeRework) return ((this.#bits[pfn] & REFS_MASK) >>> REFS_SHIFT) + ((this.#vm.frames.flags[pfn] & PG_WORKINGSET) !== 0 ? 1 : 0);
    if ((this.#vm.frames.flags[pfn] & PG_REFERENCED) === 0) return 0;
    return ((this.#bits[pfn] & REFS_MASK) >>> REFS_SHIFT) + 1;
  }

  /** The tier of a page: 0 … 3. @linux include/linux/mm_inline.h:lru_tier_from_refs */
  tier(pfn: Pfn): number {
    const refs = this.folioRefs(pfn);
    return this.beforeRework ? tierBefore(refs) : tierOf(refs, (this.#vm.frames.flags[pfn] & PG_WORKINGSET) !== 0);
  }

  /** Whether a page was used as often as can be told. From 6.14 on it goes to the next generation without being counted as protected. */
  isSaturated(pfn: Pfn): boolean {
    return this.folioRefs(pfn) === 1 << LRU_REFS_WIDTH && (this.#vm.frames.flags[pfn] & PG_WORKINGSET) !== 0;
  }

  setRefs(pfn: Pfn, refs: number): void {
    this.#bits[pfn] = (this.#bits[pfn] & ~REFS_MASK) | (refs << REFS_SHIFT);
  }

  /** Counts a use through a file. @linux mm/swap.c:lru_gen_inc_refs */
  incRefs(pfn: Pfn): void {
    const { flags } = this.#vm.frames;
    if ((flags[pfn] & PG_REFERENCED) === 0) {
      flags[pfn] |= PG_REFERENCED;
      if (!this.beforeRework) this.#bits[pfn] &= ~REFS_MASK;
    } else if (this.beforeRework && (flags[pfn] & PG_WORKINGSET) === 0) {
      flags[pfn] |= PG_WORKINGSET;
    } else if ((this.#bits[pfn] & REFS_MASK) === REFS_MASK) {
      flags[pfn] |= PG_WORKINGSET;
    } else {
      this.#bits[pfn] += 1 << REFS_SHIFT;
    }
  }

  /**
   * Notes a use that a page table told of. The first is only noted; the second makes the page one of the working set.
   *
   * @returns whether it is that now
   * @linux mm/vmscan.c:lru_gen_set_refs
   */
  noteUse(pfn: Pfn): boolean {
    const { flags } = this.#vm.frames;
    this.#bits[pfn] &= ~REFS_MASK;
    if ((flags[pfn] & (PG_REFERENCED | PG_WORKINGSET)) === 0) {
      flags[pfn] |= PG_REFERENCED;
      return false;
    }
    flags[pfn] = (flags[pfn] & ~PG_REFERENCED) | PG_WORKINGSET;
    return true;
  }

  /** The same for a page that is found in use by a walk: one of the working set moves to a generation. @linux mm/vmscan.c:folio_update_gen */
  promote(lruvec: Lruvec, pfn: Pfn, gen: number): void {
    const { flags } = this.#vm.frames;
    if (this.beforeRework) {
      this.#promoteAtOnce(lruvec, pfn, gen);
      return;
    }
    if ((flags[pfn] & (PG_REFERENCED | PG_WORKINGSET)) === 0) {
      this.#bits[pfn] &= ~REFS_MASK;
      flags[pfn] |= PG_REFERENCED;
      return;
    }
    const oldGen = this.folioGen(pfn);
    if (oldGen < 0) return;
    this.#bits[pfn] = gen + 1;
    flags[pfn] = (flags[pfn] & ~PG_REFERENCED) | PG_WORKINGSET;
    if (oldGen !== gen) this.#updateSize(lruvec, pfn, oldGen, gen);
  }

  /** Before 6.14: whatever is found in use moves, and counts its uses anew. */
  #promoteAtOnce(lruvec: Lruvec, pfn: Pfn, gen: number): void {
    const { flags } = this.#vm.frames;
    const oldGen = this.folioGen(pfn);
    if (oldGen < 0) {
      flags[pfn] |= PG_REFERENCED;
      return;
    }
    this.#bits[pfn] = gen + 1;
    flags[pfn] &= ~(PG_REFERENCED | PG_WORKINGSET);
    if (oldGen !== gen) this.#updateSize(lruvec, pfn, oldGen, gen);
  }

  /**
   * Moves a page of the oldest generation to the next one; where it lies stays to be changed.
   *
   * @param reclaiming it is being written, and shall go when that is done
   * @returns the list it belongs on now: another one where it was found in use before
   * @linux mm/vmscan.c:folio_inc_gen
   */
  incGen(lruvec: Lruvec, pfn: Pfn, type: number, reclaiming: boolean): number {
    const { flags } = this.#vm.frames;
    const oldGen = genOf(genOfLruvec(lruvec).minSeq[type]);
    const is = this.folioGen(pfn);
    if (is !== oldGen) return is;
    const gen = (oldGen + 1) % MAX_NR_GENS;
    this.#bits[pfn] = gen + 1;
    flags[pfn] &= this.beforeRework ? ~(PG_REFERENCED | PG_WORKINGSET) : ~PG_REFERENCED;
    if (reclaiming) flags[pfn] |= PG_RECLAIM;
    this.#updateSize(lruvec, pfn, oldGen, gen);
    return gen;
  }

  /** Row of the head of the list of a generation that suits a page. */
  row(lruvec: Lruvec, pfn: Pfn, gen: number): number {
    const lrugen = genOfLruvec(lruvec);
    return lrugen.heads + lrugen.at(gen, this.type(pfn), this.#vm.pages.zoneOf(pfn)!.index);
  }

  /** The kind of a page. @linux include/linux/mm_inline.h:folio_is_file_lru */
  type(pfn: Pfn): 0 | 1 {
    return (this.#vm.frames.flags[pfn] & PG_SWAPBACKED) === 0 ? LRU_GEN_FILE : LRU_GEN_ANON;
  }

  /**
   * The sequence number that a page enters with: the youngest where it was in use and of the working set, the next where it
   * was in use or is new memory of a program, the oldest where it was read from a file and no more is known.
   *
   * @linux include/linux/mm_inline.h:lru_gen_folio_seq
   */
  seqFor(lruvec: Lruvec, pfn: Pfn, reclaiming: boolean): number {
    const { maxSeq, minSeq } = genOfLruvec(lruvec);
    const flags = this.#vm.frames.flags[pfn];
    const type = this.type(pfn);
    if (this.beforeRework) return this.#seqBefore(lruvec, pfn, reclaiming);
    const worked = (flags & PG_WORKINGSET) !== 0 ? 1 : 0;
    let gen: number;
    if ((flags & PG_ACTIVE) !== 0) gen = MIN_NR_GENS - worked;
    else if (reclaiming) gen = MAX_NR_GENS;
    else if (
      (type === LRU_GEN_ANON && (flags & PG_SWAPCACHE) === 0) ||
      ((flags & PG_RECLAIM) !== 0 && (flags & (PG_DIRTY | PG_WRITEBACK)) !== 0)
    ) {
      gen = MIN_NR_GENS;
    } else gen = MAX_NR_GENS - worked;
    return Math.max(maxSeq - gen + 1, minSeq[type]);
  }

  /** The same before 6.14: what was in use is the youngest. */
  #seqBefore(lruvec: Lruvec, pfn: Pfn, reclaiming: boolean): number {
    const { maxSeq, minSeq } = genOfLruvec(lruvec);
    const flags = this.#vm.frames.flags[pfn];
    const type = this.type(pfn);
    if ((flags & PG_ACTIVE) !== 0) return maxSeq;
    if (type === LRU_GEN_ANON && (flags & PG_SWAPCACHE) === 0) return maxSeq - 1;
    if ((flags & PG_RECLAIM) !== 0 && (flags & (PG_DIRTY | PG_WRITEBACK)) !== 0) return maxSeq - 1;
    return reclaiming || minSeq[type] + MIN_NR_GENS >= maxSeq ? minSeq[type] : minSeq[type] + 1;
  }

  // ---- LruPlacement

  /** @linux include/linux/mm_inline.h:lru_gen_add_folio */
  enter(lruvec: Lruvec, pfn: Pfn, atTail: boolean): number {
    const gen = genOf(this.seqFor(lruvec, pfn, atTail));
    this.#bits[pfn] = (this.#bits[pfn] & ~GEN_MASK) | (gen + 1);
    this.#vm.frames.flags[pfn] &= ~PG_ACTIVE;
    this.#updateSize(lruvec, pfn, -1, gen);
    return this.row(lruvec, pfn, gen);
  }

  /** @linux include/linux/mm_inline.h:lru_gen_del_folio */
  leave(lruvec: Lruvec, pfn: Pfn): void {
    const gen = this.folioGen(pfn);
    this.takeOff(lruvec, pfn, gen);
    if (genOfLruvec(lruvec).isActive(gen)) this.#vm.frames.flags[pfn] |= PG_ACTIVE;
  }

  /** A page leaves to be taken away: nothing shall tell that it was in use. */
  takeOff(lruvec: Lruvec, pfn: Pfn, gen: number): void {
    bugOn(gen < 0, 'lru_gen: a page leaves that has not entered');
    this.#bits[pfn] &= ~GEN_MASK;
    this.#updateSize(lruvec, pfn, gen, -1);
  }

  rowOf(lruvec: Lruvec, pfn: Pfn): number {
    return this.row(lruvec, pfn, this.folioGen(pfn));
  }

  split(_lruvec: Lruvec, head: Pfn, pfn: Pfn): void {
    this.#bits[pfn] = this.#bits[head];
  }

  *rows(lruvec: Lruvec): Generator<number> {
    const { heads, nrPages, maxSeq, minSeq } = genOfLruvec(lruvec);
    const perGen = nrPages.length / MAX_NR_GENS;
    // Oldest first.
    for (let seq = Math.min(...minSeq); seq <= maxSeq; seq++) for (let at = 0; at < perGen; at++) yield heads + genOf(seq) * perGen + at;
  }

  mayLieOn(lruvec: Lruvec, pfn: Pfn, row: number): boolean {
    const lrugen = genOfLruvec(lruvec);
    if (this.folioGen(pfn) < 0) return false;
    const perGen = lrugen.nrPages.length / MAX_NR_GENS;
    return (row - lrugen.heads) % perGen === lrugen.at(0, this.type(pfn), this.#vm.pages.zoneOf(pfn)!.index);
  }

  countedOn(lruvec: Lruvec, pfn: Pfn): number {
    const base = this.type(pfn) === LRU_GEN_FILE ? LRU_INACTIVE_FILE : LRU_INACTIVE_ANON;
    return genOfLruvec(lruvec).isActive(this.folioGen(pfn)) ? base + 1 : base;
  }

  /** @linux include/linux/mm_inline.h:lru_gen_update_size */
  #updateSize(lruvec: Lruvec, pfn: Pfn, oldGen: number, newGen: number): void {
    const { frames, pages } = this.#vm;
    const { lru } = pages;
    const lrugen = genOfLruvec(lruvec);
    const type = this.type(pfn);
    const zone = pages.zoneOf(pfn)!.index;
    const nrPages = folioNrPages(frames, pfn);
    if (oldGen >= 0) lrugen.nrPages[lrugen.at(oldGen, type, zone)] -= nrPages;
    if (newGen >= 0) lrugen.nrPages[lrugen.at(newGen, type, zone)] += nrPages;
    const inactive = type === LRU_GEN_FILE ? LRU_INACTIVE_FILE : LRU_INACTIVE_ANON;
    const from = oldGen < 0 ? -1 : lrugen.isActive(oldGen) ? inactive + 1 : inactive;
    const to = newGen < 0 ? -1 : lrugen.isActive(newGen) ? inactive + 1 : inactive;
    if (from === to) return;
    if (from >= 0) lru.count(lruvec, pfn, from, -nrPages);
    if (to >= 0) lru.count(lruvec, pfn, to, nrPages);
  }
}

/** Recomputes the pages of each generation from those that are counted on the lists. @throws KernelBug where they differ */
export function validateLruGen(vm: Vm, lruvec: Lruvec): void {
  const lrugen = genOfLruvec(lruvec);
  const { maxSeq, minSeq, nrPages, nrZones } = lrugen;
  for (const type of [LRU_GEN_ANON, LRU_GEN_FILE]) {
    const gens = maxSeq - minSeq[type] + 1;
    bugOn(gens < MIN_NR_GENS || gens > MAX_NR_GENS, `lru_gen: ${gens} generations of kind ${type}`);
    for (let zone = 0; zone < nrZones; zone++) {
      let active = 0;
      let inactive = 0;
      for (let gen = 0; gen < MAX_NR_GENS; gen++) {
        const pages = nrPages[lrugen.at(gen, type, zone)];
        bugOn(pages < 0, `lru_gen: ${pages} pages in list ${gen} of kind ${type}, zone ${zone}`);
        if (lrugen.isActive(gen)) active += pages;
        else inactive += pages;
      }
      const list = type === LRU_GEN_FILE ? LRU_INACTIVE_FILE : LRU_INACTIVE_ANON;
      const counted = [lruvec.zonePages[zone * NR_LRU_LISTS + list], lruvec.zonePages[zone * NR_LRU_LISTS + list + 1]];
      bugOn(
        counted[0] !== inactive || counted[1] !== active,
        `lru_gen: kind ${type}, zone ${zone}: ${inactive} and ${active} pages in generations, ${counted.join(' and ')} counted`,
      );
    }
  }
  bugOn(vm.pages.lru.placement === null, 'lru_gen: the lists are others');
}
