/**
 * A task's memory as its program sees it: loads and stores through the page tables, at user privilege.
 *
 * This file is the fast half: an aligned access that hits the TLB takes one comparison and two array reads. It is a
 * class, not a set of closures, as a call site that meets the memories of several tasks is then as fast as one that
 * meets a single one (closures: 4.8 times a plain array instead of 3.3). All state is in private fields, and the
 * prototype leads nowhere.
 */
import type { StructFields, StructView, UserMemory, VirtAddr } from '@pagelab/abi';
import type { Cpu } from './cpu.ts';
import type { PhysicalMemory } from './physical-memory.ts';
import { createStruct } from './struct-view.ts';
import { NO_TAGS, TLB_MASK, TLB_WRITE } from './tlb.ts';
import {
  KIND_16,
  KIND_32,
  KIND_8,
  KIND_ADDRESS,
  KIND_FETCH,
  KIND_FLOAT32,
  KIND_FLOAT64,
  UserAccess,
  checkAddress,
} from './user-access.ts';
import type { UserMemoryHandlers } from './user-access.ts';

/** A task's memory, and the kernel's end of it. */
export interface UserMemoryPort {
  /** For the program: frozen, and nothing of the machine is reachable from it. */
  readonly memory: UserMemory;
  /** The task runs on `cpu` from now on, whose CR3 holds its page tables. */
  attach(cpu: Cpu): void;
  /** The task runs on no CPU: its next access calls `onDetached`. */
  detach(): void;
}

// V8 reads an imported constant anew at each use and checks it; one of the module's own is compiled in.
const MASK = TLB_MASK;
const WRITE = TLB_WRITE;
const TWO_32 = 0x100000000;

const NO_U32 = new Uint32Array(0);
const NO_U64 = new BigUint64Array(0);
const NO_F32 = new Float32Array(0);
const NO_F64 = new Float64Array(0);

class TaskMemory implements UserMemory {
  /**
   * The tags of the CPU's TLB. While the task runs on none, tags that never hit, so that no access need test for it.
   */
  #tags = NO_TAGS;
  // RAM, from the words of the CPU's TLB on: see Tlb. Never reached while no tag hits.
  #u32: Uint32Array = NO_U32;
  #u64: BigUint64Array = NO_U64;
  #f32: Float32Array = NO_F32;
  #f64: Float64Array = NO_F64;
  /** Where the slow half reads an address: see there. */
  readonly #address: Float64Array = NO_TAGS;
  readonly #slow: UserAccess;

  constructor(slow: UserAccess) {
    this.#address = slow.address;
    this.#slow = slow;
    Object.freeze(this);
  }

  /** Makes a task's memory with the kernel's end of it, which alone can reach the private fields. */
  static createPort(this: void, ram: PhysicalMemory, handlers: UserMemoryHandlers): UserMemoryPort {
    const slow = new UserAccess(ram, handlers);
    const memory = new TaskMemory(slow);
    return {
      memory,
      attach(cpu) {
        const { tlb } = cpu;
        memory.#tags = tlb.tags;
        memory.#u32 = tlb.u32;
        memory.#u64 = tlb.u64;
        memory.#f32 = tlb.f32;
        memory.#f64 = tlb.f64;
        slow.setCpu(cpu);
      },
      detach() {
        memory.#tags = NO_TAGS;
        slow.setCpu(null);
      },
    };
  }

  load8(addr: VirtAddr): number {
    const lo = addr | 0;
    const slot = (lo >>> 12) & MASK;
    if (this.#tags[slot] + (lo & 0xfff) === addr) {
      const u32 = this.#u32;
      return (u32[(u32[slot] + ((lo & 0xfff) >>> 2)) | 0] >>> ((lo & 3) << 3)) & 0xff;
    }
    this.#address[0] = addr;
    return this.#slow.load(KIND_8) & 0xff;
  }

  load16(addr: VirtAddr): number {
    const lo = addr | 0;
    const slot = (lo >>> 12) & MASK;
    if (this.#tags[slot] + (lo & 0xffe) === addr) {
      const u32 = this.#u32;
      return (u32[(u32[slot] + ((lo & 0xfff) >>> 2)) | 0] >>> ((lo & 2) << 3)) & 0xffff;
    }
    this.#address[0] = addr;
    return this.#slow.load(KIND_16) & 0xffff;
  }

  load32(addr: VirtAddr): number {
    const lo = addr | 0;
    const slot = (lo >>> 12) & MASK;
    const offset = lo & 0xffc;
    if (this.#tags[slot] + offset === addr) {
      const u32 = this.#u32;
      return u32[(u32[slot] + (offset >>> 2)) | 0];
    }
    this.#address[0] = addr;
    return this.#slow.load(KIND_32) >>> 0;
  }

  load64(addr: VirtAddr): bigint {
    const lo = addr | 0;
    const slot = (lo >>> 12) & MASK;
    const offset = lo & 0xff8;
    if (this.#tags[slot] + offset === addr) return this.#u64[(this.#u32[slot] + (offset >>> 2)) >>> 1];
    this.#address[0] = addr;
    return this.#slow.load64();
  }

  loadAddress(addr: VirtAddr): number {
    const lo = addr | 0;
    const slot = (lo >>> 12) & MASK;
    const offset = lo & 0xff8;
    if (this.#tags[slot] + offset === addr) {
      const u32 = this.#u32;
      const word = (u32[slot] + (offset >>> 2)) | 0;
      return (u32[word + 1] | 0) * TWO_32 + u32[word];
    }
    this.#address[0] = addr;
    return +this.#slow.load(KIND_ADDRESS);
  }

  loadFloat32(addr: VirtAddr): number {
    const lo = addr | 0;
    const slot = (lo >>> 12) & MASK;
    const offset = lo & 0xffc;
    if (this.#tags[slot] + offset === addr) return this.#f32[(this.#u32[slot] + (offset >>> 2)) | 0];
    this.#address[0] = addr;
    return +this.#slow.load(KIND_FLOAT32);
  }

  loadFloat64(addr: VirtAddr): number {
    const lo = addr | 0;
    const slot = (lo >>> 12) & MASK;
    const offset = lo & 0xff8;
    if (this.#tags[slot] + offset === addr) return this.#f64[(this.#u32[slot] + (offset >>> 2)) >>> 1];
    this.#address[0] = addr;
    return +this.#slow.load(KIND_FLOAT64);
  }

  // A value is converted before the tags are looked at: an object's conversion may run code that unmaps the page.

  store8(addr: VirtAddr, value: number): void {
    const byte = value & 0xff;
    const lo = addr | 0;
    const slot = (lo >>> 12) & MASK;
    if (this.#tags[WRITE + slot] + (lo & 0xfff) === addr) {
      const u32 = this.#u32;
      const word = (u32[slot] + ((lo & 0xfff) >>> 2)) | 0;
      const shift = (lo & 3) << 3;
      u32[word] = (u32[word] & ~(0xff << shift)) | (byte << shift);
      return;
    }
    this.#address[0] = addr;
    this.#slow.store(1, byte, 0);
  }

  store16(addr: VirtAddr, value: number): void {
    const half = value & 0xffff;
    const lo = addr | 0;
    const slot = (lo >>> 12) & MASK;
    if (this.#tags[WRITE + slot] + (lo & 0xffe) === addr) {
      const u32 = this.#u32;
      const word = (u32[slot] + ((lo & 0xfff) >>> 2)) | 0;
      const shift = (lo & 2) << 3;
      u32[word] = (u32[word] & ~(0xffff << shift)) | (half << shift);
      return;
    }
    this.#address[0] = addr;
    this.#slow.store(2, half, 0);
  }

  store32(addr: VirtAddr, value: number): void {
    const word = value | 0;
    const lo = addr | 0;
    const slot = (lo >>> 12) & MASK;
    const offset = lo & 0xffc;
    if (this.#tags[WRITE + slot] + offset === addr) {
      const u32 = this.#u32;
      u32[(u32[slot] + (offset >>> 2)) | 0] = word;
      return;
    }
    this.#address[0] = addr;
    this.#slow.store(4, word, 0);
  }

  store64(addr: VirtAddr, value: bigint): void {
    const bits = BigInt.asUintN(64, value);
    const lo = addr | 0;
    const slot = (lo >>> 12) & MASK;
    const offset = lo & 0xff8;
    if (this.#tags[WRITE + slot] + offset === addr) {
      this.#u64[(this.#u32[slot] + (offset >>> 2)) >>> 1] = bits;
      return;
    }
    this.#address[0] = addr;
    this.#slow.store64(bits);
  }

  storeAddress(addr: VirtAddr, value: number): void {
    const valueLo = value | 0;
    const valueHi = Math.floor(value / TWO_32) | 0;
    const lo = addr | 0;
    const slot = (lo >>> 12) & MASK;
    const offset = lo & 0xff8;
    if (this.#tags[WRITE + slot] + offset === addr) {
      const u32 = this.#u32;
      const word = (u32[slot] + (offset >>> 2)) | 0;
      u32[word] = valueLo;
      u32[word + 1] = valueHi;
      return;
    }
    this.#address[0] = addr;
    this.#slow.store(8, valueLo, valueHi);
  }

  storeFloat32(addr: VirtAddr, value: number): void {
    const float = +value;
    const lo = addr | 0;
    const slot = (lo >>> 12) & MASK;
    const offset = lo & 0xffc;
    if (this.#tags[WRITE + slot] + offset === addr) {
      this.#f32[(this.#u32[slot] + (offset >>> 2)) | 0] = float;
      return;
    }
    this.#address[0] = addr;
    this.#slow.storeFloat32(float);
  }

  storeFloat64(addr: VirtAddr, value: number): void {
    const float = +value;
    const lo = addr | 0;
    const slot = (lo >>> 12) & MASK;
    const offset = lo & 0xff8;
    if (this.#tags[WRITE + slot] + offset === addr) {
      this.#f64[(this.#u32[slot] + (offset >>> 2)) >>> 1] = float;
      return;
    }
    this.#address[0] = addr;
    this.#slow.storeFloat64(float);
  }

  fetch8(addr: VirtAddr): number {
    this.#address[0] = addr;
    return this.#slow.load(KIND_FETCH);
  }

  read(addr: VirtAddr, length: number): Uint8Array {
    return this.#slow.read(addr, length);
  }

  readInto(addr: VirtAddr, target: Uint8Array): void {
    this.#slow.readInto(addr, target);
  }

  write(addr: VirtAddr, bytes: Uint8Array): void {
    this.#slow.write(addr, bytes);
  }

  fill(addr: VirtAddr, length: number, byte: number): void {
    this.#slow.fill(addr, length, byte);
  }

  copy(to: VirtAddr, from: VirtAddr, length: number): void {
    this.#slow.copy(to, from, length);
  }

  findNot(addr: VirtAddr, length: number, byte: number): number {
    return this.#slow.findNot(addr, length, byte);
  }

  loadCString(addr: VirtAddr, maxBytes = 65536): string {
    return this.#slow.loadCString(addr, maxBytes);
  }

  storeCString(addr: VirtAddr, text: string): number {
    return this.#slow.storeCString(addr, text);
  }

  struct<F extends StructFields>(addr: VirtAddr, fields: F): StructView<F> {
    checkAddress(addr);
    return createStruct(this, addr, fields);
  }
}

const { createPort } = TaskMemory;
// A program gets objects of this class: they must not lead it to the class itself.
Object.defineProperty(TaskMemory.prototype, 'constructor', { value: Object });
Object.freeze(TaskMemory.prototype);

/**
 * Makes the memory of one task. It is detached at first.
 *
 * While the task runs on no CPU, the first access calls `onDetached`, which must attach it to one. An access that
 * faults calls `onFault` and is tried again when that returns.
 */
export function createUserMemory(ram: PhysicalMemory, handlers: UserMemoryHandlers): UserMemoryPort {
  return createPort(ram, handlers);
}
