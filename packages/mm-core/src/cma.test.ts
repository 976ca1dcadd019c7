import { PhysicalMemory } from '@pagelab/hw';
import { Prng } from '@pagelab/lib';
import { describe, expect, it, test } from 'vitest';
import type { CmaArea} from './cma.ts';
import { cmaAlloc, cmaRelease } from './cma.ts';
import { allocContigPages, allocContigRange, freeContigRange } from './contig-range.ts';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_USER, __GFP_COMP, __GFP_NOWARN } from './gfp.ts';
import { MIGRATE_CMA, MIGRATE_ISOLATE, MIGRATE_MOVABLE } from './migratetype.ts';
import type { PageAlloc } from './page-alloc.ts';
import { pageAllocators } from './page-allocators.ts';
import { PB_ISOLATE_MODE_OTHER, startIsolatePageRange, undoIsolatePageRange } from './page-isolation.ts';
import { freeBlocks } from './testing/churn.ts';
import { testMachine } from './testing/machine.ts';
import type { TestMachineOptions } from './testing/machine.ts';
import { MovablePages } from './testing/movable-pages.ts';
import { SOAK } from './testing/soak.ts';
import { VM_EVENT, ZONE_STAT } from './vmstat.ts';
import { ARM64_ZONES, x86Zones } from './zone-types.ts';

const MIB = 2 ** 20;

function cmaMachine(options: Parameters<typeof testMachine>[0] = {}): { pages: PageAlloc; area: CmaArea; movable: MovablePages } {
  const { pages } = testMachine({ memoryMib: 128, cma: { bytes: 16 * MIB }, ...options });
  return { pages, area: pages.cmaAreas![0], movable: new MovablePages(pages) };
}

/** Bytes of the region's start, and of its end. */
function place(pages: PageAlloc): number[][] {
  return pages.cmaAreas!.map(({ basePfn, count }) => [basePfn / 256, (basePfn + count) / 256]);
}

describe('where a region lies, in MiB', () => {
  it('is as high as can be, in whole pageblocks', () => {
    const { pages } = testMachine({ memoryMib: 1024, cma: { bytes: 63 * MIB } });
    expect(place(pages)).toEqual([[958, 1022]]);
    const zone = pages.zoneOf(pages.cmaAreas![0].basePfn)!;
    expect([zone.cmaPages, zone.nrFreeCma, pages.zoneState(ZONE_STAT.NR_FREE_CMA_PAGES)]).toEqual([16_384, 16_384, 16_384]);
    expect(zone.allocator.nrFreeBlocks(10, MIGRATE_CMA) * 2 + zone.allocator.nrFreeBlocks(9, MIGRATE_CMA)).toBe(32);
    pages.validate();
  });

  it('is at 4 GiB where memory reaches further', () => {
    expect(place(testMachine({ memoryMib: 6144, cma: { bytes: 64 * MIB } }).pages)).toEqual([[4096, 4160]]);
  });

  it('is in high memory where there is any', () => {
    const layout = x86Zones(true, 0);
    const { pages } = testMachine({ memoryMib: 1024, layout, cma: { bytes: 16 * MIB } });
    expect(pages.zoneOf(pages.cmaAreas![0].basePfn)!.name).toBe('HighMem');
  });

  it('is where it is asked for, or nowhere', () => {
    const at = (base: number, limit?: number): number[][] =>
      place(testMachine({ memoryMib: 256, cma: { bytes: 16 * MIB, base: base * MIB, ...(limit === undefined ? {} : { limit: limit * MIB }) } }).pages);
    expect(at(100)).toEqual([[100, 116]]);
    expect(at(64, 128)).toEqual([[112, 128]]);
    // The kernel's image is there; and there is no memory.
    expect([at(16), at(250)]).toEqual([[], []]);
  });

  it('is nowhere where zones would meet in it, and the memory is not lost', () => {
    const plain = testMachine({ memoryMib: 256 }).pages.totalramPages;
    const { pages } = testMachine({ memoryMib: 256, cma: { bytes: 16 * MIB, base: 8 * MIB, limit: 16 * MIB + 1 } });
    expect(place(pages)).toEqual([]);
    expect(pages.totalramPages).toBe(plain);
  });

  it('is below what describes memory, and where devices reach, on arm64', () => {
    const arm = (gib: number, nodes: number): TestMachineOptions => ({
      ram: new PhysicalMemory([{ start: 2 ** 30, end: (gib + 1) * 2 ** 30, type: 'usable' }]),
      layout: ARM64_ZONES,
      nodes: nodes === 1 ? [] : Array.from({ length: nodes }, () => ({ memoryBytes: (gib / nodes) * 2 ** 30, cpus: [0] })),
      cma: { bytes: 64 * MIB },
    });
    // As recorded: at 0x7ac00000 of one node, at 0xbaa00000 of two.
    expect(place(testMachine(arm(1, 1)).pages)).toEqual([[1964, 2028]]);
    const two = testMachine(arm(2, 2)).pages;
    expect(place(two)).toEqual([[2986, 3050]]);
    expect(two.zones.filter(({ present }) => present > 0).map(({ nid, name, startPfn, cmaPages }) => [nid, name, startPfn, cmaPages])).toEqual([
      [0, 'DMA', 262_144, 0],
      [1, 'DMA', 524_288, 16_384],
    ]);
    const six = testMachine(arm(6, 1)).pages;
    expect(six.zones.filter(({ present }) => present > 0).map(({ name }) => name)).toEqual(['DMA', 'Normal']);
    expect(place(six)[0][1]).toBeLessThanOrEqual(4096);
    for (const pages of [two, six]) pages.validate();
  });

  it('changes nothing else: a kernel without CMA has no regions, one with cma=0 none that are lent', () => {
    expect(testMachine().pages.cmaAreas).toBe(null);
    expect(testMachine({ cma: { bytes: 0 } }).pages.cmaAreas).toEqual([]);
  });
});

describe.each(Object.values(pageAllocators))('CMA with $name', (pageAllocator) => {
  it('lends its pages to movable allocations only', () => {
    const { pages, area, movable } = cmaMachine({ pageAllocator });
    const isInside = (pfn: number): boolean => pfn >= area.basePfn && pfn < area.basePfn + area.count;
    const kernel: number[] = [];
    for (let pfn = pages.allocPage(GFP_KERNEL | __GFP_NOWARN); pfn >= 0; pfn = pages.allocPage(GFP_KERNEL | __GFP_NOWARN)) kernel.push(pfn);
    expect(kernel.some(isInside)).toBe(false);
    expect(pages.zoneState(ZONE_STAT.NR_FREE_CMA_PAGES)).toBe(area.count);
    while (movable.alloc() >= 0) { /* until it is full */ }
    const lent = [...movable.pfnOf.values()].filter(isInside).length;
    // The rest is what the watermarks kept from the kernel.
    expect(lent).toBeGreaterThan(area.count * 0.9);
    expect(lent).toBeGreaterThan(movable.pfnOf.size * 0.7);
    pages.validate();
    for (const pfn of kernel) pages.freePage(pfn);
    movable.freeAll();
    pages.validate();
  });

  it('lends before more than half of what is free is its own', () => {
    const { pages, area, movable } = cmaMachine({ pageAllocator, memoryMib: 256, cma: { bytes: 128 * MIB } });
    const zone = pages.zoneOf(area.basePfn)!;
    for (let i = 0; i < 20_000; i++) movable.alloc();
    // From when half is CMA's on, both kinds are used alike.
    expect(Math.abs(zone.nrFreeCma - zone.nrFree / 2)).toBeLessThan(700);
    movable.freeAll();
  });

  it('gets its pages back in one piece, whoever uses them', () => {
    const { pages, area, movable } = cmaMachine({ pageAllocator });
    const before = freeBlocks(pages);
    for (let i = 0; i < 18_500; i++) movable.alloc();
    expect(area.count - pages.zoneState(ZONE_STAT.NR_FREE_CMA_PAGES)).toBeGreaterThan(1000);
    const pfn = cmaAlloc(pages, area, 2000, 3);
    expect(pfn).toBe(area.basePfn);
    expect(movable.moved).toBeGreaterThan(500);
    expect(movable.isConsistent()).toBe(true);
    expect(pages.pageCount(pfn + 1999)).toBe(1);
    expect([area.availableCount, area.maxChunk()]).toEqual([area.count - 2000, area.count - 2000]);
    pages.validate();
    const second = cmaAlloc(pages, area, 10, 6);
    expect(second).toBe(area.basePfn + 2048);
    expect(cmaAlloc(pages, area, area.count - 2000, 0)).toBe(-12);
    expect([pages.events[VM_EVENT.CMA_ALLOC_SUCCESS], pages.events[VM_EVENT.CMA_ALLOC_FAIL]]).toEqual([2, 1]);
    expect(cmaRelease(pages, area, pfn, 2000)).toBe(true);
    expect(cmaRelease(pages, area, second, 10)).toBe(true);
    expect(cmaRelease(pages, area, 5000, 1)).toBe(false);
    movable.freeAll();
    pages.drainAllPages();
    pages.validate();
    expect(freeBlocks(pages)).toEqual(before);
    expect(pages.zoneState(ZONE_STAT.NR_FREE_CMA_PAGES)).toBe(area.count);
  });

  it('goes round a page that is pinned', () => {
    const { pages, area, movable } = cmaMachine({ pageAllocator });
    for (let i = 0; i < 20_000; i++) movable.alloc();
    const inside = [...movable.pfnOf.values()].filter((pfn) => pfn >= area.basePfn && pfn < area.basePfn + 64);
    expect(inside.length).toBeGreaterThan(0);
    movable.pinned.add(inside[0]);
    const pfn = cmaAlloc(pages, area, 64, 6);
    expect(pfn).toBe(area.basePfn + (Math.floor((inside[0] - area.basePfn) / 64) + 1) * 64);
    pages.validate();
    cmaRelease(pages, area, pfn, 64);
  });

  it('isolates a range and gives it back as it was', () => {
    const { pages } = testMachine({ memoryMib: 128, pageAllocator });
    const before = freeBlocks(pages);
    const free = pages.zoneState(ZONE_STAT.NR_FREE_PAGES);
    const start = 20 * 1024 + 512;
    expect(startIsolatePageRange(pages, start, start + 1500, PB_ISOLATE_MODE_OTHER)).toBe(0);
    expect(pages.zoneState(ZONE_STAT.NR_FREE_PAGES)).toBe(free - 1536);
    expect(pages.blockTypes[(start + 1400) >>> 9]).toBe(MIGRATE_ISOLATE);
    pages.validate();
    expect(startIsolatePageRange(pages, start - 512, start + 100, PB_ISOLATE_MODE_OTHER)).toBe(-16);
    expect(pages.blockTypes[(start - 1) >>> 9]).toBe(MIGRATE_MOVABLE);
    undoIsolatePageRange(pages, start, start + 1500);
    pages.validate();
    expect(freeBlocks(pages)).toEqual(before);
    // What stays where it is keeps a range from being isolated.
    const pfn = pages.allocPage(GFP_KERNEL);
    expect(startIsolatePageRange(pages, pfn & -512, (pfn & -512) + 512, PB_ISOLATE_MODE_OTHER)).toBe(-16);
    pages.freePage(pfn);
  });

  it('allocates given frames, and any in one piece', () => {
    const { pages } = testMachine({ memoryMib: 128, pageAllocator });
    const movable = new MovablePages(pages);
    const before = freeBlocks(pages);
    for (let i = 0; i < 12_000; i++) movable.alloc();
    const [start] = [...movable.pfnOf.values()].sort((a, b) => b - a);
    const from = (start & -512) - 700;
    expect(allocContigRange(pages, from, from + 1000, 0, GFP_USER)).toBe(0);
    for (let pfn = from; pfn < from + 1000; pfn++) expect(pages.pageCount(pfn)).toBe(1);
    expect(movable.isConsistent()).toBe(true);
    pages.validate();
    expect(allocContigRange(pages, from, from + 8, 0, GFP_USER)).toBe(-16);
    expect(allocContigRange(pages, from, from, 0, GFP_USER)).toBe(-22);
    const block = allocContigPages(pages, 1024, GFP_USER | __GFP_COMP, 0);
    expect(block % 1024).toBe(0);
    expect(pages.pageCount(block + 1000)).toBe(1);
    const odd = allocContigPages(pages, 1500, GFP_HIGHUSER_MOVABLE, 0);
    expect(odd).toBeGreaterThan(0);
    expect(allocContigPages(pages, 2 ** 15, GFP_USER, 0)).toBe(-12);
    pages.validate();
    freeContigRange(pages, from, 1000);
    freeContigRange(pages, block, 1024);
    freeContigRange(pages, odd, 1500);
    movable.freeAll();
    pages.drainAllPages();
    pages.validate();
    expect(freeBlocks(pages)).toEqual(before);
  });

  test('a random run with regions, isolation and moves merges back', () => {
    const { pages, smp } = testMachine({
      memoryMib: 128,
      cpus: 2,
      cma: { bytes: 32 * MIB },
      pageAllocator,
      nodes: [{ memoryBytes: 80 * MIB, cpus: [0] }, { memoryBytes: 48 * MIB, cpus: [1] }],
    });
    const area = pages.cmaAreas![0];
    const movable = new MovablePages(pages);
    const before = freeBlocks(pages);
    const prng = new Prng(11);
    const owners: number[] = [];
    const regions: { pfn: number; count: number }[] = [];
    const kernel: { pfn: number; order: number }[] = [];
    const isolated: number[] = [];
    for (let step = 0; step < 40_000 * SOAK; step++) {
      if (prng.below(50) === 0) smp.processorId = prng.below(2);
      const act = prng.below(1000);
      if (act < (step % 10_000 < 6000 ? 550 : 300)) {
        const owner = movable.alloc();
        if (owner >= 0) owners.push(owner);
      } else if (act < 850) {
        if (owners.length === 0) continue;
        const at = prng.below(owners.length);
        movable.free(owners[at]);
        owners[at] = owners[owners.length - 1];
        owners.pop();
      } else if (act < 920) {
        const order = prng.below(5);
        const pfn = pages.allocPages(GFP_KERNEL | __GFP_NOWARN, order);
        if (pfn >= 0) kernel.push({ pfn, order });
      } else if (act < 988) {
        const block = kernel.splice(prng.below(Math.max(1, kernel.length)), 1)[0];
        if (block !== undefined) pages.freePages(block.pfn, block.order);
      } else if (act < 994) {
        const count = 1 + prng.below(700);
        const pfn = cmaAlloc(pages, area, count, prng.below(7), true);
        if (pfn >= 0) regions.push({ pfn, count });
      } else if (act < 997) {
        const region = regions.splice(prng.below(Math.max(1, regions.length)), 1)[0];
        if (region !== undefined) cmaRelease(pages, area, region.pfn, region.count);
      } else if (isolated.length < 4 && act < 999) {
        const start = prng.below(pages.frames.nrFrames >>> 9) << 9;
        if (startIsolatePageRange(pages, start, start + 512, PB_ISOLATE_MODE_OTHER) === 0) isolated.push(start);
      } else if (isolated.length > 0) {
        const start = isolated.pop()!;
        undoIsolatePageRange(pages, start, start + 512);
      }
      if (step % (2000 * SOAK) === 0) {
        pages.validate();
        expect(movable.isConsistent()).toBe(true);
      }
    }
    expect(movable.moved).toBeGreaterThan(1000);
    for (const start of isolated) undoIsolatePageRange(pages, start, start + 512);
    for (const { pfn, count } of regions) cmaRelease(pages, area, pfn, count);
    for (const { pfn, order } of kernel) pages.freePages(pfn, order);
    movable.freeAll();
    pages.drainAllPages();
    pages.validate();
    expect(freeBlocks(pages)).toEqual(before);
    expect(area.availableCount).toBe(area.count);
    expect(pages.zones.every(({ refusals }) => refusals === 0)).toBe(true);
  }, 60_000 * SOAK);
});
