/**
 * CLOCK as reclaim has it: pages stay where they are on a ring, and a hand goes round. A page that was used since the hand
 * last came by is left, one that was not goes. What is new comes in behind the hand, where that comes last.
 *
 * The hand is the head of the list: what lies before it is looked at next, and it moves by the page going behind it. Other
 * than second chance, which takes a page off its queue to look at it, nothing is isolated but what goes.
 *
 * Source: F. J. Corbató, A Paging Experiment with the Multics System, 1968.
 */
import type { Pfn } from '@pagelab/hw';
import { PG_REFERENCED } from '@pagelab/mm-core';
import type { Lruvec } from '@pagelab/mm-core';
import { FOLIOREF_RECLAIM } from './reclaim.ts';
import type { ReclaimPolicy, ReclaimPolicyFactory } from './reclaim.ts';
import type { ScanControl } from './scan-control.ts';
import { LOCKED, SingleList, UNUSED, shrinkPages, takeUse } from './single-list.ts';
import type { PageChooser, SingleListState } from './single-list.ts';
import type { Vm } from './vm.ts';

class ClockReclaim implements ReclaimPolicy, PageChooser {
  readonly name = 'clock';
  readonly placement: SingleList;
  readonly activatesFaulted = false;
  readonly #vm: Vm;

  constructor(vm: Vm) {
    this.#vm = vm;
    this.placement = new SingleList(vm);
  }

  initLruvec(lruvec: Lruvec): void {
    const state: SingleListState = { row: this.#vm.frames.allocListHeads(1) };
    lruvec.policyState = state;
  }

  exitLruvec(lruvec: Lruvec): void {
    this.#vm.frames.freeListHeads(this.placement.rowOf(lruvec), 1);
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
    return this.#vm.frames.lists.last(this.placement.rowOf(lruvec));
  }

  goes(lruvec: Lruvec, pfn: Pfn): boolean {
    const use = takeUse(this.#vm, pfn);
    if (use === UNUSED) return true;
    if (use !== LOCKED) this.pass(lruvec, pfn);
    return false;
  }

  /** The hand moves on. */
  pass(lruvec: Lruvec, pfn: Pfn): void {
    this.#vm.frames.lists.moveTo(this.placement.rowOf(lruvec), pfn);
  }

  checkReferences(): number {
    return FOLIOREF_RECLAIM;
  }

  eviction(): number {
    return 0;
  }

  refault(): void {}
}

/** The hand of a clock passes over pages that were used, and takes the others. */
export const clockReclaim: ReclaimPolicyFactory = Object.freeze({ name: 'clock', create: (vm: Vm) => new ClockReclaim(vm) });
