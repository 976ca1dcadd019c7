import { bugOn } from './assert.ts';
import { RangeCursor } from './range-cursor.ts';
import { findGapAbove, findGapBelow } from './range-gap.ts';
import {
  INNER_BOUNDS, INNER_COUNT, INNER_FANOUT, INNER_GAPS, INNER_HIGHS, INNER_KIDS,
  LEAF_BOUNDS, LEAF_ENDS, LEAF_FANOUT, LEAF_LINKS, LEAF_NEXT, LEAF_PREV, LEAF_SHIFT,
  MAX_LEVELS, RangePool,
} from './range-pool.ts';
import { validateRangeTree } from './range-validate.ts';

const LEAF_MASK = LEAF_FANOUT - 1;
const LEAF_FEW = LEAF_FANOUT / 4;
const INNER_FEW = INNER_FANOUT / 4;

/**
 * Ranges of numbers that do not overlap, each with a value: what Linux's maple tree does for an address space.
 *
 * A range is [start, end) with start < end; both are any numbers a double holds exactly, below zero too. The tree keeps
 * the bounds itself. It is a B-tree whose inner nodes know of each child where its ranges begin and end and how wide the
 * widest gap in it is, so that each operation costs O(log n).
 *
 * @linux lib/maple_tree.c
 */
export class RangeTree<T> extends RangePool<T> {
  /** The leaf or inner node at the top. */
  root: number;
  /** Levels of inner nodes; 0 where the root is a leaf. */
  height = 0;
  /** End of the last range; -Infinity in an empty tree. */
  private top = -Infinity;
  private nrRanges = 0;
  /** The way down of the last search by `descend`: node and slot by level; level 1 is the one above the leaves. */
  private readonly pathNode = new Int32Array(MAX_LEVELS);
  private readonly pathSlot = new Int32Array(MAX_LEVELS);

  constructor() {
    super();
    this.root = this.allocLeaf();
  }

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
    if (position < 0 || this.startAt(position) > addr) return undefined;
    return this.values[position];
  }

  /** Returns the value of the last range that starts below `addr`. */
  prev(addr: number): T | undefined {
    const position = this.locateBefore(addr);
    return position < 0 ? undefined : this.values[position];
  }

  /** Returns the value of the first range that starts above `addr`. */
  next(addr: number): T | undefined {
    const position = this.locate(addr);
    if (position < 0 || this.startAt(position) > addr) return this.valueAt(position);
    return this.valueAt(this.after(position));
  }

  /** Returns the value of the first range. */
  first(): T | undefined {
    return this.values[this.locate(-Infinity)];
  }

  /** Returns the value of the last range. */
  last(): T | undefined {
    return this.prev(Infinity);
  }

  /** Tells whether a range has an address in common with [start, end). */
  overlaps(start: number, end: number): boolean {
    const position = this.locate(start);
    return position >= 0 && this.startAt(position) < end;
  }

  /** Adds a range. @throws KernelBug when it is empty or overlaps another. @linux lib/maple_tree.c:mas_store_prealloc */
  insert(start: number, end: number, value: T): void {
    bugOn(!(start < end), 'range tree: empty range');
    const leaf = this.descend(start);
    const index = firstAbove(this.leafBounds, leaf * LEAF_BOUNDS + LEAF_ENDS, LEAF_FANOUT, start);
    const count = this.leafLinks[leaf * LEAF_LINKS]!;
    bugOn(index < count && this.leafBounds[leaf * LEAF_BOUNDS + index]! < end, 'range tree: ranges overlap');
    this.nrRanges++;
    if (end > this.top) this.top = end;
    if (count < LEAF_FANOUT) {
      this.leafInsert(leaf, index, start, end, value);
      if (this.height > 0) this.summarize(1, leaf);
      return;
    }
    const fresh = this.allocLeaf();
    if (index === 0) {
      this.linkLeafBefore(leaf, fresh);
      this.leafInsert(fresh, 0, start, end, value);
    } else {
      this.linkLeafAfter(leaf, fresh);
      const half = index === LEAF_FANOUT ? LEAF_FANOUT : LEAF_FANOUT / 2;
      this.leafMove(fresh, leaf, half);
      if (index < half) this.leafInsert(leaf, index, start, end, value);
      else this.leafInsert(fresh, index - half, start, end, value);
    }
    this.addChild(leaf, fresh, index === 0);
  }

  /** Takes away the range that starts at `start` and returns its value. @throws KernelBug where no range does */
  remove(start: number): T {
    const leaf = this.descend(start);
    const index = this.slotOf(leaf, start);
    const value = this.values[(leaf << LEAF_SHIFT) + index] as T;
    this.leafDelete(leaf, index, 1);
    this.nrRanges--;
    this.shrunk(leaf);
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
    for (;;) {
      if (start >= this.top) return removed;
      const leaf = this.descend(start);
      const { leafBounds, values } = this;
      const starts = leaf * LEAF_BOUNDS;
      const index = firstAbove(leafBounds, starts + LEAF_ENDS, LEAF_FANOUT, start);
      const count = this.leafLinks[leaf * LEAF_LINKS]!;
      let behind = index;
      for (; behind < count && leafBounds[starts + behind]! < end; behind++) {
        bugOn(leafBounds[starts + behind]! < start, 'range tree: range begins before those to remove');
        bugOn(leafBounds[starts + LEAF_ENDS + behind]! > end, 'range tree: range goes on behind those to remove');
        onRemove?.(values[(leaf << LEAF_SHIFT) + behind] as T, leafBounds[starts + behind]!, leafBounds[starts + LEAF_ENDS + behind]!);
      }
      if (behind === index) return removed;
      this.leafDelete(leaf, index, behind - index);
      this.nrRanges -= behind - index;
      removed += behind - index;
      this.shrunk(leaf);
    }
  }

  /**
   * Gives the range that starts at `oldStart` new bounds that touch no other range. It keeps its place among the others.
   *
   * @throws KernelBug where no range starts at `oldStart`, or the new bounds are empty or reach over a neighbour
   * @linux mm/vma.c:vma_expand
   */
  resize(oldStart: number, newStart: number, newEnd: number): void {
    bugOn(!(newStart < newEnd), 'range tree: empty range');
    const leaf = this.descend(oldStart);
    const index = this.slotOf(leaf, oldStart);
    const position = (leaf << LEAF_SHIFT) + index;
    const before = this.before(position);
    const after = this.after(position);
    bugOn(before >= 0 && this.endAt(before) > newStart, 'range tree: resized over the range before');
    bugOn(after >= 0 && this.startAt(after) < newEnd, 'range tree: resized over the range behind');
    const { leafBounds } = this;
    leafBounds[leaf * LEAF_BOUNDS + index] = newStart;
    leafBounds[leaf * LEAF_BOUNDS + LEAF_ENDS + index] = newEnd;
    if (after < 0) this.top = newEnd;
    if (this.height > 0) this.summarize(1, leaf);
  }

  /** Gives the range that starts at `start` another value and returns the old one. @throws KernelBug where no range does */
  replace(start: number, value: T): T {
    const position = this.locate(start);
    bugOn(position < 0 || this.startAt(position) !== start, 'range tree: no range starts here');
    const old = this.values[position] as T;
    this.values[position] = value;
    return old;
  }

  /** Calls `visit` for each range that has an address in [start, end), in ascending order. It must not change the tree. */
  forEachIn(start: number, end: number, visit: (value: T, start: number, end: number) => void): void {
    for (let position = this.locate(start); position >= 0; position = this.after(position)) {
      const rangeStart = this.startAt(position);
      if (rangeStart >= end) return;
      visit(this.values[position] as T, rangeStart, this.endAt(position));
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
      const start = this.startAt(position);
      const value = mapValue(this.values[position] as T, start, this.endAt(position));
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
  }

  /** Recomputes every invariant of the tree. @throws KernelBug at the first that does not hold */
  validate(): void {
    const { ranges, top } = validateRangeTree(this);
    bugOn(ranges !== this.nrRanges, 'range tree: size is wrong');
    bugOn(top !== this.top, 'range tree: end of the last range is wrong');
  }

  /**
   * Returns the position of the first range that ends above `addr`, -1 where there is none. A position is a slot of a
   * leaf and holds until the tree changes.
   */
  locate(addr: number): number {
    if (addr >= this.top) return -1;
    const { innerBounds, innerKids } = this;
    let node = this.root;
    for (let level = this.height; level > 0; level--) {
      const slot = firstAbove(innerBounds, node * INNER_BOUNDS + INNER_HIGHS, INNER_FANOUT, addr);
      node = innerKids[node * INNER_KIDS + slot]!;
    }
    return (node << LEAF_SHIFT) + firstAbove(this.leafBounds, node * LEAF_BOUNDS + LEAF_ENDS, LEAF_FANOUT, addr);
  }

  /** Returns the position of the last range that starts below `addr`, -1 where there is none. */
  locateBefore(addr: number): number {
    const position = this.locate(addr);
    if (position < 0) return this.lastPosition();
    return this.startAt(position) < addr ? position : this.before(position);
  }

  /** Returns the position of the last range, -1 in an empty tree. */
  lastPosition(): number {
    if (this.nrRanges === 0) return -1;
    let node = this.root;
    for (let level = this.height; level > 0; level--) {
      node = this.innerKids[node * INNER_KIDS + this.innerKids[node * INNER_KIDS + INNER_COUNT]! - 1]!;
    }
    return (node << LEAF_SHIFT) + this.leafLinks[node * LEAF_LINKS]! - 1;
  }

  /** Returns the start of the range at a position. */
  startAt(position: number): number {
    return this.leafBounds[(position >>> LEAF_SHIFT) * LEAF_BOUNDS + (position & LEAF_MASK)]!;
  }

  /** Returns the end of the range at a position. */
  endAt(position: number): number {
    return this.leafBounds[(position >>> LEAF_SHIFT) * LEAF_BOUNDS + LEAF_ENDS + (position & LEAF_MASK)]!;
  }

  /** Returns the value of the range at a position, undefined for position -1. */
  valueAt(position: number): T | undefined {
    return position < 0 ? undefined : this.values[position];
  }

  /** Returns the position behind a position, -1 behind the last. */
  after(position: number): number {
    const links = (position >>> LEAF_SHIFT) * LEAF_LINKS;
    if ((position & LEAF_MASK) + 1 < this.leafLinks[links]!) return position + 1;
    const leaf = this.leafLinks[links + LEAF_NEXT]!;
    return leaf < 0 ? -1 : leaf << LEAF_SHIFT;
  }

  /** Returns the position before a position, -1 before the first. */
  before(position: number): number {
    if ((position & LEAF_MASK) > 0) return position - 1;
    const leaf = this.leafLinks[(position >>> LEAF_SHIFT) * LEAF_LINKS + LEAF_PREV]!;
    return leaf < 0 ? -1 : (leaf << LEAF_SHIFT) + this.leafLinks[leaf * LEAF_LINKS]! - 1;
  }

  /** Returns the leaf in which a range with this start belongs and records the way down to it. */
  private descend(start: number): number {
    const { innerBounds, innerKids, pathNode, pathSlot } = this;
    let node = this.root;
    for (let level = this.height; level > 0; level--) {
      const kids = node * INNER_KIDS;
      let slot = firstAbove(innerBounds, node * INNER_BOUNDS + INNER_HIGHS, INNER_FANOUT, start);
      const count = innerKids[kids + INNER_COUNT]!;
      if (slot >= count) slot = count - 1;
      pathNode[level] = node;
      pathSlot[level] = slot;
      node = innerKids[kids + slot]!;
    }
    return node;
  }

  /** Returns the slot in `leaf` of the range that starts at `start`. */
  private slotOf(leaf: number, start: number): number {
    const index = firstAbove(this.leafBounds, leaf * LEAF_BOUNDS + LEAF_ENDS, LEAF_FANOUT, start);
    bugOn(
      index >= this.leafLinks[leaf * LEAF_LINKS]! || this.leafBounds[leaf * LEAF_BOUNDS + index] !== start,
      'range tree: no range starts here',
    );
    return index;
  }

  /** Writes the summary of `node`, which lies below `level` of the path, into its parent and on upward while it changes. */
  private summarize(level: number, node: number): void {
    let child = node;
    for (let at = level; at <= this.height; at++) {
      const parent = this.pathNode[at]!;
      if (!this.writeSummary(parent, this.pathSlot[at]!, at - 1, child)) return;
      child = parent;
    }
  }

  /** Writes the summary of `child`, a node of level `level`, into a slot of its parent; returns whether that changed it. */
  private writeSummary(parent: number, slot: number, level: number, child: number): boolean {
    const { innerBounds } = this;
    let low: number;
    let high: number;
    let gap: number;
    if (level === 0) {
      const starts = child * LEAF_BOUNDS;
      low = this.leafBounds[starts]!;
      high = this.leafBounds[starts + LEAF_ENDS + this.leafLinks[child * LEAF_LINKS]! - 1]!;
      gap = this.leafGap(child);
    } else {
      const lows = child * INNER_BOUNDS;
      low = innerBounds[lows]!;
      high = innerBounds[lows + INNER_HIGHS + this.innerKids[child * INNER_KIDS + INNER_COUNT]! - 1]!;
      gap = this.innerGap(child);
    }
    const at = parent * INNER_BOUNDS + slot;
    if (innerBounds[at] === low && innerBounds[at + INNER_HIGHS] === high && innerBounds[at + INNER_GAPS] === gap) return false;
    innerBounds[at] = low;
    innerBounds[at + INNER_HIGHS] = high;
    innerBounds[at + INNER_GAPS] = gap;
    return true;
  }

  /** Hangs a fresh leaf into the tree beside `leaf`, on whose path it was split off, and splits upward where full. */
  private addChild(leaf: number, freshLeaf: number, isBefore: boolean): void {
    let child = leaf;
    let fresh = freshLeaf;
    let before = isBefore;
    for (let level = 1; level <= this.height; level++) {
      const parent = this.pathNode[level]!;
      const slot = this.pathSlot[level]!;
      const at = before ? slot : slot + 1;
      this.writeSummary(parent, slot, level - 1, child);
      if (this.innerKids[parent * INNER_KIDS + INNER_COUNT]! < INNER_FANOUT) {
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
        const half = at === INNER_FANOUT ? INNER_FANOUT : INNER_FANOUT / 2;
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
    const count = this.leafLinks[leaf * LEAF_LINKS]!;
    if (this.height === 0) {
      this.top = count === 0 ? -Infinity : this.leafBounds[leaf * LEAF_BOUNDS + LEAF_ENDS + count - 1]!;
      return;
    }
    if (count === 0) {
      this.freeLeafNode(leaf);
      this.dropChild(1, this.pathSlot[1]!);
    } else if (count > LEAF_FEW || !this.mergeLeaf(leaf, count)) {
      this.summarize(1, leaf);
    }
    const root = this.root;
    this.top =
      this.height === 0
        ? this.leafBounds[root * LEAF_BOUNDS + LEAF_ENDS + this.leafLinks[root * LEAF_LINKS]! - 1]!
        : this.innerBounds[root * INNER_BOUNDS + INNER_HIGHS + this.innerKids[root * INNER_KIDS + INNER_COUNT]! - 1]!;
  }

  /** Joins a leaf of few ranges with a neighbour under the same parent; returns false where neither has room. */
  private mergeLeaf(leaf: number, count: number): boolean {
    const { innerKids, leafLinks } = this;
    const kids = this.pathNode[1]! * INNER_KIDS;
    const slot = this.pathSlot[1]!;
    const room = LEAF_FANOUT - LEAF_FEW - count;
    let left = slot;
    if (slot > 0 && leafLinks[innerKids[kids + slot - 1]! * LEAF_LINKS]! <= room) left = slot - 1;
    else if (slot + 1 >= innerKids[kids + INNER_COUNT]! || leafLinks[innerKids[kids + slot + 1]! * LEAF_LINKS]! > room) return false;
    const target = innerKids[kids + left]!;
    const source = innerKids[kids + left + 1]!;
    this.leafMove(target, source, 0);
    this.freeLeafNode(source);
    this.writeSummary(this.pathNode[1]!, left, 0, target);
    this.dropChild(1, left + 1);
    return true;
  }

  /** Takes a slot from the node of the path at `level` and joins nodes upward where few children are left. */
  private dropChild(level: number, slot: number): void {
    const { innerKids } = this;
    const node = this.pathNode[level]!;
    this.innerDelete(node, slot);
    const count = innerKids[node * INNER_KIDS + INNER_COUNT]!;
    if (level === this.height) {
      if (count === 1) {
        this.root = innerKids[node * INNER_KIDS]!;
        this.height--;
        this.innerDelete(node, 0);
        this.freeInnerNode(node);
        this.collapseRoot();
      }
      return;
    }
    const up = level + 1;
    const parent = this.pathNode[up]!;
    const parentSlot = this.pathSlot[up]!;
    if (count === 0) {
      this.freeInnerNode(node);
      this.dropChild(up, parentSlot);
      return;
    }
    if (count <= INNER_FEW) {
      const kids = parent * INNER_KIDS;
      const room = INNER_FANOUT - INNER_FEW - count;
      let left = -1;
      if (parentSlot > 0 && innerKids[innerKids[kids + parentSlot - 1]! * INNER_KIDS + INNER_COUNT]! <= room) left = parentSlot - 1;
      else if (
        parentSlot + 1 < innerKids[kids + INNER_COUNT]! &&
        innerKids[innerKids[kids + parentSlot + 1]! * INNER_KIDS + INNER_COUNT]! <= room
      ) left = parentSlot;
      if (left >= 0) {
        const target = innerKids[kids + left]!;
        const source = innerKids[kids + left + 1]!;
        this.innerMove(target, source, 0);
        this.freeInnerNode(source);
        this.writeSummary(parent, left, level, target);
        this.dropChild(up, left + 1);
        return;
      }
    }
    this.summarize(up, node);
  }

  /** Takes away inner nodes at the top that have one child. */
  private collapseRoot(): void {
    while (this.height > 0 && this.innerKids[this.root * INNER_KIDS + INNER_COUNT] === 1) {
      const root = this.root;
      this.root = this.innerKids[root * INNER_KIDS]!;
      this.height--;
      this.innerDelete(root, 0);
      this.freeInnerNode(root);
    }
  }
}

/** Returns the first of `fanout` ascending bounds from `base` on that is above `addr`, `fanout` where none is. */
function firstAbove(bounds: Float64Array, base: number, fanout: number, addr: number): number {
  let slot = 0;
  while (slot < fanout && bounds[base + slot]! <= addr) slot++;
  return slot;
}
