/**
 * Node reclaim: an allocation that finds too little on a node takes pages of files from it, before it goes to another. It is off
 * unless `vm.zone_reclaim_mode` says otherwise: what other nodes have is mostly nearer than a disk.
 *
 * @linux mm/vmscan.c:node_reclaim
 */
import { LRU_ACTIVE_FILE, LRU_INACTIVE_FILE, NODE_STAT, PF_MEMALLOC, VM_EVENT, __GFP_DIRECT_RECLAIM } from '@pagelab/mm-core';
import type { MemoryNode, Zone } from '@pagelab/mm-core';
import { DEF_PRIORITY, RECLAIMER_DIRECT, RECLAIMER_PROACTIVE, SWAP_CLUSTER_MAX, ScanControl } from './scan-control.ts';
import type { Vm } from './vm.ts';
import { runReclaim, shrinkNode } from './vmscan.ts';

/** Bits of `vm.zone_reclaim_mode`: it is done at all; dirty pages are written; mapped ones are unmapped, and swapped. @linux include/uapi/linux/mempolicy.h:RECLAIM_ZONE */
export const RECLAIM_ZONE = 1;
export const RECLAIM_WRITE = 2;
export const RECLAIM_UNMAP = 4;

/** The first look is at the sixteenth part of the lists. @linux mm/vmscan.c:NODE_RECLAIM_PRIORITY */
const NODE_RECLAIM_PRIORITY = 4;

/**
 * Reclaims on a zone's node for an allocation.
 *
 * @param localNid node of the CPU that asks: others' nodes are left to others, where they have CPUs
 * @returns whether as much was got as was wanted
 */
export function nodeReclaim(vm: Vm, zone: Zone, gfp: number, order: number, localNid: number): boolean {
  const { pages } = vm;
  const memory = pages.nodes[zone.nid];
  if (!hasEnough(vm, memory)) return false;
  if ((gfp & __GFP_DIRECT_RECLAIM) === 0 || (pages.currentFlags & PF_MEMALLOC) !== 0 || vm.reclaim.active) return false;
  if (memory.cpus.length > 0 && zone.nid !== localNid) return false;
  const nrPages = Math.max(1 << order, SWAP_CLUSTER_MAX);
  const mode = pages.nodeReclaimMode;
  const sc = new ScanControl(nrPages, gfp, order, pages.gfpZoneIndex(gfp), RECLAIMER_DIRECT);
  sc.mayWritepage = (mode & RECLAIM_WRITE) !== 0;
  sc.mayUnmap = (mode & RECLAIM_UNMAP) !== 0;
  const node = vm.reclaim.nodes[zone.nid];
  runReclaim(vm, () => {
    for (sc.priority = NODE_RECLAIM_PRIORITY; sc.priority >= 0 && sc.nrReclaimed < nrPages; sc.priority--) shrinkNode(vm, node, sc);
  });
  const isEnough = sc.nrReclaimed >= nrPages;
  pages.countEvent(isEnough ? VM_EVENT.ZONE_RECLAIM_SUCCESS : VM_EVENT.ZONE_RECLAIM_FAILED);
  return isEnough;
}

/**
 * Takes pages from a node since somebody asks for it. Where there are few pages of files, and few objects of caches, it takes
 * nothing.
 *
 * @param nrPages wanted
 * @param swappiness in place of `vm.swappiness`; −1 for that
 * @returns pages freed
 * @linux mm/vmscan.c:__node_reclaim
 */
export function reclaimNode(vm: Vm, nid: number, nrPages: number, gfp: number, swappiness: number): number {
  if (!hasEnough(vm, vm.pages.nodes[nid])) return 0;
  const sc = new ScanControl(Math.max(nrPages, SWAP_CLUSTER_MAX), gfp, 0, Infinity, RECLAIMER_PROACTIVE);
  sc.swappiness = swappiness;
  const node = vm.reclaim.nodes[nid];
  runReclaim(vm, () => {
    sc.priority = DEF_PRIORITY;
    // Once whatever is asked for.
    do shrinkNode(vm, node, sc);
    while (sc.nrReclaimed < nrPages && --sc.priority >= 0);
  });
  return sc.nrReclaimed;
}

/** Whether the node has more to give up than is to stay. */
function hasEnough(vm: Vm, node: MemoryNode): boolean {
  const { minSlabRatio, minUnmappedRatio } = vm.sysctl;
  const managed = node.zones.reduce((sum, zone) => sum + zone.managed, 0);
  const share = (percent: number): number => Math.floor((managed * percent) / 100);
  return reclaimablePagecache(vm, node) > share(minUnmappedRatio) || node.vmStat[NODE_STAT.NR_SLAB_RECLAIMABLE] > share(minSlabRatio);
}

/** Pages of files that may be taken in this mode. @linux mm/vmscan.c:node_pagecache_reclaimable */
function reclaimablePagecache(vm: Vm, { vmStat, nid }: MemoryNode): number {
  const mode = vm.pages.nodeReclaimMode;
  const { lru } = vm.pages;
  const unmapped = Math.max(0, lru.size(nid, LRU_INACTIVE_FILE) + lru.size(nid, LRU_ACTIVE_FILE) - vmStat[NODE_STAT.NR_FILE_MAPPED]);
  const pages = (mode & RECLAIM_UNMAP) !== 0 ? vmStat[NODE_STAT.NR_FILE_PAGES] : unmapped;
  const dirty = (mode & RECLAIM_WRITE) !== 0 ? 0 : vmStat[NODE_STAT.NR_FILE_DIRTY];
  return pages - Math.min(pages, dirty);
}
