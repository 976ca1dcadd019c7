/**
 * What the textbook policies have in common: all evictable pages of an lruvec, whatever their kind, on one list; what is new
 * comes to its front, and what goes next is at its end.
 */
import type { Pfn } from '@pagelab/hw';
import { LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, PG_ACTIVE, PG_LRU, PG_REFERENCED, PG_SWAPBACKED, PG_UNEVICTABLE, folioNrPages } from '@pagelab/mm-core';
import type { LruPlacement, Lruvec } from '@pagelab/mm-core';
import { evictFolios, isolateFolio } from './isolate-folios.ts';
import { FOLIOREF_RECLAIM } from './reclaim.ts';
import type { ReclaimPolicy } from './reclaim.ts';
import { SWAP_CLUSTER_MAX } from './scan-control.ts';
import type { ScanControl } from './scan-control.ts';
import { newReclaimStat } from './shrink-folio-list.ts';
import { lruAddDrain } from './swap.ts';
import type { Vm } from './vm.ts';
import { canReclaimAnon } from './vmscan.ts';

/** What a policy keeps of an lruvec, at least: the row of its list's head. */
export interface SingleListState {
  readonly row: number;
}

/** One list for each lruvec. */
export class SingleList implements LruPlacement {
  protected readonly vm: Vm;
  readonly coldGoLast = true;

  constructor(vm: Vm) {
    this.vm = vm;
  }

  enter(lruvec: Lruvec, pfn: Pfn, _atTail: boolean): number {
    const { frames, pages } = this.vm;
    frames.flags[pfn] &= ~PG_ACTIVE;
    pages.lru.count(lruvec, pfn, this.countedOn(lruvec, pfn), folioNrPages(frames, pfn));
    return this.rowOf(lruvec, pfn);
  }

  leave(lruvec: Lruvec, pfn: Pfn): void {
    this.vm.pages.lru.count(lruvec, pfn, this.countedOn(lruvec, pfn), -folioNrPages(this.vm.frames, pfn));
  }

  rowOf(lruvec: Lruvec, _pfn?: Pfn): number {
    return (lruvec.policyState as SingleListState).row;
  }

  split(_lruvec: Lruvec, _head: Pfn, _pfn: Pfn): void {}

  rows(lruvec: Lruvec): Iterable<number> {
    return [this.rowOf(lruvec)];
  }

  mayLieOn(lruvec: Lruvec, _pfn: Pfn, row: number): boolean {
    return row === this.rowOf(lruvec);
  }

  countedOn(_lruvec: Lruvec, pfn: Pfn): number {
    return (this.vm.frames.flags[pfn] & PG_SWAPBACKED) === 0 ? LRU_INACTIVE_FILE : LRU_INACTIVE_ANON;
  }
}

/** What {@link takeUse} found: nothing, a use, or that the page is not on its list any more, since a mapping locks it. */
export const UNUSED = 0;
export const USED = 1;
export const LOCKED = 2;

/** Whether a page on a list was used since this was last asked: through page tables or otherwise. Flush when through: `Smp.flushBatch`. */
export function takeUse(vm: Vm, pfn: Pfn): number {
  const { flags } = vm.frames;
  const entries = vm.reclaim.rmap.referenced(pfn);
  if ((flags[pfn] & (PG_LRU | PG_UNEVICTABLE)) !== PG_LRU) return LOCKED;
  const wasUsed = entries > 0 || (flags[pfn] & PG_REFERENCED) !== 0;
  flags[pfn] &= ~PG_REFERENCED;
  return wasUsed ? USED : UNUSED;
}

/** Says what becomes of the pages that {@link shrinkPages} comes across. */
export interface PageChooser {
  /** The page to look at next; 0 where there is none. */
  next(lruvec: Lruvec): Pfn;
  /** Looks at the page: whether it goes. One that does not is somewhere else now, or {@link next} has moved on. */
  goes(lruvec: Lruvec, pfn: Pfn, sc: ScanControl): boolean;
  /** The page can be of no use now: the next one is another. */
  pass(lruvec: Lruvec, pfn: Pfn): void;
}

/** Pages of an lruvec that can go. */
export function evictableSize(lruvec: Lruvec): number {
  return lruvec.size(LRU_INACTIVE_ANON) + lruvec.size(LRU_INACTIVE_FILE);
}

/**
 * Takes the pages that a policy chooses, 32 at a time, until there are enough or its share of the pages was looked at.
 *
 * @linux mm/vmscan.c:shrink_lruvec
 */
export function shrinkPages(vm: Vm, lruvec: Lruvec, sc: ScanControl, chooser: PageChooser): void {
  const { flags } = vm.frames;
  const takesAnon = sc.maySwap && canReclaimAnon(vm, lruvec.nid, sc.memcg);
  lruAddDrain(vm);
  let left = Math.floor(evictableSize(lruvec) / 2 ** sc.priority);
  while (left > 0 && sc.nrReclaimed < sc.nrToReclaim) {
    const kinds: [anon: Pfn[], file: Pfn[]] = [[], []];
    const scanned: [number, number] = [0, 0];
    let isEmpty = false;
    while (left > 0 && kinds[0].length + kinds[1].length < SWAP_CLUSTER_MAX) {
      const pfn = chooser.next(lruvec);
      isEmpty = pfn === 0;
      if (isEmpty) break;
      const file = (flags[pfn] & PG_SWAPBACKED) === 0 ? 1 : 0;
      const nrPages = folioNrPages(vm.frames, pfn);
      left -= nrPages;
      if ((file === 0 && !takesAnon) || vm.pages.zoneOf(pfn)!.index > sc.reclaimIdx) {
        chooser.pass(lruvec, pfn);
        continue;
      }
      scanned[file] += nrPages;
      if (!chooser.goes(lruvec, pfn, sc)) continue;
      if (isolateFolio(vm, lruvec, sc, pfn)) kinds[file].push(pfn);
      else chooser.pass(lruvec, pfn);
    }
    // The hardware notes the next use of what it has no translation of.
    vm.smp.flushBatch();
    for (const file of [0, 1] as const) sc.nrReclaimed += evictFolios(vm, lruvec, sc, kinds[file], file, scanned[file], newReclaimStat());
    if (isEmpty) break;
  }
}

/** A policy with one list: the page at its end is looked at next, and one that does not go moves to the front. */
export abstract class SingleListReclaim<List extends SingleList = SingleList> implements ReclaimPolicy, PageChooser {
  abstract readonly name: string;
  readonly placement: List;
  readonly activatesFaulted = false;
  protected readonly vm: Vm;

  constructor(vm: Vm, placement: List) {
    this.vm = vm;
    this.placement = placement;
  }

  initLruvec(lruvec: Lruvec): void {
    lruvec.policyState = this.newState(this.vm.frames.allocListHeads(1));
  }

  /** What is kept of an lruvec at first. @param row of its list's head */
  protected newState(row: number): SingleListState {
    return { row };
  }

  exitLruvec(lruvec: Lruvec): void {
    this.vm.frames.freeListHeads(this.placement.rowOf(lruvec), 1);
    lruvec.policyState = null;
  }

  markAccessed(pfn: Pfn): void {
    this.vm.frames.flags[pfn] |= PG_REFERENCED;
  }

  age(): void {}

  shrink(lruvec: Lruvec, sc: ScanControl): void {
    shrinkPages(this.vm, lruvec, sc, this);
  }

  next(lruvec: Lruvec): Pfn {
    return this.vm.frames.lists.last(this.placement.rowOf(lruvec));
  }

  abstract goes(lruvec: Lruvec, pfn: Pfn, sc: ScanControl): boolean;

  pass(lruvec: Lruvec, pfn: Pfn): void {
    this.vm.frames.lists.moveTo(this.placement.rowOf(lruvec), pfn);
  }

  checkReferences(_pfn: Pfn): number {
    return FOLIOREF_RECLAIM;
  }

  eviction(_pfn: Pfn): number {
    return 0;
  }

  refault(_pfn: Pfn, _shadow: number): void {}
}
