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
  S_IFREG,
} from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL, PG_SWAPBACKED, PG_UPTODATE, __GFP_ZERO } from '@pagelab/mm-core';
import { FILE_HOLE } from './file.ts';
import type { AddressSpace, AddressSpaceOps, Inode, VmFile } from './file.ts';
import { folioStart } from './folio.ts';
import { clearHighpage } from './highmem.ts';
import type { MmStruct } from './mm-struct.ts';
import { allocPseudoFile, inodePut } from './open-file.ts';
import type { PathSource } from './open-file.ts';
import { vmEnoughMemory, vmUnacctMemory } from './overcommit.ts';
import { addToPageCache, folioOrder, makeInode, markPageAccessed, setPageDirty } from './page-cache.ts';
import { freeSharedPolicies } from './shared-policy.ts';
import { allocShmemBlock, dropShmemPage, makeShmemFolio, truncateShmemPages } from './shmem-folio.ts';
import { shmemBlockSize, shmemMaxStep } from './shmem-huge.ts';
import { shmemAcctBlock, shmemUnacctBlock } from './shmem-super.ts';
import type { ShmemSuperBlock } from './shmem-super.ts';
import { shmemSwapin } from './shmem-swap.ts';
import { freeSwapAndCache } from './swapfile.ts';
import { unmapHole } from './truncate.ts';
import type { Vm } from './vm.ts';
import { VM_NORESERVE } from './vma.ts';
import type { VmArea } from './vma.ts';
import { unmapMappingPages } from './zap.ts';

/** Largest file, in bytes. @linux include/linux/fs.h:MAX_LFS_FILESIZE */
export const SHMEM_MAX_BYTES = 2 ** 63;

/** Permissions of a file without a name: everybody's. */
const ANONYMOUS_MODE = S_IFREG | 0o777;
const SECTORS_PER_PAGE = 8;
/** Seals that forbid storing by `write` and by new mappings. */
const WRITE_SEALS = F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;

/** What shared memory does for its pages: one that is missing is made, empty. */
export class ShmemOps implements AddressSpaceOps {
  readonly name = 'shmem';
  readonly swapBacked = true;
  readonly writeNotify = false;
  readonly maxBytes = SHMEM_MAX_BYTES;
  readonly dev = '00:01';
  readonly #vm: Vm;

  constructor(vm: Vm) {
    this.#vm = vm;
  }

  maxStep(inode: Inode): number {
    return shmemMaxStep(this.#vm, inode);
  }

  /** @linux mm/shmem.c:shmem_fault */
  getPage(mapping: AddressSpace, pgoff: number, vma?: VmArea): number {
    if (pgoff * PAGE_SIZE >= mapping.inode.size) return -Errno.EFAULT;
    return shmemGetPage(this.#vm, mapping, pgoff, vma ?? null);
  }

  pageMkwrite(): number {
    return 0;
  }

  /** @linux mm/shmem.c:shmem_file_read_iter */
  readPage(mapping: AddressSpace, pgoff: number): number {
    const { flags, refcount } = this.#vm.frames;
    const pfn = mapping.pages.get(pgoff);
    if (pfn < 0 && mapping.swaps.has(pgoff)) return shmemGetPage(this.#vm, mapping, pgoff);
    if (pfn < 0 || (flags[pfn] & PG_UPTODATE) === 0) return FILE_HOLE;
    if (this.#vm.hwpoison.has(pfn)) return -Errno.EIO;
    refcount[pfn]++;
    return pfn;
  }

  /** @linux mm/shmem.c:shmem_write_begin */
  writeBegin(mapping: AddressSpace, pos: number, length: number): number {
    const vm = this.#vm;
    const { inode } = mapping;
    if ((inode.seals & WRITE_SEALS) !== 0) return -Errno.EPERM;
    if ((inode.seals & F_SEAL_GROW) !== 0 && pos + length > inode.size) return -Errno.EPERM;
    const pgoff = Math.floor(pos / PAGE_SIZE);
    const pfn = shmemGetPage(vm, mapping, pgoff, null, pos + length);
    if (pfn < 0) return pfn;
    vm.pages.freePage(pfn);
    if (vm.hwpoison.has(pfn)) return -Errno.EIO;
    markPageAccessed(vm, mapping, pgoff);
    const folioBytes = PAGE_SIZE << folioOrder(vm, pfn);
    return Math.min(length, folioBytes - (pos % folioBytes));
  }

  /** @linux mm/shmem.c:shmem_write_end */
  writeEnd(mapping: AddressSpace, pos: number, _length: number, copied: number): number {
    const { inode } = mapping;
    if (pos + copied > inode.size) inode.size = pos + copied;
    setPageDirty(this.#vm, mapping.pages.get(Math.floor(pos / PAGE_SIZE)));
    return copied;
  }

  truncate(inode: Inode, newSize: number): number {
    return shmemTruncate(this.#vm, inode, newSize);
  }

  fallocate(inode: Inode, mode: number, offset: number, length: number): number {
    return shmemFallocate(this.#vm, inode, mode, offset, length);
  }

  writeBack(): number {
    return 0;
  }

  sync(): number {
    return 0;
  }

  willNeed(): void {
    // There is nothing to read from.
  }

  /** A page that was only set aside is a hole. @linux mm/shmem.c:shmem_file_llseek */
  nextData({ mapping }: Inode, pgoff: number): number {
    const { pages } = mapping;
    const { flags } = this.#vm.frames;
    let at = pages.nextIndex(pgoff);
    while (at >= 0 && (flags[pages.get(at)] & PG_UPTODATE) === 0) at = pages.nextIndex(at + 1);
    return at;
  }

  blocks(inode: Inode): number {
    return (inode.mapping.pages.size + inode.mapping.swaps.size) * SECTORS_PER_PAGE;
  }

  blockBytes(inode: Inode): number {
    return shmemBlockSize(this.#vm, inode);
  }

  /** @linux mm/shmem.c:shmem_evict_inode */
  evict(inode: Inode): void {
    const vm = this.#vm;
    truncatePages(vm, inode, 0, Infinity);
    if (inode.accounted) vmUnacctMemory(vm, Math.ceil(inode.size / PAGE_SIZE));
    freeSharedPolicies(vm, inode);
    vm.mappings.free(inode.mapping.id);
    vm.caches.shmemInode.free(inode.object);
  }
}

/**
 * The page at `pgoff`, made where it is missing, with a reference; the file's size does not matter. It is made as part of a
 * folio of several pages where the file may have those.
 *
 * @param vma the mapping that is touched; `null` for `write` and its like; without it only a single page is made
 * @param writeEnd where what is written will end, in bytes
 * @returns −ENOMEM; −ENOSPC where the file system is full, or the commit limit is reached
 * @linux mm/shmem.c:shmem_get_folio_gfp
 */
export function shmemGetPage(vm: Vm, mapping: AddressSpace, pgoff: number, vma?: VmArea | null, writeEnd = 0): Pfn {
  const { frames } = vm;
  const known = mapping.pages.get(pgoff);
  if (known >= 0) {
    if ((frames.flags[known] & PG_UPTODATE) === 0) clearFolio(vm, mapping, pgoff, folioOrder(vm, known));
    frames.refcount[known]++;
    return known;
  }
  if (mapping.swaps.has(pgoff)) return shmemSwapin(vm, mapping, pgoff);
  if (vma !== undefined && vm.shmemThp.active) {
    const made = makeShmemFolio(vm, mapping, pgoff, vma, writeEnd);
    if (made >= 0) {
      clearFolio(vm, mapping, pgoff, folioOrder(vm, made));
      return made;
    }
  }
  const pfn = makePage(vm, mapping, pgoff, GFP_HIGHUSER_MOVABLE | __GFP_ZERO);
  if (pfn >= 0) frames.flags[pfn] |= PG_UPTODATE;
  return pfn;
}

/** Allocated beforehand, and used for the first time. */
function clearFolio(vm: Vm, { pages }: AddressSpace, pgoff: number, order: number): void {
  const first = folioStart(pgoff, order);
  for (let at = first; at < first + (1 << order); at++) {
    const pfn = pages.get(at);
    clearHighpage(vm, pfn);
    vm.frames.flags[pfn] |= PG_UPTODATE;
  }
}

/** A new page at `pgoff`, where there is none, with a reference for the caller. @linux mm/shmem.c:shmem_alloc_and_add_folio */
function makePage(vm: Vm, mapping: AddressSpace, pgoff: number, gfp: number): Pfn {
  const full = shmemAcctBlock(vm, mapping.inode);
  if (full !== 0) return full;
  const pfn = vm.nrPolicies === 0 ? vm.pages.allocPage(gfp) : allocShmemBlock(vm, mapping, pgoff, gfp, 0);
  let error = pfn < 0 ? pfn : 0;
  if (pfn >= 0) {
    vm.frames.flags[pfn] |= PG_SWAPBACKED;
    error = addToPageCache(vm, mapping, pgoff, pfn);
    if (error !== 0) vm.pages.freePage(pfn);
  }
  if (error !== 0) {
    shmemUnacctBlock(vm, mapping.inode);
    return error;
  }
  return pfn;
}

/**
 * Makes an inode of shared memory, with one user.
 *
 * @param accounted whether all of it is charged against the commit limit now, or each page as it comes
 * @param mm who asks, for the commit limit
 * @returns −ENOMEM; −EINVAL for a size that no file can have
 * @linux mm/shmem.c:__shmem_get_inode
 */
function shmemMakeInode(
  vm: Vm,
  sizeBytes: number,
  mode: number,
  nlink: number,
  accounted: boolean,
  mm: MmStruct | null,
): Inode | number {
  if (sizeBytes < 0 || sizeBytes > SHMEM_MAX_BYTES) return -Errno.EINVAL;
  const charged = accounted ? Math.ceil(sizeBytes / PAGE_SIZE) : 0;
  if (charged !== 0 && vmEnoughMemory(vm, mm, charged) !== 0) return -Errno.ENOMEM;
  const object = vm.caches.shmemInode.alloc(GFP_KERNEL);
  if (object === 0) {
    vmUnacctMemory(vm, charged);
    return -Errno.ENOMEM;
  }
  return makeInode(vm, { ops: vm.shmemOps, size: sizeBytes, nlink, mode, accounted, object });
}

/** Makes an empty file with one user in a mounted file system of shared memory. @returns its inode, or −ENOMEM @linux mm/shmem.c:shmem_mknod */
export function shmemMknod(vm: Vm, superBlock: ShmemSuperBlock, mode: number, nlink: number): Inode | number {
  const inode = shmemMakeInode(vm, 0, S_IFREG | mode, nlink, false, null);
  if (typeof inode !== 'number') inode.superBlock = superBlock;
  return inode;
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
  path: string | PathSource,
  sizeBytes: number,
  accounted: boolean,
  mm: MmStruct | null = null,
): VmFile | number {
  const inode = shmemMakeInode(vm, sizeBytes, ANONYMOUS_MODE, 0, accounted, mm);
  if (typeof inode === 'number') return inode;
  const file = allocPseudoFile(vm, inode, path, { readable: true, writable: true });
  inodePut(inode);
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
    if ((inode.seals & WRITE_SEALS) !== 0) return -Errno.EPERM;
    unmapHole(vm, inode.mapping, offset, offset + length);
    truncatePages(vm, inode, offset, offset + length);
    return 0;
  }
  const end = offset + length;
  if (end > SHMEM_MAX_BYTES) return -Errno.EFBIG;
  if ((inode.seals & F_SEAL_GROW) !== 0 && end > inode.size) return -Errno.EPERM;
  const first = Math.floor(offset / PAGE_SIZE);
  const last = Math.ceil(end / PAGE_SIZE) - 1;
  // What can never fit is not begun.
  if (inode.superBlock !== null && last - first >= inode.superBlock.maxBlocks) return -Errno.ENOSPC;
  const { pages } = inode.mapping;
  const made: number[] = [];
  for (let pgoff = first; pgoff <= last; pgoff++) {
    let pfn = pages.get(pgoff);
    if (pfn < 0 && inode.mapping.swaps.has(pgoff)) {
      pfn = shmemGetPage(vm, inode.mapping, pgoff);
      if (pfn < 0) return pfn;
      vm.pages.freePage(pfn);
    } else if (pfn < 0) {
      // It is cleared when it is first used: until then it can be told from one that holds something.
      pfn = vm.shmemThp.active ? makeShmemFolio(vm, inode.mapping, pgoff, null, end) : -1;
      if (pfn < 0) pfn = makePage(vm, inode.mapping, pgoff, GFP_HIGHUSER_MOVABLE);
      if (pfn < 0) {
        for (const undone of made) dropShmemPage(vm, inode, undone);
        return pfn;
      }
      vm.pages.freePage(pfn);
      const size = 1 << folioOrder(vm, pfn);
      for (let at = pgoff - (pgoff % size), i = 0; i < size; i++) made.push(at + i);
    }
    setPageDirty(vm, pfn);
    // On with the next folio.
    const order = folioOrder(vm, pfn);
    if (order > 0) pgoff = folioStart(pgoff, order) + (1 << order) - 1;
  }
  inode.fallocEnd = Math.max(inode.fallocEnd, last + 1);
  if ((mode & FALLOC_FL_KEEP_SIZE) === 0 && end > inode.size) inode.size = end;
  return 0;
}

/** Frees the pages that lie in [start, end) whole, and zeroes what lies in it of others. @linux mm/shmem.c:shmem_undo_range */
function truncatePages(vm: Vm, inode: Inode, start: number, end: number): void {
  const { swaps } = inode.mapping;
  if (swaps.size > 0) {
    bringInPartial(vm, inode, start);
    if (end !== Infinity) bringInPartial(vm, inode, end);
  }
  truncateShmemPages(vm, inode, start, end);
  const first = Math.ceil(start / PAGE_SIZE);
  const behind = end === Infinity ? Infinity : Math.floor(end / PAGE_SIZE);
  if (end === Infinity && inode.fallocEnd > first) inode.fallocEnd = first;
  for (let pgoff = swaps.nextIndex(first); pgoff >= 0 && pgoff < behind; pgoff = swaps.nextIndex(pgoff + 1)) {
    freeSwapAndCache(vm, swaps.get(pgoff));
    swaps.delete(pgoff);
    shmemUnacctBlock(vm, inode);
  }
}

/** A page that was swapped out, and goes in part, comes back for that. @linux mm/shmem.c:shmem_get_partial_folio */
function bringInPartial(vm: Vm, { mapping }: Inode, at: number): void {
  const pgoff = Math.floor(at / PAGE_SIZE);
  if (at % PAGE_SIZE === 0 || !mapping.swaps.has(pgoff)) return;
  const pfn = shmemGetPage(vm, mapping, pgoff);
  if (pfn >= 0) vm.pages.freePage(pfn);
}
