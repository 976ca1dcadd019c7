/**
 * Process groups. There is one session: every process is in it, and none leads it.
 *
 * @linux kernel/sys.c
 */
import { Errno } from '@pagelab/abi';
import type { Process } from './process.ts';
import type { Task } from './task.ts';

function processOf(task: Task, pid: number): Process | undefined {
  const process = pid === 0 ? task.process : task.kernel.tasks.get(pid)?.process;
  return process !== undefined && (pid === 0 || process.tgid === pid) ? process : undefined;
}

/** @returns the group's number, or -ESRCH @linux kernel/sys.c:do_getpgid */
export function processGroup(task: Task, pid: number): number {
  return processOf(task, pid)?.pgrp ?? -Errno.ESRCH;
}

/**
 * Puts a process, the caller or a child of its, into a group: its own, or one that there is.
 *
 * @returns 0, or -errno: EINVAL, ESRCH, EACCES for a child that runs another program already, EPERM for no such group
 * @linux kernel/sys.c:setpgid
 */
export function setProcessGroup(task: Task, pid: number, group: number): number {
  if ((group === 0 ? pid : group) < 0) return -Errno.EINVAL;
  const process = processOf(task, pid);
  if (process === undefined || (process !== task.process && process.parent !== task.process)) return -Errno.ESRCH;
  if (process !== task.process && process.hasExeced) return -Errno.EACCES;
  const wanted = group === 0 ? process.tgid : group;
  if (wanted !== process.tgid) {
    const members = [...task.kernel.tasks.values()].some((each) => each.process.pgrp === wanted);
    if (!members) return -Errno.EPERM;
  }
  process.pgrp = wanted;
  return 0;
}
