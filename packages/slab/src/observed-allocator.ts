/**
 * A slab allocator whose caches tell of each object they give out and take back: another allocator's, whichever it is. Without
 * an observer nothing of this is there, and costs nothing.
 */
import type { VirtAddr } from '@pagelab/abi';
import type { SlabAllocator } from './host.ts';
import type { KmemCache } from './kmem-cache.ts';

/** Is told of objects. @linux include/linux/kmemleak.h:kmemleak_alloc_recursive */
export interface SlabObserver {
  /** An object was given out. @param size its bytes @param flags SLAB_* of its cache; 0 where it is of none */
  alloc(object: VirtAddr, size: number, flags: number): void;
  /** One is about to be taken back. */
  free(object: VirtAddr): void;
}

/** Makes every cache of `inner` tell `observer`. */
export function observedAllocator(inner: SlabAllocator, observer: SlabObserver): SlabAllocator {
  return {
    ...inner,
    name: inner.name,
    ...(inner.createHeap === undefined
      ? {}
      : {
          createHeap(host, id) {
            const heap = inner.createHeap!(host, id);
            const kmalloc = heap.kmalloc.bind(heap);
            heap.kmalloc = (size, gfp) => {
              const object = kmalloc(size, gfp);
              if (object !== 0) observer.alloc(object, size, 0);
              return object;
            };
            observe(heap, observer);
            return heap;
          },
        }),
    createCache(host, spec) {
      const cache = inner.createCache(host, spec);
      if (typeof cache !== 'number') observe(cache, observer);
      return cache;
    },
  };
}

/** A cache's methods call one another: only the outermost call tells. */
function observe(cache: KmemCache, observer: SlabObserver): void {
  let depth = 0;
  const outermost = <T>(body: () => T, told: (result: T) => void): T => {
    depth += 1;
    let result: T;
    try {
      result = body();
    } finally {
      depth -= 1;
    }
    if (depth === 0) told(result);
    return result;
  };
  const given = (object: VirtAddr): void => {
    if (object !== 0) observer.alloc(object, cache.objectSize, cache.flags);
  };
  const alloc = cache.alloc.bind(cache);
  const allocNode = cache.allocNode.bind(cache);
  const allocSized = cache.allocSized.bind(cache);
  const free = cache.free.bind(cache);
  cache.alloc = (gfp) => outermost(() => alloc(gfp), given);
  cache.allocNode = (gfp, node) => outermost(() => allocNode(gfp, node), given);
  cache.allocSized = (gfp, bytes) => outermost(() => allocSized(gfp, bytes), given);
  cache.free = (object) => {
    if (depth === 0 && object !== 0) observer.free(object);
    outermost(
      () => {
        free(object);
      },
      () => {},
    );
  };
}
