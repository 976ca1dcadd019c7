import { expect, test } from 'vitest';
import { boot } from './boot.ts';
import type { MachineConfigInput } from './config.ts';
import type { Machine } from './machine.ts';

const zones = (machine: Machine): string[] => machine.stats().zones.map(({ node, name }) => `${node} ${name}`);
const nodeFile = (machine: Machine, name: string): string => machine.readFile(`/sys/devices/system/node/${name}`);
const minFree = (machine: Machine): number => Number(machine.readFile('/proc/sys/vm/min_free_kbytes'));

test('nodes have zones, distances and CPUs of their own', () => {
  const numa = [{ memory: '1G', cpus: [0, 1] }, { memory: '1G', cpus: [] }, { memory: '2G', cpus: [2] }];
  const machine = boot({ memory: '4G', cpus: 3, numa, distances: [[10, 17, 21], [17, 10, 28], [21, 28, 10]] });
  expect(zones(machine)).toEqual(['0 DMA', '0 DMA32', '1 DMA32', '2 DMA32', '2 Normal']);
  expect(nodeFile(machine, 'node2/distance')).toBe('21 28 10\n');
  expect(nodeFile(machine, 'node0/cpulist')).toBe('0-1\n');
  expect(nodeFile(machine, 'node1/cpulist')).toBe('\n');
  expect(nodeFile(machine, 'has_cpu')).toBe('0,2\n');
  expect(nodeFile(machine, 'node1/meminfo')).toMatch(/^Node 1 MemTotal: +10\d{5} kB$/m);
  expect(machine.dmesg()).toContain('Fallback order for Node 0: 0 1 2 ');
  expect(machine.run((os) => os.mem.load8(os.mmap(0, 4096, 1, 0x22))).status).toBe(0);
  machine.validate();
});

test('a node without memory has others\'', () => {
  const machine = boot({ memory: '1G', cpus: 2, numa: [{ memory: '1G', cpus: [0] }, { memory: 0, cpus: [1] }] });
  expect(zones(machine)).toEqual(['0 DMA', '0 DMA32']);
  expect(nodeFile(machine, 'has_memory')).toBe('0\n');
  expect(machine.dmesg()).toContain('Fallback order for Node 1: 0 ');
  for (let seed = 0; seed < 4; seed++) expect(machine.run((os) => os.mem.load8(os.mmap(0, 4096, 1, 0x22))).status).toBe(0);
  machine.validate();
});

test.each([
  ['numa=fake=4', 4],
  // The first MiB has a hole, which makes the first node a unit larger and leaves too little for an eighth.
  ['numa=fake=256M', 7],
  ['numa=off', 1],
] as const)('%s makes %i nodes', (cmdline, count) => {
  const machine = boot({ memory: '2G', cpus: 2, cmdline });
  expect(new Set(machine.stats().zones.map(({ node }) => node)).size).toBe(count);
  expect(nodeFile(machine, 'node0/cpulist')).toBe('0-1\n');
  machine.validate();
});

test('fake nodes reach across the hole below 4 GiB', () => {
  const machine = boot({ memory: '6G', cpus: 1, cmdline: 'numa=fake=4' });
  const whole = boot({ memory: '6G', cpus: 1 });
  const pages = (of: Machine): number => of.stats().zones.reduce((sum, zone) => sum + zone.managed, 0);
  expect(new Set(machine.stats().zones.map(({ node }) => node)).size).toBe(4);
  // The hash tables of dentries and inodes are not made early then; each further node is described in 43 pages.
  expect(pages(machine) - pages(whole)).toBe(2048 + 1024 - 3 * 43);
  machine.validate();
});

test('memory can be taken out, and made movable', () => {
  const present = (cmdline: string): number =>
    [...boot({ memory: '1G', cmdline }).readFile('/proc/zoneinfo').matchAll(/present +(\d+)/g)].reduce((sum, row) => sum + Number(row[1]), 0);
  expect(present('') - present('memmap=128M$512M')).toBe(32_768);
  expect(zones(boot({ memory: '1G', cmdline: 'kernelcore=50%' }))).toEqual(['0 DMA', '0 DMA32', '0 Movable']);
  expect(zones(boot({ memory: '1G', cmdline: 'kernelcore=mirror' }))).toEqual(['0 DMA', '0 DMA32']);
});

test('machines of 32 bits have high memory', () => {
  const config: MachineConfigInput = { arch: 'x86-pae', memory: '2G', kernel: '6.1', cpus: 2 };
  const machine = boot(config);
  expect(zones(machine)).toEqual(['0 DMA', '0 Normal', '0 HighMem']);
  expect(machine.readFile('/proc/zoneinfo')).not.toContain('numa_hit');
  expect(machine.readFile('/proc/meminfo')).toMatch(/^LowTotal: .*\n^LowFree: .*\n^SwapTotal/m);
  expect(machine.readFile('/proc/meminfo')).toMatch(/^VmallocTotal: +122880 kB$/m);
  expect(boot({ ...config, memory: '512M' }).readFile('/proc/meminfo')).toMatch(/^VmallocTotal: +499832 kB$/m);
  machine.validate();
  expect(zones(boot({ ...config, arch: 'x86-32', memory: '1G', cmdline: 'vmalloc=256M' }))).toEqual(['0 DMA', '0 Normal', '0 HighMem']);
});

test('huge pages move the watermarks', () => {
  const path = '/sys/kernel/mm/transparent_hugepage/enabled';
  const machine = boot({ memory: '1G' });
  expect(machine.readFile(path)).toBe('always [madvise] never\n');
  expect(minFree(machine)).toBe(45_056);
  machine.writeFile(path, 'never');
  expect(machine.readFile(path)).toBe('always madvise [never]\n');
  expect(minFree(machine)).toBeLessThan(4096);
  expect(machine.readFile('/proc/zoneinfo')).toMatch(/DMA32[^]*? min {6}9\d\d\n/);
  machine.writeFile(path, 'always\n');
  expect(machine.readFile(path)).toBe('[always] madvise never\n');
  expect(minFree(machine)).toBe(45_056);
  expect(() => machine.writeFile(path, 'sometimes')).toThrow('EINVAL');
  expect(boot({ memory: '256M', cmdline: 'transparent_hugepage=always' }).readFile(path)).toBe('always madvise [never]\n');
});

test('memory that nodes cannot be laid over is the configuration\'s fault', () => {
  const memoryMap = [{ start: 2 ** 20, end: 2 ** 20, type: 'usable' as const }];
  expect(() => boot({ memory: '64M', memoryMap })).toThrow('memoryMap: ');
});

test('the command line says what memory there is', () => {
  const ram = (cmdline: string): string[] =>
    [...boot({ memory: '1G', cmdline }).readFile('/proc/iomem').matchAll(/^(\w+-\w+) : System RAM$/gm)].map(([, range]) => range!);
  expect(ram('memmap=exactmap memmap=639K@0 memmap=500M@1M')).toEqual(['00001000-0009fbff', '00100000-1f4fffff']);
  expect(ram('memmap=600M')).toEqual(['00001000-0009fbff', '00100000-257fffff']);
  // What the firmware keeps stays its own.
  expect(ram('memmap=600M memmap=100M@960M')).toEqual(['00001000-0009fbff', '00100000-257fffff', '3c000000-3ffdffff', '40000000-423fffff']);
});

test('boot leaves as much of each zone as it is told', () => {
  const managed = (machine: Machine): { node: number; zone: string; pages: number }[] =>
    machine.stats().zones.map(({ node, name, managed: pages }) => ({ node, zone: name, pages }));
  const configs: MachineConfigInput[] = [
    { memory: '1G', numa: [{ memory: '512M', cpus: [0] }, { memory: '512M', cpus: [1] }], cpus: 2, kernel: '6.1' },
    { memory: '512M', arch: 'x86-pae', kernel: '6.1' },
    { memory: '6G', cpus: 2, kernel: '6.12' },
  ];
  for (const config of configs) {
    // As the image lies in one node or in the other, and a little more or less is taken.
    const own = managed(boot(config));
    const asked = own.map((row, i) => (row.pages > 4096 ? { ...row, pages: row.pages - (i % 2 === 0 ? 777 : -99) } : row));
    const machine = boot(config, { managed: asked });
    expect(managed(machine).filter(({ pages }) => pages > 0)).toEqual(asked.filter(({ pages }) => pages > 0));
    machine.validate();
  }
});

test('the kernel of 32 bits takes less than that of 64', () => {
  const taken = (arch: 'x86-64' | 'x86-pae' | 'x86-32', memory: string): number => {
    const zoneinfo = boot({ arch, memory, kernel: '6.1' }).readFile('/proc/zoneinfo');
    const sum = (name: string): number => [...zoneinfo.matchAll(new RegExp(`${name} +(\\d+)`, 'g'))].reduce((pages, [, number]) => pages + Number(number), 0);
    return sum('present') - sum('managed');
  };
  // As recorded of one boot each; another of the same machine may take a hundred pages more or fewer.
  for (const [arch, memory, recorded] of [['x86-32', '256M', 4522], ['x86-32', '1G', 6595], ['x86-pae', '512M', 5303], ['x86-pae', '1G', 6671], ['x86-pae', '2G', 9199], ['x86-pae', '6G', 38_591]] as const) {
    expect(Math.abs(taken(arch, memory) - recorded), `${arch} ${memory}`).toBeLessThan(150);
  }
});
