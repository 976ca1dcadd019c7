/**
 * What `/proc` and `mincore` tell of an address space's pages: read from the page tables, without changing them.
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_ACCESSED, PTE_DIRTY, PTE_PS, PTE_RW, PTE_SOFT_DIRTY_HI } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { PG_ANON, PG_DIRTY, PG_KSM, PG_REFERENCED, PG_SWAPBACKED, PG_UPTODATE } from '@pagelab/mm-core';
import { SWP_HWPOISON, hwpoisonPfn } from './hwpoison.ts';
import type { MmStruct } from './mm-struct.ts';
import { entryHi } from './pgtable-shape.ts';
import { PteTableWalk, findLeaf, leafLo } from './pgtable.ts';
import { PTE_MAPS, PTE_MARKER_GUARD, PTE_SPECIAL, SWP_SOFT_DIRTY, isGuardMarker, isUffdWp, markerOf, markerPagemapLo, pfnOf } from './pte.ts';
import { linearPageIndex } from './rmap.ts';
import { VM_HUGETLB, VM_LOCKED, VM_SOFTDIRTY } from './vma.ts';
import { swapCacheFrame } from './swap-state.ts';
import { swpSwapcount } from './swapfile.ts';
import { pteToSwp, swpOffset, swpType } from './swapops.ts';
import type { Vm } from './vm.ts';
import type { VmArea } from './vma.ts';

/** What a mapping keeps in memory, in bytes; the names are those of `/proc/PID/smaps`. */
export interface SmapsSizes {
  size: number;
  /** All that is resident. */
  rss: number;
  /** Each page divided by its mappings; rounded down to a byte. */
  pss: number;
  pssAnon: number;
  pssFile: number;
  pssShmem: number;
  pssDirty: number;
  /** Mapped elsewhere too, or here only; written to or not. */
  sharedClean: number;
  sharedDirty: number;
  privateClean: number;
  privateDirty: number;
  /** Used since the accessed bits were last cleared. */
  referenced: number;
  anonymous: number;
  /** Shown by huge entries: anonymous memory, shared memory, files. */
  anonHugePages: number;
  shmemPmdMapped: number;
  filePmdMapped: number;
  /** Shared by KSM. */
  ksm: number;
  /** Given up by MADV_FREE and not written to since. */
  lazyFree: number;
  /** Huge pages of the pool, which are no part of the sums above: mapped elsewhere too, or here only. */
  sharedHugetlb: number;
  privateHugetlb: number;
  swap: number;
  swapPss: number;
  /** The share of `pss` that is locked. */
  locked: number;
}

/** Fraction bits of a page's share: as Linux keeps them. @linux fs/proc/task_mmu.c:PSS_SHIFT */
const PSS_UNIT = 4096;

/**
 * Adds up the pages of a mapping. Costs a few steps a resident page.
 *
 * @linux fs/proc/task_mmu.c:smap_gather_stats
 */
export function smapsOf(vma: VmArea): SmapsSizes {
  const { mm } = vma;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { flags, mapcount } = vm.frames;
  const isLocked = (vma.flags & VM_LOCKED) !== 0;
  const isHugetlb = (vma.flags & VM_HUGETLB) !== 0;
  const sizes: SmapsSizes = {
    size: vma.end - vma.start,
    rss: 0,
    pss: 0,
    pssAnon: 0,
    pssFile: 0,
    pssShmem: 0,
    pssDirty: 0,
    sharedClean: 0,
    sharedDirty: 0,
    privateClean: 0,
    privateDirty: 0,
    referenced: 0,
    anonymous: 0,
    anonHugePages: 0,
    shmemPmdMapped: 0,
    filePmdMapped: 0,
    ksm: 0,
    lazyFree: 0,
    sharedHugetlb: 0,
    privateHugetlb: 0,
    swap: 0,
    swapPss: 0,
    locked: 0,
  };
  const walk = new PteTableWalk(mm, vma.start, vma.end);
  while (walk.next()) {
    const { huge } = walk;
    if (isHugetlb) {
      if ((i32[walk.pmdEntry] & PTE_MAPS) === 0) continue;
      if (mapcount[pfnOf(i32[walk.pmdEntry], entryHi(i32, walk.pmdEntry, walk.step))] > 1) sizes.sharedHugetlb += vm.tables.pmdSize;
      else sizes.privateHugetlb += vm.tables.pmdSize;
      continue;
    }
    if (huge && (i32[walk.pmdEntry] & PTE_SPECIAL) === 0) {
      const headFlags = flags[pfnOf(i32[walk.pmdEntry], entryHi(i32, walk.pmdEntry, walk.step))];
      if ((headFlags & PG_ANON) !== 0) sizes.anonHugePages += vm.tables.pmdSize;
      else if ((headFlags & PG_SWAPBACKED) !== 0) sizes.shmemPmdMapped += vm.tables.pmdSize;
      else sizes.filePmdMapped += vm.tables.pmdSize;
    }
    for (let i = 0; i < walk.count; i++) {
      const entry = huge ? walk.pmdEntry : walk.entry + i * walk.step;
      const lo = i32[entry];
      if ((lo & PTE_MAPS) === 0) {
        if (lo !== 0) addSwapped(vm, sizes, pteToSwp(walk.step, lo, entryHi(i32, entry, walk.step)));
        continue;
      }
      if ((lo & PTE_SPECIAL) !== 0) continue;
      const pfn = pfnOf(lo, entryHi(i32, entry, walk.step)) + (huge ? i : 0);
      const pageFlags = flags[pfn];
      const isDirty = (lo & PTE_DIRTY) !== 0 || (pageFlags & PG_DIRTY) !== 0;
      const mappings = mapcount[pfn];
      const share = Math.floor((PAGE_SIZE * PSS_UNIT) / mappings);
      sizes.rss += PAGE_SIZE;
      sizes.pss += share;
      if (isDirty) sizes.pssDirty += share;
      if (isLocked) sizes.locked += share;
      if ((lo & PTE_ACCESSED) !== 0 || (pageFlags & PG_REFERENCED) !== 0) sizes.referenced += PAGE_SIZE;
      if ((pageFlags & PG_ANON) !== 0) {
        sizes.anonymous += PAGE_SIZE;
        if ((pageFlags & PG_KSM) !== 0) sizes.ksm += PAGE_SIZE;
        if (!isDirty && (pageFlags & PG_SWAPBACKED) === 0) sizes.lazyFree += PAGE_SIZE;
        sizes.pssAnon += share;
      } else if ((pageFlags & PG_SWAPBACKED) !== 0) {
        sizes.pssShmem += share;
      } else {
        sizes.pssFile += share;
      }
      if (mappings > 1) {
        if (isDirty) sizes.sharedDirty += PAGE_SIZE;
        else sizes.sharedClean += PAGE_SIZE;
      } else if (isDirty) {
        sizes.privateDirty += PAGE_SIZE;
      } else {
        sizes.privateClean += PAGE_SIZE;
      }
    }
  }
  sizes.swap += shmemSwapped(vma) * PAGE_SIZE;
  sizes.swapPss = Math.floor(sizes.swapPss / PSS_UNIT);
  sizes.pss = Math.floor(sizes.pss / PSS_UNIT);
  sizes.pssAnon = Math.floor(sizes.pssAnon / PSS_UNIT);
  sizes.pssFile = Math.floor(sizes.pssFile / PSS_UNIT);
  sizes.pssShmem = Math.floor(sizes.pssShmem / PSS_UNIT);
  sizes.pssDirty = Math.floor(sizes.pssDirty / PSS_UNIT);
  sizes.locked = Math.floor(sizes.locked / PSS_UNIT);
  return sizes;
}

/** @linux fs/proc/task_mmu.c:smaps_pte_entry */
function addSwapped(vm: Vm, sizes: SmapsSizes, swp: number): void {
  if (swp < 0) return;
  sizes.swap += PAGE_SIZE;
  sizes.swapPss += Math.floor((PAGE_SIZE * PSS_UNIT) / Math.max(1, swpSwapcount(vm, swp)));
}

/** Pages of shared memory that a mapping shows and that are swapped out: its entries do not tell. @linux mm/shmem.c:shmem_swap_usage */
function shmemSwapped(vma: VmArea): number {
  const swaps = vma.file?.inode.mapping.swaps;
  if (swaps === undefined || swaps.size === 0) return 0;
  let count = 0;
  swaps.forEachIn(vma.pgoff, vma.pgoff + (vma.end - vma.start) / PAGE_SIZE - 1, () => {
    count++;
  });
  return count;
}

/** High word of an entry of `/proc/PID/pagemap`. @linux fs/proc/task_mmu.c:PM_PRESENT */
export const PM_PRESENT_HI = 1 << 31;
/** Bit 62. */
export const PM_SWAP_HI = 1 << 30;
/** Bit 61: a page of a file or of shared memory. */
export const PM_FILE_HI = 1 << 29;
/** Bit 58: a guard page. */
export const PM_GUARD_REGION_HI = 1 << 26;
/** Bit 57: write-protected by userfaultfd. */
export const PM_UFFD_WP_HI = 1 << 25;
/** Bit 56: mapped once. */
export const PM_MMAP_EXCLUSIVE_HI = 1 << 24;
/** Bit 55: written to since it was last asked to note that. */
export const PM_SOFT_DIRTY_HI = 1 << 23;

/** A 64-bit entry of `/proc/PID/pagemap` as two int32. */
export interface PagemapEntry {
  readonly lo: number;
  readonly hi: number;
}

/**
 * The entry of `/proc/PID/pagemap` for the page at `addr`: the frame (of a marker, its type and
 * offset) in the low 55 bits, and `PM_…` bits.
 *
 * @linux fs/proc/task_mmu.c:pte_to_pagemap_entry
 */
export function pagemapEntry(mm: MmStruct, addr: VirtAddr): PagemapEntry {
  const { vm } = mm;
  const vma = mm.vmas.get(addr);
  let hi = vma !== undefined && (vma.flags & VM_SOFTDIRTY) !== 0 ? PM_SOFT_DIRTY_HI : 0;
  const entry = vma === undefined ? -1 : findLeaf(mm, addr);
  if (entry < 0) return { lo: 0, hi };
  if ((vma!.flags & VM_HUGETLB) !== 0 && (vm.ram.i32[entry] & PTE_MAPS) === 0) return hugetlbMarkerEntry(vm, entry, hi);
  const pteLo = leafLo(vm.tables, vm.ram.i32[entry], addr);
  const pteHi = entryHi(vm.ram.i32, entry, vm.tables.entryWords);
  // A marker is a swap entry of its own kind.
  if (isUffdWp(vm.tables, pteLo, pteHi)) hi |= PM_UFFD_WP_HI;
  if (isGuardMarker(vm.tables, pteLo, pteHi)) return { lo: markerPagemapLo(PTE_MARKER_GUARD), hi: hi | PM_SWAP_HI | PM_GUARD_REGION_HI };
  const marker = markerOf(vm.tables, pteLo, pteHi);
  if (marker !== 0) return { lo: markerPagemapLo(marker), hi: hi | PM_SWAP_HI };
  const broken = hwpoisonPfn(vm.tables, pteLo, pteHi);
  if (broken >= 0) return { lo: (SWP_HWPOISON | (broken << 5)) | 0, hi: hi | PM_SWAP_HI | (vm.hwpoison.frames.get(broken) === 'anon' ? 0 : PM_FILE_HI) | (broken >>> 27) };
  const swp = pteToSwp(vm.tables.entryWords, pteLo, pteHi);
  if (swp >= 0) {
    if (vm.tables.entryWords === 2 && (pteLo & SWP_SOFT_DIRTY) !== 0) hi |= PM_SOFT_DIRTY_HI;
    return { lo: (swpType(swp) | (swpOffset(swp) << 5)) | 0, hi: hi | PM_SWAP_HI | 0 };
  }
  if ((pteLo & PTE_MAPS) === 0) return { lo: 0, hi };
  const pfn = pfnOf(pteLo, pteHi);
  hi |= PM_PRESENT_HI;
  if ((pteHi & PTE_SOFT_DIRTY_HI) !== 0) hi |= PM_SOFT_DIRTY_HI;
  if ((pteLo & PTE_SPECIAL) === 0) {
    // Of a huge entry Linux looks at the first page, whichever is asked for.
    const looked = (vm.ram.i32[entry] & PTE_PS) === 0 ? pfn : pfn - (pfn % vm.tables.ptrsPerPte);
    if ((vm.frames.flags[looked] & PG_ANON) === 0) hi |= PM_FILE_HI;
    if (vm.frames.mapcount[looked] === 1) hi |= PM_MMAP_EXCLUSIVE_HI;
  } else if ((vm.ram.i32[entry] & PTE_PS) !== 0) {
    // The huge zero page is not anonymous. @linux fs/proc/task_mmu.c:pagemap_pmd_range_thp
    hi |= PM_FILE_HI;
  }
  return { lo: pfn, hi };
}

/** Of what stands in a huge page's place nothing is told but that it is protected. @linux fs/proc/task_mmu.c:pagemap_hugetlb_range */
function hugetlbMarkerEntry({ ram, tables }: Vm, entry: number, hi: number): PagemapEntry {
  const isProtected = isUffdWp(tables, ram.i32[entry], entryHi(ram.i32, entry, tables.entryWords));
  return { lo: 0, hi: isProtected ? hi | PM_UFFD_WP_HI : hi };
}

/** What is at an address, for people and tests. */
export interface PageState {
  /** The frame that is mapped, the zero page included; −1 for none. */
  readonly pfn: Pfn;
  /** `'zero'` is the zero page, `'guard'` a marker of MADV_GUARD_INSTALL, `'swap'` a page that was swapped out. */
  readonly kind: 'none' | 'zero' | 'anon' | 'shmem' | 'file' | 'guard' | 'swap';
  readonly writable: boolean;
  readonly dirty: boolean;
  readonly accessed: boolean;
  /** Entries that show the frame. */
  readonly mapcount: number;
}

/** Tells what the page tables have at `addr`. */
export function pageState(mm: MmStruct, addr: VirtAddr): PageState {
  const { frames, ram, tables } = mm.vm;
  const none = { pfn: -1, kind: 'none', writable: false, dirty: false, accessed: false, mapcount: 0 } as const;
  const entry = findLeaf(mm, addr);
  if (entry < 0) return none;
  const lo = leafLo(tables, ram.i32[entry], addr);
  const hi = entryHi(ram.i32, entry, tables.entryWords);
  if (isGuardMarker(tables, lo, hi)) return { ...none, kind: 'guard' };
  if (pteToSwp(tables.entryWords, lo, hi) >= 0) return { ...none, kind: 'swap' };
  if ((lo & PTE_MAPS) === 0) return none;
  const pfn = pfnOf(lo, hi);
  const pageFlags = frames.flags[pfn];
  let kind: PageState['kind'] = 'file';
  if ((lo & PTE_SPECIAL) !== 0) kind = 'zero';
  else if ((pageFlags & PG_ANON) !== 0) kind = 'anon';
  else if ((pageFlags & PG_SWAPBACKED) !== 0) kind = 'shmem';
  return {
    pfn,
    kind,
    writable: (lo & PTE_RW) !== 0,
    dirty: (lo & PTE_DIRTY) !== 0,
    accessed: (lo & PTE_ACCESSED) !== 0,
    mapcount: frames.mapcount[pfn],
  };
}

/**
 * Whether touching the page at `addr`, inside `vma`, would not have to wait for a device: 1 or 0. A page of a file
 * counts when it is cached, mapped here or not.
 *
 * @linux mm/mincore.c:mincore_pte_range
 */
export function mincorePage(vma: VmArea, addr: VirtAddr): number {
  const { vm } = vma.mm;
  const entry = findLeaf(vma.mm, addr);
  if (entry >= 0) {
    const lo = vm.ram.i32[entry];
    if ((lo & PTE_MAPS) !== 0) return 1;
    const swp = pteToSwp(vm.tables.entryWords, lo, entryHi(vm.ram.i32, entry, vm.tables.entryWords));
    if (swp >= 0) return isSwapCached(vm, swp);
  }
  if (vma.file === null) return 0;
  const { pages, swaps } = vma.file.inode.mapping;
  const pgoff = linearPageIndex(vma, addr);
  const pfn = pages.get(pgoff);
  if (pfn < 0 && swaps.has(pgoff)) return isSwapCached(vm, swaps.get(pgoff));
  return pfn >= 0 && (vm.frames.flags[pfn] & PG_UPTODATE) !== 0 ? 1 : 0;
}

function isSwapCached(vm: Vm, swp: number): number {
  const pfn = swapCacheFrame(vm, swp);
  return pfn >= 0 && (vm.frames.flags[pfn] & PG_UPTODATE) !== 0 ? 1 : 0;
}
