/**
 * The allocators against one another on recorded traces: what the same requests cost in memory, faults and system calls.
 * The program is taken to touch every page of a block that it gets. The figures are the same on every computer. Arguments are trace files, `.gz` or not; without any, the recorded programs of the repository.
 *
 *     npx tsx --conditions=source tools/benchmarks/mallocs.bench.ts [TRACE…]
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { boot } from '@pagelab/kernel';
import {
  BlockTable, OP_CALLOC, OP_FREE, OP_MALLOC, OP_MEMALIGN, mallocs, parseMallocTrace,
} from '@pagelab/libc-malloc';
import type { Malloc, MallocEvents, MallocOs } from '@pagelab/libc-malloc';

const PAGE = 4096;
/** Times that the memory is looked at in a trace. */
const SAMPLES = 200;

/** What a trace through an allocator came to; sizes in KiB. */
interface Figures {
  readonly requestedPeak: number;
  readonly residentPeak: number;
  /** Requested over resident bytes, in the mean over the trace. */
  readonly meanUse: number;
  readonly residentEnd: number;
  readonly requestedEnd: number;
  readonly faults: number;
  readonly calls: number;
}

function load(file: string): MallocEvents {
  const bytes = readFileSync(file);
  return parseMallocTrace(bytes[0] === 0x1f ? gunzipSync(bytes) : bytes);
}

/** The calls that get memory, counted. */
function counted(os: MallocOs, count: { calls: number }): MallocOs {
  const calls = { ...os };
  for (const name of ['sbrk', 'mmap', 'munmap', 'mremap', 'mprotect', 'madvise'] as const) {
    const call = os[name].bind(os) as (...args: unknown[]) => unknown;
    Object.assign(calls, {
      [name]: (...args: unknown[]) => {
        // `sbrk(0)` is answered by the C library.
        if (args[0] !== 0 || name !== 'sbrk') count.calls++;
        return call(...args);
      },
    });
  }
  return calls;
}

function measure(events: MallocEvents, create: (os: MallocOs) => Malloc): Figures {
  const machine = boot({ memory: '4G' });
  const { os } = machine.createProcess({ name: 'bench' });
  const statusKb = (key: string): number => Number(new RegExp(`${key}:\\s+(\\d+)`).exec(os.readFile('/proc/self/status'))![1]);
  const residentKb = (): number => statusKb('VmRSS');
  const baseKb = residentKb();
  const baseFaults = os.getrusage().minflt;
  const count = { calls: 0 };
  const malloc = create(counted(os, count));
  const { mem } = os;
  const blocks = new BlockTable();
  const sizes = new Map<number, number>();
  let requested = 0;
  let requestedPeak = 0;
  let useSum = 0;
  let samples = 0;
  const every = Math.max(1, Math.floor(events.count / SAMPLES));

  for (let start = 0; start < events.count; start += every) {
    for (let i = start; i < Math.min(start + every, events.count); i++) {
      const id = events.ids[i]!;
      const size = events.sizes[i]!;
      const op = events.ops[i];
      requested -= op === OP_MALLOC || op === OP_CALLOC || op === OP_MEMALIGN ? 0 : (sizes.get(id) ?? 0);
      if (op === OP_FREE) {
        malloc.free(blocks.take(id));
        sizes.delete(id);
        continue;
      }
      let block: number;
      let at = id;
      if (op === OP_MALLOC) block = malloc.malloc(size);
      else if (op === OP_CALLOC) block = malloc.calloc(1, size);
      else if (op === OP_MEMALIGN) block = malloc.memalign(events.extras[i]!, size);
      else {
        block = malloc.realloc(blocks.get(id), size);
        at = events.extras[i]!;
        if (at !== id) blocks.set(id, 0);
        sizes.delete(id);
      }
      blocks.set(at, block);
      sizes.set(at, size);
      requested += size;
      requestedPeak = Math.max(requestedPeak, requested);
      for (let page = block; page < block + size; page += PAGE - (page % PAGE)) mem.store8(page, 1);
    }
    const resident = residentKb() - baseKb;
    useSum += requested / 1024 / resident;
    samples++;
  }
  const figures = {
    requestedPeak: requestedPeak / 1024,
    residentPeak: statusKb('VmHWM') - baseKb,
    meanUse: useSum / samples,
    residentEnd: residentKb() - baseKb,
    requestedEnd: requested / 1024,
    faults: os.getrusage().minflt - baseFaults,
    calls: count.calls,
  };
  machine.dispose();
  return figures;
}

const kib = (value: number): string => Math.round(value).toLocaleString('en');
const HERE = fileURLToPath(new URL('../../test/data/traces/', import.meta.url));
const files = process.argv.length > 2 ? process.argv.slice(2) : ['git-log', 'python-json'].map((name) => `${HERE}${name}.trace.gz`);

console.log('| trace | allocator | asked for at most, KiB | resident at most, KiB | times what was asked for | in use, mean | at the end, KiB | faults | calls |');
console.log('| --- | --- | --: | --: | --: | --: | --: | --: | --: |');
for (const file of files) {
  const events = load(file);
  const trace = file.replace(/.*\//, '').replace(/\.trace(\.gz)?$/, '');
  for (const [name, create] of Object.entries(mallocs)) {
    const f = measure(events, create);
    const cells = [
      trace, name, kib(f.requestedPeak), kib(f.residentPeak), (f.residentPeak / f.requestedPeak).toFixed(2),
      `${(100 * f.meanUse).toFixed(0)} %`, `${kib(f.requestedEnd)} in ${kib(f.residentEnd)}`, kib(f.faults), kib(f.calls),
    ];
    console.log(`| ${cells.join(' | ')} |`);
  }
}
