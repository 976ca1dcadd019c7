/**
 * Four-level page tables in simulated RAM.
 *
 * A *host word* below is an index into `ram.i32`: an entry is two of them, low word first. Tables are frames of the
 * page allocator; `mm.pgtablesBytes` counts those of the three lower levels.
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_WORDS, PTE_PS, pgdIndex, pmdIndex, pteIndex, pudIndex, pteHi, pteLo } from '@pagelab/hw';
import type { Pfn, PhysicalMemory } from '@pagelab/hw';
import { GFP_KERNEL_ACCOUNT, NODE_STAT, PG_TABLE, __GFP_ZERO } from '@pagelab/mm-core';
import type { MmStruct } from './mm-struct.ts';
import { PTE_TABLE, pfnOf } from './pte.ts';
import type { Vm } from './vm.ts';

/** @linux include/asm-generic/pgalloc.h:GFP_PGTABLE_USER */
const GFP_PGTABLE_USER = GFP_KERNEL_ACCOUNT | __GFP_ZERO;

/** Bytes that one entry of each level covers. */
export const PMD_SIZE = 2 ** 21;
export const PUD_SIZE = 2 ** 30;
export const PGDIR_SIZE = 2 ** 39;

/** Entries 256 and up of the top level are the kernel's, the same in every address space. */
const KERNEL_PGD_WORD = PAGE_WORDS / 2;

/** The first multiple of `size` above `addr`. */
export function nextBoundary(addr: VirtAddr, size: number): VirtAddr {
  return Math.floor(addr / size) * size + size;
}

/**
 * Gives an address space its top-level table: user half empty, kernel half that of every other.
 *
 * @returns 0, or −ENOMEM
 * @linux arch/x86/mm/pgtable.c:pgd_alloc
 */
export function pgdAlloc(mm: MmStruct): number {
  const { vm } = mm;
  const { ram } = vm;
  const pgd = allocTable(vm);
  if (pgd < 0) return -Errno.ENOMEM;
  const to = ram.frameWord(pgd);
  const from = ram.frameWord(vm.kernelPgd);
  ram.i32.copyWithin(to + KERNEL_PGD_WORD, from + KERNEL_PGD_WORD, from + PAGE_WORDS);
  mm.pgd = pgd;
  return 0;
}

/** Frees the top-level table, whose user half must be empty by now. @linux arch/x86/mm/pgtable.c:pgd_free */
export function pgdFree(mm: MmStruct): void {
  freeTable(mm.vm, mm.pgd);
  mm.pgd = -1;
}

/** Takes a zeroed frame for a table; −ENOMEM where there is none. @linux include/asm-generic/pgalloc.h:pte_alloc_one */
export function allocTable(vm: Vm): Pfn {
  const pfn = vm.pages.allocPage(GFP_PGTABLE_USER);
  if (pfn < 0) return pfn;
  vm.frames.flags[pfn] |= PG_TABLE;
  vm.pages.modNodeState(pfn, NODE_STAT.NR_PAGETABLE, 1);
  return pfn;
}

/** Gives a table's frame back. @linux include/asm-generic/pgalloc.h:pte_free */
export function freeTable(vm: Vm, pfn: Pfn): void {
  vm.frames.flags[pfn] &= ~PG_TABLE;
  vm.pages.modNodeState(pfn, NODE_STAT.NR_PAGETABLE, -1);
  vm.pages.freePage(pfn);
}

/** Host word of the table that an entry leads to; −1 for an empty entry. */
export function tableBelow(ram: PhysicalMemory, entry: number): number {
  const lo = ram.i32[entry];
  return lo === 0 ? -1 : ram.frameWord(pfnOf(lo, ram.i32[entry + 1]));
}

/** Host word of the entry of `addr` in the second level; −1 where there is no such table. */
export function findPud(mm: MmStruct, addr: VirtAddr): number {
  const { ram } = mm.vm;
  const pud = tableBelow(ram, ram.frameWord(mm.pgd) + pgdIndex(addr) * 2);
  return pud < 0 ? -1 : pud + pudIndex(addr) * 2;
}

/** Host word of the entry of `addr` in the third level; −1 where a table above is missing. */
export function findPmd(mm: MmStruct, addr: VirtAddr): number {
  const pudEntry = findPud(mm, addr);
  if (pudEntry < 0) return -1;
  const pmd = tableBelow(mm.vm.ram, pudEntry);
  return pmd < 0 ? -1 : pmd + pmdIndex(addr) * 2;
}

/** Host word of the last-level entry of `addr`; −1 where a table is missing, or a huge entry is in its place. */
export function findPte(mm: MmStruct, addr: VirtAddr): number {
  const leaf = findLeaf(mm, addr);
  return leaf < 0 || (mm.vm.ram.i32[leaf] & PTE_PS) === 0 ? leaf : -1;
}

/**
 * Host word of the entry that shows what is at `addr`: of the last level, or of the third with PTE_PS, which no entry of
 * the last level has. −1 where a table is missing. {@link leafLo} makes one of the other.
 */
export function findLeaf(mm: MmStruct, addr: VirtAddr): number {
  const pmd = findPmd(mm, addr);
  if (pmd < 0) return -1;
  if ((mm.vm.ram.i32[pmd] & PTE_PS) !== 0) return pmd;
  const table = tableBelow(mm.vm.ram, pmd);
  return table < 0 ? -1 : table + pteIndex(addr) * 2;
}

/** The low word that a last-level entry of `addr` would have, of what {@link findLeaf} found. */
export function leafLo(lo: number, addr: VirtAddr): number {
  return (lo & PTE_PS) === 0 ? lo : (lo & ~PTE_PS) | (pteIndex(addr) << 12);
}

/**
 * As {@link findPud}, making the table where it is missing; −1 where there is no memory for it.
 *
 * @linux include/linux/mm.h:pud_alloc
 */
export function allocPud(mm: MmStruct, addr: VirtAddr): number {
  const { ram } = mm.vm;
  const pgdEntry = ram.frameWord(mm.pgd) + pgdIndex(addr) * 2;
  const pud = ram.i32[pgdEntry] === 0 ? installTable(mm, pgdEntry) : tableBelow(ram, pgdEntry);
  return pud < 0 ? -1 : pud + pudIndex(addr) * 2;
}

/**
 * As {@link findPmd}, making the tables that are missing; −1 where there is no memory for one. Tables made before that
 * stay, as they do in Linux.
 *
 * @linux include/linux/mm.h:pmd_alloc
 */
export function allocPmd(mm: MmStruct, addr: VirtAddr): number {
  const { ram } = mm.vm;
  const pudEntry = allocPud(mm, addr);
  if (pudEntry < 0) return -1;
  const pmd = ram.i32[pudEntry] === 0 ? installTable(mm, pudEntry) : tableBelow(ram, pudEntry);
  return pmd < 0 ? -1 : pmd + pmdIndex(addr) * 2;
}

/**
 * As {@link findPte}, making the tables that are missing; −1 where there is no memory.
 *
 * @linux include/linux/mm.h:pte_alloc
 */
export function allocPte(mm: MmStruct, addr: VirtAddr): number {
  const pmdEntry = allocPmd(mm, addr);
  return pmdEntry < 0 ? -1 : allocPteBelow(mm, pmdEntry, addr);
}

/**
 * Host word of the entry of `addr` in the last-level table below `pmdEntry`, made where it is missing; −1 without
 * memory.
 */
export function allocPteBelow(mm: MmStruct, pmdEntry: number, addr: VirtAddr): number {
  const { ram } = mm.vm;
  const table = ram.i32[pmdEntry] === 0 ? installTable(mm, pmdEntry) : tableBelow(ram, pmdEntry);
  return table < 0 ? -1 : table + pteIndex(addr) * 2;
}

/** Hangs a new, empty table below `entry`; its host word, or −1 without memory. */
export function installTable(mm: MmStruct, entry: number): number {
  const { ram } = mm.vm;
  const pfn = allocTable(mm.vm);
  if (pfn < 0) return -1;
  ram.i32[entry] = pteLo(pfn, PTE_TABLE);
  ram.i32[entry + 1] = pteHi(pfn, 0);
  mm.pgtablesBytes += PAGE_SIZE;
  return ram.frameWord(pfn);
}

/**
 * Goes through the last-level tables and huge entries below a range, one stop each, and skips what is empty a whole entry of the
 * upper levels at a time: the cost grows with the tables there are, not with the range.
 *
 * ```
 * const walk = new PteTableWalk(mm, start, end);
 * while (walk.next()) {
 *   for (let i = 0, entry = walk.entry; i < walk.count; i++, entry += 2) …  // address: walk.addr + i * PAGE_SIZE
 * }
 * ```
 *
 * @linux mm/pagewalk.c:walk_pgd_range
 */
export class PteTableWalk {
  /** Where this stop begins. */
  addr: VirtAddr = 0;
  /** Host word of the entry of `addr`. */
  entry = 0;
  /** Entries of this stop, in a row from `entry` on. */
  count = 0;
  /** Host word of the third-level entry above the table. */
  pmdEntry = 0;
  /** The third-level entry shows a huge page, or a part of it is in the range: there is no table, and no `entry`. */
  huge = false;

  private readonly ram: PhysicalMemory;
  private readonly pgd: number;
  private readonly end: VirtAddr;
  private from: VirtAddr;

  /** `start` and `end` are page-aligned user addresses. */
  constructor(mm: MmStruct, start: VirtAddr, end: VirtAddr) {
    this.ram = mm.vm.ram;
    this.pgd = this.ram.frameWord(mm.pgd);
    this.from = start;
    this.end = end;
  }

  /** Goes to the next table; false where there is none left. */
  next(): boolean {
    const { end, ram } = this;
    const { i32 } = ram;
    let addr = this.from;
    while (addr < end) {
      const pud = tableBelow(ram, this.pgd + pgdIndex(addr) * 2);
      if (pud < 0) {
        addr = nextBoundary(addr, PGDIR_SIZE);
        continue;
      }
      const pudSlot = firstFilled(i32, pud, pudIndex(addr));
      if (pudSlot !== pudIndex(addr)) addr = Math.floor(addr / PGDIR_SIZE) * PGDIR_SIZE + pudSlot * PUD_SIZE;
      if (pudSlot === 512 || addr >= end) continue;

      const pmd = tableBelow(ram, pud + pudSlot * 2);
      const pmdSlot = firstFilled(i32, pmd, pmdIndex(addr));
      if (pmdSlot !== pmdIndex(addr)) addr = Math.floor(addr / PUD_SIZE) * PUD_SIZE + pmdSlot * PMD_SIZE;
      if (pmdSlot === 512 || addr >= end) continue;

      const pteSlot = pteIndex(addr);
      this.pmdEntry = pmd + pmdSlot * 2;
      this.huge = (i32[this.pmdEntry] & PTE_PS) !== 0;
      this.entry = this.huge ? -1 : tableBelow(ram, this.pmdEntry) + pteSlot * 2;
      this.addr = addr;
      this.count = Math.min(512 - pteSlot, (end - addr) / PAGE_SIZE);
      this.from = addr + this.count * PAGE_SIZE;
      return true;
    }
    return false;
  }

  /** Looks at the table that has taken the place of this stop's huge entry. */
  splitDone(): void {
    this.huge = false;
    this.entry = tableBelow(this.ram, this.pmdEntry) + pteIndex(this.addr) * 2;
  }
}

/** The first slot from `slot` on of the table at host word `table` that is not empty; 512 where none is. */
function firstFilled(i32: Int32Array, table: number, slot: number): number {
  let at = slot;
  while (at < 512 && i32[table + at * 2] === 0) at++;
  return at;
}
