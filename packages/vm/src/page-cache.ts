/**
 * The pages of a file, by page offset. The cache holds a reference to each of its pages; `PageFrames.mapping` and
 * `index` lead back from the page.
 *
 * A *folio* is a run of 2^order pages that were made together and are dirty, clean, read and written back together; the
 * order is in `PageFrames.private` of each of them. It begins at a multiple of its size. Linux counts references to a folio;
 * here each page keeps its own count. One as large as a huge page may be mapped as one: see `file-pmd.ts`.
 *
 *     NR_SHMEM_THPS, NR_FILE_THPS              === cached pages of folios as large as a huge page
 *     PG_DIRTY of a page of a file on a device === its entry in `pages` carries TAG_DIRTY
 *     NR_FILE_DIRTY                            === pages for which that is so
 *     TAG_BUFFER_DIRTY                         → TAG_DIRTY: this page is why its folio is dirty
 *
 * @linux mm/filemap.c
 */
import { Errno, F_SEAL_SEAL } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { IntervalTree, XA_MARK_0, XA_MARK_1, XArrayInt } from '@pagelab/lib';
import {
  GFP_KERNEL,
  NODE_STAT,
  PG_ANON,
  PG_DIRTY,
  PG_LRU,
  PG_LRU_WAITS,
  PG_RECLAIM,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
} from '@pagelab/mm-core';
import type { AddressSpace, AddressSpaceOps, Inode } from './file.ts';
import { CPUPID_UNSET } from './numa-balancing.ts';
import { chargeForCurrent } from './memcg-charge.ts';
import { deleteShadow, growNodes, shrinkNodes, updateShadowNode } from './page-cache-nodes.ts';
import { accountDirtied } from './page-writeback.ts';
import { folioAddLru, folioMarkAccessed } from './swap.ts';
import type { Vm } from './vm.ts';
import type { VmArea } from './vma.ts';


/** The mark of dirty pages in `AddressSpace.pages`. @linux include/linux/fs.h:PAGECACHE_TAG_DIRTY */
export const TAG_DIRTY = XA_MARK_0;
/** The mark of those among them that were stored to themselves. @linux include/linux/buffer_head.h:BH_Dirty */
export const TAG_BUFFER_DIRTY = XA_MARK_1;
/** Another name for the bit: a page with it was read ahead, and using it starts reading the next window. */
export const PG_READAHEAD = PG_RECLAIM;

/** What a file system says of a new inode. */
export interface InodeInit {
  readonly ops: AddressSpaceOps;
  readonly size: number;
  readonly nlink: number;
  /** Type and permissions. */
  readonly mode: number;
  readonly accounted: boolean;
  /** Its object in the file system's inode cache. */
  readonly object: number;
}

/** Makes an inode with an empty page cache and one user. @linux fs/inode.c:new_inode */
export function makeInode(vm: Vm, init: InodeInit): Inode {
  const inode = {
    ino: vm.nextIno++,
    refcount: 1,
    size: init.size,
    nlink: init.nlink,
    mapping: null as unknown as AddressSpace,
    seals: init.ops.swapBacked ? F_SEAL_SEAL : 0,
    mode: init.mode,
    uid: 0,
    gid: 0,
    atime: vm.clock.now,
    mtime: vm.clock.now,
    ctime: vm.clock.now,
    blockMap: null,
    writeErrors: 0,
    isSwapfile: false,
    accounted: init.accounted,
    superBlock: null,
    policies: null,
    fallocEnd: 0,
    hugeReserved: null,
    object: init.object,
  };
  const mapping = {
    id: 0,
    inode: inode as Inode,
    pages: new XArrayInt(),
    swaps: new XArrayInt(),
    shadows: new XArrayInt(),
    mmap: new IntervalTree<VmArea>(),
    mmapWritable: 0,
    ops: init.ops,
    nodes: [],
    nodeLevels: 0,
  };
  mapping.id = vm.mappings.alloc(mapping);
  inode.mapping = mapping;
  return inode;
}

/**
 * Puts a page into a file's cache, which takes a reference.
 *
 * @returns 0, or −ENOMEM with nothing changed
 * @linux mm/filemap.c:filemap_add_folio
 */
export function addToPageCache(vm: Vm, mapping: AddressSpace, pgoff: number, pfn: Pfn): number {
  if (vm.memcgs !== null && !chargeForCurrent(vm.memcgs, pfn, GFP_KERNEL)) return -Errno.ENOMEM;
  return insertIntoPageCache(vm, mapping, pgoff, pfn);
}

/** As {@link addToPageCache}, of a page that is charged to whoever pays for it. */
export function insertIntoPageCache(vm: Vm, mapping: AddressSpace, pgoff: number, pfn: Pfn): number {
  const { frames } = vm;
  if (!growNodes(vm, mapping, pgoff)) return -Errno.ENOMEM;
  mapping.pages.set(pgoff, pfn);
  frames.refcount[pfn]++;
  frames.mapping[pfn] = mapping.id;
  frames.index[pfn] = pgoff;
  if (vm.numa.lastCpupid !== null) vm.numa.lastCpupid[pfn] = CPUPID_UNSET;
  vm.pages.modNodeState(pfn, NODE_STAT.NR_FILE_PAGES, 1);
  if ((frames.flags[pfn] & PG_SWAPBACKED) !== 0) vm.pages.modNodeState(pfn, NODE_STAT.NR_SHMEM, 1);
  if (mapping.shadows.size > 0) takeShadow(vm, mapping, pgoff, pfn);
  if ((frames.flags[pfn] & (PG_LRU | PG_LRU_WAITS)) === 0) folioAddLru(vm, pfn);
  return 0;
}

/** A page comes that may have been reclaimed before: its shadow goes. */
function takeShadow(vm: Vm, mapping: AddressSpace, pgoff: number, pfn: Pfn): void {
  const shadow = mapping.shadows.get(pgoff);
  if (shadow < 0) {
    updateShadowNode(vm, mapping, pgoff);
    return;
  }
  deleteShadow(vm, mapping, pgoff);
  vm.reclaim.policy.refault(pfn, shadow);
}

/** Takes a page, which must be mapped nowhere, out of its file's cache and drops the cache's reference. @linux mm/filemap.c:filemap_remove_folio */
export function removeFromPageCache(vm: Vm, mapping: AddressSpace, pgoff: number): void {
  const pfn = mapping.pages.get(pgoff);
  if (mapping.pages.getMark(pgoff, TAG_DIRTY)) vm.pages.modNodeState(pfn, NODE_STAT.NR_FILE_DIRTY, -1);
  vm.frames.flags[pfn] &= ~(PG_DIRTY | PG_READAHEAD);
  forgetCachedPage(vm, mapping, pgoff);
  vm.pages.freePage(pfn);
}

/** A page is no longer its file's: its flags, and the reference that the cache had, are the caller's. @linux mm/filemap.c:__filemap_remove_folio */
export function forgetCachedPage(vm: Vm, mapping: AddressSpace, pgoff: number): void {
  const { frames } = vm;
  const pfn = mapping.pages.get(pgoff);
  mapping.pages.delete(pgoff);
  shrinkNodes(vm, mapping, pgoff);
  if (mapping.shadows.size > 0) updateShadowNode(vm, mapping, pgoff);
  frames.mapping[pfn] = 0;
  if (folioOrder(vm, pfn) !== 0) setFolioOrder(vm, pfn, 0);
  else frames.private[pfn] = 0;
  vm.pages.modNodeState(pfn, NODE_STAT.NR_FILE_PAGES, -1);
  if ((frames.flags[pfn] & PG_SWAPBACKED) !== 0) vm.pages.modNodeState(pfn, NODE_STAT.NR_SHMEM, -1);
}

/**
 * Puts another page in the place of a cached one that nobody else refers to, which goes. The new one is charged, and its
 * flags and contents are set; the cache takes its reference over.
 */
export function replaceCachedPage(vm: Vm, mapping: AddressSpace, pgoff: number, pfn: Pfn): void {
  const { flags, index, mapping: mappingOf } = vm.frames;
  const old = mapping.pages.get(pgoff);
  if (folioOrder(vm, old) !== 0) setFolioOrder(vm, old, 0);
  mapping.pages.set(pgoff, pfn);
  mappingOf[old] = 0;
  mappingOf[pfn] = mapping.id;
  index[pfn] = pgoff;
  for (const item of (flags[pfn] & PG_SWAPBACKED) !== 0 ? [NODE_STAT.NR_FILE_PAGES, NODE_STAT.NR_SHMEM] : [NODE_STAT.NR_FILE_PAGES]) {
    vm.pages.modNodeState(old, item, -1);
    vm.pages.modNodeState(pfn, item, 1);
  }
  flags[old] &= ~PG_DIRTY;
  vm.pages.freePage(old);
  folioAddLru(vm, pfn);
}

/** Order of the folio that a cached page of a file is part of; 0 for others. @linux include/linux/mm.h:folio_order */
export function folioOrder(vm: Vm, pfn: Pfn): number {
  const { frames } = vm;
  return (frames.flags[pfn] & (PG_ANON | PG_SWAPCACHE)) !== 0 ? 0 : frames.private[pfn];
}

/** Makes a cached page part of a folio of another order. */
export function setFolioOrder(vm: Vm, pfn: Pfn, order: number): void {
  const { flags, private: orders } = vm.frames;
  const { hugeOrder } = vm.tables;
  if (orders[pfn] === hugeOrder || order === hugeOrder) {
    const item = (flags[pfn] & PG_SWAPBACKED) !== 0 ? NODE_STAT.NR_SHMEM_THPS : NODE_STAT.NR_FILE_THPS;
    vm.pages.modNodeState(pfn, item, order === hugeOrder ? 1 : -1);
  }
  orders[pfn] = order;
}

/**
 * Notes that a mapping stored to a page: its folio, all of it, is newer than what the device has. Shared memory has no
 * device: its pages only keep the flag.
 *
 * @linux mm/page-writeback.c:folio_mark_dirty, fs/buffer.c:block_dirty_folio
 */
export function setPageDirty(vm: Vm, pfn: Pfn): void {
  const { flags, mapping: mappingOf, private: orders, index } = vm.frames;
  if ((flags[pfn] & PG_SWAPBACKED) !== 0) {
    setShmemDirty(vm, pfn);
    return;
  }
  const mapping = vm.mappings.get(mappingOf[pfn]);
  if (mapping === undefined) return;
  const size = 1 << orders[pfn];
  const first = index[pfn] - (index[pfn] % size);
  setRangeDirty(vm, mapping, first, first + size - 1);
}

/** A folio is dirty as a whole. */
function setShmemDirty(vm: Vm, pfn: Pfn): void {
  const { flags, index, mapping } = vm.frames;
  const nrPages = 1 << folioOrder(vm, pfn);
  if (nrPages === 1) {
    flags[pfn] |= PG_DIRTY;
    return;
  }
  const { pages } = vm.mappings.get(mapping[pfn])!;
  const first = index[pfn] - (index[pfn] % nrPages);
  for (let pgoff = first; pgoff < first + nrPages; pgoff++) flags[pages.get(pgoff)] |= PG_DIRTY;
}

/**
 * Notes that pages `first` to `last`, which lie in one folio, were stored to; the folio is dirty as a whole.
 *
 * @linux fs/buffer.c:block_commit_write
 */
export function setRangeDirty(vm: Vm, mapping: AddressSpace, first: number, last: number): void {
  const { pages } = mapping;
  const { flags } = vm.frames;
  for (let pgoff = first; pgoff <= last; pgoff++) pages.setMark(pgoff, TAG_BUFFER_DIRTY);
  const order = vm.frames.private[pages.get(first)];
  const head = first - (first % (1 << order));
  for (let pgoff = head; pgoff < head + (1 << order); pgoff++) {
    const page = pages.get(pgoff);
    if (page < 0 || (flags[page] & PG_DIRTY) !== 0) continue;
    flags[page] |= PG_DIRTY;
    pages.setMark(pgoff, TAG_DIRTY);
    accountDirtied(vm, mapping, page);
  }
}

/**
 * Notes that a page of a file was used other than through page tables: once makes its folio referenced, twice active.
 *
 * @linux mm/swap.c:folio_mark_accessed
 */
export function markPageAccessed(vm: Vm, mapping: AddressSpace, pgoff: number): void {
  const pfn = mapping.pages.get(pgoff);
  const size = 1 << folioOrder(vm, pfn);
  if (size === 1) {
    folioMarkAccessed(vm, pfn);
    return;
  }
  const head = pgoff - (pgoff % size);
  for (let at = head; at < head + size; at++) {
    const page = mapping.pages.get(at);
    if (page >= 0) folioMarkAccessed(vm, page);
  }
}

/** Takes the dirtiness of one page of a file on a device back. @linux mm/page-writeback.c:folio_cancel_dirty */
export function clearPageDirty(vm: Vm, mapping: AddressSpace, pgoff: number, pfn: Pfn): void {
  if (!mapping.pages.getMark(pgoff, TAG_DIRTY)) return;
  mapping.pages.clearMark(pgoff, TAG_DIRTY);
  mapping.pages.clearMark(pgoff, TAG_BUFFER_DIRTY);
  vm.frames.flags[pfn] &= ~PG_DIRTY;
  vm.pages.modNodeState(pfn, NODE_STAT.NR_FILE_DIRTY, -1);
}
