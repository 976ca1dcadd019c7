import { describe, expect, it } from 'vitest';
import { countAccesses } from '../testing/counting-memory.ts';
import { FlatOs } from '../testing/flat-os.ts';
import { BIN_HUGE, LARGE_BLOCK_MAX, SEGMENT_SIZE, binOf, binWords } from './layout.ts';
import { Mimalloc } from './mimalloc.ts';

const KIB = 1024;
const segmentOf = (block: number): number => block - (block % SEGMENT_SIZE);

describe('the size classes of mimalloc', () => {
  it('waste an eighth at most, and are multiples of 16 bytes', () => {
    let last = 2;
    for (let words = 1; words <= LARGE_BLOCK_MAX / 8; words += 1 + (words >>> 8)) {
      const bin = binOf(words);
      const size = binWords(bin);
      expect(bin).toBeGreaterThanOrEqual(last);
      expect(bin).toBeLessThan(BIN_HUGE);
      expect(size % 2).toBe(0);
      expect(size).toBeGreaterThanOrEqual(words);
      if (words > 16) expect(size - words).toBeLessThanOrEqual(size / 5);
      last = bin;
    }
  });
});

describe('mimalloc', () => {
  it('takes a handful of accesses for a malloc and a free', () => {
    const { os, count } = countAccesses(new FlatOs());
    const malloc = new Mimalloc(os);
    const blocks = Array.from({ length: 100 }, () => malloc.malloc(40));
    const before = count();
    const block = malloc.malloc(40);
    expect(count() - before).toBeLessThanOrEqual(6);
    const middle = count();
    malloc.free(block);
    expect(count() - middle).toBeLessThanOrEqual(16);
    malloc.free(blocks[0]);
  });

  it('gives fresh blocks of a size side by side, whatever else is asked for', () => {
    const malloc = new Mimalloc(new FlatOs());
    const blocks = Array.from({ length: 20 }, () => {
      malloc.malloc(500);
      return malloc.malloc(48);
    });
    for (let i = 1; i < blocks.length; i++) expect(blocks[i] - blocks[i - 1]).toBe(48);
  });

  it('gives a freed block out again only once its page is gone through', () => {
    const malloc = new Mimalloc(new FlatOs());
    const first = malloc.malloc(1000);
    const others = [malloc.malloc(1000), malloc.malloc(1000)];
    malloc.free(first);
    const next = malloc.malloc(1000);
    expect([first, ...others]).not.toContain(next);
    const later = Array.from({ length: 20 }, () => malloc.malloc(1000));
    expect(later).toContain(first);
  });

  it('keeps the blocks of threads in segments of their own, and takes foreign frees up later', () => {
    const os = new FlatOs();
    const malloc = new Mimalloc(os);
    const thread = malloc.thread();
    const blocks = Array.from({ length: 70 }, () => thread.malloc(1000));
    expect(segmentOf(malloc.malloc(1000))).not.toBe(segmentOf(blocks[0]));
    const used = malloc.mallinfo2().uordblks;
    for (const block of blocks) malloc.free(block);
    // They count as used until their own thread comes by.
    expect(malloc.mallinfo2().uordblks).toBe(used);
    malloc.validate();
    const again = Array.from({ length: 130 }, () => thread.malloc(1000));
    expect(again.filter((block) => blocks.includes(block)).length).toBeGreaterThan(50);
    malloc.validate();
  });

  it('leaves segments of ended threads to the next that needs one', () => {
    const malloc = new Mimalloc(new FlatOs());
    const ended = malloc.thread();
    const blocks = Array.from({ length: 10 }, () => ended.malloc(300));
    const empty = malloc.thread();
    empty.free(empty.malloc(3000));
    const before = malloc.mallinfo2().arena;
    empty.threadExit();
    expect(malloc.mallinfo2().arena).toBe(before - SEGMENT_SIZE);
    ended.threadExit();
    malloc.validate();
    malloc.free(blocks[0]);
    malloc.validate();
    const heir = malloc.thread();
    expect(segmentOf(heir.malloc(300))).toBe(segmentOf(blocks[0]));
    heir.free(blocks[1]);
    malloc.validate();
  });

  it('maps a segment for a huge block, which any thread can free', () => {
    const os = new FlatOs();
    const malloc = new Mimalloc(os);
    const thread = malloc.thread();
    const block = thread.malloc(5000 * KIB);
    os.mem.fill(block, 5000 * KIB, 1);
    expect(malloc.mallinfo2().hblks).toBe(1);
    malloc.free(block);
    expect(malloc.mallinfo2()).toMatchObject({ hblks: 0, hblkhd: 0 });
    expect(() => os.mem.load8(block)).toThrow();
    malloc.validate();
  });

  it('keeps all its state in memory', () => {
    const os = new FlatOs();
    const first = new Mimalloc(os, { secure: true });
    const block = first.malloc(500);
    const second = new Mimalloc(os, { attach: first.dataSegment });
    second.free(block);
    second.validate();
    expect(() => {
      first.free(block);
    }).toThrow('mimalloc: double free detected');
  });

  it('encodes the links of free blocks in secure mode, by a seed', () => {
    const links = [1, 2].map((seed) => {
      const os = new FlatOs();
      const malloc = new Mimalloc(os, { secure: true, seed });
      const [first, second] = [malloc.malloc(64), malloc.malloc(64)];
      malloc.free(first);
      malloc.free(second);
      const link = os.mem.load64(second);
      expect(link).not.toBe(BigInt(first));
      return link;
    });
    expect(links[0]).not.toBe(links[1]);
  });

  it('finds damage with its validator', () => {
    const os = new FlatOs();
    const malloc = new Mimalloc(os);
    const blocks = [malloc.malloc(64), malloc.malloc(64), malloc.malloc(64)];
    malloc.free(blocks[0]);
    malloc.free(blocks[1]);
    malloc.validate();
    os.mem.storeAddress(blocks[1], blocks[1] + 8);
    expect(() => malloc.validate()).toThrow('no block of its page');
    os.mem.storeAddress(blocks[1], 0);
    expect(() => malloc.validate()).toThrow('do not add up to the capacity');
  });
});
