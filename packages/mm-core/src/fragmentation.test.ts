import { describe, expect, it } from 'vitest';
import { extfragIndex, unusableIndex } from './fragmentation.ts';
import type { Zone } from './zone.ts';

/** A zone with free blocks as `/proc/buddyinfo` lists them. */
function zoneWith(blocks: readonly number[]): Zone {
  return { nrFreeBlocks: (order: number) => blocks[order] ?? 0 } as unknown as Zone;
}

describe('fragmentation', () => {
  // The files of one recorded boot, zone DMA.
  const dma = zoneWith([0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 3]);

  it('is nothing where a block can be had, all where nothing larger than a page is free', () => {
    expect(extfragIndex(dma, 10)).toBe(-1000);
    expect(extfragIndex(zoneWith([]), 3)).toBe(0);
    expect(extfragIndex(zoneWith([1000]), 4)).toBe(937);
    expect(unusableIndex(zoneWith([1000]), 4)).toBe(1000);
    expect(unusableIndex(zoneWith([]), 0)).toBe(1000);
  });

  it('is in between what is too small, in thousandths of the free memory', () => {
    expect(Array.from({ length: 11 }, (_, order) => unusableIndex(dma, order))).toEqual([0, 0, 0, 0, 0, 0, 8, 25, 58, 58, 193]);
  });
});
