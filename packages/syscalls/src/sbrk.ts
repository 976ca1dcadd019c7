/**
 * The C library's `sbrk`, on the system call `brk`.
 *
 * @see glibc misc/sbrk.c, sysdeps/unix/sysv/linux/brk.c
 */
import type { VirtAddr } from '@pagelab/abi';
import { unsigned } from './registers.ts';

/** What the C library keeps for its process, in the process's own memory: `fork` copies it, threads share it. */
export interface LibraryState {
  /** The break as the library last saw it; −1 until the first `sbrk`. @see glibc `__curbrk` */
  curbrk: number;
}

/**
 * Moves the break by `increment` bytes as the C library's `sbrk` does: it remembers the break, and takes a move past
 * either end of the address range for failure.
 *
 * @param brk the system call
 * @returns the previous break, or −1
 */
export function sbrk(library: LibraryState, increment: number, brk: (addr: VirtAddr) => VirtAddr): number {
  if (library.curbrk < 0) library.curbrk = brk(0);
  const old = library.curbrk;
  if (increment === 0) return old;
  const wanted = old + increment;
  if (wanted < 0 || wanted >= 2 ** 64) return -1;
  library.curbrk = brk(wanted);
  // A break below what was asked for means that it has not moved.
  return unsigned(library.curbrk) < wanted ? -1 : old;
}
