/**
 * Regular files on a device: the page cache in front, blocks of a page each behind.
 *
 * Data reaches the device when it is written back: by `fsync`, `msync` and the like. A page that was made dirty has its
 * block from then on, so that there is room when it is written back; until then the block is *unwritten*, and reads as
 * zero whatever it holds.
 *
 *     inode.blockMap: page offset → block; UNWRITTEN marks those without data
 *     blocks of all maps + free blocks === all blocks, none twice
 *
 * What is seen from outside follows Linux's ext4 with blocks of 4 KiB.
 *
 * @linux fs/ext4/inode.c, fs/ext4/extents.c
 */
import {
  Errno,
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  S_IFREG,
} from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { KernelBug, XA_MARK_0, XArrayInt } from '@pagelab/lib';
import { GFP_KERNEL, PG_UPTODATE } from '@pagelab/mm-core';
import type { BlockStore } from './block-store.ts';
import type { AddressSpace, AddressSpaceOps, Inode, VmFile } from './file.ts';
import { addFolio, addFolioUpTo, dissolveFolio, folioStart, maxFolioOrder } from './folio.ts';
import { TAG_WRITEBACK, WritebackPlug, endReads, folioWaitWriteback } from './folio-writeback.ts';
import type { WritebackBio } from './folio-writeback.ts';
import { filemapFault, filemapGetPage } from './filemap-fault.ts';
import { clearHighpage } from './highmem.ts';
import {
  TAG_BUFFER_DIRTY,
  TAG_DIRTY,
  clearPageDirty,
  folioOrder,
  makeInode,
  markPageAccessed,
  removeFromPageCache,
  setPageDirty,
  setRangeDirty,
} from './page-cache.ts';
import { pageMkclean } from './page-mkclean.ts';
import { forcePageCacheRa } from './readahead.ts';
import type { ReadAheadHost } from './readahead.ts';
import { truncatePagecache, truncatePagecacheRange } from './truncate.ts';
import type { Vm } from './vm.ts';
import type { VmArea } from './vma.ts';

/** The mark of blocks that were never written. @linux fs/ext4/ext4_extents.h:ext4_ext_is_unwritten */
const UNWRITTEN = XA_MARK_0;
/** 2^32 − 1 blocks. @linux fs/ext4/super.c:ext4_max_size */
const MAX_BYTES = (2 ** 32 - 1) * PAGE_SIZE;
const SECTORS_PER_BLOCK = 8;
/** Pages of the largest read-ahead window: 8 MiB, as the virtual disk has it whose behaviour was recorded. */
const RA_PAGES = 2048;

export class BlockFs implements AddressSpaceOps, ReadAheadHost {
  readonly name = 'blockfs';
  readonly swapBacked = false;
  readonly writeNotify = true;
  readonly maxBytes = MAX_BYTES;
  readonly #maxStep: number;
  readonly dev = 'fe:00';
  readonly vm: Vm;
  readonly store: BlockStore;
  raPages = RA_PAGES;
  /** Blocks that were freed, to be used first. */
  readonly #freed: number[] = [];
  /** Blocks from here on were never used. Block 0 is the file system's own. */
  #nextBlock = 1;
  /** Pages that had nothing behind them when the step of a write that is under way began. */
  readonly #newBlocks = new Set<number>();

  /** Pages that are read from the device for the fault that is served. */
  readonly #readForFault: number[] = [];
  #collects = false;

  constructor(vm: Vm, store: BlockStore) {
    this.vm = vm;
    this.#maxStep = PAGE_SIZE << maxFolioOrder(vm);
    this.store = store;
  }

  /** Blocks that no file has. */
  get freeBlocks(): number {
    return this.store.nrBlocks - this.#nextBlock + this.#freed.length;
  }

  /**
   * Makes an empty file with one user.
   *
   * @param mode permissions
   * @param nlink names that it has
   * @returns the inode, or −ENOMEM
   */
  makeFile(mode: number, nlink: number): Inode | number {
    const object = this.vm.caches.inode.alloc(GFP_KERNEL);
    if (object === 0) return -Errno.ENOMEM;
    const inode = makeInode(this.vm, { ops: this, size: 0, nlink, mode: S_IFREG | mode, accounted: false, object });
    inode.blockMap = new XArrayInt();
    return inode;
  }

  maxStep(): number {
    return this.#maxStep;
  }

  /** @linux mm/filemap.c:filemap_fault */
  getPage(mapping: AddressSpace, pgoff: number, vma?: VmArea): number {
    return filemapFault(this, mapping, pgoff, vma);
  }

  /** @linux fs/ext4/inode.c:ext4_page_mkwrite */
  pageMkwrite(mapping: AddressSpace, pgoff: number): number {
    const { inode, pages } = mapping;
    const pfn = pages.get(pgoff);
    const order = folioOrder(this.vm, pfn);
    const head = folioStart(pgoff, order);
    // The folio becomes dirty, and may be mapped, as a whole.
    const behind = Math.min(head + (1 << order), Math.ceil(inode.size / PAGE_SIZE));
    for (let at = head; at < behind; at++) {
      const error = this.#reserve(inode, at);
      if (error !== 0) return error;
    }
    setPageDirty(this.vm, pfn);
    inode.mtime = this.vm.clock.now;
    inode.ctime = inode.mtime;
    return 0;
  }

  /** @linux mm/filemap.c:filemap_get_pages */
  readPage(mapping: AddressSpace, pgoff: number, nrPages: number, file: VmFile | null): number {
    return filemapGetPage(this, mapping, pgoff, nrPages, file);
  }

  /** @linux fs/ext4/inode.c:ext4_da_write_begin */
  writeBegin(mapping: AddressSpace, pos: number, length: number): number {
    const { vm } = this;
    const { inode, pages } = mapping;
    const first = Math.floor(pos / PAGE_SIZE);
    if (!pages.has(first)) {
      const order = length < 2 * PAGE_SIZE ? 0 : Math.floor(Math.log2(length / PAGE_SIZE));
      const error = addFolioUpTo(vm, mapping, first, order);
      if (error !== 0) return error;
    }
    const order = folioOrder(vm, pages.get(first));
    const allowed = Math.min(length, (folioStart(first, order) + (1 << order)) * PAGE_SIZE - pos);
    const last = Math.floor((pos + allowed - 1) / PAGE_SIZE);
    this.#newBlocks.clear();
    let error = 0;
    for (let pgoff = first; pgoff <= last && error === 0; pgoff++) {
      if (this.#isHole(inode, pgoff)) this.#newBlocks.add(pgoff);
      error = this.#reserve(inode, pgoff);
    }
    // What the call does not overwrite of its first and last page has to be there.
    if (error === 0 && (pos % PAGE_SIZE !== 0 || allowed < PAGE_SIZE)) error = this.#makeUptodate(mapping, first);
    if (error === 0 && (pos + allowed) % PAGE_SIZE !== 0) error = this.#makeUptodate(mapping, last);
    if (error === 0) return allowed;
    this.#dropBeyondEnd(mapping, first, last);
    return error;
  }

  /**
   * A page whose block is new is zero where nothing was stored to it, and dirty even so; so is one in whose midst a write
   * that comes to nothing would have begun.
   *
   * @linux fs/ext4/inode.c:ext4_da_write_end, ext4_da_do_write_end
   */
  writeEnd(mapping: AddressSpace, pos: number, length: number, copied: number): number {
    const { vm } = this;
    const { flags } = vm.frames;
    const { inode, pages } = mapping;
    const first = Math.floor(pos / PAGE_SIZE);
    const last = Math.floor((pos + length - 1) / PAGE_SIZE);
    let taken = copied;
    if (copied < length) {
      for (let pgoff = first; pgoff <= last; pgoff++) {
        if ((flags[pages.get(pgoff)] & PG_UPTODATE) === 0) taken = 0;
      }
    }
    for (let pgoff = first; pgoff <= last; pgoff++) {
      const pfn = pages.get(pgoff);
      if (taken === length) {
        flags[pfn] |= PG_UPTODATE;
      } else if ((flags[pfn] & PG_UPTODATE) === 0 && this.#newBlocks.has(pgoff)) {
        clearHighpage(vm, pfn);
        flags[pfn] |= PG_UPTODATE;
      }
    }
    if (taken > 0 || pos % PAGE_SIZE !== 0) {
      setRangeDirty(vm, mapping, first, Math.floor((pos + Math.max(taken, 1) - 1) / PAGE_SIZE));
    }
    if (taken === 0) for (const pgoff of this.#newBlocks) setRangeDirty(vm, mapping, pgoff, pgoff);
    const oldSize = inode.size;
    if (pos + taken > oldSize) inode.size = pos + taken;
    // Mappings may have stored behind the old end of the file.
    if (pos > oldSize) this.#zeroBytes(mapping, oldSize, Math.min(pos, Math.ceil(oldSize / PAGE_SIZE) * PAGE_SIZE));
    return taken;
  }

  /** @linux fs/ext4/inode.c:ext4_setattr */
  truncate(inode: Inode, newSize: number): number {
    const { mapping, size: oldSize } = inode;
    if (newSize < 0) return -Errno.EINVAL;
    if (newSize > MAX_BYTES) return -Errno.EFBIG;
    if (inode.isSwapfile) return -Errno.ETXTBSY;
    inode.mtime = this.vm.clock.now;
    inode.ctime = inode.mtime;
    if (newSize > oldSize) {
      const error = this.#zeroBytes(mapping, oldSize, Math.ceil(oldSize / PAGE_SIZE) * PAGE_SIZE);
      if (error !== 0) return error;
      inode.size = newSize;
      // A folio that could not be split when the file was cut may reach beyond.
      truncatePagecache(this.vm, mapping, newSize);
      return 0;
    }
    inode.size = newSize;
    truncatePagecache(this.vm, mapping, newSize);
    this.#freeBlocks(inode, Math.ceil(newSize / PAGE_SIZE), Infinity);
    return this.#zeroBytes(mapping, newSize, Math.ceil(newSize / PAGE_SIZE) * PAGE_SIZE);
  }

  /** @linux fs/ext4/extents.c:ext4_fallocate */
  fallocate(inode: Inode, mode: number, offset: number, length: number): number {
    const end = offset + length;
    if (offset < 0 || length <= 0) return -Errno.EINVAL;
    if (end > MAX_BYTES) return -Errno.EFBIG;
    if (inode.isSwapfile) return -Errno.ETXTBSY;
    inode.ctime = this.vm.clock.now;
    switch (mode & ~FALLOC_FL_KEEP_SIZE) {
      case 0:
        return this.#allocate(inode, offset, end, mode);
      case FALLOC_FL_ZERO_RANGE:
        return this.#zeroRange(inode, offset, end, mode);
      case FALLOC_FL_PUNCH_HOLE:
        return (mode & FALLOC_FL_KEEP_SIZE) === 0 ? -Errno.EOPNOTSUPP : this.#punchHole(inode, offset, end);
      case FALLOC_FL_COLLAPSE_RANGE:
        return mode !== FALLOC_FL_COLLAPSE_RANGE ? -Errno.EOPNOTSUPP : this.#collapse(inode, offset, end);
      case FALLOC_FL_INSERT_RANGE:
        return mode !== FALLOC_FL_INSERT_RANGE ? -Errno.EOPNOTSUPP : this.#insert(inode, offset, length);
      default:
        return -Errno.EOPNOTSUPP;
    }
  }

  /** @linux fs/ext4/inode.c:ext4_writepages */
  writeBack(inode: Inode, firstPgoff: number, lastPgoff: number, waits: boolean): number {
    return this.#writeCachePages(inode, firstPgoff, lastPgoff, false, waits);
  }

  /** @linux mm/filemap.c:filemap_write_and_wait_range */
  sync(inode: Inode, firstPgoff: number, lastPgoff: number): number {
    const { writeErrors } = inode;
    this.#writeCachePages(inode, firstPgoff, lastPgoff, true, true);
    folioWaitWriteback(this.vm, inode.mapping, firstPgoff, lastPgoff);
    return inode.writeErrors === writeErrors ? 0 : -Errno.EIO;
  }

  /**
   * Begins to write dirty folios that reach into the range.
   *
   * @param all also folios that are on their way as they were before: time passes until they have arrived
   * @param waits time may pass until the device has room
   * @returns pages whose writing began
   * @linux mm/page-writeback.c:writeback_iter
   */
  #writeCachePages(inode: Inode, firstPgoff: number, lastPgoff: number, all: boolean, waits: boolean): number {
    const { vm } = this;
    const { mapping } = inode;
    const { pages } = mapping;
    const plug = new WritebackPlug(vm, this.store, this.#endWrite);
    let begun = 0;
    for (
      let pgoff = pages.findMarked(firstPgoff, TAG_DIRTY);
      pgoff >= 0 && pgoff <= lastPgoff;
      pgoff = pages.findMarked(pgoff, TAG_DIRTY)
    ) {
      if (!waits && this.store.full) {
        vm.writeback.blocked = true;
        break;
      }
      const order = folioOrder(vm, pages.get(pgoff));
      const head = folioStart(pgoff, order);
      const behind = head + (1 << order);
      const onItsWay = pages.findMarked(head, TAG_WRITEBACK);
      if (onItsWay >= 0 && onItsWay < behind) {
        if (!all) {
          pgoff = behind;
          continue;
        }
        plug.submit();
        folioWaitWriteback(vm, mapping, head, behind - 1);
      }
      for (let at = head; at < behind; at++) if (this.#writePage(mapping, at, plug)) begun++;
    }
    plug.submit();
    return begun;
  }

  willNeed(mapping: AddressSpace, firstPgoff: number, lastPgoff: number): void {
    forcePageCacheRa(this, mapping, firstPgoff, lastPgoff - firstPgoff + 1);
  }

  /** A block that was never written is a hole but where its page is cached. @linux fs/ext4/file.c:ext4_llseek */
  nextData({ blockMap, mapping }: Inode, pgoff: number): number {
    let at = blockMap!.nextIndex(pgoff);
    while (at >= 0 && blockMap!.getMark(at, UNWRITTEN) && !this.#holdsData(mapping, at)) at = blockMap!.nextIndex(at + 1);
    return at;
  }

  blocks(inode: Inode): number {
    return inode.blockMap!.size * SECTORS_PER_BLOCK;
  }

  /** @linux fs/ext4/inode.c:ext4_evict_inode */
  evict(inode: Inode): void {
    const { vm } = this;
    truncatePagecache(vm, inode.mapping, 0);
    this.#freeBlocks(inode, 0, Infinity);
    vm.writeback.dirtied.delete(inode.mapping.id);
    vm.mappings.free(inode.mapping.id);
    vm.caches.inode.free(inode.object);
  }

  /** Makes a folio and reads it. @linux fs/ext4/readpage.c:ext4_mpage_readpages */
  readFolio(mapping: AddressSpace, pgoff: number, order: number): number {
    const error = addFolio(this.vm, mapping, pgoff, order);
    if (error !== 0) return error;
    for (let at = pgoff; at < pgoff + (1 << order); at++) this.fillPage(mapping, at, mapping.pages.get(at));
    return 0;
  }

  beginFault(): void {
    this.#readForFault.length = 0;
    this.#collects = true;
  }

  /** @linux mm/filemap.c:filemap_fault: who does not wait for the device sees the pages that it reads locked */
  endFault({ id, pages }: AddressSpace, pgoff: number): void {
    const { flags } = this.vm.frames;
    this.#collects = false;
    const read = this.#readForFault;
    // All go in one operation: who waits for one of them has them all.
    if (read.length === 0 || read.includes(pgoff)) return;
    for (const at of read) {
      const pfn = pages.get(at);
      // One that could not be read is tried again by whoever wants it.
      if (pfn < 0 || (flags[pfn] & PG_UPTODATE) === 0) continue;
      flags[pfn] &= ~PG_UPTODATE;
      this.vm.writeback.reads.push({ mappingId: id, pgoff: at, pfn });
    }
    this.vm.writeback.submitted();
  }

  /** Makes a cached page up to date. What was stored to it counts, whether or not the rest had been read. @returns 0 or −EIO */
  fillPage(mapping: AddressSpace, pgoff: number, pfn: Pfn): number {
    const { pages } = mapping;
    const isHeld = pages.getMark(pgoff, TAG_BUFFER_DIRTY) || pages.getMark(pgoff, TAG_WRITEBACK);
    const error = isHeld ? 0 : this.#read(mapping, pgoff, pfn);
    if (error === 0) this.vm.frames.flags[pfn] |= PG_UPTODATE;
    return error;
  }

  /**
   * Recomputes who has which block.
   *
   * @throws KernelBug where a block has two owners, or none
   */
  validate(): void {
    const owned = new Set<number>(this.#freed);
    const claim = (ok: boolean, what: string): void => {
      if (!ok) throw new KernelBug(`blockfs: ${what}`);
    };
    claim(owned.size === this.#freed.length, 'a block is free twice');
    this.vm.mappings.forEach((mapping) => {
      const { inode } = mapping;
      if (mapping.ops !== this) return;
      inode.blockMap!.validate();
      inode.blockMap!.forEachIn(0, Infinity, (block) => {
        claim(block > 0 && block < this.#nextBlock && !owned.has(block), `block ${block} of inode ${inode.ino} has another owner`);
        owned.add(block);
      });
    });
    claim(owned.size === this.#nextBlock - 1, `${this.#nextBlock - 1 - owned.size} blocks are lost`);
  }

  /** Whether a page has nothing behind it: no block, or one that was never written and is not about to be. */
  #isHole({ blockMap, mapping }: Inode, pgoff: number): boolean {
    if (!blockMap!.has(pgoff)) return true;
    if (!blockMap!.getMark(pgoff, UNWRITTEN)) return false;
    return !mapping.pages.getMark(pgoff, TAG_BUFFER_DIRTY) && !mapping.pages.getMark(pgoff, TAG_WRITEBACK);
  }

  /** Reads a cached page from its block. @returns 0 or −EIO */
  #read(mapping: AddressSpace, pgoff: number, pfn: Pfn): number {
    if (this.vm.writeback.reads.length > 0) endReads(this.vm);
    if ((this.vm.frames.flags[pfn] & PG_UPTODATE) !== 0) return 0;
    const { ram } = this.vm;
    const { blockMap } = mapping.inode;
    const block = blockMap!.get(pgoff);
    if (block >= 0 && !blockMap!.getMark(pgoff, UNWRITTEN)) {
      if (this.#collects) this.#readForFault.push(pgoff);
      return this.store.read(block, ram, pfn);
    }
    ram.zeroFrame(pfn);
    return 0;
  }

  /** Whether a page is cached with its contents. @linux mm/filemap.c:folio_seek_hole_data */
  #holdsData({ pages }: AddressSpace, pgoff: number): boolean {
    const pfn = pages.get(pgoff);
    return pfn >= 0 && ((this.vm.frames.flags[pfn] & PG_UPTODATE) !== 0 || pages.getMark(pgoff, TAG_BUFFER_DIRTY));
  }

  #makeUptodate(mapping: AddressSpace, pgoff: number): number {
    const pfn = mapping.pages.get(pgoff);
    return (this.vm.frames.flags[pfn] & PG_UPTODATE) !== 0 ? 0 : this.fillPage(mapping, pgoff, pfn);
  }

  /** Begins to write a dirty page to its block. What it holds beyond the end of the file is cleared. @returns whether it did @linux fs/ext4/page-io.c:ext4_bio_write_folio */
  #writePage(mapping: AddressSpace, pgoff: number, plug: WritebackPlug): boolean {
    const { vm } = this;
    const { inode } = mapping;
    const pfn = mapping.pages.get(pgoff);
    pageMkclean(vm, mapping, pgoff, pfn);
    clearPageDirty(vm, mapping, pgoff, pfn);
    const left = inode.size - pgoff * PAGE_SIZE;
    const block = inode.blockMap!.get(pgoff);
    if (left <= 0 || block < 0) return false;
    const host = vm.ram.frameWord(pfn) * 4;
    if (left < PAGE_SIZE) vm.ram.u8.fill(0, host + left, host + PAGE_SIZE);
    plug.add(mapping, pgoff, block, pfn);
    return true;
  }

  /** The device is done: blocks hold data now, or whoever asks is told that they do not. @linux fs/ext4/page-io.c:ext4_end_io_end */
  readonly #endWrite = ({ mapping: { inode }, firstPgoff, pfns }: WritebackBio, error: number): void => {
    if (error !== 0) {
      inode.writeErrors++;
      return;
    }
    for (let pgoff = firstPgoff; pgoff < firstPgoff + pfns.length; pgoff++) inode.blockMap!.clearMark(pgoff, UNWRITTEN);
  };

  /** Makes sure that a page has a block. @returns 0 or −ENOSPC @linux fs/ext4/inode.c:ext4_da_map_blocks */
  #reserve(inode: Inode, pgoff: number): number {
    const { blockMap } = inode;
    if (blockMap!.has(pgoff)) return 0;
    let block = this.#freed.pop();
    if (block === undefined) {
      if (this.#nextBlock >= this.store.nrBlocks) return -Errno.ENOSPC;
      block = this.#nextBlock++;
    }
    blockMap!.set(pgoff, block);
    blockMap!.setMark(pgoff, UNWRITTEN);
    return 0;
  }

  /** Frees the blocks of pages [first, behind). */
  #freeBlocks(inode: Inode, first: number, behind: number): void {
    const { blockMap } = inode;
    for (let at = blockMap!.nextIndex(first); at >= 0 && at < behind; at = blockMap!.nextIndex(at + 1)) {
      this.#freed.push(blockMap!.get(at));
      blockMap!.delete(at);
    }
  }

  /** After a write for which there was no room: what was made for it behind the end of the file goes again. @linux fs/ext4/truncate.h:ext4_truncate_failed_write */
  #dropBeyondEnd(mapping: AddressSpace, first: number, last: number): void {
    const { vm } = this;
    const { inode, pages } = mapping;
    for (let pgoff = first; pgoff <= last; pgoff++) {
      if (pgoff * PAGE_SIZE < inode.size) continue;
      const pfn = pages.get(pgoff);
      if (pfn >= 0 && (vm.frames.flags[pfn] & PG_UPTODATE) === 0) {
        const order = folioOrder(vm, pfn);
        if (order > 0) dissolveFolio(vm, mapping, folioStart(pgoff, order), order);
        removeFromPageCache(vm, mapping, pgoff);
      }
      if (!pages.has(pgoff)) this.#freeBlocks(inode, pgoff, pgoff + 1);
    }
  }

  /**
   * Clears bytes [from, to), which lie in one page, of the file. A page that was not cached is not up to date afterwards,
   * though it holds what it should; that of a hole, which is zero already, holds nothing.
   *
   * @returns 0, −EIO, −ENOMEM
   * @linux fs/ext4/inode.c:ext4_block_zero_page_range
   */
  #zeroBytes(mapping: AddressSpace, from: number, to: number): number {
    const { vm } = this;
    const { pages } = mapping;
    if (from >= to) return 0;
    const pgoff = Math.floor(from / PAGE_SIZE);
    if (!pages.has(pgoff)) {
      const error = addFolio(vm, mapping, pgoff, 0);
      if (error !== 0) return error;
    }
    markPageAccessed(vm, mapping, pgoff);
    if (this.#isHole(mapping.inode, pgoff)) return 0;
    const pfn = pages.get(pgoff);
    const isHeld = pages.getMark(pgoff, TAG_BUFFER_DIRTY) || (vm.frames.flags[pfn] & PG_UPTODATE) !== 0;
    const error = isHeld ? 0 : this.#read(mapping, pgoff, pfn);
    if (error !== 0) return error;
    const host = vm.ram.frameWord(pfn) * 4 - pgoff * PAGE_SIZE;
    vm.ram.u8.fill(0, host + from, host + to);
    setRangeDirty(vm, mapping, pgoff, pgoff);
    return 0;
  }

  /** Clears the pages that [start, end) covers only in part. @linux fs/ext4/inode.c:ext4_zero_partial_blocks */
  #zeroEdges(mapping: AddressSpace, start: number, end: number): number {
    const firstEnd = Math.ceil(start / PAGE_SIZE) * PAGE_SIZE;
    const lastStart = Math.floor(end / PAGE_SIZE) * PAGE_SIZE;
    if (firstEnd > lastStart) return this.#zeroBytes(mapping, start, end);
    return this.#zeroBytes(mapping, start, firstEnd) || this.#zeroBytes(mapping, lastStart, end);
  }

  /** @linux fs/ext4/extents.c:ext4_do_fallocate */
  #allocate(inode: Inode, offset: number, end: number, mode: number): number {
    const last = Math.ceil(end / PAGE_SIZE);
    for (let pgoff = Math.floor(offset / PAGE_SIZE); pgoff < last; pgoff++) {
      const error = this.#reserve(inode, pgoff);
      if (error !== 0) return error;
    }
    const oldSize = inode.size;
    if ((mode & FALLOC_FL_KEEP_SIZE) !== 0 || end <= oldSize) return 0;
    inode.size = end;
    return this.#zeroEdges(inode.mapping, oldSize, end);
  }

  /** @linux fs/ext4/inode.c:ext4_punch_hole */
  #punchHole(inode: Inode, offset: number, wantedEnd: number): number {
    const { mapping } = inode;
    if (offset >= inode.size) return 0;
    const end = wantedEnd > inode.size ? Math.ceil(inode.size / PAGE_SIZE) * PAGE_SIZE : wantedEnd;
    truncatePagecacheRange(this.vm, mapping, offset, end);
    const error = this.#zeroEdges(mapping, offset, end);
    if (error !== 0) return error;
    this.#freeBlocks(inode, Math.ceil(offset / PAGE_SIZE), Math.floor(end / PAGE_SIZE));
    return 0;
  }

  /** @linux fs/ext4/extents.c:ext4_zero_range */
  #zeroRange(inode: Inode, offset: number, end: number, mode: number): number {
    const { mapping, blockMap } = inode;
    const first = Math.ceil(offset / PAGE_SIZE);
    const behind = Math.floor(end / PAGE_SIZE);
    const isWhole = offset % PAGE_SIZE === 0 && end % PAGE_SIZE === 0;
    let error = isWhole ? 0 : this.#allocate(inode, offset, end, mode);
    if (error !== 0) return error;
    truncatePagecacheRange(this.vm, mapping, offset, end);
    if (behind > first) error = this.#allocate(inode, first * PAGE_SIZE, behind * PAGE_SIZE, mode);
    if (error !== 0) return error;
    for (let pgoff = first; pgoff < behind; pgoff++) blockMap!.setMark(pgoff, UNWRITTEN);
    return isWhole ? 0 : this.#zeroEdges(mapping, offset, end);
  }

  /** Takes a range out of the file: what is behind it moves up. @linux fs/ext4/extents.c:ext4_collapse_range */
  #collapse(inode: Inode, offset: number, end: number): number {
    if (offset % PAGE_SIZE !== 0 || end % PAGE_SIZE !== 0 || end >= inode.size) return -Errno.EINVAL;
    const error = this.#prepareShift(inode, offset);
    if (error !== 0) return error;
    const first = offset / PAGE_SIZE;
    const behind = end / PAGE_SIZE;
    this.#freeBlocks(inode, first, behind);
    const { blockMap } = inode;
    for (let at = blockMap!.nextIndex(behind); at >= 0; at = blockMap!.nextIndex(at + 1)) {
      this.#moveBlock(inode, at, at - (behind - first));
    }
    inode.size -= end - offset;
    return 0;
  }

  /** Makes a hole in the file: what is behind it moves down. @linux fs/ext4/extents.c:ext4_insert_range */
  #insert(inode: Inode, offset: number, length: number): number {
    if (offset % PAGE_SIZE !== 0 || length % PAGE_SIZE !== 0 || offset >= inode.size) return -Errno.EINVAL;
    if (inode.size + length > MAX_BYTES) return -Errno.EFBIG;
    const error = this.#prepareShift(inode, offset);
    if (error !== 0) return error;
    const moved: number[] = [];
    const { blockMap } = inode;
    for (let at = blockMap!.nextIndex(offset / PAGE_SIZE); at >= 0; at = blockMap!.nextIndex(at + 1)) moved.push(at);
    inode.size += length;
    for (let i = moved.length - 1; i >= 0; i--) this.#moveBlock(inode, moved[i], moved[i] + length / PAGE_SIZE);
    return 0;
  }

  /** Before blocks from `offset` on are renumbered: their data goes to the device, and their pages out of the cache. */
  #prepareShift(inode: Inode, offset: number): number {
    const error = this.sync(inode, offset / PAGE_SIZE, Infinity);
    if (error !== 0) return error;
    truncatePagecache(this.vm, inode.mapping, offset);
    return 0;
  }

  #moveBlock(inode: Inode, from: number, to: number): void {
    const { blockMap } = inode;
    const block = blockMap!.get(from);
    const unwritten = blockMap!.getMark(from, UNWRITTEN);
    blockMap!.delete(from);
    blockMap!.set(to, block);
    if (unwritten) blockMap!.setMark(to, UNWRITTEN);
  }
}

