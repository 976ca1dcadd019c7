/**
 * What must hold in a dlmalloc heap between two requests:
 *
 * - the chunks of a segment fill it up to top's foot or the fence posts; no two free ones are neighbours
 * - a chunk is free, and the one behind it says so, if and only if it is in the bin or tree of its size, or is the
 *   designated victim; all links are sound both ways, and the maps mark the bins that hold something
 * - in a tree, the bits of a size from the root's down are the way to its node
 * - `sum of segments === FOOTPRINT`
 */
import type { VirtAddr } from '@pagelab/abi';
import { smallBin } from './bins.ts';
import {
  BK,
  CHILD,
  DV,
  DV_SIZE,
  FD,
  FENCEPOST,
  FLAGS,
  FOOTPRINT,
  HEAD,
  INDEX,
  INUSE,
  PARENT,
  PINUSE,
  SEGMENT,
  SEG_BASE,
  SEG_NEXT,
  SEG_SIZE,
  SMALLMAP,
  TOP,
  TOP_SIZE,
  TREEBINS,
  TREEMAP,
  CINUSE,
  bitOf,
  firstBit,
  treeIndex,
} from './layout.ts';
import type { Dl } from './state.ts';
import { chunkSize } from './state.ts';

function check(condition: boolean, what: string, p: VirtAddr): void {
  if (!condition) throw new Error(`dlmalloc heap: ${what} (chunk at 0x${p.toString(16)})`);
}

/** The free chunks of all segments, top among them, and their bytes. Linear in the number of chunks. */
export function freeBytes(dl: Dl): { chunks: number; bytes: number } {
  const free = { chunks: 0, bytes: 0 };
  forEachChunk(dl, (_p, size, head) => {
    if ((head & CINUSE) !== 0) return;
    free.chunks++;
    free.bytes += size;
  });
  return free;
}

function forEachChunk({ mem, state }: Dl, visit: (p: VirtAddr, size: number, head: number) => void): void {
  const top = mem.loadAddress(state + TOP);
  if (top === 0) return;
  for (let record = state + SEGMENT; record !== 0; record = mem.loadAddress(record + SEG_NEXT)) {
    const base = mem.loadAddress(record + SEG_BASE);
    const end = base + mem.loadAddress(record + SEG_SIZE);
    for (let p = base; p < end; ) {
      const head = mem.loadAddress(p + HEAD);
      if (head === FENCEPOST) break;
      const size = head - (head & FLAGS);
      check(size >= 16 && size % 16 === 0 && p + size <= end, 'a chunk has an impossible size', p);
      visit(p, size, head);
      if (p === top) break;
      p += size;
    }
  }
}

/** Throws an Error that names the first broken invariant. Linear in the number of chunks. */
export function validateDlmalloc(dl: Dl): void {
  const { mem, state } = dl;
  const top = mem.loadAddress(state + TOP);
  if (top === 0) return;
  const binned = new Set<VirtAddr>();
  checkSmallBins(dl, binned);
  for (let index = 0; index < 32; index++) {
    const root = mem.loadAddress(state + TREEBINS + 8 * index);
    const marked = ((mem.load32(state + TREEMAP) >>> index) & 1) === 1;
    if (!marked) continue;
    check(root !== 0, 'the map marks a tree that is empty', top);
    checkTree(dl, index, root, state + TREEBINS + 8 * index, [], binned);
  }
  const dv = mem.loadAddress(state + DV);
  if (mem.loadAddress(state + DV_SIZE) > 0) {
    check(chunkSize(mem, dv) === mem.loadAddress(state + DV_SIZE), 'the designated victim has another size', dv);
    binned.add(dv);
  }
  checkChunks(dl, top, binned);
}

function checkChunks(dl: Dl, top: VirtAddr, binned: ReadonlySet<VirtAddr>): void {
  const { mem, state } = dl;
  let free = 0;
  forEachChunk(dl, (p, size, head) => {
    if (p === top) {
      check(size === mem.loadAddress(state + TOP_SIZE) && (head & INUSE) === PINUSE, 'top has another size', p);
      return;
    }
    const isFree = (head & CINUSE) === 0;
    const nextHead = mem.loadAddress(p + size + HEAD);
    // Fence posts do not tell.
    if (nextHead !== FENCEPOST) check(((nextHead & PINUSE) === 0) === isFree, 'the next chunk is wrong about one', p);
    check(isFree === binned.has(p), isFree ? 'a free chunk is in no bin' : 'a used chunk is in a bin', p);
    if (!isFree) return;
    free++;
    check((head & PINUSE) !== 0, 'two free chunks are neighbours', p);
    check(mem.loadAddress(p + size) === size, 'the size behind a free chunk is not its size', p);
  });
  check(free === binned.size, 'the bins hold chunks that are in no segment', top);
  let footprint = 0;
  for (let record = state + SEGMENT; record !== 0; record = mem.loadAddress(record + SEG_NEXT)) {
    footprint += mem.loadAddress(record + SEG_SIZE);
  }
  check(footprint === mem.loadAddress(state + FOOTPRINT), 'the segments are not counted right', top);
}

function checkSmallBins({ mem, state }: Dl, binned: Set<VirtAddr>): void {
  for (let index = 2; index < 32; index++) {
    const bin = smallBin(state, 8 * index);
    const marked = ((mem.load32(state + SMALLMAP) >>> index) & 1) === 1;
    check(marked === (mem.loadAddress(bin + FD) !== bin), 'the map is wrong about a bin', bin);
    let prev = bin;
    for (let p = mem.loadAddress(bin + FD); p !== bin; prev = p, p = mem.loadAddress(p + FD)) {
      check(!binned.has(p), 'a bin is a loop', p);
      binned.add(p);
      check(mem.loadAddress(p + BK) === prev, 'bk does not lead back', p);
      check(chunkSize(mem, p) === 8 * index, 'a chunk is in the bin of another size', p);
    }
  }
}

function checkTree({ mem, ...dl }: Dl, index: number, node: VirtAddr, parent: VirtAddr, path: readonly number[], binned: Set<VirtAddr>): void {
  const size = chunkSize(mem, node);
  check(treeIndex(size) === index && mem.load32(node + INDEX) === index, 'a chunk is in the tree of another size', node);
  check(mem.loadAddress(node + PARENT) === parent, 'parent does not lead back', node);
  path.forEach((bit, depth) => {
    check(bitOf(size, firstBit(index) - depth) === bit, 'a chunk is in the wrong place of its tree', node);
  });
  let p = node;
  do {
    check(!binned.has(p), 'a chunk is in a tree twice', p);
    binned.add(p);
    const next = mem.loadAddress(p + FD);
    check(mem.loadAddress(next + BK) === p, 'bk does not lead back', p);
    check(chunkSize(mem, p) === size, 'the chunks of a ring differ in size', p);
    if (p !== node) check(mem.loadAddress(p + PARENT) === 0, 'a chunk of a ring has a parent', p);
    p = next;
  } while (p !== node);
  for (const bit of [0, 1]) {
    const child = mem.loadAddress(node + CHILD + 8 * bit);
    if (child !== 0) checkTree({ mem, ...dl }, index, child, node, [...path, bit], binned);
  }
}
