import { expect, it } from 'vitest';
import { Prng } from '@pagelab/lib';
import { PristineRanges } from './pristine.ts';

it('ranges of memory never used agree with a set of its units', () => {
  const prng = new Prng(3);
  for (let round = 0; round < 30; round++) {
    const ranges = new PristineRanges();
    const units = new Set<number>();
    for (let step = 0; step < 200; step++) {
      const start = prng.below(60);
      const end = start + prng.below(8);
      const some = Array.from({ length: end - start }, (_, i) => start + i);
      if (prng.below(3) > 0) {
        expect(ranges.remove(start)).toBe(units.delete(start));
      } else if (some.some((unit) => units.has(unit))) {
        expect(() => ranges.add(start, end)).toThrow('given twice');
      } else {
        ranges.add(start, end);
        for (const unit of some) units.add(unit);
      }
      expect(ranges.count).toBe(units.size);
      expect(ranges.first).toBe(Math.min(...units));
      expect(ranges.has(start)).toBe(units.has(start));
      let after = start;
      while (units.has(after)) after++;
      expect(ranges.skip(start)).toBe(after);
      expect(ranges.ranges().flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i))).toEqual(
        [...units].sort((a, b) => a - b),
      );
    }
    // Neighbours are one range.
    ranges.ranges().reduce((end, [from, to]) => (expect(from).toBeGreaterThan(end), to), -1);
  }
});
