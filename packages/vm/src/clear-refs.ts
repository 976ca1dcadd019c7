/**
 * `/proc/PID/clear_refs`: forgetting that pages were used.
 *
 * @linux fs/proc/task_mmu.c:clear_refs_write
 */
import { PTE_ACCESSED } from '@pagelab/hw';
import { PG_ANON, PG_REFERENCED } from '@pagelab/mm-core';
import type { MmStruct } from './mm-struct.ts';
import { folioOrder } from './page-cache.ts';
import { entryHi } from './pgtable-shape.ts';
import { PteTableWalk } from './pgtable.ts';
import { PTE_MAPS, PTE_SPECIAL, pfnOf } from './pte.ts';
import { VM_HUGETLB, VM_PFNMAP, VM_SOFTDIRTY } from './vma.ts';
import { mmRss } from './zap.ts';

/** What may be written to the file, and what it forgets: the use of all pages, of anonymous memory, of files. */
export const CLEAR_REFS_ALL = 1;
export const CLEAR_REFS_ANON = 2;
export const CLEAR_REFS_MAPPED = 3;
/** That mappings were changed. Pages keep their marks, as in a kernel without CONFIG_MEM_SOFT_DIRTY. */
export const CLEAR_REFS_SOFT_DIRTY = 4;
/** How much was resident at most so far. */
export const CLEAR_REFS_MM_HIWATER_RSS = 5;

/**
 * Forgets what `kind`, one of `CLEAR_REFS_…`, names. There is no TLB flush, as in Linux: a CPU that still holds a
 * translation does not note the next use. Costs a step a resident page.
 */
export function clearRefs(mm: MmStruct, kind: number): void {
  if (kind === CLEAR_REFS_MM_HIWATER_RSS) {
    mm.hiwaterRss = mmRss(mm);
    return;
  }
  for (const vma of mm.vmas) {
    if (kind === CLEAR_REFS_SOFT_DIRTY) {
      vma.flags &= ~VM_SOFTDIRTY;
      continue;
    }
    if ((vma.flags & (VM_PFNMAP | VM_HUGETLB)) !== 0) continue;
    if (kind === CLEAR_REFS_ANON && vma.file !== null) continue;
    if (kind === CLEAR_REFS_MAPPED && vma.file === null) continue;
    clearYoung(mm, new PteTableWalk(mm, vma.start, vma.end));
  }
}

/** @linux fs/proc/task_mmu.c:clear_refs_pte_range */
function clearYoung(mm: MmStruct, walk: PteTableWalk): void {
  const { i32 } = mm.vm.ram;
  const { step } = walk;
  const { flags } = mm.vm.frames;
  while (walk.next()) {
    if (walk.huge) {
      const lo = i32[walk.pmdEntry];
      if ((lo & PTE_SPECIAL) !== 0) continue;
      i32[walk.pmdEntry] = lo & ~PTE_ACCESSED;
      const head = pfnOf(lo, entryHi(i32, walk.pmdEntry, step));
      for (let page = head; page < head + walk.count; page++) flags[page] &= ~PG_REFERENCED;
      continue;
    }
    for (let i = 0, entry = walk.entry; i < walk.count; i++, entry += step) {
      const lo = i32[entry];
      if ((lo & PTE_MAPS) === 0 || (lo & PTE_SPECIAL) !== 0) continue;
      i32[entry] = lo & ~PTE_ACCESSED;
      const pfn = pfnOf(lo, entryHi(i32, entry, step));
      const order = (flags[pfn] & PG_ANON) === 0 ? folioOrder(mm.vm, pfn) : 0;
      const head = pfn - (order === 0 ? 0 : mm.vm.frames.index[pfn] % (1 << order));
      for (let page = head; page < head + (1 << order); page++) flags[page] &= ~PG_REFERENCED;
    }
  }
}
