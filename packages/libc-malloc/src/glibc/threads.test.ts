import { describe, expect, it } from 'vitest';
import { FlatOs } from '../testing/flat-os.ts';
import { Glibc } from './glibc.ts';

const MIB = 1024 * 1024;
const HEAP_MAX = 64 * MIB;

const heapOf = (block: number): number => block - (block % HEAP_MAX);

function boot(areaMib = 1024): { os: FlatOs; malloc: Glibc } {
  const os = new FlatOs({ areaBytes: areaMib * MIB });
  return { os, malloc: new Glibc(os) };
}

describe('threads of glibc', () => {
  it('get an arena each, in a heap of 64 MiB that begins with it', () => {
    const { os, malloc } = boot();
    const [first, second] = [malloc.thread(), malloc.thread()];
    const block = first.malloc(10);
    expect(block % HEAP_MAX).toBe(0xb70);
    expect(os.mem.load32(block - 8) & 4).toBe(4);
    expect(heapOf(second.malloc(10))).not.toBe(heapOf(block));
    expect(malloc.malloc(10)).toBe(os.sbrk(0) - 132 * 1024 + 0x2a0);
    malloc.validate();
  });

  it('share arenas once there are 8 for each CPU', () => {
    const os = new FlatOs({ areaBytes: 2048 * MIB });
    const malloc = new Glibc(os, { cpus: 2 });
    const threads = Array.from({ length: 20 }, () => malloc.thread());
    const heaps = new Set(threads.map((thread) => heapOf(thread.malloc(100))));
    // One of the 16 is the main arena.
    expect(heaps.size).toBe(15 + 1);
    expect(malloc.mallocStats().match(/Arena/g)).toHaveLength(16);
    malloc.validate();
  });

  it('free into their own cache what another allocated, and into its arena once that is full', () => {
    const { malloc } = boot();
    const thread = malloc.thread();
    const blocks = Array.from({ length: 8 }, () => thread.malloc(2000));
    for (const block of blocks) malloc.free(block);
    const small = Array.from({ length: 3 }, () => thread.malloc(100));
    for (const block of small) malloc.free(block);
    expect(malloc.malloc(100)).toBe(small[2]);
    expect(thread.malloc(100)).not.toBe(small[1]);
    malloc.validate();
  });

  it('leave their cache and their arena to others when they end', () => {
    const { malloc } = boot();
    const first = malloc.thread();
    const blocks = Array.from({ length: 7 }, () => first.malloc(1000));
    for (const block of blocks) first.free(block);
    first.threadExit();
    malloc.validate();
    const second = malloc.thread();
    expect(second.malloc(10) % HEAP_MAX).toBe(0xb70);
    expect(second.malloc(10)).toBe(heapOf(blocks[0]) + 0xb90);
    malloc.validate();
  });

  it('begin further heaps where one is full, and give them back', () => {
    const { os, malloc } = boot();
    const thread = malloc.thread();
    thread.free(thread.malloc(31 * MIB));
    const blocks = [1, 2, 3, 4].map(() => thread.malloc(20 * MIB));
    expect(new Set(blocks.map(heapOf)).size).toBe(2);
    malloc.validate();
    thread.free(blocks[3]);
    malloc.validate();
    expect(() => os.mem.load8(blocks[3])).toThrow('no memory');
    for (const block of blocks.slice(0, 3)) thread.free(block);
    malloc.validate();
  });

  it('get mappings for their blocks where there is no room for an arena', () => {
    const { os, malloc } = boot(32);
    const thread = malloc.thread();
    const block = thread.malloc(100);
    expect(block).not.toBe(0);
    expect(os.mem.load32(block - 8) & 2).toBe(2);
    thread.free(block);
    malloc.validate();
  });

  it('are told apart in a child of fork, whose only thread has all arenas to itself', () => {
    const { malloc } = boot();
    const heap = heapOf(malloc.thread().malloc(10));
    malloc.afterFork();
    expect(heapOf(malloc.thread().malloc(10))).toBe(heap);
    malloc.validate();
  });

  it('are more than the first page has records for', () => {
    const { malloc } = boot();
    const threads = Array.from({ length: 300 }, () => malloc.thread());
    const records = threads.map((thread) => thread.threadRecord);
    expect(new Set(records).size).toBe(300);
    for (const thread of threads) thread.threadExit();
    expect(records).toContain(malloc.thread().threadRecord);
  });
});
