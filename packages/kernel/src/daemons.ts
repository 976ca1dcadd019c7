/**
 * What the kernel does by itself from time to time: its daemons. They run when their time on the virtual clock has come,
 * and somebody lets time pass: between two turns of programs, when a program sleeps, and when one makes a call.
 */
import { FRAG_CHECK_INTERVAL_NS } from '@pagelab/mm-core';
import { TICK_NS, endReads, endWritebacks, flushDirtyPages, khugepagedHasWork, khugepagedScan, ksmScan, runKswapds, taskTickNuma } from '@pagelab/vm';
import type { Vm } from '@pagelab/vm';
import type { Kernel } from './kernel.ts';

const NS_PER_MS = 1e6;
/** Between two visits of SLAB's reaper. @linux mm/slab.c:REAPTIMEOUT_AC (up to 6.7) */
const REAPTIMEOUT_AC_MS = 2000;

/** Between two looks at the CPUs that a grace period waits for. @linux kernel/rcu/tree.c:RCU_JIFFIES_TILL_FORCE_QS */
const RCU_FQS_MS = 12;

/** Nothing is looked at more often than a timer ticks. */
const LEAST_INTERVAL_MS = 4;

/** When the flusher first runs. */
const FIRST_FLUSH_MS = 5000;

/** A daemon. */
export interface Daemon {
  readonly name: string;
  /** When it runs next, in nanoseconds of the virtual clock. */
  dueNs: number;
  /** Does what is due. @returns nanoseconds until it wants to run again */
  readonly run: (kernel: Kernel) => number;
}

export class Daemons {
  readonly all: readonly Daemon[];
  /** When the first of them is due. */
  dueNs: number;

  constructor(all: readonly Daemon[]) {
    this.all = all;
    this.dueNs = Math.min(...all.map((daemon) => daemon.dueNs));
  }

  /** Lets a daemon run no later than `ns` from now on. */
  wake(kernel: Kernel, name: string, ns: number): void {
    for (const daemon of this.all) if (daemon.name === name) daemon.dueNs = Math.min(daemon.dueNs, kernel.clock.now + ns);
    this.dueNs = Math.min(...this.all.map(({ dueNs }) => dueNs));
  }
}

/** Runs the daemons whose time has come. */
export function runDaemons(kernel: Kernel): void {
  const { clock, daemons } = kernel;
  for (const daemon of daemons.all) {
    if (clock.now < daemon.dueNs) continue;
    daemon.dueNs = Infinity;
    daemon.dueNs = clock.now + daemon.run(kernel);
  }
  daemons.dueNs = Math.min(...daemons.all.map(({ dueNs }) => dueNs));
}

/** The kernel's daemons. */
export function kernelDaemons(): Daemon[] {
  return [
    { name: 'khugepaged', dueNs: 10_000 * NS_PER_MS, run: runKhugepaged },
    { name: 'cache_reap', dueNs: REAPTIMEOUT_AC_MS * NS_PER_MS, run: runCacheReap },
    { name: 'flusher', dueNs: FIRST_FLUSH_MS * NS_PER_MS, run: runFlusher },
    { name: 'kblockd', dueNs: Infinity, run: runKblockd },
    { name: 'kcompactd', dueNs: FRAG_CHECK_INTERVAL_NS, run: runKcompactd },
    { name: 'vmstat', dueNs: 1000 * NS_PER_MS, run: runVmstat },
    { name: 'kswapd', dueNs: Infinity, run: runKswapd },
    { name: 'ksmd', dueNs: Infinity, run: runKsmd },
    { name: 'task-tick', dueNs: Infinity, run: runTaskTick },
    { name: 'rcu_gp', dueNs: Infinity, run: runRcuGp },
    { name: 'zswap-shrink', dueNs: Infinity, run: runZswapShrink },
  ];
}

/** Looks at the CPUs that a grace period waits for: none runs kernel code while daemons do. @linux kernel/rcu/tree.c:rcu_gp_fqs_loop */
function runRcuGp({ rcu }: Kernel): number {
  rcu.forceQuiescentState();
  // A grace period that follows sets its own time; one that a reader holds up is looked at again.
  return rcu.nrPending > 0 ? RCU_FQS_MS * NS_PER_MS : Infinity;
}

/** Each CPU lets go of what caches of SLAB keep for it. @linux mm/slab.c:cache_reap (up to 6.7) */
function runCacheReap({ slab, smp }: Kernel): number {
  if (!slab.reaps) return Infinity;
  const { processorId } = smp;
  for (let cpu = 0; cpu < smp.cpus.length; cpu++) {
    smp.processorId = cpu;
    for (const cache of slab.caches()) cache.reap();
  }
  smp.processorId = processorId;
  return REAPTIMEOUT_AC_MS * NS_PER_MS;
}

/** Writes what has been dirty for long, or is too much. @linux fs/fs-writeback.c:wb_workfn */
function runFlusher({ vm }: Kernel): number {
  flushDirtyPages(vm);
  if (vm.writeback.blocked) return untilCompletion(vm);
  const { dirtyWritebackCentisecs } = vm.sysctl;
  return dirtyWritebackCentisecs === 0 ? Infinity : dirtyWritebackCentisecs * 10 * NS_PER_MS;
}

/** Goes on where it waited for a device. @linux mm/vmscan.c:kswapd */
function runKswapd({ vm }: Kernel): number {
  runKswapds(vm, false);
  return Infinity;
}

/** Ends what the device is done with. @linux block/blk-mq.c:blk_mq_complete_request */
function runKblockd({ vm }: Kernel): number {
  endReads(vm);
  endWritebacks(vm);
  return vm.writeback.bios.size === 0 ? Infinity : untilCompletion(vm);
}

/** How long the device takes until something is over. */
function untilCompletion({ blockFs, clock }: Vm): number {
  return Math.max(0, blockFs.store.nextCompletion - clock.now);
}

/** @linux mm/compaction.c:kcompactd */
function runKcompactd({ clock, pages }: Kernel): number {
  for (const kcompactd of pages.kcompactd) kcompactd.run(clock.now);
  return FRAG_CHECK_INTERVAL_NS;
}

/** @linux mm/vmstat.c:vmstat_shepherd */
function runVmstat({ pages }: Kernel): number {
  pages.refreshVmStats();
  return Math.max(pages.sysctl.statInterval * 1000, LEAST_INTERVAL_MS) * NS_PER_MS;
}

/** @linux mm/khugepaged.c:khugepaged */
function runKhugepaged({ vm }: Kernel): number {
  const { khugepaged } = vm;
  const starved = khugepagedHasWork(vm) && khugepagedScan(vm);
  return Math.max(1, starved ? khugepaged.allocSleepMs : khugepaged.scanSleepMs) * NS_PER_MS;
}

/** @linux mm/ksm.c:ksm_scan_thread */
function runKsmd({ vm }: Kernel): number {
  const { ksm } = vm;
  if (ksm.run !== 1) return Infinity;
  if (ksm.slots.length > 0) ksmScan(vm, ksm.pagesToScan);
  return Math.max(1, ksm.sleepMs) * NS_PER_MS;
}

/** @linux mm/zswap.c:shrink_worker */
function runZswapShrink({ vm }: Kernel): number {
  vm.zswap.shrink();
  return Infinity;
}

/** While NUMA balancing is on, the task that runs is looked at now and then. @linux kernel/sched/fair.c:task_tick_fair */
function runTaskTick({ current, vm }: Kernel): number {
  if (vm.numa.mode === 0) return Infinity;
  const mm = current?.process.mm ?? null;
  if (current !== null && !current.isDead && mm !== null) taskTickNuma(mm, current.numa);
  return TICK_NS;
}
