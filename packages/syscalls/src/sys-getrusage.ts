import { Errno, RUSAGE_CHILDREN, RUSAGE_SELF, RUSAGE_THREAD } from '@pagelab/abi';
import { flagTable, flagValues } from './flag-table.ts';
import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';
import { putUser } from './user-access.ts';
import { encodeUsage } from './user-struct.ts';

export const GETRUSAGE_WHO = flagTable('getrusage', 'who', 'values', {
  RUSAGE_SELF,
  RUSAGE_CHILDREN,
  RUSAGE_THREAD,
});

const WHO = flagValues(GETRUSAGE_WHO);

/** Stores what a process, its children or a thread used. @returns 0, or -errno: EINVAL, EFAULT @linux kernel/sys.c:getrusage */
export function sysGetrusage(task: TaskContext, who: number, usage: number): number {
  if (!isUsageSubject(int32(who))) return -Errno.EINVAL;
  return putUser(task, usage, encodeUsage(task, task.usage(int32(who))));
}

/** Whether `who` is one of RUSAGE_SELF, RUSAGE_CHILDREN and RUSAGE_THREAD. */
export function isUsageSubject(who: number): boolean {
  return WHO.has(who);
}
