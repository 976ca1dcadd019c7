import { Errno } from '@pagelab/abi';
import { doMseal } from '@pagelab/vm';
import type { TaskContext } from './task-context.ts';

/**
 * Makes sure that a range stays mapped as it is.
 *
 * @param flags must be 0
 * @returns 0, or -errno: EINVAL, ENOMEM; ENOSYS where mappings cannot be sealed
 * @linux mm/mseal.c:mseal
 */
export function sysMseal(task: TaskContext, start: number, length: number, flags: number): number {
  if (!task.vm.sealable) return -Errno.ENOSYS;
  return doMseal(task.mm, start, length, flags);
}
