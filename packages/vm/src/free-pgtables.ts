/**
 * Gives page tables back when the mappings they served are gone.
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE, pgdIndex, pmdIndex, pudIndex } from '@pagelab/hw';
import type { MmStruct } from './mm-struct.ts';
import type { MmuGather } from './mmu-gather.ts';
import { PGDIR_SIZE, PMD_SIZE, PUD_SIZE, nextBoundary, tableBelow } from './pgtable.ts';
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
  for (let i = 0; i < vmas.length; ) {
    const { start } = vmas[i];
    let { end } = vmas[i++];
    while (i < vmas.length && vmas[i].start <= end + PMD_SIZE) end = vmas[i++].end;
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
  let from = Math.floor(addr / PMD_SIZE) * PMD_SIZE;
  if (from < floor) from += PMD_SIZE;
  const limit = Math.floor(ceiling / PMD_SIZE) * PMD_SIZE;
  let to = end;
  if (to > limit) to -= PMD_SIZE;
  if (from >= to) return;
  const { ram } = mm.vm;
  const pgd = ram.frameWord(mm.pgd);
  while (from < to) {
    const next = Math.min(nextBoundary(from, PGDIR_SIZE), to);
    const entry = pgd + pgdIndex(from) * 2;
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
  const { ram } = mm.vm;
  const pud = tableBelow(ram, pgdEntry);
  for (let addr = start; addr < end; ) {
    const next = Math.min(nextBoundary(addr, PUD_SIZE), end);
    const entry = pud + pudIndex(addr) * 2;
    if (ram.i32[entry] !== 0) freePmdRange(gather, mm, entry, addr, next, floor, ceiling);
    addr = next;
  }
  if (coversOnly(start, end, PGDIR_SIZE, floor, ceiling)) detachTable(gather, mm, pgdEntry, start);
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
  const { ram } = mm.vm;
  const { i32 } = ram;
  const pmd = tableBelow(ram, pudEntry);
  for (let addr = start; addr < end; ) {
    const entry = pmd + pmdIndex(addr) * 2;
    if (i32[entry] !== 0) detachTable(gather, mm, entry, addr);
    addr = nextBoundary(addr, PMD_SIZE);
  }
  if (coversOnly(start, end, PUD_SIZE, floor, ceiling)) detachTable(gather, mm, pudEntry, start);
}

/** Whether the table above [start, end), which covers `size` bytes, serves nothing outside [floor, ceiling). */
function coversOnly(start: VirtAddr, end: VirtAddr, size: number, floor: VirtAddr, ceiling: VirtAddr): boolean {
  if (Math.floor(start / size) * size < floor) return false;
  return end <= Math.floor(ceiling / size) * size;
}

/** Takes the table below `entry`, which covers `addr` and holds nothing, out of the tree. */
export function detachTable(gather: MmuGather, mm: MmStruct, entry: number, addr: VirtAddr): void {
  const { i32 } = mm.vm.ram;
  const pfn = pfnOf(i32[entry], i32[entry + 1]);
  i32[entry] = 0;
  i32[entry + 1] = 0;
  mm.pgtablesBytes -= PAGE_SIZE;
  gather.addTable(pfn);
  gather.noteRange(addr, addr + PAGE_SIZE);
}
