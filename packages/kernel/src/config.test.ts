import { expect, test } from 'vitest';
import { ConfigError, parseMachineConfig } from './config.ts';
import { formatSize, parseSize } from './size.ts';

const message = (json: unknown): string => {
  try {
    parseMachineConfig(json);
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as Error).message;
  }
  return '';
};

test('memory alone is enough', () => {
  expect(parseMachineConfig({ memory: '3G' })).toMatchObject({
    arch: 'x86-64', kernel: '6.18', board: 'pc', memory: 3 * 2 ** 30, cpus: 1, possibleCpus: 1, cmdline: '', seed: 1,
    pageAllocator: 'buddy', slab: 'slub', reclaim: 'classic', tlb: 'functional',
  });
  expect(parseMachineConfig({ memory: 134_217_728 }).memory).toBe(2 ** 27);
});

test('an error names the key and what it takes', () => {
  expect(message({})).toBe('memory: missing; it takes a size from "64M" to "1T", in multiples of 4 KiB');
  expect(message({ memory: '3X' })).toBe('memory: takes a size from "64M" to "1T", in multiples of 4 KiB, not "3X"');
  expect(message({ memory: '1M' })).toContain('memory: takes');
  expect(message({ memory: '2T' })).toContain('memory: takes');
  expect(message({ memory: '1G', cpus: 'two' })).toBe('cpus: takes a whole number from 1 to 64, not "two"');
  expect(message({ memory: '1G', cpus: 65 })).toContain('cpus: takes');
  expect(message({ memory: '1G', kernel: '5.4' })).toBe('kernel: takes "6.18", "6.12" or "6.1", not "5.4"');
  expect(message({ memory: '1G', momory: 1 })).toContain('unknown key "momory"; known: arch, kernel, board, memory');
  expect(message({ memory: '1G', swap: [{ size: '1G', prio: 1 }] })).toContain('swap: unknown key "prio"; it takes');
  expect(message({ memory: '1G', swap: [{ size: '4K' }] })).toContain('swap: takes a list of at most 23 areas');
  expect(message([])).toContain('a machine is a JSON object');
  expect(message({ memory: '1G', cpus: 4, possibleCpus: 2 })).toContain('possibleCpus: takes');
});

test('the command line takes the words of the kernel', () => {
  const parsed = parseMachineConfig({ memory: '1G', cmdline: 'mem=512M slab_nomerge  slub_max_order=1 slub_debug' });
  expect(parsed.commandLine).toEqual({ mem: 2 ** 29, slabNomerge: true, slubMaxOrder: 1, slubDebug: 'FZPU' });
  expect(message({ memory: '1G', cmdline: 'quiet' })).toContain('cmdline: unknown word "quiet"; known: mem, memmap, kernelcore');
  expect(message({ memory: '1G', cmdline: 'mem=x' })).toBe('cmdline: "mem" takes a size, such as 512M, not "x"');
  expect(message({ memory: '1G', cmdline: 'cma=much' })).toBe('cmdline: "cma" takes a size, and perhaps where: 64M, 64M@512M or 64M@512M-1G, not "much"');
  expect(parseMachineConfig({ memory: '1G', cmdline: 'cma=64M@0x20000000-1G' }).commandLine.cma).toEqual({ bytes: 2 ** 26, base: 2 ** 29, limit: 2 ** 30 });
});

test('the command line shapes memory', () => {
  const words = (cmdline: string) => parseMachineConfig({ memory: '1G', cmdline }).commandLine;
  expect(words('kernelcore=512M movablecore=25%')).toEqual({ kernelcore: { bytes: 2 ** 29 }, movablecore: { percent: 25 } });
  expect(words('kernelcore=mirror numa=off vmalloc=256M')).toEqual({ kernelcore: 'mirror', numa: { kind: 'off' }, vmalloc: 2 ** 28 });
  expect(words('numa=fake=4').numa).toEqual({ kind: 'fake-nodes', nodes: 4 });
  expect(words('numa=fake=256M').numa).toEqual({ kind: 'fake-size', bytes: 2 ** 28 });
  expect(words('memmap=128M$512M memmap=1M#0x30000000').memmap).toEqual([
    { start: 2 ** 29, bytes: 2 ** 27 },
    { start: 0x30000000, bytes: 2 ** 20 },
  ]);
  expect(words('memmap=600M memmap=64M@1G,1M$0x100000')).toEqual({
    mem: 600 * 2 ** 20,
    memmap: [{ start: 2 ** 30, bytes: 2 ** 26, usable: true }, { start: 2 ** 20, bytes: 2 ** 20 }],
  });
  expect(words('memmap=1M$1M memmap=exactmap memmap=500M@1M')).toEqual({ exactmap: true, memmap: [{ start: 2 ** 20, bytes: 500 * 2 ** 20, usable: true }] });
  expect(words('transparent_hugepage=madvise')).toEqual({ transparentHugepage: 'madvise' });
  for (const cmdline of ['kernelcore=x', 'movablecore=101%', 'numa=fake=0', 'numa=fake=65', 'numa=on', 'memmap=1M@', 'memmap=0', 'vmalloc=', 'transparent_hugepage=on']) {
    expect(message({ memory: '1G', cmdline })).toContain(`cmdline: "${cmdline.split('=')[0]}" takes `);
  }
});

test('nodes fit the machine', () => {
  const nodes = (numa: unknown, rest = {}): string => message({ memory: '2G', cpus: 2, numa, ...rest });
  const two = [{ memory: '1G', cpus: [0] }, { memory: '1G', cpus: [1] }];
  expect(nodes(two)).toBe('');
  expect(nodes(two, { distances: [[10, 30], [20, 10]] })).toBe('');
  expect(nodes([{ memory: '2G', cpus: [0, 1] }, { memory: 0, cpus: [] }])).toBe('');
  expect(nodes([{ memory: '1G', cpus: [0, 1] }])).toContain('the nodes have 1G, the machine 2G');
  expect(nodes([{ memory: '1G', cpus: [0] }, { memory: '1G', cpus: [] }])).toContain('CPU 1 is in none');
  expect(nodes([{ memory: '1G', cpus: [0, 1] }, { memory: '1G', cpus: [1] }])).toContain('CPU 1 is in 2');
  expect(nodes([{ memory: '1G', cpus: [0, 1] }, { memory: '1G', cpus: [2] }])).toContain('there is no CPU 2');
  expect(nodes(two, { arch: 'x86-pae' })).toContain('a machine of "x86-pae" has one node');
  expect(nodes(two, { distances: [[10, 20]] })).toContain('distances: takes');
  expect(nodes(two, { distances: [[10, 20], [20]] })).toContain('row 1 has 1 entries');
  expect(nodes(two, { distances: [[10, 10], [20, 10]] })).toContain('10 from node 0 to node 1 is none');
  expect(message({ memory: '2G', distances: [[10]] })).toContain('there is no numa');
});

test('sizes', () => {
  expect([parseSize('64K'), parseSize('1g'), parseSize(5), parseSize('7')]).toEqual([65_536, 2 ** 30, 5, 7]);
  expect([parseSize(''), parseSize('-1'), parseSize('1.5G'), parseSize(-1), parseSize(null)]).toEqual(Array(5).fill(undefined));
  expect([formatSize(3 * 2 ** 30), formatSize(65_536), formatSize(5)]).toEqual(['3G', '64K', '5']);
});
