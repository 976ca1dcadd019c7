/**
 * Memory taken because somebody asks for it: `memory.reclaim` of a group, `reclaim` of a node.
 *
 * @linux mm/vmscan.c:user_proactive_reclaim
 */
import { Errno } from '@pagelab/abi';
import { lruAddDrainAll, parsePages } from '@pagelab/vm';
import type { Kernel } from '../kernel.ts';

/** Rounds of reclaim in vain. @linux mm/internal.h:MAX_RECLAIM_RETRIES */
export const MAX_RECLAIM_RETRIES = 16;
/** @linux include/linux/swap.h:MAX_SWAPPINESS, SWAPPINESS_ANON_ONLY */
const MAX_SWAPPINESS = 200;
const SWAPPINESS_ANON_ONLY = 201;

/**
 * Takes so much memory as is asked for: `1M`, `1M swappiness=60`.
 *
 * @param reclaim frees so many pages, with a swappiness (−1: the system's), and says how many those were
 * @returns 0; −EAGAIN where there was not as much to be had; −EINVAL
 * @linux mm/vmscan.c:user_proactive_reclaim
 */
export function proactiveReclaim(kernel: Kernel, text: string, reclaim: (nrPages: number, swappiness: number) => number): number {
  const [amount, ...options] = text.trim().split(/ +/);
  if (amount === 'max') return -Errno.EINVAL;
  const wanted = parsePages(amount!);
  if (wanted < 0) return -Errno.EINVAL;
  let swappiness = -1;
  for (const option of options) {
    const match = /^swappiness=(max|\d+)$/.exec(option);
    if (match === null) return -Errno.EINVAL;
    swappiness = match[1] === 'max' ? SWAPPINESS_ANON_ONLY : Number(match[1]);
    if (match[1] !== 'max' && swappiness > MAX_SWAPPINESS) return -Errno.EINVAL;
  }
  let retries = MAX_RECLAIM_RETRIES;
  for (let reclaimed = 0; reclaimed < wanted; ) {
    if (retries === 0) lruAddDrainAll(kernel.vm);
    const batch = Math.floor((wanted - reclaimed) / 4);
    const freed = reclaim(batch, swappiness);
    if (freed === 0 && retries-- === 0) return -Errno.EAGAIN;
    reclaimed += freed;
  }
  return 0;
}
