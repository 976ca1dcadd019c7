/**
 * The swap cache: pages that have a slot in a swap area, and are in memory as well.
 *
 *     PG_SWAPCACHE ⇔ private is the entry of a slot whose `cache` names the frame; the cache holds a reference
 *
 * A huge page has a cluster of slots, one for each of its parts, and the cache as many references to it. PG_SWAPCACHE is its
 * head's; the entry of the first slot is in the private word of its fourth frame.
 *
 * A page comes in from either side: it was given a slot and is on its way out, or it was read back. While both are there
 * nothing is lost, whoever touches it first: two processes that share a page through `fork` find the same frame again.
 *
 * @linux mm/swap_state.c
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import {
  GFP_HIGHUSER_MOVABLE,
  NODE_STAT,
  PG_DIRTY,
  PG_HEAD,
  PG_RECLAIM,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_TAIL,
  PG_UPTODATE,
  VM_EVENT,
  __GFP_NORETRY,
  __GFP_NOWARN,
  compoundHead,
  folioNrPages,
} from '@pagelab/mm-core';
import { chargeSwap, chargeSwapin, folioSwapFull } from './memcg-swap.ts';
import { swapReadFolio } from './page-io.ts';
import { entryHi } from './pgtable-shape.ts';
import { findPte } from './pgtable.ts';
import { folioAddLru } from './swap.ts';
import { allocSwapCluster, allocSwapSlot, folioFreeSwap, putSwapSlot, swapcachePrepare } from './swapfile.ts';
import { pteToSwp, swpEntry, swpOffset, swpType } from './swapops.ts';
import type { Vm } from './vm.ts';
import type { VmArea } from './vma.ts';

/** Another name for the bit: the page was read ahead. */
const PG_READAHEAD = PG_RECLAIM;
/** Most pages that are read at once, as a power of 2, whatever `page_cluster` says. @linux mm/swap_state.c:SWAP_RA_ORDER_CEILING */
const SWAP_RA_ORDER_CEILING = 5;
/** @linux mm/swap_state.c:SWAP_RA_HITS_MAX */
const SWAP_RA_HITS_MAX = 63;

/** The frame that the swap cache has for an entry; −1 for none. @linux mm/swap_state.c:swap_cache_get_folio */
export function swapCacheFrame(vm: Vm, entry: number): Pfn {
  const cached = vm.swap.area(entry).cache[swpOffset(entry)];
  return cached > 0 ? cached - 1 : -1;
}

/** Which frame of a huge page has the entry in its private word. */
const HUGE_ENTRY = 3;

/** The slot of a page of the swap cache, or of a part of one. @linux mm/swap.h:page_swap_entry */
export function folioSwapEntry({ frames }: Vm, pfn: Pfn): number {
  const { flags, private: priv } = frames;
  if ((flags[pfn] & (PG_HEAD | PG_TAIL)) === 0) return priv[pfn];
  const head = compoundHead(frames, pfn);
  return priv[head + HUGE_ENTRY] + pfn - head;
}

/** Puts a page into the cache, which takes a reference for each slot. The slots must count that already. @linux mm/swap_state.c:swap_cache_add_folio */
function addToSwapCache(vm: Vm, pfn: Pfn, nrPages: number, entry: number): void {
  const { flags, private: priv, refcount } = vm.frames;
  flags[pfn] |= PG_SWAPCACHE;
  priv[nrPages === 1 ? pfn : pfn + HUGE_ENTRY] = entry;
  refcount[pfn] += nrPages;
  cacheFrames(vm, pfn, nrPages, entry);
  vm.pages.modOnlyNodeState(pfn, NODE_STAT.NR_FILE_PAGES, nrPages);
  vm.pages.modNodeState(pfn, NODE_STAT.NR_SWAPCACHE, nrPages);
}

function cacheFrames(vm: Vm, pfn: Pfn, nrPages: number, entry: number): void {
  const { cache } = vm.swap.area(entry);
  const slot = swpOffset(entry);
  for (let i = 0; i < nrPages; i++) cache[slot + i] = pfn + i + 1;
}

/** A huge page of the cache moves to other frames, which have its flags. @linux mm/migrate.c:__folio_migrate_mapping */
export function moveHugeSwapEntry(vm: Vm, from: Pfn, to: Pfn, nrPages: number): void {
  const { private: priv } = vm.frames;
  const entry = priv[from + HUGE_ENTRY];
  priv[to + HUGE_ENTRY] = entry;
  priv[from + HUGE_ENTRY] = 0;
  cacheFrames(vm, to, nrPages, entry);
}

/** A huge page of the cache is single pages now, which have no references of the cache's yet. @linux mm/huge_memory.c:__split_folio_to_order */
export function splitSwapCache(vm: Vm, head: Pfn, nrPages: number): void {
  const { flags, private: priv } = vm.frames;
  const entry = priv[head + HUGE_ENTRY];
  for (let i = 0; i < nrPages; i++) {
    flags[head + i] |= PG_SWAPCACHE | PG_SWAPBACKED | PG_UPTODATE;
    priv[head + i] = entry + i;
  }
}

/**
 * Gives a page a slot, or a huge one a cluster of them, and makes it dirty: it is to be written there.
 *
 * @returns whether there was one
 * @linux mm/swapfile.c:folio_alloc_swap
 */
export function addToSwap(vm: Vm, pfn: Pfn): boolean {
  const nrPages = folioNrPages(vm.frames, pfn);
  const entry = nrPages === 1 ? allocSwapSlot(vm) : allocSwapCluster(vm, nrPages);
  if (vm.memcgs !== null && !chargeSwap(vm.memcgs, pfn, nrPages, entry)) {
    for (let i = 0; i < nrPages; i++) putSwapSlot(vm, entry + i);
    return false;
  }
  if (entry < 0) return false;
  addToSwapCache(vm, pfn, nrPages, entry);
  vm.frames.flags[pfn] |= PG_DIRTY;
  return true;
}

/**
 * Takes a page out of the cache; the last of its slot's references may go with that.
 *
 * @param shadow stays in its place while entries name the slot: what tells when it was reclaimed, or 0
 * @linux mm/swap_state.c:__swap_cache_del_folio
 */
export function removeFromSwapCache(vm: Vm, pfn: Pfn, shadow: number): void {
  const { flags, private: priv } = vm.frames;
  bugOn((flags[pfn] & PG_SWAPCACHE) === 0, 'swap cache: a page that is not in it');
  const nrPages = folioNrPages(vm.frames, pfn);
  const entry = folioSwapEntry(vm, pfn);
  flags[pfn] &= ~PG_SWAPCACHE;
  priv[nrPages === 1 ? pfn : pfn + HUGE_ENTRY] = 0;
  vm.pages.modOnlyNodeState(pfn, NODE_STAT.NR_FILE_PAGES, -nrPages);
  vm.pages.modNodeState(pfn, NODE_STAT.NR_SWAPCACHE, -nrPages);
  const { cache } = vm.swap.area(entry);
  for (let i = 0; i < nrPages; i++) {
    cache[swpOffset(entry) + i] = -shadow;
    putSwapSlot(vm, entry + i);
  }
}

/** Takes a page out and drops the cache's references. The page has no copy any more, and is dirty. @linux mm/swap_state.c:swap_cache_del_folio */
export function deleteFromSwapCache(vm: Vm, pfn: Pfn): void {
  removeFromSwapCache(vm, pfn, 0);
  vm.frames.flags[pfn] |= PG_DIRTY;
  vm.frames.refcount[pfn] -= folioNrPages(vm.frames, pfn) - 1;
  vm.pages.putPage(pfn);
}

/** Whether some entry of a page table shows a page, or a part of a huge one. @linux include/linux/mm.h:folio_mapped */
export function folioMapped({ frames }: Vm, pfn: Pfn): boolean {
  return (frames.flags[pfn] & PG_HEAD) === 0 ? frames.mapcount[pfn] > 0 : frames.private[pfn + 2] > 0;
}

/** An entry that showed a page is gone: where it was the last, a slot that nobody names goes with it. @linux mm/swap_state.c:free_swap_cache */
export function freeSwapCache(vm: Vm, pfn: Pfn): void {
  const head = compoundHead(vm.frames, pfn);
  if ((vm.frames.flags[head] & PG_SWAPCACHE) !== 0 && !folioMapped(vm, head)) folioFreeSwap(vm, head);
}

/** A page whose slot nobody names: the cache lets go of it unless it is mapped, or slots are plenty. @linux mm/swapfile.c:__try_to_reclaim_swap */
export function tryToReclaimSwap(vm: Vm, pfn: Pfn): void {
  const head = compoundHead(vm.frames, pfn);
  if (!folioMapped(vm, head) || folioSwapFull(vm, head)) folioFreeSwap(vm, head);
}

// ---- reading

/**
 * The page of an entry; where the cache did not have it, `Swap.readFresh` says that it has to be read.
 *
 * @returns the frame, without a reference for the caller; −1 where there is no memory, or nobody names the slot
 * @linux mm/swap_state.c:__read_swap_cache_async
 */
export function readSwapCache(vm: Vm, entry: number, gfp: number): Pfn {
  vm.swap.readFresh = false;
  const known = swapCacheFrame(vm, entry);
  if (known >= 0) return known;
  if (vm.swap.area(entry).map[swpOffset(entry)] <= 0) return -1;
  const pfn = vm.pages.allocPage(gfp);
  if (pfn < 0) return -1;
  // Getting the page may have come to reclaim, which may have taken the last entry away, or brought the page in to write it back.
  vm.swap.readFresh = false;
  const cached = swapCacheFrame(vm, entry);
  const shadow = -vm.swap.area(entry).cache[swpOffset(entry)];
  if (cached >= 0 || !swapcachePrepare(vm, entry)) {
    vm.pages.freePage(pfn);
    return cached;
  }
  if (vm.memcgs !== null && !chargeSwapin(vm.memcgs, pfn, entry, gfp)) {
    vm.swap.readFresh = false;
    putSwapSlot(vm, entry);
    vm.pages.freePage(pfn);
    return -1;
  }
  vm.frames.flags[pfn] |= PG_SWAPBACKED;
  addToSwapCache(vm, pfn, 1, entry);
  if (shadow > 0) vm.reclaim.policy.refault(pfn, shadow);
  folioAddLru(vm, pfn);
  vm.pages.freePage(pfn);
  vm.swap.readFresh = true;
  return pfn;
}

/**
 * Brings an entry's page in, and others with it that are likely to be wanted soon: those around it in the area, or, where
 * no head has to move, those around it in memory.
 *
 * @returns the frame, up to date unless its reading failed; −1 where there was no memory
 * @linux mm/swap_state.c:swapin_readahead
 */
export function swapinReadahead(vm: Vm, entry: number, vma: VmArea | null, address: VirtAddr): Pfn {
  const target = readAndFill(vm, entry, GFP_HIGHUSER_MOVABLE);
  if (target < 0) return -1;
  // What is read ahead must not push out what it was read for.
  vm.frames.refcount[target]++;
  if (vma !== null && vm.swap.vmaReadahead && vm.swap.area(entry).device.solidState) readAheadVma(vm, entry, vma, address);
  else readAheadCluster(vm, entry);
  vm.frames.refcount[target]--;
  return target;
}

/** Reads what {@link readSwapCache} found missing. */
function readAndFill(vm: Vm, entry: number, gfp: number): Pfn {
  const pfn = readSwapCache(vm, entry, gfp);
  if (vm.swap.readFresh) swapReadFolio(vm, pfn);
  return pfn;
}

function readAhead(vm: Vm, entry: number): void {
  const pfn = readSwapCache(vm, entry, GFP_HIGHUSER_MOVABLE | __GFP_NORETRY | __GFP_NOWARN);
  if (!vm.swap.readFresh) return;
  swapReadFolio(vm, pfn);
  vm.frames.flags[pfn] |= PG_READAHEAD;
  vm.pages.events[VM_EVENT.SWAP_RA]++;
}

/** The slots around one. @linux mm/swap_state.c:swap_cluster_readahead */
function readAheadCluster(vm: Vm, entry: number): void {
  const offset = swpOffset(entry);
  const { readahead } = vm.swap;
  const hits = readahead.hits;
  readahead.hits = 0;
  const pages = swapinPages(readahead.prevOffset, offset, hits, maxPages(vm), readahead.lastPages);
  if (hits === 0) readahead.prevOffset = offset;
  readahead.lastPages = pages;
  const mask = pages - 1;
  if (mask === 0) return;
  const end = Math.min(offset | mask, vm.swap.area(entry).max - 1);
  for (let at = Math.max(1, offset & ~mask); at <= end; at++) {
    if (at !== offset) readAhead(vm, swpEntry(swpType(entry), at));
  }
}

/** The pages around an address. @linux mm/swap_state.c:swap_vma_readahead */
function readAheadVma(vm: Vm, entry: number, vma: VmArea, address: VirtAddr): void {
  const most = maxPages(vm);
  if (most === 1) return;
  const { tables } = vm;
  const page = address / PAGE_SIZE;
  const last = vma.raAddr / PAGE_SIZE;
  const win = swapinPages(last, page, vma.raHits, most, vma.raWin);
  vma.raAddr = address;
  vma.raWin = win;
  vma.raHits = 0;
  if (win === 1) return;
  const left = Math.floor((win - 1) / 2);
  let from = page - left;
  let to = page + win - left;
  if (page === last + 1) {
    from = page;
    to = page + win;
  } else if (last === page + 1) {
    from = page - win + 1;
    to = page + 1;
  }
  const tableStart = Math.floor(address / tables.pmdSize) * tables.pmdSize;
  from = Math.max(from, vma.start / PAGE_SIZE, tableStart / PAGE_SIZE);
  to = Math.min(to, vma.end / PAGE_SIZE, (tableStart + tables.pmdSize) / PAGE_SIZE);
  for (let at = from; at < to; at++) {
    if (at === page) continue;
    const found = swapEntryAt(vma, at * PAGE_SIZE);
    if (found >= 0 && found !== entry) readAhead(vm, found);
  }
}

/** The slot that the page tables name at an address; −1 for none. */
function swapEntryAt({ mm }: VmArea, addr: VirtAddr): number {
  const { vm } = mm;
  const pte = findPte(mm, addr);
  if (pte < 0) return -1;
  return pteToSwp(vm.tables.entryWords, vm.ram.i32[pte], entryHi(vm.ram.i32, pte, vm.tables.entryWords));
}

/** MADV_WILLNEED: reads the swapped pages of a range. @linux mm/madvise.c:swapin_walk_pmd_entry */
export function swapinRange(vma: VmArea, start: VirtAddr, end: VirtAddr): void {
  const { vm } = vma.mm;
  for (let addr = start; addr < end; addr += PAGE_SIZE) {
    const entry = swapEntryAt(vma, addr);
    if (entry >= 0) readAndFill(vm, entry, GFP_HIGHUSER_MOVABLE);
  }
}

function maxPages(vm: Vm): number {
  return 1 << Math.min(vm.sysctl.pageCluster, SWAP_RA_ORDER_CEILING);
}

/** How many pages to read, by how many of the last ones were used. @linux mm/swap_state.c:__swapin_nr_pages */
function swapinPages(prevOffset: number, offset: number, hits: number, most: number, lastPages: number): number {
  let pages = hits + 2;
  if (pages === 2) {
    if (offset !== prevOffset + 1 && offset !== prevOffset - 1) pages = 1;
  } else {
    let roundUp = 4;
    while (roundUp < pages) roundUp *= 2;
    pages = roundUp;
  }
  return Math.max(Math.min(pages, most), lastPages >> 1);
}

/** A fault found its page in the cache: was reading ahead right? @linux mm/swap_state.c:swap_update_readahead */
export function swapUpdateReadahead(vm: Vm, pfn: Pfn, vma: VmArea | null, address: VirtAddr): void {
  const { flags } = vm.frames;
  const wasAhead = (flags[pfn] & PG_READAHEAD) !== 0;
  const byVma = vma !== null && vm.swap.area(folioSwapEntry(vm, pfn)).device.solidState;
  flags[pfn] &= ~PG_READAHEAD;
  if (byVma) {
    if (wasAhead) vma.raHits = Math.min(vma.raHits + 1, SWAP_RA_HITS_MAX);
    vma.raAddr = address;
  }
  if (!wasAhead) return;
  vm.pages.events[VM_EVENT.SWAP_RA_HIT]++;
  if (!byVma) vm.swap.readahead.hits++;
}

/** Whether a page's contents are what was swapped out: its reading did not fail. */
export function swapUptodate(vm: Vm, pfn: Pfn): boolean {
  return (vm.frames.flags[compoundHead(vm.frames, pfn)] & PG_UPTODATE) !== 0;
}
