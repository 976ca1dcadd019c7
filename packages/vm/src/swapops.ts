/**
 * Swap entries: which slot of which swap area a page is in. As a number of the kernel's own, and as the page-table entry
 * that stands where the page was.
 *
 * The number is `type << 26 | offset`: the area and the page in it, so that it fits an int32. In an entry of 64 bits:
 *
 * ```
 *  63    59 58                         9  8   7    4 3 2 1 0
 * +--------+----------------------------+---+------+-+-+-+-+
 * |  type  |      offset, inverted      | 0 |  0   |E|U|S|0|
 * +--------+----------------------------+---+------+-+-+-+-+
 *    E: the page belonged to this process alone   U: write-protected by userfaultfd   S: soft dirty
 * ```
 *
 * and in one of 32 bits, which has no room for S and U:
 *
 * ```
 *  31                9  8   7 6 5    1 0
 * +-------------------+---+---+-+------+-+
 * |      offset       | 0 | E |0| type |0|
 * +-------------------+---+---+-+------+-+
 * ```
 *
 * @linux arch/x86/include/asm/pgtable_64.h, pgtable-2level.h, include/linux/swapops.h
 */
import { PTE_MAPS } from './pte.ts';

/** Areas there can be: the other types are markers' and the like. @linux include/linux/swap.h:MAX_SWAPFILES */
export const MAX_SWAPFILES = 23;
/** Pages of the largest area: what a number of the kernel's own has room for. */
export const MAX_SWAP_PAGES = 2 ** 26;

const OFFSET_BITS = 26;
const OFFSET_MASK = MAX_SWAP_PAGES - 1;

/** Low word: the page belonged to one process alone. @linux arch/x86/include/asm/pgtable_types.h:_PAGE_SWP_EXCLUSIVE */
const SWP_EXCLUSIVE_64 = 1 << 3;
const SWP_EXCLUSIVE_32 = 1 << 7;

/** The number of a slot. @linux include/linux/swapops.h:swp_entry */
export function swpEntry(type: number, offset: number): number {
  return (type << OFFSET_BITS) | offset;
}

/** Its area. @linux include/linux/swapops.h:swp_type */
export function swpType(entry: number): number {
  return entry >>> OFFSET_BITS;
}

/** Its page in that area. @linux include/linux/swapops.h:swp_offset */
export function swpOffset(entry: number): number {
  return entry & OFFSET_MASK;
}

/** Low word of the page-table entry for a slot. `step` is the words that an entry has. @linux include/linux/swapops.h:swp_entry_to_pte */
export function swpPteLo(step: number, entry: number): number {
  const offset = entry & OFFSET_MASK;
  return step === 2 ? ~offset << 9 : (offset << 9) | ((entry >>> OFFSET_BITS) << 1);
}

/** High word of it. */
export function swpPteHi(entry: number): number {
  return ((entry >>> OFFSET_BITS) << 27) | ((~(entry & OFFSET_MASK) >> 23) & 0x7ff_ffff);
}

/** The bit that says that the page belonged to one process alone. */
export function swpExclusive(step: number): number {
  return step === 2 ? SWP_EXCLUSIVE_64 : SWP_EXCLUSIVE_32;
}

/** The slot that a page-table entry names; −1 where it names none: it is empty, shows a frame, or is a marker. @linux include/linux/swapops.h:pte_to_swp_entry */
export function pteToSwp(step: number, lo: number, hi: number): number {
  if ((lo | hi) === 0 || (lo & PTE_MAPS) !== 0) return -1;
  if (step === 2) {
    const type = hi >>> 27;
    if (type >= MAX_SWAPFILES) return -1;
    return (type << OFFSET_BITS) | ((~lo >>> 9) & 0x7f_ffff) | ((~hi & 7) << 23);
  }
  const type = (lo >>> 1) & 31;
  return type >= MAX_SWAPFILES ? -1 : (type << OFFSET_BITS) | (lo >>> 9);
}
