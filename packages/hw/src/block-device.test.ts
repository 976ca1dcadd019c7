import { Prng } from '@pagelab/lib';
import { describe, expect, test } from 'vitest';
import {
  BlockDevice,
  DISK_HDD,
  DISK_LAPTOP_HDD,
  DISK_MODELS,
  DISK_NVME,
  DISK_RAM,
  DISK_SSD,
  DmaEngine,
  FileBacking,
  MemoryBacking,
  PAGE_SIZE,
  PhysicalMemory,
  REQ_OP_DISCARD,
  REQ_OP_FLUSH,
  REQ_OP_READ,
  REQ_OP_WRITE,
  SECTOR_SIZE,
  VirtualClock,
  diskModel,
  firmwareMemoryMap,
  positioningNs,
} from './index.ts';
import type { BlockDeviceOptions, DiskBacking, DmaMaskBits, DmaSegment } from './index.ts';

const MIB = 2 ** 20;
const EIO = -5;
const EAGAIN = -11;
const BASE = 2 * MIB;

function machine(options: BlockDeviceOptions = {}, backing: DiskBacking = new MemoryBacking(64 * MIB), mask: DmaMaskBits = 64) {
  const ram = new PhysicalMemory(firmwareMemoryMap('pc', 64 * MIB));
  const clock = new VirtualClock();
  const dma = new DmaEngine(ram, mask);
  return { ram, clock, dma, backing, disk: new BlockDevice('sda', backing, dma, clock, options) };
}

const pages = (...indices: number[]): DmaSegment[] =>
  indices.map((i) => ({ address: BASE + i * PAGE_SIZE, length: PAGE_SIZE }));

test('sectors go from memory to the disk and back, in time', () => {
  const { ram, disk, clock, backing } = machine();
  ram.fillFrame(BASE / PAGE_SIZE, 0xab);
  expect(disk.write(100, pages(0))).toBe(0);
  const written = 65e3 + (4096 * 1e9) / 460e6;
  expect(clock.now).toBeCloseTo(written, 3);
  expect(disk.read(100, pages(5))).toBe(0);
  expect(clock.now - written).toBeCloseTo(50e3 + (4096 * 1e9) / 500e6, 3);
  expect(ram.load32(BASE + 5 * PAGE_SIZE + 4092)).toBe(0xabababab);
  expect((backing as MemoryBacking).committedBytes).toBe(65536);
  expect(disk.diskstats()).toEqual([1, 0, 8, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  expect(disk.errors).toBe(0);
});

describe('merging', () => {
  test('joins what lies side by side while it waits, before and behind', () => {
    const { ram, disk } = machine();
    for (let i = 0; i < 4; i++) ram.fillFrame(BASE / PAGE_SIZE + i, i + 1);
    disk.plug();
    const tags = [disk.submit(REQ_OP_WRITE, 16, pages(2)), disk.submit(REQ_OP_WRITE, 24, pages(3))];
    tags.push(disk.submit(REQ_OP_WRITE, 8, pages(1)), disk.submit(REQ_OP_WRITE, 0, pages(0)));
    expect(disk.nrRequests).toBe(1);
    disk.drain();
    expect(tags.map((tag) => disk.take(tag))).toEqual([0, 0, 0, 0]);
    expect(tags.map((tag) => disk.take(tag))).toEqual([undefined, undefined, undefined, undefined]);
    expect(disk.opStats[REQ_OP_WRITE]).toMatchObject({ ios: 1, merges: 3, sectors: 32 });
    for (let i = 0; i < 4; i++) {
      expect(disk.read(i * 8, pages(9))).toBe(0);
      expect(ram.load8(BASE + 9 * PAGE_SIZE)).toBe(i + 1);
    }
  });

  test('does not join what differs, what is too large, or what is under way', () => {
    const { disk } = machine({ maxSectors: 16, maxSegments: 8 });
    disk.plug();
    disk.submit(REQ_OP_WRITE, 0, pages(0));
    disk.submit(REQ_OP_READ, 8, pages(1));
    expect(disk.nrRequests).toBe(2);
    disk.submit(REQ_OP_WRITE, 8, pages(2));
    expect(disk.nrRequests).toBe(2);
    disk.submit(REQ_OP_WRITE, 16, pages(3));
    expect(disk.nrRequests).toBe(3);
    disk.unplug();
    disk.submit(REQ_OP_WRITE, 24, pages(4));
    expect(disk.nrRequests).toBe(4);
    const narrow = machine({ maxSegments: 1 }).disk;
    narrow.plug();
    narrow.submit(REQ_OP_WRITE, 0, pages(0));
    narrow.submit(REQ_OP_WRITE, 8, pages(1));
    expect(narrow.nrRequests).toBe(2);
    expect(() => narrow.submit(REQ_OP_WRITE, 0, pages(0, 1))).toThrow(RangeError);
  });

  test('goes not past a flush, which waits for all before it', () => {
    const { disk, clock } = machine();
    disk.plug();
    const first = disk.submit(REQ_OP_WRITE, 0, pages(0));
    const flush = disk.submit(REQ_OP_FLUSH, 0);
    const second = disk.submit(REQ_OP_WRITE, 8, pages(1));
    expect(disk.nrRequests).toBe(3);
    expect(disk.wait(flush)).toBe(0);
    expect(disk.take(first)).toBe(0);
    expect(disk.take(second)).toBeUndefined();
    const before = clock.now;
    expect(disk.wait(second)).toBe(0);
    expect(clock.now).toBeGreaterThan(before);
    expect(disk.diskstats()[15]).toBe(1);
  });
});

test('a full queue refuses, or is waited for', () => {
  const { disk, clock } = machine({ queueLimit: 3 });
  disk.plug();
  for (const sector of [0, 100, 200]) expect(disk.submit(REQ_OP_READ, sector, pages(0))).toBeGreaterThan(0);
  expect(disk.submit(REQ_OP_READ, 300, pages(0))).toBe(EAGAIN);
  expect(disk.submit(REQ_OP_READ, 108, pages(1))).toBeGreaterThan(0);
  expect(clock.now).toBe(0);
  disk.waitForRoom();
  expect(clock.now).toBeGreaterThan(0);
  expect(disk.submit(REQ_OP_READ, 300, pages(0))).toBeGreaterThan(0);
});

test('what is wrong is refused and does no damage', () => {
  const { disk, ram } = machine();
  const end = (64 * MIB) / SECTOR_SIZE;
  expect(disk.submit(REQ_OP_READ, end - 7, pages(0))).toBe(EIO);
  expect(disk.submit(REQ_OP_READ, -1, pages(0))).toBe(EIO);
  expect(() => disk.submit(REQ_OP_READ, 0, [{ address: BASE, length: 100 }])).toThrow(RangeError);
  expect(() => disk.submit(REQ_OP_READ, 0)).toThrow(RangeError);
  expect(() => disk.submit(7, 0, pages(0))).toThrow(RangeError);
  expect(() => disk.wait(999)).toThrow(RangeError);
  expect(() => new MemoryBacking(1000)).toThrow(RangeError);
  // A device that reaches 16 MiB only, and one that meets a hole.
  const narrow = machine({}, new MemoryBacking(MIB), 24);
  narrow.ram.fillFrame(5000, 7);
  expect(narrow.disk.write(0, [{ address: 5000 * PAGE_SIZE, length: PAGE_SIZE }])).toBe(EIO);
  expect(narrow.disk.read(0, [{ address: 5000 * PAGE_SIZE, length: PAGE_SIZE }])).toBe(EIO);
  expect(narrow.ram.load8(5000 * PAGE_SIZE)).toBe(7);
  expect(disk.read(0, [...pages(0), { address: 0xa0000, length: 512 }])).toBe(EIO);
  expect(ram.load8(BASE)).toBe(0);
  expect(narrow.disk.errors).toBe(2);
});

describe('injected errors', () => {
  test('strike sectors: of a merged request only the operations that touch them', () => {
    const { disk, ram } = machine();
    disk.write(0, pages(0, 1, 2));
    ram.fillFrame(BASE / PAGE_SIZE + 11, 9);
    disk.inject({ fromSector: 9, toSector: 10, op: REQ_OP_READ });
    disk.plug();
    const tags = [0, 1, 2].map((i) => disk.submit(REQ_OP_READ, i * 8, pages(10 + i)));
    disk.drain();
    expect(tags.map((tag) => disk.take(tag))).toEqual([0, EIO, 0]);
    expect(ram.load8(BASE + 11 * PAGE_SIZE)).toBe(9);
    expect(disk.write(8, pages(0))).toBe(0);
    disk.faults.clear();
    expect(disk.read(8, pages(11))).toBe(0);
    expect(disk.errors).toBe(1);
  });

  test('strike every third request, twice', () => {
    const { disk, ram } = machine();
    disk.inject({ every: 3, times: 2 });
    ram.fillFrame(BASE / PAGE_SIZE, 1);
    const statuses = Array.from({ length: 9 }, () => disk.write(0, pages(0)));
    expect(statuses).toEqual([0, 0, EIO, 0, 0, EIO, 0, 0, 0]);
    expect(disk.faults.struck).toBe(2);
    expect(disk.opStats[REQ_OP_WRITE].ios).toBe(9);
  });

  test('a write that fails leaves the sectors as they were', () => {
    const { disk, ram } = machine();
    ram.fillFrame(BASE / PAGE_SIZE, 1);
    disk.write(0, pages(0));
    ram.fillFrame(BASE / PAGE_SIZE, 2);
    disk.inject({ times: 1 });
    expect(disk.write(0, pages(0))).toBe(EIO);
    expect(disk.read(0, pages(1))).toBe(0);
    expect(ram.load8(BASE + PAGE_SIZE)).toBe(1);
  });

  test('by chance repeat with the seed', () => {
    const run = (seed: number): string => {
      const { disk } = machine({ seed });
      disk.inject({ chance: 0.3 });
      return Array.from({ length: 40 }, () => (disk.read(0, pages(0)) === 0 ? '.' : 'x')).join('');
    };
    expect(run(1)).toBe(run(1));
    expect(run(1)).not.toBe(run(2));
    const struck = [...run(1)].filter((mark) => mark === 'x').length;
    expect(struck).toBeGreaterThan(4);
    expect(struck).toBeLessThan(22);
  });

  test('of no sense are refused', () => {
    const { disk } = machine();
    for (const fault of [{ every: 0 }, { every: 1.5 }, { chance: 2 }, { fromSector: 5, toSector: 5 }, { times: -1 }]) {
      expect(() => disk.inject(fault)).toThrow(RangeError);
    }
  });
});

describe('time', () => {
  test('the arm: none for the next sector, an average for places at random, the full stroke at most', () => {
    const size = 1e6;
    expect(positioningNs(DISK_HDD, 0, size)).toBe(0);
    expect(positioningNs(DISK_SSD, 1000, size)).toBe(0);
    expect(positioningNs(DISK_LAPTOP_HDD, -size, size)).toBeCloseTo(20e6 + 5.55e6, 0);
    const prng = new Prng(3);
    let sum = 0;
    for (let i = 0; i < 20_000; i++) sum += positioningNs(DISK_HDD, prng.below(size) - prng.below(size), size);
    // The average seek of the data sheet and half a revolution.
    expect(sum / 20_000 / 1e6).toBeCloseTo(7.4 + 4.165, 1);
  });

  test('a sequential read is fast, a scattered one slow, on a disk with an arm', () => {
    const { disk, clock } = machine({ model: DISK_HDD });
    for (let i = 0; i < 10; i++) disk.read(i * 8, pages(0));
    const sequential = clock.now;
    for (let i = 0; i < 10; i++) disk.read(((i * 7) % 10) * 12_000, pages(0));
    expect(clock.now - sequential).toBeGreaterThan(50 * sequential);
  });

  test('channels work in parallel, and share the link', () => {
    const alone = machine({ model: DISK_SSD });
    alone.disk.read(0, pages(0));
    const { disk, clock } = machine({ model: DISK_SSD });
    for (let i = 0; i < 4; i++) disk.submit(REQ_OP_READ, i * 1000, pages(i));
    disk.drain();
    expect(clock.now).toBeCloseTo(50e3 + (4 * 4096 * 1e9) / 500e6, 3);
    expect(clock.now).toBeLessThan(2 * alone.clock.now);
  });

  test('the counts of time: busy once, weighted by each', () => {
    const { disk, clock } = machine({ model: DISK_HDD });
    disk.submit(REQ_OP_READ, 60_000, pages(0));
    disk.submit(REQ_OP_READ, 0, pages(1));
    expect(disk.diskstats()[8]).toBe(2);
    clock.advance(1e6);
    expect(disk.diskstats()[9]).toBe(1);
    disk.drain();
    const stats = disk.diskstats();
    const elapsed = Math.floor(clock.now / 1e6);
    expect(stats[8]).toBe(0);
    expect(stats[9]).toBe(elapsed);
    expect(stats[10]).toBeGreaterThan(elapsed);
    expect(stats[3]).toBe(stats[10]);
    clock.advance(1e9);
    expect(disk.diskstats()[9]).toBe(elapsed);
  });

  test('nothing is over before its time', () => {
    const { disk, clock, ram } = machine();
    ram.fillFrame(BASE / PAGE_SIZE, 3);
    disk.write(0, pages(0));
    const tag = disk.submit(REQ_OP_READ, 0, pages(1));
    clock.now = disk.nextCompletion - 1;
    expect(disk.poll()).toBe(0);
    expect(disk.take(tag)).toBeUndefined();
    expect(ram.load8(BASE + PAGE_SIZE)).toBe(0);
    clock.advance(1);
    expect(disk.poll()).toBe(1);
    expect(disk.take(tag)).toBe(0);
    expect(ram.load8(BASE + PAGE_SIZE)).toBe(3);
    expect(disk.nextCompletion).toBe(Infinity);
  });

  test('models are found by name, the faster the newer', () => {
    for (const model of DISK_MODELS) expect(diskModel(model.name)).toBe(model);
    expect(diskModel('drum')).toBeUndefined();
    const took = [DISK_LAPTOP_HDD, DISK_HDD, DISK_SSD, DISK_NVME, DISK_RAM].map((model) => {
      const { disk, clock } = machine({ model });
      disk.read(5000, pages(0));
      return clock.now;
    });
    expect([...took].sort((a, b) => b - a)).toEqual(took);
  });
});

describe('backing stores', () => {
  /** A file of the host, as a plain array that grows. */
  function hostFile(limit = Infinity) {
    const bytes: number[] = [];
    return {
      bytes,
      read(position: number, target: Uint8Array): number {
        const run = Math.max(0, Math.min(target.length, bytes.length - position, 700));
        for (let i = 0; i < run; i++) target[i] = bytes[position + i];
        return run;
      },
      write(position: number, source: Uint8Array): number {
        if (position + source.length > limit) throw new Error('ENOSPC');
        while (bytes.length < position) bytes.push(0);
        const run = Math.min(source.length, 900);
        for (let i = 0; i < run; i++) bytes[position + i] = source[i];
        return run;
      },
    };
  }

  test.each([
    ['memory', () => new MemoryBacking(300 * SECTOR_SIZE)],
    ['a host file that moves little at a time', () => new FileBacking(hostFile(), 300 * SECTOR_SIZE)],
  ])('%s holds what a plain array holds, in random operations', (_name, create) => {
    const { disk, ram } = machine({}, create());
    const model = new Uint8Array(300 * SECTOR_SIZE);
    const prng = new Prng(77);
    for (let i = 0; i < 150; i++) {
      const sectors = 1 + prng.below(140);
      const sector = prng.below(300 - sectors);
      const list = [{ address: BASE + 512 * prng.below(50), length: sectors * SECTOR_SIZE }];
      const at = ram.frameWord(BASE / PAGE_SIZE) * 4 + list[0].address - BASE;
      if (prng.below(2) === 0) {
        ram.u8.fill(i, at, at + list[0].length);
        expect(disk.write(sector, list)).toBe(0);
        model.fill(i, sector * SECTOR_SIZE, (sector + sectors) * SECTOR_SIZE);
      } else {
        expect(disk.read(sector, list)).toBe(0);
        const read = ram.u8.subarray(at, at + list[0].length);
        expect(read.every((byte, k) => byte === model[sector * SECTOR_SIZE + k])).toBe(true);
      }
    }
  });

  test('a host that refuses is an I/O error', () => {
    const { disk } = machine({}, new FileBacking(hostFile(8192), MIB));
    expect(disk.write(0, pages(0, 1))).toBe(0);
    expect(disk.write(16, pages(0))).toBe(EIO);
    expect(disk.read(16, pages(0))).toBe(0);
  });

  test('discarded sectors of memory read as zero and are given back', () => {
    const { disk, ram, backing } = machine();
    ram.fillFrame(BASE / PAGE_SIZE, 5);
    for (let sector = 0; sector < 256; sector += 8) disk.write(sector, pages(0));
    expect((backing as MemoryBacking).committedBytes).toBe(2 * 65536);
    expect(disk.wait(disk.submit(REQ_OP_DISCARD, 0, [], 136))).toBe(0);
    expect((backing as MemoryBacking).committedBytes).toBe(65536);
    disk.read(128, pages(1, 2));
    expect([ram.load8(BASE + PAGE_SIZE), ram.load8(BASE + 2 * PAGE_SIZE)]).toEqual([0, 5]);
    expect(disk.diskstats().slice(11, 15)).toEqual([1, 0, 136, 0]);
  });
});
