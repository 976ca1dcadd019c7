import type { UserMemory, VirtAddr } from '@pagelab/abi';
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import { mallinfoOf } from '../malloc.ts';
import type { Mallinfo2, Malloc, MallocOs } from '../malloc.ts';
import { mallocAbort } from '../malloc-abort.ts';
import { ABSURD_REQUEST, alignUp } from '../system-memory.ts';
import type { Mi } from './context.ts';
import { checkDoubleFree, nextBlock } from './free-list.ts';
import * as layout from './layout.ts';
import { NR_BINS, binOf } from './layout.ts';
import { abandonHeap, collectHeap, findFreePage, freeDelayed, freeForeign, freeHuge, freeLocal, hugePage, reclaim } from './page.ts';
import { freeEmptySegments, pageOf, segmentOf } from './segment.ts';
import { validateMimalloc } from './validate.ts';

const {
  EMPTY_PAGE,
  HAS_ALIGNED,
  HEAPS,
  HEAP_DIRECT,
  HEAP_NEXT,
  HUGE,
  HUGE_BYTES,
  IN_FULL,
  IN_USE,
  IS_ZERO,
  LARGE_BLOCK_MAX,
  NR_HUGE,
  OBTAINED,
  PG_AREA,
  PG_BLOCK_SIZE,
  PG_CAPACITY,
  PG_FLAGS,
  PG_FREE,
  PG_HEAP,
  PG_LOCAL_FREE,
  PG_USED,
  RANDOM,
  SECURE,
  SEGMENTS,
  SEGMENT_MAGIC,
  SEG_ALL_NEXT,
  SEG_CAPACITY,
  SEG_KIND,
  SEG_MAGIC,
  SEG_PAGES,
  SEG_THREAD,
  SIZEOF_CONTROL,
  SIZEOF_HEAP,
  SIZEOF_PAGE,
  SMALL_SIZE_MAX,
} = layout;

/** Alignments above half a segment are refused. */
const ALIGNMENT_MAX = layout.SEGMENT_SIZE / 2;

/** What mimalloc may be told. */
export interface MimallocOptions {
  /** Encodes free lists, checks what they lead to, and finds blocks that are freed twice. Default false. */
  readonly secure?: boolean;
  /** What the keys of secure mode begin from. Default 1. */
  readonly seed?: number;
  /** The data of the allocator that this address space has already ({@link Mimalloc.dataSegment}), as in a forked child. */
  readonly attach?: VirtAddr;
  /** With `attach`, the heap ({@link Mimalloc.threadHeap}) of the thread that calls. Default the main thread's. */
  readonly thread?: VirtAddr;
}

/**
 * mimalloc's design: free lists sharded by page, so that malloc and free take a few instructions each, blocks asked for
 * one after the other lie side by side, and threads do not meet. `layout.ts` tells how it works.
 *
 * What it notices of a smashed heap: a pointer into no segment of its own, or into an unused page. In secure mode also one
 * that begins no block, a block freed twice, and a freed block's link overwritten. The rest goes unnoticed: a block that
 * was freed twice is handed out twice.
 */
export class Mimalloc implements Malloc {
  readonly #mi: Mi;

  /** Errors: ENOMEM where there is no memory for the first heap. */
  constructor(os: MallocOs, options: MimallocOptions = {}) {
    const { mem } = os;
    const control = options.attach ?? openMimalloc(os, options);
    const heap = options.thread ?? control + SIZEOF_CONTROL;
    this.#mi = { os, mem, control, heap, secure: mem.load32(control + SECURE) !== 0 };
  }

  /** Where the allocator's own data lie; a forked child takes the heaps up with it as option `attach`. */
  get dataSegment(): VirtAddr {
    return this.#mi.control;
  }

  /** The calling thread's heap; a second handle of this thread takes it up with it as option `thread`. */
  get threadHeap(): VirtAddr {
    return this.#mi.heap;
  }

  malloc(size: number): VirtAddr {
    const mi = this.#mi;
    if (size <= SMALL_SIZE_MAX && size >= 0) {
      const { mem } = mi;
      const page = mem.loadAddress(mi.heap + HEAP_DIRECT + 8 * ((size + 7) >>> 3));
      const block = mem.loadAddress(page + PG_FREE);
      if (block !== 0) {
        mem.storeAddress(page + PG_FREE, mi.secure ? nextBlock(mi, page, block) : mem.loadAddress(block));
        mem.store32(page + PG_USED, mem.load32(page + PG_USED) + 1);
        return block;
      }
    }
    return mallocGeneric(mi, size);
  }

  calloc(n: number, size: number): VirtAddr {
    const mi = this.#mi;
    const { mem } = mi;
    const bytes = n * size;
    const block = this.malloc(bytes);
    if (block === 0) return 0;
    const page = pageOf(mi, segmentOf(block), block);
    // Fresh from the system it is zero but for the link.
    const clear = (mem.load32(page + PG_FLAGS) & IS_ZERO) !== 0 ? 8 : alignUp(Math.ceil(bytes), 8);
    mem.fill(block, clear, 0);
    return block;
  }

  free(ptr: VirtAddr): void {
    if (ptr === 0) return;
    const mi = this.#mi;
    const { mem } = mi;
    const segment = segmentOf(ptr);
    const page = checkedPage(mi, segment, ptr);
    const flags = mem.load32(page + PG_FLAGS);
    const block = (flags & HAS_ALIGNED) !== 0 ? blockOf(mi, page, ptr) : ptr;
    if (mi.secure) checkBlock(mi, page, block);
    if (mem.load32(segment + SEG_KIND) === HUGE && mem.loadAddress(page + PG_HEAP) !== 0) {
      freeHuge(mi, page);
    } else if (mem.loadAddress(segment + SEG_THREAD) !== mi.heap || mem.loadAddress(page + PG_HEAP) !== mi.heap) {
      freeForeign(mi, page, block);
    } else if (mi.secure || (flags & IN_FULL) !== 0 || mem.load32(page + PG_USED) === 1) {
      freeLocal(mi, page, block);
    } else {
      mem.storeAddress(block, mem.loadAddress(page + PG_LOCAL_FREE));
      mem.storeAddress(page + PG_LOCAL_FREE, block);
      mem.store32(page + PG_USED, mem.load32(page + PG_USED) - 1);
    }
  }

  realloc(ptr: VirtAddr, size: number): VirtAddr {
    if (ptr === 0) return this.malloc(size);
    if (size === 0) {
      this.free(ptr);
      return 0;
    }
    const usable = this.mallocUsableSize(ptr);
    // It stays where at least half of it is used.
    if (size <= usable && size >= usable / 2) return ptr;
    const moved = this.malloc(size);
    if (moved === 0) return 0;
    this.#mi.mem.copy(moved, ptr, Math.min(size, usable));
    this.free(ptr);
    return moved;
  }

  memalign(alignment: number, size: number): VirtAddr {
    if (alignment <= 16) return this.malloc(size);
    if (!(alignment <= ALIGNMENT_MAX && size < ABSURD_REQUEST)) return 0;
    let power = 32;
    while (power < alignment) power *= 2;
    const block = this.malloc(size + power - 1);
    if (block === 0 || block % power === 0) return block;
    const mi = this.#mi;
    const page = pageOf(mi, segmentOf(block), block);
    mi.mem.store32(page + PG_FLAGS, mi.mem.load32(page + PG_FLAGS) | HAS_ALIGNED);
    return block + power - (block % power);
  }

  mallocUsableSize(ptr: VirtAddr): number {
    if (ptr === 0) return 0;
    const mi = this.#mi;
    const page = checkedPage(mi, segmentOf(ptr), ptr);
    const size = mi.mem.loadAddress(page + PG_BLOCK_SIZE);
    if ((mi.mem.load32(page + PG_FLAGS) & HAS_ALIGNED) === 0) return size;
    return size - (ptr - blockOf(mi, page, ptr));
  }

  /** Gives back all pages, and segments, in which nothing is in use: of this thread, and of those that ended. */
  mallocTrim(): number {
    const mi = this.#mi;
    const { mem, control } = mi;
    const before = mem.loadAddress(control + OBTAINED);
    while (reclaim(mi));
    collectHeap(mi);
    freeEmptySegments(mi);
    return mem.loadAddress(control + OBTAINED) < before ? 1 : 0;
  }

  mallopt(): number {
    return 0;
  }

  mallinfo2(): Mallinfo2 {
    const { mem, control } = this.#mi;
    let uordblks = 0;
    let ordblks = 0;
    for (let segment = mem.loadAddress(control + SEGMENTS); segment !== 0; segment = mem.loadAddress(segment + SEG_ALL_NEXT)) {
      if (mem.load32(segment + SEG_KIND) === HUGE) continue;
      const end = segment + SEG_PAGES + SIZEOF_PAGE * mem.load32(segment + SEG_CAPACITY);
      for (let page = segment + SEG_PAGES; page < end; page += SIZEOF_PAGE) {
        if ((mem.load32(page + PG_FLAGS) & IN_USE) === 0) continue;
        const used = mem.load32(page + PG_USED);
        uordblks += used * mem.loadAddress(page + PG_BLOCK_SIZE);
        ordblks += mem.load32(page + PG_CAPACITY) - used;
      }
    }
    const arena = mem.loadAddress(control + OBTAINED);
    const hblks = mem.loadAddress(control + NR_HUGE);
    return mallinfoOf({ arena, ordblks, fordblks: arena - uordblks, hblks, hblkhd: mem.loadAddress(control + HUGE_BYTES) });
  }

  validate(): void {
    validateMimalloc(this.#mi);
  }

  /** Errors: ENOMEM where there is no memory for the thread's heap. */
  thread(os: MallocOs = this.#mi.os): Mimalloc {
    const { mem, control } = this.#mi;
    const heap = os.mmap(0, os.getpagesize(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    initHeap(mem, control, heap);
    return new Mimalloc(os, { attach: control, thread: heap });
  }

  /** Leaves segments with blocks in use to the next thread that needs one, and gives back the rest. */
  threadExit(): void {
    const mi = this.#mi;
    const { os, mem, control, heap } = mi;
    abandonHeap(mi);
    freeEmptySegments(mi);
    let link = control + HEAPS;
    while (mem.loadAddress(link) !== heap) link = mem.loadAddress(link) + HEAP_NEXT;
    mem.storeAddress(link, mem.loadAddress(heap + HEAP_NEXT));
    if (heap !== control + SIZEOF_CONTROL) os.munmap(heap, os.getpagesize());
  }
}

/** Makes the control structure and the main thread's heap behind it, at the break. */
function openMimalloc(os: MallocOs, { secure = false, seed = 1 }: MimallocOptions): VirtAddr {
  const { mem } = os;
  const brk = os.sbrk(0);
  const control = alignUp(brk, 16);
  os.sbrk(alignUp(control + SIZEOF_CONTROL + SIZEOF_HEAP, os.getpagesize()) - brk);
  mem.store32(control + SECURE, secure ? 1 : 0);
  mem.store32(control + RANDOM, seed || 1);
  initHeap(mem, control, control + SIZEOF_CONTROL);
  return control;
}

function initHeap(mem: UserMemory, control: VirtAddr, heap: VirtAddr): void {
  for (let words = 0; words <= SMALL_SIZE_MAX / 8; words++) {
    mem.storeAddress(heap + HEAP_DIRECT + 8 * words, control + EMPTY_PAGE);
  }
  mem.fill(heap + layout.HEAP_QUEUES, 16 * NR_BINS, 0);
  mem.storeAddress(heap + HEAP_NEXT, mem.loadAddress(control + HEAPS));
  mem.storeAddress(control + HEAPS, heap);
}

/** What malloc does where no page is at hand that has a block of the size. */
function mallocGeneric(mi: Mi, size: number): VirtAddr {
  if (!(size >= 0 && size < ABSURD_REQUEST)) return 0;
  const { mem } = mi;
  freeDelayed(mi);
  const page = size <= LARGE_BLOCK_MAX ? findFreePage(mi, binOf(Math.ceil(size / 8))) : hugePage(mi, alignUp(Math.ceil(size), 16));
  if (page === 0) return 0;
  const block = mem.loadAddress(page + PG_FREE);
  mem.storeAddress(page + PG_FREE, nextBlock(mi, page, block));
  mem.store32(page + PG_USED, mem.load32(page + PG_USED) + 1);
  return block;
}

/** The page of a pointer that its user hands in. */
function checkedPage(mi: Mi, segment: VirtAddr, ptr: VirtAddr): VirtAddr {
  const { mem } = mi;
  if (mem.load32(segment + SEG_MAGIC) !== SEGMENT_MAGIC) mallocAbort('mimalloc: invalid pointer');
  const page = pageOf(mi, segment, ptr);
  if ((mem.load32(page + PG_FLAGS) & IN_USE) === 0) mallocAbort('mimalloc: invalid pointer');
  return page;
}

/** The block that an address within it belongs to. */
function blockOf({ mem }: Mi, page: VirtAddr, ptr: VirtAddr): VirtAddr {
  return ptr - ((ptr - mem.loadAddress(page + PG_AREA)) % mem.loadAddress(page + PG_BLOCK_SIZE));
}

function checkBlock(mi: Mi, page: VirtAddr, block: VirtAddr): void {
  const offset = block - mi.mem.loadAddress(page + PG_AREA);
  if (offset < 0 || offset % mi.mem.loadAddress(page + PG_BLOCK_SIZE) !== 0) mallocAbort('mimalloc: invalid pointer');
  checkDoubleFree(mi, page, block);
}
