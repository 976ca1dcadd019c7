/**
 * What a program holds of its task: its memory and its calls, and no way to the task itself.
 */
import type { Program } from '@pagelab/abi';
import { createUserMemory } from '@pagelab/hw';
import { createClient } from '@pagelab/syscalls';
import { throwIfEnded } from './exit.ts';
import { createThread, forkProcess } from './fork.ts';
import { switchTo } from './scheduler.ts';
import { deliverSignals, setDisposition } from './signals.ts';
import type { Task } from './task.ts';
import { userFault } from './user-fault.ts';

/**
 * Enters the kernel for `task`, whose handle was used, and returns to user mode.
 *
 * @throws TaskExit where the task has ended, or ends; what a signal handler throws
 * @linux arch/x86/entry/common.c:do_syscall_64
 */
export function enter<T>(task: Task, body: (task: Task) => T): T {
  throwIfEnded(task);
  const { kernel } = task;
  if (kernel.current !== task) switchTo(task);
  const { syscall } = kernel.costs;
  kernel.clock.advance(syscall);
  task.accounting.stime += syscall;
  // A call outside of a handler is progress: the next fault at the old address is a new one.
  if (task.handling.length === 0) task.repeatedFaults = 0;
  let result: T;
  try {
    result = body(task);
  } catch (error) {
    throw kernel.stop(error);
  }
  if (task.pending.length > 0) deliverSignals(task);
  return result;
}

/** Gives a new task its memory port and its handle. */
export function attachHandle(task: Task): void {
  const { kernel } = task;
  task.port = createUserMemory(kernel.ram, {
    onDetached: () => {
      throwIfEnded(task);
      switchTo(task);
      deliverSignals(task);
    },
    onFault: (address, errorCode, vector) => userFault(task, address, errorCode, vector),
  });
  const start = (child: Task | number): number => {
    if (typeof child === 'number') return child;
    kernel.scheduler.enqueue(child);
    return child.pid;
  };
  const words = (argv: readonly string[]): string[] => argv.map(String);
  task.os = createClient({
    mem: task.port.memory,
    library: task.process.library,
    enter: (body) => enter(task, body),
    enterFor: (body) => enter(task, body),
    fork: (program, argv) => enter(task, () => start(forkProcess(task, checked(program), words(argv)))),
    thread: (program, argv) => enter(task, () => start(createThread(task, checked(program), words(argv)))),
    sigaction: (signal, disposition) => enter(task, () => setDisposition(task, signal, disposition)),
    print: (text) =>
      enter(task, () => {
        kernel.console.line(text);
      }),
  });
}

function checked(program: Program): Program {
  if (typeof program === 'function') return program;
  throw new TypeError(`a program is a function of its handle, not ${program === null ? 'null' : `a ${typeof program}`}`);
}
