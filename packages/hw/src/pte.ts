/**
 * Entries of x86-64 page tables (and of PAE's: the same 64 bits), as two words of 32 bits.
 *
 * ```
 *  63 62   59 58       52 51                    12 11   9 8  7  6  5  4   3   2  1  0
 * +--+-------+-----------+------------------------+------+--+--+--+--+---+---+--+--+--+
 * |NX| pkey  | software  | page frame number      | soft |G |PS|D |A |PCD|PWT|US|RW|P |
 * +--+-------+-----------+------------------------+------+--+--+--+--+---+---+--+--+--+
 *  `------ high word ------ 32 | 31 --------------------- low word ------------------'
 * ```
 *
 * PS is meaningful in the two middle levels, where it makes the entry map 1 GiB or 2 MiB; in the last level the same
 * bit chooses the memory type (PAT). Source: Intel SDM volume 3, chapter 5, tables 5-15 to 5-20.
 */
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from './page.ts';

/** Low word: the entry maps something. */
export const PTE_PRESENT = 0x1;
/** Low word: writable. */
export const PTE_RW = 0x2;
/** Low word: accessible at user privilege. */
export const PTE_USER = 0x4;
/** Low word: write-through. */
export const PTE_PWT = 0x8;
/** Low word: not cached. */
export const PTE_PCD = 0x10;
/** Low word: the processor used the entry. */
export const PTE_ACCESSED = 0x20;
/** Low word: the processor wrote to the page. */
export const PTE_DIRTY = 0x40;
/** Low word, middle levels: the entry maps a large page. */
export const PTE_PS = 0x80;
/** Low word: kept over a load of CR3. */
export const PTE_GLOBAL = 0x100;
/** Low word: bits 9 to 11, free for software. */
export const PTE_SOFT_LO_MASK = 0xe00;
/** Low word: bits 12 to 31, the frame's lower 20 bits. */
export const PTE_LO_FRAME_MASK = 0xfffff000 | 0;

/** High word: bits 32 to 51, the frame's upper 20 bits. */
export const PTE_HI_FRAME_MASK = 0xfffff;
/** Low word: bit 10, write-protected by userfaultfd. @linux arch/x86/include/asm/pgtable_types.h:_PAGE_UFFD_WP */
export const PTE_UFFD_WP_LO = 1 << 10;
/**
 * High word: bit 58, written since the bit was last cleared.
 *
 * @linux arch/x86/include/asm/pgtable_types.h:_PAGE_SOFT_DIRTY
 */
export const PTE_SOFT_DIRTY_HI = 1 << 26;
/** High word: bit 63, instructions cannot be fetched. */
export const PTE_NX_HI = 0x80000000 | 0;

/** Page-fault error code: the page was present, and the access not allowed. */
export const PF_PROT = 1;
/** Page-fault error code, and access word: a write. */
export const PF_WRITE = 2;
/** Page-fault error code, and access word: an access at user privilege. */
export const PF_USER = 4;
/** Page-fault error code: a reserved bit was set in an entry. */
export const PF_RSVD = 8;
/** Page-fault error code, and access word: an instruction fetch. */
export const PF_INSTR = 16;

/** Vector of the page fault. */
export const VECTOR_PAGE_FAULT = 14;
/** Vector of the general-protection exception, which a non-canonical address raises. */
export const VECTOR_GENERAL_PROTECTION = 13;

/** The frame that an entry names. Of a large page, the first one, if the low bits are clear. */
export function ptePfn(lo: number, hi: number): Pfn {
  return (lo >>> 12) + (hi & PTE_HI_FRAME_MASK) * 0x100000;
}

/** Low word of an entry for `pfn` with `flags`, a combination of low-word bits. */
export function pteLo(pfn: Pfn, flags: number): number {
  return (pfn << 12) | flags;
}

/** High word of an entry for `pfn` with `flags`, a combination of high-word bits. */
export function pteHi(pfn: Pfn, flags: number): number {
  return Math.floor(pfn / 0x100000) | flags;
}

/** Entries in a page table. */
export const PTRS_PER_TABLE = 512;

/** Index of an address in the top-level table: bits 39 to 47. @linux include/linux/pgtable.h:pgd_index */
export function pgdIndex(va: VirtAddr): number {
  return (Math.floor(va / 0x100000000) >>> 7) & 511;
}

/** Index in the second level: bits 30 to 38. @linux include/linux/pgtable.h:pud_index */
export function pudIndex(va: VirtAddr): number {
  return ((Math.floor(va / 0x100000000) << 2) | ((va | 0) >>> 30)) & 511;
}

/** Index in the third level: bits 21 to 29. @linux include/linux/pgtable.h:pmd_index */
export function pmdIndex(va: VirtAddr): number {
  return ((va | 0) >>> 21) & 511;
}

/** Index in the last level: bits 12 to 20. @linux include/linux/pgtable.h:pte_index */
export function pteIndex(va: VirtAddr): number {
  return ((va | 0) >>> 12) & 511;
}
