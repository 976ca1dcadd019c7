/**
 * Watermarks that are higher for a while, after pageblocks had to be mixed.
 */
import { ALLOC_KSWAPD, WMARK_HIGH } from './alloc-flags.ts';
import type { Zone } from './zone.ts';

/**
 * Asks reclaim for some room in a zone a pageblock of which is about to be mixed, so that it happens less.
 *
 * @param factor how far the boost may go, in ten-thousandths of the high watermark
 * @linux mm/page_alloc.c:boost_watermark
 */
export function boostWatermark(zone: Zone, allocFlags: number, factor: number): void {
  const { pageblockPages } = zone;
  if (factor === 0 || pageblockPages * 4 > zone.managed) return;
  const most = Math.floor((zone.watermark[WMARK_HIGH] * factor) / 10_000);
  if (most === 0) return;
  zone.setWatermarkBoost(Math.min(zone.watermarkBoost + pageblockPages, Math.max(pageblockPages, most)));
  if ((allocFlags & ALLOC_KSWAPD) !== 0) zone.boostedWatermark = true;
}
