import { Errno } from '@pagelab/abi';
import { int32 } from './registers.ts';
import { AT_FDCWD, pathAt } from './sys-names.ts';
import type { FileStatus, TaskContext } from './task-context.ts';
import { getPath, putUser } from './user-access.ts';
import { encodeWords } from './user-struct.ts';
import { decodeUtf8 } from './utf8.ts';

const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_NO_AUTOMOUNT = 0x800;
const AT_EMPTY_PATH = 0x1000;
const AT_STATX_SYNC_TYPE = 0x6000;
const NS_PER_SECOND = 1e9;

/** Tells what a name leads to. @returns 0, or -errno @linux fs/stat.c:newstat */
export function sysStat(task: TaskContext, path: number, buffer: number): number {
  const name = getPath(task, path);
  if (typeof name === 'number') return name;
  return store(task, buffer, task.names.status(decodeUtf8(name)));
}

/** Tells of an open file. @returns 0, or -errno: EBADF, EFAULT @linux fs/stat.c:newfstat */
export function sysFstat(task: TaskContext, fd: number, buffer: number): number {
  const file = task.files.get(int32(fd));
  return file === undefined ? -Errno.EBADF : store(task, buffer, file.status());
}

/** Tells of a name or, with an empty one and AT_EMPTY_PATH, of an open file. @linux fs/stat.c:newfstatat */
export function sysNewfstatat(task: TaskContext, dirFd: number, path: number, buffer: number, flags: number): number {
  const bits = int32(flags);
  const name = bits & AT_EMPTY_PATH && path === 0 ? -Errno.ENOENT : getPath(task, path);
  const isEmpty = name === -Errno.ENOENT && (bits & AT_EMPTY_PATH) !== 0;
  if (isEmpty && int32(dirFd) >= 0) return sysFstat(task, dirFd, buffer);
  if (bits & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE)) return -Errno.EINVAL;
  if (isEmpty) return int32(dirFd) === AT_FDCWD ? store(task, buffer, task.names.status('/')) : -Errno.EBADF;
  if (typeof name === 'number') return name;
  const full = pathAt(task, dirFd, decodeUtf8(name));
  return store(task, buffer, typeof full === 'number' ? full : task.names.status(full));
}

function store(task: TaskContext, buffer: number, status: FileStatus | number): number {
  return typeof status === 'number' ? status : putUser(task, buffer, encodeStat(status));
}

/** A `struct stat`. @linux arch/x86/include/uapi/asm/stat.h:stat */
function encodeStat(status: FileStatus): Uint8Array {
  const { ino, nlink, mode, size, blockBytes, blocks, uid = 0, gid = 0 } = status;
  const words = [
    deviceNumber(status.dev),
    ino,
    nlink,
    mode + uid * 2 ** 32,
    gid,
    deviceNumber(status.rdev),
    size,
    blockBytes,
    blocks,
    ...timespec(status.atime),
    ...timespec(status.mtime),
    ...timespec(status.ctime),
    0,
    0,
    0,
  ];
  return encodeWords(words);
}

/** @linux include/linux/kdev_t.h:new_encode_dev */
function deviceNumber([major, minor]: readonly [number, number]): number {
  return (minor & 0xff) + major * 256 + (minor >> 8) * 2 ** 20;
}

function timespec(ns: number): [number, number] {
  return [Math.floor(ns / NS_PER_SECOND), Math.floor(ns % NS_PER_SECOND)];
}
