/**
 * A page allocator for tests of the slab layer alone: real frames and columns, no zones. It can be told to fail.
 */
import { PAGE_SIZE, PhysicalMemory, firmwareMemoryMap } from '@pagelab/hw';
import { bugOn } from '@pagelab/lib';
import { PAGE_FLAGS_CHECK_AT_FREE, PG_HEAD, PG_TAIL, PageFrames, __GFP_COMP, __GFP_ZERO } from '@pagelab/mm-core';
import type { PageAlloc } from '@pagelab/mm-core';

/** Hands out aligned blocks from 2 MiB up; freed blocks are kept by order and not merged. */
export class FakePages {
  readonly frames: PageFrames;
  readonly ram: PhysicalMemory;
  readonly nodes: { nid: number; cpus: number[]; present: number; fallbackOrder: number[] }[];
  readonly nodeStat = new Map<number, number>();
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
  private node = 0;
  private readonly next: number[] = [];
  private readonly free = new Map<number, number[]>();

  readonly pageOffset: number;

  /** Nodes share the frames equally; CPU n is on node n. */
  constructor(bytes: number, nrNodes: number, pageOffset: number) {
    this.pageOffset = pageOffset;
    this.ram = new PhysicalMemory(firmwareMemoryMap('pc', bytes));
    this.frames = new PageFrames(this.ram.maxPfn);
    const nids = Array.from({ length: nrNodes }, (_, nid) => nid);
    this.nodes = nids.map((nid) => ({
      nid,
      cpus: [nid],
      present: Math.floor(this.ram.maxPfn / nrNodes),
      fallbackOrder: [nid, ...nids.filter((other) => other !== nid)],
    }));
    this.nodes.forEach((node) => (this.next[node.nid] = this.firstPfn(node.nid)));
  }

  private firstPfn(nid: number): number {
    return nid === 0 ? 512 : Math.ceil((nid * this.nodes[0].present) / 512) * 512;
  }

  pageAddress(pfn: number): number {
    return this.pageOffset + pfn * PAGE_SIZE;
  }

  virtToPfn(address: number): number {
    return Math.floor((address - this.pageOffset) / PAGE_SIZE);
  }

  pfnToPage(pfn: number): number {
    return -0x1600_0000_0000 + pfn * 64;
  }

  zoneOf(pfn: number): { nid: number } {
    return { nid: this.nodes.findLastIndex(({ nid }) => pfn >= this.firstPfn(nid)) };
  }

  modNodeState(pfn: number, item: number, delta: number): void {
    const at = this.zoneOf(pfn).nid * 100 + item;
    this.nodeStat.set(at, (this.nodeStat.get(at) ?? 0) + delta);
  }

  /** Pages that count as slab memory. */
  get nrSlabPages(): number {
    return [...this.nodeStat.values()].reduce((sum, pages) => sum + pages, 0);
  }

  allocPagesNode(nid: number, gfp: number, order: number): number {
    this.node = nid;
    const pfn = this.allocPages(gfp, order);
    this.node = 0;
    return pfn;
  }

  allocPages(gfp: number, order: number): number {
    this.gfpSeen.push(gfp);
    if (this.gfpSeen.length > 8) this.gfpSeen.shift();
    this.onAlloc?.();
    if (order > this.maxOrder || this.budget <= 0) return -12;
    const { node } = this;
    let pfn = this.free.get(node * 100 + order)?.pop();
    if (pfn === undefined) {
      pfn = Math.ceil(this.next[node] / 2 ** order) * 2 ** order;
      if (pfn + 2 ** order > Math.min(this.ram.maxPfn, node + 1 < this.nodes.length ? this.firstPfn(node + 1) : Infinity)) return -12;
      this.next[node] = pfn + 2 ** order;
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
    this.next[0] = pfn;
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
    const key = this.zoneOf(pfn).nid * 100 + order;
    const free = this.free.get(key);
    if (free === undefined) this.free.set(key, [pfn]);
    else free.push(pfn);
  }

  /** As the type the slab layer takes. */
  asPageAlloc(): PageAlloc {
    return this as unknown as PageAlloc;
  }
}
