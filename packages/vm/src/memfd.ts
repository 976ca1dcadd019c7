/**
 * Files of shared memory that no directory knows, and their seals.
 *
 * @linux mm/memfd.c
 */
import {
  Errno,
  F_SEAL_EXEC,
  F_SEAL_FUTURE_WRITE,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  F_SEAL_WRITE,
  MFD_ALLOW_SEALING,
  MFD_HUGETLB,
  MFD_NOEXEC_SEAL,
} from '@pagelab/abi';
import type { AddressSpace, VmFile } from './file.ts';
import { hugetlbFileSetup } from './hugetlbfs.ts';
import { shmemFileSetup } from './shmem.ts';
import type { Vm } from './vm.ts';

const ALL_SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_EXEC;
/** The first release that knows F_SEAL_EXEC. */
const EXEC_SEAL_RELEASE = 603;
const EXEC_MODE = 0o111;
/** What `AddressSpace.mmapWritable` is while mappings that may write are forbidden. */
const WRITABLE_DENIED = -1;

/**
 * Makes an empty file, open for reading and writing. Pages are charged against the commit limit as they come.
 *
 * @param name what follows `/memfd:` in the list of mappings
 * @param flags MFD_ bits, checked
 * @returns the file with one reference, or −ENOMEM
 * @linux mm/memfd.c:memfd_alloc_file
 */
export function memfdCreate(vm: Vm, name: string, flags: number): VmFile | number {
  const path = `/memfd:${name} (deleted)`;
  const file = (flags & MFD_HUGETLB) !== 0 ? hugetlbFileSetup(vm, path, 0, false) : shmemFileSetup(vm, path, 0, false);
  if (typeof file === 'number') return file;
  const { inode } = file;
  inode.seals = F_SEAL_SEAL;
  if ((flags & MFD_NOEXEC_SEAL) !== 0) {
    inode.mode &= ~EXEC_MODE;
    inode.seals = F_SEAL_EXEC;
  } else if ((flags & MFD_ALLOW_SEALING) !== 0) {
    inode.seals = 0;
  }
  return file;
}

/**
 * Adds seals to a file: what they forbid stays forbidden for good.
 *
 * @param seals F_SEAL_ bits
 * @returns 0; −EPERM for a file not open for writing, or one that takes no more seals; −EINVAL for an unknown seal or a file
 *   that is no shared memory; −EBUSY for F_SEAL_WRITE while a mapping may write
 * @linux mm/memfd.c:memfd_add_seals
 */
export function memfdAddSeals(vm: Vm, file: VmFile, seals: number): number {
  const { inode } = file;
  if (!file.writable) return -Errno.EPERM;
  const known = vm.release < EXEC_SEAL_RELEASE ? ALL_SEALS & ~F_SEAL_EXEC : ALL_SEALS;
  if ((seals & ~known) !== 0) return -Errno.EINVAL;
  if (!knowsSeals(file)) return -Errno.EINVAL;
  if ((inode.seals & F_SEAL_SEAL) !== 0) return -Errno.EPERM;
  let added = seals;
  // What can be run and never be made not to must not change either.
  if ((seals & F_SEAL_EXEC) !== 0 && (inode.mode & EXEC_MODE) !== 0) {
    added |= F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;
  }
  if ((added & F_SEAL_WRITE) !== 0 && (inode.seals & F_SEAL_WRITE) === 0) {
    const error = denyWritable(inode.mapping);
    if (error !== 0) return error;
  }
  inode.seals |= added;
  return 0;
}

/** The seals of a file; −EINVAL for one that knows none. @linux mm/memfd.c:memfd_get_seals */
export function memfdGetSeals(file: VmFile): number {
  return knowsSeals(file) ? file.inode.seals : -Errno.EINVAL;
}

function knowsSeals(file: VmFile): boolean {
  const { name } = file.inode.mapping.ops;
  return name === 'shmem' || name === 'hugetlbfs';
}

/** Forbids mappings that may write, for good. @returns 0; −EBUSY where there is one @linux include/linux/fs.h:mapping_deny_writable */
function denyWritable(mapping: AddressSpace): number {
  if (mapping.mmapWritable > 0) return -Errno.EBUSY;
  mapping.mmapWritable = WRITABLE_DENIED;
  return 0;
}
