import { describe, expect, test } from 'vitest';
import { Errno } from '@pagelab/abi';
import { GFP_KERNEL, __GFP_ZERO } from '@pagelab/mm-core';
import { SLAB_NO_MERGE, SLAB_RED_ZONE } from './flags.ts';
import type { KmemCache } from './kmem-cache.ts';
import type { SlabReport } from './report.ts';
import { peekAddress } from './testing/memory.ts';
import { createTestMachine } from './testing/test-machine.ts';
import type { SlubOptions } from './slab.ts';

function boot(slubOptions: SlubOptions, size = 40) {
  const reports: SlabReport[] = [];
  const log: string[] = [];
  const clock = { now: 4e9 };
  const calls = { name: 'probe' };
  const machine = createTestMachine({
    slubOptions,
    report: (report) => reports.push(report),
    log: (line) => log.push(line),
    context: { clock, pid: () => 42, caller: () => calls.name },
  });
  const cache = machine.slab.kmemCacheCreate({ name: 'victim', size, flags: SLAB_NO_MERGE }) as KmemCache;
  return { ...machine, memory: machine.slab.memory, cache, reports, log, clock, calls };
}

describe('the report', () => {
  test('of a use after free says what, where, who allocated, who freed, and shows the bytes', () => {
    const { cache, memory, reports, clock, calls, slab } = boot({ debug: 'FZPU' });
    calls.name = 'driver_probe';
    const object = cache.alloc(GFP_KERNEL);
    clock.now += 100e6;
    calls.name = 'driver_remove';
    cache.free(object);
    clock.now += 40e6;
    [...'stale'].forEach((letter, i) => memory.setByte(object + 8 + i, letter.charCodeAt(0)));
    cache.alloc(GFP_KERNEL);
    expect(reports).toHaveLength(1);
    expect(reports[0]).toMatchObject({
      kind: 'poison',
      cache: 'victim',
      address: object,
      corruption: { what: 'Poison', from: object + 8, to: object + 12, found: 0x73, expected: 0x6b },
      allocated: { call: 'driver_probe', cpu: 0, pid: 42, when: 1000 },
      freed: { call: 'driver_remove', cpu: 0, pid: 42, when: 1025 },
    });
    expect(reports[0].text).toMatchSnapshot();
    slab.validate();
  });

  test('of an overrun in Linux 6.12 has what was overwritten in its heading', () => {
    const { cache, memory, reports } = boot({ debug: 'FZ', kernel: '6.12' }, 30);
    const object = cache.alloc(GFP_KERNEL);
    memory.setByte(object + 30, 0x41);
    cache.free(object);
    expect(reports[0].text).toMatchSnapshot();
    // The object is lost, and stays so.
    expect(cache.activeObjects).toBe(1);
  });

  test('after the first one says that the kernel is tainted', () => {
    const { cache, reports } = boot({ debug: 'F' });
    const object = cache.alloc(GFP_KERNEL);
    cache.alloc(GFP_KERNEL);
    cache.free(object);
    cache.free(object);
    cache.free(object);
    expect(reports.map(({ text }) => text.split('\n')[1])).toEqual([
      'BUG victim (Not tainted): Object already free',
      'BUG victim (Tainted: G    B   W          ): Object already free',
    ]);
  });

  test('of objects that keep a cache from being destroyed lists them', () => {
    const { cache, reports, slab } = boot({ debug: 'U' });
    const object = cache.alloc(GFP_KERNEL);
    expect(slab.kmemCacheDestroy(cache)).toBe(-Errno.EBUSY);
    expect(reports[0].text.split('\n').slice(-2)).toEqual([
      'Allocated in probe age=0 cpu=0 pid=42',
      'kmem_cache_destroy victim: Slab cache still has objects',
    ]);
    cache.free(object);
    expect(slab.kmemCacheDestroy(cache)).toBe(0);
  });
});

describe('a debugged cache', () => {
  test.each(['F', 'Z', 'P', 'U', 'FZPU'])('with %s hands out objects that hold what their users write', (debug) => {
    const { cache, slab, memory, reports } = boot({ debug });
    const objects = Array.from({ length: 300 }, () => cache.alloc(GFP_KERNEL | __GFP_ZERO));
    for (const object of objects) expect(memory.findNot(object, 40, 0)).toBe(-1);
    objects.forEach((object, i) => memory.fill(object, 40, i & 0xff));
    objects.forEach((object, i) => expect(memory.findNot(object, 40, i & 0xff)).toBe(-1));
    expect(slab.find('victim')!.activeObjects).toBe(300);
    slab.validate();
    for (const object of objects) cache.free(object);
    expect(cache.check()).toBeGreaterThan(0);
    slab.validate();
    expect(slab.kmemCacheDestroy(cache)).toBe(0);
    expect(reports).toEqual([]);
  });

  test('finds what was written when it is told to look', () => {
    const { cache, memory, reports } = boot({ debug: 'ZP' });
    const [a, b] = [cache.alloc(GFP_KERNEL), cache.alloc(GFP_KERNEL)];
    cache.free(b);
    memory.setByte(a - 1, 1);
    memory.setByte(b, 1);
    expect(reports).toEqual([]);
    // It looks at a slab up to the first thing wrong, which it puts right.
    cache.check();
    expect(reports.map(({ corruption }) => corruption?.what)).toEqual(['Left Redzone']);
    cache.check();
    expect(reports.map(({ corruption }) => corruption?.what)).toEqual(['Left Redzone', 'Poison']);
    cache.check();
    expect(reports).toHaveLength(2);
  });

  test('is not there to be looked at without debugging', () => {
    expect(boot({ debug: '-' }).cache.check()).toBe(-Errno.EINVAL);
  });

  test('keeps what kmalloc was asked for, through krealloc too', () => {
    const { slab, memory, reports } = boot({ debug: 'FZPU' });
    const block = slab.kmalloc(50, GFP_KERNEL);
    expect(memory.findNot(block + 50, 14, 0xcc)).toBe(-1);
    memory.fill(block, 50, 7);
    expect(slab.krealloc(block, 60, GFP_KERNEL | __GFP_ZERO)).toBe(block);
    expect(memory.findNot(block, 50, 7)).toBe(-1);
    expect(memory.findNot(block + 50, 10, 0)).toBe(-1);
    expect(memory.findNot(block + 60, 4, 0xcc)).toBe(-1);
    const moved = slab.krealloc(block, 500, GFP_KERNEL);
    expect(memory.findNot(moved, 50, 7)).toBe(-1);
    slab.kfree(moved);
    expect(reports).toEqual([]);
  });

  test('traces what it does', () => {
    const { cache, log, memory } = boot({ debug: 'T,victim' }, 16);
    const object = cache.alloc(GFP_KERNEL);
    memory.fill(object, 16, 0x41);
    cache.free(object);
    expect(log).toHaveLength(3);
    expect(log[0]).toMatch(/^TRACE victim alloc 0x[0-9a-f]{16} inuse=1 fp=0x[0-9a-f]{16}$/);
    expect(log[1]).toMatch(/^TRACE victim free 0x[0-9a-f]{16} inuse=1 fp=0x[0-9a-f]{16}$/);
    expect(log[2]).toMatch(/^Object {3}[0-9a-f]{16}: (41 ){16} AAAAAAAAAAAAAAAA$/);
  });

  test('names the function that called, where nobody says who', () => {
    const reports: SlabReport[] = [];
    const { slab } = createTestMachine({ slubOptions: { debug: 'FU' }, report: (report) => reports.push(report) });
    const driver = {
      block: 0,
      open(): void {
        this.block = slab.kmalloc(100, GFP_KERNEL);
        slab.kmalloc(100, GFP_KERNEL);
      },
      close(): void {
        slab.kfree(this.block);
      },
    };
    driver.open();
    driver.close();
    driver.close();
    expect(reports[0]).toMatchObject({ kind: 'double-free', allocated: { call: 'open' }, freed: { call: 'close' } });
  });
});

describe('free lists', () => {
  test('that are hardened hold no address, and lead to the same objects', () => {
    const { cache, ram, slab, reports } = boot({ freelistHardening: 'full' }, 64);
    const objects = Array.from({ length: 10 }, () => cache.alloc(GFP_KERNEL));
    for (const object of objects) cache.free(object);
    const stored = objects.slice(1).map((object) => peekAddress(ram, object + 32));
    expect(stored.filter((address, i) => address === objects[i])).toEqual([]);
    expect(new Set(stored).size).toBe(9);
    slab.validate();
    expect(Array.from({ length: 10 }, () => cache.alloc(GFP_KERNEL))).toEqual(objects.reverse());
    expect(reports).toEqual([]);
  });

  test('that are hardened lead nowhere when they are overwritten', () => {
    const { cache, memory, reports } = boot({ freelistHardening: 'full' }, 64);
    const [a, b] = [cache.alloc(GFP_KERNEL), cache.alloc(GFP_KERNEL)];
    cache.free(a);
    // Whoever wants b handed out next must know the secret.
    memory.setPointer(a + 32, b);
    expect(cache.alloc(GFP_KERNEL)).toBe(a);
    expect(reports.map(({ kind }) => kind)).toEqual(['freelist-corrupt']);
    expect(cache.alloc(GFP_KERNEL)).not.toBe(b);
  });

  test.each(['none', 'full'] as const)('that are random hand out every object once, in another order a slab (%s)', (freelistHardening) => {
    const { cache, slab } = boot({ freelistRandom: true, freelistHardening, debug: '-' }, 128);
    const slabs = [0, 1].map(() => Array.from({ length: cache.objectsPerSlab }, () => cache.alloc(GFP_KERNEL)));
    const orders = slabs.map((objects) => objects.map((object) => object - Math.min(...objects)));
    for (const order of orders) expect(order.toSorted((a, b) => a - b)).toEqual(order.map((_, i) => i * 128));
    expect(orders[0]).not.toEqual(orders[1]);
    expect(orders[0]).not.toEqual(orders[0].toSorted((a, b) => a - b));
    slab.validate();
  });

  test('that are random keep their slabs sound where those are smaller', () => {
    const { cache, slab, pages } = boot({ freelistRandom: true, debug: 'FZPU' }, 700);
    pages.maxOrder = 0;
    const objects = Array.from({ length: 50 }, () => cache.alloc(GFP_KERNEL));
    expect(new Set(objects).size).toBe(50);
    expect((cache.flags & SLAB_RED_ZONE) !== 0).toBe(true);
    slab.validate();
    for (const object of objects) cache.free(object);
    slab.validate();
  });
});
