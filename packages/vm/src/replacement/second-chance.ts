import { growColumn } from '@pagelab/lib';
import { PageQueue } from './page-queue.ts';
import type { ReplacementPolicy, ReplacementPolicyFactory } from './replacement-policy.ts';

class SecondChance implements ReplacementPolicy {
  readonly #queue = new PageQueue();
  #used = new Uint8Array(64);

  touched(page: number): void {
    this.#used[page] = 1;
  }

  loaded(page: number): void {
    this.#used = growColumn(this.#used, page + 1);
    this.#used[page] = 1;
    this.#queue.pushBack(page);
  }

  victim(): number {
    for (;;) {
      const page = this.#queue.first;
      if (this.#used[page] === 0) return this.#queue.popFront();
      this.#used[page] = 0;
      this.#queue.moveToBack(page);
    }
  }
}

/**
 * First in, first out, but a page that was used since it came in or was last looked at goes to the end of the queue instead.
 * The faults are those of `clock`.
 */
export const secondChance: ReplacementPolicyFactory = {
  name: 'second-chance',
  title: 'first in, first out, but what was used goes round once more',
  needsFuture: false,
  create: () => new SecondChance(),
};
