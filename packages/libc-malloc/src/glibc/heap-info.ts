/**
 * Heaps of thread arenas: 64 MiB of address space each, at a multiple of 64 MiB, so that a chunk's address tells its
 * heap. Only what is used is readable; the rest is reserved. An arena's first heap holds the arena itself, and further
 * ones come where a heap is full:
 *
 * ```
 *   heap ->  +0  ar_ptr         the arena                          |<------- size ------>|
 *            +8  prev           the heap before, 0 in the first    |<--- mprotect_size --+--->|
 *           +16  size           bytes in use, up to the top's end  +---------------------+----+--- - - - --+
 *           +24  mprotect_size  bytes that are readable            | heap_info | chunks, top  |  reserved  |
 *           +32  pagesize                                          +---------------------+----+--- - - - --+
 *           +48  (in the first heap) the arena, then chunks
 * ```
 *
 * @linux glibc malloc/arena.c:struct _heap_info
 */
import type { VirtAddr } from '@pagelab/abi';
import {
  MADV_DONTNEED,
  MAP_ANONYMOUS,
  MAP_NORESERVE,
  MAP_PRIVATE,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
  SyscallError,
} from '@pagelab/abi';
import { mallocAbort } from '../malloc-abort.ts';
import type { Arena } from './arena.ts';
import * as arenaLayout from './arena.ts';
import * as chunk from './chunk.ts';
import { alignDown, alignUp } from './chunk.ts';
import * as params from './params.ts';
import type { Ptmalloc } from './ptmalloc.ts';
import { chunksize, unlinkChunk } from './unlink.ts';

const { HEAP_MAX_SIZE } = arenaLayout;
const { MALLOC_ALIGN_MASK, MINSIZE, PREV_INUSE, SIZE, SIZE_SZ } = chunk;
const { TRIM_THRESHOLD } = params;

/** Bytes of `heap_info`. */
export const SIZEOF_HEAP_INFO = 48;
/** Offsets in it. */
export const AR_PTR = 0;
export const PREV_HEAP = 8;
export const HEAP_SIZE = 16;
export const MPROTECT_SIZE = 24;
const PAGESIZE = 32;

/** The least that is made readable of a heap. */
const HEAP_MIN_SIZE = 32 * 1024;

/** The heap around a chunk of a thread arena. @linux glibc malloc/arena.c:heap_for_ptr */
export function heapForPtr(p: VirtAddr): VirtAddr {
  return alignDown(p, HEAP_MAX_SIZE);
}

/**
 * Makes a heap of which `size` bytes and as many as `topPad` more are readable.
 *
 * @returns the heap, or 0 where `size` is too large for one or the system has no room
 * @linux glibc malloc/arena.c:new_heap
 */
export function newHeap(pt: Ptmalloc, size: number, topPad: number): VirtAddr {
  const { mem, os, pageSize } = pt;
  let length = size;
  if (size + topPad < HEAP_MIN_SIZE) length = HEAP_MIN_SIZE;
  else if (size + topPad <= HEAP_MAX_SIZE) length = size + topPad;
  else if (size > HEAP_MAX_SIZE) return 0;
  else length = HEAP_MAX_SIZE;
  length = alignUp(length, pageSize);

  const heap = reserveHeap(pt);
  if (heap === 0) return 0;
  if (!succeeds(() => os.mprotect(heap, length, PROT_READ | PROT_WRITE))) {
    os.munmap(heap, HEAP_MAX_SIZE);
    return 0;
  }
  mem.storeAddress(heap + HEAP_SIZE, length);
  mem.storeAddress(heap + MPROTECT_SIZE, length);
  mem.storeAddress(heap + PAGESIZE, pageSize);
  return heap;
}

/** Address space for a heap: twice as much is mapped, and what is not aligned given back. 0 where there is none. */
function reserveHeap(pt: Ptmalloc): VirtAddr {
  const { mem, os, alignedHeapArea } = pt;
  const hint = mem.loadAddress(alignedHeapArea);
  if (hint !== 0) {
    const heap = reserve(pt, hint, HEAP_MAX_SIZE);
    mem.storeAddress(alignedHeapArea, 0);
    if (heap !== 0 && heap % HEAP_MAX_SIZE === 0) return heap;
    if (heap !== 0) os.munmap(heap, HEAP_MAX_SIZE);
  }
  const start = reserve(pt, 0, 2 * HEAP_MAX_SIZE);
  if (start !== 0) {
    const heap = alignUp(start, HEAP_MAX_SIZE);
    const before = heap - start;
    if (before > 0) os.munmap(start, before);
    else mem.storeAddress(alignedHeapArea, heap + HEAP_MAX_SIZE);
    os.munmap(heap + HEAP_MAX_SIZE, HEAP_MAX_SIZE - before);
    return heap;
  }
  const heap = reserve(pt, 0, HEAP_MAX_SIZE);
  if (heap === 0 || heap % HEAP_MAX_SIZE === 0) return heap;
  os.munmap(heap, HEAP_MAX_SIZE);
  return 0;
}

function reserve(pt: Ptmalloc, addr: VirtAddr, length: number): VirtAddr {
  try {
    return pt.os.mmap(addr, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  } catch (error) {
    if (error instanceof SyscallError) return 0;
    throw error;
  }
}

function succeeds(call: () => void): boolean {
  try {
    call();
    return true;
  } catch (error) {
    if (error instanceof SyscallError) return false;
    throw error;
  }
}

/**
 * Makes a heap larger by `diff` bytes, rounded up to pages; false where it is as large as a heap may be, or the system
 * has no memory.
 *
 * @linux glibc malloc/arena.c:grow_heap
 */
export function growHeap(pt: Ptmalloc, heap: VirtAddr, diff: number): boolean {
  const { mem, os } = pt;
  const newSize = mem.loadAddress(heap + HEAP_SIZE) + alignUp(diff, pt.pageSize);
  if (newSize > HEAP_MAX_SIZE) return false;
  const readable = mem.loadAddress(heap + MPROTECT_SIZE);
  if (newSize > readable) {
    if (!succeeds(() => os.mprotect(heap + readable, newSize - readable, PROT_READ | PROT_WRITE))) return false;
    mem.storeAddress(heap + MPROTECT_SIZE, newSize);
  }
  mem.storeAddress(heap + HEAP_SIZE, newSize);
  return true;
}

/**
 * Gives the last `diff` bytes of a heap back; they stay readable, and read as zeros.
 *
 * @linux glibc malloc/arena.c:shrink_heap
 */
function shrinkHeap(pt: Ptmalloc, heap: VirtAddr, diff: number): boolean {
  const { mem, os } = pt;
  const newSize = mem.loadAddress(heap + HEAP_SIZE) - diff;
  if (newSize < SIZEOF_HEAP_INFO) return false;
  // Locked memory stays; nobody could be told.
  succeeds(() => os.madvise(heap + newSize, diff, MADV_DONTNEED));
  mem.storeAddress(heap + HEAP_SIZE, newSize);
  return true;
}

/** @linux glibc malloc/arena.c:delete_heap */
function deleteHeap(pt: Ptmalloc, heap: VirtAddr): void {
  const { mem, alignedHeapArea } = pt;
  if (heap + HEAP_MAX_SIZE === mem.loadAddress(alignedHeapArea)) mem.storeAddress(alignedHeapArea, 0);
  succeeds(() => pt.os.munmap(heap, HEAP_MAX_SIZE));
}

/**
 * Gives the arena's last heaps back while the top is all that is in them, then the pages at the end of the top, but
 * for `pad` bytes. Linear in the heaps given back.
 *
 * @linux glibc malloc/arena.c:heap_trim
 */
export function heapTrim(pt: Ptmalloc, av: Arena, lastHeap: VirtAddr, pad: number): void {
  const { mem, pageSize } = pt;
  let heap = lastHeap;
  let top = mem.loadAddress(av.top);
  while (top === heap + SIZEOF_HEAP_INFO) {
    const prev = mem.loadAddress(heap + PREV_HEAP);
    const prevSize = mem.loadAddress(prev + HEAP_SIZE);
    const fencepost = alignDown(prev + prevSize - (MINSIZE - 2 * SIZE_SZ), MALLOC_ALIGN_MASK + 1);
    if (mem.loadAddress(fencepost + SIZE) !== PREV_INUSE) assertionFailure('chunksize_nomask (p) == (0 | PREV_INUSE)');
    let p = fencepost - mem.loadAddress(fencepost);
    const head = mem.loadAddress(p + SIZE);
    let newSize = chunksize(mem, p) + (prev + prevSize - fencepost);
    if (newSize <= 0 || newSize >= 2 * MINSIZE) assertionFailure('new_size > 0 && new_size < (long) (2 * MINSIZE)');
    if ((head & PREV_INUSE) === 0) newSize += mem.loadAddress(p);
    if (newSize <= 0 || newSize >= HEAP_MAX_SIZE) assertionFailure('new_size > 0 && new_size < max_size');
    if (newSize + (HEAP_MAX_SIZE - prevSize) < pad + MINSIZE + pageSize) break;
    mem.storeAddress(av.systemMem, mem.loadAddress(av.systemMem) - mem.loadAddress(heap + HEAP_SIZE));
    deleteHeap(pt, heap);
    heap = prev;
    if ((head & PREV_INUSE) === 0) {
      p -= mem.loadAddress(p);
      unlinkChunk(mem, p);
    }
    if (p + newSize !== heap + prevSize) {
      assertionFailure('((char *) p + new_size) == ((char *) heap + heap->size)');
    }
    top = p;
    mem.storeAddress(av.top, top);
    mem.storeAddress(top + SIZE, newSize + PREV_INUSE);
  }

  const topSize = chunksize(mem, top);
  if (topSize < mem.loadAddress(pt.mp + TRIM_THRESHOLD)) return;
  const spare = topSize - MINSIZE - 1;
  if (spare < 0 || spare <= pad) return;
  const extra = alignDown(spare - pad, pageSize);
  if (extra === 0 || !shrinkHeap(pt, heap, extra)) return;
  mem.storeAddress(av.systemMem, mem.loadAddress(av.systemMem) - extra);
  mem.storeAddress(top + SIZE, topSize - extra + PREV_INUSE);
}

/** Gives up as glibc does where one of its assertions fails. */
function assertionFailure(assertion: string): never {
  mallocAbort(`Fatal glibc error: malloc assertion failure in heap_trim: ${assertion}`);
}
