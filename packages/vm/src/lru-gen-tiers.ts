/**
 * Tiers: pages of a generation by how often they were used through files. A tier whose pages come back too often once they
 * are taken is protected for a generation; how often is too often is measured against the pages that were used least.
 *
 * What comes back and what was taken is counted for the oldest generation; what was counted for those before it is halved
 * with each that goes. This is a controller that follows the error alone, without memory of how fast it changes.
 *
 * @linux mm/vmscan.c:ctrl_pos
 */
import { MAX_SWAPPINESS } from './scan-control.ts';

/** Bits for the uses of a page beyond the first. @linux include/linux/mmzone.h:LRU_REFS_WIDTH */
export const LRU_REFS_WIDTH = 2;
/** @linux include/linux/mmzone.h:MAX_NR_TIERS */
export const MAX_NR_TIERS = 4;
/** Pages that are taken together; fewer that come back say nothing. @linux include/linux/mmzone.h:MIN_LRU_BATCH */
export const MIN_LRU_BATCH = 64;

/** The tier of a page that was used `refs` times: 0 and once, twice, up to four times; the working set. @linux include/linux/mm_inline.h:lru_tier_from_refs */
export function tierOf(refs: number, workingset: boolean): number {
  if (workingset) return MAX_NR_TIERS - 1;
  return refs <= 1 ? 0 : refs === 2 ? 1 : 2;
}

/** The same before 6.14, of uses beyond the first. @linux include/linux/mm_inline.h:lru_tier_from_refs */
export function tierBefore(refs: number): number {
  return Math.ceil(Math.log2(refs + 1));
}

interface ControlPosition {
  refaulted: number;
  total: number;
  gain: number;
}

/** Counts by kind of memory and tier, at `type * 4 + tier`. */
export class TierStats {
  readonly avgRefaulted = new Float64Array(2 * MAX_NR_TIERS);
  readonly avgTotal = new Float64Array(2 * MAX_NR_TIERS);
  /** Pages of the oldest generation that were protected, taken, and that came back. */
  readonly protected = new Float64Array(2 * MAX_NR_TIERS);
  readonly evicted = new Float64Array(2 * MAX_NR_TIERS);
  readonly refaulted = new Float64Array(2 * MAX_NR_TIERS);

  /** The oldest generation of a kind goes: its counts become part of the averages. @linux mm/vmscan.c:reset_ctrl_pos */
  carryOver(type: number): void {
    for (let at = type * MAX_NR_TIERS; at < (type + 1) * MAX_NR_TIERS; at++) {
      this.avgRefaulted[at] = Math.floor((this.avgRefaulted[at] + this.refaulted[at]) / 2);
      this.avgTotal[at] = Math.floor((this.avgTotal[at] + this.protected[at] + this.evicted[at]) / 2);
      this.refaulted[at] = 0;
      this.evicted[at] = 0;
      this.protected[at] = 0;
    }
  }

  /** The last tier of a kind whose pages may go: 0 … 3. Before 6.14 with smaller gains. @linux mm/vmscan.c:get_tier_idx */
  lastEvictable(type: number, before = false): number {
    if (before) return this.#lastBelow(this.#read(type, 0, 0, 1), type, 2);
    // Each tier is used at least twice as often as the first: the gains leave it room to come back more often.
    const first = this.#read(type, 0, 0, 2);
    let tier = 1;
    while (tier < MAX_NR_TIERS && isPositiveError(first, this.#read(type, tier, tier, 3))) tier++;
    return tier - 1;
  }

  /** The kind to take first. @linux mm/vmscan.c:get_type_to_scan */
  typeToScan(swappiness: number): 0 | 1 {
    if (swappiness <= 1) return 1;
    if (swappiness >= MAX_SWAPPINESS) return 0;
    const anon = this.#read(0, 0, MAX_NR_TIERS - 1, swappiness);
    const file = this.#read(1, 0, MAX_NR_TIERS - 1, MAX_SWAPPINESS - swappiness);
    return isPositiveError(anon, file) ? 1 : 0;
  }

  /**
   * The kind to take first, and the last tier of it that may go, before 6.14: by the first tiers alone.
   *
   * @linux mm/vmscan.c:get_type_to_scan
   */
  typeAndTier(swappiness: number): { type: 0 | 1; lastTier: number } {
    const gains = [swappiness, MAX_SWAPPINESS - swappiness];
    const type = isPositiveError(this.#read(0, 0, 0, gains[0]), this.#read(1, 0, 0, gains[1])) ? 1 : 0;
    return { type, lastTier: this.#lastBelow(this.#read(1 - type, 0, 0, gains[1 - type]), type, gains[type]) };
  }

  /** The last tier of a kind that comes back no more often than a set point. */
  #lastBelow(setPoint: ControlPosition, type: number, gain: number): number {
    let tier = 1;
    while (tier < MAX_NR_TIERS && isPositiveError(setPoint, this.#read(type, tier, tier, gain))) tier++;
    return tier - 1;
  }

  /** @linux mm/vmscan.c:read_ctrl_pos */
  #read(type: number, firstTier: number, lastTier: number, gain: number): ControlPosition {
    const position = { refaulted: 0, total: 0, gain };
    for (let at = type * MAX_NR_TIERS + firstTier; at <= type * MAX_NR_TIERS + lastTier; at++) {
      position.refaulted += this.avgRefaulted[at] + this.refaulted[at];
      position.total += this.avgTotal[at] + this.protected[at] + this.evicted[at];
    }
    return position;
  }
}

/** Whether few pages came back, or a smaller part than by the set point. @linux mm/vmscan.c:positive_ctrl_err */
function isPositiveError(setPoint: ControlPosition, value: ControlPosition): boolean {
  if (value.refaulted < MIN_LRU_BATCH) return true;
  return value.refaulted * (setPoint.total + MIN_LRU_BATCH) * setPoint.gain <= (setPoint.refaulted + 1) * value.total * value.gain;
}
