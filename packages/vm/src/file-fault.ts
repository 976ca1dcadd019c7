/**
 * The first touch of a page of a file or of shared memory: read, copied for a private mapping, or stored to.
 *
 * @linux mm/memory.c:do_fault
 */
import { Errno, PAGE_SHIFT, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_DIRTY, PTE_RW, pteHi, pteLo } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { GFP_HIGHUSER_MOVABLE, PG_DIRTY, PG_LOCKED, PG_UPTODATE } from '@pagelab/mm-core';
import { allocUserPage, setAnonEntry } from './anon-fault.ts';
import { anonVmaPrepare } from './anon-vma.ts';
import {
  FAULT_FLAG_ALLOW_RETRY,
  FAULT_FLAG_WRITE,
  VM_FAULT_HWPOISON,
  VM_FAULT_NOPAGE,
  VM_FAULT_OOM,
  VM_FAULT_SIGBUS,
} from './fault-flags.ts';
import type { AddressSpace } from './file.ts';
import { mapFilePmd } from './file-pmd.ts';
import { copyUserPage } from './highmem.ts';
import { MM_ANONPAGES } from './mm-struct.ts';
import { PG_READAHEAD, folioOrder, setPageDirty } from './page-cache.ts';
import { balanceDirtyPages } from './page-writeback.ts';
import { entryHi, pteIndexOf, setEntry } from './pgtable-shape.ts';
import { allocPteBelow } from './pgtable.ts';
import { pageProtHi, vmaProtLo } from './pte.ts';
import { addFileRmap, addNewAnonRmap, linearPageIndex, mmCounter } from './rmap.ts';
import { folioAddLru } from './swap.ts';
import { VM_UFFD_WP, VM_WRITE } from './vma.ts';
import type { VmArea } from './vma.ts';

/**
 * Pages of a file that one read fault maps at most, if they are cached already.
 *
 * @linux mm/memory.c:fault_around_pages
 */
export const FAULT_AROUND_PAGES = 16;

/** @linux include/linux/userfaultfd_k.h:uffd_disable_fault_around */
function uffdDisablesFaultAround(vma: VmArea): boolean {
  return vma.uffd !== null && ((vma.flags & VM_UFFD_WP) !== 0 || vma.uffdMinor);
}

/** A read of a page of a file: maps it and what is cached around it. @linux mm/memory.c:do_read_fault */
export function serveFileRead(vma: VmArea, address: VirtAddr, flags: number, pmdEntry: number): number {
  // Mappings with operations of their own, those of System V segments, have none for it; nor is it wanted where it would hide faults.
  const mapsAround = !uffdDisablesFaultAround(vma) && vma.file!.vmOps === null;
  const around = mapsAround ? faultAround(vma, address, pmdEntry) : 0;
  if (around !== 0) return around;
  const pfn = fetchPage(vma, address);
  if (pfn < 0) return faultOf(pfn);
  if (mapsAround && vma.mm.vm.faultWaited && (flags & FAULT_FLAG_ALLOW_RETRY) !== 0) {
    // By now the page's neighbours are cached, too.
    const again = faultAround(vma, address, pmdEntry);
    if (again !== 0) {
      vma.mm.vm.pages.freePage(pfn);
      return again;
    }
  }
  return finishFault(vma, address, pmdEntry, pfn, 0);
}

/**
 * Maps the pages of the file that are cached in the aligned group of 16 around `address`, as far as the mapping, the
 * page table and the file reach.
 *
 * @returns VM_FAULT_NOPAGE where that served the address; 0 where it did not; VM_FAULT_OOM
 * @linux mm/memory.c:do_fault_around, mm/filemap.c:filemap_map_pages
 */
function faultAround(vma: VmArea, address: VirtAddr, pmdEntry: number): number {
  const { mm } = vma;
  const { vm } = mm;
  const { mapping, size } = vma.file!.inode;
  const { flags, refcount } = vm.frames;
  const { entryWords: step, ptrsPerPte } = vm.tables;
  const pteSlot = pteIndexOf(vm.tables, address);
  const vmaOffset = (address - vma.start) / PAGE_SIZE;
  const pgoff = vma.pgoff + vmaOffset;
  const fromPte = Math.max(pteSlot - (pteSlot % FAULT_AROUND_PAGES), pteSlot - Math.min(pteSlot, vmaOffset));
  const pagesLeft = (vma.end - address) / PAGE_SIZE;
  const toPte = Math.min(fromPte + FAULT_AROUND_PAGES, ptrsPerPte, pteSlot + pagesLeft) - 1;
  const lastPgoff = Math.min(pgoff + toPte - pteSlot, Math.ceil(size / PAGE_SIZE) - 1);
  let served = 0;
  let table = -1;
  for (let at = mapping.pages.nextIndex(pgoff + fromPte - pteSlot); at >= 0 && at <= lastPgoff; ) {
    const pfn = mapping.pages.get(at);
    const order = folioOrder(vm, pfn);
    const head = at - (at % (1 << order));
    let first = at;
    let last = Math.min(head + (1 << order) - 1, lastPgoff);
    at = mapping.pages.nextIndex(head + (1 << order));
    if ((flags[pfn] & (PG_UPTODATE | PG_LOCKED | PG_READAHEAD)) !== PG_UPTODATE) continue;
    const isLast = isLastFolio(mapping, head, order);
    if (table < 0) {
      if (!isLast && vm.ram.i32[pmdEntry] === 0 && order === vm.tables.hugeOrder) {
        if (mapFilePmd(vma, address, pmdEntry, mapping.pages.get(pgoff), 0)) return VM_FAULT_NOPAGE;
      }
      // Linux 6.18 gives up where it has no page table yet and the first folio that it finds is the file's last.
      if (isLast && vm.ram.i32[pmdEntry] === 0) return 0;
      const entry = allocPteBelow(mm, pmdEntry, address);
      if (entry < 0) return VM_FAULT_OOM;
      table = entry - pteSlot * step;
      // Making the table may have come to reclaim the folio.
      if (mapping.pages.get(first) !== pfn) continue;
    }
    if (order > 0 && !isLast && folioFits(vma, head, order, pteSlot + head - pgoff)) {
      first = head;
      last = head + (1 << order) - 1;
    }
    for (let page = first; page <= last; page++) {
      const entry = table + (pteSlot + page - pgoff) * step;
      const { i32 } = vm.ram;
      if ((i32[entry] | entryHi(i32, entry, step)) !== 0) continue;
      const cached = mapping.pages.get(page);
      if (vm.hwpoison.has(cached)) continue;
      refcount[cached]++;
      setFileEntry(vma, entry, cached, 0);
      if (page === pgoff) served = VM_FAULT_NOPAGE;
    }
  }
  return served;
}

/**
 * Whether all of a folio, whose first page belongs to entry `headPte` of a table, lies in the mapping and in the table.
 *
 * @linux mm/internal.h:folio_within_vma
 */
function folioFits(vma: VmArea, head: number, order: number, headPte: number): boolean {
  const behind = head + (1 << order);
  if (head < vma.pgoff || behind > vma.pgoff + (vma.end - vma.start) / PAGE_SIZE) return false;
  return headPte >= 0 && headPte + (1 << order) <= vma.mm.vm.tables.ptrsPerPte;
}

/** Whether a folio reaches to the end of a file on a device. */
function isLastFolio({ inode, ops }: AddressSpace, head: number, order: number): boolean {
  return !ops.swapBacked && Math.ceil(inode.size / PAGE_SIZE) - 1 < head + (1 << order);
}

/**
 * A write to a page of a file in a private mapping that is not there yet: maps a copy.
 *
 * @linux mm/memory.c:do_cow_fault
 */
export function serveFileCow(vma: VmArea, address: VirtAddr, pmdEntry: number): number {
  const { mm } = vma;
  const { vm } = mm;
  if (vma.anonVma === null && anonVmaPrepare(vma) !== 0) return VM_FAULT_OOM;
  const copy = allocUserPage(vma, address, GFP_HIGHUSER_MOVABLE);
  if (copy < 0) return VM_FAULT_OOM;
  const pfn = fetchPage(vma, address);
  if (pfn < 0) {
    vm.pages.freePage(copy);
    return faultOf(pfn);
  }
  copyUserPage(vm, copy, pfn);
  vm.clock.advance(vm.costs.copyPage);
  vm.pages.freePage(pfn);
  const entry = allocPteBelow(mm, pmdEntry, address);
  if (entry < 0) {
    vm.pages.freePage(copy);
    return VM_FAULT_OOM;
  }
  addNewAnonRmap(vm, copy, vma, address);
  folioAddLru(vm, copy);
  mm.rss[MM_ANONPAGES]++;
  setAnonEntry(vm, entry, copy, vma.flags);
  return 0;
}

/** A write to a page of a file in a shared mapping that is not there yet. @linux mm/memory.c:do_shared_fault */
export function serveFileShared(vma: VmArea, address: VirtAddr, pmdEntry: number): number {
  const { vm } = vma.mm;
  const pfn = fetchPage(vma, address);
  if (pfn < 0) return faultOf(pfn);
  const error = announceStore(vma, address);
  if (error !== 0) {
    vm.pages.freePage(pfn);
    return faultOf(error);
  }
  const fault = finishFault(vma, address, pmdEntry, pfn, FAULT_FLAG_WRITE);
  if (fault === 0) {
    setPageDirty(vm, pfn);
    if (vma.file!.inode.mapping.ops.writeNotify) balanceDirtyPages(vm);
  }
  return fault;
}

/**
 * Tells the file system that its page at `address`, which is cached, will be stored to.
 *
 * @returns 0 or −errno
 * @linux mm/memory.c:do_page_mkwrite
 */
export function announceStore(vma: VmArea, address: VirtAddr): number {
  const { mapping } = vma.file!.inode;
  return mapping.ops.writeNotify ? mapping.ops.pageMkwrite(mapping, linearPageIndex(vma, address)) : 0;
}

/**
 * Maps a page of a file, whose reference passes, and with it its whole folio where mapping, page table and file reach
 * that far and none of it is mapped there yet.
 *
 * @linux mm/memory.c:finish_fault
 */
function finishFault(vma: VmArea, address: VirtAddr, pmdEntry: number, pfn: Pfn, flags: number): number {
  const { vm } = vma.mm;
  // Who serves faults is told of each page.
  const order = vma.uffd === null ? folioOrder(vm, pfn) : 0;
  if (order > 0 && vm.ram.i32[pmdEntry] === 0 && !endsInFolio(vma, address, order) && mapFilePmd(vma, address, pmdEntry, pfn, flags)) {
    vm.pages.freePage(pfn);
    return 0;
  }
  const entry = allocPteBelow(vma.mm, pmdEntry, address);
  if (entry < 0) {
    vm.pages.freePage(pfn);
    return VM_FAULT_OOM;
  }
  if (order === 0 || !mapFolio(vma, address, entry, order, flags)) setFileEntry(vma, entry, pfn, flags);
  else vm.pages.freePage(pfn);
  return 0;
}

/** Whether the file ends before its folio at `address` does: then only pages of the file are mapped. Shared memory is mapped beyond. */
function endsInFolio(vma: VmArea, address: VirtAddr, order: number): boolean {
  const { mapping, size } = vma.file!.inode;
  const pgoff = linearPageIndex(vma, address);
  const nrPages = 1 << order;
  return !mapping.ops.swapBacked && Math.ceil(size / PAGE_SIZE) < pgoff - (pgoff % nrPages) + nrPages;
}

/** Maps the folio whose page at `address` belongs to `entry`; false, with nothing done, where that cannot be. */
function mapFolio(vma: VmArea, address: VirtAddr, entry: number, order: number, flags: number): boolean {
  const { vm } = vma.mm;
  const { i32 } = vm.ram;
  const step = vm.tables.entryWords;
  const { mapping } = vma.file!.inode;
  const nrPages = 1 << order;
  const pgoff = linearPageIndex(vma, address);
  const within = pgoff % nrPages;
  const head = pgoff - within;
  if (endsInFolio(vma, address, order)) return false;
  if (!folioFits(vma, head, order, pteIndexOf(vm.tables, address) - within)) return false;
  const firstEntry = entry - within * step;
  for (let i = 0; i < nrPages * step; i++) if (i32[firstEntry + i] !== 0) return false;
  for (let i = 0; i < nrPages; i++) {
    const pfn = mapping.pages.get(head + i);
    vm.frames.refcount[pfn]++;
    setFileEntry(vma, firstEntry + i * step, pfn, flags);
  }
  return true;
}

/** The file's page at `address`, with a reference; −errno. @linux mm/memory.c:__do_fault */
function fetchPage(vma: VmArea, address: VirtAddr): number {
  const { vm } = vma.mm;
  const { mapping } = vma.file!.inode;
  const pfn = mapping.ops.getPage(mapping, linearPageIndex(vma, address), vma);
  if (pfn < 0 || !vm.hwpoison.has(pfn)) return pfn;
  vm.pages.putPage(pfn);
  vm.poisonShift = PAGE_SHIFT;
  return -Errno.EHWPOISON;
}

/** @linux include/linux/mm.h:vmf_error */
export function faultOf(error: number): number {
  if (error === -Errno.EHWPOISON) return VM_FAULT_HWPOISON;
  return error === -Errno.ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
}

/** Writes the entry of a page of a file, whose reference passes to it. @linux mm/memory.c:set_pte_range */
function setFileEntry(vma: VmArea, entry: number, pfn: Pfn, flags: number): void {
  const { mm } = vma;
  const { vm } = mm;
  const { entryWords, softDirtyHi } = vm.tables;
  const pageFlags = vm.frames.flags[pfn];
  let lo = pteLo(pfn, vmaProtLo(vma));
  let hi = pteHi(pfn, pageProtHi(vma.flags));
  if ((flags & FAULT_FLAG_WRITE) !== 0) {
    lo |= (vma.flags & VM_WRITE) !== 0 ? PTE_RW | PTE_DIRTY : PTE_DIRTY;
    hi |= softDirtyHi;
  } else if ((lo & PTE_RW) !== 0 && (pageFlags & PG_DIRTY) !== 0) {
    lo |= PTE_DIRTY;
    hi |= softDirtyHi;
  }
  setEntry(vm.ram.i32, entry, entryWords, lo, hi);
  addFileRmap(vm, pfn, vma);
  mm.rss[mmCounter(pageFlags)]++;
}
