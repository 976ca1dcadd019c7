/** What each GFP flag forbids, as it fails. */
import { PhysicalMemory, Smp, VirtualClock, firmwareMemoryMap } from '@pagelab/hw';
import { TraceRing } from '@pagelab/lib';
import { describe, expect, it } from 'vitest';
import {
  GFP_ATOMIC,
  GFP_DMA,
  GFP_DMA32,
  GFP_HIGHUSER,
  GFP_HIGHUSER_MOVABLE,
  GFP_KERNEL,
  GFP_NOFS,
  GFP_NOIO,
  GFP_NOWAIT,
  GFP_USER,
  PF_MEMALLOC,
  __GFP_DIRECT_RECLAIM,
  __GFP_FS,
  __GFP_HIGHMEM,
  __GFP_IO,
  __GFP_MEMALLOC,
  __GFP_MOVABLE,
  __GFP_NOFAIL,
  __GFP_NOMEMALLOC,
  __GFP_NOWARN,
  __GFP_RECLAIMABLE,
  __GFP_RETRY_MAYFAIL,
  __GFP_THISNODE,
} from './gfp.ts';
import { MIGRATE_MOVABLE, MIGRATE_UNMOVABLE } from './migratetype.ts';
import { PageAlloc } from './page-alloc.ts';
import type { PageAllocHooks } from './page-alloc-options.ts';
import { pageAllocators } from './page-allocators.ts';
import { testMachine } from './testing/machine.ts';
import { MovablePages } from './testing/movable-pages.ts';
import { ZONE_HIGHMEM, ZONE_MOVABLE, ZONE_NORMAL, x86Zones } from './zone-types.ts';

const MIB = 2 ** 20;
const ENOMEM = -12;

/** Takes pages until there is none. */
function exhaust(pages: PageAlloc, gfp: number, order = 0): number[] {
  const blocks: number[] = [];
  for (let pfn = pages.allocPages(gfp | __GFP_NOWARN, order); pfn >= 0; pfn = pages.allocPages(gfp | __GFP_NOWARN, order)) blocks.push(pfn);
  return blocks;
}

/** A machine without free memory, and the flags with which somebody was asked to reclaim, to kill or to compact. */
function short(hooks: PageAllocHooks = {}): { pages: PageAlloc; asked: { reclaim: number[]; kill: number[] } } {
  const { pages } = testMachine({ memoryMib: 96 });
  exhaust(pages, GFP_KERNEL);
  const asked = { reclaim: [] as number[], kill: [] as number[] };
  Object.assign(pages.hooks, {
    directReclaim: (gfp: number) => (asked.reclaim.push(gfp), 0),
    outOfMemory: (gfp: number) => (asked.kill.push(gfp), false),
    ...hooks,
  });
  return { pages, asked };
}

/** A machine of 32 bits with high memory. */
function highmemMachine(options: { movablecorePages?: number } = {}): PageAlloc {
  const ram = new PhysicalMemory(firmwareMemoryMap('pc', 1024 * MIB));
  return new PageAlloc({ ram, smp: new Smp(ram, 1), clock: new VirtualClock(), trace: new TraceRing(16), layout: x86Zones(true, 0), ...options });
}

describe('what may not sleep', () => {
  it.each([['GFP_ATOMIC', GFP_ATOMIC], ['GFP_NOWAIT', GFP_NOWAIT], ['neither flag', 0]] as const)('%s: fails, and nobody reclaims or is killed', (_, gfp) => {
    const { pages, asked } = short();
    exhaust(pages, gfp);
    expect(pages.allocPage(gfp | __GFP_NOWARN)).toBe(ENOMEM);
    expect(asked).toEqual({ reclaim: [], kill: [] });
  });

  it('stops the emulator where it asks for what may sleep', () => {
    const { pages } = testMachine();
    pages.atomicDepth = 1;
    expect(() => pages.allocPages(GFP_KERNEL, 1)).toThrow(/sleeping function/);
    expect(() => pages.allocPages(GFP_KERNEL | __GFP_NOFAIL, 0)).toThrow(/sleeping function/);
    expect(pages.allocPages(GFP_ATOMIC, 1)).toBeGreaterThan(0);
  });
});

describe('who reclaims', () => {
  it('is told what it may not do: no file systems, no devices', () => {
    const { pages, asked } = short();
    for (const gfp of [GFP_KERNEL, GFP_NOFS, GFP_NOIO]) pages.allocPage(gfp | __GFP_NOWARN);
    const allowed = [...new Set(asked.reclaim.map((gfp) => gfp & (__GFP_FS | __GFP_IO)))];
    expect(allowed).toEqual([__GFP_FS | __GFP_IO, __GFP_IO, 0]);
  });

  it('does not reclaim again for itself, and does not wait where told to fail', () => {
    const { pages, asked } = short();
    pages.currentFlags = PF_MEMALLOC;
    pages.allocPage(GFP_KERNEL | __GFP_NOMEMALLOC | __GFP_NOWARN);
    expect(asked).toEqual({ reclaim: [], kill: [] });
    pages.currentFlags = 0;
    expect(pages.allocPage(GFP_KERNEL | __GFP_RETRY_MAYFAIL | __GFP_NOWARN)).toBe(ENOMEM);
    expect(asked.kill).toEqual([]);
    expect(asked.reclaim.length).toBeGreaterThan(0);
  });
});

describe('where memory lies', () => {
  it.each([['GFP_DMA', GFP_DMA, 16], ['GFP_DMA32', GFP_DMA32, 4096]] as const)('%s: never above its limit, though there is memory there', (_, gfp, mib) => {
    const { pages } = testMachine({ memoryMib: 4608 });
    const limit = mib * 256;
    const blocks = exhaust(pages, (GFP_ATOMIC & ~__GFP_DIRECT_RECLAIM) | gfp, 10);
    expect(blocks.every((pfn) => pfn + 1024 <= limit)).toBe(true);
    expect(pages.nrFreePages()).toBeGreaterThan(100_000);
  });

  it('is not high memory for the kernel, which has no address there', () => {
    const pages = highmemMachine();
    const blocks = exhaust(pages, GFP_KERNEL, 9);
    expect(blocks.every((pfn) => pages.zoneOf(pfn)!.kind !== ZONE_HIGHMEM)).toBe(true);
    expect(pages.getFreePages(GFP_KERNEL | __GFP_HIGHMEM | __GFP_NOWARN, 9)).toBe(0);
    expect(pages.zoneOf(pages.allocPages(GFP_HIGHUSER, 9))!.kind).toBe(ZONE_HIGHMEM);
  });

  it('is another node only where that is allowed', () => {
    const { pages } = testMachine({ memoryMib: 256, cpus: 2, nodes: [{ memoryBytes: 128 * MIB, cpus: [0] }, { memoryBytes: 128 * MIB, cpus: [1] }] });
    const own = exhaust(pages, GFP_KERNEL | __GFP_THISNODE, 3);
    expect(own.every((pfn) => pages.zoneOf(pfn)!.nid === 0)).toBe(true);
    expect(pages.zoneOf(pages.allocPages(GFP_KERNEL, 3))!.nid).toBe(1);
  });
});

describe('what can be moved', () => {
  it('alone lies in the movable zone', () => {
    const { pages } = testMachine({ memoryMib: 512, movablecorePages: 65_536 });
    const isMovable = (pfn: number): boolean => pages.zoneOf(pfn)!.kind === ZONE_MOVABLE;
    expect(isMovable(pages.allocPage(GFP_HIGHUSER_MOVABLE))).toBe(true);
    for (const gfp of [GFP_KERNEL, GFP_USER, GFP_HIGHUSER, GFP_KERNEL | __GFP_RECLAIMABLE]) {
      expect(exhaust(pages, gfp & ~__GFP_DIRECT_RECLAIM, 6).some(isMovable)).toBe(false);
    }
    expect(isMovable(pages.allocPages(GFP_HIGHUSER_MOVABLE, 6))).toBe(true);
    // High memory alone is not enough: it has to be movable.
    expect(highmemMachine({ movablecorePages: 32_768 }).zones.some(({ kind, present }) => kind === ZONE_MOVABLE && present > 0)).toBe(true);
  });

  it('is in a pageblock of the kernel only where no other is left, and the other way round', () => {
    const { pages } = testMachine({ memoryMib: 64 });
    const typeOf = (pfn: number): number => pages.blockTypes[pfn >>> 9];
    const kernel = Array.from({ length: 700 }, () => pages.allocPage(GFP_KERNEL));
    expect(kernel.every((pfn) => typeOf(pfn) === MIGRATE_UNMOVABLE)).toBe(true);
    const movable = new MovablePages(pages);
    let strays = 0;
    while (pages.zones.some(({ allocator, kind }) => kind !== ZONE_NORMAL && allocator.nrFreeOfType(MIGRATE_MOVABLE) > 200)) {
      const owner = movable.alloc(GFP_USER | __GFP_MOVABLE | __GFP_NOWARN);
      if (owner < 0) break;
      if (typeOf(movable.pfnOf.get(owner)!) !== MIGRATE_MOVABLE) strays++;
    }
    expect(strays).toBe(0);
    // Now the rest is in pageblocks of the kernel: the fallback rules let movable pages take them over, with what is in them.
    while (movable.alloc(GFP_HIGHUSER_MOVABLE | __GFP_MEMALLOC | __GFP_NOWARN) >= 0) { /* until it is full */ }
    const shared = new Set(kernel.map((pfn) => pfn >>> 9));
    expect([...movable.pfnOf.values()].some((pfn) => shared.has(pfn >>> 9))).toBe(true);
    pages.validate();
  });

  it.each(Object.values(pageAllocators))('is not what $name gives the kernel out of a CMA region', (pageAllocator) => {
    const { pages } = testMachine({ memoryMib: 96, cma: { bytes: 32 * MIB }, pageAllocator });
    const [area] = pages.cmaAreas!;
    for (const gfp of [GFP_KERNEL, GFP_ATOMIC, GFP_KERNEL | __GFP_RECLAIMABLE, GFP_HIGHUSER]) {
      const given = exhaust(pages, gfp & ~__GFP_DIRECT_RECLAIM);
      expect(given.some((pfn) => pfn >= area.basePfn && pfn < area.basePfn + area.count)).toBe(false);
    }
    expect(pages.allocPage(GFP_HIGHUSER_MOVABLE)).toBeGreaterThanOrEqual(area.basePfn);
  });
});
