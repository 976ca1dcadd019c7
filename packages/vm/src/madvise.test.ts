import {
  Errno,
  MADV_COLD,
  MADV_DODUMP,
  MADV_DOFORK,
  MADV_DONTDUMP,
  MADV_DONTFORK,
  MADV_DONTNEED,
  MADV_DONTNEED_LOCKED,
  MADV_FREE,
  MADV_GUARD_INSTALL,
  MADV_GUARD_REMOVE,
  MADV_HUGEPAGE,
  MADV_HWPOISON,
  MADV_KEEPONFORK,
  MADV_MERGEABLE,
  MADV_NOHUGEPAGE,
  MADV_NORMAL,
  MADV_PAGEOUT,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_RANDOM,
  MADV_REMOVE,
  MADV_SEQUENTIAL,
  MADV_WILLNEED,
  MADV_WIPEONFORK,
  MAP_ANONYMOUS,
  MAP_LOCKED,
  MAP_SHARED,
  MS_ASYNC,
  MS_INVALIDATE,
  MS_SYNC,
  PAGE_SIZE,
  PROT_NONE,
  PROT_READ,
} from '@pagelab/abi';
import { beforeEach, describe, expect, test } from 'vitest';
import { doMadvise } from './madvise.ts';
import { doMincore } from './mincore.ts';
import { MM_ANONPAGES, MM_SHMEMPAGES } from './mm-struct.ts';
import { doMprotect } from './mprotect.ts';
import { doMsync } from './msync.ts';
import { FAULT_MAPERR } from './fault-flags.ts';
import { ANON, RW, TestSpace } from './testing/test-space.ts';
import { validateVm } from './validate.ts';

const SHARED = MAP_SHARED | MAP_ANONYMOUS;

let space: TestSpace;

beforeEach(() => {
  space = new TestSpace();
});

function advise(page: number, pages: number, advice: number): number {
  const result = doMadvise(space.mm, space.at(page), pages * PAGE_SIZE, advice);
  validateVm(space.vm);
  return result;
}

/** One digit a page, as `mincore` tells. */
function resident(page: number, pages: number): string {
  const answer = doMincore(space.mm, space.at(page), pages * PAGE_SIZE);
  return typeof answer === 'number' ? String(answer) : answer.join('');
}

describe('arguments', () => {
  test('are looked at before the range', () => {
    space.fixed(0, 1);
    expect(advise(0, 1, 1234)).toBe(-Errno.EINVAL);
    expect(advise(0, 0, MADV_HWPOISON)).toBe(0);
    expect(advise(10, 0, MADV_NORMAL)).toBe(0);
    expect(doMadvise(space.mm, space.at(0) + 1, 0, MADV_NORMAL)).toBe(-Errno.EINVAL);
    expect(doMadvise(space.mm, space.at(0), -1, MADV_DONTNEED)).toBe(-Errno.EINVAL);
    expect(doMadvise(space.mm, space.at(0), -PAGE_SIZE, MADV_DONTNEED)).toBe(-Errno.EINVAL);
    expect(doMadvise(space.mm, -PAGE_SIZE, 1, MADV_DONTNEED)).toBe(-Errno.EINVAL);
    expect(doMadvise(space.mm, -(2 ** 40), 1, MADV_DONTNEED)).toBe(-Errno.ENOMEM);
  });

  test('both sides of a hole are acted on, up to a refusal', () => {
    space.fixed(0, 2);
    space.fixed(4, 1);
    space.fixed(5, 1, RW, ANON | MAP_LOCKED);
    space.fixed(6, 1);
    space.touch(0, 2);
    space.touch(4, 3);
    expect(advise(0, 5, MADV_DONTNEED)).toBe(-Errno.ENOMEM);
    expect(resident(0, 2) + resident(4, 3)).toBe('00011');
    space.touch(0, 2);
    space.touch(4);
    expect(advise(0, 7, MADV_DONTNEED)).toBe(-Errno.EINVAL);
    expect(resident(0, 2) + resident(4, 3)).toBe('00011');
  });
});

describe('flags', () => {
  test.each<[string, number, string[], number, string[]]>([
    ['pattern', MADV_SEQUENTIAL, ['sr'], MADV_RANDOM, ['rr']],
    ['pattern undone', MADV_RANDOM, ['rr'], MADV_NORMAL, []],
    ['fork', MADV_DONTFORK, ['dc'], MADV_DOFORK, []],
    ['dump', MADV_DONTDUMP, ['dd'], MADV_DODUMP, []],
    ['wipe', MADV_WIPEONFORK, ['wf'], MADV_KEEPONFORK, []],
    ['huge pages', MADV_HUGEPAGE, ['hg'], MADV_NOHUGEPAGE, ['nh']],
    ['merging', MADV_MERGEABLE, ['mg'], MADV_NORMAL, ['mg']],
  ])('%s', (_, first, afterFirst, second, afterSecond) => {
    space.fixed(0, 3);
    const plain = space.flags(0);
    const added = (): string[] => space.flags(1).filter((flag) => !plain.includes(flag));
    expect(advise(1, 1, first)).toBe(0);
    expect(added()).toEqual(afterFirst);
    expect(space.list()).toEqual(['0..1 rw-p', '1..2 rw-p', '2..3 rw-p']);
    expect(advise(1, 1, second)).toBe(0);
    expect(added()).toEqual(afterSecond);
    if (afterSecond.length === 0) expect(space.list()).toEqual(['0..3 rw-p']);
  });

  test('what does not suit the mapping', () => {
    space.fixed(0, 1, RW, SHARED);
    space.fixed(1, 1);
    expect(advise(0, 1, MADV_WIPEONFORK)).toBe(-Errno.EINVAL);
    expect(advise(0, 1, MADV_KEEPONFORK)).toBe(0);
    expect(advise(0, 1, MADV_MERGEABLE)).toBe(0);
    expect(space.flags(0)).not.toContain('mg');
    expect(advise(0, 1, MADV_FREE)).toBe(-Errno.EINVAL);
    expect(advise(1, 1, MADV_REMOVE)).toBe(-Errno.EINVAL);
    expect(doMadvise(space.mm, 0x7fff_f7ff_7000, PAGE_SIZE, MADV_DOFORK)).toBe(-Errno.EINVAL);
    expect(doMadvise(space.mm, 0x7fff_f7ff_7000, PAGE_SIZE, MADV_DONTNEED)).toBe(-Errno.EINVAL);
  });
});

describe('contents', () => {
  test('DONTNEED drops private pages, and lets go of shared ones', () => {
    space.fixed(0, 2);
    space.fixed(2, 2, RW, SHARED);
    space.touch(0, 4, 7);
    expect(advise(0, 4, MADV_DONTNEED)).toBe(0);
    expect(space.mm.rss[MM_ANONPAGES] + space.mm.rss[MM_SHMEMPAGES]).toBe(0);
    const memory = space.memory();
    expect([0, 2].map((page) => memory.load8(space.at(page)))).toEqual([0, 7]);
  });

  test('locked memory needs the variant for it', () => {
    space.fixed(0, 2, RW, ANON | MAP_LOCKED);
    for (const advice of [MADV_DONTNEED, MADV_FREE, MADV_COLD, MADV_PAGEOUT, MADV_GUARD_INSTALL]) {
      expect(advise(0, 2, advice)).toBe(-Errno.EINVAL);
    }
    expect(advise(0, 2, MADV_DONTNEED_LOCKED)).toBe(0);
    expect(resident(0, 2)).toBe('00');
    expect(space.mm.lockedVm).toBe(2);
  });

  test('REMOVE empties shared memory for all', () => {
    space.fixed(0, 3, RW, SHARED);
    space.touch(0, 3, 7);
    const child = space.fork();
    expect(advise(1, 1, MADV_REMOVE)).toBe(0);
    expect([0, 1, 2].map((page) => child.memory().load8(space.at(page)))).toEqual([7, 0, 7]);
  });

  test('POPULATE brings in up to a hole or a refusal', () => {
    space.fixed(0, 2);
    space.fixed(3, 1);
    expect(advise(0, 4, MADV_POPULATE_WRITE)).toBe(-Errno.ENOMEM);
    expect(resident(0, 2) + resident(3, 1)).toBe('110');
    doMprotect(space.mm, space.at(3), PAGE_SIZE, PROT_READ);
    expect(advise(3, 1, MADV_POPULATE_WRITE)).toBe(-Errno.EINVAL);
    expect(advise(3, 1, MADV_POPULATE_READ)).toBe(0);
    doMprotect(space.mm, space.at(3), PAGE_SIZE, PROT_NONE);
    expect(advise(3, 1, MADV_POPULATE_READ)).toBe(-Errno.EINVAL);
  });

  test('WILLNEED, COLD and PAGEOUT lose nothing', () => {
    space.fixed(0, 2);
    space.fixed(2, 2, RW, SHARED);
    space.touch(0, 4, 7);
    for (const advice of [MADV_WILLNEED, MADV_COLD, MADV_PAGEOUT]) expect(advise(0, 4, advice)).toBe(0);
    expect(resident(0, 4)).toBe('1111');
    expect([0, 1, 2, 3].map((page) => space.memory().load8(space.at(page)))).toEqual([7, 7, 7, 7]);
  });

  test('FREE lets PAGEOUT drop what was not stored to since', () => {
    space.fixed(0, 2);
    space.touch(0, 2, 7);
    advise(0, 2, MADV_FREE);
    space.touch(1, 1, 8);
    expect(space.mm.rss[MM_ANONPAGES]).toBe(2);
    advise(0, 2, MADV_PAGEOUT);
    expect([0, 1].map((page) => space.memory().load8(space.at(page)))).toEqual([0, 8]);
  });
});

describe('guard pages', () => {
  test('take the contents and fault, without a mapping of their own', () => {
    space.fixed(0, 5);
    space.touch(0, 5, 7);
    expect(advise(2, 1, MADV_GUARD_INSTALL)).toBe(0);
    expect(space.list()).toEqual(['0..5 rw-p']);
    expect(space.flags(0)).toContain('gu');
    expect(space.mm.rss[MM_ANONPAGES]).toBe(4);
    expect(() => space.memory().load8(space.at(2))).toThrow(expect.objectContaining({ fault: FAULT_MAPERR }));
    expect(advise(0, 5, MADV_DONTNEED)).toBe(0);
    expect(() => space.memory().load8(space.at(2))).toThrow();
    expect(advise(0, 5, MADV_GUARD_REMOVE)).toBe(0);
    expect(space.memory().load8(space.at(2))).toBe(0);
  });

  test('are inherited, of shared memory too', () => {
    space.fixed(0, 2);
    space.fixed(2, 2, RW, SHARED);
    advise(1, 2, MADV_GUARD_INSTALL);
    const child = space.fork();
    for (const page of [1, 2]) expect(() => child.memory().load8(space.at(page))).toThrow();
    doMadvise(child.mm, space.at(1), 2 * PAGE_SIZE, MADV_GUARD_REMOVE);
    expect(child.memory().load8(space.at(2))).toBe(0);
    expect(() => space.memory().load8(space.at(2))).toThrow();
    validateVm(space.vm);
  });

  test('the mark stays on what a marked part becomes part of', () => {
    space.fixed(0, 4);
    doMprotect(space.mm, space.at(0), 2 * PAGE_SIZE, PROT_READ);
    advise(0, 1, MADV_GUARD_INSTALL);
    expect(space.flags(3)).not.toContain('gu');
    doMprotect(space.mm, space.at(0), 2 * PAGE_SIZE, RW);
    expect(space.list()).toEqual(['0..4 rw-p']);
    expect(space.flags(3)).toContain('gu');
  });
});

test('mincore stops at a hole, and counts shared pages that others touched', () => {
  space.fixed(0, 2, RW, SHARED);
  const child = space.fork();
  child.touch(1);
  expect(resident(0, 2)).toBe('01');
  expect(resident(0, 3)).toBe(String(-Errno.ENOMEM));
  expect(doMincore(space.mm, space.at(0) + 1, 0)).toBe(-Errno.EINVAL);
  expect(doMincore(space.mm, space.at(0), -1)).toBe(-Errno.ENOMEM);
  expect(doMincore(space.mm, space.at(50), 0)).toEqual(new Uint8Array(0));
});

describe('msync', () => {
  const sync = (page: number, pages: number, flags: number): number =>
    doMsync(space.mm, space.at(page), pages * PAGE_SIZE, flags);

  test('arguments', () => {
    space.fixed(0, 1, RW, SHARED);
    expect(sync(0, 1, MS_SYNC | MS_ASYNC)).toBe(-Errno.EINVAL);
    expect(sync(5, 0, 8)).toBe(-Errno.EINVAL);
    expect(sync(5, 0, MS_SYNC)).toBe(0);
    expect(doMsync(space.mm, space.at(0) + 1, 0, MS_SYNC)).toBe(-Errno.EINVAL);
    expect(doMsync(space.mm, space.at(0), -1, MS_SYNC)).toBe(0);
    expect(doMsync(space.mm, space.at(0), -PAGE_SIZE, MS_SYNC)).toBe(-Errno.ENOMEM);
    expect(sync(0, 1, 0)).toBe(0);
  });

  test('a hole is told after the rest, a locked mapping before', () => {
    space.fixed(0, 1, RW, SHARED);
    space.fixed(2, 1, RW, SHARED | MAP_LOCKED);
    expect(sync(0, 3, MS_SYNC)).toBe(-Errno.ENOMEM);
    expect(sync(0, 3, MS_INVALIDATE)).toBe(-Errno.EBUSY);
    expect(sync(0, 3, MS_ASYNC)).toBe(-Errno.ENOMEM);
    expect(sync(2, 1, MS_SYNC)).toBe(0);
  });
});
