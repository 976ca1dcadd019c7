/**
 * `mremap` at the level of page tables: pages keep their frames and change their address.
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_PS, PTE_UFFD_WP_LO } from '@pagelab/hw';
import { hugeStart, splitHugePmd } from './huge-memory.ts';
import type { MmStruct } from './mm-struct.ts';
import { clearEntry, entryHi, setEntry } from './pgtable-shape.ts';
import {
  allocPmd,
  allocPteBelow,
  allocPud,
  findPmd,
  findPud,
  nextBoundary,
  pteOffset,
  tableBelow,
} from './pgtable.ts';
import { MARKER_UFFD_WP, PTE_MAPS, SWP_SOFT_DIRTY, markerOf, swpUffdWp } from './pte.ts';
import { pteToSwp } from './swapops.ts';
import { uffdMovesAlong } from './userfault-events.ts';
import type { VmArea } from './vma.ts';

/**
 * Moves the entries of `length` bytes from `oldAddr` in `oldVma` to `newAddr` in `newVma`, where nothing is mapped yet.
 * Both mappings show the same page offsets. A table that is moved whole is hung over, not copied.
 *
 * @returns bytes moved: `length`, or less where there was no memory for a table; all beyond is where it was
 * @linux mm/mremap.c:move_page_tables
 */
export function movePageTables(
  oldVma: VmArea,
  oldAddr: VirtAddr,
  newVma: VmArea,
  newAddr: VirtAddr,
  length: number,
): number {
  const { mm } = oldVma;
  const { i32 } = mm.vm.ram;
  const { entryWords, pmdSize, pudFolded, pudSize } = mm.vm.tables;
  const end = oldAddr + length;
  const delta = newAddr - oldAddr;
  let addr = oldAddr;
  if (canAlign(oldVma, oldAddr, newVma, newAddr, length)) addr = hugeStart(mm.vm.tables, oldAddr);
  // Who serves the faults and does not hear of the move keeps nothing of it: its protection is taken off entry by entry.
  const dropsWp = oldVma.uffd !== null && !uffdMovesAlong(oldVma);
  // Making a table may come to kill a process, whose pages go through the gatherer meanwhile.
  let firstMoved = Infinity;
  let movedEnd = 0;
  while (addr < end) {
    let extent = extentOf(addr, delta, end, pudSize);
    const oldPud = findPud(mm, addr);
    if (oldPud >= 0 && i32[oldPud] !== 0) {
      const newPud = allocPud(mm, addr + delta);
      if (newPud < 0) break;
      if (extent === pudSize && i32[newPud] === 0 && !pudFolded && !dropsWp) {
        moveTable(i32, oldPud, newPud, entryWords);
      } else {
        extent = extentOf(addr, delta, end, pmdSize);
        if (!moveBelowPud(mm, addr, addr + delta, extent, dropsWp)) break;
      }
      firstMoved = Math.min(firstMoved, addr);
      movedEnd = addr + extent;
    }
    addr += extent;
  }
  if (movedEnd > firstMoved) mm.vm.smp.flushTlbRange(mm.pgd * PAGE_SIZE, firstMoved, movedEnd);
  return Math.max(0, addr - oldAddr);
}

/**
 * Bytes from `addr` to the end of the range, or of the entry of `size` bytes on either side.
 *
 * @linux mm/mremap.c:get_extent
 */
function extentOf(addr: VirtAddr, delta: number, end: VirtAddr, size: number): number {
  return Math.min(end, nextBoundary(addr, size), nextBoundary(addr + delta, size) - delta) - addr;
}

/**
 * Whether a move that begins inside a last-level table may begin at the table's start instead: nothing else is mapped
 * there on either side, so that the table can be moved whole.
 *
 * @linux mm/mremap.c:can_realign_addr
 */
function canAlign(oldVma: VmArea, oldAddr: VirtAddr, newVma: VmArea, newAddr: VirtAddr, length: number): boolean {
  const { tables } = oldVma.mm.vm;
  const { pmdSize } = tables;
  const offset = oldAddr - hugeStart(tables, oldAddr);
  if (offset === 0 || newAddr - hugeStart(tables, newAddr) !== offset || length < pmdSize - offset) return false;
  return startsTable(oldVma, oldAddr) && startsTable(newVma, newAddr);
}

/**
 * Whether `addr` is where its mapping starts, and the first that is mapped in its last-level table.
 *
 * @linux mm/mremap.c:can_align_down
 */
function startsTable(vma: VmArea, addr: VirtAddr): boolean {
  return vma.start === addr && !vma.mm.vmas.overlaps(hugeStart(vma.mm.vm.tables, addr), addr);
}

/** Moves what lies below one third-level entry on either side; false without memory for a table. */
function moveBelowPud(mm: MmStruct, oldAddr: VirtAddr, newAddr: VirtAddr, extent: number, dropsWp: boolean): boolean {
  const { i32 } = mm.vm.ram;
  const { entryWords, pmdSize, softDirtyHi } = mm.vm.tables;
  const oldPmd = findPmd(mm, oldAddr);
  if (i32[oldPmd] === 0) return true;
  const newPmd = allocPmd(mm, newAddr);
  if (newPmd < 0) return false;
  const isHuge = (i32[oldPmd] & PTE_PS) !== 0;
  if (extent !== pmdSize || i32[newPmd] !== 0 || (dropsWp && !isHuge)) {
    if (isHuge) splitHugePmd(mm, hugeStart(mm.vm.tables, oldAddr), oldPmd);
    if (i32[oldPmd] === 0) return true;
    return moveEntries(mm, oldPmd, newPmd, oldAddr, newAddr, extent / PAGE_SIZE, dropsWp);
  }
  moveTable(i32, oldPmd, newPmd, entryWords);
  if (dropsWp) dropHugeWp(mm, newPmd);
  if ((i32[newPmd] & PTE_PS) !== 0 && softDirtyHi !== 0) i32[newPmd + 1] |= softDirtyHi;
  return true;
}

/** A huge entry, or a marker in its place, is no longer write-protected. @linux mm/huge_memory.c:clear_uffd_wp_pmd, mm/hugetlb.c:move_huge_pte */
function dropHugeWp(mm: MmStruct, pmdEntry: number): void {
  const { ram: { i32 }, tables } = mm.vm;
  const lo = i32[pmdEntry];
  if ((lo & PTE_MAPS) !== 0) i32[pmdEntry] = lo & ~PTE_UFFD_WP_LO;
  else if (markerOf(tables, lo, entryHi(i32, pmdEntry, tables.entryWords)) === MARKER_UFFD_WP) clearEntry(i32, pmdEntry, tables.entryWords);
}

/** @linux mm/mremap.c:move_normal_pmd, move_normal_pud */
function moveTable(i32: Int32Array, oldEntry: number, newEntry: number, step: number): void {
  setEntry(i32, newEntry, step, i32[oldEntry], entryHi(i32, oldEntry, step));
  clearEntry(i32, oldEntry, step);
}

/** Moves `count` entries between two tables; false without memory for the new one. @linux mm/mremap.c:move_ptes */
function moveEntries(
  mm: MmStruct,
  oldPmd: number,
  newPmd: number,
  oldAddr: VirtAddr,
  newAddr: VirtAddr,
  count: number,
  dropsWp: boolean,
): boolean {
  const { i32 } = mm.vm.ram;
  const { tables } = mm.vm;
  const { entryWords: step, softDirtyHi } = tables;
  const to = allocPteBelow(mm, newPmd, newAddr);
  if (to < 0) return false;
  const from = pteOffset(mm.vm.tables, tableBelow(mm.vm, oldPmd), oldAddr);
  for (let i = 0; i < count * step; i += step) {
    let lo = i32[from + i];
    const hi = entryHi(i32, from + i, step);
    if ((lo | hi) === 0) continue;
    clearEntry(i32, from + i, step);
    if (dropsWp) {
      if (markerOf(tables, lo, hi) === MARKER_UFFD_WP) continue;
      lo &= (lo & PTE_MAPS) !== 0 ? ~PTE_UFFD_WP_LO : ~swpUffdWp(tables);
    }
    if (softDirtyHi !== 0 && pteToSwp(step, lo, hi) >= 0) lo |= SWP_SOFT_DIRTY;
    setEntry(i32, to + i, step, lo, (lo & PTE_MAPS) !== 0 ? hi | softDirtyHi : hi);
  }
  return true;
}
