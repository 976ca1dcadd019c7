/**
 * What reclaiming a page costs, by how large memory is: it should be the same from 256 MiB to 64 GiB. Run with
 * `npx tsx --conditions=source`; each figure is the least of some rounds, in nanoseconds a page.
 *
 * A quarter of memory is filled with pages of a file, clean and mapped nowhere, of which an eighth is then reclaimed: what is
 * measured is choosing and freeing. And up to 512 MiB with pages of a program that hold zeros, so that nothing has to be
 * written: each is found in its page table, which are walked as the policy likes, unmapped and given a slot of swap.
 */
import { MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import { PF_USER, PF_WRITE } from '@pagelab/hw';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL } from '@pagelab/mm-core';
import type { PageAllocHooks } from '@pagelab/mm-core';
import { MIN_LRU_BATCH } from './lru-gen-tiers.ts';
import { doMmap } from './mmap.ts';
import { addToPageCache } from './page-cache.ts';
import { handlePageFault } from './page-fault.ts';
import { reclaimPolicies } from './reclaim-policies.ts';
import type { ReclaimPolicyFactory } from './reclaim.ts';
import { lruAddDrainAll } from './swap.ts';
import type { SwapDevice } from './swap-device.ts';
import { enableSwapArea } from './swapfile.ts';
import { console } from './testing/console.ts';
import { testMm, testVm } from './testing/test-machine.ts';
import type { Vm } from './vm.ts';
import { installReclaim, tryToFreePages } from './vmscan.ts';

const { performance } = globalThis as unknown as { performance: { now(): number } };
const GIB = 2 ** 30;
const MEMORIES = [GIB / 4, GIB, 4 * GIB, 16 * GIB, 64 * GIB];
const MOST_ANON = (512 * 2 ** 20) / PAGE_SIZE;
const ROUNDS = 5;

function machine(memoryBytes: number, reclaimPolicy: ReclaimPolicyFactory, swapPages: number): Vm {
  const hooks: PageAllocHooks = {};
  const vm = testVm({ memoryBytes, cpus: 1, hooks, reclaimPolicy });
  installReclaim(vm, hooks);
  if (swapPages === 0) return vm;
  const device: SwapDevice = { nrPages: swapPages, solidState: true, read: () => 0, write: () => 0 };
  enableSwapArea(vm, device, { path: '/swap', kind: 'file', inode: null, max: swapPages, badPages: [] }, 0);
  return vm;
}

function fillWithFile(vm: Vm, nrPages: number): void {
  const inode = vm.blockFs.makeFile(0o644, 0);
  if (typeof inode === 'number') throw new Error(`makeFile: ${inode}`);
  for (let pgoff = 0; pgoff < nrPages; pgoff++) {
    const pfn = vm.pages.allocPage(GFP_HIGHUSER_MOVABLE);
    addToPageCache(vm, inode.mapping, pgoff, pfn);
    vm.pages.freePage(pfn);
  }
}

function fillWithAnon(vm: Vm, nrPages: number): void {
  const mm = testMm(vm);
  const addr = doMmap(mm, { file: null, addr: 0, length: nrPages * PAGE_SIZE, prot: PROT_READ | PROT_WRITE, flags: MAP_PRIVATE | MAP_ANONYMOUS, pgoff: 0 });
  for (let page = 0; page < nrPages; page++) handlePageFault(mm, addr + page * PAGE_SIZE, PF_USER | PF_WRITE);
}

/** Reclaims a part of what was filled in rounds. @returns the least nanoseconds a page of a round */
function measure(vm: Vm, nrPages: number): number {
  lruAddDrainAll(vm);
  let least = Infinity;
  for (let round = 0; round < ROUNDS; round++) {
    const start = performance.now();
    let freed = 0;
    while (freed < nrPages / 8 / ROUNDS) freed += tryToFreePages(vm, GFP_KERNEL, 0, MIN_LRU_BATCH * 4, 2);
    least = Math.min(least, ((performance.now() - start) * 1e6) / freed);
  }
  return least;
}

/** The code is compiled before anything is measured. */
for (const policy of [reclaimPolicies.classic, reclaimPolicies.mglru]) {
  for (const fill of [fillWithFile, fillWithAnon]) {
    const vm = machine(GIB / 4, policy, 2 ** 16);
    fill(vm, 2 ** 14);
    for (let repeat = 0; repeat < 3; repeat++) measure(vm, 2 ** 14);
  }
}
const results = new Map<string, number[]>();
for (const name of ['classic', 'mglru'] as const) {
  for (const memoryBytes of MEMORIES) {
    const quarter = memoryBytes / PAGE_SIZE / 4;
    for (const [kind, nrPages, fill] of [['file', quarter, fillWithFile], ['anon', Math.min(quarter, MOST_ANON), fillWithAnon]] as const) {
      const vm = machine(memoryBytes, reclaimPolicies[name], kind === 'anon' ? 2 * nrPages : 0);
      fill(vm, nrPages);
      const row = `${name}, ${kind}`;
      results.set(row, [...(results.get(row) ?? []), measure(vm, nrPages)]);
    }
  }
}
const cell = (text: string): string => text.padStart(10);
console.log(`${''.padEnd(14)}${MEMORIES.map((bytes) => cell(bytes < GIB ? '256 MiB' : `${bytes / GIB} GiB`)).join('')}   largest against smallest`);
for (const [row, times] of results) {
  console.log(`${row.padEnd(14)}${times.map((ns) => cell(ns.toFixed(0))).join('')}${cell((times.at(-1)! / times[0]).toFixed(2))}`);
}
