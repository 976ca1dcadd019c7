/**
 * The pages of a file, by page offset. The cache holds a reference to each of its pages; `PageFrames.mapping` and
 * `index` lead back from the page.
 *
 * @linux mm/filemap.c
 */
import { Errno } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { IntervalTree, XArrayInt } from '@pagelab/lib';
import { GFP_KERNEL, NODE_STAT, PG_SWAPBACKED } from '@pagelab/mm-core';
import type { AddressSpace, AddressSpaceOps, Inode } from './file.ts';
import type { Vm } from './vm.ts';
import type { VmArea } from './vma.ts';

/** Entries of one node of Linux's page-cache tree. @linux include/linux/xarray.h:XA_CHUNK_SIZE */
const NODE_ENTRIES = 64;

/** What a file system says of a new inode. */
export interface InodeInit {
  readonly ops: AddressSpaceOps;
  readonly size: number;
  readonly nlink: number;
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
    seals: 0,
    accounted: init.accounted,
    object: init.object,
  };
  const mapping = {
    id: 0,
    inode: inode as Inode,
    pages: new XArrayInt(),
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
  const { frames } = vm;
  if (!growNodes(vm, mapping, pgoff)) return -Errno.ENOMEM;
  mapping.pages.set(pgoff, pfn);
  frames.refcount[pfn]++;
  frames.mapping[pfn] = mapping.id;
  frames.index[pfn] = pgoff;
  vm.pages.modNodeState(pfn, NODE_STAT.NR_FILE_PAGES, 1);
  if ((frames.flags[pfn] & PG_SWAPBACKED) !== 0) vm.pages.modNodeState(pfn, NODE_STAT.NR_SHMEM, 1);
  return 0;
}

/** Takes a page, which must be mapped nowhere, out of its file's cache and drops the cache's reference. @linux mm/filemap.c:filemap_remove_folio */
export function removeFromPageCache(vm: Vm, mapping: AddressSpace, pgoff: number): void {
  const { frames } = vm;
  const pfn = mapping.pages.get(pgoff);
  mapping.pages.delete(pgoff);
  shrinkNodes(vm, mapping, pgoff);
  frames.mapping[pfn] = 0;
  vm.pages.modNodeState(pfn, NODE_STAT.NR_FILE_PAGES, -1);
  if ((frames.flags[pfn] & PG_SWAPBACKED) !== 0) vm.pages.modNodeState(pfn, NODE_STAT.NR_SHMEM, -1);
  vm.pages.freePage(pfn);
}

/** Allocates the tree nodes that an entry at `index` needs and that no other entry has; false without memory. */
function growNodes(vm: Vm, mapping: AddressSpace, index: number): boolean {
  const { pages, nodes } = mapping;
  const hasEntries = pages.size > 0;
  const oldLevels = mapping.nodeLevels;
  let levels = oldLevels;
  while (index >= NODE_ENTRIES ** levels) levels++;
  let missing = 0;
  for (let level = 1; level <= levels; level++) {
    const span = NODE_ENTRIES ** level;
    const group = Math.floor(index / span);
    if (level <= oldLevels) {
      if (isGroupEmpty(mapping, group, span)) missing++;
    } else {
      // A new level: one node above what there is, and one for the entry unless that is the same.
      if (hasEntries) missing++;
      if (group !== 0 || !hasEntries) missing++;
    }
  }
  for (let i = 0; i < missing; i++) {
    const object = vm.caches.radixTreeNode.alloc(GFP_KERNEL);
    if (object === 0) {
      for (; i > 0; i--) vm.caches.radixTreeNode.free(nodes.pop()!);
      return false;
    }
    nodes.push(object);
  }
  mapping.nodeLevels = levels;
  return true;
}

/** Frees the tree nodes that only the entry at `index`, now gone, needed. */
function shrinkNodes(vm: Vm, mapping: AddressSpace, index: number): void {
  const { pages, nodes } = mapping;
  let spare = 0;
  if (pages.size === 0) {
    spare = nodes.length;
    mapping.nodeLevels = 0;
  } else {
    for (let level = 1; level <= mapping.nodeLevels; level++) {
      const span = NODE_ENTRIES ** level;
      if (isGroupEmpty(mapping, Math.floor(index / span), span)) spare++;
    }
  }
  for (let i = 0; i < spare; i++) vm.caches.radixTreeNode.free(nodes.pop()!);
}

function isGroupEmpty(mapping: AddressSpace, group: number, span: number): boolean {
  const found = mapping.pages.nextIndex(group * span);
  return found < 0 || found >= (group + 1) * span;
}
