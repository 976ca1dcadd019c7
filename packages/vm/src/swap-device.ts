/**
 * What a swap area is kept on: pages by their number.
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { BlockDevice, Pfn, PhysicalMemory } from '@pagelab/hw';
import { REQ_OP_DISCARD } from '@pagelab/hw';
import type { BlockStore } from './block-store.ts';
import type { Inode } from './file.ts';

/** A device or file that pages are swapped to. */
export interface SwapDevice {
  /** Pages it has. */
  readonly nrPages: number;
  /** No head to be moved: slots are taken cluster by cluster, and what is read ahead follows addresses. */
  readonly solidState: boolean;
  /** Reads a page into a frame. @returns 0 or −EIO */
  read(page: number, pfn: Pfn): number;
  /** Writes a frame to a page. @returns 0 or −EIO; what the page held does not count then */
  write(page: number, pfn: Pfn): number;
  /** Pages that hold nothing of use any more; absent where the device does not care. */
  discard?(page: number, nrPages: number): void;
}

/** Makes a swap device of one's own when a machine boots. */
export interface SwapDeviceFactory {
  /** `/dev/NAME` is its path. */
  readonly name: string;
  /** 0 to 32,767: areas of a higher priority are filled first. Without one, areas are filled in their order. */
  readonly priority?: number;
  /** @param ram the machine's memory, where frames are found by `frameWord` */
  create(ram: PhysicalMemory): SwapDevice;
}

const SECTORS_PER_PAGE = 8;

/** A disk. */
export class DiskSwapDevice implements SwapDevice {
  readonly nrPages: number;
  readonly solidState: boolean;
  readonly disk: BlockDevice;

  constructor(disk: BlockDevice) {
    this.disk = disk;
    this.nrPages = Math.floor(disk.nrSectors / SECTORS_PER_PAGE);
    this.solidState = disk.model.fullStrokeNs === 0;
  }

  read(page: number, pfn: Pfn): number {
    return this.disk.read(page * SECTORS_PER_PAGE, [{ address: pfn * PAGE_SIZE, length: PAGE_SIZE }]);
  }

  write(page: number, pfn: Pfn): number {
    return this.disk.write(page * SECTORS_PER_PAGE, [{ address: pfn * PAGE_SIZE, length: PAGE_SIZE }]);
  }

  discard(page: number, nrPages: number): void {
    this.disk.waitForRoom();
    const tag = this.disk.submit(REQ_OP_DISCARD, page * SECTORS_PER_PAGE, [], nrPages * SECTORS_PER_PAGE);
    if (tag >= 0) this.disk.wait(tag);
  }
}

/** A file on a device, all of whose blocks are there: they are read and written past its page cache. @linux mm/page_io.c:generic_swapfile_activate */
export class FileSwapDevice implements SwapDevice {
  readonly nrPages: number;
  readonly solidState = true;
  readonly #ram: PhysicalMemory;
  readonly #store: BlockStore;
  readonly #inode: Inode;

  constructor(ram: PhysicalMemory, store: BlockStore, inode: Inode) {
    this.#ram = ram;
    this.#store = store;
    this.#inode = inode;
    this.nrPages = Math.floor(inode.size / PAGE_SIZE);
  }

  read(page: number, pfn: Pfn): number {
    const block = this.#inode.blockMap!.get(page);
    return block < 0 ? -Errno.EIO : this.#store.read(block, this.#ram, pfn);
  }

  write(page: number, pfn: Pfn): number {
    const block = this.#inode.blockMap!.get(page);
    return block < 0 ? -Errno.EIO : this.#store.write(block, this.#ram, pfn);
  }
}

/** Pages in the host's memory, which it takes as they are written. */
export class MemorySwapDevice implements SwapDevice {
  readonly nrPages: number;
  readonly solidState = true;
  /** Pages that cannot be read or written, for tests. */
  readonly badPages = new Set<number>();
  readonly #ram: PhysicalMemory;
  readonly #extents: (Uint8Array | undefined)[] = [];

  constructor(ram: PhysicalMemory, nrPages: number) {
    this.#ram = ram;
    this.nrPages = nrPages;
  }

  read(page: number, pfn: Pfn): number {
    if (this.badPages.size > 0 && this.badPages.has(page)) return -Errno.EIO;
    const { u8 } = this.#ram;
    const host = this.#ram.frameWord(pfn) * 4;
    const bytes = this.#extents[page >>> 9];
    const at = (page & 511) * PAGE_SIZE;
    if (bytes === undefined) u8.fill(0, host, host + PAGE_SIZE);
    else u8.set(bytes.subarray(at, at + PAGE_SIZE), host);
    return 0;
  }

  write(page: number, pfn: Pfn): number {
    if (this.badPages.size > 0 && this.badPages.has(page)) return -Errno.EIO;
    let bytes = this.#extents[page >>> 9];
    if (bytes === undefined) {
      bytes = new Uint8Array(512 * PAGE_SIZE);
      this.#extents[page >>> 9] = bytes;
    }
    const host = this.#ram.frameWord(pfn) * 4;
    bytes.set(this.#ram.u8.subarray(host, host + PAGE_SIZE), (page & 511) * PAGE_SIZE);
    return 0;
  }

  discard(page: number, nrPages: number): void {
    if ((page & 511) === 0 && nrPages === 512) this.#extents[page >>> 9] = undefined;
  }
}

/**
 * Writes the header that `swapon` looks for to the first page: version 1, and the number of the last page.
 *
 * @param page 4,096 bytes
 * @param nrPages pages of the area, the header's included
 * @param badPages pages that are not to be used
 * @linux include/linux/swap.h:swap_header
 */
export function writeSwapHeader(page: Uint8Array, nrPages: number, badPages: readonly number[] = []): void {
  const view = new DataView(page.buffer, page.byteOffset, PAGE_SIZE);
  page.fill(0);
  view.setUint32(1024, 1, true);
  view.setUint32(1028, nrPages - 1, true);
  view.setUint32(1032, badPages.length, true);
  badPages.forEach((bad, i) => {
    view.setUint32(1536 + i * 4, bad, true);
  });
  for (let i = 0; i < SIGNATURE.length; i++) page[SIGNATURE_AT + i] = SIGNATURE.charCodeAt(i);
}

/**
 * Reads it.
 *
 * @returns the area's pages, and its bad ones; −EINVAL where there is none, or one that makes no sense
 * @linux mm/swapfile.c:read_swap_header
 */
export function readSwapHeader(page: Uint8Array, nrPages: number): { maxPages: number; badPages: number[] } | number {
  const view = new DataView(page.buffer, page.byteOffset, PAGE_SIZE);
  for (let i = 0; i < SIGNATURE.length; i++) if (page[SIGNATURE_AT + i] !== SIGNATURE.charCodeAt(i)) return -Errno.EINVAL;
  const lastPage = view.getUint32(1028, true);
  const nrBad = view.getUint32(1032, true);
  if (view.getUint32(1024, true) !== 1 || lastPage === 0 || lastPage + 1 > nrPages || nrBad > MAX_BADPAGES) return -Errno.EINVAL;
  const badPages = Array.from({ length: nrBad }, (_, i) => view.getUint32(1536 + i * 4, true));
  if (badPages.some((bad) => bad === 0 || bad > lastPage)) return -Errno.EINVAL;
  return { maxPages: lastPage + 1, badPages };
}

const SIGNATURE = 'SWAPSPACE2';
const SIGNATURE_AT = PAGE_SIZE - 10;
/** @linux include/linux/swap.h:MAX_SWAP_BADPAGES */
const MAX_BADPAGES = 637;
