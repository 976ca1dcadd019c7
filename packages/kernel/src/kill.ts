/**
 * Sending signals.
 *
 * @linux kernel/signal.c
 */
import { CAP_KILL, Errno, SIGRTMAX, SI_TKILL, SI_USER } from '@pagelab/abi';
import { hasCapability } from './credentials.ts';
import type { Process } from './process.ts';
import { sendSignal } from './signals.ts';
import type { Task } from './task.ts';

const INT_MIN = -0x8000_0000;

/** @linux kernel/signal.c:kill_something_info */
export function killProcesses(task: Task, pid: number, signal: number): number {
  if (pid === INT_MIN) return -Errno.ESRCH;
  if (pid > 0) {
    const target = task.kernel.tasks.get(pid);
    return target === undefined ? -Errno.ESRCH : sendTo(task, target.process, signal, target);
  }
  const group = pid === 0 ? task.process.pgrp : -pid;
  let result: number = -Errno.ESRCH;
  for (const process of processes(task)) {
    if (pid === -1 ? process === task.process : process.pgrp !== group) continue;
    const one = sendTo(task, process, signal);
    if (one === 0 || result !== 0) result = one;
  }
  return result;
}

/** @linux kernel/signal.c:do_tkill */
export function killThread(task: Task, tgid: number, pid: number, signal: number): number {
  const target = task.kernel.tasks.get(pid);
  if (target === undefined || (tgid > 0 && target.tgid !== tgid)) return -Errno.ESRCH;
  const refused = permission(task, target.process, signal);
  if (refused < 0 || signal === 0) return refused;
  return sendSignal(target.process, target, { signo: signal, code: SI_TKILL, addr: 0, pid: task.tgid });
}

function processes(task: Task): Set<Process> {
  return new Set([...task.kernel.tasks.values()].map((each) => each.process));
}

function sendTo(task: Task, process: Process, signal: number, named = process.leader): number {
  const refused = permission(task, process, signal);
  if (refused < 0 || signal === 0) return refused;
  return sendSignal(process, null, { signo: signal, code: SI_USER, addr: 0, pid: task.tgid }, named);
}

/** @linux kernel/signal.c:check_kill_permission */
function permission(task: Task, process: Process, signal: number): number {
  if (signal < 0 || signal > SIGRTMAX) return -Errno.EINVAL;
  const { credentials } = task;
  const allowed = credentials.uid === process.leader.credentials.uid || hasCapability(credentials, CAP_KILL);
  return allowed ? 0 : -Errno.EPERM;
}
