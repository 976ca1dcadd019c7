import {
  Errno,
  MAP_32BIT,
  MAP_ANONYMOUS,
  MAP_DENYWRITE,
  MAP_DROPPABLE,
  MAP_EXECUTABLE,
  MAP_FIXED,
  MAP_FIXED_NOREPLACE,
  MAP_GROWSDOWN,
  MAP_HUGETLB,
  MAP_LOCKED,
  MAP_NONBLOCK,
  MAP_NORESERVE,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  MAP_SHARED_VALIDATE,
  MAP_STACK,
  MAP_SYNC,
  PAGE_SIZE,
  PROT_EXEC,
  PROT_READ,
  PROT_SEM,
  PROT_WRITE,
} from '@pagelab/abi';
import { doMmap } from '@pagelab/vm';
import { flagTable } from './flag-table.ts';
import { foldFlags, int32, unsigned } from './registers.ts';
import type { TaskContext } from './task-context.ts';

/** `mmap` ignores protection bits it does not know. */
export const MMAP_PROT = flagTable('mmap', 'prot', 'bits', { PROT_READ, PROT_WRITE, PROT_EXEC }, { PROT_SEM });

/** `mmap` ignores flags it does not know, unless the type is MAP_SHARED_VALIDATE. */
export const MMAP_FLAGS = flagTable(
  'mmap',
  'flags',
  'bits',
  {
    MAP_SHARED,
    MAP_PRIVATE,
    MAP_SHARED_VALIDATE,
    MAP_DROPPABLE,
    MAP_FIXED,
    MAP_ANONYMOUS,
    MAP_32BIT,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_NONBLOCK,
    MAP_FIXED_NOREPLACE,
  },
  { MAP_DENYWRITE, MAP_EXECUTABLE, MAP_STACK, MAP_SYNC },
);

/** What every flag word with bits above the 32nd becomes: a bit that MAP_SHARED_VALIDATE refuses. */
const UNKNOWN_FLAG = 0x8000_0000 | 0;

/**
 * Maps memory, or a file.
 *
 * @returns the address, or -errno: EINVAL, EBADF, ENOMEM, EPERM, EEXIST, EACCES, ENODEV, EAGAIN, EOVERFLOW, EOPNOTSUPP
 * @linux arch/x86/kernel/sys_x86_64.c:mmap, mm/mmap.c:ksys_mmap_pgoff
 */
export function sysMmap(
  task: TaskContext,
  addr: number,
  length: number,
  prot: number,
  flags: number,
  fd: number,
  offset: number,
): number {
  if (offset % PAGE_SIZE !== 0) return -Errno.EINVAL;
  const pgoff = unsigned(offset) / PAGE_SIZE;
  const bits = foldFlags(flags, UNKNOWN_FLAG);
  if (bits & MAP_ANONYMOUS) {
    // The pool of huge pages is empty.
    if (bits & MAP_HUGETLB) return -Errno.ENOMEM;
    return doMmap(task.mm, { file: null, addr, length, prot: int32(prot), flags: bits, pgoff });
  }
  const open = task.files.get(int32(fd));
  if (open === undefined) return -Errno.EBADF;
  if (bits & MAP_HUGETLB) return -Errno.EINVAL;
  if (open.vmFile === null) return length === 0 ? -Errno.EINVAL : -Errno.ENODEV;
  return doMmap(task.mm, { file: open.vmFile, addr, length, prot: int32(prot), flags: bits, pgoff });
}
