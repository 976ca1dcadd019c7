import {
  Errno,
  MAP_HUGE_MASK,
  MAP_HUGE_SHIFT,
  MFD_ALLOW_SEALING,
  MFD_CLOEXEC,
  MFD_EXEC,
  MFD_HUGETLB,
  MFD_NOEXEC_SEAL,
  O_LARGEFILE,
  O_RDWR,
} from '@pagelab/abi';
import { memfdCreate } from '@pagelab/vm';
import { flagMaskByRelease, flagTable } from './flag-table.ts';
import { int32 } from './registers.ts';
import { installFile } from './sys-file.ts';
import type { TaskContext } from './task-context.ts';
import { getString } from './user-access.ts';
import { decodeUtf8 } from './utf8.ts';

export const MEMFD_CREATE_FLAGS = flagTable(
  'memfd_create',
  'flags',
  'bits',
  { MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_HUGETLB, MFD_NOEXEC_SEAL },
  { MFD_EXEC },
  {
    notes: {
      MFD_HUGETLB: 'with a size of 2 MiB, or none given; ENODEV for 1 GiB',
      MFD_EXEC: 'the default: a file may be run unless it is said that it may not',
    },
    since: { MFD_NOEXEC_SEAL: '6.3', MFD_EXEC: '6.3' },
  },
);

const memfdMask = flagMaskByRelease(MEMFD_CREATE_FLAGS);
/** Bytes of the longest name, its zero included. @linux mm/memfd.c:MFD_NAME_MAX_LEN */
const NAME_BYTES = 250;

/**
 * Makes a file of shared memory, or of huge pages, that has no name in any directory.
 *
 * @returns a descriptor, or -errno: EINVAL, EFAULT, ENOMEM, EMFILE; EACCES for what can be run where `vm.memfd_noexec` forbids it; ENODEV for huge pages of another size
 * @linux mm/memfd.c:memfd_create
 */
export function sysMemfdCreate(task: TaskContext, name: number, flags: number): number {
  let bits = int32(flags);
  const sizeBits = bits & MFD_HUGETLB ? MAP_HUGE_MASK << MAP_HUGE_SHIFT : 0;
  if (bits & ~(memfdMask(task.vm.release) | sizeBits)) return -Errno.EINVAL;
  if (bits & MFD_EXEC && bits & MFD_NOEXEC_SEAL) return -Errno.EINVAL;
  // What can be run is a matter of who asks, or of the system. @linux mm/memfd.c:check_sysctl_memfd_noexec
  const { memfdNoexec } = task.vm.sysctl;
  if ((bits & (MFD_EXEC | MFD_NOEXEC_SEAL)) === 0 && memfdNoexec > 0) bits |= MFD_NOEXEC_SEAL;
  if ((bits & MFD_NOEXEC_SEAL) === 0 && memfdNoexec > 1) return -Errno.EACCES;
  const text = getString(task, name, NAME_BYTES);
  if (typeof text === 'number') return text === -Errno.ENAMETOOLONG ? -Errno.EINVAL : text;
  const shift = (bits >>> MAP_HUGE_SHIFT) & MAP_HUGE_MASK;
  if (bits & MFD_HUGETLB && shift !== 0 && shift !== task.vm.tables.hugeShifts[0]) return -Errno.ENODEV;
  const made = memfdCreate(task.vm, decodeUtf8(text), bits);
  if (typeof made === 'number') return made;
  const file = task.openVmFile(made, O_RDWR | O_LARGEFILE);
  return typeof file === 'number' ? file : installFile(task, file, (bits & MFD_CLOEXEC) !== 0);
}
