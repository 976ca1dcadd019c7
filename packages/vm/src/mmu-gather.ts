/**
 * Collects what an unmapping takes away until no CPU can reach it any more.
 *
 * The order is what matters: entries are cleared first, then the translations of the whole range are flushed once, and
 * only then are the frames given back, pages and page tables both. Between those steps nothing may run in the address
 * space.
 *
 * @linux mm/mmu_gather.c
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SHIFT, PAGE_SIZE, TLB_FREED_TABLES } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { PG_SWAPCACHE, PG_TAIL } from '@pagelab/mm-core';
import { putUnmappedHugetlb } from './hugetlb.ts';
import type { MmStruct } from './mm-struct.ts';
import { freeTable } from './pgtable.ts';
import { freeSwapCache } from './swap-state.ts';
import type { Vm } from './vm.ts';

/** Pages collected at most before a flush is due. @linux include/asm-generic/tlb.h:MAX_GATHER_BATCH_COUNT */
export const MMU_GATHER_PAGES = 10_000;

/** One at a time is open; `Vm.gather` is used by every operation in turn. */
export class MmuGather {
  private readonly vm: Vm;
  private mm: MmStruct | null = null;
  /** The range whose translations are stale. */
  private start: VirtAddr = Infinity;
  private end: VirtAddr = 0;
  private pages = new Int32Array(64);
  private nrPages = 0;
  private readonly tables: Pfn[] = [];
  private nrTables = 0;
  /** An entry of PAE's top level was cleared. */
  private reload = false;

  constructor(vm: Vm) {
    this.vm = vm;
  }

  /** Opens it for an address space. @linux mm/mmu_gather.c:tlb_gather_mmu */
  begin(mm: MmStruct): void {
    bugOn(this.mm !== null, 'mmu gather: opened twice');
    this.mm = mm;
  }

  /** Entries in [start, end) were cleared or lost rights. @linux include/asm-generic/tlb.h:__tlb_adjust_range */
  noteRange(start: VirtAddr, end: VirtAddr): void {
    if (start < this.start) this.start = start;
    if (end > this.end) this.end = end;
  }

  /**
   * Takes over the reference of an entry that was cleared. Returns whether it is full: then the caller notes what it
   * cleared so far and flushes.
   *
   * @linux include/asm-generic/tlb.h:__tlb_remove_page
   */
  addPage(pfn: Pfn): boolean {
    if (this.nrPages === this.pages.length) this.grow();
    this.pages[this.nrPages++] = pfn;
    return this.nrPages === MMU_GATHER_PAGES;
  }

  /** Takes over a page table that no entry leads to any more. @linux include/asm-generic/tlb.h:tlb_remove_table */
  addTable(pfn: Pfn): void {
    // Setting the length of an array to 0 costs 70 ns: it keeps its length, and the count is apart.
    this.tables[this.nrTables++] = pfn;
  }

  /** An entry of a top level that CPUs have in registers was cleared. @linux include/asm-generic/tlb.h:need_flush_all */
  noteTopLevel(): void {
    this.reload = true;
  }

  /** Flushes what is stale and frees what was collected. @linux mm/mmu_gather.c:tlb_flush_mmu */
  flush(): void {
    const vm = this.vm;
    if (this.reload) {
      vm.smp.flushTlbMm(this.mm!.pgd * PAGE_SIZE);
      this.reload = false;
      this.start = Infinity;
      this.end = 0;
    } else if (this.end > this.start) {
      vm.smp.flushTlbRange(this.mm!.pgd * PAGE_SIZE, this.start, this.end, PAGE_SHIFT, this.nrTables > 0 ? TLB_FREED_TABLES : 0);
      this.start = Infinity;
      this.end = 0;
    }
    if (vm.hugetlb.unmapped.length > 0) putUnmappedHugetlb(vm);
    const pages = this.pages;
    const nrPages = this.nrPages;
    const { flags } = vm.frames;
    for (let i = 0; i < nrPages; i++) {
      const pfn = pages[i];
      // The slot of a page that nobody maps any more goes with it.
      if ((flags[pfn] & (PG_SWAPCACHE | PG_TAIL)) !== 0) freeSwapCache(vm, pfn);
      vm.pages.putPage(pfn);
    }
    this.nrPages = 0;
    const tables = this.tables;
    for (let i = 0; i < this.nrTables; i++) freeTable(vm, tables[i]);
    this.nrTables = 0;
  }

  /** Flushes and closes. @linux mm/mmu_gather.c:tlb_finish_mmu */
  finish(): void {
    this.flush();
    if (this.vm.deferredSplit.hasUncounted) this.vm.deferredSplit.count();
    this.mm = null;
  }

  private grow(): void {
    const longer = new Int32Array(Math.min(this.pages.length * 4, MMU_GATHER_PAGES));
    longer.set(this.pages);
    this.pages = longer;
  }
}
