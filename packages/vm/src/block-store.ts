/**
 * What a file system keeps its blocks on.
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';

/** A device of numbered blocks of a page each. A read of a block that was never written gives zeroes. */
export interface BlockStore {
  /** Blocks it has. */
  readonly nrBlocks: number;
  /** Copies a block to `to`, from `at` on. @returns 0 or −EIO */
  read(block: number, to: Uint8Array, at: number): number;
  /** Stores a page of `from`, from `at` on, in a block. @returns 0 or −EIO */
  write(block: number, from: Uint8Array, at: number): number;
}

/** A disk in the host's memory, which it takes where it is written. */
export class MemoryBlockStore implements BlockStore {
  readonly nrBlocks: number;
  /** Blocks whose reading or writing fails, for tests. */
  readonly badBlocks = new Set<number>();
  /** Blocks read and written so far. */
  reads = 0;
  writes = 0;
  readonly #blocks = new Map<number, Uint8Array>();

  constructor(nrBlocks: number) {
    this.nrBlocks = nrBlocks;
  }

  read(block: number, to: Uint8Array, at: number): number {
    this.reads++;
    if (this.badBlocks.has(block)) return -Errno.EIO;
    const bytes = this.#blocks.get(block);
    if (bytes === undefined) to.fill(0, at, at + PAGE_SIZE);
    else to.set(bytes, at);
    return 0;
  }

  write(block: number, from: Uint8Array, at: number): number {
    this.writes++;
    if (this.badBlocks.has(block)) return -Errno.EIO;
    const bytes = this.#blocks.get(block);
    if (bytes === undefined) this.#blocks.set(block, from.slice(at, at + PAGE_SIZE));
    else bytes.set(from.subarray(at, at + PAGE_SIZE));
    return 0;
  }
}
