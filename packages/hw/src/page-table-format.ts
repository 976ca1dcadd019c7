/**
 * The shapes that page tables have on x86: how many levels, how wide an entry, which bits must be zero.
 *
 * ```
 *            bits of an address               entry   the top level
 * x86-64     9 | 9 | 9 | 9 | 12               64 bit  a frame of 512 entries
 * x86-pae            2 | 9 | 9 | 12           64 bit  4 entries in 32 bytes, read when CR3 is loaded
 * x86-32                 10 | 10 | 12         32 bit  a frame of 1,024 entries
 * ```
 *
 * Where a 32-bit processor has entries of 32 bits, those are as the low word in `pte.ts`; an entry that maps 4 MiB holds
 * bits 32 to 39 of the address in its bits 13 to 20 (PSE-36). Source: Intel SDM volume 3, chapter 5: tables 5-3 to 5-6
 * for 32-bit paging, 5-8 to 5-12 for PAE, 5-15 to 5-20 for four levels.
 */
import type { VirtAddr } from '@pagelab/abi';
import { PTE_LO_FRAME_MASK, PTE_PS, ptePfn } from './pte.ts';
import type { Pfn } from './page.ts';

/** Width of a physical address, in bits: what a server processor has. Higher bits of an entry are reserved. */
export const PHYS_ADDR_BITS = 46;

/** One level of tables. */
export interface PageTableLevel {
  /** Linux's name for its tables. */
  readonly name: 'pgd' | 'pud' | 'pmd' | 'pte';
  /** log2 of the bytes that one entry stands for. */
  readonly shift: number;
  /** Entries in a table, a power of two. */
  readonly entries: number;
  /** Mask of an index. */
  readonly mask: number;
  /** Whether an entry with the PS bit maps a page. */
  readonly mapsLarge: boolean;
  /** Bits of the low word that must be zero in an entry with the PS bit. */
  readonly reservedInLarge: number;
}

/** A shape of page tables. */
export interface PageTableFormat {
  readonly name: 'x86-64' | 'x86-pae' | 'x86-32';
  /** Bits of an address that are translated. Of 48, the others must repeat the highest one; of 32, none are looked at. */
  readonly addressBits: 32 | 48;
  /** Bytes in an entry. */
  readonly entryBytes: 4 | 8;
  /** Top first. */
  readonly levels: readonly PageTableLevel[];
  /** What the top level's address is a multiple of, in bytes. */
  readonly rootAlignment: number;
  /** Whether the top level is read when CR3 is loaded, into registers, and never by a walk. */
  readonly rootInRegisters: boolean;
  /** Bits of the high word that are reserved in every entry; without EFER.NXE bit 63 is another. */
  readonly reservedHi: number;
  /** Whether an entry has bit 63, NX. */
  readonly noExecute: boolean;
  /** Shifts of the levels that a walk reads from memory, top first. */
  readonly walkShifts: readonly number[];
}

/** Reserved in an entry that maps 2^`shift` bytes: the address's bits below its size, but bit 12, the memory type. */
function belowSize(shift: number): number {
  return ((1 << shift) - 1) & ~0x1fff;
}

const PTE: PageTableLevel = { name: 'pte', shift: 12, entries: 512, mask: 511, mapsLarge: false, reservedInLarge: 0 };
const PMD: PageTableLevel = { name: 'pmd', shift: 21, entries: 512, mask: 511, mapsLarge: true, reservedInLarge: belowSize(21) };

/** Bits 46 to 51: no physical address has them. */
const RESERVED_ADDRESS = 0xfffff & ~(2 ** (PHYS_ADDR_BITS - 32) - 1);

/** Four levels of 64-bit entries, pages of 4 KiB, 2 MiB and 1 GiB. */
export const X86_64: PageTableFormat = Object.freeze({
  name: 'x86-64',
  addressBits: 48,
  entryBytes: 8,
  levels: [
    { name: 'pgd', shift: 39, entries: 512, mask: 511, mapsLarge: false, reservedInLarge: PTE_PS },
    { name: 'pud', shift: 30, entries: 512, mask: 511, mapsLarge: true, reservedInLarge: belowSize(30) },
    PMD,
    PTE,
  ] satisfies readonly PageTableLevel[],
  rootAlignment: 4096,
  rootInRegisters: false,
  reservedHi: RESERVED_ADDRESS,
  noExecute: true,
  walkShifts: [39, 30, 21, 12],
});

/** Three levels of 64-bit entries, pages of 4 KiB and 2 MiB. Bits 52 to 62 are reserved, which x86-64 leaves to software. */
export const X86_PAE: PageTableFormat = Object.freeze({
  name: 'x86-pae',
  addressBits: 32,
  entryBytes: 8,
  levels: [
    { name: 'pgd', shift: 30, entries: 4, mask: 3, mapsLarge: false, reservedInLarge: PTE_PS },
    PMD,
    PTE,
  ] satisfies readonly PageTableLevel[],
  rootAlignment: 32,
  rootInRegisters: true,
  reservedHi: RESERVED_ADDRESS | 0x7ff00000,
  noExecute: true,
  walkShifts: [21, 12],
});

/** Two levels of 32-bit entries, pages of 4 KiB and, with CR4.PSE, 4 MiB. */
export const X86_32: PageTableFormat = Object.freeze({
  name: 'x86-32',
  addressBits: 32,
  entryBytes: 4,
  levels: [
    { name: 'pgd', shift: 22, entries: 1024, mask: 1023, mapsLarge: true, reservedInLarge: 1 << 21 },
    { ...PTE, entries: 1024, mask: 1023 },
  ] satisfies readonly PageTableLevel[],
  rootAlignment: 4096,
  rootInRegisters: false,
  reservedHi: 0,
  noExecute: false,
  walkShifts: [22, 12],
});

/** All of them. */
export const PAGE_TABLE_FORMATS: readonly PageTableFormat[] = Object.freeze([X86_64, X86_PAE, X86_32]);

/** Reserved in an entry of PAE's top level that is present: bits 1, 2, 5 to 8; it grants every right. */
export const PDPTE_RESERVED_LO = 0x1e6;

/** The same in the high word: bits 46 to 63. */
export const PDPTE_RESERVED_HI = RESERVED_ADDRESS | 0x7ff00000 | 0x80000000 | 0;

/** Index of an address in a level's table. Exact for user and kernel (negative) addresses. */
export function tableIndex(level: PageTableLevel, va: VirtAddr): number {
  const lo = va | 0;
  const hi = Math.floor(va / 0x100000000) | 0;
  const { shift } = level;
  return (shift < 32 ? (hi << (32 - shift)) | (lo >>> shift) : hi >>> (shift - 32)) & level.mask;
}

/** The first frame of the page that an entry with the PS bit maps. */
export function largePfn(format: PageTableFormat, level: PageTableLevel, lo: number, hi: number): Pfn {
  const frame = lo & PTE_LO_FRAME_MASK & ~((1 << level.shift) - 1);
  return ptePfn(frame, largeHi(format, lo, hi));
}

/** The high word of the address in an entry with the PS bit: of 32-bit entries, bits 13 to 20. */
export function largeHi(format: PageTableFormat, lo: number, hi: number): number {
  return format.entryBytes === 4 ? (lo >>> 13) & 0xff : hi;
}
