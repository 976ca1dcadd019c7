/**
 * PAGEMAP_SCAN: which pages of a range are of which kinds, and with that, in one step, the write protection that tells the
 * next time which were stored to.
 *
 * @linux fs/proc/task_mmu.c:do_pagemap_scan
 */
import {
  Errno,
  PAGE_IS_FILE,
  PAGE_IS_GUARD,
  PAGE_IS_HUGE,
  PAGE_IS_PFNZERO,
  PAGE_IS_PRESENT,
  PAGE_IS_SOFT_DIRTY,
  PAGE_IS_SWAPPED,
  PAGE_IS_WPALLOWED,
  PAGE_IS_WRITTEN,
  PAGE_SIZE,
  PM_SCAN_CHECK_WPASYNC,
  PM_SCAN_WP_MATCHING,
} from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_PS, PTE_RW, PTE_SOFT_DIRTY_HI, PTE_UFFD_WP_LO } from '@pagelab/hw';
import { PG_ANON } from '@pagelab/mm-core';
import { splitHugePmd } from './huge-memory.ts';
import { hwpoisonPfn } from './hwpoison.ts';
import type { MmStruct } from './mm-struct.ts';
import { entryHi, setEntry } from './pgtable-shape.ts';
import { findPmd, nextBoundary, pteOffset, tableBelow } from './pgtable.ts';
import { MARKER_UFFD_WP, PTE_MAPS, PTE_SPECIAL, SWP_SOFT_DIRTY, isGuardMarker, isUffdWp, markerHi, markerLo, pfnOf, swpUffdWp } from './pte.ts';
import { uffdWpRange, uffdWpUsesMarkers } from './userfault-wp.ts';
import { isUffdAsync } from './userfaultfd.ts';
import { VM_HUGETLB, VM_PFNMAP, VM_SOFTDIRTY } from './vma.ts';
import type { VmArea } from './vma.ts';

/** What is asked. Addresses are whole pages; categories are `PAGE_IS_…` bits. @linux include/uapi/linux/fs.h:pm_scan_arg */
export interface PagemapScanQuery {
  readonly start: VirtAddr;
  readonly end: VirtAddr;
  /** PM_SCAN_ bits. */
  readonly flags: number;
  /** Regions there is room for; −1 where nobody wants to know them. */
  readonly maxRegions: number;
  /** Pages to find at most; `Infinity` for all. */
  readonly maxPages: number;
  readonly inverted: number;
  readonly mask: number;
  readonly anyof: number;
  readonly returned: number;
}

/** Pages in a row that are of the same categories. @linux include/uapi/linux/fs.h:page_region */
export interface PageRegion {
  readonly start: VirtAddr;
  end: VirtAddr;
  readonly categories: number;
}

/** Regions, where it ended, and 0 or −EPERM, −ENOMEM. */
export interface PagemapScanResult {
  readonly regions: readonly PageRegion[];
  readonly walkEnd: VirtAddr;
  readonly error: number;
}

/** Looks at a range of an address space. Costs a few steps a page that has a table. */
export function pagemapScan(mm: MmStruct, query: PagemapScanQuery): PagemapScanResult {
  const scan = new Scan(mm, query);
  const error = scan.walk();
  return { regions: scan.regions, walkEnd: scan.walkEnd === 0 ? query.end : scan.walkEnd, error: error === FULL ? 0 : error };
}

/** There is no more room, or enough was found. */
const FULL = -Errno.ENOSPC;

class Scan {
  readonly regions: PageRegion[] = [];
  walkEnd: VirtAddr = 0;
  private readonly mm: MmStruct;
  private readonly query: PagemapScanQuery;
  private readonly protects: boolean;
  private foundPages = 0;
  /** What is true of all pages of the mapping looked at. */
  private vmaCategories = 0;
  /** How much of what was offered last is taken, from its start. */
  private taken = 0;

  constructor(mm: MmStruct, query: PagemapScanQuery) {
    this.mm = mm;
    this.query = query;
    this.protects = (query.flags & PM_SCAN_WP_MATCHING) !== 0;
  }

  walk(): number {
    const { end, start } = this.query;
    for (let vma = this.mm.vmas.find(start); vma !== undefined && vma.start < end; vma = this.mm.vmas.find(vma.end)) {
      const test = this.testVma(vma);
      if (test < 0) return test;
      if (test === 0) continue;
      const error = this.walkVma(vma, Math.max(start, vma.start), Math.min(end, vma.end));
      if (error < 0) return error;
    }
    return 0;
  }

  /** Whether a mapping is looked at: 1, 0 or −EPERM. @linux fs/proc/task_mmu.c:pagemap_scan_test_walk */
  private testVma(vma: VmArea): number {
    const { flags, inverted, mask } = this.query;
    const mayProtect = isUffdAsync(vma) && uffdWpUsesMarkers(vma);
    if (!mayProtect) {
      if ((flags & PM_SCAN_CHECK_WPASYNC) !== 0) return -Errno.EPERM;
      if (this.protects) return 0;
    }
    if ((vma.flags & VM_PFNMAP) !== 0) return 0;
    this.vmaCategories = (mayProtect ? PAGE_IS_WPALLOWED : 0) | ((vma.flags & VM_SOFTDIRTY) !== 0 ? PAGE_IS_SOFT_DIRTY : 0);
    const required = mask & PAGE_IS_WPALLOWED;
    return ((this.vmaCategories ^ inverted) & required) === required ? 1 : 0;
  }

  private walkVma(vma: VmArea, start: VirtAddr, end: VirtAddr): number {
    const { ram, tables } = this.mm.vm;
    for (let addr = start; addr < end; ) {
      const pmdEntry = findPmd(this.mm, addr);
      // Above what is missing, there may be nothing for longer.
      const next = Math.min(end, nextBoundary(addr, pmdEntry < 0 ? tables.pudSize : tables.pmdSize));
      let error: number;
      if (pmdEntry >= 0 && (vma.flags & VM_HUGETLB) !== 0) error = this.poolPage(vma, pmdEntry, addr, next);
      else if (pmdEntry < 0 || ram.i32[pmdEntry] === 0) error = this.hole(vma, addr, next);
      else error = this.block(vma, pmdEntry, addr, next);
      if (error < 0) return error;
      addr = next;
    }
    return 0;
  }

  /** @linux fs/proc/task_mmu.c:pagemap_scan_is_interesting_page */
  private isWanted(categories: number): boolean {
    const { anyof, inverted, mask } = this.query;
    const seen = categories ^ inverted;
    return (seen & mask) === mask && (anyof === 0 || (seen & anyof) !== 0);
  }

  /** Takes what is found as far as there is room; how far is in `taken`. @linux fs/proc/task_mmu.c:pagemap_scan_output */
  private output(allCategories: number, addr: VirtAddr, end: VirtAddr): number {
    const { maxPages, maxRegions, returned } = this.query;
    this.taken = end - addr;
    if (maxRegions < 0) return 0;
    const categories = allCategories & returned;
    const room = maxPages - this.foundPages;
    const isShort = this.taken / PAGE_SIZE > room;
    if (isShort) this.taken = room * PAGE_SIZE;
    const last = this.regions.at(-1);
    if (this.taken > 0) {
      if (last !== undefined && last.end === addr && last.categories === categories) last.end = addr + this.taken;
      else if (this.regions.length < maxRegions) this.regions.push({ start: addr, end: addr + this.taken, categories });
      else {
        this.taken = 0;
        this.walkEnd = addr;
        return FULL;
      }
    }
    this.foundPages += this.taken / PAGE_SIZE;
    if (!isShort) return 0;
    this.walkEnd = addr + this.taken;
    return FULL;
  }

  /** Gives back what was taken last. @linux fs/proc/task_mmu.c:pagemap_scan_backout_range */
  private backOut(addr: VirtAddr): void {
    if (this.query.maxRegions < 0) return;
    this.foundPages -= this.taken / PAGE_SIZE;
    const last = this.regions.at(-1);
    if (last === undefined || this.taken === 0) return;
    if (last.start === addr) this.regions.pop();
    else last.end = addr;
  }

  /** Where there is no table. @linux fs/proc/task_mmu.c:pagemap_scan_pte_hole */
  private hole(vma: VmArea, addr: VirtAddr, end: VirtAddr): number {
    // Where stores can be noted, what has no mark was stored to, as far as anybody knows.
    const categories = this.vmaCategories | ((this.vmaCategories & PAGE_IS_WPALLOWED) !== 0 ? PAGE_IS_WRITTEN : 0);
    if (!this.isWanted(categories)) return 0;
    const full = this.output(categories, addr, end);
    if (this.taken === 0 || !this.protects) return full;
    const error = uffdWpRange(vma, addr, addr + this.taken, true);
    return error < 0 ? error : full;
  }

  /** @linux fs/proc/task_mmu.c:pagemap_scan_pmd_entry */
  private block(vma: VmArea, pmdEntry: number, addr: VirtAddr, end: VirtAddr): number {
    const { ram, tables } = this.mm.vm;
    if ((ram.i32[pmdEntry] & PTE_PS) !== 0) {
      const result = this.hugePage(vma, pmdEntry, addr, end);
      if (result !== SPLIT) return result;
      if (ram.i32[pmdEntry] === 0) return this.hole(vma, addr, end);
    }
    const entry = pteOffset(tables, tableBelow(this.mm.vm, pmdEntry), addr);
    const { anyof, inverted, mask, maxRegions, returned } = this.query;
    const onlyProtects = this.protects && maxRegions < 0;
    const onlyWritten = anyof === 0 && inverted === 0 && mask === PAGE_IS_WRITTEN && returned === PAGE_IS_WRITTEN;
    let full = 0;
    let changed = false;
    for (let at = addr, word = entry; at < end && full === 0; at += PAGE_SIZE, word += tables.entryWords) {
      const isProtected = this.isProtected(word);
      if (onlyProtects) {
        if (!isProtected) this.protect(word);
        changed ||= !isProtected;
        continue;
      }
      const categories = this.vmaCategories | (onlyWritten ? (isProtected ? 0 : PAGE_IS_WRITTEN) : this.pageCategories(word));
      if (onlyWritten ? isProtected : !this.isWanted(categories)) continue;
      full = this.output(categories, at, at + PAGE_SIZE);
      if (this.taken === 0) break;
      if (!this.protects || (categories & PAGE_IS_WRITTEN) === 0) continue;
      this.protect(word);
      changed = true;
    }
    if (changed) this.mm.vm.smp.flushTlbRange(this.mm.pgd * PAGE_SIZE, addr, end);
    return full;
  }

  private isProtected(entry: number): boolean {
    const { ram, tables } = this.mm.vm;
    return isUffdWp(tables, ram.i32[entry], entryHi(ram.i32, entry, tables.entryWords));
  }

  /** A table's empty entries count as stored to, for nothing says that they were not. @linux fs/proc/task_mmu.c:pagemap_page_category */
  private pageCategories(entry: number): number {
    const { frames, ram, tables, zeroPfn } = this.mm.vm;
    const lo = ram.i32[entry];
    const hi = entryHi(ram.i32, entry, tables.entryWords);
    let categories = isUffdWp(tables, lo, hi) ? 0 : PAGE_IS_WRITTEN;
    if ((lo & PTE_MAPS) !== 0) {
      const pfn = pfnOf(lo, hi);
      categories |= PAGE_IS_PRESENT;
      if (pfn === zeroPfn) categories |= PAGE_IS_PFNZERO;
      if ((lo & PTE_SPECIAL) === 0 && (frames.flags[pfn] & PG_ANON) === 0) categories |= PAGE_IS_FILE;
      if ((hi & PTE_SOFT_DIRTY_HI) !== 0) categories |= PAGE_IS_SOFT_DIRTY;
    } else if ((lo | hi) !== 0) {
      categories |= PAGE_IS_SWAPPED;
      if (isGuardMarker(tables, lo, hi)) categories |= PAGE_IS_GUARD;
      const broken = hwpoisonPfn(tables, lo, hi);
      if (broken >= 0 && this.mm.vm.hwpoison.frames.get(broken) !== 'anon') categories |= PAGE_IS_FILE;
      if (tables.entryWords === 2 && (lo & SWP_SOFT_DIRTY) !== 0) categories |= PAGE_IS_SOFT_DIRTY;
    }
    return categories;
  }

  /** @linux fs/proc/task_mmu.c:make_uffd_wp_pte */
  private protect(entry: number): void {
    const { ram, tables } = this.mm.vm;
    const { i32 } = ram;
    const lo = i32[entry];
    const hi = entryHi(i32, entry, tables.entryWords);
    if ((lo & PTE_MAPS) !== 0) i32[entry] = (lo | PTE_UFFD_WP_LO) & ~PTE_RW;
    else if ((lo | hi) !== 0) i32[entry] = lo | swpUffdWp(tables);
    else setEntry(i32, entry, tables.entryWords, markerLo(tables, MARKER_UFFD_WP), markerHi(tables));
  }

  /** What a huge entry says. */
  private hugeCategories(pmdEntry: number): number {
    const { frames, ram, tables } = this.mm.vm;
    const lo = ram.i32[pmdEntry];
    const hi = entryHi(ram.i32, pmdEntry, tables.entryWords);
    let categories = this.vmaCategories | PAGE_IS_HUGE | PAGE_IS_PRESENT;
    if ((lo & PTE_UFFD_WP_LO) === 0) categories |= PAGE_IS_WRITTEN;
    if ((lo & PTE_SPECIAL) !== 0) categories |= PAGE_IS_PFNZERO;
    else if ((frames.flags[pfnOf(lo, hi)] & PG_ANON) === 0) categories |= PAGE_IS_FILE;
    if ((hi & PTE_SOFT_DIRTY_HI) !== 0) categories |= PAGE_IS_SOFT_DIRTY;
    return categories;
  }

  /** @returns 0, FULL, or SPLIT where its parts are to be looked at @linux fs/proc/task_mmu.c:pagemap_scan_thp_entry */
  private hugePage(vma: VmArea, pmdEntry: number, addr: VirtAddr, end: VirtAddr): number {
    const { ram, smp, tables } = this.mm.vm;
    const categories = this.hugeCategories(pmdEntry);
    if (!this.isWanted(categories)) return 0;
    const full = this.output(categories, addr, end);
    if (this.taken === 0 || !this.protects || (categories & PAGE_IS_WRITTEN) === 0) return full;
    if (this.taken !== tables.pmdSize) {
      // Only a part is to be protected.
      splitHugePmd(this.mm, Math.floor(addr / tables.pmdSize) * tables.pmdSize, pmdEntry);
      this.backOut(addr);
      this.walkEnd = 0;
      return SPLIT;
    }
    ram.i32[pmdEntry] = (ram.i32[pmdEntry] | PTE_UFFD_WP_LO) & ~PTE_RW;
    smp.flushTlbRange(this.mm.pgd * PAGE_SIZE, addr, end);
    return full;
  }

  /** @linux fs/proc/task_mmu.c:pagemap_scan_hugetlb_entry */
  private poolPage(vma: VmArea, pmdEntry: number, addr: VirtAddr, end: VirtAddr): number {
    const { ram, smp, tables } = this.mm.vm;
    const { i32 } = ram;
    const lo = i32[pmdEntry];
    const isShown = (lo & PTE_MAPS) !== 0;
    const elsewhere = lo === 0 ? 0 : this.isProtected(pmdEntry) ? PAGE_IS_SWAPPED : PAGE_IS_SWAPPED | PAGE_IS_WRITTEN;
    const categories = isShown ? this.hugeCategories(pmdEntry) : this.vmaCategories | PAGE_IS_HUGE | elsewhere;
    if (!this.isWanted(categories)) return 0;
    const full = this.output(categories, addr, end);
    if (this.taken === 0 || !this.protects || (categories & PAGE_IS_WRITTEN) === 0) return full;
    if (this.taken !== tables.pmdSize) {
      // A part of such a page cannot be protected.
      this.backOut(addr);
      this.walkEnd = addr;
      return 0;
    }
    if (isShown) i32[pmdEntry] = (lo | PTE_UFFD_WP_LO) & ~PTE_RW;
    smp.flushTlbRange(this.mm.pgd * PAGE_SIZE, addr, end);
    return full;
  }
}

/** {@link Scan.hugePage}: there is a table now, or nothing. */
const SPLIT = 1;
