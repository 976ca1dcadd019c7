/**
 * Sealing mappings: once sealed they cannot be unmapped, moved, resized, replaced or given other rights, nor can what is read-only
 * in them be thrown away, until the address space goes.
 *
 * @linux mm/mseal.c
 */
import {
  Errno,
  MADV_DONTFORK,
  MADV_DONTNEED,
  MADV_DONTNEED_LOCKED,
  MADV_FREE,
  MADV_GUARD_INSTALL,
  MADV_REMOVE,
  MADV_WIPEONFORK,
} from '@pagelab/abi';
import type { VirtAddr } from '@pagelab/abi';
import type { MmStruct } from './mm-struct.ts';
import { offsetInPage, pageAlign, rangeEnd, rangeWraps } from './page-align.ts';
import { vmaModify } from './vma-merge.ts';
import { VM_SEALED, VM_WRITE } from './vma.ts';
import type { VmArea } from './vma.ts';

/**
 * Seals [start, start + length), all of which must be mapped. What is sealed already may be sealed again.
 *
 * @returns 0; −EINVAL for flags, a misaligned address or a range that wraps; −ENOMEM for a hole, with nothing sealed, or for
 *   lack of memory, with what lies before sealed
 * @linux mm/mseal.c:do_mseal
 */
export function doMseal(mm: MmStruct, start: VirtAddr, length: number, flags: number): number {
  if (flags !== 0 || offsetInPage(start) !== 0) return -Errno.EINVAL;
  const bytes = pageAlign(length);
  if (bytes === 0) return length === 0 ? 0 : -Errno.EINVAL;
  if (rangeWraps(mm.registerRange, start, bytes)) return -Errno.EINVAL;
  if (start < 0) return -Errno.ENOMEM;
  const end = rangeEnd(start, bytes);
  for (let at = start; at < end; ) {
    const vma = mm.vmas.get(at);
    if (vma === undefined) return -Errno.ENOMEM;
    at = vma.end;
  }
  for (let at = start; at < end; ) {
    let vma = mm.vmas.get(at)!;
    if ((vma.flags & VM_SEALED) === 0) {
      const sealed = vmaModify(vma, at, Math.min(vma.end, end), vma.flags | VM_SEALED);
      if (typeof sealed === 'number') return sealed;
      vma = sealed;
    }
    at = vma.end;
  }
  return 0;
}

/**
 * Whether advice may be taken about a mapping: of a sealed one that its program cannot write, what is in it and nowhere else
 * must stay.
 *
 * @linux mm/madvise.c:can_madvise_modify
 */
export function canMadviseModify(vma: VmArea, advice: number): boolean {
  if ((vma.flags & VM_SEALED) === 0 || !isDiscard(advice)) return true;
  return vma.file !== null || (vma.flags & VM_WRITE) !== 0;
}

/** Whether the advice takes contents away, here or in a child. @linux mm/madvise.c:is_discard */
function isDiscard(advice: number): boolean {
  switch (advice) {
    case MADV_FREE:
    case MADV_DONTNEED:
    case MADV_DONTNEED_LOCKED:
    case MADV_REMOVE:
    case MADV_DONTFORK:
    case MADV_WIPEONFORK:
    case MADV_GUARD_INSTALL:
      return true;
    default:
      return false;
  }
}
