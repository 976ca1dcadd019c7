/** Blocks of pages: getting, checking and freeing them, and what they are for. */
import { describe, expect, it } from 'vitest';
import { Errno } from '@pagelab/abi';
import { KernelBug } from '@pagelab/lib';
import {
  GFP_ATOMIC,
  GFP_DMA,
  GFP_DMA32,
  GFP_HIGHUSER_MOVABLE,
  GFP_KERNEL,
  PF_MEMALLOC_NOFS,
  PF_MEMALLOC_NOIO,
  __GFP_COMP,
  __GFP_DMA,
  __GFP_DMA32,
  __GFP_FS,
  __GFP_HIGHMEM,
  __GFP_IO,
  __GFP_MOVABLE,
  __GFP_NORETRY,
  __GFP_RECLAIMABLE,
  __GFP_ZERO,
} from './gfp.ts';
import { MIGRATE_MOVABLE, MIGRATE_UNMOVABLE } from './migratetype.ts';
import {
  OWNER_ANON,
  OWNER_FREE,
  OWNER_HOLE,
  OWNER_KERNEL_CODE,
  OWNER_KERNEL_DATA,
  OWNER_MEMMAP,
  OWNER_PAGE_TABLE,
  OWNER_RESERVED,
  OWNER_SLAB,
  ownerName,
} from './owner.ts';
import {
  PG_ANON,
  PG_HEAD,
  PG_LOCKED,
  PG_LRU,
  PG_MLOCKED,
  PG_SLAB,
  PG_SWAPBACKED,
  PG_TABLE,
  PG_TAIL,
  blockOrder,
} from './page.ts';
import type { PageAlloc } from './page-alloc.ts';
import { VM_EVENT, ZONE_STAT } from './vmstat.ts';
import { exhaust, testMachine, zoneNamed } from './testing/machine.ts';

const ENOMEM = -Errno.ENOMEM;
const EINVAL = -Errno.EINVAL;

describe('a block of pages', () => {
  it('comes with one reference and is free again when the last is dropped', () => {
    const { pages } = testMachine();
    const free = pages.nrFreePages();
    const pfn = pages.allocPage(GFP_KERNEL);
    expect(pages.pageCount(pfn)).toBe(1);
    pages.getPage(pfn);
    pages.putPage(pfn);
    expect(pages.owner(pfn)).toBe(OWNER_KERNEL_DATA);
    pages.freePage(pfn);
    expect(pages.owner(pfn)).toBe(OWNER_FREE);
    pages.drainAllPages();
    expect(pages.nrFreePages()).toBe(free);
    pages.validate();
  });

  it('is aligned to its size, at every order', () => {
    const { pages } = testMachine();
    for (let order = 0; order <= 10; order++) {
      const pfn = pages.allocPages(GFP_KERNEL, order);
      expect(pfn % (1 << order)).toBe(0);
      expect(blockOrder(pages.frames, pfn)).toBe(order);
      pages.validate();
      pages.freePages(pfn, order);
    }
    expect(pages.allocPages(GFP_KERNEL, 11)).toBe(ENOMEM);
    expect(pages.allocPages(GFP_KERNEL, -1)).toBe(ENOMEM);
  });

  it('is zeroed on request, whatever was there', () => {
    const { pages, ram } = testMachine();
    for (const order of [0, 2]) {
      const dirty = pages.allocPages(GFP_KERNEL, order);
      for (let i = 0; i < 1 << order; i++) ram.fillFrame(dirty + i, 0xa5);
      pages.freePages(dirty, order);
      const clean = pages.allocPages(GFP_KERNEL | __GFP_ZERO, order);
      expect(clean).toBe(dirty);
      for (let i = 0; i < 1 << order; i++) {
        const word = ram.frameWord(clean + i);
        expect(ram.u32.subarray(word, word + 1024).every((value) => value === 0)).toBe(true);
      }
    }
    const address = pages.getZeroedPage(GFP_KERNEL);
    expect(pages.pageAddress(pages.virtToPfn(address))).toBe(address);
    expect(address).toBeLessThan(0);
  });

  it('is one page where it is compound: references through any tail count at the head', () => {
    const { pages } = testMachine();
    const pfn = pages.allocPages(GFP_KERNEL | __GFP_COMP, 3);
    expect(pages.frames.flags[pfn] & PG_HEAD).not.toBe(0);
    expect(pages.frames.flags[pfn + 7] & PG_TAIL).not.toBe(0);
    pages.getPage(pfn + 5);
    expect(pages.pageCount(pfn)).toBe(2);
    pages.putPage(pfn + 2);
    pages.putPage(pfn);
    expect(pages.owner(pfn)).toBe(OWNER_FREE);
    expect(pages.frames.flags[pfn + 7]).toBe(0);
    pages.validate();
  });

  it('that somebody else still looks at keeps its first frame only', () => {
    const { pages } = testMachine();
    const pfn = pages.allocPages(GFP_KERNEL, 3);
    pages.getPage(pfn);
    pages.freePages(pfn, 3);
    expect([0, 1, 2, 4, 7].map((i) => pages.owner(pfn + i))).toEqual([OWNER_KERNEL_DATA, 0, 0, 0, 0]);
    pages.validate();
    pages.putPage(pfn);
    pages.drainAllPages();
    pages.validate();
    expect(pages.nrFreePages()).toBe(pages.totalramPages);
  });

  it('can be split into single frames', () => {
    const { pages } = testMachine();
    const pfn = pages.allocPages(GFP_KERNEL, 2);
    pages.splitPage(pfn, 2);
    for (const i of [2, 0, 3, 1]) pages.freePage(pfn + i);
    pages.validate();
    expect(() => pages.splitPage(pages.allocPages(GFP_KERNEL | __GFP_COMP, 2), 2)).toThrow(KernelBug);
  });

  it('of an exact size gives the rest back at once', () => {
    const { pages } = testMachine();
    const address = pages.allocPagesExact(5 * 4096 - 100, GFP_KERNEL);
    const pfn = pages.virtToPfn(address);
    expect([0, 4, 5, 7].map((i) => pages.owner(pfn + i))).toEqual([OWNER_KERNEL_DATA, OWNER_KERNEL_DATA, OWNER_FREE, OWNER_FREE]);
    pages.freePagesExact(address, 5 * 4096 - 100);
    pages.drainAllPages();
    expect(pages.nrFreePages()).toBe(pages.totalramPages);
    expect(pages.allocPagesExact(0, GFP_KERNEL)).toBe(0);
  });

  it('can be had in bulk', () => {
    const { pages } = testMachine({ memoryMib: 96 });
    const out = new Int32Array(100_000);
    const got = pages.allocPagesBulk(GFP_KERNEL, 100, out);
    expect(got).toBe(100);
    expect(new Set(out.subarray(0, 100)).size).toBe(100);
    const rest = pages.allocPagesBulk(GFP_KERNEL, 50_000, out);
    expect(rest).toBeGreaterThan(5000);
    expect(rest).toBeLessThan(50_000);
    pages.validate();
  });
});

describe('a page in a state it cannot be in', () => {
  it.each([
    ['freed twice', (pages: PageAlloc, pfn: number) => (pages.freePage(pfn), pages.freePage(pfn))],
    ['freed while mapped', (pages: PageAlloc, pfn: number) => ((pages.frames.mapcount[pfn] = 1), pages.freePage(pfn))],
    ['freed while in a file', (pages: PageAlloc, pfn: number) => ((pages.frames.mapping[pfn] = 7), pages.freePage(pfn))],
    ['freed while locked', (pages: PageAlloc, pfn: number) => ((pages.frames.flags[pfn] |= PG_LOCKED), pages.freePage(pfn))],
    ['freed while on an LRU list', (pages: PageAlloc, pfn: number) => ((pages.frames.flags[pfn] |= PG_LRU), pages.freePages(pfn, 0))],
    ['freed while a page table', (pages: PageAlloc, pfn: number) => ((pages.frames.flags[pfn] |= PG_TABLE), pages.freePage(pfn))],
    ['freed with another order', (pages: PageAlloc, pfn: number) => pages.freePages(pfn, 2)],
    ['freed as the tail of a block', (pages: PageAlloc) => pages.freePage(pages.allocPages(GFP_KERNEL, 2) + 1)],
    ['freed as a frame, being a block', (pages: PageAlloc) => pages.freePage(pages.allocPages(GFP_KERNEL, 2))],
    ['put, being the tail of a plain block', (pages: PageAlloc) => pages.putPage(pages.allocPages(GFP_KERNEL, 2) + 1)],
    ['referenced while free', (pages: PageAlloc, pfn: number) => (pages.freePage(pfn), pages.getPage(pfn))],
    ['of the kernel image', (pages: PageAlloc) => pages.freePage(4096)],
    ['no memory at all', (pages: PageAlloc) => pages.freePage(1e9)],
    ['written to while free', (pages: PageAlloc, pfn: number) => (pages.freePage(pfn), (pages.frames.refcount[pfn] = 1), pages.allocPage(GFP_KERNEL))],
  ] as const)('%s stops the emulator', (_, act) => {
    const { pages } = testMachine();
    const pfn = pages.allocPage(GFP_KERNEL);
    expect(() => act(pages, pfn)).toThrow(KernelBug);
  });

  it('anonymous and locked in memory is cleaned when it is freed', () => {
    const { pages } = testMachine();
    const pfn = pages.allocPage(GFP_HIGHUSER_MOVABLE);
    pages.frames.flags[pfn] |= PG_ANON | PG_SWAPBACKED | PG_MLOCKED;
    pages.frames.mapping[pfn] = 3;
    pages.modZoneState(pfn, ZONE_STAT.NR_MLOCK, 1);
    expect(pages.owner(pfn)).toBe(OWNER_ANON);
    pages.freePage(pfn);
    expect([pages.frames.flags[pfn], pages.frames.mapping[pfn], pages.zoneState(ZONE_STAT.NR_MLOCK)]).toEqual([0, 0, 0]);
    expect(pages.events[VM_EVENT.UNEVICTABLE_PGCLEARED]).toBe(1);
    pages.validate();
  });
});

describe('owners', () => {
  it('account for every frame', () => {
    const { pages } = testMachine({ memoryMib: 1024, kernel: '6.1' });
    const slab = pages.allocPages(GFP_KERNEL | __GFP_COMP, 2);
    pages.frames.flags[slab] |= PG_SLAB;
    const table = pages.allocPage(GFP_KERNEL);
    pages.frames.flags[table] |= PG_TABLE;
    const census = pages.census();
    expect(census.reduce((sum, n) => sum + n, 0)).toBe(0x3ffe0);
    expect(census[OWNER_SLAB]).toBe(4);
    expect(census[OWNER_PAGE_TABLE]).toBe(1);
    expect(census[OWNER_FREE]).toBe(pages.totalramPages - 5);
    expect(census[OWNER_KERNEL_CODE]).toBe(3586);
    expect(census[OWNER_RESERVED]).toBe(159);
    // 64 bytes for each frame of eight sections: 20 MB for 4 GiB of 8 KiB pages would be 40 bytes each.
    expect(census[OWNER_MEMMAP]).toBe(8 * 512);
    expect(pages.memmapBytes().linux).toBe(262_014 * 64);
    expect(pages.owner(4096)).toBe(OWNER_KERNEL_CODE);
    expect(pages.owner(0)).toBe(OWNER_RESERVED);
    expect(pages.owner(0xa0)).toBe(OWNER_HOLE);
    expect(pages.owner(slab + 3)).toBe(OWNER_SLAB);
    expect(pages.owner(-1)).toBe(OWNER_HOLE);
    expect(ownerName(OWNER_MEMMAP)).toBe('struct page');
  });
});

describe('GFP flags', () => {
  it('choose the zone: a device that reaches 16 MiB never gets more', () => {
    const { pages } = testMachine({ memoryMib: 5 * 1024 });
    expect(pages.zoneOf(pages.allocPage(GFP_KERNEL))?.name).toBe('Normal');
    expect(pages.zoneOf(pages.allocPage(GFP_KERNEL | GFP_DMA32))?.name).toBe('DMA32');
    expect(pages.zoneOf(pages.allocPage(GFP_KERNEL | GFP_DMA))?.name).toBe('DMA');
    const dma = exhaust(pages, GFP_KERNEL | GFP_DMA);
    expect(dma.length).toBeGreaterThan(3000);
    expect(Math.max(...dma)).toBeLessThan(4096);
    expect(pages.zoneOf(pages.allocPage(GFP_HIGHUSER_MOVABLE))?.name).toBe('Normal');
    pages.validate();
  });

  it('that contradict each other are refused', () => {
    const { pages } = testMachine();
    for (const gfp of [
      GFP_KERNEL | __GFP_DMA | __GFP_HIGHMEM,
      GFP_KERNEL | __GFP_DMA | __GFP_DMA32,
      GFP_KERNEL | __GFP_DMA32 | __GFP_HIGHMEM,
      GFP_KERNEL | __GFP_DMA | __GFP_HIGHMEM | __GFP_MOVABLE,
      GFP_KERNEL | __GFP_MOVABLE | __GFP_RECLAIMABLE,
      GFP_KERNEL | 0x200,
      GFP_KERNEL | 0x1000000,
    ]) {
      expect(pages.allocPage(gfp)).toBe(EINVAL);
      expect(pages.allocPages(gfp, 3)).toBe(EINVAL);
    }
    expect(pages.refusedRequests).toBe(14);
    expect(pages.lastRefusal).toContain('unknown bits');
    expect(pages.nrFreePages()).toBe(pages.totalramPages);
  });

  it('group pages by pageblock', () => {
    const { pages } = testMachine({ memoryMib: 1024 });
    const user = pages.allocPage(GFP_HIGHUSER_MOVABLE);
    const kernel = pages.allocPage(GFP_KERNEL);
    const cache = pages.allocPage(GFP_KERNEL | __GFP_RECLAIMABLE);
    const types = [user, kernel, cache].map((pfn) => pages.blockTypes[pfn >>> 9]);
    expect(types).toEqual([1, 0, 2]);
    expect(new Set([user, kernel, cache].map((pfn) => pfn >>> 9)).size).toBe(3);
  });

  it('that may sleep stop the emulator where nothing may', () => {
    const { pages } = testMachine();
    pages.atomicDepth = 1;
    expect(() => pages.allocPage(GFP_KERNEL)).toThrow(KernelBug);
    expect(pages.allocPage(GFP_ATOMIC)).toBeGreaterThan(0);
  });

  it('are narrowed by what the task carries', () => {
    const seen: number[] = [];
    const { pages } = testMachine({ memoryMib: 64, hooks: { directReclaim: (gfp) => (seen.push(gfp), 0) } });
    exhaust(pages, GFP_KERNEL | __GFP_NORETRY);
    for (const flags of [PF_MEMALLOC_NOFS, PF_MEMALLOC_NOIO]) {
      pages.currentFlags = flags;
      expect(pages.allocPage(GFP_KERNEL | __GFP_NORETRY)).toBe(ENOMEM);
    }
    expect(seen.slice(-2).map((gfp) => gfp & (__GFP_IO | __GFP_FS))).toEqual([__GFP_IO, 0]);
  });
});

describe('a terabyte', () => {
  it('boots without a look at its frames, and hands out the lowest', () => {
    const { pages } = testMachine({ memoryMib: 1024 * 1024, cpus: 2 });
    expect(pages.totalramPages).toBeGreaterThan(260_000_000);
    const pfn = pages.allocPage(GFP_KERNEL);
    const normal = zoneNamed(pages, 'Normal');
    expect(pfn).toBe(normal.startPfn);
    const untouched = normal.allocator.untouched().reduce((sum, { start, end }) => sum + end - start, 0);
    expect(normal.managed - untouched).toBeLessThan(4096);
    const high = pages.allocPages(GFP_KERNEL, 10);
    pages.freePages(high, 10);
    pages.validate();
    pages.census();
  });
});

describe('migrate types', () => {
  it('of free pages add up to what is free', () => {
    const { pages } = testMachine();
    const zone = zoneNamed(pages, 'DMA32');
    pages.allocPage(GFP_KERNEL);
    expect(zone.allocator.nrFreeOfType(MIGRATE_UNMOVABLE) + zone.allocator.nrFreeOfType(MIGRATE_MOVABLE)).toBe(zone.nrFree);
  });
});
