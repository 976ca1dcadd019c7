import {
  MADV_COLLAPSE,
  MADV_DONTNEED,
  MADV_FREE,
  MADV_HUGEPAGE,
  MADV_NOHUGEPAGE,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
} from '@pagelab/abi';
import { NODE_STAT, VM_EVENT } from '@pagelab/mm-core';
import { expect, test } from 'vitest';
import { doMadvise } from './madvise.ts';
import { doMincore } from './mincore.ts';
import { doMlock, doMunlock } from './mlock.ts';
import { dupMm, mmput } from './mm-lifetime.ts';
import { MM_ANONPAGES } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { doMmap } from './mmap.ts';
import { doMprotect } from './mprotect.ts';
import { doMremap } from './mremap.ts';
import { vmMunmap } from './munmap.ts';
import { pageState, smapsOf } from './page-walk.ts';
import { pageMappings } from './rmap.ts';
import { attachUser, testMm, testVm } from './testing/test-machine.ts';
import { copyFromUser, copyToUser } from './uaccess.ts';
import { validateVm } from './validate.ts';

const HUGE = 512 * PAGE_SIZE;
const BASE = 0x4000_0000;
const RW = PROT_READ | PROT_WRITE;

/** Two blocks of memory that wants huge pages, and a program that runs in it. */
function setup(advice = MADV_HUGEPAGE): {
  mm: MmStruct;
  memory: ReturnType<typeof attachUser>['memory'];
  huge: (of?: MmStruct) => number;
  event: (name: 'THP_FAULT_ALLOC' | 'THP_SPLIT_PMD' | 'THP_SPLIT_PAGE' | 'THP_DEFERRED_SPLIT_PAGE' | 'THP_COLLAPSE_ALLOC') => number;
} {
  const vm = testVm({ memoryBytes: 64 * 2 ** 20, cpus: 2 });
  vm.thpMode = 'madvise';
  const mm = testMm(vm);
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  expect(doMmap(mm, { file: null, addr: BASE, length: 2 * HUGE, prot: RW, flags, pgoff: 0 })).toBe(BASE);
  expect(doMadvise(mm, BASE, 2 * HUGE, advice)).toBe(0);
  return {
    mm,
    memory: attachUser(mm).memory,
    huge: (of = mm) => [...of.vmas].reduce((sum, vma) => sum + smapsOf(vma).anonHugePages, 0) / HUGE,
    event: (name) => vm.pages.events[VM_EVENT[name]],
  };
}

test('one store fills a block, in one fault', () => {
  const { mm, memory, huge, event } = setup();
  memory.store32(BASE + 5 * PAGE_SIZE, 7);
  validateVm(mm.vm);
  expect([mm.minFlt, mm.rss[MM_ANONPAGES], huge(), event('THP_FAULT_ALLOC')]).toEqual([1, 512, 1, 1]);
  expect(mm.vm.pages.nodeState(NODE_STAT.NR_ANON_THPS)).toBe(512);
  expect(memory.load32(BASE + 4 * PAGE_SIZE)).toBe(0);
  expect(memory.load32(BASE + 5 * PAGE_SIZE)).toBe(7);
  // Two upper tables, and the one that waits below the entry.
  expect(mm.pgtablesBytes).toBe(3 * PAGE_SIZE);
  const { pfn } = pageState(mm, BASE);
  expect(pageState(mm, BASE + 9 * PAGE_SIZE)).toMatchObject({ pfn: pfn + 9, kind: 'anon', writable: true, mapcount: 1 });
  expect(pageMappings(mm.vm, pfn + 9)).toMatchObject([{ address: BASE + 9 * PAGE_SIZE }]);
  expect(doMincore(mm, BASE + 510 * PAGE_SIZE, 3 * PAGE_SIZE)).toEqual(new Uint8Array([1, 1, 0]));
  mmput(mm);
  validateVm(mm.vm);
  mm.vm.pages.validate();
});

test('small pages where advice, mapping or memory have it so', () => {
  const { mm, memory, huge } = setup(MADV_NOHUGEPAGE);
  mm.vm.thpMode = 'always';
  memory.store8(BASE, 1);
  expect(huge()).toBe(0);
  expect(doMadvise(mm, BASE, 2 * HUGE, MADV_HUGEPAGE)).toBe(0);
  memory.store8(BASE + PAGE_SIZE, 1);
  // A table is there already.
  expect(huge()).toBe(0);
  memory.store8(BASE + HUGE, 1);
  expect(huge()).toBe(1);
  expect(vmMunmap(mm, BASE, 2 * HUGE - PAGE_SIZE)).toBe(0);
  expect(vmMunmap(mm, BASE + 2 * HUGE - PAGE_SIZE, PAGE_SIZE)).toBe(0);
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  doMmap(mm, { file: null, addr: BASE + PAGE_SIZE, length: HUGE, prot: RW, flags, pgoff: 0 });
  memory.store8(BASE + PAGE_SIZE, 1);
  expect(huge()).toBe(0);
  validateVm(mm.vm);
});

test('a read shows the huge zero page, which the first write replaces', () => {
  const { mm, memory, huge } = setup();
  expect(memory.load32(BASE + 77 * PAGE_SIZE)).toBe(0);
  validateVm(mm.vm);
  expect([mm.rss[MM_ANONPAGES], mm.depositedTables.length, huge()]).toEqual([0, 1, 0]);
  expect(pageState(mm, BASE + PAGE_SIZE).kind).toBe('zero');
  memory.store32(BASE + 77 * PAGE_SIZE, 1);
  validateVm(mm.vm);
  expect([mm.rss[MM_ANONPAGES], huge()]).toEqual([512, 1]);
  expect(memory.load32(BASE + HUGE)).toBe(0);
  expect(doMadvise(mm, BASE + HUGE, PAGE_SIZE, MADV_DONTNEED)).toBe(0);
  validateVm(mm.vm);
  expect(pageState(mm, BASE + HUGE).kind).toBe('none');
  expect(pageState(mm, BASE + HUGE + PAGE_SIZE).kind).toBe('zero');
});

test('what is unmapped in part is split, and freed when memory is short', () => {
  const { mm, memory, huge, event } = setup();
  memory.store32(BASE, 7);
  memory.store32(BASE + 2 * PAGE_SIZE, 8);
  expect(doMadvise(mm, BASE + 2 * PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED)).toBe(0);
  validateVm(mm.vm);
  expect([huge(), mm.rss[MM_ANONPAGES], event('THP_SPLIT_PMD'), event('THP_DEFERRED_SPLIT_PAGE')]).toEqual([0, 511, 1, 1]);
  expect(event('THP_SPLIT_PAGE')).toBe(0);
  expect([memory.load32(BASE), memory.load32(BASE + 2 * PAGE_SIZE)]).toEqual([7, 0]);
  expect(mm.vm.deferredSplit.scan(null, 0, Infinity)).toBe(1);
  validateVm(mm.vm);
  expect([event('THP_SPLIT_PAGE'), memory.load32(BASE)]).toEqual([1, 7]);
  expect(mm.vm.deferredSplit.scan(null, 0, Infinity)).toBe(0);
  expect(vmMunmap(mm, BASE, HUGE)).toBe(0);
  validateVm(mm.vm);
  mm.vm.pages.validate();
});

test('fork shares it; a write splits and copies a small page; the last holder takes it over', () => {
  const { mm, memory, huge, event } = setup();
  memory.store32(BASE, 7);
  const child = dupMm(mm, mm.limits);
  if (typeof child === 'number') throw new Error('fork');
  validateVm(mm.vm);
  expect([huge(), huge(child), pageState(mm, BASE).mapcount]).toEqual([1, 1, 2]);
  expect(copyToUser(child, BASE + PAGE_SIZE, new Uint8Array([9]))).toBe(0);
  validateVm(mm.vm);
  expect([huge(), huge(child), event('THP_SPLIT_PMD')]).toEqual([1, 0, 1]);
  expect(memory.load32(BASE + PAGE_SIZE)).toBe(0);
  expect(copyFromUser(child, BASE, 1)).toEqual(new Uint8Array([7]));
  mmput(child);
  validateVm(mm.vm);
  memory.store32(BASE + PAGE_SIZE, 3);
  validateVm(mm.vm);
  expect([huge(), event('THP_SPLIT_PMD')]).toEqual([1, 1]);
});

test('mprotect keeps a whole block, and splits it for a part', () => {
  const { mm, memory, huge } = setup();
  memory.store32(BASE, 7);
  for (const prot of [PROT_READ, 0, RW]) {
    expect(doMprotect(mm, BASE, HUGE, prot)).toBe(0);
    validateVm(mm.vm);
    expect(huge()).toBe(1);
  }
  memory.store32(BASE, 8);
  expect(doMprotect(mm, BASE + PAGE_SIZE, PAGE_SIZE, PROT_READ)).toBe(0);
  validateVm(mm.vm);
  expect([huge(), memory.load32(BASE), pageState(mm, BASE + PAGE_SIZE).writable]).toEqual([0, 8, false]);
});

test('mremap hangs an aligned block over, and splits another', () => {
  const { mm, memory, huge } = setup();
  memory.store32(BASE + PAGE_SIZE, 7);
  const to = BASE + 16 * HUGE;
  expect(doMremap(mm, BASE, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED, to)).toBe(to);
  validateVm(mm.vm);
  expect([huge(), memory.load32(to + PAGE_SIZE)]).toEqual([1, 7]);
  const off = BASE + 32 * HUGE + PAGE_SIZE;
  expect(doMremap(mm, to, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED, off)).toBe(off);
  validateVm(mm.vm);
  expect([huge(), memory.load32(off + PAGE_SIZE)]).toEqual([0, 7]);
});

test('locking, and advice about use', () => {
  const { mm, memory, huge } = setup();
  memory.store32(BASE, 7);
  expect(doMlock(mm, BASE, 2 * HUGE, 0)).toBe(0);
  validateVm(mm.vm);
  expect(huge()).toBe(2);
  expect(doMunlock(mm, BASE, PAGE_SIZE)).toBe(0);
  validateVm(mm.vm);
  expect(huge()).toBe(1);
  expect(doMunlock(mm, BASE, 2 * HUGE)).toBe(0);
  expect(doMadvise(mm, BASE + HUGE, HUGE, MADV_FREE)).toBe(0);
  validateVm(mm.vm);
  expect(memory.load32(BASE)).toBe(7);
});

test('MADV_COLLAPSE makes a huge page of small ones', () => {
  const { mm, memory, huge, event } = setup(MADV_NOHUGEPAGE);
  mm.vm.thpMode = 'never';
  for (let i = 0; i < 512; i += 3) memory.store32(BASE + i * PAGE_SIZE, i);
  expect(doMadvise(mm, BASE, HUGE, MADV_COLLAPSE)).toBe(-22);
  expect(doMadvise(mm, BASE, 2 * HUGE, MADV_HUGEPAGE)).toBe(0);
  expect(doMadvise(mm, BASE, HUGE, MADV_COLLAPSE)).toBe(0);
  validateVm(mm.vm);
  expect([huge(), mm.rss[MM_ANONPAGES], event('THP_COLLAPSE_ALLOC')]).toEqual([1, 512, 1]);
  for (let i = 0; i < 512; i++) expect(memory.load32(BASE + i * PAGE_SIZE)).toBe(i % 3 === 0 ? i : 0);
  expect(doMadvise(mm, BASE, HUGE, MADV_COLLAPSE)).toBe(0);
  // Nothing is there to collapse.
  expect(doMadvise(mm, BASE + HUGE, HUGE, MADV_COLLAPSE)).toBe(-22);
  expect(event('THP_COLLAPSE_ALLOC')).toBe(1);
});
