/**
 * One combination of a sweep: once with a modelled TLB, counting; then its rounds, on the clock.
 */
import { boot } from '@pagelab/kernel';
import type { MachineConfig, MachineStats } from '@pagelab/kernel';
import type { ReclaimPolicyFactory } from '@pagelab/kernel/reclaim';
import { mallocs } from '@pagelab/libc-malloc';
import type { Malloc, MallocOs } from '@pagelab/libc-malloc';
import { machineOf } from './combination.ts';
import type { Combination } from './combination.ts';
import { loadReclaim } from './reclaim-option.ts';
import { findWorkload } from './workloads.ts';

/** The TLB that cycles are counted with. */
const TLB = 'modelled:skylake';
const PAGE_BYTES = 4096;

/** What a workload cost, as far as it is the same in every run. Sizes in bytes. */
export interface Counts {
  readonly operations: number;
  /** At most asked for, obtained by the allocator, resident, and in all frames beyond those at boot. */
  readonly requestedBytes: number;
  readonly obtainedBytes: number;
  readonly residentBytes: number;
  readonly machineBytes: number;
  /** Of `machineBytes`, in slabs and in page tables when that was most. */
  readonly slabBytes: number;
  readonly pageTableBytes: number;
  /** Of what was obtained, the share nobody had asked for, when most was obtained. */
  readonly fragmentation: number;
  readonly faults: number;
  /** Of these, those that waited for a device. */
  readonly majorFaults: number;
  readonly tlbMisses: number;
  /** Of the modelled TLB and page walks, beyond those of hits. */
  readonly cycles: number;
  /** On the machine's own clock, in nanoseconds. */
  readonly virtualNs: number;
  /** Of free memory at the end, the share in blocks too small for a huge page. */
  readonly unusable: number;
}

/** What a sweep keeps of a combination. */
export interface RunRecord {
  readonly combination: Combination;
  readonly counts: Counts;
  /** This computer's time of each round, in nanoseconds. */
  readonly hostNs: readonly number[];
}

/** What a worker is asked for. */
export interface RunTask {
  readonly combination: Combination;
  readonly seed: number;
  readonly rounds: number;
}

const HUGE_ORDER = 9;

type CreateMalloc = (os: MallocOs) => Malloc;

function usedFrames({ framesByOwner }: MachineStats): number {
  return Object.entries(framesByOwner).reduce((sum, [owner, frames]) => (owner === 'free' ? sum : sum + frames), 0);
}

/** Sees a run now and then. */
type Look = (requestedBytes: number, malloc: Malloc, stats: () => MachineStats, residentBytes: () => number) => void;

interface OneRun {
  readonly operations: number;
  readonly hostNs: number;
  readonly booted: MachineStats;
  readonly end: MachineStats;
}

/** Runs a workload on a fresh machine. */
function runOn(config: MachineConfig, reclaimPolicy: ReclaimPolicyFactory | undefined, { combination, seed }: RunTask, look?: Look): OneRun {
  const machine = boot(config, reclaimPolicy === undefined ? {} : { reclaimPolicy });
  const booted = machine.stats();
  const process = machine.createProcess({ name: 'bench' });
  const create = (mallocs as unknown as Readonly<Record<string, CreateMalloc>>)[combination.malloc]!;
  const malloc = create(process.os);
  const residentBytes = (): number => Number(process.os.readFile('/proc/self/statm').split(' ')[1]) * PAGE_BYTES;
  const work = findWorkload(combination.workload).prepare(seed);
  const began = performance.now();
  const operations = work({
    machine, process, malloc, seed,
    create,
    sample: look === undefined ? () => {} : (requestedBytes) => look(requestedBytes, malloc, () => machine.stats(), residentBytes),
  });
  const hostNs = (performance.now() - began) * 1e6;
  const end = machine.stats();
  process.exit(0);
  machine.dispose();
  return { operations, hostNs, booted, end };
}

/** Runs a combination. */
export async function runCombination(task: RunTask): Promise<RunRecord> {
  const { combination, rounds } = task;
  const peak = { requestedBytes: 0, obtainedBytes: 0, residentBytes: 0, machineBytes: 0, slabBytes: 0, pageTableBytes: 0, fragmentation: 0 };
  const policy = await loadReclaim(combination.reclaim);
  const counted = runOn(machineOf(combination, TLB), policy, task, (requestedBytes, malloc, stats, residentBytes) => {
    const { arena, hblkhd } = malloc.mallinfo2();
    const obtained = arena + hblkhd;
    if (obtained > peak.obtainedBytes) {
      peak.obtainedBytes = obtained;
      peak.fragmentation = Math.max(0, 1 - requestedBytes / obtained);
    }
    peak.requestedBytes = Math.max(peak.requestedBytes, requestedBytes);
    peak.residentBytes = Math.max(peak.residentBytes, residentBytes());
    const now = stats();
    const frames = usedFrames(now);
    if (frames * PAGE_BYTES > peak.machineBytes) {
      peak.machineBytes = frames * PAGE_BYTES;
      peak.slabBytes = (now.framesByOwner.slab ?? 0) * PAGE_BYTES;
      peak.pageTableBytes = (now.framesByOwner['page table'] ?? 0) * PAGE_BYTES;
    }
  });
  const { booted, end, operations } = counted;
  const hostNs = Array.from({ length: rounds }, () => runOn(machineOf(combination), policy, task).hostNs);
  return {
    combination,
    counts: {
      operations, ...peak,
      machineBytes: Math.max(0, peak.machineBytes - usedFrames(booted) * PAGE_BYTES),
      faults: end.faults - booted.faults,
      majorFaults: end.majorFaults - booted.majorFaults,
      tlbMisses: (end.tlbModel?.misses ?? 0) - (booted.tlbModel?.misses ?? 0),
      cycles: (end.tlbModel?.cycles ?? 0) - (booted.tlbModel?.cycles ?? 0),
      virtualNs: end.timeNs - booted.timeNs,
      unusable: end.unusableIndex[HUGE_ORDER] ?? 0,
    },
    hostNs,
  };
}
