/**
 * `/sys/kernel/slab`: each cache's layout. A cache that is merged with another has that one's directory.
 *
 * @linux mm/slub.c:slab_sysfs_init
 */
import type { KmemCache } from '@pagelab/slab';
import type { Kernel } from '../kernel.ts';

const DIRECTORY = '/sys/kernel/slab/';

/** The files below `/sys/kernel/slab`, by path. */
export function slabFiles(kernel: Kernel): Map<string, () => string> {
  const files = new Map<string, () => string>();
  for (const cache of kernel.slab.caches()) {
    for (const name of [cache.name, ...cache.aliases]) {
      for (const [attribute, show] of Object.entries(ATTRIBUTES)) files.set(`${DIRECTORY}${name}/${attribute}`, () => `${show(cache)}\n`);
    }
  }
  return files;
}

const ATTRIBUTES: Readonly<Record<string, (cache: KmemCache) => number>> = {
  align: (cache) => cache.align,
  aliases: (cache) => Math.max(0, cache.refcount - 1),
  object_size: (cache) => cache.objectSize,
  objs_per_slab: (cache) => cache.objectsPerSlab,
  order: (cache) => cache.order,
  slab_size: (cache) => cache.size,
};
