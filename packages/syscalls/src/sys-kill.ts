import { Errno } from '@pagelab/abi';
import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';

/** Sends a signal to a process, a group or all. @returns 0, or -errno: EINVAL, ESRCH, EPERM @linux kernel/signal.c:kill */
export function sysKill(task: TaskContext, pid: number, signal: number): number {
  return task.kill(int32(pid), int32(signal));
}

/** Sends a signal to one thread. @linux kernel/signal.c:tkill */
export function sysTkill(task: TaskContext, pid: number, signal: number): number {
  if (int32(pid) <= 0) return -Errno.EINVAL;
  return task.killThread(-1, int32(pid), int32(signal));
}

/** Sends a signal to one thread of a process. @linux kernel/signal.c:tgkill */
export function sysTgkill(task: TaskContext, tgid: number, pid: number, signal: number): number {
  if (int32(pid) <= 0 || int32(tgid) <= 0) return -Errno.EINVAL;
  return task.killThread(int32(tgid), int32(pid), int32(signal));
}
