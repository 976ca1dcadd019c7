/**
 * Reclaim met dirty pages of files only: they have to be written before they can go.
 */
import type { Pfn } from '@pagelab/hw';
import { PG_ACTIVE, PG_DIRTY, PG_LRU, PG_UNEVICTABLE, VM_EVENT } from '@pagelab/mm-core';
import { TAG_DIRTY } from './page-cache.ts';
import type { Vm } from './vm.ts';

/**
 * Has files' dirty pages written. Those that reclaim met, and that are clean now, go next.
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
      if (!ops.swapBacked && pages.isMarked(TAG_DIRTY)) ops.sync(inode, 0, Infinity);
    });
  }
  for (const pfn of met) {
    if ((flags[pfn] & (PG_LRU | PG_DIRTY | PG_UNEVICTABLE)) !== PG_LRU) continue;
    vm.pages.lru.del(pfn);
    flags[pfn] &= ~PG_ACTIVE;
    vm.pages.lru.addTail(pfn);
    vm.pages.events[VM_EVENT.PGROTATED]++;
  }
}
