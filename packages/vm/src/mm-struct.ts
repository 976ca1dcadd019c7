/**
 * An address space: its mappings, its page tables, and what they add up to.
 */
import type { VirtAddr } from '@pagelab/abi';
import type { Pfn } from '@pagelab/hw';
import { RangeTree } from '@pagelab/lib';
import type { PercpuPtr } from '@pagelab/slab';
import type { MemCgroup } from './memcg.ts';
import type { Vm } from './vm.ts';
import type { MergeRange } from './vma-merge.ts';
import type { VmArea } from './vma.ts';

/** Indexes of `MmStruct.rss`: resident pages by kind. */
export const MM_FILEPAGES = 0;
export const MM_ANONPAGES = 1;
export const MM_SWAPENTS = 2;
export const MM_SHMEMPAGES = 3;

/** What `RLIMIT_…` an address space is held to, in bytes; −1 is no limit. Shared with the task that owns it. */
export interface MmLimits {
  /** Soft limit of a resource, in bytes; −1 for none. */
  rlimit(resource: number): number;
  /** Hard limit of a resource, in bytes; −1 for none. */
  rlimitMax(resource: number): number;
  /** Whether the task has a capability, such as CAP_IPC_LOCK. */
  capable(capability: number): boolean;
}

export { CAP_IPC_LOCK, CAP_SYS_ADMIN, CAP_SYS_RAWIO, CAP_SYS_RESOURCE } from '@pagelab/abi';

/**
 * Invariants, recomputed by `validateMm`:
 *   totalVm        === sum over VMAs of their pages
 *   rss[k]         === page-table entries that show a page of kind k (the zero page is of no kind)
 *   mapCount       === VMAs in the tree
 *   pgtablesBytes  === 4096 × page-table pages below the top level, those set aside included
 *
 * @linux include/linux/mm_types.h:mm_struct
 */
export class MmStruct {
  readonly vm: Vm;
  /** Its number in `Vm.mms`. */
  readonly id: number;
  /** The top-level page table. */
  pgd: Pfn = -1;
  /** The mappings, by address. */
  readonly vmas = new RangeTree<VmArea>();
  /** The limits of the task whose address space this is. */
  limits: MmLimits;
  /** Tasks that run in it. At 0 the mappings go. */
  users = 1;

  mapCount = 0;
  /** Pages mapped: all, locked, private writable, executable, growing. */
  totalVm = 0;
  lockedVm = 0;
  dataVm = 0;
  execVm = 0;
  stackVm = 0;
  /** Bytes of page tables: PTE, PMD and PUD pages. */
  pgtablesBytes = 0;
  /** Page tables set aside, one for each huge entry, for when it is split. */
  readonly depositedTables: Pfn[] = [];
  /** Third-level entries that show a folio of a file: nothing waits below those. */
  filePmds = 0;
  /** The memory cgroup of the process that it belongs to; `null` for the root. @linux include/linux/mm_types.h:mm_struct.owner */
  memcg: MemCgroup | null = null;
  /** Resident pages, by MM_…PAGES. */
  readonly rss = new Int32Array(4);
  /** Whether KSM knows of it; and how many of its pages are shared by that. */
  mergeable = false;
  /** Whether all of its memory may be merged, asked for or not. @linux include/linux/mm_types.h:MMF_VM_MERGE_ANY */
  mergeAny = false;
  /** What PR_SET_THP_DISABLE set: 0; 1 no huge pages, 3 none but where they are asked for. @linux include/linux/mm_types.h:MMF_DISABLE_THP_COMPLETELY */
  thpDisable = 0;
  /** It has had the huge zero page. @linux include/linux/mm_types.h:MMF_HUGE_ZERO_FOLIO */
  hasHugeZero = false;
  ksmMerging = 0;
  /** Entries that show the zero page in the place of a page of zeros. */
  ksmZeroPages = 0;
  /** Huge pages of the pool that its entries show. @linux include/linux/mm_types.h:mm_struct.hugetlb_usage */
  hugetlbPages = 0;
  /** Bit `nid % 32`: it ran since its page tables were last walked for pages of that node. @linux include/linux/mm_types.h:mm_struct.lru_gen.bitmap */
  ranSinceWalk = -1;
  /** Largest resident set and largest total, in pages. */
  hiwaterRss = 0;
  hiwaterVm = 0;
  /** When it is scanned for NUMA balancing next, how often all of it was, and where the next part begins. */
  numaNextScanMs = 0;
  numaScanSeq = 0;
  numaScanOffset: VirtAddr = 0;
  /** Page faults served: without and with waiting for a device. */
  minFlt = 0;
  majFlt = 0;

  /** Where new mappings are looked for: below `mmapBase`, downwards; or above it, in the legacy layout. */
  mmapBase: VirtAddr = 0;
  legacyLayout = false;
  mmapLegacyBase: VirtAddr = 0;
  /** The first address out of reach. @linux arch/x86/include/asm/page_32_types.h:TASK_SIZE, page_64_types.h */
  taskSize: VirtAddr = 0;
  /** What the kernel's arithmetic on addresses and lengths wraps at: 2^64 or 2^32. */
  readonly registerRange: number;
  /** Whether its program has registers of 32 bits: on a kernel of 32 bits, or under one of 64 (compat). */
  is32Bit: boolean;
  startCode: VirtAddr = 0;
  endCode: VirtAddr = 0;
  startData: VirtAddr = 0;
  endData: VirtAddr = 0;
  startBrk: VirtAddr = 0;
  brk: VirtAddr = 0;
  startStack: VirtAddr = 0;
  /** Flags every new mapping gets: VM_LOCKED after `mlockall(MCL_FUTURE)`. */
  defFlags = 0;

  /** Address of its object in the `mm_struct` cache. */
  object: VirtAddr = 0;
  /** What each CPU counts of its pages; 0 where CPUs do not. @linux include/linux/mm_types.h:mm_struct.rss_stat */
  rssCounters: PercpuPtr = 0;
  /** Objects of the `maple_node` cache that stand for the nodes of `vmas`. */
  readonly mapleNodes: VirtAddr[] = [];
  /** VMAs on their way out during `munmap`; empty between calls. Kept, as the next three, so that a call makes no object. */
  readonly detached: VmArea[] = [];
  /** The one VMA on its way out, where there is one. */
  readonly single: VmArea[] = [];
  /** Stands for the part of a VMA that is cut off at an end. */
  trimmed: VmArea | null = null;
  /** What the range being mapped or changed is compared by. */
  /** Protection keys handed out: 0 is, on processors without keys, with the first request, which fails all the same. */
  pkeyAllocationMap = 0;
  readonly mergeRange: MergeRange = {
    flags: 0,
    droppable: false,
    pgoff: 0,
    file: null,
    zeroFile: null,
    anonVma: null,
    policy: null,
    uffd: null,
    uffdMinor: false,
    source: null,
  };

  /** Made by `mmAlloc` and `dupMm`. */
  constructor(vm: Vm, limits: MmLimits) {
    this.vm = vm;
    this.limits = limits;
    this.registerRange = vm.tables.registerRange;
    this.is32Bit = vm.tables.format.addressBits === 32;
    this.id = vm.mms.alloc(this);
  }
}
