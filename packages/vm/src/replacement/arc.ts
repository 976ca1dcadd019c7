import { PageQueue } from './page-queue.ts';
import type { ReplacementOptions, ReplacementPolicy, ReplacementPolicyFactory } from './replacement-policy.ts';

/**
 * The lists of the paper, least recently used first: T1 of pages used once lately and T2 of those used again are resident; B1 and
 * B2 remember what left them. `p` is the length that T1 should have.
 *
 *     |T1| + |T2| <= c, |T1| + |B1| <= c, |T1| + |T2| + |B1| + |B2| <= 2c
 */
class Arc implements ReplacementPolicy {
  readonly #frames: number;
  readonly #t1 = new PageQueue();
  readonly #t2 = new PageQueue();
  readonly #b1 = new PageQueue();
  readonly #b2 = new PageQueue();
  #p = 0;

  constructor({ frames }: ReplacementOptions) {
    this.#frames = frames;
  }

  /** Case I. */
  touched(page: number): void {
    if (this.#t2.has(page)) {
      this.#t2.moveToBack(page);
      return;
    }
    this.#t1.remove(page);
    this.#t2.pushBack(page);
  }

  /** The last step of cases II to IV; `victim` did the others where all frames were in use. */
  loaded(page: number, accesses: number): void {
    const again = this.#b1.has(page) || this.#b2.has(page);
    if (this.#b1.has(page)) this.#b1.remove(page);
    else if (this.#b2.has(page)) this.#b2.remove(page);
    (again || accesses > 1 ? this.#t2 : this.#t1).pushBack(page);
  }

  victim(incoming: number): number {
    const b1 = this.#b1;
    const b2 = this.#b2;
    const c = this.#frames;
    if (b1.has(incoming)) {
      // Case II: T1 should have been longer.
      this.#p = Math.min(c, this.#p + Math.max(1, b2.length / b1.length));
      return this.#replace(false);
    }
    if (b2.has(incoming)) {
      // Case III: T2 should have been.
      this.#p = Math.max(0, this.#p - Math.max(1, b1.length / b2.length));
      return this.#replace(true);
    }
    // Case IV: a page that was forgotten, or never known.
    if (this.#t1.length + b1.length === c) {
      if (this.#t1.length === c) return this.#t1.popFront();
      b1.popFront();
    } else if (this.#t1.length + this.#t2.length + b1.length + b2.length === 2 * c) {
      b2.popFront();
    }
    return this.#replace(false);
  }

  #replace(incomingInB2: boolean): number {
    const t1 = this.#t1;
    const fromT1 = t1.length > 0 && (t1.length > this.#p || (incomingInB2 && t1.length === this.#p));
    const page = (fromT1 ? t1 : this.#t2).popFront();
    (fromT1 ? this.#b1 : this.#b2).pushBack(page);
    return page;
  }
}

/**
 * Adaptive replacement cache: balances pages used once against pages used again by what it evicted too early.
 *
 * Source: N. Megiddo and D. S. Modha, ARC: A Self-Tuning, Low Overhead Replacement Cache, FAST 2003, figure 4.
 */
export const arc: ReplacementPolicyFactory = {
  name: 'arc',
  title: 'adapts between recently and frequently used',
  needsFuture: false,
  create: (options) => new Arc(options),
};
