/**
 * Random programs on a machine where any allocation of the kernel's may fail: whatever fails, all counts are right
 * afterwards, and nothing is left behind.
 */
import {
  FALLOC_FL_KEEP_SIZE,
  MADV_DONTNEED,
  MADV_GUARD_INSTALL,
  MADV_POPULATE_WRITE,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_LOCKED,
  MAP_PRIVATE,
  MAP_SHARED,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
} from '@pagelab/abi';
import { PF_USER, PF_WRITE } from '@pagelab/hw';
import { Prng } from '@pagelab/lib';
import { OWNER_ANON, OWNER_PAGE_TABLE, OWNER_SHMEM } from '@pagelab/mm-core';
import type { KmemCache } from '@pagelab/slab';
import { expect, test } from 'vitest';
import type { Inode } from './file.ts';
import { doMadvise } from './madvise.ts';
import { doMlock } from './mlock.ts';
import { dupMm, mmput } from './mm-lifetime.ts';
import type { MmStruct } from './mm-struct.ts';
import { doMmap } from './mmap.ts';
import { doMprotect } from './mprotect.ts';
import { doMremap } from './mremap.ts';
import { vmMunmap } from './munmap.ts';
import { inodePut } from './open-file.ts';
import { FAULT_OK, FAULT_OOM } from './fault-flags.ts';
import { handlePageFault } from './page-fault.ts';
import { KernelBuffer, fileWrite } from './filemap.ts';
import { shmemFallocate } from './shmem.ts';
import { testMm, testVm } from './testing/test-machine.ts';
import { validateVm } from './validate.ts';
import type { Vm } from './vm.ts';

const WINDOW_PAGES = 16;
const WINDOWS = [0x4000_0000, 0x7f_8000_0000, 0x10_0000].map((edge) => edge - (WINDOW_PAGES / 2) * PAGE_SIZE);

/**
 * Makes one in `oneIn` allocations of frames and objects fail from now on, where `oneIn` is not 0. Every other time
 * `kill` is called instead, as the OOM killer would be, and the allocation succeeds.
 */
function failAllocations(vm: Vm, prng: Prng, kill: () => void): (oneIn: number) => void {
  let odds = 0;
  const fails = (): boolean => {
    if (odds === 0 || prng.below(odds) !== 0) return false;
    if (prng.below(2) === 0) return true;
    kill();
    return false;
  };
  const { pages, caches } = vm;
  const allocPage = pages.allocPage.bind(pages);
  pages.allocPage = (gfp) => (fails() ? -12 : allocPage(gfp));
  for (const cache of new Set(Object.values(caches as unknown as Record<string, KmemCache>))) {
    const alloc = cache.alloc.bind(cache);
    cache.alloc = (gfp) => (fails() ? 0 : alloc(gfp));
  }
  return (oneIn) => {
    odds = oneIn;
  };
}

function play(seed: number, steps: number): number {
  const prng = new Prng(seed);
  const vm = testVm({ memoryBytes: 96 * 2 ** 20 });
  const idle = usage(vm);
  const mms: MmStruct[] = [testMm(vm)];
  let current = mms[0];
  const setOdds = failAllocations(vm, prng, () => {
    const victim = mms[prng.below(mms.length)];
    if (victim !== current) mmput(mms.splice(mms.indexOf(victim), 1)[0]);
  });
  let failed = 0;
  for (let i = 0; i < steps; i++) {
    const mm = mms[prng.below(mms.length)];
    current = mm;
    const first = prng.below(WINDOW_PAGES);
    const addr = WINDOWS[prng.below(WINDOWS.length)] + first * PAGE_SIZE;
    const length = (1 + prng.below(WINDOW_PAGES - first)) * PAGE_SIZE;
    setOdds(3 + prng.below(20));
    const result = step(vm, mms, mm, addr, length, prng);
    setOdds(0);
    if (result < 0) failed++;
    try {
      validateVm(vm);
    } catch (error) {
      throw new Error(`seed ${seed}, step ${i}`, { cause: error });
    }
  }
  for (const mm of mms) mmput(mm);
  validateVm(vm);
  vm.pages.validate();
  vm.slab.validate();
  expect(vm.committedAs).toBe(0);
  expect(usage(vm)).toEqual(idle);
  return failed;
}

function step(vm: Vm, mms: MmStruct[], mm: MmStruct, addr: number, length: number, prng: Prng): number {
  switch (prng.below(12)) {
    case 0: {
      const kind = [MAP_PRIVATE, MAP_SHARED, MAP_PRIVATE | MAP_LOCKED][prng.below(3)];
      const flags = kind | MAP_ANONYMOUS | MAP_FIXED;
      return doMmap(mm, { file: null, addr, length, prot: PROT_READ | PROT_WRITE, flags, pgoff: 0 });
    }
    case 1:
      return vmMunmap(mm, addr, length);
    case 2:
      return doMprotect(mm, addr, length, prng.below(2) === 0 ? PROT_READ : PROT_READ | PROT_WRITE);
    case 3:
      return doMadvise(mm, addr, length, [MADV_DONTNEED, MADV_GUARD_INSTALL, MADV_POPULATE_WRITE][prng.below(3)]);
    case 4: {
      const to = WINDOWS[prng.below(WINDOWS.length)];
      return doMremap(mm, addr, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    }
    case 5:
      return doMlock(mm, addr, length, 0);
    case 6: {
      if (mms.length > 4) return 0;
      const child = dupMm(mm, mm.limits);
      if (typeof child === 'number') return child;
      mms.push(child);
      return 0;
    }
    case 7:
      if (mms.length > 1) mmput(mms.splice(mms.indexOf(mm), 1)[0]);
      return 0;
    case 8: {
      const inodes: Inode[] = [];
      vm.mappings.forEach((mapping) => inodes.push(mapping.inode));
      if (inodes.length === 0) return 0;
      const inode = inodes[prng.below(inodes.length)];
      const at = prng.below(6) * PAGE_SIZE;
      // Whoever uses a file holds it.
      inode.refcount++;
      const length = Math.min(5000, Math.max(0, inode.size - at));
      const result =
        prng.below(2) === 0
          ? shmemFallocate(vm, inode, FALLOC_FL_KEEP_SIZE, at, 3 * PAGE_SIZE)
          : fileWrite(vm, inode, at, length, new KernelBuffer(new Uint8Array(length)));
      inodePut(inode);
      return Math.min(0, result);
    }
    default:
      for (let page = addr; page < addr + length; page += PAGE_SIZE) {
        const fault = handlePageFault(mm, page, PF_USER | (prng.below(2) === 0 ? PF_WRITE : 0));
        if (fault !== FAULT_OK) return fault === FAULT_OOM ? -12 : 0;
      }
      return 0;
  }
}

function usage(vm: Vm): unknown {
  const frames = vm.pages.census();
  const objects = [...vm.slab.caches()].map((cache) => `${cache.name} ${cache.activeObjects}`);
  return { anon: frames[OWNER_ANON], shmem: frames[OWNER_SHMEM], tables: frames[OWNER_PAGE_TABLE], objects };
}

test.each([1, 2, 3, 4])('seed %i', (seed) => {
  expect(play(seed, 400)).toBeGreaterThan(10);
});
