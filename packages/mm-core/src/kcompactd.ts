/**
 * kcompactd: a node's thread that compacts when kswapd could not help, and now and then unasked.
 *
 * @linux mm/compaction.c:kcompactd
 */
import { WMARK_HIGH, WMARK_MIN } from './alloc-flags.ts';
import {
  COMPACT_COMPLETE,
  COMPACT_CONTINUE,
  COMPACT_PARTIAL_SKIPPED,
  COMPACT_SUCCESS,
  compactNode,
  compactZone,
  compactionSuitAllocationOrder,
  fragmentationScoreWmark,
} from './compaction.ts';
import { resetIsolationSuitable } from './compaction-control.ts';
import { COMPACT_MAX_DEFER_SHIFT } from './compaction-state.ts';
import { extfragForOrder } from './fragmentation.ts';
import { MIGRATE_SYNC_LIGHT } from './migration-ops.ts';
import type { MemoryNode } from './node.ts';
import type { PageAlloc } from './page-alloc.ts';
import { VM_EVENT, ZONE_STAT } from './vmstat.ts';
import type { Zone } from './zone.ts';

/** Between two looks at how scattered a node is, in nanoseconds. @linux mm/compaction.c:HPAGE_FRAG_CHECK_INTERVAL_MSEC */
export const FRAG_CHECK_INTERVAL_NS = 500_000_000;

/** A node's kcompactd. @linux include/linux/mmzone.h:pglist_data */
export class Kcompactd {
  readonly #pages: PageAlloc;
  readonly #node: MemoryNode;
  /** The largest order asked for since it last worked, and the highest zone that may serve it. */
  #maxOrder = 0;
  #highestIndex = 0;
  #woken = false;
  #working = false;
  /** Virtual time at which it looks next. */
  #nextCheck = FRAG_CHECK_INTERVAL_NS;

  constructor(pages: PageAlloc, node: MemoryNode) {
    this.#pages = pages;
    this.#node = node;
    this.#highestIndex = node.zones.length - 1;
  }

  /** Asks it for blocks of `order`. It works when {@link run} next lets it. @linux mm/compaction.c:wakeup_kcompactd */
  wake(order: number, highestIndex: number): void {
    if (order === 0) return;
    this.#maxOrder = Math.max(this.#maxOrder, order);
    this.#highestIndex = Math.min(this.#highestIndex, highestIndex);
    if (this.#zones().some((zone) => this.#suits(zone, this.#highestIndex) === COMPACT_CONTINUE)) {
      this.#woken = true;
      this.#pages.hooks.kcompactdWoken?.();
    }
  }

  /** Makes it look at once how scattered the node is. @linux mm/compaction.c:compaction_proactiveness_sysctl_handler */
  trigger(): void {
    this.#nextCheck = 0;
  }

  /**
   * Lets it work: for who woke it, and every half second of virtual time on its own account.
   *
   * @param now virtual time in nanoseconds
   */
  run(now: number): void {
    // What it moves may need memory, and so wake it.
    if (this.#working || (!this.#woken && now < this.#nextCheck)) return;
    this.#working = true;
    if (this.#woken) this.#doWork();
    else this.#checkFragmentation(now);
    this.#working = false;
  }

  /** The populated zones that who woke it can use. */
  #zones(): Zone[] {
    return this.#node.zones.filter((zone) => zone.present > 0 && zone.index <= this.#highestIndex);
  }

  #suits(zone: Zone, highestIndex: number): number {
    const { defragMode } = this.#pages.sysctl;
    const free = defragMode ? zone.state(ZONE_STAT.NR_FREE_PAGES_BLOCKS) : zone.nrFree;
    return compactionSuitAllocationOrder(this.#pages, zone, this.#maxOrder, highestIndex, defragMode ? WMARK_HIGH : WMARK_MIN, false, free);
  }

  /** @linux mm/compaction.c:kcompactd_do_work */
  #doWork(): void {
    const pages = this.#pages;
    const order = this.#maxOrder;
    const highestIndex = this.#highestIndex;
    pages.events[VM_EVENT.KCOMPACTD_WAKE]++;
    for (const zone of this.#zones()) {
      const { compact } = zone;
      if (compact.deferred(order) || this.#suits(zone, zone.index) !== COMPACT_CONTINUE) continue;
      const status = compactZone(pages, { zone, order, mode: MIGRATE_SYNC_LIGHT, allocFlags: pages.sysctl.defragMode ? WMARK_HIGH : WMARK_MIN, highestIndex, byKcompactd: true });
      if (status === COMPACT_SUCCESS) compact.deferReset(order, false);
      else if (status === COMPACT_PARTIAL_SKIPPED || status === COMPACT_COMPLETE) {
        // Perhaps blocks are only not merged because parts of them wait on per-CPU lists.
        pages.drainAllPages(zone);
        compact.defer(order);
      }
    }
    this.#maxOrder = 0;
    this.#highestIndex = this.#node.zones.length - 1;
    this.#woken = false;
  }

  /** @linux mm/compaction.c:should_proactive_compact_node */
  #checkFragmentation(now: number): void {
    const pages = this.#pages;
    this.#nextCheck = now + FRAG_CHECK_INTERVAL_NS;
    if (pages.compaction.proactiveness === 0) return;
    const before = fragmentationScoreNode(this.#node);
    if (before <= fragmentationScoreWmark(pages, false)) return;
    compactNode(pages, this.#node, true);
    // No progress: not so soon again.
    if (fragmentationScoreNode(this.#node) >= before) this.#nextCheck = now + FRAG_CHECK_INTERVAL_NS * 2 ** COMPACT_MAX_DEFER_SHIFT;
  }
}

/**
 * How much of a node's free memory lies in blocks smaller than a huge page, in percent, each zone by its size.
 *
 * @linux mm/compaction.c:fragmentation_score_node
 */
export function fragmentationScoreNode(node: MemoryNode): number {
  let score = 0;
  for (const zone of node.zones) {
    score += Math.floor((zone.present * extfragForOrder(zone, zone.pageblockOrder)) / (node.present + 1));
  }
  return score;
}

/** Forgets where scans of a node found nothing, as far as an allocation has asked for it: when its kswapd goes to sleep. @linux mm/compaction.c:reset_isolation_suitable */
export function resetIsolationSuitableNode(pages: PageAlloc, node: MemoryNode): void {
  for (const zone of node.zones) if (zone.present > 0 && zone.compact.blockskipFlush) resetIsolationSuitable(pages, zone);
}
