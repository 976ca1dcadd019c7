/**
 * What memory did, in figures: the summary that a run ends with.
 */
import { NR_OWNERS, NR_PAGE_ORDERS, OWNER_FREE, OWNER_HOLE, VM_EVENT, ownerName } from '@pagelab/mm-core';
import type { TlbModelStats, TlbSideStats } from '@pagelab/hw';
import type { HighmemStats } from '@pagelab/vm';
import type { Kernel } from './kernel.ts';
import { processMemory } from './process-memory.ts';
import type { ProcessMemory } from './process-memory.ts';
import { processAccounting } from './usage.ts';

/** Free memory of a zone. */
export interface ZoneStats {
  readonly node: number;
  readonly name: string;
  /** Pages handed to the page allocator, and pages free. */
  readonly managed: number;
  readonly free: number;
  /** Pages on the CPUs' own lists. */
  readonly perCpu: number;
  /** Free blocks by order, 0 to 10. */
  readonly freeBlocks: readonly number[];
}

/** What the modelled TLBs of all CPUs counted: data and instructions together. */
export interface TlbModelCounts {
  /** The model: `skylake`, … */
  readonly name: string;
  readonly accesses: number;
  readonly l1Hits: number;
  readonly l2Hits: number;
  readonly misses: number;
  /** Entries of page tables that walks read from memory, and those the walk cache spared them. */
  readonly walkReferences: number;
  readonly walkReferencesSpared: number;
  /** Cycles beyond those of a hit in the first level. */
  readonly cycles: number;
}

/** What a slab cache holds. */
export interface CacheStats {
  readonly name: string;
  readonly objectSize: number;
  readonly activeObjects: number;
  readonly totalObjects: number;
  readonly pages: number;
}

/** A live process. */
export interface ProcessStats {
  readonly pid: number;
  readonly name: string;
  readonly threads: number;
  /** Faults of its own, those that waited for a device among them. */
  readonly faults: number;
  readonly memory: ProcessMemory;
}

/** Figures of a machine. Pages are of 4 KiB. */
export interface MachineStats {
  /** Virtual time since boot, in nanoseconds. */
  readonly timeNs: number;
  /** Pages of RAM that the page allocator manages. */
  readonly totalPages: number;
  readonly freePages: number;
  /** Page faults, and those that waited for a device. */
  readonly faults: number;
  readonly majorFaults: number;
  /** Frames by who has them: `'anonymous'`, `'slab'`, … */
  readonly framesByOwner: Readonly<Record<string, number>>;
  /**
   * What describing all frames costs: how many there are, and the bytes of `struct page` for them, as Linux keeps it (64 bytes
   * each), as a textbook reckons (40 bytes), and as it is kept here.
   */
  readonly memmap: { readonly frames: number; readonly linuxBytes: number; readonly textbookBytes: number; readonly ownBytes: number };
  /** Of the page tables, those of the kernel's half beyond what boot made: they stay once they are there. */
  readonly kernelPageTables: number;
  readonly zones: readonly ZoneStats[];
  /** Free blocks by order over all zones. */
  readonly freeBlocks: readonly number[];
  /**
   * For each order, the share of free memory that lies in blocks too small for it: 0 none, 1 all.
   * @linux mm/vmstat.c:unusable_free_index
   */
  readonly unusableIndex: readonly number[];
  /** Caches that have slabs, the largest first. */
  readonly slabs: readonly CacheStats[];
  /** Live processes, in the order they were made. */
  readonly processes: readonly ProcessStats[];
  /** How often the kernel looked at high memory through a window; `null` where there is none. */
  readonly highmem: HighmemStats | null;
  /** Page-table walks of all CPUs, TLB flushes, and interrupts sent for them. */
  readonly tlb: { readonly walks: number; readonly flushes: number; readonly ipis: number };
  /** The modelled TLBs' counts; `null` where the machine has none. */
  readonly tlbModel: TlbModelCounts | null;
  /** Bytes of the host's memory behind the machine's RAM. */
  readonly hostBytes: number;
}

/** Collects the figures. Costs a step for each frame ever touched. */
export function machineStats(kernel: Kernel): MachineStats {
  const { pages } = kernel;
  const census = pages.census();
  const framesByOwner: Record<string, number> = {};
  for (let owner = 0; owner < NR_OWNERS; owner++) {
    if (owner !== OWNER_HOLE && (census[owner]! > 0 || owner === OWNER_FREE)) framesByOwner[ownerName(owner)] = census[owner]!;
  }
  const zones = pages.zones
    .filter((zone) => zone.present > 0)
    .map((zone) => ({
      node: zone.nid,
      name: zone.name,
      managed: zone.managed,
      free: zone.nrFree,
      perCpu: zone.nrPcpPages(),
      freeBlocks: Array.from({ length: NR_PAGE_ORDERS }, (_, order) => zone.nrFreeBlocks(order)),
    }));
  const freeBlocks = Array.from({ length: NR_PAGE_ORDERS }, (_, order) =>
    zones.reduce((sum, zone) => sum + zone.freeBlocks[order]!, 0),
  );
  const slabs = [...kernel.slab.caches()]
    .filter((cache) => cache.nrPages > 0)
    .map((cache) => ({
      name: cache.name,
      objectSize: cache.objectSize,
      activeObjects: cache.activeObjects,
      totalObjects: cache.totalObjects,
      pages: cache.nrPages,
    }))
    .sort((a, b) => b.pages - a.pages);
  const cpus = kernel.smp.cpus.map((cpu) => cpu.stats);
  return {
    timeNs: kernel.clock.now,
    totalPages: pages.totalramPages,
    freePages: pages.nrFreePages(),
    faults: pages.events[VM_EVENT.PGFAULT]!,
    majorFaults: pages.events[VM_EVENT.PGMAJFAULT]!,
    framesByOwner,
    memmap: memmapStats(kernel),
    kernelPageTables: kernel.vm.vmalloc.initMm.tables.length,
    zones,
    freeBlocks,
    unusableIndex: unusableIndex(freeBlocks),
    slabs,
    processes: processStats(kernel),
    highmem: kernel.vm.highmem === null ? null : { ...kernel.vm.highmem.stats },
    tlb: {
      walks: cpus.reduce((sum, stats) => sum + stats.walks, 0),
      flushes: cpus.reduce((sum, stats) => sum + stats.tlbFlushes + stats.tlbPageFlushes, 0),
      ipis: kernel.smp.stats.ipis,
    },
    tlbModel: tlbModelCounts(kernel),
    hostBytes: kernel.ram.committedBytes,
  };
}

/** Bytes of `struct page` in the textbook's sum: 20 MB for 4 GiB in pages of 8 KiB. */
const TEXTBOOK_STRUCT_PAGE = 40;

function memmapStats({ pages }: Kernel): MachineStats['memmap'] {
  const { linux, columns } = pages.memmapBytes();
  const frames = pages.zones.reduce((sum, zone) => sum + zone.present, 0);
  return { frames, linuxBytes: linux, textbookBytes: frames * TEXTBOOK_STRUCT_PAGE, ownBytes: columns };
}

function processStats(kernel: Kernel): ProcessStats[] {
  const found: ProcessStats[] = [];
  for (const task of kernel.tasks.values()) {
    const { process } = task;
    if (task !== process.leader || process.mm === null) continue;
    const { minflt, majflt } = processAccounting(process);
    found.push({
      pid: process.tgid,
      name: process.comm,
      threads: process.threads.length,
      faults: minflt + majflt,
      memory: processMemory(process.mm),
    });
  }
  return found;
}

function tlbModelCounts({ smp }: Kernel): TlbModelCounts | null {
  const models = smp.cpus.map(({ tlbModel }) => tlbModel).filter((model) => model !== null && model !== undefined);
  const [first] = models;
  if (first === undefined) return null;
  const sum = (of: (stats: TlbModelStats) => number): number => models.reduce((total, { stats }) => total + of(stats), 0);
  const sides = (of: (side: TlbSideStats) => number): number => sum(({ data, instruction }) => of(data) + of(instruction));
  const bySize = (counts: readonly number[]): number => counts.reduce((total, n) => total + n, 0);
  return {
    name: first.name,
    accesses: sides(({ accesses }) => accesses),
    l1Hits: sides(({ l1Hits }) => bySize(l1Hits)),
    l2Hits: sides(({ l2Hits }) => bySize(l2Hits)),
    misses: sides(({ misses }) => bySize(misses)),
    walkReferences: sum(({ walkReferences }) => walkReferences),
    walkReferencesSpared: sum(({ walkReferencesSpared }) => walkReferencesSpared),
    cycles: sum(({ cycles }) => cycles),
  };
}

function unusableIndex(freeBlocks: readonly number[]): number[] {
  const free = freeBlocks.reduce((sum, blocks, order) => sum + blocks * 2 ** order, 0);
  let below = 0;
  return freeBlocks.map((blocks, order) => {
    const index = free === 0 ? 0 : below / free;
    below += blocks * 2 ** order;
    return index;
  });
}
