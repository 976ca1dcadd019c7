import { MADV_DONTNEED, MADV_PAGEOUT, MADV_WILLNEED, MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { UserMemory } from '@pagelab/abi';
import { GFP_HIGHUSER_MOVABLE, MIGRATE_SYNC, MR_COMPACTION, VM_EVENT } from '@pagelab/mm-core';
import type { PageAllocHooks } from '@pagelab/mm-core';
import { expect, test } from 'vitest';
import { doMadvise } from './madvise.ts';
import { isolateMovable, migratePages } from './migrate.ts';
import { doMincore } from './mincore.ts';
import { dupMm, mmput } from './mm-lifetime.ts';
import { MM_ANONPAGES, MM_SWAPENTS } from './mm-struct.ts';
import type { MmStruct } from './mm-struct.ts';
import { doMmap } from './mmap.ts';
import { vmMunmap } from './munmap.ts';
import { pageState, pagemapEntry, smapsOf } from './page-walk.ts';
import { MemorySwapDevice } from './swap-device.ts';
import { swapoffArea } from './swap-unuse.ts';
import { SWAP_FLAG_PREFER, allocSwapSlot, enableSwapArea, putSwapSlot } from './swapfile.ts';
import type { SwapArea } from './swapfile.ts';
import { TestFault, attachUser, testMm, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';
import { installReclaim } from './vmscan.ts';

const MIB = 2 ** 20;

interface Bench {
  vm: Vm;
  mm: MmStruct;
  areas: SwapArea[];
  devices: MemorySwapDevice[];
}

function bench(options: { memory?: number; swaps?: readonly { pages: number; priority?: number }[] } = {}): Bench {
  const hooks: PageAllocHooks = {};
  const vm = testVm({ memoryBytes: options.memory ?? 40 * MIB, cpus: 1, hooks });
  installReclaim(vm, hooks);
  const devices: MemorySwapDevice[] = [];
  const areas = (options.swaps ?? [{ pages: 16_384 }]).map(({ pages, priority }) => {
    const device = new MemorySwapDevice(vm.ram, pages);
    devices.push(device);
    const flags = priority === undefined ? 0 : SWAP_FLAG_PREFER | priority;
    return enableSwapArea(vm, device, { path: `/swap${devices.length}`, kind: 'file', inode: null, max: pages, badPages: [] }, flags) as SwapArea;
  });
  return { vm, mm: testMm(vm), areas, devices };
}

function map(mm: MmStruct, nrPages: number, flags = MAP_PRIVATE): number {
  const prot = PROT_READ | PROT_WRITE;
  return doMmap(mm, { file: null, addr: 0, length: nrPages * PAGE_SIZE, prot, flags: flags | MAP_ANONYMOUS, pgoff: 0 });
}

const userOf = (mm: MmStruct): UserMemory => attachUser(mm).memory;

function fill(memory: UserMemory, addr: number, nrPages: number, salt = 1): void {
  for (let i = 0; i < nrPages; i++) memory.store32(addr + i * PAGE_SIZE + 8, i * 7 + salt);
}

function wrong(memory: UserMemory, addr: number, nrPages: number, salt = 1): number {
  let bad = 0;
  for (let i = 0; i < nrPages; i++) if (memory.load32(addr + i * PAGE_SIZE + 8) !== i * 7 + salt) bad++;
  return bad;
}

test('a program has more memory than the machine', () => {
  const { vm, mm } = bench();
  const memory = userOf(mm);
  const nrPages = (40 * MIB) / PAGE_SIZE;
  const addr = map(mm, nrPages);
  fill(memory, addr, nrPages);
  expect(mm.rss[MM_SWAPENTS]).toBeGreaterThan(2000);
  expect(mm.rss[MM_SWAPENTS] + mm.rss[MM_ANONPAGES]).toBe(nrPages);
  validateVm(vm);
  vm.pages.validate();
  expect(wrong(memory, addr, nrPages)).toBe(0);
  expect(vm.pages.events[VM_EVENT.PSWPIN]).toBeGreaterThan(2000);
  expect(vm.pages.events[VM_EVENT.SWAP_RA_HIT]).toBeGreaterThan(vm.pages.events[VM_EVENT.PGMAJFAULT]);
  validateVm(vm);
  vmMunmap(mm, addr, nrPages * PAGE_SIZE);
  expect(vm.swap.nrFree).toBe(vm.totalSwapPages);
  validateVm(vm);
});

test('what a page was like is kept: alone or shared, its slot counted', () => {
  const { vm, mm } = bench();
  let memory = userOf(mm);
  const addr = map(mm, 8);
  fill(memory, addr, 8);
  expect(doMadvise(mm, addr, 8 * PAGE_SIZE, MADV_PAGEOUT)).toBe(0);
  expect(pageState(mm, addr).kind).toBe('swap');
  expect(mm.rss[MM_SWAPENTS]).toBe(8);
  expect(smapsOf(mm.vmas.get(addr)!)).toMatchObject({ swap: 8 * PAGE_SIZE, swapPss: 8 * PAGE_SIZE, rss: 0 });
  expect(pagemapEntry(mm, addr).hi & (1 << 30)).not.toBe(0);
  expect(doMincore(mm, addr, PAGE_SIZE)).toEqual(new Uint8Array([0]));
  validateVm(vm);
  const child = dupMm(mm, mm.limits) as MmStruct;
  expect(smapsOf(mm.vmas.get(addr)!)).toMatchObject({ swap: 8 * PAGE_SIZE, swapPss: 4 * PAGE_SIZE });
  validateVm(vm);
  const theirs = userOf(child);
  expect(wrong(theirs, addr, 8)).toBe(0);
  validateVm(vm);
  fill(theirs, addr, 4, 99);
  validateVm(vm);
  memory = userOf(mm);
  expect(wrong(memory, addr, 8)).toBe(0);
  expect(wrong(userOf(child), addr, 4, 99)).toBe(0);
  mmput(child);
  validateVm(vm);
  memory = userOf(mm);
  fill(memory, addr, 8, 5);
  expect(mm.rss[MM_SWAPENTS]).toBe(0);
  // Nobody else has them, and they were stored to: no slot is left.
  expect(vm.swap.nrFree).toBe(vm.totalSwapPages);
  doMadvise(mm, addr, 4 * PAGE_SIZE, MADV_PAGEOUT);
  doMadvise(mm, addr, 2 * PAGE_SIZE, MADV_DONTNEED);
  expect(memory.load32(addr + 8)).toBe(0);
  expect(memory.load32(addr + 2 * PAGE_SIZE + 8)).toBe(19);
  doMadvise(mm, addr, 4 * PAGE_SIZE, MADV_WILLNEED);
  expect(doMincore(mm, addr + 3 * PAGE_SIZE, PAGE_SIZE)).toEqual(new Uint8Array([1]));
  validateVm(vm);
});

test('shared memory goes to swap and comes back', () => {
  const { vm, mm } = bench();
  const memory = userOf(mm);
  const nrPages = (40 * MIB) / PAGE_SIZE;
  const addr = map(mm, nrPages, MAP_SHARED);
  fill(memory, addr, nrPages);
  const { mapping } = mm.vmas.get(addr)!.file!.inode;
  expect(mapping.swaps.size).toBeGreaterThan(2000);
  validateVm(vm);
  expect(wrong(memory, addr, nrPages)).toBe(0);
  validateVm(vm);
  vmMunmap(mm, addr, nrPages * PAGE_SIZE);
  expect(vm.swap.nrFree).toBe(vm.totalSwapPages);
  expect(vm.committedAs).toBe(0);
  validateVm(vm);
});

test('areas are used by priority, equal ones in turn', () => {
  const { vm, mm, areas } = bench({ swaps: [{ pages: 2048 }, { pages: 2048, priority: 5 }, { pages: 2048, priority: 5 }] });
  expect(areas.map(({ priority }) => priority)).toEqual([-2, 5, 5]);
  const addr = map(mm, 3000);
  fill(userOf(mm), addr, 3000);
  doMadvise(mm, addr, 3000 * PAGE_SIZE, MADV_PAGEOUT);
  expect(areas[0].inusePages).toBe(0);
  expect(Math.abs(areas[1].inusePages - areas[2].inusePages)).toBeLessThanOrEqual(512);
  expect(areas[1].inusePages + areas[2].inusePages).toBe(3000);
  validateVm(vm);
  expect(swapoffArea(vm, areas[1], null)).toBe(0);
  validateVm(vm);
  expect(swapoffArea(vm, areas[2], null)).toBe(0);
  expect(wrong(userOf(mm), addr, 3000)).toBe(0);
  validateVm(vm);
});

test('a page that cannot be written stays; one that cannot be read is SIGBUS', () => {
  const { vm, mm, devices, areas } = bench();
  const memory = userOf(mm);
  const addr = map(mm, 4);
  fill(memory, addr, 4);
  // Slots are taken from the first cluster on: the header in it makes it one that is partly taken.
  for (let page = 2; page < 5; page++) devices[0].badPages.add(page);
  doMadvise(mm, addr, 4 * PAGE_SIZE, MADV_PAGEOUT);
  expect(vm.swapErrors.writes).toBe(3);
  validateVm(vm);
  expect(wrong(memory, addr, 4)).toBe(0);
  devices[0].badPages.clear();
  doMadvise(mm, addr, 4 * PAGE_SIZE, MADV_PAGEOUT);
  expect(mm.rss[MM_SWAPENTS]).toBe(4);
  for (let page = 1; page < 600; page++) devices[0].badPages.add(page);
  expect(() => memory.load8(addr)).toThrow(TestFault);
  expect(swapoffArea(vm, areas[0], null)).toBe(-5);
  validateVm(vm);
  vmMunmap(mm, addr, 4 * PAGE_SIZE);
  expect(vm.swap.nrFree).toBe(vm.totalSwapPages);
  validateVm(vm);
});

test('pages of the swap cache move to other frames', () => {
  const { vm, mm } = bench();
  const memory = userOf(mm);
  const addr = map(mm, 4);
  fill(memory, addr, 4);
  doMadvise(mm, addr, 4 * PAGE_SIZE, MADV_PAGEOUT);
  // One is mapped, the others only read ahead.
  expect(memory.load32(addr + 8)).toBe(1);
  const area = vm.swap.areas[0]!;
  const cached = [...area.cache].filter((entry) => entry > 0).map((entry) => entry - 1);
  expect(cached.length).toBe(4);
  const list = cached.filter((pfn) => isolateMovable(vm, pfn));
  expect(list.length).toBe(4);
  expect(migratePages(vm, list, () => vm.pages.allocPage(GFP_HIGHUSER_MOVABLE), MIGRATE_SYNC, MR_COMPACTION)).toBe(0);
  validateVm(vm);
  expect(wrong(memory, addr, 4)).toBe(0);
  validateVm(vm);
});

test('slots that came free behind a CPU in its cluster are found again, all of them', () => {
  const { vm, areas } = bench({ swaps: [{ pages: 2048 }] });
  const [area] = areas;
  const taken: number[] = [];
  const takeAll = (): void => {
    for (let entry = allocSwapSlot(vm); entry >= 0; entry = allocSwapSlot(vm)) taken.push(entry);
  };
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 700; i++) taken.push(allocSwapSlot(vm));
    for (const entry of taken.splice(0, 650)) putSwapSlot(vm, entry);
    takeAll();
    expect(vm.swap.nrFree).toBe(0);
    expect(new Set(taken).size).toBe(area.pages);
    taken.splice(0).forEach((entry, i) => {
      if (i % 3 === 0) taken.push(entry);
      else putSwapSlot(vm, entry);
    });
    expect(vm.swap.nrFree).toBe(area.pages - taken.length);
  }
  takeAll();
  expect(new Set(taken).size).toBe(area.pages);
});
