import { describe, expect, it } from 'vitest';
import { pageAllocators } from './page-allocators.ts';
import { churn, freeBlocks } from './testing/churn.ts';
import { SOAK } from './testing/soak.ts';
import { testMachine } from './testing/machine.ts';
import type { TestMachineOptions } from './testing/machine.ts';

const MIB_BYTES = 0x100000;

const MACHINES: readonly (readonly [string, number, TestMachineOptions])[] = [
  ['one CPU and two zones', 30_000, { memoryMib: 64 }],
  [
    'four unequal nodes, one of them without CPUs, and a movable zone',
    40_000,
    {
      memoryMib: 448,
      cpus: 4,
      movablecorePages: 16_384,
      nodes: [
        { memoryBytes: 128 * MIB_BYTES, cpus: [0] },
        { memoryBytes: 192 * MIB_BYTES, cpus: [1, 2] },
        { memoryBytes: 64 * MIB_BYTES, cpus: [3] },
        { memoryBytes: 64 * MIB_BYTES, cpus: [] },
      ],
    },
  ],
  ['a reserve for urgent allocations', 30_000, { memoryMib: 320, cpus: 2 }],
];

describe.each(Object.entries(pageAllocators))('a machine whose page allocator is %s', (name, pageAllocator) => {
  it('is called that', () => {
    expect(pageAllocator.name).toBe(name);
  });

  it.each(MACHINES)('neither loses a frame nor hands one out twice: %s', (_, steps, options) => {
    const machine = testMachine({ ...options, pageAllocator });
    const before = freeBlocks(machine.pages);
    expect(churn(machine, { seed: 11, steps: steps * SOAK, every: 5000 * SOAK })).toBeGreaterThan((steps * SOAK) / 4);
    expect(freeBlocks(machine.pages)).toEqual(before);
  }, 60_000 * SOAK);
});
