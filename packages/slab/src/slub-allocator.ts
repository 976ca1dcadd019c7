/**
 * SLUB as the generic layer sees it: which kind of cache serves what was asked for.
 */
import { SLAB_DEBUG_FLAGS } from './flags.ts';
import { calculateSizes } from './geometry.ts';
import type { CacheSpec, SlabAllocator, SlabHost } from './host.ts';
import type { KmemCache } from './kmem-cache.ts';
import { SlubDebugCache } from './slub-debug-cache.ts';
import { HardenedSlubCache, IndirectSlubCache } from './slub-indirect.ts';
import { SlubCache } from './slub.ts';

/** The SLUB allocator. @linux mm/slub.c:do_kmem_cache_create */
export class SlubAllocator implements SlabAllocator {
  readonly name = 'slub';
  readonly debugs = true;

  createCache(host: SlabHost, spec: CacheSpec): KmemCache | number {
    const shape = { ...spec, hasConstructor: spec.ctor !== undefined };
    const geometry = calculateSizes(shape, host.machine);
    if (typeof geometry === 'number') return geometry;
    if ((spec.flags & SLAB_DEBUG_FLAGS) !== 0) return new SlubDebugCache(host, spec, geometry);
    if (host.freelist.hardening === 'full') return new HardenedSlubCache(host, spec, geometry);
    return host.machine.wordBytes === 8 ? new SlubCache(host, spec, geometry) : new IndirectSlubCache(host, spec, geometry);
  }
}
