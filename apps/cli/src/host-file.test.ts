/** Disks that lie in a file of the host, and directories of the host that programs read. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigError, boot } from '@pagelab/kernel';
import { afterAll, expect, it } from 'vitest';
import { openHostDirectory, openHostFile } from './host-file.ts';

const directory = mkdtempSync(join(tmpdir(), 'pagelab-'));
afterAll(() => rmSync(directory, { recursive: true }));

it('holds what was swapped out, and the machine counts what it asked for', () => {
  const file = join(directory, 'swap.img');
  const machine = boot({ memory: '64M', swap: [{ size: '64M', model: 'nvme', file }] }, { openHostFile });
  const bytes = 72 * 2 ** 20;
  machine.run((os) => {
    const at = os.mmap(0, bytes, 3, 0x22);
    for (let offset = 0; offset < bytes; offset += 4096) os.mem.storeAddress(at + offset, 0x5eed0000 + offset);
    for (let offset = 0; offset < bytes; offset += 4096) if (os.mem.loadAddress(at + offset) !== 0x5eed0000 + offset) throw new Error('changed');
  });
  const image = readFileSync(file);
  expect(image.subarray(4086, 4096).toString()).toBe('SWAPSPACE2');
  expect(image.length).toBeGreaterThan(8 * 2 ** 20);
  let pages = 0;
  for (let at = 4096; at + 4096 <= image.length; at += 4096) if (image.readUInt32LE(at) >= 0x5eed0000) pages++;
  expect(pages).toBeGreaterThan(2000);
  const [, name, reads, , , , writes] = /^ 254 +16 (\w+) (\d+) (\d+) (\d+) (\d+) (\d+)/.exec(machine.readFile('/proc/diskstats'))!;
  expect(name).toBe('vdb');
  expect(Math.min(Number(reads), Number(writes))).toBeGreaterThan(50);
  machine.validate();
});

it('keeps what a file held elsewhere', () => {
  const file = join(directory, 'old.img');
  writeFileSync(file, Buffer.alloc(2 ** 20, 7));
  boot({ memory: '64M', swap: [{ size: '1M', file }] }, { openHostFile });
  const image = readFileSync(file);
  expect([image.length, image[500_000]]).toEqual([2 ** 20, 7]);
});

it('is refused where there is no such host, or no such place', () => {
  expect(() => boot({ memory: '64M', swap: [{ size: '1M', file: 'swap.img' }] })).toThrow(/swap: a file of the host needs a host that opens files/);
  const nowhere = join(directory, 'none', 'swap.img');
  expect(() => boot({ memory: '64M', swap: [{ size: '1M', file: nowhere }] }, { openHostFile })).toThrow(ConfigError);
  expect(() => boot({ memory: '64M', swap: [{ size: '1M', model: 'tape' }] })).toThrow(/swap/);
});

it('lets a program read a directory, and nothing that lies outside', () => {
  const attached = join(directory, 'attached');
  mkdirSync(join(attached, 'sub'), { recursive: true });
  writeFileSync(join(directory, 'secret'), 'no');
  writeFileSync(join(attached, 'sub', 'page'), Buffer.alloc(5000, 9));
  symlinkSync(join('sub', 'page'), join(attached, 'inside'));
  symlinkSync(join('..', 'secret'), join(attached, 'outside'));
  symlinkSync('..', join(attached, 'up'));
  const host = openHostDirectory(attached);
  expect(['outside', 'up', 'up/secret', 'none', '../secret'].map((path) => host.stat(path))).toEqual(Array(5).fill(undefined));
  expect(host.stat('inside')).toMatchObject({ kind: 'file', size: 5000 });
  expect(() => host.read('outside', 0, new Uint8Array(2))).toThrow(/leads out/);
  const machine = boot({ memory: '64M' }, { hostDirectory: host });
  const { error } = machine.run((os) => {
    const name = os.mmap(0, 4096, 3, 0x22);
    os.mem.storeCString(name, '/host/inside');
    const fd = os.syscall(2, name, 0, 0);
    const at = os.mmap(0, 8192, 1, 1, fd, 0);
    expect([os.mem.load8(at), os.mem.load8(at + 4999), os.mem.load8(at + 5000)]).toEqual([9, 9, 0]);
    os.mem.storeCString(name, '/host/outside');
    expect(os.syscall(2, name, 0, 0)).toBe(-2);
  });
  expect(error).toBeUndefined();
  machine.validate();
});

it('says what is wrong with a directory that cannot be attached', () => {
  expect(() => openHostDirectory(join(directory, 'nowhere'))).toThrow(/--attach: ENOENT/);
  writeFileSync(join(directory, 'file'), '');
  expect(() => openHostDirectory(join(directory, 'file'))).toThrow(/--attach: .*file is no directory/);
});
