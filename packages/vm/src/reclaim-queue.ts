/**
 * Two textbook policies as reclaim has them: first in, first out; and second chance, which lets a page that was used since go
 * round once more. All evictable pages of a node are in one queue, whatever their kind; there is no working set.
 *
 * They are here to compare with, and as the shortest complete policies to read.
 */
import type { Pfn } from '@pagelab/hw';
import { LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, PG_ACTIVE, PG_REFERENCED, PG_SWAPBACKED, folioNrPages } from '@pagelab/mm-core';
import type { LruPlacement, Lruvec } from '@pagelab/mm-core';
import { evictFolios, isolateFolio } from './isolate-folios.ts';
import { FOLIOREF_KEEP, FOLIOREF_RECLAIM } from './reclaim.ts';
import type { ReclaimPolicy, ReclaimPolicyFactory } from './reclaim.ts';
import { SWAP_CLUSTER_MAX } from './scan-control.ts';
import type { ScanControl } from './scan-control.ts';
import { newReclaimStat } from './shrink-folio-list.ts';
import { lruAddDrain } from './swap.ts';
import type { Vm } from './vm.ts';
import { canReclaimAnon } from './vmscan.ts';

/** One queue: what is new is at its front, what goes next at its end. */
class Queue implements LruPlacement {
  readonly #vm: Vm;

  constructor(vm: Vm) {
    this.#vm = vm;
  }

  enter(lruvec: Lruvec, pfn: Pfn): number {
    const { frames, pages } = this.#vm;
    frames.flags[pfn] &= ~PG_ACTIVE;
    pages.lru.count(lruvec, pfn, this.countedOn(lruvec, pfn), folioNrPages(frames, pfn));
    return this.rowOf(lruvec);
  }

  leave(lruvec: Lruvec, pfn: Pfn): void {
    this.#vm.pages.lru.count(lruvec, pfn, this.countedOn(lruvec, pfn), -folioNrPages(this.#vm.frames, pfn));
  }

  rowOf(lruvec: Lruvec): number {
    return lruvec.policyState as number;
  }

  split(): void {}

  rows(lruvec: Lruvec): Iterable<number> {
    return [this.rowOf(lruvec)];
  }

  mayLieOn(lruvec: Lruvec, _pfn: Pfn, row: number): boolean {
    return row === this.rowOf(lruvec);
  }

  countedOn(_lruvec: Lruvec, pfn: Pfn): number {
    return (this.#vm.frames.flags[pfn] & PG_SWAPBACKED) === 0 ? LRU_INACTIVE_FILE : LRU_INACTIVE_ANON;
  }
}

class QueueReclaim implements ReclaimPolicy {
  readonly name: string;
  readonly placement: Queue;
  readonly activatesFaulted = false;
  readonly #vm: Vm;
  readonly #secondChance: boolean;

  constructor(vm: Vm, name: string, secondChance: boolean) {
    this.#vm = vm;
    this.name = name;
    this.placement = new Queue(vm);
    this.#secondChance = secondChance;
  }

  initLruvec(lruvec: Lruvec): void {
    lruvec.policyState = this.#vm.frames.allocListHeads(1);
  }

  exitLruvec(lruvec: Lruvec): void {
    this.#vm.frames.freeListHeads(lruvec.policyState as number, 1);
    lruvec.policyState = null;
  }

  markAccessed(pfn: Pfn): void {
    if (this.#secondChance) this.#vm.frames.flags[pfn] |= PG_REFERENCED;
  }

  age(): void {}

  shrink(lruvec: Lruvec, sc: ScanControl): void {
    const vm = this.#vm;
    const { flags, lists } = vm.frames;
    const row = this.placement.rowOf(lruvec);
    const takesAnon = sc.maySwap && canReclaimAnon(vm, lruvec.nid, sc.memcg);
    lruAddDrain(vm);
    let left = Math.floor((lruvec.size(LRU_INACTIVE_ANON) + lruvec.size(LRU_INACTIVE_FILE)) / 2 ** sc.priority);
    while (left > 0 && sc.nrReclaimed < sc.nrToReclaim) {
      const kinds: [anon: Pfn[], file: Pfn[]] = [[], []];
      const scanned: [number, number] = [0, 0];
      for (let batch = 0; batch < SWAP_CLUSTER_MAX && left > 0; batch++) {
        const pfn = lists.last(row);
        if (pfn === 0) break;
        const file = (flags[pfn] & PG_SWAPBACKED) === 0 ? 1 : 0;
        const nrPages = folioNrPages(vm.frames, pfn);
        left -= nrPages;
        if ((file === 0 && !takesAnon) || !isolateFolio(vm, lruvec, sc, pfn)) {
          lists.moveTo(row, pfn);
          continue;
        }
        kinds[file].push(pfn);
        scanned[file] += nrPages;
      }
      for (const file of [0, 1] as const) sc.nrReclaimed += evictFolios(vm, lruvec, sc, kinds[file], file, scanned[file], newReclaimStat());
      if (lists.isEmpty(row)) break;
    }
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
