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

/** Hands out columns of zeroes. */
export class LazyColumns {
  readonly #buffer: ArrayBufferLike | undefined;
  #used = 0;

  /**
   * @param bytes that the columns take in all, 8 more for each
   * @throws RangeError where the host refuses to reserve so much
   */
  constructor(bytes: number) {
    if (bytes <= MOST_BYTES_TOGETHER) this.#buffer = reserve(bytes);
  }

  int32(length: number): Int32Array {
    return new Int32Array(...this.#take(length, 4));
  }

  uint32(length: number): Uint32Array {
    return new Uint32Array(...this.#take(length, 4));
  }

  float64(length: number): Float64Array {
    return new Float64Array(...this.#take(length, 8));
  }

  #take(length: number, width: number): [ArrayBufferLike, number, number] {
    if (this.#buffer === undefined) return [reserve(length * width), 0, length];
    const offset = this.#used;
    this.#used = Math.ceil((offset + length * width) / 8) * 8;
    return [this.#buffer, offset, length];
  }
}

function reserve(bytes: number): ArrayBufferLike {
  const { SharedArrayBuffer: Shared } = globalThis as unknown as Platform;
  return Shared === undefined ? new ArrayBuffer(bytes) : new Shared(Math.max(bytes, LEAST_BYTES));
}
