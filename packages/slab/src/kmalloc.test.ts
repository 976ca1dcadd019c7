import { describe, expect, test } from 'vitest';
import { PAGE_OFFSET, PAGE_SIZE } from '@pagelab/hw';
import { TraceRing } from '@pagelab/lib';
import { GFP_KERNEL, __GFP_ACCOUNT, __GFP_DMA, __GFP_RECLAIMABLE, __GFP_ZERO } from '@pagelab/mm-core';
import { KMALLOC_MAX_SIZE, KMALLOC_SIZES, ZERO_SIZE_PTR } from './kmalloc.ts';
import type { KmemCache } from './kmem-cache.ts';
import type { SlabReport } from './report.ts';
import { pick } from './testing/pick.ts';
import { createTestMachine } from './testing/test-machine.ts';
import { fill, holds, peek } from './testing/memory.ts';

describe('the kmalloc caches', () => {
  // As /proc/slabinfo lists them, newest first.
  test.each([
    ['6.1', ['dma-kmalloc', 'kmalloc-rcl', 'kmalloc-cg', 'kmalloc'], '8k 4k 2k 1k 512 256 192 128 96 64 32 16 8'],
    ['6.12', ['kmalloc-cg', 'dma-kmalloc', 'kmalloc-rcl', 'kmalloc'], '8k 4k 2k 1k 512 256 128 64 32 16 8 192 96'],
  ] as const)('of Linux %s are made in its order', (kernel, prefixes, sizes) => {
    const { slab } = createTestMachine({ slubOptions: { kernel } });
    const names = slab.slabInfo().map(({ name }) => name);
    const wanted = prefixes.flatMap((prefix) => sizes.split(' ').map((size) => `${prefix}-${size}`));
    expect(names).toEqual([...wanted, 'kmem_cache_node', 'kmem_cache']);
  });

  test('are aligned as recorded', () => {
    const aligns = (kernel: '6.1' | '6.12'): number[] => {
      const { slab } = createTestMachine({ slubOptions: { kernel } });
      return KMALLOC_SIZES.map((size) => slab.kmallocCache(size, GFP_KERNEL)!.align);
    };
    expect(aligns('6.1')).toEqual([8, 16, 32, 64, 8, 128, 8, 256, 512, 1024, 2048, 4096, 8192]);
    expect(aligns('6.12')).toEqual([8, 16, 32, 64, 32, 128, 64, 256, 512, 1024, 2048, 4096, 8192]);
  });

  test('stand for themselves in kmem_cache and kmem_cache_node', () => {
    const { slab } = createTestMachine({ slubOptions: { kernel: '6.12' } });
    expect(pick(slab.find('kmem_cache'), 'size', 'objectSize', 'activeObjects')).toEqual({ size: 256, objectSize: 224, activeObjects: 54 });
    expect(pick(slab.find('kmem_cache_node'), 'size', 'activeObjects')).toEqual({ size: 64, activeObjects: 54 });
  });

  test.each([
    ['6.1', 1, 224, 64],
    ['6.1', 4, 248, 64],
    ['6.12', 2, 232, 64],
    ['6.18', 1, 232, 72],
  ] as const)('of Linux %s with %i nodes have the recorded objects', (kernel, nrNodes, cacheBytes, nodeBytes) => {
    const { slab } = createTestMachine({ nrNodes, slubOptions: { kernel } });
    expect(slab.find('kmem_cache')!.objectSize).toBe(cacheBytes);
    expect(slab.find('kmem_cache_node')!.objectSize).toBe(nodeBytes);
  });
});

describe('kmalloc', () => {
  test('takes the smallest class that fits, also with debugging, which changes the order of their sizes', () => {
    for (const debug of ['-', 'FZPU']) {
      const { slab } = createTestMachine({ slubOptions: { debug } });
      for (let size = 1; size <= 8192; size++) {
        const wanted = KMALLOC_SIZES.find((of) => of >= size);
        if (slab.kmallocCache(size, GFP_KERNEL)!.objectSize !== wanted) expect(size).toBe(wanted);
      }
    }
  });

  test('takes the kind of memory the flags ask for', () => {
    const { slab } = createTestMachine();
    const nameFor = (gfp: number): string => slab.cacheOf(slab.kmalloc(100, GFP_KERNEL | gfp))!.name;
    expect(nameFor(0)).toBe('kmalloc-128');
    expect(nameFor(__GFP_ACCOUNT)).toBe('kmalloc-cg-128');
    expect(nameFor(__GFP_RECLAIMABLE)).toBe('kmalloc-rcl-128');
    expect(nameFor(__GFP_RECLAIMABLE | __GFP_ACCOUNT)).toBe('kmalloc-rcl-128');
    expect(nameFor(__GFP_DMA | __GFP_RECLAIMABLE)).toBe('dma-kmalloc-128');
  });

  test('aligns powers of two to themselves', () => {
    const { slab } = createTestMachine();
    for (let size = 8; size <= 2 ** 20; size *= 2) {
      expect(((slab.kmalloc(size, GFP_KERNEL) % size) + size) % size).toBe(0);
    }
  });

  test('of nothing is neither 0 nor an object, and can be freed', () => {
    const { slab } = createTestMachine();
    expect(slab.kmalloc(0, GFP_KERNEL)).toBe(ZERO_SIZE_PTR);
    expect(slab.ksize(ZERO_SIZE_PTR)).toBe(0);
    slab.kfree(ZERO_SIZE_PTR);
    slab.kfree(0);
    slab.validate();
  });

  test('of more than two pages comes from the page allocator', () => {
    const { slab, pages } = createTestMachine();
    const before = pages.nrPages;
    const address = slab.kmalloc(8193, GFP_KERNEL);
    expect((address - PAGE_OFFSET) % (4 * PAGE_SIZE)).toBe(0);
    expect(pages.nrPages).toBe(before + 4);
    expect(slab.cacheOf(address) === undefined).toBe(true);
    expect(slab.ksize(address)).toBe(4 * PAGE_SIZE);
    slab.kfree(address);
    expect(pages.nrPages).toBe(before);
    expect(slab.kmalloc(KMALLOC_MAX_SIZE + 1, GFP_KERNEL)).toBe(0);
    expect(slab.kmalloc(Infinity, GFP_KERNEL)).toBe(0);
    const largest = slab.kzalloc(KMALLOC_MAX_SIZE, GFP_KERNEL);
    expect(slab.ksize(largest)).toBe(KMALLOC_MAX_SIZE);
    slab.kfree(largest);
    expect(pages.nrPages).toBe(before);
  });

  test('returns 0 without memory', () => {
    const { slab, pages } = createTestMachine();
    pages.budget = 0;
    expect(slab.kmalloc(5000, GFP_KERNEL)).toBe(0);
    expect(slab.kmalloc(50000, GFP_KERNEL)).toBe(0);
    slab.validate();
  });

  test('tells what ksize may use', () => {
    const { slab } = createTestMachine();
    expect([1, 8, 9, 65, 100, 129, 5000].map((size) => slab.ksize(slab.kmalloc(size, GFP_KERNEL)))).toEqual([
      8, 8, 16, 96, 128, 192, 8192,
    ]);
    const { slab: debugged } = createTestMachine({ slubOptions: { debug: 'Z' } });
    expect(debugged.ksize(debugged.kmalloc(65, GFP_KERNEL))).toBe(96);
  });
});

test('kmalloc_size_roundup tells what a size would get', () => {
  const { slab } = createTestMachine();
  expect([0, 1, 9, 97, 129, 8192, 8193, 100_000, KMALLOC_MAX_SIZE, KMALLOC_MAX_SIZE + 1].map((size) => slab.kmallocSizeRoundup(size))).toEqual([
    0, 8, 16, 128, 192, 8192, 16_384, 131_072, KMALLOC_MAX_SIZE, KMALLOC_MAX_SIZE + 1,
  ]);
});

describe('kzalloc, kcalloc, krealloc', () => {
  test('zeroed memory is zero', () => {
    const { slab, ram } = createTestMachine();
    for (const size of [8, 100, 4096, 8192, 20000]) {
      const dirty = slab.kmalloc(size, GFP_KERNEL);
      fill(ram, dirty, size, 9);
      slab.kfree(dirty);
      const address = slab.kzalloc(size, GFP_KERNEL);
      for (let at = 0; at + 4 <= size; at += 4) if (peek(ram, address + at) !== 0) expect(at).toBe(-1);
    }
  });

  test('a product beyond 64 bits is no memory', () => {
    const { slab } = createTestMachine();
    expect(slab.kcalloc(2 ** 33, 2 ** 31, GFP_KERNEL)).toBe(0);
    expect(slab.kcalloc(2 ** 30, 2 ** 30, GFP_KERNEL)).toBe(0);
    expect(slab.kcalloc(0, 2 ** 30, GFP_KERNEL)).toBe(ZERO_SIZE_PTR);
    expect(slab.ksize(slab.kcalloc(10, 10, GFP_KERNEL))).toBe(128);
  });

  test('krealloc stays where it fits, and keeps the contents where it moves', () => {
    const { slab, ram, pages } = createTestMachine();
    const start = pages.nrPages;
    const a = slab.krealloc(0, 100, GFP_KERNEL);
    fill(ram, a, 100, 4);
    expect(slab.krealloc(a, 128, GFP_KERNEL) === a).toBe(true);
    expect(slab.krealloc(a, 20, GFP_KERNEL) === a).toBe(true);
    const b = slab.krealloc(a, 6000, GFP_KERNEL);
    expect(holds(ram, b, 100, 4)).toBe(true);
    fill(ram, b, 6000, 5);
    const c = slab.krealloc(b, 100_000, GFP_KERNEL);
    expect(holds(ram, c, 6000, 5)).toBe(true);
    fill(ram, c, 100_000, 6);
    const d = slab.krealloc(c, 300_000, GFP_KERNEL);
    expect(holds(ram, d, 100_000, 6)).toBe(true);
    expect(slab.krealloc(d, 0, GFP_KERNEL)).toBe(ZERO_SIZE_PTR);
    for (const cache of slab.caches()) cache.shrink();
    expect(pages.nrPages).toBeLessThanOrEqual(start);
  });

  test('krealloc with __GFP_ZERO never shows old contents', () => {
    const { slab, ram } = createTestMachine();
    const a = slab.kmalloc(100, GFP_KERNEL);
    fill(ram, a, 128, 4);
    expect(slab.krealloc(a, 60, GFP_KERNEL | __GFP_ZERO) === a).toBe(true);
    expect(slab.krealloc(a, 128, GFP_KERNEL | __GFP_ZERO) === a).toBe(true);
    expect([peek(ram, a + 56) !== 0, peek(ram, a + 60), peek(ram, a + 124)]).toEqual([true, 0, 0]);
    const b = slab.krealloc(a, 3000, GFP_KERNEL | __GFP_ZERO);
    expect([peek(ram, b + 56) !== 0, peek(ram, b + 60), peek(ram, b + 2996)]).toEqual([true, 0, 0]);
  });

  test('a krealloc that fails leaves the old memory alone', () => {
    const { slab, ram, pages } = createTestMachine();
    const a = slab.kmalloc(100, GFP_KERNEL);
    fill(ram, a, 100, 4);
    pages.budget = 0;
    expect(slab.krealloc(a, 100_000, GFP_KERNEL)).toBe(0);
    expect(holds(ram, a, 100, 4)).toBe(true);
    slab.kfree(a);
    slab.validate();
  });
});

describe('kfree', () => {
  test('finds the cache of an object in any page of its slab', () => {
    const { slab } = createTestMachine({ slubOptions: { kernel: '6.12' } });
    const objects = Array.from({ length: 8 }, () => slab.kmalloc(4096, GFP_KERNEL));
    expect(slab.cacheOf(objects[0])!.order).toBeGreaterThan(1);
    for (const object of objects) slab.kfree(object);
    expect(slab.kmallocCache(4096, GFP_KERNEL)!.activeObjects).toBe(0);
    slab.validate();
  });

  test('finds the new cache where an id is used again', () => {
    const { slab } = createTestMachine();
    for (const size of [200, 1000, 300]) {
      const cache = slab.kmemCacheCreate({ name: `of ${size}`, size }) as KmemCache;
      slab.kfree(cache.alloc(GFP_KERNEL));
      expect(cache.activeObjects).toBe(0);
      expect(slab.kmemCacheDestroy(cache)).toBe(0);
    }
    slab.validate();
  });

  test('reports what kmalloc never returned', () => {
    const reports: SlabReport[] = [];
    const { slab, pages } = createTestMachine({ report: (report) => reports.push(report) });
    const pfn = pages.allocPages(GFP_KERNEL, 3);
    const large = slab.kmalloc(50_000, GFP_KERNEL);
    slab.kfree(PAGE_OFFSET + pfn * PAGE_SIZE);
    slab.kfree(large + PAGE_SIZE);
    slab.kfree(large + 8);
    slab.kfree(12345);
    slab.kfree(-(2 ** 46));
    slab.kfree(NaN);
    expect(reports.map(({ kind }) => kind)).toEqual(Array.from({ length: 6 }, () => 'invalid-free'));
    expect(slab.ksize(-8)).toBe(0);
    slab.kfree(large);
    slab.kfree(large);
    expect(reports).toHaveLength(8);
    slab.validate();
  });

  test('emits its tracepoints', () => {
    const trace = new TraceRing(32);
    const { slab } = createTestMachine({ trace });
    trace.enable('kmalloc');
    trace.enable('kfree');
    const small = slab.kmalloc(100, GFP_KERNEL);
    const large = slab.kmalloc(9000, GFP_KERNEL);
    slab.kfree(small);
    slab.kfree(large);
    expect([...trace].map(({ name, fields }) => [name, fields['ptr'], fields['bytes_req'], fields['bytes_alloc']])).toEqual([
      ['kmalloc', small, 100, 128],
      ['kmalloc', large, 9000, 16384],
      ['kfree', small, undefined, undefined],
      ['kfree', large, undefined, undefined],
    ]);
  });
});
