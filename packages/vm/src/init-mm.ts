/**
 * The kernel's own page tables: the half that every address space shares. They are real entries in simulated RAM, in
 * whatever format the CPUs walk, and every table below the top level, once made, stays for good, as in Linux.
 *
 * @linux mm/init-mm.c:init_mm
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import {
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_GLOBAL,
  PTE_NX_HI,
  PTE_PRESENT,
  PTE_PS,
  PTE_RW,
  largePfn,
  pteHi,
  pteLo,
  ptePfn,
  tableIndex,
} from '@pagelab/hw';
import type { PageTableFormat, PageTableLevel, Pfn, PhysicalMemory } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { GFP_KERNEL, NODE_STAT, PG_TABLE, __GFP_ZERO } from '@pagelab/mm-core';
import type { Vm } from './vm.ts';

/** Kernel data: readable, writable, not executable, the same in every address space. @linux arch/x86/include/asm/pgtable_types.h:PAGE_KERNEL */
export const PAGE_KERNEL_LO = PTE_PRESENT | PTE_RW | PTE_ACCESSED | PTE_DIRTY | PTE_GLOBAL;
export const PAGE_KERNEL_HI = PTE_NX_HI;
/** @linux arch/x86/include/asm/pgtable_types.h:_KERNPG_TABLE */
const KERNPG_TABLE = PTE_PRESENT | PTE_RW | PTE_ACCESSED | PTE_DIRTY;

/** What stands for an address in the kernel's page tables, level by level: what an oops prints. */
export interface KernelWalk {
  /** The entries met, top first: Linux's name of the level, and the entry as a number of up to 52 bits with NX left out. */
  readonly entries: readonly { readonly level: PageTableLevel['name']; readonly lo: number; readonly hi: number }[];
  /** The frame, or −1 where nothing is mapped. */
  readonly pfn: Pfn;
}

export class InitMm {
  /** Frames of the page allocator that hold tables, in the order they were made. */
  readonly tables: Pfn[] = [];

  readonly #vm: Vm;
  readonly #ram: PhysicalMemory;
  readonly #format: PageTableFormat;
  /** Whether a kernel counts its own tables of a level in NR_PAGETABLE. */
  readonly #counted: (level: PageTableLevel['name']) => boolean;

  constructor(vm: Vm, counted: (level: PageTableLevel['name']) => boolean) {
    this.#vm = vm;
    this.#ram = vm.ram;
    this.#format = vm.smp.cpus[0].format;
    this.#counted = counted;
  }

  /**
   * Host word of the last-level entry of a kernel address, made with the tables above it where they are missing.
   *
   * @returns −ENOMEM where there is no memory for a table; those made before it stay
   * @linux mm/vmalloc.c:vmap_pages_pte_range
   */
  allocPte(addr: VirtAddr): number {
    return this.#descend(addr, this.#format.levels.length - 1);
  }

  /**
   * Makes the second-level tables of a range, so that top-level entries never change once address spaces have copied them.
   * With less than four levels those of the range are there from boot on.
   *
   * @returns 0 or −ENOMEM
   * @linux arch/x86/mm/init_64.c:preallocate_vmalloc_pages
   */
  preallocate(start: VirtAddr, end: VirtAddr): number {
    const top = this.#format.levels[0];
    if (top.shift < 32) return 0;
    const span = 2 ** top.shift;
    for (let addr = Math.floor(start / span) * span; addr < end; addr += span) {
      const entry = this.#descend(addr, 1);
      if (entry < 0) return entry;
    }
    return 0;
  }

  /** Host word of the entry of `addr` at depth `last`, tables made on the way; or −ENOMEM. */
  #descend(addr: VirtAddr, last: number): number {
    const { levels } = this.#format;
    const { i32 } = this.#ram;
    let table = this.#ram.frameWord(this.#vm.kernelPgd);
    for (let depth = 0; depth < last; depth++) {
      const entry = this.#entry(table, levels[depth], addr);
      const lo = i32[entry];
      bugOn((lo & PTE_PS) !== 0, 'kernel page tables: a large page where a table should be');
      if (lo === 0) {
        const made = this.#installTable(entry, depth);
        if (made < 0) return made;
        table = made;
      } else {
        table = this.#ram.frameWord(ptePfn(lo, this.#hi(entry)));
      }
    }
    return this.#entry(table, levels[last], addr);
  }

  #installTable(entry: number, depth: number): number {
    const vm = this.#vm;
    const pfn = vm.pages.allocPage(GFP_KERNEL | __GFP_ZERO);
    if (pfn < 0) return -Errno.ENOMEM;
    vm.frames.flags[pfn] |= PG_TABLE;
    this.tables.push(pfn);
    if (this.#counted(this.#format.levels[depth + 1].name)) vm.pages.modNodeState(pfn, NODE_STAT.NR_PAGETABLE, 1);
    this.#write(entry, pteLo(pfn, KERNPG_TABLE), pteHi(pfn, 0));
    if (depth === 0) this.#syncTopLevel(entry);
    return this.#ram.frameWord(pfn);
  }

  /** Every address space has a copy of the top level. @linux arch/x86/mm/fault.c:arch_sync_kernel_mappings */
  #syncTopLevel(entry: number): void {
    const { i32 } = this.#ram;
    const at = entry - this.#ram.frameWord(this.#vm.kernelPgd);
    this.#vm.mms.forEach((mm) => {
      const own = this.#ram.frameWord(mm.pgd) + at;
      i32[own] = i32[entry];
      if (this.#format.entryBytes === 8) i32[own + 1] = i32[entry + 1];
    });
  }

  /** Host word of the last-level entry of a kernel address; −1 where there is none. */
  findPte(addr: VirtAddr): number {
    const { levels } = this.#format;
    let table = this.#ram.frameWord(this.#vm.kernelPgd);
    for (let depth = 0; depth < levels.length - 1; depth++) {
      const entry = this.#entry(table, levels[depth], addr);
      const lo = this.#ram.i32[entry];
      if ((lo & PTE_PRESENT) === 0 || (lo & PTE_PS) !== 0) return -1;
      table = this.#ram.frameWord(ptePfn(lo, this.#hi(entry)));
    }
    return this.#entry(table, levels.at(-1)!, addr);
  }

  /**
   * Host word of the entry for a large page at a kernel address. A table of no entries that is there goes, once no CPU knows it.
   *
   * @param addr a multiple of a large page
   * @returns −ENOMEM without memory for a table
   * @linux mm/vmalloc.c:vmap_try_huge_pmd, arch/x86/mm/pgtable.c:pmd_free_pte_page
   */
  allocPmd(addr: VirtAddr): number {
    const { levels } = this.#format;
    const depth = levels.length - 2;
    const entry = this.#descend(addr, depth);
    if (entry < 0) return entry;
    const lo = this.#ram.i32[entry];
    bugOn((lo & PTE_PS) !== 0, 'vmap: a large page is mapped there already');
    if (lo === 0) return entry;
    const vm = this.#vm;
    const span = 2 ** levels[depth].shift;
    bugOn(this.countMapped(addr, addr + span) !== 0, 'vmap: something is mapped there already');
    const pfn = ptePfn(lo, this.#hi(entry));
    this.#write(entry, 0, 0);
    vm.smp.flushTlbKernelRange(addr, addr + span);
    this.tables.splice(this.tables.indexOf(pfn), 1);
    if (this.#counted(levels[depth + 1].name)) vm.pages.modNodeState(pfn, NODE_STAT.NR_PAGETABLE, -1);
    vm.frames.flags[pfn] &= ~PG_TABLE;
    vm.pages.freePage(pfn);
    return entry;
  }

  /** Shows frames side by side at an entry of {@link allocPmd}. @linux arch/x86/mm/pgtable.c:pmd_set_huge */
  setPmd(entry: number, pfn: Pfn): void {
    this.#write(entry, pteLo(pfn, PAGE_KERNEL_LO | PTE_PS), pteHi(pfn, this.#format.noExecute ? PAGE_KERNEL_HI : 0));
  }

  /** Takes away the large page that begins at an address. @returns its bytes, 0 where there is none @linux arch/x86/mm/pgtable.c:pmd_clear_huge */
  clearPmd(addr: VirtAddr): number {
    const { levels } = this.#format;
    const { i32 } = this.#ram;
    let table = this.#ram.frameWord(this.#vm.kernelPgd);
    for (const level of levels) {
      const entry = this.#entry(table, level, addr);
      const lo = i32[entry];
      if ((lo & PTE_PRESENT) === 0 || level.name === 'pte') return 0;
      if ((lo & PTE_PS) !== 0) {
        this.#write(entry, 0, 0);
        return 2 ** level.shift;
      }
      table = this.#ram.frameWord(ptePfn(lo, this.#hi(entry)));
    }
    return 0;
  }

  /** Shows a frame at an entry of {@link allocPte}. */
  setPte(entry: number, pfn: Pfn): void {
    this.#write(entry, pteLo(pfn, PAGE_KERNEL_LO), pteHi(pfn, this.#format.noExecute ? PAGE_KERNEL_HI : 0));
  }

  /** Clears an entry, and returns the frame it showed, or −1. */
  clearPte(entry: number): Pfn {
    const lo = this.#ram.i32[entry];
    if (lo === 0) return -1;
    const pfn = ptePfn(lo, this.#hi(entry));
    this.#write(entry, 0, 0);
    return pfn;
  }

  /** Whether nothing is at an entry. */
  isNone(entry: number): boolean {
    return this.#ram.i32[entry] === 0;
  }

  /** Pages shown from `start` to `end`, those of large ones among them. Costs a look at each entry of each table there. */
  countMapped(start: VirtAddr, end: VirtAddr): number {
    return this.#countBelow(this.#ram.frameWord(this.#vm.kernelPgd), 0, start, end);
  }

  #countBelow(table: number, depth: number, start: VirtAddr, end: VirtAddr): number {
    const level = this.#format.levels[depth];
    const span = 2 ** level.shift;
    let count = 0;
    for (let addr = Math.floor(start / span) * span; addr < end; addr += span) {
      const entry = this.#entry(table, level, addr);
      const lo = this.#ram.i32[entry];
      if ((lo & PTE_PRESENT) === 0) continue;
      if (level.name === 'pte') count += 1;
      else if ((lo & PTE_PS) !== 0) count += span / PAGE_SIZE;
      else count += this.#countBelow(this.#ram.frameWord(ptePfn(lo, this.#hi(entry))), depth + 1, Math.max(start, addr), Math.min(end, addr + span));
    }
    return count;
  }

  /** @throws KernelBug where a table is none */
  validate(): void {
    const { flags, refcount } = this.#vm.frames;
    for (const pfn of this.tables) bugOn((flags[pfn] & PG_TABLE) === 0 || refcount[pfn] !== 1, `kernel page tables: frame ${pfn} is none`);
  }

  /** What page tables say of an address: the kernel's, unless others' top level is told. @linux arch/x86/mm/fault.c:dump_pagetable */
  walk(addr: VirtAddr, pgd: Pfn = this.#vm.kernelPgd): KernelWalk {
    const { levels } = this.#format;
    const entries: { level: PageTableLevel['name']; lo: number; hi: number }[] = [];
    let table = this.#ram.frameWord(pgd);
    for (const level of levels) {
      const entry = this.#entry(table, level, addr);
      const lo = this.#ram.i32[entry];
      const hi = this.#hi(entry);
      entries.push({ level: level.name, lo, hi });
      if ((lo & PTE_PRESENT) === 0) return { entries, pfn: -1 };
      if (level.name === 'pte') return { entries, pfn: ptePfn(lo, hi) };
      if ((lo & PTE_PS) !== 0) {
        const inside = Math.floor(addr / PAGE_SIZE) - Math.floor(addr / 2 ** level.shift) * 2 ** (level.shift - 12);
        return { entries, pfn: largePfn(this.#format, level, lo, hi) + inside };
      }
      table = this.#ram.frameWord(ptePfn(lo, hi));
      if (table < 0) break;
    }
    return { entries, pfn: -1 };
  }

  #entry(table: number, level: PageTableLevel, addr: VirtAddr): number {
    return table + tableIndex(level, addr) * (this.#format.entryBytes >>> 2);
  }

  #hi(entry: number): number {
    return this.#format.entryBytes === 8 ? this.#ram.i32[entry + 1] : 0;
  }

  #write(entry: number, lo: number, hi: number): void {
    this.#ram.i32[entry] = lo;
    if (this.#format.entryBytes === 8) this.#ram.i32[entry + 1] = hi;
  }
}
