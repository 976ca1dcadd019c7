/**
 * Pageblocks set apart: kept for urgent allocations, part of a CMA region, or isolated.
 *
 * A page allocator that keeps no migrate types apart still has to keep these. It moves the free frames of such a pageblock
 * in here, where only those who may have them look; to the allocator itself the pageblock then holds nothing free.
 */
import { bugOn, lowestBit32, popcount32 } from '@pagelab/lib';
import type { Pfn } from '@pagelab/hw';
import { WORD_ORDER, clearRun, forEachRun, isRunFree, runMask, runsInWord } from './free-bits.ts';
import { setBits } from './frame-bits.ts';
import { MIGRATE_PCPTYPES, MIGRATE_TYPES } from './migratetype.ts';
import { MAX_PAGE_ORDER } from './page.ts';

/** log2 of the frames that are set apart as one: a pageblock, or half of one where a pageblock has 4 MiB. */
export const PART_ORDER = 9;
/** Frames of a part. */
export const PART_PAGES = 1 << PART_ORDER;
/** Words of bits in a part. */
export const PART_WORDS = PART_PAGES >>> WORD_ORDER;

/** What moves when a part of memory is set apart or comes back. */
export interface BlockFrames {
  /** Its free frames; see `free-bits.ts`. */
  readonly words: Int32Array;
  /** Frames that the allocator has of it, free or not. */
  size: number;
}

interface ApartPart extends BlockFrames {
  /** Its number: the first frame's pfn by {@link PART_PAGES}. */
  readonly part: number;
  readonly type: number;
  free: number;
}

/** Tells whether pageblocks of a type are kept here. */
export function isSetApart(migratetype: number): boolean {
  return migratetype >= MIGRATE_PCPTYPES;
}

/** The free frames of the pageblocks that a page allocator has set apart. */
export class SetApart {
  /** Parts in here. */
  size = 0;
  /** Free frames in all of them. */
  nrFree = 0;
  /** The same by migrate type. */
  readonly nrFreeOfType = new Int32Array(MIGRATE_TYPES);

  private readonly byPart = new Map<number, ApartPart>();
  /** By migrate type, ascending. */
  private readonly byType: ApartPart[][] = Array.from({ length: MIGRATE_TYPES }, () => []);
  /** By migrate type: where the next search begins. */
  private readonly hint = new Int32Array(MIGRATE_TYPES);

  /** Whether the part of a frame is in here. */
  has(pfn: Pfn): boolean {
    return this.size > 0 && this.byPart.has(pfn >>> PART_ORDER);
  }

  /** Puts a part in here. @returns how many of its frames are free */
  add(start: Pfn, type: number, { words, size }: BlockFrames): number {
    const part = start >>> PART_ORDER;
    bugOn(!isSetApart(type) || this.byPart.has(part), 'set apart: a part that is, or should not be');
    const free = words.reduce((bits, word) => bits + popcount32(word), 0);
    const entry: ApartPart = { part, type, words, size, free };
    const list = this.byType[type];
    const after = list.findIndex((other) => other.part > part);
    list.splice(after < 0 ? list.length : after, 0, entry);
    this.byPart.set(part, entry);
    this.size++;
    this.count(type, free);
    return free;
  }

  /** Adds frames `[from, to)` to a part that is in here. */
  addFrames(from: Pfn, to: Pfn): void {
    const entry = this.byPart.get(from >>> PART_ORDER);
    if (entry === undefined) return;
    const first = entry.part * PART_PAGES;
    setBits(entry.words, from - first, to - first);
    entry.size += to - from;
    entry.free += to - from;
    this.count(entry.type, to - from);
  }

  /** Takes a part out, if it is in here. */
  remove(start: Pfn): BlockFrames | undefined {
    const entry = this.byPart.get(start >>> PART_ORDER);
    if (entry === undefined) return undefined;
    const list = this.byType[entry.type];
    list.splice(list.indexOf(entry), 1);
    this.byPart.delete(entry.part);
    this.size--;
    this.count(entry.type, -entry.free);
    return entry;
  }

  /** Takes a free block of a type, −1 where there is none. Costs a step for each part of the type. */
  alloc(order: number, type: number): Pfn {
    const list = this.byType[type];
    if (this.nrFreeOfType[type] < 1 << order) return -1;
    for (let i = 0; i < list.length; i++) {
      const at = (this.hint[type] + i) % list.length;
      const pfn = order > PART_ORDER ? this.takeTwo(list, at) : this.takeIn(list[at], order);
      if (pfn < 0) continue;
      this.hint[type] = at;
      return pfn;
    }
    return -1;
  }

  /** Takes a given block of at most a part. @returns whether all of it was free */
  takeAt(pfn: Pfn, order: number): boolean {
    const entry = this.byPart.get(pfn >>> PART_ORDER);
    if (entry === undefined || !isRunFree(entry.words, pfn % PART_PAGES, order)) return false;
    clearRun(entry.words, pfn % PART_PAGES, order);
    entry.free -= 1 << order;
    this.count(entry.type, -(1 << order));
    return true;
  }

  /** Whether a block of `order` of a type is free. */
  hasFree(order: number, type: number): boolean {
    const list = this.byType[type];
    if (this.nrFreeOfType[type] < 1 << order) return false;
    if (order > PART_ORDER) return list.some((_, at) => isPair(list, at));
    return list.some((entry) => entry.free >= 1 << order && findRun(entry.words, order) >= 0);
  }

  /** Gives a block back, of at most a part. @throws KernelBug where a frame of it is free */
  free(pfn: Pfn, order: number): void {
    const entry = this.byPart.get(pfn >>> PART_ORDER);
    if (entry === undefined || order > PART_ORDER) {
      bugOn(true, 'set apart: freed to a part that is not');
      return;
    }
    const { words } = entry;
    const first = (pfn >>> WORD_ORDER) % PART_WORDS;
    if (order <= WORD_ORDER) {
      const mask = runMask(order, pfn & 31);
      bugOn((words[first] & mask) !== 0, 'set apart: freeing what is free');
      words[first] |= mask;
    } else {
      const end = first + (1 << (order - WORD_ORDER));
      for (let word = first; word < end; word++) bugOn(words[word] !== 0, 'set apart: freeing what is free');
      words.fill(-1, first, end);
    }
    entry.free += 1 << order;
    this.count(entry.type, 1 << order);
  }

  /** Visits the free blocks, the largest that there are. */
  forEachFree(visit: (pfn: Pfn, order: number, migratetype: number) => void): void {
    this.byType.forEach((list, type) => {
      for (let at = 0; at < list.length; at++) {
        const { part, words } = list[at];
        if (isPair(list, at)) {
          visit(part * PART_PAGES, MAX_PAGE_ORDER, type);
          at++;
        } else {
          forEachRun(words, 0, PART_WORDS, part * PART_PAGES, (pfn, order) => visit(pfn, order, type));
        }
      }
    });
  }

  /** Recomputes the counts. @throws KernelBug for the first that is wrong */
  validate(blockTypes: Uint8Array, pageblockOrder: number): void {
    let sum = 0;
    this.byType.forEach((list, type) => {
      let pages = 0;
      for (const { part, words, free } of list) {
        const bits = words.reduce((set, word) => set + popcount32(word), 0);
        bugOn(bits !== free, `set apart: part ${part} has ${bits} free frames, but ${free} counted`);
        bugOn(blockTypes[(part * PART_PAGES) >>> pageblockOrder] !== type, `set apart: part ${part} is of another type`);
        bugOn(this.byPart.get(part)?.words !== words, `set apart: part ${part} is not found`);
        pages += free;
      }
      bugOn(pages !== this.nrFreeOfType[type], `set apart: ${pages} free pages of type ${type}, but ${this.nrFreeOfType[type]} counted`);
      sum += pages;
    });
    bugOn(sum !== this.nrFree, `set apart: ${sum} free pages, but ${this.nrFree} counted`);
  }

  private takeIn(entry: ApartPart, order: number): Pfn {
    if (entry.free < 1 << order) return -1;
    const frame = findRun(entry.words, order);
    if (frame < 0) return -1;
    clearRun(entry.words, frame, order);
    entry.free -= 1 << order;
    this.count(entry.type, -(1 << order));
    return entry.part * PART_PAGES + frame;
  }

  private takeTwo(list: readonly ApartPart[], at: number): Pfn {
    if (!isPair(list, at)) return -1;
    const pfn = this.takeIn(list[at], PART_ORDER);
    this.takeIn(list[at + 1], PART_ORDER);
    return pfn;
  }

  private count(type: number, pages: number): void {
    this.nrFree += pages;
    this.nrFreeOfType[type] += pages;
  }
}

/** Whether the part at `at` and the one behind it make a free block of the largest order. */
function isPair(list: readonly ApartPart[], at: number): boolean {
  const { part, free } = list[at];
  if (part % 2 !== 0 || free !== PART_PAGES || at + 1 === list.length) return false;
  return list[at + 1].part === part + 1 && list[at + 1].free === PART_PAGES;
}

/** The first run of `order` in a part, −1 where it has none. */
function findRun(words: Int32Array, order: number): number {
  if (order <= WORD_ORDER) {
    for (let word = 0; word < PART_WORDS; word++) {
      const runs = runsInWord(words[word], order);
      if (runs !== 0) return word * 32 + lowestBit32(runs);
    }
    return -1;
  }
  const step = 1 << (order - WORD_ORDER);
  for (let word = 0; word < PART_WORDS; word += step) {
    let end = word;
    while (end < word + step && words[end] === -1) end++;
    if (end === word + step) return word * 32;
  }
  return -1;
}
