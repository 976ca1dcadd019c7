import { Prng } from '@pagelab/lib';
import { describe, expect, test } from 'vitest';
import { tlbModelContract } from './contract.ts';
import {
  FullyAssociativeTlb,
  SetAssociativeTlb,
  TLB_GEOMETRIES,
  TLB_NEHALEM,
  TLB_SKYLAKE,
  TLB_SPECS,
  TLB_ZEN3,
  tlbModelFactory,
} from './index.ts';
import type { TlbModel } from './index.ts';
import { TlbArray } from './tlb-array.ts';

for (const geometry of TLB_GEOMETRIES) tlbModelContract(() => new SetAssociativeTlb(geometry));
tlbModelContract((cpu) => new SetAssociativeTlb({ ...TLB_SKYLAKE, name: 'skylake, least recently used' }, { replacement: 'lru', seed: cpu }));
tlbModelContract((cpu) => new SetAssociativeTlb({ ...TLB_ZEN3, name: 'zen3, by chance' }, { replacement: 'random', seed: cpu }));
tlbModelContract(() => new FullyAssociativeTlb());

const SHIFTS = [39, 30, 21, 12];

function access(tlb: TlbModel, page: number, shift = 12, flags = 0, pcid = 0): number {
  const va = page * 4096;
  const hi = Math.floor(va / 2 ** 32);
  const found = tlb.lookup(hi, va | 0, pcid, 0);
  if (found === 0) tlb.walked(hi, va | 0, pcid, 0, shift, flags, SHIFTS);
  return found;
}

/** How many of `pages` a second pass over them finds in the first level, in the second, and nowhere. */
function secondPass(tlb: TlbModel, pages: number, shift = 12): number[] {
  const step = 2 ** (shift - 12);
  const counts = [0, 0, 0];
  for (let i = 0; i < pages; i++) access(tlb, i * step, shift);
  for (let i = 0; i < pages; i++) counts[access(tlb, i * step, shift)] += 1;
  return [counts[1], counts[2], counts[0]];
}

describe('geometry', () => {
  test('pages in a row that fit the first level are found there, those that fit the second there', () => {
    const lru = (pages: number, shift = 12) => secondPass(new SetAssociativeTlb(TLB_SKYLAKE, { replacement: 'lru' }), pages, shift);
    expect(lru(64)).toEqual([64, 0, 0]);
    expect(lru(128)).toEqual([0, 128, 0]);
    expect(lru(1536)).toEqual([0, 1536, 0]);
    expect(lru(3072)).toEqual([0, 0, 3072]);
    expect(lru(32, 21)).toEqual([32, 0, 0]);
    expect(lru(4, 30)).toEqual([4, 0, 0]);
    expect(lru(16, 30)).toEqual([0, 16, 0]);
  });

  test('pages of one set thrash it though all else is empty', () => {
    const tlb = new SetAssociativeTlb(TLB_NEHALEM, { replacement: 'lru' });
    // 128 sets in the second level, and of those 16 in the first: five pages 128 apart are one too many for both.
    for (let round = 0; round < 3; round++) for (let i = 0; i < 5; i++) expect(access(tlb, i * 128)).toBe(0);
    const full = new FullyAssociativeTlb(64);
    for (let i = 0; i < 5; i++) access(full, i * 128);
    for (let i = 0; i < 5; i++) expect(access(full, i * 128)).toBe(1);
  });

  test('Zen 3 holds a page of 1 GiB in the first level, and pieces of 2 MiB of it in the second', () => {
    const tlb = new SetAssociativeTlb(TLB_ZEN3, { replacement: 'lru' });
    access(tlb, 0, 30);
    expect(access(tlb, 2 ** 18 - 1, 30)).toBe(1);
    for (let i = 1; i <= 64; i++) access(tlb, 2 ** 24 + i);
    expect(access(tlb, 5, 30)).toBe(2);
    expect(tlb.stats.data.l2Hits).toEqual([0, 0, 1]);
    tlb.validate();
  });

  test('Nehalem has no second level for large pages', () => {
    expect(secondPass(new SetAssociativeTlb(TLB_NEHALEM, { replacement: 'lru' }), 64, 21)).toEqual([0, 0, 64]);
  });

  test('sets that do not come out whole are refused', () => {
    const bad = { ...TLB_SKYLAKE, data: [{ entries: 65, ways: 4, shifts: [12] }] };
    expect(() => new SetAssociativeTlb(bad)).toThrow(RangeError);
    expect(() => new FullyAssociativeTlb(0)).toThrow(RangeError);
  });
});

describe('the walk cache', () => {
  test('spares all but the last entry where the table is known', () => {
    const tlb = new SetAssociativeTlb(TLB_SKYLAKE);
    access(tlb, 0);
    expect(tlb.stats.walkReferences).toBe(4);
    access(tlb, 1);
    expect(tlb.stats.walkReferences).toBe(5);
    access(tlb, 512);
    expect(tlb.stats.walkReferences).toBe(7);
    access(tlb, 2 ** 18);
    expect(tlb.stats.walkReferences).toBe(10);
    access(tlb, 2 ** 27);
    expect(tlb.stats.walkReferences).toBe(14);
    expect(tlb.stats.walkReferencesSpared).toBe(5 * 4 - 14);
    // A large page ends a level earlier.
    access(tlb, 1024, 21);
    expect(tlb.stats.walkReferences).toBe(15);
  });

  test('is kept apart by context, and dropped by INVLPG of any page', () => {
    const tlb = new SetAssociativeTlb(TLB_SKYLAKE);
    access(tlb, 0, 12, 0, 1);
    access(tlb, 1, 12, 0, 2);
    expect(tlb.stats.walkReferences).toBe(8);
    tlb.invlpg(0, 0x900000, 1);
    access(tlb, 2, 12, 0, 1);
    expect(tlb.stats.walkReferences).toBe(12);
    access(tlb, 3, 12, 0, 2);
    expect(tlb.stats.walkReferences).toBe(13);
  });

  test('keeps what a walk met before it faulted', () => {
    const tlb = new SetAssociativeTlb(TLB_SKYLAKE);
    access(tlb, 0, 12, 2);
    expect(tlb.stats.walkReferences).toBe(4);
    access(tlb, 0);
    expect(tlb.stats.walkReferences).toBe(5);
    access(tlb, 2 ** 27, 39, 2);
    expect(tlb.stats.walkReferences).toBe(6);
  });

  test('costs cycles as documented', () => {
    const tlb = new SetAssociativeTlb(TLB_SKYLAKE, { replacement: 'lru' });
    access(tlb, 0);
    expect(tlb.stats.cycles).toBe(9 + 4 * 12);
    access(tlb, 0);
    expect(tlb.stats.cycles).toBe(9 + 4 * 12);
  });
});

describe('replacement', () => {
  const find = (array: TlbArray, page: number): boolean => array.find(page, 12, 0) !== 0;

  test('least recently used is that, as a list has it', () => {
    const array = new TlbArray(8, 8, 'lru', new Prng(1));
    const list: number[] = [];
    const prng = new Prng(5);
    for (let i = 0; i < 3000; i++) {
      const page = prng.below(12);
      const at = list.indexOf(page);
      expect(find(array, page)).toBe(at >= 0);
      if (at >= 0) list.splice(at, 1);
      else array.insert(page, 12, 12, 0, false);
      list.push(page);
      if (list.length > 8) list.shift();
    }
  });

  test.each([2, 4, 6, 8, 12, 16, 64])('a tree of bits fills all of %i ways, and never drops the one used last', (ways) => {
    const array = new TlbArray(ways, ways, 'plru', new Prng(1));
    for (let page = 0; page < ways; page++) array.insert(page, 12, 12, 0, false);
    expect(array.size).toBe(ways);
    const prng = new Prng(9);
    const dropped = new Set<number>();
    for (let i = 0; i < 50 * ways; i++) {
      const last = 1000 + i;
      array.insert(last, 12, 12, 0, false);
      array.insert(5000 + i, 12, 12, 0, false);
      expect(find(array, last)).toBe(true);
      for (let page = 0; page < ways; page++) if (prng.below(8) === 0 && !find(array, page)) dropped.add(page);
    }
    // In the long run no way is spared.
    for (let page = 0; page < ways; page++) if (!find(array, page)) dropped.add(page);
    expect(dropped.size).toBe(ways);
    array.validate();
  });

  test('with a tree over four ways the victims come in the order of the textbook', () => {
    const array = new TlbArray(4, 4, 'plru', new Prng(1));
    for (const page of [3, 2, 1, 0]) array.insert(page, 12, 12, 0, false);
    const held = (): number[] => [0, 1, 2, 3, 4, 5, 6].filter((page) => array.holds(page, 12, 0));
    // Slots are filled from the last one: 3 in way 3 … 0 in way 0; used 3, 2, 1, 0. The root points right, to 3.
    array.insert(4, 12, 12, 0, false);
    expect(held()).toEqual([0, 1, 2, 4]);
    array.insert(5, 12, 12, 0, false);
    expect(held()).toEqual([0, 2, 4, 5]);
  });
});

test('a model is chosen by a word', () => {
  expect(tlbModelFactory('functional')).toBeUndefined();
  expect(tlbModelFactory('modelled')?.(0).name).toBe('skylake');
  for (const spec of TLB_SPECS.slice(2)) expect(`modelled:${tlbModelFactory(spec)?.(0).name}`).toBe(spec);
  expect(() => tlbModelFactory('modelled:z80')).toThrow(/functional, modelled, modelled:skylake/);
});
