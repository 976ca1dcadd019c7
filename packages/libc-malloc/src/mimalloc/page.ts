/** Pages: finding one that has a block of a size, and what becomes of those that are full or empty. */
import type { VirtAddr } from '@pagelab/abi';
import type { Mi } from './context.ts';
import { add32 } from './context.ts';
import { nextBlock, setNextBlock } from './free-list.ts';
import {
  BIN_FULL,
  BIN_HUGE,
  DELAYED_MASK,
  HEAP_DELAYED_FREE,
  IN_FULL,
  IN_USE,
  IS_ZERO,
  NR_BINS,
  PG_AREA,
  PG_BLOCK_SIZE,
  PG_CAPACITY,
  PG_FLAGS,
  PG_FREE,
  PG_HEAP,
  PG_LOCAL_FREE,
  PG_NEXT,
  PG_RESERVED,
  PG_RETIRE_EXPIRE,
  PG_USED,
  PG_XTHREAD_FREE,
  SEG_CAPACITY,
  SEG_PAGES,
  SIZEOF_PAGE,
  USE_DELAYED_FREE,
  binWords,
} from './layout.ts';
import { appendPage, binOfPage, currentBin, firstPage, isOnlyPage, pushPage, removePage } from './queue.ts';
import { abandonPage, adoptSegment, allocPage, freePage, pageOf, segmentOf } from './segment.ts';

/** Bytes of blocks that a page makes at a time, or one block. */
const MAX_EXTEND = 4096;
/** Slow paths that an empty page, alone in its queue, is kept for. */
const RETIRE_CYCLES = 16;

/** A page of the calling thread, first in its queue, that has a free block for the size class; 0 where memory is out. */
export function findFreePage(mi: Mi, bin: number): VirtAddr {
  const { mem } = mi;
  let page = firstPage(mi, bin);
  while (page !== 0) {
    const next = mem.loadAddress(page + PG_NEXT);
    collectPage(mi, page, false);
    if (mem.loadAddress(page + PG_FREE) !== 0 || extendPage(mi, page)) {
      mem.store32(page + PG_RETIRE_EXPIRE, 0);
      return page;
    }
    // Full: it is looked at again once something of it is freed.
    removePage(mi, page, bin);
    mem.store32(page + PG_FLAGS, mem.load32(page + PG_FLAGS) | IN_FULL);
    appendPage(mi, page, BIN_FULL);
    setDelayed(mi, page, USE_DELAYED_FREE);
    page = next;
  }
  return freshPage(mi, bin);
}

function freshPage(mi: Mi, bin: number): VirtAddr {
  collectRetired(mi, false);
  // What ended threads left comes before new memory; it may have a page of this very size.
  if (reclaim(mi)) return findFreePage(mi, bin);
  const page = allocPage(mi, 8 * binWords(bin));
  if (page === 0) return 0;
  pushPage(mi, page, bin);
  extendPage(mi, page);
  return page;
}

/** A page for one block that is larger than any size class. */
export function hugePage(mi: Mi, blockSize: number): VirtAddr {
  const page = allocPage(mi, blockSize);
  if (page === 0) return 0;
  pushPage(mi, page, BIN_HUGE);
  extendPage(mi, page);
  return page;
}

/** Makes the next free blocks of a page that has none; false where all are made. */
function extendPage(mi: Mi, page: VirtAddr): boolean {
  const { mem } = mi;
  const capacity = mem.load32(page + PG_CAPACITY);
  const left = mem.load32(page + PG_RESERVED) - capacity;
  if (left <= 0) return false;
  const blockSize = mem.loadAddress(page + PG_BLOCK_SIZE);
  const extend = Math.min(left, Math.max(1, Math.floor(MAX_EXTEND / blockSize)));
  const start = mem.loadAddress(page + PG_AREA) + capacity * blockSize;
  mem.store32(page + PG_CAPACITY, capacity + extend);
  for (let i = 0; i < extend; i++) {
    const block = start + i * blockSize;
    setNextBlock(mi, page, block, i === extend - 1 ? 0 : block + blockSize);
  }
  mem.storeAddress(page + PG_FREE, start);
  return true;
}

/** Makes what was freed since free to be taken: of other threads, and where `free` is empty, of its own. */
export function collectPage(mi: Mi, page: VirtAddr, force: boolean): void {
  const { mem } = mi;
  const word = mem.loadAddress(page + PG_XTHREAD_FREE);
  const flags = word & DELAYED_MASK;
  const head = word - flags;
  if (head !== 0) {
    mem.storeAddress(page + PG_XTHREAD_FREE, flags);
    const nrFreed = append(mi, page, head, mem.loadAddress(page + PG_LOCAL_FREE));
    mem.storeAddress(page + PG_LOCAL_FREE, head);
    add32(mem, page + PG_USED, -nrFreed);
  }
  const local = mem.loadAddress(page + PG_LOCAL_FREE);
  if (local === 0) return;
  const free = mem.loadAddress(page + PG_FREE);
  if (free !== 0) {
    if (!force) return;
    append(mi, page, local, free);
  }
  mem.storeAddress(page + PG_FREE, local);
  mem.storeAddress(page + PG_LOCAL_FREE, 0);
  mem.store32(page + PG_FLAGS, mem.load32(page + PG_FLAGS) & ~IS_ZERO);
}

/** Joins a list with another; returns the length of the first. */
function append(mi: Mi, page: VirtAddr, list: VirtAddr, tail: VirtAddr): number {
  let length = 1;
  let last = list;
  for (let next = nextBlock(mi, page, last); next !== 0; next = nextBlock(mi, page, next)) {
    last = next;
    length++;
  }
  setNextBlock(mi, page, last, tail);
  return length;
}

/** Frees a block of the calling thread's page. */
export function freeLocal(mi: Mi, page: VirtAddr, block: VirtAddr): void {
  const { mem } = mi;
  setNextBlock(mi, page, block, mem.loadAddress(page + PG_LOCAL_FREE));
  mem.storeAddress(page + PG_LOCAL_FREE, block);
  if (add32(mem, page + PG_USED, -1) === 0) retire(mi, page);
  else if ((mem.load32(page + PG_FLAGS) & IN_FULL) !== 0) unfull(mi, page);
}

/** A full page has a free block again. */
function unfull(mi: Mi, page: VirtAddr): void {
  const { mem } = mi;
  removePage(mi, page, BIN_FULL);
  mem.store32(page + PG_FLAGS, mem.load32(page + PG_FLAGS) & ~IN_FULL);
  setDelayed(mi, page, 0);
  appendPage(mi, page, binOfPage(mi, page));
}

/** Nothing of a page is in use: it goes back, unless the next request of its size would want one at once. */
function retire(mi: Mi, page: VirtAddr): void {
  const { mem } = mi;
  const bin = currentBin(mi, page);
  if (bin < BIN_HUGE && isOnlyPage(mi, page)) mem.store32(page + PG_RETIRE_EXPIRE, RETIRE_CYCLES);
  else dropPage(mi, page, bin);
}

function dropPage(mi: Mi, page: VirtAddr, bin: number): void {
  removePage(mi, page, bin);
  mi.mem.storeAddress(page + PG_HEAP, 0);
  freePage(mi, page);
}

/** Gives the empty pages back that were kept for long enough, or all with `force`. */
export function collectRetired(mi: Mi, force: boolean): void {
  const { mem } = mi;
  for (let bin = 1; bin < BIN_HUGE; bin++) {
    const page = firstPage(mi, bin);
    if (page === 0) continue;
    const expire = mem.load32(page + PG_RETIRE_EXPIRE);
    if (expire === 0) continue;
    if (mem.load32(page + PG_USED) !== 0) mem.store32(page + PG_RETIRE_EXPIRE, 0);
    else if (expire === 1 || force) dropPage(mi, page, bin);
    else mem.store32(page + PG_RETIRE_EXPIRE, expire - 1);
  }
}

function setDelayed({ mem }: Mi, page: VirtAddr, flags: number): void {
  const word = mem.loadAddress(page + PG_XTHREAD_FREE);
  mem.storeAddress(page + PG_XTHREAD_FREE, word - (word & DELAYED_MASK) + flags);
}

/** Frees a block of another thread's page: to the page, or where that is full, once, to its heap. */
export function freeForeign(mi: Mi, page: VirtAddr, block: VirtAddr): void {
  const { mem } = mi;
  const word = mem.loadAddress(page + PG_XTHREAD_FREE);
  const flags = word & DELAYED_MASK;
  if (flags === USE_DELAYED_FREE) {
    const delayed = mem.loadAddress(page + PG_HEAP) + HEAP_DELAYED_FREE;
    // The list is the heap's, not the page's, and so not encoded.
    mem.storeAddress(block, mem.loadAddress(delayed));
    mem.storeAddress(delayed, block);
    setDelayed(mi, page, 0);
  } else {
    setNextBlock(mi, page, block, word - flags);
    mem.storeAddress(page + PG_XTHREAD_FREE, block + flags);
  }
}

/** Frees what other threads have told the calling one's heap of. */
export function freeDelayed(mi: Mi): void {
  const { mem, heap } = mi;
  let block = mem.loadAddress(heap + HEAP_DELAYED_FREE);
  if (block === 0) return;
  mem.storeAddress(heap + HEAP_DELAYED_FREE, 0);
  while (block !== 0) {
    const next = mem.loadAddress(block);
    const page = pageOf(mi, segmentOf(block), block);
    if ((mem.load32(page + PG_FLAGS) & IN_FULL) !== 0) setDelayed(mi, page, USE_DELAYED_FREE);
    collectPage(mi, page, false);
    freeLocal(mi, page, block);
    block = next;
  }
}

/** Leaves all pages of the calling thread's heap to others; those in which nothing is in use go back. */
export function abandonHeap(mi: Mi): void {
  const { mem } = mi;
  collectHeap(mi);
  for (let bin = 0; bin < NR_BINS; bin++) {
    for (let page = firstPage(mi, bin); page !== 0; page = firstPage(mi, bin)) {
      removePage(mi, page, bin);
      setDelayed(mi, page, 0);
      mem.store32(page + PG_FLAGS, mem.load32(page + PG_FLAGS) & ~IN_FULL);
      mem.storeAddress(page + PG_HEAP, 0);
      abandonPage(mi, page);
    }
  }
}

/** Gives back every page of the calling thread's heap in which nothing is in use. Linear in the number of pages. */
export function collectHeap(mi: Mi): void {
  const { mem } = mi;
  freeDelayed(mi);
  for (let bin = 0; bin < NR_BINS; bin++) {
    let page = firstPage(mi, bin);
    while (page !== 0) {
      const next = mem.loadAddress(page + PG_NEXT);
      collectPage(mi, page, true);
      if (mem.load32(page + PG_USED) === 0) dropPage(mi, page, bin);
      page = next;
    }
  }
}

/** Frees the one block of a huge page, whichever thread has it; it is mapped for itself. */
export function freeHuge(mi: Mi, page: VirtAddr): void {
  const owner = { ...mi, heap: mi.mem.loadAddress(page + PG_HEAP) };
  dropPage(owner, page, BIN_HUGE);
}

/** Takes over a segment that an ended thread left; false where there is none. */
export function reclaim(mi: Mi): boolean {
  const { mem } = mi;
  const segment = adoptSegment(mi);
  if (segment === 0) return false;
  // The last page freed may take the segment with it: its number of pages is read before.
  const end = segment + SEG_PAGES + SIZEOF_PAGE * mem.load32(segment + SEG_CAPACITY);
  const pages: VirtAddr[] = [];
  for (let page = segment + SEG_PAGES; page < end; page += SIZEOF_PAGE) {
    if ((mem.load32(page + PG_FLAGS) & IN_USE) !== 0) pages.push(page);
  }
  for (const page of pages) {
    collectPage(mi, page, true);
    pushPage(mi, page, binOfPage(mi, page));
    mem.store32(page + PG_RETIRE_EXPIRE, 0);
  }
  for (const page of pages) if (mem.load32(page + PG_USED) === 0) dropPage(mi, page, binOfPage(mi, page));
  return true;
}
