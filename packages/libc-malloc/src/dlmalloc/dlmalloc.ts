import type { VirtAddr } from '@pagelab/abi';
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from '@pagelab/abi';
import type { Mallinfo2, Malloc, MallocOs } from '../malloc.ts';
import { M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallinfoOf } from '../malloc.ts';
import { ABSURD_REQUEST, alignUp } from '../system-memory.ts';
import { unlinkChunk } from './bins.ts';
import { disposeChunk, freeChunk } from './free.ts';
import {
  CHUNK_OVERHEAD,
  CINUSE,
  DEFAULT_GRANULARITY,
  DEFAULT_MMAP_THRESHOLD,
  DEFAULT_TRIM_THRESHOLD,
  DV,
  DV_SIZE,
  FLAGS,
  FOOTPRINT,
  HEAD,
  INUSE,
  LEAST_ADDR,
  MAPPED_BYTES,
  MEM,
  MIN_CHUNK,
  MMAP_THRESHOLD,
  NR_MAPPED,
  PINUSE,
  PREV_FOOT,
  TOP,
  TOP_SIZE,
  TRIM_CHECK,
  TRIM_THRESHOLD,
} from './layout.ts';
import { allocate } from './malloc.ts';
import type { Dl } from './state.ts';
import { chunkSize, invalidUse, setInuse, setSizeOfFree } from './state.ts';
import { mmapResize, sysTrim } from './sys-alloc.ts';
import { freeBytes, validateDlmalloc } from './validate.ts';

/** What dlmalloc may be told. */
export interface DlmallocOptions {
  /** Bytes that memory is asked for in units of, a power of two of at least a page. Default 64 KiB. */
  readonly granularity?: number;
  /** The state of the allocator that this address space has already ({@link Dlmalloc.dataSegment}), as in a forked child. */
  readonly attach?: VirtAddr;
}

/**
 * dlmalloc 2.8: best fit with boundary tags, bins, tries and a designated victim; `layout.ts` tells how it works. All
 * threads share the heap. `mallopt` takes `M_MMAP_THRESHOLD` and `M_TRIM_THRESHOLD`.
 *
 * What it notices of a smashed heap: a pointer that is not aligned, below the heap, or of no chunk in use (a block freed
 * twice, most of the time); a chunk whose neighbour disagrees about it; a free chunk's links or size overwritten.
 */
export class Dlmalloc implements Malloc {
  readonly #dl: Dl;

  /** Errors: ENOMEM where there is no memory for the state. */
  constructor(os: MallocOs, { granularity = DEFAULT_GRANULARITY, attach }: DlmallocOptions = {}) {
    const { mem } = os;
    const state = attach ?? os.mmap(0, os.getpagesize(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    this.#dl = { os, mem, state, granularity };
    if (attach !== undefined) return;
    mem.storeAddress(state + MMAP_THRESHOLD, DEFAULT_MMAP_THRESHOLD);
    mem.storeAddress(state + TRIM_THRESHOLD, DEFAULT_TRIM_THRESHOLD);
  }

  /** Where the state lies; a forked child takes the heap up with it as option `attach`. */
  get dataSegment(): VirtAddr {
    return this.#dl.state;
  }

  malloc(size: number): VirtAddr {
    const nb = chunkSizeFor(size);
    return nb < 0 ? 0 : allocate(this.#dl, nb);
  }

  calloc(n: number, size: number): VirtAddr {
    const bytes = n * size;
    const block = this.malloc(bytes);
    if (block === 0) return 0;
    const { mem } = this.#dl;
    // What is mapped for one block is zero.
    if ((mem.load32(block - MEM + HEAD) & INUSE) !== 0) mem.fill(block, bytes, 0);
    return block;
  }

  free(ptr: VirtAddr): void {
    if (ptr !== 0) freeChunk(this.#dl, ptr - MEM);
  }

  realloc(ptr: VirtAddr, size: number): VirtAddr {
    if (ptr === 0) return this.malloc(size);
    if (size === 0) {
      this.free(ptr);
      return 0;
    }
    const nb = chunkSizeFor(size);
    if (nb < 0) return 0;
    const { mem } = this.#dl;
    const resized = this.#resize(ptr - MEM, nb);
    if (resized !== 0) return resized + MEM;
    const moved = allocate(this.#dl, nb);
    if (moved === 0) return 0;
    mem.copy(moved, ptr, Math.min(size, this.mallocUsableSize(ptr)));
    this.free(ptr);
    return moved;
  }

  memalign(alignment: number, size: number): VirtAddr {
    if (alignment <= 16) return this.malloc(size);
    if (!(alignment <= ABSURD_REQUEST)) return 0;
    let power = 32;
    while (power < alignment) power *= 2;
    const nb = chunkSizeFor(size);
    if (nb < 0) return 0;
    const dl = this.#dl;
    const { mem } = dl;
    const block = allocate(dl, nb + power + MIN_CHUNK);
    if (block === 0) return 0;
    let p = block - MEM;
    if (block % power !== 0) {
      // The lead must be a chunk of its own, unless it is a mapping's.
      const aligned = Math.ceil((block + MIN_CHUNK) / power) * power - MEM;
      const head = mem.loadAddress(p + HEAD);
      const lead = aligned - p;
      const rest = head - (head & FLAGS) - lead;
      if ((head & INUSE) === 0) {
        mem.storeAddress(aligned + PREV_FOOT, mem.loadAddress(p + PREV_FOOT) + lead);
        mem.storeAddress(aligned + HEAD, rest);
        return aligned + MEM;
      }
      setInuse(mem, aligned, rest);
      setInuse(mem, p, lead);
      disposeChunk(dl, p, mem.loadAddress(p + HEAD), 'memalign');
      p = aligned;
    }
    if ((mem.load32(p + HEAD) & INUSE) !== 0) this.#shorten(p, nb);
    return p + MEM;
  }

  mallocUsableSize(ptr: VirtAddr): number {
    if (ptr === 0) return 0;
    const head = this.#dl.mem.loadAddress(ptr - MEM + HEAD);
    return head - (head & FLAGS) - ((head & INUSE) === 0 ? 2 : 1) * CHUNK_OVERHEAD;
  }

  mallocTrim(pad: number): number {
    return sysTrim(this.#dl, pad);
  }

  mallopt(param: number, value: number): number {
    const { mem, state } = this.#dl;
    const size = value < 0 ? 2 ** 52 : value;
    if (param === M_MMAP_THRESHOLD) {
      mem.storeAddress(state + MMAP_THRESHOLD, size);
    } else if (param === M_TRIM_THRESHOLD) {
      mem.storeAddress(state + TRIM_THRESHOLD, size);
      mem.storeAddress(state + TRIM_CHECK, size);
    } else {
      return 0;
    }
    return 1;
  }

  mallinfo2(): Mallinfo2 {
    const { mem, state } = this.#dl;
    const arena = mem.loadAddress(state + FOOTPRINT);
    const keepcost = mem.loadAddress(state + TOP_SIZE);
    const free = freeBytes(this.#dl);
    return mallinfoOf({
      arena,
      ordblks: free.chunks,
      fordblks: free.bytes,
      hblks: mem.loadAddress(state + NR_MAPPED),
      hblkhd: mem.loadAddress(state + MAPPED_BYTES),
      keepcost,
    });
  }

  validate(): void {
    validateDlmalloc(this.#dl);
  }

  /** Resizes a chunk where it stands, or a mapped one wherever; 0 where it cannot. */
  #resize(p: VirtAddr, nb: number): VirtAddr {
    const dl = this.#dl;
    const { mem, state } = dl;
    const head = mem.loadAddress(p + HEAD);
    const size = head - (head & FLAGS);
    if (p < mem.loadAddress(state + LEAST_ADDR) || (p & 15) !== 0 || (head & INUSE) === PINUSE) invalidUse('realloc');
    if ((head & INUSE) === 0) return mmapResize(dl, p, nb);
    const next = p + size;
    const nextHead = mem.loadAddress(next + HEAD);
    if ((nextHead & PINUSE) === 0) invalidUse('realloc');
    if (size < nb) {
      if (next === mem.loadAddress(state + TOP)) {
        const topSize = size + mem.loadAddress(state + TOP_SIZE) - nb;
        if (topSize <= 0) return 0;
        setInuse(mem, p, nb);
        mem.storeAddress(state + TOP, p + nb);
        mem.storeAddress(state + TOP_SIZE, topSize);
        mem.storeAddress(p + nb + HEAD, topSize + PINUSE);
        return p;
      }
      if (next === mem.loadAddress(state + DV)) return this.#growIntoDv(p, size, nb);
      if ((nextHead & CINUSE) !== 0) return 0;
      const nextSize = nextHead - (nextHead & FLAGS);
      if (size + nextSize < nb) return 0;
      unlinkChunk(dl, next, nextSize);
      setInuse(mem, p, size + nextSize);
    }
    this.#shorten(p, nb);
    return p;
  }

  #growIntoDv(p: VirtAddr, size: number, nb: number): VirtAddr {
    const { mem, state } = this.#dl;
    const joined = size + mem.loadAddress(state + DV_SIZE);
    if (joined < nb) return 0;
    const rest = joined - nb >= MIN_CHUNK ? joined - nb : 0;
    setInuse(mem, p, joined - rest);
    if (rest > 0) setSizeOfFree(mem, p + nb, rest);
    mem.storeAddress(state + DV, rest > 0 ? p + nb : 0);
    mem.storeAddress(state + DV_SIZE, rest);
    return p;
  }

  /** Gives back what a used chunk has beyond `nb` bytes, where that makes a chunk. */
  #shorten(p: VirtAddr, nb: number): void {
    const { mem } = this.#dl;
    const rest = chunkSize(mem, p) - nb;
    if (rest < MIN_CHUNK) return;
    setInuse(mem, p, nb);
    setInuse(mem, p + nb, rest);
    disposeChunk(this.#dl, p + nb, mem.loadAddress(p + nb + HEAD), 'realloc');
  }
}

/** Chunk bytes for a request, or -1 for more than any address space holds. */
function chunkSizeFor(request: number): number {
  if (!(request >= 0 && request < ABSURD_REQUEST)) return -1;
  return Math.max(MIN_CHUNK, alignUp(Math.ceil(request) + CHUNK_OVERHEAD, 16));
}
