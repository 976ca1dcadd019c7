/**
 * Every allocator of the kernel at once, by chance and with allocations that fail: contents hold, the machine stays valid, nothing
 * is left. `PAGELAB_SOAK=N` runs N seeds.
 */
import { Prng } from '@pagelab/lib';
import { expect, test } from 'vitest';
import { bootKernel } from './boot.ts';
import { parseMachineConfig } from './config.ts';
import type { MachineConfigInput } from './config.ts';
import { createMachine } from './machine.ts';
import type { KernelModule } from './module.ts';
import { inUse } from './testing/run.ts';

const SEEDS = Number(process.env['PAGELAB_SOAK'] ?? 4);
const STEPS = 250;

interface Block {
  readonly at: number;
  readonly bytes: number;
  readonly mark: number;
  readonly free: () => void;
}

const MACHINES: readonly MachineConfigInput[] = [
  { memory: '96M', cpus: 3 },
  { memory: '96M', cpus: 2, slab: 'slab', cmdline: 'kmemleak=on page_owner=on' },
  { memory: '96M', cpus: 1, slab: 'slob', cmdline: 'swiotlb=force' },
  { memory: '1G', cpus: 2, arch: 'x86-pae' },
];

/** Allocates something of a random kind; `undefined` where that failed. */
function allocate(k: KernelModule, random: Prng, device: ReturnType<KernelModule['device']>, mark: number): Block | undefined {
  const bytes = 1 + random.below(random.below(4) === 0 ? 60_000 : 3000);
  const block = (at: number, size: number, free: () => void): Block | undefined => (at === 0 ? undefined : { at, bytes: size, mark, free });
  let at: number;
  switch (random.below(6)) {
    case 0:
      at = k.kmalloc(bytes);
      return block(at, bytes, () => k.kfree(at));
    case 1:
      at = k.vmalloc(bytes);
      return block(at, bytes, () => k.vfree(at));
    case 2: {
      const order = random.below(4);
      const pfn = k.allocPages(order);
      return pfn < 0 ? undefined : block(k.pageAddress(pfn), 4096 * 2 ** order, () => k.freePages(pfn, order));
    }
    case 3: {
      const size = 1 + (bytes % 20_000);
      const pointer = k.allocPercpu(size);
      return pointer === 0 ? undefined : block(k.thisCpuPtr(pointer), size, () => k.freePercpu(pointer));
    }
    case 4: {
      const coherent = device.allocCoherent(bytes);
      return coherent === null ? undefined : block(coherent.cpu, bytes, () => device.freeCoherent(bytes, coherent.cpu, coherent.dma));
    }
    default: {
      const pfns = Array.from({ length: 1 + random.below(5) }, () => k.allocPages()).filter((pfn) => pfn >= 0);
      const free = (): void => pfns.forEach((pfn) => k.freePages(pfn));
      at = k.vmap(pfns);
      if (at === 0) free();
      return block(at, pfns.length * 4096, () => {
        k.vunmap(at);
        free();
      });
    }
  }
}

test.each(Array.from({ length: SEEDS }, (_, seed) => seed + 1))('seed %i: all allocators at once', (seed) => {
  const random = new Prng(seed);
  const kernel = bootKernel(parseMachineConfig(MACHINES[seed % MACHINES.length]!));
  const machine = createMachine(kernel);
  const before = inUse(machine);
  let failing = false;
  const { pages } = kernel;
  const allocPage = pages.allocPage.bind(pages);
  pages.allocPage = (gfp) => (failing && random.below(20) === 0 ? -12 : allocPage(gfp));
  machine.module((k) => {
    const device = k.device('device', 32);
    const live: Block[] = [];
    const drop = (index: number): void => {
      const [{ at, bytes, mark, free }] = live.splice(index, 1) as [Block];
      const found = k.mem.bytes(at, bytes).findIndex((byte) => byte !== mark);
      expect(found, `seed ${seed}: byte of a block of ${bytes} at ${at}`).toBe(-1);
      free();
    };
    for (let step = 1; step <= STEPS; step++) {
      failing = step % 3 === 0;
      if (random.below(5) < 3) {
        const made = allocate(k, random, device, 1 + (step % 250));
        if (made !== undefined) {
          k.mem.fill(made.at, made.bytes, made.mark);
          live.push(made);
        }
      } else if (live.length > 0) {
        drop(random.below(live.length));
      }
      if (step % 50 === 0) machine.validate();
    }
    failing = false;
    while (live.length > 0) drop(live.length - 1);
    device.release();
  });
  machine.validate();
  expect(machine.dmesg()).not.toMatch(/DMA-API|BUG/);
  expect(inUse(machine)).toEqual(before);
});
