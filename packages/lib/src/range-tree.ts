import { bugOn } from './assert.ts';
import { RangeCursor } from './range-cursor.ts';
import { findGapAbove, findGapBelow } from './range-gap.ts';
import { RangeLookup } from './range-lookup.ts';
import {
  INNER_MAX, INNER_SHIFT, INNER_SLOTS, LEAF_LINKS, LEAF_MASK, LEAF_MAX, LEAF_SHIFT, LEAF_SLOTS, MAX_LEVELS,
  firstAboveInLeaf, firstAboveInNode, isRightLeaf,
} from './range-pool.ts';
import { validateRangeTree } from './range-validate.ts';

/** Nodes that hold no more than these are joined with a neighbour that has room. */
const LEAF_FEW = LEAF_SLOTS / 4;
const INNER_FEW = INNER_SLOTS / 4;

/**
 * Ranges of numbers that do not overlap, each with a value: what Linux's maple tree does for an address space.
 *
 * A range is [start, end) with start < end; both are any integers that a double holds, below zero too. The tree keeps
 * the bounds itself. It is a B-tree whose inner nodes know of each child where its ranges begin and end and how wide
 * the widest gap in it is, so that each operation costs O(log n).
 *
 * @linux include/linux/maple_tree.h:maple_tree
 */
export class RangeTree<T> extends RangeLookup<T> {
  /** The way down of the last `descend`: node and slot by level; level 1 is the one above the leaves. */
  private readonly pathNode = new Int32Array(MAX_LEVELS);
  private readonly pathSlot = new Int32Array(MAX_LEVELS);
  /** The leaf at the end of that way, -1 once nodes moved. */
  private pathLeaf = -1;

  /** Ranges held. */
  get size(): number {
    return this.nrRanges;
  }

  /**
   * Returns the value of the first range that ends above `addr`, whether it contains `addr` or lies behind it.
   *
   * @linux mm/mmap.c:find_vma
   */
  find(addr: number): T | undefined {
    const position = this.locate(addr);
    return position < 0 ? undefined : this.values[position];
  }

  /** Returns the value of the range that contains `addr`. @linux include/linux/mm.h:vma_lookup */
  get(addr: number): T | undefined {
    const position = this.locate(addr);
    if (position < 0 || this.leafStarts[position] > addr) return undefined;
    return this.values[position];
  }

  /** Returns the value of the last range that starts below `addr`. */
  prev(addr: number): T | undefined {
    return this.valueAt(this.locateBefore(addr));
  }

  /** Returns the value of the first range that starts above `addr`. */
  next(addr: number): T | undefined {
    const position = this.locate(addr);
    if (position < 0 || this.leafStarts[position] > addr) return this.valueAt(position);
    return this.valueAt(this.after(position));
  }

  /** Returns the value of the first range. */
  first(): T | undefined {
    return this.valueAt(this.locate(-Infinity));
  }

  /** Returns the value of the last range. */
  last(): T | undefined {
    return this.valueAt(this.lastPosition());
  }

  /** Tells whether a range has a number in common with [start, end). */
  overlaps(start: number, end: number): boolean {
    const position = this.locate(start);
    return position >= 0 && this.leafStarts[position] < end;
  }

  /**
   * Adds a range.
   *
   * @throws KernelBug when it is empty, not finite, or overlaps another
   * @linux lib/maple_tree.c:mas_store_prealloc
   */
  insert(start: number, end: number, value: T): void {
    bugOn(!(start < end && start > -Infinity && end < Infinity), 'range tree: empty range');
    const leaf = this.descend(start);
    const base = leaf << LEAF_SHIFT;
    const count = this.leafLinks[leaf * LEAF_LINKS];
    const at = firstAboveInLeaf(this.leafEnds, base, start);
    const index = at - base;
    bugOn(index < count && this.leafStarts[at] < end, 'range tree: ranges overlap');
    this.nrRanges++;
    if (end > this.top) this.top = end;
    if (count === LEAF_MAX) {
      this.split(leaf, index, start, end, value);
      return;
    }
    if (this.height === 0) {
      this.leafInsert(leaf, index, start, end, value);
      return;
    }
    const gapBefore = index > 0 ? start - this.leafEnds[at - 1] : 0;
    const gapBehind = index < count ? this.leafStarts[at] - end : 0;
    const oldGap = index > 0 && index < count ? this.leafStarts[at] - this.leafEnds[at - 1] : 0;
    this.leafInsert(leaf, index, start, end, value);
    this.leafChanged(leaf, oldGap, Math.max(gapBefore, gapBehind));
  }

  /** Takes away the range that starts at `start` and returns its value. @throws KernelBug where no range does */
  remove(start: number): T {
    const leaf = this.descend(start);
    const position = this.positionIn(leaf, start);
    const value = this.values[position] as T;
    const index = position & LEAF_MASK;
    const count = this.leafLinks[leaf * LEAF_LINKS];
    this.nrRanges--;
    if (this.height === 0 || count <= LEAF_FEW + 1) {
      this.leafDelete(leaf, index, 1);
      this.shrunk(leaf);
      return value;
    }
    const end = this.leafEnds[position];
    const gapBefore = index > 0 ? start - this.leafEnds[position - 1] : 0;
    const gapBehind = index + 1 < count ? this.leafStarts[position + 1] - end : 0;
    const newGap = index > 0 && index + 1 < count ? this.leafStarts[position + 1] - this.leafEnds[position - 1] : 0;
    this.leafDelete(leaf, index, 1);
    if (end === this.top) this.top = this.leafEnds[position - 1]!;
    this.leafChanged(leaf, Math.max(gapBefore, gapBehind), newGap);
    return value;
  }

  /**
   * Takes away every range in [start, end), calling `onRemove` for each in ascending order, and returns how many there
   * were. Costs O(log n) for each leaf they fill. `onRemove` must not change the tree.
   *
   * @throws KernelBug where a range is only partly in [start, end)
   */
  removeRange(start: number, end: number, onRemove?: (value: T, start: number, end: number) => void): number {
    let removed = 0;
    while (start < this.top) {
      const leaf = this.descend(start);
      const { leafStarts, leafEnds, values } = this;
      const first = firstAboveInLeaf(leafEnds, leaf << LEAF_SHIFT, start);
      const behind = (leaf << LEAF_SHIFT) + this.leafLinks[leaf * LEAF_LINKS];
      let position = first;
      for (; position < behind && leafStarts[position] < end; position++) {
        bugOn(leafStarts[position] < start, 'range tree: range begins before those to remove');
        bugOn(leafEnds[position] > end, 'range tree: range goes on behind those to remove');
        onRemove?.(values[position] as T, leafStarts[position], leafEnds[position]);
      }
      if (position === first) break;
      this.leafDelete(leaf, first & LEAF_MASK, position - first);
      this.nrRanges -= position - first;
      removed += position - first;
      this.shrunk(leaf);
    }
    return removed;
  }

  /**
   * Gives the range that starts at `oldStart` new bounds that overlap no other. It keeps its place among them.
   *
   * @throws KernelBug where no range starts at `oldStart`, or the new bounds are empty or reach over a neighbour
   * @linux mm/vma.c:vma_expand
   */
  resize(oldStart: number, newStart: number, newEnd: number): void {
    bugOn(!(newStart < newEnd && newStart > -Infinity && newEnd < Infinity), 'range tree: empty range');
    const leaf = this.descend(oldStart);
    const { leafStarts, leafEnds } = this;
    const position = this.positionIn(leaf, oldStart);
    const before = this.before(position);
    const after = this.after(position);
    bugOn(before >= 0 && leafEnds[before] > newStart, 'range tree: resized over the range before');
    bugOn(after >= 0 && leafStarts[after] < newEnd, 'range tree: resized over the range behind');
    const oldEnd = leafEnds[position];
    leafStarts[position] = newStart;
    leafEnds[position] = newEnd;
    if (after < 0) this.top = newEnd;
    if (this.height === 0) return;
    // Only gaps between two ranges of the same leaf count for it.
    const endBefore = before >= 0 && before === position - 1 ? leafEnds[before] : Infinity;
    const startAfter = after === position + 1 ? leafStarts[after] : -Infinity;
    this.leafChanged(
      leaf,
      Math.max(oldStart - endBefore, startAfter - oldEnd),
      Math.max(newStart - endBefore, startAfter - newEnd),
    );
  }

  /**
   * Cuts the range that starts at `start` in two at `at`, without a gap between them.
   *
   * @throws KernelBug where no range starts at `start`, or `at` does not lie inside it
   * @linux mm/vma.c:__split_vma
   */
  cut(start: number, at: number, below: T, above: T): void {
    const leaf = this.descend(start);
    const { leafStarts, leafEnds } = this;
    const position = this.positionIn(leaf, start);
    const end = leafEnds[position];
    bugOn(!(start < at && at < end), 'range tree: cut outside of the range');
    this.values[position] = below;
    if (this.leafLinks[leaf * LEAF_LINKS] === LEAF_MAX) {
      this.resize(start, start, at);
      this.insert(at, end, above);
      return;
    }
    // No gap comes or goes, and what the leaf spans stays: nothing above it changes.
    this.leafOpen(leaf, (position & LEAF_MASK) + 1, 1);
    leafEnds[position] = at;
    leafStarts[position + 1] = at;
    leafEnds[position + 1] = end;
    this.values[position + 1] = above;
    this.nrRanges++;
  }

  /**
   * Cuts what lies below `from` and from `to` on off the range that starts at `start`: these become ranges of their own,
   * without a gap between them.
   *
   * @throws KernelBug where no range starts at `start`, or [from, to) does not lie inside it
   */
  cutMiddle(start: number, from: number, to: number, below: T, above: T): void {
    const leaf = this.descend(start);
    const { leafStarts, leafEnds, values } = this;
    const position = this.positionIn(leaf, start);
    const end = leafEnds[position];
    bugOn(!(start < from && from < to && to < end), 'range tree: cut outside of the range');
    if (this.leafLinks[leaf * LEAF_LINKS] > LEAF_MAX - 2) {
      this.resize(start, from, to);
      this.insert(start, from, below);
      this.insert(to, end, above);
      return;
    }
    this.leafOpen(leaf, (position & LEAF_MASK) + 1, 2);
    leafEnds[position] = from;
    leafStarts[position + 1] = from;
    leafEnds[position + 1] = to;
    leafStarts[position + 2] = to;
    leafEnds[position + 2] = end;
    values[position + 1] = values[position];
    values[position] = below;
    values[position + 2] = above;
    this.nrRanges += 2;
  }

  /**
   * Lets the range that starts at `start` take in the `nr` ranges behind it, between which there is no gap.
   *
   * @throws KernelBug where no range starts at `start`, or there is a gap
   */
  join(start: number, nr: number): void {
    const leaf = this.descend(start);
    const { leafStarts, leafEnds } = this;
    const first = this.positionIn(leaf, start);
    let last = first;
    for (let i = 0; i < nr; i++) {
      const after = this.after(last);
      bugOn(after < 0 || leafStarts[after] !== leafEnds[last], 'range tree: a gap between ranges to join');
      last = after;
    }
    const end = leafEnds[last];
    if (last === first + nr && (this.height === 0 || this.leafLinks[leaf * LEAF_LINKS] - nr > LEAF_FEW)) {
      leafEnds[first] = end;
      this.leafDelete(leaf, (first & LEAF_MASK) + 1, nr);
      this.nrRanges -= nr;
      return;
    }
    this.removeRange(leafEnds[first], end);
    this.resize(start, start, end);
  }

  /**
   * Gives the range that starts at `start` another value and returns the old one.
   *
   * @throws KernelBug where no range does
   */
  replace(start: number, value: T): T {
    const position = this.locate(start);
    bugOn(position < 0 || this.leafStarts[position] !== start, 'range tree: no range starts here');
    const old = this.values[position] as T;
    this.values[position] = value;
    return old;
  }

  /**
   * Calls `visit` for each range that has a number in [start, end), in ascending order. It must not change the tree.
   */
  forEachIn(start: number, end: number, visit: (value: T, start: number, end: number) => void): void {
    const { leafStarts, leafEnds, values } = this;
    for (let position = this.locate(start); position >= 0; position = this.after(position)) {
      if (leafStarts[position] >= end) return;
      visit(values[position] as T, leafStarts[position], leafEnds[position]);
    }
  }

  /** Calls `visit` for each range, in ascending order. It must not change the tree. */
  forEach(visit: (value: T, start: number, end: number) => void): void {
    this.forEachIn(-Infinity, Infinity, visit);
  }

  /** Yields the values in ascending order. The tree must not change meanwhile. */
  *[Symbol.iterator](): IterableIterator<T> {
    for (let position = this.locate(-Infinity); position >= 0; position = this.after(position)) {
      yield this.values[position] as T;
    }
  }

  /** Returns a cursor on the first range that ends above `addr`, the first of all unless told. */
  cursor(addr = -Infinity): RangeCursor<T> {
    const cursor = new RangeCursor<T>(this);
    cursor.seek(addr);
    return cursor;
  }

  /**
   * Returns the highest start, in [low, high - length], of `length` numbers that no range contains, -1 where there is
   * none; O(log n).
   *
   * @linux lib/maple_tree.c:mas_empty_area_rev
   */
  findGapTopDown(low: number, high: number, length: number): number {
    return findGapBelow(this, low, high, length);
  }

  /** As {@link findGapTopDown}, but the lowest start. @linux lib/maple_tree.c:mas_empty_area */
  findGapBottomUp(low: number, high: number, length: number): number {
    return findGapAbove(this, low, high, length);
  }

  /**
   * Returns a copy with the same ranges, whose values are what `mapValue` returns, called in ascending order. A range
   * for which it returns undefined is left out.
   *
   * @linux lib/maple_tree.c:__mt_dup
   */
  clone<U>(mapValue: (value: T, start: number, end: number) => U | undefined): RangeTree<U> {
    const copy = new RangeTree<U>();
    copy.copyNodes(this);
    copy.root = this.root;
    copy.height = this.height;
    copy.top = this.top;
    copy.nrRanges = this.nrRanges;
    const leftOut: number[] = [];
    for (let position = this.locate(-Infinity); position >= 0; position = this.after(position)) {
      const start = this.leafStarts[position];
      const value = mapValue(this.values[position] as T, start, this.leafEnds[position]);
      if (value === undefined) leftOut.push(start);
      else copy.values[position] = value;
    }
    for (const start of leftOut) copy.remove(start);
    return copy;
  }

  /** Takes away all ranges. */
  clear(): void {
    this.dropNodes();
    this.root = this.allocLeaf();
    this.height = 0;
    this.top = -Infinity;
    this.nrRanges = 0;
    this.pathLeaf = -1;
    this.dropHints();
  }

  /** Recomputes every invariant of the tree. @throws KernelBug at the first that does not hold */
  validate(): void {
    const { ranges, top, leaves, inners } = validateRangeTree(this);
    bugOn(ranges !== this.nrRanges, 'range tree: size is wrong');
    bugOn(top !== this.top, 'range tree: end of the last range is wrong');
    this.validateFree(leaves, inners);
  }

  /** Returns the leaf in which a range with this start belongs and records the way down to it. */
  private descend(start: number): number {
    if (this.height === 0) return this.root;
    const finger = this.pathLeaf << LEAF_SHIFT;
    if (finger >= 0) {
      const position = firstAboveInLeaf(this.leafEnds, finger, start);
      if (isRightLeaf(this.leafEnds, finger, position, start)) return this.pathLeaf;
    }
    const { innerHighs, innerKids, innerCounts, pathNode, pathSlot } = this;
    let node = this.root;
    for (let level = this.height; level > 0; level--) {
      const base = node << INNER_SHIFT;
      let slot = firstAboveInNode(innerHighs, base, start) - base;
      const count = innerCounts[node];
      if (slot >= count) slot = count - 1;
      pathNode[level] = node;
      pathSlot[level] = slot;
      node = innerKids[base + slot]!;
    }
    this.pathLeaf = node;
    return node;
  }

  /** Returns the position of the range in `leaf` that starts at `start`. */
  private positionIn(leaf: number, start: number): number {
    const position = firstAboveInLeaf(this.leafEnds, leaf << LEAF_SHIFT, start);
    const isThere = (position & LEAF_MASK) < this.leafLinks[leaf * LEAF_LINKS] && this.leafStarts[position] === start;
    bugOn(!isThere, 'range tree: no range starts here');
    return position;
  }

  /**
   * Adds a range to a full leaf. At either end of the leaf it gets a leaf of its own, so that growth in order fills
   * them.
   */
  private split(leaf: number, index: number, start: number, end: number, value: T): void {
    const fresh = this.allocLeaf();
    if (index === 0) {
      this.linkLeafBefore(leaf, fresh);
      this.leafInsert(fresh, 0, start, end, value);
    } else {
      this.linkLeafAfter(leaf, fresh);
      const half = index === LEAF_MAX ? LEAF_MAX : LEAF_SLOTS / 2;
      this.leafMove(fresh, leaf, half);
      if (index < half) this.leafInsert(leaf, index, start, end, value);
      else this.leafInsert(fresh, index - half, start, end, value);
    }
    this.addChild(leaf, fresh, index === 0);
  }

  /**
   * Brings the summaries above the leaf at the end of the path in order after gaps in it, the widest of them `oldGap`,
   * became others, the widest of them `newGap`.
   */
  private leafChanged(leaf: number, oldGap: number, newGap: number): void {
    const { innerLows, innerHighs, innerGaps } = this;
    const parent = this.pathNode[1];
    const at = (parent << INNER_SHIFT) + this.pathSlot[1];
    const base = leaf << LEAF_SHIFT;
    const low = this.leafStarts[base];
    const high = this.leafEnds[base + this.leafLinks[leaf * LEAF_LINKS] - 1];
    const widest = innerGaps[at];
    let gap = widest;
    if (newGap >= widest) gap = newGap;
    else if (oldGap >= widest) gap = this.leafGap(leaf);
    if (gap === widest && innerLows[at] === low && innerHighs[at] === high) return;
    if (innerHighs[at] !== high) this.raiseFloor(leaf, high);
    innerLows[at] = low;
    innerHighs[at] = high;
    innerGaps[at] = gap;
    if (this.height > 1) this.summarize(2, parent);
  }

  /**
   * Writes the summary of `node`, which lies below `level` of the path, into its parent and on upward while it changes.
   */
  private summarize(level: number, node: number): void {
    let child = node;
    for (let at = level; at <= this.height; at++) {
      const parent = this.pathNode[at];
      if (!this.writeSummary(parent, this.pathSlot[at], at - 1, child)) return;
      child = parent;
    }
  }

  /**
   * Writes the summary of `child`, a node of level `level`, into a slot of its parent; returns whether that changed it.
   */
  private writeSummary(parent: number, slot: number, level: number, child: number): boolean {
    const { innerLows, innerHighs, innerGaps } = this;
    let low: number;
    let high: number;
    let gap: number;
    if (level === 0) {
      const base = child << LEAF_SHIFT;
      low = this.leafStarts[base]!;
      high = this.leafEnds[base + this.leafLinks[child * LEAF_LINKS] - 1]!;
      gap = this.leafGap(child);
      this.raiseFloor(child, high);
    } else {
      const base = child << INNER_SHIFT;
      low = innerLows[base]!;
      high = innerHighs[base + this.innerCounts[child] - 1]!;
      gap = this.innerGap(child);
    }
    const at = (parent << INNER_SHIFT) + slot;
    if (innerLows[at] === low && innerHighs[at] === high && innerGaps[at] === gap) return false;
    innerLows[at] = low;
    innerHighs[at] = high;
    innerGaps[at] = gap;
    return true;
  }

  /** Hangs a fresh leaf into the tree beside `leaf`, at the end of the path, and splits upward where full. */
  private addChild(leaf: number, freshLeaf: number, isBefore: boolean): void {
    this.pathLeaf = -1;
    let child = leaf;
    let fresh = freshLeaf;
    let before = isBefore;
    for (let level = 1; level <= this.height; level++) {
      const parent = this.pathNode[level];
      const slot = this.pathSlot[level];
      const at = before ? slot : slot + 1;
      this.writeSummary(parent, slot, level - 1, child);
      if (this.innerCounts[parent] < INNER_MAX) {
        this.innerInsert(parent, at, fresh);
        this.writeSummary(parent, at, level - 1, fresh);
        this.summarize(level + 1, parent);
        return;
      }
      const beside = this.allocInner();
      if (at === 0) {
        this.innerInsert(beside, 0, fresh);
        this.writeSummary(beside, 0, level - 1, fresh);
      } else {
        const half = at === INNER_MAX ? INNER_MAX : INNER_SLOTS / 2;
        this.innerMove(beside, parent, half);
        const target = at < half ? parent : beside;
        const targetSlot = at < half ? at : at - half;
        this.innerInsert(target, targetSlot, fresh);
        this.writeSummary(target, targetSlot, level - 1, fresh);
      }
      child = parent;
      fresh = beside;
      before = at === 0;
    }
    const root = this.allocInner();
    this.innerInsert(root, 0, before ? fresh : child);
    this.innerInsert(root, 1, before ? child : fresh);
    this.writeSummary(root, 0, this.height, before ? fresh : child);
    this.writeSummary(root, 1, this.height, before ? child : fresh);
    this.root = root;
    this.height++;
  }

  /** Brings the tree in order after ranges were taken from the leaf at the end of the path. */
  private shrunk(leaf: number): void {
    const count = this.leafLinks[leaf * LEAF_LINKS];
    if (this.height > 0) {
      if (count === 0) {
        this.releaseLeaf(leaf);
        this.dropChild(1, this.pathSlot[1]);
      } else if (count > LEAF_FEW || !this.mergeLeaf(leaf, count)) {
        this.summarize(1, leaf);
      }
    }
    const { root } = this;
    if (this.height > 0) this.top = this.innerHighs[(root << INNER_SHIFT) + this.innerCounts[root] - 1]!;
    else if (this.nrRanges > 0) this.top = this.leafEnds[(root << LEAF_SHIFT) + this.leafLinks[root * LEAF_LINKS] - 1]!;
    else this.top = -Infinity;
  }

  /** Joins a leaf of few ranges with a neighbour under the same parent; returns false where neither has room. */
  private mergeLeaf(leaf: number, count: number): boolean {
    const { innerKids, leafLinks } = this;
    const parent = this.pathNode[1];
    const slot = this.pathSlot[1];
    const at = (parent << INNER_SHIFT) + slot;
    const room = LEAF_MAX - LEAF_FEW - count;
    let left = slot;
    if (slot > 0 && leafLinks[innerKids[at - 1] * LEAF_LINKS] <= room) left = slot - 1;
    else if (slot + 1 >= this.innerCounts[parent] || leafLinks[innerKids[at + 1] * LEAF_LINKS] > room) return false;
    const target = innerKids[(parent << INNER_SHIFT) + left];
    const source = innerKids[(parent << INNER_SHIFT) + left + 1];
    this.leafMove(target, source, 0);
    this.releaseLeaf(source);
    this.writeSummary(parent, left, 0, target);
    this.dropChild(1, left + 1);
    return true;
  }

  /**
   * Takes a slot from the node of the path at `level` and goes on upward: joins nodes of few children, sums up anew.
   */
  private dropChild(level: number, slot: number): void {
    this.pathLeaf = -1;
    const node = this.pathNode[level];
    this.innerDelete(node, slot);
    if (level === this.height) {
      this.collapseRoot();
      return;
    }
    const count = this.innerCounts[node];
    const up = level + 1;
    if (count === 0) {
      this.releaseInner(node);
      this.dropChild(up, this.pathSlot[up]);
    } else if (count > INNER_FEW || !this.mergeInner(level, count)) {
      this.summarize(up, node);
    }
  }

  /** As `mergeLeaf`, for the inner node of the path at `level`. */
  private mergeInner(level: number, count: number): boolean {
    const { innerKids, innerCounts } = this;
    const parent = this.pathNode[level + 1];
    const slot = this.pathSlot[level + 1];
    const at = (parent << INNER_SHIFT) + slot;
    const room = INNER_MAX - INNER_FEW - count;
    let left = slot;
    if (slot > 0 && innerCounts[innerKids[at - 1]] <= room) left = slot - 1;
    else if (slot + 1 >= innerCounts[parent] || innerCounts[innerKids[at + 1]] > room) return false;
    const target = innerKids[(parent << INNER_SHIFT) + left];
    const source = innerKids[(parent << INNER_SHIFT) + left + 1];
    this.innerMove(target, source, 0);
    this.releaseInner(source);
    this.writeSummary(parent, left, level, target);
    this.dropChild(level + 1, left + 1);
    return true;
  }

  /** Takes away inner nodes at the top that have one child. */
  private collapseRoot(): void {
    while (this.height > 0 && this.innerCounts[this.root] === 1) {
      const { root } = this;
      this.root = this.innerKids[root << INNER_SHIFT]!;
      this.height--;
      this.innerDelete(root, 0);
      this.releaseInner(root);
    }
  }
}
