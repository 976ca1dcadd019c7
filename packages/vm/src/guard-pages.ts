/**
 * Guard pages: entries that say that a page may not be touched, whatever its mapping allows.
 *
 * They cost a page table entry and no mapping of their own.
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { anonVmaPrepare } from './anon-vma.ts';
import { clearEntry, entryHi, setEntry } from './pgtable-shape.ts';
import { PteTableWalk, allocPte } from './pgtable.ts';
import { isGuardMarker } from './pte.ts';
import { VM_MAYBE_GUARD } from './vma.ts';
import type { VmArea } from './vma.ts';
import { zapPageRange } from './zap.ts';

/**
 * MADV_GUARD_INSTALL: makes every page of [start, end), which lies in `vma`, a guard page. What was there is gone.
 *
 * @returns 0; -ENOMEM, with guards up to where there was no memory for a table
 * @linux mm/madvise.c:madvise_guard_install
 */
export function installGuards(vma: VmArea, start: VirtAddr, end: VirtAddr): number {
  const { mm } = vma;
  const { i32 } = mm.vm.ram;
  const { entryWords, guardHi, guardLo } = mm.vm.tables;
  vma.flags |= VM_MAYBE_GUARD;
  // Anonymous memory with page tables has an anon_vma.
  if (vma.file === null && anonVmaPrepare(vma) !== 0) return -Errno.ENOMEM;
  zapPageRange(vma, start, end);
  for (let addr = start; addr < end; addr += PAGE_SIZE) {
    const entry = allocPte(mm, addr);
    if (entry < 0) return -Errno.ENOMEM;
    setEntry(i32, entry, entryWords, guardLo, guardHi);
  }
  return 0;
}

/** MADV_GUARD_REMOVE: what was a guard page in [start, end) is an empty page again; others stay. @linux mm/madvise.c:madvise_guard_remove */
export function removeGuards(vma: VmArea, start: VirtAddr, end: VirtAddr): void {
  const { mm } = vma;
  const { i32 } = mm.vm.ram;
  const walk = new PteTableWalk(mm, start, end);
  const { step } = walk;
  while (walk.next()) {
    if (walk.huge) continue;
    for (let i = 0, entry = walk.entry; i < walk.count; i++, entry += step) {
      if (!isGuardMarker(mm.vm.tables, i32[entry], entryHi(i32, entry, step))) continue;
      clearEntry(i32, entry, step);
    }
  }
}
