/**
 * Whom to kill when memory runs out.
 *
 * @linux mm/oom_kill.c
 */
import { PAGE_SIZE } from '@pagelab/abi';
import { MM_SWAPENTS } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { mmRss } from './zap.ts';

/** The adjustment that exempts a process. @linux include/uapi/linux/oom.h:OOM_SCORE_ADJ_MIN */
export const OOM_SCORE_ADJ_MIN = -1000;
export const OOM_SCORE_ADJ_MAX = 1000;

/** What {@link oomBadness} answers for a process that is never chosen. */
export const OOM_NEVER = -Infinity;

/**
 * How much killing a process would bring, in pages: what it has in memory and swap, its page tables, and for each point
 * of `oom_score_adj` a thousandth of all there is.
 *
 * @param oomScoreAdj −1000, which means never, to 1000
 * @param totalPages RAM and swap, in pages
 * @linux mm/oom_kill.c:oom_badness
 */
export function oomBadness(mm: MmStruct, oomScoreAdj: number, totalPages: number): number {
  if (oomScoreAdj === OOM_SCORE_ADJ_MIN) return OOM_NEVER;
  const points = mmRss(mm) + mm.rss[MM_SWAPENTS] + mm.pgtablesBytes / PAGE_SIZE;
  return points + oomScoreAdj * Math.floor(totalPages / 1000);
}

/**
 * `/proc/PID/oom_score`: badness on a scale on which all of memory is 1000 and nothing is about 667.
 *
 * @linux fs/proc/base.c:proc_oom_score
 */
export function oomScore(mm: MmStruct, oomScoreAdj: number, totalPages: number): number {
  const badness = oomBadness(mm, oomScoreAdj, totalPages);
  if (badness === OOM_NEVER) return 0;
  return Math.trunc(((1000 + Math.trunc((badness * 1000) / totalPages)) * 2) / 3);
}

/** A process that may be killed. */
export interface OomCandidate {
  readonly mm: MmStruct;
  readonly oomScoreAdj: number;
  /** It asks for so much memory that it goes first if that runs out, whatever its adjustment. @linux include/linux/oom.h:oom_task_origin */
  readonly isOrigin?: boolean;
}

/**
 * The candidate of the highest badness, the last of several; `undefined` where none may be killed.
 *
 * @linux mm/oom_kill.c:select_bad_process
 */
export function oomSelect<T extends OomCandidate>(candidates: Iterable<T>, totalPages: number): T | undefined {
  let chosen: T | undefined;
  let worst = OOM_NEVER;
  for (const candidate of candidates) {
    if (candidate.isOrigin === true) return candidate;
    const points = oomBadness(candidate.mm, candidate.oomScoreAdj, totalPages);
    if (points === OOM_NEVER || points < worst) continue;
    chosen = candidate;
    worst = points;
  }
  return chosen;
}
