/** Bins and trees: putting free chunks in, and taking them out. */
import type { VirtAddr } from '@pagelab/abi';
import {
  BK,
  CHILD,
  DV,
  DV_SIZE,
  FD,
  INDEX,
  LEAST_ADDR,
  MIN_LARGE,
  PARENT,
  SMALLBINS,
  SMALLMAP,
  TREEBINS,
  TREEMAP,
  bitOf,
  firstBit,
  treeIndex,
} from './layout.ts';
import type { Dl } from './state.ts';
import { chunkSize, corrupted } from './state.ts';

/** The bin of a small size, used as a chunk. */
export function smallBin(state: VirtAddr, size: number): VirtAddr {
  return state + SMALLBINS + 2 * size;
}

export function insertChunk(dl: Dl, p: VirtAddr, size: number): void {
  if (size < MIN_LARGE) insertSmall(dl, p, size);
  else insertLarge(dl, p, size);
}

export function unlinkChunk(dl: Dl, p: VirtAddr, size: number): void {
  if (size < MIN_LARGE) unlinkSmall(dl, p, size);
  else unlinkLarge(dl, p);
}

function insertSmall({ mem, state }: Dl, p: VirtAddr, size: number): void {
  const bin = smallBin(state, size);
  const map = mem.load32(state + SMALLMAP);
  const bit = 1 << (size >>> 3);
  let first = bin;
  if ((map & bit) === 0) mem.store32(state + SMALLMAP, map | bit);
  else first = mem.loadAddress(bin + FD);
  mem.storeAddress(bin + FD, p);
  mem.storeAddress(first + BK, p);
  mem.storeAddress(p + FD, first);
  mem.storeAddress(p + BK, bin);
}

function unlinkSmall({ mem, state }: Dl, p: VirtAddr, size: number): void {
  const fd = mem.loadAddress(p + FD);
  const bk = mem.loadAddress(p + BK);
  if (mem.loadAddress(fd + BK) !== p || mem.loadAddress(bk + FD) !== p) corrupted();
  if (fd === bk && fd === smallBin(state, size)) {
    mem.store32(state + SMALLMAP, mem.load32(state + SMALLMAP) & ~(1 << (size >>> 3)));
  }
  mem.storeAddress(fd + BK, bk);
  mem.storeAddress(bk + FD, fd);
}

function insertLarge({ mem, state }: Dl, p: VirtAddr, size: number): void {
  const index = treeIndex(size);
  const root = state + TREEBINS + 8 * index;
  mem.store32(p + INDEX, index);
  mem.storeAddress(p + CHILD, 0);
  mem.storeAddress(p + CHILD + 8, 0);
  const map = mem.load32(state + TREEMAP);
  let link = root;
  let parent = root;
  if ((map & (1 << index)) === 0) {
    mem.store32(state + TREEMAP, map | (1 << index));
    mem.storeAddress(root, 0);
  }
  let bit = firstBit(index);
  for (let at = mem.loadAddress(link); at !== 0; at = mem.loadAddress(link)) {
    if (chunkSize(mem, at) === size) {
      // One of a ring: only the first has a place in the tree.
      const fd = mem.loadAddress(at + FD);
      if (mem.loadAddress(fd + BK) !== at) corrupted();
      mem.storeAddress(at + FD, p);
      mem.storeAddress(fd + BK, p);
      mem.storeAddress(p + FD, fd);
      mem.storeAddress(p + BK, at);
      mem.storeAddress(p + PARENT, 0);
      return;
    }
    parent = at;
    link = at + CHILD + 8 * bitOf(size, bit--);
    if (at < mem.loadAddress(state + LEAST_ADDR)) corrupted();
  }
  mem.storeAddress(link, p);
  mem.storeAddress(p + PARENT, parent);
  mem.storeAddress(p + FD, p);
  mem.storeAddress(p + BK, p);
}

function unlinkLarge(dl: Dl, p: VirtAddr): void {
  const { mem, state } = dl;
  const parent = mem.loadAddress(p + PARENT);
  const bk = mem.loadAddress(p + BK);
  let successor: VirtAddr;
  if (bk !== p) {
    const fd = mem.loadAddress(p + FD);
    if (mem.loadAddress(fd + BK) !== p || mem.loadAddress(bk + FD) !== p) corrupted();
    mem.storeAddress(fd + BK, bk);
    mem.storeAddress(bk + FD, fd);
    successor = bk;
  } else {
    successor = takeLeaf(dl, p);
  }
  if (parent === 0) return;
  const index = mem.load32(p + INDEX);
  const root = state + TREEBINS + 8 * (index & 31);
  if (mem.loadAddress(root) === p) {
    mem.storeAddress(root, successor);
    if (successor === 0) mem.store32(state + TREEMAP, mem.load32(state + TREEMAP) & ~(1 << index));
  } else if (mem.loadAddress(parent + CHILD) === p) {
    mem.storeAddress(parent + CHILD, successor);
  } else if (mem.loadAddress(parent + CHILD + 8) === p) {
    mem.storeAddress(parent + CHILD + 8, successor);
  } else {
    corrupted();
  }
  if (successor === 0) return;
  mem.storeAddress(successor + PARENT, parent);
  for (const child of [CHILD, CHILD + 8]) {
    const below = mem.loadAddress(p + child);
    mem.storeAddress(successor + child, below);
    if (below !== 0) mem.storeAddress(below + PARENT, successor);
  }
}

/** Takes a leaf below `p` off, to stand in its place; 0 where `p` is one itself. */
function takeLeaf({ mem }: Dl, p: VirtAddr): VirtAddr {
  let link = p + CHILD + 8;
  let leaf = mem.loadAddress(link);
  if (leaf === 0) {
    link = p + CHILD;
    leaf = mem.loadAddress(link);
    if (leaf === 0) return 0;
  }
  for (;;) {
    let below = leaf + CHILD + 8;
    if (mem.loadAddress(below) === 0) below = leaf + CHILD;
    const next = mem.loadAddress(below);
    if (next === 0) break;
    link = below;
    leaf = next;
  }
  mem.storeAddress(link, 0);
  return leaf;
}

/** The lowest tree chunk of a subtree is on its left edge: what to look at next for a smaller one, 0 at the end. */
export function leftmostChild({ mem }: Dl, p: VirtAddr): VirtAddr {
  const left = mem.loadAddress(p + CHILD);
  return left !== 0 ? left : mem.loadAddress(p + CHILD + 8);
}

/** Makes a free chunk the designated victim; the one before it goes to its bin. */
export function replaceDv(dl: Dl, p: VirtAddr, size: number): void {
  const { mem, state } = dl;
  const oldSize = mem.loadAddress(state + DV_SIZE);
  if (oldSize !== 0) insertSmall(dl, mem.loadAddress(state + DV), oldSize);
  mem.storeAddress(state + DV_SIZE, size);
  mem.storeAddress(state + DV, p);
}
