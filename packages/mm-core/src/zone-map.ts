/**
 * From a frame to its zone.
 */
import { bugOn } from '@pagelab/lib';
import type { Pfn } from '@pagelab/hw';
import type { Zone } from './zone.ts';

/** A pageblock in which zones meet. */
const SEVERAL = 255;

/**
 * For each pageblock the position of its zone in `zones`, the largest first.
 *
 * Position 0 stands where nothing is written, which so is most of the map: `zones` begins with the largest.
 */
export function mapZones(zones: readonly Zone[], nrBlocks: number, pageblockOrder: number): Uint8Array {
  bugOn(zones.length >= SEVERAL, 'more zones than the pageblock map can name');
  const map = new Uint8Array(nrBlocks);
  zones.forEach((zone, i) => {
    if (i > 0) map.fill(i, zone.startPfn >>> pageblockOrder, ((zone.endPfn - 1) >>> pageblockOrder) + 1);
  });
  // A pageblock in which two zones meet is in neither.
  for (const zone of zones) {
    const first = zone.startPfn >>> pageblockOrder;
    if (zones.some((other) => other !== zone && (other.endPfn - 1) >>> pageblockOrder === first)) map[first] = SEVERAL;
  }
  return map;
}

/** The zone of a frame by that map; `undefined` where there is no memory. */
export function zoneOfFrame(zones: readonly Zone[], map: Uint8Array, pageblockOrder: number, pfn: Pfn): Zone | undefined {
  const index = map[pfn >>> pageblockOrder];
  if (index === SEVERAL) return zones.find((zone) => pfn >= zone.startPfn && pfn < zone.endPfn);
  const zone = zones[index];
  return zone !== undefined && pfn >= zone.startPfn && pfn < zone.endPfn ? zone : undefined;
}
