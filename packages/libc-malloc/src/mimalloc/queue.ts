/**
 * A heap's queues of pages: one for each size class, one for huge pages, and one for pages that are full, so that the
 * others hold none that would be looked at in vain.
 */
import type { VirtAddr } from '@pagelab/abi';
import type { Mi } from './context.ts';
import {
  BIN_FULL,
  BIN_HUGE,
  EMPTY_PAGE,
  HEAP_DIRECT,
  HEAP_QUEUES,
  IN_FULL,
  LARGE_BLOCK_MAX,
  PG_BLOCK_SIZE,
  PG_FLAGS,
  PG_HEAP,
  PG_NEXT,
  PG_PREV,
  SMALL_SIZE_MAX,
  binOf,
  binWords,
} from './layout.ts';

const FIRST = 0;
const LAST = 8;

/** Where a queue's first and last page are noted. */
export function queueAt(heap: VirtAddr, bin: number): VirtAddr {
  return heap + HEAP_QUEUES + 16 * bin;
}

/** The first page of a queue, 0 where it is empty. */
export function firstPage({ mem, heap }: Mi, bin: number): VirtAddr {
  return mem.loadAddress(queueAt(heap, bin) + FIRST);
}

/** The queue that a page would be in while it is not full. */
export function binOfPage({ mem }: Mi, page: VirtAddr): number {
  const size = mem.loadAddress(page + PG_BLOCK_SIZE);
  return size > LARGE_BLOCK_MAX ? BIN_HUGE : binOf(size / 8);
}

/** The queue that a page is in. */
export function currentBin(mi: Mi, page: VirtAddr): number {
  return (mi.mem.load32(page + PG_FLAGS) & IN_FULL) !== 0 ? BIN_FULL : binOfPage(mi, page);
}

/** Whether a page is alone in its queue. */
export function isOnlyPage({ mem }: Mi, page: VirtAddr): boolean {
  return mem.loadAddress(page + PG_NEXT) === 0 && mem.loadAddress(page + PG_PREV) === 0;
}

/** Puts a page first into a queue. */
export function pushPage(mi: Mi, page: VirtAddr, bin: number): void {
  const { mem, heap } = mi;
  const queue = queueAt(heap, bin);
  const first = mem.loadAddress(queue + FIRST);
  mem.storeAddress(page + PG_HEAP, heap);
  mem.storeAddress(page + PG_NEXT, first);
  mem.storeAddress(page + PG_PREV, 0);
  mem.storeAddress(queue + FIRST, page);
  if (first === 0) mem.storeAddress(queue + LAST, page);
  else mem.storeAddress(first + PG_PREV, page);
  updateDirect(mi, bin);
}

/** Puts a page last into a queue. */
export function appendPage(mi: Mi, page: VirtAddr, bin: number): void {
  const { mem, heap } = mi;
  const queue = queueAt(heap, bin);
  const last = mem.loadAddress(queue + LAST);
  if (last === 0) {
    pushPage(mi, page, bin);
    return;
  }
  mem.storeAddress(page + PG_HEAP, heap);
  mem.storeAddress(page + PG_NEXT, 0);
  mem.storeAddress(page + PG_PREV, last);
  mem.storeAddress(last + PG_NEXT, page);
  mem.storeAddress(queue + LAST, page);
}

/** Takes a page out of its queue. */
export function removePage(mi: Mi, page: VirtAddr, bin: number): void {
  const { mem, heap } = mi;
  const queue = queueAt(heap, bin);
  const next = mem.loadAddress(page + PG_NEXT);
  const prev = mem.loadAddress(page + PG_PREV);
  if (next === 0) mem.storeAddress(queue + LAST, prev);
  else mem.storeAddress(next + PG_PREV, prev);
  if (prev !== 0) {
    mem.storeAddress(prev + PG_NEXT, next);
  } else {
    mem.storeAddress(queue + FIRST, next);
    updateDirect(mi, bin);
  }
  mem.storeAddress(page + PG_NEXT, 0);
  mem.storeAddress(page + PG_PREV, 0);
}

/** The sizes of a queue are served by its first page from now on. */
function updateDirect({ mem, heap, control }: Mi, bin: number): void {
  if (bin >= BIN_HUGE) return;
  const words = binWords(bin);
  if (words > SMALL_SIZE_MAX / 8) return;
  const page = mem.loadAddress(queueAt(heap, bin) + FIRST) || control + EMPTY_PAGE;
  for (let size = words; size >= 0 && binOf(size) === bin; size--) mem.storeAddress(heap + HEAP_DIRECT + 8 * size, page);
}
