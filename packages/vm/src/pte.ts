/**
 * What Linux keeps in the entries of the last level of user page tables.
 *
 * A present entry is hardware's, with one bit of software: *special* entries show a frame that is nobody's page, such
 * as the zero page, and are counted nowhere. An entry of a PROT_NONE mapping keeps its frame but not the present bit:
 * the global bit, which hardware ignores then, tells it from the rest. Everything else that is not zero stands for a
 * page that is elsewhere, or for a promise (a marker), in the form of Linux's swap entries:
 *
 * ```
 *  63    59 58                         9 8  7      1 0
 * +--------+----------------------------+--+--------+-+
 * |  type  |      offset, inverted      | 0|  flags |0|
 * +--------+----------------------------+--+--------+-+
 *
 *  31                     9 8  7 6 5      1 0      where an entry is one word
 * +------------------------+--+----+-------+-+
 * |         offset         | 0|    | type  |0|
 * +------------------------+--+----+-------+-+
 * ```
 *
 * @linux arch/x86/include/asm/pgtable_64.h, pgtable-3level.h, pgtable-2level.h
 */
import {
  PTE_ACCESSED,
  PTE_DIRTY,
  PTE_GLOBAL,
  PTE_HI_FRAME_MASK,
  PTE_LO_FRAME_MASK,
  PTE_NX_HI,
  PTE_PCD,
  PTE_PRESENT,
  PTE_PS,
  PTE_PWT,
  PTE_RW,
  PTE_SOFT_DIRTY_HI,
  PTE_UFFD_WP_LO,
  PTE_USER,
} from '@pagelab/hw';
import type { PageTableShape } from './pgtable-shape.ts';
import { VM_EXEC, VM_READ, VM_SHARED, VM_UFFD_WP, VM_WRITE } from './vma.ts';
import type { VmArea } from './vma.ts';

/**
 * Low word: the page is there, but may not be touched at all.
 *
 * @linux arch/x86/include/asm/pgtable_types.h:_PAGE_PROTNONE
 */
export const PTE_PROTNONE = PTE_GLOBAL;
/** Low word: shows a frame that has no page to count. @linux arch/x86/include/asm/pgtable_types.h:_PAGE_SPECIAL */
export const PTE_SPECIAL = 0x200;
/** Low word: either of these, and the entry shows a frame. @linux arch/x86/include/asm/pgtable.h:pte_present */
export const PTE_MAPS = PTE_PRESENT | PTE_PROTNONE;
/** Low word of an entry that leads to a lower table. @linux arch/x86/include/asm/pgtable_types.h:_PAGE_TABLE */
export const PTE_TABLE = PTE_PRESENT | PTE_RW | PTE_USER | PTE_ACCESSED | PTE_DIRTY;

/** What `mprotect` leaves alone in each word. @linux arch/x86/include/asm/pgtable_types.h:_PAGE_CHG_MASK */
export const PTE_KEEP_LO =
  PTE_LO_FRAME_MASK | PTE_PCD | PTE_PWT | PTE_SPECIAL | PTE_ACCESSED | PTE_DIRTY | PTE_PS | PTE_UFFD_WP_LO;
export const PTE_KEEP_HI = PTE_HI_FRAME_MASK | PTE_SOFT_DIRTY_HI;

/** Low word of an entry of 64 bits that shows no frame: it is soft dirty, or write-protected by userfaultfd. @linux arch/x86/include/asm/pgtable_types.h:_PAGE_SWP_SOFT_DIRTY, _PAGE_SWP_UFFD_WP */
export const SWP_SOFT_DIRTY = 1 << 1;
export const SWP_UFFD_WP = 1 << 2;

const SWP_TYPE_SHIFT_HI = 27;
const SWP_OFFSET_SHIFT_LO = 9;
/** The type of entries that only mark. @linux include/linux/swap.h:SWP_PTE_MARKER */
const SWP_PTE_MARKER = 31;
/** @linux include/linux/swapops.h:PTE_MARKER_GUARD */
export const PTE_MARKER_GUARD = 4;

/** Markers: a page that is not there yet is write-protected by userfaultfd; nobody may use the page. @linux include/linux/swapops.h:PTE_MARKER_UFFD_WP */
export const MARKER_UFFD_WP = 1;
export const MARKER_POISONED = 2;

/** The two words of the entry that MADV_GUARD_INSTALL leaves: the page may not be touched. */
export const PTE_GUARD_LO = (~PTE_MARKER_GUARD << SWP_OFFSET_SHIFT_LO) | 0;
export const PTE_GUARD_HI = (SWP_PTE_MARKER << SWP_TYPE_SHIFT_HI) | 0x7ff_ffff | 0;

/** That entry, where it is one word. */
export const PTE_GUARD_ONE_WORD = (SWP_PTE_MARKER << 1) | (PTE_MARKER_GUARD << SWP_OFFSET_SHIFT_LO);

/** Type and offset of a marker as `/proc/PID/pagemap` gives them: in 5 bits, and above. */
export function markerPagemapLo(marker: number): number {
  return SWP_PTE_MARKER | (marker << 5);
}

/**
 * Low words of new entries by `VM_READ | VM_WRITE | VM_EXEC | VM_SHARED`. Private entries are never writable here: who
 * may write a private page is found out page by page.
 *
 * @linux arch/x86/mm/pgprot.c:protection_map
 */
const PROTECTION_LO = Int32Array.from({ length: 16 }, (_, flags) => {
  if ((flags & (VM_READ | VM_WRITE | VM_EXEC)) === 0) return PTE_PROTNONE | PTE_ACCESSED;
  const shown = PTE_PRESENT | PTE_USER | PTE_ACCESSED;
  return (flags & (VM_SHARED | VM_WRITE)) === (VM_SHARED | VM_WRITE) ? shown | PTE_RW : shown;
});

/**
 * Low word, without a frame, of a new entry of a mapping with these `VM_` flags.
 *
 * @linux mm/pgprot.c:vm_get_page_prot
 */
export function pageProtLo(vmFlags: number): number {
  return PROTECTION_LO[vmFlags & (VM_READ | VM_WRITE | VM_EXEC | VM_SHARED)];
}

/**
 * Low word, without a frame, of a new entry of a mapping. In a shared mapping of a file that wants to be told of stores
 * it is not writable: who may store is found out page by page.
 *
 * @linux mm/mmap.c:vma_set_page_prot, vma_wants_writenotify
 */
export function vmaProtLo(vma: VmArea): number {
  const lo = pageProtLo(vma.flags);
  return (lo & PTE_RW) !== 0 && wantsWriteNotify(vma) ? lo & ~PTE_RW : lo;
}

/** Whether a store to a page of a shared mapping has to be found out. @linux mm/vma.c:vma_wants_writenotify */
function wantsWriteNotify(vma: VmArea): boolean {
  return vma.file!.inode.mapping.ops.writeNotify || (vma.flags & VM_UFFD_WP) !== 0;
}

/** High word, without a frame, of a new entry of a mapping with these `VM_` flags. */
export function pageProtHi(vmFlags: number): number {
  return (vmFlags & (VM_READ | VM_WRITE | VM_EXEC)) === 0 || (vmFlags & VM_EXEC) !== 0 ? 0 : PTE_NX_HI;
}

/** The frame of an entry that shows one, as an int32: frames are numbered below 2^31. */
export function pfnOf(lo: number, hi: number): number {
  return (lo >>> 12) | ((hi & 0x7ff) << 20);
}

/** Low word of a marker's entry. @linux include/linux/swapops.h:make_pte_marker */
export function markerLo({ guardHi }: PageTableShape, marker: number): number {
  return guardHi === 0 ? (SWP_PTE_MARKER << 1) | (marker << SWP_OFFSET_SHIFT_LO) : (~marker << SWP_OFFSET_SHIFT_LO) | 0;
}

/**
 * Low word of a marker in a huge page's place: PTE_PS, which means nothing to hardware there, tells it from a table.
 *
 * @linux include/linux/swapops.h:make_pte_marker
 */
export function hugeMarkerLo(tables: PageTableShape, marker: number): number {
  return markerLo(tables, marker) | PTE_PS;
}

/** High word of a marker's entry, where there is one. */
export function markerHi({ guardHi }: PageTableShape): number {
  return guardHi;
}

/** The marker that an entry is, of those above; 0 for anything else. @linux include/linux/swapops.h:pte_marker_get */
export function markerOf(tables: PageTableShape, lo: number, hi: number): number {
  if (hi !== tables.guardHi) return 0;
  const plain = lo & ~(swpUffdWp(tables) | PTE_PS);
  if (plain === markerLo(tables, MARKER_UFFD_WP)) return MARKER_UFFD_WP;
  return plain === markerLo(tables, MARKER_POISONED) ? MARKER_POISONED : 0;
}

/** The bit by which an entry that shows no frame says that the page is write-protected; 0 where there is no room for it. @linux arch/x86/include/asm/pgtable_types.h:_PAGE_SWP_UFFD_WP */
export function swpUffdWp({ entryWords }: PageTableShape): number {
  return entryWords === 2 ? SWP_UFFD_WP : 0;
}

/**
 * Whether an entry is write-protected by userfaultfd: one that shows a frame, one of a swapped page, or a marker.
 *
 * @linux include/asm-generic/pgtable_uffd.h:pte_uffd_wp, include/linux/userfaultfd_k.h:pte_swp_uffd_wp_any
 */
export function isUffdWp(tables: PageTableShape, lo: number, hi: number): boolean {
  if ((lo & PTE_MAPS) !== 0) return (lo & PTE_UFFD_WP_LO) !== 0;
  return (lo & swpUffdWp(tables)) !== 0 || markerOf(tables, lo, hi) === MARKER_UFFD_WP;
}

/** Whether an entry is a marker of any kind, in a small or a huge page's place. @linux include/linux/swapops.h:is_pte_marker */
export function isMarker(tables: PageTableShape, lo: number, hi: number): boolean {
  return markerOf(tables, lo, hi) !== 0 || isGuardMarker(tables, lo, hi);
}

/** Whether an entry is the marker of a guard page. @linux include/linux/swapops.h:is_guard_swp_entry */
export function isGuardMarker(tables: PageTableShape, lo: number, hi: number): boolean {
  return hi === tables.guardHi && (lo & ~swpUffdWp(tables)) === tables.guardLo;
}
