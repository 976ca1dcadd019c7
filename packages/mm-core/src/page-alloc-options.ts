/**
 * What a page allocator is made from, and what it calls of the layers above.
 */
import type { VirtAddr } from '@pagelab/abi';
import type { CostModel, Pfn, PhysicalMemory, Smp, VirtualClock } from '@pagelab/hw';
import type { TraceRing } from '@pagelab/lib';
import type { CmaRequest } from './cma-reserve.ts';
import type { KernelVersion, ManagedPages, NodeConfig } from './mm-init.ts';
import type { NodeMask } from './nodemask.ts';
import type { MigrationOps } from './migration-ops.ts';
import type { PageAllocatorFactory, PageAllocatorRefusal } from './page-allocator.ts';
import type { PageAllocSysctlConfig } from './sysctl.ts';
import type { ZoneLayout } from './zone-types.ts';
import type { Zone } from './zone.ts';

/** What higher layers fill in: how to get memory back. All are optional; what is missing gets nothing back. */
export interface PageAllocHooks {
  /** Wakes the node's kswapd to balance `zone` for blocks of `order`. @linux mm/vmscan.c:wakeup_kswapd */
  wakeKswapd?: (zone: Zone, order: number, gfp: number) => void;
  /** Reclaims for an allocation, of the nodes that it may use (`null`: all); returns the pages freed. @linux mm/vmscan.c:try_to_free_pages */
  /** Takes pages of a zone's node, before another node is tried: whether it got what the allocation needs. @linux mm/vmscan.c:node_reclaim */
  nodeReclaim?: (zone: Zone, gfp: number, order: number, localNid: number) => boolean;
  directReclaim?: (gfp: number, order: number, nrToReclaim: number, nodes: NodeMask | null) => number;
  /** How pages in use are moved: without it nothing is compacted, and no range is emptied. */
  migration?: MigrationOps;
  /** Kills a task of those that use the nodes that a policy leaves (`null`: all); returns whether it is worth trying again. @linux mm/oom_kill.c:out_of_memory */
  outOfMemory?: (gfp: number, order: number, nodemask: NodeMask | null) => boolean;
  /** A node's kcompactd has work: {@link Kcompactd.run} is to be called soon. */
  kcompactdWoken?: () => void;
  /** Pages of a zone that reclaim could free. @linux mm/vmscan.c:zone_reclaimable_pages */
  zoneReclaimablePages?: (zone: Zone) => number;
  /** Fills a frame with zeros, where the kernel has to map it for that. @linux include/linux/highmem.h:clear_highpage */
  clearPage?: (pfn: Pfn) => void;
  /** Reports an allocation that failed. @linux mm/page_alloc.c:warn_alloc */
  warnAlloc?: (gfp: number, order: number) => void;
  /** Reports that a page allocator gave a wrong answer, which was not acted on. */
  warnRefusal?: (refusal: PageAllocatorRefusal) => void;
}

/** What a page allocator is made from. */
export interface PageAllocOptions {
  readonly ram: PhysicalMemory;
  readonly smp: Smp;
  readonly clock: VirtualClock;
  readonly trace: TraceRing;
  /** Which kernel's rules to follow: `6.18` unless told. */
  readonly kernel?: KernelVersion;
  /** Zones of the architecture: x86-64 unless told. */
  readonly layout?: ZoneLayout;
  /** Where the kernel maps all memory, or what of it has a permanent address: that of x86-64 unless told. */
  readonly pageOffset?: VirtAddr;
  /** Nodes in order of their memory; one with all of it unless told. */
  readonly nodes?: readonly NodeConfig[];
  /** Distances from each node to each, 10 to itself and 20 to others unless told. */
  readonly distances?: readonly (readonly number[])[];
  /** CPUs the machine has room for: those it has unless told. */
  readonly possibleCpus?: number;
  /** `kernelcore=` and `movablecore=`, in pages: memory that ZONE_MOVABLE does not get, or does. 0 unless told. */
  readonly kernelcorePages?: number;
  readonly movablecorePages?: number;
  /** What boot leaves to the page allocator of each zone. What this kernel's image and early boot leave, unless told. */
  readonly managed?: readonly ManagedPages[] | undefined;
  /** `cma=`: a region that can be had in one piece. A kernel without CMA unless told. */
  readonly cma?: CmaRequest | undefined;
  /** What finds free blocks: the buddy system unless told. */
  readonly pageAllocator?: PageAllocatorFactory;
  /** Whether huge pages are in use (always, madvise): yes unless told. */
  readonly transparentHugepage?: boolean;
  /** Whether it is noted who allocates each page: no unless told. */
  readonly pageOwner?: boolean;
  readonly sysctl?: PageAllocSysctlConfig;
  readonly hooks?: PageAllocHooks;
  /** What an allocation costs in virtual time. */
  readonly costs?: CostModel;
}
