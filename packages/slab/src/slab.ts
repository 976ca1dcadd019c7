/**
 * The slab layer as the rest of the kernel uses it: caches by name, and `kmalloc`.
 *
 * @linux mm/slab_common.c
 */
import { Errno } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_OFFSET, PAGE_SIZE } from '@pagelab/hw';
import type { PhysicalMemory } from '@pagelab/hw';
import { KernelBug, TraceRing, bugOn } from '@pagelab/lib';
import { GFP_KERNEL, PG_KERNEL_DATA, PG_SLAB, __GFP_COMP, __GFP_ZERO, blockOrder, compoundHead } from '@pagelab/mm-core';
import type { PageAlloc } from '@pagelab/mm-core';
import { accountSlabPages } from './accounting.ts';
import {
  SLAB_FLAGS_PERMITTED,
  SLAB_HWCACHE_ALIGN,
  SLAB_KMALLOC,
  SLAB_MERGE_SAME,
  SLAB_NEVER_MERGE,
  SLAB_PANIC,
} from './flags.ts';
import { calculateAlignment, calculateSizes, getOrder } from './geometry.ts';
import type { SlabKernelVersion, SlabMachine } from './geometry.ts';
import type { CacheSpec, SlabAllocator, SlabConstructor, SlabCpus, SlabHost } from './host.ts';
import type { KmemCache } from './kmem-cache.ts';
import {
  KMALLOC_MAX_CACHE_SIZE,
  KMALLOC_MAX_SIZE,
  KMALLOC_NORMAL,
  KMALLOC_NOT_NORMAL_BITS,
  NR_KMALLOC_TYPES,
  ZERO_SIZE_PTR,
  kmallocCaches,
  kmallocType,
} from './kmalloc.ts';
import { formatAddress, throwReport } from './report.ts';
import type { SlabReporter } from './report.ts';
import { frameAddress } from './slab-pages.ts';
import { NO_SLUB_DEBUG, parseSlubDebug, withDebugFlags, withoutLargerSlabs } from './slub-debug.ts';
import type { SlubDebug } from './slub-debug.ts';
import { SlubAllocator } from './slub.ts';

/** What marks the pages of a `kmalloc` too large for a cache, in `PageFrames.mapping`. Never a cache's id. */
const LARGE_KMALLOC = 0x7fff_ffff;

/** Kernel parameters and rules of the slab layer. What is left out is Linux's default. */
export interface SlubOptions {
  /** Which kernel's rules; `6.18` by default. */
  readonly kernel?: SlabKernelVersion;
  /** Bytes of a pointer. 8, which is the default, is what RAM holds whatever is said here; 4 gives i386's layouts. */
  readonly wordBytes?: 4 | 8;
  /** CPUs there could be (`possible_cpus=`); by default those there are. */
  readonly possibleCpus?: number;
  /** NUMA nodes; 1 by default. */
  readonly nrNodes?: number;
  /** `slub_max_order=`, `slub_min_order=`, `slub_min_objects=`. */
  readonly maxOrder?: number;
  readonly minOrder?: number;
  readonly minObjects?: number;
  /** `slab_nomerge`. */
  readonly noMerge?: boolean;
  /** The value of `slub_debug=`. */
  readonly debug?: string;
}

/** The parts a {@link Slab} stands on. */
export interface SlabParts {
  readonly pages: PageAlloc;
  readonly ram: PhysicalMemory;
  readonly smp: SlabCpus;
  readonly trace?: TraceRing;
  readonly slubOptions?: SlubOptions;
  /** SLUB by default. */
  readonly allocator?: SlabAllocator;
  /** Is told of each misuse; by default the first one stops the emulator. */
  readonly report?: SlabReporter;
}

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

/** Every cache, and `kmalloc` and its family. */
export class Slab {
  /** The allocator behind the caches, as the configuration names it. */
  readonly allocatorName: string;

  private readonly host: SlabHost;
  private readonly allocator: SlabAllocator;
  private readonly debug: SlubDebug;
  private readonly noMerge: boolean;
  /** By id; 0 is none. */
  private readonly byId: (KmemCache | undefined)[] = [undefined];
  /** In the order they were made. */
  private list: KmemCache[] = [];
  /** The caches of a kind, by (size + 7) >> 3. */
  private readonly kmallocTables: KmemCache[][];
  private readonly kmallocNormal: KmemCache[];
  /** `kmem_cache` and `kmem_cache_node`: where caches themselves are objects. */
  private readonly cacheCache: KmemCache;
  private readonly nodeCache: KmemCache;

  /**
   * Makes the first caches and those of kmalloc.
   *
   * @throws KernelBug where there is not memory enough
   * @linux mm/slub.c:kmem_cache_init
   */
  constructor(parts: SlabParts) {
    const options = parts.slubOptions ?? {};
    const trace = parts.trace ?? new TraceRing(1);
    const presentCpus = parts.smp.cpus.length;
    const machine: SlabMachine = {
      wordBytes: options.wordBytes ?? 8,
      presentCpus,
      possibleCpus: options.possibleCpus ?? presentCpus,
      kernel: options.kernel ?? '6.18',
      maxOrder: options.maxOrder ?? 3,
      minOrder: options.minOrder ?? 0,
      minObjects: options.minObjects ?? 0,
    };
    this.allocator = parts.allocator ?? new SlubAllocator();
    this.allocatorName = this.allocator.name;
    this.debug = options.debug === undefined ? NO_SLUB_DEBUG : parseSlubDebug(options.debug);
    // Debugging of every cache leaves none that could be merged; Linux says so by the same switch.
    this.noMerge = options.noMerge ?? false;
    this.host = {
      pages: parts.pages,
      ram: parts.ram,
      smp: parts.smp,
      trace,
      tracepoints: {
        kmemCacheAlloc: trace.define('kmem_cache_alloc', ['ptr', 'bytes_req', 'bytes_alloc', 'gfp_flags']),
        kmemCacheFree: trace.define('kmem_cache_free', ['ptr']),
        kmalloc: trace.define('kmalloc', ['ptr', 'bytes_req', 'bytes_alloc', 'gfp_flags']),
        kfree: trace.define('kfree', ['ptr']),
      },
      machine,
      nrNodes: options.nrNodes ?? 1,
      report: parts.report ?? throwReport,
      cacheOfPage: (pfn) => this.cacheOfPage(pfn),
    };
    const word = machine.wordBytes;
    const nodes = this.host.nrNodes;
    // struct kmem_cache ends in a pointer a node; its sizes, and kmem_cache_node's, as three kernels show them.
    const cacheBytes = (word === 8 ? (machine.kernel === '6.18' ? 224 : 216) : 136) + nodes * word;
    const nodeBytes = word === 8 ? (machine.kernel === '6.18' ? 72 : 64) : 32;
    this.cacheCache = this.createBootCache('kmem_cache', cacheBytes, SLAB_HWCACHE_ALIGN, word);
    this.nodeCache = this.createBootCache('kmem_cache_node', nodeBytes, SLAB_HWCACHE_ALIGN, word);
    this.cacheCache.refcount = -1;
    this.nodeCache.refcount = -1;
    bugOn(!this.chargeCache(this.cacheCache) || !this.chargeCache(this.nodeCache), 'slab: no memory for the first caches');

    this.kmallocTables = Array.from({ length: NR_KMALLOC_TYPES }, () => []);
    for (const { type, size, name, flags, align } of kmallocCaches(machine.kernel)) {
      const cache = this.createBootCache(name, size, flags | SLAB_KMALLOC, align, size);
      bugOn(!this.chargeCache(cache), 'slab: no memory for the kmalloc caches');
      const table = this.kmallocTables[type];
      for (let index = 0; index <= size >> 3; index++) {
        if (table[index] === undefined || table[index].size > cache.size) table[index] = cache;
      }
    }
    for (const table of this.kmallocTables) bugOn(table.includes(undefined as never), 'slab: a kmalloc size without a cache');
    this.kmallocNormal = this.kmallocTables[KMALLOC_NORMAL];
  }

  // ---------------------------------------------------------------------------------------------------------- caches

  /**
   * Makes a cache, or takes one that is as good: a cache of nearly the size, with the same accounting, no constructor and
   * no debugging is shared, and counts its users.
   *
   * @returns the cache, or -errno: EINVAL for a size, alignment or flag that makes no sense, EEXIST where the name is
   *   taken, ENOMEM
   * @throws KernelBug on failure with SLAB_PANIC
   * @linux mm/slab_common.c:kmem_cache_create
   */
  kmemCacheCreate(options: KmemCacheOptions): KmemCache | number {
    const result = this.create(options);
    if (typeof result === 'number' && ((options.flags ?? 0) & SLAB_PANIC) !== 0) {
      throw new KernelBug(`kmem_cache_create: Failed to create slab '${options.name}'. Error ${result}`);
    }
    return result;
  }

  private create(options: KmemCacheOptions): KmemCache | number {
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
    if (this.chargeCache(cache)) return cache;
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
  kmemCacheDestroy(cache: KmemCache): number {
    bugOn(this.byId[cache.id] !== cache, 'slab: destroying a cache that is not there');
    if (cache.refcount < 0) return -Errno.EBUSY;
    if (cache.refcount > 1) {
      cache.refcount--;
      cache.aliases.pop();
      return 0;
    }
    if (!cache.shutdown()) {
      const text = `kmem_cache_destroy ${cache.name}: Slab cache still has objects`;
      this.host.report({ kind: 'objects-remaining', cache: cache.name, address: 0, text });
      return -Errno.EBUSY;
    }
    this.unregister(cache);
    return 0;
  }

  /** Gives the empty slabs of a cache back; returns the pages given back. @linux mm/slab_common.c:kmem_cache_shrink */
  kmemCacheShrink(cache: KmemCache): number {
    return cache.shrink();
  }

  /** The caches, in the order they were made; an alias has none of its own. */
  caches(): Iterable<KmemCache> {
    return this.list;
  }

  /** The cache called `name`, or merged with one called so. */
  find(name: string): KmemCache | undefined {
    return this.list.find((cache) => cache.name === name || cache.aliases.includes(name));
  }

  /** The cache that the object at `address` is of; `undefined` where it is none. */
  cacheOf(address: VirtAddr): KmemCache | undefined {
    return this.cacheOfPage(Math.floor((address - PAGE_OFFSET) / PAGE_SIZE));
  }

  private cacheOfPage(pfn: number): KmemCache | undefined {
    if (!(pfn >= 0 && pfn < this.host.ram.maxPfn)) return undefined;
    const { frames } = this.host.pages;
    const head = compoundHead(frames, pfn);
    return (frames.flags[head] & PG_SLAB) === 0 ? undefined : this.byId[frames.mapping[head]];
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
  private chargeCache(cache: KmemCache): boolean {
    const gfp = GFP_KERNEL | __GFP_ZERO;
    const own = this.cacheCache.alloc(gfp);
    if (own === 0) return false;
    cache.backing.push(own);
    for (let node = 0; node < this.host.nrNodes; node++) {
      const object = this.nodeCache.allocNode(gfp, node);
      if (object === 0) return false;
      cache.backing.push(object);
    }
    return true;
  }

  /** A cache of the slab layer itself. @linux mm/slab_common.c:create_boot_cache */
  private createBootCache(name: string, size: number, flags: number, minAlign: number, userSize = 0): KmemCache {
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

  // --------------------------------------------------------------------------------------------------------- kmalloc

  /**
   * Allocates `size` bytes of kernel memory, aligned to 8 and to the size where it is a power of two.
   *
   * @returns the address, 0 where there is no memory, ZERO_SIZE_PTR for no bytes
   * @linux mm/slab_common.c:kmalloc
   */
  kmalloc(size: number, gfp: number): VirtAddr {
    if (size <= KMALLOC_MAX_CACHE_SIZE && size > 0 && !this.host.trace.enabled) {
      const table = (gfp & KMALLOC_NOT_NORMAL_BITS) === 0 ? this.kmallocNormal : this.kmallocTables[kmallocType(gfp)];
      return table[(size + 7) >> 3].alloc(gfp);
    }
    return this.kmallocSlow(size, gfp);
  }

  private kmallocSlow(size: number, gfp: number): VirtAddr {
    if (size === 0) return ZERO_SIZE_PTR;
    const cache = this.kmallocCache(size, gfp);
    if (cache === undefined) return this.kmallocLarge(size, gfp);
    const object = cache.alloc(gfp);
    if (this.host.trace.enabled) this.host.trace.emit(this.host.tracepoints.kmalloc, object, size, cache.size, gfp);
    return object;
  }

  /** The cache that serves `size` bytes; `undefined` where the page allocator does. @linux mm/slab.h:kmalloc_slab */
  kmallocCache(size: number, gfp: number): KmemCache | undefined {
    return size > KMALLOC_MAX_CACHE_SIZE ? undefined : this.kmallocTables[kmallocType(gfp)][(size + 7) >> 3];
  }

  /** @linux mm/slub.c:___kmalloc_large_node */
  private kmallocLarge(size: number, gfp: number): VirtAddr {
    if (!(size <= KMALLOC_MAX_SIZE)) return 0;
    const order = getOrder(size);
    const { pages, trace, tracepoints } = this.host;
    const pfn = pages.allocPages(gfp | __GFP_COMP, order);
    if (pfn < 0) return 0;
    pages.frames.mapping[pfn] = LARGE_KMALLOC;
    pages.frames.flags[pfn] |= PG_KERNEL_DATA;
    accountSlabPages(pages, pfn, 0, 2 ** order);
    const address = frameAddress(pfn);
    if (trace.enabled) trace.emit(tracepoints.kmalloc, address, size, PAGE_SIZE * 2 ** order, gfp);
    return address;
  }

  /** `kmalloc` of zeroed memory. @linux include/linux/slab.h:kzalloc */
  kzalloc(size: number, gfp: number): VirtAddr {
    return this.kmalloc(size, gfp | __GFP_ZERO);
  }

  /** `kmalloc` for `n` elements of `size` bytes; 0 where the product overflows 64 bits. @linux include/linux/slab.h */
  kmallocArray(n: number, size: number, gfp: number): VirtAddr {
    const bytes = n * size;
    return bytes >= 2 ** 64 ? 0 : this.kmalloc(bytes, gfp);
  }

  /** `kmallocArray` of zeroed memory. @linux include/linux/slab.h:kcalloc */
  kcalloc(n: number, size: number, gfp: number): VirtAddr {
    return this.kmallocArray(n, size, gfp | __GFP_ZERO);
  }

  /**
   * Gives memory of `kmalloc` another size, moving it where it must. Bytes up to the smaller size are kept; with
   * `__GFP_ZERO` only those of a new block are cleared. 0 or ZERO_SIZE_PTR is an allocation, size 0 a free.
   *
   * @returns the address, or 0 where there is no memory; the old memory is untouched then
   * @linux mm/slab_common.c:krealloc
   */
  krealloc(address: VirtAddr, size: number, gfp: number): VirtAddr {
    if (size === 0) {
      this.kfree(address);
      return ZERO_SIZE_PTR;
    }
    if (address >= 0) return this.kmalloc(size, gfp);
    const old = this.ksize(address);
    if (size <= old) return address;
    const moved = this.kmalloc(size, gfp);
    if (moved === 0) return 0;
    this.copy(moved, address, old);
    this.kfree(address);
    return moved;
  }

  /**
   * Frees memory of `kmalloc`, whatever its size, or an object of any cache; 0 and ZERO_SIZE_PTR are nothing. Misuse is
   * reported.
   *
   * @linux mm/slub.c:kfree
   */
  kfree(address: VirtAddr): void {
    const page = (address - PAGE_OFFSET) / PAGE_SIZE;
    if (page >= 0 && page < this.host.ram.maxPfn) {
      const { frames } = this.host.pages;
      const head = compoundHead(frames, page | 0);
      if ((frames.flags[head] & PG_SLAB) !== 0 && !this.host.trace.enabled) {
        this.byId[frames.mapping[head]]!.free(address);
        return;
      }
    }
    this.kfreeSlow(address);
  }

  private kfreeSlow(address: VirtAddr): void {
    const { pages, trace, tracepoints, report } = this.host;
    if (trace.enabled) trace.emit(tracepoints.kfree, address);
    if (address === 0 || address === ZERO_SIZE_PTR) return;
    const cache = this.cacheOf(address);
    if (cache !== undefined) {
      cache.free(address);
      return;
    }
    const pfn = this.largeBlock(address);
    if (pfn < 0) {
      report({ kind: 'invalid-free', cache: '', address, text: `kfree: not a kmalloc allocation: 0x${formatAddress(address)}` });
      return;
    }
    const order = blockOrder(pages.frames, pfn);
    accountSlabPages(pages, pfn, 0, -(2 ** order));
    pages.frames.mapping[pfn] = 0;
    pages.frames.flags[pfn] &= ~PG_KERNEL_DATA;
    pages.freePages(pfn, order);
  }

  /** First page of the large block that begins at `address`, or −1. */
  private largeBlock(address: VirtAddr): number {
    const pfn = (address - PAGE_OFFSET) / PAGE_SIZE;
    if (!Number.isInteger(pfn) || pfn < 0 || pfn >= this.host.ram.maxPfn) return -1;
    const { frames } = this.host.pages;
    return (frames.flags[pfn] & PG_SLAB) === 0 && frames.mapping[pfn] === LARGE_KMALLOC ? pfn : -1;
  }

  /**
   * Bytes that may be used at `address`, which is memory of `kmalloc` or an object; 0 for 0 and ZERO_SIZE_PTR.
   *
   * @linux mm/slab_common.c:__ksize
   */
  ksize(address: VirtAddr): number {
    if (address === 0 || address === ZERO_SIZE_PTR) return 0;
    const cache = this.cacheOf(address);
    if (cache !== undefined) return cache.usableSize;
    const pfn = this.largeBlock(address);
    if (pfn < 0) {
      const text = `ksize: not a kmalloc allocation: 0x${formatAddress(address)}`;
      this.host.report({ kind: 'invalid-free', cache: '', address, text });
      return 0;
    }
    return PAGE_SIZE * 2 ** blockOrder(this.host.pages.frames, pfn);
  }

  /** Copies `bytes` of kernel memory between two blocks, each contiguous in physical memory. */
  private copy(to: VirtAddr, from: VirtAddr, bytes: number): void {
    const { ram } = this.host;
    for (let done = 0; done < bytes; ) {
      const source = from + done - PAGE_OFFSET;
      const target = to + done - PAGE_OFFSET;
      const run = Math.min(bytes - done, PAGE_SIZE - (source % PAGE_SIZE), PAGE_SIZE - (target % PAGE_SIZE));
      const at = (pa: number): number => ram.frameWord(Math.floor(pa / PAGE_SIZE)) * 4 + (pa % PAGE_SIZE);
      ram.u8.copyWithin(at(target), at(source), at(source) + run);
      done += run;
    }
  }

  /**
   * Recomputes the state of every cache: free counts by walking free lists, list integrity, every slab page owned once.
   *
   * @throws KernelBug at the first thing that does not fit
   */
  validate(): void {
    const owners = new Map<number, KmemCache>();
    for (const cache of this.list) {
      bugOn(this.byId[cache.id] !== cache, `slab ${cache.name}: not found by its id`);
      cache.validate((pfn, nrPages, owner) => {
        for (let page = pfn; page < pfn + nrPages; page++) {
          const other = owners.get(page);
          if (other !== undefined) throw new KernelBug(`slab: page ${page} is ${other.name}'s and ${owner.name}'s`);
          owners.set(page, owner);
        }
      });
      for (const object of cache.backing) {
        const of = this.cacheOf(object);
        bugOn(of !== this.cacheCache && of !== this.nodeCache, `slab ${cache.name}: its own object is no cache's`);
      }
    }
  }
}
