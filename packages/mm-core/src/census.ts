/**
 * Who has how much memory, and whether every frame is accounted for.
 */
import { bugOn } from '@pagelab/lib';
import { NR_OWNERS, OWNER_FREE, frameOwner } from './owner.ts';
import { PG_TAIL, blockOrder, pageFlagsText } from './page.ts';
import type { PageFrames } from './page.ts';
import type { Zone } from './zone.ts';

/**
 * Counts the frames of each owner, by `OWNER_*`; holes count up to the last frame. Costs a step for each frame ever handed
 * out.
 */
export function countOwners(frames: PageFrames, zones: readonly Zone[]): Float64Array {
  const owners = new Float64Array(NR_OWNERS);
  for (const { start, end, owner } of frames.bootRanges) owners[owner] += end - start;
  for (const zone of zones) {
    for (const { start, end } of zone.allocator.untouched()) owners[OWNER_FREE] += end - start;
    for (const { start, end } of zone.touchedRanges()) {
      for (let pfn = start; pfn < end; pfn++) owners[frameOwner(frames, pfn)]++;
    }
  }
  return owners;
}

/**
 * Checks each frame of a zone that its page allocator does not have: in use with references, the tail of such a block, or on
 * a per-CPU list. Costs a step for each frame ever handed out.
 *
 *     frames without references, tails aside === pages on per-CPU lists
 *
 * @throws KernelBug for the first that is none of these
 */
export function validateFrames(frames: PageFrames, zone: Zone): void {
  const { flags, refcount, taken, next } = frames;
  let idle = 0;
  for (const { start, end } of zone.touchedRanges()) {
    for (let pfn = start; pfn < end; pfn++) {
      const references = refcount[pfn];
      if (references > 0) {
        if ((taken[pfn >>> 5] & (1 << (pfn & 31))) === 0) bugOn(true, `frame ${pfn}: ${references} references to a free frame`);
        continue;
      }
      if ((taken[pfn >>> 5] & (1 << (pfn & 31))) === 0) continue;
      bugOn(references < 0, `frame ${pfn}: references below 0`);
      if ((flags[pfn] & PG_TAIL) === 0) {
        if (flags[pfn] !== 0) bugOn(true, `frame ${pfn}: flags ${pageFlagsText(flags[pfn])} without references`);
        idle++;
        continue;
      }
      const head = next[pfn];
      bugOn(head >= pfn || pfn - head >= 1 << blockOrder(frames, head), 'the tail of a block that does not hold it');
      bugOn(refcount[head] <= 0, 'the tail of a block without references');
    }
  }
  const onLists = zone.nrPcpPages();
  bugOn(idle !== onLists, `zone ${zone.name}: ${idle} frames without references, but ${onLists} on per-CPU lists: some are lost`);
}
