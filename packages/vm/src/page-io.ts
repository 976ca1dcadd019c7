/**
 * Pages to and from their slots.
 *
 * A page of zeros is not written: its slot remembers that it is one. Others may stay in memory, compressed: see `zswap.ts`.
 *
 * @linux mm/page_io.c
 */
import { Errno } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { NODE_STAT, PG_DIRTY, PG_MEMCG, PG_RECLAIM, PG_UPTODATE, PG_WRITEBACK, VM_EVENT, folioNrPages } from '@pagelab/mm-core';
import { isZeroPage } from './deferred-split.ts';
import { countFolioEvents } from './memcg-events.ts';
import { folioSwapEntry } from './swap-state.ts';
import { folioRotateReclaimable } from './swap.ts';
import { folioFreeSwap } from './swapfile.ts';
import { swpOffset } from './swapops.ts';
import type { Vm } from './vm.ts';

/** Writes of this round of reclaim whose pages are still under writeback. */
export type PendingWrites = Pfn[];

/**
 * Begins to write a page of the swap cache to its slot: it is clean, and under writeback until {@link endSwapWrites}.
 *
 * @returns `none` where no write was needed, since nobody names the slot any more, which is given back; `activate` where the
 *   page's memory cgroup lets it leave memory compressed or not at all, and it is not compressed: it is dirty still
 * @linux mm/page_io.c:swap_writeout
 */
export function swapWriteout(vm: Vm, pfn: Pfn, pending: PendingWrites): 'begun' | 'none' | 'activate' {
  const { flags } = vm.frames;
  if (folioFreeSwap(vm, pfn)) return 'none';
  const entry = folioSwapEntry(vm, pfn);
  const nrPages = folioNrPages(vm.frames, pfn);
  const area = vm.swap.area(entry);
  flags[pfn] &= ~PG_DIRTY;
  const isZero = vm.swap.skipsZeros && isZeroFolio(vm, pfn, nrPages);
  for (let i = 0; i < nrPages; i++) area.setZero(swpOffset(entry) + i, isZero);
  if (isZero) {
    countFolioEvents(vm, pfn, VM_EVENT.SWPOUT_ZERO, nrPages);
    return 'begun';
  }
  if (vm.zswap.state === 'ready') {
    if (vm.zswap.storeFolio(pfn, entry, nrPages)) return 'begun';
    const memcg = vm.memcgs === null || (flags[pfn] & PG_MEMCG) === 0 ? null : vm.memcgs.groupOf(pfn);
    if (!vm.zswap.writesBack(memcg)) {
      flags[pfn] = (flags[pfn] | PG_DIRTY) & ~PG_RECLAIM;
      return 'activate';
    }
  }
  writeToSlot(vm, pfn, pending);
  return 'begun';
}

/** @linux mm/page_io.c:is_folio_zero_filled */
function isZeroFolio(vm: Vm, pfn: Pfn, nrPages: number): boolean {
  for (let i = 0; i < nrPages; i++) if (!isZeroPage(vm, pfn + i)) return false;
  return true;
}

/**
 * Begins to write a page of the swap cache to its slot, past the pool of compressed pages.
 *
 * @linux mm/page_io.c:__swap_writepage
 */
export function writeToSlot(vm: Vm, pfn: Pfn, pending: PendingWrites): void {
  const entry = folioSwapEntry(vm, pfn);
  const nrPages = folioNrPages(vm.frames, pfn);
  if (nrPages > 1) countFolioEvents(vm, pfn, VM_EVENT.THP_SWPOUT, 1);
  countFolioEvents(vm, pfn, VM_EVENT.PSWPOUT, nrPages);
  vm.pages.events[VM_EVENT.PGPGOUT] += 4 * nrPages;
  vm.frames.flags[pfn] |= PG_WRITEBACK;
  vm.pages.modNodeState(pfn, NODE_STAT.NR_WRITEBACK, nrPages);
  vm.frames.refcount[pfn]++;
  const { device } = vm.swap.area(entry);
  for (let i = 0; i < nrPages; i++) if (device.write(swpOffset(entry) + i, pfn + i) !== 0) writeFailed(vm, pfn);
  pending.push(pfn);
}

/** The page stays in memory, and dirty. @linux mm/page_io.c:__end_swap_bio_write */
function writeFailed(vm: Vm, pfn: Pfn): void {
  vm.frames.flags[pfn] = (vm.frames.flags[pfn] | PG_DIRTY) & ~PG_RECLAIM;
  vm.swapErrors.writes++;
}

/** The writes are over: pages that were to go then move to the end of their list. @linux mm/filemap.c:folio_end_writeback */
export function endSwapWrites(vm: Vm, pending: PendingWrites): void {
  const { flags } = vm.frames;
  for (const pfn of pending) {
    flags[pfn] &= ~PG_WRITEBACK;
    vm.pages.modNodeState(pfn, NODE_STAT.NR_WRITEBACK, -folioNrPages(vm.frames, pfn));
    if ((flags[pfn] & PG_RECLAIM) !== 0) {
      flags[pfn] &= ~PG_RECLAIM;
      folioRotateReclaimable(vm, pfn);
    }
    vm.pages.putPage(pfn);
  }
  pending.length = 0;
}

/** Reads a page of the swap cache from its slot. Where that fails it stays not up to date. @linux mm/page_io.c:swap_read_folio */
export function swapReadFolio(vm: Vm, pfn: Pfn): void {
  const { flags, private: priv } = vm.frames;
  const area = vm.swap.area(priv[pfn]);
  const slot = swpOffset(priv[pfn]);
  if (area.isZero(slot)) {
    vm.ram.zeroFrame(pfn);
    countFolioEvents(vm, pfn, VM_EVENT.SWPIN_ZERO, 1);
  } else {
    if (vm.zswap.state === 'ready') {
      const loaded = vm.zswap.load(pfn, priv[pfn]);
      if (loaded === 0) return;
      if (loaded !== -Errno.ENOENT) {
        vm.swapErrors.reads++;
        return;
      }
      vm.zswap.noteDiskSwapin(pfn);
    }
    countFolioEvents(vm, pfn, VM_EVENT.PSWPIN, 1);
    vm.pages.events[VM_EVENT.PGPGIN] += 4;
    if (area.device.read(slot, pfn) !== 0) {
      vm.swapErrors.reads++;
      return;
    }
  }
  flags[pfn] |= PG_UPTODATE;
}
