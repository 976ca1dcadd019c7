import { MAP_GROWSDOWN, MCL_FUTURE, PAGE_SIZE, PROT_READ, RLIMIT_AS, RLIMIT_DATA, TASK_SIZE } from '@pagelab/abi';
import { beforeEach, describe, expect, test } from 'vitest';
import { doBrk } from './brk.ts';
import { mapsLines } from './maps.ts';
import { doMlockall } from './mlock.ts';
import { MM_ANONPAGES } from './mm-struct.ts';
import { doMprotect } from './mprotect.ts';
import { vmMunmap } from './munmap.ts';
import { ANON, RW, TestSpace } from './testing/test-space.ts';
import { validateVm } from './validate.ts';

let space: TestSpace;
/** Where the heap begins. */
let heap: number;

beforeEach(() => {
  space = new TestSpace();
  heap = doBrk(space.mm, 0);
});

/** Moves the break to so many pages above the start; returns where it is then, in pages. */
function brk(pages: number): number {
  return (doBrk(space.mm, heap + pages * PAGE_SIZE) - heap) / PAGE_SIZE;
}

/** The heap's mappings, in pages from its start. */
function list(): string[] {
  const page = (addr: number): number => (addr - heap) / PAGE_SIZE;
  return mapsLines(space.mm)
    .filter(({ start }) => start >= heap && start < heap + 2 ** 24)
    .map(({ start, end, perms, name }) => `${page(start)}..${page(end)} ${perms} ${name}`.trim());
}

test('grows and shrinks by whole pages, and remembers the exact break', () => {
  expect(heap).toBe(space.mm.startBrk);
  expect(list()).toEqual([]);
  expect(brk(3)).toBe(3);
  expect(brk(4.5)).toBe(4.5);
  expect(list()).toEqual(['0..5 rw-p [heap]']);
  expect(brk(0.25)).toBe(0.25);
  expect(list()).toEqual(['0..1 rw-p [heap]']);
  expect(brk(0)).toBe(0);
  expect(list()).toEqual([]);
  validateVm(space.vm);
});

test('pages given back come again as zero', () => {
  brk(2);
  const memory = space.memory();
  memory.fill(heap, 2 * PAGE_SIZE, 7);
  brk(1);
  expect(space.mm.rss[MM_ANONPAGES]).toBe(1);
  brk(2);
  expect(memory.load8(heap + PAGE_SIZE - 1)).toBe(7);
  expect(memory.findNot(heap + PAGE_SIZE, PAGE_SIZE, 0)).toBe(-1);
});

describe('is refused by reporting the old break', () => {
  test('below the heap, and beyond the address space', () => {
    brk(2);
    for (const bad of [1, heap - 1, TASK_SIZE, TASK_SIZE + 1, 2 ** 62, -1, -PAGE_SIZE]) {
      expect(doBrk(space.mm, bad)).toBe(heap + 2 * PAGE_SIZE);
    }
    validateVm(space.vm);
  });

  test('closer than a page to the next mapping, or into the gap of a growing one', () => {
    space.mmap(heap + 4 * PAGE_SIZE, PAGE_SIZE, PROT_READ, ANON | 0x10);
    expect(brk(4)).toBe(0);
    expect(brk(3)).toBe(3);
    expect(brk(3.1)).toBe(3);
    vmMunmap(space.mm, heap + 4 * PAGE_SIZE, PAGE_SIZE);
    space.mmap(heap + 300 * PAGE_SIZE, PAGE_SIZE, RW, ANON | MAP_GROWSDOWN | 0x10);
    expect(brk(44)).toBe(3);
    expect(brk(43)).toBe(43);
  });

  test('beyond a limit; shrinking too, while still above RLIMIT_DATA', () => {
    brk(16);
    space.limits.soft.set(RLIMIT_DATA, space.mm.endData - space.mm.startData + 8 * PAGE_SIZE);
    expect(brk(12)).toBe(16);
    expect(brk(8)).toBe(8);
    expect(brk(9)).toBe(8);
    space.limits.soft.clear();
    space.limits.soft.set(RLIMIT_AS, PAGE_SIZE);
    expect(brk(9)).toBe(8);
    expect(brk(1)).toBe(1);
  });

  test('where nothing is mapped in the part given back', () => {
    brk(4);
    vmMunmap(space.mm, heap, 4 * PAGE_SIZE);
    expect(brk(2)).toBe(4);
  });
});

test('what the heap’s end became decides how it grows', () => {
  brk(2);
  doMprotect(space.mm, heap + PAGE_SIZE, PAGE_SIZE, PROT_READ);
  brk(4);
  expect(list()).toEqual(['0..1 rw-p [heap]', '1..2 r--p [heap]', '2..4 rw-p [heap]']);
  vmMunmap(space.mm, heap + 3 * PAGE_SIZE, PAGE_SIZE);
  brk(5);
  expect(list()).toEqual(['0..1 rw-p [heap]', '1..2 r--p [heap]', '2..3 rw-p [heap]', '4..5 rw-p [heap]']);
  brk(1);
  expect(list()).toEqual(['0..1 rw-p [heap]']);
  validateVm(space.vm);
});

test('is locked and brought in after mlockall(MCL_FUTURE)', () => {
  doMlockall(space.mm, MCL_FUTURE);
  brk(4);
  expect(space.mm.lockedVm).toBe(4);
  expect(space.mm.rss[MM_ANONPAGES]).toBe(4);
});
