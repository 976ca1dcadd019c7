import { Errno, MAP_LOCKED, PAGE_SIZE, PROT_NONE, PROT_READ, TASK_SIZE } from '@pagelab/abi';
import { beforeEach, expect, test } from 'vitest';
import { MM_ANONPAGES } from './mm-struct.ts';
import { vmMunmap } from './munmap.ts';
import { ANON, RW, TestSpace } from './testing/test-space.ts';
import { validateVm } from './validate.ts';

let space: TestSpace;

beforeEach(() => {
  space = new TestSpace();
});

function munmap(page: number, pages: number): number {
  return vmMunmap(space.mm, space.at(page), pages * PAGE_SIZE);
}

test.each([
  [1, PAGE_SIZE],
  [0, 0],
  [TASK_SIZE, PAGE_SIZE],
  [TASK_SIZE + PAGE_SIZE, PAGE_SIZE],
  [-PAGE_SIZE, PAGE_SIZE],
  [0, TASK_SIZE + 1],
  [0x40_0000, -PAGE_SIZE],
  [0x40_0000, -1],
])('munmap(%d, %d) is invalid', (addr, length) => {
  expect(vmMunmap(space.mm, addr, length)).toBe(-Errno.EINVAL);
});

test('nothing mapped is no error', () => {
  expect(munmap(0, 4)).toBe(0);
  expect(vmMunmap(space.mm, space.at(1), 1)).toBe(0);
});

test('head, tail, middle, whole', () => {
  space.fixed(0, 10);
  space.touch(0, 10);
  munmap(0, 1);
  expect(space.list()).toEqual(['1..10 rw-p']);
  munmap(9, 5);
  expect(space.list()).toEqual(['1..9 rw-p']);
  munmap(4, 2);
  expect(space.list()).toEqual(['1..4 rw-p', '6..9 rw-p']);
  expect(space.mm.rss[MM_ANONPAGES]).toBe(6);
  munmap(0, 4);
  expect(space.list()).toEqual(['6..9 rw-p']);
  munmap(6, 3);
  expect(space.list()).toEqual([]);
  expect(space.mm.rss[MM_ANONPAGES]).toBe(0);
  validateVm(space.vm);
});

test('over several mappings and holes, cutting at both ends', () => {
  space.fixed(0, 3, PROT_READ);
  space.fixed(5, 1);
  space.fixed(6, 1, PROT_NONE);
  space.fixed(9, 3);
  space.touch(9, 3);
  expect(munmap(2, 8)).toBe(0);
  expect(space.list()).toEqual(['0..2 r--p', '10..12 rw-p']);
  validateVm(space.vm);
});

test('what was locked or charged is given back', () => {
  const before = { locked: space.mm.lockedVm, data: space.mm.dataVm, committed: space.vm.committedAs };
  space.fixed(0, 8, RW, ANON | MAP_LOCKED);
  munmap(2, 3);
  expect(space.mm.lockedVm).toBe(before.locked + 5);
  expect(space.vm.committedAs).toBe(before.committed + 5);
  munmap(0, 8);
  expect(space.mm.lockedVm).toBe(before.locked);
  expect(space.mm.dataVm).toBe(before.data);
  expect(space.vm.committedAs).toBe(before.committed);
});

test('at the limit of mappings, only cutting a hole is refused', () => {
  space.fixed(0, 8);
  space.vm.sysctl.maxMapCount = space.mm.mapCount;
  expect(munmap(3, 1)).toBe(-Errno.ENOMEM);
  expect(space.list()).toEqual(['0..8 rw-p']);
  expect(munmap(0, 1)).toBe(0);
  expect(munmap(7, 1)).toBe(0);
  expect(space.list()).toEqual(['1..7 rw-p']);
  validateVm(space.vm);
});

test('page tables that serve nothing else go too', () => {
  const tables = space.mm.pgtablesBytes;
  space.fixed(0, 2048);
  space.touch(0);
  space.touch(2047);
  expect(space.mm.pgtablesBytes).toBeGreaterThan(tables);
  munmap(0, 2048);
  expect(space.mm.pgtablesBytes).toBe(tables);
});

test('a peak of the size is remembered', () => {
  const { totalVm } = space.mm;
  space.fixed(0, 1000, PROT_READ);
  munmap(0, 1000);
  expect(space.mm.totalVm).toBe(totalVm);
  expect(space.mm.hiwaterVm).toBe(totalVm + 1000);
});
