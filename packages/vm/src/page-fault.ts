/**
 * What happens when an address is touched that the page tables do not let through: the only way from what a mapping
 * promises to a page that is there.
 *
 * Anonymous memory that is only read shows the zero page, the same for all; the first write takes a frame of its own.
 * A private page that others may still see is copied by the first write (copy on write) unless the writer is the last
 * that holds it. Pages of files and shared memory come from the file's `getPage`.
 *
 * @linux mm/memory.c, arch/x86/mm/fault.c
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import {
  PF_INSTR,
  PF_USER,
  PF_PROT,
  PF_WRITE,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_PS,
  PTE_RW,
  PTE_UFFD_WP_LO,
  pteHi,
  pteLo,
} from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import {
  GFP_HIGHUSER_MOVABLE,
  PG_ANON,
  PG_ANON_EXCLUSIVE,
  PG_DIRTY,
  PG_HEAD,
  PG_KSM,
  PG_LOCKED,
  PG_SWAPCACHE,
  PG_TAIL,
  PG_UPTODATE,
  VM_EVENT,
  __GFP_ZERO,
} from '@pagelab/mm-core';
import { anonVmaPrepare } from './anon-vma.ts';
import type { AddressSpace } from './file.ts';
import { copyUserPage } from './highmem.ts';
import { countDeferredSplits, serveHugeMissing, serveHugePresent, takeOverPart } from './huge-memory.ts';
import { hugetlbNoPage, hugetlbPresent } from './hugetlb-fault.ts';
import { vmaAllocPages } from './mempolicy.ts';
import { MM_ANONPAGES } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { clearEntry, entryHi, pteIndexOf, setEntry } from './pgtable-shape.ts';
import { balanceDirtyPages } from './page-writeback.ts';
import { allocPmd, allocPteBelow, pteOffset, tableBelow } from './pgtable.ts';
import { PG_READAHEAD, folioOrder, setPageDirty } from './page-cache.ts';
import { MARKER_POISONED, MARKER_UFFD_WP, PTE_MAPS, PTE_SPECIAL, markerHi, markerLo, markerOf, pageProtHi, pageProtLo, pfnOf, vmaProtLo } from './pte.ts';
import { addFileRmap, addNewAnonRmap, linearPageIndex, mmCounter, removeRmap } from './rmap.ts';
import { expandStack } from './stack.ts';
import { WP_REASON, handleUserfault, userfaultReason } from './userfaultfd.ts';
import { VM_ACCESS_FLAGS, VM_GROWSDOWN, VM_HUGETLB, VM_MAYSHARE, VM_SHARED, VM_UFFD_WP, VM_WRITE } from './vma.ts';
import { SWAP_WRITE_PROTECTED, serveSwap } from './swap-fault.ts';
import { folioAddLru } from './swap.ts';
import { folioFreeSwap } from './swapfile.ts';
import { pteToSwp } from './swapops.ts';
import type { Vm } from './vm.ts';
import { runKswapds } from './vmscan.ts';
import type { VmArea } from './vma.ts';

/** The access can be tried again. */
export const FAULT_OK = 0;
/** SIGSEGV, SEGV_MAPERR: nothing is mapped there, or nothing that may be touched. */
export const FAULT_MAPERR = 1;
/** SIGSEGV, SEGV_ACCERR: the mapping does not allow it. */
export const FAULT_ACCERR = 2;
/** SIGBUS, BUS_ADRERR: beyond the end of the object behind the mapping, or an I/O error. */
export const FAULT_SIGBUS = 3;
/** There is no memory, and nothing could be killed for it. */
export const FAULT_OOM = 4;
/** SIGBUS, BUS_MCEERR_AR: the page is broken, or was said to be. */
export const FAULT_HWPOISON = 5;

/** What an access wants, for {@link handleMmFault}. @linux include/linux/mm_types.h:fault_flag */
export const FAULT_FLAG_WRITE = 0x1;
export const FAULT_FLAG_USER = 0x40;
export const FAULT_FLAG_REMOTE = 0x80;
export const FAULT_FLAG_INSTRUCTION = 0x100;
/** The page gets pinned: a shared anonymous one becomes the address space's own first, and stays write-protected. */
export const FAULT_FLAG_UNSHARE = 0x400;
/** A fault that has to wait starts over: what it waited for may have brought in more. @linux include/linux/mm_types.h:FAULT_FLAG_ALLOW_RETRY */
export const FAULT_FLAG_ALLOW_RETRY = 0x4;
/** The caller starts over by itself after a wait: its second fault, which does not wait, is the one that counts. */
export const FAULT_FLAG_RESTARTED = 0x1000;

/** What {@link handleMmFault} answers, combined. @linux include/linux/mm_types.h:vm_fault_reason */
export const VM_FAULT_OOM = 0x1;
export const VM_FAULT_SIGBUS = 0x2;
export const VM_FAULT_MAJOR = 0x4;
export const VM_FAULT_SIGSEGV = 0x40;
/** The entry is in place. */
export const VM_FAULT_NOPAGE = 0x100;
/** A huge page cannot serve it; small ones may. */
export const VM_FAULT_FALLBACK = 0x800;
export const VM_FAULT_HWPOISON = 0x10;
/** Somebody was waited for: what is mapped may have changed, and has to be looked up again. */
export const VM_FAULT_RETRY = 0x400;
/** Any of these, and the fault was not served. */
export const VM_FAULT_ERROR = VM_FAULT_OOM | VM_FAULT_SIGBUS | VM_FAULT_SIGSEGV | VM_FAULT_HWPOISON;

/**
 * Pages of a file that one read fault maps at most, if they are cached already.
 *
 * @linux mm/memory.c:fault_around_pages
 */
export const FAULT_AROUND_PAGES = 16;

/**
 * Serves a page fault of user mode.
 *
 * A stack grows here, if the address lies below it. Faults are counted in `mm.minFlt` and `mm.majFlt`;
 * `vm.lastFaultMajor` tells of the last one.
 *
 * @param address as CR2 has it, not aligned; a kernel address is refused
 * @param errorCode `PF_…` bits as the CPU pushes them
 * @returns {@link FAULT_OK}, or what to raise: `FAULT_…`
 * @linux arch/x86/mm/fault.c:do_user_addr_fault
 */
export function handlePageFault(mm: MmStruct, address: VirtAddr, errorCode: number): number {
  const { trace, tracePageFaultUser } = mm.vm;
  if (trace.enabled) trace.emit(tracePageFaultUser, address, errorCode);
  if (!(address >= 0 && address < mm.taskSize)) return FAULT_MAPERR;
  const page = address - (address & (PAGE_SIZE - 1));
  const vma = mm.vmas.find(page);
  if (vma === undefined) return FAULT_MAPERR;
  if (page < vma.start) {
    if ((vma.flags & VM_GROWSDOWN) === 0 || expandStack(vma, page) !== 0) return FAULT_MAPERR;
  }
  if (!accessAllowed(vma.flags, errorCode)) return FAULT_ACCERR;

  let flags = FAULT_FLAG_ALLOW_RETRY;
  if ((errorCode & PF_USER) !== 0) flags |= FAULT_FLAG_USER;
  if ((errorCode & PF_WRITE) !== 0) flags |= FAULT_FLAG_WRITE;
  if ((errorCode & PF_INSTR) !== 0) flags |= FAULT_FLAG_INSTRUCTION;
  if (vma.uffd !== null) mm.vm.faultAddress = address;
  const fault = handleMmFault(vma, page, flags);
  if (mm.vm.reclaim.kswapdPending) runKswapds(mm.vm);
  if ((fault & (VM_FAULT_ERROR | VM_FAULT_RETRY)) === 0) return FAULT_OK;
  if ((fault & VM_FAULT_RETRY) !== 0) return handlePageFault(mm, address, errorCode);
  if ((fault & VM_FAULT_HWPOISON) !== 0) return FAULT_HWPOISON;
  if ((fault & VM_FAULT_OOM) !== 0) return FAULT_OOM;
  return (fault & VM_FAULT_SIGBUS) !== 0 ? FAULT_SIGBUS : FAULT_MAPERR;
}

/** @linux arch/x86/mm/fault.c:access_error */
function accessAllowed(vmFlags: number, errorCode: number): boolean {
  if ((errorCode & PF_WRITE) !== 0) return (vmFlags & VM_WRITE) !== 0;
  // A read or fetch of a page that is there failed: it is not for reading, or not for fetching.
  if ((errorCode & PF_PROT) !== 0) return false;
  return (vmFlags & VM_ACCESS_FLAGS) !== 0;
}

/**
 * Brings the page at `address` into the page tables of `vma`'s address space, as the access wants it. What the access
 * may do must have been checked.
 *
 * @param address page-aligned, inside `vma`
 * @param flags `FAULT_FLAG_…`
 * @returns `VM_FAULT_…` bits
 * @linux mm/memory.c:handle_mm_fault
 */
export function handleMmFault(vma: VmArea, address: VirtAddr, flags: number): number {
  const { mm } = vma;
  const { vm } = mm;
  vm.faultWaited = false;
  vm.faultMissed = false;
  let fault = servePage(vma, address, flags);
  if ((fault & VM_FAULT_RETRY) !== 0) return fault;
  if (vm.faultWaited && isMajor(vm, flags)) fault |= VM_FAULT_MAJOR;
  // The event counts failed faults, too; the address space's own counts do not.
  vm.pages.events[VM_EVENT.PGFAULT]++;
  vm.lastFaultMajor = (fault & VM_FAULT_MAJOR) !== 0;
  if ((fault & VM_FAULT_ERROR) === 0) {
    if ((fault & VM_FAULT_MAJOR) !== 0) mm.majFlt++;
    else mm.minFlt++;
  }
  return fault;
}

/** Whether a fault that had to wait counts as major: one of user mode only where the page was not cached at all. @linux mm/memory.c:mm_account_fault */
function isMajor(vm: Vm, flags: number): boolean {
  if ((flags & FAULT_FLAG_RESTARTED) !== 0) return false;
  return vm.faultMissed || (flags & (FAULT_FLAG_USER | FAULT_FLAG_ALLOW_RETRY)) === FAULT_FLAG_ALLOW_RETRY;
}

/** @linux mm/memory.c:handle_pte_fault */
function servePage(vma: VmArea, address: VirtAddr, flags: number): number {
  const { mm } = vma;
  const { ram, tables } = mm.vm;
  const { i32 } = ram;
  const step = tables.entryWords;
  const pmdEntry = allocPmd(mm, address);
  if (pmdEntry < 0) return VM_FAULT_OOM;
  let table = tableBelow(mm.vm, pmdEntry);
  if (table < 0) {
    if ((vma.flags & VM_HUGETLB) !== 0) return hugetlbNoPage(vma, address, flags, pmdEntry);
    if (vma.file === null && mm.vm.thpMode !== 'never') {
      const fault = serveHugeMissing(vma, address, flags, pmdEntry);
      if (fault !== VM_FAULT_FALLBACK) return fault;
    }
    return serveMissing(vma, address, flags, pmdEntry);
  }
  if ((i32[pmdEntry] & PTE_PS) !== 0) {
    if ((vma.flags & VM_HUGETLB) !== 0) return hugetlbPresent(vma, address, flags, pmdEntry);
    const fault = serveHugePresent(vma, address, flags, pmdEntry);
    if (fault !== VM_FAULT_FALLBACK) return fault;
    table = tableBelow(mm.vm, pmdEntry);
  }
  const entry = pteOffset(tables, table, address);
  const lo = i32[entry];
  const hi = entryHi(i32, entry, step);
  if ((lo | hi) === 0) return serveMissing(vma, address, flags, pmdEntry);
  if ((lo & PTE_MAPS) === 0) return serveElsewhere(vma, address, flags, pmdEntry, entry, lo, hi);
  const used = lo | PTE_ACCESSED;
  if ((flags & (FAULT_FLAG_WRITE | FAULT_FLAG_UNSHARE)) !== 0) {
    if ((lo & PTE_RW) === 0) return serveWriteProtected(vma, address, flags, entry, lo, hi);
    setEntry(i32, entry, step, used | PTE_DIRTY, hi | tables.softDirtyHi);
    return 0;
  }
  i32[entry] = used;
  return 0;
}

/** What is no page and not empty: a guard page, a page that was poisoned, one that is protected before it is there. @linux mm/memory.c:handle_pte_marker */
function serveMarker(vma: VmArea, address: VirtAddr, flags: number, pmdEntry: number, entry: number): number {
  const { vm } = vma.mm;
  const { i32 } = vm.ram;
  const step = vm.tables.entryWords;
  const marker = markerOf(vm.tables, i32[entry], entryHi(i32, entry, step));
  if (marker === MARKER_POISONED) return VM_FAULT_HWPOISON;
  if (marker !== MARKER_UFFD_WP) return VM_FAULT_SIGSEGV;
  if (vma.uffd !== null) {
    const reason = userfaultReason(vma, linearPageIndex(vma, address));
    if (reason >= 0) return handleUserfault(vma, address, flags, reason);
  }
  clearEntry(i32, entry, step);
  const fault = serveMissing(vma, address, flags, pmdEntry);
  if ((vma.flags & VM_UFFD_WP) === 0) return fault;
  // The page comes in protected; whoever stores to it faults once more. Where it did not come, the mark stays.
  if ((i32[entry] & PTE_MAPS) !== 0) i32[entry] = (i32[entry] | PTE_UFFD_WP_LO) & ~PTE_RW;
  else if (i32[entry] === 0) setEntry(i32, entry, step, markerLo(vm.tables, MARKER_UFFD_WP), markerHi(vm.tables));
  return fault;
}

/** What shows no frame is a page that was swapped out, or a marker. */
function serveElsewhere(
  vma: VmArea,
  address: VirtAddr,
  flags: number,
  pmdEntry: number,
  entry: number,
  lo: number,
  hi: number,
): number {
  const { vm } = vma.mm;
  const step = vm.tables.entryWords;
  const swp = pteToSwp(step, lo, hi);
  if (swp < 0) return serveMarker(vma, address, flags, pmdEntry, entry);
  const fault = serveSwap(vma, address, flags, entry, lo, hi, swp);
  if (fault !== SWAP_WRITE_PROTECTED) return fault;
  const { i32 } = vm.ram;
  return serveWriteProtected(vma, address, flags, entry, i32[entry], entryHi(i32, entry, step));
}

/** @linux mm/memory.c:do_pte_missing */
function serveMissing(vma: VmArea, address: VirtAddr, flags: number, pmdEntry: number): number {
  if (vma.uffd !== null) {
    const reason = userfaultReason(vma, linearPageIndex(vma, address));
    if (reason >= 0) return handleUserfault(vma, address, flags, reason);
  }
  if (vma.file === null) return serveAnonymous(vma, address, flags, pmdEntry);
  if ((flags & FAULT_FLAG_WRITE) === 0) return serveFileRead(vma, address, flags, pmdEntry);
  if ((vma.flags & VM_SHARED) === 0) return serveFileCow(vma, address, pmdEntry);
  return serveFileShared(vma, address, pmdEntry);
}

/** A page for a mapping: of any node that suits the CPU, unless somebody has a policy. @linux mm/mempolicy.c:vma_alloc_folio_noprof */
function allocUserPage(vma: VmArea, address: VirtAddr, gfp: number): Pfn {
  const { vm } = vma.mm;
  return vm.nrPolicies === 0 ? vm.pages.allocPage(gfp) : vmaAllocPages(vma, address, gfp, 0);
}

/** @linux mm/memory.c:do_anonymous_page */
function serveAnonymous(vma: VmArea, address: VirtAddr, flags: number, pmdEntry: number): number {
  const { mm } = vma;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const vmFlags = vma.flags;
  const entry = allocPteBelow(mm, pmdEntry, address);
  if (entry < 0) return VM_FAULT_OOM;
  if ((flags & FAULT_FLAG_WRITE) === 0) {
    const lo = pteLo(vm.zeroPfn, pageProtLo(vmFlags) | PTE_SPECIAL);
    setEntry(i32, entry, vm.tables.entryWords, lo, pteHi(vm.zeroPfn, pageProtHi(vmFlags)));
    return 0;
  }
  if (vma.anonVma === null && anonVmaPrepare(vma) !== 0) return VM_FAULT_OOM;
  const pfn = allocUserPage(vma, address, GFP_HIGHUSER_MOVABLE | __GFP_ZERO);
  if (pfn < 0) return VM_FAULT_OOM;
  addNewAnonRmap(vm, pfn, vma, address);
  folioAddLru(vm, pfn);
  mm.rss[MM_ANONPAGES]++;
  setAnonEntry(vm, entry, pfn, vmFlags);
  return 0;
}

/**
 * Writes the entry of a private page that only this address space has, for a write. By force that comes to a read-only
 * mapping, too: there the page is dirty, but stays protected.
 */
function setAnonEntry({ ram, tables }: Vm, entry: number, pfn: Pfn, vmFlags: number): void {
  const rights = (vmFlags & VM_WRITE) !== 0 ? PTE_RW | PTE_DIRTY : PTE_DIRTY;
  const lo = pteLo(pfn, pageProtLo(vmFlags) | rights);
  setEntry(ram.i32, entry, tables.entryWords, lo, pteHi(pfn, pageProtHi(vmFlags) | tables.softDirtyHi));
}

/** Writes the entry of a private page that was copied so that it can be pinned: as protected, and as clean, as it was. */
function setUnshared({ ram, tables }: Vm, entry: number, pfn: Pfn, vmFlags: number): void {
  const softDirty = entryHi(ram.i32, entry, tables.entryWords) & tables.softDirtyHi;
  const lo = pteLo(pfn, pageProtLo(vmFlags));
  setEntry(ram.i32, entry, tables.entryWords, lo, pteHi(pfn, pageProtHi(vmFlags) | softDirty));
}

/**
 * A write to a page that is there but write-protected: the page is taken over where nobody else can see it, and copied
 * otherwise; a page of a shared mapping just becomes writable.
 *
 * @linux mm/memory.c:do_wp_page
 */
function serveWriteProtected(
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
  if (!unshare && (lo & PTE_UFFD_WP_LO) !== 0 && (vma.flags & VM_UFFD_WP) !== 0) return handleUserfault(vma, address, faultFlags, WP_REASON);
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
  if (pfn >= 0) vm.pages.getPage(pfn);
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
  if (pfn >= 0) vm.pages.putPage(pfn);
  if (pfn < 0) {
    mm.rss[MM_ANONPAGES]++;
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
    if (vm.deferredSplit.size > 0) countDeferredSplits(vm);
  }
  return 0;
}

/** A read of a page of a file: maps it and what is cached around it. @linux mm/memory.c:do_read_fault */
function serveFileRead(vma: VmArea, address: VirtAddr, flags: number, pmdEntry: number): number {
  // Mappings with operations of their own, those of System V segments, have none for it; nor is it wanted where faults are told.
  const mapsAround = vma.uffd === null && vma.file!.vmOps === null;
  const around = mapsAround ? faultAround(vma, address, pmdEntry) : 0;
  if (around !== 0) return around;
  const pfn = fetchPage(vma, address);
  if (pfn < 0) return faultOf(pfn);
  if (vma.mm.vm.faultWaited && (flags & FAULT_FLAG_ALLOW_RETRY) !== 0) {
    // By now the page's neighbours are cached, too.
    const again = faultAround(vma, address, pmdEntry);
    if (again !== 0) {
      vma.mm.vm.pages.freePage(pfn);
      return again;
    }
  }
  return finishFault(vma, address, pmdEntry, pfn, 0);
}

/**
 * Maps the pages of the file that are cached in the aligned group of 16 around `address`, as far as the mapping, the
 * page table and the file reach.
 *
 * @returns VM_FAULT_NOPAGE where that served the address; 0 where it did not; VM_FAULT_OOM
 * @linux mm/memory.c:do_fault_around, mm/filemap.c:filemap_map_pages
 */
function faultAround(vma: VmArea, address: VirtAddr, pmdEntry: number): number {
  const { mm } = vma;
  const { vm } = mm;
  const { mapping, size } = vma.file!.inode;
  const { flags, refcount } = vm.frames;
  const { entryWords: step, ptrsPerPte } = vm.tables;
  const pteSlot = pteIndexOf(vm.tables, address);
  const vmaOffset = (address - vma.start) / PAGE_SIZE;
  const pgoff = vma.pgoff + vmaOffset;
  const fromPte = Math.max(pteSlot - (pteSlot % FAULT_AROUND_PAGES), pteSlot - Math.min(pteSlot, vmaOffset));
  const pagesLeft = (vma.end - address) / PAGE_SIZE;
  const toPte = Math.min(fromPte + FAULT_AROUND_PAGES, ptrsPerPte, pteSlot + pagesLeft) - 1;
  const lastPgoff = Math.min(pgoff + toPte - pteSlot, Math.ceil(size / PAGE_SIZE) - 1);
  let served = 0;
  let table = -1;
  for (let at = mapping.pages.nextIndex(pgoff + fromPte - pteSlot); at >= 0 && at <= lastPgoff; ) {
    const pfn = mapping.pages.get(at);
    const order = folioOrder(vm, pfn);
    const head = at - (at % (1 << order));
    let first = at;
    let last = Math.min(head + (1 << order) - 1, lastPgoff);
    at = mapping.pages.nextIndex(head + (1 << order));
    if ((flags[pfn] & (PG_UPTODATE | PG_LOCKED | PG_READAHEAD)) !== PG_UPTODATE) continue;
    const isLast = isLastFolio(mapping, head, order);
    if (table < 0) {
      // Linux 6.18 gives up where it has no page table yet and the first folio that it finds is the file's last.
      if (isLast && vm.ram.i32[pmdEntry] === 0) return 0;
      const entry = allocPteBelow(mm, pmdEntry, address);
      if (entry < 0) return VM_FAULT_OOM;
      table = entry - pteSlot * step;
      // Making the table may have come to reclaim the folio.
      if (mapping.pages.get(first) !== pfn) continue;
    }
    if (order > 0 && !isLast && folioFits(vma, head, order, pteSlot + head - pgoff)) {
      first = head;
      last = head + (1 << order) - 1;
    }
    for (let page = first; page <= last; page++) {
      const entry = table + (pteSlot + page - pgoff) * step;
      const { i32 } = vm.ram;
      if ((i32[entry] | entryHi(i32, entry, step)) !== 0) continue;
      const cached = mapping.pages.get(page);
      refcount[cached]++;
      setFileEntry(vma, entry, cached, 0);
      if (page === pgoff) served = VM_FAULT_NOPAGE;
    }
  }
  return served;
}

/**
 * Whether all of a folio, whose first page belongs to entry `headPte` of a table, lies in the mapping and in the table.
 *
 * @linux mm/internal.h:folio_within_vma
 */
function folioFits(vma: VmArea, head: number, order: number, headPte: number): boolean {
  const behind = head + (1 << order);
  if (head < vma.pgoff || behind > vma.pgoff + (vma.end - vma.start) / PAGE_SIZE) return false;
  return headPte >= 0 && headPte + (1 << order) <= vma.mm.vm.tables.ptrsPerPte;
}

/** Whether a folio reaches to the end of a file on a device. */
function isLastFolio({ inode, ops }: AddressSpace, head: number, order: number): boolean {
  return !ops.swapBacked && Math.ceil(inode.size / PAGE_SIZE) - 1 < head + (1 << order);
}

/**
 * A write to a page of a file in a private mapping that is not there yet: maps a copy.
 *
 * @linux mm/memory.c:do_cow_fault
 */
function serveFileCow(vma: VmArea, address: VirtAddr, pmdEntry: number): number {
  const { mm } = vma;
  const { vm } = mm;
  if (vma.anonVma === null && anonVmaPrepare(vma) !== 0) return VM_FAULT_OOM;
  const copy = allocUserPage(vma, address, GFP_HIGHUSER_MOVABLE);
  if (copy < 0) return VM_FAULT_OOM;
  const pfn = fetchPage(vma, address);
  if (pfn < 0) {
    vm.pages.freePage(copy);
    return faultOf(pfn);
  }
  copyUserPage(vm, copy, pfn);
  vm.clock.advance(vm.costs.copyPage);
  vm.pages.freePage(pfn);
  const entry = allocPteBelow(mm, pmdEntry, address);
  if (entry < 0) {
    vm.pages.freePage(copy);
    return VM_FAULT_OOM;
  }
  addNewAnonRmap(vm, copy, vma, address);
  folioAddLru(vm, copy);
  mm.rss[MM_ANONPAGES]++;
  setAnonEntry(vm, entry, copy, vma.flags);
  return 0;
}

/** A write to a page of a file in a shared mapping that is not there yet. @linux mm/memory.c:do_shared_fault */
function serveFileShared(vma: VmArea, address: VirtAddr, pmdEntry: number): number {
  const { vm } = vma.mm;
  const pfn = fetchPage(vma, address);
  if (pfn < 0) return faultOf(pfn);
  const error = announceStore(vma, address);
  if (error !== 0) {
    vm.pages.freePage(pfn);
    return faultOf(error);
  }
  const fault = finishFault(vma, address, pmdEntry, pfn, FAULT_FLAG_WRITE);
  if (fault === 0) {
    setPageDirty(vm, pfn);
    if (vma.file!.inode.mapping.ops.writeNotify) balanceDirtyPages(vm);
  }
  return fault;
}

/**
 * Tells the file system that its page at `address`, which is cached, will be stored to.
 *
 * @returns 0 or −errno
 * @linux mm/memory.c:do_page_mkwrite
 */
function announceStore(vma: VmArea, address: VirtAddr): number {
  const { mapping } = vma.file!.inode;
  return mapping.ops.writeNotify ? mapping.ops.pageMkwrite(mapping, linearPageIndex(vma, address)) : 0;
}

/**
 * Maps a page of a file, whose reference passes, and with it its whole folio where mapping, page table and file reach
 * that far and none of it is mapped there yet.
 *
 * @linux mm/memory.c:finish_fault
 */
function finishFault(vma: VmArea, address: VirtAddr, pmdEntry: number, pfn: Pfn, flags: number): number {
  const { vm } = vma.mm;
  const entry = allocPteBelow(vma.mm, pmdEntry, address);
  if (entry < 0) {
    vm.pages.freePage(pfn);
    return VM_FAULT_OOM;
  }
  const order = folioOrder(vm, pfn);
  if (order === 0 || !mapFolio(vma, address, entry, order, flags)) setFileEntry(vma, entry, pfn, flags);
  else vm.pages.freePage(pfn);
  return 0;
}

/** Maps the folio whose page at `address` belongs to `entry`; false, with nothing done, where that cannot be. */
function mapFolio(vma: VmArea, address: VirtAddr, entry: number, order: number, flags: number): boolean {
  const { vm } = vma.mm;
  const { i32 } = vm.ram;
  const step = vm.tables.entryWords;
  const { mapping, size } = vma.file!.inode;
  const nrPages = 1 << order;
  const pgoff = linearPageIndex(vma, address);
  const within = pgoff % nrPages;
  const head = pgoff - within;
  if (Math.ceil(size / PAGE_SIZE) < head + nrPages) return false;
  if (!folioFits(vma, head, order, pteIndexOf(vm.tables, address) - within)) return false;
  const firstEntry = entry - within * step;
  for (let i = 0; i < nrPages * step; i++) if (i32[firstEntry + i] !== 0) return false;
  for (let i = 0; i < nrPages; i++) {
    const pfn = mapping.pages.get(head + i);
    vm.frames.refcount[pfn]++;
    setFileEntry(vma, firstEntry + i * step, pfn, flags);
  }
  return true;
}

/** The file's page at `address`, with a reference; −errno. @linux mm/memory.c:__do_fault */
function fetchPage(vma: VmArea, address: VirtAddr): number {
  const { mapping } = vma.file!.inode;
  return mapping.ops.getPage(mapping, linearPageIndex(vma, address), vma);
}

/** @linux include/linux/mm.h:vmf_error */
function faultOf(error: number): number {
  return error === -Errno.ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
}

/** Writes the entry of a page of a file, whose reference passes to it. @linux mm/memory.c:set_pte_range */
function setFileEntry(vma: VmArea, entry: number, pfn: Pfn, flags: number): void {
  const { mm } = vma;
  const { vm } = mm;
  const { entryWords, softDirtyHi } = vm.tables;
  const pageFlags = vm.frames.flags[pfn];
  let lo = pteLo(pfn, vmaProtLo(vma));
  let hi = pteHi(pfn, pageProtHi(vma.flags));
  if ((flags & FAULT_FLAG_WRITE) !== 0) {
    lo |= (vma.flags & VM_WRITE) !== 0 ? PTE_RW | PTE_DIRTY : PTE_DIRTY;
    hi |= softDirtyHi;
  } else if ((lo & PTE_RW) !== 0 && (pageFlags & PG_DIRTY) !== 0) {
    lo |= PTE_DIRTY;
    hi |= softDirtyHi;
  }
  setEntry(vm.ram.i32, entry, entryWords, lo, hi);
  addFileRmap(vm, pfn, vma);
  mm.rss[mmCounter(pageFlags)]++;
}
