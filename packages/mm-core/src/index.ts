export {
  BYTES_PER_FRAME,
  MAX_PAGE_ORDER,
  NR_PAGE_ORDERS,
  PAGEBLOCK_ORDER,
  PAGE_ALLOC_COSTLY_ORDER,
  PAGE_FLAGS_CHECK_AT_FREE,
  PAGE_FLAG_NAMES,
  PG_ACTIVE,
  PG_ANON,
  PG_ANON_EXCLUSIVE,
  PG_BUDDY,
  PG_DIRTY,
  PG_BLOCK,
  PG_HEAD,
  PG_HUGETLB,
  PG_KERNEL_CODE,
  PG_KERNEL_DATA,
  PG_KSM,
  PG_LOCKED,
  PG_LRU,
  PG_LRU_WAITS,
  PG_MLOCKED,
  PG_OFFLINE,
  PG_MEMCG,
  PG_OWNED,
  PG_PRIVATE,
  PG_RECLAIM,
  PG_REFERENCED,
  PG_RESERVED,
  PG_SLAB,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_TABLE,
  PG_TAIL,
  PG_UNEVICTABLE,
  PG_UPTODATE,
  PG_WORKINGSET,
  PG_WRITEBACK,
  PageFrames,
  blockOrder,
  compoundHead,
  pageFlagsText,
} from './page.ts';
export { LazyColumns } from './lazy-column.ts';
export {
  LRU_ACTIVE_ANON,
  LRU_ACTIVE_FILE,
  LRU_INACTIVE_ANON,
  LRU_INACTIVE_FILE,
  LRU_UNEVICTABLE,
  LruLists,
  Lruvec,
  NR_LRU_LISTS,
  folioLru,
  folioNrPages,
} from './lruvec.ts';
export type { LruPlacement } from './lruvec.ts';
export type { MemcgAccounting } from './memcg-accounting.ts';
export {
  NR_OWNERS,
  OWNER_ANON,
  OWNER_FILE,
  OWNER_FREE,
  OWNER_HOLE,
  OWNER_HUGETLB,
  OWNER_KERNEL_CODE,
  OWNER_KERNEL_DATA,
  OWNER_MEMMAP,
  OWNER_PAGE_TABLE,
  OWNER_RESERVED,
  OWNER_SHMEM,
  OWNER_SLAB,
  frameOwner,
  ownerName,
} from './owner.ts';
export type { OwnedRange } from './owner.ts';
export {
  GFP_ATOMIC,
  GFP_DMA,
  GFP_DMA32,
  GFP_HIGHUSER,
  GFP_HIGHUSER_MOVABLE,
  GFP_KERNEL,
  GFP_KERNEL_ACCOUNT,
  GFP_MOVABLE_MASK,
  GFP_MOVABLE_SHIFT,
  GFP_NOFS,
  GFP_NOIO,
  GFP_NOWAIT,
  GFP_TRANSHUGE,
  GFP_TRANSHUGE_LIGHT,
  GFP_USER,
  GFP_ZONEMASK,
  PF_MEMALLOC,
  PF_MEMALLOC_NOFS,
  PF_MEMALLOC_NOIO,
  PF_MEMALLOC_PIN,
  __GFP_ACCOUNT,
  __GFP_BITS_MASK,
  __GFP_COMP,
  __GFP_DIRECT_RECLAIM,
  __GFP_DMA,
  __GFP_DMA32,
  __GFP_FS,
  __GFP_HARDWALL,
  __GFP_HIGH,
  __GFP_HIGHMEM,
  __GFP_IO,
  __GFP_KSWAPD_RECLAIM,
  __GFP_MEMALLOC,
  __GFP_MOVABLE,
  __GFP_NOFAIL,
  __GFP_NOMEMALLOC,
  __GFP_NORETRY,
  __GFP_NOWARN,
  __GFP_RECLAIM,
  __GFP_RECLAIMABLE,
  __GFP_RETRY_MAYFAIL,
  __GFP_THISNODE,
  __GFP_WRITE,
  __GFP_ZERO,
  __GFP_ZEROTAGS,
  gfpAllowsBlocking,
  gfpMigratetype,
  gfpRefusal,
  gfpText,
  gfpZone,
} from './gfp.ts';
export {
  MIGRATE_CMA,
  MIGRATE_HIGHATOMIC,
  MIGRATE_ISOLATE,
  MIGRATE_MOVABLE,
  MIGRATE_PCPTYPES,
  MIGRATE_RECLAIMABLE,
  MIGRATE_TYPES,
  MIGRATE_UNMOVABLE,
  MIGRATETYPE_NAMES,
} from './migratetype.ts';
export {
  ARM64_ZONES,
  X86_64_ZONES,
  ZONE_DEVICE,
  ZONE_DMA,
  ZONE_DMA32,
  ZONE_HIGHMEM,
  ZONE_MOVABLE,
  ZONE_NAMES,
  ZONE_NORMAL,
  x86Zones,
} from './zone-types.ts';
export type { ZoneLayout } from './zone-types.ts';
export { NODE_STAT, NODE_STAT_NAMES, VM_EVENT, VM_EVENT_NAMES, ZONE_STAT, ZONE_STAT_NAMES } from './vmstat.ts';
export { WMARK_HIGH, WMARK_LOW, WMARK_MIN, WMARK_PROMO } from './alloc-flags.ts';
export { Zone } from './zone.ts';
export type { ZoneShape } from './zone.ts';
export { PcpList, PerCpuPages } from './pcp.ts';
export { LOCAL_DISTANCE, MemoryNode, REMOTE_DISTANCE, fallbackOrders } from './node.ts';
export type { BootLayout, KernelVersion, ManagedPages, NodeConfig, NodeShape } from './mm-init.ts';
export type { MovableRequest } from './movable-zone.ts';
export { PageAllocSysctl, zoneWatermarks } from './sysctl.ts';
export type { PageAllocSysctlConfig } from './sysctl.ts';
export { calculateNormalThreshold, totalreservePages } from './watermark.ts';
export { extfragForOrder, extfragIndex, unusableIndex } from './fragmentation.ts';
export { buddyAllocator } from './buddy.ts';
export { llfreeAllocator } from './llfree.ts';
export { firstFitAllocator } from './first-fit.ts';
export { pageAllocators } from './page-allocators.ts';
export type { PageAllocatorName } from './page-allocators.ts';
export { REFUSALS } from './page-allocator.ts';
export type {
  FrameRange,
  FreeLists,
  PageAllocator,
  PageAllocatorContext,
  PageAllocatorFactory,
  PageAllocatorRefusal,
  RunningCpu,
} from './page-allocator.ts';
export { PageOwner } from './page-owner.ts';
export type { PageOwnerContext, PageOwnerEntry } from './page-owner.ts';
export { PageAlloc } from './page-alloc.ts';
export { CmaArea, cmaAlloc, cmaRelease } from './cma.ts';
export type { CmaRequest } from './cma-reserve.ts';
export { compactGap, compactNode, compactNodes, compactionHasRoom, compactionSuitable, fragmentationScoreWmark } from './compaction.ts';
export { FRAG_CHECK_INTERVAL_NS, Kcompactd, fragmentationScoreNode, resetIsolationSuitableNode } from './kcompactd.ts';
export { ACR_FLAGS_CMA, allocContigPages, allocContigRange, freeContigRange, takePageOffBuddy } from './contig-range.ts';
export {
  PB_ISOLATE_MODE_CMA_ALLOC,
  PB_ISOLATE_MODE_MEM_OFFLINE,
  PB_ISOLATE_MODE_OTHER,
  hasUnmovablePages,
  startIsolatePageRange,
  testPagesIsolated,
  undoIsolatePageRange,
} from './page-isolation.ts';
export {
  MIGRATE_ASYNC,
  MIGRATE_SYNC,
  MIGRATE_SYNC_LIGHT,
  MR_COMPACTION,
  MR_CONTIG_RANGE,
  MR_DEMOTION,
  MR_MEMORY_FAILURE,
  MR_MEMORY_HOTPLUG,
  MR_MEMPOLICY_MBIND,
  MR_NUMA_MISPLACED,
  MR_SYSCALL,
} from './migration-ops.ts';
export type { GetNewPage, MigrationOps } from './migration-ops.ts';
export type { PageAllocHooks, PageAllocOptions } from './page-alloc-options.ts';
export { NodeMask } from './nodemask.ts';
export type { AllocPolicy } from './nodemask.ts';
export { ALLOC_CMA, ALLOC_HIGHATOMIC } from './alloc-flags.ts';
