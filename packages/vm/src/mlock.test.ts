import {
  Errno,
  MAP_ANONYMOUS,
  MAP_DROPPABLE,
  MCL_CURRENT,
  MCL_FUTURE,
  MCL_ONFAULT,
  MLOCK_ONFAULT,
  PAGE_SIZE,
  PROT_NONE,
  PROT_READ,
  RLIMIT_MEMLOCK,
} from '@pagelab/abi';
import { beforeEach, describe, expect, test } from 'vitest';
import { doMlock, doMlockall, doMunlock, doMunlockall } from './mlock.ts';
import { MM_ANONPAGES } from './mm-struct.ts';
import { RW, TestSpace } from './testing/test-space.ts';
import { validateVm } from './validate.ts';

let space: TestSpace;

beforeEach(() => {
  space = new TestSpace();
});

function lock(page: number, pages: number, flags = 0): number {
  const result = doMlock(space.mm, space.at(page), pages * PAGE_SIZE, flags);
  validateVm(space.vm);
  return result;
}

function unlock(page: number, pages: number): number {
  const result = doMunlock(space.mm, space.at(page), pages * PAGE_SIZE);
  validateVm(space.vm);
  return result;
}

test('locks, splits, brings in, and unlocks', () => {
  space.fixed(0, 5);
  expect(lock(1.9, 0.2)).toBe(0);
  expect(space.list()).toEqual(['0..1 rw-p', '1..3 rw-p', '3..5 rw-p']);
  expect(space.mm.lockedVm).toBe(2);
  expect(space.mm.rss[MM_ANONPAGES]).toBe(2);
  expect(lock(0, 5)).toBe(0);
  expect(space.mm.lockedVm).toBe(5);
  expect(unlock(2, 1)).toBe(0);
  expect(space.list()).toEqual(['0..2 rw-p', '2..3 rw-p', '3..5 rw-p']);
  expect(unlock(0, 5)).toBe(0);
  expect(space.list()).toEqual(['0..5 rw-p']);
  expect(space.mm.lockedVm).toBe(0);
  expect(space.mm.rss[MM_ANONPAGES]).toBe(5);
});

test('as they are touched', () => {
  space.fixed(0, 4);
  expect(lock(0, 4, MLOCK_ONFAULT)).toBe(0);
  expect(space.flags(0)).toEqual(expect.arrayContaining(['lo', 'lf']));
  expect(space.mm.rss[MM_ANONPAGES]).toBe(0);
  expect(lock(0, 4)).toBe(0);
  expect(space.mm.lockedVm).toBe(4);
  expect(space.mm.rss[MM_ANONPAGES]).toBe(4);
});

test('up to a hole, without bringing in', () => {
  space.fixed(0, 2);
  space.fixed(4, 2);
  expect(lock(0, 6)).toBe(-Errno.ENOMEM);
  expect(space.mm.lockedVm).toBe(2);
  expect(space.mm.rss[MM_ANONPAGES]).toBe(0);
  expect(lock(3, 2)).toBe(-Errno.ENOMEM);
  expect(unlock(0, 6)).toBe(-Errno.ENOMEM);
  expect(space.mm.lockedVm).toBe(0);
});

test('inaccessible memory stays locked, though the call fails', () => {
  space.fixed(0, 2, PROT_NONE);
  expect(lock(0, 2)).toBe(-Errno.ENOMEM);
  expect(space.mm.lockedVm).toBe(2);
});

test('what may be dropped is passed over', () => {
  space.fixed(0, 2, RW, MAP_DROPPABLE | MAP_ANONYMOUS);
  expect(lock(0, 2)).toBe(0);
  expect(space.mm.lockedVm).toBe(0);
  expect(space.mm.rss[MM_ANONPAGES]).toBe(2);
});

test('bad ranges', () => {
  const addr = space.fixed(0, 1);
  expect(lock(0, 1, 2)).toBe(-Errno.EINVAL);
  expect(doMlock(space.mm, addr, -PAGE_SIZE, 0)).toBe(-Errno.EINVAL);
  expect(doMlock(space.mm, addr, -1, 0)).toBe(0);
  expect(doMunlock(space.mm, addr, -PAGE_SIZE)).toBe(-Errno.EINVAL);
  expect(doMunlock(space.mm, -PAGE_SIZE, 1)).toBe(-Errno.EINVAL);
  expect(doMunlock(space.mm, -2 * PAGE_SIZE, 1)).toBe(-Errno.ENOMEM);
});

describe('without privilege', () => {
  beforeEach(() => {
    space.limits.privileged = false;
  });

  test('the limit counts pages once', () => {
    space.fixed(0, 4);
    space.limits.soft.set(RLIMIT_MEMLOCK, 4 * PAGE_SIZE - 1);
    expect(lock(0, 4)).toBe(-Errno.ENOMEM);
    expect(lock(0, 2)).toBe(0);
    expect(lock(1, 2)).toBe(0);
    expect(lock(0, 3)).toBe(0);
    expect(lock(3, 1)).toBe(-Errno.ENOMEM);
    expect(doMlock(space.mm, space.at(0), -PAGE_SIZE, 0)).toBe(-Errno.ENOMEM);
  });

  test('a limit of 0 comes first', () => {
    space.limits.soft.set(RLIMIT_MEMLOCK, 0);
    expect(lock(0, 1)).toBe(-Errno.EPERM);
    expect(lock(0, 1, 2)).toBe(-Errno.EINVAL);
    expect(doMlockall(space.mm, MCL_CURRENT)).toBe(-Errno.EPERM);
    expect(doMlockall(space.mm, 0)).toBe(-Errno.EINVAL);
    expect(unlock(0, 1)).toBe(-Errno.ENOMEM);
  });
});

describe('all', () => {
  test.each([0, 8, MCL_ONFAULT, MCL_CURRENT | 16])('flags %d are refused', (flags) => {
    expect(doMlockall(space.mm, flags)).toBe(-Errno.EINVAL);
  });

  test('what is there, and what will be', () => {
    space.fixed(0, 2, PROT_READ);
    space.fixed(4, 2, PROT_NONE);
    expect(doMlockall(space.mm, MCL_CURRENT | MCL_FUTURE)).toBe(0);
    validateVm(space.vm);
    // The kernel's own pages are not counted.
    expect(space.mm.lockedVm).toBe(space.mm.totalVm - 8);
    const { lockedVm } = space.mm;
    space.fixed(8, 2);
    expect(space.mm.lockedVm).toBe(lockedVm + 2);
    expect(doMlockall(space.mm, MCL_FUTURE | MCL_ONFAULT)).toBe(0);
    space.fixed(12, 2);
    expect(space.flags(12)).toContain('lf');
    doMunlockall(space.mm);
    expect(space.mm.lockedVm).toBe(0);
    space.fixed(16, 2);
    expect(space.flags(16)).not.toContain('lo');
    validateVm(space.vm);
  });
});
