import { MAX_BUFFER_BYTES } from './platform.ts';
import { HOST_BUFFERS } from './host-buffers.ts';
import type { BufferSource } from './host-buffers.ts';
import { checkMemoryMap, wholeFrames } from './memory-map.ts';
import type { MemoryRange } from './memory-map.ts';
import { CHUNK_BYTES, CHUNK_PAGES, CHUNK_PAGE_SHIFT, CHUNK_WORDS, PAGE_SIZE, PAGE_WORDS } from './page.ts';
import type { Pfn, PhysAddr } from './page.ts';
import { pageOps } from './page-ops.ts';
import type { PageOps } from './page-ops.ts';
import { PTE_HI_FRAME_MASK, ptePfn } from './pte.ts';

/** An access to physical memory where there is none. */
export class BusError extends Error {
  override readonly name = 'BusError';
  /** The physical address, in bytes. */
  readonly address: PhysAddr;

  constructor(address: PhysAddr) {
    super(`bus error at physical address ${address < 0 ? '-' : ''}0x${Math.abs(address).toString(16)}`);
    this.address = address;
  }
}

/** The machine touched more memory than one buffer of the host holds. */
export class HostMemoryError extends Error {
  override readonly name = 'HostMemoryError';
}

// What the chunk table holds for a chunk: the host word of its first frame (> 0), or one of
/** No frame of it was touched yet. */
const UNTOUCHED = 0;
/** It holds no RAM. */
const HOLE = -1;
/** −2 and below: only part of it is RAM; the frames' host words are in the partial table, at row −2 − value. */
const FIRST_PARTIAL = -2;

/**
 * Host words before the first chunk, so that every chunk's first word is above zero. The first page of them is never
 * written: memory that nobody has touched is read from there. The others are handed to the TLBs, two pages to each of
 * up to 64 CPUs. A whole number of WebAssembly's pages.
 */
const HEAD_WORDS = 144 * PAGE_WORDS;

// The module's own copies: V8 compiles them in, and reads an imported constant anew at each use.
const HI_FRAME = PTE_HI_FRAME_MASK;
const CHUNK_SHIFT = CHUNK_PAGE_SHIFT;
const CHUNK_MASK = CHUNK_PAGES - 1;

/** The bits of a word's number in its chunk that tell the frame. */
const CHUNK_FRAME_WORDS = CHUNK_WORDS - PAGE_WORDS;

// What typed-array fields begin with. A field that was ever undefined is checked by V8 at each use.
const NO_WORDS = new Uint32Array(0);
const NO_TABLE = new Int32Array(0);
const NO_BYTES = new Uint8Array(0);

/** What of the machine holds places in the buffer, and must let go of them before it is handed back. */
export interface RamUser {
  /** Forgets every host word it knows. */
  ramReleased(): void;
}

/** How a machine gets its buffer. */
export interface PhysicalMemoryOptions {
  /** Where the buffer comes from, and goes on `release`. Without one, from the host each time. */
  readonly buffers?: BufferSource;
}

/**
 * Physical memory: RAM in the usable ranges of the firmware's map, whole frames only, and holes elsewhere.
 *
 * RAM lies in one buffer, which holds the 2 MiB chunks touched so far in the order of the first touch; the chunk table
 * finds them. So a machine of 1 TiB takes what a small one takes, as long as it touches no more. At most 4 GiB can be
 * touched in all.
 */
export class PhysicalMemory {
  /** The firmware's map, ascending. */
  readonly map: readonly MemoryRange[];
  /** One past the last usable frame. */
  readonly maxPfn: Pfn = 0;
  /** Whole usable frames. */
  readonly nrPages: number;
  /** The buffer as words, unsigned. It stays the same for the machine's life. */
  readonly u32: Uint32Array = NO_WORDS;
  /** The same, as signed words. */
  readonly i32: Int32Array = NO_TABLE;
  /** The same, as bytes. */
  readonly u8: Uint8Array = NO_BYTES;
  /** Chunk number to host word, {@link UNTOUCHED}, {@link HOLE} or a row of the partial table. */
  readonly #chunks: Int32Array = NO_TABLE;
  /** A row of 512 for each chunk that is partly RAM: host word of the frame, 0 while untouched, −1 in a hole. */
  readonly #partial: Int32Array = NO_TABLE;
  /** The host word at which the next chunk is placed. */
  #nextWord = HEAD_WORDS;
  /** The first word of the head that is not handed out. */
  #nextHeadWord = PAGE_WORDS;
  private readonly pages: PageOps;
  readonly #buffers: BufferSource;
  readonly #users: RamUser[] = [];

  /**
   * @param map ascending ranges that do not overlap
   * @throws RangeError for a map that is wrong, or where the host refuses to reserve the buffer
   */
  constructor(map: readonly MemoryRange[], options: PhysicalMemoryOptions = {}) {
    checkMemoryMap(map);
    this.map = Object.freeze(map.map((range) => Object.freeze({ ...range })));
    const usable = this.map.filter((range) => range.type === 'usable').map(wholeFrames);
    this.maxPfn = usable.reduce((max, { endPfn }) => Math.max(max, endPfn), 0);
    this.nrPages = usable.reduce((sum, { firstPfn, endPfn }) => sum + endPfn - firstPfn, 0);
    const { chunks, partial, nrChunks } = layOut(usable, this.maxPfn);
    this.#chunks = chunks;
    this.#partial = partial;
    this.#buffers = options.buffers ?? HOST_BUFFERS;
    const buffer = this.#buffers.take(Math.min(HEAD_WORDS * 4 + nrChunks * CHUNK_BYTES, MAX_BUFFER_BYTES));
    this.u32 = new Uint32Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u8 = new Uint8Array(buffer);
    this.pages = pageOps(buffer);
  }

  /** Bytes of the chunks touched so far. The host commits of these what was written. */
  get committedBytes(): number {
    return Math.max(0, this.#nextWord - HEAD_WORDS) * 4;
  }

  /**
   * Hands the buffer back, cleared, where it came from a pool. The machine is over: all its memory is a hole from then
   * on.
   */
  release(): void {
    if (this.#nextWord === 0) return;
    for (const user of this.#users) user.ramReleased();
    this.#chunks.fill(HOLE);
    this.#buffers.give(this.u32.buffer as ArrayBuffer, this.#nextWord * 4);
    this.#nextWord = 0;
  }

  /** Tells `user` when the buffer is handed back. */
  addUser(user: RamUser): void {
    this.#users.push(user);
  }

  /**
   * Hands out `words` words of the buffer before the first chunk, whole pages of it.
   *
   * @throws RangeError where so many are not left
   */
  reserveHead(words: number): number {
    const first = this.#nextHeadWord;
    const next = first + Math.ceil(words / PAGE_WORDS) * PAGE_WORDS;
    if (next > HEAD_WORDS) throw new RangeError('no room for another TLB');
    this.#nextHeadWord = next;
    return first;
  }

  /** Host word of the frame's first word; commits its chunk. −1 in a hole. A table lookup. */
  frameWord(pfn: Pfn): number {
    // The memory map ends below 8 TiB, so that a frame number in it is at most 31 bits.
    const base = pfn < this.maxPfn ? this.#chunks[pfn >>> CHUNK_SHIFT] : HOLE;
    return base > 0 ? (base + ((pfn & CHUNK_MASK) << 10)) | 0 : this.#frameWordSlow(pfn);
  }

  /**
   * As {@link frameWord}, for the frame that a page-table entry names; the low 12 bits of the low word do not matter.
   */
  entryWord(lo: number, hi: number): number {
    const base = this.#chunks[(lo >>> 21) | ((hi & HI_FRAME) << 11)];
    return base > 0 ? (base + ((lo >>> 2) & CHUNK_FRAME_WORDS)) | 0 : this.#frameWordSlow(ptePfn(lo, hi));
  }

  /** As {@link entryWord}, but −1 also where the frame's chunk was never touched, or is not all RAM. */
  entryWordIfTouched(lo: number, hi: number): number {
    const base = this.#chunks[(lo >>> 21) | ((hi & HI_FRAME) << 11)];
    return base > 0 ? (base + ((lo >>> 2) & CHUNK_FRAME_WORDS)) | 0 : -1;
  }

  /** Whether the frame is RAM. */
  isRam(pfn: Pfn): boolean {
    if (!(pfn >= 0 && pfn < this.maxPfn)) return false;
    const base = this.#chunks[Math.floor(pfn / CHUNK_PAGES)];
    return base >= 0 || (base <= FIRST_PARTIAL && this.#partial[this.#partialIndex(base, pfn)] >= 0);
  }

  /** The byte at `pa`. RAM never touched reads as zero and stays so. @throws BusError in a hole */
  load8(pa: PhysAddr): number {
    return this.u8[this.#readWord(pa) * 4 + (pa % PAGE_SIZE)];
  }

  /** The little-endian 16 bits at `pa`, which need not be aligned. @throws BusError in a hole */
  load16(pa: PhysAddr): number {
    return this.load8(pa) + this.load8(pa + 1) * 0x100;
  }

  /** The little-endian 32 bits at `pa`, unsigned; `pa` need not be aligned. @throws BusError in a hole */
  load32(pa: PhysAddr): number {
    if (pa % 4 === 0) return this.u32[this.#readWord(pa) + (pa % PAGE_SIZE) / 4];
    return this.load16(pa) + this.load16(pa + 2) * 0x10000;
  }

  /** The 64 bits at `pa` as a signed number; exact up to 2^53 and for kernel addresses. @throws BusError in a hole */
  loadAddress(pa: PhysAddr): number {
    return this.load32(pa) + (this.load32(pa + 4) | 0) * 0x100000000;
  }

  /** Stores the low 8 bits of `value`. @throws BusError in a hole */
  store8(pa: PhysAddr, value: number): void {
    this.u8[this.#writeWord(pa) * 4 + (pa % PAGE_SIZE)] = value;
  }

  /** Stores the low 16 bits of `value`. @throws BusError in a hole, with nothing stored */
  store16(pa: PhysAddr, value: number): void {
    this.#writeWord(pa + 1);
    this.store8(pa, value);
    this.store8(pa + 1, value >>> 8);
  }

  /** Stores the low 32 bits of `value`. @throws BusError in a hole, with nothing stored */
  store32(pa: PhysAddr, value: number): void {
    if (pa % 4 === 0) {
      this.u32[this.#writeWord(pa) + (pa % PAGE_SIZE) / 4] = value;
      return;
    }
    this.#writeWord(pa);
    this.store16(pa + 2, value >>> 16);
    this.store16(pa, value);
  }

  /** Stores an integer of at most 2^53 in magnitude as 64 bits. @throws BusError in a hole, with nothing stored */
  storeAddress(pa: PhysAddr, value: number): void {
    this.#writeWord(pa);
    this.store32(pa + 4, Math.floor(value / 0x100000000));
    this.store32(pa, value);
  }

  /** Sets a frame to zero. @throws BusError in a hole */
  zeroFrame(pfn: Pfn): void {
    const word = this.#frameOrBusError(pfn);
    this.pages.zero(word << 2);
  }

  /** Copies a frame. @throws BusError where one of them is a hole */
  copyFrame(to: Pfn, from: Pfn): void {
    const target = this.#frameOrBusError(to);
    const source = this.#frameOrBusError(from);
    this.pages.copy(target << 2, source << 2);
  }

  /** Sets every byte of a frame to the low 8 bits of `byte`. @throws BusError in a hole */
  fillFrame(pfn: Pfn, byte: number): void {
    const word = this.#frameOrBusError(pfn);
    this.u32.fill((byte & 0xff) * 0x01010101, word, word + PAGE_WORDS);
  }

  #frameOrBusError(pfn: Pfn): number {
    const word = this.frameWord(pfn);
    if (word < 0) throw new BusError(pfn * PAGE_SIZE);
    return word;
  }

  /** Host word of the frame that holds `pa`, committed. */
  #writeWord(pa: PhysAddr): number {
    const word = Number.isInteger(pa) ? this.frameWord(Math.floor(pa / PAGE_SIZE)) : -1;
    if (word < 0) throw new BusError(pa);
    return word;
  }

  /** Host word of the frame that holds `pa`, or of zeros where it was never touched. */
  #readWord(pa: PhysAddr): number {
    const pfn = Math.floor(pa / PAGE_SIZE);
    if (!Number.isInteger(pa) || !this.isRam(pfn)) throw new BusError(pa);
    const base = this.#chunks[Math.floor(pfn / CHUNK_PAGES)];
    if (base > 0) return base + (pfn % CHUNK_PAGES) * PAGE_WORDS;
    return base === UNTOUCHED ? 0 : this.#partial[this.#partialIndex(base, pfn)];
  }

  #partialIndex(base: number, pfn: Pfn): number {
    return (FIRST_PARTIAL - base) * CHUNK_PAGES + (pfn % CHUNK_PAGES);
  }

  #frameWordSlow(pfn: Pfn): number {
    if (!(pfn >= 0 && pfn < this.maxPfn)) return -1;
    const chunk = Math.floor(pfn / CHUNK_PAGES);
    const base = this.#chunks[chunk];
    if (base === HOLE) return -1;
    if (base === UNTOUCHED) {
      const word = this.#commitChunk();
      this.#chunks[chunk] = word;
      return word + (pfn % CHUNK_PAGES) * PAGE_WORDS;
    }
    const index = this.#partialIndex(base, pfn);
    if (this.#partial[index] === UNTOUCHED) {
      const word = this.#commitChunk();
      const row = index - (pfn % CHUNK_PAGES);
      for (let i = 0; i < CHUNK_PAGES; i++) {
        if (this.#partial[row + i] === UNTOUCHED) this.#partial[row + i] = word + i * PAGE_WORDS;
      }
    }
    return this.#partial[index];
  }

  #commitChunk(): number {
    const word = this.#nextWord;
    if (word + CHUNK_WORDS > this.u32.length) {
      const mebibytes = this.committedBytes / 2 ** 20;
      throw new HostMemoryError(`the machine touched more than ${mebibytes} MiB, which is all its host buffer holds`);
    }
    this.#nextWord = word + CHUNK_WORDS;
    return word;
  }
}

/** Builds the chunk table and the table of chunks that are partly RAM. */
function layOut(
  usable: readonly { readonly firstPfn: Pfn; readonly endPfn: Pfn }[],
  maxPfn: Pfn,
): { chunks: Int32Array; partial: Int32Array; nrChunks: number } {
  const chunks = new Int32Array(Math.ceil(maxPfn / CHUNK_PAGES));
  const rows: Int32Array[] = [];
  let nrChunks = 0;
  // Whole chunks of RAM stay UNTOUCHED, which is zero: only the gaps are written.
  let gapFrom = 0;
  const edge = (chunk: number): Int32Array => {
    if (chunks[chunk] > FIRST_PARTIAL) {
      rows.push(new Int32Array(CHUNK_PAGES).fill(-1));
      chunks[chunk] = FIRST_PARTIAL - (rows.length - 1);
      nrChunks += 1;
    }
    return rows[FIRST_PARTIAL - chunks[chunk]];
  };
  for (const { firstPfn, endPfn } of usable) {
    if (endPfn === firstPfn) continue;
    const firstWhole = Math.ceil(firstPfn / CHUNK_PAGES);
    const endWhole = Math.floor(endPfn / CHUNK_PAGES);
    const firstTouched = Math.floor(firstPfn / CHUNK_PAGES);
    if (firstTouched > gapFrom) chunks.fill(HOLE, gapFrom, firstTouched);
    for (let pfn = firstPfn; pfn < Math.min(endPfn, firstWhole * CHUNK_PAGES); pfn++) {
      edge(firstTouched)[pfn % CHUNK_PAGES] = UNTOUCHED;
    }
    for (let pfn = Math.max(firstPfn, endWhole * CHUNK_PAGES); pfn < endPfn; pfn++) {
      edge(endWhole)[pfn % CHUNK_PAGES] = UNTOUCHED;
    }
    nrChunks += Math.max(0, endWhole - firstWhole);
    gapFrom = Math.ceil(endPfn / CHUNK_PAGES);
  }
  const partial = new Int32Array(rows.length * CHUNK_PAGES);
  rows.forEach((row, i) => partial.set(row, i * CHUNK_PAGES));
  return { chunks, partial, nrChunks };
}
