/**
 * Free objects at hand: `struct array_cache`, in memory of the kernel's own.
 *
 *     byte 0  avail     4  limit     8  batchcount     12  touched     16  entry[limit], addresses
 *
 * A CPU's is per-CPU memory; those that the CPUs of a node share, and those for objects of other nodes, are kmalloc blocks.
 * Until there is per-CPU memory, arrays lie in the kernel's image and hold one object.
 *
 * @linux mm/slab.c:array_cache (up to 6.7)
 */
import type { VirtAddr } from '@pagelab/abi';

const AVAIL = 0;
const LIMIT = 4;
const BATCHCOUNT = 8;
const TOUCHED = 12;
const ENTRY = 16;

/** Bytes of an array for so many objects. @linux mm/slab.c:alloc_arraycache */
export function arrayCacheBytes(limit: number, wordBytes: 4 | 8): number {
  return ENTRY + limit * wordBytes;
}

/** Where an array lies. */
export interface ArrayMemory {
  /** Host memory as signed words, and which of them the byte at an offset of the array begins. */
  readonly words: Int32Array;
  wordAt(offset: number): number;
  readonly wordBytes: 4 | 8;
}

/** Memory of the kernel's image, which nobody frees. */
export function staticArrayMemory(limit: number, wordBytes: 4 | 8): ArrayMemory {
  const words = new Int32Array(arrayCacheBytes(limit, wordBytes) / 4);
  return { words, wordAt: (offset) => offset >> 2, wordBytes };
}

export class ArrayCache {
  readonly limit: number;
  readonly batchcount: number;
  private readonly words: Int32Array;
  private readonly wide: boolean;
  private readonly availWord: number;
  private readonly touchedWord: number;
  /** The first word of each entry: an array may lie on two pages. */
  private readonly entryWords: Int32Array;

  constructor(memory: ArrayMemory, limit: number, batchcount: number) {
    const { words, wordBytes } = memory;
    this.limit = limit;
    this.batchcount = batchcount;
    this.words = words;
    this.wide = wordBytes === 8;
    this.availWord = memory.wordAt(AVAIL);
    this.touchedWord = memory.wordAt(TOUCHED);
    this.entryWords = Int32Array.from({ length: limit }, (_, i) => memory.wordAt(ENTRY + i * wordBytes));
    words[this.availWord] = 0;
    words[memory.wordAt(LIMIT)] = limit;
    words[memory.wordAt(BATCHCOUNT)] = batchcount;
    words[this.touchedWord] = 0;
  }

  /** Objects in it. */
  get avail(): number {
    return this.words[this.availWord];
  }

  set avail(count: number) {
    this.words[this.availWord] = count;
  }

  /** Used since the reaper last came by. */
  get touched(): boolean {
    return this.words[this.touchedWord] !== 0;
  }

  set touched(touched: boolean) {
    this.words[this.touchedWord] = touched ? 1 : 0;
  }

  entry(i: number): VirtAddr {
    const word = this.entryWords[i];
    const low = this.words[word] >>> 0;
    return this.wide ? this.words[word + 1] * 2 ** 32 + low : low;
  }

  private setEntry(i: number, object: VirtAddr): void {
    const word = this.entryWords[i];
    this.words[word] = object;
    if (this.wide) this.words[word + 1] = Math.floor(object / 2 ** 32);
  }

  push(object: VirtAddr): void {
    const avail = this.words[this.availWord];
    this.setEntry(avail, object);
    this.words[this.availWord] = avail + 1;
  }

  /** The last one in; there must be one. */
  pop(): VirtAddr {
    const avail = this.words[this.availWord] - 1;
    this.words[this.availWord] = avail;
    return this.entry(avail);
  }

  /** Drops the first `count`, which have stayed longest. */
  dropFirst(count: number): void {
    const { avail, words, entryWords, wide } = this;
    if (count > 0) {
      for (let i = count; i < avail; i++) {
        const from = entryWords[i];
        const to = entryWords[i - count];
        words[to] = words[from];
        if (wide) words[to + 1] = words[from + 1];
      }
    }
    this.avail = avail - count;
  }

  /** Takes at most `max` of the last of `from`. Returns how many. @linux mm/slab.c:transfer_objects */
  takeFrom(from: ArrayCache, max: number): number {
    const count = Math.min(from.avail, max, this.limit - this.avail);
    const first = from.avail - count;
    for (let i = 0; i < count; i++) this.push(from.entry(first + i));
    from.avail = first;
    return count;
  }

  /** Takes the first `count` of `from`, for which there is room. */
  takeFirst(from: ArrayCache, count: number): void {
    for (let i = 0; i < count; i++) this.push(from.entry(i));
    from.dropFirst(count);
  }

  /** All it holds, the oldest first. */
  objects(): VirtAddr[] {
    return Array.from({ length: this.avail }, (_, i) => this.entry(i));
  }
}
