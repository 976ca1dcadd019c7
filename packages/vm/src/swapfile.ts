/**
 * Swap areas and their slots: who has a slot, and which is next.
 *
 *     map[slot] === page-table entries and shared-memory files that name the slot, + HAS_CACHE while the swap cache has it,
 *                   or BAD
 *     inusePages === slots whose map is neither 0 nor BAD
 *     sum over areas of (pages − inusePages) === Swap.nrFree
 *
 * Slots are taken cluster by cluster (`swap-cluster.ts`), each CPU from a cluster of its own, so that pages that are swapped
 * out together lie together. Among areas of one priority clusters are taken in turn.
 *
 * @linux mm/swapfile.c
 */
import { Errno } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { KernelBug, bugOn } from '@pagelab/lib';
import { NODE_STAT, PG_SWAPCACHE, PG_WRITEBACK, compoundHead, folioNrPages } from '@pagelab/mm-core';
import { unchargeSwap } from './memcg-swap.ts';
import type { Inode } from './file.ts';
import { CLUSTER_FRAG, CLUSTER_FREE, CLUSTER_NONFULL, SWAPFILE_CLUSTER, SwapClusters } from './swap-cluster.ts';
import type { SwapDevice } from './swap-device.ts';
import { MAX_SWAPFILES, MAX_SWAP_PAGES, swpEntry, swpOffset, swpType } from './swapops.ts';
import { deleteFromSwapCache, folioSwapEntry, swapCacheFrame, tryToReclaimSwap } from './swap-state.ts';
import type { Vm } from './vm.ts';

/** The swap cache has the slot's page. @linux include/linux/swap.h:SWAP_HAS_CACHE */
export const SWAP_HAS_CACHE = 1 << 30;
/** The slot cannot be used. @linux include/linux/swap.h:SWAP_MAP_BAD */
export const SWAP_MAP_BAD = -1;

/** `swapon` flags. @linux include/linux/swap.h:SWAP_FLAG_PREFER */
export const SWAP_FLAG_PREFER = 0x8000;
export const SWAP_FLAG_PRIO_MASK = 0x7fff;
export const SWAP_FLAG_DISCARD = 0x1_0000;
export const SWAP_FLAG_DISCARD_ONCE = 0x2_0000;
export const SWAP_FLAG_DISCARD_PAGES = 0x4_0000;
export const SWAP_FLAGS_VALID =
  SWAP_FLAG_PRIO_MASK | SWAP_FLAG_PREFER | SWAP_FLAG_DISCARD | SWAP_FLAG_DISCARD_ONCE | SWAP_FLAG_DISCARD_PAGES;

/** A swap area in use. @linux include/linux/swap.h:swap_info_struct */
export class SwapArea {
  readonly type: number;
  readonly device: SwapDevice;
  /** As `/proc/swaps` shows it. */
  readonly path: string;
  readonly kind: 'partition' | 'file';
  readonly priority: number;
  /** What it lies on, for one on a file. */
  readonly inode: Inode | null;
  /** Slots, the header's included. */
  readonly max: number;
  /** Slots that can be used. */
  readonly pages: number;
  inusePages = 0;
  /** Whether slots are told to the device when clusters come free. */
  readonly discards: boolean;
  /** False while it is being emptied. */
  writable = true;
  /** References to each slot: see above. */
  readonly map: Int32Array;
  /** The swap cache: frame + 1, or of a page that was reclaimed minus what tells its age; 0 for nothing. */
  readonly cache: Int32Array;
  /** Ids of the groups that slots are charged to; `null` until there is one. */
  memcg: Uint16Array | null = null;
  /** A bit for each slot: its page is all zeros, and was not written. */
  readonly #zeros: Int32Array;
  readonly clusters: SwapClusters;

  constructor(
    type: number,
    device: SwapDevice,
    init: {
      path: string;
      kind: 'partition' | 'file';
      priority: number;
      inode: Inode | null;
      max: number;
      badPages: readonly number[];
      discards: boolean;
    },
  ) {
    this.type = type;
    this.device = device;
    this.path = init.path;
    this.kind = init.kind;
    this.priority = init.priority;
    this.inode = init.inode;
    this.max = Math.min(init.max, MAX_SWAP_PAGES);
    this.discards = init.discards;
    this.map = new Int32Array(this.max);
    this.cache = new Int32Array(this.max);
    this.#zeros = new Int32Array((this.max + 31) >>> 5);
    this.map[0] = SWAP_MAP_BAD;
    for (const page of init.badPages) if (page < this.max) this.map[page] = SWAP_MAP_BAD;
    const bad = 1 + new Set(init.badPages.filter((page) => page > 0 && page < this.max)).size;
    this.pages = this.max - bad;
    this.clusters = new SwapClusters(this.map);
  }

  /** Whether a slot's page is all zeros. @linux include/linux/swap.h:zeromap */
  isZero(slot: number): boolean {
    return (this.#zeros[slot >>> 5] & (1 << (slot & 31))) !== 0;
  }

  setZero(slot: number, zero: boolean): void {
    if (zero) this.#zeros[slot >>> 5] |= 1 << (slot & 31);
    else this.#zeros[slot >>> 5] &= ~(1 << (slot & 31));
  }
}

/** Where a search for pages to read ahead has got to. @linux mm/swap_state.c:swapin_readahead_hits */
export interface SwapReadahead {
  hits: number;
  prevOffset: number;
  lastPages: number;
}

/** All areas of a machine. */
export class Swap {
  /** By type. */
  readonly areas: (SwapArea | null)[] = [];
  /** Those that slots are taken from, the highest priority first; among equals the next in turn first. */
  readonly available: SwapArea[] = [];
  /** Slots that are free. @linux mm/swapfile.c:nr_swap_pages */
  nrFree = 0;
  /** The priority of the next area that asks for none. @linux mm/swapfile.c:least_priority */
  leastPriority = -1;
  /** Whether the last page that was asked for had to be made: kept here, so that asking makes no object. */
  readFresh = false;
  /** Whether pages of zeros are not written: since 6.12. */
  skipsZeros = true;
  /** Whether huge pages go to swap as they are: with tables of four or five levels. @linux arch/x86/Kconfig:ARCH_WANTS_THP_SWAP */
  takesHuge = true;
  /** Whether only disks that do not rotate have clusters: before 6.14. */
  hugeNeedsSolidState = false;
  /** Whether a fault maps all parts of a huge page that is in the swap cache still: since 6.11. */
  mapsHuge = true;
  /** Whether what is read ahead lies around an address, where no head has to move, and not around a slot. @linux mm/swap_state.c:enable_vma_readahead */
  vmaReadahead = true;
  /** Whether clusters that are partly taken come before free ones: since 6.18. */
  prefersNonfull = true;
  /** By CPU, the area and the slot in its cluster to look at next; −1 where a cluster has to be found. @linux mm/swapfile.c:percpu_swap_cluster */
  readonly cpuType: Int8Array;
  readonly cpuNext: Int32Array;
  readonly readahead: SwapReadahead = { hits: 4, prevOffset: 0, lastPages: 0 };

  constructor(nrCpus: number) {
    this.cpuType = new Int8Array(nrCpus);
    this.cpuNext = new Int32Array(nrCpus).fill(-1);
  }

  /** The area of an entry. @linux mm/swapfile.c:swp_swap_info */
  area(entry: number): SwapArea {
    const area = this.areas[swpType(entry)];
    if (area === null || area === undefined) throw new KernelBug(`swap: entry ${entry} of no area`);
    return area;
  }

  /** Whether nobody has a slot: no entry names it, nor is it cached. */
  isFree(entry: number): boolean {
    return this.area(entry).map[swpOffset(entry)] === 0;
  }
}

/** Whether more than half of all slots are taken: then slots of pages in memory are given back. @linux include/linux/swap.h:vm_swap_full */
export function vmSwapFull({ swap, totalSwapPages }: Vm): boolean {
  return swap.nrFree * 2 < totalSwapPages;
}

/**
 * Begins to use an area.
 *
 * @param flags `SWAP_FLAG_…`
 * @returns the area; −EPERM where there are as many as there can be
 * @linux mm/swapfile.c:enable_swap_info
 */
export function enableSwapArea(
  vm: Vm,
  device: SwapDevice,
  init: { path: string; kind: 'partition' | 'file'; inode: Inode | null; max: number; badPages: readonly number[] },
  flags: number,
): SwapArea | number {
  const { swap } = vm;
  let type = swap.areas.findIndex((area) => area === null);
  if (type < 0) type = swap.areas.length;
  if (type >= MAX_SWAPFILES) return -Errno.EPERM;
  const priority = (flags & SWAP_FLAG_PREFER) !== 0 ? flags & SWAP_FLAG_PRIO_MASK : --swap.leastPriority;
  const discards = (flags & SWAP_FLAG_DISCARD) !== 0 && device.discard !== undefined;
  const once = (flags & SWAP_FLAG_DISCARD_ONCE) !== 0;
  const area = new SwapArea(type, device, { ...init, priority, discards: discards && !once });
  if (discards && (once || (flags & SWAP_FLAG_DISCARD_PAGES) === 0)) device.discard!(1, area.max - 1);
  swap.areas[type] = area;
  makeAvailable(swap, area);
  swap.nrFree += area.pages;
  vm.totalSwapPages += area.pages;
  return area;
}

function makeAvailable(swap: Swap, area: SwapArea): void {
  let at = swap.available.findIndex(({ priority }) => priority < area.priority);
  if (at < 0) at = swap.available.length;
  swap.available.splice(at, 0, area);
}

/** Stops taking slots of an area, before it is emptied. @linux mm/swapfile.c:del_from_avail_list */
export function stopSwapArea(vm: Vm, area: SwapArea): void {
  area.writable = false;
  const at = vm.swap.available.indexOf(area);
  if (at >= 0) vm.swap.available.splice(at, 1);
  vm.swap.nrFree -= area.pages - area.inusePages;
  vm.totalSwapPages -= area.pages;
  const { cpuType, cpuNext } = vm.swap;
  for (let cpu = 0; cpu < cpuNext.length; cpu++) if (cpuType[cpu] === area.type) cpuNext[cpu] = -1;
}

/** Takes it into use again: it could not be emptied. @linux mm/swapfile.c:reinsert_swap_info */
export function restartSwapArea(vm: Vm, area: SwapArea): void {
  area.writable = true;
  makeAvailable(vm.swap, area);
  vm.swap.nrFree += area.pages - area.inusePages;
  vm.totalSwapPages += area.pages;
}

/** Forgets an area that is empty. Priorities that were given by turn close up. @linux mm/swapfile.c:swapoff */
export function forgetSwapArea(vm: Vm, area: SwapArea): void {
  bugOn(area.inusePages !== 0, 'swap: an area goes that is in use');
  vm.swap.areas[area.type] = null;
  if (area.priority < 0 && !vm.swap.areas.some((other) => other !== null && other.priority < 0)) vm.swap.leastPriority = -1;
}

// ---- taking slots

/**
 * Takes a free slot, for the swap cache.
 *
 * @returns its entry; −1 where all are taken
 * @linux mm/swapfile.c:folio_alloc_swap
 */
export function allocSwapSlot(vm: Vm): number {
  const { available, cpuType, cpuNext } = vm.swap;
  const cpu = vm.smp.processorId;
  // @linux mm/swapfile.c:swap_alloc_fast
  const next = cpuNext[cpu];
  if (next >= 0) {
    const area = vm.swap.areas[cpuType[cpu]]!;
    const slot = scanCluster(area, next);
    if (slot >= 0) return takeSlot(vm, area, slot);
    cpuNext[cpu] = -1;
  }
  // @linux mm/swapfile.c:swap_alloc_slow
  const area = available.find(({ inusePages, pages }) => inusePages < pages);
  if (area === undefined) return -1;
  requeue(available, area);
  const slot = scanArea(vm, area);
  bugOn(slot < 0, 'swap: an area has free slots, and no cluster has');
  return takeSlot(vm, area, slot);
}

/**
 * Takes a whole cluster, for the parts of a huge page. Only partitions have them for that.
 *
 * @param nrPages parts: as many slots as a cluster has
 * @returns the entry of the first; −1 where no cluster is free
 * @linux mm/swapfile.c:cluster_alloc_swap_entry
 */
export function allocSwapCluster(vm: Vm, nrPages: number): number {
  const { swap } = vm;
  if (nrPages !== SWAPFILE_CLUSTER || !swap.takesHuge) return -1;
  for (const area of swap.available) {
    if (area.kind !== 'partition' || (swap.hugeNeedsSolidState && !area.device.solidState)) continue;
    const cluster = area.clusters.first(CLUSTER_FREE);
    if (cluster < 0) continue;
    requeue(swap.available, area);
    const first = cluster * SWAPFILE_CLUSTER;
    for (let slot = first; slot < first + SWAPFILE_CLUSTER; slot++) {
      area.map[slot] = SWAP_HAS_CACHE;
      area.cache[slot] = 0;
      area.clusters.taken(cluster);
    }
    area.inusePages += SWAPFILE_CLUSTER;
    swap.nrFree -= SWAPFILE_CLUSTER;
    return swpEntry(area.type, first);
  }
  return -1;
}

/** Lets others of an area's priority go first from now on. @linux lib/plist.c:plist_requeue */
function requeue(available: SwapArea[], area: SwapArea): void {
  const at = available.indexOf(area);
  let last = at;
  while (last + 1 < available.length && available[last + 1].priority === area.priority) last++;
  if (last === at) return;
  available.splice(at, 1);
  available.splice(last, 0, area);
}

const NONFULL_FIRST = [CLUSTER_NONFULL, CLUSTER_FREE, CLUSTER_FRAG] as const;
const FREE_FIRST = [CLUSTER_FREE, CLUSTER_NONFULL, CLUSTER_FRAG] as const;

/** The first free slot of the cluster to take from next; −1 where the area is full. @linux mm/swapfile.c:cluster_alloc_swap_entry */
function scanArea({ swap }: Vm, area: SwapArea): number {
  for (const list of swap.prefersNonfull ? NONFULL_FIRST : FREE_FIRST) {
    const cluster = area.clusters.first(list);
    if (cluster >= 0) return scanCluster(area, cluster * SWAPFILE_CLUSTER);
  }
  return -1;
}

/** The first free slot from `from` on in its cluster; −1 for none. @linux mm/swapfile.c:alloc_swap_scan_cluster */
function scanCluster({ map, max, clusters }: SwapArea, from: number): number {
  const cluster = Math.floor(from / SWAPFILE_CLUSTER);
  if (clusters.free[cluster] === 0) return -1;
  const end = Math.min(max, (cluster + 1) * SWAPFILE_CLUSTER);
  for (let slot = from; slot < end; slot++) if (map[slot] === 0) return slot;
  return -1;
}

/** @returns the entry */
function takeSlot(vm: Vm, area: SwapArea, slot: number): number {
  const { swap, smp } = vm;
  area.map[slot] = SWAP_HAS_CACHE;
  area.cache[slot] = 0;
  area.clusters.taken(Math.floor(slot / SWAPFILE_CLUSTER));
  area.inusePages++;
  swap.nrFree--;
  const next = slot + 1;
  swap.cpuType[smp.processorId] = area.type;
  swap.cpuNext[smp.processorId] = next % SWAPFILE_CLUSTER === 0 || next >= area.max ? -1 : next;
  return swpEntry(area.type, slot);
}

/** Nobody names a slot any more. @linux mm/swapfile.c:swap_entries_free */
function freeSlot(vm: Vm, area: SwapArea, slot: number): void {
  const cluster = Math.floor(slot / SWAPFILE_CLUSTER);
  area.cache[slot] = 0;
  if (vm.zswap.storedPages > 0) vm.zswap.invalidate(swpEntry(area.type, slot));
  if (area.memcg !== null && area.memcg[slot] !== 0) unchargeSwap(vm, area.memcg, slot);
  area.inusePages--;
  if (area.writable) vm.swap.nrFree++;
  if (area.clusters.freed(cluster) && area.discards) area.device.discard!(cluster * SWAPFILE_CLUSTER, SWAPFILE_CLUSTER);
}

// ---- references

/** One more entry names a slot. @linux mm/swapfile.c:swap_duplicate */
export function swapDuplicate(vm: Vm, entry: number): void {
  const { map } = vm.swap.area(entry);
  const slot = swpOffset(entry);
  bugOn(map[slot] <= 0, 'swap: an entry of a free slot');
  map[slot]++;
}

/** One entry less names a slot. @linux mm/swapfile.c:swap_free */
export function swapFree(vm: Vm, entry: number): void {
  const area = vm.swap.area(entry);
  const slot = swpOffset(entry);
  bugOn((area.map[slot] & ~SWAP_HAS_CACHE) <= 0, 'swap: freed more often than taken');
  if (--area.map[slot] === 0) freeSlot(vm, area, slot);
}

/** The swap cache gives a slot up. @linux mm/swapfile.c:put_swap_folio */
export function putSwapSlot(vm: Vm, entry: number): void {
  const area = vm.swap.area(entry);
  const slot = swpOffset(entry);
  bugOn((area.map[slot] & SWAP_HAS_CACHE) === 0, 'swap: not in the cache');
  area.map[slot] &= ~SWAP_HAS_CACHE;
  if (area.map[slot] === 0) freeSlot(vm, area, slot);
}

/** The swap cache takes a slot that entries name; false where it has it, or nobody names it. @linux mm/swapfile.c:swapcache_prepare */
export function swapcachePrepare(vm: Vm, entry: number): boolean {
  const { map } = vm.swap.area(entry);
  const slot = swpOffset(entry);
  if (map[slot] <= 0 || (map[slot] & SWAP_HAS_CACHE) !== 0) return false;
  map[slot] |= SWAP_HAS_CACHE;
  return true;
}

/** Entries that name a slot. @linux mm/swapfile.c:swp_swapcount */
export function swpSwapcount(vm: Vm, entry: number): number {
  return vm.swap.area(entry).map[swpOffset(entry)] & ~SWAP_HAS_CACHE;
}

/** One entry less names a slot; a page that only the swap cache has goes with the last. @linux mm/swapfile.c:free_swap_and_cache */
export function freeSwapAndCache(vm: Vm, entry: number): void {
  const pfn = swapCacheFrame(vm, entry);
  swapFree(vm, entry);
  if (pfn >= 0 && swpSwapcount(vm, entry) === 0) tryToReclaimSwap(vm, pfn);
}

/**
 * Gives the slot of a page in the swap cache back, where no entry names it: the page is dirty from then on.
 *
 * @returns whether it could be
 * @linux mm/swapfile.c:folio_free_swap
 */
export function folioFreeSwap(vm: Vm, pfn: Pfn): boolean {
  const head = compoundHead(vm.frames, pfn);
  if (!mayFreeSwap(vm, head)) return false;
  deleteFromSwapCache(vm, head);
  return true;
}

function mayFreeSwap(vm: Vm, head: Pfn): boolean {
  const { flags } = vm.frames;
  if ((flags[head] & PG_SWAPCACHE) === 0 || (flags[head] & PG_WRITEBACK) !== 0) return false;
  const entry = folioSwapEntry(vm, head);
  const nrPages = folioNrPages(vm.frames, head);
  for (let i = 0; i < nrPages; i++) if (swpSwapcount(vm, entry + i) > 0) return false;
  return true;
}

/**
 * Checks counts and clusters of every area.
 *
 * @param references entries of page tables and files that name each slot
 * @throws KernelBug at the first that does not hold
 */
export function validateSwap(vm: Vm, references: ReadonlyMap<number, number>): void {
  const { swap, frames } = vm;
  let free = 0;
  let cached = 0;
  for (const area of swap.areas) {
    if (area === null) continue;
    let inuse = 0;
    for (let slot = 0; slot < area.max; slot++) {
      const entry = swpEntry(area.type, slot);
      const count = area.map[slot];
      if (count === SWAP_MAP_BAD) continue;
      const named = count & ~SWAP_HAS_CACHE;
      if (named !== (references.get(entry) ?? 0)) {
        throw new KernelBug(`swap: slot ${slot} of area ${area.type} counts ${named}, named ${references.get(entry) ?? 0} times`);
      }
      const frame = area.cache[slot] - 1;
      bugOn(frame >= 0 !== ((count & SWAP_HAS_CACHE) !== 0), `swap: slot ${slot} of area ${area.type}: cache and count disagree`);
      if (frame >= 0) {
        cached++;
        const head = compoundHead(frames, frame);
        const ok = (frames.flags[head] & PG_SWAPCACHE) !== 0 && folioSwapEntry(vm, frame) === entry && frames.refcount[head] > 0;
        bugOn(!ok, `swap: frame ${frame} is cached for slot ${slot}, and does not know`);
      }
      if (count !== 0) inuse++;
    }
    bugOn(inuse !== area.inusePages, `swap: area ${area.type} has ${inuse} slots in use, and counts ${area.inusePages}`);
    area.clusters.validate(area.map);
    if (area.writable) free += area.pages - area.inusePages;
  }
  for (const entry of references.keys()) bugOn(swap.areas[swpType(entry)] === null, `swap: entry ${entry} of an area that is gone`);
  bugOn(free !== swap.nrFree, `swap: ${free} slots free, and ${swap.nrFree} counted`);
  const counted = vm.pages.nodeState(NODE_STAT.NR_SWAPCACHE);
  bugOn(cached !== counted, `swap: ${cached} pages in the swap cache, and ${counted} counted`);
}
