/**
 * Regular files of a directory of the host, to be read: the page cache in front, the host's files behind.
 *
 * The host's files are taken to stay as they are: how long one is, is what the host said when it was first looked up, and
 * one that has become shorter since cannot be read there. Reading takes no virtual time. Nothing is ever written: no page
 * of such a file is dirty.
 *
 * @linux fs/hostfs/hostfs_kern.c
 */
import { Errno, S_IFREG } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { KernelBug } from '@pagelab/lib';
import { GFP_KERNEL, PG_UPTODATE } from '@pagelab/mm-core';
import type { AddressSpace, AddressSpaceOps, Inode, VmFile } from './file.ts';
import { filemapFault, filemapGetPage } from './filemap-fault.ts';
import { addFolio, maxFolioOrder } from './folio.ts';
import { TAG_DIRTY, makeInode } from './page-cache.ts';
import { forcePageCacheRa } from './readahead.ts';
import type { ReadAheadHost } from './readahead.ts';
import { truncatePagecache } from './truncate.ts';
import type { Vm } from './vm.ts';
import type { VmArea } from './vma.ts';

/** What the host has under a name. */
export interface HostEntry {
  readonly kind: 'file' | 'directory';
  /** Bytes of a file. */
  readonly size: number;
  /** Permissions: three octal digits. */
  readonly mode: number;
}

/**
 * A directory of the host. Paths are names joined by `/`, without `.` and `..`; `''` is the directory itself. It must not
 * lead out of the directory.
 */
export interface HostDirectory {
  /** What a path leads to; `undefined` for nothing, or for what is neither a file nor a directory. */
  stat(path: string): HostEntry | undefined;
  /** Reads a file from `position` bytes on into `target`. May throw: an I/O error. @returns bytes read, 0 at its end */
  read(path: string, position: number, target: Uint8Array): number;
}

/** Bytes that a file can have at most. @linux include/linux/fs.h:MAX_LFS_FILESIZE */
const MAX_BYTES = 2 ** 63;
/** Pages of the largest read-ahead window: 128 KiB. @linux include/linux/pagemap.h:VM_READAHEAD_PAGES */
const RA_PAGES = 32;
const SECTOR_BYTES = 512;

/** The files of one directory of the host. */
export class HostFs implements AddressSpaceOps, ReadAheadHost {
  readonly name = 'hostfs';
  readonly swapBacked = false;
  readonly writeNotify = false;
  readonly maxBytes = MAX_BYTES;
  readonly #maxStep: number;
  readonly dev = '00:16';
  readonly vm: Vm;
  readonly raPages = RA_PAGES;
  readonly #directory: HostDirectory;
  readonly #paths = new Map<Inode, string>();

  constructor(vm: Vm, directory: HostDirectory) {
    this.vm = vm;
    this.#maxStep = PAGE_SIZE << maxFolioOrder(vm);
    this.#directory = directory;
  }

  /** What the host has at a path below the directory. */
  stat(path: string): HostEntry | undefined {
    return this.#directory.stat(path);
  }

  /**
   * Makes the inode of a file of the host, with one name and one user.
   *
   * @returns the inode, or −ENOMEM
   * @linux fs/hostfs/hostfs_kern.c:hostfs_iget
   */
  makeFile(path: string, { size, mode }: HostEntry): Inode | number {
    const object = this.vm.caches.inode.alloc(GFP_KERNEL);
    if (object === 0) return -Errno.ENOMEM;
    const inode = makeInode(this.vm, { ops: this, size, nlink: 1, mode: S_IFREG | mode, accounted: false, object });
    this.#paths.set(inode, path);
    return inode;
  }

  maxStep(): number {
    return this.#maxStep;
  }

  getPage(mapping: AddressSpace, pgoff: number, vma?: VmArea): number {
    return filemapFault(this, mapping, pgoff, vma);
  }

  readPage(mapping: AddressSpace, pgoff: number, nrPages: number, file: VmFile | null): number {
    return filemapGetPage(this, mapping, pgoff, nrPages, file);
  }

  pageMkwrite(): number {
    return -Errno.EROFS;
  }

  writeBegin(): number {
    return -Errno.EROFS;
  }

  writeEnd(): number {
    return 0;
  }

  truncate(): number {
    return -Errno.EROFS;
  }

  fallocate(): number {
    return -Errno.EROFS;
  }

  writeBack(): number {
    return 0;
  }

  sync(): number {
    return 0;
  }

  willNeed(mapping: AddressSpace, firstPgoff: number, lastPgoff: number): void {
    forcePageCacheRa(this, mapping, firstPgoff, lastPgoff - firstPgoff + 1);
  }

  /** All of a file is data. */
  nextData(inode: Inode, pgoff: number): number {
    return pgoff * PAGE_SIZE < inode.size ? pgoff : -1;
  }

  blocks(inode: Inode): number {
    return Math.ceil(inode.size / SECTOR_BYTES);
  }

  /** @linux fs/hostfs/hostfs_kern.c:hostfs_evict_inode */
  evict(inode: Inode): void {
    const { vm } = this;
    truncatePagecache(vm, inode.mapping, 0);
    vm.mappings.free(inode.mapping.id);
    vm.caches.inode.free(inode.object);
    this.#paths.delete(inode);
  }

  readFolio(mapping: AddressSpace, pgoff: number, order: number): number {
    const error = addFolio(this.vm, mapping, pgoff, order);
    if (error !== 0) return error;
    for (let at = pgoff; at < pgoff + (1 << order); at++) this.fillPage(mapping, at, mapping.pages.get(at));
    return 0;
  }

  beginFault(): void {
    // All of a file is data, and comes at once.
  }

  endFault(): void {
    // Nothing is on its way.
  }

  /** Behind the end of the file the page is zero. @linux fs/hostfs/hostfs_kern.c:hostfs_read_folio */
  fillPage({ inode }: AddressSpace, pgoff: number, pfn: Pfn): number {
    const { ram, frames } = this.vm;
    const at = ram.frameWord(pfn) * 4;
    const wanted = Math.max(0, Math.min(PAGE_SIZE, inode.size - pgoff * PAGE_SIZE));
    if (!this.#read(this.#paths.get(inode)!, pgoff * PAGE_SIZE, ram.u8.subarray(at, at + wanted))) return -Errno.EIO;
    ram.u8.fill(0, at + wanted, at + PAGE_SIZE);
    frames.flags[pfn] |= PG_UPTODATE;
    return 0;
  }

  /**
   * Looks for what was stored to files that cannot be.
   *
   * @throws KernelBug where one has a dirty page, or a mapping that may write
   */
  validate(): void {
    for (const [{ mapping }, path] of this.#paths) {
      if (mapping.pages.findMarked(0, TAG_DIRTY) >= 0) throw new KernelBug(`hostfs: ${path} has a dirty page`);
      if (mapping.mmapWritable !== 0) throw new KernelBug(`hostfs: ${path} has a mapping that may write`);
    }
  }

  /** Fills `target` from the host's file; false where not all of it can be had. */
  #read(path: string, position: number, target: Uint8Array): boolean {
    try {
      let done = 0;
      while (done < target.length) {
        const read = this.#directory.read(path, position + done, target.subarray(done));
        if (!(read > 0)) return false;
        done += read;
      }
      return true;
    } catch {
      return false;
    }
  }
}
