/**
 * Flags of a cache, with Linux's names and values (6.1: `include/linux/slab.h`). Later kernels number them by an enum;
 * the names are what callers write.
 */

/** Sanity checks at each allocation and free (`F` of `slub_debug=`). */
export const SLAB_CONSISTENCY_CHECKS = 0x0000_0100;
/** A guard word on either side of an object (`Z`). */
export const SLAB_RED_ZONE = 0x0000_0400;
/** Free objects hold a known pattern (`P`). */
export const SLAB_POISON = 0x0000_0800;
/** The cache of a power-of-two `kmalloc` size. */
export const SLAB_KMALLOC = 0x0000_1000;
/** Objects start on a cache line, or on a half, quarter … of one when they are that small. */
export const SLAB_HWCACHE_ALIGN = 0x0000_2000;
/** Pages from ZONE_DMA. */
export const SLAB_CACHE_DMA = 0x0000_4000;
/** Pages from ZONE_DMA32. */
export const SLAB_CACHE_DMA32 = 0x0000_8000;
/** Remembers who allocated and who freed each object (`U`). */
export const SLAB_STORE_USER = 0x0001_0000;
/** Objects count as reclaimable: a shrinker can free them. */
export const SLAB_RECLAIM_ACCOUNT = 0x0002_0000;
/** A failure to create the cache stops the kernel. */
export const SLAB_PANIC = 0x0004_0000;
/** A freed object's memory keeps its type until a grace period has passed: the free pointer lies behind the object. */
export const SLAB_TYPESAFE_BY_RCU = 0x0008_0000;
/** Spread pages over the nodes a task may use; ignored by SLUB. */
export const SLAB_MEM_SPREAD = 0x0010_0000;
/** Trace allocations and frees (`T`). */
export const SLAB_TRACE = 0x0020_0000;
/** kmemleak does not look at these objects. */
export const SLAB_NOLEAKTRACE = 0x0080_0000;
/** Never share this cache's pages with another cache. */
export const SLAB_NO_MERGE = 0x0100_0000;
/** Allocations may be made to fail by fault injection (`A`). */
export const SLAB_FAILSLAB = 0x0200_0000;
/** Objects are charged to the memory cgroup of whoever allocates them. */
export const SLAB_ACCOUNT = 0x0400_0000;
/** `slub_debug=` does not apply to this cache. */
export const SLAB_NO_USER_FLAGS = 0x1000_0000;
/** The short name Linux gives SLAB_RECLAIM_ACCOUNT where lifetime, not accounting, is meant. */
export const SLAB_TEMPORARY = SLAB_RECLAIM_ACCOUNT;

/** Any of these makes SLUB leave its fast path and its per-CPU partial lists. @linux mm/slab.h:SLAB_DEBUG_FLAGS */
export const SLAB_DEBUG_FLAGS =
  SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER | SLAB_TRACE | SLAB_CONSISTENCY_CHECKS;

/** Debugging that makes objects larger. @linux mm/slub.c:DEBUG_METADATA_FLAGS */
export const DEBUG_METADATA_FLAGS = SLAB_RED_ZONE | SLAB_POISON | SLAB_STORE_USER;

/** Caches with one of these stay alone. @linux mm/slab_common.c:SLAB_NEVER_MERGE */
export const SLAB_NEVER_MERGE =
  SLAB_RED_ZONE |
  SLAB_POISON |
  SLAB_STORE_USER |
  SLAB_TRACE |
  SLAB_TYPESAFE_BY_RCU |
  SLAB_NOLEAKTRACE |
  SLAB_FAILSLAB |
  SLAB_NO_MERGE;

/** Caches that merge agree in these. @linux mm/slab_common.c:SLAB_MERGE_SAME */
export const SLAB_MERGE_SAME = SLAB_RECLAIM_ACCOUNT | SLAB_CACHE_DMA | SLAB_CACHE_DMA32 | SLAB_ACCOUNT;

/** What `kmem_cache_create` takes; anything else is -EINVAL. @linux mm/slab.h:SLAB_FLAGS_PERMITTED */
export const SLAB_FLAGS_PERMITTED =
  SLAB_HWCACHE_ALIGN |
  SLAB_CACHE_DMA |
  SLAB_CACHE_DMA32 |
  SLAB_PANIC |
  SLAB_TYPESAFE_BY_RCU |
  SLAB_RED_ZONE |
  SLAB_POISON |
  SLAB_STORE_USER |
  SLAB_TRACE |
  SLAB_CONSISTENCY_CHECKS |
  SLAB_NOLEAKTRACE |
  SLAB_RECLAIM_ACCOUNT |
  SLAB_ACCOUNT |
  SLAB_MEM_SPREAD |
  SLAB_KMALLOC |
  SLAB_NO_MERGE |
  SLAB_NO_USER_FLAGS |
  SLAB_FAILSLAB;
