/**
 * Who allocated each page: noted while it is allocated, and kept when it is freed, until it is allocated again.
 *
 * @linux mm/page_owner.c
 */
import type { Pfn } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { PG_TAIL, blockOrder } from './page.ts';
import type { PageFrames } from './page.ts';
import type { Zone } from './zone.ts';

/** Who asks for pages. */
export interface PageOwnerContext {
  readonly pid: number;
  readonly tgid: number;
  readonly comm: string;
  /** Functions that are being called, the innermost first. */
  readonly trace: readonly string[];
}

/** A block and who allocated it. @linux mm/page_owner.c:page_owner */
export interface PageOwnerEntry extends PageOwnerContext {
  readonly pfn: Pfn;
  readonly order: number;
  readonly gfp: number;
  /** When it was allocated, and when its first frame was last freed before that; in nanoseconds, 0 for never. */
  readonly ts: number;
  readonly freeTs: number;
}

/** The notes of a machine. */
export class PageOwner {
  readonly #frames: PageFrames;
  readonly #clock: { readonly now: number };
  /** Tells who asks; kernel code on nobody's behalf until the kernel sets it. */
  context: () => PageOwnerContext = () => ({ pid: 0, tgid: 0, comm: 'swapper', trace: [] });
  /** Of blocks that are allocated, by their first frame. */
  readonly #entries = new Map<Pfn, PageOwnerEntry>();
  /** When a frame was last freed. */
  readonly #freed = new Map<Pfn, number>();

  constructor(frames: PageFrames, clock: { readonly now: number }) {
    this.#frames = frames;
    this.#clock = clock;
  }

  /** Blocks that are noted. */
  get size(): number {
    return this.#entries.size;
  }

  /** Notes a block. @linux mm/page_owner.c:__set_page_owner */
  set(pfn: Pfn, order: number, gfp: number): void {
    const ts = this.#clock.now;
    this.#entries.set(pfn, { pfn, order, gfp, ts, freeTs: this.#freed.get(pfn) ?? 0, ...this.context() });
  }

  /** Forgets a block that is being freed. @linux mm/page_owner.c:__reset_page_owner */
  reset(pfn: Pfn, order: number): void {
    this.#entries.delete(pfn);
    for (let frame = pfn; frame < pfn + (1 << order); frame++) this.#freed.set(frame, this.#clock.now);
  }

  /** Of a block all but the first frame was freed. */
  keepFirst(pfn: Pfn): void {
    const entry = this.#entries.get(pfn);
    if (entry !== undefined) this.#entries.set(pfn, { ...entry, order: 0 });
  }

  /** What is in a block moved to another: who asked for the one has the other. @linux mm/page_owner.c:__folio_copy_owner */
  copy(from: Pfn, to: Pfn): void {
    const entry = this.#entries.get(from);
    const there = this.#entries.get(to);
    if (entry !== undefined && there !== undefined) this.#entries.set(to, { ...entry, pfn: to, order: there.order });
  }

  /** A block became smaller ones, each its first one's. @linux mm/page_owner.c:__split_page_owner */
  split(pfn: Pfn, oldOrder: number, newOrder: number): void {
    const entry = this.#entries.get(pfn);
    if (entry === undefined) return;
    for (let at = pfn; at < pfn + (1 << oldOrder); at += 1 << newOrder) this.#entries.set(at, { ...entry, pfn: at, order: newOrder });
  }

  /** Who has a frame; `undefined` where it is not allocated. */
  of(pfn: Pfn): PageOwnerEntry | undefined {
    const { flags, next } = this.#frames;
    return this.#entries.get((flags[pfn] & PG_TAIL) !== 0 ? next[pfn] : pfn);
  }

  /** All blocks, by address. */
  entries(): PageOwnerEntry[] {
    return [...this.#entries.values()].sort((a, b) => a.pfn - b.pfn);
  }

  /** Checks that what is noted is allocated, with the order it was noted with, and the reverse. @throws KernelBug */
  validate(zones: readonly Zone[]): void {
    const { flags, refcount } = this.#frames;
    for (const { pfn, order } of this.#entries.values()) {
      bugOn(refcount[pfn] <= 0, `page_owner: frame ${pfn} is noted and not allocated`);
      bugOn(blockOrder(this.#frames, pfn) !== order, `page_owner: frame ${pfn} is noted with order ${order}`);
    }
    for (const zone of zones) {
      for (const { start, end } of zone.touchedRanges()) {
        for (let pfn = start; pfn < end; pfn++) {
          if (refcount[pfn] > 0 && (flags[pfn] & PG_TAIL) === 0 && !this.#entries.has(pfn)) bugOn(true, `page_owner: frame ${pfn} is allocated and not noted`);
        }
      }
    }
  }
}
