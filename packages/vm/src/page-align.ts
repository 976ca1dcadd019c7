/**
 * Whole pages. By division, not by masks: an address has more bits than a bit operation. Nor by remainders: `%` of doubles
 * takes 65 ns, a division and a multiplication 4.
 */
import { PAGE_SIZE } from '@pagelab/abi';

/** Rounds up to a whole number of pages. @linux include/linux/mm.h:PAGE_ALIGN */
export function pageAlign(bytes: number): number {
  return Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
}

/** Rounds down to a whole number of pages. @linux include/linux/mm.h:PAGE_ALIGN_DOWN */
export function pageAlignDown(bytes: number): number {
  return Math.floor(bytes / PAGE_SIZE) * PAGE_SIZE;
}

/** Bytes behind the start of a page; 0 for an aligned address. @linux include/linux/mm.h:offset_in_page */
export function offsetInPage(addr: number): number {
  return addr - Math.floor(addr / PAGE_SIZE) * PAGE_SIZE;
}

/** Whether a number is a multiple of `size`. @linux include/linux/align.h:IS_ALIGNED */
export function isAligned(bytes: number, size: number): boolean {
  return Math.floor(bytes / size) * size === bytes;
}

/**
 * Whether `start + length` is beyond what a register holds, `range`. Both are register values: negative for what is out of
 * every program's reach.
 */
export function rangeWraps(range: number, start: number, length: number): boolean {
  if (start < 0 !== length < 0) return start + length >= 0;
  return start < 0 || start + length >= range;
}

/** Where a range that does not wrap ends; `Infinity` for one that reaches beyond any program. */
export function rangeEnd(start: number, length: number): number {
  return start < 0 || length < 0 ? Infinity : start + length;
}
