/** Which slots a swap area gives, as recorded with Linux 6.18 on a disk that does not rotate. */
import { expect, test } from 'vitest';
import { MemorySwapDevice } from './swap-device.ts';
import { SWAP_FLAG_PREFER, allocSwapSlot, enableSwapArea, putSwapSlot, stopSwapArea } from './swapfile.ts';
import { swpEntry, swpOffset, swpType } from './swapops.ts';
import { testVm } from './testing/test-machine.ts';
import type { Vm } from './vm.ts';

function withAreas(...areas: readonly { pages: number; priority?: number }[]): Vm {
  const vm = testVm({ memoryBytes: 2 ** 24, cpus: 2 });
  for (const { pages, priority } of areas) {
    const init = { path: '/swap', kind: 'file', inode: null, max: pages, badPages: [] } as const;
    enableSwapArea(vm, new MemorySwapDevice(vm.ram, pages), init, priority === undefined ? 0 : SWAP_FLAG_PREFER | priority);
  }
  return vm;
}

/** Slots that come in a row, as first and last of each run. */
function runs(slots: readonly number[]): string {
  const found: [number, number][] = [];
  for (const slot of slots) {
    const last = found.at(-1);
    if (last?.[1] === slot - 1) last[1] = slot;
    else found.push([slot, slot]);
  }
  return found.map(([first, last]) => `${first}-${last}`).join(' ');
}

function take(vm: Vm, cpu: number, count: number): number[] {
  vm.smp.processorId = cpu;
  return Array.from({ length: count }, () => swpOffset(allocSwapSlot(vm)));
}

function free(vm: Vm, slots: readonly number[]): void {
  for (const slot of slots) putSwapSlot(vm, swpEntry(0, slot));
}

/** What a program with two CPUs got of an area when it swapped out so much, and gave up some of it meanwhile. */
function recorded(nrSlots: number): string[] {
  const vm = withAreas({ pages: nrSlots });
  const a = take(vm, 0, 700);
  const b = take(vm, 1, 100);
  const c = take(vm, 0, 600);
  free(vm, a);
  const d = take(vm, 0, 700);
  const e = take(vm, 0, nrSlots - 1 - 700 - 100 - 600);
  free(vm, b.slice(10, 13));
  const f = take(vm, 0, 3);
  expect(vm.swap.nrFree).toBe(0);
  expect(allocSwapSlot(vm)).toBe(-1);
  const [area] = vm.swap.areas;
  area!.clusters.validate(area!.map);
  return [a, b, c, d, e, f].map(runs);
}

test('each CPU has a cluster, and when all others are taken, those of the others', () => {
  expect(recorded(4096)).toEqual(['1-700', '1024-1123', '701-1023 1536-1812', '1813-2047 1-465', '466-700 2048-4095 1124-1535', '1034-1036']);
});

test('a cluster at the end that is none counts as partly taken', () => {
  expect(recorded(4000)).toEqual(['1-511 3584-3772', '512-611', '3773-3999 1024-1396', '1397-1535 1-511 3584-3633', '3634-3772 1536-3583 612-1023', '522-524']);
});

test('before 6.18, free clusters come first', () => {
  const vm = withAreas({ pages: 2048 });
  vm.swap.prefersNonfull = false;
  expect(runs(take(vm, 0, 600))).toBe('512-1111');
  expect(runs(take(vm, 0, 1447))).toBe('1112-2047 1-511');
});

test('areas of one priority take turns by clusters, and others wait until they are full', () => {
  const vm = withAreas({ pages: 2048, priority: 1 }, { pages: 1024, priority: 5 }, { pages: 1024, priority: 5 });
  const types = Array.from({ length: 1024 + 1024 + 2048 - 3 }, () => swpType(allocSwapSlot(vm)));
  const turns = types.reduce<[type: number, count: number][]>((sum, type) => {
    if (sum.at(-1)?.[0] === type) sum[sum.length - 1][1]++;
    else sum.push([type, 1]);
    return sum;
  }, []);
  expect(turns).toEqual([[1, 511], [2, 511], [1, 512], [2, 512], [0, 2047]]);
  expect(allocSwapSlot(vm)).toBe(-1);
});

test('a CPU forgets its cluster when the area is emptied', () => {
  const vm = withAreas({ pages: 1024, priority: 2 }, { pages: 1024, priority: 1 });
  expect(swpType(allocSwapSlot(vm))).toBe(0);
  stopSwapArea(vm, vm.swap.areas[0]!);
  expect(swpType(allocSwapSlot(vm))).toBe(1);
});
