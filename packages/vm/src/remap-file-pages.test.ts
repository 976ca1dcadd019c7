import { Errno, MAP_ANONYMOUS, MAP_SHARED, PAGE_SIZE } from '@pagelab/abi';
import { expect, test } from 'vitest';
import { doRemapFilePages } from './remap-file-pages.ts';
import { RW, TestSpace } from './testing/test-space.ts';
import { validateVm } from './validate.ts';

test('pages of a file change places within their mapping', () => {
  const space = new TestSpace();
  const memory = space.memory();
  space.fixed(0, 4, RW, MAP_SHARED | MAP_ANONYMOUS);
  for (let page = 0; page < 4; page++) memory.store8(space.at(page), page + 1);
  const remap = (page: number, pages: number, pgoff: number, prot = 0): number =>
    doRemapFilePages(space.mm, space.at(page), pages * PAGE_SIZE, prot, pgoff, 0);
  expect(remap(0, 1, 3)).toBe(0);
  expect(remap(3, 1, 0)).toBe(0);
  expect([0, 1, 2, 3].map((page) => memory.load8(space.at(page)))).toEqual([4, 2, 3, 1]);
  expect(space.list()).toEqual(['0..1 rw-s', '1..3 rw-s', '3..4 rw-s']);
  expect(remap(0, 4, 0)).toBe(0);
  expect(space.list()).toEqual(['0..4 rw-s']);
  expect([0, 1, 2, 3].map((page) => memory.load8(space.at(page)))).toEqual([1, 2, 3, 4]);

  expect(remap(0, 1, 1, RW)).toBe(-Errno.EINVAL);
  expect(remap(0, 0.5, 1)).toBe(-Errno.EINVAL);
  expect(remap(0, 5, 0)).toBe(-Errno.EINVAL);
  space.fixed(8, 1);
  expect(remap(8, 1, 0)).toBe(-Errno.EINVAL);
  validateVm(space.vm);
});
