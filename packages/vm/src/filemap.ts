/**
 * `read` and `write` through the page cache.
 *
 * @linux mm/filemap.c
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { FILE_HOLE } from './file.ts';
import type { AddressSpace, Inode, VmFile } from './file.ts';
import type { MmStruct } from './mm-struct.ts';
import { copyFromUserPartial, copyToUserPartial } from './uaccess.ts';
import type { Vm } from './vm.ts';

/** What is read goes there. */
export interface ByteSink {
  /** Takes bytes behind those it has. @returns how many it took: fewer where memory is out of reach */
  put(bytes: Uint8Array): number;
}

/** What is written comes from there. */
export interface ByteSource {
  /** Fills `bytes` with what follows. @returns how many it could fill */
  take(bytes: Uint8Array): number;
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
    const done = copyFromUserPartial(this.#mm, this.#addr, bytes);
    this.#addr += done;
    return done;
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
  const { ram, pages } = vm;
  const endPgoff = Math.ceil((pos + length) / PAGE_SIZE);
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
      copied = to.put(ram.u8.subarray(host, host + run));
      pages.freePage(pfn);
    }
    done += copied;
    if (copied < run) {
      error = -Errno.EFAULT;
      break;
    }
  }
  if (file.readAhead !== null) file.readAhead.prevPos = pos + done;
  inode.atime = vm.clock.now;
  return done > 0 ? done : error;
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
  if (length === 0) return 0;
  if (pos >= ops.maxBytes) return -Errno.EFBIG;
  const wanted = Math.min(length, ops.maxBytes - pos);
  let done = 0;
  while (done < wanted) {
    const step = ops.writeBegin(mapping, pos + done, wanted - done);
    if (step < 0) return done > 0 ? done : step;
    const copied = storeToCache(vm, mapping, pos + done, step, from);
    ops.writeEnd(mapping, pos + done, step, copied);
    done += copied;
    if (copied < step) return done > 0 ? done : -Errno.EFAULT;
  }
  inode.mtime = vm.clock.now;
  inode.ctime = inode.mtime;
  return done;
}

/** Copies `length` bytes into pages that are cached, page by page; returns how many could be had. */
function storeToCache(vm: Vm, mapping: AddressSpace, pos: number, length: number, from: ByteSource): number {
  const { ram, pages } = vm;
  let done = 0;
  while (done < length) {
    const at = pos + done;
    const inPage = at % PAGE_SIZE;
    const run = Math.min(PAGE_SIZE - inPage, length - done);
    const pfn = mapping.pages.get((at - inPage) / PAGE_SIZE);
    const host = ram.frameWord(pfn) * 4 + inPage;
    // The copy may fault, and what serves the fault may want memory: the page must stay.
    pages.getPage(pfn);
    const copied = from.take(ram.u8.subarray(host, host + run));
    pages.freePage(pfn);
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
