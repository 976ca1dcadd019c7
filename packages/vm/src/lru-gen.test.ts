import { Errno, MADV_COLD, MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { UserMemory } from '@pagelab/abi';
import { GFP_KERNEL, NODE_STAT, PG_REFERENCED, PG_WORKINGSET } from '@pagelab/mm-core';
import type { PageAllocHooks } from '@pagelab/mm-core';
import { beforeEach, describe, expect, it, test } from 'vitest';
import { genOfLruvec } from './lru-gen.ts';
import type { LruGen } from './lru-gen.ts';
import { BloomFilters } from './lru-gen-bloom.ts';
import { lruGenCommand, lruGenText } from './lru-gen-debugfs.ts';
import { lruGenReclaim, lruGenReclaimBefore614 } from './lru-gen-policy.ts';
import type { LruGenReclaim } from './lru-gen-policy.ts';
import { TierStats, tierOf } from './lru-gen-tiers.ts';
import { doMadvise } from './madvise.ts';
import type { MmStruct } from './mm-struct.ts';
import { doMmap } from './mmap.ts';
import { pageState } from './page-walk.ts';
import type { ReclaimPolicyFactory } from './reclaim.ts';
import { RECLAIMER_KSWAPD, ScanControl } from './scan-control.ts';
import { folioMarkAccessed, lruAddDrainAll } from './swap.ts';
import { MemorySwapDevice } from './swap-device.ts';
import { enableSwapArea } from './swapfile.ts';
import { attachUser, testMm, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';
import { installReclaim, tryToFreePages } from './vmscan.ts';

let vm: Vm;
let mm: MmStruct;
let memory: UserMemory;
let gens: LruGen;

function setUp(reclaimPolicy: ReclaimPolicyFactory): void {
  const hooks: PageAllocHooks = {};
  vm = testVm({ memoryBytes: 32 * 2 ** 20, cpus: 1, hooks, reclaimPolicy });
  installReclaim(vm, hooks);
  enableSwapArea(vm, new MemorySwapDevice(vm.ram, 16_384), { path: '/swap', kind: 'file', inode: null, max: 16_384, badPages: [] }, 0);
  mm = testMm(vm);
  memory = attachUser(mm).memory;
  gens = genOfLruvec(vm.pages.lru.lruvecs[0]);
}

beforeEach(() => {
  setUp(lruGenReclaim);
});

function touched(nrPages: number): number {
  const prot = PROT_READ | PROT_WRITE;
  const addr = doMmap(mm, { file: null, addr: 0, length: nrPages * PAGE_SIZE, prot, flags: MAP_PRIVATE | MAP_ANONYMOUS, pgoff: 0 });
  touch(addr, nrPages);
  lruAddDrainAll(vm);
  return addr;
}

function touch(addr: number, nrPages: number): void {
  for (let page = 0; page < nrPages; page++) memory.store32(addr + page * PAGE_SIZE, page + 1);
}

const resident = (addr: number, nrPages: number): number =>
  Array.from({ length: nrPages }, (_, page) => pageState(mm, addr + page * PAGE_SIZE)).filter(({ kind }) => kind === 'anon').length;
const frame = (addr: number): number => pageState(mm, addr).pfn;
const lists = (): LruGenReclaim['lists'] => (vm.reclaim.policy as LruGenReclaim).lists;
const seqOf = (addr: number): number => {
  const gen = lists().folioGen(frame(addr));
  for (let seq = gens.maxSeq; seq > gens.maxSeq - 4; seq--) if (seq % 4 === gen) return seq;
  return -1;
};
const newGeneration = (): number => lruGenCommand(vm, `+ 0 0 ${gens.maxSeq}`);

test('a page in use is noted once, and joins the youngest generation the second time', () => {
  const addr = touched(128);
  const first = seqOf(addr);
  expect(first).toBe(gens.maxSeq - 1);
  newGeneration();
  expect([seqOf(addr), vm.frames.flags[frame(addr)] & PG_REFERENCED]).toEqual([first, PG_REFERENCED]);
  touch(addr, 64);
  newGeneration();
  expect(seqOf(addr)).toBe(gens.maxSeq - 1);
  expect(vm.frames.flags[frame(addr)] & PG_WORKINGSET).toBe(PG_WORKINGSET);
  expect(seqOf(addr + 100 * PAGE_SIZE)).toBe(first);
  validateVm(vm);
});

test('what is used stays, whatever its age, and what is not goes', () => {
  const hot = touched(512);
  const cold = touched(512);
  for (let round = 0; round < 4; round++) {
    touch(hot, 512);
    newGeneration();
  }
  let freed = 0;
  for (let tries = 0; tries < 20 && freed < 400; tries++) freed += tryToFreePages(vm, GFP_KERNEL, 0, 400 - freed, 1);
  expect(freed).toBeGreaterThanOrEqual(400);
  expect(resident(hot, 512)).toBe(512);
  expect(resident(cold, 512)).toBeLessThanOrEqual(112);
  validateVm(vm);
});

test('advice that pages are cold takes them out of the youngest generation', () => {
  const addr = touched(128);
  newGeneration();
  touch(addr, 128);
  newGeneration();
  expect([seqOf(addr), vm.frames.flags[frame(addr)] & PG_WORKINGSET]).toEqual([gens.maxSeq - 1, PG_WORKINGSET]);
  doMadvise(mm, addr, 64 * PAGE_SIZE, MADV_COLD);
  lruAddDrainAll(vm);
  expect([seqOf(addr), vm.frames.flags[frame(addr)] & PG_WORKINGSET]).toEqual([gens.maxSeq - 1, 0]);
  expect(vm.frames.flags[frame(addr + 64 * PAGE_SIZE)] & PG_WORKINGSET).toBe(PG_WORKINGSET);
  validateVm(vm);
});

test('an address space that did not run is not walked, unless that is forced', () => {
  const addr = touched(128);
  newGeneration();
  touch(addr, 128);
  vm.smp.cpus[0].loadCr3(vm.kernelPgd * PAGE_SIZE);
  mm.ranSinceWalk = 0;
  newGeneration();
  expect(pageState(mm, addr).accessed).toBe(true);
  lruGenCommand(vm, `+ 0 0 ${gens.maxSeq} 60 1`);
  expect(pageState(mm, addr).accessed).toBe(false);
});

test('reclaim that finds an entry used looks at those around it', () => {
  const addr = touched(256);
  const middle = 128;
  vm.reclaim.rmap.referenced(frame(addr + middle * PAGE_SIZE));
  vm.smp.flushBatch();
  const seen = Array.from({ length: 256 }, (_, page) => !pageState(mm, addr + page * PAGE_SIZE).accessed);
  expect([seen.indexOf(true), seen.lastIndexOf(true), seen.filter(Boolean).length]).toEqual([middle - 32, middle + 31, 64]);
});

test('uses through files are told apart up to four, and then make a page one of the working set', () => {
  const pfn = frame(touched(1));
  const refs = Array.from({ length: 5 }, () => {
    folioMarkAccessed(vm, pfn);
    return [lists().folioRefs(pfn), (vm.frames.flags[pfn] & PG_WORKINGSET) !== 0];
  });
  expect(refs).toEqual([[1, false], [2, false], [3, false], [4, false], [4, true]]);
  expect([0, 1, 2, 3, 4].map((count) => tierOf(count, false))).toEqual([0, 0, 1, 2, 2]);
  expect(tierOf(0, true)).toBe(3);
});

test('a tier whose pages come back is protected, and a kind whose pages come back is spared', () => {
  const tiers = new TierStats();
  expect(tiers.lastEvictable(1)).toBe(3);
  tiers.evicted.set([0, 0, 0, 0, 1000, 1000, 0, 0]);
  // 300 of 1,000 pages that were used twice come back, 100 of the others.
  tiers.refaulted.set([0, 0, 0, 0, 100, 300, 0, 0]);
  expect(tiers.lastEvictable(1)).toBe(0);
  tiers.refaulted.set([0, 0, 0, 0, 100, 140, 0, 0]);
  expect(tiers.lastEvictable(1)).toBe(3);
  expect(tiers.typeToScan(60)).toBe(0);
  tiers.carryOver(1);
  tiers.carryOver(1);
  tiers.carryOver(1);
  expect(tiers.typeToScan(60)).toBe(1);
  expect([tiers.typeToScan(0), tiers.typeToScan(200)]).toEqual([1, 0]);
});

test('a filter says yes to what was added, and to few others', () => {
  const filters = new BloomFilters();
  expect(filters.mayHave(7, 1)).toBe(true);
  filters.reset(7);
  for (let item = 0; item < 1000; item++) filters.add(7, item * 512);
  expect(Array.from({ length: 1000 }, (_, item) => filters.mayHave(7, item * 512)).every(Boolean)).toBe(true);
  const wrong = Array.from({ length: 10_000 }, (_, item) => filters.mayHave(7, 1 + item * 512)).filter(Boolean).length;
  expect(wrong).toBeLessThan(300);
  filters.reset(7);
  expect(filters.mayHave(7, 512)).toBe(false);
});

test('the file in debugfs tells of generations and takes commands', () => {
  touched(200);
  vm.clock.advance(5e6);
  expect(newGeneration()).toBe(0);
  const lines = lruGenText(vm, false).split('\n');
  expect(lines[0]).toBe('memcg     0 ');
  expect(lines[1]).toBe(' node     0');
  expect(lines.slice(2, -1).map((line) => line.trim().split(/ +/).map(Number))).toEqual([
    [1, 5, 0, 0],
    [2, 5, 200, 0],
    [3, 5, 0, 0],
    [4, 0, 0, 0],
  ]);
  expect(lruGenCommand(vm, `+ 0 0 ${gens.maxSeq - 1}`)).toBe(-Errno.EEXIST);
  expect(lruGenCommand(vm, `+ 0 0 ${gens.maxSeq + 1}`)).toBe(-Errno.EINVAL);
  expect(lruGenCommand(vm, `+ 0 1 ${gens.maxSeq}`)).toBe(-Errno.EINVAL);
  expect(lruGenCommand(vm, 'x')).toBe(-Errno.EINVAL);
  expect(lruGenCommand(vm, `- 0 0 ${gens.maxSeq - 1}`)).toBe(-Errno.EINVAL);
  expect(lruGenCommand(vm, `- 0 0 2 200 200; + 0 0 ${gens.maxSeq}`)).toBe(0);
  lruAddDrainAll(vm);
  expect(lruGenCommand(vm, `- 0 0 2 200 200`)).toBe(0);
  expect(gens.size(2, 0)).toBeLessThan(200);
});

test('where nothing is as old as min_ttl_ms, somebody goes', () => {
  touched(2000);
  let killed = 0;
  vm.reclaim.outOfMemory = () => void killed++;
  const [lruvec] = vm.pages.lru.lruvecs;
  const age = (): void => {
    const sc = new ScanControl(0, GFP_KERNEL, 0, 1, RECLAIMER_KSWAPD);
    sc.priority = 4;
    vm.reclaim.policy.age(lruvec, sc);
  };
  age();
  vm.reclaim.lruGen.minTtlMs = 1000;
  age();
  expect(killed).toBe(1);
  vm.clock.advance(2e9);
  age();
  expect(killed).toBe(1);
});

describe('before 6.14', () => {
  beforeEach(() => {
    setUp(lruGenReclaimBefore614);
  });

  it('a page in use joins the youngest generation the first time', () => {
    const addr = touched(128);
    expect([seqOf(addr), gens.maxSeq]).toEqual([3, 3]);
    newGeneration();
    touch(addr, 64);
    newGeneration();
    expect([seqOf(addr), seqOf(addr + 100 * PAGE_SIZE), gens.maxSeq]).toEqual([4, 3, 5]);
    expect(vm.frames.flags[frame(addr)] & (PG_REFERENCED | PG_WORKINGSET)).toBe(0);
    validateVm(vm);
  });

  it('uses through files beyond the first are counted, the second of them as that of the working set', () => {
    const pfn = frame(touched(1));
    const refs = Array.from({ length: 6 }, () => {
      folioMarkAccessed(vm, pfn);
      return [lists().folioRefs(pfn), lists().tier(pfn)];
    });
    expect(refs).toEqual([[0, 0], [1, 1], [2, 2], [3, 2], [4, 3], [4, 3]]);
  });

  it('a refault tells of the oldest generation alone', () => {
    const pfn = frame(touched(1));
    const { policy } = vm.reclaim;
    for (let use = 0; use < 4; use++) folioMarkAccessed(vm, pfn);
    const shadow = policy.eviction(pfn);
    const activated = (): number => vm.pages.nodeState(NODE_STAT.WORKINGSET_ACTIVATE_ANON);
    policy.refault(pfn, shadow);
    expect([activated(), lists().folioRefs(pfn), gens.tiers.refaulted[2]]).toEqual([1, 4, 1]);
    gens.minSeq[0]++;
    policy.refault(pfn, shadow);
    gens.minSeq[0]--;
    expect([activated(), vm.pages.nodeState(NODE_STAT.WORKINGSET_REFAULT_ANON)]).toEqual([1, 2]);
  });

  it('the kind to take first follows from the tiers that were used least', () => {
    const tiers = new TierStats();
    tiers.evicted.set([1000, 0, 0, 0, 1000, 1000, 0, 0]);
    tiers.refaulted.set([500, 0, 0, 0, 100, 300, 0, 0]);
    expect(tiers.typeAndTier(100)).toEqual({ type: 1, lastTier: 3 });
    tiers.refaulted.set([100, 0, 0, 0, 500, 300, 0, 0]);
    expect(tiers.typeAndTier(100).type).toBe(0);
    // Half as often again, or twice as often as the first tier's.
    tiers.refaulted.set([0, 0, 0, 0, 100, 140, 0, 0]);
    expect([tiers.lastEvictable(1), tiers.lastEvictable(1, true)]).toEqual([3, 3]);
    tiers.refaulted.set([0, 0, 0, 0, 100, 160, 0, 0]);
    expect([tiers.lastEvictable(1), tiers.lastEvictable(1, true)]).toEqual([0, 3]);
    tiers.refaulted.set([0, 0, 0, 0, 100, 200, 0, 0]);
    expect([tiers.lastEvictable(1), tiers.lastEvictable(1, true)]).toEqual([0, 0]);
  });
});
