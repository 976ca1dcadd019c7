/**
 * What a system call acts for: a task, as far as the calls need to know it. The process layer implements it.
 */
import type { NodeMask } from '@pagelab/mm-core';
import type { ResourceUsage, SignalStack } from '@pagelab/abi';
import type { MmLimits, MmStruct, ShmNamespace, TaskPolicy, UserRange, Vm, VmFile, ZeroFile } from '@pagelab/vm';
import type { FileTable } from './file-table.ts';

/** A set of capabilities, bit by bit: capabilities 0 to 31, and 32 on. */
export interface CapabilitySet {
  readonly low: number;
  readonly high: number;
}

/** Who a task is and what it may. @linux include/linux/cred.h:cred */
export interface Credentials {
  uid: number;
  gid: number;
  effective: CapabilitySet;
  permitted: CapabilitySet;
  inheritable: CapabilitySet;
}

/** Soft and hard limits by resource number, in bytes or as the resource counts; −1 is none. Shared by a process's threads. */
export interface ResourceLimits {
  readonly cur: number[];
  readonly max: number[];
}

/** A child that ended, and how. */
export interface WaitOutcome {
  readonly pid: number;
  /** As `wait` stores it: status << 8, or the signal that ended it. */
  readonly statusWord: number;
  readonly usage: ResourceUsage;
}

/** A set of signals, bit by bit: 1 to 32, and 33 to 64. */
export interface SignalSet {
  readonly low: number;
  readonly high: number;
}

/** What a task does with a signal, with all that `rt_sigaction` tells. */
export interface SignalActionInfo {
  readonly action: SignalAction;
  /** SA_ bits. */
  readonly flags: number;
  readonly mask: SignalSet;
}

/** What a task does with a signal, as far as a number can tell. */
export type SignalAction = 'default' | 'ignore' | 'handler';

/** What `stat` tells of a file. @linux include/linux/stat.h:kstat */
export interface FileStatus {
  readonly dev: readonly [major: number, minor: number];
  readonly ino: number;
  readonly nlink: number;
  /** Type and permissions. */
  readonly mode: number;
  /** Who owns it; root where it does not say. */
  readonly uid?: number;
  readonly gid?: number;
  /** Of a device: which one. */
  readonly rdev: readonly [major: number, minor: number];
  /** In bytes. */
  readonly size: number;
  readonly blockBytes: number;
  /** Blocks of 512 bytes. */
  readonly blocks: number;
  /** Virtual times in nanoseconds. */
  readonly atime: number;
  readonly mtime: number;
  readonly ctime: number;
}

/** An open file. Counted: each descriptor is one reference. @linux include/linux/fs.h:file */
export interface OpenFile {
  /** O_ flags it was opened with; F_SETFL changes some. */
  flags: number;
  /** As `/proc/PID/maps` and error messages show it. */
  readonly path: string;
  /** The next byte that `read` or `write` acts on. */
  position: number;
  /** What `mmap` maps; `null` for a file that cannot be mapped. */
  readonly vmFile: VmFile | null;
  /** Whether it has a position: `lseek` and `pread64` fail with ESPIPE where not. */
  readonly seekable: boolean;
  /** Length in bytes, for SEEK_END; -EINVAL where it has none. */
  size(): number;
  /** What mapping it fails with, where there is nothing to map: -ENODEV, -EIO. */
  readonly mmapError: number;
  /** Bytes from `position` on, at most `length` of them; none at the end; or -errno. */
  read(task: TaskContext, position: number, length: number): Uint8Array | number;
  /** Takes bytes at `position`; returns how many it took, or -errno. */
  write(task: TaskContext, position: number, bytes: Uint8Array): number;
  /** As {@link read}, straight into the task's memory. @returns bytes, or -errno */
  readToUser?(task: TaskContext, position: number, addr: number, length: number): number;
  /** As {@link write}, straight from the task's memory. @returns bytes, or -errno */
  writeFromUser?(task: TaskContext, position: number, addr: number, length: number): number;
  /** As {@link readToUser}, into several runs of memory, as one read. @returns bytes, or -errno */
  readToRanges?(task: TaskContext, position: number, ranges: readonly UserRange[], length: number): number;
  /** As {@link writeFromUser}, from several runs of memory, as one write. @returns bytes, or -errno */
  writeFromRanges?(task: TaskContext, position: number, ranges: readonly UserRange[], length: number): number;
  /** There is no reading from it, nor writing to it, whatever for: -EINVAL before anything else. */
  readonly transfers?: false;
  /** Reading and writing at an offset is possible all the same where it has no position. */
  readonly takesOffsets?: boolean;
  /** Offsets are addresses, of all 64 bits. */
  readonly unsignedOffsets?: boolean;
  /** Bytes from the position to its end, or in a pipe. */
  unread?(): number;
  /** Takes a request, where it takes any. @returns a value, or -errno */
  ioctl?(task: TaskContext, request: number, argument: number): number;
  /** Of a pipe: shows memory in it, or copies what is in it to memory; waits where it may. @returns bytes, or -errno */
  vmsplice?(task: TaskContext, ranges: readonly UserRange[], isPatient: boolean): number;
  /** Of a pipe: bytes that it can hold. */
  pipeSize?(): number;
  /** Lets a pipe hold about `bytes`. @returns how many it holds now; -errno: EINVAL, EPERM, EBUSY */
  setPipeSize?(task: TaskContext, bytes: number): number;
  /** Sets its length, where it has one to set. @returns 0 or -errno */
  truncate?(size: number): number;
  /** Brings it to its device. @returns 0; -EINVAL where that means nothing; -EIO */
  sync(): number;
  status(): FileStatus;
  /** It cannot be mapped to be run: its file system holds nothing that may. */
  readonly noExec?: boolean;
  /** `lseek` takes any offset for its start. */
  readonly staysAtStart?: boolean;
  /** Of `/dev/zero`: what mapping it maps. */
  readonly zeroFile?: ZeroFile | null;
  /** Of a file that stands for a process: which one. */
  readonly pidfd?: number;
  get(): OpenFile;
  put(): void;
}

/** The tree of names, as a task may use it. Paths are taken from `/`; each returns 0 or -errno. @linux fs/namei.c */
export interface FileNames {
  unlink(path: string): number;
  mkdir(path: string, mode: number): number;
  rmdir(path: string): number;
  /** `to` may be what reading its name failed with: it counts only once `from` is known to be there. */
  link(from: string, to: string | number): number;
  rename(from: string, to: string | number): number;
  truncate(path: string, size: number): number;
  /** Whether a file may be read (4), written (2), executed (1); 0 for whether it is there. */
  access(path: string, wanted: number): number;
  status(path: string): FileStatus | number;
  /** Brings all files to their devices. */
  syncAll(): void;
}

/** The task that makes a system call. */
export interface TaskContext extends MmLimits {
  readonly vm: Vm;
  readonly mm: MmStruct;
  /** Its own number: of the thread. @linux include/linux/sched.h:task_struct */
  readonly pid: number;
  /** Of its process: the first thread's number. */
  readonly tgid: number;
  readonly ppid: number;
  readonly limits: ResourceLimits;
  readonly credentials: Credentials;
  readonly files: FileTable;

  /** Ends this thread. */
  exit(status: number): never;
  /** Ends the whole process. */
  exitGroup(status: number): never;
  /**
   * Waits for a child: `pid` > 0 that one, -1 any, 0 any of the own process group, below -1 any of group `-pid`.
   *
   * @param options without WEXITED, for nothing that ever comes; with WNOWAIT, it can be waited for again
   * @returns what ended; 0 with WNOHANG where none has; -ECHILD
   */
  wait(pid: number, options: number): WaitOutcome | number;
  /** Sends a signal as `kill` does: 0, -ESRCH, -EINVAL or -EPERM. */
  kill(pid: number, signal: number): number;
  /** Sends a signal to one thread; `tgid` is -1 where the caller does not name the process. */
  killThread(tgid: number, pid: number, signal: number): number;
  signalAction(signal: number): SignalActionInfo;
  /** Gives the signal its default action, or none. */
  setSignalAction(signal: number, action: 'default' | 'ignore', flags: number): void;
  /** Signals that are held back. */
  readonly blocked: SignalSet;
  /** Signals that are held back and have come. */
  pendingSignals(): SignalSet;
  /** Holds back those of `set` too (SIG_BLOCK), or no longer (SIG_UNBLOCK), or no others (SIG_SETMASK). @returns 0 or -EINVAL */
  changeSignalMask(how: number, set: SignalSet): number;
  /** The stack for handlers, as `sigaltstack` tells it. */
  shownSignalStack(): SignalStack;
  /** @returns 0, or -errno: EINVAL, ENOMEM, EPERM */
  setSignalStack(stack: SignalStack): number;
  /** The execution domain: ADDR_ and other bits. */
  personality: number;
  /** Its name: 15 bytes at most. */
  comm: string;
  /** When its process is told of broken pages: PR_MCE_KILL_… */
  mceKill: number;
  /** The process group of process `pid`, 0 being the caller's; or -ESRCH. */
  processGroup(pid: number): number;
  /** @returns 0, or -errno: EINVAL, ESRCH, EPERM */
  setProcessGroup(pid: number, group: number): number;
  /** A file that stands for process `pid`; or -errno. */
  openPidfd(pid: number, flags: number): OpenFile | number;
  /** Usage of RUSAGE_SELF, RUSAGE_CHILDREN or RUSAGE_THREAD. */
  usage(who: number): ResourceUsage;
  /** Opens a file: with a reference for the caller, or -errno. */
  open(path: string, flags: number, mode: number): OpenFile | number;
  /** An open file for a file of virtual memory's, such as `memfd_create` makes; or -errno. */
  openVmFile(file: VmFile, flags: number): OpenFile | number;
  /** A file by which the task serves page faults; or -errno. */
  openUserfault(openFlags: number, flags: number): OpenFile | number;
  /** The two ends of a new pipe, a reference each; or -errno. */
  openPipe(flags: number): readonly [reader: OpenFile, writer: OpenFile] | number;
  readonly names: FileNames;
  /** Takes a swap area into use, or out of it, by its path. @returns 0 or -errno */
  swapon(path: string, flags: number): number;
  swapoff(path: string): number;
  /** The machine's System V segments. */
  readonly shm: ShmNamespace;
  /** The task of that number, where there is one. */
  findTask(pid: number): TaskContext | undefined;
  /** Lets time pass, and others run meanwhile. */
  sleep(ns: number): void;
  /** Lets another task run, where one can. */
  yieldCpu(): void;
  /** Where its allocations go. */
  readonly memPolicy: TaskPolicy;
  /** Nodes that its cpuset leaves it; `null` for all. @linux include/linux/sched.h:task_struct.mems_allowed */
  readonly memsAllowed: NodeMask | null;
  /** CPUs it may run on. */
  readonly affinity: readonly number[];
  /** @returns 0; -EINVAL where the machine has none of these CPUs */
  setAffinity(cpus: readonly number[]): number;
  /** Number of the CPU it runs on. */
  readonly cpu: number;
  /** How many tasks there are. */
  readonly nrTasks: number;
}
