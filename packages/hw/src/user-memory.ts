/**
 * A task's memory as its program sees it: loads and stores through the page tables, at user privilege.
 *
 * The accessors are closures over the state, not methods of an object that holds it: nothing of the machine can be
 * reached from them.
 */
import type { StructFields, StructView, UserMemory, VirtAddr } from '@pagelab/abi';
import type { Cpu } from './cpu.ts';
import { PAGE_SIZE } from './page.ts';
import type { PhysicalMemory } from './physical-memory.ts';
import { decodeUtf8, encodeUtf8 } from './platform.ts';
import { PF_INSTR, PF_USER, PF_WRITE } from './pte.ts';
import { createStruct } from './struct-view.ts';
import { TLB_MASK, TLB_WRITE, Tlb } from './tlb.ts';

/** What the accessor calls when it cannot go on by itself. */
export interface UserMemoryHandlers {
  /** The task runs on no CPU: must attach it to one, or throw. */
  onDetached(): void;
  /** The access faulted: must repair the cause, after which the access is tried again, or throw. */
  onFault(address: VirtAddr, errorCode: number, vector: number): void;
}

/** A task's memory, and the kernel's end of it. */
export interface UserMemoryPort {
  /** For the program: frozen, and nothing of the machine is reachable from it. */
  readonly memory: UserMemory;
  /** The task runs on `cpu` from now on, whose CR3 holds its page tables. */
  attach(cpu: Cpu): void;
  /** The task runs on no CPU: its next access calls `onDetached`. */
  detach(): void;
}

const FRACTION = 2 ** 53;

/** Makes the accessor of one task. */
export function createUserMemory(ram: PhysicalMemory, handlers: UserMemoryHandlers): UserMemoryPort {
  const { u32, i32, u8 } = ram;
  const u64 = new BigUint64Array(u32.buffer);
  const f64 = new Float64Array(u32.buffer);
  const f32 = new Float32Array(u32.buffer);
  // Holds one value of up to 8 bytes on its way across a page boundary or to an unaligned address.
  const scratch8 = new Uint8Array(8);
  const scratch = new DataView(scratch8.buffer);
  // While no CPU is attached, a TLB that never hits stands in, so that the accesses need no test for it.
  const noTlb = new Tlb();
  let cpu: Cpu | null = null;
  let tags = noTlb.tags;
  let words = noTlb.words;
  /** Counts faults and detachments: an offset found before one is void after it. */
  let disturbances = 0;

  /** Host byte of `addr`, after serving whatever faults. */
  function translate(addr: VirtAddr, access: number): number {
    for (;;) {
      if (cpu === null) {
        disturbances += 1;
        handlers.onDetached();
        continue;
      }
      const at = cpu.translate(addr, access | PF_USER);
      if (at >= 0) return at;
      disturbances += 1;
      handlers.onFault(cpu.faultAddress, cpu.faultErrorCode, cpu.faultVector);
    }
  }

  /** Loads `size` bytes at any address into the scratch. */
  function gather(addr: VirtAddr, size: number): void {
    checkAddress(addr);
    const inPage = PAGE_SIZE - (addr & 0xfff);
    if (size <= inPage) {
      const at = translate(addr, 0);
      for (let i = 0; i < size; i++) scratch8[i] = u8[at + i];
      return;
    }
    for (;;) {
      const low = translate(addr, 0);
      const before = disturbances;
      const high = translate(addr + inPage, 0);
      if (before !== disturbances) continue;
      for (let i = 0; i < inPage; i++) scratch8[i] = u8[low + i];
      for (let i = inPage; i < size; i++) scratch8[i] = u8[high + i - inPage];
      return;
    }
  }

  /** Stores `size` bytes of the scratch at any address: all of them, or none. */
  function scatter(addr: VirtAddr, size: number): void {
    checkAddress(addr);
    const inPage = PAGE_SIZE - (addr & 0xfff);
    // A fault's handler may use this accessor, and with it the scratch.
    const bytes = scratch8.slice(0, size);
    if (size <= inPage) {
      const at = translate(addr, PF_WRITE);
      for (let i = 0; i < size; i++) u8[at + i] = bytes[i];
      return;
    }
    for (;;) {
      const low = translate(addr, PF_WRITE);
      const before = disturbances;
      const high = translate(addr + inPage, PF_WRITE);
      if (before !== disturbances) continue;
      for (let i = 0; i < inPage; i++) u8[low + i] = bytes[i];
      for (let i = inPage; i < size; i++) u8[high + i - inPage] = bytes[i];
      return;
    }
  }

  function load8(addr: VirtAddr): number {
    const lo = addr | 0;
    const slot = (lo >>> 12) & TLB_MASK;
    if (tags[slot] + (lo & 0xfff) === addr) {
      return (u32[words[slot] + ((lo & 0xfff) >>> 2)] >>> ((lo & 3) << 3)) & 0xff;
    }
    checkAddress(addr);
    return u8[translate(addr, 0)];
  }

  function load16(addr: VirtAddr): number {
    const lo = addr | 0;
    const slot = (lo >>> 12) & TLB_MASK;
    if (tags[slot] + (lo & 0xffe) === addr) {
      return (u32[words[slot] + ((lo & 0xfff) >>> 2)] >>> ((lo & 2) << 3)) & 0xffff;
    }
    gather(addr, 2);
    return scratch.getUint16(0, true);
  }

  function load32(addr: VirtAddr): number {
    const lo = addr | 0;
    const slot = (lo >>> 12) & TLB_MASK;
    if (tags[slot] + (lo & 0xffc) === addr) return u32[words[slot] + ((lo & 0xffc) >>> 2)];
    gather(addr, 4);
    return scratch.getUint32(0, true);
  }

  function load64(addr: VirtAddr): bigint {
    const lo = addr | 0;
    const slot = (lo >>> 12) & TLB_MASK;
    if (tags[slot] + (lo & 0xff8) === addr) return u64[(words[slot] >>> 1) + ((lo & 0xff8) >>> 3)];
    gather(addr, 8);
    return scratch.getBigUint64(0, true);
  }

  function loadAddress(addr: VirtAddr): number {
    const lo = addr | 0;
    const slot = (lo >>> 12) & TLB_MASK;
    if (tags[slot] + (lo & 0xff8) === addr) {
      const word = words[slot] + ((lo & 0xff8) >>> 2);
      return i32[word + 1] * 0x100000000 + u32[word];
    }
    gather(addr, 8);
    return scratch.getInt32(4, true) * 0x100000000 + scratch.getUint32(0, true);
  }

  function loadFloat32(addr: VirtAddr): number {
    const lo = addr | 0;
    const slot = (lo >>> 12) & TLB_MASK;
    if (tags[slot] + (lo & 0xffc) === addr) return f32[words[slot] + ((lo & 0xffc) >>> 2)];
    gather(addr, 4);
    return scratch.getFloat32(0, true);
  }

  function loadFloat64(addr: VirtAddr): number {
    const lo = addr | 0;
    const slot = (lo >>> 12) & TLB_MASK;
    if (tags[slot] + (lo & 0xff8) === addr) return f64[(words[slot] >>> 1) + ((lo & 0xff8) >>> 3)];
    gather(addr, 8);
    return scratch.getFloat64(0, true);
  }

  function store8(addr: VirtAddr, value: number): void {
    const lo = addr | 0;
    const slot = (lo >>> 12) & TLB_MASK;
    if (tags[TLB_WRITE + slot] + (lo & 0xfff) === addr) {
      const word = words[slot] + ((lo & 0xfff) >>> 2);
      const shift = (lo & 3) << 3;
      i32[word] = (i32[word] & ~(0xff << shift)) | ((value & 0xff) << shift);
      return;
    }
    checkAddress(addr);
    u8[translate(addr, PF_WRITE)] = value;
  }

  function store16(addr: VirtAddr, value: number): void {
    const lo = addr | 0;
    const slot = (lo >>> 12) & TLB_MASK;
    if (tags[TLB_WRITE + slot] + (lo & 0xffe) === addr) {
      const word = words[slot] + ((lo & 0xfff) >>> 2);
      const shift = (lo & 2) << 3;
      i32[word] = (i32[word] & ~(0xffff << shift)) | ((value & 0xffff) << shift);
      return;
    }
    scratch.setUint16(0, value, true);
    scatter(addr, 2);
  }

  function store32(addr: VirtAddr, value: number): void {
    const lo = addr | 0;
    const slot = (lo >>> 12) & TLB_MASK;
    if (tags[TLB_WRITE + slot] + (lo & 0xffc) === addr) {
      i32[words[slot] + ((lo & 0xffc) >>> 2)] = value;
      return;
    }
    scratch.setUint32(0, value, true);
    scatter(addr, 4);
  }

  function store64(addr: VirtAddr, value: bigint): void {
    const lo = addr | 0;
    const slot = (lo >>> 12) & TLB_MASK;
    if (tags[TLB_WRITE + slot] + (lo & 0xff8) === addr) {
      u64[(words[slot] >>> 1) + ((lo & 0xff8) >>> 3)] = value;
      return;
    }
    scratch.setBigUint64(0, value, true);
    scatter(addr, 8);
  }

  function storeAddress(addr: VirtAddr, value: number): void {
    const lo = addr | 0;
    const slot = (lo >>> 12) & TLB_MASK;
    if (tags[TLB_WRITE + slot] + (lo & 0xff8) === addr) {
      const word = words[slot] + ((lo & 0xff8) >>> 2);
      i32[word] = value | 0;
      i32[word + 1] = Math.floor(value / 0x100000000);
      return;
    }
    scratch.setUint32(0, value, true);
    scratch.setUint32(4, Math.floor(value / 0x100000000), true);
    scatter(addr, 8);
  }

  function storeFloat32(addr: VirtAddr, value: number): void {
    const lo = addr | 0;
    const slot = (lo >>> 12) & TLB_MASK;
    if (tags[TLB_WRITE + slot] + (lo & 0xffc) === addr) {
      f32[words[slot] + ((lo & 0xffc) >>> 2)] = value;
      return;
    }
    scratch.setFloat32(0, value, true);
    scatter(addr, 4);
  }

  function storeFloat64(addr: VirtAddr, value: number): void {
    const lo = addr | 0;
    const slot = (lo >>> 12) & TLB_MASK;
    if (tags[TLB_WRITE + slot] + (lo & 0xff8) === addr) {
      f64[(words[slot] >>> 1) + ((lo & 0xff8) >>> 3)] = value;
      return;
    }
    scratch.setFloat64(0, value, true);
    scatter(addr, 8);
  }

  function fetch8(addr: VirtAddr): number {
    checkAddress(addr);
    return u8[translate(addr, PF_INSTR)];
  }

  function read(addr: VirtAddr, length: number): Uint8Array {
    checkLength(length);
    const target = new Uint8Array(length);
    readInto(addr, target);
    return target;
  }

  function readInto(addr: VirtAddr, target: Uint8Array): void {
    checkAddress(addr);
    const { length } = target;
    for (let done = 0; done < length; ) {
      const va = addr + done;
      const run = Math.min(PAGE_SIZE - (va & 0xfff), length - done);
      const at = translate(va, 0);
      target.set(u8.subarray(at, at + run), done);
      done += run;
    }
  }

  function write(addr: VirtAddr, bytes: Uint8Array): void {
    checkAddress(addr);
    const { length } = bytes;
    for (let done = 0; done < length; ) {
      const va = addr + done;
      const run = Math.min(PAGE_SIZE - (va & 0xfff), length - done);
      const at = translate(va, PF_WRITE);
      u8.set(bytes.subarray(done, done + run), at);
      done += run;
    }
  }

  function fill(addr: VirtAddr, length: number, byte: number): void {
    checkAddress(addr);
    checkLength(length);
    for (let done = 0; done < length; ) {
      const va = addr + done;
      const run = Math.min(PAGE_SIZE - (va & 0xfff), length - done);
      const at = translate(va, PF_WRITE);
      u8.fill(byte, at, at + run);
      done += run;
    }
  }

  /** Copies a run that crosses no page boundary on either side. */
  function copyRun(to: VirtAddr, from: VirtAddr, run: number): void {
    for (;;) {
      const source = translate(from, 0);
      const before = disturbances;
      const target = translate(to, PF_WRITE);
      if (before !== disturbances) continue;
      u8.copyWithin(target, source, source + run);
      return;
    }
  }

  function copy(to: VirtAddr, from: VirtAddr, length: number): void {
    checkAddress(to);
    checkAddress(from);
    checkLength(length);
    if (to <= from || to >= from + length) {
      for (let done = 0; done < length; ) {
        const inPages = Math.min(PAGE_SIZE - ((to + done) & 0xfff), PAGE_SIZE - ((from + done) & 0xfff));
        const run = Math.min(inPages, length - done);
        copyRun(to + done, from + done, run);
        done += run;
      }
      return;
    }
    // The target overlaps the source's end: from the end down.
    for (let left = length; left > 0; ) {
      const inPages = Math.min(((to + left - 1) & 0xfff) + 1, ((from + left - 1) & 0xfff) + 1);
      const run = Math.min(inPages, left);
      left -= run;
      copyRun(to + left, from + left, run);
    }
  }

  function findNot(addr: VirtAddr, length: number, byte: number): number {
    checkAddress(addr);
    checkLength(length);
    const wanted = byte & 0xff;
    for (let done = 0; done < length; ) {
      const va = addr + done;
      const run = Math.min(PAGE_SIZE - (va & 0xfff), length - done);
      const at = translate(va, 0);
      for (let i = 0; i < run; i++) {
        if (u8[at + i] !== wanted) return done + i;
      }
      done += run;
    }
    return -1;
  }

  function loadCString(addr: VirtAddr, maxBytes = 65536): string {
    checkAddress(addr);
    checkLength(maxBytes);
    const bytes: Uint8Array[] = [];
    let length = 0;
    while (length < maxBytes) {
      const va = addr + length;
      const run = Math.min(PAGE_SIZE - (va & 0xfff), maxBytes - length);
      const at = translate(va, 0);
      const end = u8.subarray(at, at + run).indexOf(0);
      bytes.push(u8.slice(at, at + (end < 0 ? run : end)));
      length += end < 0 ? run : end;
      if (end >= 0) break;
    }
    const all = new Uint8Array(length);
    let offset = 0;
    for (const part of bytes) {
      all.set(part, offset);
      offset += part.length;
    }
    return decodeUtf8(all);
  }

  function storeCString(addr: VirtAddr, text: string): number {
    const encoded = encodeUtf8(text);
    const bytes = new Uint8Array(encoded.length + 1);
    bytes.set(encoded);
    write(addr, bytes);
    return bytes.length;
  }

  function struct<F extends StructFields>(addr: VirtAddr, fields: F): StructView<F> {
    checkAddress(addr);
    return createStruct(memory, addr, fields);
  }

  const memory: UserMemory = Object.freeze({
    load8,
    load16,
    load32,
    load64,
    loadAddress,
    loadFloat32,
    loadFloat64,
    store8,
    store16,
    store32,
    store64,
    storeAddress,
    storeFloat32,
    storeFloat64,
    fetch8,
    read,
    readInto,
    write,
    fill,
    copy,
    findNot,
    loadCString,
    storeCString,
    struct,
  });

  return {
    memory,
    attach(to: Cpu): void {
      cpu = to;
      tags = to.tlb.tags;
      words = to.tlb.words;
      disturbances += 1;
    },
    detach(): void {
      cpu = null;
      tags = noTlb.tags;
      words = noTlb.words;
      disturbances += 1;
    },
  };
}

/** @throws RangeError for an address that no access can have: not a whole number, or of more than 64 bits */
function checkAddress(addr: VirtAddr): void {
  if (!Number.isInteger(addr) || addr >= 2 ** 64 || addr < -(2 ** 63)) {
    throw new RangeError(`not an address: ${String(addr)}`);
  }
}

/** @throws RangeError for a length that is not a whole number from 0 up to 2^53 */
function checkLength(length: number): void {
  if (!Number.isInteger(length) || length < 0 || length >= FRACTION) {
    throw new RangeError(`not a length: ${String(length)}`);
  }
}
