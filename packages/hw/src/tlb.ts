/**
 * The functional TLB: the translations that a CPU may use without walking the page tables. It is there for speed; what
 * it holds is what a real TLB may hold, so a kernel that forgets a flush is seen to.
 *
 * It is direct mapped, and holds translations at user privilege only. A slot's tag is the page's address, and the test
 * for a hit on an aligned access of 4 bytes at `addr` is
 *
 * ```
 * tags[slot] + (addr & 0xffc) === addr          slot = (addr >>> 12) & TLB_MASK
 * ```
 *
 * which holds only if the address lies in that page, is aligned and is a whole number: NaN, a fraction and an empty
 * slot (its tag is NaN) all fail the one comparison. Integer tags of two halves took 1.2 to 1.5 times as long.
 *
 * The host words of the frames lie in RAM's own buffer, in the words that {@link PhysicalMemory} keeps before its first
 * chunk, and `u32` is a view that begins with them: so an access needs two arrays, tags and RAM, and not three.
 */
import { PAGE_WORDS } from './page.ts';
import type { PhysicalMemory } from './physical-memory.ts';

/**
 * Slots of the TLB for data: 8 MiB. More slow nothing down but the flush of many (4,096: 700 instead of 350 ns), and
 * random accesses over 8 MiB take 5.4 ns each where all hit, and 70 where 1,024 slots make every second one miss.
 */
export const TLB_ENTRIES = 2048;
/** Mask of a slot. */
export const TLB_MASK = TLB_ENTRIES - 1;
/** Where the tags for writing begin in {@link Tlb.tags}: valid only once the page is writable and its entry dirty. */
export const TLB_WRITE = TLB_ENTRIES;

// The module's own copies: V8 compiles them in, and reads an exported constant anew at each use.
const MASK = TLB_MASK;
const WRITE = TLB_WRITE;
/** Slots for instruction fetches. */
const FETCH_ENTRIES = 64;
const FETCH_MASK = FETCH_ENTRIES - 1;
const TWO_32 = 0x100000000;
/** Tag of an empty slot. A constant, as `NaN` itself is looked up among the globals. */
const EMPTY = NaN;

/** Up to so many slots filled since the last flush are cleared one by one, more all at once. */
const FEW = 128;

/** Global pages that are kept over a load of CR3, at most. */
const MAX_GLOBALS = 64;

/** Tags of a TLB that never hits. Nobody writes to them. */
export const NO_TAGS: Float64Array = new Float64Array(2 * TLB_ENTRIES).fill(NaN);

/** Words of RAM's buffer that a TLB takes; a whole number of pages, so that frames stay aligned in its views. */
export const TLB_HEAD_WORDS = Math.ceil(TLB_ENTRIES / PAGE_WORDS) * PAGE_WORDS;

/** Translations at user privilege of one CPU. */
export class Tlb {
  /** Page address of each slot for reading, or NaN; then the same for writing. */
  readonly tags: Float64Array = new Float64Array(2 * TLB_ENTRIES);
  /** Index in RAM's words at which the views below begin. */
  declare readonly base: number;
  /**
   * RAM's buffer from this TLB's words on: in the first {@link TLB_ENTRIES}, where each slot's frame begins in this
   * view.
   */
  declare readonly u32: Uint32Array;
  /** The same view, as pairs of words. */
  readonly u64: BigUint64Array;
  /** The same view, as floats. */
  readonly f32: Float32Array;
  /** The same view, as doubles. */
  readonly f64: Float64Array;
  /** The tags as words: to fill these with ones is four times faster than to fill doubles with NaN. */
  readonly #tagWords: Uint32Array = new Uint32Array(this.tags.buffer);
  /** The slots filled since the last flush, as far as they fit. */
  readonly #filled = new Int32Array(FEW);
  #nrFilled = 0;
  readonly #fetchTags = new Float64Array(FETCH_ENTRIES).fill(EMPTY);
  readonly #fetchWords = new Int32Array(FETCH_ENTRIES);
  /** Whether a fetch was entered since the last flush. */
  #fetched = false;
  /** Whether a translation came from a large page, of which `invlpg` drops every part. */
  #large = false;
  /** Global pages that were entered, as far as they fit: others are dropped as any page is, which is allowed. */
  readonly #globals = new Float64Array(MAX_GLOBALS);
  #nrGlobals = 0;

  constructor(ram: PhysicalMemory) {
    const { buffer } = ram.u32;
    this.base = ram.reserveHead(TLB_HEAD_WORDS);
    this.u32 = new Uint32Array(buffer, this.base * 4);
    this.u64 = new BigUint64Array(buffer, this.base * 4);
    this.f32 = new Float32Array(buffer, this.base * 4);
    this.f64 = new Float64Array(buffer, this.base * 4);
    this.#tagWords.fill(0xffffffff);
  }

  /** Host word, in RAM's words, of the page's frame, or −1 where there is no translation for reading. */
  lookupRead(page: number): number {
    const slot = ((page | 0) >>> 12) & MASK;
    return this.tags[slot] === page ? this.u32[slot] + this.base : -1;
  }

  /** The same for writing. */
  lookupWrite(page: number): number {
    const slot = ((page | 0) >>> 12) & MASK;
    return this.tags[WRITE + slot] === page ? this.u32[slot] + this.base : -1;
  }

  /** The same for fetching an instruction. */
  lookupFetch(page: number): number {
    const slot = ((page | 0) >>> 12) & FETCH_MASK;
    return this.#fetchTags[slot] === page ? this.#fetchWords[slot] : -1;
  }

  /**
   * Enters a translation for reading, or for reading and writing, in place of what the slot held.
   *
   * The page's address is given as two words, signed: a double handed to a function costs an allocation.
   *
   * @param word host word of the frame, in RAM's words
   * @param writable whether a write needs no walk
   * @param large whether the page is part of a larger one
   */
  enterData(hi: number, lo: number, word: number, writable: boolean, large: boolean): void {
    const { tags } = this;
    const slot = (lo >>> 12) & MASK;
    const page = hi * TWO_32 + ((lo >>> 12) * 4096);
    tags[slot] = page;
    tags[WRITE + slot] = writable ? page : EMPTY;
    this.u32[slot] = word - this.base;
    const n = this.#nrFilled;
    if (n < FEW) this.#filled[n] = slot;
    this.#nrFilled = n + 1;
    if (large) this.#large = true;
  }

  /** The page just entered for data is global: it is kept over a load of CR3. */
  noteGlobal(lo: number): void {
    const n = this.#nrGlobals;
    if (n === MAX_GLOBALS) return;
    this.#globals[n] = this.tags[(lo >>> 12) & MASK];
    this.#nrGlobals = n + 1;
  }

  /** Enters a translation for fetching instructions. */
  enterFetch(hi: number, lo: number, word: number, large: boolean): void {
    const slot = (lo >>> 12) & FETCH_MASK;
    this.#fetchTags[slot] = hi * TWO_32 + ((lo >>> 12) * 4096);
    this.#fetchWords[slot] = word;
    this.#fetched = true;
    if (large) this.#large = true;
  }

  /** Drops the translations of a page, and of the whole large page it may be part of. */
  invalidatePage(page: number): void {
    if (this.#large) {
      // The parts of a large page are not linked; dropping more than was asked is always allowed.
      this.invalidateAll();
      return;
    }
    const { tags } = this;
    const slot = ((page | 0) >>> 12) & MASK;
    if (tags[slot] === page) {
      tags[slot] = EMPTY;
      tags[WRITE + slot] = EMPTY;
    }
    if (this.#nrGlobals !== 0) this.#forgetGlobal(page);
    if (this.#fetched) {
      const fetchSlot = slot & FETCH_MASK;
      if (this.#fetchTags[fetchSlot] === page) this.#fetchTags[fetchSlot] = EMPTY;
    }
  }

  /** Drops every translation. Takes longer the more were entered since the last time, up to about 350 ns. */
  invalidateAll(): void {
    if (this.#nrFilled <= FEW) {
      const { tags } = this;
      for (let i = 0; i < this.#nrFilled; i++) {
        const slot = this.#filled[i];
        tags[slot] = EMPTY;
        tags[WRITE + slot] = EMPTY;
      }
    } else {
      this.#tagWords.fill(0xffffffff);
    }
    this.#nrFilled = 0;
    this.#nrGlobals = 0;
    if (this.#fetched) this.#fetchTags.fill(EMPTY);
    this.#fetched = false;
    this.#large = false;
  }

  /** Drops every translation but those of global pages. */
  invalidateNonGlobal(): void {
    if (this.#nrGlobals === 0) this.invalidateAll();
    else this.#keepGlobals();
  }

  #keepGlobals(): void {
    const { tags } = this;
    const large = this.#large;
    const kept = new Map<number, number>();
    for (let i = 0; i < this.#nrGlobals; i++) {
      const page = this.#globals[i];
      const slot = ((page | 0) >>> 12) & MASK;
      if (tags[slot] === page) kept.set(page, tags[WRITE + slot]);
    }
    this.invalidateAll();
    for (const [page, writeTag] of kept) {
      const slot = ((page | 0) >>> 12) & MASK;
      tags[slot] = page;
      tags[WRITE + slot] = writeTag;
      // Filled anew: the next flush of all must find it.
      this.#filled[this.#nrFilled++] = slot;
      this.#globals[this.#nrGlobals++] = page;
    }
    this.#large = large;
  }

  /** A page is global no longer: its translation was dropped. */
  #forgetGlobal(page: number): void {
    const globals = this.#globals;
    let n = 0;
    for (let i = 0; i < this.#nrGlobals; i++) if (globals[i] !== page) globals[n++] = globals[i];
    this.#nrGlobals = n;
  }
}
