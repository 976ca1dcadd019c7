/**
 * Which last-level page tables had enough pages in use to be worth walking next time: sets that may say yes where they
 * should say no, in 4 KiB each. Of the two, one is asked while the other is filled for the next walk.
 *
 * @linux mm/vmscan.c:test_bloom_filter, update_bloom_filter
 */

/** log2 of the bits of a filter. @linux mm/vmscan.c:BLOOM_FILTER_SHIFT */
const BLOOM_FILTER_SHIFT = 15;
const MASK = (1 << BLOOM_FILTER_SHIFT) - 1;
const NR_FILTERS = 2;

export class BloomFilters {
  readonly #filters: (Int32Array | null)[] = [null, null];

  /** Empties the filter of a walk. @linux mm/vmscan.c:reset_bloom_filter */
  reset(seq: number): void {
    const filter = this.#filters[seq % NR_FILTERS];
    if (filter === null) this.#filters[seq % NR_FILTERS] = new Int32Array(2 ** BLOOM_FILTER_SHIFT / 32);
    else filter.fill(0);
  }

  /** @param item any number below 2^31: the frame and slot of an entry */
  add(seq: number, item: number): void {
    const filter = this.#filters[seq % NR_FILTERS];
    if (filter === null) return;
    const hash = hash30(item);
    const [a, b] = [hash & MASK, hash >>> BLOOM_FILTER_SHIFT];
    filter[a >>> 5] |= 1 << (a & 31);
    filter[b >>> 5] |= 1 << (b & 31);
  }

  /** Whether an item may have been added; all may, as long as there is no filter. */
  mayHave(seq: number, item: number): boolean {
    const filter = this.#filters[seq % NR_FILTERS];
    if (filter === null) return true;
    const hash = hash30(item);
    const [a, b] = [hash & MASK, hash >>> BLOOM_FILTER_SHIFT];
    return (filter[a >>> 5] & (1 << (a & 31))) !== 0 && (filter[b >>> 5] & (1 << (b & 31))) !== 0;
  }
}

/** 30 bits for two keys. @linux include/linux/hash.h:hash_32 */
function hash30(item: number): number {
  return Math.imul(item, 0x61c8_8647) >>> 2;
}
