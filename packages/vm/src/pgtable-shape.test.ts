/**
 * The same address space in each shape of page tables.
 */
import { MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PAGE_SIZE, PROT_EXEC, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import { PF_INSTR, PF_PROT, PF_USER, PTE_ACCESSED, PTE_DIRTY, TRANSLATE_FAULT, ptePfn } from '@pagelab/hw';
import { OWNER_PAGE_TABLE, VM_EVENT } from '@pagelab/mm-core';
import { beforeEach, describe, expect, test } from 'vitest';
import { doMprotect } from './mprotect.ts';
import { dupMm, mmput } from './mm-lifetime.ts';
import type { MmStruct } from './mm-struct.ts';
import { doMmap } from './mmap.ts';
import { vmMunmap } from './munmap.ts';
import { FAULT_ACCERR, FAULT_MAPERR } from './fault-flags.ts';
import { handlePageFault } from './page-fault.ts';
import { pageState } from './page-walk.ts';
import { findPmd, findPte } from './pgtable.ts';
import { TestFault, attachUser, testMm, testVm } from './testing/test-machine.ts';
import type { TestArch } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';

const RW = PROT_READ | PROT_WRITE;
const BASE = 0x4000_0000;

/** Tables of an empty address space below its top level; tables below that for one page; bytes of an entry; entries of a table. */
const SHAPES: readonly [TestArch, number, number, number, number][] = [
  ['x86-64', 0, 3, 8, 512],
  ['x86-pae', 3, 1, 8, 512],
  ['x86-32', 0, 1, 4, 1024],
];

let vm: Vm;
let mm: MmStruct;

function map(addr: number, pages: number, prot = RW): void {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  expect(doMmap(mm, { file: null, addr, length: pages * PAGE_SIZE, prot, flags, pgoff: 0 })).toBe(addr);
}

describe.each(SHAPES)('%s', (arch, empty, perPage, entryBytes, entries) => {
  beforeEach(() => {
    vm = testVm({ arch });
    mm = testMm(vm);
  });

  test('tables are made where they are missing, counted, and go with their mappings', () => {
    const tables = vm.pages.census()[OWNER_PAGE_TABLE];
    expect(mm.pgtablesBytes).toBe(empty * PAGE_SIZE);
    const { memory } = attachUser(mm);
    map(BASE, entries + 1);
    memory.store8(BASE, 1);
    memory.store8(BASE + entries * PAGE_SIZE, 1);
    expect(mm.pgtablesBytes).toBe((empty + perPage + 1) * PAGE_SIZE);
    expect(findPmd(mm, BASE + entries * PAGE_SIZE) - findPmd(mm, BASE)).toBe(entryBytes / 4);
    vmMunmap(mm, BASE + entries * PAGE_SIZE, PAGE_SIZE);
    expect(mm.pgtablesBytes).toBe((empty + perPage) * PAGE_SIZE);
    validateVm(vm);
    mmput(mm);
    vm.smp.cpus[0].loadCr3(vm.kernelPgd * PAGE_SIZE);
    expect(tables - vm.pages.census()[OWNER_PAGE_TABLE]).toBe(empty + 1);
  });

  test('entries are what hardware walks, which marks them accessed and dirty', () => {
    const { memory } = attachUser(mm);
    map(BASE, 2);
    expect(memory.load8(BASE)).toBe(0);
    const zero = vm.ram.i32[findPte(mm, BASE)];
    memory.store8(BASE, 1);
    const entry = findPte(mm, BASE);
    const { pfn } = pageState(mm, BASE);
    expect([ptePfn(zero, 0), ptePfn(vm.ram.i32[entry], 0)]).toEqual([vm.zeroPfn, pfn]);
    vm.ram.i32[entry] &= ~(PTE_ACCESSED | PTE_DIRTY);
    vm.smp.flushTlbMm(mm.pgd * PAGE_SIZE);
    memory.load8(BASE);
    expect(pageState(mm, BASE)).toMatchObject({ accessed: true, dirty: false });
    memory.store8(BASE, 2);
    expect(pageState(mm, BASE)).toMatchObject({ accessed: true, dirty: true });
    // A neighbour's entry is next to it, and untouched.
    expect(vm.ram.i32[entry + entryBytes / 4]).toBe(0);
    validateVm(vm);
  });

  test('a child shares pages until one side stores; whole tables below the top come and go', () => {
    const port = attachUser(mm);
    map(BASE, 2);
    port.memory.store32(BASE, 1);
    const child = dupMm(mm, mm.limits) as MmStruct;
    const inChild = attachUser(child, 1);
    inChild.memory.store32(BASE, 2);
    expect([port.memory.load32(BASE), inChild.memory.load32(BASE)]).toEqual([1, 2]);
    port.memory.store32(BASE, 3);
    expect([pageState(mm, BASE).mapcount, vm.pages.events[VM_EVENT.PGREUSE]]).toEqual([1, 1]);
    vmMunmap(child, BASE, 2 * PAGE_SIZE);
    expect(() => inChild.memory.load32(BASE)).toThrow(TestFault);
    expect(doMmap(child, { file: null, addr: BASE, length: PAGE_SIZE, prot: RW, flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, pgoff: 0 })).toBe(BASE);
    expect(inChild.memory.load32(BASE)).toBe(0);
    validateVm(vm);
  });

  test('what may be read may be executed where entries have no bit that forbids it', () => {
    const cpu = vm.smp.cpus[0];
    const { memory } = attachUser(mm);
    map(BASE, 1);
    memory.store8(BASE, 1);
    const fetch = (): number => cpu.translate(BASE, PF_USER | PF_INSTR);
    const may = arch === 'x86-32';
    expect(fetch() !== TRANSLATE_FAULT).toBe(may);
    if (!may) {
      expect(cpu.faultErrorCode).toBe(PF_PROT | PF_USER | PF_INSTR);
      expect(handlePageFault(mm, BASE, cpu.faultErrorCode)).toBe(FAULT_ACCERR);
    }
    expect(doMprotect(mm, BASE, PAGE_SIZE, PROT_READ | PROT_EXEC)).toBe(0);
    expect(fetch()).toBe(vm.ram.frameWord(pageState(mm, BASE).pfn) * 4);
    expect(doMprotect(mm, BASE, PAGE_SIZE, 0)).toBe(0);
    expect(fetch()).toBe(TRANSLATE_FAULT);
    expect(handlePageFault(mm, BASE, PF_USER | PF_INSTR)).toBe(FAULT_ACCERR);
    validateVm(vm);
  });

  test('the kernel\'s half is nobody\'s to map or touch', () => {
    const { memory } = attachUser(mm);
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    expect(doMmap(mm, { file: null, addr: mm.taskSize, length: PAGE_SIZE, prot: RW, flags, pgoff: 0 })).toBeLessThan(0);
    map(mm.taskSize - PAGE_SIZE, 1);
    memory.store8(mm.taskSize - 1, 5);
    expect(() => memory.load8(mm.taskSize)).toThrow(TestFault);
    expect(handlePageFault(mm, mm.taskSize, PF_USER)).toBe(FAULT_MAPERR);
    validateVm(vm);
  });

  test('changing a protection flushes only where a right is lost', () => {
    const { memory } = attachUser(mm);
    map(BASE, 1, PROT_READ);
    memory.load8(BASE);
    const before = vm.smp.stats.shootdowns;
    doMprotect(mm, BASE, PAGE_SIZE, PROT_READ | PROT_EXEC);
    doMprotect(mm, BASE, PAGE_SIZE, PROT_READ);
    expect(vm.smp.stats.shootdowns - before).toBe(arch === 'x86-32' ? 0 : 1);
  });
});

test('PAE: a CPU that runs in the address space sees a top-level entry that is filled again', () => {
  vm = testVm({ arch: 'x86-pae' });
  mm = testMm(vm);
  const { memory } = attachUser(mm);
  map(BASE, 1);
  memory.store8(BASE, 1);
  // Nothing else lies in this GiB: its table goes.
  vmMunmap(mm, BASE, 2 ** 30);
  expect(mm.pgtablesBytes).toBe(2 * PAGE_SIZE);
  expect(() => memory.load8(BASE)).toThrow(TestFault);
  map(BASE, 1);
  memory.store8(BASE, 2);
  expect([memory.load8(BASE), mm.pgtablesBytes]).toEqual([2, 4 * PAGE_SIZE]);
  validateVm(vm);
});
