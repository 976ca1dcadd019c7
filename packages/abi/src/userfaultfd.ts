/**
 * userfaultfd: a program that serves page faults itself.
 *
 * @linux include/uapi/linux/userfaultfd.h
 */

/** The version to ask for in UFFDIO_API. */
export const UFFD_API = 0xaa;
/** Flag of `userfaultfd`: faults of the kernel's own accesses fail. */
export const UFFD_USER_MODE_ONLY = 1;

// Requests of `ioctl`: each takes the address of a structure of that name.
/** { u64 api, features, ioctls } */
export const UFFDIO_API = 0xc018_aa3f;
/** { u64 start, len, mode, ioctls } */
export const UFFDIO_REGISTER = 0xc020_aa00;
/** { u64 start, len } */
export const UFFDIO_UNREGISTER = 0x8010_aa01;
/** { u64 start, len } */
export const UFFDIO_WAKE = 0x8010_aa02;
/** { u64 dst, src, len, mode; i64 copy } */
export const UFFDIO_COPY = 0xc028_aa03;
/** { u64 start, len, mode; i64 zeropage } */
export const UFFDIO_ZEROPAGE = 0xc020_aa04;
/** { u64 dst, src, len, mode; i64 move } */
export const UFFDIO_MOVE = 0xc028_aa05;
/** { u64 start, len, mode } */
export const UFFDIO_WRITEPROTECT = 0xc018_aa06;
/** { u64 start, len, mode; i64 mapped } */
export const UFFDIO_CONTINUE = 0xc020_aa07;
/** { u64 start, len, mode; i64 updated } */
export const UFFDIO_POISON = 0xc020_aa08;

/** Modes of UFFDIO_REGISTER: pages that are missing; stores to pages that are protected; pages that are cached and not mapped. */
export const UFFDIO_REGISTER_MODE_MISSING = 1;
export const UFFDIO_REGISTER_MODE_WP = 2;
export const UFFDIO_REGISTER_MODE_MINOR = 4;

/** Modes of those that resolve: nobody is woken; the pages are write-protected, or become so. */
export const UFFDIO_COPY_MODE_DONTWAKE = 1;
export const UFFDIO_COPY_MODE_WP = 2;
export const UFFDIO_ZEROPAGE_MODE_DONTWAKE = 1;
export const UFFDIO_WRITEPROTECT_MODE_WP = 1;
export const UFFDIO_WRITEPROTECT_MODE_DONTWAKE = 2;
export const UFFDIO_CONTINUE_MODE_DONTWAKE = 1;
export const UFFDIO_CONTINUE_MODE_WP = 2;
export const UFFDIO_POISON_MODE_DONTWAKE = 1;
export const UFFDIO_MOVE_MODE_DONTWAKE = 1;
export const UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES = 2;

// What UFFDIO_API offers and can be asked for.
export const UFFD_FEATURE_PAGEFAULT_FLAG_WP = 1 << 0;
/** Events beside faults: a fork, a move, pages given up, an unmapping. Who makes them waits until they were read. */
export const UFFD_FEATURE_EVENT_FORK = 1 << 1;
export const UFFD_FEATURE_EVENT_REMAP = 1 << 2;
export const UFFD_FEATURE_EVENT_REMOVE = 1 << 3;
export const UFFD_FEATURE_EVENT_UNMAP = 1 << 6;
export const UFFD_FEATURE_MISSING_HUGETLBFS = 1 << 4;
export const UFFD_FEATURE_MISSING_SHMEM = 1 << 5;
/** No messages: what would be one is SIGBUS. */
export const UFFD_FEATURE_SIGBUS = 1 << 7;
export const UFFD_FEATURE_THREAD_ID = 1 << 8;
export const UFFD_FEATURE_MINOR_HUGETLBFS = 1 << 9;
export const UFFD_FEATURE_MINOR_SHMEM = 1 << 10;
export const UFFD_FEATURE_EXACT_ADDRESS = 1 << 11;
/** Write protection of shared memory and of huge pages of the pool. */
export const UFFD_FEATURE_WP_HUGETLBFS_SHMEM = 1 << 12;
/** Pages that are not there yet can be protected, too. */
export const UFFD_FEATURE_WP_UNPOPULATED = 1 << 13;
export const UFFD_FEATURE_POISON = 1 << 14;
/** No messages of stores to protected pages: the kernel takes the protection off, and PAGEMAP_SCAN tells. */
export const UFFD_FEATURE_WP_ASYNC = 1 << 15;
export const UFFD_FEATURE_MOVE = 1 << 16;

/** Bytes of a message: { u8 event; … u64 flags @8, address @16; u32 thread @24 } */
export const UFFD_MSG_BYTES = 32;
export const UFFD_EVENT_PAGEFAULT = 0x12;
/** { u8 event; u32 ufd @8 } */
export const UFFD_EVENT_FORK = 0x13;
/** { u8 event; u64 from @8, to @16, len @24 } */
export const UFFD_EVENT_REMAP = 0x14;
/** { u8 event; u64 start @8, end @16 } */
export const UFFD_EVENT_REMOVE = 0x15;
export const UFFD_EVENT_UNMAP = 0x16;
export const UFFD_PAGEFAULT_FLAG_WRITE = 1;
export const UFFD_PAGEFAULT_FLAG_WP = 2;
export const UFFD_PAGEFAULT_FLAG_MINOR = 4;
