/**
 * Address spaces coming and going: empty, copied by `fork`, torn down with their last task.
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import { GFP_KERNEL, GFP_KERNEL_ACCOUNT } from '@pagelab/mm-core';
import { anonVmaFork } from './anon-vma.ts';
import { copyPageRange } from './copy-page-range.ts';
import { ksmEnter, ksmExit } from './ksm.ts';
import { updateHiwaterVm, vmStatAccount } from './limits.ts';
import { MmStruct } from './mm-struct.ts';
import type { MmLimits } from './mm-struct.ts';
import { vmEnoughMemory, vmUnacctMemory } from './overcommit.ts';
import { pgdAlloc, pgdFree } from './pgtable.ts';
import { fileGet } from './open-file.ts';
import { uffdFork, uffdForked } from './userfault-events.ts';
import type { UffdContext } from './userfaultfd.ts';
import type { Vm } from './vm.ts';
import {
  freeMapleNodes,
  linkFileVma,
  removeVma,
  vmAreaDup,
  vmaLink,
  vmaPages,
  vmaReserve,
} from './vma-tree.ts';
import { VM_ACCOUNT, VM_DONTCOPY, VM_LOCKED_MASK, VM_NOHUGEPAGE, VM_UFFD_MISSING, VM_UFFD_WP, VM_WIPEONFORK } from './vma.ts';
import type { VmArea } from './vma.ts';
import { mmRss, unmapRegion, updateHiwaterRss } from './zap.ts';

/** Anonymous pages, those of files and of shared memory, swap entries: a number of each, of 4 bytes. @linux include/linux/mm_types_task.h:NR_MM_COUNTERS */
const NR_MM_COUNTERS = 4;
const COUNTER_BYTES = 4;

/** What new mappings get from the parent's settings. @linux include/linux/mm.h:VM_INIT_DEF_MASK */
const VM_INIT_DEF_MASK = VM_NOHUGEPAGE;

/**
 * Makes an empty address space with one user.
 *
 * @returns it, or -ENOMEM
 * @linux kernel/fork.c:mm_alloc
 */
export function mmAlloc(vm: Vm, limits: MmLimits): MmStruct | number {
  const object = vm.caches.mm.alloc(GFP_KERNEL);
  if (object === 0) return -Errno.ENOMEM;
  const mm = new MmStruct(vm, limits);
  mm.object = object;
  mm.taskSize = vm.tables.taskSize;
  if (pgdAlloc(mm) !== 0 || !allocRssCounters(mm)) {
    mmFree(mm);
    return -Errno.ENOMEM;
  }
  return mm;
}

/** @linux lib/percpu_counter.c:__percpu_counter_init_many */
function allocRssCounters(mm: MmStruct): boolean {
  const { percpu } = mm.vm;
  if (percpu === null) return true;
  mm.rssCounters = percpu.alloc(NR_MM_COUNTERS * COUNTER_BYTES, COUNTER_BYTES, GFP_KERNEL_ACCOUNT);
  return mm.rssCounters !== 0;
}

/** Frees an address space without mappings. @linux kernel/fork.c:free_mm */
function mmFree(mm: MmStruct): void {
  const { vm } = mm;
  if (mm.pgd >= 0) pgdFree(mm);
  if (mm.rssCounters !== 0) vm.percpu!.free(mm.rssCounters);
  mm.rssCounters = 0;
  vm.mms.free(mm.id);
  vm.caches.mm.free(mm.object);
  mm.object = 0;
}

/**
 * Makes a copy of an address space: the same mappings, and private pages shared until one side stores. Costs a step a
 * mapping and one a resident private page.
 *
 * @param limits limits of the task that is to run in it
 * @returns it, with one user; -ENOMEM with nothing left behind
 * @linux kernel/fork.c:dup_mm
 */
export function dupMm(oldMm: MmStruct, limits: MmLimits): MmStruct | number {
  const mm = mmAlloc(oldMm.vm, limits);
  if (typeof mm === 'number') return mm;
  mm.taskSize = oldMm.taskSize;
  mm.is32Bit = oldMm.is32Bit;
  mm.mmapBase = oldMm.mmapBase;
  mm.mmapLegacyBase = oldMm.mmapLegacyBase;
  mm.legacyLayout = oldMm.legacyLayout;
  mm.startCode = oldMm.startCode;
  mm.endCode = oldMm.endCode;
  mm.startData = oldMm.startData;
  mm.endData = oldMm.endData;
  mm.startBrk = oldMm.startBrk;
  mm.brk = oldMm.brk;
  mm.startStack = oldMm.startStack;
  inheritMemoryFlags(mm, oldMm);
  mm.defFlags = oldMm.defFlags & VM_INIT_DEF_MASK;
  const err = oldMm.mergeable && !ksmEnter(mm) ? -Errno.ENOMEM : dupMmap(mm, oldMm);
  // The parent's private pages lost their write right: one flush for all mappings.
  oldMm.vm.smp.flushTlbMm(oldMm.pgd * PAGE_SIZE);
  if (err !== 0) {
    mmput(mm);
    return err;
  }
  mm.hiwaterRss = mmRss(mm);
  mm.hiwaterVm = mm.totalVm;
  return mm;
}

/** What passes to a child, and to the next program. @linux include/linux/mm_types.h:MMF_INIT_LEGACY_MASK */
export function inheritMemoryFlags(mm: MmStruct, oldMm: MmStruct): void {
  mm.mergeAny = oldMm.mergeAny;
  mm.thpDisable = oldMm.thpDisable;
}

/** @linux mm/mmap.c:dup_mmap */
function dupMmap(mm: MmStruct, oldMm: MmStruct): number {
  if (vmaReserve(mm, oldMm.mapCount) !== 0) return -Errno.ENOMEM;
  const forked = new Map<UffdContext, UffdContext>();
  const { vmas } = oldMm;
  for (let position = vmas.locate(-Infinity); position >= 0; position = vmas.after(position)) {
    const vma = vmas.valueAt(position)!;
    if ((vma.flags & VM_DONTCOPY) !== 0) continue;
    const err = dupVma(mm, vma, forked);
    if (err !== 0) return err;
  }
  uffdForked(mm.vm, forked);
  return 0;
}

/** Gives `mm` a copy of a parent's mapping and of its pages. Whatever it made before it failed is in the tree. */
function dupVma(mm: MmStruct, vma: VmArea, forked: Map<UffdContext, UffdContext>): number {
  const { vm } = mm;
  const nrPages = vmaPages(vma);
  const charged = (vma.flags & VM_ACCOUNT) !== 0;
  if (charged && vmEnoughMemory(vm, vma.mm, nrPages) !== 0) return -Errno.ENOMEM;
  const copy = vmAreaDup(vma, mm);
  if (copy === null) {
    if (charged) vmUnacctMemory(vm, nrPages);
    return -Errno.ENOMEM;
  }
  copy.flags &= ~VM_LOCKED_MASK;
  // What was promised was promised to the parent.
  copy.resv = null;
  copy.uffd = vma.uffd === null ? null : uffdFork(vma.uffd, mm, forked);
  if (copy.uffd === null) {
    copy.uffdMinor = false;
    copy.flags &= ~(VM_UFFD_MISSING | VM_UFFD_WP);
  }
  if (vma.file !== null) linkFileVma(copy, fileGet(vma.file));
  const wiped = (copy.flags & VM_WIPEONFORK) !== 0;
  if (!wiped && anonVmaFork(copy, vma) !== 0) {
    removeVma(copy);
    if (charged) vmUnacctMemory(vm, nrPages);
    return -Errno.ENOMEM;
  }
  vmaLink(copy);
  vmStatAccount(mm, copy.flags, nrPages);
  return wiped ? 0 : copyPageRange(copy, vma);
}

/** Drops a user; the last one takes all mappings, pages and tables along. @linux kernel/fork.c:mmput */
export function mmput(mm: MmStruct): void {
  if (--mm.users > 0) return;
  if (mm.mergeable) ksmExit(mm);
  exitMmap(mm);
  mm.vm.hugeZero.put(mm);
  mmFree(mm);
}

/**
 * Takes all mappings away.
 *
 * @linux mm/mmap.c:exit_mmap
 */
export function exitMmap(mm: MmStruct): void {
  const { detached, vmas } = mm;
  updateHiwaterVm(mm);
  updateHiwaterRss(mm);
  for (let position = vmas.locate(-Infinity); position >= 0; position = vmas.after(position)) {
    detached.push(vmas.valueAt(position)!);
  }
  vmas.clear();
  mm.mapCount = 0;
  if (detached.length > 0) unmapRegion(mm, detached, 0, mm.taskSize, 0, 0);
  let accounted = 0;
  for (let i = 0; i < detached.length; i++) {
    const vma = detached[i];
    const nrPages = vmaPages(vma);
    if ((vma.flags & VM_ACCOUNT) !== 0) accounted += nrPages;
    vmStatAccount(mm, vma.flags, -nrPages);
    removeVma(vma);
  }
  detached.length = 0;
  mm.lockedVm = 0;
  vmUnacctMemory(mm.vm, accounted);
  freeMapleNodes(mm);
}
