/**
 * Signals: what becomes of them, and how handlers run.
 *
 * A handler is a function of the program. It runs on the way back to user mode: at the end of a call, before a task goes
 * on, or between a fault and the next try of the access. While it runs its signal is held back, as Linux does without
 * SA_NODEFER; one that is forced on the task by a fault then ends it.
 *
 * @linux kernel/signal.c
 */
import {
  Errno,
  SIGCHLD,
  SIGCONT,
  SIGKILL,
  SIGRTMAX,
  SIGSTOP,
  SIGTSTP,
  SIGTTIN,
  SIGTTOU,
  SIGURG,
  SIGWINCH,
  signalName,
} from '@pagelab/abi';
import type { SigInfo, SignalDisposition, SignalHandler } from '@pagelab/abi';
import { endProcess, exitError, throwIfEnded } from './exit.ts';
import type { Process } from './process.ts';
import type { Task } from './task.ts';

const IGNORED_BY_DEFAULT: readonly number[] = [SIGCHLD, SIGCONT, SIGURG, SIGWINCH];
const STOPPING: readonly number[] = [SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU];

/** As a shell says why a process was ended. */
const DESCRIPTIONS: Readonly<Record<number, string>> = {
  1: 'Hangup', 2: 'Interrupt', 3: 'Quit', 4: 'Illegal instruction', 6: 'Aborted', 7: 'Bus error', 8: 'Floating point exception',
  9: 'Killed', 10: 'User defined signal 1', 11: 'Segmentation fault', 12: 'User defined signal 2', 13: 'Broken pipe',
  14: 'Alarm clock', 15: 'Terminated',
};

/** As a shell names the signal that ended a process. */
export function describeSignal(signal: number): string {
  return DESCRIPTIONS[signal] ?? signalName(signal);
}

/**
 * Sends a signal to a process.
 *
 * One that ends it does so at once, unless it is for the process that runs: that one ends when it returns to user mode.
 *
 * @param thread which thread is to see it; `null` for any
 * @returns 0, or -ENOSYS for one that would stop the process: none is ever stopped
 * @linux kernel/signal.c:__send_signal_locked
 */
export function sendSignal(process: Process, thread: Task | null, info: SigInfo): number {
  if (process.threads.length === 0) return 0;
  const { kernel } = process.leader;
  if (kernel.trace.enabled) kernel.trace.emit(kernel.tracepoints.signalGenerate, info.signo, info.code, process.tgid);
  const action = process.actions.get(info.signo);
  if (action === 'ignore') return 0;
  if (action === undefined && IGNORED_BY_DEFAULT.includes(info.signo)) return 0;
  if (action === undefined && STOPPING.includes(info.signo)) return -Errno.ENOSYS;
  const { current } = kernel;
  const running = current !== null && current.process === process;
  if (action === undefined && !running) {
    endBySignal(process, info.signo, '');
    return 0;
  }
  const target = thread !== null && !thread.isDead ? thread : running ? current : process.threads[0]!;
  // A signal below the real-time ones is either pending or not.
  if (info.signo < 32 && target.pending.some((other) => other.signo === info.signo)) return 0;
  target.pending.push(info);
  return 0;
}

/** Sets what a signal does. @returns what it did, or -EINVAL @linux kernel/signal.c:do_sigaction */
export function setDisposition(task: Task, signal: number, disposition: SignalDisposition): SignalDisposition | number {
  const known = disposition === 'default' || disposition === 'ignore' || typeof disposition === 'function';
  if (!known || signal < 1 || signal > SIGRTMAX || signal === SIGKILL || signal === SIGSTOP) return -Errno.EINVAL;
  const { actions } = task.process;
  const before = actions.get(signal) ?? 'default';
  if (disposition === 'default') actions.delete(signal);
  else actions.set(signal, disposition);
  return before;
}

/**
 * Delivers what is pending for a task that is about to return to user mode.
 *
 * @throws TaskExit where one of the signals ends it; what a handler throws
 * @linux kernel/signal.c:get_signal
 */
export function deliverSignals(task: Task): void {
  while (task.pending.length > 0) {
    let next = -1;
    for (let i = 0; i < task.pending.length; i++) {
      const { signo } = task.pending[i]!;
      if (task.handling.includes(signo)) continue;
      if (next < 0 || signo < task.pending[next]!.signo) next = i;
    }
    if (next < 0) return;
    const [info] = task.pending.splice(next, 1);
    const action = task.process.actions.get(info!.signo);
    if (action === 'ignore' || (action === undefined && IGNORED_BY_DEFAULT.includes(info!.signo))) continue;
    if (action === undefined) {
      endBySignal(task.process, info!.signo, '');
      throw exitError(task);
    }
    runHandler(task, info!, action);
  }
}

/**
 * Raises a signal that the task cannot go on without having dealt with. It is ended where the signal has no handler, is
 * ignored, or is being handled already.
 *
 * @param detail what happened, for the message
 * @throws TaskExit; what the handler throws
 * @linux kernel/signal.c:force_sig_info_to_task
 */
export function forceSignal(task: Task, info: SigInfo, detail: string): void {
  const action = task.process.actions.get(info.signo);
  if (typeof action === 'function' && !task.handling.includes(info.signo)) {
    runHandler(task, info, action);
    return;
  }
  endBySignal(task.process, info.signo, detail);
  throw exitError(task);
}

/** Whether a signal forced on the task now would end it. */
export function wouldEnd(task: Task, signal: number): boolean {
  return typeof task.process.actions.get(signal) !== 'function' || task.handling.includes(signal);
}

/** Ends a process by a signal, and says so on the console. */
export function endBySignal(process: Process, signal: number, detail: string): void {
  const { kernel } = process.leader;
  kernel.console.line(`${process.comm}[${process.tgid}]: ${describeSignal(signal)}${detail === '' ? '' : `: ${detail}`}`);
  endProcess(process, signal);
}

/** @linux arch/x86/kernel/signal.c:handle_signal */
function runHandler(task: Task, info: SigInfo, handler: SignalHandler): void {
  const { kernel } = task;
  if (kernel.trace.enabled) kernel.trace.emit(kernel.tracepoints.signalDeliver, info.signo, info.code, task.pid);
  kernel.clock.advance(kernel.costs.signal);
  task.accounting.stime += kernel.costs.signal;
  task.handling.push(info.signo);
  try {
    handler(Object.freeze({ ...info }));
  } finally {
    task.handling.splice(task.handling.lastIndexOf(info.signo), 1);
  }
  throwIfEnded(task);
}
