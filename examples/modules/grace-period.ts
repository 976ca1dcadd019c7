/**
 * RCU, seen from the slab allocator: a reader looks at an object without a lock while another CPU frees it. With
 * SLAB_TYPESAFE_BY_RCU the page stays what it was until the reader is done: it may find another object there, never something
 * else. Without, the page goes back at once, and the reader looks at whoever has it next.
 */
import { GFP_KERNEL, SLAB_NO_MERGE, SLAB_TYPESAFE_BY_RCU, __GFP_ZERO } from '@pagelab/kernel';
import type { KernelModule, MachineConfigInput } from '@pagelab/kernel';

export const machine: MachineConfigInput = { memory: '256M', cpus: 2 };

const VALUE = 0x5eed;
const SIZE = 4096;

/** Frees all objects of a cache while CPU 0 reads one, and gives back what the cache then does not need. */
function race(kernel: KernelModule, flags: number): void {
  const cache = kernel.kmemCacheCreate({ name: 'looked_at', size: SIZE, flags: SLAB_NO_MERGE | flags });
  if (typeof cache === 'number') throw new Error(`kmem_cache_create: ${cache}`);
  const objects = Array.from({ length: 64 }, () => cache.alloc(GFP_KERNEL));
  const looked = objects[10]!;
  for (const object of objects) kernel.mem.store32(object, VALUE);

  kernel.onCpu(0, () => kernel.rcuReadLock());
  kernel.onCpu(1, () => {
    for (const object of objects) cache.free(object);
    cache.shrink();
  });
  // Somebody else wants memory, and gets what was given back.
  const others = Array.from({ length: 64 }, () => kernel.onCpu(1, () => kernel.allocPages(cache.order, GFP_KERNEL | __GFP_ZERO)));
  const value = kernel.mem.load32(looked);
  kernel.printk(`the reader finds ${value === VALUE ? 'what was there' : 'the memory of somebody else'}; ${cache.nrPages} pages are the cache's`);
  kernel.onCpu(0, () => kernel.rcuReadUnlock());

  for (const other of others) kernel.freePages(other, cache.order);
  kernel.rcuBarrier();
  kernel.printk(`after a grace period ${cache.nrPages} are`);
  kernel.kmemCacheDestroy(cache);
}

export default function gracePeriod(kernel: KernelModule): void {
  kernel.printk('a cache for readers:');
  race(kernel, SLAB_TYPESAFE_BY_RCU);
  kernel.printk('any other cache:');
  race(kernel, 0);

  const block = kernel.kmalloc(100);
  kernel.rcuReadLock();
  kernel.kfreeRcu(block);
  kernel.printk(`kfree_rcu(): ${kernel.ksize(block)} bytes are there while a reader is`);
  kernel.rcuReadUnlock();
  kernel.rcuBarrier();
}
