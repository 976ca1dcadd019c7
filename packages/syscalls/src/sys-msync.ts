import { Errno, MS_ASYNC, MS_INVALIDATE, MS_SYNC } from '@pagelab/abi';
import { doMsync } from '@pagelab/vm';
import { flagMask, flagTable } from './flag-table.ts';
import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';

export const MSYNC_FLAGS = flagTable('msync', 'flags', 'bits', { MS_ASYNC, MS_INVALIDATE, MS_SYNC });

const MSYNC_MASK = flagMask(MSYNC_FLAGS);

/**
 * Writes a range of file mappings back.
 *
 * @returns 0, or -errno: EINVAL, ENOMEM, EBUSY, EIO
 * @linux mm/msync.c:msync
 */
export function sysMsync(task: TaskContext, start: number, length: number, flags: number): number {
  const bits = int32(flags);
  if (bits & ~MSYNC_MASK) return -Errno.EINVAL;
  return doMsync(task.mm, start, length, bits);
}
