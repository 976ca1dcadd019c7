/** Page frames as those see them who stand outside: by files, figures, the configuration and a module's calls. */
import { Errno } from '@pagelab/abi';
import { describe, expect, it, test } from 'vitest';
import { boot } from './boot.ts';
import { GFP_DMA, GFP_KERNEL, __GFP_COMP, __GFP_HIGHMEM, __GFP_NORETRY, __GFP_NOWARN, __GFP_ZERO } from '@pagelab/mm-core';
import type { Machine } from './index.ts';
import { inUse } from './testing/run.ts';

const PAGE = 4096;
const MIB = 2 ** 20;
const PROT_RW = 3;
const PRIVATE_ANONYMOUS = 0x22;
const SHARED_ANONYMOUS = 0x21;
const QUIET = __GFP_NOWARN | __GFP_NORETRY;

test('every frame has an owner, and what it costs to keep account of them is told', () => {
  const machine = boot({ memory: '4G' });
  const process = machine.createProcess();
  const { os } = process;
  os.mem.fill(os.mmap(0, MIB, PROT_RW, PRIVATE_ANONYMOUS), MIB, 1);
  os.mem.fill(os.mmap(0, MIB, PROT_RW, SHARED_ANONYMOUS), MIB, 1);
  const { framesByOwner, memmap } = machine.stats();
  for (const owner of ['anonymous', 'slab', 'page table', 'kernel code']) expect(framesByOwner[owner]).toBeGreaterThan(0);
  expect(framesByOwner['anonymous']).toBeGreaterThanOrEqual(256);
  expect(framesByOwner['shared memory']).toBe(256);
  // Frame 0 is the firmware's, and counts nowhere else.
  expect(Object.values(framesByOwner).reduce((sum, frames) => sum + frames, 0)).toBe(memmap.frames + 1);
  // 64 bytes each in Linux, 1.6 % of memory; the classic sum has 40 for each page of 8 KiB, 20 MB for 4 GiB.
  expect(memmap.linuxBytes).toBe(memmap.frames * 64);
  expect(memmap.textbookBytes / 2 / MIB).toBeCloseTo(20, 0);
  expect(memmap.ownBytes / memmap.frames).toBeLessThanOrEqual(40);
  expect(machine.readFile('/proc/vmstat')).toContain(`nr_memmap_boot_pages ${Math.ceil(memmap.linuxBytes / PAGE)}\n`);
});

describe('getting pages', () => {
  const machine = boot({ memory: '256M' });

  it('as a block, as single frames in bulk, as exactly so many, as zeros', () => {
    const before = inUse(machine);
    machine.module((k) => {
      const block = k.getFreePages(3);
      k.mem.fill(block, 8 * PAGE, 0xaa);
      expect(Math.abs(block % (8 * PAGE))).toBe(0);
      k.freePagesAt(block, 3);
      // The same frames come back: zeroed only for who asks.
      const zeroed = k.getFreePages(3, GFP_KERNEL | __GFP_ZERO);
      expect([zeroed, k.mem.load32(zeroed + 8 * PAGE - 4)]).toEqual([block, 0]);
      k.freePagesAt(zeroed, 3);
      const page = k.getZeroedPage();
      expect(k.mem.bytes(page, PAGE).every((byte) => byte === 0)).toBe(true);
      k.freePagesAt(page);
      k.freePagesAt(0);

      const many = new Int32Array(100);
      expect(k.allocPagesBulk(100, many)).toBe(100);
      expect(new Set(many).size).toBe(100);
      for (const pfn of many) k.freePages(pfn);

      // Five pages in one piece; of the block of eight the other three are free again.
      const free = (): number => machine.stats().freePages;
      const first = k.allocPagesExact(4 * PAGE + 1);
      k.mem.fill(first, 5 * PAGE, 1);
      const left = free();
      k.freePagesExact(first, 4 * PAGE + 1);
      expect(free()).toBeGreaterThanOrEqual(left);
      expect([k.allocPagesExact(0), k.allocPagesExact(64 * MIB, GFP_KERNEL | QUIET)]).toEqual([0, 0]);
    });
    machine.validate();
    expect(inUse(machine)).toEqual(before);
  });

  it('as a compound page, which is freed as one', () => {
    machine.module((k) => {
      const head = k.allocPages(4, GFP_KERNEL | __GFP_COMP);
      expect(head % 16).toBe(0);
      expect(() => k.freePages(head + 1)).toThrow(`frame ${head + 1}`);
    });
  });
});

test('flags that contradict each other are refused, and a DMA request never gets other memory', () => {
  const machine = boot({ memory: '256M' });
  machine.module((k) => {
    expect(k.allocPages(0, GFP_DMA | __GFP_HIGHMEM)).toBe(-Errno.EINVAL);
    const low: number[] = [];
    for (let pfn = k.allocPages(0, GFP_DMA | QUIET); pfn >= 0; pfn = k.allocPages(0, GFP_DMA | QUIET)) low.push(pfn);
    expect(low.length).toBeGreaterThan(1000);
    expect(low.every((pfn) => pfn < 4096)).toBe(true);
    for (const pfn of low) k.freePages(pfn);
  });
  machine.validate();
});

/** Blocks of each type, by zone, from `/proc/pagetypeinfo`. */
function pageblocks(machine: Machine): Map<string, number[]> {
  const text = machine.readFile('/proc/pagetypeinfo');
  const rows = text.slice(text.indexOf('Number of blocks')).split('\n').slice(1, -1);
  return new Map(rows.map((row) => [/zone +(\S+)/.exec(row)![1]!, row.replace(/.*zone +\S+ +/, '').trim().split(/ +/).map(Number)]));
}

describe.each([['x86-64', 9, 'DMA32'], ['x86-32', 10, 'Normal']] as const)('pageblocks of %s', (arch, order, zone) => {
  it('are claimed whole for another type, and told in pagetypeinfo', () => {
    const machine = boot({ memory: '256M', arch });
    expect(machine.readFile('/proc/pagetypeinfo')).toContain(`Page block order: ${order}\nPages per block:  ${1 << order}\n`);
    const before = pageblocks(machine).get(zone)!;
    const { os } = machine.createProcess();
    os.mem.fill(os.mmap(0, 32 * MIB, PROT_RW, PRIVATE_ANONYMOUS), 32 * MIB, 1);
    machine.module((k) => {
      for (let i = 0; i < 6 << order; i++) k.allocPages();
    });
    const after = pageblocks(machine).get(zone)!;
    expect(after[0]! - before[0]!).toBeGreaterThanOrEqual(5);
    expect(before[1]! - after[1]!).toBe(after[0]! - before[0]!);
    machine.validate();
  });
});

test('per-CPU lists keep what was freed, as much of it as sysctl has them', () => {
  const machine = boot({ memory: '128M', cpus: 2 });
  const fields = (name: string): number[] => [...machine.readFile('/proc/zoneinfo').matchAll(new RegExp(`^ +${name}: +(\\d+)$`, 'gm'))].map((row) => Number(row[1]));
  machine.module((k) => {
    k.onCpu(1, () => {
      const pages = Array.from({ length: 3000 }, () => k.allocPages());
      for (const pfn of pages) k.freePages(pfn);
    });
  });
  // DMA's of both CPUs, and then DMA32's.
  expect(fields('count')[3]).toBeGreaterThan(50);
  // Every second a list that has grown shrinks again.
  const grown = fields('high')[3]!;
  machine.module((k) => k.msleep(60_000));
  expect(fields('high')[3]).toBeLessThan(grown);
  expect(fields('count')[3]).toBeLessThanOrEqual(fields('high')[3]!);
  machine.writeFile('/proc/sys/vm/stat_interval', '3600');
  expect(machine.readFile('/proc/sys/vm/stat_interval')).toBe('3600\n');
  expect(() => machine.writeFile('/proc/sys/vm/stat_interval', '8589935')).toThrow('EINVAL');
  const before = fields('high_max');
  machine.writeFile('/proc/sys/vm/percpu_pagelist_high_fraction', '16');
  expect(fields('high_max')[3]).toBeLessThan(before[3]!);
  machine.validate();
});

test('both indices of fragmentation are told by zone and order, as thousandths with a point', () => {
  const machine = boot({ memory: '256M' });
  const lines = (name: string): string[] => machine.readFile(`/sys/kernel/debug/extfrag/${name}`).trimEnd().split('\n');
  for (const name of ['extfrag_index', 'unusable_index']) {
    expect(lines(name).length).toBe(2);
    for (const line of lines(name)) expect(line).toMatch(/^Node 0, zone +DMA(32)? +(-?\d\.\d{3} ?){11}$/);
  }
  // All large blocks taken apart: the larger the order, the less of what is free is of use.
  const { os } = machine.createProcess();
  const bytes = 200 * MIB;
  const area = os.mmap(0, bytes, PROT_RW, PRIVATE_ANONYMOUS);
  os.mem.fill(area, bytes, 1);
  for (let offset = 0; offset < bytes; offset += 2 * PAGE) os.madvise(area + offset, PAGE, 4);
  machine.quiesce();
  const numbers = (name: string): number[] => lines(name)[1]!.replace(/.*DMA32 +/, '').trim().split(' ').map(Number);
  const unusable = numbers('unusable_index');
  expect(unusable[0]).toBe(0);
  expect([...unusable].sort((a, b) => a - b)).toEqual(unusable);
  expect(unusable[9]).toBeGreaterThan(0.9);
  expect(numbers('extfrag_index')[10]).toBeGreaterThan(0.9);
});

test('defrag_mode is a setting of the newest kernel', () => {
  const machine = boot({ memory: '256M' });
  const file = '/proc/sys/vm/defrag_mode';
  expect(machine.readFile(file)).toBe('0\n');
  machine.writeFile(file, '1');
  expect(machine.readFile(file)).toBe('1\n');
  expect(() => machine.writeFile(file, '2')).toThrow('EINVAL');
  const { os } = machine.createProcess();
  os.mem.fill(os.mmap(0, 150 * MIB, PROT_RW, PRIVATE_ANONYMOUS), 150 * MIB, 1);
  machine.module((k) => {
    const pages = Array.from({ length: 1000 }, () => k.allocPages());
    expect(pages.every((pfn) => pfn > 0)).toBe(true);
    for (const pfn of pages) k.freePages(pfn);
  });
  machine.validate();
  const older = boot({ memory: '64M', kernel: '6.12' });
  expect(() => older.readFile(file)).toThrow('ENOENT');
  expect(older.listFiles()).not.toContain(file);
});

test('numa_stat stops the counts of who was served by which node, and begins them anew', () => {
  const machine = boot({ memory: '512M', cpus: 2, numa: [{ memory: '256M', cpus: [0] }, { memory: '256M', cpus: [1] }] });
  const hits = (): number => Number(/^numa_hit (\d+)$/m.exec(machine.readFile('/sys/devices/system/node/node0/numastat'))![1]);
  const setting = '/proc/sys/vm/numa_stat';
  const work = (): void => machine.module((k) => k.onCpu(0, () => k.freePages(k.allocPages())));
  expect([machine.readFile(setting), hits() > 0]).toEqual(['1\n', true]);
  machine.writeFile(setting, '0');
  work();
  expect(hits()).toBe(0);
  expect(machine.readFile('/proc/zoneinfo')).not.toMatch(/numa_hit +[1-9]/);
  machine.writeFile(setting, '1');
  expect(hits()).toBeLessThan(10);
  work();
  expect(hits()).toBeGreaterThan(0);
  expect(() => machine.writeFile(setting, '2')).toThrow('EINVAL');
  machine.validate();
  expect(boot({ memory: '64M', arch: 'x86-pae' }).listFiles()).not.toContain(setting);
});
