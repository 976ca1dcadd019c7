import { Prng } from '@pagelab/lib';
import { describe, expect, it, test } from 'vitest';
import { COMPACT_DEFERRED, COMPACT_PRIO_ASYNC, COMPACT_PRIO_SYNC_LIGHT, COMPACT_SKIPPED, COMPACT_SUCCESS, compactNodes, fragmentationScoreWmark, tryToCompactPages } from './compaction.ts';
import { ZoneCompaction } from './compaction-state.ts';
import { extfragIndex, unusableIndex } from './fragmentation.ts';
import type { AllocContext } from './freelist.ts';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOFS, GFP_TRANSHUGE_LIGHT, __GFP_DIRECT_RECLAIM, __GFP_IO, __GFP_NORETRY, __GFP_NOWARN } from './gfp.ts';
import { fragmentationScoreNode } from './kcompactd.ts';
import { MIGRATE_MOVABLE } from './migratetype.ts';
import { PAGEBLOCK_ORDER } from './page.ts';
import type { PageAlloc } from './page-alloc.ts';
import { pageAllocators } from './page-allocators.ts';
import { testMachine } from './testing/machine.ts';
import { MovablePages } from './testing/movable-pages.ts';
import { VM_EVENT } from './vmstat.ts';
import type { Zone } from './zone.ts';

/** A machine full of movable pages, of which every second was freed. */
function scattered(options: Parameters<typeof testMachine>[0] = {}): { pages: PageAlloc; movable: MovablePages; zone: Zone; clock: { advance(ns: number): void; now: number } } {
  const { pages, clock } = testMachine({ memoryMib: 128, ...options });
  const movable = new MovablePages(pages);
  const owners: number[] = [];
  const { zonelists } = pages.nodes[0];
  const zone = zonelists[zonelists.length - 1][0];
  for (let owner = movable.alloc(GFP_HIGHUSER_MOVABLE & ~__GFP_DIRECT_RECLAIM); owner >= 0; owner = movable.alloc(GFP_HIGHUSER_MOVABLE & ~__GFP_DIRECT_RECLAIM)) owners.push(owner);
  for (let i = 0; i < owners.length; i += 2) movable.free(owners[i]);
  pages.drainAllPages();
  return { pages, movable, zone, clock };
}

function context(pages: PageAlloc, order: number, gfp = GFP_HIGHUSER_MOVABLE): AllocContext {
  const { zonelists } = pages.nodes[0];
  const highestIndex = zonelists.length - 1;
  return { gfp, order, highestIndex, migratetype: MIGRATE_MOVABLE, zonelist: zonelists[highestIndex], allowed: null, localNid: 0 };
}

describe.each(Object.values(pageAllocators))('compaction with $name', (pageAllocator) => {
  it('makes large blocks of scattered free pages, and loses none', () => {
    const { pages, movable, zone } = scattered({ pageAllocator });
    const free = pages.nrFreePages();
    expect(zone.nrFreeBlocks(PAGEBLOCK_ORDER)).toBe(0);
    expect(extfragIndex(zone, PAGEBLOCK_ORDER)).toBeGreaterThan(900);
    compactNodes(pages);
    expect(movable.isConsistent()).toBe(true);
    expect(movable.moved).toBeGreaterThan(4000);
    pages.validate();
    // What came free last waits on the CPU's lists.
    pages.drainAllPages();
    expect(pages.nrFreePages()).toBe(free);
    const huge = zone.nrFreeBlocks(PAGEBLOCK_ORDER) + 2 * zone.nrFreeBlocks(PAGEBLOCK_ORDER + 1);
    expect(huge).toBeGreaterThan((free / 512) * 0.7);
    expect(unusableIndex(zone, PAGEBLOCK_ORDER)).toBeLessThan(300);
    movable.freeAll();
    pages.validate();
  });

  it('serves an allocation that finds no block', () => {
    const { pages, movable } = scattered({ pageAllocator });
    const pfn = pages.allocPages(GFP_HIGHUSER_MOVABLE, 9);
    expect(pfn).toBeGreaterThan(0);
    expect(movable.isConsistent()).toBe(true);
    expect(pages.events[VM_EVENT.COMPACTSTALL]).toBe(1);
    expect(pages.events[VM_EVENT.COMPACTSUCCESS]).toBe(1);
    pages.freePages(pfn, 9);
    pages.validate();
  });

  it('survives a random run', () => {
    const { pages, smp } = testMachine({ memoryMib: 64, cpus: 2, pageAllocator });
    const movable = new MovablePages(pages);
    const prng = new Prng(7);
    const before = pages.nrFreePages();
    const owners: number[] = [];
    const fixed: { pfn: number; order: number }[] = [];
    for (let step = 0; step < 30_000; step++) {
      smp.processorId = prng.below(2);
      const act = prng.below(100);
      if (act < (step % 8000 < 5000 ? 58 : 35)) {
        const owner = movable.alloc();
        if (owner >= 0) owners.push(owner);
      } else if (act < 80) {
        if (owners.length === 0) continue;
        const at = prng.below(owners.length);
        movable.free(owners[at]);
        owners[at] = owners[owners.length - 1];
        owners.pop();
      } else if (act < 90) {
        const order = prng.below(10);
        const pfn = pages.allocPages((prng.below(2) === 0 ? GFP_KERNEL : GFP_HIGHUSER_MOVABLE) | __GFP_NOWARN, order);
        if (pfn >= 0) fixed.push({ pfn, order });
      } else if (act < 99) {
        const block = fixed.splice(prng.below(Math.max(1, fixed.length)), 1)[0];
        if (block !== undefined) pages.freePages(block.pfn, block.order);
      } else if (prng.below(20) === 0) compactNodes(pages);
      if (step % 3000 === 0) {
        pages.validate();
        expect(movable.isConsistent()).toBe(true);
      }
    }
    expect(movable.moved).toBeGreaterThan(100);
    movable.freeAll();
    for (const { pfn, order } of fixed) pages.freePages(pfn, order);
    pages.drainAllPages();
    pages.validate();
    expect(pages.nrFreePages() + pages.zones.reduce((sum, zone) => sum + zone.nrPcpPages(), 0)).toBe(before);
  });
});

describe('who compacts', () => {
  it('is nobody where too few pages are free to move others to', () => {
    const { pages } = testMachine({ memoryMib: 128 });
    const movable = new MovablePages(pages);
    while (movable.alloc(GFP_HIGHUSER_MOVABLE & ~__GFP_DIRECT_RECLAIM) >= 0) { /* until it is full */ }
    expect(tryToCompactPages(pages, context(pages, 4), 0, COMPACT_PRIO_SYNC_LIGHT)).toBe(COMPACT_SKIPPED);
    expect(pages.allocPages(GFP_KERNEL | __GFP_NOWARN | __GFP_NORETRY, 4)).toBe(-12);
    expect(pages.events[VM_EVENT.COMPACTSTALL]).toBe(0);
  });

  it('is nobody who may not do I/O, nor for a single page', () => {
    const { pages } = scattered();
    pages.allocPages((GFP_NOFS & ~__GFP_IO) | __GFP_NOWARN | __GFP_NORETRY, 5);
    pages.allocPages(GFP_KERNEL, 0);
    expect(pages.events[VM_EVENT.COMPACTSTALL] + pages.events[VM_EVENT.COMPACTMIGRATE_SCANNED]).toBe(0);
  });

  it('tries a zone where it failed less and less often', () => {
    const { pages, movable, zone } = scattered();
    for (const pfn of movable.pfnOf.values()) movable.pinned.add(pfn);
    const ask = (): number => tryToCompactPages(pages, context(pages, 9), 0, COMPACT_PRIO_SYNC_LIGHT);
    const results = Array.from({ length: 16 }, ask);
    expect(results[0]).not.toBe(COMPACT_DEFERRED);
    expect(results.filter((result) => result !== COMPACT_DEFERRED).length).toBeLessThan(6);
    expect(zone.compact.deferShift).toBeGreaterThan(2);
    expect(zone.compact.orderFailed).toBeLessThanOrEqual(9);
    // What waits for nothing asks the zone all the same, but does not put it off.
    movable.pinned.clear();
    zone.compact.deferReset(9, true);
    expect(tryToCompactPages(pages, context(pages, 3), 0, COMPACT_PRIO_ASYNC)).toBe(COMPACT_SUCCESS);
  });

  it('counts as failed where the block is not to be had', () => {
    const { pages, movable } = scattered();
    for (const pfn of movable.pfnOf.values()) movable.pinned.add(pfn);
    expect(pages.allocPages(GFP_TRANSHUGE_LIGHT | __GFP_DIRECT_RECLAIM | __GFP_IO, 9)).toBeLessThan(0);
    expect(pages.events[VM_EVENT.COMPACTSTALL]).toBeGreaterThan(0);
    expect(pages.events[VM_EVENT.COMPACTFAIL]).toBe(pages.events[VM_EVENT.COMPACTSTALL]);
  });

  it('is kcompactd, when it was woken', () => {
    const { pages, zone, movable } = scattered();
    const [kcompactd] = pages.kcompactd;
    kcompactd.run(0);
    expect(pages.events[VM_EVENT.KCOMPACTD_WAKE]).toBe(0);
    kcompactd.wake(9, zone.index);
    kcompactd.run(0);
    expect(pages.events[VM_EVENT.KCOMPACTD_WAKE]).toBe(1);
    expect(pages.events[VM_EVENT.KCOMPACTD_MIGRATE_SCANNED]).toBeGreaterThan(0);
    expect(zone.allocator.hasFree(9, 1 << MIGRATE_MOVABLE)).toBe(true);
    expect(movable.isConsistent()).toBe(true);
    kcompactd.run(0);
    expect(pages.events[VM_EVENT.KCOMPACTD_WAKE]).toBe(1);
  });

  it('is kcompactd unasked, as far as compaction_proactiveness has it', () => {
    const { pages } = scattered();
    const [kcompactd] = pages.kcompactd;
    const [node] = pages.nodes;
    expect(fragmentationScoreNode(node)).toBeGreaterThan(90);
    pages.compaction.proactiveness = 0;
    kcompactd.run(1e9);
    expect(fragmentationScoreNode(node)).toBeGreaterThan(90);
    pages.compaction.proactiveness = 40;
    expect([fragmentationScoreWmark(pages, true), fragmentationScoreWmark(pages, false)]).toEqual([60, 70]);
    kcompactd.trigger();
    kcompactd.run(1e9);
    expect(fragmentationScoreNode(node)).toBeLessThanOrEqual(70);
    expect(pages.events[VM_EVENT.KCOMPACTD_WAKE]).toBe(0);
    pages.validate();
  });
});

test('a zone is put off at most 64 times, and then scanned anew', () => {
  const state = new ZoneCompaction({ startPfn: 4096, endPfn: 40_000, pageblockPages: 512 });
  state.deferReset(3, true);
  expect(state.orderFailed).toBe(4);
  for (let i = 0; i < 9; i++) state.defer(5);
  let deferred = 0;
  while (state.deferred(5)) deferred++;
  expect(deferred).toBe(63);
  expect(state.restarting(5)).toBe(true);
  expect(state.deferred(3)).toBe(false);
  state.deferReset(5, true);
  expect(state.deferred(5)).toBe(false);
});
