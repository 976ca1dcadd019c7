/// <reference types="node" />
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { Errno } from '@pagelab/abi';
import { SLAB_HWCACHE_ALIGN, SLAB_KMALLOC, SLAB_RED_ZONE, SLAB_STORE_USER, SLAB_TYPESAFE_BY_RCU } from './flags.ts';
import { calculateAlignment, calculateOrder, calculateSizes, getOrder, slubMinObjects } from './geometry.ts';
import type { ObjectShape, SlabMachine } from './geometry.ts';
import { recordedLayouts } from './testing/recordings.ts';

const LAYOUTS = recordedLayouts(gunzipSync(readFileSync(new URL('./testdata/slab-layouts.tsv.gz', import.meta.url))).toString());

const MACHINE: SlabMachine = {
  wordBytes: 8,
  presentCpus: 4,
  possibleCpus: 4,
  kernel: '6.12',
  maxOrder: 3,
  minOrder: 0,
  minObjects: 0,
};

function shape(objectSize: number, rest: Partial<ObjectShape> = {}): ObjectShape {
  return { objectSize, align: 8, flags: 0, hasConstructor: false, ...rest };
}

function sizes(objectSize: number, rest: Partial<ObjectShape> = {}, machine = MACHINE) {
  const result = calculateSizes(shape(objectSize, rest), machine);
  if (typeof result === 'number') throw new Error(`calculateSizes: ${result}`);
  return result;
}

describe('recorded layouts', () => {
  test.each(LAYOUTS.map((recording) => [JSON.stringify(recording.machine), recording] as const))(
    '%s',
    (_, { machine, rows }) => {
      for (const row of rows) {
        const { objectSize, align, flags, hasConstructor, innerFreePointer, ...expected } = row;
        const freePointerOffset = innerFreePointer ? 0 : undefined;
        const { size, order, objectsPerSlab, cpuPartial, minPartial } = sizes(
          objectSize,
          { align, flags, hasConstructor, freePointerOffset },
          machine,
        );
        expect({ row, size, order, objectsPerSlab, cpuPartial, minPartial }).toEqual({ row, ...expected });
      }
    },
  );

  test('are many', () => {
    expect(LAYOUTS.reduce((sum, { rows }) => sum + rows.length, 0)).toBeGreaterThan(1500);
  });
});

describe('calculateSizes', () => {
  test('keeps the free pointer in the middle of the object', () => {
    expect(sizes(64)).toMatchObject({ size: 64, inuse: 64, offset: 32, redLeftPad: 0 });
    expect(sizes(8)).toMatchObject({ size: 8, offset: 0 });
    expect(sizes(24)).toMatchObject({ size: 24, offset: 8 });
    expect(sizes(13)).toMatchObject({ size: 16, inuse: 16, offset: 0 });
  });

  test('moves it behind an object that is constructed or safe under RCU', () => {
    expect(sizes(96, { hasConstructor: true })).toMatchObject({ size: 104, inuse: 96, offset: 96 });
    expect(sizes(96, { flags: SLAB_TYPESAFE_BY_RCU })).toMatchObject({ size: 104, offset: 96 });
    expect(sizes(96, { flags: SLAB_TYPESAFE_BY_RCU, freePointerOffset: 40 })).toMatchObject({ size: 96, offset: 40 });
  });

  test('adds red zones and tracks', () => {
    expect(sizes(64, { flags: SLAB_RED_ZONE })).toMatchObject({ size: 88, inuse: 72, offset: 32, redLeftPad: 8 });
    expect(sizes(64, { flags: SLAB_RED_ZONE, align: 64 })).toMatchObject({ size: 192, redLeftPad: 64 });
    expect(sizes(60, { flags: SLAB_RED_ZONE })).toMatchObject({ inuse: 64 });
    expect(sizes(64, { flags: SLAB_STORE_USER })).toMatchObject({ size: 128 });
    expect(sizes(64, { flags: SLAB_STORE_USER | SLAB_KMALLOC })).toMatchObject({ size: 136 });
    // Where the size asked for is kept and checked, the pointer may not lie in the unused part of the object.
    const both = SLAB_RED_ZONE | SLAB_STORE_USER | SLAB_KMALLOC;
    expect(sizes(64, { flags: both }).offset).toBe(72);
    expect(sizes(64, { flags: both }, { ...MACHINE, kernel: '6.1' }).offset).toBe(32);
  });

  test('refuses what no block holds', () => {
    expect(calculateSizes(shape(4 * 2 ** 20 + 8), MACHINE)).toBe(-Errno.EINVAL);
    expect(calculateSizes(shape(4 * 2 ** 20 + 8), { ...MACHINE, kernel: '6.1' })).toBe(-Errno.EINVAL);
    expect(sizes(4 * 2 ** 20)).toMatchObject({ order: 10, objectsPerSlab: 1, minOrder: 10 });
    expect(sizes(4 * 2 ** 20, {}, { ...MACHINE, kernel: '6.1' })).toMatchObject({ order: 10, objectsPerSlab: 1 });
  });
});

describe('calculateAlignment', () => {
  test('uses the part of a cache line that holds the object', () => {
    expect(calculateAlignment(SLAB_HWCACHE_ALIGN, 0, 200)).toBe(64);
    expect(calculateAlignment(SLAB_HWCACHE_ALIGN, 0, 33)).toBe(64);
    expect(calculateAlignment(SLAB_HWCACHE_ALIGN, 0, 32)).toBe(32);
    expect(calculateAlignment(SLAB_HWCACHE_ALIGN, 0, 5)).toBe(8);
    expect(calculateAlignment(SLAB_HWCACHE_ALIGN, 256, 5)).toBe(256);
    expect(calculateAlignment(0, 0, 200)).toBe(8);
    expect(calculateAlignment(0, 4, 200, 4)).toBe(8);
  });
});

describe('calculateOrder', () => {
  test('wants more objects with more CPUs', () => {
    const min = (presentCpus: number, possibleCpus = presentCpus): number =>
      slubMinObjects({ ...MACHINE, presentCpus, possibleCpus });
    expect([1, 2, 3, 4, 7, 8, 64].map((cpus) => min(cpus))).toEqual([8, 12, 12, 16, 16, 20, 32]);
    expect(min(1, 8)).toBe(20);
  });

  test('takes the kernel parameters', () => {
    expect(calculateOrder(1024, { ...MACHINE, maxOrder: 1 })).toBe(1);
    expect(calculateOrder(1024, { ...MACHINE, minObjects: 4 })).toBe(0);
    expect(calculateOrder(64, { ...MACHINE, minOrder: 2 })).toBe(2);
    expect(calculateOrder(64, { ...MACHINE, minOrder: 2, kernel: '6.1' })).toBe(2);
  });
});

test('getOrder', () => {
  expect([1, 4096, 4097, 8192, 8193, 4 * 2 ** 20].map(getOrder)).toEqual([0, 0, 1, 1, 2, 10]);
});
