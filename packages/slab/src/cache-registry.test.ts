import { describe, expect, test } from 'vitest';
import { Errno } from '@pagelab/abi';
import { KernelBug } from '@pagelab/lib';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { SLAB_ACCOUNT, SLAB_CONSISTENCY_CHECKS, SLAB_HWCACHE_ALIGN, SLAB_NO_MERGE, SLAB_PANIC, SLAB_POISON } from './flags.ts';
import type { KmemCache } from './kmem-cache.ts';
import type { SlabReport } from './report.ts';
import { parseSlubDebug, withDebugFlags } from './slub-debug.ts';
import { pick } from './testing/pick.ts';
import { createTestMachine } from './testing/test-machine.ts';

describe('kmem_cache_create', () => {
  test('refuses what makes no sense', () => {
    const { slab } = createTestMachine();
    const create = (options: object) => slab.kmemCacheCreate({ name: 'bad', size: 64, ...options });
    expect(create({ size: 0 })).toBe(-Errno.EINVAL);
    expect(create({ size: -8 })).toBe(-Errno.EINVAL);
    expect(create({ size: 2.5 })).toBe(-Errno.EINVAL);
    expect(create({ size: 4 * 2 ** 20 + 1 })).toBe(-Errno.EINVAL);
    expect(create({ name: '' })).toBe(-Errno.EINVAL);
    expect(create({ align: 24 })).toBe(-Errno.EINVAL);
    expect(create({ flags: 1 })).toBe(-Errno.EINVAL);
    expect(create({ userSize: 65 })).toBe(-Errno.EINVAL);
    expect(create({ freePointerOffset: 60 })).toBe(-Errno.EINVAL);
    expect(create({ freePointerOffset: 64 })).toBe(-Errno.EINVAL);
    expect(() => create({ size: 0, flags: SLAB_PANIC })).toThrow(KernelBug);
    expect(create({ name: 'kmalloc-64' })).toBe(-Errno.EEXIST);
    slab.validate();
  });

  test('a name is taken once, an alias counts', () => {
    const { slab } = createTestMachine();
    const a = slab.kmemCacheCreate({ name: 'a', size: 200 });
    expect(slab.kmemCacheCreate({ name: 'b', size: 196 }) === a).toBe(true);
    expect(slab.kmemCacheCreate({ name: 'b', size: 1000 })).toBe(-Errno.EEXIST);
    expect(slab.find('b') === a).toBe(true);
    expect(pick(a, 'name', 'aliases', 'refcount', 'objectSize')).toEqual({ name: 'a', aliases: ['b'], refcount: 2, objectSize: 200 });
  });

  test('sharing grows the object, not the slot', () => {
    const { slab } = createTestMachine();
    const a = slab.kmemCacheCreate({ name: 'a', size: 177, flags: SLAB_HWCACHE_ALIGN });
    expect(pick(a, 'objectSize', 'size')).toEqual({ objectSize: 177, size: 192 });
    expect(slab.kmemCacheCreate({ name: 'b', size: 190, flags: SLAB_HWCACHE_ALIGN }) === a).toBe(true);
    expect(pick(a, 'objectSize', 'size')).toEqual({ objectSize: 190, size: 192 });
  });

  test('what differs is not shared', () => {
    const { slab } = createTestMachine();
    const create = (name: string, options: object = {}) => slab.kmemCacheCreate({ name, size: 200, ...options });
    const made = [
      create('plain'),
      create('accounted', { flags: SLAB_ACCOUNT }),
      create('alone', { flags: SLAB_NO_MERGE }),
      create('constructed', { ctor: () => {} }),
      create('copied', { userSize: 8 }),
      create('poisoned', { flags: SLAB_POISON }),
      create('aligned', { align: 64 }),
      create('larger', { size: 208 }),
      create('smaller', { size: 192 }),
    ];
    expect(new Set(made).size).toBe(made.length);
    expect(create('again') === made[0]).toBe(true);
    slab.validate();
  });

  test('without memory leaves nothing behind', () => {
    const machine = createTestMachine();
    const { slab, pages } = machine;
    // Use up what the caches of caches hold.
    while (pages.budget > 0) {
      const before = pages.nrPages;
      slab.kmemCacheCreate({ name: `filler ${pages.nrPages} ${slab.slabInfo().length}`, size: 8, flags: SLAB_NO_MERGE });
      if (pages.nrPages > before) pages.budget = 0;
    }
    const result: unknown[] = [];
    for (let i = 0; i < 200; i++) {
      const live = [...slab.caches()].length;
      const made = slab.kmemCacheCreate({ name: `late ${i}`, size: 8, flags: SLAB_NO_MERGE });
      if (typeof made !== 'number') continue;
      result.push(made);
      expect([...slab.caches()].length).toBe(live);
      slab.validate();
    }
    expect(result.every((made) => made === -Errno.ENOMEM) && result.length > 0).toBe(true);
    expect(slab.find('kmem_cache')!.activeObjects).toBe([...slab.caches()].length);
    expect(slab.find('kmem_cache_node')!.activeObjects).toBe([...slab.caches()].length);
  });
});

describe('kmem_cache_destroy', () => {
  test('gives every page back', () => {
    const { slab, pages } = createTestMachine();
    const cache = slab.kmemCacheCreate({ name: 'gone', size: 200 }) as KmemCache;
    slab.validate();
    const before = pages.nrPages;
    const objects = Array.from({ length: 100 }, () => cache.alloc(GFP_KERNEL));
    for (const object of objects) cache.free(object);
    expect(slab.kmemCacheDestroy(cache)).toBe(0);
    expect(pages.nrPages).toBe(before);
    expect(slab.find('gone') === undefined).toBe(true);
    slab.validate();
    expect(() => slab.kmemCacheDestroy(cache)).toThrow(KernelBug);
    // The id is free for another.
    expect(pick(slab.kmemCacheCreate({ name: 'new', size: 300 }), 'id')).toEqual({ id: cache.id });
  });

  test('refuses while objects live, and the cache goes on', () => {
    const reports: SlabReport[] = [];
    const { slab } = createTestMachine({ report: (report) => reports.push(report) });
    const cache = slab.kmemCacheCreate({ name: 'held', size: 200 }) as KmemCache;
    const object = cache.alloc(GFP_KERNEL);
    expect(slab.kmemCacheDestroy(cache)).toBe(-Errno.EBUSY);
    expect(reports).toMatchObject([{ kind: 'objects-remaining', cache: 'held' }]);
    expect(reports[0].text).toBe('kmem_cache_destroy held: Slab cache still has objects');
    expect(cache.alloc(GFP_KERNEL)).not.toBe(0);
    slab.validate();
    cache.free(object);
    cache.free(cache.liveObjects()[0]);
    expect(slab.kmemCacheDestroy(cache)).toBe(0);
  });

  test('of a shared cache only drops a user', () => {
    const { slab } = createTestMachine();
    const a = slab.kmemCacheCreate({ name: 'a', size: 200 }) as KmemCache;
    slab.kmemCacheCreate({ name: 'b', size: 200 });
    const object = a.alloc(GFP_KERNEL);
    expect(slab.kmemCacheDestroy(a)).toBe(0);
    expect(pick(a, 'refcount', 'activeObjects')).toEqual({ refcount: 1, activeObjects: 1 });
    a.free(object);
    expect(slab.kmemCacheDestroy(a)).toBe(0);
    expect(slab.find('a') === undefined).toBe(true);
  });

  test('the first caches stay', () => {
    const { slab } = createTestMachine();
    expect(slab.kmemCacheDestroy(slab.find('kmem_cache')!)).toBe(-Errno.EBUSY);
  });
});

describe('slub_debug=', () => {
  test('applies to every cache, or to those named', () => {
    const all = parseSlubDebug('FZPU');
    expect(withDebugFlags(all, 'x', 0)).toBe(withDebugFlags(parseSlubDebug(''), 'x', 0));
    const some = parseSlubDebug('F;P,kmalloc-*,dentry');
    expect(withDebugFlags(some, 'x', 0)).toBe(SLAB_CONSISTENCY_CHECKS);
    expect(withDebugFlags(some, 'kmalloc-64', 0)).toBe(SLAB_POISON);
    expect(withDebugFlags(some, 'dentry', 0)).toBe(SLAB_POISON);
    expect(withDebugFlags(some, 'dentry2', 0)).toBe(SLAB_CONSISTENCY_CHECKS);
    expect(withDebugFlags(parseSlubDebug('-'), 'x', 0)).toBe(0);
  });

  test('with O leaves alone what it would give larger slabs', () => {
    const { slab } = createTestMachine({ slubOptions: { debug: 'FZPUO', kernel: '6.1' } });
    expect(pick(slab.kmallocCache(4096, GFP_KERNEL), 'size', 'flags')).toEqual({ size: 4096, flags: expect.any(Number) as number });
    expect(slab.kmallocCache(4096, GFP_KERNEL)!.flags & SLAB_POISON).toBe(0);
    expect(slab.kmallocCache(64, GFP_KERNEL)!.flags & SLAB_POISON).toBe(SLAB_POISON);
    slab.validate();
  });

  test('keeps caches apart, and they work', () => {
    const { slab } = createTestMachine({ slubOptions: { debug: 'FZPU', kernel: '6.1' } });
    const a = slab.kmemCacheCreate({ name: 'a', size: 200 }) as KmemCache;
    expect(slab.kmemCacheCreate({ name: 'b', size: 200 }) === a).toBe(false);
    const objects = Array.from({ length: 100 }, () => a.alloc(GFP_KERNEL));
    slab.validate();
    for (const object of objects) a.free(object);
    slab.validate();
    expect(a.activeObjects).toBe(0);
  });
});
