/**
 * `forkcow`: reading and writing fresh memory, and who copies what after a fork.
 */
import { MADV_DONTNEED, MAP_ANONYMOUS, MAP_POPULATE, MAP_SHARED, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Process } from '@pagelab/kernel';
import { MIB, PAGE, kibOf, mapBefore, touchRead, touchWrite } from './load-run.ts';
import type { Load, LoadRun } from './load-run.ts';

const HUGE = 2 * MIB;
/** What of `smaps_rollup` no program has by itself. */
const EXACT = ['LazyFree', 'AnonHugePages', 'ShmemPmdMapped', 'FilePmdMapped', 'Shared_Hugetlb', 'Private_Hugetlb', 'Swap', 'SwapPss', 'Locked'];
const LIKE = ['Rss', 'Pss', 'Shared_Dirty', 'Private_Dirty', 'Anonymous'];
const COUNTERS = ['nr_anon_pages', 'nr_shmem', 'nr_mapped', 'nr_page_table_pages', 'nr_free_pages', 'pgfault', 'pgreuse'];

export const forkcow: Load = { name: 'forkcow', run };

function run(load: LoadRun): void {
  const mib = Number(/read touch of (\d+) MiB/.exec(load.recording.text('events.txt'))?.[1] ?? 32);
  const bytes = mib * MIB;
  load.stage('00-before');
  const parent = load.start();
  const { os } = parent;
  const faults = new FaultLog(load);

  const before = pagesBefore(load, bytes);
  let p = mapBefore(os, bytes, before);
  faults.note('parent before', parent);
  touchRead(os, p, bytes);
  faults.since('parent before', `parent after read touch of ${mib} MiB (zero page)`, parent);
  load.stage('01-zero-page-read');
  touchWrite(os, p, bytes, 1);
  faults.since(`parent after read touch of ${mib} MiB (zero page)`, 'parent after write touch (zero page -> private pages)', parent);
  compareRollup(load, 'parent written', parent);
  load.stage('02-written');

  const child = load.fork(parent);
  faults.note('child start', child);
  touchRead(child.os, p, bytes);
  faults.near(`child after reading all ${mib} MiB`, 'child start', child);
  compareRollup(load, 'parent while child alive', parent);
  load.stage('03-child-read');
  touchWrite(child.os, p, bytes, 7);
  faults.since(`child after reading all ${mib} MiB`, `child after writing all ${mib} MiB`, child);
  compareRollup(load, 'child after write', child);
  compareRollup(load, 'parent while child alive', parent);
  load.stage('04-child-wrote');
  load.end(child, 'cowchild');
  faults.note('parent before rewrite', parent);
  touchWrite(os, p, bytes, 9);
  faults.since('parent before rewrite', 'parent after rewrite (child gone)', parent);
  load.stage('05-parent-rewrote');
  touchWrite(os, p, bytes, 9);
  faults.since('parent after rewrite (child gone)', 'parent second rewrite', parent);

  let q = mapBefore(os, bytes, before);
  faults.note(`before direct write touch of fresh ${mib} MiB`, parent);
  touchWrite(os, q, bytes, 1);
  faults.since(`before direct write touch of fresh ${mib} MiB`, 'after direct write touch', parent);
  load.stage('06-second-mapping');
  os.madvise(q, bytes, MADV_DONTNEED);
  faults.since('after direct write touch', 'after MADV_DONTNEED', parent);
  touchWrite(os, q, bytes / 2, 1);
  faults.since('after MADV_DONTNEED', 'after rewriting half', parent);
  load.stage('07-dontneed-half');
  os.munmap(p, bytes);
  os.munmap(q, bytes);
  load.stage('08-unmapped');

  p = os.mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  faults.note('before shared touch', parent);
  touchWrite(os, p, bytes, 1);
  faults.since('before shared touch', 'after shared (shmem) touch', parent);
  load.stage('09-shared-32m');
  os.munmap(p, bytes);
  q = mapBefore(os, bytes, before, MAP_POPULATE);
  faults.since('after shared (shmem) touch', 'after MAP_POPULATE', parent);
  load.stage('10-populated');
  os.munmap(q, bytes);
  parent.exit(0);
  const stages = ['00-before', '01-zero-page-read', '02-written', '03-child-read', '04-child-wrote', '05-parent-rewrote', '06-second-mapping', '07-dontneed-half', '08-unmapped', '09-shared-32m', '10-populated'];
  stages.slice(1).forEach((stage, i) => load.likeChanges(stages[i]!, stage, COUNTERS));
}

/**
 * Small pages in front of the first huge one that the recorded program had, by the faults that half of its memory took; nothing
 * where it had none.
 */
function pagesBefore(load: LoadRun, bytes: number): number | undefined {
  const events = load.recording.text('events.txt');
  const faults = (label: string): number => Number(new RegExp(`${label}: pid-self minflt=(\\d+)`).exec(events)?.[1] ?? 0);
  const half = faults('after rewriting half') - faults('after MADV_DONTNEED');
  const huge = Math.ceil(bytes / 2 / HUGE);
  return half < huge || half >= huge + HUGE / PAGE ? undefined : half - huge;
}

/** Faults by the recorded labels, recorded and own. */
export class FaultLog {
  readonly #load: LoadRun;
  readonly #seen = new Map<string, { recorded: number; computed: number }>();

  constructor(load: LoadRun) {
    this.#load = load;
  }

  /** Takes the recorded line of this label, and notes the faults of both sides. */
  note(label: string, process: Process): { recorded: number; computed: number } {
    const escaped = label.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
    const [, minflt, majflt] = this.#load.take(new RegExp(`^${escaped}: pid-self minflt=(\\d+) majflt=(\\d+)$`));
    const usage = process.os.getrusage();
    this.#load.equal('major faults', label, Number(majflt), usage.majflt);
    const seen = { recorded: Number(minflt), computed: usage.minflt };
    this.#seen.set(label, seen);
    return seen;
  }

  /** As {@link note}, and compares the faults since another label. */
  since(from: string, label: string, process: Process): void {
    const before = this.#seen.get(from)!;
    const now = this.note(label, process);
    this.#load.faults(label, now.recorded - before.recorded, now.computed - before.computed);
  }

  /** As {@link since}, where the recorded program's own pages count, too: alike in shape only. */
  near(label: string, from: string, process: Process): void {
    const before = this.#seen.get(from)!;
    const now = this.note(label, process);
    this.#load.shape(label, now.recorded - before.recorded, now.computed - before.computed);
  }
}

/** Takes a recorded line of `smaps_rollup` and compares it with the process's. */
export function compareRollup(load: LoadRun, label: string, process: Process): void {
  const recorded = load.take(new RegExp(`^${label.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')} smaps_rollup: (.*)$`))[1]!;
  const own = load.machine.readFile(`/proc/${process.pid}/smaps_rollup`);
  for (const name of EXACT) {
    const value = kibOf(recorded, name);
    if (!Number.isNaN(value)) load.equal('smaps', `${label}: ${name}`, value, kibOf(own, name));
  }
  for (const name of LIKE) load.shape(`${label}: ${name} (kB)`, kibOf(recorded, name), kibOf(own, name));
}
