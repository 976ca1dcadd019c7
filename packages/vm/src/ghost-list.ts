/**
 * What a policy remembers of pages that are gone: ghosts. The page itself leaves a number in its place, the shadow that stays
 * in the page cache or in the swap slot; here is what the number stands for, as long as anybody wants to know.
 *
 *     list.length === ghosts whose list this is, from list.oldest on by #newer
 *     a ghost is found by its number as long as it is on a list
 *
 * Numbers are given in turn. There are at least twice as many rows as a node has pages: a number whose row is wanted again while its
 * ghost is still there is forgotten, the oldest of all.
 *
 * @linux mm/workingset.c
 */
import { bugOn } from '@pagelab/lib';
import { LazyColumns } from '@pagelab/mm-core';

/** Numbers that a shadow has room for. */
const NUMBERS = 2 ** 23;

/** Ghosts in the order in which they came. Rows are 1 + their place; 0 for none. */
export interface GhostList {
  /** Its number in the table that it is of. */
  readonly id: number;
  oldest: number;
  newest: number;
  length: number;
}

/** The ghosts of a node. */
export class Ghosts {
  readonly #lists = new Map<number, GhostList>();
  readonly #rows: number;
  #nextNumber = 0;
  #nextList = 1;
  /** By row: the list, 0 for none; the number; and the neighbours. */
  readonly #list: Int32Array;
  readonly #number: Int32Array;
  readonly #newer: Int32Array;
  readonly #older: Int32Array;

  /** @param nrPages that there can be */
  constructor(nrPages: number) {
    this.#rows = Math.min(2 ** Math.ceil(Math.log2(Math.max(nrPages, 32)) + 1), NUMBERS);
    const columns = new LazyColumns((this.#rows + 1) * 16, 4);
    this.#list = columns.int32(this.#rows + 1);
    this.#number = columns.int32(this.#rows + 1);
    this.#newer = columns.int32(this.#rows + 1);
    this.#older = columns.int32(this.#rows + 1);
  }

  createList(): GhostList {
    const list: GhostList = { id: this.#nextList++, oldest: 0, newest: 0, length: 0 };
    this.#lists.set(list.id, list);
    return list;
  }

  /** Forgets a list, with all that is on it. */
  destroyList(list: GhostList): void {
    while (list.length > 0) this.forgetOldest(list);
    this.#lists.delete(list.id);
  }

  /** Remembers a page. @returns its number, 23 bits */
  remember(list: GhostList): number {
    const number = this.#nextNumber;
    this.#nextNumber = (number + 1) % NUMBERS;
    const row = (number % this.#rows) + 1;
    if (this.#list[row] !== 0) this.#unlink(row);
    this.#list[row] = list.id;
    this.#number[row] = number;
    this.#older[row] = list.newest;
    this.#newer[row] = 0;
    if (list.newest === 0) list.oldest = row;
    else this.#newer[list.newest] = row;
    list.newest = row;
    list.length++;
    return number;
  }

  /** Takes a ghost off a list. @returns whether the number's was on it */
  recall(list: GhostList, number: number): boolean {
    const row = (number % this.#rows) + 1;
    if (this.#list[row] !== list.id || this.#number[row] !== number) return false;
    this.#unlink(row);
    return true;
  }

  /** The list must not be empty. */
  forgetOldest(list: GhostList): void {
    this.#unlink(list.oldest);
  }

  #unlink(row: number): void {
    const list = this.#lists.get(this.#list[row])!;
    const older = this.#older[row];
    const newer = this.#newer[row];
    if (older === 0) list.oldest = newer;
    else this.#newer[older] = newer;
    if (newer === 0) list.newest = older;
    else this.#older[newer] = older;
    this.#list[row] = 0;
    list.length--;
  }

  /** Walks a list both ways. @throws KernelBug where it is not as it should be */
  validate(list: GhostList): void {
    let length = 0;
    let before = 0;
    for (let row = list.oldest; row !== 0; row = this.#newer[row]) {
      bugOn(this.#list[row] !== list.id || this.#older[row] !== before, 'ghosts: a list is broken');
      bugOn(++length > list.length, 'ghosts: a list is longer than it counts');
      before = row;
    }
    bugOn(before !== list.newest || length !== list.length, 'ghosts: a list is shorter than it counts');
  }
}
