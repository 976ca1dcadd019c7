/** The typed arrays used as columns. */
export type Column = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | Float64Array;

/**
 * Returns a column of at least `minLength` rows that begins with the rows of `column`: itself where it is long enough,
 * else a copy of at least twice its length, so that growing row by row costs amortised constant time. New rows hold
 * `fill`, 0 unless told.
 */
export function growColumn<C extends Column>(column: C, minLength: number, fill = 0): C {
  if (column.length >= minLength) return column;
  const length = Math.max(minLength, column.length * 2);
  const grown = new (column.constructor as new (length: number) => C)(length);
  grown.set(column);
  if (fill !== 0) grown.fill(fill, column.length);
  return grown;
}
