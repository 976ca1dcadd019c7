import type { VirtAddr } from '@pagelab/abi';
import type { Mallinfo2, Malloc, MallocOs } from '../malloc.ts';
import { mallocAbort } from '../malloc-abort.ts';
import type { Arena } from './arena.ts';
import * as chunk from './chunk.ts';
import { checkedRequest2size } from './chunk.ts';
import { arenaGet2, arenaGetRetry, keepOwnArenaOnly } from './arena-get.ts';
import * as heapInfo from './heap-info.ts';
import { heapForPtr } from './heap-info.ts';
import { chunkHead, freeUncached, intFree, wrapsAround } from './int-free.ts';
import { intMalloc } from './int-malloc.ts';
import { intMemalign } from './int-memalign.ts';
import { intRealloc } from './int-realloc.ts';
import { mallinfo2 } from './mallinfo.ts';
import { mallocInfo, mallocStats } from './malloc-info.ts';
import { setMallopt } from './mallopt.ts';
import { mallocTrim } from './malloc-trim.ts';
import { mremapChunk, munmapChunk, sysmallocMmap } from './mmap-chunk.ts';
import * as params from './params.ts';
import type { GlibcOptions, Ptmalloc } from './ptmalloc.ts';
import { openPtmalloc } from './ptmalloc.ts';
import { revealPtr } from './safe-linking.ts';
import * as tcacheLayout from './tcache.ts';
import { tcacheGet, tcacheIndex } from './tcache.ts';
import { threadFreeres } from './thread-freeres.ts';
import { chunksize } from './unlink.ts';
import { validateGlibc } from './validate.ts';

const { CHUNK_HDR_SZ, IS_MMAPPED, MALLOC_ALIGNMENT, MEM, MINSIZE, NON_MAIN_ARENA, PREV_INUSE, SIZE, SIZE_SZ } = chunk;
const {
  DEFAULT_MMAP_THRESHOLD_MAX,
  MAX_TCACHE_SIZE,
  MMAP_THRESHOLD,
  NO_DYN_THRESHOLD,
  SBRK_BASE,
  TRIM_THRESHOLD,
} = params;
const { MPROTECT_SIZE } = heapInfo;
const BY_4096 = 2 ** -12;
const HIGH_BY_4096 = 2 ** -44;
const HIGH = 2 ** -32;
const { SIZEOF_TCACHE, TCACHE_ENTRIES, TCACHE_KEY } = tcacheLayout;

/**
 * The malloc of glibc 2.36 on x86-64: the same requests get the same addresses, on the same `brk` and `mmap`. All of
 * its state is in the simulated memory of the task.
 *
 * @linux glibc malloc/malloc.c
 */
export class Glibc implements Malloc {
  readonly #pt: Ptmalloc;

  constructor(os: MallocOs, options: GlibcOptions = {}) {
    this.#pt = openPtmalloc(os, options);
  }

  /**
   * As `pthread_create` would: the new thread has no cache and no arena until its first request.
   *
   * Errors: ENOMEM where there is no memory to note it.
   */
  thread(os: MallocOs = this.#pt.os): Glibc {
    const pt = this.#pt;
    pt.mem.store32(pt.multiThreaded, 1);
    return new Glibc(os, { attach: pt.dataSegment, thread: pt.takeThreadRecord() });
  }

  /** Frees the thread's cache, and leaves its arena to threads to come. */
  threadExit(): void {
    threadFreeres(this.#pt);
  }

  /** What the C library does in a child of `fork`: all arenas but the caller's own are free for threads to come. */
  afterFork(): void {
    keepOwnArenaOnly(this.#pt);
  }

  /** Where the calling thread's record lies; a second handle of this thread takes it up with it as option `thread`. */
  get threadRecord(): VirtAddr {
    return this.#pt.thread;
  }

  /** Where the arena and the parameters lie; a forked child takes the heap up with it as option `attach`. */
  get dataSegment(): VirtAddr {
    return this.#pt.dataSegment;
  }

  malloc(size: number): VirtAddr {
    const pt = this.#pt;
    const { tcache } = pt;
    if (size <= MAX_TCACHE_SIZE && size >= 0 && tcache !== 0) {
      const index = size <= 24 ? 0 : (size - 9) >>> 4;
      const { mem } = pt;
      // tcacheGet, written out; two counts are read as one word, which is the cheapest access.
      const countAt = tcache + 4 * (index >>> 1);
      const counts = mem.load32(countAt);
      const shift = (index & 1) << 4;
      if (((counts >>> shift) & 0xffff) !== 0) {
        const headAt = tcache + TCACHE_ENTRIES + 8 * index;
        const block = mem.loadAddress(headAt);
        if ((block & 15) !== 0) mallocAbort('malloc(): unaligned tcache chunk detected');
        const stored = mem.loadAddress(block);
        const low = (block * BY_4096) ^ stored;
        const high = (block * HIGH_BY_4096) ^ (stored * HIGH);
        const next = stored >= 0 && stored < 2 ** 47 ? high * 2 ** 32 + (low >>> 0) : revealPtr(mem, block);
        mem.storeAddress(headAt, next);
        mem.store32(countAt, counts - (1 << shift));
        mem.storeAddress(block + TCACHE_KEY, 0);
        return block;
      }
    }
    return mallocSlow(pt, size);
  }

  calloc(n: number, size: number): VirtAddr {
    return callocSlow(this.#pt, n * size);
  }

  realloc(ptr: VirtAddr, size: number): VirtAddr {
    if (ptr === 0) return this.malloc(size);
    if (size === 0) {
      this.free(ptr);
      return 0;
    }
    return reallocBlock(this.#pt, ptr, size);
  }

  free(ptr: VirtAddr): void {
    if (ptr === 0) return;
    const pt = this.#pt;
    const { mem, tcache } = pt;
    const head = mem.loadAddress(ptr - SIZE_SZ);
    // A small chunk of the main arena, neither mapped nor misaligned: the size's bit 3 is as wrong as the address's.
    if (
      head < pt.tcacheMaxChunk + 8 &&
      head >= MINSIZE &&
      ((head & (IS_MMAPPED + NON_MAIN_ARENA + 8)) | (ptr & 15)) === 0 &&
      tcache !== 0 &&
      mem.load32(ptr + TCACHE_KEY) !== pt.tcacheKeyLow
    ) {
      // tcachePut, written out.
      const index = (head - MINSIZE) >>> 4;
      const countAt = tcache + 4 * (index >>> 1);
      const counts = mem.load32(countAt);
      const shift = (index & 1) << 4;
      if (((counts >>> shift) & 0xffff) < pt.tcacheCount) {
        const headAt = tcache + TCACHE_ENTRIES + 8 * index;
        mem.storeAddress(ptr + TCACHE_KEY, pt.tcacheKey);
        const next = mem.loadAddress(headAt);
        const low = (ptr * BY_4096) ^ next;
        const high = (ptr * HIGH_BY_4096) ^ (next * HIGH);
        mem.storeAddress(ptr, high * 2 ** 32 + (low >>> 0));
        mem.storeAddress(headAt, ptr);
        mem.store32(countAt, counts + (1 << shift));
      } else {
        freeUncached(pt, pt.mainArena, ptr - MEM, head, false);
      }
      return;
    }
    freeSlow(pt, ptr);
  }

  memalign(alignment: number, size: number): VirtAddr {
    if (alignment <= MALLOC_ALIGNMENT) return this.malloc(size);
    // EINVAL: the power of two would not fit a size_t.
    if (alignment > 2 ** 63) return 0;
    let power = MINSIZE;
    while (power < alignment) power *= 2;
    return memalignSlow(this.#pt, power, size);
  }

  mallocUsableSize(ptr: VirtAddr): number {
    if (ptr === 0) return 0;
    const { mem } = this.#pt;
    const head = chunkHead(this.#pt, ptr - MEM);
    const size = head - (head & 7);
    if ((head & IS_MMAPPED) !== 0) return size - CHUNK_HDR_SZ;
    return (mem.load32(ptr - MEM + size + SIZE) & PREV_INUSE) !== 0 ? size - SIZE_SZ : 0;
  }

  mallocTrim(pad: number): number {
    return mallocTrim(this.#pt, pad);
  }

  mallopt(param: number, value: number): number {
    return setMallopt(this.#pt, param, value);
  }

  mallinfo2(): Mallinfo2 {
    return mallinfo2(this.#pt);
  }

  /** The text that `malloc_stats` prints: bytes of each arena. Linear in the number of free chunks. */
  mallocStats(): string {
    return mallocStats(this.#pt);
  }

  /** The XML that `malloc_info(0, …)` prints: what is free, by size. Linear in the number of free chunks. */
  mallocInfo(): string {
    return mallocInfo(this.#pt);
  }

  validate(): void {
    validateGlibc(this.#pt);
  }
}

/**
 * Makes the thread's cache, with the first request of it; where there is no memory the thread goes on without.
 *
 * @linux glibc malloc/malloc.c:tcache_init
 */
function tcacheInit(pt: Ptmalloc): void {
  // Another handle of this thread may have made it.
  if (pt.shuttingDown || pt.refreshTcache() !== 0) return;
  const cache = allocate(pt, SIZEOF_TCACHE);
  if (cache === 0) return;
  pt.mem.fill(cache, SIZEOF_TCACHE, 0);
  pt.setTcache(cache);
}

/** A block of the thread's arena, or where that has no memory, of another. */
function allocate(pt: Ptmalloc, size: number): VirtAddr {
  const av = pt.arena ?? arenaGet2(pt, size);
  if (av === null) return mapWithoutArena(pt, size);
  const block = intMalloc(pt, av, size);
  if (block !== 0 || pt.mem.load32(pt.multiThreaded) === 0) return block;
  const other = arenaGetRetry(pt, av, size);
  return other === null ? mapWithoutArena(pt, size) : intMalloc(pt, other, size);
}

/** Where not even an arena can be had, a block gets a mapping of its own. */
function mapWithoutArena(pt: Ptmalloc, size: number): VirtAddr {
  const nb = checkedRequest2size(size);
  return nb < 0 ? 0 : sysmallocMmap(pt, nb);
}

/** @linux glibc malloc/malloc.c:__libc_malloc */
function mallocSlow(pt: Ptmalloc, size: number): VirtAddr {
  if (checkedRequest2size(size) < 0) return 0;
  if (pt.tcache === 0) {
    tcacheInit(pt);
    const list = tcacheIndex(pt, checkedRequest2size(size));
    if (list >= 0 && pt.mem.load16(pt.tcache + 2 * list) !== 0) return tcacheGet(pt, list);
  }
  return allocate(pt, size);
}

/** @linux glibc malloc/malloc.c:_mid_memalign */
function memalignSlow(pt: Ptmalloc, alignment: number, size: number): VirtAddr {
  const av = pt.arena ?? arenaGet2(pt, size + alignment + MINSIZE);
  if (av === null) return 0;
  const block = intMemalign(pt, av, alignment, size);
  if (block !== 0 || pt.mem.load32(pt.multiThreaded) === 0) return block;
  const other = arenaGetRetry(pt, av, size);
  return other === null ? 0 : intMemalign(pt, other, alignment, size);
}

/** @linux glibc malloc/malloc.c:__libc_calloc */
function callocSlow(pt: Ptmalloc, size: number): VirtAddr {
  const { mem } = pt;
  if (!(size < 2 ** 64)) return 0;
  if (pt.tcache === 0) tcacheInit(pt);
  const av = pt.arena ?? arenaGet2(pt, size);
  if (av === null) return mapWithoutArena(pt, size);
  const oldTop = mem.loadAddress(av.top);
  const clean = cleanFrom(pt, av, oldTop);
  let block = intMalloc(pt, av, size);
  let other: Arena | null = av;
  if (block === 0 && mem.load32(pt.multiThreaded) !== 0) {
    other = arenaGetRetry(pt, av, size);
    block = other === null ? mapWithoutArena(pt, size) : intMalloc(pt, other, size);
  }
  if (block === 0) return 0;
  const p = block - MEM;
  const head = mem.loadAddress(p + SIZE);
  if ((head & IS_MMAPPED) !== 0) return block;
  let toClear = head - (head & 7);
  if (p === oldTop && other === av && mem.load8(pt.globalMaxFast + 1) === 0) toClear = Math.min(toClear, clean - oldTop);
  mem.fill(block, toClear - SIZE_SZ, 0);
  return block;
}

/** Where the memory begins, at the top or beyond its end, that was never used: it is zero already. */
function cleanFrom(pt: Ptmalloc, av: Arena, top: VirtAddr): VirtAddr {
  const { mem } = pt;
  const end = top + chunksize(mem, top);
  if (av === pt.mainArena) {
    // The heap may have reached further once, and been trimmed. Before the top it is elsewhere, in a mapping: C compares
    // unsigned, and clears all.
    const reached = mem.loadAddress(pt.mp + SBRK_BASE) + mem.loadAddress(av.maxSystemMem);
    return reached < top ? Infinity : Math.max(end, reached);
  }
  const heap = heapForPtr(top);
  return Math.max(end, heap + mem.loadAddress(heap + MPROTECT_SIZE));
}

/** @linux glibc malloc/malloc.c:__libc_free */
function freeSlow(pt: Ptmalloc, ptr: VirtAddr): void {
  const { mem, mp } = pt;
  const p = ptr - MEM;
  const head = chunkHead(pt, p);
  if ((head & IS_MMAPPED) === 0) {
    if (pt.tcache === 0) tcacheInit(pt);
    intFree(pt, pt.arenaOf(p, head), p, false);
    return;
  }
  // Blocks of this size come and go: from now on the heap serves them.
  if (
    head > mem.loadAddress(mp + MMAP_THRESHOLD) &&
    head <= DEFAULT_MMAP_THRESHOLD_MAX &&
    mem.load32(mp + NO_DYN_THRESHOLD) === 0
  ) {
    const size = head - (head & 7);
    mem.storeAddress(mp + MMAP_THRESHOLD, size);
    mem.storeAddress(mp + TRIM_THRESHOLD, 2 * size);
  }
  munmapChunk(pt, p);
}

/** @linux glibc malloc/malloc.c:__libc_realloc */
function reallocBlock(pt: Ptmalloc, ptr: VirtAddr, size: number): VirtAddr {
  const { mem } = pt;
  const p = ptr - MEM;
  const head = chunkHead(pt, p);
  const oldSize = head - (head & 7);
  const mapped = (head & IS_MMAPPED) !== 0;
  if (!mapped && pt.tcache === 0) tcacheInit(pt);
  const av = mapped ? pt.mainArena : pt.arenaOf(p, head);
  if (wrapsAround(p, oldSize) || (p & 15) !== 0) mallocAbort('realloc(): invalid pointer');
  const nb = checkedRequest2size(size);
  if (nb < 0) return 0;
  if (!mapped) {
    const resized = intRealloc(pt, av, p, head, nb);
    if (resized !== 0) return resized;
    // Another arena may have the memory.
    const elsewhere = mallocSlow(pt, size);
    if (elsewhere === 0) return 0;
    mem.copy(elsewhere, ptr, oldSize - SIZE_SZ);
    intFree(pt, av, p, false);
    return elsewhere;
  }
  const moved = mremapChunk(pt, p, nb);
  if (moved !== 0) return moved + MEM;
  if (oldSize - SIZE_SZ >= nb) return ptr;
  const list = tcacheIndex(pt, nb);
  const cached = list >= 0 && mem.load16(pt.tcache + 2 * list) !== 0;
  const block = cached ? tcacheGet(pt, list) : mallocSlow(pt, size);
  if (block === 0) return 0;
  mem.copy(block, ptr, oldSize - CHUNK_HDR_SZ);
  munmapChunk(pt, p);
  return block;
}
