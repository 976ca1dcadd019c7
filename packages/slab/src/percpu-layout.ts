/**
 * How per-CPU memory is laid out: how many units a piece of address space holds, and where each CPU's is.
 *
 *     group of CPUs near one another   | unit | unit | … |  its units next to one another, as many as `upa` a piece of `allocSize`
 *
 * Units are as far apart as fits a whole number of them into a piece that the page tables map in one: 2 MiB on 64 bits.
 *
 * @linux mm/percpu.c:pcpu_build_alloc_info
 */
import { PAGE_SIZE } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';

/** The most bytes of an area, and the least of a unit. @linux mm/percpu.c:PCPU_MIN_UNIT_SIZE */
export const PCPU_MIN_UNIT_SIZE = 32 * 1024;

/** What a kernel sets aside of each unit of the first chunk, in bytes, and what pieces are multiples of. */
export interface PercpuLayout {
  readonly staticSize: number;
  readonly reservedSize: number;
  /** At least; what rounds a unit up comes on top. */
  readonly dynSize: number;
  readonly atomSize: number;
  /** CPUs by how near they are to one another: those of a node. Each CPU there could be is in one. */
  readonly groups: readonly (readonly number[])[];
}

/** The layout that follows. */
export interface PercpuAllocInfo extends PercpuLayout {
  /** Bytes from one unit to the next, and of one that are used of the first chunk. */
  readonly unitSize: number;
  readonly usedSize: number;
  readonly allocSize: number;
  /** Units a piece, and units in all: a group takes whole pieces. */
  readonly unitsPerAlloc: number;
  readonly nrUnits: number;
  /** By CPU: bytes from the first unit to its own. */
  readonly unitOffsets: readonly number[];
}

/** Lays per-CPU memory out: the most units a piece that leave no more than a third of the CPUs' number unused. */
export function percpuAllocInfo(layout: PercpuLayout): PercpuAllocInfo {
  const { staticSize, reservedSize, dynSize, atomSize, groups } = layout;
  const usedSize = Math.ceil((staticSize + reservedSize + dynSize) / PAGE_SIZE) * PAGE_SIZE;
  const minUnitSize = Math.max(usedSize, PCPU_MIN_UNIT_SIZE);
  const allocSize = Math.ceil(minUnitSize / atomSize) * atomSize;
  const nrCpus = groups.reduce((sum, cpus) => sum + cpus.length, 0);
  let unitsPerAlloc = 0;
  let fewest = Infinity;
  for (let upa = Math.floor(allocSize / minUnitSize); upa > 0; upa--) {
    if (allocSize % upa !== 0 || (allocSize / upa) % PAGE_SIZE !== 0) continue;
    const allocs = groups.reduce((sum, cpus) => sum + Math.ceil(cpus.length / upa), 0);
    if (allocs * upa - nrCpus > Math.floor(nrCpus / 3)) continue;
    if (allocs > fewest) break;
    fewest = allocs;
    unitsPerAlloc = upa;
  }
  bugOn(unitsPerAlloc === 0, 'percpu: no layout for these CPUs');
  const unitSize = allocSize / unitsPerAlloc;
  const unitOffsets: number[] = [];
  let units = 0;
  for (const cpus of groups) {
    cpus.forEach((cpu, i) => {
      unitOffsets[cpu] = (units + i) * unitSize;
    });
    units += Math.ceil(cpus.length / unitsPerAlloc) * unitsPerAlloc;
  }
  return {
    ...layout,
    dynSize: usedSize - staticSize - reservedSize,
    unitSize, usedSize, allocSize, unitsPerAlloc, unitOffsets,
    nrUnits: units,
  };
}
