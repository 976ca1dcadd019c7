/**
 * Control groups, version 2: a tree of groups that processes are in, each in one. What a group controls of them is its
 * *controllers'*: of memory, and of nodes (cpuset). A group has a controller where its parent hands it down.
 *
 *     every process is in one group; a group that hands a controller of memory down has none itself, the root aside
 *
 * Threads of a process are in one group together: threaded groups are not there.
 *
 * @linux kernel/cgroup/cgroup.c
 */
import { Errno, SIGKILL } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { descendants } from '@pagelab/vm';
import type { MemCgroup } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';
import type { Process } from '../process.ts';
import { endBySignal, sendSignal } from '../signals.ts';
import { rebindCpusets } from './cpuset.ts';
import type { Cpuset } from './cpuset.ts';
import { createMemcg, removeMemcg } from './memory-controller.ts';

/** What can be handed down, in the order in which Linux names them. */
export const CONTROLLERS = ['cpuset', 'memory'] as const;
export type Controller = (typeof CONTROLLERS)[number];

/** Bytes of `struct cgroup`, with one ancestor. @linux include/linux/cgroup-defs.h:cgroup */
const CGROUP_BYTES = 2048;

/** A group. @linux include/linux/cgroup-defs.h:cgroup */
export class Cgroup {
  readonly name: string;
  /** `null` for the root. */
  readonly parent: Cgroup | null;
  readonly children = new Map<string, Cgroup>();
  /** In the order in which they came. */
  readonly processes = new Set<Process>();
  /** What its children have. */
  readonly subtreeControl = new Set<Controller>();
  /** Its memory controller and cpuset; `null` where its parent does not hand them down, and for the root. */
  memcg: MemCgroup | null = null;
  cpuset: Cpuset | null = null;
  /** How deep, and how many, groups may be made below it; `Infinity` is `max`. */
  maxDepth = Infinity;
  maxDescendants = Infinity;
  isDead = false;
  /** Address of what stands for it in kernel memory; 0 for the root, which is part of the image. */
  object: VirtAddr = 0;

  constructor(name: string, parent: Cgroup | null) {
    this.name = name;
    this.parent = parent;
  }

  /** From the mount point on. @linux kernel/cgroup/cgroup.c:cgroup_path */
  get path(): string {
    if (this.parent === null) return '/';
    const above = this.parent.path;
    return above === '/' ? `/${this.name}` : `${above}/${this.name}`;
  }

  /** Whether a process is in it or below. */
  get isPopulated(): boolean {
    if (this.processes.size > 0) return true;
    for (const child of this.children.values()) if (child.isPopulated) return true;
    return false;
  }

  /** Groups below it. */
  get nrDescendants(): number {
    let count = this.children.size;
    for (const child of this.children.values()) count += child.nrDescendants;
    return count;
  }
}

/** A group and all below it, parents first. */
export function* cgroupDescendants(cgroup: Cgroup): Generator<Cgroup> {
  yield cgroup;
  for (const child of cgroup.children.values()) yield* cgroupDescendants(child);
}

/** The group whose memory controller a group's processes are charged by; `null` for the root. @linux kernel/cgroup/cgroup.c:cgroup_e_css */
export function effectiveMemcg(cgroup: Cgroup): MemCgroup | null {
  for (let each: Cgroup | null = cgroup; each !== null; each = each.parent) if (each.memcg !== null) return each.memcg;
  return null;
}

/** The group whose cpuset a group's processes are held to; the root where there is none. */
export function effectiveCpusetGroup(cgroup: Cgroup): Cgroup {
  let each = cgroup;
  while (each.cpuset === null && each.parent !== null) each = each.parent;
  return each;
}

/** Makes a group. @returns 0 or −errno @linux kernel/cgroup/cgroup.c:cgroup_mkdir */
export function cgroupMkdir(kernel: Kernel, parent: Cgroup, name: string): number {
  if (name.includes('\n')) return -Errno.EINVAL;
  if (parent.children.has(name)) return -Errno.EEXIST;
  let level = 1;
  for (let each: Cgroup | null = parent; each !== null; each = each.parent, level++) {
    if (each.nrDescendants >= each.maxDescendants || level > each.maxDepth) return -Errno.EAGAIN;
  }
  const cgroup = new Cgroup(name, parent);
  cgroup.object = kernel.slab.kmalloc(CGROUP_BYTES, GFP_KERNEL);
  if (cgroup.object === 0) return -Errno.ENOMEM;
  parent.children.set(name, cgroup);
  for (const controller of CONTROLLERS) {
    if (!parent.subtreeControl.has(controller)) continue;
    const error = addController(kernel, cgroup, controller);
    if (error === 0) continue;
    cgroupRmdir(kernel, cgroup);
    return error;
  }
  return 0;
}

/** Removes a group without processes and groups. Memory may be charged to it still. @returns 0 or −errno @linux kernel/cgroup/cgroup.c:cgroup_destroy_locked */
export function cgroupRmdir(kernel: Kernel, cgroup: Cgroup): number {
  const { parent } = cgroup;
  if (parent === null || cgroup.processes.size > 0 || cgroup.children.size > 0) return -Errno.EBUSY;
  for (const controller of CONTROLLERS) removeController(kernel, cgroup, controller);
  parent.children.delete(cgroup.name);
  cgroup.isDead = true;
  kernel.slab.kfree(cgroup.object);
  cgroup.object = 0;
  return 0;
}

/**
 * Puts a process, with all its threads, into a group. What it has in memory stays charged where it is.
 *
 * @returns 0; −EBUSY for a group that hands its memory on; −ENODEV for one that is gone
 * @linux kernel/cgroup/cgroup.c:cgroup_attach_task, cgroup_migrate_vet_dst
 */
export function cgroupAttach(kernel: Kernel, process: Process, cgroup: Cgroup): number {
  if (cgroup.isDead) return -Errno.ENODEV;
  if (!mayHaveProcesses(cgroup)) return -Errno.EBUSY;
  if (process.cgroup === cgroup) return 0;
  process.cgroup.processes.delete(process);
  cgroup.processes.add(process);
  process.cgroup = cgroup;
  noteMembership(kernel, process);
  return 0;
}

/** Whether processes can be in a group: not where it hands its memory on. @linux kernel/cgroup/cgroup.c:cgroup_migrate_vet_dst */
export function mayHaveProcesses(cgroup: Cgroup): boolean {
  return cgroup.parent === null || canBeThreadRoot(cgroup) || cgroup.subtreeControl.size === 0;
}

/** Whether only controllers that could tell threads apart are handed down. @linux kernel/cgroup/cgroup.c:cgroup_can_be_thread_root */
function canBeThreadRoot(cgroup: Cgroup): boolean {
  for (const child of cgroup.children.values()) if (child.isPopulated) return false;
  return !cgroup.subtreeControl.has('memory');
}

/** A process is charged, and held, by its group's controllers from now on. @linux mm/memcontrol.c:mem_cgroup_attach */
export function noteMembership(kernel: Kernel, process: Process): void {
  const memcg = effectiveMemcg(process.cgroup);
  if (process.mm !== null) process.mm.memcg = memcg;
  const { memcgs } = kernel.vm;
  if (memcgs !== null) for (const thread of process.threads) thread.memcgTask.memcg = memcg ?? memcgs.root;
  rebindCpusets(kernel, process);
}

/** A process has ended. @linux kernel/cgroup/cgroup.c:cgroup_exit */
export function cgroupExit(process: Process): void {
  process.cgroup.processes.delete(process);
}

/**
 * Hands controllers down to a group's children, or takes them away.
 *
 * @param text `+memory -cpuset`
 * @returns 0; −EINVAL, −ENOENT for a controller that the group does not have; −EBUSY where a child hands it on, or the group
 *   has processes
 * @linux kernel/cgroup/cgroup.c:cgroup_subtree_control_write
 */
export function writeSubtreeControl(kernel: Kernel, cgroup: Cgroup, text: string): number {
  const enable = new Set<Controller>();
  const disable = new Set<Controller>();
  for (const token of text.trim().split(' ')) {
    if (token === '') continue;
    const controller = CONTROLLERS.find((name) => name === token.slice(1));
    if (controller === undefined) return -Errno.EINVAL;
    if (token.startsWith('+')) {
      enable.add(controller);
      disable.delete(controller);
    } else if (token.startsWith('-')) {
      disable.add(controller);
      enable.delete(controller);
    } else {
      return -Errno.EINVAL;
    }
  }
  for (const controller of CONTROLLERS) {
    if (enable.has(controller)) {
      if (cgroup.subtreeControl.has(controller)) enable.delete(controller);
      else if (cgroup.parent !== null && !cgroup.parent.subtreeControl.has(controller)) return -Errno.ENOENT;
    } else if (disable.has(controller)) {
      if (!cgroup.subtreeControl.has(controller)) disable.delete(controller);
      else for (const child of cgroup.children.values()) if (child.subtreeControl.has(controller)) return -Errno.EBUSY;
    }
  }
  if (enable.size > 0 && cgroup.parent !== null && cgroup.processes.size > 0) {
    if (enable.has('memory') || !canBeThreadRoot(cgroup)) return -Errno.EBUSY;
  }
  for (const controller of enable) {
    cgroup.subtreeControl.add(controller);
    for (const child of cgroup.children.values()) {
      const error = addController(kernel, child, controller);
      if (error !== 0) return error;
    }
  }
  for (const controller of disable) {
    cgroup.subtreeControl.delete(controller);
    for (const child of cgroup.children.values()) removeController(kernel, child, controller);
  }
  return 0;
}

/** A group gets a controller of its own. @linux kernel/cgroup/cgroup.c:css_create */
function addController(kernel: Kernel, cgroup: Cgroup, controller: Controller): number {
  if (controller === 'cpuset') {
    cgroup.cpuset = { mems: [], effectiveMems: [...kernel.cgroups.effectiveMems(cgroup.parent!)] };
  } else {
    const memcg = createMemcg(kernel, effectiveMemcg(cgroup.parent!), cgroup.path);
    if (typeof memcg === 'number') return memcg;
    cgroup.memcg = memcg;
  }
  for (const each of cgroupDescendants(cgroup)) for (const process of each.processes) noteMembership(kernel, process);
  return 0;
}

/** Its parent's counts for it from now on. @linux kernel/cgroup/cgroup.c:kill_css */
function removeController(kernel: Kernel, cgroup: Cgroup, controller: Controller): void {
  const { memcg } = cgroup;
  if (controller === 'cpuset') cgroup.cpuset = null;
  else cgroup.memcg = null;
  for (const each of cgroupDescendants(cgroup)) for (const process of each.processes) noteMembership(kernel, process);
  if (controller === 'memory' && memcg !== null) removeMemcg(kernel, memcg);
}

/** Kills every process in a group and below. @linux kernel/cgroup/cgroup.c:cgroup_kill */
export function cgroupKill(kernel: Kernel, cgroup: Cgroup): void {
  for (const each of [...cgroupDescendants(cgroup)]) {
    for (const process of [...each.processes]) killProcess(kernel, process, '');
  }
}

/** Ends a process; the one that runs, on its way back to user mode. */
export function killProcess(kernel: Kernel, process: Process, why: string): void {
  if (kernel.current?.process === process) sendSignal(process, null, { signo: SIGKILL, code: 0, addr: 0, pid: 0 });
  else endBySignal(process, SIGKILL, why);
}

/** Groups below one that were removed and still own memory. */
export function nrDyingMemcgs(kernel: Kernel, cgroup: Cgroup): number {
  const memcg = cgroup.parent === null ? kernel.vm.memcgs?.root : cgroup.memcg;
  let dying = 0;
  if (memcg !== undefined && memcg !== null) for (const each of descendants(memcg)) if (!each.online) dying++;
  return dying;
}
