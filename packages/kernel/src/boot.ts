/**
 * Booting, from top to bottom.
 *
 * @linux init/main.c:start_kernel
 */
import { DEFAULT_COSTS, PAGE_OFFSET, PhysicalMemory, Smp, VirtualClock, tlbModelFactory } from '@pagelab/hw';
import type { BufferSource, TlbModelFactory } from '@pagelab/hw';
import { KernelBug, TraceRing } from '@pagelab/lib';
import { OWNER_KERNEL_CODE, OWNER_KERNEL_DATA, PageAlloc, pageAllocators } from '@pagelab/mm-core';
import type { ManagedPages, PageAllocHooks, PageAllocatorFactory, ZoneLayout } from '@pagelab/mm-core';
import { DirectMap, Rcu, Slab, createKernelCaches, slabAllocators } from '@pagelab/slab';
import type { KernelCaches, SlabAllocator, SlabReport } from '@pagelab/slab';
import { releaseNumber } from '@pagelab/syscalls';
import { DEFAULT_VM_SYSCTL, PAGE_TABLE_SHAPES, Vm, fixmapStart, installReclaim, migrationOps, reclaimPolicies, setMaxHugePages, updateShmemThp } from '@pagelab/vm';
import type { Compressor, HostDirectory, KernelWarning, ReclaimPolicyFactory, SwapDeviceFactory, VmCaches } from '@pagelab/vm';
import { bootCgroups } from './cgroup/boot.ts';
import { BootFrames } from './boot-frames.ts';
import { ConfigError, parseMachineConfig } from './config.ts';
import type { MachineConfig, MachineConfigInput } from './config.ts';
import { Console } from './console.ts';
import { setupDma } from './dma-setup.ts';
import { KernelLog } from './kernel-log.ts';
import { mapKernel } from './kernel-page-tables.ts';
import { mapKernel32 } from './kernel-page-tables-32.ts';
import { KernelStacks } from './kernel-stack.ts';
import { allocationContext } from './host-stack.ts';
import { Kernel } from './kernel.ts';
import { Kmemleak } from './kmemleak.ts';
import { createMachine } from './machine.ts';
import type { Machine } from './machine.ts';
import { killProcs } from './memory-failure-kill.ts';
import { movablePages, nodeTable, setupMemoryMap, zoneLayout } from './memory-shape.ts';
import { bootNumaBalancing } from './numa-setup.ts';
import { outOfMemory } from './oom-kill.ts';
import { warnAlloc, warnCommit } from './oom-report.ts';
import { setupPercpu } from './percpu-host.ts';
import { applySysctl } from './proc/sysctl.ts';
import { warnRefusal } from './refusal.ts';
import { Scheduler } from './scheduler.ts';
import { fileDisk } from './file-disk.ts';
import { bootSwap, bootSwapDevices } from './swapon.ts';
import { bootZswap } from './zswap-setup.ts';
import type { OpenHostFile } from './swapon.ts';
import { lruGenOf } from './sys/lru-gen.ts';
import { TaskTable } from './task-table.ts';
import { cpuTimes } from './usage.ts';
import { lowEndPfn, vmallocLayout } from './vmalloc-layout.ts';

/** Events the trace ring keeps. */
const TRACE_RECORDS = 65_536;

/** How long a grace period lasts before the CPUs are looked at: three jiffies of 4 ms. @linux kernel/rcu/tree.c:rcu_gp_fqs_loop */
const RCU_FQS_NS = 12e6;

/** Reports of the slab allocator that are kept as values. */
const MAX_SLAB_REPORTS = 1000;

/** What a machine takes from its host, where not as usual. */
export interface BootOptions {
  /**
   * Where the buffer for its RAM comes from, and goes when it is disposed of. Who boots many machines one after another
   * keeps a `BufferPool`.
   */
  readonly buffers?: BufferSource;
  /** How files of the host are opened, for disks that lie on one. */
  readonly openHostFile?: OpenHostFile;
  /** Swap devices of one's own, beside the disks that the configuration asks for. */
  readonly swapDevices?: readonly SwapDeviceFactory[];
  /** What zswap compresses with; the first is the one that it uses unless told. Without any it cannot be enabled. */
  readonly compressors?: readonly Compressor[];
  /** A directory of the host that programs find at `/host`, to be read. */
  readonly hostDirectory?: HostDirectory;
  /**
   * How many pages of each zone the page allocator gets, for a machine like one that was measured. Otherwise as many as this
   * kernel's image and early boot leave.
   */
  readonly managed?: readonly ManagedPages[];
  /** A page allocator of one's own, in place of the one that the configuration names. */
  readonly pageAllocator?: PageAllocatorFactory;
  /** A modelled TLB of one's own, made for each CPU, in place of the one that the configuration names. */
  readonly tlbModel?: TlbModelFactory;
  /** A slab allocator of one's own, for this machine alone, in place of the one that the configuration names. */
  readonly slabAllocator?: SlabAllocator;
  /** A reclaim policy of one's own, in place of the one that the configuration names. */
  readonly reclaimPolicy?: ReclaimPolicyFactory;
}

/**
 * Boots a machine. Some milliseconds, whatever its size, most of them for the buffer behind its RAM unless a pool has one:
 * memory costs the host something when it is touched.
 *
 * @param config checked by `parseMachineConfig`, or as people write it
 * @throws ConfigError where the configuration cannot be used
 */
export function boot(config: MachineConfig | MachineConfigInput, options: BootOptions = {}): Machine {
  return createMachine(bootKernel(isParsed(config) ? config : parseMachineConfig(config), options));
}

/** Boots the kernel alone: what `boot` wraps into the public handle. @param layout zones of another architecture than the configuration's */
export function bootKernel(config: MachineConfig, options: BootOptions = {}, layout: ZoneLayout = zoneLayout(config)): Kernel {
  const clock = new VirtualClock();
  const trace = new TraceRing(TRACE_RECORDS, clock);
  const costs = { ...DEFAULT_COSTS, ...config.costs };
  // The memory map, as the firmware gives it.
  const map = setupMemoryMap(config);
  const ram = usable('memoryMap', () => new PhysicalMemory(map, options));
  // CPUs, with page-table walker and TLB.
  const tables = PAGE_TABLE_SHAPES[config.arch];
  const tlbModel = options.tlbModel ?? tlbModelFactory(config.tlb, config.seed);
  const smp = new Smp(ram, config.cpus, { format: tables.format, tlbModel, clock, costs });
  // Page frames, nodes, zones, and all free memory into the page allocator.
  const log = new KernelLog(clock);
  const hooks: PageAllocHooks = { warnRefusal: (refusal) => warnRefusal(log, refusal) };
  const { pageOffset, wordBytes } = kernelHalf(config);
  const shape = { layout, pageOffset, ...nodeTable(config, map), ...movablePages(config, map) };
  const pages = usable(
    'numa',
    () => new PageAlloc({ ram, smp, clock, trace, costs, hooks, ...shape, ...pageAllocOptions(config, options) }),
  );
  logNodes(log, pages);
  logCma(log, config, pages);
  // The slab allocator, and the caches of the kernel's objects.
  const slabReports: SlabReport[] = [];
  const running: { kernel?: Kernel } = {};
  if (pages.pageOwner !== null) pages.pageOwner.context = () => allocationContext(running.kernel);
  const rcu = new Rcu(config.cpus);
  const kmemleak = config.commandLine.kmemleak === true ? new Kmemleak(clock, ram, new DirectMap(ram, pageOffset, wordBytes)) : null;
  const slab = new Slab({
    pages, ram, smp, trace,
    slubOptions: { wordBytes, ...slubOptions(config) },
    allocator: options.slabAllocator ?? slabAllocators[config.slab]({ debug: config.debugSlab }),
    rcu,
    latePercpu: true,
    seed: config.seed,
    report: (report) => logSlabReport(log, slabReports, report),
    log: (line) => log.print(line),
    ...(kmemleak === null ? {} : { observer: kmemleak }),
    context: { clock, pid: () => running.kernel?.current?.pid ?? 0, caller: () => running.kernel?.callTrace.innermost },
  });
  const caches = createKernelCaches(slab, config.arch === 'x86-64' ? config.kernel : config.arch);
  // The kernel's page tables: direct map and image.
  const lowEnd = config.arch === 'x86-64' ? undefined : lowEndPfn(config, pages);
  const bootFrames = new BootFrames(ram, pages, lowEnd);
  const zeroPfn = bootFrames.take();
  const { codeBytes, imageBytes } = imageSize(pages);
  const allocTable = (): number => bootFrames.take();
  const pageTables =
    lowEnd === undefined
      ? mapKernel(ram, codeBytes, imageBytes, allocTable)
      : mapKernel32(ram, tables, lowEnd, codeBytes, fixmapStart(config.cpus), allocTable);
  for (const cpu of smp.cpus) cpu.loadCr3(pageTables.pgd * 4096);
  // Virtual memory: the zero page, and everything behind a page fault.
  const sysctl = { ...DEFAULT_VM_SYSCTL, userReserveKbytes: userReserveKbytes(pages), adminReserveKbytes: adminReserveKbytes(pages) };
  const warn = (warning: KernelWarning): void => {
    log.print(warning.text);
  };
  const vmalloc = vmallocLayout(config, pages);
  const vm = new Vm({
    ram, smp, pages, slab, clock, trace, costs, sysctl, tables, vmalloc, warn, zeroPfn,
    caches: vmCaches(caches),
    kernelPgd: pageTables.pgd,
    reclaimPolicy: options.reclaimPolicy ?? (config.reclaim === 'mglru' ? lruGenOf(config.kernel) : reclaimPolicies[config.reclaim]),
    // With 6.15 page tables in high memory were given up.
    highPte: lowEnd !== undefined && config.kernel !== '6.18',
    // ext4 has large folios since 6.16.
    largeFolios: config.kernel === '6.18',
    // mseal came with 6.10, for kernels of 64 bits.
    sealable: config.kernel !== '6.1' && lowEnd === undefined,
    release: releaseNumber(config.kernel),
    ...(lowEnd === undefined ? {} : { lowEndPfn: lowEnd }),
    ...(config.numa === undefined ? {} : { adistances: config.numa.map(({ adistance }) => adistance) }),
    ...(config.disk === undefined ? {} : { disk: fileDisk(config.disk, config.seed, ram, clock) }),
  });
  if (config.devShm !== undefined) vm.tmpfs.maxBlocks = config.devShm / 4096;
  const { highmem } = vm;
  if (highmem !== null) {
    hooks.clearPage = (pfn) => {
      highmem.clearPage(pfn);
    };
  }
  // DMA memory, and per-CPU memory.
  const dma = setupDma(config, vm, bootFrames, log);
  const percpu = setupPercpu({ config, vm, pages, slab, bootFrames, log });
  slab.initLate({
    alloc: (bytes, align, gfp) => percpu.alloc(bytes, align, gfp),
    free: (pointer) => percpu.free(pointer),
    ptr: (pointer, cpu) => percpu.ptr(pointer, cpu),
    physAddr: (address) => vm.vmalloc.physAddr(address),
  });
  // Since 6.2 an address space counts its pages by CPU.
  if (config.kernel !== '6.1') vm.percpu = percpu;
  // Tasks, and the stacks they and interrupts run on in the kernel.
  const stacks = new KernelStacks({ config: config.kernelStack, vm, vmalloc: vm.vmalloc, pages, ram, smp, bootFrames });
  const kernel = new Kernel({
    config, clock, costs, trace, ram, smp, pages, slab, caches, pageTables, vm, dma, percpu, stacks, kmemleak, rcu,
    scheduler: new Scheduler(config.cpus, config.seed),
    tasks: new TaskTable(),
    console: new Console(),
    log,
    slabReports,
  });
  running.kernel = kernel;
  rcu.onStart = () => {
    kernel.daemons.wake(kernel, 'rcu_gp', RCU_FQS_NS);
  };
  // Nobody reads while the machine boots.
  rcu.barrier();
  hooks.migration = migrationOps(vm);
  vm.log = (line) => {
    log.print(line);
  };
  vm.killProcs = (lost, pfn, isAccessed, shift) => {
    killProcs(kernel, lost, pfn, { isAccessed, shift });
  };
  vm.writeback.wakeFlusher = () => {
    kernel.daemons.wake(kernel, 'flusher', 0);
  };
  vm.reclaim.kswapdWaits = (ns) => {
    kernel.daemons.wake(kernel, 'kswapd', ns);
  };
  vm.reclaim.cpuTimes = (times) => {
    cpuTimes(kernel, times);
  };
  vm.writeback.submitted = () => {
    const { blockFs, writeback } = vm;
    kernel.daemons.wake(kernel, 'kblockd', writeback.reads.length > 0 ? 0 : Math.max(0, blockFs.store.nextCompletion - clock.now));
  };
  hooks.kcompactdWoken = () => {
    kernel.daemons.wake(kernel, 'kcompactd', 0);
  };
  kmemleak?.attach(kernel);
  // Getting memory back, and where to.
  installReclaim(vm, hooks);
  const { directReclaim } = hooks;
  hooks.directReclaim = (gfp, order, nrToReclaim, nodes) => {
    // Who reclaims lets others run, and the memory that waits for readers come free.
    rcu.expedite();
    return directReclaim?.(gfp, order, nrToReclaim, nodes) ?? 0;
  };
  bootSwap(kernel, options.openHostFile);
  bootSwapDevices(kernel, options.swapDevices ?? []);
  bootNumaBalancing(kernel);
  bootZswap(kernel, options.compressors ?? []);
  if (options.hostDirectory !== undefined) kernel.attachHost(options.hostDirectory);
  hooks.warnAlloc = (gfp, order) => {
    warnAlloc(kernel, gfp, order);
  };
  vm.commitRefused = (nrPages) => {
    warnCommit(kernel, nrPages);
  };
  hooks.outOfMemory = (gfp, order, nodemask) => outOfMemory(kernel, gfp, order, nodemask);
  // Huge pages that are set aside before anybody can take memory.
  vm.restoresHugeReserve = config.kernel !== '6.1';
  vm.groupsCountTables = config.kernel !== '6.18';
  vm.countedTableLevels = config.kernel === '6.18' ? 4 : config.kernel === '6.12' ? 3 : 2;
  vm.deferredSplit.splitsUnderused = vm.deferredSplit.dropsZeros = config.kernel !== '6.1';
  vm.swap.skipsZeros = config.kernel !== '6.1';
  vm.swap.prefersNonfull = config.kernel === '6.18';
  vm.swap.takesHuge = vm.tables.format.addressBits === 48;
  vm.swap.hugeNeedsSolidState = config.kernel !== '6.18';
  vm.swap.mapsHuge = config.kernel !== '6.1';
  vm.zswap.takesHuge = config.kernel === '6.18';
  vm.replacesHugeZero = config.kernel === '6.18';
  vm.shmemThp.allSizes = config.kernel === '6.18';
  const { hugeShmem = 'never', hugeTmpfs = 'never' } = config.commandLine;
  vm.shmemThp.enabled = hugeShmem;
  if (hugeShmem !== 'deny' && hugeShmem !== 'force') vm.shmemThp.mount = hugeShmem;
  vm.tmpfs.huge = hugeTmpfs;
  updateShmemThp(vm);
  for (const { nid, pages: count } of config.commandLine.hugepages ?? []) if (nid < pages.nodes.length) setMaxHugePages(vm, count, nid);
  // What the configuration sets in /proc/sys.
  for (const [name, value] of Object.entries(config.sysctl)) {
    if (applySysctl(kernel, name, value) < 0) {
      throw new ConfigError(`sysctl: "${name}" cannot be set to ${JSON.stringify(value)}`);
    }
  }
  bootCgroups(kernel, config.cgroups);
  return kernel;
}

/**
 * Misuse of the slab allocator kept and logged; the kernel goes on where Linux would.
 *
 * @throws KernelBug where it would not
 */
function logSlabReport(log: KernelLog, reports: SlabReport[], report: SlabReport): void {
  if (reports.length < MAX_SLAB_REPORTS) reports.push(report);
  for (const line of report.text.split('\n')) log.print(line);
  if (report.fatal === true) throw new KernelBug(report.text);
}

/** Makes a part, where a value that it cannot be made from is the configuration's. */
function usable<T>(key: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (error instanceof RangeError) throw new ConfigError(`${key}: ${error.message}`);
    throw error;
  }
}

/** What the kernel says of nodes when it lists their zones. @linux mm/page_alloc.c:build_zonelists */
function logNodes(log: KernelLog, pages: PageAlloc): void {
  for (const { nid, fallbackOrder } of pages.nodes) log.print(`Fallback order for Node ${nid}: ${fallbackOrder.join(' ')} `);
}

/** @linux mm/cma.c:cma_declare_contiguous_nid */
function logCma(log: KernelLog, { commandLine: { cma } }: MachineConfig, { cmaAreas }: PageAlloc): void {
  if (cma === undefined || cmaAreas === null || cma.bytes === 0) return;
  const [area] = cmaAreas;
  if (area === undefined) log.print(`cma: Failed to reserve ${Math.ceil(cma.bytes / 2 ** 20)} MiB`);
  else log.print(`cma: Reserved ${area.count / 256} MiB at 0x${(area.basePfn * 4096).toString(16).padStart(16, '0')} on node -1`);
}

function pageAllocOptions(config: MachineConfig, options: BootOptions) {
  return {
    kernel: config.kernel,
    possibleCpus: config.possibleCpus,
    cma: config.commandLine.cma,
    managed: options.managed,
    pageOwner: config.commandLine.pageOwner === true,
    transparentHugepage: config.commandLine.transparentHugepage !== 'never',
    pageAllocator: options.pageAllocator ?? pageAllocators[config.pageAllocator],
  };
}

function slubOptions(config: MachineConfig) {
  const { slubMaxOrder, slubMinOrder, slubMinObjects, slabNomerge, slubDebug } = config.commandLine;
  return {
    kernel: config.kernel,
    possibleCpus: config.possibleCpus,
    freelistHardening: config.freelist.hardening,
    freelistRandom: config.freelist.random,
    ...(slubMaxOrder === undefined ? {} : { maxOrder: slubMaxOrder }),
    ...(slubMinOrder === undefined ? {} : { minOrder: slubMinOrder }),
    ...(slubMinObjects === undefined ? {} : { minObjects: slubMinObjects }),
    ...(slabNomerge === undefined ? {} : { noMerge: slabNomerge }),
    ...(slubDebug === undefined ? {} : { debug: slubDebug }),
  };
}

/** Where the kernel has frame 0, and bytes of its pointers. @linux arch/x86/include/asm/page_types.h:PAGE_OFFSET */
function kernelHalf({ arch }: MachineConfig): { pageOffset: number; wordBytes: 4 | 8 } {
  return arch === 'x86-64' ? { pageOffset: PAGE_OFFSET, wordBytes: 8 } : { pageOffset: PAGE_TABLE_SHAPES[arch].taskSize, wordBytes: 4 };
}

/** Bytes of the kernel's code, and of its whole image. */
function imageSize(pages: PageAlloc): { codeBytes: number; imageBytes: number } {
  const code = pages.frames.bootRanges.find(({ owner }) => owner === OWNER_KERNEL_CODE);
  if (code === undefined) return { codeBytes: 0, imageBytes: 0 };
  const data = pages.frames.bootRanges.find(({ owner, start }) => owner === OWNER_KERNEL_DATA && start === code.end);
  return { codeBytes: (code.end - code.start) * 4096, imageBytes: ((data?.end ?? code.end) - code.start) * 4096 };
}

/** 3 % of free memory, at most 128 MiB. @linux mm/mmap.c:init_user_reserve */
function userReserveKbytes(pages: PageAlloc): number {
  return Math.min(Math.floor((pages.nrFreePages() * 4) / 32), 131_072);
}

/** 3 % of free memory, at most 8 MiB. @linux mm/mmap.c:init_admin_reserve */
function adminReserveKbytes(pages: PageAlloc): number {
  return Math.min(Math.floor((pages.nrFreePages() * 4) / 32), 8192);
}

function vmCaches(caches: KernelCaches): VmCaches {
  return {
    vmArea: caches.vm_area_struct,
    dentry: caches.dentry,
    mm: caches.mm_struct,
    anonVma: caches.anon_vma,
    anonVmaChain: caches.anon_vma_chain,
    mapleNode: caches.maple_node,
    file: caches.filp,
    shmemInode: caches.shmem_inode_cache,
    inode: caches.inode_cache,
    hugetlbfsInode: caches.hugetlbfs_inode_cache,
    radixTreeNode: caches.radix_tree_node,
    vmapArea: caches.vmap_area,
    numaPolicy: caches.numa_policy,
    ksmRmapItem: caches.ksm_rmap_item,
    ksmStableNode: caches.ksm_stable_node,
    ksmMmSlot: caches.ksm_mm_slot,
  };
}

function isParsed(config: MachineConfig | MachineConfigInput): config is MachineConfig {
  return 'commandLine' in config;
}
