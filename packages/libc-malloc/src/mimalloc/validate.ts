/**
 * What must hold in mimalloc's heaps between two requests:
 *
 * - `used + |free| + |local_free| === capacity <= reserved` in each page, all of them its blocks, once; what other
 *   threads freed, and is in `xthread_free` or told to the heap, counts as used
 * - a page is in the queue of its size, or of full pages, of the heap that its segment belongs to, or of none while that
 *   is abandoned; the page for each small size is the first of its queue
 * - `used` of a segment is the number of its pages in use; `sum of segments === OBTAINED`, of huge ones `=== HUGE_BYTES`
 */
import type { VirtAddr } from '@pagelab/abi';
import type { Mi } from './context.ts';
import { nextBlock } from './free-list.ts';
import {
  BIN_FULL,
  BIN_HUGE,
  DELAYED_MASK,
  EMPTY_PAGE,
  HEAPS,
  HEAP_DIRECT,
  HEAP_NEXT,
  HUGE,
  HUGE_BYTES,
  IN_FULL,
  IN_USE,
  NR_BINS,
  NR_HUGE,
  OBTAINED,
  PG_AREA,
  PG_BLOCK_SIZE,
  PG_CAPACITY,
  PG_FLAGS,
  PG_FREE,
  PG_HEAP,
  PG_LOCAL_FREE,
  PG_NEXT,
  PG_PREV,
  PG_RESERVED,
  PG_USED,
  PG_XTHREAD_FREE,
  SEGMENTS,
  SEG_ALL_NEXT,
  SEG_CAPACITY,
  SEG_KIND,
  SEG_LENGTH,
  SEG_PAGES,
  SEG_THREAD,
  SEG_USED,
  SIZEOF_PAGE,
  SMALL_SIZE_MAX,
  binOf,
} from './layout.ts';
import { binOfPage, firstPage } from './queue.ts';

function check(condition: boolean, what: string, at: VirtAddr): void {
  if (!condition) throw new Error(`mimalloc heap: ${what} (at 0x${at.toString(16)})`);
}

/** Throws an Error that names the first broken invariant. Linear in the number of pages and free blocks. */
export function validateMimalloc(mi: Mi): void {
  const { mem, control } = mi;
  const queued = new Map<VirtAddr, VirtAddr>();
  for (let heap = mem.loadAddress(control + HEAPS); heap !== 0; heap = mem.loadAddress(heap + HEAP_NEXT)) {
    checkQueues({ ...mi, heap }, queued);
  }
  let obtained = 0;
  let hugeBytes = 0;
  let nrHuge = 0;
  for (let segment = mem.loadAddress(control + SEGMENTS); segment !== 0; segment = mem.loadAddress(segment + SEG_ALL_NEXT)) {
    const length = mem.loadAddress(segment + SEG_LENGTH);
    if (mem.load32(segment + SEG_KIND) === HUGE) {
      hugeBytes += length;
      nrHuge++;
    } else {
      obtained += length;
    }
    checkSegment(mi, segment, queued);
  }
  check(obtained === mem.loadAddress(control + OBTAINED), 'the segments are not counted right', control);
  check(hugeBytes === mem.loadAddress(control + HUGE_BYTES), 'the bytes of huge blocks are not counted right', control);
  check(nrHuge === mem.loadAddress(control + NR_HUGE), 'the huge blocks are not counted right', control);
}

function checkQueues(mi: Mi, queued: Map<VirtAddr, VirtAddr>): void {
  const { mem, heap, control } = mi;
  for (let bin = 0; bin < NR_BINS; bin++) {
    let prev = 0;
    for (let page = firstPage(mi, bin); page !== 0; prev = page, page = mem.loadAddress(page + PG_NEXT)) {
      check(!queued.has(page), 'a page is in two queues', page);
      queued.set(page, heap);
      check(mem.loadAddress(page + PG_PREV) === prev, 'a link does not lead back', page);
      check(mem.loadAddress(page + PG_HEAP) === heap, 'a page names another heap', page);
      const full = (mem.load32(page + PG_FLAGS) & IN_FULL) !== 0;
      check(full === (bin === BIN_FULL), 'a page is wrong about being full', page);
      check(full || bin === BIN_HUGE || binOfPage(mi, page) === bin, 'a page is in the queue of another size', page);
    }
  }
  for (let words = 0; words <= SMALL_SIZE_MAX / 8; words++) {
    const page = mem.loadAddress(heap + HEAP_DIRECT + 8 * words);
    check(page === (firstPage(mi, binOf(words)) || control + EMPTY_PAGE), 'the page of a size is not its queue\'s first', heap);
  }
}

function checkSegment(mi: Mi, segment: VirtAddr, queued: ReadonlyMap<VirtAddr, VirtAddr>): void {
  const { mem } = mi;
  const thread = mem.loadAddress(segment + SEG_THREAD);
  let used = 0;
  for (let index = 0; index < mem.load32(segment + SEG_CAPACITY); index++) {
    const page = segment + SEG_PAGES + SIZEOF_PAGE * index;
    if ((mem.load32(page + PG_FLAGS) & IN_USE) === 0) continue;
    used++;
    check((queued.get(page) ?? 0) === thread, 'a page is not in a queue of its thread', page);
    checkPage(mi, page);
  }
  check(used === mem.load32(segment + SEG_USED), 'the pages in use are not counted right', segment);
}

function checkPage(mi: Mi, page: VirtAddr): void {
  const { mem } = mi;
  const area = mem.loadAddress(page + PG_AREA);
  const blockSize = mem.loadAddress(page + PG_BLOCK_SIZE);
  const capacity = mem.load32(page + PG_CAPACITY);
  const seen = new Set<VirtAddr>();
  const lengthOf = (head: VirtAddr): number => {
    let length = 0;
    for (let block = head; block !== 0; block = nextBlock(mi, page, block), length++) {
      const index = (block - area) / blockSize;
      check(Number.isInteger(index) && index >= 0 && index < capacity, 'what is in a list is no block of its page', block);
      check(!seen.has(block), 'a block is in two lists', block);
      seen.add(block);
    }
    return length;
  };
  const xthread = mem.loadAddress(page + PG_XTHREAD_FREE);
  const foreign = lengthOf(xthread - (xthread & DELAYED_MASK));
  const free = lengthOf(mem.loadAddress(page + PG_FREE)) + lengthOf(mem.loadAddress(page + PG_LOCAL_FREE));
  check(mem.load32(page + PG_USED) + free === capacity, 'used and free blocks do not add up to the capacity', page);
  check(foreign <= mem.load32(page + PG_USED), 'more blocks were freed than are in use', page);
  check(capacity <= mem.load32(page + PG_RESERVED), 'a page has more blocks than it has room for', page);
}
