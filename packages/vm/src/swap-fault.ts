/**
 * A touch of a page that was swapped out.
 *
 * @linux mm/memory.c:do_swap_page
 */
import { PAGE_SHIFT } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE, PTE_DIRTY, PTE_RW, PTE_UFFD_WP_LO, pteHi, pteLo } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import {
  GFP_HIGHUSER_MOVABLE,
  NODE_STAT,
  PG_ANON,
  PG_ANON_EXCLUSIVE,
  PG_DIRTY,
  PG_HEAD,
  PG_KSM,
  PG_MLOCKED,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_TAIL,
  PG_UPTODATE,
  VM_EVENT,
  compoundHead,
  folioNrPages,
} from '@pagelab/mm-core';
import { allocUserPage } from './anon-fault.ts';
import { copyUserPage } from './highmem.ts';
import { notePartMapped } from './huge-memory.ts';
import { ksmNeedsCopy } from './ksm.ts';
import { folioSwapFull } from './memcg-swap.ts';
import { MM_ANONPAGES, MM_SWAPENTS } from './mm-struct.ts';
import { FAULT_FLAG_WRITE, VM_FAULT_HWPOISON, VM_FAULT_OOM, VM_FAULT_SIGBUS } from './fault-flags.ts';
import { entryHi, setEntry } from './pgtable-shape.ts';
import { SWP_SOFT_DIRTY, SWP_UFFD_WP, pageProtHi, pageProtLo } from './pte.ts';
import { addNewAnonRmap, linearPageIndex, locksPages, mlockPage } from './rmap.ts';
import { folioSwapEntry, swapCacheFrame, swapUpdateReadahead, swapUptodate, swapinReadahead } from './swap-state.ts';
import { folioAddLru } from './swap.ts';
import { folioFreeSwap, swapFree } from './swapfile.ts';
import { pteToSwp, swpExclusive, swpPteHi, swpPteLo } from './swapops.ts';
import type { Vm } from './vm.ts';
import { VM_LOCKED, VM_WRITE } from './vma.ts';
import type { VmArea } from './vma.ts';

/** {@link serveSwap}: the page is there now, but the access wants to write, and others may see it. */
export const SWAP_WRITE_PROTECTED = -1;

/**
 * Brings the page of a swap entry back.
 *
 * @param pte host word of the entry, which holds `lo` and `hi`
 * @param swp the slot that it names
 * @returns 0; VM_FAULT_SIGBUS where the page could not be read; VM_FAULT_OOM; {@link SWAP_WRITE_PROTECTED}
 */
export function serveSwap(vma: VmArea, address: VirtAddr, flags: number, pte: number, lo: number, hi: number, swp: number): number {
  const { vm } = vma.mm;
  const { i32 } = vm.ram;
  const step = vm.tables.entryWords;
  let pfn = swapCacheFrame(vm, swp);
  if (pfn >= 0) {
    swapUpdateReadahead(vm, pfn, vma, address);
  } else {
    pfn = swapinReadahead(vm, swp, vma, address);
    // Getting memory for it may have come to kill somebody, or to bring the page in.
    if (i32[pte] !== lo || entryHi(i32, pte, step) !== hi) return 0;
    if (pfn < 0) return VM_FAULT_OOM;
    vm.pages.events[VM_EVENT.PGMAJFAULT]++;
    if (vma.mm.memcg !== null) vma.mm.memcg.vmEvents[VM_EVENT.PGMAJFAULT]++;
    vm.faultWaited = true;
    vm.faultMissed = true;
  }
  if (vm.hwpoison.has(pfn)) {
    vm.poisonShift = PAGE_SHIFT;
    return VM_FAULT_HWPOISON;
  }
  if (!swapUptodate(vm, pfn)) return VM_FAULT_SIGBUS;
  const write = (flags & FAULT_FLAG_WRITE) !== 0;
  if (ksmNeedsCopy(vm, pfn, vma, address)) {
    pfn = copySwapped(vma, address, pfn);
    if (pfn < 0) return VM_FAULT_OOM;
    if (i32[pte] !== lo || entryHi(i32, pte, step) !== hi) {
      vm.pages.freePage(pfn);
      return 0;
    }
    mapCopiedPage(vma, address, pte, lo, pfn, swp, write);
    return 0;
  }
  if (vm.swap.mapsHuge && (vm.frames.flags[pfn] & (PG_HEAD | PG_TAIL)) !== 0 && mapSwappedHuge(vma, address, pte, lo, hi, pfn, write)) return 0;
  const exclusive = mapSwappedPage(vma, address, pte, lo, pfn, swp, write);
  return write && !exclusive ? SWAP_WRITE_PROTECTED : 0;
}

/** A page of one's own that holds what one of the swap cache does. @returns −1 without memory */
export function copySwapped(vma: VmArea, address: VirtAddr, from: Pfn): Pfn {
  const { vm } = vma.mm;
  vm.frames.refcount[from]++;
  const pfn = allocUserPage(vma, address, GFP_HIGHUSER_MOVABLE);
  if (pfn >= 0) {
    copyUserPage(vm, pfn, from);
    vm.clock.advance(vm.costs.copyPage);
    vm.pages.events[VM_EVENT.KSM_SWPIN_COPY]++;
  }
  vm.pages.putPage(from);
  return pfn;
}

/** Puts it in the place of an entry that names the slot. */
export function mapCopiedPage(
  vma: VmArea,
  address: VirtAddr,
  pte: number,
  swpLo: number,
  pfn: Pfn,
  swp: number,
  write: boolean,
): void {
  const { mm } = vma;
  const { vm } = mm;
  const step = vm.tables.entryWords;
  swapFree(vm, swp);
  mm.rss[MM_ANONPAGES]++;
  mm.rss[MM_SWAPENTS]--;
  vm.frames.flags[pfn] |= PG_DIRTY;
  addNewAnonRmap(vm, pfn, vma, address);
  folioAddLru(vm, pfn);
  let lo = pageProtLo(vma.flags);
  let hi = pageProtHi(vma.flags);
  if (step === 2 && (swpLo & SWP_SOFT_DIRTY) !== 0) hi |= vm.tables.softDirtyHi;
  if (step === 2 && (swpLo & SWP_UFFD_WP) !== 0) lo |= PTE_UFFD_WP_LO;
  else if ((vma.flags & VM_WRITE) !== 0) lo |= PTE_RW | (write ? PTE_DIRTY : 0);
  if (write) hi |= vm.tables.softDirtyHi;
  setEntry(vm.ram.i32, pte, step, pteLo(pfn, lo), pteHi(pfn, hi));
}

/**
 * Puts a page of the swap cache in the place of an entry that names its slot.
 *
 * @returns whether the address space has it to itself
 */
export function mapSwappedPage(
  vma: VmArea,
  address: VirtAddr,
  pte: number,
  swpLo: number,
  pfn: Pfn,
  swp: number,
  write: boolean,
): boolean {
  const { mm } = vma;
  const { vm } = mm;
  const { flags, refcount } = vm.frames;
  const step = vm.tables.entryWords;
  const folio = compoundHead(vm.frames, pfn);
  refcount[folio]++;
  swapFree(vm, swp);
  if (shouldTryToFreeSwap(vma, folio, write)) folioFreeSwap(vm, folio);
  const exclusive = (flags[pfn] & PG_KSM) === 0 && ((swpLo & swpExclusive(step)) !== 0 || refcount[folio] === 1);
  mm.rss[MM_ANONPAGES]++;
  mm.rss[MM_SWAPENTS]--;
  let lo = pageProtLo(vma.flags);
  let hi = pageProtHi(vma.flags);
  const protectedByUffd = step === 2 && (swpLo & SWP_UFFD_WP) !== 0;
  if (step === 2 && (swpLo & SWP_SOFT_DIRTY) !== 0) hi |= vm.tables.softDirtyHi;
  if (protectedByUffd) lo |= PTE_UFFD_WP_LO;
  if (exclusive && (vma.flags & VM_WRITE) !== 0 && !protectedByUffd) {
    lo |= PTE_RW;
    if (write) {
      lo |= PTE_DIRTY;
      hi |= vm.tables.softDirtyHi;
    }
  }
  addAnonRmap(vm, pfn, vma, address, exclusive);
  setEntry(vm.ram.i32, pte, step, pteLo(pfn, lo), pteHi(pfn, hi));
  return exclusive && !protectedByUffd;
}

/**
 * Puts a huge page of the swap cache in the place of the entries that name its slots, where all of them do and a last-level
 * table is filled by them.
 *
 * @returns whether it was done: not either where the address space has not got the page to itself
 * @linux mm/memory.c:do_swap_page
 */
function mapSwappedHuge(vma: VmArea, address: VirtAddr, pte: number, lo: number, hi: number, pfn: Pfn, write: boolean): boolean {
  const { vm } = vma.mm;
  const { i32 } = vm.ram;
  const { entryWords: step, pmdSize, ptrsPerPte } = vm.tables;
  const head = compoundHead(vm.frames, pfn);
  const start = address - (pfn - head) * PAGE_SIZE;
  if (start % pmdSize !== 0 || start < vma.start || start + pmdSize > vma.end || (lo & swpExclusive(step)) === 0) return false;
  const first = pte - (pfn - head) * step;
  const slot = folioSwapEntry(vm, head);
  const bits = lo ^ swpPteLo(step, pteToSwp(step, lo, hi));
  for (let i = 0; i < ptrsPerPte; i++) {
    const at = first + i * step;
    if (i32[at] !== (swpPteLo(step, slot + i) | bits) || entryHi(i32, at, step) !== swpPteHi(slot + i)) return false;
  }
  for (let i = 0; i < ptrsPerPte; i++) mapSwappedPage(vma, start + i * PAGE_SIZE, first + i * step, swpPteLo(step, slot + i) | bits, head + i, slot + i, write);
  return true;
}

/** Whether the slot is better given back now. @linux mm/memory.c:should_try_to_free_swap */
function shouldTryToFreeSwap(vma: VmArea, pfn: Pfn, write: boolean): boolean {
  const { vm } = vma.mm;
  const { flags, refcount } = vm.frames;
  if ((flags[pfn] & PG_SWAPCACHE) === 0) return false;
  if (folioSwapFull(vm, pfn) || (vma.flags & VM_LOCKED) !== 0 || (flags[pfn] & PG_MLOCKED) !== 0) return true;
  return write && (flags[pfn] & PG_KSM) === 0 && refcount[pfn] === 1 + folioNrPages(vm.frames, pfn);
}

/** Counts one more mapping of an anonymous page. One that nobody maps yet becomes the family's, or this VMA's alone. @linux mm/rmap.c:folio_add_anon_rmap_pte */
function addAnonRmap(vm: Vm, pfn: Pfn, vma: VmArea, address: VirtAddr, exclusive: boolean): void {
  const { flags, index, mapcount, mapping } = vm.frames;
  const anonVma = vma.anonVma!;
  if ((flags[pfn] & PG_ANON) === 0) {
    flags[pfn] |= PG_ANON | PG_SWAPBACKED | PG_UPTODATE;
    mapping[pfn] = anonVma.root.id;
    index[pfn] = linearPageIndex(vma, address);
  }
  if (exclusive) {
    flags[pfn] |= PG_ANON_EXCLUSIVE;
    mapping[pfn] = anonVma.id;
  }
  if (++mapcount[pfn] === 1) {
    vm.pages.modNodeState(pfn, NODE_STAT.NR_ANON_MAPPED, 1);
    notePartMapped(vm, pfn);
  }
  if (locksPages(vma)) mlockPage(vm, pfn);
}
