/** Every single allocation inside a call of kernel code fails once: the call tells, nothing is left, the machine is valid. */
import { SLAB_HWCACHE_ALIGN, SLAB_NO_MERGE, SLAB_TYPESAFE_BY_RCU } from '@pagelab/slab';
import { expect, test } from 'vitest';
import { bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import type { MachineConfigInput } from './config.ts';
import type { Kernel } from './kernel.ts';
import { createMachine } from './machine.ts';
import { inUse } from './testing/run.ts';

const PAGE = 4096;

/** Makes the n-th allocation of a frame or of an object fail. */
class Failing {
  point = Infinity;
  asked = 0;
  #inside = 0;

  constructor({ pages, slab }: Kernel) {
    const guard = <A extends unknown[]>(failure: number, allocate: (...args: A) => number) => (...args: A): number => {
      // Allocations that others are made of count once.
      if (this.#inside === 0 && ++this.asked === this.point) return failure;
      this.#inside += 1;
      try {
        return allocate(...args);
      } finally {
        this.#inside -= 1;
      }
    };
    pages.allocPage = guard(-12, pages.allocPage.bind(pages));
    pages.allocPages = guard(-12, pages.allocPages.bind(pages));
    pages.allocPagesNode = guard(-12, pages.allocPagesNode.bind(pages));
    for (const cache of slab.caches()) {
      cache.alloc = guard(0, cache.alloc.bind(cache));
      cache.allocNode = guard(0, cache.allocNode.bind(cache));
    }
  }
}

interface Call {
  readonly config?: Partial<MachineConfigInput>;
  /** Does it; undoes what came of it. @returns whether it failed, or fell back to something else */
  readonly run: (kernel: Kernel) => boolean;
}

function createAndUse({ slab }: Kernel, flags: number): boolean {
  const made = slab.kmemCacheCreate({ name: 'swept', size: 700, flags: SLAB_NO_MERGE | flags });
  if (typeof made === 'number') return true;
  const object = made.alloc(0xcc0);
  if (object !== 0) made.free(object);
  expect(slab.kmemCacheDestroy(made)).toBe(0);
  return object === 0;
}

const CALLS: Readonly<Record<string, Call>> = {
  'kmem_cache_create with SLUB': { run: (kernel) => createAndUse(kernel, SLAB_HWCACHE_ALIGN) },
  'kmem_cache_create with SLUB, debugged': { config: { cmdline: 'slub_debug=FZPU' }, run: (kernel) => createAndUse(kernel, 0) },
  'kmem_cache_create with SLUB, for readers': { run: (kernel) => createAndUse(kernel, SLAB_TYPESAFE_BY_RCU) },
  'kmem_cache_create with SLAB': { config: { slab: 'slab' }, run: (kernel) => createAndUse(kernel, 0) },
  'kmem_cache_create with SLAB on two nodes': {
    config: { slab: 'slab', memory: '256M', numa: [{ memory: '128M', cpus: [0] }, { memory: '128M', cpus: [1] }] },
    run: (kernel) => createAndUse(kernel, 0),
  },
  'kmem_cache_create with SLAB, debugged': { config: { slab: 'slab', debugSlab: true }, run: (kernel) => createAndUse(kernel, 0) },
  'kmem_cache_create with SLOB': { config: { slab: 'slob' }, run: (kernel) => createAndUse(kernel, 0) },
  vmalloc: {
    run({ vm }) {
      const area = vm.vmalloc.vmalloc(20 * PAGE);
      if (area !== 0) vm.vmalloc.vfree(area);
      return area === 0;
    },
  },
  'vmalloc with 32 bits': {
    config: { arch: 'x86-pae', memory: '256M' },
    run({ vm }) {
      const area = vm.vmalloc.vmalloc(60 * PAGE);
      if (area !== 0) vm.vmalloc.vfree(area);
      return area === 0;
    },
  },
  dma_alloc_coherent: {
    run(kernel) {
      const device = kernel.dma.addDevice('swept', 32);
      const block = device.allocCoherent(5 * PAGE);
      if (block !== null) device.freeCoherent(5 * PAGE, block.cpu, block.dma);
      return block === null;
    },
  },
  kmalloc: {
    run({ slab }) {
      const blocks = [8, 200, 5000, 30_000].map((bytes) => slab.kmalloc(bytes, 0xcc0));
      for (const block of blocks) slab.kfree(block);
      return blocks.includes(0);
    },
  },
};

test.each(Object.entries(CALLS))('%s', (_, { config = {}, run }) => {
  const kernel = bootKernel(parseMachineConfig({ memory: '64M', cpus: 2, seed: 1, ...config }));
  const machine = createMachine(kernel);
  // What a first use leaves for good: tables of the kernel's own.
  run(kernel);
  const before = inUse(machine);
  const failing = new Failing(kernel);
  let points = 0;
  let failed = 0;
  for (let point = 1; point <= points + 1; point++) {
    failing.point = point;
    failing.asked = 0;
    if (run(kernel)) failed += 1;
    points = Math.max(points, failing.asked);
    failing.point = Infinity;
    machine.validate();
    expect(inUse(machine), `the allocation that fails is number ${point}`).toEqual(before);
    if (point > failing.asked) break;
  }
  expect(points).toBeGreaterThan(0);
  expect(failed).toBeGreaterThan(0);
  expect(machine.slabReports()).toEqual([]);
});
