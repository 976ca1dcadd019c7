import { describe, expect, it } from 'vitest';
import { countAccesses } from '../testing/counting-memory.ts';
import { FlatOs } from '../testing/flat-os.ts';
import { FL_COUNT, MAX_BLOCK, SL_COUNT, TAG, listOf, roundUpToList } from './layout.ts';
import { Tlsf } from './tlsf.ts';

const KIB = 1024;

describe('the lists of tlsf', () => {
  it('follow one another as sizes rise, and are as many as there are', () => {
    let last = listOf(32);
    for (let size = 48; size <= 2 ** 20; size += 16) {
      const list = listOf(size);
      expect(list - last === 0 || list - last === 1 || size === 512).toBe(true);
      last = list;
    }
    expect(listOf(MAX_BLOCK)).toBeLessThan(FL_COUNT * SL_COUNT);
  });

  it('hold nothing that is smaller than a request that was rounded up to one', () => {
    for (let size = 32; size <= 2 ** 22; size += 16 * (1 + (size >>> 9))) {
      const rounded = roundUpToList(size);
      expect(rounded).toBeGreaterThanOrEqual(size);
      expect(rounded - size).toBeLessThanOrEqual(size / 32);
      if (rounded > 32) expect(listOf(rounded - 16)).toBeLessThan(listOf(rounded));
    }
  });
});

describe('tlsf', () => {
  it('takes the same number of accesses, whatever the heap holds', () => {
    const costs = [10, 5000].map((holes) => {
      const { os, count } = countAccesses(new FlatOs());
      const malloc = new Tlsf(os, { step: 32 * 1024 * KIB });
      const blocks = Array.from({ length: 2 * holes }, (_, i) => malloc.malloc(100 + ((i * 97) % 2000)));
      for (let i = 0; i < blocks.length; i += 2) malloc.free(blocks[i]);
      const before = count();
      const block = malloc.malloc(1500);
      const middle = count();
      malloc.free(block);
      return [middle - before, count() - middle];
    });
    for (const cost of costs.flat()) expect(cost).toBeLessThan(70);
    expect(Math.abs(costs[0][0] - costs[1][0])).toBeLessThan(20);
    expect(Math.abs(costs[0][1] - costs[1][1])).toBeLessThan(20);
  });

  it('has 4 bytes of overhead a block', () => {
    const malloc = new Tlsf(new FlatOs());
    const [first, second] = [malloc.malloc(60), malloc.malloc(60)];
    expect(second - first).toBe(64);
    expect(malloc.mallocUsableSize(first)).toBe(60);
  });

  it('joins what is freed with both neighbours', () => {
    const malloc = new Tlsf(new FlatOs());
    const blocks = [1, 2, 3, 4].map(() => malloc.malloc(1000));
    const free = malloc.mallinfo2().ordblks;
    malloc.free(blocks[0]);
    malloc.free(blocks[2]);
    expect(malloc.mallinfo2().ordblks).toBe(free + 2);
    malloc.free(blocks[1]);
    expect(malloc.mallinfo2().ordblks).toBe(free + 1);
    expect(malloc.malloc(2800)).toBe(blocks[0]);
  });

  it('goes on behind a gap where someone else moved the break, and in a mapping where it is stuck', () => {
    const os = new FlatOs({ heapBytes: 512 * KIB });
    const malloc = new Tlsf(os);
    os.sbrk(10_000);
    const blocks = Array.from({ length: 10 }, () => malloc.malloc(100_000));
    expect(blocks.every((block) => block !== 0)).toBe(true);
    expect(blocks.at(-1)! > os.sbrk(0)).toBe(true);
    malloc.validate();
    for (const block of blocks) malloc.free(block);
    malloc.validate();
    const { arena } = malloc.mallinfo2();
    expect(malloc.mallocTrim(0)).toBe(1);
    expect(malloc.mallinfo2().arena).toBeLessThan(arena / 2);
    malloc.validate();
  });

  it('keeps all its state in memory', () => {
    const os = new FlatOs();
    const first = new Tlsf(os);
    const block = first.malloc(500);
    const second = new Tlsf(os, { attach: first.dataSegment });
    second.free(block);
    expect(first.malloc(500)).toBe(block);
    second.validate();
  });

  it('finds damage with its validator', () => {
    const damages: [string, (os: FlatOs, block: number) => void][] = [
      ['wrong about the block before', (os, block) => os.mem.store32(block + 1008 + TAG, 1008)],
      ['not its size', (os, block) => os.mem.store32(block + 1008 - 8, 16)],
      ['a link does not lead back', (os, block) => os.mem.storeAddress(block + 8, 64)],
    ];
    for (const [message, damage] of damages) {
      const os = new FlatOs();
      const malloc = new Tlsf(os);
      const block = malloc.malloc(1000);
      malloc.malloc(1000);
      malloc.free(block);
      malloc.validate();
      damage(os, block);
      expect(() => malloc.validate()).toThrow(message);
    }
  });
});
