/**
 * From the addresses of the recorded address space to those of the one that stands for it. Each range of recorded addresses
 * that is mapped leads to one here, a fixed distance away.
 */

/** Addresses from `start` to before `end` stand `distance` bytes lower than here. */
export interface Segment {
  readonly start: number;
  readonly end: number;
  readonly distance: number;
}

export class Relocation {
  /** Disjoint, in ascending order. */
  #segments: Segment[] = [];

  /** A copy, as `fork` makes one. */
  copy(): Relocation {
    const copy = new Relocation();
    copy.#segments = [...this.#segments];
    return copy;
  }

  clear(): void {
    this.#segments = [];
  }

  /** From now on [start, start + length) leads to `to`. */
  set(start: number, length: number, to: number): void {
    this.remove(start, length);
    const at = this.#firstEndingAbove(start);
    this.#segments.splice(at, 0, { start, end: start + length, distance: to - start });
  }

  /** Nothing is known any more of [start, start + length). */
  remove(start: number, length: number): void {
    const end = start + length;
    const from = this.#firstEndingAbove(start);
    let to = from;
    while (to < this.#segments.length && this.#segments[to]!.start < end) to++;
    const first = this.#segments[from];
    const last = this.#segments[to - 1];
    if (to === from || first === undefined || last === undefined) return;
    const left: Segment[] = [];
    if (first.start < start) left.push({ ...first, end: start });
    if (last.end > end) left.push({ ...last, start: end });
    this.#segments.splice(from, to - from, ...left);
  }

  /** What one address leads to; `null` where it is not known. */
  find(address: number): number | null {
    const segment = this.#segments[this.#firstEndingAbove(address)];
    return segment === undefined || segment.start > address ? null : address + segment.distance;
  }

  /** [start, start + length) in pieces that stay together: those that are known with where they lead to, the others with `null`. */
  pieces(start: number, length: number): { readonly start: number; readonly length: number; readonly to: number | null }[] {
    const end = start + length;
    const pieces: { start: number; length: number; to: number | null }[] = [];
    let at = start;
    for (let index = this.#firstEndingAbove(start); at < end; index++) {
      const segment = this.#segments[index];
      const gapEnd = Math.min(end, segment?.start ?? end);
      if (at < gapEnd) {
        pieces.push({ start: at, length: gapEnd - at, to: null });
        at = gapEnd;
      }
      if (segment === undefined || at >= end) break;
      const stop = Math.min(end, segment.end);
      const last = pieces.at(-1);
      const to = at + segment.distance;
      // Neighbours that were mapped one by one but lie the same distance away are one range.
      if (last !== undefined && last.to !== null && last.to + last.length === to) last.length += stop - at;
      else pieces.push({ start: at, length: stop - at, to });
      at = stop;
    }
    return pieces;
  }

  #firstEndingAbove(address: number): number {
    let low = 0;
    let high = this.#segments.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#segments[middle]!.end > address) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
