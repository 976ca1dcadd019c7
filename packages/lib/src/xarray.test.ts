import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KernelBug } from './assert.ts';
import { Prng } from './prng.ts';
import { XArray } from './xarray.ts';
import { XA_MARK_0, XA_MARK_1, XA_MARK_2, XArrayInt } from './xarray-int.ts';

const MARKS = [XA_MARK_0, XA_MARK_1, XA_MARK_2];

interface Entry {
  value: number;
  marks: Set<number>;
}

/** Indexes near the borders of nodes of every level, and anywhere between. */
function anIndex(prng: Prng): number {
  if (prng.below(2) === 0) return prng.below(200);
  const level = prng.below(9);
  return Math.min(2 ** 52 - 1, Math.max(0, 64 ** level * (1 + prng.below(3)) + prng.below(5) - 2));
}

describe('XArrayInt', () => {
  it('is empty at first', () => {
    const array = new XArrayInt();
    expect([array.get(0), array.get(2 ** 40), array.nextIndex(0), array.size]).toEqual([-1, -1, -1, 0]);
    expect(array.delete(5)).toBe(false);
  });

  it('holds the first and the last index and values of either sign', () => {
    const array = new XArrayInt();
    array.set(2 ** 52 - 1, -5);
    array.set(0, 2 ** 31 - 1);
    expect([array.get(0), array.get(2 ** 52 - 1), array.get(1)]).toEqual([2 ** 31 - 1, -5, -1]);
    expect([array.nextIndex(0), array.nextIndex(1), array.nextIndex(2 ** 52)]).toEqual([0, 2 ** 52 - 1, -1]);
    expect(() => array.set(2 ** 52, 0)).toThrow(KernelBug);
    expect(() => array.set(-1, 0)).toThrow(KernelBug);
    array.validate();
  });

  it('is as good as new when it has become empty', () => {
    const array = new XArrayInt();
    array.set(5000, 1);
    array.delete(5000);
    array.set(3, 2);
    array.set(2 ** 40, 3);
    array.validate();
    expect([array.get(3), array.get(2 ** 40), array.size]).toEqual([2, 3, 2]);
  });

  it('agrees with a map after every step of random runs', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const prng = new Prng(seed);
        const array = new XArrayInt();
        const model = new Map<number, Entry>();
        const used: number[] = [];
        for (let step = 0; step < 300; step++) {
          const index = used.length > 0 && prng.below(3) > 0 ? used[prng.below(used.length)] : anIndex(prng);
          const mark = MARKS[prng.below(3)];
          switch (prng.below(6)) {
            case 0:
            case 1: {
              const value = prng.u32() | 0;
              array.set(index, value);
              model.set(index, { value, marks: model.get(index)?.marks ?? new Set() });
              used.push(index);
              break;
            }
            case 2:
              expect(array.delete(index)).toBe(model.delete(index));
              break;
            case 3:
              array.setMark(index, mark);
              model.get(index)?.marks.add(mark);
              break;
            case 4:
              array.clearMark(index, mark);
              model.get(index)?.marks.delete(mark);
              break;
            default: {
              const indexes = [...model.keys()].sort((a, b) => a - b);
              expect(array.nextIndex(index)).toBe(indexes.find((other) => other >= index) ?? -1);
              const marked = indexes.filter((other) => model.get(other)!.marks.has(mark));
              expect(array.findMarked(index, mark)).toBe(marked.find((other) => other >= index) ?? -1);
              expect(array.isMarked(mark)).toBe(marked.length > 0);
              const seen: number[] = [];
              array.forEachIn(index, index * 64 + 100, (value, at) => {
                seen.push(at);
                expect(value).toBe(model.get(at)!.value);
              });
              expect(seen).toEqual(indexes.filter((other) => other >= index && other <= index * 64 + 100));
            }
          }
          array.validate();
          expect(array.size).toBe(model.size);
          expect(array.get(index)).toBe(model.get(index)?.value ?? -1);
          expect(array.has(index)).toBe(model.has(index));
          expect(array.getMark(index, mark)).toBe(model.get(index)?.marks.has(mark) ?? false);
        }
      }),
      { numRuns: 25 },
    );
  });

  it('lets the one who walks it delete', () => {
    const array = new XArrayInt();
    for (let index = 0; index < 10_000; index += 3) array.set(index, index);
    array.forEachIn(100, 9_000, (_, index) => array.delete(index));
    array.validate();
    expect([array.nextIndex(100), array.size]).toEqual([9_003, 34 + 333]);
    array.clear();
    expect([array.size, array.nextIndex(0)]).toEqual([0, -1]);
    array.validate();
  });
});

describe('XArray', () => {
  it('agrees with a map in random runs', () => {
    fc.assert(
      fc.property(fc.integer(), (seed) => {
        const prng = new Prng(seed);
        const array = new XArray<string>();
        const model = new Map<number, string>();
        for (let step = 0; step < 300; step++) {
          const index = anIndex(prng);
          if (prng.below(3) > 0) {
            expect(array.set(index, `v${step}`)).toBe(model.get(index));
            model.set(index, `v${step}`);
            if (step % 4 === 0) array.setMark(index, XA_MARK_1);
          } else {
            expect(array.delete(index)).toBe(model.get(index));
            model.delete(index);
          }
          expect(array.get(index)).toBe(model.get(index));
          if (step % 30 === 0) array.validate();
        }
        const seen: [number, string][] = [];
        array.forEachIn(0, 2 ** 52, (value, index) => seen.push([index, value]));
        expect(seen).toEqual([...model].sort((a, b) => a[0] - b[0]));
        expect(array.size).toBe(model.size);
        for (let at = array.findMarked(0, XA_MARK_1); at >= 0; at = array.findMarked(at + 1, XA_MARK_1)) {
          expect(array.getMark(at, XA_MARK_1) && array.has(at)).toBe(true);
          array.clearMark(at, XA_MARK_1);
        }
        expect(array.isMarked(XA_MARK_1)).toBe(false);
        array.clear();
        expect([array.nextIndex(0), array.size]).toEqual([-1, 0]);
      }),
      { numRuns: 30 },
    );
  });
});
