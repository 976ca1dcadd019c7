/**
 * Waiting for children.
 *
 * @linux kernel/exit.c:do_wait
 */
import { Errno, WEXITED, WNOHANG, WNOWAIT, __WNOTHREAD } from '@pagelab/abi';
import type { WaitOutcome } from '@pagelab/syscalls';
import { reap } from './exit.ts';
import { addAccounting, newAccounting } from './process.ts';
import type { Process } from './process.ts';
import { DeadlockError, runOthers } from './scheduler.ts';
import type { Task } from './task.ts';
import { toUsage } from './usage.ts';

/**
 * Waits for a child to end, and reaps it. Others run meanwhile.
 *
 * @param pid a child's number, −1 for any, 0 for any of the own group, below −1 for any of group `-pid`
 * @param options WEXITED among them, or nothing ever comes; with __WNOTHREAD, children that this very thread has made
 * @returns what ended; 0 with WNOHANG where none has; -ECHILD
 * @throws DeadlockError where none of them can ever end: nobody else can run
 */
export function waitForChild(task: Task, pid: number, options: number): WaitOutcome | number {
  for (let turns = 0; ; turns++) {
    let found = false;
    for (const child of task.process.children) {
      if (!matches(task.process, child, pid)) continue;
      if ((options & __WNOTHREAD) !== 0 && child.parentThread !== task) continue;
      // Of a child that has ended there is nothing else to come.
      if (child.isZombie && (options & WEXITED) === 0) continue;
      found = true;
      if (child.isZombie) return childEnded(task, child, (options & WNOWAIT) === 0);
    }
    if (!found) return -Errno.ECHILD;
    if (options & WNOHANG) return 0;
    if (turns === 0) task.accounting.nvcsw += 1;
    if (!runOthers(task, turns)) {
      throw new DeadlockError(
        `task ${task.pid} waits for a child that cannot end: it is suspended below this wait, or driven from outside. ` +
          'A generator waits with WNOHANG and yields in between.',
      );
    }
  }
}

function matches(process: Process, child: Process, pid: number): boolean {
  if (pid > 0) return child.tgid === pid;
  if (pid === -1) return true;
  return child.pgrp === (pid === 0 ? process.pgrp : -pid);
}

/** What is told of a child that has ended; it is gone after that where `isReaped`. @linux kernel/exit.c:wait_task_zombie */
function childEnded(task: Task, child: Process, isReaped: boolean): WaitOutcome {
  const { process } = task;
  const total = newAccounting();
  addAccounting(total, child.ended);
  addAccounting(total, child.waited);
  const maxRss = Math.max(child.maxRss, child.waitedMaxRss);
  const outcome = { pid: child.tgid, statusWord: child.statusWord, usage: toUsage(total, maxRss) };
  if (!isReaped) return outcome;
  addAccounting(process.waited, total);
  process.waitedMaxRss = Math.max(process.waitedMaxRss, maxRss);
  reap(task.kernel, child);
  return outcome;
}
