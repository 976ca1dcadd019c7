import { describe, expect, it } from 'vitest';
import { Prng } from '@pagelab/lib';
import { pageAllocatorContract } from './contract.ts';
import { FirstSet } from './first-fit-index.ts';
import { firstFitAllocator } from './first-fit.ts';
import { MIGRATE_MOVABLE } from './migratetype.ts';
import { NR_PAGE_ORDERS, PAGEBLOCK_ORDER, PageFrames } from './page.ts';
import type { PageAllocator } from './page-allocator.ts';

pageAllocatorContract(firstFitAllocator);

function make(start: number, end: number): PageAllocator {
  const blockTypes = new Uint8Array(Math.ceil(end / 512)).fill(MIGRATE_MOVABLE);
  const context = { frames: new PageFrames(end), blockTypes, pageblockOrder: PAGEBLOCK_ORDER, startPfn: start, endPfn: end, onFallback: () => {} };
  return firstFitAllocator.create(context);
}

describe('first fit', () => {
  it('takes the lowest block there is, as a look at every frame finds it', () => {
    const prng = new Prng(4);
    const [start, end] = [700, 6000];
    const allocator = make(start, end);
    const free = new Uint8Array(end + 1024);
    for (const [from, to] of [[700, 1999], [2004, 5990]] as const) {
      allocator.addRange(from, to);
      free.fill(1, from, to);
    }
    const lowest = (order: number): number => {
      for (let pfn = 0; pfn < end; pfn += 1 << order) if (free.subarray(pfn, pfn + (1 << order)).every((is) => is === 1)) return pfn;
      return -1;
    };
    const held: { pfn: number; order: number }[] = [];
    for (let step = 0; step < 3000; step++) {
      if (held.length > 0 && prng.below(8) >= (step % 600 < 400 ? 5 : 3)) {
        const [{ pfn, order }] = held.splice(prng.below(held.length), 1);
        allocator.free(pfn, order, MIGRATE_MOVABLE, false);
        free.fill(1, pfn, pfn + (1 << order));
      } else {
        const order = Math.min(prng.below(NR_PAGE_ORDERS), prng.below(NR_PAGE_ORDERS));
        const expected = lowest(order);
        expect(allocator.hasFree(order, 0b111)).toBe(expected >= 0);
        expect(allocator.alloc(order, prng.below(3), 0)).toBe(expected);
        if (expected < 0) continue;
        free.fill(0, expected, expected + (1 << order));
        held.push({ pfn: expected, order });
      }
      if (step % 100 === 0) allocator.validate();
    }
  });

  it('takes memory never used where that is the lowest, and keeps the rest of it as it is', () => {
    const allocator = make(1024, 1 << 20);
    allocator.addRange(1024, 1 << 20);
    expect(allocator.alloc(0, MIGRATE_MOVABLE, 0)).toBe(1024);
    expect(allocator.alloc(10, MIGRATE_MOVABLE, 0)).toBe(2048);
    expect(allocator.untouched()).toEqual([{ start: 3072, end: 1 << 20 }]);
    allocator.free(2048, 10, MIGRATE_MOVABLE, false);
    expect(allocator.alloc(9, MIGRATE_MOVABLE, 0)).toBe(1536);
    expect(allocator.alloc(9, MIGRATE_MOVABLE, 0)).toBe(2048);
    allocator.validate();
  });

  it('sees that a frame is freed that is free', () => {
    const allocator = make(1024, 4096);
    allocator.addRange(1024, 4096);
    const pfn = allocator.alloc(2, MIGRATE_MOVABLE, 0);
    expect(() => allocator.free(pfn + 4, 0, MIGRATE_MOVABLE, false)).toThrow('is free');
    expect(() => allocator.free(pfn + 512, 9, MIGRATE_MOVABLE, false)).toThrow('is free');
  });
});

it('the index finds the first of many', () => {
  const prng = new Prng(5);
  for (const size of [1, 31, 32, 33, 1024, 1025, 70_000]) {
    const index = new FirstSet(size);
    const model = new Set<number>();
    for (let step = 0; step < 400; step++) {
      const position = prng.below(size);
      if (prng.below(2) === 0) {
        index.set(position);
        model.add(position);
      } else {
        const victim = [...model][prng.below(model.size + 1)] ?? position;
        index.clear(victim);
        model.delete(victim);
      }
      const from = prng.below(size + 2);
      const next = Math.min(...[...model].filter((member) => member >= from));
      expect(index.next(from)).toBe(next === Infinity ? -1 : next);
      expect(index.has(position)).toBe(model.has(position));
    }
  }
});
