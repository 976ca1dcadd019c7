/**
 * What every compressor must do. An author of one runs this suite in their own tests:
 *
 *     import { compressorContract } from '@pagelab/vm/contract';
 *     compressorContract(mine);
 */
import { PAGE_SIZE } from '@pagelab/abi';
import { Prng } from '@pagelab/lib';
import { describe, expect, it } from 'vitest';
import type { Compressor } from './compressor.ts';

const SEED = 0x5eed;

/** Pages of all kinds, from one byte to noise. */
function pages(): Uint8Array[] {
  const prng = new Prng(SEED);
  return Array.from({ length: 64 }, (_, i) => {
    const bytes = new Uint8Array(PAGE_SIZE);
    // Runs whose length and alphabet shrink and grow with the page's number.
    for (let at = 0; at < PAGE_SIZE; ) {
      const run = 1 + prng.below(1 + (i % 8) * 32);
      bytes.fill(prng.below(1 << (1 + (i >>> 3))), at, Math.min(PAGE_SIZE, at + run));
      at += run;
    }
    return bytes;
  });
}

/** Runs the suite: a `describe` block named after the compressor. */
export function compressorContract(compressor: Compressor): void {
  describe(`compressor ${compressor.name}`, () => {
    it('has a name of one word', () => {
      expect(compressor.name).toMatch(/^[\w-]+$/);
    });

    it('gives every page back', () => {
      for (const page of pages()) {
        const data = compressor.compress(page);
        expect(data.length).toBeGreaterThan(0);
        expect(compressor.decompress(data).every((byte, at) => byte === page[at])).toBe(true);
      }
    });

    it('keeps apart what it returned from what it is given next', () => {
      const [one, other] = pages();
      const first = Uint8Array.from(one);
      const data = Uint8Array.from(compressor.compress(first));
      compressor.compress(other);
      first.fill(0xff);
      expect(compressor.decompress(data).every((byte, at) => byte === one[at])).toBe(true);
    });

    it('gains something where there is something to gain', () => {
      const page = new Uint8Array(PAGE_SIZE).fill(0x41, 100, 3000);
      expect(compressor.compress(page).length).toBeLessThan(PAGE_SIZE / 4);
    });
  });
}
