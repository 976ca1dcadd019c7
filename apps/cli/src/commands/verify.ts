/**
 * `pagelab verify CASES…`: conformance cases against this machine.
 */
import { readFileSync, statSync } from 'node:fs';
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

export interface VerifyOptions {
  readonly machine?: string;
  readonly only?: string;
  readonly json?: boolean;
}

/** Reads a case file, unpacking it where it is gzipped. */
export function readCases(file: string): ConformanceCase[] {
  let bytes: Buffer;
  try {
    if (statSync(file).isDirectory()) throw new UsageError(`${file} is a directory: give .json or .json.gz files of cases`);
    bytes = readFileSync(file);
  } catch (error) {
    if (error instanceof UsageError) throw error;
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

function verify(files: readonly string[], options: VerifyOptions): void {
  const config = loadMachineConfig(options.machine);
  let pattern: RegExp | undefined;
  try {
    pattern = options.only === undefined ? undefined : new RegExp(options.only);
  } catch (error) {
    throw new UsageError(`--only takes a regular expression: ${(error as Error).message}`);
  }
  const cases = files
    .flatMap(readCases)
    .filter((testCase) => !pattern || pattern.test(testCase.id) || pattern.test(testCase.area));
  const runnable = cases.filter((testCase) => meetsNeeds(testCase, config.kernel));

  const progress = new Progress('cases', runnable.length);
  const results: CaseResult[] = [];
  for (const result of verifyCases(runnable, config)) {
    results.push(result);
    progress.advance();
    if (result.failure !== null && !options.json) {
      progress.clear();
      console.log(`FAIL ${result.area} ${result.id}: ${result.failure}`);
    }
  }
  progress.clear();

  const failed = results.filter((result) => result.failure !== null).length;
  const areas = countByArea(results);
  if (options.json) {
    console.log(JSON.stringify({
      passed: results.length - failed, failed, skipped: cases.length - runnable.length, areas: Object.fromEntries(areas),
      failures: results.filter((result) => result.failure !== null),
    }, null, 2));
  } else {
    for (const [area, count] of areas) console.log(`${area}: ${count.passed} passed, ${count.failed} failed`);
    if (runnable.length < cases.length) console.log(`${cases.length - runnable.length} skipped: they need a later kernel than ${config.kernel}`);
    console.log(`${results.length - failed} passed, ${failed} failed`);
  }
  if (failed > 0) process.exitCode = 1;
}

export function addVerify(program: Command): void {
  program
    .command('verify')
    .description('run conformance cases, each on a machine of its own')
    .argument('<cases...>', 'case files, .json or .json.gz')
    .option('--machine <file|preset>', 'the machine to run them on')
    .option('--only <regex>', 'only cases whose id or area matches')
    .option('--json', 'results as JSON')
    .action(verify);
}
