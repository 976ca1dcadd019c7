import { Errno, SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK } from '@pagelab/abi';
import { flagTable, flagValues } from './flag-table.ts';
import { int32 } from './registers.ts';
import type { SignalSet, TaskContext } from './task-context.ts';
import { getUser, putUser } from './user-access.ts';
import { u32At } from './user-struct.ts';

export const SIGPROCMASK_HOW = flagTable('rt_sigprocmask', 'how', 'values', { SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK });

const HOW_VALUES = flagValues(SIGPROCMASK_HOW);
/** Bytes of a set of signals. */
export const SIGSET_BYTES = 8;

/** A set of signals as it lies in memory. */
export function encodeSignalSet({ low, high }: SignalSet): Uint8Array {
  const bytes = new Uint8Array(SIGSET_BYTES);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, low, true);
  view.setInt32(4, high, true);
  return bytes;
}

/**
 * Changes which signals are held back.
 *
 * @returns 0, or -errno: EINVAL, EFAULT
 * @linux kernel/signal.c:rt_sigprocmask
 */
export function sysRtSigprocmask(task: TaskContext, how: number, set: number, old: number, setBytes: number): number {
  if (setBytes !== SIGSET_BYTES) return -Errno.EINVAL;
  const before = task.blocked;
  if (set !== 0) {
    const bytes = getUser(task, set, SIGSET_BYTES);
    if (typeof bytes === 'number') return bytes;
    if (!HOW_VALUES.has(int32(how))) return -Errno.EINVAL;
    task.changeSignalMask(int32(how), { low: u32At(bytes, 0) | 0, high: u32At(bytes, 4) | 0 });
  }
  return old === 0 ? 0 : putUser(task, old, encodeSignalSet(before));
}

/**
 * Tells which signals are held back and have come: for the task, or for its process.
 *
 * @param setBytes how much of the set is wanted, at most all of it
 * @returns 0, or -errno: EINVAL, EFAULT
 * @linux kernel/signal.c:rt_sigpending
 */
export function sysRtSigpending(task: TaskContext, set: number, setBytes: number): number {
  if (setBytes < 0 || setBytes > SIGSET_BYTES) return -Errno.EINVAL;
  return putUser(task, set, encodeSignalSet(task.pendingSignals()).subarray(0, setBytes));
}
