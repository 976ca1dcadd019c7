/**
 * How pages in use are moved: what compaction and isolation need of the layer that knows who uses a page.
 */
import type { Pfn } from '@pagelab/hw';

/** Waits for nothing, and leaves alone what is locked or being written back. @linux include/linux/migrate_mode.h:migrate_mode */
export const MIGRATE_ASYNC = 0;
/** Waits for locks, but for no writeback. */
export const MIGRATE_SYNC_LIGHT = 1;
/** Waits for both. */
export const MIGRATE_SYNC = 2;

// Why pages are moved. @linux include/linux/migrate_mode.h:migrate_reason
export const MR_COMPACTION = 0;
export const MR_MEMORY_FAILURE = 1;
export const MR_MEMORY_HOTPLUG = 2;
export const MR_SYSCALL = 3;
export const MR_MEMPOLICY_MBIND = 4;
export const MR_NUMA_MISPLACED = 5;
export const MR_CONTIG_RANGE = 6;
export const MR_DEMOTION = 8;

/**
 * Finds where a page goes: a frame, or for an `order` above 0 a compound page, with one reference; negative where there is none.
 *
 * @linux include/linux/migrate.h:new_folio_t
 */
export type GetNewPage = (from: Pfn, order: number) => Pfn;

export interface MigrationOps {
  /** Puts all pages of user space onto LRU lists that wait to be put there. @linux mm/swap.c:lru_add_drain_all */
  drain(): void;
  /**
   * Takes a page, the head of a folio, off its LRU list.
   *
   * @param compacting to make room for a larger block: what is as large as a pageblock stays
   * @returns whether it could: not where it is on none, or is pinned
   */
  isolate(pfn: Pfn, compacting?: boolean): boolean;
  /** Puts pages back that were isolated, and empties the list. @linux mm/migrate.c:putback_movable_pages */
  putback(list: Pfn[]): void;
  /**
   * Moves isolated pages; those moved leave the list.
   *
   * @returns how many were not moved, or −ENOMEM
   * @linux mm/migrate.c:migrate_pages
   */
  migrate(list: Pfn[], getNewPage: GetNewPage, mode: number, reason: number): number;
}
