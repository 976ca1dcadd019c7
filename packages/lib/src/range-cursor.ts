import type { RangeTree } from './range-tree.ts';

/**
 * A place in a {@link RangeTree}. It stands on a range, or on none (`value` is undefined) where it has run off either
 * end. Any change to the tree but {@link RangeTree.resize} and {@link RangeTree.replace} makes it stale: seek again.
 *
 * @linux include/linux/mm_types.h:vma_iterator
 */
export class RangeCursor<T> {
  private readonly tree: RangeTree<T>;
  private position = -1;

  constructor(tree: RangeTree<T>) {
    this.tree = tree;
  }

  /** The value of the range the cursor stands on. */
  get value(): T | undefined {
    return this.tree.valueAt(this.position);
  }

  /** Where the range the cursor stands on starts; NaN where it stands on none. */
  get start(): number {
    return this.position < 0 ? NaN : this.tree.leafStarts[this.position];
  }

  /** Where the range the cursor stands on ends; NaN where it stands on none. */
  get end(): number {
    return this.position < 0 ? NaN : this.tree.leafEnds[this.position];
  }

  /** Goes to the first range that ends above `addr` and returns its value; O(log n). */
  seek(addr: number): T | undefined {
    this.position = this.tree.locate(addr);
    return this.value;
  }

  /** Goes to the last range that starts below `addr` and returns its value; O(log n). */
  seekBefore(addr: number): T | undefined {
    this.position = this.tree.locateBefore(addr);
    return this.value;
  }

  /** Goes to the range behind and returns its value; from no range it stays there. */
  next(): T | undefined {
    if (this.position >= 0) this.position = this.tree.after(this.position);
    return this.value;
  }

  /** Goes to the range before and returns its value; from no range it stays there. */
  prev(): T | undefined {
    if (this.position >= 0) this.position = this.tree.before(this.position);
    return this.value;
  }
}
