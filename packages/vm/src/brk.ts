/**
 * The heap: the memory between the end of the program and the break.
 */
import { Errno, MAP_FIXED, PAGE_SIZE, READ_IMPLIES_EXEC, RLIMIT_DATA } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { populateRange } from './gup.ts';
import { mayExpandVm, mlockFutureOk, vmStatAccount } from './limits.ts';
import { ksmVmaFlags } from './ksm.ts';
import type { MmStruct } from './mm-struct.ts';
import { unmapFrom } from './munmap.ts';
import { vmEnoughMemory, vmUnacctMemory } from './overcommit.ts';
import { pageAlign } from './page-align.ts';
import { getUnmappedArea } from './unmapped-area.ts';
import { expandOnly } from './vma-merge.ts';
import { vmAreaAlloc, vmStartGap, vmaLink, vmaReserve } from './vma-tree.ts';
import { VM_ACCOUNT, VM_EXEC, VM_LOCKED, VM_MAYEXEC, VM_MAYREAD, VM_MAYWRITE, VM_READ, VM_WRITE } from './vma.ts';
import type { VmArea } from './vma.ts';

/** What data may be used for. @linux arch/x86/include/asm/page_types.h:VM_DATA_DEFAULT_FLAGS */
export const VM_DATA_DEFAULT_FLAGS = VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC;

/**
 * Moves the break to `brk`, mapping or unmapping whole pages.
 *
 * @param personality of the caller: with READ_IMPLIES_EXEC what is mapped may be executed
 * @returns the break in force afterwards: `brk`, or the old one where that is below the heap, beyond a limit or in the
 *   way of another mapping; never an error
 * @linux mm/mmap.c:brk
 */
export function doBrk(mm: MmStruct, brk: VirtAddr, personality = 0): VirtAddr {
  const old = mm.brk;
  // An address of the upper half is negative here, and beyond everything.
  if (brk < mm.startBrk || brk > mm.taskSize) return old;
  const dataLimit = mm.limits.rlimit(RLIMIT_DATA);
  if (dataLimit >= 0 && brk - mm.startBrk + (mm.endData - mm.startData) > dataLimit) return old;

  const newEnd = pageAlign(brk);
  const oldEnd = pageAlign(old);
  if (newEnd === oldEnd) {
    mm.brk = brk;
    return brk;
  }
  if (brk <= old) {
    const first = mm.vmas.find(newEnd);
    if (first === undefined || first.start >= oldEnd) return old;
    if (unmapFrom(mm, first, newEnd, oldEnd) !== 0) return old;
    mm.brk = brk;
    return brk;
  }

  const length = newEnd - oldEnd;
  if (getUnmappedArea(mm, null, oldEnd, length, 0, MAP_FIXED) < 0) return old;
  if (!mlockFutureOk(mm, mm.defFlags, length)) return old;
  const { vmas } = mm;
  const position = vmas.locate(oldEnd);
  const next = vmas.valueAt(position);
  // One page stays free above the heap, and what a growing mapping claims.
  if (next !== undefined && newEnd + PAGE_SIZE > vmStartGap(next)) return old;
  const prev = vmas.valueAt(position < 0 ? vmas.lastPosition() : vmas.before(position));
  // The program's own data, which ends where the heap begins, never becomes part of it.
  const heap = prev !== undefined && prev.end > mm.startBrk ? prev : undefined;
  const implied = (personality & READ_IMPLIES_EXEC) !== 0 ? VM_EXEC : 0;
  if (doBrkFlags(mm, heap, oldEnd, length, implied) !== 0) return old;
  mm.brk = brk;
  if ((mm.defFlags & VM_LOCKED) !== 0) populateRange(mm, oldEnd, newEnd);
  return brk;
}

/**
 * Maps `length` bytes of private zero memory at the free address `addr`, as part of `below` where it ends there.
 * `extraFlags` is VM_EXEC or 0.
 *
 * @returns 0 or -ENOMEM
 * @linux mm/vma.c:do_brk_flags
 */
export function doBrkFlags(
  mm: MmStruct,
  below: VmArea | undefined,
  addr: VirtAddr,
  length: number,
  extraFlags: number,
): number {
  const { vm } = mm;
  const flags = ksmVmaFlags(mm, extraFlags | VM_DATA_DEFAULT_FLAGS | VM_ACCOUNT | mm.defFlags, false);
  const nrPages = length / PAGE_SIZE;
  if (!mayExpandVm(mm, flags, nrPages) || mm.mapCount > vm.sysctl.maxMapCount) return -Errno.ENOMEM;
  if (vmEnoughMemory(vm, mm, nrPages) !== 0) return -Errno.ENOMEM;
  const range = mm.mergeRange;
  range.flags = flags;
  range.droppable = false;
  range.pgoff = addr / PAGE_SIZE;
  range.file = null;
  range.zeroFile = null;
  range.anonVma = null;
  range.policy = null;
  range.uffd = null;
  range.uffdMinor = false;
  range.source = null;
  if (below === undefined || !expandOnly(below, addr, addr + length, range)) {
    const vma = vmaReserve(mm, 1) === 0 ? vmAreaAlloc(mm, addr, addr + length, flags, addr / PAGE_SIZE) : null;
    if (vma === null) {
      vmUnacctMemory(vm, nrPages);
      return -Errno.ENOMEM;
    }
    vmaLink(vma);
  }
  vmStatAccount(mm, flags, nrPages);
  if ((flags & VM_LOCKED) !== 0) mm.lockedVm += nrPages;
  return 0;
}
