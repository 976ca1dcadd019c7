/**
 * What a program says about its use of memory.
 */
import {
  Errno,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
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
  MADV_MERGEABLE,
  MADV_NOHUGEPAGE,
  MADV_NORMAL,
  MADV_PAGEOUT,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_RANDOM,
  MADV_REMOVE,
  MADV_SEQUENTIAL,
  MADV_SOFT_OFFLINE,
  MADV_UNMERGEABLE,
  MADV_WILLNEED,
  MADV_WIPEONFORK,
  PAGE_SIZE,
} from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { collapse } from './collapse.ts';
import { installGuards, removeGuards } from './guard-pages.ts';
import { faultInPages } from './gup.ts';
import { ksmEnter, ksmUnmerge } from './ksm.ts';
import { injectMemoryFailure } from './memory-failure.ts';
import type { MmStruct } from './mm-struct.ts';
import { canMadviseModify } from './mseal.ts';
import { markCold, markLazyFree, pageOut } from './page-aging.ts';
import { isAligned, offsetInPage, pageAlign, rangeEnd, rangeWraps } from './page-align.ts';
import { linearPageIndex } from './rmap.ts';
import { swapinRange } from './swap-state.ts';
import { lruAddDrain } from './swap.ts';
import { vmaModify } from './vma-merge.ts';
import { isSharedMaywrite } from './vma-tree.ts';
import {
  VM_DONTCOPY,
  VM_DONTDUMP,
  VM_HUGEPAGE,
  VM_HUGETLB,
  VM_IO,
  VM_LOCKED,
  VM_MAYSHARE,
  VM_MERGEABLE,
  VM_NOHUGEPAGE,
  VM_PFNMAP,
  VM_RAND_READ,
  VM_SEALED,
  VM_SEQ_READ,
  VM_SHARED,
  VM_SPECIAL,
  VM_WIPEONFORK,
} from './vma.ts';
import { uffdRemove } from './userfault-events.ts';
import type { VmArea } from './vma.ts';
import { zapPageRange } from './zap.ts';

/**
 * Takes advice about [start, start + length). A hole makes the call fail, but what is mapped on both sides of it is acted
 * on; a mapping that refuses the advice ends it there.
 *
 * @returns 0; -EINVAL for unknown advice, a bad range, or a mapping that the advice does not suit; -ENOMEM for a hole;
 *   -EACCES; -EFAULT for MADV_POPULATE_… of what cannot be brought in; -EAGAIN without memory;
 *   -EPERM for a mapping that is sealed against it
 * @linux mm/madvise.c:do_madvise
 */
export function doMadvise(mm: MmStruct, start: VirtAddr, length: number, advice: number): number {
  if (!isAdvice(advice) || offsetInPage(start) !== 0) return -Errno.EINVAL;
  const bytes = pageAlign(length);
  if (bytes === 0) return length === 0 ? 0 : -Errno.EINVAL;
  if (rangeWraps(mm.registerRange, start, bytes)) return -Errno.EINVAL;
  if (start < 0) return -Errno.ENOMEM;
  const end = rangeEnd(start, bytes);
  if (advice === MADV_POPULATE_READ || advice === MADV_POPULATE_WRITE) {
    return populate(mm, start, end, advice === MADV_POPULATE_WRITE);
  }
  if (advice === MADV_HWPOISON || advice === MADV_SOFT_OFFLINE) return injectMemoryFailure(mm, start, end, advice);
  const { vmas } = mm;
  let at = start;
  let holes = 0;
  for (;;) {
    let vma = vmas.find(at);
    if (vma === undefined) return -Errno.ENOMEM;
    if (at < vma.start) {
      holes = -Errno.ENOMEM;
      at = vma.start;
      if (at >= end) return holes;
    }
    const result = adviseVma(vma, at, Math.min(vma.end, end), advice);
    if (typeof result === 'number') {
      if (result !== 0) return result;
    } else {
      vma = result;
    }
    at = vma.end;
    if (at >= end) return holes;
  }
}

/** Whether there is such advice. @linux mm/madvise.c:madvise_behavior_valid */
function isAdvice(advice: number): boolean {
  switch (advice) {
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_DONTNEED:
    case MADV_FREE:
    case MADV_REMOVE:
    case MADV_DONTFORK:
    case MADV_DOFORK:
    case MADV_MERGEABLE:
    case MADV_UNMERGEABLE:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
    case MADV_WIPEONFORK:
    case MADV_KEEPONFORK:
    case MADV_COLD:
    case MADV_PAGEOUT:
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
    case MADV_DONTNEED_LOCKED:
    case MADV_COLLAPSE:
    case MADV_GUARD_INSTALL:
    case MADV_GUARD_REMOVE:
    case MADV_HWPOISON:
    case MADV_SOFT_OFFLINE:
      return true;
    default:
      return false;
  }
}

/** MADV_POPULATE_READ, MADV_POPULATE_WRITE. @linux mm/madvise.c:madvise_populate */
function populate(mm: MmStruct, start: VirtAddr, end: VirtAddr, write: boolean): number {
  for (let at = start; at < end; ) {
    const vma = mm.vmas.get(at);
    if (vma === undefined) return -Errno.ENOMEM;
    const err = faultInPages(vma, at, Math.min(vma.end, end), write);
    if (err !== 0) return err;
    at = vma.end;
  }
  return 0;
}

/**
 * Acts on [start, end), which lies in `vma`.
 *
 * @returns -errno; 0; or, where the mapping may have changed, the one that the range is part of now
 * @linux mm/madvise.c:madvise_vma_behavior
 */
function adviseVma(vma: VmArea, start: VirtAddr, end: VirtAddr, advice: number): VmArea | number {
  const { flags } = vma;
  if ((flags & VM_SEALED) !== 0 && !canMadviseModify(vma, advice)) return -Errno.EPERM;
  switch (advice) {
    case MADV_DONTNEED:
    case MADV_DONTNEED_LOCKED:
    case MADV_FREE:
      if ((flags & VM_PFNMAP) !== 0) return -Errno.EINVAL;
      if ((flags & VM_HUGETLB) !== 0) return dontNeedHuge(vma, start, end, advice);
      if ((flags & VM_LOCKED) !== 0 && advice !== MADV_DONTNEED_LOCKED) return -Errno.EINVAL;
      if (vma.uffd !== null) return giveUpWatched(vma, start, end, advice);
      if (advice !== MADV_FREE) zapPageRange(vma, start, end);
      else if (vma.file !== null) return -Errno.EINVAL;
      else markLazyFree(vma, start, end);
      return 0;
    case MADV_REMOVE: {
      const watched = vma.uffd === null ? vma : uffdRemove(vma, start, end);
      return typeof watched === 'number' ? watched : punchHole(watched, start, end);
    }
    case MADV_WILLNEED:
      willNeed(vma, start, end);
      return 0;
    case MADV_COLD:
    case MADV_PAGEOUT:
      if ((flags & (VM_LOCKED | VM_PFNMAP | VM_HUGETLB)) !== 0) return -Errno.EINVAL;
      if (advice === MADV_COLD) markCold(vma, start, end);
      else pageOut(vma, start, end);
      return 0;
    case MADV_COLLAPSE:
      return collapse(vma, start, end);
    case MADV_GUARD_INSTALL:
      if ((flags & (VM_SPECIAL | VM_HUGETLB | VM_LOCKED)) !== 0) return -Errno.EINVAL;
      return installGuards(vma, start, end) === 0 ? 0 : -Errno.ENOMEM;
    case MADV_GUARD_REMOVE:
      if ((flags & (VM_SPECIAL | VM_HUGETLB)) !== 0) return -Errno.EINVAL;
      removeGuards(vma, start, end);
      return 0;
    default:
      return adviseFlags(vma, start, end, advice);
  }
}

/** MADV_DONTNEED, MADV_FREE where a program may want to know first. @linux mm/madvise.c:madvise_dontneed_free */
function giveUpWatched(watched: VmArea, start: VirtAddr, end: VirtAddr, advice: number): number {
  const vma = uffdRemove(watched, start, end);
  if (typeof vma === 'number') return vma;
  if (vma !== watched && (vma.flags & (VM_PFNMAP | VM_HUGETLB)) !== 0) return -Errno.EINVAL;
  const last = Math.min(end, vma.end);
  if (advice !== MADV_FREE) zapPageRange(vma, start, last);
  else if (vma.file !== null) return -Errno.EINVAL;
  else markLazyFree(vma, start, last);
  return 0;
}

/** Of huge pages whole ones go, those that the range covers. @linux mm/madvise.c:madvise_dontneed_free_valid_vma */
function dontNeedHuge(vma: VmArea, start: VirtAddr, end: VirtAddr, advice: number): number {
  const { pmdSize } = vma.mm.vm.tables;
  if (advice === MADV_FREE || !isAligned(start, pmdSize)) return -Errno.EINVAL;
  const last = Math.floor(end / pmdSize) * pmdSize;
  if (last > start) zapPageRange(vma, start, last);
  return 0;
}

/** Advice that is kept as a flag of the mapping. @linux mm/madvise.c:madvise_update_vma */
function adviseFlags(vma: VmArea, start: VirtAddr, end: VirtAddr, advice: number): VmArea | number {
  const flags = advisedFlags(vma, advice);
  // A set top bit makes flags negative too: only small numbers are errors.
  if (flags === REFUSED) return -Errno.EINVAL;
  if (flags === vma.flags) return vma;
  const merging = advice === MADV_MERGEABLE ? (ksmEnter(vma.mm) ? 0 : -Errno.EAGAIN) : advice === MADV_UNMERGEABLE ? ksmUnmerge(vma.mm, start, end) : 0;
  if (merging !== 0) return merging === -Errno.ENOMEM ? -Errno.EAGAIN : merging;
  const changed = vmaModify(vma, start, end, flags);
  if (typeof changed === 'number') return changed === -Errno.ENOMEM ? -Errno.EAGAIN : changed;
  return changed;
}

/** No set of flags: these have no meaning together. */
const REFUSED = -1;

/** The flags of a mapping that takes the advice; REFUSED where it does not suit. */
function advisedFlags(vma: VmArea, advice: number): number {
  const { flags } = vma;
  switch (advice) {
    case MADV_NORMAL:
      return flags & ~(VM_RAND_READ | VM_SEQ_READ);
    case MADV_SEQUENTIAL:
      return (flags & ~VM_RAND_READ) | VM_SEQ_READ;
    case MADV_RANDOM:
      return (flags & ~VM_SEQ_READ) | VM_RAND_READ;
    case MADV_DONTFORK:
      return flags | VM_DONTCOPY;
    case MADV_DOFORK:
      return (flags & VM_IO) !== 0 ? REFUSED : flags & ~VM_DONTCOPY;
    case MADV_WIPEONFORK:
      if (vma.file !== null || vma.zeroFile !== null || (flags & VM_SHARED) !== 0) return REFUSED;
      return flags | VM_WIPEONFORK;
    case MADV_KEEPONFORK:
      return vma.droppable ? REFUSED : flags & ~VM_WIPEONFORK;
    case MADV_DONTDUMP:
      return flags | VM_DONTDUMP;
    case MADV_DODUMP:
      return (flags & VM_SPECIAL) !== 0 || vma.droppable ? REFUSED : flags & ~VM_DONTDUMP;
    case MADV_MERGEABLE:
      // Where equal pages cannot be shared, the advice is taken and forgotten. @linux mm/ksm.c:vma_ksm_compatible
      if ((flags & (VM_SHARED | VM_MAYSHARE | VM_SPECIAL | VM_HUGETLB)) !== 0 || vma.droppable) return flags;
      return flags | VM_MERGEABLE;
    case MADV_UNMERGEABLE:
      return flags & ~VM_MERGEABLE;
    case MADV_HUGEPAGE:
      return (flags & ~VM_NOHUGEPAGE) | VM_HUGEPAGE;
    default:
      return (flags & ~VM_HUGEPAGE) | VM_NOHUGEPAGE;
  }
}

/** MADV_WILLNEED: reads what is not cached of a file, or what was swapped out. @linux mm/madvise.c:madvise_willneed */
function willNeed(vma: VmArea, start: VirtAddr, end: VirtAddr): void {
  if (vma.file === null) {
    swapinRange(vma, start, end);
    lruAddDrain(vma.mm.vm);
    return;
  }
  const { mapping } = vma.file.inode;
  const first = linearPageIndex(vma, start);
  mapping.ops.willNeed(mapping, first, first + (end - start) / PAGE_SIZE - 1);
}

/** MADV_REMOVE: frees the pages of the file. @linux mm/madvise.c:madvise_remove */
function punchHole(vma: VmArea, start: VirtAddr, end: VirtAddr): number {
  const { file } = vma;
  if ((vma.flags & VM_LOCKED) !== 0 || (file === null && vma.zeroFile === null)) return -Errno.EINVAL;
  if (file === null || !isSharedMaywrite(vma.flags)) return -Errno.EACCES;
  const offset = start - vma.start + vma.pgoff * PAGE_SIZE;
  const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  return file.inode.mapping.ops.fallocate(file.inode, mode, offset, end - start);
}
