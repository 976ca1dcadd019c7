import { Errno, O_ACCMODE, O_PATH, O_RDONLY, O_RDWR, O_WRONLY, SPLICE_F_GIFT, SPLICE_F_MORE, SPLICE_F_MOVE, SPLICE_F_NONBLOCK } from '@pagelab/abi';
import { flagMask, flagTable } from './flag-table.ts';
import { importRanges } from './iovec.ts';
import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';

export const VMSPLICE_FLAGS = flagTable(
  'vmsplice',
  'flags',
  'bits',
  { SPLICE_F_NONBLOCK },
  { SPLICE_F_MOVE, SPLICE_F_MORE, SPLICE_F_GIFT },
  { notes: { SPLICE_F_GIFT: 'only `splice` into a file would take the pages away' } },
);

const VMSPLICE_MASK = flagMask(VMSPLICE_FLAGS);

/**
 * Shows ranges of the caller's memory in a pipe, page by page and without copying; or, at a reading end, copies what is in
 * the pipe to them. A pipe that is full, or empty, is waited for unless SPLICE_F_NONBLOCK says otherwise; the file's
 * O_NONBLOCK does not count.
 *
 * @returns bytes, or -errno: EINVAL, EBADF, EFAULT, EAGAIN, EPIPE, ENOMEM
 * @linux fs/splice.c:vmsplice
 */
export function sysVmsplice(task: TaskContext, fd: number, ranges: number, nrRanges: number, flags: number): number {
  const bits = int32(flags);
  if (bits & ~VMSPLICE_MASK) return -Errno.EINVAL;
  const file = task.files.get(int32(fd));
  if (file === undefined || file.flags & O_PATH) return -Errno.EBADF;
  const access = file.flags & O_ACCMODE;
  if (access !== O_RDONLY && access !== O_WRONLY && access !== O_RDWR) return -Errno.EBADF;
  const given = importRanges(task, ranges, nrRanges);
  if (typeof given === 'number') return given;
  if (given.every(({ length }) => length === 0)) return 0;
  return file.vmsplice?.(task, given, (bits & SPLICE_F_NONBLOCK) === 0) ?? -Errno.EBADF;
}
