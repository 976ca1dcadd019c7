/**
 * Memory that fails: whoever has what a broken frame held loses it, in the smallest piece that can be, and nobody gets the
 * frame again.
 *
 * @linux mm/memory-failure.c
 */
import { Errno, MADV_SOFT_OFFLINE, PAGE_SHIFT, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_DIRTY } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { KernelBug } from '@pagelab/lib';
import {
  OWNER_ANON,
  OWNER_FILE,
  OWNER_FREE,
  OWNER_HOLE,
  OWNER_HUGETLB,
  OWNER_SHMEM,
  PG_ACTIVE,
  PG_ANON,
  PG_DIRTY,
  PG_HEAD,
  PG_KSM,
  PG_LRU,
  PG_OFFLINE,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_TAIL,
  PG_UNEVICTABLE,
  PG_UPTODATE,
  compoundHead,
  frameOwner,
  takePageOffBuddy,
} from '@pagelab/mm-core';
import type { AddressSpace } from './file.ts';
import { unmapFilePmds } from './file-pmd.ts';
import { folioStart, splitFolio } from './folio.ts';
import { waitOnWriteback } from './folio-writeback.ts';
import { getUserPageFlags } from './gup.ts';
import { splitHugePage } from './huge-memory.ts';
import { hugetlbMemoryFailure } from './hugetlb-failure.ts';
import { hwpoisonHi, hwpoisonLo, hwpoisonPfn } from './hwpoison.ts';
import type { MfResult } from './hwpoison.ts';
import { CAP_SYS_ADMIN } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { folioOrder, removeFromPageCache } from './page-cache.ts';
import { clearEntry, entryHi, setEntry } from './pgtable-shape.ts';
import { PteTableWalk, findLeaf } from './pgtable.ts';
import { PTE_MAPS, pfnOf } from './pte.ts';
import { mmCounter, pageMappings, removeRmap } from './rmap.ts';
import { softOfflinePage } from './soft-offline.ts';
import { isolateLru, lruAddDrainAll } from './swap.ts';
import { deleteFromSwapCache } from './swap-state.ts';
import { RmapWalk } from './try-to-unmap.ts';
import type { Vm } from './vm.ts';
import { updateHiwaterRss } from './zap.ts';

/** Where somebody has a broken page. @linux mm/memory-failure.c:to_kill */
export interface LostPage {
  readonly mm: MmStruct;
  readonly address: VirtAddr;
}

/**
 * MADV_HWPOISON, MADV_SOFT_OFFLINE: the frames behind a range break, or are retired. Of a huge page one part does for all.
 *
 * @returns 0; −EPERM; −EFAULT where nothing can be brought in; what {@link memoryFailure} and `softOfflinePage` return
 * @linux mm/madvise.c:madvise_inject_error
 */
export function injectMemoryFailure(mm: MmStruct, start: VirtAddr, end: VirtAddr, advice: number): number {
  const { vm } = mm;
  if (!mm.limits.capable(CAP_SYS_ADMIN)) return -Errno.EPERM;
  for (let address = start; address < end; ) {
    const pfn = getUserPageFlags(mm, address, 0);
    if (pfn < 0) return pfn;
    const size = compoundBytes(vm, pfn);
    const soft = advice === MADV_SOFT_OFFLINE;
    vm.log(`${soft ? 'Soft offlining' : 'Injecting memory failure for'} pfn ${hex(pfn)} at process virtual address 0x${address.toString(16)}`);
    const error = soft ? softOfflinePage(vm, pfn) : memoryFailure(vm, pfn, mm);
    if (error !== 0) return error;
    address += size;
  }
  return 0;
}

/** @linux include/linux/mm.h:page_size */
function compoundBytes(vm: Vm, pfn: Pfn): number {
  const { flags } = vm.frames;
  if ((flags[pfn] & (PG_HEAD | PG_TAIL)) !== 0) return vm.tables.pmdSize;
  const owner = frameOwner(vm.frames, pfn);
  return owner === OWNER_FILE || owner === OWNER_SHMEM ? PAGE_SIZE << folioOrder(vm, pfn) : PAGE_SIZE;
}

/** A frame's number as the log has it. */
export function hex(pfn: Pfn): string {
  return `0x${pfn.toString(16)}`;
}

/**
 * A frame turns out to be broken.
 *
 * @param accessing the address space that was about to use it, which is told at once; `null` where nobody was
 * @returns 0 where what it held is dealt with; −EBUSY where nothing could be done, −EHWPOISON where it was known, −ENXIO where
 *   there is no memory
 * @linux mm/memory-failure.c:memory_failure
 */
export function memoryFailure(vm: Vm, pfn: Pfn, accessing: MmStruct | null): number {
  const { frames, hwpoison } = vm;
  if (vm.sysctl.memoryFailureRecovery === 0) throw new KernelBug(`Kernel panic - not syncing: Memory failure on page ${pfn.toString(16)}`);
  const owner = frameOwner(frames, pfn);
  if (owner === OWNER_HOLE) {
    vm.log(`Memory failure: ${hex(pfn)}: memory outside kernel control`);
    return -Errno.ENXIO;
  }
  if (owner === OWNER_HUGETLB) return hugetlbMemoryFailure(vm, pfn, accessing);
  if (hwpoison.has(pfn)) {
    const told = accessing !== null && killAccessing(accessing, pfn, PAGE_SHIFT);
    actionResult(vm, pfn, 'already poisoned page', 'Failed');
    return accessing === null || told ? -Errno.EHWPOISON : 0;
  }
  const isAnon = owner === OWNER_ANON;
  hwpoison.frames.set(pfn, isAnon ? 'anon' : 'file');
  if (owner === OWNER_FREE) return actionResult(vm, pfn, 'free buddy page', takeOffBuddy(vm, pfn) ? 'Recovered' : 'Failed');
  if (!isAnon && owner !== OWNER_SHMEM && owner !== OWNER_FILE) {
    if (accessing !== null) return actionResult(vm, pfn, 'reserved kernel page', 'Ignored');
    vm.log(`Memory failure: ${hex(pfn)}: unhandlable page.`);
    return actionResult(vm, pfn, 'get hwpoison page', 'Ignored');
  }
  lruAddDrainAll(vm);
  separate(vm, pfn);
  waitOnWriteback(vm, pfn);
  // Nobody frees it meanwhile.
  vm.pages.getPage(pfn);
  return containError(vm, pfn, accessing);
}

/** Notes what came of an error. @returns 0, or −EBUSY @linux mm/memory-failure.c:action_result */
export function actionResult(vm: Vm, pfn: Pfn, what: string, result: MfResult): number {
  if (what !== 'already poisoned page') {
    const stats = vm.hwpoison.nodes[vm.pages.nodeOf(pfn)];
    vm.hwpoison.count++;
    stats.total++;
    stats[result.toLowerCase() as Lowercase<MfResult>]++;
  }
  vm.log(`Memory failure: ${hex(pfn)}: recovery action for ${what}: ${result}`);
  return result === 'Recovered' || result === 'Delayed' ? 0 : -Errno.EBUSY;
}

/** A free frame leaves the page allocator for good. @returns whether it could @linux mm/page_alloc.c:take_page_off_buddy */
export function takeOffBuddy(vm: Vm, pfn: Pfn): boolean {
  if (!takePageOffBuddy(vm.pages, pfn)) return false;
  vm.frames.flags[pfn] = PG_OFFLINE;
  vm.hwpoison.takenOff.add(pfn);
  return true;
}

/** Makes a page of its own of a part of a larger one. @linux mm/memory-failure.c:try_to_split_thp_page */
export function separate(vm: Vm, pfn: Pfn): void {
  const { flags, index, mapping } = vm.frames;
  if ((flags[pfn] & PG_ANON) !== 0) {
    if ((flags[pfn] & (PG_HEAD | PG_TAIL)) !== 0) splitHugePage(vm, compoundHead(vm.frames, pfn), pfn);
    return;
  }
  const file = vm.mappings.get(mapping[pfn]);
  const order = file === undefined ? 0 : folioOrder(vm, pfn);
  if (order === 0) return;
  unmapFilePmds(vm, pfn);
  splitFolio(vm, file!, folioStart(index[pfn], order), order, index[pfn]);
}

/** What has a page of a program's or file's loses it. */
function containError(vm: Vm, pfn: Pfn, accessing: MmStruct | null): number {
  const { flags, mapcount, mapping } = vm.frames;
  const file = (flags[pfn] & PG_ANON) === 0 ? vm.mappings.get(mapping[pfn]) : undefined;
  if (mapcount[pfn] > 0) {
    const lost = collectProcs(vm, pfn, file);
    if (!unmapPoisoned(vm, pfn, file)) {
      killProcs(vm, lost, pfn, { accessing, shift: PAGE_SHIFT });
      vm.pages.putPage(pfn);
      return actionResult(vm, pfn, 'unmapping failed page', 'Failed');
    }
    if ((flags[pfn] & PG_DIRTY) !== 0) killProcs(vm, lost, pfn, { accessing, shift: PAGE_SHIFT });
  }
  const isDirty = (flags[pfn] & PG_DIRTY) !== 0;
  const state = isDirty ? 'dirty' : 'clean';
  if ((flags[pfn] & PG_SWAPCACHE) !== 0) return actionResult(vm, pfn, `${state} swapcache page`, isDirty ? keepInSwapCache(vm, pfn) : dropFromSwapCache(vm, pfn));
  const list = (flags[pfn] & PG_UNEVICTABLE) !== 0 ? 'unevictable LRU' : 'LRU';
  return actionResult(vm, pfn, `${state} ${list} page`, dropPage(vm, pfn, file, isDirty));
}

/** Everybody who has a page: of a file, also those who have not touched it. @linux mm/memory-failure.c:collect_procs */
function collectProcs(vm: Vm, pfn: Pfn, file: AddressSpace | undefined): LostPage[] {
  if (file === undefined) {
    const mappings = pageMappings(vm, pfn);
    // Of what many of a program's pages were merged into, it hears once.
    return (vm.frames.flags[pfn] & PG_KSM) === 0 ? mappings : mappings.filter(({ mm }, i) => mappings.findIndex((other) => other.mm === mm) === i);
  }
  const lost: LostPage[] = [];
  const index = vm.frames.index[pfn];
  file.mmap.forEachOverlap(index, index, ({ mm, pgoff, start }) => {
    lost.push({ mm, address: start + (index - pgoff) * PAGE_SIZE });
  });
  return lost;
}

/** Who wants to know is told. @linux mm/memory-failure.c:kill_procs */
export function killProcs(vm: Vm, lost: readonly LostPage[], pfn: Pfn, about: { readonly accessing: MmStruct | null; readonly shift: number }): void {
  vm.killProcs(lost, pfn, about.accessing !== null, about.shift);
}

/** Who was about to use a page that is known to be broken is told where it has that. @returns whether it has @linux mm/memory-failure.c:kill_accessing_process */
export function killAccessing(mm: MmStruct, pfn: Pfn, shift: number): boolean {
  const { tables, ram } = mm.vm;
  const walk = new PteTableWalk(mm, 0, mm.taskSize);
  while (walk.next()) {
    for (let i = 0; i < (walk.huge ? 1 : walk.count); i++) {
      const entry = walk.huge ? walk.pmdEntry : walk.entry + i * walk.step;
      const lo = ram.i32[entry];
      const hi = entryHi(ram.i32, entry, walk.step);
      const shown = (lo & PTE_MAPS) !== 0 ? pfnOf(lo, hi) : hwpoisonPfn(tables, lo, hi);
      const first = walk.huge ? pfn - (pfn % tables.ptrsPerPte) : pfn;
      if (shown !== first) continue;
      killProcs(mm.vm, [{ mm, address: walk.addr + (i + pfn - first) * PAGE_SIZE }], pfn, { accessing: mm, shift });
      return true;
    }
  }
  return false;
}

/**
 * Takes a page out of all page tables. Entries that raise SIGBUS take its place where what it held is lost.
 *
 * @returns whether nobody has it mapped any more
 * @linux mm/memory-failure.c:unmap_poisoned_folio
 */
function unmapPoisoned(vm: Vm, pfn: Pfn, file: AddressSpace | undefined): boolean {
  const { flags, mapcount, refcount } = vm.frames;
  const { i32 } = vm.ram;
  const step = vm.tables.entryWords;
  if ((flags[pfn] & PG_SWAPCACHE) !== 0) {
    vm.log(`Memory failure: ${hex(pfn)}: keeping poisoned page in swap cache`);
    return new RmapWalk(vm).unmap(pfn);
  }
  const mappings = pageMappings(vm, pfn);
  if (mappings.some(({ mm, address }) => (i32[findLeaf(mm, address)] & PTE_DIRTY) !== 0)) flags[pfn] |= PG_DIRTY;
  // Of a file on a disk, what was not stored to can be read again.
  const isLost = file === undefined || file.ops.swapBacked || (flags[pfn] & PG_DIRTY) !== 0;
  if (!isLost) vm.log(`Memory failure: ${hex(pfn)}: corrupted page was clean: dropped without side effects`);
  for (const { mm, vma, address } of mappings) {
    const entry = findLeaf(mm, address);
    updateHiwaterRss(mm);
    if (isLost) setEntry(i32, entry, step, hwpoisonLo(vm.tables, pfn), hwpoisonHi(vm.tables, pfn));
    else clearEntry(i32, entry, step);
    mm.rss[mmCounter(flags[pfn])]--;
    vm.smp.addToBatch(mm.pgd * PAGE_SIZE);
    removeRmap(vm, pfn, vma);
    refcount[pfn]--;
  }
  vm.smp.flushBatch();
  return mapcount[pfn] === 0;
}

/** A page that nobody has mapped any more leaves the lists of reclaim. @linux mm/memory-failure.c:delete_from_lru_cache */
export function deleteFromLru(vm: Vm, pfn: Pfn): void {
  if ((vm.frames.flags[pfn] & PG_LRU) !== 0) {
    isolateLru(vm, pfn);
    vm.pages.putPage(pfn);
  }
  vm.frames.flags[pfn] &= ~(PG_ACTIVE | PG_UNEVICTABLE);
}

/** A page stays where it is, with the reference that this took, which nobody gives back: who comes for it is told. */
function keep(vm: Vm, pfn: Pfn): void {
  deleteFromLru(vm, pfn);
  vm.hwpoison.kept.add(pfn);
}

/** @linux mm/memory-failure.c:me_swapcache_dirty */
function keepInSwapCache(vm: Vm, pfn: Pfn): MfResult {
  vm.frames.flags[pfn] &= ~(PG_DIRTY | PG_UPTODATE);
  keep(vm, pfn);
  return 'Delayed';
}

/** What is in the area is good. @linux mm/memory-failure.c:me_swapcache_clean */
function dropFromSwapCache(vm: Vm, pfn: Pfn): MfResult {
  deleteFromLru(vm, pfn);
  deleteFromSwapCache(vm, pfn);
  vm.pages.putPage(pfn);
  return takeOffBuddy(vm, pfn) ? 'Recovered' : 'Failed';
}

/** @linux mm/memory-failure.c:me_pagecache_clean, me_pagecache_dirty */
function dropPage(vm: Vm, pfn: Pfn, file: AddressSpace | undefined, isDirty: boolean): MfResult {
  const { flags, index, refcount } = vm.frames;
  // It tells who asks next whether its data reached the device.
  if (file !== undefined && isDirty) file.inode.writeErrors++;
  if (file !== undefined && (flags[pfn] & PG_SWAPBACKED) !== 0) {
    keep(vm, pfn);
    return 'Recovered';
  }
  if (file !== undefined) removeFromPageCache(vm, file, index[pfn]);
  // Somebody else may hold it.
  const isAlone = refcount[pfn] === 1;
  vm.pages.putPage(pfn);
  return isAlone && takeOffBuddy(vm, pfn) ? 'Recovered' : 'Failed';
}
