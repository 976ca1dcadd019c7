/**
 * Planted bugs: what a driver does wrong, and which level of debugging notices it. A level that should not notice says
 * nothing at all.
 */
import { describe, expect, test } from 'vitest';
import type { VirtAddr } from '@pagelab/abi';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { SLAB_NO_MERGE, SLAB_RED_ZONE, SLAB_TYPESAFE_BY_RCU } from './flags.ts';
import type { FreelistHardening } from './host.ts';
import type { KmemCache } from './kmem-cache.ts';
import type { SlabReport, SlabReportKind } from './report.ts';
import { createTestMachine } from './testing/test-machine.ts';

/** What the kernel is built and booted with. */
const LEVELS = {
  nothing: { debug: '-', hardening: 'none' },
  checks: { debug: '-', hardening: 'checks' },
  hardened: { debug: '-', hardening: 'full' },
  U: { debug: 'U', hardening: 'none' },
  P: { debug: 'P', hardening: 'none' },
  F: { debug: 'F', hardening: 'none' },
  FZ: { debug: 'FZ', hardening: 'none' },
  FP: { debug: 'FP', hardening: 'none' },
  FZP: { debug: 'FZP', hardening: 'none' },
  FZPU: { debug: 'FZPU', hardening: 'none' },
} as const satisfies Readonly<Record<string, { debug: string; hardening: FreelistHardening }>>;
type Level = keyof typeof LEVELS;

const EVERY_LEVEL = Object.keys(LEVELS) as Level[];
const DEBUGGED: Level[] = ['F', 'FZ', 'FP', 'FZP', 'FZPU'];
const RED_ZONES: Level[] = ['FZ', 'FZP', 'FZPU'];
const POISONED: Level[] = ['FP', 'FZP', 'FZPU'];

function boot(level: Level) {
  const { debug, hardening } = LEVELS[level];
  const reports: SlabReport[] = [];
  const machine = createTestMachine({
    slubOptions: { debug, freelistHardening: hardening },
    report: (report) => reports.push(report),
    context: { clock: { now: 4e9 }, pid: () => 42 },
  });
  const memory = machine.slab.memory;
  const cache = machine.slab.kmemCacheCreate({ name: 'victim', size: 100, flags: SLAB_NO_MERGE }) as KmemCache;
  const write = (address: VirtAddr, ...bytes: number[]): void => bytes.forEach((byte, i) => memory.setByte(address + i, byte));
  return { ...machine, memory, cache, reports, write, other: (flags = 0, size = 100): KmemCache => machine.slab.kmemCacheCreate({ name: 'other', size, flags: flags | SLAB_NO_MERGE }) as KmemCache };
}
type Rig = ReturnType<typeof boot>;

type Caught = Partial<Record<Level, SlabReportKind | `${SlabReportKind}: ${string}`>>;

/** The same at each of these levels. */
function at(levels: readonly Level[], what: NonNullable<Caught[Level]>): Caught {
  return Object.fromEntries(levels.map((level) => [level, what]));
}

interface PlantedBug {
  readonly name: string;
  /** Levels that notice it, and what their first report says: its kind, and which bytes were overwritten. */
  readonly caughtBy: Caught;
  plant(rig: Rig, level: Level): void;
}

const BUGS: readonly PlantedBug[] = [
  {
    name: 'one byte written behind an object',
    caughtBy: { ...at(RED_ZONES, 'redzone: Right Redzone'), FP: 'padding: Alignment padding' },
    plant: ({ cache, write }) => {
      const object = cache.alloc(GFP_KERNEL);
      write(object + 100, 0x41);
      cache.free(object);
    },
  },
  {
    name: 'one byte written before an object',
    caughtBy: at(RED_ZONES, 'redzone: Left Redzone'),
    plant: ({ cache, write }) => {
      cache.alloc(GFP_KERNEL);
      const object = cache.alloc(GFP_KERNEL);
      write(object - 1, 0x41);
      cache.free(object);
    },
  },
  {
    name: 'a word written before an object',
    caughtBy: at(RED_ZONES, 'redzone: Left Redzone'),
    plant: ({ cache, write }) => {
      cache.alloc(GFP_KERNEL);
      const object = cache.alloc(GFP_KERNEL);
      write(object - 4, 1, 2, 3, 4);
      cache.free(object);
    },
  },
  {
    name: 'a kmalloc block written one byte too far within its size class',
    caughtBy: at(['FZPU'], 'redzone: kmalloc Redzone'),
    plant: ({ slab, write }) => {
      const block = slab.kmalloc(50, GFP_KERNEL);
      write(block + 50, 0);
      slab.kfree(block);
    },
  },
  {
    name: 'a kmalloc block written one byte beyond its size class',
    // With poison and without red zones the free pointer lies there.
    caughtBy: { ...at(RED_ZONES, 'redzone: Right Redzone'), FP: 'freelist-corrupt' },
    plant: ({ slab, write }) => {
      slab.kmalloc(64, GFP_KERNEL);
      const block = slab.kmalloc(64, GFP_KERNEL);
      write(block + 64, 0x41);
      slab.kfree(block);
    },
  },
  {
    name: 'the bytes that a krealloc gave up, written',
    caughtBy: at(['FZPU'], 'redzone: kmalloc Redzone'),
    plant: ({ slab, write }) => {
      const block = slab.krealloc(slab.kmalloc(60, GFP_KERNEL), 20, GFP_KERNEL);
      write(block + 30, 0x41);
      slab.kfree(block);
    },
  },
  {
    name: 'the bytes that round an object and its tracks up, written',
    caughtBy: { FP: 'padding: Object padding', FZP: 'padding: Object padding', FZPU: 'padding: Object padding' },
    plant: ({ slab, write }) => {
      const cache = slab.kmemCacheCreate({ name: 'aligned', size: 200, align: 128, flags: SLAB_NO_MERGE }) as KmemCache;
      const object = cache.alloc(GFP_KERNEL);
      cache.alloc(GFP_KERNEL);
      // The red zone before the next object is 128 bytes long.
      const pad = (cache.flags & SLAB_RED_ZONE) !== 0 ? 129 : 1;
      write(object + cache.size - pad, 0x41);
      cache.free(object);
    },
  },
  {
    name: 'the bytes between the last object and the end of the slab, written',
    caughtBy: at(POISONED, 'padding: Padding'),
    plant: ({ cache, write }) => {
      const object = cache.alloc(GFP_KERNEL);
      write(Math.floor(object / 4096) * 4096 + 4096 * 2 ** cache.order - 1, 0x41);
      cache.free(object);
    },
  },
  {
    name: 'a freed object written',
    caughtBy: at(POISONED, 'poison: Poison'),
    plant: ({ cache, write }) => {
      cache.alloc(GFP_KERNEL);
      const object = cache.alloc(GFP_KERNEL);
      cache.free(object);
      write(object + 16, 0x41, 0x42);
      cache.alloc(GFP_KERNEL);
    },
  },
  {
    name: 'the last byte of a freed object written',
    caughtBy: at(POISONED, 'poison: End Poison'),
    plant: ({ cache, write }) => {
      cache.alloc(GFP_KERNEL);
      const object = cache.alloc(GFP_KERNEL);
      cache.free(object);
      write(object + 99, 0);
      cache.alloc(GFP_KERNEL);
    },
  },
  {
    name: 'a freed object written, of a slab that is given back before it is handed out again',
    caughtBy: at(POISONED, 'poison: Poison'),
    plant: ({ cache, write }) => {
      const object = cache.alloc(GFP_KERNEL);
      cache.free(object);
      write(object, 1);
      cache.shrink();
    },
  },
  {
    name: 'a freed kmalloc block counted up, as a reference count is',
    caughtBy: at(POISONED, 'poison: Poison'),
    plant: ({ slab, write, memory }) => {
      slab.kmalloc(64, GFP_KERNEL);
      const block = slab.kmalloc(64, GFP_KERNEL);
      slab.kfree(block);
      write(block, memory.byte(block) + 1);
      slab.kmalloc(64, GFP_KERNEL);
    },
  },
  {
    name: 'a freed object written behind its end',
    caughtBy: { ...at(RED_ZONES, 'redzone: Right Redzone'), FP: 'padding: Alignment padding' },
    plant: ({ cache, write }) => {
      cache.alloc(GFP_KERNEL);
      const object = cache.alloc(GFP_KERNEL);
      cache.free(object);
      write(object + 102, 0);
      cache.alloc(GFP_KERNEL);
    },
  },
  {
    name: 'an object freed twice in a row',
    caughtBy: at(['checks', 'hardened', ...DEBUGGED], 'double-free'),
    plant: ({ cache }) => {
      cache.alloc(GFP_KERNEL);
      const object = cache.alloc(GFP_KERNEL);
      cache.free(object);
      cache.free(object);
    },
  },
  {
    name: 'an object freed twice, another in between',
    caughtBy: at(DEBUGGED, 'double-free'),
    plant: ({ cache }) => {
      const [a, b] = [cache.alloc(GFP_KERNEL), cache.alloc(GFP_KERNEL)];
      cache.alloc(GFP_KERNEL);
      cache.free(a);
      cache.free(b);
      cache.free(a);
    },
  },
  {
    name: 'a kmalloc block freed twice',
    caughtBy: at(['checks', 'hardened', ...DEBUGGED], 'double-free'),
    plant: ({ slab }) => {
      slab.kmalloc(200, GFP_KERNEL);
      const block = slab.kmalloc(200, GFP_KERNEL);
      slab.kfree(block);
      slab.kfree(block);
    },
  },
  {
    name: 'a pointer into the middle of an object freed',
    caughtBy: at(DEBUGGED, 'invalid-free'),
    plant: ({ cache }) => {
      const object = cache.alloc(GFP_KERNEL);
      cache.alloc(GFP_KERNEL);
      cache.free(object + 8);
    },
  },
  {
    name: 'a pointer into the middle of a kmalloc block freed',
    caughtBy: at(DEBUGGED, 'invalid-free'),
    plant: ({ slab }) => {
      const block = slab.kmalloc(128, GFP_KERNEL);
      slab.kmalloc(128, GFP_KERNEL);
      slab.kfree(block + 16);
    },
  },
  {
    name: 'an object freed to another cache',
    caughtBy: at(['checks', 'hardened', ...DEBUGGED], 'wrong-cache'),
    plant: ({ cache, other }) => {
      cache.free(other(0, 300).alloc(GFP_KERNEL));
    },
  },
  {
    name: 'a kmalloc block freed to a cache',
    caughtBy: at(['checks', 'hardened', ...DEBUGGED], 'wrong-cache'),
    plant: ({ cache, slab }) => {
      cache.free(slab.kmalloc(100, GFP_KERNEL));
    },
  },
  {
    name: 'a user address freed',
    caughtBy: at(EVERY_LEVEL, 'invalid-free'),
    plant: ({ slab }) => {
      slab.kfree(0x7fff_1234_5678);
    },
  },
  {
    name: 'a page of the page allocator freed as an object',
    caughtBy: at(EVERY_LEVEL, 'invalid-free'),
    plant: ({ cache, pages }) => {
      const pfn = pages.allocPages(GFP_KERNEL, 0);
      cache.free(-0x7780_0000_0000 + pfn * 4096);
    },
  },
  {
    name: 'the middle of a large kmalloc block freed',
    caughtBy: at(EVERY_LEVEL, 'invalid-free'),
    plant: ({ slab }) => {
      slab.kfree(slab.kmalloc(50_000, GFP_KERNEL) + 4096);
    },
  },
  {
    name: 'a cache destroyed while an object lives',
    caughtBy: at(EVERY_LEVEL, 'objects-remaining'),
    plant: ({ cache, slab }) => {
      cache.alloc(GFP_KERNEL);
      slab.kmemCacheDestroy(cache);
    },
  },
  {
    name: 'the free pointer behind a live object overwritten',
    caughtBy: at(DEBUGGED, 'freelist-corrupt'),
    plant: ({ other, write }, level) => {
      const cache = other(SLAB_TYPESAFE_BY_RCU, 64);
      const object = cache.alloc(GFP_KERNEL);
      write(object + (RED_ZONES.includes(level) ? 72 : 64), 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41, 0x41);
      cache.free(object);
    },
  },
];

/** Bugs that the level's layout has no room for. */
function applies(bug: PlantedBug, rig: Rig): boolean {
  return !bug.name.includes('end of the slab') || (4096 * 2 ** rig.cache.order) % rig.cache.size > 0;
}

describe.each(BUGS)('$name', (bug) => {
  test.each(EVERY_LEVEL)('with %s', (level) => {
    const rig = boot(level);
    if (!applies(bug, rig)) return;
    bug.plant(rig, level);
    const caught = rig.reports.map(({ kind, corruption }) => (corruption === undefined ? kind : `${kind}: ${corruption.what}`));
    const wanted = bug.caughtBy[level];
    if (wanted === undefined) {
      expect(caught).toEqual([]);
      return;
    }
    expect(caught[0]).toBe(wanted);
    // The kernel goes on: what is handed out is sound.
    const before = rig.reports.length;
    const again = [rig.cache.alloc(GFP_KERNEL), rig.cache.alloc(GFP_KERNEL), rig.slab.kmalloc(64, GFP_KERNEL)];
    expect(new Set(again).size).toBe(3);
    expect(again).not.toContain(0);
    rig.cache.free(again[1]);
    rig.slab.kfree(again[2]);
    expect(rig.reports).toHaveLength(before);
  });
});

test('there are at least twenty of them', () => {
  expect(BUGS.length).toBeGreaterThanOrEqual(20);
});
