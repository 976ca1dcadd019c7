import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KernelBug } from './assert.ts';
import { Bitmap, lowestBit32, popcount32 } from './bitmap.ts';
import { Prng } from './prng.ts';

describe('bits of a word', () => {
  it('counts and finds them', () => {
    expect([0, 1, -1, 0x8000_0000, 0xf0f0].map(popcount32)).toEqual([0, 1, 32, 1, 8]);
    expect([0, 1, -1, 0x8000_0000, 0xf0f0].map(lowestBit32)).toEqual([32, 0, 0, 31, 4]);
  });
});

describe('Bitmap', () => {
  it('agrees with an array of booleans in random runs', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1, max: 200 }), (seed, size) => {
        const prng = new Prng(seed);
        const bitmap = new Bitmap(size);
        const model = new Array<boolean>(size).fill(false);
        for (let step = 0; step < 60; step++) {
          const from = prng.below(size);
          const count = prng.below(size - from + 1);
          switch (prng.below(4)) {
            case 0:
              bitmap.set(from);
              model[from] = true;
              break;
            case 1:
              bitmap.clear(from);
              model[from] = false;
              break;
            case 2:
              bitmap.setRange(from, Math.min(count, 70));
              model.fill(true, from, from + Math.min(count, 70));
              break;
            default:
              bitmap.clearRange(from, count);
              model.fill(false, from, from + count);
          }
          const at = prng.below(size + 3);
          const next = (value: boolean): number => {
            const found = model.indexOf(value, at);
            return found < 0 ? size : found;
          };
          expect(bitmap.test(from)).toBe(model[from]);
          expect(bitmap.findNextSet(at)).toBe(next(true));
          expect(bitmap.findNextZero(at)).toBe(next(false));
          expect(bitmap.weight()).toBe(model.filter(Boolean).length);
          const wanted = 1 + prng.below(9);
          const align = 2 ** prng.below(4);
          let area = Math.ceil(at / align) * align;
          while (area + wanted <= size && model.slice(area, area + wanted).includes(true)) area += align;
          expect(bitmap.findZeroArea(at, wanted, align - 1)).toBe(area + wanted <= size ? area : size);
        }
      }),
      { numRuns: 100 },
    );
  });

  it('refuses a range outside and too few words', () => {
    expect(() => new Bitmap(10).setRange(8, 3)).toThrow(KernelBug);
    expect(() => new Bitmap(33, new Uint32Array(1))).toThrow(KernelBug);
  });
});
