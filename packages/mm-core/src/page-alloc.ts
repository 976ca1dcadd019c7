/**
 * Getting and freeing pages.
 */
import { Errno } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { DEFAULT_COSTS, PAGE_OFFSET, PAGE_SIZE } from '@pagelab/hw';
import type { CostModel, Pfn, PhysicalMemory, Smp, VirtualClock } from '@pagelab/hw';
import { KernelBug, bugOn } from '@pagelab/lib';
import type { TraceRing } from '@pagelab/lib';
import { ALLOC_CMA, ALLOC_KSWAPD, ALLOC_NOFRAGMENT, WMARK_HIGH, WMARK_LOW } from './alloc-flags.ts';
import { buddyAllocator } from './buddy.ts';
import { GFP_MOVABLE_SHIFT, PF_MEMALLOC_NOFS, PF_MEMALLOC_NOIO, PF_MEMALLOC_PIN, __GFP_BITS_MASK, __GFP_COMP, __GFP_FS, __GFP_HIGHMEM, __GFP_IO, __GFP_MOVABLE, __GFP_ZERO, gfpRefusal, gfpTable, gfpText } from './gfp.ts';
import { getPageFromFreelist } from './freelist.ts';
import type { AllocContext } from './freelist.ts';
import { MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_PCPTYPES } from './migratetype.ts';
import { layOutMemory } from './mm-init.ts';
import type { BootLayout, KernelVersion, NodeConfig } from './mm-init.ts';
import { MemoryNode, LOCAL_DISTANCE, REMOTE_DISTANCE, fallbackOrders } from './node.ts';
import { NR_OWNERS, OWNER_FREE, frameOwner } from './owner.ts';
import {
  BYTES_PER_FRAME,
  MAX_PAGE_ORDER,
  PAGEBLOCK_ORDER,
  PAGEBLOCK_PAGES,
  PAGE_FLAGS_CHECK_AT_FREE,
  PG_ANON,
  PG_HEAD,
  PG_MLOCKED,
  PG_TAIL,
  PageFrames,
  blockOrder,
  compoundHead,
  pageFlagsText,
} from './page.ts';
import type { PageAllocatorFactory } from './page-allocator.ts';
import { NR_PCP_LISTS, pcpAllowedOrder, pcpIndex, pcpOrder } from './pcp.ts';
import type { PerCpuPages } from './pcp.ts';
import { allocPagesSlowpath } from './slow-path.ts';
import { PageAllocSysctl } from './sysctl.ts';
import type { PageAllocSysctlConfig } from './sysctl.ts';
import { NODE_STAT_NAMES, PGALLOC_OF_ZONE, VM_EVENT, VM_EVENT_NAMES, ZONE_STAT, ZONE_STAT_NAMES } from './vmstat.ts';
import { X86_64_ZONES, ZONE_HIGHMEM, ZONE_NORMAL } from './zone-types.ts';
import type { ZoneLayout } from './zone-types.ts';
import { Zone, setBits } from './zone.ts';

const { PGFREE, UNEVICTABLE_PGCLEARED } = VM_EVENT;
const { NUMA_HIT, NUMA_MISS, NUMA_FOREIGN, NUMA_LOCAL, NUMA_OTHER, NR_MLOCK } = ZONE_STAT;

/** What higher layers fill in: how to get memory back. All are optional; what is missing gets nothing back. */
export interface PageAllocHooks {
  /** Wakes the node's kswapd to balance `zone` for blocks of `order`. @linux mm/vmscan.c:wakeup_kswapd */
  wakeKswapd?: (zone: Zone, order: number, gfp: number) => void;
  /** Reclaims for an allocation; returns the pages freed. @linux mm/vmscan.c:try_to_free_pages */
  directReclaim?: (gfp: number, order: number, nrToReclaim: number) => number;
  /** Compacts for an allocation; returns whether a block of `order` may have come free. @linux mm/compaction.c:try_to_compact_pages */
  compact?: (gfp: number, order: number) => boolean;
  /** Kills a task; returns whether it is worth trying again. @linux mm/oom_kill.c:out_of_memory */
  outOfMemory?: (gfp: number, order: number) => boolean;
  /** Pages of a zone that reclaim could free. @linux mm/vmscan.c:zone_reclaimable_pages */
  zoneReclaimablePages?: (zone: Zone) => number;
  /** Reports an allocation that failed. @linux mm/page_alloc.c:warn_alloc */
  warnAlloc?: (gfp: number, order: number) => void;
}

/** What a page allocator is made from. */
export interface PageAllocOptions {
  readonly ram: PhysicalMemory;
  readonly smp: Smp;
  readonly clock: VirtualClock;
  readonly trace: TraceRing;
  /** Which kernel's rules to follow: `6.18` unless told. */
  readonly kernel?: KernelVersion;
  /** Zones of the architecture: x86-64 unless told. */
  readonly layout?: ZoneLayout;
  /** Nodes in order of their memory; one with all of it unless told. */
  readonly nodes?: readonly NodeConfig[];
  /** Distances from each node to each, 10 to itself and 20 to others unless told. */
  readonly distances?: readonly (readonly number[])[];
  /** CPUs the machine has room for: those it has unless told. */
  readonly possibleCpus?: number;
  /** What finds free blocks: the buddy system unless told. */
  readonly pageAllocator?: PageAllocatorFactory;
  /** Whether huge pages are in use (always, madvise): yes unless told. */
  readonly transparentHugepage?: boolean;
  readonly sysctl?: PageAllocSysctlConfig;
  readonly hooks?: PageAllocHooks;
  readonly costs?: CostModel;
}

/**
 * The machine's page frames and what hands them out.
 *
 * An allocation goes to the per-CPU list of the preferred zone; where that is empty or memory is short, to the zones of
 * the zonelist as their watermarks allow; and if they do not, down the ladder of {@link allocPagesSlowpath}.
 *
 * @linux mm/page_alloc.c
 */
export class PageAlloc {
  readonly frames: PageFrames;
  readonly nodes: readonly MemoryNode[];
  /** All zones, empty ones included, by node and ascending. */
  readonly zones: readonly Zone[];
  /** Events since boot, by VM_EVENT: `/proc/vmstat`. */
  readonly events = new Float64Array(VM_EVENT_NAMES.length);
  readonly sysctl: PageAllocSysctl;
  readonly hooks: PageAllocHooks;
  /** Migrate type of each pageblock, by `pfn >>> 9`. */
  readonly blockTypes: Uint8Array;
  /** The current task's `PF_MEMALLOC*` flags: the kernel sets them when it switches tasks. */
  currentFlags = 0;
  /** Whether the current task is a victim of the OOM killer, and may use reserves to get out of the way. */
  currentIsOomVictim = false;
  /** Above 0 where nothing may sleep: in an interrupt, or with preemption off. */
  atomicDepth = 0;
  /** Allocations that failed and would have been reported. */
  failures = 0;
  /** Requests refused for flags that contradict each other, and what the last of them asked. */
  refusedRequests = 0;
  lastRefusal = '';

  readonly #ram: PhysicalMemory;
  readonly #smp: Smp;
  readonly #clock: VirtualClock;
  readonly #trace: TraceRing;
  readonly #costs: CostModel;
  readonly #layout: BootLayout;
  /** Low five GFP bits to zone index and migrate type. */
  readonly #gfpTable: Int8Array;
  /** Zones with memory, and for each pageblock which of them it is in; 255 for one that is in several. */
  readonly #populated: readonly Zone[];
  readonly #zoneOfBlock: Uint8Array;
  readonly #cpuNode: Int32Array;
  /** Each node's zonelists. */
  readonly #traceAlloc: number;
  readonly #traceFree: number;
  readonly #traceDrain: number;
  readonly #traceFallback: number;

  constructor(options: PageAllocOptions) {
    const layout = options.layout ?? X86_64_ZONES;
    const kernel = options.kernel ?? '6.18';
    const nrCpus = options.smp.cpus.length;
    this.#ram = options.ram;
    this.#smp = options.smp;
    this.#clock = options.clock;
    this.#trace = options.trace;
    this.#costs = options.costs ?? DEFAULT_COSTS;
    this.hooks = options.hooks ?? {};
    this.#traceAlloc = options.trace.define('mm_page_alloc', ['pfn', 'order', 'migratetype', 'gfp_flags']);
    this.#traceFree = options.trace.define('mm_page_free', ['pfn', 'order']);
    this.#traceDrain = options.trace.define('mm_page_pcpu_drain', ['pfn', 'order', 'migratetype']);
    this.#traceFallback = options.trace.define('mm_page_alloc_extfrag', ['zone', 'alloc_flags']);
    this.#gfpTable = gfpTable(layout.kinds);
    const shape = layOutMemory(options.ram.map, layout, {
      kernel,
      nrCpus: options.possibleCpus ?? nrCpus,
      ...(options.nodes === undefined ? {} : { nodes: options.nodes }),
    });
    this.#layout = shape;
    this.frames = new PageFrames(shape.maxPfn);
    this.frames.bootRanges = shape.memblock.ownedRanges(shape.maxPfn);
    const nrBlocks = Math.ceil(shape.maxPfn / PAGEBLOCK_PAGES);
    // Memory begins as movable: user pages are most of it, and what else is needed claims its pageblocks.
    this.blockTypes = new Uint8Array(nrBlocks).fill(MIGRATE_MOVABLE);
    this.zones = shape.zones.map(
      (zone) =>
        new Zone(zone, this.frames, this.blockTypes, {
          nrCpus,
          nrZones: layout.kinds.length,
          pageAllocator: options.pageAllocator ?? buddyAllocator,
          onFallback: (inZone, allocFlags) => this.#onFallback(inZone, allocFlags),
        }),
    );
    const zonesOf = (nid: number): readonly Zone[] => this.zones.slice(nid * layout.kinds.length, (nid + 1) * layout.kinds.length);
    const nids = shape.nodes.map(({ nid }) => nid);
    const distances = options.distances ?? nids.map((from) => nids.map((to) => (from === to ? LOCAL_DISTANCE : REMOTE_DISTANCE)));
    const orders = fallbackOrders(
      distances,
      nids.map((nid) => zonesOf(nid).some((zone) => zone.present > 0)),
      shape.nodes.map(({ cpus }) => cpus.length > 0),
      kernel === '6.1',
    );
    this.nodes = shape.nodes.map((node, i) => new MemoryNode(node, zonesOf(node.nid), distances[i], orders[i], zonesOf));
    this.#cpuNode = new Int32Array(nrCpus);
    for (const { nid, cpus } of shape.nodes) for (const cpu of cpus) if (cpu < nrCpus) this.#cpuNode[cpu] = nid;
    this.#populated = this.zones.filter((zone) => zone.present > 0);
    this.#zoneOfBlock = mapZones(this.#populated, nrBlocks);
    this.sysctl = new PageAllocSysctl(
      this.nodes,
      nrCpus,
      layout.lowmemReserveRatio,
      { movableLikeHighmem: kernel !== '6.1', pcpAutoTune: kernel !== '6.1' },
      PAGEBLOCK_PAGES,
    );
    this.#handOver();
    this.sysctl.init(options.sysctl ?? {}, options.transparentHugepage ?? true);
    this.#freeInitmem();
  }

  // ---- allocating

  /**
   * Allocates a block of 2^`order` frames, with one reference.
   *
   * @param gfp what memory, and what may be done to get it
   * @param order 0 to 10
   * @returns its first frame; −ENOMEM; −EINVAL where Linux refuses the flags
   * @linux mm/page_alloc.c:__alloc_pages
   */
  allocPages(gfp: number, order: number): Pfn {
    return this.allocPagesNode(this.#cpuNode[this.#smp.processorId], gfp, order);
  }

  /** Allocates one frame; as {@link allocPages} of order 0. @linux include/linux/gfp.h:alloc_page */
  allocPage(gfp: number): Pfn {
    const kind = this.#gfpTable[gfp & 31];
    if (kind >= 0 && this.currentFlags === 0 && !this.#trace.enabled) {
      const node = this.nodes[this.#cpuNode[this.#smp.processorId]];
      const highest = kind & 7;
      const zone = node.zonelists[highest][0];
      const list = kind >> GFP_MOVABLE_SHIFT;
      if (zone !== undefined && zone.nid === node.nid && !zone.belowHigh) {
        const pcp = zone.pcp[this.#smp.processorId];
        const pfn = pcp.head[list];
        const unusable = list === MIGRATE_MOVABLE ? zone.nrFreeHighatomic : zone.nrFreeHighatomic + zone.nrFreeCma;
        if (pfn !== 0 && zone.nrFree - unusable > zone.watermark[WMARK_HIGH] + zone.watermarkBoost + zone.lowmemReserve[highest]) {
          pcp.pop(list);
          pcp.count--;
          pcp.freeCount >>= 1;
          this.events[PGALLOC_OF_ZONE[zone.kind]]++;
          zone.vmStat[NUMA_HIT]++;
          zone.vmStat[NUMA_LOCAL]++;
          const { frames } = this;
          if ((frames.flags[pfn] | frames.refcount[pfn] | frames.mapcount[pfn] | frames.mapping[pfn]) !== 0) this.#badPage(pfn, 'allocated');
          frames.refcount[pfn] = 1;
          frames.private[pfn] = 0;
          if ((gfp & __GFP_ZERO) !== 0) this.#zero(pfn, 1);
          this.#clock.advance(this.#costs.pageAlloc);
          return pfn;
        }
      }
    }
    return this.allocPagesNode(this.#cpuNode[this.#smp.processorId], gfp, 0);
  }

  /**
   * Allocates as {@link allocPages}, preferring node `nid`.
   *
   * @linux mm/page_alloc.c:__alloc_pages_node
   */
  allocPagesNode(nid: number, gfp: number, order: number): Pfn {
    if (order < 0 || order > MAX_PAGE_ORDER) return -Errno.ENOMEM;
    const kind = this.#gfpTable[gfp & 31];
    if (kind < 0 || (gfp & ~__GFP_BITS_MASK) !== 0) return this.#refuse(gfp);
    bugOn((gfp & 0x400) !== 0 && this.atomicDepth > 0, 'an allocation that may sleep, where nothing may');
    const flags = this.#currentGfp(gfp);
    const node = this.nodes[nid];
    const highest = kind & 7;
    const context: AllocContext = {
      gfp: flags,
      order,
      highestIndex: highest,
      migratetype: kind >> 3,
      zonelist: node.zonelists[highest],
      localNid: this.#cpuNode[this.#smp.processorId],
      multiNode: this.nodes.length > 1,
    };
    const preferred = context.zonelist[0];
    let allocFlags = WMARK_LOW | (flags & ALLOC_KSWAPD);
    if (context.migratetype === MIGRATE_MOVABLE) allocFlags |= ALLOC_CMA;
    // Rather DMA32 than mixing Normal's pageblocks.
    if (preferred !== undefined && preferred.kind === ZONE_NORMAL) allocFlags |= ALLOC_NOFRAGMENT;
    let pfn = getPageFromFreelist(this, context, allocFlags);
    if (pfn < 0) pfn = allocPagesSlowpath(this, context);
    if (pfn < 0) return pfn;
    if (this.#trace.enabled) this.#trace.emit(this.#traceAlloc, pfn, order, context.migratetype, flags);
    this.#clock.advance(this.#costs.pageAlloc);
    return pfn;
  }

  /**
   * Allocates up to `count` single frames into `out`.
   *
   * @returns how many
   * @linux mm/page_alloc.c:alloc_pages_bulk_noprof
   */
  allocPagesBulk(gfp: number, count: number, out: Int32Array): number {
    for (let i = 0; i < count; i++) {
      const pfn = this.allocPage(gfp);
      if (pfn < 0) return i;
      out[i] = pfn;
    }
    return count;
  }

  /** Allocates a block the kernel can address. @returns its address, or 0 @linux mm/page_alloc.c:get_free_pages_noprof */
  getFreePages(gfp: number, order: number): VirtAddr {
    const pfn = this.allocPages(gfp & ~__GFP_HIGHMEM, order);
    return pfn < 0 ? 0 : this.pageAddress(pfn);
  }

  /** Allocates a zeroed page the kernel can address. @returns its address, or 0 @linux mm/page_alloc.c:get_zeroed_page_noprof */
  getZeroedPage(gfp: number): VirtAddr {
    return this.getFreePages(gfp | __GFP_ZERO, 0);
  }

  /**
   * Allocates exactly as many pages as `bytes` need, contiguous; what a block of that order has more is freed at once.
   *
   * @returns its address, or 0
   * @linux mm/page_alloc.c:alloc_pages_exact_noprof
   */
  allocPagesExact(bytes: number, gfp: number): VirtAddr {
    if (!(bytes > 0)) return 0;
    const nrPages = Math.ceil(bytes / PAGE_SIZE);
    const order = Math.ceil(Math.log2(nrPages));
    const pfn = this.allocPages(gfp & ~(__GFP_COMP | __GFP_HIGHMEM), order);
    if (pfn < 0) return 0;
    this.splitPage(pfn, order);
    for (let i = nrPages; i < 1 << order; i++) this.freePage(pfn + i);
    return this.pageAddress(pfn);
  }

  /** Frees what {@link allocPagesExact} gave. @linux mm/page_alloc.c:free_pages_exact */
  freePagesExact(address: VirtAddr, bytes: number): void {
    const pfn = this.virtToPfn(address);
    for (let i = 0; i < Math.ceil(bytes / PAGE_SIZE); i++) this.freePage(pfn + i);
  }

  /** Makes single frames of a block that is not compound, each with the block's references. @linux mm/page_alloc.c:split_page */
  splitPage(pfn: Pfn, order: number): void {
    const { flags, refcount, next, private: priv } = this.frames;
    bugOn((flags[pfn] & PG_HEAD) !== 0, 'split_page of a compound page');
    bugOn(refcount[pfn] <= 0 || (order > 0 && blockOrder(this.frames, pfn) !== order), 'split_page of another block');
    for (let tail = pfn + 1; tail < pfn + (1 << order); tail++) {
      flags[tail] &= ~PG_TAIL;
      next[tail] = 0;
      priv[tail] = 0;
      refcount[tail] = refcount[pfn];
    }
  }

  // ---- references and freeing

  /** Drops a reference to a block and frees it at the last. @linux mm/page_alloc.c:__free_pages */
  freePages(pfn: Pfn, order: number): void {
    const { refcount } = this.frames;
    const references = refcount[pfn];
    if (references === 1) {
      refcount[pfn] = 0;
      this.#freeFrozen(pfn, order);
      return;
    }
    if (!(references > 0)) this.#badPage(pfn, 'freed, but is not in use');
    refcount[pfn] = references - 1;
    if (order === 0 || (this.frames.flags[pfn] & PG_HEAD) !== 0) return;
    // Somebody looked at the first frame: that one stays until they are done, and the rest goes now.
    for (let o = order - 1; o >= 0; o--) this.#freeTail(pfn, pfn + (1 << o), o);
  }

  /** Drops a reference to a single frame and frees it at the last. @linux include/linux/gfp.h:__free_page */
  freePage(pfn: Pfn): void {
    const { refcount } = this.frames;
    if (refcount[pfn] === 1) {
      refcount[pfn] = 0;
      this.#freeFrozen(pfn, 0);
      return;
    }
    this.freePages(pfn, 0);
  }

  /** Frees a block by its address in the direct map; 0 is ignored. @linux mm/page_alloc.c:free_pages */
  freePagesAt(address: VirtAddr, order: number): void {
    if (address !== 0) this.freePages(this.virtToPfn(address), order);
  }

  /** Takes a reference to the page, or compound page, of a frame that is in use. @linux include/linux/mm.h:get_page */
  getPage(pfn: Pfn): void {
    const head = compoundHead(this.frames, pfn);
    bugOn(!(this.frames.refcount[head] > 0), 'get_page of a page not in use');
    this.frames.refcount[head]++;
  }

  /** Drops a reference to the page, or compound page, and frees it at the last. @linux include/linux/mm.h:put_page */
  putPage(pfn: Pfn): void {
    const { frames } = this;
    if ((frames.flags[pfn] & (PG_HEAD | PG_TAIL)) === 0) {
      this.freePage(pfn);
      return;
    }
    const head = compoundHead(frames, pfn);
    bugOn((frames.flags[head] & PG_HEAD) === 0, 'put_page of a tail that is not of a compound page');
    this.freePages(head, blockOrder(frames, head));
  }

  /** References to the page, or compound page, of a frame. @linux include/linux/page_ref.h:page_count */
  pageCount(pfn: Pfn): number {
    return this.frames.refcount[compoundHead(this.frames, pfn)];
  }

  // ---- addresses

  /** Where the kernel has a frame: its address in the direct map. @linux include/linux/mm.h:page_address */
  pageAddress(pfn: Pfn): VirtAddr {
    return PAGE_OFFSET + pfn * PAGE_SIZE;
  }

  /** The frame of an address in the direct map. @linux arch/x86/include/asm/page.h:virt_to_page */
  virtToPfn(address: VirtAddr): Pfn {
    return Math.floor((address - PAGE_OFFSET) / PAGE_SIZE);
  }

  // ---- per-CPU lists

  /** Gives the pages on a CPU's lists back to their zones. @linux mm/page_alloc.c:drain_pages */
  drainPages(cpu: number): void {
    for (const zone of this.#populated) this.#drain(zone, zone.pcp[cpu], zone.pcp[cpu].count, 0);
  }

  /** Does that for every CPU, for one zone or for all. @linux mm/page_alloc.c:drain_all_pages */
  drainAllPages(only?: Zone): void {
    for (const zone of this.#populated) {
      if (only !== undefined && zone !== only) continue;
      for (const pcp of zone.pcp) if (pcp.count > 0) this.#drain(zone, pcp, pcp.count, 0);
    }
  }

  // ---- figures

  /** Pages handed to the page allocator at boot: MemTotal. @linux include/linux/mm.h:totalram_pages */
  get totalramPages(): number {
    return this.zones.reduce((pages, zone) => pages + zone.managed, 0);
  }

  /** Free pages of all zones, without those on per-CPU lists. @linux include/linux/vmstat.h:nr_free_pages */
  nrFreePages(): number {
    return this.#populated.reduce((pages, zone) => pages + zone.nrFree, 0);
  }

  /** The zone of a frame, `undefined` where there is no memory. @linux include/linux/mm.h:page_zone */
  zoneOf(pfn: Pfn): Zone | undefined {
    const index = this.#zoneOfBlock[pfn >>> PAGEBLOCK_ORDER];
    if (index < this.#populated.length) {
      const zone = this.#populated[index];
      return pfn >= zone.startPfn && pfn < zone.endPfn ? zone : undefined;
    }
    return this.#populated.find((zone) => pfn >= zone.startPfn && pfn < zone.endPfn);
  }

  /** Adds to a counter (NODE_STAT) of the frame's node. @linux mm/vmstat.c:mod_node_page_state */
  modNodeState(pfn: Pfn, item: number, delta: number): void {
    const node = this.nodes.length === 1 ? this.nodes[0] : this.nodes[this.#zoneInUse(pfn).nid];
    node.vmStat[item] += delta;
  }

  /** Adds to a counter (ZONE_STAT) of the frame's zone. @linux mm/vmstat.c:mod_zone_page_state */
  modZoneState(pfn: Pfn, item: number, delta: number): void {
    this.#zoneInUse(pfn).vmStat[item] += delta;
  }

  /** A counter (NODE_STAT) over all nodes. @linux include/linux/vmstat.h:global_node_page_state */
  nodeState(item: number): number {
    return this.nodes.reduce((sum, node) => sum + node.vmStat[item], 0);
  }

  /** A counter (ZONE_STAT) over all zones. @linux include/linux/vmstat.h:global_zone_page_state */
  zoneState(item: number): number {
    return this.#populated.reduce((sum, zone) => sum + zone.state(item), 0);
  }

  /** Counts an event (VM_EVENT). @linux include/linux/vmstat.h:count_vm_events */
  countEvent(event: number, times = 1): void {
    this.events[event] += times;
  }

  /** Who has a frame: `OWNER_*`. */
  owner(pfn: Pfn): number {
    return frameOwner(this.frames, pfn);
  }

  /**
   * How many frames each owner has, by `OWNER_*`; the holes count up to the last frame. Costs a step for each frame ever
   * handed out.
   */
  census(): Float64Array {
    const frames = new Float64Array(NR_OWNERS);
    for (const { start, end, owner } of this.frames.bootRanges) frames[owner] += end - start;
    for (const zone of this.#populated) {
      for (const { start, end } of zone.allocator.untouched()) frames[OWNER_FREE] += end - start;
      for (const { start, end } of zone.touchedRanges()) {
        for (let pfn = start; pfn < end; pfn++) frames[frameOwner(this.frames, pfn)]++;
      }
    }
    return frames;
  }

  /** What describing all frames costs, in bytes: `struct page` as Linux keeps it (64 bytes), and the columns here. */
  memmapBytes(): { readonly linux: number; readonly columns: number } {
    const present = this.zones.reduce((pages, zone) => pages + zone.present, 0);
    return { linux: present * 64, columns: present * BYTES_PER_FRAME };
  }

  /** What boot reserved, and the RAM it found. */
  get layout(): BootLayout {
    return this.#layout;
  }

  /**
   * Recomputes every invariant of zones, lists and frames. Costs a step for each frame ever handed out.
   *
   * @throws KernelBug for the first that does not hold
   */
  validate(): void {
    for (const zone of this.#populated) {
      zone.validate();
      this.#validateFrames(zone);
    }
  }

  // ---- for the ladder, not for other packages

  /**
   * Takes a block of a zone for an allocation whose watermark was checked, and makes it ready.
   *
   * @internal
   * @linux mm/page_alloc.c:rmqueue
   */
  rmqueue(zone: Zone, context: AllocContext, allocFlags: number): Pfn {
    const { order, migratetype } = context;
    let pfn = -1;
    if (pcpAllowedOrder(order)) pfn = this.#rmqueuePcplist(zone, order, migratetype, allocFlags);
    if (pfn < 0) pfn = zone.take(order, migratetype, allocFlags);
    if (pfn >= 0) {
      this.events[PGALLOC_OF_ZONE[zone.kind]] += 1 << order;
      const preferred = context.zonelist[0];
      if (zone.nid === preferred.nid) zone.vmStat[NUMA_HIT]++;
      else {
        zone.vmStat[NUMA_MISS]++;
        preferred.vmStat[NUMA_FOREIGN]++;
      }
      zone.vmStat[zone.nid === context.localNid ? NUMA_LOCAL : NUMA_OTHER]++;
    }
    if ((allocFlags & ALLOC_KSWAPD) !== 0 && zone.boostedWatermark) {
      zone.boostedWatermark = false;
      this.wakeKswapd(zone, 0, 0);
    }
    if (pfn >= 0) this.#prepNewPage(pfn, order, context.gfp);
    return pfn;
  }

  /**
   * Wakes kswapd for a zone. Where nobody plays kswapd, what it would have come to is done at once: with nothing to
   * reclaim, the boost is forgotten.
   *
   * @internal
   */
  wakeKswapd(zone: Zone, order: number, gfp: number): void {
    if (this.hooks.wakeKswapd !== undefined) this.hooks.wakeKswapd(zone, order, gfp);
    else zone.watermarkBoost = 0;
  }

  // ---- inside

  /** @linux mm/page_alloc.c:__rmqueue_pcplist */
  #rmqueuePcplist(zone: Zone, order: number, migratetype: number, allocFlags: number): Pfn {
    const pcp = zone.pcp[this.#smp.processorId];
    const index = pcpIndex(migratetype, order);
    pcp.freeCount >>= 1;
    if (pcp.head[index] === 0) {
      const batch = pcp.refillBatch(order, zone.belowHigh);
      // Of the flags only those count that __rmqueue() itself heeds: reserves are not for stocking up.
      const bulkFlags = allocFlags & (ALLOC_CMA | ALLOC_NOFRAGMENT | ALLOC_KSWAPD);
      for (let i = 0; i < batch; i++) {
        const pfn = zone.take(order, migratetype, bulkFlags);
        if (pfn < 0) break;
        pcp.append(index, pfn);
        pcp.count += 1 << order;
      }
      if (pcp.head[index] === 0) return -1;
    }
    pcp.count -= 1 << order;
    return pcp.pop(index);
  }

  /** @linux mm/page_alloc.c:prep_new_page */
  #prepNewPage(pfn: Pfn, order: number, gfp: number): void {
    const { flags, refcount, mapcount, mapping, next, private: priv } = this.frames;
    const end = pfn + (1 << order);
    for (let p = pfn; p < end; p++) {
      if ((flags[p] | refcount[p] | mapcount[p] | mapping[p]) !== 0) this.#badPage(p, 'allocated');
      priv[p] = 0;
    }
    refcount[pfn] = 1;
    if (order > 0) {
      for (let p = pfn + 1; p < end; p++) {
        flags[p] = PG_TAIL;
        next[p] = pfn;
      }
      priv[pfn + 1] = order;
      if ((gfp & __GFP_COMP) !== 0) flags[pfn] = PG_HEAD;
    }
    if ((gfp & __GFP_ZERO) !== 0) this.#zero(pfn, 1 << order);
  }

  #zero(pfn: Pfn, pages: number): void {
    for (let i = 0; i < pages; i++) this.#ram.zeroFrame(pfn + i);
    this.#clock.advance(this.#costs.zeroPage * pages);
  }

  /** Checks and cleans a block that nobody refers to, and puts it where free pages go. @linux mm/page_alloc.c:__free_frozen_pages */
  #freeFrozen(pfn: Pfn, order: number): void {
    const { flags, mapcount, mapping } = this.frames;
    const zone = this.#populated[this.#zoneOfBlock[pfn >>> PAGEBLOCK_ORDER]] ?? this.#zoneInUse(pfn);
    let head = flags[pfn];
    if (order > 0 || (head & PG_TAIL) !== 0) {
      this.#checkBlock(pfn, order);
      head &= ~PG_HEAD;
    }
    if ((head & PG_MLOCKED) !== 0) {
      head &= ~PG_MLOCKED;
      zone.vmStat[NR_MLOCK] -= 1 << order;
      this.events[UNEVICTABLE_PGCLEARED] += 1 << order;
    }
    if ((head & PG_ANON) !== 0) mapping[pfn] = 0;
    if (((head & PAGE_FLAGS_CHECK_AT_FREE) | mapcount[pfn] | mapping[pfn]) !== 0) this.#badPage(pfn, 'freed');
    flags[pfn] = 0;
    if (this.#trace.enabled) this.#trace.emit(this.#traceFree, pfn, order);
    this.#clock.advance(this.#costs.pageAlloc);
    let type = this.blockTypes[pfn >>> PAGEBLOCK_ORDER];
    this.events[PGFREE] += 1 << order;
    if (!pcpAllowedOrder(order) || type === MIGRATE_ISOLATE) {
      zone.give(pfn, order, type);
      return;
    }
    // Pages of CMA and of the urgent reserve wait among the movable ones.
    if (type >= MIGRATE_PCPTYPES) type = MIGRATE_MOVABLE;
    const pcp = zone.pcp[this.#smp.processorId];
    const index = pcpIndex(type, order);
    pcp.push(index, pfn);
    pcp.count += 1 << order;
    const toFree = pcp.pagesToFree(order, zone.belowHigh, zone.reclaimActive);
    if (toFree === 0) return;
    this.#drain(zone, pcp, toFree, index);
    if (zone.belowHigh && zone.watermarkOk(0, zone.wmarkPages(WMARK_HIGH), 0, 0, zone.nrFree)) zone.belowHigh = false;
  }

  /** Checks the tails of a block that is freed and makes them plain free frames. @linux mm/page_alloc.c:free_tail_page_prepare */
  #checkBlock(pfn: Pfn, order: number): void {
    const { flags, refcount, mapcount, mapping, next, private: priv } = this.frames;
    if ((flags[pfn] & PG_TAIL) !== 0) this.#badPage(pfn, 'freed, but is the tail of a block');
    if (blockOrder(this.frames, pfn) !== order) this.#badPage(pfn, `freed with order ${order}, but allocated with ${blockOrder(this.frames, pfn)}`);
    for (let tail = pfn + 1; tail < pfn + (1 << order); tail++) {
      if (next[tail] !== pfn || flags[tail] !== PG_TAIL || (refcount[tail] | mapcount[tail] | mapping[tail]) !== 0) {
        this.#badPage(tail, 'freed with its block');
      }
    }
    for (let tail = pfn + 1; tail < pfn + (1 << order); tail++) {
      flags[tail] = 0;
      next[tail] = 0;
      priv[tail] = 0;
    }
  }

  /** Frees part of a block's tails. */
  #freeTail(head: Pfn, start: Pfn, order: number): void {
    const { flags, next, private: priv } = this.frames;
    flags[start] = 0;
    next[start] = 0;
    priv[start] = 0;
    for (let tail = start + 1; tail < start + (1 << order); tail++) next[tail] = start;
    if (order > 0) priv[start + 1] = order;
    bugOn(head >= start, 'free_pages: a tail below its head');
    this.#freeFrozen(start, order);
  }

  /** Gives pages back to the zone: oldest first, list by list from `index`. @linux mm/page_alloc.c:free_pcppages_bulk */
  #drain(zone: Zone, pcp: PerCpuPages, pages: number, first: number): void {
    let left = Math.min(pages, pcp.count);
    let index = first;
    while (left > 0) {
      while (pcp.head[index] === 0) index = index + 1 === NR_PCP_LISTS ? 0 : index + 1;
      const order = pcpOrder(index);
      while (left > 0 && pcp.head[index] !== 0) {
        const pfn = pcp.shift(index);
        const type = this.blockTypes[pfn >>> PAGEBLOCK_ORDER];
        left -= 1 << order;
        pcp.count -= 1 << order;
        zone.give(pfn, order, type);
        if (this.#trace.enabled) this.#trace.emit(this.#traceDrain, pfn, order, type);
      }
    }
  }

  /** @linux include/linux/sched/mm.h:current_gfp_context */
  #currentGfp(gfp: number): number {
    const flags = this.currentFlags;
    let narrowed = gfp;
    if ((flags & PF_MEMALLOC_NOIO) !== 0) narrowed &= ~(__GFP_IO | __GFP_FS);
    else if ((flags & PF_MEMALLOC_NOFS) !== 0) narrowed &= ~__GFP_FS;
    if ((flags & PF_MEMALLOC_PIN) !== 0) narrowed &= ~__GFP_MOVABLE;
    return narrowed;
  }

  /** Breaking into another type's pageblock: asks reclaim for some room, so that it happens less. @linux mm/page_alloc.c:boost_watermark */
  #onFallback(zone: Zone, allocFlags: number): void {
    if (this.#trace.enabled) this.#trace.emit(this.#traceFallback, zone.index, allocFlags);
    const factor = this.sysctl.watermarkBoostFactor;
    if (factor === 0 || PAGEBLOCK_PAGES * 4 > zone.managed) return;
    const share = Math.floor((zone.watermark[WMARK_HIGH] * factor) / 10_000);
    if (share === 0) return;
    zone.watermarkBoost = Math.min(zone.watermarkBoost + PAGEBLOCK_PAGES, Math.max(PAGEBLOCK_PAGES, share));
    if ((allocFlags & ALLOC_KSWAPD) !== 0) zone.boostedWatermark = true;
  }

  #refuse(gfp: number): Pfn {
    this.refusedRequests++;
    this.lastRefusal = `${gfpText(gfp)}: ${gfpRefusal(gfp)}`;
    return -Errno.EINVAL;
  }

  #zoneInUse(pfn: Pfn): Zone {
    const zone = this.zoneOf(pfn);
    if (zone === undefined) throw new KernelBug(`frame ${pfn} is not memory`);
    return zone;
  }

  #badPage(pfn: Pfn, when: string): never {
    const { flags, refcount, mapcount, mapping } = this.frames;
    throw new KernelBug(
      `bad page: frame ${pfn} ${when}: refcount ${refcount[pfn]}, mapcount ${mapcount[pfn]}, mapping ${mapping[pfn]}, flags ${pageFlagsText(flags[pfn]) || 'none'}`,
    );
  }

  // ---- boot

  /** Gives the zones what is not reserved. @linux mm/memblock.c:memblock_free_all */
  #handOver(): void {
    const { memblock, maxPfn } = this.#layout;
    const { taken } = this.frames;
    for (const { start, end } of this.frames.bootRanges) setBits(taken, start, end);
    for (const { start, end, late } of memblock.reserved) if (late) setBits(taken, start, end);
    setBits(taken, maxPfn, taken.length * 32);
    for (const zone of this.#populated) {
      for (const { start, end } of memblock.freeRanges(zone.startPfn, zone.endPfn)) zone.addManaged(start, end, false);
    }
  }

  /** Gives the zones what only boot needed. The watermarks do not follow: they were set before. @linux mm/page_alloc.c:free_reserved_area */
  #freeInitmem(): void {
    for (const { start, end, late } of this.#layout.memblock.reserved) {
      if (!late) continue;
      for (const zone of this.#populated) {
        const from = Math.max(start, zone.startPfn);
        const to = Math.min(end, zone.endPfn);
        if (from < to) zone.addManaged(from, to, true);
      }
    }
  }

  /** The frames of a zone: in use with references, a tail of such a block, or on a per-CPU list. */
  #validateFrames(zone: Zone): void {
    const { flags, refcount, taken } = this.frames;
    let idle = 0;
    for (const { start, end } of zone.touchedRanges()) {
      for (let pfn = start; pfn < end; pfn++) {
        if ((taken[pfn >>> 5] & (1 << (pfn & 31))) === 0) continue;
        const references = refcount[pfn];
        if (references > 0) continue;
        bugOn(references < 0, `frame ${pfn}: references below 0`);
        if ((flags[pfn] & PG_TAIL) === 0) {
          bugOn(flags[pfn] !== 0, `frame ${pfn}: flags ${pageFlagsText(flags[pfn])} without references`);
          idle++;
          continue;
        }
        const head = this.frames.next[pfn];
        bugOn(head >= pfn || pfn - head >= 1 << blockOrder(this.frames, head), `frame ${pfn}: tail of a block that does not hold it`);
        bugOn(refcount[head] <= 0, `frame ${pfn}: tail of a block without references`);
      }
    }
    const onLists = zone.nrPcpPages();
    bugOn(idle !== onLists, `zone ${zone.name}: ${idle} frames without references, but ${onLists} on per-CPU lists: some are lost`);
  }
}

/** For each pageblock the position in `zones` of the one zone it is in, 255 where there is none or several. */
function mapZones(zones: readonly Zone[], nrBlocks: number): Uint8Array {
  bugOn(zones.length > 254, 'more zones than the pageblock map can name');
  const map = new Uint8Array(nrBlocks).fill(255);
  zones.forEach((zone, i) => {
    map.fill(i, Math.floor(zone.startPfn / PAGEBLOCK_PAGES), Math.ceil(zone.endPfn / PAGEBLOCK_PAGES));
  });
  // Where two zones meet inside a pageblock, neither owns it.
  for (const { startPfn } of zones) {
    if (startPfn % PAGEBLOCK_PAGES !== 0 && zones.some(({ endPfn }) => endPfn === startPfn)) map[startPfn >>> PAGEBLOCK_ORDER] = 255;
  }
  return map;
}

