/**
 * Virtual memory as one subsystem: what all address spaces share.
 */
import { PAGE_SHIFT } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { DEFAULT_COSTS } from '@pagelab/hw';
import type { CostModel, VirtualClock, PhysicalMemory, Pfn, Smp } from '@pagelab/hw';
import { IdTable, KernelBug } from '@pagelab/lib';
import type { TraceRing } from '@pagelab/lib';
import type { NodeMask, PageAlloc, PageFrames } from '@pagelab/mm-core';
import type { KmemCache, Percpu, Slab } from '@pagelab/slab';
import type { AnonVma, AnonVmaChain } from './anon-vma.ts';
import { DeferredSplit } from './deferred-split.ts';
import type { AddressSpace } from './file.ts';
import { MmuGather } from './mmu-gather.ts';
import { BlockFs } from './block-fs.ts';
import { MemoryBlockStore } from './block-store.ts';
import { newWritebackState } from './page-writeback.ts';
import type { BlockStore } from './block-store.ts';
import { Highmem } from './highmem.ts';
import { ShmemOps } from './shmem.ts';
import { newShmemThp } from './shmem-huge.ts';
import type { ShmemThp } from './shmem-huge.ts';
import type { ShmemSuperBlock } from './shmem-super.ts';
import type { ThpDefrag, ThpMode } from './huge-memory.ts';
import { HugeZero } from './huge-zero.ts';
import { newKhugepaged } from './khugepaged.ts';
import { Ksm } from './ksm.ts';
import type { Khugepaged } from './khugepaged.ts';
import { HugetlbPool } from './hugetlb.ts';
import { HugetlbfsOps } from './hugetlbfs.ts';
import { throwWarning } from './kernel-warning.ts';
import type { KernelWarningSink } from './kernel-warning.ts';
import { TaskAllocPolicy, noTaskPolicy } from './mempolicy.ts';
import type { TaskPolicy } from './mempolicy.ts';
import { MemoryTiers } from './memory-tiers.ts';
import type { ListLru } from './list-lru.ts';
import type { MemCgroups } from './memcg.ts';
import { HwPoison } from './hwpoison.ts';
import type { LostPage } from './memory-failure.ts';
import type { MmStruct } from './mm-struct.ts';
import { NumaBalancing } from './numa-balancing.ts';
import type { UffdContext, UffdEvent, UserfaultHooks } from './userfaultfd.ts';
import { SHAPE_X86_64 } from './pgtable-shape.ts';
import type { PageTableShape } from './pgtable-shape.ts';
import type { ShadowNodes } from './page-cache-nodes.ts';
import { LruBatches } from './swap.ts';
import { Reclaim } from './reclaim.ts';
import type { ReclaimPolicyFactory } from './reclaim.ts';
import { classicReclaim } from './shrink-lists.ts';
import { Swap } from './swapfile.ts';
import type { VmArea } from './vma.ts';
import { VMALLOC_X86_64 } from './vm-struct.ts';
import type { VmallocLayout } from './vm-struct.ts';
import { Vmalloc } from './vmalloc.ts';
import { Zswap } from './zswap.ts';

/** `/proc/sys/vm` as far as address spaces follow it. */
export interface VmSysctl {
  /** 0 heuristic, 1 always, 2 never beyond the limit. */
  overcommitMemory: number;
  /** Percent of RAM that counts in mode 2. */
  overcommitRatio: number;
  /** In KiB; replaces the ratio where it is not 0. */
  overcommitKbytes: number;
  /** VMAs an address space may have. */
  maxMapCount: number;
  /** Lowest address an unprivileged program may map. */
  mmapMinAddr: number;
  /** In KiB: kept back in mode 2 for the administrator, and for each user. */
  adminReserveKbytes: number;
  userReserveKbytes: number;
  /** Pages kept free between a stack and what is below it. */
  stackGuardGap: number;
  /** `kernel.randomize_va_space`: 0 programs lie at fixed places; 1 stack and mapping area do not; 2 nor does the heap. */
  randomizeVaSpace: number;
  /** 1: anybody may have the kernel wait for pages that a program serves. */
  unprivilegedUserfaultfd: number;
  /** 1: new programs have the legacy layout, whatever their personality. */
  legacyVaLayout: number;
  /** Percent of the memory for files that may be dirty, and from which on the flusher writes; in bytes where those are not 0. */
  dirtyRatio: number;
  dirtyBackgroundRatio: number;
  dirtyBytes: number;
  dirtyBackgroundBytes: number;
  /** In hundredths of a second: how often the flusher runs, never at 0; and how old dirty pages get. */
  dirtyWritebackCentisecs: number;
  dirtyExpireCentisecs: number;
  /** 0 to 200: how much rather anonymous memory is swapped than files are dropped; 100 is even. */
  swappiness: number;
  /** Percent of a node's memory: files' unmapped pages, and slabs, that node reclaim leaves. */
  minUnmappedRatio: number;
  minSlabRatio: number;
  /** log2 of the pages that are read from swap at once. */
  pageCluster: number;
  /** 1: the machine stops where memory runs out, 2: also where only some of it did. */
  panicOnOom: number;
  /** 1: who asked for memory goes, not the largest. */
  oomKillAllocatingTask: number;
  /** 1: the killer's report lists all programs. */
  oomDumpTasks: number;
  /** 1: who has a page that breaks is told at once. */
  memoryFailureEarlyKill: number;
  /** 0: the machine stops where memory breaks. */
  memoryFailureRecovery: number;
  /** 0: frames are not retired. */
  enableSoftOffline: number;
  /** Whether memory files can be run where their maker does not say: 0 yes, 1 no, 2 not even where he does. */
  memfdNoexec: number;
}

/** Linux's values, but for a layout that repeats. */
export const DEFAULT_VM_SYSCTL: Readonly<VmSysctl> = {
  overcommitMemory: 0,
  overcommitRatio: 50,
  overcommitKbytes: 0,
  maxMapCount: 65_530,
  mmapMinAddr: 65_536,
  adminReserveKbytes: 8192,
  userReserveKbytes: 131_072,
  stackGuardGap: 256,
  randomizeVaSpace: 0,
  unprivilegedUserfaultfd: 0,
  legacyVaLayout: 0,
  dirtyRatio: 20,
  dirtyBackgroundRatio: 10,
  dirtyBytes: 0,
  dirtyBackgroundBytes: 0,
  dirtyWritebackCentisecs: 500,
  dirtyExpireCentisecs: 3000,
  swappiness: 60,
  minUnmappedRatio: 1,
  minSlabRatio: 5,
  pageCluster: 3,
  panicOnOom: 0,
  oomKillAllocatingTask: 0,
  oomDumpTasks: 1,
  memoryFailureEarlyKill: 0,
  memoryFailureRecovery: 1,
  enableSoftOffline: 1,
  memfdNoexec: 0,
};

/** 16 GiB. */
const DEFAULT_DISK_BLOCKS = 2 ** 22;

/** The caches that this subsystem's objects live in. */
export interface VmCaches {
  readonly vmArea: KmemCache;
  readonly dentry: KmemCache;
  readonly mm: KmemCache;
  readonly anonVma: KmemCache;
  readonly anonVmaChain: KmemCache;
  readonly mapleNode: KmemCache;
  readonly file: KmemCache;
  readonly shmemInode: KmemCache;
  readonly inode: KmemCache;
  readonly hugetlbfsInode: KmemCache;
  readonly radixTreeNode: KmemCache;
  readonly vmapArea: KmemCache;
  readonly numaPolicy: KmemCache;
  readonly ksmRmapItem: KmemCache;
  readonly ksmStableNode: KmemCache;
  readonly ksmMmSlot: KmemCache;
}

/** The parts that virtual memory stands on. */
export interface VmParts {
  readonly ram: PhysicalMemory;
  readonly smp: Smp;
  readonly pages: PageAlloc;
  readonly slab: Slab;
  readonly clock: VirtualClock;
  readonly trace: TraceRing;
  readonly sysctl: VmSysctl;
  readonly caches: VmCaches;
  /** The frame that every first read of anonymous memory shows. Allocated at boot, zero, never freed. */
  readonly zeroPfn: Pfn;
  /** The kernel's own top-level page table: new address spaces share its upper half. */
  readonly kernelPgd: Pfn;
  /** The shape of all page tables; four levels by default. */
  readonly tables?: PageTableShape;
  /** Whether tables of the last level may lie in high memory. */
  readonly highPte?: boolean;
  /** Whether files on a device have folios of several pages in the cache; they do by default. */
  readonly largeFolios?: boolean;
  /** Whether mappings can be sealed; they can by default. */
  readonly sealable?: boolean;
  /** Which Linux it is, where calls differ: 618 for 6.18, which it is by default. */
  readonly release?: number;
  /** One past the last frame that has a permanent address, where some have none. */
  readonly lowEndPfn?: Pfn;
  /** What copying a page costs in virtual time; the usual numbers unless told. */
  readonly costs?: CostModel;
  /** Where vmalloc's addresses are; x86-64's by default. */
  readonly vmalloc?: VmallocLayout;
  /** Is told of misuse of kernel memory; by default the first one stops the emulator. */
  readonly warn?: KernelWarningSink;
  /** Which pages go when memory is short: active and inactive lists unless told. */
  readonly reclaimPolicy?: ReclaimPolicyFactory;
  /** The abstract distance of each node's memory, where not all of it is ordinary. */
  readonly adistances?: readonly number[];
  /** What regular files lie on; a disk in the host's memory by default. */
  readonly disk?: BlockStore;
}

export class Vm {
  readonly ram: PhysicalMemory;
  readonly smp: Smp;
  readonly pages: PageAlloc;
  readonly frames: PageFrames;
  readonly slab: Slab;
  readonly clock: VirtualClock;
  readonly trace: TraceRing;
  readonly sysctl: VmSysctl;
  readonly caches: VmCaches;
  readonly zeroPfn: Pfn;
  readonly kernelPgd: Pfn;
  readonly tables: PageTableShape;
  readonly highPte: boolean;
  readonly largeFolios: boolean;
  readonly sealable: boolean;
  readonly release: number;
  readonly costs: CostModel;
  /** Is told of misuse of kernel memory. */
  readonly warn: KernelWarningSink;

  /** Live address spaces, anon_vmas and page caches by their ids; id 0 of each stays unused. */
  readonly mms = new IdTable<MmStruct>(1);
  readonly anonVmas = new IdTable<AnonVma>(1);
  readonly mappings = new IdTable<AddressSpace>(1);

  /** Pages of programs that the kernel holds for longer than a call, by frame: how many references. */
  readonly heldPages = new Map<Pfn, number>();

  /** Pages promised so far, against the commit limit. @linux mm/util.c:vm_committed_as */
  committedAs = 0;
  /** Pages of swap space in all; 0 while there is none. */
  totalSwapPages = 0;
  /** See `page-cache-nodes.ts`. */
  readonly shadowNodes: ShadowNodes = new Map();
  /** Swap areas, and slots of them. */
  readonly swap: Swap;
  /** Which nodes are slower; and who uses which pages, as far as that is looked at. */
  readonly tiers: MemoryTiers;
  readonly numa: NumaBalancing;
  /** What of swapped pages stays in memory, compressed. */
  readonly zswap: Zswap;
  /** A promise of so many pages was refused. */
  commitRefused: (pages: number) => void = () => undefined;
  /** Per-CPU memory, once there is some. */
  percpu: Pick<Percpu, 'alloc' | 'free' | 'accounting'> | null = null;
  /** Whether a memory cgroup counts the page tables that are charged to it apart: not in 6.18. @linux include/linux/mm.h:__pagetable_ctor */
  groupsCountTables = true;
  /** Lists of caches' objects, by memory cgroup and node. */
  readonly listLrus: ListLru<unknown>[] = [];
  /** Swapped pages that could not be written, and read. */
  readonly swapErrors = { writes: 0, reads: 0 };
  /** Reclaim's own state. */
  readonly reclaim: Reclaim;
  /** Memory cgroups; `null` while there is none but the root. */
  memcgs: MemCgroups | null = null;
  nextIno = 1;
  /** VMAs that were freed, to be used again: making one costs more than the rest of a short `mmap`. */
  readonly spareVmAreas: VmArea[] = [];
  /** Likewise links to anon_vmas, and these. */
  readonly spareChains: AnonVmaChain[] = [];
  readonly spareAnonVmas: AnonVma[] = [];
  /** What the unmapping under way has collected; empty between operations. */
  readonly gather: MmuGather;
  /** Moves between LRU lists that wait. */
  readonly lruBatches: LruBatches;
  /** What huge pages are used for. */
  thpMode: ThpMode = 'never';
  /** The same of shared memory. */
  readonly shmemThp: ShmemThp;
  /** How hard a fault tries for one; whether reads show the huge page of zeros, and a write to that takes a huge page: since 6.13. */
  thpDefrag: ThpDefrag = 'madvise';
  usesHugeZero = true;
  replacesHugeZero = true;
  /** What looks for blocks to make huge pages of. */
  readonly khugepaged: Khugepaged;
  readonly hugeZero: HugeZero;
  /** Third-level entries that show a folio of a file, by the folio's first frame. */
  readonly pmdMapped = new Map<Pfn, number>();
  /** First frames of those that were taken off their lists whole, to be moved. */
  readonly isolatedFolios = new Set<Pfn>();
  /** Huge pages that may be better small. */
  readonly deferredSplit: DeferredSplit;
  /** The kernel's own virtual memory. */
  readonly vmalloc: Vmalloc;
  /** Windows to memory without permanent addresses; `null` where there is none such. */
  readonly highmem: Highmem | null;
  /** Memory policies that there are; the one of the task that runs, and what the page allocator asks where that has one. */
  nrPolicies = 0;
  taskPolicy: TaskPolicy = noTaskPolicy();
  readonly policyHook = new TaskAllocPolicy(this);
  /** Nodes that have memory; `null` until they are first wanted. */
  memoryNodes: NodeMask | null = null;
  /** Pages that each node gives in its turn, by its number. @linux mm/mempolicy.c:wi_state */
  readonly interleaveWeights = new Uint8Array(64).fill(1);
  /** Frames that are broken. */
  readonly hwpoison: HwPoison;
  /** Tells who wants to know of a page that is lost, and who was about to use it; with log2 of its bytes. */
  killProcs: (lost: readonly LostPage[], pfn: Pfn, isAccessed: boolean, shift: number) => void = () => undefined;
  /** Is told what the kernel logs. */
  log: (line: string) => void = () => undefined;
  /** Pages of the same contents that are one. */
  readonly ksm: Ksm;
  /** Huge pages that are set aside, and what their files do. */
  readonly hugetlb: HugetlbPool;
  readonly hugetlbOps: HugetlbfsOps;
  /** Page tables up to this level count as such: 4 for all, 3 before 6.16, 2 before 6.7. */
  countedTableLevels = 4;
  /** Whether a private huge page that goes is promised to its mapping again: since 6.9. */
  restoresHugeReserve = true;
  /** Who waits for pages that a program serves: set by the layer that knows tasks. */
  userfaultHooks: UserfaultHooks = {
    wait: () => {
      throw new KernelBug('userfaultfd: nobody can wait');
    },
    currentThread: () => 0,
  };
  /** Events that the system call under way has made, and waits for at its end. */
  readonly uffdWaits: { readonly ctx: UffdContext; readonly event: UffdEvent }[] = [];
  /** Of the last fault on a broken page: log2 of its bytes. */
  poisonShift = PAGE_SHIFT;
  /** Address of the page fault under way, to the byte. */
  faultAddress: VirtAddr = 0;
  /** What shared memory does for its pages. */
  readonly shmemOps: ShmemOps;
  /** Regular files, and what of them is to be written back. */
  readonly blockFs: BlockFs;
  /** The shared memory that has names: `/dev/shm`. Half of memory, unless it is told otherwise. @linux mm/shmem.c:shmem_default_max_blocks */
  readonly tmpfs: ShmemSuperBlock;
  readonly writeback = newWritebackState();
  /** Whether the page fault under way had to wait for a page, and whether nothing of that page had been cached. */
  faultWaited = false;
  faultMissed = false;
  /** Whether the last page fault had to wait for a device. */
  lastFaultMajor = false;
  /** Id of the tracepoint `page_fault_user`: address, error code. */
  readonly tracePageFaultUser: number;
  /** Id of the tracepoint `mm_migrate_pages`: pages moved and not moved, mode, reason. */
  readonly traceMigratePages: number;

  constructor(parts: VmParts) {
    this.ram = parts.ram;
    this.smp = parts.smp;
    this.pages = parts.pages;
    this.frames = parts.pages.frames;
    this.slab = parts.slab;
    this.clock = parts.clock;
    this.trace = parts.trace;
    this.sysctl = parts.sysctl;
    this.caches = parts.caches;
    this.zeroPfn = parts.zeroPfn;
    this.kernelPgd = parts.kernelPgd;
    this.tables = parts.tables ?? SHAPE_X86_64;
    this.highPte = parts.highPte ?? false;
    this.largeFolios = parts.largeFolios ?? true;
    this.sealable = parts.sealable ?? true;
    this.release = parts.release ?? 618;
    this.costs = parts.costs ?? DEFAULT_COSTS;
    this.warn = parts.warn ?? throwWarning;
    this.vmalloc = new Vmalloc(this, parts.vmalloc ?? VMALLOC_X86_64);
    this.highmem = parts.lowEndPfn === undefined ? null : new Highmem(this, parts.lowEndPfn);
    this.gather = new MmuGather(this);
    this.lruBatches = new LruBatches(this);
    this.swap = new Swap(parts.smp.cpus.length);
    this.zswap = new Zswap(this);
    this.tiers = new MemoryTiers(this, parts.adistances ?? []);
    this.numa = new NumaBalancing(parts.pages.nodes.length);
    this.hugeZero = new HugeZero(this);
    this.deferredSplit = new DeferredSplit(this);
    this.hwpoison = new HwPoison(parts.pages.nodes.length);
    this.ksm = new Ksm(parts.pages.nodes.length);
    this.khugepaged = newKhugepaged(this.tables.ptrsPerPte);
    this.hugetlb = new HugetlbPool(parts.pages.nodes.length);
    this.hugetlbOps = new HugetlbfsOps(this);
    this.reclaim = new Reclaim(this, parts.reclaimPolicy ?? classicReclaim);
    this.shmemOps = new ShmemOps(this);
    this.shmemThp = newShmemThp(this.tables.hugeOrder);
    this.tmpfs = { maxBlocks: Math.floor(this.pages.totalramPages / 2), usedBlocks: 0, huge: 'never' };
    this.blockFs = new BlockFs(this, parts.disk ?? new MemoryBlockStore(DEFAULT_DISK_BLOCKS));
    this.tracePageFaultUser = parts.trace.define('page_fault_user', ['address', 'error_code']);
    this.traceMigratePages = parts.trace.define('mm_migrate_pages', ['nr_succeeded', 'nr_failed', 'mode', 'reason']);
  }
}
