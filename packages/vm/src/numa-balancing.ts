/**
 * NUMA balancing: part by part a task makes its own memory inaccessible, sees by the faults that follow which pages it uses,
 * and has those brought to its node that it finds elsewhere.
 *
 * Here is the scanner, its pace, and what is remembered of tasks; `numa-fault.ts` is the fault. Tasks stay on their CPUs:
 * pages go to tasks and not the other way round.
 *
 * @linux kernel/sched/fair.c
 */
import { MPOL_F_NUMA_BALANCING, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_ACCESSED, PTE_PRESENT, PTE_PS } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { GFP_KERNEL, PG_ANON, PG_DIRTY, PG_KSM, PG_SWAPBACKED, VM_EVENT, compoundHead } from '@pagelab/mm-core';
import { localNode, vmaPolicyAt } from './mempolicy.ts';
import type { MmStruct } from './mm-struct.ts';
import { entryHi, setEntry } from './pgtable-shape.ts';
import { PteTableWalk } from './pgtable.ts';
import { PTE_KEEP_HI, PTE_KEEP_LO, PTE_PROTNONE, PTE_SPECIAL, pfnOf } from './pte.ts';
import type { Vm } from './vm.ts';
import { VM_ACCESS_FLAGS, VM_HUGETLB, VM_IO, VM_MAYWRITE, VM_MIXEDMAP, VM_PFNMAP, VM_READ, VM_SHARED, VM_WRITE } from './vma.ts';
import type { VmArea } from './vma.ts';

/** `kernel.numa_balancing`: bits. @linux include/linux/sched/sysctl.h:NUMA_BALANCING_NORMAL */
export const NUMA_BALANCING_NORMAL = 1;
/** Pages that are used go up from slower memory, whoever uses them. */
export const NUMA_BALANCING_MEMORY_TIERING = 2;

/** From one look of the scheduler's at a task to the next. A kernel of 250 Hz. */
export const TICK_NS = 4e6;
const NS_PER_MS = 1e6;
const PAGES_PER_MIB = 256;
/** What `numa_scan_period` is divided by to change it; from how many tenths on faults are mostly of one kind. */
const PERIOD_SLOTS = 10;
const PERIOD_THRESHOLD = 7;
/** At most so many MiB are scanned in a second. @linux kernel/sched/fair.c:MAX_SCAN_WINDOW */
const MAX_SCAN_WINDOW = 2560;
/** Bytes of `struct vma_numab_state`. */
const NUMAB_STATE_BYTES = 40;

/** `last_cpupid` of a page: nobody is known to have used it. */
export const CPUPID_UNSET = 0;
/** Milliseconds of an access that a page has room for. */
const ACCESS_TIME_MASK = 0x7fff;

/** What is remembered of a task. @linux include/linux/sched.h:task_struct.numa_faults */
export interface NumaTask {
  readonly pid: number;
  /** When it was last looked at, in nanoseconds; 0 before the first time. */
  nodeStampNs: number;
  /** Milliseconds from one scan to the next; and what those are at most. */
  scanPeriodMs: number;
  scanPeriodMaxMs: number;
  scanSeq: number;
  /** The node where most of what it uses lies; −1 before that is known. */
  preferredNid: number;
  /** Faults by node, shared and private; halved each time all was scanned. Of the scan under way: the same. */
  readonly faults: Float64Array;
  readonly buffer: Float64Array;
  totalFaults: number;
  /** Faults on other nodes, on the own one, and pages that could not be moved, since the pace was last changed. */
  readonly locality: Float64Array;
  pagesMigrated: number;
  /** Threads of its process. */
  nrThreads: () => number;
}

/** What is remembered of a mapping. @linux include/linux/mm_types.h:vma_numab_state */
export interface VmaNumabState {
  /** When it may be scanned first, and when who used it is forgotten, in milliseconds. */
  nextScanMs: number;
  pidsActiveResetMs: number;
  /** Who used it, lately and before: bits by a hash of the pid. */
  readonly pidsActive: Uint32Array;
  startScanSeq: number;
  prevScanSeq: number;
  readonly object: VirtAddr;
}

/** Settings, and what is remembered of pages. */
export class NumaBalancing {
  /** NUMA_BALANCING_ bits. */
  mode = 0;
  /** `/sys/kernel/debug/sched/numa_balancing` */
  scanDelayMs = 1000;
  scanPeriodMinMs = 1000;
  scanPeriodMaxMs = 60_000;
  scanSizeMb = 256;
  hotThresholdMs = 1000;
  /** `kernel.numa_balancing_promote_rate_limit_MBps` */
  promoteRateLimitMbps = 65_536;
  /** The task that runs; `null` for none. */
  task: NumaTask | null = null;
  /** Who last used each page, or when, of slow memory; `null` until balancing is first switched on. */
  lastCpupid: Uint16Array | null = null;
  /** Of each node: how recently a page must have been used to be promoted, in ms (0: as set); and how many were, since when. */
  readonly thresholdMs: Float64Array;
  readonly rateStartMs: Float64Array;
  readonly rateCandidates: Float64Array;
  readonly thresholdStartMs: Float64Array;
  readonly thresholdCandidates: Float64Array;

  constructor(nrNodes: number) {
    this.thresholdMs = new Float64Array(nrNodes);
    this.rateStartMs = new Float64Array(nrNodes);
    this.rateCandidates = new Float64Array(nrNodes);
    this.thresholdStartMs = new Float64Array(nrNodes);
    this.thresholdCandidates = new Float64Array(nrNodes);
  }

  /** Switches balancing on or off. @linux kernel/sched/core.c:set_numabalancing_state */
  setMode(vm: Vm, mode: number): void {
    this.mode = mode;
    if (mode !== 0) this.lastCpupid ??= new Uint16Array(vm.frames.nrFrames);
  }
}

/** A task of which nothing is known. */
export function newNumaTask(nrNodes: number, pid: number, nrThreads: () => number): NumaTask {
  return {
    pid,
    nodeStampNs: 0,
    scanPeriodMs: 0,
    scanPeriodMaxMs: 0,
    scanSeq: 0,
    preferredNid: -1,
    faults: new Float64Array(nrNodes * 2),
    buffer: new Float64Array(nrNodes * 2),
    totalFaults: 0,
    locality: new Float64Array(3),
    pagesMigrated: 0,
    nrThreads,
  };
}

/** Milliseconds since boot. */
export function nowMs({ clock }: Vm): number {
  return Math.floor(clock.now / NS_PER_MS);
}

/** CPU and pid as a page has room for them: never {@link CPUPID_UNSET}. @linux include/linux/mm.h:cpu_pid_to_cpupid */
export function cpupid(vm: Vm, pid: number): number {
  return (((vm.smp.processorId << 8) | (pid & 0xff)) + 1) & 0xffff;
}

/** Whether that was set by a task of this pid, as far as its last bits tell. @linux kernel/sched/sched.h:cpupid_match_pid */
export function cpupidMatchesPid(cpupid: number, pid: number): boolean {
  return ((cpupid - 1) & 0xff) === (pid & 0xff);
}

/** The node of the CPU. @linux include/linux/mm.h:cpupid_to_nid */
export function cpupidNid({ pages }: Vm, cpupid: number): number {
  return pages.nodeOfCpu((cpupid - 1) >>> 8);
}

/** Whether of a page's use the time is kept, and not who it was. @linux include/linux/mm.h:folio_use_access_time */
export function usesAccessTime(vm: Vm, nid: number): boolean {
  return (vm.numa.mode & NUMA_BALANCING_MEMORY_TIERING) !== 0 && !vm.tiers.isToptier(nid);
}

/** Notes when a page of slow memory was made inaccessible, and returns what was noted. @linux include/linux/mm.h:folio_xchg_access_time */
export function exchangeAccessTime(vm: Vm, pfn: Pfn, ms: number): number {
  const before = vm.numa.lastCpupid![pfn];
  vm.numa.lastCpupid![pfn] = ms & ACCESS_TIME_MASK;
  return before;
}

/** Milliseconds from then to now. @linux kernel/sched/fair.c:numa_hint_fault_latency */
export function hintFaultLatency(vm: Vm, pfn: Pfn): number {
  const ms = nowMs(vm);
  return (ms - exchangeAccessTime(vm, pfn, ms)) & ACCESS_TIME_MASK;
}

// ---- the pace

/** How often a whole address space is gone through in parts. @linux kernel/sched/fair.c:task_nr_scan_windows */
function scanWindows(mm: MmStruct): number {
  const { scanSizeMb } = mm.vm.numa;
  const rss = mm.rss[0] + mm.rss[1] + mm.rss[3];
  return Math.max(1, Math.ceil(rss / (scanSizeMb * PAGES_PER_MIB)));
}

/** @linux kernel/sched/fair.c:task_scan_min */
function scanMinMs(mm: MmStruct): number {
  const { scanPeriodMinMs, scanSizeMb } = mm.vm.numa;
  const floor = scanSizeMb < MAX_SCAN_WINDOW ? Math.floor(1000 / Math.floor(MAX_SCAN_WINDOW / scanSizeMb)) : 1000;
  return Math.max(floor, Math.floor(scanPeriodMinMs / scanWindows(mm)));
}

/** @linux kernel/sched/fair.c:task_scan_max */
function scanMaxMs(mm: MmStruct): number {
  return Math.max(scanMinMs(mm), Math.floor(mm.vm.numa.scanPeriodMaxMs / scanWindows(mm)));
}

/**
 * The scheduler's tick: it is the task's time to scan now and then. Virtual time passes for all tasks alike.
 *
 * @linux kernel/sched/fair.c:task_tick_numa
 */
export function taskTickNuma(mm: MmStruct, task: NumaTask): void {
  const { clock } = mm.vm;
  const { scanDelayMs } = mm.vm.numa;
  const period = (task.scanPeriodMs === 0 ? scanDelayMs : task.scanPeriodMs) * NS_PER_MS;
  if (clock.now <= task.nodeStampNs + period) return;
  if (task.nodeStampNs === 0) task.scanPeriodMs = scanMinMs(mm);
  task.nodeStampNs += period;
  if (nowMs(mm.vm) >= mm.numaNextScanMs) taskNumaWork(mm, task);
}

/**
 * Scans the next part of the address space.
 *
 * @linux kernel/sched/fair.c:task_numa_work
 */
function taskNumaWork(mm: MmStruct, task: NumaTask): void {
  const { vm } = mm;
  const { scanDelayMs, scanSizeMb } = vm.numa;
  const now = nowMs(vm);
  if (mm.numaNextScanMs === 0) mm.numaNextScanMs = now + scanDelayMs;
  if (now < mm.numaNextScanMs) return;
  if (task.scanPeriodMs === 0) {
    task.scanPeriodMaxMs = scanMaxMs(mm);
    task.scanPeriodMs = scanMinMs(mm);
  }
  mm.numaNextScanMs = now + task.scanPeriodMs;
  // Another task of the address space shall have the next turn.
  task.nodeStampNs += 2 * TICK_NS;
  const most = scanSizeMb * PAGES_PER_MIB;
  if (most === 0) return;
  if (scanVmas(mm, task, most)) return;
  // All was seen.
  mm.numaScanSeq++;
  mm.numaScanOffset = 0;
}

/** @returns whether it stopped before the last mapping; `mm.numaScanOffset` says where */
function scanVmas(mm: MmStruct, task: NumaTask, most: number): boolean {
  let pages = most;
  let virtualPages = most * 8;
  if (mm.vmas.find(mm.numaScanOffset) === undefined) {
    mm.numaScanSeq++;
    mm.numaScanOffset = 0;
  }
  for (const forced of [false, true]) {
    let skipped = false;
    let start = mm.numaScanOffset;
    for (let vma = mm.vmas.find(start); vma !== undefined; vma = mm.vmas.find(vma.end)) {
      const state = candidate(vma);
      if (state === null) continue;
      if (state.prevScanSeq === mm.numaScanSeq) {
        mm.numaScanOffset = vma.end;
        continue;
      }
      if (!forced && !isAccessed(vma, state, task)) {
        skipped = true;
        continue;
      }
      const { pmdSize } = mm.vm.tables;
      do {
        start = Math.max(start, vma.start);
        const end = Math.min(Math.ceil((start + pages * PAGE_SIZE) / pmdSize) * pmdSize, vma.end);
        const size = (end - start) / PAGE_SIZE;
        if (changeProtNuma(vma, start, end) > 0) pages -= size;
        virtualPages -= size;
        start = end;
        if (pages <= 0 || virtualPages <= 0) {
          mm.numaScanOffset = start;
          return true;
        }
      } while (start !== vma.end);
      state.prevScanSeq = mm.numaScanSeq;
      if (forced) {
        mm.numaScanOffset = start;
        return true;
      }
    }
    if (!skipped) return false;
  }
  return false;
}

/** What is known of a mapping that may be scanned now; `null` for any other. */
function candidate(vma: VmArea): VmaNumabState | null {
  const { mm } = vma;
  const { vm } = mm;
  const { flags } = vma;
  if ((flags & (VM_IO | VM_PFNMAP | VM_HUGETLB | VM_MIXEDMAP)) !== 0 || !policyMovesOnFault(vm, vma)) return null;
  // What is only read of files is in the caches of all.
  if (vma.file !== null && (flags & (VM_READ | VM_WRITE)) === VM_READ) return null;
  if ((flags & VM_ACCESS_FLAGS) === 0) return null;
  const now = nowMs(vm);
  const { scanDelayMs } = vm.numa;
  if (vma.numab === null) {
    const object = vm.slab.kmalloc(NUMAB_STATE_BYTES, GFP_KERNEL);
    if (object === 0) return null;
    const nextScanMs = now + scanDelayMs;
    vma.numab = {
      nextScanMs,
      pidsActiveResetMs: nextScanMs + 4 * scanDelayMs,
      pidsActive: new Uint32Array(4),
      startScanSeq: mm.numaScanSeq,
      prevScanSeq: mm.numaScanSeq - 1,
      object,
    };
  }
  const state = vma.numab;
  // What may be gone soon is not worth it.
  if (mm.numaScanSeq > 0 && now < state.nextScanMs) return null;
  if (mm.numaScanSeq > 0 && now >= state.pidsActiveResetMs) {
    state.pidsActiveResetMs += 4 * scanDelayMs;
    state.pidsActive.copyWithin(0, 2);
    state.pidsActive.fill(0, 2);
  }
  return state;
}

/** Gives up what was known of a mapping. @linux include/linux/mm.h:vma_numab_state_free */
export function freeNumabState(vma: VmArea): void {
  vma.mm.vm.slab.kfree(vma.numab!.object);
  vma.numab = null;
}

/** Whether a mapping's pages may move by faults: where nobody has a policy, or one that says so. @linux mm/mempolicy.c:vma_policy_mof */
function policyMovesOnFault(vm: Vm, vma: VmArea): boolean {
  const policy = vmaPolicyAt(vma, vma.start) ?? vm.taskPolicy.policy;
  return policy === null || (policy.flags & MPOL_F_NUMA_BALANCING) !== 0;
}

/** @linux include/linux/hash.h:hash_32 */
function pidBit(pid: number): number {
  return Math.imul(pid, 0x61c8_8647) >>> 26;
}

/** A task used a mapping. @linux include/linux/mm.h:vma_set_access_pid_bit */
export function setAccessPidBit({ numab }: VmArea, pid: number): void {
  if (numab === null) return;
  const bit = pidBit(pid);
  numab.pidsActive[2 + (bit >>> 5)] |= 1 << (bit & 31);
}

/** Whether the task has used a mapping lately, or nobody else will look at it. @linux kernel/sched/fair.c:vma_is_accessed */
function isAccessed({ mm, start }: VmArea, state: VmaNumabState, task: NumaTask): boolean {
  if (mm.numaScanSeq - state.startScanSeq < 2) return true;
  const bit = pidBit(task.pid);
  const { pidsActive } = state;
  if (((pidsActive[bit >>> 5] | pidsActive[2 + (bit >>> 5)]) & (1 << (bit & 31))) !== 0) return true;
  if (mm.numaScanOffset > start) return true;
  return mm.numaScanSeq > state.prevScanSeq + task.nrThreads();
}

// ---- making pages inaccessible

/**
 * Makes the pages of [start, end) inaccessible that are worth a fault.
 *
 * @returns entries changed
 * @linux mm/mempolicy.c:change_prot_numa, mm/mprotect.c:change_pte_range
 */
function changeProtNuma(vma: VmArea, start: VirtAddr, end: VirtAddr): number {
  const { mm } = vma;
  const { vm } = mm;
  const { gather, numa } = vm;
  const { events } = vm.pages;
  // The pages of a task alone in its address space are right where it is.
  const ownNid = mm.users === 1 ? localNode(vm) : -1;
  const walk = new PteTableWalk(mm, start, end);
  let changed = 0;
  let huge = 0;
  gather.begin(mm);
  while (walk.next()) {
    const { step } = walk;
    if (walk.huge) {
      if (walk.count === vm.tables.ptrsPerPte && isWorthFault(vma, walk.pmdEntry, step, -1)) {
        makeInaccessible(vm, walk.pmdEntry, step);
        gather.noteRange(walk.addr, walk.addr + vm.tables.pmdSize);
        changed += walk.count;
        huge++;
      }
      continue;
    }
    let first = -1;
    let last = -1;
    for (let i = 0; i < walk.count; i++) {
      const entry = walk.entry + i * step;
      if (!isWorthFault(vma, entry, step, ownNid)) continue;
      makeInaccessible(vm, entry, step);
      changed++;
      if (first < 0) first = i;
      last = i;
    }
    if (first >= 0) gather.noteRange(walk.addr + first * PAGE_SIZE, walk.addr + (last + 1) * PAGE_SIZE);
  }
  gather.finish();
  if (numa.mode === 0) return changed;
  events[VM_EVENT.NUMA_PTE_UPDATES] += changed;
  events[VM_EVENT.NUMA_HUGE_PTE_UPDATES] += huge;
  return changed;
}

/** Whether an entry shows a page of which it is worth knowing who uses it. */
function isWorthFault(vma: VmArea, entry: number, step: number, ownNid: number): boolean {
  const { vm } = vma.mm;
  const { i32 } = vm.ram;
  const lo = i32[entry];
  if ((lo & (PTE_PRESENT | PTE_SPECIAL)) !== PTE_PRESENT) return false;
  const { frames, numa, pages, tiers } = vm;
  const pfn = pfnOf(lo, entryHi(i32, entry, step));
  const flags = frames.flags[pfn];
  if ((flags & PG_KSM) !== 0) return false;
  // A folio of a file would move page by page.
  if ((lo & PTE_PS) !== 0 && (flags & PG_ANON) === 0) return false;
  if ((vma.flags & (VM_SHARED | VM_MAYWRITE)) === VM_MAYWRITE && frames.mapcount[pfn] > 1) return false;
  // Files' pages that have to be written first do not move.
  if ((flags & (PG_ANON | PG_SWAPBACKED | PG_DIRTY)) === PG_DIRTY) return false;
  const nid = pages.nodeOf(pfn);
  if (nid === ownNid) return false;
  if ((numa.mode & NUMA_BALANCING_NORMAL) === 0 && tiers.isToptier(nid)) return false;
  if (usesAccessTime(vm, nid)) exchangeAccessTime(vm, compoundHead(frames, pfn), nowMs(vm));
  return true;
}

function makeInaccessible(vm: Vm, entry: number, step: number): void {
  const { i32 } = vm.ram;
  const hi = step === 2 ? entryHi(i32, entry, step) & PTE_KEEP_HI : 0;
  setEntry(i32, entry, step, (i32[entry] & PTE_KEEP_LO) | PTE_PROTNONE | PTE_ACCESSED, hi);
}

// ---- what faults tell

/**
 * Counts a hinting fault of the task that runs.
 *
 * @param lastCpupid who used the page before; {@link CPUPID_UNSET} for nobody
 * @param nid node on which the page lies now
 * @param outcome what became of it
 * @linux kernel/sched/fair.c:task_numa_fault
 */
export function taskNumaFault(
  mm: MmStruct,
  lastCpupid: number,
  nid: number,
  nrPages: number,
  outcome: { readonly local: boolean; readonly migrated: boolean; readonly failed: boolean },
): void {
  const { vm } = mm;
  const { task } = vm.numa;
  if (task === null) return;
  if (!vm.tiers.isToptier(nid) && ((vm.numa.mode & NUMA_BALANCING_MEMORY_TIERING) !== 0 || lastCpupid === CPUPID_UNSET)) return;
  const isPrivate = lastCpupid === CPUPID_UNSET || cpupidMatchesPid(lastCpupid, task.pid);
  if (mm.numaScanSeq !== task.scanSeq) taskNumaPlacement(mm, task);
  if (outcome.migrated) task.pagesMigrated += nrPages;
  if (outcome.failed) task.locality[2] += nrPages;
  task.buffer[nid * 2 + (isPrivate ? 1 : 0)] += nrPages;
  task.locality[outcome.local ? 1 : 0] += nrPages;
}

/** The address space was gone through once more: what the faults say of the task. @linux kernel/sched/fair.c:task_numa_placement */
function taskNumaPlacement(mm: MmStruct, task: NumaTask): void {
  task.scanSeq = mm.numaScanSeq;
  task.scanPeriodMaxMs = scanMaxMs(mm);
  const { faults, buffer } = task;
  const kinds = [0, 0];
  let most = 0;
  let best = -1;
  for (let nid = 0; nid * 2 < faults.length; nid++) {
    let ofNode = 0;
    for (const kind of [0, 1]) {
      const at = nid * 2 + kind;
      const change = buffer[at] - Math.floor(faults[at] / 2);
      kinds[kind] += buffer[at];
      buffer[at] = 0;
      faults[at] += change;
      task.totalFaults += change;
      ofNode += faults[at];
    }
    if (ofNode <= most) continue;
    most = ofNode;
    best = nid;
  }
  updateScanPeriod(mm, task, kinds[0], kinds[1]);
  if (best >= 0) task.preferredNid = best;
}

/** Faults that tell little make the scan slower, others faster. @linux kernel/sched/fair.c:update_task_scan_period */
function updateScanPeriod(mm: MmStruct, task: NumaTask, shared: number, ownFaults: number): void {
  const [remote, local, failed] = task.locality;
  if (local + shared === 0 || failed > 0) {
    task.scanPeriodMs = Math.min(task.scanPeriodMaxMs, task.scanPeriodMs * 2);
    mm.numaNextScanMs = nowMs(mm.vm) + task.scanPeriodMs;
    return;
  }
  const slot = Math.ceil(task.scanPeriodMs / PERIOD_SLOTS);
  const localTenths = Math.floor((local * PERIOD_SLOTS) / (local + remote));
  const privateTenths = Math.floor((ownFaults * PERIOD_SLOTS) / Math.max(1, ownFaults + shared));
  let change: number;
  if (privateTenths >= PERIOD_THRESHOLD) change = Math.max(1, privateTenths - PERIOD_THRESHOLD) * slot;
  else if (localTenths >= PERIOD_THRESHOLD) change = Math.max(1, localTenths - PERIOD_THRESHOLD) * slot;
  else change = -(PERIOD_THRESHOLD - Math.max(localTenths, privateTenths)) * slot;
  task.scanPeriodMs = Math.min(Math.max(task.scanPeriodMs + change, scanMinMs(mm)), scanMaxMs(mm));
  task.locality.fill(0);
}
