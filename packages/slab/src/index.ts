export {
  DEBUG_METADATA_FLAGS,
  SLAB_ACCOUNT,
  SLAB_CACHE_DMA,
  SLAB_CACHE_DMA32,
  SLAB_CONSISTENCY_CHECKS,
  SLAB_DEBUG_FLAGS,
  SLAB_FAILSLAB,
  SLAB_HWCACHE_ALIGN,
  SLAB_KMALLOC,
  SLAB_MEM_SPREAD,
  SLAB_MERGE_SAME,
  SLAB_NEVER_MERGE,
  SLAB_NOLEAKTRACE,
  SLAB_NO_MERGE,
  SLAB_NO_USER_FLAGS,
  SLAB_PANIC,
  SLAB_POISON,
  SLAB_RECLAIM_ACCOUNT,
  SLAB_RED_ZONE,
  SLAB_STORE_USER,
  SLAB_TEMPORARY,
  SLAB_TRACE,
  SLAB_TYPESAFE_BY_RCU,
} from './flags.ts';
export { calculateSlabOrder, classicGeometry, cpuCacheLimits } from './classic-geometry.ts';
export type { ClassicGeometry, ClassicShape, FreeListPlace } from './classic-geometry.ts';
export { ClassicSlabAllocator } from './classic-allocator.ts';
export type { ClassicSlabOptions } from './classic-allocator.ts';
export type { KmemCacheOptions } from './cache-registry.ts';
export {
  calculateAlignment,
  calculateCpuPartial,
  calculateMinPartial,
  calculateOrder,
  calculateSizes,
  getOrder,
  slubMinObjects,
} from './geometry.ts';
export type { ObjectShape, SlabGeometry, SlabKernelVersion, SlabMachine } from './geometry.ts';
export type {
  CacheSpec,
  FreelistHardening,
  FreelistRules,
  KmallocHeap,
  SlabAllocator,
  SlabConstructor,
  SlabCpus,
  SlabHost,
  SlabRcu,
  SlabTracepoints,
} from './host.ts';
export { DirectMap } from './direct-map.ts';
export { createKernelCaches, kernelCaches } from './kernel-caches.ts';
export type { KernelCacheName, KernelCacheSpec, KernelCaches, KernelObjectSizes } from './kernel-caches.ts';
export {
  KMALLOC_CGROUP,
  KMALLOC_DMA,
  KMALLOC_MAX_CACHE_SIZE,
  KMALLOC_MAX_SIZE,
  KMALLOC_NORMAL,
  KMALLOC_RECLAIM,
  KMALLOC_SIZES,
  ZERO_SIZE_PTR,
  kmallocType,
} from './kmalloc.ts';
export { KmemCache } from './kmem-cache.ts';
export type { SlabInfo, SlabOwnershipCheck, SlabTracks } from './kmem-cache.ts';
export { formatAddress, hexDump } from './report.ts';
export type { SlabCorruption, SlabReport, SlabReportKind, SlabReporter } from './report.ts';
export { Tracking, trackBytes } from './track.ts';
export type { SlabContext, SlabTrack } from './track.ts';
export {
  DEFAULT_SEEKS,
  SHRINKER_MEMCG_AWARE,
  SHRINKER_NUMA_AWARE,
  SHRINK_BATCH,
  SHRINK_EMPTY,
  SHRINK_STOP,
  ShrinkerRegistry,
} from './shrinker.ts';
export type { ShrinkControl, ShrinkerGroup, ShrinkerInfo, ShrinkerSpec } from './shrinker.ts';
export { observedAllocator } from './observed-allocator.ts';
export type { SlabObserver } from './observed-allocator.ts';
export { Mempool, mempoolKmalloc, mempoolPages, mempoolSlab } from './mempool.ts';
export type { MempoolHost, MempoolSource } from './mempool.ts';
export { Percpu } from './percpu.ts';
export { PCPU_MIN_UNIT_SIZE, percpuAllocInfo } from './percpu-layout.ts';
export type { PercpuAllocInfo, PercpuLayout } from './percpu-layout.ts';
export type { PercpuSource } from './percpu-source.ts';
export type { PercpuAccounting, PercpuHost, PercpuPtr, PercpuStats } from './percpu.ts';
export { Rcu } from './rcu.ts';
export { Slab } from './slab.ts';
export type { SlabParts, SlubOptions } from './slab.ts';
export { parseSlubDebug } from './slub-debug.ts';
export type { SlubDebug } from './slub-debug.ts';
export { slabAllocators } from './slab-allocators.ts';
export { SlobAllocator } from './slob.ts';
export { SlubAllocator } from './slub-allocator.ts';
export { cacheOfPage, giveSlabPages, takeSlabPages } from './slab-pages.ts';
