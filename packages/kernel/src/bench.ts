/**
 * Work inside the kernel that no system call does alone, for benchmarks: the public handle shows none of it.
 */
import { MADV_PAGEOUT, MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import { Prng } from '@pagelab/lib';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { MemorySwapDevice, enableSwapArea, findVma } from '@pagelab/vm';
import { bootKernel } from './boot.ts';
import type { MachineConfig } from './config.ts';
import { startProcess } from './exec.ts';

/** A piece of work: one call of `run` does `operations` of it. */
export interface KernelWork {
  readonly operations: number;
  run(): void;
}

const BATCH = 10_000;
/** What is swapped out and in: 2 MiB. */
const SWAP_PAGES = 512;

/** `alloc_page` and `free_page`, through the per-CPU list. */
export function allocPageWork(config: MachineConfig): KernelWork {
  const { pages } = bootKernel(config);
  return {
    operations: BATCH,
    run() {
      for (let i = 0; i < BATCH; i++) pages.freePage(pages.allocPage(GFP_KERNEL));
    },
  };
}

/** `kmalloc(bytes)` and `kfree`. */
export function kmallocWork(config: MachineConfig, bytes: number): KernelWork {
  const { slab } = bootKernel(config);
  return {
    operations: BATCH,
    run() {
      for (let i = 0; i < BATCH; i++) slab.kfree(slab.kmalloc(bytes, GFP_KERNEL));
    },
  };
}

/** Pages that are swapped out and touched again, one after the other; the area is in the host's memory. */
export function swapWork(config: MachineConfig): KernelWork {
  const kernel = bootKernel(config);
  const { vm } = kernel;
  // As much memory as the copies that it is compared with go through: slots are taken in turn.
  const device = new MemorySwapDevice(kernel.ram, 2 * SWAP_PAGES);
  enableSwapArea(vm, device, { path: 'bench', kind: 'partition', inode: null, max: device.nrPages, badPages: [] }, 0);
  const task = startProcess(kernel, null, { name: 'bench' });
  if (typeof task === 'number') throw new RangeError(`no memory for the process: ${task}`);
  const { os } = task;
  const start = os.mmap(0, SWAP_PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  const touch = (): void => {
    for (let at = 0; at < SWAP_PAGES * 4096; at += 4096) os.mem.store32(start + at, at + 1);
  };
  touch();
  return {
    operations: SWAP_PAGES,
    run() {
      os.madvise(start, SWAP_PAGES * 4096, MADV_PAGEOUT);
      if (vm.swap.nrFree === vm.totalSwapPages) throw new Error('nothing was swapped out');
      touch();
    },
  };
}

/** `find_vma` of random addresses among `nrVmas` mappings of a page each, a page apart. */
export function findVmaWork(config: MachineConfig, nrVmas: number, seed: number): KernelWork {
  const kernel = bootKernel(config);
  kernel.vm.sysctl.maxMapCount = nrVmas + 1000;
  const task = startProcess(kernel, null, { name: 'bench' });
  if (typeof task === 'number') throw new RangeError(`no memory for the process: ${task}`);
  const { os } = task;
  const { mm } = task.process;
  if (mm === null) throw new RangeError('the process has no memory');
  const base = 2 ** 40;
  for (let i = 0; i < nrVmas; i++) {
    os.mmap(base + i * 8192, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED);
  }
  const random = new Prng(seed);
  const addresses = Float64Array.from({ length: BATCH }, () => base + random.below(nrVmas) * 8192);
  let found = 0;
  return {
    operations: BATCH,
    run() {
      for (let i = 0; i < BATCH; i++) if (findVma(mm, addresses[i]!) !== undefined) found += 1;
      if (found === 0) throw new Error('no mapping was found');
    },
  };
}
