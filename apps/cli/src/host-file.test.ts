/** Disks that lie in a file of the host. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigError, boot } from '@pagelab/kernel';
import { afterAll, expect, it } from 'vitest';
import { openHostFile } from './host-file.ts';

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
