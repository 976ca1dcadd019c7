import { describe, expect, test } from 'vitest';
import { PAGE_SIZE } from '@pagelab/hw';
import { KernelBug, Prng } from '@pagelab/lib';
import { GFP_KERNEL, __GFP_ZERO } from '@pagelab/mm-core';
import { SLAB_TYPESAFE_BY_RCU } from './flags.ts';
import type { KmemCache } from './kmem-cache.ts';
import type { SlabReport } from './report.ts';
import { SlobAllocator } from './slob.ts';
import { fill, holds, peek, poke } from './testing/memory.ts';
import { createTestMachine } from './testing/test-machine.ts';

function boot() {
  const reports: SlabReport[] = [];
  const machine = createTestMachine({ allocator: new SlobAllocator(), report: (report) => reports.push(report) });
  const cache = (size: number, rest: object = {}): KmemCache =>
    machine.slab.kmemCacheCreate({ name: `of ${size}`, size, ...rest }) as KmemCache;
  const kmalloc = (size: number): number => machine.slab.kmalloc(size, GFP_KERNEL);
  return { ...machine, reports, cache, kmalloc };
}

describe('the heap', () => {
  test('cuts objects of every cache from the same page, one behind the other', () => {
    const { cache, slab } = boot();
    const [a, b] = [cache(264), cache(300)];
    const [x, y, z] = [a.alloc(GFP_KERNEL), b.alloc(GFP_KERNEL), a.alloc(GFP_KERNEL)];
    expect([y - x, z - y]).toEqual([264, 304]);
    expect(slab.cacheOf(y + 299) === b).toBe(true);
    expect([a.size, b.size]).toEqual([264, 300]);
    slab.validate();
  });

  test('takes the first block that is large enough', () => {
    const { cache, slab } = boot();
    const [small, medium] = [cache(256), cache(512)];
    const objects = Array.from({ length: 6 }, () => medium.alloc(GFP_KERNEL));
    medium.free(objects[1]);
    medium.free(objects[4]);
    expect(small.alloc(GFP_KERNEL)).toBe(objects[1]);
    expect(small.alloc(GFP_KERNEL)).toBe(objects[1] + 256);
    expect(small.alloc(GFP_KERNEL)).toBe(objects[4]);
    slab.validate();
  });

  test('joins what is freed with what is free beside it', () => {
    const { cache, slab } = boot();
    const piece = cache(256);
    const whole = cache(768);
    const objects = Array.from({ length: 5 }, () => piece.alloc(GFP_KERNEL));
    for (const i of [1, 3, 2]) piece.free(objects[i]);
    expect(whole.alloc(GFP_KERNEL)).toBe(objects[1]);
    slab.validate();
  });

  test('keeps small, medium and large apart', () => {
    const { cache } = boot();
    const pages = [100, 300, 2000].map((size) => Math.floor(cache(size).alloc(GFP_KERNEL) / PAGE_SIZE));
    expect(new Set(pages).size).toBe(3);
  });

  test('gives a page back when the last object of it goes', () => {
    const { cache, pages } = boot();
    const piece = cache(1000);
    const before = pages.nrPages;
    const objects = Array.from({ length: 9 }, () => piece.alloc(GFP_KERNEL));
    expect(pages.nrPages).toBe(before + 3);
    for (const object of objects) piece.free(object);
    expect(pages.nrPages).toBe(before);
  });

  test('serves what does not fit a page from the page allocator', () => {
    const { cache, pages, slab } = boot();
    const large = cache(5000);
    const before = pages.nrPages;
    const object = large.alloc(GFP_KERNEL | __GFP_ZERO);
    expect(pages.nrPages).toBe(before + 2);
    slab.validate();
    slab.kfree(object);
    expect(pages.nrPages).toBe(before);
  });

  test('is found broken by validate', () => {
    const { cache, slab, ram } = boot();
    const piece = cache(64);
    const [a] = [piece.alloc(GFP_KERNEL), piece.alloc(GFP_KERNEL)];
    piece.free(a);
    poke(ram, a, 0x0010_0001);
    expect(() => slab.validate()).toThrow(KernelBug);
  });
});

describe('kmalloc', () => {
  test('has a header of eight bytes with the size, and aligns powers of two to themselves', () => {
    const { kmalloc, slab, ram } = boot();
    const block = kmalloc(50);
    expect(peek(ram, block - 8)).toBe(50);
    expect(slab.ksize(block)).toBe(50);
    for (const size of [8, 16, 64, 256, 1024, 2048]) expect(((kmalloc(size) % size) + size) % size).toBe(0);
    expect(slab.ksize(kmalloc(4096))).toBe(4096);
    expect(slab.ksize(kmalloc(4095 - 8))).toBe(4088);
    expect(slab.ksize(kmalloc(5000))).toBe(8192);
    slab.validate();
  });

  test('grows by krealloc with its contents', () => {
    const { slab, ram, kmalloc } = boot();
    const block = kmalloc(100);
    fill(ram, block, 100, 3);
    const grown = slab.krealloc(slab.krealloc(block, 3000, GFP_KERNEL), 30_000, GFP_KERNEL);
    expect(holds(ram, grown, 100, 3)).toBe(true);
    slab.kfree(grown);
    slab.validate();
  });
});

test('an object is constructed each time it is handed out', () => {
  const { cache } = boot();
  let constructed = 0;
  const made = cache(64, { ctor: () => void constructed++ });
  made.free(made.alloc(GFP_KERNEL));
  made.alloc(GFP_KERNEL);
  expect(constructed).toBe(2);
});

test('an RCU-safe object has a footer behind it', () => {
  expect(boot().cache(64, { flags: SLAB_TYPESAFE_BY_RCU }).size).toBe(88);
});

test('what begins no object is reported, and the heap stays sound', () => {
  const { cache, slab, reports, kmalloc } = boot();
  const piece = cache(64);
  const object = piece.alloc(GFP_KERNEL);
  const block = kmalloc(100);
  piece.free(object + 8);
  piece.free(block);
  piece.free(object);
  slab.kfree(object);
  expect(reports.map(({ kind }) => kind)).toEqual(['double-free', 'wrong-cache', 'double-free']);
  slab.validate();
});

test('random sizes keep their bytes, and all pages come back', () => {
  const { slab, pages, ram } = boot();
  const prng = new Prng(7);
  const start = pages.nrPages;
  const live: { block: number; size: number; seed: number }[] = [];
  for (let step = 0; step < 20_000; step++) {
    if (prng.below(1000) < (step % 4000 < 2000 ? 560 : 430)) {
      const size = 1 + prng.below([64, 300, 1500, 4500][prng.below(4)]);
      const block = slab.kmalloc(size, GFP_KERNEL);
      fill(ram, block, size, step);
      live.push({ block, size, seed: step });
    } else if (live.length > 0) {
      const [{ block, size, seed }] = live.splice(prng.below(live.length), 1);
      if (!holds(ram, block, size, seed)) throw new Error(`a block of ${size} bytes lost its contents`);
      slab.kfree(block);
    }
    if (step % 2000 === 0) slab.validate();
  }
  for (const { block } of live) slab.kfree(block);
  slab.validate();
  expect(pages.nrPages).toBe(start);
});
