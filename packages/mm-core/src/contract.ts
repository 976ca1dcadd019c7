/**
 * What every page allocator must do. An author of one runs this suite in their own tests:
 *
 *     import { pageAllocatorContract } from '@pagelab/mm-core/contract';
 *     pageAllocatorContract(myAllocator);
 */
import { describe, expect, it } from 'vitest';
import { Prng } from '@pagelab/lib';
import { ALLOC_CMA, ALLOC_HIGHATOMIC } from './alloc-flags.ts';
import { MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_PCPTYPES, MIGRATE_TYPES } from './migratetype.ts';
import { MAX_PAGE_ORDER, NR_PAGE_ORDERS, PAGEBLOCK_ORDER, PageFrames } from './page.ts';
import type { FrameRange, PageAllocator, PageAllocatorFactory } from './page-allocator.ts';
import { Zone } from './zone.ts';
import { ZONE_NORMAL } from './zone-types.ts';

const SEED = 0x5eed;
/** The types that need no leave. */
const ORDINARY_TYPES = (1 << MIGRATE_PCPTYPES) - 1;

/** Pageblocks of 2 MiB, and of 4. */
const PAGEBLOCK_ORDERS: readonly number[] = [PAGEBLOCK_ORDER, MAX_PAGE_ORDER];

/** A zone over `ranges`, which the allocator under test serves. */
function makeZone(factory: PageAllocatorFactory, ranges: readonly FrameRange[], pageblockOrder = PAGEBLOCK_ORDER): Zone {
  const startPfn = ranges[0]?.start ?? 1;
  const endPfn = ranges.at(-1)?.end ?? 1;
  const frames = new PageFrames(endPfn + 1);
  const blockTypes = new Uint8Array(((endPfn - 1) >>> pageblockOrder) + 1).fill(MIGRATE_MOVABLE);
  const present = ranges.reduce((pages, { start, end }) => pages + end - start, 0);
  const shape = { nid: 0, index: 0, kind: ZONE_NORMAL, startPfn, endPfn, present };
  const zone = new Zone(shape, frames, blockTypes, { nrCpus: 1, nrZones: 1, pageAllocator: factory, pageblockOrder, onFallback: () => {} });
  typesOf.set(zone, blockTypes);
  for (const { start, end } of ranges) zone.addManaged(start, end);
  return zone;
}

/** Migrate types of the pageblocks, for {@link give}. */
const typesOf = new WeakMap<Zone, Uint8Array>();

function give(zone: Zone, pfn: number, order: number): void {
  zone.give(pfn, order, typesOf.get(zone)?.[pfn >>> zone.pageblockOrder] ?? MIGRATE_MOVABLE);
}

/** Takes blocks of `order` until there is none. */
function exhaust(zone: Zone, order: number): number[] {
  const blocks: number[] = [];
  for (let pfn = zone.take(order, MIGRATE_MOVABLE, 0); pfn >= 0; pfn = zone.take(order, MIGRATE_MOVABLE, 0)) blocks.push(pfn);
  return blocks;
}

/** Free pages as the counts of blocks tell. */
function countedPages(allocator: PageAllocator): number {
  let pages = 0;
  for (let order = 0; order < NR_PAGE_ORDERS; order++) {
    for (let type = 0; type < MIGRATE_TYPES; type++) pages += allocator.nrFreeBlocks(order, type) * 2 ** order;
  }
  return pages;
}

/** Runs the suite: a `describe` block named after the allocator. */
export function pageAllocatorContract(factory: PageAllocatorFactory): void {
  describe(`page allocator ${factory.name}`, () => {
    const aligned: readonly FrameRange[] = [{ start: 1024, end: 1024 + 8 * 1024 }];
    // Starts and ends at odd places, with holes smaller and larger than a block.
    const ragged: readonly FrameRange[] = [
      { start: 1, end: 159 },
      { start: 256, end: 3001 },
      { start: 3007, end: 6000 },
      { start: 9216, end: 9217 },
      { start: 10_240, end: 12_287 },
    ];

    it('hands out every frame once, and then none', () => {
      for (const ranges of [aligned, ragged]) {
        const zone = makeZone(factory, ranges);
        const managed = zone.managed;
        expect(zone.allocator.nrFree).toBe(managed);
        const pages = exhaust(zone, 0);
        expect(zone.refusals).toBe(0);
        expect(new Set(pages).size).toBe(managed);
        expect(pages.every((pfn) => ranges.some(({ start, end }) => pfn >= start && pfn < end))).toBe(true);
        expect(zone.allocator.nrFree).toBe(0);
        expect(zone.allocator.hasFree(0, (1 << MIGRATE_TYPES) - 1)).toBe(false);
        zone.validate();
      }
    });

    it('gives aligned blocks of every order, inside the ranges', () => {
      for (let order = 0; order < NR_PAGE_ORDERS; order++) {
        const zone = makeZone(factory, ragged);
        const blocks = exhaust(zone, order);
        expect(zone.refusals).toBe(0);
        for (const pfn of blocks) {
          expect(pfn % (1 << order)).toBe(0);
          expect(ragged.some(({ start, end }) => pfn >= start && pfn + (1 << order) <= end)).toBe(true);
        }
        // As many as the ranges hold.
        const held = ragged.reduce((sum, { start, end }) => {
          const size = 1 << order;
          return sum + Math.max(0, Math.floor(end / size) - Math.ceil(start / size));
        }, 0);
        expect(blocks.length).toBe(held);
        zone.validate();
      }
    });

    it('has the largest blocks again when everything was freed, in whatever order', () => {
      const prng = new Prng(SEED);
      for (const ranges of [aligned, ragged]) {
        const zone = makeZone(factory, ranges);
        const before = Array.from({ length: NR_PAGE_ORDERS }, (_, order) => zone.nrFreeBlocks(order));
        const pages = exhaust(zone, 0);
        for (let i = pages.length - 1; i > 0; i--) {
          const j = prng.below(i + 1);
          [pages[i], pages[j]] = [pages[j] ?? 0, pages[i] ?? 0];
        }
        for (const pfn of pages) give(zone, pfn, 0);
        expect(Array.from({ length: NR_PAGE_ORDERS }, (_, order) => zone.nrFreeBlocks(order))).toEqual(before);
        zone.validate();
      }
    });

    it('counts what it has', () => {
      const zone = makeZone(factory, ragged);
      const { allocator } = zone;
      const check = (): void => {
        expect(countedPages(allocator)).toBe(allocator.nrFree);
        let listed = allocator.untouched().reduce((pages, { start, end }) => pages + end - start, 0);
        allocator.forEachFree((_, order) => (listed += 1 << order));
        expect(listed).toBe(allocator.nrFree);
        let ofTypes = 0;
        for (let type = 0; type < MIGRATE_TYPES; type++) ofTypes += allocator.nrFreeOfType(type);
        expect(ofTypes).toBe(allocator.nrFree);
      };
      check();
      const blocks = [0, 3, 9, 10, 1].map((order) => ({ pfn: zone.take(order, MIGRATE_MOVABLE, 0), order }));
      check();
      for (const { pfn, order } of blocks) if (pfn >= 0) give(zone, pfn, order);
      check();
    });

    it('survives a random run, checked at intervals', () => {
      for (const ranges of [aligned, ragged]) {
        const prng = new Prng(SEED);
        const zone = makeZone(factory, ranges);
        const before = Array.from({ length: NR_PAGE_ORDERS }, (_, order) => zone.nrFreeBlocks(order));
        const held: { pfn: number; order: number }[] = [];
        for (let step = 0; step < 20_000; step++) {
          const filling = step % 4000 < 2400;
          if (held.length > 0 && prng.below(8) >= (filling ? 5 : 3)) {
            const [block] = held.splice(prng.below(held.length), 1);
            if (block !== undefined) give(zone, block.pfn, block.order);
          } else {
            const order = Math.min(prng.below(MAX_PAGE_ORDER + 1), prng.below(MAX_PAGE_ORDER + 1));
            const pfn = zone.take(order, prng.below(MIGRATE_PCPTYPES), 0);
            if (pfn >= 0) held.push({ pfn, order });
          }
          if (step % 500 === 0) zone.validate();
        }
        expect(zone.refusals).toBe(0);
        for (const { pfn, order } of held) give(zone, pfn, order);
        zone.validate();
        expect(zone.allocator.nrFree).toBe(zone.managed);
        expect(Array.from({ length: NR_PAGE_ORDERS }, (_, order) => zone.nrFreeBlocks(order))).toEqual(before);
      }
    });

    it('hands out what is set apart only to those who may have it', () => {
      const cases = [[MIGRATE_HIGHATOMIC, ALLOC_HIGHATOMIC], [MIGRATE_CMA, ALLOC_CMA], [MIGRATE_ISOLATE, 0]] as const;
      for (const [type, flags, pageblockOrder] of PAGEBLOCK_ORDERS.flatMap((order) => cases.map((each) => [...each, order] as const))) {
        const zone = makeZone(factory, aligned, pageblockOrder);
        const { pageblockPages } = zone;
        // So that the zone counts what is free of these types.
        if (type === MIGRATE_HIGHATOMIC) zone.nrReservedHighatomic = pageblockPages;
        if (type === MIGRATE_CMA) zone.cmaPages = pageblockPages;
        const first = zone.take(0, MIGRATE_MOVABLE, 0);
        const block = 1024 + 5 * pageblockPages;
        const isInside = (pfn: number): boolean => pfn >= block && pfn < block + pageblockPages;
        expect(zone.setBlockType(block, type)).toBe(pageblockPages);
        expect(zone.allocator.nrFreeOfType(type)).toBe(pageblockPages);
        expect(zone.allocator.nrFreeBlocks(pageblockOrder, type)).toBe(1);
        zone.validate();
        const pages = exhaust(zone, 0);
        expect(pages.some(isInside)).toBe(false);
        expect(pages.length).toBe(zone.managed - pageblockPages - 1);
        expect(zone.allocator.hasFree(0, ORDINARY_TYPES)).toBe(false);
        expect(zone.allocator.hasFree(pageblockOrder, 1 << type)).toBe(true);
        if (flags !== 0) {
          const pfn = zone.take(3, MIGRATE_MOVABLE, flags);
          expect(isInside(pfn)).toBe(true);
          zone.validate();
          give(zone, pfn, 3);
        }
        // What comes back to a pageblock has its type.
        for (const pfn of pages) give(zone, pfn, 0);
        expect(zone.allocator.nrFreeOfType(type)).toBe(pageblockPages);
        expect(zone.setBlockType(block, MIGRATE_MOVABLE)).toBe(pageblockPages);
        zone.validate();
        give(zone, first, 0);
        expect(exhaust(zone, 0).length).toBe(zone.managed);
        expect(zone.refusals).toBe(0);
      }
    });

    it('survives pageblocks that are isolated and come back at random', () => {
      for (const [ranges, pageblockOrder] of [[aligned, 9], [ragged, 9], [aligned, 10], [ragged, 10]] as const) {
        const prng = new Prng(SEED + 1);
        const zone = makeZone(factory, ranges, pageblockOrder);
        const { pageblockPages } = zone;
        const isolated = new Set<number>();
        const held: { pfn: number; order: number }[] = [];
        const firstBlock = Math.ceil(zone.startPfn / pageblockPages);
        const nrBlocks = Math.floor(zone.endPfn / pageblockPages) - firstBlock;
        for (let step = 0; step < 6000; step++) {
          const act = prng.below(20);
          if (act === 0) {
            const block = firstBlock + prng.below(nrBlocks);
            const back = isolated.delete(block);
            if (!back) isolated.add(block);
            zone.setBlockType(block * pageblockPages, back ? MIGRATE_MOVABLE : MIGRATE_ISOLATE);
          } else if (held.length > 0 && act >= (step % 2000 < 1200 ? 13 : 8)) {
            const [block] = held.splice(prng.below(held.length), 1);
            if (block !== undefined) give(zone, block.pfn, block.order);
          } else {
            const order = Math.min(prng.below(pageblockOrder + 1), prng.below(pageblockOrder + 1));
            const pfn = zone.take(order, prng.below(MIGRATE_PCPTYPES), 0);
            if (pfn < 0) continue;
            expect(isolated.has(Math.floor(pfn / pageblockPages))).toBe(false);
            held.push({ pfn, order });
          }
          if (step % 300 === 0) zone.validate();
        }
        for (const block of isolated) zone.setBlockType(block * pageblockPages, MIGRATE_MOVABLE);
        for (const { pfn, order } of held) give(zone, pfn, order);
        zone.validate();
        expect(zone.allocator.nrFree).toBe(zone.managed);
        expect(zone.refusals).toBe(0);
        expect(exhaust(zone, 0).length).toBe(zone.managed);
      }
    });

    it('takes given blocks that are free, and no others', () => {
      for (const [ranges, pageblockOrder] of [[aligned, 9], [ragged, 9], [aligned, 10], [ragged, 10]] as const) {
        const prng = new Prng(SEED + 2);
        const zone = makeZone(factory, ranges, pageblockOrder);
        const held: { pfn: number; order: number }[] = [];
        const isTaken = (pfn: number): boolean => zone.freeOrderAt(pfn) < 0;
        for (let step = 0; step < 6000; step++) {
          const act = prng.below(20);
          if (held.length > 0 && act >= 13) {
            const [block] = held.splice(prng.below(held.length), 1);
            if (block !== undefined) give(zone, block.pfn, block.order);
          } else if (act >= 10) {
            const order = Math.min(prng.below(pageblockOrder + 1), prng.below(pageblockOrder + 1));
            const pfn = zone.take(order, prng.below(MIGRATE_PCPTYPES), 0);
            if (pfn >= 0) held.push({ pfn, order });
          } else {
            const order = Math.min(prng.below(pageblockOrder + 1), prng.below(pageblockOrder + 1));
            const size = 1 << order;
            const pfn = Math.floor((zone.startPfn + prng.below(zone.endPfn - zone.startPfn)) / size) * size;
            const isFree = Array.from({ length: size }, (_, i) => pfn + i).every((frame) => frame >= zone.startPfn && !isTaken(frame));
            expect(zone.takeAt(pfn, order)).toBe(isFree);
            if (isFree) held.push({ pfn, order });
          }
          if (step % 300 === 0) zone.validate();
        }
        for (const { pfn, order } of held) give(zone, pfn, order);
        zone.validate();
        expect(zone.refusals).toBe(0);
        expect(zone.allocator.nrFree).toBe(zone.managed);
      }
    });

    it('takes a large range without looking at each frame', () => {
      const zone = makeZone(factory, [{ start: 1 << 20, end: (1 << 20) + (1 << 24) }]);
      expect(zone.allocator.nrFree).toBe(1 << 24);
      const untouched = zone.allocator.untouched().reduce((pages, { start, end }) => pages + end - start, 0);
      expect(untouched).toBeGreaterThan(2 ** 24 - 2 ** 16);
      expect(zone.take(0, MIGRATE_MOVABLE, 0)).toBeGreaterThanOrEqual(1 << 20);
      zone.validate();
    });
  });
}
