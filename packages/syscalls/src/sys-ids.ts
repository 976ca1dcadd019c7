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
