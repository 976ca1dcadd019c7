/**
 * Making one huge page of the small ones in a block, as MADV_COLLAPSE asks for.
 *
 * @linux mm/khugepaged.c
 */
import { isKsmZero, unmapKsmZero } from './ksm-page.ts';
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_PS, PTE_UFFD_WP_LO } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { GFP_TRANSHUGE, GFP_TRANSHUGE_LIGHT, VM_EVENT, __GFP_ZERO } from '@pagelab/mm-core';
import { copyUserPage } from './highmem.ts';
import { collapseFileBlock } from './collapse-file.ts';
import { fileThpAllowed, mapNewHuge, thpDisabled } from './huge-memory.ts';
import { chargeForMm } from './memcg-charge.ts';
import { MM_ANONPAGES } from './mm-struct.ts';
import { clearEntry, entryHi } from './pgtable-shape.ts';
import { findPmd, tableBelow } from './pgtable.ts';
import { PTE_MAPS, PTE_SPECIAL, pfnOf } from './pte.ts';
import { removeRmap } from './rmap.ts';
import { lruAddDrainAll } from './swap.ts';
import type { Vm } from './vm.ts';
import { VM_SPECIAL } from './vma.ts';
import type { VmArea } from './vma.ts';

/**
 * MADV_COLLAPSE: makes huge pages of all blocks that lie in [start, end) of `vma`, whatever the machine is set to.
 *
 * @returns 0; −EINVAL where the mapping is not for huge pages, a block has nothing to collapse, or the range lies inside a
 *   block; −ENOMEM without a free block; −EBUSY where a group may have no more; −EAGAIN for pages that something else refers
 *   to. Blocks before one that failed are collapsed, and those behind it, unless that was for want of memory
 * @linux mm/khugepaged.c:madvise_collapse
 */
export function collapse(vma: VmArea, start: VirtAddr, end: VirtAddr): number {
  const { pmdSize } = vma.mm.vm.tables;
  // The last block is looked for a block below the end: of a mapping that ends in the lowest block, Linux takes that for one.
  const holdsBlock = Math.ceil(vma.start / pmdSize) < Math.floor(vma.end / pmdSize) || vma.end < pmdSize;
  // Who asks has asked for huge pages.
  if (!holdsBlock || (vma.flags & VM_SPECIAL) !== 0 || thpDisabled(vma, true)) return -Errno.EINVAL;
  const isFile = vma.file !== null;
  if (isFile ? !fileThpAllowed(vma, true) : vma.anonVma === null) return -Errno.EINVAL;
  const first = Math.ceil(start / pmdSize) * pmdSize;
  const last = Math.floor(end / pmdSize) * pmdSize;
  // A range inside a block holds less than no block: that many were not made.
  if (first > last) return -Errno.EINVAL;
  lruAddDrainAll(vma.mm.vm);
  let failed = 0;
  for (let block = first; block < last; block += pmdSize) {
    const error = isFile ? collapseFileBlock(vma, block, null) : collapseBlock(vma, block, null);
    if (error < 0) failed = error;
    if (isFile ? error < 0 && error !== -Errno.EAGAIN : error === -Errno.ENOMEM || error === -Errno.EBUSY) break;
  }
  return failed;
}

/** Whether a block is worth it, found out entry by entry. */
export interface BlockCheck {
  begin(): void;
  /** An entry without a page, or with the zero page. @returns whether to go on */
  missing(vm: Vm): boolean;
  /** An entry, its low word, and the page that it shows. @returns whether to go on */
  present(vm: Vm, lo: number, pfn: Pfn): boolean;
  /** After the last. */
  end(): boolean;
}

/**
 * Makes a huge page of the small ones in a block.
 *
 * @param check what has to hold of the block; `null` where it was asked for
 * @returns 1 where it was done, 0 where there was nothing to do; −EINVAL where the block does not suit, −ENOMEM without one,
 *   −EBUSY where the group may have no more
 * @linux mm/khugepaged.c:hpage_collapse_scan_pmd, collapse_huge_page
 */
export function collapseBlock(vma: VmArea, block: VirtAddr, check: BlockCheck | null): number {
  const { mm } = vma;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { entryWords: step, hugeOrder, ptrsPerPte } = vm.tables;
  const { events } = vm.pages;
  const pmdEntry = findPmd(mm, block);
  if (pmdEntry < 0 || i32[pmdEntry] === 0) return -Errno.EINVAL;
  // The huge zero page is as good as any. @linux mm/khugepaged.c:check_pmd_state
  if ((i32[pmdEntry] & PTE_PS) !== 0) return 0;
  const table = tableBelow(vm, pmdEntry);
  check?.begin();
  for (let entry = table; entry < table + ptrsPerPte * step; entry += step) {
    const lo = i32[entry];
    const hi = entryHi(i32, entry, step);
    if ((lo & PTE_MAPS) === 0 && (lo | hi) !== 0) return -Errno.EINVAL;
    const shown = (lo & PTE_MAPS) !== 0 && (lo & PTE_SPECIAL) === 0;
    // A huge entry would hide what a program wants to be told of.
    if (vma.uffd !== null && (!shown || (lo & PTE_UFFD_WP_LO) !== 0)) return -Errno.EINVAL;
    if (check === null) continue;
    if (!(shown ? check.present(vm, lo, pfnOf(lo, hi)) : check.missing(vm))) return -Errno.EINVAL;
  }
  if (check !== null && !check.end()) return -Errno.EINVAL;
  if (vma.anonVma === null) return -Errno.EINVAL;
  const gfp = check === null || vm.khugepaged.defrag ? GFP_TRANSHUGE : GFP_TRANSHUGE_LIGHT;
  const huge = vm.pages.allocPages(gfp | __GFP_ZERO, hugeOrder);
  if (huge < 0) {
    events[VM_EVENT.THP_COLLAPSE_ALLOC_FAILED]++;
    return -Errno.ENOMEM;
  }
  events[VM_EVENT.THP_COLLAPSE_ALLOC]++;
  if (!chargeForMm(mm, huge, ptrsPerPte, gfp)) {
    vm.pages.putPage(huge);
    return -Errno.EBUSY;
  }
  // Getting the block may have come to swap some of the pages out.
  for (let entry = table; entry < table + ptrsPerPte * step; entry += step) {
    if ((i32[entry] & PTE_MAPS) !== 0 || (i32[entry] | entryHi(i32, entry, step)) === 0) continue;
    vm.pages.putPage(huge);
    return -Errno.EAGAIN;
  }

  const { gather } = vm;
  gather.begin(mm);
  for (let i = 0; i < ptrsPerPte; i++) {
    const entry = table + i * step;
    const lo = i32[entry];
    const hi = entryHi(i32, entry, step);
    clearEntry(i32, entry, step);
    if ((lo & PTE_MAPS) === 0) continue;
    if ((lo & PTE_SPECIAL) !== 0) {
      if (isKsmZero(lo)) unmapKsmZero(mm);
      continue;
    }
    const pfn = pfnOf(lo, hi);
    copyUserPage(vm, huge + i, pfn);
    vm.clock.advance(vm.costs.copyPage);
    mm.rss[MM_ANONPAGES]--;
    removeRmap(vm, pfn, vma);
    gather.addPage(pfn);
  }
  // The table waits below the huge entry.
  mm.depositedTables.push(pfnOf(i32[pmdEntry], entryHi(i32, pmdEntry, step)));
  mapNewHuge(vma, block, pmdEntry, huge);
  gather.noteRange(block, block + ptrsPerPte * PAGE_SIZE);
  gather.finish();
  return 1;
}
