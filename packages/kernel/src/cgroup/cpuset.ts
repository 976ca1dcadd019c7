/**
 * The cpuset controller, as far as memory goes: which nodes the processes of a group may take pages from.
 *
 *     effectiveMems === mems ∩ the parent's effectiveMems, or the latter where that is empty
 *
 * @linux kernel/cgroup/cpuset.c
 */
import { Errno, MPOL_MF_MOVE_ALL } from '@pagelab/abi';
import { NodeMask } from '@pagelab/mm-core';
import { doMigratePages, mpolRebind, mpolRebindMm, nodesWithMemory } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import type { Process } from '../process.ts';
import { cgroupDescendants, effectiveCpusetGroup } from './cgroup.ts';
import type { Cgroup } from './cgroup.ts';

/** A group's. @linux kernel/cgroup/cpuset-internal.h:cpuset */
export interface Cpuset {
  /** As they were written; empty is the parent's. Ascending. */
  mems: readonly number[];
  effectiveMems: readonly number[];
}

/** Nodes of the whole machine. */
export function topMems(kernel: Kernel): readonly number[] {
  return nodesWithMemory(kernel.vm).nodes;
}

/** What a group hands down. @linux kernel/cgroup/cpuset.c:guarantee_online_mems */
export function effectiveMems(kernel: Kernel, cgroup: Cgroup): readonly number[] {
  return effectiveCpusetGroup(cgroup).cpuset?.effectiveMems ?? topMems(kernel);
}

/**
 * Reads a list of numbers: `0-2,5`, `0-7:1/2`.
 *
 * @returns them, ascending; −EINVAL
 * @linux lib/bitmap-str.c:bitmap_parselist
 */
export function parseNodeList(text: string): number[] | number {
  const numbers = new Set<number>();
  for (const part of text.trim().split(/[,\s]+/)) {
    if (part === '') continue;
    const match = /^(\d+)(?:-(\d+)(?::(\d+)\/(\d+))?)?$/.exec(part);
    if (match === null) return -Errno.EINVAL;
    const first = Number(match[1]);
    const last = match[2] === undefined ? first : Number(match[2]);
    const used = match[3] === undefined ? 1 : Number(match[3]);
    const group = match[4] === undefined ? 1 : Number(match[4]);
    if (last < first || used === 0 || group === 0 || used > group) return -Errno.EINVAL;
    for (let each = first; each <= last && each < 1024; each++) if ((each - first) % group < used) numbers.add(each);
    if (last >= 1024) return -Errno.ERANGE;
  }
  return [...numbers].sort((a, b) => a - b);
}

/**
 * Sets the nodes of a group. Pages of its processes that lie elsewhere move there.
 *
 * @returns 0; −EINVAL for what is no list, or names nodes that there are not
 * @linux kernel/cgroup/cpuset.c:update_nodemask
 */
export function writeCpusetMems(kernel: Kernel, cgroup: Cgroup, text: string): number {
  const mems = parseNodeList(text);
  if (typeof mems === 'number') return mems;
  const top = topMems(kernel);
  if (mems.some((nid) => !top.includes(nid))) return -Errno.EINVAL;
  cgroup.cpuset!.mems = mems;
  updateHierarchy(kernel, cgroup);
  return 0;
}

/** @linux kernel/cgroup/cpuset.c:update_nodemasks_hier */
function updateHierarchy(kernel: Kernel, cgroup: Cgroup): void {
  for (const each of cgroupDescendants(cgroup)) {
    const { cpuset } = each;
    if (cpuset !== null) {
      const above = effectiveMems(kernel, each.parent!);
      const both = cpuset.mems.filter((nid) => above.includes(nid));
      cpuset.effectiveMems = both.length > 0 ? both : above;
    }
    for (const process of each.processes) rebindCpusets(kernel, process);
  }
}

/** A process's tasks take pages from their group's nodes from now on, and what lies elsewhere comes along; their policies mean those nodes. @linux kernel/cgroup/cpuset.c:cpuset_update_tasks_nodemask */
export function rebindCpusets(kernel: Kernel, process: Process): void {
  const mems = effectiveMems(kernel, process.cgroup);
  const all = topMems(kernel);
  const mask = mems.length === all.length ? null : new NodeMask(mems);
  for (const thread of process.threads) {
    if (thread.memsAllowed?.key === mask?.key) continue;
    const before = thread.memsAllowed?.nodes ?? all;
    thread.memsAllowed = mask;
    if (kernel.current === thread) kernel.pages.setMemsAllowed(mask);
    mpolRebind(thread.memPolicy.policy, mask ?? nodesWithMemory(kernel.vm));
    if (thread !== process.leader || process.mm === null) continue;
    mpolRebindMm(process.mm, mask ?? nodesWithMemory(kernel.vm));
    if (before.every((nid) => mems.includes(nid))) continue;
    doMigratePages(process.mm, new NodeMask(before), new NodeMask(mems), MPOL_MF_MOVE_ALL);
  }
}
