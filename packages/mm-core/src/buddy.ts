/**
 * The buddy system.
 *
 * Free memory is kept as blocks of 2^order frames, one list for each order and migrate type. A block is split by halves
 * until it fits, and merges with its buddy (the block whose pfn differs in bit `order` only) when both are free.
 *
 *     sum over orders and types of (blocks on the list << order) === nrFree
 *
 * Memory that was never handed out stands at the end of the list of the largest movable blocks, in ascending order, as
 * a few ranges (*pristine* memory): booting does not write to its frames, and nothing here depends on how much there is.
 */
import { bugOn, lowestBit32 } from '@pagelab/lib';
import type { Pfn } from '@pagelab/hw';
import { ALLOC_HIGHATOMIC, ALLOC_CMA, ALLOC_NOFRAGMENT, ALLOC_NON_BLOCK, ALLOC_OOM } from './alloc-flags.ts';
import { FALLBACKS, shouldTryClaim } from './fallback.ts';
import {
  MIGRATE_CMA,
  MIGRATE_HIGHATOMIC,
  MIGRATE_MOVABLE,
  MIGRATE_PCPTYPES,
  MIGRATE_TYPES,
  isMergeable,
} from './migratetype.ts';
import { MAX_PAGE_ORDER, NR_PAGE_ORDERS, PG_BUDDY, PG_LRU } from './page.ts';
import type { FrameRange, FreeLists, PageAllocator, PageAllocatorContext, PageAllocatorFactory } from './page-allocator.ts';

const TOP_PAGES = 1 << MAX_PAGE_ORDER;
const NR_LISTS = NR_PAGE_ORDERS * MIGRATE_TYPES;
/** The list that ends in pristine memory. */
const PRISTINE_LIST = MAX_PAGE_ORDER * MIGRATE_TYPES + MIGRATE_MOVABLE;
/** Blocks that come after the pristine memory: what was put at the tail of {@link PRISTINE_LIST} since. */
const BACK_LIST = NR_LISTS;

/** Nothing to fall back to in this order. */
const NO_FALLBACK = -1;
/** This order is too small to take a whole pageblock over. */
const NOT_CLAIMABLE = -2;

class BuddyAllocator implements PageAllocator, FreeLists {
  readonly name = 'buddy';
  nrFree = 0;

  private readonly context: PageAllocatorContext;
  private readonly startPfn: Pfn;
  private readonly endPfn: Pfn;
  private readonly blockTypes: Uint8Array;
  private readonly pageblockOrder: number;
  private readonly pageblockPages: number;
  private readonly flags: Uint32Array;
  private readonly next: Int32Array;
  private readonly prev: Int32Array;
  private readonly orderOf: Int32Array;
  /** First and last block of each list, 0 where it is empty. Row `order * MIGRATE_TYPES + type`. */
  private readonly head = new Int32Array(NR_LISTS + 1);
  private readonly tail = new Int32Array(NR_LISTS + 1);
  /** Blocks on each list; that of {@link PRISTINE_LIST} counts pristine memory and the back list in. */
  private readonly count = new Int32Array(NR_LISTS);
  /** Free pages of each type. */
  private readonly pagesOfType = new Int32Array(MIGRATE_TYPES);
  /** Pristine memory: starts and ends, multiples of the largest block, ascending. */
  private readonly pristineStart: number[] = [];
  private readonly pristineEnd: number[] = [];

  constructor(context: PageAllocatorContext) {
    this.context = context;
    this.startPfn = context.startPfn;
    this.endPfn = context.endPfn;
    this.blockTypes = context.blockTypes;
    this.pageblockOrder = context.pageblockOrder;
    this.pageblockPages = 1 << context.pageblockOrder;
    const { flags, next, prev, private: orderOf } = context.frames;
    this.flags = flags;
    this.next = next;
    this.prev = prev;
    this.orderOf = orderOf;
  }

  /** @linux mm/memblock.c:__free_pages_memory */
  addRange(start: Pfn, end: Pfn): void {
    let pfn = start;
    while (pfn < end) {
      if (pfn % TOP_PAGES === 0 && end - pfn >= TOP_PAGES && this.blockTypes[pfn >>> this.pageblockOrder] === MIGRATE_MOVABLE) {
        const pages = end - pfn - ((end - pfn) % TOP_PAGES);
        this.addPristine(pfn, pfn + pages);
        pfn += pages;
        continue;
      }
      let order = Math.min(this.pageblockOrder, lowestBit32(pfn));
      while (pfn + (1 << order) > end) order--;
      this.free(pfn, order, this.blockTypes[pfn >>> this.pageblockOrder], true);
      pfn += 1 << order;
    }
  }

  alloc(order: number, migratetype: number, allocFlags: number): Pfn {
    if ((allocFlags & ALLOC_HIGHATOMIC) !== 0) {
      const reserved = this.smallest(order, MIGRATE_HIGHATOMIC);
      if (reserved >= 0) return reserved;
    }
    const pfn = this.rmqueue(order, migratetype, allocFlags);
    // Failing an urgent page now is worse than failing an urgent block later.
    if (pfn < 0 && (allocFlags & (ALLOC_OOM | ALLOC_NON_BLOCK)) !== 0) return this.smallest(order, MIGRATE_HIGHATOMIC);
    return pfn;
  }

  /** @linux mm/page_alloc.c:__free_one_page */
  free(freed: Pfn, freedOrder: number, migratetype: number, toTail: boolean): void {
    let pfn = freed;
    let order = freedOrder;
    this.nrFree += 1 << order;
    let buddy = pfn ^ (1 << order);
    while (order < MAX_PAGE_ORDER) {
      if (!this.isBuddy(buddy, order)) break;
      let type = migratetype;
      if (order >= this.pageblockOrder) {
        // Blocks as large as a pageblock may have different types. Those set apart stay apart.
        type = this.blockTypes[buddy >>> this.pageblockOrder];
        if (type !== migratetype && (!isMergeable(type) || !isMergeable(migratetype))) break;
      }
      this.unlink(buddy, order, type);
      if (type !== migratetype) this.setBlockTypes(buddy, order, migratetype);
      pfn &= buddy;
      order++;
      buddy = pfn ^ (1 << order);
    }
    if (toTail || this.mergeLikely(pfn, buddy, order)) this.linkTail(pfn, order, migratetype);
    else this.linkHead(pfn, order, migratetype);
  }

  /** @linux mm/page_isolation.c:__isolate_free_page */
  takeAt(pfn: Pfn, order: number): boolean {
    this.depristine(pfn);
    for (let current = order; current < NR_PAGE_ORDERS; current++) {
      let head = pfn & -(1 << current);
      if (!this.isBuddy(head, current)) continue;
      const type = this.blockTypes[head >>> this.pageblockOrder];
      this.unlink(head, current, type);
      this.nrFree -= 1 << order;
      for (let half = current - 1; half >= order; half--) {
        const upper = head + (1 << half);
        this.linkHead(pfn < upper ? upper : head, half, type);
        if (pfn >= upper) head = upper;
      }
      return true;
    }
    return false;
  }

  hasFree(order: number, types: number): boolean {
    const { count } = this;
    for (let o = order; o < NR_PAGE_ORDERS; o++) {
      for (let type = 0; type < MIGRATE_TYPES; type++) {
        if ((types & (1 << type)) !== 0 && count[o * MIGRATE_TYPES + type] > 0) return true;
      }
    }
    return false;
  }

  nrFreeBlocks(order: number, migratetype: number): number {
    return this.count[order * MIGRATE_TYPES + migratetype];
  }

  nrFreeOfType(migratetype: number): number {
    return this.pagesOfType[migratetype];
  }

  get freeLists(): FreeLists {
    return this;
  }

  search(order: number, migratetype: number, visit: (pfn: Pfn) => boolean): void {
    for (let pfn = this.head[order * MIGRATE_TYPES + migratetype]; pfn !== 0; pfn = this.next[pfn]) if (visit(pfn)) return;
  }

  searchFromEnd(order: number, migratetype: number, visit: (pfn: Pfn) => boolean): void {
    for (let pfn = this.tail[order * MIGRATE_TYPES + migratetype]; pfn !== 0; pfn = this.prev[pfn]) if (visit(pfn)) return;
  }

  makeFirst(order: number, migratetype: number, pfn: Pfn): void {
    const list = order * MIGRATE_TYPES + migratetype;
    bugOn(order >= MAX_PAGE_ORDER || this.orderOf[pfn] !== order, 'buddy: a block of another list is made its first');
    this.turn(list, this.prev[pfn], pfn);
  }

  makeLast(order: number, migratetype: number, pfn: Pfn): void {
    const list = order * MIGRATE_TYPES + migratetype;
    bugOn(order >= MAX_PAGE_ORDER || this.orderOf[pfn] !== order, 'buddy: a block of another list is made its last');
    this.turn(list, pfn, this.next[pfn]);
  }

  /** @linux mm/page_alloc.c:__move_freepages_block */
  moveBlock(start: Pfn, order: number, from: number, to: number): number {
    if (start >= this.endPfn || start < this.startPfn) return 0;
    this.depristine(start);
    const top = start & -TOP_PAGES;
    if (order === this.pageblockOrder && order < MAX_PAGE_ORDER && top >= this.startPfn && this.isBuddy(top, MAX_PAGE_ORDER)) {
      // Part of a block of two pageblocks: the halves get types of their own.
      const other = start ^ this.pageblockPages;
      this.unlink(top, MAX_PAGE_ORDER, from);
      this.linkTail(other, this.pageblockOrder, this.blockTypes[other >>> this.pageblockOrder]);
      this.linkTail(start, this.pageblockOrder, to);
      return this.pageblockPages;
    }
    const end = Math.min(start + (1 << order), this.endPfn);
    let pages = 0;
    for (let pfn = Math.max(start, this.startPfn); pfn < end; ) {
      if ((this.flags[pfn] & PG_BUDDY) === 0) {
        pfn++;
        continue;
      }
      const size = this.orderOf[pfn];
      this.unlink(pfn, size, from);
      this.linkTail(pfn, size, to);
      pages += 1 << size;
      pfn += 1 << size;
    }
    return pages;
  }

  forEachFree(visit: (pfn: Pfn, order: number, migratetype: number) => void): void {
    for (let list = 0; list < NR_LISTS; list++) {
      const type = list % MIGRATE_TYPES;
      const order = (list - type) / MIGRATE_TYPES;
      for (let pfn = this.head[list]; pfn !== 0; pfn = this.next[pfn]) visit(pfn, order, type);
    }
    for (let pfn = this.head[BACK_LIST]; pfn !== 0; pfn = this.next[pfn]) visit(pfn, MAX_PAGE_ORDER, MIGRATE_MOVABLE);
  }

  untouched(): readonly FrameRange[] {
    return this.pristineStart.map((start, i) => ({ start, end: this.pristineEnd[i] }));
  }

  validate(): void {
    const { next, prev, flags, orderOf, count } = this;
    const pages = new Float64Array(MIGRATE_TYPES);
    for (let list = 0; list <= NR_LISTS; list++) {
      const row = list === BACK_LIST ? PRISTINE_LIST : list;
      const type = row % MIGRATE_TYPES;
      const order = (row - type) / MIGRATE_TYPES;
      let blocks = 0;
      let before = 0;
      for (let pfn = this.head[list]; pfn !== 0; pfn = next[pfn]) {
        bugOn(prev[pfn] !== before, `buddy: frame ${pfn}: list is broken`);
        bugOn((flags[pfn] & PG_BUDDY) === 0, `buddy: frame ${pfn} is on a free list but not marked free`);
        bugOn(orderOf[pfn] !== order, `buddy: frame ${pfn} of order ${orderOf[pfn]} is on the list of order ${order}`);
        bugOn(this.blockTypes[pfn >>> this.pageblockOrder] !== type, `buddy: frame ${pfn} is on the list of another type`);
        bugOn(this.canMerge(pfn, order), `buddy: frame ${pfn} of order ${order} is not merged with its buddy`);
        before = pfn;
        blocks++;
        bugOn(blocks > count[row], 'buddy: more blocks on a list than counted');
      }
      bugOn(this.tail[list] !== before, 'buddy: the tail of a list is not its last block');
      if (list === PRISTINE_LIST) blocks += this.pristineBlocks();
      if (list === BACK_LIST) continue;
      if (list === PRISTINE_LIST) for (let pfn = this.head[BACK_LIST]; pfn !== 0; pfn = next[pfn]) blocks++;
      bugOn(blocks !== count[list], `buddy: ${blocks} blocks of order ${order}, type ${type}, but ${count[list]} counted`);
      pages[type] += blocks * (1 << order);
    }
    let sum = 0;
    for (let type = 0; type < MIGRATE_TYPES; type++) {
      bugOn(pages[type] !== this.pagesOfType[type], `buddy: ${pages[type]} free pages of type ${type}, but ${this.pagesOfType[type]} counted`);
      sum += pages[type];
    }
    bugOn(sum !== this.nrFree, `buddy: ${sum} free pages, but ${this.nrFree} counted`);
  }

  // ---- taking

  /** @linux mm/page_alloc.c:__rmqueue */
  private rmqueue(order: number, migratetype: number, allocFlags: number): Pfn {
    const cma = (allocFlags & ALLOC_CMA) !== 0;
    // Movable pages keep both kinds of memory in balance: what CMA lends is used before half of the rest is.
    if (cma && this.pagesOfType[MIGRATE_CMA] > this.nrFree / 2) {
      const lent = this.smallest(order, MIGRATE_CMA);
      if (lent >= 0) return lent;
    }
    let pfn = this.smallest(order, migratetype);
    if (pfn < 0 && cma) pfn = this.smallest(order, MIGRATE_CMA);
    if (pfn < 0) pfn = this.claim(order, migratetype, allocFlags);
    if (pfn < 0 && (allocFlags & ALLOC_NOFRAGMENT) === 0) pfn = this.steal(order, migratetype);
    return pfn;
  }

  /** @linux mm/page_alloc.c:__rmqueue_smallest */
  private smallest(order: number, migratetype: number): Pfn {
    const { count } = this;
    for (let current = order; current < NR_PAGE_ORDERS; current++) {
      if (count[current * MIGRATE_TYPES + migratetype] === 0) continue;
      const pfn = this.first(current, migratetype);
      this.take(pfn, order, current, migratetype);
      return pfn;
    }
    return -1;
  }

  /** Takes a whole pageblock of another type over, where enough of it suits. @linux mm/page_alloc.c:__rmqueue_claim */
  private claim(order: number, migratetype: number, allocFlags: number): Pfn {
    const lowest = order < this.pageblockOrder && (allocFlags & ALLOC_NOFRAGMENT) !== 0 ? this.pageblockOrder : order;
    // The largest block first: it has the most to claim.
    for (let current = MAX_PAGE_ORDER; current >= lowest; current--) {
      const type = this.findFallback(current, migratetype, true);
      if (type === NO_FALLBACK) continue;
      if (type === NOT_CLAIMABLE) break;
      const pfn = this.tryToClaim(this.first(current, type), current, order, migratetype, type, allocFlags);
      if (pfn >= 0) return pfn;
    }
    return -1;
  }

  /** Takes the smallest block of another type, and leaves its pageblock alone. @linux mm/page_alloc.c:__rmqueue_steal */
  private steal(order: number, migratetype: number): Pfn {
    for (let current = order; current < NR_PAGE_ORDERS; current++) {
      const type = this.findFallback(current, migratetype, false);
      if (type < 0) continue;
      const pfn = this.first(current, type);
      this.take(pfn, order, current, type);
      return pfn;
    }
    return -1;
  }

  /** @linux mm/page_alloc.c:find_suitable_fallback */
  private findFallback(order: number, migratetype: number, claimable: boolean): number {
    if (migratetype >= MIGRATE_PCPTYPES) return NO_FALLBACK;
    if (claimable && !shouldTryClaim(order, migratetype, this.pageblockOrder)) return NOT_CLAIMABLE;
    for (let i = migratetype * 2; i < migratetype * 2 + 2; i++) {
      if (this.count[order * MIGRATE_TYPES + FALLBACKS[i]] > 0) return FALLBACKS[i];
    }
    return NO_FALLBACK;
  }

  /** @linux mm/page_alloc.c:try_to_claim_block */
  private tryToClaim(pfn: Pfn, current: number, order: number, migratetype: number, type: number, allocFlags: number): Pfn {
    if (current >= this.pageblockOrder) {
      this.unlink(pfn, current, type);
      this.nrFree -= 1 << order;
      this.setBlockTypes(pfn, current, migratetype);
      this.expand(pfn, order, current, migratetype);
      return pfn;
    }
    this.context.onFallback(allocFlags);
    const start = pfn & -this.pageblockPages;
    // A pageblock that the zone holds only part of keeps its type.
    if (start < this.startPfn || start + this.pageblockPages > this.endPfn) return -1;
    let free = 0;
    let movable = 0;
    for (let p = start; p < start + this.pageblockPages; ) {
      if ((this.flags[p] & PG_BUDDY) !== 0) {
        free += 1 << this.orderOf[p];
        p += 1 << this.orderOf[p];
        continue;
      }
      if ((this.flags[p] & PG_LRU) !== 0) movable++;
      p++;
    }
    // What already suits the new type: of a movable block all that is neither free nor movable; otherwise unknown.
    let alike = 0;
    if (migratetype === MIGRATE_MOVABLE) alike = movable;
    else if (type === MIGRATE_MOVABLE) alike = this.pageblockPages - free - movable;
    if (free + alike < this.pageblockPages / 2) return -1;
    this.moveBlock(start, this.pageblockOrder, type, migratetype);
    this.blockTypes[start >>> this.pageblockOrder] = migratetype;
    return this.smallest(order, migratetype);
  }

  /** @linux mm/page_alloc.c:page_del_and_expand */
  private take(pfn: Pfn, order: number, current: number, migratetype: number): void {
    this.unlink(pfn, current, migratetype);
    this.nrFree -= 1 << order;
    this.expand(pfn, order, current, migratetype);
  }

  /** Puts the upper halves back, down to `order`. @linux mm/page_alloc.c:expand */
  private expand(pfn: Pfn, order: number, current: number, migratetype: number): void {
    for (let o = current - 1; o >= order; o--) this.linkHead(pfn + (1 << o), o, migratetype);
  }

  // ---- merging

  /** Whether `pfn` is a free block of exactly this order. @linux mm/internal.h:page_is_buddy */
  private isBuddy(pfn: Pfn, order: number): boolean {
    return pfn >= this.startPfn && pfn < this.endPfn && (this.flags[pfn] & PG_BUDDY) !== 0 && this.orderOf[pfn] === order;
  }

  private canMerge(pfn: Pfn, order: number): boolean {
    const buddy = pfn ^ (1 << order);
    // Blocks of pageblock size that got different types merge only when one of them is freed again.
    return order < this.pageblockOrder && this.isBuddy(buddy, order);
  }

  /**
   * Whether the block above would be complete with the buddy: the freed block then waits at the tail.
   *
   * @linux mm/page_alloc.c:buddy_merge_likely
   */
  private mergeLikely(pfn: Pfn, buddy: Pfn, order: number): boolean {
    if (order >= MAX_PAGE_ORDER - 1) return false;
    return this.isBuddy((pfn & buddy) ^ (2 << order), order + 1);
  }

  /** @linux mm/page_alloc.c:change_pageblock_range */
  private setBlockTypes(pfn: Pfn, order: number, migratetype: number): void {
    this.blockTypes.fill(migratetype, pfn >>> this.pageblockOrder, (pfn + (1 << order)) >>> this.pageblockOrder);
  }

  // ---- lists

  /** The first block of a list that is not empty, pristine memory made into blocks where it is the turn of that. */
  private first(order: number, migratetype: number): Pfn {
    const list = order * MIGRATE_TYPES + migratetype;
    if (this.head[list] === 0) this.refill();
    return this.head[list];
  }

  /** Puts the lowest pristine block, or what comes after all of them, on the empty list of largest movable blocks. */
  private refill(): void {
    if (this.pristineStart.length > 0) {
      const pfn = this.pristineStart[0];
      this.pristineStart[0] += TOP_PAGES;
      if (this.pristineStart[0] === this.pristineEnd[0]) {
        this.pristineStart.shift();
        this.pristineEnd.shift();
      }
      this.mark(pfn, MAX_PAGE_ORDER);
      this.insert(PRISTINE_LIST, pfn, 0, this.head[PRISTINE_LIST]);
      return;
    }
    this.head[PRISTINE_LIST] = this.head[BACK_LIST];
    this.tail[PRISTINE_LIST] = this.tail[BACK_LIST];
    this.head[BACK_LIST] = 0;
    this.tail[BACK_LIST] = 0;
  }

  private addPristine(start: Pfn, end: Pfn): void {
    const { pristineStart, pristineEnd } = this;
    const after = pristineStart.findIndex((other) => other >= end);
    const at = after < 0 ? pristineStart.length : after;
    bugOn(at > 0 && pristineEnd[at - 1] > start, 'buddy: a range given twice');
    const joinsBefore = at > 0 && pristineEnd[at - 1] === start;
    const joinsAfter = at < pristineStart.length && pristineStart[at] === end;
    if (joinsBefore && joinsAfter) {
      pristineEnd[at - 1] = pristineEnd[at];
      pristineStart.splice(at, 1);
      pristineEnd.splice(at, 1);
    } else if (joinsBefore) {
      pristineEnd[at - 1] = end;
    } else if (joinsAfter) {
      pristineStart[at] = start;
    } else {
      pristineStart.splice(at, 0, start);
      pristineEnd.splice(at, 0, end);
    }
    this.count[PRISTINE_LIST] += (end - start) / TOP_PAGES;
    this.pagesOfType[MIGRATE_MOVABLE] += end - start;
    this.nrFree += end - start;
  }

  /** Makes the pristine block that holds `pfn`, if one does, a block of the list. */
  private depristine(pfn: Pfn): void {
    const { pristineStart, pristineEnd } = this;
    const i = pristineStart.findIndex((start, k) => pfn >= start && pfn < pristineEnd[k]);
    if (i < 0) return;
    const block = pfn & -TOP_PAGES;
    const start = pristineStart[i];
    const end = pristineEnd[i];
    const left = [[start, block], [block + TOP_PAGES, end]].filter(([from, to]) => from < to);
    pristineStart.splice(i, 1, ...left.map(([from]) => from));
    pristineEnd.splice(i, 1, ...left.map(([, to]) => to));
    this.mark(block, MAX_PAGE_ORDER);
    this.insert(PRISTINE_LIST, block, 0, this.head[PRISTINE_LIST]);
  }

  private pristineBlocks(): number {
    return this.untouched().reduce((sum, { start, end }) => sum + (end - start) / TOP_PAGES, 0);
  }

  private mark(pfn: Pfn, order: number): void {
    this.flags[pfn] |= PG_BUDDY;
    this.orderOf[pfn] = order;
  }

  private linkHead(pfn: Pfn, order: number, migratetype: number): void {
    const list = order * MIGRATE_TYPES + migratetype;
    this.mark(pfn, order);
    this.count[list]++;
    this.pagesOfType[migratetype] += 1 << order;
    this.insert(list, pfn, 0, this.head[list]);
  }

  private linkTail(pfn: Pfn, order: number, migratetype: number): void {
    const row = order * MIGRATE_TYPES + migratetype;
    this.mark(pfn, order);
    this.count[row]++;
    this.pagesOfType[migratetype] += 1 << order;
    const list = row === PRISTINE_LIST && this.pristineStart.length > 0 ? BACK_LIST : row;
    this.insert(list, pfn, this.tail[list], 0);
  }

  private insert(list: number, pfn: Pfn, before: Pfn, after: Pfn): void {
    this.prev[pfn] = before;
    this.next[pfn] = after;
    if (before === 0) this.head[list] = pfn;
    else this.next[before] = pfn;
    if (after === 0) this.tail[list] = pfn;
    else this.prev[after] = pfn;
  }

  /** Turns a list round: of two neighbours the one becomes its last block and the other its first. */
  private turn(list: number, last: Pfn, first: Pfn): void {
    if (last === 0 || first === 0) return;
    this.next[this.tail[list]] = this.head[list];
    this.prev[this.head[list]] = this.tail[list];
    this.next[last] = 0;
    this.prev[first] = 0;
    this.head[list] = first;
    this.tail[list] = last;
  }

  private unlink(pfn: Pfn, order: number, migratetype: number): void {
    const row = order * MIGRATE_TYPES + migratetype;
    const before = this.prev[pfn];
    const after = this.next[pfn];
    let list = row;
    if (row === PRISTINE_LIST && ((before === 0 && this.head[BACK_LIST] === pfn) || (after === 0 && this.tail[BACK_LIST] === pfn))) {
      list = BACK_LIST;
    }
    if (before === 0) this.head[list] = after;
    else this.next[before] = after;
    if (after === 0) this.tail[list] = before;
    else this.prev[after] = before;
    this.flags[pfn] &= ~PG_BUDDY;
    this.orderOf[pfn] = 0;
    this.count[row]--;
    this.pagesOfType[migratetype] -= 1 << order;
  }
}

/** The page allocator of Linux. Splitting and merging cost at most ten list moves. */
export const buddyAllocator: PageAllocatorFactory = {
  name: 'buddy',
  create: (context) => new BuddyAllocator(context),
};
