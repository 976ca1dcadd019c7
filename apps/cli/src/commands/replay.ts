/**
 * `pagelab replay TRACE…`: what a recorded program asked of memory, asked of this machine.
 */
import { boot } from '@pagelab/kernel';
import type { Machine, MachineConfig } from '@pagelab/kernel';
import { mallocs } from '@pagelab/libc-malloc';
import type { Command } from 'commander';
import { CommandFailure } from '../errors.ts';
import { loadMachineConfig } from '../machine-option.ts';
import { formatMalloc, replayMalloc } from '../replay/replay-malloc.ts';
import { formatPages, parseFrames, parseWindow, replayPages } from '../replay/replay-pages.ts';
import { formatStrace, replayStrace } from '../replay/strace/replay-strace.ts';
import type { BrokenLines } from '../replay/trace-lines.ts';
import { detectTraceKind, readTrace } from '../trace-file.ts';
import type { TraceKind } from '../trace-file.ts';

interface ReplayOptions {
  readonly machine?: string;
  readonly malloc: string;
  readonly addresses?: boolean;
  readonly policy: string;
  readonly frames?: string;
  readonly window?: string;
  readonly strict?: boolean;
  readonly json?: boolean;
}

/** What a replay gave: for programs, and for people where it did not print by itself. */
interface Outcome {
  readonly result: unknown;
  readonly text: string;
}

/** Replays one trace. */
type Replayer = (file: string, kind: TraceKind) => Promise<Outcome>;

/** Replays on a machine of its own, which must be valid afterwards. */
async function onMachine<R>(config: MachineConfig, replayOn: (machine: Machine) => Promise<R>): Promise<R> {
  const machine = boot(config);
  const result = await replayOn(machine);
  machine.validate();
  machine.dispose();
  return result;
}

function throughMalloc(config: MachineConfig, options: ReplayOptions): Replayer {
  return async (file) => {
    const result = await onMachine(config, (machine) => replayMalloc(machine, file, options));
    return { result, text: formatMalloc(result) };
  };
}

function asProcesses(config: MachineConfig, broken: BrokenLines): Replayer {
  return async (file) => {
    const result = await onMachine(config, (machine) => replayStrace(machine, file, broken));
    return { result, text: formatStrace(result) };
  };
}

function underPolicies(options: ReplayOptions, broken: BrokenLines): Replayer {
  const window = parseWindow(options.window);
  const pages = { policy: options.policy, frames: parseFrames(options.frames), ...(window === undefined ? {} : { window }) };
  return async (file, kind) => {
    const result = await replayPages(file, kind === 'lackey' ? kind : 'pages', pages, broken);
    return { result, text: formatPages(result) };
  };
}

async function replay(files: readonly string[], options: ReplayOptions): Promise<void> {
  const config = loadMachineConfig(options.machine);
  const broken = { strict: options.strict === true, report: (message: string) => console.error(`pagelab: ${message}`) };
  const pages = underPolicies(options, broken);
  const replayers: Readonly<Record<TraceKind, Replayer>> = {
    malloc: throughMalloc(config, options), strace: asProcesses(config, broken), pages, lackey: pages,
  };
  const results: unknown[] = [];
  for (const file of files) {
    const kind = detectTraceKind(await firstPiece(file));
    if (kind === undefined) throw new CommandFailure(`${file} is no trace that can be told: a malloc trace has lines like 'm 0 1 24'`);
    const { result, text } = await replayers[kind](file, kind);
    results.push(result);
    if (!options.json && !options.addresses) console.log(text);
  }
  if (options.json && !options.addresses) console.log(JSON.stringify(results, null, 2));
}

/** The beginning of a file's text: enough to tell its kind. */
async function firstPiece(file: string): Promise<string> {
  for await (const piece of readTrace(file)) return new TextDecoder().decode(piece.subarray(0, 1 << 16));
  return '';
}

export function addReplay(program: Command): void {
  program
    .command('replay')
    .description('replay recorded traces')
    .argument('<traces...>', "malloc traces, strace logs, page-reference traces, or valgrind lackey's output; .gz or plain")
    .option('--machine <file|preset>', 'the machine to replay on')
    .option('--malloc <name|file>', `the allocator: ${Object.keys(mallocs).join(', ')}, or a file that exports one`, 'glibc')
    .option('--addresses', "print where each block landed, one a line: its offset in the heap, or 'mmap'")
    .option('--policy <name|file>', 'for page references: which policy replaces pages, or all of the textbooks\'', 'all')
    .option('--frames <n,…>', 'for page references: how many pages fit (default: 64)')
    .option('--window <accesses>', 'for page references: what a working set spans (default: as many as frames)')
    .option('--strict', 'end at the first broken line instead of skipping it')
    .option('--json', 'the report as JSON')
    .action(replay);
}
