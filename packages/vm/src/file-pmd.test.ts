/** What is expected here was seen on Linux 6.18: `smaps`, `vmstat` and results of the same steps. */
import {
  Errno,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  MADV_COLLAPSE,
  MADV_DONTNEED,
  MADV_NOHUGEPAGE,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
} from '@pagelab/abi';
import { GFP_HIGHUSER_MOVABLE, GFP_TRANSHUGE, MIGRATE_SYNC, MR_COMPACTION, NODE_STAT, VM_EVENT } from '@pagelab/mm-core';
import { beforeEach, expect, test } from 'vitest';
import type { VmFile } from './file.ts';
import { KernelBuffer, fileRead, fileWrite } from './filemap.ts';
import { doMadvise } from './madvise.ts';
import { isolateMovable, migratePages, putbackMovablePages } from './migrate.ts';
import { doMincore } from './mincore.ts';
import { doMlock, doMunlock } from './mlock.ts';
import { dupMm, mmput } from './mm-lifetime.ts';
import { MM_ANONPAGES, MM_SHMEMPAGES } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { doMmap } from './mmap.ts';
import { doMprotect } from './mprotect.ts';
import { doMremap } from './mremap.ts';
import { vmMunmap } from './munmap.ts';
import { filePut } from './open-file.ts';
import { pageState, smapsOf } from './page-walk.ts';
import { shmemFallocate, shmemFileSetup, shmemTruncate } from './shmem.ts';
import { attachUser, testMm, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';

const HUGE = 512 * PAGE_SIZE;
const BASE = 0x4000_0000;
const RW = PROT_READ | PROT_WRITE;
const PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

let vm: Vm;
let mm: MmStruct;
let memory: ReturnType<typeof attachUser>['memory'];
let file: VmFile;

beforeEach(() => {
  vm = testVm({ memoryBytes: 64 * 2 ** 20, cpus: 2 });
  mm = testMm(vm);
  memory = attachUser(mm).memory;
  file = shmemFileSetup(vm, '/memfd:test (deleted)', 4 * HUGE, false) as VmFile;
});

function map(addr = BASE, length = 2 * HUGE, flags = MAP_SHARED, pgoff = 0): number {
  return doMmap(mm, { file, addr, length, prot: RW, flags: flags | MAP_FIXED, pgoff });
}

function collapse(addr = BASE, length = HUGE): number {
  return doMadvise(mm, addr, length, MADV_COLLAPSE);
}

/** Resident pages, and blocks that one entry shows, of all mappings. */
function shown(of = mm): [rss: number, huge: number] {
  const sizes = [...of.vmas].map(smapsOf);
  return [sizes.reduce((sum, { rss }) => sum + rss, 0) / PAGE_SIZE, sizes.reduce((sum, each) => sum + each.shmemPmdMapped, 0) / HUGE];
}

function count(name: keyof typeof VM_EVENT): number {
  return vm.pages.events[VM_EVENT[name]];
}

function hugeFolios(): number {
  return vm.pages.nodeState(NODE_STAT.NR_SHMEM_THPS) / 512;
}

test('collapsing a block fills it, has it shown by one entry, and keeps what is in it', () => {
  map();
  expect(collapse()).toBe(-Errno.EINVAL);
  expect([count('THP_COLLAPSE_ALLOC'), count('THP_FILE_MAPPED')]).toEqual([1, 0]);
  memory.store32(BASE + 5 * PAGE_SIZE, 7);
  expect(collapse()).toBe(0);
  expect(shown()).toEqual([512, 1]);
  expect([count('THP_COLLAPSE_ALLOC'), count('THP_FILE_MAPPED'), hugeFolios()]).toEqual([2, 1, 1]);
  expect(file.inode.mapping.pages.size).toBe(512);
  expect(smapsOf(mm.vmas.get(BASE)!)).toMatchObject({ privateDirty: HUGE, referenced: HUGE });
  expect([memory.load32(BASE + 5 * PAGE_SIZE), memory.load32(BASE + 6 * PAGE_SIZE)]).toEqual([7, 0]);
  expect(collapse()).toBe(0);
  expect(count('THP_COLLAPSE_ALLOC')).toBe(2);
  validateVm(vm);
});

test('what of a range cannot be collapsed is told', () => {
  map();
  for (const block of [0, HUGE]) memory.store32(BASE + block, 1);
  expect(collapse(BASE + PAGE_SIZE, 2 * PAGE_SIZE)).toBe(-Errno.EINVAL);
  expect(collapse(BASE, PAGE_SIZE)).toBe(0);
  expect(collapse(BASE + HUGE - PAGE_SIZE, PAGE_SIZE)).toBe(0);
  expect(shown()).toEqual([2, 0]);
  expect(collapse(BASE, 1.5 * HUGE)).toBe(0);
  expect(shown()).toEqual([513, 1]);
  map(BASE, HUGE, MAP_SHARED, 1);
  expect(collapse()).toBe(-Errno.EINVAL);
  map(BASE, HUGE);
  doMadvise(mm, BASE, HUGE, MADV_NOHUGEPAGE);
  expect(collapse()).toBe(-Errno.EINVAL);
  memory.load32(BASE);
  expect(shown()).toEqual([513, 0]);
  vm.shmemThp.enabled = 'deny';
  map(BASE + HUGE, HUGE, MAP_SHARED, 512);
  expect(collapse(BASE + HUGE)).toBe(-Errno.EINVAL);
  validateVm(vm);
});

test('a part that is unmapped, given up or protected takes the entry along', () => {
  map();
  memory.store32(BASE, 1);
  memory.store32(BASE + HUGE, 1);
  expect(collapse(BASE, 2 * HUGE)).toBe(0);
  expect(shown()).toEqual([1024, 2]);
  vmMunmap(mm, BASE + PAGE_SIZE, PAGE_SIZE);
  expect([shown(), count('THP_SPLIT_PMD'), count('THP_SPLIT_PAGE'), hugeFolios()]).toEqual([[512, 1], 1, 0, 2]);
  expect(memory.load32(BASE)).toBe(1);
  expect(shown()).toEqual([513, 1]);
  // As far around as a read fault looks.
  memory.load32(BASE + 2 * PAGE_SIZE);
  expect(shown()).toEqual([513 + 16, 1]);
  doMadvise(mm, BASE + HUGE + PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED);
  expect([shown(), count('THP_SPLIT_PMD')]).toEqual([[17, 0], 2]);
  memory.load32(BASE + HUGE);
  expect(shown()).toEqual([529, 1]);
  doMprotect(mm, BASE + HUGE, PAGE_SIZE, PROT_READ);
  expect(shown()).toEqual([17, 0]);
  validateVm(vm);
  vmMunmap(mm, BASE, 2 * HUGE);
  expect(mm.rss[MM_SHMEMPAGES]).toBe(0);
  validateVm(vm);
});

test('a hole in a folio splits it by halves; each is mapped whole where it is touched', () => {
  map();
  memory.store32(BASE, 9);
  memory.store32(BASE + 100 * PAGE_SIZE, 8);
  expect(collapse()).toBe(0);
  expect(shmemFallocate(vm, file.inode, PUNCH, 3 * PAGE_SIZE, PAGE_SIZE)).toBe(0);
  expect([shown(), hugeFolios(), count('THP_SPLIT_PAGE'), file.inode.mapping.pages.size]).toEqual([[0, 0], 0, 1, 511]);
  expect(memory.load32(BASE + 100 * PAGE_SIZE)).toBe(8);
  expect(shown()).toEqual([64, 0]);
  memory.load32(BASE + 300 * PAGE_SIZE);
  expect(shown()).toEqual([320, 0]);
  expect([memory.load32(BASE), memory.load32(BASE + 3 * PAGE_SIZE)]).toEqual([9, 0]);
  validateVm(vm);
});

test('a file cut in the middle of a folio keeps what is before the cut', () => {
  map();
  memory.store32(BASE, 9);
  expect(collapse()).toBe(0);
  shmemTruncate(vm, file.inode, HUGE / 2 + 5);
  expect([file.inode.mapping.pages.size, hugeFolios(), count('THP_SPLIT_PAGE')]).toEqual([257, 0, 1]);
  expect(memory.load32(BASE)).toBe(9);
  validateVm(vm);
});

test('a block that reaches beyond the end of the file is collapsed, and shown, whole', () => {
  shmemTruncate(vm, file.inode, HUGE / 2);
  map();
  memory.store32(BASE, 1);
  expect(collapse()).toBe(0);
  expect([shown(), memory.load32(BASE + HUGE - PAGE_SIZE)]).toEqual([[512, 1], 0]);
  vmMunmap(mm, BASE, 2 * HUGE);
  map();
  doMadvise(mm, BASE, HUGE, MADV_NOHUGEPAGE);
  memory.load32(BASE + 5 * PAGE_SIZE);
  expect(shown()).toEqual([512, 0]);
  validateVm(vm);
});

test('a private mapping shows the folio until it stores to it', () => {
  map();
  memory.store32(BASE, 3);
  expect(collapse()).toBe(0);
  map(BASE + 4 * HUGE, HUGE, MAP_PRIVATE);
  expect(memory.load32(BASE + 4 * HUGE)).toBe(3);
  expect(shown()).toEqual([1024, 2]);
  memory.store32(BASE + 4 * HUGE, 4);
  expect([shown(), mm.rss[MM_ANONPAGES]]).toEqual([[513, 1], 1]);
  expect([memory.load32(BASE), memory.load32(BASE + 4 * HUGE)]).toEqual([3, 4]);
  expect(collapse(BASE + 4 * HUGE)).toBe(-Errno.EINVAL);
  validateVm(vm);
});

test('a child finds the folio by itself', () => {
  map();
  memory.store32(BASE, 3);
  expect(collapse()).toBe(0);
  const child = dupMm(mm, mm.limits) as MmStruct;
  expect(shown(child)).toEqual([0, 0]);
  const other = attachUser(child, 1).memory;
  expect(other.load32(BASE)).toBe(3);
  expect([shown(child), smapsOf(child.vmas.get(BASE)!).pss]).toEqual([[512, 1], HUGE / 2]);
  expect(vm.pages.nodeState(NODE_STAT.NR_SHMEM_PMDMAPPED)).toBe(512);
  other.store32(BASE + PAGE_SIZE, 5);
  expect(memory.load32(BASE + PAGE_SIZE)).toBe(5);
  validateVm(vm);
  mmput(child);
  expect(shown()).toEqual([512, 1]);
  validateVm(vm);
});

test('the whole block changes its rights, moves and is locked as one', () => {
  map();
  memory.store32(BASE, 3);
  expect(collapse()).toBe(0);
  doMprotect(mm, BASE, 2 * HUGE, PROT_READ);
  expect([shown(), pageState(mm, BASE).writable]).toEqual([[512, 1], false]);
  doMprotect(mm, BASE, 2 * HUGE, RW);
  expect([shown(), pageState(mm, BASE).writable]).toEqual([[512, 1], true]);
  expect(doMremap(mm, BASE, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + 8 * HUGE)).toBe(BASE + 8 * HUGE);
  expect([shown(), memory.load32(BASE + 8 * HUGE)]).toEqual([[512, 1], 3]);
  expect(doMlock(mm, BASE + 8 * HUGE, HUGE, 0)).toBe(0);
  expect(smapsOf(mm.vmas.get(BASE + 8 * HUGE)!)).toMatchObject({ locked: HUGE, shmemPmdMapped: HUGE });
  validateVm(vm);
  doMunlock(mm, BASE + 8 * HUGE, PAGE_SIZE);
  expect([shown(), count('THP_SPLIT_PMD')]).toEqual([[0, 0], 1]);
  validateVm(vm);
  doMremap(mm, BASE + 8 * HUGE, PAGE_SIZE, PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, BASE);
  expect(memory.load32(BASE)).toBe(3);
  validateVm(vm);
});

test('read, write and mincore see the folio', () => {
  map();
  memory.store32(BASE, 3);
  expect(collapse()).toBe(0);
  const bytes = new Uint8Array(3 * PAGE_SIZE).fill(6);
  expect(fileWrite(vm, file.inode, HUGE - PAGE_SIZE, bytes.length, new KernelBuffer(bytes))).toBe(bytes.length);
  expect([memory.load8(BASE + HUGE - 1), memory.load8(BASE + HUGE)]).toEqual([6, 6]);
  const back = new Uint8Array(2);
  expect(fileRead(vm, file, HUGE - 1, 2, new KernelBuffer(back))).toBe(2);
  expect([...back]).toEqual([6, 6]);
  const there = doMincore(mm, BASE, 2 * HUGE) as Uint8Array;
  expect(there.reduce((sum, each) => sum + each, 0)).toBe(514);
  validateVm(vm);
});

test('a folio that is shown by one entry moves whole, and by its pages where there is no block', () => {
  map();
  memory.store32(BASE, 3);
  memory.store32(BASE + 77 * PAGE_SIZE, 4);
  expect(collapse()).toBe(0);
  const child = dupMm(mm, mm.limits) as MmStruct;
  expect(attachUser(child, 1).memory.load32(BASE)).toBe(3);
  // The child shows a part of it by small entries.
  doMadvise(child, BASE, PAGE_SIZE, MADV_DONTNEED);
  attachUser(child, 1).memory.load32(BASE + 77 * PAGE_SIZE);
  const { pfn } = pageState(mm, BASE);
  const move = (order: number): void => {
    const list = [pageState(mm, BASE).pfn];
    expect(isolateMovable(vm, list[0])).toBe(true);
    expect(isolateMovable(vm, list[0] + 1)).toBe(false);
    migratePages(vm, list, (_, wanted) => (wanted > order ? -1 : vm.pages.allocPages(wanted > 0 ? GFP_TRANSHUGE : GFP_HIGHUSER_MOVABLE, wanted)), MIGRATE_SYNC, MR_COMPACTION);
    putbackMovablePages(vm, list);
    validateVm(vm);
  };
  move(9);
  expect(pageState(mm, BASE).pfn).not.toBe(pfn);
  expect([shown(), count('THP_MIGRATION_SUCCESS'), count('THP_SPLIT_PAGE'), memory.load32(BASE + 77 * PAGE_SIZE)]).toEqual([[512, 1], 1, 0, 4]);
  move(0);
  expect([shown(), hugeFolios(), count('THP_MIGRATION_SPLIT'), count('THP_SPLIT_PAGE')]).toEqual([[0, 0], 0, 1, 1]);
  expect([memory.load32(BASE), memory.load32(BASE + 77 * PAGE_SIZE)]).toEqual([3, 4]);
  mmput(child);
  validateVm(vm);
});

test('memory shared without a file has folios, too', () => {
  doMmap(mm, { file: null, addr: BASE, length: 2 * HUGE, prot: RW, flags: MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, pgoff: 0 });
  memory.store32(BASE, 1);
  memory.store32(BASE + HUGE, 1);
  expect(collapse(BASE, 2 * HUGE)).toBe(0);
  expect(shown()).toEqual([1024, 2]);
  validateVm(vm);
  mmput(mm);
  expect(hugeFolios()).toBe(0);
  filePut(vm, file);
});
