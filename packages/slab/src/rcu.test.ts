import { describe, expect, test } from 'vitest';
import { KernelBug } from '@pagelab/lib';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { ClassicSlabAllocator } from './classic-allocator.ts';
import { SLAB_NO_MERGE, SLAB_TYPESAFE_BY_RCU } from './flags.ts';
import type { KmemCache } from './kmem-cache.ts';
import { Rcu } from './rcu.ts';
import { SlobAllocator } from './slob.ts';
import { SlubAllocator } from './slub-allocator.ts';
import { fill, holds } from './testing/memory.ts';
import { createTestMachine } from './testing/test-machine.ts';

describe('a grace period', () => {
  test('ends when each CPU has been seen', () => {
    const rcu = new Rcu(2);
    const done: number[] = [];
    const note = rcu.define((argument) => done.push(argument));
    rcu.call(note, 1);
    rcu.quiescent(0);
    rcu.quiescent(0);
    expect(done).toEqual([]);
    rcu.quiescent(1);
    expect(done).toEqual([1]);
    expect(rcu.stats).toEqual({ gracePeriods: 1, callbacks: 1 });
  });

  test('is not the one that runs already: what comes meanwhile waits for the next', () => {
    const rcu = new Rcu(2);
    const done: number[] = [];
    const note = rcu.define((argument) => done.push(argument));
    rcu.call(note, 1);
    rcu.quiescent(0);
    rcu.call(note, 2);
    rcu.quiescent(1);
    expect(done).toEqual([1]);
    rcu.forceQuiescentState();
    expect(done).toEqual([1, 2]);
  });

  test('waits for a reader, however deep', () => {
    const rcu = new Rcu(2);
    const done: number[] = [];
    rcu.readLock(1);
    rcu.readLock(1);
    rcu.call(rcu.define((argument) => done.push(argument)), 7);
    rcu.forceQuiescentState();
    rcu.readUnlock(1);
    rcu.forceQuiescentState();
    expect([done, rcu.nrPending]).toEqual([[], 1]);
    expect(() => rcu.barrier()).toThrow(KernelBug);
    rcu.readUnlock(1);
    rcu.barrier();
    expect(done).toEqual([7]);
    expect(() => rcu.readUnlock(1)).toThrow(KernelBug);
  });

  test('lets callbacks hand in more', () => {
    const rcu = new Rcu(1);
    let rounds = 0;
    const again = rcu.define((left) => {
      rounds++;
      if (left > 0) rcu.call(again, left - 1);
    });
    rcu.call(again, 3);
    rcu.barrier();
    expect(rounds).toBe(4);
  });
});

describe.each([
  ['slub', () => new SlubAllocator(), {}],
  ['debugged slub', () => new SlubAllocator(), { debug: 'FZPU' }],
  ['slab', () => new ClassicSlabAllocator(), {}],
  ['debugged slab', () => new ClassicSlabAllocator({ debug: true }), {}],
  ['slob', () => new SlobAllocator(), {}],
] as const)('objects that readers may look at, of %s', (_, create, slubOptions) => {
  const boot = () => {
    const rcu = new Rcu(2);
    const machine = createTestMachine({ allocator: create(), slubOptions, rcu });
    const cache = machine.slab.kmemCacheCreate({ name: 'typesafe', size: 256, flags: SLAB_NO_MERGE | SLAB_TYPESAFE_BY_RCU }) as KmemCache;
    return { ...machine, rcu, cache };
  };

  test('keep their pages, and what is in them, until a grace period has passed', () => {
    const { cache, slab, pages, ram, rcu } = boot();
    const settled = (): number => {
      for (const each of slab.caches()) each.shrink();
      return pages.nrPages;
    };
    const before = settled();
    const objects = Array.from({ length: 64 }, () => cache.alloc(GFP_KERNEL));
    objects.forEach((object, i) => fill(ram, object, 128, i));
    rcu.readLock(0);
    for (const object of objects) cache.free(object);
    cache.shrink();
    expect(cache.activeObjects).toBe(0);
    expect(rcu.nrPending).toBeGreaterThan(0);
    expect(pages.nrPages).toBeGreaterThan(before);
    expect(slab.nrPages).toBe(pages.nrSlabPages);
    // What free lists need lies behind them.
    const kept = objects.filter((object, i) => holds(ram, object, 64, i)).length;
    expect(kept).toBe(64);
    slab.validate();
    rcu.readUnlock(0);
    rcu.forceQuiescentState();
    cache.shrink();
    rcu.barrier();
    expect(settled()).toBe(before);
    slab.validate();
  });

  test('are gone when their cache has been destroyed', () => {
    const { cache, slab, pages, rcu } = boot();
    const objects = Array.from({ length: 64 }, () => cache.alloc(GFP_KERNEL));
    for (const object of objects) cache.free(object);
    expect(slab.kmemCacheDestroy(cache)).toBe(0);
    expect(rcu.nrPending).toBe(0);
    expect(pages.nrSlabPages).toBe(slab.nrPages);
    slab.validate();
  });
});

test('kfree_rcu frees a block of kmalloc after a grace period', () => {
  const rcu = new Rcu(1);
  const { slab } = createTestMachine({ rcu });
  const [small, large] = [slab.kmalloc(100, GFP_KERNEL), slab.kmalloc(50_000, GFP_KERNEL)];
  const { cache, before } = { cache: slab.cacheOf(small)!, before: slab.cacheOf(small)!.activeObjects };
  slab.kfreeRcu(small);
  slab.kfreeRcu(large);
  slab.kfreeRcu(0);
  expect([cache.activeObjects, rcu.nrPending]).toEqual([before, 2]);
  rcu.quiescent(0);
  // The second came when the grace period ran already.
  expect([cache.activeObjects, rcu.nrPending]).toEqual([before - 1, 1]);
  rcu.quiescent(0);
  expect(rcu.nrPending).toBe(0);
  slab.validate();
});
