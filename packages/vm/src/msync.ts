/**
 * Bringing what was stored through shared mappings to its file.
 */
import { Errno, MS_ASYNC, MS_INVALIDATE, MS_SYNC } from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { MmStruct } from './mm-struct.ts';
import { offsetInPage, pageAlign, rangeEnd, rangeWraps } from './page-align.ts';
import { VM_LOCKED } from './vma.ts';

/**
 * Checks a range and writes back what is shared in it. Shared memory has no device to write to, so nothing is left to do
 * for it.
 *
 * @param flags MS_ bits
 * @returns 0; -EINVAL for flags that are unknown or contradict each other, or a misaligned address; -ENOMEM for a hole,
 *   after the rest was done; -EBUSY for MS_INVALIDATE of locked memory
 * @linux mm/msync.c:msync
 */
export function doMsync(mm: MmStruct, start: VirtAddr, length: number, flags: number): number {
  if ((flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) !== 0) return -Errno.EINVAL;
  if (offsetInPage(start) !== 0) return -Errno.EINVAL;
  if ((flags & MS_ASYNC) !== 0 && (flags & MS_SYNC) !== 0) return -Errno.EINVAL;
  const bytes = pageAlign(length);
  if (bytes === 0) return 0;
  if (rangeWraps(start, bytes) || start < 0) return -Errno.ENOMEM;
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
    at = vma.end;
    if (at >= end) return holes;
  }
}
