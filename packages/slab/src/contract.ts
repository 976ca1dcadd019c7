/**
 * What every slab allocator must do, as a suite for vitest: an allocator's author calls {@link slabAllocatorContract} in
 * a test file of their own.
 */
import { Errno } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_OFFSET, PAGE_SIZE, PhysicalMemory, Smp, VirtualClock, firmwareMemoryMap } from '@pagelab/hw';
import { KernelBug, Prng, TraceRing } from '@pagelab/lib';
import { GFP_KERNEL, NODE_STAT, PageAlloc, __GFP_NORETRY, __GFP_NOWARN, __GFP_ZERO } from '@pagelab/mm-core';
import { describe, expect, test } from 'vitest';
import { SLAB_HWCACHE_ALIGN, SLAB_NO_MERGE, SLAB_RECLAIM_ACCOUNT, SLAB_TYPESAFE_BY_RCU } from './flags.ts';
import type { SlabAllocator } from './host.ts';
import type { KmemCache } from './kmem-cache.ts';
import type { SlabReport } from './report.ts';
import { Slab } from './slab.ts';
import type { SlubOptions } from './slab.ts';
import type { KmemCacheOptions } from './cache-registry.ts';

/** What a run of the contract may be told. */
export interface SlabContractOptions {
  /** Random operations. 20,000 by default. */
  readonly operations?: number;
  /** Of the random operations. 1 by default. */
  readonly seed?: number;
  /** What the machine is booted with, `slub_debug=` among it. */
  readonly slubOptions?: SlubOptions;
}

const MIB = 2 ** 20;
/** Where a kernel of 32 bits has frame 0. */
const PAGE_OFFSET_32 = 0xc000_0000;
/** Gives up without a report, as a test of running out wants it. */
const QUIET = GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN;

/** A machine with the allocator under test. */
class Machine {
  readonly ram: PhysicalMemory;
  readonly smp: Smp;
  readonly pages: PageAlloc;
  readonly slab: Slab;
  readonly reports: SlabReport[] = [];
  /** Page allocations that still succeed. */
  budget = Infinity;

  constructor(allocator: SlabAllocator, memoryBytes = 96 * MIB, slubOptions: SlubOptions = {}) {
    this.ram = new PhysicalMemory(firmwareMemoryMap('pc', memoryBytes));
    this.smp = new Smp(this.ram, 2);
    const trace = new TraceRing(1);
    const pageOffset = slubOptions.wordBytes === 4 ? PAGE_OFFSET_32 : PAGE_OFFSET;
    this.pages = new PageAlloc({ ram: this.ram, smp: this.smp, clock: new VirtualClock(), trace, pageOffset });
    this.limitPages();
    const report = (said: SlabReport): void => void this.reports.push(said);
    const context = { caller: () => 'contract' };
    this.slab = new Slab({ pages: this.pages, ram: this.ram, smp: this.smp, trace, allocator, report, slubOptions, context });
  }

  /** Makes page allocations fail once the budget is used up. */
  private limitPages(): void {
    const { pages } = this;
    const allocPages = pages.allocPages.bind(pages);
    const allocPagesNode = pages.allocPagesNode.bind(pages);
    pages.allocPages = (gfp, order) => (this.budget-- > 0 ? allocPages(gfp, order) : -Errno.ENOMEM);
    pages.allocPagesNode = (nid, gfp, order) => (this.budget-- > 0 ? allocPagesNode(nid, gfp, order) : -Errno.ENOMEM);
  }

  cache(options: Omit<KmemCacheOptions, 'name'> & { readonly name?: string }): KmemCache {
    const made = this.slab.kmemCacheCreate({ name: 'contract', ...options });
    if (typeof made === 'number') throw new Error(`kmemCacheCreate: ${made}`);
    return made;
  }

  /** Free pages, once everything that is kept in reserve is given back. */
  freePages(): number {
    for (const cache of this.slab.caches()) cache.shrink();
    this.pages.drainAllPages();
    return this.pages.nrFreePages();
  }

  validate(): void {
    this.slab.validate();
    const { NR_SLAB_RECLAIMABLE, NR_SLAB_UNRECLAIMABLE } = NODE_STAT;
    expect(this.pages.nodeState(NR_SLAB_RECLAIMABLE) + this.pages.nodeState(NR_SLAB_UNRECLAIMABLE)).toBe(this.slab.nrPages);
  }

  /** Host words of an object's first and one past its last whole word, page by page. */
  private *runs(object: VirtAddr, bytes: number): Iterable<[from: number, to: number]> {
    for (let at = 0; at + 4 <= bytes; ) {
      const pa = object + at - this.pages.pageOffset;
      const run = Math.min(bytes - at, PAGE_SIZE - (pa % PAGE_SIZE));
      const word = this.ram.frameWord(Math.floor(pa / PAGE_SIZE)) + ((pa % PAGE_SIZE) >> 2);
      yield [word, word + (run >> 2)];
      at += run;
    }
  }

  fill(object: VirtAddr, bytes: number, value: number): void {
    for (const [from, to] of this.runs(object, bytes)) this.ram.u32.fill(value, from, to);
  }

  holds(object: VirtAddr, bytes: number, value: number): boolean {
    for (const [from, to] of this.runs(object, bytes)) {
      for (let word = from; word < to; word++) if (this.ram.u32[word] !== value >>> 0) return false;
    }
    return true;
  }
}

/**
 * Defines the contract's tests, in a `describe` of their own.
 *
 * @param create makes the allocator, for a machine of its own
 */
export function slabAllocatorContract(create: () => SlabAllocator, options: SlabContractOptions = {}): void {
  const { debug = '', freelistHardening = '', wordBytes = 8 } = options.slubOptions ?? {};
  const of = wordBytes === 4 ? 'of 32 bits' : '';
  describe(['slab allocator contract:', create().name, debug, freelistHardening, of].filter((word) => word !== '').join(' '), () => {
    const boot = (memoryBytes?: number): Machine => new Machine(create(), memoryBytes, options.slubOptions);
    defineObjectTests(boot);
    defineMemoryTests(boot);
    defineMisuseTests(boot);
    defineRandomTest(boot, options);
  });
}

type Boot = (memoryBytes?: number) => Machine;

function defineObjectTests(boot: Boot): void {
  test.each([1, 8, 13, 24, 64, 96, 100, 192, 333, 512, 1000, 2048, 4096, 5000, 8192, 20_000, 100_000])(
    'objects of %i bytes are aligned, apart, and the cache is found from any byte of one',
    (size) => {
      for (const [index, flags] of [0, SLAB_HWCACHE_ALIGN, SLAB_TYPESAFE_BY_RCU].entries()) {
        const machine = boot();
        const cache = machine.cache({ size, flags: flags | SLAB_NO_MERGE, align: index === 2 ? 32 : 0 });
        const count = size > 4096 ? 20 : 100;
        const objects = Array.from({ length: count }, () => cache.alloc(GFP_KERNEL)).sort((a, b) => a - b);
        objects.forEach((object, i) => {
          expect(object).not.toBe(0);
          expect((object - machine.pages.pageOffset) % cache.align).toBe(0);
          if (i > 0) expect(object - objects[i - 1]).toBeGreaterThanOrEqual(size);
          expect(machine.slab.cacheOf(object)!.name).toBe('contract');
          expect(machine.slab.cacheOf(object + size - 1)!.name).toBe('contract');
          expect(cache.objectAt(object + size - 1)).toBe(object);
        });
        expect(cache.activeObjects).toBe(count);
        expect(cache.liveObjects().sort((a, b) => a - b)).toEqual(objects);
        machine.validate();
        for (const object of objects) cache.free(object);
        expect(cache.activeObjects).toBe(0);
        machine.validate();
        expect(machine.reports).toEqual([]);
      }
    },
  );

  test('a constructor runs for an object before it is handed out; what it made stays, or it runs again', () => {
    const machine = boot();
    const constructed = new Map<VirtAddr, number>();
    const cache = machine.cache({ size: 72, ctor: (object) => void constructed.set(object, (constructed.get(object) ?? 0) + 1) });
    const objects = Array.from({ length: 100 }, () => cache.alloc(GFP_KERNEL));
    for (const object of objects) machine.fill(object, 72, 0x600d);
    expect(objects.every((object) => constructed.get(object) === 1)).toBe(true);
    for (const object of objects.slice(0, 10)) cache.free(object);
    const again = Array.from({ length: 10 }, () => cache.alloc(GFP_KERNEL));
    for (const object of again.filter((one) => objects.includes(one))) {
      // Either it is as its user left it, or it was constructed anew.
      if (constructed.get(object) === 1) expect(machine.holds(object, 72, 0x600d)).toBe(true);
      else expect(constructed.get(object)).toBe(2);
    }
  });

  test('__GFP_ZERO clears the object and nothing else', () => {
    const machine = boot();
    for (const size of [8, 60, 192, 1000, 9000, 2 * MIB]) {
      const cache = machine.cache({ name: `zero-${size}`, size, flags: SLAB_NO_MERGE });
      const [a, b, c] = Array.from({ length: 3 }, () => cache.alloc(GFP_KERNEL));
      for (const object of [a, b, c]) machine.fill(object, size, 0xffff_ffff);
      cache.free(b);
      const zeroed = cache.alloc(GFP_KERNEL | __GFP_ZERO);
      expect(machine.holds(zeroed, size, 0)).toBe(true);
      expect(machine.holds(a, size, 0xffff_ffff) && machine.holds(c, size, 0xffff_ffff)).toBe(true);
      for (const object of [a, zeroed, c]) cache.free(object);
      expect(machine.slab.kmemCacheDestroy(cache)).toBe(0);
    }
  });

  test('objects may be freed on another CPU than they were allocated on', () => {
    const machine = boot();
    const cache = machine.cache({ size: 200 });
    const objects: VirtAddr[] = [];
    for (let round = 0; round < 20; round++) {
      machine.smp.processorId = round % 2;
      for (let i = 0; i < 50; i++) objects.push(cache.alloc(GFP_KERNEL));
      machine.smp.processorId = 1 - (round % 2);
      for (let i = 0; i < 30; i++) cache.free(objects.splice((i * 7) % objects.length, 1)[0]);
    }
    expect(cache.activeObjects).toBe(objects.length);
    expect(new Set(cache.liveObjects())).toEqual(new Set(objects));
    machine.validate();
  });

  test('many objects are allocated and freed at once, all or none of them', () => {
    const machine = boot();
    const cache = machine.cache({ size: 500 });
    const objects = new Float64Array(300);
    expect(cache.allocBulk(GFP_KERNEL, objects)).toBe(300);
    expect(new Set(objects).size).toBe(300);
    expect(cache.activeObjects).toBe(300);
    cache.freeBulk(objects);
    expect(cache.activeObjects).toBe(0);
    machine.budget = 3;
    expect(cache.allocBulk(QUIET, new Float64Array(3000))).toBe(0);
    expect(cache.activeObjects).toBe(0);
    machine.validate();
  });

  test('kmalloc of every size can be freed and told apart', () => {
    const machine = boot();
    const blocks = new Map<VirtAddr, number>();
    for (let size = 1; size < 20_000; size += size < 300 ? 1 : 173) {
      const block = machine.slab.kmalloc(size, GFP_KERNEL);
      machine.fill(block, size, size);
      blocks.set(block, size);
    }
    for (const [block, size] of blocks) {
      expect(machine.slab.ksize(block)).toBeGreaterThanOrEqual(size);
      expect(machine.slab.kmallocSizeRoundup(size)).toBeGreaterThanOrEqual(size);
      expect(machine.slab.kmallocSizeRoundup(size)).toBeLessThanOrEqual(machine.slab.ksize(block));
      expect(machine.holds(block, size, size)).toBe(true);
      machine.slab.kfree(block);
    }
    machine.validate();
  });
}

function defineMemoryTests(boot: Boot): void {
  test('a destroyed cache leaves no page behind', () => {
    const machine = boot();
    const before = machine.freePages();
    const cache = machine.cache({ size: 300, flags: SLAB_RECLAIM_ACCOUNT });
    const objects = Array.from({ length: 500 }, () => cache.alloc(GFP_KERNEL));
    expect(machine.pages.nodeState(NODE_STAT.NR_SLAB_RECLAIMABLE)).toBe(cache.nrPages);
    for (const object of objects) cache.free(object);
    expect(machine.slab.kmemCacheDestroy(cache)).toBe(0);
    expect(machine.freePages()).toBe(before);
    machine.validate();
    machine.pages.validate();
  });

  test('destroying a cache with a live object is refused, and the cache goes on', () => {
    const machine = boot();
    const cache = machine.cache({ size: 300 });
    const object = cache.alloc(GFP_KERNEL);
    machine.fill(object, 300, 42);
    expect(machine.slab.kmemCacheDestroy(cache)).toBe(-Errno.EBUSY);
    expect(machine.reports.map(({ kind }) => kind)).toEqual(['objects-remaining']);
    const other = cache.alloc(GFP_KERNEL);
    expect(machine.holds(object, 300, 42)).toBe(true);
    cache.free(object);
    cache.free(other);
    expect(machine.slab.kmemCacheDestroy(cache)).toBe(0);
  });

  test('shrinking gives back what it says, and every empty slab', () => {
    const machine = boot();
    const cache = machine.cache({ size: 512 });
    const objects = Array.from({ length: 400 }, () => cache.alloc(GFP_KERNEL));
    for (const object of objects.slice(1)) cache.free(object);
    const before = cache.nrPages;
    const given = cache.shrink();
    expect(cache.nrPages).toBe(before - given);
    expect(cache.nrPages).toBeLessThanOrEqual(2 ** cache.order);
    expect(cache.shrink()).toBe(0);
    machine.validate();
  });

  test('without memory an allocation returns 0, and goes on when there is some', () => {
    const machine = boot(64 * MIB);
    const start = machine.freePages();
    const cache = machine.cache({ size: 4096, flags: SLAB_NO_MERGE });
    const objects: VirtAddr[] = [];
    for (let object = cache.alloc(QUIET); object !== 0; object = cache.alloc(QUIET)) objects.push(object);
    expect(objects.length).toBeGreaterThan(start / 2);
    machine.validate();
    cache.free(objects.pop()!);
    expect(cache.alloc(QUIET)).not.toBe(0);
    for (const object of cache.liveObjects()) cache.free(object);
    expect(machine.slab.kmemCacheDestroy(cache)).toBe(0);
    expect(machine.freePages()).toBe(start);
  });

  test('a page allocation that fails inside leaves no trace, whichever it is', () => {
    for (let fails = 0; ; fails++) {
      const machine = boot(64 * MIB);
      const start = machine.freePages();
      machine.budget = fails;
      const objects: VirtAddr[] = [];
      const caches: KmemCache[] = [];
      for (let i = 0; i < 16; i++) {
        const made = machine.slab.kmemCacheCreate({ name: `sweep-${i}`, size: 64 + i * 60, flags: SLAB_NO_MERGE });
        if (typeof made === 'number') {
          expect(made).toBe(-Errno.ENOMEM);
          continue;
        }
        caches.push(made);
        const object = made.alloc(QUIET);
        if (object !== 0) objects.push(object);
      }
      const failed = machine.budget < 0;
      machine.budget = Infinity;
      machine.validate();
      for (const object of objects) machine.slab.kfree(object);
      for (const cache of caches) expect(machine.slab.kmemCacheDestroy(cache)).toBe(0);
      expect(machine.freePages()).toBe(start);
      machine.validate();
      if (!failed) return;
    }
  });
}

function defineMisuseTests(boot: Boot): void {
  test('a pointer that is no object is reported, and nothing happens to it', () => {
    const machine = boot();
    const cache = machine.cache({ size: 64 });
    const pfn = machine.pages.allocPage(GFP_KERNEL);
    const page = machine.pages.pageAddress(pfn);
    machine.fill(page, PAGE_SIZE, 7);
    for (const wild of [page, page + 64, 0x1234, -64]) cache.free(wild);
    expect(machine.reports.map(({ kind }) => kind)).toEqual(Array.from({ length: 4 }, () => 'invalid-free'));
    expect(machine.holds(page, PAGE_SIZE, 7)).toBe(true);
    machine.pages.freePage(pfn);
    machine.validate();
  });

  test('an object freed twice in a row is reported, and is handed out once', () => {
    const machine = boot();
    const cache = machine.cache({ size: 64 });
    const object = cache.alloc(GFP_KERNEL);
    cache.free(object);
    cache.free(object);
    expect(machine.reports).toMatchObject([{ kind: 'double-free', cache: 'contract', address: object }]);
    expect(cache.alloc(GFP_KERNEL)).not.toBe(cache.alloc(GFP_KERNEL));
    machine.validate();
  });

  test('an object of another cache is reported, and goes to its own', () => {
    const machine = boot();
    const a = machine.cache({ name: 'a', size: 64, flags: SLAB_NO_MERGE });
    const b = machine.cache({ name: 'b', size: 64, flags: SLAB_NO_MERGE });
    a.free(b.alloc(GFP_KERNEL));
    expect(machine.reports.map(({ kind }) => kind)).toEqual(['wrong-cache']);
    expect([a.activeObjects, b.activeObjects]).toEqual([0, 0]);
    machine.validate();
  });

  test('validate finds a slab that is not marked', () => {
    const machine = boot();
    const cache = machine.cache({ size: 64 });
    const object = cache.alloc(GFP_KERNEL);
    machine.pages.frames.mapping[machine.pages.virtToPfn(object)] = 0;
    expect(() => machine.slab.validate()).toThrow(KernelBug);
  });
}

/** A live block of the random test. */
interface Live {
  readonly address: VirtAddr;
  readonly bytes: number;
  readonly value: number;
}

function defineRandomTest(boot: Boot, { operations = 20_000, seed = 1 }: SlabContractOptions): void {
  test(`${operations} random operations on mixed caches keep every byte (seed ${seed})`, () => {
    const prng = new Prng(seed);
    const machine = boot(128 * MIB);
    const start = machine.freePages();
    const shapes: Omit<KmemCacheOptions, 'name'>[] = [
      { size: 16 },
      { size: 100, flags: SLAB_HWCACHE_ALIGN },
      { size: 256, flags: SLAB_RECLAIM_ACCOUNT },
      { size: 700, ctor: () => {} },
      { size: 1024, flags: SLAB_TYPESAFE_BY_RCU },
      { size: 3000, align: 128 },
      { size: 20_000 },
    ];
    const caches = shapes.map((shape, i) => machine.cache({ name: `random-${i}`, flags: SLAB_NO_MERGE, ...shape }));
    const live: Live[] = [];
    const perCache = new Map<KmemCache, number>(caches.map((cache) => [cache, 0]));
    const release = (index: number): void => {
      const { address, bytes, value } = live[index];
      live[index] = live[live.length - 1];
      live.pop();
      if (!machine.holds(address, bytes, value)) throw new Error(`a block of ${bytes} bytes lost its contents`);
      const cache = machine.slab.cacheOf(address);
      if (cache !== undefined && perCache.has(cache)) {
        perCache.set(cache, perCache.get(cache)! - 1);
        cache.free(address);
      } else machine.slab.kfree(address);
    };
    // Validating is dear: a long run does it a hundred times.
    const interval = Math.max(2000, Math.floor(operations / 100));
    // The number of live blocks swings, so that slabs fill and run empty.
    for (let step = 0; step < operations; step++) {
      machine.smp.processorId = prng.below(2);
      const wanted = 600 + Math.round(600 * Math.sin(step / 1500));
      if (prng.below(1200) >= wanted && live.length > 0) {
        release(prng.below(live.length));
      } else {
        const cache = caches[prng.below(caches.length * 2)];
        const bytes = cache?.objectSize ?? 1 + prng.below(prng.below(20) === 0 ? 30_000 : 600);
        const address = cache === undefined ? machine.slab.kmalloc(bytes, GFP_KERNEL) : cache.alloc(GFP_KERNEL);
        if (address === 0) throw new Error('out of memory');
        machine.fill(address, bytes, step);
        live.push({ address, bytes, value: step });
        if (cache !== undefined) perCache.set(cache, perCache.get(cache)! + 1);
      }
      if (step % interval === interval - 1) {
        machine.slab.validate();
        for (const [cache, count] of perCache) expect(cache.activeObjects).toBe(count);
        if (prng.below(3) === 0) caches[prng.below(caches.length)].shrink();
      }
    }
    while (live.length > 0) release(live.length - 1);
    machine.validate();
    for (const cache of caches) expect(machine.slab.kmemCacheDestroy(cache)).toBe(0);
    expect(machine.freePages()).toBe(start);
    machine.pages.validate();
    expect(machine.reports).toEqual([]);
  }, Math.max(20_000, operations / 10));
}
