/**
 * Bits of which the first that is set is found by a look at one word a level.
 *
 * Level 0 has a bit for each position; a bit of the level above says that a word of the one below has any bit set.
 */
import { lowestBit32 } from '@pagelab/lib';

export class FirstSet {
  private readonly levels: Int32Array[] = [];

  /** Makes `size` zeroes. */
  constructor(size: number) {
    let words = size;
    do {
      words = (words + 31) >>> 5;
      this.levels.push(new Int32Array(words));
    } while (words > 1);
  }

  set(position: number): void {
    let at = position;
    for (const words of this.levels) {
      const before = words[at >>> 5];
      words[at >>> 5] = before | (1 << (at & 31));
      if (before !== 0) return;
      at >>>= 5;
    }
  }

  clear(position: number): void {
    let at = position;
    for (const words of this.levels) {
      words[at >>> 5] &= ~(1 << (at & 31));
      if (words[at >>> 5] !== 0) return;
      at >>>= 5;
    }
  }

  has(position: number): boolean {
    return (this.levels[0][position >>> 5] & (1 << (position & 31))) !== 0;
  }

  /** The first position set at or after `from`, −1 where there is none. */
  next(from: number): number {
    const { levels } = this;
    let at = from;
    let level = 0;
    // Up until a word has a bit at or after the place, then down along the first bits.
    for (;;) {
      const words = levels[level];
      const word = at >>> 5 < words.length ? words[at >>> 5] & (-1 << (at & 31)) : 0;
      if (word !== 0) {
        at = (at & ~31) | lowestBit32(word);
        break;
      }
      level++;
      if (level === levels.length) return -1;
      at = (at >>> 5) + 1;
    }
    while (level > 0) {
      level--;
      at = at * 32 + lowestBit32(levels[level][at]);
    }
    return at;
  }
}
