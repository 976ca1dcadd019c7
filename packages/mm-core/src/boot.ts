/**
 * From a memory map to zones full of free pages.
 */
import type { Pfn } from '@pagelab/hw';
import { MIGRATE_CMA, MIGRATE_MOVABLE } from './migratetype.ts';
import type { BootLayout } from './mm-init.ts';
import { RESERVED_FOR_BOOT } from './memblock.ts';
import { LOCAL_DISTANCE, MemoryNode, REMOTE_DISTANCE, fallbackOrders } from './node.ts';
import { PageFrames } from './page.ts';
import type { FrameRange, PageAllocatorFactory, PageAllocatorRefusal, RunningCpu } from './page-allocator.ts';
import { mapZones } from './zone-map.ts';
import { Zone } from './zone.ts';

/** What {@link bootZones} makes. */
export interface BootedZones {
  readonly frames: PageFrames;
  /** log2 of the frames in a pageblock. */
  readonly pageblockOrder: number;
  /** Migrate type of each pageblock. */
  readonly blockTypes: Uint8Array;
  readonly nodes: readonly MemoryNode[];
  /** All zones by node, ascending, empty ones included. */
  readonly zones: readonly Zone[];
  /** Those with memory, the largest first. */
  readonly populated: readonly Zone[];
  /** CMA regions that are lent: each is in one zone. */
  readonly cmaAreas: readonly FrameRange[];
  /**
   * For each pageblock the position in `populated` of the zone it is in, 255 where it is in several. Where there is no memory
   * it says nothing.
   */
  readonly zoneOfBlock: Uint8Array;
}

/** Makes frames, zones and nodes, and hands the zones what boot has not reserved. @linux mm/mm_init.c:mm_core_init */
export function bootZones(
  layout: BootLayout,
  options: {
    readonly nrCpus: number;
    readonly distances: readonly (readonly number[])[] | undefined;
    readonly memorylessFirst: boolean;
    readonly pageAllocator: PageAllocatorFactory;
    readonly pageblockOrder: number;
    readonly smp: RunningCpu;
    readonly onFallback: (zone: Zone, allocFlags: number) => void;
    readonly onRefusal: (refusal: PageAllocatorRefusal) => void;
  },
): BootedZones {
  const { maxPfn } = layout;
  const frames = new PageFrames(maxPfn);
  const nrBlocks = Math.ceil(maxPfn / (1 << options.pageblockOrder));
  // Memory begins as movable: user pages are most of it, and what else is needed claims its pageblocks.
  const blockTypes = new Uint8Array(nrBlocks).fill(MIGRATE_MOVABLE);
  const nrZones = layout.zones.length / layout.nodes.length;
  const zones = layout.zones.map((shape) => new Zone(shape, frames, blockTypes, { ...options, nrZones }));
  const zonesOf = (nid: number): readonly Zone[] => zones.slice(nid * nrZones, (nid + 1) * nrZones);
  const nids = layout.nodes.map(({ nid }) => nid);
  const distances = options.distances ?? nids.map((from) => nids.map((to) => (from === to ? LOCAL_DISTANCE : REMOTE_DISTANCE)));
  const orders = fallbackOrders(
    distances,
    nids.map((nid) => zonesOf(nid).some((zone) => zone.present > 0)),
    layout.nodes.map(({ cpus }) => cpus.length > 0),
    options.memorylessFirst,
  );
  const nodes = layout.nodes.map((node, i) => new MemoryNode(node, distances[i], orders[i], zonesOf));
  const populated = zones.filter((zone) => zone.present > 0).sort((a, b) => b.spanned - a.spanned);
  handOver(layout, frames, populated);
  const cmaAreas = layout.cmaAreas.filter((area) => lendCma(area, blockTypes, populated));
  return { frames, pageblockOrder: options.pageblockOrder, blockTypes, nodes, zones, populated, cmaAreas, zoneOfBlock: mapZones(populated, nrBlocks, options.pageblockOrder) };
}

/** Gives the zones what is not reserved. @linux mm/memblock.c:memblock_free_all */
function handOver(layout: BootLayout, frames: PageFrames, zones: readonly Zone[]): void {
  const { memblock, maxPfn } = layout;
  frames.bootRanges = memblock.ownedRanges(maxPfn);
  for (const zone of zones) {
    for (const { start, end } of memblock.freeRanges(zone.startPfn, zone.endPfn)) zone.addManaged(start, end);
  }
}

/**
 * Lends the memory of a CMA region: its pageblocks are for movable pages from now on. A region in which zones meet is given up.
 *
 * @returns whether it is lent
 * @linux mm/cma.c:cma_init_reserved_areas, mm/mm_init.c:init_cma_reserved_pageblock
 */
function lendCma({ start, end }: FrameRange, blockTypes: Uint8Array, zones: readonly Zone[]): boolean {
  const zone = zones.find((each) => start >= each.startPfn && end <= each.endPfn);
  if (zone === undefined) {
    for (const each of zones) addPart(each, start, end);
    return false;
  }
  blockTypes.fill(MIGRATE_CMA, start / zone.pageblockPages, end / zone.pageblockPages);
  zone.cmaPages += end - start;
  zone.addManaged(start, end);
  return true;
}

/** Gives a zone what of a range is its own. */
function addPart(zone: Zone, start: Pfn, end: Pfn): void {
  const from = Math.max(start, zone.startPfn);
  const to = Math.min(end, zone.endPfn);
  if (from < to) zone.addManaged(from, to);
}

/**
 * Gives the zones what only boot needed. Watermarks do not follow: they were set before.
 *
 * @linux mm/page_alloc.c:free_reserved_area
 */
export function freeInitmem(layout: BootLayout, zones: readonly Zone[]): void {
  for (const { start, end, term } of layout.memblock.reserved) {
    if (term !== RESERVED_FOR_BOOT) continue;
    for (const zone of zones) addPart(zone, start, end);
  }
}
