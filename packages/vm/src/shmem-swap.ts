/**
 * Shared memory to swap and back: a page that is written out leaves its file's cache for the swap cache, and its swap
 * entry stands in the file (`AddressSpace.swaps`) until it comes back.
 *
 * @linux mm/shmem.c
 */
import { Errno } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { PG_DIRTY, VM_EVENT } from '@pagelab/mm-core';
import type { AddressSpace } from './file.ts';
import { addToPageCache, forgetCachedPage } from './page-cache.ts';
import { swapWriteout } from './page-io.ts';
import type { PendingWrites } from './page-io.ts';
import { addToSwap, removeFromSwapCache, swapCacheFrame, swapUpdateReadahead, swapUptodate, swapinReadahead } from './swap-state.ts';
import { swapDuplicate, swapFree } from './swapfile.ts';
import { swpType } from './swapops.ts';
import type { Vm } from './vm.ts';

/**
 * Writes a page of shared memory that nobody maps to swap.
 *
 * @returns as {@link swapWriteout}; `activate` also where there is no slot for it: it stays
 * @linux mm/shmem.c:shmem_writeout
 */
export function shmemWriteout(vm: Vm, mapping: AddressSpace, pfn: Pfn, pending: PendingWrites): 'begun' | 'none' | 'activate' {
  const pgoff = vm.frames.index[pfn];
  if (!addToSwap(vm, pfn)) return 'activate';
  const swp = vm.frames.private[pfn];
  swapDuplicate(vm, swp);
  mapping.swaps.set(pgoff, swp);
  forgetCachedPage(vm, mapping, pgoff);
  vm.frames.private[pfn] = swp;
  vm.pages.freePage(pfn);
  return swapWriteout(vm, pfn, pending);
}

/**
 * Brings a page back into its file's cache.
 *
 * @returns its frame with a reference for the caller; −EIO where it cannot be read; −ENOMEM
 * @linux mm/shmem.c:shmem_swapin_folio
 */
export function shmemSwapin(vm: Vm, mapping: AddressSpace, pgoff: number): Pfn {
  const { flags, refcount } = vm.frames;
  const swp = mapping.swaps.get(pgoff);
  let pfn = swapCacheFrame(vm, swp);
  if (pfn >= 0) {
    swapUpdateReadahead(vm, pfn, null, 0);
  } else {
    vm.pages.events[VM_EVENT.PGMAJFAULT]++;
    if (vm.memcgs?.current) vm.memcgs.current.memcg.vmEvents[VM_EVENT.PGMAJFAULT]++;
    vm.faultWaited = true;
    vm.faultMissed = true;
    pfn = swapinReadahead(vm, swp, null, 0);
    if (pfn < 0) return -Errno.ENOMEM;
  }
  if (!swapUptodate(vm, pfn)) return -Errno.EIO;
  refcount[pfn]++;
  if (addToPageCache(vm, mapping, pgoff, pfn) !== 0) {
    vm.pages.putPage(pfn);
    return -Errno.ENOMEM;
  }
  mapping.swaps.delete(pgoff);
  removeFromSwapCache(vm, pfn, 0);
  refcount[pfn]--;
  swapFree(vm, swp);
  flags[pfn] |= PG_DIRTY;
  return pfn;
}

/** Brings every page of an area back into the files it belongs to. @returns 0 or −errno @linux mm/shmem.c:shmem_unuse */
export function shmemUnuse(vm: Vm, type: number): number {
  let error = 0;
  vm.mappings.forEach((mapping) => {
    const { swaps } = mapping;
    for (let pgoff = swaps.nextIndex(0); pgoff >= 0 && error === 0; pgoff = swaps.nextIndex(pgoff + 1)) {
      if (swpType(swaps.get(pgoff)) !== type) continue;
      const pfn = shmemSwapin(vm, mapping, pgoff);
      if (pfn < 0) error = pfn;
      else vm.pages.freePage(pfn);
    }
  });
  return error;
}

/** Pages of shared memory that are swapped out. */
export function shmemSwappedPages(vm: Vm): number {
  let pages = 0;
  vm.mappings.forEach(({ swaps }) => {
    pages += swaps.size;
  });
  return pages;
}
