/**
 * First fit: of all free blocks the one at the lowest address, found in a bitmap of all frames.
 *
 * - A *word* is 32 frames, a *chunk* 1024: the largest block.
 * - For each order there is an index of the chunks that have a free block of it, so that no search passes over memory that
 *   is of no use; and in a chunk a bit for each word, by order.
 *
 *     bit w of rows[chunk, o] === word w has a run of order o                   (o 0 … 5)
 *     chunk in index[o]       === rows[chunk, o] ≠ 0                            (o 0 … 5)
 *                             === rows[chunk, 5] has a run of order o − 5       (o 6 … 10)
 *
 * A search goes on where the last one of its order ended, unless a block came free below. Memory never used is one more
 * block at its lowest address: of it nothing is written down. Migrate types are ignored, and all ordinary memory counts as
 * movable.
 */
import { bugOn, lowestBit32, popcount32 } from '@pagelab/lib';
import type { Pfn } from '@pagelab/hw';
import { BitfieldAllocator } from './bitfield-allocator.ts';
import { FirstSet } from './first-fit-index.ts';
import {
  WORD_ORDER,
  clearRun,
  countRuns,
  fillWords,
  forEachRun,
  int32Columns,
  isRunFree,
  largestRun,
  runMask,
  runsInWord,
} from './free-bits.ts';
import { setBits } from './frame-bits.ts';
import { MIGRATE_MOVABLE, MIGRATE_TYPES } from './migratetype.ts';
import { MAX_PAGE_ORDER, NR_PAGE_ORDERS } from './page.ts';
import type { FrameRange, PageAllocatorContext, PageAllocatorFactory } from './page-allocator.ts';
import { PristineRanges } from './pristine.ts';
import { PART_WORDS } from './set-apart.ts';
import type { BlockFrames } from './set-apart.ts';

/** log2 of the frames in a chunk. */
const CHUNK_ORDER = MAX_PAGE_ORDER;
const CHUNK_FRAMES = 1 << CHUNK_ORDER;
const CHUNK_WORDS = CHUNK_FRAMES >>> WORD_ORDER;
/** Rows of a chunk: orders that a word has. */
const NR_ROWS = WORD_ORDER + 1;

class FirstFitAllocator extends BitfieldAllocator {
  readonly name = 'first-fit';
  protected nrFreeOrdinary = 0;

  /** Where the first chunk begins, which may be before the zone. */
  private readonly basePfn: Pfn;
  private readonly nrChunks: number;
  /** Chunks that are free and never were anything else: their bits are 0, as if they were not there. */
  private readonly pristine = new PristineRanges();
  /** A bit for each frame: 1 while it is free. */
  private readonly bits: Int32Array;
  private readonly rows: Int32Array;
  /** By order. */
  private readonly index: readonly FirstSet[];
  /** By order: below this chunk there is no block. */
  private readonly from = new Int32Array(NR_PAGE_ORDERS);

  constructor(context: PageAllocatorContext) {
    super(context);
    this.basePfn = this.startPfn - (this.startPfn % CHUNK_FRAMES);
    const nrChunks = this.endPfn > this.startPfn ? Math.ceil((this.endPfn - this.basePfn) / CHUNK_FRAMES) : 0;
    this.nrChunks = nrChunks;
    [this.bits, this.rows] = int32Columns(nrChunks * CHUNK_WORDS, nrChunks * NR_ROWS);
    this.index = Array.from({ length: NR_PAGE_ORDERS }, () => new FirstSet(nrChunks));
  }

  untouched(): readonly FrameRange[] {
    return this.pristine.ranges().map(([from, to]) => ({
      start: this.basePfn + from * CHUNK_FRAMES,
      end: this.basePfn + to * CHUNK_FRAMES,
    }));
  }

  protected addOrdinary(start: Pfn, end: Pfn): void {
    const to = end - this.basePfn;
    for (let frame = start - this.basePfn; frame < to; ) {
      let next = Math.min(to, (frame | (CHUNK_FRAMES - 1)) + 1);
      if (frame % CHUNK_FRAMES === 0 && to - frame >= CHUNK_FRAMES) {
        next = to - ((to - frame) % CHUNK_FRAMES);
        this.pristine.add(frame >>> CHUNK_ORDER, next >>> CHUNK_ORDER);
      } else {
        const chunk = frame >>> CHUNK_ORDER;
        bugOn(this.pristine.has(chunk), 'first fit: memory given twice');
        setBits(this.bits, frame, next);
        this.reindex(chunk);
      }
      this.nrFreeOrdinary += next - frame;
      frame = next;
    }
  }

  protected take(order: number): Pfn {
    const { bits, rows, from } = this;
    let chunk = this.index[order].next(from[order]);
    const { first } = this.pristine;
    if (chunk < 0 || first < chunk) {
      if (first === Infinity) {
        from[order] = this.nrChunks;
        return -1;
      }
      chunk = first;
      this.touch(chunk);
    }
    from[order] = chunk;
    this.nrFreeOrdinary -= 1 << order;
    if (order < WORD_ORDER) {
      const word = chunk * CHUNK_WORDS + lowestBit32(rows[chunk * NR_ROWS + order]);
      const before = bits[word];
      const bit = lowestBit32(runsInWord(before, order));
      bits[word] = before & ~runMask(order, bit);
      this.wordTaken(word, before);
      return this.basePfn + word * 32 + bit;
    }
    const words = order - WORD_ORDER;
    const bit = lowestBit32(runsInWord(rows[chunk * NR_ROWS + WORD_ORDER], words));
    const word = chunk * CHUNK_WORDS + bit;
    fillWords(bits, 0, word, word + (1 << words));
    this.wordsTaken(chunk, runMask(words, bit));
    return this.basePfn + word * 32;
  }

  protected takeOrdinaryAt(pfn: Pfn, order: number): boolean {
    const { bits } = this;
    const frame = pfn - this.basePfn;
    const chunk = frame >>> CHUNK_ORDER;
    const word = frame >>> WORD_ORDER;
    this.touch(chunk);
    if (!isRunFree(bits, frame, order)) return false;
    const before = bits[word];
    clearRun(bits, frame, order);
    this.nrFreeOrdinary -= 1 << order;
    if (order < WORD_ORDER) this.wordTaken(word, before);
    else this.wordsTaken(chunk, runMask(order - WORD_ORDER, word & (CHUNK_WORDS - 1)));
    return true;
  }

  protected put(pfn: Pfn, order: number): void {
    const { bits } = this;
    const frame = pfn - this.basePfn;
    const word = frame >>> WORD_ORDER;
    this.nrFreeOrdinary += 1 << order;
    if (order < WORD_ORDER) {
      const before = bits[word];
      const mask = runMask(order, frame & 31);
      if ((before & mask) !== 0) doubleFree(pfn);
      bits[word] = before | mask;
      this.wordFreed(word, before);
      return;
    }
    const end = word + (1 << (order - WORD_ORDER));
    for (let w = word; w < end; w++) if (bits[w] !== 0) doubleFree(pfn);
    fillWords(bits, -1, word, end);
    this.wordsFreed(frame >>> CHUNK_ORDER, runMask(order - WORD_ORDER, word & (CHUNK_WORDS - 1)));
  }

  protected hasOrdinary(order: number): boolean {
    return this.pristine.count > 0 || this.index[order].next(this.from[order]) >= 0;
  }

  protected forEachOrdinary(visit: (pfn: Pfn, order: number) => void): void {
    for (let chunk = this.index[0].next(0); chunk >= 0; chunk = this.index[0].next(chunk + 1)) {
      forEachRun(this.bits, chunk * CHUNK_WORDS, CHUNK_WORDS, this.basePfn + chunk * CHUNK_FRAMES, visit);
    }
  }

  protected countOrdinary(counts: Int32Array): void {
    for (let chunk = this.index[0].next(0); chunk >= 0; chunk = this.index[0].next(chunk + 1)) {
      countRuns(this.bits, chunk * CHUNK_WORDS, CHUNK_WORDS, counts, MIGRATE_MOVABLE, MIGRATE_TYPES);
    }
  }

  protected detach(start: Pfn): BlockFrames {
    const word = (start - this.basePfn) >>> WORD_ORDER;
    const size = this.freeInPart(start);
    const words = this.bits.slice(word, word + PART_WORDS);
    this.bits.fill(0, word, word + PART_WORDS);
    this.nrFreeOrdinary -= size;
    this.reindex(word >>> (CHUNK_ORDER - WORD_ORDER));
    return { words, size };
  }

  protected attach(start: Pfn, { words }: BlockFrames): void {
    const word = (start - this.basePfn) >>> WORD_ORDER;
    this.bits.set(words, word);
    this.nrFreeOrdinary += this.freeInPart(start);
    this.reindex(word >>> (CHUNK_ORDER - WORD_ORDER));
  }

  protected freeInPart(start: Pfn): number {
    const word = (start - this.basePfn) >>> WORD_ORDER;
    this.touch(word >>> (CHUNK_ORDER - WORD_ORDER));
    let free = 0;
    for (let w = word; w < word + PART_WORDS; w++) free += popcount32(this.bits[w]);
    return free;
  }

  protected typeOf(): number {
    return MIGRATE_MOVABLE;
  }

  protected validateOrdinary(): void {
    let free = this.pristine.count * CHUNK_FRAMES;
    for (let chunk = 0; chunk < this.nrChunks; chunk++) {
      const skip = this.pristine.skip(chunk);
      if (skip > chunk) {
        for (let order = 0; order < NR_PAGE_ORDERS; order++) bugOn(this.index[order].has(chunk), `first fit: chunk ${chunk} is not pristine`);
        chunk = skip - 1;
        continue;
      }
      for (let word = 0; word < CHUNK_WORDS; word++) {
        const bits = this.bits[chunk * CHUNK_WORDS + word];
        free += popcount32(bits);
        for (let order = 0; order < NR_ROWS; order++) {
          const has = (this.rows[chunk * NR_ROWS + order] & (1 << word)) !== 0;
          bugOn(has !== (runsInWord(bits, order) !== 0), `first fit: chunk ${chunk}, word ${word} is wrong about order ${order}`);
        }
      }
      for (let order = 0; order < NR_PAGE_ORDERS; order++) {
        const has = this.index[order].has(chunk);
        bugOn(has !== this.chunkHas(chunk, order), `first fit: the index of order ${order} is wrong about chunk ${chunk}`);
        bugOn(has && chunk < this.from[order], `first fit: searches of order ${order} pass over chunk ${chunk}`);
      }
    }
    bugOn(free !== this.nrFreeOrdinary, `first fit: ${free} free frames, but ${this.nrFreeOrdinary} counted`);
  }

  // ---- keeping rows and index

  private chunkHas(chunk: number, order: number): boolean {
    if (order < NR_ROWS) return this.rows[chunk * NR_ROWS + order] !== 0;
    return runsInWord(this.rows[chunk * NR_ROWS + WORD_ORDER], order - WORD_ORDER) !== 0;
  }

  /** Makes a pristine chunk an ordinary one. */
  private touch(chunk: number): void {
    if (!this.pristine.remove(chunk)) return;
    this.bits.fill(-1, chunk * CHUNK_WORDS, (chunk + 1) * CHUNK_WORDS);
    this.wordsFreed(chunk, -1);
  }

  /** Frames of a word were taken. */
  private wordTaken(word: number, before: number): void {
    const chunk = word >>> (CHUNK_ORDER - WORD_ORDER);
    const bit = 1 << (word & (CHUNK_WORDS - 1));
    const now = largestRun(this.bits[word]);
    let order = largestRun(before);
    if (order === WORD_ORDER && now < WORD_ORDER) {
      this.wholeWordsTaken(chunk, bit);
      order--;
    }
    for (; order > now; order--) {
      const row = chunk * NR_ROWS + order;
      this.rows[row] &= ~bit;
      if (this.rows[row] === 0) this.index[order].clear(chunk);
    }
  }

  /** Frames of a word came free. */
  private wordFreed(word: number, before: number): void {
    const chunk = word >>> (CHUNK_ORDER - WORD_ORDER);
    const bit = 1 << (word & (CHUNK_WORDS - 1));
    const now = largestRun(this.bits[word]);
    for (let order = largestRun(before) + 1; order <= now && order < WORD_ORDER; order++) {
      const row = chunk * NR_ROWS + order;
      if (this.rows[row] === 0) this.add(chunk, order);
      this.rows[row] |= bit;
    }
    if (now === WORD_ORDER) this.wholeWordsFreed(chunk, bit);
  }

  /** Words of a chunk, all of which were free, were taken. @param mask of the words */
  private wordsTaken(chunk: number, mask: number): void {
    for (let order = 0; order < WORD_ORDER; order++) {
      const row = chunk * NR_ROWS + order;
      this.rows[row] &= ~mask;
      if (this.rows[row] === 0) this.index[order].clear(chunk);
    }
    this.wholeWordsTaken(chunk, mask);
  }

  /** Words of a chunk, none of which was free, came free. */
  private wordsFreed(chunk: number, mask: number): void {
    for (let order = 0; order < WORD_ORDER; order++) {
      const row = chunk * NR_ROWS + order;
      if (this.rows[row] === 0) this.add(chunk, order);
      this.rows[row] |= mask;
    }
    this.wholeWordsFreed(chunk, mask);
  }

  /** Keeps the orders from a word up, after words that were all free are not any more. */
  private wholeWordsTaken(chunk: number, mask: number): void {
    const row = chunk * NR_ROWS + WORD_ORDER;
    const before = largestRun(this.rows[row]);
    this.rows[row] &= ~mask;
    const now = largestRun(this.rows[row]);
    for (let order = before; order > now; order--) this.index[WORD_ORDER + order].clear(chunk);
  }

  private wholeWordsFreed(chunk: number, mask: number): void {
    const row = chunk * NR_ROWS + WORD_ORDER;
    const before = largestRun(this.rows[row]);
    this.rows[row] |= mask;
    const now = largestRun(this.rows[row]);
    for (let order = before + 1; order <= now; order++) this.add(chunk, WORD_ORDER + order);
  }

  private add(chunk: number, order: number): void {
    this.index[order].set(chunk);
    if (chunk < this.from[order]) this.from[order] = chunk;
  }

  /** Works rows and index of a chunk out anew. */
  private reindex(chunk: number): void {
    for (let order = 0; order < NR_ROWS; order++) {
      let row = 0;
      for (let word = 0; word < CHUNK_WORDS; word++) {
        if (runsInWord(this.bits[chunk * CHUNK_WORDS + word], order) !== 0) row |= 1 << word;
      }
      this.rows[chunk * NR_ROWS + order] = row;
    }
    for (let order = 0; order < NR_PAGE_ORDERS; order++) {
      if (this.chunkHas(chunk, order)) this.add(chunk, order);
      else this.index[order].clear(chunk);
    }
  }
}

function doubleFree(pfn: Pfn): void {
  bugOn(true, `first fit: frame ${pfn} is freed, but is free`);
}

/**
 * First fit in a bitmap. Allocating and freeing cost a few words for each level of the index, of which there are three or four
 * up to 1 TiB.
 */
export const firstFitAllocator: PageAllocatorFactory = {
  name: 'first-fit',
  create: (context) => new FirstFitAllocator(context),
};
