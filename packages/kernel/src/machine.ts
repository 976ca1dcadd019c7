/**
 * The public handle of a machine: plain data in, plain data out, and no way to the kernel's objects.
 */
import { SyscallError } from '@pagelab/abi';
import type { Os, Program } from '@pagelab/abi';
import type { TraceRing } from '@pagelab/lib';
import type { SlabReport } from '@pagelab/slab';
import type { PageOwnerEntry } from '@pagelab/mm-core';
import type { MachineConfig } from './config.ts';
import { execProgram, startProcess } from './exec.ts';
import type { ProgramImage, StartOptions } from './exec.ts';
import { endProcess, endTask, TaskExit } from './exit.ts';
import { createThread, forkProcess } from './fork.ts';
import type { ConsoleSink } from './console.ts';
import { kernelRead, kernelReadBytes, kernelWrite } from './kernel-file.ts';
import type { Kernel } from './kernel.ts';
import type { KernelModule } from './module.ts';
import { runModule, unloadModule } from './module-run.ts';
import type { ModuleOptions } from './module-run.ts';
import { listFiles } from './proc/lookup.ts';
import type { KmemleakReport } from './kmemleak.ts';
import type { ProcessMemory } from './process-memory.ts';
import type { Process as ProcessState } from './process.ts';
import { schedule } from './scheduler.ts';
import { describeSignal } from './signals.ts';
import { machineStats } from './stats.ts';
import type { MachineStats } from './stats.ts';
import type { Task } from './task.ts';
import { processAccounting, toUsage } from './usage.ts';
import { validateKernel } from './validate.ts';

export type { StartOptions } from './exec.ts';

/** How a program ended, and what it used. */
export interface RunResult {
  readonly pid: number;
  /** The exit status, or `null` where a signal ended it. */
  readonly status: number | null;
  /** The signal that ended it, or `null`. */
  readonly signal: number | null;
  /** As a shell would put it, `'Segmentation fault'`; `''` where it exited. */
  readonly description: string;
  /** What its program threw and nobody caught. */
  readonly error: unknown;
  /** Its own faults, and its children's. */
  readonly faults: number;
  readonly childFaults: number;
  /** Largest resident set, in KiB: its own, or that of a child that was waited for. */
  readonly maxRssKb: number;
  /** What its address space came to at the end; `null` where it has not ended. */
  readonly memory: ProcessMemory | null;
  /** Virtual time it took, in nanoseconds. */
  readonly timeNs: number;
}

/** A process that is driven from outside, a call or an access at a time. */
export interface Process {
  readonly pid: number;
  readonly os: Os;
  /** Where its own parts lie. */
  readonly image: ProgramImage;
  readonly alive: boolean;
  /** The signal that ended it; `null` while it lives, or where it exited. */
  readonly lastSignal: number | null;
  /** The status it exited with; `null` while it lives, or where a signal ended it. */
  readonly status: number | null;
  /** Makes a child that is driven from outside too; or -errno. */
  fork(): Process | number;
  /**
   * Makes a child in this very address space, driven from outside too; or -errno. Nothing holds this process up: to leave it
   * alone until the child has ended or runs another program is up to who drives them.
   */
  vfork(): Process | number;
  /** Makes a further thread, driven from outside too; or -errno: EAGAIN, ENOMEM. */
  thread(): Thread | number;
  /** Puts another program in its place, driven from outside too: `os` and `image` are that one's. @returns 0 or -errno */
  execve(options?: StartOptions): number;
  /** Ends it, if it still lives. */
  exit(status: number): void;
}

/** A further thread of a process that is driven from outside. */
export interface Thread {
  readonly tid: number;
  readonly os: Os;
  /** False once it has ended, by itself or with its process. */
  readonly alive: boolean;
  /** Makes another thread, which takes over from this one what is a thread's own; or -errno: EAGAIN, ENOMEM. */
  thread(): Thread | number;
  /** Ends it, if it still lives, and nothing else. */
  exit(): void;
}

/** A booted machine. */
export interface Machine {
  readonly config: MachineConfig;
  /** Nanoseconds of virtual time since boot. */
  readonly now: number;
  /** Starts a program and runs until every task has ended. */
  run(program: Program, options?: StartOptions): RunResult;
  /** Starts a program, which runs with the next `schedule`. @returns its process id @throws SyscallError */
  spawn(program: Program, options?: StartOptions): number;
  /** Runs what can run until nothing can. @returns the turns it took */
  schedule(): number;
  /** Makes a process that is driven from outside. @throws SyscallError */
  createProcess(options?: StartOptions): Process;
  /**
   * Runs kernel code of one's own: `body` gets what a loadable module has. What it allocates stays when it returns.
   *
   * @throws KernelOops where it makes an access that hardware refuses; the machine goes on
   */
  module<T>(body: (module: KernelModule) => T, options?: ModuleOptions): T;
  /** Kernel memory that nobody can reach, as scans found it; needs `kmemleak=on` on the command line. */
  kmemleak(): KmemleakReport[];
  /** Who allocated a frame; `undefined` where nobody did. Needs `page_owner=on` on the command line. */
  pageOwner(pfn: number): PageOwnerEntry | undefined;
  /** Unloads a module: its data section is freed, what else it holds is not. @returns whether it was loaded */
  unloadModule(name: string): boolean;
  /** The text of a file of `/proc` or `/sys`. @throws SyscallError */
  readFile(path: string): string;
  readFileBytes(path: string, offset: number, length: number): Uint8Array;
  writeFile(path: string, text: string): void;
  /** Paths of all such files. */
  listFiles(): string[];
  /** What was printed so far. */
  readonly consoleText: string;
  /** Where lines go as they are printed. */
  setConsole(sink: ConsoleSink | undefined): void;
  /** The kernel's log. */
  dmesg(): string;
  /** Misuse of kernel memory that the slab allocator noticed, oldest first: at most a thousand. */
  slabReports(): readonly SlabReport[];
  stats(): MachineStats;
  readonly trace: TraceRing;
  /** Recomputes every invariant. @throws KernelBug for the first that does not hold */
  validate(): void;
  /** Gives back what per-CPU lists, empty slabs, kept stacks, empty chunks of per-CPU memory and freed areas of vmalloc hold, so that what is left is in use. */
  quiesce(): void;
  /** Ends every process and lets go of the machine's memory. It cannot be used afterwards. */
  dispose(): void;
}

const EMPTY_USE = 'the machine has been disposed of';

/** Wraps a kernel. */
export function createMachine(kernel: Kernel): Machine {
  let live: Kernel | null = kernel;
  const { config } = kernel;

  const use = (): Kernel => {
    if (live === null) throw new Error(EMPTY_USE);
    if (live.panic !== null) throw live.panic;
    return live;
  };

  /** Runs kernel code on nobody's behalf. */
  const inKernel = <T>(body: (kernel: Kernel) => T): T => {
    const running = use();
    try {
      // Inside of a module's code too: what the machine is asked to do is not the module's.
      return running.moduleThread === null ? body(running) : running.asKernel(() => body(running));
    } catch (error) {
      throw running.stop(error);
    }
  };

  const start = (program: Program | null, options: StartOptions): Task =>
    inKernel((running) => {
      const task = running.asNobody(() => startProcess(running, program, options));
      if (typeof task === 'number') throw new SyscallError('execve', task);
      return task;
    });

  const drain = (): number =>
    inKernel((running) => {
      let turns = 0;
      while (schedule(running)) turns += 1;
      return turns;
    });

  return Object.freeze<Machine>({
    config,
    get now() {
      return use().clock.now;
    },
    run(program, options = {}) {
      const task = start(program, options);
      const { process } = task;
      const began = use().clock.now;
      use().scheduler.enqueue(task);
      drain();
      return resultOf(process, began, use().clock.now);
    },
    spawn(program, options = {}) {
      const task = start(program, options);
      use().scheduler.enqueue(task);
      return task.pid;
    },
    schedule: drain,
    createProcess: (options = {}) => driven(start(null, options), inKernel),
    module: (body, options = {}) => inKernel((running) => runModule(running, body, options)),
    kmemleak: () => inKernel((running) => running.kmemleak?.reports() ?? []),
    pageOwner: (pfn) => inKernel((running) => running.pages.pageOwner?.of(pfn)),
    unloadModule: (name) => inKernel((running) => unloadModule(running, name)),
    readFile: (path) => inKernel((running) => kernelRead(running, path)),
    readFileBytes: (path, offset, length) => inKernel((running) => kernelReadBytes(running, path, offset, length)),
    writeFile(path, text) {
      inKernel((running) => {
        kernelWrite(running, path, text);
      });
    },
    listFiles: () => inKernel(listFiles),
    get consoleText() {
      return use().console.read();
    },
    setConsole(sink) {
      use().console.sink = sink;
    },
    dmesg: () => use().log.read(),
    slabReports: () => [...use().slabReports],
    stats: () => inKernel(machineStats),
    get trace() {
      return use().trace;
    },
    validate: () => inKernel(validateKernel),
    quiesce() {
      inKernel((running) => {
        running.percpu.shrink();
        running.stacks.dropCached();
        running.vm.vmalloc.purge();
        for (const cache of running.slab.caches()) cache.shrink();
        running.rcu.barrier();
        running.pages.drainAllPages();
      });
    },
    dispose() {
      if (live === null) return;
      // Handles of its processes may still be around: each use of one says that the machine is gone.
      live.panic ??= new Error(EMPTY_USE);
      live.current?.port.detach();
      live.ram.release();
      live = null;
    },
  });
}

/** The handle of a process that is driven from outside. */
function driven(task: Task, inKernel: <T>(body: (kernel: Kernel) => T) => T): Process {
  const { process } = task;
  const fork = (kind: 'fork' | 'vfork'): Process | number =>
    inKernel(() => {
      if (task.isDead) throw new TaskExit(`task ${task.pid} has ended`);
      const child = forkProcess(task, null, [], kind);
      return typeof child === 'number' ? child : driven(child, inKernel);
    });
  return Object.freeze<Process>({
    pid: task.pid,
    get os() {
      return task.os;
    },
    get image() {
      return process.image;
    },
    get alive() {
      return !process.isZombie;
    },
    get lastSignal() {
      const signal = process.statusWord & 0x7f;
      return process.isZombie && signal !== 0 ? signal : null;
    },
    get status() {
      return process.isZombie && (process.statusWord & 0x7f) === 0 ? process.statusWord >> 8 : null;
    },
    fork: () => fork('fork'),
    vfork: () => fork('vfork'),
    thread: () =>
      inKernel(() => {
        if (task.isDead) throw new TaskExit(`task ${task.pid} has ended`);
        const thread = createThread(task, null, []);
        return typeof thread === 'number' ? thread : drivenThread(thread, inKernel);
      }),
    execve: (options = {}) =>
      inKernel(() => {
        if (task.isDead) throw new TaskExit(`task ${task.pid} has ended`);
        return execProgram(task, null, options);
      }),
    exit: (status) =>
      inKernel(() => {
        endProcess(process, (status & 0xff) << 8);
      }),
  });
}

function drivenThread(task: Task, inKernel: <T>(body: (kernel: Kernel) => T) => T): Thread {
  return Object.freeze<Thread>({
    tid: task.pid,
    os: task.os,
    get alive() {
      return !task.isDead;
    },
    thread: () =>
      inKernel(() => {
        if (task.isDead) throw new TaskExit(`task ${task.pid} has ended`);
        const thread = createThread(task, null, []);
        return typeof thread === 'number' ? thread : drivenThread(thread, inKernel);
      }),
    exit() {
      inKernel(() => {
        endTask(task, 0);
      });
    },
  });
}

function resultOf(process: ProcessState, began: number, now: number): RunResult {
  const word = process.statusWord;
  const signal = word < 0 ? null : (word & 0x7f) || null;
  const own = processAccounting(process);
  const usage = toUsage(own, Math.max(process.maxRss, process.waitedMaxRss));
  return {
    pid: process.tgid,
    status: word < 0 || signal !== null ? null : word >> 8,
    signal,
    description: word < 0 ? 'Suspended: nothing can run' : signal === null ? '' : describeSignal(signal),
    error: process.error,
    faults: own.minflt + own.majflt,
    childFaults: process.waited.minflt + process.waited.majflt,
    maxRssKb: usage.maxrss,
    memory: process.finalMemory,
    timeNs: now - began,
  };
}
