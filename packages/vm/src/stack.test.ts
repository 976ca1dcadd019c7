import {
  Errno,
  MAP_GROWSDOWN,
  MAP_LOCKED,
  PAGE_SIZE,
  PROT_NONE,
  PROT_READ,
  RLIMIT_AS,
  RLIMIT_STACK,
} from '@pagelab/abi';
import { beforeEach, expect, test } from 'vitest';
import { expandStack } from './stack.ts';
import { ANON, RW, TestSpace } from './testing/test-space.ts';
import { validateVm } from './validate.ts';

const GROWING = ANON | MAP_GROWSDOWN;

let space: TestSpace;

beforeEach(() => {
  space = new TestSpace();
});

/** Grows the mapping that holds page `page` down to page `to`. */
function grow(page: number, to: number): number {
  const result = expandStack(space.mm.vmas.get(space.at(page))!, space.at(to) + 5);
  validateVm(space.vm);
  return result;
}

test('at any distance, and charged', () => {
  const { committedAs } = space.vm;
  space.fixed(1000, 2, RW, GROWING);
  const { stackVm } = space.mm;
  expect(grow(1000, 999)).toBe(0);
  expect(grow(1000, 0)).toBe(0);
  expect(space.list()).toEqual(['0..1002 rw-p']);
  expect(space.mm.stackVm).toBe(stackVm + 1000);
  expect(space.vm.committedAs).toBe(committedAs + 1002);
});

test('not what does not grow', () => {
  space.fixed(1000, 2);
  expect(grow(1000, 999)).toBe(-Errno.EFAULT);
});

test('keeps the gap to what can be accessed', () => {
  const gap = space.vm.sysctl.stackGuardGap;
  space.fixed(0, 1, PROT_READ);
  space.fixed(1000, 2, RW, GROWING);
  expect(grow(1000, gap)).toBe(-Errno.ENOMEM);
  expect(grow(1000, gap + 1)).toBe(0);
});

test('right up to what cannot be accessed, or grows itself', () => {
  space.fixed(0, 1, PROT_NONE);
  space.fixed(10, 2, RW, GROWING);
  expect(grow(10, 1)).toBe(0);
  space.fixed(20, 2, RW, GROWING);
  expect(grow(20, 12)).toBe(0);
  expect(space.list()).toEqual(['0..1 ---p', '1..12 rw-p', '12..22 rw-p']);
});

test('within its limits', () => {
  space.fixed(1000, 4, RW, GROWING);
  space.limits.soft.set(RLIMIT_STACK, 64 * PAGE_SIZE);
  expect(grow(1000, 939)).toBe(-Errno.ENOMEM);
  expect(grow(1000, 940)).toBe(0);
  space.limits.soft.clear();
  space.limits.soft.set(RLIMIT_AS, (space.mm.totalVm + 1) * PAGE_SIZE);
  expect(grow(1000, 938)).toBe(-Errno.ENOMEM);
  expect(grow(1000, 939)).toBe(0);
});

test('not below the lowest address that may be mapped', () => {
  const { mmapMinAddr } = space.vm.sysctl;
  space.mmap(mmapMinAddr + PAGE_SIZE, PAGE_SIZE, RW, GROWING | 0x10);
  const vma = space.mm.vmas.get(mmapMinAddr + PAGE_SIZE)!;
  expect(expandStack(vma, mmapMinAddr - 1)).toBe(-Errno.EPERM);
  expect(expandStack(vma, mmapMinAddr)).toBe(0);
});

test('a locked one is counted locked, but not brought in', () => {
  space.fixed(1000, 1, RW, GROWING | MAP_LOCKED);
  expect(grow(1000, 995)).toBe(0);
  expect(space.mm.lockedVm).toBe(6);
});

test('read-only memory grows without being charged', () => {
  const { committedAs } = space.vm;
  space.fixed(1000, 1, PROT_READ, GROWING);
  expect(grow(1000, 990)).toBe(0);
  expect(space.vm.committedAs).toBe(committedAs);
});
