import { Prng } from '@pagelab/lib';
import { describe, expect, it } from 'vitest';
import { M_MMAP_THRESHOLD, M_MXFAST } from '../malloc.ts';
import { FlatOs } from '../testing/flat-os.ts';
import { Dlmalloc } from './dlmalloc.ts';
import { bitOf, firstBit, treeIndex } from './layout.ts';

const KIB = 1024;

describe('the trees of dlmalloc', () => {
  it('are two for each power of two, in order', () => {
    let last = treeIndex(256);
    expect(last).toBe(0);
    for (let size = 272; size < 2 ** 25; size += 16 * (1 + (size >>> 9))) {
      const index = treeIndex(size);
      expect(index === last || index === last + 1).toBe(true);
      last = index;
    }
    expect(last).toBe(31);
  });

  it('branch by the bits below those that choose the tree', () => {
    // 1.5 * 2^k and 2^k begin trees of their own, so that the first bit to decide is that of 2^(k-2).
    expect(bitOf(1024 + 256, firstBit(treeIndex(1024)))).toBe(1);
    expect(bitOf(1024 + 128, firstBit(treeIndex(1024)))).toBe(0);
    expect(bitOf(2 ** 40, 40)).toBe(1);
    expect(bitOf(5, -1)).toBe(0);
  });
});

describe('dlmalloc', () => {
  it('finds the best fit of all free chunks', () => {
    const random = new Prng(7);
    const malloc = new Dlmalloc(new FlatOs());
    const holes = new Map<number, number>();
    for (let i = 0; i < 300; i++) {
      const size = 300 + 16 * random.below(2000);
      holes.set(malloc.malloc(size), size);
      malloc.malloc(10);
    }
    // Uses up what is left of top's neighbourhood, so that only the holes fit.
    for (const hole of holes.keys()) malloc.free(hole);
    malloc.validate();
    for (let i = 0; i < 100; i++) {
      const request = 300 + 16 * random.below(1500);
      const fits = [...holes].filter(([hole]) => malloc.mallocUsableSize(hole) >= request);
      const best = Math.min(...fits.map(([hole]) => malloc.mallocUsableSize(hole)));
      const block = malloc.malloc(request);
      const usable = holes.has(block) ? best : 0;
      expect(usable).toBe(best);
      // The whole hole is taken again, so that holes stay apart.
      malloc.free(block);
    }
    malloc.validate();
  });

  it('serves small requests from what the last one left, side by side', () => {
    const malloc = new Dlmalloc(new FlatOs());
    const hole = malloc.malloc(2000);
    malloc.malloc(10);
    malloc.free(hole);
    expect([1, 2, 3].map(() => malloc.malloc(40) - hole)).toEqual([0, 48, 96]);
    malloc.validate();
  });

  it('begins a new segment where someone else moved the break, and keeps the record of the old one in it', () => {
    const os = new FlatOs({ heapBytes: 1024 * KIB });
    const malloc = new Dlmalloc(os);
    const blocks = [malloc.malloc(1000)];
    for (let i = 0; i < 30; i++) {
      if (i % 5 === 0 && i < 15) os.sbrk(4096);
      blocks.push(malloc.malloc(60_000));
      malloc.validate();
    }
    expect(blocks).not.toContain(0);
    for (const block of blocks) malloc.free(block);
    malloc.validate();
    const { arena } = malloc.mallinfo2();
    malloc.mallocTrim(0);
    expect(malloc.mallinfo2().arena).toBeLessThan(arena);
    malloc.validate();
  });

  it('maps large blocks, resizes them with mremap, and unmaps them', () => {
    const os = new FlatOs();
    const malloc = new Dlmalloc(os);
    malloc.malloc(1);
    let block = malloc.malloc(300 * KIB);
    expect(malloc.mallinfo2().hblks).toBe(1);
    os.mem.fill(block, 300 * KIB, 0x42);
    block = malloc.realloc(block, 2000 * KIB);
    expect(os.mem.findNot(block, 300 * KIB, 0x42)).toBe(-1);
    malloc.free(block);
    expect(malloc.mallinfo2()).toMatchObject({ hblks: 0, hblkhd: 0 });
    expect(malloc.mallopt(M_MMAP_THRESHOLD, 2 ** 30)).toBe(1);
    expect(malloc.mallopt(M_MXFAST, 1)).toBe(0);
    malloc.malloc(300 * KIB);
    expect(malloc.mallinfo2().hblks).toBe(0);
    malloc.validate();
  });

  it('gives top back once it is larger than 2 MiB', () => {
    const os = new FlatOs();
    const malloc = new Dlmalloc(os);
    const start = os.sbrk(0);
    const blocks = Array.from({ length: 40 }, () => malloc.malloc(200 * KIB));
    expect(os.sbrk(0) - start).toBeGreaterThan(7000 * KIB);
    for (const block of blocks) malloc.free(block);
    expect(os.sbrk(0) - start).toBeLessThan(2200 * KIB);
    malloc.validate();
  });

  it('keeps all its state in memory', () => {
    const os = new FlatOs();
    const first = new Dlmalloc(os);
    const block = first.malloc(500);
    first.malloc(10);
    const second = new Dlmalloc(os, { attach: first.dataSegment });
    second.free(block);
    expect(first.malloc(500)).toBe(block);
    second.validate();
  });

  it('finds damage with its validator', () => {
    const damages: [string, (os: FlatOs, block: number) => void][] = [
      ['the next chunk is wrong', (os, block) => os.mem.store32(block + 1008 - 8, 1008 + 3)],
      ['not its size', (os, block) => os.mem.storeAddress(block + 1008 - 16, 16)],
      ['bk does not lead back', (os, block) => os.mem.storeAddress(block + 8, block)],
      ['parent does not lead back', (os, block) => os.mem.storeAddress(block + 32, 64)],
    ];
    for (const [message, damage] of damages) {
      const os = new FlatOs();
      const malloc = new Dlmalloc(os);
      const block = malloc.malloc(1000);
      malloc.malloc(1000);
      malloc.free(block);
      malloc.validate();
      damage(os, block);
      expect(() => malloc.validate()).toThrow(message);
    }
  });
});
