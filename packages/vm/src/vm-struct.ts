/**
 * What an area of vmalloc is, and where a kernel has such areas.
 */
import { PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { VmapArea } from './vmap-area.ts';

// Flags of an area. @linux include/linux/vmalloc.h
/** Device memory. */
export const VM_IOREMAP = 0x1;
/** `vmalloc`: the pages are the area's own. */
export const VM_ALLOC = 0x2;
/** `vmap`: somebody else's pages. */
export const VM_MAP = 0x4;
/** May be mapped into a program. */
export const VM_USERMAP = 0x8;
/** `dma_alloc_coherent`. */
export const VM_DMA_COHERENT = 0x10;
/** No guard page behind it. */
export const VM_NO_GUARD = 0x40;
/** `vfree` puts the pages of a `vmap` too. */
export const VM_MAP_PUT_PAGES = 0x200;
/** May be shown by large pages, and made of blocks for them. */
export const VM_ALLOW_HUGE_VMAP = 0x400;

/** Where vmalloc's addresses are, and what a kernel's release decides of it. */
export interface VmallocLayout {
  readonly start: VirtAddr;
  /** One past the last byte that an area may take. */
  readonly end: VirtAddr;
  /** Bytes of `struct vm_struct`. */
  readonly vmStructBytes: number;
  /** Bytes of a large page that areas may be made of; 0 for none. @linux CONFIG_HAVE_ARCH_HUGE_VMALLOC */
  readonly hugeSize: number;
  /** Lists of areas: 1, or the CPUs there could be. */
  readonly nrNodes: number;
  /** Whether the kernel counts its own page tables of a level in NR_PAGETABLE. */
  readonly countsTables: (level: 'pgd' | 'pud' | 'pmd' | 'pte') => boolean;
}

/** That of x86-64 without KASLR: 32 TiB from 0xffffc90000000000. @linux arch/x86/include/asm/pgtable_64_types.h:VMALLOC_START */
export const VMALLOC_X86_64: VmallocLayout = {
  start: -0x3700_0000_0000,
  end: -0x3700_0000_0000 + 2 ** 45 - PAGE_SIZE,
  vmStructBytes: 72,
  hugeSize: 2 ** 21,
  nrNodes: 1,
  countsTables: () => true,
};

/** A mapped area. @linux include/linux/vmalloc.h:vm_struct */
export interface VmStruct {
  readonly area: VmapArea;
  /** Its slab object, whose second word is the address of the area. */
  readonly object: VirtAddr;
  readonly addr: VirtAddr;
  /** Bytes, guard page included. */
  readonly size: number;
  /** Bytes that were asked for. */
  readonly requested: number;
  flags: number;
  /** Its frames in order, where the area knows them; else empty. */
  pages: Int32Array;
  /** Where the kernel keeps their `struct page` pointers; 0 where it does not. */
  pagesArray: VirtAddr;
  /** Physical address of device memory; 0 for none. */
  readonly phys: number;
  /** Which function asked. */
  readonly caller: string;
}

/** What `vmallocNodeRange` is asked for, beyond a size. */
export interface VmallocRequest {
  readonly gfp?: number;
  /** Bytes, a power of two. */
  readonly align?: number;
  /** `VM_…` beyond VM_ALLOC. */
  readonly flags?: number;
  /** Where the area may lie; all of vmalloc's addresses by default. */
  readonly start?: VirtAddr;
  readonly end?: VirtAddr;
  readonly caller?: string;
}

/** Counts since boot. */
export interface VmallocStats {
  /** Purges, and areas they gave back. */
  purges: number;
  purgedAreas: number;
}
