/**
 * Huge pages of the pool that break: the page goes as a whole, and of a file's it is noted which of its parts are bad.
 *
 * @linux mm/memory-failure.c:try_memory_failure_hugetlb, me_huge_page
 */
import { Errno, PAGE_SHIFT, PAGE_SIZE } from '@pagelab/abi';
import { PTE_DIRTY, PTE_HI_FRAME_MASK, PTE_LO_FRAME_MASK, PTE_PS, pteHi, pteLo } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { NODE_STAT, PG_ANON, PG_DIRTY, PG_HEAD, PG_HUGETLB, compoundHead } from '@pagelab/mm-core';
import { dissolveFreeHugetlb, isFreeHugetlb, putHugetlbPage, takeHugetlbTarget } from './hugetlb.ts';
import { hwpoisonHi, hwpoisonLo } from './hwpoison.ts';
import { actionResult, killAccessing, killProcs, takeOffBuddy } from './memory-failure.ts';
import type { MmStruct } from './mm-struct.ts';
import { entryHi, setEntry } from './pgtable-shape.ts';
import { findLeaf } from './pgtable.ts';
import { pageMappings } from './rmap.ts';
import type { Vm } from './vm.ts';

/** As {@link memoryFailure}, of a part of a huge page of the pool. */
export function hugetlbMemoryFailure(vm: Vm, pfn: Pfn, accessing: MmStruct | null): number {
  const { hwpoison, frames } = vm;
  const head = compoundHead(frames, pfn);
  const shift = PAGE_SHIFT + vm.tables.hugeOrder;
  const known = hwpoison.raw.get(head);
  if (known !== undefined) {
    const told = accessing !== null && killAccessing(accessing, pfn, shift);
    const isSame = known.has(pfn);
    known.add(pfn);
    actionResult(vm, pfn, isSame ? 'already poisoned page' : 'huge page', 'Failed');
    return accessing === null || told ? -Errno.EHWPOISON : 0;
  }
  hwpoison.raw.set(head, new Set([pfn]));
  if (isFreeHugetlb(vm, head)) return actionResult(vm, pfn, 'free huge page', dissolve(vm, head, pfn) ? 'Recovered' : 'Failed');
  frames.refcount[head]++;
  const isAnon = (frames.flags[head] & PG_ANON) !== 0;
  const lost = pageMappings(vm, head).map(({ mm, address }) => ({ mm, address: address + (pfn - head) * PAGE_SIZE }));
  unmapHuge(vm, head, pfn);
  if ((frames.flags[head] & PG_DIRTY) !== 0) killProcs(vm, lost, pfn, { accessing, shift });
  if (!isAnon) {
    hwpoison.kept.add(head);
    return actionResult(vm, pfn, 'huge page', 'Recovered');
  }
  putHugetlbPage(vm, head);
  return actionResult(vm, pfn, 'huge page', dissolve(vm, head, pfn) ? 'Recovered' : 'Failed');
}

/** A free page of the pool is given up, but for its broken part. @linux mm/memory-failure.c:__page_handle_poison */
function dissolve(vm: Vm, head: Pfn, pfn: Pfn): boolean {
  if (!dissolveFreeHugetlb(vm, head)) return false;
  vm.hwpoison.raw.delete(head);
  vm.hwpoison.frames.set(pfn, 'anon');
  return takeOffBuddy(vm, pfn);
}

/** Entries that raise SIGBUS take the place of those that show the page. */
function unmapHuge(vm: Vm, head: Pfn, pfn: Pfn): void {
  const { i32 } = vm.ram;
  const { flags, mapcount, refcount } = vm.frames;
  for (const { mm, address } of pageMappings(vm, head)) {
    const entry = findLeaf(mm, address);
    if ((i32[entry] & PTE_DIRTY) !== 0) flags[head] |= PG_DIRTY;
    setEntry(i32, entry, vm.tables.entryWords, hwpoisonLo(vm.tables, pfn) | PTE_PS, hwpoisonHi(vm.tables, pfn));
    mm.hugetlbPages--;
    mapcount[head]--;
    refcount[head]--;
    vm.smp.addToBatch(mm.pgd * PAGE_SIZE);
  }
  vm.smp.flushBatch();
}

/**
 * A page of the pool that is about to break is retired: what it holds moves to another.
 *
 * @returns 0; −EBUSY where there is none, or its promises keep it
 * @linux mm/memory-failure.c:soft_offline_in_use_page
 */
export function softOfflineHugetlb(vm: Vm, pfn: Pfn): number {
  const head = compoundHead(vm.frames, pfn);
  if (!isFreeHugetlb(vm, head) && !moveHugetlb(vm, head)) return -Errno.EBUSY;
  return dissolve(vm, head, pfn) ? 0 : -Errno.EBUSY;
}

/** @linux mm/migrate.c:unmap_and_move_huge_page */
function moveHugetlb(vm: Vm, head: Pfn): boolean {
  const { frames } = vm;
  const { flags, index, mapcount, mapping, refcount } = frames;
  const { i32 } = vm.ram;
  const { entryWords: step, ptrsPerPte } = vm.tables;
  const mappings = pageMappings(vm, head);
  const file = (flags[head] & PG_ANON) === 0 ? vm.mappings.get(mapping[head]) : undefined;
  // Somebody else holds it.
  if (refcount[head] !== 1 + mappings.length + (file === undefined ? 0 : 1)) return false;
  const to = takeHugetlbTarget(vm, vm.pages.nodeOf(head));
  if (to < 0) return false;
  for (let i = 0; i < ptrsPerPte; i++) vm.ram.copyFrame(to + i, head + i);
  vm.clock.advance(vm.costs.copyPage * ptrsPerPte);
  flags[to] |= flags[head] & ~(PG_HEAD | PG_HUGETLB);
  mapping[to] = mapping[head];
  index[to] = index[head];
  for (const { mm, address } of mappings) {
    const entry = findLeaf(mm, address);
    const lo = (i32[entry] & ~PTE_LO_FRAME_MASK) | pteLo(to, 0);
    setEntry(i32, entry, step, lo, (entryHi(i32, entry, step) & ~PTE_HI_FRAME_MASK) | pteHi(to, 0));
    mapcount[head]--;
    mapcount[to]++;
    refcount[to]++;
    vm.smp.addToBatch(mm.pgd * PAGE_SIZE);
  }
  vm.smp.flushBatch();
  if (file !== undefined) {
    file.pages.set(index[head], to);
    refcount[to]++;
  }
  vm.pages.modNodeState(to, NODE_STAT.NR_HUGETLB, ptrsPerPte);
  // The last reference but the pool's: it is free by that.
  refcount[head] = 2;
  putHugetlbPage(vm, head);
  return true;
}
