/**
 * A mapping: one range of an address space with one set of rights, and what is behind it.
 *
 * Words used here. A *VMA* says what may be at an address; the *page tables* say what is. A VMA is *anonymous* when it
 * has no file: its pages start as zero and belong to nobody else. Its *page offset* (`pgoff`) numbers its pages within
 * the file, or, for anonymous memory, within the address space as it was when the first page was touched: two
 * neighbours may merge only when their offsets continue each other.
 */
import type { VirtAddr } from '@pagelab/abi';
import type { IntervalNode } from '@pagelab/lib';
import type { AnonVma, AnonVmaChain } from './anon-vma.ts';
import type { VmFile, ZeroFile } from './file.ts';
import type { HugetlbReservation } from './hugetlb-reserve.ts';
import type { MemPolicy } from './mempolicy.ts';
import type { MmStruct } from './mm-struct.ts';
import type { VmaNumabState } from './numa-balancing.ts';
import type { UffdContext } from './userfaultfd.ts';

/** What the pages may be used for now. */
export const VM_READ = 0x1;
export const VM_WRITE = 0x2;
export const VM_EXEC = 0x4;
export const VM_SHARED = 0x8;
/** What `mprotect` may give. */
export const VM_MAYREAD = 0x10;
export const VM_MAYWRITE = 0x20;
export const VM_MAYEXEC = 0x40;
export const VM_MAYSHARE = 0x80;
/** Grows downwards when the address below it is touched. */
export const VM_GROWSDOWN = 0x100;
export const VM_UFFD_MISSING = 0x200;
export const VM_PFNMAP = 0x400;
/** May hold guard pages: MADV_GUARD_INSTALL was here. */
export const VM_MAYBE_GUARD = 0x800;
export const VM_UFFD_WP = 0x1000;
export const VM_LOCKED = 0x2000;
export const VM_IO = 0x4000;
export const VM_SEQ_READ = 0x8000;
export const VM_RAND_READ = 0x1_0000;
/** Not copied by `fork`. */
export const VM_DONTCOPY = 0x2_0000;
export const VM_DONTEXPAND = 0x4_0000;
/** Lock pages as they are faulted in, do not populate. */
export const VM_LOCKONFAULT = 0x8_0000;
/** Counted against the commit limit. */
export const VM_ACCOUNT = 0x10_0000;
export const VM_NORESERVE = 0x20_0000;
export const VM_HUGETLB = 0x40_0000;
export const VM_SYNC = 0x80_0000;
/** Stays as it is: see `mseal.ts`. Linux has it in bit 42; here it is in a bit that x86 has no use for. */
export const VM_SEALED = 0x100_0000;
/** Empty in the child after `fork`. */
export const VM_WIPEONFORK = 0x200_0000;
export const VM_DONTDUMP = 0x400_0000;
export const VM_SOFTDIRTY = 0x800_0000;
export const VM_MIXEDMAP = 0x1000_0000;
export const VM_HUGEPAGE = 0x2000_0000;
export const VM_NOHUGEPAGE = 0x4000_0000;
export const VM_MERGEABLE = 0x8000_0000 | 0;

/** What is true of a mapping once it is true of a part of it: merging keeps these. */
export const VM_STICKY = VM_SOFTDIRTY | VM_MAYBE_GUARD;
/** What a VMA merges regardless of. */
export const VM_IGNORE_MERGE = VM_STICKY;
export const VM_ACCESS_FLAGS = VM_READ | VM_WRITE | VM_EXEC;
export const VM_LOCKED_MASK = VM_LOCKED | VM_LOCKONFAULT;
/** Mappings of devices: never locked, merged or dumped. */
export const VM_SPECIAL = VM_IO | VM_DONTEXPAND | VM_PFNMAP | VM_MIXEDMAP;

/**
 * @linux include/linux/mm_types.h:vm_area_struct
 */
export class VmArea {
  mm: MmStruct;
  /** First address, a multiple of the page size. */
  start: VirtAddr;
  /** The address after the last. */
  end: VirtAddr;
  /** `VM_…` bits. */
  flags: number;
  /** Offset of `start` in pages: in the file, or for anonymous memory `start / 4096` when it was first mapped. */
  pgoff: number;
  /** What is behind a file or shared mapping; `null` for private anonymous memory. */
  file: VmFile | null = null;
  /** Of anonymous memory that `/dev/zero` was mapped for: that file. Linux's `vm_file` is either this or {@link file}. */
  zeroFile: ZeroFile | null = null;
  /** Its place among the mappings of its file; `null` without a file, and while its bounds change. */
  mmapNode: IntervalNode<VmArea> | null = null;
  /** Where this VMA's own anonymous pages are recorded; `null` until the first is made. */
  anonVma: AnonVma | null = null;
  /** Every anon_vma this VMA's pages may belong to: its own and those of the VMAs it was forked from. */
  readonly anonVmaChain: AnonVmaChain[] = [];
  /** MAP_DROPPABLE: bit 40 of Linux's flags, out of a 32-bit word's reach. */
  droppable = false;
  /** Where its pages are to lie, where it has a say of its own. The object is the mapping's alone. */
  policy: MemPolicy | null = null;
  /** Who serves its faults; `null` for the kernel. */
  uffd: UffdContext | null = null;
  /** Of shared memory: whether pages that are there and not mapped are served, too. Linux's VM_UFFD_MINOR, out of a word's reach. */
  uffdMinor = false;
  /** What of a private mapping of huge pages is promised to it; `null` for any other, and for a child's. */
  resv: HugetlbReservation | null = null;
  /** A child's page was given to its parent: the child may not ask for another. */
  resvUnmapped = false;
  /** Reading ahead of swapped pages: the last address, the last window in pages, and how many of it were used. */
  raAddr: VirtAddr = 0;
  raWin = 0;
  raHits = 4;
  /** Who uses it, as far as NUMA balancing looks at it; `null` for others. */
  numab: VmaNumabState | null = null;
  /** A name of the kernel's for `/proc/PID/maps`, such as `[vdso]`; `''` for none. */
  name = '';
  /** Address of its object in the `vm_area_struct` cache. */
  object: VirtAddr = 0;

  constructor(mm: MmStruct, start: VirtAddr, end: VirtAddr, flags: number, pgoff: number) {
    this.mm = mm;
    this.start = start;
    this.end = end;
    this.flags = flags;
    this.pgoff = pgoff;
  }
}
