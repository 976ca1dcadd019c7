/**
 * An object freed to a cache that it is not of.
 */
import type { VirtAddr } from '@pagelab/abi';
import type { SlabHost } from './host.ts';
import type { KmemCache } from './kmem-cache.ts';
import { cacheOfPage } from './slab-pages.ts';

/**
 * Reports an object that is not `cache`'s, and frees it where it belongs.
 *
 * @param notices whether one of another cache is reported
 * @linux mm/slub.c:cache_from_obj
 */
export function freeForeign(host: SlabHost, cache: KmemCache, object: VirtAddr, notices: boolean): void {
  const owner = cacheOfPage(host, host.pages.virtToPfn(object))?.cacheAt(object);
  if (owner === undefined) {
    const text = `BUG ${cache.name}: Not a slab object 0x${host.memory.format(object)}`;
    host.report({ kind: 'invalid-free', cache: cache.name, address: object, text });
    return;
  }
  if (notices) {
    const { lines, ...tracks } = owner.objectTracks(object);
    const text = [`cache_from_obj: Wrong slab cache. ${cache.name} but object is from ${owner.name}`, ...lines].join('\n');
    host.report({ kind: 'wrong-cache', cache: cache.name, address: object, text, ...tracks });
  }
  owner.free(object);
}
