import { Errno } from '@pagelab/abi';
import { doMprotect } from '@pagelab/vm';
import { int32 } from './registers.ts';
import { foldProt } from './sys-mprotect.ts';
import type { TaskContext } from './task-context.ts';

/** PKEY_DISABLE_ACCESS and PKEY_DISABLE_WRITE. @linux include/uapi/asm-generic/mman-common.h:PKEY_ACCESS_MASK */
const PKEY_ACCESS_MASK = 3;

/** Protection keys are a feature of processors that these are not: there is no key to be had. @returns -EINVAL, -ENOSPC @linux mm/mprotect.c:pkey_alloc */
export function sysPkeyAlloc({ mm }: TaskContext, flags: number, rights: number): number {
  if (flags !== 0 || rights < 0 || rights > PKEY_ACCESS_MASK) return -Errno.EINVAL;
  if (mm.pkeyAllocationMap !== 0) return -Errno.ENOSPC;
  mm.pkeyAllocationMap = 1;
  return -Errno.EINVAL;
}

/** @linux mm/mprotect.c:pkey_free */
export function sysPkeyFree(): number {
  return -Errno.EINVAL;
}

/** As `mprotect`, where no key is asked for: with -1. @linux mm/mprotect.c:pkey_mprotect */
export function sysPkeyMprotect(task: TaskContext, start: number, length: number, prot: number, pkey: number): number {
  return doMprotect(task.mm, start, length, foldProt(prot), task.personality, int32(pkey));
}
