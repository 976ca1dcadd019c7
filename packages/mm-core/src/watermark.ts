/**
 * How much memory to keep free, and how much each CPU may hold back: the formulas behind `/proc/sys/vm`.
 *
 * All figures are whole numbers of pages unless a name says KiB; divisions round down, as the kernel's do. Every rule
 * came out exactly for 57 recorded boots of real kernels, after each of eight writes to `/proc/sys/vm`.
 */
import { WMARK_HIGH, WMARK_LOW, WMARK_MIN, WMARK_PROMO } from './alloc-flags.ts';
import type { Zone } from './zone.ts';
import { ZONE_HIGHMEM, ZONE_MOVABLE } from './zone-types.ts';

const PAGE_KIB = 4;
const MIN_FREE_KBYTES_LEAST = 128;
const MIN_FREE_KBYTES_MOST = 262_144;

/** What differs between kernels. */
export interface WatermarkRules {
  /** ZONE_MOVABLE is treated as high memory is, everywhere (since 6.5), and not only where it is cut out of high memory. */
  readonly movableLikeHighmem: boolean;
  /** The per-CPU lists find their size between two bounds (since 6.7). */
  readonly pcpAutoTune: boolean;
  /** log2 of the frames in a pageblock. */
  readonly pageblockOrder: number;
}

/** @linux mm/page_alloc.c:setup_per_zone_wmarks */
export interface WatermarkSysctl {
  minFreeKbytes: number;
  /** In ten-thousandths of a zone. */
  watermarkScaleFactor: number;
}

function isSpecial(zone: Zone, rules: WatermarkRules, movableInHighmem: boolean): boolean {
  return zone.kind === ZONE_HIGHMEM || (zone.kind === ZONE_MOVABLE && (rules.movableLikeHighmem || movableInHighmem));
}

/** Whether the highest zone that holds memory of its own, and so Movable's, is high memory. */
function hasHighmem(zones: readonly Zone[]): boolean {
  return zones.some((zone) => zone.kind === ZONE_HIGHMEM && zone.present > 0);
}

/** a * b / c without loss. @linux include/linux/math.h:mult_frac */
function multFrac(a: number, b: number, c: number): number {
  return Math.floor(a / c) * b + Math.floor(((a % c) * b) / c);
}

/**
 * Sets min, low, high and promo of each zone, and drops boosts.
 *
 * @linux mm/page_alloc.c:__setup_per_zone_wmarks
 */
export function setupPerZoneWmarks(zones: readonly Zone[], sysctl: WatermarkSysctl, rules: WatermarkRules): void {
  const pagesMin = Math.floor(sysctl.minFreeKbytes / PAGE_KIB);
  const movableInHighmem = hasHighmem(zones);
  let lowmem = 0;
  for (const zone of zones) if (!isSpecial(zone, rules, movableInHighmem)) lowmem += zone.managed;
  for (const zone of zones) {
    const { managed, watermark } = zone;
    const share = lowmem === 0 ? 0 : multFrac(managed, pagesMin, lowmem);
    const min = isSpecial(zone, rules, movableInHighmem) ? Math.max(32, Math.min(128, Math.floor(managed / 1024))) : share;
    const gap = Math.max(Math.floor(share / 4), multFrac(managed, sysctl.watermarkScaleFactor, 10_000));
    watermark[WMARK_MIN] = min;
    watermark[WMARK_LOW] = min + gap;
    watermark[WMARK_HIGH] = min + 2 * gap;
    watermark[WMARK_PROMO] = min + 3 * gap;
    zone.setWatermarkBoost(0);
  }
}

/**
 * Sets what each zone of a node keeps from allocations that could use higher zones.
 *
 * @param zones of one node, ascending
 * @param ratio pages of higher zones for each page kept, by zone index; 0 keeps none
 * @linux mm/page_alloc.c:setup_per_zone_lowmem_reserve
 */
export function setupPerZoneLowmemReserve(zones: readonly Zone[], ratio: readonly number[]): void {
  for (let i = 0; i < zones.length; i++) {
    const { lowmemReserve, managed } = zones[i];
    lowmemReserve.fill(0);
    let above = 0;
    for (let j = i + 1; j < zones.length; j++) {
      above += zones[j].managed;
      if (ratio[i] > 0 && managed > 0) lowmemReserve[j] = Math.floor(above / ratio[i]);
    }
    zones[i].marksChanged();
  }
}

/** Memory for the kernel and user pages beyond the high watermarks, in pages. @linux mm/page_alloc.c:nr_free_buffer_pages */
export function nrFreeBufferPages(zones: readonly Zone[]): number {
  let pages = 0;
  for (const zone of zones) {
    if (zone.kind >= ZONE_HIGHMEM) continue;
    pages += Math.max(0, zone.managed - zone.wmarkPages(WMARK_HIGH));
  }
  return pages;
}

/** What to keep free for `pages` of memory, in KiB. @linux mm/page_alloc.c:calculate_min_free_kbytes */
export function calculateMinFreeKbytes(pages: number): number {
  const kib = Math.floor(Math.sqrt(pages * PAGE_KIB * 16));
  return Math.max(MIN_FREE_KBYTES_LEAST, Math.min(MIN_FREE_KBYTES_MOST, kib));
}

/**
 * What huge pages need to be kept free, in KiB: room for pageblocks of each type in each zone, at most a twentieth.
 *
 * @param pageblockOrder log2 of the frames in a pageblock
 * @linux mm/khugepaged.c:set_recommended_min_free_kbytes
 */
export function recommendedMinFreeKbytes(zones: readonly Zone[], pageblockOrder: number): number {
  const populated = zones.filter((zone) => zone.present > 0 && zone.kind < ZONE_HIGHMEM).length;
  // Two pageblocks for migration, and one for each pair of the three migrate types that have per-CPU lists.
  const pages = (1 << pageblockOrder) * populated * (2 + 3 * 3);
  return Math.min(pages, Math.floor(nrFreeBufferPages(zones) / 20)) * PAGE_KIB;
}

/** Pages that a CPU moves between its lists and the zone at once. @linux mm/page_alloc.c:zone_batchsize */
export function zoneBatchsize(managed: number): number {
  const quarter = Math.max(1, Math.floor(Math.min(Math.floor(managed / 1024), 256) / 4));
  return Math.max(1, roundDownPow2(quarter + (quarter >> 1)) - 1);
}

/**
 * Pages that a CPU may hold back of a zone.
 *
 * @param nrCpus of the zone's node, or of the machine where it has none
 * @param total to share among them
 * @linux mm/page_alloc.c:zone_highsize
 */
export function zoneHighsize(total: number, nrCpus: number, batch: number): number {
  return Math.max(Math.floor(total / nrCpus), batch << 2);
}

/**
 * Sets batch and high of each CPU's lists.
 *
 * @param highFraction `percpu_pagelist_high_fraction`: 0 derives the size from the low watermark
 * @linux mm/page_alloc.c:zone_set_pageset_high_and_batch
 */
export function setPagesetHighAndBatch(zone: Zone, nrCpus: number, highFraction: number, rules: WatermarkRules): void {
  const batch = zoneBatchsize(zone.managed);
  const total = highFraction > 0 ? Math.floor(zone.managed / highFraction) : zone.wmarkPages(WMARK_LOW);
  const highMin = zoneHighsize(total, nrCpus, batch);
  const highMax = highFraction > 0 || !rules.pcpAutoTune ? highMin : zoneHighsize(Math.floor(zone.managed / 8), nrCpus, batch);
  for (const pcp of zone.pcp) {
    pcp.setBounds(batch, highMin, highMax);
    if (!rules.pcpAutoTune) pcp.high = highMin;
  }
}

/**
 * How far a CPU's share of a counter may drift before it is folded: `vm stats threshold`. Counters here are exact; the
 * figure is printed.
 *
 * @linux mm/vmstat.c:calculate_normal_threshold
 */
export function calculateNormalThreshold(nrCpus: number, managed: number): number {
  return Math.min(125, 2 * fls(nrCpus) * (1 + fls(managed >>> 15)));
}

/** Pages that user space cannot hope for: reserves and high watermarks. @linux mm/page_alloc.c:calculate_totalreserve_pages */
export function totalreservePages(zones: readonly Zone[]): number {
  let pages = 0;
  for (const zone of zones) {
    const reserve = zone.lowmemReserve.reduce((most, kept) => Math.max(most, kept), 0);
    pages += Math.min(zone.managed, reserve + zone.wmarkPages(WMARK_HIGH));
  }
  return pages;
}

/** Number of the highest bit set, from 1; 0 for 0. */
function fls(value: number): number {
  return 32 - Math.clz32(value);
}

function roundDownPow2(value: number): number {
  return 1 << (31 - Math.clz32(value));
}
