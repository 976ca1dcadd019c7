/**
 * Signals: what becomes of them, and how handlers run.
 *
 * A handler is a function of the program. It runs on the way back to user mode: at the end of a call, before a task goes
 * on, or between a fault and the next try of the access. While it runs its signal is held back, unless SA_NODEFER says
 * otherwise; a signal that a fault forces on a task which holds it back ends the task.
 *
 * @linux kernel/signal.c
 */
import {
  Errno,
  SA_NODEFER,
  SA_RESETHAND,
  SIGCHLD,
  SIGCONT,
  SIGKILL,
  SIGRTMAX,
  SIGSEGV,
  SIGSTOP,
  SIGTSTP,
  SIGTTIN,
  SIGTTOU,
  SIGURG,
  SIGWINCH,
  SIG_BLOCK,
  SIG_SETMASK,
  SIG_UNBLOCK,
  SI_KERNEL,
  signalName,
} from '@pagelab/abi';
import type { SigInfo, SignalDisposition, SignalHandler, SignalOptions } from '@pagelab/abi';
import type { SignalSet } from '@pagelab/syscalls';
import { endProcess, exitError, throwIfEnded } from './exit.ts';
import type { Process, SignalSetting } from './process.ts';
import { pushSignalFrame } from './signal-frame.ts';
import { dequeueSignal, setBlocked, wakeForSignal } from './signal-queue.ts';
import { EMPTY_SIGNALS, UNBLOCKABLE, hasSignal, signalSet, subtractSignals, uniteSignals } from './signal-set.ts';
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
 * @param preferred which of them rather than others: the one by whose number the process was named
 * @returns 0, or -ENOSYS for one that would stop the process: none is ever stopped
 * @linux kernel/signal.c:__send_signal_locked
 */
export function sendSignal(process: Process, thread: Task | null, info: SigInfo, preferred: Task = thread ?? process.leader): number {
  if (process.threads.length === 0) return 0;
  const { kernel } = process.leader;
  const { signo } = info;
  if (kernel.trace.enabled) kernel.trace.emit(kernel.tracepoints.signalGenerate, signo, info.code, process.tgid);
  const setting = process.actions.get(signo);
  const target = thread === null || thread.isDead ? null : thread;
  // One that is held back is kept even where it is ignored: that may change before it is let through.
  if (!hasSignal(preferred.blocked, signo) && isIgnored(setting, signo)) return 0;
  if (isDefault(setting) && STOPPING.includes(signo)) return -Errno.ENOSYS;
  const running = kernel.current !== null && kernel.current.process === process;
  const taken = target === null ? process.threads.some((each) => !hasSignal(each.blocked, signo)) : !hasSignal(target.blocked, signo);
  if (taken && !running && isDefault(setting) && !IGNORED_BY_DEFAULT.includes(signo)) {
    endBySignal(process, signo, '');
    return 0;
  }
  const queue = target === null ? process.pending : target.pending;
  // A signal below the real-time ones is either pending or not.
  if (signo < 32 && queue.some((other) => other.signo === signo)) return 0;
  queue.push(info);
  wakeForSignal(process, target, preferred, signo);
  return 0;
}

function isDefault(setting: SignalSetting | undefined): boolean {
  return setting === undefined || setting.disposition === 'default';
}

/** @linux kernel/signal.c:sig_handler_ignored */
function isIgnored(setting: SignalSetting | undefined, signal: number): boolean {
  if (setting !== undefined && setting.disposition !== 'default') return setting.disposition === 'ignore';
  return IGNORED_BY_DEFAULT.includes(signal);
}

/** Sets what a signal does. @returns what it did, or -EINVAL @linux kernel/signal.c:do_sigaction */
export function setDisposition(
  task: Task,
  signal: number,
  disposition: SignalDisposition,
  options: SignalOptions = {},
): SignalDisposition | number {
  const known = disposition === 'default' || disposition === 'ignore' || typeof disposition === 'function';
  if (!known || signal < 1 || signal > SIGRTMAX || signal === SIGKILL || signal === SIGSTOP) return -Errno.EINVAL;
  const { process } = task;
  const before = process.actions.get(signal)?.disposition ?? 'default';
  const mask = subtractSignals(signalSet(options.mask ?? []), UNBLOCKABLE);
  const setting: SignalSetting = { disposition, flags: (options.flags ?? 0) | 0, mask };
  if (disposition === 'default' && setting.flags === 0) process.actions.delete(signal);
  else process.actions.set(signal, setting);
  // What is ignored from now on is not kept for later either.
  if (isIgnored(setting, signal)) {
    forget(process.pending, signal);
    for (const thread of process.threads) forget(thread.pending, signal);
  }
  return before;
}

function forget(queue: SigInfo[], signal: number): void {
  for (let i = queue.length - 1; i >= 0; i--) if (queue[i]!.signo === signal) queue.splice(i, 1);
}

/** Changes what a task holds back. @returns 0, or -EINVAL @linux kernel/signal.c:sigprocmask */
export function changeSignalMask(task: Task, how: number, set: SignalSet): number {
  const wanted = subtractSignals(set, UNBLOCKABLE);
  if (how === SIG_BLOCK) setBlocked(task, uniteSignals(task.blocked, wanted));
  else if (how === SIG_UNBLOCK) setBlocked(task, subtractSignals(task.blocked, wanted));
  else if (how === SIG_SETMASK) setBlocked(task, wanted);
  else return -Errno.EINVAL;
  return 0;
}

/** Which signals have come for a task or its process and are held back. @linux kernel/signal.c:do_sigpending */
export function pendingSignals(task: Task): SignalSet {
  const queued = [...task.pending, ...task.process.pending];
  return signalSet(queued.map(({ signo }) => signo).filter((signo) => hasSignal(task.blocked, signo)));
}

/**
 * Delivers what is pending for a task that is about to return to user mode.
 *
 * @throws TaskExit where one of the signals ends it; what a handler throws
 * @linux kernel/signal.c:get_signal
 */
export function deliverSignals(task: Task): void {
  const { process } = task;
  while (task.signalPending) {
    const info = dequeueSignal(task);
    if (info === undefined) return;
    const setting = process.actions.get(info.signo);
    if (isIgnored(setting, info.signo)) continue;
    if (isDefault(setting)) {
      endBySignal(process, info.signo, '');
      throw exitError(task);
    }
    runHandler(task, info, setting!);
  }
}

/**
 * Raises a signal that the task cannot go on without having dealt with. It is ended where the signal has no handler, is
 * ignored, or is held back.
 *
 * @param detail what happened, for the message
 * @throws TaskExit; what the handler throws
 * @linux kernel/signal.c:force_sig_info_to_task
 */
export function forceSignal(task: Task, info: SigInfo, detail: string): void {
  if (!wouldEnd(task, info.signo)) {
    runHandler(task, info, task.process.actions.get(info.signo)!);
    return;
  }
  endBySignal(task.process, info.signo, detail);
  throw exitError(task);
}

/** Whether a signal forced on the task now would end it. */
export function wouldEnd(task: Task, signal: number): boolean {
  return typeof task.process.actions.get(signal)?.disposition !== 'function' || hasSignal(task.blocked, signal);
}

/** Ends a process by a signal, and says so on the console. */
export function endBySignal(process: Process, signal: number, detail: string): void {
  const { kernel } = process.leader;
  kernel.console.line(`${process.comm}[${process.tgid}]: ${describeSignal(signal)}${detail === '' ? '' : `: ${detail}`}`);
  endProcess(process, signal);
}

/**
 * Runs a handler. What it holds back, and where the stack stood, is as before when it is left, however it is left: by
 * returning, or by an exception as by `siglongjmp`.
 *
 * @linux arch/x86/kernel/signal.c:handle_signal
 */
function runHandler(task: Task, info: SigInfo, setting: SignalSetting): void {
  const { kernel, process, blocked, stackPointer, signalStack, programNumber } = task;
  if (kernel.trace.enabled) kernel.trace.emit(kernel.tracepoints.signalDeliver, info.signo, info.code, task.pid);
  kernel.clock.advance(kernel.costs.signal);
  task.accounting.stime += kernel.costs.signal;
  if (setting.flags & SA_RESETHAND) process.actions.delete(info.signo);
  if (!pushSignalFrame(task, info, setting.flags)) {
    const nowhere = 'no room on its stack for the frame of a signal';
    // The signal for this is SIGSEGV, too: where that is the one to be handled, there is no way out.
    if (info.signo === SIGSEGV) process.actions.delete(SIGSEGV);
    task.stackPointer = stackPointer;
    forceSignal(task, { signo: SIGSEGV, code: SI_KERNEL, addr: 0, pid: 0 }, nowhere);
    return;
  }
  const own = setting.flags & SA_NODEFER ? EMPTY_SIGNALS : signalSet([info.signo]);
  setBlocked(task, uniteSignals(uniteSignals(blocked, setting.mask), own));
  task.handlers += 1;
  try {
    // A handler begins in user mode: what else is to be dealt with comes before its first instruction.
    deliverSignals(task);
    (setting.disposition as SignalHandler)(Object.freeze({ ...info }));
  } finally {
    // Where the handler ran another program, that one's state is nobody's to restore.
    if (task.programNumber === programNumber) {
      task.handlers -= 1;
      setBlocked(task, blocked);
      task.stackPointer = stackPointer;
      task.signalStack = signalStack;
    }
  }
  throwIfEnded(task, programNumber);
}
