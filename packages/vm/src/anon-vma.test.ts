import { MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PAGE_SIZE, PROT_NONE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import { PF_USER, PF_WRITE } from '@pagelab/hw';
import { beforeEach, expect, test } from 'vitest';
import { doMmap } from './mmap.ts';
import { doMprotect } from './mprotect.ts';
import { dupMm, mmput } from './mm-lifetime.ts';
import type { MmStruct } from './mm-struct.ts';
import { handlePageFault } from './page-fault.ts';
import { pageState } from './page-walk.ts';
import { pageMappings } from './rmap.ts';
import { testMm, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';
import type { VmArea } from './vma.ts';

const BASE = 0x1000_0000;
const RW = PROT_READ | PROT_WRITE;

let vm: Vm;
let mm: MmStruct;

beforeEach(() => {
  vm = testVm();
  mm = testMm(vm);
});

function map(pages: number, addr = BASE): VmArea {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  expect(doMmap(mm, { file: null, addr, length: pages * PAGE_SIZE, prot: RW, flags, pgoff: 0 })).toBe(addr);
  return mm.vmas.get(addr)!;
}

function write(to: MmStruct, addr: number): void {
  expect(handlePageFault(to, addr, PF_USER | PF_WRITE)).toBe(0);
}

function fork(of: MmStruct): MmStruct {
  const child = dupMm(of, of.limits);
  if (typeof child === 'number') throw new Error(`fork: ${child}`);
  return child;
}

test('reading makes none; the first write does', () => {
  const vma = map(2);
  expect(handlePageFault(mm, BASE, PF_USER)).toBe(0);
  expect(vma.anonVma).toBeNull();
  write(mm, BASE);
  expect(vma.anonVma).not.toBeNull();
  expect(vma.anonVma!.root).toBe(vma.anonVma);
  validateVm(vm);
});

test('a neighbour that differs in rights only shares its anon_vma, so that the two can merge again', () => {
  map(8);
  write(mm, BASE);
  expect(doMprotect(mm, BASE + 4 * PAGE_SIZE, 4 * PAGE_SIZE, PROT_NONE)).toBe(0);
  const low = mm.vmas.get(BASE)!;
  const high = mm.vmas.get(BASE + 4 * PAGE_SIZE)!;
  expect(high.anonVma).toBe(low.anonVma);
  expect(low.anonVma!.numActiveVmas).toBe(2);
  expect(doMprotect(mm, BASE + 4 * PAGE_SIZE, 4 * PAGE_SIZE, RW)).toBe(0);
  expect(mm.vmas.size).toBe(1);
  validateVm(vm);
});

test('two untouched parts that could be one come to share what the first write makes', () => {
  map(8);
  expect(doMprotect(mm, BASE + 4 * PAGE_SIZE, 4 * PAGE_SIZE, PROT_READ)).toBe(0);
  write(mm, BASE);
  expect(doMprotect(mm, BASE + 5 * PAGE_SIZE, PAGE_SIZE, RW)).toBe(0);
  write(mm, BASE + 5 * PAGE_SIZE);
  // Its neighbours have none yet: it gets one of its own.
  expect(mm.vmas.get(BASE + 5 * PAGE_SIZE)!.anonVma).not.toBe(mm.vmas.get(BASE)!.anonVma);
  validateVm(vm);
});

test('a child records new pages below its parent, and knows of all its ancestors', () => {
  map(4);
  write(mm, BASE);
  const child = fork(mm);
  const grandchild = fork(child);
  const parentVma = mm.vmas.get(BASE)!;
  const childVma = child.vmas.get(BASE)!;
  const grandVma = grandchild.vmas.get(BASE)!;
  expect(childVma.anonVma!.parent).toBe(parentVma.anonVma);
  expect(grandVma.anonVma!.parent).toBe(childVma.anonVma);
  expect(grandVma.anonVma!.root).toBe(parentVma.anonVma);
  expect(grandVma.anonVmaChain.map(({ anonVma }) => anonVma)).toEqual([
    parentVma.anonVma,
    childVma.anonVma,
    grandVma.anonVma,
  ]);
  // A page of the parent's is found in all three; one of the child's own in the child only.
  expect(pageMappings(vm, pageState(mm, BASE).pfn)).toHaveLength(3);
  write(child, BASE);
  expect(pageMappings(vm, pageState(child, BASE).pfn)).toEqual([{ mm: child, vma: childVma, address: BASE }]);
  validateVm(vm);
});

test('a chain of forks whose parents exit reuses the anon_vmas they leave', () => {
  map(4);
  write(mm, BASE);
  let current = mm;
  for (let generation = 0; generation < 50; generation++) {
    const child = fork(current);
    mmput(current);
    current = child;
    write(current, BASE + (generation % 4) * PAGE_SIZE);
    validateVm(vm);
  }
  // Without reuse the chain would have 51 links.
  expect(current.vmas.get(BASE)!.anonVmaChain.length).toBeLessThanOrEqual(3);
  mmput(current);
  expect(vm.anonVmas.size).toBe(0);
});

test('a page found through a tree of forks', () => {
  map(1);
  write(mm, BASE);
  const family = [mm];
  for (let i = 0; i < 30; i++) family.push(fork(family[Math.floor(i / 2)]));
  const { pfn } = pageState(mm, BASE);
  expect(pageMappings(vm, pfn)).toHaveLength(31);
  // Each writes: the last one keeps the frame.
  for (const member of family.slice(1)) write(member, BASE);
  expect(pageMappings(vm, pfn).map((found) => found.mm)).toEqual([mm]);
  write(mm, BASE);
  expect(pageState(mm, BASE).pfn).toBe(pfn);
  validateVm(vm);
  // The root outlives the rest of its family.
  for (const member of family) mmput(member);
  expect(vm.anonVmas.size).toBe(0);
  validateVm(vm);
});

test('frames that are no user\'s have no mappings', () => {
  expect(pageMappings(vm, vm.zeroPfn)).toEqual([]);
  expect(pageMappings(vm, mm.pgd)).toEqual([]);
  expect(pageMappings(vm, 1)).toEqual([]);
});
