/**
 * What compaction remembers of a zone: where its scanners were, and how often it was of no use.
 */
import type { Pfn } from '@pagelab/hw';

/** A zone is asked at least every 2^6 times. @linux mm/compaction.c:COMPACT_MAX_DEFER_SHIFT */
export const COMPACT_MAX_DEFER_SHIFT = 6;

/** What a zone looks like to compaction. */
interface Span {
  readonly startPfn: Pfn;
  readonly endPfn: Pfn;
  /** Frames in a pageblock. */
  readonly pageblockPages: number;
}

/**
 * The fields `compact_*` of a zone.
 *
 * @linux include/linux/mmzone.h:zone
 */
export class ZoneCompaction {
  /** Where the free scanner begins. */
  cachedFreePfn: Pfn;
  /** Where the migration scanner begins: asynchronous, and synchronous. */
  readonly cachedMigratePfn: [Pfn, Pfn];
  /** Where they begin at the earliest, since hints were last forgotten; 0 before. */
  initMigratePfn: Pfn = 0;
  initFreePfn: Pfn = 0;
  /** Attempts since compaction last failed; it is deferred until there were 2^`deferShift`. */
  considered = 0;
  deferShift = 0;
  /** The lowest order that failed. */
  orderFailed = 0;
  /** The skip hints are to be forgotten when kswapd goes to sleep: the scanners have met. */
  blockskipFlush = false;

  constructor(zone: Span) {
    this.cachedFreePfn = lastPageblock(zone);
    this.cachedMigratePfn = [zone.startPfn, zone.startPfn];
  }

  /** Both scanners begin at the ends of the zone again. @linux mm/compaction.c:reset_cached_positions */
  resetCachedPositions(zone: Span): void {
    this.cachedMigratePfn[0] = zone.startPfn;
    this.cachedMigratePfn[1] = zone.startPfn;
    this.cachedFreePfn = lastPageblock(zone);
  }

  /** Compaction was of no use for `order`: not so soon again. @linux mm/compaction.c:defer_compaction */
  defer(order: number): void {
    this.considered = 0;
    this.deferShift = Math.min(this.deferShift + 1, COMPACT_MAX_DEFER_SHIFT);
    if (order < this.orderFailed) this.orderFailed = order;
  }

  /** Whether compaction for `order` is put off this time. @linux mm/compaction.c:compaction_deferred */
  deferred(order: number): boolean {
    if (order < this.orderFailed) return false;
    const limit = 1 << this.deferShift;
    if (++this.considered < limit) return true;
    this.considered = limit;
    return false;
  }

  /** A block of `order` is there, or was even allocated. @linux mm/compaction.c:compaction_defer_reset */
  deferReset(order: number, allocated: boolean): void {
    if (allocated) {
      this.considered = 0;
      this.deferShift = 0;
    }
    if (order >= this.orderFailed) this.orderFailed = order + 1;
  }

  /** Whether it was put off as long as can be, and is tried again now. @linux mm/compaction.c:compaction_restarting */
  restarting(order: number): boolean {
    if (order < this.orderFailed) return false;
    return this.deferShift === COMPACT_MAX_DEFER_SHIFT && this.considered >= 1 << this.deferShift;
  }
}

/** First frame of the zone's last pageblock. */
export function lastPageblock({ endPfn, pageblockPages }: Span): Pfn {
  return (endPfn - 1) & -pageblockPages;
}
