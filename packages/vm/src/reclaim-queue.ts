/**
 * Two textbook policies as reclaim has them: first in, first out; and second chance, which lets a page that was used since go
 * round once more.
 *
 * They are here to compare with, and as the shortest complete policies to read.
 */
import type { Pfn } from '@pagelab/hw';
import { PG_REFERENCED } from '@pagelab/mm-core';
import type { Lruvec } from '@pagelab/mm-core';
import { FOLIOREF_KEEP, FOLIOREF_RECLAIM } from './reclaim.ts';
import type { ReclaimPolicy, ReclaimPolicyFactory } from './reclaim.ts';
import type { ScanControl } from './scan-control.ts';
import { SingleList, shrinkPages } from './single-list.ts';
import type { PageChooser, SingleListState } from './single-list.ts';
import type { Vm } from './vm.ts';

class QueueReclaim implements ReclaimPolicy, PageChooser {
  readonly name: string;
  readonly placement: SingleList;
  readonly activatesFaulted = false;
  readonly #vm: Vm;
  readonly #secondChance: boolean;

  constructor(vm: Vm, name: string, secondChance: boolean) {
    this.#vm = vm;
    this.name = name;
    this.placement = new SingleList(vm);
    this.#secondChance = secondChance;
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
    if (this.#secondChance) this.#vm.frames.flags[pfn] |= PG_REFERENCED;
  }

  age(): void {}

  shrink(lruvec: Lruvec, sc: ScanControl): void {
    shrinkPages(this.#vm, lruvec, sc, this);
  }

  next(lruvec: Lruvec): Pfn {
    return this.#vm.frames.lists.last(this.placement.rowOf(lruvec));
  }

  goes(): boolean {
    return true;
  }

  pass(lruvec: Lruvec, pfn: Pfn): void {
    this.#vm.frames.lists.moveTo(this.placement.rowOf(lruvec), pfn);
  }

  checkReferences(pfn: Pfn): number {
    if (!this.#secondChance) return FOLIOREF_RECLAIM;
    const { flags } = this.#vm.frames;
    const wasUsed = this.#vm.reclaim.rmap.referenced(pfn) > 0 || (flags[pfn] & PG_REFERENCED) !== 0;
    flags[pfn] &= ~PG_REFERENCED;
    return wasUsed ? FOLIOREF_KEEP : FOLIOREF_RECLAIM;
  }

  eviction(): number {
    return 0;
  }

  refault(): void {}
}

/** The page that came in first goes first, used or not. */
export const fifoReclaim: ReclaimPolicyFactory = Object.freeze({ name: 'fifo', create: (vm: Vm) => new QueueReclaim(vm, 'fifo', false) });

/** First in, first out; but a page that was used since it was last looked at goes to the back of the queue instead. */
export const secondChanceReclaim: ReclaimPolicyFactory = Object.freeze({
  name: 'second-chance',
  create: (vm: Vm) => new QueueReclaim(vm, 'second-chance', true),
});
