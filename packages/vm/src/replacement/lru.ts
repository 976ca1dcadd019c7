import { PageQueue } from './page-queue.ts';
import type { ReplacementPolicy, ReplacementPolicyFactory } from './replacement-policy.ts';

class Lru implements ReplacementPolicy {
  readonly #queue = new PageQueue();

  touched(page: number): void {
    this.#queue.moveToBack(page);
  }

  loaded(page: number): void {
    this.#queue.pushBack(page);
  }

  victim(): number {
    return this.#queue.popFront();
  }
}

/** The page that has not been used for longest goes. */
export const lru: ReplacementPolicyFactory = {
  name: 'lru',
  title: 'least recently used',
  needsFuture: false,
  create: () => new Lru(),
};
