import { TASK_SIZE } from '@pagelab/abi';
import { expect, test } from 'vitest';
import { sbrk } from './sbrk.ts';

/** A break that may move between two bounds, and the library on it. */
function withBreak(start: number, limit: number): { sbrk: (increment: number) => number; breakNow: () => number } {
  let now = start;
  const library = { curbrk: -1 };
  const brk = (addr: number): number => {
    if (addr >= start && addr <= limit) now = addr;
    return now;
  };
  return { sbrk: (increment) => sbrk(library, increment, brk), breakNow: () => now };
}

test('returns the previous break', () => {
  const heap = withBreak(0x5000, 0x9000);
  const steps = [0, 0x1000, 100, -50, 0].map(heap.sbrk);
  expect(steps).toEqual([0x5000, 0x5000, 0x6000, 0x6064, 0x6032]);
  expect(heap.breakNow()).toBe(0x6032);
});

test('fails where the break did not move, and keeps where it is', () => {
  const heap = withBreak(0x5000, 0x9000);
  expect([0x10_000, TASK_SIZE, 2 ** 63 - 1024].map(heap.sbrk)).toEqual([-1, -1, -1]);
  expect([heap.sbrk(0), heap.breakNow()]).toEqual([0x5000, 0x5000]);
});

test('a move past either end of the address range fails without a call', () => {
  const heap = withBreak(0x5000, 0x9000);
  expect([-0x6000, 2 ** 64].map(heap.sbrk)).toEqual([-1, -1]);
  expect(heap.breakNow()).toBe(0x5000);
});

test('below the start the break stays, and the library takes that for success', () => {
  const heap = withBreak(0x5000, 0x9000);
  expect([heap.sbrk(-0x1000), heap.sbrk(0), heap.breakNow()]).toEqual([0x5000, 0x5000, 0x5000]);
});
