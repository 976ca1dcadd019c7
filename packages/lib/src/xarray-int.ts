import { bugOn } from './assert.ts';
import { lowestBit32 } from './bitmap.ts';
import { growColumn } from './columns.ts';

/**
 * Marks an entry can carry besides being there; what each means is the caller's affair.
 *
 * @linux include/linux/xarray.h:xa_mark_t
 */
export const XA_MARK_0 = 1;
export const XA_MARK_1 = 2;
export const XA_MARK_2 = 3;

/** The mark that every entry carries. */
const PRESENT = 0;
const NR_MARKS = 4;

const NODE_SLOTS = 64;
const SLOT_MASK = NODE_SLOTS - 1;
/** Levels whose share of an index lies in its low 30 bits. */
const LOW_LEVELS = 5;
const LOW_SPAN = 2 ** 30;
const MAX_LEVELS = 9;

/** Nodes whose memory an array keeps that has become empty. */
const KEPT_NODES = 16;

/** Columns per node: two words of bits for each mark. */
const NODE_BITS = 2 * NR_MARKS;

/**
 * A sparse array of 32-bit integers: index → value, where an index is an integer in 0 … 2^52 - 1.
 *
 * A radix tree of nodes of 64 slots, as high as the largest index needs; node and slot are places in columns. For each
 * mark a node has 64 bits: in a leaf, which entries carry it; above, in which children some entry does. Being there is
 * the mark that each entry has, and so one search serves them all.
 *
 *     bit `slot` of a node's mark m === some entry below that slot carries m
 *
 * @linux include/linux/xarray.h:xarray
 */
export class XArrayInt {
  /** Children of inner nodes, entries of leaves, from node * 64 on. */
  private slots: Int32Array;
  /** Bits of mark m: words node * 8 + 2m and the one behind. */
  private bits: Int32Array;
  private root = 0;
  /** Levels of the tree; level 0 holds the entries. */
  private levels = 1;
  private nrEntries = 0;
  private nrNodes = 1;
  /** Free nodes, chained through their first slot; -1 where there is none. */
  private freeNode = -1;

  constructor() {
    this.slots = new Int32Array(NODE_SLOTS);
    this.bits = new Int32Array(NODE_BITS);
  }

  /** Entries held. */
  get size(): number {
    return this.nrEntries;
  }

  /**
   * Returns the entry at `index`, -1 where there is none (or where the entry is -1: see {@link has}).
   *
   * @linux lib/xarray.c:xa_load
   */
  get(index: number): number {
    const node = this.leafOf(index);
    if (node < 0) return -1;
    const slot = index & SLOT_MASK;
    const isThere = (this.bits[node * NODE_BITS + (slot >>> 5)] & (1 << (slot & 31))) !== 0;
    return isThere ? this.slots[node * NODE_SLOTS + slot] : -1;
  }

  /** Tells whether there is an entry at `index`. */
  has(index: number): boolean {
    return this.getMark(index, PRESENT);
  }

  /**
   * Puts `value` at `index`, in place of what was there; marks of an entry that was there stay.
   *
   * @linux lib/xarray.c:xa_store
   */
  set(index: number, value: number): void {
    bugOn(!(index >= 0 && index < 2 ** 52), 'xarray: index out of range');
    let node = this.leafOf(index);
    if (node < 0) node = this.makeLeaf(index);
    const slot = index & SLOT_MASK;
    this.slots[node * NODE_SLOTS + slot] = value;
    const word = node * NODE_BITS + (slot >>> 5);
    const bit = 1 << (slot & 31);
    if ((this.bits[word] & bit) !== 0) return;
    this.nrEntries++;
    const wasEmpty = this.isUnmarked(node, PRESENT);
    this.bits[word] |= bit;
    if (wasEmpty && this.levels > 1) this.markPath(index, PRESENT);
  }

  /** Takes the entry at `index` away, with its marks; returns whether there was one. @linux lib/xarray.c:xa_erase */
  delete(index: number): boolean {
    if (!this.has(index)) return false;
    this.nrEntries--;
    this.unmark(this.root, this.levels - 1, index, NR_MARKS);
    if (this.nrEntries === 0) {
      if (this.nrNodes > KEPT_NODES) this.clear();
      else this.levels = 1;
    }
    return true;
  }

  /**
   * Returns the first index at or after `from` that has an entry, -1 where there is none.
   *
   * @linux lib/xarray.c:xa_find
   */
  nextIndex(from: number): number {
    return this.findMarked(from, PRESENT);
  }

  /**
   * Returns the first index at or after `from` whose entry carries `mark`, -1 where there is none; O(levels).
   *
   * @linux lib/xarray.c:xas_find_marked
   */
  findMarked(from: number, mark: number): number {
    if (this.isBeyond(from)) return -1;
    return this.findBelow(this.root, this.levels - 1, 0, from, mark);
  }

  /** Puts `mark` on the entry at `index`, where there is one. @linux lib/xarray.c:xa_set_mark */
  setMark(index: number, mark: number): void {
    if (this.has(index)) this.markPath(index, mark);
  }

  /** Takes `mark` from the entry at `index`. @linux lib/xarray.c:xa_clear_mark */
  clearMark(index: number, mark: number): void {
    if (this.getMark(index, mark)) this.unmark(this.root, this.levels - 1, index, mark);
  }

  /** Tells whether there is an entry at `index` that carries `mark`. @linux lib/xarray.c:xa_get_mark */
  getMark(index: number, mark: number): boolean {
    const node = this.leafOf(index);
    if (node < 0) return false;
    const slot = index & SLOT_MASK;
    return (this.bits[node * NODE_BITS + 2 * mark + (slot >>> 5)] & (1 << (slot & 31))) !== 0;
  }

  /** Tells whether some entry carries `mark`; constant time. @linux include/linux/xarray.h:xa_marked */
  isMarked(mark: number): boolean {
    return !this.isUnmarked(this.root, mark);
  }

  /**
   * Calls `visit` for each entry at `first` … `last`, both included, in ascending order. `visit` may change or delete
   * the entry it is given.
   */
  forEachIn(first: number, last: number, visit: (value: number, index: number) => void): void {
    for (let index = this.nextIndex(first); index >= 0 && index <= last; index = this.nextIndex(index + 1)) {
      visit(this.get(index), index);
    }
  }

  /** Takes all entries away and drops their memory. */
  clear(): void {
    this.slots = new Int32Array(NODE_SLOTS);
    this.bits = new Int32Array(NODE_BITS);
    this.root = 0;
    this.levels = 1;
    this.nrEntries = 0;
    this.nrNodes = 1;
    this.freeNode = -1;
  }

  /** Recomputes every bit and count. @throws KernelBug at the first that is wrong */
  validate(): void {
    let nodes = 0;
    let entries = 0;
    const visit = (node: number, level: number): void => {
      nodes++;
      for (let slot = 0; slot < NODE_SLOTS; slot++) {
        const isPresent = this.slotMarked(node, slot, PRESENT);
        if (level === 0) {
          if (isPresent) entries++;
          for (let mark = 1; mark < NR_MARKS; mark++) {
            bugOn(!isPresent && this.slotMarked(node, slot, mark), 'xarray: mark on no entry');
          }
          continue;
        }
        const child = this.slots[node * NODE_SLOTS + slot];
        bugOn(isPresent !== child > 0, 'xarray: child and its bit disagree');
        for (let mark = 0; mark < NR_MARKS; mark++) {
          const below = child > 0 && !this.isUnmarked(child - 1, mark);
          bugOn(below !== this.slotMarked(node, slot, mark), 'xarray: mark above is wrong');
        }
        if (child > 0) visit(child - 1, level - 1);
      }
    };
    visit(this.root, this.levels - 1);
    bugOn(entries !== this.nrEntries, 'xarray: size is wrong');
    for (let node = this.freeNode; node >= 0; node = this.slots[node * NODE_SLOTS]!) nodes++;
    bugOn(nodes !== this.nrNodes, 'xarray: node lost');
  }

  /** Returns the leaf that covers `index`, -1 where there is none. Inner slots hold child + 1, 0 for no child. */
  private leafOf(index: number): number {
    if (this.levels === 1) return index >= 0 && index < NODE_SLOTS ? this.root : -1;
    if (this.isBeyond(index)) return -1;
    const { slots } = this;
    let node = this.root;
    for (let level = this.levels - 1; level > 0; level--) {
      node = slots[node * NODE_SLOTS + slotAt(index, level)] - 1;
      if (node < 0) return -1;
    }
    return node;
  }

  /** Tells whether `index` lies outside what the levels there are can hold. */
  private isBeyond(index: number): boolean {
    return !(index >= 0 && index < SPAN[this.levels]);
  }

  /** Makes the nodes that are missing on the way to `index` and returns its leaf. */
  private makeLeaf(index: number): number {
    while (this.isBeyond(index)) this.addLevel();
    let node = this.root;
    for (let level = this.levels - 1; level > 0; level--) {
      const at = node * NODE_SLOTS + slotAt(index, level);
      let child = this.slots[at] - 1;
      if (child < 0) {
        child = this.allocNode();
        this.slots[at] = child + 1;
      }
      node = child;
    }
    return node;
  }

  /** Puts a node above the root, of which the root becomes the first child. */
  private addLevel(): void {
    const old = this.root;
    this.root = this.allocNode();
    this.levels++;
    if (this.nrEntries === 0) {
      this.releaseNode(old);
      return;
    }
    this.slots[this.root * NODE_SLOTS] = old + 1;
    for (let mark = 0; mark < NR_MARKS; mark++) {
      if (!this.isUnmarked(old, mark)) this.bits[this.root * NODE_BITS + 2 * mark] |= 1;
    }
  }

  private allocNode(): number {
    const node = this.freeNode;
    if (node >= 0) {
      this.freeNode = this.slots[node * NODE_SLOTS]!;
      this.slots[node * NODE_SLOTS] = 0;
      return node;
    }
    this.nrNodes++;
    this.slots = growColumn(this.slots, this.nrNodes * NODE_SLOTS);
    this.bits = growColumn(this.bits, this.nrNodes * NODE_BITS);
    return this.nrNodes - 1;
  }

  /** Gives back a node without bits. */
  private releaseNode(node: number): void {
    this.slots.fill(0, node * NODE_SLOTS, (node + 1) * NODE_SLOTS);
    this.slots[node * NODE_SLOTS] = this.freeNode;
    this.freeNode = node;
  }

  private isUnmarked(node: number, mark: number): boolean {
    const word = node * NODE_BITS + 2 * mark;
    return (this.bits[word] | this.bits[word + 1]) === 0;
  }

  private slotMarked(node: number, slot: number, mark: number): boolean {
    return (this.bits[node * NODE_BITS + 2 * mark + (slot >>> 5)] & (1 << (slot & 31))) !== 0;
  }

  /** Sets the bits of `mark` from the root down to the entry at `index`. */
  private markPath(index: number, mark: number): void {
    let node = this.root;
    for (let level = this.levels - 1; level >= 0; level--) {
      const slot = slotAt(index, level);
      this.bits[node * NODE_BITS + 2 * mark + (slot >>> 5)] |= 1 << (slot & 31);
      node = this.slots[node * NODE_SLOTS + slot] - 1;
    }
  }

  /**
   * Clears the bit of `mark` (of all marks for NR_MARKS, and gives nodes back that are left empty) from the entry at
   * `index` up to where another entry carries it.
   */
  private unmark(node: number, level: number, index: number, mark: number): void {
    const slot = slotAt(index, level);
    const at = node * NODE_SLOTS + slot;
    const child = this.slots[at] - 1;
    if (level > 0) this.unmark(child, level - 1, index, mark);
    const bit = 1 << (slot & 31);
    const word = node * NODE_BITS + (slot >>> 5);
    if (mark < NR_MARKS) {
      if (level === 0 || this.isUnmarked(child, mark)) this.bits[word + 2 * mark] &= ~bit;
      return;
    }
    for (let each = 0; each < NR_MARKS; each++) {
      if (level === 0 || this.isUnmarked(child, each)) this.bits[word + 2 * each] &= ~bit;
    }
    if (level > 0 && this.isUnmarked(child, PRESENT)) {
      this.releaseNode(child);
      this.slots[at] = 0;
    }
  }

  /**
   * Returns the first marked index at or after `from` below `node`, whose own first index is `base`; -1 where there is
   * none.
   */
  private findBelow(node: number, level: number, base: number, from: number, mark: number): number {
    let slot = this.nextSlot(node, from <= base ? 0 : slotAt(from, level), mark);
    if (level === 0) return slot === NODE_SLOTS ? -1 : base + slot;
    const span = SPAN[level];
    while (slot < NODE_SLOTS) {
      const found = this.findBelow(this.slots[node * NODE_SLOTS + slot] - 1, level - 1, base + slot * span, from, mark);
      if (found >= 0) return found;
      slot = this.nextSlot(node, slot + 1, mark);
    }
    return -1;
  }

  /** Returns the first slot at or after `from` of `node` that carries `mark`, 64 where there is none. */
  private nextSlot(node: number, from: number, mark: number): number {
    const word = node * NODE_BITS + 2 * mark;
    if (from < 32) {
      const low = this.bits[word] & (-1 << from);
      if (low !== 0) return lowestBit32(low);
      return 32 + lowestBit32(this.bits[word + 1]);
    }
    if (from >= NODE_SLOTS) return NODE_SLOTS;
    return 32 + lowestBit32(this.bits[word + 1] & (-1 << (from & 31)));
  }
}

/** Indexes below a node of as many levels. */
const SPAN = Array.from({ length: MAX_LEVELS + 1 }, (_, level) => NODE_SLOTS ** level);

/**
 * Returns the slot of `index` in a node of level `level`. A shift keeps the low 32 bits of a number, of which 30 count.
 */
function slotAt(index: number, level: number): number {
  if (level < LOW_LEVELS) return (index >>> (6 * level)) & SLOT_MASK;
  return (Math.floor(index / LOW_SPAN) >>> (6 * (level - LOW_LEVELS))) & SLOT_MASK;
}
