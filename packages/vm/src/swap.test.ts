import { MADV_COLD, MADV_FREE, MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import {
  LRU_ACTIVE_ANON,
  LRU_INACTIVE_ANON,
  LRU_INACTIVE_FILE,
  LRU_UNEVICTABLE,
  PG_ACTIVE,
  PG_LRU,
  PG_LRU_WAITS,
  VM_EVENT,
} from '@pagelab/mm-core';
import { beforeEach, expect, test } from 'vitest';
import { doMadvise } from './madvise.ts';
import { doMlock, doMunlock } from './mlock.ts';
import type { MmStruct } from './mm-struct.ts';
import { doMmap } from './mmap.ts';
import { vmMunmap } from './munmap.ts';
import { pageState } from './page-walk.ts';
import { PAGEVEC_SIZE, folioMarkAccessed, isolateLru, lruAddDrain, lruAddDrainAll, putbackLru } from './swap.ts';
import { attachUser, testMm, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';

let vm: Vm;
let mm: MmStruct;

beforeEach(() => {
  vm = testVm();
  mm = testMm(vm);
});

const sizes = (): number[] => [0, 1, 2, 3, 4].map((lru) => vm.pages.lru.size(0, lru));

function touch(nrPages: number): number {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS;
  const addr = doMmap(mm, { file: null, addr: 0, length: nrPages * PAGE_SIZE, prot: PROT_READ | PROT_WRITE, flags, pgoff: 0 });
  const { memory } = attachUser(mm);
  for (let i = 0; i < nrPages; i++) memory.store8(addr + i * PAGE_SIZE, 1);
  return addr;
}

const pfnAt = (addr: number): number => pageState(mm, addr).pfn;

test('new pages are put on in batches', () => {
  const addr = touch(PAGEVEC_SIZE + 3);
  expect(vm.pages.lru.size(0, LRU_INACTIVE_ANON)).toBe(PAGEVEC_SIZE);
  const last = pfnAt(addr + (PAGEVEC_SIZE + 2) * PAGE_SIZE);
  expect(vm.frames.flags[last] & (PG_LRU | PG_LRU_WAITS)).toBe(PG_LRU_WAITS);
  expect(isolateLru(vm, last)).toBe(false);
  validateVm(vm);
  lruAddDrainAll(vm);
  expect(vm.pages.lru.size(0, LRU_INACTIVE_ANON)).toBe(PAGEVEC_SIZE + 3);
  expect(vm.frames.lists.first(vm.pages.lru.lruvecs[0].heads + LRU_INACTIVE_ANON)).toBe(last);
  validateVm(vm);
});

test('pages that are freed leave lists and batches', () => {
  const addr = touch(PAGEVEC_SIZE + 3);
  vmMunmap(mm, addr, (PAGEVEC_SIZE + 3) * PAGE_SIZE);
  expect(sizes()).toEqual([0, 0, 0, 0, 0]);
  validateVm(vm);
});

test('the second use activates, advice takes back', () => {
  const addr = touch(2);
  lruAddDrain(vm);
  const pfn = pfnAt(addr);
  folioMarkAccessed(vm, pfn);
  folioMarkAccessed(vm, pfn);
  // It waits to be moved, and is counted where it was.
  expect(sizes()).toEqual([2, 0, 0, 0, 0]);
  validateVm(vm);
  lruAddDrain(vm);
  expect(sizes()).toEqual([1, 1, 0, 0, 0]);
  expect(vm.pages.events[VM_EVENT.PGACTIVATE]).toBe(1);
  doMadvise(mm, addr, PAGE_SIZE, MADV_COLD);
  lruAddDrain(vm);
  expect(vm.frames.flags[pfn] & PG_ACTIVE).toBe(0);
  expect(vm.pages.lru.size(0, LRU_ACTIVE_ANON)).toBe(0);
  expect(vm.pages.events[VM_EVENT.PGDEACTIVATE]).toBe(1);
  validateVm(vm);
});

test('what may be dropped moves to the list of files', () => {
  const addr = touch(PAGEVEC_SIZE + 1);
  doMadvise(mm, addr, (PAGEVEC_SIZE + 1) * PAGE_SIZE, MADV_FREE);
  expect(vm.pages.lru.size(0, LRU_INACTIVE_FILE)).toBe(PAGEVEC_SIZE);
  expect(vm.pages.events[VM_EVENT.PGLAZYFREE]).toBe(PAGEVEC_SIZE);
  validateVm(vm);
  vmMunmap(mm, addr, (PAGEVEC_SIZE + 1) * PAGE_SIZE);
  expect(sizes()).toEqual([0, 0, 0, 0, 0]);
  validateVm(vm);
});

test('locked pages are unevictable', () => {
  const addr = touch(3);
  lruAddDrain(vm);
  expect(doMlock(mm, addr, 4 * PAGE_SIZE, 0)).toBe(-12);
  expect(doMlock(mm, addr, 2 * PAGE_SIZE, 0)).toBe(0);
  expect(vm.pages.lru.size(0, LRU_UNEVICTABLE)).toBeGreaterThanOrEqual(2);
  validateVm(vm);
  doMunlock(mm, addr, 3 * PAGE_SIZE);
  expect(sizes()).toEqual([3, 0, 0, 0, 0]);
  validateVm(vm);
});

test('an isolated page is on no list, and keeps its place in memory', () => {
  const addr = touch(1);
  lruAddDrain(vm);
  const pfn = pfnAt(addr);
  expect(isolateLru(vm, pfn)).toBe(true);
  expect(isolateLru(vm, pfn)).toBe(false);
  expect(sizes()).toEqual([0, 0, 0, 0, 0]);
  vmMunmap(mm, addr, PAGE_SIZE);
  expect(vm.frames.refcount[pfn]).toBe(1);
  putbackLru(vm, pfn);
  lruAddDrain(vm);
  expect(vm.frames.refcount[pfn]).toBe(0);
  validateVm(vm);
});
