/**
 * Keeping memory resident.
 */
import {
  CAP_IPC_LOCK,
  Errno,
  MCL_CURRENT,
  MCL_FUTURE,
  MCL_ONFAULT,
  MLOCK_ONFAULT,
  PAGE_SIZE,
  RLIMIT_MEMLOCK,
} from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { populateRange, populateVmaRange } from './gup.ts';
import { canDoMlock, rlimitPages } from './limits.ts';
import type { MmStruct } from './mm-struct.ts';
import { pageAlign, pageAlignDown, rangeEnd, rangeWraps } from './page-align.ts';
import { entryHi } from './pgtable-shape.ts';
import { PteTableWalk } from './pgtable.ts';
import { PTE_MAPS, PTE_SPECIAL, pfnOf } from './pte.ts';
import { mlockPage, munlockPage } from './rmap.ts';
import { vmaModify } from './vma-merge.ts';
import { VM_HUGETLB, VM_IO, VM_LOCKED, VM_LOCKED_MASK, VM_LOCKONFAULT, VM_PFNMAP, VM_SPECIAL } from './vma.ts';
import type { Vm } from './vm.ts';
import type { VmArea } from './vma.ts';

/**
 * Locks the pages that [start, start + length) touches, and brings them in; with MLOCK_ONFAULT as they are touched.
 *
 * @param flags MLOCK_ bits; 0 for the call without flags
 * @returns 0; -EINVAL for unknown flags or a range that wraps; -EPERM where the limit is 0; -ENOMEM beyond the limit or
 *   for a hole, the part before which is locked by then, and for inaccessible memory, which stays locked; -EAGAIN where
 *   there was no memory for the pages
 * @linux mm/mlock.c:do_mlock
 */
export function doMlock(mm: MmStruct, start: VirtAddr, length: number, flags: number): number {
  if ((flags & ~MLOCK_ONFAULT) !== 0) return -Errno.EINVAL;
  if (!canDoMlock(mm)) return -Errno.EPERM;
  const from = pageAlignDown(start);
  const bytes = pageAlign(length + (start - from));
  const limit = rlimitPages(mm, RLIMIT_MEMLOCK);
  let locked = (bytes < 0 ? bytes + mm.registerRange : bytes) / PAGE_SIZE + mm.lockedVm;
  if (!mm.limits.capable(CAP_IPC_LOCK)) {
    if (locked > limit) locked -= from < 0 ? 0 : lockedPagesIn(mm, from, rangeWraps(mm.registerRange, from, bytes) ? Infinity : rangeEnd(from, bytes));
    if (locked > limit) return -Errno.ENOMEM;
  }
  const vmFlags = (flags & MLOCK_ONFAULT) !== 0 ? VM_LOCKED | VM_LOCKONFAULT : VM_LOCKED;
  const err = applyLockFlags(mm, from, bytes, vmFlags);
  if (err !== 0 || bytes === 0) return err;
  const populated = populateRange(mm, from, from + bytes);
  if (populated === -Errno.EFAULT) return -Errno.ENOMEM;
  return populated === -Errno.ENOMEM ? -Errno.EAGAIN : populated;
}

/** Unlocks the pages that [start, start + length) touches; they stay resident. @returns 0, -EINVAL or -ENOMEM @linux mm/mlock.c:munlock */
export function doMunlock(mm: MmStruct, start: VirtAddr, length: number): number {
  const from = pageAlignDown(start);
  return applyLockFlags(mm, from, pageAlign(length + (start - from)), 0);
}

/**
 * Locks all there is (MCL_CURRENT), all that will be mapped (MCL_FUTURE), or both, as it is touched with MCL_ONFAULT.
 *
 * @returns 0; -EINVAL; -EPERM where the limit is 0; -ENOMEM where the whole address space is beyond it
 * @linux mm/mlock.c:mlockall
 */
export function doMlockall(mm: MmStruct, flags: number): number {
  if (flags === 0 || (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) !== 0 || flags === MCL_ONFAULT) {
    return -Errno.EINVAL;
  }
  if (!canDoMlock(mm)) return -Errno.EPERM;
  const current = (flags & MCL_CURRENT) !== 0;
  if (current && mm.totalVm > rlimitPages(mm, RLIMIT_MEMLOCK) && !mm.limits.capable(CAP_IPC_LOCK)) {
    return -Errno.ENOMEM;
  }
  lockAll(mm, flags);
  if (current) populateAll(mm);
  return 0;
}

/** Unlocks all there is, and what is mapped from now on is not locked. @returns 0 @linux mm/mlock.c:munlockall */
export function doMunlockall(mm: MmStruct): number {
  lockAll(mm, 0);
  return 0;
}

/** @linux mm/mlock.c:apply_mlockall_flags */
function lockAll(mm: MmStruct, flags: number): void {
  const added = VM_LOCKED | ((flags & MCL_ONFAULT) !== 0 ? VM_LOCKONFAULT : 0);
  mm.defFlags &= ~VM_LOCKED_MASK;
  if ((flags & MCL_FUTURE) !== 0) {
    mm.defFlags |= added;
    if ((flags & MCL_CURRENT) === 0) return;
  }
  const toAdd = (flags & MCL_CURRENT) !== 0 ? added : 0;
  let at = 0;
  for (;;) {
    const vma = mm.vmas.find(at);
    if (vma === undefined) return;
    const { end } = vma;
    const changed = mlockFixup(vma, vma.start, end, (vma.flags & ~VM_LOCKED_MASK) | toAdd);
    // A mapping without memory to change it stays as it is.
    at = typeof changed === 'number' ? end : changed.end;
  }
}

/** Brings in what can be, mapping by mapping, locked or not and whatever fails. @linux include/linux/mm.h:mm_populate */
function populateAll(mm: MmStruct): void {
  let vma = mm.vmas.first();
  while (vma !== undefined) {
    if ((vma.flags & (VM_IO | VM_PFNMAP)) === 0) populateVmaRange(vma, vma.start, vma.end);
    vma = mm.vmas.find(vma.end);
  }
}

/** Pages in [start, end) that are locked already. @linux mm/mlock.c:count_mm_mlocked_page_nr */
function lockedPagesIn(mm: MmStruct, start: VirtAddr, end: VirtAddr): number {
  let pages = 0;
  let vma = mm.vmas.find(start);
  while (vma !== undefined && vma.start < end) {
    if ((vma.flags & VM_LOCKED) !== 0) {
      pages += (Math.min(end, vma.end) - Math.max(start, vma.start)) / PAGE_SIZE;
    }
    vma = mm.vmas.find(vma.end);
  }
  return pages;
}

/**
 * Gives [start, start + bytes) these of the flags VM_LOCKED and VM_LOCKONFAULT, up to the first hole.
 *
 * @linux mm/mlock.c:apply_vma_lock_flags
 */
function applyLockFlags(mm: MmStruct, start: VirtAddr, bytes: number, lockFlags: number): number {
  if (bytes === 0) return 0;
  if (rangeWraps(mm.registerRange, start, bytes)) return -Errno.EINVAL;
  const end = rangeEnd(start, bytes);
  let at = start;
  do {
    const vma = at < 0 ? undefined : mm.vmas.get(at);
    if (vma === undefined) return -Errno.ENOMEM;
    const changed = mlockFixup(vma, at, Math.min(end, vma.end), (vma.flags & ~VM_LOCKED_MASK) | lockFlags);
    if (typeof changed === 'number') return changed;
    at = changed.end;
  } while (at < end);
  return 0;
}

/**
 * Locks or unlocks the part [start, end) of one mapping. Mappings of devices and of the kernel, and memory that may be
 * dropped, are passed over.
 *
 * @returns the mapping that it is part of now, or -ENOMEM
 * @linux mm/mlock.c:mlock_fixup
 */
function mlockFixup(vma: VmArea, start: VirtAddr, end: VirtAddr, newFlags: number): VmArea | number {
  const { mm } = vma;
  const oldFlags = vma.flags;
  if (newFlags === oldFlags || (oldFlags & (VM_SPECIAL | VM_HUGETLB)) !== 0 || vma.droppable) return vma;
  const changed = vmaModify(vma, start, end, newFlags);
  if (typeof changed === 'number') return changed;
  const wasLocked = (oldFlags & VM_LOCKED) !== 0;
  if ((newFlags & VM_LOCKED) === 0) {
    mm.lockedVm -= (end - start) / PAGE_SIZE;
    munlockVmaPages(changed, start, end);
  } else if (!wasLocked) {
    mm.lockedVm += (end - start) / PAGE_SIZE;
    mlockVmaPages(changed, start, end);
  }
  return changed;
}

/** Marks the resident pages of a range that was just locked. @linux mm/mlock.c:mlock_vma_pages_range */
function mlockVmaPages(vma: VmArea, start: VirtAddr, end: VirtAddr): void {
  forEachPage(vma, start, end, mlockPage);
}

/** Unmarks the resident pages of a range that was just unlocked, where no other mapping locks them. */
export function munlockVmaPages(vma: VmArea, start: VirtAddr, end: VirtAddr): void {
  forEachPage(vma, start, end, munlockPage);
}

function forEachPage({ mm }: VmArea, start: VirtAddr, end: VirtAddr, mark: (vm: Vm, pfn: Pfn) => void): void {
  const { i32 } = mm.vm.ram;
  const walk = new PteTableWalk(mm, start, end);
  while (walk.next()) {
    const { huge } = walk;
    for (let i = 0; i < walk.count; i++) {
      const entry = huge ? walk.pmdEntry : walk.entry + i * walk.step;
      const lo = i32[entry];
      if ((lo & PTE_MAPS) === 0 || (lo & PTE_SPECIAL) !== 0) continue;
      mark(mm.vm, pfnOf(lo, entryHi(i32, entry, walk.step)) + (huge ? i : 0));
    }
  }
}
