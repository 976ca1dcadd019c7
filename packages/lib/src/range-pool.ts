import { growColumn } from './columns.ts';

/*
 * The nodes of a range tree. A node is a number; its contents lie in columns, so that a tree of a million ranges is
 * a handful of typed arrays and a copy of it a handful of block copies.
 *
 * A leaf holds up to LEAF_FANOUT ranges in ascending order:
 *
 *     leafBounds  | starts[0 … FANOUT) | ends[0 … FANOUT) |      stride LEAF_BOUNDS, from leaf * LEAF_BOUNDS
 *     leafLinks   | count | next leaf | previous leaf | - |      stride LEAF_LINKS; -1 where there is no such leaf
 *     values      | values[0 … FANOUT) |                         a range's position is leaf * FANOUT + index
 *
 * An inner node holds up to INNER_FANOUT children and for each a summary of the ranges below it:
 *
 *     innerBounds | lows | highs | gaps |                        start of the first, end of the last, and the widest
 *                                                                gap between two neighbours
 *     innerKids   | kids | count |
 *
 * Ends and highs of slots not in use are Infinity: a search needs no count.
 */

export const LEAF_FANOUT = 16;
export const LEAF_SHIFT = 4;
export const LEAF_ENDS = LEAF_FANOUT;
export const LEAF_BOUNDS = 2 * LEAF_FANOUT;
export const LEAF_LINKS = 4;
export const LEAF_COUNT = 0;
export const LEAF_NEXT = 1;
export const LEAF_PREV = 2;

export const INNER_FANOUT = 32;
export const INNER_HIGHS = INNER_FANOUT;
export const INNER_GAPS = 2 * INNER_FANOUT;
export const INNER_BOUNDS = 3 * INNER_FANOUT;
export const INNER_COUNT = INNER_FANOUT;
export const INNER_KIDS = INNER_FANOUT + 1;

/** More levels than any tree has that fits in memory. */
export const MAX_LEVELS = 16;

const NO_BOUNDS = new Float64Array(0);
const NO_KIDS = new Int32Array(0);

/** The columns of a range tree, and the moving of slots within and between nodes. It knows nothing of order. */
export class RangePool<T> {
  leafBounds: Float64Array = new Float64Array(LEAF_BOUNDS).fill(Infinity);
  leafLinks: Int32Array = new Int32Array(LEAF_LINKS);
  values: (T | undefined)[] = [];
  innerBounds: Float64Array = NO_BOUNDS;
  innerKids: Int32Array = NO_KIDS;
  /** Heads of the lists of free nodes, chained through LEAF_NEXT and the first child; -1 where empty. */
  private freeLeaf = -1;
  private freeInner = -1;
  private nrLeaves = 0;
  private nrInners = 0;

  /** Returns an empty leaf that is linked to no other. */
  allocLeaf(): number {
    let leaf = this.freeLeaf;
    if (leaf >= 0) {
      this.freeLeaf = this.leafLinks[leaf * LEAF_LINKS + LEAF_NEXT]!;
    } else {
      leaf = this.nrLeaves++;
      this.leafBounds = growColumn(this.leafBounds, this.nrLeaves * LEAF_BOUNDS, Infinity);
      this.leafLinks = growColumn(this.leafLinks, this.nrLeaves * LEAF_LINKS);
      for (let slot = 0; slot < LEAF_FANOUT; slot++) this.values.push(undefined);
    }
    const links = leaf * LEAF_LINKS;
    this.leafLinks[links + LEAF_COUNT] = 0;
    this.leafLinks[links + LEAF_NEXT] = -1;
    this.leafLinks[links + LEAF_PREV] = -1;
    return leaf;
  }

  /** Gives back an empty leaf and takes it out of the chain of leaves. */
  freeLeafNode(leaf: number): void {
    const { leafLinks } = this;
    const links = leaf * LEAF_LINKS;
    const next = leafLinks[links + LEAF_NEXT]!;
    const prev = leafLinks[links + LEAF_PREV]!;
    if (next >= 0) leafLinks[next * LEAF_LINKS + LEAF_PREV] = prev;
    if (prev >= 0) leafLinks[prev * LEAF_LINKS + LEAF_NEXT] = next;
    leafLinks[links + LEAF_NEXT] = this.freeLeaf;
    this.freeLeaf = leaf;
  }

  /** Puts a fresh leaf behind `leaf` in the chain of leaves. */
  linkLeafAfter(leaf: number, fresh: number): void {
    const { leafLinks } = this;
    const next = leafLinks[leaf * LEAF_LINKS + LEAF_NEXT]!;
    leafLinks[fresh * LEAF_LINKS + LEAF_NEXT] = next;
    leafLinks[fresh * LEAF_LINKS + LEAF_PREV] = leaf;
    leafLinks[leaf * LEAF_LINKS + LEAF_NEXT] = fresh;
    if (next >= 0) leafLinks[next * LEAF_LINKS + LEAF_PREV] = fresh;
  }

  /** Puts a fresh leaf before `leaf` in the chain of leaves. */
  linkLeafBefore(leaf: number, fresh: number): void {
    const { leafLinks } = this;
    const prev = leafLinks[leaf * LEAF_LINKS + LEAF_PREV]!;
    leafLinks[fresh * LEAF_LINKS + LEAF_NEXT] = leaf;
    leafLinks[fresh * LEAF_LINKS + LEAF_PREV] = prev;
    leafLinks[leaf * LEAF_LINKS + LEAF_PREV] = fresh;
    if (prev >= 0) leafLinks[prev * LEAF_LINKS + LEAF_NEXT] = fresh;
  }

  /** Opens slot `index` of a leaf that is not full and puts a range there. */
  leafInsert(leaf: number, index: number, start: number, end: number, value: T): void {
    const { leafBounds, values } = this;
    const starts = leaf * LEAF_BOUNDS;
    const ends = starts + LEAF_ENDS;
    const base = leaf << LEAF_SHIFT;
    const count = this.leafLinks[leaf * LEAF_LINKS]!++;
    for (let i = count; i > index; i--) {
      leafBounds[starts + i] = leafBounds[starts + i - 1]!;
      leafBounds[ends + i] = leafBounds[ends + i - 1]!;
      values[base + i] = values[base + i - 1];
    }
    leafBounds[starts + index] = start;
    leafBounds[ends + index] = end;
    values[base + index] = value;
  }

  /** Takes `nr` ranges from slot `index` of a leaf and closes up. */
  leafDelete(leaf: number, index: number, nr: number): void {
    const { leafBounds, values } = this;
    const starts = leaf * LEAF_BOUNDS;
    const ends = starts + LEAF_ENDS;
    const base = leaf << LEAF_SHIFT;
    const count = this.leafLinks[leaf * LEAF_LINKS]! - nr;
    for (let i = index; i < count; i++) {
      leafBounds[starts + i] = leafBounds[starts + i + nr]!;
      leafBounds[ends + i] = leafBounds[ends + i + nr]!;
      values[base + i] = values[base + i + nr];
    }
    for (let i = count; i < count + nr; i++) {
      leafBounds[ends + i] = Infinity;
      values[base + i] = undefined;
    }
    this.leafLinks[leaf * LEAF_LINKS] = count;
  }

  /** Moves the ranges from slot `from` of leaf `source` on to the end of leaf `target`, which has room for them. */
  leafMove(target: number, source: number, from: number): void {
    const { leafBounds, leafLinks, values } = this;
    const sourceCount = leafLinks[source * LEAF_LINKS]!;
    const targetCount = leafLinks[target * LEAF_LINKS]!;
    const nr = sourceCount - from;
    for (let i = 0; i < nr; i++) {
      const sourceStart = source * LEAF_BOUNDS + from + i;
      const targetStart = target * LEAF_BOUNDS + targetCount + i;
      leafBounds[targetStart] = leafBounds[sourceStart]!;
      leafBounds[targetStart + LEAF_ENDS] = leafBounds[sourceStart + LEAF_ENDS]!;
      leafBounds[sourceStart + LEAF_ENDS] = Infinity;
      values[(target << LEAF_SHIFT) + targetCount + i] = values[(source << LEAF_SHIFT) + from + i];
      values[(source << LEAF_SHIFT) + from + i] = undefined;
    }
    leafLinks[source * LEAF_LINKS] = from;
    leafLinks[target * LEAF_LINKS] = targetCount + nr;
  }

  /** Returns an inner node without children. */
  allocInner(): number {
    let node = this.freeInner;
    if (node >= 0) {
      this.freeInner = this.innerKids[node * INNER_KIDS]!;
    } else {
      node = this.nrInners++;
      this.innerBounds = growColumn(this.innerBounds, this.nrInners * INNER_BOUNDS, Infinity);
      this.innerKids = growColumn(this.innerKids, this.nrInners * INNER_KIDS);
    }
    this.innerKids[node * INNER_KIDS + INNER_COUNT] = 0;
    return node;
  }

  /** Gives back an inner node without children. */
  freeInnerNode(node: number): void {
    this.innerKids[node * INNER_KIDS] = this.freeInner;
    this.freeInner = node;
  }

  /** Opens slot `index` of an inner node that is not full and puts a child there, whose summary is still to be written. */
  innerInsert(node: number, index: number, child: number): void {
    const { innerBounds, innerKids } = this;
    const lows = node * INNER_BOUNDS;
    const kids = node * INNER_KIDS;
    const count = innerKids[kids + INNER_COUNT]!;
    for (let i = count; i > index; i--) {
      innerBounds[lows + i] = innerBounds[lows + i - 1]!;
      innerBounds[lows + INNER_HIGHS + i] = innerBounds[lows + INNER_HIGHS + i - 1]!;
      innerBounds[lows + INNER_GAPS + i] = innerBounds[lows + INNER_GAPS + i - 1]!;
      innerKids[kids + i] = innerKids[kids + i - 1]!;
    }
    innerKids[kids + index] = child;
    innerKids[kids + INNER_COUNT] = count + 1;
  }

  /** Takes the child in slot `index` of an inner node and closes up. */
  innerDelete(node: number, index: number): void {
    const { innerBounds, innerKids } = this;
    const lows = node * INNER_BOUNDS;
    const kids = node * INNER_KIDS;
    const count = innerKids[kids + INNER_COUNT]! - 1;
    for (let i = index; i < count; i++) {
      innerBounds[lows + i] = innerBounds[lows + i + 1]!;
      innerBounds[lows + INNER_HIGHS + i] = innerBounds[lows + INNER_HIGHS + i + 1]!;
      innerBounds[lows + INNER_GAPS + i] = innerBounds[lows + INNER_GAPS + i + 1]!;
      innerKids[kids + i] = innerKids[kids + i + 1]!;
    }
    innerBounds[lows + INNER_HIGHS + count] = Infinity;
    innerKids[kids + INNER_COUNT] = count;
  }

  /** Moves the children from slot `from` of node `source` on to the end of node `target`, which has room for them. */
  innerMove(target: number, source: number, from: number): void {
    const { innerBounds, innerKids } = this;
    const sourceCount = innerKids[source * INNER_KIDS + INNER_COUNT]!;
    const targetCount = innerKids[target * INNER_KIDS + INNER_COUNT]!;
    const nr = sourceCount - from;
    for (let i = 0; i < nr; i++) {
      const sourceLow = source * INNER_BOUNDS + from + i;
      const targetLow = target * INNER_BOUNDS + targetCount + i;
      innerBounds[targetLow] = innerBounds[sourceLow]!;
      innerBounds[targetLow + INNER_HIGHS] = innerBounds[sourceLow + INNER_HIGHS]!;
      innerBounds[targetLow + INNER_GAPS] = innerBounds[sourceLow + INNER_GAPS]!;
      innerBounds[sourceLow + INNER_HIGHS] = Infinity;
      innerKids[target * INNER_KIDS + targetCount + i] = innerKids[source * INNER_KIDS + from + i]!;
    }
    innerKids[source * INNER_KIDS + INNER_COUNT] = from;
    innerKids[target * INNER_KIDS + INNER_COUNT] = targetCount + nr;
  }

  /** Returns the widest gap between two neighbouring ranges of a leaf, 0 where there is none. */
  leafGap(leaf: number): number {
    const { leafBounds } = this;
    const starts = leaf * LEAF_BOUNDS;
    const ends = starts + LEAF_ENDS;
    const count = this.leafLinks[leaf * LEAF_LINKS]!;
    let widest = 0;
    for (let i = 1; i < count; i++) {
      const gap = leafBounds[starts + i]! - leafBounds[ends + i - 1]!;
      if (gap > widest) widest = gap;
    }
    return widest;
  }

  /** Returns the widest gap between two neighbouring ranges below an inner node, from the summaries of its children. */
  innerGap(node: number): number {
    const { innerBounds } = this;
    const lows = node * INNER_BOUNDS;
    const highs = lows + INNER_HIGHS;
    const gaps = lows + INNER_GAPS;
    const count = this.innerKids[node * INNER_KIDS + INNER_COUNT]!;
    let widest = innerBounds[gaps]!;
    for (let i = 1; i < count; i++) {
      const between = innerBounds[lows + i]! - innerBounds[highs + i - 1]!;
      if (between > widest) widest = between;
      const within = innerBounds[gaps + i]!;
      if (within > widest) widest = within;
    }
    return widest;
  }

  /** Drops all nodes and their memory. */
  protected dropNodes(): void {
    this.leafBounds = new Float64Array(LEAF_BOUNDS).fill(Infinity);
    this.leafLinks = new Int32Array(LEAF_LINKS);
    this.values = [];
    this.innerBounds = NO_BOUNDS;
    this.innerKids = NO_KIDS;
    this.freeLeaf = -1;
    this.freeInner = -1;
    this.nrLeaves = 0;
    this.nrInners = 0;
  }

  /** Makes this pool, which must be fresh, a copy of `source` but for the values, all undefined. */
  protected copyNodes(source: RangePool<unknown>): void {
    this.leafBounds = source.leafBounds.slice();
    this.leafLinks = source.leafLinks.slice();
    this.values = new Array<T | undefined>(0);
    for (let i = 0; i < source.values.length; i++) this.values.push(undefined);
    this.innerBounds = source.innerBounds.slice();
    this.innerKids = source.innerKids.slice();
    this.freeLeaf = source.freeLeaf;
    this.freeInner = source.freeInner;
    this.nrLeaves = source.nrLeaves;
    this.nrInners = source.nrInners;
  }
}
