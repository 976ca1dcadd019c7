/**
 * Before a page goes to its device, the mappings that store to it have to tell of the next store.
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE, PTE_DIRTY, PTE_PS, PTE_RW } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import type { AddressSpace } from './file.ts';
import { hugeStart } from './huge-memory.ts';
import { entryHi } from './pgtable-shape.ts';
import { findLeaf, leafLo } from './pgtable.ts';
import { PTE_MAPS, PTE_SPECIAL, pfnOf } from './pte.ts';
import type { Vm } from './vm.ts';
import { VM_SHARED } from './vma.ts';
import type { VmArea } from './vma.ts';

/**
 * Makes the entries of a file's page clean and write-protected in every shared mapping. Costs a look into the page tables
 * for each mapping of the file that covers the page, and a flush for each entry changed.
 *
 * @returns whether one of them was dirty or writable
 * @linux mm/rmap.c:folio_mkclean
 */
export function pageMkclean(vm: Vm, mapping: AddressSpace, pgoff: number, pfn: Pfn): boolean {
  if (vm.frames.mapcount[pfn] === 0) return false;
  let cleaned = false;
  mapping.mmap.forEachOverlap(pgoff, pgoff, (vma) => {
    if ((vma.flags & VM_SHARED) === 0) return;
    if (cleanEntry(vma, vma.start + (pgoff - vma.pgoff) * PAGE_SIZE, pfn)) cleaned = true;
  });
  return cleaned;
}

function cleanEntry(vma: VmArea, addr: VirtAddr, pfn: Pfn): boolean {
  const { mm } = vma;
  const { ram: { i32 }, smp, tables } = mm.vm;
  const entry = findLeaf(mm, addr);
  if (entry < 0) return false;
  const lo = i32[entry];
  if ((lo & PTE_MAPS) === 0 || (lo & PTE_SPECIAL) !== 0) return false;
  if (pfnOf(leafLo(tables, lo, addr), entryHi(i32, entry, tables.entryWords)) !== pfn) return false;
  if ((lo & (PTE_RW | PTE_DIRTY)) === 0) return false;
  i32[entry] = lo & ~(PTE_RW | PTE_DIRTY);
  if ((lo & PTE_PS) === 0) {
    smp.flushTlbRange(mm.pgd * PAGE_SIZE, addr, addr + PAGE_SIZE);
  } else {
    // The folio is cleaned as a whole.
    const start = hugeStart(tables, addr);
    smp.flushTlbRange(mm.pgd * PAGE_SIZE, start, start + tables.pmdSize);
  }
  return true;
}
