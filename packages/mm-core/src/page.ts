/**
 * What a frame is made of: `struct page` as columns.
 *
 * - A *frame* is 4 KiB of physical memory; its number is the pfn. Linux's `struct page` describes one.
 * - A *block* of order n is 2^n frames that begin at a multiple of 2^n. Its first frame is the *head*, the others are
 *   its *tails*.
 * - A *compound page* (a *folio* where user space sees it) is a block that is referenced and freed as one, by its head.
 * - A *pageblock* is a block of the order of a huge page, 9 or 10: the unit in which migrate types are kept.
 *
 * A frame that was never handed out has a row of zeroes: booting does not write the columns, however large the machine.
 */
import { ColumnList, bugOn } from '@pagelab/lib';
import type { Pfn } from '@pagelab/hw';
import type { OwnedRange } from './owner.ts';
import { LazyColumns } from './lazy-column.ts';

/** Order of the largest block the page allocator hands out. @linux include/linux/mmzone.h:MAX_PAGE_ORDER */
export const MAX_PAGE_ORDER = 10;
/** Orders there are. */
export const NR_PAGE_ORDERS = MAX_PAGE_ORDER + 1;
/**
 * log2 of the frames in a pageblock where a huge page has 2 MiB: on every machine but the two-level x86-32, where it is 10.
 * A machine's own is `pageblockOrder` of its zones and of `PageAlloc`.
 *
 * @linux include/linux/pageblock-flags.h:pageblock_order
 */
export const PAGEBLOCK_ORDER = 9;
/** Orders above this one are hard to satisfy. @linux include/linux/mmzone.h:PAGE_ALLOC_COSTLY_ORDER */
export const PAGE_ALLOC_COSTLY_ORDER = 3;

// Page flags, after include/linux/page-flags.h. Some are a page type or a bit of page->mapping there.
/** Locked, for I/O or against truncation. */
export const PG_LOCKED = 1 << 0;
/** Referenced since reclaim last looked. */
export const PG_REFERENCED = 1 << 1;
/** Its contents are what the file or swap has. */
export const PG_UPTODATE = 1 << 2;
/** To be written back before the frame can be reused. */
export const PG_DIRTY = 1 << 3;
/** On an LRU list. */
export const PG_LRU = 1 << 4;
/** On an active LRU list, or about to be. */
export const PG_ACTIVE = 1 << 5;
/** Head of a slab. */
export const PG_SLAB = 1 << 6;
/** Not the page allocator's. */
export const PG_RESERVED = 1 << 7;
/** Head of a free block in the buddy system; `private` holds its order. */
export const PG_BUDDY = 1 << 8;
/** Head of a compound page. */
export const PG_HEAD = 1 << 9;
/** Tail of an allocated block, compound or not; `next` holds the head's pfn, `private` of the first tail the order. */
export const PG_TAIL = 1 << 10;
/** Goes to swap when reclaimed: anonymous or shared memory. */
export const PG_SWAPBACKED = 1 << 11;
/** Reclaim leaves it alone. */
export const PG_UNEVICTABLE = 1 << 12;
/** Locked in memory by a mapping. */
export const PG_MLOCKED = 1 << 13;
/** A page table. */
export const PG_TABLE = 1 << 14;
/** Anonymous: `mapping` is the id of an anon_vma. */
export const PG_ANON = 1 << 15;
/** Anonymous and known to belong to one process only: it can be written without copying. */
export const PG_ANON_EXCLUSIVE = 1 << 16;
/** Holds kernel code. */
export const PG_KERNEL_CODE = 1 << 17;
/** Holds kernel data other than a slab or page table. */
export const PG_KERNEL_DATA = 1 << 18;
/** Being written back. */
export const PG_WRITEBACK = 1 << 19;
/** To be reclaimed as soon as it is clean. */
export const PG_RECLAIM = 1 << 20;
/** In the swap cache: `private` is the swap entry. */
export const PG_SWAPCACHE = 1 << 21;
/** Was part of the working set when it was last reclaimed. */
export const PG_WORKINGSET = 1 << 22;
/** `private` belongs to a file system. */
export const PG_PRIVATE = 1 << 23;
/** Merged by KSM. */
export const PG_KSM = 1 << 24;
/** Taken out of use. */
export const PG_OFFLINE = 1 << 25;

/** Head of an allocated block that is not compound. */
export const PG_BLOCK = 1 << 26;

/** Waits in a CPU's batch to be put onto an LRU list. */
export const PG_LRU_WAITS = 1 << 27;

/** Head of a page of the huge page pool. */
export const PG_HUGETLB = 1 << 28;
/** Head of a block that `page_owner` has noted. @linux include/linux/page_ext.h:PAGE_EXT_OWNER_ALLOCATED */
export const PG_OWNED = 1 << 29;
/** Head of a block that is charged to a memory cgroup: see `PageFrames.memcg`. */
export const PG_MEMCG = 1 << 30;

/** Printable names of the flags, by bit. */
export const PAGE_FLAG_NAMES: readonly string[] = [
  'locked',
  'referenced',
  'uptodate',
  'dirty',
  'lru',
  'active',
  'slab',
  'reserved',
  'buddy',
  'head',
  'tail',
  'swapbacked',
  'unevictable',
  'mlocked',
  'table',
  'anon',
  'anon_exclusive',
  'kernel_code',
  'kernel_data',
  'writeback',
  'reclaim',
  'swapcache',
  'workingset',
  'private',
  'ksm',
  'offline',
  'block',
  'lru_waits',
  'hugetlb',
  'owned',
  'memcg',
];

/** The names of the flags set in `flags`, as in `locked|dirty`. */
export function pageFlagsText(flags: number): string {
  return PAGE_FLAG_NAMES.filter((_, bit) => (flags & (1 << bit)) !== 0).join('|');
}

/**
 * Flags that must be clear when a frame is freed.
 *
 * @linux include/linux/page-flags.h:PAGE_FLAGS_CHECK_AT_FREE
 */
export const PAGE_FLAGS_CHECK_AT_FREE =
  PG_LOCKED | PG_LRU | PG_LRU_WAITS | PG_ACTIVE | PG_SLAB | PG_RESERVED | PG_BUDDY | PG_UNEVICTABLE | PG_TABLE | PG_WRITEBACK | PG_PRIVATE;

/** Bytes the columns take for a frame, and the bit that says whether the page allocator has it. */
export const BYTES_PER_FRAME = 36.125;
/** What a frame takes in addition once there are memory cgroups. */
export const MEMCG_BYTES_PER_FRAME = 2;
const NR_COLUMNS = 9;
/** Heads of lists, behind the frames in the columns of links. */
const NR_LIST_HEADS = 32_768;

/** The state of every frame, as columns indexed by pfn. */
export class PageFrames {
  /** Rows: one past the highest frame. */
  readonly nrFrames: number;
  /** `PG_*` bits. Set and clear single bits: some belong to the page allocator. */
  readonly flags: Uint32Array;
  /** References; 0 is free, or a tail of a block. */
  readonly refcount: Int32Array;
  /** Page-table entries that map the frame. (Linux counts from −1.) */
  readonly mapcount: Int32Array;
  /** Links of the list the frame is on, whichever that is; 0 is none, as frame 0 is never on a list. */
  readonly next: Int32Array;
  readonly prev: Int32Array;
  /** Lists that are rings through `next` and `prev`: their heads are rows behind those of the frames. */
  readonly lists: ColumnList;
  /** Id of the anon_vma (with {@link PG_ANON}), of the file's address space, or of the slab's cache; 0 is none. */
  readonly mapping: Int32Array;
  /** Offset in the mapping, in pages. */
  readonly index: Float64Array;
  /** For whoever holds the frame; the buddy system keeps the order here. */
  readonly private: Int32Array;
  /**
   * Bit `pfn & 31` of word `pfn >>> 5` is 0 while the zone's page allocator has the frame, and 1 while it has not: it is
   * in use or on a per-CPU list, or it was reserved at boot and lies between frames of the page allocator. Kept by the zone,
   * which so can tell what an allocator may answer.
   */
  readonly taken: Int32Array;
  /** Frames that never were the page allocator's, ascending: their rows stay zero. Set at boot. */
  bootRanges: readonly OwnedRange[] = [];
  /** With {@link PG_MEMCG}, what the page is charged to: see `MemcgAccounting`. Empty while there are no groups. */
  memcg: Uint16Array = new Uint16Array(0);
  #nrListHeads = 0;
  /** Rows of heads that were given back, by how many there are in a row. */
  readonly #spareListHeads = new Map<number, number[]>();

  /** Makes the columns for pfn 0 … `nrFrames` − 1, all zero. The host commits what is written. */
  constructor(nrFrames: number) {
    bugOn(!(nrFrames > 0 && nrFrames <= 0x7fff_ffff), 'page frames: more than a pfn of 31 bits can name');
    this.nrFrames = nrFrames;
    const columns = new LazyColumns(nrFrames * BYTES_PER_FRAME + NR_LIST_HEADS * 8, NR_COLUMNS);
    this.flags = columns.uint32(nrFrames);
    this.refcount = columns.int32(nrFrames);
    this.mapcount = columns.int32(nrFrames);
    this.next = columns.int32(nrFrames + NR_LIST_HEADS);
    this.prev = columns.int32(nrFrames + NR_LIST_HEADS);
    this.lists = new ColumnList(this.next, this.prev, nrFrames);
    this.mapping = columns.int32(nrFrames);
    this.index = columns.float64(nrFrames);
    this.private = columns.int32(nrFrames);
    this.taken = columns.int32((nrFrames + 31) >>> 5);
  }

  /** Makes the column of what pages are charged to. @linux mm/memcontrol.c:mem_cgroup_init */
  enableMemcg(): void {
    if (this.memcg.length > 0) return;
    this.memcg = new LazyColumns(this.nrFrames * MEMCG_BYTES_PER_FRAME, 1).uint16(this.nrFrames);
  }

  /** Sets `count` heads of lists aside, all empty. @returns the row of the first */
  allocListHeads(count: number): number {
    const spare = this.#spareListHeads.get(count)?.pop();
    if (spare !== undefined) return spare;
    const first = this.#nrListHeads;
    this.#nrListHeads += count;
    bugOn(this.#nrListHeads > NR_LIST_HEADS, 'page frames: more lists than there are heads for');
    return this.lists.head(first);
  }

  /** Gives heads of empty lists back, as they were set aside. */
  freeListHeads(first: number, count: number): void {
    for (let head = first; head < first + count; head++) bugOn(!this.lists.isEmpty(head), 'page frames: a list goes that is not empty');
    const spare = this.#spareListHeads.get(count);
    if (spare === undefined) this.#spareListHeads.set(count, [first]);
    else spare.push(first);
  }
}

/**
 * The head of the allocated block that holds `pfn`; `pfn` itself where it is a head, of order 0 or free.
 *
 * @linux include/linux/page-flags.h:compound_head
 */
export function compoundHead(frames: PageFrames, pfn: Pfn): Pfn {
  return (frames.flags[pfn] & PG_TAIL) !== 0 ? frames.next[pfn] : pfn;
}

/**
 * The order of the allocated block whose head is `pfn`, compound or not.
 *
 * @linux include/linux/mm.h:compound_order
 */
export function blockOrder(frames: PageFrames, pfn: Pfn): number {
  const first = pfn + 1;
  if (first >= frames.nrFrames || (frames.flags[first] & PG_TAIL) === 0 || frames.next[first] !== pfn) return 0;
  return frames.private[first];
}
