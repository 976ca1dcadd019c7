/**
 * Making a task pay for memory beyond what its group is to stay below: it reclaims as much, and is held up the longer, the
 * further beyond the group is.
 *
 * @linux mm/memcontrol.c:__mem_cgroup_handle_over_high
 */
import { GFP_KERNEL } from '@pagelab/mm-core';
import { MEMCG_EVENT, memcgEvent } from './memcg.ts';
import type { MemCgroup, MemCgroups } from './memcg.ts';
import { MEMCG_CHARGE_BATCH } from './memcg-charge.ts';
import { tryToFreeMemCgroupPages } from './memcg-reclaim.ts';
import type { PageCounter } from './page-counter.ts';
import { SWAP_CLUSTER_MAX } from './scan-control.ts';

/** Ticks of a second; Debian's configuration, and this host's. @linux CONFIG_HZ */
const HZ = 250;
/** Longest delay, in ticks. @linux mm/memcontrol.c:MEMCG_MAX_HIGH_DELAY_JIFFIES */
const MAX_HIGH_DELAY = 2 * HZ;
/** @linux mm/memcontrol.c:MEMCG_DELAY_PRECISION_SHIFT, MEMCG_DELAY_SCALING_SHIFT */
const PRECISION = 2 ** 20;
const SCALING = 2 ** 14;
const MAX_RECLAIM_RETRIES = 16;
const NS_PER_TICK = 1e9 / HZ;

/** How far a counter is beyond its `high`, as a fraction of it in 2^−20. @linux mm/memcontrol.c:calculate_overage */
function overage({ usage, high }: PageCounter): number {
  return usage <= high ? 0 : Math.floor(((usage - high) * PRECISION) / Math.max(high, 1));
}

/** In ticks. @linux mm/memcontrol.c:calculate_high_delay */
function highDelay(nrPages: number, maxOverage: number): number {
  const penalty = Math.floor((maxOverage * maxOverage * HZ) / PRECISION / SCALING);
  return Math.floor((penalty * nrPages) / MEMCG_CHARGE_BATCH);
}

/** Reclaims of every group on the way up that is beyond its `high`. @linux mm/memcontrol.c:reclaim_high */
function reclaimHigh(memcgs: MemCgroups, memcg: MemCgroup, nrPages: number, gfp: number): number {
  let reclaimed = 0;
  for (let each = memcg; each.parent !== null; each = each.parent) {
    if (each.memory.usage <= each.memory.high) continue;
    memcgEvent(each, MEMCG_EVENT.HIGH);
    reclaimed += tryToFreeMemCgroupPages(memcgs.vm, each, nrPages, gfp, { maySwap: true });
  }
  return reclaimed;
}

/**
 * Has the running task pay for the pages it has charged beyond `memory.high`.
 *
 * @param gfp what reclaim may do
 * @returns for how long it is to be held up, in nanoseconds of virtual time
 */
export function memcgHandleOverHigh(memcgs: MemCgroups, gfp = GFP_KERNEL): number {
  const { current } = memcgs;
  if (current === null || current.nrPagesOverHigh === 0) return 0;
  const nrPages = current.nrPagesOverHigh;
  current.nrPagesOverHigh = 0;
  const { memcg } = current;
  let retries = MAX_RECLAIM_RETRIES;
  for (let inRetry = false; !current.isDying(); inRetry = true) {
    const reclaimed = reclaimHigh(memcgs, memcg, inRetry ? SWAP_CLUSTER_MAX : nrPages, gfp);
    let memory = 0;
    let swap = 0;
    for (let each = memcg; each.parent !== null; each = each.parent) {
      memory = Math.max(memory, overage(each.memory));
      const over = overage(each.swap);
      if (over > 0) memcgEvent(each, MEMCG_EVENT.SWAP_HIGH);
      swap = Math.max(swap, over);
    }
    const ticks = Math.min(highDelay(nrPages, memory) + highDelay(nrPages, swap), MAX_HIGH_DELAY);
    if (ticks <= HZ / 100) return 0;
    if (reclaimed === 0 && retries-- <= 0) return ticks * NS_PER_TICK;
  }
  return 0;
}
