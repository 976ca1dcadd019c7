/**
 * A write to a page that is there but write-protected: copy on write, and the cases in which nothing needs to be copied.
 *
 * @linux mm/memory.c:do_wp_page
 */
import { isKsmZero, unmapKsmZero } from './ksm-page.ts';
import { PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_ACCESSED, PTE_DIRTY, PTE_RW, PTE_UFFD_WP_LO, pteHi, pteLo } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import {
  GFP_HIGHUSER_MOVABLE,
  PG_ANON,
  PG_ANON_EXCLUSIVE,
  PG_HEAD,
  PG_KSM,
  PG_LOCKED,
  PG_SWAPCACHE,
  PG_TAIL,
  VM_EVENT,
  __GFP_ZERO,
  compoundHead,
} from '@pagelab/mm-core';
import { allocUserPage, setAnonEntry } from './anon-fault.ts';
import { anonVmaPrepare } from './anon-vma.ts';
import { FAULT_FLAG_UNSHARE, VM_FAULT_OOM } from './fault-flags.ts';
import { announceStore, faultOf } from './file-fault.ts';
import { copyUserPage } from './highmem.ts';
import { takeOverPart } from './huge-memory.ts';
import { MM_ANONPAGES } from './mm-struct.ts';
import { setPageDirty } from './page-cache.ts';
import { entryHi, setEntry } from './pgtable-shape.ts';
import { PTE_SPECIAL, pageProtHi, pageProtLo, pfnOf } from './pte.ts';
import { addNewAnonRmap, mmCounter, removeRmap } from './rmap.ts';
import { folioAddLru } from './swap.ts';
import { folioFreeSwap } from './swapfile.ts';
import { WP_REASON, handleUserfault, isUffdAsync } from './userfaultfd.ts';
import type { Vm } from './vm.ts';
import { VM_MAYSHARE, VM_SHARED, VM_UFFD_WP, VM_WRITE } from './vma.ts';
import type { VmArea } from './vma.ts';

/**
 * A write to a page that is there but write-protected: the page is taken over where nobody else can see it, and copied
 * otherwise; a page of a shared mapping just becomes writable.
 *
 * @linux mm/memory.c:do_wp_page
 */
export function serveWriteProtected(
  vma: VmArea,
  address: VirtAddr,
  faultFlags: number,
  entry: number,
  lo: number,
  hi: number,
): number {
  const { vm } = vma.mm;
  const { flags } = vm.frames;
  const unshare = (faultFlags & FAULT_FLAG_UNSHARE) !== 0;
  if (!unshare && (lo & PTE_UFFD_WP_LO) !== 0 && (vma.flags & VM_UFFD_WP) !== 0) {
    if (!isUffdAsync(vma)) return handleUserfault(vma, address, faultFlags, WP_REASON);
    vm.ram.i32[entry] = lo & ~PTE_UFFD_WP_LO;
    return serveWriteProtected(vma, address, faultFlags, entry, lo & ~PTE_UFFD_WP_LO, hi);
  }
  const pfn = (lo & PTE_SPECIAL) === 0 ? pfnOf(lo, hi) : -1;
  if ((vma.flags & (VM_SHARED | VM_MAYSHARE)) !== 0) {
    if (pfn >= 0) {
      const error = announceStore(vma, address);
      if (error !== 0) return faultOf(error);
      setPageDirty(vm, pfn);
    }
    reuseEntry(vma, entry, lo, hi);
    return 0;
  }
  if (pfn >= 0 && (flags[pfn] & PG_ANON) !== 0) {
    if ((flags[pfn] & PG_ANON_EXCLUSIVE) !== 0 || takeOver(vma, pfn)) {
      if (!unshare) reuseEntry(vma, entry, lo, hi);
      return 0;
    }
  }
  return copyPage(vma, address, entry, pfn, unshare);
}

/** Writes the entry of a private page that was copied so that it can be pinned: as protected, and as clean, as it was. */
function setUnshared({ ram, tables }: Vm, entry: number, pfn: Pfn, vmFlags: number): void {
  const softDirty = entryHi(ram.i32, entry, tables.entryWords) & tables.softDirtyHi;
  const lo = pteLo(pfn, pageProtLo(vmFlags));
  setEntry(ram.i32, entry, tables.entryWords, lo, pteHi(pfn, pageProtHi(vmFlags) | softDirty));
}

/**
 * Whether an anonymous page that was shared over `fork` has this one holder left; it is the VMA's own from then on.
 *
 * @linux mm/memory.c:wp_can_reuse_anon_folio
 */
function takeOver(vma: VmArea, pfn: Pfn): boolean {
  const { frames } = vma.mm.vm;
  if ((frames.flags[pfn] & (PG_HEAD | PG_TAIL)) !== 0) return takeOverPart(vma, pfn);
  const { flags, refcount } = frames;
  if (refcount[pfn] > 2 || (flags[pfn] & (PG_KSM | PG_LOCKED)) !== 0) return false;
  if (refcount[pfn] === 2 && !((flags[pfn] & PG_SWAPCACHE) !== 0 && folioFreeSwap(vma.mm.vm, pfn))) return false;
  frames.mapping[pfn] = vma.anonVma!.id;
  frames.flags[pfn] |= PG_ANON_EXCLUSIVE;
  return true;
}

/**
 * Makes an entry writable in place. No flush: a CPU that still has the old rights faults and looks again.
 *
 * @linux mm/memory.c:wp_page_reuse
 */
function reuseEntry(vma: VmArea, entry: number, lo: number, hi: number): void {
  const { vm } = vma.mm;
  const { entryWords, softDirtyHi } = vm.tables;
  const writable = (vma.flags & VM_WRITE) !== 0 ? PTE_RW : 0;
  setEntry(vm.ram.i32, entry, entryWords, lo | PTE_ACCESSED | PTE_DIRTY | writable, hi | softDirtyHi);
  vm.pages.events[VM_EVENT.PGREUSE]++;
}

/**
 * Replaces what a private entry shows, `pfn` or, at −1, the zero page, by a copy: writable, and dirty, but where it was only
 * to become the address space's own.
 *
 * @linux mm/memory.c:wp_page_copy
 */
function copyPage(vma: VmArea, address: VirtAddr, entry: number, pfn: Pfn, unshare: boolean): number {
  const { mm } = vma;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const lo = i32[entry];
  if (pfn >= 0 && (vm.frames.flags[pfn] & PG_KSM) !== 0) vm.pages.events[VM_EVENT.COW_KSM]++;
  // Getting memory may come to take this very page: it is held meanwhile, and the fault is made anew if it left.
  const { refcount } = vm.frames;
  const head = pfn < 0 ? -1 : compoundHead(vm.frames, pfn);
  if (head >= 0) refcount[head]++;
  const copy =
    vma.anonVma === null && anonVmaPrepare(vma) !== 0
      ? -1
      : allocUserPage(vma, address, pfn < 0 ? GFP_HIGHUSER_MOVABLE | __GFP_ZERO : GFP_HIGHUSER_MOVABLE);
  if (copy < 0 || i32[entry] !== lo) {
    if (pfn >= 0) vm.pages.putPage(pfn);
    if (copy < 0) return VM_FAULT_OOM;
    vm.pages.freePage(copy);
    return 0;
  }
  // The entry still holds it.
  if (head >= 0) refcount[head]--;
  if (pfn < 0) {
    mm.rss[MM_ANONPAGES]++;
    if (isKsmZero(lo)) unmapKsmZero(mm);
  } else {
    copyUserPage(vm, copy, pfn);
    vm.clock.advance(vm.costs.copyPage);
    const kind = mmCounter(vm.frames.flags[pfn]);
    if (kind !== MM_ANONPAGES) {
      mm.rss[kind]--;
      mm.rss[MM_ANONPAGES]++;
    }
  }
  addNewAnonRmap(vm, copy, vma, address);
  folioAddLru(vm, copy);
  if (unshare) setUnshared(vm, entry, copy, vma.flags);
  else setAnonEntry(vm, entry, copy, vma.flags);
  vm.smp.flushTlbRange(mm.pgd * PAGE_SIZE, address, address + PAGE_SIZE);
  if (pfn >= 0) {
    removeRmap(vm, pfn, vma);
    vm.pages.putPage(pfn);
    if (vm.deferredSplit.hasUncounted) vm.deferredSplit.count();
  }
  return 0;
}
