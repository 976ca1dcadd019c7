/**
 * Which pages of a mapping or file of huge pages are promised.
 *
 * A shared mapping's promises are the file's: a page that is in the file's set is promised or there. A private mapping has
 * its own: every page is promised to the process that made it until the page is in the set, which says that the promise
 * was used. Children have none.
 *
 * @linux mm/hugetlb.c:resv_map
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { Inode } from './file.ts';
import { hugetlbAcctMemory } from './hugetlb.ts';
import type { Vm } from './vm.ts';
import { VM_MAYSHARE, VM_NORESERVE } from './vma.ts';
import type { VmArea } from './vma.ts';

/** Promises of a private mapping, for all parts that it is cut into. @linux include/linux/hugetlb.h:resv_map */
export interface HugetlbReservation {
  /** Huge pages of the file whose promise was used. */
  readonly used: Set<number>;
}

/** Number of a mapping's huge page in its file. @linux mm/hugetlb.c:vma_hugecache_offset */
export function hugeIndex(vma: VmArea, address: VirtAddr): number {
  return Math.floor((vma.pgoff + (address - vma.start) / PAGE_SIZE) / vma.mm.vm.tables.ptrsPerPte);
}

/**
 * Promises huge pages [from, to) of a file to a mapping that is about to be made, or to the file itself.
 *
 * @param vmFlags of the mapping
 * @returns what a private mapping is to keep; `null` for any other; −ENOMEM
 * @linux mm/hugetlb.c:hugetlb_reserve_pages
 */
export function hugetlbReservePages(vm: Vm, inode: Inode, from: number, to: number, vmFlags: number): HugetlbReservation | null | number {
  const shared = (vmFlags & VM_MAYSHARE) !== 0;
  if ((vmFlags & VM_NORESERVE) !== 0) return null;
  if (!shared) return hugetlbAcctMemory(vm, to - from) === 0 ? { used: new Set() } : -Errno.ENOMEM;
  const reserved = (inode.hugeReserved ??= new Set());
  if (hugetlbAcctMemory(vm, to - from - countIn(reserved, from, to)) !== 0) return -Errno.ENOMEM;
  for (let index = from; index < to; index++) reserved.add(index);
  return null;
}

/** How many of a set lie in [from, to), which may be far larger. */
function countIn(set: ReadonlySet<number>, from: number, to: number): number {
  let count = 0;
  for (const index of set) if (index >= from && index < to) count++;
  return count;
}

/** Takes a promise back that came to nothing. */
export function dropReservation(vm: Vm, reservation: HugetlbReservation | null, pages: number): void {
  if (reservation !== null) hugetlbAcctMemory(vm, -pages);
}

/**
 * Pages that a fault at `address` needs beyond what the mapping was promised: 0 or 1.
 *
 * @linux mm/hugetlb.c:vma_needs_reservation
 */
export function needsReservation(vma: VmArea, address: VirtAddr): number {
  const index = hugeIndex(vma, address);
  if ((vma.flags & VM_MAYSHARE) !== 0) return vma.file!.inode.hugeReserved?.has(index) === true ? 0 : 1;
  return vma.resv === null || vma.resv.used.has(index) ? 1 : 0;
}

/** Notes that a page was taken for `address`. @linux mm/hugetlb.c:vma_commit_reservation */
export function commitReservation(vma: VmArea, address: VirtAddr): void {
  const index = hugeIndex(vma, address);
  if ((vma.flags & VM_MAYSHARE) !== 0) (vma.file!.inode.hugeReserved ??= new Set()).add(index);
  else vma.resv?.used.add(index);
}

/** A private page goes while its mapping stays: it is promised again, as far as the pool still has it. @linux mm/hugetlb.c:vma_add_reservation */
export function restoreReservation(vma: VmArea, address: VirtAddr): void {
  const { vm } = vma.mm;
  if (vma.resv === null || vm.hugetlb.surplusHugePages > 0 || !vma.resv.used.delete(hugeIndex(vma, address))) return;
  vm.hugetlb.resvHugePages++;
}

/** A mapping goes: what it was promised and did not use is free. @linux mm/hugetlb.c:hugetlb_vm_op_close */
export function closeReservation(vma: VmArea): void {
  const { resv } = vma;
  vma.resv = null;
  if (resv === null) return;
  const from = hugeIndex(vma, vma.start);
  const to = hugeIndex(vma, vma.end);
  const unused = to - from - countIn(resv.used, from, to);
  if (unused > 0) hugetlbAcctMemory(vma.mm.vm, -unused);
}

/**
 * Pages [from, to) of a file go: its promises of them, too.
 *
 * @param freed how many pages were there
 * @linux mm/hugetlb.c:hugetlb_unreserve_pages
 */
export function hugetlbUnreservePages(vm: Vm, inode: Inode, from: number, to: number, freed: number): void {
  const { hugeReserved } = inode;
  if (hugeReserved === null) return;
  let gone = 0;
  for (const index of hugeReserved) {
    if (index < from || index >= to) continue;
    hugeReserved.delete(index);
    gone++;
  }
  hugetlbAcctMemory(vm, -(gone - freed));
}
