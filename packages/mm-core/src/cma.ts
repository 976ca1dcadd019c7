/**
 * The contiguous memory allocator: regions that lend their pages to movable allocations and get them back in one piece.
 *
 *     bits set in the bitmap << orderPerBit === pages handed out
 *     pages of the region === handed out + free + lent
 *
 * @linux mm/cma.c
 */
import { Errno } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { Bitmap, bugOn } from '@pagelab/lib';
import { ACR_FLAGS_CMA, allocContigRange, freeContigRange } from './contig-range.ts';
import { GFP_KERNEL, __GFP_NOWARN } from './gfp.ts';
import type { PageAlloc } from './page-alloc.ts';
import { VM_EVENT } from './vmstat.ts';

/** A region. @linux mm/cma.h:cma */
export class CmaArea {
  readonly name: string;
  readonly basePfn: Pfn;
  /** Pages. */
  readonly count: number;
  /** log2 of the pages that a bit stands for. */
  readonly orderPerBit = 0;
  /** A bit for each unit: set while it is handed out. */
  readonly bitmap: Bitmap;
  /** Pages not handed out. */
  availableCount: number;
  /** What was allocated by way of `/sys/kernel/debug/cma`, the last piece last. */
  readonly byHand: { readonly pfn: Pfn; readonly count: number }[] = [];
  /** Pages that were allocated, that could not be, and that were given back. */
  nrPagesSucceeded = 0;
  nrPagesFailed = 0;
  nrPagesReleased = 0;

  constructor(name: string, basePfn: Pfn, count: number) {
    this.name = name;
    this.basePfn = basePfn;
    this.count = count;
    this.availableCount = count;
    this.bitmap = new Bitmap(count);
  }

  /** Pages of the longest run that is not handed out. @linux mm/cma_debug.c:cma_maxchunk_get */
  maxChunk(): number {
    const { bitmap, count } = this;
    let longest = 0;
    for (let start = bitmap.findNextZero(0); start < count; ) {
      const end = bitmap.findNextSet(start);
      longest = Math.max(longest, end - start);
      start = bitmap.findNextZero(end);
    }
    return longest;
  }
}

/**
 * Allocates pages of a region in one piece: what was lent of it moves elsewhere.
 *
 * @param count pages
 * @param align log2 of what the first frame is to be a multiple of
 * @param quiet whether nothing is said where it fails
 * @returns the first frame, each with a reference of its own; −ENOMEM
 * @linux mm/cma.c:cma_alloc
 */
export function cmaAlloc(pages: PageAlloc, area: CmaArea, count: number, align: number, quiet = false): Pfn {
  const { events } = pages;
  const step = 1 << align;
  // Multiples of frame numbers, not of places in the region.
  const offset = area.basePfn & (step - 1);
  let pfn = -1;
  for (let from = 0; count > 0 && count <= area.availableCount; ) {
    const at = findZeroArea(area, from, count, step, offset);
    if (at < 0) break;
    area.bitmap.setRange(at, count);
    area.availableCount -= count;
    const result = allocContigRange(pages, area.basePfn + at, area.basePfn + at + count, ACR_FLAGS_CMA, GFP_KERNEL | (quiet ? __GFP_NOWARN : 0));
    if (result === 0) {
      pfn = area.basePfn + at;
      break;
    }
    area.bitmap.clearRange(at, count);
    area.availableCount += count;
    if (result !== -Errno.EBUSY) break;
    // Something there is pinned: perhaps not a little further on.
    from = at + step;
  }
  if (pfn < 0) {
    events[VM_EVENT.CMA_ALLOC_FAIL]++;
    area.nrPagesFailed += count;
    return -Errno.ENOMEM;
  }
  events[VM_EVENT.CMA_ALLOC_SUCCESS]++;
  area.nrPagesSucceeded += count;
  return pfn;
}

/**
 * Gives pages back that {@link cmaAlloc} gave, or part of them.
 *
 * @returns whether they are the region's
 * @linux mm/cma.c:cma_release
 */
export function cmaRelease(pages: PageAlloc, area: CmaArea, pfn: Pfn, count: number): boolean {
  const at = pfn - area.basePfn;
  if (!(at >= 0 && at + count <= area.count)) return false;
  for (let bit = at; bit < at + count; bit++) bugOn(!area.bitmap.test(bit), 'cma: released twice');
  freeContigRange(pages, pfn, count);
  area.bitmap.clearRange(at, count);
  area.availableCount += count;
  area.nrPagesReleased += count;
  return true;
}

/** The first run of clear bits that begins `offset` before a multiple of `step`, −1 where there is none. @linux lib/bitmap.c:bitmap_find_next_zero_area_off */
function findZeroArea(area: CmaArea, from: number, count: number, step: number, offset: number): number {
  const { bitmap } = area;
  for (let at = from; ; ) {
    at = Math.ceil((bitmap.findNextZero(at) + offset) / step) * step - offset;
    if (at + count > area.count) return -1;
    const taken = bitmap.findNextSet(at);
    if (taken >= at + count) return at;
    at = taken + 1;
  }
}
