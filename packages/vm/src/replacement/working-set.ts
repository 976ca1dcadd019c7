import { growColumn } from '@pagelab/lib';
import { NONE, PageQueue } from './page-queue.ts';
import type { ReplacementOptions, ReplacementPolicy, ReplacementPolicyFactory } from './replacement-policy.ts';

/** Time is counted in accesses. */
class WorkingSet implements ReplacementPolicy {
  readonly #window: number;
  /** Least recently used first. */
  readonly #pages = new PageQueue();
  #lastUse = new Float64Array(64);
  #now = 0;

  constructor({ window }: ReplacementOptions) {
    this.#window = window;
  }

  touched(page: number, accesses: number): void {
    this.#pages.moveToBack(page);
    this.#now += accesses;
    this.#lastUse[page] = this.#now;
  }

  loaded(page: number, accesses: number): void {
    this.#lastUse = growColumn(this.#lastUse, page + 1);
    this.#pages.pushBack(page);
    this.#now += accesses;
    this.#lastUse[page] = this.#now;
  }

  victim(): number {
    return this.#pages.popFront();
  }

  expired(): number {
    const page = this.#pages.first;
    if (page === NONE || this.#now - this.#lastUse[page] < this.#window) return NONE;
    return this.#pages.popFront();
  }
}

/**
 * Resident is what was used in the last `window` accesses; other pages leave at once, so that fewer than `frames` may be in use.
 * Where the working set does not fit, the least recently used page goes.
 *
 * Source: P. J. Denning, The Working Set Model for Program Behavior, 1968.
 */
export const workingSet: ReplacementPolicyFactory = {
  name: 'working-set',
  title: 'only what the last accesses used stays',
  needsFuture: false,
  create: (options) => new WorkingSet(options),
};
