import { Errno } from '@pagelab/abi';
import { copyFromUser, copyFromUserPartial, copyToUser, copyToUserPartial, faultInWriteable } from '@pagelab/vm';
import type { TaskContext } from './task-context.ts';

/** The most bytes one `read` or `write` moves. @linux include/linux/fs.h:MAX_RW_COUNT */
export const MAX_RW_COUNT = 0x7fff_f000;
/** The longest path, its zero included. */
const PATH_MAX = 4096;

/** Whether a range lies in user space, mapped or not. @linux arch/x86/include/asm/uaccess_64.h:__access_ok */
export function accessOk({ mm }: TaskContext, addr: number, length: number): boolean {
  return addr >= 0 && length >= 0 && addr + length <= mm.vm.tables.taskSize;
}

/** Stores bytes for the task, as far as it goes. @returns 0 or -EFAULT @linux include/linux/uaccess.h:copy_to_user */
export function putUser(task: TaskContext, addr: number, bytes: Uint8Array): number {
  if (bytes.length === 0) return 0;
  return copyToUser(task.mm, addr, bytes) < 0 ? -Errno.EFAULT : 0;
}

/**
 * Stores one value for the task: all of its bytes, or none.
 *
 * @param bytes at most 8 of them
 * @returns 0 or -EFAULT
 * @linux arch/x86/include/asm/uaccess.h:put_user
 */
export function putValue(task: TaskContext, addr: number, bytes: Uint8Array): number {
  const first = 4096 - (((addr % 4096) + 4096) % 4096);
  if (bytes.length <= first) return putUser(task, addr, bytes);
  // Over two pages: the store faults for the first of them, then for the second, and stores to neither where one cannot be had.
  if (!accessOk(task, addr, bytes.length) || !faultInWriteable(task.mm, addr)) return -Errno.EFAULT;
  if (putUser(task, addr + first, bytes.subarray(first)) < 0) return -Errno.EFAULT;
  return putUser(task, addr, bytes.subarray(0, first));
}

/** Stores as many of the bytes as can be stored. @returns how many */
export function putUserPartial(task: TaskContext, addr: number, bytes: Uint8Array): number {
  return copyToUserPartial(task.mm, addr, bytes);
}

/** Loads bytes of the task. @returns the bytes, or -EFAULT */
export function getUser(task: TaskContext, addr: number, length: number): Uint8Array | number {
  if (length === 0) return new Uint8Array(0);
  const bytes = copyFromUser(task.mm, addr, length);
  return typeof bytes === 'number' ? -Errno.EFAULT : bytes;
}

/** Loads as many bytes of the task as can be loaded. */
export function getUserPartial(task: TaskContext, addr: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const done = copyFromUserPartial(task.mm, addr, bytes);
  return done === length ? bytes : bytes.subarray(0, done);
}

/** A zero-terminated path of the task. @returns its bytes without the zero, or -errno: EFAULT, ENAMETOOLONG, ENOENT */
export function getPath(task: TaskContext, addr: number): Uint8Array | number {
  const bytes = getString(task, addr, PATH_MAX);
  return typeof bytes !== 'number' && bytes.length === 0 ? -Errno.ENOENT : bytes;
}

/** A zero-terminated string of at most `maxBytes`, its zero included. @returns its bytes without the zero, or -errno: EFAULT, ENAMETOOLONG */
export function getString(task: TaskContext, addr: number, maxBytes: number): Uint8Array | number {
  const parts: number[] = [];
  let at = addr;
  while (parts.length < maxBytes) {
    const room = Math.min(maxBytes - parts.length, 4096 - (((at % 4096) + 4096) % 4096));
    const bytes = getUser(task, at, room);
    if (typeof bytes === 'number') return bytes;
    const zero = bytes.indexOf(0);
    for (const byte of zero < 0 ? bytes : bytes.subarray(0, zero)) parts.push(byte);
    if (zero >= 0) return Uint8Array.from(parts);
    at += room;
  }
  return -Errno.ENAMETOOLONG;
}
