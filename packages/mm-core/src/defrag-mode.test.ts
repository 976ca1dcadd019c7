/** `defrag_mode`: pageblocks are not mixed as long as anything else is left to try. */
import { describe, expect, it } from 'vitest';
import { WMARK_HIGH, WMARK_MIN } from './alloc-flags.ts';
import { COMPACT_CONTINUE, COMPACT_SUCCESS, compactionSuitAllocationOrder } from './compaction.ts';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL, __GFP_DIRECT_RECLAIM, __GFP_NORETRY, __GFP_NOWARN } from './gfp.ts';
import { MIGRATE_MOVABLE } from './migratetype.ts';
import type { PageAlloc } from './page-alloc.ts';
import { testMachine } from './testing/machine.ts';
import { MovablePages } from './testing/movable-pages.ts';
import { ZONE_STAT } from './vmstat.ts';

/** A machine full of movable pages, every third of which was freed: no pageblock is the kernel's, and none can be claimed. */
function mixedUp(defragMode: boolean): { pages: PageAlloc; movable: MovablePages } {
  const { pages } = testMachine({ memoryMib: 128 });
  pages.sysctl.defragMode = defragMode;
  const movable = new MovablePages(pages);
  while (movable.alloc(GFP_HIGHUSER_MOVABLE & ~__GFP_DIRECT_RECLAIM) >= 0) { /* until it is full */ }
  [...movable.pfnOf.keys()].forEach((owner, i) => i % 3 === 0 && movable.free(owner));
  pages.drainAllPages();
  return { pages, movable };
}

/** Allocates for the kernel what there is; how many of the pages lie in movable pageblocks. */
function mixedPages(pages: PageAlloc, gfp: number, count: number): number {
  let mixed = 0;
  for (let i = 0; i < count; i++) {
    const pfn = pages.allocPage(gfp);
    if (pfn >= 0 && pages.pageblockType(pfn) === MIGRATE_MOVABLE) mixed++;
  }
  return mixed;
}

describe('an allocation of the kernel', () => {
  it('that may not try hard fails rather than mix pageblocks, which it does otherwise', () => {
    const gfp = (GFP_KERNEL & ~__GFP_DIRECT_RECLAIM) | __GFP_NOWARN;
    expect(mixedPages(mixedUp(false).pages, gfp, 3000)).toBeGreaterThan(500);
    const { pages } = mixedUp(true);
    expect(mixedPages(pages, gfp | __GFP_NORETRY, 3000)).toBe(0);
    pages.validate();
  });

  it('that may mixes them before anybody is killed', () => {
    const { pages, movable } = mixedUp(true);
    let killed = 0;
    pages.hooks.outOfMemory = () => {
      killed++;
      return false;
    };
    for (const pfn of movable.pfnOf.values()) movable.pinned.add(pfn);
    expect(mixedPages(pages, GFP_KERNEL | __GFP_NOWARN, 3000)).toBeGreaterThan(500);
    expect(killed).toBe(0);
    pages.validate();
  });

  it('wakes kswapd for whole pageblocks', () => {
    const orders: number[] = [];
    const { pages } = mixedUp(true);
    pages.hooks.wakeKswapd = (_, order) => orders.push(order);
    mixedPages(pages, (GFP_KERNEL & ~__GFP_DIRECT_RECLAIM) | __GFP_NOWARN, 100);
    pages.sysctl.defragMode = false;
    const before = orders.length;
    expect(orders).toContain(9);
    mixedPages(pages, (GFP_KERNEL & ~__GFP_DIRECT_RECLAIM) | __GFP_NOWARN, 12_000);
    expect(orders.slice(before).every((order) => order === 0)).toBe(true);
  });
});

it('kcompactd reckons with whole pageblocks and the high watermark; without, with the min watermark', () => {
  const { pages, movable } = mixedUp(false);
  const zone = pages.zones[1];
  pages.sysctl.setMinFreeKbytes(4096);
  expect(zone.state(ZONE_STAT.NR_FREE_PAGES_BLOCKS)).toBe(0);
  const suits = (wmark: number, free: number): number => compactionSuitAllocationOrder(pages, zone, 0, zone.index, wmark, false, free);
  expect([suits(WMARK_MIN, zone.nrFree), suits(WMARK_HIGH, 0)]).toEqual([COMPACT_SUCCESS, COMPACT_CONTINUE]);
  const [kcompactd] = pages.kcompactd;
  const blocks = (): number => {
    kcompactd.wake(9, zone.index);
    kcompactd.run(0);
    return zone.state(ZONE_STAT.NR_FREE_PAGES_BLOCKS);
  };
  const one = blocks();
  expect(one).toBeLessThan(zone.wmarkPages(WMARK_HIGH));
  pages.sysctl.defragMode = true;
  expect(blocks()).toBeGreaterThanOrEqual(zone.wmarkPages(WMARK_HIGH));
  expect(movable.isConsistent()).toBe(true);
  pages.validate();
});
