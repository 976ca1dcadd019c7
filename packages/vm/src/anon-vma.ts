/**
 * Where a process family's anonymous pages are found again.
 *
 * A page names one *anon_vma*; the anon_vma knows, through one *chain* link each, every VMA in which that page can be
 * mapped. A VMA records new pages in its own anon_vma, and is linked to those of all the VMAs it was forked or split
 * from, because their pages may be mapped here too.
 *
 *     vma.anonVmaChain  === the links of vma, oldest first
 *     anonVma.chains    === the links of anonVma, by the page offsets of their VMAs
 *     anonVma.refcount  === (chains not empty ? 1 : 0) + for a root, the live anon_vmas below it
 *     numActiveVmas     === VMAs whose anonVma this is
 *     numChildren       === live anon_vmas whose parent this is, a root being its own
 *
 * @linux mm/rmap.c, include/linux/rmap.h:anon_vma
 */
import { Errno } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import { IntervalTree, bugOn } from '@pagelab/lib';
import type { IntervalNode } from '@pagelab/lib';
import { GFP_KERNEL } from '@pagelab/mm-core';
import type { Vm } from './vm.ts';
import { VM_ACCESS_FLAGS, VM_IGNORE_MERGE } from './vma.ts';
import type { VmArea } from './vma.ts';

/** The set of VMAs in which a page that names this anon_vma may be mapped. */
export interface AnonVma {
  /** Its number in `Vm.anonVmas`, which `PageFrames.mapping` of its pages holds. At least 1. */
  readonly id: number;
  /** The top of its family; itself for the first. */
  readonly root: AnonVma;
  parent: AnonVma;
  /** Chains and children that hold it. */
  refcount: number;
  /** anon_vmas whose parent this is (itself included for a root). */
  numChildren: number;
  /** VMAs whose own anon_vma this is. */
  numActiveVmas: number;
  /** The VMAs, by the page offsets they show. */
  readonly chains: IntervalTree<AnonVmaChain>;
  object: VirtAddr;
}

/** One VMA's place in one anon_vma. */
export interface AnonVmaChain {
  vma: VmArea;
  anonVma: AnonVma;
  /** Its place in `anonVma.chains`, where it is not while the VMA's bounds change. */
  readonly node: IntervalNode<AnonVmaChain>;
  isPlaced: boolean;
  object: VirtAddr;
}

/** Links and anon_vmas that are kept to be used again, at most. Making them anew takes as long as the rest of a first fault. */
const MAX_SPARE = 1024;

/** The last page offset that a VMA shows. @linux mm/interval_tree.c:vma_last_pgoff */
export function vmaLastPgoff(vma: VmArea): number {
  return vma.pgoff + (vma.end - vma.start) / PAGE_SIZE - 1;
}

/**
 * Makes sure that a VMA has an anon_vma of its own, before its first anonymous page: a neighbour's where the two could
 * become one VMA, a new one otherwise.
 *
 * @returns 0, or −ENOMEM with nothing changed
 * @linux mm/rmap.c:__anon_vma_prepare
 */
export function anonVmaPrepare(vma: VmArea): number {
  if (vma.anonVma !== null) return 0;
  const { vm } = vma.mm;
  const link = vm.caches.anonVmaChain.alloc(GFP_KERNEL);
  if (link === 0) return -Errno.ENOMEM;
  let anonVma = findMergeableAnonVma(vma);
  if (anonVma === null) {
    anonVma = allocAnonVma(vm, null);
    if (anonVma === null) {
      vm.caches.anonVmaChain.free(link);
      return -Errno.ENOMEM;
    }
    anonVma.numChildren++;
  }
  vma.anonVma = anonVma;
  linkChain(vma, anonVma, link);
  anonVma.numActiveVmas++;
  return 0;
}

/**
 * The anon_vma of a neighbour that `vma` could share, so that the two may merge later; `null` where there is none.
 *
 * @linux mm/rmap.c:find_mergeable_anon_vma
 */
export function findMergeableAnonVma(vma: VmArea): AnonVma | null {
  const { vmas } = vma.mm;
  const position = vmas.locate(vma.start);
  const next = vmas.valueAt(vmas.after(position));
  if (next !== undefined) {
    const anonVma = reusableAnonVma(next, vma, next);
    if (anonVma !== null) return anonVma;
  }
  const prev = vmas.valueAt(vmas.before(position));
  return prev === undefined ? null : reusableAnonVma(prev, prev, vma);
}

/**
 * The anon_vma of `owner`, if it has no other and `low` and `high` could be one VMA.
 *
 * @linux mm/vma.c:reusable_anon_vma
 */
function reusableAnonVma(owner: VmArea, low: VmArea, high: VmArea): AnonVma | null {
  if (owner.anonVma === null || owner.anonVmaChain.length !== 1) return null;
  const compatible =
    low.end === high.start &&
    low.file === high.file &&
    low.zeroFile === high.zeroFile &&
    ((low.flags ^ high.flags) & ~(VM_ACCESS_FLAGS | VM_IGNORE_MERGE)) === 0 &&
    low.droppable === high.droppable &&
    high.pgoff === low.pgoff + (high.start - low.start) / PAGE_SIZE;
  return compatible ? owner.anonVma : null;
}

/**
 * Links `dst` to every anon_vma that `src` is linked to: for a split, a merge, a move or, by {@link anonVmaFork}, a
 * fork. Where `dst` has no anon_vma of its own yet, one that nobody uses any more is taken over.
 *
 * @returns 0, or −ENOMEM with `dst` linked to none and without an anon_vma
 * @linux mm/rmap.c:anon_vma_clone
 */
export function anonVmaClone(dst: VmArea, src: VmArea): number {
  const { vm } = dst.mm;
  const links = src.anonVmaChain;
  for (let i = 0; i < links.length; i++) {
    const object = vm.caches.anonVmaChain.alloc(GFP_KERNEL);
    if (object === 0) {
      // Its own anon_vma does not count `dst` among its users yet.
      dst.anonVma = null;
      unlinkAnonVmas(dst);
      return -Errno.ENOMEM;
    }
    const { anonVma } = links[i];
    linkChain(dst, anonVma, object);
    if (dst.anonVma === null && src.anonVma !== null && anonVma.numChildren < 2 && anonVma.numActiveVmas === 0) {
      dst.anonVma = anonVma;
    }
  }
  if (dst.anonVma !== null) dst.anonVma.numActiveVmas++;
  return 0;
}

/**
 * Links a child's VMA to all its parent's VMA is linked to, and gives it an anon_vma of its own below the parent's.
 *
 * @returns 0, or −ENOMEM with `dst` linked to none
 * @linux mm/rmap.c:anon_vma_fork
 */
export function anonVmaFork(dst: VmArea, src: VmArea): number {
  dst.anonVma = null;
  if (src.anonVma === null) return 0;
  const error = anonVmaClone(dst, src);
  if (error !== 0 || dst.anonVma !== null) return error;
  const { vm } = dst.mm;
  const anonVma = allocAnonVma(vm, src.anonVma);
  if (anonVma === null) {
    unlinkAnonVmas(dst);
    return -Errno.ENOMEM;
  }
  const object = vm.caches.anonVmaChain.alloc(GFP_KERNEL);
  if (object === 0) {
    putAnonVma(vm, anonVma);
    unlinkAnonVmas(dst);
    return -Errno.ENOMEM;
  }
  anonVma.numActiveVmas++;
  dst.anonVma = anonVma;
  linkChain(dst, anonVma, object);
  anonVma.parent.numChildren++;
  return 0;
}

/** Takes a VMA out of every anon_vma; those that nobody uses any more are freed. @linux mm/rmap.c:unlink_anon_vmas */
export function unlinkAnonVmas(vma: VmArea): void {
  const { vm } = vma.mm;
  const links = vma.anonVmaChain;
  for (let i = links.length - 1; i >= 0; i--) {
    const link = links[i];
    const { anonVma } = link;
    if (link.isPlaced) anonVma.chains.remove(link.node);
    if (anonVma.chains.size === 0) anonVma.parent.numChildren--;
  }
  if (vma.anonVma !== null) {
    vma.anonVma.numActiveVmas--;
    vma.anonVma = null;
  }
  // The newest first: a root outlives the rest of its family.
  while (links.length > 0) {
    const link = links.pop()!;
    const { anonVma } = link;
    vm.caches.anonVmaChain.free(link.object);
    if (vm.spareChains.length < MAX_SPARE) vm.spareChains.push(link);
    if (anonVma.chains.size === 0) putAnonVma(vm, anonVma);
  }
}

/** Before a VMA's bounds or offset change: takes it out of the interval trees of its file and its anon_vmas. */
export function vmaIntervalRemove(vma: VmArea): void {
  if (vma.mmapNode !== null) {
    vma.file!.inode.mapping.mmap.remove(vma.mmapNode);
    vma.mmapNode = null;
  }
  const links = vma.anonVmaChain;
  for (let i = 0; i < links.length; i++) {
    const link = links[i];
    if (!link.isPlaced) continue;
    link.anonVma.chains.remove(link.node);
    link.isPlaced = false;
  }
}

/** After a VMA's bounds or offset changed: puts it where it is missing among its file's and its anon_vmas' mappings. */
export function vmaIntervalInsert(vma: VmArea): void {
  const last = vmaLastPgoff(vma);
  if (vma.file !== null && vma.mmapNode === null) {
    vma.mmapNode = vma.file.inode.mapping.mmap.insert(vma.pgoff, last, vma);
  }
  const links = vma.anonVmaChain;
  for (let i = 0; i < links.length; i++) {
    const link = links[i];
    if (link.isPlaced) continue;
    link.anonVma.chains.reinsert(link.node, vma.pgoff, last);
    link.isPlaced = true;
  }
}

/** A new anon_vma, a root unless it has a parent; `null` without memory. @linux mm/rmap.c:anon_vma_alloc */
function allocAnonVma(vm: Vm, parent: AnonVma | null): AnonVma | null {
  const object = vm.caches.anonVma.alloc(GFP_KERNEL);
  if (object === 0) return null;
  const anonVma: { -readonly [K in keyof AnonVma]: AnonVma[K] } = vm.spareAnonVmas.pop() ?? newAnonVma();
  anonVma.id = vm.anonVmas.alloc(anonVma);
  anonVma.root = parent === null ? anonVma : parent.root;
  anonVma.parent = parent === null ? anonVma : parent;
  anonVma.refcount = 1;
  anonVma.numChildren = 0;
  anonVma.numActiveVmas = 0;
  anonVma.object = object;
  if (parent !== null) parent.root.refcount++;
  return anonVma;
}

/** One that nobody uses. */
function newAnonVma(): AnonVma {
  const nobody = null as unknown as AnonVma;
  return {
    id: 0, root: nobody, parent: nobody, refcount: 0, numChildren: 0, numActiveVmas: 0,
    chains: new IntervalTree<AnonVmaChain>(), object: 0,
  };
}

/** Drops a reference; the last one frees it, and drops its own on the root. @linux mm/rmap.c:__put_anon_vma */
function putAnonVma(vm: Vm, anonVma: AnonVma): void {
  if (--anonVma.refcount > 0) return;
  bugOn(anonVma.chains.size !== 0, 'anon_vma: freed while VMAs are linked to it');
  vm.anonVmas.free(anonVma.id);
  vm.caches.anonVma.free(anonVma.object);
  const { root } = anonVma;
  if (vm.spareAnonVmas.length < MAX_SPARE) vm.spareAnonVmas.push(anonVma);
  if (root !== anonVma) putAnonVma(vm, root);
}

/** @linux mm/rmap.c:anon_vma_chain_link */
function linkChain(vma: VmArea, anonVma: AnonVma, object: VirtAddr): void {
  const { vm } = vma.mm;
  let link = vm.spareChains.pop();
  if (link === undefined) link = newChain(vma, anonVma);
  else {
    link.vma = vma;
    link.anonVma = anonVma;
    anonVma.chains.reinsert(link.node, vma.pgoff, vmaLastPgoff(vma));
  }
  link.isPlaced = true;
  link.object = object;
  vma.anonVmaChain.push(link);
}

function newChain(vma: VmArea, anonVma: AnonVma): AnonVmaChain {
  const link = { vma, anonVma, node: null as unknown as IntervalNode<AnonVmaChain>, isPlaced: true, object: 0 };
  link.node = anonVma.chains.insert(vma.pgoff, vmaLastPgoff(vma), link);
  return link;
}
