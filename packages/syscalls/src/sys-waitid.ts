import { CLD_EXITED, CLD_KILLED, Errno, SIGCHLD, WCONTINUED, WEXITED, WNOHANG, WNOWAIT, __WNOTHREAD } from '@pagelab/abi';
import { flagMask, flagTable } from './flag-table.ts';
import { int32 } from './registers.ts';
import type { TaskContext, WaitOutcome } from './task-context.ts';
import { putUser } from './user-access.ts';
import { encodeUsage } from './user-struct.ts';

const P_ALL = 0;
const P_PID = 1;
const P_PGID = 2;
const P_PIDFD = 3;
const WSTOPPED = 2;
const __WALL = 0x4000_0000;
const __WCLONE = 0x8000_0000 | 0;

export const WAITID_IDTYPE = flagTable('waitid', 'idtype', 'values', { P_ALL, P_PID, P_PGID, P_PIDFD });

export const WAITID_OPTIONS = flagTable(
  'waitid',
  'options',
  'bits',
  { WEXITED, WNOHANG, WNOWAIT, __WNOTHREAD, __WALL, __WCLONE },
  { WSTOPPED, WCONTINUED },
  {
    notes: {
      WSTOPPED: 'no process is ever stopped',
      WCONTINUED: 'no process is ever stopped',
      __WCLONE: 'ECHILD: every child sends SIGCHLD when it ends',
    },
  },
);

const WAITID_MASK = flagMask(WAITID_OPTIONS);
/** Bytes of a `siginfo_t`. */
const SIGINFO_BYTES = 128;

/**
 * Waits for a child to end, and tells how. What is told is stored even where the call fails.
 *
 * @returns 0, or -errno: EFAULT, EINVAL, ECHILD, EBADF
 * @linux kernel/exit.c:waitid
 */
export function sysWaitid(task: TaskContext, which: number, id: number, info: number, options: number, usage: number): number {
  const outcome = waitFor(task, int32(which), int32(id), int32(options));
  const ended = typeof outcome === 'number' ? null : outcome;
  if (ended !== null && usage !== 0 && putUser(task, usage, encodeUsage(task, ended.usage)) < 0) return -Errno.EFAULT;
  if (info !== 0 && storeInfo(task, info, ended) < 0) return -Errno.EFAULT;
  return ended === null ? (outcome as number) : 0;
}

/** @linux kernel/exit.c:kernel_waitid_prepare */
function waitFor(task: TaskContext, which: number, id: number, options: number): WaitOutcome | number {
  if (options & ~WAITID_MASK || !(options & (WEXITED | WSTOPPED | WCONTINUED))) return -Errno.EINVAL;
  let pid = -1;
  switch (which) {
    case P_ALL:
      break;
    case P_PID:
      if (id <= 0) return -Errno.EINVAL;
      pid = id;
      break;
    case P_PGID:
      if (id < 0) return -Errno.EINVAL;
      pid = -id;
      break;
    case P_PIDFD: {
      if (id < 0) return -Errno.EINVAL;
      const target = task.files.get(id)?.pidfd;
      if (target === undefined) return -Errno.EBADF;
      pid = target;
      break;
    }
    default:
      return -Errno.EINVAL;
  }
  if (options & __WCLONE && !(options & __WALL)) return -Errno.ECHILD;
  return task.wait(pid, options);
}

/** The six fields that are told. @linux include/uapi/asm-generic/siginfo.h */
function storeInfo(task: TaskContext, addr: number, ended: WaitOutcome | null): number {
  if (addr < 0 || addr + SIGINFO_BYTES > task.mm.taskSize) return -Errno.EFAULT;
  const words = new Int32Array(7);
  if (ended !== null) {
    const signal = ended.statusWord & 0x7f;
    words[0] = SIGCHLD;
    words[2] = signal === 0 ? CLD_EXITED : CLD_KILLED;
    words[4] = ended.pid;
    words[6] = signal === 0 ? (ended.statusWord >> 8) & 0xff : signal;
  }
  const bytes = new Uint8Array(words.buffer);
  return putUser(task, addr, bytes.subarray(0, 12)) || putUser(task, addr + 16, bytes.subarray(16));
}
