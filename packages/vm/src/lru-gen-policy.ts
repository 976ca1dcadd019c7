/**
 * The multi-generational LRU as a reclaim policy: what Linux has with `CONFIG_LRU_GEN_ENABLED`, or where
 * `/sys/kernel/mm/lru_gen/enabled` is written to.
 *
 * @linux mm/vmscan.c, Documentation/mm/multigen_lru.rst
 */
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { NODE_STAT, PG_MEMCG, PG_REFERENCED, PG_SWAPBACKED, PG_UNEVICTABLE, PG_WORKINGSET, folioNrPages } from '@pagelab/mm-core';
import type { Lruvec } from '@pagelab/mm-core';
import { ANON_AND_FILE, LRU_GEN_FILE, LruGen, LruGenLists, MAX_NR_GENS, genOf, genOfLruvec, validateLruGen } from './lru-gen.ts';
import { evictableMinSeq } from './lru-gen-aging.ts';
import type { LruGenContext } from './lru-gen-aging.ts';
import { shrinkGenerations, swappinessFor } from './lru-gen-evict.ts';
import { LRU_REFS_WIDTH, MAX_NR_TIERS, tierBefore, tierOf } from './lru-gen-tiers.ts';
import { lookAround } from './lru-gen-walk.ts';
import type { LruGenCaps } from './lru-gen-walk.ts';
import { FOLIOREF_ACTIVATE, FOLIOREF_KEEP, FOLIOREF_RECLAIM, FOLIOREF_RECLAIM_CLEAN } from './reclaim.ts';
import type { ReclaimPolicy, ReclaimPolicyFactory } from './reclaim.ts';
import type { ScanControl } from './scan-control.ts';
import type { Vm } from './vm.ts';
import { VM_EXEC, VM_LOCKED } from './vma.ts';
import type { VmArea } from './vma.ts';
import { packShadow, shadowLruvec, shadowToken, shadowWorkingset } from './workingset.ts';

/**
 * The policy's part of a shadow:
 *
 * ```
 *  22            7 6      2 1    0
 * +---------------+--------+------+
 * | memory cgroup |  seq   | refs |
 * +---------------+--------+------+
 * ```
 */
const SEQ_MASK = 31;
const REFS_MASK = (1 << LRU_REFS_WIDTH) - 1;
const MEMCG_SHIFT = 7;

/** See the head of this file. */
export class LruGenReclaim implements ReclaimPolicy, LruGenContext {
  readonly name = 'mglru';
  readonly activatesFaulted = true;
  readonly countsForCompaction = true;
  readonly vm: Vm;
  readonly lists: LruGenLists;
  readonly placement: LruGenLists;

  constructor(vm: Vm, beforeRework = false) {
    this.vm = vm;
    this.lists = new LruGenLists(vm, beforeRework);
    this.placement = this.lists;
  }

  get caps(): LruGenCaps {
    return this.vm.reclaim.lruGen;
  }

  initLruvec(lruvec: Lruvec): void {
    const { frames, pages, clock } = this.vm;
    const nrZones = pages.nodes[lruvec.nid].zones.length;
    lruvec.policyState = new LruGen(frames.allocListHeads(MAX_NR_GENS * ANON_AND_FILE * nrZones), nrZones, clock.now);
  }

  exitLruvec(lruvec: Lruvec): void {
    const { heads, nrPages } = genOfLruvec(lruvec);
    this.vm.frames.freeListHeads(heads, nrPages.length);
    lruvec.policyState = null;
  }

  markAccessed(pfn: Pfn): void {
    if ((this.vm.frames.flags[pfn] & PG_UNEVICTABLE) === 0) this.lists.incRefs(pfn);
  }

  lookAround(vma: VmArea, address: VirtAddr, entry: number, pfn: Pfn): void {
    lookAround(this, vma, address, entry, pfn);
  }

  /** Where every generation is younger than `min_ttl_ms`, somebody has to go. @linux mm/vmscan.c:lru_gen_age_node */
  age(lruvec: Lruvec, sc: ScanControl): void {
    const { minTtlMs } = this.vm.reclaim.lruGen;
    if (minTtlMs === 0 || this.#isReclaimable(lruvec, sc, minTtlMs)) return;
    this.vm.reclaim.outOfMemory?.(sc.gfp);
  }

  shrink(lruvec: Lruvec, sc: ScanControl): void {
    shrinkGenerations(this, lruvec, sc);
  }

  /** @linux mm/vmscan.c:folio_check_references */
  checkReferences(pfn: Pfn): number {
    const { rmap } = this.vm.reclaim;
    const wasReferenced = (this.vm.frames.flags[pfn] & PG_REFERENCED) !== 0;
    // A walk would have moved it, and it was isolated already.
    if (this.lists.beforeRework && wasReferenced && this.vm.frames.mapcount[pfn] > 0) return FOLIOREF_KEEP;
    const entries = rmap.referenced(pfn);
    if ((rmap.vmFlags & VM_LOCKED) !== 0) return FOLIOREF_ACTIVATE;
    if (this.lists.beforeRework) return this.#checkReferencesBefore(pfn, entries, wasReferenced);
    if (entries === 0) return FOLIOREF_RECLAIM;
    return this.lists.noteUse(pfn) ? FOLIOREF_ACTIVATE : FOLIOREF_KEEP;
  }

  /** The shadow has the oldest generation, and how often the page was used. @linux mm/workingset.c:lru_gen_eviction */
  eviction(pfn: Pfn): number {
    const { frames, pages } = this.vm;
    const lruvec = pages.lru.lruvecOf(pfn);
    const { minSeq, tiers } = genOfLruvec(lruvec);
    const type = this.lists.type(pfn);
    const refs = this.lists.folioRefs(pfn);
    const workingset = this.lists.beforeRework ? refs > 0 : (frames.flags[pfn] & PG_WORKINGSET) !== 0;
    tiers.evicted[type * MAX_NR_TIERS + this.lists.tier(pfn)] += folioNrPages(frames, pfn);
    this.lists.setRefs(pfn, 0);
    const seq = (minSeq[type] & SEQ_MASK) << LRU_REFS_WIDTH;
    return packShadow(lruvec, (this.#memcgId(pfn) << MEMCG_SHIFT) | seq | Math.max(refs - 1, 0), workingset);
  }

  /** @linux mm/workingset.c:lru_gen_refault */
  refault(pfn: Pfn, shadow: number): void {
    const { frames, pages, reclaim } = this.vm;
    const lruvec = pages.lru.lruvecOf(pfn);
    const type = (frames.flags[pfn] & PG_SWAPBACKED) === 0 ? 1 : 0;
    const token = shadowToken(shadow);
    if (shadowLruvec(this.vm, shadow).nid !== lruvec.nid || token >>> MEMCG_SHIFT !== this.#memcgId(pfn)) return;
    pages.modNodeState(pfn, NODE_STAT.WORKINGSET_REFAULT_ANON + type, 1);
    if (this.lists.beforeRework) {
      this.#refaultBefore(pfn, lruvec, type, token, shadowWorkingset(shadow));
      return;
    }
    const { maxSeq, tiers } = genOfLruvec(lruvec);
    if (((maxSeq - (token >>> LRU_REFS_WIDTH)) & SEQ_MASK) >= MAX_NR_GENS) return;
    const refs = (token & REFS_MASK) + 1;
    const workingset = shadowWorkingset(shadow);
    tiers.refaulted[type * MAX_NR_TIERS + tierOf(refs, workingset)]++;
    if (reclaim.inFault) pages.modNodeState(pfn, NODE_STAT.WORKINGSET_ACTIVATE_ANON + type, 1);
    if (workingset) {
      frames.flags[pfn] |= PG_WORKINGSET;
      pages.modNodeState(pfn, NODE_STAT.WORKINGSET_RESTORE_ANON + type, 1);
    } else this.lists.setRefs(pfn, refs - 1);
  }

  /** Before 6.14 as without generations, but that the first use is not PG_referenced's to keep. */
  #checkReferencesBefore(pfn: Pfn, entries: number, wasReferenced: boolean): number {
    const { flags } = this.vm.frames;
    const isFile = (flags[pfn] & PG_SWAPBACKED) === 0;
    flags[pfn] &= ~PG_REFERENCED;
    if (entries === 0) return wasReferenced && isFile ? FOLIOREF_RECLAIM_CLEAN : FOLIOREF_RECLAIM;
    flags[pfn] |= PG_REFERENCED;
    return wasReferenced || entries > 1 || (isFile && (this.vm.reclaim.rmap.vmFlags & VM_EXEC) !== 0) ? FOLIOREF_ACTIVATE : FOLIOREF_KEEP;
  }

  /** Before 6.14: recent is what went with the generation that is still the oldest. */
  #refaultBefore(pfn: Pfn, lruvec: Lruvec, type: number, token: number, workingset: boolean): void {
    const { frames, pages, reclaim } = this.vm;
    const { minSeq, tiers } = genOfLruvec(lruvec);
    if (((token >>> LRU_REFS_WIDTH) & SEQ_MASK) !== (minSeq[type] & SEQ_MASK)) return;
    const refs = (token & REFS_MASK) + (workingset ? 1 : 0);
    tiers.refaulted[type * MAX_NR_TIERS + tierBefore(refs)]++;
    pages.modNodeState(pfn, NODE_STAT.WORKINGSET_ACTIVATE_ANON + type, 1);
    if (!reclaim.inFault && refs < REFS_MASK) return;
    frames.flags[pfn] |= PG_WORKINGSET;
    this.lists.setRefs(pfn, REFS_MASK);
    pages.modNodeState(pfn, NODE_STAT.WORKINGSET_RESTORE_ANON + type, 1);
  }

  validate(lruvec: Lruvec): void {
    validateLruGen(this.vm, lruvec);
  }

  /** The group that a page is charged to; 0 for none. */
  #memcgId(pfn: Pfn): number {
    const { memcgs, frames } = this.vm;
    return memcgs === null || (frames.flags[pfn] & PG_MEMCG) === 0 ? 0 : memcgs.groupOf(pfn).id;
  }

  /** Whether there is something old enough to take. @linux mm/vmscan.c:lruvec_is_reclaimable */
  #isReclaimable(lruvec: Lruvec, sc: ScanControl, minTtlMs: number): boolean {
    const lrugen = genOfLruvec(lruvec);
    const swappiness = swappinessFor(this.vm, lruvec, sc);
    let total = 0;
    for (let type = swappiness === 0 ? LRU_GEN_FILE : 0; type < ANON_AND_FILE; type++) {
      for (let seq = lrugen.minSeq[type]; seq <= lrugen.maxSeq; seq++) total += lrugen.size(seq, type);
    }
    if (Math.floor(total / 2 ** sc.priority) === 0) return false;
    return lrugen.birth[genOf(evictableMinSeq(lrugen, swappiness))] + minTtlMs * 1e6 < this.vm.clock.now;
  }
}

/** The multi-generational LRU, with all that belongs to it switched on. */
export const lruGenReclaim: ReclaimPolicyFactory = Object.freeze({
  name: 'mglru',
  create: (vm: Vm) => new LruGenReclaim(vm),
});

/** The same with the rules of uses and tiers that kernels before 6.14 have. */
export const lruGenReclaimBefore614: ReclaimPolicyFactory = Object.freeze({
  name: 'mglru',
  create: (vm: Vm) => new LruGenReclaim(vm, true),
});
