/**
 * Showing other pages of a file within a shared mapping.
 */
import {
  Errno,
  MAP_FIXED,
  MAP_LOCKED,
  MAP_NONBLOCK,
  MAP_POPULATE,
  MAP_SHARED,
} from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { MmStruct } from './mm-struct.ts';
import { doMmap } from './mmap.ts';
import { fileGet, filePut } from './open-file.ts';
import { pageAlignDown } from './page-align.ts';
import { vmaLookup } from './vma-tree.ts';
import { VM_ACCESS_FLAGS, VM_LOCKED, VM_SHARED } from './vma.ts';
import type { VmArea } from './vma.ts';

/**
 * Lets the pages of [start, start + length), which lie in shared mappings of one file, show the file from page `pgoff`
 * on: as if mapped there anew, with the rights they have.
 *
 * @param newProt must be 0
 * @param flags MAP_NONBLOCK or 0; others are ignored
 * @param personality of the caller: with READ_IMPLIES_EXEC what may be read may be executed, too
 * @returns 0; -EINVAL for rights, a bad range or memory that is not shared; what `mmap` returns where that fails
 * @linux mm/mmap.c:remap_file_pages
 */
export function doRemapFilePages(
  mm: MmStruct,
  start: VirtAddr,
  length: number,
  newProt: number,
  pgoff: number,
  flags: number,
  personality = 0,
): number {
  const from = pageAlignDown(start);
  const bytes = pageAlignDown(length);
  if (newProt !== 0 || from < 0 || bytes <= 0) return -Errno.EINVAL;
  const vma = vmaLookup(mm, from);
  if (vma === undefined || (vma.flags & VM_SHARED) === 0 || vma.file === null) return -Errno.EINVAL;
  if (!continuesAlike(vma, from + bytes)) return -Errno.EINVAL;
  let mapFlags = (flags & MAP_NONBLOCK) | MAP_SHARED | MAP_FIXED | MAP_POPULATE;
  if ((vma.flags & VM_LOCKED) !== 0) mapFlags |= MAP_LOCKED;
  // The mappings that hold the file may all be replaced.
  const file = fileGet(vma.file);
  const prot = vma.flags & VM_ACCESS_FLAGS;
  const result = doMmap(mm, { file, addr: from, length: bytes, prot, flags: mapFlags, pgoff, personality });
  filePut(mm.vm, file);
  return result < 0 ? result : 0;
}

/** Whether mappings of the same file with the same flags follow `vma` without a hole up to `end`. */
function continuesAlike(vma: VmArea, end: VirtAddr): boolean {
  let last = vma;
  while (last.end < end) {
    const next = vmaLookup(vma.mm, last.end);
    if (next === undefined || next.file !== vma.file || next.flags !== vma.flags) return false;
    last = next;
  }
  return true;
}
