/**
 * What `pagelab bench` measures: each row is some work, something to compare it with, and how far apart they may be.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { gunzipSync } from 'node:zlib';
import {
  MADV_DONTNEED, MADV_NOHUGEPAGE, MAP_ANONYMOUS, MAP_PRIVATE, PAGE_SIZE, PROT_READ, PROT_WRITE,
} from '@pagelab/abi';
import type { Os } from '@pagelab/abi';
import { boot, parseMachineConfig } from '@pagelab/kernel';
import type { Machine, Process } from '@pagelab/kernel';
import { allocPageWork, findVmaWork, kmallocWork, swapWork } from '@pagelab/kernel/bench';
import { glibc, MallocReplay, parseMallocTrace } from '@pagelab/libc-malloc';
import type { MallocEvents } from '@pagelab/libc-malloc';
import { measure, median } from './measure.ts';
import type { Work } from './measure.ts';
import { measureNative } from './native.ts';

/** How a row came out. Times in nanoseconds an operation. */
export interface RowResult {
  readonly name: string;
  readonly work: string;
  readonly against: string;
  readonly ours: number;
  /** `null` where it was not measured: the host's own kernel, without `--native`. */
  readonly theirs: number | null;
  readonly ratio: string | null;
  readonly target: string;
  readonly met: boolean | null;
}

export interface MeasureOptions {
  /** Only rows whose name begins so; all where it is undefined. */
  readonly suite: string | undefined;
  readonly native: boolean;
  readonly rounds: number;
}

/** A bound: our time may be at most `limit` times theirs. `1 / 4` is "four times faster". */
interface Row {
  readonly name: string;
  readonly work: string;
  readonly against: string;
  readonly limit: number;
  /** Measures both sides; the second is `null` where it is the host's, by the row's name. */
  readonly measure: (rounds: number) => Promise<RowTimes>;
}

const MIB = 1 << 20;
const SEED = 1;
const RW = PROT_READ | PROT_WRITE;
const ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS;
const config = parseMachineConfig({ memory: '3G', cpus: 2 });

/** A process on a fresh machine, driven from here. */
function freshProcess(): { machine: Machine; process: Process; os: Os } {
  const machine = boot(config);
  const process = machine.createProcess({ name: 'bench' });
  return { machine, process, os: process.os };
}

/** Random numbers below `limit` from a small generator with a fixed seed: the same in every run. */
function randomSequence(length: number, limit: number): Int32Array {
  let state = SEED;
  return Int32Array.from({ length }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  });
}

/** Our work against other work here, both in nanoseconds an operation. */
const pair = (ours: () => Work, theirs: () => Work) => async (rounds: number): Promise<[number, number]> => {
  const [a, b] = await measure([ours(), theirs()], rounds);
  return [a!, b!];
};

/** Our work against the host's. */
const alone = (ours: () => Work) => async (rounds: number): Promise<[number, null]> => {
  const [a] = await measure([ours()], rounds);
  return [a!, null];
};

// Loads and stores

const ACCESSES = 8192;

function randomAccess(): Work {
  const { os } = freshProcess();
  const base = os.mmap(0, 512 * PAGE_SIZE, RW, ANONYMOUS);
  os.mem.fill(base, 512 * PAGE_SIZE, 1);
  const addresses = Float64Array.from(randomSequence(ACCESSES, (512 * PAGE_SIZE) / 4), (word) => base + word * 4);
  const { mem } = os;
  return {
    operations: ACCESSES,
    run() {
      for (let i = 0; i < ACCESSES; i += 2) mem.store32(addresses[i]!, mem.load32(addresses[i + 1]!) + 1);
    },
  };
}

function randomTypedArray(): Work {
  const words = new Uint32Array((512 * PAGE_SIZE) / 4).fill(1);
  const indexes = Float64Array.from(randomSequence(ACCESSES, words.length));
  return {
    operations: ACCESSES,
    run() {
      for (let i = 0; i < ACCESSES; i += 2) words[indexes[i]!] = words[indexes[i + 1]!]! + 1;
    },
  };
}

function bulk(kind: 'read' | 'copy' | 'fill'): () => Work {
  return () => {
    const { os } = freshProcess();
    const base = os.mmap(0, 2 * MIB, RW, ANONYMOUS);
    os.mem.fill(base, 2 * MIB, 1);
    const target = new Uint8Array(MIB);
    const { mem } = os;
    return {
      operations: 1,
      run() {
        if (kind === 'read') mem.readInto(base, target);
        else if (kind === 'copy') mem.copy(base + MIB, base, MIB);
        else mem.fill(base, MIB, 2);
      },
    };
  };
}

function bulkTypedArray(kind: 'read' | 'copy' | 'fill'): () => Work {
  return () => {
    const memory = new Uint8Array(2 * MIB).fill(1);
    const target = new Uint8Array(MIB);
    return {
      operations: 1,
      run() {
        if (kind === 'read') target.set(memory.subarray(0, MIB));
        else if (kind === 'copy') memory.copyWithin(MIB, 0, MIB);
        else memory.fill(2, 0, MIB);
      },
    };
  };
}

/** Loads from `pages` pages in turn, each `stride` pages from the one before. */
function strided(pages: number, stride: number): () => Work {
  return () => {
    const { os } = freshProcess();
    const base = os.mmap(0, pages * stride * PAGE_SIZE, RW, ANONYMOUS);
    const addresses = Float64Array.from({ length: pages }, (_, i) => base + i * stride * PAGE_SIZE);
    for (const address of addresses) os.mem.store8(address, 1);
    const { mem } = os;
    let sum = 0;
    return {
      operations: ACCESSES,
      run() {
        for (let i = 0; i < ACCESSES; i++) sum += mem.load32(addresses[i % pages]!);
        if (sum === 0) throw new Error('nothing was loaded');
      },
    };
  };
}

// Faults and mappings

const PAGES = 1024;

/** Memory that a work touches page by page, taken back off the clock before each call. */
function faulting(touch: (os: Os, base: number) => void, prepare?: (os: Os, base: number) => void): () => Work {
  return () => {
    const { os } = freshProcess();
    const base = os.mmap(0, PAGES * PAGE_SIZE, RW, ANONYMOUS);
    os.madvise(base, PAGES * PAGE_SIZE, MADV_NOHUGEPAGE);
    return {
      operations: PAGES,
      before() {
        os.madvise(base, PAGES * PAGE_SIZE, MADV_DONTNEED);
        prepare?.(os, base);
      },
      run: () => touch(os, base),
    };
  };
}

function storeEach({ mem }: Os, base: number): void {
  for (let page = 0; page < PAGES; page++) mem.store8(base + page * PAGE_SIZE, 1);
}

function loadEach({ mem }: Os, base: number): void {
  for (let page = 0; page < PAGES; page++) mem.load8(base + page * PAGE_SIZE);
}

function dontneedEach(os: Os, base: number): void {
  for (let page = 0; page < PAGES; page++) os.madvise(base + page * PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED);
}

const CALLS = 500;

function calls(prepare: (os: Os) => (os: Os) => void): () => Work {
  return () => {
    const { os } = freshProcess();
    const call = prepare(os);
    return {
      operations: CALLS,
      run() {
        for (let i = 0; i < CALLS; i++) call(os);
      },
    };
  };
}

const mapUnmap = (touch: boolean) => () => (os: Os): void => {
  const page = os.mmap(0, PAGE_SIZE, RW, ANONYMOUS);
  if (touch) os.mem.store8(page, 1);
  os.munmap(page, PAGE_SIZE);
};

function splitAndMerge(os: Os): (os: Os) => void {
  const middle = os.mmap(0, 16 * PAGE_SIZE, RW, ANONYMOUS) + 4 * PAGE_SIZE;
  return () => {
    os.mprotect(middle, PAGE_SIZE, PROT_READ);
    os.mprotect(middle, PAGE_SIZE, RW);
  };
}

function breakUpAndDown(os: Os): (os: Os) => void {
  const start = os.brk(0);
  return () => {
    os.brk(start + PAGE_SIZE);
    os.brk(start);
  };
}

/** Copy-on-write faults of a parent whose child still shows every page. */
function copyOnWrite(): Work {
  const { process, os } = freshProcess();
  const base = os.mmap(0, PAGES * PAGE_SIZE, RW, ANONYMOUS);
  let child: Process | null = null;
  return {
    operations: PAGES,
    before() {
      child?.exit(0);
      if (child) os.waitpid(child.pid);
      storeEach(os, base);
      const forked = process.fork();
      if (typeof forked === 'number') throw new Error(`fork: ${forked}`);
      child = forked;
    },
    run: () => storeEach(os, base),
  };
}

/** Nanoseconds of `fork` a resident page: the difference between a large and a small process. */
async function forkPerPage(rounds: number): Promise<[number, null]> {
  const time = (pages: number): number => {
    const { machine, process, os } = freshProcess();
    os.mem.fill(os.mmap(0, pages * PAGE_SIZE, RW, ANONYMOUS), pages * PAGE_SIZE, 1);
    const samples: number[] = [];
    for (let i = 0; i < 20; i++) {
      const began = performance.now();
      const child = process.fork();
      samples.push((performance.now() - began) * 1e6);
      if (typeof child === 'number') throw new Error(`fork: ${child}`);
      child.exit(0);
      os.waitpid(child.pid);
    }
    machine.dispose();
    return median(samples);
  };
  const large = 16_384;
  const samples = Array.from({ length: rounds }, () => (time(large) - time(1)) / (large - 1));
  return Promise.resolve([median(samples), null]);
}

// Malloc

/** The recorded trace of the benchmarks: `git log --stat`, 8,650 events. */
function recordedTrace(): MallocEvents {
  const file = fileURLToPath(new URL('../../../../test/data/traces/git-log.trace.gz', import.meta.url));
  return parseMallocTrace(gunzipSync(readFileSync(file)).toString('latin1'));
}

/** Each replay has a process of its own, as on the host; the machine is booted once. */
function mallocReplay(): Work {
  const trace = recordedTrace();
  const machine = boot(config);
  let process: Process | undefined;
  let replay: MallocReplay | undefined;
  return {
    operations: trace.count,
    before() {
      process?.exit(0);
      process = machine.createProcess({ name: 'bench' });
      replay = new MallocReplay(glibc(process.os), process.os);
    },
    run: () => replay!.run(trace),
  };
}

// Boot

function booting(memory: string): () => Work {
  return () => ({
    operations: 1,
    run: () => boot({ memory, cpus: 2 }).dispose(),
  });
}

function pushPop(): Work {
  const stack: number[] = [1, 2, 3];
  let sum = 0;
  return {
    operations: 10_000,
    run() {
      for (let i = 0; i < 10_000; i++) {
        stack.push(i);
        sum += stack.pop()!;
      }
      if (sum < 0) throw new Error('the sum is not negative');
    },
  };
}

/** What swapping a page out and in comes to at least: copying it twice. */
function copyTwice(): Work {
  const pages = 512;
  const memory = new Uint8Array(2 * pages * PAGE_SIZE).fill(1);
  return {
    operations: pages,
    run() {
      for (let at = 0; at < pages * PAGE_SIZE; at += PAGE_SIZE) {
        memory.copyWithin(pages * PAGE_SIZE + at, at, at + PAGE_SIZE);
        memory.copyWithin(at, pages * PAGE_SIZE + at, pages * PAGE_SIZE + at + PAGE_SIZE);
      }
    },
  };
}

const HOST = "the host's kernel";

const ROWS: readonly Row[] = [
  { name: 'memory-random', work: 'load and store, TLB hit, random over 512 pages', against: 'a typed array', limit: 3, measure: pair(randomAccess, randomTypedArray) },
  { name: 'memory-read', work: 'bulk read of 1 MiB', against: 'TypedArray.set', limit: 1.15, measure: pair(bulk('read'), bulkTypedArray('read')) },
  { name: 'memory-copy', work: 'bulk copy of 1 MiB', against: 'TypedArray.copyWithin', limit: 1.15, measure: pair(bulk('copy'), bulkTypedArray('copy')) },
  { name: 'memory-fill', work: 'bulk fill of 1 MiB', against: 'TypedArray.fill', limit: 1.15, measure: pair(bulk('fill'), bulkTypedArray('fill')) },
  { name: 'memory-tlb-miss', work: 'TLB miss, four-level walk', against: 'a TLB hit', limit: 10, measure: pair(strided(8, 4096), strided(8, 1)) },
  { name: 'fault-write', work: 'anonymous write fault', against: HOST, limit: 1 / 4, measure: alone(faulting(storeEach)) },
  { name: 'fault-read', work: 'zero-page read fault', against: HOST, limit: 1 / 3, measure: alone(faulting(loadEach)) },
  { name: 'fault-cow', work: 'copy-on-write fault', against: HOST, limit: 1 / 4, measure: alone(copyOnWrite) },
  { name: 'mm-mmap-munmap', work: 'mmap + munmap of a page, untouched', against: HOST, limit: 1 / 6, measure: alone(calls(mapUnmap(false))) },
  { name: 'mm-mmap-touch-munmap', work: 'mmap + touch + munmap', against: HOST, limit: 1 / 6, measure: alone(calls(mapUnmap(true))) },
  { name: 'mm-fork-page', work: 'fork, per resident page', against: HOST, limit: 1 / 3, measure: forkPerPage },
  { name: 'mm-mprotect', work: 'mprotect that splits, then merges', against: HOST, limit: 1 / 6, measure: alone(calls(splitAndMerge)) },
  { name: 'mm-brk', work: 'brk up and down a page', against: HOST, limit: 1 / 6, measure: alone(calls(breakUpAndDown)) },
  { name: 'mm-dontneed', work: 'madvise(DONTNEED) of a touched page', against: HOST, limit: 1 / 5, measure: alone(faulting(dontneedEach, storeEach)) },
  { name: 'mm-alloc-page', work: 'alloc_page + free_page, per-CPU list', against: 'push + pop', limit: 6, measure: pair(() => allocPageWork(config), pushPop) },
  { name: 'mm-kmalloc', work: 'kmalloc(64) + kfree', against: 'push + pop', limit: 8, measure: pair(() => kmallocWork(config, 64), pushPop) },
  { name: 'mm-swap', work: 'swap out + swap in of a page, memory-backed device', against: 'copyWithin of 2 × 4 KiB', limit: 8, measure: pair(() => swapWork(config), copyTwice) },
  { name: 'mm-find-vma', work: 'finding a VMA among 1,000,000', against: 'among 1,000', limit: 2.5, measure: pair(() => findVmaWork(config, 1_000_000, SEED), () => findVmaWork(config, 1000, SEED)) },
  { name: 'malloc-replay', work: 'an event of a recorded malloc trace', against: "the host's C library", limit: 6, measure: alone(mallocReplay) },
  { name: 'boot-1t', work: 'booting 1 TiB', against: 'booting 1 GiB', limit: 4, measure: pair(booting('1T'), booting('1G')) },
];

/** The names that `host-bench.c` gives its rows, by ours. */
const NATIVE_NAMES: Readonly<Record<string, string>> = {
  'fault-write': 'write-fault', 'fault-read': 'read-fault', 'fault-cow': 'cow-fault', 'mm-mmap-munmap': 'mmap-munmap',
  'mm-mmap-touch-munmap': 'mmap-touch-munmap', 'mm-fork-page': 'fork-page', 'mm-mprotect': 'mprotect', 'mm-brk': 'brk',
  'mm-dontneed': 'dontneed', 'malloc-replay': 'malloc-replay',
};

/** The rows a suite names: those whose name begins so. */
export function rowNames(suite: string | undefined): string[] {
  return ROWS.map(({ name }) => name).filter((name) => suite === undefined || name.startsWith(suite));
}

function describeTarget(limit: number): string {
  return limit < 1 ? `${Math.round(1 / limit)} × faster` : `at most ${limit} ×`;
}

function describeRatio(ours: number, theirs: number, limit: number): string {
  return limit < 1 ? `${(theirs / ours).toFixed(1)} × faster` : `${(ours / theirs).toFixed(2)} ×`;
}

/** Nanoseconds an operation of a row's work and of what it is compared with; `null` where that is the host's. */
export type RowTimes = [ours: number, theirs: number | null];

/** Measures one row, here. */
export async function measureRow(name: string, rounds: number): Promise<RowTimes> {
  const row = ROWS.find((candidate) => candidate.name === name);
  if (!row) throw new RangeError(`no row '${name}'`);
  return row.measure(rounds);
}

/** Measures one row in a thread of its own. */
function measureApart(name: string, rounds: number): Promise<RowTimes> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./row-worker.js', import.meta.url), { workerData: { name, rounds } });
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', (code) => reject(new Error(`the thread of row '${name}' ended with code ${code}`)));
  });
}

/** Measures the rows of a suite, one after the other. */
export async function* measureRows({ suite, native, rounds }: MeasureOptions): AsyncGenerator<RowResult> {
  const names = new Set(rowNames(suite));
  const rows = ROWS.filter(({ name }) => names.has(name));
  const host = native && rows.some(({ name }) => name in NATIVE_NAMES) ? measureNative(recordedTrace()) : new Map<string, number>();
  for (const { name, work, against, limit } of rows) {
    const [ours, other] = await measureApart(name, rounds);
    const theirs = other ?? host.get(NATIVE_NAMES[name] ?? '') ?? null;
    yield {
      name, work, against, ours, theirs,
      ratio: theirs === null ? null : describeRatio(ours, theirs, limit),
      target: describeTarget(limit),
      met: theirs === null ? null : ours <= theirs * limit,
    };
  }
}
