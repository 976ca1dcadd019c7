/**
 * Recomputes what must hold in a heap between two requests:
 *
 * - `sum of chunk sizes from the first chunk to the top === system_mem`, while the heap has no gap
 * - a chunk is in a bin of the arena if and only if the next one says that it is free; no two free ones are neighbours
 * - each bin holds sizes of its range, its list is sound both ways, and the map of bins marks it
 * - a large bin is sorted, and its list of sizes is the list's first of each size
 * - `sum of heap sizes === system_mem` in a thread arena, whose chunks fill its heaps up to the top or the fence
 * - fast bins and thread-cache lists hold used chunks of their size; each cache count is the length of its list
 */
import type { VirtAddr } from '@pagelab/abi';
import type { Arena } from './arena.ts';
import { SIZEOF_MALLOC_STATE } from './arena.ts';
import {
  BK,
  BK_NEXTSIZE,
  FD,
  FD_NEXTSIZE,
  MEM,
  MINSIZE,
  NBINS,
  NFASTBINS,
  NSMALLBINS,
  PREV_INUSE,
  SIZE,
  alignUp,
  binIndex,
  fastbinIndex,
} from './chunk.ts';
import { AR_PTR, HEAP_SIZE, MPROTECT_SIZE, PREV_HEAP, SIZEOF_HEAP_INFO, heapForPtr } from './heap-info.ts';
import { SBRK_BASE } from './params.ts';
import type { Ptmalloc } from './ptmalloc.ts';
import { revealPtr } from './safe-linking.ts';
import { TCACHE_ENTRIES, tcacheIndex } from './tcache.ts';
import { chunksize } from './unlink.ts';

/**
 * Throws an Error that names the first broken invariant. Linear in the number of chunks.
 *
 * @linux glibc malloc/malloc.c:do_check_malloc_state
 */
export function validateGlibc(pt: Ptmalloc): void {
  checkTcache(pt);
  checkArenaLists(pt);
  pt.forEachArena((av) => {
    const top = pt.mem.loadAddress(av.top);
    if (top === av.unsorted) return;
    const binned = checkBins(pt, av);
    checkFastbins(pt, av);
    if (av === pt.mainArena) checkHeap(pt, av, top, binned);
    else checkHeaps(pt, av, top, binned);
  });
}

/** There are as many arenas as are counted, and those on the free list are without threads. */
function checkArenaLists(pt: Ptmalloc): void {
  const { mem } = pt;
  let count = 0;
  pt.forEachArena(() => count++);
  check(count === mem.loadAddress(pt.narenas), 'the arenas are not as many as narenas', pt.dataSegment);
  let free = pt.arenaAt(mem.loadAddress(pt.freeList));
  for (; free !== null; free = pt.arenaAt(mem.loadAddress(free.nextFree))) {
    check(mem.loadAddress(free.attachedThreads) === 0, 'an arena on the free list has threads', free.address);
    check(count-- > 0, 'the list of free arenas is a loop', free.address);
  }
}

/** Walks the heaps of a thread arena, from the last to the first. */
function checkHeaps(pt: Ptmalloc, av: Arena, top: VirtAddr, binned: Set<VirtAddr>): void {
  const { mem } = pt;
  let systemMem = 0;
  let free = 0;
  let last = top;
  for (let heap = heapForPtr(top); heap !== 0; heap = mem.loadAddress(heap + PREV_HEAP)) {
    const size = mem.loadAddress(heap + HEAP_SIZE);
    systemMem += size;
    check(mem.loadAddress(heap + AR_PTR) === av.address, 'a heap of an arena names another', heap);
    check(size <= mem.loadAddress(heap + MPROTECT_SIZE), 'a heap uses what is not readable', heap);
    const first = mem.loadAddress(heap + PREV_HEAP) === 0 ? alignUp(av.address + SIZEOF_MALLOC_STATE, 16) : heap + SIZEOF_HEAP_INFO;
    let p = first;
    while (p !== last) {
      const bytes = chunksize(mem, p);
      // The fence at the end of a heap that is full.
      if (bytes === 0 && p > heap + size - 32) break;
      check(bytes >= 16 && bytes % 16 === 0 && p + bytes <= heap + size, 'a chunk has an impossible size', p);
      const inuse = isInuse(pt, p);
      check(inuse !== binned.has(p), inuse ? 'a used chunk is in a bin' : 'a free chunk is in no bin', p);
      if (!inuse) free++;
      p += bytes;
    }
    last = -1;
  }
  check(free === binned.size, 'the bins hold chunks that are not in the heaps', top);
  check(systemMem === mem.loadAddress(av.systemMem), 'the heaps do not add up to system_mem', top);
}

function check(condition: boolean, what: string, p: VirtAddr): void {
  if (!condition) throw new Error(`glibc heap: ${what} (chunk at 0x${p.toString(16)})`);
}

function isInuse(pt: Ptmalloc, p: VirtAddr): boolean {
  return (pt.mem.load32(p + chunksize(pt.mem, p) + SIZE) & PREV_INUSE) !== 0;
}

function checkBins(pt: Ptmalloc, av: Arena): Set<VirtAddr> {
  const { mem } = pt;
  const binned = new Set<VirtAddr>();
  for (let index = 1; index < NBINS; index++) {
    const bin = av.bins + 16 * index;
    let previous = bin;
    for (let p = mem.loadAddress(bin + FD); p !== bin; previous = p, p = mem.loadAddress(p + FD)) {
      const size = chunksize(mem, p);
      check(!binned.has(p), 'a chunk is in two bins or its list is a loop', p);
      binned.add(p);
      check(mem.loadAddress(p + BK) === previous, 'bk does not lead back', p);
      check(size >= MINSIZE && size % 16 === 0, 'a free chunk has an impossible size', p);
      check((mem.load32(p + SIZE) & PREV_INUSE) !== 0, 'two free chunks are neighbours', p);
      check(!isInuse(pt, p), 'a binned chunk is in use', p);
      check(mem.loadAddress(p + size) === size, 'the size behind a free chunk is not its size', p);
      if (index === 1) continue;
      check(binIndex(size) === index, `a chunk of ${size} bytes is in bin ${index}`, p);
      const marked = (mem.load32(av.binmap + 4 * (index >>> 5)) >>> (index & 31)) & 1;
      check(marked === 1, 'the map of bins does not mark the bin of a chunk', p);
    }
    check(mem.loadAddress(bin + BK) === previous, 'the last chunk of a bin is not the last', bin);
    if (index >= NSMALLBINS) checkSizes(pt, bin);
  }
  return binned;
}

function checkSizes(pt: Ptmalloc, bin: VirtAddr): void {
  const { mem } = pt;
  const first = mem.loadAddress(bin + FD);
  if (first === bin) return;
  let previous = mem.loadAddress(first + BK_NEXTSIZE);
  let lastSize = Infinity;
  for (let p = first; p !== bin; p = mem.loadAddress(p + FD)) {
    const size = chunksize(mem, p);
    check(size <= lastSize, 'a large bin is not sorted', p);
    if (size === lastSize) {
      check(mem.loadAddress(p + FD_NEXTSIZE) === 0, 'a second chunk of a size is in the list of sizes', p);
    } else {
      check(mem.loadAddress(previous + FD_NEXTSIZE) === p, 'the list of sizes leaves one out', p);
      check(mem.loadAddress(p + BK_NEXTSIZE) === previous, 'the list of sizes does not lead back', p);
      previous = p;
    }
    lastSize = size;
  }
  check(mem.loadAddress(previous + FD_NEXTSIZE) === first, 'the list of sizes is not circular', previous);
}

function checkFastbins(pt: Ptmalloc, av: Arena): void {
  const { mem } = pt;
  for (let index = 0; index < NFASTBINS; index++) {
    const seen = new Set<VirtAddr>();
    let p = mem.loadAddress(av.fastbins + 8 * index);
    for (; p !== 0; p = revealPtr(mem, p + FD)) {
      check(!seen.has(p), 'a fast bin is a loop', p);
      seen.add(p);
      check(fastbinIndex(chunksize(mem, p)) === index, 'a chunk of another size is in a fast bin', p);
      check(isInuse(pt, p), 'a chunk in a fast bin is marked free', p);
      check(mem.load32(av.haveFastchunks) !== 0, 'a fast bin holds a chunk and have_fastchunks is 0', p);
    }
  }
}

function checkTcache(pt: Ptmalloc): void {
  const { mem, tcache } = pt;
  if (tcache === 0) return;
  for (let index = 0; index < 64; index++) {
    let length = 0;
    let block = mem.loadAddress(tcache + TCACHE_ENTRIES + 8 * index);
    for (; block !== 0; block = revealPtr(mem, block), length++) {
      check(length < pt.tcacheCount, 'a list of the thread cache is too long', block);
      const p = block - MEM;
      check(tcacheIndex(pt, chunksize(mem, p)) === index, 'a chunk of another size is in the thread cache', p);
      check(isInuse(pt, p), 'a cached chunk is marked free', p);
    }
    check(mem.load16(tcache + 2 * index) === length, `count ${index} of the thread cache is not ${length}`, tcache);
  }
}

function checkHeap(pt: Ptmalloc, av: Arena, top: VirtAddr, binned: Set<VirtAddr>): void {
  const { mem } = pt;
  const base = mem.loadAddress(pt.mp + SBRK_BASE);
  const first = alignUp(base, 16);
  let free = 0;
  let p = first;
  while (p !== top) {
    const size = chunksize(mem, p);
    // Two chunks without a block stand before a gap, behind which the chunks are not known.
    if (size === 16) return;
    check(size >= MINSIZE && size % 16 === 0, 'a chunk has an impossible size', p);
    const inuse = isInuse(pt, p);
    check(inuse !== binned.has(p), inuse ? 'a used chunk is in a bin' : 'a free chunk is in no bin', p);
    if (!inuse) free++;
    p += size;
    // A heap that begins where another allocation moved the break, or lies in a mapping, cannot be walked.
    if (p > top) return;
  }
  check(free === binned.size, 'the bins hold chunks that are not in the heap', top);
  const end = top + chunksize(mem, top);
  check(end - base === mem.loadAddress(av.systemMem), 'the chunks do not add up to system_mem', top);
}
