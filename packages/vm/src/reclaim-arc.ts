/**
 * ARC as reclaim has it: pages used once lately are weighed against pages used again, by what was taken too early.
 *
 * Hardware does not tell of each use, so that the lists of pages cannot be kept in the order of uses; they are clocks instead, and
 * a use is found when the hand comes by (CAR, clock with adaptive replacement). T1 has pages used once, T2 those that were
 * used again; B1 and B2 remember what went from them (`ghost-list.ts`). A page that comes back while B1 remembers it makes T1's
 * share `p` larger, one of B2 smaller, and both enter T2.
 *
 *     c is all pages that there are: |T1| + |T2|
 *     0 <= p <= c, |B1| <= |T2|, |B1| + |B2| <= c
 *
 * The fault that brings a page in leaves its accessed bit set: that is no use again, so it is cleared when the page enters.
 * PG_workingset tells that a page is in T2: it goes with the page to other frames.
 *
 * Sources: N. Megiddo and D. S. Modha, ARC: A Self-Tuning, Low Overhead Replacement Cache, 2003; S. Bansal and D. S. Modha, CAR:
 * Clock with Adaptive Replacement, 2004, figure 2.
 */
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { NODE_STAT, PG_REFERENCED, PG_SWAPBACKED, PG_WORKINGSET, folioNrPages } from '@pagelab/mm-core';
import type { Lruvec } from '@pagelab/mm-core';
import { Ghosts } from './ghost-list.ts';
import type { GhostList } from './ghost-list.ts';
import { FOLIOREF_RECLAIM } from './reclaim.ts';
import type { ReclaimPolicy, ReclaimPolicyFactory } from './reclaim.ts';
import type { ScanControl } from './scan-control.ts';
import { LOCKED, SingleList, UNUSED, shrinkPages, takeUse } from './single-list.ts';
import type { PageChooser, SingleListState } from './single-list.ts';
import { RmapWalk } from './try-to-unmap.ts';
import type { Vm } from './vm.ts';
import { packShadow, shadowLruvec, shadowToken } from './workingset.ts';

interface ArcState extends SingleListState {
  /** Pages in T1, whose row is `row`, and in T2, whose row follows. */
  readonly sizes: [t1: number, t2: number];
  readonly b1: GhostList;
  readonly b2: GhostList;
  /** Pages that T1 should have. */
  p: number;
}

const stateOf = (lruvec: Lruvec): ArcState => lruvec.policyState as ArcState;

/** Pages that enter until their CPUs forget that they were used: as many as a batch has. */
const FLUSH_AFTER = 32;

/** T1 and T2. */
class TwoClocks extends SingleList {
  /** Pages that have entered since the last flush. */
  #entered = 0;
  /** Pages may enter during a walk of reclaim's own. */
  readonly #rmap: RmapWalk;

  constructor(vm: Vm) {
    super(vm);
    this.#rmap = new RmapWalk(vm);
  }

  /** 0 for T1, 1 for T2. */
  clockOf(pfn: Pfn): 0 | 1 {
    return (this.vm.frames.flags[pfn] & PG_WORKINGSET) === 0 ? 0 : 1;
  }

  override enter(lruvec: Lruvec, pfn: Pfn, atTail: boolean): number {
    this.#rmap.clearReferenced(pfn);
    this.vm.frames.flags[pfn] &= ~PG_REFERENCED;
    if (++this.#entered >= FLUSH_AFTER) {
      this.vm.smp.flushBatch();
      this.#entered = 0;
    }
    stateOf(lruvec).sizes[this.clockOf(pfn)] += folioNrPages(this.vm.frames, pfn);
    return super.enter(lruvec, pfn, atTail);
  }

  override leave(lruvec: Lruvec, pfn: Pfn): void {
    super.leave(lruvec, pfn);
    stateOf(lruvec).sizes[this.clockOf(pfn)] -= folioNrPages(this.vm.frames, pfn);
  }

  override rows(lruvec: Lruvec): Iterable<number> {
    const { row } = stateOf(lruvec);
    return [row, row + 1];
  }

  override mayLieOn(lruvec: Lruvec, pfn: Pfn, row: number): boolean {
    return row === this.rowOf(lruvec, pfn);
  }

  override rowOf(lruvec: Lruvec, pfn: Pfn): number {
    return stateOf(lruvec).row + this.clockOf(pfn);
  }
}

class ArcReclaim implements ReclaimPolicy, PageChooser {
  readonly name = 'arc';
  readonly placement: TwoClocks;
  readonly activatesFaulted = false;
  readonly #vm: Vm;
  /** By node. */
  readonly #ghosts: readonly Ghosts[];

  constructor(vm: Vm) {
    this.#vm = vm;
    this.placement = new TwoClocks(vm);
    this.#ghosts = vm.pages.nodes.map(({ present }) => new Ghosts(present));
  }

  initLruvec(lruvec: Lruvec): void {
    const ghosts = this.#ghosts[lruvec.nid];
    const state: ArcState = { row: this.#vm.frames.allocListHeads(2), sizes: [0, 0], b1: ghosts.createList(), b2: ghosts.createList(), p: 0 };
    lruvec.policyState = state;
  }

  exitLruvec(lruvec: Lruvec): void {
    const { row, b1, b2 } = stateOf(lruvec);
    const ghosts = this.#ghosts[lruvec.nid];
    ghosts.destroyList(b1);
    ghosts.destroyList(b2);
    this.#vm.frames.freeListHeads(row, 2);
    lruvec.policyState = null;
  }

  markAccessed(pfn: Pfn): void {
    this.#vm.frames.flags[pfn] |= PG_REFERENCED;
  }

  age(): void {}

  shrink(lruvec: Lruvec, sc: ScanControl): void {
    shrinkPages(this.#vm, lruvec, sc, this);
  }

  next(lruvec: Lruvec): Pfn {
    const { lists } = this.#vm.frames;
    const { row, sizes, p } = stateOf(lruvec);
    const first = sizes[0] >= Math.max(1, p) ? row : row + 1;
    const pfn = lists.last(first);
    return pfn !== 0 ? pfn : lists.last(first === row ? row + 1 : row);
  }

  goes(lruvec: Lruvec, pfn: Pfn): boolean {
    const use = takeUse(this.#vm, pfn);
    if (use === UNUSED) return true;
    if (use === LOCKED) return false;
    const { sizes } = stateOf(lruvec);
    if (this.placement.clockOf(pfn) === 0) {
      const nrPages = folioNrPages(this.#vm.frames, pfn);
      this.#vm.frames.flags[pfn] |= PG_WORKINGSET;
      sizes[0] -= nrPages;
      sizes[1] += nrPages;
    }
    this.pass(lruvec, pfn);
    return false;
  }

  pass(lruvec: Lruvec, pfn: Pfn): void {
    this.#vm.frames.lists.moveTo(this.placement.rowOf(lruvec, pfn), pfn);
  }

  checkReferences(): number {
    return FOLIOREF_RECLAIM;
  }

  eviction(pfn: Pfn): number {
    const lruvec = this.#vm.pages.lru.lruvecOf(pfn);
    const { sizes, b1, b2 } = stateOf(lruvec);
    const ghosts = this.#ghosts[lruvec.nid];
    const again = this.placement.clockOf(pfn) === 1;
    const number = ghosts.remember(again ? b2 : b1);
    while (b1.length > sizes[1]) ghosts.forgetOldest(b1);
    while (b1.length + b2.length > sizes[0] + sizes[1]) ghosts.forgetOldest(b2.length > 0 ? b2 : b1);
    return packShadow(lruvec, number, again);
  }

  refault(pfn: Pfn, shadow: number): void {
    const { frames, pages } = this.#vm;
    const lruvec = pages.lru.lruvecOf(pfn);
    const kind = (frames.flags[pfn] & PG_SWAPBACKED) === 0 ? 1 : 0;
    pages.modNodeState(pfn, NODE_STAT.WORKINGSET_REFAULT_ANON + kind, 1);
    if (shadowLruvec(this.#vm, shadow).nid !== lruvec.nid) return;
    const state = stateOf(lruvec);
    const { sizes, b1, b2 } = state;
    const ghosts = this.#ghosts[lruvec.nid];
    const number = shadowToken(shadow);
    const [length1, length2] = [b1.length, b2.length];
    if (ghosts.recall(b1, number)) state.p = Math.min(state.p + Math.max(1, length2 / length1), sizes[0] + sizes[1]);
    else if (ghosts.recall(b2, number)) state.p = Math.max(state.p - Math.max(1, length1 / length2), 0);
    else return;
    frames.flags[pfn] |= PG_WORKINGSET;
    pages.modNodeState(pfn, NODE_STAT.WORKINGSET_ACTIVATE_ANON + kind, 1);
  }

  validate(lruvec: Lruvec): void {
    const { sizes, b1, b2, p } = stateOf(lruvec);
    const ghosts = this.#ghosts[lruvec.nid];
    ghosts.validate(b1);
    ghosts.validate(b2);
    bugOn(p < 0, `arc: T1 should have ${p} pages`);
    const counted = lruvec.size(0) + lruvec.size(2);
    bugOn(sizes[0] < 0 || sizes[1] < 0 || sizes[0] + sizes[1] !== counted, `arc: ${sizes[0]} and ${sizes[1]} pages, ${counted} counted`);
  }
}

/** Adapts between pages used once and pages used again. */
export const arcReclaim: ReclaimPolicyFactory = Object.freeze({ name: 'arc', create: (vm: Vm) => new ArcReclaim(vm) });
