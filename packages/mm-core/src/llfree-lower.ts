/**
 * LLFree's lower allocator: which frames of an area are free.
 *
 * - An *area* is 512 frames (2 MiB): a bitfield, and an *entry* that counts what is free in it.
 * - A *tree* is a group of areas that begins at a multiple of its size. The upper allocator hands out trees; here they are
 *   only what a search stays inside of.
 *
 * An entry:
 *
 *     bit  25 … 22   21     20    19 … 10   9 … 0
 *           bound   apart  huge    size     free
 *
 * `free` frames of the area's `size` are free; an area with holes, or at the edge of the zone, is smaller than 512. `huge`
 * says that the area is handed out as a whole: its bitfield then says nothing, so that a huge frame costs one write. An
 * area that is `apart` belongs to nobody here: its bits and its size are 0. No block of an order above `bound` is free in it:
 * searches that failed are not repeated until a frame comes back.
 *
 *     bits set === free, unless huge; free === 0 where huge or apart
 */
import { bugOn, lowestBit32, popcount32 } from '@pagelab/lib';
import { WORD_ORDER, clearRun, countRuns, fillWords, forEachRun, int32Columns, isRunFree, runMask, runsInWord } from './free-bits.ts';
import { setBits } from './frame-bits.ts';
import { MIGRATE_TYPES } from './migratetype.ts';
import { MAX_PAGE_ORDER } from './page.ts';
import { PART_ORDER } from './set-apart.ts';

/** log2 of the frames in an area: what can be set apart. */
export const AREA_ORDER = PART_ORDER;
/** Frames of an area. */
export const AREA_FRAMES = 1 << AREA_ORDER;
/** Words of a bitfield. */
export const AREA_WORDS = AREA_FRAMES >>> WORD_ORDER;
/** Areas of a tree: 16 MiB, so that the DMA zone is one and a small machine has several. */
export const TREE_AREAS = 8;
/** log2 of the frames in a tree. */
export const TREE_ORDER = AREA_ORDER + 3;
/** Frames of a tree. */
export const TREE_FRAMES = 1 << TREE_ORDER;

const FREE_MASK = 0x3ff;
const SIZE_SHIFT = 10;
const HUGE = 1 << 20;
const APART = 1 << 21;
const BOUND_SHIFT = 22;
const BOUND_MASK = 15 << BOUND_SHIFT;
/** No bound. */
const ANY_ORDER = AREA_ORDER << BOUND_SHIFT;
/** The entry of an area all of which is free. */
const WHOLE = ANY_ORDER | (AREA_FRAMES << SIZE_SHIFT) | AREA_FRAMES;
/** The entry of an area handed out as one. */
const TAKEN_WHOLE = (AREA_FRAMES << SIZE_SHIFT) | HUGE;

/**
 * Areas and their bitfields. Frames are counted from the first tree's first; an area that was not given to it has nothing.
 */
export class LlfreeLower {
  /** Areas there may be. */
  readonly nrAreas: number;
  /** Areas of each tree all of which is free, and of all trees. */
  readonly wholeAreas: Uint8Array;
  nrWholeAreas = 0;
  /** The area last broken into: a smaller block was taken, and before that all of it was free. −1 once it was seen to. */
  broken = -1;

  private readonly bits: Int32Array;
  private readonly entries: Int32Array;
  /** Of each tree the largest order that may be free in it. */
  private readonly treeBound: Uint8Array;

  /** Makes the columns, all of which say that nothing is there. */
  constructor(nrTrees: number) {
    this.nrAreas = nrTrees * TREE_AREAS;
    [this.bits, this.entries] = int32Columns(this.nrAreas * AREA_WORDS, this.nrAreas);
    this.treeBound = new Uint8Array(nrTrees);
    this.wholeAreas = new Uint8Array(nrTrees);
  }

  // ---- what there is

  /** Gives it a tree, all of which is free. */
  addTree(tree: number): void {
    const area = tree * TREE_AREAS;
    this.bits.fill(-1, area * AREA_WORDS, (area + TREE_AREAS) * AREA_WORDS);
    this.entries.fill(WHOLE, area, area + TREE_AREAS);
    this.treeBound[tree] = MAX_PAGE_ORDER;
    this.wholeAreas[tree] = TREE_AREAS;
    this.nrWholeAreas += TREE_AREAS;
  }

  /** Gives it frames `[from, to)` of one area. @throws KernelBug where it has one of them */
  addFrames(from: number, to: number): void {
    const area = from >>> AREA_ORDER;
    const entry = this.entries[area];
    bugOn((entry & (HUGE | APART)) !== 0 || this.isFreeAnywhere(from, to), 'llfree: memory given twice');
    setBits(this.bits, from, to);
    const pages = to - from;
    this.entries[area] = entry + pages + (pages << SIZE_SHIFT);
    this.unbind(area);
    if (this.entries[area] === WHOLE) this.countWhole(area, 1);
  }

  /** Free frames of an area. */
  freeIn(area: number): number {
    return this.entries[area] & FREE_MASK;
  }

  /** Frames that an area has, free or not. */
  sizeOf(area: number): number {
    return (this.entries[area] >>> SIZE_SHIFT) & FREE_MASK;
  }

  /** Whether all of an area is free. */
  isWhole(area: number): boolean {
    return this.entries[area] === WHOLE;
  }

  /** Whether an area is handed out as one. */
  isHuge(area: number): boolean {
    return (this.entries[area] & HUGE) !== 0;
  }

  /** Whether a block of `order` is free in a tree. */
  hasFree(tree: number, order: number): boolean {
    const first = tree * TREE_AREAS;
    if (order > this.treeBound[tree]) return false;
    for (let area = first; area < first + TREE_AREAS; area++) {
      if (order > AREA_ORDER ? this.isPair(area) : this.find(area, order, 0) >= 0) return true;
    }
    this.treeBound[tree] = order - 1;
    return false;
  }

  // ---- taking and giving back

  /**
   * Takes a block out of a tree. Areas already broken into come first, that of `near` before all; whole ones last longer so.
   *
   * @param near a frame of the tree: the search begins at its word
   * @returns the block's first frame, −1 where the tree has no such block
   */
  take(tree: number, order: number, near: number): number {
    const first = tree * TREE_AREAS;
    const start = near >>> AREA_ORDER;
    if (order >= AREA_ORDER) return this.takeAreas(first, order, start);
    let word = (near >>> WORD_ORDER) & (AREA_WORDS - 1);
    for (let i = 0; i < TREE_AREAS; i++, word = 0) {
      const area = first + ((start + i) & (TREE_AREAS - 1));
      if (this.entries[area] === WHOLE) continue;
      const frame = this.takeIn(area, order, word);
      if (frame >= 0) return frame;
    }
    if (this.wholeAreas[tree] === 0) return -1;
    for (let i = 0; ; i++) {
      const area = first + ((start + i) & (TREE_AREAS - 1));
      if (this.entries[area] === WHOLE) return this.takeIn(area, order, 0);
    }
  }

  /** Takes a given block of at most an area. @returns whether all of it was free */
  takeAt(frame: number, order: number): boolean {
    const area = frame >>> AREA_ORDER;
    if (order === AREA_ORDER) {
      if (this.entries[area] !== WHOLE) return false;
      this.takeWhole(area);
      return true;
    }
    if ((this.entries[area] & (HUGE | APART)) !== 0 || !isRunFree(this.bits, frame, order)) return false;
    this.takeRun(area, frame, order);
    return true;
  }

  /** Gives a block back. @throws KernelBug where a frame of it is free */
  put(frame: number, order: number): void {
    const area = frame >>> AREA_ORDER;
    if (order >= AREA_ORDER) {
      this.putArea(area);
      if (order > AREA_ORDER) this.putArea(area + 1);
      return;
    }
    const { bits, entries } = this;
    if ((entries[area] & HUGE) !== 0) {
      // Part of a huge frame: from here on its frames are counted singly.
      bits.fill(0, area * AREA_WORDS, (area + 1) * AREA_WORDS);
      entries[area] &= ~HUGE;
    }
    const word = frame >>> WORD_ORDER;
    if (order <= WORD_ORDER) {
      const mask = runMask(order, frame & 31);
      if ((bits[word] & mask) !== 0) doubleFree(frame);
      bits[word] |= mask;
    } else {
      const end = word + (1 << (order - WORD_ORDER));
      for (let w = word; w < end; w++) if (bits[w] !== 0) doubleFree(frame);
      fillWords(bits, -1, word, end);
    }
    entries[area] += 1 << order;
    this.unbind(area);
    if (entries[area] === WHOLE) this.countWhole(area, 1);
  }

  // ---- areas that are set apart

  /** Gives an area away with what is free in it. @returns the bits of its free frames */
  detach(area: number): Int32Array {
    const words = new Int32Array(AREA_WORDS);
    const at = area * AREA_WORDS;
    if (this.isWhole(area)) this.countWhole(area, -1);
    if (!this.isHuge(area)) words.set(this.bits.subarray(at, at + AREA_WORDS));
    this.bits.fill(0, at, at + AREA_WORDS);
    this.entries[area] = APART;
    return words;
  }

  /** Takes an area back. @param size frames that it has, free or not */
  attach(area: number, words: Int32Array, size: number): void {
    bugOn(this.entries[area] !== APART, 'llfree: an area comes back that was not away');
    this.bits.set(words, area * AREA_WORDS);
    const free = words.reduce((bits, word) => bits + popcount32(word), 0);
    this.entries[area] = (size << SIZE_SHIFT) | free;
    this.unbind(area);
    if (this.isWhole(area)) this.countWhole(area, 1);
  }

  // ---- looking at all of it

  /** Visits the free blocks of two areas that can make a largest block, the largest that there are. */
  forEachFree(evenArea: number, visit: (frame: number, order: number) => void): void {
    if (this.isPair(evenArea)) {
      visit(evenArea * AREA_FRAMES, AREA_ORDER + 1);
      return;
    }
    for (let area = evenArea; area < evenArea + 2; area++) {
      if (this.freeIn(area) > 0) forEachRun(this.bits, area * AREA_WORDS, AREA_WORDS, area * AREA_FRAMES, visit);
    }
  }

  /** Counts what {@link forEachFree} visits, in row `order * MIGRATE_TYPES + type`. @param types of the pageblocks, from the first; each has 2^`shift` areas */
  countFree(evenArea: number, types: Uint8Array, shift: number, counts: Int32Array): void {
    if (this.isPair(evenArea)) {
      counts[(AREA_ORDER + 1) * MIGRATE_TYPES + types[evenArea >>> shift]]++;
      return;
    }
    for (let area = evenArea; area < evenArea + 2; area++) {
      if (this.freeIn(area) > 0) countRuns(this.bits, area * AREA_WORDS, AREA_WORDS, counts, types[area >>> shift], MIGRATE_TYPES);
    }
  }

  /** Recomputes what is counted of a tree. @throws KernelBug for the first count that is wrong */
  validate(tree: number): void {
    const first = tree * TREE_AREAS;
    let whole = 0;
    for (let area = first; area < first + TREE_AREAS; area++) {
      let bits = 0;
      for (let word = area * AREA_WORDS; word < (area + 1) * AREA_WORDS; word++) bits += popcount32(this.bits[word]);
      const free = this.freeIn(area);
      bugOn(this.isHuge(area) ? free !== 0 : bits !== free, `llfree: area ${area} has ${bits} free frames, but ${free} counted`);
      bugOn(free > this.sizeOf(area), `llfree: area ${area} has more free frames than frames`);
      if (this.isWhole(area)) whole++;
      for (let order = (this.entries[area] >>> BOUND_SHIFT) + 1; order <= AREA_ORDER; order++) {
        bugOn(this.search(area, order, 0) >= 0, `llfree: area ${area} has a free block that searches pass over`);
      }
      bugOn(this.isPair(area) && this.treeBound[tree] < MAX_PAGE_ORDER, `llfree: tree ${tree} has a free block that searches pass over`);
      for (let order = this.treeBound[tree] + 1; order <= AREA_ORDER; order++) {
        bugOn(this.search(area, order, 0) >= 0, `llfree: tree ${tree} has a free block that searches pass over`);
      }
    }
    bugOn(whole !== this.wholeAreas[tree], `llfree: tree ${tree} has ${whole} whole areas, but ${this.wholeAreas[tree]} counted`);
  }

  // ---- inside

  /** Takes a block of less than an area. */
  private takeIn(area: number, order: number, fromWord: number): number {
    const frame = this.find(area, order, fromWord);
    if (frame < 0) return -1;
    this.takeRun(area, frame, order);
    return frame;
  }

  private takeRun(area: number, frame: number, order: number): void {
    const { entries } = this;
    clearRun(this.bits, frame, order);
    if (entries[area] === WHOLE) {
      this.broken = area;
      this.countWhole(area, -1);
    }
    entries[area] -= 1 << order;
  }

  /** Takes an area, or two that make a block of twice that. */
  private takeAreas(first: number, order: number, start: number): number {
    if (order > AREA_ORDER) {
      for (let i = 0; i < TREE_AREAS; i += 2) {
        const area = first + ((start + i) & (TREE_AREAS - 2));
        if (!this.isPair(area)) continue;
        this.takeWhole(area);
        this.takeWhole(area + 1);
        return area * AREA_FRAMES;
      }
      return -1;
    }
    if (this.wholeAreas[first / TREE_AREAS] === 0) return -1;
    for (let i = 0; ; i++) {
      const area = first + ((start + i) & (TREE_AREAS - 1));
      if (this.entries[area] !== WHOLE) continue;
      this.takeWhole(area);
      return area * AREA_FRAMES;
    }
  }

  private takeWhole(area: number): void {
    this.entries[area] = TAKEN_WHOLE;
    this.countWhole(area, -1);
  }

  private putArea(area: number): void {
    const entry = this.entries[area];
    if (entry !== TAKEN_WHOLE) {
      // Taken piece by piece.
      if ((entry & ~BOUND_MASK) !== AREA_FRAMES << SIZE_SHIFT) doubleFree(area * AREA_FRAMES);
      this.bits.fill(-1, area * AREA_WORDS, (area + 1) * AREA_WORDS);
    }
    this.entries[area] = WHOLE;
    this.unbind(area);
    this.countWhole(area, 1);
  }

  private isPair(area: number): boolean {
    return (area & 1) === 0 && this.entries[area] === WHOLE && this.entries[area + 1] === WHOLE;
  }

  /** A free block of at most an area, −1 where there is none; remembers that there is none. */
  private find(area: number, order: number, fromWord: number): number {
    const entry = this.entries[area];
    if (order > entry >>> BOUND_SHIFT || (entry & FREE_MASK) < 1 << order) return -1;
    const frame = this.search(area, order, fromWord);
    if (frame < 0) this.entries[area] = (entry & ~BOUND_MASK) | ((order - 1) << BOUND_SHIFT);
    return frame;
  }

  private search(area: number, order: number, fromWord: number): number {
    const { bits } = this;
    const first = area * AREA_WORDS;
    if ((this.entries[area] & FREE_MASK) < 1 << order) return -1;
    if (order <= WORD_ORDER) {
      for (let i = 0; i < AREA_WORDS; i++) {
        const word = first + ((fromWord + i) & (AREA_WORDS - 1));
        const runs = runsInWord(bits[word], order);
        if (runs !== 0) return word * 32 + lowestBit32(runs);
      }
      return -1;
    }
    const step = 1 << (order - WORD_ORDER);
    for (let i = 0; i < AREA_WORDS; i += step) {
      const word = first + ((fromWord + i) & (AREA_WORDS - step));
      let end = word;
      while (end < word + step && bits[end] === -1) end++;
      if (end === word + step) return word * 32;
    }
    return -1;
  }

  /** Something came back to an area: whatever is free in it now, nothing is ruled out. */
  private unbind(area: number): void {
    this.entries[area] = (this.entries[area] & ~BOUND_MASK) | ANY_ORDER;
    this.treeBound[area >>> (TREE_ORDER - AREA_ORDER)] = MAX_PAGE_ORDER;
  }

  private countWhole(area: number, areas: number): void {
    this.wholeAreas[area >>> (TREE_ORDER - AREA_ORDER)] += areas;
    this.nrWholeAreas += areas;
  }

  private isFreeAnywhere(from: number, to: number): boolean {
    for (let frame = from; frame < to; frame++) if ((this.bits[frame >>> WORD_ORDER] & (1 << (frame & 31))) !== 0) return true;
    return false;
  }
}

function doubleFree(frame: number): void {
  bugOn(true, `llfree: frame ${frame} of the zone's first tree is freed, but is free`);
}
