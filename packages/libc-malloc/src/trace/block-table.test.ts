import { Prng } from '@pagelab/lib';
import { describe, expect, it } from 'vitest';
import { BlockTable } from './block-table.ts';

describe('BlockTable', () => {
  it('agrees with a Map through random changes', () => {
    const random = new Prng(7);
    const table = new BlockTable();
    const model = new Map<number, number>();
    for (let i = 0; i < 50_000; i++) {
      const id = random.below(2) === 0 ? random.below(20_000) : Math.floor(i / 3);
      if (random.below(3) === 0) {
        expect(table.take(id)).toBe(model.get(id) ?? 0);
        model.delete(id);
      } else if (random.below(4) === 0) {
        table.set(id, 0);
        model.delete(id);
      } else {
        table.set(id, i + 1);
        model.set(id, i + 1);
      }
      const other = random.below(20_000);
      expect(table.get(other)).toBe(model.get(other) ?? 0);
    }
    const seen: [number, number][] = [];
    table.forEach((address, id) => seen.push([id, address]));
    expect(seen).toEqual([...model].sort(([a], [b]) => a - b));
  });

  it('takes the highest number', () => {
    const table = new BlockTable();
    table.set(2 ** 32 - 1, 5);
    expect(table.get(2 ** 32 - 1)).toBe(5);
    expect(table.take(2 ** 32 - 1)).toBe(5);
    expect(table.get(2 ** 32 - 1)).toBe(0);
  });
});
