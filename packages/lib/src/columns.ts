/** The typed arrays used as columns. */
export type Column = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | Float64Array;

/** From so many bytes on, a column begins on a cache line where the host's allocator is the usual one. */
const LARGE_BYTES = 65_536;
/**
 * Large blocks lie 16 bytes behind the start of a page (glibc, musl): so many more, and records of whole cache lines lie on
 * as few as they can. Finding a VMA among a million takes a quarter less time.
 */
const TO_LINE_BYTES = 48;

function newColumn<C extends Column>(like: C, length: number): C {
  const make = like.constructor as (new (length: number) => C) & (new (buffer: ArrayBuffer, offset: number, length: number) => C);
  const bytes = length * like.BYTES_PER_ELEMENT;
  return bytes < LARGE_BYTES ? new make(length) : new make(new ArrayBuffer(TO_LINE_BYTES + bytes), TO_LINE_BYTES, length);
}

/** Returns a copy of a column. */
export function copyColumn<C extends Column>(column: C): C {
  const copy = newColumn(column, column.length);
  copy.set(column);
  return copy;
}

/**
 * Returns a column of at least `minLength` rows that begins with the rows of `column`: itself where it is long enough,
 * else a copy of at least twice its length, so that growing row by row costs amortised constant time. New rows hold
 * `fill`, 0 unless told.
 */
export function growColumn<C extends Column>(column: C, minLength: number, fill = 0): C {
  if (column.length >= minLength) return column;
  const length = Math.max(minLength, column.length * 2);
  const grown = newColumn(column, length);
  grown.set(column);
  if (fill !== 0) grown.fill(fill, column.length);
  return grown;
}
