/**
 * From a frame to where it is mapped: the counts that each mapping keeps, and the way back through anon_vmas and files.
 *
 *     frames.mapcount[pfn] === entries of the last level, and huge ones, that show pfn, special ones aside
 *     PG_MLOCKED           === some entry that shows pfn belongs to a VM_LOCKED mapping
 *
 * @linux mm/rmap.c
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import {
  NODE_STAT,
  PG_ANON,
  PG_ANON_EXCLUSIVE,
  PG_HEAD,
  PG_KSM,
  PG_MLOCKED,
  PG_SWAPBACKED,
  PG_TAIL,
  PG_UPTODATE,
  VM_EVENT,
  ZONE_STAT,
} from '@pagelab/mm-core';
import { unmapPart } from './huge-memory.ts';
import { ksmWalk } from './ksm.ts';
import { MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { CPUPID_UNSET } from './numa-balancing.ts';
import { entryHi } from './pgtable-shape.ts';
import { findLeaf, leafLo } from './pgtable.ts';
import { PTE_MAPS, PTE_SPECIAL, pfnOf } from './pte.ts';
import { lruMlock, lruMunlock } from './swap.ts';
import type { Vm } from './vm.ts';
import { VM_LOCKED, VM_SPECIAL } from './vma.ts';
import type { VmArea } from './vma.ts';

/** The kind of resident page (`MM_…PAGES`) that flags tell. @linux include/linux/mm.h:mm_counter */
export function mmCounter(pageFlags: number): number {
  if ((pageFlags & PG_ANON) !== 0) return MM_ANONPAGES;
  return (pageFlags & PG_SWAPBACKED) !== 0 ? MM_SHMEMPAGES : MM_FILEPAGES;
}

/** The page offset that a VMA shows at `addr`. @linux include/linux/pagemap.h:linear_page_index */
export function linearPageIndex(vma: VmArea, addr: VirtAddr): number {
  return vma.pgoff + (addr - vma.start) / PAGE_SIZE;
}

/** Whether the pages that a mapping shows are locked in memory. */
export function locksPages(vma: VmArea): boolean {
  return (vma.flags & (VM_LOCKED | VM_SPECIAL)) === VM_LOCKED;
}

/**
 * Makes a fresh frame an anonymous page of `vma`, which must have an anon_vma, mapped at `addr` and nowhere else.
 *
 * @linux mm/rmap.c:folio_add_new_anon_rmap
 */
export function addNewAnonRmap(vm: Vm, pfn: Pfn, vma: VmArea, addr: VirtAddr): void {
  const { frames } = vm;
  // What may be dropped has no slot to go to. @linux mm/rmap.c:folio_add_new_anon_rmap
  frames.flags[pfn] |= PG_ANON | PG_ANON_EXCLUSIVE | PG_UPTODATE | (vma.droppable ? 0 : PG_SWAPBACKED);
  frames.mapping[pfn] = vma.anonVma!.id;
  frames.index[pfn] = linearPageIndex(vma, addr);
  frames.mapcount[pfn] = 1;
  if (vm.numa.lastCpupid !== null) vm.numa.lastCpupid[pfn] = CPUPID_UNSET;
  vm.pages.modNodeState(pfn, NODE_STAT.NR_ANON_MAPPED, 1);
  if (locksPages(vma)) mlockPage(vm, pfn);
}

/** Counts one more mapping of a page of a file. @linux mm/rmap.c:folio_add_file_rmap_pte */
export function addFileRmap(vm: Vm, pfn: Pfn, vma: VmArea): void {
  if (++vm.frames.mapcount[pfn] === 1) vm.pages.modNodeState(pfn, NODE_STAT.NR_FILE_MAPPED, 1);
  if (locksPages(vma)) mlockPage(vm, pfn);
}

/** Counts one mapping of a page less, the one in `vma`. @linux mm/rmap.c:folio_remove_rmap_pte */
export function removeRmap(vm: Vm, pfn: Pfn, vma: VmArea): void {
  const { flags, mapcount } = vm.frames;
  const left = --mapcount[pfn];
  bugOn(left < 0, 'rmap: unmapped more often than mapped');
  if (left === 0) {
    vm.pages.modNodeState(pfn, (flags[pfn] & PG_ANON) !== 0 ? NODE_STAT.NR_ANON_MAPPED : NODE_STAT.NR_FILE_MAPPED, -1);
  }
  if ((flags[pfn] & PG_MLOCKED) !== 0 && locksPages(vma)) munlockPage(vm, pfn);
  if (left === 0 && (flags[pfn] & (PG_HEAD | PG_TAIL)) !== 0) unmapPart(vm, pfn);
}

/** Notes that a VM_LOCKED mapping shows the page. @linux mm/mlock.c:mlock_folio */
export function mlockPage(vm: Vm, pfn: Pfn): void {
  const { flags } = vm.frames;
  if ((flags[pfn] & PG_MLOCKED) !== 0) return;
  flags[pfn] |= PG_MLOCKED;
  vm.pages.modZoneState(pfn, ZONE_STAT.NR_MLOCK, 1);
  vm.pages.events[VM_EVENT.UNEVICTABLE_PGMLOCKED]++;
  lruMlock(vm, pfn);
}

/**
 * Notes that one VM_LOCKED mapping less shows the page; it is unlocked when that was the last. Costs a walk of the
 * page's mappings where there are others. Linux keeps a count instead.
 *
 * @linux mm/mlock.c:munlock_folio
 */
export function munlockPage(vm: Vm, pfn: Pfn): void {
  const { flags, mapcount } = vm.frames;
  if ((flags[pfn] & PG_MLOCKED) === 0) return;
  if (mapcount[pfn] > 0 && pageMappings(vm, pfn).some(({ vma }) => locksPages(vma))) return;
  flags[pfn] &= ~PG_MLOCKED;
  vm.pages.modZoneState(pfn, ZONE_STAT.NR_MLOCK, -1);
  vm.pages.events[VM_EVENT.UNEVICTABLE_PGMUNLOCKED]++;
  lruMunlock(vm, pfn);
}

/** One place where a frame is mapped. */
export interface PageMapping {
  readonly mm: MmStruct;
  readonly vma: VmArea;
  readonly address: VirtAddr;
}

/**
 * Every place where a frame is mapped as a page of user space: none for the zero page and for frames that are no
 * user's. Costs a look into the page tables for each mapping of the family or file that covers the page.
 *
 * @linux mm/rmap.c:rmap_walk
 */
export function pageMappings(vm: Vm, pfn: Pfn): PageMapping[] {
  const { frames } = vm;
  const found: PageMapping[] = [];
  const id = frames.mapping[pfn];
  if (id === 0 || frames.mapcount[pfn] === 0) return found;
  const index = frames.index[pfn];
  const check = (vma: VmArea): void => {
    const address = vma.start + (index - vma.pgoff) * PAGE_SIZE;
    if (mapsFrame(vma.mm, address, pfn)) found.push({ mm: vma.mm, vma, address });
  };
  if ((frames.flags[pfn] & PG_KSM) !== 0) {
    ksmWalk(vm, pfn, (vma, address) => {
      if (mapsFrame(vma.mm, address, pfn)) found.push({ mm: vma.mm, vma, address });
    });
  } else if ((frames.flags[pfn] & PG_ANON) !== 0) {
    vm.anonVmas.get(id)?.chains.forEachOverlap(index, index, (link) => {
      check(link.vma);
    });
  } else {
    vm.mappings.get(id)?.mmap.forEachOverlap(index, index, check);
  }
  return found;
}

/** Whether the entry of `addr` shows `pfn`. @linux mm/page_vma_mapped.c:check_pte */
function mapsFrame(mm: MmStruct, addr: VirtAddr, pfn: Pfn): boolean {
  const entry = findLeaf(mm, addr);
  if (entry < 0) return false;
  const { tables } = mm.vm;
  const { i32 } = mm.vm.ram;
  const lo = leafLo(tables, i32[entry], addr);
  if ((lo & PTE_MAPS) === 0 || (lo & PTE_SPECIAL) !== 0) return false;
  return pfnOf(lo, entryHi(i32, entry, tables.entryWords)) === pfn;
}
