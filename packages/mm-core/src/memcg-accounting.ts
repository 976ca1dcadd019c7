/**
 * What frames and lists tell of pages that belong to a memory cgroup. Implemented by the layer that knows groups, once there is
 * one beside the root: until then nobody asks.
 *
 *     PG_MEMCG of a page's head ⇔ frames.memcg[head] !== 0: it is charged to that group or object owner
 */
import type { Pfn } from '@pagelab/hw';
import type { Lruvec } from './lruvec.ts';

/** @linux include/linux/memcontrol.h */
export interface MemcgAccounting {
  /**
   * Charges a fresh block of kernel memory to the current task's group.
   *
   * @returns 0, or −ENOMEM where its limit does not allow it
   * @linux mm/memcontrol.c:__memcg_kmem_charge_page
   */
  chargeKmem(pfn: Pfn, order: number, gfp: number): number;
  /** A charged block is freed. Its flag is the caller's to clear. @linux mm/memcontrol.c:__mem_cgroup_uncharge */
  uncharge(pfn: Pfn, nrPages: number): void;
  /** A charged block becomes single pages, which are charged where it was. @linux mm/memcontrol.c:split_page_memcg */
  split(pfn: Pfn, nrPages: number): void;
  /** Adds to a counter (NODE_STAT) of the group of a charged page, given by its head. @linux mm/memcontrol.c:__lruvec_stat_mod_folio */
  modState(head: Pfn, item: number, delta: number): void;
  /** The lists of a charged page. */
  lruvecOf(pfn: Pfn, nid: number): Lruvec;
  /** The lists of all groups but the root. */
  lruvecs(): Iterable<Lruvec>;
}
