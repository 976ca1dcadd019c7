/**
 * What memory of vmalloc costs that memory of kmalloc does not: its pages lie anywhere, so each needs a translation of its
 * own, while a block of the direct map shares one of 1 GiB with all around it. The modelled TLB counts.
 */
import type { Machine, MachineConfigInput } from '@pagelab/kernel';

export const machine: MachineConfigInput = { memory: '2G', tlb: 'modelled:skylake' };

const PAGE = 4096;
const PAGES = 1024;

export default function vmallocTlb(on: Machine, print: (line: string) => void): void {
  on.module((k) => {
    const walk = (name: string, start: number): void => {
      const before = on.stats().tlbModel!;
      for (let round = 0; round < 4; round++) {
        for (let i = 0; i < PAGES; i++) k.mem.load32(start + i * PAGE);
      }
      const after = on.stats().tlbModel!;
      const misses = after.misses - before.misses;
      print(`${name}: ${4 * PAGES} loads, ${misses} TLB misses, ${after.cycles - before.cycles} cycles spent on them`);
    };
    const block = k.kmalloc(PAGES * PAGE);
    const area = k.vmalloc(PAGES * PAGE);
    print(`kmalloc: 4 MiB at 0x${(2n ** 64n + BigInt(block)).toString(16)}, in one piece`);
    const frames = new Set(Array.from({ length: PAGES }, (_, i) => Math.floor(k.vmallocToPage(area + i * PAGE) / 512)));
    print(`vmalloc: 4 MiB at 0x${(2n ** 64n + BigInt(area)).toString(16)}, in frames of ${frames.size} blocks of 2 MiB`);
    walk('kmalloc', block);
    walk('vmalloc', area);

    // Freeing is cheap: the addresses wait, and one flush serves for all of them.
    const flushes = (): number => on.stats().tlb.flushes + on.stats().tlb.ipis;
    const before = flushes();
    k.vfree(area);
    for (let i = 0; i < 100; i++) k.vfree(k.vmalloc(PAGE));
    print(`101 areas freed: ${flushes() - before} flushes`);
    print(`${k.vmUnmapAliases()} areas given back by a purge: ${flushes() - before} flush of each CPU's TLB`);
    k.kfree(block);
  });
}
