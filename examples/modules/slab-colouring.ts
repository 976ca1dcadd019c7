/**
 * Slab colouring, seen: SLAB spends what is left over of each slab on moving its first object a cache line further in than
 * that of the slab before. The header of an object, which is looked at most, then falls into many sets of the processor's cache
 * instead of the same few, slab after slab.
 */
import { GFP_KERNEL } from '@pagelab/kernel';
import type { KernelModule, MachineConfigInput } from '@pagelab/kernel';

export const machine: MachineConfigInput = { memory: '256M', slab: 'slab' };

const LINE = 64;
/** Sets of a first-level cache of 32 KiB with 8 ways: a page has a line in each. */
const SETS = 64;
const PAGE = 4096;
const SLABS = 40;

export default function slabColouring(kernel: KernelModule): void {
  const cache = kernel.kmemCacheCreate({ name: 'inode', size: 1500 });
  if (typeof cache === 'number') throw new Error(`kmem_cache_create: ${cache}`);
  const objects = Array.from({ length: SLABS * cache.objectsPerSlab }, () => cache.alloc(GFP_KERNEL));

  const first = (slab: number): number => Math.min(...objects.slice(slab * cache.objectsPerSlab, (slab + 1) * cache.objectsPerSlab));
  const colour = (address: number): number => (address + 2 ** 47) % PAGE;
  kernel.printk(`${cache.objectsPerSlab} objects of ${cache.size} bytes in ${2 ** cache.order} pages`);
  kernel.printk(`first object of each slab, bytes from its start: ${Array.from({ length: 12 }, (_, slab) => colour(first(slab))).join(' ')} …`);

  const set = (address: number): number => Math.floor((address + 2 ** 47) / LINE) % SETS;
  const fullest = (addresses: number[]): string => {
    const lines = new Array<number>(SETS).fill(0);
    for (const address of addresses) lines[set(address)]! += 1;
    return `${lines.filter((count) => count > 0).length} of ${SETS} sets, at most ${Math.max(...lines)} headers in one`;
  };
  kernel.printk(`${objects.length} headers lie in ${fullest(objects)}`);
  const plain = objects.map((object, i) => object - colour(first(Math.floor(i / cache.objectsPerSlab))));
  kernel.printk(`without colours they would lie in ${fullest(plain)}`);
  for (const object of objects) cache.free(object);
  kernel.kmemCacheDestroy(cache);
}
