import type { Pfn, PhysicalMemory } from '@pagelab/hw';
import { GFP_KERNEL, OWNER_KERNEL_CODE, OWNER_KERNEL_DATA, __GFP_ZERO, allocContigPages, freeContigRange } from '@pagelab/mm-core';
import type { OwnedRange, PageAlloc } from '@pagelab/mm-core';
import { bugOn } from '@pagelab/lib';

/**
 * Frames for what the kernel keeps in its image and in early memory: its page tables and the zero page. They are part of
 * what boot reserved, so none of them comes from the page allocator.
 */
export class BootFrames {
  private readonly ram: PhysicalMemory;
  private readonly range: OwnedRange;
  private taken = 0;
  private readonly pages: PageAlloc;
  private readonly lowEnd: Pfn;
  /** What of early memory is left, largest piece first. */
  private readonly early: { start: Pfn; readonly end: Pfn }[];

  /** @param lowEnd one past the last frame that the kernel has a permanent address for */
  constructor(ram: PhysicalMemory, pages: PageAlloc, lowEnd: Pfn = Infinity) {
    this.ram = ram;
    this.lowEnd = lowEnd;
    this.pages = pages;
    const { bootRanges } = pages.frames;
    const code = bootRanges.find(({ owner }) => owner === OWNER_KERNEL_CODE);
    const data = bootRanges.filter(({ owner }) => owner === OWNER_KERNEL_DATA);
    // Right behind the code lies the image's data; at its end what starts as zero.
    const image = data.find(({ start }) => start === code?.end) ?? data[0];
    bugOn(image === undefined, 'boot: no memory for the kernel');
    this.range = image!;
    this.early = data
      .filter((range) => range !== image)
      .map(({ start, end }) => ({ start, end }))
      .sort((a, b) => b.end - b.start - (a.end - a.start));
  }

  /**
   * Zeroed frames side by side: of early memory, or, where none of its pieces has as many left, of the page allocator.
   *
   * @returns the first
   */
  takeRun(nrPages: number): Pfn {
    const reserved = this.takeReserved(nrPages, this.lowEnd);
    // RAM that nobody wrote to is zero.
    return reserved >= 0 ? reserved : this.pages.virtToPfn(this.pages.allocPagesExact(nrPages * 4096, GFP_KERNEL | __GFP_ZERO));
  }

  /**
   * Zeroed frames of early memory for units that lie apart: of each the first `usedPages`. What is between them stays for others.
   *
   * @param offsets bytes from the first unit to each
   * @param unitPages pages from one unit to the next
   * @param nrUnits units there is address space for
   * @returns the first frame
   */
  takeSpaced(offsets: readonly number[], unitPages: number, usedPages: number, nrUnits: number): Pfn {
    const starts = offsets.map((offset) => offset / 4096).sort((a, b) => a - b);
    const span = (nrUnits - 1) * unitPages + usedPages;
    const piece = this.early.find(({ start, end }) => end - start >= span && start + span <= this.lowEnd);
    if (piece === undefined) return this.takeSpacedElsewhere(starts, span, usedPages);
    const first = piece.start;
    starts.forEach((start, i) => {
      const end = first + start + usedPages;
      const next = starts[i + 1];
      if (next === undefined) piece.start = end;
      else if (first + next > end) this.early.push({ start: end, end: first + next });
    });
    this.early.sort((a, b) => b.end - b.start - (a.end - a.start));
    return first;
  }

  /** The same, of the page allocator. */
  private takeSpacedElsewhere(starts: readonly Pfn[], span: number, usedPages: number): Pfn {
    const { pages, ram } = this;
    const first = allocContigPages(pages, span, GFP_KERNEL, 0);
    bugOn(first < 0, 'boot: no memory for what each CPU has');
    starts.forEach((start, i) => {
      for (let page = start; page < start + usedPages; page++) ram.zeroFrame(first + page);
      const end = start + usedPages;
      freeContigRange(pages, first + end, (starts[i + 1] ?? span) - end);
    });
    return first;
  }

  /** Frames side by side of early memory below a limit, as they are; the first, or −1 where no piece has as many left. */
  takeReserved(nrPages: number, below: Pfn): Pfn {
    const piece = this.early.find(({ start, end }) => end - start >= nrPages && start + nrPages <= below);
    if (piece === undefined) return -1;
    const first = piece.start;
    piece.start += nrPages;
    return first;
  }

  /** A zeroed frame. */
  take(): Pfn {
    this.taken += 1;
    const pfn = this.range.end - this.taken;
    bugOn(pfn < this.range.start, 'boot: no memory for the page tables of the kernel');
    this.ram.zeroFrame(pfn);
    return pfn;
  }
}
