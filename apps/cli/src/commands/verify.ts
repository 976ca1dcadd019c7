/**
 * `pagelab verify CASES…`: conformance cases against this machine, recorded boots against machines of their shape, and recorded loads against machines
 * that do the same.
 */
import { readFileSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { boot, BufferPool } from '@pagelab/kernel';
import type { MachineConfig } from '@pagelab/kernel';
import type { Command } from 'commander';
import { CaseFormatError, parseCases } from '../conformance/case.ts';
import type { ConformanceCase } from '../conformance/case.ts';
import { runCase } from '../conformance/run-case.ts';
import type { CaseResult } from '../conformance/run-case.ts';
import { CommandFailure, UsageError } from '../errors.ts';
import { loadMachineConfig } from '../machine-option.ts';
import { Progress } from '../progress.ts';
import { loadTables } from '../recordings/load-tables.ts';
import { isRecording, readRecording } from '../recordings/recording.ts';
import type { Recording } from '../recordings/recording.ts';
import { verifyRecording, whyNotComparable } from '../recordings/verify-boot.ts';
import type { LoadResult } from '../recordings/verify-load.ts';

export interface VerifyOptions {
  readonly machine?: string;
  readonly only?: string;
  readonly json?: boolean;
}

/** Reads a case file, unpacking it where it is gzipped. */
export function readCases(file: string): ConformanceCase[] {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    throw new UsageError(`cannot read ${file}: ${(error as Error).message}`);
  }
  try {
    return parseCases((bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes) : bytes).toString('utf8'), file);
  } catch (error) {
    if (error instanceof CaseFormatError) throw new CommandFailure(error.message);
    throw error;
  }
}

/** Whether this machine models the release that a case needs (`linux>=6.17`). */
export function meetsNeeds(testCase: ConformanceCase, kernel: string): boolean {
  return (testCase.needs ?? []).every((need) => {
    const release = /^linux>=(\d+)\.(\d+)$/.exec(need);
    if (!release) return true;
    const [major, minor] = kernel.split('.').map(Number) as [number, number];
    return major > Number(release[1]) || (major === Number(release[1]) && minor >= Number(release[2]));
  });
}

/** Runs cases, each on a machine of its own. */
export function* verifyCases(cases: Iterable<ConformanceCase>, config: MachineConfig): Generator<CaseResult> {
  const buffers = new BufferPool(1);
  for (const testCase of cases) {
    const machine = boot(config, { buffers });
    yield runCase(testCase, machine);
    machine.dispose();
  }
}

/** Passed and failed by area, in the order the areas first appear. */
export function countByArea(results: readonly CaseResult[]): Map<string, { passed: number; failed: number }> {
  const areas = new Map<string, { passed: number; failed: number }>();
  for (const { area, failure } of results) {
    const count = areas.get(area) ?? { passed: 0, failed: 0 };
    if (failure === null) count.passed++;
    else count.failed++;
    areas.set(area, count);
  }
  return areas;
}

/** A directory that is passed over, and why. */
interface Skipped {
  readonly id: string;
  readonly why: string;
}

/** What there is to verify: cases, and recordings of real kernels. */
interface Inputs {
  readonly cases: readonly ConformanceCase[];
  readonly recordings: readonly Recording[];
  readonly skipped: readonly Skipped[];
}

function readInputs(paths: readonly string[]): Inputs {
  const recordings: Recording[] = [];
  const skipped: Skipped[] = [];
  for (const directory of paths.filter(isDirectory)) {
    const recording = isRecording(directory) ? readRecording(directory) : null;
    const why = recording === null ? 'no recording: it has no config.json' : whyNotComparable(recording);
    if (recording !== null && why === null) recordings.push(recording);
    else skipped.push({ id: recording?.id ?? basename(directory), why: why! });
  }
  return { cases: paths.filter((path) => !isDirectory(path)).flatMap(readCases), recordings, skipped };
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function compilePattern(text: string | undefined): RegExp | undefined {
  try {
    return text === undefined ? undefined : new RegExp(text);
  } catch (error) {
    throw new UsageError(`--only takes a regular expression: ${(error as Error).message}`);
  }
}

function verify(paths: readonly string[], options: VerifyOptions): void {
  const config = loadMachineConfig(options.machine);
  const pattern = compilePattern(options.only);
  const selected = ({ id, area }: { readonly id: string; readonly area: string }): boolean =>
    pattern === undefined || pattern.test(id) || pattern.test(area);
  const inputs = readInputs(paths);
  const cases = inputs.cases.filter(selected);
  const runnable = cases.filter((testCase) => meetsNeeds(testCase, config.kernel));
  const { recordings, skipped } = inputs;

  const progress = new Progress(recordings.length > 0 ? 'cases and recordings' : 'cases', runnable.length + recordings.length);
  const results: CaseResult[] = [];
  const take = (result: CaseResult): void => {
    results.push(result);
    if (result.failure === null || options.json) return;
    progress.clear();
    console.log(`FAIL ${result.area} ${result.id}: ${result.failure}`);
  };
  for (const { id, why } of options.json ? [] : skipped) console.log(`SKIP ${id}: ${why}`);
  for (const result of verifyCases(runnable, config)) {
    progress.advance();
    take(result);
  }
  const loads: Record<string, Pick<LoadResult, 'exacts' | 'shapes'>> = {};
  for (const recording of recordings) {
    const { results: found, exacts, shapes } = verifyRecording(recording);
    const isSelected = ({ area = 'shape', what }: { readonly area?: string; readonly what: string }): boolean => selected({ id: `${recording.id}: ${what}`, area });
    const rows = { exacts: exacts.filter(isSelected), shapes: shapes.filter(isSelected) };
    const tables = loadTables(recording.id, rows);
    if (tables !== '' && !options.json) {
      progress.clear();
      console.log(tables);
    }
    if (tables !== '') loads[recording.id] = rows;
    found.filter(selected).forEach(take);
    progress.advance();
  }
  progress.clear();

  const failed = results.filter((result) => result.failure !== null).length;
  const areas = countByArea(results);
  if (options.json) {
    console.log(JSON.stringify({
      passed: results.length - failed, failed, skipped: cases.length - runnable.length + skipped.length, areas: Object.fromEntries(areas),
      failures: results.filter((result) => result.failure !== null), loads,
    }, null, 2));
  } else {
    for (const [area, count] of areas) console.log(`${area}: ${count.passed} passed, ${count.failed} failed`);
    if (runnable.length < cases.length) console.log(`${cases.length - runnable.length} skipped: they need a later kernel than ${config.kernel}`);
    if (skipped.length > 0) console.log(`${skipped.length} ${skipped.length === 1 ? 'directory' : 'directories'} skipped`);
    console.log(`${results.length - failed} passed, ${failed} failed`);
  }
  if (failed > 0) process.exitCode = 1;
}

export function addVerify(program: Command): void {
  program
    .command('verify')
    .description('run conformance cases, each on a machine of its own, and compare recorded boots and loads with machines of their shape')
    .argument('<cases...>', 'case files, .json or .json.gz; directories of recorded boots and loads')
    .option('--machine <file|preset>', 'the machine to run cases on; a recording brings its own')
    .option('--only <regex>', 'only cases and checks whose id or area matches')
    .option('--json', 'results as JSON')
    .action(verify);
}
