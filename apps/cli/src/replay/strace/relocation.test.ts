import { describe, expect, it } from 'vitest';
import { Relocation } from './relocation.ts';

describe('a relocation', () => {
  it('leads from recorded ranges to others', () => {
    const map = new Relocation();
    map.set(0x1000, 0x3000, 0x9000);
    map.set(0x2000, 0x1000, 0x2_0000);
    expect([map.find(0x0fff), map.find(0x1000), map.find(0x2008), map.find(0x3000), map.find(0x4000)]).toEqual([null, 0x9000, 0x2_0008, 0xb000, null]);
    expect(map.pieces(0, 0x5000)).toEqual([
      { start: 0, length: 0x1000, to: null },
      { start: 0x1000, length: 0x1000, to: 0x9000 },
      { start: 0x2000, length: 0x1000, to: 0x2_0000 },
      { start: 0x3000, length: 0x1000, to: 0xb000 },
      { start: 0x4000, length: 0x1000, to: null },
    ]);
  });

  it('takes neighbours at the same distance for one', () => {
    const map = new Relocation();
    map.set(0x2000, 0x1000, 0x5000);
    map.set(0x1000, 0x1000, 0x4000);
    expect(map.pieces(0x1800, 0x1000)).toEqual([{ start: 0x1800, length: 0x1000, to: 0x4800 }]);
  });

  it('forgets what is unmapped, and copies are their own', () => {
    const map = new Relocation();
    map.set(0x1000, 0x4000, 0x1000);
    const copy = map.copy();
    map.remove(0x2000, 0x1000);
    expect([map.find(0x1fff), map.find(0x2000), map.find(0x3000)]).toEqual([0x1fff, null, 0x3000]);
    map.remove(0, 0x10_0000);
    expect(map.pieces(0x1000, 0x1000)).toEqual([{ start: 0x1000, length: 0x1000, to: null }]);
    expect(copy.find(0x2000)).toBe(0x2000);
    copy.clear();
    expect(copy.find(0x2000)).toBeNull();
  });
});
