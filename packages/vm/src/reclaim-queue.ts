/**
 * Two textbook policies as reclaim has them: first in, first out; and second chance, which lets a page that was used since go
 * round once more.
 *
 * They are here to compare with, and as the shortest policies to read, with `single-list.ts`.
 */
import type { Pfn } from '@pagelab/hw';
import { PG_REFERENCED } from '@pagelab/mm-core';
import { FOLIOREF_KEEP, FOLIOREF_RECLAIM } from './reclaim.ts';
import type { ReclaimPolicyFactory } from './reclaim.ts';
import { SingleList, SingleListReclaim } from './single-list.ts';
import type { Vm } from './vm.ts';

class QueueReclaim extends SingleListReclaim {
  readonly name: string;
  readonly #secondChance: boolean;

  constructor(vm: Vm, name: string, secondChance: boolean) {
    super(vm, new SingleList(vm));
    this.name = name;
    this.#secondChance = secondChance;
  }

  override markAccessed(pfn: Pfn): void {
    if (this.#secondChance) super.markAccessed(pfn);
  }

  goes(): boolean {
    return true;
  }

  override checkReferences(pfn: Pfn): number {
    if (!this.#secondChance) return FOLIOREF_RECLAIM;
    const { flags } = this.vm.frames;
    const wasUsed = this.vm.reclaim.rmap.referenced(pfn) > 0 || (flags[pfn] & PG_REFERENCED) !== 0;
    flags[pfn] &= ~PG_REFERENCED;
    return wasUsed ? FOLIOREF_KEEP : FOLIOREF_RECLAIM;
  }
}

/** The page that came in first goes first, used or not. */
export const fifoReclaim: ReclaimPolicyFactory = Object.freeze({ name: 'fifo', create: (vm: Vm) => new QueueReclaim(vm, 'fifo', false) });

/** First in, first out; but a page that was used since it was last looked at goes to the back of the queue instead. */
export const secondChanceReclaim: ReclaimPolicyFactory = Object.freeze({
  name: 'second-chance',
  create: (vm: Vm) => new QueueReclaim(vm, 'second-chance', true),
});
