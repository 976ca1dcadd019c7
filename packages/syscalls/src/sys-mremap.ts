import { Errno, MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE } from '@pagelab/abi';
import { doMremap } from '@pagelab/vm';
import { flagMask, flagTable } from './flag-table.ts';
import { foldFlags } from './registers.ts';
import type { TaskContext } from './task-context.ts';

export const MREMAP_FLAGS = flagTable('mremap', 'flags', 'bits', { MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP });

const MREMAP_MASK = flagMask(MREMAP_FLAGS);
const UNKNOWN_FLAG = 0x4000_0000;

/**
 * Grows, shrinks or moves a mapping.
 *
 * @returns the address, or -errno: EINVAL, EFAULT, ENOMEM, EAGAIN, EPERM
 * @linux mm/mremap.c:mremap
 */
export function sysMremap(
  task: TaskContext,
  addr: number,
  oldLength: number,
  newLength: number,
  flags: number,
  newAddr: number,
): number {
  const bits = foldFlags(flags, UNKNOWN_FLAG);
  return bits & ~MREMAP_MASK ? -Errno.EINVAL : doMremap(task.mm, addr, oldLength, newLength, bits, newAddr);
}
