/**
 * WSClock: a page that its program has not used for a while is not of its working set, and goes; what is used stays, however
 * little memory others have. While is measured in the program's own time, that it has spent on a CPU: who sleeps loses
 * nothing.
 *
 * Pages are on a ring that a hand goes round (see `reclaim-clock.ts`). A page that was used since the hand last came by gets
 * the time of now; of one that was not, the age tells. Where a round of the hand finds few pages that are old enough, the working
 * sets do not fit: the next one takes the oldest that this one saw, and where no page has an age, what was not used since,
 * until there is enough for now, as CLOCK does. When a round finds many, pages may be older again.
 *
 * Whose a page is, the mapping tells through which it was used last. Pages that were last used by no mapping, but read or written,
 * age with the time of all programs together.
 *
 * Source: R. W. Carr and J. L. Hennessy, WSClock: A Simple and Effective Algorithm for Virtual Memory Management, 1981.
 */
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { LazyColumns, folioNrPages } from '@pagelab/mm-core';
import type { Lruvec } from '@pagelab/mm-core';
import type { ReclaimPolicyFactory } from './reclaim.ts';
import type { ScanControl } from './scan-control.ts';
import { LOCKED, SingleList, SingleListReclaim, UNUSED, evictableSize, shrinkPages, takeUse } from './single-list.ts';
import type { SingleListState } from './single-list.ts';
import type { Vm } from './vm.ts';

/** How long a page is of the working set after its last use at most, in nanoseconds of its program's time: some 20,000 page faults. */
const WINDOW_NS = 10_000_000;
/** A round that takes less than this share of the pages has found few. */
const FEW = 1 / 16;
/** Of the greatest age that such a round saw, the part that is old enough for the next. */
const OLD = 3 / 4;
/** The least age that is told from none. */
const LEAST_NS = 1000;
/** Whose pages are that no address space used last. */
const NOBODY = 0;
/** The hand has not come by since the page came in. */
const UNSEEN = 0;

interface WsClockState extends SingleListState {
  /** A page that is older than this goes; −1 for every one that was not used since. */
  limit: number;
  /** Pages that this round of the hand has looked at and taken, and the greatest age that it saw. */
  looked: number;
  taken: number;
  oldest: number;
}

const stateOf = (lruvec: Lruvec): WsClockState => lruvec.policyState as WsClockState;

/** By pfn, who used a page last, and when. */
class StampedList extends SingleList {
  /** The address space, by id. */
  readonly user: Int32Array;
  /** In its time; {@link UNSEEN} until the hand has come by. */
  readonly lastUse: Float64Array;

  constructor(vm: Vm) {
    super(vm);
    const { nrFrames } = vm.frames;
    const columns = new LazyColumns(nrFrames * 12, 2);
    this.lastUse = columns.float64(nrFrames);
    this.user = columns.int32(nrFrames);
  }

  override enter(lruvec: Lruvec, pfn: Pfn, atTail: boolean): number {
    this.lastUse[pfn] = atTail ? -Infinity : UNSEEN;
    this.user[pfn] = NOBODY;
    return super.enter(lruvec, pfn, atTail);
  }

  override split(_lruvec: Lruvec, head: Pfn, pfn: Pfn): void {
    this.lastUse[pfn] = this.lastUse[head];
    this.user[pfn] = this.user[head];
  }
}

class WsClockReclaim extends SingleListReclaim<StampedList> {
  readonly name = 'working-set';
  /** Nanoseconds that each address space has run, by id, as of the run of reclaim under way; of all at {@link NOBODY}. */
  readonly #now: number[] = [];

  protected override newState(row: number): WsClockState {
    return { row, limit: WINDOW_NS, looked: 0, taken: 0, oldest: 0 };
  }

  override shrink(lruvec: Lruvec, sc: ScanControl): void {
    const { reclaim, clock } = this.vm;
    this.#now.length = 0;
    if (reclaim.cpuTimes === null) this.#now.push(clock.now);
    else reclaim.cpuTimes(this.#now);
    shrinkPages(this.vm, lruvec, sc, this);
    // Time goes on from here: then there are ages again.
    const state = stateOf(lruvec);
    state.limit = Math.max(state.limit, LEAST_NS);
  }

  goes(lruvec: Lruvec, pfn: Pfn): boolean {
    const use = takeUse(this.vm, pfn);
    if (use === LOCKED) return false;
    const state = stateOf(lruvec);
    const nrPages = folioNrPages(this.vm.frames, pfn);
    if (state.looked >= evictableSize(lruvec)) endRound(state);
    state.looked += nrPages;
    const age = use === UNUSED ? this.#ageOf(pfn) : 0;
    if (age !== Infinity) state.oldest = Math.max(state.oldest, age);
    if (use === UNUSED && age > state.limit) {
      state.taken += nrPages;
      return true;
    }
    this.#stamp(pfn, use);
    this.pass(lruvec, pfn);
    return false;
  }

  validate(lruvec: Lruvec): void {
    const { limit, looked, taken, oldest } = stateOf(lruvec);
    bugOn(limit < -1 || limit > WINDOW_NS || taken < 0 || taken > looked || oldest < 0, 'working set: the hand has lost count');
  }

  /** Notes a use, and the first sight of a page: it counts from then on. */
  #stamp(pfn: Pfn, use: number): void {
    const { lastUse, user } = this.placement;
    if (use === UNUSED && lastUse[pfn] !== UNSEEN) return;
    const { cpuTimes, rmap } = this.vm.reclaim;
    user[pfn] = use === UNUSED || cpuTimes === null ? NOBODY : rmap.user;
    lastUse[pfn] = this.#now[user[pfn]] ?? UNSEEN;
  }

  /** How long ago a page was used, in its user's time; 0 for one that is seen first, for ever where its user is gone. */
  #ageOf(pfn: Pfn): number {
    const { lastUse, user } = this.placement;
    if (lastUse[pfn] === UNSEEN) return 0;
    const now = this.#now[user[pfn]];
    return now === undefined || now < lastUse[pfn] ? Infinity : now - lastUse[pfn];
  }
}

/** The hand has come round: how old a page has to be for the next. */
function endRound(state: WsClockState): void {
  if (state.taken >= state.looked * FEW) state.limit = Math.min(WINDOW_NS, 2 * Math.max(state.limit, LEAST_NS));
  else state.limit = state.oldest < LEAST_NS ? -1 : Math.min(state.limit < 0 ? WINDOW_NS : state.limit, state.oldest * OLD);
  state.looked = 0;
  state.taken = 0;
  state.oldest = 0;
}

/** What is of no program's working set goes. */
export const workingSetReclaim: ReclaimPolicyFactory = Object.freeze({ name: 'working-set', create: (vm: Vm) => new WsClockReclaim(vm, new StampedList(vm)) });
