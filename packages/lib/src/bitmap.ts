import { bugOn } from './assert.ts';

/** Returns the number of bits set in an integer of 32 bits. */
export function popcount32(word: number): number {
  let n = word - ((word >>> 1) & 0x5555_5555);
  n = (n & 0x3333_3333) + ((n >>> 2) & 0x3333_3333);
  n = (n + (n >>> 4)) & 0x0f0f_0f0f;
  return Math.imul(n, 0x0101_0101) >>> 24;
}

/** Returns the number of the lowest bit set in an integer of 32 bits, 32 where none is. */
export function lowestBit32(word: number): number {
  return word === 0 ? 32 : 31 - Math.clz32(word & -word);
}

/**
 * A fixed number of bits in 32-bit words.
 *
 * Positions are integers in 0 … `size` - 1. What searches for a bit returns `size` where there is none, as Linux's
 * `find_next_bit` does.
 */
export class Bitmap {
  /** Bits held. */
  readonly size: number;
  /** Bit `i` is bit `i & 31` of word `i >>> 5`; the bits of the last word past `size` are 0. */
  readonly words: Uint32Array;

  /** Makes a bitmap of `size` zeroes, over `words` where given (which must be long enough and zero). */
  constructor(size: number, words: Uint32Array = new Uint32Array(Math.ceil(size / 32))) {
    bugOn(words.length * 32 < size, 'bitmap: too few words');
    this.size = size;
    this.words = words;
  }

  /** @linux include/linux/bitops.h:__set_bit */
  set(bit: number): void {
    this.words[bit >>> 5] |= 1 << (bit & 31);
  }

  /** @linux include/linux/bitops.h:__clear_bit */
  clear(bit: number): void {
    this.words[bit >>> 5] &= ~(1 << (bit & 31));
  }

  /** @linux include/linux/bitops.h:test_bit */
  test(bit: number): boolean {
    return (this.words[bit >>> 5] & (1 << (bit & 31))) !== 0;
  }

  /** Sets the bits `from` … `from + count - 1`. @linux lib/bitmap.c:bitmap_set */
  setRange(from: number, count: number): void {
    this.checkRange(from, count);
    if (count === 0) return;
    const { words } = this;
    const end = from + count;
    const first = from >>> 5;
    const last = (end - 1) >>> 5;
    const firstMask = -1 << (from & 31);
    const lastMask = -1 >>> (-end & 31);
    if (first === last) {
      words[first] |= firstMask & lastMask;
      return;
    }
    words[first] |= firstMask;
    words.fill(0xffff_ffff, first + 1, last);
    words[last] |= lastMask;
  }

  /** Clears the bits `from` … `from + count - 1`. @linux lib/bitmap.c:bitmap_clear */
  clearRange(from: number, count: number): void {
    this.checkRange(from, count);
    if (count === 0) return;
    const { words } = this;
    const end = from + count;
    const first = from >>> 5;
    const last = (end - 1) >>> 5;
    const firstMask = -1 << (from & 31);
    const lastMask = -1 >>> (-end & 31);
    if (first === last) {
      words[first] &= ~(firstMask & lastMask);
      return;
    }
    words[first] &= ~firstMask;
    words.fill(0, first + 1, last);
    words[last] &= ~lastMask;
  }

  /** Returns the first bit set at or after `from`, `size` where there is none. @linux lib/find_bit.c:_find_next_bit */
  findNextSet(from: number): number {
    const { words, size } = this;
    if (from >= size) return size;
    let index = from >>> 5;
    let word = words[index] & (-1 << (from & 31));
    const end = (size + 31) >>> 5;
    while (word === 0) {
      if (++index >= end) return size;
      word = words[index]!;
    }
    return Math.min(size, index * 32 + lowestBit32(word));
  }

  /**
   * Returns the first bit clear at or after `from`, `size` where there is none.
   *
   * @linux lib/find_bit.c:_find_next_zero_bit
   */
  findNextZero(from: number): number {
    const { words, size } = this;
    if (from >= size) return size;
    let index = from >>> 5;
    let word = ~words[index] & (-1 << (from & 31));
    const end = (size + 31) >>> 5;
    while (word === 0) {
      if (++index >= end) return size;
      word = ~words[index];
    }
    return Math.min(size, index * 32 + lowestBit32(word));
  }

  /**
   * Returns the first position at or after `from` that is a multiple of `alignMask + 1` and begins `count` clear bits,
   * `size` where there is none. `alignMask` is a power of two less one.
   *
   * @linux lib/bitmap.c:bitmap_find_next_zero_area
   */
  findZeroArea(from: number, count: number, alignMask: number): number {
    let start = from;
    for (;;) {
      start = this.findNextZero(start);
      start = (start + alignMask) & ~alignMask;
      if (start + count > this.size) return this.size;
      const taken = this.findNextSet(start);
      if (taken >= start + count) return start;
      start = taken + 1;
    }
  }

  /** Returns how many bits are set; costs a pass over the words. @linux include/linux/bitmap.h:bitmap_weight */
  weight(): number {
    const { words } = this;
    let sum = 0;
    for (let index = 0; index < words.length; index++) sum += popcount32(words[index]);
    return sum;
  }

  private checkRange(from: number, count: number): void {
    bugOn(from < 0 || count < 0 || from + count > this.size, 'bitmap: range outside');
  }
}
