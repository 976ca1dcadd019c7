import { growColumn } from '@pagelab/lib';
import { NONE } from './page-queue.ts';
import type { ReplacementPolicy, ReplacementPolicyFactory } from './replacement-policy.ts';

/** What a policy made of a trace. */
export interface ReplacementResult {
  readonly policy: string;
  readonly frames: number;
  /** Accesses that the working set reaches back; as many as frames for policies without one. */
  readonly window: number;
  /** Accesses: repeated ones count each. */
  readonly accesses: number;
  /** Accesses to a page that was not resident: each brings it in. */
  readonly faults: number;
  /** Accesses to a resident page. */
  readonly hits: number;
  /** `hits / accesses`; 0 where there were none. */
  readonly hitRatio: number;
  /** Pages that left, for another or because the policy let them go. */
  readonly evictions: number;
  /** Evictions of pages that were written to since they came in: these cost a write. */
  readonly writebacks: number;
  /** Distinct pages. */
  readonly pages: number;
  /** Most pages that were resident at a time, and their mean over all accesses. */
  readonly peakResident: number;
  readonly meanResident: number;
}

/** A policy that answered what cannot be. */
export class ReplacementError extends Error {
  override readonly name = 'ReplacementError';
}

/** Sizes that a run takes. */
export interface ReplacementSize {
  /** Pages that fit: an integer of 1 or more. */
  readonly frames: number;
  /** Accesses that a working set reaches back: an integer of 1 or more; as many as frames unless told. */
  readonly window?: number;
}

const RESIDENT = 1;
const DIRTY = 2;
const KNOWN = 4;

/**
 * Replays page references under a policy, and counts. Memory grows with the highest page number only.
 */
export class ReplacementRun {
  readonly factory: ReplacementPolicyFactory;
  readonly frames: number;
  readonly window: number;
  readonly #policy: ReplacementPolicy;
  #state = new Uint8Array(256);
  #accesses = 0;
  #faults = 0;
  #evictions = 0;
  #writebacks = 0;
  #pages = 0;
  #resident = 0;
  #peakResident = 0;
  #residentSum = 0;

  /** @throws RangeError where a size is not one */
  constructor(factory: ReplacementPolicyFactory, { frames, window = frames }: ReplacementSize) {
    if (!Number.isSafeInteger(frames) || frames < 1) throw new RangeError(`frames: an integer of 1 or more, not ${frames}`);
    if (!Number.isSafeInteger(window) || window < 1) throw new RangeError(`window: an integer of 1 or more, not ${window}`);
    this.factory = factory;
    this.frames = frames;
    this.window = window;
    this.#policy = factory.create({ frames, window });
  }

  /**
   * The program uses a page, `accesses` times in a row.
   *
   * @param page 0 or more; small numbers, as memory grows with the highest
   * @param writes whether one of the accesses stores
   * @param nextUse number of the reference that uses the page next, `Infinity` for none: for policies with `needsFuture`
   * @throws ReplacementError where the policy chooses a page that cannot go
   */
  reference(page: number, accesses: number, writes: boolean, nextUse = 0): void {
    if (this.#policy.expired === undefined) {
      this.#use(page, accesses, writes, nextUse);
      return;
    }
    // What goes by itself may go between any two accesses, as long as another page is there.
    let left = accesses;
    do {
      const step = this.#resident > 1 || left === accesses ? 1 : left;
      this.#use(page, step, writes, nextUse);
      left -= step;
    } while (left > 0);
  }

  /** Whether a page is resident now. */
  isResident(page: number): boolean {
    return page < this.#state.length && (this.#state[page] & RESIDENT) !== 0;
  }

  /** What has been counted so far. */
  result(): ReplacementResult {
    const accesses = this.#accesses;
    const hits = accesses - this.#faults;
    return {
      policy: this.factory.name,
      frames: this.frames,
      window: this.window,
      accesses,
      faults: this.#faults,
      hits,
      hitRatio: accesses === 0 ? 0 : hits / accesses,
      evictions: this.#evictions,
      writebacks: this.#writebacks,
      pages: this.#pages,
      peakResident: this.#peakResident,
      meanResident: accesses === 0 ? 0 : this.#residentSum / accesses,
    };
  }

  #use(page: number, accesses: number, writes: boolean, nextUse: number): void {
    const policy = this.#policy;
    if (page >= this.#state.length) this.#state = growColumn(this.#state, page + 1);
    const state = this.#state;
    this.#accesses += accesses;
    if ((state[page] & RESIDENT) !== 0) {
      policy.touched(page, accesses, nextUse);
    } else {
      this.#faults++;
      if ((state[page] & KNOWN) === 0) this.#pages++;
      if (this.#resident === this.frames) this.#evict(policy.victim(page));
      state[page] = RESIDENT | KNOWN;
      this.#resident++;
      policy.loaded(page, accesses, nextUse);
    }
    if (writes) state[page] |= DIRTY;
    if (policy.expired !== undefined) {
      for (let old = policy.expired(); old !== NONE; old = policy.expired()) this.#evict(old);
    }
    if (this.#resident > this.#peakResident) this.#peakResident = this.#resident;
    this.#residentSum += this.#resident * accesses;
  }

  #evict(page: number): void {
    const state = this.#state;
    if (!this.isResident(page)) {
      throw new ReplacementError(`policy ${this.factory.name} lets page ${page} go, which is not resident`);
    }
    if ((state[page] & DIRTY) !== 0) this.#writebacks++;
    state[page] = KNOWN;
    this.#resident--;
    this.#evictions++;
  }
}
