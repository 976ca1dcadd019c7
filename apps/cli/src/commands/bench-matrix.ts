/**
 * `pagelab bench matrix`, `compare` and `merge`: every combination of allocators on the same workloads.
 */
import { availableParallelism } from 'node:os';
import { existsSync, writeFileSync } from 'node:fs';
import { mallocs } from '@pagelab/libc-malloc';
import { RECLAIM_POLICIES } from '@pagelab/kernel/reclaim';
import type { Command } from 'commander';
import { Tinypool } from 'tinypool';
import { AXES, allCombinations, combinationKey, machineOf, parseShard, planId, shardOf } from '../bench/matrix/combination.ts';
import type { Axis, Combination } from '../bench/matrix/combination.ts';
import { checkReclaim } from '../bench/matrix/reclaim-option.ts';
import { Journal, mergeResults, readResults, writeResults } from '../bench/matrix/results.ts';
import type { SweepResults } from '../bench/matrix/results.ts';
import type { RunRecord, RunTask } from '../bench/matrix/run-combination.ts';
import { compareSweeps, comparisonTable, markdown, plainText, sweepNotes, sweepPage, sweepTable } from '../bench/matrix/tables.ts';
import { findWorkload, workloadNames } from '../bench/matrix/workloads.ts';
import { CommandFailure, UsageError } from '../errors.ts';
import { htmlPage } from '../html/page.ts';
import { DEFAULT_PRESET } from '../machine-option.ts';
import { Progress } from '../progress.ts';

interface MatrixOptions {
  readonly workload: string;
  readonly malloc: string;
  readonly slab: string;
  readonly pageAllocator: string;
  readonly thp: string;
  readonly reclaim: string;
  readonly machine: string;
  readonly rounds: string;
  readonly seed: string;
  readonly jobs?: string;
  readonly shard?: string;
  readonly out?: string;
  readonly html?: string;
  readonly markdown?: boolean;
  readonly json?: boolean;
}

/** What every sweep without options runs. */
export const DEFAULT_WORKLOADS = 'git-log,python-json,long-lived,comb';

function wholeNumber(option: string, text: string, least: number): number {
  const value = Number(text);
  if (!/^\d{1,9}$/.test(text) || value < least) throw new UsageError(`--${option} takes a whole number from ${least}, not '${text}'`);
  return value;
}

/** An option's values apart; `all` stands for each that is known. */
function valuesOf(option: string, text: string, known: readonly string[]): string[] {
  const values = text === 'all' ? [...known] : text.split(',').map((value) => value.trim());
  if (values.some((value) => value === '') && text !== '') throw new UsageError(`--${option} has an empty value in '${text}'`);
  return [...new Set(values)];
}

function combinationsOf(options: MatrixOptions): Combination[] {
  const known: Readonly<Record<Axis, readonly string[]>> = {
    workload: workloadNames(), malloc: Object.keys(mallocs), slab: ['slub', 'slab', 'slob'], pageAllocator: ['buddy', 'llfree', 'first-fit'],
    thp: ['always', 'madvise', 'never'], reclaim: RECLAIM_POLICIES, machine: [DEFAULT_PRESET],
  };
  const values = Object.fromEntries(AXES.map((axis) => [axis, valuesOf(axis, options[axis], known[axis])])) as Record<Axis, string[]>;
  for (const name of values.workload) findWorkload(name);
  for (const name of values.malloc) if (!(name in mallocs)) throw new UsageError(`no allocator '${name}': give some of ${Object.keys(mallocs).join(', ')}, or all`);
  for (const name of values.reclaim) checkReclaim(name);
  const combinations = allCombinations(values);
  for (const combination of combinations) machineOf(combination);
  return combinations;
}

/** Runs what is left of a sweep on a pool of threads; each result goes to `done` as it comes. */
async function runAll(tasks: readonly RunTask[], jobs: number, done: (run: RunRecord) => void): Promise<void> {
  const pool = new Tinypool({
    filename: new URL('../bench/matrix/matrix-worker.js', import.meta.url).href, minThreads: Math.min(jobs, tasks.length), maxThreads: jobs, isolateWorkers: false,
  });
  const progress = new Progress('combinations', tasks.length);
  try {
    await Promise.all(tasks.map(async (task) => {
      try {
        done((await pool.run(task)) as RunRecord);
      } catch (error) {
        throw new CommandFailure(`${combinationKey(task.combination)}: ${(error as Error).message}`);
      }
      progress.advance();
    }));
  } finally {
    progress.clear();
    await pool.destroy();
  }
}

/**
 * Runs a sweep, or a part of one, and returns its results in the order of the combinations.
 *
 * @throws UsageError for what cannot be run; CommandFailure where a run fails
 */
export async function runMatrix(options: MatrixOptions): Promise<SweepResults> {
  const seed = wholeNumber('seed', options.seed, 0);
  const rounds = wholeNumber('rounds', options.rounds, 1);
  const jobs = options.jobs === undefined ? availableParallelism() : wholeNumber('jobs', options.jobs, 1);
  const all = combinationsOf(options);
  const wanted = shardOf(all, parseShard(options.shard));
  const plan = planId(all, seed, rounds);
  const journal = options.out === undefined ? null : new Journal(options.out, plan);
  const runs = new Map((journal?.read() ?? []).map((run) => [combinationKey(run.combination), run]));
  const left = wanted.filter((combination) => !runs.has(combinationKey(combination)));
  if (left.length > 0) {
    await runAll(left.map((combination) => ({ combination, seed, rounds })), jobs, (run) => {
      runs.set(combinationKey(run.combination), run);
      journal?.add(run);
    });
  }
  const sweep: SweepResults = {
    format: 'pagelab-bench-1', plan, total: all.length, seed, rounds,
    host: { node: process.versions.node, platform: `${process.platform} ${process.arch}`, cpus: availableParallelism() },
    runs: wanted.map((combination) => runs.get(combinationKey(combination))!),
  };
  if (options.out !== undefined) {
    writeResults(options.out, sweep);
    journal?.remove();
  }
  return sweep;
}

/** The sweep that `pagelab bench` ends with: every malloc on recorded requests and on a workload that fragments. */
export function mallocSweep(): Promise<SweepResults> {
  return runMatrix({
    workload: 'git-log,python-json,comb', malloc: 'all', slab: '', pageAllocator: '', thp: '', reclaim: '', machine: DEFAULT_PRESET, rounds: '3', seed: '1', jobs: '1',
  });
}

/** The results of a sweep as people read them. */
export function formatSweep(sweep: SweepResults): string {
  return `${plainText(sweepTable(sweep))}\n\n${sweepNotes(sweep)}`;
}

/** How results are shown. */
interface ShowOptions {
  readonly html?: string;
  readonly markdown?: boolean;
  readonly json?: boolean;
}

function show(sweep: SweepResults, { html, markdown: asMarkdown, json }: ShowOptions): void {
  if (html !== undefined) {
    try {
      writeFileSync(html, htmlPage('Allocators compared', sweepPage(sweep)));
    } catch (error) {
      throw new CommandFailure(`cannot write ${html}: ${(error as Error).message}`);
    }
  }
  const table = sweepTable(sweep);
  if (json) console.log(JSON.stringify(sweep, null, 1));
  else if (asMarkdown) console.log(`${markdown(table)}\n\n${sweepNotes(sweep)}`);
  else console.log(formatSweep(sweep));
}

function compare(first: string, second: string, options: ShowOptions): void {
  const comparisons = compareSweeps(readResults(first), readResults(second));
  if (comparisons.length === 0) throw new CommandFailure(`${first} and ${second} have no combination in common`);
  if (options.json) {
    console.log(JSON.stringify(comparisons, null, 1));
    return;
  }
  const table = comparisonTable(comparisons);
  console.log(options.markdown ? markdown(table) : plainText(table));
  const changed = comparisons.filter(({ time }) => !time.withinNoise).length;
  console.log(`\n${changed} of ${comparisons.length} times differ by more than chance (p at most 0.05, by permuting the rounds); memory, faults and cycles are exact`);
}

function merge(files: readonly string[], options: ShowOptions & { readonly out?: string }): void {
  const sweep = mergeResults(files.map((file) => ({ file, sweep: readResults(file) })));
  if (options.out !== undefined) {
    if (existsSync(options.out) && !files.includes(options.out)) throw new CommandFailure(`${options.out} is there already: remove it, or name another file`);
    writeResults(options.out, sweep);
  }
  show(sweep, options);
}

const shown = (command: Command): Command => command
  .option('--html <file>', 'write the results as a page, in one file')
  .option('--markdown', 'print the table as Markdown')
  .option('--json', 'print the results as JSON');

export function addMatrix(bench: Command): void {
  shown(bench.command('matrix'))
    .description('run every combination of allocators on the same workloads; each option takes several values, or all')
    .option('--workload <names|files>', `${workloadNames().join(', ')}, or malloc traces`, DEFAULT_WORKLOADS)
    .option('--malloc <names>', Object.keys(mallocs).join(', '), 'glibc')
    .option('--slab <names>', 'slub, slab, slob (default: the machine\'s)', '')
    .option('--page-allocator <names>', 'buddy, llfree, first-fit (default: the machine\'s)', '')
    .option('--thp <words>', 'always, madvise, never (default: the machine\'s)', '')
    .option('--reclaim <names>', `${RECLAIM_POLICIES.join(', ')}, or .ts or .js files that export one (default: the machine's)`, '')
    .option('--machine <files|presets>', 'machines', DEFAULT_PRESET)
    .option('--rounds <n>', 'timed rounds of each combination', '5')
    .option('--seed <n>', 'of the generated workloads', '1')
    .option('--jobs <n>', 'threads (default: one for each CPU)')
    .option('--shard <i/n>', 'run only this part of the combinations')
    .option('--out <file>', 'keep the results in a file; an interrupted sweep goes on where it stopped')
    .action(async (options: MatrixOptions) => show(await runMatrix(options), options));
  shown(bench.command('compare'))
    .description('compare two files of results: what changed by more than chance')
    .argument('<before>', "a file that 'bench matrix --out' wrote")
    .argument('<after>', 'another')
    .action(compare);
  shown(bench.command('merge'))
    .description('join the parts of a sweep')
    .argument('<parts...>', "files that 'bench matrix --shard --out' wrote")
    .option('--out <file>', 'keep the whole in a file')
    .action(merge);
}
