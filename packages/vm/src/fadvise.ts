/**
 * Advice about ranges of files.
 *
 * @linux mm/fadvise.c
 */
import { PAGE_SIZE } from '@pagelab/abi';
import { PG_DIRTY, PG_WRITEBACK } from '@pagelab/mm-core';
import type { VmFile } from './file.ts';
import { folioStart } from './folio.ts';
import { folioOrder, removeFromPageCache } from './page-cache.ts';
import type { Vm } from './vm.ts';

/** POSIX_FADV_WILLNEED: reads what is not cached of bytes [start, end). @linux mm/fadvise.c:generic_fadvise */
export function fadviseWillNeed({ inode }: VmFile, start: number, end: number): void {
  const { mapping } = inode;
  const last = Math.min(Math.ceil(inode.size / PAGE_SIZE), Math.ceil(end / PAGE_SIZE)) - 1;
  const first = Math.floor(start / PAGE_SIZE);
  if (last >= first) mapping.ops.willNeed(mapping, first, last);
}

/**
 * POSIX_FADV_DONTNEED: begins to write dirty pages of bytes [start, end), and drops those that lie in it whole and are used by
 * nobody; what is only now on its way stays. Shared memory has nowhere to be written to and keeps its pages.
 *
 * @linux mm/fadvise.c:generic_fadvise
 */
export function fadviseDontNeed(vm: Vm, { inode }: VmFile, start: number, end: number): void {
  const { mapping } = inode;
  if (mapping.ops.swapBacked) return;
  mapping.ops.writeBack(inode, Math.floor(start / PAGE_SIZE), Math.ceil(end / PAGE_SIZE) - 1, true);
  const behind = end >= inode.size ? Infinity : Math.floor(end / PAGE_SIZE);
  invalidateMappingPages(vm, inode, Math.ceil(start / PAGE_SIZE), behind);
}

/** Drops clean folios of pages [first, behind) that only the cache holds. @linux mm/truncate.c:invalidate_mapping_pages */
function invalidateMappingPages(vm: Vm, { mapping }: VmFile['inode'], first: number, behind: number): void {
  const { pages } = mapping;
  for (let pgoff = pages.nextIndex(first); pgoff >= 0 && pgoff < behind; ) {
    const order = folioOrder(vm, pages.get(pgoff));
    const head = folioStart(pgoff, order);
    const next = head + (1 << order);
    if (head >= first && next <= behind && isUnused(vm, mapping, head, next)) {
      for (let at = head; at < next; at++) removeFromPageCache(vm, mapping, at);
    }
    pgoff = pages.nextIndex(next);
  }
}

/** Whether nothing but the cache holds a folio, and it is clean. @linux mm/truncate.c:mapping_evict_folio */
function isUnused({ frames }: Vm, { pages }: VmFile['inode']['mapping'], head: number, next: number): boolean {
  for (let at = head; at < next; at++) {
    const pfn = pages.get(at);
    if (pfn < 0 || frames.mapcount[pfn] > 0 || frames.refcount[pfn] > 1) return false;
    if ((frames.flags[pfn] & (PG_DIRTY | PG_WRITEBACK)) !== 0) return false;
  }
  return true;
}
