/**
 * Compressed pages of groups, against a kernel of 6.18.15 with `lzo`: four times as many pages as here, of which 256 bytes are noise, in a group of
 * 8 MiB. How well pages compress differs; what then happens does not.
 */
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { expect, test } from 'vitest';
import type { Os } from '@pagelab/abi';
import type { Compressor } from '@pagelab/vm';
import { boot } from '../boot.ts';
import type { Machine, Process } from '../machine.ts';

const MOUNT = '/sys/fs/cgroup';
const PAGE = 4096;
const PAGES = 1024;

const deflate: Compressor = {
  name: 'lzo',
  compress: (page) => deflateRawSync(page, { level: 1 }),
  decompress: (data) => inflateRawSync(data),
};

interface Group {
  readonly machine: Machine;
  readonly keeper: Process;
  readonly member: Process;
  readonly number: (file: string) => number;
  readonly stat: (name: string) => number;
  readonly read: (file: string) => string;
}

function group(files: Readonly<Record<string, string>>): Group {
  const machine = boot({ memory: '256M', cpus: 1, swap: [{ size: '64M' }], cmdline: 'zswap.enabled=1 transparent_hugepage=never' }, { compressors: [deflate] });
  const keeper = machine.createProcess({ name: 'keeper' });
  keeper.os.writeFile(`${MOUNT}/cgroup.subtree_control`, '+memory');
  keeper.os.mkdir(`${MOUNT}/z`);
  for (const [file, text] of Object.entries({ 'memory.max': '2M', ...files })) keeper.os.writeFile(`${MOUNT}/z/${file}`, text);
  const member = machine.createProcess({ name: 'member' });
  keeper.os.writeFile(`${MOUNT}/z/cgroup.procs`, String(member.pid));
  const read = (file: string): string => machine.readFile(`${MOUNT}/z/${file}`);
  return { machine, keeper, member, read, number: (file) => Number(read(file)), stat: (name) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(read('memory.stat'))![1]) };
}

/** Maps pages whose first bytes are noise. @returns where, or 0 where the process was killed */
function fill(os: Os, noiseBytes: number): number {
  const noise = new Uint8Array(noiseBytes);
  let seed = 12_345;
  try {
    const at = os.mmap(0, PAGES * PAGE, 3, 0x22);
    for (let page = 0; page < PAGES; page++) {
      for (let i = 0; i < noise.length; i++) {
        seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
        noise[i] = seed >>> 16;
      }
      os.mem.write(at + page * PAGE, noise);
      os.mem.store32(at + page * PAGE + 4088, page + 1);
    }
    return at;
  } catch {
    return 0;
  }
}

function wrongPages(os: Os, at: number): number {
  let wrong = 0;
  for (let page = 0; page < PAGES; page++) if (os.mem.load32(at + page * PAGE + 4088) !== page + 1) wrong++;
  return wrong;
}

test('compressed pages are charged to the group as kernel memory, and beside that as slots of swap', () => {
  const { machine, keeper, member, number, stat } = group({});
  const at = fill(member.os, 256);
  expect(at).toBeGreaterThan(0);
  const bytes = number('memory.zswap.current');
  expect([stat('zswap'), stat('pswpout')]).toEqual([bytes, 0]);
  expect(bytes).toBeGreaterThan(0);
  expect(stat('kernel')).toBeGreaterThanOrEqual(bytes);
  expect(stat('zswapped') / PAGE).toBe(stat('zswpout') - stat('zswpin'));
  expect(number('memory.current')).toBeLessThanOrEqual(2 * 2 ** 20);
  machine.validate();
  expect(wrongPages(member.os, at)).toBe(0);
  expect(stat('zswpin')).toBeGreaterThan(PAGES / 2);
  machine.validate();
  member.exit(0);
  expect([number('memory.zswap.current'), number('memory.swap.current'), stat('zswapped')]).toEqual([0, 0, 0]);
  machine.validate();
  keeper.os.rmdir(`${MOUNT}/z`);
  machine.validate();
});

test('beyond memory.zswap.max the pages stored first go to their slots, and what finds no room goes there at once', () => {
  const { machine, member, number, stat } = group({ 'memory.zswap.max': '32K' });
  const at = fill(member.os, 256);
  expect(number('memory.zswap.current')).toBeLessThanOrEqual(32 * 1024 + 2 * PAGE);
  expect([stat('zswpwb') > 0, stat('pswpout') > 0, stat('zswpout') > 0]).toEqual([true, true, true]);
  machine.validate();
  expect(wrongPages(member.os, at)).toBe(0);
  expect(stat('pswpin')).toBeGreaterThan(0);
  machine.validate();
});

test('memory.zswap.max of 0 lets nothing be compressed', () => {
  const { machine, member, stat } = group({ 'memory.zswap.max': '0' });
  const at = fill(member.os, 256);
  expect(wrongPages(member.os, at)).toBe(0);
  expect([stat('zswpout'), stat('zswpin'), stat('zswap')]).toEqual([0, 0, 0]);
  expect(stat('pswpout')).toBeGreaterThan(PAGES / 2);
  machine.validate();
});

test('a group that may not write back stays in memory, and is out of it when its compressed pages are at their limit', () => {
  const { machine, member, read, stat } = group({ 'memory.zswap.max': '32K', 'memory.zswap.writeback': '0' });
  expect(fill(member.os, 256)).toBe(0);
  expect([member.alive, member.lastSignal]).toEqual([false, 9]);
  expect(read('memory.events')).toMatch(/oom 1\noom_kill 1\noom_group_kill 0\n$/);
  expect([stat('pswpout'), stat('pswpin'), stat('zswpwb'), stat('zswpout') > 0]).toEqual([0, 0, 0, true]);
  machine.validate();
});

test('pages that do not compress are worth nothing to a group: it is out of memory with all of swap free', () => {
  const { machine, member, read, stat } = group({});
  expect(fill(member.os, 4080)).toBe(0);
  // A real kernel: 2043 of 4096 stored, as they were.
  expect([member.lastSignal, stat('pswpout')]).toEqual([9, 0]);
  expect(stat('zswpout')).toBeGreaterThan(PAGES / 3);
  expect(read('memory.events')).toMatch(/oom 1\noom_kill 1\n/);
  machine.validate();
});

test('slots count against memory.swap.max whether their pages are compressed or not', () => {
  const { machine, member, number, stat } = group({ 'memory.swap.max': '512K' });
  expect(fill(member.os, 256)).toBe(0);
  expect([member.lastSignal, stat('zswpout'), number('memory.swap.peak')]).toEqual([9, 128, 512 * 1024]);
  machine.validate();
});

test('the compressed pages of a removed group are its parent’s', () => {
  const { machine, keeper, member, number } = group({});
  keeper.os.writeFile(`${MOUNT}/cgroup.procs`, String(member.pid));
  keeper.os.writeFile(`${MOUNT}/z/cgroup.subtree_control`, '+memory');
  keeper.os.mkdir(`${MOUNT}/z/a`);
  keeper.os.writeFile(`${MOUNT}/z/a/memory.max`, '2M');
  keeper.os.writeFile(`${MOUNT}/z/a/memory.zswap.writeback`, '1');
  const inside = machine.createProcess({ name: 'inside' });
  keeper.os.writeFile(`${MOUNT}/z/memory.zswap.max`, 'max');
  keeper.os.writeFile(`${MOUNT}/cgroup.procs`, String(member.pid));
  keeper.os.writeFile(`${MOUNT}/z/memory.max`, 'max');
  keeper.os.writeFile(`${MOUNT}/z/a/cgroup.procs`, String(inside.pid));
  const at = fill(inside.os, 256);
  const bytes = number('a/memory.zswap.current');
  expect(bytes).toBeGreaterThan(0);
  keeper.os.writeFile(`${MOUNT}/cgroup.procs`, String(inside.pid));
  keeper.os.rmdir(`${MOUNT}/z/a`);
  expect(number('memory.zswap.current')).toBe(bytes);
  machine.validate();
  expect(wrongPages(inside.os, at)).toBe(0);
  inside.exit(0);
  expect(number('memory.zswap.current')).toBe(0);
  expect(machine.readFile(`${MOUNT}/cgroup.stat`)).toContain('nr_dying_descendants 0\n');
  machine.validate();
});
