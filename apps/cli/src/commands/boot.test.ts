import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { runCli } from '../testing/run-cli.ts';

const directory = mkdtempSync(join(tmpdir(), 'pagelab-proc-'));
afterAll(() => rmSync(directory, { recursive: true }));

test('writes what the machine shows of itself', () => {
  const proc = join(directory, 'numa');
  const { status, stdout } = runCli('boot', '--machine', 'numa-server', '--proc', proc);
  expect(status).toBe(0);
  expect(stdout).toMatch(/^Node 0, zone {6}DMA: 3840 pages managed, \d+ free\n[^]*\n\d+ files written below /);
  const read = (path: string): string => readFileSync(join(proc, path), 'utf8');
  expect(read('proc/zoneinfo').match(/^Node \d, zone .*$/gm)).toHaveLength(15);
  expect(read('proc/zoneinfo').match(/^ {4}cpu: \d+$/gm)).toHaveLength(5 * 16);
  expect(read('proc/sys/vm/lowmem_reserve_ratio')).toBe('256\t256\t32\t0\t0\n');
  expect(read('sys/devices/system/node/node2/distance')).toBe('17 28 10\n');
  expect(read('sys/devices/system/node/node1/cpulist')).toBe('8-15\n');
  expect(read('sys/kernel/slab/dentry/object_size')).toBe('192\n');
});

test('a machine of 32 bits has high memory, and runs programs', () => {
  const proc = join(directory, 'i386');
  expect(runCli('boot', '--machine', 'i386-highmem', '--proc', proc, '--json').status).toBe(0);
  expect(readFileSync(join(proc, 'proc/meminfo'), 'utf8')).toMatch(/^HighTotal: +1\d{6} kB$/m);
  const run = runCli('run', 'leak', '--machine', 'i386-highmem');
  expect(run.stderr).toBe('');
  expect(run.status).toBe(0);
});

test('says what cannot be written', () => {
  expect(runCli('boot').status).toBe(2);
  const file = join(directory, 'file');
  writeFileSync(file, '');
  const { status, stderr } = runCli('boot', '--machine', 'tiny', '--proc', join(file, 'proc'));
  expect(stderr).toMatch(/^pagelab: cannot write to .*ENOTDIR[^\n]*\n$/);
  expect(status).toBe(1);
});
