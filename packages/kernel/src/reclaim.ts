/**
 * What a reclaim policy of one's own is made of: its interface, what it may be told of pages, and what it has done with them.
 */
import { reclaimPolicies } from '@pagelab/vm';

export {
  FOLIOREF_ACTIVATE,
  FOLIOREF_KEEP,
  FOLIOREF_RECLAIM,
  FOLIOREF_RECLAIM_CLEAN,
  canReclaimAnon,
  evictFolios,
  isolateFolio,
  isolateFolios,
  lruAddDrain,
  newReclaimStat,
  optReclaim,
} from '@pagelab/vm';
export { recordReferences } from './record-references.ts';
export type { RecordedOs } from './record-references.ts';
export type { ReclaimPolicy, ReclaimPolicyFactory, ReclaimStat, ScanControl, Vm } from '@pagelab/vm';
export { LRU_INACTIVE_ANON, LRU_INACTIVE_FILE, PG_ACTIVE, PG_REFERENCED, PG_SWAPBACKED, folioNrPages } from '@pagelab/mm-core';
export { Prng } from '@pagelab/lib';
export type { LruPlacement, Lruvec } from '@pagelab/mm-core';

/** Names that the machine configuration's `reclaim` takes. */
export const RECLAIM_POLICIES: readonly string[] = Object.keys(reclaimPolicies);
