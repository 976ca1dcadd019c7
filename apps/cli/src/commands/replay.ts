/**
 * `pagelab replay TRACE…`: what a recorded program asked of memory, asked of this machine.
 */
import { writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { boot } from '@pagelab/kernel';
import type { Machine, MachineConfig } from '@pagelab/kernel';
import { mallocs } from '@pagelab/libc-malloc';
import type { Command } from 'commander';
import { CommandFailure } from '../errors.ts';
import { htmlPage } from '../html/page.ts';
import type { PageSection } from '../html/page.ts';
import { hostCompressors } from '../host-compressors.ts';
import { openHostFile } from '../host-file.ts';
import { loadMachineConfig, readMachineConfig } from '../machine-option.ts';
import { formatMalloc, mallocPage, replayMalloc } from '../replay/replay-malloc.ts';
import { formatPages, pagesPage, parseFrames, parseWindow, replayPages } from '../replay/replay-pages.ts';
import { formatStrace, replayStrace, stracePage } from '../replay/strace/replay-strace.ts';
import type { BrokenLines } from '../replay/trace-lines.ts';
import { openTrace } from '../trace-file.ts';
import type { Trace, TraceKind } from '../trace-file.ts';

interface ReplayOptions {
  readonly machine?: string;
  readonly malloc: string;
  readonly addresses?: boolean;
  readonly threads?: boolean;
  readonly tlb?: string;
  readonly html?: string;
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
  readonly page: () => PageSection[];
}

/** Replays one trace. */
type Replayer = (trace: Trace) => Promise<Outcome>;

/** Replays on a machine of its own, which must be valid afterwards. */
async function onMachine<R>(config: MachineConfig, replayOn: (machine: Machine) => Promise<R>): Promise<R> {
  const machine = boot(config, { openHostFile, compressors: hostCompressors });
  const result = await replayOn(machine);
  machine.validate();
  machine.dispose();
  return result;
}

function throughMalloc(config: MachineConfig, options: ReplayOptions, broken: BrokenLines): Replayer {
  return async (trace) => {
    const result = await onMachine(config, (machine) => replayMalloc(machine, trace, options, broken));
    return { result, text: formatMalloc(result), page: () => mallocPage(result) };
  };
}

function asProcesses(config: MachineConfig, broken: BrokenLines): Replayer {
  return async (trace) => {
    const result = await onMachine(config, (machine) => replayStrace(machine, trace, broken));
    return { result, text: formatStrace(result), page: () => stracePage(result) };
  };
}

function underPolicies(options: ReplayOptions, broken: BrokenLines): Replayer {
  const window = parseWindow(options.window);
  const pages = { policy: options.policy, frames: parseFrames(options.frames), ...(window === undefined ? {} : { window }) };
  return async (trace) => {
    const result = await replayPages(trace, pages, broken);
    return { result, text: formatPages(result), page: () => pagesPage(result) };
  };
}

function withTlb(config: MachineConfig, tlb: string | undefined): MachineConfig {
  if (tlb === undefined) return config;
  return { ...config, tlb: readMachineConfig({ memory: '64M', tlb }, '--tlb').tlb };
}

async function replay(files: readonly string[], options: ReplayOptions): Promise<void> {
  const config = withTlb(loadMachineConfig(options.machine), options.tlb);
  const broken = { strict: options.strict === true, report: (message: string) => console.error(`pagelab: ${message}`) };
  const pages = underPolicies(options, broken);
  const malloc = throughMalloc(config, options, broken);
  const replayers: Readonly<Record<TraceKind, Replayer>> = {
    malloc, mtrace: malloc, strace: asProcesses(config, broken), pages, lackey: pages,
  };
  const results: unknown[] = [];
  const sections: PageSection[] = [];
  for (const file of files) {
    const trace = await openTrace(file);
    const { result, text, page } = await replayers[trace.kind](trace);
    results.push(result);
    if (options.html !== undefined) sections.push(...page());
    if (!options.json && !options.addresses) console.log(text);
  }
  if (options.html !== undefined) writePage(options.html, `Replay of ${files.map((file) => basename(file)).join(', ')}`, sections);
  if (options.json && !options.addresses) console.log(JSON.stringify(results, null, 2));
}

function writePage(file: string, title: string, sections: readonly PageSection[]): void {
  try {
    writeFileSync(file, htmlPage(title, sections));
  } catch (error) {
    throw new CommandFailure(`cannot write ${file}: ${(error as Error).message}`);
  }
}

export function addReplay(program: Command): void {
  program
    .command('replay')
    .description('replay recorded traces')
    .argument('<traces...>', "malloc traces, mtrace logs, strace logs, page-reference traces, or valgrind lackey's output: files or pipes, .gz or plain; - for standard input")
    .option('--machine <file|preset>', 'the machine to replay on')
    .option('--malloc <name|file>', `the allocator: ${Object.keys(mallocs).join(', ')}, or a file that exports one`, 'glibc')
    .option('--addresses', "print where each block landed, one a line: its offset in the heap, or 'mmap'")
    .option('--threads', "make each thread of a malloc trace one of the process, on a CPU of its own where there is one: by default all events are the main thread's")
    .option('--tlb <model>', "count with a modelled TLB, as the machine's \"tlb\" key names it")
    .option('--html <file>', 'write the report as a page with plots, in one file')
    .option('--policy <name|file>', 'for page references: which policy replaces pages, or all of the textbooks\'', 'all')
    .option('--frames <n,…>', 'for page references: how many pages fit (default: 64)')
    .option('--window <accesses>', 'for page references: what a working set spans (default: as many as frames)')
    .option('--strict', 'end at the first broken line instead of skipping it')
    .option('--json', 'the report as JSON')
    .action(replay);
}
