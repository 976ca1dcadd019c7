/**
 * The LRU lists: which pages of user space were used recently, by node and kind. Reclaim takes from their ends.
 *
 * A list is a ring through a row of its own behind the frames' rows (`PageFrames.lists`). A page is on the list that its
 * flags tell, so that moving it is: take it off, change the flags, put it on.
 *
 *     PG_LRU       → the page is linked, and counted in NR_INACTIVE_ANON … NR_UNEVICTABLE of its node and zone
 *     PG_LRU_WAITS → it is linked in a CPU's batch, and counted nowhere yet
 *
 * A page with PG_LRU may wait in a batch, too (to be activated, for example): then it is counted where its flags tell, and
 * not found on that list. A compound page is one link, of its head, and counts with all its frames.
 *
 * @linux include/linux/mm_inline.h, include/linux/mmzone.h:lruvec
 */
import { bugOn } from '@pagelab/lib';
import type { ColumnList } from '@pagelab/lib';
import type { Pfn } from '@pagelab/hw';
import type { MemoryNode } from './node.ts';
import { PG_ACTIVE, PG_HEAD, PG_LRU, PG_LRU_WAITS, PG_REFERENCED, PG_SWAPBACKED, PG_UNEVICTABLE, blockOrder } from './page.ts';
import type { PageFrames } from './page.ts';
import { NODE_STAT, ZONE_STAT } from './vmstat.ts';
import type { Zone } from './zone.ts';

/** Numbers of the lists; each has a counter of the same name. @linux include/linux/mmzone.h:lru_list */
export const LRU_INACTIVE_ANON = 0;
export const LRU_ACTIVE_ANON = 1;
export const LRU_INACTIVE_FILE = 2;
export const LRU_ACTIVE_FILE = 3;
export const LRU_UNEVICTABLE = 4;
export const NR_LRU_LISTS = 5;

/** The list that a page with these flags belongs on. @linux include/linux/mm_inline.h:folio_lru_list */
export function folioLru(flags: number): number {
  if ((flags & PG_UNEVICTABLE) !== 0) return LRU_UNEVICTABLE;
  const base = (flags & PG_SWAPBACKED) !== 0 ? LRU_INACTIVE_ANON : LRU_INACTIVE_FILE;
  return (flags & PG_ACTIVE) !== 0 ? base + 1 : base;
}

/** Frames of a page that is on a list, or could be: 1, or those of a compound page. @linux include/linux/mm.h:folio_nr_pages */
export function folioNrPages(frames: PageFrames, pfn: Pfn): number {
  return (frames.flags[pfn] & PG_HEAD) === 0 ? 1 : 1 << blockOrder(frames, pfn);
}

/** The lists of all nodes. */
export class LruLists {
  readonly #frames: PageFrames;
  readonly #list: ColumnList;
  readonly #nodes: readonly MemoryNode[];
  readonly #zoneOf: (pfn: Pfn) => Zone;
  /** Row of the first list's head, by node. */
  readonly #heads: readonly number[];

  constructor(frames: PageFrames, nodes: readonly MemoryNode[], zoneOf: (pfn: Pfn) => Zone) {
    this.#frames = frames;
    this.#list = frames.lists;
    this.#nodes = nodes;
    this.#zoneOf = zoneOf;
    this.#heads = nodes.map(() => frames.allocListHeads(NR_LRU_LISTS));
  }

  /** Row of the head of a node's list, for `PageFrames.lists`. */
  head(nid: number, lru: number): number {
    return this.#heads[nid] + lru;
  }

  /** Puts a page at the front of the list that its flags tell. It must have PG_LRU, and not be linked. @linux include/linux/mm_inline.h:lruvec_add_folio */
  add(pfn: Pfn): void {
    this.account(pfn, 1);
    this.link(pfn);
  }

  /** The same at the end, where reclaim takes from. @linux include/linux/mm_inline.h:lruvec_add_folio_tail */
  addTail(pfn: Pfn): void {
    this.account(pfn, 1);
    this.linkTail(pfn);
  }

  /** Takes a page off its list. PG_LRU stays, for the caller to clear. @linux include/linux/mm_inline.h:lruvec_del_folio */
  del(pfn: Pfn): void {
    this.account(pfn, -1);
    this.#list.remove(pfn);
  }

  /** Links a page that is counted already. */
  link(pfn: Pfn): void {
    this.#list.pushFront(this.#headOf(pfn), pfn);
  }

  linkTail(pfn: Pfn): void {
    this.#list.pushBack(this.#headOf(pfn), pfn);
  }

  /** Counts a page to its list, or no longer (−1). @linux include/linux/mm_inline.h:update_lru_size */
  account(pfn: Pfn, sign: 1 | -1): void {
    const lru = folioLru(this.#frames.flags[pfn]);
    const zone = this.#zoneOf(pfn);
    const delta = sign * folioNrPages(this.#frames, pfn);
    zone.vmStat[ZONE_STAT.NR_ZONE_INACTIVE_ANON + lru] += delta;
    this.#nodes[zone.nid].vmStat[NODE_STAT.NR_INACTIVE_ANON + lru] += delta;
  }

  /**
   * Takes a page that nobody refers to any more off its list, or out of the batch it waits in.
   *
   * @linux mm/swap.c:__page_cache_release
   */
  release(pfn: Pfn): void {
    const { flags, next } = this.#frames;
    bugOn(next[pfn] === 0, 'lru: a page that is on no list says that it is');
    if ((flags[pfn] & PG_LRU) !== 0) this.account(pfn, -1);
    this.#list.remove(pfn);
    flags[pfn] &= ~(PG_LRU | PG_LRU_WAITS | PG_ACTIVE | PG_UNEVICTABLE | PG_REFERENCED);
  }

  /** Pages on a node's list, those in batches included. */
  size(nid: number, lru: number): number {
    return this.#nodes[nid].vmStat[NODE_STAT.NR_INACTIVE_ANON + lru];
  }

  /** Pages of a zone that are on its node's list. @linux mm/vmscan.c:lruvec_lru_size */
  zoneSize(zone: Zone, lru: number): number {
    return zone.vmStat[ZONE_STAT.NR_ZONE_INACTIVE_ANON + lru];
  }

  /**
   * Checks every ring, and that each page is where its flags tell.
   *
   * @returns pages found, by node and list: `nid * NR_LRU_LISTS + lru`; those in batches are not among them
   * @throws KernelBug at the first that does not hold
   */
  validate(): number[] {
    const { flags } = this.#frames;
    const found = new Array<number>(this.#nodes.length * NR_LRU_LISTS).fill(0);
    for (const { nid } of this.#nodes) {
      for (let lru = 0; lru < NR_LRU_LISTS; lru++) {
        const head = this.head(nid, lru);
        this.#list.validate(head);
        for (const pfn of this.#list.iterate(head)) {
          bugOn((flags[pfn] & (PG_LRU | PG_LRU_WAITS)) !== PG_LRU, `frame ${pfn}: on an LRU list, and its flags do not say so`);
          bugOn(folioLru(flags[pfn]) !== lru || this.#zoneOf(pfn).nid !== nid, `frame ${pfn}: on LRU list ${lru} of node ${nid}, where it does not belong`);
          found[nid * NR_LRU_LISTS + lru] += folioNrPages(this.#frames, pfn);
        }
      }
    }
    return found;
  }

  #headOf(pfn: Pfn): number {
    return this.#heads[this.#zoneOf(pfn).nid] + folioLru(this.#frames.flags[pfn]);
  }
}
