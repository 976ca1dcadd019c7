/**
 * `read` and `write` through the page cache.
 *
 * @linux mm/filemap.c
 */
import { Errno, PAGE_SIZE, SYNC_FILE_RANGE_WAIT_AFTER, SYNC_FILE_RANGE_WAIT_BEFORE, SYNC_FILE_RANGE_WRITE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PTE_ACCESSED, PTE_PRESENT } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { FILE_HOLE } from './file.ts';
import type { AddressSpace, Inode, VmFile } from './file.ts';
import { folioWaitWriteback } from './folio-writeback.ts';
import { isHugetlbMapping } from './hugetlbfs.ts';
import type { MmStruct } from './mm-struct.ts';
import { folioOrder, markPageAccessed } from './page-cache.ts';
import { offsetInPage, pageAlignDown } from './page-align.ts';
import { findLeaf, leafLo } from './pgtable.ts';
import { kmapLocalPage, kunmapLocal } from './highmem.ts';
import { entryHi } from './pgtable-shape.ts';
import { pfnOf } from './pte.ts';
import { balanceDirtyPages } from './page-writeback.ts';
import { readAheadOf } from './readahead.ts';
import { copyToUserPartial, userByte } from './uaccess.ts';
import type { Vm } from './vm.ts';

/** What is read goes there. */
export interface ByteSink {
  /** Takes bytes behind those it has. @returns how many it took: fewer where memory is out of reach */
  put(bytes: Uint8Array): number;
}

/** What is written comes from there. */
export interface ByteSource {
  /** Fills `bytes` with what follows, as far as it is at hand. @returns how many it could fill */
  take(bytes: Uint8Array): number;
  /** Gives the last `length` bytes back: they were not used. */
  revert(length: number): void;
  /** Makes sure that what follows is at hand, up to `length` bytes. @returns whether the first byte of it can be had */
  faultIn(length: number): boolean;
}

/** A program's memory, from an address on. @linux include/linux/uio.h:iov_iter */
export class UserBuffer implements ByteSink, ByteSource {
  readonly #mm: MmStruct;
  #addr: VirtAddr;

  constructor(mm: MmStruct, addr: VirtAddr) {
    this.#mm = mm;
    this.#addr = addr;
  }

  put(bytes: Uint8Array): number {
    const done = copyToUserPartial(this.#mm, this.#addr, bytes);
    this.#addr += done;
    return done;
  }

  take(bytes: Uint8Array): number {
    const done = takePresent(this.#mm, this.#addr, bytes);
    this.#addr += done;
    return done;
  }

  revert(length: number): void {
    this.#addr -= length;
  }

  faultIn(length: number): boolean {
    return faultInReadable(this.#mm, this.#addr, length) > 0;
  }
}

/** Takes what is there without a page fault. @linux lib/iov_iter.c:copy_folio_from_iter_atomic */
function takePresent(mm: MmStruct, start: VirtAddr, bytes: Uint8Array): number {
  const { taskSize } = mm;
  const { ram, tables } = mm.vm;
  let done = 0;
  while (done < bytes.length && start + done < taskSize) {
    const addr = start + done;
    const entry = findLeaf(mm, addr);
    const lo = entry < 0 ? 0 : leafLo(tables, ram.i32[entry], addr);
    if ((lo & PTE_PRESENT) === 0) break;
    const inPage = offsetInPage(addr);
    const run = Math.min(PAGE_SIZE - inPage, bytes.length - done);
    const host = ram.frameWord(pfnOf(lo, entryHi(ram.i32, entry, tables.entryWords))) * 4 + inPage;
    bytes.set(ram.u8.subarray(host, host + run), done);
    ram.i32[entry] |= PTE_ACCESSED;
    done += run;
  }
  return done;
}

/** Makes sure that bytes can be taken. @returns how many, if only to the end of the page before the first that cannot @linux mm/gup.c:fault_in_readable */
function faultInReadable(mm: MmStruct, start: VirtAddr, length: number): number {
  const end = start + length;
  if (userByte(mm, start, 0) < 0) return 0;
  for (let page = pageAlignDown(start) + PAGE_SIZE; page < end; page += PAGE_SIZE) {
    if (userByte(mm, page, 0) < 0) return page - start;
  }
  return length;
}

/** A run of a program's memory. */
export interface UserRange {
  readonly base: VirtAddr;
  readonly length: number;
}

/** Several runs of a program's memory, one after the other. @linux include/linux/uio.h:iov_iter */
export class UserRanges implements ByteSink, ByteSource {
  readonly #mm: MmStruct;
  readonly #ranges: readonly UserRange[];
  /** The run that is at hand, and how much of it is done. */
  #index = 0;
  #done = 0;

  constructor(mm: MmStruct, ranges: readonly UserRange[]) {
    this.#mm = mm;
    this.#ranges = ranges;
  }

  put(bytes: Uint8Array): number {
    return this.#move(bytes, copyToUserPartial);
  }

  take(bytes: Uint8Array): number {
    return this.#move(bytes, takePresent);
  }

  revert(length: number): void {
    let left = length;
    while (left > this.#done) {
      left -= this.#done;
      this.#done = this.#ranges[--this.#index].length;
    }
    this.#done -= left;
  }

  faultIn(length: number): boolean {
    let left = length;
    let skip = this.#done;
    let reached = 0;
    for (let at = this.#index; left > 0 && at < this.#ranges.length; at++, skip = 0) {
      const { base, length: size } = this.#ranges[at];
      const wanted = Math.min(size - skip, left);
      if (wanted === 0) continue;
      const got = faultInReadable(this.#mm, base + skip, wanted);
      reached += got;
      if (got < wanted) break;
      left -= wanted;
    }
    return reached > 0;
  }

  #move(bytes: Uint8Array, run: (mm: MmStruct, addr: VirtAddr, bytes: Uint8Array) => number): number {
    let moved = 0;
    while (moved < bytes.length && this.#index < this.#ranges.length) {
      const { base, length } = this.#ranges[this.#index];
      const wanted = Math.min(length - this.#done, bytes.length - moved);
      const got = wanted === 0 ? 0 : run(this.#mm, base + this.#done, bytes.subarray(moved, moved + wanted));
      moved += got;
      this.#done += got;
      if (got < wanted) break;
      if (this.#done === length) {
        this.#index++;
        this.#done = 0;
      }
    }
    return moved;
  }
}

/** Bytes of the kernel's own. */
export class KernelBuffer implements ByteSink, ByteSource {
  readonly bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  put(bytes: Uint8Array): number {
    this.bytes.set(bytes, this.#at);
    this.#at += bytes.length;
    return bytes.length;
  }

  take(bytes: Uint8Array): number {
    bytes.set(this.bytes.subarray(this.#at, this.#at + bytes.length));
    this.#at += bytes.length;
    return bytes.length;
  }

  revert(length: number): void {
    this.#at -= length;
  }

  faultIn(): boolean {
    return true;
  }
}

/** What holes read as. Never written. */
const ZEROES = new Uint8Array(PAGE_SIZE);

/**
 * Reads up to `length` bytes from `pos` on, as far as the file goes.
 *
 * @returns bytes read, fewer where `to` or the device fails midway; −errno where that is at the start: −EFAULT, −EIO, −ENOMEM
 * @linux mm/filemap.c:filemap_read
 */
export function fileRead(vm: Vm, file: VmFile, pos: number, length: number, to: ByteSink): number {
  const { inode } = file;
  const { mapping } = inode;
  if (isHugetlbMapping(vm, mapping)) return hugetlbfsRead(vm, inode, pos, length, to);
  const { ram, pages } = vm;
  const endPgoff = Math.ceil((pos + length) / PAGE_SIZE);
  const ra = mapping.ops.swapBacked ? null : readAheadOf(file);
  const lastPos = ra === null ? -1 : ra.prevPos;
  let readTo = lastPos;
  let done = 0;
  let error = 0;
  while (done < length && pos + done < inode.size) {
    const at = pos + done;
    const inPage = at % PAGE_SIZE;
    const pgoff = (at - inPage) / PAGE_SIZE;
    const run = Math.min(PAGE_SIZE - inPage, length - done, inode.size - at);
    const pfn = mapping.ops.readPage(mapping, pgoff, endPgoff - pgoff, file);
    let copied: number;
    if (pfn === FILE_HOLE) {
      copied = to.put(ZEROES.subarray(0, run));
    } else if (pfn < 0) {
      error = pfn;
      break;
    } else {
      const host = ram.frameWord(pfn) * 4 + inPage;
      const window = kmapLocalPage(vm, pfn);
      copied = to.put(ram.u8.subarray(host, host + run));
      kunmapLocal(vm, window);
      pages.freePage(pfn);
      // Reading on in a folio is no new use of it, within a call or between two.
      const continues = mapping.ops.swapBacked ? inPage > 0 : done === 0 ? inFolio(vm, pfn, pgoff, lastPos) : !startsFolio(vm, pfn, pgoff);
      if (!continues) markPageAccessed(vm, mapping, pgoff);
    }
    done += copied;
    readTo = pos + done;
    if (copied < run) {
      error = -Errno.EFAULT;
      break;
    }
  }
  if (ra !== null) ra.prevPos = readTo;
  inode.atime = vm.clock.now;
  return done > 0 ? done : error;
}

/** Reads from a file of huge pages: what is not there reads as zeros. @linux fs/hugetlbfs/inode.c:hugetlbfs_read_iter */
function hugetlbfsRead(vm: Vm, inode: Inode, pos: number, length: number, to: ByteSink): number {
  const { ptrsPerPte } = vm.tables;
  const { pages } = inode.mapping;
  let done = 0;
  while (done < length && pos + done < inode.size) {
    const at = pos + done;
    const inPage = at % PAGE_SIZE;
    const pgoff = (at - inPage) / PAGE_SIZE;
    const run = Math.min(PAGE_SIZE - inPage, length - done, inode.size - at);
    const part = pgoff % ptrsPerPte;
    const head = pages.get(pgoff - part);
    // What of the page is not broken can be read.
    if (head >= 0 && vm.hwpoison.raw.get(head)?.has(head + part) === true) return done > 0 ? done : -Errno.EIO;
    // A copy: the program's page may have to come in first, and its faults may be another's to serve.
    const host = head < 0 ? -1 : vm.ram.frameWord(head + part) * 4 + inPage;
    const copied = to.put(host < 0 ? ZEROES.subarray(0, run) : vm.ram.u8.slice(host, host + run));
    done += copied;
    if (copied < run) return done > 0 ? done : -Errno.EFAULT;
  }
  return done;
}

/** Whether a page is the first of its folio. */
function startsFolio(vm: Vm, pfn: Pfn, pgoff: number): boolean {
  return pgoff % (1 << folioOrder(vm, pfn)) === 0;
}

/** Whether the last byte before `lastPos` is in the folio of a page. @linux mm/filemap.c:pos_same_folio */
function inFolio(vm: Vm, pfn: Pfn, pgoff: number, lastPos: number): boolean {
  if (lastPos <= 0) return false;
  const bytes = PAGE_SIZE << folioOrder(vm, pfn);
  return Math.floor((lastPos - 1) / bytes) === Math.floor((pgoff * PAGE_SIZE) / bytes);
}

/**
 * Writes `length` bytes at `pos`; the file grows as needed, up to what its file system allows.
 *
 * @returns bytes written, fewer where `from`, the device or memory fails midway; −errno where that is at the start: −EFAULT,
 *   −EFBIG, −ENOSPC, −ENOMEM, −EPERM for a seal, −EIO
 * @linux mm/filemap.c:generic_perform_write
 */
export function fileWrite(vm: Vm, inode: Inode, pos: number, length: number, from: ByteSource): number {
  const { mapping } = inode;
  const { ops } = mapping;
  if (inode.isSwapfile) return -Errno.ETXTBSY;
  if (length === 0) return 0;
  if (pos >= ops.maxBytes) return -Errno.EFBIG;
  const wanted = Math.min(length, ops.maxBytes - pos);
  let chunk = ops.maxStep(inode);
  let done = 0;
  let error = 0;
  while (done < wanted) {
    let bytes = wanted - done;
    for (;;) {
      const at = pos + done;
      const step = ops.writeBegin(mapping, at, Math.min(chunk - (at % chunk), bytes));
      if (step < 0) {
        error = step;
        break;
      }
      // With pages of the file held, nothing may be faulted in that could be a page of the file.
      const copied = storeToCache(vm, mapping, at, step, from);
      const taken = ops.writeEnd(mapping, at, step, copied);
      if (taken < copied) from.revert(copied - taken);
      if (taken > 0) {
        done += taken;
        if (!ops.swapBacked) balanceDirtyPages(vm);
        break;
      }
      if (chunk > PAGE_SIZE) chunk /= 2;
      if (copied > 0) {
        bytes = copied;
        continue;
      }
      if (!from.faultIn(step)) error = -Errno.EFAULT;
      break;
    }
    if (error !== 0) break;
  }
  inode.mtime = vm.clock.now;
  inode.ctime = inode.mtime;
  return done > 0 ? done : error;
}

/** Copies `length` bytes into pages that are cached, page by page; returns how many could be had. */
function storeToCache(vm: Vm, mapping: AddressSpace, pos: number, length: number, from: ByteSource): number {
  const { ram } = vm;
  let done = 0;
  while (done < length) {
    const at = pos + done;
    const inPage = at % PAGE_SIZE;
    const run = Math.min(PAGE_SIZE - inPage, length - done);
    const pfn = mapping.pages.get((at - inPage) / PAGE_SIZE);
    const host = ram.frameWord(pfn) * 4 + inPage;
    const window = kmapLocalPage(vm, pfn);
    const copied = from.take(ram.u8.subarray(host, host + run));
    kunmapLocal(vm, window);
    done += copied;
    if (copied < run) break;
  }
  return done;
}

/**
 * Brings part of a file to its device, and tells of writes that have failed since this open file last asked.
 *
 * @param lastPgoff last page, included
 * @returns 0 or −EIO
 * @linux fs/sync.c:vfs_fsync_range, lib/errseq.c:errseq_check_and_advance
 */
export function fileSync(file: VmFile, firstPgoff: number, lastPgoff: number): number {
  const { inode } = file;
  const error = inode.mapping.ops.sync(inode, firstPgoff, lastPgoff);
  if (file.seenErrors === inode.writeErrors) return error;
  file.seenErrors = inode.writeErrors;
  return -Errno.EIO;
}

/**
 * Brings a part of a file on its way, and waits for what is on its way, as `flags` (SYNC_FILE_RANGE_) ask; metadata aside.
 *
 * @param lastPgoff last page, included
 * @returns 0, or −EIO where something that was waited for could not be written
 * @linux fs/sync.c:sync_file_range
 */
export function syncFileRange(vm: Vm, { inode }: VmFile, firstPgoff: number, lastPgoff: number, flags: number): number {
  const { mapping, writeErrors } = inode;
  if ((flags & SYNC_FILE_RANGE_WAIT_BEFORE) !== 0) folioWaitWriteback(vm, mapping, firstPgoff, lastPgoff);
  if (inode.writeErrors !== writeErrors) return -Errno.EIO;
  if ((flags & SYNC_FILE_RANGE_WRITE) !== 0) mapping.ops.writeBack(inode, firstPgoff, lastPgoff, true);
  if ((flags & SYNC_FILE_RANGE_WAIT_AFTER) !== 0) folioWaitWriteback(vm, mapping, firstPgoff, lastPgoff);
  return inode.writeErrors === writeErrors ? 0 : -Errno.EIO;
}

/** Brings all files to their devices: first all get on their way, then all are waited for. @linux fs/sync.c:ksys_sync */
export function syncFilesystems(vm: Vm): void {
  vm.mappings.forEach(({ inode, ops }) => {
    ops.writeBack(inode, 0, Infinity, true);
  });
  vm.mappings.forEach(({ inode, ops }) => {
    ops.sync(inode, 0, Infinity);
  });
}
