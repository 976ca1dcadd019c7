import { bugOn, growColumn } from '@pagelab/lib';

/** No page. */
export const NONE = -1;

/** Columns grow to this many rows at first. */
const FIRST_ROWS = 64;

/**
 * The pages of one list, in an order: intrusive, a page is on it once at most. Each operation costs the same, however
 * long the list; memory grows with the highest page number.
 */
export class PageQueue {
  /** Row + 1 behind and before, 0 for none; row `page`. */
  #next = new Int32Array(FIRST_ROWS);
  #prev = new Int32Array(FIRST_ROWS);
  #has = new Uint8Array(FIRST_ROWS);
  #first = NONE;
  #last = NONE;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** The page at the front, −1 where there is none. */
  get first(): number {
    return this.#first;
  }

  has(page: number): boolean {
    return page < this.#has.length && this.#has[page] === 1;
  }

  /** The page behind one that is on the list, −1 where it is the last. */
  after(page: number): number {
    return this.#next[page] - 1;
  }

  /** Puts a page that is not on the list at its end. */
  pushBack(page: number): void {
    this.insertBefore(NONE, page);
  }

  /** Puts a page that is not on the list before one that is, or at the end where that is −1. */
  insertBefore(behind: number, page: number): void {
    bugOn(this.has(page), 'page queue: the page is on it already');
    if (page >= this.#has.length) {
      this.#next = growColumn(this.#next, page + 1);
      this.#prev = growColumn(this.#prev, page + 1);
      this.#has = growColumn(this.#has, page + 1);
    }
    const before = behind === NONE ? this.#last : this.#prev[behind] - 1;
    this.#has[page] = 1;
    this.#next[page] = behind + 1;
    this.#prev[page] = before + 1;
    if (before === NONE) this.#first = page;
    else this.#next[before] = page + 1;
    if (behind === NONE) this.#last = page;
    else this.#prev[behind] = page + 1;
    this.#length++;
  }

  /** Takes a page off the list; it must be on it. */
  remove(page: number): void {
    bugOn(!this.has(page), 'page queue: the page is not on it');
    const before = this.#prev[page] - 1;
    const behind = this.#next[page] - 1;
    if (before === NONE) this.#first = behind;
    else this.#next[before] = behind + 1;
    if (behind === NONE) this.#last = before;
    else this.#prev[behind] = before + 1;
    this.#has[page] = 0;
    this.#length--;
  }

  /** Takes the first page off the list; −1 where it is empty. */
  popFront(): number {
    const page = this.#first;
    if (page !== NONE) this.remove(page);
    return page;
  }

  /** Moves a page that is on the list to its end. */
  moveToBack(page: number): void {
    if (page === this.#last) return;
    this.remove(page);
    this.pushBack(page);
  }
}
