/**
 * What events cost in virtual time.
 *
 * Where a figure says *measured*, it is the least of 15 rounds on Linux 6.18 (x86-64, mitigations on, a virtual machine
 * with two CPUs of about 3 GHz), by a C program that does the thing in a loop. Where it says *derived*, it is a
 * measured sum less its measured parts. The others are estimates, and their reason is given. A machine may have other
 * numbers: only their proportions matter to what it shows.
 */
export interface CostModel {
  /** A system call that does nothing: entry and return. Measured with `getppid`: 250 ns. */
  readonly syscall: number;
  /**
   * An exception: entry, finding the VMA, return; without the page that the handler gets. Derived from a first read of
   * an anonymous page, which maps the zero page: 600 ns less a walk and the entry's store.
   */
  readonly pageFault: number;
  /** Writing zeros to a page of 4 KiB in the first-level cache's reach. Measured with `memset`: 37 ns. */
  readonly zeroPage: number;
  /** Copying a page of 4 KiB. Measured with `memcpy` between 64 pages: 115 ns. */
  readonly copyPage: number;
  /**
   * A walk of four levels whose entries lie in the second-level cache: four dependent loads of 12 to 14 cycles, some 17
   * ns.
   */
  readonly pageWalk: number;
  /**
   * Loading CR3 without PCID, not counting the misses that follow: an estimate of 200 cycles, as the instruction
   * serialises.
   */
  readonly loadCr3: number;
  /** Dropping the translation of one page: an estimate of 200 cycles, as the instruction serialises. */
  readonly invlpg: number;
  /**
   * Sending an interrupt to another CPU and waiting for its answer: an estimate of 6,000 cycles on one socket. The
   * literature has 2,000 to 10,000 for a TLB shootdown there.
   */
  readonly ipi: number;
  /**
   * Switching from one task to another. Derived from a byte sent to and fro through two pipes on one CPU: 6,750 ns for
   * two switches and four system calls, which do more than nothing.
   */
  readonly contextSwitch: number;
  /**
   * Taking a page from the per-CPU list, or giving one back: an estimate of 100 cycles, its lists being in the cache.
   */
  readonly pageAlloc: number;
  /** Compressing a page of 4 KiB: an estimate for LZO, which compresses some 500 MB/s. */
  readonly compressPage: number;
  /** Decompressing one: an estimate for LZO, which gives some 1,000 MB/s. */
  readonly decompressPage: number;
  /** Delivering a signal to a handler and returning from it. Measured: 3,650 ns with the call that sends it. */
  readonly signal: number;
}

/** The cost of events, in nanoseconds, as {@link CostModel} explains them. */
export const DEFAULT_COSTS: CostModel = Object.freeze({
  syscall: 250,
  pageFault: 550,
  zeroPage: 40,
  copyPage: 115,
  pageWalk: 17,
  loadCr3: 70,
  invlpg: 70,
  ipi: 2000,
  contextSwitch: 2500,
  pageAlloc: 35,
  compressPage: 8000,
  decompressPage: 4000,
  signal: 3400,
});
