import type { UserMemory, VirtAddr } from '@pagelab/abi';
import { mallocAbort } from '../malloc-abort.ts';
import * as chunk from './chunk.ts';

const { BK, FD } = chunk;

/** Puts a free chunk first into the unsorted bin whose head is at `unsorted`; aborts with `corrupted` where that is. */
export function linkUnsorted(mem: UserMemory, unsorted: VirtAddr, p: VirtAddr, corrupted: string): void {
  const first = mem.loadAddress(unsorted + FD);
  if (mem.loadAddress(first + BK) !== unsorted) mallocAbort(corrupted);
  mem.storeAddress(p + BK, unsorted);
  mem.storeAddress(p + FD, first);
  mem.storeAddress(unsorted + FD, p);
  mem.storeAddress(first + BK, p);
}
