/** Random allocations and frees on a whole machine, against an account of its own. */
import { KernelBug, Prng } from '@pagelab/lib';
import {
  GFP_ATOMIC,
  GFP_DMA,
  GFP_DMA32,
  GFP_HIGHUSER_MOVABLE,
  GFP_KERNEL,
  GFP_NOWAIT,
  __GFP_COMP,
  __GFP_MEMALLOC,
  __GFP_NOWARN,
  __GFP_RECLAIMABLE,
  __GFP_THISNODE,
} from '../gfp.ts';
import { MIGRATE_HIGHATOMIC, MIGRATE_MOVABLE } from '../migratetype.ts';
import { NR_PAGE_ORDERS } from '../page.ts';
import type { PageAlloc } from '../page-alloc.ts';
import type { TestMachine } from './machine.ts';

const KINDS = [
  GFP_KERNEL,
  GFP_HIGHUSER_MOVABLE,
  GFP_HIGHUSER_MOVABLE,
  GFP_HIGHUSER_MOVABLE,
  GFP_KERNEL | __GFP_RECLAIMABLE,
  GFP_KERNEL | __GFP_COMP,
  GFP_ATOMIC,
  GFP_NOWAIT | __GFP_MEMALLOC,
  GFP_KERNEL | GFP_DMA,
  GFP_KERNEL | GFP_DMA32,
  GFP_KERNEL | __GFP_THISNODE,
];

export interface ChurnOptions {
  readonly seed: number;
  /** Allocations and frees in all. */
  readonly steps: number;
  /** After so many of them all invariants are checked. */
  readonly every: number;
}

/** Free blocks by zone and order. */
export function freeBlocks(pages: PageAlloc): number[][] {
  return pages.zones.map((zone) => Array.from({ length: NR_PAGE_ORDERS }, (_, order) => zone.nrFreeBlocks(order)));
}

/**
 * Allocates and frees at random: all orders, types, zones, nodes and CPUs, filling and emptying memory by turns. In the end
 * everything is freed.
 *
 * @returns allocations that succeeded
 * @throws KernelBug where a frame was handed out twice or lost, or an invariant does not hold
 */
export function churn({ pages, smp }: TestMachine, { seed, steps, every }: ChurnOptions): number {
  const prng = new Prng(seed);
  const total = pages.totalramPages;
  const held: { pfn: number; order: number; refs: number }[] = [];
  const owned = new Uint8Array(pages.frames.nrFrames);
  let inUse = 0;
  let allocations = 0;
  const check = (holds: boolean, what: string): void => {
    if (!holds) throw new KernelBug(`seed ${seed}, after ${allocations} allocations: ${what}`);
  };
  for (let step = 0; step < steps; step++) {
    if (prng.below(50) === 0) smp.processorId = prng.below(smp.cpus.length);
    const filling = step % 20_000 < 13_000;
    const act = prng.below(16);
    if (held.length > 0 && act >= (filling ? 11 : 4)) {
      const at = prng.below(held.length);
      const block = held[at];
      if (--block.refs > 0) {
        pages.putPage(block.pfn + prng.below(1 << block.order));
        continue;
      }
      pages.freePages(block.pfn, block.order);
      owned.fill(0, block.pfn, block.pfn + (1 << block.order));
      inUse -= 1 << block.order;
      held[at] = held[held.length - 1];
      held.pop();
    } else {
      const order = prng.below(4) > 0 ? 0 : Math.min(prng.below(NR_PAGE_ORDERS), prng.below(NR_PAGE_ORDERS));
      const gfp = KINDS[prng.below(KINDS.length)] | __GFP_NOWARN;
      const pfn = pages.allocPages(gfp, order);
      if (pfn < 0) continue;
      for (let i = pfn; i < pfn + (1 << order); i++) check(owned[i]++ === 0, `frame ${i} was handed out twice`);
      inUse += 1 << order;
      allocations++;
      const shared = (gfp & __GFP_COMP) !== 0 && order > 0;
      if (shared) pages.getPage(pfn);
      held.push({ pfn, order, refs: shared ? 2 : 1 });
    }
    if (step % every === 0) {
      pages.validate();
      const onLists = pages.zones.reduce((sum, zone) => sum + zone.nrPcpPages(), 0);
      check(pages.nrFreePages() + onLists + inUse === total, 'frames were lost');
    }
  }
  for (const { pfn, order, refs } of held) {
    for (let i = 1; i < refs; i++) pages.putPage(pfn);
    pages.freePages(pfn, order);
  }
  pages.drainAllPages();
  giveUpReserves(pages);
  pages.validate();
  check(pages.nrFreePages() === total, 'frames were lost');
  check(pages.zones.every((zone) => zone.refusals === 0), 'the zone refused an answer of its page allocator');
  return allocations;
}

/** Makes the pageblocks kept for urgent allocations, all of which is free, ordinary ones again. */
function giveUpReserves(pages: PageAlloc): void {
  for (const zone of pages.zones) {
    if (zone.nrReservedHighatomic === 0) continue;
    zone.nrReservedHighatomic = 0;
    for (let start = zone.startPfn - (zone.startPfn % pages.pageblockPages); start < zone.endPfn; start += pages.pageblockPages) {
      if (pages.blockTypes[start / pages.pageblockPages] === MIGRATE_HIGHATOMIC) zone.setBlockType(start, MIGRATE_MOVABLE);
    }
    // The buddy system merges what is freed, not what becomes of another type.
    const taken: number[] = [];
    for (let pfn = zone.take(pages.pageblockOrder, MIGRATE_MOVABLE, 0); pfn >= 0; pfn = zone.take(pages.pageblockOrder, MIGRATE_MOVABLE, 0)) taken.push(pfn);
    for (const pfn of taken) zone.give(pfn, pages.pageblockOrder, pages.blockTypes[pfn / pages.pageblockPages]);
  }
}
