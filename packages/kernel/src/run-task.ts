/**
 * Running programs: a turn of a task, from where it stands to its next `yield` or its end.
 */
import type { ProgramGenerator } from '@pagelab/abi';
import { endProcess, endTask } from './exit.ts';
import { switchTo } from './scheduler.ts';
import { deliverSignals } from './signals.ts';
import type { Task } from './task.ts';

/** The status of a program that threw an error. */
const STATUS_OF_ERROR = 1;

/** Runs a task for a turn. @throws what stops the machine, and nothing else */
export function runTurn(task: Task): void {
  const { kernel, programNumber } = task;
  try {
    switchTo(task);
    task.state = 'running';
    deliverSignals(task);
    if (!task.started) {
      task.started = true;
      const result: unknown = task.program!(task.os, ...task.argv);
      if (kernel.panic !== null) throw kernel.panic;
      if (!isGenerator(result)) {
        if (task.programNumber === programNumber) finish(task, result);
        else goOnWithNext(task);
        return;
      }
      if (task.programNumber === programNumber) task.generator = result;
    }
    if (task.programNumber !== programNumber) {
      goOnWithNext(task);
      return;
    }
    const step = task.generator!.next();
    // Whoever catches the end of its task, or of the machine, gets here all the same.
    if (kernel.panic !== null) throw kernel.panic;
    if (task.isDead) return;
    if (task.programNumber !== programNumber) {
      goOnWithNext(task);
      return;
    }
    if (step.done) {
      finish(task, step.value);
      return;
    }
    task.accounting.nvcsw += 1;
    kernel.scheduler.enqueue(task);
  } catch (error) {
    if (kernel.panic !== null) throw kernel.panic;
    if (task.programNumber !== programNumber) goOnWithNext(task);
    else if (!task.isDead) fail(task, error);
  }
}

/** The program has given way to another, and its function has been left: the other's turn comes. */
function goOnWithNext(task: Task): void {
  if (!task.isDead && task.state !== 'ready') task.kernel.scheduler.enqueue(task);
}

/** The program has returned: its process ends, or, where it was a further thread's, that thread. */
function finish(task: Task, result: unknown): void {
  if (task.isDead) return;
  if (result !== undefined && typeof result !== 'number') {
    const what = result instanceof Promise ? 'a promise: programs are not async' : `a ${typeof result}`;
    fail(task, new TypeError(`the program returned ${what}; it takes an exit status or nothing`));
    return;
  }
  const word = ((result ?? 0) & 0xff) << 8;
  if (task === task.process.leader) endProcess(task.process, word);
  else endTask(task, word);
}

/** The program threw an error: it ends as one of Node would. */
function fail(task: Task, error: unknown): void {
  const { kernel, process } = task;
  process.error = error;
  kernel.console.line(`${process.comm}[${process.tgid}]: uncaught ${describe(error)}`);
  endProcess(process, STATUS_OF_ERROR << 8);
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return `${error.name}: ${error.message.split('\n')[0]}`;
}

function isGenerator(result: unknown): result is ProgramGenerator {
  return typeof result === 'object' && result !== null && typeof (result as { next?: unknown }).next === 'function';
}
