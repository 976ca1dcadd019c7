/**
 * One run of reclaim: what it is for, what it may do, and how far it has got.
 *
 * @linux mm/vmscan.c:scan_control
 */

import type { NodeMask } from '@pagelab/mm-core';
import type { MemCgroup } from './memcg.ts';

/** The priority that reclaim begins with: a 4,096th of each list is looked at. @linux include/linux/mmzone.h:DEF_PRIORITY */
export const DEF_PRIORITY = 12;
/** Pages that are looked at together. @linux include/linux/swap.h:SWAP_CLUSTER_MAX */
export const SWAP_CLUSTER_MAX = 32;

/** Values of swappiness: only files, as many anonymous pages as can be, and nothing else. @linux include/linux/swap.h:MAX_SWAPPINESS, SWAPPINESS_ANON_ONLY */
export const MIN_SWAPPINESS = 0;
export const MAX_SWAPPINESS = 200;
export const SWAPPINESS_ANON_ONLY = 201;

/** Who reclaims. @linux mm/vmscan.c:reclaimer_offset */
export const RECLAIMER_KSWAPD = 0;
export const RECLAIMER_DIRECT = 1;
export const RECLAIMER_KHUGEPAGED = 2;
export const RECLAIMER_PROACTIVE = 3;

/** Which active lists may be shortened. @linux mm/vmscan.c:DEACTIVATE_ANON */
export const DEACTIVATE_ANON = 1;
export const DEACTIVATE_FILE = 2;

export class ScanControl {
  /** Pages wanted. */
  nrToReclaim: number;
  /** GFP flags of the allocation it is for: what may be done. */
  readonly gfp: number;
  order: number;
  /** Index of the highest zone whose pages help. */
  readonly reclaimIdx: number;
  /** `RECLAIMER_…`. */
  readonly reclaimer: number;
  /** 12 … 0: the smaller, the more is looked at. */
  priority = DEF_PRIORITY;
  /** Dirty pages may be written, mapped ones unmapped, anonymous ones swapped. */
  mayWritepage = true;
  mayUnmap = true;
  maySwap = true;
  /** `DEACTIVATE_…` */
  mayDeactivate = 0;
  /** Pages stay off slower nodes. */
  noDemotion = false;
  forceDeactivate = false;
  skippedDeactivate = false;
  /** Files have plenty of pages that nobody uses: nothing else is looked at. */
  cacheTrimMode = false;
  /** Files have next to nothing left: anonymous memory goes. */
  fileIsTiny = false;
  anonCost = 0;
  fileCost = 0;
  /** The node's swappiness, where whoever reclaims has one of its own. */
  swappiness = -1;
  /** The nodes whose pages help; `null` for all. */
  nodes: NodeMask | null = null;
  /** The group whose limit it is for; `null` for the machine's memory. And the one that is looked at; `null` where there are no groups. */
  target: MemCgroup | null = null;
  memcg: MemCgroup | null = null;
  /** Groups within their `low` go, too; some were spared for that so far. */
  memcgLowReclaim = false;
  memcgLowSkipped = false;
  /** All groups are looked at, though there may be enough before. */
  memcgFullWalk = false;
  /** Pages looked at, and taken. */
  nrScanned = 0;
  nrReclaimed = 0;
  /** kswapd's look at the lists ended before it was through: it has to wait for a device first. */
  isCutShort = false;
  /** A zone has enough free pages for compaction to make a block of: nothing more is taken there. */
  compactionReady = false;
  /** Pages whose writing began. */
  nrWritten = 0;

  constructor(nrToReclaim: number, gfp: number, order: number, reclaimIdx: number, reclaimer: number) {
    this.nrToReclaim = nrToReclaim;
    this.gfp = gfp;
    this.order = order;
    this.reclaimIdx = reclaimIdx;
    this.reclaimer = reclaimer;
  }

  get isKswapd(): boolean {
    return this.reclaimer === RECLAIMER_KSWAPD;
  }
}
