/**
 * Folios of shared memory: made of several pages where that is allowed, split when a part of them goes.
 *
 * @linux mm/shmem.c
 */
import { Errno } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { PG_SWAPBACKED, VM_EVENT, __GFP_COMP } from '@pagelab/mm-core';
import type { AddressSpace, Inode } from './file.ts';
import { unmapFilePmds } from './file-pmd.ts';
import { dissolveFolio, folioStart, splitFolio } from './folio.ts';
import { kmapLocalPage, kunmapLocal } from './highmem.ts';
import { hugeGfp } from './huge-memory.ts';
import { chargeFolio } from './memcg-charge.ts';
import { allocByPolicy } from './mempolicy.ts';
import { folioOrder, insertIntoPageCache, removeFromPageCache, setFolioOrder, setPageDirty } from './page-cache.ts';
import { sharedPolicyAt } from './shared-policy.ts';
import { shmemHugeOrders } from './shmem-huge.ts';
import { shmemAcctBlock, shmemUnacctBlock } from './shmem-super.ts';
import type { Vm } from './vm.ts';
import { VM_HUGEPAGE } from './vma.ts';
import type { VmArea } from './vma.ts';
import { unmapMappingPages } from './zap.ts';

/** Memory for 2^`order` pages of a file: as its policy for the page says, or else the task's. @linux mm/shmem.c:shmem_alloc_folio */
export function allocShmemBlock(vm: Vm, { inode }: AddressSpace, pgoff: number, gfp: number, order: number): Pfn {
  const policy = sharedPolicyAt(inode, pgoff) ?? vm.taskPolicy.policy;
  return policy === null ? vm.pages.allocPages(gfp, order) : allocByPolicy(vm, policy, gfp, order, inode.ino + pgoff);
}

/**
 * Makes a folio of several pages around a page that is missing, of the largest size that is allowed, that fits and for which there is
 * memory. What it holds is undefined, and it is not up to date.
 *
 * @param vma the mapping that is touched, which the folio fits into; `null` for none
 * @param writeEnd where what is written will end, in bytes
 * @returns the page, with a reference for the caller; negative where only a single page can be made
 * @linux mm/shmem.c:shmem_alloc_and_add_folio
 */
export function makeShmemFolio(vm: Vm, mapping: AddressSpace, pgoff: number, vma: VmArea | null, writeEnd: number): Pfn {
  const { inode } = mapping;
  const { hugeOrder } = vm.tables;
  const { events } = vm.pages;
  const orders = shmemHugeOrders(vm, inode, vma, pgoff, writeEnd, false);
  if (orders === 0) return -Errno.ENOMEM;
  const gfp = hugeGfp(vm, vma !== null && (vma.flags & VM_HUGEPAGE) !== 0) & ~__GFP_COMP;
  let free = false;
  for (let order = hugeOrder; order > 0; order--) {
    if ((orders & (1 << order)) === 0 || (vma !== null && !fitsMapping(vma, pgoff, order))) continue;
    const first = folioStart(pgoff, order);
    // What is free of pages here is free of them for every smaller size.
    free ||= isFree(mapping, first, first + (1 << order));
    if (!free) continue;
    const block = allocShmemBlock(vm, mapping, first, gfp, order);
    if (block < 0) {
      if (order === hugeOrder) events[VM_EVENT.THP_FILE_FALLBACK]++;
      continue;
    }
    return addFolio(vm, mapping, first, block, order, gfp) ? takePage(vm, block + pgoff - first) : -Errno.ENOMEM;
  }
  return -Errno.ENOMEM;
}

function takePage({ frames }: Vm, pfn: Pfn): Pfn {
  frames.refcount[pfn]++;
  return pfn;
}

/** Whether the folio of a page would lie in the mapping, on addresses that are multiples of its size. @linux include/linux/huge_mm.h:thp_vma_suitable_order */
function fitsMapping(vma: VmArea, pgoff: number, order: number): boolean {
  const size = 1 << order;
  const start = vma.start / PAGE_SIZE;
  if ((start - vma.pgoff) % size !== 0) return false;
  const first = folioStart(pgoff, order);
  return first >= vma.pgoff && first - vma.pgoff + start + size <= vma.end / PAGE_SIZE;
}

/** Whether a file has nothing in [first, behind), cached or swapped out. */
function isFree({ pages, swaps }: AddressSpace, first: number, behind: number): boolean {
  const cached = pages.nextIndex(first);
  if (cached >= 0 && cached < behind) return false;
  const swapped = swaps.size === 0 ? -1 : swaps.nextIndex(first);
  return swapped < 0 || swapped >= behind;
}

/** Charges a block and makes it a folio of the file, which holds the one reference to each page; false, with the block freed, where that fails. */
function addFolio(vm: Vm, mapping: AddressSpace, first: number, block: Pfn, order: number, gfp: number): boolean {
  const { inode } = mapping;
  const { events } = vm.pages;
  const size = 1 << order;
  const current = vm.memcgs?.current ?? null;
  if (current !== null && chargeFolio(vm.memcgs!, current.memcg, block, size, gfp) !== 0) {
    if (order === vm.tables.hugeOrder) {
      events[VM_EVENT.THP_FILE_FALLBACK]++;
      events[VM_EVENT.THP_FILE_FALLBACK_CHARGE]++;
    }
    vm.pages.freePages(block, order);
    return false;
  }
  const { flags } = vm.frames;
  vm.pages.splitPage(block, order);
  let added = 0;
  if (shmemAcctBlock(vm, inode, size) === 0) {
    for (; added < size; added++) {
      flags[block + added] |= PG_SWAPBACKED;
      // Its memory may come from reclaim, which is not to see half a folio.
      if (insertIntoPageCache(vm, mapping, first + added, block + added) !== 0) break;
    }
    if (added < size) {
      flags[block + added] &= ~PG_SWAPBACKED;
      for (let i = 0; i < added; i++) removeFromPageCache(vm, mapping, first + i);
      for (let i = 0; i < size; i++) shmemUnacctBlock(vm, inode);
    }
  }
  for (let i = 0; i < size; i++) {
    if (added === size) setFolioOrder(vm, block + i, order);
    // The cache has its own reference.
    vm.pages.freePage(block + i);
  }
  if (added < size) return false;
  if (order === vm.tables.hugeOrder) events[VM_EVENT.THP_FILE_ALLOC]++;
  return true;
}

/** Takes a page, which nobody maps, out of its file. */
export function dropShmemPage(vm: Vm, inode: Inode, pgoff: number): void {
  removeFromPageCache(vm, inode.mapping, pgoff);
  shmemUnacctBlock(vm, inode);
}

/**
 * Splits the folio of a page so that the page stands alone, and halves, quarters, … are what is left. The file's pages are
 * unmapped by that, and what lies beyond the end of the file goes.
 *
 * @returns false where somebody else refers to one of its pages, with nothing changed but what is mapped
 * @linux mm/huge_memory.c:folio_split
 */
export function splitShmemFolioAt(vm: Vm, mapping: AddressSpace, pgoff: number): boolean {
  const { pages } = mapping;
  const { refcount } = vm.frames;
  const order = folioOrder(vm, pages.get(pgoff));
  if (order === 0) return true;
  const first = folioStart(pgoff, order);
  const behind = first + (1 << order);
  unmapMappingPages(vm, mapping, first, behind - 1, 'file');
  for (let at = first; at < behind; at++) {
    if (refcount[pages.get(at)] === 1) continue;
    countSplit(vm, order, VM_EVENT.THP_SPLIT_PAGE_FAILED);
    return false;
  }
  splitFolio(vm, mapping, first, order, pgoff);
  countSplit(vm, order, VM_EVENT.THP_SPLIT_PAGE);
  dropBeyond(vm, mapping, first, behind, pages.get(pgoff));
  return true;
}

/**
 * Makes single pages of a folio, for reclaim, which takes it page by page. It is unmapped by that, but where it is locked;
 * flushing what small entries showed is the caller's: `Smp.flushBatch`.
 *
 * @linux mm/huge_memory.c:split_folio_to_list
 */
export function splitShmemFolio(vm: Vm, pfn: Pfn): void {
  const { index, mapping: mappingOf } = vm.frames;
  const mapping = vm.mappings.get(mappingOf[pfn])!;
  const order = folioOrder(vm, pfn);
  const first = folioStart(index[pfn], order);
  if (order === vm.tables.hugeOrder) unmapFilePmds(vm, pfn);
  for (let at = first; at < first + (1 << order); at++) {
    const page = mapping.pages.get(at);
    if (vm.frames.mapcount[page] > 0) vm.reclaim.rmap.unmap(page);
  }
  dissolveFolio(vm, mapping, first, order);
  countSplit(vm, order, VM_EVENT.THP_SPLIT_PAGE);
}

/** Only splits of folios as large as a huge page are counted. */
function countSplit({ pages, tables }: Vm, order: number, event: number): void {
  if (order === tables.hugeOrder) pages.countEvent(event);
}

/** Folios that lie beyond the end of the file are its no more. The one that was split at stays. */
function dropBeyond(vm: Vm, { inode, pages }: AddressSpace, first: number, behind: number, keep: Pfn): void {
  const end = Math.max(Math.ceil(inode.size / PAGE_SIZE), inode.fallocEnd);
  for (let at = first; at < behind; ) {
    const pfn = pages.get(at);
    const size = 1 << folioOrder(vm, pfn);
    if (at >= end && pfn !== keep) for (let page = at; page < at + size; page++) dropShmemPage(vm, inode, page);
    at += size;
  }
}

/**
 * Frees the pages of a file that lie in [start, end) whole, and clears what lies in it of others. Folios of which parts go are split. What
 * goes whole must be mapped nowhere.
 *
 * @param start and `end` in bytes
 * @linux mm/shmem.c:shmem_undo_range
 */
export function truncateShmemPages(vm: Vm, inode: Inode, start: number, end: number): void {
  const { mapping } = inode;
  const { pages } = mapping;
  let first = Math.ceil(start / PAGE_SIZE);
  let behind = end === Infinity ? Infinity : Math.floor(end / PAGE_SIZE);
  for (let pgoff = pages.nextIndex(first); pgoff >= 0 && pgoff < behind; ) {
    const order = folioOrder(vm, pages.get(pgoff));
    const head = folioStart(pgoff, order);
    const next = head + (1 << order);
    if (head >= first && next <= behind) for (let page = head; page < next; page++) dropShmemPage(vm, inode, page);
    pgoff = pages.nextIndex(next);
  }
  const startPgoff = Math.floor(start / PAGE_SIZE);
  const lastPgoff = end === Infinity ? Infinity : Math.floor((end - 1) / PAGE_SIZE);
  let sameFolio = startPgoff === lastPgoff;
  if (pages.has(startPgoff)) {
    const order = folioOrder(vm, pages.get(startPgoff));
    const head = folioStart(startPgoff, order);
    const next = head + (1 << order);
    sameFolio = end <= next * PAGE_SIZE;
    if (!truncatePartial(vm, mapping, startPgoff, start, end)) {
      first = next;
      if (sameFolio) behind = head;
    }
  }
  if (!sameFolio && lastPgoff !== Infinity && pages.has(lastPgoff)) {
    const head = folioStart(lastPgoff, folioOrder(vm, pages.get(lastPgoff)));
    if (!truncatePartial(vm, mapping, lastPgoff, start, end)) behind = head;
  }
  for (let pgoff = pages.nextIndex(first); pgoff >= 0 && pgoff < behind; pgoff = pages.nextIndex(pgoff + 1)) {
    const order = folioOrder(vm, pages.get(pgoff));
    const head = folioStart(pgoff, order);
    // Only a folio that could not be split reaches out of the range.
    if (head < first || head + (1 << order) > behind) truncatePartial(vm, mapping, pgoff, start, end);
    else dropShmemPage(vm, inode, pgoff);
  }
}

/**
 * Clears the part of a folio that lies in [start, end), and splits it there.
 *
 * @returns false where it could not be split, and stays whole
 * @linux mm/truncate.c:truncate_inode_partial_folio
 */
function truncatePartial(vm: Vm, mapping: AddressSpace, pgoff: number, start: number, end: number): boolean {
  const { pages } = mapping;
  const pfn = pages.get(pgoff);
  const order = folioOrder(vm, pfn);
  const head = folioStart(pgoff, order);
  const pos = head * PAGE_SIZE;
  const size = PAGE_SIZE << order;
  const from = Math.max(start - pos, 0);
  const to = Math.min(end - pos, size);
  setPageDirty(vm, pfn);
  clearBytes(vm, mapping, head, from, to);
  if (order === 0) return true;
  if (!splitShmemFolioAt(vm, mapping, head + Math.floor(from / PAGE_SIZE))) return false;
  const last = head + Math.floor(to / PAGE_SIZE);
  if (to < size && pages.has(last)) splitShmemFolioAt(vm, mapping, last);
  return true;
}

/** Clears bytes [from, to) behind the start of page `head`. */
function clearBytes(vm: Vm, { pages }: AddressSpace, head: number, from: number, to: number): void {
  const { ram } = vm;
  for (let at = from; at < to; ) {
    const inPage = at % PAGE_SIZE;
    const run = Math.min(PAGE_SIZE - inPage, to - at);
    const pfn = pages.get(head + (at - inPage) / PAGE_SIZE);
    const host = ram.frameWord(pfn) * 4 + inPage;
    const window = kmapLocalPage(vm, pfn);
    ram.u8.fill(0, host, host + run);
    kunmapLocal(vm, window);
    at += run;
  }
}

/** Whether a page is one of shared memory that is part of a folio of several. */
export function isLargeShmem(vm: Vm, pfn: Pfn): boolean {
  return (vm.frames.flags[pfn] & PG_SWAPBACKED) !== 0 && folioOrder(vm, pfn) > 0;
}
