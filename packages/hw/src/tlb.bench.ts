/**
 * Loads and stores through the TLB against a plain typed array, bulk operations against the typed array's own, and a
 * TLB miss against a hit. Run with `tsx`; the figures are medians of one run.
 */
import { Bench } from 'tinybench';
import type { UserMemory } from '@pagelab/abi';
import { PAGE_SIZE } from './index.ts';
import { TestMachine } from './testing/address-space.ts';
import { console } from './testing/host.ts';

const BASE = 0x7f1234567000;
const PAGES = 512;
const ACCESSES = 1 << 16;
/** Misses take ten times as long: fewer, so that a run ends before the host takes the processor away. */
const MISSES = 1 << 12;
const SEED = 20240607;

function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state >>> 0;
  };
}

/** Addresses to a random word in each of `pages` random pages, and the same as indices of a typed array. */
function addresses(pages: number): { indices: Int32Array; addrs: Float64Array } {
  const next = random(SEED);
  const indices = new Int32Array(ACCESSES);
  for (let i = 0; i < ACCESSES; i++) indices[i] = ((next() >>> 8) % pages) * 1024 + (next() >>> 22);
  return { indices, addrs: Float64Array.from(indices, (index) => BASE + index * 4) };
}

function plainLoop(array: Uint32Array, indices: Int32Array): number {
  let sum = 0;
  for (let i = 0; i < indices.length; i += 2) {
    sum = (sum + array[indices[i]]) | 0;
    array[indices[i + 1]] = sum;
  }
  return sum;
}

function memoryLoop(mem: UserMemory, addrs: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < addrs.length; i += 2) {
    sum = (sum + mem.load32(addrs[i])) | 0;
    mem.store32(addrs[i + 1], sum);
  }
  return sum;
}

function plainGenerated(array: Uint32Array): number {
  let state = SEED;
  let sum = 0;
  for (let i = 0; i < ACCESSES; i += 2) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    const index = state >>> 13;
    sum = (sum + array[index]) | 0;
    array[index ^ 1] = sum;
  }
  return sum;
}

function memoryGenerated(mem: UserMemory, base: number): number {
  let state = SEED;
  let sum = 0;
  for (let i = 0; i < ACCESSES; i += 2) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    const index = state >>> 13;
    sum = (sum + mem.load32(base + index * 4)) | 0;
    mem.store32(base + (index ^ 1) * 4, sum);
  }
  return sum;
}

function plainBytesLoop(array: Uint8Array, indices: Int32Array): number {
  let sum = 0;
  for (let i = 0; i < indices.length; i += 2) {
    sum = (sum + array[indices[i] << 2]) | 0;
    array[indices[i + 1] << 2] = sum;
  }
  return sum;
}

function memoryBytesLoop(mem: UserMemory, addrs: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < addrs.length; i += 2) {
    sum = (sum + mem.load8(addrs[i])) | 0;
    mem.store8(addrs[i + 1], sum);
  }
  return sum;
}

function plainDoubles(array: Float64Array, indices: Int32Array): number {
  let sum = 0;
  for (let i = 0; i < indices.length; i += 2) {
    sum += array[indices[i] >>> 1];
    array[indices[i + 1] >>> 1] = i;
  }
  return sum;
}

function memoryAddresses(mem: UserMemory, addrs: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < addrs.length; i += 2) {
    sum += mem.loadAddress(addrs[i]);
    mem.storeAddress(addrs[i + 1], i);
  }
  return sum;
}

function loads(mem: UserMemory, addrs: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < addrs.length; i++) sum = (sum + mem.load32(addrs[i])) | 0;
  return sum;
}

function machine(pages: number): { machine: TestMachine; mem: UserMemory } {
  const made = new TestMachine(128 * 2 ** 20);
  for (let i = 0; i < pages; i++) made.map(BASE + i * PAGE_SIZE, made.newFrame());
  return { machine: made, mem: made.task().memory };
}

const { indices, addrs } = addresses(PAGES);
const doubleAddrs = addrs.map((addr) => addr - (addr % 8));
const plain = new Uint32Array(PAGES * 1024);
const plainBytes = new Uint8Array(plain.buffer);
const plainF64 = new Float64Array(plain.buffer);
const { machine: first, mem } = machine(2 * PAGES);
const others = [machine(PAGES).mem, machine(PAGES).mem, mem];
const conflict = machine(8192);
// Two pages that share a slot at any size of the TLB up to 4,096: each load misses.
const missAddrs = Float64Array.from({ length: MISSES }, (_, i) => BASE + (i & 1) * 2 ** 24 + ((i >> 1) & 1023) * 4);
const hitAddrs = Float64Array.from({ length: MISSES }, (_, i) => BASE + (i & 1) * PAGE_SIZE + ((i >> 1) & 1023) * 4);
const MIB = 2 ** 20;
/**
 * Where a page table begins, and with it a row of frames: bulk operations are about the copying, not about scattered
 * frames.
 */
const BULK = BASE - (BASE % (2 * MIB)) + 2 * MIB;
const bytes = new Uint8Array(MIB);
const bytes2 = new Uint8Array(2 * MIB);
let turn = 0;

interface Row {
  readonly name: string;
  readonly against: string;
  readonly target: number;
  readonly count: number;
  readonly ours: () => unknown;
  readonly theirs: () => unknown;
}

const rows: readonly Row[] = [
  {
    name: 'load32, store32, random over 512 pages',
    against: 'typed array, the same accesses',
    target: 3,
    count: ACCESSES,
    ours: () => memoryLoop(mem, addrs),
    theirs: () => plainLoop(plain, indices),
  },
  {
    name: 'the same, addresses computed on the way',
    against: 'typed array, indices computed on the way',
    target: 3,
    count: ACCESSES,
    ours: () => memoryGenerated(mem, BASE),
    theirs: () => plainGenerated(plain),
  },
  {
    name: 'load8, store8, random over 512 pages',
    against: 'byte array, the same accesses',
    target: 3,
    count: ACCESSES,
    ours: () => memoryBytesLoop(mem, addrs),
    theirs: () => plainBytesLoop(plainBytes, indices),
  },
  {
    name: 'loadAddress, storeAddress, random',
    against: 'array of doubles, the same accesses',
    target: 3,
    count: ACCESSES,
    ours: () => memoryAddresses(mem, doubleAddrs),
    theirs: () => plainDoubles(plainF64, indices),
  },
  {
    name: 'load32, store32, by three tasks in turn',
    against: 'typed array, the same accesses',
    target: 3,
    count: ACCESSES,
    ours: () => memoryLoop(others[(turn++ >> 4) % 3], addrs),
    theirs: () => plainLoop(plain, indices),
  },
  {
    name: 'load32, every one a TLB miss',
    against: 'load32, every one a hit',
    target: 10,
    count: MISSES,
    ours: () => loads(conflict.mem, missAddrs),
    theirs: () => loads(mem, hitAddrs),
  },
  {
    name: 'readInto 1 MiB',
    against: 'set',
    target: 1.15,
    count: 1,
    ours: () => mem.readInto(BULK, bytes),
    theirs: () => bytes2.set(bytes, 0),
  },
  {
    name: 'write 1 MiB',
    against: 'set',
    target: 1.15,
    count: 1,
    ours: () => mem.write(BULK, bytes),
    theirs: () => bytes2.set(bytes, 0),
  },
  {
    name: 'copy 1 MiB',
    against: 'copyWithin',
    target: 1.15,
    count: 1,
    ours: () => mem.copy(BULK + MIB, BULK, MIB),
    theirs: () => bytes2.copyWithin(MIB, 0, MIB),
  },
  {
    name: 'fill 1 MiB',
    against: 'fill',
    target: 1.15,
    count: 1,
    ours: () => mem.fill(BULK, MIB, 7),
    theirs: () => bytes.fill(7),
  },
  {
    name: 'loadCr3 after one access',
    against: 'the access without it',
    target: Infinity,
    count: 1,
    ours: () => {
      mem.load8(BASE);
      first.smp.current.loadCr3(first.pgd);
    },
    theirs: () => mem.load8(BASE),
  },
];

const bench = new Bench({ time: 300, warmupTime: 100, warmupIterations: 20, iterations: 20 });
for (const row of rows) bench.add(`${row.name} <- ${row.against}`, row.theirs).add(row.name, row.ours);
await bench.run();

function medianNs(name: string): number {
  const result = bench.getTask(name)?.result;
  return result !== undefined && 'latency' in result ? result.latency.p50 * 1e6 : NaN;
}

for (const { name, against, target, count } of rows) {
  const ours = medianNs(name);
  const theirs = medianNs(`${name} <- ${against}`);
  const figures = `${(ours / count).toFixed(2).padStart(9)} ns  ${(ours / theirs).toFixed(2).padStart(6)} x`;
  console.log(`${name.padEnd(40)} ${figures}  ${against} (target ${target === Infinity ? 'none' : target})`);
}
