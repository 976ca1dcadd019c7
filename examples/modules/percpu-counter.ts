/**
 * A counter that every CPU has a copy of: to count, each adds to its own and takes no lock; who wants the sum reads all. The
 * copies lie at the same offset in each CPU's part of per-CPU memory, so that one pointer stands for all.
 */
import type { KernelModule, MachineConfigInput } from '@pagelab/kernel';

export const machine: MachineConfigInput = { memory: '256M', cpus: 4 };

export default function percpuCounter(kernel: KernelModule): void {
  const counter = kernel.allocPercpu(8);
  const other = kernel.allocPercpu(8);
  const copies = [0, 1, 2, 3].map((cpu) => kernel.perCpuPtr(counter, cpu));
  kernel.printk(`copies that start as zero: ${copies.filter((at) => kernel.mem.load32(at) === 0).length} of ${copies.length}`);
  copies.forEach((at, cpu) => {
    for (let event = 0; event <= cpu; event++) kernel.mem.store32(at, kernel.mem.load32(at) + 1);
  });
  kernel.printk(`each has counted for itself: ${copies.map((at) => kernel.mem.load32(at)).join(' + ')} = ${copies.reduce((sum, at) => sum + kernel.mem.load32(at), 0)}`);
  const steps = copies.slice(1).map((at, cpu) => at - copies[cpu]!);
  kernel.printk(`from copy to copy it is always as far: ${new Set(steps).size === 1}`);
  kernel.printk(`another counter lies ${kernel.perCpuPtr(other, 2) - copies[2]!} bytes on, on every CPU`);
  kernel.printk(`this CPU's: ${kernel.thisCpuPtr(counter) === copies[0] ? 'copy 0' : 'another copy'}`);
  kernel.freePercpu(other);
  kernel.freePercpu(counter);
}
