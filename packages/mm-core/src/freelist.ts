/**
 * An attempt at an allocation: which zones, and how far down.
 */
import type { Pfn } from '@pagelab/hw';
import { ALLOC_HIGHATOMIC, ALLOC_MIN_RESERVE, ALLOC_NO_WATERMARKS, ALLOC_NOFRAGMENT, ALLOC_WMARK_MASK, WMARK_HIGH, WMARK_MIN } from './alloc-flags.ts';
import { reserveHighatomicPageblock } from './highatomic.ts';
import type { NodeMask } from './nodemask.ts';
import type { PageAlloc } from './page-alloc.ts';
import type { Zone } from './zone.ts';

/** What an allocation asks for, once its flags are taken apart. @linux mm/internal.h:alloc_context */
export interface AllocContext {
  readonly gfp: number;
  readonly order: number;
  /** Index of the highest zone it may use. */
  readonly highestIndex: number;
  readonly migratetype: number;
  /** Zones to try, the preferred one first. */
  zonelist: readonly Zone[];
  /** Nodes that the allocation's policy leaves; `null` for all. */
  readonly allowed: NodeMask | null;
  /** Node of the CPU that asks. */
  readonly localNid: number;
}

/**
 * Tries the zones of the zonelist, as far as their watermarks allow.
 *
 * @param allocFlags `ALLOC_*`, the watermark among them
 * @returns a block made ready, or −1
 * @linux mm/page_alloc.c:get_page_from_freelist
 */
export function getPageFromFreelist(pages: PageAlloc, context: AllocContext, allocFlags: number): Pfn {
  const { order, highestIndex, zonelist } = context;
  const { defragMode } = pages.sysctl;
  let flags = allocFlags;
  for (;;) {
    const noFallback = (flags & ALLOC_NOFRAGMENT) !== 0 && !defragMode;
    let again = false;
    for (let i = 0; i < zonelist.length; i++) {
      const zone = zonelist[i];
      if (noFallback && zone.nid !== zonelist[0].nid) {
        // Near memory counts for more than pageblocks that are not mixed.
        again = true;
        break;
      }
      // Below the high watermark the per-CPU lists shrink. Found out here, so that freeing need not look.
      if (!zone.belowHigh && !watermarkFast(zone, order, zone.wmarkPages(WMARK_HIGH), highestIndex, flags)) zone.belowHigh = true;
      if (zone.belowHigh) {
        const wmark = flags & ALLOC_WMARK_MASK;
        const enough = watermarkFast(zone, order, zone.wmarkPages(wmark), highestIndex, flags);
        if (!enough && (flags & ALLOC_NO_WATERMARKS) === 0) {
          if (pages.nodeReclaimMode === 0 || !reclaimsNode(pages, context, zone)) continue;
          if (!zone.watermarkOk(order, zone.wmarkPages(wmark), highestIndex, flags, zone.nrFree)) continue;
        }
      }
      const pfn = pages.rmqueue(zone, context, flags);
      if (pfn < 0) continue;
      if ((flags & ALLOC_HIGHATOMIC) !== 0) reserveHighatomicPageblock(pages, zone, pfn, order);
      return pfn;
    }
    if (!again && !noFallback) return -1;
    flags &= ~ALLOC_NOFRAGMENT;
  }
}

/** Nodes farther away are not reclaimed for who is here. @linux include/linux/topology.h:RECLAIM_DISTANCE */
const NODE_RECLAIM_DISTANCE = 30;

/** Takes pages of files on the zone's node, where that is near: whether the zone is to be looked at again. @linux mm/page_alloc.c:zone_allows_reclaim */
function reclaimsNode(pages: PageAlloc, { gfp, order, zonelist, localNid }: AllocContext, zone: Zone): boolean {
  if (pages.nodes[zonelist[0].nid].distances[zone.nid] > NODE_RECLAIM_DISTANCE) return false;
  return pages.hooks.nodeReclaim?.(zone, gfp, order, localNid) === true;
}

/** @linux mm/page_alloc.c:zone_watermark_fast */
function watermarkFast(zone: Zone, order: number, mark: number, highestIndex: number, allocFlags: number): boolean {
  const free = zone.nrFree;
  if (order === 0) {
    const usable = free - Math.min(free, zone.unusableFree(0, allocFlags));
    if (usable > mark + zone.lowmemReserve[highestIndex]) return true;
  }
  if (zone.watermarkOk(order, mark, highestIndex, allocFlags, free)) return true;
  // Urgent allocations of a page pass over the boost: it is there to wake kswapd earlier.
  const minReserve = (allocFlags & ALLOC_MIN_RESERVE) !== 0 && (allocFlags & ALLOC_WMARK_MASK) === WMARK_MIN;
  if (order > 0 || !minReserve || zone.watermarkBoost === 0) return false;
  return zone.watermarkOk(order, zone.watermark[WMARK_MIN], highestIndex, allocFlags, free);
}
