/**
 * What is free in a chunk of per-CPU memory: one map for all its units, as what is allocated is allocated in each.
 *
 *     freeBytes === 4 × units of 4 bytes that are free
 *     of each block of a page: how many units are free at its left end, at its right end, and in a row at most
 *
 * @linux mm/percpu-internal.h:pcpu_chunk
 */
import { bugOn } from '@pagelab/lib';
import type { VirtAddr } from '@pagelab/abi';

/** Bytes that one bit of the map stands for. @linux include/linux/percpu.h:PCPU_MIN_ALLOC_SIZE */
export const PCPU_MIN_ALLOC_SIZE = 4;
/** Bits of a block: those of a page. @linux mm/percpu-internal.h:PCPU_BITMAP_BLOCK_BITS */
const BLOCK_BITS = 1024;

/** The state of one bit: free, first of an area, or a further one of it. */
const FREE = 0;
const FIRST = 1;
const MORE = 2;

export class PercpuChunk {
  /** Where the unit of CPU 0 begins. */
  readonly base: VirtAddr;
  /** Whether it is the first one, which boot made and nobody frees. */
  readonly isFirst: boolean;
  /** Objects and areas that stand for it. */
  readonly backing: readonly VirtAddr[];
  /** Pages of each unit that are there. */
  readonly populated: Uint8Array;
  freeBytes = 0;
  /** Areas that are allocated. */
  nrAlloc = 0;
  maxAllocSize = 0;

  readonly #bits: Uint8Array;
  readonly #first: number;
  /** Free bits at the left and the right of each block, and in a row in it. */
  readonly #left: Int32Array;
  readonly #right: Int32Array;
  readonly #most: Int32Array;

  /**
   * @param unitSize bytes of a unit
   * @param from offset at which free memory begins
   * @param populated whether its pages are there
   */
  constructor(fields: {
    base: VirtAddr;
    isFirst: boolean;
    backing: readonly VirtAddr[];
    unitSize: number;
    from: number;
    populated: boolean;
  }) {
    const { base, isFirst, backing, unitSize, from, populated } = fields;
    this.base = base;
    this.isFirst = isFirst;
    this.backing = backing;
    this.populated = new Uint8Array(unitSize / (BLOCK_BITS * PCPU_MIN_ALLOC_SIZE)).fill(populated ? 1 : 0);
    this.#first = from / PCPU_MIN_ALLOC_SIZE;
    this.#bits = new Uint8Array(unitSize / PCPU_MIN_ALLOC_SIZE).fill(MORE, 0, this.#first);
    const blocks = this.populated.length;
    this.#left = new Int32Array(blocks);
    this.#right = new Int32Array(blocks);
    this.#most = new Int32Array(blocks);
    // Booting makes one: what is all free or all taken needs no look.
    const whole = this.#first >> 10;
    for (const column of [this.#left, this.#right, this.#most]) column.fill(BLOCK_BITS, whole);
    if (whole < blocks) this.#rescan(whole);
    this.freeBytes = unitSize - from;
  }

  /** Whether nothing is allocated in a page of the units. */
  isPageEmpty(page: number): boolean {
    return this.#most[page] === BLOCK_BITS;
  }

  /** Whether nothing is allocated. */
  get isEmpty(): boolean {
    return this.nrAlloc === 0;
  }

  /** The most bytes in a row that are free. @linux mm/percpu.c:pcpu_chunk_refresh_hint */
  get contigBytes(): number {
    let most = 0;
    let run = 0;
    for (let block = 0; block < this.#most.length; block++) {
      most = Math.max(most, this.#most[block], run + this.#left[block]);
      run = this.#left[block] === BLOCK_BITS ? run + BLOCK_BITS : this.#right[block];
    }
    return Math.max(most, run) * PCPU_MIN_ALLOC_SIZE;
  }

  /**
   * Takes the lowest area that fits.
   *
   * @param size bytes, a multiple of 4
   * @param align bytes, a power of two of at least 4
   * @param populatedOnly whether its pages must be there
   * @returns its offset, or −1
   * @linux mm/percpu.c:pcpu_alloc_area
   */
  alloc(size: number, align: number, populatedOnly: boolean): number {
    const bits = size / PCPU_MIN_ALLOC_SIZE;
    const step = align / PCPU_MIN_ALLOC_SIZE;
    let run = 0;
    for (let bit = this.#first; bit < this.#bits.length; bit++) {
      const block = bit >> 10;
      // A block in which nothing is free, or whose page is not there, is skipped whole.
      if ((bit & (BLOCK_BITS - 1)) === 0 && (this.#most[block] === 0 || (populatedOnly && this.populated[block] === 0))) {
        bit += BLOCK_BITS - 1;
        run = 0;
        continue;
      }
      run = this.#bits[bit] === FREE && !(populatedOnly && this.populated[block] === 0) ? run + 1 : 0;
      if (run < bits) continue;
      const start = Math.ceil((bit + 1 - run) / step) * step;
      if (start + bits > bit + 1) continue;
      this.#take(start, bits);
      this.maxAllocSize = Math.max(this.maxAllocSize, size);
      return start * PCPU_MIN_ALLOC_SIZE;
    }
    return -1;
  }

  #take(start: number, bits: number): void {
    this.#bits.fill(MORE, start, start + bits);
    this.#bits[start] = FIRST;
    this.freeBytes -= bits * PCPU_MIN_ALLOC_SIZE;
    this.nrAlloc += 1;
    this.#rescanRange(start, bits);
  }

  /** Bytes of the area at an offset; 0 where none begins there. */
  sizeAt(offset: number): number {
    const start = offset / PCPU_MIN_ALLOC_SIZE;
    if (!Number.isInteger(start) || start < this.#first || this.#bits[start] !== FIRST) return 0;
    let end = start + 1;
    while (end < this.#bits.length && this.#bits[end] === MORE) end++;
    return (end - start) * PCPU_MIN_ALLOC_SIZE;
  }

  /** Offsets and bytes of all areas. */
  areas(): { offset: number; size: number }[] {
    const found: { offset: number; size: number }[] = [];
    for (let bit = this.#first; bit < this.#bits.length; bit++) {
      if (this.#bits[bit] === FIRST) {
        const offset = bit * PCPU_MIN_ALLOC_SIZE;
        found.push({ offset, size: this.sizeAt(offset) });
      }
    }
    return found;
  }

  /** Frees the area at an offset. @returns its bytes; 0 where none begins there @linux mm/percpu.c:pcpu_free_area */
  free(offset: number): number {
    const size = this.sizeAt(offset);
    if (size === 0) return 0;
    const start = offset / PCPU_MIN_ALLOC_SIZE;
    this.#bits.fill(FREE, start, start + size / PCPU_MIN_ALLOC_SIZE);
    this.freeBytes += size;
    this.nrAlloc -= 1;
    this.#rescanRange(start, size / PCPU_MIN_ALLOC_SIZE);
    return size;
  }

  #rescanRange(start: number, bits: number): void {
    for (let block = start >> 10; block <= (start + bits - 1) >> 10; block++) this.#rescan(block);
  }

  /** @linux mm/percpu.c:pcpu_block_refresh_hint */
  #rescan(block: number): void {
    const bits = this.#bits.subarray(block * BLOCK_BITS, (block + 1) * BLOCK_BITS);
    let most = 0;
    let run = 0;
    let left = -1;
    for (let i = 0; i < BLOCK_BITS; i++) {
      run = bits[i] === FREE ? run + 1 : 0;
      if (bits[i] !== FREE && left < 0) left = i;
      if (run > most) most = run;
    }
    this.#left[block] = left < 0 ? BLOCK_BITS : left;
    this.#right[block] = run;
    this.#most[block] = most;
  }

  /** Recomputes counts and hints. @throws KernelBug for the first that does not hold */
  validate(): void {
    let free = 0;
    let areas = 0;
    for (let bit = this.#first; bit < this.#bits.length; bit++) {
      if (this.#bits[bit] === FREE) free += PCPU_MIN_ALLOC_SIZE;
      if (this.#bits[bit] === FIRST) areas += 1;
      else if (this.#bits[bit] === MORE) bugOn(bit === this.#first || this.#bits[bit - 1] === FREE, 'percpu: an area without a beginning');
    }
    bugOn(free !== this.freeBytes || areas !== this.nrAlloc, `percpu: ${this.freeBytes} bytes free in ${this.nrAlloc} areas, found ${free} in ${areas}`);
    for (const { offset, size } of this.areas()) {
      for (let page = offset >> 12; page <= (offset + size - 1) >> 12; page++) bugOn(this.populated[page] === 0, 'percpu: an area on a page that is not there');
    }
    const before = [this.#left, this.#right, this.#most].map((column) => column.join());
    for (let block = 0; block < this.populated.length; block++) this.#rescan(block);
    const after = [this.#left, this.#right, this.#most].map((column) => column.join());
    bugOn(before.some((column, i) => column !== after[i]), 'percpu: hints of a chunk are wrong');
  }
}
