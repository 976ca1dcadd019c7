import { describe, expect, it } from 'vitest';
import { alignDown, alignUp, binIndex, checkedRequest2size, largebinIndex } from './chunk.ts';

describe('checkedRequest2size', () => {
  it('adds a word and rounds up to 16, at least 32', () => {
    for (let request = 0; request < 5000; request++) {
      expect(checkedRequest2size(request)).toBe(Math.max(32, Math.ceil((request + 8) / 16) * 16));
    }
    expect(checkedRequest2size(2 ** 40 + 1)).toBe(2 ** 40 + 16);
  });

  it('refuses what is no size', () => {
    for (const request of [-1, -(2 ** 40), 2 ** 63, 2 ** 64 - 1, NaN, Infinity]) {
      expect(checkedRequest2size(request)).toBe(-1);
    }
    expect(checkedRequest2size(2 ** 62)).toBeGreaterThan(2 ** 47);
  });
});

describe('binIndex', () => {
  it('never falls as sizes rise, and spaces the bins as documented', () => {
    const firsts = new Map<number, number>();
    let last = 2;
    for (let size = 32; size < 2 ** 20; size += 16) {
      const index = binIndex(size);
      expect(index).toBeGreaterThanOrEqual(last);
      if (!firsts.has(index)) firsts.set(index, size);
      last = index;
    }
    expect(last).toBe(126);
    expect(firsts.get(64)).toBe(1024);
    expect(firsts.get(65)! - firsts.get(64)!).toBe(64);
    expect(firsts.get(100)! - firsts.get(99)!).toBe(512);
    expect(firsts.get(115)! - firsts.get(114)!).toBe(4096);
    expect(firsts.get(122)! - firsts.get(121)!).toBe(32_768);
    expect(largebinIndex(2 ** 40)).toBe(126);
  });
});

describe('alignUp and alignDown', () => {
  it('are exact beyond 32 bits', () => {
    expect(alignUp(0x7fff_1234_5001, 4096)).toBe(0x7fff_1234_6000);
    expect(alignUp(0x7fff_1234_5000, 4096)).toBe(0x7fff_1234_5000);
    expect(alignDown(0x7fff_1234_5fff, 4096)).toBe(0x7fff_1234_5000);
    expect(alignUp(0, 4096)).toBe(0);
  });
});
