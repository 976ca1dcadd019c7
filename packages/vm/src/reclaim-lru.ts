/**
 * Least recently used, as near as accessed bits permit. Hardware tells that a page was used, not when: so the bits of all
 * pages are sampled now and then, and what was used since the last sample counts as used now. The list has the pages in the
 * order of the samples that last found them used; within one sample, in the order that they had.
 *
 *     lastUse[pfn] of the pages of a list falls from its front to its end
 *
 * A sample is due when an eighth of the pages has gone since the last, so that a page that goes costs eight looks, however
 * large memory is. At the end of the list each page is looked at once more before it goes.
 */
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { LazyColumns } from '@pagelab/mm-core';
import type { Lruvec } from '@pagelab/mm-core';
import type { ReclaimPolicyFactory } from './reclaim.ts';
import { SWAP_CLUSTER_MAX } from './scan-control.ts';
import type { ScanControl } from './scan-control.ts';
import { SingleList, SingleListReclaim, UNUSED, USED, evictableSize, shrinkPages, takeUse } from './single-list.ts';
import type { SingleListState } from './single-list.ts';
import type { Vm } from './vm.ts';

/** Of the pages, the share that goes between two samples. */
const SAMPLE_SHARE = 8;

interface LruState extends SingleListState {
  /** Samples so far, from 1 on. */
  sample: number;
  /** Pages that have gone since the last. */
  gone: number;
}

const stateOf = (lruvec: Lruvec): LruState => lruvec.policyState as LruState;

/** One list in the order of last uses. */
class SortedList extends SingleList {
  /** By pfn: the sample that found it used last, or during which it came in. */
  readonly lastUse: Float64Array;

  constructor(vm: Vm) {
    super(vm);
    const { nrFrames } = vm.frames;
    this.lastUse = new LazyColumns(nrFrames * 8, 1).float64(nrFrames);
  }

  override enter(lruvec: Lruvec, pfn: Pfn, atTail: boolean): number {
    this.lastUse[pfn] = atTail ? 0 : stateOf(lruvec).sample;
    return super.enter(lruvec, pfn, atTail);
  }

  relinked(lruvec: Lruvec, pfn: Pfn): void {
    this.lastUse[pfn] = stateOf(lruvec).sample;
  }

  override split(_lruvec: Lruvec, head: Pfn, pfn: Pfn): void {
    this.lastUse[pfn] = this.lastUse[head];
  }
}

class LruReclaim extends SingleListReclaim<SortedList> {
  readonly name = 'lru';

  protected override newState(row: number): LruState {
    return { row, sample: 1, gone: 0 };
  }

  override shrink(lruvec: Lruvec, sc: ScanControl): void {
    const state = stateOf(lruvec);
    if (state.gone >= Math.max(evictableSize(lruvec) / SAMPLE_SHARE, SWAP_CLUSTER_MAX)) this.#takeSample(lruvec);
    const before = sc.nrReclaimed;
    shrinkPages(this.vm, lruvec, sc, this);
    state.gone += sc.nrReclaimed - before;
  }

  goes(lruvec: Lruvec, pfn: Pfn): boolean {
    const use = takeUse(this.vm, pfn);
    if (use === USED) this.pass(lruvec, pfn);
    return use === UNUSED;
  }

  /** Counts as used now: what cannot be taken does, too. */
  override pass(lruvec: Lruvec, pfn: Pfn): void {
    const { row, sample } = stateOf(lruvec);
    this.placement.lastUse[pfn] = sample;
    this.vm.frames.lists.moveTo(row, pfn);
  }

  validate(lruvec: Lruvec): void {
    let last = Infinity;
    for (const pfn of this.vm.frames.lists.iterate(stateOf(lruvec).row)) {
      bugOn(this.placement.lastUse[pfn] > last, `lru: frame ${pfn} was used later than the one before it`);
      last = this.placement.lastUse[pfn];
    }
  }

  /** Looks at all pages, from the end on: those in use follow one another to the front. */
  #takeSample(lruvec: Lruvec): void {
    const vm = this.vm;
    const { lists } = vm.frames;
    const state = stateOf(lruvec);
    state.sample++;
    state.gone = 0;
    const first = lists.first(state.row);
    for (let pfn = lists.last(state.row); pfn !== 0;) {
      const before = lists.prev[pfn];
      if (takeUse(vm, pfn) === USED) this.pass(lruvec, pfn);
      if (pfn === first) break;
      pfn = before;
    }
    vm.smp.flushBatch();
  }
}

/** The page whose last use lies back furthest goes, as far as accessed bits tell. */
export const lruReclaim: ReclaimPolicyFactory = Object.freeze({ name: 'lru', create: (vm: Vm) => new LruReclaim(vm, new SortedList(vm)) });
