/** Getting a chunk: from bins, trees, the designated victim, top, or the system. */
import type { VirtAddr } from '@pagelab/abi';
import { insertChunk, leftmostChild, replaceDv, smallBin, unlinkChunk } from './bins.ts';
import {
  CHILD,
  DV,
  DV_SIZE,
  FD,
  LEAST_ADDR,
  MEM,
  MIN_CHUNK,
  MIN_LARGE,
  SMALLMAP,
  TOP_SIZE,
  TREEBINS,
  TREEMAP,
  bitOf,
  firstBit,
  treeIndex,
} from './layout.ts';
import type { Dl } from './state.ts';
import { chunkSize, corrupted, setInuse, setSizeOfFree, setSizeOfInuse } from './state.ts';
import { splitTop, sysAlloc } from './sys-alloc.ts';

/** A block of a chunk of `nb` bytes; 0 where there is no memory. */
export function allocate(dl: Dl, nb: number): VirtAddr {
  const { mem, state } = dl;
  const dvSize = mem.loadAddress(state + DV_SIZE);
  if (nb < MIN_LARGE) {
    const index = nb >>> 3;
    const bins = mem.load32(state + SMALLMAP);
    if (((bins >>> index) & 1) !== 0) return takeSmall(dl, nb);
    if (nb > dvSize) {
      const larger = index === 31 ? 0 : bins & (-2 << index);
      if (larger !== 0) return splitSmall(dl, nb, 8 * lowestBit(larger));
      if (mem.load32(state + TREEMAP) !== 0) return splitSmallest(dl, nb);
    }
  } else if (mem.load32(state + TREEMAP) !== 0) {
    const block = bestFit(dl, nb, dvSize);
    if (block !== 0) return block;
  }
  if (nb <= dvSize) return splitDv(dl, nb, dvSize);
  const topSize = mem.loadAddress(state + TOP_SIZE);
  return nb < topSize ? splitTop(dl, nb, topSize) : sysAlloc(dl, nb);
}

function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}

/** The exact fit of a small bin that holds some. */
function takeSmall(dl: Dl, nb: number): VirtAddr {
  const { mem, state } = dl;
  const p = mem.loadAddress(smallBin(state, nb) + FD);
  checkChunk(dl, p, nb);
  unlinkChunk(dl, p, nb);
  setInuse(mem, p, nb);
  return p + MEM;
}

/** The first chunk of the next larger bin that holds some: its rest becomes the designated victim. */
function splitSmall(dl: Dl, nb: number, size: number): VirtAddr {
  const p = dl.mem.loadAddress(smallBin(dl.state, size) + FD);
  checkChunk(dl, p, size);
  unlinkChunk(dl, p, size);
  return cut(dl, p, size, nb, true);
}

/** The smallest chunk of all trees, for a small request. */
function splitSmallest(dl: Dl, nb: number): VirtAddr {
  const { mem, state } = dl;
  let victim = mem.loadAddress(state + TREEBINS + 8 * lowestBit(mem.load32(state + TREEMAP)));
  let size = chunkSize(mem, victim);
  for (let at = leftmostChild(dl, victim); at !== 0; at = leftmostChild(dl, at)) {
    const atSize = chunkSize(mem, at);
    if (atSize >= size) continue;
    size = atSize;
    victim = at;
  }
  checkChunk(dl, victim, size);
  unlinkChunk(dl, victim, size);
  return cut(dl, victim, size, nb, true);
}

/** The smallest tree chunk that a large request fits, unless the designated victim fits better; else 0. */
function bestFit(dl: Dl, nb: number, dvSize: number): VirtAddr {
  const { mem, state } = dl;
  const index = treeIndex(nb);
  const map = mem.load32(state + TREEMAP);
  let victim = 0;
  let rest = Infinity;
  /** Where what is left to look at begins: the last right branch that was passed by. */
  let subtree = 0;
  if (((map >>> index) & 1) !== 0) {
    let at = mem.loadAddress(state + TREEBINS + 8 * index);
    for (let bit = firstBit(index); at !== 0; bit--) {
      const spare = chunkSize(mem, at) - nb;
      if (spare >= 0 && spare < rest) {
        victim = at;
        rest = spare;
        if (spare === 0) break;
      }
      const right = mem.loadAddress(at + CHILD + 8);
      at = mem.loadAddress(at + CHILD + 8 * bitOf(nb, bit));
      if (right !== 0 && right !== at) subtree = right;
    }
  }
  if (rest !== 0) {
    if (subtree === 0 && victim === 0) {
      const larger = index === 31 ? 0 : map & (-2 << index);
      if (larger !== 0) subtree = mem.loadAddress(state + TREEBINS + 8 * lowestBit(larger));
    }
    for (let at = subtree; at !== 0; at = leftmostChild(dl, at)) {
      const spare = chunkSize(mem, at) - nb;
      if (spare < 0 || spare >= rest) continue;
      victim = at;
      rest = spare;
    }
  }
  if (victim === 0 || (dvSize >= nb && rest >= dvSize - nb)) return 0;
  checkChunk(dl, victim, nb + rest);
  unlinkChunk(dl, victim, nb + rest);
  return cut(dl, victim, nb + rest, nb, false);
}

/** Makes a free chunk, in no bin, a used one of `nb` bytes; what is left is the designated victim, or goes to a bin. */
function cut(dl: Dl, p: VirtAddr, size: number, nb: number, toDv: boolean): VirtAddr {
  const { mem } = dl;
  const rest = size - nb;
  if (rest < MIN_CHUNK) {
    setInuse(mem, p, size);
  } else {
    setSizeOfInuse(mem, p, nb);
    setSizeOfFree(mem, p + nb, rest);
    if (toDv) replaceDv(dl, p + nb, rest);
    else insertChunk(dl, p + nb, rest);
  }
  return p + MEM;
}

function splitDv({ mem, state }: Dl, nb: number, dvSize: number): VirtAddr {
  const p = mem.loadAddress(state + DV);
  const rest = dvSize - nb;
  if (rest >= MIN_CHUNK) {
    mem.storeAddress(state + DV, p + nb);
    mem.storeAddress(state + DV_SIZE, rest);
    setSizeOfFree(mem, p + nb, rest);
    setSizeOfInuse(mem, p, nb);
  } else {
    mem.storeAddress(state + DV, 0);
    mem.storeAddress(state + DV_SIZE, 0);
    setInuse(mem, p, dvSize);
  }
  return p + MEM;
}

/** Gives up where a binned chunk is not what its bin says. */
function checkChunk({ mem, state }: Dl, p: VirtAddr, size: number): void {
  if (p < mem.loadAddress(state + LEAST_ADDR) || chunkSize(mem, p) !== size) corrupted();
}
