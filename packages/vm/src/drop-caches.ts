/**
 * Dropping what can be read again, on request.
 *
 * @linux fs/drop_caches.c
 */
import type { Pfn } from '@pagelab/hw';
import { GFP_KERNEL, PG_DIRTY, PG_MLOCKED, PG_WRITEBACK, VM_EVENT } from '@pagelab/mm-core';
import type { AddressSpace } from './file.ts';
import { dissolveFolio, folioStart } from './folio.ts';
import { folioOrder, removeFromPageCache } from './page-cache.ts';
import { deactivateFileFolio, lruAddDrainAll } from './swap.ts';
import { descendants } from './memcg.ts';
import type { Vm } from './vm.ts';

/** Drops pages of files that are clean and that nobody maps. @linux fs/drop_caches.c:drop_pagecache_sb */
export function dropPagecache(vm: Vm): void {
  lruAddDrainAll(vm);
  vm.mappings.forEach((mapping) => {
    if (mapping.ops.swapBacked) return;
    const { pages } = mapping;
    for (let pgoff = pages.nextIndex(0); pgoff >= 0; pgoff = pages.nextIndex(pgoff + 1)) invalidate(vm, mapping, pgoff, pages.get(pgoff));
  });
  vm.pages.countEvent(VM_EVENT.DROP_PAGECACHE);
}

/** @linux mm/truncate.c:mapping_evict_folio */
function invalidate(vm: Vm, mapping: AddressSpace, pgoff: number, pfn: Pfn): void {
  const { flags, mapcount, refcount } = vm.frames;
  if ((flags[pfn] & (PG_DIRTY | PG_WRITEBACK | PG_MLOCKED)) !== 0 || mapcount[pfn] > 0 || refcount[pfn] !== 1) {
    deactivateFileFolio(vm, pfn);
    return;
  }
  const order = folioOrder(vm, pfn);
  if (order > 0) dissolveFolio(vm, mapping, folioStart(pgoff, order), order);
  removeFromPageCache(vm, mapping, pgoff);
}

/** Asks every cache for all it can do without, until that is next to nothing. @linux mm/shrinker.c:drop_slab */
export function dropSlab(vm: Vm): void {
  for (let shift = 0; ; shift++) {
    let freed = 0;
    for (const { nid } of vm.pages.nodes) {
      freed += vm.slab.shrinkers.shrinkSlab(GFP_KERNEL, nid, 0);
      for (const memcg of vm.memcgs === null ? [] : descendants(vm.memcgs.root)) {
        if (memcg.parent !== null) freed += vm.slab.shrinkers.shrinkSlab(GFP_KERNEL, nid, 0, memcg);
      }
    }
    if (freed >> shift <= 1) break;
  }
  vm.pages.countEvent(VM_EVENT.DROP_SLAB);
}
