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
import { PAGE_SHIFT, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import {
  PF_INSTR,
  PF_PROT,
  PF_USER,
  PF_WRITE,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_PRESENT,
  PTE_PS,
  PTE_RW,
  PTE_UFFD_WP_LO,
} from '@pagelab/hw';
import { VM_EVENT } from '@pagelab/mm-core';
import { serveAnonymous } from './anon-fault.ts';
import {
  FAULT_ACCERR,
  FAULT_FLAG_ALLOW_RETRY,
  FAULT_FLAG_INSTRUCTION,
  FAULT_FLAG_RESTARTED,
  FAULT_FLAG_UNSHARE,
  FAULT_FLAG_USER,
  FAULT_FLAG_WRITE,
  FAULT_HWPOISON,
  FAULT_MAPERR,
  FAULT_OK,
  FAULT_OOM,
  FAULT_SIGBUS,
  VM_FAULT_ERROR,
  VM_FAULT_FALLBACK,
  VM_FAULT_HWPOISON,
  VM_FAULT_MAJOR,
  VM_FAULT_OOM,
  VM_FAULT_RETRY,
  VM_FAULT_SIGBUS,
  VM_FAULT_SIGSEGV,
} from './fault-flags.ts';
import { serveFileCow, serveFileRead, serveFileShared } from './file-fault.ts';
import { serveHugeMissing, serveHugePresent } from './huge-memory.ts';
import { hugetlbNoPage, hugetlbPresent } from './hugetlb-fault.ts';
import { hwpoisonPfn } from './hwpoison.ts';
import type { MmStruct } from './mm-struct.ts';
import { serveNumaHint } from './numa-fault.ts';
import { clearEntry, entryHi, setEntry } from './pgtable-shape.ts';
import { allocPmd, pteOffset, tableBelow } from './pgtable.ts';
import { MARKER_POISONED, MARKER_UFFD_WP, PTE_MAPS, markerHi, markerLo, markerOf } from './pte.ts';
import { linearPageIndex } from './rmap.ts';
import { expandStack } from './stack.ts';
import { SWAP_WRITE_PROTECTED, serveSwap } from './swap-fault.ts';
import { pteToSwp } from './swapops.ts';
import { handleUserfault, userfaultReason } from './userfaultfd.ts';
import type { Vm } from './vm.ts';
import { VM_ACCESS_FLAGS, VM_GROWSDOWN, VM_HUGETLB, VM_RAND_READ, VM_SEQ_READ, VM_SHARED, VM_UFFD_WP, VM_WRITE } from './vma.ts';
import type { VmArea } from './vma.ts';
import { runKswapds } from './kswapd.ts';
import { serveWriteProtected } from './write-fault.ts';

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
  if (trace.enabled !== false) trace.emit(tracePageFaultUser, address, errorCode);
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
  if (mm.vm.reclaim.kswapdPending) runKswapds(mm.vm, false);
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
  const { reclaim } = vm;
  if (reclaim.activatesFaulted) reclaim.inFault = (vma.flags & (VM_SEQ_READ | VM_RAND_READ)) === 0;
  let fault = servePage(vma, address, flags);
  reclaim.inFault = false;
  if ((fault & VM_FAULT_RETRY) !== 0) return fault;
  if (vm.faultWaited && isMajor(vm, flags)) fault |= VM_FAULT_MAJOR;
  // The event counts failed faults, too; the address space's own counts do not.
  vm.pages.events[VM_EVENT.PGFAULT]++;
  if (mm.memcg !== null) mm.memcg.vmEvents[VM_EVENT.PGFAULT]++;
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
  const isHuge = (i32[pmdEntry] & PTE_PS) !== 0;
  let table = isHuge ? 0 : tableBelow(mm.vm, pmdEntry);
  if (table < 0) {
    if ((vma.flags & VM_HUGETLB) !== 0) return hugetlbNoPage(vma, address, flags, pmdEntry);
    if (vma.file === null && mm.vm.thpMode !== 'never') {
      const fault = serveHugeMissing(vma, address, flags, pmdEntry);
      if (fault !== VM_FAULT_FALLBACK) return fault;
    }
    return serveMissing(vma, address, flags, pmdEntry);
  }
  if (isHuge) {
    if ((vma.flags & VM_HUGETLB) !== 0) {
      const isThere = (i32[pmdEntry] & PTE_MAPS) !== 0;
      return isThere ? hugetlbPresent(vma, address, flags, pmdEntry) : hugetlbNoPage(vma, address, flags, pmdEntry);
    }
    if ((i32[pmdEntry] & PTE_PRESENT) === 0 && (vma.flags & VM_ACCESS_FLAGS) !== 0) {
      serveNumaHint(vma, address, pmdEntry);
      return 0;
    }
    const fault = serveHugePresent(vma, address, flags, pmdEntry);
    if (fault !== VM_FAULT_FALLBACK) return fault;
    table = tableBelow(mm.vm, pmdEntry);
    if (table < 0) return serveMissing(vma, address, flags, pmdEntry);
  }
  const entry = pteOffset(tables, table, address);
  const lo = i32[entry];
  const hi = entryHi(i32, entry, step);
  if ((lo | hi) === 0) return serveMissing(vma, address, flags, pmdEntry);
  if ((lo & PTE_MAPS) === 0) return serveElsewhere(vma, address, flags, pmdEntry, entry, lo, hi);
  if ((lo & PTE_PRESENT) === 0 && (vma.flags & VM_ACCESS_FLAGS) !== 0) {
    serveNumaHint(vma, address, entry);
    return 0;
  }
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
  if (marker === MARKER_POISONED || hwpoisonPfn(vm.tables, i32[entry], entryHi(i32, entry, step)) >= 0) {
    vm.poisonShift = PAGE_SHIFT;
    return VM_FAULT_HWPOISON;
  }
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
