/**
 * Changing what mappings may be used for.
 */
import { Errno, PAGE_SIZE, PROT_EXEC, PROT_GROWSDOWN, PROT_GROWSUP, PROT_READ, PROT_SEM, PROT_WRITE, READ_IMPLIES_EXEC } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { changeProtection } from './change-protection.ts';
import { populateRange } from './gup.ts';
import { mayExpandVm, vmStatAccount } from './limits.ts';
import type { MmStruct } from './mm-struct.ts';
import { vmEnoughMemory, vmUnacctMemory } from './overcommit.ts';
import { offsetInPage, pageAlign, rangeEnd, rangeWraps } from './page-align.ts';
import { vmaModify } from './vma-merge.ts';
import {
  VM_ACCESS_FLAGS,
  VM_ACCOUNT,
  VM_EXEC,
  VM_GROWSDOWN,
  VM_HUGETLB,
  VM_LOCKED,
  VM_MAYEXEC,
  VM_NORESERVE,
  VM_SEALED,
  VM_SHARED,
  VM_WRITE,
} from './vma.ts';
import type { VmArea } from './vma.ts';

const ALL_PROT = PROT_READ | PROT_WRITE | PROT_EXEC | PROT_SEM;
const NO_PKEY = -1;
/** From a VM_MAY… flag to the flag that it allows. */
const VM_MAY_SHIFT = 4;

/**
 * Gives [start, start + length) the rights `prot`. Up to the first hole or refusal the change is made, and stays.
 *
 * @param personality of the caller: with READ_IMPLIES_EXEC, mappings that may be executable become so with PROT_READ
 * @param pkey a protection key, of which the CPUs have none; −1 for none
 * @returns 0; -EINVAL for a misaligned address, unknown rights, both directions of growth, or GROWSDOWN where nothing
 *   grows; -ENOMEM for a hole, a limit, or lack of memory; -EACCES for rights that the mapping can never have;
 *   -EPERM for one that is sealed
 * @linux mm/mprotect.c:do_mprotect_pkey
 */
export function doMprotect(
  mm: MmStruct,
  start: VirtAddr,
  length: number,
  prot: number,
  personality = 0,
  pkey = NO_PKEY,
): number {
  const grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
  const rights = prot & ~(PROT_GROWSDOWN | PROT_GROWSUP);
  if (grows === (PROT_GROWSDOWN | PROT_GROWSUP)) return -Errno.EINVAL;
  if (offsetInPage(start) !== 0) return -Errno.EINVAL;
  if (length === 0) return 0;
  const bytes = pageAlign(length);
  if (bytes === 0 || rangeWraps(mm.registerRange, start, bytes)) return -Errno.ENOMEM;
  if ((rights & ~ALL_PROT) !== 0) return -Errno.EINVAL;
  if (pkey !== NO_PKEY) return -Errno.EINVAL;
  if (start < 0) return -Errno.ENOMEM;
  const implied = (personality & READ_IMPLIES_EXEC) !== 0 && (rights & PROT_READ) !== 0 ? VM_EXEC : 0;
  return protectRange(mm, start, rangeEnd(start, bytes), rights, implied, grows);
}

function protectRange(
  mm: MmStruct,
  from: VirtAddr,
  to: VirtAddr,
  rights: number,
  implied: number,
  grows: number,
): number {
  const { vmas } = mm;
  let start = from;
  let vma = vmas.find(start);
  if (vma === undefined || vma.start >= to) return -Errno.ENOMEM;
  if ((grows & PROT_GROWSDOWN) !== 0) {
    if ((vma.flags & VM_GROWSDOWN) === 0) return -Errno.EINVAL;
    start = vma.start;
  } else {
    if (vma.start > start) return -Errno.ENOMEM;
    // Nothing grows upwards here.
    if ((grows & PROT_GROWSUP) !== 0) return -Errno.EINVAL;
  }
  for (;;) {
    const granted = rights | ((vma.flags & VM_MAYEXEC) !== 0 ? implied : 0);
    const flags = granted & VM_ACCESS_FLAGS | (vma.flags & ~VM_ACCESS_FLAGS);
    if ((flags & ~(flags >>> VM_MAY_SHIFT) & VM_ACCESS_FLAGS) !== 0) return -Errno.EACCES;
    const end = Math.min(vma.end, to);
    const changed = mprotectFixup(vma, start, end, flags);
    if (typeof changed === 'number') return changed;
    // What it became part of may have these rights further up already.
    start = changed.end;
    if (start >= to) return 0;
    vma = vmas.get(start);
    if (vma === undefined) return -Errno.ENOMEM;
  }
}

/**
 * Changes the part [start, end) of one mapping to `newFlags`.
 *
 * @returns the mapping that it is part of now; -ENOMEM, or -EPERM where it is sealed, with the rights unchanged
 * @linux mm/mprotect.c:mprotect_fixup
 */
function mprotectFixup(vma: VmArea, start: VirtAddr, end: VirtAddr, newFlags: number): VmArea | number {
  const { mm } = vma;
  const oldFlags = vma.flags;
  if ((oldFlags & VM_SEALED) !== 0) return -Errno.EPERM;
  if (newFlags === oldFlags) return vma;
  const nrPages = (end - start) / PAGE_SIZE;
  let flags = newFlags;
  let charged = 0;
  if ((flags & VM_WRITE) !== 0) {
    // Only what becomes data by this change is held to the data limit.
    if (!mayExpandVm(mm, flags, nrPages) && mayExpandVm(mm, oldFlags, nrPages)) return -Errno.ENOMEM;
    if ((oldFlags & (VM_ACCOUNT | VM_WRITE | VM_HUGETLB | VM_SHARED | VM_NORESERVE)) === 0) {
      if (vmEnoughMemory(mm.vm, mm, nrPages) !== 0) return -Errno.ENOMEM;
      charged = nrPages;
      flags |= VM_ACCOUNT;
    }
  } else if ((oldFlags & VM_ACCOUNT) !== 0 && vma.file === null && vma.anonVma === null) {
    // Nothing was ever stored here, so nothing needs to be promised any more.
    flags &= ~VM_ACCOUNT;
  }
  const changed = vmaModify(vma, start, end, flags);
  if (typeof changed === 'number') {
    if (charged !== 0) vmUnacctMemory(mm.vm, charged);
    return changed;
  }
  changeProtection(changed, start, end);
  if ((oldFlags & VM_ACCOUNT) !== 0 && (flags & VM_ACCOUNT) === 0) vmUnacctMemory(mm.vm, nrPages);
  if ((oldFlags & (VM_WRITE | VM_SHARED | VM_LOCKED)) === VM_LOCKED && (flags & VM_WRITE) !== 0) {
    populateRange(mm, start, end);
  }
  vmStatAccount(mm, oldFlags, -nrPages);
  vmStatAccount(mm, flags, nrPages);
  return changed;
}
