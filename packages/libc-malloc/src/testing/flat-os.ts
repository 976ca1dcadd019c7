import type { StructFields, StructView, UserMemory, VirtAddr } from '@pagelab/abi';
import { Errno, MREMAP_MAYMOVE, PAGE_SIZE, SyscallError } from '@pagelab/abi';
import type { MallocOs } from '../malloc.ts';

/** What a wild access ends in: there is nobody to send a signal to. */
export class FlatFault extends Error {
  override readonly name = 'FlatFault';
}

const HEAP_BASE = 0x5555_5575_6000;
const MMAP_BASE = 0x7fff_e000_0000;

/**
 * Two runs of bytes at addresses such as Linux gives: a heap, and an area of mappings behind it in the same buffer.
 * Each access is checked against the break and the map of mapped pages.
 */
class FlatMemory implements UserMemory {
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #areaStart: number;
  readonly #mapped: Uint8Array;
  #heapEnd = 0;

  constructor(heapBytes: number, areaBytes: number) {
    const buffer = new ArrayBuffer(heapBytes + areaBytes);
    this.#view = new DataView(buffer);
    this.#bytes = new Uint8Array(buffer);
    this.#areaStart = heapBytes;
    this.#mapped = new Uint8Array(areaBytes / PAGE_SIZE);
  }

  setHeapEnd(offset: number): void {
    if (offset < this.#heapEnd) this.#bytes.fill(0, offset, this.#heapEnd);
    this.#heapEnd = offset;
  }

  setMapped(firstPage: number, nrPages: number, mapped: 0 | 1): void {
    this.#mapped.fill(mapped, firstPage, firstPage + nrPages);
    const start = this.#areaStart + firstPage * PAGE_SIZE;
    if (mapped === 0) this.#bytes.fill(0, start, start + nrPages * PAGE_SIZE);
  }

  /** First of `nrPages` unmapped pages, the last such run, as Linux searches from the top; -1 where there is none. */
  findGap(nrPages: number): number {
    let free = 0;
    for (let page = this.#mapped.length - 1; page >= 0; page--) {
      free = this.#mapped[page] === 0 ? free + 1 : 0;
      if (free === nrPages) return page;
    }
    return -1;
  }

  isUnmapped(firstPage: number, nrPages: number): boolean {
    if (firstPage + nrPages > this.#mapped.length) return false;
    for (let page = firstPage; page < firstPage + nrPages; page++) if (this.#mapped[page] !== 0) return false;
    return true;
  }

  #at(addr: VirtAddr, length: number): number {
    const inHeap = addr - HEAP_BASE;
    if (inHeap >= 0 && inHeap + length <= this.#heapEnd) return inHeap;
    return this.#inArea(addr, length);
  }

  #inArea(addr: VirtAddr, length: number): number {
    const offset = addr - MMAP_BASE;
    if (!Number.isSafeInteger(addr)) throw new RangeError(`not an address: ${addr}`);
    const last = Math.floor((offset + Math.max(length, 1) - 1) / PAGE_SIZE);
    for (let page = Math.floor(offset / PAGE_SIZE); page <= last; page++) {
      if (this.#mapped[page] !== 1) throw new FlatFault(`no memory at 0x${addr.toString(16)}`);
    }
    return this.#areaStart + offset;
  }

  load8(addr: VirtAddr): number {
    return this.#view.getUint8(this.#at(addr, 1));
  }
  load16(addr: VirtAddr): number {
    return this.#view.getUint16(this.#at(addr, 2), true);
  }
  load32(addr: VirtAddr): number {
    return this.#view.getUint32(this.#at(addr, 4), true);
  }
  load64(addr: VirtAddr): bigint {
    return this.#view.getBigUint64(this.#at(addr, 8), true);
  }
  loadAddress(addr: VirtAddr): number {
    const at = this.#at(addr, 8);
    const view = this.#view;
    const high = view.getUint32(at + 4, true);
    return (high >= 0xffe0_0000 ? high - 2 ** 32 : high) * 2 ** 32 + view.getUint32(at, true);
  }
  loadFloat32(addr: VirtAddr): number {
    return this.#view.getFloat32(this.#at(addr, 4), true);
  }
  loadFloat64(addr: VirtAddr): number {
    return this.#view.getFloat64(this.#at(addr, 8), true);
  }
  store8(addr: VirtAddr, value: number): void {
    this.#view.setUint8(this.#at(addr, 1), value);
  }
  store16(addr: VirtAddr, value: number): void {
    this.#view.setUint16(this.#at(addr, 2), value, true);
  }
  store32(addr: VirtAddr, value: number): void {
    this.#view.setUint32(this.#at(addr, 4), value, true);
  }
  store64(addr: VirtAddr, value: bigint): void {
    this.#view.setBigUint64(this.#at(addr, 8), value, true);
  }
  storeAddress(addr: VirtAddr, value: number): void {
    const at = this.#at(addr, 8);
    const view = this.#view;
    view.setUint32(at, value, true);
    view.setUint32(at + 4, Math.floor(value * 2 ** -32), true);
  }
  storeFloat32(addr: VirtAddr, value: number): void {
    this.#view.setFloat32(this.#at(addr, 4), value, true);
  }
  storeFloat64(addr: VirtAddr, value: number): void {
    this.#view.setFloat64(this.#at(addr, 8), value, true);
  }
  fetch8(addr: VirtAddr): number {
    throw new FlatFault(`not executable: 0x${addr.toString(16)}`);
  }
  read(addr: VirtAddr, length: number): Uint8Array {
    const at = this.#at(addr, length);
    return this.#bytes.slice(at, at + length);
  }
  readInto(addr: VirtAddr, target: Uint8Array): void {
    const at = this.#at(addr, target.length);
    target.set(this.#bytes.subarray(at, at + target.length));
  }
  write(addr: VirtAddr, bytes: Uint8Array): void {
    this.#bytes.set(bytes, this.#at(addr, bytes.length));
  }
  fill(addr: VirtAddr, length: number, byte: number): void {
    const at = this.#at(addr, length);
    this.#bytes.fill(byte, at, at + length);
  }
  copy(to: VirtAddr, from: VirtAddr, length: number): void {
    const source = this.#at(from, length);
    this.#bytes.copyWithin(this.#at(to, length), source, source + length);
  }
  findNot(addr: VirtAddr, length: number, byte: number): number {
    const at = this.#at(addr, length);
    return this.#bytes.subarray(at, at + length).findIndex((value) => value !== byte);
  }
  loadCString(): string {
    throw new Error('flat memory: no strings');
  }
  storeCString(): number {
    throw new Error('flat memory: no strings');
  }
  struct<F extends StructFields>(): StructView<F> {
    throw new Error('flat memory: no structures');
  }
}

/** How much there is; the heap and the mappings end where the buffer does. */
export interface FlatOsOptions {
  /** Bytes that `sbrk` may give, whole pages. Default 64 MiB. */
  readonly heapBytes?: number;
  /** Bytes that `mmap` may give, whole pages. Default 192 MiB. */
  readonly areaBytes?: number;
  /** Bytes from a page boundary to the break at the start. Default 0. */
  readonly breakOffset?: number;
}

/**
 * A stand-in for the machine that allocators are tried on: memory and the calls that get it, with no pages, faults or
 * kernel behind.
 */
export class FlatOs implements MallocOs {
  readonly mem: UserMemory;
  readonly #memory: FlatMemory;
  readonly #heapBytes: number;
  readonly #heapStart: number;
  #brk: VirtAddr;

  constructor(options: FlatOsOptions = {}) {
    this.#heapBytes = options.heapBytes ?? 64 * 1024 * 1024;
    this.#memory = new FlatMemory(this.#heapBytes, options.areaBytes ?? 192 * 1024 * 1024);
    this.mem = this.#memory;
    this.#heapStart = HEAP_BASE + (options.breakOffset ?? 0);
    this.#brk = this.#heapStart;
    this.#memory.setHeapEnd(this.#brk - HEAP_BASE);
  }

  getpagesize(): number {
    return PAGE_SIZE;
  }

  sbrk(increment: number): VirtAddr {
    const old = this.#brk;
    if (increment === 0) return old;
    const brk = old + increment;
    if (brk < this.#heapStart || brk - HEAP_BASE > this.#heapBytes) throw new SyscallError('brk', Errno.ENOMEM);
    this.#brk = brk;
    this.#memory.setHeapEnd(brk - HEAP_BASE);
    return old;
  }

  mmap(_addr: VirtAddr, length: number): VirtAddr {
    const nrPages = Math.ceil(length / PAGE_SIZE);
    const page = this.#memory.findGap(nrPages);
    if (page < 0) throw new SyscallError('mmap', Errno.ENOMEM);
    this.#memory.setMapped(page, nrPages, 1);
    return MMAP_BASE + page * PAGE_SIZE;
  }

  munmap(addr: VirtAddr, length: number): void {
    this.#memory.setMapped((addr - MMAP_BASE) / PAGE_SIZE, Math.ceil(length / PAGE_SIZE), 0);
  }

  mremap(oldAddr: VirtAddr, oldLength: number, newLength: number, flags: number): VirtAddr {
    const memory = this.#memory;
    const page = (oldAddr - MMAP_BASE) / PAGE_SIZE;
    const oldPages = Math.ceil(oldLength / PAGE_SIZE);
    const newPages = Math.ceil(newLength / PAGE_SIZE);
    if (newPages <= oldPages) {
      memory.setMapped(page + newPages, oldPages - newPages, 0);
      return oldAddr;
    }
    if (memory.isUnmapped(page + oldPages, newPages - oldPages)) {
      memory.setMapped(page + oldPages, newPages - oldPages, 1);
      return oldAddr;
    }
    const newPage = memory.findGap(newPages);
    if ((flags & MREMAP_MAYMOVE) === 0 || newPage < 0) throw new SyscallError('mremap', Errno.ENOMEM);
    memory.setMapped(newPage, newPages, 1);
    const newAddr = MMAP_BASE + newPage * PAGE_SIZE;
    memory.copy(newAddr, oldAddr, oldPages * PAGE_SIZE);
    memory.setMapped(page, oldPages, 0);
    return newAddr;
  }

  madvise(addr: VirtAddr, length: number): void {
    this.#memory.fill(addr, length, 0);
  }
}
