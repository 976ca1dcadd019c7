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
  expect(message([])).toContain('a machine is a JSON object');
  expect(message({ memory: '1G', cpus: 4, possibleCpus: 2 })).toContain('possibleCpus: takes');
});

test('what is not there yet is refused, not ignored', () => {
  expect(message({ memory: '1G', arch: 'x86-pae' })).toBe('arch: "x86-pae" is not supported yet; it takes "x86-64"');
  expect(message({ memory: '1G', swap: [{ size: '1G' }] })).toContain('swap: a swap area is not supported yet');
  expect(message({ memory: '1G', slab: 'slob' })).toContain('slab: "slob" is not supported yet');
  expect(message({ memory: '1G', tlb: 'modelled' })).toContain('tlb: "modelled" is not supported yet');
  expect(message({ memory: '2G', numa: [{ memory: '1G', cpus: [0] }, { memory: '1G', cpus: [] }] })).toContain('numa: several');
});

test('the command line takes the words of the kernel', () => {
  const parsed = parseMachineConfig({ memory: '1G', cmdline: 'mem=512M slab_nomerge  slub_max_order=1 slub_debug' });
  expect(parsed.commandLine).toEqual({ mem: 2 ** 29, slabNomerge: true, slubMaxOrder: 1, slubDebug: 'FZPU' });
  expect(message({ memory: '1G', cmdline: 'quiet' })).toContain('cmdline: unknown word "quiet"; known: mem, slab_nomerge');
  expect(message({ memory: '1G', cmdline: 'mem=x' })).toBe('cmdline: "mem" takes a size, such as 512M, not "x"');
  expect(message({ memory: '1G', cmdline: 'movablecore=512M' })).toBe('cmdline: "movablecore" is not supported yet');
  expect(message({ memory: '1G', cmdline: 'transparent_hugepage=always' })).toContain('not supported yet');
});

test('sizes', () => {
  expect([parseSize('64K'), parseSize('1g'), parseSize(5), parseSize('7')]).toEqual([65_536, 2 ** 30, 5, 7]);
  expect([parseSize(''), parseSize('-1'), parseSize('1.5G'), parseSize(-1), parseSize(null)]).toEqual(Array(5).fill(undefined));
  expect([formatSize(3 * 2 ** 30), formatSize(65_536), formatSize(5)]).toEqual(['3G', '64K', '5']);
});
