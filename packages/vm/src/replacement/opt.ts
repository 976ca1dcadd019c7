import { growColumn } from '@pagelab/lib';
import type { ReplacementPolicy, ReplacementPolicyFactory } from './replacement-policy.ts';

/** A page is not resident where its next use is this. */
const GONE = -1;

/**
 * A heap of (next use, page), the latest use on top. A page's old entries stay until they come to the top or the heap has
 * many times the entries it needs.
 */
export class Opt implements ReplacementPolicy {
  #nextUse = new Float64Array(64).fill(GONE);
  #keys = new Float64Array(64);
  #pages = new Int32Array(64);
  #size = 0;
  #resident = 0;

  touched(page: number, _accesses: number, nextUse: number): void {
    this.#nextUse[page] = nextUse;
    this.#push(nextUse, page);
  }

  loaded(page: number, _accesses: number, nextUse: number): void {
    this.#nextUse = growColumn(this.#nextUse, page + 1, GONE);
    this.#resident++;
    this.touched(page, 1, nextUse);
  }

  victim(): number {
    for (;;) {
      const page = this.#pages[0];
      const isOf = this.#keys[0] === this.#nextUse[page];
      this.#pop();
      if (!isOf) continue;
      this.#nextUse[page] = GONE;
      this.#resident--;
      return page;
    }
  }

  #push(key: number, page: number): void {
    if (this.#size > 8 * this.#resident + 64) this.#rebuild();
    this.#keys = growColumn(this.#keys, this.#size + 1);
    this.#pages = growColumn(this.#pages, this.#size + 1);
    const keys = this.#keys;
    const pages = this.#pages;
    let at = this.#size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (keys[parent] >= key) break;
      keys[at] = keys[parent];
      pages[at] = pages[parent];
      at = parent;
    }
    keys[at] = key;
    pages[at] = page;
  }

  #pop(): void {
    const keys = this.#keys;
    const pages = this.#pages;
    const size = --this.#size;
    const key = keys[size];
    const page = pages[size];
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && keys[child + 1] > keys[child]) child++;
      if (keys[child] <= key) break;
      keys[at] = keys[child];
      pages[at] = pages[child];
      at = child;
    }
    keys[at] = key;
    pages[at] = page;
  }

  /** Leaves one entry for each resident page. */
  #rebuild(): void {
    this.#size = 0;
    this.#nextUse.forEach((nextUse, page) => {
      if (nextUse !== GONE) this.#push(nextUse, page);
    });
  }
}

/**
 * The page goes that is used again latest, or never. No policy has fewer faults; none that does not know the future is it.
 *
 * Source: L. A. Belady, A study of replacement algorithms for a virtual-storage computer, 1966.
 */
export const opt: ReplacementPolicyFactory = {
  name: 'opt',
  title: 'what is used again latest goes',
  needsFuture: true,
  create: () => new Opt(),
};
