/**
 * How much memory may be promised.
 *
 * `Vm.committedAs` counts the pages that private writable and shared anonymous mappings may come to need. It is charged
 * before a mapping is made and given back with it:
 *
 *     committedAs === sum over VMAs with VM_ACCOUNT of their pages, shared ones aside
 *                   + pages of accounted shared memory objects
 */
import { CAP_SYS_ADMIN, Errno } from '@pagelab/abi';
import { hugetlbTotalPages } from './hugetlb.ts';
import type { MmStruct } from './mm-struct.ts';
import type { Vm } from './vm.ts';
import { VM_HUGETLB, VM_NORESERVE, VM_SHARED, VM_WRITE } from './vma.ts';

/** Values of `vm.overcommit_memory`. */
export const OVERCOMMIT_GUESS = 0;
export const OVERCOMMIT_ALWAYS = 1;
export const OVERCOMMIT_NEVER = 2;

const KIB_PER_PAGE_SHIFT = 2;

/**
 * Pages that mode 2 lets be promised in all: a share of RAM or a fixed amount, and the swap space.
 *
 * @linux mm/util.c:vm_commit_limit
 */
export function vmCommitLimit(vm: Vm): number {
  const { overcommitKbytes, overcommitRatio } = vm.sysctl;
  const ram =
    overcommitKbytes !== 0
      ? Math.floor(overcommitKbytes / 4)
      : Math.floor(((vm.pages.totalramPages - hugetlbTotalPages(vm)) * overcommitRatio) / 100);
  return ram + vm.totalSwapPages;
}

/**
 * Charges `pages` pages against what may be promised. `mm` is the address space that asks, `null` for none.
 *
 * @returns 0, or -ENOMEM with nothing charged
 * @linux mm/util.c:__vm_enough_memory
 */
export function vmEnoughMemory(vm: Vm, mm: MmStruct | null, pages: number): number {
  const { sysctl } = vm;
  if (sysctl.overcommitMemory === OVERCOMMIT_GUESS) {
    // Only what can never be met is refused: one request beyond all there is.
    if (pages > vm.pages.totalramPages + vm.totalSwapPages) return refuse(vm, pages);
  } else if (sysctl.overcommitMemory === OVERCOMMIT_NEVER) {
    let allowed = vmCommitLimit(vm);
    if (mm === null || !mm.limits.capable(CAP_SYS_ADMIN)) allowed -= sysctl.adminReserveKbytes >> KIB_PER_PAGE_SHIFT;
    if (mm !== null) {
      // Room for the user to clean up after one process that takes all.
      allowed -= Math.min(Math.floor(mm.totalVm / 32), sysctl.userReserveKbytes >> KIB_PER_PAGE_SHIFT);
    }
    if (vm.committedAs + pages >= allowed) return refuse(vm, pages);
  }
  vm.committedAs += pages;
  return 0;
}

function refuse(vm: Vm, pages: number): number {
  vm.commitRefused(pages);
  return -Errno.ENOMEM;
}

/** Charges `pages` pages whatever the limit. @linux include/linux/mman.h:vm_acct_memory */
export function vmAcctMemory(vm: Vm, pages: number): void {
  vm.committedAs += pages;
}

/** Takes back a charge of `pages` pages. @linux include/linux/mman.h:vm_unacct_memory */
export function vmUnacctMemory(vm: Vm, pages: number): void {
  vm.committedAs -= pages;
}

/**
 * Whether a mapping with these flags is charged when it is made: private and writable, unless NORESERVE. Shared
 * anonymous memory is charged by its own object.
 *
 * @linux mm/vma.c:accountable_mapping
 */
export function accountableMapping(flags: number): boolean {
  return (flags & (VM_NORESERVE | VM_SHARED | VM_WRITE | VM_HUGETLB)) === VM_WRITE;
}
