/**
 * The reclaim policies there are, by the name that the machine configuration's `reclaim` takes.
 */
import { lruGenReclaim } from './lru-gen-policy.ts';
import { fifoReclaim, secondChanceReclaim } from './reclaim-queue.ts';
import type { ReclaimPolicyFactory } from './reclaim.ts';
import { classicReclaim } from './shrink-lists.ts';

export const reclaimPolicies = {
  classic: classicReclaim,
  mglru: lruGenReclaim,
  fifo: fifoReclaim,
  'second-chance': secondChanceReclaim,
} as const satisfies Record<string, ReclaimPolicyFactory>;

/** What `reclaim` in the machine configuration may be. */
export type ReclaimPolicyName = keyof typeof reclaimPolicies;
