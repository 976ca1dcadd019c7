import { Errno } from '@pagelab/abi';
import { int32 } from './registers.ts';
import { sysMprotect } from './sys-mprotect.ts';
import type { TaskContext } from './task-context.ts';

/** Protection keys are a feature of processors that these are not: there is no key to be had. @linux mm/mprotect.c:pkey_alloc */
export function sysPkeyAlloc(): number {
  return -Errno.EINVAL;
}

/** @linux mm/mprotect.c:pkey_free */
export function sysPkeyFree(): number {
  return -Errno.EINVAL;
}

/** As `mprotect`, where no key is asked for: with -1. @linux mm/mprotect.c:pkey_mprotect */
export function sysPkeyMprotect(task: TaskContext, start: number, length: number, prot: number, pkey: number): number {
  return int32(pkey) === -1 ? sysMprotect(task, start, length, prot) : -Errno.EINVAL;
}
