/**
 * Huge pages of the pool in page tables: one third-level entry each, with nothing set aside below it.
 *
 *     mapcount[head] === entries that show it
 *
 * They are no part of a resident set. @linux mm/hugetlb.c
 */
import { Errno, PAGE_SHIFT, PAGE_SIZE, UFFD_PAGEFAULT_FLAG_MINOR } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_ACCESSED, PTE_DIRTY, PTE_PS, PTE_RW, PTE_UFFD_WP_LO, pteHi, pteLo } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { PG_ANON, PG_ANON_EXCLUSIVE, PG_UPTODATE } from '@pagelab/mm-core';
import { anonVmaPrepare } from './anon-vma.ts';
import { hugeStart } from './huge-memory.ts';
import { allocHugetlbPage, putHugetlbPage } from './hugetlb.ts';
import { restoreReservation } from './hugetlb-reserve.ts';
import { hwpoisonPfn } from './hwpoison.ts';
import type { MmuGather } from './mmu-gather.ts';
import { FAULT_FLAG_UNSHARE, FAULT_FLAG_WRITE, VM_FAULT_HWPOISON, VM_FAULT_OOM, VM_FAULT_SIGBUS } from './fault-flags.ts';
import { clearEntry, entryHi, setEntry } from './pgtable-shape.ts';
import { PteTableWalk, allocPmd, findPmd } from './pgtable.ts';
import { MARKER_POISONED, MARKER_UFFD_WP, PTE_MAPS, hugeMarkerLo, isUffdWp, markerHi, markerOf, pageProtHi, pageProtLo, pfnOf } from './pte.ts';
import { linearPageIndex } from './rmap.ts';
import { WP_REASON, handleUserfault, isUffdAsync } from './userfaultfd.ts';
import type { Vm } from './vm.ts';
import { VM_MAYSHARE, VM_MAYWRITE, VM_SHARED, VM_UFFD_MISSING, VM_UFFD_WP, VM_WRITE } from './vma.ts';
import type { VmArea } from './vma.ts';

/**
 * Serves a fault where there is no entry: finds the file's page or takes one of the pool.
 *
 * @returns 0; VM_FAULT_SIGBUS where the pool has none, or beyond the end of the file; VM_FAULT_OOM
 * @linux mm/hugetlb.c:hugetlb_no_page
 */
export function hugetlbNoPage(vma: VmArea, address: VirtAddr, flags: number, pmdEntry: number): number {
  const { vm } = vma.mm;
  const { i32 } = vm.ram;
  const { entryWords: step } = vm.tables;
  const start = hugeStart(vm.tables, address);
  // A page that is protected before it is there stays so.
  const marker = markerOf(vm.tables, i32[pmdEntry], entryHi(i32, pmdEntry, step));
  if (marker === MARKER_POISONED || hwpoisonPfn(vm.tables, i32[pmdEntry], entryHi(i32, pmdEntry, step)) >= 0) return poisonedHuge(vm);
  if (vma.resvUnmapped) return VM_FAULT_SIGBUS;
  const { inode } = vma.file!;
  const pgoff = linearPageIndex(vma, start);
  if (pgoff * PAGE_SIZE >= inode.size) return VM_FAULT_SIGBUS;
  const cached = inode.mapping.pages.get(pgoff);
  if (cached >= 0 && vm.hwpoison.raw.has(cached)) return poisonedHuge(vm);
  const isProtected = marker === MARKER_UFFD_WP && (vma.flags & VM_UFFD_WP) !== 0;
  const write = (flags & FAULT_FLAG_WRITE) !== 0 && !isProtected;
  const shared = (vma.flags & VM_MAYSHARE) !== 0;
  if (vma.uffd !== null) {
    if (cached < 0 && (vma.flags & VM_UFFD_MISSING) !== 0) return handleUserfault(vma, start, flags, 0);
    if (cached >= 0 && vma.uffdMinor) return handleUserfault(vma, start, flags, UFFD_PAGEFAULT_FLAG_MINOR);
  }
  if (marker !== 0) clearEntry(i32, pmdEntry, step);
  const fault = mapFound(vma, start, { pmdEntry, cached, write, shared });
  if (!isProtected) return fault;
  if ((i32[pmdEntry] & PTE_MAPS) !== 0) i32[pmdEntry] = (i32[pmdEntry] | PTE_UFFD_WP_LO) & ~PTE_RW;
  else if (i32[pmdEntry] === 0) setEntry(i32, pmdEntry, step, hugeMarkerLo(vm.tables, MARKER_UFFD_WP), markerHi(vm.tables));
  return fault;
}

/** A fault on a page of the pool that is broken. */
function poisonedHuge(vm: Vm): number {
  vm.poisonShift = PAGE_SHIFT + vm.tables.hugeOrder;
  return VM_FAULT_HWPOISON;
}

/** What a fault is about. */
interface HugeFault {
  readonly pmdEntry: number;
  /** The page that the file has; −1 for none. */
  readonly cached: Pfn;
  readonly write: boolean;
  readonly shared: boolean;
}

/** Maps the file's page, a copy of it, or a new one. */
function mapFound(vma: VmArea, start: VirtAddr, { pmdEntry, cached, write, shared }: HugeFault): number {
  const { vm } = vma.mm;
  const pgoff = linearPageIndex(vma, start);
  if (cached >= 0) {
    if (write && !shared) return mapCopy(vma, start, pmdEntry, cached, false);
    vm.frames.refcount[cached]++;
    mapPage(vma, pmdEntry, cached, write);
    return 0;
  }
  if (!shared && vma.anonVma === null && anonVmaPrepare(vma) !== 0) return VM_FAULT_OOM;
  const head = allocHugetlbPage(vma, start, false);
  if (head < 0) return head === -Errno.ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
  zeroHuge(vm, head);
  if (shared) {
    cachePage(vm, vma, head, pgoff);
    vm.frames.refcount[head]++;
  } else makeAnon(vma, head, pgoff);
  mapPage(vma, pmdEntry, head, write);
  return 0;
}

/**
 * Serves a fault on an entry that is there.
 *
 * @linux mm/hugetlb.c:hugetlb_fault, hugetlb_wp
 */
export function hugetlbPresent(vma: VmArea, address: VirtAddr, flags: number, pmdEntry: number): number {
  const { vm } = vma.mm;
  const { i32 } = vm.ram;
  const { entryWords: step, softDirtyHi } = vm.tables;
  const lo = i32[pmdEntry];
  const hi = entryHi(i32, pmdEntry, step);
  if ((flags & (FAULT_FLAG_WRITE | FAULT_FLAG_UNSHARE)) === 0) {
    i32[pmdEntry] = lo | PTE_ACCESSED;
    return 0;
  }
  if ((flags & FAULT_FLAG_WRITE) !== 0 && (lo & PTE_UFFD_WP_LO) !== 0 && (vma.flags & VM_UFFD_WP) !== 0) {
    if (!isUffdAsync(vma)) return handleUserfault(vma, hugeStart(vm.tables, address), flags, WP_REASON);
    i32[pmdEntry] = lo & ~PTE_UFFD_WP_LO;
    return hugetlbPresent(vma, address, flags, pmdEntry);
  }
  const head = pfnOf(lo, hi);
  const isWritable = (lo & PTE_RW) !== 0 || (vma.flags & VM_MAYSHARE) !== 0;
  const { flags: pageFlags, mapcount, mapping } = vm.frames;
  if (!isWritable) {
    if ((pageFlags[head] & PG_ANON) === 0 || ((pageFlags[head] & PG_ANON_EXCLUSIVE) === 0 && mapcount[head] > 1)) {
      return replace(vma, hugeStart(vm.tables, address), pmdEntry, head);
    }
    mapping[head] = vma.anonVma!.id;
    pageFlags[head] |= PG_ANON_EXCLUSIVE;
  }
  if ((flags & FAULT_FLAG_UNSHARE) !== 0) return 0;
  const rights = (vma.flags & VM_WRITE) !== 0 ? PTE_RW : 0;
  setEntry(i32, pmdEntry, step, lo | PTE_ACCESSED | PTE_DIRTY | rights, hi | softDirtyHi);
  return 0;
}

/** Puts a copy in the place of a page that others have. */
function replace(vma: VmArea, start: VirtAddr, pmdEntry: number, head: Pfn): number {
  const { mm } = vma;
  const { vm } = mm;
  // Whoever was promised the page gets it at the cost of children that share the old one.
  const fromOwner = vma.resv !== null && (vm.frames.flags[head] & PG_ANON) !== 0;
  vm.frames.refcount[head]++;
  let fault = mapCopy(vma, start, pmdEntry, head, fromOwner);
  if (fault === VM_FAULT_SIGBUS && fromOwner) {
    unmapFromChildren(vma, start, head);
    fault = vm.frames.mapcount[head] === 1 ? hugetlbPresent(vma, start, FAULT_FLAG_WRITE, pmdEntry) : mapCopy(vma, start, pmdEntry, head, fromOwner);
  }
  putHugetlbPage(vm, head);
  return fault;
}

/** Maps a private copy of a page, in place of an entry that there may be. @linux mm/hugetlb.c:hugetlb_wp */
function mapCopy(vma: VmArea, start: VirtAddr, pmdEntry: number, from: Pfn, avoidReserve: boolean): number {
  const { mm } = vma;
  const { vm } = mm;
  const { i32 } = vm.ram;
  if (vma.anonVma === null && anonVmaPrepare(vma) !== 0) return VM_FAULT_OOM;
  const head = allocHugetlbPage(vma, start, avoidReserve);
  if (head < 0) return VM_FAULT_SIGBUS;
  for (let i = 0; i < vm.tables.ptrsPerPte; i++) vm.ram.copyFrame(head + i, from + i);
  vm.clock.advance(vm.costs.copyPage * vm.tables.ptrsPerPte);
  const shownLo = i32[pmdEntry];
  const shown = (shownLo & PTE_MAPS) === 0 ? -1 : pfnOf(shownLo, entryHi(i32, pmdEntry, vm.tables.entryWords));
  makeAnon(vma, head, linearPageIndex(vma, start));
  mapPage(vma, pmdEntry, head, true);
  if (shown < 0) return 0;
  vm.smp.flushTlbRange(mm.pgd * PAGE_SIZE, start, start + vm.tables.pmdSize);
  vm.frames.mapcount[shown]--;
  putHugetlbPage(vm, shown);
  return 0;
}

/** @linux mm/hugetlb.c:unmap_ref_private */
function unmapFromChildren(vma: VmArea, start: VirtAddr, head: Pfn): void {
  const { vm } = vma.mm;
  const pgoff = linearPageIndex(vma, start);
  const others: VmArea[] = [];
  vma.file!.inode.mapping.mmap.forEachOverlap(pgoff, pgoff, (other) => {
    if (other !== vma && (other.flags & VM_MAYSHARE) === 0 && other.resv === null) others.push(other);
  });
  for (const other of others) {
    const address = other.start + (pgoff - other.pgoff) * PAGE_SIZE;
    const entry = findPmd(other.mm, address);
    if (entry < 0 || vm.ram.i32[entry] === 0 || pfnOf(vm.ram.i32[entry], entryHi(vm.ram.i32, entry, vm.tables.entryWords)) !== head) continue;
    clearEntry(vm.ram.i32, entry, vm.tables.entryWords);
    vm.smp.flushTlbRange(other.mm.pgd * PAGE_SIZE, address, address + vm.tables.pmdSize);
    other.mm.hugetlbPages--;
    other.resvUnmapped = true;
    vm.frames.mapcount[head]--;
    putHugetlbPage(vm, head);
  }
}

/** Clears a page of the pool before it is anybody's. @linux mm/memory.c:folio_zero_user */
function zeroHuge(vm: Vm, head: Pfn): void {
  for (let i = 0; i < vm.tables.ptrsPerPte; i++) vm.ram.zeroFrame(head + i);
  vm.clock.advance(vm.costs.zeroPage * vm.tables.ptrsPerPte);
}

function makeAnon(vma: VmArea, head: Pfn, pgoff: number): void {
  const { flags, index, mapping } = vma.mm.vm.frames;
  flags[head] |= PG_ANON | PG_ANON_EXCLUSIVE | PG_UPTODATE;
  mapping[head] = vma.anonVma!.id;
  index[head] = pgoff;
}

/** Puts a page into its file's cache, whose reference is that of the allocation. @linux mm/hugetlb.c:hugetlb_add_to_page_cache */
function cachePage(vm: Vm, { file }: VmArea, head: Pfn, pgoff: number): void {
  const { mapping } = file!.inode;
  mapping.pages.set(pgoff, head);
  const { flags, index, mapping: mappingOf } = vm.frames;
  flags[head] |= PG_UPTODATE;
  mappingOf[head] = mapping.id;
  index[head] = pgoff;
}

/** Writes an entry, which takes a reference over. @linux mm/hugetlb.c:make_huge_pte */
function mapPage(vma: VmArea, pmdEntry: number, head: Pfn, write: boolean): void {
  const { mm } = vma;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { entryWords, softDirtyHi } = vm.tables;
  let lo = pageProtLo(vma.flags) | PTE_PS | PTE_ACCESSED;
  let hi = pageProtHi(vma.flags);
  const mayWrite = (vma.flags & VM_WRITE) !== 0 && ((vma.flags & VM_SHARED) !== 0 || write);
  lo = mayWrite ? lo | PTE_RW : lo & ~PTE_RW;
  if (write) {
    lo |= PTE_DIRTY;
    hi |= softDirtyHi;
  }
  if ((i32[pmdEntry] & PTE_MAPS) === 0) mm.hugetlbPages++;
  vm.frames.mapcount[head]++;
  setEntry(i32, pmdEntry, entryWords, pteLo(head, lo), pteHi(head, hi));
}

/** Takes an entry away; the page goes when the gatherer has flushed. @linux mm/hugetlb.c:__unmap_hugepage_range */
export function zapHugetlbPmd(gather: MmuGather, vma: VmArea, start: VirtAddr, pmdEntry: number, dropsMarker: boolean): void {
  const { mm } = vma;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const step = vm.tables.entryWords;
  const lo = i32[pmdEntry];
  const hi = entryHi(i32, pmdEntry, step);
  clearEntry(i32, pmdEntry, step);
  if (!dropsMarker && (vma.flags & VM_UFFD_WP) !== 0 && isUffdWp(vm.tables, lo, hi)) {
    setEntry(i32, pmdEntry, step, hugeMarkerLo(vm.tables, MARKER_UFFD_WP), markerHi(vm.tables));
  }
  if ((lo & PTE_MAPS) === 0) return;
  const head = pfnOf(lo, hi);
  mm.hugetlbPages--;
  vm.frames.mapcount[head]--;
  if (vm.restoresHugeReserve && (vm.frames.flags[head] & PG_ANON) !== 0) restoreReservation(vma, start);
  gather.noteRange(start, start + vm.tables.pmdSize);
  vm.hugetlb.unmapped.push(head);
}

/**
 * Gives a child its parent's entries. Both lose their write right where writes stay their own.
 *
 * @returns 0 or −ENOMEM
 * @linux mm/hugetlb.c:copy_hugetlb_page_range
 */
export function copyHugetlbRange(dst: VmArea, src: VmArea): number {
  const { mm } = dst;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { flags, mapcount, refcount } = vm.frames;
  const step = vm.tables.entryWords;
  const isCow = (src.flags & (VM_SHARED | VM_MAYWRITE)) === VM_MAYWRITE;
  const keepsWp = (dst.flags & VM_UFFD_WP) !== 0;
  const dropped = PTE_ACCESSED | (keepsWp ? 0 : PTE_UFFD_WP_LO);
  const walk = new PteTableWalk(src.mm, src.start, src.end);
  while (walk.next()) {
    const entry = allocPmd(mm, walk.addr);
    if (entry < 0) return -Errno.ENOMEM;
    const hi = entryHi(i32, walk.pmdEntry, step);
    let lo = i32[walk.pmdEntry];
    if ((lo & PTE_MAPS) === 0) {
      if (keepsWp || markerOf(vm.tables, lo, hi) !== MARKER_UFFD_WP) setEntry(i32, entry, step, lo, hi);
      continue;
    }
    const head = pfnOf(lo, hi);
    refcount[head]++;
    mapcount[head]++;
    mm.hugetlbPages++;
    if ((flags[head] & PG_ANON) !== 0) flags[head] &= ~PG_ANON_EXCLUSIVE;
    if (isCow && (lo & PTE_RW) !== 0) {
      lo &= ~PTE_RW;
      i32[walk.pmdEntry] = lo;
    }
    setEntry(i32, entry, step, lo & ~dropped, hi);
  }
  return 0;
}

/** Puts a new page into its file's cache, with a reference for the entry that is to show it. */
export function addHugetlbPage(vma: VmArea, head: Pfn, pgoff: number): void {
  const { vm } = vma.mm;
  cachePage(vm, vma, head, pgoff);
  vm.frames.refcount[head]++;
}

/** A new page is a private mapping's own. */
export function ownHugetlbPage(vma: VmArea, head: Pfn, pgoff: number): void {
  makeAnon(vma, head, pgoff);
}

/** Writes an entry, which takes a reference over: dirty, and writable where that is told. */
export function mapHugetlbPage(vma: VmArea, pmdEntry: number, head: Pfn, writable: boolean): void {
  const { i32 } = vma.mm.vm.ram;
  mapPage(vma, pmdEntry, head, true);
  if (!writable) i32[pmdEntry] &= ~PTE_RW;
}
