/**
 * The slab layer as the rest of the kernel uses it: caches by name, and `kmalloc`.
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { PhysicalMemory } from '@pagelab/hw';
import { Prng, TraceRing, bugOn } from '@pagelab/lib';
import type { TraceUser } from '@pagelab/lib';
import { GFP_KERNEL, MAX_PAGE_ORDER, PG_KERNEL_DATA, PG_SLAB, PG_TAIL, VM_EVENT, __GFP_COMP, __GFP_ZERO, blockOrder } from '@pagelab/mm-core';
import type { PageAlloc, PageFrames } from '@pagelab/mm-core';
import { accountSlabPages } from './accounting.ts';
import { CacheRegistry } from './cache-registry.ts';
import type { KmemCacheOptions } from './cache-registry.ts';
import { DirectMap } from './direct-map.ts';
import { getOrder } from './geometry.ts';
import type { SlabKernelVersion, SlabMachine } from './geometry.ts';
import type { FreelistHardening, KmallocHeap, SlabAllocator, SlabCpus, SlabHost, SlabRcu } from './host.ts';
import type { KmemCache, SlabInfo } from './kmem-cache.ts';
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
import { percpuOfPages } from './percpu-source.ts';
import type { PercpuSource } from './percpu-source.ts';
import type { Rcu } from './rcu.ts';
import { throwReport } from './report.ts';
import type { SlabReporter } from './report.ts';
import { cacheOfPage } from './slab-pages.ts';
import { observedAllocator } from './observed-allocator.ts';
import type { SlabObserver } from './observed-allocator.ts';
import { ShrinkerRegistry } from './shrinker.ts';
import { NO_SLUB_DEBUG, parseSlubDebug } from './slub-debug.ts';
import { SlubAllocator } from './slub-allocator.ts';
import { Tracking } from './track.ts';
import type { SlabContext } from './track.ts';

/**
 * What `PageFrames.private` holds in the first page of a `kmalloc` too large for a cache, with PG_KERNEL_DATA.
 *
 * @linux include/linux/page-flags.h:PGTY_large_kmalloc
 */
const LARGE_KMALLOC = 0x6b6d_616c; // 'kmal'

/** Marks the pages of a heap, in place of a cache's id. */
const HEAP_ID = 1;

/** Kernel parameters and rules of the slab layer. What is left out is Linux's default. */
export interface SlubOptions {
  /** Which kernel's rules; `6.18` by default. */
  readonly kernel?: SlabKernelVersion;
  /** Bytes of a pointer: 8 by default, 4 of a kernel of 32 bits, whose pages have addresses to match. */
  readonly wordBytes?: 4 | 8;
  /** CPUs there could be (`possible_cpus=`); by default those there are. */
  readonly possibleCpus?: number;
  /** `slub_max_order=`, 3 by default and at most 10; `slub_min_order=`; `slub_min_objects=`. */
  readonly maxOrder?: number;
  readonly minOrder?: number;
  readonly minObjects?: number;
  /** `slab_nomerge`. */
  readonly noMerge?: boolean;
  /** The value of `slub_debug=`. */
  readonly debug?: string;
  /** `checks` by default. */
  readonly freelistHardening?: FreelistHardening;
  /** No by default. */
  readonly freelistRandom?: boolean;
}

/** The parts a {@link Slab} stands on. */
export interface SlabParts {
  readonly pages: PageAlloc;
  readonly ram: PhysicalMemory;
  readonly smp: SlabCpus;
  readonly trace?: TraceRing;
  readonly slubOptions?: SlubOptions;
  /** Lets slabs of SLAB_TYPESAFE_BY_RCU wait until nobody looks at their objects; without, nobody ever does. */
  readonly rcu?: Rcu;
  /** Per-CPU memory comes with {@link Slab.initLate}. Without, an allocator that needs some has pages of its own for it. */
  readonly latePercpu?: boolean;
  /** SLUB by default. */
  readonly allocator?: SlabAllocator;
  /** Is told of each object; nobody by default, which costs nothing. */
  readonly observer?: SlabObserver;
  /** Is told of each misuse; by default the first one stops the emulator. */
  readonly report?: SlabReporter;
  /** Takes what the kernel logs beside reports: lines of caches that are traced. */
  readonly log?: (line: string) => void;
  /** Time, process and caller, for caches that track who allocates. */
  readonly context?: SlabContext;
  /** Of the random numbers that free lists take. 1 by default. */
  readonly seed?: number;
}

/** The node of each CPU. */
function cpuNodes({ pages, smp }: SlabParts): Int32Array {
  const nodes = new Int32Array(smp.cpus.length);
  for (const { nid, cpus } of pages.nodes) for (const cpu of cpus) if (cpu < nodes.length) nodes[cpu] = nid;
  return nodes;
}

/** What layouts depend on, with Linux's defaults. @linux mm/slub.c:setup_slub_min_order */
function slabMachine(presentCpus: number, options: SlubOptions): SlabMachine {
  const minOrder = Math.min(options.minOrder ?? 0, MAX_PAGE_ORDER);
  return {
    wordBytes: options.wordBytes ?? 8,
    presentCpus,
    possibleCpus: options.possibleCpus ?? presentCpus,
    kernel: options.kernel ?? '6.18',
    maxOrder: Math.max(minOrder, Math.min(options.maxOrder ?? 3, MAX_PAGE_ORDER)),
    minOrder,
    minObjects: options.minObjects ?? 0,
  };
}

/** Every cache, and `kmalloc` and its family. */
export class Slab implements TraceUser {
  /** The allocator behind the caches, as the configuration names it. */
  readonly allocatorName: string;
  /** Whether caches are to be asked from time to time to `reap`. */
  readonly reaps: boolean;
  /** Owners of caches that can free some of them: what reclaim calls, by node and priority. */
  readonly shrinkers: ShrinkerRegistry;

  /** Kernel memory through the direct map. */
  readonly memory: DirectMap;

  private accountant: ((cache: KmemCache) => void) | null = null;
  private readonly host: SlabHost;
  /** Where the kernel has frame 0. */
  private readonly pageOffset: VirtAddr;
  /** What serves `kmalloc` where that is no caches. */
  private readonly heap: (KmallocHeap & KmemCache) | undefined;
  private readonly registry: CacheRegistry;
  private readonly frames: PageFrames;
  /** Columns of the frames that `kfree` looks at. */
  private readonly pageFlags: Uint32Array;
  private readonly pageMapping: Int32Array;
  private readonly trace: TraceRing;
  /** One past the last frame whose objects `kfree` finds the short way; 0 while anything is traced. */
  private maxFastPfn = 0;
  /** By id; 0 is none. */
  private readonly byId: (KmemCache | undefined)[] = [undefined];
  /**
   * The cache `kfree` last freed to, and its id: a branch that is mostly predicted instead of two loads that the free waits
   * for. `kmalloc(64)` + `kfree` takes two thirds of the time (kmalloc.bench.ts).
   */
  private lastFreedId: number;
  private lastFreed: KmemCache;
  /** The caches of a kind, by (size + 7) >> 3. */
  private readonly kmallocTables: KmemCache[][];
  private readonly kmallocNormal: KmemCache[];
  private readonly observer: SlabObserver | undefined;
  /** Whether caches keep the size that was asked for, and must be told it. */
  private readonly toldSizes: boolean;
  /** Largest size that `kmalloc` passes on without telling it; 0 while anything is traced. */
  private maxFastSize = 0;

  /**
   * Makes the first caches and those of kmalloc.
   *
   * @throws KernelBug where there is not memory enough
   * @linux mm/slub.c:kmem_cache_init
   */
  constructor(parts: SlabParts) {
    const options = parts.slubOptions ?? {};
    const trace = parts.trace ?? new TraceRing(1);
    const chosen: SlabAllocator = parts.allocator ?? new SlubAllocator();
    const allocator = parts.observer === undefined ? chosen : observedAllocator(chosen, parts.observer);
    this.observer = parts.observer;
    this.kmallocTables = Array.from({ length: NR_KMALLOC_TYPES }, () => []);
    this.allocatorName = allocator.name;
    this.reaps = allocator.reaps === true;
    this.frames = parts.pages.frames;
    this.pageFlags = this.frames.flags;
    this.pageMapping = this.frames.mapping;
    this.trace = trace;
    const { nodes, events } = parts.pages;
    this.shrinkers = new ShrinkerRegistry(nodes.length, (objects) => {
      events[VM_EVENT.SLABS_SCANNED] += objects;
    });
    const machine = slabMachine(parts.smp.cpus.length, options);
    const memory = new DirectMap(parts.ram, parts.pages.pageOffset, machine.wordBytes);
    this.pageOffset = memory.pageOffset;
    this.memory = memory;
    this.host = {
      memory,
      tracking: new Tracking(parts.context ?? {}, parts.smp, memory),
      taint: { bad: false },
      freelist: {
        hardening: options.freelistHardening ?? 'checks',
        random: options.freelistRandom ?? false,
        prng: new Prng(parts.seed ?? 1),
      },
      kmalloc: (size, gfp) => this.kmalloc(size, gfp),
      rcu: parts.rcu === undefined ? null : this.rcuOf(parts.rcu),
      late: { percpu: null },
      kmallocNode: (size, gfp, node) => this.kmallocNode(size, gfp, node),
      kfree: (address) => this.kfree(address),
      kmallocCache: (size) => this.kmallocTables[KMALLOC_NORMAL][(size + 7) >> 3],
      log: parts.log ?? (() => {}),
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
      cpuNode: cpuNodes(parts),
      report: parts.report ?? throwReport,
      caches: this.byId,
    };
    if (allocator.createHeap !== undefined) {
      this.heap = allocator.createHeap(this.host, HEAP_ID);
      this.byId[HEAP_ID] = this.heap;
    }
    this.registry = new CacheRegistry(this.host, this.byId, allocator, {
      debug: options.debug === undefined || allocator.debugs !== true ? NO_SLUB_DEBUG : parseSlubDebug(options.debug),
      noMerge: (options.noMerge ?? false) || allocator.merges === false,
    });
    if (this.heap === undefined) this.createKmallocCaches(allocator.kmallocMinSize ?? 0);
    this.kmallocNormal = this.kmallocTables[KMALLOC_NORMAL];
    // Where caches keep the size that was asked for, they must be told it.
    this.toldSizes = this.heap !== undefined || this.kmallocTables.some((table) => table.some((cache) => cache.tracksSize));
    this.traceSwitched(trace.enabled);
    trace.addUser(this);
    this.lastFreed = this.registry.caches[0];
    this.lastFreedId = this.lastFreed.id;
    if (allocator.usesPercpu === true && parts.latePercpu !== true) {
      this.initLate(percpuOfPages({ pages: parts.pages, ram: parts.ram, slab: this, nrCpus: parts.smp.cpus.length }));
    }
  }

  /**
   * Gives the allocator per-CPU memory.
   *
   * @throws KernelBug where there is not enough
   * @linux mm/slab.c:kmem_cache_init_late
   */
  initLate(percpu: PercpuSource): void {
    this.host.late.percpu = percpu;
    for (const cache of this.registry.caches) bugOn(cache.initLate() < 0, `slab ${cache.name}: no memory for what its CPUs keep`);
  }

  /** @linux mm/slab_common.c:create_kmalloc_caches */
  private createKmallocCaches(minSize: number): void {
    for (const { type, size, name, flags, align } of kmallocCaches(this.host.machine.kernel)) {
      if (size < minSize) continue;
      const cache = this.registry.createKmallocCache(name, size, flags, align);
      const table = this.kmallocTables[type];
      for (let index = 0; index <= size >> 3; index++) {
        if (table[index] === undefined || table[index].objectSize > size) table[index] = cache;
      }
    }
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
    const before = this.registry.caches.length;
    const cache = this.registry.create(options);
    if (this.accountant !== null && typeof cache !== 'number' && this.registry.caches.length > before) this.accountant(cache);
    return cache;
  }

  /** Has each cache that there is and that will be told to `accountant`: it charges their objects to memory cgroups. */
  account(accountant: (cache: KmemCache) => void): void {
    this.accountant = accountant;
    for (const cache of this.registry.caches) accountant(cache);
  }

  /**
   * Drops one user of a cache; with the last one the cache goes.
   *
   * @returns 0, or -EBUSY where live objects keep the cache; it stays usable, and Linux's report is made
   * @linux mm/slab_common.c:kmem_cache_destroy
   */
  kmemCacheDestroy(cache: KmemCache): number {
    const result = this.registry.destroy(cache);
    // Its id may be another cache's next.
    this.lastFreed = this.registry.caches[0];
    this.lastFreedId = this.lastFreed.id;
    return result;
  }

  /** The caches, in the order they were made; an alias has none of its own. */
  caches(): Iterable<KmemCache> {
    return this.registry.caches;
  }

  /** The cache called `name`, or merged with one called so. */
  find(name: string): KmemCache | undefined {
    return this.registry.find(name);
  }

  /** Whether further caches that are like it may take a cache for their own. @linux mm/slub.c:sysfs_slab_add */
  mayBeShared(cache: KmemCache): boolean {
    return this.registry.merges && !cache.unmergeable;
  }

  /** The cache that the object at `address` is of; `undefined` where it is none. */
  cacheOf(address: VirtAddr): KmemCache | undefined {
    return cacheOfPage(this.host, this.host.pages.virtToPfn(address))?.cacheAt(address);
  }

  /** Pages of all caches, those that they share included. */
  get nrPages(): number {
    return this.registry.caches.reduce((sum, cache) => sum + cache.nrPages, this.heap?.nrPages ?? 0);
  }

  /** Jiffies of 4 ms since boot, as tracks have them. */
  get jiffies(): number {
    return this.host.tracking.jiffies;
  }

  /** The lines of `/proc/slabinfo`: the newest cache first, as Linux prints them. @linux mm/slab_common.c:slab_show */
  slabInfo(): SlabInfo[] {
    return this.registry.caches.map((cache) => cache.slabInfo()).reverse();
  }

  /** What printing this shows, rather than the machine behind it. */
  toJSON(): SlabInfo[] {
    return this.slabInfo();
  }

  // --------------------------------------------------------------------------------------------------------- kmalloc

  /**
   * Allocates `size` bytes of kernel memory, aligned to 8 and to the size where it is a power of two.
   *
   * @returns the address, 0 where there is no memory, ZERO_SIZE_PTR for no bytes
   * @linux mm/slab_common.c:kmalloc
   */
  kmalloc(size: number, gfp: number): VirtAddr {
    if (size <= this.maxFastSize && size > 0) {
      const table = (gfp & KMALLOC_NOT_NORMAL_BITS) === 0 ? this.kmallocNormal : this.kmallocTables[kmallocType(gfp)];
      return table[(size + 7) >> 3].alloc(gfp);
    }
    return this.kmallocSlow(size, gfp);
  }

  /** While anything is traced, each allocation goes the way that tells of it. */
  traceSwitched(enabled: boolean): void {
    this.maxFastSize = enabled || this.toldSizes ? 0 : KMALLOC_MAX_CACHE_SIZE;
    this.maxFastPfn = enabled ? 0 : this.host.ram.maxPfn;
  }

  private kmallocSlow(size: number, gfp: number): VirtAddr {
    if (size === 0) return ZERO_SIZE_PTR;
    const { heap } = this;
    const cache = this.kmallocCache(size, gfp);
    if (cache === undefined && !(heap !== undefined && size <= heap.maxSize)) return this.kmallocLarge(size, gfp);
    const object = cache === undefined ? heap!.kmalloc(size, gfp) : cache.allocSized(gfp, size);
    if (this.host.trace.enabled) this.host.trace.emit(this.host.tracepoints.kmalloc, object, size, cache?.size ?? size, gfp);
    return object;
  }

  /** The cache that serves `size` bytes; `undefined` where the page allocator does. @linux mm/slab.h:kmalloc_slab */
  kmallocCache(size: number, gfp: number): KmemCache | undefined {
    return size > KMALLOC_MAX_CACHE_SIZE || this.heap !== undefined ? undefined : this.kmallocTables[kmallocType(gfp)][(size + 7) >> 3];
  }

  /** @linux mm/slub.c:___kmalloc_large_node */
  private kmallocLarge(size: number, gfp: number): VirtAddr {
    if (!(size <= KMALLOC_MAX_SIZE)) return 0;
    const order = getOrder(size);
    const { pages, trace, tracepoints } = this.host;
    const pfn = pages.allocPages(gfp | __GFP_COMP, order);
    if (pfn < 0) return 0;
    pages.frames.private[pfn] = LARGE_KMALLOC;
    pages.frames.flags[pfn] |= PG_KERNEL_DATA;
    accountSlabPages(pages, pfn, 0, 2 ** order);
    const address = this.host.pages.pageAddress(pfn);
    this.observer?.alloc(address, size, 0);
    if (trace.enabled) trace.emit(tracepoints.kmalloc, address, size, PAGE_SIZE * 2 ** order, gfp);
    return address;
  }

  /** `kmalloc` from a node where it can; −1 is any. @linux include/linux/slab.h:kmalloc_node */
  kmallocNode(size: number, gfp: number, node: number): VirtAddr {
    const cache = node < 0 || size === 0 ? undefined : this.kmallocCache(size, gfp);
    return cache === undefined || cache.tracksSize ? this.kmalloc(size, gfp) : cache.allocNode(gfp, node);
  }

  /** `kmalloc` of zeroed memory. @linux include/linux/slab.h:kzalloc */
  kzalloc(size: number, gfp: number): VirtAddr {
    return this.kmalloc(size, gfp | __GFP_ZERO);
  }

  /** `kmalloc` for `n` elements of `size` bytes; 0 where the product overflows 64 bits. @linux include/linux/slab.h:kmalloc_array */
  kmallocArray(n: number, size: number, gfp: number): VirtAddr {
    const bytes = n * size;
    return bytes >= 2 ** 64 ? 0 : this.kmalloc(bytes, gfp);
  }

  /** `kmallocArray` of zeroed memory. @linux include/linux/slab.h:kcalloc */
  kcalloc(n: number, size: number, gfp: number): VirtAddr {
    return this.kmallocArray(n, size, gfp | __GFP_ZERO);
  }

  /**
   * Bytes that `kmalloc` of `size` bytes would give, for who wants to use all of it: `size` itself for 0 and for what is too
   * large.
   *
   * @linux mm/slab_common.c:kmalloc_size_roundup
   */
  kmallocSizeRoundup(size: number): number {
    if (size === 0 || !(size <= KMALLOC_MAX_SIZE)) return size;
    const cache = this.kmallocCache(size, GFP_KERNEL);
    if (cache !== undefined) return cache.objectSize;
    // A heap gives what was asked for.
    return this.heap !== undefined && size <= this.heap.maxSize ? size : PAGE_SIZE * 2 ** getOrder(size);
  }

  /**
   * Gives memory of `kmalloc` another size, moving it where it must. Bytes up to the smaller size are kept; with
   * `__GFP_ZERO` what lies beyond them is zero. 0 or ZERO_SIZE_PTR is an allocation, size 0 a free.
   *
   * @returns the address, or 0 where there is no memory; the old memory is untouched then
   * @linux mm/slab_common.c:krealloc
   */
  krealloc(address: VirtAddr, size: number, gfp: number): VirtAddr {
    if (size === 0) {
      this.kfree(address);
      return ZERO_SIZE_PTR;
    }
    if (address === 0 || address === ZERO_SIZE_PTR) return this.kmalloc(size, gfp);
    const { memory, machine } = this.host;
    const room = this.ksize(address);
    const cache = this.cacheOf(address);
    const old = cache?.requestedSize(address) ?? room;
    if (size <= room) {
      // Later growth within the block must find zeroes.
      if ((gfp & __GFP_ZERO) !== 0 && machine.kernel !== '6.1') {
        if (old < size) memory.fill(address + old, size - old, 0);
        else memory.fill(address + size, room - size, 0);
      }
      cache?.resized(address, size);
      return address;
    }
    const moved = this.kmalloc(size, gfp);
    if (moved === 0) return 0;
    memory.copy(moved, address, old);
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
    const page = (address - this.pageOffset) / PAGE_SIZE;
    if (page >= 0 && page < this.maxFastPfn) {
      let pfn = page | 0;
      let bits = this.pageFlags[pfn];
      if ((bits & PG_TAIL) !== 0) {
        pfn = this.frames.next[pfn];
        bits = this.pageFlags[pfn];
      }
      if ((bits & PG_SLAB) !== 0) {
        const id = this.pageMapping[pfn];
        if (id !== this.lastFreedId) {
          this.lastFreedId = id;
          this.lastFreed = this.byId[id]!;
        }
        this.lastFreed.free(address);
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
      report({ kind: 'invalid-free', cache: '', address, text: `kfree: not a kmalloc allocation: 0x${this.host.memory.format(address)}` });
      return;
    }
    this.observer?.free(address);
    const order = blockOrder(pages.frames, pfn);
    accountSlabPages(pages, pfn, 0, -(2 ** order));
    pages.frames.private[pfn] = 0;
    pages.frames.flags[pfn] &= ~PG_KERNEL_DATA;
    pages.freePages(pfn, order);
  }

  /** `kfree` once nobody can look at the memory any more. @linux mm/slab_common.c:kvfree_call_rcu */
  kfreeRcu(address: VirtAddr): void {
    const { rcu } = this.host;
    if (rcu === null) this.kfree(address);
    else if (address !== 0 && address !== ZERO_SIZE_PTR) rcu.rcu.call(rcu.kfree, address);
  }

  /** The functions that RCU calls of the slab layer. */
  private rcuOf(rcu: Rcu): SlabRcu {
    return {
      rcu,
      freeMemory: rcu.define((address) => this.cacheOf(address)?.freeAfterGracePeriod(address)),
      kfree: rcu.define((address) => this.kfree(address)),
    };
  }

  /** First page of the large block that begins at `address`, or −1. */
  private largeBlock(address: VirtAddr): number {
    const pfn = (address - this.pageOffset) / PAGE_SIZE;
    if (!Number.isInteger(pfn) || pfn < 0 || pfn >= this.host.ram.maxPfn) return -1;
    const { frames } = this.host.pages;
    const bits = frames.flags[pfn] & (PG_SLAB | PG_TAIL | PG_KERNEL_DATA);
    return bits === PG_KERNEL_DATA && frames.private[pfn] === LARGE_KMALLOC ? pfn : -1;
  }

  /**
   * Bytes that may be used at `address`, which is memory of `kmalloc` or an object; 0 for 0 and ZERO_SIZE_PTR.
   *
   * @linux mm/slab_common.c:__ksize
   */
  ksize(address: VirtAddr): number {
    if (address === 0 || address === ZERO_SIZE_PTR) return 0;
    const cache = this.cacheOf(address);
    if (cache !== undefined) return cache.sizeAt(address);
    const pfn = this.largeBlock(address);
    if (pfn < 0) {
      const text = `ksize: not a kmalloc allocation: 0x${this.host.memory.format(address)}`;
      this.host.report({ kind: 'invalid-free', cache: '', address, text });
      return 0;
    }
    return PAGE_SIZE * 2 ** blockOrder(this.host.pages.frames, pfn);
  }

  /**
   * Recomputes the state of every cache: free counts by walking free lists, list integrity, every slab page owned once.
   *
   * @throws KernelBug at the first thing that does not fit
   */
  validate(): void {
    this.registry.validate(this.heap);
  }
}
