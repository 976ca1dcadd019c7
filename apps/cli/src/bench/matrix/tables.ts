/**
 * A sweep's results as tables: for a terminal, in Markdown, as a page; and two sweeps compared.
 */
import Table from 'cli-table3';
import type { PageSection } from '../../html/page.ts';
import { PLAIN } from '../../plain-table.ts';
import { AXES, combinationKey } from './combination.ts';
import type { Axis } from './combination.ts';
import type { RunRecord } from './run-combination.ts';
import type { SweepResults } from './results.ts';
import { differenceOf, spreadOf } from './statistics.ts';
import type { Difference } from './statistics.ts';

/** Rows of text; the first is the head. */
export interface TextTable {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Columns of words, which stand at the left; numbers stand at the right. */
  readonly words: number;
}

const AXIS_TITLES: Readonly<Record<Axis, string>> = {
  workload: 'workload', malloc: 'malloc', slab: 'slab', pageAllocator: 'pages', thp: 'THP', reclaim: 'reclaim', machine: 'machine',
};

const number = new Intl.NumberFormat('en-US');

function bytes(value: number): string {
  if (value < 10 * 2 ** 20) return `${number.format(Math.round(value / 1024))} KiB`;
  return `${number.format(Math.round(value / 2 ** 20))} MiB`;
}

function milliseconds(ns: number): string {
  return (ns / 1e6).toFixed(ns < 1e7 ? 2 : 1);
}

/** Axes with more than one value: the others say nothing in a row. */
function varying(runs: readonly RunRecord[]): Axis[] {
  const axes = AXES.filter((axis) => new Set(runs.map(({ combination }) => combination[axis])).size > 1);
  return axes.length > 0 ? axes : ['workload'];
}

/** What is the same in every row, as in `malloc glibc, machine laptop`. */
function common(runs: readonly RunRecord[], shown: readonly Axis[]): string {
  const [first] = runs;
  if (first === undefined) return '';
  return AXES.filter((axis) => !shown.includes(axis) && first.combination[axis] !== '').map((axis) => `${AXIS_TITLES[axis]} ${first.combination[axis]}`).join(', ');
}

/** The results, a row a combination. */
export function sweepTable({ runs }: SweepResults): TextTable {
  const axes = varying(runs);
  return {
    head: [
      ...axes.map((axis) => AXIS_TITLES[axis]),
      'ms', '±', 'asked for', 'obtained', 'resident', 'machine', 'slab', 'tables', 'waste', 'faults', 'major', 'TLB misses', 'Mcycles', 'unusable',
    ],
    words: axes.length,
    rows: runs.map(({ combination, counts, hostNs }) => {
      const { median, low, high } = spreadOf(hostNs);
      return [
        ...axes.map((axis) => combination[axis] || '–'),
        milliseconds(median), median === 0 ? '–' : `${((50 * (high - low)) / median).toFixed(0)} %`,
        bytes(counts.requestedBytes), bytes(counts.obtainedBytes), bytes(counts.residentBytes), bytes(counts.machineBytes), bytes(counts.slabBytes), bytes(counts.pageTableBytes),
        `${(counts.fragmentation * 100).toFixed(1)} %`, number.format(counts.faults), number.format(counts.majorFaults), number.format(counts.tlbMisses), (counts.cycles / 1e6).toFixed(2),
        `${(counts.unusable * 100).toFixed(2)} %`,
      ];
    }),
  };
}

/** What the table's columns are, and what holds for all rows. */
export function sweepNotes({ runs, rounds, seed, total, host }: SweepResults): string {
  const shared = common(runs, varying(runs));
  const [first] = runs;
  const confidence = first === undefined ? 0 : spreadOf(first.hostNs).confidence;
  return [
    `${runs.length} of ${total} combinations${shared === '' ? '' : `, all with ${shared}`}; seed ${seed}; ${host.cpus} CPUs, Node ${host.node}`,
    `ms: this computer's time, the median of ${rounds} rounds; ±: half of the interval that holds the median with ${(confidence * 100).toFixed(0)} % probability`,
    'at most: asked for, obtained from the system, resident in the process, in frames of the machine beyond those at boot (of these in slabs and page tables)',
    'waste: of what was obtained, the share nobody had asked for; major: faults that waited for a device; TLB misses and cycles by the model of a Skylake core; unusable: of free memory, the share in blocks below 2 MiB',
  ].join('\n');
}

/** How one figure of a combination changed. */
export interface Comparison {
  readonly combination: RunRecord['combination'];
  readonly time: Difference;
  readonly first: RunRecord;
  readonly second: RunRecord;
}

/** Compares what both have. */
export function compareSweeps(first: SweepResults, second: SweepResults): Comparison[] {
  const others = new Map(second.runs.map((run) => [combinationKey(run.combination), run]));
  return first.runs.flatMap((run) => {
    const other = others.get(combinationKey(run.combination));
    return other === undefined ? [] : [{ combination: run.combination, time: differenceOf(run.hostNs, other.hostNs), first: run, second: other }];
  });
}

function change(before: number, after: number): string {
  if (before === after) return '=';
  return before === 0 ? `+${number.format(after)}` : `${after > before ? '+' : '−'}${Math.abs((after / before - 1) * 100).toFixed(1)} %`;
}

/** A comparison, a row a combination: time with what chance would explain, memory and counts as they are exactly. */
export function comparisonTable(comparisons: readonly Comparison[]): TextTable {
  const axes = varying(comparisons.map(({ first }) => first));
  return {
    head: [...axes.map((axis) => AXIS_TITLES[axis]), 'ms before', 'ms after', 'change', 'p', 'time', 'obtained', 'resident', 'machine', 'faults', 'cycles'],
    words: axes.length,
    rows: comparisons.map(({ combination, time, first, second }) => [
      ...axes.map((axis) => combination[axis] || '–'),
      milliseconds(spreadOf(first.hostNs).median), milliseconds(spreadOf(second.hostNs).median),
      change(1, time.ratio), time.p.toFixed(3), time.withinNoise ? 'within noise' : time.ratio < 1 ? 'faster' : 'slower',
      change(first.counts.obtainedBytes, second.counts.obtainedBytes), change(first.counts.residentBytes, second.counts.residentBytes),
      change(first.counts.machineBytes, second.counts.machineBytes), change(first.counts.faults, second.counts.faults), change(first.counts.cycles, second.counts.cycles),
    ]),
  };
}

export function plainText({ head, rows, words }: TextTable): string {
  const table = new Table({ ...PLAIN, head: [...head], colAligns: head.map((_, at) => (at < words ? 'left' : 'right')) });
  for (const row of rows) table.push([...row]);
  return table.toString();
}

export function markdown({ head, rows, words }: TextTable): string {
  const line = (cells: readonly string[]): string => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map((_, at) => (at < words ? '---' : '---:'))), ...rows.map(line)].join('\n');
}

/** The results as a page: the table, and for each workload how time and memory of its combinations compare. */
export function sweepPage(sweep: SweepResults): PageSection[] {
  const axes = varying(sweep.runs).filter((axis) => axis !== 'workload');
  const sections: PageSection[] = [{ kind: 'text', title: 'Results', text: `${plainText(sweepTable(sweep))}\n\n${sweepNotes(sweep)}` }];
  for (const workload of new Set(sweep.runs.map(({ combination }) => combination.workload))) {
    const runs = sweep.runs.filter(({ combination }) => combination.workload === workload);
    const names = runs.map(({ combination }) => axes.map((axis) => combination[axis]).join(', ') || workload);
    sections.push(
      { kind: 'bars', title: `${workload}: time`, unit: 'ms', names, values: runs.map(({ hostNs }) => spreadOf(hostNs).median / 1e6) },
      { kind: 'bars', title: `${workload}: resident at most`, unit: 'MiB', names, values: runs.map(({ counts }) => counts.residentBytes / 2 ** 20) },
    );
  }
  return sections;
}
