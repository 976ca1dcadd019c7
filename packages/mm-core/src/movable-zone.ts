/**
 * Where ZONE_MOVABLE begins: `kernelcore=` says how much memory other zones keep, `movablecore=` how much they give up.
 */
import type { Pfn } from '@pagelab/hw';
import { clipRanges, countPages } from './memblock.ts';
import type { NodeShape } from './mm-init.ts';
import { MAX_PAGE_ORDER } from './page.ts';
import type { FrameRange } from './page-allocator.ts';

const ALIGN = 1 << MAX_PAGE_ORDER;

/** What the command line asks for, in pages; 0 for nothing. */
export interface MovableRequest {
  readonly kernelcorePages: number;
  readonly movablecorePages: number;
}

/**
 * First frame of ZONE_MOVABLE in each node, Infinity where it has none. The kernel's share is dealt out evenly over the
 * nodes, in their order; only memory of the highest zone can become movable.
 *
 * @param highestStart lowest frame of the highest zone that holds memory
 * @linux mm/mm_init.c:find_zone_movable_pfns_for_nodes
 */
export function findMovableStarts(nodes: readonly NodeShape[], request: MovableRequest, highestStart: Pfn): Pfn[] {
  const total = nodes.reduce((pages, { ranges }) => pages + countPages(ranges), 0);
  let required = request.kernelcorePages;
  if (request.movablecorePages > 0) {
    const movable = Math.min(Math.ceil(request.movablecorePages / ALIGN) * ALIGN, total);
    required = Math.max(required, total - movable);
  }
  const starts = nodes.map(() => 0);
  if (required === 0 || required >= total) return starts.map(() => Infinity);
  // A node that is too small for its share leaves the rest to the others, in another round.
  for (let usable = nodes.length; usable > 0 && required > 0; usable--) {
    let share = Math.floor(required / usable);
    if (share === 0) break;
    for (let i = 0; i < nodes.length; i++) {
      if (required < share) share = Math.floor(required / usable);
      const taken = takeKernelPages(nodes[i].ranges, starts[i], share, highestStart);
      starts[i] = taken.start;
      required = Math.max(0, required - taken.pages);
    }
    if (required <= usable - 1) break;
  }
  return starts.map((start, i) => {
    const aligned = Math.ceil(start / ALIGN) * ALIGN;
    return aligned < (nodes[i].ranges.at(-1)?.end ?? 0) ? aligned : Infinity;
  });
}

/** Moves a node's start of movable memory up until `share` more pages lie below it. */
function takeKernelPages(ranges: readonly FrameRange[], from: Pfn, share: number, highestStart: Pfn): { readonly start: Pfn; readonly pages: number } {
  let start = from;
  let left = share;
  let pages = 0;
  for (const range of clipRanges(ranges, from, Infinity)) {
    let low = range.start;
    if (low < highestStart) {
      // Below the highest zone all is the kernel's, whether it counts towards the share or exceeds it.
      const kernel = Math.min(range.end, highestStart) - low;
      pages += kernel;
      left -= Math.min(kernel, left);
      start = Math.min(range.end, highestStart);
      if (range.end <= highestStart) continue;
      low = highestStart;
    }
    const size = Math.min(range.end - low, left);
    start = low + size;
    pages += size;
    left -= size;
    if (left === 0) break;
  }
  return { start, pages };
}
