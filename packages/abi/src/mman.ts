/**
 * Constants of memory management, with Linux's values on x86-64.
 *
 * @linux include/uapi/asm-generic/mman-common.h, include/uapi/linux/mman.h
 */

/** Page protection: what a mapping may be used for. */
export const PROT_NONE = 0x0;
export const PROT_READ = 0x1;
export const PROT_WRITE = 0x2;
export const PROT_EXEC = 0x4;
/** May be used for atomic operations; accepted, means nothing on x86. */
export const PROT_SEM = 0x8;
/** `mprotect` only: extend the change to the start of a mapping that grows downwards. */
export const PROT_GROWSDOWN = 0x0100_0000;
/** `mprotect` only: extend the change to the end of a mapping that grows upwards (none does on x86). */
export const PROT_GROWSUP = 0x0200_0000;

/** Exactly one of the types SHARED, PRIVATE and SHARED_VALIDATE goes into every `mmap`. */
export const MAP_SHARED = 0x01;
export const MAP_PRIVATE = 0x02;
/** As SHARED, but an unknown flag is refused with EOPNOTSUPP. */
export const MAP_SHARED_VALIDATE = 0x03;
/** Pages that the kernel may drop under pressure. */
export const MAP_DROPPABLE = 0x08;
/** The bits that hold the type. */
export const MAP_TYPE = 0x0f;
/** Place the mapping at `addr` and nowhere else; what is there is unmapped first. */
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
/** Place the mapping below 2 GiB. */
export const MAP_32BIT = 0x40;
/** The mapping grows downwards when the page below it is touched, as a stack does. */
export const MAP_GROWSDOWN = 0x0100;
export const MAP_DENYWRITE = 0x0800;
export const MAP_EXECUTABLE = 0x1000;
/** Populate the mapping and keep it in memory, as `mlock` does. */
export const MAP_LOCKED = 0x2000;
/** Do not reserve swap space: the mapping is not counted against the commit limit in overcommit modes 0 and 1. */
export const MAP_NORESERVE = 0x4000;
/** Fault all pages in at once. */
export const MAP_POPULATE = 0x8000;
export const MAP_NONBLOCK = 0x1_0000;
export const MAP_STACK = 0x2_0000;
export const MAP_HUGETLB = 0x4_0000;
export const MAP_SYNC = 0x8_0000;
/** As FIXED, but fails with EEXIST where something is mapped already. */
export const MAP_FIXED_NOREPLACE = 0x10_0000;
export const MAP_HUGE_SHIFT = 26;
export const MAP_HUGE_MASK = 0x3f;

export const MREMAP_MAYMOVE = 1;
export const MREMAP_FIXED = 2;
export const MREMAP_DONTUNMAP = 4;

export const MS_ASYNC = 1;
export const MS_INVALIDATE = 2;
export const MS_SYNC = 4;

export const MCL_CURRENT = 1;
export const MCL_FUTURE = 2;
export const MCL_ONFAULT = 4;
export const MLOCK_ONFAULT = 1;

export const MADV_NORMAL = 0;
export const MADV_RANDOM = 1;
export const MADV_SEQUENTIAL = 2;
export const MADV_WILLNEED = 3;
export const MADV_DONTNEED = 4;
export const MADV_FREE = 8;
export const MADV_REMOVE = 9;
export const MADV_DONTFORK = 10;
export const MADV_DOFORK = 11;
export const MADV_MERGEABLE = 12;
export const MADV_UNMERGEABLE = 13;
export const MADV_HUGEPAGE = 14;
export const MADV_NOHUGEPAGE = 15;
export const MADV_DONTDUMP = 16;
export const MADV_DODUMP = 17;
export const MADV_WIPEONFORK = 18;
export const MADV_KEEPONFORK = 19;
export const MADV_COLD = 20;
export const MADV_PAGEOUT = 21;
export const MADV_POPULATE_READ = 22;
export const MADV_POPULATE_WRITE = 23;
export const MADV_DONTNEED_LOCKED = 24;
export const MADV_COLLAPSE = 25;
export const MADV_HWPOISON = 100;
export const MADV_SOFT_OFFLINE = 101;
export const MADV_GUARD_INSTALL = 102;
export const MADV_GUARD_REMOVE = 103;

/** Bytes in a page. */
export const PAGE_SIZE = 4096;
export const PAGE_SHIFT = 12;
/** The first address out of a 64-bit program's reach: 128 TiB less a page. */
export const TASK_SIZE = 0x7fff_ffff_f000;
