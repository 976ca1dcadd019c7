/**
 * Arrays of ranges of user memory.
 *
 * @linux lib/iov_iter.c
 */
import { Errno } from '@pagelab/abi';
import { unsigned } from './registers.ts';
import type { TaskContext } from './task-context.ts';
import { MAX_RW_COUNT, accessOk, getUserPartial } from './user-access.ts';
import { longAt, longBytes } from './user-struct.ts';

/** The most ranges of one call. @linux include/uapi/linux/uio.h:UIO_MAXIOV */
const UIO_MAXIOV = 1024;

export interface Range {
  readonly base: number;
  /** In bytes. */
  readonly length: number;
}

/** Ranges that need not be the caller's. @returns -EINVAL, -EFAULT @linux lib/iov_iter.c:iovec_from_user */
export function readRanges(task: TaskContext, addr: number, count: number): Range[] | number {
  if (count === 0) return [];
  if (unsigned(count, task.mm.registerRange) > UIO_MAXIOV) return -Errno.EINVAL;
  const step = 2 * longBytes(task);
  if (!accessOk(task, addr, count * step)) return -Errno.EFAULT;
  // One is looked at after the other: a bad one may come before the first that is out of reach.
  const bytes = getUserPartial(task, addr, count * step);
  const ranges: Range[] = [];
  for (let i = 0; i < count; i++) {
    if ((i + 1) * step > bytes.length) return -Errno.EFAULT;
    const length = longAt(task, bytes, i * 2 + 1);
    if (length < 0) return -Errno.EINVAL;
    ranges.push({ base: longAt(task, bytes, i * 2), length });
  }
  return ranges;
}

/**
 * Ranges of the caller's memory, as much of them as one call moves. Their count is an `unsigned int`.
 *
 * @returns -EINVAL, -EFAULT
 * @linux lib/iov_iter.c:import_iovec
 */
export function importRanges(task: TaskContext, addr: number, count: number): Range[] | number {
  const given = readRanges(task, addr, count >>> 0);
  if (typeof given === 'number') return given;
  let room = MAX_RW_COUNT;
  const ranges: Range[] = [];
  for (const { base, length } of given) {
    const taken = Math.min(length, room);
    // A single one is cut to size first.
    if (!accessOk(task, base, given.length === 1 ? taken : length)) return -Errno.EFAULT;
    ranges.push({ base, length: taken });
    room -= taken;
  }
  return ranges;
}
