/**
 * Resizing and moving mappings.
 */
import {
  Errno,
  MAP_FIXED,
  MAP_SHARED,
  MREMAP_DONTUNMAP,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PAGE_SIZE,
} from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { anonVmaClone, unlinkAnonVmas } from './anon-vma.ts';
import { populateRange } from './gup.ts';
import { mayExpandVm, mlockFutureOk, vmStatAccount } from './limits.ts';
import { munlockVmaPages } from './mlock.ts';
import type { MmStruct } from './mm-struct.ts';
import { movePageTables } from './move-page-tables.ts';
import { vmMunmap } from './munmap.ts';
import { vmAcctMemory, vmEnoughMemory, vmUnacctMemory } from './overcommit.ts';
import { offsetInPage, pageAlign } from './page-align.ts';
import { fileGet } from './open-file.ts';
import { getUnmappedArea } from './unmapped-area.ts';
import { mergeNewRange } from './vma-merge.ts';
import {
  findVmaIntersection,
  linkFileVma,
  unlinkFileVma,
  vmAreaDup,
  vmAreaFree,
  vmaLink,
  vmaLookup,
  vmaPages,
  vmaReserve,
} from './vma-tree.ts';
import {
  VM_ACCOUNT,
  VM_DONTEXPAND,
  VM_HUGETLB,
  VM_LOCKED,
  VM_LOCKED_MASK,
  VM_MAYSHARE,
  VM_PFNMAP,
  VM_SEALED,
  VM_SHARED,
  VM_UFFD_MISSING,
  VM_UFFD_WP,
} from './vma.ts';
import { uffdMovesAlong, uffdRemapped } from './userfault-events.ts';
import type { VmArea } from './vma.ts';

/** What a call is about, as it goes along. @linux mm/mremap.c:vma_remap_struct */
interface Remap {
  readonly mm: MmStruct;
  addr: VirtAddr;
  /** Whole pages, in bytes. */
  oldLength: number;
  newLength: number;
  readonly flags: number;
  newAddr: VirtAddr;
  /** The mapping that holds `addr`. */
  vma: VmArea;
  /** A locked mapping was expanded: the new part is to be populated. */
  populate: boolean;
}

/** The first release that moves several mappings at once. */
const MOVE_RANGE_RELEASE = 617;
/** Maps that the two ends of a move may come to need: checked beforehand, so that a move does not fail half done. */
const SPARE_MAPS = 3;

/**
 * Resizes the `oldLength` bytes mapped at `addr` to `newLength`, in place or elsewhere as `flags` (MREMAP_) allow. Pages
 * keep their frames. An `oldLength` of 0 makes a second mapping of shared memory; DONTUNMAP leaves an empty mapping
 * behind; a FIXED move of unchanged size takes all the mappings and holes of the range along.
 *
 * Costs a step a page table entry that is moved, or one a whole table where both places are aligned for it.
 *
 * @returns the new address; -EINVAL, -EFAULT for a range that is not (one) mapping, -ENOMEM, -EAGAIN beyond the limit of
 *   locked memory, -EPERM where the mapping, or what lies at the new place, is sealed
 * @linux mm/mremap.c:do_mremap
 */
export function doMremap(
  mm: MmStruct,
  addr: VirtAddr,
  oldLength: number,
  newLength: number,
  flags: number,
  newAddr: VirtAddr,
): number {
  const oldBytes = registerPages(mm, oldLength);
  const newBytes = registerPages(mm, newLength);
  const err = checkParameters(mm, addr, oldBytes, newBytes, flags, newAddr);
  if (err !== 0) return err;
  const takesAll = mm.vm.release >= MOVE_RANGE_RELEASE;
  if (takesAll && (flags & MREMAP_FIXED) !== 0 && oldBytes === newBytes) return moveRange(mm, addr, oldBytes, flags, newAddr);
  const vma = vmaLookup(mm, addr);
  if (vma === undefined) return -Errno.EFAULT;
  const remap: Remap = {
    mm, addr, oldLength: oldBytes, newLength: newBytes, flags, newAddr, vma, populate: false,
  };
  const result = checkVma(remap) || (impliesNewAddr(flags) ? moveTo(remap) : resizeAt(remap));
  if (result >= 0 && remap.populate && newBytes > oldBytes) populateRange(mm, result + oldBytes, result + newBytes);
  return result;
}

/** A length as `mremap` takes it: unsigned, in whole pages; wraps to 0 at the top of the range. */
function registerPages({ registerRange }: MmStruct, length: number): number {
  const bytes = pageAlign(length);
  return bytes < 0 ? bytes + registerRange : bytes + 0;
}

function impliesNewAddr(flags: number): boolean {
  return (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) !== 0;
}

/** @linux mm/mremap.c:check_mremap_params */
function checkParameters(
  mm: MmStruct,
  addr: VirtAddr,
  oldBytes: number,
  newBytes: number,
  flags: number,
  newAddr: VirtAddr,
): number {
  if ((flags & ~(MREMAP_FIXED | MREMAP_MAYMOVE | MREMAP_DONTUNMAP)) !== 0) return -Errno.EINVAL;
  if (offsetInPage(addr) !== 0) return -Errno.EINVAL;
  if (newBytes === 0 || newBytes > mm.taskSize) return -Errno.EINVAL;
  if (!impliesNewAddr(flags)) return 0;
  if (newAddr < 0 || newAddr > mm.taskSize - newBytes || offsetInPage(newAddr) !== 0) return -Errno.EINVAL;
  if ((flags & MREMAP_MAYMOVE) === 0) return -Errno.EINVAL;
  if ((flags & MREMAP_DONTUNMAP) !== 0 && oldBytes !== newBytes) return -Errno.EINVAL;
  const oldEnd = (addr + oldBytes) % mm.registerRange;
  if (addr >= 0 && oldEnd > newAddr && newAddr + newBytes > addr) return -Errno.EINVAL;
  // Either end may be cut out of a mapping, which makes two more.
  if (mm.mapCount + 2 >= mm.vm.sysctl.maxMapCount - SPARE_MAPS) return -Errno.ENOMEM;
  return 0;
}

/** Checks that the range lies in its one mapping and may grow. @linux mm/mremap.c:check_prep_vma */
function checkVma(remap: Remap): number {
  const { mm, vma, addr, flags } = remap;
  if ((vma.flags & VM_SEALED) !== 0) return -Errno.EPERM;
  if (!impliesNewAddr(flags)) remap.newAddr = addr;
  if ((vma.flags & VM_HUGETLB) !== 0 && !alignHuge(remap)) return -Errno.EINVAL;
  const { newLength } = remap;
  const expands = remap.oldLength < newLength;
  if (!expands && !impliesNewAddr(flags)) return 0;
  if (remap.oldLength === 0 && (vma.flags & (VM_SHARED | VM_MAYSHARE)) === 0) return -Errno.EINVAL;
  if ((flags & MREMAP_DONTUNMAP) !== 0 && (vma.flags & (VM_DONTEXPAND | VM_PFNMAP)) !== 0) return -Errno.EINVAL;
  // What is cut off may reach over other mappings.
  const kept = Math.min(remap.oldLength, newLength);
  if (kept > vma.end - addr) return -Errno.EFAULT;
  if (!expands) return 0;
  if ((vma.flags & VM_LOCKED) !== 0) remap.populate = true;
  if ((vma.flags & (VM_DONTEXPAND | VM_PFNMAP)) !== 0) return -Errno.EFAULT;
  const delta = newLength - remap.oldLength;
  if (!mlockFutureOk(mm, vma.flags, delta)) return -Errno.EAGAIN;
  return mayExpandVm(mm, vma.flags, delta / PAGE_SIZE) ? 0 : -Errno.ENOMEM;
}

/** Makes whole huge pages of the range; false where it does not begin with one, or would grow. @linux mm/mremap.c:align_hugetlb */
function alignHuge(remap: Remap): boolean {
  const { pmdSize } = remap.mm.vm.tables;
  remap.oldLength = Math.ceil(remap.oldLength / pmdSize) * pmdSize;
  remap.newLength = Math.ceil(remap.newLength / pmdSize) * pmdSize;
  return remap.addr % pmdSize === 0 && remap.newAddr % pmdSize === 0 && remap.newLength <= remap.oldLength;
}

/** Resizes where it is, or anywhere. @linux mm/mremap.c:mremap_at */
function resizeAt(remap: Remap): number {
  const { mm, addr, oldLength, newLength, vma } = remap;
  if (newLength === oldLength) return addr;
  if (newLength < oldLength) return vmMunmap(mm, addr + newLength, oldLength - newLength) || addr;
  if (canExpandInPlace(remap)) {
    const delta = newLength - oldLength;
    if (charge(remap) < 0) return -Errno.ENOMEM;
    const range = mm.mergeRange;
    range.flags = vma.flags;
    range.droppable = vma.droppable;
    range.pgoff = vma.pgoff + vmaPages(vma);
    range.file = vma.file;
    range.zeroFile = vma.zeroFile;
    range.anonVma = vma.anonVma;
    range.policy = vma.policy;
    range.uffd = vma.uffd;
    range.uffdMinor = vma.uffdMinor;
    range.source = null;
    const grown = mergeNewRange(mm, vma.end, vma.end + delta, range);
    if (grown === null) {
      uncharge(remap);
      return -Errno.ENOMEM;
    }
    accountMapped(mm, grown.flags, delta / PAGE_SIZE);
    return addr;
  }
  if ((remap.flags & MREMAP_MAYMOVE) === 0) return -Errno.ENOMEM;
  return chooseNewAddr(remap) || moveVma(remap);
}

/** Whether the range reaches to the end of its mapping and there is room behind. @linux mm/mremap.c:vrm_can_expand_in_place */
function canExpandInPlace({ mm, addr, oldLength, newLength, vma }: Remap): boolean {
  if (vma.end - addr !== oldLength) return false;
  const end = vma.end + newLength - oldLength;
  if (findVmaIntersection(mm, vma.end, end) !== undefined) return false;
  return getUnmappedArea(mm, null, vma.start, end - vma.start, 0, MAP_FIXED) >= 0;
}

/** Moves to the address given, or with DONTUNMAP to where there is room. @linux mm/mremap.c:mremap_to */
function moveTo(remap: Remap): number {
  const { mm, addr, newLength, flags } = remap;
  if ((flags & MREMAP_FIXED) !== 0) {
    const err = vmMunmap(mm, remap.newAddr, newLength) || reload(remap);
    if (err !== 0) return err;
  }
  if (newLength < remap.oldLength) {
    const err = vmMunmap(mm, addr + newLength, remap.oldLength - newLength) || reload(remap);
    if (err !== 0) return err;
    remap.oldLength = newLength;
  }
  if ((flags & MREMAP_DONTUNMAP) !== 0 && !mayExpandVm(mm, remap.vma.flags, newLength / PAGE_SIZE)) {
    return -Errno.ENOMEM;
  }
  return chooseNewAddr(remap) || moveVma(remap);
}

/** Unmapping may have cut the mapping: looks it up again. */
function reload(remap: Remap): number {
  const vma = vmaLookup(remap.mm, remap.addr);
  if (vma === undefined) return -Errno.EFAULT;
  remap.vma = vma;
  return 0;
}

/**
 * Moves all the mappings of a range, and the holes between them, to a fixed place. A failure midway leaves those moved
 * where they are.
 *
 * @linux mm/mremap.c:remap_move
 */
function moveRange(mm: MmStruct, start: VirtAddr, length: number, flags: number, newAddr: VirtAddr): number {
  const end = start + length;
  let result = -Errno.EFAULT;
  let at = start;
  for (;;) {
    const vma = mm.vmas.find(at);
    if (vma === undefined || vma.start >= end) return result;
    // A hole at the very start is not taken along.
    if (result < 0 && start < vma.start) return -Errno.EFAULT;
    const addr = Math.max(vma.start, start);
    if (!mayMoveWithOthers(vma) && (result >= 0 || vma.end < end)) return -Errno.EFAULT;
    const bytes = Math.min(end, vma.end) - addr;
    const target = newAddr + (addr - start);
    const remap: Remap = {
      mm, addr, oldLength: bytes, newLength: bytes, flags, newAddr: target, vma, populate: false,
    };
    const moved = checkVma(remap) || moveTo(remap);
    if (moved < 0) return moved;
    if (result < 0) result = moved;
    at = addr + bytes;
    if (at >= end) return result;
  }
}

/**
 * Whether a mapping surely goes where it is told to: one of a System V segment or of `/dev/zero` has its own rules for that.
 *
 * @linux mm/mremap.c:vma_multi_allowed
 */
function mayMoveWithOthers({ file, zeroFile }: VmArea): boolean {
  return zeroFile === null && (file === null || file.vmOps === null);
}

/** @linux mm/mremap.c:vrm_set_new_addr */
function chooseNewAddr(remap: Remap): number {
  const { mm, addr, vma, flags } = remap;
  const pgoff = vma.pgoff + (addr - vma.start) / PAGE_SIZE;
  const hint = impliesNewAddr(flags) ? remap.newAddr : 0;
  let mapFlags = (flags & MREMAP_FIXED) !== 0 ? MAP_FIXED : 0;
  if ((vma.flags & VM_MAYSHARE) !== 0) mapFlags |= MAP_SHARED;
  const found = getUnmappedArea(mm, vma.file, hint, remap.newLength, pgoff, mapFlags);
  if (found < 0) return found;
  remap.newAddr = found;
  return 0;
}

/** Charges what the call adds; returns 0 or -ENOMEM. @linux mm/mremap.c:vrm_calc_charge */
function charge(remap: Remap): number {
  const pages = chargedPages(remap);
  return pages === 0 ? 0 : vmEnoughMemory(remap.mm.vm, remap.mm, pages);
}

function uncharge(remap: Remap): void {
  vmUnacctMemory(remap.mm.vm, chargedPages(remap));
}

function chargedPages({ vma, flags, oldLength, newLength }: Remap): number {
  if ((vma.flags & VM_ACCOUNT) === 0) return 0;
  const bytes = (flags & MREMAP_DONTUNMAP) !== 0 ? newLength : newLength - oldLength;
  return bytes / PAGE_SIZE;
}

function accountMapped(mm: MmStruct, vmFlags: number, nrPages: number): void {
  vmStatAccount(mm, vmFlags, nrPages);
  if ((vmFlags & VM_LOCKED) !== 0) mm.lockedVm += nrPages;
}

/** Makes the new mapping, moves the pages, removes the old one. @linux mm/mremap.c:move_vma */
function moveVma(remap: Remap): number {
  const { mm, addr, newAddr, newLength, flags } = remap;
  const { oldLength } = remap;
  if (mm.mapCount >= mm.vm.sysctl.maxMapCount - SPARE_MAPS) return -Errno.ENOMEM;
  if (charge(remap) < 0) return -Errno.ENOMEM;
  const oldFlags = remap.vma.flags;
  const ctx = uffdMovesAlong(remap.vma) ? remap.vma.uffd : null;
  const target = copyVma(remap);
  if (target === null) {
    uncharge(remap);
    return -Errno.ENOMEM;
  }
  const source = remap.vma;
  const moved = movePageTables(source, addr, target, newAddr, oldLength);
  const { hiwaterVm } = mm;
  accountMapped(mm, oldFlags, newLength / PAGE_SIZE);
  if (moved < oldLength) {
    // Back to where there still are tables; the new place goes.
    movePageTables(target, newAddr, source, addr, moved);
    unmapMoved(mm, target, newAddr, newLength, (oldFlags & VM_ACCOUNT) !== 0);
    mm.hiwaterVm = hiwaterVm;
    uncharge(remap);
    return -Errno.ENOMEM;
  }
  if (ctx !== null) uffdRemapped(mm.vm, ctx, addr, newAddr, oldLength);
  // Promises moved with the pages.
  source.resv = null;
  if ((flags & MREMAP_DONTUNMAP) !== 0) leaveEmpty(source, target, addr, addr + oldLength);
  else if (oldLength > 0) unmapMoved(mm, source, addr, oldLength, (oldFlags & VM_ACCOUNT) !== 0);
  mm.hiwaterVm = hiwaterVm;
  return newAddr;
}

/**
 * Makes a mapping of the same kind at the new place, or lets a neighbour there take it in. The old mapping may become
 * part of the new one by that.
 *
 * @returns `null` without memory
 * @linux mm/vma.c:copy_vma
 */
function copyVma(remap: Remap): VmArea | null {
  const { mm, addr, vma, newAddr, newLength } = remap;
  const vmaStart = vma.start;
  // Pages that do not exist yet have no offsets to keep: those of the new place make a merge likelier.
  const pgoff =
    vma.file === null && vma.anonVma === null
      ? newAddr / PAGE_SIZE
      : vma.pgoff + (addr - vma.start) / PAGE_SIZE;
  const range = mm.mergeRange;
  const movesAlong = uffdMovesAlong(vma);
  range.flags = movesAlong ? vma.flags : vma.flags & ~(VM_UFFD_MISSING | VM_UFFD_WP);
  range.droppable = vma.droppable;
  range.pgoff = pgoff;
  range.file = vma.file;
  range.zeroFile = vma.zeroFile;
  range.anonVma = vma.anonVma;
  range.policy = vma.policy;
  // Who does not hear of it does not serve the faults of what has moved.
  range.uffd = movesAlong ? vma.uffd : null;
  range.uffdMinor = movesAlong && vma.uffdMinor;
  range.source = vma;
  const merged = mergeNewRange(mm, newAddr, newAddr + newLength, range);
  if (merged !== null) {
    if (vmaStart >= merged.start && vmaStart < merged.end) remap.vma = merged;
    return merged;
  }
  const copy = vmaReserve(mm, 1) === 0 ? vmAreaDup(vma, mm) : null;
  if (copy === null) return null;
  copy.start = newAddr;
  copy.end = newAddr + newLength;
  copy.pgoff = pgoff;
  if (!movesAlong) {
    copy.flags &= ~(VM_UFFD_MISSING | VM_UFFD_WP);
    copy.uffd = null;
    copy.uffdMinor = false;
  }
  if (vma.file !== null) linkFileVma(copy, fileGet(vma.file));
  if (vma.anonVmaChain.length !== 0) {
    copy.anonVma = vma.anonVma;
    if (anonVmaClone(copy, vma) !== 0) {
      if (copy.file !== null) unlinkFileVma(copy);
      vmAreaFree(copy);
      return null;
    }
  }
  vmaLink(copy);
  return copy;
}

/**
 * Unmaps a range whose pages were moved away, in `vma`. Its charge went along with the pages where `keepCharge`: the
 * flag is taken from the mapping meanwhile, so that unmapping does not give it back.
 *
 * @linux mm/mremap.c:unmap_source_vma
 */
function unmapMoved(mm: MmStruct, vma: VmArea, addr: VirtAddr, length: number, keepCharge: boolean): void {
  const { start, end } = vma;
  if (keepCharge) vma.flags &= ~VM_ACCOUNT;
  const err = vmMunmap(mm, addr, length);
  if (!keepCharge) return;
  if (err !== 0) {
    // It could not be cut up, or once only: both places stay mapped, and charged.
    mm.vmas.forEachIn(start, end, (part) => {
      part.flags |= VM_ACCOUNT;
    });
    vmAcctMemory(mm.vm, length / PAGE_SIZE);
    return;
  }
  if (start < addr) vmaLookup(mm, addr - PAGE_SIZE)!.flags |= VM_ACCOUNT;
  if (end > addr + length) vmaLookup(mm, addr + length)!.flags |= VM_ACCOUNT;
}

/**
 * DONTUNMAP: the old mapping stays, empty and not locked any more.
 *
 * Linux forgets to take what it unlocks from the count of locked pages.
 *
 * @linux mm/mremap.c:dontunmap_complete
 */
function leaveEmpty(source: VmArea, target: VmArea, start: VirtAddr, end: VirtAddr): void {
  if ((source.flags & VM_LOCKED) !== 0) {
    source.mm.lockedVm -= vmaPages(source);
    source.flags &= ~VM_LOCKED_MASK;
    munlockVmaPages(source, source.start, source.end);
  }
  if (source !== target && source.start === start && source.end === end && source.anonVmaChain.length !== 0) {
    unlinkAnonVmas(source);
  }
}
