import { Errno, MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, MLOCK_ONFAULT } from '@pagelab/abi';
import { doMlock, doMlockall, doMunlock, doMunlockall } from '@pagelab/vm';
import { flagMask, flagTable } from './flag-table.ts';
import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';

export const MLOCK2_FLAGS = flagTable('mlock2', 'flags', 'bits', { MLOCK_ONFAULT });
export const MLOCKALL_FLAGS = flagTable('mlockall', 'flags', 'bits', { MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT });

const MLOCK2_MASK = flagMask(MLOCK2_FLAGS);
const MLOCKALL_MASK = flagMask(MLOCKALL_FLAGS);

/**
 * Keeps the pages of a range in memory.
 *
 * @returns 0, or -errno: ENOMEM, EPERM, EAGAIN, EINVAL
 * @linux mm/mlock.c:mlock
 */
export function sysMlock(task: TaskContext, start: number, length: number): number {
  return doMlock(task.mm, start, length, 0);
}

/** As `mlock`, with MLOCK_ONFAULT for pages to come. @linux mm/mlock.c:mlock2 */
export function sysMlock2(task: TaskContext, start: number, length: number, flags: number): number {
  const bits = int32(flags);
  if (bits & ~MLOCK2_MASK) return -Errno.EINVAL;
  return doMlock(task.mm, start, length, bits);
}

/** @linux mm/mlock.c:munlock */
export function sysMunlock(task: TaskContext, start: number, length: number): number {
  return doMunlock(task.mm, start, length);
}

/** Locks what is mapped, what will be, or both. @linux mm/mlock.c:mlockall */
export function sysMlockall(task: TaskContext, flags: number): number {
  const bits = int32(flags);
  if (bits === 0 || bits & ~MLOCKALL_MASK || bits === MCL_ONFAULT) return -Errno.EINVAL;
  return doMlockall(task.mm, bits);
}

/** @linux mm/mlock.c:munlockall */
export function sysMunlockall(task: TaskContext): number {
  return doMunlockall(task.mm);
}
