/**
 * `hugetlb`: the pool of huge pages as mappings take from it, and as it grows and shrinks.
 */
import { MAP_ANONYMOUS, MAP_HUGETLB, MAP_PRIVATE, PROT_READ, PROT_WRITE, Syscall, isError } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { parseNumbers } from '../proc-text.ts';
import { FaultLog } from './forkcow.ts';
import { MIB, shown, touchWrite } from './load-run.ts';
import type { Load, LoadRun } from './load-run.ts';

const SYSCTL = '/proc/sys/vm/';
const HUGE_KIB = 2048;

export const hugetlb: Load = { name: 'hugetlb', run };

function run(load: LoadRun): void {
  load.hold();
  load.stage('00-before');
  const init = load.start();
  const child = load.fork(init);
  const { os } = child;
  const pool = new PoolReport(load);
  pool.take('start');
  const set = (name: string, pattern: RegExp): void => {
    const [label, value] = pattern.exec(load.recording.text('events.txt')) ?? [];
    os.writeFile(`${SYSCTL}${name}`, value ?? '0');
    if (label !== undefined && label.endsWith(':')) pool.take(label.slice(0, -1));
  };
  /** Maps as many MiB as the recorded line names. */
  const mapHuge = (pattern: RegExp): { start: VirtAddr; bytes: number } => {
    const [what, mib, said] = load.take(pattern);
    const bytes = Number(mib) * MIB;
    const start = os.syscall(Syscall.mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    load.equal('results', what.replace(/: \w.*$/, ''), said === 'ok' ? 'ok' : 'ENOMEM', isError(start) ? shown(start) : 'ok');
    return { start, bytes };
  };

  set('nr_hugepages', /nr_hugepages=(\d+):/);
  load.stage('01-nr20');
  const p = mapHuge(/^mmap (\d+) MiB MAP_HUGETLB: (.*)$/);
  pool.take('mapped');
  const faults = new FaultLog(load);
  faults.note('before touch', child);
  touchWrite(os, p.start, p.bytes, 1);
  faults.since('before touch', 'after touch', child);
  pool.take('touched');
  load.stage('02-touched8');
  mapHuge(/^mmap (\d+) MiB more: (.*)$/);
  const more = mapHuge(/^mmap (\d+) MiB more: (.*)$/);
  pool.take(/^reserved \d+ more(?=: total)/);
  if (!isError(more.start)) os.munmap(more.start, more.bytes);
  pool.take('unmapped again');
  set('nr_overcommit_hugepages', /overcommit (\d+)(?=: mmap)/);
  const surplus = mapHuge(/^overcommit \d+: mmap (\d+) MiB: (.*)$/);
  pool.take('with surplus');
  if (!isError(surplus.start)) {
    touchWrite(os, surplus.start, surplus.bytes, 1);
    pool.take('surplus touched');
    load.stage('03-surplus');
    os.munmap(surplus.start, surplus.bytes);
  }
  pool.take('surplus unmapped');
  set('nr_hugepages', /nr_hugepages=(\d+) with \d+ in use:/);
  load.stage('04-shrunk');
  os.munmap(p.start, p.bytes);
  pool.take('unmapped');
  set('nr_hugepages', /nr_hugepages=(0):/);
  const [, most] = /nr_hugepages=(\d+) \(more than there is\)/.exec(load.recording.text('events.txt')) ?? [];
  os.writeFile(`${SYSCTL}nr_hugepages`, most ?? '1000');
  pool.most();
  load.stage('05-max');
  os.writeFile(`${SYSCTL}nr_hugepages`, '0');
  load.end(child, 'htlb');
  load.stage('06-after');
  for (const stage of ['00-before', '01-nr20', '02-touched8', '03-surplus', '04-shrunk']) {
    for (const name of ['HugePages_Total', 'HugePages_Free', 'HugePages_Rsvd', 'HugePages_Surp', 'Hugetlb', 'CommitLimit']) {
      const { recorded, computed } = load.counter(stage, name);
      if (!Number.isNaN(recorded)) load.equal('huge pages', `${stage}: ${name}`, recorded, computed);
    }
  }
}

/** The pool's counts, as the recorder reports them after each step. */
class PoolReport {
  readonly #load: LoadRun;
  #memFree: { recorded: number; computed: number } | null = null;

  constructor(load: LoadRun) {
    this.#load = load;
  }

  /** Takes the recorded line of this label and compares the counts. */
  take(label: string | RegExp): void {
    const load = this.#load;
    const found = this.#next(label);
    const own = this.#own();
    for (const name of ['total', 'free', 'rsvd', 'surp'] as const) load.equal('huge pages', `${found.label}: ${name}`, found[name], own[name]);
    const last = this.#memFree;
    this.#memFree = { recorded: found.memFree, computed: own.memFree };
    if (last !== null) load.shapeOfFree(`${found.label}: change of MemFree (kB)`, found.memFree - last.recorded, own.memFree - last.computed);
  }

  /** The pool as large as it can be: how large depends on where memory lies that is in use. */
  most(): void {
    const found = this.#next(/^nr_hugepages=\d+ \(more than there is\)/);
    const own = this.#own();
    this.#load.shape(`${found.label}: total (kB)`, found.total * HUGE_KIB, own.total * HUGE_KIB);
    this.#load.equal('huge pages', `${found.label}: all free`, found.total - found.free, own.total - own.free);
  }

  #next(label: string | RegExp) {
    const text = typeof label === 'string' ? `^${label.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')}` : label.source;
    const [, name, ...numbers] = this.#load.take(new RegExp(`(${text}): total (\\d+) free (\\d+) rsvd (\\d+) surp (\\d+) MemFree (\\d+) kB$`));
    const [total, free, rsvd, surp, memFree] = numbers.map(Number) as [number, number, number, number, number];
    return { label: name!, total, free, rsvd, surp, memFree };
  }

  #own() {
    const meminfo = parseNumbers(this.#load.machine.readFile('/proc/meminfo'));
    const value = (name: string): number => meminfo.get(name) ?? NaN;
    return {
      total: value('HugePages_Total'), free: value('HugePages_Free'), rsvd: value('HugePages_Rsvd'), surp: value('HugePages_Surp'), memFree: value('MemFree'),
    };
  }
}
