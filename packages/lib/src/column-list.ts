import { bugOn } from './assert.ts';

/**
 * Doubly linked lists whose links are two columns instead of fields of objects.
 *
 * A row is a node or a head. Node `i` is whatever the caller's other columns hold at row `i` (a page frame); heads are
 * the rows from `nrNodes` on. A list is a ring through its head, as Linux's `list_head` is, so that adding and removing
 * never asks whether a list is empty:
 *
 *     next[prev[i]] === i && prev[next[i]] === i      for each row of a ring
 *     next[head] === head                             for an empty list
 *     next[i] === 0                                   for a node on no list
 *
 * A column fresh from the allocator is therefore a valid set of unlinked nodes: a machine with 2^28 frames touches no
 * memory for those it does not use. The price is that row 0 can be neither node nor head.
 *
 * @linux include/linux/list.h:list_head
 */
export class ColumnList {
  /** The row behind each row; 0 for a node on no list. */
  readonly next: Int32Array;
  /** The row before each row; 0 for a node on no list. */
  readonly prev: Int32Array;
  /** Rows for nodes; list heads begin at this row. */
  readonly nrNodes: number;

  /**
   * Takes two columns of zeroes of the same length, whose rows from `nrNodes` on become the heads of empty lists.
   * Costs a step a head, none a node.
   */
  constructor(next: Int32Array, prev: Int32Array, nrNodes: number) {
    bugOn(next.length !== prev.length, 'column list: columns of different length');
    bugOn(nrNodes < 1 || nrNodes > next.length, 'column list: nrNodes out of range');
    this.next = next;
    this.prev = prev;
    this.nrNodes = nrNodes;
    for (let head = nrNodes; head < next.length; head++) this.initHead(head);
  }

  /** Makes columns for the nodes 1 … `nrNodes - 1` and `nrHeads` empty lists. */
  static create(nrNodes: number, nrHeads: number): ColumnList {
    return new ColumnList(new Int32Array(nrNodes + nrHeads), new Int32Array(nrNodes + nrHeads), nrNodes);
  }

  /** Returns the row of the head of list `list`, counted from 0. */
  head(list: number): number {
    return this.nrNodes + list;
  }

  /**
   * Makes `head` an empty list whatever it was; nodes it held keep their stale links.
   *
   * @linux include/linux/list.h:INIT_LIST_HEAD
   */
  initHead(head: number): void {
    this.next[head] = head;
    this.prev[head] = head;
  }

  /** @linux include/linux/list.h:list_empty */
  isEmpty(head: number): boolean {
    return this.next[head] === head;
  }

  /** Tells whether `node` is on a list. */
  isLinked(node: number): boolean {
    return this.next[node] !== 0;
  }

  /** Returns the first node of a list, 0 where it is empty. @linux include/linux/list.h:list_first_entry_or_null */
  first(head: number): number {
    const node = this.next[head];
    return node === head ? 0 : node;
  }

  /** Returns the last node of a list, 0 where it is empty. */
  last(head: number): number {
    const node = this.prev[head];
    return node === head ? 0 : node;
  }

  /** Puts a node that is on no list at the front of a list. @linux include/linux/list.h:list_add */
  pushFront(head: number, node: number): void {
    const { next, prev } = this;
    const behind = next[head];
    next[node] = behind;
    prev[node] = head;
    prev[behind] = node;
    next[head] = node;
  }

  /** Puts a node that is on no list at the end of a list. @linux include/linux/list.h:list_add_tail */
  pushBack(head: number, node: number): void {
    const { next, prev } = this;
    const before = prev[head];
    next[node] = head;
    prev[node] = before;
    next[before] = node;
    prev[head] = node;
  }

  /** Takes a node off the list it is on. @linux include/linux/list.h:list_del */
  remove(node: number): void {
    const { next, prev } = this;
    const behind = next[node];
    const before = prev[node];
    next[before] = behind;
    prev[behind] = before;
    next[node] = 0;
    prev[node] = 0;
  }

  /** Takes the first node off a list and returns it, 0 where the list is empty. */
  popFront(head: number): number {
    const { next, prev } = this;
    const node = next[head];
    if (node === head) return 0;
    const behind = next[node];
    next[head] = behind;
    prev[behind] = head;
    next[node] = 0;
    prev[node] = 0;
    return node;
  }

  /** Takes the last node off a list and returns it, 0 where the list is empty. */
  popBack(head: number): number {
    const { next, prev } = this;
    const node = prev[head];
    if (node === head) return 0;
    const before = prev[node];
    prev[head] = before;
    next[before] = head;
    next[node] = 0;
    prev[node] = 0;
    return node;
  }

  /** Moves a node from the list it is on to the front of `head`. @linux include/linux/list.h:list_move */
  moveTo(head: number, node: number): void {
    const { next, prev } = this;
    const oldBehind = next[node];
    const oldBefore = prev[node];
    next[oldBefore] = oldBehind;
    prev[oldBehind] = oldBefore;
    const behind = next[head];
    next[node] = behind;
    prev[node] = head;
    prev[behind] = node;
    next[head] = node;
  }

  /** Moves a node from the list it is on to the end of `head`. @linux include/linux/list.h:list_move_tail */
  moveToBack(head: number, node: number): void {
    const { next, prev } = this;
    const oldBehind = next[node];
    const oldBefore = prev[node];
    next[oldBefore] = oldBehind;
    prev[oldBehind] = oldBefore;
    const before = prev[head];
    next[node] = head;
    prev[node] = before;
    next[before] = node;
    prev[head] = node;
  }

  /**
   * Puts all nodes of `from` before those of `to`, in their order, and leaves `from` empty.
   *
   * @linux include/linux/list.h:list_splice_init
   */
  splice(to: number, from: number): void {
    const { next, prev } = this;
    const first = next[from];
    if (first === from) return;
    const last = prev[from];
    const behind = next[to];
    next[to] = first;
    prev[first] = to;
    next[last] = behind;
    prev[behind] = last;
    next[from] = from;
    prev[from] = from;
  }

  /**
   * Puts all nodes of `from` behind those of `to`, in their order, and leaves `from` empty.
   *
   * @linux include/linux/list.h:list_splice_tail_init
   */
  spliceBack(to: number, from: number): void {
    const { next, prev } = this;
    const first = next[from];
    if (first === from) return;
    const last = prev[from];
    const before = prev[to];
    next[before] = first;
    prev[first] = before;
    next[last] = to;
    prev[to] = last;
    next[from] = from;
    prev[from] = from;
  }

  /**
   * Calls `visit` for each node from the front; `visit` may take the node it is given off the list. Hot loops walk
   * `next` themselves.
   */
  forEach(head: number, visit: (node: number) => void): void {
    const { next } = this;
    let node = next[head];
    while (node !== head) {
      const behind = next[node];
      visit(node);
      node = behind;
    }
  }

  /** Yields each node from the front. The list must not change meanwhile. */
  *iterate(head: number): IterableIterator<number> {
    const { next } = this;
    for (let node = next[head]; node !== head; node = next[node]!) yield node;
  }

  /** Returns how many nodes a list holds; costs a step a node. */
  length(head: number): number {
    const { next } = this;
    let count = 0;
    for (let node = next[head]; node !== head; node = next[node]!) count++;
    return count;
  }

  /** Checks the ring of `head` link by link and returns its length. @throws KernelBug at the first broken link */
  validate(head: number): number {
    const { next, prev, nrNodes } = this;
    let count = 0;
    let row = head;
    do {
      const behind = next[row];
      bugOn(behind <= 0 || behind >= next.length, 'column list: link out of range');
      bugOn(prev[behind] !== row, 'column list: next and prev disagree');
      bugOn(behind >= nrNodes && behind !== head, 'column list: two heads in one ring');
      row = behind;
      count++;
    } while (row !== head);
    return count - 1;
  }
}
