import { bugOn } from './assert.ts';
import { Bitmap } from './bitmap.ts';
import { growColumn } from './columns.ts';

/** What a tracepoint is called and what its up to four numbers mean. */
export interface TraceEvent {
  readonly id: number;
  readonly name: string;
  readonly fields: readonly string[];
}

/** One event as it was recorded. */
export interface TraceRecord {
  readonly name: string;
  /** Nanoseconds of the clock handed in, 0 without one. */
  readonly time: number;
  readonly fields: Readonly<Record<string, number>>;
}

/** Numbers an event can carry. */
export const TRACE_MAX_FIELDS = 4;

/** Whose hot paths go another way while anything is traced, rather than ask each time. @linux include/linux/jump_label.h:static_key */
export interface TraceUser {
  /** The first event was switched on, or the last one off. */
  traceSwitched(enabled: boolean): void;
}

const ROW = 2 + TRACE_MAX_FIELDS; // time, event, a, b, c, d

/**
 * A ring of typed trace events, with a switch for each event.
 *
 * A tracepoint is `if (trace.enabled) trace.emit(MM_PAGE_ALLOC, pfn, order, gfp)`: one branch that is always predicted while
 * tracing is off. In the hottest code it is `trace.enabled !== false`, as V8 tests a field for truth in more instructions. When the ring is full the oldest record gives way and is counted as dropped.
 *
 *     written - dropped === length <= capacity
 *
 * @linux kernel/trace/ring_buffer.c:ring_buffer_write
 */
export class TraceRing {
  /** True while at least one event is switched on. */
  enabled = false;
  /** Records the ring can hold. */
  readonly capacity: number;

  private readonly clock: { readonly now: number } | undefined;
  private readonly defined: TraceEvent[] = [];
  private readonly ids = new Map<string, number>();
  private on = new Bitmap(64);
  private nrOn = 0;
  private readonly users: TraceUser[] = [];
  /** Grows up to capacity * ROW, so that a ring nobody uses costs nothing. */
  private rows = new Float64Array(0);
  private nextRow = 0;
  private nrWritten = 0;
  private cleared = 0;

  /** Makes a ring of `capacity` records that takes the time of each from `clock`. */
  constructor(capacity = 65_536, clock?: { readonly now: number }) {
    bugOn(capacity < 1, 'trace ring: capacity below 1');
    this.capacity = capacity;
    this.clock = clock;
  }

  /**
   * Registers an event, switched off, and returns its id. Defining a name again with the same fields returns the id it
   * has.
   *
   * @throws KernelBug when the name is taken by an event with other fields, or there are more than four fields
   */
  define(name: string, fields: readonly string[]): number {
    bugOn(fields.length > TRACE_MAX_FIELDS, 'trace ring: more than four fields');
    const known = this.ids.get(name);
    if (known !== undefined) {
      bugOn(this.defined[known].fields.join() !== fields.join(), 'trace ring: event defined twice with other fields');
      return known;
    }
    const id = this.defined.length;
    this.defined.push({ id, name, fields: [...fields] });
    this.ids.set(name, id);
    if (id >= this.on.size) this.on = new Bitmap(this.on.size * 2, growColumn(this.on.words, this.on.words.length * 2));
    return id;
  }

  /** Tells `user` from now on when tracing begins and ends. */
  addUser(user: TraceUser): void {
    this.users.push(user);
  }

  /** The events defined so far, by id. */
  get events(): readonly TraceEvent[] {
    return this.defined;
  }

  /** Switches an event on by name; returns false where no event has it. Without a name, all events. */
  enable(name?: string): boolean {
    return this.switch(name, true);
  }

  /** Switches an event off by name; returns false where no event has it. Without a name, all events. */
  disable(name?: string): boolean {
    return this.switch(name, false);
  }

  /** Tells whether the event `id` is switched on. */
  isEnabled(id: number): boolean {
    return this.on.test(id);
  }

  /** Records an event that is switched on; does nothing for one that is off. */
  emit(event: number, a = 0, b = 0, c = 0, d = 0): void {
    if (!this.on.test(event)) return;
    const at = this.nextRow * ROW;
    if (at >= this.rows.length) this.grow();
    const rows = this.rows;
    rows[at] = this.clock === undefined ? 0 : this.clock.now;
    rows[at + 1] = event;
    rows[at + 2] = a;
    rows[at + 3] = b;
    rows[at + 4] = c;
    rows[at + 5] = d;
    this.nrWritten++;
    this.nextRow = this.nextRow + 1 === this.capacity ? 0 : this.nextRow + 1;
  }

  /** Records in the ring. */
  get length(): number {
    return Math.min(this.nrWritten - this.cleared, this.capacity);
  }

  /** Records that gave way to newer ones since the last {@link clear}. */
  get dropped(): number {
    return this.nrWritten - this.cleared - this.length;
  }

  /** Records ever written. */
  get written(): number {
    return this.nrWritten;
  }

  /** Empties the ring and forgets what was dropped; the switches stay as they are. */
  clear(): void {
    this.cleared = this.nrWritten;
    this.nextRow = 0;
  }

  /** Returns record `index`, 0 the oldest in the ring, with its numbers under the names of its fields. */
  at(index: number): TraceRecord | undefined {
    const { length } = this;
    if (index < 0 || index >= length) return undefined;
    const row = (this.nextRow - length + index + this.capacity) % this.capacity;
    const rows = this.rows;
    const event = this.defined[rows[row * ROW + 1]];
    const fields: Record<string, number> = {};
    for (let i = 0; i < event.fields.length; i++) fields[event.fields[i]] = rows[row * ROW + 2 + i]!;
    return { name: event.name, time: rows[row * ROW], fields };
  }

  /** Yields the records from the oldest. Nothing may be recorded meanwhile. */
  *[Symbol.iterator](): IterableIterator<TraceRecord> {
    for (let index = 0; index < this.length; index++) yield this.at(index)!;
  }

  private switch(name: string | undefined, on: boolean): boolean {
    if (name === undefined) {
      for (const { id } of this.defined) this.set(id, on);
      return true;
    }
    const id = this.ids.get(name);
    if (id === undefined) return false;
    this.set(id, on);
    return true;
  }

  private set(id: number, on: boolean): void {
    if (this.on.test(id) === on) return;
    if (on) this.on.set(id);
    else this.on.clear(id);
    this.nrOn += on ? 1 : -1;
    const enabled = this.nrOn > 0;
    if (this.enabled === enabled) return;
    this.enabled = enabled;
    for (const user of this.users) user.traceSwitched(enabled);
  }

  private grow(): void {
    const rows = Math.min(this.capacity, Math.max(64, (this.rows.length / ROW) * 2));
    const grown = new Float64Array(rows * ROW);
    grown.set(this.rows);
    this.rows = grown;
  }
}
