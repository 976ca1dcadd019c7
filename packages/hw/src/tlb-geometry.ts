import type { TlbReplacement } from './tlb-array.ts';

/** One array of a TLB. */
export interface TlbArrayGeometry {
  readonly entries: number;
  /** As many as entries: fully associative. */
  readonly ways: number;
  /** log2 of the page sizes it holds: 12, 21, 30. */
  readonly shifts: readonly number[];
}

/** The shape of a processor's TLBs, for one thread that has the core to itself. */
export interface TlbGeometry {
  readonly name: string;
  readonly data: readonly TlbArrayGeometry[];
  readonly instruction: readonly TlbArrayGeometry[];
  /** The second level, of both sides; or of data alone, where there is one for instructions. */
  readonly second: readonly TlbArrayGeometry[];
  readonly secondInstruction?: readonly TlbArrayGeometry[];
  /**
   * Entries of the walk cache for each upper level, the one above the last (PDE) first, then PDPTE, then PML4E; fully
   * associative, least recently used.
   */
  readonly walkCache: readonly [number, number, number];
  readonly replacement: TlbReplacement;
  /** Cycles that a hit in the second level takes beyond one in the first. */
  readonly secondLevelCycles: number;
  /** Cycles for each entry that a walk reads. */
  readonly walkReferenceCycles: number;
}

const SMALL = 12;
const LARGE = 21;
const HUGE = 30;

// What no manual says is taken alike for all: replacement is by a tree of bits, walks read entries from the second-level
// cache at its latency, and of Intel's walk caches the sizes are estimates of the order that S. van Schaik et al.
// measured ("Reverse Engineering Hardware Page Table Caches Using Side-Channel Attacks on the MMU", 2017).

/**
 * Intel Nehalem (2008). Optimization Reference Manual 248966, section on Nehalem's cache and memory subsystem: DTLB0 of
 * 64 entries for 4 KiB and 32 for 2 MiB, 4 ways; ITLB of 128 entries for 4 KiB, 4 ways, and 7 for 2 MiB; a second level
 * of 512 entries for 4 KiB only, 4 ways. A hit there takes 7 cycles, a walk reads at 10.
 */
export const TLB_NEHALEM: TlbGeometry = Object.freeze({
  name: 'nehalem',
  data: [
    { entries: 64, ways: 4, shifts: [SMALL] },
    { entries: 32, ways: 4, shifts: [LARGE] },
  ],
  instruction: [
    { entries: 128, ways: 4, shifts: [SMALL] },
    { entries: 7, ways: 7, shifts: [LARGE] },
  ],
  second: [{ entries: 512, ways: 4, shifts: [SMALL] }],
  walkCache: [32, 4, 2] as const,
  replacement: 'plru',
  secondLevelCycles: 7,
  walkReferenceCycles: 10,
});

/**
 * Intel Skylake (2015). Optimization Reference Manual 248966, table "TLB parameters of the Skylake client
 * microarchitecture": ITLB of 128 entries with 8 ways for 4 KiB, 8 a thread for 2 MiB; DTLB of 64 with 4 ways, 32 with 4
 * ways, 4 with 4 ways for 1 GiB; second level of 1,536 entries with 12 ways for 4 KiB and 2 MiB, 16 with 4 ways for 1
 * GiB. Intel's top-down analysis charges a hit in the second level 9 cycles; the second-level cache takes 12.
 */
export const TLB_SKYLAKE: TlbGeometry = Object.freeze({
  name: 'skylake',
  data: [
    { entries: 64, ways: 4, shifts: [SMALL] },
    { entries: 32, ways: 4, shifts: [LARGE] },
    { entries: 4, ways: 4, shifts: [HUGE] },
  ],
  instruction: [
    { entries: 128, ways: 8, shifts: [SMALL] },
    { entries: 8, ways: 8, shifts: [LARGE] },
  ],
  second: [
    { entries: 1536, ways: 12, shifts: [SMALL, LARGE] },
    { entries: 16, ways: 4, shifts: [HUGE] },
  ],
  walkCache: [32, 4, 2] as const,
  replacement: 'plru',
  secondLevelCycles: 9,
  walkReferenceCycles: 12,
});

/**
 * Intel Golden Cove (2021). Optimization Reference Manual 248966, table of its TLBs: ITLB of 256 entries with 8 ways for
 * 4 KiB and 32 with 8 ways for 2 MiB; DTLB for loads of 96 entries with 6 ways, 32 with 4 ways, 8 for 1 GiB (the 16
 * entries for stores are left out: loads and stores share the larger one here). CPUID leaf 18H tells of a second level
 * of twice 1,024 entries with 8 ways, one half for 4 KiB and 2 MiB, the other for 4 KiB and 1 GiB: here 2,048 entries
 * with 16 ways for the two small sizes and 1,024 with 8 ways for the third.
 */
export const TLB_GOLDEN_COVE: TlbGeometry = Object.freeze({
  name: 'golden-cove',
  data: [
    { entries: 96, ways: 6, shifts: [SMALL] },
    { entries: 32, ways: 4, shifts: [LARGE] },
    { entries: 8, ways: 8, shifts: [HUGE] },
  ],
  instruction: [
    { entries: 256, ways: 8, shifts: [SMALL] },
    { entries: 32, ways: 8, shifts: [LARGE] },
  ],
  second: [
    { entries: 2048, ways: 16, shifts: [SMALL, LARGE] },
    { entries: 1024, ways: 8, shifts: [HUGE] },
  ],
  walkCache: [32, 4, 2] as const,
  replacement: 'plru',
  secondLevelCycles: 7,
  walkReferenceCycles: 15,
});

/**
 * AMD Zen 3 (2020). Software Optimization Guide for AMD Family 19h 56665, section 2.7: both first levels of 64 entries,
 * fully associative, for all sizes; second levels of 512 entries with 8 ways for instructions and 2,048 with 16 ways for
 * data, both for 4 KiB and 2 MiB: of a page of 1 GiB they hold pieces of 2 MiB. A page-directory cache of 64 entries
 * holds the upper levels; PDEs lie in the second level itself, of which 64 are taken here.
 */
export const TLB_ZEN3: TlbGeometry = Object.freeze({
  name: 'zen3',
  data: [{ entries: 64, ways: 64, shifts: [SMALL, LARGE, HUGE] }],
  instruction: [{ entries: 64, ways: 64, shifts: [SMALL, LARGE, HUGE] }],
  second: [{ entries: 2048, ways: 16, shifts: [SMALL, LARGE] }],
  secondInstruction: [{ entries: 512, ways: 8, shifts: [SMALL, LARGE] }],
  walkCache: [64, 64, 64] as const,
  replacement: 'plru',
  secondLevelCycles: 7,
  walkReferenceCycles: 12,
});

/** The processors that can be asked for by name. */
export const TLB_GEOMETRIES: readonly TlbGeometry[] = Object.freeze([
  TLB_SKYLAKE,
  TLB_ZEN3,
  TLB_NEHALEM,
  TLB_GOLDEN_COVE,
]);
