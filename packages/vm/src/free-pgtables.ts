/**
 * Gives page tables back when the mappings they served are gone.
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE, pmdIndex, pudIndex } from '@pagelab/hw';
import type { MmStruct } from './mm-struct.ts';
import type { MmuGather } from './mmu-gather.ts';
import { clearEntry, entryHi, pgdIndexOf } from './pgtable-shape.ts';
import { nextBoundary, tableBelow } from './pgtable.ts';
import { pfnOf } from './pte.ts';
import type { VmArea } from './vma.ts';

/**
 * Frees the tables that served `vmas` and nothing else: a table goes when all it covers lies between `floor` and
 * `ceiling` (the ends of the neighbouring mappings; ceiling 0 is none) and beyond the mappings that stay.
 *
 * Every entry below must have been cleared. Mappings close to each other are taken together.
 *
 * @linux mm/memory.c:free_pgtables
 */
export function freePgtables(
  gather: MmuGather,
  mm: MmStruct,
  vmas: readonly VmArea[],
  floor: VirtAddr,
  ceiling: VirtAddr,
): void {
  const { pmdSize } = mm.vm.tables;
  for (let i = 0; i < vmas.length; ) {
    const { start } = vmas[i];
    let { end } = vmas[i++];
    while (i < vmas.length && vmas[i].start <= end + pmdSize) end = vmas[i++].end;
    freePgdRange(gather, mm, start, end, floor, i < vmas.length ? vmas[i].start : ceiling === 0 ? Infinity : ceiling);
  }
}

/**
 * Frees the tables below [addr, end) that cover nothing outside [floor, ceiling); ceiling may be `Infinity`.
 *
 * @linux mm/memory.c:free_pgd_range
 */
export function freePgdRange(
  gather: MmuGather,
  mm: MmStruct,
  addr: VirtAddr,
  end: VirtAddr,
  floor: VirtAddr,
  ceiling: VirtAddr,
): void {
  const { ram, tables } = mm.vm;
  const { pmdSize } = tables;
  let from = Math.floor(addr / pmdSize) * pmdSize;
  if (from < floor) from += pmdSize;
  const limit = Math.floor(ceiling / pmdSize) * pmdSize;
  let to = end;
  if (to > limit) to -= pmdSize;
  if (from >= to) return;
  const pgd = ram.frameWord(mm.pgd);
  while (from < to) {
    const next = Math.min(nextBoundary(from, tables.pgdirSize), to);
    const entry = pgd + pgdIndexOf(tables, from) * tables.entryWords;
    if (ram.i32[entry] !== 0) {
      freePudRange(gather, mm, entry, from, next, floor, limit);
    }
    from = next;
  }
}

/** @linux mm/memory.c:free_pud_range */
function freePudRange(
  gather: MmuGather,
  mm: MmStruct,
  pgdEntry: number,
  start: VirtAddr,
  end: VirtAddr,
  floor: VirtAddr,
  ceiling: VirtAddr,
): void {
  const { ram, tables } = mm.vm;
  if (tables.pudFolded) {
    freePmdRange(gather, mm, pgdEntry, start, end, floor, ceiling);
    return;
  }
  const pud = tableBelow(mm.vm, pgdEntry);
  for (let addr = start; addr < end; ) {
    const next = Math.min(nextBoundary(addr, tables.pudSize), end);
    const entry = pud + pudIndex(addr) * 2;
    if (ram.i32[entry] !== 0) freePmdRange(gather, mm, entry, addr, next, floor, ceiling);
    addr = next;
  }
  if (coversOnly(start, end, tables.pgdirSize, floor, ceiling)) detachTable(gather, mm, pgdEntry, start);
}

/** @linux mm/memory.c:free_pmd_range */
function freePmdRange(
  gather: MmuGather,
  mm: MmStruct,
  pudEntry: number,
  start: VirtAddr,
  end: VirtAddr,
  floor: VirtAddr,
  ceiling: VirtAddr,
): void {
  const { ram, tables } = mm.vm;
  const { i32 } = ram;
  if (tables.pmdFolded) {
    detachTable(gather, mm, pudEntry, start);
    return;
  }
  const pmd = tableBelow(mm.vm, pudEntry);
  for (let addr = start; addr < end; ) {
    const entry = pmd + pmdIndex(addr) * 2;
    if (i32[entry] !== 0) detachTable(gather, mm, entry, addr);
    addr = nextBoundary(addr, tables.pmdSize);
  }
  if (!coversOnly(start, end, tables.pudSize, floor, ceiling)) return;
  detachTable(gather, mm, pudEntry, start);
  if (tables.pudFolded) gather.noteTopLevel();
}

/** Whether the table above [start, end), which covers `size` bytes, serves nothing outside [floor, ceiling). */
function coversOnly(start: VirtAddr, end: VirtAddr, size: number, floor: VirtAddr, ceiling: VirtAddr): boolean {
  if (Math.floor(start / size) * size < floor) return false;
  return end <= Math.floor(ceiling / size) * size;
}

/** Takes the table below `entry`, which covers `addr` and holds nothing, out of the tree. */
export function detachTable(gather: MmuGather, mm: MmStruct, entry: number, addr: VirtAddr): void {
  const { i32 } = mm.vm.ram;
  const step = mm.vm.tables.entryWords;
  const pfn = pfnOf(i32[entry], entryHi(i32, entry, step));
  clearEntry(i32, entry, step);
  mm.pgtablesBytes -= PAGE_SIZE;
  gather.addTable(pfn);
  gather.noteRange(addr, addr + PAGE_SIZE);
}
