/**
 * The numbers of an architecture's page tables as the code above them uses them.
 *
 * Linux writes its code for four levels and more; where the hardware has fewer, the missing ones are *folded*: a folded
 * level has one entry, which is that of the level above.
 *
 * ```
 *            pgd            pud            pmd            pte            an entry   a huge page
 * x86-64     512 × 512 GiB  512 × 1 GiB    512 × 2 MiB    512 × 4 KiB    2 words    2 MiB
 * x86-pae    4 × 1 GiB      folded         512 × 2 MiB    512 × 4 KiB    2 words    2 MiB
 * x86-32     1,024 × 4 MiB  folded         folded         1,024 × 4 KiB  1 word     4 MiB
 * ```
 *
 * @linux arch/x86/include/asm/pgtable_64_types.h, pgtable-3level_types.h, pgtable-2level_types.h
 */
import { PAGE_SHIFT, TASK_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_PRESENT, PTE_SOFT_DIRTY_HI, X86_32, X86_64, X86_PAE } from '@pagelab/hw';
import type { PageTableFormat } from '@pagelab/hw';
import { PTE_GUARD_HI, PTE_GUARD_LO, PTE_GUARD_ONE_WORD, PTE_TABLE } from './pte.ts';

/** See above. Sizes in bytes. */
export interface PageTableShape {
  /** What the hardware walks. */
  readonly format: PageTableFormat;
  /** Words of 32 bits in an entry: what the host words of neighbouring entries differ by. */
  readonly entryWords: 1 | 2;
  /** Entries of a table of the last level, and of the one above it. */
  readonly ptrsPerPte: number;
  readonly ptrsPerPmd: number;
  /** What one entry of each upper level covers; of a folded one, as much as that above it. */
  readonly pmdSize: number;
  readonly pudSize: number;
  readonly pgdirSize: number;
  /** log2 of `pgdirSize`. */
  readonly pgdirShift: number;
  readonly pudFolded: boolean;
  readonly pmdFolded: boolean;
  /** log2 of the pages in a huge page. @linux include/linux/huge_mm.h:HPAGE_PMD_ORDER */
  readonly hugeOrder: number;
  /** log2 of the sizes that huge pages can have, the usual one first. @linux arch/x86/mm/hugetlbpage.c:arch_hugetlb_valid_size */
  readonly hugeShifts: readonly number[];
  /** Entries of the top level that are the program's; those behind are the kernel's. @linux arch/x86/include/asm/pgtable.h:KERNEL_PGD_BOUNDARY */
  readonly userPgdEntries: number;
  /** Low word, without a frame, of an entry of the top level. */
  readonly pgdFlags: number;
  /**
   * Tables right below the top that an address space has from the start: to change PAE's top level takes a reload of
   * CR3, so that is filled at once. @linux arch/x86/mm/pgtable.c:PREALLOCATED_PMDS
   */
  readonly preallocatedPmds: number;
  /** Where programs end. @linux arch/x86/include/asm/page_types.h:TASK_SIZE */
  readonly taskSize: VirtAddr;
  /** What the kernel's arithmetic on addresses wraps at. */
  readonly registerRange: number;
  /** The entry of a guard page. */
  readonly guardLo: number;
  readonly guardHi: number;
  /** High word: the bit that notes a write; 0 where entries have no room for it. */
  readonly softDirtyHi: number;
}

/** Of 4 GiB the program has three, and the kernel the fourth. @linux arch/x86/include/asm/page_32_types.h:__PAGE_OFFSET */
export const TASK_SIZE_32 = 0xc000_0000;
/** Where a program of 32 bits ends under a kernel of 64. @linux arch/x86/include/asm/page_64_types.h:IA32_PAGE_OFFSET */
export const TASK_SIZE_COMPAT = 0xffff_e000;

/** Four levels. */
export const SHAPE_X86_64: PageTableShape = Object.freeze({
  format: X86_64,
  entryWords: 2,
  ptrsPerPte: 512,
  ptrsPerPmd: 512,
  pmdSize: 2 ** 21,
  pudSize: 2 ** 30,
  pgdirSize: 2 ** 39,
  pgdirShift: 39,
  pudFolded: false,
  pmdFolded: false,
  hugeOrder: 9,
  hugeShifts: [21, 30],
  userPgdEntries: 256,
  pgdFlags: PTE_TABLE,
  preallocatedPmds: 0,
  taskSize: TASK_SIZE,
  registerRange: 2 ** 64,
  guardLo: PTE_GUARD_LO,
  guardHi: PTE_GUARD_HI,
  softDirtyHi: PTE_SOFT_DIRTY_HI,
});

/** Three levels. Bits 52 to 62 of an entry must be zero. */
export const SHAPE_X86_PAE: PageTableShape = Object.freeze({
  format: X86_PAE,
  entryWords: 2,
  ptrsPerPte: 512,
  ptrsPerPmd: 512,
  pmdSize: 2 ** 21,
  pudSize: 2 ** 30,
  pgdirSize: 2 ** 30,
  pgdirShift: 30,
  pudFolded: true,
  pmdFolded: false,
  hugeOrder: 9,
  hugeShifts: [21],
  userPgdEntries: 3,
  pgdFlags: PTE_PRESENT,
  preallocatedPmds: 3,
  taskSize: TASK_SIZE_32,
  registerRange: 2 ** 32,
  guardLo: PTE_GUARD_LO,
  guardHi: PTE_GUARD_HI,
  softDirtyHi: 0,
});

/** Two levels. */
export const SHAPE_X86_32: PageTableShape = Object.freeze({
  format: X86_32,
  entryWords: 1,
  ptrsPerPte: 1024,
  ptrsPerPmd: 1,
  pmdSize: 2 ** 22,
  pudSize: 2 ** 22,
  pgdirSize: 2 ** 22,
  pgdirShift: 22,
  pudFolded: true,
  pmdFolded: true,
  hugeOrder: 10,
  hugeShifts: [22],
  userPgdEntries: 768,
  pgdFlags: PTE_TABLE,
  preallocatedPmds: 0,
  taskSize: TASK_SIZE_32,
  registerRange: 2 ** 32,
  guardLo: PTE_GUARD_ONE_WORD,
  guardHi: 0,
  softDirtyHi: 0,
});

/** All of them, by the name of what the hardware walks. */
export const PAGE_TABLE_SHAPES = Object.freeze({
  'x86-64': SHAPE_X86_64,
  'x86-pae': SHAPE_X86_PAE,
  'x86-32': SHAPE_X86_32,
}) satisfies Readonly<Record<PageTableFormat['name'], PageTableShape>>;

/** The high word of the entry at host word `entry`; 0 where entries are one word. `step` is the shape's `entryWords`. */
export function entryHi(i32: Int32Array, entry: number, step: number): number {
  return step === 2 ? i32[entry + 1] : 0;
}

/** Writes an entry. A high word is dropped where entries are one word. @linux arch/x86/include/asm/pgtable.h:set_pte */
export function setEntry(i32: Int32Array, entry: number, step: number, lo: number, hi: number): void {
  i32[entry] = lo;
  if (step === 2) i32[entry + 1] = hi;
}

/** Empties an entry. @linux arch/x86/include/asm/pgtable.h:pte_clear */
export function clearEntry(i32: Int32Array, entry: number, step: number): void {
  i32[entry] = 0;
  if (step === 2) i32[entry + 1] = 0;
}

/** Index of an address in the top-level table. @linux include/linux/pgtable.h:pgd_index */
export function pgdIndexOf(shape: PageTableShape, addr: VirtAddr): number {
  return shape.pudFolded ? addr >>> shape.pgdirShift : (Math.floor(addr / 0x100000000) >>> 7) & 511;
}

/** Index in the last level. @linux include/linux/pgtable.h:pte_index */
export function pteIndexOf(shape: PageTableShape, addr: VirtAddr): number {
  return ((addr | 0) >>> PAGE_SHIFT) & (shape.ptrsPerPte - 1);
}
