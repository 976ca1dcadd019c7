/**
 * A device's access to memory: by physical addresses, past every page table, and no further than its address lines
 * reach. A sound card on the ISA bus has 24 of them, an old PCI card 32: what the kernel keeps ZONE_DMA and ZONE_DMA32
 * for.
 */
import { PAGE_SIZE } from './page.ts';
import type { PhysAddr } from './page.ts';
import type { PhysicalMemory } from './physical-memory.ts';

/** The transfer was made. */
export const DMA_OK = 0;
/** An address lies beyond the device's mask: nothing was transferred. */
export const DMA_ERROR_MASK = 1;
/** An address is no RAM: nothing was transferred. */
export const DMA_ERROR_BUS = 2;

/** How many address lines a device may have. */
export type DmaMaskBits = 24 | 32 | 64;

/** One piece of memory in a gather list. @linux include/linux/scatterlist.h:scatterlist */
export interface DmaSegment {
  readonly address: PhysAddr;
  /** In bytes. */
  readonly length: number;
}

/** Counts of one engine. */
export interface DmaStats {
  /** Transfers that were made. */
  transfers: number;
  /** Segments in them. */
  segments: number;
  /** Bytes that they wrote to memory or read from it; of a copy both. */
  bytes: number;
  /** Transfers refused for an address beyond the mask. */
  maskErrors: number;
  /** Transfers refused for an address that is no RAM. */
  busErrors: number;
}

/**
 * One device's path to memory.
 *
 * A transfer is all or nothing: every byte of it is checked before the first one moves, so that an error does no
 * damage. The CPUs' page tables are neither asked nor marked: what is transferred sets no accessed and no dirty bit.
 */
export class DmaEngine {
  readonly maskBits: DmaMaskBits;
  /** The highest address it can put out. @linux include/linux/dma-mapping.h:DMA_BIT_MASK */
  readonly mask: PhysAddr;
  readonly stats: DmaStats = { transfers: 0, segments: 0, bytes: 0, maskErrors: 0, busErrors: 0 };
  /** The first address that the last refused transfer could not reach. */
  errorAddress: PhysAddr = 0;
  readonly #ram: PhysicalMemory;

  /** @throws RangeError for a mask that no device has */
  constructor(ram: PhysicalMemory, maskBits: DmaMaskBits = 64) {
    if (maskBits !== 24 && maskBits !== 32 && maskBits !== 64) {
      throw new RangeError(`a DMA mask has 24, 32 or 64 bits, not ${String(maskBits)}`);
    }
    this.#ram = ram;
    this.maskBits = maskBits;
    // 2^64 − 1 is no double; no memory lies that far up.
    this.mask = maskBits === 64 ? Number.MAX_SAFE_INTEGER : 2 ** maskBits - 1;
  }

  /** Whether `[address, address + length)` lies below the mask. @linux include/linux/dma-direct.h:dma_capable */
  reaches(address: PhysAddr, length: number): boolean {
    return address >= 0 && address + length - 1 <= this.mask;
  }

  /** The device reads `target.length` bytes of memory. {@link DMA_OK} or an error. */
  read(address: PhysAddr, target: Uint8Array): number {
    return this.gather([{ address, length: target.length }], target);
  }

  /** The device writes `source` to memory. {@link DMA_OK} or an error. */
  write(address: PhysAddr, source: Uint8Array): number {
    return this.scatter([{ address, length: source.length }], source);
  }

  /**
   * The device reads the pieces of memory in `list`, one after the other, into `target`.
   *
   * @returns {@link DMA_OK} or an error
   * @throws RangeError where the pieces do not fit
   */
  gather(list: readonly DmaSegment[], target: Uint8Array): number {
    const error = this.#check(list, target.length);
    if (error !== DMA_OK) return error;
    let done = 0;
    for (const { address, length } of list) {
      for (let at = 0; at < length; ) {
        const run = runInPage(address + at, length - at);
        const host = this.#host(address + at);
        target.set(this.#ram.u8.subarray(host, host + run), done);
        at += run;
        done += run;
      }
    }
    return this.#count(list.length, done);
  }

  /** The device writes `source` to the pieces of memory in `list`, one after the other. As {@link gather}. */
  scatter(list: readonly DmaSegment[], source: Uint8Array): number {
    const error = this.#check(list, source.length);
    if (error !== DMA_OK) return error;
    let done = 0;
    for (const { address, length } of list) {
      for (let at = 0; at < length; ) {
        const run = runInPage(address + at, length - at);
        this.#ram.u8.set(source.subarray(done, done + run), this.#host(address + at));
        at += run;
        done += run;
      }
    }
    return this.#count(list.length, done);
  }

  /** Sets `length` bytes of memory to the low 8 bits of `byte`. {@link DMA_OK} or an error. */
  fill(address: PhysAddr, length: number, byte: number): number {
    const error = this.#check([{ address, length }], length);
    if (error !== DMA_OK) return error;
    for (let at = 0; at < length; ) {
      const run = runInPage(address + at, length - at);
      const host = this.#host(address + at);
      this.#ram.u8.fill(byte, host, host + run);
      at += run;
    }
    return this.#count(1, length);
  }

  /** Copies memory to memory; the two may overlap. {@link DMA_OK} or an error. */
  copy(to: PhysAddr, from: PhysAddr, length: number): number {
    const error = this.#check([{ address: from, length }, { address: to, length }], 2 * length);
    if (error !== DMA_OK) return error;
    const { u8 } = this.#ram;
    const down = to > from && to < from + length;
    for (let done = 0; done < length; ) {
      // What overlaps the source's end is copied from the end down, run by run.
      const run = down
        ? Math.min(length - done, runBefore(to + length - done), runBefore(from + length - done))
        : Math.min(runInPage(to + done, length - done), runInPage(from + done, length - done));
      const at = down ? length - done - run : done;
      const source = this.#host(from + at);
      u8.copyWithin(this.#host(to + at), source, source + run);
      done += run;
    }
    return this.#count(2, 2 * length);
  }

  /** Checks every byte of a list, and that together they are `length`. */
  #check(list: readonly DmaSegment[], length: number): number {
    let sum = 0;
    for (const segment of list) {
      if (!Number.isSafeInteger(segment.address) || !Number.isSafeInteger(segment.length) || segment.length < 0) {
        throw new RangeError(`not a DMA segment: ${segment.length} bytes at ${segment.address}`);
      }
      sum += segment.length;
    }
    if (sum !== length) throw new RangeError(`a DMA list of ${sum} bytes for a transfer of ${length}`);
    for (const { address, length: bytes } of list) {
      if (bytes !== 0 && !this.reaches(address, bytes)) {
        this.errorAddress = address < 0 ? address : Math.max(address, this.mask + 1);
        this.stats.maskErrors += 1;
        return DMA_ERROR_MASK;
      }
    }
    for (const { address, length: bytes } of list) {
      for (let at = 0; at < bytes; at += runInPage(address + at, bytes - at)) {
        if (this.#ram.isRam(Math.floor((address + at) / PAGE_SIZE))) continue;
        this.errorAddress = address + at;
        this.stats.busErrors += 1;
        return DMA_ERROR_BUS;
      }
    }
    return DMA_OK;
  }

  /** Index in RAM's bytes of an address that was checked. */
  #host(address: PhysAddr): number {
    return this.#ram.frameWord(Math.floor(address / PAGE_SIZE)) * 4 + (address % PAGE_SIZE);
  }

  #count(segments: number, bytes: number): number {
    this.stats.transfers += 1;
    this.stats.segments += segments;
    this.stats.bytes += bytes;
    return DMA_OK;
  }
}

/** How many of `length` bytes from `address` lie in its frame. */
function runInPage(address: PhysAddr, length: number): number {
  return Math.min(length, PAGE_SIZE - (address % PAGE_SIZE));
}

/** How many bytes before `end` lie in the frame of the last of them. */
function runBefore(end: PhysAddr): number {
  return ((end - 1) % PAGE_SIZE) + 1;
}
