import { bugOn } from './assert.ts';
import { Bitmap } from './bitmap.ts';

/**
 * Small integer handles for objects: each new object gets the lowest number that is free, as file descriptors and
 * Linux's IDR do.
 *
 * @linux lib/idr.c:idr_alloc
 */
export class IdTable<T> {
  private readonly firstId: number;
  private readonly limit: number;
  private readonly slots: (T | undefined)[] = [];
  private used = new Bitmap(64);
  /** No number below this one is free. */
  private hint = 0;
  private nrTaken = 0;

  /** Hands out the numbers `first` … `limit - 1`. */
  constructor(first = 0, limit = 2 ** 31) {
    this.firstId = first;
    this.limit = limit;
  }

  /** Objects held. */
  get size(): number {
    return this.nrTaken;
  }

  /** Gives `value` the lowest free number and returns it, or -1 where none is left; amortised constant time. */
  alloc(value: T): number {
    const slot = this.used.findNextZero(this.hint);
    if (slot + this.firstId >= this.limit) return -1;
    this.take(slot, value);
    this.hint = slot + 1;
    return slot + this.firstId;
  }

  /** Gives `value` the number `id`, which must be in range and free. @throws KernelBug where it is not */
  set(id: number, value: T): void {
    const slot = id - this.firstId;
    bugOn(slot < 0 || id >= this.limit, 'id table: number out of range');
    bugOn(this.has(id), 'id table: number already taken');
    this.take(slot, value);
    if (slot === this.hint) this.hint = slot + 1;
  }

  /** Returns the object with number `id`, undefined where there is none. */
  get(id: number): T | undefined {
    const slot = id - this.firstId;
    return slot >= 0 && slot < this.slots.length ? this.slots[slot] : undefined;
  }

  /** Tells whether `id` is taken. */
  has(id: number): boolean {
    const slot = id - this.firstId;
    return slot >= 0 && slot < this.used.size && this.used.test(slot);
  }

  /** Takes the object from its number and returns it. @throws KernelBug where the number is free */
  free(id: number): T {
    bugOn(!this.has(id), 'id table: freed a number that is not taken');
    const slot = id - this.firstId;
    const value = this.slots[slot] as T;
    this.slots[slot] = undefined;
    this.used.clear(slot);
    this.nrTaken--;
    if (slot < this.hint) this.hint = slot;
    return value;
  }

  /** Calls `visit` for each object, lowest number first. */
  forEach(visit: (value: T, id: number) => void): void {
    const used = this.used;
    for (let slot = used.findNextSet(0); slot < used.size; slot = used.findNextSet(slot + 1)) {
      visit(this.slots[slot] as T, slot + this.firstId);
    }
  }

  private take(slot: number, value: T): void {
    while (this.slots.length <= slot) this.slots.push(undefined);
    if (slot >= this.used.size) {
      const size = Math.max(this.used.size * 2, slot + 1);
      const words = new Uint32Array(Math.ceil(size / 32));
      words.set(this.used.words);
      this.used = new Bitmap(size, words);
    }
    this.used.set(slot);
    this.slots[slot] = value;
    this.nrTaken++;
  }
}
