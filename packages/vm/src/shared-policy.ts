/**
 * Policies of shared memory: ranges of a file, the same for all who map it.
 *
 * @linux mm/mempolicy.c:shared_policy
 */
import { Errno } from '@pagelab/abi';
import type { Inode } from './file.ts';
import { mpolDup, mpolFree } from './mempolicy.ts';
import type { MemPolicy } from './mempolicy.ts';
import type { Vm } from './vm.ts';

/** Pages [start, end) of a file and where they are to lie. @linux include/linux/mempolicy.h:sp_node */
export interface SharedPolicyRange {
  start: number;
  end: number;
  readonly policy: MemPolicy;
}

/** The policy of a page of a file; `null` where it has none of its own. @linux mm/mempolicy.c:mpol_shared_policy_lookup */
export function sharedPolicyAt(inode: Inode, pgoff: number): MemPolicy | null {
  if (inode.policies === null) return null;
  return inode.policies.find(({ start, end }) => pgoff >= start && pgoff < end)?.policy ?? null;
}

/**
 * Gives pages [start, end) of a file a copy of a policy, or none.
 *
 * @returns 0; −ENOMEM with nothing changed
 * @linux mm/mempolicy.c:mpol_set_shared_policy
 */
export function setSharedPolicy(vm: Vm, inode: Inode, start: number, end: number, policy: MemPolicy | null): number {
  const old = inode.policies ?? [];
  const kept: SharedPolicyRange[] = [];
  const made: MemPolicy[] = [];
  const copy = (from: MemPolicy): MemPolicy | null => {
    const dup = mpolDup(vm, from);
    if (typeof dup === 'number') return null;
    made.push(dup);
    return dup;
  };
  for (const range of old) {
    if (range.end <= start || range.start >= end) {
      kept.push(range);
      continue;
    }
    for (const [from, to] of [[range.start, Math.min(range.end, start)], [Math.max(range.start, end), range.end]] as const) {
      if (from >= to) continue;
      const part = copy(range.policy);
      if (part === null) return undo(vm, made);
      kept.push({ start: from, end: to, policy: part });
    }
  }
  if (policy !== null) {
    const own = copy(policy);
    if (own === null) return undo(vm, made);
    kept.push({ start, end, policy: own });
  }
  for (const range of old) if (!kept.includes(range)) mpolFree(vm, range.policy);
  kept.sort((a, b) => a.start - b.start);
  inode.policies = kept.length === 0 ? null : kept;
  return 0;
}

function undo(vm: Vm, made: readonly MemPolicy[]): number {
  for (const policy of made) mpolFree(vm, policy);
  return -Errno.ENOMEM;
}

/** Gives up what an inode that goes has. @linux mm/mempolicy.c:mpol_free_shared_policy */
export function freeSharedPolicies(vm: Vm, inode: Inode): void {
  if (inode.policies === null) return;
  for (const { policy } of inode.policies) mpolFree(vm, policy);
  inode.policies = null;
}
