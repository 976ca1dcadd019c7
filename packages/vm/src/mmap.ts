/**
 * Making mappings.
 */
import {
  Errno,
  F_SEAL_FUTURE_WRITE,
  F_SEAL_WRITE,
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
  PAGE_SIZE,
  PROT_EXEC,
  PROT_READ,
  PROT_WRITE,
  READ_IMPLIES_EXEC,
} from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { UnmappableFile, VmFile, ZeroFile } from './file.ts';
import { populateRange } from './gup.ts';
import { canDoMlock, mayExpandVm, mlockFutureOk, vmStatAccount } from './limits.ts';
import { hugetlbFileSetup, isHugetlbFile } from './hugetlbfs.ts';
import { dropReservation, hugetlbReservePages } from './hugetlb-reserve.ts';
import { ksmVmaFlags } from './ksm.ts';
import type { MmStruct } from './mm-struct.ts';
import { gatherVmas, gatheredAccounted, gatheredPages, unmapGathered } from './munmap.ts';
import { OVERCOMMIT_NEVER, accountableMapping, vmEnoughMemory, vmUnacctMemory } from './overcommit.ts';
import { pageAlign } from './page-align.ts';
import { fileGet, filePut } from './open-file.ts';
import { shmemZeroSetup } from './shmem.ts';
import { MAP_ABOVE4G, getUnmappedArea, hugetlbUnmappedArea, roundHintToMin } from './unmapped-area.ts';
import { mergeNewRange } from './vma-merge.ts';
import { isSharedMaywrite, linkFileVma, vmAreaAlloc, vmAreaFree, vmaLink, vmaReserve } from './vma-tree.ts';
import {
  VM_ACCOUNT,
  VM_DONTDUMP,
  VM_DONTEXPAND,
  VM_EXEC,
  VM_GROWSDOWN,
  VM_HUGETLB,
  VM_LOCKED,
  VM_LOCKED_MASK,
  VM_MAYEXEC,
  VM_MAYREAD,
  VM_MAYSHARE,
  VM_MAYWRITE,
  VM_NOHUGEPAGE,
  VM_NORESERVE,
  VM_SHARED,
  VM_SYNC,
  VM_WIPEONFORK,
  VM_WRITE,
} from './vma.ts';
import type { VmArea } from './vma.ts';

/** What `mmap` asks for. */
export interface MmapRequest {
  /** The file to map, or `null` for anonymous memory. No reference passes. */
  readonly file: VmFile | null;
  /** In place of a file: `/dev/zero`. No reference passes. */
  readonly zeroFile?: ZeroFile | undefined;
  /** In place of a file: one that cannot be mapped, whose turn to say so comes in Linux's order. */
  readonly unmappable?: UnmappableFile | undefined;
  readonly addr: VirtAddr;
  /** In bytes; negative for a value in the upper half of a register. */
  readonly length: number;
  /** PROT_ bits. */
  readonly prot: number;
  /** MAP_ bits. */
  readonly flags: number;
  /** Offset in the file, in pages. */
  readonly pgoff: number;
  /** Of the caller: with READ_IMPLIES_EXEC what may be read may be executed, too. Without, 0. */
  readonly personality?: number;
}

/** Flags that programs passed before unknown ones were refused. @linux include/linux/mman.h:LEGACY_MAP_MASK */
const LEGACY_MAP_MASK =
  MAP_SHARED |
  MAP_PRIVATE |
  MAP_FIXED |
  MAP_ANONYMOUS |
  MAP_DENYWRITE |
  MAP_EXECUTABLE |
  MAP_GROWSDOWN |
  MAP_LOCKED |
  MAP_NORESERVE |
  MAP_POPULATE |
  MAP_NONBLOCK |
  MAP_STACK |
  MAP_HUGETLB |
  MAP_32BIT |
  MAP_ABOVE4G |
  (21 << MAP_HUGE_SHIFT) |
  (30 << MAP_HUGE_SHIFT);

const MAX_FILE_SIZE = 2 ** 63;
const MAX_DEVICE_SIZE = 2 ** 64;

/**
 * Maps memory: the whole of the call but for the descriptor and the alignment of the offset, populating included.
 *
 * @returns the address, or -errno: EINVAL, ENOMEM, EOVERFLOW, EEXIST, EPERM, EAGAIN, EACCES, EOPNOTSUPP. A fixed mapping
 *   that fails may have cut what it was to replace; one of shared memory that is refused for the commit limit leaves a
 *   hole there, as in Linux.
 * @linux mm/mmap.c:do_mmap, mm/util.c:vm_mmap_pgoff
 */
export function doMmap(mm: MmStruct, request: MmapRequest): number {
  const { file, zeroFile = null, personality = 0 } = request;
  let { prot } = request;
  if ((personality & READ_IMPLIES_EXEC) !== 0 && (prot & PROT_READ) !== 0 && request.unmappable?.noExec !== true) prot |= PROT_EXEC;
  const opened = file ?? zeroFile ?? request.unmappable ?? null;
  let { flags, length } = request;
  if (opened === null && (flags & MAP_HUGETLB) !== 0) return mapAnonymousHuge(mm, request);
  const isHuge = isHugetlbFile(mm.vm, file);
  if (isHuge && length > 0) length = Math.ceil(length / mm.vm.tables.pmdSize) * mm.vm.tables.pmdSize;
  if (length === 0) return -Errno.EINVAL;
  if ((flags & MAP_FIXED_NOREPLACE) !== 0) flags |= MAP_FIXED;
  const hint = (flags & MAP_FIXED) !== 0 ? request.addr : roundHintToMin(mm, request.addr);
  // Above the middle of the range nothing fits, and at its very top the length wraps to 0.
  if (length < 0) return -Errno.ENOMEM;
  length = pageAlign(length);
  const nrPages = length / PAGE_SIZE;
  if (request.pgoff + nrPages >= mm.registerRange) return -Errno.EOVERFLOW;
  if (mm.mapCount > mm.vm.sysctl.maxMapCount) return -Errno.ENOMEM;

  let vmFlags = (prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) | mm.defFlags | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC;
  // These two have one value on both sides.
  vmFlags |= flags & (MAP_GROWSDOWN | MAP_LOCKED);
  if ((flags & MAP_SYNC) !== 0) vmFlags |= VM_SYNC;
  if ((flags & MAP_STACK) !== 0) vmFlags |= VM_NOHUGEPAGE;

  const addr = isHuge ? hugetlbUnmappedArea(mm, hint, length, flags) : getUnmappedArea(mm, file, hint, length, request.pgoff, flags);
  if (addr < 0) return addr;
  if ((flags & MAP_FIXED_NOREPLACE) !== 0 && mm.vmas.overlaps(addr, addr + length)) return -Errno.EEXIST;
  if ((flags & MAP_LOCKED) !== 0 && !canDoMlock(mm)) return -Errno.EPERM;
  if (!mlockFutureOk(mm, vmFlags, length)) return -Errno.EAGAIN;

  let pgoff: number;
  let droppable = false;
  if (opened !== null) {
    pgoff = request.pgoff;
    if (pgoff < 0 || (pgoff + nrPages) * PAGE_SIZE >= (file === null ? MAX_DEVICE_SIZE : MAX_FILE_SIZE)) return -Errno.EOVERFLOW;
    const fileFlags = fileMappingFlags(opened, request.unmappable?.mmapError ?? 0, prot, flags, vmFlags);
    if (fileFlags < 0) return fileFlags;
    vmFlags = fileFlags;
  } else {
    pgoff = addr / PAGE_SIZE;
    switch (flags & MAP_TYPE) {
      case MAP_SHARED:
        if ((vmFlags & VM_GROWSDOWN) !== 0) return -Errno.EINVAL;
        pgoff = 0;
        vmFlags |= VM_SHARED | VM_MAYSHARE;
        break;
      case MAP_DROPPABLE:
        if ((flags & MAP_LOCKED) !== 0 || (vmFlags & VM_GROWSDOWN) !== 0) return -Errno.EINVAL;
        droppable = true;
        vmFlags |= VM_NORESERVE | VM_WIPEONFORK | VM_DONTDUMP;
        break;
      case MAP_PRIVATE:
        break;
      default:
        return -Errno.EINVAL;
    }
  }
  if ((flags & MAP_NORESERVE) !== 0 && (isHuge || mm.vm.sysctl.overcommitMemory !== OVERCOMMIT_NEVER)) vmFlags |= VM_NORESERVE;
  if (isHuge) {
    const error = mapHugetlb(mm, file!, addr, length, vmFlags | VM_HUGETLB | VM_DONTEXPAND, pgoff, (flags & MAP_FIXED) === 0);
    if (error !== 0) return error;
    if ((flags & (MAP_POPULATE | MAP_NONBLOCK)) === MAP_POPULATE) populateRange(mm, addr, addr + length);
    return addr;
  }

  const err = mmapRegion(mm, file, zeroFile, addr, length, vmFlags, droppable, pgoff, (flags & MAP_FIXED) === 0);
  if (err !== 0) return err;
  if ((vmFlags & VM_LOCKED) !== 0 || (flags & (MAP_POPULATE | MAP_NONBLOCK)) === MAP_POPULATE) {
    populateRange(mm, addr, addr + length);
  }
  return addr;
}

/**
 * Maps huge pages without a file: they get one of their own. @linux mm/mmap.c:ksys_mmap_pgoff
 */
function mapAnonymousHuge(mm: MmStruct, request: MmapRequest): number {
  const { vm } = mm;
  const { flags } = request;
  const length = hugetlbLength(mm, flags, request.length);
  if (length <= 0) return length;
  if (length > mm.taskSize) return -Errno.ENOMEM;
  if (((flags >>> MAP_HUGE_SHIFT) & MAP_HUGE_MASK) === 30) {
    // Of the larger size there is no pool.
    return request.pgoff * PAGE_SIZE + length >= MAX_FILE_SIZE ? -Errno.EOVERFLOW : -Errno.ENOMEM;
  }
  const file = hugetlbFileSetup(vm, '/anon_hugepage (deleted)', length, false);
  if (typeof file === 'number') return file;
  const result = doMmap(mm, { ...request, file, length, flags: flags & ~MAP_ANONYMOUS });
  filePut(vm, file);
  return result;
}

/** @linux fs/hugetlbfs/inode.c:hugetlbfs_file_mmap */
function mapHugetlb(mm: MmStruct, file: VmFile, addr: VirtAddr, length: number, vmFlags: number, pgoff: number, isFree: boolean): number {
  const { vm } = mm;
  const { inode } = file;
  const { ptrsPerPte } = vm.tables;
  if (pgoff % ptrsPerPte !== 0) return -Errno.EINVAL;
  const from = pgoff / ptrsPerPte;
  const pages = length / PAGE_SIZE / ptrsPerPte;
  // A file that was promised its pages when it was made needs no more promises.
  const resv = hugetlbReservePages(vm, inode, from, from + pages, inode.accounted ? vmFlags | VM_NORESERVE : vmFlags);
  if (typeof resv === 'number') return resv;
  const error = mmapRegion(mm, file, null, addr, length, vmFlags, false, pgoff, isFree);
  if (error !== 0) {
    dropReservation(vm, resv, pages);
    return error;
  }
  mm.vmas.get(addr)!.resv = resv;
  if ((vmFlags & VM_WRITE) !== 0) inode.size = Math.max(inode.size, pgoff * PAGE_SIZE + length);
  return 0;
}

/** The length of a huge-page mapping: whole huge pages of the size that the flags name; or -EINVAL. */
function hugetlbLength({ vm }: MmStruct, flags: number, length: number): number {
  const shift = (flags >>> MAP_HUGE_SHIFT) & MAP_HUGE_MASK;
  const { hugeShifts } = vm.tables;
  if (shift !== 0 && !hugeShifts.includes(shift)) return -Errno.EINVAL;
  const size = 2 ** (shift === 0 ? hugeShifts[0] : shift);
  if (length > 0) return Math.ceil(length / size) * size;
  return length > -size ? -Errno.EINVAL : -Errno.ENOMEM;
}

/**
 * Checks a mapping of a file against how it was opened.
 *
 * @param mmapError what the file refuses to be mapped with; 0
 * @returns the VM_ flags with those that follow from that, or -errno
 */
function fileMappingFlags(
  file: VmFile | ZeroFile | UnmappableFile,
  mmapError: number,
  prot: number,
  flags: number,
  vmFlags: number,
): number {
  let result = vmFlags;
  switch (flags & MAP_TYPE) {
    case MAP_SHARED:
    case MAP_SHARED_VALIDATE:
      if ((flags & MAP_TYPE) === MAP_SHARED_VALIDATE && (flags & ~validatedFlags(file)) !== 0) return -Errno.EOPNOTSUPP;
      if ((prot & PROT_WRITE) !== 0 && !file.writable) return -Errno.EACCES;
      result |= VM_SHARED | VM_MAYSHARE;
      if (!file.writable) result &= ~(VM_MAYWRITE | VM_SHARED);
      break;
    case MAP_PRIVATE:
      break;
    default:
      return -Errno.EINVAL;
  }
  if (!file.readable) return -Errno.EACCES;
  if (mmapError !== 0) return 'noExec' in file && file.noExec && (vmFlags & VM_EXEC) !== 0 ? -Errno.EPERM : mmapError;
  if ((result & VM_GROWSDOWN) !== 0) return -Errno.EINVAL;
  const seals = 'inode' in file ? file.inode.seals : 0;
  if ((result & VM_SHARED) !== 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) !== 0) {
    if ((result & VM_WRITE) !== 0) return -Errno.EPERM;
    result &= ~VM_MAYWRITE;
  }
  return result;
}

/** The flags that MAP_SHARED_VALIDATE allows: a file system with a device may know MAP_SYNC. @linux include/linux/fs.h:FOP_MMAP_SYNC */
function validatedFlags(file: VmFile | ZeroFile | UnmappableFile): number {
  return 'inode' in file && !file.inode.mapping.ops.swapBacked ? LEGACY_MAP_MASK | MAP_SYNC : LEGACY_MAP_MASK;
}

/**
 * Puts a mapping at [addr, addr + length), in place of what is there, as part of a neighbour where one fits.
 *
 * @param isFree the range is known to be free
 * @returns 0, -ENOMEM, -EPERM for a file that is sealed against writing, or -EOPNOTSUPP for MAP_SYNC
 * @linux mm/vma.c:__mmap_region
 */
export function mmapRegion(
  mm: MmStruct,
  file: VmFile | null,
  zeroFile: ZeroFile | null,
  addr: VirtAddr,
  length: number,
  vmFlags: number,
  droppable: boolean,
  pgoff: number,
  isFree: boolean,
): number {
  const { vm } = mm;
  const end = addr + length;
  const nrPages = length / PAGE_SIZE;
  let flags = vmFlags;
  // Below 0 the file's seals forbid mappings that may write. @linux include/linux/fs.h:mapping_map_writable
  if (file !== null && isSharedMaywrite(flags) && file.inode.mapping.mmapWritable < 0) return -Errno.EPERM;
  const first = isFree ? undefined : mm.vmas.find(addr);
  const replaces = first !== undefined && first.start < end;
  let replacedPages = 0;
  if (replaces) {
    const err = gatherVmas(mm, first, addr, end);
    if (err !== 0) return err;
    replacedPages = gatheredPages(mm);
  }
  if (!mayExpandVm(mm, flags, nrPages - replacedPages)) {
    mm.detached.length = 0;
    return -Errno.ENOMEM;
  }
  let charged = 0;
  if (accountableMapping(flags)) {
    charged = nrPages;
    const inherited = replaces ? gatheredAccounted(mm) : 0;
    if (charged !== inherited && vmEnoughMemory(vm, mm, charged - inherited) !== 0) {
      mm.detached.length = 0;
      return -Errno.ENOMEM;
    }
    flags |= VM_ACCOUNT;
  }
  // Shared anonymous memory gets an object of its own, while what was there is charged for still: there must be room for both.
  const isZeroShared = file === null && (flags & VM_SHARED) !== 0;
  const shared = isZeroShared ? zeroSharedVma(mm, addr, end, flags, pgoff) : null;
  if (replaces) unmapGathered(mm, charged === 0);
  if (isZeroShared && shared === null) return -Errno.ENOMEM;
  // No device lies in persistent memory, as the file system notices when it is asked to map. @linux fs/ext4/file.c:ext4_file_mmap_prepare
  if ((flags & VM_SYNC) !== 0 && file !== null && !file.inode.mapping.ops.swapBacked) {
    if (charged !== 0) vmUnacctMemory(vm, charged);
    return -Errno.EOPNOTSUPP;
  }

  if (mm.mergeAny && file === null) flags = ksmVmaFlags(mm, flags, droppable);
  const range = mm.mergeRange;
  range.flags = flags;
  range.droppable = droppable;
  range.pgoff = pgoff;
  range.file = file;
  range.zeroFile = zeroFile;
  range.anonVma = null;
  range.policy = null;
  range.uffd = null;
  range.uffdMinor = false;
  range.source = null;
  if (shared !== null || mergeNewRange(mm, addr, end, range) === null) {
    if (!newVma(mm, shared, file, zeroFile, addr, end, flags, droppable, pgoff)) {
      if (charged !== 0) vmUnacctMemory(vm, charged);
      return -Errno.ENOMEM;
    }
  }
  vmStatAccount(mm, flags, nrPages);
  if ((flags & VM_LOCKED) !== 0) {
    // What may be dropped is not locked, not even by `mlockall`. @linux mm/internal.h:vma_supports_mlock
    if (droppable || (flags & VM_HUGETLB) !== 0) mm.vmas.get(addr)!.flags &= ~VM_LOCKED_MASK;
    else mm.lockedVm += nrPages;
  }
  return 0;
}

/** A mapping of shared anonymous memory with an object of its own, not yet in place; `null` where there is no memory, or none may be promised. */
function zeroSharedVma(mm: MmStruct, start: VirtAddr, end: VirtAddr, flags: number, pgoff: number): VmArea | null {
  const vma = vmAreaAlloc(mm, start, end, flags, pgoff);
  if (vma === null || shmemZeroSetup(vma) === 0) return vma;
  vmAreaFree(vma);
  return null;
}

/**
 * Puts a mapping in place.
 *
 * @param shared where it was made already; it is given up where there is no memory
 * @returns whether there was memory
 * @linux mm/vma.c:__mmap_new_vma
 */
function newVma(
  mm: MmStruct,
  shared: VmArea | null,
  file: VmFile | null,
  zeroFile: ZeroFile | null,
  start: VirtAddr,
  end: VirtAddr,
  flags: number,
  droppable: boolean,
  pgoff: number,
): boolean {
  if (vmaReserve(mm, 1) !== 0) {
    if (shared !== null) {
      filePut(mm.vm, shared.file!);
      vmAreaFree(shared);
    }
    return false;
  }
  const vma = shared ?? vmAreaAlloc(mm, start, end, flags, pgoff);
  if (vma === null) return false;
  // By now, what is merged by itself may be known.
  vma.flags = flags;
  vma.droppable = droppable;
  if (file !== null) linkFileVma(vma, fileGet(file));
  else if (shared !== null) linkFileVma(vma, vma.file!);
  else if (zeroFile !== null) vma.zeroFile = zeroFile.get();
  vmaLink(vma);
  return true;
}
