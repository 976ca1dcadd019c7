/**
 * Malloc traces: what a recorded program asked of its allocator, asked of one on this machine.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Machine } from '@pagelab/kernel';
import {
  formatBlockOffset, MallocAbort, MallocReplay, mallocs, MallocTraceError, MallocTraceReader, MtraceReader,
} from '@pagelab/libc-malloc';
import type { Mallinfo2, Malloc, MallocEvents, MallocOs } from '@pagelab/libc-malloc';
import Table from 'cli-table3';
import { CommandFailure, UsageError } from '../errors.ts';
import type { PageSection } from '../html/page.ts';
import { PLAIN } from '../plain-table.ts';
import { loadModule } from '../program-loader.ts';
import { Progress } from '../progress.ts';
import { count, formatKb, formatReport, formatTime, takeSnapshot } from '../report.ts';
import type { MemoryReport } from '../report.ts';
import type { Trace } from '../trace-file.ts';
import { beginThread } from './begin-thread.ts';
import { MallocProfile } from './malloc-profile.ts';
import type { Distribution, MallocProfileResult, MallocSample } from './malloc-profile.ts';
import { residentParts } from './resident-parts.ts';
import type { ResidentPart } from './resident-parts.ts';
import { forEachLine } from './trace-lines.ts';
import type { BrokenLines } from './trace-lines.ts';

export interface MallocOptions {
  /** An allocator's name, or a file that exports one. */
  readonly malloc: string;
  /** Print where each block landed. */
  readonly addresses?: boolean;
  /** Each thread of the trace is one of the process; else all events are the main thread's. */
  readonly threads?: boolean;
}

type CreateMalloc = (os: MallocOs) => Malloc;

/** An allocator by its name, or the default export of a module of the user's. */
async function findMalloc(nameOrFile: string): Promise<CreateMalloc> {
  const known = (mallocs as Record<string, CreateMalloc | undefined>)[nameOrFile];
  if (known) return known;
  const names = Object.keys(mallocs).join(', ');
  if (!/\.[mc]?[jt]s$/.test(nameOrFile) || !existsSync(nameOrFile)) {
    throw new UsageError(`no allocator '${nameOrFile}': give one of ${names}, or a .ts or .js file that exports one`);
  }
  const { default: create } = await loadModule(resolve(nameOrFile), nameOrFile);
  if (typeof create !== 'function') {
    throw new CommandFailure(`${nameOrFile} exports no allocator: it needs 'export default (os) => new YourMalloc(os)'`);
  }
  return create as CreateMalloc;
}

/** What one trace gave. */
export interface MallocResult {
  readonly trace: string;
  readonly malloc: string;
  readonly skippedLines: number;
  /** This computer's time spent in the allocator and the machine, in nanoseconds. */
  readonly hostNs: number;
  readonly profile: MallocProfileResult;
  readonly mallinfo2: Mallinfo2;
  /** What the process had in memory at the end, and what for. */
  readonly resident: readonly ResidentPart[];
  readonly memory: MemoryReport;
}

/** Events that are replayed between two looks. */
const BATCH = 256;
const PAGE_BYTES = 4096;

/** Reads the events of a malloc trace or of mtrace's log. @returns how many lines were skipped as broken */
async function readEvents(trace: Trace, broken: BrokenLines, onBatch: (events: MallocEvents) => void): Promise<number> {
  const { name, kind, pieces } = trace;
  if (kind === 'mtrace') {
    const reader = new MtraceReader({ onBatch, batchSize: BATCH });
    const skipped = await forEachLine(trace, (line) => reader.line(line), broken);
    reader.end();
    if (reader.unknownFrees > 0) broken.report(`${name}: ${count(reader.unknownFrees)} blocks were freed that had been allocated before the log began`);
    return skipped;
  }
  let skipped = 0;
  const onError = ({ line, problem }: MallocTraceError): void => {
    skipped++;
    broken.report(`${name}:${line}: ${problem}; skipped`);
  };
  const reader = new MallocTraceReader({ onBatch, batchSize: BATCH, ...(broken.strict ? {} : { onError }) });
  for await (const piece of pieces) reader.push(piece);
  reader.end();
  return skipped;
}

export async function replayMalloc(
  machine: Machine, trace: Trace, options: MallocOptions, broken: BrokenLines,
): Promise<MallocResult> {
  const { name } = trace;
  const create = await findMalloc(options.malloc);
  const before = machine.stats();
  const target = machine.createProcess({ name: 'replay' });
  let hostNs = 0n;
  let addresses: string[] = [];
  const malloc = create(target.os);
  const replay = new MallocReplay(malloc, target.os, {
    ...(options.addresses ? { onBlock: (offset: number) => void addresses.push(formatBlockOffset(offset)) } : {}),
    ...(options.threads ? { beginThread: () => beginThread(target) } : {}),
  });
  const profile = new MallocProfile({
    mallinfo2: () => malloc.mallinfo2(),
    resident: () => Number(target.os.readFile('/proc/self/statm').split(' ')[1]) * PAGE_BYTES,
  });
  const progress = new Progress('events', 0);
  const onBatch = (events: MallocEvents): void => {
    const began = process.hrtime.bigint();
    replay.run(events);
    hostNs += process.hrtime.bigint() - began;
    profile.add(events);
    progress.advance(events.count);
    if (addresses.length > 0) process.stdout.write(`${addresses.join('\n')}\n`);
    addresses = [];
  };
  let skippedLines: number;
  try {
    const report = (message: string): void => {
      progress.clear();
      broken.report(message);
    };
    skippedLines = await readEvents(trace, { ...broken, report }, onBatch);
  } catch (error) {
    if (error instanceof MallocTraceError) throw new CommandFailure(`${name}:${error.line}: ${error.problem}`);
    if (error instanceof MallocAbort) throw new CommandFailure(`${name}: the allocator gave up: ${error.message}`);
    if (!target.alive) throw new CommandFailure(`${name}: the replay was killed (${machine.dmesg().trim().split('\n').at(-1)})`);
    throw error;
  } finally {
    progress.clear();
  }
  const result = {
    trace: name, malloc: options.malloc, skippedLines, hostNs: Number(hostNs),
    profile: profile.result(), mallinfo2: malloc.mallinfo2(), resident: residentParts(target.os.readFile('/proc/self/smaps')),
  };
  const end = takeSnapshot(machine, target.os);
  target.exit(0);
  machine.quiesce();
  return { ...result, memory: { before, end, after: machine.stats() } };
}

function share(part: number): string {
  return `${(part * 100).toFixed(1)} %`;
}

function bytesText(bytes: number): string {
  return bytes < 1024 ? `${bytes} B` : formatKb(Math.round(bytes / 1024));
}

function distributionTable(head: string, { blocks, bytes }: Distribution, label: (bucket: number) => string): string {
  const table = new Table({ ...PLAIN, head: [head, 'blocks', 'asked for'], colAligns: ['right', 'right', 'right'] });
  blocks.forEach((number, bucket) => {
    if (number > 0) table.push([label(bucket), count(number), bytesText(bytes[bucket]!)]);
  });
  return table.toString();
}

function residentTable(parts: readonly ResidentPart[]): string {
  const table = new Table({ ...PLAIN, head: ['resident', 'mapped', 'what'], colAligns: ['right', 'right', 'left'] });
  for (const { what, residentKb, sizeKb } of parts) table.push([formatKb(residentKb), formatKb(sizeKb), what]);
  return table.toString();
}

/** The result as people read it. */
export function formatMalloc({ trace, malloc, profile, mallinfo2, hostNs, resident, memory }: MallocResult): string {
  const { arena, uordblks, fordblks, hblks, hblkhd } = mallinfo2;
  const { events, requestedBytes, peakRequestedBytes, peakObtainedBytes, peakResidentBytes, leftBlocks, internalFragmentation, externalFragmentation, sizes, lifetimes } = profile;
  return [
    [
      `${trace}: ${count(events)} events through ${malloc}, ${formatTime(hostNs)} of this computer's time`,
      `  requested     ${bytesText(requestedBytes)} in ${count(leftBlocks)} blocks at the end, ${bytesText(peakRequestedBytes)} at most`,
      `  obtained      ${bytesText(peakObtainedBytes)} at most; then ${share(internalFragmentation)} of what was in use was not asked for, and ${share(externalFragmentation)} not in use`,
      `  heap          ${bytesText(arena)}: ${bytesText(uordblks)} in use, ${bytesText(fordblks)} free (${arena === 0 ? '–' : share(fordblks / arena)}); ${hblks} blocks mapped (${bytesText(hblkhd)})`,
      `  resident      ${bytesText(peakResidentBytes)} at most`,
    ].join('\n'),
    residentTable(resident),
    distributionTable('size, up to', sizes, (bucket) => bytesText(2 ** bucket)),
    distributionTable('events lived, up to', lifetimes, (bucket) => count(2 ** bucket)),
    formatReport(memory),
  ].join('\n\n');
}

/** The result as a page with plots. */
export function mallocPage(result: MallocResult): PageSection[] {
  const { trace, malloc, profile } = result;
  const { samples, sizes, lifetimes } = profile;
  const events = samples.map((sample) => sample.events);
  const mib = (pick: (sample: MallocSample) => number): number[] => samples.map((sample) => pick(sample) / 2 ** 20);
  return [
    { kind: 'text', title: `${trace} through ${malloc}`, text: formatMalloc(result) },
    {
      kind: 'plot', title: 'Memory over time', xLabel: 'events', x: events, yLabel: 'MiB',
      series: [
        { label: 'resident', y: mib(({ resident }) => resident) }, { label: 'obtained', y: mib(({ obtained }) => obtained) },
        { label: 'in blocks', y: mib(({ inUse }) => inUse) }, { label: 'asked for', y: mib(({ requested }) => requested) },
      ],
    },
    {
      kind: 'plot', title: 'Fragmentation over time', xLabel: 'events', x: events, yLabel: '%',
      series: [
        { label: 'external: obtained but in no block', y: samples.map(({ obtained, inUse }) => (obtained === 0 ? 0 : 100 * Math.max(0, 1 - inUse / obtained))) },
        { label: 'internal: in blocks but not asked for', y: samples.map(({ inUse, requested }) => (inUse === 0 ? 0 : 100 * Math.max(0, 1 - requested / inUse))) },
      ],
    },
    barsOf('Blocks by size', 'bytes, up to 2^x', sizes),
    barsOf('Blocks by lifetime', 'events, up to 2^x', lifetimes),
  ];
}

function barsOf(title: string, xLabel: string, { blocks }: Distribution): PageSection {
  return { kind: 'plot', title, xLabel, x: blocks.map((_, bucket) => bucket), yLabel: 'blocks', series: [{ label: 'blocks', y: blocks, bars: true }] };
}
