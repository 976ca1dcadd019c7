/** What happens when pages run short, and what is kept for then. */
import { describe, expect, it } from 'vitest';
import { Errno } from '@pagelab/abi';
import { buddyAllocator } from './buddy.ts';
import {
  GFP_ATOMIC,
  GFP_DMA,
  GFP_DMA32,
  GFP_HIGHUSER_MOVABLE,
  GFP_KERNEL,
  GFP_NOWAIT,
  PF_MEMALLOC,
  __GFP_DIRECT_RECLAIM,
  __GFP_MEMALLOC,
  __GFP_NOFAIL,
  __GFP_NOMEMALLOC,
  __GFP_NORETRY,
  __GFP_NOWARN,
  __GFP_RETRY_MAYFAIL,
  __GFP_THISNODE,
} from './gfp.ts';
import { MIGRATE_HIGHATOMIC } from './migratetype.ts';
import type { PageAlloc } from './page-alloc.ts';
import type { PageAllocHooks } from './page-alloc-options.ts';
import type { PageAllocator, PageAllocatorFactory } from './page-allocator.ts';
import { VM_EVENT } from './vmstat.ts';
import { exhaust, testMachine, zoneNamed } from './testing/machine.ts';

const ENOMEM = -Errno.ENOMEM;

describe('watermarks', () => {
  it('stop ordinary allocations at min, urgent ones lower, and those that free memory nowhere', () => {
    const { pages } = testMachine({ memoryMib: 128, kernel: '6.1' });
    const zone = zoneNamed(pages, 'DMA32');
    const min = zone.watermark[0];
    exhaust(pages, GFP_KERNEL);
    expect(zone.nrFree + zone.nrPcpPages()).toBeLessThanOrEqual(min + 2 * zone.pcp[0].batch);
    expect(zone.nrFree).toBeLessThanOrEqual(min);
    const afterNormal = zone.nrFree;
    exhaust(pages, GFP_ATOMIC);
    const half = min - (min >> 1);
    expect(zone.nrFree).toBeLessThanOrEqual(half - (half >> 2));
    expect(zone.nrFree).toBeLessThan(afterNormal);
    expect(zone.nrFree).toBeGreaterThan(0);
    exhaust(pages, GFP_KERNEL | __GFP_NOMEMALLOC);
    expect(pages.zones[0].nrFree).toBeGreaterThan(0);
    exhaust(pages, GFP_NOWAIT | __GFP_MEMALLOC);
    expect(pages.nrFreePages()).toBe(0);
    pages.validate();
  });

  it('let a task that frees memory use it all, and a victim of the OOM killer half', () => {
    const one = testMachine({ memoryMib: 96 }).pages;
    one.currentFlags = PF_MEMALLOC;
    exhaust(one, GFP_KERNEL);
    expect(one.nrFreePages()).toBe(0);
    const two = testMachine({ memoryMib: 96 }).pages;
    exhaust(two, GFP_KERNEL);
    const left = two.nrFreePages();
    two.currentIsOomVictim = true;
    exhaust(two, GFP_KERNEL);
    expect(two.nrFreePages()).toBeLessThan(left);
    expect(two.nrFreePages()).toBeGreaterThan(0);
  });

  it('keep lower zones from those who can use higher ones', () => {
    const { pages } = testMachine({ memoryMib: 1024 });
    exhaust(pages, GFP_KERNEL);
    const dma = zoneNamed(pages, 'DMA');
    expect(dma.nrFree).toBeGreaterThanOrEqual(dma.lowmemReserve[2]);
    expect(pages.allocPage(GFP_KERNEL)).toBe(ENOMEM);
    expect(pages.allocPage(GFP_KERNEL | GFP_DMA)).toBeGreaterThan(0);
    pages.validate();
  });

  it('want a large enough block, not only enough pages', () => {
    const { pages } = testMachine({ memoryMib: 256 });
    const all = exhaust(pages, GFP_KERNEL);
    // Every other page free: plenty of memory, no block of two.
    for (let i = 0; i < all.length; i++) if (all[i] % 2 === 0) pages.freePage(all[i]);
    pages.drainAllPages();
    expect(pages.nrFreePages()).toBeGreaterThan(10_000);
    exhaust(pages, GFP_KERNEL | GFP_DMA);
    expect(pages.allocPages(GFP_KERNEL | __GFP_NOWARN, 10)).toBe(ENOMEM);
    expect(pages.allocPage(GFP_KERNEL)).toBeGreaterThan(0);
  });
});

describe('per-CPU lists', () => {
  it('are refilled in batches and reused last in, first out', () => {
    const { pages } = testMachine({ memoryMib: 1024 });
    const zone = zoneNamed(pages, 'DMA32');
    const free = zone.nrFree;
    const first = pages.allocPage(GFP_HIGHUSER_MOVABLE);
    expect(free - zone.nrFree).toBe(zone.pcp[0].batch);
    expect(zone.pcp[0].count).toBe(zone.pcp[0].batch - 1);
    pages.allocPage(GFP_HIGHUSER_MOVABLE);
    pages.freePage(first);
    expect(pages.allocPage(GFP_HIGHUSER_MOVABLE)).toBe(first);
  });

  it('give back in bulk when they hold too much', () => {
    const { pages } = testMachine({ memoryMib: 1024, kernel: '6.1' });
    const zone = zoneNamed(pages, 'DMA32');
    const pcp = zone.pcp[0];
    const held = Array.from({ length: pcp.highMin + 2000 }, () => pages.allocPage(GFP_HIGHUSER_MOVABLE));
    for (const pfn of held) pages.freePage(pfn);
    expect(pcp.count).toBeLessThanOrEqual(pcp.highMin);
    expect(pcp.count).toBeGreaterThan(pcp.highMin - 3000);
    pages.validate();
  });

  it('belong to a CPU, and are emptied for others when memory is short', () => {
    const { pages, smp } = testMachine({ memoryMib: 256, cpus: 2 });
    const held = Array.from({ length: 500 }, () => pages.allocPage(GFP_KERNEL));
    for (const pfn of held) pages.freePage(pfn);
    const onFirst = zoneNamed(pages, 'DMA32').pcp[0].count;
    expect(onFirst).toBeGreaterThan(400);
    smp.processorId = 1;
    exhaust(pages, GFP_KERNEL);
    expect(zoneNamed(pages, 'DMA32').pcp[0].count).toBe(0);
    pages.validate();
  });

  it('make no difference but speed: the short way agrees with the long one', () => {
    const run = (traced: boolean): unknown => {
      const { pages, trace } = testMachine({ memoryMib: 96 });
      if (traced) {
        trace.define('test', []);
        trace.enable();
      }
      const held: number[] = [];
      const log: number[] = [];
      let state = 1;
      for (let step = 0; step < 30_000; step++) {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        if (held.length > 0 && (state >>> 8) % 16 > (step % 9000 < 6000 ? 6 : 9)) {
          pages.freePage(held.splice((state >>> 12) % held.length, 1)[0]);
        } else {
          const pfn = pages.allocPage([GFP_KERNEL, GFP_HIGHUSER_MOVABLE, GFP_ATOMIC, GFP_KERNEL | GFP_DMA][(state >>> 4) % 4]);
          log.push(pfn);
          if (pfn >= 0) held.push(pfn);
        }
      }
      pages.validate();
      return { log, events: [...pages.events], zones: pages.zones.map((zone) => [...zone.vmStat.keys()].map((item) => zone.state(item))) };
    };
    expect(run(true)).toEqual(run(false));
  });
});

describe('the ladder of an allocation that finds no memory', () => {
  function shortMachine(hooks: PageAllocHooks): PageAlloc {
    const { pages } = testMachine({ memoryMib: 128 });
    exhaust(pages, GFP_KERNEL);
    Object.assign(pages.hooks, hooks);
    pages.failures = 0;
    return pages;
  }

  it('wakes kswapd below low, and asks nobody to sleep who cannot', () => {
    const calls: string[] = [];
    const pages = shortMachine({
      wakeKswapd: (zone) => void calls.push(zone.name),
      directReclaim: () => (calls.push('reclaim'), 0),
      outOfMemory: () => (calls.push('oom'), false),
    });
    exhaust(pages, GFP_ATOMIC);
    expect(calls).toContain('DMA32');
    expect(calls).not.toContain('reclaim');
    expect(calls).not.toContain('oom');
  });

  it('reclaims, and takes what that freed', () => {
    const { pages } = testMachine({ memoryMib: 128 });
    const held = exhaust(pages, GFP_KERNEL);
    let asked = 0;
    pages.hooks.directReclaim = (_gfp, _order, nr) => {
      asked++;
      expect(pages.currentFlags & PF_MEMALLOC).not.toBe(0);
      for (let i = 0; i < nr; i++) pages.freePage(held.pop() ?? 0);
      return nr;
    };
    for (let i = 0; i < 100; i++) expect(pages.allocPage(GFP_KERNEL)).toBeGreaterThan(0);
    expect(asked).toBeGreaterThan(0);
    expect(pages.currentFlags).toBe(0);
    expect(pages.events[VM_EVENT.ALLOCSTALL_NORMAL]).toBe(asked);
    pages.validate();
  });

  it('does not reclaim for one who reclaims already', () => {
    let asked = 0;
    const pages = shortMachine({ directReclaim: () => ((asked += 1), 0) });
    pages.currentFlags = PF_MEMALLOC;
    exhaust(pages, GFP_KERNEL | __GFP_NOWARN);
    expect(asked).toBe(0);
  });

  it('kills when nothing else helps, and tries again', () => {
    const { pages } = testMachine({ memoryMib: 128 });
    const held = exhaust(pages, GFP_KERNEL);
    let kills = 0;
    pages.hooks.outOfMemory = () => {
      kills++;
      for (let i = 0; i < 2000; i++) pages.freePage(held.pop() ?? 0);
      return true;
    };
    expect(pages.allocPage(GFP_KERNEL)).toBeGreaterThan(0);
    expect(kills).toBe(1);
  });

  it.each([
    ['a large block', GFP_KERNEL, 4],
    ['memory for a device', GFP_KERNEL | GFP_DMA32, 0],
    ['one that would rather fail', GFP_KERNEL | __GFP_RETRY_MAYFAIL, 0],
    ['one that gives up at once', GFP_KERNEL | __GFP_NORETRY, 0],
    ['memory of one node', GFP_KERNEL | __GFP_THISNODE, 0],
    ['one that cannot sleep', GFP_NOWAIT, 0],
  ] as const)('kills nobody for %s', (_, gfp, order) => {
    let kills = 0;
    const { pages } = testMachine({ memoryMib: 128 });
    exhaust(pages, gfp);
    pages.failures = 0;
    pages.hooks.outOfMemory = () => ((kills += 1), kills < 10);
    expect(pages.allocPages(gfp, order)).toBe(ENOMEM);
    expect(kills).toBe(0);
    expect(pages.failures).toBe(gfp === GFP_NOWAIT ? 0 : 1);
  });

  it('gives what may not fail some of the reserves', () => {
    const pages = shortMachine({});
    expect(pages.allocPage(GFP_KERNEL | __GFP_NOFAIL)).toBeGreaterThan(0);
    expect(pages.allocPage((GFP_KERNEL & ~__GFP_DIRECT_RECLAIM) | __GFP_NOFAIL)).toBeGreaterThanOrEqual(ENOMEM);
    exhaust(pages, GFP_NOWAIT | __GFP_MEMALLOC);
    expect(pages.allocPage(GFP_KERNEL | __GFP_NOFAIL)).toBe(ENOMEM);
  });

  it('reports a failure once, unless told not to', () => {
    const reports: number[] = [];
    const pages = shortMachine({ warnAlloc: (_gfp, order) => void reports.push(order) });
    expect(pages.allocPages(GFP_KERNEL, 1)).toBe(ENOMEM);
    expect(pages.allocPages(GFP_KERNEL | __GFP_NOWARN, 1)).toBe(ENOMEM);
    expect(reports).toEqual([1]);
    expect(pages.failures).toBe(1);
  });
});

describe('pageblocks for urgent blocks', () => {
  it('are kept when such a block was had below the watermark, and used by nobody else', () => {
    const { pages } = testMachine({ memoryMib: 1024 });
    const zone = zoneNamed(pages, 'DMA32');
    while (zone.nrFree > zone.watermark[0]) if (pages.allocPage(GFP_KERNEL) < 0) break;
    const urgent = pages.allocPages(GFP_ATOMIC, 1);
    expect(urgent).toBeGreaterThan(0);
    expect(pages.blockTypes[urgent >>> 9]).toBe(MIGRATE_HIGHATOMIC);
    expect(zone.nrReservedHighatomic).toBe(512);
    expect(zone.nrFreeHighatomic).toBe(zone.allocator.nrFreeOfType(MIGRATE_HIGHATOMIC));
    pages.validate();
    pages.freePages(urgent, 1);
    pages.drainAllPages();
    pages.validate();
  });

  it('are given up before anybody is killed', () => {
    const { pages } = testMachine({ memoryMib: 1024 });
    const zone = zoneNamed(pages, 'DMA32');
    while (zone.nrFree > zone.watermark[0]) if (pages.allocPage(GFP_KERNEL) < 0) break;
    expect(pages.allocPages(GFP_ATOMIC, 1)).toBeGreaterThan(0);
    let kills = 0;
    pages.hooks.outOfMemory = () => ((kills += 1), false);
    pages.sysctl.setMinFreeKbytes(0);
    exhaust(pages, GFP_KERNEL);
    expect(kills).toBe(1);
    expect(zone.nrReservedHighatomic).toBe(0);
    expect(zone.allocator.nrFreeOfType(MIGRATE_HIGHATOMIC)).toBe(0);
    pages.validate();
  });
});

describe('mixed pageblocks', () => {
  it('raise the watermarks until kswapd has been', () => {
    let woken = 0;
    const { pages } = testMachine({ memoryMib: 1024, hooks: { wakeKswapd: () => void (woken += 1) } });
    const zone = zoneNamed(pages, 'DMA32');
    // User pages everywhere, then a third of each pageblock free: unmovable pages have to break in.
    const user = exhaust(pages, GFP_HIGHUSER_MOVABLE | __GFP_MEMALLOC);
    for (const pfn of user) if (pfn % 512 < 170) pages.freePage(pfn);
    pages.drainAllPages();
    woken = 0;
    for (let i = 0; i < 200; i++) pages.allocPage(GFP_KERNEL);
    expect(zone.watermarkBoost).toBeGreaterThan(0);
    expect(zone.wmarkPages(0)).toBe(zone.watermark[0] + zone.watermarkBoost);
    expect(woken).toBeGreaterThan(0);
    pages.sysctl.setWatermarkScaleFactor(20);
    expect(zone.watermarkBoost).toBe(0);
    pages.validate();
  });
});

describe('a page allocator that is wrong', () => {
  /** The buddy system, some of whose answers are changed. */
  function lying(change: (pfn: number, order: number) => number): PageAllocatorFactory {
    return {
      name: 'liar',
      create: (context) => {
        const buddy = buddyAllocator.create(context);
        const alloc = buddy.alloc.bind(buddy);
        return Object.assign(buddy, { alloc: (...args: Parameters<PageAllocator['alloc']>) => change(alloc(...args), args[0]) });
      },
    };
  }

  it.each([
    ['a frame in use', (pfn: number) => (pfn > 17_500 ? 16_384 : pfn), 'not free'],
    ['a frame of the kernel image', (pfn: number) => (pfn > 17_500 ? 4096 : pfn), 'not of this zone'],
    ['a frame of another zone', (pfn: number) => (pfn > 17_500 ? 300 : pfn), 'not of this zone'],
    ['a frame that is not there', () => 1e9, 'not of this zone'],
    ['a block that is not aligned', (pfn: number, order: number) => (order > 0 ? pfn + 1 : pfn), 'not aligned'],
  ] as const)('cannot pass off %s', (_, change, reason) => {
    const { pages } = testMachine({ memoryMib: 256, pageAllocator: lying(change) });
    const got = new Set<number>();
    for (let i = 0; i < 14_000; i++) {
      const order = i % 3;
      const pfn = pages.allocPages(GFP_KERNEL | __GFP_NOWARN, order);
      for (let k = 0; k < 1 << order && pfn >= 0; k++) {
        expect(got.has(pfn + k)).toBe(false);
        got.add(pfn + k);
      }
    }
    const refusals = pages.zones.filter((zone) => zone.refusals > 0);
    expect(refusals.length).toBeGreaterThan(0);
    expect(refusals[0].lastRefusal).toContain(reason);
    expect([...got].every((pfn) => pages.pageCount(pfn) === 1)).toBe(true);
  });
});
