import { bugOn } from './assert.ts';
import {
  INNER_BOUNDS, INNER_COUNT, INNER_FANOUT, INNER_GAPS, INNER_HIGHS, INNER_KIDS,
  LEAF_BOUNDS, LEAF_ENDS, LEAF_FANOUT, LEAF_LINKS, LEAF_NEXT, LEAF_PREV, LEAF_SHIFT,
} from './range-pool.ts';
import type { RangeTree } from './range-tree.ts';

/**
 * Walks a whole tree and checks order, summaries, padding and the chain of leaves; returns how many ranges it met and
 * where the last ends.
 *
 * @throws KernelBug at the first invariant that does not hold
 */
export function validateRangeTree(tree: RangeTree<unknown>): { readonly ranges: number; readonly top: number } {
  let ranges = 0;
  let top = -Infinity;
  let lastLeaf = -1;

  function leafGap(leaf: number): number {
    const starts = leaf * LEAF_BOUNDS;
    const links = leaf * LEAF_LINKS;
    const count = tree.leafLinks[links]!;
    bugOn(count < 0 || count > LEAF_FANOUT || (count === 0 && tree.height > 0), 'range tree: count of a leaf is wrong');
    bugOn(tree.leafLinks[links + LEAF_PREV] !== lastLeaf, 'range tree: chain of leaves is broken backward');
    if (lastLeaf >= 0) bugOn(tree.leafLinks[lastLeaf * LEAF_LINKS + LEAF_NEXT] !== leaf, 'range tree: chain of leaves is broken');
    lastLeaf = leaf;
    let gap = 0;
    for (let i = 0; i < LEAF_FANOUT; i++) {
      const start = tree.leafBounds[starts + i]!;
      const end = tree.leafBounds[starts + LEAF_ENDS + i]!;
      if (i >= count) {
        bugOn(end !== Infinity, 'range tree: free slot of a leaf is not padded');
        bugOn(tree.values[(leaf << LEAF_SHIFT) + i] !== undefined, 'range tree: free slot holds a value');
        continue;
      }
      bugOn(!(start < end), 'range tree: empty range');
      bugOn(start < top, 'range tree: ranges overlap or are out of order');
      if (i > 0) gap = Math.max(gap, start - top);
      top = end;
      ranges++;
    }
    return gap;
  }

  function innerGap(node: number, level: number): number {
    const lows = node * INNER_BOUNDS;
    const kids = node * INNER_KIDS;
    const count = tree.innerKids[kids + INNER_COUNT]!;
    bugOn(count < (level === tree.height ? 2 : 1) || count > INNER_FANOUT, 'range tree: count of a node is wrong');
    let gap = 0;
    for (let i = 0; i < INNER_FANOUT; i++) {
      if (i >= count) {
        bugOn(tree.innerBounds[lows + INNER_HIGHS + i] !== Infinity, 'range tree: free slot of a node is not padded');
        continue;
      }
      const below = top;
      const within = gapBelow(tree.innerKids[kids + i]!, level - 1);
      bugOn(tree.innerBounds[lows + INNER_HIGHS + i] !== top, 'range tree: end of a child is wrong');
      bugOn(tree.innerBounds[lows + INNER_GAPS + i] !== within, 'range tree: widest gap of a child is wrong');
      bugOn(tree.innerBounds[lows + i] !== lowOf(tree.innerKids[kids + i]!, level - 1), 'range tree: start of a child is wrong');
      if (i > 0) gap = Math.max(gap, tree.innerBounds[lows + i]! - below);
      gap = Math.max(gap, within);
    }
    return gap;
  }

  function gapBelow(node: number, level: number): number {
    return level === 0 ? leafGap(node) : innerGap(node, level);
  }

  function lowOf(node: number, level: number): number {
    return level === 0 ? tree.leafBounds[node * LEAF_BOUNDS]! : tree.innerBounds[node * INNER_BOUNDS]!;
  }

  gapBelow(tree.root, tree.height);
  bugOn(tree.leafLinks[lastLeaf * LEAF_LINKS + LEAF_NEXT] !== -1, 'range tree: chain of leaves goes on behind the last');
  return { ranges, top };
}
