import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { MADV_PAGEOUT, MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE, Syscall } from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import type { Compressor } from '@pagelab/vm';
import { compressorContract } from '@pagelab/vm/contract';
import { expect, it } from 'vitest';
import { boot } from './index.ts';
import type { Machine, MachineConfigInput } from './index.ts';

const PARAMETERS = '/sys/module/zswap/parameters/';
const DEBUG = '/sys/kernel/debug/zswap/';

const deflate: Compressor = {
  name: 'deflate',
  compress: (page) => deflateRawSync(page, { level: 1 }),
  decompress: (data) => inflateRawSync(data),
};
compressorContract(deflate);

/** Another name for the same. */
const lzo: Compressor = { ...deflate, name: 'lzo' };

const SWAP: MachineConfigInput = { memory: '64M', swap: [{ size: '128M' }] };

function zswapMachine(config: Partial<MachineConfigInput> = SWAP, compressors: readonly Compressor[] = [deflate, lzo]): Machine {
  return boot({ ...SWAP, ...config, cmdline: `zswap.enabled=1 ${config.cmdline ?? ''}` }, { compressors });
}

function vmstat(machine: Machine, name: string): number {
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(machine.readFile('/proc/vmstat'))![1]);
}

function meminfo(machine: Machine, name: string): number {
  return Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(machine.readFile('/proc/meminfo'))![1]);
}

const counter = (machine: Machine, name: string): number => Number(machine.readFile(`${DEBUG}${name}`));

/** Maps pages and fills each by its number. */
function fill(os: Os, pages: number, word: (page: number, at: number) => number): number {
  const start = os.mmap(0, pages * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  for (let page = 0; page < pages; page++) {
    for (let at = 0; at < PAGE_SIZE; at += 4) os.mem.store32(start + page * PAGE_SIZE + at, word(page, at));
  }
  return start;
}

/** A quarter of the page is noise. */
const text = (page: number, at: number): number => (at % 16 === 0 ? Math.imul(page * 4096 + at + 1, 0x9e37_79b1) >>> 0 : page);
function noise(page: number, at: number): number {
  let hash = Math.imul(page * 1024 + at / 4 + 1, 0x9e37_79b1);
  hash = Math.imul(hash ^ (hash >>> 15), 0x85eb_ca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}

it('has the files of 6.18, and their bounds', () => {
  const machine = boot(SWAP, { compressors: [lzo, deflate] });
  expect(machine.listFiles().filter((path) => path.includes('/zswap/'))).toEqual(
    ['accept_threshold_percent', 'compressor', 'enabled', 'max_pool_percent', 'shrinker_enabled'].map((name) => `${PARAMETERS}${name}`),
  );
  const values = (): string => ['accept_threshold_percent', 'compressor', 'enabled', 'max_pool_percent', 'shrinker_enabled'].map((name) => machine.readFile(`${PARAMETERS}${name}`).trim()).join(' ');
  expect(values()).toBe('90 lzo N 20 N');
  // Any name will do before it is set up, and any percentage ever.
  machine.writeFile(`${PARAMETERS}compressor`, 'nosuch\n');
  machine.writeFile(`${PARAMETERS}compressor`, 'lzo\n');
  machine.writeFile(`${PARAMETERS}max_pool_percent`, '150\n');
  expect(() => machine.writeFile(`${PARAMETERS}max_pool_percent`, '-1\n')).toThrow('EINVAL');
  expect(() => machine.writeFile(`${PARAMETERS}enabled`, 'maybe\n')).toThrow('EINVAL');
  machine.writeFile(`${PARAMETERS}enabled`, 'Y\n');
  expect(machine.dmesg()).toContain('zswap: loaded using pool lzo');
  expect(values()).toBe('90 lzo Y 150 N');
  expect(() => machine.writeFile(`${PARAMETERS}compressor`, 'nosuch\n')).toThrow('ENOENT');
  expect(values()).toBe('90 lzo Y 150 N');
  expect(machine.listFiles().filter((path) => path.startsWith(DEBUG)).map((path) => path.slice(DEBUG.length)).sort()).toEqual([
    'decompress_fail', 'pool_limit_hit', 'pool_total_size', 'reject_alloc_fail', 'reject_compress_fail', 'reject_compress_poor',
    'reject_kmemcache_fail', 'reject_reclaim_fail', 'stored_incompressible_pages', 'stored_pages', 'written_back_pages',
  ]);
});

it('cannot be enabled with nothing to compress with', () => {
  const machine = boot(SWAP);
  expect(() => machine.writeFile(`${PARAMETERS}enabled`, '1')).toThrow('ENODEV');
  expect(machine.readFile(`${PARAMETERS}enabled`)).toBe('N\n');
  expect(() => boot({ ...SWAP, cmdline: 'zswap.enabled=1' })).toThrow('nothing to compress with');
  expect(() => boot({ ...SWAP, cmdline: 'zswap.max_pool_percent=much' })).toThrow('"zswap.max_pool_percent" takes a percentage');
});

it('keeps pages in memory, smaller, and gives them back', () => {
  const machine = zswapMachine();
  const { os } = machine.createProcess();
  const start = fill(os, 64, text);
  os.madvise(start, 64 * PAGE_SIZE, MADV_PAGEOUT);
  machine.validate();
  expect([vmstat(machine, 'zswpout'), vmstat(machine, 'pswpout')]).toEqual([64, 0]);
  expect(counter(machine, 'stored_pages')).toBe(64);
  expect(meminfo(machine, 'Zswapped')).toBe(256);
  // A quarter of each page is noise: a third of it is what it takes.
  const pool = meminfo(machine, 'Zswap');
  expect(pool).toBeGreaterThan(64);
  expect(pool).toBeLessThan(128);
  expect(vmstat(machine, 'nr_zspages') * 4).toBe(pool);
  expect(counter(machine, 'pool_total_size')).toBe(pool * 1024);
  for (let page = 0; page < 64; page++) for (const at of [0, 4, 2048, 4080]) expect(os.mem.load32(start + page * PAGE_SIZE + at)).toBe(text(page, at));
  expect([vmstat(machine, 'zswpin'), vmstat(machine, 'pswpin'), counter(machine, 'stored_pages')]).toEqual([64, 0, 0]);
  // They have no copy any more: out they go again.
  os.madvise(start, 64 * PAGE_SIZE, MADV_PAGEOUT);
  expect(vmstat(machine, 'zswpout')).toBe(128);
  os.munmap(start, 64 * PAGE_SIZE);
  expect([counter(machine, 'stored_pages'), meminfo(machine, 'Zswap')]).toEqual([0, 0]);
  machine.validate();
});

it('leaves pages of zeros to their slots, and stores noise as it is', () => {
  const machine = zswapMachine();
  const { os } = machine.createProcess();
  const zeros = fill(os, 8, () => 0);
  const noisy = fill(os, 8, noise);
  os.madvise(zeros, 8 * PAGE_SIZE, MADV_PAGEOUT);
  os.madvise(noisy, 8 * PAGE_SIZE, MADV_PAGEOUT);
  expect([vmstat(machine, 'swpout_zero'), vmstat(machine, 'zswpout')]).toEqual([8, 8]);
  expect(counter(machine, 'stored_incompressible_pages')).toBe(8);
  expect(meminfo(machine, 'Zswap')).toBe(32);
  for (let page = 0; page < 8; page++) expect(os.mem.load32(noisy + page * PAGE_SIZE + 400)).toBe(noise(page, 400));
  expect(counter(machine, 'stored_incompressible_pages')).toBe(0);
  machine.validate();
});

it('writes back what has been there longest when it is full, down to the threshold', () => {
  const machine = zswapMachine({ cmdline: 'zswap.max_pool_percent=2' });
  const { os } = machine.createProcess();
  const pages = 1024;
  const start = fill(os, pages, noise);
  os.madvise(start, pages * PAGE_SIZE, MADV_PAGEOUT);
  const most = Math.floor((Math.floor(meminfo(machine, 'MemTotal') / 4) * 2) / 100);
  expect(counter(machine, 'pool_limit_hit')).toBeGreaterThan(0);
  expect(vmstat(machine, 'zswpout')).toBe(most);
  expect(vmstat(machine, 'pswpout')).toBe(pages - most);
  // Each page that finds it full has the worker look at 16 more; the first time round they are spared.
  for (let i = 0; i < 40; i++) {
    os.mem.store32(start + (pages - 1) * PAGE_SIZE, noise(pages - 1, 0));
    os.madvise(start + (pages - 1) * PAGE_SIZE, PAGE_SIZE, MADV_PAGEOUT);
  }
  expect(counter(machine, 'pool_total_size') / PAGE_SIZE).toBeLessThanOrEqual(Math.floor(most * 0.9) + 1);
  expect(vmstat(machine, 'zswpwb')).toBeGreaterThanOrEqual(most - Math.floor(most * 0.9));
  expect(counter(machine, 'written_back_pages')).toBe(vmstat(machine, 'zswpwb'));
  machine.validate();
  for (let page = 0; page < pages; page++) expect(os.mem.load32(start + page * PAGE_SIZE + 8)).toBe(noise(page, 8));
  machine.validate();
});

it('changes compressors under the pages that are stored', () => {
  const machine = zswapMachine({ cmdline: 'slab_nomerge' });
  const { os } = machine.createProcess();
  const start = fill(os, 32, text);
  os.madvise(start, 16 * PAGE_SIZE, MADV_PAGEOUT);
  machine.writeFile(`${PARAMETERS}compressor`, 'lzo');
  os.madvise(start + 16 * PAGE_SIZE, 16 * PAGE_SIZE, MADV_PAGEOUT);
  const caches = (): string[] => machine.stats().slabs.map(({ name }) => name).filter((name) => name.startsWith('zs'));
  expect(counter(machine, 'stored_pages')).toBe(32);
  machine.validate();
  for (let page = 0; page < 32; page++) expect(os.mem.load32(start + page * PAGE_SIZE + 16)).toBe(text(page, 16));
  expect(caches()).toContain('zspage-zswap2');
  expect(caches()).not.toContain('zspage-zswap1');
  machine.validate();
});

it('lets pages go to their slots early where the shrinker may, and all of them come back by swapoff', () => {
  const machine = zswapMachine({ cmdline: 'zswap.shrinker_enabled=1 zswap.max_pool_percent=50' });
  const { os } = machine.createProcess();
  const pages = 14_000;
  const start = os.mmap(0, pages * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  const bytes = new Uint8Array(1024);
  const words = new Uint32Array(bytes.buffer);
  for (let page = 0; page < pages; page++) {
    for (let i = 0; i < words.length; i++) words[i] = noise(page, i * 4);
    os.mem.write(start + page * PAGE_SIZE, bytes);
  }
  expect(vmstat(machine, 'zswpout')).toBeGreaterThan(2000);
  machine.validate();
  // Reclaim at its hardest: each time 128 more have had their second round.
  for (let i = 0; i < 80; i++) machine.writeFile('/proc/sys/vm/drop_caches', '2');
  expect(vmstat(machine, 'zswpwb')).toBeGreaterThan(0);
  expect(counter(machine, 'pool_limit_hit')).toBe(0);
  machine.validate();
  os.munmap(start, (pages - 2000) * PAGE_SIZE);
  const path = os.mmap(0, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  os.mem.storeCString(path, '/dev/vdb');
  expect(os.syscall(Syscall.swapoff, path)).toBe(0);
  expect(counter(machine, 'stored_pages')).toBe(0);
  for (let page = pages - 2000; page < pages; page++) expect(os.mem.load32(start + page * PAGE_SIZE + 4)).toBe(noise(page, 4));
  machine.validate();
});
