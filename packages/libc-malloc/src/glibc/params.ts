/**
 * glibc's parameters and counters, `struct malloc_par`: offsets in simulated memory, and their values at start.
 *
 * @linux glibc malloc/malloc.c:struct malloc_par
 */

/** 64 bits, bytes. */
export const TRIM_THRESHOLD = 0;
export const TOP_PAD = 8;
export const MMAP_THRESHOLD = 16;
export const ARENA_TEST = 24;
export const ARENA_MAX = 32;
/** 32 bits, counts. */
export const N_MMAPS = 60;
export const N_MMAPS_MAX = 64;
export const MAX_N_MMAPS = 68;
/** 32 bits: CPUs that the process may run on, which glibc asks the kernel for. */
export const CPUS = 56;
/** 32 bits: 1 once `mallopt` or a tunable fixed a threshold, which ends its moving by itself. */
export const NO_DYN_THRESHOLD = 72;
/** 64 bits, bytes. */
export const MMAPPED_MEM = 80;
export const MAX_MMAPPED_MEM = 88;
/** 64 bits: the first address that `sbrk` ever returned. */
export const SBRK_BASE = 96;
/** 64 bits each. */
export const TCACHE_BINS = 104;
export const TCACHE_MAX_BYTES = 112;
export const TCACHE_COUNT = 120;
export const TCACHE_UNSORTED_LIMIT = 128;
/** Bytes of the structure. */
export const SIZEOF_MALLOC_PAR = 136;

export const DEFAULT_TOP_PAD = 131_072;
export const DEFAULT_TRIM_THRESHOLD = 131_072;
export const DEFAULT_MMAP_THRESHOLD = 131_072;
/** As far as the threshold rises by itself: 4 MiB times the bytes of a `long`. */
export const DEFAULT_MMAP_THRESHOLD_MAX = 32 * 1024 * 1024;
export const DEFAULT_MMAP_MAX = 65_536;
export const DEFAULT_ARENA_TEST = 8;
/** The largest chunk size, with header, that goes to a fast bin unless told. */
export const DEFAULT_MXFAST = 128;
/** The largest value for M_MXFAST. */
export const MAX_FAST_SIZE = 160;
/** Bins of a thread's cache, and the largest request that the last of them serves. */
export const TCACHE_MAX_BINS = 64;
export const MAX_TCACHE_SIZE = 1032;
/** Blocks in each, unless told. */
export const TCACHE_FILL_COUNT = 7;
export const MAX_TCACHE_COUNT = 65_535;
