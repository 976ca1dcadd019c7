import type { VirtAddr } from '@pagelab/abi';
import { mallocAbort } from '../malloc-abort.ts';
import type { Arena } from './arena.ts';
import * as chunk from './chunk.ts';
import { fastbinIndex } from './chunk.ts';
import type { Ptmalloc } from './ptmalloc.ts';
import { revealPtr } from './safe-linking.ts';
import { chunksize, unlinkChunk } from './unlink.ts';

const { BK, BK_NEXTSIZE, FD, FD_NEXTSIZE, MIN_LARGE_SIZE, NFASTBINS, PREV_INUSE, SIZE } = chunk;

/**
 * Empties the fast bins: each chunk in them is joined with its free neighbours and goes to the unsorted bin or into the
 * top. Smallest bin first, and in each the chunk that came last first. Linear in the chunks moved.
 *
 * @linux glibc malloc/malloc.c:malloc_consolidate
 */
export function mallocConsolidate(pt: Ptmalloc, av: Arena): void {
  const { mem } = pt;
  mem.store32(av.haveFastchunks, 0);
  for (let index = 0; index < NFASTBINS; index++) {
    const bin = av.fastbins + 8 * index;
    let p = mem.loadAddress(bin);
    if (p === 0) continue;
    mem.storeAddress(bin, 0);
    while (p !== 0) {
      if ((p & 15) !== 0) mallocAbort('malloc_consolidate(): unaligned fastbin chunk detected');
      const next = revealPtr(mem, p + FD);
      consolidateChunk(pt, av, p, index);
      p = next;
    }
  }
}

function consolidateChunk(pt: Ptmalloc, av: Arena, fast: VirtAddr, index: number): void {
  const { mem } = pt;
  let p = fast;
  const head = mem.loadAddress(p + SIZE);
  let size = head - (head & 7);
  if (fastbinIndex(mem.load32(p + SIZE)) !== index) mallocAbort('malloc_consolidate(): invalid chunk size');
  const nextChunk = p + size;
  const nextHead = mem.loadAddress(nextChunk + SIZE);
  const nextSize = nextHead - (nextHead & 7);
  if ((head & PREV_INUSE) === 0) {
    const prevSize = mem.loadAddress(p);
    size += prevSize;
    p -= prevSize;
    if (chunksize(mem, p) !== prevSize) mallocAbort('corrupted size vs. prev_size in fastbins');
    unlinkChunk(mem, p);
  }
  if (nextChunk === mem.loadAddress(av.top)) {
    mem.storeAddress(p + SIZE, size + nextSize + PREV_INUSE);
    mem.storeAddress(av.top, p);
    return;
  }
  if ((mem.loadAddress(nextChunk + nextSize + SIZE) & PREV_INUSE) === 0) {
    size += nextSize;
    unlinkChunk(mem, nextChunk);
  } else {
    mem.storeAddress(nextChunk + SIZE, nextHead - (nextHead & PREV_INUSE));
  }
  const unsorted = av.unsorted;
  const first = mem.loadAddress(unsorted + FD);
  mem.storeAddress(unsorted + FD, p);
  mem.storeAddress(first + BK, p);
  if (size >= MIN_LARGE_SIZE) {
    mem.storeAddress(p + FD_NEXTSIZE, 0);
    mem.storeAddress(p + BK_NEXTSIZE, 0);
  }
  mem.storeAddress(p + SIZE, size + PREV_INUSE);
  mem.storeAddress(p + BK, unsorted);
  mem.storeAddress(p + FD, first);
  mem.storeAddress(p + size, size);
}
