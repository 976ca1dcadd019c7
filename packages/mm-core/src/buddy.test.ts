import { describe, expect, it } from 'vitest';
import { buddyAllocator } from './buddy.ts';
import { pageAllocatorContract } from './contract.ts';
import { MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE } from './migratetype.ts';
import { PAGEBLOCK_ORDER, PageFrames } from './page.ts';
import type { PageAllocator } from './page-allocator.ts';

pageAllocatorContract(buddyAllocator);

interface Buddy {
  readonly buddy: PageAllocator;
  readonly blockTypes: Uint8Array;
  readonly frames: PageFrames;
  fallbacks: number;
}

function make(start: number, end: number): Buddy {
  const frames = new PageFrames(end);
  const blockTypes = new Uint8Array(Math.ceil(end / 512)).fill(MIGRATE_MOVABLE);
  const made: { -readonly [K in keyof Buddy]: Buddy[K] } = { blockTypes, frames, fallbacks: 0, buddy: undefined as never };
  made.buddy = buddyAllocator.create({ frames, blockTypes, pageblockOrder: PAGEBLOCK_ORDER, startPfn: start, endPfn: end, onFallback: () => (made.fallbacks += 1) });
  made.buddy.addRange(start, end);
  return made;
}

/** Free blocks by order, of one type or of all. */
function counts(buddy: PageAllocator, type?: number): number[] {
  return Array.from({ length: 11 }, (_, order) =>
    [0, 1, 2, 3, 4, 5].filter((t) => type === undefined || t === type).reduce((sum, t) => sum + buddy.nrFreeBlocks(order, t), 0),
  );
}

describe('the buddy system', () => {
  it('hands memory out from its lowest frame up, halving blocks', () => {
    const { buddy } = make(1024, 4096);
    expect(buddy.alloc(0, MIGRATE_MOVABLE, 0)).toBe(1024);
    expect(counts(buddy)).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2]);
    expect(buddy.alloc(0, MIGRATE_MOVABLE, 0)).toBe(1025);
    expect(buddy.alloc(2, MIGRATE_MOVABLE, 0)).toBe(1028);
    expect(buddy.alloc(10, MIGRATE_MOVABLE, 0)).toBe(2048);
    expect(buddy.untouched()).toEqual([{ start: 3072, end: 4096 }]);
    buddy.validate();
  });

  it('merges a freed block with its buddies as far as it goes', () => {
    const { buddy } = make(1024, 3072);
    const pages = [0, 1, 2, 3].map(() => buddy.alloc(0, MIGRATE_MOVABLE, 0));
    expect(pages).toEqual([1024, 1025, 1026, 1027]);
    buddy.free(1025, 0, MIGRATE_MOVABLE, false);
    buddy.free(1026, 0, MIGRATE_MOVABLE, false);
    expect(counts(buddy)).toEqual([2, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    buddy.free(1024, 0, MIGRATE_MOVABLE, false);
    expect(counts(buddy)).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    buddy.free(1027, 0, MIGRATE_MOVABLE, false);
    expect(counts(buddy)).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    buddy.validate();
  });

  it('does not merge across the end of its range', () => {
    const { buddy } = make(1024, 1027);
    expect(counts(buddy)).toEqual([1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    const pfn = buddy.alloc(1, MIGRATE_MOVABLE, 0);
    buddy.free(pfn, 1, MIGRATE_MOVABLE, false);
    expect(counts(buddy)).toEqual([1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  });

  it('reuses the block freed last first, but lets one wait whose buddy is about to merge', () => {
    const { buddy } = make(1024, 2048);
    const pages = Array.from({ length: 16 }, () => buddy.alloc(0, MIGRATE_MOVABLE, 0));
    buddy.free(pages[0], 0, MIGRATE_MOVABLE, false);
    buddy.free(pages[4], 0, MIGRATE_MOVABLE, false);
    expect(buddy.alloc(0, MIGRATE_MOVABLE, 0)).toBe(pages[4]);
    // Frames 10 and 11 are free as a pair; when 8 comes, the block of four is complete but for 9: 8 goes to the tail.
    buddy.free(pages[10], 0, MIGRATE_MOVABLE, false);
    buddy.free(pages[11], 0, MIGRATE_MOVABLE, false);
    buddy.free(pages[8], 0, MIGRATE_MOVABLE, false);
    expect(buddy.alloc(0, MIGRATE_MOVABLE, 0)).toBe(pages[0]);
    buddy.validate();
  });

  it('gives the first unmovable page a largest block, and its pageblocks with it', () => {
    const { buddy, blockTypes, ...rest } = make(1024, 4096);
    expect(buddy.alloc(0, MIGRATE_UNMOVABLE, 0)).toBe(1024);
    expect([...blockTypes.subarray(2, 6)]).toEqual([MIGRATE_UNMOVABLE, MIGRATE_UNMOVABLE, MIGRATE_MOVABLE, MIGRATE_MOVABLE]);
    expect(counts(buddy, MIGRATE_UNMOVABLE)).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
    expect(rest.fallbacks).toBe(0);
    // Not what unmovable pages have left: the largest block there is.
    expect(buddy.alloc(0, MIGRATE_RECLAIMABLE, 0)).toBe(2048);
    expect(blockTypes[4]).toBe(MIGRATE_RECLAIMABLE);
    buddy.validate();
  });

  it('claims a pageblock of which half is free, and otherwise takes only what it needs', () => {
    for (const [used, claimed] of [
      [250, true],
      [260, false],
    ] as const) {
      const { buddy, blockTypes, frames } = make(1024, 1536);
      // User pages: movable, so that they do not count as alike.
      const pages = Array.from({ length: used }, () => buddy.alloc(0, MIGRATE_MOVABLE, 0));
      for (const pfn of pages) frames.flags[pfn] |= 1 << 4;
      const pfn = buddy.alloc(0, MIGRATE_UNMOVABLE, 0);
      expect(pfn).toBeGreaterThanOrEqual(1024 + used);
      expect(blockTypes[2]).toBe(claimed ? MIGRATE_UNMOVABLE : MIGRATE_MOVABLE);
      expect(counts(buddy, MIGRATE_UNMOVABLE).some((blocks) => blocks > 0)).toBe(claimed);
      buddy.validate();
    }
  });

  it('claims nothing for movable pages below half a pageblock order', () => {
    const { buddy, blockTypes } = make(1024, 2048);
    while (buddy.hasFree(4, 0b111)) buddy.alloc(4, MIGRATE_UNMOVABLE, 0);
    expect(blockTypes[2]).toBe(MIGRATE_UNMOVABLE);
    buddy.free(1024, 0, MIGRATE_UNMOVABLE, false);
    expect(buddy.alloc(0, MIGRATE_MOVABLE, 0)).toBe(1024);
    expect(blockTypes[2]).toBe(MIGRATE_UNMOVABLE);
  });

  it('puts a block moved to the movable type behind the memory never used', () => {
    const { buddy, blockTypes } = make(1024, 4096);
    const pfn = buddy.alloc(10, MIGRATE_UNMOVABLE, 0);
    expect(pfn).toBe(1024);
    buddy.free(1024, 10, MIGRATE_UNMOVABLE, false);
    buddy.moveBlock(1024, 9, MIGRATE_UNMOVABLE, MIGRATE_MOVABLE);
    blockTypes[2] = MIGRATE_MOVABLE;
    buddy.moveBlock(1536, 9, MIGRATE_UNMOVABLE, MIGRATE_MOVABLE);
    blockTypes[3] = MIGRATE_MOVABLE;
    buddy.validate();
    expect(buddy.alloc(10, MIGRATE_MOVABLE, 0)).toBe(2048);
  });

  it('moves a whole block to another type in one piece', () => {
    const { buddy, blockTypes } = make(1024, 4096);
    expect(buddy.moveBlock(2048, 10, MIGRATE_MOVABLE, MIGRATE_UNMOVABLE)).toBe(1024);
    blockTypes.fill(MIGRATE_UNMOVABLE, 4, 6);
    expect(counts(buddy, MIGRATE_UNMOVABLE)).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    expect(buddy.untouched()).toEqual([
      { start: 1024, end: 2048 },
      { start: 3072, end: 4096 },
    ]);
    buddy.validate();
  });
});
