import { growColumn } from '@pagelab/lib';
import { NONE, PageQueue } from './page-queue.ts';
import type { ReplacementPolicy, ReplacementPolicyFactory } from './replacement-policy.ts';

/**
 * Frames in a ring, and a hand. A page's use bit is set when it comes in and at each use. The hand clears set bits on its
 * way to the first page whose bit is clear; the new page takes its frame, and the hand stands behind it.
 */
class Clock implements ReplacementPolicy {
  /** The ring, cut open at its first frame. */
  readonly #ring = new PageQueue();
  #used = new Uint8Array(64);
  #hand = NONE;

  touched(page: number): void {
    this.#used[page] = 1;
  }

  loaded(page: number): void {
    this.#used = growColumn(this.#used, page + 1);
    this.#used[page] = 1;
    this.#ring.insertBefore(this.#hand, page);
  }

  victim(): number {
    const ring = this.#ring;
    let page = this.#at(this.#hand);
    while (this.#used[page] === 1) {
      this.#used[page] = 0;
      page = this.#at(ring.after(page));
    }
    // The frame behind is where the hand is left; before it the new page goes in.
    this.#hand = ring.after(page);
    ring.remove(page);
    return page;
  }

  /** Where the hand is: behind the last frame comes the first. */
  #at(page: number): number {
    return page === NONE ? this.#ring.first : page;
  }
}

/**
 * Second chance as a clock: a hand that goes round the frames.
 *
 * Source: F. J. Corbató, A Paging Experiment with the Multics System, 1968.
 */
export const clock: ReplacementPolicyFactory = {
  name: 'clock',
  title: 'a hand that skips what was used since it last came by',
  needsFuture: false,
  create: () => new Clock(),
};
