/**
 * Frames that are broken, or about to break: whoever has them loses them, or is moved away, and nobody gets them again.
 *
 *     frame in vm.brokenFrames === PG_OFFLINE, one reference, nobody's
 *
 * @linux mm/memory-failure.c
 */
import { Errno, MADV_SOFT_OFFLINE, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_DIRTY, PTE_PS } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import {
  GFP_USER,
  PG_ANON,
  PG_DIRTY,
  PG_HEAD,
  PG_HUGETLB,
  PG_MLOCKED,
  PG_OFFLINE,
  PG_RESERVED,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_TAIL,
  PG_WRITEBACK,
  allocContigRange,
} from '@pagelab/mm-core';
import { getUserPageFlags } from './gup.ts';
import { hugeStart, splitHugePage, splitHugePmd } from './huge-memory.ts';
import { CAP_SYS_ADMIN } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { folioOrder, removeFromPageCache } from './page-cache.ts';
import { clearEntry, setEntry } from './pgtable-shape.ts';
import { findLeaf, findPmd } from './pgtable.ts';
import { MARKER_POISONED, markerHi, markerLo } from './pte.ts';
import { mmCounter, pageMappings, removeRmap } from './rmap.ts';
import { lruAddDrainAll } from './swap.ts';
import { folioFreeSwap } from './swapfile.ts';
import type { Vm } from './vm.ts';
import { updateHiwaterRss } from './zap.ts';

/**
 * MADV_HWPOISON, MADV_SOFT_OFFLINE: the frames behind a range break, or are retired.
 *
 * @returns 0; −EPERM; −EFAULT where nothing can be brought in; −EBUSY for a page that cannot be taken away
 * @linux mm/madvise.c:madvise_inject_error
 */
export function injectMemoryFailure(mm: MmStruct, start: VirtAddr, end: VirtAddr, advice: number): number {
  if (!mm.limits.capable(CAP_SYS_ADMIN)) return -Errno.EPERM;
  for (let address = start; address < end; address += PAGE_SIZE) {
    const pfn = getUserPageFlags(mm, address, 0);
    if (pfn < 0) return pfn;
    const what = advice === MADV_SOFT_OFFLINE ? 'Soft offlining' : 'Injecting memory failure for';
    mm.vm.log(`${what} pfn 0x${pfn.toString(16)} at process virtual address 0x${address.toString(16)}`);
    const error = advice === MADV_SOFT_OFFLINE ? softOfflinePage(mm.vm, pfn) : memoryFailure(mm, address, pfn);
    if (error !== 0) return error;
  }
  return 0;
}

/**
 * A frame that is about to break is retired: what it holds moves to another.
 *
 * @returns 0; −EBUSY where it cannot be moved
 * @linux mm/memory-failure.c:soft_offline_page
 */
export function softOfflinePage(vm: Vm, pfn: Pfn): number {
  if ((vm.frames.flags[pfn] & (PG_RESERVED | PG_HUGETLB)) !== 0 || pfn === vm.zeroPfn) return -Errno.EBUSY;
  return takeAway(vm, pfn);
}

/** A free frame, or one that can be emptied, leaves the page allocator for good. @linux mm/memory-failure.c:page_handle_poison */
function takeAway(vm: Vm, pfn: Pfn): number {
  const error = allocContigRange(vm.pages, pfn, pfn + 1, 0, GFP_USER);
  if (error !== 0) return -Errno.EBUSY;
  vm.frames.flags[pfn] |= PG_OFFLINE;
  vm.brokenFrames.add(pfn);
  return 0;
}

/**
 * What a frame holds is lost. Where only it had that, its entries become ones that raise SIGBUS, and who found out gets that
 * signal at once; a clean page of a file is read again when it is wanted.
 *
 * @param mm who found out, at `address`
 * @returns 0; −EBUSY for pages of the kernel, of the pool of huge pages, of shared memory, and those being written
 * @linux mm/memory-failure.c:memory_failure
 */
function memoryFailure(mm: MmStruct, address: VirtAddr, pfn: Pfn): number {
  const { vm } = mm;
  const { flags, index, mapping, next } = vm.frames;
  if (pfn === vm.zeroPfn || (flags[pfn] & (PG_RESERVED | PG_HUGETLB)) !== 0) return -Errno.EBUSY;
  lruAddDrainAll(vm);
  if ((flags[pfn] & PG_ANON) !== 0) {
    if ((flags[pfn] & (PG_HEAD | PG_TAIL)) !== 0) splitAround(mm, address, (flags[pfn] & PG_TAIL) !== 0 ? next[pfn] : pfn, pfn);
    if ((flags[pfn] & PG_SWAPCACHE) !== 0 && !folioFreeSwap(vm, pfn)) return -Errno.EBUSY;
  }
  const file = (flags[pfn] & PG_ANON) === 0 ? vm.mappings.get(mapping[pfn]) : undefined;
  if ((flags[pfn] & PG_ANON) === 0) {
    if (file === undefined || (flags[pfn] & (PG_SWAPBACKED | PG_WRITEBACK)) !== 0 || folioOrder(vm, pfn) > 0) return -Errno.EBUSY;
  }
  const mappings = pageMappings(vm, pfn);
  const { mapcount, refcount } = vm.frames;
  if (mappings.length !== mapcount[pfn] || refcount[pfn] !== mapcount[pfn] + (file === undefined ? 0 : 1)) return -Errno.EBUSY;
  vm.pages.getPage(pfn);
  const { i32 } = vm.ram;
  const isWritten = mappings.some((place) => (i32[findLeaf(place.mm, place.address)] & PTE_DIRTY) !== 0);
  const isDirty = isWritten || (flags[pfn] & PG_DIRTY) !== 0;
  const wasLocked = (flags[pfn] & PG_MLOCKED) !== 0;
  const isLost = file === undefined || isDirty;
  const step = vm.tables.entryWords;
  for (const place of mappings) {
    const entry = findLeaf(place.mm, place.address);
    updateHiwaterRss(place.mm);
    if (isLost) setEntry(i32, entry, step, markerLo(vm.tables, MARKER_POISONED), markerHi(vm.tables));
    else clearEntry(i32, entry, step);
    place.mm.rss[mmCounter(flags[pfn])]--;
    vm.smp.addToBatch(place.mm.pgd * PAGE_SIZE);
    removeRmap(vm, pfn, place.vma);
    refcount[pfn]--;
  }
  vm.smp.flushBatch();
  if (file !== undefined) removeFromPageCache(vm, file, index[pfn]);
  vm.pages.putPage(pfn);
  if (isLost) {
    for (const place of mappings) if (place.mm !== mm) vm.onBrokenPage(place.mm, place.address, pfn);
    vm.onLostPage(address, pfn);
  }
  const error = takeAway(vm, pfn);
  const kind = `${isDirty ? 'dirty' : 'clean'} ${wasLocked ? 'mlocked ' : ''}LRU page`;
  vm.log(`Memory failure: 0x${pfn.toString(16)}: recovery action for ${kind}: ${error === 0 ? 'Recovered' : 'Failed'}`);
  return error;
}

/** A part of a huge page stands alone before it is taken out. */
function splitAround(mm: MmStruct, address: VirtAddr, head: Pfn, pfn: Pfn): void {
  const { vm } = mm;
  const pmd = findPmd(mm, address);
  if ((vm.ram.i32[pmd] & PTE_PS) !== 0) splitHugePmd(mm, hugeStart(vm.tables, address), pmd);
  splitHugePage(vm, head, pfn);
}
