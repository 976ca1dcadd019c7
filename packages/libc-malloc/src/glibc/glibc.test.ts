import { MADV_DONTNEED } from '@pagelab/abi';
import { describe, expect, it } from 'vitest';
import { M_MMAP_THRESHOLD, M_PERTURB } from '../malloc.ts';
import type { MallocOs } from '../malloc.ts';
import { FlatOs } from '../testing/flat-os.ts';
import { Glibc } from './glibc.ts';

const KIB = 1024;

describe('glibc', () => {
  it('begins the heap with the thread cache, and asks brk for 132 KiB', () => {
    const os = new FlatOs();
    const heap = os.sbrk(0);
    const malloc = new Glibc(os);
    expect(os.sbrk(0)).toBe(heap);
    expect(malloc.malloc(1)).toBe(heap + 0x2a0);
    expect(os.mem.loadAddress(heap + 8)).toBe(0x291);
    expect(os.sbrk(0) - heap).toBe(132 * KIB);
  });

  it('aligns the first block where the break is not', () => {
    const os = new FlatOs({ heapBase: 0x5555_5575_6048 });
    const malloc = new Glibc(os);
    expect(malloc.malloc(1) % 16).toBe(0);
    expect(os.sbrk(0) % 4096).toBe(0);
    malloc.validate();
  });

  it('keeps all its state in memory: who takes up the data segment goes on with the heap', () => {
    const os = new FlatOs();
    const first = new Glibc(os, { tcacheCount: 3, tcacheKey: 12345 });
    const blocks = Array.from({ length: 100 }, (_, i) => first.malloc(i * 40));
    const second = new Glibc(os, { attach: first.dataSegment });
    for (const block of blocks) second.free(block);
    expect(second.mallinfo2()).toEqual(first.mallinfo2());
    const again = first.malloc(40);
    second.free(again);
    expect(first.malloc(40)).toBe(again);
    expect(() => {
      second.free(again);
      first.free(again);
    }).toThrow('free(): double free detected in tcache 2');
  });

  it('raises the mmap threshold when a block with its own mapping is freed, up to 32 MiB', () => {
    const os = new FlatOs();
    const malloc = new Glibc(os);
    const block = malloc.malloc(200 * KIB);
    expect(malloc.mallinfo2().hblks).toBe(1);
    malloc.free(block);
    expect(malloc.mallinfo2().hblks).toBe(0);
    malloc.malloc(200 * KIB - 100);
    expect(malloc.mallinfo2().hblks).toBe(0);
    malloc.malloc(204 * KIB);
    expect(malloc.mallinfo2().hblks).toBe(1);
    malloc.free(malloc.malloc(33 * 1024 * KIB));
    malloc.malloc(1024 * KIB);
    expect(malloc.mallinfo2().hblks).toBe(2);
  });

  it('leaves the threshold where mallopt set it', () => {
    const os = new FlatOs();
    const malloc = new Glibc(os);
    expect(malloc.mallopt(M_MMAP_THRESHOLD, 64 * KIB)).toBe(1);
    malloc.free(malloc.malloc(200 * KIB));
    malloc.malloc(140 * KIB);
    expect(malloc.mallinfo2().hblks).toBe(1);
  });

  it('resizes a mapping with mremap, keeping the content', () => {
    const os = new FlatOs();
    const malloc = new Glibc(os);
    let block = malloc.malloc(300 * KIB);
    os.mem.fill(block, 300 * KIB, 0x42);
    malloc.malloc(300 * KIB);
    block = malloc.realloc(block, 5000 * KIB);
    expect(os.mem.findNot(block, 300 * KIB, 0x42)).toBe(-1);
    expect(malloc.mallinfo2()).toMatchObject({ hblks: 2, hblkhd: 5004 * KIB + 304 * KIB });
  });

  it('gives the top back once it is larger than the trim threshold', () => {
    const os = new FlatOs();
    const heap = os.sbrk(0);
    const malloc = new Glibc(os);
    const blocks = Array.from({ length: 20 }, () => malloc.malloc(50 * KIB));
    const length = os.sbrk(0) - heap;
    expect(length).toBeGreaterThan(1000 * KIB);
    for (const block of blocks) malloc.free(block);
    // M_TOP_PAD stays.
    expect(os.sbrk(0) - heap).toBe(132 * KIB);
  });

  it('tells the system about whole pages inside free chunks on malloc_trim', () => {
    const os = new FlatOs();
    const advised: number[] = [];
    const watched = {
      ...boundary(os),
      madvise(addr: number, length: number, advice: number) {
        expect(advice).toBe(MADV_DONTNEED);
        advised.push(addr % 4096, length);
        os.madvise(addr, length);
      },
    };
    const malloc = new Glibc(watched);
    const hole = malloc.malloc(40 * KIB);
    malloc.malloc(10);
    malloc.free(hole);
    expect(malloc.mallocTrim(0)).toBe(1);
    expect(advised).toEqual([0, 36 * KIB]);
    malloc.validate();
  });

  it('fills blocks where M_PERTURB asks for it', () => {
    const os = new FlatOs();
    const malloc = new Glibc(os);
    malloc.mallopt(M_PERTURB, 0x5a);
    const block = malloc.malloc(3000);
    expect(os.mem.findNot(block, 3000, 0xa5)).toBe(-1);
    malloc.malloc(10);
    malloc.free(block);
    expect(os.mem.findNot(block + 32, 2000, 0x5a)).toBe(-1);
    expect(os.mem.findNot(malloc.calloc(1, 2500), 2500, 0)).toBe(-1);
  });

  it('does not touch what came zeroed from the system when it clears', () => {
    const os = new FlatOs();
    // A system that does not zero shows what was relied on.
    const dirty: MallocOs = {
      ...boundary(os),
      sbrk(increment) {
        const start = os.sbrk(increment);
        if (increment > 0) os.mem.fill(start, increment, 0xee);
        return start;
      },
    };
    const malloc = new Glibc(dirty);
    malloc.malloc(1);
    expect(os.mem.findNot(malloc.calloc(1, 100 * KIB), 100 * KIB, 0)).toBe(-1);
    const oldEnd = os.sbrk(0);
    const block = malloc.calloc(1, 100 * KIB);
    // As if the old top had been the whole chunk, whose block owns a word of the next.
    expect(block + os.mem.findNot(block, 100 * KIB, 0)).toBe(oldEnd + 8);
    expect(os.mem.findNot(oldEnd + 8, block + 100 * KIB - (oldEnd + 8), 0xee)).toBe(-1);
  });

  it('finds a validator for each kind of damage', () => {
    const damages: [string, (os: FlatOs, block: number) => void][] = [
      ['impossible size', (os, block) => os.mem.storeAddress(block - 8, 0x29)],
      ['not its size', (os, block) => os.mem.storeAddress(block + 2000, 16)],
      ['bk does not lead back', (os, block) => os.mem.storeAddress(block + 8, block)],
    ];
    for (const [message, damage] of damages) {
      const os = new FlatOs();
      const malloc = new Glibc(os);
      const block = malloc.malloc(2000);
      malloc.malloc(10);
      malloc.free(block);
      malloc.validate();
      damage(os, block);
      expect(() => malloc.validate()).toThrow(message);
    }
  });
});

/** The calls of `os`, as an object that can be spread. */
function boundary(os: FlatOs): MallocOs {
  const names = ['sbrk', 'mmap', 'munmap', 'mremap', 'madvise', 'getpagesize'] as const;
  const calls = Object.fromEntries(names.map((name) => [name, os[name].bind(os)]));
  return { mem: os.mem, ...calls } as unknown as MallocOs;
}
