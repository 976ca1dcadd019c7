/**
 * Signals that have come and are not dealt with: who is to look at them, and in which order they are taken.
 *
 *     task.signalPending  <=  some signal of its own queue or of its process's is not held back by the task
 *
 * The other direction does not hold: what is for the process is one thread's to deal with, and others need not look.
 *
 * @linux kernel/signal.c
 */
import { SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSYS, SIGTRAP } from '@pagelab/abi';
import type { SigInfo } from '@pagelab/abi';
import type { SignalSet } from '@pagelab/syscalls';
import type { Process } from './process.ts';
import { hasSignal, signalSet, subtractSignals } from './signal-set.ts';
import type { Task } from './task.ts';

/** What an instruction raises: dealt with before all else. @linux include/linux/signal.h:SYNCHRONOUS_MASK */
const SYNCHRONOUS = signalSet([SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS]);

function hasPending(queue: readonly SigInfo[], blocked: SignalSet): boolean {
  for (const { signo } of queue) if (!hasSignal(blocked, signo)) return true;
  return false;
}

/** Finds out whether the task has a signal to deal with before it goes on. @linux kernel/signal.c:recalc_sigpending */
export function recalcSigpending(task: Task): void {
  task.signalPending = hasPending(task.pending, task.blocked) || hasPending(task.process.pending, task.blocked);
}

/**
 * Has a thread look at a signal that was queued: the one it is for, or for a process the one that is named, or else one that
 * does not hold the signal back and has no other to deal with.
 *
 * @param thread whose the signal is; `null` for the process's
 * @param preferred the thread by whose number the process was named
 * @returns whether there is one
 * @linux kernel/signal.c:complete_signal
 */
export function wakeForSignal(process: Process, thread: Task | null, preferred: Task, signo: number): boolean {
  const taker = wantsSignal(preferred, signo) ? preferred : thread === null ? nextTaker(process, signo) : null;
  if (taker === null) return false;
  taker.signalPending = true;
  return true;
}

/** Threads in turn, from where the last search ended. */
function nextTaker(process: Process, signo: number): Task | null {
  const { threads } = process;
  const from = Math.max(0, threads.indexOf(process.signalTaker!));
  for (let i = 0; i < threads.length; i++) {
    const thread = threads[(from + i) % threads.length]!;
    if (!wantsSignal(thread, signo)) continue;
    process.signalTaker = thread;
    return thread;
  }
  return null;
}

/** @linux kernel/signal.c:wants_signal */
function wantsSignal(task: Task, signo: number): boolean {
  if (task.isDead || hasSignal(task.blocked, signo)) return false;
  return signo === SIGKILL || task.kernel.current === task || !task.signalPending;
}

/** Changes what a task holds back; others see to what it will not look at any more. @linux kernel/signal.c:__set_task_blocked */
export function setBlocked(task: Task, blocked: SignalSet): void {
  if (task.signalPending && task.process.threads.length > 1) retargetSharedPending(task, subtractSignals(blocked, task.blocked));
  task.blocked = blocked;
  recalcSigpending(task);
}

/** Signals of `which` that have come for the process are other threads' than `task` to deal with. @linux kernel/signal.c:retarget_shared_pending */
export function retargetSharedPending(task: Task, which: SignalSet): void {
  const { process } = task;
  let left = process.pending.map(({ signo }) => signo).filter((signo) => hasSignal(which, signo));
  for (const thread of process.threads) {
    if (thread === task || left.every((signo) => hasSignal(thread.blocked, signo))) continue;
    left = left.filter((signo) => hasSignal(thread.blocked, signo));
    thread.signalPending = true;
    if (left.length === 0) return;
  }
}

/** Takes the next signal that the task does not hold back: its own before its process's. @linux kernel/signal.c:dequeue_signal */
export function dequeueSignal(task: Task): SigInfo | undefined {
  const info = takeNext(task.pending, task.blocked) ?? takeNext(task.process.pending, task.blocked);
  recalcSigpending(task);
  return info;
}

/** The lowest that is not held back, those that instructions raise first. @linux kernel/signal.c:next_signal */
function takeNext(queue: SigInfo[], blocked: SignalSet): SigInfo | undefined {
  let next = -1;
  let best = Infinity;
  for (let i = 0; i < queue.length; i++) {
    const { signo } = queue[i]!;
    if (hasSignal(blocked, signo)) continue;
    const rank = hasSignal(SYNCHRONOUS, signo) ? signo - 64 : signo;
    if (rank >= best) continue;
    next = i;
    best = rank;
  }
  return next < 0 ? undefined : queue.splice(next, 1)[0];
}
