/**
 * System calls by number, and the way from registers to a call.
 */
import { waitForUffdEvents } from '@pagelab/vm';
import { Errno, Syscall } from '@pagelab/abi';
import type { RegisterArg } from '@pagelab/abi';
import type { TraceRing } from '@pagelab/lib';
import type { FlagTable } from './flag-table.ts';
import { int32, reg, reg32 } from './registers.ts';
import { sysBrk } from './sys-brk.ts';
import { sysCapget, sysCapset } from './sys-capset.ts';
import { sysExit, sysExitGroup } from './sys-exit.ts';
import { FCNTL_COMMANDS, sysDup, sysDup2, sysDup3, sysFcntl } from './sys-dup.ts';
import {
  OPEN_FLAGS,
  sysClose,
  sysLseek,
  sysOpen,
  sysPread64,
  sysPwrite64,
  sysRead,
  sysWrite,
} from './sys-file.ts';
import { GETRUSAGE_WHO, sysGetrusage } from './sys-getrusage.ts';
import { sysGetgid, sysGetpid, sysGetppid, sysGettid, sysGetuid, sysSetgid, sysSetuid } from './sys-ids.ts';
import { sysKill, sysTgkill, sysTkill } from './sys-kill.ts';
import { MADVISE_ADVICE, sysMadvise } from './sys-madvise.ts';
import {
  GET_MEMPOLICY_FLAGS,
  MBIND_FLAGS,
  SET_MEMPOLICY_FLAGS,
  SET_MEMPOLICY_MODE,
  sysGetMempolicy,
  sysMbind,
  sysSetMempolicy,
  sysSetMempolicyHomeNode,
} from './sys-mempolicy.ts';
import { MEMFD_CREATE_FLAGS, sysMemfdCreate } from './sys-memfd-create.ts';
import { sysMincore } from './sys-mincore.ts';
import {
  MLOCK2_FLAGS,
  MLOCKALL_FLAGS,
  sysMlock,
  sysMlock2,
  sysMlockall,
  sysMunlock,
  sysMunlockall,
} from './sys-mlock.ts';
import { MMAP_FLAGS, MMAP_PROT, sysMmap } from './sys-mmap.ts';
import { MPROTECT_PROT, sysMprotect } from './sys-mprotect.ts';
import { MOVE_PAGES_FLAGS, sysMigratePages, sysMovePages } from './sys-move-pages.ts';
import { MREMAP_FLAGS, sysMremap } from './sys-mremap.ts';
import { sysMseal } from './sys-mseal.ts';
import { MSYNC_FLAGS, sysMsync } from './sys-msync.ts';
import { sysMunmap } from './sys-munmap.ts';
import { sysAccess, sysCreat, sysLink, sysMkdir, sysOpenat, sysRename, sysRmdir, sysUnlink, sysUnlinkat } from './sys-names.ts';
import { PRCTL_OPTIONS, sysPrctl } from './sys-prctl.ts';
import { PERSONALITY_FLAGS, sysPersonality } from './sys-personality.ts';
import { PIPE2_FLAGS, sysPipe, sysPipe2 } from './sys-pipe.ts';
import { sysPkeyAlloc, sysPkeyFree, sysPkeyMprotect } from './sys-pkey.ts';
import { PIDFD_OPEN_FLAGS, PROCESS_MADVISE_ADVICE, sysPidfdOpen, sysProcessMadvise } from './sys-process-madvise.ts';
import { PIDFD_SEND_SIGNAL_FLAGS, sysPidfdSendSignal } from './sys-pidfd-send-signal.ts';
import { sysPreadv, sysPwritev, sysReadv, sysWritev } from './sys-readv.ts';
import { FADVISE64_ADVICE, SYNC_FILE_RANGE_FLAGS, sysFadvise64, sysSyncFileRange, sysSyncfs } from './sys-sync-file-range.ts';
import { WAITID_IDTYPE, WAITID_OPTIONS, sysWaitid } from './sys-waitid.ts';
import { sysProcessVmReadv, sysProcessVmWritev } from './sys-process-vm.ts';
import { REMAP_FILE_PAGES_FLAGS, sysRemapFilePages } from './sys-remap-file-pages.ts';
import { sysGetrlimit, sysPrlimit64, sysSetrlimit } from './sys-rlimit.ts';
import { sysGetcpu, sysSchedGetaffinity, sysSchedSetaffinity, sysSchedYield } from './sys-sched.ts';
import { sysGetpgid, sysGetpgrp, sysSetpgid } from './sys-setpgid.ts';
import { SHMAT_FLAGS, SHMCTL_COMMANDS, SHMGET_FLAGS, sysShmat, sysShmctl, sysShmdt, sysShmget } from './sys-shm.ts';
import { SIGACTION_FLAGS, sysRtSigaction } from './sys-sigaction.ts';
import { SIGALTSTACK_FLAGS, sysSigaltstack } from './sys-sigaltstack.ts';
import { SIGPROCMASK_HOW, sysRtSigpending, sysRtSigprocmask } from './sys-sigprocmask.ts';
import { sysFstat, sysNewfstatat, sysStat } from './sys-stat.ts';
import { sysSysinfo } from './sys-sysinfo.ts';
import { sysClockGettime, sysClockNanosleep, sysGettimeofday, sysNanosleep, sysTime } from './sys-time.ts';
import { SWAPON_FLAGS, sysSwapoff, sysSwapon } from './sys-swapon.ts';
import { FALLOCATE_MODE, sysFallocate, sysFsync, sysFtruncate, sysSync, sysTruncate } from './sys-truncate.ts';
import { USERFAULTFD_FLAGS, sysIoctl, sysUserfaultfd } from './sys-userfaultfd.ts';
import { VMSPLICE_FLAGS, sysVmsplice } from './sys-vmsplice.ts';
import { WAIT4_OPTIONS, sysWait4 } from './sys-wait4.ts';
import type { TaskContext } from './task-context.ts';

/** A system call: registers, already reduced to what a 64-bit register holds, to a value or -errno. */
export type SyscallHandler = (
  task: TaskContext,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  a4: number,
  a5: number,
) => number;

/** The calls there are, by name. */
export const syscallHandlers: Readonly<Partial<Record<keyof typeof Syscall, SyscallHandler>>> = {
  read: sysRead,
  write: sysWrite,
  open: sysOpen,
  close: sysClose,
  stat: sysStat,
  fstat: sysFstat,
  lstat: sysStat,
  lseek: sysLseek,
  mmap: sysMmap,
  mprotect: sysMprotect,
  munmap: sysMunmap,
  brk: sysBrk,
  rt_sigaction: sysRtSigaction,
  rt_sigprocmask: sysRtSigprocmask,
  pread64: sysPread64,
  pwrite64: sysPwrite64,
  readv: sysReadv,
  writev: sysWritev,
  access: sysAccess,
  pipe: sysPipe,
  sched_yield: sysSchedYield,
  mremap: sysMremap,
  msync: sysMsync,
  mincore: sysMincore,
  madvise: sysMadvise,
  shmget: sysShmget,
  shmat: sysShmat,
  shmctl: sysShmctl,
  dup: sysDup,
  dup2: sysDup2,
  getpid: sysGetpid,
  exit: sysExit,
  wait4: sysWait4,
  kill: sysKill,
  shmdt: sysShmdt,
  fcntl: sysFcntl,
  fsync: sysFsync,
  fdatasync: sysFsync,
  swapon: sysSwapon,
  swapoff: sysSwapoff,
  truncate: sysTruncate,
  ftruncate: sysFtruncate,
  rename: sysRename,
  mkdir: sysMkdir,
  rmdir: sysRmdir,
  creat: sysCreat,
  link: sysLink,
  unlink: sysUnlink,
  gettimeofday: sysGettimeofday,
  getrlimit: sysGetrlimit,
  getrusage: sysGetrusage,
  sysinfo: sysSysinfo,
  getuid: sysGetuid,
  getgid: sysGetgid,
  setuid: sysSetuid,
  setgid: sysSetgid,
  geteuid: sysGetuid,
  getegid: sysGetgid,
  setpgid: sysSetpgid,
  getppid: sysGetppid,
  getpgrp: sysGetpgrp,
  getpgid: sysGetpgid,
  capget: sysCapget,
  capset: sysCapset,
  rt_sigpending: sysRtSigpending,
  sigaltstack: sysSigaltstack,
  personality: sysPersonality,
  prctl: sysPrctl,
  mlock: sysMlock,
  munlock: sysMunlock,
  mlockall: sysMlockall,
  munlockall: sysMunlockall,
  setrlimit: sysSetrlimit,
  sync: sysSync,
  gettid: sysGettid,
  tkill: sysTkill,
  time: sysTime,
  remap_file_pages: sysRemapFilePages,
  fadvise64: sysFadvise64,
  clock_gettime: sysClockGettime,
  nanosleep: sysNanosleep,
  clock_nanosleep: sysClockNanosleep,
  exit_group: sysExitGroup,
  tgkill: sysTgkill,
  waitid: sysWaitid,
  openat: sysOpenat,
  newfstatat: sysNewfstatat,
  unlinkat: sysUnlinkat,
  sync_file_range: sysSyncFileRange,
  vmsplice: sysVmsplice,
  fallocate: sysFallocate,
  dup3: sysDup3,
  pipe2: sysPipe2,
  preadv: sysPreadv,
  pwritev: sysPwritev,
  prlimit64: sysPrlimit64,
  syncfs: sysSyncfs,
  getcpu: sysGetcpu,
  process_vm_readv: sysProcessVmReadv,
  process_vm_writev: sysProcessVmWritev,
  memfd_create: sysMemfdCreate,
  mlock2: sysMlock2,
  pkey_mprotect: sysPkeyMprotect,
  pkey_alloc: sysPkeyAlloc,
  pkey_free: sysPkeyFree,
  pidfd_send_signal: sysPidfdSendSignal,
  pidfd_open: sysPidfdOpen,
  process_madvise: sysProcessMadvise,
  userfaultfd: sysUserfaultfd,
  ioctl: sysIoctl,
  sched_setaffinity: sysSchedSetaffinity,
  sched_getaffinity: sysSchedGetaffinity,
  set_mempolicy: sysSetMempolicy,
  get_mempolicy: sysGetMempolicy,
  mbind: sysMbind,
  set_mempolicy_home_node: sysSetMempolicyHomeNode,
  migrate_pages: sysMigratePages,
  move_pages: sysMovePages,
  mseal: sysMseal,
};

/** The calls by number; a number without one is `undefined`. @linux arch/x86/entry/syscall_64.c:sys_call_table */
export const syscallTable: readonly (SyscallHandler | undefined)[] = buildTable();

/** The flags that each call takes, from the tables that the calls check against. */
export const syscallFlags: readonly FlagTable[] = [
  MMAP_PROT,
  MMAP_FLAGS,
  MPROTECT_PROT,
  MREMAP_FLAGS,
  MADVISE_ADVICE,
  MSYNC_FLAGS,
  MLOCK2_FLAGS,
  MLOCKALL_FLAGS,
  OPEN_FLAGS,
  FCNTL_COMMANDS,
  FALLOCATE_MODE,
  SYNC_FILE_RANGE_FLAGS,
  FADVISE64_ADVICE,
  PIPE2_FLAGS,
  MEMFD_CREATE_FLAGS,
  SHMGET_FLAGS,
  SHMAT_FLAGS,
  SHMCTL_COMMANDS,
  WAIT4_OPTIONS,
  WAITID_IDTYPE,
  WAITID_OPTIONS,
  GETRUSAGE_WHO,
  SIGACTION_FLAGS,
  SIGPROCMASK_HOW,
  SIGALTSTACK_FLAGS,
  PERSONALITY_FLAGS,
  PRCTL_OPTIONS,
  REMAP_FILE_PAGES_FLAGS,
  PIDFD_OPEN_FLAGS,
  PIDFD_SEND_SIGNAL_FLAGS,
  PROCESS_MADVISE_ADVICE,
  SET_MEMPOLICY_MODE,
  SET_MEMPOLICY_FLAGS,
  MBIND_FLAGS,
  GET_MEMPOLICY_FLAGS,
  MOVE_PAGES_FLAGS,
  SWAPON_FLAGS,
  USERFAULTFD_FLAGS,
  VMSPLICE_FLAGS,
];

/**
 * Makes system call `nr` for `task`. Nothing is made for a call on the way: each argument has its own place.
 *
 * @param a0 up to six registers, each reduced modulo 2^64, or 2^32 where the program's registers have 32 bits
 * @returns what the call returns: a value, or -errno; -ENOSYS where there is no such call
 * @throws RangeError or TypeError for what no register can hold
 * @linux arch/x86/entry/syscall_64.c:do_syscall_64
 */
export function dispatch(
  task: TaskContext,
  nr: RegisterArg,
  a0: RegisterArg = 0,
  a1: RegisterArg = 0,
  a2: RegisterArg = 0,
  a3: RegisterArg = 0,
  a4: RegisterArg = 0,
  a5: RegisterArg = 0,
): number {
  const number = int32(reg(nr));
  const handler = number >= 0 && number < syscallTable.length ? syscallTable[number] : undefined;
  if (handler === undefined) return -Errno.ENOSYS;
  const { vm } = task;
  let result: number;
  if (task.mm.is32Bit) result = dispatch32(task, number, handler, [a0, a1, a2, a3, a4, a5]);
  else if (vm.trace.enabled !== false) result = traced(task, number, handler, [a0, a1, a2, a3, a4, a5]);
  else result = handler(task, reg(a0), reg(a1), reg(a2), reg(a3), reg(a4), reg(a5));
  if (vm.uffdWaits.length > 0) waitForUffdEvents(vm);
  return result;
}

/**
 * Arguments that are offsets in files: where registers have 32 bits they take two, so that no bit of them is lost. A bit
 * for each argument.
 */
const OFFSET_ARGS: Readonly<Record<number, number>> = {
  [Syscall.mmap]: 1 << 5,
  [Syscall.lseek]: 1 << 1,
  [Syscall.pread64]: 1 << 3,
  [Syscall.pwrite64]: 1 << 3,
  [Syscall.truncate]: 1 << 1,
  [Syscall.ftruncate]: 1 << 1,
  [Syscall.fallocate]: (1 << 2) | (1 << 3),
};

/** As {@link dispatch}, for a program with registers of 32 bits. @linux arch/x86/entry/syscall_32.c:do_syscall_32_irqs_on */
function dispatch32(task: TaskContext, nr: number, handler: SyscallHandler, args: readonly RegisterArg[]): number {
  const wide = OFFSET_ARGS[nr] ?? 0;
  const values: number[] = [];
  for (let i = 0; i < 6; i++) values.push((wide & (1 << i)) !== 0 ? reg(args[i]) : reg32(args[i], task.mm));
  if (task.vm.trace.enabled) return traced(task, nr, handler, values);
  const [a0, a1, a2, a3, a4, a5] = values as [number, number, number, number, number, number];
  return handler(task, a0, a1, a2, a3, a4, a5);
}

/** As {@link dispatch}, with the events that `strace` would show: number, the first arguments, and what came of it. */
function traced(task: TaskContext, nr: number, handler: SyscallHandler, args: readonly RegisterArg[]): number {
  const { trace } = task.vm;
  const { sysEnter, sysExit } = defineSyscallEvents(trace);
  const [a0, a1, a2, a3, a4, a5] = [0, 1, 2, 3, 4, 5].map((i) => reg(args[i])) as [number, number, number, number, number, number];
  trace.emit(sysEnter, nr, a0, a1, a2);
  const result = handler(task, a0, a1, a2, a3, a4, a5);
  trace.emit(sysExit, nr, result);
  return result;
}

/** Registers the events of system calls, switched off. Again is as good as once. @linux include/trace/events/syscalls.h */
export function defineSyscallEvents(trace: TraceRing): { readonly sysEnter: number; readonly sysExit: number } {
  return {
    sysEnter: trace.define('sys_enter', ['id', 'arg0', 'arg1', 'arg2']),
    sysExit: trace.define('sys_exit', ['id', 'ret']),
  };
}

function buildTable(): (SyscallHandler | undefined)[] {
  const table: (SyscallHandler | undefined)[] = new Array<SyscallHandler | undefined>(512).fill(undefined);
  for (const [name, handler] of Object.entries(syscallHandlers)) table[Syscall[name as keyof typeof Syscall]] = handler;
  return table;
}
