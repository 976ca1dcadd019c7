/**
 * A cache of objects of one size, whichever allocator serves it.
 */
import { Errno } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { CacheSpec, SlabConstructor } from './host.ts';
import {
  SLAB_ACCOUNT,
  SLAB_CACHE_DMA,
  SLAB_CACHE_DMA32,
  SLAB_CONSISTENCY_CHECKS,
  SLAB_NEVER_MERGE,
  SLAB_RECLAIM_ACCOUNT,
} from './flags.ts';
import type { SlabTrack } from './track.ts';

/** A line of `/proc/slabinfo`. Objects that a CPU holds free count as active there, as in Linux. */
export interface SlabInfo {
  readonly name: string;
  readonly activeObjects: number;
  readonly totalObjects: number;
  /** Bytes from one object to the next. */
  readonly objectSize: number;
  readonly objectsPerSlab: number;
  readonly pagesPerSlab: number;
  readonly activeSlabs: number;
  readonly totalSlabs: number;
  /** What SLAB's CPUs may hold; 0 for all of it where it is not told. */
  readonly tunables?: { readonly limit: number; readonly batchcount: number; readonly sharedFactor: number };
  /** Objects in the arrays that a node's CPUs share. */
  readonly sharedAvail?: number;
}

/** Tracks of the live objects of a cache: who allocated each, and who freed it before. */
export interface SlabTracks {
  readonly allocated: readonly SlabTrack[];
  readonly freed: readonly SlabTrack[];
}

/** Makes a cache the only owner of a slab in a check; throws where another owns it. */
export type SlabOwnershipCheck = (headPfn: number, nrPages: number, cache: KmemCache) => void;

/**
 * A cache of equal objects. The generic layer owns the names, the reference count and the flags; a slab allocator
 * extends this class with how objects are found and kept.
 *
 * @linux mm/slab.h:kmem_cache
 */
export abstract class KmemCache {
  /** Marks the cache's pages; see `CacheSpec.id`. */
  readonly id: number;
  /** The name of whoever made it first. */
  readonly name: string;
  /** Names of the caches that were merged into this one, in the order they came. */
  readonly aliases: string[] = [];
  /** SLAB_* */
  readonly flags: number;
  /** Bytes. */
  readonly align: number;
  readonly ctor: SlabConstructor | undefined;
  readonly userSize: number;
  /** Users: its name and its aliases. −1 exempts the allocator's own caches from merging and destruction. */
  refcount = 1;
  /** What the largest of its users asked for, in bytes; what `__GFP_ZERO` clears. */
  objectSize: number;
  /** Bytes from one object to the next. */
  readonly size: number;
  /** Pages of a slab, as a power of two, where memory is not short. */
  readonly order: number;
  readonly objectsPerSlab: number;
  /** The allocator's own objects that stand for this cache: the `kmem_cache` and one `kmem_cache_node` a node. */
  readonly backing: VirtAddr[] = [];

  protected constructor(spec: CacheSpec, layout: { size: number; order: number; objectsPerSlab: number }) {
    this.id = spec.id;
    this.name = spec.name;
    this.flags = spec.flags;
    this.align = spec.align;
    this.ctor = spec.ctor;
    this.userSize = spec.userSize;
    this.objectSize = spec.objectSize;
    this.size = layout.size;
    this.order = layout.order;
    this.objectsPerSlab = layout.objectsPerSlab;
  }

  /**
   * Allocates an object from the running CPU's node.
   *
   * @returns its address, or 0 where there is no memory
   * @linux mm/slub.c:kmem_cache_alloc
   */
  abstract alloc(gfp: number): VirtAddr;

  /** As {@link alloc}, from `node` where it can; −1 is any. @linux mm/slub.c:kmem_cache_alloc_node */
  abstract allocNode(gfp: number, node: number): VirtAddr;

  /**
   * As {@link alloc}, for a caller that uses `bytes` of the object: what a cache with {@link tracksSize} keeps.
   *
   * @linux mm/slub.c:slab_alloc_node
   */
  allocSized(gfp: number, _bytes: number): VirtAddr {
    return this.alloc(gfp);
  }

  /** Whether the cache keeps how many bytes of an object were asked for. @linux mm/slub.c:slub_debug_orig_size */
  get tracksSize(): boolean {
    return false;
  }

  /** Bytes of an object that were asked for, `undefined` where that is not kept. */
  requestedSize(_object: VirtAddr): number | undefined {
    return undefined;
  }

  /** Is told that `bytes` of a live object are used from now on, as `krealloc` does. */
  resized(_object: VirtAddr, _bytes: number): void {}

  /** Frees an object of this cache; 0 is not one. Misuse is reported. @linux mm/slub.c:kmem_cache_free */
  abstract free(object: VirtAddr): void;

  /**
   * Allocates objects into all of `into`, or none.
   *
   * @returns how many: `into.length` or 0
   * @linux mm/slub.c:kmem_cache_alloc_bulk
   */
  allocBulk(gfp: number, into: VirtAddr[] | Float64Array): number {
    for (let i = 0; i < into.length; i++) {
      const object = this.alloc(gfp);
      if (object === 0) {
        this.freeBulk(into.slice(0, i));
        return 0;
      }
      into[i] = object;
    }
    return into.length;
  }

  /** Frees objects of this cache. @linux mm/slub.c:kmem_cache_free_bulk */
  freeBulk(objects: readonly VirtAddr[] | Float64Array): void {
    for (const object of objects) this.free(object);
  }

  /** What `/sys/kernel/slab` shows of a cache beside what all of them have: names of files, and what they say. */
  attributes(): Readonly<Record<string, number | string>> {
    return {};
  }

  /** Gives empty slabs back. Returns the pages given back. @linux mm/slub.c:kmem_cache_shrink */
  abstract shrink(): number;

  /**
   * Gives back every slab. Returns false where objects are live; the cache stays usable then.
   *
   * @linux mm/slub.c:__kmem_cache_shutdown
   */
  abstract shutdown(): boolean;

  /**
   * Is told that there is per-CPU memory.
   *
   * @returns 0 or -ENOMEM
   * @linux mm/slab.c:kmem_cache_init_late
   */
  initLate(): number {
    return 0;
  }

  /** Gives memory back that had to wait for readers: of a slab, or of an object. @linux mm/slub.c:rcu_free_slab */
  freeAfterGracePeriod(_address: VirtAddr): void {}

  /** What the running CPU does from time to time with what it keeps and does not need. @linux mm/slab.c:cache_reap */
  reap(): void {}

  /** Objects handed out and not yet freed. Cost: what the free lists of the CPUs and nodes hold. */
  abstract get activeObjects(): number;
  /** Objects of all slabs, free or not. */
  abstract get totalObjects(): number;
  /** Slabs the cache owns. */
  abstract get activeSlabs(): number;
  /** Pages the cache owns. */
  abstract readonly nrPages: number;

  /** The line of `/proc/slabinfo`. */
  slabInfo(): SlabInfo {
    return {
      name: this.name,
      activeObjects: this.activeObjects,
      totalObjects: this.totalObjects,
      objectSize: this.size,
      objectsPerSlab: this.objectsPerSlab,
      pagesPerSlab: 2 ** this.order,
      activeSlabs: this.activeSlabs,
      totalSlabs: this.activeSlabs,
    };
  }

  /** What printing a cache shows, rather than the machine behind it. */
  toJSON(): SlabInfo {
    return this.slabInfo();
  }

  /** Bytes that may be used of any object: what `ksize` tells. @linux mm/slub.c:slab_ksize */
  abstract get usableSize(): number;

  /** The cache of the object at an address of one of its pages: itself, unless caches share pages. */
  cacheAt(_address: VirtAddr): KmemCache {
    return this;
  }

  /** Bytes that may be used of the object at an address. */
  sizeAt(_address: VirtAddr): number {
    return this.usableSize;
  }

  /** The address of the object that contains `address`, which lies in a slab of this cache. */
  abstract objectAt(address: VirtAddr): VirtAddr;

  /** The addresses of the live objects. Cost: every object of the cache. */
  abstract liveObjects(): VirtAddr[];

  /**
   * Recomputes the cache's state from its slabs and free lists.
   *
   * @throws KernelBug at the first thing that does not fit
   */
  abstract validate(claim: SlabOwnershipCheck): void;

  /**
   * Checks every object of a debugged cache, and reports what is wrong.
   *
   * @returns objects looked at, or -EINVAL where the cache is not debugged
   * @linux mm/slub.c:validate_slab_cache
   */
  check(): number {
    return -Errno.EINVAL;
  }

  /** Lines for the log about objects that keep the cache from being destroyed. @linux mm/slub.c:list_slab_objects */
  remainingLines(): string[] {
    return [];
  }

  /** Who allocated and who last freed an object, and that as the log has it; nobody where it is not kept. */
  objectTracks(_object: VirtAddr): { readonly lines: readonly string[]; readonly allocated?: SlabTrack; readonly freed?: SlabTrack } {
    return { lines: [] };
  }

  /** Who allocated the live objects, and who last freed them; `undefined` where that is not kept. */
  tracks(): SlabTracks | undefined {
    return undefined;
  }

  /** True where no other cache may share it. @linux mm/slab_common.c:slab_unmergeable */
  get unmergeable(): boolean {
    return (this.flags & SLAB_NEVER_MERGE) !== 0 || this.ctor !== undefined || this.userSize > 0 || this.refcount < 0;
  }

  /** What `/sys/kernel/slab` calls a cache that may be shared: its flags and size. @linux mm/slub.c:create_unique_id */
  get uniqueId(): string {
    let letters = '';
    if ((this.flags & SLAB_CACHE_DMA) !== 0) letters += 'd';
    if ((this.flags & SLAB_CACHE_DMA32) !== 0) letters += 'D';
    if ((this.flags & SLAB_RECLAIM_ACCOUNT) !== 0) letters += 'a';
    if ((this.flags & SLAB_CONSISTENCY_CHECKS) !== 0) letters += 'F';
    if ((this.flags & SLAB_ACCOUNT) !== 0) letters += 'A';
    return `:${letters}${letters === '' ? '' : '-'}${String(this.size).padStart(7, '0')}`;
  }
}
