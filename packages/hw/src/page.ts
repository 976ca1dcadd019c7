/**
 * Units of memory.
 *
 * A *frame* is 4 KiB of physical memory, named by its page frame number (pfn); a *page* is 4 KiB of virtual memory. A
 * *chunk* is 2 MiB of physical memory, the unit in which the host's memory is handed to the machine. A *host word* is
 * an index into the buffer that holds RAM, in units of 32 bits.
 */
import { PAGE_SHIFT, PAGE_SIZE } from '@pagelab/abi';

export { PAGE_SHIFT, PAGE_SIZE };

/** A physical address, in bytes: at most 2^46. */
export type PhysAddr = number & { readonly __unit?: 'physical address' };

/** A page frame number: a physical address divided by {@link PAGE_SIZE}. */
export type Pfn = number & { readonly __unit?: 'page frame number' };

/** Words of 32 bits in a page. */
export const PAGE_WORDS = 1024;

/** Frames in a chunk of 2 MiB. */
export const CHUNK_PAGES = 512;

/** log2 of {@link CHUNK_PAGES}. */
export const CHUNK_PAGE_SHIFT = 9;

/** Host words in a chunk. */
export const CHUNK_WORDS = CHUNK_PAGES * PAGE_WORDS;

/** Bytes in a chunk. */
export const CHUNK_BYTES = CHUNK_PAGES * PAGE_SIZE;

/**
 * Where the kernel maps all physical memory: 0xffff888000000000, sign-extended.
 *
 * @linux arch/x86/include/asm/page_64_types.h:__PAGE_OFFSET
 */
export const PAGE_OFFSET = -0x778000000000;
