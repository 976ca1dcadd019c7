import { CAP_SYS_NICE, Errno, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { NodeMask } from '@pagelab/mm-core';
import {
  MIGRATE_SYNC,
  MR_SYSCALL,
  doMigratePages,
  migratePages,
  nodeOfPageAt,
  currentMemsAllowed,
  nodesWithMemory,
  putbackMovablePages,
  queuePageForMove,
  targetOnNode,
} from '@pagelab/vm';
import { flagMask, flagTable } from './flag-table.ts';
import { MAX_NUMNODES, getNodes } from './node-masks.ts';
import { int32, unsigned } from './registers.ts';
import { mayReach } from './sys-process-vm.ts';
import type { TaskContext } from './task-context.ts';
import { getUser, putUser, putValue } from './user-access.ts';
import { encodeInt, wordAt } from './user-struct.ts';

export const MOVE_PAGES_FLAGS = flagTable('move_pages', 'flags', 'bits', { MPOL_MF_MOVE, MPOL_MF_MOVE_ALL });
const MOVE_MASK = flagMask(MOVE_PAGES_FLAGS);

/** A process to look into; −ESRCH, −EPERM. */
function processOf(task: TaskContext, pid: number): TaskContext | number {
  if (int32(pid) === 0) return task;
  const target = task.findTask(int32(pid));
  if (target === undefined) return -Errno.ESRCH;
  return mayReach(task, target) ? target : -Errno.EPERM;
}

/**
 * Moves all of a process's pages from nodes to others.
 *
 * @returns how many could not be moved, or -errno: EINVAL, EFAULT, ESRCH, EPERM, ENOMEM
 * @linux mm/mempolicy.c:migrate_pages
 */
export function sysMigratePages(task: TaskContext, pid: number, maxnode: number, oldNodes: number, newNodes: number): number {
  const from = getNodes(task, oldNodes, maxnode);
  if (typeof from === 'number') return from;
  const to = getNodes(task, newNodes, maxnode);
  if (typeof to === 'number') return to;
  const target = processOf(task, pid);
  if (typeof target === 'number') return target;
  const theirs = target.memsAllowed ?? nodesWithMemory(task.vm);
  const privileged = task.capable(CAP_SYS_NICE);
  if (!privileged && to.nodes.some((nid) => !theirs.has(nid))) return -Errno.EPERM;
  const mine = currentMemsAllowed(task.vm);
  const usable = new NodeMask(to.nodes.filter((nid) => mine.has(nid)));
  if (usable.nodes.length === 0) return -Errno.EINVAL;
  return doMigratePages(target.mm, from, usable, privileged ? MPOL_MF_MOVE_ALL : MPOL_MF_MOVE);
}

/**
 * Moves pages of a process each to a node, or, without `nodes`, tells where they lie. What came of each is stored in
 * `status`: its node, or −errno.
 *
 * @returns 0; how many could not be moved; or -errno: EINVAL, EPERM, ESRCH, EFAULT, ENODEV, EACCES
 * @linux mm/migrate.c:move_pages
 */
export function sysMovePages(task: TaskContext, pid: number, nrPages: number, pages: number, nodes: number, status: number, flags: number): number {
  const bits = int32(flags);
  if ((bits & ~MOVE_MASK) !== 0) return -Errno.EINVAL;
  if ((bits & MPOL_MF_MOVE_ALL) !== 0 && !task.capable(CAP_SYS_NICE)) return -Errno.EPERM;
  const target = processOf(task, pid);
  if (typeof target === 'number') return target;
  return nodes === 0 ? tellPages(task, target, nrPages, pages, status) : movePages(task, target, nrPages, { pages, nodes, status }, bits);
}

/** @linux mm/migrate.c:do_pages_stat */
function tellPages(task: TaskContext, target: TaskContext, nrPages: number, pages: number, status: number): number {
  const count = unsigned(nrPages);
  for (let i = 0; i < count; i++) {
    const bytes = getUser(task, pages + i * 8, 8);
    if (typeof bytes === 'number') return -Errno.EFAULT;
    if (putUser(task, status + i * 4, encodeInt(nodeOfPageAt(target.mm, wordAt(bytes, 0)))) < 0) return -Errno.EFAULT;
  }
  return 0;
}

/** Addresses of the arrays. */
interface Arrays {
  readonly pages: number;
  readonly nodes: number;
  readonly status: number;
}

/** Pages in a row that go to one node move together. @linux mm/migrate.c:do_pages_move */
function movePages(task: TaskContext, target: TaskContext, given: number, { pages, nodes, status }: Arrays, flags: number): number {
  const { vm } = task;
  const nrPages = unsigned(given);
  const there = nodesWithMemory(vm);
  const list: Pfn[] = [];
  let goal = -1;
  let first = 0;
  const store = (from: number, to: number, value: number): number => {
    for (let i = from; i < to; i++) if (putValue(task, status + i * 4, encodeInt(value)) < 0) return -Errno.EFAULT;
    return 0;
  };
  /** Moves what has been collected, of the pages from `first` up to `to`. */
  const flush = (to: number): number => {
    if (list.length === 0) return 0;
    migratePages(vm, list, targetOnNode(vm, goal), MIGRATE_SYNC, MR_SYSCALL);
    const failed = list.length;
    putbackMovablePages(vm, list);
    return failed > 0 ? failed : store(first, to, goal);
  };
  for (let i = 0; i < nrPages; i++) {
    const address = getUser(task, pages + i * 8, 8);
    const node = typeof address === 'number' ? address : getUser(task, nodes + i * 4, 4);
    let error = 0;
    let nid = 0;
    if (typeof node === 'number') error = -Errno.EFAULT;
    else {
      nid = new DataView(node.buffer, node.byteOffset).getInt32(0, true);
      if (nid < 0 || nid >= MAX_NUMNODES || !there.has(nid)) error = -Errno.ENODEV;
      else if (target.memsAllowed?.has(nid) === false) error = -Errno.EACCES;
    }
    if (error !== 0) {
      const left = flush(i);
      return left < 0 ? left : left > 0 ? left + nrPages - i : error;
    }
    if (nid !== goal) {
      const left = flush(i);
      if (left !== 0) return left > 0 ? left + nrPages - i : left;
      goal = nid;
      first = i;
    }
    const queued = queuePageForMove(target.mm, wordAt(address as Uint8Array, 0), nid, flags, list);
    if (queued === 1) continue;
    const left = flush(i);
    if (left !== 0) return left > 0 ? left + nrPages - i : left;
    if (store(i, i + 1, queued === 0 ? nid : queued) < 0) return -Errno.EFAULT;
    first = i + 1;
  }
  return flush(nrPages);
}
