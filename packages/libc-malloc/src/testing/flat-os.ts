import type { StructFields, StructView, UserMemory, VirtAddr } from '@pagelab/abi';
import { Errno, MAP_FIXED, MREMAP_MAYMOVE, PAGE_SIZE, PROT_READ, PROT_WRITE, SyscallError } from '@pagelab/abi';
import type { MallocOs } from '../malloc.ts';

/** What a wild access ends in: there is nobody to send a signal to. */
export class FlatFault extends Error {
  override readonly name = 'FlatFault';
}

const DEFAULT_HEAP_BASE = 0x5555_5575_6000;
const MMAP_BASE = 0x7ffe_0000_0000;

/** What is known of a page of the mapping area: whether it is mapped, may be reached, and may hold something. */
const MAPPED = 1;
const REACHABLE = 2;
const TOUCHED = 4;

/** Pages whose place in the buffer is kept at hand, a power of two. */
const SLOTS = 4096;

/**
 * Two runs of bytes at addresses such as Linux gives: a heap, and an area of mappings behind it in the same buffer.
 * Each access is checked against the break and the map of mapped pages, once a page: a table of pages found before
 * makes the next access as cheap as through a TLB.
 */
class FlatMemory implements UserMemory {
  readonly #bytes: Uint8Array;
  readonly #halves: Uint16Array;
  readonly #words: Uint32Array;
  readonly #view: DataView;
  /** The address of the page in each slot, and the index of its first word. */
  readonly #tags = new Float64Array(SLOTS).fill(NaN);
  readonly #firstWords = new Int32Array(SLOTS);
  readonly #areaStart: number;
  readonly #mapped: Uint8Array;
  readonly #heapBase: VirtAddr;
  #heapEnd = 0;

  constructor(heapBase: VirtAddr, heapBytes: number, areaBytes: number) {
    this.#heapBase = heapBase;
    const buffer = new ArrayBuffer(heapBytes + areaBytes);
    this.#bytes = new Uint8Array(buffer);
    this.#halves = new Uint16Array(buffer);
    this.#words = new Uint32Array(buffer);
    this.#view = new DataView(buffer);
    this.#areaStart = heapBytes;
    this.#mapped = new Uint8Array(areaBytes / PAGE_SIZE);
  }

  setHeapEnd(offset: number): void {
    if (offset < this.#heapEnd) {
      this.#bytes.fill(0, offset, this.#heapEnd);
      this.#tags.fill(NaN);
    }
    this.#heapEnd = offset;
  }

  /** Maps pages: zeroed, and not to be reached where `reachable` says so. */
  map(firstPage: number, nrPages: number, reachable: boolean): void {
    this.#mapped.fill(reachable ? MAPPED + REACHABLE + TOUCHED : MAPPED, firstPage, firstPage + nrPages);
  }

  unmap(firstPage: number, nrPages: number): void {
    const mapped = this.#mapped;
    const end = firstPage + nrPages;
    for (let page = firstPage; page < end; page++) {
      if ((mapped[page] & TOUCHED) !== 0) {
        const start = this.#areaStart + page * PAGE_SIZE;
        this.#bytes.fill(0, start, start + PAGE_SIZE);
      }
      mapped[page] = 0;
    }
    this.#tags.fill(NaN);
  }

  protect(firstPage: number, nrPages: number, reachable: boolean): void {
    for (let page = firstPage; page < firstPage + nrPages; page++) {
      if (reachable) this.#mapped[page] |= REACHABLE + TOUCHED;
      else this.#mapped[page] &= ~REACHABLE;
    }
    if (!reachable) this.#tags.fill(NaN);
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

  /** Where the byte at `addr` is in the buffer, `length` bytes of which are mapped. */
  #at(addr: VirtAddr, length: number): number {
    if (!Number.isInteger(addr)) throw new RangeError(`not an address: ${addr}`);
    let at = addr - this.#heapBase;
    if (at < 0 || at + length > this.#heapEnd) {
      const offset = addr - MMAP_BASE;
      const last = Math.floor((offset + Math.max(length, 1) - 1) / PAGE_SIZE);
      for (let page = Math.floor(offset / PAGE_SIZE); page <= last; page++) {
        if ((this.#mapped[page] & REACHABLE) === 0) throw new FlatFault(`no memory at 0x${addr.toString(16)}`);
      }
      at = this.#areaStart + offset;
    }
    const inPage = at & (PAGE_SIZE - 1);
    if (at - inPage + PAGE_SIZE <= this.#heapEnd || at >= this.#areaStart) {
      const slot = (addr >>> 12) & (SLOTS - 1);
      this.#tags[slot] = addr - inPage;
      this.#firstWords[slot] = (at - inPage) >>> 2;
    }
    return at;
  }

  // An aligned access to a page at hand is all that these do, with masks written out: the engine takes in only so many
  // bytes of code where a function makes many accesses, and a constant of the module costs it six.
  load8(addr: VirtAddr): number {
    return this.#bytes[this.#at(addr, 1)];
  }
  load16(addr: VirtAddr): number {
    const slot = (addr >>> 12) & 0xfff;
    if (this.#tags[slot] + (addr & 0xffe) !== addr) return this.#view.getUint16(this.#at(addr, 2), true);
    return this.#halves[(this.#firstWords[slot] << 1) + ((addr & 0xffe) >>> 1)];
  }
  load32(addr: VirtAddr): number {
    const slot = (addr >>> 12) & 0xfff;
    if (this.#tags[slot] + (addr & 0xffc) !== addr) return this.#view.getUint32(this.#at(addr, 4), true);
    return this.#words[this.#firstWords[slot] + ((addr & 0xffc) >>> 2)];
  }
  load64(addr: VirtAddr): bigint {
    return this.#view.getBigUint64(this.#at(addr, 8), true);
  }
  loadAddress(addr: VirtAddr): number {
    const slot = (addr >>> 12) & 0xfff;
    if (this.#tags[slot] + (addr & 0xff8) !== addr) return this.#loadSlow(addr);
    const words = this.#words;
    const word = this.#firstWords[slot] + ((addr & 0xff8) >>> 2);
    return (words[word + 1] | 0) * 4294967296 + words[word];
  }
  store8(addr: VirtAddr, value: number): void {
    this.#bytes[this.#at(addr, 1)] = value;
  }
  store16(addr: VirtAddr, value: number): void {
    const slot = (addr >>> 12) & 0xfff;
    if (this.#tags[slot] + (addr & 0xffe) !== addr) this.#view.setUint16(this.#at(addr, 2), value, true);
    else this.#halves[(this.#firstWords[slot] << 1) + ((addr & 0xffe) >>> 1)] = value;
  }
  store32(addr: VirtAddr, value: number): void {
    const slot = (addr >>> 12) & 0xfff;
    if (this.#tags[slot] + (addr & 0xffc) !== addr) this.#view.setUint32(this.#at(addr, 4), value, true);
    else this.#words[this.#firstWords[slot] + ((addr & 0xffc) >>> 2)] = value;
  }
  store64(addr: VirtAddr, value: bigint): void {
    this.#view.setBigUint64(this.#at(addr, 8), value, true);
  }
  storeAddress(addr: VirtAddr, value: number): void {
    const slot = (addr >>> 12) & 0xfff;
    if (this.#tags[slot] + (addr & 0xff8) !== addr || value < 0) return this.#storeSlow(addr, value);
    const words = this.#words;
    const word = this.#firstWords[slot] + ((addr & 0xff8) >>> 2);
    words[word] = value;
    words[word + 1] = value * 2.3283064365386963e-10;
  }
  #loadSlow(addr: VirtAddr): number {
    const at = this.#at(addr, 8);
    return this.#view.getInt32(at + 4, true) * 2 ** 32 + this.#view.getUint32(at, true);
  }
  #storeSlow(addr: VirtAddr, value: number): void {
    const at = this.#at(addr, 8);
    this.#view.setUint32(at, value, true);
    this.#view.setUint32(at + 4, Math.floor(value * 2 ** -32), true);
  }
  loadFloat32(addr: VirtAddr): number {
    return this.#view.getFloat32(this.#at(addr, 4), true);
  }
  loadFloat64(addr: VirtAddr): number {
    return this.#view.getFloat64(this.#at(addr, 8), true);
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
    const end = at + length;
    const bytes = this.#bytes;
    const words = this.#words;
    const word = (byte & 0xff) * 0x0101_0101;
    let i = at;
    while (i < end && (i & 3) !== 0 && bytes[i] === byte) i++;
    if ((i & 3) === 0) while (i + 4 <= end && words[i >>> 2] === word) i += 4;
    while (i < end && bytes[i] === byte) i++;
    return i < end ? i - at : -1;
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
  /** The break at the start. Default 0x555555756000. */
  readonly heapBase?: VirtAddr;
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
    this.#heapStart = options.heapBase ?? DEFAULT_HEAP_BASE;
    this.#memory = new FlatMemory(this.#heapStart, this.#heapBytes, options.areaBytes ?? 192 * 1024 * 1024);
    this.mem = this.#memory;
    this.#brk = this.#heapStart;
  }

  getpagesize(): number {
    return PAGE_SIZE;
  }

  sbrk(increment: number): VirtAddr {
    const old = this.#brk;
    if (increment === 0) return old;
    const brk = old + increment;
    if (brk < this.#heapStart || brk - this.#heapStart > this.#heapBytes) throw new SyscallError('brk', Errno.ENOMEM);
    this.#brk = brk;
    this.#memory.setHeapEnd(brk - this.#heapStart);
    return old;
  }

  mmap(addr: VirtAddr, length: number, prot: number, flags = 0): VirtAddr {
    const memory = this.#memory;
    const nrPages = Math.ceil(length / PAGE_SIZE);
    const hint = (addr - MMAP_BASE) / PAGE_SIZE;
    const reachable = (prot & (PROT_READ | PROT_WRITE)) !== 0;
    if ((flags & MAP_FIXED) !== 0) memory.unmap(hint, nrPages);
    const page = addr !== 0 && hint >= 0 && memory.isUnmapped(hint, nrPages) ? hint : memory.findGap(nrPages);
    if (page < 0) throw new SyscallError('mmap', Errno.ENOMEM);
    memory.map(page, nrPages, reachable);
    return MMAP_BASE + page * PAGE_SIZE;
  }

  munmap(addr: VirtAddr, length: number): void {
    this.#memory.unmap((addr - MMAP_BASE) / PAGE_SIZE, Math.ceil(length / PAGE_SIZE));
  }

  mprotect(addr: VirtAddr, length: number, prot: number): void {
    const reachable = (prot & (PROT_READ | PROT_WRITE)) !== 0;
    this.#memory.protect((addr - MMAP_BASE) / PAGE_SIZE, Math.ceil(length / PAGE_SIZE), reachable);
  }

  mremap(oldAddr: VirtAddr, oldLength: number, newLength: number, flags: number): VirtAddr {
    const memory = this.#memory;
    const page = (oldAddr - MMAP_BASE) / PAGE_SIZE;
    const oldPages = Math.ceil(oldLength / PAGE_SIZE);
    const newPages = Math.ceil(newLength / PAGE_SIZE);
    if (newPages <= oldPages) {
      memory.unmap(page + newPages, oldPages - newPages);
      return oldAddr;
    }
    if (memory.isUnmapped(page + oldPages, newPages - oldPages)) {
      memory.map(page + oldPages, newPages - oldPages, true);
      return oldAddr;
    }
    const newPage = memory.findGap(newPages);
    if ((flags & MREMAP_MAYMOVE) === 0 || newPage < 0) throw new SyscallError('mremap', Errno.ENOMEM);
    memory.map(newPage, newPages, true);
    const newAddr = MMAP_BASE + newPage * PAGE_SIZE;
    memory.copy(newAddr, oldAddr, oldPages * PAGE_SIZE);
    memory.unmap(page, oldPages);
    return newAddr;
  }

  madvise(addr: VirtAddr, length: number): void {
    this.#memory.fill(addr, length, 0);
  }
}
