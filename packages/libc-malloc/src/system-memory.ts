/** What allocators ask the system for, with 0 for an answer where it refuses. */
import type { VirtAddr } from '@pagelab/abi';
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, SyscallError } from '@pagelab/abi';
import type { MallocOs } from './malloc.ts';

/** No address space has room for more; sums of smaller sizes stay exact in a double. */
export const ABSURD_REQUEST = 2 ** 46;

/** `value` rounded up to a multiple of `unit`, a power of two up to 2^31. */
export function alignUp(value: number, unit: number): number {
  return value + (-value & (unit - 1));
}

/** `value` rounded down to a multiple of `unit`, a power of two up to 2^31. */
export function alignDown(value: number, unit: number): number {
  return value - (value & (unit - 1));
}

/** Moves the break by `increment` bytes; returns where it was, or 0 where the system refuses. */
export function trySbrk(os: MallocOs, increment: number): VirtAddr {
  return orZero(() => os.sbrk(increment));
}

/** Maps `length` bytes of zeroed memory, at `hint` where that is free; returns 0 where the system refuses. */
export function tryMmap(os: MallocOs, length: number, hint: VirtAddr = 0): VirtAddr {
  return orZero(() => os.mmap(hint, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS));
}

/**
 * Maps `length` bytes, whole pages, at a multiple of `alignment`, a power of two of at least a page; returns 0 where the
 * system refuses. Linux looks for room from the top, so that below a place that is not aligned there mostly is one.
 */
export function mmapAligned(os: MallocOs, length: number, alignment: number): VirtAddr {
  const first = tryMmap(os, length);
  if (first === 0 || first % alignment === 0) return first;
  os.munmap(first, length);
  const second = tryMmap(os, length, first - (first % alignment));
  if (second === 0 || second % alignment === 0) return second;
  os.munmap(second, length);
  const start = tryMmap(os, length + alignment);
  if (start === 0) return 0;
  const before = (alignment - (start % alignment)) % alignment;
  if (before > 0) os.munmap(start, before);
  os.munmap(start + before + length, alignment - before);
  return start + before;
}

function orZero(call: () => VirtAddr): VirtAddr {
  try {
    return call();
  } catch (error) {
    if (error instanceof SyscallError) return 0;
    throw error;
  }
}
