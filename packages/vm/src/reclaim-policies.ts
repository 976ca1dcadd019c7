/**
 * The reclaim policies there are, by the name that the machine configuration's `reclaim` takes.
 */
import { lruGenReclaim } from './lru-gen-policy.ts';
import { arcReclaim } from './reclaim-arc.ts';
import { clockReclaim } from './reclaim-clock.ts';
import { lruReclaim } from './reclaim-lru.ts';
import { fifoReclaim, secondChanceReclaim } from './reclaim-queue.ts';
import { workingSetReclaim } from './reclaim-wsclock.ts';
import type { ReclaimPolicyFactory } from './reclaim.ts';
import { classicReclaim } from './shrink-lists.ts';

export const reclaimPolicies = {
  classic: classicReclaim,
  mglru: lruGenReclaim,
  fifo: fifoReclaim,
  'second-chance': secondChanceReclaim,
  clock: clockReclaim,
  lru: lruReclaim,
  arc: arcReclaim,
  'working-set': workingSetReclaim,
} as const satisfies Record<string, ReclaimPolicyFactory>;

/** What `reclaim` in the machine configuration may be. */
export type ReclaimPolicyName = keyof typeof reclaimPolicies;
