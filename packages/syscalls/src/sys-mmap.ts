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
  MAP_HUGE_MASK,
  MAP_HUGE_SHIFT,
  MAP_LOCKED,
  MAP_NONBLOCK,
  MAP_NORESERVE,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  MAP_SHARED_VALIDATE,
  MAP_STACK,
  MAP_SYNC,
  MAP_TYPE,
  O_ACCMODE,
  O_PATH,
  O_RDONLY,
  O_WRONLY,
  PAGE_SIZE,
  PROT_EXEC,
  PROT_READ,
  PROT_SEM,
  PROT_WRITE,
} from '@pagelab/abi';
import { doMmap, isHugetlbFile } from '@pagelab/vm';
import type { UnmappableFile } from '@pagelab/vm';
import { flagMask, flagMaskByRelease, flagTable, releaseNumber } from './flag-table.ts';
import { foldFlags, int32, unsigned } from './registers.ts';
import type { OpenFile, TaskContext } from './task-context.ts';

/** Not below 4 GiB. @linux arch/x86/include/uapi/asm/mman.h:MAP_ABOVE4G */
const MAP_ABOVE4G = 0x80;

export const MMAP_PROT = flagTable('mmap', 'prot', 'bits', { PROT_READ, PROT_WRITE, PROT_EXEC }, { PROT_SEM }, {
  unknown: 'Other bits are ignored.',
});

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
    MAP_ABOVE4G,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_NONBLOCK,
    MAP_FIXED_NOREPLACE,
    MAP_HUGETLB,
  },
  { MAP_DENYWRITE, MAP_EXECUTABLE, MAP_STACK, MAP_SYNC },
  {
    notes: {
      MAP_HUGETLB: 'there is a pool of pages of 2 MiB; that of 1 GiB is empty (ENOMEM)',
      MAP_SYNC: 'EOPNOTSUPP with MAP_SHARED_VALIDATE: no file lies in persistent memory',
      MAP_DROPPABLE: 'a type of its own',
    },
    since: { MAP_DROPPABLE: '6.11', MAP_ABOVE4G: '6.6' },
    unknown: 'Other bits are ignored, unless the type is MAP_SHARED_VALIDATE: that refuses them with EOPNOTSUPP.',
  },
);

const MMAP_MASK = flagMask(MMAP_FLAGS);
const mmapMask = flagMaskByRelease(MMAP_FLAGS);
/** The release that brought the last of them, and a type that never was. */
const DROPPABLE_RELEASE = releaseNumber('6.11');
const UNKNOWN_TYPE = 4;
const PROT_MASK = flagMask(MMAP_PROT);

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
  if ((offset & (PAGE_SIZE - 1)) !== 0) return -Errno.EINVAL;
  const pgoff = unsigned(offset) / PAGE_SIZE;
  // A call with registers of 32 bits takes the offset in pages.
  if (task.mm.is32Bit && pgoff >= 2 ** 32) return -Errno.EINVAL;
  const given = knownFlags(foldFlags(flags, UNKNOWN_FLAG), task.vm.release);
  const rights = int32(prot) & PROT_MASK;
  const { personality } = task;
  if (given & MAP_ANONYMOUS && given & MAP_HUGETLB) {
    const shift = (given >>> MAP_HUGE_SHIFT) & MAP_HUGE_MASK;
    if (shift !== 0 && !task.vm.tables.hugeShifts.includes(shift)) return -Errno.EINVAL;
    return doMmap(task.mm, { file: null, addr, length, prot: rights, flags: given, pgoff, personality });
  }
  const bits = (given & MAP_TYPE) === MAP_SHARED_VALIDATE ? given : given & (MMAP_MASK | MAP_TYPE | MAP_HUGETLB);
  if (bits & MAP_ANONYMOUS) {
    return doMmap(task.mm, { file: null, addr, length, prot: rights, flags: bits, pgoff, personality });
  }
  const open = task.files.get(int32(fd));
  if (open === undefined) return -Errno.EBADF;
  if (bits & MAP_HUGETLB && !isHugetlbFile(task.vm, open.vmFile)) return -Errno.EINVAL;
  if (open.flags & O_PATH) return -Errno.EBADF;
  const { vmFile, zeroFile = null } = open;
  const special = vmFile !== null ? undefined : zeroFile !== null ? { zeroFile } : { unmappable: unmappable(open) };
  return doMmap(task.mm, { file: vmFile, ...special, addr, length, prot: rights, flags: bits, pgoff, personality });
}

/** Flags as a release takes them: what came later than it is a bit without meaning, or a type that there is not. */
function knownFlags(flags: number, release: number): number {
  if (release >= DROPPABLE_RELEASE) return flags;
  const known = (flags & MAP_TYPE) === MAP_DROPPABLE ? (flags & ~MAP_TYPE) | UNKNOWN_TYPE : flags;
  return known & MAP_ABOVE4G && !(mmapMask(release) & MAP_ABOVE4G) ? (known & ~MAP_ABOVE4G) | UNKNOWN_FLAG : known;
}

function unmappable({ flags, mmapError, noExec = false }: OpenFile): UnmappableFile {
  const access = flags & O_ACCMODE;
  return { readable: access !== O_WRONLY, writable: access !== O_RDONLY, mmapError, noExec };
}
