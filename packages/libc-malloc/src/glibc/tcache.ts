/**
 * The thread's cache: 64 single-linked lists of blocks, one a chunk size from 32 to 1040, last in first out, each with
 * at most `tcache_count` (7) blocks. It is the first chunk of the heap: 64 counts of 16 bits, then 64 heads.
 *
 * A cached block holds the link (safe-linked) in its first word and the key in its second, by which a second free of
 * the same block is noticed. To the arena the chunk is in use.
 *
 * @linux glibc malloc/malloc.c:struct tcache_perthread_struct
 */
import type { VirtAddr } from '@pagelab/abi';
import { mallocAbort } from '../malloc-abort.ts';
import * as chunk from './chunk.ts';
import type { Ptmalloc } from './ptmalloc.ts';
import { protectPtr, revealPtr } from './safe-linking.ts';

const { MALLOC_ALIGN_MASK, MINSIZE } = chunk;

/** From the cache to its heads. */
export const TCACHE_ENTRIES = 128;
/** From a cached block to its key. */
export const TCACHE_KEY = 8;
/** Bytes of the cache. */
export const SIZEOF_TCACHE = 640;

/**
 * The list of chunks of `size` bytes, or -1 where there is none: the size is beyond the last list, or the thread has no
 * cache yet.
 */
export function tcacheIndex(pt: Ptmalloc, size: number): number {
  return pt.tcache !== 0 && size <= pt.tcacheMaxChunk ? (size - MINSIZE + MALLOC_ALIGN_MASK) >>> 4 : -1;
}

/** Blocks that the list `index` still takes; 0 for -1. */
export function tcacheRoom(pt: Ptmalloc, index: number): number {
  return index >= 0 ? pt.tcacheCount - pt.mem.load16(pt.tcache + 2 * index) : 0;
}

/** Makes `block` a cached one, before the list that begins with `next`; returns it. Head and count are the caller's. */
export function tcacheLink(pt: Ptmalloc, block: VirtAddr, next: VirtAddr): VirtAddr {
  const { mem } = pt;
  mem.storeAddress(block + TCACHE_KEY, pt.tcacheKey);
  mem.storeAddress(block, protectPtr(block, next));
  return block;
}

/** Adds to the count of the list `index`. */
export function tcacheCount(pt: Ptmalloc, index: number, more: number): void {
  const count = pt.tcache + 2 * index;
  pt.mem.store16(count, pt.mem.load16(count) + more);
}

/**
 * Puts a block on the list `index`, which has room.
 *
 * @linux glibc malloc/malloc.c:tcache_put
 */
export function tcachePut(pt: Ptmalloc, block: VirtAddr, index: number): void {
  const { mem, tcache } = pt;
  const head = tcache + TCACHE_ENTRIES + 8 * index;
  mem.storeAddress(block + TCACHE_KEY, pt.tcacheKey);
  mem.storeAddress(block, protectPtr(block, mem.loadAddress(head)));
  mem.storeAddress(head, block);
  const count = tcache + 2 * index;
  mem.store16(count, mem.load16(count) + 1);
}

/**
 * Takes the block that came last off the list `index`, whose count is not 0.
 *
 * @linux glibc malloc/malloc.c:tcache_get
 */
export function tcacheGet(pt: Ptmalloc, index: number): VirtAddr {
  const { mem, tcache } = pt;
  const head = tcache + TCACHE_ENTRIES + 8 * index;
  const block = mem.loadAddress(head);
  if ((block & 15) !== 0) mallocAbort('malloc(): unaligned tcache chunk detected');
  mem.storeAddress(head, revealPtr(mem, block));
  const count = tcache + 2 * index;
  mem.store16(count, mem.load16(count) - 1);
  mem.storeAddress(block + TCACHE_KEY, 0);
  return block;
}

/**
 * Looks for a block that carries the key on its list: it may be there, or its user may have written what looks like
 * the key.
 *
 * @linux glibc malloc/malloc.c:_int_free
 */
export function tcacheCheckDoubleFree(pt: Ptmalloc, block: VirtAddr, index: number): void {
  const { mem } = pt;
  let count = 0;
  let other = mem.loadAddress(pt.tcache + TCACHE_ENTRIES + 8 * index);
  for (; other !== 0; other = revealPtr(mem, other), count++) {
    if (count >= pt.tcacheCount) mallocAbort('free(): too many chunks detected in tcache');
    if ((other & 15) !== 0) mallocAbort('free(): unaligned chunk detected in tcache 2');
    if (other === block) mallocAbort('free(): double free detected in tcache 2');
  }
}
