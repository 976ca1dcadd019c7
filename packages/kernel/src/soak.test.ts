/**
 * The soak of `testing/soak.ts` with each reclaim policy and each allocator. `SOAK_ACCESSES` is how many loads and stores each run
 * makes, `SOAK_SEEDS` how many seeds there are.
 */
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import type { Compressor } from '@pagelab/vm';
import { expect, test } from 'vitest';
import { soak } from './testing/soak.ts';
import type { SoakOptions } from './testing/soak.ts';

const { env = {} } = (globalThis as unknown as { process?: { env?: Record<string, string | undefined> } }).process ?? {};
const ACCESSES = Number(env['SOAK_ACCESSES'] ?? 150_000);
const SEEDS = Array.from({ length: Number(env['SOAK_SEEDS'] ?? 1) }, (_, i) => i + 1);
const PROGRAMS = 20;
const TIMEOUT = 120_000 + ACCESSES;

const MACHINES: readonly (readonly [string, object])[] = [
  ['the classic policy', { reclaim: 'classic' }],
  ['generations', { reclaim: 'mglru' }],
  ['first in, first out', { reclaim: 'fifo', pageAllocator: 'llfree' }],
  ['second chance', { reclaim: 'second-chance', pageAllocator: 'first-fit' }],
  ['generations, on other allocators', { reclaim: 'mglru', pageAllocator: 'llfree', slab: 'slab' }],
  ['the classic policy, on other allocators', { reclaim: 'classic', pageAllocator: 'first-fit', slab: 'slob' }],
  ['huge pages', { memory: '96M', cmdline: 'transparent_hugepage=always' }],
  ['huge pages and generations', { memory: '96M', cmdline: 'transparent_hugepage=always', reclaim: 'mglru' }],
  ['page tables of three levels', { arch: 'x86-pae' }],
  ['page tables of two levels', { arch: 'x86-32' }],
  ['two nodes', { memory: '80M', numa: [{ memory: '40M', cpus: [0] }, { memory: '40M', cpus: [1] }] }],
];

test.each(SEEDS.flatMap((seed) => MACHINES.map(([name, machine]) => [name, seed, machine] as const)))('nothing is lost with %s, seed %i', (_, seed, machine) => {
  const { done, lost, swapoffs } = soak({ seed, accesses: ACCESSES, programs: PROGRAMS, machine });
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
  ['merged pages', { merges: true, settings: { '/sys/kernel/mm/ksm/pages_to_scan': '500', '/sys/kernel/mm/ksm/sleep_millisecs': '1', '/sys/kernel/mm/ksm/run': '1' } }],
];

test.each(SEEDS.flatMap((seed) => MORE.map(([name, options]) => [name, seed, options] as const)))('nothing is lost with %s, seed %i', (_, seed, options) => {
  const { done, lost, swapoffs } = soak({ seed, accesses: ACCESSES, programs: PROGRAMS, ...options });
  expect([done, lost]).toEqual([PROGRAMS, 0]);
  expect(swapoffs.at(-1)).toBe(0);
}, TIMEOUT);

test.each(SEEDS.flatMap((seed) => ['classic', 'mglru'].map((reclaim) => [reclaim, seed] as const)))(
  'with one request in a thousand failing, only those go whose pages cannot be read: %s, seed %i',
  (reclaim, seed) => {
    soak({ seed, accesses: ACCESSES, programs: PROGRAMS, errorChance: 0.001, machine: { reclaim } });
  },
  TIMEOUT,
);
