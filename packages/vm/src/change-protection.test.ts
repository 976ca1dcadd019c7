import {
  MADV_GUARD_INSTALL,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  MREMAP_DONTUNMAP,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PAGE_SIZE,
  PROT_EXEC,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from '@pagelab/abi';
import { PF_USER, PF_WRITE } from '@pagelab/hw';
import { beforeEach, describe, expect, test } from 'vitest';
import { doMadvise } from './madvise.ts';
import { dupMm, mmput } from './mm-lifetime.ts';
import type { MmStruct } from './mm-struct.ts';
import { doMmap } from './mmap.ts';
import { doMprotect } from './mprotect.ts';
import { doMremap } from './mremap.ts';
import { FAULT_MAPERR } from './fault-flags.ts';
import { handlePageFault } from './page-fault.ts';
import { pageState } from './page-walk.ts';
import { SHAPE_X86_64 } from './pgtable-shape.ts';
import { TestFault, attachUser, testMm, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';

const { pmdSize: PMD_SIZE, pudSize: PUD_SIZE } = SHAPE_X86_64;
const RW = PROT_READ | PROT_WRITE;
const AREA = 0x200_0000_0000;

let vm: Vm;
let mm: MmStruct;

beforeEach(() => {
  vm = testVm();
  mm = testMm(vm);
});

function map(pages: number, addr = 0, flags = MAP_PRIVATE, prot = RW): number {
  const allFlags = flags | MAP_ANONYMOUS | (addr === 0 ? 0 : MAP_FIXED);
  return doMmap(mm, { file: null, addr, length: pages * PAGE_SIZE, prot, flags: allFlags, pgoff: 0 });
}

function fork(): MmStruct {
  const child = dupMm(mm, mm.limits);
  if (typeof child === 'number') throw new Error(`fork: ${child}`);
  return child;
}

describe('rights', () => {
  test('to read-only and back costs no fault where a page is one\'s own', () => {
    const addr = map(3);
    const { memory } = attachUser(mm);
    memory.store8(addr, 1);
    memory.load8(addr + PAGE_SIZE);
    const faults = mm.minFlt;
    doMprotect(mm, addr, 3 * PAGE_SIZE, PROT_READ);
    expect(() => { memory.store8(addr, 2); }).toThrow(TestFault);
    doMprotect(mm, addr, 3 * PAGE_SIZE, RW);
    memory.store8(addr, 2);
    expect(mm.minFlt).toBe(faults);
    // The zero page is never written to.
    memory.store8(addr + PAGE_SIZE, 2);
    expect(mm.minFlt).toBe(faults + 1);
    validateVm(vm);
  });

  test('a page that a child may still see stays protected', () => {
    const addr = map(1);
    const { memory } = attachUser(mm);
    memory.store8(addr, 1);
    const child = fork();
    doMprotect(mm, addr, PAGE_SIZE, PROT_READ);
    doMprotect(mm, addr, PAGE_SIZE, RW);
    expect(pageState(mm, addr).writable).toBe(false);
    mmput(child);
    // Nobody else has it now, but that is found out by the fault.
    doMprotect(mm, addr, PAGE_SIZE, PROT_READ);
    doMprotect(mm, addr, PAGE_SIZE, RW);
    expect(pageState(mm, addr).writable).toBe(false);
    const { pfn } = pageState(mm, addr);
    memory.store8(addr, 2);
    expect(pageState(mm, addr)).toMatchObject({ pfn, writable: true });
    validateVm(vm);
  });

  test('without rights a page keeps what it holds, and its accessed and dirty bits', () => {
    const addr = map(1);
    const { memory } = attachUser(mm);
    memory.store8(addr, 7);
    const { pfn } = pageState(mm, addr);
    doMprotect(mm, addr, PAGE_SIZE, PROT_NONE);
    expect(pageState(mm, addr)).toMatchObject({ pfn, kind: 'anon', writable: false, dirty: true, accessed: true });
    expect(() => memory.load8(addr)).toThrow(TestFault);
    validateVm(vm);
    doMprotect(mm, addr, PAGE_SIZE, PROT_READ | PROT_EXEC);
    expect(memory.load8(addr)).toBe(7);
    expect(memory.fetch8(addr)).toBe(7);
    doMprotect(mm, addr, PAGE_SIZE, PROT_READ);
    expect(() => memory.fetch8(addr)).toThrow(TestFault);
  });

  test('shared memory is writable again at once', () => {
    const addr = map(1, 0, MAP_SHARED);
    const { memory } = attachUser(mm);
    memory.load8(addr);
    doMprotect(mm, addr, PAGE_SIZE, PROT_READ);
    expect(pageState(mm, addr).writable).toBe(false);
    doMprotect(mm, addr, PAGE_SIZE, RW);
    expect(pageState(mm, addr)).toMatchObject({ writable: true, dirty: false });
  });

  test('guard pages stay what they are', () => {
    const addr = map(2);
    doMadvise(mm, addr, PAGE_SIZE, MADV_GUARD_INSTALL);
    doMprotect(mm, addr, 2 * PAGE_SIZE, PROT_READ);
    expect(handlePageFault(mm, addr, PF_USER)).toBe(FAULT_MAPERR);
    doMprotect(mm, addr, 2 * PAGE_SIZE, RW);
    expect(handlePageFault(mm, addr, PF_USER | PF_WRITE)).toBe(FAULT_MAPERR);
    expect(pageState(mm, addr).kind).toBe('guard');
  });

  test('only rights that are lost are flushed', () => {
    const addr = map(4);
    const { memory } = attachUser(mm);
    memory.store8(addr, 1);
    memory.store8(addr + PAGE_SIZE, 1);
    let { shootdowns } = vm.smp.stats;
    const flushes = (): number => {
      const since = vm.smp.stats.shootdowns - shootdowns;
      ({ shootdowns } = vm.smp.stats);
      return since;
    };
    doMprotect(mm, addr, 4 * PAGE_SIZE, PROT_READ);
    expect(flushes()).toBe(1);
    doMprotect(mm, addr, 4 * PAGE_SIZE, RW);
    expect(flushes()).toBe(0);
    doMprotect(mm, addr + 2 * PAGE_SIZE, 2 * PAGE_SIZE, PROT_READ);
    expect(flushes()).toBe(0);
  });
});

describe('moving', () => {
  function move(from: number, to: number, length: number, flags = MREMAP_MAYMOVE | MREMAP_FIXED): void {
    expect(doMremap(mm, from, length, length, flags, to)).toBe(to);
    validateVm(vm);
  }

  test('pages keep their frames', () => {
    const addr = map(4, AREA);
    const { memory } = attachUser(mm);
    memory.store8(addr + PAGE_SIZE, 5);
    memory.load8(addr + 2 * PAGE_SIZE);
    const { pfn } = pageState(mm, addr + PAGE_SIZE);
    const faults = mm.minFlt;
    const to = AREA + 5 * PMD_SIZE + 3 * PAGE_SIZE;
    move(addr, to, 4 * PAGE_SIZE);
    expect(pageState(mm, to + PAGE_SIZE)).toMatchObject({ pfn, writable: true });
    expect(pageState(mm, to + 2 * PAGE_SIZE).kind).toBe('zero');
    expect(memory.load8(to + PAGE_SIZE)).toBe(5);
    expect(mm.minFlt).toBe(faults);
    expect(() => memory.load8(addr + PAGE_SIZE)).toThrow(TestFault);
  });

  test('a table that is moved whole is hung over', () => {
    const addr = map(1024, AREA);
    const { memory } = attachUser(mm);
    for (let i = 0; i < 1024; i++) memory.store8(addr + i * PAGE_SIZE, i);
    expect(mm.pgtablesBytes).toBe(4 * PAGE_SIZE);
    const to = AREA + 3 * PUD_SIZE;
    // DONTUNMAP leaves the old mapping: its tables went, but the one above them.
    move(addr, to, 1024 * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP);
    expect(mm.pgtablesBytes).toBe(5 * PAGE_SIZE);
    expect(memory.load8(to + 77 * PAGE_SIZE)).toBe(77);
    expect(memory.load8(addr + 77 * PAGE_SIZE)).toBe(0);
  });

  test('a move that begins inside a table takes the table, where nothing else is in it', () => {
    const addr = map(700, AREA + 100 * PAGE_SIZE);
    const { memory } = attachUser(mm);
    for (let i = 0; i < 700; i++) memory.store8(addr + i * PAGE_SIZE, i);
    const to = AREA + 8 * PMD_SIZE + 100 * PAGE_SIZE;
    move(addr, to, 700 * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP);
    // The second table is shared with what is behind: it is copied.
    expect(mm.pgtablesBytes).toBe(5 * PAGE_SIZE);
    for (let i = 0; i < 700; i++) expect(memory.load8(to + i * PAGE_SIZE)).toBe(i & 0xff);
  });

  test('a whole GiB is one entry', () => {
    const addr = map(PUD_SIZE / PAGE_SIZE, AREA, MAP_PRIVATE | MAP_NORESERVE);
    const { memory } = attachUser(mm);
    memory.store8(addr, 1);
    memory.store8(addr + 300 * PMD_SIZE, 2);
    const to = AREA + 6 * PUD_SIZE;
    move(addr, to, PUD_SIZE);
    expect(mm.pgtablesBytes).toBe(4 * PAGE_SIZE);
    expect([memory.load8(to), memory.load8(to + 300 * PMD_SIZE)]).toEqual([1, 2]);
  });
});
