import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KernelBug } from './assert.ts';
import { IdTable } from './id-table.ts';
import { Prng } from './prng.ts';

describe('IdTable', () => {
  it('hands out the lowest free number, as a map does that tries them all', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 0, max: 5 }), (seed, first) => {
        const prng = new Prng(seed);
        const table = new IdTable<number>(first, first + 150);
        const model = new Map<number, number>();
        for (let step = 0; step < 400; step++) {
          const some = first + prng.below(150);
          const kind = prng.below(10);
          if (kind < 6) {
            let lowest = first;
            while (model.has(lowest)) lowest++;
            const id = table.alloc(step);
            expect(id).toBe(lowest < first + 150 ? lowest : -1);
            if (id >= 0) model.set(id, step);
          } else if (kind === 6 && !model.has(some)) {
            table.set(some, step);
            model.set(some, step);
          } else if (model.has(some)) {
            expect(table.free(some)).toBe(model.get(some));
            model.delete(some);
          } else {
            expect(() => table.free(some)).toThrow(KernelBug);
          }
          expect(table.get(some)).toBe(model.get(some));
          expect(table.has(some)).toBe(model.has(some));
          expect(table.size).toBe(model.size);
        }
        const seen: [number, number][] = [];
        table.forEach((value, id) => seen.push([id, value]));
        expect(seen).toEqual([...model].sort((a, b) => a[0] - b[0]));
      }),
      { numRuns: 40 },
    );
  });

  it('answers for numbers it never handed out', () => {
    const table = new IdTable<string>(3);
    expect([-1, 0, 99].map((id) => table.get(id))).toEqual([undefined, undefined, undefined]);
    expect(table.has(1e6)).toBe(false);
    expect(() => table.set(2, 'below')).toThrow(KernelBug);
    expect(table.alloc('a')).toBe(3);
    expect(() => table.set(3, 'again')).toThrow(KernelBug);
  });
});
