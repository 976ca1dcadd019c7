import { CAP_SYS_ADMIN, Errno } from '@pagelab/abi';
import { SWAP_FLAG_DISCARD, SWAP_FLAG_DISCARD_ONCE, SWAP_FLAG_DISCARD_PAGES, SWAP_FLAG_PREFER, SWAP_FLAG_PRIO_MASK } from '@pagelab/vm';
import { flagMask, flagTable } from './flag-table.ts';
import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';
import { getPath } from './user-access.ts';
import { decodeUtf8 } from './utf8.ts';

export const SWAPON_FLAGS = flagTable('swapon', 'flags', 'bits', {
  SWAP_FLAG_PRIO_MASK, SWAP_FLAG_PREFER, SWAP_FLAG_DISCARD, SWAP_FLAG_DISCARD_ONCE, SWAP_FLAG_DISCARD_PAGES,
});
const SWAPON_MASK = flagMask(SWAPON_FLAGS);

/** Takes a disk or file into use for swapping. @returns 0, or -errno: EPERM, EINVAL, EFAULT, ENOENT, EBUSY @linux mm/swapfile.c:swapon */
export function sysSwapon(task: TaskContext, path: number, flags: number): number {
  if ((int32(flags) & ~SWAPON_MASK) !== 0) return -Errno.EINVAL;
  if (!task.capable(CAP_SYS_ADMIN)) return -Errno.EPERM;
  const name = getPath(task, path);
  return typeof name === 'number' ? name : task.swapon(decodeUtf8(name), int32(flags));
}

/** Stops using it. @returns 0, or -errno: EPERM, EINVAL, EFAULT, ENOENT, ENOMEM, EIO @linux mm/swapfile.c:swapoff */
export function sysSwapoff(task: TaskContext, path: number): number {
  if (!task.capable(CAP_SYS_ADMIN)) return -Errno.EPERM;
  const name = getPath(task, path);
  return typeof name === 'number' ? name : task.swapoff(decodeUtf8(name));
}
