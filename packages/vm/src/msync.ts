/**
 * Bringing what was stored through shared mappings to its file.
 */
import { Errno, MS_ASYNC, MS_INVALIDATE, MS_SYNC, PAGE_SIZE } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import { fileSync } from './filemap.ts';
import type { MmStruct } from './mm-struct.ts';
import { offsetInPage, pageAlign, rangeEnd, rangeWraps } from './page-align.ts';
import { linearPageIndex } from './rmap.ts';
import { VM_LOCKED, VM_SHARED } from './vma.ts';

/**
 * Checks a range and, with MS_SYNC, brings what is shared in it to the device of its file.
 *
 * @param flags MS_ bits
 * @returns 0; -EINVAL for flags that are unknown or contradict each other, or a misaligned address; -ENOMEM for a hole,
 *   after the rest was done; -EBUSY for MS_INVALIDATE of locked memory; -EIO
 * @linux mm/msync.c:msync
 */
export function doMsync(mm: MmStruct, start: VirtAddr, length: number, flags: number): number {
  if ((flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) !== 0) return -Errno.EINVAL;
  if (offsetInPage(start) !== 0) return -Errno.EINVAL;
  if ((flags & MS_ASYNC) !== 0 && (flags & MS_SYNC) !== 0) return -Errno.EINVAL;
  const bytes = pageAlign(length);
  if (bytes === 0) return 0;
  if (rangeWraps(mm.registerRange, start, bytes) || start < 0) return -Errno.ENOMEM;
  const end = rangeEnd(start, bytes);
  let at = start;
  let holes = 0;
  for (;;) {
    const vma = mm.vmas.find(at);
    if (vma === undefined) return -Errno.ENOMEM;
    if (at < vma.start) {
      if (flags === MS_ASYNC || vma.start >= end) return -Errno.ENOMEM;
      holes = -Errno.ENOMEM;
    }
    if ((flags & MS_INVALIDATE) !== 0 && (vma.flags & VM_LOCKED) !== 0) return -Errno.EBUSY;
    const from = Math.max(at, vma.start);
    at = vma.end;
    if ((flags & MS_SYNC) !== 0 && vma.file !== null && (vma.flags & VM_SHARED) !== 0) {
      const first = linearPageIndex(vma, from);
      const err = fileSync(vma.file, first, first + (Math.min(end, at) - from) / PAGE_SIZE - 1);
      if (err !== 0) return err;
    }
    if (at >= end) return holes;
  }
}
