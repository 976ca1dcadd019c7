/**
 * Making one folio as large as a huge page of what a file of shared memory has in a block, and what it has not: that is
 * filled with zeros. The folio is the file's, so that every mapping of it may show it by one entry.
 *
 * @linux mm/khugepaged.c
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_DIRTY, PTE_PS } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { GFP_TRANSHUGE, GFP_TRANSHUGE_LIGHT, PG_DIRTY, PG_LRU, PG_SWAPBACKED, PG_UPTODATE, VM_EVENT, __GFP_COMP } from '@pagelab/mm-core';
import type { AddressSpace } from './file.ts';
import { coversFileBlock, mapFilePmd } from './file-pmd.ts';
import { detachTable } from './free-pgtables.ts';
import { clearHighpage, copyUserPage } from './highmem.ts';
import type { Khugepaged } from './khugepaged.ts';
import { chargeForMm } from './memcg-charge.ts';
import { folioOrder, insertIntoPageCache, replaceCachedPage, setFolioOrder, setPageDirty } from './page-cache.ts';
import { clearEntry, entryHi } from './pgtable-shape.ts';
import { allocPmd, findPmd, tableBelow } from './pgtable.ts';
import { PTE_MAPS, PTE_SPECIAL, pfnOf } from './pte.ts';
import { linearPageIndex, mmCounter, removeRmap } from './rmap.ts';
import { shmemGetPage } from './shmem.ts';
import { dropShmemPage } from './shmem-folio.ts';
import { shmemAcctBlock, shmemUnacctBlock } from './shmem-super.ts';
import { lruAddDrain } from './swap.ts';
import type { Vm } from './vm.ts';
import { VM_UFFD_MISSING, VM_UFFD_WP } from './vma.ts';
import type { VmArea } from './vma.ts';
import { unmapMappingPages } from './zap.ts';

/**
 * Makes a folio of a block, and has it shown by one entry where that was asked for.
 *
 * @param khugepaged what has to hold of the block; `null` where it was asked for
 * @returns 1 where it was done, or had been; −ENOMEM without a free block; −EBUSY where the group may have no more, or too
 *   much is missing; −EAGAIN for pages that something else refers to; −EINVAL where there is nothing, or no room in the file
 *   system
 * @linux mm/khugepaged.c:hpage_collapse_scan_file
 */
export function collapseFileBlock(vma: VmArea, block: VirtAddr, khugepaged: Khugepaged | null): number {
  const { vm } = vma.mm;
  const { flags, mapcount, refcount } = vm.frames;
  const { hugeOrder, ptrsPerPte } = vm.tables;
  const { events } = vm.pages;
  const { mapping } = vma.file!.inode;
  const { pages, swaps } = mapping;
  const first = linearPageIndex(vma, block);
  const behind = first + ptrsPerPte;
  let present = 0;
  for (let at = pages.nextIndex(first); at >= 0 && at < behind; at = pages.nextIndex(at + 1)) {
    const pfn = pages.get(at);
    if (folioOrder(vm, pfn) === hugeOrder) return showFolio(vma, block, khugepaged === null);
    if ((flags[pfn] & PG_LRU) === 0 || refcount[pfn] !== mapcount[pfn] + 1) return -Errno.EAGAIN;
    present++;
  }
  if (khugepaged !== null) {
    let swapped = 0;
    if (swaps.size > 0) swaps.forEachIn(first, behind - 1, () => swapped++);
    if (swapped > khugepaged.maxPtesSwap) {
      events[VM_EVENT.THP_SCAN_EXCEED_SWAP_PTE]++;
      return -Errno.EINVAL;
    }
    if (present < ptrsPerPte - khugepaged.maxPtesNone) {
      events[VM_EVENT.THP_SCAN_EXCEED_NONE_PTE]++;
      return -Errno.EBUSY;
    }
  }
  const error = collapseFile(vma, mapping, first, khugepaged === null || khugepaged.defrag);
  if (error !== 0) return error;
  return khugepaged === null ? showFolio(vma, block, true) : 1;
}

/** @returns 0 or −errno @linux mm/khugepaged.c:collapse_file */
function collapseFile(vma: VmArea, mapping: AddressSpace, first: number, defrag: boolean): number {
  const { vm } = vma.mm;
  const { hugeOrder, ptrsPerPte } = vm.tables;
  const { events } = vm.pages;
  const gfp = defrag ? GFP_TRANSHUGE : GFP_TRANSHUGE_LIGHT;
  const huge = vm.pages.allocPages(gfp & ~__GFP_COMP, hugeOrder);
  if (huge < 0) {
    events[VM_EVENT.THP_COLLAPSE_ALLOC_FAILED]++;
    return -Errno.ENOMEM;
  }
  events[VM_EVENT.THP_COLLAPSE_ALLOC]++;
  if (!chargeForMm(vma.mm, huge, ptrsPerPte, gfp)) {
    vm.pages.freePages(huge, hugeOrder);
    return -Errno.EBUSY;
  }
  vm.pages.splitPage(huge, hugeOrder);
  const error = fillFolio(vm, mapping, first, huge);
  if (error !== 0) {
    for (let i = 0; i < ptrsPerPte; i++) vm.pages.freePage(huge + i);
    return error;
  }
  retractPageTables(vm, mapping, first);
  return 0;
}

/** Moves what a block holds into the frames from `huge` on, which are the file's then. @returns 0, or −errno with nothing moved */
function fillFolio(vm: Vm, mapping: AddressSpace, first: number, huge: Pfn): number {
  const { frames, tables } = vm;
  const { hugeOrder, ptrsPerPte } = tables;
  const { pages, swaps } = mapping;
  const behind = first + ptrsPerPte;
  const error = bringIn(vm, mapping, first);
  if (error !== 0) return error;
  const missing: number[] = [];
  for (let at = first; at < behind; at++) if (!pages.has(at)) missing.push(at);
  // Getting the block may have come to reclaim all there was.
  if (missing.length === ptrsPerPte) return -Errno.EINVAL;
  if (missing.length > 0 && isServed(mapping, first)) return -Errno.EBUSY;
  unmapMappingPages(vm, mapping, first, behind - 1, 'file');
  for (let at = first; at < behind; at++) {
    const pfn = pages.get(at);
    if (pfn >= 0 && (frames.refcount[pfn] !== 1 || (frames.flags[pfn] & PG_LRU) === 0)) return -Errno.EAGAIN;
    if (swaps.size > 0 && swaps.has(at)) return -Errno.EAGAIN;
  }
  for (let i = 0; i < ptrsPerPte; i++) frames.flags[huge + i] |= PG_SWAPBACKED | PG_UPTODATE | PG_DIRTY;
  // Making room for the others may come to reclaim: these stay.
  const present: Pfn[] = [];
  for (let at = first; at < behind; at++) if (pages.has(at)) present.push(pages.get(at));
  for (const pfn of present) frames.refcount[pfn]++;
  const filled = fillGaps(vm, mapping, first, huge, missing);
  for (const pfn of present) frames.refcount[pfn]--;
  if (!filled) {
    for (let i = 0; i < ptrsPerPte; i++) frames.flags[huge + i] &= ~(PG_SWAPBACKED | PG_UPTODATE | PG_DIRTY);
    return -Errno.EINVAL;
  }
  for (let i = 0; i < ptrsPerPte; i++) {
    const old = pages.get(first + i);
    if (old === huge + i) {
      // The allocation's reference: the cache has its own.
      vm.pages.freePage(huge + i);
    } else {
      copyUserPage(vm, huge + i, old);
      vm.clock.advance(vm.costs.copyPage);
      replaceCachedPage(vm, mapping, first + i, huge + i);
    }
    setFolioOrder(vm, huge + i, hugeOrder);
  }
  return 0;
}

/** Gives a file pages of zeros where it has none. @returns false, with nothing changed, where there is no room for one */
function fillGaps(vm: Vm, mapping: AddressSpace, first: number, huge: Pfn, missing: readonly number[]): boolean {
  const { inode } = mapping;
  for (const [done, at] of missing.entries()) {
    const pfn = huge + at - first;
    clearHighpage(vm, pfn);
    if (shmemAcctBlock(vm, inode) === 0) {
      if (insertIntoPageCache(vm, mapping, at, pfn) === 0) continue;
      shmemUnacctBlock(vm, inode);
    }
    for (let undone = 0; undone < done; undone++) dropShmemPage(vm, inode, missing[undone]);
    return false;
  }
  return true;
}

/** Brings in what is swapped out, and clears what was only set aside. @returns 0 or −EINVAL */
function bringIn(vm: Vm, mapping: AddressSpace, first: number): number {
  const { pages, swaps } = mapping;
  const { flags } = vm.frames;
  let came = false;
  for (let at = first; at < first + vm.tables.ptrsPerPte; at++) {
    const pfn = pages.get(at);
    if (pfn >= 0 ? (flags[pfn] & PG_UPTODATE) !== 0 : !swaps.has(at)) continue;
    const page = shmemGetPage(vm, mapping, at);
    if (page < 0) return -Errno.EINVAL;
    vm.pages.freePage(page);
    came = true;
  }
  if (came) lruAddDrain(vm);
  return 0;
}

/** Whether a program serves pages of the block that are missing. */
function isServed(mapping: AddressSpace, first: number): boolean {
  let served = false;
  mapping.mmap.forEachOverlap(first, first, (vma) => {
    if ((vma.flags & VM_UFFD_MISSING) !== 0) served = true;
  });
  return served;
}

/** Frees the tables that the block's mappings have, which are empty, so that one entry can take their place. @linux mm/khugepaged.c:retract_page_tables */
function retractPageTables(vm: Vm, mapping: AddressSpace, first: number): void {
  const { pmdSize, ptrsPerPte } = vm.tables;
  mapping.mmap.forEachOverlap(first, first + ptrsPerPte - 1, (vma) => {
    if (vma.anonVma !== null || (vma.flags & VM_UFFD_WP) !== 0) return;
    const addr = vma.start + (first - vma.pgoff) * PAGE_SIZE;
    if (addr < vma.start || addr % pmdSize !== 0 || addr + pmdSize > vma.end) return;
    const pmdEntry = findPmd(vma.mm, addr);
    if (pmdEntry < 0 || !isEmptyTable(vm, pmdEntry)) return;
    vm.gather.begin(vma.mm);
    detachTable(vm.gather, vma.mm, pmdEntry, addr);
    vm.gather.finish();
  });
}

/** Whether an entry leads to a table of the last level without entries. */
function isEmptyTable(vm: Vm, pmdEntry: number): boolean {
  const { i32 } = vm.ram;
  const { entryWords, ptrsPerPte } = vm.tables;
  if (i32[pmdEntry] === 0 || (i32[pmdEntry] & PTE_PS) !== 0) return false;
  const table = tableBelow(vm, pmdEntry);
  for (let word = table; word < table + ptrsPerPte * entryWords; word++) if (i32[word] !== 0) return false;
  return true;
}

/**
 * Has a mapping show a block, whose folio is as large, by one entry: what small ones show goes, and so does their table.
 *
 * @param install whether the entry is made now, or by whoever touches the block next
 * @returns 1; −EINVAL where the mapping shows something else than the folio
 * @linux mm/khugepaged.c:collapse_pte_mapped_thp
 */
function showFolio(vma: VmArea, block: VirtAddr, install: boolean): number {
  const { mm } = vma;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { entryWords: step, ptrsPerPte } = vm.tables;
  const { mapping } = vma.file!.inode;
  const head = mapping.pages.get(linearPageIndex(vma, block));
  let pmdEntry = findPmd(mm, block);
  if (pmdEntry >= 0 && (i32[pmdEntry] & PTE_PS) !== 0) return 1;
  if (!coversFileBlock(vma, block) || (vma.flags & VM_UFFD_WP) !== 0 || head < 0) return -Errno.EINVAL;
  if (pmdEntry >= 0 && i32[pmdEntry] !== 0) {
    const table = tableBelow(vm, pmdEntry);
    for (let i = 0; i < ptrsPerPte; i++) {
      const entry = table + i * step;
      const lo = i32[entry];
      const hi = entryHi(i32, entry, step);
      if ((lo | hi) === 0) continue;
      if ((lo & PTE_MAPS) === 0 || (lo & PTE_SPECIAL) !== 0 || pfnOf(lo, hi) !== head + i) return -Errno.EINVAL;
    }
    dropTable(vma, block, pmdEntry, table);
  }
  if (!install) return 1;
  pmdEntry = allocPmd(mm, block);
  return pmdEntry >= 0 && mapFilePmd(vma, block, pmdEntry, head, 0) ? 1 : -Errno.EINVAL;
}

/** Takes a table away whose entries show pages of a file. */
function dropTable(vma: VmArea, block: VirtAddr, pmdEntry: number, table: number): void {
  const { mm } = vma;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { entryWords: step, ptrsPerPte } = vm.tables;
  const { gather } = vm;
  gather.begin(mm);
  for (let entry = table; entry < table + ptrsPerPte * step; entry += step) {
    const lo = i32[entry];
    if ((lo & PTE_MAPS) === 0) continue;
    const pfn = pfnOf(lo, entryHi(i32, entry, step));
    if ((lo & PTE_DIRTY) !== 0) setPageDirty(vm, pfn);
    clearEntry(i32, entry, step);
    mm.rss[mmCounter(vm.frames.flags[pfn])]--;
    removeRmap(vm, pfn, vma);
    gather.addPage(pfn);
  }
  gather.noteRange(block, block + ptrsPerPte * PAGE_SIZE);
  detachTable(gather, mm, pmdEntry, block);
  gather.finish();
}
