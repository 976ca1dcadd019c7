import { describe, expect, test } from 'vitest';
import { KernelBug } from '@pagelab/lib';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { SHRINKER_NUMA_AWARE, SHRINK_EMPTY, SHRINK_STOP, ShrinkerRegistry } from './shrinker.ts';
import type { ShrinkControl, ShrinkerSpec } from './shrinker.ts';

/** A cache of `objects` a node, each of which can be freed. */
function cache(objects: number[], rest: Partial<ShrinkerSpec> = {}) {
  const scans: number[] = [];
  const spec: ShrinkerSpec = {
    name: 'test',
    countObjects: ({ nid }) => objects[nid],
    scanObjects({ nid, nrToScan }: ShrinkControl) {
      scans.push(nrToScan);
      const freed = Math.min(nrToScan, objects[nid]);
      objects[nid] -= freed;
      return freed;
    },
    ...rest,
  };
  return { objects, scans, spec };
}

function registry(nrNodes = 1) {
  let scanned = 0;
  const shrinkers = new ShrinkerRegistry(nrNodes, (objects) => (scanned += objects));
  return { shrinkers, scanned: () => scanned };
}

describe('shrinkSlab', () => {
  test('asks for twice freeable >> priority, in batches', () => {
    const { shrinkers, scanned } = registry();
    const { spec, scans, objects } = cache([100_000]);
    shrinkers.register(spec);
    // (100000 >> 8) * 4 / 2 = 780: six batches, the rest deferred.
    expect(shrinkers.shrinkSlab(GFP_KERNEL, 0, 8)).toBe(768);
    expect(scans).toEqual([128, 128, 128, 128, 128, 128]);
    expect(scanned()).toBe(768);
    expect(objects).toEqual([99_232]);
    expect(shrinkers.info()).toEqual([{ name: 'test', freeable: [99_232], nrDeferred: [12] }]);
  });

  test('puts off what is less than a batch until it adds up', () => {
    const { shrinkers } = registry();
    const { spec, objects } = cache([4096 * 10]);
    shrinkers.register(spec);
    // 20 a turn, deferred; a later turn of higher priority takes a part of it.
    for (let turn = 1; turn <= 6; turn++) {
      expect(shrinkers.shrinkSlab(GFP_KERNEL, 0, 12)).toBe(0);
      expect(shrinkers.info()[0].nrDeferred).toEqual([20 * turn]);
    }
    expect(objects).toEqual([40_960]);
    // 120 + 81920 at most twice what is there.
    expect(shrinkers.shrinkSlab(GFP_KERNEL, 0, 0)).toBe(40_960);
  });

  test('takes the last few at once', () => {
    const { shrinkers } = registry();
    const { spec, objects } = cache([5]);
    shrinkers.register(spec);
    expect(shrinkers.shrinkSlab(GFP_KERNEL, 0, 0)).toBe(5);
    expect(objects).toEqual([0]);
  });

  test('seeks say how dear the objects are; 0 takes half', () => {
    const dear = cache([8192], { seeks: 8, batch: 1 });
    const cheap = cache([8192], { seeks: 0, batch: 1024 });
    const { shrinkers } = registry();
    shrinkers.register(dear.spec);
    shrinkers.register(cheap.spec);
    shrinkers.shrinkSlab(GFP_KERNEL, 0, 12);
    expect(8192 - dear.objects[0]).toBe(1);
    expect(8192 - cheap.objects[0]).toBe(4096);
  });

  test('stops where the shrinker says so, and defers what it did not do', () => {
    const { shrinkers } = registry();
    const { spec } = cache([1000], { scanObjects: () => SHRINK_STOP });
    shrinkers.register(spec);
    expect(shrinkers.shrinkSlab(GFP_KERNEL, 0, 0)).toBe(0);
    expect(shrinkers.info()[0].nrDeferred).toEqual([2000]);
    expect(shrinkers.shrinkSlab(GFP_KERNEL, 0, 0)).toBe(0);
    expect(shrinkers.info()[0].nrDeferred).toEqual([2000]);
  });

  test('takes from the node it is asked for; a shrinker that knows no nodes is asked for 0', () => {
    const { shrinkers } = registry(2);
    const aware = cache([300, 300], { flags: SHRINKER_NUMA_AWARE });
    const unaware = cache([300]);
    shrinkers.register(aware.spec);
    shrinkers.register(unaware.spec);
    shrinkers.shrinkSlab(GFP_KERNEL, 1, 0);
    expect(aware.objects).toEqual([300, 0]);
    expect(unaware.objects).toEqual([0]);
  });

  test('passes over an empty one, and one taken away', () => {
    const { shrinkers } = registry();
    const { spec } = cache([10]);
    const empty = cache([SHRINK_EMPTY]);
    shrinkers.register(spec);
    shrinkers.register(empty.spec);
    shrinkers.unregister(spec);
    expect(shrinkers.shrinkSlab(GFP_KERNEL, 0, 0)).toBe(0);
    expect(empty.scans).toEqual([]);
    expect(() => shrinkers.unregister(spec)).toThrow(KernelBug);
  });
});

test('dropSlab goes on while it is worth it', () => {
  const { shrinkers } = registry(2);
  // Frees half of what it scans, as one does whose objects are in use.
  const objects = [10_000, 10_000];
  const { spec } = cache(objects, {
    flags: SHRINKER_NUMA_AWARE,
    scanObjects: ({ nid, nrToScan }) => {
      const freed = Math.min(objects[nid], Math.ceil(nrToScan / 4));
      objects[nid] -= freed;
      return freed;
    },
  });
  shrinkers.register(spec);
  const freed = shrinkers.dropSlab(GFP_KERNEL);
  expect(freed).toBe(20_000 - objects[0] - objects[1]);
  expect(objects[0]).toBeLessThan(100);
});
