import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';
import { getPath } from './user-access.ts';
import { decodeUtf8 } from './utf8.ts';

/** Takes a disk or file into use for swapping. @returns 0, or -errno: EPERM, EINVAL, EFAULT, ENOENT, EBUSY @linux mm/swapfile.c:swapon */
export function sysSwapon(task: TaskContext, path: number, flags: number): number {
  const name = getPath(task, path);
  return typeof name === 'number' ? name : task.swapon(decodeUtf8(name), int32(flags));
}

/** Stops using it. @returns 0, or -errno: EPERM, EINVAL, EFAULT, ENOENT, ENOMEM, EIO @linux mm/swapfile.c:swapoff */
export function sysSwapoff(task: TaskContext, path: number): number {
  const name = getPath(task, path);
  return typeof name === 'number' ? name : task.swapoff(decodeUtf8(name));
}
