/**
 * What page allocators have in common that know free memory by bits and not by lists.
 *
 * Blocks are not kept here: which there are, and of which order, is worked out from the bits when somebody asks, as the
 * largest blocks that free memory can be seen as. Pageblocks of the types that not everybody may allocate from are kept
 * aside (`set-apart.ts`); the allocator itself deals with *ordinary* memory, and is free to heed or to ignore its types.
 */
import { bugOn } from '@pagelab/lib';
import type { Pfn } from '@pagelab/hw';
import { ALLOC_CMA, ALLOC_HIGHATOMIC, ALLOC_NON_BLOCK, ALLOC_OOM } from './alloc-flags.ts';
import { MIGRATE_CMA, MIGRATE_HIGHATOMIC, MIGRATE_MOVABLE, MIGRATE_PCPTYPES, MIGRATE_TYPES } from './migratetype.ts';
import { MAX_PAGE_ORDER, NR_PAGE_ORDERS } from './page.ts';
import type { FrameRange, PageAllocator, PageAllocatorContext } from './page-allocator.ts';
import { PART_ORDER, PART_PAGES, SetApart, isSetApart } from './set-apart.ts';
import type { BlockFrames } from './set-apart.ts';

/** Eight movable pageblocks, as one number. */
const [EIGHT_MOVABLE] = new Float64Array(new Uint8Array(8).fill(MIGRATE_MOVABLE).buffer);
const ORDINARY_TYPES = (1 << MIGRATE_PCPTYPES) - 1;

export abstract class BitfieldAllocator implements PageAllocator {
  abstract readonly name: string;
  /** Free pages of ordinary memory. */
  protected abstract readonly nrFreeOrdinary: number;

  protected readonly startPfn: Pfn;
  protected readonly endPfn: Pfn;
  protected readonly blockTypes: Uint8Array;
  protected readonly pageblockOrder: number;
  private readonly apart = new SetApart();
  /** Free blocks, row `order * MIGRATE_TYPES + type`, as long as nothing has changed since they were counted. */
  private readonly counts = new Int32Array(NR_PAGE_ORDERS * MIGRATE_TYPES);
  private counted = false;

  constructor(context: PageAllocatorContext) {
    this.startPfn = context.startPfn;
    this.endPfn = context.endPfn;
    this.blockTypes = context.blockTypes;
    this.pageblockOrder = context.pageblockOrder;
  }

  get nrFree(): number {
    return this.nrFreeOrdinary + this.apart.nrFree;
  }

  addRange(start: Pfn, end: Pfn): void {
    this.counted = false;
    let from = start;
    if (this.apart.size > 0) {
      for (let pfn = start; pfn < end; pfn = (pfn & -PART_PAGES) + PART_PAGES) {
        if (!this.apart.has(pfn)) continue;
        const to = Math.min(end, (pfn & -PART_PAGES) + PART_PAGES);
        if (from < pfn) this.addOrdinary(from, pfn);
        this.apart.addFrames(pfn, to);
        from = to;
      }
    }
    if (from < end) this.addOrdinary(from, end);
    if (!this.hasSetApart(start, end)) return;
    for (let pfn = start & -PART_PAGES; pfn < end; pfn += PART_PAGES) {
      const type = this.blockTypes[pfn >>> this.pageblockOrder];
      if (isSetApart(type) && !this.apart.has(pfn)) this.movePart(pfn, type);
    }
  }

  alloc(order: number, migratetype: number, allocFlags: number): Pfn {
    const pfn =
      this.apart.size === 0 && migratetype < MIGRATE_PCPTYPES
        ? this.take(order, migratetype, allocFlags)
        : this.takeByType(order, migratetype, allocFlags);
    if (pfn >= 0) this.counted = false;
    return pfn;
  }

  free(pfn: Pfn, order: number, migratetype: number, _toTail: boolean): void {
    this.counted = false;
    if (this.apart.size > 0 || migratetype >= MIGRATE_PCPTYPES) this.freeByType(pfn, order);
    else this.put(pfn, order);
  }

  takeAt(pfn: Pfn, order: number): boolean {
    if (order > this.pageblockOrder || pfn < this.startPfn || pfn + (1 << order) > this.endPfn) return false;
    this.counted = false;
    if (order > PART_ORDER) {
      if (!this.takeAt(pfn, PART_ORDER)) return false;
      if (this.takeAt(pfn + PART_PAGES, PART_ORDER)) return true;
      this.freeByType(pfn, PART_ORDER);
      return false;
    }
    return this.apart.has(pfn) ? this.apart.takeAt(pfn, order) : this.takeOrdinaryAt(pfn, order);
  }

  hasFree(order: number, types: number): boolean {
    const ordinary = types & ORDINARY_TYPES;
    if (ordinary === ORDINARY_TYPES) {
      if (this.hasOrdinary(order)) return true;
    } else if (ordinary !== 0) {
      for (let type = 0; type < MIGRATE_PCPTYPES; type++) {
        if ((ordinary & (1 << type)) === 0) continue;
        for (let o = order; o < NR_PAGE_ORDERS; o++) if (this.nrFreeBlocks(o, type) > 0) return true;
      }
    }
    if (this.apart.size === 0) return false;
    for (let type = MIGRATE_PCPTYPES; type < MIGRATE_TYPES; type++) {
      if ((types & (1 << type)) !== 0 && this.apart.hasFree(order, type)) return true;
    }
    return false;
  }

  /** Costs a pass over the bits of all memory ever used, where something has changed since the last time. */
  nrFreeBlocks(order: number, migratetype: number): number {
    if (isSetApart(migratetype) && this.apart.nrFreeOfType[migratetype] === 0) return 0;
    if (!this.counted) this.count();
    return this.counts[order * MIGRATE_TYPES + migratetype];
  }

  /** Costs what {@link nrFreeBlocks} costs, but for the types that are set apart. */
  nrFreeOfType(migratetype: number): number {
    if (isSetApart(migratetype)) return this.apart.nrFreeOfType[migratetype];
    let pages = 0;
    for (let order = 0; order < NR_PAGE_ORDERS; order++) pages += this.nrFreeBlocks(order, migratetype) * (1 << order);
    return pages;
  }

  moveBlock(start: Pfn, order: number, _from: number, to: number): number {
    let pages = 0;
    for (let part = start; part < start + (1 << order); part += PART_PAGES) pages += this.movePart(part, to);
    return pages;
  }

  forEachFree(visit: (pfn: Pfn, order: number, migratetype: number) => void): void {
    this.forEachOrdinary((pfn, order) => visit(pfn, order, this.typeOf(pfn)));
    this.apart.forEachFree(visit);
  }

  validate(): void {
    this.validateOrdinary();
    this.apart.validate(this.blockTypes, this.pageblockOrder);
    this.forEachOrdinary((pfn) => bugOn(this.apart.has(pfn), `${this.name}: frame ${pfn} is free and set apart`));
  }

  abstract untouched(): readonly FrameRange[];

  // ---- ordinary memory

  protected abstract addOrdinary(start: Pfn, end: Pfn): void;
  /** @returns the first frame of a block, or −1 */
  protected abstract take(order: number, migratetype: number, allocFlags: number): Pfn;
  /** Takes a given block of at most a part (`set-apart.ts`). @returns whether all of it was free */
  protected abstract takeOrdinaryAt(pfn: Pfn, order: number): boolean;
  protected abstract put(pfn: Pfn, order: number): void;
  protected abstract hasOrdinary(order: number): boolean;
  /** Visits the free blocks outside of {@link untouched}, the largest that there are. */
  protected abstract forEachOrdinary(visit: (pfn: Pfn, order: number) => void): void;
  /** Counts what that visits, in row `order * MIGRATE_TYPES + type`. */
  protected abstract countOrdinary(counts: Int32Array): void;
  /** Gives the part at `start` away. */
  protected abstract detach(start: Pfn): BlockFrames;
  /** Takes it back. */
  protected abstract attach(start: Pfn, frames: BlockFrames): void;
  /** Free frames of the part at `start`; after this it is not untouched any more. */
  protected abstract freeInPart(start: Pfn): number;
  protected abstract validateOrdinary(): void;
  /** As what a block of ordinary memory counts. */
  protected abstract typeOf(pfn: Pfn): number;

  // ---- inside

  /** As {@link take}, where there are types that not everybody may have. @linux mm/page_alloc.c:__rmqueue */
  private takeByType(order: number, migratetype: number, allocFlags: number): Pfn {
    const { apart } = this;
    let pfn = -1;
    if ((allocFlags & ALLOC_HIGHATOMIC) !== 0) pfn = apart.alloc(order, MIGRATE_HIGHATOMIC);
    const cma = (allocFlags & ALLOC_CMA) !== 0;
    // Movable pages keep both kinds of memory in balance: what CMA lends is used before half of the rest is.
    if (pfn < 0 && cma && apart.nrFreeOfType[MIGRATE_CMA] > this.nrFree / 2) pfn = apart.alloc(order, MIGRATE_CMA);
    if (pfn < 0) pfn = isSetApart(migratetype) ? apart.alloc(order, migratetype) : this.take(order, migratetype, allocFlags);
    if (pfn < 0 && cma) pfn = apart.alloc(order, MIGRATE_CMA);
    // Failing an urgent page now is worse than failing an urgent block later.
    if (pfn < 0 && (allocFlags & (ALLOC_OOM | ALLOC_NON_BLOCK)) !== 0) pfn = apart.alloc(order, MIGRATE_HIGHATOMIC);
    return pfn;
  }

  /** Gives a block back part by part, each to where its type belongs. */
  private freeByType(pfn: Pfn, order: number): void {
    const part = Math.min(order, PART_ORDER);
    for (let at = pfn; at < pfn + (1 << order); at += 1 << part) {
      const type = this.blockTypes[at >>> this.pageblockOrder];
      if (isSetApart(type) && !this.apart.has(at)) this.movePart(at & -PART_PAGES, type);
      if (this.apart.has(at)) this.apart.free(at, part);
      else this.put(at, part);
    }
  }

  private movePart(start: Pfn, to: number): number {
    if (start >= this.endPfn || start < this.startPfn) return 0;
    this.counted = false;
    const apart = this.apart.remove(start);
    if (isSetApart(to)) return this.apart.add(start, to, apart ?? this.detach(start));
    if (apart !== undefined) this.attach(start, apart);
    return this.freeInPart(start);
  }

  /** Whether a pageblock of a range is to be set apart. Eight are looked at at once: at boot nearly all are movable. */
  private hasSetApart(start: Pfn, end: Pfn): boolean {
    const types = this.blockTypes.subarray(start >>> this.pageblockOrder, ((end - 1) >>> this.pageblockOrder) + 1);
    if (types.length < 64) return types.some(isSetApart);
    const head = -types.byteOffset & 7;
    const eights = new Float64Array(types.buffer, types.byteOffset + head, (types.length - head) >>> 3);
    if (types.subarray(0, head).some(isSetApart) || types.subarray(head + eights.length * 8).some(isSetApart)) return true;
    for (let i = 0; i < eights.length; i++) {
      if (eights[i] !== EIGHT_MOVABLE && types.subarray(head + i * 8, head + i * 8 + 8).some(isSetApart)) return true;
    }
    return false;
  }

  private count(): void {
    const { counts } = this;
    counts.fill(0);
    this.countOrdinary(counts);
    this.apart.forEachFree((_, order, type) => counts[order * MIGRATE_TYPES + type]++);
    for (const { start, end } of this.untouched()) counts[MAX_PAGE_ORDER * MIGRATE_TYPES + MIGRATE_MOVABLE] += (end - start) >>> MAX_PAGE_ORDER;
    this.counted = true;
  }
}
