export { DEFAULT_VM_SYSCTL, Vm } from './vm.ts';
export type { VmCaches, VmParts, VmSysctl } from './vm.ts';
export { MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, MM_SWAPENTS, MmStruct } from './mm-struct.ts';
export type { MmLimits } from './mm-struct.ts';
export {
  VM_ACCESS_FLAGS,
  VM_ACCOUNT,
  VM_DONTCOPY,
  VM_DONTDUMP,
  VM_DONTEXPAND,
  VM_EXEC,
  VM_GROWSDOWN,
  VM_HUGEPAGE,
  VM_HUGETLB,
  VM_IGNORE_MERGE,
  VM_IO,
  VM_LOCKED,
  VM_LOCKED_MASK,
  VM_LOCKONFAULT,
  VM_MAYEXEC,
  VM_MAYREAD,
  VM_MAYSHARE,
  VM_MAYWRITE,
  VM_MERGEABLE,
  VM_MIXEDMAP,
  VM_NOHUGEPAGE,
  VM_NORESERVE,
  VM_PFNMAP,
  VM_RAND_READ,
  VM_READ,
  VM_SEQ_READ,
  VM_SHARED,
  VM_SOFTDIRTY,
  VM_SPECIAL,
  VM_SYNC,
  VM_UFFD_MISSING,
  VM_UFFD_WP,
  VM_WIPEONFORK,
  VM_WRITE,
  VmArea,
} from './vma.ts';
export type { AddressSpace, AddressSpaceOps, Inode, VmFile } from './file.ts';
export type { AnonVma, AnonVmaChain } from './anon-vma.ts';

// What may be: mappings and the calls on them.
export { doBrk } from './brk.ts';
export { DEFAULT_PROGRAM, execLayout } from './exec.ts';
export type { LayoutOptions, ProgramImage, ProgramSegment } from './exec.ts';
export { mapsLine, mapsLines, vmaName, vmFlagsNames } from './maps.ts';
export type { MapsLine } from './maps.ts';
export { dupMm, exitMmap, mmAlloc, mmput } from './mm-lifetime.ts';
export { doMmap } from './mmap.ts';
export type { MmapRequest } from './mmap.ts';
export { doMprotect } from './mprotect.ts';
export { vmMunmap } from './munmap.ts';
export {
  OVERCOMMIT_ALWAYS,
  OVERCOMMIT_GUESS,
  OVERCOMMIT_NEVER,
  vmCommitLimit,
  vmEnoughMemory,
  vmUnacctMemory,
} from './overcommit.ts';
export { expandStack } from './stack.ts';
export { findVma, findVmaIntersection, vmaLookup, vmaNext, vmaPages, vmaPrev } from './vma-tree.ts';

// What is: pages behind the mappings.
export {
  FAULT_ACCERR,
  FAULT_FLAG_INSTRUCTION,
  FAULT_FLAG_REMOTE,
  FAULT_FLAG_USER,
  FAULT_FLAG_WRITE,
  FAULT_MAPERR,
  FAULT_OK,
  FAULT_OOM,
  FAULT_SIGBUS,
  VM_FAULT_ERROR,
  VM_FAULT_MAJOR,
  VM_FAULT_OOM,
  VM_FAULT_SIGBUS,
  VM_FAULT_SIGSEGV,
  handleMmFault,
  handlePageFault,
} from './page-fault.ts';
export { FOLL_FORCE, FOLL_WRITE, getUserPage, getUserPageFlags, populateRange } from './gup.ts';
export { accessOk, copyFromUser, copyFromUserPartial, copyToUser, copyToUserPartial, userByte } from './uaccess.ts';
export { pageMappings } from './rmap.ts';
export { mmRss, zapPageRange } from './zap.ts';
