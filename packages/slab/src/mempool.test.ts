import { PhysicalMemory, Smp, VirtualClock, firmwareMemoryMap } from '@pagelab/hw';
import { TraceRing } from '@pagelab/lib';
import { GFP_ATOMIC, GFP_KERNEL, PageAlloc } from '@pagelab/mm-core';
import { expect, test } from 'vitest';
import { Mempool, Slab, mempoolKmalloc, mempoolPages, mempoolSlab } from './index.ts';
import type { KmemCache, MempoolHost, MempoolSource } from './index.ts';

function machine() {
  const ram = new PhysicalMemory(firmwareMemoryMap('pc', 64 * 2 ** 20));
  const smp = new Smp(ram, 1);
  const trace = new TraceRing(64);
  const pages = new PageAlloc({ ram, smp, clock: new VirtualClock(), trace });
  const slab = new Slab({ pages, ram, smp, trace });
  return { pages, slab, host: { slab } satisfies MempoolHost };
}

/** A source that can be switched off. */
function failing(source: MempoolSource): MempoolSource & { off: boolean } {
  return {
    off: false,
    alloc(gfp) {
      return this.off ? 0 : source.alloc(gfp);
    },
    free: (element) => source.free(element),
  };
}

function live(slab: Slab): [string, number][] {
  return [...slab.caches()].map((cache) => [cache.name, cache.activeObjects]);
}

test('when the source has none, as many are left as were reserved, and freeing fills the reserve first', () => {
  const { slab, host } = machine();
  const before = live(slab);
  const source = failing(mempoolKmalloc(slab, 128));
  const pool = Mempool.create(host, 3, source) as Mempool;
  const normal = pool.alloc(GFP_KERNEL);
  expect([pool.currNr, pool.stats.fromReserve]).toEqual([3, 0]);
  source.off = true;
  const urgent = [1, 2, 3].map(() => pool.alloc(GFP_ATOMIC));
  expect(new Set([...urgent, normal, 0]).size).toBe(5);
  expect([pool.alloc(GFP_ATOMIC), pool.stats.waits]).toEqual([0, 0]);
  expect([pool.alloc(GFP_KERNEL), pool.stats.waits]).toEqual([0, 1]);
  pool.free(urgent[0]);
  expect(pool.reserved()).toEqual([urgent[0]]);
  expect(pool.alloc(GFP_ATOMIC)).toBe(urgent[0]);
  for (const element of [...urgent, normal]) pool.free(element);
  pool.validate();
  pool.destroy();
  expect(live(slab)).toEqual(before);
});

test('who may sleep waits until an element comes back', () => {
  const { slab, host } = machine();
  const source = failing(mempoolKmalloc(slab, 64));
  const out: number[] = [];
  const wait = (): boolean => (pool.free(out.pop() ?? 0), true);
  const pool = Mempool.create({ ...host, wait }, 1, source) as Mempool;
  source.off = true;
  out.push(pool.alloc(GFP_KERNEL));
  const [first] = out;
  expect(pool.alloc(GFP_KERNEL)).toBe(first);
  expect(pool.stats.waits).toBe(1);
});

test('a pool grows and shrinks; its elements may be objects of a cache, or pages', () => {
  const { slab, pages, host } = machine();
  const cache = slab.kmemCacheCreate({ name: 'bio', size: 200 }) as KmemCache;
  const pool = Mempool.create(host, 2, mempoolSlab(cache)) as Mempool;
  expect([pool.resize(5), cache.activeObjects, pool.resize(1), cache.activeObjects]).toEqual([0, 5, 0, 1]);
  pool.validate();
  pool.destroy();
  expect(slab.kmemCacheDestroy(cache)).toBe(0);
  const free = pages.nrFreePages();
  const blocks = Mempool.create(host, 4, mempoolPages(pages, 2)) as Mempool;
  expect(new Set(blocks.reserved().map((at) => Math.abs(at % 16384)))).toEqual(new Set([0]));
  blocks.destroy();
  pages.drainAllPages();
  expect(pages.nrFreePages()).toBeGreaterThanOrEqual(free - 8);
  expect(() => Mempool.create(host, 0, mempoolSlab(cache))).toThrow('reserves 1 element or more');
});

test('a failure at each allocation inside leaves nothing behind', () => {
  const run = (point: number): number => {
    const { slab, host } = machine();
    const cache = slab.kmemCacheCreate({ name: 'elements', size: 200 }) as KmemCache;
    const before = live(slab);
    let asked = 0;
    for (const each of slab.caches()) {
      const alloc = each.alloc.bind(each);
      each.alloc = (gfp) => (++asked === point ? 0 : alloc(gfp));
    }
    const pool = Mempool.create(host, 4, mempoolSlab(cache));
    if (point > asked) (pool as Mempool).destroy();
    else if (typeof pool !== 'number') pool.destroy();
    slab.validate();
    expect(live(slab)).toEqual(before);
    return asked;
  };
  const total = run(Infinity);
  for (let point = 1; point <= total; point++) run(point);
});
