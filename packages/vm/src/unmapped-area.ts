/**
 * Where a mapping goes: the address asked for, or the first hole from the top of the mapping area downwards (upwards in
 * the legacy layout).
 */
import {
  CAP_SYS_RAWIO,
  Errno,
  MAP_32BIT,
  MAP_ANONYMOUS,
  MAP_FIXED,
  PAGE_SIZE,
  RLIMIT_STACK,
} from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { VmFile } from './file.ts';
import type { MmStruct } from './mm-struct.ts';
import { isAligned, offsetInPage, pageAlign, pageAlignDown } from './page-align.ts';
import { shmemAlignment } from './shmem-huge.ts';
import { vmStartGap } from './vma-tree.ts';
import { VM_GROWSDOWN } from './vma.ts';

/** Not below 4 GiB. @linux arch/x86/include/uapi/asm/mman.h:MAP_ABOVE4G */
export const MAP_ABOVE4G = 0x80;

const GIB = 2 ** 30;
const MIN_STACK_HOLE = 128 * 2 ** 20;

/** Lowest address that may be mapped without privilege, in bytes. */
function mmapMinAddr(mm: MmStruct): VirtAddr {
  return mm.vm.sysctl.mmapMinAddr;
}

/** Rounds a hint to its page, and up to the lowest address that may be mapped. 0 is no hint. @linux mm/mmap.c:round_hint_to_min */
export function roundHintToMin(mm: MmStruct, hint: VirtAddr): VirtAddr {
  const addr = pageAlignDown(hint);
  return addr > 0 && addr < mmapMinAddr(mm) ? pageAlign(mmapMinAddr(mm)) : addr;
}

/**
 * Where the mapping area ends, in the layout that goes downwards: below the stack with all it may grow to, and at least
 * 128 MiB below the top.
 *
 * @param randomBytes how much lower it is
 * @param stackRandomBytes how much lower the stack itself may begin
 * @linux arch/x86/mm/mmap.c:mmap_base
 */
export function mmapBase(mm: MmStruct, randomBytes: number, stackRandomBytes = 0): VirtAddr {
  const { taskSize } = mm;
  const stack = mm.limits.rlimit(RLIMIT_STACK);
  const pad = mm.vm.sysctl.stackGuardGap * PAGE_SIZE + stackRandomBytes;
  const wanted = stack < 0 ? Infinity : stack + pad;
  const gap = Math.min(Math.max(wanted, MIN_STACK_HOLE), Math.floor(taskSize / 6) * 5);
  return pageAlign(taskSize - gap - randomBytes);
}

/** Where the mapping area begins in the legacy layout: a third of the way up. @linux arch/x86/mm/mmap.c:mmap_legacy_base */
export function mmapLegacyBase(mm: MmStruct, randomBytes: number): VirtAddr {
  return pageAlign(Math.floor(mm.taskSize / 3)) + randomBytes;
}

/**
 * Chooses the address of a mapping of `length` bytes (whole pages) that asked for `addr`, and checks it.
 *
 * @returns the address; -ENOMEM where it does not fit; -EINVAL for a misaligned fixed address; -EPERM below
 *   `vm.mmap_min_addr` without CAP_SYS_RAWIO
 * @linux mm/mmap.c:__get_unmapped_area
 */
export function getUnmappedArea(
  mm: MmStruct,
  file: VmFile | null,
  addr: VirtAddr,
  length: number,
  pgoff: number,
  flags: number,
): number {
  const { taskSize } = mm;
  if (length < 0 || length > taskSize) return -Errno.ENOMEM;
  let found: number;
  // The last page of the number range is where errors are: a fixed address there is taken for one.
  if ((flags & MAP_FIXED) !== 0 && addr < 0 && addr > -PAGE_SIZE) return addr;
  if ((flags & MAP_FIXED) !== 0) found = addr;
  else if (wantsHugeAlignment(mm, file, addr, length, flags)) {
    found = hugeAlignedArea(mm, file, addr, length, pgoff, flags);
  } else {
    found = archGetUnmappedArea(mm, file, addr, length, pgoff, flags);
    if (mm.vm.shmemThp.active && found > 0 && found !== addr) found = shmemAlignedArea(mm, file, addr, length, pgoff, flags, found);
  }
  if (found < 0 && (flags & MAP_FIXED) === 0) return found;
  if (found < 0 || found > taskSize - length) return -Errno.ENOMEM;
  if (offsetInPage(found) !== 0) return -Errno.EINVAL;
  if (found < mmapMinAddr(mm) && !mm.limits.capable(CAP_SYS_RAWIO)) return -Errno.EPERM;
  return found;
}

/**
 * As {@link getUnmappedArea}, for a mapping of huge pages of the pool.
 *
 * @returns also -EINVAL for a fixed address in the middle of one
 * @linux mm/hugetlb.c:hugetlb_get_unmapped_area
 */
export function hugetlbUnmappedArea(mm: MmStruct, addr: VirtAddr, length: number, flags: number): number {
  const { pmdSize } = mm.vm.tables;
  if ((flags & MAP_FIXED) !== 0) return isAligned(addr, pmdSize) ? getUnmappedArea(mm, null, addr, length, 0, flags) : -Errno.EINVAL;
  const hint = Math.ceil(addr / pmdSize) * pmdSize;
  if (hint > 0 && hintIsFree(mm, hint, length, mm.taskSize)) return getUnmappedArea(mm, null, hint, length, 0, flags | MAP_SHARED_BIT);
  // With as much room beside it, some multiple of the size lies in it.
  const found = getUnmappedArea(mm, null, 0, length + pmdSize - PAGE_SIZE, 0, flags | MAP_SHARED_BIT);
  return found < 0 ? found : Math.ceil(found / pmdSize) * pmdSize;
}

/** The bit that MAP_SHARED and MAP_SHARED_VALIDATE have in common. */
const MAP_SHARED_BIT = 1;

/** Anonymous memory that is whole huge pages, and files on a disk. @linux mm/mmap.c:__get_unmapped_area, fs/ext4/file.c:ext4_file_operations */
function wantsHugeAlignment(mm: MmStruct, file: VmFile | null, addr: VirtAddr, length: number, flags: number): boolean {
  if (mm.is32Bit) return false;
  if (file !== null) return file.inode.mapping.ops === mm.vm.blockFs;
  return addr === 0 && (flags & MAP_SHARED_BIT) === 0 && isAligned(length, mm.vm.tables.pmdSize);
}

/**
 * A mapping that has room for a huge page, by its offset in the file, is placed so that one can be used, if there is room in
 * the address space. With 32 bits there is too little of it.
 *
 * @linux mm/huge_memory.c:thp_get_unmapped_area_vmflags
 */
function hugeAlignedArea(
  mm: MmStruct,
  file: VmFile | null,
  addr: VirtAddr,
  length: number,
  pgoff: number,
  flags: number,
): number {
  const { pmdSize } = mm.vm.tables;
  const offset = file === null ? 0 : pgoff * PAGE_SIZE;
  if (offset + length - Math.ceil(offset / pmdSize) * pmdSize >= pmdSize) {
    const padded = archGetUnmappedArea(mm, file, addr, length + pmdSize, pgoff, flags);
    if (padded > 0 && padded === addr) return addr;
    if (padded > 0) {
      const up = Math.ceil((padded - offset) / pmdSize) * pmdSize - (padded - offset);
      return !mm.legacyLayout && up === 0 ? padded + pmdSize : padded + up;
    }
  }
  return archGetUnmappedArea(mm, file, addr, length, pgoff, flags);
}

/**
 * Moves a mapping of shared memory, for which there is room at `found`, so that huge pages of its file can be shown by one
 * entry, where it may have some.
 *
 * @linux mm/shmem.c:shmem_get_unmapped_area
 */
function shmemAlignedArea(mm: MmStruct, file: VmFile | null, addr: VirtAddr, length: number, pgoff: number, flags: number, found: VirtAddr): number {
  const { vm } = mm;
  if (file === null ? (flags & (MAP_SHARED_BIT | MAP_ANONYMOUS)) !== (MAP_SHARED_BIT | MAP_ANONYMOUS) : file.inode.mapping.ops !== vm.shmemOps) return found;
  const size = shmemAlignment(vm, file === null ? null : file.inode);
  if (size === 0 || length < size) return found;
  const offset = file === null ? 0 : (pgoff * PAGE_SIZE) % size;
  if ((offset !== 0 && offset + length < 2 * size) || found % size === offset) return found;
  const padded = archGetUnmappedArea(mm, null, addr, length + size - PAGE_SIZE, 0, flags);
  if (padded < 0) return found;
  const within = padded % size;
  const aligned = padded + offset - within + (within > offset ? size : 0);
  return aligned > mm.taskSize - length ? found : aligned;
}

/** @linux arch/x86/kernel/sys_x86_64.c:arch_get_unmapped_area_topdown */
function archGetUnmappedArea(
  mm: MmStruct,
  file: VmFile | null,
  addr: VirtAddr,
  length: number,
  pgoff: number,
  flags: number,
): number {
  // What keeps below or above some address means nothing to who has no more than 32 bits of it.
  if (mm.is32Bit) return mm.legacyLayout ? bottomUpArea(mm, addr, length, 0) : topDownArea(mm, addr, length, 0);
  if (mm.legacyLayout || (flags & MAP_32BIT) !== 0) return bottomUpArea(mm, addr, length, flags);
  return topDownArea(mm, addr, length, flags);
}

function topDownArea(mm: MmStruct, addr: VirtAddr, length: number, flags: number): number {
  if (length > mm.taskSize) return -Errno.ENOMEM;
  if (addr > 0 && hintIsFree(mm, pageAlignDown(addr), length, mm.taskSize)) return pageAlignDown(addr);
  const low = (flags & MAP_ABOVE4G) !== 0 ? 4 * GIB : PAGE_SIZE;
  const found = unmappedAreaTopDown(mm, Math.max(low, mmapMinAddr(mm)), mm.mmapBase, length);
  return found >= 0 ? found : bottomUpArea(mm, addr, length, flags);
}

/** @linux arch/x86/kernel/sys_x86_64.c:arch_get_unmapped_area */
function bottomUpArea(mm: MmStruct, addr: VirtAddr, length: number, flags: number): number {
  const low32 = (flags & MAP_32BIT) !== 0;
  const begin = low32 ? GIB : mm.mmapLegacyBase;
  const end = low32 ? 2 * GIB : mm.taskSize;
  if (length > end) return -Errno.ENOMEM;
  if (addr > 0 && hintIsFree(mm, pageAlign(addr), length, end)) return pageAlign(addr);
  return unmappedAreaBottomUp(mm, Math.max(begin, mmapMinAddr(mm)), end, length);
}

/** Whether `length` bytes at `addr` lie below `limit` and clear of all mappings and their guard gaps. */
function hintIsFree(mm: MmStruct, addr: VirtAddr, length: number, limit: VirtAddr): boolean {
  if (addr > limit - length) return false;
  const vma = mm.vmas.find(addr);
  return vma === undefined || addr + length <= vmStartGap(vma);
}

/**
 * The highest address in [low, high - length] at which `length` bytes are free and no guard gap is touched.
 *
 * @returns -ENOMEM where there is none
 * @linux mm/vma.c:unmapped_area_topdown
 */
function unmappedAreaTopDown(mm: MmStruct, low: VirtAddr, high: VirtAddr, length: number): number {
  const { vmas } = mm;
  let limit = high;
  for (;;) {
    const gap = vmas.findGapTopDown(low, limit, length);
    if (gap < 0) return -Errno.ENOMEM;
    const above = vmas.find(gap);
    if (above === undefined || (above.flags & VM_GROWSDOWN) === 0 || vmStartGap(above) >= gap + length) return gap;
    limit = vmStartGap(above);
  }
}

/** As {@link unmappedAreaTopDown}, but the lowest. @linux mm/vma.c:unmapped_area */
function unmappedAreaBottomUp(mm: MmStruct, low: VirtAddr, high: VirtAddr, length: number): number {
  const { vmas } = mm;
  let limit = low;
  for (;;) {
    const gap = vmas.findGapBottomUp(limit, high, length);
    if (gap < 0) return -Errno.ENOMEM;
    const above = vmas.find(gap);
    if (above === undefined || (above.flags & VM_GROWSDOWN) === 0 || vmStartGap(above) >= gap + length) return gap;
    limit = above.end;
  }
}
