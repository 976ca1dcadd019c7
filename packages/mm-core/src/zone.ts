/**
 * A zone: a contiguous range of frames with a page allocator of its own, watermarks that say how much of it to keep, and
 * lists of free pages for each CPU.
 *
 *     managed === nrFree + pages on per-CPU lists + pages in use
 *
 * The zone keeps one bit for each frame that its page allocator does not have (`frames.taken`), and so checks every
 * answer of the allocator before it believes it.
 */
import { bugOn } from '@pagelab/lib';
import type { Pfn } from '@pagelab/hw';
import { WMARK_HIGH, ALLOC_CMA, ALLOC_HIGHATOMIC, ALLOC_MIN_RESERVE, ALLOC_NON_BLOCK, ALLOC_OOM, ALLOC_RESERVES } from './alloc-flags.ts';
import { ZoneCompaction } from './compaction-state.ts';
import { clearBits, countBits, setBits } from './frame-bits.ts';
import { MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_PCPTYPES, MIGRATE_TYPES } from './migratetype.ts';
import { MAX_PAGE_ORDER, NR_PAGE_ORDERS, PAGEBLOCK_ORDER } from './page.ts';
import type { PageFrames } from './page.ts';
import { REFUSALS } from './page-allocator.ts';
import type { FrameRange, PageAllocator, PageAllocatorFactory, PageAllocatorRefusal, RunningCpu } from './page-allocator.ts';
import { NR_PCP_LISTS, PerCpuPages, pcpOrder } from './pcp.ts';
import { ZONE_STAT, ZONE_STAT_NAMES } from './vmstat.ts';
import { ZONE_NAMES } from './zone-types.ts';

/** What boot decided about a zone. */
export interface ZoneShape {
  readonly nid: number;
  /** Position among the zones of its node. */
  readonly index: number;
  /** `ZONE_*`. */
  readonly kind: number;
  /** First frame, and one past the last; equal for an empty zone. */
  readonly startPfn: Pfn;
  readonly endPfn: Pfn;
  /** Frames of RAM. */
  readonly present: number;
}

/** Catches a block that comes free: who compacts gets what came of it. @linux mm/internal.h:capture_control */
export interface PageCapture {
  readonly order: number;
  /** What it will hold. */
  readonly migratetype: number;
  /** The block once it is caught, which then is taken; −1 before. */
  pfn: Pfn;
}

const PCP_TYPES_MASK = (1 << MIGRATE_PCPTYPES) - 1;

export class Zone {
  /** The node it belongs to. */
  readonly nid: number;
  /** Position among the zones of its node: what `protection` and GFP flags count by. */
  readonly index: number;
  /** `ZONE_*`. */
  readonly kind: number;
  /** As `/proc/zoneinfo` names it. */
  readonly name: string;
  readonly startPfn: Pfn;
  readonly endPfn: Pfn;
  /** Pages from the first to the last, holes included. */
  readonly spanned: number;
  /** Pages of RAM. */
  readonly present: number;
  /** log2 of the frames in a pageblock, and how many they are: the same in every zone of a machine. */
  readonly pageblockOrder: number;
  readonly pageblockPages: number;
  /** Pages handed to the page allocator. */
  managed = 0;
  /** Free pages: NR_FREE_PAGES. Pages on per-CPU lists are not among them. */
  nrFree = 0;
  /** Watermarks in pages, by WMARK_*; without the boost. @linux include/linux/mmzone.h:zone._watermark */
  readonly watermark = new Int32Array(4);
  /** Added to each watermark, after pageblocks had to be mixed. Set by {@link setWatermarkBoost}. */
  watermarkBoost = 0;
  /** Pages kept from allocations that could use the zone of the index too. `protection` in `/proc/zoneinfo`. */
  readonly lowmemReserve: Int32Array;
  /** Pages in pageblocks of MIGRATE_HIGHATOMIC. */
  nrReservedHighatomic = 0;
  /** Free pages of MIGRATE_HIGHATOMIC, MIGRATE_CMA and MIGRATE_ISOLATE. */
  nrFreeHighatomic = 0;
  nrFreeCma = 0;
  nrFreeIsolated = 0;
  /** Pageblocks of MIGRATE_ISOLATE. */
  nrIsolatePageblock = 0;
  /** Pages that belong to CMA regions. */
  cmaPages = 0;
  /**
   * Whether the free pages that anybody may have exceed the high watermark and all that is kept for lower zones: an
   * allocation of a page then needs no closer look.
   */
  plenty = false;
  /** Below its high watermark when last looked at. @linux include/linux/mmzone.h:ZONE_BELOW_HIGH */
  belowHigh = false;
  /** kswapd is to be woken on account of the boost. @linux include/linux/mmzone.h:ZONE_BOOSTED_WATERMARK */
  boostedWatermark = false;
  /** kswapd is balancing it. @linux include/linux/mmzone.h:ZONE_RECLAIM_ACTIVE */
  reclaimActive = false;
  /** Counters by ZONE_STAT, as far as they are not kept elsewhere: read them through {@link state}. */
  readonly vmStat = new Float64Array(ZONE_STAT_NAMES.length);
  /** Set while compaction for an allocation is at work. */
  capture: PageCapture | null = null;
  /** What compaction remembers of it. */
  readonly compact: ZoneCompaction;
  /** By CPU number. */
  readonly pcp: readonly PerCpuPages[];
  readonly allocator: PageAllocator;
  /** Answers of the page allocator that were refused, and why the last one was. */
  refusals = 0;
  lastRefusal = '';
  readonly #onRefusal: ((refusal: PageAllocatorRefusal) => void) | undefined;

  /** Whether NUMA_HIT and those behind it, which are the last of {@link vmStat}, are shown. */
  #numaStat = true;
  /** What {@link plenty} compares with. */
  #plentyMark = 0;
  readonly #frames: PageFrames;
  readonly #blockTypes: Uint8Array;
  readonly #managedRanges: FrameRange[] = [];
  /** First managed frame, and one past the last: outside of them nothing is marked as taken. */
  #firstManaged = 0;
  #endManaged = 0;

  constructor(
    shape: ZoneShape,
    frames: PageFrames,
    blockTypes: Uint8Array,
    options: {
      readonly nrCpus: number;
      readonly nrZones: number;
      readonly pageAllocator: PageAllocatorFactory;
      /** {@link PAGEBLOCK_ORDER} unless told. */
      readonly pageblockOrder?: number;
      readonly smp?: RunningCpu;
      readonly onFallback: (zone: Zone, allocFlags: number) => void;
      readonly onRefusal?: (refusal: PageAllocatorRefusal) => void;
    },
  ) {
    this.nid = shape.nid;
    this.index = shape.index;
    this.kind = shape.kind;
    this.name = ZONE_NAMES[shape.kind];
    this.startPfn = shape.startPfn;
    this.endPfn = shape.endPfn;
    this.spanned = shape.endPfn - shape.startPfn;
    this.present = shape.present;
    this.pageblockOrder = options.pageblockOrder ?? PAGEBLOCK_ORDER;
    this.pageblockPages = 1 << this.pageblockOrder;
    this.lowmemReserve = new Int32Array(options.nrZones);
    this.compact = new ZoneCompaction(this);
    this.#frames = frames;
    this.#blockTypes = blockTypes;
    this.pcp = shape.present === 0 ? [] : Array.from({ length: options.nrCpus }, () => new PerCpuPages());
    this.#onRefusal = options.onRefusal;
    const { startPfn, endPfn } = this;
    this.allocator = options.pageAllocator.create({
      frames,
      startPfn,
      endPfn,
      blockTypes,
      pageblockOrder: this.pageblockOrder,
      smp: options.smp,
      onFallback: (allocFlags) => options.onFallback(this, allocFlags),
    });
  }

  /** A watermark with its boost, in pages. @linux include/linux/mmzone.h:wmark_pages */
  wmarkPages(wmark: number): number {
    return this.watermark[wmark] + this.watermarkBoost;
  }

  /** A counter, by ZONE_STAT. @linux include/linux/vmstat.h:zone_page_state */
  state(item: number): number {
    if (!this.#numaStat && item >= ZONE_STAT.NUMA_HIT) return 0;
    switch (item) {
      case ZONE_STAT.NR_FREE_PAGES:
        return this.nrFree - this.nrFreeIsolated;
      case ZONE_STAT.NR_FREE_PAGES_BLOCKS:
        return this.#nrFreePagesBlocks();
      case ZONE_STAT.NR_FREE_CMA_PAGES:
        return this.nrFreeCma;
      case ZONE_STAT.NUMA_HIT:
      case ZONE_STAT.NUMA_LOCAL:
        return this.pcp.reduce((hits, pcp) => hits + pcp.hits, this.vmStat[item]);
      default:
        return this.vmStat[item];
    }
  }

  /** Counts where allocations were served, from nothing on, or shows no counts. @linux mm/vmstat.c:sysctl_vm_numa_stat_handler */
  setNumaStat(on: boolean): void {
    this.#numaStat = on;
    this.vmStat.fill(0, ZONE_STAT.NUMA_HIT);
    for (const pcp of this.pcp) pcp.hits = 0;
  }

  /** Adds the allocations that a CPU made the short way to the counters. */
  addHits(pcp: PerCpuPages): void {
    this.vmStat[ZONE_STAT.NUMA_HIT] += pcp.hits;
    this.vmStat[ZONE_STAT.NUMA_LOCAL] += pcp.hits;
    pcp.hits = 0;
  }

  /** Free blocks of an order. @linux include/linux/mmzone.h:free_area.nr_free */
  nrFreeBlocks(order: number): number {
    let blocks = 0;
    for (let type = 0; type < MIGRATE_TYPES; type++) blocks += this.allocator.nrFreeBlocks(order, type);
    return blocks;
  }

  /** Pages on the per-CPU lists. */
  nrPcpPages(): number {
    let pages = 0;
    for (const pcp of this.pcp) pages += pcp.count;
    return pages;
  }

  /** The ranges handed to the page allocator, ascending. */
  get managedRanges(): readonly FrameRange[] {
    return this.#managedRanges;
  }

  /** Hands RAM of the zone to its page allocator. @linux mm/page_alloc.c:adjust_managed_page_count */
  addManaged(start: Pfn, end: Pfn): void {
    bugOn(start < this.startPfn || end > this.endPfn, 'zone: memory of another zone');
    if (start === end) return;
    const { taken } = this.#frames;
    if (this.managed === 0) {
      this.#firstManaged = start;
      this.#endManaged = end;
    } else if (start >= this.#endManaged) {
      setBits(taken, this.#endManaged, start);
      this.#endManaged = end;
    } else if (end <= this.#firstManaged) {
      setBits(taken, end, this.#firstManaged);
      this.#firstManaged = start;
    } else {
      bugOn(countBits(taken, start, end) !== end - start, 'zone: memory handed over twice');
      clearBits(taken, start, end);
    }
    const pages = end - start;
    this.managed += pages;
    this.nrFree += pages;
    this.#managedRanges.push({ start, end });
    this.#managedRanges.sort((x, y) => x.start - y.start);
    this.allocator.addRange(start, end);
    this.marksChanged();
  }

  // ---- blocks

  /**
   * Takes a block from the page allocator.
   *
   * @returns its first frame, or −1 where there is none or the allocator's answer cannot be true: see {@link refusals}
   * @linux mm/page_alloc.c:__rmqueue
   */
  take(order: number, migratetype: number, allocFlags: number): Pfn {
    const pfn = this.allocator.alloc(order, migratetype, allocFlags);
    if (pfn < 0) return -1;
    const { taken } = this.#frames;
    const pages = 1 << order;
    if ((pfn | 0) !== pfn) return this.#refuse(pfn, order, 'notAFrame');
    if (pfn < this.#firstManaged || pfn + pages > this.#endManaged) return this.#refuse(pfn, order, 'notOfZone');
    if ((pfn & (pages - 1)) !== 0) return this.#refuse(pfn, order, 'notAligned');
    if (order < 5) {
      const bits = ((1 << pages) - 1) << (pfn & 31);
      if ((taken[pfn >>> 5] & bits) !== 0) return this.#refuse(pfn, order, this.#whyTaken(pfn, order));
      taken[pfn >>> 5] |= bits;
    } else {
      const end = (pfn + pages) >>> 5;
      for (let word = pfn >>> 5; word < end; word++) {
        if (taken[word] !== 0) return this.#refuse(pfn, order, this.#whyTaken(pfn, order));
      }
      taken.fill(-1, pfn >>> 5, end);
    }
    this.nrFree -= pages;
    if ((this.nrReservedHighatomic | this.cmaPages | this.nrIsolatePageblock) !== 0) this.countSpecial();
    else this.plenty = this.nrFree > this.#plentyMark;
    return pfn;
  }

  /**
   * The order of the free block that begins at `pfn`, as the buddy system would hold it: the largest that is aligned and all
   * free, up to a pageblock. −1 where the frame is not free.
   *
   * @linux mm/internal.h:buddy_order
   */
  freeOrderAt(pfn: Pfn): number {
    const { taken } = this.#frames;
    if (pfn < this.#firstManaged || pfn >= this.#endManaged || (taken[pfn >>> 5] & (1 << (pfn & 31))) !== 0) return -1;
    let order = 0;
    while (order < this.pageblockOrder && (pfn & (1 << order)) === 0) {
      const upper = pfn + (1 << order);
      if (upper + (1 << order) > this.#endManaged || countBits(taken, upper, upper + (1 << order)) !== 0) break;
      order++;
    }
    return order;
  }

  /**
   * Takes a given block of at most a pageblock from the page allocator.
   *
   * @returns whether it did: not where a frame of it is not free
   */
  takeAt(pfn: Pfn, order: number): boolean {
    const { taken } = this.#frames;
    const end = pfn + (1 << order);
    if (pfn < this.#firstManaged || end > this.#endManaged || countBits(taken, pfn, end) !== 0) return false;
    if (!this.allocator.takeAt(pfn, order)) return false;
    setBits(taken, pfn, end);
    this.nrFree -= 1 << order;
    this.countSpecial();
    return true;
  }

  /** Gives a block back to the page allocator. @linux mm/page_alloc.c:__free_one_page */
  give(pfn: Pfn, order: number, migratetype: number): void {
    const { taken } = this.#frames;
    const pages = 1 << order;
    if (order < 5) {
      const bits = ((1 << pages) - 1) << (pfn & 31);
      bugOn((taken[pfn >>> 5] & bits) !== bits, 'zone: freeing what is free');
      taken[pfn >>> 5] &= ~bits;
    } else {
      const end = (pfn + pages) >>> 5;
      for (let word = pfn >>> 5; word < end; word++) bugOn(taken[word] !== -1, 'zone: freeing what is free');
      taken.fill(0, pfn >>> 5, end);
    }
    this.nrFree += pages;
    this.allocator.free(pfn, order, migratetype, false);
    if ((this.nrReservedHighatomic | this.cmaPages | this.nrIsolatePageblock) !== 0) this.countSpecial();
    else this.plenty = this.nrFree > this.#plentyMark;
    if (this.capture !== null) this.#tryCapture(this.capture, pfn, order, migratetype);
  }

  /**
   * Takes the block that compaction waits for, where the one just freed has completed it. Larger ones than a pageblock are not
   * caught, nor what would put another type into a movable pageblock.
   *
   * @linux mm/page_alloc.c:compaction_capture
   */
  #tryCapture(capture: PageCapture, freed: Pfn, freedOrder: number, type: number): void {
    const { order } = capture;
    if (capture.pfn >= 0 || freedOrder > order || order >= MAX_PAGE_ORDER || type === MIGRATE_CMA || type === MIGRATE_ISOLATE) return;
    if (order < this.pageblockOrder && type === MIGRATE_MOVABLE && capture.migratetype !== MIGRATE_MOVABLE) return;
    const pfn = freed & -(1 << order);
    if (this.takeAt(pfn, order)) capture.pfn = pfn;
  }

  /** Free pages in blocks of a pageblock and more. @linux include/linux/vmstat.h:NR_FREE_PAGES_BLOCKS */
  #nrFreePagesBlocks(): number {
    let pages = 0;
    for (let order = this.pageblockOrder; order < NR_PAGE_ORDERS; order++) pages += this.nrFreeBlocks(order) * (1 << order);
    return pages;
  }

  /** Recounts the free pages that ordinary allocations may not have. */
  countSpecial(): void {
    this.nrFreeHighatomic = this.#believable(this.allocator.nrFreeOfType(MIGRATE_HIGHATOMIC));
    this.nrFreeCma = this.#believable(this.allocator.nrFreeOfType(MIGRATE_CMA));
    this.nrFreeIsolated = this.nrIsolatePageblock === 0 ? 0 : this.#believable(this.allocator.nrFreeOfType(MIGRATE_ISOLATE));
    this.plenty = this.nrFree - this.nrFreeHighatomic - this.nrFreeCma - this.nrFreeIsolated > this.#plentyMark;
  }

  /**
   * Moves the free pages of a pageblock, or of a larger block, to another type, and makes its pageblocks of that type.
   *
   * @returns the free pages moved
   * @linux mm/page_alloc.c:move_freepages_block
   */
  setBlockType(start: Pfn, to: number, order: number = this.pageblockOrder): number {
    const first = start >>> this.pageblockOrder;
    const nrBlocks = 1 << (order - this.pageblockOrder);
    const from = this.#blockTypes[first];
    const pages = this.allocator.moveBlock(start, order, from, to);
    this.#blockTypes.fill(to, first, first + nrBlocks);
    if (from === MIGRATE_ISOLATE) this.nrIsolatePageblock -= nrBlocks;
    if (to === MIGRATE_ISOLATE) this.nrIsolatePageblock += nrBlocks;
    this.countSpecial();
    return pages;
  }

  /** Notes an answer that is not acted on: what it names stays as it is, whoever has it. */
  #refuse(pfn: Pfn, order: number, reason: PageAllocatorRefusal['reason']): Pfn {
    const { name: allocator } = this.allocator;
    this.refusals++;
    this.lastRefusal = `${allocator} answered frame ${pfn} for order ${order} in zone ${this.name}: ${REFUSALS[reason]}`;
    this.#onRefusal?.({ allocator, nid: this.nid, zone: this.name, pfn, order, reason, times: this.refusals });
    return -1;
  }

  #whyTaken(pfn: Pfn, order: number): PageAllocatorRefusal['reason'] {
    const end = pfn + (1 << order);
    const managed = this.#managedRanges.reduce((pages, range) => pages + Math.max(0, Math.min(end, range.end) - Math.max(pfn, range.start)), 0);
    return managed === 1 << order ? 'handedOut' : 'neverGiven';
  }

  /** Of a count that the page allocator told what can be true: watermarks are reckoned with it. */
  #believable(pages: number): number {
    return pages > 0 ? Math.min(pages, this.nrFree) : 0;
  }

  // ---- watermarks

  /**
   * Whether an allocation may go ahead: a block of `order` is free, and without it more than `mark` pages remain, with what
   * the zone keeps for allocations that cannot use higher zones.
   *
   * @param mark in pages
   * @param highestIndex index of the highest zone the allocation may use
   * @param free free pages to reckon with
   * @linux mm/page_alloc.c:__zone_watermark_ok
   */
  watermarkOk(order: number, mark: number, highestIndex: number, allocFlags: number, free: number): boolean {
    let min = mark;
    if ((allocFlags & ALLOC_RESERVES) !== 0) {
      if ((allocFlags & ALLOC_MIN_RESERVE) !== 0) {
        min -= min >> 1;
        if ((allocFlags & ALLOC_NON_BLOCK) !== 0) min -= min >> 2;
      }
      if ((allocFlags & ALLOC_OOM) !== 0) min -= min >> 1;
    }
    if (free - this.unusableFree(order, allocFlags) <= min + this.lowmemReserve[highestIndex]) return false;
    if (order === 0) return true;
    let types = PCP_TYPES_MASK;
    if ((allocFlags & ALLOC_CMA) !== 0) types |= 1 << MIGRATE_CMA;
    if ((allocFlags & (ALLOC_HIGHATOMIC | ALLOC_OOM)) !== 0) types |= 1 << MIGRATE_HIGHATOMIC;
    return this.allocator.hasFree(order, types);
  }

  /** To be called when a watermark or the lowmem reserve has changed. */
  marksChanged(): void {
    this.#plentyMark = this.wmarkPages(WMARK_HIGH) + this.lowmemReserve.reduce((most, kept) => Math.max(most, kept), 0);
    this.countSpecial();
  }

  /** Raises or lowers the boost of the watermarks, in pages. */
  setWatermarkBoost(pages: number): void {
    this.watermarkBoost = pages;
    this.marksChanged();
  }

  /** Free pages that do not count for an allocation. @linux mm/page_alloc.c:__zone_watermark_unusable_free */
  unusableFree(order: number, allocFlags: number): number {
    let pages = (1 << order) - 1;
    if ((allocFlags & ALLOC_RESERVES) === 0) pages += this.nrFreeHighatomic;
    if ((allocFlags & ALLOC_CMA) === 0) pages += this.nrFreeCma;
    return pages + this.nrFreeIsolated;
  }

  // ---- checks

  /**
   * Recomputes the zone's invariants. Costs a step for each block on a list and each 32 frames ever touched.
   *
   * @throws KernelBug for the first that does not hold
   */
  validate(): void {
    const { allocator, name } = this;
    const { taken, refcount, flags, mapcount, mapping } = this.#frames;
    allocator.validate();
    bugOn(allocator.nrFree !== this.nrFree, `zone ${name}: ${this.nrFree} pages free, but its allocator has ${allocator.nrFree}`);
    const blocks = new Float64Array(NR_PAGE_ORDERS);
    let listed = 0;
    allocator.forEachFree((pfn, order) => {
      bugOn(pfn < this.startPfn || pfn + (1 << order) > this.endPfn, `zone ${name}: free block ${pfn} of another zone`);
      bugOn(pfn % (1 << order) !== 0, `zone ${name}: free block ${pfn} of order ${order} is not aligned`);
      bugOn(countBits(taken, pfn, pfn + (1 << order)) !== 0, `zone ${name}: block ${pfn} of order ${order} is free and taken`);
      bugOn(refcount[pfn] !== 0, `zone ${name}: free frame ${pfn} has references`);
      blocks[order]++;
      listed += 1 << order;
    });
    let untouched = 0;
    let clear = 0;
    for (const range of this.managedRanges) clear += range.end - range.start;
    for (const { start, end } of allocator.untouched()) {
      untouched += end - start;
      blocks[MAX_PAGE_ORDER] += (end - start) / (1 << MAX_PAGE_ORDER);
    }
    clear -= untouched;
    for (const { start, end } of this.touchedRanges()) clear -= countBits(taken, start, end);
    bugOn(clear !== listed, `zone ${name}: ${listed} pages on free lists, but ${clear} frames not taken: some are on two lists or on none`);
    bugOn(listed + untouched !== this.nrFree, `zone ${name}: ${listed + untouched} pages free, but ${this.nrFree} counted`);
    for (let order = 0; order < NR_PAGE_ORDERS; order++) {
      bugOn(this.nrFreeBlocks(order) !== blocks[order], `zone ${name}: blocks of order ${order} miscounted`);
    }
    const seen = new Set<Pfn>();
    for (const pcp of this.pcp) {
      let pages = 0;
      for (let index = 0; index < NR_PCP_LISTS; index++) {
        const order = pcpOrder(index, this.pageblockOrder);
        const list = pcp.lists[index];
        for (let i = 0; i < list.count; i++) {
          const pfn = list.at(i);
          bugOn(pfn < this.startPfn || pfn >= this.endPfn, `zone ${name}: frame ${pfn} of another zone on a per-CPU list`);
          bugOn(countBits(taken, pfn, pfn + (1 << order)) !== 1 << order, `zone ${name}: frame ${pfn} is free twice`);
          const state = refcount[pfn] | flags[pfn] | mapcount[pfn] | mapping[pfn];
          bugOn(state !== 0, `zone ${name}: frame ${pfn} on a per-CPU list is in use`);
          bugOn(seen.has(pfn), `zone ${name}: frame ${pfn} is on two per-CPU lists`);
          seen.add(pfn);
        }
        pages += list.count << order;
      }
      bugOn(pages !== pcp.count, `zone ${name}: ${pages} pages on per-CPU lists, but ${pcp.count} counted`);
    }
    const free = this.nrFree - this.nrFreeHighatomic - this.nrFreeCma - this.nrFreeIsolated;
    bugOn(this.plenty !== free > this.#plentyMark, `zone ${name}: plenty is ${this.plenty} with ${free} pages free`);
    const special = [[MIGRATE_HIGHATOMIC, this.nrFreeHighatomic], [MIGRATE_CMA, this.nrFreeCma], [MIGRATE_ISOLATE, this.nrFreeIsolated]];
    for (const [type, counted] of special) {
      bugOn(allocator.nrFreeOfType(type) !== counted, `zone ${name}: free pages of type ${type} miscounted`);
    }
  }

  /** The managed ranges without those that the page allocator never handed anything out of. */
  touchedRanges(): FrameRange[] {
    const touched: FrameRange[] = [];
    const untouched = this.allocator.untouched();
    for (const range of this.#managedRanges) {
      let from = range.start;
      for (const hole of untouched) {
        if (hole.end <= from || hole.start >= range.end) continue;
        if (hole.start > from) touched.push({ start: from, end: hole.start });
        from = hole.end;
      }
      if (from < range.end) touched.push({ start: from, end: range.end });
    }
    return touched;
  }
}
