import type { UserMemory, VirtAddr } from '@pagelab/abi';
import type { MallocOs } from '../malloc.ts';

/** What the functions of a thread's heap work on. */
export interface Mi {
  readonly os: MallocOs;
  readonly mem: UserMemory;
  readonly control: VirtAddr;
  /** The calling thread's heap. */
  readonly heap: VirtAddr;
  /** Free lists are encoded and checked. */
  readonly secure: boolean;
}

/** Adds to a 64-bit word. */
export function add(mem: UserMemory, at: VirtAddr, value: number): void {
  mem.storeAddress(at, mem.loadAddress(at) + value);
}

/** Adds to a 32-bit word; returns what it is then. */
export function add32(mem: UserMemory, at: VirtAddr, value: number): number {
  const sum = mem.load32(at) + value;
  mem.store32(at, sum);
  return sum;
}
