/**
 * What memory did while a program ran: the summary that `run` and `replay` end with.
 */
import type { Os } from '@pagelab/abi';
import type { Machine, MachineStats } from '@pagelab/kernel';
import Table from 'cli-table3';
import { PLAIN } from './plain-table.ts';

/** A process's own sizes, in KiB, from its `/proc/PID/status`. */
export interface ProcessSizes {
  readonly peakKb: number;
  readonly sizeKb: number;
  readonly residentPeakKb: number;
  readonly residentKb: number;
  readonly heapKb: number;
  readonly stackKb: number;
  readonly pageTablesKb: number;
  readonly mappings: number;
}

/** The machine at one moment. */
export interface Snapshot {
  readonly stats: MachineStats;
  /** The process that is looked at; `null` before and after its life. */
  readonly sizes: ProcessSizes | null;
}

/** What a report tells of. */
export interface MemoryReport {
  readonly before: MachineStats;
  /** When the program's function returned, its memory still there; `null` where a signal ended it. */
  readonly end: Snapshot | null;
  readonly after: MachineStats;
}

function parseSizes(status: string, maps: string): ProcessSizes {
  const kb = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
  const lines = maps.split('\n').filter((line) => line !== '');
  const heap = lines.find((line) => line.endsWith('[heap]'));
  const [start, end] = heap?.split(' ')[0]!.split('-').map((hex) => parseInt(hex, 16)) ?? [0, 0];
  return {
    peakKb: kb('VmPeak'), sizeKb: kb('VmSize'), residentPeakKb: kb('VmHWM'), residentKb: kb('VmRSS'),
    heapKb: (end! - start!) / 1024, stackKb: kb('VmStk'), pageTablesKb: kb('VmPTE'), mappings: lines.length,
  };
}

/** The machine as it is now, with the sizes of the process behind `os`. */
export function takeSnapshot(machine: Machine, os: Os): Snapshot {
  return { stats: machine.stats(), sizes: parseSizes(os.readFile('/proc/self/status'), os.readFile('/proc/self/maps')) };
}

const number = new Intl.NumberFormat('en-US');

/** A count with its thousands apart. */
export function count(value: number): string {
  return number.format(value);
}

export function formatKb(kb: number): string {
  return kb >= 10 * 1024 ? `${(kb / 1024).toFixed(1)} MiB` : `${count(kb)} KiB`;
}

export function formatTime(ns: number): string {
  if (ns >= 1e9) return `${(ns / 1e9).toFixed(2)} s`;
  return ns >= 1e6 ? `${(ns / 1e6).toFixed(2)} ms` : `${(ns / 1e3).toFixed(1)} µs`;
}


function ownersTable({ before, end, after }: MemoryReport): string {
  const columns = end === null ? [before, after] : [before, end.stats, after];
  const table = new Table({
    ...PLAIN,
    head: ['frames', 'at boot', ...(end === null ? [] : ['at its end']), 'afterwards'],
    colAligns: ['left', 'right', 'right', 'right'],
  });
  const owners = new Set(columns.flatMap((stats) => Object.keys(stats.framesByOwner)));
  for (const owner of owners) table.push([owner, ...columns.map((stats) => count(stats.framesByOwner[owner] ?? 0))]);
  return table.toString();
}

function blocksTable({ zones }: MachineStats): string {
  const orders = zones[0]?.freeBlocks.map((_, order) => String(order)) ?? [];
  const table = new Table({ ...PLAIN, head: ['free blocks of order', ...orders], colAligns: ['left', ...orders.map(() => 'right' as const)] });
  for (const { name, node, freeBlocks } of zones) table.push([`node ${node}, zone ${name}`, ...freeBlocks.map(count)]);
  return table.toString();
}

const SLABS_SHOWN = 6;

function slabTable({ slabs }: MachineStats, before: MachineStats): string {
  const was = new Map(before.slabs.map((cache) => [cache.name, cache.activeObjects]));
  const grown = slabs
    .map((cache) => ({ ...cache, growth: cache.activeObjects - (was.get(cache.name) ?? 0) }))
    .sort((a, b) => b.growth * b.objectSize - a.growth * a.objectSize)
    .slice(0, SLABS_SHOWN);
  const table = new Table({
    ...PLAIN, head: ['slab cache', 'object', 'in use', 'more than at boot', 'pages'], colAligns: ['left', 'right', 'right', 'right', 'right'],
  });
  for (const { name, objectSize, activeObjects, growth, pages } of grown) {
    table.push([name, `${objectSize} B`, count(activeObjects), count(growth), count(pages)]);
  }
  return table.toString();
}

/** The order of a transparent huge page. */
const HUGE_ORDER = 9;

/** The report as text, a block of lines without a newline at its end. */
export function formatReport(report: MemoryReport): string {
  const { before, end, after } = report;
  const at = end?.stats ?? after;
  const lines: string[] = [];
  const line = (name: string, text: string): void => void lines.push(`  ${name.padEnd(14)}${text}`);
  line('faults', `${count(after.faults - before.faults)}, ${count(after.majorFaults - before.majorFaults)} of them major`);
  line('TLB', `${count(after.tlb.walks - before.tlb.walks)} page walks, ${count(after.tlb.flushes - before.tlb.flushes)} flushes, ${count(after.tlb.ipis - before.tlb.ipis)} interrupts to other CPUs`);
  if (after.tlbModel) {
    const { name, accesses, l1Hits, l2Hits, misses, walkReferences, cycles } = after.tlbModel;
    line(name, `${count(accesses)} accesses: ${count(l1Hits)} L1 hits, ${count(l2Hits)} L2 hits, ${count(misses)} misses that read ${count(walkReferences)} entries; ${count(cycles)} cycles in all`);
  }
  if (end?.sizes) {
    const { peakKb, sizeKb, residentPeakKb, residentKb, heapKb, stackKb, pageTablesKb, mappings } = end.sizes;
    line('mapped', `${formatKb(sizeKb)} in ${mappings} mappings at its end, ${formatKb(peakKb)} at most; heap ${formatKb(heapKb)}, stack ${formatKb(stackKb)}`);
    line('resident', `${formatKb(residentKb)} at its end, ${formatKb(residentPeakKb)} at most, page tables ${formatKb(pageTablesKb)}`);
  }
  line('fragmentation', `${((at.unusableIndex[HUGE_ORDER] ?? 0) * 100).toFixed(2)} % of free memory lies in blocks too small for a huge page`);
  line('time', `${formatTime(after.timeNs - before.timeNs)} on the machine's clock`);
  return [lines.join('\n'), ownersTable(report), blocksTable(at), slabTable(at, before)].join('\n\n');
}
