import { describe, expect, it } from 'vitest';
import { ALLOC_CMA, ALLOC_NON_BLOCK, ALLOC_OOM } from './alloc-flags.ts';
import { firstFitAllocator } from './first-fit.ts';
import { llfreeAllocator } from './llfree.ts';
import { MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_TYPES, MIGRATE_UNMOVABLE } from './migratetype.ts';
import { PAGEBLOCK_ORDER, PageFrames } from './page.ts';
import type { PageAllocator, PageAllocatorFactory } from './page-allocator.ts';
import { SetApart } from './set-apart.ts';

const START = 4096;
const END = 4 * 4096;

interface Made {
  readonly allocator: PageAllocator;
  readonly blockTypes: Uint8Array;
  /** Changes the type of a pageblock, as the zone does. */
  readonly change: (start: number, to: number) => void;
}

function make(factory: PageAllocatorFactory, prepare: (blockTypes: Uint8Array) => void = () => {}): Made {
  const blockTypes = new Uint8Array(END / 512).fill(MIGRATE_MOVABLE);
  prepare(blockTypes);
  const allocator = factory.create({ frames: new PageFrames(END), blockTypes, pageblockOrder: PAGEBLOCK_ORDER, startPfn: START, endPfn: END, onFallback: () => {} });
  allocator.addRange(START, END);
  const change = (start: number, to: number): void => {
    allocator.moveBlock(start, PAGEBLOCK_ORDER, blockTypes[start >>> 9], to);
    blockTypes[start >>> 9] = to;
  };
  return { allocator, blockTypes, change };
}

function exhaust(allocator: PageAllocator): number {
  let pages = 0;
  while (allocator.alloc(0, MIGRATE_MOVABLE, 0) >= 0) pages++;
  return pages;
}

describe.each([llfreeAllocator, firstFitAllocator])('what $name sets apart', (factory) => {
  it('may be the only pages of a region: movable ones come from it while it has the most', () => {
    const { allocator, change } = make(factory);
    for (let start = START; start < START + 14 * 512; start += 512) change(start, MIGRATE_CMA);
    const pages = Array.from({ length: 2048 }, () => allocator.alloc(0, MIGRATE_MOVABLE, ALLOC_CMA));
    // 14 of 24 pageblocks: from there until as much is free of both.
    expect(pages.filter((pfn) => pfn < START + 14 * 512)).toHaveLength(2048);
    const more = Array.from({ length: 1024 }, () => allocator.alloc(0, MIGRATE_MOVABLE, ALLOC_CMA));
    expect(more.some((pfn) => pfn >= START + 14 * 512)).toBe(true);
    expect(allocator.alloc(0, MIGRATE_CMA, 0)).toBeLessThan(START + 14 * 512);
    allocator.validate();
  });

  it('goes to an urgent allocation where nothing else is left', () => {
    const { allocator, change } = make(factory);
    change(START + 1024, MIGRATE_HIGHATOMIC);
    expect(exhaust(allocator)).toBe(END - START - 512);
    for (const flags of [ALLOC_NON_BLOCK, ALLOC_OOM]) {
      expect(Math.floor(allocator.alloc(0, MIGRATE_UNMOVABLE, flags) / 512)).toBe((START + 1024) / 512);
    }
    expect(allocator.alloc(0, MIGRATE_UNMOVABLE, 0)).toBe(-1);
    allocator.validate();
  });

  it('is known by the type of the pageblock: when memory is given, and when it is freed', () => {
    const region = START + 5 * 512;
    const { allocator, blockTypes } = make(factory, (types) => types.fill(MIGRATE_CMA, region >>> 9, (region >>> 9) + 90));
    expect(allocator.nrFreeOfType(MIGRATE_CMA)).toBe(END - region);
    expect(exhaust(allocator)).toBe(5 * 512);
    blockTypes[START >>> 9] = MIGRATE_ISOLATE;
    allocator.free(START + 8, 3, MIGRATE_ISOLATE, false);
    expect(allocator.nrFreeOfType(MIGRATE_ISOLATE)).toBe(8);
    expect(allocator.alloc(0, MIGRATE_MOVABLE, 0)).toBe(-1);
    allocator.validate();
  });

  it('gets frames that come late', () => {
    const blockTypes = new Uint8Array(END / 512).fill(MIGRATE_MOVABLE);
    const allocator = factory.create({ frames: new PageFrames(END), blockTypes, pageblockOrder: PAGEBLOCK_ORDER, startPfn: START, endPfn: END, onFallback: () => {} });
    allocator.addRange(START, START + 700);
    allocator.moveBlock(START + 512, PAGEBLOCK_ORDER, MIGRATE_MOVABLE, MIGRATE_ISOLATE);
    blockTypes[(START + 512) >>> 9] = MIGRATE_ISOLATE;
    expect(allocator.nrFreeOfType(MIGRATE_ISOLATE)).toBe(188);
    allocator.addRange(START + 700, END);
    expect(allocator.nrFreeOfType(MIGRATE_ISOLATE)).toBe(512);
    expect(allocator.nrFree).toBe(END - START);
    allocator.validate();
    allocator.moveBlock(START + 512, PAGEBLOCK_ORDER, MIGRATE_ISOLATE, MIGRATE_MOVABLE);
    blockTypes[(START + 512) >>> 9] = MIGRATE_MOVABLE;
    allocator.validate();
    expect(exhaust(allocator)).toBe(END - START);
  });

  it('makes blocks of two pageblocks where both are of the type', () => {
    const { allocator, blockTypes, change } = make(factory);
    for (const start of [START + 512, START + 1024, START + 5 * 512]) change(start, MIGRATE_CMA);
    expect(allocator.hasFree(10, 1 << MIGRATE_CMA)).toBe(false);
    expect(allocator.alloc(10, MIGRATE_CMA, 0)).toBe(-1);
    change(START, MIGRATE_CMA);
    expect(allocator.nrFreeBlocks(10, MIGRATE_CMA)).toBe(1);
    expect(allocator.hasFree(10, 1 << MIGRATE_CMA)).toBe(true);
    expect(allocator.alloc(10, MIGRATE_CMA, 0)).toBe(START);
    // It comes back as two halves of which one has changed its type.
    change(START, MIGRATE_MOVABLE);
    allocator.free(START, 10, blockTypes[START >>> 9], false);
    expect(allocator.nrFreeOfType(MIGRATE_CMA)).toBe(3 * 512);
    expect(allocator.nrFree).toBe(END - START);
    allocator.validate();
  });

  it('moves from one type to another with what is free in it', () => {
    const { allocator, change } = make(factory);
    const pfn = allocator.alloc(4, MIGRATE_MOVABLE, 0);
    for (const type of [MIGRATE_ISOLATE, MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_UNMOVABLE]) {
      change(pfn & -512, type);
      let free = 0;
      for (let other = 0; other < MIGRATE_TYPES; other++) free += allocator.nrFreeOfType(other);
      expect(free).toBe(END - START - 16);
      if (type > MIGRATE_MOVABLE) expect(allocator.nrFreeOfType(type)).toBe(512 - 16);
      allocator.validate();
    }
    allocator.free(pfn, 4, MIGRATE_UNMOVABLE, false);
    expect(exhaust(allocator)).toBe(END - START);
  });
});

it('a pageblock set apart sees frames freed that are free', () => {
  const apart = new SetApart();
  apart.add(1024, MIGRATE_CMA, { words: new Int32Array(16), size: 512 });
  apart.free(1024 + 32, 6);
  apart.free(1024, 0);
  expect(() => apart.free(1024, 0)).toThrow('is free');
  expect(() => apart.free(1024 + 64, 5)).toThrow('is free');
  expect(() => apart.free(1024, 7)).toThrow('is free');
  expect(() => apart.free(2048, 0)).toThrow('is not');
});
