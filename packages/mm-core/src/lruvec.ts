/**
 * The LRU lists: which pages of user space were used recently, by node and kind. Reclaim takes from their ends.
 *
 * The lists of a node are an *lruvec*. All that reclaim does it does to one of these.
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
import type { MemcgAccounting } from './memcg-accounting.ts';
import type { MemoryNode } from './node.ts';
import { PG_ACTIVE, PG_HEAD, PG_LRU, PG_LRU_WAITS, PG_MEMCG, PG_REFERENCED, PG_SWAPBACKED, PG_UNEVICTABLE, blockOrder } from './page.ts';
import type { PageFrames } from './page.ts';
import { NODE_STAT, ZONE_STAT } from './vmstat.ts';
import { MAX_NR_ZONES } from './zone-types.ts';
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

/** The lists of one node, or of a memory cgroup there, what is on them, and what reclaim remembers of them. @linux include/linux/mmzone.h:lruvec */
export class Lruvec {
  readonly nid: number;
  /** Row of the head of the first list, for `PageFrames.lists`; the others follow. */
  readonly heads: number;
  /** The lists of the group above the one whose these are; `null` for a node's own. @linux include/linux/memcontrol.h:parent_lruvec */
  readonly parent: Lruvec | null;
  /** Pages by zone and list, at `zone.index * NR_LRU_LISTS + lru`, those in batches included. */
  readonly zonePages = new Float64Array(MAX_NR_ZONES * NR_LRU_LISTS);
  /** Pages reclaimed or activated so far. */
  nonresidentAge = 0;
  /** What reclaiming of each kind has cost lately. */
  anonCost = 0;
  fileCost = 0;
  /** Refaults of anonymous pages and of files' that activated, so far, and when reclaim last looked. */
  readonly activations: [anon: number, file: number] = [0, 0];
  readonly seenActivations: [anon: number, file: number] = [0, 0];
  /** What the reclaim policy keeps for these pages. */
  policyState: unknown = null;

  constructor(nid: number, heads: number, parent: Lruvec | null = null) {
    this.nid = nid;
    this.heads = heads;
    this.parent = parent;
  }

  /** Pages on a list. */
  size(lru: number): number {
    const { zonePages } = this;
    let pages = 0;
    for (let at = lru; at < zonePages.length; at += NR_LRU_LISTS) pages += zonePages[at];
    return pages;
  }

  /** Pages on a list that lie in zones up to the one of index `highest`. @linux mm/vmscan.c:lruvec_lru_size */
  sizeUpTo(lru: number, highest: number): number {
    const { zonePages } = this;
    let pages = 0;
    for (let zone = 0; zone <= highest && zone < MAX_NR_ZONES; zone++) pages += zonePages[zone * NR_LRU_LISTS + lru];
    return pages;
  }
}

/**
 * Lists of a reclaim policy's own, in place of the active and inactive ones. Unevictable pages stay on theirs.
 *
 * A page that enters is linked by who asks, or waits in a batch; it is this part's until it leaves.
 */
export interface LruPlacement {
  /** Whether a page goes to the end of its list where its program says that it will not be used soon: for lists that no page is active on. */
  readonly coldGoLast?: boolean;
  /**
   * Chooses the list of a page that has PG_LRU, and counts it (`LruLists.count`).
   *
   * @param atTail it shall go soon
   * @returns the row of the list's head
   */
  enter(lruvec: Lruvec, pfn: Pfn, atTail: boolean): number;
  /** Forgets a page, and counts it no longer. */
  leave(lruvec: Lruvec, pfn: Pfn): void;
  /** Row of the head of the list that a page that has entered belongs on. */
  rowOf(lruvec: Lruvec, pfn: Pfn): number;
  /** A page that has entered comes back from a batch, to the front of its list. */
  relinked?(lruvec: Lruvec, pfn: Pfn): void;
  /** A compound page is split: `pfn` was part of it, is linked beside its head, and is counted as it was. */
  split(lruvec: Lruvec, head: Pfn, pfn: Pfn): void;
  /** Rows of the heads of all lists, those that go first first. */
  rows(lruvec: Lruvec): Iterable<number>;
  /** Whether a page may lie on the list of a row, for validation. */
  mayLieOn(lruvec: Lruvec, pfn: Pfn, row: number): boolean;
  /** The list (LRU_…) that a page that has entered is counted on. */
  countedOn(lruvec: Lruvec, pfn: Pfn): number;
}

/** The lists of all nodes. */
export class LruLists {
  private readonly frames: PageFrames;
  private readonly list: ColumnList;
  private readonly nodes: readonly MemoryNode[];
  private readonly zoneOf: (pfn: Pfn) => Zone;
  /** By node. */
  readonly lruvecs: readonly Lruvec[];
  /** Where evictable pages go; `null` for the active and inactive lists. Set it while there are no evictable pages on lists. */
  placement: LruPlacement | null = null;
  /** Knows the lists of memory cgroups' pages; `null` while there are no groups. */
  memcg: MemcgAccounting | null = null;

  constructor(frames: PageFrames, nodes: readonly MemoryNode[], zoneOf: (pfn: Pfn) => Zone) {
    this.frames = frames;
    this.list = frames.lists;
    this.nodes = nodes;
    this.zoneOf = zoneOf;
    this.lruvecs = nodes.map(({ nid }) => new Lruvec(nid, frames.allocListHeads(NR_LRU_LISTS)));
  }

  /** The lists that a page belongs to. @linux include/linux/memcontrol.h:folio_lruvec */
  lruvecOf(pfn: Pfn): Lruvec {
    const { nid } = this.zoneOf(pfn);
    if (this.memcg !== null && (this.frames.flags[pfn] & PG_MEMCG) !== 0) return this.memcg.lruvecOf(pfn, nid);
    return this.lruvecs[nid];
  }

  /** The lists of the root of every node, and those of all memory cgroups. */
  *all(): Generator<Lruvec> {
    yield* this.lruvecs;
    if (this.memcg !== null) yield* this.memcg.lruvecs();
  }

  /** Makes the lists of a group on a node, all empty. @param parent those of the group above */
  create(nid: number, parent: Lruvec): Lruvec {
    return new Lruvec(nid, this.frames.allocListHeads(NR_LRU_LISTS), parent);
  }

  /** Gives the lists of a group back, which must be empty. */
  destroy(lruvec: Lruvec): void {
    for (let lru = 0; lru < NR_LRU_LISTS; lru++) bugOn(lruvec.size(lru) !== 0, 'lru: lists go that have pages');
    this.frames.freeListHeads(lruvec.heads, NR_LRU_LISTS);
  }

  /** Puts a page at the front of the list that its flags tell. It must have PG_LRU, and not be linked. @linux include/linux/mm_inline.h:lruvec_add_folio */
  add(pfn: Pfn): void {
    this.list.pushFront(this.enter(pfn, false), pfn);
  }

  /** The same at the end, where reclaim takes from. @linux include/linux/mm_inline.h:lruvec_add_folio_tail */
  addTail(pfn: Pfn): void {
    this.list.pushBack(this.enter(pfn, true), pfn);
  }

  /** Takes a page off its list. PG_LRU stays, for the caller to clear. @linux include/linux/mm_inline.h:lruvec_del_folio */
  del(pfn: Pfn): void {
    this.leave(pfn);
    this.list.remove(pfn);
  }

  /** Counts a page, wherever it is linked, no longer. */
  leave(pfn: Pfn): void {
    const flags = this.frames.flags[pfn];
    const lruvec = this.lruvecOf(pfn);
    if (this.placement !== null && (flags & PG_UNEVICTABLE) === 0) this.placement.leave(lruvec, pfn);
    else this.count(lruvec, pfn, folioLru(flags), -folioNrPages(this.frames, pfn));
  }

  /** Links a page that is counted already, and in no ring, at the front of its list. */
  link(pfn: Pfn): void {
    const lruvec = this.lruvecOf(pfn);
    this.list.pushFront(this.rowOf(lruvec, pfn), pfn);
    if ((this.frames.flags[pfn] & PG_UNEVICTABLE) === 0) this.placement?.relinked?.(lruvec, pfn);
  }

  /** A compound page that is counted is now single pages: counts `pfn` of them as its head was. */
  split(head: Pfn, pfn: Pfn): void {
    if (this.placement !== null && (this.frames.flags[head] & PG_UNEVICTABLE) === 0) this.placement.split(this.lruvecOf(head), head, pfn);
  }

  /** Adds pages of a zone to a list's counters, or takes them away. For whoever places pages. @linux include/linux/mm_inline.h:update_lru_size */
  count(lruvec: Lruvec, pfn: Pfn, lru: number, nrPages: number): void {
    this.countZone(lruvec, this.zoneOf(pfn), lru, nrPages);
  }

  /** The same for a zone of the lruvec's node. */
  countZone(lruvec: Lruvec, zone: Zone, lru: number, nrPages: number): void {
    zone.vmStat[ZONE_STAT.NR_ZONE_INACTIVE_ANON + lru] += nrPages;
    this.nodes[zone.nid].vmStat[NODE_STAT.NR_INACTIVE_ANON + lru] += nrPages;
    lruvec.zonePages[zone.index * NR_LRU_LISTS + lru] += nrPages;
  }

  /**
   * Takes a page that nobody refers to any more off its list, or out of the batch it waits in.
   *
   * @linux mm/swap.c:__page_cache_release
   */
  release(pfn: Pfn): void {
    const { flags, next } = this.frames;
    bugOn(next[pfn] === 0, 'lru: a page that is on no list says that it is');
    if ((flags[pfn] & PG_LRU) !== 0) this.leave(pfn);
    this.list.remove(pfn);
    flags[pfn] &= ~(PG_LRU | PG_LRU_WAITS | PG_ACTIVE | PG_UNEVICTABLE | PG_REFERENCED);
  }

  /** Pages on a node's list, those in batches included. */
  size(nid: number, lru: number): number {
    return this.nodes[nid].vmStat[NODE_STAT.NR_INACTIVE_ANON + lru];
  }

  /** Pages of a zone that are on its node's list. */
  zoneSize(zone: Zone, lru: number): number {
    return zone.vmStat[ZONE_STAT.NR_ZONE_INACTIVE_ANON + lru];
  }

  /** The list (LRU_…) that a page with PG_LRU is counted on. */
  countedOn(pfn: Pfn): number {
    const flags = this.frames.flags[pfn];
    if (this.placement === null || (flags & PG_UNEVICTABLE) !== 0) return folioLru(flags);
    return this.placement.countedOn(this.lruvecOf(pfn), pfn);
  }

  /** Rows of the heads of all lists. */
  *rows(lruvec: Lruvec): Generator<number> {
    for (let lru = 0; lru < NR_LRU_LISTS; lru++) yield lruvec.heads + lru;
    if (this.placement !== null) yield* this.placement.rows(lruvec);
  }

  /**
   * Checks every ring, and that each page is where its flags tell.
   *
   * @param found called for each page found; those in batches are not among them
   * @throws KernelBug at the first that does not hold
   */
  validate(found: (lruvec: Lruvec, pfn: Pfn) => void): void {
    const { flags } = this.frames;
    for (const lruvec of this.all()) {
      for (const head of this.rows(lruvec)) {
        this.list.validate(head);
        for (const pfn of this.list.iterate(head)) {
          bugOn((flags[pfn] & (PG_LRU | PG_LRU_WAITS)) !== PG_LRU, `frame ${pfn}: on an LRU list, and its flags do not say so`);
          const belongs = this.lruvecOf(pfn) === lruvec && this.mayLieOn(lruvec, pfn, head);
          bugOn(!belongs, `frame ${pfn}: on an LRU list of node ${lruvec.nid}, where it does not belong`);
          found(lruvec, pfn);
        }
      }
    }
  }

  /** Counts a page where it belongs. @returns the row of the head of that list */
  private enter(pfn: Pfn, atTail: boolean): number {
    const lruvec = this.lruvecOf(pfn);
    const flags = this.frames.flags[pfn];
    if (this.placement !== null && (flags & PG_UNEVICTABLE) === 0) return this.placement.enter(lruvec, pfn, atTail);
    const lru = folioLru(flags);
    this.count(lruvec, pfn, lru, folioNrPages(this.frames, pfn));
    return lruvec.heads + lru;
  }

  private mayLieOn(lruvec: Lruvec, pfn: Pfn, row: number): boolean {
    const flags = this.frames.flags[pfn];
    if (this.placement !== null && (flags & PG_UNEVICTABLE) === 0) return this.placement.mayLieOn(lruvec, pfn, row);
    return lruvec.heads + folioLru(flags) === row;
  }

  private rowOf(lruvec: Lruvec, pfn: Pfn): number {
    const flags = this.frames.flags[pfn];
    return this.placement !== null && (flags & PG_UNEVICTABLE) === 0 ? this.placement.rowOf(lruvec, pfn) : lruvec.heads + folioLru(flags);
  }
}
