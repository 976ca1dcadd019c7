import {
  Errno,
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_UNSHARE_RANGE,
  FALLOC_FL_WRITE_ZEROES,
  FALLOC_FL_ZERO_RANGE,
  O_ACCMODE,
  O_PATH,
  O_RDONLY,
  S_IFDIR,
  S_IFIFO,
  S_IFMT,
  S_IFREG,
} from '@pagelab/abi';
import { flagMaskByRelease, flagTable } from './flag-table.ts';
import { int32 } from './registers.ts';
import type { OpenFile, TaskContext } from './task-context.ts';
import { getPath } from './user-access.ts';
import { decodeUtf8 } from './utf8.ts';

export const FALLOCATE_MODE = flagTable(
  'fallocate',
  'mode',
  'bits',
  {
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_COLLAPSE_RANGE,
    FALLOC_FL_ZERO_RANGE,
    FALLOC_FL_INSERT_RANGE,
  },
  { FALLOC_FL_UNSHARE_RANGE, FALLOC_FL_WRITE_ZEROES },
  { since: { FALLOC_FL_WRITE_ZEROES: '6.17' } },
);

const fallocateMask = flagMaskByRelease(FALLOCATE_MODE);
/** The end of the largest file there may be. */
const MAX_OFFSET = 2 ** 63;
/** What registers make of the last offsets before it. */
const LAST_OFFSET = 2 ** 63 - 1024;

/** An open file that is more than a name. */
function fileOf(task: TaskContext, fd: number): OpenFile | undefined {
  const file = task.files.get(int32(fd));
  return file === undefined || file.flags & O_PATH ? undefined : file;
}

/** Sets the length of an open file. @returns 0, or -errno: EINVAL, EBADF, EPERM, EFBIG @linux fs/open.c:ftruncate */
export function sysFtruncate(task: TaskContext, fd: number, length: number): number {
  if (length < 0) return -Errno.EINVAL;
  const file = fileOf(task, fd);
  if (file === undefined) return -Errno.EBADF;
  return file.truncate === undefined ? -Errno.EINVAL : file.truncate(length);
}

/** Sets the length of a file by its name. @returns 0, or -errno: EINVAL, EFAULT, ENOENT, EACCES, EISDIR, EPERM, EFBIG @linux fs/open.c:truncate */
export function sysTruncate(task: TaskContext, path: number, length: number): number {
  if (length < 0) return -Errno.EINVAL;
  const name = getPath(task, path);
  return typeof name === 'number' ? name : task.names.truncate(decodeUtf8(name), length);
}

/**
 * Gives a range of a file its blocks, or takes them away.
 *
 * @returns 0, or -errno: EBADF, EINVAL, EOPNOTSUPP, ESPIPE, EISDIR, ENODEV, EFBIG, EPERM, ENOSPC
 * @linux fs/open.c:vfs_fallocate
 */
export function sysFallocate(task: TaskContext, fd: number, mode: number, offset: number, length: number): number {
  const file = fileOf(task, fd);
  if (file === undefined) return -Errno.EBADF;
  if (offset < 0 || length <= 0) return -Errno.EINVAL;
  const bits = int32(mode);
  if (bits & ~fallocateMask(task.vm.release) || !isCombination(bits)) return -Errno.EOPNOTSUPP;
  if ((file.flags & O_ACCMODE) === O_RDONLY) return -Errno.EBADF;
  if (file.vmFile === null) {
    const kind = file.status().mode & S_IFMT;
    if (kind === S_IFIFO) return -Errno.ESPIPE;
    if (kind === S_IFDIR) return -Errno.EISDIR;
    return kind === S_IFREG ? -Errno.EOPNOTSUPP : -Errno.ENODEV;
  }
  if (offset + length >= MAX_OFFSET || offset >= LAST_OFFSET) return -Errno.EFBIG;
  const { inode } = file.vmFile;
  return inode.mapping.ops.fallocate(inode, bits, offset, length);
}

/** Of the things it can do it does one; some cannot keep the size, and one has to. */
function isCombination(mode: number): boolean {
  switch (mode & ~FALLOC_FL_KEEP_SIZE) {
    case 0:
    case FALLOC_FL_UNSHARE_RANGE:
    case FALLOC_FL_ZERO_RANGE:
      return true;
    case FALLOC_FL_PUNCH_HOLE:
      return (mode & FALLOC_FL_KEEP_SIZE) !== 0;
    case FALLOC_FL_COLLAPSE_RANGE:
    case FALLOC_FL_INSERT_RANGE:
    case FALLOC_FL_WRITE_ZEROES:
      return (mode & FALLOC_FL_KEEP_SIZE) === 0;
    default:
      return false;
  }
}

/** Brings a file to its device. @returns 0, or -errno: EBADF, EINVAL, EIO @linux fs/sync.c:fsync */
export function sysFsync(task: TaskContext, fd: number): number {
  const file = fileOf(task, fd);
  return file === undefined ? -Errno.EBADF : file.sync();
}

/** Brings all files to their devices. @returns 0 @linux fs/sync.c:sync */
export function sysSync(task: TaskContext): number {
  task.names.syncAll();
  return 0;
}
