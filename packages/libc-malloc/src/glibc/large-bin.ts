import type { UserMemory, VirtAddr } from '@pagelab/abi';
import { mallocAbort } from '../malloc-abort.ts';
import * as chunk from './chunk.ts';

const { BK, BK_NEXTSIZE, FD, FD_NEXTSIZE, NON_MAIN_ARENA, PREV_INUSE, SIZE } = chunk;

/**
 * Sorts a chunk into a large bin. The bin's list runs from the largest to the smallest; the first chunk of each size
 * is in the circular list of sizes too, so that a search steps over equal ones. A chunk of a size that is there already
 * comes second, which leaves the list of sizes alone. Linear in the number of different sizes in the bin.
 *
 * @linux glibc malloc/malloc.c:_int_malloc
 */
export function binLarge(mem: UserMemory, bin: VirtAddr, victim: VirtAddr, size: number): void {
  const largest = mem.loadAddress(bin + FD);
  if (largest === bin) {
    mem.storeAddress(victim + FD_NEXTSIZE, victim);
    mem.storeAddress(victim + BK_NEXTSIZE, victim);
    insert(mem, victim, bin, bin);
    return;
  }
  // Free chunks have a used one before them, so that all heads here carry the same flag.
  const head = size + PREV_INUSE;
  const last = mem.loadAddress(bin + BK);
  const lastHead = mem.loadAddress(last + SIZE);
  if ((lastHead & NON_MAIN_ARENA) !== 0) assertionFailure('chunk_main_arena (bck->bk)');
  if (head < lastHead) {
    const smallest = mem.loadAddress(largest + BK_NEXTSIZE);
    mem.storeAddress(victim + FD_NEXTSIZE, largest);
    mem.storeAddress(victim + BK_NEXTSIZE, smallest);
    mem.storeAddress(smallest + FD_NEXTSIZE, victim);
    mem.storeAddress(largest + BK_NEXTSIZE, victim);
    insert(mem, victim, last, bin);
    return;
  }
  let at = largest;
  let atHead = mem.loadAddress(at + SIZE);
  for (;;) {
    if ((atHead & NON_MAIN_ARENA) !== 0) assertionFailure('chunk_main_arena (fwd)');
    if (head >= atHead) break;
    at = mem.loadAddress(at + FD_NEXTSIZE);
    atHead = mem.loadAddress(at + SIZE);
  }
  if (head === atHead) {
    at = mem.loadAddress(at + FD);
  } else {
    const larger = mem.loadAddress(at + BK_NEXTSIZE);
    mem.storeAddress(victim + FD_NEXTSIZE, at);
    mem.storeAddress(victim + BK_NEXTSIZE, larger);
    if (mem.loadAddress(larger + FD_NEXTSIZE) !== at) {
      mallocAbort('malloc(): largebin double linked list corrupted (nextsize)');
    }
    mem.storeAddress(at + BK_NEXTSIZE, victim);
    mem.storeAddress(larger + FD_NEXTSIZE, victim);
  }
  const before = mem.loadAddress(at + BK);
  if (mem.loadAddress(before + FD) !== at) mallocAbort('malloc(): largebin double linked list corrupted (bk)');
  insert(mem, victim, before, at);
}

function insert(mem: UserMemory, victim: VirtAddr, before: VirtAddr, after: VirtAddr): void {
  mem.storeAddress(victim + BK, before);
  mem.storeAddress(victim + FD, after);
  mem.storeAddress(after + BK, victim);
  mem.storeAddress(before + FD, victim);
}

/** Gives up as glibc does where one of its assertions fails. */
function assertionFailure(assertion: string): never {
  mallocAbort(`Fatal glibc error: malloc assertion failure in _int_malloc: ${assertion}`);
}
