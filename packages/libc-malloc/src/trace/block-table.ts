import type { VirtAddr } from '@pagelab/abi';

const PAGE_BITS = 12;
const PAGE_LENGTH = 1 << PAGE_BITS;

/**
 * Where the blocks of a trace are, by their numbers. Numbers run up and most blocks die young: pages of the table whose
 * blocks are all gone are used again, so that the memory follows the number of live blocks.
 */
export class BlockTable {
  readonly #pages: (Float64Array | undefined)[] = [];
  readonly #live: number[] = [];
  readonly #spare: Float64Array[] = [];

  /** The address of block `id`, 0 where there is none. */
  get(id: number): VirtAddr {
    const page = this.#pages[id >>> PAGE_BITS];
    return page === undefined ? 0 : page[id & (PAGE_LENGTH - 1)];
  }

  /** Sets the address of block `id`; 0 takes it out. */
  set(id: number, address: VirtAddr): void {
    const number = id >>> PAGE_BITS;
    const page = this.#pages[number] ?? this.#newPage(number);
    const slot = id & (PAGE_LENGTH - 1);
    const before = page[slot];
    page[slot] = address;
    if (before === 0) {
      if (address !== 0) this.#live[number]++;
    } else if (address === 0 && --this.#live[number] === 0) {
      this.#retire(number, page);
    }
  }

  /** Takes block `id` out and returns its address, 0 where there is none. */
  take(id: number): VirtAddr {
    const number = id >>> PAGE_BITS;
    const page = this.#pages[number];
    if (page === undefined) return 0;
    const slot = id & (PAGE_LENGTH - 1);
    const address = page[slot];
    if (address === 0) return 0;
    page[slot] = 0;
    if (--this.#live[number] === 0) this.#retire(number, page);
    return address;
  }

  /** Calls `visit` for each block there is, lowest number first. */
  forEach(visit: (address: VirtAddr, id: number) => void): void {
    this.#pages.forEach((page, number) => {
      page?.forEach((address, slot) => {
        if (address !== 0) visit(address, number * PAGE_LENGTH + slot);
      });
    });
  }

  #retire(number: number, page: Float64Array): void {
    this.#pages[number] = undefined;
    this.#spare.push(page);
  }

  #newPage(number: number): Float64Array {
    while (this.#pages.length <= number) {
      this.#pages.push(undefined);
      this.#live.push(0);
    }
    const page = this.#spare.pop() ?? new Float64Array(PAGE_LENGTH);
    this.#pages[number] = page;
    return page;
  }
}
