/**
 * Folios of shared memory: made of several pages where that is allowed, split when a part of them goes.
 *
 * @linux mm/shmem.c
 */
import { PAGE_SIZE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { PG_SWAPBACKED, VM_EVENT } from '@pagelab/mm-core';
import type { AddressSpace, Inode } from './file.ts';
import { unmapFilePmds } from './file-pmd.ts';
import { dissolveFolio, folioStart, splitFolio } from './folio.ts';
import { kmapLocalPage, kunmapLocal } from './highmem.ts';
import { folioOrder, removeFromPageCache, setPageDirty } from './page-cache.ts';
import { shmemUnacctBlock } from './shmem-super.ts';
import type { Vm } from './vm.ts';
import { unmapMappingPages } from './zap.ts';

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
