/**
 * What an address space adds up to, and the limits it is held to.
 */
import { CAP_IPC_LOCK, PAGE_SIZE, RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK } from '@pagelab/abi';
import type { MmStruct } from './mm-struct.ts';
import { VM_EXEC, VM_GROWSDOWN, VM_LOCKED, VM_SHARED, VM_WRITE } from './vma.ts';

/** Private writable memory that is not stack. @linux mm/vma.h:is_data_mapping */
export function isDataMapping(flags: number): boolean {
  return (flags & (VM_WRITE | VM_SHARED | VM_GROWSDOWN)) === VM_WRITE;
}

/** Code: executable, not writable, not stack. @linux mm/vma.h:is_exec_mapping */
export function isExecMapping(flags: number): boolean {
  return (flags & (VM_EXEC | VM_WRITE | VM_GROWSDOWN)) === VM_EXEC;
}

/** A mapping that grows, whatever its rights. @linux mm/vma.h:is_stack_mapping */
export function isStackMapping(flags: number): boolean {
  return (flags & VM_GROWSDOWN) !== 0;
}

/** Soft limit of a resource that is counted in pages; `Infinity` for none. */
export function rlimitPages(mm: MmStruct, resource: number): number {
  const bytes = mm.limits.rlimit(resource);
  return bytes < 0 ? Infinity : Math.floor(bytes / PAGE_SIZE);
}

/**
 * Whether `nrPages` more pages with these flags keep within RLIMIT_AS and RLIMIT_DATA. A soft data limit of 0 does not
 * bind while the hard one allows: an old tool sets it and relies on that.
 *
 * @linux mm/vma.c:may_expand_vm
 */
export function mayExpandVm(mm: MmStruct, flags: number, nrPages: number): boolean {
  if (mm.totalVm + nrPages > rlimitPages(mm, RLIMIT_AS)) return false;
  if (isDataMapping(flags) && mm.dataVm + nrPages > rlimitPages(mm, RLIMIT_DATA)) {
    if (mm.limits.rlimit(RLIMIT_DATA) !== 0) return false;
    const hard = mm.limits.rlimitMax(RLIMIT_DATA);
    return hard < 0 || mm.dataVm + nrPages <= Math.floor(hard / PAGE_SIZE);
  }
  return true;
}

/** Adds `nrPages` pages, fewer than 0 to take away, to the totals that these flags belong to. @linux mm/vma.c:vm_stat_account */
export function vmStatAccount(mm: MmStruct, flags: number, nrPages: number): void {
  mm.totalVm += nrPages;
  if (isExecMapping(flags)) mm.execVm += nrPages;
  else if (isStackMapping(flags)) mm.stackVm += nrPages;
  else if (isDataMapping(flags)) mm.dataVm += nrPages;
}

/** Notes the largest size so far; to be called before the size falls. @linux include/linux/mm.h:update_hiwater_vm */
export function updateHiwaterVm(mm: MmStruct): void {
  if (mm.hiwaterVm < mm.totalVm) mm.hiwaterVm = mm.totalVm;
}

/** Whether the caller may lock memory at all. @linux mm/mlock.c:can_do_mlock */
export function canDoMlock(mm: MmStruct): boolean {
  return mm.limits.rlimit(RLIMIT_MEMLOCK) !== 0 || mm.limits.capable(CAP_IPC_LOCK);
}

/** Whether `bytes` more of a mapping with these flags keep within RLIMIT_MEMLOCK. @linux mm/vma.c:mlock_future_ok */
export function mlockFutureOk(mm: MmStruct, flags: number, bytes: number): boolean {
  if ((flags & VM_LOCKED) === 0 || mm.limits.capable(CAP_IPC_LOCK)) return true;
  return Math.floor(bytes / PAGE_SIZE) + mm.lockedVm <= rlimitPages(mm, RLIMIT_MEMLOCK);
}
