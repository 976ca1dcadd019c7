/**
 * Malloc traces: what a recorded program asked of its allocator, asked of one on this machine.
 */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Machine } from '@pagelab/kernel';
import {
  formatBlockOffset, MallocAbort, MallocReplay, mallocs, MallocTraceError, MallocTraceReader, OP_FREE, OP_REALLOC,
} from '@pagelab/libc-malloc';
import type { Malloc, MallocEvents, MallocOs } from '@pagelab/libc-malloc';
import { CommandFailure, UsageError } from '../errors.ts';
import { loadModule } from '../program-loader.ts';
import { Progress } from '../progress.ts';
import { count, formatKb, formatReport, formatTime, takeSnapshot } from '../report.ts';
import type { MemoryReport } from '../report.ts';
import { readTrace } from '../trace-file.ts';

export interface MallocOptions {
  /** An allocator's name, or a file that exports one. */
  readonly malloc: string;
  /** Print where each block landed. */
  readonly addresses?: boolean;
  /** End at the first broken line instead of skipping it. */
  readonly strict?: boolean;
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

/** What the trace asked for, apart from where it landed. */
class RequestTally {
  events = 0;
  liveBytes = 0;
  peakLiveBytes = 0;
  #sizes = new Float64Array(1 << 16);

  add({ count: events, ops, ids, extras, sizes }: MallocEvents): void {
    this.events += events;
    for (let i = 0; i < events; i++) {
      this.#set(ids[i]!, ops[i] === OP_FREE || ops[i] === OP_REALLOC ? 0 : sizes[i]!);
      if (ops[i] === OP_REALLOC) this.#set(extras[i]!, sizes[i]!);
      if (this.liveBytes > this.peakLiveBytes) this.peakLiveBytes = this.liveBytes;
    }
  }

  #set(id: number, bytes: number): void {
    if (id >= this.#sizes.length) {
      const grown = new Float64Array(2 ** Math.ceil(Math.log2(id + 1)));
      grown.set(this.#sizes);
      this.#sizes = grown;
    }
    this.liveBytes += bytes - this.#sizes[id]!;
    this.#sizes[id] = bytes;
  }
}

/** What one trace gave. */
export interface MallocResult {
  readonly trace: string;
  readonly malloc: string;
  readonly events: number;
  readonly skippedLines: number;
  /** This computer's time spent in the allocator and the machine, in nanoseconds. */
  readonly hostNs: number;
  readonly peakRequestedBytes: number;
  readonly requestedBytes: number;
  readonly mallinfo2: ReturnType<Malloc['mallinfo2']>;
  readonly memory: MemoryReport;
}

export async function replayMalloc(machine: Machine, file: string, options: MallocOptions): Promise<MallocResult> {
  const create = await findMalloc(options.malloc);
  const before = machine.stats();
  const target = machine.createProcess({ name: 'replay' });
  const tally = new RequestTally();
  let skippedLines = 0;
  let hostNs = 0n;
  let addresses: string[] = [];
  const malloc = create(target.os);
  const replay = new MallocReplay(
    malloc, target.os, options.addresses ? { onBlock: (offset) => void addresses.push(formatBlockOffset(offset)) } : {},
  );
  const progress = new Progress('events', 0);
  const reader = new MallocTraceReader({
    onBatch: (events) => {
      const began = process.hrtime.bigint();
      replay.run(events);
      hostNs += process.hrtime.bigint() - began;
      tally.add(events);
      progress.advance(events.count);
      if (addresses.length > 0) process.stdout.write(`${addresses.join('\n')}\n`);
      addresses = [];
    },
    ...(options.strict ? {} : {
      onError: ({ line, problem }: MallocTraceError) => {
        skippedLines++;
        progress.clear();
        console.error(`pagelab: ${file}:${line}: ${problem}; skipped`);
      },
    }),
  });
  try {
    for await (const piece of readTrace(file)) reader.push(piece);
    reader.end();
  } catch (error) {
    if (error instanceof MallocTraceError) throw new CommandFailure(`${file}:${error.line}: ${error.problem}`);
    if (error instanceof MallocAbort) throw new CommandFailure(`${file}: the allocator gave up: ${error.message}`);
    if (!target.alive) throw new CommandFailure(`${file}: the replay was killed (${machine.dmesg().trim().split('\n').at(-1)})`);
    throw error;
  } finally {
    progress.clear();
  }
  const mallinfo2 = malloc.mallinfo2();
  const end = takeSnapshot(machine, target.os);
  target.exit(0);
  machine.quiesce();
  return {
    trace: file, malloc: options.malloc, events: tally.events, skippedLines,
    hostNs: Number(hostNs),
    peakRequestedBytes: tally.peakLiveBytes, requestedBytes: tally.liveBytes, mallinfo2,
    memory: { before, end, after: machine.stats() },
  };
}

/** The result as people read it. */
export function formatMalloc({ trace, malloc, events, peakRequestedBytes, requestedBytes, mallinfo2, hostNs, memory }: MallocResult): string {
  const { arena, uordblks, fordblks, hblks, hblkhd } = mallinfo2;
  const peakKb = memory.end?.sizes?.residentPeakKb ?? 0;
  const share = (part: number, whole: number): string => (whole === 0 ? '–' : `${((part / whole) * 100).toFixed(1)} %`);
  return [
    `${trace}: ${count(events)} events through ${malloc}, ${formatTime(hostNs)} of this computer's time`,
    `  requested     ${formatKb(Math.round(requestedBytes / 1024))} at the end, ${formatKb(Math.round(peakRequestedBytes / 1024))} at most; resident at most ${formatKb(peakKb)}`,
    `  heap          ${formatKb(Math.round(arena / 1024))}: ${formatKb(Math.round(uordblks / 1024))} in use, ${formatKb(Math.round(fordblks / 1024))} free (${share(fordblks, arena)}); ${hblks} blocks mapped (${formatKb(hblkhd / 1024)})`,
    formatReport(memory),
  ].join('\n');
}
