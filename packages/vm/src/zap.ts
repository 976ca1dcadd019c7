/**
 * Takes pages out of page tables: for `munmap` and `exit`, for `madvise(MADV_DONTNEED)`, for truncation.
 */
import { isKsmZero, unmapKsmZero } from './ksm-page.ts';
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE, PTE_ACCESSED, PTE_DIRTY, PTE_PS } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { PG_ANON, PG_SWAPBACKED } from '@pagelab/mm-core';
import type { AddressSpace } from './file.ts';
import { zapFilePmd } from './file-pmd.ts';
import { detachTable, freePgtables } from './free-pgtables.ts';
import { hugeStart, splitHugePmd, zapHugePmd } from './huge-memory.ts';
import { zapHugetlbPmd } from './hugetlb-fault.ts';
import { hwpoisonPfn } from './hwpoison.ts';
import { MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, MM_SWAPENTS } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import type { MmuGather } from './mmu-gather.ts';
import { folioOrder, markPageAccessed, setPageDirty } from './page-cache.ts';
import { clearEntry, entryHi } from './pgtable-shape.ts';
import { PteTableWalk, findPmd, nextBoundary, pteOffset, tableBelow } from './pgtable.ts';
import { MARKER_POISONED, MARKER_UFFD_WP, PTE_MAPS, PTE_SPECIAL, markerOf, pfnOf } from './pte.ts';
import { removeRmap } from './rmap.ts';
import { freeSwapAndCache } from './swapfile.ts';
import { pteToSwp } from './swapops.ts';
import { leaveUffdWp } from './userfault-wp.ts';
import type { Vm } from './vm.ts';
import { VM_HUGETLB, VM_RAND_READ, VM_SEQ_READ, VM_UFFD_WP } from './vma.ts';
import type { VmArea } from './vma.ts';

/** Markers go with the pages. Without it guard pages stay. @linux include/linux/mm.h:ZAP_FLAG_DROP_MARKER */
const ZAP_DROP_MARKER = 1;
/** Private copies stay: only pages of the file go. The opposite of `even_cows` of Linux's zap_details. */
const ZAP_KEEP_COWS = 2;
/** A table that the range covers whole is freed when nothing is left in it. `reclaim_pt` of Linux's zap_details. */
const ZAP_RECLAIM_PT = 4;

/** Resident pages of all kinds. @linux include/linux/mm.h:get_mm_rss */
export function mmRss(mm: MmStruct): number {
  const { rss } = mm;
  return rss[MM_FILEPAGES] + rss[MM_ANONPAGES] + rss[MM_SHMEMPAGES];
}

/** Notes the largest resident set so far; to be called before it falls. @linux include/linux/mm.h:update_hiwater_rss */
export function updateHiwaterRss(mm: MmStruct): void {
  const rss = mmRss(mm);
  if (mm.hiwaterRss < rss) mm.hiwaterRss = rss;
}

/**
 * Unmaps [start, end), which `vmas` cover in ascending order, and frees the page tables that served only it: those that
 * lie between `floor` and `ceiling`, the ends of the mappings that stay on either side (ceiling 0: none above).
 *
 * Frames are freed after one TLB flush; past 10,000 pages there is one more for each 10,000. The cost grows with the
 * tables and pages there are, not with the range.
 *
 * @linux mm/vma.c:unmap_region
 */
export function unmapRegion(
  mm: MmStruct,
  vmas: readonly VmArea[],
  start: VirtAddr,
  end: VirtAddr,
  floor: VirtAddr,
  ceiling: VirtAddr,
): void {
  const { gather } = mm.vm;
  gather.begin(mm);
  updateHiwaterRss(mm);
  for (let i = 0; i < vmas.length; i++) {
    const vma = vmas[i];
    zapRange(gather, vma, Math.max(start, vma.start), Math.min(end, vma.end), ZAP_DROP_MARKER);
    // A huge page that lies in two mappings is unmapped in part, if only until the next goes.
    if (mm.vm.deferredSplit.hasUncounted) mm.vm.deferredSplit.count();
  }
  freePgtables(gather, mm, vmas, floor, ceiling);
  gather.finish();
}

/**
 * Takes the pages of [start, end), which lies in `vma`, away; the next touch starts anew. Guard pages stay. Tables
 * stay, but for those that the range covers whole.
 *
 * @linux mm/memory.c:zap_page_range_single, with `reclaim_pt` as mm/madvise.c:madvise_dontneed_single_vma has it
 */
export function zapPageRange(vma: VmArea, start: VirtAddr, end: VirtAddr): void {
  const { mm } = vma;
  const { gather } = mm.vm;
  gather.begin(mm);
  updateHiwaterRss(mm);
  zapRange(gather, vma, start, end, ZAP_RECLAIM_PT);
  gather.finish();
}

/**
 * Unmaps a range of a file wherever it is mapped: before it is truncated, or a hole is punched.
 *
 * @param firstPgoff first page of the range
 * @param lastPgoff last page, included; `Infinity` for all from the first on
 * @param cows whether private copies of these pages go too ('all', for truncation) or stay ('file')
 * @linux mm/memory.c:unmap_mapping_pages
 */
export function unmapMappingPages(
  vm: Vm,
  mapping: AddressSpace,
  firstPgoff: number,
  lastPgoff: number,
  cows: 'all' | 'file',
): void {
  const zapFlags = cows === 'all' ? 0 : ZAP_KEEP_COWS;
  mapping.mmap.forEachOverlap(firstPgoff, lastPgoff, (vma) => {
    const start = vma.start + Math.max(0, firstPgoff - vma.pgoff) * PAGE_SIZE;
    const end = Math.min(vma.end, vma.start + (lastPgoff + 1 - vma.pgoff) * PAGE_SIZE);
    const { gather } = vm;
    gather.begin(vma.mm);
    updateHiwaterRss(vma.mm);
    zapRange(gather, vma, start, end, zapFlags);
    gather.finish();
  });
}

/** @linux mm/memory.c:unmap_page_range */
function zapRange(gather: MmuGather, vma: VmArea, start: VirtAddr, end: VirtAddr, zapFlags: number): void {
  if (start >= end) return;
  const { mm } = vma;
  const { ram, tables } = mm.vm;
  if (end <= nextBoundary(start, tables.pmdSize)) {
    // Most ranges are short: one table, and no walk to set up.
    const pmdEntry = findPmd(mm, start);
    if (pmdEntry < 0 || ram.i32[pmdEntry] === 0) return;
    let table = tableBelow(mm.vm, pmdEntry);
    if ((ram.i32[pmdEntry] & PTE_PS) !== 0) {
      if (end - start === tables.pmdSize) {
        zapBlock(gather, vma, start, pmdEntry, zapFlags);
        return;
      }
      splitHugePmd(mm, hugeStart(tables, start), pmdEntry);
      table = tableBelow(mm.vm, pmdEntry);
      if (table < 0) return;
    }
    const entry = pteOffset(tables, table, start);
    zapTable(gather, vma, pmdEntry, entry, (end - start) / PAGE_SIZE, start, zapFlags);
    return;
  }
  const walk = new PteTableWalk(mm, start, end);
  while (walk.next()) {
    if (walk.huge) {
      if (walk.count === tables.ptrsPerPte) {
        zapBlock(gather, vma, walk.addr, walk.pmdEntry, zapFlags);
        continue;
      }
      splitHugePmd(mm, hugeStart(tables, walk.addr), walk.pmdEntry);
      walk.splitDone();
    }
    zapTable(gather, vma, walk.pmdEntry, walk.entry, walk.count, walk.addr, zapFlags);
  }
}

/** Clears a huge entry. */
function zapBlock(gather: MmuGather, vma: VmArea, start: VirtAddr, pmdEntry: number, zapFlags: number): void {
  if ((vma.flags & VM_HUGETLB) !== 0) zapHugetlbPmd(gather, vma, start, pmdEntry, (zapFlags & ZAP_DROP_MARKER) !== 0);
  else if (vma.file !== null) zapFilePmd(gather, vma, start, pmdEntry);
  else zapHugePmd(gather, vma, start, pmdEntry);
}

/** Clears entries of one table, and frees it where that is asked for and it is left empty. */
function zapTable(
  gather: MmuGather,
  vma: VmArea,
  pmdEntry: number,
  entry: number,
  count: number,
  addr: VirtAddr,
  zapFlags: number,
): void {
  const left = zapPteRange(gather, vma, entry, count, addr, zapFlags);
  if ((zapFlags & ZAP_RECLAIM_PT) !== 0 && count === vma.mm.vm.tables.ptrsPerPte && left === 0) {
    detachTable(gather, vma.mm, pmdEntry, addr);
  }
}

/** Passes what an entry tells of the use of a page of a file on to the page. `previousPfn` is that of the entry before. */
function noteUse(vma: VmArea, pfn: Pfn, lo: number, previousPfn: Pfn): void {
  const { vm } = vma.mm;
  if ((lo & PTE_DIRTY) !== 0) setPageDirty(vm, pfn);
  if ((lo & PTE_ACCESSED) === 0 || (vma.flags & (VM_SEQ_READ | VM_RAND_READ)) !== 0) return;
  const index = vm.frames.index[pfn];
  // The entries of one folio in a row are one use of it.
  if (pfn === previousPfn + 1 && index % (1 << folioOrder(vm, pfn)) !== 0) return;
  markPageAccessed(vm, vma.file!.inode.mapping, index);
}

/**
 * Whether a marker goes with the pages, though the mapping stays: a poisoned page's where private copies go, too, and the
 * write protection of anonymous memory.
 *
 * @linux mm/memory.c:zap_nonpresent_ptes
 */
function dropsMarker(vma: VmArea, lo: number, hi: number, zapFlags: number): boolean {
  const { tables } = vma.mm.vm;
  const marker = markerOf(tables, lo, hi);
  if (marker === MARKER_POISONED || hwpoisonPfn(tables, lo, hi) >= 0) return (zapFlags & ZAP_KEEP_COWS) === 0;
  return marker === MARKER_UFFD_WP && vma.file === null;
}

/**
 * Clears `count` entries in a row, those of `firstAddr` and up, and hands their pages to the gatherer.
 *
 * @returns entries that are still filled
 * @linux mm/memory.c:zap_pte_range
 */
function zapPteRange(
  gather: MmuGather,
  vma: VmArea,
  firstEntry: number,
  count: number,
  firstAddr: VirtAddr,
  zapFlags: number,
): number {
  const { mm } = vma;
  const { vm, rss } = mm;
  const { i32 } = vm.ram;
  const { flags } = vm.frames;
  const step = vm.tables.entryWords;
  const keepsWp = (vma.flags & VM_UFFD_WP) !== 0 && (zapFlags & ZAP_DROP_MARKER) === 0;
  let left = 0;
  let anon = 0;
  let shmem = 0;
  let file = 0;
  let lastFilePfn = -1;
  let firstCleared = -1;
  let lastCleared = -1;
  for (let i = 0; i < count; i++) {
    const entry = firstEntry + i * step;
    const lo = i32[entry];
    const hi = entryHi(i32, entry, step);
    if ((lo | hi) === 0) continue;
    if ((lo & PTE_MAPS) === 0) {
      const swp = pteToSwp(step, lo, hi);
      if (swp >= 0) {
        if ((zapFlags & ZAP_KEEP_COWS) !== 0) {
          left++;
          continue;
        }
        clearEntry(i32, entry, step);
        if (keepsWp && leaveUffdWp(vma, entry, lo, hi)) left++;
        rss[MM_SWAPENTS]--;
        freeSwapAndCache(vm, swp);
      } else if ((zapFlags & ZAP_DROP_MARKER) !== 0 || dropsMarker(vma, lo, hi, zapFlags)) {
        clearEntry(i32, entry, step);
      } else {
        left++;
      }
      continue;
    }
    if ((lo & PTE_SPECIAL) === 0) {
      const pfn = pfnOf(lo, hi);
      const pageFlags = flags[pfn];
      if ((pageFlags & PG_ANON) !== 0) {
        if ((zapFlags & ZAP_KEEP_COWS) !== 0) {
          left++;
          continue;
        }
        anon++;
      } else {
        noteUse(vma, pfn, lo, lastFilePfn);
        lastFilePfn = pfn;
        if ((pageFlags & PG_SWAPBACKED) !== 0) shmem++;
        else file++;
      }
      clearEntry(i32, entry, step);
      if (keepsWp && leaveUffdWp(vma, entry, lo, hi)) left++;
      removeRmap(vm, pfn, vma);
      if (firstCleared < 0) firstCleared = i;
      lastCleared = i;
      if (gather.addPage(pfn)) {
        gather.noteRange(firstAddr + firstCleared * PAGE_SIZE, firstAddr + (i + 1) * PAGE_SIZE);
        gather.flush();
        firstCleared = -1;
      }
    } else {
      if (isKsmZero(lo)) unmapKsmZero(mm);
      clearEntry(i32, entry, step);
      if (keepsWp && leaveUffdWp(vma, entry, lo, hi)) left++;
      if (firstCleared < 0) firstCleared = i;
      lastCleared = i;
    }
  }
  rss[MM_ANONPAGES] -= anon;
  rss[MM_SHMEMPAGES] -= shmem;
  rss[MM_FILEPAGES] -= file;
  if (firstCleared >= 0) {
    gather.noteRange(firstAddr + firstCleared * PAGE_SIZE, firstAddr + (lastCleared + 1) * PAGE_SIZE);
  }
  return left;
}
