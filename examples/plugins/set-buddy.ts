/**
 * A page allocator of one's own: the buddy system as the textbook draws it, a set of free blocks for each order and migrate type, and
 * no lists, columns or stealing of pageblocks. Each request looks in its own type first, then in all others. Memory that nobody
 * asked for yet is a few ranges, so that a large machine boots as fast as a small one.
 *
 *     boot({ memory: '1G' }, { pageAllocator: setBuddy })
 */
import { bugOn } from '@pagelab/lib';
import {
  ALLOC_CMA, ALLOC_HIGHATOMIC, MAX_PAGE_ORDER, MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_MOVABLE, MIGRATE_TYPES, NR_PAGE_ORDERS,
} from '@pagelab/mm-core';
import type { FrameRange, PageAllocator, PageAllocatorContext, PageAllocatorFactory } from '@pagelab/mm-core';

/** Frames of the largest block. */
const CHUNK = 1 << MAX_PAGE_ORDER;

class SetBuddy implements PageAllocator {
  readonly name = 'set-buddy';
  nrFree = 0;
  readonly #context: PageAllocatorContext;
  /** Row `order * MIGRATE_TYPES + type`. */
  readonly #free = Array.from({ length: NR_PAGE_ORDERS * MIGRATE_TYPES }, () => new Set<number>());
  /** Whole chunks of the largest order that were never handed out, ascending. */
  #fresh: FrameRange[] = [];

  constructor(context: PageAllocatorContext) {
    this.#context = context;
  }

  addRange(start: number, end: number): void {
    const first = Math.min(end, Math.ceil(start / CHUNK) * CHUNK);
    const last = Math.max(first, Math.floor(end / CHUNK) * CHUNK);
    this.#addFrames(start, first);
    this.#addFrames(last, end);
    if (first === last) return;
    this.#fresh = [...this.#fresh, { start: first, end: last }].sort((one, other) => one.start - other.start);
    this.nrFree += last - first;
  }

  alloc(order: number, migratetype: number, allocFlags: number): number {
    const pfn = this.#find(order, migratetype, allocFlags);
    const [range] = this.#fresh;
    if (pfn >= 0 || range === undefined) return pfn;
    this.#adopt(range.start);
    return this.alloc(order, migratetype, allocFlags);
  }

  #find(order: number, migratetype: number, allocFlags: number): number {
    for (const type of this.#typesFor(migratetype, allocFlags)) {
      for (let from = order; from < NR_PAGE_ORDERS; from++) {
        const [pfn] = this.#blocks(from, type);
        if (pfn === undefined) continue;
        if (type !== migratetype) this.#context.onFallback(allocFlags);
        this.#take(pfn, from, type);
        this.#giveRest(pfn, from, pfn, order, type);
        return pfn;
      }
    }
    return -1;
  }

  free(pfn: number, order: number, migratetype: number): void {
    let head = pfn;
    let size = order;
    for (; size < MAX_PAGE_ORDER; size++) {
      const buddy = head ^ (1 << size);
      if (!this.#blocks(size, migratetype).has(buddy)) break;
      this.#take(buddy, size, migratetype);
      head = Math.min(head, buddy);
    }
    this.#blocks(size, migratetype).add(head);
    this.nrFree += 1 << size;
  }

  takeAt(pfn: number, order: number): boolean {
    this.#adopt(pfn);
    for (let from = order; from < NR_PAGE_ORDERS; from++) {
      const head = pfn - (pfn % (1 << from));
      for (let type = 0; type < MIGRATE_TYPES; type++) {
        if (!this.#blocks(from, type).has(head)) continue;
        this.#take(head, from, type);
        this.#giveRest(head, from, pfn, order, type);
        return true;
      }
    }
    return false;
  }

  hasFree(order: number, types: number): boolean {
    for (let type = 0; type < MIGRATE_TYPES; type++) {
      if ((types & (1 << type)) === 0) continue;
      for (let from = order; from < NR_PAGE_ORDERS; from++) if (this.nrFreeBlocks(from, type) > 0) return true;
    }
    return false;
  }

  nrFreeBlocks(order: number, migratetype: number): number {
    const fresh = order === MAX_PAGE_ORDER && migratetype === MIGRATE_MOVABLE ? this.#fresh.reduce((chunks, { start, end }) => chunks + (end - start) / CHUNK, 0) : 0;
    return this.#blocks(order, migratetype).size + fresh;
  }

  nrFreeOfType(migratetype: number): number {
    let pages = 0;
    for (let order = 0; order < NR_PAGE_ORDERS; order++) pages += this.nrFreeBlocks(order, migratetype) * 2 ** order;
    return pages;
  }

  moveBlock(start: number, order: number, from: number, to: number): number {
    const end = start + (1 << order);
    for (let pfn = start; pfn < end; pfn += CHUNK) this.#adopt(pfn);
    // A larger block that the range is a part of comes apart.
    for (let size = order + 1; size < NR_PAGE_ORDERS; size++) {
      const head = start - (start % (1 << size));
      if (!this.#blocks(size, from).has(head)) continue;
      this.#take(head, size, from);
      this.#giveRest(head, size, start, order, from);
      this.free(start, order, to);
      return 1 << order;
    }
    let pages = 0;
    for (let size = 0; size <= order; size++) {
      for (const pfn of [...this.#blocks(size, from)]) {
        if (pfn < start || pfn >= end) continue;
        this.#take(pfn, size, from);
        this.free(pfn, size, to);
        pages += 1 << size;
      }
    }
    return pages;
  }

  forEachFree(visit: (pfn: number, order: number, migratetype: number) => void): void {
    this.#free.forEach((blocks, row) => blocks.forEach((pfn) => visit(pfn, Math.floor(row / MIGRATE_TYPES), row % MIGRATE_TYPES)));
  }

  untouched(): readonly FrameRange[] {
    return this.#fresh;
  }

  validate(): void {
    let pages = this.#fresh.reduce((sum, { start, end }) => sum + end - start, 0);
    this.forEachFree((pfn, order) => {
      bugOn(pfn % (1 << order) !== 0, `set buddy: block ${pfn} of order ${order} is not aligned`);
      pages += 1 << order;
    });
    bugOn(pages !== this.nrFree, `set buddy: ${pages} free pages, but ${this.nrFree} counted`);
  }

  /** Adds frames as the largest blocks that they make, each of the type of its pageblock. */
  #addFrames(start: number, end: number): void {
    const { blockTypes, pageblockOrder } = this.#context;
    for (let pfn = start; pfn < end; ) {
      let order = 0;
      while (order < pageblockOrder && pfn % (2 << order) === 0 && pfn + (2 << order) <= end) order++;
      this.free(pfn, order, blockTypes[pfn >>> pageblockOrder]!);
      pfn += 1 << order;
    }
  }

  /** A fresh chunk becomes blocks. */
  #adopt(pfn: number): void {
    const range = this.#fresh.find(({ start, end }) => pfn >= start && pfn < end);
    if (range === undefined) return;
    const start = pfn - (pfn % CHUNK);
    const rest = [{ start: range.start, end: start }, { start: start + CHUNK, end: range.end }].filter((part) => part.start < part.end);
    this.#fresh = this.#fresh.flatMap((other) => (other === range ? rest : [other]));
    this.nrFree -= CHUNK;
    this.#addFrames(start, start + CHUNK);
  }

  #blocks(order: number, type: number): Set<number> {
    return this.#free[order * MIGRATE_TYPES + type]!;
  }

  #take(pfn: number, order: number, type: number): void {
    this.#blocks(order, type).delete(pfn);
    this.nrFree -= 1 << order;
  }

  /** Gives back what of a block lies beside the part that is used. */
  #giveRest(head: number, from: number, pfn: number, order: number, type: number): void {
    let kept = head;
    for (let size = from - 1; size >= order; size--) {
      const upper = kept + (1 << size);
      const other = pfn >= upper ? kept : upper;
      if (pfn >= upper) kept = upper;
      this.#blocks(size, type).add(other);
      this.nrFree += 1 << size;
    }
  }

  /** Types that may serve a request, its own first. */
  #typesFor(migratetype: number, allocFlags: number): number[] {
    const types = [migratetype];
    for (let type = 0; type < MIGRATE_TYPES; type++) {
      if (type === migratetype || type === MIGRATE_ISOLATE) continue;
      if (type === MIGRATE_HIGHATOMIC && (allocFlags & ALLOC_HIGHATOMIC) === 0) continue;
      if (type === MIGRATE_CMA && (allocFlags & ALLOC_CMA) === 0) continue;
      types.push(type);
    }
    return types;
  }
}

export const setBuddy: PageAllocatorFactory = { name: 'set-buddy', create: (context) => new SetBuddy(context) };
