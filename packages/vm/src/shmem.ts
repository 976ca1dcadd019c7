/**
 * Shared memory: files without a disk. What MAP_SHARED | MAP_ANONYMOUS, `memfd_create` and System V segments have behind
 * them, and what an in-memory file system is made of.
 *
 * Its pages are charged against the commit limit: for the whole object when it is made (`inode.accounted`), or page by
 * page as they come.
 *
 * @linux mm/shmem.c
 */
import {
  Errno,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  F_SEAL_FUTURE_WRITE,
  F_SEAL_GROW,
  F_SEAL_SHRINK,
  F_SEAL_WRITE,
} from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL, PG_DIRTY, PG_SWAPBACKED, PG_UPTODATE, __GFP_ZERO } from '@pagelab/mm-core';
import type { AddressSpace, AddressSpaceOps, Inode, VmFile } from './file.ts';
import type { MmStruct } from './mm-struct.ts';
import { vmEnoughMemory, vmUnacctMemory } from './overcommit.ts';
import { addToPageCache, makeInode, removeFromPageCache } from './page-cache.ts';
import type { Vm } from './vm.ts';
import { VM_NORESERVE } from './vma.ts';
import type { VmArea } from './vma.ts';
import { unmapMappingPages } from './zap.ts';

/** Largest file, in bytes. @linux include/linux/fs.h:MAX_LFS_FILESIZE */
export const SHMEM_MAX_BYTES = 2 ** 63;

/** The page cache's view of shared memory: a page that is missing is made, empty. */
export class ShmemOps implements AddressSpaceOps {
  readonly name = 'shmem';
  readonly swapBacked = true;
  readonly #vm: Vm;

  constructor(vm: Vm) {
    this.#vm = vm;
  }

  /** @linux mm/shmem.c:shmem_fault */
  getPage(mapping: AddressSpace, pgoff: number): number {
    if (pgoff * PAGE_SIZE >= mapping.inode.size) return -Errno.EFAULT;
    return shmemGetPage(this.#vm, mapping, pgoff);
  }
}

/**
 * The page at `pgoff`, made where it is missing, with a reference; the file's size does not matter.
 *
 * @returns −ENOMEM; −ENOSPC where the commit limit is reached
 * @linux mm/shmem.c:shmem_get_folio_gfp
 */
export function shmemGetPage(vm: Vm, mapping: AddressSpace, pgoff: number): Pfn {
  const { frames } = vm;
  const known = mapping.pages.get(pgoff);
  if (known >= 0) {
    frames.refcount[known]++;
    return known;
  }
  const { accounted } = mapping.inode;
  if (!accounted && vmEnoughMemory(vm, null, 1) !== 0) return -Errno.ENOSPC;
  const pfn = vm.pages.allocPage(GFP_HIGHUSER_MOVABLE | __GFP_ZERO);
  let error = pfn < 0 ? pfn : 0;
  if (pfn >= 0) {
    frames.flags[pfn] |= PG_SWAPBACKED | PG_UPTODATE;
    error = addToPageCache(vm, mapping, pgoff, pfn);
    if (error !== 0) vm.pages.freePage(pfn);
  }
  if (error !== 0) {
    if (!accounted) vmUnacctMemory(vm, 1);
    return error;
  }
  return pfn;
}

/**
 * Makes a shared memory file, opened once for reading and writing, with no name in any directory.
 *
 * @param path as `/proc/PID/maps` is to show it
 * @param accounted whether all of it is charged against the commit limit now, or each page as it comes
 * @param mm who asks, for the commit limit
 * @returns the file with one reference; −ENOMEM, −EINVAL for a size no file can have
 * @linux mm/shmem.c:__shmem_file_setup
 */
export function shmemFileSetup(
  vm: Vm,
  path: string,
  sizeBytes: number,
  accounted: boolean,
  mm: MmStruct | null = null,
): VmFile | number {
  if (sizeBytes < 0 || sizeBytes > SHMEM_MAX_BYTES) return -Errno.EINVAL;
  const charged = accounted ? Math.ceil(sizeBytes / PAGE_SIZE) : 0;
  if (charged !== 0 && vmEnoughMemory(vm, mm, charged) !== 0) return -Errno.ENOMEM;
  const inodeObject = vm.caches.shmemInode.alloc(GFP_KERNEL);
  if (inodeObject === 0) {
    vmUnacctMemory(vm, charged);
    return -Errno.ENOMEM;
  }
  const inode = makeInode(vm, { ops: vm.shmemOps, size: sizeBytes, nlink: 0, accounted, object: inodeObject });
  const file = openInode(vm, inode, path, true);
  inodePut(vm, inode);
  return file ?? -Errno.ENOMEM;
}

/** Gives a MAP_SHARED | MAP_ANONYMOUS mapping its object, and the mapping's reference to it. @returns 0 or −ENOMEM @linux mm/shmem.c:shmem_zero_setup */
export function shmemZeroSetup(vma: VmArea): number {
  const { mm } = vma;
  const accounted = (vma.flags & VM_NORESERVE) === 0;
  const file = shmemFileSetup(mm.vm, '/dev/zero (deleted)', vma.end - vma.start, accounted, mm);
  if (typeof file === 'number') return file;
  vma.file = file;
  return 0;
}

/**
 * Opens an inode: a new file that holds a reference to it.
 *
 * @returns `null` without memory
 * @linux fs/file_table.c:alloc_file_pseudo
 */
export function openInode(vm: Vm, inode: Inode, path: string, writable: boolean): VmFile | null {
  const object = vm.caches.file.alloc(GFP_KERNEL);
  if (object === 0) return null;
  inode.refcount++;
  return { inode, path, readable: true, writable, refcount: 1, object };
}

/** Takes a reference to an open file, and returns it. @linux include/linux/fs.h:get_file */
export function fileGet(file: VmFile): VmFile {
  file.refcount++;
  return file;
}

/** Drops a reference to an open file; the last one closes it. @linux fs/file_table.c:fput */
export function filePut(vm: Vm, file: VmFile): void {
  if (--file.refcount > 0) return;
  vm.caches.file.free(file.object);
  inodePut(vm, file.inode);
}

/** Drops a user of an inode. The last one of an inode without a name takes it and its pages along. @linux fs/inode.c:iput */
export function inodePut(vm: Vm, inode: Inode): void {
  if (--inode.refcount > 0 || inode.nlink > 0) return;
  truncatePages(vm, inode, 0, Infinity);
  if (inode.accounted) vmUnacctMemory(vm, Math.ceil(inode.size / PAGE_SIZE));
  vm.mappings.free(inode.mapping.id);
  vm.caches.shmemInode.free(inode.object);
}

/**
 * Sets the length of a file. Pages beyond the new end go, from every mapping and with the private copies made of them;
 * the rest of the last page becomes zero.
 *
 * @returns 0; −EPERM for a seal, −EINVAL, −ENOMEM where the commit limit forbids the growth
 * @linux mm/shmem.c:shmem_setattr
 */
export function shmemTruncate(vm: Vm, inode: Inode, newSize: number): number {
  const oldSize = inode.size;
  if (newSize < 0 || newSize > SHMEM_MAX_BYTES) return -Errno.EINVAL;
  if (newSize < oldSize && (inode.seals & F_SEAL_SHRINK) !== 0) return -Errno.EPERM;
  if (newSize > oldSize && (inode.seals & F_SEAL_GROW) !== 0) return -Errno.EPERM;
  if (newSize !== oldSize) {
    if (inode.accounted) {
      const delta = Math.ceil(newSize / PAGE_SIZE) - Math.ceil(oldSize / PAGE_SIZE);
      if (delta > 0 && vmEnoughMemory(vm, null, delta) !== 0) return -Errno.ENOMEM;
      if (delta < 0) vmUnacctMemory(vm, -delta);
    }
    inode.size = newSize;
  }
  if (newSize <= oldSize) {
    const firstPgoff = Math.ceil(newSize / PAGE_SIZE);
    if (oldSize > firstPgoff * PAGE_SIZE) unmapMappingPages(vm, inode.mapping, firstPgoff, Infinity, 'all');
    truncatePages(vm, inode, newSize, Infinity);
  }
  return 0;
}

/**
 * Allocates the pages of a range or, with FALLOC_FL_PUNCH_HOLE, frees them: they read as zero afterwards, in every
 * mapping; private copies stay.
 *
 * @param offset and `length` in bytes
 * @returns 0; −EOPNOTSUPP for another mode, −EINVAL, −EPERM for a seal, −EFBIG, −ENOSPC, −ENOMEM
 * @linux mm/shmem.c:shmem_fallocate
 */
export function shmemFallocate(vm: Vm, inode: Inode, mode: number, offset: number, length: number): number {
  if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)) !== 0) return -Errno.EOPNOTSUPP;
  if (offset < 0 || length <= 0) return -Errno.EINVAL;
  if ((mode & FALLOC_FL_PUNCH_HOLE) !== 0) {
    if ((mode & FALLOC_FL_KEEP_SIZE) === 0) return -Errno.EOPNOTSUPP;
    if ((inode.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) !== 0) return -Errno.EPERM;
    const first = Math.ceil(offset / PAGE_SIZE);
    const last = Math.floor((offset + length) / PAGE_SIZE) - 1;
    if (last >= first) unmapMappingPages(vm, inode.mapping, first, last, 'file');
    truncatePages(vm, inode, offset, offset + length);
    return 0;
  }
  const end = offset + length;
  if (end > SHMEM_MAX_BYTES) return -Errno.EFBIG;
  const grows = (mode & FALLOC_FL_KEEP_SIZE) === 0 && end > inode.size;
  if (grows && (inode.seals & F_SEAL_GROW) !== 0) return -Errno.EPERM;
  const first = Math.floor(offset / PAGE_SIZE);
  const last = Math.ceil(end / PAGE_SIZE) - 1;
  const made: number[] = [];
  for (let pgoff = first; pgoff <= last; pgoff++) {
    if (inode.mapping.pages.has(pgoff)) continue;
    const pfn = shmemGetPage(vm, inode.mapping, pgoff);
    if (pfn < 0) {
      for (const undone of made) dropPage(vm, inode, undone);
      return pfn;
    }
    vm.pages.freePage(pfn);
    made.push(pgoff);
  }
  if (grows) inode.size = end;
  return 0;
}

/**
 * Reads from `pos`, up to the end of the file, into `bytes`.
 *
 * @returns bytes read
 * @linux mm/shmem.c:shmem_file_read_iter
 */
export function shmemRead(vm: Vm, inode: Inode, pos: number, bytes: Uint8Array): number {
  const { ram } = vm;
  const end = Math.min(inode.size, pos + bytes.length);
  for (let at = pos; at < end; ) {
    const inPage = at % PAGE_SIZE;
    const run = Math.min(PAGE_SIZE - inPage, end - at);
    const pfn = inode.mapping.pages.get(Math.floor(at / PAGE_SIZE));
    if (pfn < 0) {
      bytes.fill(0, at - pos, at - pos + run);
    } else {
      const host = ram.frameWord(pfn) * 4 + inPage;
      bytes.set(ram.u8.subarray(host, host + run), at - pos);
    }
    at += run;
  }
  return Math.max(0, end - pos);
}

/**
 * Writes `bytes` at `pos`; the file grows as needed.
 *
 * @returns bytes written, fewer than given where memory runs out midway; −errno where nothing was: −EPERM for a seal,
 *   −ENOSPC, −ENOMEM, −EFBIG
 * @linux mm/shmem.c:shmem_write_begin
 */
export function shmemWrite(vm: Vm, inode: Inode, pos: number, bytes: Uint8Array): number {
  const { ram, frames } = vm;
  if (pos + bytes.length > SHMEM_MAX_BYTES) return -Errno.EFBIG;
  let done = 0;
  while (done < bytes.length) {
    const at = pos + done;
    const inPage = at % PAGE_SIZE;
    const run = Math.min(PAGE_SIZE - inPage, bytes.length - done);
    const pfn = mayWrite(inode, at + run) ? shmemGetPage(vm, inode.mapping, Math.floor(at / PAGE_SIZE)) : -Errno.EPERM;
    if (pfn < 0) return done > 0 ? done : pfn;
    ram.u8.set(bytes.subarray(done, done + run), ram.frameWord(pfn) * 4 + inPage);
    frames.flags[pfn] |= PG_DIRTY;
    vm.pages.freePage(pfn);
    done += run;
    if (pos + done > inode.size) inode.size = pos + done;
  }
  return done;
}

function mayWrite(inode: Inode, end: number): boolean {
  if ((inode.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) !== 0) return false;
  return (inode.seals & F_SEAL_GROW) === 0 || end <= inode.size;
}

/** Frees the pages that lie in [start, end) whole, and zeroes what lies in it of others. @linux mm/shmem.c:shmem_undo_range */
function truncatePages(vm: Vm, inode: Inode, start: number, end: number): void {
  const { pages } = inode.mapping;
  const first = Math.ceil(start / PAGE_SIZE);
  const behind = end === Infinity ? Infinity : Math.floor(end / PAGE_SIZE);
  if (first > behind) {
    zeroPartial(vm, inode, behind, start % PAGE_SIZE, end % PAGE_SIZE);
    return;
  }
  if (start % PAGE_SIZE !== 0) zeroPartial(vm, inode, first - 1, start % PAGE_SIZE, PAGE_SIZE);
  if (end !== Infinity && end % PAGE_SIZE !== 0) zeroPartial(vm, inode, behind, 0, end % PAGE_SIZE);
  for (let pgoff = pages.nextIndex(first); pgoff >= 0 && pgoff < behind; pgoff = pages.nextIndex(pgoff + 1)) {
    dropPage(vm, inode, pgoff);
  }
}

/** Zeroes bytes [from, to) of the page at `pgoff`, if there is one. */
function zeroPartial(vm: Vm, inode: Inode, pgoff: number, from: number, to: number): void {
  const pfn = inode.mapping.pages.get(pgoff);
  if (pfn < 0) return;
  const host = vm.ram.frameWord(pfn) * 4;
  vm.ram.u8.fill(0, host + from, host + to);
  vm.frames.flags[pfn] |= PG_DIRTY;
}

function dropPage(vm: Vm, inode: Inode, pgoff: number): void {
  removeFromPageCache(vm, inode.mapping, pgoff);
  if (!inode.accounted) vmUnacctMemory(vm, 1);
}
