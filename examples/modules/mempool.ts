/**
 * A pool for who must not fail, such as a driver that writes pages to swap while there is no memory: it sets elements aside when
 * it is made, and hands them out when the allocator has nothing. What comes back fills the reserve first.
 */
import { GFP_KERNEL, GFP_NOWAIT } from '@pagelab/kernel';
import type { KernelModule, MachineConfigInput } from '@pagelab/kernel';

export const machine: MachineConfigInput = { memory: '64M' };

const REQUEST = 4096;

export default function mempool(kernel: KernelModule): void {
  const pool = kernel.mempoolCreate(4, { bytes: REQUEST });
  if (typeof pool === 'number') throw new Error(`mempool_create: ${pool}`);
  kernel.printk(`made with ${pool.reserved().length} elements set aside`);

  const first = pool.alloc(GFP_KERNEL);
  kernel.printk(`while there is memory it is the allocator's that are taken: ${pool.reserved().length} set aside`);

  const hoard: number[] = [];
  for (;;) {
    const pfn = kernel.allocPages(0, GFP_NOWAIT);
    if (pfn < 0) break;
    hoard.push(pfn);
  }
  const taken: number[] = [];
  for (let element = pool.alloc(GFP_NOWAIT); element !== 0; element = pool.alloc(GFP_NOWAIT)) taken.push(element);
  kernel.printk(`memory is out: ${taken.length >= 4 ? 'the reserve still gave' : 'it gave'} what it had, ${pool.reserved().length} left; then NULL`);

  pool.free(taken.pop()!);
  kernel.printk(`one comes back: ${pool.reserved().length} set aside`);
  for (const element of [...taken, first]) pool.free(element);
  for (const pfn of hoard) kernel.freePages(pfn);
  kernel.printk(`all come back: ${pool.reserved().length} set aside, the rest is the allocator's again`);
  kernel.mempoolDestroy(pool);
}
