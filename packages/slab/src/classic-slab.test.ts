import { describe, expect, test } from 'vitest';
import { Errno } from '@pagelab/abi';
import { PAGE_OFFSET, PAGE_SIZE } from '@pagelab/hw';
import { KernelBug } from '@pagelab/lib';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { classicGeometry } from './classic-geometry.ts';
import type { ClassicShape } from './classic-geometry.ts';
import { ClassicSlabAllocator } from './classic-allocator.ts';
import { ClassicCache } from './classic-slab.ts';
import { SLAB_NO_MERGE, SLAB_RECLAIM_ACCOUNT, SLAB_TYPESAFE_BY_RCU } from './flags.ts';
import type { KmemCacheOptions } from './cache-registry.ts';
import type { KmemCache } from './kmem-cache.ts';
import { createTestMachine } from './testing/test-machine.ts';
import type { TestMachineOptions } from './testing/test-machine.ts';
import { fill, holds } from './testing/memory.ts';

const layout = (objectSize: number, rest: Partial<ClassicShape> = {}) =>
  classicGeometry({ objectSize, align: 8, flags: 0, hasConstructor: false, ...rest }, { possibleCpus: 4, wordBytes: 8 }, (bytes) => (bytes <= 256 ? 256 : undefined));

function withCache(options: Partial<KmemCacheOptions> = {}, machineOptions: TestMachineOptions = {}) {
  const clock = { now: 0 };
  const machine = createTestMachine({ allocator: new ClassicSlabAllocator(), context: { clock }, ...machineOptions });
  const cache = machine.slab.kmemCacheCreate({ name: 'test', size: 192, flags: SLAB_NO_MERGE, ...options }) as KmemCache;
  if (!(cache instanceof ClassicCache)) throw new Error('no cache');
  const take = (count: number): number[] => Array.from({ length: count }, () => cache.alloc(GFP_KERNEL));
  return { ...machine, cache, take, clock };
}

describe('the layout', () => {
  // As kernels with SLAB show in /proc/slabinfo: size, objects a slab, pages a slab, limit, batchcount, shared factor.
  test.each([
    [64, 64, 1, 120, 60, 8],
    [192, 21, 1, 120, 60, 8],
    [256, 16, 1, 120, 60, 8],
    [512, 8, 1, 54, 27, 8],
    [1024, 4, 1, 54, 27, 8],
    [2048, 2, 1, 24, 12, 8],
    [4096, 1, 1, 24, 12, 8],
    [8192, 1, 2, 8, 4, 0],
  ])('of objects of %i bytes', (size, objects, pages, limit, batchcount, shared) => {
    expect(layout(size)).toMatchObject({ size, objectsPerSlab: objects, order: Math.log2(pages), limit, batchcount, shared });
  });

  test('puts the free list into an object, beside the slab, or on it', () => {
    expect(layout(64)).toMatchObject({ freeList: 'object', objectsPerSlab: 64 });
    // 128 objects need a list of 128 bytes, which no object of 32 has room for: 124 and their list fill the page.
    expect(layout(32)).toMatchObject({ freeList: 'slab', objectsPerSlab: 124, order: 0 });
    // Constructed objects keep what they hold; a list elsewhere makes room for one more of them.
    expect(layout(1024, { hasConstructor: true })).toMatchObject({ freeList: 'off-slab', objectsPerSlab: 4 });
    expect(layout(600, { hasConstructor: true })).toMatchObject({ freeList: 'slab', objectsPerSlab: 6 });
    expect(layout(1024, { flags: SLAB_TYPESAFE_BY_RCU })).toMatchObject({ freeList: 'off-slab' });
  });

  test('takes a second page to waste less than an eighth, but not for what reclaim needs', () => {
    expect(layout(1500)).toMatchObject({ order: 1, objectsPerSlab: 5 });
    expect(layout(1500, { flags: SLAB_RECLAIM_ACCOUNT })).toMatchObject({ order: 0, objectsPerSlab: 2 });
  });

  test('spends what is left over on colours', () => {
    // 4096 - 21 × 192 = 64 bytes: one colour more, which counts as one.
    expect(layout(192)).toMatchObject({ colours: 1, colourOff: 64 });
    // 8192 - 5 × 1504 = 672 bytes.
    expect(layout(1500)).toMatchObject({ colours: 10, colourOff: 64 });
    expect(layout(1500, { align: 128 })).toMatchObject({ size: 1536, colours: 4, colourOff: 128 });
  });

  test('is none where no block is large enough', () => {
    expect(layout(4 * 2 ** 20)).toMatchObject({ order: 10, objectsPerSlab: 1 });
    expect(layout(4 * 2 ** 20 + 8)).toBe(-Errno.E2BIG);
  });
});

describe('colouring', () => {
  test('moves the first object of each slab on by a cache line, and begins again', () => {
    const { cache, take, slab } = withCache({ size: 1500 });
    const firsts = Array.from({ length: 22 }, () => Math.min(...take(5)) - PAGE_OFFSET);
    const offsets = firsts.map((first) => first % PAGE_SIZE);
    expect(offsets.slice(0, 10)).toEqual([64, 128, 192, 256, 320, 384, 448, 512, 576, 0]);
    expect(offsets.slice(10, 20)).toEqual(offsets.slice(0, 10));
    expect(cache.activeSlabs).toBe(22);
    slab.validate();
  });
});

describe("a CPU's array", () => {
  test('gives back first what came last', () => {
    const { cache, take } = withCache();
    const [a, b, c] = take(3);
    for (const object of [a, b, c]) cache.free(object);
    expect(take(3)).toEqual([c, b, a]);
  });

  test('is filled with 16 at first, then by batches', () => {
    const { cache, take } = withCache({ size: 512 });
    // A new slab gives what it has: 8.
    take(1);
    expect(cache.arrayObjects()).toHaveLength(7);
    for (const object of take(200)) cache.free(object);
    // Beyond the limit of 54 a batch of 27 goes to the shared array.
    expect(cache.slabInfo().sharedAvail).toBeGreaterThan(0);
    expect(cache.arrayObjects().length - cache.slabInfo().sharedAvail!).toBeLessThanOrEqual(54);
  });

  test('passes batches on to the shared array, from which the other CPUs fill theirs', () => {
    const { cache, take, smp, slab } = withCache({ size: 512 });
    const objects = take(108);
    for (const object of objects) cache.free(object);
    expect(cache.slabInfo().sharedAvail).toBe(81);
    smp.processorId = 1;
    const [other] = take(1);
    expect(objects).toContain(other);
    expect(cache.slabInfo().sharedAvail).toBe(81 - 16);
    slab.validate();
  });

  test('of another node waits for a dozen before its objects go home', () => {
    const { cache, take, smp, slab } = withCache({ size: 512 }, { nrNodes: 2, memoryBytes: 128 * 2 ** 20 });
    const objects = take(40);
    smp.processorId = 1;
    for (const object of objects.slice(0, 12)) cache.free(object);
    const home = cache.nodes[0];
    const before = home.shared!.avail;
    expect(cache.nodes[1].alien[0]!.avail).toBe(12);
    cache.free(objects[12]);
    expect(cache.nodes[1].alien[0]!.avail).toBe(1);
    expect(home.shared!.avail).toBe(before + 12);
    expect(cache.activeObjects).toBe(27);
    slab.validate();
  });
});

describe('slabs', () => {
  test('keep their contents apart, wherever their free list lies', () => {
    const shapes = [{ size: 32 }, { size: 64 }, { size: 1024, ctor: () => {} }, { size: 600, ctor: () => {} }];
    for (const freelistRandom of [false, true]) {
      for (const shape of shapes) {
        const { cache, take, ram, slab } = withCache(shape, { slubOptions: { freelistRandom } });
        const objects = take(300);
        expect(new Set(objects).size).toBe(300);
        objects.forEach((object, i) => fill(ram, object, shape.size, i));
        const kept = objects.filter((_, i) => i % 3 === 0);
        for (const object of objects) if (!kept.includes(object)) cache.free(object);
        slab.validate();
        kept.forEach((object, i) => expect(holds(ram, object, shape.size, i * 3)).toBe(true));
        expect(cache.liveObjects().sort((a, b) => a - b)).toEqual(kept.sort((a, b) => a - b));
        for (const object of kept) cache.free(object);
        expect(slab.kmemCacheDestroy(cache)).toBe(0);
      }
    }
  });

  test('in excess of what a node may keep are given back', () => {
    const { cache, take } = withCache({ size: 2048 }, { nrCpus: 1 });
    for (const object of take(1000)) cache.free(object);
    // (1 + one CPU) × 12 + 2 objects on the lists, and what the arrays hold.
    expect(cache.nodes[0].freeObjects).toBeLessThanOrEqual(26);
    expect(cache.activeSlabs).toBeLessThan(100);
  });

  test('that nobody needed are reaped, a fifth of an array at a time', () => {
    const { cache, take, clock, slab } = withCache({ size: 512 }, { nrCpus: 1 });
    for (const object of take(400)) cache.free(object);
    const held = cache.arrayObjects().length;
    cache.reap(); // it was touched
    expect(cache.arrayObjects()).toHaveLength(held);
    clock.now += 2e9;
    cache.reap();
    expect(cache.arrayObjects().length).toBeLessThan(held);
    for (let visit = 0; visit < 60; visit++) {
      clock.now += 2e9;
      cache.reap();
    }
    expect(cache.arrayObjects()).toHaveLength(0);
    expect(cache.activeSlabs).toBe(0);
    slab.validate();
  });

  test('are found broken by validate', () => {
    const { cache, take, slab } = withCache();
    const [object] = take(3);
    cache.free(object);
    cache.cpu[0].push(object);
    expect(() => slab.validate()).toThrow(KernelBug);
  });
});

test('kmalloc begins at 32 bytes', () => {
  const { slab } = withCache();
  expect(slab.find('kmalloc-16') === undefined).toBe(true);
  expect(slab.ksize(slab.kmalloc(8, GFP_KERNEL))).toBe(32);
  expect(slab.ksize(slab.kmalloc(96, GFP_KERNEL))).toBe(96);
});
