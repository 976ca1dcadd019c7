import { mallocAbort } from '../malloc-abort.ts';
import { leaveArena } from './arena-get.ts';
import * as chunk from './chunk.ts';
import { chunkHead, intFree } from './int-free.ts';
import type { Ptmalloc } from './ptmalloc.ts';
import { revealPtr } from './safe-linking.ts';
import { TCACHE_ENTRIES } from './tcache.ts';
import * as params from './params.ts';

const { MEM } = chunk;
const { TCACHE_MAX_BINS } = params;

/**
 * What the C library does when a thread ends: the blocks in its cache and the cache itself go back to the arenas that
 * they came from, and its arena to the threads to come.
 *
 * @linux glibc malloc/arena.c:__malloc_arena_thread_freeres
 */
export function threadFreeres(pt: Ptmalloc): void {
  tcacheThreadShutdown(pt);
  leaveArena(pt);
  pt.dropThreadRecord();
}

/** @linux glibc malloc/malloc.c:tcache_thread_shutdown */
function tcacheThreadShutdown(pt: Ptmalloc): void {
  const { mem } = pt;
  const cache = pt.refreshTcache();
  pt.shuttingDown = true;
  if (cache === 0) return;
  pt.setTcache(0);
  for (let list = 0; list < TCACHE_MAX_BINS; list++) {
    const headAt = cache + TCACHE_ENTRIES + 8 * list;
    for (let block = mem.loadAddress(headAt); block !== 0; block = mem.loadAddress(headAt)) {
      if ((block & 15) !== 0) mallocAbort('tcache_thread_shutdown(): unaligned tcache chunk detected');
      mem.storeAddress(headAt, revealPtr(mem, block));
      freeBlock(pt, block);
    }
  }
  freeBlock(pt, cache);
}

function freeBlock(pt: Ptmalloc, block: number): void {
  const p = block - MEM;
  intFree(pt, pt.arenaOf(p, chunkHead(pt, p)), p, false);
}
