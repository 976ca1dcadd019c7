/**
 * One address space's glibc allocator: where its data lies.
 *
 * In a real process the arena and the parameters are data of `libc.so`, not part of the heap. Here they get a mapping
 * of their own, the data segment, so that the heap holds what glibc's heap holds and nothing else:
 *
 * ```
 *     +0  main_arena
 *  +2240  mp_
 *  +2400  global_max_fast (8 bits), perturb_byte (8 bits)
 *  +2408  tcache_key
 *  +2416  tcache: the address of the thread's cache, 0 before the first request
 * ```
 *
 * All that changes lies there or in the heap. What is read from it once (the `readonly` fields) cannot change later.
 */
import type { UserMemory, VirtAddr } from '@pagelab/abi';
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, SyscallError } from '@pagelab/abi';
import type { MallocOs } from '../malloc.ts';
import { Arena, HEAP_MAX_SIZE, initArena } from './arena.ts';
import { MALLOC_ALIGNMENT, MALLOC_ALIGN_MASK, MINSIZE, NON_MAIN_ARENA, SIZE_SZ, alignDown, checkedRequest2size } from './chunk.ts';
import {
  ARENA_MAX,
  ARENA_TEST,
  DEFAULT_ARENA_TEST,
  DEFAULT_MMAP_MAX,
  DEFAULT_MMAP_THRESHOLD,
  DEFAULT_MXFAST,
  DEFAULT_TOP_PAD,
  DEFAULT_TRIM_THRESHOLD,
  MAX_FAST_SIZE,
  MAX_TCACHE_COUNT,
  MAX_TCACHE_SIZE,
  MMAP_THRESHOLD,
  NO_DYN_THRESHOLD,
  N_MMAPS_MAX,
  TCACHE_BINS,
  TCACHE_COUNT,
  TCACHE_FILL_COUNT,
  TCACHE_MAX_BYTES,
  TCACHE_UNSORTED_LIMIT,
  TOP_PAD,
  TRIM_THRESHOLD,
} from './params.ts';

/** glibc's tunables `glibc.malloc.*`, each with glibc's default. A value out of range is ignored, as glibc does. */
export interface GlibcOptions {
  /** Largest request (bytes, up to 160) that goes to fast bins. Default 128. */
  readonly mxfast?: number;
  /** Bytes asked of `sbrk` beyond the need. Default 131,072. Setting it stops both thresholds from moving. */
  readonly topPad?: number;
  /** Bytes from which the top is given back. Default 131,072, rising. Setting it stops both thresholds from moving. */
  readonly trimThreshold?: number;
  /** Bytes from which a block gets its own mapping. Default 131,072, rising. Setting it stops both from moving. */
  readonly mmapThreshold?: number;
  /** Blocks with their own mapping at most. Default 65,536. Setting it stops both thresholds from moving. */
  readonly mmapMax?: number;
  /** Arenas from which their number is limited by that of the CPUs. Default 8. */
  readonly arenaTest?: number;
  /** Arenas at most; 0, the default, is no limit but the CPUs'. */
  readonly arenaMax?: number;
  /** The byte that freed blocks are filled with (new ones with its complement). Default 0: neither. */
  readonly perturb?: number;
  /** Largest request (bytes, up to 1032) that goes through the thread cache. Default 1032. */
  readonly tcacheMax?: number;
  /** Blocks of a size in the thread cache at most, 0 to 65,535. Default 7; 0 is no cache. */
  readonly tcacheCount?: number;
  /** Chunks sorted at most before a cached one is taken; 0, the default, is no limit. */
  readonly tcacheUnsortedLimit?: number;
  /**
   * What marks a cached block, up to 2^53. glibc takes it from `getrandom`; here it is an option, so that runs repeat.
   */
  readonly tcacheKey?: number;
  /**
   * The data segment of the allocator that this address space has already ({@link Glibc.dataSegment}), as in a forked
   * child: nothing is made anew, and all other options are ignored.
   */
  readonly attach?: VirtAddr;
}

const MP = 2240;
const GLOBAL_MAX_FAST = 2400;
const TCACHE_KEY = 2408;
const TCACHE = 2416;

const DEFAULT_TCACHE_KEY = 0x0f_1d_2c_3b_4a_59_68;

/** Where an address space's allocator keeps its data, and what of that is fixed. */
export class Ptmalloc {
  readonly os: MallocOs;
  readonly mem: UserMemory;
  readonly pageSize: number;
  readonly dataSegment: VirtAddr;
  readonly mainArena: Arena;
  /** Address of the parameters. */
  readonly mp: VirtAddr;
  /** Address of `global_max_fast`, one byte; the byte after it is `perturb_byte`. */
  readonly globalMaxFast: VirtAddr;
  /** The largest chunk that the thread cache takes, and how many of a size at most. */
  readonly tcacheMaxChunk: number;
  readonly tcacheCount: number;
  readonly tcacheUnsortedLimit: number;
  readonly tcacheKey: number;
  /** The low 32 bits of the key. */
  readonly tcacheKeyLow: number;
  /** The thread's cache, 0 before the first request; a copy of the word in the data segment, written once. */
  tcache: VirtAddr;
  /** Chunks that the request under way has sorted into bins. */
  nrSorted = 0;

  /** Takes up the allocator whose data segment is at `dataSegment`. */
  constructor(os: MallocOs, dataSegment: VirtAddr) {
    const { mem } = os;
    this.os = os;
    this.mem = mem;
    this.pageSize = os.getpagesize();
    this.dataSegment = dataSegment;
    this.mainArena = new Arena(dataSegment, 0);
    this.mp = dataSegment + MP;
    this.globalMaxFast = dataSegment + GLOBAL_MAX_FAST;
    this.tcacheMaxChunk = MINSIZE + MALLOC_ALIGNMENT * (mem.loadAddress(this.mp + TCACHE_BINS) - 1);
    this.tcacheCount = mem.loadAddress(this.mp + TCACHE_COUNT);
    this.tcacheUnsortedLimit = mem.loadAddress(this.mp + TCACHE_UNSORTED_LIMIT);
    this.tcacheKey = mem.loadAddress(dataSegment + TCACHE_KEY);
    this.tcacheKeyLow = mem.load32(dataSegment + TCACHE_KEY);
    this.tcache = mem.loadAddress(dataSegment + TCACHE);
  }

  /**
   * The arena of the chunk at `p`: of a thread arena's chunk, what the heap around it names.
   *
   * @linux glibc malloc/arena.c:arena_for_chunk
   */
  arenaOf(p: VirtAddr, head: number): Arena {
    if ((head & NON_MAIN_ARENA) === 0) return this.mainArena;
    return new Arena(this.mem.loadAddress(alignDown(p, HEAP_MAX_SIZE)), NON_MAIN_ARENA);
  }

  /** Notes where the thread's cache is. */
  setTcache(address: VirtAddr): void {
    this.tcache = address;
    this.mem.storeAddress(this.dataSegment + TCACHE, address);
  }
}

/**
 * Makes a data segment and an empty main arena, with the tunables of `options`; or takes up an existing one. The first
 * request makes the heap.
 *
 * @linux glibc malloc/arena.c:ptmalloc_init
 */
export function openPtmalloc(os: MallocOs, options: GlibcOptions): Ptmalloc {
  if (options.attach !== undefined) return new Ptmalloc(os, options.attach);
  const { mem } = os;
  const data = os.mmap(0, os.getpagesize(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  initArena(mem, new Arena(data, 0));
  const mp = data + MP;
  mem.storeAddress(mp + TRIM_THRESHOLD, options.trimThreshold ?? DEFAULT_TRIM_THRESHOLD);
  mem.storeAddress(mp + TOP_PAD, options.topPad ?? DEFAULT_TOP_PAD);
  mem.storeAddress(mp + MMAP_THRESHOLD, options.mmapThreshold ?? DEFAULT_MMAP_THRESHOLD);
  mem.store32(mp + N_MMAPS_MAX, options.mmapMax ?? DEFAULT_MMAP_MAX);
  const fixed = [options.trimThreshold, options.topPad, options.mmapThreshold, options.mmapMax];
  mem.store32(mp + NO_DYN_THRESHOLD, fixed.every((value) => value === undefined) ? 0 : 1);
  mem.storeAddress(mp + ARENA_TEST, options.arenaTest ?? DEFAULT_ARENA_TEST);
  mem.storeAddress(mp + ARENA_MAX, options.arenaMax ?? 0);
  const tcacheMax = inRange(options.tcacheMax, MAX_TCACHE_SIZE);
  mem.storeAddress(mp + TCACHE_BINS, (checkedRequest2size(tcacheMax) - MINSIZE) / MALLOC_ALIGNMENT + 1);
  mem.storeAddress(mp + TCACHE_MAX_BYTES, tcacheMax);
  const tcacheCount = options.tcacheCount ?? TCACHE_FILL_COUNT;
  mem.storeAddress(mp + TCACHE_COUNT, tcacheCount <= MAX_TCACHE_COUNT ? tcacheCount : TCACHE_FILL_COUNT);
  mem.storeAddress(mp + TCACHE_UNSORTED_LIMIT, options.tcacheUnsortedLimit ?? 0);
  const mxfast = options.mxfast ?? DEFAULT_MXFAST;
  mem.store8(data + GLOBAL_MAX_FAST, maxFast(mxfast <= MAX_FAST_SIZE ? mxfast : DEFAULT_MXFAST));
  mem.store8(data + GLOBAL_MAX_FAST + 1, options.perturb ?? 0);
  mem.storeAddress(data + TCACHE_KEY, options.tcacheKey ?? DEFAULT_TCACHE_KEY);
  return new Ptmalloc(os, data);
}

function inRange(value: number | undefined, max: number): number {
  return value === undefined || value > max ? max : value;
}

/**
 * The largest chunk size of fast bins for a largest request of `request` bytes; 0 leaves no size at all.
 *
 * @linux glibc malloc/malloc.c:set_max_fast
 */
export function maxFast(request: number): number {
  return request === 0 ? MINSIZE / 2 : (request + SIZE_SZ) & ~MALLOC_ALIGN_MASK;
}

/** Moves the break by `increment` bytes and returns where it was, or 0 where the system refuses. */
export function morecore(pt: Ptmalloc, increment: number): VirtAddr {
  try {
    return pt.os.sbrk(increment);
  } catch (error) {
    if (error instanceof SyscallError) return 0;
    throw error;
  }
}

/** Maps `length` bytes of zeroed memory, or returns 0 where the system refuses. */
export function mmapAnonymous(pt: Ptmalloc, length: number): VirtAddr {
  try {
    return pt.os.mmap(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
  } catch (error) {
    if (error instanceof SyscallError) return 0;
    throw error;
  }
}
