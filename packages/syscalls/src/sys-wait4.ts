import { Errno, WCONTINUED, WEXITED, WNOHANG, WUNTRACED, __WNOTHREAD } from '@pagelab/abi';
import { flagMask, flagTable } from './flag-table.ts';
import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';
import { putUser, putValue } from './user-access.ts';
import { encodeInt, encodeUsage } from './user-struct.ts';

const __WALL = 0x4000_0000;
const __WCLONE = 0x8000_0000 | 0;

export const WAIT4_OPTIONS = flagTable(
  'wait4',
  'options',
  'bits',
  { WNOHANG, __WNOTHREAD, __WALL, __WCLONE },
  { WUNTRACED, WCONTINUED },
  {
    notes: {
      WUNTRACED: 'no process is ever stopped',
      WCONTINUED: 'no process is ever stopped',
      __WCLONE: 'ECHILD: every child sends SIGCHLD when it ends',
    },
  },
);

const WAIT4_MASK = flagMask(WAIT4_OPTIONS);
const INT_MIN = -0x8000_0000;

/**
 * Waits for a child to end.
 *
 * @returns the child's number, 0 with WNOHANG where none has ended, or -errno: EINVAL, ESRCH, ECHILD, EFAULT (the child
 *   is gone all the same)
 * @linux kernel/exit.c:wait4
 */
export function sysWait4(task: TaskContext, pid: number, status: number, options: number, usage: number): number {
  const bits = int32(options);
  if (bits & ~WAIT4_MASK) return -Errno.EINVAL;
  const who = int32(pid);
  if (who === INT_MIN) return -Errno.ESRCH;
  if (bits & __WCLONE && !(bits & __WALL)) return -Errno.ECHILD;
  const outcome = task.wait(who, bits | WEXITED);
  if (typeof outcome === 'number') return outcome;
  if (status !== 0 && putValue(task, status, encodeInt(outcome.statusWord)) < 0) return -Errno.EFAULT;
  if (usage !== 0 && putUser(task, usage, encodeUsage(task, outcome.usage)) < 0) return -Errno.EFAULT;
  return outcome.pid;
}
