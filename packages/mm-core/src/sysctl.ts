/**
 * `/proc/sys/vm` as far as it governs free memory. Each write takes effect at once.
 */
import { Errno } from '@pagelab/abi';
import { WMARK_HIGH, WMARK_LOW, WMARK_MIN, WMARK_PROMO } from './alloc-flags.ts';
import type { MemoryNode } from './node.ts';
import {
  calculateMinFreeKbytes,
  nrFreeBufferPages,
  recommendedMinFreeKbytes,
  setPagesetHighAndBatch,
  setupPerZoneLowmemReserve,
  setupPerZoneWmarks,
} from './watermark.ts';
import type { WatermarkRules } from './watermark.ts';
import type { Zone } from './zone.ts';

/** Below this many pages huge pages switch themselves off. @linux mm/huge_memory.c:hugepage_init */
const THP_LEAST_PAGES = 131_072;

/** Sizes a CPU's share of a zone may be at least: fractions below are refused. @linux mm/page_alloc.c:MIN_PERCPU_PAGELIST_HIGH_FRACTION */
const LEAST_HIGH_FRACTION = 8;
const MOST_SCALE_FACTOR = 3000;

/** What may be set when the machine is configured. */
export interface PageAllocSysctlConfig {
  readonly minFreeKbytes?: number;
  readonly watermarkScaleFactor?: number;
  readonly watermarkBoostFactor?: number;
  readonly lowmemReserveRatio?: readonly number[];
  readonly percpuPagelistHighFraction?: number;
}

export class PageAllocSysctl {
  /**
   * Whether pageblocks are kept apart at any price short of failing: reclaim and compaction come before blocks of another type
   * are broken into.
   *
   * @linux mm/page_alloc.c:defrag_mode (since 6.15)
   */
  defragMode = false;
  #numaStat = true;
  /** Seconds between two looks of a CPU at its lists. @linux mm/vmstat.c:sysctl_stat_interval */
  statInterval = 1;
  readonly #nodes: readonly MemoryNode[];
  readonly #zones: readonly Zone[];
  readonly #nrCpus: number;
  readonly #rules: WatermarkRules;
  #minFreeKbytes = 0;
  /** What was written; −1 where nothing was. */
  #userMinFreeKbytes = -1;
  #watermarkScaleFactor = 10;
  #watermarkBoostFactor = 15_000;
  #lowmemReserveRatio: readonly number[];
  #percpuPagelistHighFraction = 0;
  #transparentHugepage = false;

  constructor(nodes: readonly MemoryNode[], nrCpus: number, ratio: readonly number[], rules: WatermarkRules) {
    this.#nodes = nodes;
    this.#zones = nodes.flatMap((node) => node.zones);
    this.#nrCpus = nrCpus;
    this.#lowmemReserveRatio = ratio;
    this.#rules = rules;
  }

  /** KiB to keep free: what all min watermarks come to. */
  get minFreeKbytes(): number {
    return this.#minFreeKbytes;
  }

  /** Distance of the watermarks, in ten-thousandths of a zone. */
  get watermarkScaleFactor(): number {
    return this.#watermarkScaleFactor;
  }

  /** How far a boost may go, in ten-thousandths of the high watermark; 0 switches boosting off. */
  get watermarkBoostFactor(): number {
    return this.#watermarkBoostFactor;
  }

  /** Whether it is counted which node served whom. */
  get numaStat(): boolean {
    return this.#numaStat;
  }

  setNumaStat(on: boolean): void {
    if (on === this.#numaStat) return;
    this.#numaStat = on;
    for (const zone of this.#zones) zone.setNumaStat(on);
  }

  /** By index of the zone. */
  get lowmemReserveRatio(): readonly number[] {
    return this.#lowmemReserveRatio;
  }

  /** Share of a zone that per-CPU lists may hold; 0 follows the low watermark. */
  get percpuPagelistHighFraction(): number {
    return this.#percpuPagelistHighFraction;
  }

  /** Whether huge pages are in use, and memory is kept free for them. */
  get transparentHugepage(): boolean {
    return this.#transparentHugepage;
  }

  /** Whether there is so much memory that huge pages are more use than they cost: 512 MiB. @linux mm/huge_memory.c:hugepage_init */
  get hasRoomForHugePages(): boolean {
    return this.#zones.reduce((pages, zone) => pages + zone.managed, 0) >= THP_LEAST_PAGES;
  }

  /** Sets {@link minFreeKbytes}. @returns 0 or −EINVAL @linux mm/page_alloc.c:min_free_kbytes_sysctl_handler */
  setMinFreeKbytes(kib: number): number {
    if (!Number.isInteger(kib) || kib < 0 || kib > 0x7fff_ffff) return -Errno.EINVAL;
    this.#minFreeKbytes = kib;
    this.#userMinFreeKbytes = kib;
    this.#setupWmarks();
    return 0;
  }

  /** Sets {@link watermarkScaleFactor}, 1 to 3000. @returns 0 or −EINVAL */
  setWatermarkScaleFactor(factor: number): number {
    if (!Number.isInteger(factor) || factor < 1 || factor > MOST_SCALE_FACTOR) return -Errno.EINVAL;
    this.#watermarkScaleFactor = factor;
    this.#setupWmarks();
    return 0;
  }

  /** Sets {@link watermarkBoostFactor}. @returns 0 or −EINVAL */
  setWatermarkBoostFactor(factor: number): number {
    if (!Number.isInteger(factor) || factor < 0) return -Errno.EINVAL;
    this.#watermarkBoostFactor = factor;
    return 0;
  }

  /** Sets {@link lowmemReserveRatio}; missing entries keep their value, those below 1 become 0. @returns 0 or −EINVAL */
  setLowmemReserveRatio(ratio: readonly number[]): number {
    if (ratio.some((value) => !Number.isInteger(value))) return -Errno.EINVAL;
    this.#lowmemReserveRatio = this.#lowmemReserveRatio.map((old, i) => Math.max(0, ratio[i] ?? old));
    this.#setupLowmemReserve();
    return 0;
  }

  /** Sets {@link percpuPagelistHighFraction}: 0, or at least 8. @returns 0 or −EINVAL */
  setPercpuPagelistHighFraction(fraction: number): number {
    if (!Number.isInteger(fraction) || fraction < 0 || (fraction > 0 && fraction < LEAST_HIGH_FRACTION)) return -Errno.EINVAL;
    this.#percpuPagelistHighFraction = fraction;
    this.#setupPagesets();
    return 0;
  }

  /** Switches huge pages on (always, madvise) or off (never), which moves `min_free_kbytes`. @linux mm/khugepaged.c:start_stop_khugepaged */
  setTransparentHugepage(on: boolean): void {
    this.#transparentHugepage = on;
    if (on) this.#minFreeKbytes = Math.max(this.#minFreeKbytes, recommendedMinFreeKbytes(this.#zones, this.#rules.pageblockOrder));
    else this.#calculateMinFree();
    this.#setupWmarks();
  }

  /** Works everything out from the memory there is. @linux mm/page_alloc.c:init_per_zone_wmark_min */
  init(config: PageAllocSysctlConfig, thp: boolean): void {
    this.#calculateMinFree();
    this.#setupWmarks();
    this.#setupLowmemReserve();
    if (this.hasRoomForHugePages) this.setTransparentHugepage(thp);
    if (config.watermarkBoostFactor !== undefined) this.#check('watermark_boost_factor', this.setWatermarkBoostFactor(config.watermarkBoostFactor));
    if (config.watermarkScaleFactor !== undefined) this.#check('watermark_scale_factor', this.setWatermarkScaleFactor(config.watermarkScaleFactor));
    if (config.minFreeKbytes !== undefined) this.#check('min_free_kbytes', this.setMinFreeKbytes(config.minFreeKbytes));
    if (config.lowmemReserveRatio !== undefined) this.#check('lowmem_reserve_ratio', this.setLowmemReserveRatio(config.lowmemReserveRatio));
    if (config.percpuPagelistHighFraction !== undefined) {
      this.#check('percpu_pagelist_high_fraction', this.setPercpuPagelistHighFraction(config.percpuPagelistHighFraction));
    }
  }

  #check(name: string, result: number): void {
    if (result < 0) throw new RangeError(`vm.${name}: not a value it can have`);
  }

  #calculateMinFree(): void {
    const calculated = calculateMinFreeKbytes(nrFreeBufferPages(this.#zones));
    if (calculated > this.#userMinFreeKbytes) this.#minFreeKbytes = calculated;
  }

  #setupWmarks(): void {
    const values = { minFreeKbytes: this.#minFreeKbytes, watermarkScaleFactor: this.#watermarkScaleFactor };
    setupPerZoneWmarks(this.#zones, values, this.#rules);
    this.#setupPagesets();
  }

  #setupLowmemReserve(): void {
    for (const node of this.#nodes) setupPerZoneLowmemReserve(node.zones, this.#lowmemReserveRatio);
  }

  #setupPagesets(): void {
    for (const node of this.#nodes) {
      const nrCpus = node.cpus.length > 0 ? node.cpus.length : this.#nrCpus;
      for (const zone of node.zones) {
        if (zone.present > 0) setPagesetHighAndBatch(zone, nrCpus, this.#percpuPagelistHighFraction, this.#rules);
      }
    }
  }
}

/** A zone's watermarks, boost included, by name. */
export function zoneWatermarks(zone: Zone): { min: number; low: number; high: number; promo: number } {
  return {
    min: zone.wmarkPages(WMARK_MIN),
    low: zone.wmarkPages(WMARK_LOW),
    high: zone.wmarkPages(WMARK_HIGH),
    promo: zone.wmarkPages(WMARK_PROMO),
  };
}
