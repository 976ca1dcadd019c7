import { describe, expect, test } from 'vitest';
import {
  BufferPool,
  BusError,
  CHUNK_BYTES,
  CHUNK_PAGES,
  HostMemoryError,
  PAGE_SIZE,
  PhysicalMemory,
  Smp,
  firmwareMemoryMap,
  wholeFrames,
} from './index.ts';
import type { MemoryRange } from './index.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

describe('holes', () => {
  const ram = new PhysicalMemory(firmwareMemoryMap('pc', 4 * GIB));

  test('RAM is what the map lists as usable, in whole frames', () => {
    const inMap = (pfn: number): boolean =>
      ram.map.some((range) => {
        const { firstPfn, endPfn } = wholeFrames(range);
        return range.type === 'usable' && pfn >= firstPfn && pfn < endPfn;
      });
    const edges = ram.map.flatMap(({ start, end }) => [start, end]).map((at) => Math.floor(at / PAGE_SIZE));
    for (const edge of edges) {
      for (let pfn = edge - 2; pfn <= edge + 2; pfn++) {
        expect(ram.isRam(pfn), `frame ${pfn}`).toBe(inMap(pfn));
        expect(ram.frameWord(pfn) >= 0, `frame ${pfn}`).toBe(inMap(pfn));
      }
    }
    expect(ram.maxPfn).toBe((5 * GIB) / PAGE_SIZE);
    expect(ram.nrPages).toBe(1 + 3998 + 782304 + 262144);
  });

  test.each([0x9fc00, 0xa0000, 0xfffff, 0xbffe0000, 0xfee00000, 5 * GIB, -1, -4096, 2 ** 40, 2 ** 52, NaN, 1.5])(
    'an access at %d is a bus error',
    (at) => {
      expect(() => ram.load8(at)).toThrow(BusError);
      expect(() => ram.load32(at)).toThrow(BusError);
      expect(() => ram.store8(at, 1)).toThrow(BusError);
      expect(() => ram.storeAddress(at, 1)).toThrow(BusError);
    },
  );

  test('a store that runs into a hole stores nothing', () => {
    const last = 0x9f000 - 2;
    ram.store16(last, 0xffff);
    expect(() => ram.store32(last, 0x12345678)).toThrow(BusError);
    expect(() => ram.storeAddress(last, 0x12345678)).toThrow(BusError);
    expect(ram.load16(last)).toBe(0xffff);
  });

  test('frames of a hole cannot be filled or copied', () => {
    expect(() => ram.zeroFrame(0xa0)).toThrow(BusError);
    expect(() => ram.copyFrame(0xa0, 1)).toThrow(BusError);
    expect(() => ram.copyFrame(1, 0xa0)).toThrow(BusError);
  });
});

describe('what the host commits', () => {
  test('a machine of 1 TiB takes only what is touched', () => {
    const ram = new PhysicalMemory(firmwareMemoryMap('pc', 1024 * GIB));
    expect(ram.committedBytes).toBe(0);
    expect(ram.load32(900 * GIB)).toBe(0);
    expect(ram.committedBytes).toBe(0);
    ram.store32(900 * GIB, 7);
    ram.store32(900 * GIB + CHUNK_BYTES - 4, 8);
    ram.store32(4096, 9);
    expect(ram.committedBytes).toBe(2 * CHUNK_BYTES);
    expect([ram.load32(900 * GIB), ram.load32(900 * GIB + CHUNK_BYTES - 4), ram.load32(4096)]).toEqual([7, 8, 9]);
  });

  test('two frames never share memory', () => {
    const ram = new PhysicalMemory(firmwareMemoryMap('pc', 16 * MIB));
    for (let pfn = 0; pfn < ram.maxPfn; pfn++) if (ram.isRam(pfn)) ram.store32(pfn * PAGE_SIZE, pfn + 1);
    for (let pfn = 0; pfn < ram.maxPfn; pfn++) if (ram.isRam(pfn)) expect(ram.load32(pfn * PAGE_SIZE)).toBe(pfn + 1);
  });

  test('touching more than a buffer holds is a clear error', () => {
    const ram = new PhysicalMemory(firmwareMemoryMap('pc', 8 * GIB));
    const touch = (): void => {
      for (let pfn = 512; pfn < ram.maxPfn; pfn += CHUNK_PAGES) ram.frameWord(pfn);
    };
    expect(touch).toThrow(HostMemoryError);
    expect(touch).toThrow(/touched more than 409\d MiB/);
  });
});

test('values are little-endian, aligned or not, across frames and chunks', () => {
  const ram = new PhysicalMemory(firmwareMemoryMap('pc', 16 * MIB));
  for (const at of [0x200000, 0x200001, 0x200ffe, 0x200fff, 0x3ffffd, 0x3fffff]) {
    ram.storeAddress(at, 0x0807060504030);
    expect([0, 1, 2, 3, 4, 5, 6, 7].map((i) => ram.load8(at + i))).toEqual([0x30, 0x40, 0x50, 0x60, 0x70, 0x80, 0, 0]);
    expect(ram.load16(at + 1)).toBe(0x5040);
    expect(ram.load32(at)).toBe(0x60504030);
    expect(ram.loadAddress(at)).toBe(0x0807060504030);
    ram.storeAddress(at, -0x778000000000);
    expect(ram.loadAddress(at)).toBe(-0x778000000000);
    expect(ram.load32(at + 4)).toBe(0xffff8880);
    ram.store32(at, -1);
    expect(ram.load32(at)).toBe(0xffffffff);
  }
});

test('whole frames are cleared, filled and copied', () => {
  const ram = new PhysicalMemory(firmwareMemoryMap('pc', 16 * MIB));
  ram.fillFrame(1000, 0x1a5);
  ram.copyFrame(2000, 1000);
  expect(ram.load32(2000 * PAGE_SIZE + 4092)).toBe(0xa5a5a5a5);
  expect(ram.load32(2001 * PAGE_SIZE)).toBe(0);
  ram.zeroFrame(1000);
  expect(ram.load32(1000 * PAGE_SIZE)).toBe(0);
  expect(ram.load32(2000 * PAGE_SIZE)).toBe(0xa5a5a5a5);
});

test('a map may have holes of any shape', () => {
  const usable = (start: number, end: number): MemoryRange => ({
    start: start * PAGE_SIZE,
    end: end * PAGE_SIZE,
    type: 'usable',
  });
  const map = [usable(3, 5), usable(7, 8), usable(511, 513), usable(1024, 1536), usable(2000, 2001)];
  const ram = new PhysicalMemory(map);
  const frames = Array.from({ length: 2100 }, (_, pfn) => pfn).filter((pfn) => ram.isRam(pfn));
  expect(frames).toEqual([3, 4, 7, 511, 512, ...Array.from({ length: 512 }, (_, i) => 1024 + i), 2000]);
  expect(new Set(frames.map((pfn) => ram.frameWord(pfn))).size).toBe(frames.length);
  expect(ram.frameWord(5)).toBe(-1);
  expect(ram.frameWord(2001)).toBe(-1);
});

describe('a pool of buffers', () => {
  test('hands a cleared buffer to the next machine, and cuts the old one off', () => {
    const buffers = new BufferPool();
    const map = firmwareMemoryMap('pc', 64 * MIB);
    const first = new PhysicalMemory(map, { buffers });
    const smp = new Smp(first, 2);
    first.fillFrame(600, 0xff);
    first.storeAddress(0x200000, 0x201067);
    smp.current.loadCr3(0x200000);
    first.release();
    first.release();
    expect(buffers.size).toBe(1);
    expect(() => first.load8(0x200000)).toThrow(BusError);
    expect(() => smp.current.translate(0, 0)).toThrow(BusError);

    const second = new PhysicalMemory(map, { buffers });
    expect(second.u32.buffer).toBe(first.u32.buffer);
    expect(buffers.size).toBe(0);
    expect(second.u32.every((word) => word === 0)).toBe(true);
  });

  test('keeps a few, and gives none that is much too large', () => {
    const buffers = new BufferPool(1);
    const machines = [64, 64].map((mib) => new PhysicalMemory(firmwareMemoryMap('pc', mib * MIB), { buffers }));
    for (const ram of machines) ram.release();
    expect(buffers.size).toBe(1);
    const small = new PhysicalMemory(firmwareMemoryMap('pc', 4 * MIB), { buffers });
    expect(small.u32.length).toBeLessThan(machines[0].u32.length);
    expect(buffers.size).toBe(1);
  });
});
