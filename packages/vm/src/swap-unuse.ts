/**
 * Emptying a swap area: every page that is in it comes back.
 *
 * @linux mm/swapfile.c:try_to_unuse
 */
import { Errno } from '@pagelab/abi';
import { ksmNeedsCopy } from './ksm.ts';
import type { MmStruct } from './mm-struct.ts';
import { vmEnoughMemory, vmUnacctMemory } from './overcommit.ts';
import { entryHi } from './pgtable-shape.ts';
import { PteTableWalk } from './pgtable.ts';
import { shmemUnuse } from './shmem-swap.ts';
import { copySwapped, mapCopiedPage, mapSwappedPage } from './swap-fault.ts';
import { swapCacheFrame, swapUptodate, swapinReadahead } from './swap-state.ts';
import { folioFreeSwap, forgetSwapArea, restartSwapArea, stopSwapArea } from './swapfile.ts';
import type { SwapArea } from './swapfile.ts';
import { pteToSwp, swpType } from './swapops.ts';
import type { Vm } from './vm.ts';
import { PAGE_SIZE } from '@pagelab/hw';

/**
 * Stops using an area: its pages are brought back into memory, or to other areas.
 *
 * @param mm who asks, for the commit limit
 * @returns 0; −ENOMEM where its pages would not find room, −EIO where one cannot be read: the area stays in use, and
 *   nothing is lost
 * @linux mm/swapfile.c:swapoff
 */
export function swapoffArea(vm: Vm, area: SwapArea, mm: MmStruct | null): number {
  if (vmEnoughMemory(vm, mm, area.pages) !== 0) return -Errno.ENOMEM;
  vmUnacctMemory(vm, area.pages);
  stopSwapArea(vm, area);
  const error = tryToUnuse(vm, area);
  if (error !== 0) {
    restartSwapArea(vm, area);
    return error;
  }
  forgetSwapArea(vm, area);
  return 0;
}

function tryToUnuse(vm: Vm, area: SwapArea): number {
  let error = shmemUnuse(vm, area.type);
  vm.mms.forEach((mm) => {
    if (error === 0) error = unuseMm(mm, area);
  });
  if (error !== 0) return error;
  // What is left is in the cache alone.
  for (let slot = 1; slot < area.max; slot++) if (area.cache[slot] > 0) folioFreeSwap(vm, area.cache[slot] - 1);
  return area.inusePages === 0 ? 0 : -Errno.ENOMEM;
}

/** @linux mm/swapfile.c:unuse_mm */
function unuseMm(mm: MmStruct, area: SwapArea): number {
  const { vm } = mm;
  const { i32 } = vm.ram;
  for (const vma of [...mm.vmas]) {
    if (vma.anonVma === null) continue;
    const walk = new PteTableWalk(mm, vma.start, vma.end);
    while (walk.next()) {
      if (walk.huge) continue;
      for (let i = 0, entry = walk.entry; i < walk.count; i++, entry += walk.step) {
        const lo = i32[entry];
        const hi = entryHi(i32, entry, walk.step);
        const swp = pteToSwp(walk.step, lo, hi);
        if (swp < 0 || swpType(swp) !== area.type) continue;
        const address = walk.addr + i * PAGE_SIZE;
        let pfn = swapCacheFrame(vm, swp);
        if (pfn < 0) pfn = swapinReadahead(vm, swp, vma, address);
        if (i32[entry] !== lo || entryHi(i32, entry, walk.step) !== hi) continue;
        if (pfn < 0) return -Errno.ENOMEM;
        if (!swapUptodate(vm, pfn)) return -Errno.EIO;
        if (ksmNeedsCopy(vm, pfn, vma, address)) {
          const copy = copySwapped(vma, address, pfn);
          if (copy < 0) return -Errno.ENOMEM;
          mapCopiedPage(vma, address, entry, lo, copy, swp, false);
          continue;
        }
        mapSwappedPage(vma, address, entry, lo, pfn, swp, false);
        folioFreeSwap(vm, pfn);
      }
    }
  }
  return 0;
}
