/// <reference types="node" />
/**
 * The slab allocators against one another on the same three workloads: how long an operation takes, how much memory is held
 * for the bytes that are in use, and what is left when most of it is freed. Run with `npx tsx --conditions=source`; give it a
 * malloc trace (`.trace.gz`) to take the sizes of the third from. Every time is the processor's, a median of rounds in one run,
 * and only the ratios mean something on another machine; memory and fragmentation are the same everywhere.
 */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { PhysicalMemory, Smp, VirtualClock, firmwareMemoryMap } from '@pagelab/hw';
import { Prng, TraceRing } from '@pagelab/lib';
import { GFP_KERNEL, PageAlloc } from '@pagelab/mm-core';
import { slabAllocators } from './slab-allocators.ts';
import { Slab } from './slab.ts';

const PAGE_SIZE = 4096;
const MIB = 2 ** 20;
const OPERATIONS = 300_000;
const ROUNDS = 5;
/** Blocks held at once. */
const HELD = 8192;

/** The sizes that a program asked for, in its order. */
interface Workload {
  readonly name: string;
  /** The size of the block that operation `i` allocates; its lifetime is that of its slot. */
  readonly sizes: Int32Array;
  /** The slot that operation `i` empties and fills. */
  readonly slots: Int32Array;
}

function slotsOf(prng: Prng, longLived: number): Int32Array {
  // A part of the slots is filled once and hardly ever again.
  const still = Math.floor(HELD * longLived);
  return Int32Array.from({ length: OPERATIONS }, (_, i) => {
    if (i < HELD) return i;
    return prng.below(1000) === 0 ? prng.below(HELD) : still + prng.below(HELD - still);
  });
}

function recordedSizes(file: string): Int32Array {
  const bytes = readFileSync(file);
  const text = (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('latin1');
  const sizes = [...text.matchAll(/^[mcr](?: [0-9a-f]+)*? (\d+)$/gm)].map(([, size]) => Number(size)).filter((size) => size > 0 && size <= MIB);
  if (sizes.length === 0) throw new Error(`${file}: no sizes; it takes a malloc trace`);
  return Int32Array.from({ length: OPERATIONS }, (_, i) => sizes[i % sizes.length]);
}

/** Sizes as a malloc trace has them, where none is given: mostly small, a few powers of two, some large. */
function syntheticSizes(prng: Prng): Int32Array {
  const common = [16, 24, 32, 40, 48, 64, 72, 96, 120, 200, 280, 520, 1032, 2056, 4104];
  return Int32Array.from({ length: OPERATIONS }, () => {
    const kind = prng.below(100);
    if (kind < 80) return common[Math.floor(prng.below(common.length * common.length) ** 0.5)];
    return kind < 98 ? 1 + prng.below(256) : 1 + prng.below(16_384);
  });
}

const prng = new Prng(1);
const [trace] = process.argv.slice(2);
const workloads: readonly Workload[] = [
  { name: 'uniform, 1 to 1024 bytes', sizes: Int32Array.from({ length: OPERATIONS }, () => 1 + prng.below(1024)), slots: slotsOf(prng, 0) },
  { name: 'mixed with long-lived objects', sizes: Int32Array.from({ length: OPERATIONS }, () => 8 << prng.below(8)), slots: slotsOf(prng, 0.5) },
  {
    name: trace === undefined ? 'sizes like those of a malloc trace' : 'sizes of a recorded malloc trace',
    sizes: trace === undefined ? syntheticSizes(prng) : recordedSizes(trace),
    slots: slotsOf(prng, 0.1),
  },
];

interface Result {
  /** Nanoseconds of a free and an allocation. */
  readonly nanoseconds: number;
  /** Pages held for each page's worth of bytes in use. */
  readonly overhead: number;
  /** The same after seven of eight blocks are freed and everything that is empty is given back. */
  readonly fragmentation: number;
}

function run({ sizes, slots }: Workload, create: (typeof slabAllocators)['slub']): Result {
  const times: number[] = [];
  let overhead = 0;
  let fragmentation = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const ram = new PhysicalMemory(firmwareMemoryMap('pc', 512 * MIB));
    const smp = new Smp(ram, 2);
    const ring = new TraceRing(1);
    const pages = new PageAlloc({ ram, smp, clock: new VirtualClock(), trace: ring });
    const slab = new Slab({ pages, ram, smp, trace: ring, allocator: create() });
    const before = pages.nrFreePages();
    const held = new Float64Array(HELD);
    const bytes = new Float64Array(HELD);
    const began = process.cpuUsage().user;
    for (let i = 0; i < OPERATIONS; i++) {
      const slot = slots[i];
      if (held[slot] !== 0) slab.kfree(held[slot]);
      held[slot] = slab.kmalloc(sizes[i], GFP_KERNEL);
      bytes[slot] = sizes[i];
    }
    times.push(((process.cpuUsage().user - began) * 1e3) / OPERATIONS);
    const inUse = (): number => bytes.reduce((sum, size) => sum + size, 0) / PAGE_SIZE;
    pages.drainAllPages();
    overhead = (before - pages.nrFreePages()) / inUse();
    for (let slot = 0; slot < HELD; slot++) {
      if (slot % 8 === 0 || held[slot] === 0) continue;
      slab.kfree(held[slot]);
      bytes[slot] = 0;
    }
    for (const cache of slab.caches()) cache.shrink();
    pages.drainAllPages();
    fragmentation = (before - pages.nrFreePages()) / inUse();
  }
  return { nanoseconds: times.sort((a, b) => a - b)[ROUNDS >> 1], overhead, fragmentation };
}

// What is compiled is compiled for all of them.
for (const create of Object.values(slabAllocators)) run(workloads[2], create);
for (const workload of workloads) {
  console.log(`${workload.name}:`);
  console.log('  allocator    free + alloc    memory / bytes in use    the same with one in eight left');
  let first = 0;
  for (const [name, create] of Object.entries(slabAllocators)) {
    const { nanoseconds, overhead, fragmentation } = run(workload, create);
    first ||= nanoseconds;
    console.log(
      `  ${name.padEnd(8)} ${nanoseconds.toFixed(0).padStart(7)} ns ${(nanoseconds / first).toFixed(2).padStart(6)} x` +
        `${overhead.toFixed(2).padStart(20)}${fragmentation.toFixed(2).padStart(25)}`,
    );
  }
}
