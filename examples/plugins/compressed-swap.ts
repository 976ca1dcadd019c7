/**
 * A swap device of one's own: pages stay in the host's memory, compressed, as zram keeps them.
 *
 *     boot({ memory: '64M' }, { swapDevices: [{ name: 'zram0', create: (ram) => new CompressedSwap(ram, 65_536) }] })
 */
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import { PAGE_SIZE } from '@pagelab/abi';
import type { PhysicalMemory } from '@pagelab/hw';
import type { SwapDevice } from '@pagelab/vm';

export class CompressedSwap implements SwapDevice {
  readonly nrPages: number;
  readonly solidState = true;
  readonly #ram: PhysicalMemory;
  readonly #pages = new Map<number, Uint8Array>();

  /** @param nrPages pages that it has room for, however well they compress */
  constructor(ram: PhysicalMemory, nrPages: number) {
    this.#ram = ram;
    this.nrPages = nrPages;
  }

  /** Bytes that the pages take here, and those that they have. */
  get sizes(): { readonly stored: number; readonly original: number } {
    let stored = 0;
    for (const bytes of this.#pages.values()) stored += bytes.length;
    return { stored, original: this.#pages.size * PAGE_SIZE };
  }

  read(page: number, pfn: number): number {
    const bytes = this.#pages.get(page);
    if (bytes === undefined) this.#frame(pfn).fill(0);
    else this.#frame(pfn).set(inflateRawSync(bytes));
    return 0;
  }

  write(page: number, pfn: number): number {
    this.#pages.set(page, deflateRawSync(this.#frame(pfn), { level: 1 }));
    return 0;
  }

  discard(page: number, nrPages: number): void {
    for (let gone = page; gone < page + nrPages; gone++) this.#pages.delete(gone);
  }

  #frame(pfn: number): Uint8Array {
    const host = this.#ram.frameWord(pfn) * 4;
    return this.#ram.u8.subarray(host, host + PAGE_SIZE);
  }
}
