import {
  INNER_BOUNDS, INNER_COUNT, INNER_GAPS, INNER_HIGHS, INNER_KIDS, LEAF_BOUNDS, LEAF_ENDS, LEAF_LINKS,
} from './range-pool.ts';
import type { RangeTree } from './range-tree.ts';

/*
 * A search goes down into a child only where the summary says that a gap of the length asked for is within. That gap
 * may still lie outside [low, high), but only in the one child that `high` cuts and the one that `low` cuts: so a search
 * goes down in vain at most twice a level.
 */

/** Returns the highest start in [low, high - length] of a hole of `length`, -1 where there is none. */
export function findGapBelow(tree: RangeTree<unknown>, low: number, high: number, length: number): number {
  if (high - low < length) return -1;
  if (tree.size === 0) return high - length;
  const first = firstStart(tree);
  const last = lastEnd(tree);
  if (high - Math.max(last, low) >= length) return high - length;
  const found = below(tree, tree.root, tree.height, low, high, length);
  if (found !== NOT_FOUND) return found;
  const top = Math.min(first, high);
  return top - low >= length ? top - length : -1;
}

/** Returns the lowest start in [low, high - length] of a hole of `length`, -1 where there is none. */
export function findGapAbove(tree: RangeTree<unknown>, low: number, high: number, length: number): number {
  if (high - low < length) return -1;
  if (tree.size === 0) return low;
  if (Math.min(firstStart(tree), high) - low >= length) return low;
  const found = above(tree, tree.root, tree.height, low, high, length);
  if (found !== NOT_FOUND) return found;
  const bottom = Math.max(lastEnd(tree), low);
  return high - bottom >= length ? bottom : -1;
}

/** No start at all: -1 itself may be one, in a tree of negative numbers. */
const NOT_FOUND = Infinity;

function firstStart(tree: RangeTree<unknown>): number {
  return tree.height === 0 ? tree.leafBounds[tree.root * LEAF_BOUNDS]! : tree.innerBounds[tree.root * INNER_BOUNDS]!;
}

function lastEnd(tree: RangeTree<unknown>): number {
  const { root } = tree;
  if (tree.height === 0) return tree.leafBounds[root * LEAF_BOUNDS + LEAF_ENDS + tree.leafLinks[root * LEAF_LINKS]! - 1]!;
  return tree.innerBounds[root * INNER_BOUNDS + INNER_HIGHS + tree.innerKids[root * INNER_KIDS + INNER_COUNT]! - 1]!;
}

/** Searches the gaps between the ranges below a node of level `level`, highest first. */
function below(tree: RangeTree<unknown>, node: number, level: number, low: number, high: number, length: number): number {
  if (level === 0) {
    const bounds = tree.leafBounds;
    const starts = node * LEAF_BOUNDS;
    const ends = starts + LEAF_ENDS;
    for (let i = tree.leafLinks[node * LEAF_LINKS]! - 1; i > 0; i--) {
      const bottom = Math.max(bounds[ends + i - 1]!, low);
      const top = Math.min(bounds[starts + i]!, high);
      if (top - bottom >= length) return top - length;
      if (top <= low) break;
    }
    return NOT_FOUND;
  }
  const bounds = tree.innerBounds;
  const lows = node * INNER_BOUNDS;
  const highs = lows + INNER_HIGHS;
  const gaps = lows + INNER_GAPS;
  for (let i = tree.innerKids[node * INNER_KIDS + INNER_COUNT]! - 1; i >= 0; i--) {
    const childLow = bounds[lows + i]!;
    if (childLow < high && bounds[gaps + i]! >= length) {
      const found = below(tree, tree.innerKids[node * INNER_KIDS + i]!, level - 1, low, high, length);
      if (found !== NOT_FOUND) return found;
    }
    if (childLow <= low || i === 0) break;
    const bottom = Math.max(bounds[highs + i - 1]!, low);
    const top = Math.min(childLow, high);
    if (top - bottom >= length) return top - length;
  }
  return NOT_FOUND;
}

/** Searches the gaps between the ranges below a node of level `level`, lowest first. */
function above(tree: RangeTree<unknown>, node: number, level: number, low: number, high: number, length: number): number {
  if (level === 0) {
    const bounds = tree.leafBounds;
    const starts = node * LEAF_BOUNDS;
    const ends = starts + LEAF_ENDS;
    const count = tree.leafLinks[node * LEAF_LINKS]!;
    for (let i = 1; i < count; i++) {
      const bottom = Math.max(bounds[ends + i - 1]!, low);
      const top = Math.min(bounds[starts + i]!, high);
      if (top - bottom >= length) return bottom;
      if (bottom >= high) break;
    }
    return NOT_FOUND;
  }
  const bounds = tree.innerBounds;
  const lows = node * INNER_BOUNDS;
  const highs = lows + INNER_HIGHS;
  const gaps = lows + INNER_GAPS;
  const count = tree.innerKids[node * INNER_KIDS + INNER_COUNT]!;
  for (let i = 0; i < count; i++) {
    const childHigh = bounds[highs + i]!;
    if (childHigh > low && bounds[gaps + i]! >= length) {
      const found = above(tree, tree.innerKids[node * INNER_KIDS + i]!, level - 1, low, high, length);
      if (found !== NOT_FOUND) return found;
    }
    if (childHigh >= high || i === count - 1) break;
    const bottom = Math.max(childHigh, low);
    const top = Math.min(bounds[lows + i + 1]!, high);
    if (top - bottom >= length) return bottom;
  }
  return NOT_FOUND;
}
