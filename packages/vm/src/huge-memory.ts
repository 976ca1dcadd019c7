/**
 * Transparent huge pages: anonymous memory that one third-level entry shows, as much as a whole table below it would.
 *
 * A huge page is a compound page, of order 9 (2 MiB) where tables have 512 entries. Each of its frames has the flags, the page offset and the map count that a
 * small page would have, so that an entry of the third level is 512 of the last in short, and splitting it changes what
 * the tables look like, not what they say. References are kept at the head: one for each third-level entry, and one for
 * each last-level entry, that shows the page or a part of it.
 *
 *     frames.private[head]          === third-level entries that show it
 *     frames.private[head + 2]      === its frames that are mapped at all
 *     frames.private[head + 3]      === the slot of its first frame, where it is in the swap cache: see `swap-state.ts`
 *     mm.depositedTables.length     === third-level entries of mm that show a huge page, or the huge zero page
 *
 * Below each of those entries a page table waits, deposited: splitting cannot fail for lack of memory.
 *
 * @linux mm/huge_memory.c
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import {
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_HI_FRAME_MASK,
  PTE_PS,
  PTE_RW,
  PTE_UFFD_WP_LO,
  pteHi,
  pteLo,
} from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import {
  GFP_TRANSHUGE,
  GFP_TRANSHUGE_LIGHT,
  NODE_STAT,
  PG_ANON,
  PG_ANON_EXCLUSIVE,
  PG_BLOCK,
  PG_ACTIVE,
  PG_DIRTY,
  PG_HEAD,
  PG_LRU,
  PG_MLOCKED,
  PG_REFERENCED,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_TAIL,
  PG_UNEVICTABLE,
  PG_WORKINGSET,
  PG_WRITEBACK,
  PG_UPTODATE,
  VM_EVENT,
  __GFP_DIRECT_RECLAIM,
  __GFP_KSWAPD_RECLAIM,
  __GFP_MOVABLE,
  __GFP_NORETRY,
  __GFP_ZERO,
  compoundHead,
} from '@pagelab/mm-core';
import { anonVmaPrepare } from './anon-vma.ts';
import { isZeroPage } from './deferred-split.ts';
import { coversFileBlock, splitFilePmd } from './file-pmd.ts';
import { chargeForMm } from './memcg-charge.ts';
import { vmaAllocPages } from './mempolicy.ts';
import { MM_ANONPAGES } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import type { MmuGather } from './mmu-gather.ts';
import { FAULT_FLAG_UNSHARE, FAULT_FLAG_WRITE, VM_FAULT_FALLBACK, VM_FAULT_OOM } from './fault-flags.ts';
import { isAligned } from './page-align.ts';
import { clearEntry, entryHi, setEntry } from './pgtable-shape.ts';
import type { PageTableShape } from './pgtable-shape.ts';
import { allocPteTable, findLeaf, findPmd, freeTable } from './pgtable.ts';
import { PTE_SPECIAL, PTE_TABLE, pageProtHi, pageProtLo, pfnOf } from './pte.ts';
import { linearPageIndex, locksPages, mlockPage, munlockPage, pageMappings, removeRmap } from './rmap.ts';
import { shmemHugeOrders } from './shmem-huge.ts';
import { splitSwapCache } from './swap-state.ts';
import { folioAddLru, lruAddSplit } from './swap.ts';
import { folioFreeSwap } from './swapfile.ts';
import { WP_REASON, handleUserfault, isUffdAsync } from './userfaultfd.ts';
import { VM_HUGEPAGE, VM_HUGETLB, VM_NOHUGEPAGE, VM_SPECIAL, VM_UFFD_MISSING, VM_UFFD_WP, VM_WRITE } from './vma.ts';
import type { Vm } from './vm.ts';
import type { VmArea } from './vma.ts';

/** What huge pages are used for. @linux mm/huge_memory.c:transparent_hugepage_flags */
export type ThpMode = 'always' | 'madvise' | 'never';

/** The first address of the block of a huge page that holds `addr`. */
export function hugeStart(tables: PageTableShape, addr: VirtAddr): VirtAddr {
  return Math.floor(addr / tables.pmdSize) * tables.pmdSize;
}

/**
 * Whether a mapping is for huge pages at all, by its flags and what the machine is set to.
 *
 * @linux mm/huge_memory.c:__thp_vma_allowable_orders
 */
export function thpEnabled(vma: VmArea): boolean {
  const { flags } = vma;
  if (vma.file !== null || (flags & (VM_SPECIAL | VM_HUGETLB)) !== 0) return false;
  if (thpDisabled(vma, false)) return false;
  const mode = vma.mm.vm.thpMode;
  return mode === 'always' || (mode === 'madvise' && (flags & VM_HUGEPAGE) !== 0);
}

/**
 * Whether a mapping, or its program, will have none of huge pages.
 *
 * @param forced who asks has asked for one: what PR_SET_THP_DISABLE allows where it is asked for is allowed
 * @linux include/linux/huge_mm.h:vma_thp_disabled
 */
export function thpDisabled({ flags, mm }: VmArea, forced: boolean): boolean {
  if ((flags & VM_NOHUGEPAGE) !== 0) return true;
  const { thpDisable } = mm;
  return thpDisable !== 0 && (thpDisable === 1 || (!forced && (flags & VM_HUGEPAGE) === 0));
}

/** Whether the whole block around `addr` lies in the mapping. @linux include/linux/huge_mm.h:thp_vma_suitable_order */
export function coversBlock(vma: VmArea, addr: VirtAddr): boolean {
  const { tables } = vma.mm.vm;
  const start = hugeStart(tables, addr);
  return start >= vma.start && start + tables.pmdSize <= vma.end;
}

/** Whether a mapping may have a huge page now: it wants them, and holds a block. */
export function thpEligible(vma: VmArea): boolean {
  const { tables } = vma.mm.vm;
  if (vma.file !== null) return fileThpAllowed(vma, false);
  return thpEnabled(vma) && hugeStart(tables, vma.end) - tables.pmdSize >= vma.start;
}

/**
 * Whether khugepaged, or who asks by MADV_COLLAPSE, may make huge pages of a file's mapping: one of shared memory, as that
 * is set to, which holds a block. Files on a disk have large folios of their own accord.
 *
 * @linux mm/huge_memory.c:__thp_vma_allowable_orders
 */
export function fileThpAllowed(vma: VmArea, forced: boolean): boolean {
  const { vm } = vma.mm;
  const { hugeOrder, pmdSize } = vm.tables;
  const { inode } = vma.file!;
  if ((vma.flags & (VM_SPECIAL | VM_HUGETLB)) !== 0 || inode.mapping.ops !== vm.shmemOps) return false;
  if (!coversFileBlock(vma, vma.end - pmdSize)) return false;
  return (shmemHugeOrders(vm, inode, vma, vma.pgoff, 0, forced) & (1 << hugeOrder)) !== 0;
}

// ---- faults

/**
 * Serves a fault in a block where the third level is empty, by a huge page, or by the huge zero page where it is read.
 *
 * @returns VM_FAULT_FALLBACK where small pages have to do; 0; VM_FAULT_OOM
 * @linux mm/huge_memory.c:do_huge_pmd_anonymous_page
 */
export function serveHugeMissing(vma: VmArea, address: VirtAddr, flags: number, pmdEntry: number): number {
  if ((vma.flags & VM_UFFD_MISSING) !== 0 || !thpEnabled(vma) || !coversBlock(vma, address)) return VM_FAULT_FALLBACK;
  if (vma.anonVma === null && anonVmaPrepare(vma) !== 0) return VM_FAULT_OOM;
  const { mm } = vma;
  if ((flags & FAULT_FLAG_WRITE) === 0 && mm.vm.usesHugeZero) {
    const zero = mm.vm.hugeZero.get(mm);
    if (zero < 0) return VM_FAULT_FALLBACK;
    if (!depositTable(mm)) return VM_FAULT_OOM;
    setHugeZero(vma, pmdEntry, zero);
    return 0;
  }
  const pfn = allocHuge(vma, hugeStart(mm.vm.tables, address));
  if (pfn < 0) return VM_FAULT_FALLBACK;
  if (!depositTable(mm)) {
    mm.vm.pages.putPage(pfn);
    return VM_FAULT_OOM;
  }
  mapNewHuge(vma, hugeStart(mm.vm.tables, address), pmdEntry, pfn);
  mm.vm.pages.events[VM_EVENT.THP_FAULT_ALLOC]++;
  return 0;
}

/**
 * Serves a fault on a huge entry that is there: notes the use; a write to a page that is protected takes it over where
 * nobody else has it, and otherwise splits the entry, for a small copy.
 *
 * @returns 0, or VM_FAULT_FALLBACK: the entry leads to a table now
 * @linux mm/huge_memory.c:do_huge_pmd_wp_page, huge_pmd_set_accessed
 */
export function serveHugePresent(vma: VmArea, address: VirtAddr, flags: number, pmdEntry: number): number {
  const { mm } = vma;
  const { i32 } = mm.vm.ram;
  const { entryWords, softDirtyHi } = mm.vm.tables;
  const lo = i32[pmdEntry];
  const hi = entryHi(i32, pmdEntry, entryWords);
  const unshare = (flags & FAULT_FLAG_UNSHARE) !== 0;
  if ((flags & FAULT_FLAG_WRITE) === 0 && !unshare) {
    i32[pmdEntry] = lo | PTE_ACCESSED;
    return 0;
  }
  let rights = PTE_ACCESSED | PTE_DIRTY;
  if ((lo & PTE_RW) === 0) {
    if (!unshare && (lo & PTE_UFFD_WP_LO) !== 0 && (vma.flags & VM_UFFD_WP) !== 0) {
      if (!isUffdAsync(vma)) return handleUserfault(vma, address, flags, WP_REASON);
      splitHugePmd(mm, hugeStart(mm.vm.tables, address), pmdEntry);
      return VM_FAULT_FALLBACK;
    }
    if ((lo & PTE_SPECIAL) !== 0) return replaceHugeZero(vma, address, pmdEntry);
    if (!takeOverHuge(vma, pfnOf(lo, hi))) {
      splitHugePmd(mm, hugeStart(mm.vm.tables, address), pmdEntry);
      return VM_FAULT_FALLBACK;
    }
    if (unshare) return 0;
    if ((vma.flags & VM_WRITE) !== 0) rights |= PTE_RW;
  }
  setEntry(i32, pmdEntry, entryWords, lo | rights, hi | softDirtyHi);
  return 0;
}

/** The first write to a block that shows the huge zero page. @linux mm/huge_memory.c:do_huge_zero_wp_pmd */
function replaceHugeZero(vma: VmArea, address: VirtAddr, pmdEntry: number): number {
  const { mm } = vma;
  const start = hugeStart(mm.vm.tables, address);
  // Before 6.13 such a block is cut up. @linux mm/huge_memory.c:do_huge_pmd_wp_page
  const pfn = mm.vm.replacesHugeZero && thpEnabled(vma) ? allocHuge(vma, start) : -1;
  if (pfn < 0) {
    splitHugePmd(mm, start, pmdEntry);
    return VM_FAULT_FALLBACK;
  }
  mapNewHuge(vma, start, pmdEntry, pfn);
  mm.vm.smp.flushTlbRange(mm.pgd * PAGE_SIZE, start, start + mm.vm.tables.pmdSize);
  mm.vm.pages.events[VM_EVENT.THP_FAULT_ALLOC]++;
  return 0;
}

/** Whether one reference is left to a huge page that was shared; it is the VMA's own from then on. */
function takeOverHuge(vma: VmArea, head: Pfn): boolean {
  const { frames: { flags, mapping, refcount }, tables } = vma.mm.vm;
  if ((flags[head] & PG_ANON_EXCLUSIVE) !== 0) return true;
  if (refcount[head] !== 1) return false;
  const { id } = vma.anonVma!;
  for (let pfn = head; pfn < head + tables.ptrsPerPte; pfn++) {
    flags[pfn] |= PG_ANON_EXCLUSIVE;
    mapping[pfn] = id;
  }
  return true;
}

/**
 * Whether a small entry may write to its part of a huge page that was shared: it is the part's one mapping, and nothing
 * but mappings refers to the page. Costs a step for each of its frames.
 *
 * @linux mm/memory.c:__wp_can_reuse_large_anon_folio
 */
export function takeOverPart(vma: VmArea, pfn: Pfn): boolean {
  const { flags, mapcount, mapping, next, private: priv, refcount } = vma.mm.vm.frames;
  const head = (flags[pfn] & PG_TAIL) !== 0 ? next[pfn] : pfn;
  if (mapcount[pfn] !== 1 || priv[head] !== 0) return false;
  let mappings = 0;
  const { ptrsPerPte } = vma.mm.vm.tables;
  for (let i = 0; i < ptrsPerPte; i++) mappings += mapcount[head + i];
  if (refcount[head] !== mappings) return false;
  mapping[pfn] = vma.anonVma!.id;
  flags[pfn] |= PG_ANON_EXCLUSIVE;
  return true;
}

/** How hard to try for a huge page at a fault. `/sys/kernel/mm/transparent_hugepage/defrag`. */
export type ThpDefrag = 'always' | 'defer' | 'defer+madvise' | 'madvise' | 'never';

/** How a huge page is asked for, in a mapping that is advised to have some or not. @linux mm/huge_memory.c:vma_thp_gfp_mask */
export function hugeGfp({ thpDefrag }: Vm, advised: boolean): number {
  switch (thpDefrag) {
    case 'always':
      return advised ? GFP_TRANSHUGE : GFP_TRANSHUGE | __GFP_NORETRY;
    case 'defer':
      return GFP_TRANSHUGE_LIGHT | __GFP_KSWAPD_RECLAIM;
    case 'defer+madvise':
      return GFP_TRANSHUGE_LIGHT | (advised ? __GFP_DIRECT_RECLAIM : __GFP_KSWAPD_RECLAIM);
    case 'madvise':
      return GFP_TRANSHUGE_LIGHT | (advised ? __GFP_DIRECT_RECLAIM : 0);
    case 'never':
      return GFP_TRANSHUGE_LIGHT;
  }
}

/** A zeroed huge page; negative, and counted, where there is no block. @linux mm/huge_memory.c:vma_alloc_anon_folio_pmd */
function allocHuge(vma: VmArea, address: VirtAddr): Pfn {
  const { pages, tables } = vma.mm.vm;
  const gfp = hugeGfp(vma.mm.vm, (vma.flags & VM_HUGEPAGE) !== 0);
  const pfn =
    pages.nodes.length === 1
      ? pages.allocPages(gfp | __GFP_ZERO, tables.hugeOrder)
      : vmaAllocPages(vma, address, gfp | __GFP_ZERO, tables.hugeOrder);
  if (pfn < 0) {
    pages.events[VM_EVENT.THP_FAULT_FALLBACK]++;
  } else if (!chargeForMm(vma.mm, pfn, 1 << tables.hugeOrder, gfp)) {
    pages.putPage(pfn);
    pages.events[VM_EVENT.THP_FAULT_FALLBACK]++;
    pages.events[VM_EVENT.THP_FAULT_FALLBACK_CHARGE]++;
    return -Errno.ENOMEM;
  }
  return pfn;
}

// ---- entries

/** @linux mm/huge_memory.c:set_huge_zero_folio */
function setHugeZero(vma: VmArea, pmdEntry: number, zero: Pfn): void {
  const { ram, tables } = vma.mm.vm;
  const lo = pteLo(zero, pageProtLo(vma.flags) | PTE_SPECIAL | PTE_PS);
  setEntry(ram.i32, pmdEntry, tables.entryWords, lo, pteHi(zero, pageProtHi(vma.flags)));
}

/**
 * Maps a fresh huge page, for a write, where nothing that counts was mapped; its table must have been deposited.
 *
 * @linux mm/huge_memory.c:map_anon_folio_pmd
 */
export function mapNewHuge(vma: VmArea, start: VirtAddr, pmdEntry: number, head: Pfn): void {
  const { mm } = vma;
  const { vm } = mm;
  const { flags, index, mapcount, mapping, private: priv } = vm.frames;
  const firstIndex = linearPageIndex(vma, start);
  const { id } = vma.anonVma!;
  const locked = locksPages(vma);
  const { entryWords, ptrsPerPte, softDirtyHi } = vm.tables;
  for (let i = 0; i < ptrsPerPte; i++) {
    const pfn = head + i;
    flags[pfn] |= PG_ANON | PG_ANON_EXCLUSIVE | PG_SWAPBACKED | PG_UPTODATE;
    mapping[pfn] = id;
    index[pfn] = firstIndex + i;
    mapcount[pfn] = 1;
    if (locked) mlockPage(vm, pfn);
  }
  priv[head] = 1;
  priv[head + 2] = ptrsPerPte;
  vm.pages.modNodeState(head, NODE_STAT.NR_ANON_MAPPED, ptrsPerPte);
  vm.pages.modNodeState(head, NODE_STAT.NR_ANON_THPS, ptrsPerPte);
  mm.rss[MM_ANONPAGES] += ptrsPerPte;
  const rights = (vma.flags & VM_WRITE) !== 0 ? PTE_RW | PTE_DIRTY : PTE_DIRTY;
  const lo = pteLo(head, pageProtLo(vma.flags) | rights | PTE_PS);
  setEntry(vm.ram.i32, pmdEntry, entryWords, lo, pteHi(head, pageProtHi(vma.flags) | softDirtyHi));
  folioAddLru(vm, head);
  vm.deferredSplit.addWhole(head);
}

/**
 * Gives a child the huge entry of its parent, which loses its write right.
 *
 * @returns false without memory for the table to deposit
 * @linux mm/huge_memory.c:copy_huge_pmd
 */
export function copyHugePmd(dst: VmArea, dstEntry: number, srcEntry: number): boolean {
  const { mm } = dst;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { entryWords, ptrsPerPte } = vm.tables;
  if (!depositTable(mm)) return false;
  const lo = i32[srcEntry];
  const hi = entryHi(i32, srcEntry, entryWords);
  if ((lo & PTE_PS) === 0) {
    dropDeposit(mm);
    return true;
  }
  if ((lo & PTE_SPECIAL) !== 0) {
    vm.hugeZero.get(mm);
  } else {
    const { flags, mapcount, private: priv, refcount } = vm.frames;
    const head = pfnOf(lo, hi);
    refcount[head]++;
    priv[head]++;
    for (let pfn = head; pfn < head + ptrsPerPte; pfn++) {
      mapcount[pfn]++;
      flags[pfn] &= ~PG_ANON_EXCLUSIVE;
    }
    mm.rss[MM_ANONPAGES] += ptrsPerPte;
  }
  i32[srcEntry] = lo & ~PTE_RW;
  const dropped = PTE_RW | PTE_ACCESSED | ((dst.flags & VM_UFFD_WP) !== 0 ? 0 : PTE_UFFD_WP_LO);
  setEntry(i32, dstEntry, entryWords, lo & ~dropped, hi);
  return true;
}

/** Takes a huge entry away, for the gatherer to flush and free. @linux mm/huge_memory.c:zap_huge_pmd */
export function zapHugePmd(gather: MmuGather, vma: VmArea, start: VirtAddr, pmdEntry: number): void {
  const { mm } = vma;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { entryWords, pmdSize, ptrsPerPte } = vm.tables;
  const lo = i32[pmdEntry];
  const hi = entryHi(i32, pmdEntry, entryWords);
  clearEntry(i32, pmdEntry, entryWords);
  mm.pgtablesBytes -= PAGE_SIZE;
  gather.addTable(mm.depositedTables.pop()!);
  gather.noteRange(start, start + pmdSize);
  if ((lo & PTE_SPECIAL) !== 0) return;
  const head = pfnOf(lo, hi);
  mm.rss[MM_ANONPAGES] -= ptrsPerPte;
  removeHugeRmap(vma, head);
  if (gather.addPage(head)) gather.flush();
}

/** Counts a huge mapping less. @linux mm/rmap.c:folio_remove_rmap_pmd */
function removeHugeRmap(vma: VmArea, head: Pfn): void {
  const { vm } = vma.mm;
  const { flags, mapcount, private: priv } = vm.frames;
  if (--priv[head] === 0) vm.pages.modNodeState(head, NODE_STAT.NR_ANON_THPS, -vm.tables.ptrsPerPte);
  const locked = locksPages(vma);
  const { ptrsPerPte } = vm.tables;
  let unmapped = 0;
  for (let pfn = head; pfn < head + ptrsPerPte; pfn++) {
    const left = --mapcount[pfn];
    if (locked && (flags[pfn] & PG_MLOCKED) !== 0) munlockPage(vm, pfn);
    if (left > 0) continue;
    unmapped++;
    clearPart(vm, pfn);
  }
  if (unmapped === 0) return;
  vm.pages.modNodeState(head, NODE_STAT.NR_ANON_MAPPED, -unmapped);
  notePartsUnmapped(vm, head, unmapped);
}

/**
 * Cuts a huge entry into as many small ones as a table holds that say the same, in the table that was deposited for it. Flushes the block.
 * One that shows a folio of a file goes instead, and there is no table then.
 *
 * @linux mm/huge_memory.c:__split_huge_pmd_locked
 */
export function splitHugePmd(mm: MmStruct, start: VirtAddr, pmdEntry: number): void {
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { entryWords: step, pmdSize, ptrsPerPte } = vm.tables;
  const hugeLo = i32[pmdEntry];
  const hi = entryHi(i32, pmdEntry, step);
  const head = pfnOf(hugeLo, hi);
  const isZero = (hugeLo & PTE_SPECIAL) !== 0;
  if (!isZero && (vm.frames.flags[head] & PG_ANON) === 0) {
    splitFilePmd(mm, start, pmdEntry);
    return;
  }
  const lo = isZero ? pteLo(vm.zeroPfn, (hugeLo & 0xfff) & ~PTE_PS) : hugeLo & ~PTE_PS;
  const smallHi = isZero ? pteHi(vm.zeroPfn, pageProtHiOf(hi)) : hi;
  const table = mm.depositedTables.pop()!;
  const word = vm.ram.frameWord(table);
  for (let i = 0; i < ptrsPerPte; i++) setEntry(i32, word + i * step, step, isZero ? lo : lo | (i << 12), smallHi);
  setEntry(i32, pmdEntry, step, pteLo(table, PTE_TABLE), pteHi(table, 0));
  if (!isZero) {
    const { private: priv, refcount } = vm.frames;
    refcount[head] += ptrsPerPte - 1;
    if (--priv[head] === 0) vm.pages.modNodeState(head, NODE_STAT.NR_ANON_THPS, -ptrsPerPte);
  }
  vm.pages.events[VM_EVENT.THP_SPLIT_PMD]++;
  vm.smp.flushTlbRange(mm.pgd * PAGE_SIZE, start, start + pmdSize);
}

/** The bits of a high word that are no frame's. */
function pageProtHiOf(hi: number): number {
  return hi & ~PTE_HI_FRAME_MASK;
}

/**
 * Cuts the huge entry that reaches across `addr`, if there is one: a mapping is about to begin or end there.
 *
 * @linux mm/huge_memory.c:split_huge_pmd_if_needed
 */
export function splitHugePmdAt(mm: MmStruct, addr: VirtAddr): void {
  if (isAligned(addr, mm.vm.tables.pmdSize)) return;
  const pmdEntry = findPmd(mm, addr);
  if (pmdEntry >= 0 && (mm.vm.ram.i32[pmdEntry] & PTE_PS) !== 0) splitHugePmd(mm, hugeStart(mm.vm.tables, addr), pmdEntry);
}

/** Sets a table aside for one more huge entry; false without memory. @linux mm/pgtable-generic.c:pgtable_trans_huge_deposit */
export function depositTable(mm: MmStruct): boolean {
  const table = allocPteTable(mm.vm);
  if (table < 0) return false;
  mm.depositedTables.push(table);
  mm.pgtablesBytes += PAGE_SIZE;
  return true;
}

/** Gives back a table that was set aside and not used. */
export function dropDeposit(mm: MmStruct): void {
  freeTable(mm.vm, mm.depositedTables.pop()!);
  mm.pgtablesBytes -= PAGE_SIZE;
}

// ---- parts that nobody maps

/**
 * The last mapping of one frame of a huge page is gone: from now on it is only a part of a block. What of the page is
 * still mapped keeps it; it waits to be split: see `deferred-split.ts`.
 *
 * @linux mm/rmap.c:__folio_remove_rmap
 */
export function unmapPart(vm: Vm, pfn: Pfn): void {
  const { flags, next } = vm.frames;
  const head = (flags[pfn] & PG_TAIL) !== 0 ? next[pfn] : pfn;
  clearPart(vm, pfn);
  notePartsUnmapped(vm, head, 1);
}

/** A frame that nobody mapped is mapped again: where it is one of a huge page, which came from swap. */
export function notePartMapped({ frames }: Vm, pfn: Pfn): void {
  if ((frames.flags[pfn] & (PG_HEAD | PG_TAIL)) !== 0) frames.private[compoundHead(frames, pfn) + 2]++;
}

function clearPart({ frames }: Vm, pfn: Pfn): void {
  if ((frames.flags[pfn] & PG_TAIL) === 0) return;
  frames.flags[pfn] = PG_TAIL;
  frames.mapping[pfn] = 0;
}

function notePartsUnmapped(vm: Vm, head: Pfn, count: number): void {
  const left = (vm.frames.private[head + 2] -= count);
  if (left === 0) vm.deferredSplit.remove(head);
  // Reclaim is at it already.
  else if ((vm.frames.flags[head] & PG_SWAPCACHE) === 0) vm.deferredSplit.addPartial(head);
}

/** References to a huge page that its mappings and the swap cache hold: each third-level entry has one for all its parts. @linux include/linux/mm.h:folio_expected_ref_count */
export function hugeReferences(vm: Vm, head: Pfn): number {
  const { flags, mapcount, private: priv } = vm.frames;
  const { ptrsPerPte } = vm.tables;
  let references = (flags[head] & PG_SWAPCACHE) !== 0 ? ptrsPerPte : 0;
  for (let pfn = head; pfn < head + ptrsPerPte; pfn++) references += mapcount[pfn];
  return references - priv[head] * (ptrsPerPte - 1);
}

/** Cuts every third-level entry that shows a huge page. @linux mm/rmap.c:try_to_unmap_one, TTU_SPLIT_HUGE_PMD */
export function splitHugeEntries(vm: Vm, head: Pfn): void {
  if (vm.frames.private[head] === 0) return;
  for (const { mm, address } of pageMappings(vm, head)) {
    const pmdEntry = findPmd(mm, address);
    if ((vm.ram.i32[pmdEntry] & PTE_PS) !== 0) splitHugePmd(mm, address, pmdEntry);
  }
}

/**
 * Makes small pages of a huge one, wherever it is mapped, and frees those that nobody maps, or that hold nothing but zeros:
 * where those were there is the zero page.
 *
 * @param keep a frame that is looked for here afterwards, and stays, whatever it holds
 * @returns pages freed
 * @linux mm/huge_memory.c:__folio_split
 */
export function splitHugePage(vm: Vm, head: Pfn, keep: Pfn = -1): number {
  const { frames, tables } = vm;
  const { flags, mapcount, private: priv, refcount } = frames;
  bugOn((flags[head] & PG_WRITEBACK) !== 0, 'huge page: split while it is written');
  splitHugeEntries(vm, head);
  vm.deferredSplit.remove(head);
  priv[head + 2] = 0;
  const cached = (flags[head] & PG_SWAPCACHE) !== 0;
  const dirty = flags[head] & PG_DIRTY;
  const wasLru = flags[head] & (PG_LRU | PG_ACTIVE | PG_UNEVICTABLE | PG_REFERENCED | PG_SWAPBACKED | PG_WORKINGSET);
  flags[head] = (flags[head] & ~PG_HEAD) | PG_BLOCK;
  vm.pages.splitPage(head, tables.hugeOrder);
  lruAddSplit(vm, head, tables.ptrsPerPte, wasLru);
  if (cached) splitSwapCache(vm, head, tables.ptrsPerPte);
  let freed = 0;
  for (let pfn = head; pfn < head + tables.ptrsPerPte; pfn++) {
    flags[pfn] |= dirty;
    if (mapcount[pfn] > 0 && pfn !== keep && vm.deferredSplit.dropsZeros && isZeroPage(vm, pfn)) mapZeroPage(vm, pfn);
    refcount[pfn] = mapcount[pfn] + (cached ? 1 : 0);
    if (mapcount[pfn] > 0 || (cached && !folioFreeSwap(vm, pfn))) continue;
    freed++;
    if (cached) continue;
    refcount[pfn] = 1;
    vm.pages.freePage(pfn);
  }
  vm.pages.events[VM_EVENT.THP_SPLIT_PAGE]++;
  return freed;
}

/** Has every mapping of a page of zeros show the zero page instead, where it is not locked. @linux mm/migrate.c:try_to_map_unused_to_zeropage */
function mapZeroPage(vm: Vm, pfn: Pfn): void {
  if ((vm.frames.flags[pfn] & PG_MLOCKED) !== 0) return;
  const { i32 } = vm.ram;
  const step = vm.tables.entryWords;
  for (const { mm, vma, address } of pageMappings(vm, pfn)) {
    const entry = findLeaf(mm, address);
    const lo = pteLo(vm.zeroPfn, pageProtLo(vma.flags) | PTE_SPECIAL | (i32[entry] & PTE_UFFD_WP_LO));
    const softDirty = entryHi(i32, entry, step) & vm.tables.softDirtyHi;
    setEntry(i32, entry, step, lo, pteHi(vm.zeroPfn, pageProtHi(vma.flags) | softDirty));
    vm.smp.flushTlbRange(mm.pgd * PAGE_SIZE, address, address + PAGE_SIZE);
    mm.rss[MM_ANONPAGES]--;
    removeRmap(vm, pfn, vma);
  }
}
