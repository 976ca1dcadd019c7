/** Segments: where pages come from. */
import type { VirtAddr } from '@pagelab/abi';
import { alignUp, mmapAligned } from '../system-memory.ts';
import type { Mi } from './context.ts';
import { add, add32 } from './context.ts';
import {
  ABANDONED,
  HEAP_SEGMENTS,
  HUGE,
  HUGE_BYTES,
  IN_USE,
  IS_ZERO,
  LARGE,
  MEDIUM,
  NR_HUGE,
  OBTAINED,
  PAGE_SHIFTS,
  PG_AREA,
  PG_BLOCK_SIZE,
  PG_CAPACITY,
  PG_FLAGS,
  PG_FREE,
  PG_KEY_HIGH,
  PG_KEY_LOW,
  PG_LOCAL_FREE,
  PG_RESERVED,
  PG_RETIRE_EXPIRE,
  PG_USED,
  PG_XTHREAD_FREE,
  RANDOM,
  SEGMENTS,
  SEGMENT_MAGIC,
  SEGMENT_SIZE,
  SEG_ABANDONED,
  SEG_ABANDONED_NEXT,
  SEG_ALL_NEXT,
  SEG_ALL_PREV,
  SEG_CAPACITY,
  SEG_KIND,
  SEG_LENGTH,
  SEG_MAGIC,
  SEG_NEXT,
  SEG_PAGES,
  SEG_PAGE_SHIFT,
  SEG_PREV,
  SEG_THREAD,
  SEG_USED,
  SIZEOF_PAGE,
  SIZEOF_SEGMENT,
  WAS_USED,
  kindOf,
} from './layout.ts';

/** The segment of a block, or of a page's description. */
export function segmentOf(at: VirtAddr): VirtAddr {
  return at - (at % SEGMENT_SIZE);
}

/** The page of a block. */
export function pageOf({ mem }: Mi, segment: VirtAddr, block: VirtAddr): VirtAddr {
  const index = mem.load32(segment + SEG_KIND) >= LARGE ? 0 : (block - segment) >>> mem.load32(segment + SEG_PAGE_SHIFT);
  return segment + SEG_PAGES + SIZEOF_PAGE * index;
}

/**
 * A page for blocks of a size, without any block yet: of a segment of this thread that has one to spare, or of a new
 * one. 0 where there is no memory.
 */
export function allocPage(mi: Mi, blockSize: number): VirtAddr {
  const { mem, heap } = mi;
  const kind = kindOf(blockSize);
  let segment = kind <= MEDIUM ? mem.loadAddress(heap + HEAP_SEGMENTS + 8 * kind) : 0;
  if (segment === 0) segment = allocSegment(mi, kind, blockSize);
  if (segment === 0) return 0;
  let page = segment + SEG_PAGES;
  let index = 0;
  for (; (mem.load32(page + PG_FLAGS) & IN_USE) !== 0; page += SIZEOF_PAGE) index++;
  const shift = mem.load32(segment + SEG_PAGE_SHIFT);
  const area = index === 0 ? segment + SIZEOF_SEGMENT : segment + index * 2 ** shift;
  const end = kind === HUGE ? segment + mem.loadAddress(segment + SEG_LENGTH) : segment + (index + 1) * 2 ** shift;
  const fresh = (mem.load32(page + PG_FLAGS) & WAS_USED) === 0;
  mem.store32(page + PG_FLAGS, IN_USE + WAS_USED + (fresh ? IS_ZERO : 0));
  mem.storeAddress(page + PG_FREE, 0);
  mem.storeAddress(page + PG_LOCAL_FREE, 0);
  mem.storeAddress(page + PG_XTHREAD_FREE, 0);
  mem.storeAddress(page + PG_BLOCK_SIZE, blockSize);
  mem.storeAddress(page + PG_AREA, area);
  mem.store32(page + PG_CAPACITY, 0);
  mem.store32(page + PG_RESERVED, Math.floor((end - area) / blockSize));
  mem.store32(page + PG_USED, 0);
  mem.store32(page + PG_RETIRE_EXPIRE, 0);
  if (mi.secure) {
    mem.store32(page + PG_KEY_LOW, nextRandom(mi));
    mem.store32(page + PG_KEY_HIGH, nextRandom(mi));
  }
  if (add32(mem, segment + SEG_USED, 1) === mem.load32(segment + SEG_CAPACITY)) unqueue(mi, segment);
  return page;
}

/** Gives a page back in which nothing is in use, and its segment with it where that was the last one. */
export function freePage(mi: Mi, page: VirtAddr): void {
  const { mem } = mi;
  const segment = segmentOf(page);
  mem.store32(page + PG_FLAGS, WAS_USED);
  const used = add32(mem, segment + SEG_USED, -1);
  if (used === 0 && !keepEmpty(mi, segment)) {
    freeSegment(mi, segment);
  } else if (used + 1 === mem.load32(segment + SEG_CAPACITY)) {
    enqueue(mi, segment);
  }
}

/** An empty segment stays for pages to come where no other has any to spare. */
function keepEmpty({ mem, heap }: Mi, segment: VirtAddr): boolean {
  const kind = mem.load32(segment + SEG_KIND);
  if (kind > MEDIUM) return false;
  const first = mem.loadAddress(heap + HEAP_SEGMENTS + 8 * kind);
  return first === 0 || (first === segment && mem.loadAddress(segment + SEG_NEXT) === 0);
}

/** Unmaps the segments that are kept empty; 1 where there was one. */
export function freeEmptySegments(mi: Mi): number {
  const { mem, heap } = mi;
  let result = 0;
  for (let kind = 0; kind <= MEDIUM; kind++) {
    let segment = mem.loadAddress(heap + HEAP_SEGMENTS + 8 * kind);
    while (segment !== 0) {
      const next = mem.loadAddress(segment + SEG_NEXT);
      if (mem.load32(segment + SEG_USED) === 0) {
        freeSegment(mi, segment);
        result = 1;
      }
      segment = next;
    }
  }
  return result;
}

function allocSegment(mi: Mi, kind: number, blockSize: number): VirtAddr {
  const { os, mem, heap, control } = mi;
  const length = kind === HUGE ? alignUp(SIZEOF_SEGMENT + blockSize, os.getpagesize()) : SEGMENT_SIZE;
  const segment = mmapAligned(os, length, SEGMENT_SIZE);
  if (segment === 0) return 0;
  const shift = PAGE_SHIFTS[kind];
  mem.store32(segment + SEG_MAGIC, SEGMENT_MAGIC);
  mem.store32(segment + SEG_KIND, kind);
  mem.storeAddress(segment + SEG_THREAD, heap);
  mem.store32(segment + SEG_CAPACITY, kind === HUGE ? 1 : SEGMENT_SIZE >>> shift);
  mem.store32(segment + SEG_PAGE_SHIFT, shift);
  mem.storeAddress(segment + SEG_LENGTH, length);
  const first = mem.loadAddress(control + SEGMENTS);
  mem.storeAddress(segment + SEG_ALL_NEXT, first);
  if (first !== 0) mem.storeAddress(first + SEG_ALL_PREV, segment);
  mem.storeAddress(control + SEGMENTS, segment);
  count(mi, kind, length);
  enqueue(mi, segment);
  return segment;
}

function freeSegment(mi: Mi, segment: VirtAddr): void {
  const { os, mem, control } = mi;
  unqueue(mi, segment);
  const next = mem.loadAddress(segment + SEG_ALL_NEXT);
  const prev = mem.loadAddress(segment + SEG_ALL_PREV);
  mem.storeAddress(prev === 0 ? control + SEGMENTS : prev + SEG_ALL_NEXT, next);
  if (next !== 0) mem.storeAddress(next + SEG_ALL_PREV, prev);
  const length = mem.loadAddress(segment + SEG_LENGTH);
  count(mi, mem.load32(segment + SEG_KIND), -length);
  os.munmap(segment, length);
}

function count({ mem, control }: Mi, kind: number, length: number): void {
  add(mem, control + (kind === HUGE ? HUGE_BYTES : OBTAINED), length);
  if (kind === HUGE) add(mem, control + NR_HUGE, Math.sign(length));
}

/** Puts a segment that has pages to spare into its heap's queue, where its kind has one. */
function enqueue({ mem, heap }: Mi, segment: VirtAddr): void {
  const kind = mem.load32(segment + SEG_KIND);
  if (kind > MEDIUM) return;
  const head = heap + HEAP_SEGMENTS + 8 * kind;
  const first = mem.loadAddress(head);
  mem.storeAddress(segment + SEG_NEXT, first);
  mem.storeAddress(segment + SEG_PREV, 0);
  if (first !== 0) mem.storeAddress(first + SEG_PREV, segment);
  mem.storeAddress(head, segment);
}

/** Takes a segment out of its heap's queue, where it is in that. */
function unqueue({ mem, heap }: Mi, segment: VirtAddr): void {
  const kind = mem.load32(segment + SEG_KIND);
  if (kind > MEDIUM) return;
  const head = heap + HEAP_SEGMENTS + 8 * kind;
  const next = mem.loadAddress(segment + SEG_NEXT);
  const prev = mem.loadAddress(segment + SEG_PREV);
  if (prev === 0 && mem.loadAddress(head) !== segment) return;
  mem.storeAddress(prev === 0 ? head : prev + SEG_NEXT, next);
  if (next !== 0) mem.storeAddress(next + SEG_PREV, prev);
  mem.storeAddress(segment + SEG_NEXT, 0);
  mem.storeAddress(segment + SEG_PREV, 0);
}

/** A page is left by its thread with blocks in use; once all pages are, the segment is left to others. */
export function abandonPage(mi: Mi, page: VirtAddr): void {
  const { mem, control } = mi;
  const segment = segmentOf(page);
  if (add32(mem, segment + SEG_ABANDONED, 1) < mem.load32(segment + SEG_USED)) return;
  unqueue(mi, segment);
  mem.storeAddress(segment + SEG_THREAD, 0);
  mem.storeAddress(segment + SEG_ABANDONED_NEXT, mem.loadAddress(control + ABANDONED));
  mem.storeAddress(control + ABANDONED, segment);
}

/** Takes over the segment that was left last; 0 where there is none. */
export function adoptSegment(mi: Mi): VirtAddr {
  const { mem, heap, control } = mi;
  const segment = mem.loadAddress(control + ABANDONED);
  if (segment === 0) return 0;
  mem.storeAddress(control + ABANDONED, mem.loadAddress(segment + SEG_ABANDONED_NEXT));
  mem.storeAddress(segment + SEG_THREAD, heap);
  mem.store32(segment + SEG_ABANDONED, 0);
  if (mem.load32(segment + SEG_USED) < mem.load32(segment + SEG_CAPACITY)) enqueue(mi, segment);
  return segment;
}

/** The next of a sequence that the allocator's seed begins: enough for keys in an emulator. */
export function nextRandom({ mem, control }: Mi): number {
  let x = mem.load32(control + RANDOM);
  x ^= x << 13;
  x ^= x >>> 17;
  x ^= x << 5;
  mem.store32(control + RANDOM, x);
  return x >>> 0;
}
