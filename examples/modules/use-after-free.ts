/**
 * A use after free, caught: a driver keeps a pointer to a request that it freed, and writes its status there. With
 * slub_debug the freed object was poisoned, so that the next allocation sees what was written, where, who allocated the object
 * and who freed it; and the kernel goes on with the object set aside.
 */
import { GFP_KERNEL } from '@pagelab/kernel';
import type { KernelModule, MachineConfigInput } from '@pagelab/kernel';

export const machine: MachineConfigInput = { memory: '256M', cmdline: 'slub_debug=FZPU,request' };

const STATUS = 16;

export default function useAfterFree(kernel: KernelModule): void {
  const cache = kernel.kmemCacheCreate({ name: 'request', size: 48 });
  if (typeof cache === 'number') throw new Error(`kmem_cache_create: ${cache}`);
  const submit = (): number => kernel.call('submit_request', () => cache.alloc(GFP_KERNEL));
  const complete = (request: number): void => kernel.call('complete_request', () => cache.free(request));

  const request = submit();
  kernel.mem.store32(request + STATUS, 1);
  complete(request);
  // The interrupt comes late.
  kernel.mem.store32(request + STATUS, 2);

  kernel.printk('submitting the next request');
  const next = submit();
  kernel.printk(`the next request is ${next === request ? 'the same object' : 'another object'}`);
  complete(next);
}
