/**
 * Folios of files that one third-level entry shows: as many pages as a table below it does, all of them in the mapping.
 *
 * No table is set aside below such an entry. Where a part of what it shows changes, the entry goes as a whole, and who
 * touches the rest next finds it in the file.
 *
 *     mm.filePmds             === third-level entries of mm that show a folio of a file
 *     vm.pmdMapped.get(head)  === such entries that show the folio whose first frame is head
 *     NR_SHMEM_PMDMAPPED, NR_FILE_PMDMAPPED === pages of folios that some such entry shows
 *
 * Each entry is one mapping, and one reference, of each of the pages.
 *
 * @linux mm/memory.c, mm/huge_memory.c
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE, PTE_ACCESSED, PTE_DIRTY, PTE_HI_FRAME_MASK, PTE_LO_FRAME_MASK, PTE_PS, PTE_RW, pteHi, pteLo } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { NODE_STAT, PG_REFERENCED, PG_SWAPBACKED, VM_EVENT } from '@pagelab/mm-core';
import { FAULT_FLAG_WRITE } from './fault-flags.ts';
import { coversBlock, hugeStart, thpDisabled } from './huge-memory.ts';
import type { MmStruct } from './mm-struct.ts';
import type { MmuGather } from './mmu-gather.ts';
import { folioOrder, markPageAccessed, setPageDirty } from './page-cache.ts';
import { clearEntry, entryHi, setEntry } from './pgtable-shape.ts';
import { findPmd } from './pgtable.ts';
import { pageProtHi, pfnOf, vmaProtLo } from './pte.ts';
import { addFileRmap, linearPageIndex, mmCounter, pageMappings, removeRmap } from './rmap.ts';
import type { Vm } from './vm.ts';
import { VM_RAND_READ, VM_SEQ_READ, VM_WRITE } from './vma.ts';
import type { VmArea } from './vma.ts';
import { updateHiwaterRss } from './zap.ts';

/** Whether the blocks of a mapping are blocks of its file, too, and the one around `addr` lies in it. @linux include/linux/huge_mm.h:thp_vma_suitable_order */
export function coversFileBlock(vma: VmArea, addr: VirtAddr): boolean {
  return (vma.start / PAGE_SIZE - vma.pgoff) % vma.mm.vm.tables.ptrsPerPte === 0 && coversBlock(vma, addr);
}

/**
 * Shows all of a file's folio by the third-level entry of its block, which is empty, where folio and mapping suit.
 *
 * @param pfn a cached page of the file, which `address` shows
 * @param flags FAULT_FLAG_WRITE: it is stored to
 * @returns whether that could be; no reference passes
 * @linux mm/memory.c:do_set_pmd
 */
export function mapFilePmd(vma: VmArea, address: VirtAddr, pmdEntry: number, pfn: Pfn, flags: number): boolean {
  const { mm } = vma;
  const { vm } = mm;
  const { frames, pages } = vm;
  const { entryWords, hugeOrder, ptrsPerPte, softDirtyHi } = vm.tables;
  if (folioOrder(vm, pfn) !== hugeOrder || thpDisabled(vma, false) || !coversFileBlock(vma, address)) return false;
  const head = pfn - (linearPageIndex(vma, address) % ptrsPerPte);
  if (!isContiguous(vm, vma.file!.inode.mapping.id, head, linearPageIndex(vma, hugeStart(vm.tables, address)))) return false;
  let lo = pteLo(head, vmaProtLo(vma) | PTE_PS);
  let hi = pteHi(head, pageProtHi(vma.flags));
  if ((flags & FAULT_FLAG_WRITE) !== 0) {
    lo |= (vma.flags & VM_WRITE) !== 0 ? PTE_RW | PTE_DIRTY : PTE_DIRTY;
    hi |= softDirtyHi;
  }
  for (let page = head; page < head + ptrsPerPte; page++) {
    frames.refcount[page]++;
    addFileRmap(vm, page, vma);
  }
  const known = vm.pmdMapped.get(head) ?? 0;
  if (known === 0) pages.modNodeState(head, mappedItem(vm, head), ptrsPerPte);
  vm.pmdMapped.set(head, known + 1);
  mm.filePmds++;
  mm.rss[mmCounter(frames.flags[head])] += ptrsPerPte;
  setEntry(vm.ram.i32, pmdEntry, entryWords, lo, hi);
  pages.events[VM_EVENT.THP_FILE_MAPPED]++;
  return true;
}

/** Whether the frames of a file's folio lie side by side: of one that was moved page by page they do not. */
function isContiguous({ frames, tables }: Vm, mappingId: number, head: Pfn, first: number): boolean {
  const { index, mapping, private: orders } = frames;
  if (head % tables.ptrsPerPte !== 0) return false;
  for (let i = 0; i < tables.ptrsPerPte; i++) {
    if (mapping[head + i] !== mappingId || index[head + i] !== first + i || orders[head + i] !== tables.hugeOrder) return false;
  }
  return true;
}

function mappedItem({ frames }: Vm, head: Pfn): number {
  return (frames.flags[head] & PG_SWAPBACKED) !== 0 ? NODE_STAT.NR_SHMEM_PMDMAPPED : NODE_STAT.NR_FILE_PMDMAPPED;
}

/** Counts a third-level mapping less, which was cleared. Its references go: the file's cache keeps the pages. */
function dropMapping(vma: VmArea, head: Pfn): void {
  const { mm } = vma;
  const { vm } = mm;
  const { flags, refcount } = vm.frames;
  const { ptrsPerPte } = vm.tables;
  updateHiwaterRss(mm);
  mm.rss[mmCounter(flags[head])] -= ptrsPerPte;
  mm.filePmds--;
  const left = vm.pmdMapped.get(head)! - 1;
  if (left > 0) {
    vm.pmdMapped.set(head, left);
  } else {
    vm.pmdMapped.delete(head);
    vm.pages.modNodeState(head, mappedItem(vm, head), -ptrsPerPte);
  }
  for (let page = head; page < head + ptrsPerPte; page++) {
    removeRmap(vm, page, vma);
    refcount[page]--;
    bugOn(refcount[page] === 0, 'file pmd: a page that is in no cache was mapped');
  }
}

/** Takes the third-level entry of a file's folio away, for the gatherer to flush. @linux mm/huge_memory.c:zap_huge_pmd */
export function zapFilePmd(gather: MmuGather, vma: VmArea, start: VirtAddr, pmdEntry: number): void {
  const { vm } = vma.mm;
  const { i32 } = vm.ram;
  const { entryWords, pmdSize } = vm.tables;
  const lo = i32[pmdEntry];
  const head = pfnOf(lo, entryHi(i32, pmdEntry, entryWords));
  clearEntry(i32, pmdEntry, entryWords);
  gather.noteRange(start, start + pmdSize);
  if ((lo & PTE_DIRTY) !== 0) setPageDirty(vm, head);
  dropMapping(vma, head);
  if ((lo & PTE_ACCESSED) === 0 || (vma.flags & (VM_SEQ_READ | VM_RAND_READ)) !== 0) return;
  markPageAccessed(vm, vma.file!.inode.mapping, vm.frames.index[head]);
}

/** Has every third-level entry that shows a folio of a file show another block of frames. Flushing is the caller's: `Smp.flushBatch`. */
export function moveFilePmds(vm: Vm, from: Pfn, to: Pfn): void {
  const { i32 } = vm.ram;
  const { entryWords: step, ptrsPerPte } = vm.tables;
  const entries = vm.pmdMapped.get(from);
  if (entries === undefined) return;
  for (const { mm, address } of pageMappings(vm, from)) {
    const pmdEntry = findPmd(mm, address);
    const lo = i32[pmdEntry];
    if ((lo & PTE_PS) === 0) continue;
    if ((lo & PTE_DIRTY) !== 0) setPageDirty(vm, from);
    const hi = entryHi(i32, pmdEntry, step);
    setEntry(i32, pmdEntry, step, (lo & ~PTE_LO_FRAME_MASK) | pteLo(to, 0), (hi & ~PTE_HI_FRAME_MASK) | pteHi(to, 0));
    vm.smp.addToBatch(mm.pgd * PAGE_SIZE);
  }
  vm.pages.modNodeState(from, mappedItem(vm, from), -ptrsPerPte);
  vm.pages.modNodeState(to, mappedItem(vm, from), ptrsPerPte);
  vm.pmdMapped.delete(from);
  vm.pmdMapped.set(to, entries);
}

/** Takes every third-level entry that shows a page of a file, and what lies beside it, away. */
export function unmapFilePmds(vm: Vm, pfn: Pfn): void {
  const { i32 } = vm.ram;
  for (const { mm, address } of pageMappings(vm, pfn)) {
    const pmdEntry = findPmd(mm, address);
    if ((i32[pmdEntry] & PTE_PS) !== 0) splitFilePmd(mm, hugeStart(vm.tables, address), pmdEntry);
  }
}

/**
 * Takes the third-level entry of a file's folio away because a part of the block changes; flushed. What it told of the
 * folio's use is kept.
 *
 * @linux mm/huge_memory.c:__split_huge_pmd_locked
 */
export function splitFilePmd(mm: MmStruct, start: VirtAddr, pmdEntry: number): void {
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { flags } = vm.frames;
  const { entryWords, pmdSize, ptrsPerPte } = vm.tables;
  const lo = i32[pmdEntry];
  const head = pfnOf(lo, entryHi(i32, pmdEntry, entryWords));
  clearEntry(i32, pmdEntry, entryWords);
  vm.pages.events[VM_EVENT.THP_SPLIT_PMD]++;
  vm.smp.flushTlbRange(mm.pgd * PAGE_SIZE, start, start + pmdSize);
  if ((lo & PTE_DIRTY) !== 0) setPageDirty(vm, head);
  if ((lo & PTE_ACCESSED) !== 0) for (let page = head; page < head + ptrsPerPte; page++) flags[page] |= PG_REFERENCED;
  dropMapping(mm.vmas.get(start)!, head);
}
