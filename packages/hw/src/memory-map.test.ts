import { describe, expect, test } from 'vitest';
import { PAGE_SIZE, checkMemoryMap, firmwareMemoryMap, wholeFrames } from './index.ts';
import type { Board, MemoryRange } from './index.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

/** Lines as the kernel prints them at boot: `BIOS-e820: [mem START-LAST] TYPE`. */
function asPrinted(map: readonly MemoryRange[]): string[] {
  const hex = (n: number): string => n.toString(16).padStart(16, '0');
  return map.map(({ start, end, type }) => `${hex(start)}-${hex(end - 1)} ${type}`);
}

describe('the maps that kernels printed when they booted under QEMU', () => {
  const FIRST = [
    '0000000000000000-000000000009fbff usable',
    '000000000009fc00-000000000009ffff reserved',
    '00000000000f0000-00000000000fffff reserved',
  ];
  const ROM = '00000000fffc0000-00000000ffffffff reserved';
  const HYPER_TRANSPORT = '000000fd00000000-000000ffffffffff reserved';
  const recorded: [board: Board, memory: number, lines: string[]][] = [
    [
      'pc',
      96 * MIB,
      ['0000000000100000-0000000005fdffff usable', '0000000005fe0000-0000000005ffffff reserved', ROM, HYPER_TRANSPORT],
    ],
    [
      'pc',
      GIB,
      ['0000000000100000-000000003ffdffff usable', '000000003ffe0000-000000003fffffff reserved', ROM, HYPER_TRANSPORT],
    ],
    [
      'pc',
      3 * GIB,
      ['0000000000100000-00000000bffdffff usable', '00000000bffe0000-00000000bfffffff reserved', ROM, HYPER_TRANSPORT],
    ],
    [
      'pc',
      4 * GIB,
      [
        '0000000000100000-00000000bffdffff usable',
        '00000000bffe0000-00000000bfffffff reserved',
        ROM,
        '0000000100000000-000000013fffffff usable',
        HYPER_TRANSPORT,
      ],
    ],
    [
      'pc',
      16 * GIB,
      [
        '0000000000100000-00000000bffdffff usable',
        '00000000bffe0000-00000000bfffffff reserved',
        ROM,
        '0000000100000000-000000043fffffff usable',
        HYPER_TRANSPORT,
      ],
    ],
    [
      'q35',
      4 * GIB,
      [
        '0000000000100000-000000007ffdefff usable',
        '000000007ffdf000-000000007fffffff reserved',
        '00000000b0000000-00000000bfffffff reserved',
        '00000000fed1c000-00000000fed1ffff reserved',
        ROM,
        '0000000100000000-000000017fffffff usable',
        HYPER_TRANSPORT,
      ],
    ],
  ];
  test.each(recorded)('%s with %i bytes', (board, memory, lines) => {
    expect(asPrinted(firmwareMemoryMap(board, memory))).toEqual([...FIRST, ...lines]);
  });
});

// `present` of all zones of the node, as /proc/zoneinfo of the recorded boots has it.
test.each([
  ['pc', 96 * MIB, 3998 + 20448],
  ['pc', 128 * MIB, 3998 + 28640],
  ['pc', 256 * MIB, 3998 + 61408],
  ['pc', GIB, 3998 + 258016],
  ['pc', 2 * GIB, 3998 + 520160],
  ['pc', 4 * GIB, 3998 + 782304 + 262144],
] as [Board, number, number][])('%s with %i bytes has %i pages present, without frame 0', (board, memory, present) => {
  const frames = firmwareMemoryMap(board, memory)
    .filter(({ type }) => type === 'usable')
    .map(wholeFrames)
    .reduce((sum, { firstPfn, endPfn }) => sum + endPfn - firstPfn, 0);
  expect(frames - 1).toBe(present);
});

const SIZES = [2 * MIB, 64 * MIB, 2816 * MIB, 3583 * MIB, 3584 * MIB, 4 * GIB, 1024 * GIB];

test.each(SIZES)('%i bytes make a valid map', (memory) => {
  for (const board of ['pc', 'q35'] as const) {
    const map = firmwareMemoryMap(board, memory);
    checkMemoryMap(map);
    const usable = map.filter(({ type }) => type === 'usable').reduce((sum, { start, end }) => sum + end - start, 0);
    expect(usable).toBeLessThan(memory);
    expect(usable).toBeGreaterThan(memory - MIB);
  }
});

test('a size that no board takes is refused', () => {
  for (const memory of [0, MIB, 64 * MIB + 1, NaN, Infinity]) {
    expect(() => firmwareMemoryMap('pc', memory)).toThrow(RangeError);
  }
});

test('a map that is wrong is refused, and the message names the range', () => {
  const usable = (start: number, end: number): MemoryRange => ({ start, end, type: 'usable' });
  expect(() => checkMemoryMap([usable(0, 0x2000), usable(0x1000, 0x3000)])).toThrow(/0x1000-0x3000 overlaps/);
  expect(() => checkMemoryMap([usable(PAGE_SIZE, PAGE_SIZE)])).toThrow(/is empty/);
  expect(() => checkMemoryMap([usable(0.5, PAGE_SIZE)])).toThrow(/not whole bytes/);
  expect(() => checkMemoryMap([usable(0, 2 ** 44)])).toThrow(/beyond 8 TiB/);
  expect(() => checkMemoryMap([usable(1, 2 * PAGE_SIZE - 1)])).toThrow(/no usable frame/);
  expect(() => checkMemoryMap([{ start: 0, end: PAGE_SIZE, type: 'reserved' }])).toThrow(/no usable frame/);
});
