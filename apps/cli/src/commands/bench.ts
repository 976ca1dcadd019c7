/**
 * `pagelab bench`: what things cost, each as a ratio to something known.
 */
import type { Command } from 'commander';
import Table from 'cli-table3';
import { addMatrix, formatSweep, mallocSweep } from './bench-matrix.ts';
import { measureRows, rowNames } from '../bench/rows.ts';
import type { RowResult } from '../bench/rows.ts';
import { UsageError } from '../errors.ts';
import { PLAIN } from '../plain-table.ts';
import { Progress } from '../progress.ts';

interface BenchOptions {
  readonly native?: boolean;
  readonly rounds: string;
  readonly json?: boolean;
}

function formatNs(ns: number): string {
  if (ns >= 1e6) return `${(ns / 1e6).toFixed(1)} ms`;
  if (ns >= 1e3) return `${(ns / 1e3).toFixed(2)} µs`;
  return `${ns.toFixed(ns < 10 ? 2 : 0)} ns`;
}

function formatRow({ work, against, ours, theirs, ratio, target, met }: RowResult): string[] {
  return [
    work, against, formatNs(ours), theirs === null ? '–' : formatNs(theirs), ratio === null ? '–' : ratio, target,
    met === null ? '–' : met ? 'met' : 'missed',
  ];
}

async function bench(suite: string | undefined, options: BenchOptions): Promise<void> {
  const rounds = Number(options.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new UsageError(`--rounds takes a whole number from 1, not '${options.rounds}'`);
  const names = rowNames(suite);
  if (names.length === 0) throw new UsageError(`no row begins with '${suite}'; there are ${rowNames(undefined).join(', ')}`);
  const progress = new Progress('rows', names.length);
  const results: RowResult[] = [];
  for await (const result of measureRows({ suite, native: options.native ?? false, rounds })) {
    results.push(result);
    progress.advance();
  }
  progress.clear();
  const sweep = suite === undefined ? await mallocSweep() : null;
  if (options.json) {
    console.log(JSON.stringify({ rounds, rows: results, ...(sweep === null ? {} : { sweep }) }, null, 2));
    return;
  }
  const table = new Table({
    ...PLAIN,
    head: ['work', 'against', 'pagelab', 'other', 'ratio', 'target', ''],
    colAligns: ['left', 'left', 'right', 'right', 'right', 'right', 'left'],
  });
  for (const result of results) table.push(formatRow(result));
  console.log(table.toString());
  const measured = results.filter((result) => result.met !== null);
  console.log(`${measured.filter((result) => result.met).length} of ${measured.length} targets met; medians of ${rounds} rounds`);
  if (sweep !== null) console.log(`\nEvery malloc on the same requests\n\n${formatSweep(sweep)}`);
}

export function addBench(program: Command): void {
  const command = program
    .command('bench')
    .description('measure what things cost, as ratios')
    .argument('[suite]', 'only rows whose name begins so: memory, fault, mm, malloc, boot')
    .option('--native', "the same work on the host's own kernel and C library, in the same run")
    .option('--rounds <n>', 'rounds, of which the medians are shown', '5')
    .option('--json', 'results as JSON')
    .action(bench);
  // Options behind the name of one of its own commands are that one's.
  command.enablePositionalOptions();
  addMatrix(command);
}
