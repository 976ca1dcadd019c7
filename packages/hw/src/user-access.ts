/**
 * The slow half of a task's memory: everything but an aligned access that hits the TLB. It serves faults, puts together
 * what crosses a page, and moves bytes in bulk.
 */
import type { VirtAddr } from '@pagelab/abi';
import { plainBytes } from './bytes.ts';
import type { Cpu } from './cpu.ts';
import { PAGE_SIZE, PAGE_WORDS } from './page.ts';
import type { PhysicalMemory } from './physical-memory.ts';
import { decodeUtf8, encodeUtf8 } from './platform.ts';
import { PF_INSTR, PF_USER, PF_WRITE } from './pte.ts';
import { TLB_MASK, TLB_WRITE } from './tlb.ts';

/** What the accessor calls when it cannot go on by itself. */
export interface UserMemoryHandlers {
  /** The task runs on no CPU: must attach it to one, or throw. */
  onDetached(): void;
  /**
   * The access faulted: must repair the cause, after which the access is tried again, or throw.
   *
   * @param address CR2
   * @param errorCode the page-fault error code, 0 for vector 13
   * @param vector 14, a page fault, or 13, a general-protection exception
   */
  onFault(address: VirtAddr, errorCode: number, vector: number): void;
}

// The kinds of load: the size in bytes, and what tells apart those of one size.
const SIZE = 15;
const L_8 = 1;
const L_16 = 2;
const L_32 = 4;
const L_ADDRESS = 8;
const L_64 = 8 + 16;
const L_FLOAT32 = 4 + 32;
const L_FLOAT64 = 8 + 32;
const L_FETCH = 1 + 64;

/** A kind of load for {@link UserAccess.load}. */
export const KIND_8 = L_8;
export const KIND_16 = L_16;
export const KIND_32 = L_32;
/** 64 bits as a number. */
export const KIND_ADDRESS = L_ADDRESS;
export const KIND_FLOAT32 = L_FLOAT32;
export const KIND_FLOAT64 = L_FLOAT64;
/** A byte, as an instruction is fetched. */
export const KIND_FETCH = L_FETCH;

const TWO_32 = 0x100000000;
const TWO_31 = 0x80000000;
// The module's own copies: V8 compiles them in, and reads an imported constant anew at each use.
const PAGE = PAGE_SIZE;
const USER = PF_USER;
const WRITE = PF_WRITE;
const FETCH = PF_INSTR;
const PAGE_U32 = PAGE_WORDS;
const TAGS_MASK = TLB_MASK;
const TAGS_WRITE = TLB_WRITE;
const NO_BYTES = new Uint8Array(0);
const NO_WORDS = new Uint32Array(0);

/** Up to so many bytes are moved one by one; a call of a typed array's method takes longer. */
const FEW_BYTES = 32;

const UPPER_HALF = 2 ** 63;
const ADDRESS_SPACE = 2 ** 64;
/** A length beyond any buffer. */
const LENGTH_LIMIT = 2 ** 53;

/** One task's accesses, as the kernel's own code makes them: checked, translated, and tried again after a fault. */
export class UserAccess {
  /** The address of an access that misses the TLB: a double handed to a function would cost an allocation. */
  readonly address: Float64Array = new Float64Array(1);
  readonly #handlers: UserMemoryHandlers;
  readonly #u8: Uint8Array = NO_BYTES;
  readonly #u32: Uint32Array = NO_WORDS;
  #cpu: Cpu | null = null;
  /** Counts whatever may move a page elsewhere: a place found before is void after it. */
  #disturbances = 0;
  /** Where the last {@link #run} begins, in RAM's bytes. */
  #at = 0;
  /** Holds one value of up to 8 bytes on its way to or from an unaligned address. Never across a fault. */
  readonly #bytes = new Uint8Array(8);
  readonly #view = new DataView(this.#bytes.buffer);

  constructor(ram: PhysicalMemory, handlers: UserMemoryHandlers) {
    this.#handlers = handlers;
    this.#u8 = ram.u8;
    this.#u32 = ram.u32;
  }

  /** The CPU on which the task runs, or `null`. */
  setCpu(cpu: Cpu | null): void {
    this.#cpu = cpu;
    this.#disturbances += 1;
  }

  /**
   * Loads a value of any kind from {@link address}, which may be any: but of a 64-bit integer, see {@link load64}.
   *
   * One function for all kinds, and `#page` written out in it, is on purpose: V8 inlines nothing of more than 460 bytes
   * of bytecode. A smaller one lands in the program's loops, whose hits then take twice as long.
   */
  load(kind: number): number {
    const addr = this.address[0];
    const lo = addr | 0;
    const hi = Math.floor(addr / TWO_32);
    if (hi * TWO_32 + (lo >>> 0) !== addr || hi >= TWO_32 || hi < -TWO_31) throw notAnAddress(addr);
    const offset = lo & 0xfff;
    const size = kind & SIZE;
    const view = this.#view;
    if (offset + size <= PAGE) {
      const access = kind === L_FETCH ? USER | FETCH : USER;
      let word = -1;
      let cpu = this.#cpu;
      // An aligned access missed the TLB, or it would not be here.
      if (cpu !== null) {
        word = (lo & 3) === 0 ? cpu.walk(hi | 0, lo, access) : cpu.translatePage(addr, access);
      }
      while (word < 0) {
        this.#disturbances += 1;
        if (cpu === null) this.#handlers.onDetached();
        else this.#handlers.onFault(cpu.faultAddress, cpu.faultErrorCode, cpu.faultVector);
        cpu = this.#cpu;
        if (cpu !== null) word = cpu.walk(hi | 0, lo, access);
      }
      const u32 = this.#u32;
      if ((lo & 3) === 0) {
        const at = word + (offset >>> 2);
        if (kind === L_32) return u32[at];
        if (kind === L_ADDRESS) return (u32[at + 1] | 0) * TWO_32 + u32[at];
        view.setUint32(0, u32[at], true);
        if (size === 8) view.setUint32(4, u32[at + 1], true);
      } else {
        const bytes = this.#bytes;
        const u8 = this.#u8;
        const at = word * 4 + offset;
        for (let i = 0; i < size; i++) bytes[i] = u8[at + i];
      }
    } else {
      this.#gather(addr, size);
    }
    switch (kind) {
      case L_8:
      case L_FETCH:
        return view.getUint8(0);
      case L_16:
        return view.getUint16(0, true);
      case L_32:
        return view.getUint32(0, true);
      case L_FLOAT32:
        return view.getFloat32(0, true);
      case L_FLOAT64:
        return view.getFloat64(0, true);
      case L_64:
        return 0;
      default:
        return view.getInt32(4, true) * TWO_32 + view.getUint32(0, true);
    }
  }

  /** Loads a 64-bit integer from {@link address}. */
  load64(): bigint {
    this.load(L_64);
    return this.#view.getBigUint64(0, true);
  }

  /**
   * Stores the low bytes of a value, given as two words, at {@link address}: all of them, or none.
   *
   * Not to be inlined either, see {@link load}.
   */
  store(size: number, valueLo: number, valueHi: number): void {
    const addr = this.address[0];
    const lo = addr | 0;
    const hi = Math.floor(addr / TWO_32);
    if (hi * TWO_32 + (lo >>> 0) !== addr || hi >= TWO_32 || hi < -TWO_31) throw notAnAddress(addr);
    const offset = lo & 0xfff;
    if (offset + size <= PAGE) {
      let word = -1;
      let cpu = this.#cpu;
      if (cpu !== null) {
        word = (lo & 3) === 0 ? cpu.walk(hi | 0, lo, USER | WRITE) : cpu.translatePage(addr, USER | WRITE);
      }
      while (word < 0) {
        this.#disturbances += 1;
        if (cpu === null) this.#handlers.onDetached();
        else this.#handlers.onFault(cpu.faultAddress, cpu.faultErrorCode, cpu.faultVector);
        cpu = this.#cpu;
        if (cpu !== null) word = cpu.walk(hi | 0, lo, USER | WRITE);
      }
      if ((offset & 3) === 0 && size >= 4) {
        const u32 = this.#u32;
        const at = word + (offset >>> 2);
        u32[at] = valueLo;
        if (size === 8) u32[at + 1] = valueHi;
        return;
      }
      const u8 = this.#u8;
      const at = word * 4 + offset;
      switch (size) {
        case 1:
          u8[at] = valueLo;
          return;
        case 2:
          u8[at] = valueLo;
          u8[at + 1] = valueLo >>> 8;
          return;
        default:
          u8[at] = valueLo;
          u8[at + 1] = valueLo >>> 8;
          u8[at + 2] = valueLo >>> 16;
          u8[at + 3] = valueLo >>> 24;
          if (size === 4) return;
          u8[at + 4] = valueHi;
          u8[at + 5] = valueHi >>> 8;
          u8[at + 6] = valueHi >>> 16;
          u8[at + 7] = valueHi >>> 24;
      }
      return;
    }
    this.#scatter(addr, size, valueLo, valueHi);
  }

  storeFloat32(value: number): void {
    this.#view.setFloat32(0, value, true);
    this.store(4, this.#view.getUint32(0, true), 0);
  }

  storeFloat64(value: number): void {
    this.#view.setFloat64(0, value, true);
    this.store(8, this.#view.getUint32(0, true), this.#view.getUint32(4, true));
  }

  store64(value: bigint): void {
    this.#view.setBigUint64(0, value, true);
    this.store(8, this.#view.getUint32(0, true), this.#view.getUint32(4, true));
  }

  read(addr: VirtAddr, length: number): Uint8Array {
    checkAddress(addr);
    checkLength(length);
    const target = new Uint8Array(length);
    this.readInto(addr, target);
    return target;
  }

  readInto(addr: VirtAddr, target: Uint8Array): void {
    checkAddress(addr);
    const bytes = plainBytes(target);
    const u8 = this.#u8;
    const { length } = bytes;
    for (let done = 0; done < length; ) {
      const run = this.#run(addr + done, length - done, 0);
      const at = this.#at;
      if (run <= FEW_BYTES) for (let i = 0; i < run; i++) bytes[done + i] = u8[at + i];
      else bytes.set(u8.subarray(at, at + run), done);
      done += run;
    }
  }

  write(addr: VirtAddr, source: Uint8Array): void {
    checkAddress(addr);
    const bytes = plainBytes(source);
    const u8 = this.#u8;
    const { length } = bytes;
    for (let done = 0; done < length; ) {
      const run = this.#run(addr + done, length - done, WRITE);
      const at = this.#at;
      if (run <= FEW_BYTES) for (let i = 0; i < run; i++) u8[at + i] = bytes[done + i];
      else u8.set(run === length ? bytes : bytes.subarray(done, done + run), at);
      done += run;
    }
  }

  fill(addr: VirtAddr, length: number, byte: number): void {
    checkAddress(addr);
    checkLength(length);
    const value = byte & 0xff;
    for (let done = 0; done < length; ) {
      const run = this.#run(addr + done, length - done, WRITE);
      this.#u8.fill(value, this.#at, this.#at + run);
      done += run;
    }
  }

  copy(to: VirtAddr, from: VirtAddr, length: number): void {
    checkAddress(to);
    checkAddress(from);
    checkLength(length);
    if (to > from && to < from + length) {
      this.#copyDown(to, from, length);
      return;
    }
    const u8 = this.#u8;
    let source = 0;
    let sourceLeft = 0;
    let target = 0;
    let targetLeft = 0;
    let seen = this.#disturbances;
    for (let done = 0; done < length; ) {
      if (sourceLeft === 0) {
        sourceLeft = this.#run(from + done, length - done, 0);
        source = this.#at;
      }
      if (targetLeft === 0) {
        targetLeft = this.#run(to + done, length - done, WRITE);
        target = this.#at;
      }
      if (seen !== this.#disturbances) {
        // A fault was served, which may have taken the other page away.
        seen = this.#disturbances;
        sourceLeft = 0;
        targetLeft = 0;
        continue;
      }
      const run = Math.min(sourceLeft, targetLeft);
      u8.copyWithin(target, source, source + run);
      source += run;
      target += run;
      sourceLeft -= run;
      targetLeft -= run;
      done += run;
    }
  }

  findNot(addr: VirtAddr, length: number, byte: number): number {
    checkAddress(addr);
    checkLength(length);
    const value = byte & 0xff;
    for (let done = 0; done < length; ) {
      const run = Math.min(this.#run(addr + done, length - done, 0), PAGE);
      const found = this.#findNotIn(this.#at, run, value);
      if (found >= 0) return done + found;
      done += run;
    }
    return -1;
  }

  loadCString(addr: VirtAddr, maxBytes: number): string {
    checkAddress(addr);
    checkLength(maxBytes);
    const u8 = this.#u8;
    const bytes: number[] = [];
    while (bytes.length < maxBytes) {
      const va = addr + bytes.length;
      const at = this.#page(va, 0) * 4 + (va & 0xfff);
      const end = at + Math.min(PAGE - (va & 0xfff), maxBytes - bytes.length);
      for (let i = at; i < end; i++) {
        if (u8[i] === 0) return decodeUtf8(Uint8Array.from(bytes));
        bytes.push(u8[i]);
      }
    }
    return decodeUtf8(Uint8Array.from(bytes));
  }

  storeCString(addr: VirtAddr, text: string): number {
    const encoded = encodeUtf8(text);
    const bytes = new Uint8Array(encoded.length + 1);
    bytes.set(encoded);
    this.write(addr, bytes);
    return bytes.length;
  }

  /** Host word of the frame of the page that holds `addr`, after serving whatever faults. */
  #page(addr: VirtAddr, access: number): number {
    for (;;) {
      const cpu = this.#cpu;
      if (cpu === null) {
        this.#disturbances += 1;
        this.#handlers.onDetached();
        continue;
      }
      const word = cpu.translatePage(addr, access | USER);
      if (word >= 0) return word;
      this.#disturbances += 1;
      this.#handlers.onFault(cpu.faultAddress, cpu.faultErrorCode, cpu.faultVector);
    }
  }

  /**
   * How many of `length` bytes from `addr` lie one after the other in RAM, beginning at {@link #at}: at least those of
   * the first page, whose faults are served, and those of the pages after it up to the first that faults.
   */
  #run(addr: VirtAddr, length: number, access: number): number {
    const first = this.#page(addr, access);
    const offset = addr & 0xfff;
    this.#at = first * 4 + offset;
    let run = PAGE - offset;
    const cpu = this.#cpu;
    // A modelled TLB counts each page once: to look ahead would count twice the one at which a run ends.
    if (run >= length || cpu === null || cpu.tlbModel !== null) return Math.min(run, length);
    const { tags, u32, base } = cpu.tlb;
    const column = (access & WRITE) !== 0 ? TAGS_WRITE : 0;
    let page = addr - offset;
    let slot = ((page | 0) >>> 12) & TAGS_MASK;
    let expected = (first - base) | 0;
    for (; run < length; run += PAGE) {
      page += PAGE;
      slot = (slot + 1) & TAGS_MASK;
      expected = (expected + PAGE_U32) | 0;
      if (tags[column + slot] === page) {
        if (u32[slot] !== expected) break;
      } else if (cpu.walk(Math.floor(page / TWO_32) | 0, page | 0, access | USER) - base !== expected) {
        break;
      }
    }
    return Math.min(run, length);
  }

  /** Copies from the end down, for a target that overlaps the source's end. */
  #copyDown(to: VirtAddr, from: VirtAddr, length: number): void {
    for (let left = length; left > 0; ) {
      const inPages = Math.min(((to + left - 1) & 0xfff) + 1, ((from + left - 1) & 0xfff) + 1);
      const run = Math.min(inPages, left);
      const source = from + left - run;
      const target = to + left - run;
      let sourceWord = 0;
      let targetWord = 0;
      let before = -1;
      while (before !== this.#disturbances) {
        before = this.#disturbances;
        sourceWord = this.#page(source, 0);
        targetWord = this.#page(target, WRITE);
      }
      const at = sourceWord * 4 + (source & 0xfff);
      this.#u8.copyWithin(targetWord * 4 + (target & 0xfff), at, at + run);
      left -= run;
    }
  }

  #findNotIn(at: number, length: number, value: number): number {
    const u8 = this.#u8;
    const u32 = this.#u32;
    const pattern = (value * 0x01010101) >>> 0;
    let i = 0;
    while (i < length && ((at + i) & 3) !== 0) {
      if (u8[at + i] !== value) return i;
      i += 1;
    }
    for (let word = (at + i) / 4; i + 4 <= length && u32[word] === pattern; word++) i += 4;
    for (; i < length; i++) {
      if (u8[at + i] !== value) return i;
    }
    return -1;
  }

  /** Loads `size` bytes that cross a page's end into {@link #bytes}. */
  #gather(addr: VirtAddr, size: number): void {
    const u8 = this.#u8;
    const bytes = this.#bytes;
    const inPage = PAGE - (addr & 0xfff);
    let low = 0;
    let high = 0;
    let before = -1;
    while (before !== this.#disturbances) {
      before = this.#disturbances;
      low = this.#page(addr, 0) * 4 + (addr & 0xfff);
      high = this.#page(addr + inPage, 0) * 4;
    }
    for (let i = 0; i < inPage; i++) bytes[i] = u8[low + i];
    for (let i = inPage; i < size; i++) bytes[i] = u8[high + i - inPage];
  }

  /** Stores the low `size` bytes of two words across a page's end: all of them, or none. */
  #scatter(addr: VirtAddr, size: number, lo: number, hi: number): void {
    const inPage = PAGE - (addr & 0xfff);
    let low = 0;
    let high = 0;
    let before = -1;
    while (before !== this.#disturbances) {
      before = this.#disturbances;
      low = this.#page(addr, WRITE) * 4 + (addr & 0xfff);
      high = this.#page(addr + inPage, WRITE) * 4;
    }
    const u8 = this.#u8;
    for (let i = 0; i < size; i++) {
      const byte = (i < 4 ? lo : hi) >>> ((i & 3) << 3);
      if (i < inPage) u8[low + i] = byte;
      else u8[high + i - inPage] = byte;
    }
  }
}

/** @throws RangeError for what no address is: not a whole number, or of more than 64 bits */
export function checkAddress(addr: VirtAddr): void {
  if (!Number.isInteger(addr) || addr >= ADDRESS_SPACE || addr < -UPPER_HALF) throw notAnAddress(addr);
}

function notAnAddress(addr: VirtAddr): RangeError {
  return new RangeError(`not an address: ${String(addr)}`);
}

/** @throws RangeError for what no length is: not a whole number from 0, or beyond 2^53 */
function checkLength(length: number): void {
  if (!Number.isInteger(length) || length < 0 || length >= LENGTH_LIMIT) {
    throw new RangeError(`not a length: ${String(length)}`);
  }
}
