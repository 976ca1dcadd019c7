import { doBrk } from '@pagelab/vm';
import type { TaskContext } from './task-context.ts';

/**
 * Sets the program break.
 *
 * @returns the break in force afterwards: `addr`, or the old one where it could not be moved; never an errno
 * @linux mm/mmap.c:brk
 */
export function sysBrk(task: TaskContext, addr: number): number {
  return doBrk(task.mm, addr, task.personality);
}
