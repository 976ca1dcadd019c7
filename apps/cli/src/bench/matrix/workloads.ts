/**
 * What a sweep's machines are made to do: recorded traces and generated programs, the same for the same seed.
 */
import { MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Machine, Process } from '@pagelab/kernel';
import { MallocReplay, OP_FREE, OP_MALLOC, OP_REALLOC, createMallocEvents, parseMallocTrace } from '@pagelab/libc-malloc';
import type { Malloc, MallocEvents, MallocOs } from '@pagelab/libc-malloc';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { UsageError } from '../../errors.ts';
import { beginThread } from '../../replay/begin-thread.ts';

/** What a workload works with: a fresh process, and the allocator under test. */
export interface WorkloadContext {
  readonly machine: Machine;
  readonly process: Process;
  readonly malloc: Malloc;
  /** Makes another of its kind, for another address space. */
  readonly create: (os: MallocOs) => Malloc;
  readonly seed: number;
  /** Called now and then, with the bytes that the program has asked for. */
  readonly sample: (requestedBytes: number) => void;
}

export interface Workload {
  readonly name: string;
  readonly title: string;
  /** Makes what it needs, off the clock; what it returns does the work, and returns how many operations it was. */
  prepare(seed: number): (context: WorkloadContext) => number;
}

/** Random numbers from a seed, the same everywhere: mulberry32. */
export function randomNumbers(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b_79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor(((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32 * below);
  };
}

/** Events a sample is taken after. */
const STEP = 1024;

/** Replays events in steps, and keeps what is asked for. */
function replayEvents({ process, malloc, sample }: WorkloadContext, events: MallocEvents, threads: boolean): number {
  const replay = new MallocReplay(malloc, process.os, threads ? { beginThread: () => beginThread(process) } : {});
  const live = new Map<number, number>();
  let requested = 0;
  const set = (id: number, bytes: number): void => {
    requested += bytes - (live.get(id) ?? 0);
    if (bytes === 0) live.delete(id);
    else live.set(id, bytes);
  };
  for (let first = 0; first < events.count; first += STEP) {
    const last = Math.min(events.count, first + STEP);
    replay.run({
      count: last - first, ops: events.ops.subarray(first, last), threads: events.threads.subarray(first, last),
      ids: events.ids.subarray(first, last), extras: events.extras.subarray(first, last), sizes: events.sizes.subarray(first, last),
    });
    for (let at = first; at < last; at++) {
      const isRealloc = events.ops[at] === OP_REALLOC;
      set(events.ids[at]!, isRealloc || events.ops[at] === OP_FREE ? 0 : events.sizes[at]!);
      if (isRealloc) set(events.extras[at]!, events.sizes[at]!);
    }
    sample(requested);
  }
  return events.count;
}

/** Collects events of a generated program. */
class Script {
  readonly events: MallocEvents;
  #nextId = 1;

  constructor(capacity: number) {
    this.events = createMallocEvents(capacity);
  }

  get isFull(): boolean {
    return this.events.count === this.events.ops.length;
  }

  malloc(size: number, thread = 0): number {
    this.#add(OP_MALLOC, this.#nextId, size, thread);
    return this.#nextId++;
  }

  free(id: number, thread = 0): void {
    this.#add(OP_FREE, id, 0, thread);
  }

  #add(op: number, id: number, size: number, thread: number): void {
    if (this.isFull) return;
    const { events } = this;
    const row = events.count++;
    events.ops[row] = op;
    events.threads[row] = thread;
    events.ids[row] = id;
    events.sizes[row] = size;
  }
}

const EVENTS = 40_000;

/** Takes a random element out of a list, whose order does not matter. */
function takeRandom(list: number[], random: (below: number) => number): number {
  const at = random(list.length);
  const taken = list[at]!;
  list[at] = list.at(-1)!;
  list.pop();
  return taken;
}

function uniform(seed: number): MallocEvents {
  const random = randomNumbers(seed);
  const script = new Script(EVENTS);
  const live: number[] = [];
  while (!script.isFull) {
    if (live.length < 4000 && (live.length < 100 || random(100) < 56)) live.push(script.malloc(16 + random(1009)));
    else script.free(takeRandom(live, random));
  }
  return script.events;
}

/** Many small blocks that soon go, and now and then one that stays between them. */
function longLived(seed: number): MallocEvents {
  const random = randomNumbers(seed);
  const script = new Script(EVENTS);
  const young: number[] = [];
  while (!script.isFull) {
    if (random(10) === 0) script.malloc(64 + random(4033));
    young.push(script.malloc(16 + random(241)));
    while (young.length > 50 + random(150)) script.free(takeRandom(young, random));
  }
  return script.events;
}

/** Fills memory with small blocks, frees every other one, and asks for blocks that do not fit in between. */
function comb(seed: number): MallocEvents {
  const random = randomNumbers(seed);
  const script = new Script(EVENTS);
  for (let round = 0; !script.isFull; round++) {
    const blocks = Array.from({ length: 6000 }, () => script.malloc(32 + 16 * round + random(64)));
    for (let at = 0; at < blocks.length; at += 2) script.free(blocks[at]!);
    for (let at = 0; at < 1500; at++) script.malloc(400 + random(2000));
    for (let at = 1; at < blocks.length; at += 4) script.free(blocks[at]!);
  }
  return script.events;
}

/** Four threads, each of which frees what the one before it allocated. */
function pipeline(seed: number): MallocEvents {
  const random = randomNumbers(seed);
  const script = new Script(EVENTS);
  const waiting: number[][] = [[], [], [], []];
  while (!script.isFull) {
    const thread = random(4);
    const own = waiting[thread]!;
    if (own.length > 0 && random(2) === 0) script.free(own.shift()!, thread);
    else waiting[(thread + 1) % 4]!.push(script.malloc(16 + random(2033), thread));
  }
  return script.events;
}

/** A parent with some MiB in blocks, and children that write to a part of them and end. */
function forks({ process, malloc, create, seed, sample }: WorkloadContext): number {
  const random = randomNumbers(seed);
  const size = 2000;
  const blocks = Array.from({ length: 2000 }, () => malloc.malloc(size));
  for (const block of blocks) process.os.mem.fill(block, size, 1);
  sample(blocks.length * size);
  const children = 40;
  for (let made = 0; made < children; made++) {
    const child = process.fork();
    if (typeof child === 'number') throw new Error(`fork failed: ${child}`);
    for (let write = 0; write < 200; write++) child.os.mem.store32(blocks[random(blocks.length)]!, made);
    const own = create(child.os);
    for (let at = 0; at < 50; at++) child.os.mem.store8(own.malloc(64 + random(1000)), 1);
    child.exit(0);
    process.os.waitpid(child.pid);
    sample(blocks.length * size);
  }
  return children;
}

/** Mappings of all sizes, touched here and there, taken away again: page tables, VMAs, huge pages. */
function mappings({ process, seed, sample }: WorkloadContext): number {
  const { os } = process;
  const random = randomNumbers(seed);
  const live: { at: number; pages: number }[] = [];
  const steps = 3000;
  let bytes = 0;
  for (let step = 0; step < steps; step++) {
    if (live.length < 100 && random(3) > 0) {
      const pages = 1 << random(11);
      const at = os.mmap(0, pages * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
      live.push({ at, pages });
      bytes += pages * PAGE_SIZE;
      for (let touch = 0; touch < 8; touch++) os.mem.store8(at + random(pages) * PAGE_SIZE, step);
    } else {
      const index = random(live.length);
      const gone = live[index];
      if (gone === undefined) continue;
      live.splice(index, 1);
      os.munmap(gone.at, gone.pages * PAGE_SIZE);
      bytes -= gone.pages * PAGE_SIZE;
    }
    if (step % 64 === 0) sample(bytes);
  }
  return steps;
}

/** At most this much is used where memory is plenty. */
const MOST_PRESSURE_BYTES = 64 * 2 ** 20;

/** Half as much again as the machine has, where that can be swapped: a part is used all the time, the rest gone through now and then. */
function pressure({ machine, process, seed, sample }: WorkloadContext): number {
  const { os } = process;
  const random = randomNumbers(seed);
  const meminfo = machine.readFile('/proc/meminfo');
  const pagesOf = (name: string): number => Math.floor(Number(new RegExp(`${name}: +(\\d+)`).exec(meminfo)![1]) / (PAGE_SIZE / 1024));
  const memory = Math.min(pagesOf('MemTotal'), MOST_PRESSURE_BYTES / PAGE_SIZE);
  const nrPages = Math.min(Math.floor(memory * 1.5), Math.floor((pagesOf('MemFree') + pagesOf('SwapFree')) * 0.9));
  const hotPages = Math.floor(memory / 3);
  const at = os.mmap(0, nrPages * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  let operations = 0;
  let scanned = hotPages;
  for (let round = 0; round < 24; round++) {
    for (let touch = 0; touch < hotPages; touch++) os.mem.store32(at + random(hotPages) * PAGE_SIZE, round);
    for (let touch = 0; touch < nrPages / 16; touch++) {
      os.mem.store32(at + scanned * PAGE_SIZE, round);
      if (++scanned === nrPages) scanned = hotPages;
    }
    operations += hotPages + Math.ceil(nrPages / 16);
    sample(nrPages * PAGE_SIZE);
  }
  return operations;
}

function scripted(name: string, title: string, make: (seed: number) => MallocEvents, threads = false): Workload {
  return {
    name,
    title,
    prepare(seed) {
      const events = make(seed);
      return (context) => replayEvents(context, events, threads);
    },
  };
}

/** The generated workloads. */
export const GENERATED: readonly Workload[] = [
  scripted('uniform', 'blocks of 16 to 1,024 bytes, freed at random', uniform),
  scripted('long-lived', 'small short-lived blocks with some between them that stay', longLived),
  scripted('comb', 'every other small block freed, then larger ones asked for', comb),
  scripted('pipeline', 'four threads that free what the one before allocated', pipeline, true),
  { name: 'forks', title: 'forty children that write to a part of what they share', prepare: () => forks },
  { name: 'pressure', title: 'more memory than there is, a part of it used all the time', prepare: () => pressure },
  { name: 'mappings', title: 'mappings of all sizes, touched here and there', prepare: () => mappings },
];

const recorded = fileURLToPath(new URL('../../../../../test/data/traces/', import.meta.url));

/** Traces that come with the repository, by name. */
function recordedNames(): string[] {
  if (!existsSync(recorded)) return [];
  return readdirSync(recorded).filter((file) => file.endsWith('.trace.gz')).map((file) => basename(file, '.trace.gz')).sort();
}

/** Names that `--workload` takes, beside files. */
export function workloadNames(): string[] {
  return [...GENERATED.map(({ name }) => name), ...recordedNames()];
}

/**
 * A workload by name, or a malloc trace's file.
 *
 * @throws UsageError where there is none such
 */
export function findWorkload(nameOrFile: string): Workload {
  const generated = GENERATED.find(({ name }) => name === nameOrFile);
  if (generated !== undefined) return generated;
  const file = recordedNames().includes(nameOrFile) ? join(recorded, `${nameOrFile}.trace.gz`) : nameOrFile;
  if (!existsSync(file)) throw new UsageError(`no workload '${nameOrFile}': give a malloc trace, or one of ${workloadNames().join(', ')}`);
  return {
    name: nameOrFile,
    title: `the recorded requests of ${basename(nameOrFile)}`,
    prepare() {
      const bytes = readFileSync(file);
      const events = parseMallocTrace(bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes) : bytes);
      return (context) => replayEvents(context, events, false);
    },
  };
}
