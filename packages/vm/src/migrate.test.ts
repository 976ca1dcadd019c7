import { MADV_HUGEPAGE, MAP_FIXED, MAP_SHARED, PAGE_SIZE, PROT_READ } from '@pagelab/abi';
import {
  GFP_HIGHUSER_MOVABLE,
  GFP_TRANSHUGE,
  MIGRATE_ASYNC,
  MIGRATE_SYNC,
  MR_COMPACTION,
  MR_SYSCALL,
  NODE_STAT,
  PG_DIRTY,
  PG_LOCKED,
  PG_MLOCKED,
  VM_EVENT,
  ZONE_STAT,
  __GFP_THISNODE,
} from '@pagelab/mm-core';
import { expect, test } from 'vitest';
import { KernelBuffer, fileSync, fileWrite } from './filemap.ts';
import { doMadvise } from './madvise.ts';
import { isolateMovable, migratePages, putbackMovablePages } from './migrate.ts';
import { doMlock } from './mlock.ts';
import { doMmap } from './mmap.ts';
import { allocFile, inodePut } from './open-file.ts';
import { pageState } from './page-walk.ts';
import { RW, TestSpace } from './testing/test-space.ts';
import { testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';

const SHARED_ANON = MAP_SHARED | 0x20;

function isolate(vm: Vm, ...pfns: number[]): number[] {
  for (const pfn of pfns) expect(isolateMovable(vm, pfn)).toBe(true);
  return pfns;
}

function migrate(vm: Vm, list: number[], mode = MIGRATE_SYNC): number {
  return migratePages(vm, list, (_, order) => vm.pages.allocPages(order > 0 ? GFP_TRANSHUGE : GFP_HIGHUSER_MOVABLE, order), mode, MR_COMPACTION);
}

test('every mapping of a private page goes over, with the rights it has, for one interrupt', () => {
  const parent = new TestSpace();
  const { vm } = parent;
  parent.fixed(0, 4);
  parent.touch(0, 4, 9);
  const child = parent.fork();
  // Each on a CPU of its own.
  vm.smp.cpus[1].loadCr3(child.mm.pgd * PAGE_SIZE);
  parent.touch(0, 0);
  const before = pageState(parent.mm, parent.at(1));
  expect(before).toMatchObject({ mapcount: 2, writable: false });
  vm.smp.processorId = 0;
  const { ipis } = vm.smp.stats;
  const list = isolate(vm, ...[0, 1, 2].map((page) => pageState(parent.mm, parent.at(page)).pfn));
  expect(vm.pages.nodeState(NODE_STAT.NR_ISOLATED_ANON)).toBe(3);
  expect(migrate(vm, list)).toBe(0);
  expect(list).toEqual([]);
  const after = pageState(parent.mm, parent.at(1));
  expect(after).toEqual({ ...before, pfn: after.pfn });
  expect(after.pfn).not.toBe(before.pfn);
  expect(pageState(child.mm, child.at(1)).pfn).toBe(after.pfn);
  expect(vm.smp.stats.ipis - ipis).toBe(1);
  expect(vm.pages.nodeState(NODE_STAT.NR_ISOLATED_ANON)).toBe(0);
  expect(vm.pages.events[VM_EVENT.PGMIGRATE_SUCCESS]).toBe(3);
  validateVm(vm);
  expect(parent.memory().load8(parent.at(1))).toBe(9);
});

test('a page that somebody else holds stays, and is put back', () => {
  const space = new TestSpace();
  const { vm } = space;
  space.fixed(0, 2);
  space.touch(0, 2);
  const [pinned, free] = [0, 1].map((page) => pageState(space.mm, space.at(page)).pfn);
  vm.pages.getPage(pinned);
  const list = isolate(vm, pinned, free);
  expect(migrate(vm, list)).toBe(1);
  expect(list).toEqual([pinned]);
  expect(vm.pages.events[VM_EVENT.PGMIGRATE_FAIL]).toBe(1);
  putbackMovablePages(vm, list);
  vm.pages.putPage(pinned);
  expect(pageState(space.mm, space.at(0)).pfn).toBe(pinned);
  validateVm(vm);
  vm.frames.flags[pinned] |= PG_LOCKED;
  const again = isolate(vm, pinned);
  expect(migrate(vm, again, MIGRATE_ASYNC)).toBe(1);
  vm.frames.flags[pinned] &= ~PG_LOCKED;
  putbackMovablePages(vm, again);
  validateVm(vm);
});

test('without frames the rest is left', () => {
  const space = new TestSpace();
  const { vm } = space;
  space.fixed(0, 3);
  space.touch(0, 3);
  const pfns = [0, 1, 2].map((page) => pageState(space.mm, space.at(page)).pfn);
  const list = isolate(vm, ...pfns);
  let frames = 1;
  const result = migratePages(vm, list, () => (frames-- > 0 ? vm.pages.allocPage(GFP_HIGHUSER_MOVABLE) : -12), MIGRATE_SYNC, MR_COMPACTION);
  expect([result, list]).toEqual([-12, pfns.slice(1)]);
  putbackMovablePages(vm, list);
  validateVm(vm);
});

test('what is no page of a process or file is not isolated', () => {
  const { vm, mm } = new TestSpace();
  expect(isolateMovable(vm, mm.pgd)).toBe(false);
  expect(isolateMovable(vm, vm.zeroPfn)).toBe(false);
  expect(isolateMovable(vm, vm.pages.virtToPfn(vm.caches.mm.alloc(0)))).toBe(false);
});

test('a file finds its page at the new frame, and writes it back from there', () => {
  const space = new TestSpace();
  const { vm, mm } = space;
  const inode = vm.blockFs.makeFile(0o644, 1);
  if (typeof inode === 'number') throw new Error('makeFile');
  fileWrite(vm, inode, 0, 8192, new KernelBuffer(new Uint8Array(8192).fill(3)));
  const file = allocFile(vm, inode, '/f', { readable: true, writable: true })!;
  fileSync(file, 0, 1);
  doMmap(mm, { file, addr: space.at(0), length: 2 * PAGE_SIZE, prot: RW, flags: MAP_SHARED | MAP_FIXED, pgoff: 0 });
  space.memory().store8(space.at(0), 77);
  const dirty = vm.pages.nodeState(NODE_STAT.NR_FILE_DIRTY);
  expect(dirty).toBeGreaterThan(0);
  const { pfn } = pageState(mm, space.at(0));
  expect(migrate(vm, isolate(vm, pfn), MIGRATE_ASYNC)).toBe(0);
  const moved = inode.mapping.pages.get(0);
  expect(moved).not.toBe(pfn);
  expect(pageState(mm, space.at(0)).pfn).toBe(moved);
  expect((vm.frames.flags[moved] & PG_DIRTY) !== 0).toBe(true);
  expect(vm.pages.nodeState(NODE_STAT.NR_FILE_DIRTY)).toBe(dirty);
  validateVm(vm);
  expect(fileSync(file, 0, 1)).toBe(0);
  expect(vm.pages.nodeState(NODE_STAT.NR_FILE_DIRTY)).toBe(0);
  expect(space.memory().load8(space.at(0))).toBe(77);
  inodePut(inode);
});

test('shared memory that nobody maps moves too', () => {
  const space = new TestSpace();
  const { vm, mm } = space;
  space.fixed(0, 1, RW, SHARED_ANON);
  space.touch(0, 1, 5);
  const { mapping } = mm.vmas.get(space.at(0))!.file!.inode;
  const pfn = mapping.pages.get(0);
  doMadvise(mm, space.at(0), PAGE_SIZE, 4);
  expect(vm.frames.mapcount[pfn]).toBe(0);
  expect(migrate(vm, isolate(vm, pfn))).toBe(0);
  expect(mapping.pages.get(0)).not.toBe(pfn);
  expect(space.memory().load8(space.at(0))).toBe(5);
  validateVm(vm);
});

test('counters of nodes and zones follow', () => {
  const vm = testVm({ nodes: [{ memoryBytes: 64 * 2 ** 20, cpus: [0] }, { memoryBytes: 64 * 2 ** 20, cpus: [1] }] });
  const space = new TestSpace({ vm });
  vm.smp.processorId = 0;
  space.fixed(0, 2);
  space.fixed(2, 1, RW, SHARED_ANON);
  space.touch(0, 3);
  expect(doMlock(space.mm, space.at(0), 2 * PAGE_SIZE, 0)).toBe(0);
  const stats = (nid: number): number[] => {
    const { vmStat, zones } = vm.pages.nodes[nid];
    const locked = zones.reduce((sum, zone) => sum + zone.state(ZONE_STAT.NR_MLOCK), 0);
    return [vmStat[NODE_STAT.NR_ANON_MAPPED], vmStat[NODE_STAT.NR_FILE_MAPPED], vmStat[NODE_STAT.NR_SHMEM], vmStat[NODE_STAT.NR_FILE_PAGES], locked];
  };
  expect([stats(0), stats(1)]).toEqual([[2, 1, 1, 1, 2], [0, 0, 0, 0, 0]]);
  const list = isolate(vm, ...[0, 1, 2].map((page) => pageState(space.mm, space.at(page)).pfn));
  const onNode1 = (): number => vm.pages.allocPagesNode(1, GFP_HIGHUSER_MOVABLE | __GFP_THISNODE, 0);
  expect(migratePages(vm, list, onNode1, MIGRATE_SYNC, MR_SYSCALL)).toBe(0);
  expect([stats(0), stats(1)]).toEqual([[0, 0, 0, 0, 0], [2, 1, 1, 1, 2]]);
  const { pfn } = pageState(space.mm, space.at(0));
  expect(vm.frames.flags[pfn] & PG_MLOCKED).toBe(PG_MLOCKED);
  validateVm(vm);
});

test('a huge page moves whole, and by its parts where there is no block', () => {
  const space = new TestSpace();
  const { vm, mm } = space;
  vm.thpMode = 'madvise';
  space.fixed(512, 512);
  doMadvise(mm, space.at(512), 512 * PAGE_SIZE, MADV_HUGEPAGE);
  space.touch(512, 512, 6);
  const child = space.fork();
  // The child shows a part of it by small entries.
  child.fixed(600, 1, PROT_READ);
  const { pfn } = pageState(mm, space.at(512));
  const before = vm.pages.nodeState(NODE_STAT.NR_ANON_THPS);
  expect(migrate(vm, isolate(vm, pfn))).toBe(0);
  const moved = pageState(mm, space.at(512)).pfn;
  expect(moved).not.toBe(pfn);
  expect(pageState(child.mm, child.at(700)).pfn).toBe(moved + 188);
  expect(vm.pages.nodeState(NODE_STAT.NR_ANON_THPS)).toBe(before);
  expect(vm.pages.events[VM_EVENT.THP_MIGRATION_SUCCESS]).toBe(1);
  validateVm(vm);
  const list = isolate(vm, moved);
  expect(migratePages(vm, list, (_, order) => (order > 0 ? -12 : vm.pages.allocPage(GFP_HIGHUSER_MOVABLE)), MIGRATE_SYNC, MR_SYSCALL)).toBe(0);
  expect(vm.pages.events[VM_EVENT.THP_MIGRATION_SPLIT]).toBe(1);
  expect(vm.pages.events[VM_EVENT.PGMIGRATE_SUCCESS]).toBe(1024);
  expect(vm.pages.nodeState(NODE_STAT.NR_ANON_THPS)).toBe(0);
  expect(vm.pages.nodeState(NODE_STAT.NR_ISOLATED_ANON)).toBe(0);
  validateVm(vm);
  expect(space.memory().load8(space.at(900))).toBe(6);
});
