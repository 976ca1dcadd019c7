import {
  Errno,
  MAP_ANONYMOUS,
  MAP_GROWSDOWN,
  MAP_LOCKED,
  MAP_NORESERVE,
  MAP_SHARED,
  PAGE_SIZE,
  PROT_EXEC,
  PROT_GROWSDOWN,
  PROT_GROWSUP,
  PROT_NONE,
  PROT_READ,
  PROT_SEM,
  PROT_WRITE,
  RLIMIT_DATA,
} from '@pagelab/abi';
import { beforeEach, describe, expect, test } from 'vitest';
import { MM_ANONPAGES } from './mm-struct.ts';
import { doMprotect } from './mprotect.ts';
import { ANON, RW, TestSpace } from './testing/test-space.ts';
import { validateVm } from './validate.ts';

const RX = PROT_READ | PROT_EXEC;

let space: TestSpace;

beforeEach(() => {
  space = new TestSpace();
});

function protect(page: number, pages: number, prot: number): number {
  return doMprotect(space.mm, space.at(page), pages * PAGE_SIZE, prot);
}

describe('arguments', () => {
  test('in Linux’s order', () => {
    const addr = space.fixed(0, 1);
    const call = (at: number, length: number, prot: number): number => doMprotect(space.mm, at, length, prot);
    const both = PROT_GROWSDOWN | PROT_GROWSUP;
    expect(call(addr + 1, PAGE_SIZE, both)).toBe(-Errno.EINVAL);
    expect(call(addr + 1, 0, PROT_READ)).toBe(-Errno.EINVAL);
    expect(call(addr, 0, 0x40)).toBe(0);
    expect(call(addr, -1, 0x40)).toBe(-Errno.ENOMEM);
    expect(call(addr, -PAGE_SIZE, 0x40)).toBe(-Errno.ENOMEM);
    expect(call(addr, PAGE_SIZE, PROT_READ | 0x40)).toBe(-Errno.EINVAL);
    expect(call(addr, PAGE_SIZE, RW | PROT_SEM)).toBe(0);
    expect(call(-PAGE_SIZE, PAGE_SIZE, PROT_READ)).toBe(-Errno.ENOMEM);
    // So far up that it does not wrap: all there is is changed first.
    expect(call(addr, -(2 ** 62), PROT_READ)).toBe(-Errno.ENOMEM);
    expect(space.list()).toEqual(['0..1 r--p']);
  });

  test('GROWSDOWN reaches down to the start of a growing mapping', () => {
    space.fixed(0, 4);
    expect(protect(0, 1, PROT_READ | PROT_GROWSDOWN)).toBe(-Errno.EINVAL);
    expect(protect(0, 1, PROT_READ | PROT_GROWSUP)).toBe(-Errno.EINVAL);
    space.fixed(1000, 4, RW, ANON | MAP_GROWSDOWN);
    expect(protect(998, 3, PROT_READ | PROT_GROWSDOWN)).toBe(0);
    expect(space.list()).toEqual(['0..4 rw-p', '1000..1001 r--p', '1001..1004 rw-p']);
    expect(protect(1002, 1, RX | PROT_GROWSDOWN)).toBe(0);
    expect(space.list()).toEqual(['0..4 rw-p', '1000..1001 r--p', '1001..1003 r-xp', '1003..1004 rw-p']);
  });
});

describe('borders', () => {
  test('a part becomes a mapping of its own, and one again', () => {
    space.fixed(0, 5);
    space.touch(0, 5, 7);
    protect(2, 1, PROT_READ);
    expect(space.list()).toEqual(['0..2 rw-p', '2..3 r--p', '3..5 rw-p']);
    protect(2, 1, RW);
    expect(space.list()).toEqual(['0..5 rw-p']);
    expect(space.memory().load8(space.at(2))).toBe(7);
    validateVm(space.vm);
  });

  test('a part goes to the neighbour that has its rights', () => {
    space.fixed(0, 2, PROT_READ);
    space.fixed(2, 4, RW);
    space.fixed(6, 2, PROT_READ);
    protect(2, 1, PROT_READ);
    protect(5, 1, PROT_READ);
    expect(space.list()).toEqual(['0..3 r--p', '3..5 rw-p', '5..8 r--p']);
    protect(3, 2, PROT_READ);
    expect(space.list()).toEqual(['0..8 r--p']);
    validateVm(space.vm);
  });

  test('several mappings at once', () => {
    for (let page = 0; page < 6; page++) space.fixed(page, 1, page % 2 === 0 ? RW : PROT_READ);
    space.touch(2);
    expect(protect(1, 4, RX)).toBe(0);
    // Page 2 was stored to: it stays charged, and apart.
    expect(space.list()).toEqual(['0..1 rw-p', '1..2 r-xp', '2..3 r-xp', '3..5 r-xp', '5..6 r--p']);
    validateVm(space.vm);
  });

  test('up to a hole', () => {
    space.fixed(0, 2);
    space.fixed(4, 2);
    expect(protect(0, 6, PROT_READ)).toBe(-Errno.ENOMEM);
    expect(space.list()).toEqual(['0..2 r--p', '4..6 rw-p']);
    expect(protect(3, 2, PROT_READ)).toBe(-Errno.ENOMEM);
    expect(space.list()).toEqual(['0..2 r--p', '4..6 rw-p']);
  });

  test('at the limit of mappings', () => {
    space.fixed(0, 5);
    space.vm.sysctl.maxMapCount = space.mm.mapCount;
    expect(protect(2, 1, PROT_READ)).toBe(-Errno.ENOMEM);
    expect(space.list()).toEqual(['0..5 rw-p']);
    expect(protect(0, 5, PROT_READ)).toBe(0);
    validateVm(space.vm);
  });
});

describe('charge', () => {
  test('follows what may be stored to, while nothing was', () => {
    const { committedAs } = space.vm;
    space.fixed(0, 4, PROT_READ);
    expect(space.vm.committedAs).toBe(committedAs);
    protect(0, 4, RW);
    expect(space.vm.committedAs).toBe(committedAs + 4);
    protect(0, 2, PROT_READ);
    expect(space.vm.committedAs).toBe(committedAs + 2);
    space.touch(2);
    protect(2, 2, PROT_NONE);
    expect(space.vm.committedAs).toBe(committedAs + 2);
    validateVm(space.vm);
  });

  test('is refused as a whole', () => {
    const pages = space.vm.pages.totalramPages + 1;
    space.fixed(0, pages, PROT_READ);
    expect(protect(0, pages, RW)).toBe(-Errno.ENOMEM);
    expect(protect(0, pages - 1, RW)).toBe(0);
    space.fixed(0, pages, PROT_READ, ANON | MAP_NORESERVE);
    expect(protect(0, pages, RW)).toBe(0);
    validateVm(space.vm);
  });

  test('the data limit holds what becomes data', () => {
    space.fixed(0, 4, PROT_READ);
    space.limits.soft.set(RLIMIT_DATA, (space.mm.dataVm + 2) * PAGE_SIZE);
    expect(protect(0, 3, RW)).toBe(-Errno.ENOMEM);
    expect(protect(0, 2, RW)).toBe(0);
    expect(protect(0, 2, PROT_WRITE)).toBe(0);
    expect(space.mm.dataVm * PAGE_SIZE).toBe(space.limits.soft.get(RLIMIT_DATA));
  });
});

test('rights that a mapping can never have are refused midway', () => {
  space.fixed(0, 1, PROT_READ);
  space.fixed(1, 1, PROT_READ, MAP_SHARED | MAP_ANONYMOUS);
  space.fixed(2, 1, PROT_READ);
  space.mm.vmas.get(space.at(1))!.flags &= ~0x28;
  space.mm.vmas.get(space.at(1))!.file!.inode.mapping.mmapWritable--;
  expect(protect(0, 3, RW)).toBe(-Errno.EACCES);
  expect(space.list()).toEqual(['0..1 rw-p', '1..2 r--s', '2..3 r--p']);
});

test('locked memory that becomes writable gets pages of its own at once', () => {
  space.fixed(0, 4, PROT_READ, ANON | MAP_LOCKED);
  expect(space.mm.rss[MM_ANONPAGES]).toBe(0);
  protect(1, 2, RW);
  expect(space.mm.rss[MM_ANONPAGES]).toBe(2);
  validateVm(space.vm);
});
