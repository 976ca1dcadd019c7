/**
 * Red-black trees whose order is whatever their owner compares by.
 *
 *     the root is black; a red node has no red child; every way down to a leaf passes as many black nodes
 *
 * so that no way down is more than twice as long as another. Nodes belong to their owner, who finds the place for one by
 * walking down: the order may depend on things that change, as long as it holds while nodes come and go.
 *
 * @linux lib/rbtree.c
 */
import { bugOn } from './assert.ts';

/** A node; `null` links are leaves. */
export interface RbNode<T> {
  readonly value: T;
  parent: RbNode<T> | null;
  left: RbNode<T> | null;
  right: RbNode<T> | null;
  red: boolean;
}

export class RbTree<T> {
  root: RbNode<T> | null = null;
  size = 0;

  /**
   * Finds the node that compares as equal.
   *
   * @param compare negative where what is looked for comes before the value, positive where behind
   */
  find(compare: (value: T) => number): RbNode<T> | null {
    let node = this.root;
    while (node !== null) {
      const order = compare(node.value);
      if (order === 0) return node;
      node = order < 0 ? node.left : node.right;
    }
    return null;
  }

  /** Puts a value in where `compare` leads, behind those that compare as equal. @returns its node */
  insert(value: T, compare: (value: T) => number): RbNode<T> {
    const node: RbNode<T> = { value, parent: null, left: null, right: null, red: true };
    let parent: RbNode<T> | null = null;
    let isLeft = false;
    for (let at = this.root; at !== null; at = isLeft ? at.left : at.right) {
      parent = at;
      isLeft = compare(at.value) < 0;
    }
    node.parent = parent;
    if (parent === null) this.root = node;
    else if (isLeft) parent.left = node;
    else parent.right = node;
    this.size++;
    this.#balanceInsert(node);
    return node;
  }

  /** Takes a node of this tree out. */
  remove(node: RbNode<T>): void {
    this.size--;
    let removedRed = node.red;
    let child: RbNode<T> | null;
    let parent: RbNode<T> | null;
    if (node.left === null || node.right === null) {
      child = node.left ?? node.right;
      parent = node.parent;
      this.#replace(node, child);
    } else {
      let next = node.right;
      while (next.left !== null) next = next.left;
      removedRed = next.red;
      child = next.right;
      if (next.parent === node) parent = next;
      else {
        parent = next.parent;
        this.#replace(next, child);
        next.right = node.right;
        next.right.parent = next;
      }
      this.#replace(node, next);
      next.left = node.left;
      next.left.parent = next;
      next.red = node.red;
    }
    if (!removedRed) this.#balanceRemove(child, parent);
    node.parent = node.left = node.right = null;
  }

  /** Forgets all nodes. */
  clear(): void {
    this.root = null;
    this.size = 0;
  }

  /** Visits the values in order. */
  forEach(visit: (value: T) => void): void {
    const walk = (node: RbNode<T> | null): void => {
      if (node === null) return;
      walk(node.left);
      visit(node.value);
      walk(node.right);
    };
    walk(this.root);
  }

  /** @throws KernelBug where the tree is not red-black */
  validate(): void {
    let count = 0;
    const walk = (node: RbNode<T> | null, parent: RbNode<T> | null): number => {
      if (node === null) return 1;
      count++;
      bugOn(node.parent !== parent, 'red-black tree: a node has another parent');
      bugOn(node.red && (parent === null || parent.red), 'red-black tree: a red node below a red one');
      const left = walk(node.left, node);
      bugOn(left !== walk(node.right, node), 'red-black tree: ways of different length');
      return left + (node.red ? 0 : 1);
    };
    walk(this.root, null);
    bugOn(count !== this.size, `red-black tree: ${count} nodes, not ${this.size}`);
  }

  #replace(node: RbNode<T>, by: RbNode<T> | null): void {
    const { parent } = node;
    if (parent === null) this.root = by;
    else if (parent.left === node) parent.left = by;
    else parent.right = by;
    if (by !== null) by.parent = parent;
  }

  /** Turns a node down to the given side; the child of the other side takes its place. */
  #rotate(node: RbNode<T>, side: 'left' | 'right'): void {
    const other = side === 'left' ? 'right' : 'left';
    const up = node[other]!;
    node[other] = up[side];
    if (up[side] !== null) up[side].parent = node;
    this.#replace(node, up);
    up[side] = node;
    node.parent = up;
  }

  #balanceInsert(fresh: RbNode<T>): void {
    let node = fresh;
    while (node.parent?.red === true) {
      const { parent } = node;
      const grand = parent.parent!;
      const side = parent === grand.left ? 'left' : 'right';
      const other = side === 'left' ? 'right' : 'left';
      const uncle = grand[other];
      if (uncle?.red === true) {
        parent.red = false;
        uncle.red = false;
        grand.red = true;
        node = grand;
        continue;
      }
      if (node === parent[other]) {
        this.#rotate(parent, side);
        node = parent;
      }
      node.parent!.red = false;
      grand.red = true;
      this.#rotate(grand, other);
    }
    this.root!.red = false;
  }

  #balanceRemove(child: RbNode<T> | null, above: RbNode<T> | null): void {
    let node = child;
    let parent = above;
    while (parent !== null && node?.red !== true) {
      const side = node === parent.left ? 'left' : 'right';
      const other = side === 'left' ? 'right' : 'left';
      let sibling = parent[other]!;
      if (sibling.red) {
        sibling.red = false;
        parent.red = true;
        this.#rotate(parent, side);
        sibling = parent[other]!;
      }
      if (sibling.left?.red !== true && sibling.right?.red !== true) {
        sibling.red = true;
        node = parent;
        ({ parent } = parent);
        continue;
      }
      if (sibling[other]?.red !== true) {
        sibling[side]!.red = false;
        sibling.red = true;
        this.#rotate(sibling, other);
        sibling = parent[other]!;
      }
      sibling.red = parent.red;
      parent.red = false;
      sibling[other]!.red = false;
      this.#rotate(parent, side);
      node = this.root;
      parent = null;
    }
    if (node !== null) node.red = false;
  }
}
