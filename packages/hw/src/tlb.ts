/**
 * The functional TLB: the translations that a CPU may use without walking the page tables. It is there for speed; what it
 * holds is what a real TLB may hold, so a kernel that forgets a flush is seen to.
 *
 * One direct-mapped set of {@link TLB_ENTRIES} slots, a slot by the low bits of the page number. A slot's tag is the
 * page's address, and the test for a hit on an access of 4 bytes at `addr` is
 *
 * ```
 * tags[slot] + (addr & 0xffc) === addr          slot = (addr >>> 12) & (TLB_ENTRIES - 1)
 * ```
 *
 * which is true only if the address lies in that page, is aligned and is a whole number: NaN, a fraction and an invalid
 * slot (its tag is NaN) all fail the one comparison.
 */

/** Slots of the TLB. */
export const TLB_ENTRIES = 512;
/** Mask of a slot. */
export const TLB_MASK = TLB_ENTRIES - 1;
/** Where the tags for reading begin in {@link Tlb.tags}. */
export const TLB_READ = 0;
/** Where the tags for writing begin: valid only once the page is writable and its entry dirty. */
export const TLB_WRITE = TLB_ENTRIES;
/** Where the tags for instruction fetches begin. */
export const TLB_EXEC = 2 * TLB_ENTRIES;

/** Up to so many slots filled since the last flush are cleared one by one, more all at once. */
const FEW = 48;

/** Translations at user privilege of one CPU. */
export class Tlb {
  /** Page address of each slot for reading, writing and fetching, or NaN: three columns one after the other. */
  readonly tags = new Float64Array(3 * TLB_ENTRIES).fill(NaN);
  /** Host word of each slot's page. */
  readonly words = new Int32Array(TLB_ENTRIES);
  /** The slots filled since the last flush, as far as they fit. */
  readonly #filled = new Int32Array(FEW);
  #nrFilled = 0;
  /** Whether a translation came from a large page, of which `invlpg` drops every part. */
  #large = false;

  /**
   * Enters a translation, beside those the slot holds for the same page.
   *
   * @param page address of the page
   * @param column {@link TLB_READ}, {@link TLB_WRITE} or {@link TLB_EXEC}
   * @param word host word of the frame
   * @param large whether the page is part of a larger one
   */
  fill(page: number, column: number, word: number, large: boolean): void {
    const { tags } = this;
    const slot = ((page | 0) >>> 12) & TLB_MASK;
    if (tags[TLB_READ + slot] !== page && tags[TLB_WRITE + slot] !== page && tags[TLB_EXEC + slot] !== page) {
      tags[TLB_READ + slot] = NaN;
      tags[TLB_WRITE + slot] = NaN;
      tags[TLB_EXEC + slot] = NaN;
      if (this.#nrFilled < FEW) this.#filled[this.#nrFilled] = slot;
      this.#nrFilled += 1;
    } else if (this.words[slot] !== word) {
      // The entry was changed without a flush: one page never has two translations at once here.
      tags[TLB_READ + slot] = NaN;
      tags[TLB_WRITE + slot] = NaN;
      tags[TLB_EXEC + slot] = NaN;
    }
    tags[column + slot] = page;
    this.words[slot] = word;
    if (large) this.#large = true;
  }

  /** Drops the translations of a page, and of the whole large page it is part of. */
  invalidatePage(page: number): void {
    if (this.#large) {
      // The parts of a large page are not linked; dropping more than was asked is always allowed.
      this.invalidateAll();
      return;
    }
    const { tags } = this;
    const slot = ((page | 0) >>> 12) & TLB_MASK;
    if (tags[TLB_READ + slot] === page) tags[TLB_READ + slot] = NaN;
    if (tags[TLB_WRITE + slot] === page) tags[TLB_WRITE + slot] = NaN;
    if (tags[TLB_EXEC + slot] === page) tags[TLB_EXEC + slot] = NaN;
  }

  /** Drops every translation. Cost grows with what was filled since the last time. */
  invalidateAll(): void {
    const { tags } = this;
    if (this.#nrFilled <= FEW) {
      for (let i = 0; i < this.#nrFilled; i++) {
        const slot = this.#filled[i];
        tags[TLB_READ + slot] = NaN;
        tags[TLB_WRITE + slot] = NaN;
        tags[TLB_EXEC + slot] = NaN;
      }
    } else {
      tags.fill(NaN);
    }
    this.#nrFilled = 0;
    this.#large = false;
  }
}
