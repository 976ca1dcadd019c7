import {
  INNER_SHIFT, LEAF_FLOOR, LEAF_LINKS, LEAF_MASK, LEAF_NEXT, LEAF_PREV, LEAF_SHIFT, RangePool,
  firstAboveInLeaf, firstAboveInNode, isRightLeaf,
} from './range-pool.ts';

/** Trees from this height on keep hints: below it, going down is as fast as a hint. */
const HINT_HEIGHT = 3;
const HINTS_PER_LEAF = 4;
/** Stretches of a single leaf that are given a hint before they are asked for: it may span the whole address space. */
const MAX_STRETCHES = 64;
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
    if (this.height < HINT_HEIGHT) return addr < this.top ? this.locateFromRoot(addr) : -1;
    const { hints, leafEnds } = this;
    // The low bits of the number of the stretch are its place among the hints.
    const base = hints[Math.floor(addr * this.hintScale) & (hints.length - 1)] << LEAF_SHIFT;
    const position = firstAboveInLeaf(leafEnds, base, addr);
    return isRightLeaf(leafEnds, base, position, addr) ? position : this.locateBehind(base, addr);
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
   * As `locate`, where the hint at the leaf at `base` was wrong: looks in the leaf behind, since a stretch may reach over
   * two, and else goes down and remembers the leaf.
   */
  private locateBehind(base: number, addr: number): number {
    if (addr >= this.top) return -1;
    const behind = this.leafLinks[(base >>> LEAF_SHIFT) * LEAF_LINKS + LEAF_NEXT] << LEAF_SHIFT;
    if (behind >= 0) {
      const position = firstAboveInLeaf(this.leafEnds, behind, addr);
      if (isRightLeaf(this.leafEnds, behind, position, addr)) return position;
    }
    const position = this.locateFromRoot(addr);
    if (this.hints.length < this.nrLeaves * HINTS_PER_LEAF) this.growHints();
    this.hints[Math.floor(addr * this.hintScale) & (this.hints.length - 1)] = position >>> LEAF_SHIFT;
    return position;
  }

  /**
   * Makes room for hints, each for a stretch of between an eighth and a quarter of the median leaf, and gives each leaf
   * its own. Costs a pass over the leaves, each time their number has about doubled.
   */
  private growHints(): void {
    const { leafStarts, leafEnds, leafLinks, nrLeaves } = this;
    const spans: number[] = [];
    const step = Math.max(1, Math.floor(nrLeaves / 63));
    for (let leaf = 0; leaf < nrLeaves; leaf += step) {
      const count = leafLinks[leaf * LEAF_LINKS];
      const base = leaf << LEAF_SHIFT;
      if (count > 0) spans.push(leafEnds[base + count - 1] - leafStarts[base]);
    }
    spans.sort((a, b) => a - b);
    const span = spans[spans.length >> 1] ?? 1;
    const scale = 2 ** Math.ceil(Math.log2(HINTS_PER_LEAF / span));
    const hints = new Int32Array(2 ** Math.ceil(Math.log2(nrLeaves * Math.max(HINTS_PER_LEAF, span * scale))));
    for (let leaf = 0; leaf < nrLeaves; leaf++) {
      const count = leafLinks[leaf * LEAF_LINKS];
      if (count === 0) continue;
      const base = leaf << LEAF_SHIFT;
      // A stretch that begins in the leaf before is left to it: from there one looks behind.
      const first = Math.floor(leafEnds[base + LEAF_FLOOR] * scale) + 1;
      const last = Math.floor(leafEnds[base + count - 1] * scale);
      for (let stretch = Math.max(first, last - MAX_STRETCHES); stretch <= last; stretch++) {
        hints[stretch & (hints.length - 1)] = leaf;
      }
    }
    this.hints = hints;
    this.hintScale = scale;
  }
}
