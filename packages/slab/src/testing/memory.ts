/** Reading and writing kernel memory through the direct map, a word at a time. */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_OFFSET } from '@pagelab/hw';
import type { PhysicalMemory } from '@pagelab/hw';

/** Where the direct map begins that an address is of: on 32 bits it is above 0. */
function pageOffsetOf(address: VirtAddr): VirtAddr {
  return address < 0 ? PAGE_OFFSET : 0xc000_0000;
}

/** The 32 bits at a kernel address. */
export function peek(ram: PhysicalMemory, address: VirtAddr): number {
  return ram.load32(address - pageOffsetOf(address));
}

/** Stores 32 bits at a kernel address. */
export function poke(ram: PhysicalMemory, address: VirtAddr, value: number): void {
  ram.store32(address - pageOffsetOf(address), value);
}

/** The 64 bits at a kernel address, as an address. */
export function peekAddress(ram: PhysicalMemory, address: VirtAddr): VirtAddr {
  return ram.loadAddress(address - PAGE_OFFSET);
}

/** Fills the first `bytes` of an object, in words, with what only this seed gives. */
export function fill(ram: PhysicalMemory, address: VirtAddr, bytes: number, seed: number): void {
  for (let at = 0; at + 4 <= bytes; at += 4) poke(ram, address + at, (Math.imul(seed, 0x9e3779b1) + at) >>> 0);
}

/** Whether an object holds what {@link fill} wrote. */
export function holds(ram: PhysicalMemory, address: VirtAddr, bytes: number, seed: number): boolean {
  for (let at = 0; at + 4 <= bytes; at += 4) {
    if (peek(ram, address + at) !== (Math.imul(seed, 0x9e3779b1) + at) >>> 0) return false;
  }
  return true;
}
