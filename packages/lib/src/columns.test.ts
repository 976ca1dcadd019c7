import { expect, it } from 'vitest';
import { growColumn } from './columns.ts';

it('grows a column by doubling and fills what is new', () => {
  const column = Int32Array.of(1, 2, 3);
  expect(growColumn(column, 3)).toBe(column);
  expect([...growColumn(column, 4)]).toEqual([1, 2, 3, 0, 0, 0]);
  expect([...growColumn(column, 8, -1)]).toEqual([1, 2, 3, -1, -1, -1, -1, -1]);
  expect(growColumn(new Float64Array(1), 2, Infinity)).toEqual(Float64Array.of(0, Infinity));
});
