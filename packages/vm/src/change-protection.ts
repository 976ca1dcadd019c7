/**
 * `mprotect` at the level of page tables.
 */
import { Errno } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE, PTE_DIRTY, PTE_PRESENT, PTE_PS, PTE_RW, PTE_UFFD_WP_LO } from '@pagelab/hw';
import { PG_ANON, PG_ANON_EXCLUSIVE } from '@pagelab/mm-core';
import { hugeStart, splitHugePmd } from './huge-memory.ts';
import type { MmuGather } from './mmu-gather.ts';
import { clearEntry, entryHi, setEntry } from './pgtable-shape.ts';
import { PteTableWalk, allocPmd, allocPteBelow, findPmd, nextBoundary, pteOffset, tableBelow } from './pgtable.ts';
import { MARKER_UFFD_WP, PTE_KEEP_HI, PTE_KEEP_LO, PTE_MAPS, PTE_SPECIAL, hugeMarkerLo, markerHi, markerLo, markerOf, pageProtHi, pfnOf, swpUffdWp, vmaProtLo } from './pte.ts';
import { pteToSwp } from './swapops.ts';
import { uffdWpUsesMarkers } from './userfault-wp.ts';
import { VM_HUGETLB, VM_SHARED, VM_UFFD_WP, VM_WRITE } from './vma.ts';
import type { VmArea } from './vma.ts';

/** The entries are to be write-protected by userfaultfd beside that, or freed of it. @linux include/linux/mm.h:MM_CP_UFFD_WP */
export const MM_CP_UFFD_WP = 1 << 2;
export const MM_CP_UFFD_WP_RESOLVE = 1 << 3;

/**
 * Gives the entries of [start, end), which lies in `vma`, the rights that `vma.flags` now allow, and flushes where some
 * lost any. A private page becomes writable only where it can be written without a copy; the others fault first. Guard
 * pages stay what they are. The cost grows with the tables there are.
 *
 * @param cpFlags MM_CP_ bits
 * @returns entries changed; −ENOMEM without memory for tables of markers
 * @linux mm/mprotect.c:change_protection
 */
export function changeProtection(vma: VmArea, start: VirtAddr, end: VirtAddr, cpFlags = 0): number {
  const { mm } = vma;
  const { vm } = mm;
  const { tables } = vm;
  const { gather } = vm;
  if ((vma.flags & VM_HUGETLB) !== 0) return changeHugetlb(vma, start, end, cpFlags);
  if ((cpFlags & MM_CP_UFFD_WP) !== 0 && uffdWpUsesMarkers(vma) && !populateTables(vma, start, end)) return -Errno.ENOMEM;
  if (end <= nextBoundary(start, tables.pmdSize)) {
    // Most ranges are short: one table or none, and no walk to set up.
    const pmdEntry = findPmd(mm, start);
    const table = pmdEntry < 0 ? -1 : tableBelow(vm, pmdEntry);
    if (table < 0) return 0;
    if ((vm.ram.i32[pmdEntry] & PTE_PS) === 0) {
      gather.begin(mm);
      const changed = changePteRange(gather, vma, pteOffset(tables, table, start), (end - start) / PAGE_SIZE, start, cpFlags);
      gather.finish();
      return changed;
    }
  }
  const walk = new PteTableWalk(mm, start, end);
  let changed = 0;
  gather.begin(mm);
  while (walk.next()) {
    if (walk.huge) {
      if (walk.count === tables.ptrsPerPte) {
        if (changeHuge(vma, walk.pmdEntry, cpFlags)) gather.noteRange(walk.addr, walk.addr + tables.pmdSize);
        changed += walk.count;
        continue;
      }
      splitHugePmd(mm, hugeStart(tables, walk.addr), walk.pmdEntry);
      walk.splitDone();
    }
    changed += changePteRange(gather, vma, walk.entry, walk.count, walk.addr, cpFlags);
  }
  gather.finish();
  return changed;
}

/**
 * Changes `count` entries in a row, those of `firstAddr` and up.
 *
 * @returns entries changed
 * @linux mm/mprotect.c:change_pte_range
 */
function changePteRange(gather: MmuGather, vma: VmArea, firstEntry: number, count: number, firstAddr: VirtAddr, cpFlags: number): number {
  const { vm } = vma.mm;
  const { i32 } = vm.ram;
  const { flags } = vm.frames;
  const step = vm.tables.entryWords;
  const protLo = vmaProtLo(vma) & ~PTE_KEEP_LO;
  const protHi = step === 2 ? pageProtHi(vma.flags) & ~PTE_KEEP_HI : 0;
  const privateWritable = (vma.flags & (VM_WRITE | VM_SHARED)) === VM_WRITE;
  // A dirty page's file knows of stores already.
  const notifiedWritable = (vma.flags & VM_WRITE) !== 0 && !privateWritable && (protLo & PTE_RW) === 0;
  let changed = 0;
  let first = -1;
  let last = -1;
  for (let i = 0; i < count; i++) {
    const entry = firstEntry + i * step;
    const oldLo = i32[entry];
    if ((oldLo & PTE_MAPS) === 0) {
      if (cpFlags !== 0 && changeElsewhere(vma, entry, cpFlags)) changed++;
      continue;
    }
    const oldHi = entryHi(i32, entry, step);
    let lo = (oldLo & PTE_KEEP_LO) | protLo;
    if (cpFlags !== 0) lo = changeUffdWp(lo, cpFlags);
    const isFree = (lo & PTE_UFFD_WP_LO) === 0 || (vma.flags & VM_UFFD_WP) === 0;
    const hi = (oldHi & PTE_KEEP_HI) | protHi;
    if (privateWritable && (lo & (PTE_PRESENT | PTE_SPECIAL)) === PTE_PRESENT) {
      const pageFlags = flags[pfnOf(lo, hi)];
      if ((pageFlags & PG_ANON) !== 0 && (pageFlags & PG_ANON_EXCLUSIVE) !== 0 && isFree) lo |= PTE_RW;
    } else if (notifiedWritable && isFree && (lo & (PTE_PRESENT | PTE_DIRTY)) === (PTE_PRESENT | PTE_DIRTY)) {
      lo |= PTE_RW;
    }
    setEntry(i32, entry, step, lo, hi);
    changed++;
    if (needsFlush(oldLo, oldHi, lo, hi)) {
      if (first < 0) first = i;
      last = i;
    }
  }
  if (first >= 0) gather.noteRange(firstAddr + first * PAGE_SIZE, firstAddr + (last + 1) * PAGE_SIZE);
  return changed;
}

/** The low word of an entry that shows a frame, with or without userfaultfd's protection. */
function changeUffdWp(lo: number, cpFlags: number): number {
  return (cpFlags & MM_CP_UFFD_WP) !== 0 ? (lo | PTE_UFFD_WP_LO) & ~PTE_RW : lo & ~PTE_UFFD_WP_LO;
}

/** Makes tables for all of a range: markers go into them. @linux mm/mprotect.c:pgtable_populate_needed */
function populateTables(vma: VmArea, start: VirtAddr, end: VirtAddr): boolean {
  const { mm } = vma;
  const { ram, tables } = mm.vm;
  for (let addr = start; addr < end; addr = nextBoundary(addr, tables.pmdSize)) {
    const pmdEntry = allocPmd(mm, addr);
    if (pmdEntry < 0) return false;
    // Of a file, what showed its huge page is gone with that.
    if ((ram.i32[pmdEntry] & PTE_PS) !== 0 && vma.file !== null) splitHugePmd(mm, hugeStart(tables, addr), pmdEntry);
    if ((ram.i32[pmdEntry] & PTE_PS) === 0 && allocPteBelow(mm, pmdEntry, addr) < 0) return false;
  }
  return true;
}

/** An entry that shows no frame is write-protected by userfaultfd, or freed of that. @returns whether it changed */
function changeElsewhere(vma: VmArea, entry: number, cpFlags: number): boolean {
  const { ram: { i32 }, tables } = vma.mm.vm;
  const step = tables.entryWords;
  const lo = i32[entry];
  const hi = entryHi(i32, entry, step);
  const protects = (cpFlags & MM_CP_UFFD_WP) !== 0;
  if ((lo | hi) === 0) {
    if (!protects || !uffdWpUsesMarkers(vma)) return false;
    setEntry(i32, entry, step, markerLo(tables, MARKER_UFFD_WP), markerHi(tables));
    return true;
  }
  if (pteToSwp(step, lo, hi) >= 0) {
    i32[entry] = protects ? lo | swpUffdWp(tables) : lo & ~swpUffdWp(tables);
    return i32[entry] !== lo;
  }
  if (protects || markerOf(tables, lo, hi) !== MARKER_UFFD_WP) return false;
  clearEntry(i32, entry, step);
  return true;
}

/** Gives a huge entry its mapping's rights; whether a flush is due. @linux mm/huge_memory.c:change_huge_pmd */
function changeHuge(vma: VmArea, entry: number, cpFlags: number): boolean {
  const { vm } = vma.mm;
  const { i32 } = vm.ram;
  const step = vm.tables.entryWords;
  const oldLo = i32[entry];
  const oldHi = entryHi(i32, entry, step);
  let lo = (oldLo & PTE_KEEP_LO) | (vmaProtLo(vma) & ~PTE_KEEP_LO);
  const hi = (oldHi & PTE_KEEP_HI) | (step === 2 ? pageProtHi(vma.flags) & ~PTE_KEEP_HI : 0);
  if (cpFlags !== 0) lo = changeUffdWp(lo, cpFlags);
  const isFree = (lo & PTE_UFFD_WP_LO) === 0 || (vma.flags & VM_UFFD_WP) === 0;
  if (isFree && (vma.flags & VM_WRITE) !== 0 && (lo & (PTE_PRESENT | PTE_SPECIAL)) === PTE_PRESENT) {
    if ((vm.frames.flags[pfnOf(lo, hi)] & PG_ANON_EXCLUSIVE) !== 0) lo |= PTE_RW;
  }
  setEntry(i32, entry, step, lo, hi);
  return needsFlush(oldLo, oldHi, lo, hi);
}

/** Huge pages of the pool, which lie in the range whole. @linux mm/hugetlb.c:hugetlb_change_protection */
function changeHugetlb(vma: VmArea, start: VirtAddr, end: VirtAddr, cpFlags: number): number {
  const { mm } = vma;
  const { gather, ram, tables } = mm.vm;
  const { i32 } = ram;
  const step = tables.entryWords;
  const protects = (cpFlags & MM_CP_UFFD_WP) !== 0;
  let changed = 0;
  gather.begin(mm);
  for (let addr = start; addr < end; addr += tables.pmdSize) {
    const entry = protects ? allocPmd(mm, addr) : findPmd(mm, addr);
    if (entry < 0) {
      if (!protects) continue;
      changed = -Errno.ENOMEM;
      break;
    }
    const oldLo = i32[entry];
    const oldHi = entryHi(i32, entry, step);
    if ((oldLo & PTE_MAPS) === 0) {
      if ((oldLo | oldHi) === 0 && protects) setEntry(i32, entry, step, hugeMarkerLo(tables, MARKER_UFFD_WP), markerHi(tables));
      else if ((cpFlags & MM_CP_UFFD_WP_RESOLVE) !== 0 && markerOf(tables, oldLo, oldHi) === MARKER_UFFD_WP) clearEntry(i32, entry, step);
      continue;
    }
    let lo = (oldLo & PTE_KEEP_LO) | (vmaProtLo(vma) & ~PTE_KEEP_LO);
    const hi = (oldHi & PTE_KEEP_HI) | (step === 2 ? pageProtHi(vma.flags) & ~PTE_KEEP_HI : 0);
    if (cpFlags !== 0) lo = changeUffdWp(lo, cpFlags);
    setEntry(i32, entry, step, lo, hi);
    changed += tables.ptrsPerPte;
    if (needsFlush(oldLo, oldHi, lo, hi)) gather.noteRange(addr, addr + tables.pmdSize);
  }
  gather.finish();
  return changed;
}

/**
 * Whether a translation made from the old entry could allow what the new one does not.
 *
 * @linux arch/x86/include/asm/tlbflush.h:pte_flags_need_flush
 */
function needsFlush(oldLo: number, oldHi: number, lo: number, hi: number): boolean {
  if ((oldLo & PTE_PRESENT) === 0) return false;
  const lost = oldLo & ~lo & (PTE_PRESENT | PTE_RW | PTE_DIRTY);
  // The high word's rights are one bit that forbids: a fetch may be allowed still where it is new.
  return lost !== 0 || (~oldHi & hi) < 0;
}
