/**
 * The pool of huge pages that are set aside, and promises of them.
 *
 * Pages of the pool are compound pages of 2 MiB that nobody else can have. The pool holds one reference to each; each entry
 * and each file's cache that has one holds another. A mapping takes a *reservation* for all its pages when it is made, so
 * that a later fault cannot fail; beyond the pool, up to `nr_overcommit_hugepages` *surplus* pages are taken from the page
 * allocator, and go back there when they are freed.
 *
 *     nrHugePages  === heads with PG_HUGETLB
 *     freeHugePages === those that nothing but the pool refers to
 *     freeHugePages - resvHugePages >= 0: what may be taken without a reservation
 *     surplusHugePages <= nrHugePages: freed pages leave the pool while there is any
 *
 * @linux mm/hugetlb.c
 */
import { Errno, MPOL_BIND } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { GFP_HIGHUSER_MOVABLE, NODE_STAT, PG_HEAD, PG_HUGETLB, VM_EVENT, __GFP_COMP, __GFP_NOWARN, __GFP_RETRY_MAYFAIL, __GFP_THISNODE } from '@pagelab/mm-core';
import { localNode, vmaPolicyAt } from './mempolicy.ts';
import { commitReservation, needsReservation } from './hugetlb-reserve.ts';
import type { Vm } from './vm.ts';
import type { VmArea } from './vma.ts';
import { VM_MAYSHARE, VM_NORESERVE } from './vma.ts';

const POOL_GFP = GFP_HIGHUSER_MOVABLE | __GFP_COMP | __GFP_NOWARN | __GFP_RETRY_MAYFAIL | __GFP_THISNODE;

/** What a node has of the pool. */
export interface HugetlbNode {
  nr: number;
  surplus: number;
  /** Heads of free pages; the last freed is the next taken. */
  readonly free: Pfn[];
}

/** @linux include/linux/hugetlb.h:hstate */
export class HugetlbPool {
  nrHugePages = 0;
  freeHugePages = 0;
  /** Free pages that are promised. */
  resvHugePages = 0;
  surplusHugePages = 0;
  /** Surplus pages there may be. */
  nrOvercommit = 0;
  readonly nodes: readonly HugetlbNode[];
  /** Where the next page for the pool comes from, and goes back to. */
  nextNidToAlloc = 0;
  nextNidToFree = 0;
  /** Heads of which entries were cleared, until the translations are flushed. */
  readonly unmapped: Pfn[] = [];

  constructor(nrNodes: number) {
    this.nodes = Array.from({ length: nrNodes }, () => ({ nr: 0, surplus: 0, free: [] }));
  }
}

/** Small pages in all pages of the pool. @linux mm/hugetlb.c:hugetlb_total_pages */
export function hugetlbTotalPages(vm: Vm): number {
  return vm.hugetlb.nrHugePages * vm.tables.ptrsPerPte;
}

/** Pages of the pool that are not surplus. @linux mm/hugetlb.c:persistent_huge_pages */
function persistentPages({ nrHugePages, surplusHugePages }: HugetlbPool): number {
  return nrHugePages - surplusHugePages;
}

/** Gets a page of a node from the page allocator and puts it into the pool, free. @returns its head, or negative */
function growPool(vm: Vm, nid: number): Pfn {
  const head = vm.pages.allocPagesNode(nid, POOL_GFP, vm.tables.hugeOrder);
  const { events } = vm.pages;
  events[head < 0 ? VM_EVENT.HTLB_BUDDY_ALLOC_FAIL : VM_EVENT.HTLB_BUDDY_ALLOC_SUCCESS]++;
  if (head < 0) return head;
  vm.frames.flags[head] |= PG_HUGETLB;
  const { hugetlb } = vm;
  hugetlb.nrHugePages++;
  hugetlb.nodes[nid].nr++;
  enqueue(vm, head, nid);
  return head;
}

/** @linux mm/hugetlb.c:enqueue_hugetlb_folio */
function enqueue({ hugetlb }: Vm, head: Pfn, nid: number): void {
  hugetlb.nodes[nid].free.push(head);
  hugetlb.freeHugePages++;
}

/** Gives a page that is in no list of the pool back to the page allocator. @linux mm/hugetlb.c:remove_hugetlb_folio */
function leavePool(vm: Vm, head: Pfn, nid: number): void {
  const { hugetlb } = vm;
  hugetlb.nrHugePages--;
  hugetlb.nodes[nid].nr--;
  vm.frames.flags[head] &= PG_HEAD;
  vm.pages.putPage(head);
}

/** Takes a node's free page out of the pool. @returns whether it had one @linux mm/hugetlb.c:remove_pool_hugetlb_folio */
function shrinkPool(vm: Vm, nid: number, surplus: boolean): boolean {
  const { hugetlb } = vm;
  const node = hugetlb.nodes[nid];
  if (surplus && node.surplus === 0) return false;
  const head = node.free.pop();
  if (head === undefined) return false;
  hugetlb.freeHugePages--;
  if (surplus) {
    node.surplus--;
    hugetlb.surplusHugePages--;
  }
  leavePool(vm, head, nid);
  return true;
}

/** Tries the nodes in turn, each once, from where the last turn ended. @returns whether one would do */
function inTurn(hugetlb: HugetlbPool, turn: 'nextNidToAlloc' | 'nextNidToFree', usable: (nid: number) => boolean): boolean {
  for (let tried = 0; tried < hugetlb.nodes.length; tried++) {
    const nid = hugetlb[turn];
    hugetlb[turn] = (nid + 1) % hugetlb.nodes.length;
    if (usable(nid)) return true;
  }
  return false;
}

/** Makes a page of a node count as surplus, or no longer. @linux mm/hugetlb.c:adjust_pool_surplus */
function adjustSurplus(hugetlb: HugetlbPool, delta: 1 | -1): boolean {
  const turn = delta < 0 ? 'nextNidToAlloc' : 'nextNidToFree';
  return inTurn(hugetlb, turn, (nid) => {
    const node = hugetlb.nodes[nid];
    if (delta < 0 ? node.surplus === 0 : node.surplus >= node.nr) return false;
    node.surplus += delta;
    hugetlb.surplusHugePages += delta;
    return true;
  });
}

/**
 * Sets how many pages the pool is to have: as many more as there are free blocks, as many less as are free. What is in use
 * beyond that becomes surplus.
 *
 * @param nid whose pages these are; −1 for all nodes in turn
 * @linux mm/hugetlb.c:set_max_huge_pages
 */
export function setMaxHugePages(vm: Vm, wanted: number, nid = -1): void {
  const { hugetlb } = vm;
  const rest = nid < 0 ? 0 : persistentPages(hugetlb) - (hugetlb.nodes[nid].nr - hugetlb.nodes[nid].surplus);
  const count = wanted + rest;
  while (hugetlb.surplusHugePages > 0 && count > persistentPages(hugetlb)) if (!adjustSurplus(hugetlb, -1)) break;
  const memory = (each: number): boolean => vm.pages.nodes[each].present > 0;
  while (count > persistentPages(hugetlb)) {
    const grown =
      nid < 0 ? inTurn(hugetlb, 'nextNidToAlloc', (each) => memory(each) && growPool(vm, each) >= 0) : growPool(vm, nid) >= 0;
    if (!grown) break;
  }
  const least = Math.max(count, hugetlb.resvHugePages + hugetlb.nrHugePages - hugetlb.freeHugePages);
  while (least < persistentPages(hugetlb)) {
    const shrunk = nid < 0 ? inTurn(hugetlb, 'nextNidToFree', (each) => shrinkPool(vm, each, false)) : shrinkPool(vm, nid, false);
    if (!shrunk) break;
  }
  while (count < persistentPages(hugetlb)) if (!adjustSurplus(hugetlb, 1)) break;
}

/** Adds a page beyond the pool's size, as far as that is allowed. @returns its head, free; or negative @linux mm/hugetlb.c:alloc_surplus_hugetlb_folio */
function growSurplus(vm: Vm, nids: readonly number[]): Pfn {
  const { hugetlb } = vm;
  if (hugetlb.surplusHugePages >= hugetlb.nrOvercommit) return -Errno.ENOSPC;
  for (const nid of nids) {
    const head = growPool(vm, nid);
    if (head < 0) continue;
    hugetlb.surplusHugePages++;
    hugetlb.nodes[nid].surplus++;
    return head;
  }
  return -Errno.ENOSPC;
}

/**
 * Promises pages, or takes promises back.
 *
 * @param delta how many pages more, or less
 * @returns 0; −ENOMEM with nothing promised
 * @linux mm/hugetlb.c:hugetlb_acct_memory
 */
export function hugetlbAcctMemory(vm: Vm, delta: number): number {
  const { hugetlb } = vm;
  if (delta < 0) {
    returnUnusedSurplus(vm, -delta);
    return 0;
  }
  const needed = hugetlb.resvHugePages + delta - hugetlb.freeHugePages;
  for (let grown = 0; grown < needed; grown++) {
    if (growSurplus(vm, vm.pages.nodes[localNode(vm)].fallbackOrder) >= 0) continue;
    for (; grown > 0; grown--) inTurn(hugetlb, 'nextNidToFree', (nid) => shrinkPool(vm, nid, true));
    return -Errno.ENOMEM;
  }
  hugetlb.resvHugePages += delta;
  return 0;
}

/** @linux mm/hugetlb.c:return_unused_surplus_pages */
function returnUnusedSurplus(vm: Vm, unused: number): void {
  const { hugetlb } = vm;
  hugetlb.resvHugePages -= unused;
  for (let left = Math.min(unused, hugetlb.surplusHugePages); left > 0; left--) {
    if (!inTurn(hugetlb, 'nextNidToFree', (nid) => shrinkPool(vm, nid, true))) break;
  }
}

/** Whether a fault in a mapping takes a page that was promised. `change`: pages that the mapping has no promise of. @linux mm/hugetlb.c:vma_has_reserves */
function hasReserves(vma: VmArea, change: number): boolean {
  if ((vma.flags & VM_NORESERVE) !== 0) return (vma.flags & VM_MAYSHARE) !== 0 && change === 0;
  if ((vma.flags & VM_MAYSHARE) !== 0) return change === 0;
  return vma.resv !== null && change === 0;
}

/**
 * Takes a page of the pool for a mapping, with one reference beside the pool's. Its contents are what they were.
 *
 * @param avoidReserve whether promises are left alone
 * @returns −ENOSPC where the pool has none to give
 * @linux mm/hugetlb.c:alloc_hugetlb_folio
 */
export function allocHugetlbPage(vma: VmArea, address: VirtAddr, avoidReserve: boolean): Pfn {
  const { vm } = vma.mm;
  const { hugetlb } = vm;
  const change = needsReservation(vma, address);
  const reserved = hasReserves(vma, change) && !avoidReserve;
  const nids = nodesFor(vma, address);
  const available = hugetlb.freeHugePages - hugetlb.resvHugePages;
  let head = reserved || available > 0 ? dequeue(vm, nids) : -1;
  if (head < 0) {
    if (growSurplus(vm, nids) < 0) return -Errno.ENOSPC;
    head = dequeue(vm, nids);
  }
  if (reserved) hugetlb.resvHugePages--;
  vm.frames.refcount[head]++;
  vm.pages.modNodeState(head, NODE_STAT.NR_HUGETLB, vm.tables.ptrsPerPte);
  commitReservation(vma, address);
  return head;
}

/** Nodes that a mapping's page may come from, the first choice first. @linux mm/mempolicy.c:huge_node */
function nodesFor(vma: VmArea, address: VirtAddr): readonly number[] {
  const { vm } = vma.mm;
  const { pages } = vm;
  const policy = vm.nrPolicies === 0 ? null : (vmaPolicyAt(vma, address) ?? vm.taskPolicy.policy);
  if (policy === null || policy.nodes.nodes.length === 0) return pages.nodes[localNode(vm)].fallbackOrder;
  const { nodes } = policy.nodes;
  if (policy.mode === MPOL_BIND) return pages.nodes[localNode(vm)].fallbackOrder.filter((nid) => policy.nodes.has(nid));
  const turn = Math.floor((address - vma.start) / vm.tables.pmdSize) % nodes.length;
  return pages.nodes[nodes[turn]].fallbackOrder;
}

/** @linux mm/hugetlb.c:dequeue_hugetlb_folio_nodemask */
function dequeue({ hugetlb }: Vm, nids: readonly number[]): Pfn {
  for (const nid of nids) {
    const head = hugetlb.nodes[nid].free.pop();
    if (head === undefined) continue;
    hugetlb.freeHugePages--;
    return head;
  }
  return -1;
}

/** Whether nobody but the pool has a page. */
export function isFreeHugetlb({ frames, hugetlb, pages }: Vm, head: Pfn): boolean {
  return frames.refcount[head] === 1 && hugetlb.nodes[pages.nodeOf(head)].free.includes(head);
}

/**
 * Gives a free page up for good, unless it is promised: the page allocator has it then.
 *
 * @returns whether it did
 * @linux mm/hugetlb.c:dissolve_free_hugetlb_folio
 */
export function dissolveFreeHugetlb(vm: Vm, head: Pfn): boolean {
  const { hugetlb } = vm;
  const nid = vm.pages.nodeOf(head);
  const node = hugetlb.nodes[nid];
  const at = node.free.indexOf(head);
  if (at < 0 || hugetlb.freeHugePages === hugetlb.resvHugePages) return false;
  node.free.splice(at, 1);
  hugetlb.freeHugePages--;
  if (node.surplus > 0) {
    node.surplus--;
    hugetlb.surplusHugePages--;
  }
  leavePool(vm, head, nid);
  return true;
}

/**
 * A page for what another of the pool holds, without a reference beside the pool's: a free one that is not promised, or a new one.
 *
 * @returns −ENOMEM where there is none
 * @linux mm/hugetlb.c:alloc_hugetlb_folio_nodemask
 */
export function takeHugetlbTarget(vm: Vm, nid: number): Pfn {
  const { hugetlb, pages } = vm;
  const nids = pages.nodes[nid].fallbackOrder;
  if (hugetlb.freeHugePages - hugetlb.resvHugePages > 0) return dequeue(vm, nids);
  const head = nids.reduce((found, each) => (found >= 0 ? found : growPool(vm, each)), -1);
  if (head < 0) return -Errno.ENOMEM;
  return dequeue(vm, [pages.nodeOf(head)]);
}

/** Drops a reference to a page of the pool; without any but the pool's it is free again. */
export function putHugetlbPage(vm: Vm, head: Pfn): void {
  const left = --vm.frames.refcount[head];
  bugOn(left < 1, 'hugetlb: a page of the pool is put too often');
  if (left === 1) freeHugetlbPage(vm, head);
}

/** @linux mm/hugetlb.c:free_huge_folio */
function freeHugetlbPage(vm: Vm, head: Pfn): void {
  const { hugetlb, frames } = vm;
  const nid = vm.pages.nodeOf(head);
  const node = hugetlb.nodes[nid];
  frames.flags[head] &= PG_HEAD | PG_HUGETLB;
  frames.mapping[head] = 0;
  frames.index[head] = 0;
  vm.pages.modNodeState(head, NODE_STAT.NR_HUGETLB, -vm.tables.ptrsPerPte);
  if (node.surplus > 0) {
    node.surplus--;
    hugetlb.surplusHugePages--;
    leavePool(vm, head, nid);
  } else enqueue(vm, head, nid);
}

/** Drops the references of entries that were cleared, once nobody can reach the pages by them. */
export function putUnmappedHugetlb(vm: Vm): void {
  const { unmapped } = vm.hugetlb;
  for (const head of unmapped) putHugetlbPage(vm, head);
  unmapped.length = 0;
}
