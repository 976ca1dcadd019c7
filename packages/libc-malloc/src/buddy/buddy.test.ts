import { describe, expect, it } from 'vitest';
import { FlatOs } from '../testing/flat-os.ts';
import { Buddy } from './buddy.ts';
import { FIRST_BLOCK, MAP, REGION_SIZE, USED } from './layout.ts';

const KIB = 1024;

describe('buddy', () => {
  it('gives powers of two, aligned to their size', () => {
    const malloc = new Buddy(new FlatOs());
    for (const [size, block] of [[1, 32], [33, 64], [64, 64], [1000, 1024], [1025, 2048], [300_000, 524_288]]) {
      const ptr = malloc.malloc(size);
      expect(malloc.mallocUsableSize(ptr)).toBe(block);
      expect(ptr % block).toBe(0);
    }
    malloc.validate();
  });

  it('splits a block down to the request, and joins the buddies again', () => {
    const malloc = new Buddy(new FlatOs());
    malloc.free(malloc.malloc(1));
    const whole = malloc.mallinfo2();
    const blocks = Array.from({ length: 100 }, (_, i) => malloc.malloc(20 * i));
    expect(malloc.mallinfo2().fordblks).toBeLessThan(whole.fordblks);
    for (const block of blocks) malloc.free(block);
    expect(malloc.mallinfo2()).toEqual(whole);
    malloc.validate();
  });

  it('grows into free buddies above, and shrinks where it stands', () => {
    const malloc = new Buddy(new FlatOs());
    const wide = malloc.malloc(4000);
    expect(malloc.realloc(wide, 100)).toBe(wide);
    expect(malloc.realloc(wide, 4000)).toBe(wide);
    malloc.validate();
  });

  it('maps what is too large for a region, resizes it in place or moves it, and gives it back', () => {
    const os = new FlatOs();
    const malloc = new Buddy(os);
    let block = malloc.malloc(600 * KIB);
    os.mem.fill(block, 600 * KIB, 0x42);
    expect(malloc.mallinfo2()).toMatchObject({ hblks: 1, hblkhd: 604 * KIB });
    block = malloc.realloc(block, 3000 * KIB);
    expect(os.mem.findNot(block, 600 * KIB, 0x42)).toBe(-1);
    block = malloc.realloc(block, 100);
    expect(os.mem.findNot(block, 100, 0x42)).toBe(-1);
    expect(malloc.mallinfo2()).toMatchObject({ hblks: 0, hblkhd: 0 });
    for (const alignment of [2 ** 16, 2 ** 20, 2 ** 22]) {
      const aligned = malloc.memalign(alignment, 700 * KIB);
      expect(aligned % alignment).toBe(0);
      os.mem.fill(aligned, 700 * KIB, 1);
      malloc.free(aligned);
    }
    malloc.validate();
  });

  it('unmaps regions in which nothing is in use, when told to trim', () => {
    const malloc = new Buddy(new FlatOs());
    const blocks = Array.from({ length: 40 }, () => malloc.malloc(100 * KIB));
    expect(malloc.mallinfo2().arena).toBeGreaterThan(4 * REGION_SIZE);
    expect(malloc.mallocTrim()).toBe(0);
    for (const block of blocks) malloc.free(block);
    expect(malloc.mallocTrim()).toBe(1);
    expect(malloc.mallinfo2().arena).toBe(0);
    malloc.validate();
    expect(malloc.malloc(10)).not.toBe(0);
  });

  it('keeps all its state in memory', () => {
    const os = new FlatOs();
    const first = new Buddy(os);
    const block = first.malloc(500);
    const second = new Buddy(os, { attach: first.dataSegment });
    second.free(block);
    expect(first.mallinfo2()).toEqual(second.mallinfo2());
    expect(() => {
      first.free(block);
    }).toThrow('buddy: free(): block is free already');
    second.validate();
  });

  it('finds damage with its validator', () => {
    const os = new FlatOs();
    const malloc = new Buddy(os);
    const block = malloc.malloc(100);
    const region = block - (block % REGION_SIZE);
    malloc.validate();
    os.mem.store8(region + MAP + ((block - region) >>> 5), USED + 8);
    expect(() => malloc.validate()).toThrow('buddy heap');
    os.mem.store8(region + MAP + ((block - region) >>> 5), USED + 7);
    malloc.validate();
    os.mem.store8(region + MAP + (FIRST_BLOCK >>> 5), 0);
    expect(() => malloc.validate()).toThrow('the map holds no block');
  });
});
