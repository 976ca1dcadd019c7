/**
 * A process: what its threads share.
 *
 * Linux spreads this over `signal_struct`, `sighand_struct` and `files_struct`; each has its object here, too.
 */
import { PR_MCE_KILL_DEFAULT } from '@pagelab/abi';
import type { SigInfo, SignalDisposition, VirtAddr } from '@pagelab/abi';
import type { FileTable, LibraryState, ResourceLimits, SignalSet } from '@pagelab/syscalls';
import type { MmStruct } from '@pagelab/vm';
import type { Cgroup } from './cgroup/cgroup.ts';
import type { ProgramImage } from './exec.ts';
import type { ProcessMemory } from './process-memory.ts';
import type { Task } from './task.ts';

/** Faults and time, of one task or summed up. Time in nanoseconds. */
export interface Accounting {
  utime: number;
  stime: number;
  minflt: number;
  majflt: number;
  nvcsw: number;
  nivcsw: number;
}

/** Counts from zero. */
export function newAccounting(): Accounting {
  return { utime: 0, stime: 0, minflt: 0, majflt: 0, nvcsw: 0, nivcsw: 0 };
}

/** Adds `from` to `to`. */
export function addAccounting(to: Accounting, from: Readonly<Accounting>): void {
  to.utime += from.utime;
  to.stime += from.stime;
  to.minflt += from.minflt;
  to.majflt += from.majflt;
  to.nvcsw += from.nvcsw;
  to.nivcsw += from.nivcsw;
}

/** What a signal does. @linux include/linux/signal_types.h:sigaction */
export interface SignalSetting {
  readonly disposition: SignalDisposition;
  /** SA_ bits. */
  readonly flags: number;
  /** Held back while the handler runs, beside the signal itself. */
  readonly mask: SignalSet;
}

/** Addresses of the objects that stand for a process. */
export interface ProcessObjects {
  signal: VirtAddr;
  sighand: VirtAddr;
  files: VirtAddr;
  fs: VirtAddr;
}

/** @linux include/linux/sched/signal.h:signal_struct */
export class Process {
  /** The number of its first thread. */
  readonly tgid: number;
  /** As `ps` shows it: at most 15 characters. */
  comm: string;
  /** What `/proc/PID/cmdline` shows. */
  argv: readonly string[];
  /** `null`: the machine itself, which is process 1 and reaps at once. */
  parent: Process | null;
  readonly children = new Set<Process>();
  /** The thread of its parent that made it, or has taken over from that. @linux include/linux/sched.h:task_struct.real_parent */
  parentThread: Task | null = null;
  /** Live threads, the first one first as long as it lives. */
  readonly threads: Task[] = [];
  /** The first thread; until the process is reaped. */
  leader!: Task;
  /** Process group. */
  pgrp: number;
  readonly limits: ResourceLimits;
  readonly files: FileTable;
  library: LibraryState;
  image: ProgramImage;
  /** `null` once it has ended. */
  mm: MmStruct | null;
  /** The control group that it is in, or was. */
  cgroup: Cgroup;
  /** What signals do, where it is not the default. */
  readonly actions: Map<number, SignalSetting>;
  /** Signals for any of its threads. */
  readonly pending: SigInfo[] = [];
  /** The thread that the last search for one which looks at a signal came to. @linux include/linux/sched/signal.h:signal_struct.curr_target */
  signalTaker: Task | null = null;
  /** It is killed first where memory runs out: it does what takes much of it. @linux include/linux/sched/signal.h:signal_struct.oom_flag_origin */
  isOomOrigin = false;
  oomScoreAdj: number;
  /** The lowest that an unprivileged task may set. */
  oomScoreAdjMin: number;
  readonly objects: ProcessObjects;
  /** Virtual time at which it was made, in nanoseconds. */
  readonly startTime: number;

  /** Whether it has run another program than its parent's. */
  hasExeced = false;
  /** −1 while it lives; then as `wait` stores it: status << 8, or the signal that ended it. */
  statusWord = -1;
  /** What the ending of the whole process was set to before its threads were all gone; −1 for nothing. */
  groupExitWord = -1;
  /** Threads that have ended. */
  readonly ended: Accounting = newAccounting();
  /** Children that were waited for, and theirs. */
  readonly waited: Accounting = newAccounting();
  /** Largest resident set of itself and of a waited-for child, in pages. */
  maxRss = 0;
  waitedMaxRss = 0;
  /** What its address space came to at the end; `null` while it lives. */
  finalMemory: ProcessMemory | null = null;
  /** When it is told of broken pages: PR_MCE_KILL_… */
  mceKill: number = PR_MCE_KILL_DEFAULT;
  /** The error of its program, where one ended it. */
  error: unknown = undefined;

  constructor(fields: {
    tgid: number;
    comm: string;
    argv: readonly string[];
    parent: Process | null;
    pgrp: number;
    limits: ResourceLimits;
    files: FileTable;
    library: LibraryState;
    image: ProgramImage;
    mm: MmStruct;
    cgroup: Cgroup;
    actions: Map<number, SignalSetting>;
    oomScoreAdj: number;
    oomScoreAdjMin: number;
    objects: ProcessObjects;
    startTime: number;
  }) {
    this.tgid = fields.tgid;
    this.comm = fields.comm;
    this.argv = fields.argv;
    this.parent = fields.parent;
    this.pgrp = fields.pgrp;
    this.limits = fields.limits;
    this.files = fields.files;
    this.library = fields.library;
    this.image = fields.image;
    this.mm = fields.mm;
    this.cgroup = fields.cgroup;
    fields.cgroup.processes.add(this);
    this.actions = fields.actions;
    this.oomScoreAdj = fields.oomScoreAdj;
    this.oomScoreAdjMin = fields.oomScoreAdjMin;
    this.objects = fields.objects;
    this.startTime = fields.startTime;
  }

  /** Whether it has ended and waits to be reaped. */
  get isZombie(): boolean {
    return this.statusWord >= 0;
  }
}
