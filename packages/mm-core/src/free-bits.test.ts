import { describe, expect, it } from 'vitest';
import { Prng } from '@pagelab/lib';
import { countRuns, forEachRun, largestRun, runMask, runsInWord } from './free-bits.ts';
import { setBits } from './frame-bits.ts';

/** Words from nearly empty to nearly full, and those in which larger runs are likely. */
function randomWord(prng: Prng): number {
  let word = prng.u32() | 0;
  for (let i = prng.below(4); i > 0; i--) word = prng.below(2) === 0 ? word | prng.u32() : word & prng.u32();
  for (let i = prng.below(3); i > 0; i--) {
    const order = prng.below(6);
    const mask = runMask(order, prng.below(32 >> order) << order);
    word = prng.below(2) === 0 ? word | mask : word & ~mask;
  }
  return [word, word, word, 0, -1][prng.below(5)] ?? 0;
}

/** Whether frames `[from, from + count)` are all free, bit by bit. */
function allFree(words: Int32Array, from: number, count: number): boolean {
  for (let frame = from; frame < from + count; frame++) if ((words[frame >>> 5] & (1 << (frame & 31))) === 0) return false;
  return true;
}

describe('free frames as bits', () => {
  it('finds the runs of a word as a look at each bit does', () => {
    const prng = new Prng(1);
    for (let round = 0; round < 3000; round++) {
      const words = Int32Array.of(randomWord(prng));
      let largest = -1;
      for (let order = 0; order <= 5; order++) {
        let expected = 0;
        for (let bit = 0; bit < 32; bit += 1 << order) if (allFree(words, bit, 1 << order)) expected |= 1 << bit;
        expect(runsInWord(words[0], order) | 0).toBe(expected);
        if (expected !== 0) largest = order;
      }
      expect(largestRun(words[0])).toBe(largest);
    }
  });

  it('takes memory apart into the largest blocks, and counts them', () => {
    const prng = new Prng(2);
    for (let round = 0; round < 500; round++) {
      const nrWords = 1 << prng.below(6);
      const words = Int32Array.from({ length: 2 * nrWords }, () => (prng.below(3) === 0 ? randomWord(prng) : -1));
      const counts = new Int32Array(22);
      const covered = new Uint8Array(nrWords * 32);
      forEachRun(words, nrWords, nrWords, 0, (frame, order) => {
        expect(frame % (1 << order)).toBe(0);
        expect(allFree(words, nrWords * 32 + frame, 1 << order)).toBe(true);
        for (let i = frame; i < frame + (1 << order); i++) expect(covered[i]++).toBe(0);
        // Not half of a larger one.
        const twice = frame - (frame % (2 << order));
        if (2 << order <= nrWords * 32) expect(allFree(words, nrWords * 32 + twice, 2 << order)).toBe(false);
        counts[order * 2]++;
      });
      for (let i = 0; i < covered.length; i++) expect(covered[i]).toBe(allFree(words, nrWords * 32 + i, 1) ? 1 : 0);
      const counted = new Int32Array(22);
      countRuns(words, nrWords, nrWords, counted, 0, 2);
      expect([...counted]).toEqual([...counts]);
    }
  });

  it('sets ranges', () => {
    for (const [from, to] of [[0, 0], [3, 9], [3, 32], [32, 64], [5, 101], [31, 33]] as const) {
      const words = new Int32Array(4);
      setBits(words, from, to);
      for (let frame = 0; frame < 128; frame++) expect(allFree(words, frame, 1)).toBe(frame >= from && frame < to);
    }
  });
});
