import { bugOn } from './assert.ts';
import { copyColumn, growColumn } from './columns.ts';

/*
 * The nodes of a range tree. A node is a number; its contents lie in columns, so that a tree of a million ranges is
 * a handful of typed arrays and a copy of it a handful of block copies.
 *
 * A leaf holds up to LEAF_MAX ranges in ascending order, from leaf * LEAF_SLOTS on in each column:
 *
 *     leafStarts | leafEnds | values                  a range's position is leaf * LEAF_SLOTS + index
 *     leafLinks  | count | next leaf | previous leaf | - |           from leaf * LEAF_LINKS on; -1 for no leaf
 *
 * An inner node holds up to INNER_MAX children, from node * INNER_SLOTS on in each column, and for each a summary of
 * the ranges below it: start of the first, end of the last, and the widest gap between two neighbours:
 *
 *     innerKids | innerLows | innerHighs | innerGaps                 innerCounts | count |
 *
 * Ends and highs of slots not in use are Infinity, and the last slot never is in use: a search needs no count. The last
 * end of a leaf holds its floor instead: where the leaf before ends, -Infinity in the first. So a leaf tells by itself
 * whether it is the one for an address.
 */

export const LEAF_SHIFT = 4;
export const LEAF_SLOTS = 1 << LEAF_SHIFT;
export const LEAF_MASK = LEAF_SLOTS - 1;
export const LEAF_MAX = LEAF_SLOTS - 1;
export const LEAF_FLOOR = LEAF_SLOTS - 1;
export const LEAF_LINKS = 4;
export const LEAF_NEXT = 1;
export const LEAF_PREV = 2;

export const INNER_SHIFT = 5;
export const INNER_SLOTS = 1 << INNER_SHIFT;
export const INNER_MAX = INNER_SLOTS - 1;

/** More levels than any tree has that fits in memory. */
export const MAX_LEVELS = 16;

const NO_NUMBERS = new Float64Array(0);
const NO_NODES = new Int32Array(0);

/** The columns of a range tree, and the moving of slots within and between nodes. It knows nothing of order. */
export class RangePool<T> {
  leafStarts: Float64Array = NO_NUMBERS;
  leafEnds: Float64Array = NO_NUMBERS;
  leafLinks: Int32Array = NO_NODES;
  values: (T | undefined)[] = [];
  innerKids: Int32Array = NO_NODES;
  innerCounts: Int32Array = NO_NODES;
  innerLows: Float64Array = NO_NUMBERS;
  innerHighs: Float64Array = NO_NUMBERS;
  innerGaps: Float64Array = NO_NUMBERS;
  /** Leaves and inner nodes there are memory for. */
  protected nrLeaves = 0;
  protected nrInners = 0;
  /** Free nodes, chained through LEAF_NEXT and the first child; -1 where there is none. */
  private freeLeaf = -1;
  private freeInner = -1;

  /** Returns an empty leaf that is linked to no other. */
  protected allocLeaf(): number {
    let leaf = this.freeLeaf;
    if (leaf >= 0) {
      this.freeLeaf = this.leafLinks[leaf * LEAF_LINKS + LEAF_NEXT]!;
    } else {
      leaf = this.nrLeaves++;
      this.leafStarts = growColumn(this.leafStarts, this.nrLeaves * LEAF_SLOTS);
      this.leafEnds = growColumn(this.leafEnds, this.nrLeaves * LEAF_SLOTS, Infinity);
      this.leafLinks = growColumn(this.leafLinks, this.nrLeaves * LEAF_LINKS);
      for (let slot = 0; slot < LEAF_SLOTS; slot++) this.values.push(undefined);
    }
    const links = leaf * LEAF_LINKS;
    this.leafLinks[links] = 0;
    this.leafLinks[links + LEAF_NEXT] = -1;
    this.leafLinks[links + LEAF_PREV] = -1;
    this.leafEnds[(leaf << LEAF_SHIFT) + LEAF_FLOOR] = -Infinity;
    return leaf;
  }

  /** Gives back an empty leaf and takes it out of the chain of leaves. */
  protected releaseLeaf(leaf: number): void {
    const { leafEnds, leafLinks } = this;
    const links = leaf * LEAF_LINKS;
    const next = leafLinks[links + LEAF_NEXT];
    const prev = leafLinks[links + LEAF_PREV];
    if (next >= 0) leafLinks[next * LEAF_LINKS + LEAF_PREV] = prev;
    if (prev >= 0) leafLinks[prev * LEAF_LINKS + LEAF_NEXT] = next;
    if (next >= 0) leafEnds[(next << LEAF_SHIFT) + LEAF_FLOOR] = leafEnds[(leaf << LEAF_SHIFT) + LEAF_FLOOR];
    leafLinks[links + LEAF_NEXT] = this.freeLeaf;
    this.freeLeaf = leaf;
  }

  /** Puts a fresh leaf behind `leaf` in the chain of leaves. Its floor comes with the summary of `leaf`. */
  protected linkLeafAfter(leaf: number, fresh: number): void {
    const { leafLinks } = this;
    const next = leafLinks[leaf * LEAF_LINKS + LEAF_NEXT];
    leafLinks[fresh * LEAF_LINKS + LEAF_NEXT] = next;
    leafLinks[fresh * LEAF_LINKS + LEAF_PREV] = leaf;
    leafLinks[leaf * LEAF_LINKS + LEAF_NEXT] = fresh;
    if (next >= 0) leafLinks[next * LEAF_LINKS + LEAF_PREV] = fresh;
  }

  /** Puts a fresh leaf before `leaf` in the chain of leaves. Its floor is that of `leaf` until then. */
  protected linkLeafBefore(leaf: number, fresh: number): void {
    const { leafEnds, leafLinks } = this;
    leafEnds[(fresh << LEAF_SHIFT) + LEAF_FLOOR] = leafEnds[(leaf << LEAF_SHIFT) + LEAF_FLOOR];
    const prev = leafLinks[leaf * LEAF_LINKS + LEAF_PREV];
    leafLinks[fresh * LEAF_LINKS + LEAF_NEXT] = leaf;
    leafLinks[fresh * LEAF_LINKS + LEAF_PREV] = prev;
    leafLinks[leaf * LEAF_LINKS + LEAF_PREV] = fresh;
    if (prev >= 0) leafLinks[prev * LEAF_LINKS + LEAF_NEXT] = fresh;
  }

  /** Opens slot `index` of a leaf that is not full and puts a range there. */
  protected leafInsert(leaf: number, index: number, start: number, end: number, value: T): void {
    const at = (leaf << LEAF_SHIFT) + index;
    this.leafOpen(leaf, index, 1);
    this.leafStarts[at] = start;
    this.leafEnds[at] = end;
    this.values[at] = value;
  }

  /** Opens `nr` slots of a leaf that has room for them, from slot `index` on; what they held is still in them. */
  protected leafOpen(leaf: number, index: number, nr: number): void {
    const { leafStarts, leafEnds, values } = this;
    const at = (leaf << LEAF_SHIFT) + index;
    const count = this.leafLinks[leaf * LEAF_LINKS];
    for (let slot = (leaf << LEAF_SHIFT) + count - 1; slot >= at; slot--) {
      leafStarts[slot + nr] = leafStarts[slot]!;
      leafEnds[slot + nr] = leafEnds[slot]!;
      values[slot + nr] = values[slot];
    }
    this.leafLinks[leaf * LEAF_LINKS] = count + nr;
  }

  /** Takes `nr` ranges from slot `index` of a leaf and closes up. */
  protected leafDelete(leaf: number, index: number, nr: number): void {
    const { leafStarts, leafEnds, values } = this;
    const base = leaf << LEAF_SHIFT;
    const count = this.leafLinks[leaf * LEAF_LINKS] - nr;
    const end = base + count;
    for (let slot = base + index; slot < end; slot++) {
      leafStarts[slot] = leafStarts[slot + nr]!;
      leafEnds[slot] = leafEnds[slot + nr]!;
      values[slot] = values[slot + nr];
    }
    for (let slot = end; slot < end + nr; slot++) {
      leafEnds[slot] = Infinity;
      values[slot] = undefined;
    }
    this.leafLinks[leaf * LEAF_LINKS] = count;
  }

  /** Moves the ranges from slot `from` of leaf `source` on to the end of leaf `target`, which has room for them. */
  protected leafMove(target: number, source: number, from: number): void {
    const { leafStarts, leafEnds, leafLinks, values } = this;
    const targetCount = leafLinks[target * LEAF_LINKS];
    const nr = leafLinks[source * LEAF_LINKS] - from;
    const read = (source << LEAF_SHIFT) + from;
    const write = (target << LEAF_SHIFT) + targetCount;
    for (let i = 0; i < nr; i++) {
      leafStarts[write + i] = leafStarts[read + i]!;
      leafEnds[write + i] = leafEnds[read + i]!;
      values[write + i] = values[read + i];
      leafEnds[read + i] = Infinity;
      values[read + i] = undefined;
    }
    leafLinks[source * LEAF_LINKS] = from;
    leafLinks[target * LEAF_LINKS] = targetCount + nr;
  }

  /** Returns an inner node without children. */
  protected allocInner(): number {
    let node = this.freeInner;
    if (node >= 0) {
      this.freeInner = this.innerKids[node << INNER_SHIFT]!;
    } else {
      node = this.nrInners++;
      const slots = this.nrInners << INNER_SHIFT;
      this.innerKids = growColumn(this.innerKids, slots);
      this.innerCounts = growColumn(this.innerCounts, this.nrInners);
      this.innerLows = growColumn(this.innerLows, slots);
      this.innerHighs = growColumn(this.innerHighs, slots, Infinity);
      this.innerGaps = growColumn(this.innerGaps, slots);
    }
    this.innerCounts[node] = 0;
    return node;
  }

  /** Gives back an inner node without children. */
  protected releaseInner(node: number): void {
    this.innerKids[node << INNER_SHIFT] = this.freeInner;
    this.freeInner = node;
  }

  /**
   * Opens slot `index` of an inner node that is not full and puts a child there, whose summary is still to be written.
   */
  protected innerInsert(node: number, index: number, child: number): void {
    const { innerKids, innerLows, innerHighs, innerGaps } = this;
    const base = node << INNER_SHIFT;
    const count = this.innerCounts[node];
    for (let slot = base + count; slot > base + index; slot--) {
      innerKids[slot] = innerKids[slot - 1]!;
      innerLows[slot] = innerLows[slot - 1]!;
      innerHighs[slot] = innerHighs[slot - 1]!;
      innerGaps[slot] = innerGaps[slot - 1]!;
    }
    innerKids[base + index] = child;
    this.innerCounts[node] = count + 1;
  }

  /** Takes the child in slot `index` of an inner node and closes up. */
  protected innerDelete(node: number, index: number): void {
    const { innerKids, innerLows, innerHighs, innerGaps } = this;
    const base = node << INNER_SHIFT;
    const count = this.innerCounts[node] - 1;
    for (let slot = base + index; slot < base + count; slot++) {
      innerKids[slot] = innerKids[slot + 1]!;
      innerLows[slot] = innerLows[slot + 1]!;
      innerHighs[slot] = innerHighs[slot + 1]!;
      innerGaps[slot] = innerGaps[slot + 1]!;
    }
    innerHighs[base + count] = Infinity;
    this.innerCounts[node] = count;
  }

  /** Moves the children from slot `from` of node `source` on to the end of node `target`, which has room for them. */
  protected innerMove(target: number, source: number, from: number): void {
    const { innerKids, innerLows, innerHighs, innerGaps } = this;
    const targetCount = this.innerCounts[target];
    const nr = this.innerCounts[source] - from;
    const read = (source << INNER_SHIFT) + from;
    const write = (target << INNER_SHIFT) + targetCount;
    for (let i = 0; i < nr; i++) {
      innerKids[write + i] = innerKids[read + i]!;
      innerLows[write + i] = innerLows[read + i]!;
      innerHighs[write + i] = innerHighs[read + i]!;
      innerGaps[write + i] = innerGaps[read + i]!;
      innerHighs[read + i] = Infinity;
    }
    this.innerCounts[source] = from;
    this.innerCounts[target] = targetCount + nr;
  }

  /** Tells the leaf behind `leaf` where this one ends. */
  protected raiseFloor(leaf: number, high: number): void {
    const next = this.leafLinks[leaf * LEAF_LINKS + LEAF_NEXT];
    if (next >= 0) this.leafEnds[(next << LEAF_SHIFT) + LEAF_FLOOR] = high;
  }

  /** Returns the widest gap between two neighbouring ranges of a leaf, 0 where there is none. */
  protected leafGap(leaf: number): number {
    const { leafStarts, leafEnds } = this;
    const base = leaf << LEAF_SHIFT;
    const end = base + this.leafLinks[leaf * LEAF_LINKS];
    let widest = 0;
    for (let slot = base + 1; slot < end; slot++) {
      const gap = leafStarts[slot] - leafEnds[slot - 1];
      if (gap > widest) widest = gap;
    }
    return widest;
  }

  /** Returns the widest gap between two neighbouring ranges below an inner node, from the summaries of its children. */
  protected innerGap(node: number): number {
    const { innerLows, innerHighs, innerGaps } = this;
    const base = node << INNER_SHIFT;
    const end = base + this.innerCounts[node];
    let widest = innerGaps[base];
    for (let slot = base + 1; slot < end; slot++) {
      const between = innerLows[slot] - innerHighs[slot - 1];
      if (between > widest) widest = between;
      const within = innerGaps[slot];
      if (within > widest) widest = within;
    }
    return widest;
  }

  /** Checks that each node is either one of those in use, so many, or free with nothing in it. */
  protected validateFree(leavesInUse: number, innersInUse: number): void {
    let leaves = leavesInUse;
    for (let leaf = this.freeLeaf; leaf >= 0; leaf = this.leafLinks[leaf * LEAF_LINKS + LEAF_NEXT]!) {
      leaves++;
      for (let slot = leaf << LEAF_SHIFT; slot < (leaf << LEAF_SHIFT) + LEAF_MAX; slot++) {
        const isEmpty = this.leafEnds[slot] === Infinity && this.values[slot] === undefined;
        bugOn(!isEmpty, 'range tree: free leaf is not empty');
      }
    }
    let inners = innersInUse;
    for (let node = this.freeInner; node >= 0; node = this.innerKids[node << INNER_SHIFT]!) inners++;
    bugOn(leaves !== this.nrLeaves || inners !== this.nrInners, 'range tree: node lost');
  }

  /** Drops all nodes and their memory. */
  protected dropNodes(): void {
    this.leafStarts = NO_NUMBERS;
    this.leafEnds = NO_NUMBERS;
    this.leafLinks = NO_NODES;
    this.values = [];
    this.innerKids = NO_NODES;
    this.innerCounts = NO_NODES;
    this.innerLows = NO_NUMBERS;
    this.innerHighs = NO_NUMBERS;
    this.innerGaps = NO_NUMBERS;
    this.nrLeaves = 0;
    this.nrInners = 0;
    this.freeLeaf = -1;
    this.freeInner = -1;
  }

  /** Makes this pool a copy of `source` but for the values, all of them undefined. */
  protected copyNodes(source: RangePool<unknown>): void {
    this.leafStarts = copyColumn(source.leafStarts);
    this.leafEnds = copyColumn(source.leafEnds);
    this.leafLinks = copyColumn(source.leafLinks);
    this.values = [];
    for (let i = 0; i < source.values.length; i++) this.values.push(undefined);
    if (source.nrInners > 0) {
      this.innerKids = copyColumn(source.innerKids);
      this.innerCounts = copyColumn(source.innerCounts);
      this.innerLows = copyColumn(source.innerLows);
      this.innerHighs = copyColumn(source.innerHighs);
      this.innerGaps = copyColumn(source.innerGaps);
    }
    this.nrLeaves = source.nrLeaves;
    this.nrInners = source.nrInners;
    this.freeLeaf = source.freeLeaf;
    this.freeInner = source.freeInner;
  }
}

/**
 * Returns the first slot of a leaf, from `base` on, that ends above `addr`; always one of its LEAF_SLOTS.
 *
 * A binary search whose steps are sums of comparisons, not branches: an address out of the blue would send half of
 * those the wrong way. A third of the time of a loop that stops when it has found the slot.
 */
export function firstAboveInLeaf(ends: Float64Array, base: number, addr: number): number {
  let at = (base + (+(ends[base + 7] <= addr) << 3)) | 0;
  at = (at + (+(ends[at + 3] <= addr) << 2)) | 0;
  at = (at + (+(ends[at + 1] <= addr) << 1)) | 0;
  return (at + +(ends[at] <= addr)) | 0;
}

/**
 * Tells whether `position`, found in the leaf at `base`, is right for `addr`: no leaf before reaches over `addr`, and a
 * range of this one does.
 */
export function isRightLeaf(ends: Float64Array, base: number, position: number, addr: number): boolean {
  const end = ends[position];
  if (!(end > addr && end < Infinity)) return false;
  // One that ends below `addr` tells as much as the floor, which lies on another cache line.
  return (position & LEAF_MASK) !== 0 || ends[base + LEAF_FLOOR] <= addr;
}

/** As {@link firstAboveInLeaf}, for the INNER_SLOTS of an inner node; four ways at a step is faster here. */
export function firstAboveInNode(highs: Float64Array, base: number, addr: number): number {
  const half = (base + (+(highs[base + 15] <= addr) << 4)) | 0;
  const quarters = +(highs[half + 3] <= addr) + +(highs[half + 7] <= addr) + +(highs[half + 11] <= addr);
  const at = (half + (quarters << 2)) | 0;
  return (at + +(highs[at] <= addr) + +(highs[at + 1] <= addr) + +(highs[at + 2] <= addr)) | 0;
}
