/**
 * Reclaim met dirty pages of files only: they have to be written before they can go.
 */
import type { Pfn } from '@pagelab/hw';
import { PG_ACTIVE, PG_DIRTY, PG_LRU, PG_RECLAIM, PG_UNEVICTABLE, PG_WRITEBACK, VM_EVENT } from '@pagelab/mm-core';
import { endWritebacks, waitForSomeWriteback } from './folio-writeback.ts';
import { TAG_DIRTY } from './page-cache.ts';
import type { Vm } from './vm.ts';

/** As long as reclaim waits for the device, at most. @linux mm/vmscan.c:reclaim_throttle */
export const WRITEBACK_THROTTLE_NS = 1e8;

/**
 * Has files' dirty pages written. Those that reclaim met, and that are clean now, go next; time passes until they are, but not
 * long.
 *
 * @param met pages, back on their lists
 * @linux fs/fs-writeback.c:wakeup_flusher_threads, mm/filemap.c:folio_end_writeback
 */
export function wakeFlushers(vm: Vm, met: readonly Pfn[]): void {
  const { flags } = vm.frames;
  if (vm.reclaim.wakeFlushers !== null) {
    vm.reclaim.wakeFlushers();
  } else {
    vm.mappings.forEach(({ pages, ops, inode }) => {
      if (!ops.swapBacked && pages.isMarked(TAG_DIRTY)) ops.writeBack(inode, 0, Infinity, true);
    });
    endWritebacks(vm);
    const until = vm.clock.now + WRITEBACK_THROTTLE_NS;
    while (met.some((pfn) => (flags[pfn] & PG_WRITEBACK) !== 0)) {
      if (vm.clock.now >= until || !waitForSomeWriteback(vm, until - vm.clock.now)) break;
    }
  }
  for (const pfn of met) {
    if ((flags[pfn] & PG_WRITEBACK) !== 0) flags[pfn] |= PG_RECLAIM;
    if ((flags[pfn] & (PG_LRU | PG_DIRTY | PG_WRITEBACK | PG_UNEVICTABLE)) !== PG_LRU) continue;
    vm.pages.lru.del(pfn);
    flags[pfn] &= ~PG_ACTIVE;
    vm.pages.lru.addTail(pfn);
    vm.pages.events[VM_EVENT.PGROTATED]++;
  }
}
