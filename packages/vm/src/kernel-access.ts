/**
 * The kernel's own loads and stores: through the page tables of the CPU that runs, at the kernel's privilege, and so
 * through its TLB. What is not mapped faults.
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { PF_INSTR, PF_WRITE, TRANSLATE_FAULT, VECTOR_GENERAL_PROTECTION } from '@pagelab/hw';
import type { PhysicalMemory, Smp } from '@pagelab/hw';

/** An access of the kernel that hardware refused. */
export class KernelFault extends Error {
  override readonly name = 'KernelFault';
  /** As CR2 has it; of an address that is not canonical, itself. */
  readonly address: VirtAddr;
  /** As the processor pushes it: `PF_…`. */
  readonly errorCode: number;
  /** 14, a page fault; 13 for an address that is not canonical. */
  readonly vector: number;

  constructor(address: VirtAddr, errorCode: number, vector: number) {
    super(`${vector === VECTOR_GENERAL_PROTECTION ? 'general protection fault' : 'page fault'} of the kernel at ${address}`);
    this.address = address;
    this.errorCode = errorCode;
    this.vector = vector;
  }
}

/** Kernel memory by address: of the direct map, vmalloc, per-CPU memory. */
export class KernelMemory {
  readonly #ram: PhysicalMemory;
  readonly #smp: Smp;
  readonly #onFault: (fault: KernelFault) => void;

  /** @param onFault what happens where hardware refuses an access: it is thrown unless told. Where this returns, the access is tried again */
  constructor(ram: PhysicalMemory, smp: Smp, onFault: (fault: KernelFault) => void = throwFault) {
    this.#ram = ram;
    this.#smp = smp;
    this.#onFault = onFault;
  }

  load8(address: VirtAddr): number {
    return this.#ram.u8[this.#byte(address, 0)];
  }

  load16(address: VirtAddr): number {
    return this.#load(address, 2);
  }

  /** Unsigned. */
  load32(address: VirtAddr): number {
    return this.#load(address, 4);
  }

  load64(address: VirtAddr): bigint {
    return BigInt(this.#load(address + 4, 4)) * 2n ** 32n + BigInt(this.#load(address, 4));
  }

  /** 64 bits as a signed number: exact for pointers of either half. */
  loadAddress(address: VirtAddr): number {
    return (this.#load(address + 4, 4) | 0) * 2 ** 32 + this.#load(address, 4);
  }

  store8(address: VirtAddr, value: number): void {
    this.#ram.u8[this.#byte(address, PF_WRITE)] = value;
  }

  store16(address: VirtAddr, value: number): void {
    this.#store(address, value, 2);
  }

  store32(address: VirtAddr, value: number): void {
    this.#store(address, value, 4);
  }

  store64(address: VirtAddr, value: bigint): void {
    this.#store(address, Number(BigInt.asUintN(32, value)), 4);
    this.#store(address + 4, Number(BigInt.asUintN(32, value >> 32n)), 4);
  }

  /** Stores an integer of at most 2^53 in magnitude as 64 bits: a pointer. */
  storeAddress(address: VirtAddr, value: number): void {
    this.#store(address, value, 4);
    this.#store(address + 4, Math.floor(value / 2 ** 32), 4);
  }

  /** Fetches a byte of an instruction: what a jump to the address does first. */
  fetch8(address: VirtAddr): number {
    return this.#ram.u8[this.#byte(address, PF_INSTR)];
  }

  /** Copies `length` bytes out. */
  bytes(address: VirtAddr, length: number): Uint8Array {
    const out = new Uint8Array(length);
    this.#runs(address, length, 0, (host, run, done) => out.set(this.#ram.u8.subarray(host, host + run), done));
    return out;
  }

  /** Copies bytes in. */
  set(address: VirtAddr, bytes: Uint8Array): void {
    this.#runs(address, bytes.length, PF_WRITE, (host, run, done) => this.#ram.u8.set(bytes.subarray(done, done + run), host));
  }

  /** Sets `length` bytes to the low 8 bits of `byte`. @linux lib/string.c:memset */
  fill(address: VirtAddr, length: number, byte: number): void {
    this.#runs(address, length, PF_WRITE, (host, run) => this.#ram.u8.fill(byte, host, host + run));
  }

  #load(address: VirtAddr, bytes: number): number {
    let value = 0;
    if ((address & (PAGE_SIZE - 1)) <= PAGE_SIZE - bytes) {
      const host = this.#byte(address, 0);
      for (let i = bytes - 1; i >= 0; i--) value = value * 256 + this.#ram.u8[host + i];
      return value;
    }
    for (let i = bytes - 1; i >= 0; i--) value = value * 256 + this.load8(address + i);
    return value;
  }

  #store(address: VirtAddr, value: number, bytes: number): void {
    if ((address & (PAGE_SIZE - 1)) <= PAGE_SIZE - bytes) {
      const host = this.#byte(address, PF_WRITE);
      for (let i = 0; i < bytes; i++) this.#ram.u8[host + i] = value >>> (8 * i);
      return;
    }
    // Both pages must be there before anything is stored.
    this.#byte(address + bytes - 1, PF_WRITE);
    for (let i = 0; i < bytes; i++) this.store8(address + i, value >>> (8 * i));
  }

  #runs(address: VirtAddr, length: number, access: number, each: (host: number, run: number, done: number) => void): void {
    for (let done = 0, run: number; done < length; done += run) {
      const at = address + done;
      run = Math.min(PAGE_SIZE - (at & (PAGE_SIZE - 1)), length - done);
      each(this.#byte(at, access), run, done);
    }
  }

  /** Index in RAM's bytes of a kernel address. */
  #byte(address: VirtAddr, access: number): number {
    const cpu = this.#smp.current;
    for (;;) {
      const host = cpu.translate(address, access);
      if (host !== TRANSLATE_FAULT) return host;
      this.#onFault(new KernelFault(address, cpu.faultErrorCode, cpu.faultVector));
    }
  }
}

function throwFault(fault: KernelFault): never {
  throw fault;
}
