/**
 * `thp`: huge pages at faults, their entries cut, made of small ones, shared with a child, and the huge page of zeros.
 */
import { MADV_HUGEPAGE, PROT_READ, Syscall } from '@pagelab/abi';
import type { Os, VirtAddr } from '@pagelab/abi';
import type { Process } from '@pagelab/kernel';
import { FaultLog, compareRollup } from './forkcow.ts';
import { MIB, map2m, touchRead, touchWrite } from './load-run.ts';
import type { Load, LoadRun } from './load-run.ts';

const THP = '/sys/kernel/mm/transparent_hugepage/';
const HUGE = 2 * MIB;
/** Counters that no other program moves. */
const EXACT = [
  'thp_fault_alloc', 'thp_fault_fallback', 'thp_collapse_alloc', 'thp_collapse_alloc_failed', 'thp_split_page', 'thp_split_pmd', 'thp_deferred_split_page',
  'thp_zero_page_alloc', 'nr_anon_transparent_hugepages',
];
const STAGES = ['00-before', '01-madvise-huge-64m', '02-plain-64m', '03-huge-16m-more', '04-splits', '05-madv-collapse', '06-khugepaged', '07-child-cow-of-thp', '08-always-8m', '09-after-exit'];

export const thp: Load = { name: 'thp', run };

function run(load: LoadRun): void {
  load.hold();
  load.stage('00-before');
  const parent = load.fork(load.start());
  const finished = load.whileAlive(parent, () => {
    steps(load, parent);
  });
  load.end(parent, 'thp');
  load.stage('09-after-exit');
  const reached = STAGES.filter((stage) => finished || load.reached(stage));
  reached.slice(1).forEach((stage, i) => {
    // When memory ran out, how far khugepaged and reclaim had come is chance.
    if (finished || stage !== STAGES.at(-1)) load.sameChanges('huge pages', reached[i]!, stage, EXACT);
    else load.likeChanges(reached[i]!, stage, EXACT);
    load.likeChanges(reached[i]!, stage, ['pgfault', 'nr_anon_pages', 'nr_page_table_pages']);
  });
}

/** What the program does, where there is memory enough for it. */
function steps(load: LoadRun, parent: Process): void {
  const { os } = parent;
  const events = load.recording.text('events.txt');
  const n = Number(/touching (\d+) MiB with MADV_HUGEPAGE/.exec(events)?.[1] ?? 64) * MIB;
  const faults = new FaultLog(load);
  os.writeFile(`${THP}enabled`, load.take(/^enabled=(\w+)$/)[1]!);

  const p = map2m(os, n);
  faults.note('before', parent);
  load.replayCall(parent, { P: p, n, MADV_HUGEPAGE });
  touchWrite(os, p, n, 1);
  faults.since('before', `after touching ${n / MIB} MiB with MADV_HUGEPAGE`, parent);
  compareRollup(load, 'huge', parent);
  load.stage('01-madvise-huge-64m');
  const q = map2m(os, n);
  touchWrite(os, q, n, 1);
  faults.since(`after touching ${n / MIB} MiB with MADV_HUGEPAGE`, `after touching ${n / MIB} MiB without advice`, parent);
  load.stage('02-plain-64m');
  const r = map2m(os, 16 * MIB);
  os.madvise(r, 16 * MIB, MADV_HUGEPAGE);
  touchWrite(os, r, 16 * MIB, 1);
  load.stage('03-huge-16m-more');
  for (const label of ['after unmapping half of one huge page', 'after MADV_DONTNEED of 4K in another', 'after mprotect of 4K in a third']) {
    load.replayCall(parent, { r, MADV_DONTNEED: 4, PROT_READ });
    compareRollup(load, label, parent);
  }
  load.stage('04-splits');
  load.replayCall(parent, { q, n });
  faults.near(`after MADV_COLLAPSE of plain ${n / MIB} MiB`, `after touching ${n / MIB} MiB without advice`, parent);
  compareRollup(load, 'collapsed', parent);
  load.stage('05-madv-collapse');

  makeBusy(load, os);
  const u = map2m(os, 32 * MIB);
  touchWrite(os, u, 32 * MIB, 1);
  load.replayCall(parent, { u, MADV_HUGEPAGE });
  const [, collapsed, scans] = load.take(/^khugepaged pages_collapsed (\d+) full_scans (\d+)$/);
  for (let i = 0; i < 60 && read(os, 'pages_collapsed') < 16; i++) sleep(os, parent.image.bssStart, 200);
  const own = read(os, 'pages_collapsed');
  load.shape('full_scans', Number(scans), read(os, 'full_scans'));
  load.stage('06-khugepaged');
  // Between the look and the snapshot khugepaged may have gone on: by the snapshot both have made as many.
  const later = load.change('05-madv-collapse', '06-khugepaged', 'thp_collapse_alloc').recorded - Number(collapsed);
  load.within('khugepaged', 'pages_collapsed', Number(collapsed), own, Math.max(0, later));
  os.writeFile(`${THP}khugepaged/scan_sleep_millisecs`, '60000');

  const child = load.fork(parent);
  faults.note('thp child start', child);
  for (let at = 0; at < n; at += HUGE) child.os.mem.store8(p + at, 3);
  faults.near('thp child wrote one byte per huge page', 'thp child start', child);
  compareRollup(load, 'thp child', child);
  load.stage('07-child-cow-of-thp');
  load.end(child, 'cowthp');
  os.writeFile(`${THP}enabled`, 'always');
  const mib = Number(/always: before (\d+) MiB/.exec(events)?.[1] ?? 8);
  const w = map2m(os, mib * MIB);
  faults.note(`always: before ${mib} MiB`, parent);
  touchRead(os, w, mib * MIB);
  faults.since(`always: before ${mib} MiB`, `always: read touch ${mib} MiB (huge zero page)`, parent);
  touchWrite(os, w, mib * MIB, 1);
  faults.since(`always: read touch ${mib} MiB (huge zero page)`, 'always: write touch', parent);
  load.stage('08-always-8m');
}

/** Makes khugepaged as busy as the recorder does. */
function makeBusy(load: LoadRun, os: Os): void {
  for (const [name, value] of [['scan_sleep_millisecs', 50], ['alloc_sleep_millisecs', 50], ['pages_to_scan', 16_384]] as const) {
    os.writeFile(`${THP}khugepaged/${name}`, `${value}`);
    load.equal('khugepaged', name, value, read(os, name));
  }
}

function read(os: Os, name: string): number {
  return Number(os.readFile(`${THP}khugepaged/${name}`));
}

/** Sleeps; `time` is where the length is put. */
function sleep(os: Os, time: VirtAddr, ms: number): void {
  os.mem.storeAddress(time, Math.floor(ms / 1000));
  os.mem.storeAddress(time + 8, (ms % 1000) * 1e6);
  os.syscall(Syscall.nanosleep, time, 0);
}
