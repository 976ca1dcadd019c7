import type { UserMemory, VirtAddr } from '@pagelab/abi';
import { mallocAbort } from '../malloc-abort.ts';
import type { Arena } from './arena.ts';
import * as chunk from './chunk.ts';
import { binIndex, checkedRequest2size, fastbinIndex } from './chunk.ts';
import { mallocConsolidate } from './consolidate.ts';
import { linkUnsorted } from './link-unsorted.ts';
import { binLarge } from './large-bin.ts';
import type { Ptmalloc } from './ptmalloc.ts';
import { revealPtr } from './safe-linking.ts';
import { sysmalloc } from './sysmalloc.ts';
import * as tcacheLayout from './tcache.ts';
import { tcacheCount, tcacheGet, tcacheIndex, tcacheLink, tcachePut, tcacheRoom } from './tcache.ts';
import { chunksize, unlinkChunk } from './unlink.ts';

const {
  BINMAPSIZE,
  BK,
  BK_NEXTSIZE,
  CHUNK_HDR_SZ,
  FD,
  FD_NEXTSIZE,
  MEM,
  MINSIZE,
  MIN_LARGE_SIZE,
  PREV_INUSE,
  SIZE,
} = chunk;
const { TCACHE_ENTRIES } = tcacheLayout;

/** Chunks sorted into bins by one request at most, before it looks whether a bin has what it needs. */
const MAX_ITERS = 10_000;

/**
 * Gets a block from an arena, past the thread's cache (which it may fill): from the fast or small bin of the exact
 * size, from the unsorted bin while that is sorted, the best fit of the large and small bins, the top, or the system.
 *
 * @returns the block, or 0 where there is no memory
 * @linux glibc malloc/malloc.c:_int_malloc
 */
export function intMalloc(pt: Ptmalloc, av: Arena, request: number): VirtAddr {
  const { mem } = pt;
  const nb = checkedRequest2size(request);
  if (nb < 0) return 0;
  // The largest fast chunk and the perturb byte lie side by side.
  const settings = mem.load16(pt.globalMaxFast);
  let block = 0;
  if (nb < MIN_LARGE_SIZE) {
    if (nb <= (settings & 0xff)) block = takeFast(pt, av, nb);
    if (block === 0) block = takeSmall(pt, av, nb);
  } else if (mem.load32(av.haveFastchunks) !== 0) {
    mallocConsolidate(pt, av);
  }
  if (block === 0) block = takeSorted(pt, av, nb);
  const perturb = settings >>> 8;
  if (perturb !== 0 && block !== 0) mem.fill(block, request, perturb ^ 0xff);
  return block;
}

/** The rest of the search, once neither the fast nor the small bin has the exact size. */
function takeSorted(pt: Ptmalloc, av: Arena, nb: number): VirtAddr {
  const { mem } = pt;
  pt.nrSorted = 0;
  for (;;) {
    const unsorted = av.unsorted;
    if (mem.loadAddress(unsorted + BK) !== unsorted) {
      const block = sortUnsorted(pt, av, nb);
      if (block !== 0) return block;
    }
    if (nb >= MIN_LARGE_SIZE) {
      const block = takeLarge(pt, av, nb);
      if (block !== 0) return block;
    }
    let block = takeLargerBin(pt, av, nb);
    if (block !== 0) return block;
    block = splitTop(pt, av, nb);
    if (block !== 0) return block;
    if (mem.load32(av.haveFastchunks) === 0) return sysmalloc(pt, av, nb);
    mallocConsolidate(pt, av);
  }
}

/** Takes the last chunk that came into the fast bin of size `nb`, and moves others of it to the thread's cache. */
function takeFast(pt: Ptmalloc, av: Arena, nb: number): VirtAddr {
  const { mem } = pt;
  const index = fastbinIndex(nb);
  const bin = av.fastbins + 8 * index;
  const victim = mem.loadAddress(bin);
  if (victim === 0) return 0;
  if ((victim & 15) !== 0) mallocAbort('malloc(): unaligned fastbin chunk detected 2');
  const next = revealPtr(mem, victim + FD);
  checkFastLink(pt, next);
  mem.storeAddress(bin, next);
  if (fastbinIndex(mem.load32(victim + SIZE)) !== index) mallocAbort('malloc(): memory corruption (fast)');
  if (next !== 0) {
    const list = tcacheIndex(pt, nb);
    const room = tcacheRoom(pt, list);
    if (room > 0) moveFast(pt, bin, next, list, room);
  }
  return victim + MEM;
}

/** Where there are threads, the link of a chunk is looked at when that is taken off its fast bin. */
function checkFastLink({ mem, multiThreaded }: Ptmalloc, next: VirtAddr): void {
  if ((next & 15) !== 0 && mem.load32(multiThreaded) !== 0) mallocAbort('malloc(): unaligned fastbin chunk detected');
}

/** Moves up to `room` chunks of a fast bin, `first` being its first, to the list `list` of the thread's cache. */
function moveFast(pt: Ptmalloc, bin: VirtAddr, first: VirtAddr, list: number, room: number): void {
  const { mem } = pt;
  const headAt = pt.tcache + TCACHE_ENTRIES + 8 * list;
  let head = mem.loadAddress(headAt);
  let next = first;
  let moved = 0;
  for (; next !== 0 && moved < room; moved++) {
    if ((next & 15) !== 0) mallocAbort('malloc(): unaligned fastbin chunk detected 3');
    const block = next + MEM;
    next = revealPtr(mem, block);
    checkFastLink(pt, next);
    head = tcacheLink(pt, block, head);
  }
  mem.storeAddress(bin, next);
  mem.storeAddress(headAt, head);
  tcacheCount(pt, list, moved);
}

/** Takes the oldest chunk of the small bin of size `nb`, and moves others of it to the thread's cache. */
function takeSmall(pt: Ptmalloc, av: Arena, nb: number): VirtAddr {
  const { mem } = pt;
  const bin = av.bins + nb;
  const victim = mem.loadAddress(bin + BK);
  if (victim === bin) return 0;
  const last = mem.loadAddress(victim + BK);
  if (mem.loadAddress(last + FD) !== victim) mallocAbort('malloc(): smallbin double linked list corrupted');
  useChunk(mem, av, victim, nb);
  mem.storeAddress(bin + BK, last);
  mem.storeAddress(last + FD, bin);
  if (last !== bin) {
    const list = tcacheIndex(pt, nb);
    const room = tcacheRoom(pt, list);
    if (room > 0) moveSmall(pt, av, bin, last, nb, list, room);
  }
  return victim + MEM;
}

/** Moves up to `room` chunks of a small bin, `oldest` first, to the list `list` of the thread's cache. */
function moveSmall(
  pt: Ptmalloc,
  av: Arena,
  bin: VirtAddr,
  oldest: VirtAddr,
  size: number,
  list: number,
  room: number,
): void {
  const { mem } = pt;
  const headAt = pt.tcache + TCACHE_ENTRIES + 8 * list;
  let head = mem.loadAddress(headAt);
  let last = oldest;
  let moved = 0;
  for (; last !== bin && moved < room; moved++) {
    const next = mem.loadAddress(last + BK);
    useChunk(mem, av, last, size);
    head = tcacheLink(pt, last + MEM, head);
    last = next;
  }
  mem.storeAddress(bin + BK, last);
  mem.storeAddress(last + FD, bin);
  mem.storeAddress(headAt, head);
  tcacheCount(pt, list, moved);
}

/** Marks a free chunk as used, whole: in the next chunk's size word, and its own where the arena is a thread's. */
function useChunk(mem: UserMemory, av: Arena, p: VirtAddr, size: number): void {
  const next = p + size + SIZE;
  mem.store32(next, mem.load32(next) | PREV_INUSE);
  if (av.chunkFlag !== 0) mem.store32(p + SIZE, mem.load32(p + SIZE) | av.chunkFlag);
}

/**
 * Goes through the unsorted bin, oldest chunk first, and sorts each into its bin. On the way an exact fit goes to the
 * thread's cache, or is the answer once that is full; and a small request that finds the last remainder alone splits
 * it, so that small blocks asked for one after the other lie side by side.
 *
 * @returns a block, or 0 where none was found on the way
 */
function sortUnsorted(pt: Ptmalloc, av: Arena, nb: number): VirtAddr {
  const { mem } = pt;
  const unsorted = av.unsorted;
  const systemMem = mem.loadAddress(av.systemMem);
  const list = tcacheIndex(pt, nb);
  let cached = false;
  for (let iteration = 0; iteration < MAX_ITERS; iteration++) {
    // An exact fit that was cached does not count.
    const victim = mem.loadAddress(unsorted + BK);
    if (victim === unsorted) break;
    const bck = mem.loadAddress(victim + BK);
    const head = mem.loadAddress(victim + SIZE);
    const size = head - (head & 7);
    checkUnsorted(mem, victim, size, bck, unsorted, systemMem);

    if (bck === unsorted && nb < MIN_LARGE_SIZE && size > nb + MINSIZE && victim === mem.loadAddress(av.lastRemainder)) {
      const remainder = victim + nb;
      mem.storeAddress(unsorted + BK, remainder);
      mem.storeAddress(unsorted + FD, remainder);
      mem.storeAddress(av.lastRemainder, remainder);
      mem.storeAddress(remainder + BK, unsorted);
      mem.storeAddress(remainder + FD, unsorted);
      setRemainder(mem, av, victim, nb, size - nb);
      return victim + MEM;
    }

    mem.storeAddress(unsorted + BK, bck);
    mem.storeAddress(bck + FD, unsorted);

    if (size === nb) {
      useChunk(mem, av, victim, size);
      if (tcacheRoom(pt, list) <= 0) return victim + MEM;
      tcachePut(pt, victim + MEM, list);
      cached = true;
      iteration--;
      continue;
    }

    const index = binIndex(size);
    if (size < MIN_LARGE_SIZE) {
      const bin = av.bins + size;
      const first = mem.loadAddress(bin + FD);
      mem.storeAddress(victim + BK, bin);
      mem.storeAddress(victim + FD, first);
      mem.storeAddress(first + BK, victim);
      mem.storeAddress(bin + FD, victim);
    } else {
      binLarge(mem, av.bins + 16 * index, victim, size);
    }
    const word = av.binmap + 4 * (index >>> 5);
    mem.store32(word, mem.load32(word) | (1 << (index & 31)));

    pt.nrSorted++;
    if (cached && pt.tcacheUnsortedLimit > 0 && pt.nrSorted > pt.tcacheUnsortedLimit) return tcacheGet(pt, list);
  }
  return cached ? tcacheGet(pt, list) : 0;
}

function checkUnsorted(
  mem: UserMemory,
  victim: VirtAddr,
  size: number,
  bck: VirtAddr,
  unsorted: VirtAddr,
  systemMem: number,
): void {
  if (size <= CHUNK_HDR_SZ || size > systemMem) mallocAbort('malloc(): invalid size (unsorted)');
  const next = victim + size;
  const nextHead = mem.loadAddress(next + SIZE);
  if (nextHead < CHUNK_HDR_SZ || nextHead > systemMem) mallocAbort('malloc(): invalid next size (unsorted)');
  if (alignedPrevSize(mem.loadAddress(next)) !== size) mallocAbort('malloc(): mismatching next->prev_size (unsorted)');
  if (mem.loadAddress(bck + FD) !== victim || mem.loadAddress(victim + FD) !== unsorted) {
    mallocAbort('malloc(): unsorted double linked list corrupted');
  }
  if ((nextHead & PREV_INUSE) !== 0) mallocAbort('malloc(): invalid next->prev_inuse (unsorted)');
}

function alignedPrevSize(prevSize: number): number {
  return prevSize - (prevSize & 7);
}

/** The best fit of the large bin in which `nb` itself would be; of several of a size not the one that stands for it. */
function takeLarge(pt: Ptmalloc, av: Arena, nb: number): VirtAddr {
  const { mem } = pt;
  const bin = av.bins + 16 * binIndex(nb);
  const largest = mem.loadAddress(bin + FD);
  if (largest === bin || mem.loadAddress(largest + SIZE) < nb) return 0;
  let victim = mem.loadAddress(largest + BK_NEXTSIZE);
  let head = mem.loadAddress(victim + SIZE);
  while (head - (head & 7) < nb) {
    victim = mem.loadAddress(victim + BK_NEXTSIZE);
    head = mem.loadAddress(victim + SIZE);
  }
  if (victim !== mem.loadAddress(bin + BK)) {
    const second = mem.loadAddress(victim + FD);
    if (mem.loadAddress(second + SIZE) === head) victim = second;
  }
  return split(pt, av, victim, head - (head & 7), nb, 'malloc(): corrupted unsorted chunks');
}

/** The oldest chunk of the first bin beyond that of `nb` that holds one. Bins found empty are unmarked in the map. */
function takeLargerBin(pt: Ptmalloc, av: Arena, nb: number): VirtAddr {
  const { mem } = pt;
  const start = binIndex(nb) + 1;
  let block = start >>> 5;
  let mask = -1 << (start & 31);
  for (; block < BINMAPSIZE; block++, mask = -1) {
    const word = av.binmap + 4 * block;
    let map = mem.load32(word);
    let candidates = map & mask;
    while (candidates !== 0) {
      const bit = candidates & -candidates;
      const bin = av.bins + 16 * (32 * block + 31 - Math.clz32(bit));
      const victim = mem.loadAddress(bin + BK);
      if (victim !== bin) {
        const size = chunksize(mem, victim);
        if (size >= 0 && size < nb) {
          mallocAbort(
            'Fatal glibc error: malloc assertion failure in _int_malloc: (unsigned long) (size) >= (unsigned long) (nb)',
          );
        }
        const found = split(pt, av, victim, size, nb, 'malloc(): corrupted unsorted chunks 2');
        if (nb < MIN_LARGE_SIZE && size - nb >= MINSIZE) mem.storeAddress(av.lastRemainder, victim + nb);
        return found;
      }
      map &= ~bit;
      mem.store32(word, map);
      candidates &= ~bit;
    }
  }
  return 0;
}

/** Takes a binned chunk; what it has beyond `nb` goes to the unsorted bin where that makes a chunk. */
function split(pt: Ptmalloc, av: Arena, victim: VirtAddr, size: number, nb: number, corrupted: string): VirtAddr {
  const { mem } = pt;
  const rest = size - nb;
  unlinkChunk(mem, victim);
  if (rest < MINSIZE) {
    useChunk(mem, av, victim, size);
  } else {
    linkUnsorted(mem, av.unsorted, victim + nb, corrupted);
    setRemainder(mem, av, victim, nb, rest);
  }
  return victim + MEM;
}

/** Writes the sizes of a used chunk of `nb` bytes and of the free one of `rest` bytes behind it. */
function setRemainder(mem: UserMemory, av: Arena, victim: VirtAddr, nb: number, rest: number): void {
  const remainder = victim + nb;
  if (rest >= MIN_LARGE_SIZE) {
    mem.storeAddress(remainder + FD_NEXTSIZE, 0);
    mem.storeAddress(remainder + BK_NEXTSIZE, 0);
  }
  mem.storeAddress(victim + SIZE, nb + PREV_INUSE + av.chunkFlag);
  mem.storeAddress(remainder + SIZE, rest + PREV_INUSE);
  mem.storeAddress(remainder + rest, rest);
}

/** Cuts `nb` bytes off the start of the top; returns 0 where it is not large enough to leave a chunk. */
function splitTop(pt: Ptmalloc, av: Arena, nb: number): VirtAddr {
  const { mem } = pt;
  const victim = mem.loadAddress(av.top);
  const size = chunksize(mem, victim);
  if (size > mem.loadAddress(av.systemMem) || size < 0) mallocAbort('malloc(): corrupted top size');
  if (size < nb + MINSIZE) return 0;
  const top = victim + nb;
  mem.storeAddress(av.top, top);
  mem.storeAddress(victim + SIZE, nb + PREV_INUSE + av.chunkFlag);
  mem.storeAddress(top + SIZE, size - nb + PREV_INUSE);
  return victim + MEM;
}
