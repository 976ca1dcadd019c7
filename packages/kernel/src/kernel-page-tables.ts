/**
 * The kernel's own half of every address space: the direct map of all memory, and the kernel's image.
 *
 * ```
 * ffff888000000000  all of RAM, in pages of 1 GiB, and of 2 MiB where a GiB is not whole
 * ffffffff81000000  the kernel's text and data, in pages of 2 MiB, at 16 MiB physical
 * ```
 */
import {
  PAGE_OFFSET,
  PAGE_SIZE,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_GLOBAL,
  PTE_NX_HI,
  PTE_PRESENT,
  PTE_PS,
  PTE_RW,
  pgdIndex,
  pmdIndex,
  pudIndex,
  wholeFrames,
} from '@pagelab/hw';
import type { Pfn, PhysicalMemory } from '@pagelab/hw';

const MIB_2 = 2 ** 21;
const GIB = 2 ** 30;
/** Where the kernel's image is mapped, and where it lies. @linux arch/x86/include/asm/page_64_types.h:__START_KERNEL_map */
const KERNEL_TEXT = -0x7f00_0000;
const KERNEL_PHYSICAL = 16 * 2 ** 20;

const TABLE = PTE_PRESENT | PTE_RW | PTE_ACCESSED | PTE_DIRTY;
const DATA = TABLE | PTE_PS | PTE_GLOBAL;
const TEXT = PTE_PRESENT | PTE_ACCESSED | PTE_DIRTY | PTE_PS | PTE_GLOBAL;

/** What the mapping took. */
export interface KernelPageTables {
  /** The top-level table. */
  readonly pgd: Pfn;
  /** Bytes of RAM mapped by pages of 4 KiB, of 2 MiB (4 MiB with two levels) and of 1 GiB, for `/proc/meminfo`. */
  readonly directMap4K: number;
  readonly directMap2M: number;
  readonly directMap1G: number;
}

/**
 * Builds the kernel's page tables.
 *
 * @param textBytes length of the kernel's code, mapped read-only and executable
 * @param imageBytes length of the whole image
 * @param allocTable takes a zeroed frame for a table
 * @linux arch/x86/mm/init.c:init_mem_mapping
 */
export function mapKernel(
  ram: PhysicalMemory,
  textBytes: number,
  imageBytes: number,
  allocTable: () => Pfn,
): KernelPageTables {
  const pgd = allocTable();
  const setEntry = (table: Pfn, index: number, physical: number, lo: number, hi: number): void => {
    const word = ram.frameWord(table) + index * 2;
    ram.u32[word] = (physical % 2 ** 32) | lo;
    ram.u32[word + 1] = Math.floor(physical / 2 ** 32) | hi;
  };
  const tableAt = (table: Pfn, index: number): Pfn => {
    const word = ram.frameWord(table) + index * 2;
    if (ram.u32[word]! & PTE_PRESENT) return Math.floor(ram.u32[word]! / PAGE_SIZE) + (ram.u32[word + 1]! & 0xfffff) * 2 ** 20;
    const made = allocTable();
    setEntry(table, index, made * PAGE_SIZE, TABLE, 0);
    return made;
  };

  let directMap2M = 0;
  let directMap1G = 0;
  let mappedEnd = 0;
  for (const range of ram.map) {
    if (range.type !== 'usable') continue;
    const { firstPfn, endPfn } = wholeFrames(range);
    let at = Math.max(mappedEnd, Math.floor((firstPfn * PAGE_SIZE) / MIB_2) * MIB_2);
    const end = endPfn * PAGE_SIZE;
    while (at < end) {
      const virtual = PAGE_OFFSET + at;
      const pud = tableAt(pgd, pgdIndex(virtual));
      if (at % GIB === 0 && at + GIB <= end) {
        setEntry(pud, pudIndex(virtual), at, DATA, PTE_NX_HI);
        directMap1G += GIB;
        at += GIB;
      } else {
        setEntry(tableAt(pud, pudIndex(virtual)), pmdIndex(virtual), at, DATA, PTE_NX_HI);
        directMap2M += MIB_2;
        at += MIB_2;
      }
    }
    mappedEnd = Math.max(mappedEnd, at);
  }
  for (let offset = 0; offset < imageBytes; offset += MIB_2) {
    const virtual = KERNEL_TEXT + offset;
    const pmd = tableAt(tableAt(pgd, pgdIndex(virtual)), pudIndex(virtual));
    if (offset < textBytes) setEntry(pmd, pmdIndex(virtual), KERNEL_PHYSICAL + offset, TEXT, 0);
    else setEntry(pmd, pmdIndex(virtual), KERNEL_PHYSICAL + offset, DATA, PTE_NX_HI);
  }
  return { pgd, directMap4K: 0, directMap2M, directMap1G };
}
