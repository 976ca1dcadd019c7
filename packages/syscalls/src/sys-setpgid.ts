import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';

/** @returns 0, or -errno: EINVAL, ESRCH, EACCES, EPERM @linux kernel/sys.c:setpgid */
export function sysSetpgid(task: TaskContext, pid: number, group: number): number {
  return task.setProcessGroup(int32(pid), int32(group));
}

/** @linux kernel/sys.c:getpgid */
export function sysGetpgid(task: TaskContext, pid: number): number {
  return task.processGroup(int32(pid));
}

/** @linux kernel/sys.c:getpgrp */
export function sysGetpgrp(task: TaskContext): number {
  return task.processGroup(0);
}
