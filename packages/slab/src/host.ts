/**
 * What the slab layer needs of the layers below, and the interface a slab allocator implements.
 *
 * A *cache* hands out objects of one size. A *slab* is the block of pages a cache cuts them from. The generic layer
 * (`slab.ts`: names, merging, kmalloc, finding the cache of an address) is the same for every allocator; how a cache
 * keeps its free objects is the allocator's own.
 */
import type { VirtAddr } from '@pagelab/abi';
import type { PhysicalMemory } from '@pagelab/hw';
import type { Prng, TraceRing } from '@pagelab/lib';
import type { PageAlloc } from '@pagelab/mm-core';
import type { DirectMap } from './direct-map.ts';
import type { SlabMachine } from './geometry.ts';
import type { KmemCache } from './kmem-cache.ts';
import type { PercpuSource } from './percpu-source.ts';
import type { Rcu } from './rcu.ts';
import type { SlabReporter } from './report.ts';
import type { Taint } from './slub-reports.ts';
import type { Tracking } from './track.ts';

/** The CPUs as the allocator sees them: how many there are, and which one runs. */
export interface SlabCpus {
  readonly cpus: { readonly length: number };
  readonly processorId: number;
}

/** Ids of the tracepoints of the slab layer. @linux include/trace/events/kmem.h:kmem_cache_alloc */
export interface SlabTracepoints {
  readonly kmemCacheAlloc: number;
  readonly kmemCacheFree: number;
  readonly kmalloc: number;
  readonly kfree: number;
}

/**
 * How free lists are protected, as Kconfig sets it.
 *
 * - `none`: not at all.
 * - `checks`: an object freed twice in a row and one freed to another cache are noticed, which costs nothing.
 * - `full`: the same, and pointers in free lists are encoded. @linux CONFIG_SLAB_FREELIST_HARDENED
 */
export type FreelistHardening = 'none' | 'checks' | 'full';

/** How free lists are made. */
export interface FreelistRules {
  readonly hardening: FreelistHardening;
  /** Objects of a new slab are handed out in random order. @linux CONFIG_SLAB_FREELIST_RANDOM */
  readonly random: boolean;
  readonly prng: Prng;
}

/** How caches whose objects may be looked at while they are freed give their memory back. */
export interface SlabRcu {
  readonly rcu: Rcu;
  /** Number of the function that ends by {@link KmemCache.freeAfterGracePeriod}, with an address. */
  readonly freeMemory: number;
  /** Number of `kfree`. */
  readonly kfree: number;
}

/** The machine and the services a cache works with. */
export interface SlabHost {
  readonly pages: PageAlloc;
  readonly ram: PhysicalMemory;
  readonly smp: SlabCpus;
  readonly trace: TraceRing;
  readonly tracepoints: SlabTracepoints;
  readonly machine: SlabMachine;
  /** The node of each CPU. */
  readonly cpuNode: Int32Array;
  readonly freelist: FreelistRules;
  /** Kernel memory, for what is not hot. */
  readonly memory: DirectMap;
  /** Who calls, and when. */
  readonly tracking: Tracking;
  readonly taint: Taint;
  readonly report: SlabReporter;
  /** What waits until nobody can look at a slab any more; `null` where nobody ever does. */
  readonly rcu: SlabRcu | null;
  /** Per-CPU memory; `null` until there is some. */
  readonly late: { percpu: PercpuSource | null };
  /** Memory for an allocator's own use, and the cache that serves so many bytes, which may not be made yet. */
  readonly kmalloc: (size: number, gfp: number) => VirtAddr;
  readonly kmallocNode: (size: number, gfp: number, node: number) => VirtAddr;
  readonly kfree: (address: VirtAddr) => void;
  readonly kmallocCache: (size: number) => KmemCache | undefined;
  /** Takes a line for the kernel's log that is no report. */
  readonly log: (line: string) => void;
  /** The caches by their ids; what `PageFrames.mapping` of a slab's first page leads to. */
  readonly caches: readonly (KmemCache | undefined)[];
}

/** Initialises an object when its slab is made: called once for each object of a new slab, not at each allocation. */
export type SlabConstructor = (object: VirtAddr) => void;

/** A cache to be made: checked, not merged, alignment and debug flags worked out. */
export interface CacheSpec {
  /** Marks the pages of the cache's slabs in `PageFrames.mapping`; above 0, never used for two caches at a time. */
  readonly id: number;
  readonly name: string;
  readonly objectSize: number;
  /** Bytes: a power of two of at least 8. */
  readonly align: number;
  readonly flags: number;
  readonly ctor?: SlabConstructor | undefined;
  /** See `ObjectShape.freePointerOffset`. */
  readonly freePointerOffset?: number | undefined;
  /** Bytes of the object that may be copied to or from user space. */
  readonly userSize: number;
}

/** What serves `kmalloc` where that is no caches of sizes. */
export interface KmallocHeap {
  /** Bytes of the largest block; larger ones come from the page allocator. */
  readonly maxSize: number;
  /** Allocates 1 to `maxSize` bytes, aligned to 8 and to the size where it is a power of two; 0 where there is no memory. */
  kmalloc(size: number, gfp: number): VirtAddr;
}

/**
 * A slab allocator: SLUB, or one of your own. All it does is make caches; the generic layer does the rest. A cache takes
 * its pages from `host.pages`, marks them as its own with `SlabPages`, and keeps what it must know of a free object in
 * simulated RAM or in the page frames' columns. `slabAllocatorContract` of `@pagelab/slab/contract` tests one.
 */
export interface SlabAllocator {
  /** As in the machine's configuration: `slub`, … */
  readonly name: string;
  /** Whether `slub_debug=` is for its caches. */
  readonly debugs?: boolean;
  /** Whether its caches keep things that {@link KmemCache.reap} is to take from time to time. */
  readonly reaps?: boolean;
  /** Whether its caches keep things in per-CPU memory, and are told by {@link KmemCache.initLate} when there is some. */
  readonly usesPercpu?: boolean;
  /** False where caches that are alike never share one. */
  readonly merges?: boolean;
  /** Bytes of the smallest `kmalloc` cache; 8 where it does not say. */
  readonly kmallocMinSize?: number;
  /**
   * Makes what serves `kmalloc` and stands for the pages that caches share, before any cache is made; without it there are
   * caches of the kmalloc sizes.
   *
   * @param id marks its pages, as a cache's does
   */
  createHeap?(host: SlabHost, id: number): KmallocHeap & KmemCache;
  /** Makes an empty cache, or returns -errno (−EINVAL where no slab can hold an object). */
  createCache(host: SlabHost, spec: CacheSpec): KmemCache | number;
}
