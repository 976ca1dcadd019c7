/**
 * The kinds of zones, and which of them an architecture has.
 */
import { MAX_PAGE_ORDER, PAGEBLOCK_ORDER } from './page.ts';

/** Below 16 MiB: what devices with 24 address lines reach. */
export const ZONE_DMA = 0;
/** Below 4 GiB: what devices with 32 address lines reach. */
export const ZONE_DMA32 = 1;
/** Memory the kernel has a permanent address for. */
export const ZONE_NORMAL = 2;
/** Memory the kernel maps only when it needs it. */
export const ZONE_HIGHMEM = 3;
/** Holds pages that can be moved only. */
export const ZONE_MOVABLE = 4;
/** Memory on devices. Always empty here. */
export const ZONE_DEVICE = 5;

/** Zones that a node has at most. @linux include/linux/mmzone.h:MAX_NR_ZONES */
export const MAX_NR_ZONES = 6;

/** Names as `/proc/zoneinfo` prints them. */
export const ZONE_NAMES: readonly string[] = ['DMA', 'DMA32', 'Normal', 'HighMem', 'Movable', 'Device'];

/** The zones of an architecture, in ascending order. */
export interface ZoneLayout {
  /** `ZONE_*` of each zone; its position is the zone's index. */
  readonly kinds: readonly number[];
  /** One past the last frame each zone may have. Movable and Device have none of their own. */
  readonly limits: readonly number[];
  /** Pages of the zone below for each page of the zones above that it keeps for its own allocations; 0 keeps none. */
  readonly lowmemReserveRatio: readonly number[];
  /**
   * log2 of the frames in a pageblock: the order of a huge page, or of the largest block where that is smaller.
   *
   * @linux include/linux/pageblock-flags.h:pageblock_order
   */
  readonly pageblockOrder: number;
  /** Whose image and early boot take their part of memory: those of x86-64 unless told. */
  readonly early?: 'x86-64' | 'x86-pae' | 'x86-32' | 'arm64';
}

const MIB_PAGES = 256;
const NO_LIMIT = Infinity;

/** Zones of x86-64. @linux arch/x86/mm/init.c:zone_sizes_init */
export const X86_64_ZONES: ZoneLayout = {
  kinds: [ZONE_DMA, ZONE_DMA32, ZONE_NORMAL, ZONE_MOVABLE, ZONE_DEVICE],
  limits: [16 * MIB_PAGES, 4096 * MIB_PAGES, NO_LIMIT, 0, 0],
  lowmemReserveRatio: [256, 256, 32, 0, 0],
  pageblockOrder: PAGEBLOCK_ORDER,
};

/**
 * Zones of arm64 where devices reach 4 GiB: all memory below is DMA, and nothing is left for DMA32.
 *
 * @linux arch/arm64/mm/init.c:zone_sizes_init
 */
export const ARM64_ZONES: ZoneLayout = {
  kinds: [ZONE_DMA, ZONE_DMA32, ZONE_NORMAL, ZONE_MOVABLE],
  limits: [4096 * MIB_PAGES, 4096 * MIB_PAGES, NO_LIMIT, 0],
  lowmemReserveRatio: [256, 256, 32, 0],
  pageblockOrder: PAGEBLOCK_ORDER,
  early: 'arm64',
};

/**
 * Zones of x86 with 32 bits: memory above what fits the kernel's GiB next to vmalloc is high memory. Entries reach 4 GiB,
 * with PAE 64 GiB; what lies above is not used.
 *
 * @param pae whether entries are 64 bits wide
 * @param vmallocBytes of `vmalloc=`, or 0 for the default of 128 MiB
 * @linux arch/x86/mm/init_32.c:find_low_pfn_range
 */
export function x86Zones(pae: boolean, vmallocBytes: number): ZoneLayout {
  const vmallocEnd = pae ? 0xfeffe000 : 0xfebfe000;
  const reserve = vmallocBytes === 0 ? 128 * 0x100000 : vmallocBytes + 8 * 0x100000;
  return {
    kinds: [ZONE_DMA, ZONE_NORMAL, ZONE_HIGHMEM, ZONE_MOVABLE],
    limits: [16 * MIB_PAGES, Math.floor((vmallocEnd - 0xc0000000 - reserve) / 4096), pae ? 65_536 * MIB_PAGES : 4096 * MIB_PAGES, 0],
    lowmemReserveRatio: [256, 32, 0, 0],
    // A huge page of 4 MiB is as large as a block can be.
    pageblockOrder: pae ? PAGEBLOCK_ORDER : MAX_PAGE_ORDER,
    early: pae ? 'x86-pae' : 'x86-32',
  };
}
