/**
 * Columns of which the host commits only what is written.
 *
 * A typed array of any size begins as pages that the host has not committed yet. Its size still counts: V8 runs a full
 * garbage collection for each few tens of MiB of array buffers, which for a machine of 1 TiB is 10 ms and more. Shared
 * buffers are not counted (0.2 ms), so that large columns take one where the platform has it.
 */

/** Columns of at least this many bytes take a shared buffer. Smaller ones are counted, and so are collected in time. */
const SHARED_BYTES = 1 << 26;

interface Platform {
  readonly SharedArrayBuffer?: new (bytes: number) => SharedArrayBuffer;
}

function reserve(bytes: number): ArrayBufferLike {
  const { SharedArrayBuffer: Shared } = globalThis as unknown as Platform;
  return bytes >= SHARED_BYTES && Shared !== undefined ? new Shared(bytes) : new ArrayBuffer(bytes);
}

/** A column of `length` zeroes. @throws RangeError where the host refuses to reserve so much */
export function reserveInt32(length: number): Int32Array {
  return new Int32Array(reserve(length * 4));
}

/** A column of `length` zeroes. @throws RangeError where the host refuses to reserve so much */
export function reserveUint32(length: number): Uint32Array {
  return new Uint32Array(reserve(length * 4));
}

/** A column of `length` zeroes. @throws RangeError where the host refuses to reserve so much */
export function reserveFloat64(length: number): Float64Array {
  return new Float64Array(reserve(length * 8));
}
