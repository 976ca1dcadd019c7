import {
  Errno,
  O_ACCMODE,
  O_APPEND,
  O_CLOEXEC,
  O_ASYNC,
  O_CREAT,
  O_DIRECT,
  O_DIRECTORY,
  O_DSYNC,
  O_EXCL,
  O_LARGEFILE,
  O_NOATIME,
  O_NOCTTY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  O_SYNC,
  O_TMPFILE,
  O_TRUNC,
  O_WRONLY,
  RLIMIT_NOFILE,
  SEEK_CUR,
  SEEK_DATA,
  SEEK_END,
  SEEK_HOLE,
  SEEK_SET,
} from '@pagelab/abi';
import { seekHoleData } from '@pagelab/vm';
import type { Inode } from '@pagelab/vm';
import { flagMask, flagTable } from './flag-table.ts';
import { int32 } from './registers.ts';
import type { OpenFile, TaskContext } from './task-context.ts';
import { MAX_RW_COUNT, accessOk, getPath, getUserPartial, putUserPartial } from './user-access.ts';
import { decodeUtf8 } from './utf8.ts';

export const OPEN_FLAGS = flagTable(
  'open',
  'flags',
  'bits',
  { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_NONBLOCK, O_DIRECTORY, O_PATH, O_CLOEXEC, O_TMPFILE },
  { O_NOCTTY, O_DSYNC, O_ASYNC, O_DIRECT, O_LARGEFILE, O_NOFOLLOW, O_NOATIME, O_SYNC },
  {
    notes: {
      O_DIRECT: 'EINVAL for what is no regular file, as on Linux; goes through the page cache all the same',
      O_SYNC: 'what is written is brought to the device by writeback, or `fsync`',
      O_DSYNC: 'as O_SYNC',
      O_NOATIME: 'EPERM for who does not own the file',
      O_NOFOLLOW: 'there are no symbolic links',
    },
    unknown: 'Other bits are dropped, as on Linux.',
  },
);

const OPEN_MASK = flagMask(OPEN_FLAGS);
/** What O_PATH leaves of other flags. @linux include/linux/fcntl.h:O_PATH_FLAGS */
const O_PATH_FLAGS = O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC;

/**
 * Flags as a file is opened with them, without what nobody knows and what O_PATH makes meaningless; all files may be large
 * where a register holds their offsets.
 *
 * @returns the flags; -EINVAL for a directory that is to be made, or a file without a name that is not to be written
 * @linux fs/open.c:build_open_flags
 */
export function openFlags(task: TaskContext, flags: number): number {
  let bits = int32(flags) & OPEN_MASK;
  if (!task.mm.is32Bit) bits |= O_LARGEFILE;
  if (bits & O_PATH) return bits & O_PATH_FLAGS;
  if (bits & O_DIRECTORY && bits & O_CREAT) return -Errno.EINVAL;
  if (bits & O_TMPFILE & ~O_DIRECTORY && (!(bits & O_DIRECTORY) || (bits & O_ACCMODE) === O_RDONLY)) return -Errno.EINVAL;
  return bits;
}

/** No file reaches that far. */
const MAX_POSITION = 2 ** 63;
const LAST_POSITION = 2 ** 63 - 1024;
/** The most bytes one round of a transfer holds in the kernel. */
const ROUND_BYTES = 65_536;

/** Opens or makes a file. @returns a descriptor, or -errno @linux fs/open.c:open */
export function sysOpen(task: TaskContext, path: number, flags: number, mode: number): number {
  const bits = openFlags(task, flags);
  if (bits < 0) return bits;
  const name = getPath(task, path);
  if (typeof name === 'number') return name;
  return openFile(task, decodeUtf8(name), bits, int32(mode));
}

/** Opens or makes the file of a name. @param flags as {@link openFlags} has them @returns a descriptor, or -errno @linux fs/open.c:do_sys_openat2 */
export function openFile(task: TaskContext, name: string, flags: number, mode: number): number {
  // The descriptor is set aside before the name is looked at.
  if (task.files.isFull(task.rlimit(RLIMIT_NOFILE))) return -Errno.EMFILE;
  const file = task.open(name, flags & ~O_CLOEXEC, mode);
  return typeof file === 'number' ? file : installFile(task, file, (flags & O_CLOEXEC) !== 0);
}

/** Takes an open file, with its reference, under a descriptor. @returns it, or -EMFILE */
export function installFile(task: TaskContext, file: OpenFile, closeOnExec = false): number {
  const fd = task.files.install(file, task.rlimit(RLIMIT_NOFILE));
  if (fd < 0) file.put();
  else task.files.setCloseOnExec(fd, closeOnExec);
  return fd;
}

/** @returns 0 or -EBADF @linux fs/open.c:close */
export function sysClose(task: TaskContext, fd: number): number {
  return task.files.close(int32(fd));
}

/** Reads from the file's position on. @returns bytes, or -errno: EBADF, EFAULT @linux fs/read_write.c:read */
export function sysRead(task: TaskContext, fd: number, buffer: number, count: number): number {
  const file = readable(task, fd);
  if (typeof file === 'number') return file;
  const moved = readFrom(task, file, buffer, count, file.position);
  if (moved > 0) file.position += moved;
  return moved;
}

/** Reads at `offset`. @returns bytes, or -errno: EINVAL, EBADF, ESPIPE, EFAULT @linux fs/read_write.c:pread64 */
export function sysPread64(task: TaskContext, fd: number, buffer: number, count: number, offset: number): number {
  if (offset < 0) return -Errno.EINVAL;
  if (task.files.get(int32(fd)) === undefined) return -Errno.EBADF;
  if (!hasOffsets(task.files.get(int32(fd))!)) return -Errno.ESPIPE;
  const file = readable(task, fd);
  return typeof file === 'number' ? file : readFrom(task, file, buffer, count, offset);
}

/** Writes at the file's position. @returns bytes, or -errno: EBADF, EFAULT, EINVAL @linux fs/read_write.c:write */
export function sysWrite(task: TaskContext, fd: number, buffer: number, count: number): number {
  const file = writable(task, fd);
  if (typeof file === 'number') return file;
  const position = file.flags & O_APPEND ? Math.max(0, file.size()) : file.position;
  const moved = writeTo(task, file, buffer, count, position);
  if (moved > 0) file.position = position + moved;
  return moved;
}

/** Writes at `offset`. @returns bytes, or -errno: EINVAL, EBADF, ESPIPE, EFAULT @linux fs/read_write.c:pwrite64 */
export function sysPwrite64(task: TaskContext, fd: number, buffer: number, count: number, offset: number): number {
  if (offset < 0) return -Errno.EINVAL;
  if (task.files.get(int32(fd)) === undefined) return -Errno.EBADF;
  if (!hasOffsets(task.files.get(int32(fd))!)) return -Errno.ESPIPE;
  const file = writable(task, fd);
  return typeof file === 'number' ? file : writeTo(task, file, buffer, count, offset);
}

/** Moves the file's position. @returns it, or -errno: EBADF, ESPIPE, EINVAL @linux fs/read_write.c:lseek */
export function sysLseek(task: TaskContext, fd: number, offset: number, whence: number): number {
  const file = task.files.get(int32(fd));
  if (file === undefined || file.flags & O_PATH) return -Errno.EBADF;
  const kind = int32(whence);
  if (kind < SEEK_SET || kind > SEEK_HOLE) return -Errno.EINVAL;
  if (!file.seekable) return -Errno.ESPIPE;
  if (file.staysAtStart === true) return (file.position = 0);
  let from: number;
  switch (kind) {
    case SEEK_SET:
      from = 0;
      break;
    case SEEK_CUR:
      from = file.position;
      break;
    case SEEK_END:
      from = file.size();
      if (from < 0) return from;
      break;
    default:
      if (file.vmFile === null) return -Errno.EINVAL;
      return seekData(file, file.vmFile.inode, offset, kind === SEEK_DATA);
  }
  const most = file.vmFile === null ? MAX_POSITION : file.vmFile.inode.mapping.ops.maxBytes;
  if (from + offset < 0 || from + offset > most) return -Errno.EINVAL;
  file.position = from + offset;
  return file.position;
}

function readable(task: TaskContext, fd: number): OpenFile | number {
  const file = task.files.get(int32(fd));
  return file === undefined || (file.flags & O_ACCMODE) === O_WRONLY || file.flags & O_PATH ? -Errno.EBADF : file;
}

function writable(task: TaskContext, fd: number): OpenFile | number {
  const file = task.files.get(int32(fd));
  return file === undefined || (file.flags & O_ACCMODE) === O_RDONLY || file.flags & O_PATH ? -Errno.EBADF : file;
}

function seekData(file: OpenFile, inode: Inode, offset: number, data: boolean): number {
  const found = seekHoleData(inode, offset, data);
  if (found >= 0) file.position = found;
  return found;
}

/** Whether a file can be read or written at an offset. */
export function hasOffsets({ seekable, takesOffsets = seekable }: OpenFile): boolean {
  return takesOffsets;
}

/** Whether offsets of a file go that far. @linux fs/read_write.c:rw_verify_area */
export function isInReach(file: OpenFile, position: number, count: number): boolean {
  if (file.unsignedOffsets === true) return true;
  // The last offset of all is rounded to this by registers.
  return position + count < MAX_POSITION && (position < LAST_POSITION || count === 0);
}

/** Reads from a file that is open for it. @returns bytes, or -errno: EFAULT, EINVAL, and what the file fails with @linux fs/read_write.c:vfs_read */
export function readFrom(task: TaskContext, file: OpenFile, buffer: number, count: number, position: number): number {
  if (file.transfers === false) return -Errno.EINVAL;
  if (!accessOk(task, buffer, count)) return -Errno.EFAULT;
  if (!isInReach(file, position, count)) return -Errno.EINVAL;
  const wanted = Math.min(count, MAX_RW_COUNT);
  if (file.readToUser !== undefined) return file.readToUser(task, position, buffer, wanted);
  let moved = 0;
  if (wanted === 0) {
    // Some files have nothing to read even then.
    const nothing = file.read(task, position, 0);
    return typeof nothing === 'number' ? nothing : 0;
  }
  while (moved < wanted) {
    const bytes = file.read(task, position + moved, Math.min(wanted - moved, ROUND_BYTES));
    if (typeof bytes === 'number') return moved > 0 ? moved : bytes;
    if (bytes.length === 0) break;
    const stored = putUserPartial(task, buffer + moved, bytes);
    moved += stored;
    if (stored < bytes.length) return moved > 0 ? moved : -Errno.EFAULT;
    // More of a pipe may be there only later: what there is will do.
    if (!file.seekable) break;
  }
  return moved;
}

/** Writes to a file that is open for it. @returns bytes, or -errno: EFAULT, EINVAL, and what the file fails with @linux fs/read_write.c:vfs_write */
export function writeTo(task: TaskContext, file: OpenFile, buffer: number, count: number, position: number): number {
  if (file.transfers === false) return -Errno.EINVAL;
  if (!accessOk(task, buffer, count)) return -Errno.EFAULT;
  if (!isInReach(file, position, count)) return -Errno.EINVAL;
  const wanted = Math.min(count, MAX_RW_COUNT);
  if (file.writeFromUser !== undefined) return file.writeFromUser(task, position, buffer, wanted);
  // A write of nothing reaches the file, too: some refuse it.
  if (wanted === 0) return file.write(task, position, new Uint8Array(0));
  let moved = 0;
  while (moved < wanted) {
    const round = Math.min(wanted - moved, ROUND_BYTES);
    const bytes = getUserPartial(task, buffer + moved, round);
    if (bytes.length === 0) return moved > 0 ? moved : -Errno.EFAULT;
    const taken = file.write(task, position + moved, bytes);
    if (taken < 0) return moved > 0 ? moved : taken;
    moved += taken;
    if (taken < round) break;
  }
  return moved;
}
