/**
 * Kernel memory through the direct map, a byte or a run at a time: what debugging looks at and what is copied or cleared
 * away from the fast paths. A run may cross pages that lie apart in host memory.
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { PhysicalMemory } from '@pagelab/hw';
import { formatAddress, hexDump } from './report.ts';

/** The direct map of a machine's RAM. @linux arch/x86/include/asm/page_64.h:__phys_addr */
export class DirectMap {
  /** Address of the first byte of RAM. */
  readonly pageOffset: VirtAddr;
  /** Bytes of a pointer. */
  readonly wordBytes: 4 | 8;
  private readonly ram: PhysicalMemory;

  constructor(ram: PhysicalMemory, pageOffset: VirtAddr, wordBytes: 4 | 8) {
    this.ram = ram;
    this.pageOffset = pageOffset;
    this.wordBytes = wordBytes;
  }

  /** Index in `ram.u8` of the byte at an address; the bytes up to the end of its page follow it. */
  index(address: VirtAddr): number {
    const pa = address - this.pageOffset;
    return this.ram.frameWord(Math.floor(pa / PAGE_SIZE)) * 4 + (pa & (PAGE_SIZE - 1));
  }

  byte(address: VirtAddr): number {
    return this.ram.u8[this.index(address)];
  }

  setByte(address: VirtAddr, value: number): void {
    this.ram.u8[this.index(address)] = value;
  }

  /** 32 bits, unsigned, at any multiple of 4. */
  word(address: VirtAddr): number {
    return this.ram.u32[this.index(address) >>> 2];
  }

  setWord(address: VirtAddr, value: number): void {
    this.ram.u32[this.index(address) >>> 2] = value;
  }

  /** A pointer at a multiple of 4: exact for one of the kernel's, and up to 2^53. */
  pointer(address: VirtAddr): number {
    if (this.wordBytes === 4) return this.word(address);
    return (this.word(address + 4) | 0) * 2 ** 32 + this.word(address);
  }

  setPointer(address: VirtAddr, value: number): void {
    const high = Math.floor(value / 2 ** 32);
    this.setWord(address, value - high * 2 ** 32);
    if (this.wordBytes === 8) this.setWord(address + 4, high);
  }

  /** An address as the kernel prints it. */
  format(address: VirtAddr): string {
    return formatAddress(address, this.wordBytes);
  }

  /** Bytes as the kernel dumps them; see {@link hexDump}. */
  dump(prefix: string, address: VirtAddr, bytes: number): string[] {
    return hexDump(prefix, address, this.read(address, bytes), this.wordBytes);
  }

  fill(address: VirtAddr, bytes: number, value: number): void {
    const { u8 } = this.ram;
    for (let done = 0, run: number; done < bytes; done += run) {
      const at = this.index(address + done);
      run = Math.min(bytes - done, PAGE_SIZE - (at % PAGE_SIZE));
      u8.fill(value, at, at + run);
    }
  }

  /** Copies between two blocks that do not overlap. */
  copy(to: VirtAddr, from: VirtAddr, bytes: number): void {
    const { u8 } = this.ram;
    for (let done = 0, run: number; done < bytes; done += run) {
      const source = this.index(from + done);
      const target = this.index(to + done);
      run = Math.min(bytes - done, PAGE_SIZE - (source % PAGE_SIZE), PAGE_SIZE - (target % PAGE_SIZE));
      u8.copyWithin(target, source, source + run);
    }
  }

  read(address: VirtAddr, bytes: number): Uint8Array {
    const { u8 } = this.ram;
    const result = new Uint8Array(bytes);
    for (let done = 0, run: number; done < bytes; done += run) {
      const at = this.index(address + done);
      run = Math.min(bytes - done, PAGE_SIZE - (at % PAGE_SIZE));
      result.set(u8.subarray(at, at + run), done);
    }
    return result;
  }

  /** Offset of the first byte that is not `value`, or −1. @linux lib/string.c:memchr_inv */
  findNot(address: VirtAddr, bytes: number, value: number): number {
    const { u8 } = this.ram;
    for (let done = 0, run: number; done < bytes; done += run) {
      const at = this.index(address + done);
      run = Math.min(bytes - done, PAGE_SIZE - (at % PAGE_SIZE));
      for (let i = 0; i < run; i++) if (u8[at + i] !== value) return done + i;
    }
    return -1;
  }

  /** Offset of the last byte that is not `value`, or −1. */
  findLastNot(address: VirtAddr, bytes: number, value: number): number {
    for (let at = bytes - 1; at >= 0; at--) if (this.byte(address + at) !== value) return at;
    return -1;
  }
}
