import {
  Errno,
  MADV_COLD,
  MADV_COLLAPSE,
  MADV_DODUMP,
  MADV_DOFORK,
  MADV_DONTDUMP,
  MADV_DONTFORK,
  MADV_DONTNEED,
  MADV_DONTNEED_LOCKED,
  MADV_FREE,
  MADV_GUARD_INSTALL,
  MADV_GUARD_REMOVE,
  MADV_HUGEPAGE,
  MADV_HWPOISON,
  MADV_KEEPONFORK,
  MADV_NOHUGEPAGE,
  MADV_NORMAL,
  MADV_PAGEOUT,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_RANDOM,
  MADV_REMOVE,
  MADV_SEQUENTIAL,
  MADV_SOFT_OFFLINE,
  MADV_WILLNEED,
  MADV_WIPEONFORK,
  MADV_MERGEABLE,
  MADV_UNMERGEABLE,
} from '@pagelab/abi';
import { doMadvise } from '@pagelab/vm';
import { flagTable, flagValuesByRelease } from './flag-table.ts';
import { int32 } from './registers.ts';
import type { TaskContext } from './task-context.ts';

export const MADVISE_ADVICE = flagTable(
  'madvise',
  'advice',
  'values',
  {
    MADV_NORMAL,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_DONTNEED,
    MADV_FREE,
    MADV_REMOVE,
    MADV_DONTFORK,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DODUMP,
    MADV_WIPEONFORK,
    MADV_KEEPONFORK,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_DONTNEED_LOCKED,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MADV_HWPOISON,
    MADV_SOFT_OFFLINE,
    MADV_WILLNEED,
    MADV_COLD,
    MADV_PAGEOUT,
  },
  {
    MADV_MERGEABLE,
    MADV_UNMERGEABLE,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MADV_COLLAPSE,
  },
  {
    notes: {
      MADV_MERGEABLE: 'ksmd merges pages of the same contents where it runs: `/sys/kernel/mm/ksm/run`',
      MADV_UNMERGEABLE: 'gives each mapping a page of its own again',
      MADV_COLLAPSE: 'EINVAL for files on a disk, as of a kernel without CONFIG_READ_ONLY_THP_FOR_FS',
    },
    since: { MADV_GUARD_INSTALL: '6.13', MADV_GUARD_REMOVE: '6.13' },
  },
);

const adviceOf = flagValuesByRelease(MADVISE_ADVICE);

/**
 * Tells the kernel how a range will be used, or what to do with its pages.
 *
 * @returns 0, or -errno: EINVAL, ENOMEM, EBADF, EACCES, EAGAIN, EIO, EPERM, EFAULT
 * @linux mm/madvise.c:madvise
 */
export function sysMadvise(task: TaskContext, start: number, length: number, advice: number): number {
  if (!adviceOf(task.vm.release).has(int32(advice))) return -Errno.EINVAL;
  return doMadvise(task.mm, start, length, int32(advice));
}
