import { Prng } from '@pagelab/lib';
import { describe, expect, test } from 'vitest';
import { DMA_ERROR_BUS, DMA_ERROR_MASK, DMA_OK, DmaEngine, PAGE_SIZE, PhysicalMemory, firmwareMemoryMap } from './index.ts';
import type { DmaMaskBits } from './index.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

function machine(bytes = 64 * MIB): PhysicalMemory {
  return new PhysicalMemory(firmwareMemoryMap('pc', bytes));
}

describe('a DMA mask', () => {
  test.each<[DmaMaskBits, number]>([
    [24, 16 * MIB],
    [32, 4 * GIB],
  ])('of %i bits ends at the byte', (bits, end) => {
    const ram = machine(8 * GIB);
    const engine = new DmaEngine(ram, bits);
    const last = bits === 24 ? end - 2 : 0xbf000000;
    expect(engine.write(last, Uint8Array.of(1, 2))).toBe(DMA_OK);
    expect(ram.load16(last)).toBe(0x201);
    expect(engine.write(end, Uint8Array.of(1))).toBe(DMA_ERROR_MASK);
    expect(engine.errorAddress).toBe(end);
    expect(ram.load8(end)).toBe(0);
    expect(engine.reaches(end - 1, 1)).toBe(true);
    expect(engine.reaches(end - 1, 2)).toBe(false);
    expect(engine.reaches(-1, 1)).toBe(false);
    expect(engine.stats.maskErrors).toBe(1);
  });

  test('of 64 bits reaches all memory', () => {
    const ram = machine(8 * GIB);
    expect(new DmaEngine(ram).fill(4 * GIB + 5, 3, 0x1ff)).toBe(DMA_OK);
    expect(ram.load32(4 * GIB + 4)).toBe(0xffffff00);
  });

  test('of another width there is none', () => {
    expect(() => new DmaEngine(machine(), 31 as DmaMaskBits)).toThrow(RangeError);
  });
});

test('a transfer that a mask or a hole stops moves no byte of what comes before it', () => {
  const ram = machine();
  const isa = new DmaEngine(ram, 24);
  const low = 2 * MIB;
  const source = new Uint8Array(2 * PAGE_SIZE).fill(7);
  const list = (second: number) => [
    { address: low, length: PAGE_SIZE },
    { address: second, length: PAGE_SIZE },
  ];
  expect(isa.scatter(list(16 * MIB), source)).toBe(DMA_ERROR_MASK);
  expect(isa.scatter(list(0x9f800), source)).toBe(DMA_ERROR_BUS);
  // The last frame below 640 KiB is not whole: the firmware keeps its end.
  expect(isa.errorAddress).toBe(0x9f800);
  expect(isa.fill(16 * MIB - 1, 2, 1)).toBe(DMA_ERROR_MASK);
  expect(isa.copy(low, 16 * MIB - 8, 16)).toBe(DMA_ERROR_MASK);
  expect(ram.load32(low)).toBe(0);
  expect(ram.load8(16 * MIB - 1)).toBe(0);
  const target = new Uint8Array(2 * PAGE_SIZE);
  expect(isa.gather(list(0xa0000), target)).toBe(DMA_ERROR_BUS);
  expect(target.every((byte) => byte === 0)).toBe(true);
  expect(isa.stats).toEqual({ transfers: 0, segments: 0, bytes: 0, maskErrors: 3, busErrors: 2 });
});

test('gather and scatter keep the order of their lists, across frames', () => {
  const ram = machine();
  const engine = new DmaEngine(ram, 32);
  const list = [
    { address: 5 * MIB + 4090, length: 10 },
    { address: 3 * MIB, length: 0 },
    { address: 2 * MIB + 1, length: 3 },
  ];
  const bytes = Uint8Array.from({ length: 13 }, (_, i) => i + 1);
  expect(engine.scatter(list, bytes)).toBe(DMA_OK);
  expect(ram.load32(5 * MIB + 4096)).toBe(0x0a090807);
  expect(ram.load32(2 * MIB)).toBe(0x0d0c0b00);
  const back = new Uint8Array(13);
  expect(engine.gather(list, back)).toBe(DMA_OK);
  expect([...back]).toEqual([...bytes]);
  expect(engine.stats).toEqual({ transfers: 2, segments: 6, bytes: 26, maskErrors: 0, busErrors: 0 });
  expect(() => engine.gather(list, new Uint8Array(12))).toThrow(/13 bytes/);
  expect(() => engine.read(0.5, back)).toThrow(RangeError);
});

test('copies that overlap, in either direction, are as a plain array has them', () => {
  const ram = machine(16 * MIB);
  const engine = new DmaEngine(ram);
  const base = 2 * MIB;
  const size = 5 * PAGE_SIZE;
  const model = new Uint8Array(size);
  const prng = new Prng(11);
  for (let i = 0; i < size; i++) model[i] = prng.below(256);
  engine.write(base, model);
  for (let i = 0; i < 200; i++) {
    const length = prng.below(3 * PAGE_SIZE);
    const to = prng.below(size - length);
    const from = prng.below(size - length);
    model.copyWithin(to, from, from + length);
    expect(engine.copy(base + to, base + from, length)).toBe(DMA_OK);
  }
  const now = new Uint8Array(size);
  engine.read(base, now);
  expect(now.every((byte, i) => byte === model[i])).toBe(true);
});
