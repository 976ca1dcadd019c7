/// <reference types="node" />
/**
 * `kmalloc` and `kfree` against `push` and `pop` of a JavaScript array, in one run. Run it with
 * `node --import tsx --conditions=source`.
 */
import { Bench } from 'tinybench';
import { PhysicalMemory, Smp, VirtualClock, firmwareMemoryMap } from '@pagelab/hw';
import { Prng, TraceRing } from '@pagelab/lib';
import { GFP_KERNEL, PageAlloc, __GFP_ZERO } from '@pagelab/mm-core';
import { Slab } from './slab.ts';

const OPS = 1000;
const ram = new PhysicalMemory(firmwareMemoryMap('pc', 256 * 2 ** 20));
const smp = new Smp(ram, 2);
const trace = new TraceRing(1);
const pages = new PageAlloc({ ram, smp, clock: new VirtualClock(), trace });
const slab = new Slab({ pages, ram, smp, trace });
const cache = slab.kmallocCache(64, GFP_KERNEL)!;
const array: number[] = Array.from({ length: 64 }, (_, i) => i);
const held = new Float64Array(4096);
const prng = new Prng(1);
const slots = Int32Array.from({ length: OPS }, () => prng.below(held.length));
const sizes = Int32Array.from({ length: OPS }, () => 1 + prng.below(512));
let kept = 0;

const bench = new Bench({ time: 300, warmupTime: 200 });
bench
  .add('push + pop', () => {
    for (let i = 0; i < OPS; i++) {
      array.push(i);
      kept += array.pop()!;
    }
  })
  .add('kmalloc(64) + kfree', () => {
    for (let i = 0; i < OPS; i++) slab.kfree(slab.kmalloc(64, GFP_KERNEL));
  })
  .add('cache.alloc + cache.free', () => {
    for (let i = 0; i < OPS; i++) cache.free(cache.alloc(GFP_KERNEL));
  })
  .add('kzalloc(64) + kfree', () => {
    for (let i = 0; i < OPS; i++) slab.kfree(slab.kmalloc(64, GFP_KERNEL | __GFP_ZERO));
  })
  .add('random size, random lifetime', () => {
    for (let i = 0; i < OPS; i++) {
      const slot = slots[i];
      if (held[slot] !== 0) slab.kfree(held[slot]);
      held[slot] = slab.kmalloc(sizes[(i + slot) % OPS], GFP_KERNEL);
    }
  });

await bench.run();
const nanoseconds = bench.tasks.map((task) => {
  if (task.result.state !== 'completed') throw new Error(`${task.name}: ${task.result.state}`);
  return (task.result.latency.p50 * 1e6) / OPS;
});
const targets = [undefined, 8, undefined, undefined, undefined];
bench.tasks.forEach((task, i) => {
  const ratio = (nanoseconds[i] / nanoseconds[0]).toFixed(1);
  const target = targets[i] === undefined ? '' : ` (target: at most ${targets[i]})`;
  console.log(`${task.name.padEnd(30)} ${nanoseconds[i].toFixed(1).padStart(6)} ns  ${ratio.padStart(5)} x push + pop${target}`);
});
if (kept < 0) console.log(kept);
