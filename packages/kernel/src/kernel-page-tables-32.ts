/**
 * The kernel's GiB of every address space where addresses have 32 bits.
 *
 * ```
 * c0000000  low memory, the kernel's image in it at 16 MiB: pages of 4 MiB, or 2 MiB with PAE, the rest of 4 KiB
 *           8 MiB of nothing
 *           vmalloc
 * fec00000  pkmap: a table's worth of entries (from ff000000 with PAE)
 *           …
 * fffff000  fixmap, downwards: among others the slots of kmap_local, 16 a CPU
 * ```
 *
 * The tables of pkmap and fixmap are there from boot on; those of vmalloc are made as they are needed.
 *
 * @linux arch/x86/mm/init_32.c, arch/x86/include/asm/pgtable_32_areas.h
 */
import {
  PAGE_SIZE,
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_GLOBAL,
  PTE_NX_HI,
  PTE_PRESENT,
  PTE_PS,
  PTE_RW,
  tableIndex,
} from '@pagelab/hw';
import type { Pfn, PhysicalMemory } from '@pagelab/hw';
import { FIXADDR_TOP, pkmapBase } from '@pagelab/vm';
import type { PageTableShape } from '@pagelab/vm';
import type { KernelPageTables } from './kernel-page-tables.ts';

/** Where the kernel's image lies. @linux arch/x86/Kconfig:PHYSICAL_START */
const KERNEL_PHYSICAL = 16 * 2 ** 20;

const TABLE = PTE_PRESENT | PTE_RW | PTE_ACCESSED | PTE_DIRTY;
const DATA = TABLE | PTE_GLOBAL;
const TEXT = PTE_PRESENT | PTE_ACCESSED | PTE_DIRTY | PTE_GLOBAL;

/**
 * Builds the kernel's page tables.
 *
 * @param lowEndPfn one past the last frame of low memory
 * @param textBytes length of the kernel's code, mapped read-only and executable
 * @param fixmapStart lowest address of the fixmap
 * @param allocTable takes a zeroed frame for a table
 * @linux arch/x86/mm/init_32.c:paging_init, arch/x86/mm/init.c:init_mem_mapping
 */
export function mapKernel32(
  ram: PhysicalMemory,
  shape: PageTableShape,
  lowEndPfn: Pfn,
  textBytes: number,
  fixmapStart: number,
  allocTable: () => Pfn,
): KernelPageTables {
  const { entryWords, format, pgdFlags, pmdFolded, pmdSize, taskSize } = shape;
  const { levels } = format;
  const pgd = allocTable();
  const entryAt = (table: Pfn, depth: number, virtual: number): number =>
    ram.frameWord(table) + tableIndex(levels[depth]!, virtual) * entryWords;
  const set = (entry: number, physical: number, lo: number, hi: number): void => {
    ram.u32[entry] = (physical % 2 ** 32) | lo;
    if (entryWords === 2) ram.u32[entry + 1] = Math.floor(physical / 2 ** 32) | hi;
  };
  const tableBelow = (table: Pfn, depth: number, virtual: number): Pfn => {
    const entry = entryAt(table, depth, virtual);
    if (ram.u32[entry]! & PTE_PRESENT) {
      return Math.floor(ram.u32[entry]! / PAGE_SIZE) + (entryWords === 2 ? (ram.u32[entry + 1]! & 0xfffff) * 2 ** 20 : 0);
    }
    const made = allocTable();
    set(entry, made * PAGE_SIZE, depth === 0 && !pmdFolded ? pgdFlags : TABLE, 0);
    return made;
  };
  /** The table whose entries map `pmdSize` each, and its depth. */
  const middle = levels.length - 2;
  const middleTable = (virtual: number): Pfn => (pmdFolded ? pgd : tableBelow(pgd, 0, virtual));
  const lastTable = (virtual: number): Pfn => tableBelow(middleTable(virtual), middle, virtual);

  const lowEnd = lowEndPfn * PAGE_SIZE;
  let directMapLarge = 0;
  for (let at = 0; at < lowEnd; ) {
    const virtual = taskSize + at;
    const isText = at >= KERNEL_PHYSICAL && at < KERNEL_PHYSICAL + textBytes;
    const [lo, hi] = isText ? [TEXT, 0] : [DATA, PTE_NX_HI];
    if (at + pmdSize <= lowEnd) {
      set(entryAt(middleTable(virtual), middle, virtual), at, lo | PTE_PS, hi);
      directMapLarge += pmdSize;
      at += pmdSize;
    } else {
      set(entryAt(lastTable(virtual), middle + 1, virtual), at, lo, hi);
      at += PAGE_SIZE;
    }
  }
  lastTable(pkmapBase(shape));
  for (let virtual = Math.floor(fixmapStart / pmdSize) * pmdSize; virtual < FIXADDR_TOP; virtual += pmdSize) lastTable(virtual);
  return { pgd, directMap4K: lowEnd - directMapLarge, directMap2M: directMapLarge, directMap1G: 0 };
}
