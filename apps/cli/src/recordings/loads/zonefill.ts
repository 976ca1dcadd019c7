/**
 * `zonefill`: memory is filled 8 MiB at a time, until none is left or the kernel's reserve is near: which zone serves, in
 * which order, and where each of them stops.
 */
import type { Process } from '@pagelab/kernel';
import { parseNumbers } from '../proc-text.ts';
import { LoadMismatch, MIB, PAGE, touchWrite } from './load-run.ts';
import type { Load, LoadRun } from './load-run.ts';

export const zonefill: Load = { name: 'zonefill', run };

const STEP = 8 * MIB;
const STEP_PAGES = STEP / PAGE;
const LENGTH = 1400 * MIB;
const PROT_RW = 3;
const MAP_PRIVATE_ANON_NORESERVE = 0x4022;
/** Pages that a step takes beside those it touches: page tables, a batch of a per-CPU list. */
const STEP_NOISE = 192;

/** A step that takes no more faults is one of huge pages; of as many steps at the end some may have no huge page left. */
const HUGE_FAULTS = 2 * (STEP / (2 * MIB));
const HUGE_END = 10;

/** A row of `samples.tsv`: MiB touched, faults, and the free pages of each zone. */
interface Sample {
  readonly mib: number;
  readonly faults: number;
  readonly free: ReadonlyMap<string, number>;
}

function run(load: LoadRun): void {
  load.hold();
  load.stage('00-before');
  const filler = load.fork(load.start());
  const recorded = samplesOf(load.recording.text('samples.tsv'));
  const computed = fill(load, filler);
  compare(load, recorded, computed);
  if (filler.alive && load.expects(/^filler status/)) {
    load.take(/^filler status/);
    load.stage('01-filled');
  }
  const lived = filler.alive;
  const atOnce = Math.abs(recorded.at(-1)!.mib - computed.at(-1)!.mib) * MIB <= STEP;
  const [, status] = load.take(/^filler exited, wait status (0x[0-9a-f]+)/);
  // The last step is taken where half of it would be too much: a few pages decide whether the program outlives it.
  if ((Number(status) === 0) === lived || !atOnce) load.equal('results', 'filler: wait status', Number(status), lived ? 0 : filler.lastSignal!);
  else load.note('filler: wait status', Number(status), lived ? 0 : filler.lastSignal!);
  if (lived) filler.exit(0);
  load.stage('02-after-exit');
  const kills = load.change('00-before', '02-after-exit', 'oom_kill');
  load.within('events', 'oom_kill', kills.recorded, kills.computed, atOnce ? 1 : 0);
}

/** What the recorded program did. */
function fill(load: LoadRun, filler: Process): Sample[] {
  const { machine } = load;
  const { os } = filler;
  const minFree = Number(load.machine.readFile('/proc/sys/vm/min_free_kbytes'));
  const keep = Math.floor((minFree * 105) / 100) + 4096;
  const start = os.mmap(0, LENGTH, PROT_RW, MAP_PRIVATE_ANON_NORESERVE);
  const samples = [sampleOf(load, 0)];
  for (let offset = 0; offset < LENGTH; offset += STEP) {
    if (parseNumbers(machine.readFile('/proc/meminfo')).get('MemFree')! < keep) break;
    const lives = load.whileAlive(filler, () => {
      touchWrite(os, start + offset, STEP);
    });
    if (!lives) break;
    samples.push(sampleOf(load, (offset + STEP) / MIB));
  }
  return samples;
}

function sampleOf({ machine }: LoadRun, mib: number): Sample {
  const free = new Map<string, number>();
  for (const [, node, zone, pages] of machine.readFile('/proc/zoneinfo').matchAll(/^Node (\d+), zone +(\w+)\n(?:.*\n)*? +pages free +(\d+)$/gm)) {
    free.set(`N${node}.${zone}`, Number(pages));
  }
  return { mib, faults: parseNumbers(machine.readFile('/proc/vmstat')).get('pgfault')!, free };
}

/** @throws LoadMismatch where the table is none */
function samplesOf(text: string): Sample[] {
  const [head = '', ...rows] = text.trimEnd().split('\n');
  const names = head.split('\t');
  const faultsAt = names.indexOf('pgfault');
  if (faultsAt < 0) throw new LoadMismatch('samples.tsv: no column pgfault');
  return rows.map((row) => {
    const cells = row.split('\t').map(Number);
    const free = names.flatMap((name, at) => (name.startsWith('free.') ? [[name.slice(5), cells[at]!] as const] : []));
    return { mib: cells[0]!, faults: cells[faultsAt]!, free: new Map(free) };
  });
}

const nodeOf = (zone: string): string => zone.split('.')[0]!;

/** Zones that had pages to give, in the order in which they first gave a step's worth. */
function servingOrder(samples: readonly Sample[]): string[] {
  const order: string[] = [];
  for (let i = 1; i < samples.length; i++) {
    for (const [zone, pages] of samples[i]!.free) {
      if (samples[i - 1]!.free.get(zone)! - pages > STEP_NOISE && !order.includes(zone)) order.push(zone);
    }
  }
  return order;
}

/** Steps that a zone served alone. */
function stepsOf(samples: readonly Sample[], zone: string): number {
  return samples.filter(
    ({ free }, i) => i > 0 && Math.abs(samples[i - 1]!.free.get(zone)! - free.get(zone)! - STEP_PAGES) <= STEP_NOISE,
  ).length;
}

function compare(load: LoadRun, recorded: readonly Sample[], computed: readonly Sample[]): void {
  // A program may be moved to a CPU of another node, and whose memory it takes first goes with that.
  for (const node of new Set(servingOrder(recorded).map(nodeOf))) {
    const order = (samples: readonly Sample[]): string => servingOrder(samples).filter((zone) => nodeOf(zone) === node).join(' ');
    load.equal('zones', `order in which zones of ${node} serve`, order(recorded), order(computed));
  }
  const start = load.counter('00-before', 'nr_free_pages');
  load.shape('free pages at first', start.recorded, start.computed);
  const last = Math.min(recorded.length, computed.length) - 1;
  // With the first step the recorded program touches pages of its own for the first time.
  for (let i = 2; i <= last; i++) {
    const was = recorded[i]!.faults - recorded[i - 1]!.faults;
    const is = computed[i]!.faults - computed[i - 1]!.faults;
    // Where huge pages run out depends on which blocks others have pages in.
    const near = i > last - HUGE_END && Math.min(was, is) < HUGE_FAULTS;
    if (near) load.note(`${recorded[i]!.mib} MiB: minor faults`, was, is);
    else load.faults(`${recorded[i]!.mib} MiB`, was, is);
  }
  load.shape('MiB that could be filled', recorded.at(-1)!.mib, computed.at(-1)!.mib);
  for (const [zone, pages] of recorded.at(-1)!.free) {
    load.shape(`steps served by ${zone} alone`, stepsOf(recorded, zone), stepsOf(computed, zone));
    load.shape(`free pages of ${zone} at last`, pages, computed.at(-1)!.free.get(zone) ?? NaN);
  }
}
