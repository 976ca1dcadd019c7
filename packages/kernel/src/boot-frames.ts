import type { Pfn, PhysicalMemory } from '@pagelab/hw';
import { OWNER_KERNEL_CODE, OWNER_KERNEL_DATA } from '@pagelab/mm-core';
import type { OwnedRange } from '@pagelab/mm-core';
import { bugOn } from '@pagelab/lib';

/**
 * Frames for what the kernel keeps in its image and in early memory: its page tables and the zero page. They are part of
 * what boot reserved, so none of them comes from the page allocator.
 */
export class BootFrames {
  private readonly ram: PhysicalMemory;
  private readonly range: OwnedRange;
  private taken = 0;

  constructor(ram: PhysicalMemory, bootRanges: readonly OwnedRange[]) {
    this.ram = ram;
    const code = bootRanges.find(({ owner }) => owner === OWNER_KERNEL_CODE);
    const data = bootRanges.filter(({ owner }) => owner === OWNER_KERNEL_DATA);
    // Right behind the code lies the image's data; at its end what starts as zero.
    const image = data.find(({ start }) => start === code?.end) ?? data[0];
    bugOn(image === undefined, 'boot: no memory for the kernel');
    this.range = image!;
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
