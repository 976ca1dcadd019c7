/**
 * The caches of a machine: their names, which of them are shared, and the objects they are themselves.
 */
import { Errno } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import { KernelBug, bugOn } from '@pagelab/lib';
import { GFP_KERNEL, PG_SLAB, __GFP_ZERO } from '@pagelab/mm-core';
import {
  SLAB_FLAGS_PERMITTED,
  SLAB_HWCACHE_ALIGN,
  SLAB_KMALLOC,
  SLAB_MERGE_SAME,
  SLAB_NEVER_MERGE,
  SLAB_PANIC,
  SLAB_TYPESAFE_BY_RCU,
} from './flags.ts';
import { calculateAlignment, calculateSizes } from './geometry.ts';
import type { CacheSpec, SlabAllocator, SlabConstructor, SlabHost } from './host.ts';
import type { KmemCache } from './kmem-cache.ts';
import { KMALLOC_MAX_SIZE } from './kmalloc.ts';
import { cacheOfPage } from './slab-pages.ts';
import { withDebugFlags, withoutLargerSlabs } from './slub-debug.ts';
import type { SlubDebug } from './slub-debug.ts';

/** What `kmemCacheCreate` takes. */
export interface KmemCacheOptions {
  readonly name: string;
  /** Bytes, 1 to 4 MiB. */
  readonly size: number;
  /** Bytes: 0 or a power of two. */
  readonly align?: number;
  /** SLAB_* */
  readonly flags?: number;
  readonly ctor?: SlabConstructor;
  /** Bytes of the object that may be copied to or from user space; such a cache is never merged. */
  readonly userSize?: number;
  /** With SLAB_TYPESAFE_BY_RCU: a word of the object that may hold the free pointer while it is free. */
  readonly freePointerOffset?: number;
}

/** Every cache, by name and by id. @linux mm/slab_common.c:slab_caches */
export class CacheRegistry {
  private readonly host: SlabHost;
  private readonly allocator: SlabAllocator;
  private readonly debug: SlubDebug;
  private readonly noMerge: boolean;
  /** The array behind `host.caches`; 0 is none. */
  private readonly byId: (KmemCache | undefined)[];
  /** In the order they were made. */
  private list: KmemCache[] = [];
  /** Where caches themselves are objects. */
  private readonly cacheCache: KmemCache;
  private readonly nodeCache: KmemCache;

  /**
   * Makes the caches `kmem_cache` and `kmem_cache_node`.
   *
   * @param byId the array that `host.caches` is
   * @throws KernelBug where there is no memory
   * @linux mm/slub.c:kmem_cache_init
   */
  constructor(
    host: SlabHost,
    byId: (KmemCache | undefined)[],
    allocator: SlabAllocator,
    rules: { readonly debug: SlubDebug; readonly noMerge: boolean },
  ) {
    this.host = host;
    this.byId = byId;
    this.allocator = allocator;
    this.debug = rules.debug;
    this.noMerge = rules.noMerge;
    const { wordBytes: word, kernel } = host.machine;
    // struct kmem_cache ends in a pointer a node. These are the sizes that three kernels show.
    const cacheBytes = (word === 8 ? (kernel === '6.18' ? 224 : 216) : 136) + host.pages.nodes.length * word;
    const nodeBytes = word === 8 ? (kernel === '6.18' ? 72 : 64) : 32;
    this.cacheCache = this.makeBootCache('kmem_cache', cacheBytes, SLAB_HWCACHE_ALIGN, word, 0);
    this.nodeCache = this.makeBootCache('kmem_cache_node', nodeBytes, SLAB_HWCACHE_ALIGN, word, 0);
    this.cacheCache.refcount = -1;
    this.nodeCache.refcount = -1;
    bugOn(!this.charge(this.cacheCache) || !this.charge(this.nodeCache), 'slab: no memory for the first caches');
  }

  /**
   * Makes a cache, or takes one that is as good: a cache of nearly the size, with the same accounting, no constructor and
   * no debugging is shared, and counts its users.
   *
   * @returns the cache, or -errno: EINVAL for a size, alignment or flag that makes no sense, EEXIST where the name is
   *   taken, ENOMEM
   * @throws KernelBug on failure with SLAB_PANIC
   * @linux mm/slab_common.c:kmem_cache_create
   */
  create(options: KmemCacheOptions): KmemCache | number {
    const result = this.tryCreate(options);
    if (typeof result === 'number' && ((options.flags ?? 0) & SLAB_PANIC) !== 0) {
      throw new KernelBug(`kmem_cache_create: Failed to create slab '${options.name}'. Error ${result}`);
    }
    return result;
  }

  private tryCreate(options: KmemCacheOptions): KmemCache | number {
    const { name, size, align = 0, flags = 0, ctor, userSize = 0, freePointerOffset } = options;
    if (name === '' || !Number.isInteger(size) || size < 1 || size > KMALLOC_MAX_SIZE) return -Errno.EINVAL;
    if ((flags & ~SLAB_FLAGS_PERMITTED) !== 0) return -Errno.EINVAL;
    if (align !== 0 && (!Number.isInteger(Math.log2(align)) || align > PAGE_SIZE)) return -Errno.EINVAL;
    if (userSize < 0 || userSize > size) return -Errno.EINVAL;
    if (freePointerOffset !== undefined && !this.validFreePointer(options, freePointerOffset)) return -Errno.EINVAL;
    if (this.find(name) !== undefined) return -Errno.EEXIST;
    if (userSize === 0) {
      const like = this.findMergeable(name, size, align, flags, ctor);
      if (like !== undefined) {
        like.refcount++;
        like.aliases.push(name);
        like.objectSize = Math.max(like.objectSize, size);
        return like;
      }
    }
    const cache = this.allocator.createCache(
      this.host,
      this.spec(name, size, calculateAlignment(flags, align, size, this.host.machine.wordBytes), flags, {
        ctor,
        userSize,
        freePointerOffset,
      }),
    );
    if (typeof cache === 'number') return cache;
    this.register(cache);
    if (this.charge(cache)) return cache;
    cache.shutdown();
    this.unregister(cache);
    return -Errno.ENOMEM;
  }

  /** The free pointer lies on a word inside an RCU-safe object without constructor. */
  private validFreePointer(options: KmemCacheOptions, offset: number): boolean {
    const word = this.host.machine.wordBytes;
    return Number.isInteger(offset / word) && offset >= 0 && offset + word <= options.size && options.ctor === undefined;
  }

  /**
   * Drops one user of a cache; with the last one the cache goes.
   *
   * @returns 0, or -EBUSY where live objects keep the cache; it stays usable, and Linux's report is made
   * @linux mm/slab_common.c:kmem_cache_destroy
   */
  destroy(cache: KmemCache): number {
    bugOn(this.byId[cache.id] !== cache, 'slab: destroying a cache that is not there');
    if (cache.refcount < 0) return -Errno.EBUSY;
    if (cache.refcount > 1) {
      cache.refcount--;
      cache.aliases.pop();
      return 0;
    }
    if (!cache.shutdown()) {
      const summary = `kmem_cache_destroy ${cache.name}: Slab cache still has objects`;
      const text = [...cache.remainingLines(), summary].join('\n');
      this.host.report({ kind: 'objects-remaining', cache: cache.name, address: 0, text });
      return -Errno.EBUSY;
    }
    // What of it waits for readers must be gone before its id is another's.
    if ((cache.flags & SLAB_TYPESAFE_BY_RCU) !== 0) this.host.rcu?.rcu.barrier();
    this.unregister(cache);
    return 0;
  }

  /** Whether caches that are alike share one. */
  get merges(): boolean {
    return !this.noMerge;
  }

  /** The caches, in the order they were made; an alias has none of its own. */
  get caches(): readonly KmemCache[] {
    return this.list;
  }

  /** The cache called `name`, or merged with one called so. */
  find(name: string): KmemCache | undefined {
    return this.list.find((cache) => cache.name === name || cache.aliases.includes(name));
  }

  /** @linux mm/slab_common.c:find_mergeable */
  private findMergeable(
    name: string,
    objectSize: number,
    align: number,
    cacheFlags: number,
    ctor: SlabConstructor | undefined,
  ): KmemCache | undefined {
    if (this.noMerge || ctor !== undefined) return undefined;
    const word = this.host.machine.wordBytes;
    const aligned = Math.ceil(objectSize / word) * word;
    const alignment = calculateAlignment(cacheFlags, align, aligned, word);
    const size = Math.ceil(aligned / alignment) * alignment;
    const flags = withDebugFlags(this.debug, name, cacheFlags);
    if ((flags & SLAB_NEVER_MERGE) !== 0) return undefined;
    // The oldest cache that fits is taken.
    for (const cache of this.list) {
      if (cache.unmergeable || size > cache.size) continue;
      if ((flags & SLAB_MERGE_SAME) !== (cache.flags & SLAB_MERGE_SAME)) continue;
      if (cache.size % alignment !== 0) continue;
      if (cache.size - size >= word) continue;
      return cache;
    }
    return undefined;
  }

  private spec(
    name: string,
    objectSize: number,
    align: number,
    baseFlags: number,
    rest: Pick<CacheSpec, 'ctor' | 'userSize' | 'freePointerOffset'>,
  ): CacheSpec {
    let flags = withDebugFlags(this.debug, name, baseFlags);
    const sizes = calculateSizes(
      { objectSize, align, flags, hasConstructor: rest.ctor !== undefined, freePointerOffset: rest.freePointerOffset },
      this.host.machine,
    );
    if (typeof sizes !== 'number') flags = withoutLargerSlabs(this.debug, flags, sizes.size, objectSize);
    let id = this.byId.indexOf(undefined, 1);
    if (id < 0) id = this.byId.length;
    return { id, name, objectSize, align, flags, ...rest };
  }

  private register(cache: KmemCache): void {
    this.byId[cache.id] = cache;
    this.list.push(cache);
  }

  private unregister(cache: KmemCache): void {
    const [own, ...nodes] = cache.backing.splice(0);
    for (const object of nodes) this.nodeCache.free(object);
    if (own !== undefined) this.cacheCache.free(own);
    this.byId[cache.id] = undefined;
    this.list = this.list.filter((other) => other !== cache);
  }

  /** Allocates the objects that stand for a cache; on failure none. */
  private charge(cache: KmemCache): boolean {
    const gfp = GFP_KERNEL | __GFP_ZERO;
    const own = this.cacheCache.alloc(gfp);
    if (own === 0) return false;
    cache.backing.push(own);
    for (const node of this.host.pages.nodes) {
      if (node.present === 0) continue;
      const object = this.nodeCache.allocNode(gfp, node.nid);
      if (object === 0) return false;
      cache.backing.push(object);
    }
    return true;
  }

  /**
   * Makes a cache of kmalloc's.
   *
   * @throws KernelBug where there is no memory
   * @linux mm/slab_common.c:create_kmalloc_cache
   */
  createKmallocCache(name: string, size: number, flags: number, align: number): KmemCache {
    const cache = this.makeBootCache(name, size, flags | SLAB_KMALLOC, align, size);
    bugOn(!this.charge(cache), 'slab: no memory for the kmalloc caches');
    return cache;
  }

  /** A cache of the slab layer itself. @linux mm/slab_common.c:create_boot_cache */
  private makeBootCache(name: string, size: number, flags: number, minAlign: number, userSize: number): KmemCache {
    const { wordBytes, kernel } = this.host.machine;
    let align = minAlign;
    // Powers of two are aligned to themselves, kmalloc sizes as kmallocCaches says.
    if (Number.isInteger(Math.log2(size)) && (kernel === '6.1' || (flags & SLAB_KMALLOC) !== 0)) {
      align = Math.max(align, size);
    }
    align = calculateAlignment(flags, align, size, wordBytes);
    const cache = this.allocator.createCache(
      this.host,
      this.spec(name, size, align, flags, { ctor: undefined, userSize, freePointerOffset: undefined }),
    );
    if (typeof cache === 'number') throw new KernelBug(`slab: no cache ${name} (${cache})`);
    this.register(cache);
    return cache;
  }

  /** Recomputes the state of every cache, and of the heap that they share. @throws KernelBug for the first thing that does not fit */
  validate(heap?: KmemCache): void {
    const owners = new Map<number, KmemCache>();
    for (const cache of heap === undefined ? this.list : [heap, ...this.list]) {
      bugOn(this.byId[cache.id] !== cache, `slab ${cache.name}: not found by its id`);
      const { flags, mapping } = this.host.pages.frames;
      cache.validate((pfn, nrPages, owner) => {
        bugOn((flags[pfn] & PG_SLAB) === 0 || mapping[pfn] !== owner.id, `slab ${owner.name}: page ${pfn} is not marked as its own`);
        for (let page = pfn; page < pfn + nrPages; page++) {
          const other = owners.get(page);
          if (other !== undefined) throw new KernelBug(`slab: page ${page} is ${other.name}'s and ${owner.name}'s`);
          owners.set(page, owner);
        }
      });
      for (const object of cache.backing) {
        const of = cacheOfPage(this.host, this.host.pages.virtToPfn(object))?.cacheAt(object);
        bugOn(of !== this.cacheCache && of !== this.nodeCache, `slab ${cache.name}: its own object is no cache's`);
      }
    }
  }
}
