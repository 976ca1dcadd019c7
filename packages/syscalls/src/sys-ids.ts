import { CAP_SETGID, CAP_SETUID, Errno } from '@pagelab/abi';
import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';

/** The process's number. @linux kernel/sys.c:getpid */
export function sysGetpid(task: TaskContext): number {
  return task.tgid;
}

/** @linux kernel/sys.c:getppid */
export function sysGetppid(task: TaskContext): number {
  return task.ppid;
}

/** The thread's number. @linux kernel/sys.c:gettid */
export function sysGettid(task: TaskContext): number {
  return task.pid;
}

/** @linux kernel/sys.c:getuid */
export function sysGetuid(task: TaskContext): number {
  return task.credentials.uid;
}

/** @linux kernel/sys.c:getgid */
export function sysGetgid(task: TaskContext): number {
  return task.credentials.gid;
}

const NO_CAPABILITIES = Object.freeze({ low: 0, high: 0 });

/**
 * Makes the process another user's. Who ceases to be root loses all capabilities.
 *
 * @returns 0, or -errno: EINVAL, EPERM
 * @linux kernel/sys.c:setuid
 */
export function sysSetuid(task: TaskContext, uid: number): number {
  const id = int32(uid) >>> 0;
  if (id === 2 ** 32 - 1) return -Errno.EINVAL;
  const { credentials } = task;
  if (!task.capable(CAP_SETUID) && id !== credentials.uid) return -Errno.EPERM;
  if (credentials.uid === 0 && id !== 0) {
    credentials.permitted = NO_CAPABILITIES;
    credentials.effective = NO_CAPABILITIES;
  }
  credentials.uid = id;
  return 0;
}

/** @returns 0, or -errno: EINVAL, EPERM @linux kernel/sys.c:setgid */
export function sysSetgid(task: TaskContext, gid: number): number {
  const id = int32(gid) >>> 0;
  if (id === 2 ** 32 - 1) return -Errno.EINVAL;
  if (!task.capable(CAP_SETGID) && id !== task.credentials.gid) return -Errno.EPERM;
  task.credentials.gid = id;
  return 0;
}
