/**
 * `mremap` at the level of page tables: pages keep their frames and change their address.
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_SOFT_DIRTY_HI } from '@pagelab/hw';
import type { MmStruct } from './mm-struct.ts';
import { PMD_SIZE, PUD_SIZE, allocPmd, allocPteBelow, findPmd, nextBoundary, tableBelow } from './pgtable.ts';
import { PTE_MAPS } from './pte.ts';
import type { VmArea } from './vma.ts';

/**
 * Moves the entries of `length` bytes from `oldAddr` in `oldVma` to `newAddr` in `newVma`, where nothing is mapped yet.
 * Both mappings show the same page offsets. A last-level table that is moved whole is hung over, not copied.
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
  const { ram, gather } = mm.vm;
  const end = oldAddr + length;
  const delta = newAddr - oldAddr;
  gather.begin(mm);
  let addr = oldAddr;
  while (addr < end) {
    const oldPmd = findPmd(mm, addr);
    // No table above means that a whole GiB of the old range is empty.
    const extent = Math.min(
      end,
      nextBoundary(addr, oldPmd < 0 ? PUD_SIZE : PMD_SIZE),
      oldPmd < 0 ? Infinity : nextBoundary(addr + delta, PMD_SIZE) - delta,
    );
    if (oldPmd >= 0 && ram.i32[oldPmd] !== 0) {
      const newPmd = allocPmd(mm, addr + delta);
      if (newPmd < 0) break;
      if (extent - addr === PMD_SIZE && delta % PMD_SIZE === 0 && ram.i32[newPmd] === 0) {
        moveTable(mm, oldPmd, newPmd);
      } else if (!moveEntries(mm, oldPmd, newPmd, addr, addr + delta, (extent - addr) / PAGE_SIZE)) {
        break;
      }
      gather.noteRange(addr, extent);
    }
    addr = extent;
  }
  gather.finish();
  return addr - oldAddr;
}

/** @linux mm/mremap.c:move_normal_pmd */
function moveTable(mm: MmStruct, oldPmd: number, newPmd: number): void {
  const { i32 } = mm.vm.ram;
  i32[newPmd] = i32[oldPmd];
  i32[newPmd + 1] = i32[oldPmd + 1];
  i32[oldPmd] = 0;
  i32[oldPmd + 1] = 0;
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
