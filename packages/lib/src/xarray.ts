import { XArrayInt } from './xarray-int.ts';

/**
 * A sparse array of anything but undefined: index → value, where an index is an integer in 0 … 2^52 - 1. The tree, the
 * marks and their costs are those of {@link XArrayInt}, which finds the place of each value.
 *
 * @linux include/linux/xarray.h:xarray
 */
export class XArray<T> {
  private readonly places = new XArrayInt();
  private values: (T | undefined)[] = [];
  private free: number[] = [];

  /** Entries held. */
  get size(): number {
    return this.places.size;
  }

  /** Returns the entry at `index`. @linux lib/xarray.c:xa_load */
  get(index: number): T | undefined {
    const place = this.places.get(index);
    return place < 0 ? undefined : this.values[place];
  }

  /** Tells whether there is an entry at `index`. */
  has(index: number): boolean {
    return this.places.has(index);
  }

  /**
   * Puts `value` at `index` and returns what was there; marks of an entry that was there stay.
   *
   * @linux lib/xarray.c:xa_store
   */
  set(index: number, value: T): T | undefined {
    let place = this.places.get(index);
    if (place >= 0) {
      const old = this.values[place];
      this.values[place] = value;
      return old;
    }
    place = this.free.pop() ?? this.values.length;
    this.places.set(index, place);
    if (place === this.values.length) this.values.push(value);
    else this.values[place] = value;
    return undefined;
  }

  /** Takes the entry at `index` away, with its marks, and returns it. @linux lib/xarray.c:xa_erase */
  delete(index: number): T | undefined {
    const place = this.places.get(index);
    if (place < 0) return undefined;
    const old = this.values[place];
    this.values[place] = undefined;
    this.free.push(place);
    this.places.delete(index);
    return old;
  }

  /**
   * Returns the first index at or after `from` that has an entry, -1 where there is none.
   *
   * @linux lib/xarray.c:xa_find
   */
  nextIndex(from: number): number {
    return this.places.nextIndex(from);
  }

  /** Returns the first index at or after `from` whose entry carries `mark`, -1 where there is none. */
  findMarked(from: number, mark: number): number {
    return this.places.findMarked(from, mark);
  }

  /** Puts `mark` on the entry at `index`, where there is one. @linux lib/xarray.c:xa_set_mark */
  setMark(index: number, mark: number): void {
    this.places.setMark(index, mark);
  }

  /** Takes `mark` from the entry at `index`. @linux lib/xarray.c:xa_clear_mark */
  clearMark(index: number, mark: number): void {
    this.places.clearMark(index, mark);
  }

  /** Tells whether there is an entry at `index` that carries `mark`. @linux lib/xarray.c:xa_get_mark */
  getMark(index: number, mark: number): boolean {
    return this.places.getMark(index, mark);
  }

  /** Tells whether some entry carries `mark`. @linux include/linux/xarray.h:xa_marked */
  isMarked(mark: number): boolean {
    return this.places.isMarked(mark);
  }

  /**
   * Calls `visit` for each entry at `first` … `last`, both included, in ascending order. `visit` may change or delete
   * the entry it is given.
   *
   * @linux include/linux/xarray.h:xa_for_each_range
   */
  forEachIn(first: number, last: number, visit: (value: T, index: number) => void): void {
    this.places.forEachIn(first, last, (place, index) => {
      visit(this.values[place] as T, index);
    });
  }

  /** Takes all entries away. */
  clear(): void {
    this.places.clear();
    this.values = [];
    this.free = [];
  }

  /** Recomputes every bit and count. @throws KernelBug at the first that is wrong */
  validate(): void {
    this.places.validate();
  }
}
