/**
 * What a program holds of its task: its memory and its calls, and no way to the task itself.
 */
import type { Program, RegisterArg } from '@pagelab/abi';
import { createUserMemory } from '@pagelab/hw';
import { createClient, dispatch } from '@pagelab/syscalls';
import { payOverHigh } from './cgroup/memory-controller.ts';
import { runDaemons } from './daemons.ts';
import { execProgram } from './exec.ts';
import { replacedError, throwIfEnded } from './exit.ts';
import { createThread, forkProcess } from './fork.ts';
import { switchTo, waitForVfork } from './scheduler.ts';
import { signalSet, signalsOf } from './signal-set.ts';
import { changeSignalMask, deliverSignals, setDisposition } from './signals.ts';
import type { Task } from './task.ts';
import { userFault } from './user-fault.ts';

/**
 * Enters the kernel for `task`, whose handle was used, and returns to user mode.
 *
 * @throws TaskExit where the task has ended, or ends; what a signal handler throws
 */
export function enter<T>(task: Task, programNumber: number, body: (task: Task) => T): T {
  const { kernel } = task;
  enterFromUser(task, programNumber);
  let result: T;
  try {
    result = kernel.moduleThread === null ? body(task) : kernel.asKernel(() => body(task));
  } catch (error) {
    throw kernel.stop(error);
  }
  exitToUser(task);
  return result;
}

/**
 * As {@link enter}, for a call by its number: a function of its own, since a closure and a list of arguments for each call
 * take as long as a short call itself.
 *
 * @linux arch/x86/entry/syscall_64.c:do_syscall_64
 */
function enterSyscall(
  task: Task,
  programNumber: number,
  nr: RegisterArg,
  a0: RegisterArg | undefined,
  a1: RegisterArg | undefined,
  a2: RegisterArg | undefined,
  a3: RegisterArg | undefined,
  a4: RegisterArg | undefined,
  a5: RegisterArg | undefined,
): number {
  const { kernel } = task;
  enterFromUser(task, programNumber);
  let result: number;
  try {
    result =
      kernel.moduleThread === null
        ? dispatch(task, nr, a0, a1, a2, a3, a4, a5)
        : kernel.asKernel(() => dispatch(task, nr, a0, a1, a2, a3, a4, a5));
  } catch (error) {
    throw kernel.stop(error);
  }
  exitToUser(task);
  return result;
}

/** @linux include/linux/entry-common.h:syscall_enter_from_user_mode */
function enterFromUser(task: Task, programNumber: number): void {
  throwIfEnded(task, programNumber);
  const { kernel } = task;
  if (kernel.current !== task) switchTo(task);
  const { syscall } = kernel.costs;
  kernel.clock.advance(syscall);
  if (kernel.clock.now >= kernel.daemons.dueNs) runDaemons(kernel);
  task.accounting.stime += syscall;
  // A call outside of a handler is progress: the next fault at the old address is a new one.
  if (task.handlers === 0) task.repeatedFaults = 0;
}

/** @linux include/linux/entry-common.h:syscall_exit_to_user_mode */
function exitToUser(task: Task): void {
  if (task.kernel.vm.memcgs !== null) payOverHigh(task);
  if (task.signalPending) deliverSignals(task);
}

/** Gives a new task its memory port and its handle. */
export function attachHandle(task: Task): void {
  const { kernel, programNumber } = task;
  task.port = createUserMemory(kernel.ram, {
    onDetached: () => {
      throwIfEnded(task, programNumber);
      switchTo(task);
      deliverSignals(task);
    },
    onFault: (address, errorCode, vector) => {
      if (kernel.moduleThread === null) userFault(task, address, errorCode, vector);
      else {
        kernel.asKernel(() => {
          userFault(task, address, errorCode, vector);
        });
      }
    },
  });
  const start = (child: Task | number): number => {
    if (typeof child === 'number') return child;
    kernel.scheduler.enqueue(child);
    return child.pid;
  };
  const here = <T>(body: () => T): T => enter(task, programNumber, body);
  const words = (argv: readonly string[]): string[] => argv.map(String);
  task.os = createClient({
    mem: task.port.memory,
    library: task.process.library,
    syscall: (nr, a0, a1, a2, a3, a4, a5) => enterSyscall(task, programNumber, nr, a0, a1, a2, a3, a4, a5),
    enter: (body) => enter(task, programNumber, body),
    fork: (program, argv) => here(() => start(forkProcess(task, checked(program), words(argv)))),
    vfork: (program, argv) =>
      here(() => {
        const child = forkProcess(task, checked(program), words(argv), 'vfork');
        const pid = start(child);
        if (typeof child !== 'number') waitForVfork(task, child.process);
        return pid;
      }),
    thread: (program, argv) => here(() => start(createThread(task, checked(program), words(argv)))),
    execve: (program, argv) =>
      here(() => {
        const driven = task.program === null;
        const name = checked(program).name;
        const result = execProgram(task, program, { argv: words(argv), ...(name === '' ? {} : { name }) });
        if (result < 0) return result;
        // One that was driven from outside waits for its turn from now on; a program's own turn has to end first.
        if (driven) kernel.scheduler.enqueue(task);
        throw replacedError(task);
      }),
    sigaction: (signal, disposition, options) => here(() => setDisposition(task, signal, disposition, options)),
    sigprocmask: (how, signals) =>
      here(() => {
        const before = signalsOf(task.blocked);
        const result = changeSignalMask(task, how, signalSet(signals));
        return result < 0 ? result : before;
      }),
    stackPointer: (to) =>
      here(() => {
        const before = task.stackPointer;
        if (to !== undefined) task.stackPointer = to;
        return before;
      }),
    print: (text) => {
      here(() => {
        kernel.console.line(text);
      });
    },
  });
}

function checked(program: Program): Program {
  if (typeof program === 'function') return program;
  throw new TypeError(`a program is a function of its handle, not ${program === null ? 'null' : `a ${typeof program}`}`);
}
