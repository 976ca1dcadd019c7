/**
 * Folios of files on a device: runs of pages that are made, dirty and written back together.
 */
import { Errno } from '@pagelab/abi';
import { GFP_HIGHUSER_MOVABLE, __GFP_NORETRY, __GFP_NOWARN } from '@pagelab/mm-core';
import type { AddressSpace } from './file.ts';
import { addToPageCache, removeFromPageCache, setFolioOrder } from './page-cache.ts';
import type { Vm } from './vm.ts';
import { unmapMappingPages } from './zap.ts';

/** Order of the largest folio: that of a huge page; 0 where files have single pages. @linux include/linux/pagemap.h:MAX_PAGECACHE_ORDER */
export function maxFolioOrder(vm: Vm): number {
  return vm.largeFolios ? vm.tables.hugeOrder : 0;
}

/** The first page offset of a folio of this order that holds `pgoff`. */
export function folioStart(pgoff: number, order: number): number {
  return pgoff - (pgoff % (1 << order));
}

/** The highest order up to `order` that a folio beginning at `pgoff` can have. */
export function alignedOrder(pgoff: number, order: number): number {
  let fits = order;
  while (pgoff % (1 << fits) !== 0) fits--;
  return fits;
}

/**
 * Puts a new folio into a file's cache, its contents undefined and not up to date.
 *
 * @param pgoff its first page, a multiple of its size
 * @returns 0; −EEXIST where one of the pages is cached; −ENOMEM
 * @linux mm/filemap.c:filemap_alloc_folio, filemap_add_folio
 */
export function addFolio(vm: Vm, mapping: AddressSpace, pgoff: number, order: number): number {
  const size = 1 << order;
  const taken = mapping.pages.nextIndex(pgoff);
  if (taken >= 0 && taken < pgoff + size) return -Errno.EEXIST;
  const gfp = order === 0 ? GFP_HIGHUSER_MOVABLE : GFP_HIGHUSER_MOVABLE | __GFP_NORETRY | __GFP_NOWARN;
  const pfn = vm.pages.allocPages(gfp, order);
  if (pfn < 0) return pfn;
  if (order > 0) vm.pages.splitPage(pfn, order);
  for (let i = 0; i < size; i++) {
    if (addToPageCache(vm, mapping, pgoff + i, pfn + i) !== 0) {
      for (let j = 0; j < i; j++) removeFromPageCache(vm, mapping, pgoff + j);
      for (let j = i; j < size; j++) vm.pages.freePage(pfn + j);
      return -Errno.ENOMEM;
    }
    if (order > 0) setFolioOrder(vm, pfn + i, order);
  }
  // The cache holds the one reference there is.
  for (let i = 0; i < size; i++) vm.pages.freePage(pfn + i);
  return 0;
}

/**
 * Makes a folio of the largest order up to `order` that fits at `pgoff`, in size, alignment and memory.
 *
 * @returns 0; −EEXIST where the page is cached; −ENOMEM
 * @linux mm/filemap.c:__filemap_get_folio
 */
export function addFolioUpTo(vm: Vm, mapping: AddressSpace, pgoff: number, order: number): number {
  for (let tried = alignedOrder(pgoff, order); ; tried--) {
    const error = addFolio(vm, mapping, pgoff, tried);
    if (error === 0 || tried === 0) return error;
  }
}

/** Makes every page of a folio one of its own. Nobody sees the difference but by what is done to folios as a whole. */
export function dissolveFolio(vm: Vm, mapping: AddressSpace, first: number, order: number): void {
  for (let pgoff = first; pgoff < first + (1 << order); pgoff++) {
    const pfn = mapping.pages.get(pgoff);
    if (pfn >= 0) setFolioOrder(vm, pfn, 0);
  }
}

/**
 * Splits a folio so that the page `at` is one of its own, and halves, quarters, … of the old folio are what is left. The
 * file's pages are unmapped everywhere by that; private copies are not.
 *
 * @linux mm/huge_memory.c:folio_split
 */
export function splitFolio(vm: Vm, mapping: AddressSpace, first: number, order: number, at: number): void {
  unmapMappingPages(vm, mapping, first, first + (1 << order) - 1, 'file');
  let start = first;
  for (let left = order; left > 0; ) {
    left--;
    const half = 1 << left;
    const lower = at < start + half;
    const away = lower ? start + half : start;
    for (let i = 0; i < half; i++) setOrderAt(vm, mapping, away + i, left);
    if (!lower) start += half;
  }
  setOrderAt(vm, mapping, start, 0);
}

function setOrderAt(vm: Vm, { pages }: AddressSpace, pgoff: number, order: number): void {
  const pfn = pages.get(pgoff);
  if (pfn >= 0) setFolioOrder(vm, pfn, order);
}
