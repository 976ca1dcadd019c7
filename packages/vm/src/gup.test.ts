import {
  Errno,
  MADV_FREE,
  MADV_POPULATE_WRITE,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  MAP_SHARED,
  PAGE_SIZE,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from '@pagelab/abi';
import { PF_USER, PF_WRITE } from '@pagelab/hw';
import { beforeEach, describe, expect, test } from 'vitest';
import { FOLL_FORCE, FOLL_WRITE, getUserPageFlags, populateRange } from './gup.ts';
import { doMadvise } from './madvise.ts';
import { doMlock } from './mlock.ts';
import { doMmap } from './mmap.ts';
import { doMprotect } from './mprotect.ts';
import { dupMm } from './mm-lifetime.ts';
import { MM_ANONPAGES } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { handlePageFault } from './page-fault.ts';
import { pageState, smapsOf } from './page-walk.ts';
import { lruAddDrain } from './swap.ts';
import { attachUser, testMm, testVm } from './testing/test-machine.ts';
import { copyFromUser, copyFromUserPartial, copyToUser, copyToUserPartial } from './uaccess.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';

const RW = PROT_READ | PROT_WRITE;

let vm: Vm;
let mm: MmStruct;

beforeEach(() => {
  vm = testVm();
  mm = testMm(vm);
});

function map(pages: number, prot: number, flags = MAP_PRIVATE): number {
  return doMmap(mm, { file: null, addr: 0, length: pages * PAGE_SIZE, prot, flags: flags | MAP_ANONYMOUS, pgoff: 0 });
}

describe('populating', () => {
  test('private writable memory gets pages, read-only memory the zero page', () => {
    const addr = map(4, RW);
    expect(populateRange(mm, addr, addr + 4 * PAGE_SIZE)).toBe(0);
    expect(mm.rss[MM_ANONPAGES]).toBe(4);
    const readOnly = map(4, PROT_READ);
    expect(populateRange(mm, readOnly, readOnly + 4 * PAGE_SIZE)).toBe(0);
    expect(pageState(mm, readOnly).kind).toBe('zero');
    expect(mm.rss[MM_ANONPAGES]).toBe(4);
    const writeOnly = map(1, PROT_WRITE);
    expect(populateRange(mm, writeOnly, writeOnly + PAGE_SIZE)).toBe(0);
    expect(pageState(mm, writeOnly).kind).toBe('anon');
  });

  test('stops at memory without rights, and breaks copy on write', () => {
    const addr = map(3, RW);
    populateRange(mm, addr, addr + PAGE_SIZE);
    const before = pageState(mm, addr).pfn;
    const child = dupMm(mm, mm.limits) as MmStruct;
    doMprotect(child, addr + PAGE_SIZE, PAGE_SIZE, PROT_NONE);
    expect(populateRange(child, addr, addr + 3 * PAGE_SIZE)).toBe(-Errno.EFAULT);
    expect(pageState(child, addr).pfn).not.toBe(before);
    expect(pageState(child, addr + 2 * PAGE_SIZE).kind).toBe('none');
    validateVm(vm);
  });

  test('shared memory is read, not written', () => {
    const addr = map(2, RW, MAP_SHARED);
    expect(populateRange(mm, addr, addr + 2 * PAGE_SIZE)).toBe(0);
    expect(pageState(mm, addr)).toMatchObject({ kind: 'shmem', writable: true, dirty: false });
  });

  test('to write makes a page dirty that is writable already', () => {
    const addr = map(1, RW, MAP_SHARED);
    expect(populateRange(mm, addr, addr + PAGE_SIZE)).toBe(0);
    const dirty = (): number => smapsOf(mm.vmas.get(addr)!).privateDirty;
    expect(dirty()).toBe(0);
    expect(doMadvise(mm, addr, PAGE_SIZE, MADV_POPULATE_WRITE)).toBe(0);
    expect(pageState(mm, addr).dirty).toBe(false);
    expect(dirty()).toBe(PAGE_SIZE);
    // A page that was given up is wanted again.
    const own = map(1, RW);
    populateRange(mm, own, own + PAGE_SIZE);
    doMadvise(mm, own, PAGE_SIZE, MADV_FREE);
    lruAddDrain(vm);
    expect(smapsOf(mm.vmas.get(own)!)).toMatchObject({ lazyFree: PAGE_SIZE, privateDirty: 0 });
    doMadvise(mm, own, PAGE_SIZE, MADV_POPULATE_WRITE);
    expect(smapsOf(mm.vmas.get(own)!)).toMatchObject({ lazyFree: 0, privateDirty: PAGE_SIZE });
    validateVm(vm);
  });

  test('with LOCKONFAULT nothing is brought in', () => {
    const addr = map(2, RW);
    expect(doMlock(mm, addr, 2 * PAGE_SIZE, 1)).toBe(0);
    expect(populateRange(mm, addr, addr + 2 * PAGE_SIZE)).toBe(0);
    expect(mm.rss[MM_ANONPAGES]).toBe(0);
  });
});

describe('getting a page', () => {
  test('as an access would', () => {
    const addr = map(2, RW);
    expect(getUserPageFlags(mm, addr, 0)).toBe(vm.zeroPfn);
    const pfn = getUserPageFlags(mm, addr + 5, FOLL_WRITE);
    expect(pfn).toBe(pageState(mm, addr).pfn);
    expect(pageState(mm, addr).kind).toBe('anon');
    expect(getUserPageFlags(mm, addr - PAGE_SIZE, 0)).toBe(-Errno.EFAULT);
    expect(getUserPageFlags(mm, -4096, 0)).toBe(-Errno.EFAULT);
    expect(getUserPageFlags(mm, map(1, PROT_READ), FOLL_WRITE)).toBe(-Errno.EFAULT);
    expect(getUserPageFlags(mm, map(1, PROT_NONE), 0)).toBe(-Errno.EFAULT);
  });

  test('by force: a copy of read-only private memory, which stays read-only', () => {
    const addr = map(1, RW);
    const { memory } = attachUser(mm);
    memory.store8(addr, 7);
    doMprotect(mm, addr, PAGE_SIZE, PROT_READ);
    const child = dupMm(mm, mm.limits) as MmStruct;
    const shared = pageState(mm, addr).pfn;
    const pfn = getUserPageFlags(child, addr, FOLL_WRITE | FOLL_FORCE);
    expect(pfn).not.toBe(shared);
    expect(pageState(child, addr)).toMatchObject({ pfn, writable: false, dirty: true });
    expect(getUserPageFlags(child, addr, FOLL_WRITE | FOLL_FORCE)).toBe(pfn);
    expect(getUserPageFlags(mm, map(1, PROT_READ, MAP_SHARED), FOLL_WRITE | FOLL_FORCE)).toBe(-Errno.EFAULT);
    // Memory that was only read shows the zero page: that is not written to either.
    const fresh = map(1, PROT_READ);
    expect(handlePageFault(mm, fresh, PF_USER)).toBe(0);
    expect(getUserPageFlags(mm, fresh, FOLL_WRITE | FOLL_FORCE)).not.toBe(vm.zeroPfn);
    expect(getUserPageFlags(mm, map(1, PROT_NONE), FOLL_FORCE)).toBe(vm.zeroPfn);
    validateVm(vm);
  });
});

describe('copying to and from user memory', () => {
  test('faults pages in, across borders', () => {
    const addr = map(3, RW);
    const data = Uint8Array.from({ length: 2 * PAGE_SIZE }, (_, i) => i * 7);
    expect(copyToUser(mm, addr + 100, data)).toBe(0);
    expect(copyFromUser(mm, addr + 100, data.length)).toEqual(data);
    expect(mm.rss[MM_ANONPAGES]).toBe(3);
    expect(attachUser(mm).memory.load8(addr + 101)).toBe(7);
  });

  test('stops where the program would fault', () => {
    const addr = map(2, RW);
    doMprotect(mm, addr + PAGE_SIZE, PAGE_SIZE, PROT_READ);
    const data = new Uint8Array(PAGE_SIZE).fill(1);
    expect(copyToUser(mm, addr + 96, data)).toBe(-Errno.EFAULT);
    expect(copyToUserPartial(mm, addr + 96, data)).toBe(PAGE_SIZE - 96);
    expect(copyFromUserPartial(mm, addr + PAGE_SIZE + 8, data)).toBe(PAGE_SIZE - 8);
    expect(copyFromUser(mm, 0, 1)).toBe(-Errno.EFAULT);
    expect(copyToUser(mm, -0x778000000000, data)).toBe(-Errno.EFAULT);
    expect(copyToUser(mm, 0x7fffffffeffe, data)).toBe(-Errno.EFAULT);
    expect(copyFromUser(mm, 0, 0)).toEqual(new Uint8Array(0));
  });

  test('a child\'s copy is not the parent\'s', () => {
    const addr = map(1, RW);
    copyToUser(mm, addr, Uint8Array.of(1));
    const child = dupMm(mm, mm.limits) as MmStruct;
    copyToUser(child, addr, Uint8Array.of(2));
    expect(copyFromUser(mm, addr, 1)).toEqual(Uint8Array.of(1));
    expect(handlePageFault(mm, addr, PF_USER | PF_WRITE)).toBe(0);
    validateVm(vm);
  });
});
