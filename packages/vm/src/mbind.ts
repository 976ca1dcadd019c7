/**
 * Policies of mappings, and moving what lies on the wrong node.
 *
 * @linux mm/mempolicy.c
 */
import { Errno, MPOL_BIND, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL, MPOL_MF_STRICT, MPOL_PREFERRED_MANY, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import type { NodeMask} from '@pagelab/mm-core';
import {
  GFP_HIGHUSER_MOVABLE,
  GFP_TRANSHUGE,
  MIGRATE_SYNC,
  MR_MEMPOLICY_MBIND,
  MR_SYSCALL,
  PG_TAIL,
  __GFP_NORETRY,
  __GFP_NOWARN,
  __GFP_THISNODE,
} from '@pagelab/mm-core';
import type { GetNewPage } from '@pagelab/mm-core';
import { allocByPolicy, localNode, mpolDup, mpolEqual, mpolFree } from './mempolicy.ts';
import type { MemPolicy } from './mempolicy.ts';
import { isolateMovable, migratePages, putbackMovablePages } from './migrate.ts';
import type { MmStruct } from './mm-struct.ts';
import { pageAlign, rangeEnd, rangeWraps } from './page-align.ts';
import { entryHi } from './pgtable-shape.ts';
import { PteTableWalk } from './pgtable.ts';
import { PTE_MAPS, PTE_SPECIAL, pfnOf } from './pte.ts';
import { linearPageIndex, pageMappings } from './rmap.ts';
import { setSharedPolicy } from './shared-policy.ts';
import type { Vm } from './vm.ts';
import { vmaModify } from './vma-merge.ts';
import { VM_IO, VM_PFNMAP } from './vma.ts';
import type { VmArea } from './vma.ts';

const NOT_ALL_MAPPED = -Errno.EFAULT;

/**
 * Gives the mappings in [start, start + length) a policy, and may move their pages to where it wants them.
 *
 * @param policy `null` for none; the caller's still
 * @param nodes the nodes that were named, which pages have to lie on
 * @param flags MPOL_MF_ bits
 * @returns 0; −EFAULT for a hole; −EIO where pages do not lie as they should; −ENOMEM
 * @linux mm/mempolicy.c:do_mbind
 */
export function doMbind(mm: MmStruct, start: VirtAddr, end: VirtAddr, policy: MemPolicy | null, nodes: NodeMask, flags: number): number {
  const { vm } = mm;
  const queue = new Set<Pfn>();
  const queued = queuePages(mm, start, end, (nid) => !nodes.has(nid), flags, policy === null, queue);
  const found = [...queue];
  if (queued < 0) {
    putbackMovablePages(vm, found);
    return queued;
  }
  let failed = queued;
  let error = 0;
  for (let at = start; at < end; ) {
    const vma = mm.vmas.find(at);
    if (vma === undefined || vma.start >= end) break;
    const changed = setVmaPolicy(vma, Math.max(at, vma.start), Math.min(end, vma.end), policy);
    if (typeof changed === 'number') {
      error = changed;
      break;
    }
    at = changed.end;
  }
  if (error === 0 && found.length > 0) {
    migratePages(vm, found, targetByPolicy(vm, policy), MIGRATE_SYNC, MR_MEMPOLICY_MBIND);
    failed += found.length;
  }
  putbackMovablePages(vm, found);
  if (error !== 0) return error;
  return failed > 0 && (flags & MPOL_MF_STRICT) !== 0 ? -Errno.EIO : 0;
}

/** Pages go where a fault would have taken them. @linux mm/mempolicy.c:alloc_migration_target_by_mpol */
function targetByPolicy(vm: Vm, policy: MemPolicy | null): GetNewPage {
  return (from, order) => {
    const gfp = order > 0 ? GFP_TRANSHUGE : GFP_HIGHUSER_MOVABLE;
    if (policy === null) return vm.pages.allocPagesNode(localNode(vm), gfp, order);
    const turn = Math.floor(vm.frames.index[from] / 2 ** order);
    return allocByPolicy(vm, policy, gfp, order, turn);
  };
}

/** Gives a part of a mapping a copy of a policy. @returns the mapping that holds it now; −ENOMEM @linux mm/mempolicy.c:mbind_range */
function setVmaPolicy(vma: VmArea, start: VirtAddr, end: VirtAddr, policy: MemPolicy | null): VmArea | number {
  const { vm } = vma.mm;
  if (mpolEqual(vma.policy, policy)) return vma;
  const changed = vmaModify(vma, start, end, vma.flags, policy);
  if (typeof changed === 'number') return changed;
  const { file } = changed;
  if (file !== null && file.inode.mapping.ops.swapBacked) {
    const first = linearPageIndex(changed, start);
    const error = setSharedPolicy(vm, file.inode, first, first + (end - start) / PAGE_SIZE, policy);
    if (error !== 0) return error;
  }
  if (mpolEqual(changed.policy, policy)) return changed;
  const own = policy === null ? null : mpolDup(vm, policy);
  if (typeof own === 'number') return own;
  if (changed.policy !== null) mpolFree(vm, changed.policy);
  changed.policy = own;
  return changed;
}

/**
 * Finds pages of [start, end) on nodes that are wrong, and isolates those that may be moved.
 *
 * @param holesOk whether what is not mapped is passed over
 * @returns how many are wrong and cannot be moved; −EFAULT, −EIO
 * @linux mm/mempolicy.c:queue_pages_range
 */
function queuePages(
  mm: MmStruct,
  start: VirtAddr,
  end: VirtAddr,
  wrong: (nid: number) => boolean,
  flags: number,
  holesOk: boolean,
  found: Set<Pfn>,
): number {
  let failed = 0;
  let at = start;
  let any = false;
  while (at < end) {
    const vma = mm.vmas.find(at);
    if (vma === undefined || vma.start >= end) break;
    if (vma.start > at && !holesOk) return NOT_ALL_MAPPED;
    any = true;
    const last = Math.min(end, vma.end);
    if (!holesOk && vma.end < end && mm.vmas.get(vma.end) === undefined) return NOT_ALL_MAPPED;
    if ((flags & (MPOL_MF_STRICT | MPOL_MF_MOVE | MPOL_MF_MOVE_ALL)) !== 0 && (isMigratable(vma) || (flags & MPOL_MF_STRICT) !== 0)) {
      failed += queueVma(vma, Math.max(at, vma.start), last, wrong, flags, found);
      if (failed > 0 && isStrictOnly(flags)) return -Errno.EIO;
    }
    at = vma.end;
  }
  return any ? failed : NOT_ALL_MAPPED;
}

/** @linux mm/mempolicy.c:strictly_unmovable */
function isStrictOnly(flags: number): boolean {
  return (flags & (MPOL_MF_STRICT | MPOL_MF_MOVE | MPOL_MF_MOVE_ALL)) === MPOL_MF_STRICT;
}

/** @linux mm/mempolicy.c:vma_migratable */
function isMigratable(vma: VmArea): boolean {
  return (vma.flags & (VM_IO | VM_PFNMAP)) === 0;
}

/** @linux mm/mempolicy.c:queue_folios_pte_range */
function queueVma(vma: VmArea, start: VirtAddr, end: VirtAddr, wrong: (nid: number) => boolean, flags: number, found: Set<Pfn>): number {
  const { mm } = vma;
  const { vm } = mm;
  const { i32 } = vm.ram;
  const { next, flags: pageFlags } = vm.frames;
  const moves = (flags & (MPOL_MF_MOVE | MPOL_MF_MOVE_ALL)) !== 0 && isMigratable(vma);
  let failed = 0;
  let last: Pfn = -1;
  const walk = new PteTableWalk(mm, start, end);
  while (walk.next()) {
    const { huge } = walk;
    for (let i = 0; i < (huge ? 1 : walk.count); i++) {
      const entry = huge ? walk.pmdEntry : walk.entry + i * walk.step;
      const lo = i32[entry];
      if ((lo & PTE_MAPS) === 0 || (lo & PTE_SPECIAL) !== 0) continue;
      let pfn = pfnOf(lo, entryHi(i32, entry, walk.step));
      if ((pageFlags[pfn] & PG_TAIL) !== 0) pfn = next[pfn];
      if (pfn === last || !wrong(vm.pages.nodeOf(pfn))) continue;
      last = pfn;
      if (!moves) failed++;
      else if ((flags & MPOL_MF_MOVE_ALL) !== 0 || !isShared(vm, pfn)) {
        if (found.has(pfn)) continue;
        if (isolateMovable(vm, pfn)) found.add(pfn);
        else failed++;
      }
    }
  }
  return failed;
}

/** Whether more address spaces than one map a page. @linux include/linux/mm.h:folio_maybe_mapped_shared */
export function isShared(vm: Vm, pfn: Pfn): boolean {
  if (vm.frames.mapcount[pfn] <= 1) return false;
  const [first, ...others] = pageMappings(vm, pfn);
  return others.some(({ mm }) => mm !== first.mm);
}

/**
 * Sets the node to look first on, of mappings whose policy names several.
 *
 * @returns 0; −ENOENT where no mapping has a policy; −EOPNOTSUPP for one that has no use for it; −ENOMEM
 * @linux mm/mempolicy.c:sys_set_mempolicy_home_node
 */
export function setHomeNode(mm: MmStruct, start: VirtAddr, end: VirtAddr, homeNode: number): number {
  const { vm } = mm;
  // No mapping has addresses of the kernel's, which are negative.
  if (start < 0) return -Errno.ENOENT;
  let result = -Errno.ENOENT;
  for (let at = start; at < end; ) {
    const vma = mm.vmas.find(at);
    if (vma === undefined || vma.start >= end) break;
    at = vma.end;
    const old = vma.policy;
    if (old === null) continue;
    if (old.mode !== MPOL_BIND && old.mode !== MPOL_PREFERRED_MANY) return -Errno.EOPNOTSUPP;
    const policy = mpolDup(vm, old, homeNode);
    if (typeof policy === 'number') return policy;
    const changed = setVmaPolicy(vma, Math.max(start, vma.start), Math.min(end, vma.end), policy);
    mpolFree(vm, policy);
    if (typeof changed === 'number') return changed;
    at = changed.end;
    result = 0;
  }
  return result;
}

/**
 * Moves an address space's pages from nodes to others, the nth to the nth.
 *
 * @param flags MPOL_MF_MOVE, or MPOL_MF_MOVE_ALL
 * @returns how many could not be moved; −errno
 * @linux mm/mempolicy.c:do_migrate_pages
 */
export function doMigratePages(mm: MmStruct, from: NodeMask, to: NodeMask, flags: number): number {
  const left = new Set(from.nodes);
  let failed = 0;
  while (left.size > 0) {
    let source = -1;
    let target = 0;
    for (const nid of left) {
      if (from.nodes.length !== to.nodes.length && to.has(nid)) continue;
      const goal = to.nodes[from.nodes.indexOf(nid) % to.nodes.length];
      if (goal === nid) continue;
      source = nid;
      target = goal;
      // Nodes are filled before they are emptied only where there is no other way.
      if (!left.has(goal)) break;
    }
    if (source < 0) break;
    left.delete(source);
    const result = migrateToNode(mm, source, target, flags);
    if (result < 0) return result;
    failed += result;
  }
  return failed;
}

/** @linux mm/mempolicy.c:migrate_to_node */
function migrateToNode(mm: MmStruct, source: number, target: number, flags: number): number {
  const { vm } = mm;
  const queue = new Set<Pfn>();
  let failed = queuePages(mm, 0, mm.taskSize, (nid) => nid === source, flags, true, queue);
  const found = [...queue];
  if (found.length > 0) migratePages(vm, found, targetOnNode(vm, target), MIGRATE_SYNC, MR_SYSCALL);
  failed += found.length;
  putbackMovablePages(vm, found);
  return failed;
}

/** Pages go to one node and no other. @linux mm/migrate.c:alloc_migration_target */
export function targetOnNode(vm: Vm, nid: number): GetNewPage {
  return (_, order) => {
    const gfp = order > 0 ? GFP_TRANSHUGE | __GFP_NORETRY : GFP_HIGHUSER_MOVABLE;
    return vm.pages.allocPagesNode(nid, gfp | __GFP_THISNODE | __GFP_NOWARN, order);
  };
}

/**
 * Moves the page at an address to a node.
 *
 * @param isolated pages that are to go to that node are added here
 * @returns 1 where it is among them now; 0 where it lies on that node already; −errno: EFAULT, ENOENT, EACCES, EBUSY
 * @linux mm/migrate.c:add_folio_for_migration
 */
export function queuePageForMove(mm: MmStruct, address: VirtAddr, nid: number, flags: number, isolated: Pfn[]): number {
  const { vm } = mm;
  const page = pageForMove(mm, address);
  if (page < 0) return page;
  if (vm.pages.nodeOf(page) === nid) return 0;
  if ((flags & MPOL_MF_MOVE_ALL) === 0 && isShared(vm, page)) return -Errno.EACCES;
  if (isolated.includes(page)) return 1;
  if (!isolateMovable(vm, page)) return -Errno.EBUSY;
  isolated.push(page);
  return 1;
}

/** The page, or head of it, that an address shows; −EFAULT for none that can be told of, −ENOENT where nothing is there. */
function pageForMove(mm: MmStruct, address: VirtAddr): Pfn {
  const { vm } = mm;
  const start = Math.floor(address / PAGE_SIZE) * PAGE_SIZE;
  const vma = start < 0 ? undefined : mm.vmas.get(start);
  if (vma === undefined || !isMigratable(vma)) return -Errno.EFAULT;
  const walk = new PteTableWalk(mm, start, start + PAGE_SIZE);
  if (!walk.next()) return -Errno.ENOENT;
  const entry = walk.huge ? walk.pmdEntry : walk.entry;
  const lo = vm.ram.i32[entry];
  if ((lo & PTE_MAPS) === 0) return -Errno.ENOENT;
  if ((lo & PTE_SPECIAL) !== 0) return -Errno.EFAULT;
  const pfn = pfnOf(lo, entryHi(vm.ram.i32, entry, walk.step));
  return (vm.frames.flags[pfn] & PG_TAIL) !== 0 ? vm.frames.next[pfn] : pfn;
}

/** The node of the page at an address; −EFAULT, −ENOENT. @linux mm/migrate.c:do_pages_stat_array */
export function nodeOfPageAt(mm: MmStruct, address: VirtAddr): number {
  const page = pageForMove(mm, address);
  return page < 0 ? page : mm.vm.pages.nodeOf(page);
}

/** A range of whole pages of `mbind` and its like: its end, or −EINVAL. */
export function policyRangeEnd({ registerRange }: MmStruct, start: VirtAddr, length: number): number {
  if (start % PAGE_SIZE !== 0) return -Errno.EINVAL;
  const bytes = pageAlign(length);
  if (bytes === 0) return start;
  return rangeWraps(registerRange, start, bytes) ? -Errno.EINVAL : rangeEnd(start, bytes);
}
