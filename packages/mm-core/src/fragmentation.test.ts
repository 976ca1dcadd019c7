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

  it.each([
    // /proc/buddyinfo, /sys/kernel/debug/extfrag/extfrag_index and unusable_index of zone DMA32, of a machine of 256 MiB: filled,
    // with every second page given back, and compacted.
    ['2 2 3 2 1 1 2 2 1 0 0', '-1 -1 -1 -1 -1 -1 -1 -1 -1 0.850 0.894', '0.000 0.002 0.008 0.024 0.047 0.069 0.113 0.290 0.645 1.000 1.000'],
    ['20123 4 2 1 1 2 2 2 1 0 0', '-1 -1 -1 -1 -1 -1 -1 -1 -1 0.998 0.999', '0.000 0.964 0.964 0.965 0.965 0.966 0.969 0.975 0.987 1.000 1.000'],
    ['590 6 3 2 3 2 1 2 1 2 18', '-1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1', '0.000 0.028 0.028 0.029 0.030 0.032 0.035 0.038 0.051 0.063 0.112'],
    ['590 6 3 2 3 2 1 2 1 0 9', '-1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1', '0.000 0.056 0.057 0.058 0.059 0.064 0.070 0.076 0.100 0.125 0.125'],
  ])('is what a kernel reported of the free blocks %s', (blocks, extfrag, unusable) => {
    const zone = zoneWith(blocks.split(' ').map(Number));
    const thousandths = (text: string): number[] => text.split(' ').map((value) => Math.round(Number(value) * 1000));
    const orders = Array.from({ length: 11 }, (_, order) => order);
    expect(orders.map((order) => extfragIndex(zone, order))).toEqual(thousandths(extfrag));
    expect(orders.map((order) => unusableIndex(zone, order))).toEqual(thousandths(unusable));
  });

  it('is in between what is too small, in thousandths of the free memory', () => {
    expect(Array.from({ length: 11 }, (_, order) => unusableIndex(dma, order))).toEqual([0, 0, 0, 0, 0, 0, 8, 25, 58, 58, 193]);
  });
});
