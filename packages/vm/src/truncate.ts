/**
 * Taking pages of a file on a device out of its cache, and out of every mapping.
 *
 * A folio that lies in the range only in part is split, and its part goes; a dirty one cannot be split, and stays whole:
 * then its part is cleared. Either way its pages are unmapped everywhere.
 *
 * @linux mm/truncate.c
 */
import { PAGE_SIZE } from '@pagelab/hw';
import type { AddressSpace } from './file.ts';
import { folioWaitWriteback } from './folio-writeback.ts';
import { folioStart, splitFolio } from './folio.ts';
import { kmapLocalPage, kunmapLocal } from './highmem.ts';
import { TAG_BUFFER_DIRTY, clearPageDirty, folioOrder, removeFromPageCache } from './page-cache.ts';
import { deleteShadow } from './page-cache-nodes.ts';
import type { Vm } from './vm.ts';
import { unmapMappingPages } from './zap.ts';

/**
 * After a file's length was set to `newSize`: pages beyond go, from every mapping and with the private copies made of
 * them, and the rest of the last page is cleared.
 *
 * @linux mm/truncate.c:truncate_pagecache
 */
export function truncatePagecache(vm: Vm, mapping: AddressSpace, newSize: number): void {
  unmapMappingPages(vm, mapping, Math.ceil(newSize / PAGE_SIZE), Infinity, 'all');
  truncateRange(vm, mapping, newSize, Infinity);
}

/**
 * Clears bytes [start, end) of a file's cache: whole pages go, from every mapping; private copies stay.
 *
 * @linux mm/truncate.c:truncate_pagecache_range
 */
export function truncatePagecacheRange(vm: Vm, mapping: AddressSpace, start: number, end: number): void {
  unmapHole(vm, mapping, start, end);
  truncateRange(vm, mapping, start, end);
}

/**
 * Unmaps the pages of a file that bytes [start, end) cover whole; private copies stay. Where the range ends inside the
 * file's first page, Linux unmaps all behind its start: the difference that is 0 then means no end.
 *
 * @linux mm/truncate.c:truncate_pagecache_range, mm/shmem.c:shmem_fallocate
 */
export function unmapHole(vm: Vm, mapping: AddressSpace, start: number, end: number): void {
  const first = Math.ceil(start / PAGE_SIZE);
  const last = end < PAGE_SIZE ? Infinity : Math.floor(end / PAGE_SIZE) - 1;
  if (last >= first) unmapMappingPages(vm, mapping, first, last, 'file');
}

/** @linux mm/truncate.c:truncate_inode_pages_range */
function truncateRange(vm: Vm, mapping: AddressSpace, start: number, end: number): void {
  const { pages } = mapping;
  if (end <= start) return;
  const { shadows } = mapping;
  if (shadows.size > 0) {
    const shadowEnd = end === Infinity ? Infinity : Math.floor(end / PAGE_SIZE);
    for (let at = shadows.nextIndex(Math.ceil(start / PAGE_SIZE)); at >= 0 && at < shadowEnd; at = shadows.nextIndex(at + 1)) deleteShadow(vm, mapping, at);
  }
  if (pages.size === 0) return;
  let first = Math.ceil(start / PAGE_SIZE);
  let behind = end === Infinity ? Infinity : Math.floor(end / PAGE_SIZE);
  // Folios that lie in it whole.
  for (let pgoff = pages.nextIndex(first); pgoff >= 0 && pgoff < behind; ) {
    const order = folioOrder(vm, pages.get(pgoff));
    const head = folioStart(pgoff, order);
    const next = head + (1 << order);
    if (head >= first && next <= behind) removeFolio(vm, mapping, head, order);
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
    if (!truncatePartial(vm, mapping, head, order, start, end)) {
      first = next;
      if (sameFolio) behind = head;
    }
  }
  if (!sameFolio && lastPgoff !== Infinity && pages.has(lastPgoff)) {
    const order = folioOrder(vm, pages.get(lastPgoff));
    const head = folioStart(lastPgoff, order);
    if (!truncatePartial(vm, mapping, head, order, start, end)) behind = head;
  }
  for (let pgoff = pages.nextIndex(first); pgoff >= 0 && pgoff < behind; pgoff = pages.nextIndex(pgoff)) {
    const order = folioOrder(vm, pages.get(pgoff));
    removeFolio(vm, mapping, folioStart(pgoff, order), order);
  }
}

/**
 * Clears the part of a folio that lies in [start, end).
 *
 * @returns false where the folio has to stay as it is: dirty, and larger than a page
 * @linux mm/truncate.c:truncate_inode_partial_folio
 */
function truncatePartial(
  vm: Vm,
  mapping: AddressSpace,
  head: number,
  order: number,
  start: number,
  end: number,
): boolean {
  const size = PAGE_SIZE << order;
  const pos = head * PAGE_SIZE;
  const from = Math.max(start - pos, 0);
  const to = Math.min(end - pos, size);
  if (from === 0 && to === size) {
    removeFolio(vm, mapping, head, order);
    return true;
  }
  folioWaitWriteback(vm, mapping, head, head + (1 << order) - 1);
  clearFolioBytes(vm, mapping, head, from, to);
  const { pages } = mapping;
  for (let at = Math.ceil(from / PAGE_SIZE); at < Math.floor(to / PAGE_SIZE); at++) pages.clearMark(head + at, TAG_BUFFER_DIRTY);
  if (order === 0) return true;
  const behind = head + (1 << order);
  const dirty = pages.findMarked(head, TAG_BUFFER_DIRTY);
  if (dirty >= 0 && dirty < behind) {
    unmapMappingPages(vm, mapping, head, behind - 1, 'file');
    return false;
  }
  // What made it dirty is gone.
  for (let pgoff = head; pgoff < behind; pgoff++) clearPageDirty(vm, mapping, pgoff, pages.get(pgoff));
  splitFolio(vm, mapping, head, order, head + Math.floor(from / PAGE_SIZE));
  if (to < size) {
    const at = head + Math.floor(to / PAGE_SIZE);
    const rest = folioOrder(vm, mapping.pages.get(at));
    if (rest > 0) splitFolio(vm, mapping, folioStart(at, rest), rest, at);
  }
  return true;
}

/** Sets bytes [from, to) of the folio that begins at page `head` to zero. */
function clearFolioBytes(vm: Vm, mapping: AddressSpace, head: number, from: number, to: number): void {
  const { ram } = vm;
  for (let at = from; at < to; ) {
    const inPage = at % PAGE_SIZE;
    const run = Math.min(PAGE_SIZE - inPage, to - at);
    const pfn = mapping.pages.get(head + (at - inPage) / PAGE_SIZE);
    if (pfn >= 0) {
      const host = ram.frameWord(pfn) * 4 + inPage;
      const window = kmapLocalPage(vm, pfn);
      ram.u8.fill(0, host, host + run);
      kunmapLocal(vm, window);
    }
    at += run;
  }
}

/** Takes a folio out of the cache, unmapping what still shows it. @linux mm/truncate.c:truncate_inode_folio */
function removeFolio(vm: Vm, mapping: AddressSpace, head: number, order: number): void {
  const { pages } = mapping;
  folioWaitWriteback(vm, mapping, head, head + (1 << order) - 1);
  for (let pgoff = head; pgoff < head + (1 << order); pgoff++) {
    const pfn = pages.get(pgoff);
    if (pfn < 0) continue;
    if (vm.frames.mapcount[pfn] > 0) unmapMappingPages(vm, mapping, pgoff, pgoff, 'file');
    removeFromPageCache(vm, mapping, pgoff);
  }
}
