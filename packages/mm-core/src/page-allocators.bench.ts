/**
 * The page allocators against one another: how long a block takes, what booting costs, and how scattered memory is after the
 * same load. Run with `npx tsx --conditions=source`; every time is a median, and only the ratios mean something on another
 * machine. The fragmentation is the same everywhere.
 */
import { Bench } from 'tinybench';
import { PhysicalMemory, Smp, VirtualClock, firmwareMemoryMap } from '@pagelab/hw';
import { Prng, TraceRing } from '@pagelab/lib';
import { unusableIndex } from './fragmentation.ts';
import { GFP_HIGHUSER_MOVABLE, PageAlloc, pageAllocators } from './index.ts';
import { MIGRATE_MOVABLE } from './migratetype.ts';
import { NR_PAGE_ORDERS, PAGEBLOCK_ORDER } from './page.ts';
import type { PageAllocatorFactory } from './page-allocator.ts';
import { fragment } from './testing/fragment.ts';
import type { Zone } from './zone.ts';

declare const console: { log(line: string): void };
declare const performance: { now(): number };

const MIB = 0x100000;
/** Blocks held at once, as far as there are so many. */
const HELD = 4096;
const ALLOCATORS = Object.entries(pageAllocators);
let kept = 0;

function machine(memoryMib: number, cpus = 1): { boot: (factory: PageAllocatorFactory) => PageAlloc; smp: Smp } {
  const ram = new PhysicalMemory(firmwareMemoryMap('pc', memoryMib * MIB));
  const smp = new Smp(ram, cpus);
  const clock = new VirtualClock();
  const trace = new TraceRing(64);
  return { boot: (pageAllocator) => new PageAlloc({ ram, smp, clock, trace, pageAllocator }), smp };
}

function largestZone(pages: PageAlloc): Zone {
  return pages.zones.reduce((most, zone) => (zone.managed > most.managed ? zone : most));
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

/** A row of the table: what it measures, and how often a call does it. */
interface Row {
  readonly name: string;
  readonly times: number;
}

/** Nanoseconds to get a block and give it back: many are held, and given back in another order. */
async function speed(): Promise<void> {
  const bench = new Bench({ iterations: 60, time: 60, warmupIterations: 20 });
  const held = new Int32Array(HELD);
  const machines = ALLOCATORS.map(([name, factory]) => ({ name, pages: machine(1024).boot(factory) }));
  const rows: Row[] = [{ name: 'alloc_page', times: HELD }];
  const shuffled = shuffle(HELD);
  for (const { name, pages } of machines) {
    bench.add(`alloc_page ${name}`, () => {
      for (let i = 0; i < HELD; i++) held[i] = pages.allocPage(GFP_HIGHUSER_MOVABLE);
      for (let i = 0; i < HELD; i++) pages.freePage(held[shuffled[i]]);
    });
  }
  for (let order = 0; order < NR_PAGE_ORDERS; order++) {
    const times = Math.min(HELD, Math.floor((768 * 256) / (1 << order)));
    const row = { name: `order ${order}`, times };
    rows.push(row);
    const back = shuffle(times);
    for (const { name, pages } of machines) {
      const zone = largestZone(pages);
      bench.add(`${row.name} ${name}`, () => {
        for (let i = 0; i < times; i++) held[i] = zone.take(order, MIGRATE_MOVABLE, 0);
        for (let i = 0; i < times; i++) zone.give(held[back[i]], order, MIGRATE_MOVABLE);
        kept += held[0];
      });
    }
  }
  await bench.run();
  console.log('a block got from the zone and given back; alloc_page is by way of the per-CPU lists');
  console.log(''.padEnd(12).concat(...ALLOCATORS.map(([name]) => name.padStart(20))));
  for (const { name, times } of rows) {
    const ns = ALLOCATORS.map(([allocator]) => {
      const result = bench.getTask(`${name} ${allocator}`)?.result;
      return result !== undefined && 'latency' in result ? (result.latency.p50 * 1e6) / times : NaN;
    });
    console.log(name.padEnd(12).concat(...ns.map((each) => `${each.toFixed(1)} ns  ${(each / ns[0]).toFixed(2)} x`.padStart(20))));
  }
}

/** Milliseconds of the page allocator's boot, without the memory it describes. */
function bootTimes(): void {
  console.log('\nboot, in ms');
  for (const memoryMib of [1024, 1024 * 1024]) {
    const { boot } = machine(memoryMib);
    let line = memoryMib === 1024 ? '1 GiB' : '1 TiB';
    line = line.padEnd(12);
    for (const [, factory] of ALLOCATORS) {
      const times: number[] = [];
      for (let round = 0; round < 31; round++) {
        const start = performance.now();
        kept += boot(factory).totalramPages;
        times.push(performance.now() - start);
      }
      times.sort((a, b) => a - b);
      line += times[15].toFixed(2).padStart(20);
    }
    console.log(line);
  }
}

function fragmentation(): void {
  console.log('\nfragmentation after the same load: free memory of no use for a block of each order, in thousandths');
  const orders = Array.from({ length: NR_PAGE_ORDERS - 1 }, (_, i) => i + 1);
  console.log(`${'machine'.padEnd(18)}${''.padEnd(10)}${orders.map((order) => String(order).padStart(5)).join('')}   free 2 MiB blocks, of those that could be`);
  for (const [memoryMib, cpus] of [[256, 1], [1024, 1], [1024, 4], [4096, 4]]) {
    for (const [name, factory] of ALLOCATORS) {
      const { boot, smp } = machine(memoryMib, cpus);
      const pages = boot(factory);
      fragment({ pages, smp }, { seed: 2023, steps: memoryMib * 600 });
      // Of all zones together: which of them the load lies in differs.
      const blocks = Array.from({ length: NR_PAGE_ORDERS }, (_, order) => pages.zones.reduce((sum, zone) => sum + zone.nrFreeBlocks(order), 0));
      const whole = { nrFreeBlocks: (order: number) => blocks[order] };
      const huge = blocks[PAGEBLOCK_ORDER] + 2 * blocks[PAGEBLOCK_ORDER + 1];
      const most = Math.floor(pages.nrFreePages() / (1 << PAGEBLOCK_ORDER));
      const index = orders.map((order) => String(unusableIndex(whole as Zone, order)).padStart(5)).join('');
      const shape = `${memoryMib} MiB, ${cpus} CPU${cpus > 1 ? 's' : ''}`;
      console.log(`${shape.padEnd(18)}${name.padEnd(10)}${index}   ${huge} of ${most}: ${((100 * huge) / most).toFixed(0)} %`);
    }
  }
}

await speed();
bootTimes();
fragmentation();
if (kept === 0.5) console.log(String(kept));
