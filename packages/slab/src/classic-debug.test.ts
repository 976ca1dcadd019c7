/** Planted bugs under SLAB: what debugging notices, and says as Linux up to 6.7 did; and what goes unnoticed without. */
import { describe, expect, test } from 'vitest';
import { GFP_KERNEL } from '@pagelab/mm-core';
import { ClassicSlabAllocator } from './classic-allocator.ts';
import { SLAB_NO_MERGE } from './flags.ts';
import type { KmemCache } from './kmem-cache.ts';
import type { SlabReport, SlabReportKind } from './report.ts';
import { createTestMachine } from './testing/test-machine.ts';

function boot(debug: boolean, wordBytes: 4 | 8 = 8) {
  const reports: SlabReport[] = [];
  const calls = { innermost: 'driver_probe' };
  const machine = createTestMachine({
    allocator: new ClassicSlabAllocator({ debug }),
    slubOptions: { kernel: '6.1', freelistHardening: 'none', wordBytes },
    report: (report) => reports.push(report),
    context: { caller: () => calls.innermost },
  });
  const cache = machine.slab.kmemCacheCreate({ name: 'victim', size: 100, flags: SLAB_NO_MERGE }) as KmemCache;
  const { memory } = machine.slab;
  const write = (address: number, ...bytes: number[]): void => bytes.forEach((byte, i) => memory.setByte(address + i, byte));
  const texts = (): string[] => reports.map(({ text }) => text);
  return { ...machine, cache, memory, reports, calls, write, texts };
}
type Rig = ReturnType<typeof boot>;

/** What is done wrong, and what a debugged SLAB says of it first. One that says nothing without debugging but for `always`. */
const BUGS: readonly (readonly [name: string, kind: SlabReportKind | 'nothing', plant: (rig: Rig) => void, always?: SlabReportKind])[] = [
  ['a byte written behind an object', 'redzone', ({ cache, write }) => freed(cache, (object) => write(object + 104, 0x41))],
  ['bytes between an object and its red zone written', 'nothing', ({ cache, write }) => freed(cache, (object) => write(object + 101, 0x41))],
  ['a byte written before an object', 'redzone', ({ cache, write }) => freed(cache, (object) => write(object - 1, 0x41))],
  ['a byte written behind a kmalloc block of 96 bytes', 'redzone', ({ slab, write }) => {
    const block = slab.kmalloc(96, GFP_KERNEL);
    write(block + 96, 0x41);
    slab.kfree(block);
  }],
  ['a byte written behind a kmalloc block of 64 bytes, which has no red zones', 'nothing', ({ slab, write }) => {
    const blocks = Array.from({ length: 64 }, () => slab.kmalloc(64, GFP_KERNEL)).sort((a, b) => a - b);
    const block = blocks.find((each, i) => blocks[i + 1] === each + 64)!;
    write(block + 64, 0x41);
    slab.kfree(block);
  }],
  ['a freed object written', 'poison', ({ cache, write }) => {
    const object = freed(cache);
    write(object + 16, 0x41, 0x42);
    cache.alloc(GFP_KERNEL);
  }],
  ['a bit of a freed object flipped', 'poison', ({ cache, write }) => {
    const object = freed(cache);
    write(object + 5, 0x6b ^ 0x10);
    cache.alloc(GFP_KERNEL);
  }],
  ['the last byte of a freed object written', 'poison', ({ cache, write }) => {
    const object = freed(cache);
    write(object + 99, 0);
    cache.alloc(GFP_KERNEL);
  }],
  ['a freed kmalloc block written', 'poison', ({ slab, write }) => {
    const block = slab.kmalloc(64, GFP_KERNEL);
    slab.kfree(block);
    write(block, 0);
    slab.kmalloc(64, GFP_KERNEL);
  }],
  ['a freed object written, of a slab that is given back', 'poison', ({ cache, write }) => {
    const object = cache.alloc(GFP_KERNEL);
    cache.free(object);
    write(object, 1);
    cache.shrink();
  }],
  ['the red zone behind a freed object written', 'redzone', ({ cache, write }) => {
    const object = freed(cache);
    write(object + 104, 0);
    cache.alloc(GFP_KERNEL);
  }],
  ['the red zone before a freed object of a slab that is given back, written', 'redzone', ({ cache, write }) => {
    const object = cache.alloc(GFP_KERNEL);
    cache.free(object);
    write(object - 2, 0);
    cache.shrink();
  }],
  ['an object freed twice in a row', 'double-free', ({ cache }) => cache.free(freed(cache))],
  ['an object freed twice, another in between', 'double-free', ({ cache }) => {
    const [a, b] = [cache.alloc(GFP_KERNEL), cache.alloc(GFP_KERNEL)];
    for (const object of [a, b, a]) cache.free(object);
  }],
  ['a kmalloc block without red zones freed twice', 'double-free', ({ slab }) => {
    const block = slab.kmalloc(128, GFP_KERNEL);
    slab.kfree(block);
    slab.kfree(block);
  }],
  ['a pointer into an object freed', 'invalid-free', ({ cache }) => cache.free(cache.alloc(GFP_KERNEL) + 8)],
  ['a pointer into a kmalloc block freed', 'invalid-free', ({ slab }) => slab.kfree(slab.kmalloc(128, GFP_KERNEL) + 16)],
  ['a kmalloc block freed to a cache', 'wrong-cache', ({ cache, slab }) => cache.free(slab.kmalloc(100, GFP_KERNEL))],
  ['a user address freed', 'invalid-free', ({ slab }) => slab.kfree(0x7fff_1234), 'invalid-free'],
  ['a page freed as an object', 'invalid-free', ({ cache, pages }) => cache.free(pages.pageAddress(pages.allocPages(GFP_KERNEL, 0))), 'invalid-free'],
  ['a constructor that writes too much', 'redzone', ({ slab, write }) => {
    const made = slab.kmemCacheCreate({ name: 'typesafe', size: 64, flags: 0x0008_0000, ctor: (object) => write(object + 64, 1) }) as KmemCache;
    made.alloc(GFP_KERNEL);
  }],
  ['a cache destroyed while an object lives', 'objects-remaining', ({ cache, slab }) => {
    cache.alloc(GFP_KERNEL);
    slab.kmemCacheDestroy(cache);
  }, 'objects-remaining'],
];

/** An object that was allocated and freed, and what happened to it meanwhile. */
function freed(cache: KmemCache, meanwhile: (object: number) => void = () => {}): number {
  cache.alloc(GFP_KERNEL);
  const object = cache.alloc(GFP_KERNEL);
  meanwhile(object);
  cache.free(object);
  return object;
}

describe.each(BUGS.map(([name, kind, plant, always]) => ({ name, kind, plant, always })))('$name', ({ kind, plant, always }) => {
  test.each([8, 4] as const)('is noticed by debugging, with words of %i bytes', (wordBytes) => {
    const rig = boot(true, wordBytes);
    plant(rig);
    expect(rig.reports[0]?.kind ?? 'nothing').toBe(kind);
    // The kernel goes on.
    const before = rig.reports.length;
    const [a, b] = [rig.slab.kmalloc(40, GFP_KERNEL), rig.slab.kmalloc(40, GFP_KERNEL)];
    expect(a).not.toBe(b);
    rig.slab.kfree(a);
    expect(rig.reports).toHaveLength(before);
  });

  test('goes unnoticed without', () => {
    const rig = boot(false);
    plant(rig);
    expect(rig.reports.map((report) => report.kind)).toEqual(always === undefined ? [] : [always]);
  });
});

test('there are at least twenty of them', () => {
  expect(BUGS.length).toBeGreaterThanOrEqual(20);
});

describe('reports', () => {
  test('of red zones have what they hold', () => {
    const { cache, write, texts, memory } = boot(true);
    const object = freed(cache, (at) => write(at + 104, 0x41, 0x42));
    const [text] = texts();
    expect(text.split('\n')).toEqual([
      "slab error in verify_redzone_free(): cache `victim': memory outside object was overwritten",
      `${memory.format(object - 8)}: redzone 1:0xd84156c5635688c0, redzone 2:0xd84156c563564241`,
    ]);
  });

  test('of an object freed twice', () => {
    const { cache, texts } = boot(true);
    cache.free(freed(cache));
    expect(texts()[0]).toMatch(
      /^slab error in verify_redzone_free\(\): cache `victim': double free detected\n[0-9a-f]{16}: redzone 1:0x9f911029d74e35b, redzone 2:0x9f911029d74e35b$/,
    );
  });

  test('of a free object that was written to show it, its last user and its neighbours', () => {
    const { cache, write, texts, memory, calls } = boot(true);
    const objects = [cache.alloc(GFP_KERNEL), cache.alloc(GFP_KERNEL), cache.alloc(GFP_KERNEL)].sort((a, b) => a - b);
    const object = objects[1];
    calls.innermost = 'driver_remove';
    cache.free(object);
    write(object + 32, 0x6a);
    cache.alloc(GFP_KERNEL);
    const lines = texts()[0].split('\n');
    expect(lines.slice(0, 3)).toEqual([
      `Slab corruption (Not tainted): victim start=${memory.format(object)}, len=100`,
      'Redzone: 0x9f911029d74e35b/0x9f911029d74e35b',
      'Last user: (driver_remove)',
    ]);
    expect(lines.slice(3, 6)).toEqual([
      '020: 6a 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b 6b  jkkkkkkkkkkkkkkk',
      'Single bit error detected. Probably bad RAM.',
      'Run memtest86+ or a similar memory test tool.',
    ]);
    expect(lines).toContain(`Prev obj: start=${memory.format(objects[0])}, len=100`);
    expect(lines).toContain(`Next obj: start=${memory.format(objects[2])}, len=100`);
    expect(lines).toContain('Last user: (driver_probe)');
  });
});

describe('the layout of debugged objects', () => {
  // Red zones of 8 bytes on both sides and the user's word; none where objects lie at multiples of more than 8.
  test.each([
    [100, 0, 8, 128],
    [100, 64, 8, 128],
    [64, 0, 8, 88],
    [2000, 0, 8, 2024],
    [4096, 0, 8, 4096],
    [5000, 0, 8, 5024],
    [100, 0, 4, 128],
  ] as const)('of %i bytes at multiples of %i, words of %i', (size, align, wordBytes, expected) => {
    const { slab } = boot(true, wordBytes);
    expect((slab.kmemCacheCreate({ name: 'shape', size, align }) as KmemCache).size).toBe(expected);
  });
});
