/**
 * Calls that get pages in other forms than a block of frames: by address, exactly so many, in bulk.
 *
 * @linux mm/page_alloc.c
 */
import type { VirtAddr } from '@pagelab/abi';
import { PAGE_SIZE } from '@pagelab/hw';
import type { Pfn } from '@pagelab/hw';
import { __GFP_COMP, __GFP_HIGHMEM, __GFP_ZERO } from './gfp.ts';
import { MemoryState } from './memory-state.ts';

/** What stands on the calls that do the work. */
export abstract class PageCalls extends MemoryState {
  abstract allocPages(gfp: number, order: number): Pfn;
  abstract allocPage(gfp: number): Pfn;
  abstract splitPage(pfn: Pfn, order: number): void;
  abstract freePage(pfn: Pfn): void;
  abstract freePages(pfn: Pfn, order: number): void;

  /**
   * Allocates up to `count` single frames into `out`.
   *
   * @returns how many
   * @linux mm/page_alloc.c:alloc_pages_bulk_noprof
   */
  allocPagesBulk(gfp: number, count: number, out: Int32Array): number {
    for (let i = 0; i < count; i++) {
      const pfn = this.allocPage(gfp);
      if (pfn < 0) return i;
      out[i] = pfn;
    }
    return count;
  }

  /** Allocates a block the kernel can address. @returns its address, or 0 @linux mm/page_alloc.c:get_free_pages_noprof */
  getFreePages(gfp: number, order: number): VirtAddr {
    const pfn = this.allocPages(gfp & ~__GFP_HIGHMEM, order);
    return pfn < 0 ? 0 : this.pageAddress(pfn);
  }

  /** Allocates a zeroed page the kernel can address. @returns its address, or 0 @linux mm/page_alloc.c:get_zeroed_page_noprof */
  getZeroedPage(gfp: number): VirtAddr {
    return this.getFreePages(gfp | __GFP_ZERO, 0);
  }

  /**
   * Allocates as many contiguous pages as `bytes` need; what a block of that order has more is freed at once.
   *
   * @returns their address, or 0
   * @linux mm/page_alloc.c:alloc_pages_exact_noprof
   */
  allocPagesExact(bytes: number, gfp: number): VirtAddr {
    if (!(bytes > 0)) return 0;
    const nrPages = Math.ceil(bytes / PAGE_SIZE);
    const order = Math.ceil(Math.log2(nrPages));
    const pfn = this.allocPages(gfp & ~(__GFP_COMP | __GFP_HIGHMEM), order);
    if (pfn < 0) return 0;
    this.splitPage(pfn, order);
    for (let i = nrPages; i < 1 << order; i++) this.freePage(pfn + i);
    return this.pageAddress(pfn);
  }

  /** Frees what {@link allocPagesExact} gave. @linux mm/page_alloc.c:free_pages_exact */
  freePagesExact(address: VirtAddr, bytes: number): void {
    const pfn = this.virtToPfn(address);
    for (let i = 0; i < Math.ceil(bytes / PAGE_SIZE); i++) this.freePage(pfn + i);
  }

  /** Frees a block by its address in the direct map; 0 is ignored. @linux mm/page_alloc.c:free_pages */
  freePagesAt(address: VirtAddr, order: number): void {
    if (address !== 0) this.freePages(this.virtToPfn(address), order);
  }
}
