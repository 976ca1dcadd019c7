import type { MmStruct } from '@pagelab/vm';
import { residentPages } from './usage.ts';

const PAGE_BYTES = 4096;

/** What an address space comes to, in bytes. */
export interface ProcessMemory {
  /** All mappings, and the most they came to. */
  readonly mapped: number;
  readonly peakMapped: number;
  /** What is in memory, and the most that was. */
  readonly resident: number;
  readonly peakResident: number;
  /** Between the heap's start and the program break. */
  readonly heap: number;
  readonly stack: number;
  readonly locked: number;
  /** Page tables below the top level. */
  readonly pageTables: number;
  /** Number of mappings. */
  readonly mappings: number;
}

/** Adds up an address space. Constant time. */
export function processMemory(mm: MmStruct): ProcessMemory {
  const resident = residentPages(mm);
  return {
    mapped: mm.totalVm * PAGE_BYTES,
    peakMapped: Math.max(mm.hiwaterVm, mm.totalVm) * PAGE_BYTES,
    resident: resident * PAGE_BYTES,
    peakResident: Math.max(mm.hiwaterRss, resident) * PAGE_BYTES,
    heap: mm.brk - mm.startBrk,
    stack: mm.stackVm * PAGE_BYTES,
    locked: mm.lockedVm * PAGE_BYTES,
    pageTables: mm.pgtablesBytes,
    mappings: mm.mapCount,
  };
}
