import { describe, expect, it } from 'vitest';
import { ALLOC_NOFRAGMENT } from './alloc-flags.ts';
import { pageAllocatorContract } from './contract.ts';
import { llfreeAllocator } from './llfree.ts';
import { TREE_FRAMES } from './llfree-lower.ts';
import { MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE } from './migratetype.ts';
import { PAGEBLOCK_ORDER, PageFrames } from './page.ts';
import type { PageAllocator } from './page-allocator.ts';

pageAllocatorContract(llfreeAllocator);

const TREES = 4;
const START = TREE_FRAMES;
const END = START + TREES * TREE_FRAMES;

interface Made {
  readonly llfree: PageAllocator;
  readonly blockTypes: Uint8Array;
  /** The CPU that runs can be changed. */
  readonly smp: { readonly cpus: { readonly length: number }; processorId: number };
  fallbacks: number;
}

function make(cpus: number, end = END): Made {
  const blockTypes = new Uint8Array(Math.ceil(end / 512)).fill(MIGRATE_MOVABLE);
  const smp = { cpus: { length: cpus }, processorId: 0 };
  const made: Made = { blockTypes, smp, fallbacks: 0, llfree: undefined as never };
  const context = { frames: new PageFrames(end), blockTypes, pageblockOrder: PAGEBLOCK_ORDER, smp, startPfn: START, endPfn: end, onFallback: () => made.fallbacks++ };
  const llfree = llfreeAllocator.create(context);
  llfree.addRange(START, end);
  return Object.assign(made, { llfree });
}

const treeOf = (pfn: number): number => Math.floor((pfn - START) / TREE_FRAMES);

function take(llfree: PageAllocator, count: number, order: number, migratetype: number): number[] {
  return Array.from({ length: count }, () => llfree.alloc(order, migratetype, 0));
}

describe('LLFree', () => {
  it('gives each CPU a tree of its own for each kind', () => {
    const { llfree, smp } = make(2);
    const trees: number[] = [];
    for (smp.processorId = 0; smp.processorId < 2; smp.processorId++) {
      for (const type of [MIGRATE_UNMOVABLE, MIGRATE_MOVABLE]) {
        const pages = take(llfree, 700, 0, type);
        expect(new Set(pages.map(treeOf)).size).toBe(1);
        expect(pages[699] - pages[0]).toBe(699);
        trees.push(treeOf(pages[0]));
      }
    }
    expect(trees).toEqual([0, 1, 2, 3]);
    llfree.validate();
  });

  it('takes what other CPUs gave back to its tree before another tree', () => {
    const { llfree, smp } = make(2);
    const pages = take(llfree, TREE_FRAMES, 0, MIGRATE_MOVABLE);
    smp.processorId = 1;
    for (const pfn of pages.slice(100, 103)) llfree.free(pfn, 0, MIGRATE_MOVABLE, false);
    smp.processorId = 0;
    expect(take(llfree, 3, 0, MIGRATE_MOVABLE).sort()).toEqual(pages.slice(100, 103));
    expect(treeOf(llfree.alloc(0, MIGRATE_MOVABLE, 0))).toBe(1);
    llfree.validate();
  });

  it('reserves the tree that it freed to four times in a row', () => {
    const { llfree } = make(1);
    const first = take(llfree, TREE_FRAMES, 0, MIGRATE_MOVABLE);
    expect(treeOf(llfree.alloc(0, MIGRATE_MOVABLE, 0))).toBe(1);
    // Much of the first tree comes free, never four frames in a row; then one more.
    const second = take(llfree, 100, 0, MIGRATE_MOVABLE);
    for (let i = 0; i < 300; i++) {
      llfree.free(first[i], 0, MIGRATE_MOVABLE, false);
      if (i % 3 === 2) llfree.free(second[(i - 2) / 3], 0, MIGRATE_MOVABLE, false);
    }
    expect(treeOf(llfree.alloc(0, MIGRATE_MOVABLE, 0))).toBe(1);
    for (let i = 300; i < 304; i++) llfree.free(first[i], 0, MIGRATE_MOVABLE, false);
    expect(treeOf(llfree.alloc(0, MIGRATE_MOVABLE, 0))).toBe(0);
    llfree.validate();
  });

  it('fills trees that are partly used before it breaks into one that is not', () => {
    const { llfree, smp } = make(2);
    const pages = take(llfree, TREE_FRAMES, 0, MIGRATE_MOVABLE);
    expect(treeOf(llfree.alloc(0, MIGRATE_MOVABLE, 0))).toBe(1);
    smp.processorId = 1;
    // Half of tree 0 comes free, in places far from one another; tree 2 is all free.
    for (let i = 0; i < TREE_FRAMES; i += 2) llfree.free(pages[i], 0, MIGRATE_MOVABLE, false);
    smp.processorId = 0;
    take(llfree, TREE_FRAMES - 1, 0, MIGRATE_MOVABLE);
    smp.processorId = 1;
    const more = take(llfree, 500, 0, MIGRATE_MOVABLE);
    expect(new Set(more.map(treeOf))).toEqual(new Set([0]));
    llfree.validate();
  });

  it('does so also where one nothing of which is in use comes first', () => {
    const { llfree, smp } = make(2);
    const pages = take(llfree, 2 * TREE_FRAMES, 0, MIGRATE_MOVABLE);
    // Tree 2 is touched, and all free.
    for (const to of [MIGRATE_ISOLATE, MIGRATE_MOVABLE]) llfree.moveBlock(START + 2 * TREE_FRAMES, 9, MIGRATE_MOVABLE, to);
    smp.processorId = 1;
    for (let i = 0; i < TREE_FRAMES; i += 2) {
      llfree.free(pages[i], 0, MIGRATE_MOVABLE, false);
      llfree.free(pages[TREE_FRAMES + i], 0, MIGRATE_MOVABLE, false);
    }
    smp.processorId = 0;
    const again = take(llfree, TREE_FRAMES, 0, MIGRATE_MOVABLE).map(treeOf);
    expect(again.slice(0, TREE_FRAMES / 2).every((tree) => tree === 1)).toBe(true);
    expect(again.slice(TREE_FRAMES / 2).every((tree) => tree === 0)).toBe(true);
    expect(treeOf(llfree.alloc(0, MIGRATE_MOVABLE, 0))).toBe(2);
    llfree.validate();
  });

  it('breaks into whole areas last', () => {
    const { llfree } = make(1);
    const pages = take(llfree, 3 * 512, 0, MIGRATE_MOVABLE);
    // The middle area comes free as a whole, the others in part.
    for (const [i, pfn] of pages.entries()) if (Math.floor(i / 512) === 1 || i % 4 === 0) llfree.free(pfn, 0, MIGRATE_MOVABLE, false);
    const again = take(llfree, 256, 0, MIGRATE_MOVABLE);
    expect(again.every((pfn) => Math.floor((pfn - START) / 512) !== 1)).toBe(true);
    expect(llfree.nrFreeBlocks(9, MIGRATE_MOVABLE) + 2 * llfree.nrFreeBlocks(10, MIGRATE_MOVABLE)).toBe(TREES * 8 - 2);
  });

  it('keeps huge frames apart from small ones, and takes them back piece by piece', () => {
    const { llfree, blockTypes } = make(1);
    const small = llfree.alloc(0, MIGRATE_UNMOVABLE, 0);
    const huge = take(llfree, 3, 9, MIGRATE_MOVABLE);
    const giant = llfree.alloc(10, MIGRATE_UNMOVABLE, 0);
    expect(huge.map(treeOf)).toEqual([1, 1, 1]);
    expect(treeOf(small)).toBe(0);
    expect(giant % 1024).toBe(0);
    expect(blockTypes[giant >>> 9]).toBe(MIGRATE_UNMOVABLE);
    expect(blockTypes[(giant >>> 9) + 1]).toBe(MIGRATE_UNMOVABLE);
    for (let order = 8; order >= 0; order--) llfree.free(huge[0] + (1 << order), order, MIGRATE_MOVABLE, false);
    llfree.validate();
    expect(() => llfree.free(huge[0] + 1, 0, MIGRATE_MOVABLE, false)).toThrow('is free');
    llfree.free(huge[0], 0, MIGRATE_MOVABLE, false);
    llfree.free(giant, 9, MIGRATE_UNMOVABLE, false);
    llfree.free(giant + 512, 9, MIGRATE_UNMOVABLE, false);
    for (const pfn of huge.slice(1)) llfree.free(pfn, 9, MIGRATE_MOVABLE, false);
    llfree.free(small, 0, MIGRATE_UNMOVABLE, false);
    llfree.validate();
    expect(llfree.nrFree).toBe(END - START);
  });

  it('makes a tree unmovable of which most is free, and only steals from one that is mostly in use', () => {
    for (const [share, demoted] of [[0.4, true], [0.6, false]] as const) {
      const made = make(1, START + TREE_FRAMES);
      const { llfree, blockTypes } = made;
      take(llfree, Math.floor(TREE_FRAMES * share), 0, MIGRATE_MOVABLE);
      expect(llfree.alloc(0, MIGRATE_UNMOVABLE, ALLOC_NOFRAGMENT)).toBe(-1);
      const pfn = llfree.alloc(0, MIGRATE_UNMOVABLE, 0);
      expect(pfn).toBeGreaterThanOrEqual(START);
      expect(blockTypes[START >>> 9]).toBe(demoted ? MIGRATE_UNMOVABLE : MIGRATE_MOVABLE);
      expect(made.fallbacks).toBe(demoted ? 1 : 0);
      llfree.validate();
    }
  });

  it('never makes an unmovable tree movable', () => {
    const { llfree, blockTypes } = make(1, START + TREE_FRAMES);
    llfree.alloc(0, MIGRATE_UNMOVABLE, 0);
    llfree.alloc(0, MIGRATE_MOVABLE, 0);
    llfree.alloc(0, MIGRATE_RECLAIMABLE, 0);
    expect(blockTypes[START >>> 9]).toBe(MIGRATE_UNMOVABLE);
    llfree.validate();
  });

  it('dissolves the reservations of other CPUs before it fails', () => {
    const { llfree, smp } = make(4);
    const pages: number[] = [];
    for (let i = 0; i < TREES * TREE_FRAMES; i++) {
      smp.processorId = i % 4;
      pages.push(llfree.alloc(0, i % 3, 0));
    }
    expect(new Set(pages).size).toBe(TREES * TREE_FRAMES);
    expect(pages.includes(-1)).toBe(false);
    expect(llfree.alloc(0, MIGRATE_MOVABLE, 0)).toBe(-1);
    llfree.validate();
  });

  it('sees a block of which a reservation counts one half and the tree the other', () => {
    const { llfree, smp } = make(2, START + TREE_FRAMES);
    const pages = take(llfree, TREE_FRAMES, 0, MIGRATE_MOVABLE);
    expect(llfree.hasFree(0, 0b111)).toBe(false);
    llfree.free(pages[7], 0, MIGRATE_MOVABLE, false);
    smp.processorId = 1;
    llfree.free(pages[6], 0, MIGRATE_MOVABLE, false);
    expect(llfree.hasFree(1, 0b111)).toBe(true);
    expect(llfree.hasFree(2, 0b111)).toBe(false);
    expect(llfree.alloc(1, MIGRATE_MOVABLE, 0)).toBe(pages[6]);
    llfree.validate();
  });

  it('serves a terabyte from a few words', () => {
    const { llfree } = make(2, 1 << 28);
    const pages = [...take(llfree, 100, 0, MIGRATE_MOVABLE), ...take(llfree, 10, 9, MIGRATE_MOVABLE)];
    const untouched = llfree.untouched().reduce((sum, { start, end }) => sum + end - start, 0);
    expect((1 << 28) - START - untouched).toBeLessThanOrEqual(4 * TREE_FRAMES);
    for (const [i, pfn] of pages.entries()) llfree.free(pfn, i < 100 ? 0 : 9, MIGRATE_MOVABLE, false);
    llfree.validate();
    expect(llfree.nrFreeBlocks(10, MIGRATE_MOVABLE)).toBe(((1 << 28) - START) / 1024);
  });
});
