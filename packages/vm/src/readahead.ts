/**
 * Reading files ahead of their use.
 *
 * A file that is read in sequence is read in growing *windows*. The window's last part is marked by one page with
 * PG_READAHEAD: whoever uses that page starts the reading of the next window. A page that a mapping faults on, and that is
 * not cached, is read with its surroundings.
 *
 * @linux mm/readahead.c, mm/filemap.c
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import type { AddressSpace, ReadAheadState, VmFile } from './file.ts';
import { alignedOrder, folioStart, maxFolioOrder } from './folio.ts';
import { PG_READAHEAD, folioOrder } from './page-cache.ts';
import type { Vm } from './vm.ts';
import { VM_EXEC, VM_RAND_READ, VM_SEQ_READ } from './vma.ts';
import type { VmArea } from './vma.ts';

/** What a file system does for its read-ahead. */
export interface ReadAheadHost {
  readonly vm: Vm;
  /** Pages of the largest window. @linux include/linux/backing-dev-defs.h:backing_dev_info.ra_pages */
  readonly raPages: number;
  /**
   * Makes a folio at `pgoff`, and reads it.
   *
   * @returns 0, also where the device failed: then it is not up to date; −EEXIST where one of its pages is cached; −ENOMEM
   */
  readFolio(mapping: AddressSpace, pgoff: number, order: number): number;
  /** A fault's page is not cached: what is read from here on is read for it. */
  beginFault(): void;
  /**
   * The fault's page is there. Where it needed nothing from the device, what was read around it is still on its way: not up to
   * date until somebody wants it or time has passed.
   */
  endFault(mapping: AddressSpace, pgoff: number): void;
  /** Reads a page that is cached and not up to date. @returns 0, then it is up to date; −EIO */
  fillPage(mapping: AddressSpace, pgoff: number, pfn: Pfn): number;
}

/** Faults on uncached pages beyond those on cached ones, after which a mapping's surroundings are left alone. @linux mm/filemap.c:MMAP_LOTSAMISS */
const MMAP_LOTSAMISS = 100;

/** The state of an open file's reading. @linux mm/readahead.c:file_ra_state_init */
export function readAheadOf(file: VmFile): ReadAheadState {
  file.readAhead ??= { start: 0, size: 0, asyncSize: 0, order: 0, mmapMiss: 0, prevPos: -1 };
  return file.readAhead;
}

/**
 * Reads what `read` is about to use, and more: `pgoff` is not cached.
 *
 * @param wanted pages that the call wants in all
 * @linux mm/readahead.c:page_cache_sync_ra
 */
export function pageCacheSyncRa(
  host: ReadAheadHost,
  mapping: AddressSpace,
  file: VmFile,
  pgoff: number,
  wanted: number,
): void {
  const ra = readAheadOf(file);
  const max = host.raPages;
  if (max === 0) {
    doPageCacheRa(host, mapping, pgoff, 1, 0);
    return;
  }
  const sincePrev = ra.prevPos < 0 ? Infinity : pgoff - Math.floor(ra.prevPos / PAGE_SIZE);
  if (pgoff === 0 || wanted > max || sincePrev === 0 || sincePrev === 1) {
    // The start of the file, more than a window, or where the last read ended.
    ra.start = pgoff;
    ra.size = initialSize(wanted, max);
    ra.asyncSize = ra.size > wanted ? ra.size - wanted : ra.size >> 1;
  } else {
    const missing = previousMissing(host, mapping, pgoff, max);
    const known = pgoff - missing - 1;
    if (known <= wanted) {
      // A small read somewhere: nothing tells that more will follow.
      doPageCacheRa(host, mapping, pgoff, wanted, 0);
      return;
    }
    ra.start = pgoff;
    ra.size = Math.min((missing < 0 ? known * 2 : known) + wanted, max);
    ra.asyncSize = 1;
  }
  ra.order = 0;
  pageCacheRaOrder(host, mapping, ra);
}

/**
 * Reads the next window: the page at `pgoff` carries PG_READAHEAD, and is used.
 *
 * @linux mm/readahead.c:page_cache_async_ra
 */
export function pageCacheAsyncRa(
  host: ReadAheadHost,
  mapping: AddressSpace,
  file: VmFile,
  pgoff: number,
  wanted: number,
): void {
  const ra = readAheadOf(file);
  const max = host.raPages;
  const order = folioOrder(host.vm, mapping.pages.get(pgoff));
  const first = folioStart(pgoff, order);
  for (let at = first; at < first + (1 << order); at++) host.vm.frames.flags[mapping.pages.get(at)] &= ~PG_READAHEAD;
  if (max === 0) return;
  if (first === folioStart(ra.start + ra.size - ra.asyncSize, order)) {
    ra.start += ra.size;
    ra.size = nextSize(ra.size, max);
  } else {
    // Marked by another reader: the window is what is cached from here on.
    const start = nextMissing(mapping, pgoff + 1, max);
    if (start - pgoff > max) return;
    ra.start = start;
    ra.size = nextSize(start - pgoff + wanted, max);
  }
  ra.order = Math.min(ra.order + 2, maxFolioOrder(host.vm), Math.floor(Math.log2(ra.size)));
  const end = ra.start + ra.size;
  const alignedEnd = end - (end % (1 << ra.order));
  if (alignedEnd > ra.start) ra.size -= end - alignedEnd;
  ra.asyncSize = ra.size;
  pageCacheRaOrder(host, mapping, ra);
}

/**
 * A fault in `vma` needs the page at `pgoff`, which is not cached: reads it and what lies around it.
 *
 * @linux mm/filemap.c:do_sync_mmap_readahead
 */
export function syncMmapReadahead(host: ReadAheadHost, mapping: AddressSpace, vma: VmArea, pgoff: number): void {
  const { flags } = vma;
  const file = vma.file!;
  const ra = readAheadOf(file);
  if ((flags & (VM_RAND_READ | VM_EXEC)) === VM_RAND_READ || host.raPages === 0) return;
  if ((flags & VM_SEQ_READ) !== 0) {
    pageCacheSyncRa(host, mapping, file, pgoff, host.raPages);
    return;
  }
  if (ra.mmapMiss < MMAP_LOTSAMISS * 10) ra.mmapMiss++;
  if (ra.mmapMiss > MMAP_LOTSAMISS) return;
  if ((flags & VM_EXEC) !== 0) {
    // Code is not used in sequence, and what lies beside the mapping is no code.
    const end = vma.pgoff + (vma.end - vma.start) / PAGE_SIZE;
    ra.start = Math.max(pgoff, vma.pgoff);
    ra.size = Math.min(ra.start + host.raPages, end) - ra.start;
    ra.asyncSize = 0;
  } else {
    ra.start = Math.max(0, pgoff - host.raPages / 2);
    ra.size = host.raPages;
    ra.asyncSize = host.raPages / 4;
  }
  ra.order = 0;
  pageCacheRaOrder(host, mapping, ra);
}

/** A fault in `vma` found its page cached. @linux mm/filemap.c:do_async_mmap_readahead */
export function asyncMmapReadahead(host: ReadAheadHost, mapping: AddressSpace, vma: VmArea, pgoff: number): void {
  if ((vma.flags & VM_RAND_READ) !== 0 || host.raPages === 0) return;
  const ra = readAheadOf(vma.file!);
  if (ra.mmapMiss > 0) ra.mmapMiss--;
  if ((host.vm.frames.flags[mapping.pages.get(pgoff)] & PG_READAHEAD) === 0) return;
  pageCacheAsyncRa(host, mapping, vma.file!, pgoff, host.raPages);
}

/** Reads what is not cached of `count` pages from `pgoff` on, whatever the history. @linux mm/readahead.c:force_page_cache_ra */
export function forcePageCacheRa(host: ReadAheadHost, mapping: AddressSpace, pgoff: number, count: number): void {
  doPageCacheRa(host, mapping, pgoff, Math.min(count, host.raPages), 0);
}

/** Reads a window. @linux mm/readahead.c:page_cache_ra_order */
function pageCacheRaOrder(host: ReadAheadHost, mapping: AddressSpace, ra: ReadAheadState): void {
  const lastPgoff = Math.min(lastPage(mapping), ra.start + ra.size - 1);
  const mark = ra.start + ra.size - ra.asyncSize;
  ra.order = Math.min(ra.order, maxFolioOrder(host.vm), Math.floor(Math.log2(ra.size)));
  let pgoff = ra.start;
  while (pgoff <= lastPgoff) {
    let order = alignedOrder(pgoff, ra.order);
    while (order > 0 && pgoff + (1 << order) - 1 > lastPgoff) order--;
    if (host.readFolio(mapping, pgoff, order) !== 0) break;
    if (pgoff === mark - (mark % (1 << order))) markReadahead(host, mapping, pgoff, order);
    pgoff += 1 << order;
  }
  // Where pages are cached there are gaps between them.
  if (pgoff <= lastPgoff) doPageCacheRa(host, mapping, pgoff, ra.size - (pgoff - ra.start), ra.asyncSize);
}

/** Reads single pages, those that are not cached. @linux mm/readahead.c:do_page_cache_ra, page_cache_ra_unbounded */
function doPageCacheRa(
  host: ReadAheadHost,
  mapping: AddressSpace,
  first: number,
  count: number,
  lookahead: number,
): void {
  const lastPgoff = Math.min(first + count - 1, lastPage(mapping));
  const mark = lastPgoff + 1 - lookahead;
  for (let pgoff = first; pgoff <= lastPgoff; pgoff++) {
    if (mapping.pages.has(pgoff)) continue;
    if (host.readFolio(mapping, pgoff, 0) !== 0) return;
    if (lookahead > 0 && pgoff === mark) markReadahead(host, mapping, pgoff, 0);
  }
}

function markReadahead({ vm }: ReadAheadHost, mapping: AddressSpace, first: number, order: number): void {
  for (let pgoff = first; pgoff < first + (1 << order); pgoff++) {
    vm.frames.flags[mapping.pages.get(pgoff)] |= PG_READAHEAD;
  }
}

/** The page with the last byte of the file; −1 for an empty file. */
function lastPage(mapping: AddressSpace): number {
  return Math.ceil(mapping.inode.size / PAGE_SIZE) - 1;
}

/** The first window, for a read of `wanted` pages. @linux mm/readahead.c:get_init_ra_size */
function initialSize(wanted: number, max: number): number {
  const size = 2 ** Math.ceil(Math.log2(wanted));
  if (size <= max / 32) return size * 4;
  return size <= max / 4 ? size * 2 : max;
}

/** The window after one of `size` pages. @linux mm/readahead.c:get_next_ra_size */
function nextSize(size: number, max: number): number {
  if (size < max / 16) return size * 4;
  return size <= max / 2 ? size * 2 : max;
}

/**
 * The last page before `pgoff` that is not cached, at most `max` before it; −1 where all are. Linux goes back by index and
 * by tree slot at once: behind a folio of several pages it finds the folio's first slot, and takes pages that lie as far
 * before that one as the index got for missing.
 *
 * @linux mm/filemap.c:page_cache_prev_miss, lib/xarray.c:__xas_prev
 */
function previousMissing(host: ReadAheadHost, mapping: AddressSpace, pgoff: number, max: number): number {
  const { pages } = mapping;
  let index = pgoff - 1;
  if (!pages.has(index)) return index;
  let slot = folioStart(index, folioOrder(host.vm, pages.get(index)));
  for (let scanned = 1; scanned < max; scanned++) {
    index--;
    if (slot > 0) slot--;
    else if (index !== 0) return index;
    if (!pages.has(slot)) return index;
  }
  return index;
}

/** The first page from `pgoff` on that is not cached, at most `max` behind. @linux mm/filemap.c:page_cache_next_miss */
function nextMissing(mapping: AddressSpace, pgoff: number, max: number): number {
  let at = pgoff;
  while (at < pgoff + max && mapping.pages.has(at)) at++;
  return at;
}
