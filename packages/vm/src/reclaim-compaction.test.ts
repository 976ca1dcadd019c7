import { MADV_FREE, MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import { GFP_KERNEL, VM_EVENT, WMARK_MIN, compactionSuitable } from '@pagelab/mm-core';
import type { PageAllocHooks } from '@pagelab/mm-core';
import { beforeEach, expect, test } from 'vitest';
import { doMadvise } from './madvise.ts';
import { doMmap } from './mmap.ts';
import { vmMunmap } from './munmap.ts';
import type { MmStruct } from './mm-struct.ts';
import { MemorySwapDevice } from './swap-device.ts';
import { enableSwapArea } from './swapfile.ts';
import { attachUser, testMm, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';
import { installReclaim, tryToFreePages } from './vmscan.ts';

const ORDER = 9;
/** The zone that holds most of a small machine. @linux include/linux/mmzone.h:ZONE_DMA32 */
const DMA32 = 1;

let vm: Vm;
let mm: MmStruct;
let addr: number;

/** Memory is full of pages that can be dropped. */
beforeEach(() => {
  const hooks: PageAllocHooks = {};
  vm = testVm({ memoryBytes: 48 * 2 ** 20, cpus: 1, hooks });
  installReclaim(vm, hooks);
  enableSwapArea(vm, new MemorySwapDevice(vm.ram, 32_768), { path: '/swap', kind: 'file', inode: null, max: 32_768, badPages: [] }, 0);
  mm = testMm(vm);
  const { memory } = attachUser(mm);
  const length = 14_000 * PAGE_SIZE;
  addr = doMmap(mm, { file: null, addr: 0, length, prot: PROT_READ | PROT_WRITE, flags: MAP_PRIVATE | MAP_ANONYMOUS, pgoff: 0 });
  for (let page = 0; page < 14_000; page++) memory.store32(addr + page * PAGE_SIZE, page + 1);
  expect(doMadvise(mm, addr, length, MADV_FREE)).toBe(0);
});

const stolen = (): number => vm.pages.events[VM_EVENT.PGSTEAL_DIRECT];
/** Whether some zone has a large block, or enough pages to make one. */
const isServed = (): boolean =>
  vm.pages.nodes[0].zones
    .filter(({ index, managed }) => index <= DMA32 && managed > 0)
    .some((zone) => {
      const mark = zone.wmarkPages(WMARK_MIN);
      return zone.watermarkOk(ORDER, mark, DMA32, 0, zone.nrFree) || compactionSuitable(vm.pages, zone, ORDER, mark, DMA32);
    });

test('reclaim for a large block goes on until compaction has the pages it needs', () => {
  expect(isServed()).toBe(false);
  const before = stolen();
  expect(tryToFreePages(vm, GFP_KERNEL, ORDER, 32, DMA32)).toBeGreaterThan(256);
  expect(isServed()).toBe(true);
  expect(stolen() - before).toBeLessThan(4 * 2 ** ORDER);
  validateVm(vm);
});

test('and takes next to nothing where it has', () => {
  vmMunmap(mm, addr, 7000 * PAGE_SIZE);
  const before = stolen();
  expect(tryToFreePages(vm, GFP_KERNEL, ORDER, 32, DMA32)).toBe(1);
  // The smallest zone has not: the node gets one short look for its sake.
  expect(stolen() - before).toBeLessThan(8);
  // For single pages there is always something to take.
  expect(tryToFreePages(vm, GFP_KERNEL, 0, 32, DMA32)).toBeGreaterThanOrEqual(32);
  validateVm(vm);
});
