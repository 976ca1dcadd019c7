/**
 * What every allocator must do, as a suite for vitest: an allocator's author calls {@link mallocContract} in a test.
 */
import type { UserMemory, VirtAddr } from '@pagelab/abi';
import { Prng } from '@pagelab/lib';
import { describe, expect, it } from 'vitest';
import type { Malloc, MallocOs } from './malloc.ts';
import { SMASHES, trySmash } from './contract-smashes.ts';
import type { Smash, SmashOutcome } from './contract-smashes.ts';

export { SMASHES, trySmash };
export type { Smash, SmashOutcome };

/** How much the machine of a test must have. */
export interface ContractLimits {
  /** Bytes that the allocator may get of the system in all, give or take a few megabytes. */
  readonly memoryBytes: number;
}

/** What a test gets: an allocator, fresh, and the boundary it was made on. */
export interface ContractSubject {
  readonly malloc: Malloc;
  readonly os: MallocOs;
}

const MIB = 1024 * 1024;

/** What a run of the contract may be told. */
export interface ContractOptions {
  /** The allocator's name, for the report. */
  readonly name?: string;
  /** Random operations in all. Default 20,000. */
  readonly operations?: number;
  /** The design never uses memory again: random runs may end where memory does. */
  readonly neverReuses?: boolean;
  /** How each smashed heap ends, as the allocator's documentation says; what is not named may end in any way. */
  readonly smashes?: Readonly<Partial<Record<Smash, SmashOutcome>>>;
}

/**
 * Defines the contract's tests, in a `describe` of their own.
 *
 * @param create makes an allocator on a machine of its own, whose `sbrk` and `mmap` fail with ENOMEM beyond the limits
 */
export function mallocContract(
  create: (limits: ContractLimits) => ContractSubject,
  { name = 'an allocator', operations = 20_000, neverReuses = false, smashes = {} }: ContractOptions = {},
): void {
  describe(`malloc contract: ${name}`, () => {
    it('aligns every block to 16 bytes', () => {
      const { malloc } = create({ memoryBytes: 64 * MIB });
      for (let size = 0; size <= 2000; size += 3) expect(malloc.malloc(size) % 16).toBe(0);
      for (let size = 2 ** 12; size <= 2 ** 21; size *= 2) expect(malloc.malloc(size - 1) % 16).toBe(0);
    });

    it('gives blocks of which no two overlap and whose bytes all can be written', () => {
      const { malloc, os } = create({ memoryBytes: 64 * MIB });
      const blocks: [VirtAddr, number][] = [];
      for (let i = 0; i < 300; i++) {
        const size = i % 10 === 0 ? 5000 * (i / 10) : i;
        const block = malloc.malloc(size);
        os.mem.fill(block, size, i);
        blocks.push([block, size]);
      }
      blocks.forEach(([block, size], i) => expect(os.mem.findNot(block, size, i & 0xff)).toBe(-1));
      blocks.sort(([a], [b]) => a - b);
      for (let i = 1; i < blocks.length; i++) {
        const [before, size] = blocks[i - 1];
        expect(before + Math.max(size, 1)).toBeLessThanOrEqual(blocks[i][0]);
      }
      malloc.validate();
    });

    it('answers a request of no bytes with a block that can be freed', () => {
      const { malloc } = create({ memoryBytes: 16 * MIB });
      const one = malloc.malloc(0);
      const other = malloc.malloc(0);
      expect(one).not.toBe(0);
      expect(other).not.toBe(one);
      malloc.free(one);
      malloc.free(other);
    });

    it('takes free(0) for nothing, realloc(0, n) for malloc and realloc(p, 0) for free', () => {
      const { malloc } = create({ memoryBytes: 16 * MIB });
      malloc.free(0);
      const block = malloc.realloc(0, 100);
      expect(block).not.toBe(0);
      expect(malloc.realloc(block, 0)).toBe(0);
      malloc.validate();
    });

    it('keeps the content when a block is resized', () => {
      const { malloc, os } = create({ memoryBytes: 64 * MIB });
      let block = malloc.malloc(10);
      let filled = 10;
      fillPattern(os.mem, block, 0, filled);
      for (const size of [20, 100, 60, 4000, 70_000, 300_000, 2 * MIB, 200_000, 50_000, 900, 24, 3]) {
        const other = malloc.malloc(40);
        block = malloc.realloc(block, size);
        expect(block).not.toBe(0);
        filled = Math.min(filled, size);
        expect(findPatternBreak(os.mem, block, filled)).toBe(-1);
        fillPattern(os.mem, block, filled, size - filled);
        filled = size;
        if (size % 3 === 0) malloc.free(other);
      }
      malloc.validate();
    });

    it('zeroes what calloc returns, also where blocks were before', () => {
      const { malloc, os } = create({ memoryBytes: 64 * MIB });
      for (const size of [1, 24, 25, 100, 1032, 1033, 5000, 100_000, 140_000, 2 * MIB]) {
        const dirty = [0, 1, 2].map(() => malloc.malloc(size));
        for (const block of dirty) os.mem.fill(block, size, 0xa5);
        for (const block of dirty) malloc.free(block);
        for (let i = 0; i < 4; i++) {
          const block = malloc.calloc(1, size);
          expect(os.mem.findNot(block, size, 0)).toBe(-1);
          os.mem.fill(block, size, 0x5a);
        }
      }
      const last = malloc.malloc(50_000);
      os.mem.fill(last, 50_000, 0xff);
      malloc.free(last);
      malloc.mallocTrim(0);
      expect(os.mem.findNot(malloc.calloc(100, 600), 60_000, 0)).toBe(-1);
    });

    it('refuses a calloc whose product is beyond 64 bits', () => {
      const { malloc } = create({ memoryBytes: 16 * MIB });
      expect(malloc.calloc(2 ** 33, 2 ** 33)).toBe(0);
      expect(malloc.calloc(2 ** 63, 2)).toBe(0);
    });

    it('places memalign blocks at a multiple of any power of two, and frees them', () => {
      const { malloc, os } = create({ memoryBytes: 64 * MIB });
      const blocks: VirtAddr[] = [];
      for (let alignment = 1; alignment <= 65_536; alignment *= 2) {
        for (const size of [0, 1, 40, 1000, 10_000]) {
          const block = malloc.memalign(alignment, size);
          expect(block).not.toBe(0);
          expect(block % alignment).toBe(0);
          os.mem.fill(block, size, 0x11);
          blocks.push(block);
        }
      }
      malloc.validate();
      for (const block of blocks) malloc.free(block);
      malloc.validate();
    });

    it('tells a usable size that covers the request and can be used', () => {
      const { malloc, os } = create({ memoryBytes: 64 * MIB });
      expect(malloc.mallocUsableSize(0)).toBe(0);
      for (const size of [0, 1, 24, 25, 1000, 5000, 200_000, MIB]) {
        const block = malloc.malloc(size);
        const usable = malloc.mallocUsableSize(block);
        expect(usable).toBeGreaterThanOrEqual(size);
        os.mem.fill(block, usable, 0x77);
        malloc.malloc(10);
        malloc.validate();
      }
    });

    it('returns 0 when memory runs out, keeps what it gave, and goes on once some is free', () => {
      const { malloc, os } = create({ memoryBytes: 8 * MIB });
      expect(malloc.malloc(2 ** 40)).toBe(0);
      expect(malloc.malloc(2 ** 62)).toBe(0);
      expect(malloc.malloc(2 ** 64 - 2048)).toBe(0);
      expect(malloc.malloc(-1)).toBe(0);
      const blocks: VirtAddr[] = [];
      for (;;) {
        const block = malloc.malloc(60_000);
        if (block === 0) break;
        os.mem.fill(block, 60_000, blocks.length);
        blocks.push(block);
        expect(blocks.length).toBeLessThan(1000);
      }
      expect(blocks.length).toBeGreaterThan(20);
      const last = blocks.at(-1)!;
      expect(malloc.realloc(last, 64 * MIB)).toBe(0);
      expect(malloc.calloc(1, 64 * MIB)).toBe(0);
      blocks.forEach((block, i) => expect(os.mem.findNot(block, 60_000, i & 0xff)).toBe(-1));
      malloc.validate();
      malloc.free(blocks.pop()!);
      expect(malloc.malloc(60_000)).not.toBe(0);
    });

    it('counts what is in use', () => {
      const { malloc } = create({ memoryBytes: 64 * MIB });
      malloc.malloc(1);
      const before = malloc.mallinfo2();
      const blocks = [3000, 5000, 7000].map((size) => malloc.malloc(size));
      const after = malloc.mallinfo2();
      expect(after.uordblks - before.uordblks).toBeGreaterThanOrEqual(15_000);
      expect(after.uordblks + after.fordblks).toBe(after.arena);
      for (const block of blocks) malloc.free(block);
    });

    it('serves threads, and frees what another thread allocated', () => {
      const { malloc, os } = create({ memoryBytes: 512 * MIB });
      const threads = [malloc, ...[1, 2, 3].map(() => beginThread(malloc))];
      const blocks = threads.map((thread, t) =>
        Array.from({ length: 100 }, (_, i) => {
          const size = 16 + ((i * 37) % 3000);
          const block = thread.malloc(size);
          os.mem.fill(block, size, 16 * t + (i & 15));
          return [block, size] as const;
        }),
      );
      const all = blocks.flat().sort(([a], [b]) => a - b);
      for (let i = 1; i < all.length; i++) expect(all[i - 1][0] + all[i - 1][1]).toBeLessThanOrEqual(all[i][0]);
      malloc.validate();
      blocks.forEach((ofThread, t) => {
        ofThread.forEach(([block, size], i) => {
          expect(os.mem.findNot(block, size, 16 * t + (i & 15))).toBe(-1);
          // The last block of each stays until its thread is gone.
          if (i < 99) threads[(t + 1 + (i % 4)) % 4].free(block);
        });
      });
      malloc.validate();
      for (const thread of threads.slice(1)) thread.threadExit?.();
      malloc.validate();
      const next = beginThread(malloc);
      blocks.forEach((ofThread, t) => {
        const [block, size] = ofThread[99];
        expect(os.mem.findNot(block, size, 16 * t + 3)).toBe(-1);
        next.free(block);
      });
      const block = next.calloc(1, 500);
      expect(os.mem.findNot(block, 500, 0)).toBe(-1);
      next.free(block);
      next.threadExit?.();
      malloc.mallocTrim(0);
      malloc.validate();
    });

    for (const smash of SMASHES) {
      const outcome = smashes[smash];
      it(`${outcome ?? 'aborts, faults or survives'}: ${smash}`, () => {
        const { malloc, os } = create({ memoryBytes: 64 * MIB });
        const got = trySmash(smash, malloc, os);
        if (outcome !== undefined) expect(got).toBe(outcome);
      });
    }

    for (const seed of [1, 2, 3, 4]) {
      it(
        `keeps every content through random operations (seed ${seed})`,
        () => {
          const done = randomOperations(create({ memoryBytes: 512 * MIB }), seed, Math.ceil(operations / 4));
          if (!neverReuses) expect(done).toBe(Math.ceil(operations / 4));
        },
        10_000 + operations,
      );
    }
  });
}

/** A thread of the allocator's; one that knows no threads is the same to all. */
function beginThread(malloc: Malloc): Malloc {
  return malloc.thread?.() ?? malloc;
}

interface Block {
  readonly address: VirtAddr;
  readonly size: number;
  readonly stamp: number;
}

/** The largest request of each kind of run: small blocks, mixed ones, and some with mappings of their own. */
const SIZE_LIMITS = [200, 3000, 40_000, 400_000] as const;

/** Threads at most, the main one among them. */
const MAX_THREADS = 4;

/** Blocks that live at a time, at most: so that all of them fit. */
function maxLive(sizeLimit: number): number {
  return Math.min(500, Math.floor((16 * MIB) / sizeLimit));
}

/** Makes random calls of several threads, which begin and end; returns how many were made until memory ran out. */
function randomOperations({ malloc, os }: ContractSubject, seed: number, operations: number): number {
  const random = new Prng(seed);
  const { mem } = os;
  const sizeLimit = SIZE_LIMITS[seed % 4];
  const live: Block[] = [];
  const threads = [malloc];
  const checkEvery = Math.max(64, Math.floor(operations / 400));
  let done = 0;

  const checked = (index: number): Block => {
    const block = live[index];
    if (mem.findNot(block.address, block.size, block.stamp) !== -1) throw new Error('a block lost its content');
    return block;
  };
  const stamped = (address: VirtAddr, size: number): Block => {
    if (address % 16 !== 0) throw new Error('a block is not aligned');
    const stamp = 1 + random.below(255);
    mem.fill(address, size, stamp);
    return { address, size, stamp };
  };
  const anySize = (): number => (random.below(8) === 0 ? random.below(sizeLimit) : random.below(sizeLimit / 8)) + 1;

  for (; done < operations; done++) {
    const thread = threads[random.below(threads.length)];
    const action = random.below(10);
    const size = anySize();
    if (live.length > 0 && (action < 4 || live.length >= maxLive(sizeLimit))) {
      const index = random.below(live.length);
      thread.free(checked(index).address);
      live[index] = live.at(-1)!;
      live.pop();
    } else if (action < 6 && live.length > 0) {
      const index = random.below(live.length);
      const old = checked(index);
      const address = thread.realloc(old.address, size);
      if (address === 0) break;
      const kept = Math.min(size, old.size);
      if (mem.findNot(address, kept, old.stamp) !== -1) throw new Error('realloc lost the content');
      live[index] = stamped(address, size);
    } else if (action === 6) {
      const address = thread.calloc(size, 1);
      if (address === 0) break;
      if (mem.findNot(address, size, 0) !== -1) throw new Error('calloc gave what is not zero');
      live.push(stamped(address, size));
    } else if (action === 7) {
      const alignment = 2 ** random.below(13);
      const address = thread.memalign(alignment, size);
      if (address === 0) break;
      if (address % alignment !== 0) throw new Error(`a block is not aligned to ${alignment}`);
      live.push(stamped(address, size));
    } else {
      const address = thread.malloc(size);
      if (address === 0) break;
      live.push(stamped(address, size));
    }
    if (done % checkEvery === 0) malloc.validate();
    if (done % 2000 === 1999) malloc.mallocTrim(0);
    if (done % 256 === 255) changeThreads(malloc, threads, random);
  }
  while (live.length > 0) {
    malloc.free(checked(live.length - 1).address);
    live.pop();
  }
  for (const thread of threads.slice(1)) thread.threadExit?.();
  malloc.validate();
  return done;
}

function changeThreads(malloc: Malloc, threads: Malloc[], random: Prng): void {
  if (threads.length < MAX_THREADS && random.below(2) === 0) {
    threads.push(beginThread(malloc));
  } else if (threads.length > 1) {
    threads.splice(1 + random.below(threads.length - 1), 1)[0].threadExit?.();
  }
}

function patternByte(offset: number): number {
  return (offset * 31 + (offset >>> 8)) & 0xff;
}

function fillPattern(mem: UserMemory, block: VirtAddr, from: number, length: number): void {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = patternByte(from + i);
  mem.write(block + from, bytes);
}

function findPatternBreak(mem: UserMemory, block: VirtAddr, length: number): number {
  return mem.read(block, length).findIndex((byte, offset) => byte !== patternByte(offset));
}
