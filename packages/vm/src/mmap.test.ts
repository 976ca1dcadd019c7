import {
  Errno,
  MAP_32BIT,
  MAP_ANONYMOUS,
  MAP_DROPPABLE,
  MAP_FIXED,
  MAP_FIXED_NOREPLACE,
  MAP_GROWSDOWN,
  MAP_HUGETLB,
  MAP_LOCKED,
  MAP_NORESERVE,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  MAP_SHARED_VALIDATE,
  MAP_STACK,
  PAGE_SIZE,
  PROT_EXEC,
  PROT_NONE,
  PROT_READ,
  RLIMIT_AS,
  RLIMIT_MEMLOCK,
  TASK_SIZE,
} from '@pagelab/abi';
import { beforeEach, describe, expect, test } from 'vitest';
import { MM_ANONPAGES, MM_SHMEMPAGES } from './mm-struct.ts';
import { doMmap } from './mmap.ts';
import { vmMunmap } from './munmap.ts';
import { filePut } from './open-file.ts';
import { shmemFileSetup } from './shmem.ts';
import { ANON, RW, TestSpace } from './testing/test-space.ts';
import { validateVm } from './validate.ts';

const HUGE = 2 ** 21;
const GIB = 2 ** 30;
const SHARED = MAP_SHARED | MAP_ANONYMOUS;

let space: TestSpace;

beforeEach(() => {
  space = new TestSpace();
});

describe('placement', () => {
  test('downwards from below the kernel pages, each touching the one before', () => {
    const first = space.mmap(0, PAGE_SIZE, PROT_READ);
    expect(first).toBe(0x7fff_f7ff_6000);
    expect(space.mmap(0, 2 * PAGE_SIZE, RW)).toBe(first - 2 * PAGE_SIZE);
    vmMunmap(space.mm, first, PAGE_SIZE);
    expect(space.mmap(0, PAGE_SIZE, PROT_NONE)).toBe(first);
  });

  test('the highest hole that is large enough', () => {
    const top = space.mmap(0, 8 * PAGE_SIZE);
    vmMunmap(space.mm, top + PAGE_SIZE, PAGE_SIZE);
    vmMunmap(space.mm, top + 4 * PAGE_SIZE, 2 * PAGE_SIZE);
    expect(space.mmap(0, 3 * PAGE_SIZE, PROT_READ)).toBe(top - 3 * PAGE_SIZE);
    expect(space.mmap(0, 2 * PAGE_SIZE, PROT_READ)).toBe(top + 4 * PAGE_SIZE);
    expect(space.mmap(0, PAGE_SIZE, PROT_READ)).toBe(top + PAGE_SIZE);
  });

  test('whole huge pages are aligned to them', () => {
    const top = space.mmap(0, PAGE_SIZE);
    const aligned = space.mmap(0, HUGE, PROT_READ);
    expect(aligned % HUGE).toBe(0);
    expect(top - aligned).toBeLessThan(2 * HUGE);
    expect(space.mmap(0, HUGE, PROT_READ, SHARED)).toBe(aligned - HUGE);
    expect(space.mmap(0, HUGE + PAGE_SIZE, RW)).toBe(aligned - 2 * HUGE - PAGE_SIZE);
  });

  test('upwards in the legacy layout', () => {
    const legacy = new TestSpace({ layout: { legacy: true } });
    const first = legacy.mmap(0, PAGE_SIZE, PROT_READ);
    // Behind the kernel pages, which came first.
    expect(first).toBe(0x2aaa_aaaa_b000 + 8 * PAGE_SIZE);
    expect(legacy.mmap(0, PAGE_SIZE, RW)).toBe(first + PAGE_SIZE);
  });

  test('a hint is taken where it is free, and rounded down', () => {
    expect(space.mmap(space.at(3) + 5, PAGE_SIZE)).toBe(space.at(3));
    expect(space.mmap(space.at(2), 2 * PAGE_SIZE)).not.toBe(space.at(2));
    expect(space.mmap(1, PAGE_SIZE)).toBeGreaterThan(4 * GIB);
    expect(space.mmap(-HUGE, PAGE_SIZE)).toBeGreaterThan(4 * GIB);
    expect(space.mmap(TASK_SIZE, PAGE_SIZE)).toBeGreaterThan(4 * GIB);
    expect(space.mmap(PAGE_SIZE, PAGE_SIZE)).toBe(space.vm.sysctl.mmapMinAddr);
  });

  test('clear of the guard gap below a growing mapping', () => {
    const stack = space.mmap(0, 2 * PAGE_SIZE, RW, ANON | MAP_GROWSDOWN);
    const gap = space.vm.sysctl.stackGuardGap * PAGE_SIZE;
    expect(space.mmap(0, PAGE_SIZE)).toBe(stack - gap - PAGE_SIZE);
    expect(space.mmap(stack - gap, PAGE_SIZE)).not.toBe(stack - gap);
    expect(space.mmap(stack - gap, PAGE_SIZE, RW, ANON | MAP_FIXED_NOREPLACE)).toBe(stack - gap);
  });

  test('below 2 GiB with 32BIT, whatever the hint, upwards from 1 GiB', () => {
    expect(space.mmap(space.at(0), PAGE_SIZE, RW, ANON | MAP_32BIT)).toBe(GIB);
    expect(space.mmap(0, PAGE_SIZE, PROT_READ, ANON | MAP_32BIT)).toBe(GIB + PAGE_SIZE);
    expect(space.mmap(0, 2 * GIB, PROT_NONE, ANON | MAP_32BIT)).toBe(-Errno.ENOMEM);
  });

  test('fixed, over what is there', () => {
    space.fixed(0, 5);
    space.touch(0, 5, 7);
    expect(space.fixed(2, 1, PROT_READ)).toBe(space.at(2));
    expect(space.list()).toEqual(['0..2 rw-p', '2..3 r--p', '3..5 rw-p']);
    expect(space.memory().load8(space.at(2))).toBe(0);
    expect(space.memory().load8(space.at(4))).toBe(7);
    expect(space.fixed(2, 1)).toBe(space.at(2));
    expect(space.list()).toEqual(['0..5 rw-p']);
    expect(space.mm.rss[MM_ANONPAGES]).toBe(4);
    validateVm(space.vm);
  });
});

describe('refusals, in Linux’s order', () => {
  const { EINVAL, ENOMEM, EPERM, EEXIST, EAGAIN } = Errno;
  test.each([
    ['no length', 0, 0, ANON, EINVAL],
    ['a length that wraps', 0, -1, ANON, ENOMEM],
    ['a length that wraps comes before the type', 0, -PAGE_SIZE, MAP_ANONYMOUS, ENOMEM],
    ['longer than the address space', 0, TASK_SIZE + 1, ANON, ENOMEM],
    ['no type', 0, PAGE_SIZE, MAP_ANONYMOUS, EINVAL],
    ['SHARED_VALIDATE of anonymous memory', 0, PAGE_SIZE, MAP_ANONYMOUS | MAP_SHARED_VALIDATE, EINVAL],
    ['shared memory that grows', 0, PAGE_SIZE, SHARED | MAP_GROWSDOWN, EINVAL],
    ['droppable and locked', 0, PAGE_SIZE, MAP_DROPPABLE | MAP_ANONYMOUS | MAP_LOCKED, EINVAL],
    ['huge pages, of which there are none', 0, HUGE, ANON | MAP_HUGETLB, ENOMEM],
    ['huge pages of no such size', 0, HUGE, ANON | MAP_HUGETLB | (12 << 26), EINVAL],
    ['fixed beyond the end', TASK_SIZE, PAGE_SIZE, ANON | MAP_FIXED, ENOMEM],
    ['fixed beyond the end comes before misaligned', TASK_SIZE + 1, PAGE_SIZE, ANON | MAP_FIXED, ENOMEM],
    ['fixed in the kernel half', -PAGE_SIZE, PAGE_SIZE, ANON | MAP_FIXED, ENOMEM],
    ['fixed and misaligned', 0x5000_0000_0001, PAGE_SIZE, ANON | MAP_FIXED, EINVAL],
    ['NOREPLACE over the program', 0x40_0000, PAGE_SIZE, ANON | MAP_FIXED_NOREPLACE, EEXIST],
  ])('%s', (_, addr, length, flags, errno) => {
    expect(space.mmap(addr, length, RW, flags)).toBe(-errno);
    validateVm(space.vm);
  });

  test('without privilege: low addresses and locked memory', () => {
    space.limits.privileged = false;
    expect(space.mmap(0, PAGE_SIZE, RW, ANON | MAP_FIXED)).toBe(-EPERM);
    space.limits.soft.set(RLIMIT_MEMLOCK, 2 * PAGE_SIZE);
    expect(space.mmap(0, 3 * PAGE_SIZE, RW, ANON | MAP_LOCKED)).toBe(-EAGAIN);
    space.limits.soft.set(RLIMIT_MEMLOCK, 0);
    expect(space.mmap(0, PAGE_SIZE, RW, ANON | MAP_LOCKED)).toBe(-EPERM);
  });

  test('RLIMIT_AS counts all but what is replaced', () => {
    space.fixed(0, 2);
    space.limits.soft.set(RLIMIT_AS, (space.mm.totalVm + 1) * PAGE_SIZE + 5);
    expect(space.fixed(0, 4)).toBe(-ENOMEM);
    expect(space.fixed(0, 3, PROT_NONE)).toBe(space.at(0));
    expect(space.mmap(0, PAGE_SIZE)).toBe(-ENOMEM);
    validateVm(space.vm);
  });

  test('the limit of mappings lets one in when it is just reached', () => {
    space.vm.sysctl.maxMapCount = space.mm.mapCount + 1;
    expect(space.fixed(0, 1, PROT_READ)).toBe(space.at(0));
    expect(space.fixed(2, 1, PROT_READ)).toBe(space.at(2));
    expect(space.fixed(4, 1, PROT_READ)).toBe(-ENOMEM);
  });
});

describe('flags', () => {
  test.each<[string, number, number, string]>([
    ['private', RW, ANON, 'rd wr mr mw me ac'],
    ['read-only', PROT_READ, ANON, 'rd mr mw me'],
    ['executable', PROT_EXEC, ANON, 'ex mr mw me'],
    ['shared', RW, SHARED, 'rd wr sh mr mw me ms'],
    ['growing', RW, ANON | MAP_GROWSDOWN, 'rd wr mr mw me gd ac'],
    ['stack', RW, ANON | MAP_STACK, 'rd wr mr mw me ac nh'],
    ['not reserved', RW, ANON | MAP_NORESERVE, 'rd wr mr mw me nr'],
    ['locked', RW, ANON | MAP_LOCKED, 'rd wr mr mw me lo ac'],
    ['droppable', RW, MAP_DROPPABLE | MAP_ANONYMOUS, 'rd wr mr mw me nr wf dd dp'],
  ])('%s', (_, prot, flags, names) => {
    space.fixed(0, 1, prot, flags);
    expect(space.flags(0).join(' ')).toBe(names);
    validateVm(space.vm);
  });

  test('POPULATE and LOCKED bring pages in', () => {
    space.fixed(0, 4, RW, ANON | MAP_POPULATE);
    expect(space.mm.rss[MM_ANONPAGES]).toBe(4);
    space.fixed(8, 4, PROT_NONE, ANON | MAP_LOCKED);
    expect(space.mm.lockedVm).toBe(4);
    space.fixed(16, 4, RW, SHARED | MAP_LOCKED);
    expect(space.mm.rss[MM_SHMEMPAGES]).toBe(4);
    expect(space.mm.lockedVm).toBe(8);
    validateVm(space.vm);
  });

  test('shared memory is an object of its own each time', () => {
    space.fixed(0, 2, RW, SHARED);
    space.fixed(2, 2, RW, SHARED);
    expect(space.list()).toEqual(['0..2 rw-s', '2..4 rw-s']);
    const [first, second] = [0, 2].map((page) => space.mm.vmas.get(space.at(page))!.file!);
    expect(first.path).toBe('/dev/zero (deleted)');
    expect(first.inode === second.inode).toBe(false);
    validateVm(space.vm);
  });
});

test('a private file mapping needs a readable file, a shared writable one a writable file', () => {
  const made = shmemFileSetup(space.vm, '/tmp/file', 3 * PAGE_SIZE, false);
  if (typeof made === 'number') throw new Error('no file');
  const map = (file: typeof made, prot: number, flags: number, pgoff = 0): number =>
    doMmap(space.mm, { file, addr: 0, length: PAGE_SIZE, prot, flags, pgoff });
  const readOnly = { ...made, writable: false, refcount: 1 };
  expect(map(readOnly, RW, MAP_SHARED)).toBe(-Errno.EACCES);
  expect(map({ ...made, readable: false }, RW, MAP_PRIVATE)).toBe(-Errno.EACCES);
  expect(map(made, RW, MAP_PRIVATE | MAP_GROWSDOWN)).toBe(-Errno.EINVAL);
  expect(map(made, RW, 0)).toBe(-Errno.EINVAL);
  expect(map(made, RW, MAP_SHARED_VALIDATE | 0x80_0000)).toBe(-Errno.EOPNOTSUPP);
  expect(map(made, PROT_READ, MAP_SHARED, 2 ** 51 - 1)).toBe(-Errno.EOVERFLOW);
  const shared = map(made, RW, MAP_SHARED, 1);
  const vma = space.mm.vmas.get(shared)!;
  expect([vma.pgoff, vma.file === made]).toEqual([1, true]);
  expect(made.inode.mapping.mmapWritable).toBe(1);
  expect(map(made, PROT_READ, MAP_PRIVATE, 2)).toBeGreaterThan(0);
  filePut(space.vm, made);
  vmMunmap(space.mm, 0, TASK_SIZE);
  expect(made.refcount).toBe(0);
  validateVm(space.vm);
});
