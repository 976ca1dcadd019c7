import { doMseal } from '@pagelab/vm';
import type { TaskContext } from './task-context.ts';

/**
 * Makes sure that a range stays mapped as it is.
 *
 * @param flags must be 0
 * @returns 0, or -errno: EINVAL, ENOMEM
 * @linux mm/mseal.c:mseal
 */
export function sysMseal(task: TaskContext, start: number, length: number, flags: number): number {
  return doMseal(task.mm, start, length, flags);
}
