import { bugOn } from './assert.ts';

/** An interval in an {@link IntervalTree}: the handle by which it is removed. */
export interface IntervalNode<T> {
  /** First number of the interval. */
  readonly first: number;
  /** Last number of the interval, included. */
  readonly last: number;
  readonly value: T;
}

interface Node<T> extends IntervalNode<T> {
  first: number;
  last: number;
  /** Order of insertion; breaks ties between intervals with the same first. */
  serial: number;
  /** A node's priority is above those of its children. */
  priority: number;
  /** The largest `last` of the nodes at and below this one. */
  maxLast: number;
  left: Node<T> | undefined;
  right: Node<T> | undefined;
  parent: Node<T> | undefined;
}

/**
 * Intervals that may overlap, each with a value; answers which overlap a range in O(log n + answers).
 *
 * A binary tree ordered by (first, order of insertion), in heap order of priorities (a treap). The priorities are a
 * hash of the order of insertion: the same calls make the same tree. Each node knows the largest `last` below it.
 *
 * @linux include/linux/interval_tree.h:interval_tree_node
 */
export class IntervalTree<T> {
  private root: Node<T> | undefined = undefined;
  private nrNodes = 0;
  private nextSerial = 0;

  /** Intervals held. */
  get size(): number {
    return this.nrNodes;
  }

  /**
   * Adds the interval `first` … `last`, both included, and returns the handle to remove it by; O(log n).
   *
   * @linux lib/interval_tree.c:interval_tree_insert
   */
  insert(first: number, last: number, value: T): IntervalNode<T> {
    const node: Node<T> = {
      first, last, value, serial: 0, priority: 0, maxLast: last,
      left: undefined, right: undefined, parent: undefined,
    };
    this.reinsert(node, first, last);
    return node;
  }

  /**
   * Adds an interval that was taken out of this tree or another once more, with other bounds: as {@link insert}, but no node
   * is made for it.
   */
  reinsert(handle: IntervalNode<T>, first: number, last: number): void {
    bugOn(!(first <= last), 'interval tree: empty interval');
    const node = handle as Node<T>;
    const serial = this.nextSerial++;
    node.first = first;
    node.last = last;
    node.serial = serial;
    node.priority = hash32(serial);
    node.maxLast = last;
    this.nrNodes++;
    let parent: Node<T> | undefined = undefined;
    let below = this.root;
    while (below !== undefined) {
      parent = below;
      if (last > below.maxLast) below.maxLast = last;
      below = first < below.first ? below.left : below.right;
    }
    if (parent === undefined) {
      this.root = node;
      return;
    }
    node.parent = parent;
    if (first < parent.first) parent.left = node;
    else parent.right = node;
    while (node.parent !== undefined && node.parent.priority < node.priority) this.rotateUp(node);
  }

  /**
   * Takes an interval away; O(log n). The handle must be of this tree and still in it.
   *
   * @linux lib/interval_tree.c:interval_tree_remove
   */
  remove(handle: IntervalNode<T>): void {
    const node = handle as Node<T>;
    while (node.left !== undefined && node.right !== undefined) {
      this.rotateUp(node.left.priority > node.right.priority ? node.left : node.right);
    }
    const child = node.left ?? node.right;
    const { parent } = node;
    const isHeld = parent === undefined ? this.root === node : parent.left === node || parent.right === node;
    bugOn(!isHeld, 'interval tree: not in the tree');
    if (child !== undefined) child.parent = parent;
    if (parent === undefined) this.root = child;
    else if (parent.left === node) parent.left = child;
    else parent.right = child;
    node.parent = undefined;
    node.left = undefined;
    node.right = undefined;
    this.nrNodes--;
    for (let above = parent; above !== undefined; above = above.parent) {
      const maxLast = maxLastOf(above);
      if (maxLast === above.maxLast) break;
      above.maxLast = maxLast;
    }
  }

  /**
   * Returns the interval with the lowest first that has a number in common with `first` … `last`; O(log n).
   *
   * @linux include/linux/interval_tree_generic.h:interval_tree_iter_first
   */
  firstOverlap(first: number, last: number): IntervalNode<T> | undefined {
    const { root } = this;
    return root === undefined || root.maxLast < first ? undefined : leftmostOverlap(root, first, last);
  }

  /**
   * Returns the next interval behind `handle` that has a number in common with `first` … `last`.
   *
   * @linux include/linux/interval_tree_generic.h:interval_tree_iter_next
   */
  nextOverlap(handle: IntervalNode<T>, first: number, last: number): IntervalNode<T> | undefined {
    let node = handle as Node<T>;
    for (;;) {
      if (node.right !== undefined && node.right.maxLast >= first) return leftmostOverlap(node.right, first, last);
      // Up to the first node of which this one is on the left: all it passes come before `handle`.
      let above = node.parent;
      while (above !== undefined && above.right === node) {
        node = above;
        above = node.parent;
      }
      if (above === undefined || above.first > last) return undefined;
      if (above.last >= first) return above;
      node = above;
    }
  }

  /**
   * Calls `visit` for each interval that has a number in common with `first` … `last`, in order of their first number,
   * then of insertion. `visit` may remove the interval it is given.
   */
  forEachOverlap(first: number, last: number, visit: (value: T, node: IntervalNode<T>) => void): void {
    let node = this.firstOverlap(first, last);
    while (node !== undefined) {
      const behind = this.nextOverlap(node, first, last);
      visit(node.value, node);
      node = behind;
    }
  }

  /** Calls `visit` for each interval in order. */
  forEach(visit: (value: T, node: IntervalNode<T>) => void): void {
    this.forEachOverlap(-Infinity, Infinity, visit);
  }

  /** Takes all intervals away. */
  clear(): void {
    this.root = undefined;
    this.nrNodes = 0;
  }

  /** Checks order, heap, links and the largest ends. @throws KernelBug at the first that is wrong */
  validate(): void {
    let count = 0;
    let before: Node<T> | undefined = undefined;
    const visit = (node: Node<T> | undefined, parent: Node<T> | undefined): void => {
      if (node === undefined) return;
      bugOn(node.parent !== parent, 'interval tree: parent is wrong');
      bugOn(parent !== undefined && parent.priority < node.priority, 'interval tree: heap order is broken');
      visit(node.left, node);
      if (before !== undefined) {
        bugOn(before.first > node.first, 'interval tree: out of order');
        bugOn(before.first === node.first && before.serial > node.serial, 'interval tree: ties out of order');
      }
      before = node;
      count++;
      visit(node.right, node);
      bugOn(node.maxLast !== maxLastOf(node), 'interval tree: largest end is wrong');
    };
    visit(this.root, undefined);
    bugOn(count !== this.nrNodes, 'interval tree: size is wrong');
  }

  /** Makes `node` the parent of its parent. */
  private rotateUp(node: Node<T>): void {
    const parent = node.parent!;
    const above = parent.parent;
    if (parent.left === node) {
      parent.left = node.right;
      if (node.right !== undefined) node.right.parent = parent;
      node.right = parent;
    } else {
      parent.right = node.left;
      if (node.left !== undefined) node.left.parent = parent;
      node.left = parent;
    }
    parent.parent = node;
    node.parent = above;
    if (above === undefined) this.root = node;
    else if (above.left === parent) above.left = node;
    else above.right = node;
    node.maxLast = parent.maxLast;
    parent.maxLast = maxLastOf(parent);
  }
}

function maxLastOf<T>(node: Node<T>): number {
  let maxLast = node.last;
  if (node.left !== undefined && node.left.maxLast > maxLast) maxLast = node.left.maxLast;
  if (node.right !== undefined && node.right.maxLast > maxLast) maxLast = node.right.maxLast;
  return maxLast;
}

/** Returns the first node below `top`, whose maxLast is at least `first`, that overlaps the range. */
function leftmostOverlap<T>(top: Node<T>, first: number, last: number): Node<T> | undefined {
  let node = top;
  for (;;) {
    if (node.left !== undefined && node.left.maxLast >= first) {
      // The answer is on the left if anywhere: if what ends late enough there starts too late, so does all behind it.
      node = node.left;
      continue;
    }
    if (node.first > last) return undefined;
    if (node.last >= first) return node;
    if (node.right === undefined || node.right.maxLast < first) return undefined;
    node = node.right;
  }
}

/** Scatters an integer over 32 bits, signed (the finaliser of MurmurHash3). */
function hash32(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35);
  return h ^ (h >>> 16);
}
