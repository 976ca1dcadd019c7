/**
 * SLAB as the generic layer sees it.
 */
import { ClassicDebugCache, debugShape } from './classic-debug.ts';
import { classicGeometry } from './classic-geometry.ts';
import { ClassicCache } from './classic-slab.ts';
import type { CacheSpec, SlabAllocator, SlabHost } from './host.ts';
import type { KmemCache } from './kmem-cache.ts';

/** What a SLAB is built with. */
export interface ClassicSlabOptions {
  /** Red zones, poison and the last user of each object. No by default. @linux CONFIG_DEBUG_SLAB */
  readonly debug?: boolean;
}

/** SLAB, as `"slab": "slab"` asks for it. */
export class ClassicSlabAllocator implements SlabAllocator {
  readonly name = 'slab';
  readonly reaps = true;
  readonly usesPercpu = true;
  /** @linux include/linux/slab.h:KMALLOC_SHIFT_LOW */
  readonly kmallocMinSize = 32;
  /** Debugged caches are never shared. @linux mm/slab_common.c:SLAB_NEVER_MERGE */
  readonly merges: boolean;
  private readonly debug: boolean;

  constructor({ debug = false }: ClassicSlabOptions = {}) {
    this.debug = debug;
    this.merges = !debug;
  }

  createCache(host: SlabHost, asked: CacheSpec): KmemCache | number {
    const { spec, objectOffset, extraBytes } = this.debug ? debugShape(asked, host.machine.wordBytes) : { spec: asked, objectOffset: 0, extraBytes: 0 };
    const geometry = classicGeometry(
      { objectSize: spec.objectSize, align: spec.align, flags: spec.flags, hasConstructor: spec.ctor !== undefined, objectOffset, extraBytes },
      host.machine,
      (bytes) => {
        const cache = host.kmallocCache(bytes);
        return cache instanceof ClassicCache && cache.geometry.freeList !== 'off-slab' ? cache.size : undefined;
      },
    );
    if (typeof geometry === 'number') return geometry;
    const cache = this.debug ? new ClassicDebugCache(host, spec, geometry) : new ClassicCache(host, spec, geometry);
    const error = host.late.percpu === null ? 0 : cache.initLate();
    return error < 0 ? error : cache;
  }
}
