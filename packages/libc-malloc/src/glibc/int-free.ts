import type { VirtAddr } from '@pagelab/abi';
import { mallocAbort } from '../malloc-abort.ts';
import type { Arena } from './arena.ts';
import { isContiguous } from './arena.ts';
import * as chunk from './chunk.ts';
import { fastbinIndex } from './chunk.ts';
import { mallocConsolidate } from './consolidate.ts';
import { heapForPtr, heapTrim } from './heap-info.ts';
import { linkUnsorted } from './link-unsorted.ts';
import { munmapChunk } from './mmap-chunk.ts';
import * as params from './params.ts';
import type { Ptmalloc } from './ptmalloc.ts';
import { protectPtr } from './safe-linking.ts';
import { systrim } from './systrim.ts';
import * as tcacheLayout from './tcache.ts';
import { tcacheCheckDoubleFree, tcacheIndex, tcachePut, tcacheRoom } from './tcache.ts';
import { chunksize, unlinkChunk } from './unlink.ts';

const {
  BK_NEXTSIZE,
  CHUNK_HDR_SZ,
  FD,
  FD_NEXTSIZE,
  IS_MMAPPED,
  MEM,
  MINSIZE,
  MIN_LARGE_SIZE,
  PREV_INUSE,
  SIZE,
} = chunk;
const { TOP_PAD, TRIM_THRESHOLD } = params;
const { TCACHE_KEY } = tcacheLayout;

/** A free that makes a chunk of this size or more empties the fast bins and may trim the top. */
const FASTBIN_CONSOLIDATION_THRESHOLD = 65_536;

/**
 * Frees the chunk `p`: to the thread's cache, a fast bin, or joined with its free neighbours to the unsorted bin or the
 * top.
 *
 * @param nested whether an operation on the heap is under way already, which makes one check more
 * @linux glibc malloc/malloc.c:_int_free
 */
export function intFree(pt: Ptmalloc, av: Arena, p: VirtAddr, nested: boolean): void {
  const { mem } = pt;
  const head = chunkHead(pt, p);
  const size = head - (head & 7);
  if (wrapsAround(p, size) || (p & 15) !== 0) mallocAbort('free(): invalid pointer');
  if ((size >= 0 && size < MINSIZE) || (size & 15) !== 0) mallocAbort('free(): invalid size');
  const index = size >= 0 ? tcacheIndex(pt, size) : -1;
  if (index >= 0) {
    const block = p + MEM;
    if (mem.load32(block + TCACHE_KEY) === pt.tcacheKeyLow && mem.loadAddress(block + TCACHE_KEY) === pt.tcacheKey) {
      tcacheCheckDoubleFree(pt, block, index);
    }
    if (tcacheRoom(pt, index) > 0) {
      tcachePut(pt, block, index);
      return;
    }
  }
  freeUncached(pt, av, p, head, nested);
}

/**
 * Frees the chunk `p`, which the thread's cache does not take: the second half of {@link intFree}.
 *
 * @param head its size word, which passed the checks of the first half
 */
export function freeUncached(pt: Ptmalloc, av: Arena, p: VirtAddr, head: number, nested: boolean): void {
  const size = head - (head & 7);
  // The largest fast chunk and the perturb byte lie side by side.
  const settings = pt.mem.load16(pt.globalMaxFast);
  if (size >= 0 && size <= (settings & 0xff)) freeFast(pt, av, p, size, nested, settings >>> 8);
  else if ((head & IS_MMAPPED) === 0) freeNormal(pt, av, p, head, settings >>> 8);
  else munmapChunk(pt, p);
}

/** Whether a chunk of `size` bytes at `p` would reach past the end of the 64-bit address space, or has no size at all. */
export function wrapsAround(p: VirtAddr, size: number): boolean {
  return size <= 0 ? p > -size : p + size > 2 ** 64;
}

/**
 * The size word of a chunk that may be smashed: one that a double cannot hold exactly keeps its low 32 bits, and stays
 * larger than any heap.
 */
export function chunkHead(pt: Ptmalloc, p: VirtAddr): number {
  const head = pt.mem.loadAddress(p + SIZE);
  return Math.abs(head) < 2 ** 53 ? head : 2 ** 52 + pt.mem.load32(p + SIZE);
}

function freeFast(pt: Ptmalloc, av: Arena, p: VirtAddr, size: number, nested: boolean, perturb: number): void {
  const { mem } = pt;
  const nextHead = mem.loadAddress(p + size + SIZE);
  if (nextHead <= CHUNK_HDR_SZ || nextHead - (nextHead & 7) >= mem.loadAddress(av.systemMem)) {
    mallocAbort('free(): invalid next size (fast)');
  }
  if (perturb !== 0) mem.fill(p + MEM, size - CHUNK_HDR_SZ, perturb);
  mem.store32(av.haveFastchunks, 1);
  const index = fastbinIndex(size);
  const bin = av.fastbins + 8 * index;
  const old = mem.loadAddress(bin);
  if (old === p) mallocAbort('double free or corruption (fasttop)');
  mem.storeAddress(p + FD, protectPtr(p + FD, old));
  mem.storeAddress(bin, p);
  if (nested && old !== 0 && fastbinIndex(mem.load32(old + SIZE)) !== index) mallocAbort('invalid fastbin entry (free)');
}

function freeNormal(pt: Ptmalloc, av: Arena, chunk: VirtAddr, head: number, perturb: number): void {
  const { mem } = pt;
  let p = chunk;
  let size = head - (head & 7);
  const nextChunk = p + size;
  const top = mem.loadAddress(av.top);
  if (p === top) mallocAbort('double free or corruption (top)');
  // An address below 0 is one of the upper half: beyond the top as well.
  if ((nextChunk >= top + chunksize(mem, top) || nextChunk < 0) && isContiguous(mem, av)) {
    mallocAbort('double free or corruption (out)');
  }
  const nextHead = chunkHead(pt, nextChunk);
  if ((nextHead & PREV_INUSE) === 0) mallocAbort('double free or corruption (!prev)');
  const nextSize = nextHead - (nextHead & 7);
  if (nextHead <= CHUNK_HDR_SZ || nextSize >= mem.loadAddress(av.systemMem)) {
    mallocAbort('free(): invalid next size (normal)');
  }
  if (perturb !== 0) mem.fill(p + MEM, size - CHUNK_HDR_SZ, perturb);
  if ((head & PREV_INUSE) === 0) {
    const prevSize = mem.loadAddress(p);
    size += prevSize;
    p -= prevSize;
    if (chunksize(mem, p) !== prevSize) mallocAbort('corrupted size vs. prev_size while consolidating');
    unlinkChunk(mem, p);
  }
  if (nextChunk !== top) {
    if ((mem.load32(nextChunk + nextSize + SIZE) & PREV_INUSE) === 0) {
      unlinkChunk(mem, nextChunk);
      size += nextSize;
    } else {
      mem.storeAddress(nextChunk + SIZE, nextHead - PREV_INUSE);
    }
    linkUnsorted(mem, av.unsorted, p, 'free(): corrupted unsorted chunks');
    if (size >= MIN_LARGE_SIZE) {
      mem.storeAddress(p + FD_NEXTSIZE, 0);
      mem.storeAddress(p + BK_NEXTSIZE, 0);
    }
    mem.storeAddress(p + SIZE, size + PREV_INUSE);
    mem.storeAddress(p + size, size);
  } else {
    size += nextSize;
    mem.storeAddress(p + SIZE, size + PREV_INUSE);
    mem.storeAddress(av.top, p);
  }
  if (size >= FASTBIN_CONSOLIDATION_THRESHOLD) {
    if (mem.load32(av.haveFastchunks) !== 0) mallocConsolidate(pt, av);
    const topNow = mem.loadAddress(av.top);
    if (av !== pt.mainArena) {
      heapTrim(pt, av, heapForPtr(topNow), mem.loadAddress(pt.mp + TOP_PAD));
    } else if (chunksize(mem, topNow) >= mem.loadAddress(pt.mp + TRIM_THRESHOLD)) {
      systrim(pt, av, mem.loadAddress(pt.mp + TOP_PAD));
    }
  }
}
