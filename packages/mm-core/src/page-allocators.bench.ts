/**
 * The page allocators against one another: how long a block takes, and how scattered memory is after the same churn. Run with
 * `npx tsx --conditions=source`; every time is a median, and only the ratios mean something on another machine. The
 * fragmentation is the same everywhere.
 */
import { Bench } from 'tinybench';
import { PhysicalMemory, Smp, VirtualClock, firmwareMemoryMap } from '@pagelab/hw';
import { Prng, TraceRing } from '@pagelab/lib';
import { unusableIndex } from './fragmentation.ts';
import { PageAlloc, pageAllocators } from './index.ts';
import { MIGRATE_MOVABLE } from './migratetype.ts';
import { PAGEBLOCK_ORDER } from './page.ts';
import type { PageAllocatorFactory } from './page-allocator.ts';
import { fragment } from './testing/fragment.ts';
import type { Zone } from './zone.ts';

declare const console: { log(line: string): void };
declare const performance: { now(): number };

const MIB = 0x100000;
const BATCH = 4096;
const ORDERS = [0, 1, 3, 5, 7, 9, 10];
let kept = 0;

function boot(pageAllocator: PageAllocatorFactory, memoryMib: number, cpus = 1): { pages: PageAlloc; smp: Smp } {
  const ram = new PhysicalMemory(firmwareMemoryMap('pc', memoryMib * MIB));
  const smp = new Smp(ram, cpus);
  return { pages: new PageAlloc({ ram, smp, clock: new VirtualClock(), trace: new TraceRing(64), pageAllocator }), smp };
}

function largestZone(pages: PageAlloc): Zone {
  return pages.zones.reduce((most, zone) => (zone.managed > most.managed ? zone : most));
}

/** Nanoseconds a block: got and given back in turns, by the zone itself, past the per-CPU lists. */
async function speed(): Promise<void> {
  const bench = new Bench({ iterations: 60, time: 60, warmupIterations: 20 });
  const held = new Int32Array(BATCH);
  const names = Object.keys(pageAllocators);
  for (const [name, factory] of Object.entries(pageAllocators)) {
    const zone = largestZone(boot(factory, 1024).pages);
    for (const order of ORDERS) {
      // As many as there are of the large orders, in an order of their own.
      const count = Math.min(BATCH, Math.floor((zone.managed / (1 << order)) * 0.8));
      const shuffled = shuffle(count);
      bench.add(`${name} ${order}`, () => {
        for (let i = 0; i < count; i++) held[i] = zone.take(order, MIGRATE_MOVABLE, 0);
        for (let i = 0; i < count; i++) zone.give(held[shuffled[i]], order, MIGRATE_MOVABLE);
        kept += held[0];
      });
    }
  }
  await bench.run();
  console.log('order    '.concat(...names.map((name) => name.padStart(22))));
  for (const order of ORDERS) {
    let line = String(order).padEnd(9);
    let base = NaN;
    for (const name of names) {
      const result = bench.getTask(`${name} ${order}`)?.result;
      const count = Math.min(BATCH, Math.floor((255_000 / (1 << order)) * 0.8));
      const ns = result !== undefined && 'latency' in result ? (result.latency.p50 * 1e6) / count : NaN;
      if (Number.isNaN(base)) base = ns;
      line += `${ns.toFixed(1)} ns (${(ns / base).toFixed(2)} x)`.padStart(22);
    }
    console.log(line);
  }
}

function shuffle(count: number): Int32Array {
  const prng = new Prng(count);
  const order = Int32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = prng.below(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

function fragmentation(): void {
  console.log('\nafter the same churn of 1 GiB by 4 CPUs: free memory of no use for an order, in thousandths');
  console.log(`${''.padEnd(12)}${[1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map((order) => String(order).padStart(6)).join('')}   free MiB   free 2 MiB blocks   ms`);
  for (const [name, factory] of Object.entries(pageAllocators)) {
    const machine = boot(factory, 1024, 4);
    const start = performance.now();
    fragment(machine, { seed: 2023, steps: 600_000 });
    const ms = performance.now() - start;
    const zone = largestZone(machine.pages);
    let line = name.padEnd(12);
    for (let order = 1; order <= 10; order++) line += String(unusableIndex(zone, order)).padStart(6);
    const huge = zone.nrFreeBlocks(PAGEBLOCK_ORDER) + 2 * zone.nrFreeBlocks(PAGEBLOCK_ORDER + 1);
    line += String(Math.round(zone.nrFree / 256)).padStart(11);
    line += `${huge} of ${Math.floor(zone.nrFree / 512)}`.padStart(20);
    console.log(`${line}${ms.toFixed(0).padStart(6)}`);
  }
}

await speed();
fragmentation();
if (kept === 0.5) console.log(String(kept));
