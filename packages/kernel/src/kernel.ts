/**
 * The running kernel: the parts that booting made, and what ties them together.
 */
import { BusError, HostMemoryError } from '@pagelab/hw';
import type { BlockDevice, CostModel, PhysicalMemory, Smp, VirtualClock } from '@pagelab/hw';
import { KernelBug } from '@pagelab/lib';
import type { TraceRing } from '@pagelab/lib';
import type { PageAlloc } from '@pagelab/mm-core';
import type { KernelCaches, KmemCache, Mempool, Percpu, Rcu, Slab, SlabReport } from '@pagelab/slab';
import { HostFs, ShmNamespace } from '@pagelab/vm';
import type { Dma, HostDirectory, SwapDevice, Vm } from '@pagelab/vm';
import { CallTrace } from './call-trace.ts';
import type { MachineConfig } from './config.ts';
import type { Console } from './console.ts';
import { Cgroups } from './cgroup/cgroups.ts';
import { Daemons, kernelDaemons } from './daemons.ts';
import { waitForUserfault } from './fs/userfaultfd-file.ts';
import { Namespace } from './fs/namespace.ts';
import { PipeLimits } from './fs/pipe.ts';
import type { KernelLog } from './kernel-log.ts';
import { RateLimit } from './ratelimit.ts';
import type { KernelPageTables } from './kernel-page-tables.ts';
import type { KernelStacks } from './kernel-stack.ts';
import type { Kmemleak } from './kmemleak.ts';
import type { LoadedModule } from './module.ts';
import type { Scheduler } from './scheduler.ts';
import type { StackUse } from './stack-use.ts';
import type { TaskTable } from './task-table.ts';
import type { Task, TaskObjects } from './task.ts';
import { defineTracepoints } from './tracepoints.ts';
import type { Tracepoints } from './tracepoints.ts';

/** For every mapping, for those that ask for it, for none. */
export type TransparentHugepage = 'always' | 'madvise' | 'never';

/** What booting makes. */
export interface KernelParts {
  readonly config: MachineConfig;
  readonly clock: VirtualClock;
  readonly costs: CostModel;
  readonly trace: TraceRing;
  readonly ram: PhysicalMemory;
  readonly smp: Smp;
  readonly pages: PageAlloc;
  readonly slab: Slab;
  readonly caches: KernelCaches;
  readonly pageTables: KernelPageTables;
  readonly vm: Vm;
  readonly dma: Dma;
  readonly percpu: Percpu;
  readonly stacks: KernelStacks;
  /** What waits until readers are done. */
  readonly rcu: Rcu;
  /** What looks for leaks; `null` without `kmemleak=on`. */
  readonly kmemleak: Kmemleak | null;
  readonly scheduler: Scheduler;
  readonly tasks: TaskTable;
  readonly console: Console;
  readonly log: KernelLog;
  /** Misuse of the slab allocator that was reported, the oldest thousand. */
  readonly slabReports: readonly SlabReport[];
}

export class Kernel implements KernelParts {
  readonly config: MachineConfig;
  readonly clock: VirtualClock;
  readonly costs: CostModel;
  readonly trace: TraceRing;
  readonly ram: PhysicalMemory;
  readonly smp: Smp;
  readonly pages: PageAlloc;
  readonly slab: Slab;
  readonly caches: KernelCaches;
  readonly pageTables: KernelPageTables;
  readonly vm: Vm;
  readonly dma: Dma;
  readonly percpu: Percpu;
  readonly stacks: KernelStacks;
  /** What waits until readers are done. */
  readonly rcu: Rcu;
  /** What looks for leaks; `null` without `kmemleak=on`. */
  readonly kmemleak: Kmemleak | null;
  readonly scheduler: Scheduler;
  readonly tasks: TaskTable;
  readonly console: Console;
  readonly log: KernelLog;
  /** How often it is said that an allocation failed, and that a promise of memory was refused. */
  readonly allocWarnings: RateLimit;
  readonly commitWarnings: RateLimit;
  readonly slabReports: readonly SlabReport[];
  /** Code of somebody else's has run inside: memory may be misused that the kernel itself does not. @linux include/linux/panic.h:TAINT_OOT_MODULE */
  outOfTreeModule = false;
  readonly tracepoints: Tracepoints;
  /** The tree of names. */
  readonly names: Namespace;
  /** What the kernel does by itself. */
  readonly daemons = new Daemons(kernelDaemons());
  /** Disks that can be swapped to, by path. */
  readonly swapDisks = new Map<string, BlockDevice>();
  /** Swap devices that the host handed in, by path. */
  readonly swapDevices = new Map<string, SwapDevice>();
  /** Control groups. */
  readonly cgroups: Cgroups;
  /** The cache that memory controllers of groups lie in; `null` until there is one. */
  memcgCache: KmemCache | null = null;
  /** What users may have of pipes. */
  readonly pipeLimits = new PipeLimits();
  /** System V segments. */
  readonly shm: ShmNamespace;
  /** The files at `/host`; `null` where no directory of the host is attached. */
  hostFs: HostFs | null = null;

  /**
   * What huge pages are used for. Machines with little memory begin without.
   * @linux mm/huge_memory.c:transparent_hugepage_flags
   */
  transparentHugepage: TransparentHugepage;
  /** Walks of the page tables by each CPU for which time has passed. */
  readonly walksSeen: Float64Array;
  /** The task that runs: whose page tables the current CPU has, and whose memory is attached. */
  current: Task | null = null;
  /** Functions of the kernel that are being called. */
  readonly callTrace = new CallTrace();
  /** The stack that kernel code runs on which says so; `null` for none. */
  stackUse: StackUse | null = null;
  /** The process id of the module that runs, or ran last. */
  modulePid = 0;
  /** The kernel thread that a module's code runs in; `null` while none runs. */
  moduleThread: TaskObjects | null = null;
  /** Pools that modules made. */
  readonly mempools = new Set<Mempool>();
  /** Loaded modules, by name. */
  readonly modules = new Map<string, LoadedModule>();
  /** Faults of the kernel's own since boot. @linux arch/x86/kernel/dumpstack.c:die_counter */
  oopses = 0;
  /** Why the machine has stopped: a bug of the emulator, or a limit of the host. Every use of it throws this again. */
  panic: Error | null = null;

  constructor(parts: KernelParts) {
    this.config = parts.config;
    this.clock = parts.clock;
    this.walksSeen = new Float64Array(parts.smp.cpus.length);
    this.costs = parts.costs;
    this.trace = parts.trace;
    this.ram = parts.ram;
    this.smp = parts.smp;
    this.pages = parts.pages;
    this.slab = parts.slab;
    this.caches = parts.caches;
    this.pageTables = parts.pageTables;
    this.vm = parts.vm;
    this.dma = parts.dma;
    this.percpu = parts.percpu;
    this.stacks = parts.stacks;
    this.rcu = parts.rcu;
    this.kmemleak = parts.kmemleak;
    this.scheduler = parts.scheduler;
    this.tasks = parts.tasks;
    this.console = parts.console;
    this.log = parts.log;
    this.allocWarnings = new RateLimit(parts.clock, 'warn_alloc', 10e9, 1);
    this.commitWarnings = new RateLimit(parts.clock, '__vm_enough_memory', 5e9, 10);
    this.slabReports = parts.slabReports;
    const { transparentHugepage = 'madvise' } = parts.config.commandLine;
    this.transparentHugepage = parts.pages.sysctl.transparentHugepage ? transparentHugepage : 'never';
    this.vm.thpMode = this.transparentHugepage;
    if (!parts.pages.sysctl.hasRoomForHugePages) {
      // Nothing that goes with huge pages is on then, and stays off when they are switched on. @linux mm/huge_memory.c:hugepage_init
      this.vm.thpDefrag = 'never';
      this.vm.usesHugeZero = false;
      this.vm.khugepaged.defrag = false;
    }
    this.vm.userfaultHooks = {
      wait: (wait) => {
        waitForUserfault(this, wait);
      },
      currentThread: () => this.current?.pid ?? 0,
    };
    this.tracepoints = defineTracepoints(parts.trace);
    this.cgroups = new Cgroups(this);
    this.names = new Namespace(this);
    this.shm = new ShmNamespace(parts.vm);
  }

  /** Lets programs read a directory of the host at `/host`. */
  attachHost(directory: HostDirectory): void {
    this.hostFs = new HostFs(this.vm, directory);
    this.names.attachHost('host', this.hostFs);
  }

  /** No task runs any more: what is allocated from here on is nobody's. */
  leaveCurrent(): void {
    this.current = null;
    if (this.vm.memcgs !== null) this.vm.memcgs.current = null;
    if (this.pages.memsAllowed !== null) this.pages.setMemsAllowed(null);
  }

  /** Runs what allocates on nobody's account, though a task may be the one that ran last. */
  asNobody<T>(body: () => T): T {
    const { memcgs } = this.vm;
    if (memcgs === null) return body();
    const { current } = memcgs;
    memcgs.current = null;
    try {
      return body();
    } finally {
      memcgs.current = current;
    }
  }

  /** Runs what allocates on the kernel's own account, though a module's code is being run: those are no leaks of the module's. */
  asKernel<T>(body: () => T): T {
    return this.kmemleak === null ? body() : this.kmemleak.ofKernel(body);
  }

  /**
   * Notes an error that came out of kernel code, and returns it. One after which the kernel's state cannot be trusted
   * stops the machine; others are the caller's.
   */
  stop(error: unknown): unknown {
    if (this.panic !== null) return this.panic;
    if (error instanceof KernelBug || error instanceof BusError || error instanceof HostMemoryError) this.panic = error;
    else if (isStackOverflow(error)) {
      this.panic = new Error('the host ran out of stack inside the kernel: the program calls itself too deeply');
    }
    return this.panic ?? error;
  }
}

function isStackOverflow(error: unknown): boolean {
  return error instanceof Error && /call stack|too much recursion/i.test(error.message);
}
