/**
 * Frames that memory errors hit: which they are, what was done about each error, and the entries that keep programs away
 * from them.
 *
 *     takenOff: out of the page allocator for good: PG_OFFLINE, one reference, nobody's
 *     kept:     still where they were, in a cache, or left over from one: with one reference that nobody gives back
 *     raw:      of a huge page of the pool that is kept, the small pages that are broken, by its head
 *
 * @linux mm/memory-failure.c, include/linux/swapops.h
 */
import type { Pfn } from '@pagelab/hw';
import type { PageTableShape } from './pgtable-shape.ts';
import { PTE_MAPS } from './pte.ts';

/** What came of an error. @linux include/linux/mm.h:mf_result */
export type MfResult = 'Ignored' | 'Failed' | 'Delayed' | 'Recovered';

/** Errors of a node's memory, in all and by what came of them. @linux include/linux/mmzone.h:memory_failure_stats */
export interface MemoryFailureStats {
  total: number;
  ignored: number;
  failed: number;
  delayed: number;
  recovered: number;
}

/** See above. */
export class HwPoison {
  /** Frames that are marked as broken. `file` where what they held was a file's. @linux include/linux/page-flags.h:PG_hwpoison */
  readonly frames = new Map<Pfn, 'anon' | 'file'>();
  readonly takenOff = new Set<Pfn>();
  readonly kept = new Set<Pfn>();
  readonly raw = new Map<Pfn, Set<Pfn>>();
  /** Errors that count as memory that is lost: HardwareCorrupted. @linux mm/memory-failure.c:num_poisoned_pages */
  count = 0;
  /** Whether it was said that nothing is retired. */
  saidDisabled = false;
  readonly nodes: readonly MemoryFailureStats[];

  constructor(nrNodes: number) {
    this.nodes = Array.from({ length: nrNodes }, () => ({ total: 0, ignored: 0, failed: 0, delayed: 0, recovered: 0 }));
  }

  /** Whether a frame is broken: one branch where none is. */
  has(pfn: Pfn): boolean {
    return this.frames.size !== 0 && this.frames.has(pfn);
  }
}

/** The type of entries that name a broken frame. @linux include/linux/swap.h:SWP_HWPOISON */
export const SWP_HWPOISON = 24;

/** Low word of the entry that stands where a broken frame was. @linux include/linux/swapops.h:make_hwpoison_entry */
export function hwpoisonLo({ entryWords }: PageTableShape, pfn: Pfn): number {
  return entryWords === 2 ? ~pfn << 9 : (pfn << 9) | (SWP_HWPOISON << 1);
}

/** High word of it. */
export function hwpoisonHi({ entryWords }: PageTableShape, pfn: Pfn): number {
  return entryWords === 2 ? (SWP_HWPOISON << 27) | (~(pfn >>> 23) & 0x7ff_ffff) : 0;
}

/** The broken frame that an entry names; −1 for any other entry. @linux include/linux/swapops.h:is_hwpoison_entry */
export function hwpoisonPfn({ entryWords }: PageTableShape, lo: number, hi: number): Pfn {
  if ((lo & PTE_MAPS) !== 0 || (lo | hi) === 0) return -1;
  if (entryWords === 2) return hi >>> 27 === SWP_HWPOISON ? ((~lo >>> 9) & 0x7f_ffff) | ((~hi & 0xff) << 23) : -1;
  return ((lo >>> 1) & 31) === SWP_HWPOISON ? lo >>> 9 : -1;
}
