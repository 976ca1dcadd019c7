/**
 * Page references, from a page trace or from what `valgrind --tool=lackey --trace-mem=yes` prints.
 *
 *     <R|W|X> <virtual page number, hex> <consecutive accesses>
 *
 *     I  0401ab70,3        an instruction is fetched
 *      S 1fff000668,8      stored; L is loaded, M modified
 *
 * An access of lackey's counts for the page that it begins in, and a modification once, as a store.
 */

const PAGE_SHIFT_DIGITS = 3;

/** Takes a reference: a page, how often in a row, and what for. */
export type TakeReference = (page: number, accesses: number, writes: boolean) => void;

/** Reads one line; answers what is wrong with it, `''` where nothing is. */
export type PageLineReader = (line: string) => string;

const PAGE_LINE = /^([RWX]) ([0-9a-fA-F]{1,13})(?: (\d{1,15}))?$/;

/** Reads lines of a page trace. Without a number of accesses it is one. */
export function pageLineReader(take: TakeReference): PageLineReader {
  return (line) => {
    const fields = PAGE_LINE.exec(line);
    if (fields === null) return "expected '<R|W|X> <page number, hex> <accesses>'";
    const accesses = fields[3] === undefined ? 1 : Number(fields[3]);
    if (accesses < 1) return 'the number of accesses is 1 or more';
    take(parseInt(fields[2]!, 16), accesses, fields[1] === 'W');
    return '';
  };
}

const LACKEY_LINE = /^(I | [SLM]) ([0-9a-fA-F]{1,16}),(\d{1,9})$/;

/** Reads lines of lackey's. Valgrind's own messages, which begin with `==`, are none of them. */
export function lackeyLineReader(take: TakeReference): PageLineReader {
  return (line) => {
    const fields = LACKEY_LINE.exec(line);
    if (fields === null) return line.startsWith('==') ? '' : "expected 'I  ADDRESS,SIZE' or ' S', ' L', ' M' and the same";
    const digits = fields[2]!.slice(0, -PAGE_SHIFT_DIGITS);
    take(digits === '' ? 0 : parseInt(digits, 16), 1, fields[1] === ' S' || fields[1] === ' M');
    return '';
  };
}

/** Gives pages small numbers, in the order in which they are first met. */
export class PageNumbers {
  readonly #numbers = new Map<number, number>();

  /** Distinct pages so far. */
  get size(): number {
    return this.#numbers.size;
  }

  of(page: number): number {
    const { size } = this.#numbers;
    const number = this.#numbers.get(page);
    if (number !== undefined) return number;
    this.#numbers.set(page, size);
    return size;
  }
}

const FIRST_ROWS = 1 << 16;

/**
 * A whole trace in columns, 21 bytes a reference: what is needed where a page's next use has to be known.
 */
export class PageReferences {
  #pages = new Int32Array(FIRST_ROWS);
  #accesses = new Float64Array(FIRST_ROWS);
  #writes = new Uint8Array(FIRST_ROWS);
  #count = 0;

  push(page: number, accesses: number, writes: boolean): void {
    if (this.#count === this.#pages.length) {
      this.#pages = doubled(this.#pages);
      this.#accesses = doubled(this.#accesses);
      this.#writes = doubled(this.#writes);
    }
    this.#pages[this.#count] = page;
    this.#accesses[this.#count] = accesses;
    this.#writes[this.#count] = writes ? 1 : 0;
    this.#count++;
  }

  /** Hands every reference on, with the number of the one that uses its page next; `Infinity` where none does. */
  forEach(nrPages: number, take: (page: number, accesses: number, writes: boolean, nextUse: number) => void): void {
    const nextUse = new Float64Array(this.#count);
    const seen = new Float64Array(nrPages).fill(Infinity);
    for (let at = this.#count - 1; at >= 0; at--) {
      const page = this.#pages[at]!;
      nextUse[at] = seen[page]!;
      seen[page] = at;
    }
    for (let at = 0; at < this.#count; at++) {
      take(this.#pages[at]!, this.#accesses[at]!, this.#writes[at] === 1, nextUse[at]!);
    }
  }
}

function doubled<C extends Int32Array | Float64Array | Uint8Array>(column: C): C {
  const grown = new (column.constructor as new (length: number) => C)(2 * column.length);
  grown.set(column);
  return grown;
}
