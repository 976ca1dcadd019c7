/**
 * Taking mappings away.
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { updateHiwaterVm, vmStatAccount } from './limits.ts';
import { uffdUnmap } from './userfault-events.ts';
import type { MmStruct } from './mm-struct.ts';
import { vmUnacctMemory } from './overcommit.ts';
import { offsetInPage, pageAlign } from './page-align.ts';
import { splitVmaUnlimited } from './vma-split.ts';
import { removeVma, vmaNext, vmaPages, vmaPrev, vmaResize, vmaUnlink } from './vma-tree.ts';
import { VM_ACCOUNT, VM_DONTEXPAND, VM_LOCKED, VM_SEALED, VmArea } from './vma.ts';
import { unmapRegion } from './zap.ts';

/** For `free_pgtables`: no mapping above. */
const NO_CEILING = 0;

/**
 * Unmaps [addr, addr + length): pages go, and what is partly inside is cut. Holes do not matter.
 *
 * Costs what is mapped and resident there, not what the range spans.
 *
 * @returns 0; -EINVAL for a misaligned address, a length of 0, or a range that leaves the address space; -ENOMEM where
 *   cutting a hole would make more than `max_map_count` mappings, or for lack of memory; -EPERM where something is sealed
 * @linux mm/vma.c:do_vmi_munmap
 */
export function vmMunmap(mm: MmStruct, addr: VirtAddr, length: number): number {
  const { taskSize } = mm;
  if (offsetInPage(addr) !== 0 || addr < 0 || addr > taskSize) return -Errno.EINVAL;
  if (length <= 0 || length > taskSize - addr) return -Errno.EINVAL;
  const end = addr + pageAlign(length);
  const first = mm.vmas.find(addr);
  if (first === undefined || first.start >= end) return 0;
  return unmapFrom(mm, first, addr, end);
}

/**
 * Unmaps the page-aligned range [start, end), in which `first` is the first mapping.
 *
 * @returns 0, -ENOMEM, or -EPERM where something is sealed
 * @linux mm/vma.c:do_vmi_align_munmap
 */
export function unmapFrom(mm: MmStruct, first: VmArea, start: VirtAddr, end: VirtAddr): number {
  if ((first.flags & (VM_DONTEXPAND | VM_SEALED)) !== 0 || first.uffd !== null) {
    // Huge pages, what the kernel mapped, what is sealed, and whose faults a program serves: a part of it has to be looked at before it can be cut off, if it can.
  } else if (first.start < start) {
    if (first.end <= end) {
      const next = vmaNext(first);
      if (next === undefined || next.start >= end) {
        trimTail(first, start, next);
        return 0;
      }
    }
  } else if (first.end > end) {
    trimHead(first, end);
    return 0;
  } else if (first.end === end) {
    unmapWhole(first);
    return 0;
  }
  const err = gatherVmas(mm, first, start, end);
  if (err !== 0) return err;
  unmapGathered(mm, true);
  return 0;
}

/**
 * Collects the mappings in [start, end) in `mm.detached`, cut to the range. They stay in the tree.
 *
 * @returns 0; -ENOMEM, or -EPERM for a sealed mapping, with nothing collected, though one may have been cut in two by then
 * @linux mm/vma.c:vms_gather_munmap_vmas
 */
export function gatherVmas(mm: MmStruct, first: VmArea, start: VirtAddr, end: VirtAddr): number {
  const { detached, vmas } = mm;
  if (first.start < start) {
    // Only a cut that makes two of one is refused beyond the limit: unmapping must be able to help.
    if (end < first.end && mm.mapCount >= mm.vm.sysctl.maxMapCount) return -Errno.ENOMEM;
    if ((first.flags & VM_SEALED) !== 0) return -Errno.EPERM;
    const err = splitVmaUnlimited(first, start, true);
    if (err !== 0) return err;
  }
  let position = vmas.locate(start);
  for (;;) {
    const vma = vmas.valueAt(position);
    if (vma === undefined || vma.start >= end) return 0;
    if ((vma.flags & VM_SEALED) !== 0) {
      detached.length = 0;
      return -Errno.EPERM;
    }
    if (vma.end > end) {
      const err = splitVmaUnlimited(vma, end, false);
      if (err !== 0) {
        detached.length = 0;
        return err;
      }
      position = vmas.locate(vma.start);
    }
    if (vma.uffd !== null) uffdUnmap(vma, start, end);
    detached.push(vma);
    position = vmas.after(position);
  }
}

/** Pages that the gathered mappings have in all. */
export function gatheredPages(mm: MmStruct): number {
  let pages = 0;
  for (let i = 0; i < mm.detached.length; i++) pages += vmaPages(mm.detached[i]);
  return pages;
}

/** Pages of the gathered mappings that are charged against the commit limit. */
export function gatheredAccounted(mm: MmStruct): number {
  let pages = 0;
  for (let i = 0; i < mm.detached.length; i++) {
    if ((mm.detached[i].flags & VM_ACCOUNT) !== 0) pages += vmaPages(mm.detached[i]);
  }
  return pages;
}

/**
 * Removes the gathered mappings and their pages. Their charge against the commit limit is given back where `uncharge`,
 * and stays for the mapping that takes their place otherwise.
 *
 * @linux mm/vma.c:vms_complete_munmap_vmas
 */
export function unmapGathered(mm: MmStruct, uncharge: boolean): void {
  const { detached, vmas } = mm;
  const { start } = detached[0];
  const { end } = detached[detached.length - 1];
  updateHiwaterVm(mm);
  let accounted = 0;
  for (let i = 0; i < detached.length; i++) {
    const vma = detached[i];
    const pages = vmaPages(vma);
    if ((vma.flags & VM_LOCKED) !== 0) mm.lockedVm -= pages;
    if ((vma.flags & VM_ACCOUNT) !== 0) accounted += pages;
    vmStatAccount(mm, vma.flags, -pages);
    vmaUnlink(vma);
  }
  const position = vmas.locate(start);
  const next = vmas.valueAt(position);
  const prev = vmas.valueAt(position < 0 ? vmas.lastPosition() : vmas.before(position));
  const floor = prev === undefined ? 0 : prev.end;
  unmapRegion(mm, detached, start, end, floor, next === undefined ? NO_CEILING : next.start);
  for (let i = 0; i < detached.length; i++) removeVma(detached[i]);
  detached.length = 0;
  if (uncharge && accounted !== 0) vmUnacctMemory(mm.vm, accounted);
}

/** Removes one mapping. */
function unmapWhole(vma: VmArea): void {
  const { mm, start, end, flags } = vma;
  const { vmas, single } = mm;
  const nrPages = vmaPages(vma);
  updateHiwaterVm(mm);
  if ((flags & VM_LOCKED) !== 0) mm.lockedVm -= nrPages;
  vmStatAccount(mm, flags, -nrPages);
  const position = vmas.locate(start);
  const prev = vmas.valueAt(vmas.before(position));
  const next = vmas.valueAt(vmas.after(position));
  vmaUnlink(vma);
  single[0] = vma;
  unmapRegion(mm, single, start, end, prev === undefined ? 0 : prev.end, next === undefined ? NO_CEILING : next.start);
  removeVma(vma);
  if ((flags & VM_ACCOUNT) !== 0) vmUnacctMemory(mm.vm, nrPages);
}

/**
 * Cuts off what `vma`, with `next` above it, has from `start` on, without making a mapping of it first: the commonest
 * unmapping, and it cannot fail.
 */
function trimTail(vma: VmArea, start: VirtAddr, next: VmArea | undefined): void {
  const { mm } = vma;
  const part = partOf(vma, start, vma.end);
  vmaResize(vma, vma.start, start, vma.pgoff);
  unmapRegion(mm, mm.single, part.start, part.end, start, next === undefined ? NO_CEILING : next.start);
  accountTrimmed(part);
}

/** As {@link trimTail}, for what lies below `end`. */
function trimHead(vma: VmArea, end: VirtAddr): void {
  const { mm } = vma;
  const prev = vmaPrev(vma);
  const part = partOf(vma, vma.start, end);
  vmaResize(vma, end, vma.end, vma.pgoff + (end - vma.start) / PAGE_SIZE);
  unmapRegion(mm, mm.single, part.start, end, prev === undefined ? 0 : prev.end, end);
  accountTrimmed(part);
}

/** Takes a part that was cut off out of the totals. */
function accountTrimmed(part: VmArea): void {
  const { mm, flags } = part;
  const nrPages = vmaPages(part);
  updateHiwaterVm(mm);
  if ((flags & VM_LOCKED) !== 0) mm.lockedVm -= nrPages;
  vmStatAccount(mm, flags, -nrPages);
  if ((flags & VM_ACCOUNT) !== 0) vmUnacctMemory(mm.vm, nrPages);
  part.file = null;
  part.anonVma = null;
}

/** Makes `mm.trimmed` stand for a part of a mapping, and `mm.single` hold it. */
function partOf(vma: VmArea, start: VirtAddr, end: VirtAddr): VmArea {
  const { mm } = vma;
  const part = (mm.trimmed ??= new VmArea(mm, 0, 0, 0, 0));
  part.start = start;
  part.end = end;
  part.flags = vma.flags;
  part.pgoff = vma.pgoff + (start - vma.start) / PAGE_SIZE;
  part.file = vma.file;
  part.anonVma = vma.anonVma;
  part.droppable = vma.droppable;
  mm.single[0] = part;
  return part;
}
