/** Fifteen ways to smash a heap, by the interface alone: what a wild C program does to its allocator. */
import type { UserMemory, VirtAddr } from '@pagelab/abi';
import type { Malloc, MallocOs } from './malloc.ts';
import { MallocAbort } from './malloc-abort.ts';

/**
 * How it ends: the allocator notices and gives up with a message; an access faults (SIGSEGV); or the program goes on,
 * with a heap in which blocks may overlap.
 */
export type SmashOutcome = 'aborts' | 'faults' | 'survives';

interface Smashed {
  readonly malloc: Malloc;
  readonly mem: UserMemory;
  /** Three blocks of 100 bytes, side by side where the design does that. */
  readonly small: readonly VirtAddr[];
  /** The same of 3000 bytes. */
  readonly large: readonly VirtAddr[];
}

const KIB = 1024;

const SMASH_TABLE = {
  'a small block freed twice': ({ malloc, small }: Smashed) => {
    malloc.free(small[1]);
    malloc.free(small[1]);
  },
  'a small block freed twice, another in between': ({ malloc, small }: Smashed) => {
    malloc.free(small[1]);
    malloc.free(small[2]);
    malloc.free(small[1]);
  },
  'a large block freed twice': ({ malloc, large }: Smashed) => {
    malloc.free(large[1]);
    malloc.free(large[1]);
  },
  'a huge block freed twice': ({ malloc }: Smashed) => {
    const block = malloc.malloc(3000 * KIB);
    malloc.free(block);
    malloc.free(block);
  },
  'free of the inside of a block': ({ malloc, mem, large }: Smashed) => {
    mem.fill(large[1], 3000, 0x41);
    malloc.free(large[1] + 32);
  },
  'free of the inside of a zeroed block': ({ malloc, mem, large }: Smashed) => {
    mem.fill(large[1], 3000, 0);
    malloc.free(large[1] + 32);
  },
  'free of a misaligned pointer': ({ malloc, small }: Smashed) => {
    malloc.free(small[1] + 8);
  },
  'free of an address where nothing is': ({ malloc }: Smashed) => {
    malloc.free(0x4141_4140);
  },
  'an overflow by a word of zeros': ({ malloc, mem, small }: Smashed) => {
    mem.fill(small[0] + malloc.mallocUsableSize(small[0]), 8, 0);
    for (const block of small) malloc.free(block);
  },
  'an overflow by 32 letters': ({ malloc, mem, small }: Smashed) => {
    mem.fill(small[0] + malloc.mallocUsableSize(small[0]), 32, 0x41);
    for (const block of small) malloc.free(block);
  },
  'an underflow by 16 letters': ({ malloc, mem, large }: Smashed) => {
    mem.fill(large[1] - 16, 16, 0x41);
    for (const block of large) malloc.free(block);
  },
  'a small block written to after free': ({ malloc, mem, small }: Smashed) => {
    malloc.free(small[1]);
    malloc.free(small[2]);
    mem.fill(small[2], 16, 0x41);
  },
  'a large block written to after free': ({ malloc, mem, large }: Smashed) => {
    malloc.free(large[1]);
    mem.fill(large[1], 3000, 0x41);
  },
  'realloc of a freed block': ({ malloc, large }: Smashed) => {
    malloc.free(large[1]);
    malloc.realloc(large[1], 5000);
  },
  'realloc of the inside of a block': ({ malloc, mem, large }: Smashed) => {
    mem.fill(large[1], 3000, 0);
    malloc.realloc(large[1] + 32, 5000);
  },
} as const;

/** The name of a way to smash a heap. */
export type Smash = keyof typeof SMASH_TABLE;

/** All ways there are. */
export const SMASHES = Object.keys(SMASH_TABLE) as readonly Smash[];

/** Smashes a fresh allocator's heap, goes on with it for a while, and tells how that ends. */
export function trySmash(smash: Smash, malloc: Malloc, os: MallocOs): SmashOutcome {
  const { mem } = os;
  try {
    const small = [1, 2, 3].map(() => malloc.malloc(100));
    const large = [1, 2, 3].map(() => malloc.malloc(3000));
    malloc.malloc(100);
    SMASH_TABLE[smash]({ malloc, mem, small, large });
    const later: VirtAddr[] = [];
    for (let i = 0; i < 40; i++) later.push(malloc.malloc(i % 4 === 0 ? 3000 + 64 * i : 100));
    for (let i = 0; i < 40; i += 2) malloc.free(later[i]);
    malloc.malloc(20_000);
    return 'survives';
  } catch (error) {
    return error instanceof MallocAbort ? 'aborts' : 'faults';
  }
}
