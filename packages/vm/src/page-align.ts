/**
 * Whole pages. By division, not by masks: an address has more bits than a bit operation.
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

/**
 * Whether `start + length` is beyond the 64 bits of a register. Both are register values: negative for the upper half.
 */
export function rangeWraps(start: number, length: number): boolean {
  return start < 0 === length < 0 ? start < 0 : start + length >= 0;
}

/** Where a range that does not wrap ends; `Infinity` for one that reaches into the upper half. */
export function rangeEnd(start: number, length: number): number {
  return start < 0 || length < 0 ? Infinity : start + length;
}
