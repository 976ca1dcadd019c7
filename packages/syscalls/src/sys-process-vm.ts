import { CAP_SYS_PTRACE, Errno, PAGE_SIZE } from '@pagelab/abi';
import { getUserPage } from '@pagelab/vm';
import { int32, unsigned } from './registers.ts';
import type { TaskContext } from './task-context.ts';
import { MAX_RW_COUNT, accessOk, getUser, putUser } from './user-access.ts';
import { IOVEC_BYTES, wordAt } from './user-struct.ts';

/** The most ranges of one call. @linux include/uapi/linux/uio.h:UIO_MAXIOV */
const UIO_MAXIOV = 1024;

interface Range {
  readonly base: number;
  readonly length: number;
}

/**
 * Copies from another process's memory into the caller's, page by page, until a page of either is out of reach.
 *
 * @returns bytes copied, or -errno where none was: EINVAL, EFAULT, ESRCH, EPERM
 * @linux mm/process_vm_access.c:process_vm_readv
 */
export function sysProcessVmReadv(
  task: TaskContext,
  pid: number,
  local: number,
  nrLocal: number,
  remote: number,
  nrRemote: number,
  flags: number,
): number {
  return transfer(task, pid, local, nrLocal, remote, nrRemote, flags, false);
}

/** Copies from the caller's memory into another process's. @linux mm/process_vm_access.c:process_vm_writev */
export function sysProcessVmWritev(
  task: TaskContext,
  pid: number,
  local: number,
  nrLocal: number,
  remote: number,
  nrRemote: number,
  flags: number,
): number {
  return transfer(task, pid, local, nrLocal, remote, nrRemote, flags, true);
}

function transfer(
  task: TaskContext,
  pid: number,
  local: number,
  nrLocal: number,
  remote: number,
  nrRemote: number,
  flags: number,
  write: boolean,
): number {
  if (flags !== 0) return -Errno.EINVAL;
  const here = readRanges(task, local, nrLocal);
  if (typeof here === 'number') return here;
  let room = MAX_RW_COUNT;
  const mine: Range[] = [];
  for (const { base, length } of here) {
    const taken = Math.min(length, room);
    if (!accessOk(base, taken)) return -Errno.EFAULT;
    mine.push({ base, length: taken });
    room -= taken;
  }
  if (room === MAX_RW_COUNT) return 0;
  const there = readRanges(task, remote, nrRemote);
  if (typeof there === 'number') return there;
  if (there.every((range) => range.length === 0)) return 0;
  const target = task.findTask(int32(pid));
  if (target === undefined) return -Errno.ESRCH;
  if (!mayReach(task, target)) return -Errno.EPERM;
  return copyRanges(task, target, mine, there, write);
}

/** @linux kernel/ptrace.c:__ptrace_may_access */
function mayReach(task: TaskContext, target: TaskContext): boolean {
  if (task.tgid === target.tgid || task.capable(CAP_SYS_PTRACE)) return true;
  const { low, high } = target.credentials.permitted;
  const mine = task.credentials.permitted;
  return task.credentials.uid === target.credentials.uid && (low & ~mine.low) === 0 && (high & ~mine.high) === 0;
}

function copyRanges(
  task: TaskContext,
  target: TaskContext,
  mine: readonly Range[],
  there: readonly Range[],
  write: boolean,
): number {
  const { ram } = task.vm;
  let copied = 0;
  let at = 0;
  let within = 0;
  for (const { base, length } of there) {
    for (let done = 0; done < length; ) {
      const addr = base + done;
      const inPage = ((addr % PAGE_SIZE) + PAGE_SIZE) % PAGE_SIZE;
      const pfn = getUserPage(target.mm, addr - inPage, write);
      if (pfn < 0) return copied > 0 ? copied : -Errno.EFAULT;
      const pageEnd = Math.min(length - done, PAGE_SIZE - inPage);
      for (let moved = 0; moved < pageEnd; ) {
        while (at < mine.length && within === mine[at]!.length) {
          at += 1;
          within = 0;
        }
        if (at === mine.length) return copied;
        const localAt = mine[at]!.base + within;
        // A page of the caller's at a time: what lies before one out of reach is copied.
        const part = Math.min(pageEnd - moved, mine[at]!.length - within, PAGE_SIZE - (localAt % PAGE_SIZE));
        const offset = ram.frameWord(pfn) * 4 + inPage + moved;
        if (write) {
          const bytes = getUser(task, localAt, part);
          if (typeof bytes === 'number') return copied > 0 ? copied : -Errno.EFAULT;
          ram.u8.set(bytes, offset);
        } else if (putUser(task, localAt, ram.u8.slice(offset, offset + part)) < 0) {
          return copied > 0 ? copied : -Errno.EFAULT;
        }
        moved += part;
        within += part;
        copied += part;
      }
      done += pageEnd;
    }
  }
  return copied;
}

/** An array of ranges in user memory. @linux lib/iov_iter.c:iovec_from_user */
export function readRanges(task: TaskContext, addr: number, count: number): Range[] | number {
  if (count === 0) return [];
  if (unsigned(count) > UIO_MAXIOV) return -Errno.EINVAL;
  const bytes = getUser(task, addr, count * IOVEC_BYTES);
  if (typeof bytes === 'number') return bytes;
  const ranges: Range[] = [];
  for (let i = 0; i < count; i++) {
    const length = wordAt(bytes, i * IOVEC_BYTES + 8);
    if (length < 0) return -Errno.EINVAL;
    ranges.push({ base: wordAt(bytes, i * IOVEC_BYTES), length });
  }
  return ranges;
}
