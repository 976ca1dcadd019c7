/**
 * Per-CPU page lists: each CPU keeps free pages of each zone at hand, refills them in bulk and gives back in bulk.
 */
import type { Pfn } from '@pagelab/hw';
import { MIGRATE_MOVABLE, MIGRATE_PCPTYPES } from './migratetype.ts';
import { PAGE_ALLOC_COSTLY_ORDER } from './page.ts';

/** Lists of orders 0 to 3: a row of three types each. */
const NR_LOW_ORDER_LISTS = MIGRATE_PCPTYPES * (PAGE_ALLOC_COSTLY_ORDER + 1);
/** And two for huge pages: movable, and all else. */
export const NR_PCP_LISTS = NR_LOW_ORDER_LISTS + 2;

/** A batch may grow to this power of two times its size. @linux mm/Kconfig:PCP_BATCH_SCALE_MAX */
export const PCP_BATCH_SCALE_MAX = 5;

/** Lists of far memory that were not used for so many looks are idle. @linux mm/vmstat.c:refresh_cpu_vm_stats */
const LOOKS_UNTIL_IDLE = 3;

/** The last page freed was larger than a frame. @linux include/linux/mmzone.h:PCPF_PREV_FREE_HIGH_ORDER */
const PREV_FREE_HIGH_ORDER = 1;

/** Tells whether blocks of this order go through the per-CPU lists: small ones, and huge pages, which are pageblocks. @linux mm/page_alloc.c:pcp_allowed_order */
export function pcpAllowedOrder(order: number, pageblockOrder: number): boolean {
  return order <= PAGE_ALLOC_COSTLY_ORDER || order === pageblockOrder;
}

/** The list for an order and a type below MIGRATE_PCPTYPES. @linux mm/page_alloc.c:order_to_pindex */
export function pcpIndex(migratetype: number, order: number): number {
  if (order > PAGE_ALLOC_COSTLY_ORDER) return NR_LOW_ORDER_LISTS + (migratetype === MIGRATE_MOVABLE ? 1 : 0);
  return MIGRATE_PCPTYPES * order + migratetype;
}

/** The order of a list. @linux mm/page_alloc.c:pindex_to_order */
export function pcpOrder(index: number, pageblockOrder: number): number {
  return index >= NR_LOW_ORDER_LISTS ? pageblockOrder : Math.floor(index / MIGRATE_PCPTYPES);
}

/**
 * Free blocks of one order and type, last in first out; those that waited longest can be taken from the other end.
 *
 * A ring of pfns: with a list through the columns, as the zone's lists are, getting and freeing a page took 35 ns and
 * not 29 (`page-alloc.bench.ts`).
 */
export class PcpList {
  /** Blocks in the list. */
  count = 0;
  private start = 0;
  private ring = new Int32Array(16);
  /** Length of the ring less one. */
  private mask = 15;

  /** Puts a block first. */
  push(pfn: Pfn): void {
    if (this.count > this.mask) this.grow();
    this.ring[(this.start + this.count++) & this.mask] = pfn;
  }

  /** Takes the first block, the one freed last. The list must not be empty. */
  pop(): Pfn {
    return this.ring[(this.start + --this.count) & this.mask];
  }

  /** Puts a block last. */
  append(pfn: Pfn): void {
    if (this.count > this.mask) this.grow();
    this.start = (this.start - 1) & this.mask;
    this.ring[this.start] = pfn;
    this.count++;
  }

  /** Takes the last block, the one that waited longest. The list must not be empty. */
  shift(): Pfn {
    const pfn = this.ring[this.start];
    this.start = (this.start + 1) & this.mask;
    this.count--;
    return pfn;
  }

  /** Block `index` from the last. */
  at(index: number): Pfn {
    return this.ring[(this.start + index) & this.mask];
  }

  private grow(): void {
    const ring = new Int32Array(this.ring.length * 2);
    for (let i = 0; i < this.count; i++) ring[i] = this.at(i);
    this.ring = ring;
    this.mask = ring.length - 1;
    this.start = 0;
  }
}

/**
 * The free pages that one CPU keeps of one zone.
 *
 *     sum over lists of (blocks << order) === count
 *
 * @linux include/linux/mmzone.h:per_cpu_pages
 */
export class PerCpuPages {
  /** Pages on the lists. */
  count = 0;
  /** Pages it may hold; moves between the two below. */
  high = 0;
  highMin = 0;
  highMax = 0;
  /** Pages moved at once. */
  batch = 1;
  /** Pages freed lately, halved by each allocation. */
  freeCount = 0;
  /** Allocations the short way since they were last added to the zone's counters. */
  hits = 0;
  /** By {@link pcpIndex}. */
  readonly lists: readonly PcpList[] = Array.from({ length: NR_PCP_LISTS }, () => new PcpList());

  /** Doubles the refill for each one that follows without a page freed between. */
  private allocFactor = 0;
  private flags = 0;
  /** What {@link isIdle} saw last, and how often it is still to see the same. */
  private seenCount = 0;
  private seenHits = 0;
  private looksLeft = 0;

  /** Sets the bounds of {@link high}. */
  setBounds(batch: number, highMin: number, highMax: number): void {
    this.batch = batch;
    this.highMin = highMin;
    this.highMax = highMax;
    // A list that was used has found its size within the old bounds.
    if (this.high > 0) this.high = clamp(this.high, highMin, highMax);
  }

  /**
   * Accounts for a page just put on a list.
   *
   * @returns whether that is all: otherwise {@link pagesToFree} is to be asked
   */
  pushed(): boolean {
    if (++this.count >= this.high) return false;
    this.allocFactor >>= 1;
    this.flags = 0;
    if (this.freeCount < this.batch << PCP_BATCH_SCALE_MAX) this.freeCount++;
    return true;
  }

  /**
   * Lets what grew shrink by an eighth, and by no more than can be given back at once.
   *
   * @returns pages to give back
   * @linux mm/page_alloc.c:decay_pcp_high
   */
  decayHigh(): number {
    if (this.high > this.highMin) {
      this.high = Math.max(this.count - (this.batch << PCP_BATCH_SCALE_MAX), this.high - (this.high >> 3), this.highMin);
    }
    return Math.max(0, this.count - this.high);
  }

  /**
   * Whether nothing has come or gone for three looks in a row.
   *
   * @linux include/linux/mmzone.h:per_cpu_zonestat
   */
  isIdle(): boolean {
    const { count, hits } = this;
    if (count !== this.seenCount || hits !== this.seenHits) this.looksLeft = LOOKS_UNTIL_IDLE;
    this.seenCount = count;
    this.seenHits = hits;
    if (this.looksLeft === 0) return true;
    this.looksLeft--;
    return false;
  }

  /** Memory is short: refills begin small again, lest what was just given back comes back at once. */
  startSmall(): void {
    this.allocFactor = 0;
  }

  /**
   * How many blocks of `order` to refill with.
   *
   * @param belowHigh whether the zone is below its high watermark, where the lists must not grow
   * @linux mm/page_alloc.c:nr_pcp_alloc
   */
  refillBatch(order: number, belowHigh: boolean): number {
    const base = this.batch;
    let high = (this.high = clamp(this.high, this.highMin, this.highMax));
    if (high < base) return 1;
    let batch = order > 0 ? base : base << this.allocFactor;
    if (this.highMin !== this.highMax && !belowHigh) high = this.high = Math.min(high + batch, this.highMax);
    if (order === 0) {
      const most = Math.max(high - this.count - base, base);
      if (batch <= most && this.allocFactor < PCP_BATCH_SCALE_MAX) this.allocFactor++;
      batch = Math.min(batch, most);
    }
    return batch > 1 ? Math.max(batch >> order, 2) : batch;
  }

  /**
   * Accounts for a block just put on a list.
   *
   * @returns how many pages to give back to the zone, 0 for none
   * @linux mm/page_alloc.c:free_frozen_page_commit
   */
  pagesToFree(order: number, belowHigh: boolean, reclaimActive: boolean): number {
    this.allocFactor >>= 1;
    const { batch } = this;
    let freeHigh = false;
    if (order > 0 && order <= PAGE_ALLOC_COSTLY_ORDER) {
      // Blocks that keep coming and are not asked for would only fragment the zone from here.
      freeHigh = this.freeCount >= batch + (this.highMin >> 1) && (this.flags & PREV_FREE_HIGH_ORDER) !== 0 && this.count >= batch;
      this.flags |= PREV_FREE_HIGH_ORDER;
    } else {
      this.flags &= ~PREV_FREE_HIGH_ORDER;
    }
    if (this.freeCount < batch << PCP_BATCH_SCALE_MAX) this.freeCount += 1 << order;
    const high = this.currentHigh(batch, freeHigh, belowHigh, reclaimActive);
    if (this.count < high) return 0;
    // nr_pcp_free()
    if (freeHigh) return this.count;
    if (high < batch) return 1;
    return clamp(this.freeCount, batch, high - batch);
  }

  /** @linux mm/page_alloc.c:nr_pcp_high */
  private currentHigh(batch: number, freeHigh: boolean, belowHigh: boolean, reclaimActive: boolean): number {
    const { highMin, highMax } = this;
    let high = (this.high = clamp(this.high, highMin, highMax));
    if (high === 0) return 0;
    if (freeHigh) {
      this.high = Math.max(high - (batch << PCP_BATCH_SCALE_MAX), highMin);
      return 0;
    }
    if (reclaimActive) {
      this.high = Math.max(high - Math.max(this.freeCount, batch), highMin);
      return Math.min(batch << 2, this.high);
    }
    if (highMin === highMax) return high;
    if (belowHigh) {
      this.high = Math.max(high - Math.max(this.freeCount, batch), highMin);
      high = Math.max(this.count, highMin);
    } else if (this.count >= high) {
      const needed = this.freeCount + batch;
      if (this.high < needed) this.high = clamp(needed, highMin, highMax);
    }
    return high;
  }
}

function clamp(value: number, low: number, high: number): number {
  return Math.max(low, Math.min(high, value));
}
