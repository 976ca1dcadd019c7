/**
 * Page tables in simulated RAM.
 *
 * A *host word* below is an index into `ram.i32`: an entry is two of them, low word first, or one, as `vm.tables` says.
 * The levels are named as in Linux; where one is folded, its entry is that of the level above. Tables are frames of the
 * page allocator; `mm.pgtablesBytes` counts those of the levels below the top.
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_WORDS, PTE_PS, pmdIndex, pudIndex, pteHi, pteLo } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { GFP_KERNEL_ACCOUNT, NODE_STAT, PG_TABLE, __GFP_HIGHMEM, __GFP_ZERO } from '@pagelab/mm-core';
import type { MmStruct } from './mm-struct.ts';
import { entryHi, pgdIndexOf, pteIndexOf, setEntry } from './pgtable-shape.ts';
import type { PageTableShape } from './pgtable-shape.ts';
import { PTE_MAPS, PTE_TABLE, pfnOf } from './pte.ts';
import type { Vm } from './vm.ts';

/** @linux include/asm-generic/pgalloc.h:GFP_PGTABLE_USER */
const GFP_PGTABLE_USER = GFP_KERNEL_ACCOUNT | __GFP_ZERO;

/** Levels of tables, from the bottom. */
const LEVEL_PTE = 1;
const LEVEL_PMD = 2;
const LEVEL_PUD = 3;
const LEVEL_PGD = 4;
/** What the frame of a table carries that NR_PAGETABLE does not count. */
const NOT_COUNTED = -1;

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
  const { ram, tables } = vm;
  const pgd = allocTable(vm, GFP_PGTABLE_USER, LEVEL_PGD);
  if (pgd < 0) return -Errno.ENOMEM;
  const to = ram.frameWord(pgd);
  const from = ram.frameWord(vm.kernelPgd);
  const kernelHalf = tables.userPgdEntries * tables.entryWords;
  ram.i32.copyWithin(to + kernelHalf, from + kernelHalf, from + PAGE_WORDS);
  mm.pgd = pgd;
  for (let i = 0; i < tables.preallocatedPmds; i++) {
    const pmd = allocTable(vm, GFP_PGTABLE_USER, LEVEL_PMD);
    if (installTable(mm, to + i * tables.entryWords, pmd, tables.pgdFlags) < 0) return -Errno.ENOMEM;
  }
  return 0;
}

/**
 * Frees the top-level table, whose user half must be empty by now but for tables that were there from the start and served
 * nothing since.
 *
 * @linux arch/x86/mm/pgtable.c:pgd_free, pgd_mop_up_pmds
 */
export function pgdFree(mm: MmStruct): void {
  const { i32 } = mm.vm.ram;
  const { entryWords, preallocatedPmds } = mm.vm.tables;
  const top = mm.vm.ram.frameWord(mm.pgd);
  for (let i = 0, entry = top; i < preallocatedPmds; i++, entry += entryWords) {
    if (i32[entry] === 0) continue;
    freeTable(mm.vm, pfnOf(i32[entry], entryHi(i32, entry, entryWords)));
    mm.pgtablesBytes -= PAGE_SIZE;
  }
  mm.vm.smp.forgetMm(mm.pgd * PAGE_SIZE);
  freeTable(mm.vm, mm.pgd);
  mm.pgd = -1;
}

/**
 * Takes a zeroed frame for a table of the last level; −ENOMEM where there is none.
 *
 * @linux include/asm-generic/pgalloc.h:pte_alloc_one, arch/x86/mm/pgtable.c:__userpte_alloc_gfp
 */
export function allocPteTable(vm: Vm): Pfn {
  return allocTable(vm, vm.highPte ? GFP_PGTABLE_USER | __GFP_HIGHMEM : GFP_PGTABLE_USER, LEVEL_PTE);
}

/** Takes a zeroed frame for a table of a level. Older kernels count those of the lower levels alone. @linux include/linux/mm.h:__pagetable_ctor */
function allocTable(vm: Vm, gfp: number, level: number): Pfn {
  const pfn = vm.pages.allocPage(gfp);
  if (pfn < 0) return pfn;
  vm.frames.flags[pfn] |= PG_TABLE;
  if (level <= vm.countedTableLevels) countTable(vm, pfn, 1);
  else vm.frames.private[pfn] = NOT_COUNTED;
  return pfn;
}

/** Whether the frame of a table is one of those that NR_PAGETABLE counts. */
export function isCountedTable({ frames }: Vm, pfn: Pfn): boolean {
  return frames.private[pfn] !== NOT_COUNTED;
}

/** Gives a table's frame back. @linux include/asm-generic/pgalloc.h:pte_free */
export function freeTable(vm: Vm, pfn: Pfn): void {
  vm.frames.flags[pfn] &= ~PG_TABLE;
  if (vm.frames.private[pfn] === NOT_COUNTED) vm.frames.private[pfn] = 0;
  else countTable(vm, pfn, -1);
  vm.pages.freePage(pfn);
}

function countTable({ pages, groupsCountTables }: Vm, pfn: Pfn, delta: 1 | -1): void {
  if (groupsCountTables) pages.modNodeState(pfn, NODE_STAT.NR_PAGETABLE, delta);
  else pages.modOnlyNodeState(pfn, NODE_STAT.NR_PAGETABLE, delta);
}

/** Host word of the table that an entry leads to; −1 for an empty entry. */
export function tableBelow(vm: Vm, entry: number): number {
  const { ram } = vm;
  const lo = ram.i32[entry];
  return lo === 0 ? -1 : ram.frameWord(pfnOf(lo, entryHi(ram.i32, entry, vm.tables.entryWords)));
}

/** Host word of the entry of `addr` in the top level. @linux include/linux/pgtable.h:pgd_offset */
function pgdOffset(mm: MmStruct, addr: VirtAddr): number {
  const { ram, tables } = mm.vm;
  return ram.frameWord(mm.pgd) + pgdIndexOf(tables, addr) * tables.entryWords;
}

/** Host word of the entry of `addr` in the last-level table at host word `table`. @linux include/linux/pgtable.h:pte_offset_kernel */
export function pteOffset(tables: PageTableShape, table: number, addr: VirtAddr): number {
  return table + pteIndexOf(tables, addr) * tables.entryWords;
}

/** Host word of the entry of `addr` in the second level; −1 where there is no such table. */
export function findPud(mm: MmStruct, addr: VirtAddr): number {
  const pgdEntry = pgdOffset(mm, addr);
  if (mm.vm.tables.pudFolded) return pgdEntry;
  const pud = tableBelow(mm.vm, pgdEntry);
  return pud < 0 ? -1 : pud + pudIndex(addr) * 2;
}

/** Host word of the entry of `addr` in the third level; −1 where a table above is missing. */
export function findPmd(mm: MmStruct, addr: VirtAddr): number {
  const pudEntry = findPud(mm, addr);
  if (pudEntry < 0 || mm.vm.tables.pmdFolded) return pudEntry;
  const pmd = tableBelow(mm.vm, pudEntry);
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
  const table = tableBelow(mm.vm, pmd);
  return table < 0 ? -1 : pteOffset(mm.vm.tables, table, addr);
}

/** The low word that a last-level entry of `addr` would have, of what {@link findLeaf} found. */
export function leafLo(tables: PageTableShape, lo: number, addr: VirtAddr): number {
  if ((lo & PTE_PS) === 0) return lo;
  // A marker shows no frame.
  return (lo & PTE_MAPS) === 0 ? lo & ~PTE_PS : (lo & ~PTE_PS) | (pteIndexOf(tables, addr) << 12);
}

/**
 * As {@link findPud}, making the table where it is missing; −1 where there is no memory for it.
 *
 * @linux include/linux/mm.h:pud_alloc
 */
export function allocPud(mm: MmStruct, addr: VirtAddr): number {
  const pgdEntry = pgdOffset(mm, addr);
  if (mm.vm.tables.pudFolded) return pgdEntry;
  const pud = mm.vm.ram.i32[pgdEntry] === 0 ? installTable(mm, pgdEntry, allocTable(mm.vm, GFP_PGTABLE_USER, LEVEL_PUD), PTE_TABLE) : tableBelow(mm.vm, pgdEntry);
  return pud < 0 ? -1 : pud + pudIndex(addr) * 2;
}

/**
 * As {@link findPmd}, making the tables that are missing; −1 where there is no memory for one. Tables made before that
 * stay, as they do in Linux.
 *
 * @linux include/linux/mm.h:pmd_alloc
 */
export function allocPmd(mm: MmStruct, addr: VirtAddr): number {
  const pudEntry = allocPud(mm, addr);
  if (pudEntry < 0 || mm.vm.tables.pmdFolded) return pudEntry;
  const pmd = mm.vm.ram.i32[pudEntry] === 0 ? installPmd(mm, pudEntry) : tableBelow(mm.vm, pudEntry);
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
  const table = mm.vm.ram.i32[pmdEntry] === 0 ? installTable(mm, pmdEntry, allocPteTable(mm.vm), PTE_TABLE) : tableBelow(mm.vm, pmdEntry);
  return table < 0 ? -1 : pteOffset(mm.vm.tables, table, addr);
}

/** Hangs a new third-level table below `entry`. @linux arch/x86/include/asm/pgalloc.h:pud_populate */
function installPmd(mm: MmStruct, entry: number): number {
  const { pgdFlags, pudFolded } = mm.vm.tables;
  const pmd = installTable(mm, entry, allocTable(mm.vm, GFP_PGTABLE_USER, LEVEL_PMD), pudFolded ? pgdFlags : PTE_TABLE);
  // What PAE has of its top level in registers is what CR3 was loaded with.
  if (pudFolded && pmd >= 0) mm.vm.smp.flushTlbMm(mm.pgd * PAGE_SIZE);
  return pmd;
}

/** Hangs a new, empty table below `entry`, whose other bits are `flags`; its host word, or −1 where `pfn` is none. */
function installTable(mm: MmStruct, entry: number, pfn: Pfn, flags: number): number {
  const { ram, tables } = mm.vm;
  if (pfn < 0) return -1;
  setEntry(ram.i32, entry, tables.entryWords, pteLo(pfn, flags), pteHi(pfn, 0));
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
 *   for (let i = 0, entry = walk.entry; i < walk.count; i++, entry += walk.step) …  // address: walk.addr + i * PAGE_SIZE
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
  /** Words from one entry to the next. */
  readonly step: number;
  /** Host word of the third-level entry above the table. */
  pmdEntry = 0;
  /** The third-level entry shows a huge page, or a part of it is in the range: there is no table, and no `entry`. */
  huge = false;

  private readonly vm: Vm;
  private readonly pgd: number;
  private readonly end: VirtAddr;
  private from: VirtAddr;

  /** `start` and `end` are page-aligned user addresses. */
  constructor(mm: MmStruct, start: VirtAddr, end: VirtAddr) {
    this.vm = mm.vm;
    this.step = mm.vm.tables.entryWords;
    this.pgd = mm.vm.ram.frameWord(mm.pgd);
    this.from = start;
    this.end = end;
  }

  /** Goes to the next table; false where there is none left. */
  next(): boolean {
    const { end, step, vm } = this;
    const { tables } = vm;
    const { i32 } = vm.ram;
    const { pgdirSize, pudSize, pmdSize } = tables;
    let addr = this.from;
    while (addr < end) {
      let entry = this.pgd + pgdIndexOf(tables, addr) * step;
      if (i32[entry] === 0) {
        addr = nextBoundary(addr, pgdirSize);
        continue;
      }
      if (!tables.pudFolded) {
        const pud = tableBelow(vm, entry);
        const slot = firstFilled(i32, pud, pudIndex(addr));
        if (slot !== pudIndex(addr)) addr = Math.floor(addr / pgdirSize) * pgdirSize + slot * pudSize;
        if (slot === 512 || addr >= end) continue;
        entry = pud + slot * 2;
      }
      if (!tables.pmdFolded) {
        const pmd = tableBelow(vm, entry);
        const slot = firstFilled(i32, pmd, pmdIndex(addr));
        if (slot !== pmdIndex(addr)) addr = Math.floor(addr / pudSize) * pudSize + slot * pmdSize;
        if (slot === 512 || addr >= end) continue;
        entry = pmd + slot * 2;
      }
      const pteSlot = pteIndexOf(tables, addr);
      this.pmdEntry = entry;
      this.huge = (i32[entry] & PTE_PS) !== 0;
      this.entry = this.huge ? -1 : tableBelow(vm, entry) + pteSlot * step;
      this.addr = addr;
      this.count = Math.min(tables.ptrsPerPte - pteSlot, (end - addr) / PAGE_SIZE);
      this.from = addr + this.count * PAGE_SIZE;
      return true;
    }
    return false;
  }

  /** Looks at the table that has taken the place of this stop's huge entry; where none has, there are no entries to look at. */
  splitDone(): void {
    this.huge = false;
    if (this.vm.ram.i32[this.pmdEntry] === 0) {
      this.count = 0;
      return;
    }
    this.entry = pteOffset(this.vm.tables, tableBelow(this.vm, this.pmdEntry), this.addr);
  }
}

/** The first slot from `slot` on of the middle-level table at host word `table` that is not empty; 512 where none is. */
function firstFilled(i32: Int32Array, table: number, slot: number): number {
  let at = slot;
  while (at < 512 && i32[table + at * 2] === 0) at++;
  return at;
}
