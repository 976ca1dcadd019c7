/**
 * A task: one thread of a process, with a CPU, a kernel stack and a handle for its program.
 *
 * @linux include/linux/sched.h:task_struct
 */
import { RUSAGE_CHILDREN, RUSAGE_THREAD } from '@pagelab/abi';
import type { Os, Program, ProgramGenerator, ResourceUsage, SigInfo, SignalStack, VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { UserMemoryPort } from '@pagelab/hw';
import type {
  Credentials,
  FileNames,
  FileTable,
  OpenFile,
  ResourceLimits,
  SignalActionInfo,
  SignalSet,
  TaskContext,
  WaitOutcome,
} from '@pagelab/syscalls';
import { newNumaTask, noTaskPolicy } from '@pagelab/vm';
import type { MmLimits, MmStruct, NumaTask, ShmNamespace, TaskPolicy, Vm, VmFile } from '@pagelab/vm';
import type { NodeMask } from '@pagelab/mm-core';
import { effectiveMemcg } from './cgroup/cgroup.ts';
import { TaskMemcg } from './cgroup/memory-controller.ts';
import { hasCapability } from './credentials.ts';
import { exitGroup, exitThread } from './exit.ts';
import type { TaskExit } from './exit.ts';
import type { Kernel } from './kernel.ts';
import type { KernelStack } from './kernel-stack.ts';
import { newAccounting } from './process.ts';
import type { Accounting, Process } from './process.ts';
import { openPipe } from './fs/pipe.ts';
import { openUserfault } from './fs/userfaultfd-file.ts';
import { swapoff, swapon } from './swapon.ts';
import { namesOf, openPath, openVmFile } from './open.ts';
import { killProcesses, killThread } from './kill.ts';
import { openPidfd } from './pidfd.ts';
import { processGroup, setProcessGroup } from './process-group.ts';
import { mmLimits } from './resource-limits.ts';
import { setAffinity, sleepTask, yieldCpu } from './scheduler.ts';
import { NO_SIGNAL_STACK, setSignalStack, shownSignalStack } from './signal-frame.ts';
import { EMPTY_SIGNALS } from './signal-set.ts';
import { changeSignalMask, pendingSignals, setDisposition } from './signals.ts';
import { usageOf } from './usage.ts';
import { waitForChild } from './wait.ts';

/** `ready`: could run. `driven`: runs when its handle is used. `blocked`: inside a call that lets others run. */
export type TaskState = 'ready' | 'running' | 'driven' | 'blocked' | 'dead';

/** Addresses of the objects, and frames, that stand for a task. */
export interface TaskObjects {
  task: VirtAddr;
  cred: VirtAddr;
  pid: VirtAddr;
  /** The kernel stack; `null` once it has ended. */
  stack: KernelStack | null;
}

export class Task implements TaskContext {
  readonly kernel: Kernel;
  readonly process: Process;
  pid: number;
  /** The CPU it is placed on. */
  cpu: number;
  state: TaskState;
  /** CPUs it may run on. */
  affinity: readonly number[];
  /** Where its allocations go. */
  readonly memPolicy: TaskPolicy = noTaskPolicy();
  /** Where what it uses lies, as far as that is looked at. */
  readonly numa: NumaTask;
  /** Nodes that its group lets it take pages from; `null` for all. @linux include/linux/sched.h:task_struct.mems_allowed */
  memsAllowed: NodeMask | null = null;
  /** What its memory is charged to. */
  readonly memcgTask: TaskMemcg = new TaskMemcg(this);
  readonly credentials: Credentials;
  readonly objects: TaskObjects;
  readonly accounting: Accounting = newAccounting();
  /** Faults of the address space when the task was last switched in. */
  minFltMark = 0;
  majFltMark = 0;

  /** What it runs; `null` for a task that is driven from outside. */
  program: Program | null;
  argv: readonly string[];
  /** Its program's state, where that is a generator that has begun. */
  generator: ProgramGenerator | null = null;
  started = false;
  port!: UserMemoryPort;
  os!: Os;

  /** Its limits and capabilities, as its address space asks for them. */
  readonly mmLimits: MmLimits;
  /** Signals sent to it and not yet delivered, lowest number first to be looked at. */
  readonly pending: SigInfo[] = [];
  /** Whether it has to deal with signals before it goes on in user mode. @linux include/asm-generic/thread_info.h:TIF_SIGPENDING */
  signalPending = false;
  /** Signals that are held back. */
  blocked: SignalSet = EMPTY_SIGNALS;
  /** Handlers that are running, one inside the other. */
  handlers = 0;
  /** The stack for handlers; of size 0 where there is none. */
  signalStack: SignalStack = NO_SIGNAL_STACK;
  /** Where its stack stands, as far as the program has told. */
  stackPointer: VirtAddr;
  /** ADDR_ and other bits, for the next program. */
  personality = 0;
  /** Counts the programs that it ran: a handle is one program's. */
  programNumber = 0;
  /** Thrown by every use of the handle once the task has ended; `null` until the first. */
  exitError: TaskExit | null = null;
  /** Whether the OOM killer chose it. */
  oomVictim = false;
  /** The last fault that a handler was called for, and how often in a row. */
  lastFaultAddress = -1;
  repeatedFaults = 0;

  constructor(fields: {
    kernel: Kernel;
    process: Process;
    pid: number;
    cpu: number;
    state: TaskState;
    credentials: Credentials;
    objects: TaskObjects;
    program: Program | null;
    argv: readonly string[];
  }) {
    this.kernel = fields.kernel;
    this.process = fields.process;
    this.mmLimits = mmLimits(fields.process.limits, fields.credentials);
    this.pid = fields.pid;
    this.numa = newNumaTask(fields.kernel.pages.nodes.length, fields.pid, () => fields.process.threads.length);
    this.stackPointer = fields.process.image.stackPointer;
    this.cpu = fields.cpu;
    this.affinity = fields.kernel.smp.cpus.map(({ id }) => id);
    this.state = fields.state;
    this.credentials = fields.credentials;
    this.objects = fields.objects;
    this.program = fields.program;
    this.argv = fields.argv;
    const { memcgs } = fields.kernel.vm;
    if (memcgs !== null) this.memcgTask.memcg = effectiveMemcg(fields.process.cgroup) ?? memcgs.root;
  }

  get isDead(): boolean {
    return this.state === 'dead';
  }

  get vm(): Vm {
    return this.kernel.vm;
  }

  /** Its address space. Only of a live task. */
  get mm(): MmStruct {
    return this.process.mm!;
  }

  get tgid(): number {
    return this.process.tgid;
  }

  get ppid(): number {
    return this.process.parent === null ? 1 : this.process.parent.tgid;
  }

  get limits(): ResourceLimits {
    return this.process.limits;
  }

  get files(): FileTable {
    return this.process.files;
  }

  get nrTasks(): number {
    return this.kernel.tasks.size;
  }

  get comm(): string {
    return this.process.comm;
  }

  set comm(name: string) {
    this.process.comm = name;
  }

  get mceKill(): number {
    return this.process.mceKill;
  }

  set mceKill(when: number) {
    this.process.mceKill = when;
  }

  rlimit(resource: number): number {
    return this.process.limits.cur[resource]!;
  }

  rlimitMax(resource: number): number {
    return this.process.limits.max[resource]!;
  }

  capable(capability: number): boolean {
    return hasCapability(this.credentials, capability);
  }

  exit(status: number): never {
    return exitThread(this, status);
  }

  exitGroup(status: number): never {
    return exitGroup(this, status);
  }

  wait(pid: number, options: number): WaitOutcome | number {
    return waitForChild(this, pid, options);
  }

  kill(pid: number, signal: number): number {
    return killProcesses(this, pid, signal);
  }

  killThread(tgid: number, pid: number, signal: number): number {
    return killThread(this, tgid, pid, signal);
  }

  signalAction(signal: number): SignalActionInfo {
    const setting = this.process.actions.get(signal);
    if (setting === undefined) return { action: 'default', flags: 0, mask: EMPTY_SIGNALS };
    const { disposition, flags, mask } = setting;
    return { action: typeof disposition === 'function' ? 'handler' : disposition, flags, mask };
  }

  setSignalAction(signal: number, action: 'default' | 'ignore', flags: number): void {
    setDisposition(this, signal, action, { flags });
  }

  pendingSignals(): SignalSet {
    return pendingSignals(this);
  }

  changeSignalMask(how: number, set: SignalSet): number {
    return changeSignalMask(this, how, set);
  }

  shownSignalStack(): SignalStack {
    return shownSignalStack(this);
  }

  setSignalStack(stack: SignalStack): number {
    return setSignalStack(this, stack);
  }

  processGroup(pid: number): number {
    return processGroup(this, pid);
  }

  setProcessGroup(pid: number, group: number): number {
    return setProcessGroup(this, pid, group);
  }

  openPidfd(pid: number, flags: number): OpenFile | number {
    return openPidfd(this.kernel, pid, flags);
  }

  usage(who: number): ResourceUsage {
    return usageOf(this, who === RUSAGE_CHILDREN ? 'children' : who === RUSAGE_THREAD ? 'thread' : 'self');
  }

  open(path: string, flags: number, mode: number): OpenFile | number {
    return openPath(this.kernel, this, path, flags, mode);
  }

  openVmFile(file: VmFile, flags: number): OpenFile | number {
    return openVmFile(this.kernel, file, flags);
  }

  openUserfault(openFlags: number, flags: number): OpenFile | number {
    return openUserfault(this.kernel, this, openFlags, flags);
  }

  openPipe(flags: number): readonly [OpenFile, OpenFile] | number {
    return openPipe(this.kernel, this, flags);
  }

  swapon(path: string, flags: number): number {
    return swapon(this.kernel, this, path, flags);
  }

  swapoff(path: string): number {
    return swapoff(this.kernel, this, path);
  }

  get names(): FileNames {
    return namesOf(this.kernel, this);
  }

  get shm(): ShmNamespace {
    return this.kernel.shm;
  }

  findTask(pid: number): TaskContext | undefined {
    const task = this.kernel.tasks.get(pid);
    return task === undefined || task.process.mm === null ? undefined : task;
  }

  yieldCpu(): void {
    yieldCpu(this);
  }

  sleep(ns: number): void {
    sleepTask(this, ns);
  }

  setAffinity(cpus: readonly number[]): number {
    return setAffinity(this, cpus);
  }
}

/** Physical address of a task's top-level page table. */
export function pgdAddress(mm: MmStruct): number {
  return mm.pgd * PAGE_SIZE;
}
