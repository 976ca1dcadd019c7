import { describe, expect, test } from 'vitest';
import { PAGE_OFFSET, PAGE_SIZE } from '@pagelab/hw';
import { KernelBug, TraceRing } from '@pagelab/lib';
import { GFP_KERNEL, PG_SLAB, __GFP_DIRECT_RECLAIM, __GFP_NORETRY, __GFP_RECLAIMABLE, __GFP_ZERO } from '@pagelab/mm-core';
import { SLAB_RECLAIM_ACCOUNT, SLAB_RED_ZONE, SLAB_TYPESAFE_BY_RCU } from './flags.ts';
import type { KmemCache } from './kmem-cache.ts';
import type { SlabReport } from './report.ts';
import { pick } from './testing/pick.ts';
import { createTestMachine } from './testing/test-machine.ts';
import type { TestMachineOptions } from './testing/test-machine.ts';
import { fill, holds, peek, peekAddress, poke } from './testing/memory.ts';

function withCache(size: number, options: TestMachineOptions = {}, flags = 0) {
  const machine = createTestMachine({ slubOptions: { kernel: '6.12' }, ...options });
  const cache = machine.slab.kmemCacheCreate({ name: 'test', size, flags, userSize: size }) as KmemCache;
  const take = (count: number): number[] => Array.from({ length: count }, () => cache.alloc(GFP_KERNEL));
  return { ...machine, cache, take };
}

describe('a slab', () => {
  test('hands its objects out in ascending order, inside marked pages', () => {
    const { cache, take, pages, slab } = withCache(64);
    const objects = take(64);
    const pfn = (objects[0] - PAGE_OFFSET) / PAGE_SIZE;
    expect(Number.isInteger(pfn)).toBe(true);
    expect(objects).toEqual(objects.map((_, i) => objects[0] + i * 64));
    expect(pages.frames.flags[pfn] & PG_SLAB).toBe(PG_SLAB);
    expect(pages.frames.mapping[pfn]).toBe(cache.id);
    expect(pick(cache, 'activeSlabs', 'totalObjects', 'activeObjects')).toEqual({ activeSlabs: 1, totalObjects: 64, activeObjects: 64 });
    slab.validate();
    cache.alloc(GFP_KERNEL);
    expect(pick(cache, 'activeSlabs', 'totalObjects', 'activeObjects')).toEqual({ activeSlabs: 2, totalObjects: 128, activeObjects: 65 });
  });

  test('keeps its free list in the free objects, as addresses', () => {
    const { cache, take, ram } = withCache(64);
    const [a, b] = take(2);
    expect(peekAddress(ram, b + 64 + 32)).toBe(b + 128);
    cache.free(a);
    expect(peekAddress(ram, a + 32)).toBe(b + 64);
    // The high half is that of the direct map.
    expect(peek(ram, a + 32 + 4)).toBe(0xffff8880);
    cache.free(b);
    expect(peekAddress(ram, b + 32)).toBe(a);
    expect(cache.alloc(GFP_KERNEL)).toBe(b);
    expect(cache.alloc(GFP_KERNEL)).toBe(a);
  });

  test('ends its free list with 0', () => {
    const { take, ram } = withCache(1024);
    const objects = take(15);
    expect(peekAddress(ram, objects[14] + 1024 + 512)).toBe(0);
  });

  test('is constructed once, and a freed object keeps what it holds', () => {
    const { slab, ram } = createTestMachine();
    const constructed: number[] = [];
    const ctor = (object: number): void => {
      constructed.push(object);
      poke(ram, object, 0xc0de);
    };
    const cache = slab.kmemCacheCreate({ name: 'constructed', size: 96, ctor }) as KmemCache;
    expect(cache.size).toBe(104);
    const a = cache.alloc(GFP_KERNEL);
    expect(constructed).toHaveLength(39);
    expect(peek(ram, a)).toBe(0xc0de);
    fill(ram, a, 96, 7);
    cache.free(a);
    expect(cache.alloc(GFP_KERNEL)).toBe(a);
    expect(holds(ram, a, 96, 7)).toBe(true);
  });

  test('with red zones starts its objects behind the left one', () => {
    const { cache, take, slab } = withCache(64, {}, SLAB_RED_ZONE);
    const [a, b] = take(2);
    expect((a - PAGE_OFFSET) % PAGE_SIZE).toBe(8);
    expect(b - a).toBe(88);
    cache.free(a);
    slab.validate();
    expect(cache.objectAt(b + 63)).toBe(b);
    cache.free(b);
    slab.validate();
    expect(cache.activeObjects).toBe(0);
  });

  test('above 4 GiB holds pointers with their own high half', () => {
    const { cache, pages, take, ram } = withCache(64, { memoryBytes: 6 * 2 ** 30 });
    pages.skipTo(2 ** 20);
    const objects = take(64);
    expect(objects[0]).toBe(PAGE_OFFSET + 2 ** 32);
    expect(peek(ram, objects[0] + 36)).toBe(0xffff8881);
    for (const object of objects) cache.free(object);
    expect(peekAddress(ram, objects[1] + 32)).toBe(objects[0]);
    expect(take(64)).toEqual(objects.reverse());
    expect(cache.activeSlabs).toBe(1);
  });

  test('of an object larger than a chunk has one, zeroed page by page', () => {
    const { cache, slab, ram } = withCache(4 * 2 ** 20);
    const object = cache.alloc(GFP_KERNEL);
    fill(ram, object, 8, 1);
    poke(ram, object + 4 * 2 ** 20 - 4, 1);
    cache.free(object);
    slab.validate();
    expect(cache.alloc(GFP_KERNEL | __GFP_ZERO)).toBe(object);
    expect([peek(ram, object), peek(ram, object + 4 * 2 ** 20 - 4)]).toEqual([0, 0]);
    slab.validate();
  });
});

describe('zeroing', () => {
  test.each([8, 24, 60, 192, 200, 1000, 5000])('clears an object of %i bytes and nothing else', (size) => {
    const { cache, take, ram } = withCache(size);
    const [a, b, c] = take(3);
    for (const object of [a, b, c]) fill(ram, object, size, 5);
    cache.free(b);
    expect(cache.alloc(GFP_KERNEL | __GFP_ZERO)).toBe(b);
    for (let at = 0; at < Math.floor(size / 4) * 4; at += 4) expect(peek(ram, b + at)).toBe(0);
    expect(holds(ram, a, size, 5) && holds(ram, c, size, 5)).toBe(true);
  });
});

describe('CPUs and nodes', () => {
  test('each CPU has a slab of its own', () => {
    const { cache, smp } = withCache(64);
    const a = cache.alloc(GFP_KERNEL);
    smp.processorId = 1;
    const b = cache.alloc(GFP_KERNEL);
    expect(Math.floor(a / PAGE_SIZE)).not.toBe(Math.floor(b / PAGE_SIZE));
    expect(cache.activeSlabs).toBe(2);
  });

  test('an object freed on another CPU comes back to the CPU that has the slab', () => {
    const { cache, smp, take, slab } = withCache(1024);
    const objects = take(16);
    smp.processorId = 1;
    for (const object of objects) cache.free(object);
    slab.validate();
    expect(cache.activeObjects).toBe(0);
    smp.processorId = 0;
    expect(new Set(take(16))).toEqual(new Set(objects));
    expect(cache.activeSlabs).toBe(1);
    slab.validate();
  });

  test('a full slab goes on the partial list of the CPU that frees from it', () => {
    const { cache, take, slab } = withCache(1024);
    const first = take(16);
    take(16);
    cache.free(first[3]);
    slab.validate();
    expect(cache.slabInfo().activeObjects).toBe(32); // what CPUs hold counts as active there
    expect(cache.activeObjects).toBe(31);
    expect(take(1)).toEqual([first[3]]);
  });

  test('a CPU keeps cpuPartialSlabs slabs before it gives them to the node', () => {
    const { cache, take, slab } = withCache(1024);
    // 24 objects, of slabs of 16 that are half full: 3 slabs.
    const slabs = Array.from({ length: 8 }, () => take(16));
    take(1);
    for (const objects of slabs.slice(0, 3)) cache.free(objects[0]);
    expect(cache.slabInfo()).toMatchObject({ activeObjects: 144, totalObjects: 144 });
    cache.free(slabs[3][0]);
    expect(cache.slabInfo()).toMatchObject({ activeObjects: 141, totalObjects: 144 });
    slab.validate();
  });

  test('a node keeps minPartial empty slabs', () => {
    const { cache, take, slab, pages } = withCache(1024);
    const objects = take(16 * 40);
    const full = pages.nrPages;
    for (const object of objects) cache.free(object);
    slab.validate();
    expect(cache.activeObjects).toBe(0);
    // The CPU's own, three on its list, five of the node.
    expect(cache.activeSlabs).toBeLessThanOrEqual(9);
    expect(pages.nrPages).toBe(full - (40 - cache.activeSlabs) * 4);
const kept = cache.nrPages;
    expect(cache.shrink()).toBe(kept);
    expect(cache.activeSlabs).toBe(0);
  });
});

describe('memory', () => {
  test('a slab falls back to its least order', () => {
    const { cache, take, pages, slab } = withCache(1024);
    pages.maxOrder = 0;
    expect(new Set(take(6)).size).toBe(6);
    expect(pick(cache, 'totalObjects', 'activeSlabs', 'nrPages')).toEqual({ totalObjects: 8, activeSlabs: 2, nrPages: 2 });
    pages.maxOrder = 10;
    const more = take(3);
    expect(pick(cache, 'totalObjects', 'activeSlabs', 'nrPages')).toEqual({ totalObjects: 24, activeSlabs: 3, nrPages: 6 });
    slab.validate();
    for (const object of more) cache.free(object);
    slab.validate();
  });

  test('no effort is made for the larger block, and the full one for the smaller', () => {
    const { cache, pages } = withCache(1024);
    pages.maxOrder = -1;
    expect(cache.alloc(GFP_KERNEL)).toBe(0);
    const [hopeful, last] = pages.gfpSeen.slice(-2);
    expect(hopeful & __GFP_DIRECT_RECLAIM).toBe(0);
    expect(hopeful & __GFP_NORETRY).toBe(__GFP_NORETRY);
    expect(last & GFP_KERNEL).toBe(GFP_KERNEL);
    expect(last & __GFP_NORETRY).toBe(0);
  });

  test('a reclaimable cache asks for reclaimable pages and counts so', () => {
    const { cache, pages, slab } = withCache(64, {}, SLAB_RECLAIM_ACCOUNT);
    cache.alloc(GFP_KERNEL | __GFP_ZERO);
    expect(pages.gfpSeen.at(-1)! & (__GFP_RECLAIMABLE | __GFP_ZERO)).toBe(__GFP_RECLAIMABLE);
    slab.validate();
  });

  test('an allocation from within reclaim loses nothing', () => {
    const { cache, pages, slab, take } = withCache(256);
    take(16);
    let nested = 0;
    pages.onAlloc = () => {
      pages.onAlloc = undefined;
      nested = cache.alloc(GFP_KERNEL);
    };
    const outer = cache.alloc(GFP_KERNEL);
    expect(outer).not.toBe(nested);
    expect(cache.activeObjects).toBe(18);
    slab.validate();
    cache.free(outer);
    cache.free(nested);
    slab.validate();
  });

  test('shrink gives every empty slab back, and sorts the rest by what they hold', () => {
    const { cache, take, slab, pages } = withCache(1024);
    const start = pages.nrPages;
    const slabs = Array.from({ length: 10 }, () => take(16));
    slabs.forEach((objects, i) => objects.slice(0, i === 9 ? 16 : i % 5).forEach((object) => cache.free(object)));
    expect(cache.shrink()).toBe(4);
    slab.validate();
    expect(cache.activeSlabs).toBe(9);
    // Fullest first: those with one free object.
    expect(slabs.filter((_, i) => i % 5 === 1).flat()).toContain(take(1)[0]);
    for (const object of cache.liveObjects()) cache.free(object);
    cache.shrink();
    expect(pages.nrPages).toBe(start);
  });
});

describe('looking', () => {
  test('liveObjects names exactly those that are live', () => {
    const { cache, take, smp } = withCache(200);
    const objects = take(100);
    smp.processorId = 1;
    const kept = objects.filter((object, i) => {
      if (i % 3 !== 0) return true;
      cache.free(object);
      return false;
    });
    expect(new Set(cache.liveObjects())).toEqual(new Set(kept));
    expect(cache.activeObjects).toBe(kept.length);
  });

  test('tracepoints tell of each allocation and free', () => {
    const trace = new TraceRing(16);
    const { cache } = withCache(64, { trace });
    trace.enable('kmem_cache_alloc');
    trace.enable('kmem_cache_free');
    const object = cache.alloc(GFP_KERNEL);
    cache.free(object);
    expect([...trace].map(({ name, fields }) => [name, fields['ptr']])).toEqual([
      ['kmem_cache_alloc', object],
      ['kmem_cache_free', object],
    ]);
  });
});

describe('misuse', () => {
  function reporting(size = 64) {
    const reports: SlabReport[] = [];
    const machine = withCache(size, { report: (report) => reports.push(report) });
    return { ...machine, reports, kinds: () => reports.map(({ kind }) => kind) };
  }

  test('stops the emulator unless someone takes the report', () => {
    const { cache } = withCache(64);
    const object = cache.alloc(GFP_KERNEL);
    cache.free(object);
    expect(() => cache.free(object)).toThrow(KernelBug);
  });

  test('a double free in a row is noticed, on the CPU and elsewhere', () => {
    const { cache, smp, slab, kinds, reports } = reporting();
    const object = cache.alloc(GFP_KERNEL);
    const other = cache.alloc(GFP_KERNEL);
    cache.free(object);
    cache.free(object);
    smp.processorId = 1;
    cache.free(other);
    cache.free(other);
    expect(kinds()).toEqual(['double-free', 'double-free']);
    expect(reports[0].text).toMatch(/^BUG test: Object already free 0xffff8880[0-9a-f]{8}$/);
    slab.validate();
  });

  test('any other double free corrupts the list, as it does there, and validate finds it', () => {
    const { cache, slab, take, kinds } = reporting();
    const [a, b] = take(2);
    cache.free(a);
    cache.free(b);
    cache.free(a);
    expect(kinds()).toEqual([]);
    expect(() => slab.validate()).toThrow(KernelBug);
    expect(cache.activeObjects).toBeGreaterThanOrEqual(0); // counting ends
  });

  test('a pointer to no slab is refused', () => {
    const { cache, slab, pages, kinds } = reporting();
    const pfn = pages.allocPages(GFP_KERNEL, 0);
    cache.free(PAGE_OFFSET + pfn * PAGE_SIZE);
    cache.free(0x1000);
    cache.free(-8);
    cache.free(PAGE_OFFSET - 64);
    cache.free(0);
    expect(kinds()).toEqual(['invalid-free', 'invalid-free', 'invalid-free', 'invalid-free']);
    slab.validate();
  });

  test('an object of another cache goes back to its own', () => {
    const { cache, slab, kinds } = reporting();
    const object = slab.kmalloc(64, GFP_KERNEL);
    const before = slab.cacheOf(object)!.activeObjects;
    cache.free(object);
    expect(kinds()).toEqual(['wrong-cache']);
    expect(slab.kmallocCache(64, GFP_KERNEL)!.activeObjects).toBe(before - 1);
    slab.validate();
  });

  test('what lies behind the last object is none', () => {
    const { cache, kinds, slab } = reporting(600);
    const object = cache.alloc(GFP_KERNEL);
    const behind = object + cache.objectsPerSlab * cache.size;
    cache.free(behind);
    expect(kinds()).toEqual(['invalid-free']);
    slab.validate();
  });

  test('a free pointer overwritten with one that leaves the slab ends the list', () => {
    const { cache, take, ram, kinds } = reporting();
    const [a] = take(2);
    cache.free(a);
    poke(ram, a + 32, 0x41414141);
    expect(cache.alloc(GFP_KERNEL)).toBe(a);
    expect(kinds()).toEqual(['freelist-corrupt']);
    expect(cache.alloc(GFP_KERNEL)).not.toBe(0);
  });

  test('RCU-safe objects hold their free pointer behind themselves', () => {
    const { cache, ram } = withCache(96, {}, SLAB_TYPESAFE_BY_RCU);
    const object = cache.alloc(GFP_KERNEL);
    fill(ram, object, 96, 3);
    cache.free(object);
    expect(holds(ram, object, 96, 3)).toBe(true);
    expect(peekAddress(ram, object + 96)).toBe(object + 104);
  });
});
