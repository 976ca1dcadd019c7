/**
 * A page allocator for tests of the slab layer alone: real frames and columns, no zones. It can be told to fail.
 */
import { PhysicalMemory, firmwareMemoryMap } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { NODE_STAT, PAGE_FLAGS_CHECK_AT_FREE, PG_HEAD, PG_TAIL, PageFrames, __GFP_COMP, __GFP_ZERO } from '@pagelab/mm-core';
import type { PageAlloc } from '@pagelab/mm-core';

/** Hands out aligned blocks from 2 MiB up; freed blocks are kept by order and not merged. */
export class FakePages {
  readonly frames: PageFrames;
  readonly ram: PhysicalMemory;
  readonly nodes = [{ stat: new Int32Array(Object.keys(NODE_STAT).length) }];
  /** Blocks handed out and not given back, and their pages. */
  nrBlocks = 0;
  nrPages = 0;
  /** Allocations that still succeed; counts down. */
  budget = Infinity;
  /** Orders above this one fail. */
  maxOrder = 10;
  /** Flags of the last allocations, failed ones too. */
  readonly gfpSeen: number[] = [];
  /** Runs inside each allocation, as reclaim does. */
  onAlloc: (() => void) | undefined;
  private next = 512;
  private readonly free: number[][] = Array.from({ length: 11 }, () => []);

  constructor(bytes: number) {
    this.ram = new PhysicalMemory(firmwareMemoryMap('pc', bytes));
    this.frames = new PageFrames(this.ram.maxPfn);
  }

  allocPages(gfp: number, order: number): number {
    this.gfpSeen.push(gfp);
    if (this.gfpSeen.length > 8) this.gfpSeen.shift();
    this.onAlloc?.();
    if (order > this.maxOrder || this.budget <= 0) return -12;
    let pfn = this.free[order].pop();
    if (pfn === undefined) {
      pfn = Math.ceil(this.next / 2 ** order) * 2 ** order;
      if (pfn + 2 ** order > this.ram.maxPfn) return -12;
      this.next = pfn + 2 ** order;
    }
    this.budget--;
    this.nrBlocks++;
    this.nrPages += 2 ** order;
    const { flags, refcount, next, private: order_ } = this.frames;
    refcount[pfn] = 1;
    if (order > 0 && (gfp & __GFP_COMP) !== 0) flags[pfn] |= PG_HEAD;
    for (let page = pfn + 1; page < pfn + 2 ** order; page++) {
      flags[page] |= PG_TAIL;
      next[page] = pfn;
    }
    if (order > 0) order_[pfn + 1] = order;
    if ((gfp & __GFP_ZERO) !== 0) for (let page = pfn; page < pfn + 2 ** order; page++) this.ram.zeroFrame(page);
    return pfn;
  }

  /** Takes new blocks from `pfn` on. */
  skipTo(pfn: number): void {
    this.next = pfn;
  }

  freePages(pfn: number, order: number): void {
    const { flags, refcount, mapping, next, private: priv } = this.frames;
    bugOn(refcount[pfn] !== 1, 'fake pages: freed twice');
    bugOn((flags[pfn] & PAGE_FLAGS_CHECK_AT_FREE) !== 0 || mapping[pfn] !== 0, 'fake pages: bad page freed');
    refcount[pfn] = 0;
    flags[pfn] = 0;
    for (let page = pfn + 1; page < pfn + 2 ** order; page++) {
      bugOn(next[page] !== pfn, 'fake pages: freed with another order');
      flags[page] = 0;
      next[page] = 0;
      priv[page] = 0;
    }
    this.nrBlocks--;
    this.nrPages -= 2 ** order;
    this.free[order].push(pfn);
  }

  /** As the type the slab layer takes. */
  asPageAlloc(): PageAlloc {
    return this as unknown as PageAlloc;
  }
}
