import type { VirtAddr } from '@pagelab/abi';
import { mallocAbort } from '../malloc-abort.ts';
import { NONCONTIGUOUS_BIT, isContiguous } from './arena.ts';
import type { Arena } from './arena.ts';
import * as chunk from './chunk.ts';
import { alignUp } from './chunk.ts';
import * as heapInfo from './heap-info.ts';
import { growHeap, heapForPtr, newHeap } from './heap-info.ts';
import { intFree } from './int-free.ts';
import { sysmallocMmap } from './mmap-chunk.ts';
import * as params from './params.ts';
import type { Ptmalloc } from './ptmalloc.ts';
import { mmapAnonymous, morecore } from './ptmalloc.ts';

const { CHUNK_HDR_SZ, MALLOC_ALIGNMENT, MALLOC_ALIGN_MASK, MEM, MINSIZE, NON_MAIN_ARENA, PREV_INUSE, SIZE } = chunk;
const { AR_PTR, HEAP_SIZE, PREV_HEAP, SIZEOF_HEAP_INFO } = heapInfo;
const { MMAP_THRESHOLD, N_MMAPS, N_MMAPS_MAX, SBRK_BASE, TOP_PAD } = params;

/** The unit of the first mapping that takes the place of `brk` where that fails. */
const MMAP_AS_MORECORE_SIZE = 1024 * 1024;

/**
 * Serves a request that the top cannot: by a mapping of its own where it is large, else by extending the heap.
 *
 * @returns the block, or 0 where the system has no memory
 * @linux glibc malloc/malloc.c:sysmalloc
 */
export function sysmalloc(pt: Ptmalloc, av: Arena, nb: number): VirtAddr {
  const { mem, mp } = pt;
  const large = nb >= mem.loadAddress(mp + MMAP_THRESHOLD) && mem.load32(mp + N_MMAPS) < (mem.load32(mp + N_MMAPS_MAX) | 0);
  if (large) {
    const block = sysmallocMmap(pt, nb);
    if (block !== 0) return block;
  }
  if (av === pt.mainArena) {
    extendHeap(pt, av, nb);
  } else if (!extendArena(pt, av, nb) && !large) {
    const block = sysmallocMmap(pt, nb);
    if (block !== 0) return block;
  }
  const systemMem = mem.loadAddress(av.systemMem);
  if (systemMem > mem.loadAddress(av.maxSystemMem)) mem.storeAddress(av.maxSystemMem, systemMem);
  const p = mem.loadAddress(av.top);
  const head = mem.loadAddress(p + SIZE);
  const size = head - (head & 7);
  if (size < nb + MINSIZE) return 0;
  const top = p + nb;
  mem.storeAddress(av.top, top);
  mem.storeAddress(p + SIZE, nb + PREV_INUSE + av.chunkFlag);
  mem.storeAddress(top + SIZE, size - nb + PREV_INUSE);
  return p + MEM;
}

/** Moves the break, or maps where that fails, and makes what came the top, joined with the old one where they touch. */
function extendHeap(pt: Ptmalloc, av: Arena, nb: number): void {
  const { mem, mp, pageSize } = pt;
  const oldTop = mem.loadAddress(av.top);
  const oldHead = mem.loadAddress(oldTop + SIZE);
  const oldSize = oldHead - (oldHead & 7);
  const oldEnd = oldTop + oldSize;
  checkOldTop(av, oldTop, oldHead, oldEnd, pageSize);

  let size = nb + mem.loadAddress(mp + TOP_PAD) + MINSIZE;
  if (isContiguous(mem, av)) size -= oldSize;
  size = alignUp(size, pageSize);
  let brk = size > 0 ? morecore(pt, size) : 0;
  /** The break behind what came; 0 where it is not known yet. */
  let end = 0;
  if (brk === 0) {
    // It does not touch the old top. 2.36 takes the unit for the page size here, and the page size for the least it
    // maps: once the heap has its gap, a mapping is no larger than what was asked of `brk`.
    let length = isContiguous(mem, av) ? alignUp(size + oldSize, MMAP_AS_MORECORE_SIZE) : size;
    if (length < pageSize) length = pageSize;
    if (length <= nb) return;
    brk = mmapAnonymous(pt, length);
    if (brk === 0) return;
    mem.store32(av.flags, mem.load32(av.flags) | NONCONTIGUOUS_BIT);
    size = length;
    end = brk + size;
  }

  if (mem.loadAddress(mp + SBRK_BASE) === 0) mem.storeAddress(mp + SBRK_BASE, brk);
  let systemMem = mem.loadAddress(av.systemMem) + size;
  mem.storeAddress(av.systemMem, systemMem);
  if (brk === oldEnd && end === 0) {
    mem.storeAddress(oldTop + SIZE, size + oldSize + PREV_INUSE);
    return;
  }
  const contiguous = isContiguous(mem, av);
  if (contiguous && oldSize !== 0 && brk < oldEnd) mallocAbort('break adjusted to free malloc space');

  // Someone else moved the break in between, or this is the first time.
  let correction = 0;
  let top = brk;
  if (contiguous) {
    if (oldSize !== 0) systemMem += brk - oldEnd;
    const misalign = brk & MALLOC_ALIGN_MASK;
    if (misalign > 0) {
      correction = MALLOC_ALIGNMENT - misalign;
      top += correction;
    }
    // As much again as the old top had, for the request counted on it; then on to a page boundary.
    correction += oldSize;
    const unaligned = brk + size + correction;
    correction += alignUp(unaligned, pageSize) - unaligned;
    end = morecore(pt, correction);
    if (end === 0) {
      correction = 0;
      end = morecore(pt, 0);
    }
  } else {
    if ((brk & MALLOC_ALIGN_MASK) !== 0) assertionFailure('((unsigned long) chunk2mem (brk) & MALLOC_ALIGN_MASK) == 0');
    if (end === 0) end = morecore(pt, 0);
  }
  if (end === 0) {
    mem.storeAddress(av.systemMem, systemMem);
    return;
  }
  mem.storeAddress(av.top, top);
  mem.storeAddress(top + SIZE, end - top + correction + PREV_INUSE);
  mem.storeAddress(av.systemMem, systemMem + correction);
  if (oldSize !== 0) fenceOff(pt, av, oldTop, oldSize);
}

/** Makes the top of a thread arena larger, or begins another heap for it; false where the system refuses both. */
function extendArena(pt: Ptmalloc, av: Arena, nb: number): boolean {
  const { mem } = pt;
  const oldTop = mem.loadAddress(av.top);
  const oldHead = mem.loadAddress(oldTop + SIZE);
  const oldSize = oldHead - (oldHead & 7);
  checkOldTop(av, oldTop, oldHead, oldTop + oldSize, pt.pageSize);
  const oldHeap = heapForPtr(oldTop);
  const oldHeapSize = mem.loadAddress(oldHeap + HEAP_SIZE);
  if (growHeap(pt, oldHeap, MINSIZE + nb - oldSize)) {
    const heapSize = mem.loadAddress(oldHeap + HEAP_SIZE);
    mem.storeAddress(av.systemMem, mem.loadAddress(av.systemMem) + heapSize - oldHeapSize);
    mem.storeAddress(oldTop + SIZE, oldHeap + heapSize - oldTop + PREV_INUSE);
    return true;
  }
  const heap = newHeap(pt, nb + MINSIZE + SIZEOF_HEAP_INFO, mem.loadAddress(pt.mp + TOP_PAD));
  if (heap === 0) return false;
  const heapSize = mem.loadAddress(heap + HEAP_SIZE);
  mem.storeAddress(heap + AR_PTR, av.address);
  mem.storeAddress(heap + PREV_HEAP, oldHeap);
  mem.storeAddress(av.systemMem, mem.loadAddress(av.systemMem) + heapSize);
  const top = heap + SIZEOF_HEAP_INFO;
  mem.storeAddress(av.top, top);
  mem.storeAddress(top + SIZE, heapSize - SIZEOF_HEAP_INFO + PREV_INUSE);
  fenceOffHeap(pt, av, oldTop, oldSize);
  return true;
}

/** The old top ends its heap: two chunks without a block, the last of size 0, stand at the end. */
function fenceOffHeap(pt: Ptmalloc, av: Arena, oldTop: VirtAddr, oldSize: number): void {
  const { mem } = pt;
  const shrunk = oldSize - MINSIZE;
  const size = shrunk - (shrunk & MALLOC_ALIGN_MASK);
  const fence = oldTop + size;
  mem.storeAddress(fence + CHUNK_HDR_SZ + SIZE, PREV_INUSE);
  if (size >= MINSIZE) {
    mem.storeAddress(fence + SIZE, CHUNK_HDR_SZ + PREV_INUSE);
    mem.storeAddress(fence + CHUNK_HDR_SZ, CHUNK_HDR_SZ);
    mem.storeAddress(oldTop + SIZE, size + PREV_INUSE + NON_MAIN_ARENA);
    intFree(pt, av, oldTop, true);
  } else {
    mem.storeAddress(oldTop + SIZE, size + CHUNK_HDR_SZ + PREV_INUSE);
    mem.storeAddress(fence + CHUNK_HDR_SZ, size + CHUNK_HDR_SZ);
  }
}

/** The old top ends where the heap has a gap: two used chunks without a block keep it from being joined across. */
function fenceOff(pt: Ptmalloc, av: Arena, oldTop: VirtAddr, oldSize: number): void {
  const { mem } = pt;
  const shrunk = oldSize - 2 * CHUNK_HDR_SZ;
  const size = shrunk - (shrunk & MALLOC_ALIGN_MASK);
  mem.storeAddress(oldTop + SIZE, size + PREV_INUSE);
  mem.storeAddress(oldTop + size + SIZE, CHUNK_HDR_SZ + PREV_INUSE);
  mem.storeAddress(oldTop + size + CHUNK_HDR_SZ + SIZE, CHUNK_HDR_SZ + PREV_INUSE);
  if (size >= MINSIZE) intFree(pt, av, oldTop, true);
}

function checkOldTop(av: Arena, oldTop: VirtAddr, oldHead: number, oldEnd: VirtAddr, pageSize: number): void {
  const oldSize = oldHead - (oldHead & 7);
  if (oldTop === av.unsorted && oldSize === 0) return;
  if (oldSize >= MINSIZE && (oldHead & PREV_INUSE) !== 0 && (oldEnd & (pageSize - 1)) === 0) return;
  assertionFailure(
    '(old_top == initial_top (av) && old_size == 0) || ((unsigned long) (old_size) >= MINSIZE && ' +
      'prev_inuse (old_top) && ((unsigned long) old_end & (pagesize - 1)) == 0)',
  );
}

/** Gives up as glibc does where one of its assertions fails. */
function assertionFailure(assertion: string): never {
  mallocAbort(`Fatal glibc error: malloc assertion failure in sysmalloc: ${assertion}`);
}
