/**
 * How tasks and processes end.
 *
 * @linux kernel/exit.c
 */
import { CLD_EXITED, CLD_KILLED, SA_NOCLDWAIT, SIGCHLD } from '@pagelab/abi';
import { mmput, setTaskPolicy } from '@pagelab/vm';
import type { MmStruct } from '@pagelab/vm';
import { cgroupExit } from './cgroup/cgroup.ts';
import type { Kernel } from './kernel.ts';
import { processMemory } from './process-memory.ts';
import { addAccounting } from './process.ts';
import type { Process } from './process.ts';
import { retargetSharedPending } from './signal-queue.ts';
import { ALL_SIGNALS, subtractSignals } from './signal-set.ts';
import { sendSignal } from './signals.ts';
import { freeKernelStack, freeProcessObjects, freeTaskObjects } from './task-objects.ts';
import type { Task } from './task.ts';
import { maxResident, settleFaults } from './usage.ts';

/**
 * Thrown through a program whose task has ended: by `exit`, by a signal, or with its process. It holds nothing, and each
 * later use of the handle throws it again: to catch it does not help.
 */
export class TaskExit extends Error {
  override readonly name = 'TaskExit';
}

/**
 * Throws where the task has ended, or runs another program, or the machine has stopped. Every use of a handle begins
 * with it.
 *
 * @param programNumber which of the task's programs the handle is for
 */
export function throwIfEnded(task: Task, programNumber = task.programNumber): void {
  if (task.isDead) throw exitError(task);
  if (task.programNumber !== programNumber) throw replacedError(task);
  if (task.kernel.panic !== null) throw task.kernel.panic;
}

/** What every use of an ended task's handle throws: made when it is first needed, as it captures the stack. */
export function exitError(task: Task): TaskExit {
  task.exitError ??= new TaskExit(`task ${task.pid} has ended`);
  return task.exitError;
}

/** What every use of a handle throws whose program has given way to another. */
export function replacedError(task: Task): TaskExit {
  return new TaskExit(`task ${task.pid} runs another program`);
}

/** Ends one thread; with the last one, the process. @linux kernel/exit.c:exit */
export function exitThread(task: Task, status: number): never {
  endTask(task, status << 8);
  throw exitError(task);
}

/** Ends the process. @linux kernel/exit.c:do_group_exit */
export function exitGroup(task: Task, status: number): never {
  endProcess(task.process, status << 8);
  throw exitError(task);
}

/**
 * Ends every thread of a process. Those that are suspended on the host's stack find out when they would go on.
 *
 * @param word status << 8, or the signal that ends it
 */
export function endProcess(process: Process, word: number): void {
  if (process.groupExitWord < 0) process.groupExitWord = word;
  for (const thread of [...process.threads]) endTask(thread, word);
}

/** Ends a task: what it held goes back, but for what its parent still wants to see. @linux kernel/exit.c:do_exit */
export function endTask(task: Task, word: number): void {
  if (task.isDead) return;
  const { kernel, process } = task;
  settleFaults(task);
  if (kernel.trace.enabled) kernel.trace.emit(kernel.tracepoints.processExit, task.pid, word);
  if (task.state === 'ready') kernel.scheduler.dequeue(task);
  task.state = 'dead';
  task.generator = null;
  task.pending.length = 0;
  // What it was to look at for its process, others have to. @linux kernel/signal.c:exit_signals
  if (task.signalPending && process.threads.length > 1) retargetSharedPending(task, subtractSignals(ALL_SIGNALS, task.blocked));
  if (kernel.current === task) {
    task.port.detach();
    kernel.leaveCurrent();
    // Where nobody waits for the CPU it keeps the page tables, and is not interrupted for them.
    if (kernel.scheduler.isIdle(task.cpu)) kernel.smp.enterLazyTlb(task.cpu);
  }
  process.threads.splice(process.threads.indexOf(task), 1);
  // @linux kernel/exit.c:find_new_reaper
  for (const child of process.children) if (child.parentThread === task) child.parentThread = process.threads[0] ?? null;
  addAccounting(process.ended, task.accounting);
  if (process.threads.length === 0) endAddressSpace(kernel, process);
  else mmput(process.mm!);
  setTaskPolicy(kernel.vm, task.memPolicy, null);
  freeKernelStack(kernel, task.objects);
  if (task !== process.leader) releaseTask(task);
  if (process.threads.length === 0) notifyParent(kernel, process, process.groupExitWord < 0 ? word : process.groupExitWord);
}

/** Drops a user of an address space; with the last one it goes. @linux kernel/fork.c:mmput */
export function leaveAddressSpace(kernel: Kernel, mm: MmStruct): void {
  if (mm.users === 1) {
    // No CPU may go on with page tables that are about to be freed.
    const pgd = mm.pgd * 4096;
    for (const cpu of kernel.smp.cpus) if (cpu.cr3 === pgd) cpu.loadCr3(kernel.vm.kernelPgd * 4096);
  }
  mmput(mm);
}

/** Gives back the address space, the files and what else only a living process has. */
function endAddressSpace(kernel: Kernel, process: Process): void {
  const mm = process.mm!;
  cgroupExit(process);
  process.maxRss = maxResident(process);
  process.finalMemory = processMemory(mm);
  process.mm = null;
  leaveAddressSpace(kernel, mm);
  process.files.closeAll();
  const { objects } = process;
  kernel.caches.files_cache.free(objects.files);
  kernel.caches.fs_cache.free(objects.fs);
  objects.files = 0;
  objects.fs = 0;
}

/** Its children become the machine's; its parent hears of it, or, where nobody cares, it is gone. @linux kernel/exit.c:exit_notify */
function notifyParent(kernel: Kernel, process: Process, word: number): void {
  process.statusWord = word;
  for (const child of process.children) {
    child.parent = null;
    if (child.isZombie) reap(kernel, child);
  }
  process.children.clear();
  const { parent } = process;
  if (parent === null) {
    reap(kernel, process);
    return;
  }
  const { disposition, flags } = parent.actions.get(SIGCHLD) ?? { disposition: 'default', flags: 0 };
  const code = (word & 0x7f) === 0 ? CLD_EXITED : CLD_KILLED;
  if (disposition !== 'ignore') sendSignal(parent, null, { signo: SIGCHLD, code, addr: 0, pid: process.tgid });
  if (disposition !== 'ignore' && (flags & SA_NOCLDWAIT) === 0) return;
  parent.children.delete(process);
  reap(kernel, process);
}

/** Forgets a process that has ended: its number is free again. @linux kernel/exit.c:release_task */
export function reap(kernel: Kernel, process: Process): void {
  process.parent?.children.delete(process);
  releaseTask(process.leader);
  freeProcessObjects(kernel, process.objects);
}

function releaseTask(task: Task): void {
  const { kernel } = task;
  kernel.tasks.remove(task.pid);
  freeTaskObjects(kernel, task.objects);
}
