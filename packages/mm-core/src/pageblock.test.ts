/** Pageblocks of 4 MiB: what two-level x86-32 has, where a huge page is as large as a block can be. */
import { describe, expect, it } from 'vitest';
import { ALLOC_KSWAPD, WMARK_HIGH } from './alloc-flags.ts';
import { compactNodes } from './compaction.ts';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_TRANSHUGE_LIGHT } from './gfp.ts';
import { MIGRATE_CMA, MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_UNMOVABLE } from './migratetype.ts';
import { pageAllocators } from './page-allocators.ts';
import { PB_ISOLATE_MODE_OTHER, startIsolatePageRange, undoIsolatePageRange } from './page-isolation.ts';
import { churn, freeBlocks } from './testing/churn.ts';
import { testMachine } from './testing/machine.ts';
import type { TestMachine, TestMachineOptions } from './testing/machine.ts';
import { MovablePages } from './testing/movable-pages.ts';
import { SOAK } from './testing/soak.ts';
import { ZONE_STAT } from './vmstat.ts';
import { boostWatermark } from './watermark-boost.ts';
import { X86_64_ZONES, x86Zones } from './zone-types.ts';

const MIB = 2 ** 20;

function twoLevels(options: TestMachineOptions = {}): TestMachine {
  return testMachine({ layout: x86Zones(false, 0), ...options });
}

describe('the order of pageblocks', () => {
  it('is that of a huge page: 9, but 10 with two levels of tables', () => {
    expect([X86_64_ZONES, x86Zones(true, 0), x86Zones(false, 0)].map(({ pageblockOrder }) => pageblockOrder)).toEqual([9, 9, 10]);
    const { pages } = twoLevels();
    expect([pages.pageblockOrder, pages.pageblockPages, pages.zones[1].pageblockPages]).toEqual([10, 1024, 1024]);
    expect(pages.blockTypes.length).toBe(Math.ceil(pages.frames.nrFrames / 1024));
  });

  it('says which huge pages wait on per-CPU lists', () => {
    const held = (order: number, machine: TestMachine): number => {
      const { pages } = machine;
      pages.drainAllPages();
      pages.freePages(pages.allocPages(GFP_TRANSHUGE_LIGHT, order), order);
      return pages.zones.reduce((sum, zone) => sum + zone.nrPcpPages(), 0);
    };
    expect([held(9, testMachine()), held(10, testMachine())]).toEqual([512, 0]);
    expect([held(9, twoLevels()), held(10, twoLevels())]).toEqual([0, 1024]);
  });

  it('is what boosts of watermarks, and free memory by blocks, are counted in', () => {
    const { pages } = twoLevels();
    const zone = pages.zones[1];
    const { nrFree } = zone;
    expect(zone.state(ZONE_STAT.NR_FREE_PAGES_BLOCKS)).toBe(zone.nrFreeBlocks(10) * 1024);
    expect(nrFree - zone.state(ZONE_STAT.NR_FREE_PAGES_BLOCKS)).toBeGreaterThan(512);
    boostWatermark(zone, ALLOC_KSWAPD, 15_000);
    const most = Math.floor((zone.watermark[WMARK_HIGH] * 15_000) / 10_000);
    expect(zone.watermarkBoost).toBe(Math.max(1024, Math.min(1024, most)));
  });
});

describe.each(Object.values(pageAllocators))('pageblocks of 4 MiB with $name', (pageAllocator) => {
  it('neither lose a frame nor hand one out twice', () => {
    const machine = twoLevels({ memoryMib: 160, cpus: 2, pageAllocator });
    const before = freeBlocks(machine.pages);
    expect(churn(machine, { seed: 12, steps: 30_000 * SOAK, every: 5000 * SOAK })).toBeGreaterThan(5000 * SOAK);
    expect(freeBlocks(machine.pages)).toEqual(before);
  }, 60_000 * SOAK);

  it('are isolated as a whole, and come back as one block', () => {
    const { pages } = twoLevels({ pageAllocator });
    const before = freeBlocks(pages);
    const block = 32_768;
    expect(startIsolatePageRange(pages, block + 5, block + 6, PB_ISOLATE_MODE_OTHER)).toBe(0);
    const zone = pages.zoneOf(block)!;
    expect([pages.pageblockType(block), pages.pageblockType(block + 1023), pages.pageblockType(block + 1024)]).toEqual([
      MIGRATE_ISOLATE, MIGRATE_ISOLATE, MIGRATE_MOVABLE,
    ]);
    expect([zone.nrFreeIsolated, zone.nrIsolatePageblock]).toEqual([1024, 1]);
    expect(zone.takeAt(block, 10)).toBe(true);
    zone.give(block, 10, MIGRATE_ISOLATE);
    pages.validate();
    undoIsolatePageRange(pages, block + 5, block + 6);
    expect(zone.nrFreeIsolated).toBe(0);
    expect(freeBlocks(pages)).toEqual(before);
    pages.validate();
  });

  it('make up CMA regions', () => {
    const { pages } = twoLevels({ pageAllocator, cma: { bytes: 6 * MIB } });
    const [{ basePfn, count }] = pages.cmaAreas!;
    expect([basePfn % 1024, count]).toEqual([0, 2048]);
    const zone = pages.zoneOf(basePfn)!;
    expect([zone.nrFreeCma, pages.pageblockType(basePfn), pages.pageblockType(basePfn + 2047)]).toEqual([2048, MIGRATE_CMA, MIGRATE_CMA]);
    pages.validate();
  });

  it('are what compaction makes', () => {
    const { pages } = twoLevels({ pageAllocator });
    const movable = new MovablePages(pages);
    const owners: number[] = [];
    for (let owner = movable.alloc(); owner >= 0; owner = movable.alloc()) owners.push(owner);
    owners.forEach((owner, i) => i % 2 === 0 && movable.free(owner));
    pages.drainAllPages();
    const zone = pages.zones[1];
    expect(zone.nrFreeBlocks(10)).toBe(0);
    compactNodes(pages);
    expect(movable.isConsistent()).toBe(true);
    expect(zone.nrFreeBlocks(10)).toBeGreaterThan((zone.nrFree / 1024) * 0.6);
    pages.validate();
  });
});

it('pages of the kernel claim 4 MiB at a time', () => {
  const { pages } = twoLevels();
  const user = pages.allocPage(GFP_HIGHUSER_MOVABLE);
  const kernel = Array.from({ length: 1024 }, () => pages.allocPage(GFP_KERNEL));
  const blocks = new Set(kernel.map((pfn) => pfn >>> 10));
  expect(blocks.size).toBeLessThanOrEqual(2);
  for (const block of blocks) expect(pages.pageblockType(block * 1024)).toBe(MIGRATE_UNMOVABLE);
  expect(blocks.has(user >>> 10)).toBe(false);
  pages.validate();
});

it('a zone that ends in the midst of a pageblock leaves the rest of it to its neighbour', () => {
  // Normal ends at 0x375fe, and high memory begins there.
  for (const pageAllocator of Object.values(pageAllocators)) {
    const { pages } = twoLevels({ memoryMib: 1024, pageAllocator });
    const border = x86Zones(false, 0).limits[1];
    expect(border % 1024).not.toBe(0);
    expect([pages.zoneOf(border - 1)!.name, pages.zoneOf(border)!.name]).toEqual(['Normal', 'HighMem']);
    expect(startIsolatePageRange(pages, border - 1, border, PB_ISOLATE_MODE_OTHER)).toBeLessThan(0);
    pages.validate();
  }
});
