/**
 * The pages of slabs: taking them, marking whose they are, giving them back, and the state a slab keeps in the columns
 * of its first page frame, as `struct slab` lies over `struct page`.
 *
 *     mapping    id of the cache
 *     index      address of the first free object that no CPU has taken, 0 for none
 *     private    | partial:1 | frozen:1 | objects:15 | inuse:15 |
 *     next, prev links of the list the slab is on, 0 at its ends
 *
 * *frozen*: a CPU allocates from the slab. *partial*: it is on its node's list. *inuse*: objects that are not on `index`'s
 * list; those a CPU holds free count as in use.
 */
import type { Pfn } from '@pagelab/hw';
import {
  PG_SLAB,
  __GFP_FS,
  __GFP_HARDWALL,
  __GFP_HIGH,
  __GFP_IO,
  __GFP_MEMALLOC,
  __GFP_NOFAIL,
  __GFP_NOMEMALLOC,
  __GFP_NORETRY,
  __GFP_NOWARN,
  __GFP_RECLAIM,
  __GFP_RETRY_MAYFAIL,
  __GFP_THISNODE,
  compoundHead,
} from '@pagelab/mm-core';
import type { PageFrames } from '@pagelab/mm-core';
import { accountSlabPages } from './accounting.ts';
import type { SlabHost } from './host.ts';
import type { KmemCache } from './kmem-cache.ts';

/** Bits of a slab's counters. */
export const SLAB_INUSE_MASK = 0x7fff;
export const SLAB_OBJECTS_SHIFT = 15;
export const SLAB_FROZEN = 1 << 30;
export const SLAB_ON_PARTIAL = 1 << 31;

/**
 * What of an allocation's flags is passed on to the page allocator: how hard to try, and from where.
 *
 * @linux mm/internal.h:GFP_RECLAIM_MASK
 */
export const SLAB_PAGE_GFP_MASK =
  __GFP_RECLAIM |
  __GFP_HIGH |
  __GFP_IO |
  __GFP_FS |
  __GFP_NOWARN |
  __GFP_RETRY_MAYFAIL |
  __GFP_NOFAIL |
  __GFP_NORETRY |
  __GFP_MEMALLOC |
  __GFP_NOMEMALLOC |
  __GFP_HARDWALL |
  __GFP_THISNODE;

/**
 * Takes 2^order pages for a cache, from `node` unless that is −1, and marks them as the cache's.
 *
 * @returns the first page, or −1 where there is no memory
 * @linux mm/slub.c:alloc_slab_page
 */
export function takeSlabPages(
  host: SlabHost,
  cache: { readonly id: number; readonly flags: number },
  gfp: number,
  order: number,
  node: number,
): Pfn {
  const { pages } = host;
  const pfn = node < 0 ? pages.allocPages(gfp, order) : pages.allocPagesNode(node, gfp, order);
  if (pfn < 0) return -1;
  pages.frames.flags[pfn] |= PG_SLAB;
  pages.frames.mapping[pfn] = cache.id;
  accountSlabPages(pages, pfn, cache.flags, 2 ** order);
  return pfn;
}

/** Gives back pages of {@link takeSlabPages}, unmarked. */
export function giveSlabPages(host: SlabHost, pfn: Pfn, flags: number, order: number): void {
  const { frames } = host.pages;
  accountSlabPages(host.pages, pfn, flags, -(2 ** order));
  frames.flags[pfn] &= ~PG_SLAB;
  frames.mapping[pfn] = 0;
  frames.index[pfn] = 0;
  frames.private[pfn] = 0;
  frames.next[pfn] = 0;
  frames.prev[pfn] = 0;
  host.pages.freePages(pfn, order);
}

/** The cache whose slab page `pfn` belongs to; `undefined` where it is no slab's. @linux mm/slab.h:virt_to_cache */
export function cacheOfPage(host: SlabHost, pfn: Pfn): KmemCache | undefined {
  const { frames } = host.pages;
  if (!(pfn >= 0 && pfn < frames.nrFrames)) return undefined;
  const head = compoundHead(frames, pfn);
  return (frames.flags[head] & PG_SLAB) === 0 ? undefined : host.caches[frames.mapping[head]];
}

/** A slab's counters, written as one number. */
export function packCounters(objects: number, inuse: number, state: number): number {
  return (objects << SLAB_OBJECTS_SHIFT) | inuse | state;
}

/** Changes a slab's counts, and nothing of where it is. */
export function setSlabCounts(frames: PageFrames, pfn: Pfn, objects: number, inuse: number): void {
  frames.private[pfn] = packCounters(objects, inuse, frames.private[pfn] & (SLAB_FROZEN | SLAB_ON_PARTIAL));
}

/** Objects of the slab. */
export function slabObjects(frames: PageFrames, pfn: Pfn): number {
  return (frames.private[pfn] >>> SLAB_OBJECTS_SHIFT) & SLAB_INUSE_MASK;
}

/** Objects that are not on the slab's own free list. */
export function slabInuse(frames: PageFrames, pfn: Pfn): number {
  return frames.private[pfn] & SLAB_INUSE_MASK;
}

/** A list of slabs, linked through the columns of their first pages. */
export class SlabPageList {
  head: Pfn = 0;
  tail: Pfn = 0;
  length = 0;

  addHead(frames: PageFrames, pfn: Pfn): void {
    frames.prev[pfn] = 0;
    frames.next[pfn] = this.head;
    if (this.head !== 0) frames.prev[this.head] = pfn;
    else this.tail = pfn;
    this.head = pfn;
    this.length++;
  }

  addTail(frames: PageFrames, pfn: Pfn): void {
    frames.next[pfn] = 0;
    frames.prev[pfn] = this.tail;
    if (this.tail !== 0) frames.next[this.tail] = pfn;
    else this.head = pfn;
    this.tail = pfn;
    this.length++;
  }

  remove(frames: PageFrames, pfn: Pfn): void {
    const next = frames.next[pfn];
    const prev = frames.prev[pfn];
    if (prev !== 0) frames.next[prev] = next;
    else this.head = next;
    if (next !== 0) frames.prev[next] = prev;
    else this.tail = prev;
    frames.next[pfn] = 0;
    frames.prev[pfn] = 0;
    this.length--;
  }
}

/** A node's list of slabs of SLUB that have free objects; they say that they are on it. @linux mm/slub.c:add_partial */
export class PartialList extends SlabPageList {
  override addHead(frames: PageFrames, pfn: Pfn): void {
    super.addHead(frames, pfn);
    frames.private[pfn] |= SLAB_ON_PARTIAL;
  }

  override addTail(frames: PageFrames, pfn: Pfn): void {
    super.addTail(frames, pfn);
    frames.private[pfn] |= SLAB_ON_PARTIAL;
  }

  override remove(frames: PageFrames, pfn: Pfn): void {
    super.remove(frames, pfn);
    frames.private[pfn] &= ~SLAB_ON_PARTIAL;
  }
}
