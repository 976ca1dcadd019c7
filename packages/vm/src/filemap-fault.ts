/**
 * Pages of files on a device, for a fault and for `read`: from the page cache or, with what lies around them, read in.
 *
 * @linux mm/filemap.c
 */
import { Errno } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { PG_UPTODATE, VM_EVENT } from '@pagelab/mm-core';
import type { AddressSpace, VmFile } from './file.ts';
import { PG_READAHEAD } from './page-cache.ts';
import { asyncMmapReadahead, pageCacheAsyncRa, pageCacheSyncRa, syncMmapReadahead } from './readahead.ts';
import type { ReadAheadHost } from './readahead.ts';
import type { VmArea } from './vma.ts';

/**
 * The page at `pgoff` for a fault in `vma`, which is a major one where the page was not cached.
 *
 * @returns its frame with a reference for the caller; −EFAULT beyond the end of the file, −EIO, −ENOMEM
 * @linux mm/filemap.c:filemap_fault
 */
export function filemapFault(host: ReadAheadHost, mapping: AddressSpace, pgoff: number, vma?: VmArea): number {
  const { vm } = host;
  const { frames } = vm;
  if (pgoff * PAGE_SIZE >= mapping.inode.size) return -Errno.EFAULT;
  let pfn = mapping.pages.get(pgoff);
  if (pfn >= 0) {
    // Held from here on: reading ahead may have to take pages back.
    frames.refcount[pfn]++;
    if (vma !== undefined) asyncMmapReadahead(host, mapping, vma, pgoff);
  } else {
    vm.pages.events[VM_EVENT.PGMAJFAULT]++;
    if (vm.memcgs?.current) vm.memcgs.current.memcg.vmEvents[VM_EVENT.PGMAJFAULT]++;
    vm.faultWaited = true;
    vm.faultMissed = true;
    host.beginFault();
    if (vma !== undefined) syncMmapReadahead(host, mapping, vma, pgoff);
    if (!mapping.pages.has(pgoff) && host.readFolio(mapping, pgoff, 0) !== 0) return -Errno.ENOMEM;
    host.endFault(mapping, pgoff);
    pfn = mapping.pages.get(pgoff);
    frames.refcount[pfn]++;
  }
  if ((frames.flags[pfn] & PG_UPTODATE) !== 0) return pfn;
  vm.faultWaited = true;
  return fillHeld(host, mapping, pgoff, pfn);
}

/**
 * The page at `pgoff` for a `read` that wants `nrPages` in a row.
 *
 * @param file whose reading in sequence counts; `null` for nobody's
 * @returns its frame with a reference for the caller; −EIO, −ENOMEM
 * @linux mm/filemap.c:filemap_get_pages
 */
export function filemapGetPage(
  host: ReadAheadHost,
  mapping: AddressSpace,
  pgoff: number,
  nrPages: number,
  file: VmFile | null,
): number {
  const { frames } = host.vm;
  if (!mapping.pages.has(pgoff)) {
    if (file !== null) pageCacheSyncRa(host, mapping, file, pgoff, nrPages);
    if (!mapping.pages.has(pgoff) && host.readFolio(mapping, pgoff, 0) !== 0) return -Errno.ENOMEM;
  }
  const pfn = mapping.pages.get(pgoff);
  frames.refcount[pfn]++;
  if (file !== null && (frames.flags[pfn] & PG_READAHEAD) !== 0) pageCacheAsyncRa(host, mapping, file, pgoff, nrPages);
  return (frames.flags[pfn] & PG_UPTODATE) !== 0 ? pfn : fillHeld(host, mapping, pgoff, pfn);
}

/** Reads a page that the caller has a reference to, which goes where that fails. @returns its frame, or −EIO */
function fillHeld(host: ReadAheadHost, mapping: AddressSpace, pgoff: number, pfn: Pfn): number {
  const error = host.fillPage(mapping, pgoff, pfn);
  if (error === 0) return pfn;
  host.vm.pages.freePage(pfn);
  return error;
}
