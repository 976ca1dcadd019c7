/**
 * Columns of which the host commits only what is written.
 *
 * A buffer begins as pages the host has not committed, if it comes straight from the host: what the C library's allocator
 * hands out a second time is cleared by hand, which commits all of it. From 32 MiB up every buffer comes from the host. And
 * V8 runs a full garbage collection for each few tens of MiB of buffers, committed or not; those that are shared it does
 * not count. So all columns lie in one shared buffer of at least 34 MiB, where the platform has them: 0.08 ms for a
 * machine of 1 GiB against 0.6 with a buffer each, and 0.2 ms for 1 TiB against 10.
 */

/** The least that every C library takes straight from the host. */
const LEAST_BYTES = 34 * 2 ** 20;
/** Columns of more than this in all get a buffer each. */
const MOST_BYTES_TOGETHER = 2 ** 31;

interface Platform {
  readonly SharedArrayBuffer?: new (bytes: number) => SharedArrayBuffer;
}

/**
 * How far columns are moved against one another: the rows of one frame would otherwise share few sets of the processor's
 * cache when a column is a multiple of 4 KiB, as it is for most sizes of memory.
 */
const STAGGER_BYTES = 5 * 64;

/** Hands out columns of zeroes. */
export class LazyColumns {
  readonly #buffer: ArrayBufferLike | undefined;
  /** Bytes handed out of the common buffer, or by which the next buffer is staggered. */
  #used = 0;

  /**
   * @param bytes that the columns take in all
   * @param nrColumns how many there are
   * @throws RangeError where the host refuses to reserve so much
   */
  constructor(bytes: number, nrColumns: number) {
    if (bytes <= MOST_BYTES_TOGETHER) this.#buffer = reserve(bytes + nrColumns * (STAGGER_BYTES + 8));
  }

  int32(length: number): Int32Array {
    return new Int32Array(...this.#take(length, 4));
  }

  uint16(length: number): Uint16Array {
    return new Uint16Array(...this.#take(length, 2));
  }

  uint32(length: number): Uint32Array {
    return new Uint32Array(...this.#take(length, 4));
  }

  uint8(length: number): Uint8Array {
    return new Uint8Array(...this.#take(length, 1));
  }

  float64(length: number): Float64Array {
    return new Float64Array(...this.#take(length, 8));
  }

  #take(length: number, width: number): [ArrayBufferLike, number, number] {
    const offset = this.#used;
    const bytes = length * width;
    if (this.#buffer === undefined) {
      this.#used += STAGGER_BYTES;
      return [reserve(offset + bytes), offset, length];
    }
    this.#used = Math.ceil((offset + bytes) / 8) * 8 + STAGGER_BYTES;
    return [this.#buffer, offset, length];
  }
}

function reserve(bytes: number): ArrayBufferLike {
  const { SharedArrayBuffer: Shared } = globalThis as unknown as Platform;
  return Shared === undefined ? new ArrayBuffer(bytes) : new Shared(Math.max(bytes, LEAST_BYTES));
}
