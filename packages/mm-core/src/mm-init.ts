/**
 * What boot makes of the firmware's memory map: nodes, zones, and what the kernel itself takes before there is a page
 * allocator.
 */
import type { MemoryRange, Pfn } from '@pagelab/hw';
import { cmaDeclareContiguous } from './cma-reserve.ts';
import type { CmaRequest } from './cma-reserve.ts';
import { Memblock, RESERVED_FOR_BOOT, clipRanges, countPages, usableRanges } from './memblock.ts';
import { OWNER_KERNEL_CODE, OWNER_KERNEL_DATA, OWNER_MEMMAP, OWNER_RESERVED } from './owner.ts';
import type { FrameRange } from './page-allocator.ts';
import { reserveEarlyArm64 } from './mm-init-arm64.ts';
import { findMovableStarts } from './movable-zone.ts';
import type { MovableRequest } from './movable-zone.ts';
import type { ZoneLayout } from './zone-types.ts';
import { ZONE_HIGHMEM, ZONE_MOVABLE } from './zone-types.ts';
import type { ZoneShape } from './zone.ts';

/** Kernels whose rules are known. */
export type KernelVersion = '6.1' | '6.12' | '6.18';

/** The first MiB belongs to the firmware. @linux arch/x86/realmode/init.c:reserve_real_mode */
const FIRST_MIB = 256;
/** Where the image lies: 16 MiB, as without address randomisation. @linux arch/x86/Kconfig:PHYSICAL_START */
const IMAGE_PFN = 4096;
/** A section of sparse memory: 128 MiB, described by 512 pages of struct page. @linux arch/x86/include/asm/sparsemem.h:SECTION_SIZE_BITS */
const SECTION_PAGES = 32_768;
const MEMMAP_PAGES = 512;
/** A bounce buffer for devices, wherever RAM lies above 4 GiB, and what describes it. @linux kernel/dma/swiotlb.c:swiotlb_init_remap */
const SWIOTLB_PAGES = 16_384;
const SWIOTLB_SLOT_PAGES = 192;
const FOUR_GIB = 1 << 20;

/**
 * Pages that the stock image and early boot take, fitted to recorded boots of Debian's kernels. 6.18 has those of 6.12,
 * the nearest one recorded.
 */
interface ImageSize {
  readonly code: number;
  /** Data, read-only data and BSS, with the gaps between. */
  readonly data: number;
  /** What only boot needs: given back when it is over. */
  readonly init: number;
  /** The initial file system, given back too. */
  readonly initrd: number;
  /** Page tables of boot, node data, first CPU's area … */
  readonly early: number;
  /** For each further CPU. */
  readonly perCpu: number;
}
const IMAGE_6_1: ImageSize = { code: 3586, data: 7732, init: 2002, initrd: 87, early: 627, perCpu: 62 };
const IMAGE_6_12: ImageSize = { code: 3584, data: 6022, init: 1665, initrd: 87, early: 630, perCpu: 68 };

/** A NUMA node as configured. */
export interface NodeConfig {
  /** Bytes of RAM, taken from the firmware's map in order of the nodes. */
  readonly memoryBytes: number;
  /** Numbers of its CPUs. */
  readonly cpus: readonly number[];
}

/** A node with its frames. */
export interface NodeShape {
  readonly nid: number;
  readonly cpus: readonly number[];
  readonly ranges: readonly FrameRange[];
}

/** What boot decided. */
export interface BootLayout {
  readonly maxPfn: Pfn;
  readonly nodes: readonly NodeShape[];
  /** All zones of node 0 ascending, then those of node 1, and so on. */
  readonly zones: readonly ZoneShape[];
  readonly memblock: Memblock;
  /** CMA regions: what `cma=` got. */
  readonly cmaAreas: readonly FrameRange[];
}

/** Lays memory out for `nrCpus` CPUs and room for `possibleCpus`. @throws RangeError where the nodes do not add up to the RAM */
export function layOutMemory(
  map: readonly MemoryRange[],
  layout: ZoneLayout,
  options: {
    readonly kernel: KernelVersion;
    readonly nrCpus: number;
    readonly possibleCpus: number;
    readonly nodes: readonly NodeConfig[];
    readonly movable: MovableRequest;
    readonly cma?: CmaRequest | undefined;
  },
): BootLayout {
  const memory = clipRanges(usableRanges(map), 0, Math.max(...layout.limits));
  const maxPfn = memory.at(-1)?.end ?? 1;
  const nodes = layOutNodes(map, memory, options.nodes, options.nrCpus);
  const memblock = new Memblock(memory);
  const { cma } = options;
  const cmaAreas: FrameRange[] = [];
  const highmem = layout.kinds.indexOf(ZONE_HIGHMEM);
  const highmemStart = highmem < 0 ? Infinity : layout.limits[highmem - 1];
  // Where devices are the reason for the region, they have to reach it.
  const ceiling = layout.early === 'arm64' ? layout.limits[0] : Infinity;
  const reserveCma = (): void => {
    const area = cma === undefined || cma.bytes === 0 ? undefined : cmaDeclareContiguous(memblock, cma, 1 << layout.pageblockOrder, highmemStart, ceiling);
    if (area !== undefined) cmaAreas.push(area);
  };
  if (layout.early === 'arm64') reserveEarlyArm64(memblock, nodes, options.possibleCpus, reserveCma);
  else reserveEarly(memblock, nodes, options.kernel, options.possibleCpus, reserveCma);
  const movableStarts = findMovableStarts(nodes, options.movable, highestZoneStart(layout, maxPfn));
  return { maxPfn, nodes, zones: nodes.flatMap((node, i) => zoneShapes(node, layout, movableStarts[i])), memblock, cmaAreas };
}

/** Lowest frame of the highest zone that holds memory of its own. */
function highestZoneStart(layout: ZoneLayout, maxPfn: Pfn): Pfn {
  let start = 1;
  for (const limit of layout.limits) if (limit > 0 && limit < maxPfn) start = limit;
  return start;
}

/** The zones of a node: its span cut at the limits of each. @linux mm/mm_init.c:zone_spanned_pages_in_node */
function zoneShapes(node: NodeShape, layout: ZoneLayout, movableStart: Pfn): ZoneShape[] {
  const first = node.ranges[0]?.start ?? 0;
  const last = node.ranges.at(-1)?.end ?? 0;
  let floor = 0;
  return layout.kinds.map((kind, index) => {
    let startPfn = Math.max(floor, first);
    let endPfn = Math.min(layout.limits[index], last, movableStart);
    if (kind === ZONE_MOVABLE) {
      startPfn = movableStart;
      endPfn = last;
    } else {
      floor = Math.max(floor, layout.limits[index]);
    }
    const present = startPfn < endPfn ? countPages(clipRanges(node.ranges, startPfn, endPfn)) : 0;
    if (present === 0) return { nid: node.nid, index, kind, startPfn: 0, endPfn: 0, present };
    return { nid: node.nid, index, kind, startPfn, endPfn, present };
  });
}

/** Deals the RAM out to the nodes, in order. The firmware's own part of RAM below 4 GiB counts, as the board has it. */
function layOutNodes(
  map: readonly MemoryRange[],
  memory: readonly FrameRange[],
  configs: readonly NodeConfig[],
  nrCpus: number,
): NodeShape[] {
  if (configs.length === 0) {
    return [{ nid: 0, cpus: Array.from({ length: nrCpus }, (_, cpu) => cpu), ranges: memory }];
  }
  const lowEnd = endOfLowRam(map);
  // Of a PC memory begins at 0; of another board, where the first of it is.
  const base = map.find(({ type }) => type === 'usable')?.start ?? 0;
  let offset = base >= FIRST_MIB * 4096 ? base : 0;
  const toPfn = (bytes: number): Pfn => Math.floor((bytes <= lowEnd ? bytes : bytes - lowEnd + FOUR_GIB * 4096) / 4096);
  const shapes = configs.map(({ memoryBytes, cpus }, nid) => {
    const start = offset === lowEnd ? (offset === 0 ? 0 : FOUR_GIB) : toPfn(offset);
    offset += memoryBytes;
    return { nid, cpus, ranges: memoryBytes === 0 ? [] : clipRanges(memory, start, toPfn(offset)) };
  });
  const dealt = shapes.reduce((pages, { ranges }) => pages + countPages(ranges), 0);
  if (dealt !== countPages(memory)) throw new RangeError(`the nodes have ${dealt} pages of memory, the machine ${countPages(memory)}`);
  return shapes;
}

/** One past the last byte of RAM below 4 GiB, what the firmware keeps at its end included. */
function endOfLowRam(map: readonly MemoryRange[]): number {
  let end = 0;
  for (const range of map) {
    if (range.start >= FOUR_GIB * 4096) break;
    if (range.type === 'usable' || range.start === end) end = range.end;
  }
  return end;
}

/**
 * Reserves what a kernel has taken by the time it sets up the page allocator. For one node that adds up to
 *
 *     12103 + 62 * (possible CPUs - 1) + 512 a section + hash tables + 16576 where RAM lies above 4 GiB
 *
 * pages with a 6.1 kernel, as recorded.
 */
function reserveEarly(
  memblock: Memblock,
  nodes: readonly NodeShape[],
  kernel: KernelVersion,
  nrCpus: number,
  reserveCma: () => void,
): void {
  const { memory } = memblock;
  const size = kernel === '6.1' ? IMAGE_6_1 : IMAGE_6_12;
  const maxPfn = memory.at(-1)?.end ?? 0;
  memblock.reserve(0, FIRST_MIB, OWNER_RESERVED);
  const above4G = maxPfn > FOUR_GIB;
  const memmapPages = nodes.map(({ ranges }) => countSections(ranges) * MEMMAP_PAGES);
  const tables = hashTablePages(memory);
  const early = size.early + size.perCpu * (nrCpus - 1) + tables + (above4G ? SWIOTLB_SLOT_PAGES : 0);
  placeImage(memblock, size, early + memmapPages.reduce((sum, pages) => sum + pages, 0));
  // Before memory is described, as the architecture has it.
  reserveCma();
  // Top down, as memblock does: what describes each node's memory, then all else, and last what is given back.
  nodes.forEach(({ ranges }, i) => {
    const first = ranges[0]?.start ?? 0;
    const placed = memblock.allocTopDown(memmapPages[i], first, ranges.at(-1)?.end ?? 0, OWNER_MEMMAP);
    if (placed < memmapPages[i]) memblock.allocTopDown(memmapPages[i] - placed, 0, maxPfn, OWNER_MEMMAP);
  });
  memblock.allocTopDown(early, FIRST_MIB, maxPfn, OWNER_KERNEL_DATA);
  memblock.allocTopDown(size.initrd, FIRST_MIB, maxPfn, OWNER_KERNEL_DATA, RESERVED_FOR_BOOT);
  if (above4G) memblock.allocTopDown(SWIOTLB_PAGES, FIRST_MIB, FOUR_GIB, OWNER_KERNEL_DATA);
}

/** Places the kernel image at 16 MiB; one built smaller where the stock image leaves too little. */
function placeImage(memblock: Memblock, size: ImageSize, others: number): void {
  const home = memblock.memory.some(({ start, end }) => start <= IMAGE_PFN && end > IMAGE_PFN + FIRST_MIB) ? IMAGE_PFN : FIRST_MIB;
  const room = memblock.memory.find(({ start, end }) => start <= home && end > home);
  if (room === undefined) return;
  let { code, data, init } = size;
  const above = countPages(clipRanges(memblock.memory, room.end, Infinity));
  const competing = Math.max(0, others + size.initrd - above);
  const available = room.end - home;
  if (code + data + init + competing > available) {
    const scale = Math.max(0, available - competing) / (4 * (code + data));
    code = Math.floor(code * scale);
    data = Math.floor(data * scale);
    init = 0;
  }
  memblock.reserve(home, home + code, OWNER_KERNEL_CODE);
  memblock.reserve(home + code, home + code + data, OWNER_KERNEL_DATA);
  memblock.reserve(home + code + data, home + code + data + init, OWNER_KERNEL_DATA, RESERVED_FOR_BOOT);
}

/** Sections that hold any of the ranges. */
function countSections(ranges: readonly FrameRange[]): number {
  let sections = 0;
  let last = -1;
  for (const { start, end } of ranges) {
    const from = Math.max(last + 1, Math.floor(start / SECTION_PAGES));
    const to = Math.floor((end - 1) / SECTION_PAGES);
    sections += Math.max(0, to - from + 1);
    last = Math.max(last, to);
  }
  return sections;
}

/** Pages of the dentry and inode hash tables, 8 bytes an entry. @linux mm/mm_init.c:alloc_large_system_hash */
function hashTablePages(memory: readonly FrameRange[]): number {
  // "Total pages" of the boot log: without struct page, and without what the firmware has of the first MiB.
  let total = -1;
  for (const { start, end } of memory) total += end - start - (end <= FIRST_MIB ? end - start : 0);
  for (const { start, end } of memory) if (end > FIRST_MIB) total -= Math.ceil((end - start) / 64);
  const rounded = Math.ceil(Math.max(total, 256) / 256) * 256;
  let shift = 1;
  for (let limit = 1 << 24; limit < rounded; limit *= 4) shift++;
  const entries = (by: number): number => 2 ** Math.ceil(Math.log2(Math.floor(rounded / 2 ** by)));
  return Math.ceil((entries(shift) * 8) / 4096) + Math.ceil((entries(shift + 1) * 8) / 4096);
}
