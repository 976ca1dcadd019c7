/**
 * New processes and threads.
 *
 * @linux kernel/fork.c:copy_process
 */
import { Errno } from '@pagelab/abi';
import type { Program } from '@pagelab/abi';
import { dupMm, mmput, mpolDup, mpolFree, waitForUffdEvents } from '@pagelab/vm';
import type { MemPolicy, MmLimits, MmStruct } from '@pagelab/vm';
import { copyCredentials } from './credentials.ts';
import { attachHandle } from './handle.ts';
import { Process } from './process.ts';
import { copyLimits, mmLimits } from './resource-limits.ts';
import { allocProcessObjects, allocTaskObjects, freeKernelStack, freeProcessObjects, freeTaskObjects } from './task-objects.ts';
import { Task } from './task.ts';

/**
 * Makes a child of the task's process: with a copy-on-write copy of its address space, or, by `vfork`, in that itself.
 *
 * @param program what the child runs; `null` for a child that is driven from outside
 * @returns the child's task, not yet ready to run; or -errno with nothing left behind: ENOMEM, EAGAIN
 */
export function forkProcess(
  task: Task,
  program: Program | null,
  argv: readonly string[],
  kind: 'fork' | 'vfork' = 'fork',
): Task | number {
  const shares = kind === 'vfork';
  const { kernel, process: parent } = task;
  const pid = kernel.tasks.allocPid();
  if (pid < 0) return -Errno.EAGAIN;
  const taskObjects = allocTaskObjects(kernel);
  if (typeof taskObjects === 'number') return taskObjects;
  const limits = copyLimits(parent.limits);
  const credentials = copyCredentials(task.credentials);
  const processObjects = allocProcessObjects(kernel);
  const policy = copyPolicy(task);
  const mm = typeof processObjects === 'number' || typeof policy === 'number' ? -Errno.ENOMEM : copyMm(task.mm, shares, mmLimits(limits, credentials));
  if (typeof processObjects === 'number' || typeof policy === 'number' || typeof mm === 'number') {
    if (typeof policy !== 'number' && policy !== null) mpolFree(kernel.vm, policy);
    if (typeof mm !== 'number') mmput(mm);
    if (typeof processObjects !== 'number') freeProcessObjects(kernel, processObjects);
    freeKernelStack(kernel, taskObjects);
    freeTaskObjects(kernel, taskObjects);
    return -Errno.ENOMEM;
  }
  const process = new Process({
    tgid: pid,
    comm: parent.comm,
    argv: parent.argv,
    parent,
    pgrp: parent.pgrp,
    limits,
    files: parent.files.copy(),
    library: shares ? parent.library : { ...parent.library },
    image: parent.image,
    mm,
    cgroup: parent.cgroup,
    actions: new Map(parent.actions),
    oomScoreAdj: parent.oomScoreAdj,
    oomScoreAdjMin: parent.oomScoreAdjMin,
    objects: processObjects,
    startTime: kernel.clock.now,
  });
  process.mceKill = parent.mceKill;
  const child = new Task({
    kernel,
    process,
    pid,
    cpu: kernel.scheduler.placeTask(task.affinity),
    state: program === null ? 'driven' : 'blocked',
    credentials,
    objects: taskObjects,
    program,
    argv,
  });
  process.leader = child;
  process.threads.push(child);
  inherit(child, task, policy);
  mm.memcg = task.mm.memcg;
  child.signalStack = task.signalStack;
  child.stackPointer = task.stackPointer;
  parent.children.add(process);
  process.parentThread = task;
  attachHandle(child);
  kernel.tasks.add(child);
  if (kernel.trace.enabled) kernel.trace.emit(kernel.tracepoints.processFork, task.pid, pid);
  // Who serves its faults is to know of the child before it runs.
  if (kernel.vm.uffdWaits.length > 0) waitForUffdEvents(kernel.vm);
  return child;
}

/** @linux kernel/fork.c:copy_mm */
function copyMm(mm: MmStruct, shares: boolean, limits: MmLimits): MmStruct | number {
  if (!shares) return dupMm(mm, limits);
  mm.users += 1;
  return mm;
}

/** A task's memory policy for its child; -ENOMEM. @linux mm/mempolicy.c:mpol_dup */
function copyPolicy({ kernel, memPolicy }: Task): MemPolicy | null | number {
  return memPolicy.policy === null ? null : mpolDup(kernel.vm, memPolicy.policy);
}

/** What every new task takes over: what it holds back, its execution domain, where it runs and where its memory lies. */
function inherit(child: Task, from: Task, policy: MemPolicy | null): void {
  child.affinity = from.affinity;
  child.memsAllowed = from.memsAllowed;
  child.memcgTask.memcg = from.memcgTask.memcg;
  Object.assign(child.memPolicy, from.memPolicy, { policy });
  child.blocked = from.blocked;
  child.personality = from.personality;
}

/** Makes a thread of the task's process; one without a program is driven from outside. @returns its task, not yet ready to run; or -errno: ENOMEM, EAGAIN */
export function createThread(task: Task, program: Program | null, argv: readonly string[]): Task | number {
  const { kernel, process } = task;
  const pid = kernel.tasks.allocPid();
  if (pid < 0) return -Errno.EAGAIN;
  const objects = allocTaskObjects(kernel);
  if (typeof objects === 'number') return objects;
  const policy = copyPolicy(task);
  if (typeof policy === 'number') {
    freeKernelStack(kernel, objects);
    freeTaskObjects(kernel, objects);
    return policy;
  }
  process.mm!.users += 1;
  const thread = new Task({
    kernel,
    process,
    pid,
    cpu: kernel.scheduler.placeTask(task.affinity),
    state: program === null ? 'driven' : 'blocked',
    credentials: copyCredentials(task.credentials),
    objects,
    program,
    argv,
  });
  process.threads.push(thread);
  inherit(thread, task, policy);
  attachHandle(thread);
  kernel.tasks.add(thread);
  if (kernel.trace.enabled) kernel.trace.emit(kernel.tracepoints.processFork, task.pid, pid);
  return thread;
}
