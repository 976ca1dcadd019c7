/**
 * Getting and freeing pages.
 */
import { Errno } from '@pagelab/abi';
import { DEFAULT_COSTS, PAGE_OFFSET } from '@pagelab/hw';
import type { CostModel, Pfn, PhysicalMemory, Smp, VirtualClock } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import type { TraceRing, TraceUser } from '@pagelab/lib';
import { ALLOC_CMA, ALLOC_KSWAPD, ALLOC_NOFRAGMENT, WMARK_LOW } from './alloc-flags.ts';
import { bootZones, freeInitmem } from './boot.ts';
import { buddyAllocator } from './buddy.ts';
import { CmaArea } from './cma.ts';
import { fastSlots } from './fast-slot.ts';
import type { FastSlot } from './fast-slot.ts';
import { getPageFromFreelist } from './freelist.ts';
import type { AllocContext } from './freelist.ts';
import {
  __GFP_ACCOUNT,
  __GFP_BITS_MASK,
  __GFP_COMP,
  __GFP_DIRECT_RECLAIM,
  __GFP_HARDWALL,
  __GFP_HIGHMEM,
  __GFP_THISNODE,
  __GFP_ZERO,
  PF_MEMPOLICY,
  currentGfpContext,
  gfpRefusal,
  gfpTable,
  gfpText,
} from './gfp.ts';
import { MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_PCPTYPES } from './migratetype.ts';
import { Kcompactd } from './kcompactd.ts';
import type { MemcgAccounting } from './memcg-accounting.ts';
import { PageCalls } from './page-calls.ts';
import { layOutMemory } from './mm-init.ts';
import type { BootLayout } from './mm-init.ts';
import { NodeMask } from './nodemask.ts';
import type { AllocPolicy } from './nodemask.ts';
import type { PageAllocHooks, PageAllocOptions } from './page-alloc-options.ts';
import { MAX_PAGE_ORDER, PG_ANON, PG_HEAD, PG_LRU, PG_LRU_WAITS, PG_MEMCG, PG_OWNED, PG_TAIL, blockOrder, compoundHead } from './page.ts';
import { PcpMoves } from './pcp-bulk.ts';
import { pcpAllowedOrder, pcpIndex } from './pcp.ts';
import { PageOwner } from './page-owner.ts';
import { FREE_NEEDS_CARE, badPage, freePagesPrepare, prepNewPage, splitPage, splitTails } from './prep-page.ts';
import { allocPagesSlowpath } from './slow-path.ts';
import { PageAllocSysctl } from './sysctl.ts';
import { boostWatermark } from './watermark-boost.ts';
import { PGALLOC_OF_ZONE, VM_EVENT, ZONE_STAT } from './vmstat.ts';
import { X86_64_ZONES, ZONE_NORMAL } from './zone-types.ts';
import type { Zone } from './zone.ts';

const { PGFREE, UNEVICTABLE_PGCLEARED } = VM_EVENT;
const { NUMA_HIT, NUMA_MISS, NUMA_FOREIGN, NUMA_LOCAL, NUMA_OTHER, NR_MLOCK } = ZONE_STAT;

/** Linked in an LRU list, or in a batch before it. */
const ON_LRU = PG_LRU | PG_LRU_WAITS;

/**
 * The machine's page frames and what hands them out.
 *
 * An allocation goes to the per-CPU list of the preferred zone; where that is empty or memory is short, to the zones of
 * the zonelist as far as their watermarks allow; and if they do not, down the ladder of `slow-path.ts`.
 *
 * @linux mm/page_alloc.c
 */
export class PageAlloc extends PageCalls implements TraceUser {
  readonly sysctl: PageAllocSysctl;
  readonly hooks: PageAllocHooks;
  /** What boot made of the firmware's map. */
  readonly layout: BootLayout;
  /** By node. */
  readonly kcompactd: readonly Kcompactd[];
  /** CMA regions; `null` for a kernel without CMA. */
  readonly cmaAreas: readonly CmaArea[] | null;
  /** The current task's `PF_MEMALLOC*` flags: the kernel sets them when it switches tasks. */
  currentFlags = 0;
  /** `vm.zone_reclaim_mode`: 0, or how a node is reclaimed before another is tried. @linux mm/vmscan.c:node_reclaim_mode */
  nodeReclaimMode = 0;
  /** The current task's memory policy, which {@link setTaskPolicy} sets; `null` for memory near the CPU. */
  taskPolicy: AllocPolicy | null = null;
  /** The nodes that the current task's cpuset leaves it, which {@link setMemsAllowed} sets; `null` for all. */
  memsAllowed: NodeMask | null = null;
  /** Whether the current task is a victim of the OOM killer, and may use reserves to get out of the way. */
  currentIsOomVictim = false;
  /** Above 0 where nothing may sleep: in an interrupt, or with preemption off. */
  atomicDepth = 0;
  /** Allocations that failed and would have been reported. */
  failures = 0;
  /** Requests refused for flags that contradict each other, and what the last of them asked. */
  refusedRequests = 0;
  lastRefusal = '';

  /** Who allocated each page; `null` where nobody notes it. */
  readonly pageOwner: PageOwner | null;

  private readonly ram: PhysicalMemory;
  private readonly smp: Smp;
  private readonly clock: VirtualClock;
  private readonly trace: TraceRing;
  private readonly costs: CostModel;
  private readonly allocCost: number;
  /** Low five GFP bits to zone index and migrate type. */
  private readonly gfpTable: Int8Array;
  private readonly cpuNode: Int32Array;
  private readonly pcp: PcpMoves;
  private readonly pcpDecays: boolean;
  /** Where the common allocation of a page goes, by CPU and low five GFP bits. */
  private readonly fast: readonly FastSlot[];
  // Columns of the hot paths: twice as fast as through `frames`.
  private readonly flags: Uint32Array;
  private readonly refcount: Int32Array;
  private readonly mapcount: Int32Array;
  private readonly mapping: Int32Array;
  private readonly priv: Int32Array;
  /** GFP bits that the fast path does not know. */
  private slowGfp = ~__GFP_BITS_MASK;
  /** 1 while anything is traced: a number, to be looked at with others. */
  private traced = 0;
  private readonly traceAlloc: number;
  private readonly traceFree: number;
  private readonly traceFallback: number;

  /** @throws RangeError where nodes and memory do not fit together, or a sysctl has a value it cannot have */
  constructor(options: PageAllocOptions) {
    const { ram, smp, clock, trace } = options;
    const zoneLayout = options.layout ?? X86_64_ZONES;
    const kernel = options.kernel ?? '6.18';
    const nrCpus = smp.cpus.length;
    const hooks = options.hooks ?? {};
    const layout = layOutMemory(ram.map, zoneLayout, {
      kernel,
      nrCpus,
      possibleCpus: Math.max(nrCpus, options.possibleCpus ?? nrCpus),
      nodes: options.nodes ?? [],
      movable: { kernelcorePages: options.kernelcorePages ?? 0, movablecorePages: options.movablecorePages ?? 0 },
      cma: options.cma,
      managed: options.managed,
    });
    const booted = bootZones(layout, {
      nrCpus,
      distances: options.distances,
      memorylessFirst: kernel === '6.1',
      pageAllocator: options.pageAllocator ?? buddyAllocator,
      pageblockOrder: zoneLayout.pageblockOrder,
      smp,
      onFallback: (zone, allocFlags) => this.noteFallback(zone, allocFlags),
      onRefusal: (refusal) => hooks.warnRefusal?.(refusal),
    });
    const recent = kernel !== '6.1';
    super(booted, recent, options.pageOffset ?? PAGE_OFFSET);
    this.ram = ram;
    this.smp = smp;
    this.clock = clock;
    this.trace = trace;
    this.traceSwitched(trace.enabled);
    trace.addUser(this);
    this.costs = options.costs ?? DEFAULT_COSTS;
    this.allocCost = this.costs.pageAlloc;
    this.traceAlloc = trace.define('mm_page_alloc', ['pfn', 'order', 'migratetype', 'gfp_flags']);
    this.traceFree = trace.define('mm_page_free', ['pfn', 'order']);
    this.pcp = new PcpMoves(smp, this, trace);
    this.pcpDecays = recent;
    this.traceFallback = trace.define('mm_page_alloc_extfrag', ['zone', 'alloc_flags']);
    this.hooks = hooks;
    this.layout = layout;
    const cmaAreas = booted.cmaAreas.map(({ start, end }) => new CmaArea('reserved', start, end - start));
    this.cmaAreas = options.cma === undefined ? null : cmaAreas;
    const { flags, refcount, mapcount, mapping, private: priv } = booted.frames;
    this.flags = flags;
    this.refcount = refcount;
    this.mapcount = mapcount;
    this.mapping = mapping;
    this.priv = priv;
    this.cpuNode = new Int32Array(nrCpus);
    for (const { nid, cpus } of this.nodes) for (const cpu of cpus) if (cpu < nrCpus) this.cpuNode[cpu] = nid;
    this.gfpTable = gfpTable(zoneLayout.kinds);
    this.pageOwner = options.pageOwner === true ? new PageOwner(booted.frames, clock) : null;
    this.fast = fastSlots(this.gfpTable, this.nodes, this.cpuNode, this.pageOwner !== null);
    this.sysctl = new PageAllocSysctl(this.nodes, nrCpus, zoneLayout.lowmemReserveRatio, {
      movableLikeHighmem: recent,
      pcpAutoTune: recent,
      pageblockOrder: zoneLayout.pageblockOrder,
    });
    this.sysctl.init(options.sysctl ?? {}, options.transparentHugepage ?? true);
    freeInitmem(this.layout, this.populated);
    this.kcompactd = this.nodes.map((node) => new Kcompactd(this, node));
  }

  /** While anything is traced, each allocation goes the way that tells of it. */
  traceSwitched(enabled: boolean): void {
    this.traced = enabled ? 1 : 0;
  }

  // ---- allocating

  /**
   * Allocates a block of 2^`order` frames, with one reference to its head.
   *
   * @param gfp what memory, and what may be done to get it
   * @param order 0 to 10
   * @returns its first frame; −ENOMEM; −EINVAL where Linux refuses the flags
   * @linux mm/page_alloc.c:__alloc_pages
   */
  allocPages(gfp: number, order: number): Pfn {
    return order === 0 ? this.allocPage(gfp) : this.allocLocal(gfp, order);
  }

  /** Allocates one frame; as {@link allocPages} of order 0. @linux include/linux/gfp.h:alloc_page */
  allocPage(gfp: number): Pfn {
    // The usual case, which agrees with what follows from allocPagesNode(): memory is plentiful, and the list is not empty.
    // Booleans are compared because V8 tests a field for truth in ten instructions: a fifth of the time here.
    const slot = this.fast[(this.smp.processorId << 5) | (gfp & 31)];
    const { pcp, list } = slot;
    if (
      list.count === 0 ||
      slot.zone.plenty !== true ||
      (this.traced | this.currentFlags | this.atomicDepth | (gfp & this.slowGfp)) !== 0
    ) {
      return this.allocLocal(gfp, 0);
    }
    const pfn = list.pop();
    pcp.count--;
    pcp.freeCount >>= 1;
    pcp.hits++;
    this.events[slot.event]++;
    if ((this.flags[pfn] | this.refcount[pfn]) !== 0) badPage(this.frames, pfn, 'allocated');
    this.refcount[pfn] = 1;
    this.priv[pfn] = 0;
    this.clock.advance(this.allocCost);
    if ((gfp & __GFP_ZERO) !== 0) this.zero(pfn, 1);
    return pfn;
  }

  /**
   * Allocates as {@link allocPages}, preferring node `nid`.
   *
   * @param allowed nodes that the memory may lie on; `null` for all
   * @linux mm/page_alloc.c:__alloc_frozen_pages
   */
  allocPagesNode(nid: number, gfp: number, order: number, allowed: NodeMask | null = null): Pfn {
    if (!(order >= 0 && order <= MAX_PAGE_ORDER)) return -Errno.ENOMEM;
    const flags = this.currentFlags === 0 ? gfp : currentGfpContext(gfp, this.currentFlags);
    const kind = this.gfpTable[flags & 31];
    if (kind < 0 || (flags & ~__GFP_BITS_MASK) !== 0) return this.refuse(flags);
    if (this.atomicDepth > 0) bugOn((flags & __GFP_DIRECT_RECLAIM) !== 0, 'sleeping function called from invalid context');
    const node = this.nodes[nid];
    const highestIndex = kind & 7;
    const context: AllocContext = {
      gfp: flags,
      order,
      highestIndex,
      migratetype: kind >> 3,
      zonelist: this.zonelist(nid, flags, highestIndex, allowed),
      allowed,
      localNid: this.cpuNode[this.smp.processorId],
    };
    let allocFlags = WMARK_LOW | (flags & ALLOC_KSWAPD);
    if (context.migratetype === MIGRATE_MOVABLE) allocFlags |= ALLOC_CMA;
    // Rather DMA32 than mixing Normal's pageblocks.
    if (this.sysctl.defragMode || (context.zonelist.length > 0 && context.zonelist[0].kind === ZONE_NORMAL)) allocFlags |= ALLOC_NOFRAGMENT;
    let pfn = getPageFromFreelist(this, context, allocFlags);
    if (pfn < 0) {
      // Memory for the kernel itself, and for who is on the way out, may come from any node where the cpuset's have none.
      const everywhere = this.memsAllowed !== null && ((flags & __GFP_HARDWALL) === 0 || this.currentIsOomVictim);
      if (everywhere && allowed === null && (flags & __GFP_THISNODE) === 0) context.zonelist = node.zonelists[highestIndex];
      pfn = allocPagesSlowpath(this, context);
    }
    if (pfn < 0) return pfn;
    if ((flags & __GFP_ACCOUNT) !== 0 && this.memcg !== null && this.memcg.chargeKmem(pfn, order, flags) !== 0) {
      this.freePages(pfn, order);
      return -Errno.ENOMEM;
    }
    this.clock.advance(this.allocCost);
    if (this.trace.enabled) this.trace.emit(this.traceAlloc, pfn, order, context.migratetype, flags);
    return pfn;
  }

  /** Makes single frames of a block that is not compound, each with the block's references. @linux mm/page_alloc.c:split_page */
  splitPage(pfn: Pfn, order: number): void {
    splitPage(this.frames, pfn, order);
    if ((this.flags[pfn] & PG_MEMCG) !== 0) this.memcg!.split(pfn, 1 << order);
    if (this.pageOwner === null) return;
    this.pageOwner.split(pfn, order, 0);
    for (let i = 0; i < 1 << order; i++) this.flags[pfn + i] |= PG_OWNED;
  }

  /** Index of the highest zone that an allocation with these flags can use; −1 for flags that contradict each other. @linux include/linux/gfp.h:gfp_zone */
  gfpZoneIndex(gfp: number): number {
    const kind = this.gfpTable[gfp & 31];
    return kind < 0 ? -1 : kind & 7;
  }

  // ---- references and freeing

  /** Drops a reference to a single frame and frees it at the last. @linux include/linux/gfp.h:__free_page */
  freePage(pfn: Pfn): void {
    let head = this.flags[pfn];
    if ((head & ON_LRU) !== 0 && this.refcount[pfn] === 1 && (head & (PG_HEAD | PG_TAIL)) === 0) {
      this.lru.release(pfn);
      head = this.flags[pfn];
    }
    if (
      this.refcount[pfn] !== 1 ||
      (head & FREE_NEEDS_CARE) !== 0 ||
      this.mapcount[pfn] !== 0 ||
      (this.mapping[pfn] !== 0 && (head & PG_ANON) === 0) ||
      this.traced !== 0
    ) {
      this.dropReference(pfn, 0);
      return;
    }
    // The usual case of what follows from that: the last reference to a page nobody maps.
    this.refcount[pfn] = 0;
    this.flags[pfn] = 0;
    this.mapping[pfn] = 0;
    const block = pfn >>> this.pageblockOrder;
    const type = this.blockTypes[block];
    const zone = this.populated[this.zoneOfBlock[block]];
    if (type >= MIGRATE_PCPTYPES || zone === undefined || zone.belowHigh !== false || zone.reclaimActive !== false) {
      this.freeUnused(pfn, 0);
      return;
    }
    this.clock.advance(this.allocCost);
    this.events[PGFREE]++;
    const pcp = zone.pcp[this.smp.processorId];
    pcp.lists[type].push(pfn);
    if (!pcp.pushed()) this.pcp.commit(zone, type, 0);
  }

  /** Drops a reference to a block and frees it at the last. @linux mm/page_alloc.c:__free_pages */
  freePages(pfn: Pfn, order: number): void {
    if (order === 0) this.freePage(pfn);
    else this.dropReference(pfn, order);
  }

  /** Takes a reference to the page, or compound page, of a frame that is in use. @linux include/linux/mm.h:get_page */
  getPage(pfn: Pfn): void {
    const head = compoundHead(this.frames, pfn);
    if (!(this.refcount[head] > 0)) badPage(this.frames, pfn, 'referenced, but is not in use');
    this.refcount[head]++;
  }

  /** Drops a reference to the page, or compound page, and frees it at the last. @linux include/linux/mm.h:put_page */
  putPage(pfn: Pfn): void {
    if ((this.flags[pfn] & (PG_HEAD | PG_TAIL)) === 0) {
      if (this.refcount[pfn] > 1) this.refcount[pfn]--;
      else this.freePage(pfn);
      return;
    }
    const head = compoundHead(this.frames, pfn);
    if ((this.flags[head] & PG_HEAD) === 0) badPage(this.frames, pfn, 'put, but is the tail of a block that is not compound');
    this.freePages(head, blockOrder(this.frames, head));
  }

  // ---- per-CPU lists

  /** Gives the pages on a CPU's lists back to their zones. @linux mm/page_alloc.c:drain_pages */
  drainPages(cpu: number): void {
    for (const zone of this.populated) this.pcp.drain(zone, cpu);
  }

  /** Gives those of the running CPU and one zone back. @linux mm/page_alloc.c:drain_local_pages */
  drainLocalPages(zone: Zone): void {
    this.pcp.drain(zone, this.smp.processorId);
  }

  /** Does that for every CPU, for one zone or for all. @linux mm/page_alloc.c:drain_all_pages */
  drainAllPages(only?: Zone): void {
    for (const zone of this.populated) {
      if (only !== undefined && zone !== only) continue;
      for (let cpu = 0; cpu < zone.pcp.length; cpu++) this.pcp.drain(zone, cpu);
    }
  }

  /** Looks after the lists of all CPUs, as each does for its own from time to time. @linux mm/vmstat.c:vmstat_update */
  refreshVmStats(): void {
    this.pcp.refresh(this.populated, this.pcpDecays, (zone, cpu) => zone.nid !== this.cpuNode[cpu]);
  }

  // ---- policies

  /** Lets the current task's policy choose nodes from now on; `null` for none. */
  setTaskPolicy(policy: AllocPolicy | null): void {
    this.taskPolicy = policy;
    this.notePolicy();
  }

  /** Holds the current task's allocations to some nodes from now on; `null` for all. @linux include/linux/cpuset.h:set_mems_allowed */
  setMemsAllowed(nodes: NodeMask | null): void {
    this.memsAllowed = nodes;
    this.notePolicy();
  }

  /** The flag leads past the fast path, which knows the CPU's own node only. */
  private notePolicy(): void {
    const has = this.taskPolicy !== null || this.memsAllowed !== null;
    this.currentFlags = has ? this.currentFlags | PF_MEMPOLICY : this.currentFlags & ~PF_MEMPOLICY;
  }

  /** The node of a CPU. @linux include/linux/topology.h:cpu_to_node */
  nodeOfCpu(cpu: number): number {
    return this.cpuNode[cpu];
  }

  // ---- memory cgroups

  /** There are groups from now on, which are told of their pages. */
  enableMemcg(memcg: MemcgAccounting): void {
    this.memcg = memcg;
    this.lru.memcg = memcg;
    this.slowGfp |= __GFP_ACCOUNT;
  }

  /** A charged block is free. */
  private unchargeMemcg(pfn: Pfn, nrPages: number): void {
    this.memcg!.uncharge(pfn, nrPages);
    this.frames.memcg[pfn] = 0;
    this.flags[pfn] &= ~PG_MEMCG;
  }

  // ---- what the attempts and the ladder of an allocation call

  /**
   * Takes a block from a zone whose watermark was checked, and makes it ready.
   *
   * @returns its first frame, or −1
   * @linux mm/page_alloc.c:rmqueue
   */
  rmqueue(zone: Zone, context: AllocContext, allocFlags: number): Pfn {
    const { order, migratetype, zonelist, gfp } = context;
    let pfn = -1;
    if (pcpAllowedOrder(order, this.pageblockOrder)) pfn = this.pcp.take(zone, order, migratetype, allocFlags);
    if (pfn < 0) pfn = zone.take(order, migratetype, allocFlags);
    if ((allocFlags & ALLOC_KSWAPD) !== 0 && zone.boostedWatermark) {
      zone.boostedWatermark = false;
      this.wakeKswapd(zone, 0, 0);
    }
    if (pfn < 0) return -1;
    this.events[PGALLOC_OF_ZONE[zone.kind]] += 1 << order;
    if (zone.nid === zonelist[0].nid) zone.vmStat[NUMA_HIT]++;
    else {
      zone.vmStat[NUMA_MISS]++;
      zonelist[0].vmStat[NUMA_FOREIGN]++;
    }
    zone.vmStat[zone.nid === context.localNid ? NUMA_LOCAL : NUMA_OTHER]++;
    this.prepNewPage(pfn, order, gfp);
    return pfn;
  }

  /** Makes a block ready that was taken from its zone. @linux mm/page_alloc.c:prep_new_page */
  prepNewPage(pfn: Pfn, order: number, gfp: number): void {
    prepNewPage(this.frames, pfn, order, (gfp & __GFP_COMP) !== 0);
    if (this.pageOwner !== null) this.noteOwner(pfn, order, gfp);
    if ((gfp & __GFP_ZERO) !== 0) this.zero(pfn, 1 << order);
  }

  /** Notes who allocated a block, where that is wanted. @linux mm/page_owner.c:set_page_owner */
  noteOwner(pfn: Pfn, order: number, gfp: number): void {
    if (this.pageOwner === null) return;
    // The flag leads freeing past its fast path.
    this.flags[pfn] |= PG_OWNED;
    this.pageOwner.set(pfn, order, gfp);
  }

  /**
   * Wakes kswapd for a zone. Where nobody plays kswapd, what it would come to is done at once: there is nothing to reclaim,
   * and the boost is forgotten.
   */
  wakeKswapd(zone: Zone, order: number, gfp: number): void {
    if (this.hooks.wakeKswapd !== undefined) this.hooks.wakeKswapd(zone, order, gfp);
    else if (zone.watermarkBoost > 0) zone.setWatermarkBoost(0);
  }

  // ---- inside

  /** The zones to try, the preferred one first. @linux mm/page_alloc.c:prepare_alloc_pages */
  private zonelist(nid: number, gfp: number, highestIndex: number, allowed: NodeMask | null): readonly Zone[] {
    const node = this.nodes[nid];
    if ((gfp & __GFP_THISNODE) !== 0) return node.localZonelists[highestIndex];
    const { memsAllowed } = this;
    if (memsAllowed === null) return allowed === null ? node.zonelists[highestIndex] : node.zonelistWithin(highestIndex, allowed);
    if (allowed === null) return node.zonelistWithin(highestIndex, memsAllowed);
    // A policy whose nodes the cpuset does not have is held to the cpuset's.
    const both = allowed.nodes.filter((each) => memsAllowed.has(each));
    return node.zonelistWithin(highestIndex, both.length === 0 ? memsAllowed : new NodeMask(both));
  }

  private allocLocal(gfp: number, order: number): Pfn {
    if (this.taskPolicy !== null && this.atomicDepth === 0 && (gfp & __GFP_THISNODE) === 0) return this.taskPolicy.allocate(gfp, order);
    return this.allocPagesNode(this.cpuNode[this.smp.processorId], gfp, order);
  }

  private zero(pfn: Pfn, pages: number): void {
    const { clearPage } = this.hooks;
    for (let i = 0; i < pages; i++) {
      if (clearPage === undefined) this.ram.zeroFrame(pfn + i);
      else clearPage(pfn + i);
    }
    this.clock.advance(this.costs.zeroPage * pages);
  }

  private dropReference(pfn: Pfn, order: number): void {
    const references = this.refcount[pfn];
    if (!(references > 0)) badPage(this.frames, pfn, 'freed, but is not in use');
    this.refcount[pfn] = references - 1;
    if (references === 1) this.freeFrozen(pfn, order);
    else if (order > 0 && (this.flags[pfn] & PG_HEAD) === 0) {
      // Somebody else looks at the first frame: that one stays until they are done, and the rest goes now.
      const allocated = blockOrder(this.frames, pfn);
      if (allocated !== order) badPage(this.frames, pfn, `freed with order ${order}, but allocated with ${allocated}`);
      if ((this.flags[pfn] & PG_MEMCG) !== 0) this.memcg!.uncharge(pfn, (1 << order) - 1);
      splitTails(this.frames, pfn, order);
      this.pageOwner?.keepFirst(pfn);
      for (let o = order - 1; o >= 0; o--) this.freeFrozen(pfn + (1 << o), o);
    }
  }

  /** Checks and cleans a block that nobody refers to, and puts it where free pages go. @linux mm/page_alloc.c:__free_frozen_pages */
  private freeFrozen(pfn: Pfn, order: number): void {
    if ((this.flags[pfn] & ON_LRU) !== 0) this.lru.release(pfn);
    if ((this.flags[pfn] & PG_MEMCG) !== 0) this.unchargeMemcg(pfn, 1 << order);
    if (freePagesPrepare(this.frames, pfn, order)) {
      this.zoneInUse(pfn).vmStat[NR_MLOCK] -= 1 << order;
      this.events[UNEVICTABLE_PGCLEARED] += 1 << order;
    }
    if (this.pageOwner !== null) this.pageOwner.reset(pfn, order);
    if (this.trace.enabled) this.trace.emit(this.traceFree, pfn, order);
    this.freeUnused(pfn, order);
  }

  /** Puts a clean block on a per-CPU list, or back to its zone. @linux mm/page_alloc.c:free_frozen_page_commit */
  private freeUnused(pfn: Pfn, order: number): void {
    const zone = this.populated[this.zoneOfBlock[pfn >>> this.pageblockOrder]] ?? this.zoneInUse(pfn);
    let type = this.blockTypes[pfn >>> this.pageblockOrder];
    this.clock.advance(this.allocCost);
    this.events[PGFREE] += 1 << order;
    if (type >= MIGRATE_PCPTYPES || order > 0) {
      if (type === MIGRATE_ISOLATE || !pcpAllowedOrder(order, this.pageblockOrder)) {
        zone.give(pfn, order, type);
        return;
      }
      // Pages of CMA and of the urgent reserve wait among the movable ones.
      if (type >= MIGRATE_PCPTYPES) type = MIGRATE_MOVABLE;
    }
    const pcp = zone.pcp[this.smp.processorId];
    const index = pcpIndex(type, order);
    pcp.lists[index].push(pfn);
    pcp.count += 1 << order;
    this.pcp.commit(zone, index, order);
  }

  /** A pageblock is about to be mixed. */
  private noteFallback(zone: Zone, allocFlags: number): void {
    if (this.trace.enabled) this.trace.emit(this.traceFallback, zone.index, allocFlags);
    boostWatermark(zone, allocFlags, this.sysctl.watermarkBoostFactor);
  }

  private refuse(gfp: number): Pfn {
    this.refusedRequests++;
    this.lastRefusal = `${gfpText(gfp)}: ${gfpRefusal(gfp)}`;
    return -Errno.EINVAL;
  }
}
