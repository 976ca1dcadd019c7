import { INNER_SHIFT, LEAF_LINKS, LEAF_SHIFT } from './range-pool.ts';
import type { RangeTree } from './range-tree.ts';

/*
 * A search goes down into a child only where the summary says that a gap of the length asked for is within. That gap
 * may still lie outside [low, high), but only in the one child that `high` cuts and the one that `low` cuts: so a
 * search goes down in vain at most twice a level.
 */

type Ranges = RangeTree<unknown>;

/** No start at all; -1 may be one, in a tree of negative numbers. */
const NOT_FOUND = Infinity;

/** Returns the highest start in [low, high - length] of a hole of `length`, -1 where there is none. */
export function findGapBelow(tree: Ranges, low: number, high: number, length: number): number {
  if (high - low < length) return -1;
  const last = tree.lastPosition();
  if (last < 0 || high - Math.max(tree.leafEnds[last], low) >= length) return high - length;
  const found = below(tree, tree.root, tree.height, low, high, length);
  if (found !== NOT_FOUND) return found;
  const top = Math.min(firstStart(tree), high);
  return top - low >= length ? top - length : -1;
}

/** Returns the lowest start in [low, high - length] of a hole of `length`, -1 where there is none. */
export function findGapAbove(tree: Ranges, low: number, high: number, length: number): number {
  if (high - low < length) return -1;
  const last = tree.lastPosition();
  if (last < 0 || Math.min(firstStart(tree), high) - low >= length) return low;
  const found = above(tree, tree.root, tree.height, low, high, length);
  if (found !== NOT_FOUND) return found;
  const bottom = Math.max(tree.leafEnds[last], low);
  return high - bottom >= length ? bottom : -1;
}

function firstStart(tree: Ranges): number {
  return tree.height === 0 ? tree.leafStarts[tree.root << LEAF_SHIFT] : tree.innerLows[tree.root << INNER_SHIFT];
}

/** Searches the gaps between the ranges below a node of level `level`, highest first. */
function below(tree: Ranges, node: number, level: number, low: number, high: number, length: number): number {
  if (level === 0) {
    const { leafStarts, leafEnds } = tree;
    const base = node << LEAF_SHIFT;
    for (let slot = base + tree.leafLinks[node * LEAF_LINKS] - 1; slot > base; slot--) {
      const bottom = Math.max(leafEnds[slot - 1], low);
      const top = Math.min(leafStarts[slot], high);
      if (top - bottom >= length) return top - length;
      if (top <= low) break;
    }
    return NOT_FOUND;
  }
  const { innerLows, innerHighs, innerGaps } = tree;
  const base = node << INNER_SHIFT;
  for (let slot = base + tree.innerCounts[node] - 1; slot >= base; slot--) {
    const childLow = innerLows[slot];
    if (childLow < high && innerGaps[slot] >= length) {
      const found = below(tree, tree.innerKids[slot], level - 1, low, high, length);
      if (found !== NOT_FOUND) return found;
    }
    if (childLow <= low || slot === base) break;
    const bottom = Math.max(innerHighs[slot - 1], low);
    const top = Math.min(childLow, high);
    if (top - bottom >= length) return top - length;
  }
  return NOT_FOUND;
}

/** Searches the gaps between the ranges below a node of level `level`, lowest first. */
function above(tree: Ranges, node: number, level: number, low: number, high: number, length: number): number {
  if (level === 0) {
    const { leafStarts, leafEnds } = tree;
    const base = node << LEAF_SHIFT;
    const last = base + tree.leafLinks[node * LEAF_LINKS] - 1;
    for (let slot = base; slot < last; slot++) {
      const bottom = Math.max(leafEnds[slot], low);
      const top = Math.min(leafStarts[slot + 1], high);
      if (top - bottom >= length) return bottom;
      if (bottom >= high) break;
    }
    return NOT_FOUND;
  }
  const { innerLows, innerHighs, innerGaps } = tree;
  const base = node << INNER_SHIFT;
  const last = base + tree.innerCounts[node] - 1;
  for (let slot = base; slot <= last; slot++) {
    const childHigh = innerHighs[slot];
    if (childHigh > low && innerGaps[slot] >= length) {
      const found = above(tree, tree.innerKids[slot], level - 1, low, high, length);
      if (found !== NOT_FOUND) return found;
    }
    if (childHigh >= high || slot === last) break;
    const bottom = Math.max(childHigh, low);
    const top = Math.min(innerLows[slot + 1], high);
    if (top - bottom >= length) return bottom;
  }
  return NOT_FOUND;
}
