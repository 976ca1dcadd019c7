/**
 * Page-reference traces under page replacement policies: faults exactly as textbooks count them, and how they change with
 * the number of frames.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { ReplacementError, ReplacementRun, replacementPolicies } from '@pagelab/kernel/replacement';
import type { ReplacementPolicyFactory, ReplacementResult } from '@pagelab/kernel/replacement';
import Table from 'cli-table3';
import plot from 'simple-ascii-chart';
import { CommandFailure, UsageError } from '../errors.ts';
import type { PageSection, PlotSeries } from '../html/page.ts';
import { PLAIN } from '../plain-table.ts';
import { loadModule } from '../program-loader.ts';
import { Progress } from '../progress.ts';
import { count } from '../report.ts';
import { PageNumbers, PageReferences, lackeyLineReader, pageLineReader } from './page-trace.ts';
import type { Trace } from '../trace-file.ts';
import { forEachLine } from './trace-lines.ts';
import type { BrokenLines } from './trace-lines.ts';

/** Frames where none are asked for. */
const DEFAULT_FRAMES = 64;
/** The plot goes from a sixteenth of the frames to sixteen times as many, in steps of a factor: of one policy, or of several. */
const PLOT_REACH = 16;
const PLOT_STEP = Math.SQRT2;
const TABLE_STEP = 2;
const SHORT_NAMES: Readonly<Record<string, string>> = { ws: 'working-set', sc: 'second-chance', min: 'opt', optimal: 'opt' };

export interface PagesOptions {
  /** A policy's name, a file that exports one, or `all`. */
  readonly policy: string;
  /** Whole numbers of 1 or more. */
  readonly frames: readonly number[];
  /** Accesses that a working set reaches back; as many as frames unless told. */
  readonly window?: number;
}

/** What one trace gave. */
export interface PagesResult {
  readonly trace: string;
  readonly skippedLines: number;
  /** Lines, or references to one page in a row. */
  readonly references: number;
  /** For each policy, for each number of frames asked for. */
  readonly results: readonly ReplacementResult[];
  /** The same over a range of frames. */
  readonly curve: readonly ReplacementResult[];
}

/** @throws UsageError for what is no number of frames */
export function parseFrames(text: string | undefined): number[] {
  if (text === undefined) return [DEFAULT_FRAMES];
  return text.split(',').map((part) => {
    if (!/^\d{1,9}$/.test(part.trim()) || Number(part) < 1) throw new UsageError(`--frames takes whole numbers of 1 or more, as in 64 or 16,32,64; not '${text}'`);
    return Number(part);
  });
}

/** @throws UsageError for what is no number of accesses */
export function parseWindow(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,15}$/.test(text) || Number(text) < 1) throw new UsageError(`--window takes a number of accesses, 1 or more; not '${text}'`);
  return Number(text);
}

async function findPolicies(nameOrFile: string): Promise<readonly ReplacementPolicyFactory[]> {
  if (nameOrFile === 'all') return replacementPolicies;
  const name = nameOrFile.toLowerCase();
  const known = replacementPolicies.find((policy) => policy.name === (SHORT_NAMES[name] ?? name));
  if (known !== undefined) return [known];
  if (!/\.[mc]?[jt]s$/.test(nameOrFile) || !existsSync(nameOrFile)) {
    const names = replacementPolicies.map((policy) => policy.name).join(', ');
    throw new UsageError(`no policy '${nameOrFile}': give one of ${names}, all, or a .ts or .js file that exports one`);
  }
  const { default: factory } = await loadModule(resolve(nameOrFile), nameOrFile);
  if (typeof (factory as Partial<ReplacementPolicyFactory> | undefined)?.create !== 'function') {
    throw new CommandFailure(`${nameOrFile} exports no policy: it needs 'export default { name, title, needsFuture, create }'`);
  }
  return [factory as ReplacementPolicyFactory];
}

/** Numbers of frames for a plot around `frames`, `frames` among them. */
export function plotFrames(frames: number, step: number): number[] {
  const sizes = new Set<number>();
  for (let size = frames; size >= frames / PLOT_REACH / 1.01; size /= step) sizes.add(Math.max(1, Math.round(size)));
  for (let size = frames; size <= frames * PLOT_REACH * 1.01; size *= step) sizes.add(Math.round(size));
  return [...sizes].sort((a, b) => a - b);
}

/**
 * Replays a trace under each policy with each number of frames. Memory grows with the number of distinct pages; with
 * the trace's length only where a policy has to know the future.
 *
 * @throws CommandFailure where a line is broken and that ends it, or where a policy of the user's cannot be believed
 */
export async function replayPages(trace: Trace, options: PagesOptions, broken: BrokenLines): Promise<PagesResult> {
  const policies = await findPolicies(options.policy);
  const curveSizes = plotFrames(options.frames[0]!, policies.length === 1 ? PLOT_STEP : TABLE_STEP);
  const sizes = [...new Set([...options.frames, ...curveSizes])];
  const runs = policies.flatMap((policy) => sizes.map((frames) => (
    new ReplacementRun(policy, options.window === undefined ? { frames } : { frames, window: options.window })
  )));
  const atOnce = runs.filter(({ factory }) => !factory.needsFuture);
  const afterwards = runs.filter(({ factory }) => factory.needsFuture);
  const numbers = new PageNumbers();
  const kept = new PageReferences();
  const progress = new Progress('references', 0);
  let references = 0;
  const take = (page: number, accesses: number, writes: boolean): void => {
    const number = numbers.of(page);
    for (const run of atOnce) run.reference(number, accesses, writes);
    if (afterwards.length > 0) kept.push(number, accesses, writes);
    references++;
    progress.advance();
  };
  let skippedLines: number;
  try {
    skippedLines = await forEachLine(trace, trace.kind === 'pages' ? pageLineReader(take) : lackeyLineReader(take), broken);
    for (const run of afterwards) {
      kept.forEach(numbers.size, (page, accesses, writes, nextUse) => run.reference(page, accesses, writes, nextUse));
    }
  } catch (error) {
    if (error instanceof ReplacementError) throw new CommandFailure(`${trace.name}: ${error.message}`);
    throw error;
  } finally {
    progress.clear();
  }
  const resultsFor = (wanted: readonly number[]): ReplacementResult[] => (
    policies.flatMap((policy) => wanted.map((size) => runs.find(({ factory, frames }) => factory === policy && frames === size)!.result()))
  );
  return { trace: trace.name, skippedLines, references, results: resultsFor(options.frames), curve: resultsFor(curveSizes) };
}

function curvePlot(curve: readonly ReplacementResult[]): string {
  return plot(curve.map(({ frames, faults }) => [Math.log2(frames), faults] as [number, number]), {
    width: 72,
    height: 16,
    title: '  faults, by frames',
    formatter: (value, { axis }) => (axis === 'x' ? String(Math.round(2 ** value)) : count(Math.round(value))),
  }).replace(/\s+$/gm, '');
}

/** Faults of each policy, a line for each number of frames. */
function curveTable(curve: readonly ReplacementResult[]): string {
  const policies = [...new Set(curve.map(({ policy }) => policy))];
  const table = new Table({ ...PLAIN, head: ['faults, by frames', ...policies], colAligns: ['right', ...policies.map(() => 'right' as const)] });
  for (const size of new Set(curve.map(({ frames }) => frames))) {
    table.push([count(size), ...curve.filter(({ frames }) => frames === size).map(({ faults }) => count(faults))]);
  }
  return table.toString();
}

/** The result as people read it. */
export function formatPages({ trace, references, results, curve }: PagesResult): string {
  const [first] = results;
  const table = new Table({
    ...PLAIN,
    head: ['policy', 'frames', 'faults', 'hit ratio', 'evictions', 'written back', 'resident at most', 'on average'],
    colAligns: ['left', 'right', 'right', 'right', 'right', 'right', 'right', 'right'],
  });
  for (const { policy, frames, faults, hitRatio, evictions, writebacks, peakResident, meanResident } of results) {
    table.push([
      policy, count(frames), count(faults), `${(hitRatio * 100).toFixed(4)} %`, count(evictions), count(writebacks), count(peakResident), meanResident.toFixed(1),
    ]);
  }
  return [
    `${trace}: ${count(first?.accesses ?? 0)} accesses to ${count(first?.pages ?? 0)} pages, in ${count(references)} references`,
    table.toString(),
    new Set(curve.map(({ policy }) => policy)).size === 1 ? curvePlot(curve) : curveTable(curve),
  ].join('\n\n');
}

/** The result as a page with plots. */
export function pagesPage(result: PagesResult): PageSection[] {
  const { curve } = result;
  const policies = [...new Set(curve.map(({ policy }) => policy))];
  const sizes = [...new Set(curve.map(({ frames }) => frames))].sort((a, b) => a - b);
  const over = (pick: (of: ReplacementResult) => number): PlotSeries[] => policies.map((policy) => ({
    label: policy, y: sizes.map((size) => pick(curve.find(({ policy: name, frames }) => name === policy && frames === size)!)),
  }));
  const common = { kind: 'plot' as const, xLabel: 'frames', x: sizes, logX: true };
  return [
    { kind: 'text', title: result.trace, text: formatPages(result) },
    { ...common, title: 'Faults by frames', yLabel: 'faults', series: over(({ faults }) => faults) },
    { ...common, title: 'Hit ratio by frames', yLabel: '%', series: over(({ hitRatio }) => hitRatio * 100) },
  ];
}
