export { DEFAULT_VM_SYSCTL, Vm } from './vm.ts';
export type { VmCaches, VmParts, VmSysctl } from './vm.ts';
export { MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, MM_SWAPENTS, MmStruct } from './mm-struct.ts';
export type { MmLimits } from './mm-struct.ts';
export {
  VM_ACCESS_FLAGS,
  VM_ACCOUNT,
  VM_DONTCOPY,
  VM_DONTDUMP,
  VM_DONTEXPAND,
  VM_EXEC,
  VM_GROWSDOWN,
  VM_HUGEPAGE,
  VM_HUGETLB,
  VM_IGNORE_MERGE,
  VM_IO,
  VM_LOCKED,
  VM_LOCKED_MASK,
  VM_LOCKONFAULT,
  VM_MAYBE_GUARD,
  VM_MAYEXEC,
  VM_MAYREAD,
  VM_MAYSHARE,
  VM_MAYWRITE,
  VM_MERGEABLE,
  VM_MIXEDMAP,
  VM_NOHUGEPAGE,
  VM_NORESERVE,
  VM_PFNMAP,
  VM_RAND_READ,
  VM_READ,
  VM_SEQ_READ,
  VM_SHARED,
  VM_SOFTDIRTY,
  VM_SPECIAL,
  VM_STICKY,
  VM_SYNC,
  VM_UFFD_MISSING,
  VM_UFFD_WP,
  VM_WIPEONFORK,
  VM_WRITE,
  VmArea,
} from './vma.ts';
export { FILE_HOLE } from './file.ts';
export type { AddressSpace, AddressSpaceOps, Inode, ReadAheadState, VmFile, UnmappableFile, VmOperations, ZeroFile } from './file.ts';
export { allocFile, fileGet, filePut, inodePut, inodeUnlink } from './open-file.ts';
export type { OpenMode, PathSource } from './open-file.ts';
export { BlockFs } from './block-fs.ts';
export { HostFs } from './host-fs.ts';
export type { HostDirectory, HostEntry } from './host-fs.ts';
export { DiskBlockStore, MemoryBlockStore } from './block-store.ts';
export { seekHoleData } from './seek.ts';
export { endReads, endWritebacks, folioWaitWriteback } from './folio-writeback.ts';
export { flushDirtyPages } from './fs-writeback.ts';
export { dirtyLimits } from './page-writeback.ts';
export type { DirtyLimits, WritebackState } from './page-writeback.ts';
export { fadviseDontNeed, fadviseWillNeed } from './fadvise.ts';
export type { BlockStore } from './block-store.ts';
export type { UserRange } from './filemap.ts';
export { KernelBuffer, UserBuffer, UserRanges, fileRead, fileSync, fileWrite, syncFileRange, syncFilesystems } from './filemap.ts';
export type { ByteSink, ByteSource } from './filemap.ts';
export type { AnonVma, AnonVmaChain } from './anon-vma.ts';

// What may be: mappings and the calls on them.
export { doBrk } from './brk.ts';
export { DEFAULT_PROGRAM, execLayout, pickMmapLayout } from './exec.ts';
export type { LayoutOptions, LayoutRandom, ProgramImage, ProgramSegment } from './exec.ts';
export { doMadvise } from './madvise.ts';
export { mapsLine, mapsLines, vmFlagsNames, vmaName } from './maps.ts';
export type { MapsLine } from './maps.ts';
export { doMincore, mincoreToUser } from './mincore.ts';
export { doMlock, doMlockall, doMunlock, doMunlockall } from './mlock.ts';
export { dupMm, mmAlloc, mmput } from './mm-lifetime.ts';
export { canDoMlock } from './limits.ts';
export { doMmap } from './mmap.ts';
export type { MmapRequest } from './mmap.ts';
export { doMprotect } from './mprotect.ts';
export { doMremap } from './mremap.ts';
export { doMseal } from './mseal.ts';
export { doMsync } from './msync.ts';
export { doRemapFilePages } from './remap-file-pages.ts';
export { vmMunmap } from './munmap.ts';
export {
  OVERCOMMIT_ALWAYS,
  OVERCOMMIT_GUESS,
  OVERCOMMIT_NEVER,
  vmAcctMemory,
  vmCommitLimit,
  vmEnoughMemory,
  vmUnacctMemory,
} from './overcommit.ts';
export { expandStack } from './stack.ts';
export { findVma, findVmaIntersection, vmaLookup, vmaNext, vmaPages, vmaPrev } from './vma-tree.ts';

// What is: the pages behind the mappings.
export { OOM_NEVER, OOM_SCORE_ADJ_MAX, OOM_SCORE_ADJ_MIN, oomBadness, oomScore, oomSelect } from './oom.ts';
export type { OomCandidate } from './oom.ts';
export {
  FAULT_ACCERR,
  FAULT_FLAG_INSTRUCTION,
  FAULT_FLAG_REMOTE,
  FAULT_FLAG_USER,
  FAULT_FLAG_WRITE,
  FAULT_HWPOISON,
  FAULT_MAPERR,
  FAULT_OK,
  FAULT_OOM,
  FAULT_SIGBUS,
  VM_FAULT_ERROR,
  VM_FAULT_MAJOR,
  VM_FAULT_OOM,
  VM_FAULT_SIGBUS,
  VM_FAULT_SIGSEGV,
} from './fault-flags.ts';
export { handleMmFault, handlePageFault } from './page-fault.ts';
export {
  CLEAR_REFS_ALL,
  CLEAR_REFS_ANON,
  CLEAR_REFS_MAPPED,
  CLEAR_REFS_MM_HIWATER_RSS,
  CLEAR_REFS_SOFT_DIRTY,
  clearRefs,
} from './clear-refs.ts';
export { FOLL_FORCE, FOLL_WRITE, getUserPageFlags, holdUserPage, pinUserPagesRemote, releaseUserPage, populateRange, unpinUserPages } from './gup.ts';
export {
  PM_FILE_HI,
  PM_GUARD_REGION_HI,
  PM_MMAP_EXCLUSIVE_HI,
  PM_PRESENT_HI,
  PM_SOFT_DIRTY_HI,
  PM_SWAP_HI,
  PM_UFFD_WP_HI,
  mincorePage,
  pageState,
  pagemapEntry,
  smapsOf,
} from './page-walk.ts';
export type { PageState, PagemapEntry, SmapsSizes } from './page-walk.ts';
export { FIXADDR_TOP, Highmem, KM_MAX_IDX, copyUserPage, fixmapStart, kmapLocalPage, kunmapLocal, pageAddress, pkmapBase } from './highmem.ts';
export type { HighmemStats } from './highmem.ts';
export { PAGE_TABLE_SHAPES, SHAPE_X86_32, SHAPE_X86_64, SHAPE_X86_PAE, TASK_SIZE_32, TASK_SIZE_COMPAT } from './pgtable-shape.ts';
export type { PageTableShape } from './pgtable-shape.ts';
export { thpEligible } from './huge-memory.ts';
export type { ThpMode } from './huge-memory.ts';
export {
  MIGRATE_ASYNC,
  MIGRATE_SYNC,
  MIGRATE_SYNC_LIGHT,
  MR_COMPACTION,
  MR_CONTIG_RANGE,
  MR_DEMOTION,
  MR_MEMORY_HOTPLUG,
  MR_MEMPOLICY_MBIND,
  MR_NUMA_MISPLACED,
  MR_SYSCALL,
} from '@pagelab/mm-core';
export type { GetNewPage } from '@pagelab/mm-core';
export { isolateMovable, migratePages, migrationOps, putbackMovablePages } from './migrate.ts';
export { pageMappings } from './rmap.ts';
export type { PageMapping } from './rmap.ts';
export { folioAddLru, folioMarkAccessed, isolateLru, lruAddDrain, lruAddDrainAll, putbackLru, validateLru } from './swap.ts';
export { runKswapds } from './kswapd.ts';
export { MAX_RECLAIM_RETRIES, canReclaimAnon, installReclaim, tryToFreePages, zoneReclaimablePages } from './vmscan.ts';
export {
  FOLIOREF_ACTIVATE,
  FOLIOREF_KEEP,
  FOLIOREF_RECLAIM,
  FOLIOREF_RECLAIM_CLEAN,
  ReclaimNode,
  setReclaimPolicy,
} from './reclaim.ts';
export type { ReclaimPolicy, ReclaimPolicyFactory } from './reclaim.ts';
export { optReclaim } from './reclaim-opt.ts';
export { reclaimPolicies } from './reclaim-policies.ts';
export type { ReclaimPolicyName } from './reclaim-policies.ts';
export { evictFolios, isolateFolio, isolateFolios, putbackFolios } from './isolate-folios.ts';
export { ScanControl } from './scan-control.ts';
export { classicReclaim } from './shrink-lists.ts';
export { lruGenReclaim, lruGenReclaimBefore614 } from './lru-gen-policy.ts';
export { lruGenCommand, lruGenText } from './lru-gen-debugfs.ts';
export { newReclaimStat, shrinkFolioList } from './shrink-folio-list.ts';
export type { ReclaimStat } from './shrink-folio-list.ts';
export {
  SWAP_FLAGS_VALID,
  SWAP_FLAG_DISCARD,
  SWAP_FLAG_DISCARD_ONCE,
  SWAP_FLAG_DISCARD_PAGES,
  SWAP_FLAG_PREFER,
  SWAP_FLAG_PRIO_MASK,
  Swap,
  SwapArea,
  enableSwapArea,
} from './swapfile.ts';
export { DiskSwapDevice, FileSwapDevice, MemorySwapDevice, readSwapHeader, writeSwapHeader } from './swap-device.ts';
export type { Compressor } from './compressor.ts';
export type { SwapDevice, SwapDeviceFactory } from './swap-device.ts';
export { dropPagecache, dropSlab } from './drop-caches.ts';
export { swapoffArea } from './swap-unuse.ts';
export { shmemSwappedPages } from './shmem-swap.ts';
export { SHMEM_MAX_BYTES, shmemFileSetup, shmemMknod } from './shmem.ts';
export type { ShmemSuperBlock } from './shmem-super.ts';
export { accessOk, copyFromUser, copyFromUserPartial, copyToUser, copyToUserPartial, faultInWriteable, userByte } from './uaccess.ts';
export { validateVm } from './validate.ts';
export { mmRss, unmapMappingPages, zapPageRange } from './zap.ts';
export { memfdAddSeals, memfdCreate, memfdGetSeals } from './memfd.ts';

// The kernel's own virtual memory.
export { DmaDebug } from './dma-debug.ts';
export { DMA_BIDIRECTIONAL, DMA_FROM_DEVICE, DMA_MAPPING_ERROR, DMA_TO_DEVICE, Dma, DmaDevice } from './dma-mapping.ts';
export type { CoherentBlock, ContiguousArea } from './dma-mapping.ts';
export { DmaPool } from './dma-pool.ts';
export { IO_TLB_DEFAULT_SIZE, IO_TLB_SEGSIZE, IO_TLB_SIZE, Swiotlb } from './swiotlb.ts';
export type { SwiotlbStats } from './swiotlb.ts';
export { InitMm, PAGE_KERNEL_LO } from './init-mm.ts';
export type { KernelWalk } from './init-mm.ts';
export { KernelFault, KernelMemory } from './kernel-access.ts';
export { throwWarning } from './kernel-warning.ts';
export type { KernelWarning, KernelWarningSink } from './kernel-warning.ts';
export { VmapArea } from './vmap-area.ts';
export {
  VMALLOC_X86_64,
  VM_ALLOW_HUGE_VMAP,
  VM_ALLOC,
  VM_DMA_COHERENT,
  VM_IOREMAP,
  VM_MAP,
  VM_MAP_PUT_PAGES,
  VM_NO_GUARD,
  VM_USERMAP,
} from './vm-struct.ts';
export type { VmStruct, VmallocLayout, VmallocRequest } from './vm-struct.ts';
export { Vmalloc } from './vmalloc.ts';
export { SHMMAX, SHMMNI, ShmNamespace } from './sysv-shm.ts';
export type { IpcCaller, ShmSegment } from './sysv-shm.ts';
export { replacementPolicies } from './replacement/registry.ts';
export { ReplacementError, ReplacementRun } from './replacement/replacement-run.ts';
export type { ReplacementResult, ReplacementSize } from './replacement/replacement-run.ts';
export type { ReplacementOptions, ReplacementPolicy, ReplacementPolicyFactory } from './replacement/replacement-policy.ts';
export {
  localNode,
  mpolDup,
  mpolEqual,
  mpolFree,
  mpolNew,
  mpolText,
  nextInterleaveNode,
  noTaskPolicy,
  currentMemsAllowed,
  mpolRebind,
  mpolRebindMm,
  nodesWithMemory,
  setTaskPolicy,
  shownPolicy,
  switchTaskPolicy,
  vmaPolicyAt,
} from './mempolicy.ts';
export type { MemPolicy, TaskPolicy } from './mempolicy.ts';
export { doMbind, doMigratePages, nodeOfPageAt, policyRangeEnd, queuePageForMove, setHomeNode, targetOnNode } from './mbind.ts';
export { khugepagedHasWork, khugepagedScan } from './khugepaged.ts';
export type { Khugepaged } from './khugepaged.ts';
export type { ThpDefrag } from './huge-memory.ts';
export { updateShmemThp } from './shmem-huge.ts';
export type { ShmemEnabled, ShmemSizeEnabled, ShmemThp, TmpfsHuge } from './shmem-huge.ts';
export { UffdContext, rangeHasHugetlb, uffdRangeEnd, uffdRegister, uffdRelease, uffdUnalignedEnd, uffdUnregister } from './userfaultfd.ts';
export type { UffdWait, UserfaultHooks } from './userfaultfd.ts';
export { memoryFailure } from './memory-failure.ts';
export type { LostPage } from './memory-failure.ts';
export { unpoisonMemory } from './soft-offline.ts';
export { pagemapScan } from './pagemap-scan.ts';
export type { PageRegion, PagemapScanQuery, PagemapScanResult } from './pagemap-scan.ts';
export { uffdFill } from './userfault-fill.ts';
export { uffdMove } from './userfault-move.ts';
export { uffdWriteProtect } from './userfault-wp.ts';
export type { UffdFill } from './userfault-fill.ts';
export { ksmScan, ksmUnmergeAll } from './ksm.ts';
export { hugetlbTotalPages, setMaxHugePages } from './hugetlb.ts';
export { hugetlbFileSetup, isHugetlbFile } from './hugetlbfs.ts';
export { numaPagesOf } from './numa-pages.ts';
export type { NumaPages } from './numa-pages.ts';
export type { Zswap, ZswapStats } from './zswap.ts';
export { MEMTIER_ADISTANCE_DRAM } from './memory-tiers.ts';
export type { MemoryTiers } from './memory-tiers.ts';
export { NUMA_BALANCING_MEMORY_TIERING, TICK_NS, newNumaTask, taskTickNuma } from './numa-balancing.ts';
export type { NumaBalancing, NumaTask } from './numa-balancing.ts';
export { PAGE_COUNTER_MAX, PageCounter, pageCounterSetLow, pageCounterSetMin, parsePages } from './page-counter.ts';
export { ListLru } from './list-lru.ts';
export { reclaimNode } from './node-reclaim.ts';
export { MEMCG_EVENT, MEMCG_STAT, MemCgroup, MemCgroups, ObjCgroup, descendants, isBelow, memcgEvent, memcgPageState, memcgState } from './memcg.ts';
export type { MemcgHooks, MemcgTask } from './memcg.ts';
export { chargeStackPages, enableMemCgroups, unchargeStackPages } from './memcg-setup.ts';
export { MEMCG_CHARGE_BATCH, groupOfObject } from './memcg-charge.ts';
export { memcgHandleOverHigh } from './memcg-high.ts';
export { memcgSwapPages } from './memcg-swap.ts';
export { tryToFreeMemCgroupPages } from './memcg-reclaim.ts';
export { ksmDisableMergeAny, ksmEnableMergeAny, ksmEnter } from './ksm.ts';
export { inheritMemoryFlags } from './mm-lifetime.ts';
export { waitForUffdEvents } from './userfault-events.ts';
export type { UffdEvent } from './userfaultfd.ts';
