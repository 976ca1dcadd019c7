import {
  Errno,
  O_PATH,
  PAGE_SIZE,
  SYNC_FILE_RANGE_WAIT_AFTER,
  SYNC_FILE_RANGE_WAIT_BEFORE,
  SYNC_FILE_RANGE_WRITE,
  S_IFDIR,
  S_IFIFO,
  S_IFMT,
  S_IFREG,
} from '@pagelab/abi';
import { fadviseDontNeed, fadviseWillNeed, syncFileRange } from '@pagelab/vm';
import { flagMask, flagTable, flagValues } from './flag-table.ts';
import { int32, unsigned } from './registers.ts';
import type { TaskContext } from './task-context.ts';

export const SYNC_FILE_RANGE_FLAGS = flagTable('sync_file_range', 'flags', 'bits', {
  SYNC_FILE_RANGE_WAIT_BEFORE,
  SYNC_FILE_RANGE_WRITE,
  SYNC_FILE_RANGE_WAIT_AFTER,
});

const POSIX_FADV_NORMAL = 0;
const POSIX_FADV_RANDOM = 1;
const POSIX_FADV_SEQUENTIAL = 2;
const POSIX_FADV_WILLNEED = 3;
const POSIX_FADV_DONTNEED = 4;
const POSIX_FADV_NOREUSE = 5;

export const FADVISE64_ADVICE = flagTable(
  'fadvise64',
  'advice',
  'values',
  { POSIX_FADV_WILLNEED, POSIX_FADV_DONTNEED },
  { POSIX_FADV_NORMAL, POSIX_FADV_RANDOM, POSIX_FADV_SEQUENTIAL, POSIX_FADV_NOREUSE },
);

const SYNC_FILE_RANGE_MASK = flagMask(SYNC_FILE_RANGE_FLAGS);
const FADVISE64_VALUES = flagValues(FADVISE64_ADVICE);

/**
 * Brings a range of a file to its device. No length means to its end.
 *
 * @returns 0, or -errno: EBADF, EINVAL, ESPIPE, EIO
 * @linux fs/sync.c:ksys_sync_file_range
 */
export function sysSyncFileRange(task: TaskContext, fd: number, offset: number, length: number, flags: number): number {
  const file = task.files.get(int32(fd));
  if (file === undefined || file.flags & O_PATH) return -Errno.EBADF;
  const bits = int32(flags);
  const end = offset + length;
  if (bits & ~SYNC_FILE_RANGE_MASK || offset < 0 || length < 0 || end >= 2 ** 63) return -Errno.EINVAL;
  const kind = file.status().mode & S_IFMT;
  if (kind !== S_IFREG && kind !== S_IFDIR) return -Errno.ESPIPE;
  if (file.vmFile === null) return 0;
  const last = length === 0 ? Infinity : Math.floor((end - 1) / PAGE_SIZE);
  return syncFileRange(task.vm, file.vmFile, Math.floor(offset / PAGE_SIZE), last, bits);
}

/** Brings the files of the file system that a descriptor lies on to their devices. @returns 0 or -EBADF @linux fs/sync.c:syncfs */
export function sysSyncfs(task: TaskContext, fd: number): number {
  const file = task.files.get(int32(fd));
  if (file === undefined || file.flags & O_PATH) return -Errno.EBADF;
  task.names.syncAll();
  return 0;
}

/**
 * Tells how a range of a file will be used.
 *
 * @returns 0, or -errno: EBADF, ESPIPE, EINVAL
 * @linux mm/fadvise.c:ksys_fadvise64_64
 */
export function sysFadvise64(task: TaskContext, fd: number, offset: number, length: number, advice: number): number {
  const file = task.files.get(int32(fd));
  if (file === undefined || file.flags & O_PATH) return -Errno.EBADF;
  if ((file.status().mode & S_IFMT) === S_IFIFO) return -Errno.ESPIPE;
  if (length < 0 || !FADVISE64_VALUES.has(int32(advice))) return -Errno.EINVAL;
  if (file.vmFile === null) return 0;
  const end = unsigned(offset) + length;
  const behind = length === 0 || end >= 2 ** 64 ? Infinity : end;
  if (int32(advice) === POSIX_FADV_WILLNEED) fadviseWillNeed(file.vmFile, unsigned(offset), behind);
  else if (int32(advice) === POSIX_FADV_DONTNEED) fadviseDontNeed(task.vm, file.vmFile, unsigned(offset), behind);
  return 0;
}
