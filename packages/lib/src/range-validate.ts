import { bugOn } from './assert.ts';
import {
  INNER_MAX, INNER_SHIFT, INNER_SLOTS, LEAF_FLOOR, LEAF_LINKS, LEAF_MAX, LEAF_NEXT, LEAF_PREV, LEAF_SHIFT,
} from './range-pool.ts';
import type { RangeTree } from './range-tree.ts';

/** What a walk over a range tree met. */
interface RangeCensus {
  ranges: number;
  leaves: number;
  inners: number;
  /** End of the last range; -Infinity in an empty tree. */
  top: number;
}

/**
 * Walks a whole tree and checks order, summaries, padding and the chain of leaves; returns what it met.
 *
 * @throws KernelBug at the first invariant that does not hold
 */
export function validateRangeTree(tree: RangeTree<unknown>): RangeCensus {
  const census: RangeCensus = { ranges: 0, leaves: 0, inners: 0, top: -Infinity };
  let lastLeaf = -1;

  function nextOf(leaf: number): number {
    return tree.leafLinks[leaf * LEAF_LINKS + LEAF_NEXT];
  }

  /** Checks a leaf and returns its widest gap. */
  function leafGap(leaf: number): number {
    const base = leaf << LEAF_SHIFT;
    const links = leaf * LEAF_LINKS;
    const count = tree.leafLinks[links];
    bugOn(count < 0 || count > LEAF_MAX || (count === 0 && tree.height > 0), 'range tree: count of a leaf is wrong');
    bugOn(tree.leafLinks[links + LEAF_PREV] !== lastLeaf, 'range tree: chain of leaves is broken backward');
    bugOn(lastLeaf >= 0 && nextOf(lastLeaf) !== leaf, 'range tree: chain of leaves is broken');
    lastLeaf = leaf;
    census.leaves++;
    let gap = 0;
    bugOn(tree.leafEnds[base + LEAF_FLOOR] !== census.top, 'range tree: floor of a leaf is wrong');
    for (let slot = base; slot < base + LEAF_MAX; slot++) {
      const start = tree.leafStarts[slot];
      const end = tree.leafEnds[slot];
      if (slot >= base + count) {
        bugOn(end !== Infinity, 'range tree: free slot of a leaf is not padded');
        bugOn(tree.values[slot] !== undefined, 'range tree: free slot holds a value');
        continue;
      }
      bugOn(!(start < end), 'range tree: empty range');
      bugOn(start < census.top, 'range tree: ranges overlap or are out of order');
      if (slot > base) gap = Math.max(gap, start - census.top);
      census.top = end;
      census.ranges++;
    }
    return gap;
  }

  /** Checks an inner node and all below and returns the widest gap there. */
  function innerGap(node: number, level: number): number {
    const base = node << INNER_SHIFT;
    const count = tree.innerCounts[node];
    bugOn(count < (level === tree.height ? 2 : 1) || count > INNER_MAX, 'range tree: count of a node is wrong');
    census.inners++;
    let gap = 0;
    for (let slot = base; slot < base + INNER_SLOTS; slot++) {
      if (slot >= base + count) {
        bugOn(tree.innerHighs[slot] !== Infinity, 'range tree: free slot of a node is not padded');
        continue;
      }
      const below = census.top;
      const child = tree.innerKids[slot];
      const within = level === 1 ? leafGap(child) : innerGap(child, level - 1);
      const low = level === 1 ? tree.leafStarts[child << LEAF_SHIFT] : tree.innerLows[child << INNER_SHIFT];
      bugOn(tree.innerLows[slot] !== low, 'range tree: start of a child is wrong');
      bugOn(tree.innerHighs[slot] !== census.top, 'range tree: end of a child is wrong');
      bugOn(tree.innerGaps[slot] !== within, 'range tree: widest gap of a child is wrong');
      if (slot > base) gap = Math.max(gap, tree.innerLows[slot] - below);
      gap = Math.max(gap, within);
    }
    return gap;
  }

  if (tree.height === 0) leafGap(tree.root);
  else innerGap(tree.root, tree.height);
  bugOn(nextOf(lastLeaf) !== -1, 'range tree: chain of leaves goes on behind the last');
  return census;
}
