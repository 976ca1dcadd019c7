/**
 * What there is of physical memory, and the figures about it: frames, zones, nodes, counters.
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { KernelBug } from '@pagelab/lib';
import type { BootedZones } from './boot.ts';
import { countOwners, validateFrames } from './census.ts';
import { CompactionState } from './compaction.ts';
import { LruLists } from './lruvec.ts';
import type { MemcgAccounting } from './memcg-accounting.ts';
import type { MemoryNode } from './node.ts';
import { frameOwner } from './owner.ts';
import type { IsolatedBlocks } from './page-isolation.ts';
import { BYTES_PER_FRAME, PG_MEMCG, compoundHead } from './page.ts';
import type { PageFrames } from './page.ts';
import { VM_EVENT_NAMES } from './vmstat.ts';
import { zoneOfFrame } from './zone-map.ts';
import { ZONE_NORMAL } from './zone-types.ts';
import type { Zone } from './zone.ts';

/** Where the array of `struct page` lies on 64 bits, and bytes of one. @linux arch/x86/include/asm/pgtable_64_types.h:__VMEMMAP_BASE_L4 */
const VMEMMAP_START = -0x1600_0000_0000;
const STRUCT_PAGE_BYTES = 64;
/** Bytes of one on 32 bits, where the array lies at the end of low memory. */
const STRUCT_PAGE_BYTES_32 = 40;

export class MemoryState {
  readonly frames: PageFrames;
  /** Where the kernel has frame 0. @linux arch/x86/include/asm/page.h:PAGE_OFFSET */
  readonly pageOffset: VirtAddr;
  readonly nodes: readonly MemoryNode[];
  /** All zones, empty ones included, by node and ascending. */
  readonly zones: readonly Zone[];
  /** Events since boot, by VM_EVENT: `/proc/vmstat`. */
  readonly events = new Float64Array(VM_EVENT_NAMES.length);
  /** log2 of the frames in a pageblock: the machine's order of huge pages. */
  readonly pageblockOrder: number;
  /** Frames in a pageblock. @linux include/linux/pageblock-flags.h:pageblock_nr_pages */
  readonly pageblockPages: number;
  /** Migrate type of each pageblock, by its number; see {@link pageblockType}. */
  readonly blockTypes: Uint8Array;
  /** What compaction remembers of the machine, and is told. */
  readonly compaction: CompactionState;
  /** The pageblocks that are isolated. */
  readonly isolatedBlocks: IsolatedBlocks = new Map();
  /** The lists that reclaim takes from. */
  readonly lru: LruLists;
  /** What pages of memory cgroups are told to; `null` while there are no groups. */
  memcg: MemcgAccounting | null = null;
  /** Zones with memory, the largest first, and for each pageblock the position of its zone: see `zone-map.ts`. */
  protected readonly populated: readonly Zone[];
  protected readonly zoneOfBlock: Uint8Array;

  constructor(booted: BootedZones, isRecent: boolean, pageOffset: VirtAddr) {
    this.pageOffset = pageOffset;
    this.frames = booted.frames;
    this.nodes = booted.nodes;
    this.zones = booted.zones;
    this.pageblockOrder = booted.pageblockOrder;
    this.pageblockPages = 1 << booted.pageblockOrder;
    this.blockTypes = booted.blockTypes;
    this.compaction = new CompactionState(booted.blockTypes.length, isRecent);
    this.populated = booted.populated;
    this.zoneOfBlock = booted.zoneOfBlock;
    this.lru = new LruLists(booted.frames, booted.nodes, (pfn) => this.zoneInUse(pfn));
  }

  /** References to the page, or compound page, of a frame. @linux include/linux/page_ref.h:page_count */
  pageCount(pfn: Pfn): number {
    return this.frames.refcount[compoundHead(this.frames, pfn)];
  }

  /** Where the kernel has a frame: its address in the direct map. @linux include/linux/mm.h:page_address */
  pageAddress(pfn: Pfn): VirtAddr {
    return this.pageOffset + pfn * PAGE_SIZE;
  }

  /** The frame of an address in the direct map. @linux arch/x86/include/asm/page.h:virt_to_page */
  virtToPfn(address: VirtAddr): Pfn {
    return Math.floor((address - this.pageOffset) / PAGE_SIZE);
  }

  /** Address of the `struct page` of a frame, whose contents the columns of {@link frames} have. @linux include/asm-generic/memory_model.h:__pfn_to_page */
  pfnToPage(pfn: Pfn): VirtAddr {
    if (this.pageOffset < 0) return VMEMMAP_START + pfn * STRUCT_PAGE_BYTES;
    const lowEnd = this.populated.reduce((end, { kind, endPfn }) => (kind <= ZONE_NORMAL ? Math.max(end, endPfn) : end), 0);
    return this.pageAddress(lowEnd - Math.ceil((this.frames.nrFrames * STRUCT_PAGE_BYTES_32) / PAGE_SIZE)) + pfn * STRUCT_PAGE_BYTES_32;
  }

  /** Pages handed to the page allocator at boot: MemTotal. @linux include/linux/mm.h:totalram_pages */
  get totalramPages(): number {
    return this.populated.reduce((pages, zone) => pages + zone.managed, 0);
  }

  /** Free pages of all zones, without those on per-CPU lists. @linux include/linux/vmstat.h:nr_free_pages */
  nrFreePages(): number {
    return this.populated.reduce((pages, zone) => pages + zone.nrFree - zone.nrFreeIsolated, 0);
  }

  /** The migrate type of a frame's pageblock. @linux mm/page_alloc.c:get_pageblock_migratetype */
  pageblockType(pfn: Pfn): number {
    return this.blockTypes[pfn >>> this.pageblockOrder];
  }

  /** The zone of a frame, `undefined` where there is no memory. @linux include/linux/mm.h:page_zone */
  zoneOf(pfn: Pfn): Zone | undefined {
    return zoneOfFrame(this.populated, this.zoneOfBlock, this.pageblockOrder, pfn);
  }

  /** The node of a frame of memory. @linux include/linux/mm.h:page_to_nid */
  nodeOf(pfn: Pfn): number {
    return this.nodes.length === 1 ? 0 : this.zoneInUse(pfn).nid;
  }

  /** Adds to a counter (NODE_STAT) of the frame's node. @linux mm/vmstat.c:mod_node_page_state */
  modNodeState(pfn: Pfn, item: number, delta: number): void {
    const nid = this.nodes.length === 1 ? 0 : this.zoneInUse(pfn).nid;
    this.nodes[nid].vmStat[item] += delta;
    if (this.memcg !== null) this.#modMemcgState(this.memcg, pfn, item, delta);
  }

  /** Adds to a counter of the frame's node, and not to that of the memory cgroup that has the page. @linux mm/vmstat.c:node_stat_mod_folio */
  modOnlyNodeState(pfn: Pfn, item: number, delta: number): void {
    const nid = this.nodes.length === 1 ? 0 : this.zoneInUse(pfn).nid;
    this.nodes[nid].vmStat[item] += delta;
  }

  #modMemcgState(memcg: MemcgAccounting, pfn: Pfn, item: number, delta: number): void {
    const head = compoundHead(this.frames, pfn);
    if ((this.frames.flags[head] & PG_MEMCG) !== 0) memcg.modState(head, item, delta);
  }

  /** Adds to a counter (ZONE_STAT) of the frame's zone. @linux mm/vmstat.c:mod_zone_page_state */
  modZoneState(pfn: Pfn, item: number, delta: number): void {
    this.zoneInUse(pfn).vmStat[item] += delta;
  }

  /** A counter (NODE_STAT) over all nodes. @linux include/linux/vmstat.h:global_node_page_state */
  nodeState(item: number): number {
    return this.nodes.reduce((sum, node) => sum + node.vmStat[item], 0);
  }

  /** A counter (ZONE_STAT) over all zones. @linux include/linux/vmstat.h:global_zone_page_state */
  zoneState(item: number): number {
    return this.populated.reduce((sum, zone) => sum + zone.state(item), 0);
  }

  /** Counts an event (VM_EVENT). @linux include/linux/vmstat.h:count_vm_events */
  countEvent(event: number, times = 1): void {
    this.events[event] += times;
  }

  /** Who has a frame: `OWNER_*`. */
  owner(pfn: Pfn): number {
    return frameOwner(this.frames, pfn);
  }

  /** How many frames each owner has, by `OWNER_*`; see {@link countOwners}. Costs a step for each frame ever handed out. */
  census(): Float64Array {
    return countOwners(this.frames, this.populated);
  }

  /** What describing all RAM costs, in bytes: `struct page` as Linux keeps it (64 bytes each), and the columns here. */
  memmapBytes(): { readonly linux: number; readonly columns: number } {
    const present = this.populated.reduce((pages, zone) => pages + zone.present, 0);
    return { linux: present * 64, columns: present * BYTES_PER_FRAME };
  }

  /**
   * Recomputes every invariant of zones, lists and frames. Costs a step for each frame ever handed out.
   *
   * @throws KernelBug for the first that does not hold
   */
  validate(): void {
    for (const zone of this.populated) {
      zone.validate();
      validateFrames(this.frames, zone);
    }
  }

  protected zoneInUse(pfn: Pfn): Zone {
    const zone = this.zoneOf(pfn);
    if (zone === undefined) throw new KernelBug(`frame ${pfn} is not memory`);
    return zone;
  }
}
