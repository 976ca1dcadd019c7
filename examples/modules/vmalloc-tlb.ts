/**
 * What memory of vmalloc costs that memory of kmalloc does not: its pages lie anywhere, so each needs a translation of its
 * own, while a block of the direct map shares one of 2 MiB or 1 GiB with all around it. The modelled TLB counts.
 */
import type { KernelModule, MachineConfigInput } from '@pagelab/kernel';

export const machine: MachineConfigInput = { memory: '2G', tlb: 'modelled:skylake' };

const PAGE = 4096;
const PAGES = 1024;

export default function vmallocTlb(kernel: KernelModule): void {
  const walk = (name: string, start: number): void => {
    const before = kernel.stats().tlbModel!;
    for (let round = 0; round < 4; round++) {
      for (let i = 0; i < PAGES; i++) kernel.mem.load32(start + i * PAGE);
    }
    const after = kernel.stats().tlbModel!;
    const misses = after.misses - before.misses;
    kernel.printk(`${name}: ${4 * PAGES} loads, ${misses} TLB misses, ${after.cycles - before.cycles} cycles spent on them`);
  };
  const block = kernel.kmalloc(PAGES * PAGE);
  const area = kernel.vmalloc(PAGES * PAGE);
  walk('4 MiB of kmalloc', block);
  walk('4 MiB of vmalloc', area);

  // Freeing is cheap: the addresses wait, and one flush serves for all of them.
  const flushes = (): number => kernel.stats().tlb.flushes;
  const before = flushes();
  kernel.vfree(area);
  for (let i = 0; i < 100; i++) kernel.vfree(kernel.vmalloc(PAGE));
  kernel.printk(`101 areas freed: ${flushes() - before} flushes`);
  kernel.vmUnmapAliases();
  kernel.printk(`their addresses given back by a purge: ${flushes() - before} flush of each CPU's TLB`);
  kernel.kfree(block);
}
