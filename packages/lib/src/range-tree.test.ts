import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KernelBug } from './assert.ts';
import { Prng } from './prng.ts';
import { RangeTree } from './range-tree.ts';

interface Range {
  start: number;
  end: number;
  value: string;
}

/** The same operations on a sorted array, each by trying everything. */
class NaiveRanges {
  ranges: Range[] = [];

  overlaps(start: number, end: number): boolean {
    return this.ranges.some((range) => range.start < end && range.end > start);
  }

  insert(start: number, end: number, value: string): void {
    this.ranges.push({ start, end, value });
    this.ranges.sort((a, b) => a.start - b.start);
  }

  gapTopDown(low: number, high: number, length: number): number {
    for (let start = high - length; start >= low; start--) if (!this.overlaps(start, start + length)) return start;
    return -1;
  }

  gapBottomUp(low: number, high: number, length: number): number {
    for (let start = low; start + length <= high; start++) if (!this.overlaps(start, start + length)) return start;
    return -1;
  }
}

function contents(tree: RangeTree<string>): Range[] {
  const ranges: Range[] = [];
  tree.forEach((value, start, end) => ranges.push({ start, end, value }));
  return ranges;
}

/** Compares every answer of the tree at some addresses with the model's. */
function compare(tree: RangeTree<string>, model: NaiveRanges, addresses: readonly number[], space: number): void {
  const { ranges } = model;
  expect(contents(tree)).toEqual(ranges);
  expect(tree.size).toBe(ranges.length);
  expect(tree.first()).toBe(ranges[0]?.value);
  expect(tree.last()).toBe(ranges.at(-1)?.value);
  for (const addr of addresses) {
    expect(tree.find(addr)).toBe(ranges.find((range) => range.end > addr)?.value);
    expect(tree.get(addr)).toBe(ranges.find((range) => range.start <= addr && range.end > addr)?.value);
    expect(tree.prev(addr)).toBe(ranges.findLast((range) => range.start < addr)?.value);
    expect(tree.next(addr)).toBe(ranges.find((range) => range.start > addr)?.value);
    const length = 1 + (addr % 5);
    for (const [low, high] of [[0, space], [addr, space], [0, addr], [addr, addr + 12]] as const) {
      expect(tree.findGapTopDown(low, high, length)).toBe(model.gapTopDown(low, high, length));
      expect(tree.findGapBottomUp(low, high, length)).toBe(model.gapBottomUp(low, high, length));
    }
  }
}

/** Cuts a range of tree and model into two or three, or joins it with those that follow without a gap. */
function cutOrJoin(tree: RangeTree<string>, ranges: Range[], index: number, prng: Prng, serial: number): void {
  const range = ranges[index];
  const { start, end, value } = range;
  const below = { start, end: start + 1, value: `b${serial}` };
  const above = { start: end - 1, end, value: `a${serial}` };
  let nr = 0;
  while (nr < 3 && ranges[index + nr + 1]?.start === ranges[index + nr].end) nr++;
  if (nr > 0 && prng.below(2) === 0) {
    tree.join(start, nr);
    range.end = ranges[index + nr].end;
    ranges.splice(index + 1, nr);
  } else if (end - start === 2) {
    tree.cut(start, start + 1, below.value, above.value);
    ranges.splice(index, 1, below, above);
  } else if (end - start > 2) {
    tree.cutMiddle(start, start + 1, end - 1, below.value, above.value);
    ranges.splice(index, 1, below, { start: start + 1, end: end - 1, value }, above);
  } else {
    const after = ranges[index + 1];
    if (after === undefined || after.start > end) expect(() => tree.join(start, 1)).toThrow(KernelBug);
    expect(() => tree.cut(start, end, 'below', 'above')).toThrow(KernelBug);
  }
}

/** One random change of tree and model alike. */
function step(
  tree: RangeTree<string>,
  model: NaiveRanges,
  prng: Prng,
  space: number,
  grow: number,
  serial: number,
): void {
  const { ranges } = model;
  const kind = prng.below(100);
  if (kind < grow) {
    const start = prng.below(space);
    const end = start + 1 + prng.below(4);
    if (model.overlaps(start, end)) {
      expect(tree.overlaps(start, end)).toBe(true);
      expect(() => tree.insert(start, end, 'no')).toThrow(KernelBug);
      return;
    }
    expect(tree.overlaps(start, end)).toBe(false);
    tree.insert(start, end, `v${serial}`);
    model.insert(start, end, `v${serial}`);
    return;
  }
  if (ranges.length === 0) return;
  const index = prng.below(ranges.length);
  const range = ranges[index];
  if (kind >= 98) {
    const from = range.start;
    const to = ranges[Math.min(ranges.length - 1, index + prng.below(40))].end;
    const gone = ranges.filter((other) => other.start >= from && other.end <= to);
    const seen: Range[] = [];
    expect(tree.removeRange(from, to, (value, start, end) => seen.push({ start, end, value }))).toBe(gone.length);
    expect(seen).toEqual(gone);
    model.ranges = ranges.filter((other) => !gone.includes(other));
  } else if (kind >= 90) {
    const low = ranges[index - 1]?.end ?? Math.max(0, range.start - 3);
    const high = ranges[index + 1]?.start ?? range.end + 3;
    const start = low + prng.below(high - low);
    const end = start + 1 + prng.below(high - start);
    tree.resize(range.start, start, end);
    range.start = start;
    range.end = end;
  } else if (kind >= 88) {
    cutOrJoin(tree, ranges, index, prng, serial);
  } else if (kind >= 86) {
    expect(tree.replace(range.start, `r${serial}`)).toBe(range.value);
    range.value = `r${serial}`;
  } else {
    expect(tree.remove(range.start)).toBe(range.value);
    ranges.splice(index, 1);
  }
}

describe('RangeTree', () => {
  it('is empty at first', () => {
    const tree = new RangeTree<string>();
    expect(tree.size).toBe(0);
    expect(tree.find(0)).toBeUndefined();
    expect(tree.get(0)).toBeUndefined();
    expect(tree.prev(1)).toBeUndefined();
    expect(tree.next(0)).toBeUndefined();
    expect(tree.first()).toBeUndefined();
    expect(tree.last()).toBeUndefined();
    expect(tree.findGapTopDown(0, 100, 10)).toBe(90);
    expect(tree.findGapBottomUp(0, 100, 10)).toBe(0);
    expect(tree.findGapBottomUp(0, 100, 101)).toBe(-1);
    tree.validate();
  });

  it('agrees with a sorted array after every step of small random runs', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 40, max: 85 }), (seed, grow) => {
        const prng = new Prng(seed);
        const tree = new RangeTree<string>();
        const model = new NaiveRanges();
        for (let serial = 0; serial < 150; serial++) {
          step(tree, model, prng, 400, grow, serial);
          tree.validate();
        }
        compare(tree, model, [0, prng.below(400), prng.below(400), 399], 420);
      }),
      { numRuns: 60 },
    );
  });

  it('agrees with a sorted array through growth to several levels and back to nothing', () => {
    const space = 40_000;
    const prng = new Prng(7);
    const tree = new RangeTree<string>();
    const model = new NaiveRanges();
    let serial = 0;
    for (const [steps, grow] of [[9_000, 85], [4_000, 60], [14_000, 5]] as const) {
      for (let i = 0; i < steps; i++) {
        step(tree, model, prng, space, grow, serial++);
        if (serial % 50 === 0) tree.validate();
      }
      expect(contents(tree)).toEqual(model.ranges);
    }
    while (model.ranges.length > 0) {
      const [range] = model.ranges.splice(prng.below(model.ranges.length), 1);
      tree.remove(range.start);
      tree.validate();
    }
    expect(tree.size).toBe(0);
    expect(tree.height).toBe(0);
  });

  it('finds by hints in a large tree while it grows, changes and shrinks', () => {
    // Cell i may hold the range [100 i + 20, 100 i + 60), or a longer one: the model is one number a cell.
    const nrCells = 40_000;
    const ends = new Float64Array(nrCells);
    const prng = new Prng(11);
    const tree = new RangeTree<number>();
    const check = (addr: number): void => {
      let cell = Math.max(0, Math.floor(addr / 100) - 1);
      while (cell < nrCells && (ends[cell] === 0 || ends[cell] <= addr)) cell++;
      const found = cell < nrCells ? cell : undefined;
      if (tree.find(addr) !== found) throw new Error(`find(${addr}) is ${tree.find(addr)}, not ${found}`);
      const contains = found !== undefined && cell * 100 + 20 <= addr ? found : undefined;
      if (tree.get(addr) !== contains) throw new Error(`get(${addr}) is ${tree.get(addr)}, not ${contains}`);
    };
    let highest = 0;
    for (const [steps, grow] of [[60_000, 90], [30_000, 50], [80_000, 15]] as const) {
      for (let i = 0; i < steps; i++) {
        const cell = prng.below(nrCells);
        const start = cell * 100 + 20;
        if (prng.below(100) >= grow) {
          if (ends[cell] !== 0) tree.remove(start);
          ends[cell] = 0;
        } else if (ends[cell] === 0) {
          ends[cell] = start + 40;
          tree.insert(start, start + 40, cell);
        } else {
          ends[cell] = start + 1 + prng.below(100);
          tree.resize(start, start, ends[cell]);
        }
        check(prng.below(nrCells * 100 + 200) - 100);
        check(start + prng.below(200) - 100);
        highest = Math.max(highest, tree.height);
      }
      tree.validate();
    }
    expect(highest).toBeGreaterThanOrEqual(3);
    expect(tree.removeRange(0, nrCells * 100 + 100)).toBe(ends.filter((end) => end !== 0).length);
    tree.validate();
    expect(tree.size).toBe(0);
  });

  it.each(['ascending', 'descending'])('takes %s ranges and gives them up in either order', (order) => {
    for (const back of [false, true]) {
      const tree = new RangeTree<number>();
      const starts = Array.from({ length: 5_000 }, (_, i) => 0x7f00_0000_0000 + i * 8192);
      if (order === 'descending') starts.reverse();
      for (const start of starts) tree.insert(start, start + 4096, start);
      tree.validate();
      for (const start of starts) expect(tree.get(start + 4095)).toBe(start);
      if (back) starts.reverse();
      for (const start of starts) {
        expect(tree.remove(start)).toBe(start);
        if (start % (8192 * 16) === 0) tree.validate();
      }
      tree.validate();
      expect(tree.height).toBe(0);
    }
  });

  it('keeps addresses of the kernel half, which are negative', () => {
    const tree = new RangeTree<string>();
    tree.insert(-0x7780_0000_0000, -0x7770_0000_0000, 'direct map');
    tree.insert(-4096, 0, 'last page');
    expect(tree.get(-1)).toBe('last page');
    expect(tree.find(-0x8000_0000_0000)).toBe('direct map');
    expect(tree.findGapTopDown(-0x8000_0000_0000, 0, 4096)).toBe(-8192);
    expect(tree.findGapBottomUp(-0x7780_0000_0000, 0, 4096)).toBe(-0x7770_0000_0000);
  });

  it('refuses what would break the order', () => {
    const tree = new RangeTree<string>();
    tree.insert(10, 20, 'a');
    tree.insert(30, 40, 'b');
    expect(() => tree.insert(5, 5, 'empty')).toThrow(KernelBug);
    expect(() => tree.insert(19, 25, 'over a')).toThrow(KernelBug);
    expect(() => tree.insert(0, 100, 'over all')).toThrow(KernelBug);
    expect(() => tree.remove(11)).toThrow(KernelBug);
    expect(() => tree.remove(50)).toThrow(KernelBug);
    expect(() => tree.replace(11, 'x')).toThrow(KernelBug);
    expect(() => tree.resize(10, 10, 31)).toThrow(KernelBug);
    expect(() => tree.resize(30, 19, 40)).toThrow(KernelBug);
    expect(() => tree.removeRange(15, 50)).toThrow(KernelBug);
    expect(() => tree.removeRange(0, 35)).toThrow(KernelBug);
    expect(() => tree.cut(10, 20, 'x', 'y')).toThrow(KernelBug);
    expect(() => tree.cutMiddle(10, 10, 15, 'x', 'y')).toThrow(KernelBug);
    expect(() => tree.cutMiddle(10, 12, 20, 'x', 'y')).toThrow(KernelBug);
    expect(() => tree.join(10, 1)).toThrow(KernelBug);
    tree.validate();
  });

  it('copies itself, leaving out what the map does not want', () => {
    const tree = new RangeTree<number>();
    for (let i = 0; i < 1_000; i++) tree.insert(i * 10, i * 10 + 5, i);
    const copy = tree.clone((value) => (value % 3 === 0 ? undefined : `c${value}`));
    copy.validate();
    expect(copy.size).toBe(666);
    expect(copy.get(10)).toBe('c1');
    expect(copy.get(30)).toBeUndefined();
    copy.insert(30, 31, 'new');
    expect(tree.get(30)).toBe(3);
    expect(tree.size).toBe(1_000);
    tree.validate();
    tree.clear();
    tree.validate();
    expect(tree.size).toBe(0);
    expect(copy.size).toBe(667);
  });

  it('walks with a cursor both ways', () => {
    const tree = new RangeTree<number>();
    for (let i = 0; i < 100; i++) tree.insert(i * 10, i * 10 + 5, i);
    const cursor = tree.cursor(496);
    expect([cursor.value, cursor.start, cursor.end]).toEqual([50, 500, 505]);
    expect(cursor.next()).toBe(51);
    expect(cursor.prev()).toBe(50);
    expect(cursor.seekBefore(500)).toBe(49);
    let steps = 0;
    for (cursor.seek(-1); cursor.value !== undefined; cursor.next()) expect(cursor.value).toBe(steps++);
    expect(steps).toBe(100);
    expect(cursor.prev()).toBeUndefined();
    expect(cursor.start).toBeNaN();
    expect([...tree]).toEqual(Array.from({ length: 100 }, (_, i) => i));
  });
});
