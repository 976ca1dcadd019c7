/**
 * Pages of user space for the kernel: brought in as an access of the program would, with the same rights, and without
 * one.
 *
 * @linux mm/gup.c
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_ACCESSED, PTE_DIRTY, PTE_PS, PTE_RW } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { PG_ANON, PG_ANON_EXCLUSIVE, PG_DIRTY, compoundHead } from '@pagelab/mm-core';
import type { MmStruct } from './mm-struct.ts';
import { isCowMapping } from './copy-page-range.ts';
import {
  FAULT_FLAG_ALLOW_RETRY,
  FAULT_FLAG_RESTARTED,
  FAULT_FLAG_UNSHARE,
  FAULT_FLAG_WRITE,
  VM_FAULT_ERROR,
  VM_FAULT_OOM,
  VM_FAULT_RETRY,
} from './fault-flags.ts';
import { handleMmFault } from './page-fault.ts';
import { markPageAccessed, setPageDirty } from './page-cache.ts';
import { entryHi } from './pgtable-shape.ts';
import { findLeaf, leafLo } from './pgtable.ts';
import { PTE_MAPS, PTE_SPECIAL, pfnOf } from './pte.ts';
import { folioMarkAccessed } from './swap.ts';
import {
  VM_ACCESS_FLAGS,
  VM_IO,
  VM_LOCKONFAULT,
  VM_MAYREAD,
  VM_PFNMAP,
  VM_READ,
  VM_SHARED,
  VM_WRITE,
} from './vma.ts';
import type { VmArea } from './vma.ts';
import type { Vm } from './vm.ts';

/** The page is to be written. @linux include/linux/mm_types.h:FOLL_WRITE */
export const FOLL_WRITE = 0x1;
/**
 * Rights that the mapping has not now, but may have, do: a private page is copied, not written where it is read-only.
 */
export const FOLL_FORCE = 0x8;
/** A reference is kept for a while: what is read does not change meanwhile, so a page shared over `fork` is copied. */
const FOLL_PIN = 0x8_0000;
/** The page is brought in and nothing else: nobody asks for its frame. */
const FOLL_FAULTIN = 0x20_0000;
/** A fault that had to wait is made anew. @linux mm/internal.h:FOLL_UNLOCKABLE */
const FOLL_UNLOCKABLE = 0x4_0000;
/** The same, but the caller begins where it was: it counts as one that did not wait. */
const FOLL_RESTART = 0x10_0000;

/**
 * Brings in every page of [start, end), as `mlock` and MAP_POPULATE want them: private writable mappings get pages of
 * their own, all else is read. Holes between mappings, mappings of devices and, with LOCKONFAULT, all pages are passed
 * over.
 *
 * @returns 0; −errno of the first page that failed, with nothing done behind it: −EFAULT where the mapping has no
 *   rights, a guard page or the end of the file is met, −ENOMEM
 * @linux mm/gup.c:__mm_populate
 */
export function populateRange(mm: MmStruct, start: VirtAddr, end: VirtAddr): number {
  let vma = mm.vmas.find(start);
  while (vma !== undefined && vma.start < end) {
    if ((vma.flags & (VM_IO | VM_PFNMAP)) === 0) {
      const error = populateVmaRange(vma, Math.max(start, vma.start), Math.min(end, vma.end));
      if (error !== 0) return error;
    }
    vma = mm.vmas.find(vma.end);
  }
  return 0;
}

/**
 * As {@link populateRange}, within one mapping.
 *
 * @linux mm/gup.c:populate_vma_page_range
 */
export function populateVmaRange(vma: VmArea, start: VirtAddr, end: VirtAddr): number {
  const { flags } = vma;
  if ((flags & VM_LOCKONFAULT) !== 0) return 0;
  let follow = (flags & (VM_WRITE | VM_SHARED)) === VM_WRITE ? FOLL_WRITE : 0;
  if ((flags & VM_ACCESS_FLAGS) !== 0) follow |= FOLL_FORCE;
  return faultInRange(vma, start, end, follow | FOLL_UNLOCKABLE | FOLL_RESTART);
}

/**
 * MADV_POPULATE_READ and MADV_POPULATE_WRITE: makes the pages of [start, end), inside one mapping, readable or writable
 * without a further fault.
 *
 * @returns 0, −EINVAL where the mapping does not allow it, −EFAULT, −ENOMEM
 * @linux mm/gup.c:faultin_page_range
 */
export function faultInPages(vma: VmArea, start: VirtAddr, end: VirtAddr, write: boolean): number {
  const follow = (write ? FOLL_WRITE : 0) | FOLL_UNLOCKABLE;
  if (!mayFollow(vma, follow)) return -Errno.EINVAL;
  return faultInRange(vma, start, end, follow);
}

function faultInRange(vma: VmArea, start: VirtAddr, end: VirtAddr, follow: number): number {
  if (!mayFollow(vma, follow)) return -Errno.EFAULT;
  for (let addr = start; addr < end; addr += PAGE_SIZE) {
    const pfn = followOrFault(vma, addr, follow | FOLL_FAULTIN);
    if (pfn < 0) return pfn;
  }
  return 0;
}

/**
 * Pins pages of an address space, for whoever `by` acts for: the faults that it takes count there.
 *
 * @param addr of the first, page-aligned
 * @param pages gets the frames, each but the zero page with a reference: {@link unpinUserPages} gives them back
 * @returns how many pages from the first on could be brought in; −errno where that is none: −EFAULT, −ENOMEM
 * @linux mm/gup.c:pin_user_pages_remote
 */
export function pinUserPagesRemote(
  by: MmStruct,
  mm: MmStruct,
  addr: VirtAddr,
  nrPages: number,
  write: boolean,
  pages: Pfn[],
): number {
  const { minFlt, majFlt } = mm;
  const follow = (write ? FOLL_WRITE : 0) | FOLL_UNLOCKABLE | FOLL_PIN;
  pages.length = 0;
  let error = 0;
  while (pages.length < nrPages) {
    const pfn = getUserPageFlags(mm, addr + pages.length * PAGE_SIZE, follow);
    if (pfn < 0) {
      error = pfn;
      break;
    }
    if (pfn !== mm.vm.zeroPfn) mm.vm.pages.getPage(pfn);
    pages.push(pfn);
  }
  if (by !== mm) {
    by.minFlt += mm.minFlt - minFlt;
    by.majFlt += mm.majFlt - majFlt;
    mm.minFlt = minFlt;
    mm.majFlt = majFlt;
  }
  return pages.length === 0 ? error : pages.length;
}

/** Gives back the references to pages that were pinned. @linux mm/gup.c:unpin_user_pages */
export function unpinUserPages(vm: Vm, pages: Pfn[]): void {
  for (const pfn of pages) if (pfn !== vm.zeroPfn) vm.pages.putPage(pfn);
  pages.length = 0;
}

/**
 * The frame behind an address, brought in as an access would. No reference is taken.
 *
 * @param follow `FOLL_…` flags
 * @returns −EFAULT where nothing is mapped or the mapping does not allow it, −ENOMEM
 * @linux mm/gup.c:get_user_pages
 */
export function getUserPageFlags(mm: MmStruct, addr: VirtAddr, follow: number): Pfn {
  if (!(addr >= 0 && addr < mm.taskSize)) return -Errno.EFAULT;
  const page = addr - (addr & (PAGE_SIZE - 1));
  const vma = mm.vmas.get(page);
  if (vma === undefined || !mayFollow(vma, follow)) return -Errno.EFAULT;
  return followOrFault(vma, page, follow);
}

/**
 * Takes a reference to the page at an address, brought in as a read would, for longer than a call: {@link releaseUserPage}
 * gives it back. The program goes on storing to it.
 *
 * @returns the frame; −EFAULT where nothing is mapped that may be read, −ENOMEM
 * @linux mm/gup.c:get_user_pages_fast
 */
export function holdUserPage(mm: MmStruct, addr: VirtAddr): Pfn {
  const { vm } = mm;
  const pfn = getUserPageFlags(mm, addr, 0);
  if (pfn < 0 || pfn === vm.zeroPfn) return pfn;
  const head = compoundHead(vm.frames, pfn);
  vm.pages.getPage(head);
  vm.heldPages.set(head, (vm.heldPages.get(head) ?? 0) + 1);
  return pfn;
}

/** Gives back what {@link holdUserPage} took. @linux include/linux/mm.h:put_page */
export function releaseUserPage(vm: Vm, pfn: Pfn): void {
  if (pfn === vm.zeroPfn) return;
  const head = compoundHead(vm.frames, pfn);
  const held = vm.heldPages.get(head)! - 1;
  if (held === 0) vm.heldPages.delete(head);
  else vm.heldPages.set(head, held);
  vm.pages.putPage(head);
}

/** Whether the mapping lets the kernel at its pages this way. @linux mm/gup.c:check_vma_flags */
function mayFollow(vma: VmArea, follow: number): boolean {
  const { flags } = vma;
  if ((flags & (VM_IO | VM_PFNMAP)) !== 0) return false;
  const forced = (follow & FOLL_FORCE) !== 0;
  if ((follow & FOLL_WRITE) !== 0) return (flags & VM_WRITE) !== 0 || (forced && isCowMapping(flags));
  return (flags & VM_READ) !== 0 || (forced && (flags & VM_MAYREAD) !== 0);
}

/**
 * The frame at `addr`; what the entry does not allow yet is faulted in. −errno where that fails.
 *
 * @linux mm/gup.c:__get_user_pages
 */
function followOrFault(vma: VmArea, addr: VirtAddr, follow: number): Pfn {
  const { mm } = vma;
  const { tables } = mm.vm;
  const { i32 } = mm.vm.ram;
  const write = (follow & FOLL_WRITE) !== 0;
  const faultFlags =
    (write ? FAULT_FLAG_WRITE : 0) |
    ((follow & FOLL_UNLOCKABLE) !== 0 ? FAULT_FLAG_ALLOW_RETRY : 0) |
    ((follow & FOLL_RESTART) !== 0 ? FAULT_FLAG_RESTARTED : 0);
  for (;;) {
    const entry = findLeaf(mm, addr);
    if (entry >= 0) {
      const lo = leafLo(tables, i32[entry], addr);
      const hi = entryHi(i32, entry, tables.entryWords);
      if ((lo & PTE_MAPS) !== 0 && (!write || mayWriteThrough(vma, lo, hi))) {
        const pfn = pfnOf(lo, hi);
        if (!write && (follow & FOLL_PIN) !== 0 && mustUnshare(mm.vm, pfn)) {
          const fault = handleMmFault(vma, addr, (faultFlags & ~FAULT_FLAG_WRITE) | FAULT_FLAG_UNSHARE);
          if ((fault & VM_FAULT_ERROR) !== 0) return (fault & VM_FAULT_OOM) !== 0 ? -Errno.ENOMEM : -Errno.EFAULT;
          continue;
        }
        // Whoever asks for a frame is going to write past the page tables, which note nothing then.
        if (write && ((lo & PTE_DIRTY) === 0 || (follow & FOLL_FAULTIN) === 0)) markWritten(mm.vm, pfn);
        if ((i32[entry] & PTE_PS) !== 0) i32[entry] |= PTE_ACCESSED;
        else if ((lo & PTE_SPECIAL) === 0) touchPage(vma, pfn);
        return pfn;
      }
    }
    const fault = handleMmFault(vma, addr, faultFlags);
    if ((fault & VM_FAULT_RETRY) !== 0) {
      // Somebody was waited for, and may have mapped something else here.
      const now = mm.vmas.get(addr);
      return now === undefined || !mayFollow(now, follow) ? -Errno.EFAULT : followOrFault(now, addr, follow);
    }
    if ((fault & VM_FAULT_ERROR) !== 0) return (fault & VM_FAULT_OOM) !== 0 ? -Errno.ENOMEM : -Errno.EFAULT;
  }
}

/** Whether a page that is to be pinned has to become the address space's own first. @linux include/linux/mm.h:gup_must_unshare */
function mustUnshare(vm: Vm, pfn: Pfn): boolean {
  const flags = vm.frames.flags[pfn];
  return (flags & PG_ANON) !== 0 && (flags & PG_ANON_EXCLUSIVE) === 0;
}

/** Notes that the kernel uses a page. @linux include/linux/mm_types.h:FOLL_TOUCH */
function touchPage(vma: VmArea, pfn: Pfn): void {
  const { vm } = vma.mm;
  if ((vm.frames.flags[pfn] & PG_ANON) !== 0) folioMarkAccessed(vm, pfn);
  else markPageAccessed(vm, vma.file!.inode.mapping, vm.frames.index[pfn]);
}

/** @linux mm/page-writeback.c:folio_mark_dirty */
function markWritten(vm: Vm, pfn: Pfn): void {
  const { flags } = vm.frames;
  if ((flags[pfn] & PG_ANON) !== 0) flags[compoundHead(vm.frames, pfn)] |= PG_DIRTY;
  else setPageDirty(vm, pfn);
}

/**
 * Whether a page can be written as it is mapped. By force a read-only private mapping can once it has a page of its
 * own.
 *
 * @linux mm/gup.c:can_follow_write_pte
 */
function mayWriteThrough(vma: VmArea, lo: number, hi: number): boolean {
  if ((lo & PTE_RW) !== 0) return true;
  if ((vma.flags & VM_WRITE) !== 0 || (lo & PTE_SPECIAL) !== 0) return false;
  const pageFlags = vma.mm.vm.frames.flags[pfnOf(lo, hi)];
  return (pageFlags & PG_ANON) !== 0 && (pageFlags & PG_ANON_EXCLUSIVE) !== 0;
}
