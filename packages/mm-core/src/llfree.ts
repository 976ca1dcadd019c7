/**
 * LLFree as a page allocator: areas with bitfields below (`llfree-lower.ts`), trees that CPUs reserve above
 * (`llfree-upper.ts`).
 *
 * A tree has a kind where the buddy system gives each pageblock a migrate type. Pageblocks here are labelled with what they
 * were broken into for, so that frames come back to the per-CPU list of their like, and `/proc/pagetypeinfo` tells.
 */
import type { Pfn } from '@pagelab/hw';
import { ALLOC_NOFRAGMENT } from './alloc-flags.ts';
import { BitfieldAllocator } from './bitfield-allocator.ts';
import { AREA_FRAMES, AREA_ORDER, TREE_AREAS, TREE_FRAMES, TREE_ORDER } from './llfree-lower.ts';
import { KIND_HUGE, LlfreeUpper, kindOf } from './llfree-upper.ts';
import type { FrameRange, PageAllocatorContext, PageAllocatorFactory } from './page-allocator.ts';
import type { BlockFrames } from './set-apart.ts';

class LlfreeAllocator extends BitfieldAllocator {
  readonly name = 'llfree';

  private readonly context: PageAllocatorContext;
  /** The first tree's first frame, which may lie before the zone. */
  private readonly basePfn: Pfn;
  private readonly upper: LlfreeUpper;
  /** Flags of the allocation that goes on. */
  private allocFlags = 0;

  constructor(context: PageAllocatorContext) {
    super(context);
    this.context = context;
    this.basePfn = this.startPfn - (this.startPfn % TREE_FRAMES);
    const nrTrees = this.endPfn > this.startPfn ? Math.ceil((this.endPfn - this.basePfn) / TREE_FRAMES) : 0;
    this.upper = new LlfreeUpper(nrTrees, context.smp?.cpus.length ?? 1, (tree, from, to) => this.relabel(tree, from, to));
  }

  protected get nrFreeOrdinary(): number {
    return this.upper.nrFree;
  }

  untouched(): readonly FrameRange[] {
    return this.upper.pristine.ranges().map(([from, to]) => ({
      start: this.basePfn + from * TREE_FRAMES,
      end: this.basePfn + to * TREE_FRAMES,
    }));
  }

  protected addOrdinary(start: Pfn, end: Pfn): void {
    const to = end - this.basePfn;
    for (let frame = start - this.basePfn; frame < to; ) {
      let next = Math.min(to, (frame | (AREA_FRAMES - 1)) + 1);
      if (frame % TREE_FRAMES === 0 && to - frame >= TREE_FRAMES) {
        next = to - ((to - frame) % TREE_FRAMES);
        this.upper.addTrees(frame >>> TREE_ORDER, next >>> TREE_ORDER);
      } else {
        this.upper.addFrames(frame, next);
      }
      frame = next;
    }
  }

  protected take(order: number, migratetype: number, allocFlags: number): Pfn {
    const { upper } = this;
    this.allocFlags = allocFlags;
    const kind = kindOf(order, migratetype);
    const frame = upper.take(this.context.smp?.processorId ?? 0, kind, order, (allocFlags & ALLOC_NOFRAGMENT) === 0);
    if (frame < 0) return -1;
    const pfn = this.basePfn + frame;
    const { broken } = upper.lower;
    if (broken >= 0) {
      this.label(broken, upper.kindOfTree(frame >>> TREE_ORDER));
      upper.lower.broken = -1;
    } else if (kind === KIND_HUGE) {
      for (let area = frame >>> AREA_ORDER; area < (frame + (1 << order)) >>> AREA_ORDER; area++) this.label(area, migratetype);
    }
    return pfn;
  }

  protected takeOrdinaryAt(pfn: Pfn, order: number): boolean {
    const frame = pfn - this.basePfn;
    if (!this.upper.takeAt(frame, order)) return false;
    const { broken } = this.upper.lower;
    if (broken >= 0) this.label(broken, this.upper.kindOfTree(frame >>> TREE_ORDER));
    this.upper.lower.broken = -1;
    return true;
  }

  protected put(pfn: Pfn, order: number): void {
    const cpu = this.context.smp?.processorId ?? 0;
    const frame = pfn - this.basePfn;
    this.upper.put(cpu, frame, Math.min(order, AREA_ORDER));
    if (order > AREA_ORDER) this.upper.put(cpu, frame + AREA_FRAMES, AREA_ORDER);
  }

  protected hasOrdinary(order: number): boolean {
    return this.upper.hasFree(order);
  }

  protected forEachOrdinary(visit: (pfn: Pfn, order: number) => void): void {
    this.upper.forEachFree((frame, order) => visit(this.basePfn + frame, order));
  }

  protected countOrdinary(counts: Int32Array): void {
    this.upper.countFree(this.blockTypes.subarray(this.basePfn >>> this.pageblockOrder), this.pageblockOrder - AREA_ORDER, counts);
  }

  protected detach(start: Pfn): BlockFrames {
    return this.upper.detach(this.areaOf(start));
  }

  protected attach(start: Pfn, frames: BlockFrames): void {
    this.upper.attach(this.areaOf(start), frames);
  }

  protected freeInPart(start: Pfn): number {
    return this.upper.freeIn(this.areaOf(start));
  }

  protected typeOf(pfn: Pfn): number {
    return this.blockTypes[pfn >>> this.pageblockOrder];
  }

  protected validateOrdinary(): void {
    this.upper.validate();
  }

  private areaOf(pfn: Pfn): number {
    return (pfn - this.basePfn) >>> AREA_ORDER;
  }

  /** Says what the pageblock of an area holds. One that is not all in the zone keeps its type. */
  private label(area: number, migratetype: number): void {
    const block = (this.basePfn + area * AREA_FRAMES) >>> this.pageblockOrder;
    const first = block << this.pageblockOrder;
    if (first >= this.startPfn && first + (1 << this.pageblockOrder) <= this.endPfn) this.blockTypes[block] = migratetype;
  }

  /** A tree becomes of another kind, and with it the pageblocks that were broken into. */
  private relabel(tree: number, from: number, to: number): void {
    // Nothing is mixed where only whole pageblocks are in use.
    if (from !== KIND_HUGE) this.context.onFallback(this.allocFlags);
    const { lower } = this.upper;
    for (let area = tree * TREE_AREAS; area < (tree + 1) * TREE_AREAS; area++) {
      if (lower.sizeOf(area) === AREA_FRAMES && !lower.isWhole(area) && !lower.isHuge(area)) this.label(area, to);
    }
  }
}

/**
 * LLFree: trees of areas with bitfields, reserved by CPUs, and no lists. Allocating costs a search of some words, freeing a
 * few writes.
 */
export const llfreeAllocator: PageAllocatorFactory = {
  name: 'llfree',
  create: (context) => new LlfreeAllocator(context),
};
