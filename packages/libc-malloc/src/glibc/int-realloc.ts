import type { VirtAddr } from '@pagelab/abi';
import { mallocAbort } from '../malloc-abort.ts';
import type { Arena } from './arena.ts';
import * as chunk from './chunk.ts';
import { intFree } from './int-free.ts';
import { intMalloc } from './int-malloc.ts';
import type { Ptmalloc } from './ptmalloc.ts';
import { chunksize, unlinkChunk } from './unlink.ts';

const { CHUNK_HDR_SZ, MALLOC_ALIGN_MASK, MEM, MINSIZE, PREV_INUSE, SIZE, SIZE_SZ } = chunk;

/**
 * Resizes a chunk of the heap to `nb` bytes: in place where it shrinks, or where the top or a free chunk follows that is
 * large enough; else elsewhere.
 *
 * @returns the block, or 0 where there is no memory
 * @linux glibc malloc/malloc.c:_int_realloc
 */
export function intRealloc(pt: Ptmalloc, av: Arena, oldChunk: VirtAddr, oldHead: number, nb: number): VirtAddr {
  const { mem } = pt;
  const oldSize = oldHead - (oldHead & 7);
  const systemMem = mem.loadAddress(av.systemMem);
  if (oldHead <= CHUNK_HDR_SZ || oldSize >= systemMem) mallocAbort('realloc(): invalid old size');
  const next = oldChunk + oldSize;
  const nextHead = mem.loadAddress(next + SIZE);
  const nextSize = nextHead - (nextHead & 7);
  if (nextHead <= CHUNK_HDR_SZ || nextSize >= systemMem) mallocAbort('realloc(): invalid next size');

  let size = oldSize;
  if (oldSize < nb) {
    const joined = oldSize + nextSize;
    if (next === mem.loadAddress(av.top)) {
      if (joined >= nb + MINSIZE) {
        setSize(pt, oldChunk, nb);
        mem.storeAddress(av.top, oldChunk + nb);
        mem.storeAddress(oldChunk + nb + SIZE, joined - nb + PREV_INUSE);
        return oldChunk + MEM;
      }
    } else if (joined >= nb && (mem.load32(next + nextSize + SIZE) & PREV_INUSE) === 0) {
      unlinkChunk(mem, next);
      size = joined;
    }
    if (size === oldSize) {
      const block = intMalloc(pt, av, nb - MALLOC_ALIGN_MASK);
      if (block === 0) return 0;
      if (block - MEM !== next) {
        mem.copy(block, oldChunk + MEM, oldSize - SIZE_SZ);
        intFree(pt, av, oldChunk, true);
        return block;
      }
      // What came lies just behind: no need to copy.
      size = oldSize + chunksize(mem, next);
    }
  }

  const rest = size - nb;
  if (rest < MINSIZE) {
    setSize(pt, oldChunk, size);
    setPrevInuse(pt, oldChunk + size);
  } else {
    const remainder = oldChunk + nb;
    setSize(pt, oldChunk, nb);
    mem.storeAddress(remainder + SIZE, rest + PREV_INUSE + av.chunkFlag);
    setPrevInuse(pt, remainder + rest);
    intFree(pt, av, remainder, true);
  }
  return oldChunk + MEM;
}

/** Changes a chunk's size and keeps its flags. */
export function setSize(pt: Ptmalloc, p: VirtAddr, size: number): void {
  pt.mem.storeAddress(p + SIZE, size + (pt.mem.load32(p + SIZE) & 7));
}

/** Marks the chunk before `p` as used. */
export function setPrevInuse(pt: Ptmalloc, p: VirtAddr): void {
  pt.mem.store32(p + SIZE, pt.mem.load32(p + SIZE) | PREV_INUSE);
}
