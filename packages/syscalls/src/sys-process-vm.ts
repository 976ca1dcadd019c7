import { CAP_SYS_PTRACE, Errno, PAGE_SIZE } from '@pagelab/abi';
import { kmapLocalPage, kunmapLocal, pinUserPagesRemote, unpinUserPages } from '@pagelab/vm';
import { importRanges, readRanges } from './iovec.ts';
import type { Range } from './iovec.ts';
import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';
import { getUser, putUser } from './user-access.ts';

/** Pages that are brought in at once: two pages of pointers. @linux mm/process_vm_access.c:PVM_MAX_USER_PAGES */
const PVM_MAX_USER_PAGES = (2 * PAGE_SIZE) / 8;

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
  const mine = importRanges(task, local, nrLocal);
  if (typeof mine === 'number') return mine;
  if (mine.every(({ length }) => length === 0)) return 0;
  const there = readRanges(task, remote, nrRemote);
  if (typeof there === 'number') return there;
  if (there.every((range) => range.length === 0)) return 0;
  const target = task.findTask(int32(pid));
  if (target === undefined) return -Errno.ESRCH;
  if (!mayReach(task, target)) return -Errno.EPERM;
  return copyRanges(task, target, mine, there, write);
}

/** Whether a task may look into another's memory. @linux kernel/ptrace.c:__ptrace_may_access */
export function mayReach(task: TaskContext, target: TaskContext): boolean {
  if (task.tgid === target.tgid || task.capable(CAP_SYS_PTRACE)) return true;
  const { low, high } = target.credentials.permitted;
  const mine = task.credentials.permitted;
  return task.credentials.uid === target.credentials.uid && (low & ~mine.low) === 0 && (high & ~mine.high) === 0;
}

/** Goes through the ranges of both sides at once. @linux mm/process_vm_access.c:process_vm_rw_core */
function copyRanges(
  task: TaskContext,
  target: TaskContext,
  mine: readonly Range[],
  there: readonly Range[],
  write: boolean,
): number {
  const local = new LocalRanges(task, mine, write);
  const pages: number[] = [];
  for (const { base, length } of there) {
    if (local.done || local.failed) break;
    for (let done = 0; done < length && !local.done && !local.failed; ) {
      const inPage = (((base + done) % PAGE_SIZE) + PAGE_SIZE) % PAGE_SIZE;
      // As many pages as there is room to note are brought in before any is copied.
      const nrPages = Math.min(Math.ceil((inPage + length - done) / PAGE_SIZE), PVM_MAX_USER_PAGES);
      const nrPinned = pinUserPagesRemote(task.mm, target.mm, base + done - inPage, nrPages, write, pages);
      if (nrPinned <= 0) return local.copied > 0 ? local.copied : -Errno.EFAULT;
      const bytes = Math.min(nrPinned * PAGE_SIZE - inPage, length - done);
      local.copyPages(pages, inPage, bytes);
      unpinUserPages(task.vm, pages);
      done += bytes;
    }
  }
  return local.copied > 0 || !local.failed ? local.copied : -Errno.EFAULT;
}

/** How far a copy has got on the caller's side. @linux include/linux/uio.h:iov_iter */
class LocalRanges {
  copied = 0;
  /** A page of the caller's is out of reach. */
  failed = false;
  private at = 0;
  private within = 0;
  private readonly task: TaskContext;
  private readonly ranges: readonly Range[];
  private readonly write: boolean;

  constructor(task: TaskContext, ranges: readonly Range[], write: boolean) {
    this.task = task;
    this.ranges = ranges;
    this.write = write;
    this.skipEmpty();
  }

  /** Nothing is left of the ranges. */
  get done(): boolean {
    return this.at === this.ranges.length;
  }

  /** Copies `bytes` bytes between pages, from byte `inPage` of the first on, and the ranges. @linux mm/process_vm_access.c:process_vm_rw_pages */
  copyPages(pages: readonly number[], inPage: number, bytes: number): void {
    let offset = inPage;
    for (let left = bytes; left > 0 && !this.done && !this.failed; ) {
      const { vm } = this.task;
      const pfn = pages[Math.floor(offset / PAGE_SIZE)]!;
      const host = vm.ram.frameWord(pfn) * 4 + (offset % PAGE_SIZE);
      const window = kmapLocalPage(vm, pfn);
      const moved = this.copyPart(host, Math.min(left, PAGE_SIZE - (offset % PAGE_SIZE)));
      kunmapLocal(vm, window);
      offset += moved;
      left -= moved;
    }
  }

  /** Copies what lies in one page of the caller's. @returns bytes */
  private copyPart(host: number, most: number): number {
    const { task, ranges, write } = this;
    const { u8 } = task.vm.ram;
    const { base, length } = ranges[this.at]!;
    const addr = base + this.within;
    const part = Math.min(most, length - this.within, PAGE_SIZE - (addr % PAGE_SIZE));
    if (write) {
      const bytes = getUser(task, addr, part);
      this.failed = typeof bytes === 'number';
      if (typeof bytes !== 'number') u8.set(bytes, host);
    } else {
      this.failed = putUser(task, addr, u8.slice(host, host + part)) < 0;
    }
    if (this.failed) return 0;
    this.copied += part;
    this.within += part;
    this.skipEmpty();
    return part;
  }

  private skipEmpty(): void {
    const { ranges } = this;
    while (this.at < ranges.length && this.within === ranges[this.at]!.length) {
      this.at += 1;
      this.within = 0;
    }
  }
}
