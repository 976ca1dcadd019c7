/**
 * Which pages are in memory.
 */
import { Errno, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { MmStruct } from './mm-struct.ts';
import { offsetInPage } from './page-align.ts';
import { mincorePage } from './page-walk.ts';
import { accessOk, copyToUser } from './uaccess.ts';
import { vmaLookup } from './vma-tree.ts';

/** Pages looked at before they are stored to the caller's vector. */
const CHUNK_PAGES = PAGE_SIZE;

/**
 * Tells of each page of [start, start + length) whether it is in memory: 1 or 0, without touching it.
 *
 * @returns one byte a page; -EINVAL for a misaligned address; -ENOMEM for a range that leaves the address space or a hole
 * @linux mm/mincore.c:mincore
 */
export function doMincore(mm: MmStruct, start: VirtAddr, length: number): Uint8Array | number {
  if (offsetInPage(start) !== 0) return -Errno.EINVAL;
  if (length < 0 || !accessOk(mm, start, length)) return -Errno.ENOMEM;
  const pages = new Uint8Array(Math.ceil(length / PAGE_SIZE));
  for (let done = 0; done < pages.length; ) {
    const count = residentRun(mm, start + done * PAGE_SIZE, pages, done);
    if (count < 0) return count;
    done += count;
  }
  return pages;
}

/**
 * As {@link doMincore}, with the bytes stored at `vec`. What lies before a hole has been stored by the time that is found.
 *
 * @returns 0; -EFAULT for a vector that cannot be stored to; otherwise as above
 * @linux mm/mincore.c:mincore
 */
export function mincoreToUser(mm: MmStruct, start: VirtAddr, length: number, vec: VirtAddr): number {
  if (offsetInPage(start) !== 0) return -Errno.EINVAL;
  if (length < 0 || !accessOk(mm, start, length)) return -Errno.ENOMEM;
  const nrPages = Math.ceil(length / PAGE_SIZE);
  if (!accessOk(mm, vec, nrPages)) return -Errno.EFAULT;
  for (let done = 0; done < nrPages; ) {
    const chunk = new Uint8Array(Math.min(CHUNK_PAGES, nrPages - done));
    const count = residentRun(mm, start + done * PAGE_SIZE, chunk, 0);
    if (count < 0) return count;
    if (copyToUser(mm, vec + done, chunk.subarray(0, count)) < 0) return -Errno.EFAULT;
    done += count;
  }
  return 0;
}

/**
 * Fills `pages` from `first` on with what is true of the pages from `addr` on, to the end of the mapping at most.
 *
 * @returns pages looked at, at least 1; -ENOMEM where nothing is mapped
 * @linux mm/mincore.c:do_mincore
 */
function residentRun(mm: MmStruct, addr: VirtAddr, pages: Uint8Array, first: number): number {
  const vma = vmaLookup(mm, addr);
  if (vma === undefined) return -Errno.ENOMEM;
  const count = Math.min(pages.length - first, (vma.end - addr) / PAGE_SIZE);
  for (let i = 0; i < count; i++) pages[first + i] = mincorePage(vma, addr + i * PAGE_SIZE);
  return count;
}
