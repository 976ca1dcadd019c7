/**
 * Huge pages of the pool where a program serves the faults.
 *
 * @linux mm/userfaultfd.c:mfill_atomic_hugetlb, mm/hugetlb.c:hugetlb_mfill_atomic_pte
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_UFFD_WP_LO } from '@pagelab/hw';
import { PG_UPTODATE } from '@pagelab/mm-core';
import { addHugetlbPage, mapHugetlbPage, ownHugetlbPage } from './hugetlb-fault.ts';
import { allocHugetlbPage } from './hugetlb.ts';
import { isAligned } from './page-align.ts';
import { entryHi, setEntry } from './pgtable-shape.ts';
import { allocPmd } from './pgtable.ts';
import { MARKER_POISONED, hugeMarkerLo, isMarker, markerHi } from './pte.ts';
import { linearPageIndex } from './rmap.ts';
import type { UffdFill } from './userfault-fill.ts';
import { readFill } from './userfault-fill.ts';
import { VM_SHARED } from './vma.ts';
import type { VmArea } from './vma.ts';

/**
 * Fills huge pages of `vma` from `start` on.
 *
 * @returns bytes filled, where that is any; else −errno: EINVAL for zeros, and for parts of pages; EEXIST, EFAULT, ENOMEM
 */
export function uffdFillHugetlb(vma: VmArea, start: VirtAddr, length: number, fill: UffdFill): number {
  const { pmdSize } = vma.mm.vm.tables;
  if (fill.kind === 'zero' || !isAligned(start, pmdSize) || !isAligned(length, pmdSize)) return -Errno.EINVAL;
  let done = 0;
  let error = 0;
  while (done < length && error === 0) {
    error = fillHuge(vma, start + done, fill, done);
    if (error === 0) done += pmdSize;
  }
  return done > 0 ? done : error;
}

function fillHuge(vma: VmArea, address: VirtAddr, fill: UffdFill, offset: number): number {
  const { vm } = vma.mm;
  const { i32 } = vm.ram;
  const { entryWords: step, pmdSize } = vm.tables;
  const entry = allocPmd(vma.mm, address);
  if (entry < 0) return -Errno.ENOMEM;
  const lo = i32[entry];
  const isEmpty = lo === 0;
  const isFree = isEmpty || isMarker(vm.tables, lo, entryHi(i32, entry, step));
  if (fill.kind !== 'continue' && !isFree) return -Errno.EEXIST;
  const { inode } = vma.file!;
  const pgoff = linearPageIndex(vma, address);
  const isShared = (vma.flags & VM_SHARED) !== 0;
  const cached = inode.mapping.pages.get(pgoff);
  switch (fill.kind) {
    case 'poison':
      if (!isEmpty) return -Errno.EEXIST;
      setEntry(i32, entry, step, hugeMarkerLo(vm.tables, MARKER_POISONED), markerHi(vm.tables));
      return 0;
    case 'continue':
      if (cached < 0) return -Errno.EFAULT;
      if (vm.hwpoison.raw.has(cached)) return -Errno.EIO;
      if (!isFree) return -Errno.EEXIST;
      vm.frames.refcount[cached]++;
      mapHugetlbPage(vma, entry, cached, isShared && !fill.protect);
      break;
    default: {
      if (isShared && cached >= 0) return -Errno.EEXIST;
      const bytes = readFill(vma, address, fill, offset, pmdSize);
      if (typeof bytes === 'number') return bytes;
      if (isShared && pgoff * PAGE_SIZE >= inode.size) return -Errno.EFAULT;
      const head = allocHugetlbPage(vma, address, false);
      if (head < 0) return -Errno.ENOMEM;
      for (let i = 0; i < vm.tables.ptrsPerPte; i++) vm.ram.u8.set(bytes.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE), vm.ram.frameWord(head + i) * 4);
      vm.frames.flags[head] |= PG_UPTODATE;
      if (isShared) addHugetlbPage(vma, head, pgoff);
      else ownHugetlbPage(vma, head, pgoff);
      mapHugetlbPage(vma, entry, head, !fill.protect);
    }
  }
  if (fill.protect) i32[entry] |= PTE_UFFD_WP_LO;
  return 0;
}
