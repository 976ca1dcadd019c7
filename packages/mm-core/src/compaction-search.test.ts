/** How compaction finds its way: searches of the free lists, skip hints, and the block it catches. */
import { Prng } from '@pagelab/lib';
import { describe, expect, it } from 'vitest';
import { ALLOC_CMA } from './alloc-flags.ts';
import { COMPACT_SUCCESS, COMPACT_PRIO_SYNC_LIGHT, compactNodes, tryToCompactPages } from './compaction.ts';
import { COMPACT_ALL, noFreePages, resetIsolationSuitable } from './compaction-control.ts';
import type { CompactControl } from './compaction-control.ts';
import { fastFindMigrateblock, fastIsolateFreepages } from './compaction-fast.ts';
import { releaseFreeList } from './compaction-free.ts';
import type { AllocContext } from './freelist.ts';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_TRANSHUGE_LIGHT, __GFP_DIRECT_RECLAIM } from './gfp.ts';
import { resetIsolationSuitableNode } from './kcompactd.ts';
import { MIGRATE_MOVABLE, MIGRATE_UNMOVABLE } from './migratetype.ts';
import { MIGRATE_SYNC_LIGHT } from './migration-ops.ts';
import type { PageAlloc } from './page-alloc.ts';
import { pageAllocators } from './page-allocators.ts';
import { testMachine } from './testing/machine.ts';
import { MovablePages } from './testing/movable-pages.ts';
import { VM_EVENT } from './vmstat.ts';
import type { Zone } from './zone.ts';

const NO_RECLAIM = GFP_HIGHUSER_MOVABLE & ~__GFP_DIRECT_RECLAIM;

interface Full {
  readonly pages: PageAlloc;
  readonly zone: Zone;
  readonly movable: MovablePages;
  /** Owner of each frame. */
  readonly ownerOf: Map<number, number>;
}

/** A machine full of movable pages; what is freed then is where a test has it. */
function full(options: Parameters<typeof testMachine>[0] = {}): Full {
  const { pages } = testMachine({ memoryMib: 128, ...options });
  const movable = new MovablePages(pages);
  while (movable.alloc(NO_RECLAIM) >= 0) { /* until it is full */ }
  const ownerOf = new Map([...movable.pfnOf].map(([owner, pfn]) => [pfn, owner]));
  const { zonelists } = pages.nodes[0];
  return { pages, zone: zonelists[zonelists.length - 1][0], movable, ownerOf };
}

/** Frees `[pfn, pfn + count)`. */
function release({ movable, ownerOf, pages }: Full, pfn: number, count: number): void {
  for (let frame = pfn; frame < pfn + count; frame++) movable.free(ownerOf.get(frame)!);
  pages.drainAllPages();
}

/** A pageblock, counted from the zone's first whole one, all of whose frames are movable pages. */
function pageblocks({ zone, ownerOf }: Full): number[] {
  const blocks: number[] = [];
  for (let block = Math.ceil(zone.startPfn / 512) * 512; block + 512 <= zone.endPfn; block += 512) {
    if (Array.from({ length: 512 }, (_, i) => ownerOf.has(block + i)).every(Boolean)) blocks.push(block);
  }
  return blocks;
}

function control(zone: Zone, order: number, more: Partial<CompactControl> = {}): CompactControl {
  return {
    zone, order, gfp: GFP_KERNEL, migratetype: MIGRATE_MOVABLE, allocFlags: 0, highestIndex: 0, mode: MIGRATE_SYNC_LIGHT, direct: true, proactive: false,
    ignoreSkipHint: false, ignoreBlockSuitable: false, wholeZone: false, finishPageblock: false,
    migratePfn: zone.startPfn, freePfn: (zone.endPfn - 1) & -512, migratePages: [], nrMigratePages: 0, freePages: noFreePages(), nrFreePages: 0,
    migrateScanned: 0, freeScanned: 0, fastSearchFail: 0, searchOrder: order, fastStartPfn: 0, ...more,
  };
}

function context(pages: PageAlloc, order: number): AllocContext {
  const { zonelists } = pages.nodes[0];
  const highestIndex = zonelists.length - 1;
  return { gfp: GFP_HIGHUSER_MOVABLE, order, highestIndex, migratetype: MIGRATE_MOVABLE, zonelist: zonelists[highestIndex], allowed: null, localNid: 0 };
}

describe('the search for pages to move', () => {
  it('finds a pageblock near the bottom that has a large free block, another the next time', () => {
    const machine = full();
    const { pages, zone } = machine;
    const blocks = pageblocks(machine);
    release(machine, blocks[3] + 64, 64);
    release(machine, blocks[5] + 128, 64);
    release(machine, blocks[blocks.length - 2] + 128, 128);
    const cc = control(zone, 9);
    // Those with a hint are passed over.
    const found: number[] = [];
    while (cc.fastSearchFail === 0 && found.length < 100) {
      const block = fastFindMigrateblock(pages, cc);
      pages.compaction.skip[block >>> 9] = 1;
      found.push(block);
    }
    const last = found.pop();
    expect(found).toEqual(expect.arrayContaining([blocks[3], blocks[5]]));
    expect(found).not.toContain(blocks[blocks.length - 2]);
    expect(new Set(found).size).toBe(found.length);
    expect(cc.migrateScanned).toBeGreaterThan(found.length - 1);
    // Then it goes on, once, from the lowest that was ever found.
    expect([last! & -512, cc.fastStartPfn]).toEqual([Math.min(...found), Infinity]);
    expect(fastFindMigrateblock(pages, cc)).toBe(last);
    pages.validate();
  });

  it('is not made for small blocks, for what does not move, in the midst of a pageblock, nor where hints are ignored', () => {
    const machine = full();
    const { pages, zone } = machine;
    release(machine, pageblocks(machine)[3], 64);
    const at = (order: number, more: Partial<CompactControl> = {}): boolean => {
      const cc = control(zone, order, more);
      return fastFindMigrateblock(pages, cc) === (more.migratePfn ?? zone.startPfn) && cc.migrateScanned === 0;
    };
    expect(at(9)).toBe(false);
    expect([at(3), at(9, { migratetype: MIGRATE_UNMOVABLE }), at(9, { migratePfn: zone.startPfn + 5 }), at(COMPACT_ALL, { ignoreSkipHint: true })]).toEqual([true, true, true, true]);
  });
});

describe('the search for free pages', () => {
  it('takes a block from the upper part, and what is free around it', () => {
    const machine = full();
    const { pages, zone } = machine;
    const blocks = pageblocks(machine);
    const top = blocks[blocks.length - 1];
    release(machine, blocks[0], 8);
    release(machine, top + 16, 8);
    release(machine, top + 64, 4);
    const free = zone.nrFree;
    const cc = control(zone, 9, { nrMigratePages: 12 });
    fastIsolateFreepages(pages, cc);
    expect(cc.nrFreePages).toBe(12);
    expect(cc.freePages[3]).toEqual([top + 16]);
    expect(cc.freePages[2]).toEqual([top + 64]);
    expect(zone.nrFree).toBe(free - 12);
    expect(pages.events[VM_EVENT.COMPACTISOLATED]).toBe(12);
    expect(releaseFreeList(pages, cc)).toBe(top + 64);
    pages.drainAllPages();
    pages.validate();
  });

  it('finds none where all that is free lies low', () => {
    const machine = full();
    const { pages, zone } = machine;
    release(machine, pageblocks(machine)[0], 8);
    const cc = control(zone, 9, { nrMigratePages: 4 });
    zone.compact.initFreePfn = zone.endPfn;
    fastIsolateFreepages(pages, cc);
    expect([cc.nrFreePages, cc.fastSearchFail]).toEqual([0, 1]);
    expect(cc.freeScanned).toBeGreaterThan(0);
  });
});

it('lists of the buddy system turn round as asked', () => {
  const { pages } = testMachine({ memoryMib: 64 });
  const zone = pages.zones[1];
  const lists = zone.allocator.freeLists!;
  const held = Array.from({ length: 400 }, () => pages.allocPage(GFP_HIGHUSER_MOVABLE));
  for (let i = 0; i < 400; i += 2) pages.freePage(held[i]);
  pages.drainAllPages();
  const list = (): number[] => {
    const forward: number[] = [];
    const backward: number[] = [];
    lists.search(0, MIGRATE_MOVABLE, (pfn) => forward.push(pfn) === 0);
    lists.searchFromEnd(0, MIGRATE_MOVABLE, (pfn) => backward.push(pfn) === 0);
    expect(backward.reverse()).toEqual(forward);
    return forward;
  };
  const prng = new Prng(3);
  let model = list();
  expect(model.length).toBeGreaterThan(50);
  for (let step = 0; step < 200; step++) {
    const at = prng.below(model.length);
    if (prng.below(2) === 0) {
      lists.makeFirst(0, MIGRATE_MOVABLE, model[at]);
      model = [...model.slice(at), ...model.slice(0, at)];
    } else {
      lists.makeLast(0, MIGRATE_MOVABLE, model[at]);
      model = [...model.slice(at + 1), ...model.slice(0, at + 1)];
    }
    expect(list()).toEqual(model);
  }
  pages.validate();
});

describe.each(Object.values(pageAllocators))('a block that comes free while pages move, with $name', (pageAllocator) => {
  it('is caught for who waits for it', () => {
    const machine = full({ pageAllocator });
    const { pages, zone, movable } = machine;
    [...movable.pfnOf.keys()].forEach((owner, i) => i % 2 === 0 && movable.free(owner));
    pages.drainAllPages();
    const { nrFree } = zone;
    const captured = { pfn: -1 };
    expect(tryToCompactPages(pages, context(pages, 9), ALLOC_CMA, COMPACT_PRIO_SYNC_LIGHT, captured)).toBe(COMPACT_SUCCESS);
    expect(captured.pfn % 512).toBe(0);
    expect([zone.capture, zone.freeOrderAt(captured.pfn)]).toEqual([null, -1]);
    pages.prepNewPage(captured.pfn, 9, GFP_HIGHUSER_MOVABLE);
    pages.drainAllPages();
    expect(zone.nrFree).toBe(nrFree - 512);
    pages.freePages(captured.pfn, 9);
    pages.drainAllPages();
    pages.validate();
    expect(movable.isConsistent()).toBe(true);
  });
});

it('a block of kernel pages is not caught in a movable pageblock', () => {
  const { pages } = testMachine();
  const zone = pages.zones[1];
  const pfn = zone.take(0, MIGRATE_MOVABLE, 0);
  zone.capture = { order: 0, migratetype: MIGRATE_UNMOVABLE, pfn: -1 };
  zone.give(pfn, 0, MIGRATE_MOVABLE);
  expect(zone.capture.pfn).toBe(-1);
  zone.capture = { order: 0, migratetype: MIGRATE_MOVABLE, pfn: -1 };
  zone.takeAt(pfn, 0);
  zone.give(pfn, 0, MIGRATE_MOVABLE);
  expect([zone.capture.pfn, zone.freeOrderAt(pfn)]).toEqual([pfn, -1]);
});

describe('skip hints', () => {
  it('are set where pages were taken or not to be had, and spare the next run the way', () => {
    const { pages, movable, zone } = full();
    [...movable.pfnOf.keys()].forEach((owner, i) => i % 3 === 0 && movable.free(owner));
    pages.drainAllPages();
    for (const pfn of movable.pfnOf.values()) movable.pinned.add(pfn);
    const scan = (): number => {
      const before = pages.events[VM_EVENT.COMPACTMIGRATE_SCANNED];
      zone.compact.deferReset(9, true);
      tryToCompactPages(pages, context(pages, 9), ALLOC_CMA, COMPACT_PRIO_SYNC_LIGHT);
      return pages.events[VM_EVENT.COMPACTMIGRATE_SCANNED] - before;
    };
    const first = scan();
    expect(first).toBeGreaterThan(4000);
    expect(pages.compaction.skip.some((hint) => hint !== 0)).toBe(true);
    // What the searches led past, the next one looks at.
    scan();
    expect(scan()).toBeLessThan(first / 10);
    // Until kswapd goes to sleep: then those are forgotten that hold something.
    expect(zone.compact.blockskipFlush).toBe(true);
    resetIsolationSuitableNode(pages, pages.nodes[0]);
    expect(zone.compact.blockskipFlush).toBe(false);
    expect(zone.compact.cachedMigratePfn[0]).toBe(zone.compact.initMigratePfn);
    expect(zone.compact.cachedFreePfn).toBe(zone.compact.initFreePfn);
    expect(scan()).toBeGreaterThan(first / 4);
  });

  it('stay where a pageblock holds nothing to move and nothing free, or where nobody asked', () => {
    const machine = full();
    const { pages, zone, ownerOf } = machine;
    const blocks = pageblocks(machine);
    // Without a page on a list, the pageblock is of no use.
    for (let pfn = blocks[2]; pfn < blocks[2] + 512; pfn++) pages.frames.flags[pfn] &= ~(1 << 4);
    pages.compaction.skip.fill(1);
    resetIsolationSuitable(pages, zone);
    expect(pages.compaction.skip[blocks[2] >>> 9]).toBe(1);
    expect(pages.compaction.skip[blocks[3] >>> 9]).toBe(1);
    zone.compact.blockskipFlush = true;
    resetIsolationSuitable(pages, zone);
    expect([pages.compaction.skip[blocks[2] >>> 9], pages.compaction.skip[blocks[3] >>> 9]]).toEqual([1, 0]);
    expect(ownerOf.size).toBeGreaterThan(0);
  });
});

it('frames passed over count as scanned since 6.4', () => {
  const scanned = (kernel: '6.1' | '6.18'): number => {
    const { pages } = testMachine({ memoryMib: 128, kernel });
    new MovablePages(pages);
    compactNodes(pages);
    return pages.events[VM_EVENT.COMPACTMIGRATE_SCANNED];
  };
  expect(scanned('6.18') - scanned('6.1')).toBeGreaterThan(5000);
});

it('an allocation of a huge page gets the one that was caught', () => {
  const { pages, movable } = full();
  [...movable.pfnOf.keys()].forEach((owner, i) => i % 2 === 0 && movable.free(owner));
  const before = pages.zones.reduce((sum, zone) => sum + zone.managed, 0);
  const pfn = pages.allocPages(GFP_TRANSHUGE_LIGHT | __GFP_DIRECT_RECLAIM | (GFP_KERNEL & ~__GFP_DIRECT_RECLAIM), 9);
  expect(pfn).toBeGreaterThan(0);
  expect([pages.frames.refcount[pfn], pages.events[VM_EVENT.COMPACTSUCCESS]]).toEqual([1, 1]);
  pages.freePages(pfn, 9);
  movable.freeAll();
  pages.drainAllPages();
  pages.validate();
  expect(pages.nrFreePages()).toBe(before);
});
