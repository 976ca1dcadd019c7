import { Errno, O_CREAT, O_TRUNC, O_WRONLY, S_IFDIR, S_IFMT } from '@pagelab/abi';
import { int32 } from './registers.ts';
import { openFile, openFlags, sysOpen } from './sys-file.ts';
import type { TaskContext } from './task-context.ts';
import { getPath } from './user-access.ts';
import { decodeUtf8 } from './utf8.ts';

/** Relative paths are taken from the working directory, which is `/`. @linux include/uapi/linux/fcntl.h:AT_FDCWD */
export const AT_FDCWD = -100;
const AT_REMOVEDIR = 0x200;

/** Reads a path and acts on it. */
function withPath(task: TaskContext, path: number, act: (name: string) => number): number {
  const name = getPath(task, path);
  return typeof name === 'number' ? name : act(decodeUtf8(name));
}

/** A path of the task, or what reading it failed with. */
function pathOrError(task: TaskContext, path: number): string | number {
  const name = getPath(task, path);
  return typeof name === 'number' ? name : decodeUtf8(name);
}

/** A path that is taken from the directory of a descriptor; or -EBADF, -ENOTDIR. @linux fs/namei.c:path_init */
export function pathAt(task: TaskContext, dirFd: number, name: string): string | number {
  if (name.startsWith('/') || int32(dirFd) === AT_FDCWD) return name;
  const file = task.files.get(int32(dirFd));
  if (file === undefined) return -Errno.EBADF;
  return (file.status().mode & S_IFMT) === S_IFDIR ? `${file.path}/${name}` : -Errno.ENOTDIR;
}

/** Opens or makes a file, whose path is taken from a directory. @returns a descriptor, or -errno @linux fs/open.c:openat */
export function sysOpenat(task: TaskContext, dirFd: number, path: number, flags: number, mode: number): number {
  const bits = openFlags(task, flags);
  if (bits < 0) return bits;
  return withPath(task, path, (name) => {
    const full = pathAt(task, dirFd, name);
    return typeof full === 'number' ? full : openFile(task, full, bits, int32(mode));
  });
}

/** Makes a file, or empties it. @returns a descriptor, or -errno @linux fs/open.c:creat */
export function sysCreat(task: TaskContext, path: number, mode: number): number {
  return sysOpen(task, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/** Takes a name of a file away. @returns 0, or -errno: EFAULT, ENOENT, EISDIR, ENOTDIR, EACCES @linux fs/namei.c:unlink */
export function sysUnlink(task: TaskContext, path: number): number {
  return withPath(task, path, (name) => task.names.unlink(name));
}

/** Takes a name of a file, or a directory, away. @linux fs/namei.c:unlinkat */
export function sysUnlinkat(task: TaskContext, dirFd: number, path: number, flags: number): number {
  const bits = int32(flags);
  if (bits & ~AT_REMOVEDIR) return -Errno.EINVAL;
  return withPath(task, path, (name) => {
    const full = pathAt(task, dirFd, name);
    if (typeof full === 'number') return full;
    return bits === 0 ? task.names.unlink(full) : task.names.rmdir(full);
  });
}

/** Makes a directory. @returns 0, or -errno @linux fs/namei.c:mkdir */
export function sysMkdir(task: TaskContext, path: number, mode: number): number {
  return withPath(task, path, (name) => task.names.mkdir(name, int32(mode)));
}

/** Takes an empty directory away. @returns 0, or -errno @linux fs/namei.c:rmdir */
export function sysRmdir(task: TaskContext, path: number): number {
  return withPath(task, path, (name) => task.names.rmdir(name));
}

/** Gives a file a second name. @returns 0, or -errno @linux fs/namei.c:link */
export function sysLink(task: TaskContext, from: number, to: number): number {
  const target = pathOrError(task, to);
  return withPath(task, from, (source) => task.names.link(source, target));
}

/** Gives a file another name. @returns 0, or -errno @linux fs/namei.c:rename */
export function sysRename(task: TaskContext, from: number, to: number): number {
  const target = pathOrError(task, to);
  return withPath(task, from, (source) => task.names.rename(source, target));
}

/** Whether a file may be used so. @returns 0, or -errno @linux fs/open.c:access */
export function sysAccess(task: TaskContext, path: number, mode: number): number {
  const wanted = int32(mode);
  if (wanted & ~7) return -Errno.EINVAL;
  return withPath(task, path, (name) => task.names.access(name, wanted));
}
