/**
 * `mremap` at the level of page tables: pages keep their frames and change their address.
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_PS, PTE_SOFT_DIRTY_HI } from '@pagelab/hw';
import { hugeStart, splitHugePmd } from './huge-memory.ts';
import type { MmStruct } from './mm-struct.ts';
import {
  PMD_SIZE,
  PUD_SIZE,
  allocPmd,
  allocPteBelow,
  allocPud,
  findPmd,
  findPud,
  nextBoundary,
  tableBelow,
} from './pgtable.ts';
import { PTE_MAPS } from './pte.ts';
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
  const end = oldAddr + length;
  const delta = newAddr - oldAddr;
  let addr = oldAddr;
  if (canAlign(oldVma, oldAddr, newVma, newAddr, length)) addr -= oldAddr % PMD_SIZE;
  // Making a table may come to kill a process, whose pages go through the gatherer meanwhile.
  let firstMoved = Infinity;
  let movedEnd = 0;
  while (addr < end) {
    let extent = extentOf(addr, delta, end, PUD_SIZE);
    const oldPud = findPud(mm, addr);
    if (oldPud >= 0 && i32[oldPud] !== 0) {
      const newPud = allocPud(mm, addr + delta);
      if (newPud < 0) break;
      if (extent === PUD_SIZE && i32[newPud] === 0) {
        moveTable(i32, oldPud, newPud);
      } else {
        extent = extentOf(addr, delta, end, PMD_SIZE);
        if (!moveBelowPud(mm, addr, addr + delta, extent)) break;
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
  const offset = oldAddr % PMD_SIZE;
  if (offset === 0 || newAddr % PMD_SIZE !== offset || length < PMD_SIZE - offset) return false;
  return startsTable(oldVma, oldAddr) && startsTable(newVma, newAddr);
}

/**
 * Whether `addr` is where its mapping starts, and the first that is mapped in its last-level table.
 *
 * @linux mm/mremap.c:can_align_down
 */
function startsTable(vma: VmArea, addr: VirtAddr): boolean {
  return vma.start === addr && !vma.mm.vmas.overlaps(addr - (addr % PMD_SIZE), addr);
}

/** Moves up to 2 MiB that lie below one third-level entry on either side; false without memory for a table. */
function moveBelowPud(mm: MmStruct, oldAddr: VirtAddr, newAddr: VirtAddr, extent: number): boolean {
  const { i32 } = mm.vm.ram;
  const oldPmd = findPmd(mm, oldAddr);
  if (i32[oldPmd] === 0) return true;
  const newPmd = allocPmd(mm, newAddr);
  if (newPmd < 0) return false;
  if (extent !== PMD_SIZE || i32[newPmd] !== 0) {
    if ((i32[oldPmd] & PTE_PS) !== 0) splitHugePmd(mm, hugeStart(oldAddr), oldPmd);
    return moveEntries(mm, oldPmd, newPmd, oldAddr, newAddr, extent / PAGE_SIZE);
  }
  moveTable(i32, oldPmd, newPmd);
  if ((i32[newPmd] & PTE_PS) !== 0) i32[newPmd + 1] |= PTE_SOFT_DIRTY_HI;
  return true;
}

/** @linux mm/mremap.c:move_normal_pmd, move_normal_pud */
function moveTable(i32: Int32Array, oldEntry: number, newEntry: number): void {
  i32[newEntry] = i32[oldEntry];
  i32[newEntry + 1] = i32[oldEntry + 1];
  i32[oldEntry] = 0;
  i32[oldEntry + 1] = 0;
}

/** Moves `count` entries between two tables; false without memory for the new one. @linux mm/mremap.c:move_ptes */
function moveEntries(
  mm: MmStruct,
  oldPmd: number,
  newPmd: number,
  oldAddr: VirtAddr,
  newAddr: VirtAddr,
  count: number,
): boolean {
  const { i32 } = mm.vm.ram;
  const to = allocPteBelow(mm, newPmd, newAddr);
  if (to < 0) return false;
  const from = tableBelow(mm.vm.ram, oldPmd) + (oldAddr % PMD_SIZE) / PAGE_SIZE * 2;
  for (let i = 0; i < count * 2; i += 2) {
    const lo = i32[from + i];
    const hi = i32[from + i + 1];
    if ((lo | hi) === 0) continue;
    i32[from + i] = 0;
    i32[from + i + 1] = 0;
    i32[to + i] = lo;
    i32[to + i + 1] = (lo & PTE_MAPS) !== 0 ? hi | PTE_SOFT_DIRTY_HI : hi;
  }
  return true;
}
