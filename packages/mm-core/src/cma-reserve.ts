/**
 * Where a CMA region lies: memory set aside at boot, in one piece.
 */
import type { Pfn } from '@pagelab/hw';
import { RESERVED_FOR_CMA } from './memblock.ts';
import type { Memblock } from './memblock.ts';
import { OWNER_KERNEL_DATA } from './owner.ts';
import type { FrameRange } from './page-allocator.ts';

/** What `cma=` asks for, in bytes. @linux kernel/dma/contiguous.c:early_cma */
export interface CmaRequest {
  /** Size; 0 asks for none. */
  readonly bytes: number;
  /** At this address, and nowhere else unless a limit is given too. */
  readonly base?: number;
  /** Below this address. */
  readonly limit?: number;
}

const FOUR_GIB_PFN = 1 << 20;

/**
 * Sets a region aside, of whole pageblocks, as high as there is room: in high memory, or else from 4 GiB upwards, or else
 * below.
 *
 * @param pageblockPages frames in a pageblock
 * @param highmemStart first frame of high memory, `Infinity` where there is none
 * @param ceiling below this frame, whatever is asked for; no bound unless told
 * @returns where; `undefined` where there is no such place
 * @linux mm/cma.c:__cma_declare_contiguous_nid
 */
export function cmaDeclareContiguous(memblock: Memblock, request: CmaRequest, pageblockPages: number, highmemStart: Pfn, ceiling: Pfn = Infinity): FrameRange | undefined {
  const { memory } = memblock;
  const end = memory.at(-1)?.end ?? 0;
  const align = pageblockPages;
  const pages = Math.ceil(request.bytes / 4096 / align) * align;
  const base = Math.ceil((request.base ?? 0) / 4096 / align) * align;
  // A start and an end that leave no choice, or a start alone.
  const isFixed = base > 0 && (request.limit === undefined || request.limit <= request.base! + request.bytes);
  let limit = Math.min(end, ceiling, request.limit === undefined ? end : Math.floor(request.limit / 4096 / align) * align);
  if (isFixed) limit = Math.min(end, ceiling, base + pages);
  if (base + pages > limit) return undefined;
  let start = -1;
  if (isFixed) {
    if (base < highmemStart && base + pages > highmemStart) return undefined;
    start = memblock.find(pages, align, base, base + pages);
  } else {
    if (end >= FOUR_GIB_PFN + pages) start = memblock.find(pages, align, Math.max(base, FOUR_GIB_PFN), limit, true);
    if (start < 0 && base < highmemStart && limit > highmemStart) {
      start = memblock.find(pages, align, highmemStart, limit);
      limit = highmemStart;
    }
    if (start < 0) start = memblock.find(pages, align, base, limit);
  }
  if (start < 0) return undefined;
  memblock.reserve(start, start + pages, OWNER_KERNEL_DATA, RESERVED_FOR_CMA);
  return { start, end: start + pages };
}
