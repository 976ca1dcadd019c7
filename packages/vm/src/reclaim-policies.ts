/**
 * The reclaim policies there are, by the name that the machine configuration's `reclaim` takes.
 */
import type { ReclaimPolicyFactory } from './reclaim.ts';
import { classicReclaim } from './shrink-lists.ts';

export const reclaimPolicies = {
  classic: classicReclaim,
} as const satisfies Record<string, ReclaimPolicyFactory>;

/** What `reclaim` in the machine configuration may be. */
export type ReclaimPolicyName = keyof typeof reclaimPolicies;
