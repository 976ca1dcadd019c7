/**
 * Programs: an address space of their own, laid out as a small static program's. The first of a process, and those that
 * take its place.
 *
 * @linux fs/exec.c
 */
import { ADDR_COMPAT_LAYOUT, ADDR_LIMIT_3GB, ADDR_NO_RANDOMIZE, Errno, READ_IMPLIES_EXEC } from '@pagelab/abi';
import type { Program, ProgramDescription, VirtAddr } from '@pagelab/abi';
import { FileTable } from '@pagelab/syscalls';
import { execLayout, inheritMemoryFlags, ksmEnter, mmAlloc, mmput } from '@pagelab/vm';
import type { LayoutOptions, MmStruct } from '@pagelab/vm';
import { effectiveMemcg, mayHaveProcesses, noteMembership } from './cgroup/cgroup.ts';
import { CGROUP_MOUNT } from './cgroup/cgroups.ts';
import { credentialsForExec, rootCredentials } from './credentials.ts';
import { endTask, leaveAddressSpace } from './exit.ts';
import { attachHandle } from './handle.ts';
import type { Kernel } from './kernel.ts';
import { openConsole } from './open.ts';
import { Process } from './process.ts';
import { describeProgram, programFile } from './program-file.ts';
import { copyLimits, initialLimits, mmLimits } from './resource-limits.ts';
import { allocProcessObjects, allocTaskObjects, freeKernelStack, freeProcessObjects, freeTaskObjects } from './task-objects.ts';
import { EMPTY_SIGNALS } from './signal-set.ts';
import { NO_SIGNAL_STACK } from './signal-frame.ts';
import { Task } from './task.ts';
import { maxResident, settleFaults } from './usage.ts';

/** Where a program's own parts lie. Addresses; ends are exclusive. */
export interface ProgramImage {
  readonly textStart: VirtAddr;
  readonly textEnd: VirtAddr;
  readonly dataStart: VirtAddr;
  readonly dataEnd: VirtAddr;
  /** Data that starts as zero. */
  readonly bssStart: VirtAddr;
  readonly bssEnd: VirtAddr;
  /** Where the heap begins. */
  readonly heapStart: VirtAddr;
  /** The program's stack pointer when it starts. */
  readonly stackPointer: VirtAddr;
}

function programPath(comm: string): string {
  return `/bin/${comm}`;
}

/** What a process is started with. */
export interface StartOptions {
  /** As `ps` shows it, at most 15 characters are kept; `program` by default. */
  readonly name?: string;
  /** What the program gets beside its handle. */
  readonly argv?: readonly string[];
  /** ADDR_ bits: how its address space is laid out, and the address spaces of programs after it. */
  readonly personality?: number;
  /** The control group that it starts in, by its path from the mount point, as in `/jobs`; the root unless told. */
  readonly cgroup?: string;
  /** A program of 32 bits on a machine of 64: registers, addresses and layout are those of one. */
  readonly compat?: boolean;
  /** What its file holds, where the program itself does not say. */
  readonly image?: ProgramDescription;
}

/** Where the parts of a program that has been laid out lie. */
function placesOf(mm: MmStruct, { bss }: Required<ProgramDescription>): ProgramImage {
  return {
    textStart: mm.startCode,
    textEnd: mm.endCode,
    dataStart: mm.startData,
    dataEnd: mm.endData,
    bssStart: mm.endData,
    bssEnd: mm.endData + bss,
    heapStart: mm.startBrk,
    stackPointer: mm.startStack,
  };
}

/** Lays out the program of a new process, or of one that runs another. @returns 0 or -errno */
function layOut(
  kernel: Kernel, mm: MmStruct, comm: string, description: Required<ProgramDescription>, personality: number, options: StartOptions,
): number {
  const compat = options.compat === true && !mm.is32Bit;
  const file = programFile(programPath(comm), description, compat || mm.is32Bit);
  const limit3GB = (personality & ADDR_LIMIT_3GB) !== 0;
  return execLayout(mm, file, { ...layoutOptions(kernel, personality), compat, limit3GB });
}

/**
 * How the next program is laid out: as the personality says, where `/proc/sys` leaves it the choice; by chance, which is
 * the machine's seed, where that is switched on.
 *
 * @linux arch/x86/mm/mmap.c:arch_pick_mmap_layout
 */
function layoutOptions(kernel: Kernel, personality: number): LayoutOptions {
  const { randomizeVaSpace, legacyVaLayout } = kernel.vm.sysctl;
  const legacy = (personality & ADDR_COMPAT_LAYOUT) !== 0 || legacyVaLayout !== 0;
  if ((personality & ADDR_NO_RANDOMIZE) !== 0 || randomizeVaSpace === 0) return { legacy };
  const { layoutPrng } = kernel.scheduler;
  return { legacy, random: { below: (bound) => layoutPrng.below(bound), heap: randomizeVaSpace > 1 } };
}

/** The name a program runs under: at most 15 characters, none of which a path or a line could not hold. */
function commOf(name: string): string {
  return name.replace(/[^\x21-\x7e]|\//g, '_').slice(0, 15) || 'program';
}

/**
 * Makes a process whose parent is the machine, with root's credentials.
 *
 * @param program `null` for one that is driven from outside
 * @returns its first task, not yet ready to run; or -errno: ENOMEM, EAGAIN
 */
export function startProcess(kernel: Kernel, program: Program | null, options: StartOptions): Task | number {
  const comm = commOf(options.name ?? 'program');
  const description = describeProgram(program?.image ?? options.image);
  const argv = [...(options.argv ?? [])];
  const cgroup = kernel.cgroups.find(`${CGROUP_MOUNT}/${options.cgroup ?? ''}`);
  if (cgroup === undefined) return -Errno.ENOENT;
  if (!mayHaveProcesses(cgroup)) return -Errno.EBUSY;
  const limits = copyLimits(initialLimits(kernel.pages.totalramPages));
  const credentials = rootCredentials();
  const pid = kernel.tasks.allocPid();
  if (pid < 0) return -Errno.EAGAIN;
  const taskObjects = allocTaskObjects(kernel);
  if (typeof taskObjects === 'number') return taskObjects;
  const processObjects = allocProcessObjects(kernel);
  const mm = typeof processObjects === 'number' ? processObjects : mmAlloc(kernel.vm, mmLimits(limits, credentials));
  const undo = (error: number): number => {
    if (typeof mm !== 'number') mmput(mm);
    if (typeof processObjects !== 'number') freeProcessObjects(kernel, processObjects);
    freeKernelStack(kernel, taskObjects);
    freeTaskObjects(kernel, taskObjects);
    return error;
  };
  if (typeof processObjects === 'number') return undo(processObjects);
  if (typeof mm === 'number') return undo(mm);
  mm.memcg = effectiveMemcg(cgroup);
  const error = layOut(kernel, mm, comm, description, options.personality ?? 0, options);
  if (error < 0) return undo(error);

  const files = new FileTable();
  for (let fd = 0; fd < 3; fd++) {
    const file = openConsole(kernel);
    if (typeof file === 'number') {
      files.closeAll();
      return undo(file);
    }
    files.install(file, -1);
  }
  const process = new Process({
    tgid: pid,
    comm,
    argv: [programPath(comm), ...argv],
    parent: null,
    pgrp: pid,
    limits,
    files,
    library: { curbrk: -1 },
    image: placesOf(mm, description),
    mm,
    cgroup,
    actions: new Map(),
    oomScoreAdj: 0,
    oomScoreAdjMin: 0,
    objects: processObjects,
    startTime: kernel.clock.now,
  });
  const task = new Task({
    kernel,
    process,
    pid,
    cpu: kernel.scheduler.placeTask(),
    state: program === null ? 'driven' : 'blocked',
    credentials,
    objects: taskObjects,
    program,
    argv,
  });
  process.leader = task;
  process.threads.push(task);
  task.personality = options.personality ?? 0;
  attachHandle(task);
  kernel.tasks.add(task);
  noteMembership(kernel, process);
  return task;
}

/**
 * Puts another program in the place of the one that `task` runs: a new address space, no handlers, none of the files that
 * are to be closed, none of the other threads. The task runs it with its next turn.
 *
 * @param program `null` for a process that is driven from outside
 * @returns 0; -ENOMEM with nothing changed
 * @linux fs/exec.c:begin_new_exec
 */
export function execProgram(task: Task, program: Program | null, options: StartOptions): number {
  const { kernel, process } = task;
  const comm = commOf(options.name ?? process.comm);
  const description = describeProgram(program?.image ?? options.image);
  const mm = mmAlloc(kernel.vm, mmLimits(process.limits, task.credentials));
  if (typeof mm === 'number') return mm;
  mm.memcg = process.mm!.memcg;
  inheritMemoryFlags(mm, process.mm!);
  if (mm.mergeAny && !ksmEnter(mm)) {
    mmput(mm);
    return -Errno.ENOMEM;
  }
  const error = layOut(kernel, mm, comm, description, task.personality, options);
  if (error < 0) {
    mmput(mm);
    return error;
  }
  // From here on there is no way back. @linux arch/x86/kernel/process_64.c:set_personality_64bit
  if (!mm.is32Bit && options.compat !== true) task.personality &= ~READ_IMPLIES_EXEC;
  becomeOnlyThread(task);
  settleFaults(task);
  process.maxRss = maxResident(process);
  if (kernel.current === task) {
    task.port.detach();
    kernel.leaveCurrent();
  }
  const old = process.mm!;
  process.mm = mm;
  leaveAddressSpace(kernel, old);
  process.files.closeForExec();
  for (const [signal, { disposition }] of [...process.actions]) {
    if (disposition === 'ignore') process.actions.set(signal, { disposition, flags: 0, mask: EMPTY_SIGNALS });
    else process.actions.delete(signal);
  }
  credentialsForExec(task.credentials);
  process.comm = comm;
  process.argv = [programPath(comm), ...(options.argv ?? [])];
  process.library = { curbrk: -1 };
  process.image = placesOf(mm, description);
  process.hasExeced = true;
  task.programNumber += 1;
  task.handlers = 0;
  task.signalStack = NO_SIGNAL_STACK;
  task.stackPointer = mm.startStack;
  task.lastFaultAddress = -1;
  task.program = program;
  task.argv = [...(options.argv ?? [])];
  task.started = false;
  task.generator = null;
  attachHandle(task);
  return 0;
}

/** Ends all other threads; the one that is left has the process's number. @linux fs/exec.c:de_thread */
function becomeOnlyThread(task: Task): void {
  const { kernel, process } = task;
  for (const thread of [...process.threads]) if (thread !== task) endTask(thread, 0);
  const { leader } = process;
  if (leader === task) return;
  kernel.tasks.remove(leader.pid);
  freeTaskObjects(kernel, leader.objects);
  kernel.tasks.rename(task, process.tgid);
  process.leader = task;
}
