/** A load that scatters memory, the same for every page allocator. */
import type { Smp } from '@pagelab/hw';
import { Prng } from '@pagelab/lib';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL, __GFP_NOWARN, __GFP_RECLAIMABLE } from '../gfp.ts';
import type { PageAlloc } from '../page-alloc.ts';

/** What it asks for: mostly user pages, some kernel memory of each kind, some huge pages. */
const REQUESTS: readonly { readonly gfp: number; readonly order: number; readonly weight: number }[] = [
  { gfp: GFP_HIGHUSER_MOVABLE, order: 0, weight: 60 },
  { gfp: GFP_HIGHUSER_MOVABLE, order: 2, weight: 4 },
  { gfp: GFP_HIGHUSER_MOVABLE, order: 9, weight: 1 },
  { gfp: GFP_KERNEL, order: 0, weight: 14 },
  { gfp: GFP_KERNEL, order: 1, weight: 6 },
  { gfp: GFP_KERNEL, order: 3, weight: 4 },
  { gfp: GFP_KERNEL | __GFP_RECLAIMABLE, order: 0, weight: 8 },
  { gfp: GFP_KERNEL | __GFP_RECLAIMABLE, order: 2, weight: 3 },
];
const WHEEL = REQUESTS.flatMap((request) => Array.from({ length: request.weight }, () => request));

/** Where memory stays full. */
const FILL = 0.75;

/**
 * Fills three quarters of memory, replaces blocks at random, and then frees four of five that can be moved, as when a large
 * program ends. The per-CPU lists are empty afterwards.
 */
export function fragment({ pages, smp }: { pages: PageAlloc; smp: Smp }, { seed, steps }: { seed: number; steps: number }): void {
  const prng = new Prng(seed);
  const held: { pfn: number; order: number; gfp: number }[] = [];
  const most = pages.totalramPages * FILL;
  let inUse = 0;
  const free = (at: number): void => {
    const { pfn, order } = held[at];
    pages.freePages(pfn, order);
    inUse -= 1 << order;
    held[at] = held[held.length - 1];
    held.pop();
  };
  for (let step = 0; step < steps; step++) {
    if (step % 64 === 0) smp.processorId = prng.below(smp.cpus.length);
    while (inUse > most) free(prng.below(held.length));
    const { gfp, order } = WHEEL[prng.below(WHEEL.length)];
    const pfn = pages.allocPages(gfp | __GFP_NOWARN, order);
    if (pfn < 0) continue;
    held.push({ pfn, order, gfp });
    inUse += 1 << order;
  }
  for (let at = held.length - 1; at >= 0; at--) if (held[at].gfp === GFP_HIGHUSER_MOVABLE && prng.below(5) > 0) free(at);
  pages.drainAllPages();
}
