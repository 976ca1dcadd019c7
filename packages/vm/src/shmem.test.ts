import {
  Errno,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  F_SEAL_FUTURE_WRITE,
  F_SEAL_GROW,
  F_SEAL_SHRINK,
  F_SEAL_WRITE,
  MAP_ANONYMOUS,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
} from '@pagelab/abi';
import { PF_USER, PF_WRITE } from '@pagelab/hw';
import { NODE_STAT, OWNER_SHMEM } from '@pagelab/mm-core';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Inode, VmFile } from './file.ts';
import { doMmap } from './mmap.ts';
import { MM_ANONPAGES, MM_SHMEMPAGES } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { vmMunmap } from './munmap.ts';
import { FAULT_OK, FAULT_SIGBUS } from './fault-flags.ts';
import { handlePageFault } from './page-fault.ts';
import { pageState } from './page-walk.ts';
import { KernelBuffer, fileRead, fileWrite } from './filemap.ts';
import { fileGet, filePut } from './open-file.ts';
import { shmemFallocate, shmemFileSetup, shmemGetPage, shmemTruncate } from './shmem.ts';
import { attachUser, testMm, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';

const RW = PROT_READ | PROT_WRITE;
const PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

let vm: Vm;
let mm: MmStruct;

beforeEach(() => {
  vm = testVm();
  mm = testMm(vm);
});

function make(pages: number, accounted = false): VmFile {
  const file = shmemFileSetup(vm, '/memfd:test (deleted)', pages * PAGE_SIZE, accounted);
  if (typeof file === 'number') throw new Error(`shmemFileSetup: ${file}`);
  return file;
}

function map(file: VmFile, pages: number, flags: number): number {
  return doMmap(mm, { file, addr: 0, length: pages * PAGE_SIZE, prot: RW, flags, pgoff: 0 });
}

function bytes(length: number, value: number): Uint8Array {
  return new Uint8Array(length).fill(value);
}

function write(inode: Inode, pos: number, data: Uint8Array): number {
  return fileWrite(vm, inode, pos, data.length, new KernelBuffer(data));
}

function read(file: VmFile, pos: number, into: Uint8Array): number {
  return fileRead(vm, file, pos, into.length, new KernelBuffer(into));
}

describe('what is promised', () => {
  test('shared anonymous memory is charged whole, with NORESERVE page by page', () => {
    const request = { file: null, addr: 0, length: 8 * PAGE_SIZE, prot: RW, pgoff: 0 };
    const whole = doMmap(mm, { ...request, flags: MAP_SHARED | MAP_ANONYMOUS });
    expect(vm.committedAs).toBe(8);
    const loose = doMmap(mm, { ...request, flags: MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE });
    expect(vm.committedAs).toBe(8);
    expect(handlePageFault(mm, loose, PF_USER)).toBe(FAULT_OK);
    expect(handlePageFault(mm, whole, PF_USER)).toBe(FAULT_OK);
    expect(vm.committedAs).toBe(9);
    vmMunmap(mm, loose, 8 * PAGE_SIZE);
    expect(vm.committedAs).toBe(8);
    vmMunmap(mm, whole, 8 * PAGE_SIZE);
    expect(vm.committedAs).toBe(0);
    expect(vm.mappings.size).toBe(0);
  });

  test('a page beyond the commit limit is a bus error', () => {
    const file = make(4);
    const addr = map(file, 4, MAP_SHARED);
    vm.sysctl.overcommitMemory = 2;
    vm.sysctl.overcommitKbytes = 4;
    expect(handlePageFault(mm, addr, PF_USER | PF_WRITE)).toBe(FAULT_SIGBUS);
    validateVm(vm);
  });
});

test('the last mapping takes the file along, pages and all', () => {
  const file = make(2);
  const addr = map(file, 2, MAP_SHARED);
  filePut(vm, file);
  const { memory } = attachUser(mm);
  memory.store8(addr, 5);
  expect(vm.pages.nodeState(NODE_STAT.NR_SHMEM)).toBe(1);
  expect(vm.pages.census()[OWNER_SHMEM]).toBe(1);
  expect(mm.rss[MM_SHMEMPAGES]).toBe(1);
  vmMunmap(mm, addr, 2 * PAGE_SIZE);
  expect(vm.mappings.size).toBe(0);
  expect(vm.pages.census()[OWNER_SHMEM]).toBe(0);
  validateVm(vm);
});

test('reads and writes go to the pages that mappings show', () => {
  const file = make(3);
  const addr = map(file, 3, MAP_SHARED);
  const { memory } = attachUser(mm);
  memory.store8(addr + PAGE_SIZE, 9);
  const whole = new Uint8Array(4 * PAGE_SIZE);
  expect(read(file, 0, whole)).toBe(3 * PAGE_SIZE);
  expect([whole[0], whole[PAGE_SIZE], whole[PAGE_SIZE + 1]]).toEqual([0, 9, 0]);
  // Holes are not filled by reading.
  expect(file.inode.mapping.pages.size).toBe(1);
  expect(write(file.inode, PAGE_SIZE - 2, bytes(4, 7))).toBe(4);
  expect(memory.load32(addr + PAGE_SIZE)).toBe(0x0000_0707);
  expect(write(file.inode, 3 * PAGE_SIZE - 1, bytes(2, 1))).toBe(2);
  expect(file.inode.size).toBe(3 * PAGE_SIZE + 1);
  expect(read(file, 10 * PAGE_SIZE, whole)).toBe(0);
  validateVm(vm);
});

describe('truncating', () => {
  test('takes pages from every mapping, private copies too, and zeroes the rest of the last page', () => {
    const file = make(4);
    write(file.inode, 0, bytes(4 * PAGE_SIZE, 3));
    const shared = map(file, 4, MAP_SHARED);
    const own = map(file, 4, MAP_PRIVATE);
    const { memory } = attachUser(mm);
    for (let i = 0; i < 4; i++) {
      memory.load8(shared + i * PAGE_SIZE);
      memory.store8(own + i * PAGE_SIZE, 8);
    }
    expect(mm.rss[MM_ANONPAGES]).toBe(4);
    expect(shmemTruncate(vm, file.inode, PAGE_SIZE + 100)).toBe(0);
    expect(handlePageFault(mm, shared + 2 * PAGE_SIZE, PF_USER)).toBe(FAULT_SIGBUS);
    expect(handlePageFault(mm, own + 3 * PAGE_SIZE, PF_USER)).toBe(FAULT_SIGBUS);
    expect(memory.load8(shared + PAGE_SIZE + 99)).toBe(3);
    expect(memory.load8(shared + PAGE_SIZE + 100)).toBe(0);
    expect(memory.load8(own + PAGE_SIZE + 100)).toBe(3);
    expect(mm.rss[MM_ANONPAGES]).toBe(2);
    // Growing again shows zeros, not what was there.
    expect(shmemTruncate(vm, file.inode, 4 * PAGE_SIZE)).toBe(0);
    expect(memory.load8(shared + 3 * PAGE_SIZE)).toBe(0);
    validateVm(vm);
  });

  test('seals', () => {
    const { inode } = make(2);
    inode.seals = F_SEAL_SHRINK | F_SEAL_GROW;
    expect(shmemTruncate(vm, inode, PAGE_SIZE)).toBe(-Errno.EPERM);
    expect(shmemTruncate(vm, inode, 3 * PAGE_SIZE)).toBe(-Errno.EPERM);
    expect(shmemTruncate(vm, inode, 2 * PAGE_SIZE)).toBe(0);
    expect(write(inode, PAGE_SIZE, bytes(PAGE_SIZE + 1, 1))).toBe(PAGE_SIZE);
    expect(shmemFallocate(vm, inode, 0, PAGE_SIZE, 2 * PAGE_SIZE)).toBe(-Errno.EPERM);
    inode.seals = F_SEAL_FUTURE_WRITE;
    expect(write(inode, 0, bytes(1, 1))).toBe(-Errno.EPERM);
    expect(shmemFallocate(vm, inode, PUNCH, 0, PAGE_SIZE)).toBe(-Errno.EPERM);
    inode.seals = F_SEAL_WRITE;
    expect(write(inode, 0, bytes(1, 1))).toBe(-Errno.EPERM);
  });
});

describe('fallocate', () => {
  test('a hole is zero in shared mappings; private copies stay', () => {
    const file = make(3);
    write(file.inode, 0, bytes(3 * PAGE_SIZE, 3));
    const shared = map(file, 3, MAP_SHARED);
    const own = map(file, 3, MAP_PRIVATE);
    const { memory } = attachUser(mm);
    memory.load8(shared + PAGE_SIZE);
    memory.store8(own + PAGE_SIZE, 8);
    expect(shmemFallocate(vm, file.inode, PUNCH, PAGE_SIZE - 10, PAGE_SIZE + 20)).toBe(0);
    const places = [PAGE_SIZE - 11, PAGE_SIZE - 10, PAGE_SIZE, 2 * PAGE_SIZE + 9, 2 * PAGE_SIZE + 10];
    expect(places.map((at) => memory.load8(shared + at))).toEqual([3, 0, 0, 0, 3]);
    expect(memory.load8(own + PAGE_SIZE)).toBe(8);
    expect(file.inode.size).toBe(3 * PAGE_SIZE);
    validateVm(vm);
  });

  test('a hole within one page', () => {
    const file = make(1);
    write(file.inode, 0, bytes(PAGE_SIZE, 3));
    expect(shmemFallocate(vm, file.inode, PUNCH, 10, 5)).toBe(0);
    const page = new Uint8Array(PAGE_SIZE);
    read(file, 0, page);
    expect([...page.subarray(8, 17)]).toEqual([3, 3, 0, 0, 0, 0, 0, 3, 3]);
  });

  test('allocating makes the pages that are missing, and grows the file unless told', () => {
    const { inode } = make(2);
    expect(shmemFallocate(vm, inode, FALLOC_FL_KEEP_SIZE, PAGE_SIZE, 3 * PAGE_SIZE)).toBe(0);
    expect([inode.mapping.pages.size, inode.size]).toEqual([3, 2 * PAGE_SIZE]);
    expect(shmemFallocate(vm, inode, 0, 100, 4 * PAGE_SIZE)).toBe(0);
    expect([inode.mapping.pages.size, inode.size]).toEqual([5, 4 * PAGE_SIZE + 100]);
    expect(shmemFallocate(vm, inode, 0x40, 0, 1)).toBe(-Errno.EOPNOTSUPP);
    expect(shmemFallocate(vm, inode, 0, 0, 0)).toBe(-Errno.EINVAL);
    validateVm(vm);
  });
});

// What Linux's xarray takes: one entry at index 0 needs no node.
test.each([
  [[0], 0],
  [[5], 1],
  [[0, 63], 1],
  [[64], 2],
  [[0, 64], 3],
  [[0, 4095], 3],
  [[4096], 3],
  [[0, 64, 4096], 6],
])('a file with pages %j takes %d tree nodes', (indexes, nodes) => {
  const file = make(8192);
  const live = vm.caches.radixTreeNode.activeObjects;
  for (const index of indexes) vm.pages.freePage(shmemGetPage(vm, file.inode.mapping, index));
  expect(vm.caches.radixTreeNode.activeObjects - live).toBe(nodes);
  filePut(vm, file);
  expect(vm.caches.radixTreeNode.activeObjects).toBe(live);
});

test('a read fault maps what is cached around it, within the group of 16, the mapping and the file', () => {
  const file = make(40);
  write(file.inode, 0, bytes(36 * PAGE_SIZE, 1));
  const area = { file, addr: 0x1_0000_0000, length: 24 * PAGE_SIZE, pgoff: 14 };
  const addr = doMmap(mm, { ...area, prot: PROT_READ, flags: MAP_SHARED });
  expect(handlePageFault(mm, addr + 3 * PAGE_SIZE, PF_USER)).toBe(FAULT_OK);
  const mapped = (): number[] =>
    Array.from({ length: 24 }, (_, i) => i).filter((i) => pageState(mm, addr + i * PAGE_SIZE).kind === 'shmem');
  // The group is aligned by address.
  expect(mapped()).toEqual(Array.from({ length: 16 }, (_, i) => i));
  expect(mm.minFlt).toBe(1);
  expect(handlePageFault(mm, addr + 20 * PAGE_SIZE, PF_USER)).toBe(FAULT_OK);
  expect(mapped()).toEqual(Array.from({ length: 22 }, (_, i) => i));
  // Page 36 of the file is a hole: it is made, alone.
  expect(handlePageFault(mm, addr + 22 * PAGE_SIZE, PF_USER)).toBe(FAULT_OK);
  expect(mapped()).toHaveLength(23);
  validateVm(vm);
});

test('an open file outlives its mappings', () => {
  const file = make(1);
  const addr = map(fileGet(file), 1, MAP_SHARED);
  filePut(vm, file);
  const { memory } = attachUser(mm);
  memory.store8(addr, 4);
  vmMunmap(mm, addr, PAGE_SIZE);
  const page = new Uint8Array(1);
  expect(read(file, 0, page)).toBe(1);
  expect(page[0]).toBe(4);
  filePut(vm, file);
  expect(vm.mappings.size).toBe(0);
});
