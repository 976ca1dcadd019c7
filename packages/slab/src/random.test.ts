import { expect, test } from 'vitest';
import { Prng } from '@pagelab/lib';
import { GFP_KERNEL, __GFP_ZERO } from '@pagelab/mm-core';
import { ClassicSlabAllocator } from './classic-allocator.ts';
import { SLAB_ACCOUNT, SLAB_NO_MERGE, SLAB_RECLAIM_ACCOUNT } from './flags.ts';
import type { KmemCache } from './kmem-cache.ts';
import { createTestMachine } from './testing/test-machine.ts';
import { fill, holds, peek } from './testing/memory.ts';

const OPERATIONS = 30_000;

/** The contract's random test adds contents and real zones; this one nodes, debugging, refusals and reclaim. */
test.each([
  { seed: 1, nrNodes: 1, nrCpus: 1, slubOptions: {} },
  { seed: 2, nrNodes: 3, nrCpus: 4, slubOptions: {} },
  { seed: 3, nrNodes: 2, nrCpus: 3, slubOptions: { debug: 'FZPU' } },
  { seed: 4, nrNodes: 2, nrCpus: 2, slubOptions: { kernel: '6.1', minObjects: 4, maxOrder: 1, noMerge: true } as const },
  { seed: 5, nrNodes: 3, nrCpus: 4, slubOptions: {}, allocator: new ClassicSlabAllocator() },
  { seed: 6, nrNodes: 1, nrCpus: 2, slubOptions: { freelistHardening: 'full', freelistRandom: true } as const },
  { seed: 7, nrNodes: 1, nrCpus: 2, slubOptions: { wordBytes: 4, kernel: '6.1' } as const },
  { seed: 8, nrNodes: 1, nrCpus: 2, slubOptions: { wordBytes: 4, debug: 'FZPU' } as const },
  { seed: 9, nrNodes: 1, nrCpus: 2, slubOptions: { wordBytes: 4, freelistHardening: 'full', freelistRandom: true } as const },
  { seed: 10, nrNodes: 1, nrCpus: 2, slubOptions: { wordBytes: 4 } as const, allocator: new ClassicSlabAllocator() },
])('random operations on any CPU and node: %o', ({ seed, ...options }) => {
  const prng = new Prng(seed);
  const { slab, pages, smp, ram } = createTestMachine({ memoryBytes: 192 * 2 ** 20, context: { caller: () => 'random' }, ...options });
  const caches: KmemCache[] = [];
  const live: { object: number; value: number; cache: KmemCache }[] = [];
  const settle = (): number => {
    for (const cache of slab.caches()) cache.shrink();
    return pages.nrPages;
  };
  const start = settle();
  let destroyed = 0;
  const drop = (index: number): void => {
    const [{ object, value, cache }] = live.splice(index, 1);
    if (!holds(ram, object, Math.min(cache.objectSize, 64), value)) throw new Error(`${cache.name}: contents lost`);
    if (value % 2 === 0) cache.free(object);
    else slab.kfree(object);
  };
  for (let step = 0; step < OPERATIONS; step++) {
    smp.processorId = prng.below(options.nrCpus);
    pages.maxOrder = prng.below(4) === 0 ? 0 : 10;
    pages.budget = prng.below(10) === 0 ? 0 : Infinity;
    const action = prng.below(1000);
    if (action < 4 && caches.length < 12) {
      const flags = [0, SLAB_NO_MERGE, SLAB_ACCOUNT, SLAB_RECLAIM_ACCOUNT][prng.below(4)];
      // Up to a page, so that order 0 always holds one.
      const made = slab.kmemCacheCreate({ name: `random-${step}`, size: 8 + prng.below(1500), flags });
      if (typeof made !== 'number') caches.push(made);
    } else if (action < 6 && caches.length > 0) {
      const [cache] = caches.splice(prng.below(caches.length), 1);
      if (!caches.includes(cache)) for (let i = live.length - 1; i >= 0; i--) if (live[i].cache === cache) drop(i);
      expect(slab.kmemCacheDestroy(cache)).toBe(0);
      destroyed++;
    } else if (action < 10 && caches.length > 0) {
      caches[prng.below(caches.length)].shrink();
    } else if (action < (step % 6000 < 3000 ? 640 : 400) && caches.length > 0) {
      const cache = caches[prng.below(caches.length)];
      const zero = prng.below(3) === 0 ? __GFP_ZERO : 0;
      const node = prng.below(options.nrNodes + 1) - 1;
      const object = cache.allocNode(GFP_KERNEL | zero, node);
      if (object === 0) {
        // SLAB has no smaller slab to fall back to.
        if (options.allocator === undefined) expect(pages.budget).toBe(0);
        continue;
      }
      if (zero !== 0 && peek(ram, object) !== 0) throw new Error('not zero');
      fill(ram, object, Math.min(cache.objectSize, 64), step);
      live.push({ object, value: step, cache });
    } else if (live.length > 0) {
      drop(prng.below(live.length));
    }
    if (step % 3000 === 0) {
      slab.validate();
      for (const cache of new Set(caches)) {
        expect(cache.activeObjects).toBe(live.filter((one) => one.cache === cache).length);
      }
    }
  }
  pages.budget = Infinity;
  while (live.length > 0) drop(live.length - 1);
  for (const cache of caches) expect(slab.kmemCacheDestroy(cache)).toBe(0);
  expect(destroyed).toBeGreaterThan(10);
  expect(settle()).toBe(start);
  expect(pages.nrSlabPages).toBe(slab.nrPages);
  slab.validate();
});
