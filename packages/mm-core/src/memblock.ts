/**
 * Memory at boot: which ranges are RAM, and which of them are spoken for before there is a page allocator.
 */
import { bugOn } from '@pagelab/lib';
import type { MemoryRange, Pfn } from '@pagelab/hw';
import { OWNER_HOLE, OWNER_RESERVED } from './owner.ts';
import type { OwnedRange } from './owner.ts';
import type { FrameRange } from './page-allocator.ts';

const PAGE_SIZE = 4096;

/** Never given back. */
export const RESERVED_FOR_EVER = 0;
/** Given to the page allocator when boot is over. */
export const RESERVED_FOR_BOOT = 1;
/** Lent to movable pages. */
export const RESERVED_FOR_CMA = 2;

/** A reservation: a range, who has it, and for how long (`RESERVED_…`). */
export interface Reservation extends OwnedRange {
  readonly term: number;
}

/** Usable frames of a firmware map, whole ones only and without frame 0; adjoining ranges are joined. @linux arch/x86/kernel/e820.c:e820__memblock_setup */
export function usableRanges(map: readonly MemoryRange[]): FrameRange[] {
  const ranges: FrameRange[] = [];
  for (const range of map) {
    if (range.type !== 'usable') continue;
    const start = Math.max(1, Math.ceil(range.start / PAGE_SIZE));
    const end = Math.floor(range.end / PAGE_SIZE);
    if (start >= end) continue;
    const last = ranges.at(-1);
    if (last !== undefined && last.end === start) ranges[ranges.length - 1] = { start: last.start, end };
    else ranges.push({ start, end });
  }
  return ranges;
}

/** The parts of `ranges` in `[start, end)`. */
export function clipRanges(ranges: readonly FrameRange[], start: Pfn, end: Pfn): FrameRange[] {
  const clipped: FrameRange[] = [];
  for (const range of ranges) {
    const from = Math.max(range.start, start);
    const to = Math.min(range.end, end);
    if (from < to) clipped.push({ start: from, end: to });
  }
  return clipped;
}

/** Pages in `ranges`. */
export function countPages(ranges: readonly FrameRange[]): number {
  return ranges.reduce((pages, { start, end }) => pages + end - start, 0);
}

/** RAM, and the reservations made in it so far. @linux mm/memblock.c */
export class Memblock {
  readonly memory: readonly FrameRange[];
  readonly #reserved: Reservation[] = [];

  constructor(memory: readonly FrameRange[]) {
    this.memory = memory;
  }

  /** Ascending; no two overlap. */
  get reserved(): readonly Reservation[] {
    return this.#reserved;
  }

  /** Reserves what of `[start, end)` is RAM. @linux mm/memblock.c:memblock_reserve */
  reserve(start: Pfn, end: Pfn, owner: number, term = RESERVED_FOR_EVER): void {
    for (const range of clipRanges(this.memory, start, end)) {
      const at = this.#reserved.findIndex((other) => other.start >= range.end);
      const index = at < 0 ? this.#reserved.length : at;
      const before = this.#reserved[index - 1];
      bugOn(before !== undefined && before.end > range.start, 'memblock: reserved twice');
      this.#reserved.splice(index, 0, { ...range, owner, term });
    }
  }

  /**
   * Reserves `pages` frames as high as possible in `[low, high)`, in pieces where no gap is large enough.
   *
   * @returns the pages reserved: fewer where there is no more
   * @linux mm/memblock.c:memblock_alloc_range_nid
   */
  allocTopDown(pages: number, low: Pfn, high: Pfn, owner: number, term = RESERVED_FOR_EVER): number {
    let left = pages;
    while (left > 0) {
      const free = this.freeRanges(low, high);
      const fitting = free.findLast(({ start, end }) => end - start >= left) ?? free.at(-1);
      if (fitting === undefined) break;
      const take = Math.min(left, fitting.end - fitting.start);
      this.reserve(fitting.end - take, fitting.end, owner, term);
      left -= take;
    }
    return pages - left;
  }

  /**
   * Where `pages` frames are free in `[low, high)` in one piece that begins at a multiple of `align`: the highest place, or the lowest.
   *
   * @returns its first frame, −1 where there is none
   * @linux mm/memblock.c:memblock_find_in_range_node
   */
  find(pages: number, align: number, low: Pfn, high: Pfn, bottomUp = false): Pfn {
    const places = this.freeRanges(low, high).map(({ start, end }) => {
      const place = bottomUp ? Math.ceil(start / align) * align : Math.floor((end - pages) / align) * align;
      return place >= start && place + pages <= end ? place : -1;
    });
    return (bottomUp ? places.find((place) => place >= 0) : places.findLast((place) => place >= 0)) ?? -1;
  }

  /** RAM in `[low, high)` that is not reserved, ascending. @linux include/linux/memblock.h:for_each_free_mem_range */
  freeRanges(low: Pfn, high: Pfn): FrameRange[] {
    const free: FrameRange[] = [];
    for (const range of clipRanges(this.memory, low, high)) {
      let from = range.start;
      for (const reservation of this.#reserved) {
        if (reservation.end <= from || reservation.start >= range.end) continue;
        if (reservation.start > from) free.push({ start: from, end: reservation.start });
        from = reservation.end;
      }
      if (from < range.end) free.push({ start: from, end: range.end });
    }
    return free;
  }

  /** Reservations that last, and holes, of `[0, maxPfn)`, ascending. */
  ownedRanges(maxPfn: Pfn): OwnedRange[] {
    const owned: OwnedRange[] = this.#reserved.filter(({ term }) => term === RESERVED_FOR_EVER).map(({ start, end, owner }) => ({ start, end, owner }));
    let from = 0;
    for (const range of [...this.memory, { start: maxPfn, end: maxPfn }]) {
      // Frame 0 is memory, but nobody's: a pfn of 0 means none.
      if (from === 0 && range.start === 1) owned.push({ start: 0, end: 1, owner: OWNER_RESERVED });
      else if (range.start > from) owned.push({ start: from, end: range.start, owner: OWNER_HOLE });
      from = range.end;
    }
    return owned.sort((a, b) => a.start - b.start);
  }
}
