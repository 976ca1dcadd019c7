/**
 * The nodes of files' trees: objects of the `radix_tree_node` cache that pages need, and the shadows of pages that were
 * reclaimed. A node that holds shadows alone is worth little: there are to be no more of these than one for each eight pages
 * on the lists, and a shrinker takes the others, the oldest first.
 *
 *     AddressSpace.nodes.length === nodes of a tree of 64 entries each that has all pages and shadows
 *     NR of WORKINGSET_NODES    === nodes of the last level that hold shadows and no page
 *
 * Linux counts them on the node of memory where the object lies; here they are all node 0's.
 *
 * @linux lib/xarray.c, mm/workingset.c:workingset_update_node
 */
import type { VirtAddr } from '@pagelab/abi';
import { bugOn } from '@pagelab/lib';
import { GFP_KERNEL_ACCOUNT, LRU_UNEVICTABLE, NODE_STAT } from '@pagelab/mm-core';
import type { ShrinkerSpec } from '@pagelab/slab';
import type { AddressSpace } from './file.ts';
import type { Vm } from './vm.ts';

/** Entries of one node. @linux include/linux/xarray.h:XA_CHUNK_SIZE */
const NODE_ENTRIES = 64;
/** For each page on the lists, the eighth part of a node that holds shadows alone. @linux mm/workingset.c:count_shadow_nodes */
const PAGES_PER_SHADOW_NODE = 8;
/** Nodes of a file are told apart by their number below this. */
const MOST_GROUPS = 2 ** 32;

/** Nodes that hold shadows and no page, in the order in which they became that. @linux mm/workingset.c:shadow_nodes */
export type ShadowNodes = Map<number, { readonly mapping: AddressSpace; readonly group: number }>;

/**
 * Allocates the nodes that an entry at `index` needs and that no other entry has. Allocating may come to reclaim, which takes
 * other pages of the file: so what is missing is looked up again after each.
 *
 * @returns false without memory, with nothing changed
 */
export function growNodes(vm: Vm, mapping: AddressSpace, index: number): boolean {
  const made: VirtAddr[] = [];
  while (made.length < missingNodes(mapping, index)) {
    const object = vm.caches.radixTreeNode.alloc(GFP_KERNEL_ACCOUNT);
    if (object === 0) {
      for (const each of made) vm.caches.radixTreeNode.free(each);
      return false;
    }
    made.push(object);
  }
  for (const spare of made.splice(missingNodes(mapping, index))) vm.caches.radixTreeNode.free(spare);
  mapping.nodes.push(...made);
  mapping.nodeLevels = Math.max(mapping.nodeLevels, levelsFor(index));
  return true;
}

function levelsFor(index: number): number {
  let levels = 0;
  while (index >= NODE_ENTRIES ** levels) levels++;
  return levels;
}

function missingNodes(mapping: AddressSpace, index: number): number {
  const hasEntries = mapping.pages.size > 0 || mapping.shadows.size > 0;
  const levels = Math.max(mapping.nodeLevels, levelsFor(index));
  let missing = 0;
  for (let level = 1; level <= levels; level++) {
    const span = NODE_ENTRIES ** level;
    const group = Math.floor(index / span);
    if (level <= mapping.nodeLevels) {
      if (isGroupEmpty(mapping, group, span)) missing++;
    } else {
      // A new level: one node above what there is, and one for the entry unless that is the same.
      if (hasEntries) missing++;
      if (group !== 0 || !hasEntries) missing++;
    }
  }
  return missing;
}

/** Frees the nodes that only the entries around `index`, now gone, needed. */
export function shrinkNodes(vm: Vm, mapping: AddressSpace, index: number): void {
  const { pages, shadows, nodes } = mapping;
  let spare = 0;
  if (pages.size === 0 && shadows.size === 0) {
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

function isGroupEmpty({ pages, shadows }: AddressSpace, group: number, span: number): boolean {
  const found = pages.nextIndex(group * span);
  if (found >= 0 && found < (group + 1) * span) return false;
  const shadow = shadows.size === 0 ? -1 : shadows.nextIndex(group * span);
  return shadow < 0 || shadow >= (group + 1) * span;
}

// ---- shadows

/** A page that goes leaves a shadow in its place: before it goes, so that the node stays. */
export function storeShadow(mapping: AddressSpace, pgoff: number, shadow: number): void {
  mapping.shadows.set(pgoff, shadow);
}

/** A shadow goes, for its page comes back or its file ends before it. */
export function deleteShadow(vm: Vm, mapping: AddressSpace, pgoff: number): void {
  mapping.shadows.delete(pgoff);
  shrinkNodes(vm, mapping, pgoff);
  updateShadowNode(vm, mapping, pgoff);
}

/**
 * Notes whether the node of an entry, of which a page or shadow came or went, holds shadows alone now.
 *
 * @linux mm/workingset.c:workingset_update_node
 */
export function updateShadowNode(vm: Vm, mapping: AddressSpace, pgoff: number): void {
  const { shadowNodes } = vm;
  const group = Math.floor(pgoff / NODE_ENTRIES);
  const key = mapping.id * MOST_GROUPS + group;
  const isOne = group < MOST_GROUPS && holdsShadowsAlone(mapping, group);
  if (isOne === shadowNodes.has(key)) return;
  if (isOne) shadowNodes.set(key, { mapping, group });
  else shadowNodes.delete(key);
  vm.pages.nodes[0].vmStat[NODE_STAT.WORKINGSET_NODES] += isOne ? 1 : -1;
}

function holdsShadowsAlone({ pages, shadows }: AddressSpace, group: number): boolean {
  const [first, behind] = [group * NODE_ENTRIES, (group + 1) * NODE_ENTRIES];
  const page = pages.nextIndex(first);
  if (page >= 0 && page < behind) return false;
  const shadow = shadows.nextIndex(first);
  return shadow >= 0 && shadow < behind;
}

/** Takes nodes that hold shadows alone, where there are too many. @linux mm/workingset.c:workingset_shadow_shrinker */
export function shadowShrinker(vm: Vm): ShrinkerSpec {
  return {
    name: 'mm-shadow',
    // They are worth nothing once they are too many.
    seeks: 0,
    countObjects: () => {
      const { nodes } = vm.pages;
      let pages = 0;
      for (const { vmStat } of nodes) {
        for (let list = 0; list < LRU_UNEVICTABLE; list++) pages += vmStat[NODE_STAT.NR_INACTIVE_ANON + list];
        pages += vmStat[NODE_STAT.NR_SLAB_RECLAIMABLE] + vmStat[NODE_STAT.NR_SLAB_UNRECLAIMABLE];
      }
      return Math.max(0, vm.shadowNodes.size - Math.floor(pages / PAGES_PER_SHADOW_NODE));
    },
    scanObjects: ({ nrToScan }) => {
      let freed = 0;
      for (const { mapping, group } of vm.shadowNodes.values()) {
        if (freed === nrToScan) break;
        dropNode(vm, mapping, group);
        freed++;
      }
      return freed;
    },
  };
}

/** @linux mm/workingset.c:shadow_lru_isolate */
function dropNode(vm: Vm, mapping: AddressSpace, group: number): void {
  const { shadows } = mapping;
  const [first, behind] = [group * NODE_ENTRIES, (group + 1) * NODE_ENTRIES];
  for (let at = shadows.nextIndex(first); at >= 0 && at < behind; at = shadows.nextIndex(at + 1)) shadows.delete(at);
  shrinkNodes(vm, mapping, first);
  updateShadowNode(vm, mapping, first);
  vm.pages.nodes[0].vmStat[NODE_STAT.WORKINGSET_NODERECLAIM]++;
}

// ---- validation

/**
 * Recomputes how many nodes each file's tree has, and which hold shadows alone. Costs a step an entry.
 *
 * @throws KernelBug at the first that is wrong
 */
export function validatePageCacheNodes(vm: Vm): void {
  let alone = 0;
  vm.mappings.forEach((mapping) => {
    const { pages, shadows, nodes, nodeLevels, id } = mapping;
    const entries: number[] = [];
    for (let at = pages.nextIndex(0); at >= 0; at = pages.nextIndex(at + 1)) entries.push(at);
    for (let at = shadows.nextIndex(0); at >= 0; at = shadows.nextIndex(at + 1)) {
      bugOn(pages.has(at), `page cache: entry ${at} of file ${id} is a page and a shadow`);
      entries.push(at);
    }
    let needed = 0;
    for (let level = 1; level <= nodeLevels; level++) needed += new Set(entries.map((at) => Math.floor(at / NODE_ENTRIES ** level))).size;
    bugOn(needed !== nodes.length, `page cache: the tree of file ${id} has ${nodes.length} nodes, and needs ${needed}`);
    for (const group of new Set(entries.map((at) => Math.floor(at / NODE_ENTRIES)))) {
      if (!holdsShadowsAlone(mapping, group)) continue;
      alone++;
      bugOn(!vm.shadowNodes.has(id * MOST_GROUPS + group), `page cache: node ${group} of file ${id} holds shadows alone, and is not listed`);
    }
  });
  const counted = vm.pages.nodes[0].vmStat[NODE_STAT.WORKINGSET_NODES];
  bugOn(alone !== vm.shadowNodes.size || alone !== counted, `page cache: ${alone} nodes hold shadows alone, ${vm.shadowNodes.size} are listed, ${counted} counted`);
}
