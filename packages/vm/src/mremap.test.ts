import {
  Errno,
  MAP_ANONYMOUS,
  MAP_LOCKED,
  MAP_SHARED,
  MREMAP_DONTUNMAP,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PAGE_SIZE,
  PROT_READ,
  RLIMIT_AS,
  RLIMIT_MEMLOCK,
  TASK_SIZE,
} from '@pagelab/abi';
import { beforeEach, describe, expect, test } from 'vitest';
import { MM_ANONPAGES } from './mm-struct.ts';
import { doMremap } from './mremap.ts';
import { ANON, RW, TestSpace } from './testing/test-space.ts';
import { validateVm } from './validate.ts';

const MOVE = MREMAP_MAYMOVE;
const FIXED = MREMAP_MAYMOVE | MREMAP_FIXED;
const KEEP = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
const SHARED = MAP_SHARED | MAP_ANONYMOUS;

let space: TestSpace;

beforeEach(() => {
  space = new TestSpace();
});

/** In pages of the window; returns the page it is at afterwards, or −errno. */
function remap(page: number, oldPages: number, newPages: number, flags = 0, to = 0): number {
  const result = doMremap(space.mm, space.at(page), oldPages * PAGE_SIZE, newPages * PAGE_SIZE, flags, space.at(to));
  validateVm(space.vm);
  return result < 0 ? result : (result - space.base) / PAGE_SIZE;
}

describe('refusals', () => {
  const { EINVAL, EFAULT, ENOMEM } = Errno;
  test.each<[string, number, number, number, number, number]>([
    ['unknown flags', 0, 1, 1, 8, EINVAL],
    ['no new size', 0, 1, 0, MOVE, EINVAL],
    ['FIXED without MAYMOVE', 0, 1, 1, MREMAP_FIXED, EINVAL],
    ['DONTUNMAP without MAYMOVE', 0, 1, 1, MREMAP_DONTUNMAP, EINVAL],
    ['DONTUNMAP that resizes', 0, 1, 2, KEEP, EINVAL],
    ['larger than the address space', 0, 1, TASK_SIZE / PAGE_SIZE + 1, MOVE, EINVAL],
    ['nothing mapped', 10, 1, 2, MOVE, EFAULT],
    ['over the end of the mapping', 2, 3, 4, MOVE, EFAULT],
    ['no old size, for private memory', 0, 0, 1, MOVE, EINVAL],
    ['no room, and no leave to move', 0, 2, 5, 0, ENOMEM],
  ])('%s', (_, page, oldPages, newPages, flags, errno) => {
    space.fixed(0, 4);
    expect(remap(page, oldPages, newPages, flags, 100)).toBe(-errno);
    expect(space.list()).toEqual(['0..4 rw-p']);
  });

  test('overlap, misaligned and far addresses', () => {
    space.fixed(4, 4);
    const call = (addr: number, length: number, to: number): number =>
      doMremap(space.mm, addr, length, 4 * PAGE_SIZE, FIXED, to);
    for (const to of [1, 4, 6, 7]) expect(call(space.at(4), 4 * PAGE_SIZE, space.at(to))).toBe(-Errno.EINVAL);
    expect(call(space.at(4) + 1, 4 * PAGE_SIZE, space.at(20))).toBe(-Errno.EINVAL);
    expect(call(space.at(4), 4 * PAGE_SIZE, space.at(20) + 1)).toBe(-Errno.EINVAL);
    expect(call(space.at(4), 4 * PAGE_SIZE, TASK_SIZE)).toBe(-Errno.EINVAL);
    expect(call(space.at(4), 4 * PAGE_SIZE, -PAGE_SIZE)).toBe(-Errno.EINVAL);
    // An old end that wraps below the new start is no overlap.
    expect(call(space.at(9), -PAGE_SIZE, space.at(20))).toBe(-Errno.EFAULT);
  });
});

describe('in place', () => {
  test('shrinks, over other mappings too', () => {
    space.fixed(0, 2);
    space.fixed(2, 2, PROT_READ);
    expect(remap(0, 4, 1)).toBe(0);
    expect(space.list()).toEqual(['0..1 rw-p']);
  });

  test('grows where there is room, up to the next mapping and into one with it', () => {
    space.fixed(0, 2);
    space.fixed(4, 2);
    space.touch(0, 2);
    expect(remap(0, 2, 3)).toBe(0);
    expect(space.list()).toEqual(['0..3 rw-p', '4..6 rw-p']);
    expect(remap(2, 1, 2)).toBe(2);
    expect(space.list()).toEqual(['0..6 rw-p']);
    expect(remap(5, 1, 3, MOVE)).toBe(5);
    expect(space.list()).toEqual(['0..8 rw-p']);
  });

  test('limits', () => {
    space.limits.privileged = false;
    space.fixed(0, 2, RW, ANON | MAP_LOCKED);
    space.limits.soft.set(RLIMIT_MEMLOCK, 3 * PAGE_SIZE);
    expect(remap(0, 2, 4)).toBe(-Errno.EAGAIN);
    space.limits.soft.set(RLIMIT_AS, space.mm.totalVm * PAGE_SIZE);
    expect(remap(0, 2, 3)).toBe(-Errno.ENOMEM);
    space.limits.soft.delete(RLIMIT_AS);
    expect(remap(0, 2, 3)).toBe(0);
    expect(space.mm.lockedVm).toBe(3);
    expect(space.mm.rss[MM_ANONPAGES]).toBe(3);
  });
});

describe('moves', () => {
  test('with the pages, without a fault', () => {
    space.fixed(0, 5);
    space.touch(0, 5, 7);
    const faults = space.mm.minFlt;
    expect(remap(2, 1, 1, FIXED, 20)).toBe(20);
    expect(space.list()).toEqual(['0..2 rw-p', '3..5 rw-p', '20..21 rw-p']);
    expect(space.memory().load8(space.at(20))).toBe(7);
    expect(remap(20, 1, 1, FIXED, 2)).toBe(2);
    expect(space.list()).toEqual(['0..5 rw-p']);
    expect(space.memory().load8(space.at(2))).toBe(7);
    expect(space.mm.minFlt).toBe(faults);
    expect(space.vm.committedAs).toBe(new TestSpace().vm.committedAs + 5);
  });

  test('to where there is room, and over what is there', () => {
    space.fixed(0, 2);
    space.fixed(2, 2, PROT_READ);
    space.touch(0, 2, 5);
    const moved = doMremap(space.mm, space.at(0), 2 * PAGE_SIZE, 4 * PAGE_SIZE, MOVE, 0);
    expect(moved).toBeGreaterThan(space.at(4));
    expect(space.memory().load8(moved + PAGE_SIZE)).toBe(5);
    expect(doMremap(space.mm, moved, 4 * PAGE_SIZE, 2 * PAGE_SIZE, FIXED, space.at(1))).toBe(space.at(1));
    expect(space.list()).toEqual(['1..3 rw-p', '3..4 r--p']);
    expect(space.memory().load8(space.at(2))).toBe(5);
    validateVm(space.vm);
  });

  test('all mappings of a range and the holes between, where the size stays', () => {
    space.fixed(0, 2);
    space.touch(0, 2, 5);
    space.fixed(3, 1, PROT_READ);
    space.fixed(5, 2);
    expect(remap(0, 6, 6, FIXED, 20)).toBe(20);
    expect(space.list()).toEqual(['6..7 rw-p', '20..22 rw-p', '23..24 r--p', '25..26 rw-p']);
    expect(remap(19, 4, 4, FIXED, 40)).toBe(-Errno.EFAULT);
    expect(remap(20, 4, 5, FIXED, 40)).toBe(-Errno.EFAULT);
    expect(space.list()).toEqual(['6..7 rw-p', '20..22 rw-p', '23..24 r--p', '25..26 rw-p']);
  });

  test('what was never touched merges at the new place', () => {
    space.fixed(0, 2);
    space.fixed(8, 2);
    expect(remap(8, 2, 2, FIXED, 2)).toBe(2);
    expect(space.list()).toEqual(['0..4 rw-p']);
    expect(remap(0, 2, 2, FIXED, 4)).toBe(4);
    expect(space.list()).toEqual(['2..6 rw-p']);
  });

  test('inherited pages do not merge with memory that has none', () => {
    space.fixed(0, 2);
    space.touch(0, 2);
    const child = space.fork();
    child.fixed(10, 2);
    const move = (of: TestSpace): number =>
      doMremap(of.mm, of.at(0), 2 * PAGE_SIZE, 2 * PAGE_SIZE, FIXED, of.at(8));
    move(child);
    expect(child.list()).toEqual(['8..10 rw-p', '10..12 rw-p']);
    validateVm(space.vm);
  });
});

describe('two places', () => {
  test('DONTUNMAP leaves an empty mapping', () => {
    space.fixed(0, 2, RW, ANON | MAP_LOCKED);
    space.touch(0, 2, 7);
    const moved = doMremap(space.mm, space.at(0), 2 * PAGE_SIZE, 2 * PAGE_SIZE, KEEP, 0);
    expect(space.memory().load8(moved)).toBe(7);
    expect(space.flags(0)).not.toContain('lo');
    expect(space.mm.lockedVm).toBe(2);
    expect(space.memory().load8(space.at(0))).toBe(0);
    validateVm(space.vm);
  });

  test('an old size of 0 shows shared memory twice', () => {
    space.fixed(0, 2, RW, SHARED);
    space.touch(0, 2, 7);
    expect(remap(0, 0, 2)).toBe(-Errno.ENOMEM);
    expect(remap(0, 0, 2, FIXED, 10)).toBe(10);
    expect(space.list()).toEqual(['0..2 rw-s', '10..12 rw-s']);
    const memory = space.memory();
    memory.store8(space.at(11), 9);
    expect(memory.load8(space.at(1))).toBe(9);
  });
});
