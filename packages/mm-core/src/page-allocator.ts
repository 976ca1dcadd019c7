import type { Pfn } from '@pagelab/hw';
import type { PageFrames } from './page.ts';

/** Which CPU runs, for an allocator that keeps something for each: `Smp` is one. */
export interface RunningCpu {
  readonly cpus: { readonly length: number };
  /** Number of the CPU that is running. */
  readonly processorId: number;
}

/** What a zone tells the allocator that serves it. */
export interface PageAllocatorContext {
  readonly frames: PageFrames;
  /** The zone's frames: `[startPfn, endPfn)`, holes included. */
  readonly startPfn: Pfn;
  readonly endPfn: Pfn;
  /** Migrate type of each pageblock of the machine, by `pfn >>> pageblockOrder`. The allocator may change those of its zone. */
  readonly blockTypes: Uint8Array;
  /** log2 of the frames in a pageblock: 9, or 10 where a huge page has 4 MiB. */
  readonly pageblockOrder: number;
  /** The machine's CPUs; one unless told. */
  readonly smp?: RunningCpu | undefined;
  /** To be called when a block of another type is about to be broken into, with the flags of the allocation. */
  onFallback(allocFlags: number): void;
}

/** A run of frames, `end` exclusive. */
export interface FrameRange {
  readonly start: Pfn;
  readonly end: Pfn;
}

/** Free lists that compaction may search: what a page allocator has that keeps blocks in lists. */
export interface FreeLists {
  /** Visits the free blocks of an order below the largest and a type, from the first on, until `visit` returns true. */
  search(order: number, migratetype: number, visit: (pfn: Pfn) => boolean): void;
  /** The same from the last on. */
  searchFromEnd(order: number, migratetype: number, visit: (pfn: Pfn) => boolean): void;
  /** Turns a list round until a block of it is first. @linux mm/compaction.c:move_freelist_head */
  makeFirst(order: number, migratetype: number, pfn: Pfn): void;
  /** Turns a list round until a block of it is last. @linux mm/compaction.c:move_freelist_tail */
  makeLast(order: number, migratetype: number, pfn: Pfn): void;
}

/**
 * What finds free blocks in a zone: the part that can be replaced.
 *
 * A block of order n begins at a multiple of 2^n. The zone keeps its own account of which frames are free and believes no
 * answer that contradicts it; so an allocator that is wrong fails allocations, and does no other damage.
 */
export interface PageAllocator {
  readonly name: string;
  /** Free pages. */
  readonly nrFree: number;
  /** Gives it the frames `[start, end)`, none of which was handed out yet. Must not touch each frame. */
  addRange(start: Pfn, end: Pfn): void;
  /**
   * Takes a free block of `order`.
   *
   * @param migratetype what it will hold: a hint for an allocator that keeps no types apart
   * @param allocFlags `ALLOC_*`
   * @returns its first frame, or −1 where there is none
   */
  alloc(order: number, migratetype: number, allocFlags: number): Pfn;
  /**
   * Gives a block back.
   *
   * @param migratetype of its pageblock
   * @param toTail whether it should be used again last
   */
  free(pfn: Pfn, order: number, migratetype: number, toTail: boolean): void;
  /**
   * Takes one given block, all of which is free: what is free beside it stays so.
   *
   * @param order of at most a pageblock
   * @returns whether it did
   */
  takeAt(pfn: Pfn, order: number): boolean;
  /** Whether a block of at least `order` is free whose type is among `types`, a mask of `1 << migratetype`. */
  hasFree(order: number, types: number): boolean;
  /** Free blocks of exactly this order and type. One that keeps no types apart counts all as movable. */
  nrFreeBlocks(order: number, migratetype: number): number;
  /** Free pages of a type. */
  nrFreeOfType(migratetype: number): number;
  /**
   * Moves what is free in `[start, start + 2^order)` from one type to another; the caller changes the type of the pageblocks.
   *
   * @param order that of a pageblock, or the order of the one free block that the range is
   * @returns the free pages in it
   */
  moveBlock(start: Pfn, order: number, from: number, to: number): number;
  /** Visits the free blocks outside of {@link untouched}, in any order. */
  forEachFree(visit: (pfn: Pfn, order: number, migratetype: number) => void): void;
  /** Free ranges no frame of which was ever handed out, ascending. */
  untouched(): readonly FrameRange[];
  /** Recomputes its invariants. @throws KernelBug for the first that does not hold */
  validate(): void;
  /** Its lists, where it has some: without, compaction walks where it could search. */
  readonly freeLists?: FreeLists;
}

/** Why a zone did not believe an answer of its page allocator, and in what words it says so. */
export const REFUSALS = {
  notAFrame: 'not a frame number',
  notOfZone: 'not of this zone',
  notAligned: 'not aligned',
  /** Reserved at boot, or no memory. */
  neverGiven: 'not free: it never was the allocator\'s',
  handedOut: 'not free: it was handed out and not given back',
} as const;

/** A wrong answer of a page allocator: it was not acted on. */
export interface PageAllocatorRefusal {
  /** Name of the allocator. */
  readonly allocator: string;
  readonly nid: number;
  /** Name of the zone. */
  readonly zone: string;
  /** The answer, and the order that was asked for. */
  readonly pfn: number;
  readonly order: number;
  readonly reason: keyof typeof REFUSALS;
  /** How many wrong answers there were in this zone, with this one. */
  readonly times: number;
}

/** Makes the page allocator of a zone. */
export interface PageAllocatorFactory {
  /** As the machine configuration's `pageAllocator` names it. */
  readonly name: string;
  create(context: PageAllocatorContext): PageAllocator;
}
