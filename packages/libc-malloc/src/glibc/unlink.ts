import type { UserMemory, VirtAddr } from '@pagelab/abi';
import { mallocAbort } from '../malloc-abort.ts';
import * as chunk from './chunk.ts';

const { BK, BK_NEXTSIZE, FD, FD_NEXTSIZE, MIN_LARGE_SIZE, SIZE } = chunk;

/** The size of the chunk at `p`, without the flags. */
export function chunksize(mem: UserMemory, p: VirtAddr): number {
  const head = mem.loadAddress(p + SIZE);
  return head - (head & 7);
}

/**
 * Takes the free chunk `p` out of its bin's list, and out of the list of sizes where it stands for its size in a large
 * bin: then the next chunk of the same size takes its place there.
 *
 * @linux glibc malloc/malloc.c:unlink_chunk
 */
export function unlinkChunk(mem: UserMemory, p: VirtAddr): void {
  const head = mem.loadAddress(p + SIZE);
  const size = head - (head & 7);
  if (size !== mem.loadAddress(p + size)) mallocAbort('corrupted size vs. prev_size');
  const fd = mem.loadAddress(p + FD);
  const bk = mem.loadAddress(p + BK);
  if (mem.loadAddress(fd + BK) !== p || mem.loadAddress(bk + FD) !== p) mallocAbort('corrupted double-linked list');
  mem.storeAddress(fd + BK, bk);
  mem.storeAddress(bk + FD, fd);
  if (head >= MIN_LARGE_SIZE) unlinkSize(mem, p, fd);
}

function unlinkSize(mem: UserMemory, p: VirtAddr, fd: VirtAddr): void {
  const smaller = mem.loadAddress(p + FD_NEXTSIZE);
  if (smaller === 0) return;
  const larger = mem.loadAddress(p + BK_NEXTSIZE);
  if (mem.loadAddress(smaller + BK_NEXTSIZE) !== p || mem.loadAddress(larger + FD_NEXTSIZE) !== p) {
    mallocAbort('corrupted double-linked list (not small)');
  }
  if (mem.loadAddress(fd + FD_NEXTSIZE) !== 0) {
    mem.storeAddress(smaller + BK_NEXTSIZE, larger);
    mem.storeAddress(larger + FD_NEXTSIZE, smaller);
  } else if (smaller === p) {
    mem.storeAddress(fd + FD_NEXTSIZE, fd);
    mem.storeAddress(fd + BK_NEXTSIZE, fd);
  } else {
    mem.storeAddress(fd + FD_NEXTSIZE, smaller);
    mem.storeAddress(fd + BK_NEXTSIZE, larger);
    mem.storeAddress(smaller + BK_NEXTSIZE, fd);
    mem.storeAddress(larger + FD_NEXTSIZE, fd);
  }
}
