/**
 * A compressor of one's own for zswap: a word that repeats is kept once, with how often it does.
 *
 *     boot({ memory: '64M', swap: [{ size: '64M' }], cmdline: 'zswap.enabled=1' }, { compressors: [wordRuns] })
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { Compressor } from '@pagelab/vm';

const WORDS = PAGE_SIZE / 4;

export const wordRuns: Compressor = {
  name: 'word-runs',

  /** For each run the number of words, and the word. */
  compress(page) {
    const words = new Uint32Array(page.slice().buffer);
    const runs: number[] = [];
    for (let at = 0; at < WORDS; ) {
      let end = at + 1;
      while (end < WORDS && words[end] === words[at]) end++;
      runs.push(end - at, words[at]!);
      at = end;
    }
    return new Uint8Array(Uint32Array.from(runs).buffer);
  },

  decompress(data) {
    const runs = new Uint32Array(data.slice().buffer);
    const words = new Uint32Array(WORDS);
    let at = 0;
    for (let i = 0; i < runs.length; i += 2) {
      words.fill(runs[i + 1]!, at, at + runs[i]!);
      at += runs[i]!;
    }
    return new Uint8Array(words.buffer);
  },
};
