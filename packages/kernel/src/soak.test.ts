/**
 * The soak of `testing/soak.ts` with each reclaim policy and each allocator. `SOAK_ACCESSES` is how many loads and stores each run
 * makes, `SOAK_SEEDS` how many seeds there are or which, as `1,5,7`; with `SOAK_ALL` set each policy meets each allocator.
 */
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import type { Compressor } from '@pagelab/vm';
import { expect, test } from 'vitest';
import { RECLAIM_POLICIES } from './reclaim.ts';
import { soak } from './testing/soak.ts';
import type { SoakOptions } from './testing/soak.ts';

const { env = {} } = (globalThis as unknown as { process?: { env?: Record<string, string | undefined> } }).process ?? {};
const ACCESSES = Number(env['SOAK_ACCESSES'] ?? 100_000);
const SEEDS = env['SOAK_SEEDS']?.includes(',') === true ? env['SOAK_SEEDS'].split(',').filter(Boolean).map(Number) : Array.from({ length: Number(env['SOAK_SEEDS'] ?? 1) }, (_, i) => i + 1);
const PROGRAMS = 20;
const TIMEOUT = 120_000 + ACCESSES;

const PAGE_ALLOCATORS = ['buddy', 'llfree', 'first-fit'] as const;
const SLABS = ['slub', 'slab', 'slob'] as const;
type Named = readonly [name: string, machine: object];

/** Each policy with each allocator, or every one of both in turn. */
const COMBINATIONS: readonly Named[] =
  env['SOAK_ALL'] !== undefined
    ? RECLAIM_POLICIES.flatMap((reclaim) => PAGE_ALLOCATORS.flatMap((pageAllocator) => SLABS.map((slab) => combination(reclaim, pageAllocator, slab))))
    : RECLAIM_POLICIES.map((reclaim, i) => combination(reclaim, PAGE_ALLOCATORS[i % 3]!, SLABS[(i + Math.floor(i / 3)) % 3]!));

function combination(reclaim: string, pageAllocator: string, slab: string): Named {
  return [`${reclaim} on ${pageAllocator} and ${slab}`, { reclaim, pageAllocator, slab }];
}

const MACHINES: readonly Named[] = [
  ...COMBINATIONS,
  ['page tables of three levels', { arch: 'x86-pae' }],
  ['page tables of two levels', { arch: 'x86-32' }],
  ['two nodes', { memory: '80M', numa: [{ memory: '40M', cpus: [0] }, { memory: '40M', cpus: [1] }] }],
];

test.each(SEEDS.flatMap((seed) => MACHINES.map(([name, machine]) => [name, seed, machine] as const)))('nothing is lost with %s, seed %i', (_, seed, machine) => {
  const { done, lost, swapoffs } = soak({ seed, accesses: ACCESSES, programs: PROGRAMS, upheavals: 3, machine });
  expect([done, lost]).toEqual([PROGRAMS, 0]);
  expect(swapoffs.at(-1)).toBe(0);
}, TIMEOUT);

/** Compresses well where words repeat, as they do where little of a page was stored to. */
const deflate: Compressor = {
  name: 'deflate',
  compress: (page) => deflateRawSync(page, { level: 1 }),
  decompress: (data) => inflateRawSync(data),
};
const BALANCING = '/sys/kernel/debug/sched/numa_balancing/';
/** So little memory has no huge pages unless they are asked for. */
const THP = '/sys/kernel/mm/transparent_hugepage/';
const HUGE_PAGES = { [`${THP}enabled`]: 'always', [`${THP}shmem_enabled`]: 'always', [`${THP}hugepages-32kB/shmem_enabled`]: 'within_size' };
const MORE: readonly (readonly [string, Omit<SoakOptions, 'seed' | 'accesses' | 'programs'>])[] = [
  ['compressed swap', { machine: { cmdline: 'zswap.enabled=1 zswap.max_pool_percent=15 zswap.shrinker_enabled=1' }, compressors: [deflate] }],
  ['slower memory, and pages that follow their users', {
    machine: { memory: '88M', numa: [{ memory: '40M', cpus: [0] }, { memory: '24M', cpus: [1] }, { memory: '24M', cpus: [], adistance: 2880 }] },
    settings: {
      '/sys/kernel/mm/numa/demotion_enabled': '1',
      [`${BALANCING}scan_delay_ms`]: '1',
      [`${BALANCING}scan_period_min_ms`]: '1',
      '/proc/sys/kernel/numa_balancing': '3',
    },
  }],
  ['huge pages', { machine: { memory: '96M' }, settings: HUGE_PAGES }],
  ['huge pages and generations', { machine: { memory: '96M', reclaim: 'mglru' }, settings: HUGE_PAGES }],
  ['huge pages and arc', { machine: { memory: '96M', reclaim: 'arc' }, settings: HUGE_PAGES }],
  ['merged pages', { merges: true, settings: { '/sys/kernel/mm/ksm/pages_to_scan': '500', '/sys/kernel/mm/ksm/sleep_millisecs': '1', '/sys/kernel/mm/ksm/run': '1' } }],
];

test.each(SEEDS.flatMap((seed) => MORE.map(([name, options]) => [name, seed, options] as const)))('nothing is lost with %s, seed %i', (_, seed, options) => {
  const { done, lost, swapoffs } = soak({ seed, accesses: ACCESSES, programs: PROGRAMS, ...options });
  expect([done, lost]).toEqual([PROGRAMS, 0]);
  expect(swapoffs.at(-1)).toBe(0);
}, TIMEOUT);

test.each(SEEDS.flatMap((seed) => ['classic', 'mglru', 'lru'].map((reclaim) => [reclaim, seed] as const)))('groups are held to their limits, and lose nothing: %s, seed %i', (reclaim, seed) => {
  const { done, lost, swapoffs } = soak({ seed, accesses: ACCESSES, programs: PROGRAMS, upheavals: 2, groups: true, machine: { reclaim } });
  expect([done, lost]).toEqual([PROGRAMS, 0]);
  expect(swapoffs.at(-1)).toBe(0);
}, TIMEOUT);

test.each(SEEDS.flatMap((seed) => ['classic', 'mglru', 'arc'].map((reclaim) => [reclaim, seed] as const)))(
  'with one request in a thousand failing, only those go whose pages cannot be read: %s, seed %i',
  (reclaim, seed) => {
    soak({ seed, accesses: ACCESSES, programs: PROGRAMS, errorChance: 0.001, upheavals: 2, machine: { reclaim } });
  },
  TIMEOUT,
);

test.each(SEEDS.flatMap((seed) => ['classic', 'mglru', 'clock'].map((reclaim) => [reclaim, seed] as const)))(
  'with that of both disks, who could not write a file is told: %s, seed %i',
  (reclaim, seed) => {
    const machine = { reclaim, disk: { size: '64M', model: 'ssd' } };
    soak({ seed, accesses: ACCESSES, programs: PROGRAMS, errorChance: 0.001, fileErrorChance: 0.001, upheavals: 2, machine });
  },
  TIMEOUT,
);
