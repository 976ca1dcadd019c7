/**
 * What a file system keeps its blocks on.
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import { REQ_OP_WRITE, SECTOR_SIZE } from '@pagelab/hw';
import type { BlockDevice, Pfn, PhysicalMemory } from '@pagelab/hw';

/** A device of numbered blocks of a page each. A read of a block that was never written gives zeroes. */
export interface BlockStore {
  /** Blocks it has. */
  readonly nrBlocks: number;
  /** Reads a block into a frame. @returns 0 or −EIO */
  read(block: number, ram: PhysicalMemory, pfn: Pfn): number;
  /** Stores a frame in a block. @returns 0 or −EIO */
  write(block: number, ram: PhysicalMemory, pfn: Pfn): number;
  /**
   * Begins to store frames in as many blocks from `block` on. What they hold when it ends counts.
   *
   * @returns a tag for {@link take} and {@link wait}; −EIO
   */
  submit(block: number, ram: PhysicalMemory, pfns: readonly Pfn[]): number;
  /** The status of what was begun, which is forgotten by that: 0 or −EIO; `undefined` while it is under way. */
  take(tag: number): number | undefined;
  /** Lets time pass until what was begun is over, and takes its status. */
  wait(tag: number): number;
  /** Nothing more can be begun now. */
  readonly full: boolean;
  /** Lets time pass until something can. */
  waitForRoom(): void;
  /** When the next of what was begun will be over, in ns; in the past for what is over; `Infinity` for nothing. */
  readonly nextCompletion: number;
}

/** A disk in the host's memory, which it takes where it is written. It takes no virtual time: what was begun is over when somebody looks. */
export class MemoryBlockStore implements BlockStore {
  readonly nrBlocks: number;
  /** Blocks whose reading or writing fails, for tests. */
  readonly badBlocks = new Set<number>();
  /** Blocks read and written so far. */
  reads = 0;
  writes = 0;
  readonly full = false;
  /** Statuses of what was begun, by tag. */
  readonly #ended = new Map<number, number>();
  #nextTag = 1;
  readonly #blocks = new Map<number, Uint8Array>();

  constructor(nrBlocks: number) {
    this.nrBlocks = nrBlocks;
  }

  read(block: number, ram: PhysicalMemory, pfn: Pfn): number {
    this.reads++;
    if (this.badBlocks.has(block)) return -Errno.EIO;
    const bytes = this.#blocks.get(block);
    if (bytes === undefined) ram.zeroFrame(pfn);
    else ram.u8.set(bytes, ram.frameWord(pfn) * 4);
    return 0;
  }

  write(block: number, ram: PhysicalMemory, pfn: Pfn): number {
    this.writes++;
    if (this.badBlocks.has(block)) return -Errno.EIO;
    const at = ram.frameWord(pfn) * 4;
    const bytes = this.#blocks.get(block);
    if (bytes === undefined) this.#blocks.set(block, ram.u8.slice(at, at + PAGE_SIZE));
    else bytes.set(ram.u8.subarray(at, at + PAGE_SIZE));
    return 0;
  }

  get nextCompletion(): number {
    return this.#ended.size === 0 ? Infinity : 0;
  }

  submit(block: number, ram: PhysicalMemory, pfns: readonly Pfn[]): number {
    let status = 0;
    for (let i = 0; i < pfns.length; i++) status = this.write(block + i, ram, pfns[i]) || status;
    this.#ended.set(this.#nextTag, status);
    return this.#nextTag++;
  }

  take(tag: number): number | undefined {
    const status = this.#ended.get(tag);
    this.#ended.delete(tag);
    return status;
  }

  wait(tag: number): number {
    return this.take(tag)!;
  }

  waitForRoom(): void {
    // There always is.
  }
}

const SECTORS_PER_BLOCK = PAGE_SIZE / SECTOR_SIZE;

/** A disk of the machine's: who reads or writes a block waits as long as its model says, and errors that it was told to make happen. */
export class DiskBlockStore implements BlockStore {
  readonly disk: BlockDevice;
  readonly nrBlocks: number;

  constructor(disk: BlockDevice) {
    this.disk = disk;
    this.nrBlocks = Math.floor(disk.nrSectors / SECTORS_PER_BLOCK);
  }

  read(block: number, _ram: PhysicalMemory, pfn: Pfn): number {
    return this.disk.read(block * SECTORS_PER_BLOCK, [{ address: pfn * PAGE_SIZE, length: PAGE_SIZE }]);
  }

  write(block: number, _ram: PhysicalMemory, pfn: Pfn): number {
    return this.disk.write(block * SECTORS_PER_BLOCK, [{ address: pfn * PAGE_SIZE, length: PAGE_SIZE }]);
  }

  get full(): boolean {
    return this.disk.full;
  }

  get nextCompletion(): number {
    return this.disk.nextCompletion;
  }

  submit(block: number, _ram: PhysicalMemory, pfns: readonly Pfn[]): number {
    const segments = pfns.map((pfn) => ({ address: pfn * PAGE_SIZE, length: PAGE_SIZE }));
    return this.disk.submit(REQ_OP_WRITE, block * SECTORS_PER_BLOCK, segments);
  }

  take(tag: number): number | undefined {
    this.disk.poll();
    return this.disk.take(tag);
  }

  wait(tag: number): number {
    return this.disk.wait(tag);
  }

  waitForRoom(): void {
    this.disk.waitForRoom();
  }
}
