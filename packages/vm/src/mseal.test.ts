import {
  Errno,
  MADV_DONTFORK,
  MADV_DONTNEED,
  MADV_DONTNEED_LOCKED,
  MADV_FREE,
  MADV_GUARD_INSTALL,
  MADV_GUARD_REMOVE,
  MADV_PAGEOUT,
  MADV_REMOVE,
  MADV_WIPEONFORK,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
} from '@pagelab/abi';
import { expect, test } from 'vitest';
import { doMadvise } from './madvise.ts';
import { mapsLines, vmFlagsNames } from './maps.ts';
import { doMmap } from './mmap.ts';
import type { MmStruct } from './mm-struct.ts';
import { dupMm, exitMmap } from './mm-lifetime.ts';
import { doMprotect } from './mprotect.ts';
import { doMremap } from './mremap.ts';
import { doMseal } from './mseal.ts';
import { vmMunmap } from './munmap.ts';
import { testMm, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';

const P = PAGE_SIZE;
const RW = PROT_READ | PROT_WRITE;
const BASE = 0x100_0000_0000;

function map(mm: MmStruct, page: number, pages: number, prot = RW, type = MAP_PRIVATE): number {
  const flags = type | MAP_ANONYMOUS | MAP_FIXED;
  return doMmap(mm, { file: null, addr: BASE + page * P, length: pages * P, prot, flags, pgoff: 0 });
}

function ranges(mm: MmStruct): string[] {
  return mapsLines(mm).map(({ start, end, perms }) => `${(start - BASE) / P}..${(end - BASE) / P} ${perms}`);
}

// What follows was observed on Linux 6.18.

test('arguments are looked at first, and nothing is sealed where there is a hole', () => {
  const mm = testMm(testVm());
  map(mm, 0, 4);
  expect(doMseal(mm, BASE, P, 1)).toBe(-Errno.EINVAL);
  expect(doMseal(mm, BASE + 1, P, 0)).toBe(-Errno.EINVAL);
  expect(doMseal(mm, 0, 0, 0)).toBe(0);
  expect(doMseal(mm, BASE, -1, 0)).toBe(-Errno.EINVAL);
  expect(doMseal(mm, BASE, -P, 0)).toBe(-Errno.EINVAL);
  expect(doMseal(mm, -0x7780_0000_0000, P, 0)).toBe(-Errno.ENOMEM);
  expect(doMseal(mm, BASE + 3 * P, 2 * P, 0)).toBe(-Errno.ENOMEM);
  expect(ranges(mm)).toEqual(['0..4 rw-p']);
  expect(doMseal(mm, BASE + P, P + 1, 0)).toBe(0);
  expect(ranges(mm)).toEqual(['0..1 rw-p', '1..3 rw-p', '3..4 rw-p']);
  expect(doMseal(mm, BASE, 4 * P, 0)).toBe(0);
  expect(ranges(mm)).toEqual(['0..4 rw-p']);
  expect(vmFlagsNames(mm.vmas.get(BASE)!)).toContain('sl');
  exitMmap(mm);
});

test('what is sealed is not unmapped, replaced, reprotected, resized or moved', () => {
  const { vm } = testMm(testVm());
  const mm = testMm(vm);
  map(mm, 0, 4);
  doMseal(mm, BASE + P, 2 * P, 0);
  const before = ranges(mm);
  expect(vmMunmap(mm, BASE, 4 * P)).toBe(-Errno.EPERM);
  expect(vmMunmap(mm, BASE, 2 * P)).toBe(-Errno.EPERM);
  expect(vmMunmap(mm, BASE + 2 * P, P)).toBe(-Errno.EPERM);
  expect(map(mm, 0, 3)).toBe(-Errno.EPERM);
  for (const [old, fresh] of [[2, 4], [2, 2], [2, 1], [0, 1], [8, 9]] as const) {
    expect(doMremap(mm, BASE + P, old * P, fresh * P, MREMAP_MAYMOVE, 0)).toBe(-Errno.EPERM);
  }
  expect(doMremap(mm, BASE + P, P, P, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + 20 * P)).toBe(-Errno.EPERM);
  expect(doMremap(mm, BASE + P, P, 0, MREMAP_MAYMOVE, 0)).toBe(-Errno.EINVAL);
  map(mm, 30, 2);
  expect(doMremap(mm, BASE + 30 * P, 2 * P, 2 * P, MREMAP_MAYMOVE | MREMAP_FIXED, BASE)).toBe(-Errno.EPERM);
  vmMunmap(mm, BASE + 30 * P, 2 * P);
  expect(doMprotect(mm, BASE + P, P, RW)).toBe(-Errno.EPERM);
  expect(ranges(mm)).toEqual(before);
  // Up to what is sealed the change is made.
  expect(doMprotect(mm, BASE, 3 * P, PROT_READ)).toBe(-Errno.EPERM);
  expect(ranges(mm)).toEqual(['0..1 r--p', '1..3 rw-p', '3..4 rw-p']);
  expect(vmMunmap(mm, BASE + 3 * P, P)).toBe(0);
  const child = dupMm(mm, mm.limits);
  if (typeof child === 'number') throw new Error(String(child));
  expect(vmMunmap(child, BASE + P, P)).toBe(-Errno.EPERM);
  exitMmap(child);
  validateVm(vm);
  exitMmap(mm);
  validateVm(vm);
});

test('what is only in a sealed mapping, and cannot be written, cannot be thrown away', () => {
  const mm = testMm(testVm());
  const discards = [MADV_DONTNEED, MADV_FREE, MADV_DONTFORK, MADV_WIPEONFORK, MADV_DONTNEED_LOCKED, MADV_GUARD_INSTALL, MADV_REMOVE];
  map(mm, 0, 1, PROT_READ);
  map(mm, 1, 1, RW);
  map(mm, 2, 1, PROT_READ, MAP_SHARED);
  doMseal(mm, BASE, 3 * P, 0);
  for (const advice of discards) expect(doMadvise(mm, BASE, P, advice)).toBe(-Errno.EPERM);
  expect(doMadvise(mm, BASE, P, MADV_PAGEOUT)).toBe(0);
  expect(doMadvise(mm, BASE, P, MADV_GUARD_REMOVE)).toBe(0);
  for (const advice of [MADV_DONTNEED, MADV_FREE, MADV_GUARD_INSTALL]) expect(doMadvise(mm, BASE + P, P, advice)).toBe(0);
  for (const advice of [MADV_DONTNEED, MADV_DONTFORK]) expect(doMadvise(mm, BASE + 2 * P, P, advice)).toBe(0);
  exitMmap(mm);
});
