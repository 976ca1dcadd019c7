import {
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  MAP_SHARED,
  PAGE_SIZE,
  PROT_EXEC,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from '@pagelab/abi';
import { PF_INSTR, PF_PROT, PF_USER, PF_WRITE } from '@pagelab/hw';
import { VM_EVENT } from '@pagelab/mm-core';
import { beforeEach, describe, expect, test } from 'vitest';
import { doMmap } from './mmap.ts';
import { dupMm, mmput } from './mm-lifetime.ts';
import { MM_ANONPAGES, MM_SHMEMPAGES } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { FAULT_ACCERR, FAULT_MAPERR, FAULT_OK, FAULT_SIGBUS } from './fault-flags.ts';
import { handlePageFault } from './page-fault.ts';
import { pageState } from './page-walk.ts';
import { TestFault, attachUser, testMm, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';

const RW = PROT_READ | PROT_WRITE;
const PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS;
const SHARED = MAP_SHARED | MAP_ANONYMOUS;

let vm: Vm;
let mm: MmStruct;

beforeEach(() => {
  vm = testVm();
  mm = testMm(vm);
});

function map(pages: number, prot: number, flags: number, into = mm): number {
  const addr = doMmap(into, { file: null, addr: 0, length: pages * PAGE_SIZE, prot, flags, pgoff: 0 });
  expect(addr).toBeGreaterThan(0);
  return addr;
}

function fork(of: MmStruct): MmStruct {
  const child = dupMm(of, of.limits);
  if (typeof child === 'number') throw new Error(`dupMm: ${child}`);
  return child;
}

describe('anonymous memory', () => {
  test('a read shows the zero page, which counts nowhere; a write gets a frame', () => {
    const addr = map(4, RW, PRIVATE);
    const { memory } = attachUser(mm);
    expect(memory.load8(addr)).toBe(0);
    expect(pageState(mm, addr)).toMatchObject({ kind: 'zero', pfn: vm.zeroPfn, writable: false });
    expect(mm.rss[MM_ANONPAGES]).toBe(0);
    memory.store8(addr, 7);
    expect(pageState(mm, addr)).toMatchObject({ kind: 'anon', writable: true, dirty: true, accessed: true });
    memory.store8(addr + PAGE_SIZE, 8);
    expect(mm.rss[MM_ANONPAGES]).toBe(2);
    expect(mm.minFlt).toBe(3);
    expect(memory.load8(addr)).toBe(7);
    expect(vm.pages.events[VM_EVENT.PGFAULT]).toBe(3);
    validateVm(vm);
  });

  test('what the mapping does not allow', () => {
    expect(handlePageFault(mm, 0x5000, PF_USER)).toBe(FAULT_MAPERR);
    expect(handlePageFault(mm, -0x778000000000, PF_USER)).toBe(FAULT_MAPERR);
    expect(handlePageFault(mm, 0x7ffffffff000, PF_USER)).toBe(FAULT_MAPERR);
    const readOnly = map(1, PROT_READ, PRIVATE);
    expect(handlePageFault(mm, readOnly, PF_USER | PF_WRITE)).toBe(FAULT_ACCERR);
    expect(handlePageFault(mm, readOnly, PF_USER)).toBe(FAULT_OK);
    // Fetching brings the page in first; then the CPU refuses.
    expect(handlePageFault(mm, readOnly, PF_USER | PF_INSTR)).toBe(FAULT_OK);
    expect(handlePageFault(mm, readOnly, PF_USER | PF_INSTR | PF_PROT)).toBe(FAULT_ACCERR);
    const none = map(1, PROT_NONE, PRIVATE);
    expect(handlePageFault(mm, none, PF_USER)).toBe(FAULT_ACCERR);
    const writeOnly = map(1, PROT_WRITE, PRIVATE);
    const execOnly = map(1, PROT_EXEC, PRIVATE);
    const { memory } = attachUser(mm);
    expect(memory.load8(writeOnly)).toBe(0);
    expect(memory.load8(execOnly)).toBe(0);
    expect(memory.fetch8(execOnly)).toBe(0);
    expect(() => memory.store8(execOnly, 1)).toThrow(TestFault);
    validateVm(vm);
  });
});

describe('copy on write', () => {
  test('both sides keep their own, the last one left reuses', () => {
    const addr = map(2, RW, PRIVATE);
    const parent = attachUser(mm, 0);
    parent.memory.store8(addr, 1);
    const frame = pageState(mm, addr).pfn;
    const child = fork(mm);
    const { memory } = attachUser(child, 1);
    validateVm(vm);
    expect(pageState(child, addr)).toMatchObject({ pfn: frame, writable: false, accessed: false, mapcount: 2 });
    expect(memory.load8(addr)).toBe(1);
    memory.store8(addr, 2);
    expect(parent.memory.load8(addr)).toBe(1);
    expect(pageState(mm, addr)).toMatchObject({ pfn: frame, writable: false, mapcount: 1 });
    parent.memory.store8(addr, 3);
    expect(pageState(mm, addr)).toMatchObject({ pfn: frame, writable: true });
    expect(memory.load8(addr)).toBe(2);
    expect(vm.pages.events[VM_EVENT.PGREUSE]).toBe(1);
    validateVm(vm);
    mmput(child);
    validateVm(vm);
  });

  test('shared memory stays common, and its pages are not entered in the child', () => {
    const addr = map(2, RW, SHARED);
    const parent = attachUser(mm, 0);
    parent.memory.store8(addr, 1);
    const child = fork(mm);
    expect(child.rss[MM_SHMEMPAGES]).toBe(0);
    const { memory } = attachUser(child, 1);
    expect(memory.load8(addr)).toBe(1);
    memory.store8(addr + PAGE_SIZE, 5);
    expect(parent.memory.load8(addr + PAGE_SIZE)).toBe(5);
    expect(mm.rss[MM_SHMEMPAGES]).toBe(2);
    validateVm(vm);
    mmput(child);
    mmput(mm);
    validateVm(vm);
    vm.pages.validate();
  });
});

test('beyond the end of a shared object is a bus error', () => {
  const addr = map(2, RW, SHARED);
  const vma = mm.vmas.get(addr)!;
  vma.file!.inode.size = PAGE_SIZE;
  expect(handlePageFault(mm, addr, PF_USER | PF_WRITE)).toBe(FAULT_OK);
  expect(handlePageFault(mm, addr + PAGE_SIZE, PF_USER)).toBe(FAULT_SIGBUS);
});
