import type { UserMemory, VirtAddr } from '@pagelab/abi';
import type { MallocOs } from '../malloc.ts';
import { mallocAbort } from '../malloc-abort.ts';
import { CINUSE, FLAGS, HEAD, INUSE, PINUSE, SEGMENT, SEG_BASE, SEG_NEXT, SEG_SIZE } from './layout.ts';

/** What the functions of the allocator work on. */
export interface Dl {
  readonly os: MallocOs;
  readonly mem: UserMemory;
  /** Where the state lies. */
  readonly state: VirtAddr;
  /** Bytes that memory is asked for in units of. */
  readonly granularity: number;
}

/** The size of the chunk at `p`. */
export function chunkSize(mem: UserMemory, p: VirtAddr): number {
  const head = mem.loadAddress(p + HEAD);
  return head - (head & FLAGS);
}

/** A used chunk of `size` bytes; the one behind it knows. */
export function setInuse(mem: UserMemory, p: VirtAddr, size: number): void {
  mem.storeAddress(p + HEAD, size + CINUSE + (mem.load32(p + HEAD) & PINUSE));
  mem.store32(p + size + HEAD, mem.load32(p + size + HEAD) | PINUSE);
}

/** A used chunk of `size` bytes behind a used one, where what follows is to be set next. */
export function setSizeOfInuse(mem: UserMemory, p: VirtAddr, size: number): void {
  mem.storeAddress(p + HEAD, size + INUSE);
}

/** A free chunk of `size` bytes behind a used one. */
export function setSizeOfFree(mem: UserMemory, p: VirtAddr, size: number): void {
  mem.storeAddress(p + HEAD, size + PINUSE);
  mem.storeAddress(p + size, size);
}

/** The same, where the chunk behind it does not know yet that this one is free. */
export function setFree(mem: UserMemory, p: VirtAddr, size: number): void {
  mem.store32(p + size + HEAD, mem.load32(p + size + HEAD) & ~PINUSE);
  setSizeOfFree(mem, p, size);
}

/** The record of the segment around an address, 0 where there is none. */
export function segmentHolding({ mem, state }: Dl, at: VirtAddr): VirtAddr {
  for (let record = state + SEGMENT; record !== 0; record = mem.loadAddress(record + SEG_NEXT)) {
    const base = mem.loadAddress(record + SEG_BASE);
    if (at >= base && at < base + mem.loadAddress(record + SEG_SIZE)) return record;
  }
  return 0;
}

/** Gives up on a heap whose own data make no sense. */
export function corrupted(): never {
  mallocAbort('dlmalloc: heap corruption detected');
}

/** Gives up on a pointer that is no block in use. */
export function invalidUse(call: string): never {
  mallocAbort(`dlmalloc: ${call}(): invalid pointer`);
}
