/** That the textbook policies choose as they say: who keeps what is used, who remembers what was used again. */
import { MADV_COLD, MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { UserMemory } from '@pagelab/abi';
import { Prng } from '@pagelab/lib';
import { GFP_KERNEL, VM_EVENT } from '@pagelab/mm-core';
import type { PageAllocHooks } from '@pagelab/mm-core';
import { describe, expect, it } from 'vitest';
import { Ghosts } from './ghost-list.ts';
import { doMadvise } from './madvise.ts';
import type { MmStruct } from './mm-struct.ts';
import { doMmap } from './mmap.ts';
import { pageState } from './page-walk.ts';
import { reclaimPolicies } from './reclaim-policies.ts';
import type { ReclaimPolicyName } from './reclaim-policies.ts';
import { lruAddDrainAll } from './swap.ts';
import { MemorySwapDevice } from './swap-device.ts';
import { enableSwapArea } from './swapfile.ts';
import { attachUser, testMm, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';
import { installReclaim, tryToFreePages } from './vmscan.ts';

const MEMORY_PAGES = 4096;

interface Rig {
  readonly vm: Vm;
  readonly mm: MmStruct;
  readonly memory: UserMemory;
}

function rig(policy: ReclaimPolicyName): Rig {
  const hooks: PageAllocHooks = {};
  const vm = testVm({ memoryBytes: MEMORY_PAGES * PAGE_SIZE, cpus: 1, hooks, reclaimPolicy: reclaimPolicies[policy] });
  vm.sysctl.pageCluster = 0;
  installReclaim(vm, hooks);
  const max = 4 * MEMORY_PAGES;
  enableSwapArea(vm, new MemorySwapDevice(vm.ram, max), { path: '/swap', kind: 'file', inode: null, max, badPages: [] }, 0);
  const mm = testMm(vm);
  return { vm, mm, memory: attachUser(mm).memory };
}

function map({ mm, memory }: Rig, nrPages: number): number {
  const addr = doMmap(mm, { file: null, addr: 0, length: nrPages * PAGE_SIZE, prot: PROT_READ | PROT_WRITE, flags: MAP_PRIVATE | MAP_ANONYMOUS, pgoff: 0 });
  for (let page = 0; page < nrPages; page++) memory.store32(addr + page * PAGE_SIZE, page + 1);
  return addr;
}

/** Touches pages. @returns how many had to be read from swap */
function touch({ vm, memory }: Rig, addr: number, nrPages: number): number {
  const before = vm.pages.events[VM_EVENT.PSWPIN];
  for (let page = 0; page < nrPages; page++) expect(memory.load32(addr + page * PAGE_SIZE)).toBe(page + 1);
  return vm.pages.events[VM_EVENT.PSWPIN] - before;
}

/** Swap-ins of a small part that is used all the time, while a large one is gone through. */
function hotFaults(policy: ReclaimPolicyName): number {
  const set = rig(policy);
  const hot = map(set, 400);
  const [chunk, chunks] = [200, 40];
  let faults = 0;
  for (let i = 0; i < chunks; i++) {
    map(set, chunk);
    faults += touch(set, hot, 400);
  }
  validateVm(set.vm);
  return faults;
}

/** Of 400 pages that were used many times, those that a long scan has driven out. */
function lostToScan(policy: ReclaimPolicyName): number {
  const set = rig(policy);
  const hot = map(set, 400);
  for (let round = 0; round < 4; round++) {
    map(set, MEMORY_PAGES / 4);
    touch(set, hot, 400);
  }
  tryToFreePages(set.vm, GFP_KERNEL, 0, 400, 1);
  touch(set, hot, 400);
  map(set, MEMORY_PAGES);
  return touch(set, hot, 400);
}

describe('pages in use', () => {
  it('stay, and go with first in, first out', () => {
    const fifo = hotFaults('fifo');
    expect(fifo).toBeGreaterThan(800);
    for (const policy of ['second-chance', 'clock', 'lru', 'arc'] as const) expect(hotFaults(policy), policy).toBeLessThan(fifo / 4);
  });
});

describe('pages used again', () => {
  it('stay with arc when others go by once, and go with lru', () => {
    expect(lostToScan('lru')).toBe(400);
    expect(lostToScan('arc')).toBeLessThan(40);
  });
});

describe('lru', () => {
  it('takes pages in the order in which they were used last', () => {
    const set = rig('lru');
    const { vm, mm } = set;
    const parts = Array.from({ length: 5 }, () => map(set, 100));
    lruAddDrainAll(vm);
    const resident = (): number[] =>
      parts.map((addr) => Array.from({ length: 100 }, (_, page) => pageState(mm, addr + page * PAGE_SIZE).kind).filter((kind) => kind === 'anon').length);
    for (let i = 0; i < 3; i++) tryToFreePages(vm, GFP_KERNEL, 0, 100, 1);
    const left = resident();
    // What came in first has gone, the last part is whole, and at most one is in between.
    const first = left.findIndex((count) => count > 0);
    expect(first).toBeGreaterThan(1);
    expect(left.slice(0, first).every((count) => count === 0)).toBe(true);
    expect(left.slice(first + 1).every((count) => count === 100)).toBe(true);
    validateVm(vm);
  });
});

describe('pages that are said to be cold', () => {
  it.each(['fifo', 'second-chance', 'clock', 'lru', 'arc', 'working-set'] as const)('go first with %s', (policy) => {
    const set = rig(policy);
    const { vm, mm } = set;
    const addr = map(set, 400);
    lruAddDrainAll(vm);
    doMadvise(mm, addr + 300 * PAGE_SIZE, 100 * PAGE_SIZE, MADV_COLD);
    lruAddDrainAll(vm);
    for (let tries = 0, freed = 0; tries < 20 && freed < 80; tries++) freed += tryToFreePages(vm, GFP_KERNEL, 0, 80 - freed, 1);
    const gone = (from: number, end: number): number => {
      let count = 0;
      for (let page = from; page < end; page++) if (pageState(mm, addr + page * PAGE_SIZE).kind === 'swap') count++;
      return count;
    };
    expect(gone(300, 400)).toBeGreaterThanOrEqual(80);
    expect(gone(0, 300)).toBe(0);
    validateVm(vm);
  });
});

describe('ghosts', () => {
  it('are what a naive list of them is, at random', () => {
    const prng = new Prng(0x9405);
    const ghosts = new Ghosts(40);
    const lists = [ghosts.createList(), ghosts.createList()];
    const naive: [list: number, number: number][] = [];
    for (let step = 0; step < 3000; step++) {
      const list = prng.below(2);
      const those = naive.filter(([of]) => of === list);
      if (those.length > 40 || (those.length > 0 && prng.below(4) === 0)) {
        ghosts.forgetOldest(lists[list]);
        naive.splice(naive.indexOf(those[0]), 1);
      } else if (naive.length > 0 && prng.below(3) === 0) {
        const at = prng.below(naive.length);
        const [of, number] = naive[at];
        expect(ghosts.recall(lists[list], number)).toBe(of === list);
        if (of === list) naive.splice(at, 1);
      } else {
        const number = ghosts.remember(lists[list]);
        // One whose row is wanted again is forgotten.
        const same = naive.findIndex(([, other]) => other % 128 === number % 128);
        if (same >= 0) naive.splice(same, 1);
        naive.push([list, number]);
      }
      for (const id of [0, 1]) expect(lists[id].length).toBe(naive.filter(([of]) => of === id).length);
      for (const each of lists) ghosts.validate(each);
    }
  });
});
