import {
  MADV_FREE,
  MADV_GUARD_INSTALL,
  MAP_ANONYMOUS,
  MAP_LOCKED,
  MAP_PRIVATE,
  MAP_SHARED,
  PAGE_SIZE,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from '@pagelab/abi';
import { beforeEach, expect, test } from 'vitest';
import {
  CLEAR_REFS_ALL,
  CLEAR_REFS_ANON,
  CLEAR_REFS_MAPPED,
  CLEAR_REFS_MM_HIWATER_RSS,
  clearRefs,
} from './clear-refs.ts';
import { doMadvise } from './madvise.ts';
import { dupMm } from './mm-lifetime.ts';
import type { MmStruct } from './mm-struct.ts';
import { doMmap } from './mmap.ts';
import { doMprotect } from './mprotect.ts';
import {
  PM_FILE_HI,
  PM_GUARD_REGION_HI,
  PM_MMAP_EXCLUSIVE_HI,
  PM_PRESENT_HI,
  PM_SOFT_DIRTY_HI,
  PM_SWAP_HI,
  mincorePage,
  pageState,
  pagemapEntry,
  smapsOf,
} from './page-walk.ts';
import { lruAddDrain } from './swap.ts';
import { attachUser, testMm, testVm } from './testing/test-machine.ts';
import type { Vm } from './vm.ts';
import { zapPageRange } from './zap.ts';

let vm: Vm;
let mm: MmStruct;

beforeEach(() => {
  vm = testVm();
  mm = testMm(vm);
});

function map(pages: number, flags: number, prot = PROT_READ | PROT_WRITE): number {
  return doMmap(mm, { file: null, addr: 0, length: pages * PAGE_SIZE, prot, flags: flags | MAP_ANONYMOUS, pgoff: 0 });
}

function fork(): MmStruct {
  const child = dupMm(mm, mm.limits);
  if (typeof child === 'number') throw new Error(`fork: ${child}`);
  return child;
}

function flagsAt(addr: number): number {
  return pagemapEntry(mm, addr).hi & ~PM_SOFT_DIRTY_HI;
}

test('what smaps adds up, before and after a fork', () => {
  const addr = map(8, MAP_PRIVATE);
  const { memory } = attachUser(mm, 0);
  memory.load8(addr);
  for (let i = 1; i < 5; i++) memory.store8(addr + i * PAGE_SIZE, 1);
  const vma = mm.vmas.get(addr)!;
  expect(smapsOf(vma)).toMatchObject({
    size: 8 * PAGE_SIZE,
    rss: 4 * PAGE_SIZE,
    pss: 4 * PAGE_SIZE,
    pssAnon: 4 * PAGE_SIZE,
    privateDirty: 4 * PAGE_SIZE,
    sharedDirty: 0,
    referenced: 4 * PAGE_SIZE,
    anonymous: 4 * PAGE_SIZE,
    locked: 0,
  });
  const child = fork();
  fork();
  // A third of a page each, to the 4096th of a byte; then one page of its own.
  const third = Math.floor((PAGE_SIZE * 4096) / 3);
  expect(smapsOf(vma)).toMatchObject({ pss: Math.floor((4 * third) / 4096), sharedDirty: 4 * PAGE_SIZE });
  memory.store8(addr + PAGE_SIZE, 2);
  expect(smapsOf(vma)).toMatchObject({
    rss: 4 * PAGE_SIZE,
    pss: Math.floor((3 * third + PAGE_SIZE * 4096) / 4096),
    privateDirty: PAGE_SIZE,
    sharedDirty: 3 * PAGE_SIZE,
  });
  // A child's entries start unused.
  expect(smapsOf(child.vmas.get(addr)!).referenced).toBe(0);
});

test('shared, locked and given-up memory', () => {
  const shared = map(4, MAP_SHARED);
  const locked = map(2, MAP_PRIVATE | MAP_LOCKED);
  const given = map(2, MAP_PRIVATE);
  const { memory } = attachUser(mm);
  memory.store8(shared, 1);
  memory.load8(shared + PAGE_SIZE);
  memory.store8(given, 1);
  memory.store8(given + PAGE_SIZE, 1);
  expect(smapsOf(mm.vmas.get(shared)!)).toMatchObject({
    rss: 2 * PAGE_SIZE,
    pssShmem: 2 * PAGE_SIZE,
    privateDirty: PAGE_SIZE,
    privateClean: PAGE_SIZE,
    anonymous: 0,
  });
  expect(smapsOf(mm.vmas.get(locked)!)).toMatchObject({ rss: 2 * PAGE_SIZE, locked: 2 * PAGE_SIZE });
  expect(doMadvise(mm, given, 2 * PAGE_SIZE, MADV_FREE)).toBe(0);
  memory.store8(given, 2);
  // It waits in a batch until that is full, or drained.
  expect(smapsOf(mm.vmas.get(given)!)).toMatchObject({ lazyFree: 0 });
  lruAddDrain(mm.vm);
  expect(smapsOf(mm.vmas.get(given)!)).toMatchObject({ lazyFree: PAGE_SIZE, anonymous: 2 * PAGE_SIZE });
});

test('entries of pagemap', () => {
  const addr = map(6, MAP_PRIVATE);
  const shared = map(2, MAP_SHARED);
  const { memory } = attachUser(mm);
  memory.load8(addr);
  memory.store8(addr + PAGE_SIZE, 1);
  memory.store8(shared, 1);
  doMadvise(mm, addr + 2 * PAGE_SIZE, PAGE_SIZE, MADV_GUARD_INSTALL);
  expect(flagsAt(addr)).toBe(PM_PRESENT_HI);
  expect(pagemapEntry(mm, addr).lo).toBe(vm.zeroPfn);
  expect(flagsAt(addr + PAGE_SIZE)).toBe(PM_PRESENT_HI | PM_MMAP_EXCLUSIVE_HI);
  expect(pagemapEntry(mm, addr + PAGE_SIZE).lo).toBe(pageState(mm, addr + PAGE_SIZE).pfn);
  // Type 31, offset 4: as a real kernel gives it.
  expect(pagemapEntry(mm, addr + 2 * PAGE_SIZE).lo).toBe(0x9f);
  expect(flagsAt(addr + 2 * PAGE_SIZE)).toBe(PM_GUARD_REGION_HI | PM_SWAP_HI);
  expect(flagsAt(addr + 3 * PAGE_SIZE)).toBe(0);
  expect(flagsAt(shared)).toBe(PM_PRESENT_HI | PM_FILE_HI | PM_MMAP_EXCLUSIVE_HI);
  expect(flagsAt(0x5000)).toBe(0);
  fork();
  expect(flagsAt(addr + PAGE_SIZE)).toBe(PM_PRESENT_HI);
  // Shared memory is not entered in the child.
  expect(flagsAt(shared)).toBe(PM_PRESENT_HI | PM_FILE_HI | PM_MMAP_EXCLUSIVE_HI);
  // Without rights a page is there all the same.
  doMprotect(mm, addr, PAGE_SIZE, PROT_NONE);
  expect(flagsAt(addr)).toBe(PM_PRESENT_HI);
});

test('mincore: a cached page counts, mapped or not', () => {
  const addr = map(3, MAP_SHARED);
  const own = map(2, MAP_PRIVATE);
  const { memory } = attachUser(mm);
  memory.store8(addr, 1);
  memory.load8(own);
  zapPageRange(mm.vmas.get(addr)!, addr, addr + PAGE_SIZE);
  const resident = (at: number, pages: number): number[] =>
    Array.from({ length: pages }, (_, i) => mincorePage(mm.vmas.get(at)!, at + i * PAGE_SIZE));
  expect(pageState(mm, addr).kind).toBe('none');
  expect(resident(addr, 3)).toEqual([1, 0, 0]);
  expect(resident(own, 2)).toEqual([1, 0]);
});

test('clearing what was referenced', () => {
  const own = map(2, MAP_PRIVATE);
  const shared = map(2, MAP_SHARED);
  const { memory } = attachUser(mm);
  const touch = (): void => {
    for (let i = 0; i < 2; i++) {
      memory.store8(own + i * PAGE_SIZE, 1);
      memory.store8(shared + i * PAGE_SIZE, 1);
    }
  };
  const referenced = (): number[] => [own, shared].map((addr) => smapsOf(mm.vmas.get(addr)!).referenced / PAGE_SIZE);
  touch();
  clearRefs(mm, CLEAR_REFS_ANON);
  expect(referenced()).toEqual([0, 2]);
  clearRefs(mm, CLEAR_REFS_MAPPED);
  expect(referenced()).toEqual([0, 0]);
  // The CPU holds the translations still.
  touch();
  expect(referenced()).toEqual([0, 0]);
  vm.smp.cpus[0].flushTlb();
  touch();
  expect(referenced()).toEqual([2, 2]);
  clearRefs(mm, CLEAR_REFS_ALL);
  expect(referenced()).toEqual([0, 0]);
});

test('the high-water mark of the resident set', () => {
  const addr = map(100, MAP_PRIVATE);
  const { memory } = attachUser(mm);
  for (let i = 0; i < 100; i++) memory.store8(addr + i * PAGE_SIZE, 1);
  zapPageRange(mm.vmas.get(addr)!, addr, addr + 90 * PAGE_SIZE);
  expect(mm.hiwaterRss).toBe(100);
  clearRefs(mm, CLEAR_REFS_MM_HIWATER_RSS);
  expect(mm.hiwaterRss).toBe(10);
});
