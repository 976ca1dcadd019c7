/**
 * A page replacement policy of one's own: the page goes that was used least often since it came in; of several, the one that came in
 * first.
 *
 *     npx pagelab replay test/data/traces/sqlite.pages.gz --policy examples/plugins/lfu-replacement.ts --frames 8
 */
import type { ReplacementPolicy, ReplacementPolicyFactory } from '@pagelab/kernel/replacement';

class LeastFrequentlyUsed implements ReplacementPolicy {
  /** Uses by resident page, in the order in which they came in. */
  readonly #uses = new Map<number, number>();

  touched(page: number, accesses: number): void {
    this.#uses.set(page, this.#uses.get(page)! + accesses);
  }

  loaded(page: number, accesses: number): void {
    this.#uses.set(page, accesses);
  }

  victim(): number {
    let victim = -1;
    let fewest = Infinity;
    for (const [page, uses] of this.#uses) {
      if (uses >= fewest) continue;
      victim = page;
      fewest = uses;
    }
    this.#uses.delete(victim);
    return victim;
  }
}

const leastFrequentlyUsed: ReplacementPolicyFactory = {
  name: 'lfu',
  title: 'least frequently used',
  needsFuture: false,
  create: () => new LeastFrequentlyUsed(),
};

export default leastFrequentlyUsed;
