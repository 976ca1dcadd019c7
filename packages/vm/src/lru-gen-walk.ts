/**
 * Looking for pages in use in page tables: in all of an address space that are worth it, when a generation is made; and in
 * the neighbours of an entry that reclaim found used.
 *
 * Pages used together lie together: a table with a used page for each line of the processor's cache is worth a walk the
 * next time, too, and a filter remembers it. A table whose own entry was not used since has no used pages at all.
 *
 * @linux mm/vmscan.c:walk_mm, lru_gen_look_around
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { PTE_ACCESSED, PTE_DIRTY } from '@pagelab/hw';
import { PG_ANON, PG_DIRTY, PG_SWAPBACKED, PG_SWAPCACHE, compoundHead } from '@pagelab/mm-core';
import type { Lruvec } from '@pagelab/mm-core';
import { genOf, genOfLruvec } from './lru-gen.ts';
import type { LruGenLists } from './lru-gen.ts';
import type { LruGenContext } from './lru-gen-aging.ts';
import { MIN_LRU_BATCH } from './lru-gen-tiers.ts';
import { MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { setPageDirty } from './page-cache.ts';
import { entryHi } from './pgtable-shape.ts';
import { PteTableWalk } from './pgtable.ts';
import { PTE_MAPS, PTE_SPECIAL, pfnOf } from './pte.ts';
import { MAX_SWAPPINESS } from './scan-control.ts';
import type { Vm } from './vm.ts';
import { VM_ACCESS_FLAGS, VM_HUGETLB, VM_LOCKED, VM_RAND_READ, VM_SEQ_READ, VM_SPECIAL } from './vma.ts';
import type { VmArea } from './vma.ts';

/** What of the policy is switched on beside itself. @linux include/linux/mmzone.h:LRU_GEN_MM_WALK, LRU_GEN_NONLEAF_YOUNG */
export interface LruGenCaps {
  /** Page tables are walked when a generation is made. */
  walksMmu: boolean;
  /** The accessed bits of third-level entries are used, too. */
  clearsNonleaf: boolean;
}

/** Bytes of a line of the processor's cache. */
const CACHE_LINE = 64;

/** Whether a table in which `young` of `total` pages were in use is worth a walk next time. @linux mm/vmscan.c:suitable_to_scan */
function suitableToScan(total: number, young: number, entryWords: number): boolean {
  return young * Math.min(Math.max(CACHE_LINE / (entryWords * 4), 2), 8) >= total;
}

/** Walks the address spaces that ran since the last walk, and lets pages in use join the youngest generation. @linux mm/vmscan.c:iterate_mm_list */
export function walkAddressSpaces(context: LruGenContext, lruvec: Lruvec, swappiness: number, force: boolean): void {
  const { vm } = context;
  const lrugen = genOfLruvec(lruvec);
  lrugen.filters.reset(lrugen.maxSeq + 1);
  const walk = new MmWalk(context, lruvec, swappiness, force);
  vm.mms.forEach((mm) => {
    if (!shouldSkipMm(mm, lruvec, force)) walk.mm(mm);
  });
  // The hardware notes the next use of what it has no translation of.
  vm.smp.flushBatch();
}

/** @linux mm/vmscan.c:should_skip_mm */
function shouldSkipMm(mm: MmStruct, lruvec: Lruvec, force: boolean): boolean {
  const { memcgs } = mm.vm;
  if (memcgs !== null && (mm.memcg ?? memcgs.root).lruvecs[lruvec.nid] !== lruvec) return true;
  const node = 1 << lruvec.nid % 32;
  const root = mm.pgd * PAGE_SIZE;
  const ran = (mm.ranSinceWalk & node) !== 0 || mm.vm.smp.cpus.some((cpu) => cpu.cr3 === root);
  if (!ran && !force) return true;
  mm.ranSinceWalk &= ~node;
  return mm.rss[MM_ANONPAGES] + mm.rss[MM_FILEPAGES] + mm.rss[MM_SHMEMPAGES] < MIN_LRU_BATCH;
}

/** @linux mm/vmscan.c:should_skip_vma */
function shouldSkipVma({ flags, file }: VmArea, swappiness: number): boolean {
  if ((flags & VM_ACCESS_FLAGS) === 0) return true;
  if ((flags & (VM_HUGETLB | VM_SEQ_READ | VM_RAND_READ | VM_LOCKED | VM_SPECIAL)) !== 0) return true;
  if (file === null || file.inode.mapping.ops.swapBacked) return swappiness === 0;
  return swappiness > MAX_SWAPPINESS;
}

/** A walk over page tables for one lruvec. @linux include/linux/mmzone.h:lru_gen_mm_walk */
class MmWalk {
  readonly #context: LruGenContext;
  readonly #lruvec: Lruvec;
  readonly #swappiness: number;
  readonly #force: boolean;
  readonly #seq: number;
  /** The third-level entry looked at last, and whether it was found worth it: mappings may share a table. */
  #pmdEntry = -1;
  #worth = false;

  constructor(context: LruGenContext, lruvec: Lruvec, swappiness: number, force: boolean) {
    this.#context = context;
    this.#lruvec = lruvec;
    this.#swappiness = swappiness;
    this.#force = force;
    this.#seq = genOfLruvec(lruvec).maxSeq;
  }

  mm(mm: MmStruct): void {
    const { vm } = mm;
    const { filters } = genOfLruvec(this.#lruvec);
    this.#pmdEntry = -1;
    for (const vma of mm.vmas) {
      if (shouldSkipVma(vma, this.#swappiness)) continue;
      const walk = new PteTableWalk(mm, vma.start, vma.end);
      while (walk.next()) {
        if (walk.huge) {
          this.#hugeEntry(mm, walk.pmdEntry);
          continue;
        }
        if (walk.pmdEntry !== this.#pmdEntry) {
          this.#pmdEntry = walk.pmdEntry;
          this.#worth = this.#isWorthIt(mm, walk.pmdEntry);
        }
        if (this.#worth && this.#table(vm, walk, mm)) filters.add(this.#seq + 1, walk.pmdEntry);
      }
    }
  }

  /** Whether a table is to be walked. @linux mm/vmscan.c:walk_pmd_range */
  #isWorthIt(mm: MmStruct, pmdEntry: number): boolean {
    if (this.#force) return true;
    const { i32 } = mm.vm.ram;
    if (this.#context.caps.clearsNonleaf) {
      if ((i32[pmdEntry] & PTE_ACCESSED) === 0) return false;
      i32[pmdEntry] &= ~PTE_ACCESSED;
      mm.vm.smp.addToBatch(mm.pgd * PAGE_SIZE);
    }
    return genOfLruvec(this.#lruvec).filters.mayHave(this.#seq, pmdEntry);
  }

  /** @returns whether it is worth the next walk @linux mm/vmscan.c:walk_pte_range */
  #table(vm: Vm, walk: PteTableWalk, mm: MmStruct): boolean {
    const young = youngEntries(this.#context.lists, vm, this.#lruvec, walk.entry, walk.count, genOf(this.#seq));
    if (young > 0) vm.smp.addToBatch(mm.pgd * PAGE_SIZE);
    return suitableToScan(walk.count, young, walk.step);
  }

  /** @linux mm/vmscan.c:walk_pmd_range_locked */
  #hugeEntry(mm: MmStruct, pmdEntry: number): void {
    const { i32 } = mm.vm.ram;
    const lo = i32[pmdEntry];
    if ((lo & PTE_MAPS) === 0 || (lo & PTE_SPECIAL) !== 0 || (lo & PTE_ACCESSED) === 0) return;
    const head = pfnOf(lo, entryHi(i32, pmdEntry, mm.vm.tables.entryWords));
    if (!belongs(mm.vm, this.#lruvec, head)) return;
    i32[pmdEntry] = lo & ~PTE_ACCESSED;
    mm.vm.smp.addToBatch(mm.pgd * PAGE_SIZE);
    this.#context.lists.promote(this.#lruvec, head, genOf(this.#seq));
  }
}

/** Whether a frame is a page of user space that is kept in this lruvec. @linux mm/vmscan.c:get_pfn_folio */
function belongs(vm: Vm, lruvec: Lruvec, pfn: Pfn): boolean {
  return vm.frames.mapping[pfn] !== 0 && vm.pages.lru.lruvecOf(pfn) === lruvec;
}

/**
 * Clears the accessed bits of entries in a row, and lets the pages that they show join a generation.
 *
 * @param entry host word of the first
 * @returns how many were in use
 */
function youngEntries(lists: LruGenLists, vm: Vm, lruvec: Lruvec, entry: number, count: number, gen: number): number {
  const { i32 } = vm.ram;
  const { flags } = vm.frames;
  const { entryWords } = vm.tables;
  let young = 0;
  let last = -1;
  for (let at = entry, end = entry + count * entryWords; at < end; at += entryWords) {
    const lo = i32[at];
    if ((lo & PTE_ACCESSED) === 0 || (lo & PTE_MAPS) === 0 || (lo & PTE_SPECIAL) !== 0) continue;
    const pfn = pfnOf(lo, entryHi(i32, at, entryWords));
    const head = compoundHead(vm.frames, pfn);
    if (!belongs(vm, lruvec, head)) continue;
    i32[at] = lo & ~PTE_ACCESSED;
    young++;
    if ((lo & PTE_DIRTY) !== 0 && (flags[head] & PG_DIRTY) === 0 && !isPrivate(flags[head])) setPageDirty(vm, head);
    if (head !== last) lists.promote(lruvec, head, gen);
    last = head;
  }
  return young;
}

/** Memory of a program that has no copy anywhere: whether it is dirty tells nothing. */
function isPrivate(flags: number): boolean {
  return (flags & (PG_ANON | PG_SWAPBACKED | PG_SWAPCACHE)) === (PG_ANON | PG_SWAPBACKED);
}

/**
 * Reclaim found an entry used: those around it, 64 at most, are looked at, too.
 *
 * @param address of the entry's page
 * @param entry its host word; its accessed bit is cleared already
 * @linux mm/vmscan.c:lru_gen_look_around
 */
export function lookAround({ vm, lists }: LruGenContext, vma: VmArea, address: VirtAddr, entry: number, pfn: Pfn): void {
  if ((vma.flags & VM_SPECIAL) !== 0) return;
  const { pmdSize, entryWords } = vm.tables;
  const table = address - (address % pmdSize);
  let start = Math.max(table, vma.start);
  let end = Math.min(table + pmdSize, vma.end);
  if (end - start === PAGE_SIZE) return;
  const window = MIN_LRU_BATCH * PAGE_SIZE;
  if (end - start > window) {
    if (address - start < window / 2) end = start + window;
    else if (end - address < window / 2) start = end - window;
    else {
      start = address - window / 2;
      end = address + window / 2;
    }
  }
  const lruvec = vm.pages.lru.lruvecOf(pfn);
  const { maxSeq, filters } = genOfLruvec(lruvec);
  const first = entry - ((address - start) / PAGE_SIZE) * entryWords;
  const count = (end - start) / PAGE_SIZE;
  const young = 1 + youngEntries(lists, vm, lruvec, first, count, genOf(maxSeq));
  if (!suitableToScan(count, young, entryWords)) return;
  const walk = new PteTableWalk(vma.mm, address, address + PAGE_SIZE);
  if (walk.next()) filters.add(maxSeq, walk.pmdEntry);
}
