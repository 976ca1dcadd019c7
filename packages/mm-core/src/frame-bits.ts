/**
 * A bit for each frame: bit `pfn & 31` of word `pfn >>> 5`.
 */
import { popcount32 } from '@pagelab/lib';

/** Bits set in `[from, to)`. */
export function countBits(words: Int32Array, from: number, to: number): number {
  if (from >= to) return 0;
  const first = from >>> 5;
  const last = (to - 1) >>> 5;
  const firstMask = -1 << (from & 31);
  const lastMask = -1 >>> (-to & 31);
  if (first === last) return popcount32(words[first] & firstMask & lastMask);
  let bits = popcount32(words[first] & firstMask) + popcount32(words[last] & lastMask);
  for (let word = first + 1; word < last; word++) bits += popcount32(words[word]);
  return bits;
}

/** Sets the bits of `[from, to)`. */
export function setBits(words: Int32Array, from: number, to: number): void {
  if (from >= to) return;
  const first = from >>> 5;
  const last = (to - 1) >>> 5;
  const firstMask = -1 << (from & 31);
  const lastMask = -1 >>> (-to & 31);
  if (first === last) {
    words[first] |= firstMask & lastMask;
    return;
  }
  words[first] |= firstMask;
  words.fill(-1, first + 1, last);
  words[last] |= lastMask;
}

/** Clears the bits of `[from, to)`. */
export function clearBits(words: Int32Array, from: number, to: number): void {
  const first = from >>> 5;
  const last = (to - 1) >>> 5;
  const firstMask = -1 << (from & 31);
  const lastMask = -1 >>> (-to & 31);
  if (first === last) {
    words[first] &= ~(firstMask & lastMask);
    return;
  }
  words[first] &= ~firstMask;
  words.fill(0, first + 1, last);
  words[last] &= ~lastMask;
}
