/** Memory from the system, and back. */
import type { VirtAddr } from '@pagelab/abi';
import { MREMAP_MAYMOVE, SyscallError } from '@pagelab/abi';
import { alignDown, alignUp, tryMmap, trySbrk } from '../system-memory.ts';
import { insertChunk, unlinkChunk } from './bins.ts';
import {
  BK,
  DV,
  DV_SIZE,
  FD,
  FENCEPOST,
  FOOTPRINT,
  HEAD,
  INUSE,
  LEAST_ADDR,
  MAPPED_BYTES,
  MEM,
  MIN_CHUNK,
  MMAP_FOOT_PAD,
  MMAP_THRESHOLD,
  NR_MAPPED,
  PINUSE,
  PREV_FOOT,
  SEGMENT,
  SEGMENT_CHUNK,
  SEG_BASE,
  SEG_FLAGS,
  SEG_MAPPED,
  SEG_NEXT,
  SEG_SIZE,
  SMALLBINS,
  TOP,
  TOP_FOOT,
  TOP_SIZE,
  TRIM_CHECK,
  TRIM_THRESHOLD,
} from './layout.ts';
import type { Dl } from './state.ts';
import { chunkSize, segmentHolding, setFree, setSizeOfInuse } from './state.ts';

/** What is asked for beyond a request, so that top keeps its foot. */
const PADDING = TOP_FOOT + 16;

function add(dl: Dl, at: VirtAddr, value: number): void {
  dl.mem.storeAddress(at, dl.mem.loadAddress(at) + value);
}

/**
 * Serves a request that nothing at hand can.
 *
 * @returns the block, or 0 where the system has no memory
 */
export function sysAlloc(dl: Dl, nb: number): VirtAddr {
  const { mem, state } = dl;
  if (nb >= mem.loadAddress(state + MMAP_THRESHOLD) && mem.loadAddress(state + TOP_SIZE) !== 0) {
    const block = mmapAlloc(dl, nb);
    if (block !== 0) return block;
  }
  if (!moreMemory(dl, nb)) return 0;
  const size = mem.loadAddress(state + TOP_SIZE);
  if (nb >= size) return 0;
  return splitTop(dl, nb, size);
}

/** Cuts a chunk off the start of top, which is larger. */
export function splitTop({ mem, state }: Dl, nb: number, topSize: number): VirtAddr {
  const p = mem.loadAddress(state + TOP);
  mem.storeAddress(state + TOP_SIZE, topSize - nb);
  mem.storeAddress(state + TOP, p + nb);
  mem.storeAddress(p + nb + HEAD, topSize - nb + PINUSE);
  setSizeOfInuse(mem, p, nb);
  return p + MEM;
}

function moreMemory(dl: Dl, nb: number): boolean {
  const { os, mem, state, granularity } = dl;
  const top = mem.loadAddress(state + TOP);
  const topSize = mem.loadAddress(state + TOP_SIZE);
  const whole = alignUp(nb + PADDING, granularity);
  const holder = top === 0 ? 0 : segmentHolding(dl, top);
  const holderEnd = holder === 0 ? 0 : mem.loadAddress(holder + SEG_BASE) + mem.loadAddress(holder + SEG_SIZE);
  // Where the break still is at the end of top, less will do.
  const extends_ = holder !== 0 && holderEnd === os.sbrk(0);
  const lead = alignUp(os.sbrk(0), os.getpagesize()) - os.sbrk(0);
  let size = extends_ ? alignUp(nb - topSize + PADDING, granularity) : whole + lead;
  let base = trySbrk(os, size);
  let flags = 0;
  if (base === 0) {
    base = tryMmap(os, whole);
    if (base === 0) return false;
    size = whole;
    flags = SEG_MAPPED;
  } else if (!extends_) {
    base += lead;
    size -= lead;
  }
  add(dl, state + FOOTPRINT, size);
  const least = mem.loadAddress(state + LEAST_ADDR);
  if (least === 0 || base < least) mem.storeAddress(state + LEAST_ADDR, base);
  if (top === 0) {
    initBins(dl);
    mem.storeAddress(state + TRIM_CHECK, mem.loadAddress(state + TRIM_THRESHOLD));
    writeRecord(dl, state + SEGMENT, base, size, 0, flags);
    initTop(dl, base, size - TOP_FOOT);
  } else if (base === holderEnd && (mem.load32(holder + SEG_FLAGS) & SEG_MAPPED) === flags) {
    add(dl, holder + SEG_SIZE, size);
    initTop(dl, top, topSize + size);
  } else {
    addSegment(dl, base, size, flags);
  }
  return true;
}

function initBins({ mem, state }: Dl): void {
  for (let index = 0; index < 32; index++) {
    const bin = state + SMALLBINS + 16 * index;
    mem.storeAddress(bin + FD, bin);
    mem.storeAddress(bin + BK, bin);
  }
}

function writeRecord({ mem }: Dl, at: VirtAddr, base: VirtAddr, size: number, next: VirtAddr, flags: number): void {
  mem.storeAddress(at + SEG_BASE, base);
  mem.storeAddress(at + SEG_SIZE, size);
  mem.storeAddress(at + SEG_NEXT, next);
  mem.storeAddress(at + SEG_FLAGS, flags);
}

function initTop({ mem, state }: Dl, p: VirtAddr, size: number): void {
  mem.storeAddress(state + TOP, p);
  mem.storeAddress(state + TOP_SIZE, size);
  mem.storeAddress(p + HEAD, size + PINUSE);
  // The foot looks like a chunk that is in use by nobody.
  mem.storeAddress(p + size + HEAD, TOP_FOOT);
}

/** Top goes on in a new segment: the old one's record goes to its end, behind it fence posts; the rest is free. */
function addSegment(dl: Dl, base: VirtAddr, size: number, flags: number): void {
  const { mem, state } = dl;
  const oldTop = mem.loadAddress(state + TOP);
  const holder = segmentHolding(dl, oldTop);
  const oldEnd = mem.loadAddress(holder + SEG_BASE) + mem.loadAddress(holder + SEG_SIZE);
  const ideal = alignDown(oldEnd - SEGMENT_CHUNK - 47 + 15, 16);
  const recordChunk = ideal < oldTop + MIN_CHUNK ? oldTop : ideal;
  const current = state + SEGMENT;
  const [oldBase, oldSize] = [mem.loadAddress(current + SEG_BASE), mem.loadAddress(current + SEG_SIZE)];
  const [oldNext, oldFlags] = [mem.loadAddress(current + SEG_NEXT), mem.loadAddress(current + SEG_FLAGS)];
  initTop(dl, base, size - TOP_FOOT);
  setSizeOfInuse(mem, recordChunk, SEGMENT_CHUNK);
  writeRecord(dl, recordChunk + MEM, oldBase, oldSize, oldNext, oldFlags);
  writeRecord(dl, current, base, size, recordChunk + MEM, flags);
  for (let fence = recordChunk + SEGMENT_CHUNK; ; fence += 8) {
    mem.storeAddress(fence + HEAD, FENCEPOST);
    if (fence + 8 + HEAD >= oldEnd) break;
  }
  if (recordChunk !== oldTop) {
    const rest = recordChunk - oldTop;
    setFree(mem, oldTop, rest);
    insertChunk(dl, oldTop, rest);
  }
}

/** Maps a chunk of its own. */
function mmapAlloc(dl: Dl, nb: number): VirtAddr {
  const { os, mem, state } = dl;
  const length = alignUp(nb + MMAP_FOOT_PAD + 16 + 15, os.getpagesize());
  const p = tryMmap(os, length);
  if (p === 0) return 0;
  mem.storeAddress(p + PREV_FOOT, 0);
  setMappedSize(dl, p, length - MMAP_FOOT_PAD);
  const least = mem.loadAddress(state + LEAST_ADDR);
  if (p < least) mem.storeAddress(state + LEAST_ADDR, p);
  add(dl, state + NR_MAPPED, 1);
  add(dl, state + MAPPED_BYTES, length);
  return p + MEM;
}

function setMappedSize({ mem }: Dl, p: VirtAddr, size: number): void {
  mem.storeAddress(p + HEAD, size);
  mem.storeAddress(p + size + HEAD, FENCEPOST);
  mem.storeAddress(p + size + 8 + HEAD, 0);
}

/** Unmaps a mapped chunk; false where what should be one cannot be. */
export function munmapChunk(dl: Dl, p: VirtAddr): boolean {
  const { os, mem, state } = dl;
  const lead = mem.loadAddress(p + PREV_FOOT);
  const length = chunkSize(mem, p) + lead + MMAP_FOOT_PAD;
  if ((((p - lead) | length) & (os.getpagesize() - 1)) !== 0 || length > mem.loadAddress(state + MAPPED_BYTES)) return false;
  add(dl, state + NR_MAPPED, -1);
  add(dl, state + MAPPED_BYTES, -length);
  os.munmap(p - lead, length);
  return true;
}

/** Resizes a mapped chunk for `nb` bytes; returns the chunk, moved or not, or 0 where it cannot, or the heap would do. */
export function mmapResize(dl: Dl, p: VirtAddr, nb: number): VirtAddr {
  const { os, mem, state } = dl;
  const oldSize = chunkSize(mem, p);
  if (nb < 256) return 0;
  if (oldSize >= nb + 8 && oldSize - nb <= 2 * dl.granularity) return p;
  const lead = mem.loadAddress(p + PREV_FOOT);
  const oldLength = oldSize + lead + MMAP_FOOT_PAD;
  const newLength = alignUp(nb + MMAP_FOOT_PAD + 16 + 15 + lead, os.getpagesize());
  let moved: VirtAddr;
  try {
    moved = os.mremap(p - lead, oldLength, newLength, MREMAP_MAYMOVE) + lead;
  } catch (error) {
    if (error instanceof SyscallError) return 0;
    throw error;
  }
  setMappedSize(dl, moved, newLength - lead - MMAP_FOOT_PAD);
  if (moved < mem.loadAddress(state + LEAST_ADDR)) mem.storeAddress(state + LEAST_ADDR, moved);
  add(dl, state + MAPPED_BYTES, newLength - oldLength);
  return moved;
}

/** Gives back what top has beyond `pad` bytes, in units of the granularity, and segments that are unused; 1 where any. */
export function sysTrim(dl: Dl, pad: number): number {
  const { mem, state } = dl;
  if (mem.loadAddress(state + TOP) === 0) return 0;
  const before = mem.loadAddress(state + FOOTPRINT);
  trimTop(dl, pad + TOP_FOOT);
  releaseUnusedSegments(dl);
  const released = mem.loadAddress(state + FOOTPRINT) < before;
  // To try again with every free would be in vain.
  if (!released && mem.loadAddress(state + TOP_SIZE) > mem.loadAddress(state + TRIM_CHECK)) {
    mem.storeAddress(state + TRIM_CHECK, 2 ** 52);
  }
  return released ? 1 : 0;
}

function trimTop(dl: Dl, keep: number): void {
  const { os, mem, state, granularity } = dl;
  const top = mem.loadAddress(state + TOP);
  const topSize = mem.loadAddress(state + TOP_SIZE);
  if (topSize <= keep) return;
  const extra = (Math.ceil((topSize - keep) / granularity) - 1) * granularity;
  if (extra === 0) return;
  const holder = segmentHolding(dl, top);
  const end = mem.loadAddress(holder + SEG_BASE) + mem.loadAddress(holder + SEG_SIZE);
  if ((mem.load32(holder + SEG_FLAGS) & SEG_MAPPED) !== 0) {
    os.munmap(end - extra, extra);
  } else if (os.sbrk(0) !== end || trySbrk(os, -extra) === 0) {
    return;
  }
  add(dl, holder + SEG_SIZE, -extra);
  add(dl, state + FOOTPRINT, -extra);
  initTop(dl, top, topSize - extra);
}

/** Unmaps mapped segments, but for the one with top, in which nothing is in use. */
function releaseUnusedSegments(dl: Dl): void {
  const { os, mem, state } = dl;
  let link = state + SEGMENT + SEG_NEXT;
  for (let record = mem.loadAddress(link); record !== 0; record = mem.loadAddress(link)) {
    const base = mem.loadAddress(record + SEG_BASE);
    const size = mem.loadAddress(record + SEG_SIZE);
    const head = mem.loadAddress(base + HEAD);
    const chunk = head - (head & 7);
    const empty = (head & INUSE) === PINUSE && base + chunk >= base + size - TOP_FOOT;
    if (!empty || (mem.load32(record + SEG_FLAGS) & SEG_MAPPED) === 0) {
      link = record + SEG_NEXT;
      continue;
    }
    if (base === mem.loadAddress(state + DV)) {
      mem.storeAddress(state + DV, 0);
      mem.storeAddress(state + DV_SIZE, 0);
    } else {
      unlinkChunk(dl, base, chunk);
    }
    mem.storeAddress(link, mem.loadAddress(record + SEG_NEXT));
    add(dl, state + FOOTPRINT, -size);
    os.munmap(base, size);
  }
}
