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
 *  +2404  multi_threaded (32 bits): 1 once there was a second thread
 *  +2408  tcache_key
 *  +2416  narenas, narenas_limit, next_to_use, free_list, aligned_heap_area
 *  +2456  free_records: the first thread record that no thread has
 *  +2464  thread records of 32 bytes, the main thread's first; more in pages of their own once these are used up
 * ```
 *
 * A thread record is what a real thread keeps in thread-local storage:
 *
 * ```
 *     +0  tcache: the address of the thread's cache, 0 before the first request and after the last
 *     +8  thread_arena: the arena that serves the thread, 0 while there is none
 *    +16  next: the next record that no thread has
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
  CPUS,
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
  /** Arenas beyond which their number is limited by that of the CPUs. Default 8. */
  readonly arenaTest?: number;
  /** Arenas at most; 0, the default, is no limit but the CPUs'. */
  readonly arenaMax?: number;
  /** CPUs that the process may run on: arenas are limited to 8 times their number. Default 2, as where glibc cannot tell. */
  readonly cpus?: number;
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
   * child: nothing is made anew, and all other options but `thread` are ignored.
   */
  readonly attach?: VirtAddr;
  /** With `attach`, the record ({@link Glibc.threadRecord}) of the thread that calls. Default the main thread's. */
  readonly thread?: VirtAddr;
}

const MP = 2240;
const GLOBAL_MAX_FAST = 2400;
const MULTI_THREADED = 2404;
const TCACHE_KEY = 2408;
const NARENAS = 2416;
const NARENAS_LIMIT = 2424;
const NEXT_TO_USE = 2432;
const FREE_LIST = 2440;
const ALIGNED_HEAP_AREA = 2448;
const FREE_RECORDS = 2456;
const THREAD_RECORDS = 2464;

/** Of a thread record. */
const SIZEOF_THREAD_RECORD = 32;
const TCACHE = 0;
const THREAD_ARENA = 8;
const NEXT_RECORD = 16;

const DEFAULT_TCACHE_KEY = 0x0f_1d_2c_3b_4a_59_68;

/** Where an address space's allocator keeps its data, and what of that is fixed; as one of its threads sees it. */
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
  readonly multiThreaded: VirtAddr;
  /** Arenas there are, and as many as there may be: 0 while that is not settled. */
  readonly narenas: VirtAddr;
  readonly narenasLimit: VirtAddr;
  /** The arena that is shared next, once there may be no more. */
  readonly nextToUse: VirtAddr;
  /** Arenas that no thread uses. */
  readonly freeList: VirtAddr;
  /** Where the next heap may find its place aligned. */
  readonly alignedHeapArea: VirtAddr;
  /** The largest chunk that the thread cache takes, and how many of a size at most. */
  readonly tcacheMaxChunk: number;
  readonly tcacheCount: number;
  readonly tcacheUnsortedLimit: number;
  readonly tcacheKey: number;
  /** The low 32 bits of the key. */
  readonly tcacheKeyLow: number;
  /** CPUs that the process may run on. */
  readonly cpus: number;
  /** The calling thread's record. */
  readonly thread: VirtAddr;
  /** The thread's cache, 0 before the first request; a copy of the word in the thread's record. */
  tcache: VirtAddr;
  /** The thread's arena, 0 while it has none; a copy too. */
  arena: Arena | null;
  /** The thread is about to end, and makes no cache any more. */
  shuttingDown = false;
  /** Chunks that the request under way has sorted into bins. */
  nrSorted = 0;
  /** Arenas seen: their addresses, taken apart once. */
  readonly #arenas: Map<VirtAddr, Arena>;

  /** Takes up the allocator whose data segment is at `dataSegment`, as the thread whose record is at `thread`. */
  constructor(os: MallocOs, dataSegment: VirtAddr, thread: VirtAddr) {
    const { mem } = os;
    this.os = os;
    this.mem = mem;
    this.pageSize = os.getpagesize();
    this.dataSegment = dataSegment;
    this.mainArena = new Arena(dataSegment, 0);
    this.mp = dataSegment + MP;
    this.globalMaxFast = dataSegment + GLOBAL_MAX_FAST;
    this.multiThreaded = dataSegment + MULTI_THREADED;
    this.narenas = dataSegment + NARENAS;
    this.narenasLimit = dataSegment + NARENAS_LIMIT;
    this.nextToUse = dataSegment + NEXT_TO_USE;
    this.freeList = dataSegment + FREE_LIST;
    this.alignedHeapArea = dataSegment + ALIGNED_HEAP_AREA;
    this.tcacheMaxChunk = MINSIZE + MALLOC_ALIGNMENT * (mem.loadAddress(this.mp + TCACHE_BINS) - 1);
    this.tcacheCount = mem.loadAddress(this.mp + TCACHE_COUNT);
    this.tcacheUnsortedLimit = mem.loadAddress(this.mp + TCACHE_UNSORTED_LIMIT);
    this.tcacheKey = mem.loadAddress(dataSegment + TCACHE_KEY);
    this.tcacheKeyLow = mem.load32(dataSegment + TCACHE_KEY);
    this.cpus = mem.load32(this.mp + CPUS);
    this.thread = thread;
    this.tcache = mem.loadAddress(thread + TCACHE);
    this.#arenas = new Map([[dataSegment, this.mainArena]]);
    this.arena = this.arenaAt(mem.loadAddress(thread + THREAD_ARENA));
  }

  /** The arena at `address`, `null` for 0. */
  arenaAt(address: VirtAddr): Arena | null {
    if (address === 0) return null;
    let arena = this.#arenas.get(address);
    if (arena === undefined) {
      arena = new Arena(address, NON_MAIN_ARENA);
      this.#arenas.set(address, arena);
    }
    return arena;
  }

  /**
   * The arena of the chunk at `p`: of a thread arena's chunk, what the heap around it names.
   *
   * @linux glibc malloc/arena.c:arena_for_chunk
   */
  arenaOf(p: VirtAddr, head: number): Arena {
    if ((head & NON_MAIN_ARENA) === 0) return this.mainArena;
    const address = this.mem.loadAddress(alignDown(p, HEAP_MAX_SIZE));
    // What a smashed chunk leads to is no arena to remember.
    return this.#arenas.get(address) ?? new Arena(address, NON_MAIN_ARENA);
  }

  /** Calls `visit` for each arena there is, the main one first. */
  forEachArena(visit: (arena: Arena) => void): void {
    let arena: Arena | null = this.mainArena;
    do {
      visit(arena!);
      arena = this.arenaAt(this.mem.loadAddress(arena!.next));
    } while (arena !== this.mainArena);
  }

  /** Notes where the thread's cache is. */
  setTcache(address: VirtAddr): void {
    this.tcache = address;
    this.mem.storeAddress(this.thread + TCACHE, address);
  }

  /** Takes the thread's cache up, where another handle of the same thread has made it. */
  refreshTcache(): VirtAddr {
    return (this.tcache = this.mem.loadAddress(this.thread + TCACHE));
  }

  /** Notes which arena serves the thread. */
  setArena(arena: Arena | null): void {
    this.arena = arena;
    this.mem.storeAddress(this.thread + THREAD_ARENA, arena === null ? 0 : arena.address);
  }

  /** A record for a thread that begins; throws what `mmap` throws where there is no memory for more of them. */
  takeThreadRecord(): VirtAddr {
    const { mem } = this;
    const freeRecords = this.dataSegment + FREE_RECORDS;
    let record = mem.loadAddress(freeRecords);
    if (record === 0) {
      record = this.os.mmap(0, this.pageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
      addThreadRecords(mem, freeRecords, record, record + this.pageSize);
    }
    mem.storeAddress(freeRecords, mem.loadAddress(record + NEXT_RECORD));
    mem.storeAddress(record + TCACHE, 0);
    mem.storeAddress(record + THREAD_ARENA, 0);
    return record;
  }

  /** Gives the thread's own record up. */
  dropThreadRecord(): void {
    const { mem } = this;
    const freeRecords = this.dataSegment + FREE_RECORDS;
    mem.storeAddress(this.thread + NEXT_RECORD, mem.loadAddress(freeRecords));
    mem.storeAddress(freeRecords, this.thread);
  }
}

/** Puts the records from `start` to `end` on the list whose head is at `list`, the first of them first. */
function addThreadRecords(mem: UserMemory, list: VirtAddr, start: VirtAddr, end: VirtAddr): void {
  for (let record = end - SIZEOF_THREAD_RECORD; record >= start; record -= SIZEOF_THREAD_RECORD) {
    mem.storeAddress(record + NEXT_RECORD, mem.loadAddress(list));
    mem.storeAddress(list, record);
  }
}

/**
 * Makes a data segment and an empty main arena, with the tunables of `options`; or takes up an existing one. The first
 * request makes the heap.
 *
 * @linux glibc malloc/arena.c:ptmalloc_init
 */
export function openPtmalloc(os: MallocOs, options: GlibcOptions): Ptmalloc {
  if (options.attach !== undefined) {
    return new Ptmalloc(os, options.attach, options.thread ?? options.attach + THREAD_RECORDS);
  }
  const { mem } = os;
  const pageSize = os.getpagesize();
  const data = os.mmap(0, pageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
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
  mem.store32(mp + CPUS, options.cpus ?? 2);
  mem.storeAddress(data + NARENAS, 1);
  const mainThread = data + THREAD_RECORDS;
  mem.storeAddress(mainThread + THREAD_ARENA, data);
  addThreadRecords(mem, data + FREE_RECORDS, mainThread + SIZEOF_THREAD_RECORD, data + pageSize);
  return new Ptmalloc(os, data, mainThread);
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
