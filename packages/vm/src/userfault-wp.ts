/**
 * Write protection by userfaultfd: pages that are there have a bit of their entry for it, and where there are none a marker
 * keeps the place, so that a page of a file that is dropped and found again is protected still.
 *
 * @linux mm/userfaultfd.c, include/linux/mm_inline.h
 */
import { Errno, UFFD_FEATURE_WP_UNPOPULATED } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { MM_CP_UFFD_WP, MM_CP_UFFD_WP_RESOLVE, changeProtection } from './change-protection.ts';
import { isAligned } from './page-align.ts';
import { setEntry } from './pgtable-shape.ts';
import { MARKER_UFFD_WP, isUffdWp, markerHi, markerLo } from './pte.ts';
import type { UffdContext } from './userfaultfd.ts';
import { VM_HUGETLB, VM_UFFD_WP } from './vma.ts';
import type { VmArea } from './vma.ts';

/** Whether places without a page can be protected: in files always, in anonymous memory where that was asked for. @linux include/linux/userfaultfd_k.h:userfaultfd_wp_use_markers */
export function uffdWpUsesMarkers(vma: VmArea): boolean {
  if ((vma.flags & VM_UFFD_WP) === 0) return false;
  return vma.file !== null || (vma.uffd!.features & UFFD_FEATURE_WP_UNPOPULATED) !== 0;
}

/**
 * Leaves a marker at an entry of a file's mapping that was emptied, if what it had been was protected.
 *
 * @param lo what the entry was, with `hi`
 * @returns whether it did
 * @linux include/linux/mm_inline.h:pte_install_uffd_wp_if_needed
 */
export function leaveUffdWp(vma: VmArea, entry: number, lo: number, hi: number): boolean {
  const { ram, tables } = vma.mm.vm;
  if (vma.file === null || (vma.flags & VM_UFFD_WP) === 0 || !isUffdWp(tables, lo, hi)) return false;
  setEntry(ram.i32, entry, tables.entryWords, markerLo(tables, MARKER_UFFD_WP), markerHi(tables));
  return true;
}

/** Protects all of [start, end) of a mapping, or takes that off. @returns 0 or −ENOMEM @linux mm/userfaultfd.c:uffd_wp_range */
export function uffdWpRange(vma: VmArea, start: VirtAddr, end: VirtAddr, protect: boolean): number {
  const changed = changeProtection(vma, start, end, protect ? MM_CP_UFFD_WP : MM_CP_UFFD_WP_RESOLVE);
  return changed < 0 ? changed : 0;
}

/**
 * Protects the pages of [start, start + length) from stores, or lets them be stored to again.
 *
 * @returns 0; −ENOENT outside of mappings that were registered for it; −EINVAL for parts of huge pages of the pool; −ENOMEM
 * @linux mm/userfaultfd.c:mwriteprotect_range
 */
export function uffdWriteProtect(ctx: UffdContext, start: VirtAddr, length: number, protect: boolean): number {
  const { mm } = ctx;
  const end = start + length;
  let result = -Errno.ENOENT;
  for (let vma = mm.vmas.find(start); vma !== undefined && vma.start < end; vma = mm.vmas.find(vma.end)) {
    if ((vma.flags & VM_UFFD_WP) === 0) return -Errno.ENOENT;
    if ((vma.flags & VM_HUGETLB) !== 0 && !(isAligned(start, mm.vm.tables.pmdSize) && isAligned(length, mm.vm.tables.pmdSize))) return -Errno.EINVAL;
    result = uffdWpRange(vma, Math.max(start, vma.start), Math.min(end, vma.end), protect);
    if (result !== 0) return result;
  }
  return result;
}
