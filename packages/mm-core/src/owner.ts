/**
 * Who has a frame.
 */
import type { Pfn } from '@pagelab/hw';
import {
  PG_ANON,
  PG_HUGETLB,
  PG_KERNEL_CODE,
  PG_SLAB,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_TABLE,
  compoundHead,
} from './page.ts';
import type { PageFrames } from './page.ts';

/** Nobody: with the page allocator or on a per-CPU list. */
export const OWNER_FREE = 0;
export const OWNER_KERNEL_CODE = 1;
/** The kernel's own data: its image, what boot allocated, and what it got from the page allocator for itself. */
export const OWNER_KERNEL_DATA = 2;
export const OWNER_SLAB = 3;
export const OWNER_PAGE_TABLE = 4;
/** User memory of one process and its children, and what is in the swap cache without being mapped. */
export const OWNER_ANON = 5;
/** Shared memory and files in memory. */
export const OWNER_SHMEM = 6;
/** Page cache of a file on a device. */
export const OWNER_FILE = 7;
/** The firmware, or left alone for its sake. */
export const OWNER_RESERVED = 8;
/** Where Linux keeps `struct page`. */
export const OWNER_MEMMAP = 9;
/** There is no memory. */
export const OWNER_HOLE = 10;
/** Set aside as a huge page, in use or not. */
export const OWNER_HUGETLB = 11;
export const NR_OWNERS = 12;

const NAMES: readonly string[] = [
  'free',
  'kernel code',
  'kernel data',
  'slab',
  'page table',
  'anonymous',
  'shared memory',
  'file',
  'reserved',
  'struct page',
  'hole',
  'huge page pool',
];

/** A printable name of an owner. */
export function ownerName(owner: number): string {
  return NAMES[owner] ?? `owner ${owner}`;
}

/** A run of frames that never were the page allocator's: reserved at boot, or no memory. */
export interface OwnedRange {
  readonly start: Pfn;
  readonly end: Pfn;
  readonly owner: number;
}

/** Tells who has a frame. Costs a few loads, and a binary search where nobody refers to it. */
export function frameOwner(frames: PageFrames, pfn: Pfn): number {
  if (!(pfn >= 0 && pfn < frames.nrFrames)) return OWNER_HOLE;
  const head = compoundHead(frames, pfn);
  if (frames.refcount[head] === 0) return bootOwner(frames.bootRanges, pfn);
  const flags = frames.flags[head];
  if ((flags & PG_HUGETLB) !== 0) return OWNER_HUGETLB;
  if ((flags & PG_SLAB) !== 0) return OWNER_SLAB;
  if ((flags & PG_TABLE) !== 0) return OWNER_PAGE_TABLE;
  if ((flags & PG_ANON) !== 0) return OWNER_ANON;
  if (frames.mapping[head] !== 0) return (flags & PG_SWAPBACKED) !== 0 ? OWNER_SHMEM : OWNER_FILE;
  if ((flags & PG_SWAPCACHE) !== 0) return OWNER_ANON;
  return (flags & PG_KERNEL_CODE) !== 0 ? OWNER_KERNEL_CODE : OWNER_KERNEL_DATA;
}

/** The owner since boot; free where the frame is the page allocator's. */
function bootOwner(ranges: readonly OwnedRange[], pfn: Pfn): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ranges[middle].end <= pfn) low = middle + 1;
    else high = middle;
  }
  return low < ranges.length && ranges[low].start <= pfn ? ranges[low].owner : OWNER_FREE;
}
