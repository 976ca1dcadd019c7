/**
 * Blocks with a mapping of their own: the chunk's first word is its distance from the start of the mapping, its size
 * goes to the end of it.
 */
import type { VirtAddr } from '@pagelab/abi';
import { MREMAP_MAYMOVE, SyscallError } from '@pagelab/abi';
import { mallocAbort } from '../malloc-abort.ts';
import * as chunk from './chunk.ts';
import { alignUp } from './chunk.ts';
import * as params from './params.ts';
import type { Ptmalloc } from './ptmalloc.ts';
import { mmapAnonymous } from './ptmalloc.ts';
import { chunksize } from './unlink.ts';

const { IS_MMAPPED, MEM, SIZE, SIZE_SZ } = chunk;
const { MAX_MMAPPED_MEM, MAX_N_MMAPS, MMAPPED_MEM, N_MMAPS } = params;

/**
 * Maps a chunk of at least `nb` bytes; returns its block, or 0 where the system refuses.
 *
 * @linux glibc malloc/malloc.c:sysmalloc_mmap
 */
export function sysmallocMmap(pt: Ptmalloc, nb: number): VirtAddr {
  const { mem, mp } = pt;
  // No chunk follows that would lend its first word.
  const size = alignUp(nb + SIZE_SZ, pt.pageSize);
  const p = mmapAnonymous(pt, size);
  if (p === 0) return 0;
  mem.storeAddress(p, 0);
  mem.storeAddress(p + SIZE, size + IS_MMAPPED);
  const nrMmaps = mem.load32(mp + N_MMAPS) + 1;
  mem.store32(mp + N_MMAPS, nrMmaps);
  if (nrMmaps > mem.load32(mp + MAX_N_MMAPS)) mem.store32(mp + MAX_N_MMAPS, nrMmaps);
  addMmappedMem(pt, size);
  return p + MEM;
}

function addMmappedMem(pt: Ptmalloc, bytes: number): void {
  const { mem, mp } = pt;
  const total = mem.loadAddress(mp + MMAPPED_MEM) + bytes;
  mem.storeAddress(mp + MMAPPED_MEM, total);
  if (total > mem.loadAddress(mp + MAX_MMAPPED_MEM)) mem.storeAddress(mp + MAX_MMAPPED_MEM, total);
}

/** Whether what should be a mapping of `length` bytes at `start` with its block at `mem` cannot be one. */
function notMapping(pt: Ptmalloc, start: VirtAddr, length: number, mem: VirtAddr): boolean {
  const mask = pt.pageSize - 1;
  const offset = mem & mask;
  return ((start | length) & mask) !== 0 || (offset & (offset - 1)) !== 0;
}

/**
 * Unmaps a chunk.
 *
 * @linux glibc malloc/malloc.c:munmap_chunk
 */
export function munmapChunk(pt: Ptmalloc, p: VirtAddr): void {
  const { mem, mp } = pt;
  const before = mem.loadAddress(p);
  const start = p - before;
  const length = before + chunksize(mem, p);
  if (notMapping(pt, start, length, p + MEM)) mallocAbort('munmap_chunk(): invalid pointer');
  mem.store32(mp + N_MMAPS, mem.load32(mp + N_MMAPS) - 1);
  mem.storeAddress(mp + MMAPPED_MEM, mem.loadAddress(mp + MMAPPED_MEM) - length);
  try {
    pt.os.munmap(start, length);
  } catch (error) {
    // Nobody could be told.
    if (!(error instanceof SyscallError)) throw error;
  }
}

/**
 * Resizes a mapped chunk to hold `nb` bytes; returns the chunk, moved or not, or 0 where the system refuses.
 *
 * @linux glibc malloc/malloc.c:mremap_chunk
 */
export function mremapChunk(pt: Ptmalloc, p: VirtAddr, nb: number): VirtAddr {
  const { mem } = pt;
  const before = mem.loadAddress(p);
  const size = chunksize(mem, p);
  const start = p - before;
  const length = before + size;
  if (notMapping(pt, start, length, p + MEM)) mallocAbort('mremap_chunk(): invalid pointer');
  const newLength = alignUp(nb + before + SIZE_SZ, pt.pageSize);
  if (newLength === length) return p;
  let moved: VirtAddr;
  try {
    moved = pt.os.mremap(start, length, newLength, MREMAP_MAYMOVE) + before;
  } catch (error) {
    if (error instanceof SyscallError) return 0;
    throw error;
  }
  mem.storeAddress(moved + SIZE, newLength - before + IS_MMAPPED);
  addMmappedMem(pt, newLength - length);
  return moved;
}
