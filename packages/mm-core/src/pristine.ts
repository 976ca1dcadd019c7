/**
 * Memory that was never handed out, as a few ranges: booting writes nothing down for each frame, however many there are.
 */
import { bugOn } from '@pagelab/lib';

/** Ranges of units: chunks of memory of one size, counted from 0. */
export class PristineRanges {
  /** Units in all ranges. */
  count = 0;
  /** The lowest unit, `Infinity` where there is none. */
  first = Infinity;

  /** Ascending, never touching. */
  private readonly starts: number[] = [];
  private readonly ends: number[] = [];

  /** Adds `[start, end)`. @throws KernelBug where a unit of it is there already */
  add(start: number, end: number): void {
    const { starts, ends } = this;
    if (start >= end) return;
    const after = starts.findIndex((other) => other >= start);
    const at = after < 0 ? starts.length : after;
    bugOn((at > 0 && ends[at - 1] > start) || (at < starts.length && starts[at] < end), 'page allocator: memory given twice');
    const joinsBefore = at > 0 && ends[at - 1] === start;
    const joinsAfter = at < starts.length && starts[at] === end;
    const from = joinsBefore ? starts[at - 1] : start;
    const to = joinsAfter ? ends[at] : end;
    starts.splice(joinsBefore ? at - 1 : at, Number(joinsBefore) + Number(joinsAfter), from);
    ends.splice(joinsBefore ? at - 1 : at, Number(joinsBefore) + Number(joinsAfter), to);
    this.count += end - start;
    this.first = starts[0];
  }

  /** Takes a unit out. @returns whether it was there */
  remove(unit: number): boolean {
    const { starts, ends } = this;
    const i = this.rangeOf(unit);
    if (i < 0) return false;
    const end = ends[i];
    if (starts[i] === unit) {
      starts[i] = unit + 1;
      if (starts[i] === end) {
        starts.splice(i, 1);
        ends.splice(i, 1);
      }
    } else {
      ends[i] = unit;
      if (unit + 1 < end) {
        starts.splice(i + 1, 0, unit + 1);
        ends.splice(i + 1, 0, end);
      }
    }
    this.count--;
    this.first = starts.length > 0 ? starts[0] : Infinity;
    return true;
  }

  has(unit: number): boolean {
    return this.rangeOf(unit) >= 0;
  }

  /** One past the last unit of the range that holds `unit`; `unit` itself where none does. */
  skip(unit: number): number {
    const i = this.rangeOf(unit);
    return i < 0 ? unit : this.ends[i];
  }

  /** Starts and ends of the ranges, ascending. */
  ranges(): (readonly [number, number])[] {
    return this.starts.map((start, i) => [start, this.ends[i]]);
  }

  private rangeOf(unit: number): number {
    const { starts, ends } = this;
    for (let i = 0; i < starts.length; i++) if (unit >= starts[i] && unit < ends[i]) return i;
    return -1;
  }
}
