/**
 * Taking a page out of every page table that shows it, and looking whether one of them was used.
 *
 * What stands in its place is nothing for a page of a file, and its swap entry for one that has a slot. Translations are
 * flushed by the caller, for many pages at once: `Smp.flushBatch`.
 *
 * @linux mm/rmap.c:try_to_unmap, folio_referenced
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE, PTE_ACCESSED, PTE_DIRTY, PTE_PS, PTE_SOFT_DIRTY_HI, PTE_UFFD_WP_LO } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { PG_ANON, PG_ANON_EXCLUSIVE, PG_DIRTY, PG_HEAD, PG_KSM, PG_SWAPBACKED, PG_SWAPCACHE, compoundHead } from '@pagelab/mm-core';
import type { AnonVmaChain } from './anon-vma.ts';
import { splitFilePmd } from './file-pmd.ts';
import { hugeStart, splitHugeEntries } from './huge-memory.ts';
import { ksmWalk } from './ksm.ts';
import { MM_ANONPAGES, MM_SWAPENTS } from './mm-struct.ts';
import { setPageDirty } from './page-cache.ts';
import { clearEntry, entryHi, setEntry } from './pgtable-shape.ts';
import { findLeaf, leafLo } from './pgtable.ts';
import { PTE_MAPS, PTE_SPECIAL, SWP_SOFT_DIRTY, SWP_UFFD_WP, pfnOf } from './pte.ts';
import { locksPages, mlockPage, mmCounter, removeRmap } from './rmap.ts';
import { folioSwapEntry } from './swap-state.ts';
import { swapDuplicate } from './swapfile.ts';
import { swpExclusive, swpPteHi, swpPteLo } from './swapops.ts';
import { leaveUffdWp } from './userfault-wp.ts';
import type { Vm } from './vm.ts';
import { VM_LOCKED, VM_RAND_READ, VM_SEQ_READ } from './vma.ts';
import type { VmArea } from './vma.ts';
import { updateHiwaterRss } from './zap.ts';

/** Walks over the mappings of one page at a time. It makes no objects: reclaim walks millions of times. */
export class RmapWalk {
  readonly #vm: Vm;
  #pfn: Pfn = -1;
  #index = 0;
  #unmapping = false;
  #heedsLocks = true;
  #failed = false;
  /** Entries that were used since the last look, and the flags of the mappings they lie in. */
  #referenced = 0;
  /** `VM_…` bits of the mappings that used the page last asked for by {@link referenced}. */
  vmFlags = 0;
  /** The address space, by id, whose mapping was found used last in that search; 0 for none. */
  user = 0;
  readonly #visitLink = (link: AnonVmaChain): void => {
    this.#visit(link.vma);
  };
  readonly #visit = (vma: VmArea): void => {
    this.#visitAt(vma, vma.start + (this.#index - vma.pgoff) * PAGE_SIZE);
  };
  readonly #visitAt = (vma: VmArea, address: VirtAddr): void => {
    if (this.#unmapping) this.#unmapFrom(vma, address);
    else this.#lookAt(vma, address);
  };

  constructor(vm: Vm) {
    this.#vm = vm;
  }

  /**
   * Takes a page, or a part of a huge one, out of all page tables. One of the swap cache leaves its entry; one that may be dropped
   * leaves nothing, unless it was written to.
   *
   * @returns whether nothing maps it any more: not where a mapping locks it, or it turned out to be in use
   */
  unmap(pfn: Pfn): boolean {
    this.#unmapping = true;
    this.#failed = false;
    this.#walk(pfn);
    return this.#vm.frames.mapcount[pfn] === 0;
  }

  /**
   * Takes a huge page out of all page tables, part by part: its third-level entries are cut first.
   *
   * @param head of one that has slots
   * @returns whether nothing maps a part of it any more
   */
  unmapHuge(head: Pfn): boolean {
    const vm = this.#vm;
    splitHugeEntries(vm, head);
    for (let pfn = head; pfn < head + vm.tables.ptrsPerPte; pfn++) {
      if (vm.frames.mapcount[pfn] > 0 && !this.unmap(pfn)) return false;
    }
    return true;
  }

  /**
   * Entries through which a page was used since this was last asked; their accessed bits are cleared. A mapping that
   * locks it ends the search.
   */
  referenced(pfn: Pfn): number {
    this.#unmapping = false;
    this.#failed = false;
    this.#referenced = 0;
    this.vmFlags = 0;
    this.user = 0;
    this.#walk(pfn);
    const { flags, mapcount, private: priv } = this.#vm.frames;
    if ((flags[pfn] & PG_HEAD) === 0) return this.#referenced;
    // What third-level entries show was seen by way of the head.
    const end = pfn + this.#vm.tables.ptrsPerPte;
    for (let part = pfn + 1; part < end && !this.#failed; part++) if (mapcount[part] > priv[pfn]) this.#walk(part);
    return this.#referenced;
  }

  /** Clears the accessed bits of all entries of a page, locked or not. */
  clearReferenced(pfn: Pfn): void {
    this.#heedsLocks = false;
    this.referenced(pfn);
    this.#heedsLocks = true;
  }

  #walk(pfn: Pfn): void {
    const { frames, anonVmas, mappings } = this.#vm;
    const id = frames.mapping[pfn];
    if (id === 0 || frames.mapcount[pfn] === 0) return;
    this.#pfn = pfn;
    const index = frames.index[pfn];
    this.#index = index;
    if ((frames.flags[pfn] & PG_KSM) !== 0) ksmWalk(this.#vm, pfn, this.#visitAt);
    else if ((frames.flags[pfn] & PG_ANON) !== 0) anonVmas.get(id)?.chains.forEachOverlap(index, index, this.#visitLink);
    else mappings.get(id)?.mmap.forEachOverlap(index, index, this.#visit);
  }

  /** Host word of the entry that shows the page at an address; −1 for none. */
  #entryOf(vma: VmArea, address: VirtAddr): number {
    const vm = this.#vm;
    const { i32 } = vm.ram;
    const entry = findLeaf(vma.mm, address);
    if (entry < 0) return -1;
    const lo = leafLo(vm.tables, i32[entry], address);
    if ((lo & PTE_MAPS) === 0 || (lo & PTE_SPECIAL) !== 0) return -1;
    return pfnOf(lo, entryHi(i32, entry, vm.tables.entryWords)) === this.#pfn ? entry : -1;
  }

  /** @linux mm/rmap.c:folio_referenced_one */
  #lookAt(vma: VmArea, address: VirtAddr): void {
    if (this.#failed) return;
    const { ram, smp } = this.#vm;
    const entry = this.#entryOf(vma, address);
    if (entry < 0) return;
    if (this.#heedsLocks && locksPages(vma)) {
      mlockPage(this.#vm, this.#pfn);
      this.vmFlags |= VM_LOCKED;
      this.#failed = true;
      return;
    }
    const lo = ram.i32[entry];
    if ((lo & PTE_ACCESSED) === 0) return;
    ram.i32[entry] = lo & ~PTE_ACCESSED;
    // The hardware looks into the tables again to note the next use; Linux lets the old translation be.
    smp.addToBatch(vma.mm.pgd * PAGE_SIZE);
    if ((vma.flags & (VM_SEQ_READ | VM_RAND_READ)) !== 0) return;
    this.#referenced++;
    this.user = vma.mm.id;
    this.vmFlags |= vma.flags;
    const { policy } = this.#vm.reclaim;
    if (policy.lookAround !== undefined && (lo & PTE_PS) === 0) policy.lookAround(vma, address, entry, this.#pfn);
  }

  /** @linux mm/rmap.c:try_to_unmap_one */
  #unmapFrom(vma: VmArea, address: VirtAddr): void {
    if (this.#failed) return;
    const vm = this.#vm;
    const { mm } = vma;
    const { i32 } = vm.ram;
    const { flags, refcount, mapcount } = vm.frames;
    const pfn = this.#pfn;
    const folio = compoundHead(vm.frames, pfn);
    const step = vm.tables.entryWords;
    const entry = this.#entryOf(vma, address);
    if (entry < 0) return;
    if (locksPages(vma)) {
      mlockPage(vm, pfn);
      this.#failed = true;
      return;
    }
    const lo = i32[entry];
    const hi = entryHi(i32, entry, step);
    const pageFlags = flags[pfn];
    if ((lo & PTE_PS) !== 0) {
      // Only a folio of a file is shown so: it goes with all that is shown beside the page.
      splitFilePmd(mm, hugeStart(vm.tables, address), entry);
      return;
    }
    if ((pageFlags & PG_ANON) === 0) {
      if ((lo & PTE_DIRTY) !== 0) setPageDirty(vm, pfn);
      updateHiwaterRss(mm);
      clearEntry(i32, entry, step);
      if ((lo & PTE_UFFD_WP_LO) !== 0) leaveUffdWp(vma, entry, lo, hi);
      mm.rss[mmCounter(pageFlags)]--;
    } else if ((pageFlags & PG_SWAPBACKED) === 0) {
      // Given up: it goes for good, unless it was stored to since, or somebody holds it. What may be dropped goes in any case.
      const isWanted = !vma.droppable && ((pageFlags & PG_DIRTY) !== 0 || (lo & PTE_DIRTY) !== 0);
      if (isWanted) flags[pfn] |= PG_SWAPBACKED;
      if (isWanted || refcount[pfn] !== mapcount[pfn] + 1) {
        this.#failed = true;
        return;
      }
      flags[pfn] &= ~PG_DIRTY;
      updateHiwaterRss(mm);
      clearEntry(i32, entry, step);
      mm.rss[MM_ANONPAGES]--;
    } else {
      if ((flags[folio] & PG_SWAPCACHE) === 0) {
        this.#failed = true;
        return;
      }
      if ((lo & PTE_DIRTY) !== 0) flags[folio] |= PG_DIRTY;
      const slot = folioSwapEntry(vm, pfn);
      swapDuplicate(vm, slot);
      let swpLo = swpPteLo(step, slot);
      if ((pageFlags & PG_ANON_EXCLUSIVE) !== 0) swpLo |= swpExclusive(step);
      if (step === 2 && (hi & PTE_SOFT_DIRTY_HI) !== 0) swpLo |= SWP_SOFT_DIRTY;
      if (step === 2 && (lo & PTE_UFFD_WP_LO) !== 0) swpLo |= SWP_UFFD_WP;
      updateHiwaterRss(mm);
      setEntry(i32, entry, step, swpLo, swpPteHi(slot));
      mm.rss[MM_ANONPAGES]--;
      mm.rss[MM_SWAPENTS]++;
      flags[pfn] &= ~PG_ANON_EXCLUSIVE;
    }
    vm.smp.addToBatch(mm.pgd * PAGE_SIZE);
    removeRmap(vm, pfn, vma);
    refcount[folio]--;
  }
}

/** Whether a page is the head of a compound one, which is split before it is unmapped. */
export function isHuge(vm: Vm, pfn: Pfn): boolean {
  return (vm.frames.flags[pfn] & PG_HEAD) !== 0;
}
