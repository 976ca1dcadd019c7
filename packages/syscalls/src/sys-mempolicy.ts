import {
  CAP_SYS_NICE,
  Errno,
  MPOL_BIND,
  MPOL_DEFAULT,
  MPOL_F_ADDR,
  MPOL_F_MEMS_ALLOWED,
  MPOL_F_NODE,
  MPOL_F_NUMA_BALANCING,
  MPOL_F_RELATIVE_NODES,
  MPOL_F_STATIC_NODES,
  MPOL_INTERLEAVE,
  MPOL_LOCAL,
  MPOL_MF_MOVE,
  MPOL_MF_MOVE_ALL,
  MPOL_MF_STRICT,
  MPOL_PREFERRED,
  MPOL_PREFERRED_MANY,
  MPOL_WEIGHTED_INTERLEAVE,
} from '@pagelab/abi';
import {
  doMbind,
  getUserPageFlags,
  mpolFree,
  mpolNew,
  nextInterleaveNode,
  currentMemsAllowed,
  policyRangeEnd,
  setHomeNode,
  setTaskPolicy,
  shownPolicy,
  vmaPolicyAt,
} from '@pagelab/vm';
import { flagMask, flagTable, flagValuesByRelease } from './flag-table.ts';
import { MAX_NUMNODES, getNodes, putNodes } from './node-masks.ts';
import { foldFlags, int32, unsignedAbove } from './registers.ts';
import type { TaskContext } from './task-context.ts';
import { putValue } from './user-access.ts';
import { encodeInt } from './user-struct.ts';

const MODES = {
  MPOL_DEFAULT, MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE, MPOL_LOCAL, MPOL_PREFERRED_MANY, MPOL_WEIGHTED_INTERLEAVE,
};
const MODE_FLAGS = { MPOL_F_STATIC_NODES, MPOL_F_RELATIVE_NODES, MPOL_F_NUMA_BALANCING };

export const SET_MEMPOLICY_MODE = flagTable('set_mempolicy', 'mode', 'values', MODES, {}, {
  since: { MPOL_WEIGHTED_INTERLEAVE: '6.9' },
});
export const SET_MEMPOLICY_FLAGS = flagTable('set_mempolicy', 'mode flags', 'bits', MODE_FLAGS);
export const MBIND_FLAGS = flagTable('mbind', 'flags', 'bits', { MPOL_MF_STRICT, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL });
export const GET_MEMPOLICY_FLAGS = flagTable('get_mempolicy', 'flags', 'bits', { MPOL_F_NODE, MPOL_F_ADDR, MPOL_F_MEMS_ALLOWED });

const MODE_MASK = flagMask(SET_MEMPOLICY_FLAGS);
const MBIND_MASK = flagMask(MBIND_FLAGS);
const GET_MASK = flagMask(GET_MEMPOLICY_FLAGS);
const modesOf = flagValuesByRelease(SET_MEMPOLICY_MODE);
/** Since this release MPOL_PREFERRED_MANY takes MPOL_F_NUMA_BALANCING. */
const BALANCES_PREFERRED = 610;
/** A bit that no table has. */
const UNKNOWN = 0x4000_0000;

interface Mode {
  readonly mode: number;
  readonly flags: number;
}

/** Takes a mode and its flags apart. @returns −EINVAL for one that there is not, or flags that do not suit it @linux mm/mempolicy.c:sanitize_mpol_flags */
function readMode({ vm }: TaskContext, value: number): Mode | number {
  const flags = value & MODE_MASK;
  const mode = value & ~MODE_MASK;
  if (!modesOf(vm.release).has(mode)) return -Errno.EINVAL;
  if ((flags & MPOL_F_STATIC_NODES) !== 0 && (flags & MPOL_F_RELATIVE_NODES) !== 0) return -Errno.EINVAL;
  const balances = mode === MPOL_BIND || (mode === MPOL_PREFERRED_MANY && vm.release >= BALANCES_PREFERRED);
  if ((flags & MPOL_F_NUMA_BALANCING) !== 0 && !balances) return -Errno.EINVAL;
  return { mode, flags };
}

/**
 * Sets the policy of all that the task allocates from now on.
 *
 * @returns 0, or -errno: EINVAL, EFAULT, ENOMEM
 * @linux mm/mempolicy.c:set_mempolicy
 */
export function sysSetMempolicy(task: TaskContext, mode: number, nmask: number, maxnode: number): number {
  const read = readMode(task, int32(mode));
  if (typeof read === 'number') return read;
  const nodes = getNodes(task, nmask, maxnode);
  if (typeof nodes === 'number') return nodes;
  const policy = mpolNew(task.vm, read.mode, read.flags, nodes);
  if (typeof policy === 'number') return policy;
  setTaskPolicy(task.vm, task.memPolicy, policy);
  return 0;
}

/**
 * Sets the policy of the mappings of a range, and may move what lies elsewhere.
 *
 * @returns 0, or -errno: EINVAL, EFAULT, EPERM, EIO, ENOMEM
 * @linux mm/mempolicy.c:mbind
 */
export function sysMbind(task: TaskContext, start: number, length: number, mode: number, nmask: number, maxnode: number, flags: number): number {
  const read = readMode(task, int32(mode));
  if (typeof read === 'number') return read;
  const nodes = getNodes(task, nmask, maxnode);
  if (typeof nodes === 'number') return nodes;
  let bits = int32(flags);
  if ((bits & ~MBIND_MASK) !== 0) return -Errno.EINVAL;
  if ((bits & MPOL_MF_MOVE_ALL) !== 0 && !task.capable(CAP_SYS_NICE)) return -Errno.EPERM;
  if (read.mode === MPOL_DEFAULT) bits &= ~MPOL_MF_STRICT;
  const end = policyRangeEnd(task.mm, start, length);
  if (end < 0 || end === start) return end < 0 ? end : 0;
  const policy = mpolNew(task.vm, read.mode, read.flags, nodes);
  if (typeof policy === 'number') return policy;
  const result = doMbind(task.mm, start, end, policy, nodes, bits);
  if (policy !== null) mpolFree(task.vm, policy);
  return result;
}

/**
 * Tells the task's policy, or that of the mapping at an address; the node of a page; or the nodes that may be used.
 *
 * @returns 0, or -errno: EINVAL, EFAULT
 * @linux mm/mempolicy.c:get_mempolicy
 */
export function sysGetMempolicy(task: TaskContext, policy: number, nmask: number, maxnode: number, addr: number, flags: number): number {
  const { vm } = task;
  const bits = foldFlags(flags, UNKNOWN);
  if (nmask !== 0 && unsignedAbove(vm.pages.nodes.length, maxnode)) return -Errno.EINVAL;
  if ((bits & ~GET_MASK) !== 0) return -Errno.EINVAL;
  if ((bits & MPOL_F_MEMS_ALLOWED) !== 0) {
    if ((bits & (MPOL_F_NODE | MPOL_F_ADDR)) !== 0) return -Errno.EINVAL;
    if (policy !== 0 && putValue(task, policy, encodeInt(0)) < 0) return -Errno.EFAULT;
    return nmask === 0 ? 0 : putNodes(task, nmask, maxnode, currentMemsAllowed(vm));
  }
  let of = task.memPolicy.policy;
  if ((bits & MPOL_F_ADDR) !== 0) {
    const vma = addr < 0 ? undefined : task.mm.vmas.get(addr);
    if (vma === undefined) return -Errno.EFAULT;
    of = vmaPolicyAt(vma, addr);
  } else if (addr !== 0) return -Errno.EINVAL;
  const shown = shownPolicy(of);
  let value = shown.mode;
  if ((bits & MPOL_F_NODE) !== 0) {
    value = (bits & MPOL_F_ADDR) !== 0 ? nodeOfPage(task, addr) : nextInterleaveNode(task.memPolicy);
    if (value < 0) return value;
  }
  if (policy !== 0 && putValue(task, policy, encodeInt(value)) < 0) return -Errno.EFAULT;
  return nmask === 0 ? 0 : putNodes(task, nmask, maxnode, shown.nodes);
}

/** The node of the page at an address, which is brought in. @linux mm/mempolicy.c:lookup_node */
function nodeOfPage(task: TaskContext, addr: number): number {
  const pfn = getUserPageFlags(task.mm, addr - (addr % 4096), 0);
  return pfn < 0 ? -Errno.EFAULT : task.vm.pages.nodeOf(pfn);
}

/**
 * Sets the node that mappings with several look at first.
 *
 * @returns 0, or -errno: EINVAL, ENOENT, EOPNOTSUPP, ENOMEM
 * @linux mm/mempolicy.c:set_mempolicy_home_node
 */
export function sysSetMempolicyHomeNode(task: TaskContext, start: number, length: number, homeNode: number, flags: number): number {
  if (start % 4096 !== 0 || flags !== 0) return -Errno.EINVAL;
  if (homeNode < 0 || homeNode >= MAX_NUMNODES || homeNode >= task.vm.pages.nodes.length) return -Errno.EINVAL;
  const end = policyRangeEnd(task.mm, start, length);
  if (end === start) return 0;
  if (end < 0) return end;
  return setHomeNode(task.mm, start, end, homeNode);
}
