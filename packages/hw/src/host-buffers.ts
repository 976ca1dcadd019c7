import { reserveBuffer } from './platform.ts';

/** Where machines get the buffers that hold their RAM, and where they hand them back. */
export interface BufferSource {
  /** A buffer of at least `bytes`, all zero. @throws RangeError where the host refuses */
  take(bytes: number): ArrayBuffer;
  /** Takes a buffer back, of which the first `usedBytes` may have been written. */
  give(buffer: ArrayBuffer, usedBytes: number): void;
}

/** Buffers from the host each time, left to its garbage collector. */
export const HOST_BUFFERS: BufferSource = Object.freeze({
  take: reserveBuffer,
  give: () => {
    // Nothing refers to it any more.
  },
});

/**
 * Keeps the buffers of machines that are over for machines to come.
 *
 * For who boots many machines one after another: a large buffer makes the host's garbage collector run soon, whose time
 * grows with all that is alive. With 150 MB alive a machine of 3 GiB took 100 ms to get its buffer from the host, and
 * 0.3 ms from a pool for each 2 MiB chunk that the one before had touched.
 */
export class BufferPool implements BufferSource {
  readonly #free: ArrayBuffer[] = [];
  readonly #max: number;

  /** @param max how many buffers are kept at most */
  constructor(max = 4) {
    this.#max = max;
  }

  /** Buffers kept at present. */
  get size(): number {
    return this.#free.length;
  }

  take(bytes: number): ArrayBuffer {
    // The smallest that is large enough, yet not more than twice that.
    let best = -1;
    for (let i = 0; i < this.#free.length; i++) {
      const size = this.#free[i].byteLength;
      if (size >= bytes && size <= 2 * bytes && (best < 0 || size < this.#free[best].byteLength)) best = i;
    }
    return best < 0 ? reserveBuffer(bytes) : this.#free.splice(best, 1)[0];
  }

  give(buffer: ArrayBuffer, usedBytes: number): void {
    if (this.#free.length >= this.#max) return;
    new Uint32Array(buffer, 0, Math.ceil(usedBytes / 4)).fill(0);
    this.#free.push(buffer);
  }
}
