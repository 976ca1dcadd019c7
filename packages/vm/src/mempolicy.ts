/**
 * Memory policies: which node a page comes from.
 *
 * A task has a policy for all it allocates, and a mapping may have one of its own, which goes first. Each mapping holds a
 * policy object for itself, so that it can be split and merged like its flags: neighbours with equal policies are one.
 *
 *     vm.nrPolicies === policies that tasks, mappings and shared memory hold
 *
 * While there is none, an allocation costs one comparison more.
 *
 * @linux mm/mempolicy.c
 */
import {
  Errno,
  MPOL_BIND,
  MPOL_DEFAULT,
  MPOL_F_NUMA_BALANCING,
  MPOL_F_RELATIVE_NODES,
  MPOL_F_STATIC_NODES,
  MPOL_INTERLEAVE,
  MPOL_LOCAL,
  MPOL_PREFERRED,
  MPOL_PREFERRED_MANY,
  MPOL_WEIGHTED_INTERLEAVE,
  PAGE_SIZE,
} from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import {
  GFP_DMA,
  GFP_KERNEL,
  NodeMask,
  ZONE_STAT,
  __GFP_DIRECT_RECLAIM,
  __GFP_NOFAIL,
  __GFP_NORETRY,
  __GFP_NOWARN,
  __GFP_THISNODE,
} from '@pagelab/mm-core';
import type { AllocPolicy } from '@pagelab/mm-core';
import { sharedPolicyAt } from './shared-policy.ts';
import type { Vm } from './vm.ts';
import type { MmStruct } from './mm-struct.ts';
import type { VmArea } from './vma.ts';

/** Flags of a policy that a program sees. @linux include/uapi/linux/mempolicy.h:MPOL_MODE_FLAGS */
export const MPOL_MODE_FLAGS = MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES | MPOL_F_NUMA_BALANCING;

/** @linux include/linux/mempolicy.h:mempolicy */
export interface MemPolicy {
  /** `MPOL_…` */
  readonly mode: number;
  /** MPOL_F_ bits. */
  readonly flags: number;
  /** The nodes it names, as far as there are such nodes and its maker's cpuset has them: those of the cpuset, where that changes. */
  nodes: NodeMask;
  /** Those of the cpuset that `nodes` were taken from. @linux include/linux/mempolicy.h:mempolicy.w.cpuset_mems_allowed */
  memsAllowed: NodeMask;
  /** The nodes as the program gave them, where the mode keeps those. */
  readonly userNodes: NodeMask | null;
  /** Where to look first among them; −1 for the CPU's node. */
  readonly homeNode: number;
  /** Address of its object in the `numa_policy` cache. */
  object: VirtAddr;
}

/** What a task's policy has come to. Part of the task. */
export interface TaskPolicy {
  policy: MemPolicy | null;
  /** The node of the last page taken in turn. @linux include/linux/sched.h:task_struct.il_prev */
  ilPrev: number;
  /** Pages that the turn of that node still has. */
  ilWeight: number;
}

/** What no task's policy has come to. */
export function noTaskPolicy(): TaskPolicy {
  return { policy: null, ilPrev: 0, ilWeight: 0 };
}

const NO_NODES = new NodeMask([]);
/** Flags that say how nodes are named. */
const NODE_FLAGS = MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES;

/** Whether the nodes are kept as they were given. @linux mm/mempolicy.c:mpol_store_user_nodemask */
function keepsUserNodes(flags: number): boolean {
  return (flags & MPOL_MODE_FLAGS) !== 0;
}

/** Nodes that have memory. @linux include/linux/nodemask.h:node_states */
export function nodesWithMemory(vm: Vm): NodeMask {
  return (vm.memoryNodes ??= new NodeMask(vm.pages.nodes.filter(({ present }) => present > 0).map(({ nid }) => nid)));
}

/** Nodes that the running task may use: those of its cpuset. @linux include/linux/cpuset.h:cpuset_current_mems_allowed */
export function currentMemsAllowed(vm: Vm): NodeMask {
  return vm.pages.memsAllowed ?? nodesWithMemory(vm);
}

/**
 * Makes a policy for the running task.
 *
 * @param mode `MPOL_…`, known to be one
 * @param flags MPOL_F_ bits, known to fit the mode
 * @returns `null` for MPOL_DEFAULT; −EINVAL for nodes that do not suit the mode or are not there; −ENOMEM
 * @linux mm/mempolicy.c:mpol_new, mpol_set_nodemask
 */
export function mpolNew(vm: Vm, mode: number, flags: number, nodes: NodeMask): MemPolicy | null | number {
  const empty = nodes.nodes.length === 0;
  if (mode === MPOL_DEFAULT) return empty ? null : -Errno.EINVAL;
  let kept = mode;
  if (mode === MPOL_PREFERRED && empty) {
    if ((flags & NODE_FLAGS) !== 0) return -Errno.EINVAL;
    kept = MPOL_LOCAL;
  } else if (mode === MPOL_LOCAL) {
    if (!empty || (flags & NODE_FLAGS) !== 0) return -Errno.EINVAL;
  } else if (empty) return -Errno.EINVAL;
  let used = NO_NODES;
  const there = currentMemsAllowed(vm);
  if (kept !== MPOL_LOCAL) {
    used = (flags & MPOL_F_RELATIVE_NODES) !== 0 ? relativeNodes(nodes, there) : new NodeMask(nodes.nodes.filter((nid) => there.has(nid)));
    if (used.nodes.length === 0) return -Errno.EINVAL;
    if (kept === MPOL_PREFERRED) used = new NodeMask([used.nodes[0]]);
  }
  return allocPolicy(vm, { mode: kept, flags, nodes: used, memsAllowed: there, userNodes: keepsUserNodes(flags) ? nodes : null, homeNode: -1 });
}

/** Member n of `nodes` names member n of `there`, round and round. @linux mm/mempolicy.c:mpol_relative_nodemask */
function relativeNodes({ nodes }: NodeMask, there: NodeMask): NodeMask {
  const count = there.nodes.length;
  return new NodeMask(new Set(nodes.map((nid) => there.nodes[nid % count])));
}

function allocPolicy(vm: Vm, policy: Omit<MemPolicy, 'object'>): MemPolicy | number {
  const object = vm.caches.numaPolicy.alloc(GFP_KERNEL);
  if (object === 0) return -Errno.ENOMEM;
  vm.nrPolicies++;
  return { ...policy, object };
}

/** A policy of its own that says the same, where to look first aside. @returns −ENOMEM @linux mm/mempolicy.c:__mpol_dup */
export function mpolDup(vm: Vm, policy: MemPolicy, homeNode = policy.homeNode): MemPolicy | number {
  return allocPolicy(vm, { ...policy, homeNode });
}

/** Gives a policy up. @linux mm/mempolicy.c:__mpol_put */
export function mpolFree(vm: Vm, policy: MemPolicy): void {
  vm.caches.numaPolicy.free(policy.object);
  policy.object = 0;
  vm.nrPolicies--;
}

/**
 * The cpuset that a policy's nodes were taken from has other nodes now: member n of the old ones becomes member n of the new.
 *
 * @linux mm/mempolicy.c:mpol_rebind_policy, mpol_rebind_nodemask
 */
export function mpolRebind(policy: MemPolicy | null, mems: NodeMask): void {
  if (policy === null || policy.mode === MPOL_LOCAL) return;
  if (!keepsUserNodes(policy.flags) && policy.memsAllowed.key === mems.key) return;
  const { memsAllowed: before, userNodes, flags, nodes } = policy;
  policy.memsAllowed = mems;
  if (policy.mode === MPOL_PREFERRED) return;
  let now: NodeMask;
  if ((flags & MPOL_F_STATIC_NODES) !== 0) now = new NodeMask(userNodes!.nodes.filter((nid) => mems.has(nid)));
  else if ((flags & MPOL_F_RELATIVE_NODES) !== 0) now = relativeNodes(userNodes!, mems);
  else now = remapNodes(nodes, before, mems);
  policy.nodes = now.nodes.length === 0 ? mems : now;
}

/** @linux lib/bitmap.c:bitmap_remap */
function remapNodes({ nodes }: NodeMask, from: NodeMask, to: NodeMask): NodeMask {
  return new NodeMask(new Set(nodes.map((nid) => {
    const at = from.nodes.indexOf(nid);
    return at < 0 ? nid : to.nodes[at % to.nodes.length];
  })));
}

/** As {@link mpolRebind}, for all mappings of an address space. @linux mm/mempolicy.c:mpol_rebind_mm */
export function mpolRebindMm(mm: MmStruct, mems: NodeMask): void {
  for (const { policy } of mm.vmas) mpolRebind(policy, mems);
}

/** Whether two mappings may be one, as far as their policies go. @linux mm/mempolicy.c:__mpol_equal */
export function mpolEqual(a: MemPolicy | null, b: MemPolicy | null): boolean {
  if (a === b) return true;
  if (a === null || b === null) return false;
  return (
    a.mode === b.mode &&
    a.flags === b.flags &&
    a.homeNode === b.homeNode &&
    (a.userNodes?.key ?? '') === (b.userNodes?.key ?? '') &&
    (a.mode === MPOL_LOCAL || a.nodes.key === b.nodes.key)
  );
}

/** Gives a task a policy, which passes to it, in place of the one it had. @linux mm/mempolicy.c:do_set_mempolicy */
export function setTaskPolicy(vm: Vm, task: TaskPolicy, policy: MemPolicy | null): void {
  const old = task.policy;
  task.policy = policy;
  if (policy !== null && (policy.mode === MPOL_INTERLEAVE || policy.mode === MPOL_WEIGHTED_INTERLEAVE)) {
    // The first node in turn is the lowest.
    task.ilPrev = Infinity;
    task.ilWeight = 0;
  }
  if (vm.taskPolicy === task) switchTaskPolicy(vm, task);
  if (old !== null) mpolFree(vm, old);
}

/** Makes a task's policy the one that allocations follow. */
export function switchTaskPolicy(vm: Vm, task: TaskPolicy): void {
  vm.taskPolicy = task;
  const hook = task.policy === null ? null : vm.policyHook;
  if (vm.pages.taskPolicy !== hook) vm.pages.setTaskPolicy(hook);
}

/** What the page allocator asks where the current task has a policy. @linux mm/mempolicy.c:alloc_frozen_pages_noprof */
export class TaskAllocPolicy implements AllocPolicy {
  readonly #vm: Vm;

  constructor(vm: Vm) {
    this.#vm = vm;
  }

  allocate(gfp: number, order: number): Pfn {
    const { taskPolicy } = this.#vm;
    return allocByPolicy(this.#vm, taskPolicy.policy!, gfp, order, -1);
  }
}

/** The policy that a mapping has at an address: its own, or its shared memory's; `null` for the task's. @linux mm/mempolicy.c:__get_vma_policy */
export function vmaPolicyAt(vma: VmArea, address: VirtAddr): MemPolicy | null {
  const { file } = vma;
  if (file === null || !file.inode.mapping.ops.swapBacked) return vma.policy;
  return sharedPolicyAt(file.inode, vma.pgoff + Math.floor((address - vma.start) / PAGE_SIZE));
}

/**
 * A page, or 2^`order` of them, for a mapping: as its policy says, or else the task's.
 *
 * @linux mm/mempolicy.c:vma_alloc_folio_noprof, get_vma_policy
 */
export function vmaAllocPages(vma: VmArea, address: VirtAddr, gfp: number, order: number): Pfn {
  const { vm } = vma.mm;
  const policy = vmaPolicyAt(vma, address) ?? vm.taskPolicy.policy;
  if (policy === null) return order === vm.tables.hugeOrder ? allocHugeNear(vm, localNode(vm), gfp, order, null) : vm.pages.allocPages(gfp, order);
  const turn = Math.floor(vma.pgoff / 2 ** order) + Math.floor((address - vma.start) / (PAGE_SIZE * 2 ** order));
  return allocByPolicy(vm, policy, gfp, order, turn);
}

/**
 * @param turn which page of a mapping or file it is to be; −1 for none
 * @linux mm/mempolicy.c:alloc_pages_mpol
 */
export function allocByPolicy(vm: Vm, policy: MemPolicy, gfp: number, order: number, turn: number): Pfn {
  const { pages } = vm;
  const { mode, nodes } = policy;
  let nid = localNode(vm);
  let allowed: NodeMask | null = null;
  switch (mode) {
    case MPOL_PREFERRED:
      nid = nodes.nodes[0];
      break;
    case MPOL_BIND:
    case MPOL_PREFERRED_MANY:
      // What has to lie low goes where low memory is.
      if (mode !== MPOL_BIND || (gfp & GFP_DMA) === 0) allowed = nodes;
      if (policy.homeNode >= 0 && nodes.has(policy.homeNode)) nid = policy.homeNode;
      break;
    case MPOL_INTERLEAVE:
      nid = turn < 0 ? interleaveNodes(vm.taskPolicy, nodes) : nodes.nodes[turn % nodes.nodes.length];
      break;
    case MPOL_WEIGHTED_INTERLEAVE:
      nid = turn < 0 ? weightedNodes(vm, nodes) : weightedNode(vm, nodes, turn);
      break;
  }
  if (mode === MPOL_PREFERRED_MANY) {
    const near = pages.allocPagesNode(nid, (gfp & ~(__GFP_DIRECT_RECLAIM | __GFP_NOFAIL)) | __GFP_NOWARN, order, nodes);
    return near >= 0 ? near : pages.allocPagesNode(nid, gfp, order);
  }
  const inTurn = mode === MPOL_INTERLEAVE || mode === MPOL_WEIGHTED_INTERLEAVE;
  if (order === vm.tables.hugeOrder && turn >= 0 && !inTurn && (allowed === null || allowed.has(nid))) {
    return allocHugeNear(vm, nid, gfp, order, allowed);
  }
  const pfn = pages.allocPagesNode(nid, gfp, order, allowed);
  if (inTurn && pfn >= 0) {
    const zone = pages.zoneOf(pfn)!;
    if (zone.nid === nid) zone.vmStat[ZONE_STAT.NUMA_INTERLEAVE_HIT]++;
  }
  return pfn;
}

/** A huge page far away is worth less than small ones near: others' nodes come after reclaim only. */
function allocHugeNear(vm: Vm, nid: number, gfp: number, order: number, allowed: NodeMask | null): Pfn {
  const { pages } = vm;
  const near = pages.allocPagesNode(nid, gfp | __GFP_THISNODE | __GFP_NORETRY, order);
  if (near >= 0 || (gfp & __GFP_DIRECT_RECLAIM) === 0) return near;
  return pages.allocPagesNode(nid, gfp, order, allowed);
}

/** @linux mm/mempolicy.c:interleave_nodes */
function interleaveNodes(task: TaskPolicy, nodes: NodeMask): number {
  const nid = nodes.nextIn(task.ilPrev);
  task.ilPrev = nid;
  return nid;
}

/** @linux mm/mempolicy.c:weighted_interleave_nodes */
function weightedNodes({ interleaveWeights, taskPolicy: task }: Vm, nodes: NodeMask): number {
  if (task.ilWeight === 0 || !nodes.has(task.ilPrev)) {
    task.ilPrev = nodes.nextIn(task.ilPrev);
    task.ilWeight = interleaveWeights[task.ilPrev];
  }
  task.ilWeight--;
  return task.ilPrev;
}

/** @linux mm/mempolicy.c:weighted_interleave_nid */
function weightedNode({ interleaveWeights }: Vm, { nodes }: NodeMask, turn: number): number {
  let total = 0;
  for (const nid of nodes) total += interleaveWeights[nid];
  let target = turn % total;
  for (const nid of nodes) {
    if (target < interleaveWeights[nid]) return nid;
    target -= interleaveWeights[nid];
  }
  return nodes[0];
}

/** The node of the CPU that runs. @linux include/linux/topology.h:numa_node_id */
export function localNode({ pages, smp }: Vm): number {
  return pages.nodeOfCpu(smp.processorId);
}

/**
 * What `get_mempolicy` tells of a policy without MPOL_F_NODE: its mode with flags, and its nodes.
 *
 * @linux mm/mempolicy.c:do_get_mempolicy
 */
export function shownPolicy(policy: MemPolicy | null): { readonly mode: number; readonly nodes: NodeMask } {
  if (policy === null) return { mode: MPOL_DEFAULT, nodes: NO_NODES };
  return { mode: policy.mode | (policy.flags & MPOL_MODE_FLAGS), nodes: policy.userNodes ?? policy.nodes };
}

/** The node that the next page of a task with an interleaving policy comes from; −EINVAL of any other. */
export function nextInterleaveNode(task: TaskPolicy): number {
  const { policy } = task;
  if (policy?.mode === MPOL_INTERLEAVE) return policy.nodes.nextIn(task.ilPrev);
  if (policy?.mode !== MPOL_WEIGHTED_INTERLEAVE) return -Errno.EINVAL;
  return task.ilWeight > 0 ? task.ilPrev : policy.nodes.nextIn(task.ilPrev);
}

/** @linux mm/mempolicy.c:policy_modes */
const MODE_NAMES = ['default', 'prefer', 'bind', 'interleave', 'local', 'prefer (many)', 'weighted interleave'];

/** A policy as `/proc/PID/numa_maps` has it. @linux mm/mempolicy.c:mpol_to_str */
export function mpolText(policy: MemPolicy | null): string {
  if (policy === null) return MODE_NAMES[MPOL_DEFAULT];
  let text = MODE_NAMES[policy.mode];
  const { flags } = policy;
  if ((flags & MPOL_MODE_FLAGS) !== 0) {
    text += '=';
    if ((flags & MPOL_F_STATIC_NODES) !== 0) text += 'static';
    else if ((flags & MPOL_F_RELATIVE_NODES) !== 0) text += 'relative';
    if ((flags & MPOL_F_NUMA_BALANCING) !== 0) text += `${keepsUserNodes(flags) ? '|' : ''}balancing`;
  }
  return policy.nodes.nodes.length === 0 ? text : `${text}:${nodesText(policy.nodes)}`;
}

/** `0-2,5` @linux lib/vsprintf.c:bitmap_list_string */
function nodesText({ nodes }: NodeMask): string {
  const parts: string[] = [];
  for (let i = 0; i < nodes.length; ) {
    let end = i;
    while (nodes[end + 1] === nodes[end] + 1) end++;
    parts.push(end > i ? `${nodes[i]}-${nodes[end]}` : `${nodes[i]}`);
    i = end + 1;
  }
  return parts.join(',');
}
