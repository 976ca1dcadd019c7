/**
 * Advice about when pages will be used again, written where reclaim looks for it.
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { PTE_ACCESSED, PTE_DIRTY } from '@pagelab/hw';
import { PG_ANON, PG_DIRTY, PG_HEAD, PG_REFERENCED, PG_SWAPCACHE, PG_TAIL, compoundHead } from '@pagelab/mm-core';
import type { AddressSpace } from './file.ts';
import { splitFolio } from './folio.ts';
import { hugeReferences, hugeStart, splitHugePage, splitHugePmd } from './huge-memory.ts';
import { MM_SWAPENTS } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { folioOrder } from './page-cache.ts';
import { clearEntry, entryHi } from './pgtable-shape.ts';
import { PteTableWalk, findPte } from './pgtable.ts';
import { PTE_MAPS, PTE_SPECIAL, pfnOf } from './pte.ts';
import { pageMappings } from './rmap.ts';
import { freeSwapAndCache, folioFreeSwap } from './swapfile.ts';
import { pteToSwp } from './swapops.ts';
import { splitShmemFolio } from './shmem-folio.ts';
import { folioDeactivate, folioMarkLazyfree, lruAddDrain } from './swap.ts';
import type { Vm } from './vm.ts';
import type { VmArea } from './vma.ts';
import { reclaimPages } from './vmscan.ts';

/**
 * MADV_FREE: private pages of [start, end) may be dropped when memory is short, unless they are stored to before. Clears
 * what would tell an older store from a newer one; not on a page that is known to be dirty to others, too.
 *
 * @linux mm/madvise.c:madvise_free_pte_range
 */
export function markLazyFree(vma: VmArea, start: VirtAddr, end: VirtAddr): void {
  const { mm } = vma;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { flags, mapcount } = vm.frames;
  const { gather } = vm;
  const walk = new PteTableWalk(mm, start, end);
  const parts = new PartVerdicts(mm, start, end);
  lruAddDrain(vm);
  gather.begin(mm);
  while (walk.next()) {
    if (walk.huge) {
      const verdict = takesHuge(mm, walk);
      if (verdict === LEFT) continue;
      if (verdict === TAKEN) splitHugePmd(mm, hugeStart(vm.tables, walk.addr), walk.pmdEntry);
      walk.splitDone();
    }
    let touched = false;
    for (let i = 0, entry = walk.entry; i < walk.count; i++, entry += walk.step) {
      const lo = i32[entry];
      if ((lo & PTE_MAPS) === 0) {
        const swp = pteToSwp(walk.step, lo, entryHi(i32, entry, walk.step));
        if (swp < 0) continue;
        clearEntry(i32, entry, walk.step);
        mm.rss[MM_SWAPENTS]--;
        freeSwapAndCache(vm, swp);
        continue;
      }
      if ((lo & PTE_SPECIAL) !== 0) continue;
      const pfn = pfnOf(lo, entryHi(i32, entry, walk.step));
      if ((flags[pfn] & PG_ANON) === 0) continue;
      const verdict = parts.verdict(walk.addr + i * PAGE_SIZE, pfn);
      if (verdict === LEFT) continue;
      if (verdict === SPLIT) {
        // What this entry shows now is looked at anew.
        i--;
        entry -= walk.step;
        continue;
      }
      // What the swap cache has of a huge page must not be older than what the page holds.
      if ((flags[pfn] & PG_TAIL) !== 0 && (flags[compoundHead(vm.frames, pfn)] & PG_SWAPCACHE) !== 0) continue;
      if ((flags[pfn] & (PG_DIRTY | PG_SWAPCACHE)) !== 0) {
        if (mapcount[pfn] !== 1) continue;
        if ((flags[pfn] & PG_SWAPCACHE) !== 0 && !folioFreeSwap(vm, pfn)) continue;
      }
      flags[pfn] &= ~PG_DIRTY;
      folioMarkLazyfree(vm, pfn);
      i32[entry] = lo & ~(PTE_ACCESSED | PTE_DIRTY);
      touched = true;
    }
    if (touched) gather.noteRange(walk.addr, walk.addr + walk.count * PAGE_SIZE);
  }
  gather.finish();
}

/** What becomes of advice for a page that is part of a huge one: it is taken, or not, or there is no huge page any more. */
const TAKEN = 0;
const LEFT = 1;
const SPLIT = 2;

/**
 * What becomes of advice for a huge page of private memory that one entry shows, [walk.addr, + walk.count pages) of it: it is left
 * where it is the huge zero page, or another address space maps it, and split where advice is for a part.
 *
 * @linux mm/madvise.c:madvise_cold_or_pageout_pte_range, mm/huge_memory.c:madvise_free_huge_pmd
 */
function takesHuge(mm: MmStruct, walk: PteTableWalk): number {
  const { ram, tables } = mm.vm;
  const lo = ram.i32[walk.pmdEntry];
  if ((lo & PTE_SPECIAL) !== 0) return LEFT;
  const head = pfnOf(lo, entryHi(ram.i32, walk.pmdEntry, walk.step));
  if (hugeMappedShared(mm, head)) return LEFT;
  return walk.count === tables.ptrsPerPte ? TAKEN : splitForPart(mm.vm, head);
}

/**
 * The same for those whose parts have entries each, one after the other.
 *
 * @linux mm/madvise.c:madvise_folio_pte_batch
 */
class PartVerdicts {
  readonly #mm: MmStruct;
  readonly #start: VirtAddr;
  readonly #end: VirtAddr;
  #head = -1;
  #verdict = TAKEN;

  /** Of advice for [start, end). */
  constructor(mm: MmStruct, start: VirtAddr, end: VirtAddr) {
    this.#mm = mm;
    this.#start = start;
    this.#end = end;
  }

  /** What becomes of advice for the page `pfn`, which `addr` shows. */
  verdict(addr: VirtAddr, pfn: Pfn): number {
    const { frames } = this.#mm.vm;
    const flags = frames.flags[pfn];
    if ((flags & (PG_HEAD | PG_TAIL)) === 0 || (flags & PG_ANON) === 0) return TAKEN;
    const head = compoundHead(frames, pfn);
    if (head === this.#head) return this.#verdict;
    const verdict = this.#judge(head, addr - (pfn - head) * PAGE_SIZE);
    this.#head = verdict === SPLIT ? -1 : head;
    this.#verdict = verdict;
    return verdict;
  }

  /** @param first where the first part would be mapped */
  #judge(head: Pfn, first: VirtAddr): number {
    const { vm } = this.#mm;
    const { i32 } = vm.ram;
    const { entryWords, ptrsPerPte } = vm.tables;
    let whole = first >= this.#start && first + ptrsPerPte * PAGE_SIZE <= this.#end;
    let once = true;
    for (let i = 0; whole && i < ptrsPerPte; i++) {
      const entry = findPte(this.#mm, first + i * PAGE_SIZE);
      whole = entry >= 0 && (i32[entry] & PTE_MAPS) !== 0 && pfnOf(i32[entry], entryHi(i32, entry, entryWords)) === head + i;
      once &&= vm.frames.mapcount[head + i] === 1;
    }
    if (whole) return once ? TAKEN : LEFT;
    return hugeMappedShared(this.#mm, head) ? LEFT : splitForPart(vm, head);
  }
}

/** Whether an address space other than `mm` maps part of a huge page. @linux include/linux/mm.h:folio_maybe_mapped_shared */
function hugeMappedShared(mm: MmStruct, head: Pfn): boolean {
  const { frames, tables } = mm.vm;
  for (let page = head; page < head + tables.ptrsPerPte; page++) {
    if (frames.mapcount[page] > 0 && pageMappings(mm.vm, page).some((mapping) => mapping.mm !== mm)) return true;
  }
  return false;
}

/** Splits a huge page, unless something else refers to it. */
function splitForPart(vm: Vm, head: Pfn): number {
  if (vm.frames.refcount[head] > hugeReferences(vm, head)) return LEFT;
  splitHugePage(vm, head);
  return SPLIT;
}

/** MADV_COLD: the pages of [start, end) that nobody else maps look unused. @linux mm/madvise.c:madvise_cold_or_pageout_pte_range */
export function markCold(vma: VmArea, start: VirtAddr, end: VirtAddr): void {
  const { mm } = vma;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { flags, mapcount } = vm.frames;
  const { gather } = vm;
  const walk = new PteTableWalk(mm, start, end);
  const parts = new PartVerdicts(mm, start, end);
  // Of what was marked. The flush comes last, as splitting a folio makes one of its own.
  let low = end;
  let high = start;
  lruAddDrain(vm);
  while (walk.next()) {
    let touched = false;
    if (walk.huge && vma.file !== null) {
      for (const pfn of hugeFolio(vma, walk)) {
        flags[pfn] &= ~PG_REFERENCED;
        folioDeactivate(vm, pfn);
        touched = true;
      }
      if (touched) i32[walk.pmdEntry] &= ~PTE_ACCESSED;
    } else if (walk.huge) {
      const verdict = takesHuge(mm, walk);
      if (verdict === LEFT) continue;
      if (verdict === TAKEN) {
        deactivateHuge(vm, walk);
        touched = true;
      } else {
        walk.splitDone();
      }
    }
    for (let i = 0, entry = walk.entry; !walk.huge && i < walk.count; i++, entry += walk.step) {
      const lo = i32[entry];
      if ((lo & PTE_MAPS) === 0 || (lo & PTE_SPECIAL) !== 0) continue;
      const pfn = pfnOf(lo, entryHi(i32, entry, walk.step));
      const verdict = parts.verdict(walk.addr + i * PAGE_SIZE, pfn);
      if (verdict === LEFT) continue;
      if (verdict === SPLIT) {
        // What this entry shows now is looked at anew.
        i--;
        entry -= walk.step;
        continue;
      }
      if ((flags[pfn] & PG_ANON) === 0 && !takesFolio(vma, start, end, walk.addr + i * PAGE_SIZE, pfn)) continue;
      if (mapcount[pfn] !== 1) continue;
      flags[pfn] &= ~PG_REFERENCED;
      folioDeactivate(vm, pfn);
      if ((lo & PTE_ACCESSED) === 0) continue;
      i32[entry] = lo & ~PTE_ACCESSED;
      touched = true;
    }
    if (!touched) continue;
    low = Math.min(low, walk.addr);
    high = walk.addr + walk.count * PAGE_SIZE;
  }
  if (low >= high) return;
  gather.begin(mm);
  gather.noteRange(low, high);
  gather.finish();
}

/** A huge page of private memory looks unused. */
function deactivateHuge(vm: Vm, walk: PteTableWalk): void {
  const { i32 } = vm.ram;
  const { flags } = vm.frames;
  const head = pfnOf(i32[walk.pmdEntry], entryHi(i32, walk.pmdEntry, walk.step));
  for (let page = head; page < head + vm.tables.ptrsPerPte; page++) flags[page] &= ~PG_REFERENCED;
  folioDeactivate(vm, head);
  i32[walk.pmdEntry] &= ~PTE_ACCESSED;
}

/**
 * MADV_PAGEOUT: takes pages that nobody else maps out of memory: clean ones of files go, private ones are swapped out.
 *
 * @linux mm/madvise.c:madvise_pageout
 */
export function pageOut(vma: VmArea, start: VirtAddr, end: VirtAddr): void {
  const { mm } = vma;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { flags, mapcount } = vm.frames;
  lruAddDrain(vm);
  const walk = new PteTableWalk(mm, start, end);
  const parts = new PartVerdicts(mm, start, end);
  while (walk.next()) {
    const pfns: Pfn[] = [];
    if (walk.huge && vma.file !== null) {
      for (const pfn of hugeFolio(vma, walk)) {
        flags[pfn] &= ~PG_REFERENCED;
        pfns.push(pfn);
      }
    } else if (walk.huge) {
      const verdict = takesHuge(mm, walk);
      if (verdict === LEFT) continue;
      if (verdict === TAKEN) splitHugePmd(mm, hugeStart(vm.tables, walk.addr), walk.pmdEntry);
      walk.splitDone();
    }
    for (let i = 0, entry = walk.entry; !walk.huge && i < walk.count; i++, entry += walk.step) {
      const lo = i32[entry];
      if ((lo & PTE_MAPS) === 0 || (lo & PTE_SPECIAL) !== 0) continue;
      const pfn = pfnOf(lo, entryHi(i32, entry, walk.step));
      const verdict = parts.verdict(walk.addr + i * PAGE_SIZE, pfn);
      if (verdict === LEFT) continue;
      if (verdict === SPLIT) {
        // What this entry shows now is looked at anew.
        i--;
        entry -= walk.step;
        continue;
      }
      if ((flags[pfn] & PG_ANON) === 0 && !takesFolio(vma, start, end, walk.addr + i * PAGE_SIZE, pfn)) continue;
      if (mapcount[pfn] !== 1) continue;
      flags[pfn] &= ~PG_REFERENCED;
      pfns.push(pfn);
    }
    reclaimPages(vm, pfns);
  }
}

/**
 * The pages of a file's folio that one entry shows, where advice is for all of it and it is nobody else's; none otherwise.
 * One that the range covers in part is split, which only unmaps it.
 *
 * @linux mm/madvise.c:madvise_cold_or_pageout_pte_range
 */
function hugeFolio(vma: VmArea, walk: PteTableWalk): Pfn[] {
  const { vm } = vma.mm;
  const { mapping } = vma.file!.inode;
  const { hugeOrder, ptrsPerPte } = vm.tables;
  const head = pfnOf(vm.ram.i32[walk.pmdEntry], entryHi(vm.ram.i32, walk.pmdEntry, walk.step));
  const first = vm.frames.index[head];
  if (mappedShared(vma, mapping, first, ptrsPerPte)) return [];
  if (walk.count === ptrsPerPte) return Array.from({ length: ptrsPerPte }, (_, i) => head + i);
  splitForAdvice(vm, mapping, first, hugeOrder, first);
  return [];
}

/** Splits a folio, unless it is dirty and has buffers. */
function splitForAdvice(vm: Vm, mapping: AddressSpace, head: number, order: number, at: number): void {
  if (!mapping.ops.swapBacked) {
    if (!isDirty(vm, mapping, head, 1 << order)) splitFolio(vm, mapping, head, order, at);
    return;
  }
  splitShmemFolio(vm, mapping.pages.get(at));
  vm.smp.flushBatch();
}

/**
 * Whether advice is taken for the folio of a file's page at `addr`, which then is taken for all of it. One that does not lie in
 * [start, end) whole and is nobody else's is split, which only unmaps it, unless it is dirty: that cannot be, and stays.
 *
 * @linux mm/madvise.c:madvise_cold_or_pageout_pte_range
 */
function takesFolio(vma: VmArea, start: VirtAddr, end: VirtAddr, addr: VirtAddr, pfn: Pfn): boolean {
  const { vm } = vma.mm;
  const order = folioOrder(vm, pfn);
  if (order === 0) return true;
  const { frames } = vm;
  const { mapping } = vma.file!.inode;
  const pgoff = frames.index[pfn];
  const nrPages = 1 << order;
  const head = pgoff - (pgoff % nrPages);
  // Of one that began below, the first page was looked at already.
  const first = addr - (pgoff - head) * PAGE_SIZE;
  if (first >= start && first + nrPages * PAGE_SIZE <= end && mapsRun(vma, first, mapping, head, nrPages)) {
    return mapsOnce(vm, mapping, head, nrPages);
  }
  if (!mappedShared(vma, mapping, head, nrPages)) splitForAdvice(vm, mapping, head, order, pgoff);
  return false;
}

/** Whether no page of a folio is mapped twice. */
function mapsOnce(vm: Vm, mapping: AddressSpace, head: number, nrPages: number): boolean {
  for (let i = 0; i < nrPages; i++) if (vm.frames.mapcount[mapping.pages.get(head + i)] > 1) return false;
  return true;
}

function isDirty(vm: Vm, mapping: AddressSpace, head: number, nrPages: number): boolean {
  for (let i = 0; i < nrPages; i++) if ((vm.frames.flags[mapping.pages.get(head + i)] & PG_DIRTY) !== 0) return true;
  return false;
}

/** Whether an address space other than that of `vma` maps part of a folio. @linux include/linux/mm.h:folio_maybe_mapped_shared */
function mappedShared(vma: VmArea, mapping: AddressSpace, head: number, nrPages: number): boolean {
  const { vm } = vma.mm;
  for (let i = 0; i < nrPages; i++) {
    const page = mapping.pages.get(head + i);
    if (vm.frames.mapcount[page] > 0 && pageMappings(vm, page).some(({ mm }) => mm !== vma.mm)) return true;
  }
  return false;
}

/** Whether a whole folio is mapped from `addr` on. */
function mapsRun(vma: VmArea, addr: VirtAddr, mapping: AddressSpace, head: number, nrPages: number): boolean {
  const { mm } = vma;
  const { ram, tables } = mm.vm;
  for (let i = 0; i < nrPages; i++) {
    const entry = findPte(mm, addr + i * PAGE_SIZE);
    const lo = entry < 0 ? 0 : ram.i32[entry];
    if ((lo & PTE_MAPS) === 0 || pfnOf(lo, entryHi(ram.i32, entry, tables.entryWords)) !== mapping.pages.get(head + i)) return false;
  }
  return true;
}
