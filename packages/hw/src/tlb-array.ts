import { bugOn } from '@pagelab/lib';
import type { Prng } from '@pagelab/lib';

/** How a full set chooses what to drop: the least recently used, by a tree of bits that comes near it, or by chance. */
export type TlbReplacement = 'lru' | 'plru' | 'random';

/** PCIDs are 12 bits; this stands for a page that is in every context. */
const GLOBAL = 0x1000;
const NONE = -1;
/** Pages of 4 KiB in 2^shift bytes: raising to a power would take as long as a lookup. */
const PAGES = Float64Array.from({ length: 48 }, (_, shift) => 2 ** (shift - 12));

/**
 * One array of a TLB: sets of so many ways, whose entries hold pages of one or several sizes.
 *
 * An entry's key is the page's number in units of 2^`shift` bytes, and its `span` the log2 of the page it came from,
 * which is more than `shift` where a large page is held in smaller pieces. The set is the key modulo the number of
 * sets.
 */
export class TlbArray {
  readonly entries: number;
  readonly ways: number;
  readonly sets: number;
  readonly #replacement: TlbReplacement;
  readonly #prng: Prng;
  readonly #keys: Float64Array;
  /** The entry's page size, log2; 0 where the slot is empty. */
  readonly #shifts: Uint8Array;
  readonly #spans: Uint8Array;
  readonly #contexts: Int16Array;
  /** When each slot was used last. */
  readonly #used: Float64Array;
  /** For each set a tree of bits, each of which points to the half used less recently; node 1 is the root. */
  readonly #tree: Uint8Array;
  readonly #leaves: number;
  #now = 0;
  /** Entries that are pieces of a larger page: a flush must look for them all over. */
  #pieces = 0;

  /** @throws RangeError unless the sets come out whole */
  constructor(entries: number, ways: number, replacement: TlbReplacement, prng: Prng) {
    if (!(Number.isInteger(ways) && ways >= 1 && Number.isInteger(entries / ways) && entries >= ways)) {
      throw new RangeError(`${entries} entries are no sets of ${ways} ways`);
    }
    this.entries = entries;
    this.ways = ways;
    this.sets = entries / ways;
    this.#replacement = replacement;
    this.#prng = prng;
    this.#keys = new Float64Array(entries);
    this.#shifts = new Uint8Array(entries);
    this.#spans = new Uint8Array(entries);
    this.#contexts = new Int16Array(entries);
    this.#used = new Float64Array(entries);
    this.#leaves = 2 ** Math.ceil(Math.log2(ways));
    this.#tree = new Uint8Array(replacement === 'plru' ? this.sets * this.#leaves : 0);
  }

  /** The span of the entry for the 4 KiB page `page` held as a page of 2^`shift` bytes, which counts as used; or 0. */
  find(page: number, shift: number, pcid: number): number {
    const slot = this.#slot(keyOf(page, shift), shift, pcid);
    if (slot === NONE) return 0;
    this.#touch(slot);
    return this.#spans[slot];
  }

  /** Whether a page is held; it does not count as used by that. */
  holds(page: number, shift: number, pcid: number): boolean {
    return this.#slot(keyOf(page, shift), shift, pcid) !== NONE;
  }

  /** Whether that entry is in every context. */
  isGlobal(page: number, shift: number, pcid: number): boolean {
    const slot = this.#slot(keyOf(page, shift), shift, pcid);
    return slot !== NONE && this.#contexts[slot] === GLOBAL;
  }

  /** Enters a page, in place of another where its set is full. */
  insert(page: number, shift: number, span: number, pcid: number, isGlobal: boolean): void {
    const key = keyOf(page, shift);
    const first = (key % this.sets) * this.ways;
    let slot = this.#slot(key, shift, pcid);
    for (let way = 0; slot === NONE && way < this.ways; way++) if (this.#shifts[first + way] === 0) slot = first + way;
    if (slot === NONE) slot = first + this.#victim(first / this.ways);
    this.#drop(slot);
    this.#keys[slot] = key;
    this.#shifts[slot] = shift;
    this.#spans[slot] = span;
    this.#contexts[slot] = isGlobal ? GLOBAL : pcid;
    if (span > shift) this.#pieces += 1;
    this.#touch(slot);
  }

  /** Drops the page that `page` lies in, of whatever size, from a context; global pages too if asked. */
  dropPage(page: number, shift: number, pcid: number, withGlobal: boolean): void {
    if (this.#pieces > 0) {
      this.#dropWhere(
        (slot) =>
          this.#contains(slot, page) && (this.#contexts[slot] === pcid || (withGlobal && this.#contexts[slot] === GLOBAL)),
      );
      return;
    }
    const key = keyOf(page, shift);
    const first = (key % this.sets) * this.ways;
    for (let slot = first; slot < first + this.ways; slot++) {
      if (this.#keys[slot] !== key || this.#shifts[slot] !== shift) continue;
      const context = this.#contexts[slot];
      if (context === pcid || (withGlobal && context === GLOBAL)) this.#drop(slot);
    }
  }

  /** Drops a context, but no global page. */
  dropContext(pcid: number): void {
    this.#dropWhere((slot) => this.#contexts[slot] === pcid);
  }

  /** Drops all contexts, but no global page. */
  dropNonGlobal(): void {
    this.#dropWhere((slot) => this.#contexts[slot] !== GLOBAL);
  }

  /** Drops everything. */
  dropAll(): void {
    this.#shifts.fill(0);
    this.#pieces = 0;
  }

  /** Entries in use. */
  get size(): number {
    return this.#shifts.reduce((size, shift) => size + (shift === 0 ? 0 : 1), 0);
  }

  /** No page is entered twice for a context, each is in its set, and the pieces are counted. @throws KernelBug */
  validate(): void {
    const seen = new Set<string>();
    let pieces = 0;
    for (let slot = 0; slot < this.entries; slot++) {
      const shift = this.#shifts[slot];
      if (shift === 0) continue;
      const key = this.#keys[slot];
      const name = `${key} of 2^${shift} in context ${this.#contexts[slot]}`;
      bugOn(key % this.sets !== Math.floor(slot / this.ways), `TLB: page ${name} is in the wrong set`);
      bugOn(seen.has(name), `TLB: page ${name} is entered twice`);
      seen.add(name);
      if (this.#spans[slot] > shift) pieces += 1;
    }
    bugOn(pieces !== this.#pieces, `TLB: ${this.#pieces} pieces counted, ${pieces} there`);
  }

  #slot(key: number, shift: number, pcid: number): number {
    const first = (key % this.sets) * this.ways;
    for (let slot = first; slot < first + this.ways; slot++) {
      if (this.#keys[slot] !== key || this.#shifts[slot] !== shift) continue;
      const context = this.#contexts[slot];
      if (context === pcid || context === GLOBAL) return slot;
    }
    return NONE;
  }

  /** Whether the page that a slot's entry came from contains a 4 KiB page. */
  #contains(slot: number, page: number): boolean {
    const shift = this.#shifts[slot];
    if (shift === 0) return false;
    const span = this.#spans[slot];
    return keyOf(this.#keys[slot] * PAGES[shift], span) === keyOf(page, span);
  }

  #drop(slot: number): void {
    if (this.#shifts[slot] !== 0 && this.#spans[slot] > this.#shifts[slot]) this.#pieces -= 1;
    this.#shifts[slot] = 0;
  }

  #dropWhere(test: (slot: number) => boolean): void {
    for (let slot = 0; slot < this.entries; slot++) if (this.#shifts[slot] !== 0 && test(slot)) this.#drop(slot);
  }

  #touch(slot: number): void {
    if (this.#replacement === 'lru') {
      this.#now += 1;
      this.#used[slot] = this.#now;
    } else if (this.#replacement === 'plru') {
      const set = Math.floor(slot / this.ways);
      const root = set * this.#leaves;
      for (let node = this.#leaves + (slot - set * this.ways); node > 1; node >>= 1) {
        this.#tree[root + (node >> 1)] = (node & 1) ^ 1;
      }
    }
  }

  /** The way of a full set to give up. */
  #victim(set: number): number {
    const { ways } = this;
    if (this.#replacement === 'random') return this.#prng.below(ways);
    if (this.#replacement === 'plru') {
      const leaves = this.#leaves;
      let node = 1;
      // Of ways that are no power of two, some leaves have no way: there the tree goes left.
      for (let width = leaves / 2; node < leaves; width /= 2) {
        const right = 2 * node + 1;
        const firstLeaf = right * width - leaves;
        node = this.#tree[set * leaves + node] === 1 && firstLeaf < ways ? right : right - 1;
      }
      return node - leaves;
    }
    let oldest = 0;
    for (let way = 1; way < ways; way++) {
      if (this.#used[set * ways + way] < this.#used[set * ways + oldest]) oldest = way;
    }
    return oldest;
  }
}

/** The number of the page of 2^`shift` bytes in which a 4 KiB page lies. */
function keyOf(page: number, shift: number): number {
  return Math.floor(page / PAGES[shift]);
}
