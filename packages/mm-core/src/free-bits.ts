/**
 * Free frames as bits: bit `f & 31` of word `f >>> 5` is 1 while frame f is free.
 *
 * 1 is free and not 0, so that a column of zeroes is a machine without memory: what is never written is never handed out.
 *
 * A *run* of order n is 2^n free frames that begin at a multiple of 2^n.
 */
import { lowestBit32, popcount32 } from '@pagelab/lib';
import { LazyColumns } from './lazy-column.ts';

/** log2 of the frames in a word. */
export const WORD_ORDER = 5;

/** Columns of more bytes than this are left to the host to commit. */
const LAZY_BYTES = 0x10_0000;

/** Columns of zeroes: for bits, and for what is counted of them. Large ones cost the host something when they are written. */
export function int32Columns(...lengths: readonly number[]): Int32Array[] {
  const bytes = lengths.reduce((sum, length) => sum + length * 4, 0);
  if (bytes <= LAZY_BYTES) return lengths.map((length) => new Int32Array(length));
  const columns = new LazyColumns(bytes, lengths.length);
  return lengths.map((length) => columns.int32(length));
}

/**
 * The runs in a word: bit i of the answer is 1 where a run of `order` begins at bit i.
 *
 * @param order 0 to 5
 */
export function runsInWord(word: number, order: number): number {
  let runs = word;
  if (order === 0) return runs;
  runs &= (runs >>> 1) & 0x5555_5555;
  if (order === 1) return runs;
  runs &= (runs >>> 2) & 0x1111_1111;
  if (order === 2) return runs;
  runs &= (runs >>> 4) & 0x0101_0101;
  if (order === 3) return runs;
  runs &= (runs >>> 8) & 0x0001_0001;
  if (order === 4) return runs;
  return runs & (runs >>> 16) & 1;
}

/** The order of the largest run in a word, −1 where no frame of it is free. */
export function largestRun(word: number): number {
  if (word === 0) return -1;
  if (word === -1) return 5;
  let runs = word & (word >>> 1) & 0x5555_5555;
  if (runs === 0) return 0;
  runs &= (runs >>> 2) & 0x1111_1111;
  if (runs === 0) return 1;
  runs &= (runs >>> 4) & 0x0101_0101;
  if (runs === 0) return 2;
  runs &= (runs >>> 8) & 0x0001_0001;
  return runs === 0 ? 3 : 4;
}

/** The bits of a run of `order` that begins at `bit`. @param order 0 to 5 */
export function runMask(order: number, bit: number): number {
  return order === WORD_ORDER ? -1 : ((1 << (1 << order)) - 1) << bit;
}

/**
 * Takes free memory apart into the largest blocks it has, as the buddy system would hold it.
 *
 * @param from first word
 * @param nrWords a power of two; `from` is a multiple of it
 * @param pfn frame of the first bit
 * @param visit called for each block, ascending within a word's order only
 */
export function forEachRun(
  words: Int32Array,
  from: number,
  nrWords: number,
  pfn: number,
  visit: (pfn: number, order: number) => void,
): void {
  if (nrWords === 1) {
    forEachRunInWord(words[from], pfn, visit);
    return;
  }
  let word = from;
  const end = from + nrWords;
  const first = words[from];
  // Most memory is all one or all the other.
  if (first === -1 || first === 0) while (word < end && words[word] === first) word++;
  if (word === end) {
    if (first === -1) visit(pfn, WORD_ORDER + lowestBit32(nrWords));
    return;
  }
  const half = nrWords >>> 1;
  forEachRun(words, from, half, pfn, visit);
  forEachRun(words, from + half, half, pfn + half * 32, visit);
}

function forEachRunInWord(word: number, pfn: number, visit: (pfn: number, order: number) => void): void {
  let left = word;
  for (let order = largestRun(word); order >= 0 && left !== 0; order--) {
    for (let runs = runsInWord(left, order); runs !== 0; runs &= runs - 1) {
      const bit = lowestBit32(runs);
      visit(pfn + bit, order);
      left &= ~runMask(order, bit);
    }
  }
}

/**
 * Counts the blocks that {@link forEachRun} visits: each run holds two of the order below, and what is left over of those are
 * blocks.
 *
 * @param from first word
 * @param nrWords a power of two up to 32; `from` is a multiple of it
 * @param counts where to add, `stride` apart for each order, from `at` on
 */
export function countRuns(words: Int32Array, from: number, nrWords: number, counts: Int32Array, at: number, stride: number): void {
  let full = 0;
  for (let i = 0; i < nrWords; i++) {
    const word = words[from + i];
    if (word === -1) full |= 1 << i;
    else if (word !== 0) countInWord(word, WORD_ORDER - 1, counts, at, stride);
  }
  if (full !== 0) countInWord(full, lowestBit32(nrWords), counts, at + WORD_ORDER * stride, stride);
}

/** Counts the runs of a word that are not part of a larger one, up to order `most`. */
function countInWord(word: number, most: number, counts: Int32Array, at: number, stride: number): void {
  let blocks = popcount32(word);
  for (let order = 0; order <= most && blocks > 0; order++) {
    const larger = order === most ? 0 : popcount32(runsInWord(word, order + 1));
    counts[at + order * stride] += blocks - 2 * larger;
    blocks = larger;
  }
}

/** Sets some words: with a few of them a loop takes a third of the time of `fill`. */
export function fillWords(words: Int32Array, value: number, from: number, end: number): void {
  for (let word = from; word < end; word++) words[word] = value;
}

/** Whether all frames of a run of `order` that begins at `frame` are free. */
export function isRunFree(words: Int32Array, frame: number, order: number): boolean {
  const first = frame >>> WORD_ORDER;
  if (order <= WORD_ORDER) {
    const mask = runMask(order, frame & 31);
    return (words[first] & mask) === mask;
  }
  const end = first + (1 << (order - WORD_ORDER));
  for (let word = first; word < end; word++) if (words[word] !== -1) return false;
  return true;
}

/** Clears the bits of a run of `order` that begins at `frame`. */
export function clearRun(words: Int32Array, frame: number, order: number): void {
  const first = frame >>> WORD_ORDER;
  if (order <= WORD_ORDER) words[first] &= ~runMask(order, frame & 31);
  else fillWords(words, 0, first, first + (1 << (order - WORD_ORDER)));
}
