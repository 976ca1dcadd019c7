/**
 * What KSM does to page tables: making a page nobody's to write, putting it in the place of another, taking it back.
 *
 * @linux mm/ksm.c
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_DIRTY, PTE_PS, PTE_RW, pteHi, pteLo } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { NODE_STAT, PG_ANON, PG_ANON_EXCLUSIVE, PG_DIRTY, PG_HEAD, PG_KSM, PG_LOCKED, PG_SWAPCACHE, PG_TAIL } from '@pagelab/mm-core';
import { isZeroPage } from './deferred-split.ts';
import { hugeStart, splitHugePage, splitHugePmd } from './huge-memory.ts';
import { comparePages } from './ksm.ts';
import { MM_ANONPAGES } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { FAULT_FLAG_REMOTE, FAULT_FLAG_UNSHARE, VM_FAULT_ERROR } from './fault-flags.ts';
import { handleMmFault } from './page-fault.ts';
import { entryHi, setEntry } from './pgtable-shape.ts';
import { findPmd, findPte } from './pgtable.ts';
import { PTE_MAPS, PTE_SPECIAL, pageProtHi, pageProtLo, pfnOf } from './pte.ts';
import { removeRmap } from './rmap.ts';
import { folioFreeSwap } from './swapfile.ts';
import type { VmArea } from './vma.ts';

/** A page of an address space. */
export interface KsmPlace {
  readonly mm: MmStruct;
  readonly address: VirtAddr;
}

/** The private page that a mapping shows at an address; −1 for none. A part of a huge page counts. */
export function mergeablePage(vma: VmArea, address: VirtAddr): Pfn {
  const { mm } = vma;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const step = vm.tables.entryWords;
  const pmd = findPmd(mm, address);
  if (pmd < 0 || i32[pmd] === 0) return -1;
  const huge = (i32[pmd] & PTE_PS) !== 0;
  const entry = huge ? pmd : findPte(mm, address);
  if (entry < 0) return -1;
  const lo = i32[entry];
  if ((lo & PTE_MAPS) === 0 || (lo & PTE_SPECIAL) !== 0) return -1;
  const part = huge ? (address - hugeStart(vm.tables, address)) / PAGE_SIZE : 0;
  const pfn = pfnOf(lo, entryHi(i32, entry, step)) + part;
  return (vm.frames.flags[pfn] & PG_ANON) === 0 ? -1 : pfn;
}

/** The entry of a page that nobody but its mappings refers to, protected from stores; −1 where that cannot be. @linux mm/ksm.c:write_protect_page */
function protect({ mm, address }: KsmPlace, pfn: Pfn): number {
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { flags, mapcount, next, refcount } = vm.frames;
  if ((flags[pfn] & (PG_HEAD | PG_TAIL)) !== 0) {
    // A shared page is a small one.
    const pmd = findPmd(mm, address);
    if ((i32[pmd] & PTE_PS) !== 0) splitHugePmd(mm, hugeStart(vm.tables, address), pmd);
    const head = (flags[pfn] & PG_TAIL) !== 0 ? next[pfn] : pfn;
    splitHugePage(vm, head);
  }
  if ((flags[pfn] & PG_SWAPCACHE) !== 0) folioFreeSwap(vm, pfn);
  if ((flags[pfn] & PG_LOCKED) !== 0 || refcount[pfn] !== mapcount[pfn]) return -1;
  const entry = findPte(mm, address);
  const step = vm.tables.entryWords;
  const lo = entry < 0 ? 0 : i32[entry];
  if ((lo & PTE_MAPS) === 0 || pfnOf(lo, entryHi(i32, entry, step)) !== pfn) return -1;
  if ((lo & PTE_DIRTY) !== 0) flags[pfn] |= PG_DIRTY;
  i32[entry] = lo & ~(PTE_RW | PTE_DIRTY);
  if ((lo & (PTE_RW | PTE_DIRTY)) !== 0) vm.smp.flushTlbRange(mm.pgd * PAGE_SIZE, address, address + PAGE_SIZE);
  return entry;
}

/** Makes a page one that is shared, from which it cannot change. @returns whether it could be @linux mm/ksm.c:try_to_merge_one_page */
export function makeKsmPage(place: KsmPlace, pfn: Pfn, id: number): boolean {
  const { vm } = place.mm;
  if (protect(place, pfn) < 0) return false;
  const { flags, mapping } = vm.frames;
  flags[pfn] = (flags[pfn] & ~PG_ANON_EXCLUSIVE) | PG_KSM | PG_DIRTY;
  mapping[pfn] = id;
  return true;
}

/** Puts a shared page in the place of one that holds the same. @returns whether it could be @linux mm/ksm.c:replace_page */
export function mergePage(place: KsmPlace, pfn: Pfn, shared: Pfn): boolean {
  const { mm, address } = place;
  const { vm } = mm;
  const vma = mm.vmas.get(address)!;
  const entry = protect(place, pfn);
  if (entry < 0 || comparePages(vm, pfn, shared) !== 0) return false;
  const { mapcount, refcount } = vm.frames;
  refcount[shared]++;
  // It may be in the swap cache alone.
  if (++mapcount[shared] === 1) vm.pages.modNodeState(shared, NODE_STAT.NR_ANON_MAPPED, 1);
  const { entryWords, softDirtyHi } = vm.tables;
  const kept = entryHi(vm.ram.i32, entry, entryWords) & softDirtyHi;
  setEntry(vm.ram.i32, entry, entryWords, pteLo(shared, pageProtLo(vma.flags)), pteHi(shared, pageProtHi(vma.flags) | kept));
  vm.smp.flushTlbRange(mm.pgd * PAGE_SIZE, address, address + PAGE_SIZE);
  removeRmap(vm, pfn, vma);
  vm.pages.putPage(pfn);
  return true;
}

/** Puts the zero page in the place of a page of zeros: its entry is dirty, as no other of the zero page is. @returns whether it could be @linux mm/ksm.c:try_to_merge_with_zero_page, ksm_map_zero_page */
export function mergeZeroPage(place: KsmPlace, pfn: Pfn): boolean {
  const { mm, address } = place;
  const { vm } = mm;
  const vma = mm.vmas.get(address)!;
  const entry = protect(place, pfn);
  if (entry < 0 || !isZeroPage(vm, pfn)) return false;
  const { entryWords, softDirtyHi } = vm.tables;
  const kept = entryHi(vm.ram.i32, entry, entryWords) & softDirtyHi;
  const lo = pteLo(vm.zeroPfn, pageProtLo(vma.flags)) | PTE_SPECIAL | PTE_DIRTY;
  setEntry(vm.ram.i32, entry, entryWords, lo, pteHi(vm.zeroPfn, pageProtHi(vma.flags) | kept));
  vm.smp.flushTlbRange(mm.pgd * PAGE_SIZE, address, address + PAGE_SIZE);
  mm.ksmZeroPages++;
  vm.ksm.zeroPages++;
  mm.rss[MM_ANONPAGES]--;
  removeRmap(vm, pfn, vma);
  vm.pages.putPage(pfn);
  return true;
}

/** Whether the low half of an entry, which is present, shows the zero page for a page of zeros. @linux include/linux/ksm.h:is_ksm_zero_pte */
export function isKsmZero(lo: number): boolean {
  return (lo & (PTE_SPECIAL | PTE_DIRTY | PTE_PS)) === (PTE_SPECIAL | PTE_DIRTY);
}

/** Whether an address shows the zero page for a page of zeros. */
export function isKsmZeroAt(mm: MmStruct, address: VirtAddr): boolean {
  const pmd = findPmd(mm, address);
  const { i32 } = mm.vm.ram;
  if (pmd < 0 || (i32[pmd] & PTE_PS) !== 0) return false;
  const entry = findPte(mm, address);
  return entry >= 0 && (i32[entry] & PTE_MAPS) !== 0 && isKsmZero(i32[entry]);
}

/** Such an entry goes, or shows something else. @linux include/linux/ksm.h:ksm_might_unmap_zero_page */
export function unmapKsmZero(mm: MmStruct): void {
  mm.ksmZeroPages--;
  mm.vm.ksm.zeroPages--;
}

/** Gives a mapping a page of its own in place of a shared one. @returns 0, or −ENOMEM @linux mm/ksm.c:break_ksm */
export function breakKsm({ mm, address }: KsmPlace): number {
  const vma = mm.vmas.get(address);
  if (vma === undefined) return 0;
  const fault = handleMmFault(vma, address, FAULT_FLAG_UNSHARE | FAULT_FLAG_REMOTE);
  return (fault & VM_FAULT_ERROR) !== 0 ? -Errno.ENOMEM : 0;
}
