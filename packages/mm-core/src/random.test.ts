/** Random allocations and frees over all orders, types, zones, nodes and CPUs, checked at intervals. */
import { describe, expect, it } from 'vitest';
import { Prng } from '@pagelab/lib';
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
} from './gfp.ts';
import type { PageAlloc } from './page-alloc.ts';
import { testMachine } from './testing/machine.ts';
import type { TestMachineOptions } from './testing/machine.ts';

const KINDS = [
  GFP_KERNEL,
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

function freeBlocks(pages: PageAlloc): number[][] {
  return pages.zones.map((zone) => Array.from({ length: 11 }, (_, order) => zone.nrFreeBlocks(order)));
}

/** A run of `steps`; phases of filling and emptying follow one another. `every` steps all invariants are checked. */
function run(seed: number, steps: number, every: number, options: TestMachineOptions): void {
  const { pages, smp } = testMachine(options);
  const prng = new Prng(seed);
  const before = freeBlocks(pages);
  const total = pages.totalramPages;
  const held: { pfn: number; order: number; refs: number }[] = [];
  /** Who has each frame: an independent account of what was handed out. */
  const owned = new Set<number>();
  let inUse = 0;
  for (let step = 0; step < steps; step++) {
    if (prng.below(50) === 0) smp.processorId = prng.below(smp.cpus.length);
    const filling = step % 4000 < 2600;
    const act = prng.below(16);
    if (held.length > 0 && act >= (filling ? 11 : 4)) {
      const at = prng.below(held.length);
      const block = held[at];
      if (--block.refs > 0) pages.putPage(block.pfn + prng.below(1 << block.order));
      else {
        pages.freePages(block.pfn, block.order);
        for (let i = 0; i < 1 << block.order; i++) owned.delete(block.pfn + i);
        inUse -= 1 << block.order;
        held[at] = held[held.length - 1];
        held.pop();
      }
    } else {
      const order = prng.below(4) > 0 ? 0 : Math.min(prng.below(11), prng.below(11));
      const gfp = KINDS[prng.below(KINDS.length)] | __GFP_NOWARN;
      const pfn = pages.allocPages(gfp, order);
      if (pfn < 0) continue;
      for (let i = 0; i < 1 << order; i++) {
        if (owned.has(pfn + i)) throw new Error(`seed ${seed}, step ${step}: frame ${pfn + i} handed out twice`);
        owned.add(pfn + i);
      }
      inUse += 1 << order;
      const shared = (gfp & __GFP_COMP) !== 0 && order > 0;
      if (shared) pages.getPage(pfn);
      held.push({ pfn, order, refs: shared ? 2 : 1 });
    }
    if (step % every === 0) {
      pages.validate();
      const onLists = pages.zones.reduce((sum, zone) => sum + zone.nrPcpPages(), 0);
      expect([seed, step, pages.nrFreePages() + onLists + inUse]).toEqual([seed, step, total]);
    }
  }
  for (const { pfn, order, refs } of held) {
    for (let i = 1; i < refs; i++) pages.putPage(pfn);
    pages.freePages(pfn, order);
  }
  pages.drainAllPages();
  pages.validate();
  expect(freeBlocks(pages)).toEqual(before);
  expect(pages.nrFreePages()).toBe(total);
}

describe('random runs', () => {
  it.each([1, 2, 3])('on a small machine, checked after every step (seed %i)', (seed) => {
    run(seed, 600, 1, { memoryMib: 64 });
  });

  it.each([4, 5])('on two CPUs with two zones (seed %i)', (seed) => {
    run(seed, 40_000, 2000, { memoryMib: 160, cpus: 2 });
  });

  it('on four unequal nodes, one without CPUs', () => {
    run(6, 40_000, 4000, {
      memoryMib: 512,
      cpus: 4,
      nodes: [
        { memoryBytes: 128 << 20, cpus: [0] },
        { memoryBytes: 192 << 20, cpus: [1, 2] },
        { memoryBytes: 64 << 20, cpus: [3] },
        { memoryBytes: 128 << 20, cpus: [] },
      ],
    });
  });

  it('with a movable zone', () => {
    run(7, 40_000, 4000, { memoryMib: 512, movablecorePages: 65_536 });
  });

  it('of 300,000 steps', () => {
    run(8, 300_000, 50_000, { memoryMib: 256, cpus: 2 });
  });
});
