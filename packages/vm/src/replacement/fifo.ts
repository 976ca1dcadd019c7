import { PageQueue } from './page-queue.ts';
import type { ReplacementPolicy, ReplacementPolicyFactory } from './replacement-policy.ts';

class Fifo implements ReplacementPolicy {
  readonly #queue = new PageQueue();

  touched(): void {
    // How often a page is used does not matter.
  }

  loaded(page: number): void {
    this.#queue.pushBack(page);
  }

  victim(): number {
    return this.#queue.popFront();
  }
}

/** The page that has been resident longest goes. */
export const fifo: ReplacementPolicyFactory = {
  name: 'fifo',
  title: 'first in, first out',
  needsFuture: false,
  create: () => new Fifo(),
};
