import { MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import { PF_USER, PF_WRITE, ptePfn } from '@pagelab/hw';
import { OWNER_PAGE_TABLE } from '@pagelab/mm-core';
import { beforeEach, expect, test } from 'vitest';
import { doMmap } from './mmap.ts';
import { mmput } from './mm-lifetime.ts';
import type { MmStruct } from './mm-struct.ts';
import { vmMunmap } from './munmap.ts';
import { handlePageFault } from './page-fault.ts';
import { pageState } from './page-walk.ts';
import { SHAPE_X86_64 } from './pgtable-shape.ts';
import { PteTableWalk, findPmd, findPte, nextBoundary } from './pgtable.ts';
import { testMm, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';

const { pgdirSize: PGDIR_SIZE, pmdSize: PMD_SIZE, pudSize: PUD_SIZE } = SHAPE_X86_64;
const BASE = 0x100_0000_0000;

let vm: Vm;
let mm: MmStruct;

beforeEach(() => {
  vm = testVm();
  mm = testMm(vm);
});

function map(addr: number, length: number): void {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
  expect(doMmap(mm, { file: null, addr, length, prot: PROT_READ | PROT_WRITE, flags, pgoff: 0 })).toBe(addr);
}

function write(addr: number): void {
  expect(handlePageFault(mm, addr, PF_USER | PF_WRITE)).toBe(0);
}

test('a page takes a table of each level, a neighbour none, one 2 MiB on a table more', () => {
  const before = vm.pages.census()[OWNER_PAGE_TABLE];
  map(BASE, PUD_SIZE);
  write(BASE);
  expect(mm.pgtablesBytes).toBe(3 * PAGE_SIZE);
  write(BASE + PAGE_SIZE);
  expect(mm.pgtablesBytes).toBe(3 * PAGE_SIZE);
  write(BASE + PMD_SIZE);
  expect(mm.pgtablesBytes).toBe(4 * PAGE_SIZE);
  expect(vm.pages.census()[OWNER_PAGE_TABLE] - before).toBe(4);
});

test('entries are where hardware looks for them', () => {
  map(BASE, PUD_SIZE);
  const addr = BASE + 5 * PMD_SIZE + 7 * PAGE_SIZE;
  write(addr);
  const { ram } = vm;
  let table = mm.pgd;
  const entries: bigint[] = [];
  for (const shift of [39n, 30n, 21n, 12n]) {
    const index = Number((BigInt(addr) >> shift) & 511n);
    const lo = ram.load32(table * PAGE_SIZE + index * 8);
    const hi = ram.load32(table * PAGE_SIZE + index * 8 + 4);
    entries.push((BigInt(hi) << 32n) | BigInt(lo));
    table = ptePfn(lo | 0, hi | 0);
  }
  for (const entry of entries.slice(0, 3)) expect(entry & 0xfffn).toBe(0x67n);
  const last = entries[3];
  // Present, writable, user, accessed, dirty; not executable.
  expect(last & 0xfffn).toBe(0x67n);
  expect(last >> 63n).toBe(1n);
  expect(Number((last >> 12n) & 0xf_ffff_ffffn)).toBe(pageState(mm, addr).pfn);
});

test('tables go with the last mapping that they serve', () => {
  map(BASE, 4 * PAGE_SIZE);
  map(BASE + PMD_SIZE, PAGE_SIZE);
  write(BASE);
  write(BASE + 2 * PAGE_SIZE);
  write(BASE + PMD_SIZE);
  expect(mm.pgtablesBytes).toBe(4 * PAGE_SIZE);
  vmMunmap(mm, BASE, PAGE_SIZE);
  expect(mm.pgtablesBytes).toBe(4 * PAGE_SIZE);
  vmMunmap(mm, BASE + PAGE_SIZE, 3 * PAGE_SIZE);
  expect(mm.pgtablesBytes).toBe(3 * PAGE_SIZE);
  expect(findPmd(mm, BASE)).toBeGreaterThan(0);
  expect(findPte(mm, BASE)).toBe(-1);
  vmMunmap(mm, BASE + PMD_SIZE, PAGE_SIZE);
  expect(mm.pgtablesBytes).toBe(0);
  validateVm(vm);
});

test('a table that serves two entries of the level above stays for the other', () => {
  map(BASE + PGDIR_SIZE - PAGE_SIZE, 2 * PAGE_SIZE);
  write(BASE + PGDIR_SIZE - PAGE_SIZE);
  write(BASE + PGDIR_SIZE);
  expect(mm.pgtablesBytes).toBe(6 * PAGE_SIZE);
  vmMunmap(mm, BASE + PGDIR_SIZE - PAGE_SIZE, PAGE_SIZE);
  expect(mm.pgtablesBytes).toBe(3 * PAGE_SIZE);
  validateVm(vm);
});

test('unmapping a huge sparse mapping looks at what is there only', () => {
  const length = 64 * 2 ** 40;
  map(BASE, length);
  for (let i = 0; i < 8; i++) write(BASE + i * 7 * 2 ** 40);
  const walk = new PteTableWalk(mm, BASE, BASE + length);
  let stops = 0;
  while (walk.next()) stops++;
  expect(stops).toBe(8);
  const shootdowns = vm.smp.stats.shootdowns;
  vmMunmap(mm, BASE, length);
  expect(vm.smp.stats.shootdowns - shootdowns).toBe(1);
  expect(mm.pgtablesBytes).toBe(0);
  validateVm(vm);
});

test('a walk stops at the ends of the range and of each table', () => {
  map(BASE, PUD_SIZE);
  write(BASE + 10 * PAGE_SIZE);
  write(BASE + PMD_SIZE + 3 * PAGE_SIZE);
  write(BASE + 9 * PMD_SIZE);
  const walk = new PteTableWalk(mm, BASE + 5 * PAGE_SIZE, BASE + 9 * PMD_SIZE + 2 * PAGE_SIZE);
  const stops: [number, number][] = [];
  while (walk.next()) {
    stops.push([walk.addr, walk.count]);
    expect(walk.entry).toBe(findPte(mm, walk.addr));
    expect(walk.pmdEntry).toBe(findPmd(mm, walk.addr));
  }
  expect(stops).toEqual([
    [BASE + 5 * PAGE_SIZE, 507],
    [BASE + PMD_SIZE, 512],
    [BASE + 9 * PMD_SIZE, 2],
  ]);
});

test('one flush for each 10,000 pages unmapped, and one for the rest', () => {
  const pages = 20_001;
  map(BASE, pages * PAGE_SIZE);
  for (let i = 0; i < pages; i++) write(BASE + i * PAGE_SIZE);
  const shootdowns = vm.smp.stats.shootdowns;
  vmMunmap(mm, BASE, pages * PAGE_SIZE);
  expect(vm.smp.stats.shootdowns - shootdowns).toBe(3);
  validateVm(vm);
  vm.pages.validate();
});

test('an address space gives back all its tables', () => {
  const before = vm.pages.census()[OWNER_PAGE_TABLE];
  const other = testMm(vm);
  mmput(other);
  expect(vm.pages.census()[OWNER_PAGE_TABLE]).toBe(before);
});

test.each([0, 1, PAGE_SIZE, 2 ** 31 - 1, 2 ** 40 + 5, 0x7fff_ffff_f000])('the boundary above %d', (addr) => {
  for (const size of [PMD_SIZE, PUD_SIZE, PGDIR_SIZE]) {
    const expected = (BigInt(addr) / BigInt(size) + 1n) * BigInt(size);
    expect(BigInt(nextBoundary(addr, size))).toBe(expected);
  }
});
