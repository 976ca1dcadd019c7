/**
 * Mappings that grow downwards when the address below them is touched.
 */
import { Errno, PAGE_SIZE, RLIMIT_STACK } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { anonVmaPrepare } from './anon-vma.ts';
import { mayExpandVm, mlockFutureOk, vmStatAccount } from './limits.ts';
import { vmEnoughMemory, vmUnacctMemory } from './overcommit.ts';
import { pageAlignDown } from './page-align.ts';
import { vmaPrev, vmaResize } from './vma-tree.ts';
import { VM_ACCESS_FLAGS, VM_ACCOUNT, VM_GROWSDOWN, VM_LOCKED } from './vma.ts';
import type { VmArea } from './vma.ts';

/**
 * Grows `vma` down to the page of `address`, which lies below it and above every other mapping below it. The distance
 * does not matter; what counts is the guard gap to an accessible mapping below that does not grow itself, and the limits.
 *
 * @returns 0; -EFAULT for a mapping that does not grow; -EPERM below `vm.mmap_min_addr`; -ENOMEM for the guard gap, a
 *   limit, or lack of memory
 * @linux mm/vma.c:expand_downwards
 */
export function expandStack(vma: VmArea, address: VirtAddr): number {
  if ((vma.flags & VM_GROWSDOWN) === 0) return -Errno.EFAULT;
  const { mm } = vma;
  const { vm } = mm;
  const start = pageAlignDown(address);
  if (start < vm.sysctl.mmapMinAddr) return -Errno.EPERM;
  const prev = vmaPrev(vma);
  if (prev !== undefined && (prev.flags & VM_GROWSDOWN) === 0 && (prev.flags & VM_ACCESS_FLAGS) !== 0) {
    if (start - prev.end < vm.sysctl.stackGuardGap * PAGE_SIZE) return -Errno.ENOMEM;
  }
  if (anonVmaPrepare(vma) !== 0) return -Errno.ENOMEM;
  const grow = (vma.start - start) / PAGE_SIZE;
  // A mapping that was moved down far may not have that many pages below it to number.
  if (grow > vma.pgoff) return -Errno.ENOMEM;
  const err = acctStackGrowth(vma, vma.end - start, grow);
  if (err !== 0) return err;
  if ((vma.flags & VM_LOCKED) !== 0) mm.lockedVm += grow;
  vmStatAccount(mm, vma.flags, grow);
  vmaResize(vma, start, vma.end, vma.pgoff - grow);
  return 0;
}

/**
 * Checks growth by `grow` pages to `sizeBytes` in all against the limits, and charges it.
 *
 * @linux mm/vma.c:acct_stack_growth
 */
function acctStackGrowth(vma: VmArea, sizeBytes: number, grow: number): number {
  const { mm, flags } = vma;
  if (!mayExpandVm(mm, flags, grow)) return -Errno.ENOMEM;
  const limit = mm.limits.rlimit(RLIMIT_STACK);
  if (limit >= 0 && sizeBytes > limit) return -Errno.ENOMEM;
  if (!mlockFutureOk(mm, flags, grow * PAGE_SIZE)) return -Errno.ENOMEM;
  if (vmEnoughMemory(mm.vm, mm, grow) !== 0) return -Errno.ENOMEM;
  // Memory that is not charged is held to the commit limit, but must not stay charged: nobody would take it back.
  if ((flags & VM_ACCOUNT) === 0) vmUnacctMemory(mm.vm, grow);
  return 0;
}
