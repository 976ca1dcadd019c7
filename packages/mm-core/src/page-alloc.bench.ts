/**
 * Getting and freeing pages against `push` and `pop` of an array, and booting 1 TiB against 1 GiB. Run with
 * `npx tsx --conditions=source`; every figure is a median, and only the ratios mean something on another machine.
 */
import { Bench } from 'tinybench';
import { PhysicalMemory, Smp, VirtualClock, firmwareMemoryMap } from '@pagelab/hw';
import { TraceRing } from '@pagelab/lib';
import { GFP_HIGHUSER_MOVABLE, GFP_KERNEL, PageAlloc } from './index.ts';

declare const console: { log(line: string): void };
declare const performance: { now(): number };

const MIB = 0x100000;
/** Repetitions within a measured call, so that the clock's steps do not count. */
const BATCH = 10_000;

function boot(memoryMib: number): PageAlloc {
  const ram = new PhysicalMemory(firmwareMemoryMap('pc', memoryMib * MIB));
  return new PageAlloc({ ram, smp: new Smp(ram, 1), clock: new VirtualClock(), trace: new TraceRing(64) });
}

const pages = boot(1024);
const array = Array.from({ length: 100 }, (_, i) => i);
let kept = 0;

const bench = new Bench({ iterations: 200, time: 200, warmupIterations: 50 });

/** `BATCH` times a block got and freed at once. */
function pairs(name: string, gfp: number, order: number): void {
  bench.add(name, () => {
    for (let i = 0; i < BATCH; i++) {
      const pfn = pages.allocPages(gfp, order);
      kept += pfn;
      pages.freePages(pfn, order);
    }
  });
}

bench.add('push + pop', () => {
  for (let i = 0; i < BATCH; i++) {
    array.push(i);
    kept += array.pop() ?? 0;
  }
});
bench.add('alloc_page + free_page', () => {
  for (let i = 0; i < BATCH; i++) {
    const pfn = pages.allocPage(GFP_HIGHUSER_MOVABLE);
    kept += pfn;
    pages.freePage(pfn);
  }
});
const held = new Int32Array(BATCH);
bench.add('alloc_page, many held', () => {
  for (let i = 0; i < BATCH; i++) held[i] = pages.allocPage(GFP_HIGHUSER_MOVABLE);
  for (let i = 0; i < BATCH; i++) pages.freePage(held[i]);
});
pairs('alloc_pages of order 0', GFP_KERNEL, 0);
pairs('alloc_pages of order 3', GFP_KERNEL, 3);
pairs('alloc_pages of order 4, past the lists', GFP_KERNEL, 4);
pairs('alloc_pages of order 10', GFP_KERNEL, 10);
await bench.run();

const base = bench.getTask('push + pop')?.result;
const baseNs = base !== undefined && 'latency' in base ? (base.latency.p50 * 1e6) / BATCH : NaN;
for (const task of bench.tasks) {
  const { result } = task;
  if (!('latency' in result)) continue;
  const ns = (result.latency.p50 * 1e6) / BATCH;
  console.log(`${task.name.padEnd(40)} ${ns.toFixed(1).padStart(8)} ns  ${(ns / baseNs).toFixed(1).padStart(6)} x push + pop`);
}

/** Milliseconds of the page allocator's boot, without the memory it describes. */
function bootTime(memoryMib: number): number {
  const ram = new PhysicalMemory(firmwareMemoryMap('pc', memoryMib * MIB));
  const smp = new Smp(ram, 1);
  const clock = new VirtualClock();
  const trace = new TraceRing(64);
  const times: number[] = [];
  for (let round = 0; round < 31; round++) {
    const start = performance.now();
    kept += new PageAlloc({ ram, smp, clock, trace }).totalramPages;
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  return times[15];
}

bootTime(1024);
const small = bootTime(1024);
const large = bootTime(1024 * 1024);
console.log(`boot of 1 GiB ${small.toFixed(2)} ms, of 1 TiB ${large.toFixed(2)} ms: ${(large / small).toFixed(1)} x`);
if (kept === 0.5) console.log(String(kept));
