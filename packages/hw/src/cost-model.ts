/** What an event costs in virtual time, in nanoseconds. Every number can be replaced. */
export interface CostModel {
  /** A system call that does nothing: entry and return. */
  readonly syscall: number;
  /** An exception: entry and return, without what the handler does. */
  readonly pageFault: number;
  /** Writing zeros to a page of 4 KiB. */
  readonly zeroPage: number;
  /** Copying a page of 4 KiB. */
  readonly copyPage: number;
  /** A walk of the page tables on a TLB miss, its entries in the caches. */
  readonly pageWalk: number;
  /** Loading CR3, without the misses that follow. */
  readonly loadCr3: number;
  /** Dropping the translation of one page. */
  readonly invlpg: number;
  /** Sending an interrupt to another CPU and waiting until it has answered. */
  readonly ipi: number;
  /** Switching from one task to another. */
  readonly contextSwitch: number;
  /** Taking a page from the per-CPU list, or giving one back. */
  readonly pageAlloc: number;
  /** Delivering a signal to a handler and returning from it. */
  readonly signal: number;
}

/** The cost of events on a server of about 3 GHz. */
export const DEFAULT_COSTS: CostModel = Object.freeze({
  syscall: 100,
  pageFault: 500,
  zeroPage: 60,
  copyPage: 120,
  pageWalk: 10,
  loadCr3: 70,
  invlpg: 60,
  ipi: 2000,
  contextSwitch: 1500,
  pageAlloc: 40,
  signal: 1200,
});
