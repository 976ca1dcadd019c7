import {
  INNER_SHIFT, LEAF_LINKS, LEAF_MASK, LEAF_NEXT, LEAF_PREV, LEAF_SHIFT, RangePool, firstAboveInLeaf, firstAboveInNode,
} from './range-pool.ts';

/** Trees from this height on keep hints: below it, going down is as fast as a hint. */
const HINT_HEIGHT = 3;
const HINTS_PER_LEAF = 4;
/** One hint, at the first leaf there is: right or wrong, that shows. */
const NO_HINTS = new Int32Array(1);

/**
 * Finding places in a range tree. A position is a slot of a leaf, -1 is none; it holds until the tree changes.
 */
export class RangeLookup<T> extends RangePool<T> {
  /** The leaf or inner node at the top. */
  root = this.allocLeaf();
  /** Levels of inner nodes; 0 where the root is a leaf. */
  height = 0;
  /** End of the last range; -Infinity in an empty tree. */
  protected top = -Infinity;
  protected nrRanges = 0;
  /**
   * Leaf where the last address of each stretch of 1 / hintScale was found. Only a guess: the leaf shows if it is
   * right.
   */
  private hints: Int32Array = NO_HINTS;
  private hintScale = 0;

  /** Returns the position of the first range that ends above `addr`, -1 where there is none. */
  locate(addr: number): number {
    if (addr >= this.top) return -1;
    if (this.height < HINT_HEIGHT) return this.locateFromRoot(addr);
    const { hints, leafEnds } = this;
    // The low bits of the number of the stretch are its place among the hints.
    const leaf = hints[(addr * this.hintScale) & (hints.length - 1)];
    const base = leaf << LEAF_SHIFT;
    const position = firstAboveInLeaf(leafEnds, base, addr);
    // It is right where a range of this leaf ends at or before `addr`, or starts there, and another ends above.
    if (leafEnds[position] !== Infinity && (position > base || this.leafStarts[base] <= addr)) return position;
    return this.locateBeside(leaf, addr);
  }

  /** Returns the position of the last range that starts below `addr`, -1 where there is none. */
  locateBefore(addr: number): number {
    const position = this.locate(addr);
    if (position < 0) return this.lastPosition();
    return this.leafStarts[position] < addr ? position : this.before(position);
  }

  /** Returns the position of the last range, -1 in an empty tree. */
  lastPosition(): number {
    if (this.nrRanges === 0) return -1;
    let node = this.root;
    for (let level = this.height; level > 0; level--) {
      node = this.innerKids[(node << INNER_SHIFT) + this.innerCounts[node] - 1]!;
    }
    return (node << LEAF_SHIFT) + this.leafLinks[node * LEAF_LINKS] - 1;
  }

  /** Returns the value of the range at a position, undefined for position -1. */
  valueAt(position: number): T | undefined {
    return position < 0 ? undefined : this.values[position];
  }

  /** Returns the position behind a position, -1 behind the last. */
  after(position: number): number {
    const links = (position >>> LEAF_SHIFT) * LEAF_LINKS;
    if ((position & LEAF_MASK) + 1 < this.leafLinks[links]) return position + 1;
    const leaf = this.leafLinks[links + LEAF_NEXT];
    return leaf < 0 ? -1 : leaf << LEAF_SHIFT;
  }

  /** Returns the position before a position, -1 before the first. */
  before(position: number): number {
    if ((position & LEAF_MASK) > 0) return position - 1;
    const leaf = this.leafLinks[(position >>> LEAF_SHIFT) * LEAF_LINKS + LEAF_PREV];
    return leaf < 0 ? -1 : (leaf << LEAF_SHIFT) + this.leafLinks[leaf * LEAF_LINKS] - 1;
  }

  /** Forgets all hints and drops their memory. */
  protected dropHints(): void {
    this.hints = NO_HINTS;
  }

  /** Goes down to the first range that ends above `addr`, which is below `top`. */
  private locateFromRoot(addr: number): number {
    const { innerHighs, innerKids } = this;
    let node = this.root;
    for (let level = this.height; level > 0; level--) {
      node = innerKids[firstAboveInNode(innerHighs, node << INNER_SHIFT, addr)]!;
    }
    return firstAboveInLeaf(this.leafEnds, node << LEAF_SHIFT, addr);
  }

  /**
   * As `locateFromRoot`, where the hint was `leaf` and did not show that it is right: looks at the leaves beside it,
   * since a stretch may reach over two or lie before the first range of one, and else goes down and remembers the leaf.
   */
  private locateBeside(leaf: number, addr: number): number {
    const { leafEnds, leafLinks } = this;
    const base = leaf << LEAF_SHIFT;
    const links = leaf * LEAF_LINKS;
    const count = leafLinks[links];
    if (count > 0 && leafEnds[base + count - 1] > addr) {
      const before = leafLinks[links + LEAF_PREV];
      if (before < 0 || leafEnds[(before << LEAF_SHIFT) + leafLinks[before * LEAF_LINKS] - 1] <= addr) return base;
    } else if (count > 0) {
      const behind = leafLinks[links + LEAF_NEXT];
      const position = firstAboveInLeaf(leafEnds, behind << LEAF_SHIFT, addr);
      if (leafEnds[position] !== Infinity) return position;
    }
    const position = this.locateFromRoot(addr);
    if (this.hints.length < this.nrLeaves * HINTS_PER_LEAF) this.growHints();
    this.hints[(addr * this.hintScale) & (this.hints.length - 1)] = position >>> LEAF_SHIFT;
    return position;
  }

  /** Makes room for hints, each for a stretch of about the HINTS_PER_LEAF-th part of the median leaf. */
  private growHints(): void {
    const spans: number[] = [];
    const step = Math.max(1, Math.floor(this.nrLeaves / 63));
    for (let leaf = 0; leaf < this.nrLeaves; leaf += step) {
      const base = leaf << LEAF_SHIFT;
      const count = this.leafLinks[leaf * LEAF_LINKS];
      if (this.leafEnds[base] !== Infinity) spans.push(this.leafEnds[base + count - 1] - this.leafStarts[base]);
    }
    spans.sort((a, b) => a - b);
    const span = spans[spans.length >> 1] ?? 1;
    this.hintScale = 2 ** Math.ceil(Math.log2(HINTS_PER_LEAF / span));
    this.hints = new Int32Array(2 ** Math.ceil(Math.log2(this.nrLeaves * HINTS_PER_LEAF + 1)));
  }
}
