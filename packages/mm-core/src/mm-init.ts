/**
 * What boot makes of the firmware's memory map: nodes, zones, and what the kernel itself takes before there is a page
 * allocator.
 */
import type { MemoryRange, Pfn } from '@pagelab/hw';
import { cmaDeclareContiguous } from './cma-reserve.ts';
import type { CmaRequest } from './cma-reserve.ts';
import { Memblock, RESERVED_FOR_BOOT, RESERVED_FOR_EVER, clipRanges, countPages, usableRanges } from './memblock.ts';
import { OWNER_KERNEL_CODE, OWNER_KERNEL_DATA, OWNER_MEMMAP, OWNER_RESERVED } from './owner.ts';
import type { FrameRange } from './page-allocator.ts';
import { reserveEarlyArm64 } from './mm-init-arm64.ts';
import { findMovableStarts } from './movable-zone.ts';
import type { MovableRequest } from './movable-zone.ts';
import type { ZoneLayout } from './zone-types.ts';
import { ZONE_HIGHMEM, ZONE_MOVABLE, ZONE_NAMES } from './zone-types.ts';
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
/** Images for 32 bits, of 6.1 both. What early boot takes there differs by up to a hundred pages from boot to boot: this is the middle. */
const IMAGE_PAE: ImageSize = { code: 2356, data: 1233, init: 232, initrd: 91, early: 214, perCpu: 33 };
const IMAGE_32: ImageSize = { code: 2332, data: 1225, init: 228, initrd: 91, early: 128, perCpu: 33 };
/** `struct page` of 32 bits. All of memory is described there, holes too. @linux include/linux/mm_types.h:page */
const STRUCT_PAGE_32 = 40;
/** What describes another node, by kernel. @linux arch/x86/mm/numa.c:alloc_node_data */
const NODE_DATA_PAGES = { '6.1': 44, later: 43 } as const;

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

/** How many pages of a zone the page allocator has. */
export interface ManagedPages {
  readonly node: number;
  /** As `/proc/zoneinfo` has it: `DMA32`, … */
  readonly zone: string;
  readonly pages: number;
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
    /** What boot is to leave of each zone, whatever this kernel takes. */
    readonly managed?: readonly ManagedPages[] | undefined;
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
  const movableStarts = findMovableStarts(nodes, options.movable, highestZoneStart(layout, maxPfn));
  const zones = nodes.flatMap((node, i) => zoneShapes(node, layout, movableStarts[i]));
  const { managed } = options;
  const early = { architecture: layout.early ?? 'x86-64', kernel: options.kernel, nrCpus: options.possibleCpus, lowEnd: Math.min(maxPfn, highmemStart) } as const;
  if (layout.early === 'arm64') reserveEarlyArm64(memblock, nodes, options.possibleCpus, reserveCma);
  else if (managed === undefined) reserveEarly(memblock, nodes, early, reserveCma);
  else reserveLike(memblock, zones, early, managed, reserveCma);
  return { maxPfn, nodes, zones, memblock, cmaAreas };
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

/** Which kernel boots, and where it may place what it needs. */
interface EarlyBoot {
  readonly architecture: 'x86-64' | 'x86-pae' | 'x86-32' | 'arm64';
  readonly kernel: KernelVersion;
  readonly nrCpus: number;
  /** One past the last frame that the kernel has a permanent address for. */
  readonly lowEnd: Pfn;
}

function imageSize({ architecture, kernel }: EarlyBoot): ImageSize {
  if (architecture === 'x86-pae') return IMAGE_PAE;
  if (architecture === 'x86-32') return IMAGE_32;
  return kernel === '6.1' ? IMAGE_6_1 : IMAGE_6_12;
}

/**
 * Reserves what a kernel has taken by the time it sets up the page allocator. For one node that adds up to
 *
 *     12103 + 62 * (possible CPUs - 1) + 512 a section + hash tables + 16576 where RAM lies above 4 GiB
 *
 * pages with a 6.1 kernel, as recorded. A further node takes 44; but then the hash tables are made later, of all nodes.
 */
function reserveEarly(memblock: Memblock, nodes: readonly NodeShape[], boot: EarlyBoot, reserveCma: () => void): void {
  const { memory } = memblock;
  const size = imageSize(boot);
  const { lowEnd } = boot;
  const maxPfn = memory.at(-1)?.end ?? 0;
  memblock.reserve(0, FIRST_MIB, OWNER_RESERVED);
  const above4G = maxPfn > FOUR_GIB;
  const is64 = boot.architecture === 'x86-64';
  const memmapPages = nodes.map(({ ranges }) =>
    is64 ? countSections(ranges) * MEMMAP_PAGES : Math.ceil((((ranges.at(-1)?.end ?? 0) - (ranges[0]?.start ?? 0)) * STRUCT_PAGE_32) / 4096),
  );
  const tables = hashesLate(boot, nodes.length) ? 0 : hashTablePages(clipRanges(memory, 0, lowEnd), is64 ? 8 : 4);
  const perNode = (nodes.length - 1) * NODE_DATA_PAGES[boot.kernel === '6.1' ? '6.1' : 'later'];
  const early = size.early + size.perCpu * (boot.nrCpus - 1) + perNode + tables + (above4G ? SWIOTLB_SLOT_PAGES : 0);
  placeImage(memblock, size, early + memmapPages.reduce((sum, pages) => sum + pages, 0), lowEnd);
  // Before memory is described, as the architecture has it.
  reserveCma();
  // Top down, as memblock does: what describes each node's memory, then all else, and last what is given back.
  nodes.forEach(({ ranges }, i) => {
    const first = ranges[0]?.start ?? 0;
    const placed = memblock.allocTopDown(memmapPages[i], first, Math.min(lowEnd, ranges.at(-1)?.end ?? 0), OWNER_MEMMAP);
    if (placed < memmapPages[i]) memblock.allocTopDown(memmapPages[i] - placed, 0, lowEnd, OWNER_MEMMAP);
  });
  memblock.allocTopDown(early, FIRST_MIB, lowEnd, OWNER_KERNEL_DATA);
  memblock.allocTopDown(size.initrd, FIRST_MIB, lowEnd, OWNER_KERNEL_DATA, RESERVED_FOR_BOOT);
  if (above4G) memblock.allocTopDown(SWIOTLB_PAGES, FIRST_MIB, Math.min(lowEnd, FOUR_GIB), OWNER_KERNEL_DATA);
}

/** Whether the hash tables of dentries and inodes are spread over the nodes, once there is vmalloc. @linux mm/mm_init.c:hashdist_init */
function hashesLate({ architecture }: EarlyBoot, nrNodes: number): boolean {
  return architecture === 'x86-64' && nrNodes > 1;
}

/**
 * Reserves so much that each zone is left with the pages it is to have: the image where there is most room for it, and the
 * remainder as what early boot took.
 */
function reserveLike(memblock: Memblock, zones: readonly ZoneShape[], boot: EarlyBoot, managed: readonly ManagedPages[], reserveCma: () => void): void {
  const size = imageSize(boot);
  memblock.reserve(0, FIRST_MIB, OWNER_RESERVED);
  const wanted = (zone: ZoneShape): number =>
    managed.find(({ node, zone: name }) => node === zone.nid && name === ZONE_NAMES[zone.kind])?.pages ?? zone.present;
  // What is given back, or lent, the page allocator has, too.
  const taken = (zone: ZoneShape): number => countPages(clipRanges(memblock.reserved.filter(({ term }) => term === RESERVED_FOR_EVER), zone.startPfn, zone.endPfn));
  const excess = (zone: ZoneShape): number => zone.present - taken(zone) - wanted(zone);
  const image = size.code + size.data;
  const fits = (zone: ZoneShape | undefined): boolean => zone !== undefined && excess(zone) >= image;
  const home = zones.find(({ startPfn, endPfn }) => startPfn <= IMAGE_PFN && endPfn > IMAGE_PFN);
  const roomy = fits(home) ? home : zones.find(fits);
  const largest = zones.reduce((most, zone) => (excess(zone) > excess(most) ? zone : most));
  placeImage(memblock, size, Math.max(0, -(excess(roomy ?? largest) - image)), boot.lowEnd, roomy === home ? IMAGE_PFN : (roomy ?? largest).startPfn);
  reserveCma();
  for (const zone of zones) {
    const more = excess(zone);
    if (more > 0) memblock.allocTopDown(more, zone.startPfn, zone.endPfn, OWNER_KERNEL_DATA);
  }
  memblock.allocTopDown(size.initrd, FIRST_MIB, boot.lowEnd, OWNER_KERNEL_DATA, RESERVED_FOR_BOOT);
}

/** Places the kernel image, at 16 MiB unless told; one built smaller where the stock image leaves too little. */
function placeImage(memblock: Memblock, size: ImageSize, others: number, lowEnd: Pfn, wish: Pfn = IMAGE_PFN): void {
  const home = memblock.memory.some(({ start, end }) => start <= wish && end > wish + FIRST_MIB) ? wish : FIRST_MIB;
  const room = memblock.memory.find(({ start, end }) => start <= home && end > home);
  if (room === undefined) return;
  let { code, data, init } = size;
  const above = countPages(clipRanges(memblock.memory, room.end, lowEnd));
  const competing = Math.max(0, others + size.initrd - above);
  const available = Math.min(room.end, lowEnd) - home;
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

/** Pages of the dentry and inode hash tables, a pointer an entry; memory that the kernel cannot address does not count. @linux mm/mm_init.c:alloc_large_system_hash */
function hashTablePages(memory: readonly FrameRange[], wordBytes: number): number {
  // "Total pages" of the boot log: without struct page, and without what the firmware has of the first MiB.
  let total = -1;
  for (const { start, end } of memory) total += end - start - (end <= FIRST_MIB ? end - start : 0);
  for (const { start, end } of memory) if (end > FIRST_MIB) total -= Math.ceil((end - start) / 64);
  const rounded = Math.ceil(Math.max(total, 256) / 256) * 256;
  let shift = 1;
  for (let limit = 1 << 24; limit < rounded; limit *= 4) shift++;
  const entries = (by: number): number => 2 ** Math.ceil(Math.log2(Math.floor(rounded / 2 ** by)));
  return Math.ceil((entries(shift) * wordBytes) / 4096) + Math.ceil((entries(shift + 1) * wordBytes) / 4096);
}
